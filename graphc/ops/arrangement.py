"""How are elements moved around within an array, or repeated?  roll, rot90, tile, repeat, resize.

All are composed of slices, flips, broadcasts and reshapes, so a kernel that reads them reads the
array itself; only a shift that is data is looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, ceildiv, dim_max, product
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.gather import gather_op, positions_attributes
from graphc.ops.indexing import around, as_positions, take
from graphc.ops.joining import concatenate, piece
from graphc.ops.movement import expand_dims, flip, ravel, reshape, transpose
from graphc.ops.operands import as_node, broadcast, describe, normalize_axis
from graphc.tensor import surface
from graphc.types import as_shape


@surface
def fliplr(m: Any) -> Node:
    """m with its second axis reversed."""
    return _flip_axis(m, 1, "fliplr")


@surface
def flipud(m: Any) -> Node:
    """m with its first axis reversed."""
    return _flip_axis(m, 0, "flipud")


def _flip_axis(m: Any, axis: int, name: str) -> Node:
    node = as_node(m)
    if node.ndim <= axis:
        raise GraphError(f"{name} needs at least {axis + 1} axes\n" + describe([node]))
    return flip(node, axis)


@surface
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Node:
    """m turned by k quarters in the plane of two axes, from the first towards the second."""
    node = as_node(m)
    pair = [normalize_axis(axis, node, "rot90") for axis in axes]
    if len(pair) != 2 or pair[0] == pair[1]:
        raise GraphError(f"rot90 needs two different axes, got {axes}\n" + describe([node]))
    if not isinstance(k, (int, np.integer)):
        raise GraphError(f"rot90: k is an integer, got {shortened(repr(k))}\n" + describe([node]))
    order = list(range(node.ndim))
    order[pair[0]], order[pair[1]] = order[pair[1]], order[pair[0]]
    turns = int(k) % 4
    if turns == 0:
        return node
    if turns == 2:
        return flip(node, tuple(pair))
    if turns == 1:
        return transpose(flip(node, pair[1]), order)
    return flip(transpose(node, order), pair[1])


@surface
def roll(x: Any, shift: Any, axis: Any = None) -> Node:
    """x with its elements moved by `shift` along `axis`, those that leave coming back at the other
    end; the flattened x if `axis` is None.

    A shift is an int, an extent, or an integer node of rank 0; with several axes there is one shift
    for all, or one for each.
    """
    node = as_node(x)
    if axis is None:
        return reshape(roll(ravel(node), shift, 0), node.shape)
    axes = list(axis) if isinstance(axis, (tuple, list)) else [axis]
    shifts = list(shift) if isinstance(shift, (tuple, list, np.ndarray)) else [shift]
    if len(axes) != len(shifts) and 1 not in (len(axes), len(shifts)):
        raise GraphError(
            f"roll: {len(shifts)} shifts do not fit {len(axes)} axes\n" + describe([node])
        )
    count = max(len(axes), len(shifts))
    for by, along in zip(shifts * (count // len(shifts)), axes * (count // len(axes)), strict=True):
        node = _roll_axis(node, by, normalize_axis(along, node, "roll"))
    return node


def _roll_axis(node: Node, shift: Any, axis: int) -> Node:
    size = node.shape[axis]
    if size == 0:
        return node
    if isinstance(shift, Node):
        return _roll_by_data(node, shift, axis)
    if isinstance(shift, (float, np.floating)):
        raise GraphError(f"roll: a shift is an integer, got {shift!r}\n" + describe([node]))
    moved = int(shift) if isinstance(shift, (int, np.integer)) else shift
    by = moved % dim_max(size, 1)  # a named dimension may be 0
    if by == 0:
        return node
    end = piece(node, axis, size - by, by)
    return concatenate((end, piece(node, axis, 0, size - by)), axis)


def _roll_by_data(node: Node, shift: Node, axis: int) -> Node:
    """A window of the array after itself."""
    by = as_positions(shift, "roll")
    if by.ndim:
        raise GraphError("roll: a shift is of rank 0\n" + describe([node, shift]))
    size = node.shape[axis]
    twice = concatenate((node, node), axis)
    start = around(-by, size)
    windows: tuple[Extent, ...] = (size,)
    return gather_op(twice, start, **positions_attributes((axis,), windows=windows))


@surface
def tile(x: Any, reps: Any) -> Node:
    """x repeated `reps` times along each axis."""
    node = as_node(x)
    counts = as_shape(reps)
    shape = (1,) * (len(counts) - node.ndim) + node.shape
    counts = (1,) * (len(shape) - len(counts)) + counts
    if all(count == 1 for count in counts):
        return reshape(node, shape)
    pairs = list(zip(counts, shape, strict=True))
    apart = reshape(node, tuple(e for _, size in pairs for e in (1, size)))
    wide = broadcast(apart, tuple(e for pair in pairs for e in pair), tuple(range(apart.ndim)))
    return reshape(wide, tuple(count * size for count, size in pairs))


@surface
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Node:
    """x with each element repeated along `axis`, of the flattened x if it is None.

    `repeats` is an int, an extent, or one int for each element: how often decides the shape, so a
    node cannot say it.
    """
    node = as_node(x)
    if axis is None:
        node, axis = ravel(node), 0
    axis = normalize_axis(axis, node, "repeat")
    if isinstance(repeats, Node):
        raise GraphError(
            "repeat: how often must be known when the graph is built, as the shape depends on it\n"
            + describe([node, repeats])
        )
    counts = np.asarray(repeats) if isinstance(repeats, (tuple, list, np.ndarray)) else repeats
    if isinstance(counts, np.ndarray) and counts.size == 1 and node.shape[axis] != 1:
        counts = counts.reshape(-1)[0]
    if isinstance(counts, np.ndarray) and counts.ndim:
        return _repeat_each(node, counts, axis)
    (count,) = as_shape((counts if not isinstance(counts, np.ndarray) else int(counts),))
    apart = expand_dims(node, axis + 1)
    shape = (*apart.shape[: axis + 1], count, *apart.shape[axis + 2 :])
    wide = broadcast(apart, shape, tuple(range(apart.ndim)))
    return reshape(wide, (*node.shape[:axis], node.shape[axis] * count, *node.shape[axis + 1 :]))


def _repeat_each(node: Node, counts: np.ndarray, axis: int) -> Node:
    size = node.shape[axis]
    if counts.dtype.kind not in "iu" or counts.ndim != 1 or (counts < 0).any():
        raise GraphError(
            f"repeat: counts are integers that are not negative, one for each element, got "
            f"{shortened(repr(counts))}\n" + describe([node])
        )
    if size != counts.size:
        raise GraphError(
            f"repeat: {counts.size} counts for axis {axis} of extent {size}\n" + describe([node])
        )
    return take(node, np.repeat(np.arange(counts.size, dtype=dtypes.INT64), counts), axis)


@surface
def resize(x: Any, new_shape: Any) -> Node:
    """The elements of x in C order, over again as often as it takes to fill `new_shape`."""
    node, shape = as_node(x), as_shape(new_shape)
    flat, wanted = ravel(node), product(shape)
    if flat.size == 0 or wanted == 0:
        return broadcast(as_node(np.zeros((), node.dtype)), shape, ())
    times = ceildiv(wanted, flat.size)
    return reshape(piece(tile(flat, times), 0, 0, wanted), shape)
