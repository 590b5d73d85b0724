"""Which elements of a long line are the k largest?  A tournament of blocks, instead of a sort.

A line is cut into blocks, of which the largest elements are found in one pass. Whatever is among
the k largest of the line is in one of the k blocks whose largest elements come first: for any other
element there are k that come before it, those. So the winners of these blocks are the winners of
the line, and both steps are smaller lines, which are treated the same way until sorting them is
cheap. Blocks stay in the order of the line, so that of equal elements the first still comes first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import ceildiv
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import like, minimum
from graphc.ops.indexing import take_along_axis
from graphc.ops.joining import concatenate_op
from graphc.ops.movement import iota_op, reshape, slice_op, swapaxes
from graphc.ops.operands import as_node, broadcast, describe, normalize_axis
from graphc.ops.reduce import lowest, max_op
from graphc.ops.sorting import sort_op
from graphc.ops.special import project, where_op
from graphc.tensor import surface

# Lines that are shorter are sorted, and so are those of which a larger part is wanted.
LEAST_LINE = 256
LEAST_SHARE = 16
# Blocks have a power of two of elements, of which this is the least.
LEAST_BLOCK = 8


@surface
def topk(x: Any, k: int, axis: int = -1) -> tuple[Node, Node]:
    """The k largest elements along `axis`, largest first, and their positions (int64).

    Of equal elements the first comes first; NaN is larger than every number.
    """
    node = as_node(x)
    where = normalize_axis(axis, node, "topk")
    size = node.shape[where]
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 0:
        raise GraphError(f"topk: k is a number of elements, got {k!r}")
    if isinstance(size, int) and k > size:
        raise GraphError(
            f"topk: {k} elements wanted of an axis of extent {size}\n" + describe([node])
        )
    lines = swapaxes(node, where, -1)
    if _is_long(lines, int(k)):
        positions = positions_of_largest(lines, int(k))
        found = [take_along_axis(lines, positions, -1), positions]
    else:
        both = sort_op(lines, descending=True)
        found = [_first(project(both, i), int(k)) for i in (0, 1)]
    values, places = (swapaxes(each, where, -1) for each in found)
    return values, places


def _is_long(lines: Node, k: int) -> bool:
    """Whether few elements of long lines are wanted."""
    size = lines.shape[-1]
    if not isinstance(size, int) or k == 0 or dtypes.kind(lines.dtype) == "b":
        return False
    return size >= max(LEAST_LINE, LEAST_SHARE * k)


def positions_of_largest(lines: Node, k: int) -> Node:
    """The positions (int64) of the k largest elements along the last axis, the largest first."""
    if not _is_long(lines, k):
        return _first(project(sort_op(lines, descending=True), 1), k)
    size = lines.shape[-1]
    assert isinstance(size, int)
    length = max(LEAST_BLOCK, 1 << round(math.log2(size / k) / 2))
    best = positions_of_largest(_largest_of_blocks(lines, length), k)
    blocks = project(sort_op(best, descending=False), 0)
    places = _elements_of(blocks, length)
    last = like(places, size - 1)
    candidates = take_along_axis(lines, minimum(places, last), -1)
    if size % length:
        nothing = like(candidates, lowest("max", lines.dtype).item())
        candidates = where_op(places <= last, candidates, nothing)
    return take_along_axis(places, positions_of_largest(candidates, k), -1)


def _largest_of_blocks(lines: Node, length: int) -> Node:
    """The largest element of each block of so many elements; the last block may be shorter."""
    *lead, size = lines.shape
    assert isinstance(size, int)
    whole = size // length
    blocks = reshape(_first(lines, whole * length), (*lead, whole, length))
    found = max_op(blocks, axes=(blocks.ndim - 1,))
    if whole == ceildiv(size, length):
        return found
    start = (0,) * len(lead)
    shape = (*lead, size - whole * length)
    rest = slice_op(
        lines, starts=(*start, whole * length), extents=shape, steps=(1,) * lines.ndim
    )
    largest = reshape(max_op(rest, axes=(rest.ndim - 1,)), (*lead, 1))
    return concatenate_op(found, largest, axis=found.ndim - 1)


def _elements_of(blocks: Node, length: int) -> Node:
    """The positions in a line of all elements of blocks, which are given by number."""
    shape = (*blocks.shape, length)
    first = broadcast(blocks * length, shape, tuple(range(blocks.ndim)))
    inside = iota_op(shape=shape, axis=blocks.ndim, dtype=dtypes.INT64)
    return reshape(first + inside, (*blocks.shape[:-1], blocks.shape[-1] * length))


def _first(lines: Node, count: int) -> Node:
    """The first elements of each line."""
    shape = (*lines.shape[:-1], count)
    return slice_op(lines, starts=(0,) * lines.ndim, extents=shape, steps=(1,) * lines.ndim)
