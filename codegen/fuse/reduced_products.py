"""Which products are reduced where they are made?  Those of short rows.

Squared lengths of many small vectors, or the largest of a few scores of each point: the rows of
such a product need not be in memory, or not be read again. Each lane of a vector has a row for
itself, whose elements are sums in registers; so no vector is filled up where a row has an odd
length, and what the rows are reduced to lies side by side. What the rows are computed from may be
computed on the way, for each of its elements is needed once; the other factor is the same for all
lanes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from graphc import dtypes
from graphc.codegen.fuse.cost import own_cost
from graphc.codegen.fuse.reading import result_shape
from graphc.codegen.loops import WIDEST_BYTES
from graphc.codegen.tactics import Tactics
from graphc.dims import product
from graphc.lowering import Contract, Elementwise, Reduce, View
from graphc.node import Node
from graphc.ops.contract import free_axes
from graphc.types import TupleType

# Bytes that the terms of a row may have: a block of rows is turned in the first level of cache; and
# the multiplications of a row, beyond which tiles are as fast.
MOST_BYTES, MOST_MULTIPLICATIONS = 256, 1024
# The least rows that are worth lanes.
LEAST_ROWS = 64
# How much larger than what they are made of rows are that repeat, and nodes looked at to tell.
LEAST_REPEATS, MOST_NODES = 4, 16
# Work, in additions, that may be done with all elements of a row: it is written once for each.
MOST_WORK = 1024


def lanes_of(node: Node, axes: Sequence[int], tactics: Tactics) -> int | None:
    """Which argument of a product has the rows that lanes go over, if `axes` of the result are
    reduced: 0 or 1; None if the product is made in tiles.
    """
    if not isinstance(node.op.lowering, Contract) or not dtypes.is_float(node.dtype):
        return None
    sizes = [product(node.args[0].shape[axis] for axis in node.attrs["contracted"][0])]
    batch, *free = result_axes(node)
    if tuple(axes) not in free or dtypes.is_half(node.dtype):
        return None
    lanes = 1 - free.index(tuple(axes))
    sizes.append(product(node.shape[axis] for axis in axes))
    if not all(isinstance(size, int) for size in sizes):
        return None
    depth, columns = sizes
    rows = product(node.shape[axis] for axis in free[lanes])
    if isinstance(rows, int) and rows < LEAST_ROWS:
        return None
    if not 2 <= columns <= tactics.reduced_columns or depth * columns > MOST_MULTIPLICATIONS:  # type: ignore[operator]
        return None
    return lanes if 0 < depth * node.dtype.itemsize <= MOST_BYTES else None  # type: ignore[operator]


def result_axes(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The axes of a product that are those of the batch, of the first argument, of the second."""
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    first = len(batch[0])
    second = first + len(free_axes(node.args[0].ndim, batch[0], contracted[0]))
    return tuple(range(first)), tuple(range(first, second)), tuple(range(second, node.ndim))


def pays(
    node: Node, axes: Sequence[int], users: Mapping[Node, Sequence[Node]], outputs: Collection[Node]
) -> bool:
    """Whether it pays to reduce the rows of a product in lanes: what is made of it element by
    element is little enough to be written once for each element of a row; and if elements are
    stored as well, either tiles would do much work in vain, in vectors that a row does not fill, or
    the rows repeat from product to product.
    """
    stack, seen, work = [node], {node}, 0
    stored = False
    while stack:
        current = stack.pop()
        readers = users.get(current, ())
        stored = stored or current in outputs
        for user in readers:
            if not _is_full(user, node):
                reduces = isinstance(user.op.lowering, Reduce) and user.attrs["axes"] == axes
                stored = stored or not reduces
            elif user not in seen:
                seen.add(user)
                stack.append(user)
                work += own_cost(user)
    columns = product(node.shape[axis] for axis in axes)
    assert isinstance(columns, int)
    vector = WIDEST_BYTES // node.dtype.itemsize
    filled = 10 * -(-columns // vector) * vector < 11 * columns
    dear = stored and filled and not _repeats(node, axes)
    return work * columns <= MOST_WORK and not dear


def _repeats(node: Node, axes: Sequence[int]) -> bool:
    """Whether the rows of a product are made of arrays that are small beside them: the same for
    several products of a batch.
    """
    rows = node.args[1 - result_axes(node)[1:].index(tuple(axes))]
    stack, seen, given = [rows], {rows}, 0
    while stack and len(seen) <= MOST_NODES:
        current = stack.pop()
        if isinstance(current.op.lowering, (Elementwise, View)):
            fresh = [argument for argument in current.args if argument not in seen]
            seen.update(fresh)
            stack += fresh
        else:
            size = product(result_shape(current))
            if not isinstance(size, int):
                return False
            given += size
    made = product(rows.shape)
    return not stack and isinstance(made, int) and made >= LEAST_REPEATS * given


def _is_full(user: Node, node: Node) -> bool:
    """Whether a reader makes one value of each element of a product."""
    alone = isinstance(user.op.lowering, Elementwise) and not isinstance(user.type, TupleType)
    return alone and result_shape(user) == node.shape
