"""Which functions read or write at positions?  take, choose, put_along_axis, dynamic_slice.

Each is a gather or a scatter (`graphc.ops.gather`) with its axes named. What `x[key]` means is said
in `subscript`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, dim_max, dim_min, product
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.op import elementwise, no_derivative
from graphc.ops.gather import along_axis, gather_op, positions_attributes, scatter_op
from graphc.ops.movement import overlay_op, ravel, reshape, slice_op
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_together,
    cast,
    constant_op,
    describe,
    extent,
    normalize_axis,
    operands,
    to_shape,
)
from graphc.tensor import SURFACE, surface
from graphc.types import Shape, TensorType, Type, as_shape


def _around_kernel(k: Any, x: Any, size: Any) -> Any:
    some = k.gt(size, 0)
    divisor = k.select(some, size, 1)
    rest = k.remainder(x, divisor)
    return k.select(k.lt(rest, 0), k.add(rest, divisor), rest)


def _infer_around(x: Type, size: Type) -> Type:
    if x is not size or not isinstance(x, TensorType) or x.dtype != dtypes.INT64:
        raise GraphError(f"around needs two int64 arguments of equal type, got {x}, {size}")
    return x


around_op = elementwise(
    "around",
    numpy=lambda x, size: np.mod(x, np.maximum(size, 1)),
    kernel=_around_kernel,
    partials=no_derivative("a position does not vary"),
    kinds="i",
    infer=_infer_around,
    cost=8,
    doc="Positions counted around axes of so many elements, over and over; 0 where that is none.",
)


def around(positions: Node, size: Extent) -> Node:
    """Positions brought into range by counting around an axis."""
    return around_op(positions, to_shape(extent(size), positions.shape))


def clipped(positions: Node, low: Extent, high: Extent) -> Node:
    """Positions that are below `low` or above `high` moved there."""
    from graphc.ops.arithmetic import maximum_op, minimum_op

    ends = [to_shape(extent(end), positions.shape) for end in (low, high)]
    return minimum_op(maximum_op(positions, ends[0]), ends[1])


# -- what is a position ----------------------------------------------------------------------------


def as_positions(value: Any, name: str) -> Node:
    """Integer positions as int64; a list may hold nodes. `GraphError` for anything else."""
    if isinstance(value, (list, tuple)) and _holds_nodes(value):
        from graphc.ops.joining import stack

        value = stack([as_positions(item, name) for item in value])
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "iu":
        value = value.astype(np.int64)
    node = as_node(value)
    if not dtypes.is_integer(node.dtype) and node.size == 0 and node.op is constant_op:
        return cast(node, dtypes.INT64)  # an empty list is one of integers, too
    if dtypes.kind(node.dtype) == "b":
        raise GraphError(
            f"{name} with a mask would give a shape that depends on data\n"
            + describe([node])
            + "\nUse gx.where(mask, x, 0), or gx.nonzero(mask, size=...) for the first so many."
        )
    if not dtypes.is_integer(node.dtype):
        raise GraphError(
            f"{name} needs integer positions, got {node.dtype.name}\n" + describe([node])
        )
    if node.dtype is dtypes.UINT64:  # what does not fit int64 is out of range, not negative
        node = SURFACE["minimum"](node, dtypes.limits(dtypes.INT64)[1])
    return cast(node, dtypes.INT64)


def _holds_nodes(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_nodes(item) for item in value)
    return isinstance(value, (Node, Dim))


def static_mask(value: Any, name: str) -> np.ndarray | None:
    """The array of a mask that is known when the graph is built; None if it is not one of bool."""
    if isinstance(value, Node):
        if value.dtype is not dtypes.BOOL:
            return None
        if value.op is not constant_op:
            as_positions(value, name)  # says what to use instead
        return value.attrs["value"].array
    if isinstance(value, Dim) or _holds_nodes(value):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind == "b" else None


def require_known_positions(name: str, x: Node, positions: Node, axis: int) -> None:
    """Refuse constant positions that are outside an axis of known extent now, not at run time."""
    size = x.shape[axis]
    if positions.op is not constant_op or not isinstance(size, int):
        return
    array = positions.attrs["value"].array
    wrong = array[(array < -size) | (array >= size)]
    if wrong.size:
        raise GraphError(
            f"{name}: index {wrong.flat[0]} is out of range for axis {axis} of extent {size}\n"
            + describe([x])
        )


_MODES = ("raise", "wrap", "clip")


def _in_mode(positions: Node, size: Extent, mode: str, name: str) -> Node:
    """Positions as `mode` has those that are out of range: an error, around the axis, or its end.
    """
    if mode not in _MODES:
        raise GraphError(f"{name}: mode is one of {', '.join(_MODES)}, got {shortened(repr(mode))}")
    if mode == "raise" or positions.size == 0:
        return positions
    if size == 0:
        raise GraphError(f"{name}: nothing can be taken from an axis of extent 0")
    return around(positions, size) if mode == "wrap" else clipped(positions, 0, size - 1)


# -- reading ---------------------------------------------------------------------------------------


@surface
def take(x: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Node:
    """The elements of x along `axis` at `indices` (integers, any shape); of the flattened x if
    `axis` is None.

    Positions out of range are an IndexError at run time with `mode` "raise"; "wrap" counts around
    the axis, "clip" takes its first or last element.
    """
    node = as_node(x)
    if axis is None:
        node, axis = ravel(node), 0
    where = normalize_axis(axis, node, "take")
    positions = as_positions(indices, "take")
    positions = _in_mode(positions, node.shape[where], mode, "take")
    require_known_positions("take", node, positions, where)
    return gather_op(node, positions, **positions_attributes((where,), at=where))


def _lines(x: Node, positions: Node, axis: int, name: str) -> tuple[Node, Node]:
    """An array and positions for each line of it along an axis, both with extents of 1 off the axis
    stretched to the other's.
    """
    if positions.ndim != x.ndim:
        raise GraphError(f"{name}: x and indices must have one rank\n" + describe([x, positions]))
    shapes: list[list[Extent]] = [[], []]
    for a, (ours, theirs) in enumerate(zip(x.shape, positions.shape, strict=True)):
        differ = isinstance(ours, int) and isinstance(theirs, int) and ours != theirs
        if a != axis and differ and 1 not in (ours, theirs):
            raise GraphError(f"{name}: shapes differ off the axis\n" + describe([x, positions]))
        common = theirs if ours == 1 or isinstance(theirs, int) and theirs != 1 else ours
        shapes[0].append(ours if a == axis else common)
        shapes[1].append(theirs if a == axis else common)
    return to_shape(x, tuple(shapes[0])), to_shape(positions, tuple(shapes[1]))


@surface
def take_along_axis(x: Any, indices: Any, axis: int | None = -1, mode: str = "raise") -> Node:
    """x[..., indices[..., k, ...], ...]: positions for each line along `axis`, as in NumPy; in the
    flattened x if `axis` is None. `mode` as for `take`.
    """
    node, positions = as_node(x), as_positions(indices, "take_along_axis")
    if axis is None:
        node, axis = ravel(node), 0
    axis = normalize_axis(axis, node, "take_along_axis")
    node, positions = _lines(node, positions, axis, "take_along_axis")
    positions = _in_mode(positions, node.shape[axis], mode, "take_along_axis")
    require_known_positions("take_along_axis", node, positions, axis)
    moved, attrs = along_axis(positions, axis)
    return gather_op(node, moved, **attrs)


@surface
def put_along_axis(
    x: Any, indices: Any, values: Any, axis: int | None, mode: str = "raise"
) -> Node:
    """x with `values` at the positions `indices` for each line along `axis`: a new array, where
    NumPy's function changes its argument. Of values for one place the last one stays.
    """
    node, positions = as_node(x), as_positions(indices, "put_along_axis")
    if axis is None:
        return reshape(put_along_axis(ravel(node), positions, values, 0, mode), node.shape)
    axis = normalize_axis(axis, node, "put_along_axis")
    lines, positions = _lines(node, positions, axis, "put_along_axis")
    if lines is not node:
        raise GraphError(
            "put_along_axis: indices must not have more lines than x\n"
            + describe([node, positions])
        )
    positions = _in_mode(positions, node.shape[axis], mode, "put_along_axis")
    require_known_positions("put_along_axis", node, positions, axis)
    moved, attrs = along_axis(positions, axis)
    updates = fitted("put_along_axis", values, node.dtype, positions.shape)
    return scatter_op["set"](node, updates, moved, **attrs)


def fitted(name: str, values: Any, dtype: Any, shape: Shape) -> Node:
    """Values to be stored, at the dtype and shape of their places, as NumPy's assignment has it."""
    node = cast(as_node(values), dtype)
    while node.ndim > len(shape) and node.shape[0] == 1:
        node = reshape(node, node.shape[1:])
    fits = node.ndim <= len(shape) and all(
        old in (1, new) or not (isinstance(old, int) and isinstance(new, int))
        for old, new in zip(node.shape, shape[len(shape) - node.ndim :], strict=True)
    )
    if not fits:
        raise GraphError(
            f"{name}: values of shape {node.shape} do not fit places of shape {shape}\n"
            + describe([node])
        )
    return to_shape(node, shape)


@surface
def compress(condition: Any, x: Any, axis: int | None = None) -> Node:
    """The elements of x along `axis` where `condition`, an array of bool that is known when the
    graph is built, is true.
    """
    mask = static_mask(condition, "compress")
    if mask is None:
        mask = np.asarray(condition) != 0
    node = as_node(x)
    if axis is None:
        node, axis = ravel(node), 0
    if mask.ndim != 1:
        raise GraphError("compress: the condition must be of rank 1\n" + describe([node]))
    return take(node, np.flatnonzero(mask), axis)


@surface
def extract(condition: Any, x: Any) -> Node:
    """The elements of the flattened x where `condition`, known when the graph is built, is true."""
    mask = static_mask(condition, "extract")
    if mask is None:
        mask = np.asarray(condition) != 0
    return take(ravel(x), np.flatnonzero(mask), 0)


@surface
def choose(x: Any, choices: Sequence[Any], mode: str = "raise") -> Node:
    """For each element of x, a position, the element there of the array that it counts to among
    `choices`; all broadcast together. `mode` as for `take`; negative positions are out of range.
    """
    from graphc.ops.joining import stack
    from graphc.ops.special import check

    given = list(choices)
    if not given:
        raise GraphError("choose needs at least one array to choose from")
    which = _in_mode(as_positions(x, "choose"), len(given), mode, "choose")
    which, *arrays = broadcast_together("choose", [which, *operands("choose", *given)])
    if mode == "raise":
        which = check(which, which >= 0, "choose: a position must not be negative")
    pile = stack(arrays)
    batch = tuple(range(1, pile.ndim))
    return gather_op(pile, which, **positions_attributes((0,), batch))


# -- windows ---------------------------------------------------------------------------------------


def _starts(x: Node, starts: Any, sizes: Shape, mode: str, name: str) -> list[Any]:
    """A start for each axis: an extent, or a node of rank 0, inside of its range as `mode` has it.
    """
    if isinstance(starts, Node) and starts.ndim == 1:
        starts = list(starts)
    given = list(starts) if isinstance(starts, (tuple, list, np.ndarray)) else [starts]
    if len(given) != x.ndim or len(sizes) != x.ndim:
        raise GraphError(f"{name} needs a start and a size for each axis\n" + describe([x]))
    if mode not in ("clip", "raise"):
        raise GraphError(f"{name}: mode is 'clip' or 'raise', got {shortened(repr(mode))}")
    found: list[Any] = []
    for axis, (start, size, window) in enumerate(zip(given, x.shape, sizes, strict=True)):
        room = size - window
        if isinstance(room, int) and room < 0:
            raise GraphError(
                f"{name}: a window of {window} does not fit axis {axis} of extent {size}\n"
                + describe([x])
            )
        if isinstance(start, (int, np.integer, Dim)):
            at: Any = int(start) if not isinstance(start, Dim) else start
            if isinstance(at, int) and at < 0:
                at = size + at
            found.append(at if at == 0 or mode == "raise" else dim_max(dim_min(at, room), 0))
            continue
        node = as_positions(start, name)
        if node.ndim:
            raise GraphError(f"{name}: a start is of rank 0\n" + describe([x, node]))
        if mode == "clip":
            from graphc.ops.special import where

            node = clipped(where(node < 0, node + extent(size), node), 0, room)
        found.append(node)
    return found


def _windows(starts: list[Any], sizes: Shape) -> tuple[list[Node], dict[str, Any]]:
    """The positions that are data, and the attributes of their gather."""
    moving = [axis for axis, start in enumerate(starts) if isinstance(start, Node)]
    attrs = positions_attributes(tuple(moving), windows=tuple(sizes[axis] for axis in moving))
    return [starts[axis] for axis in moving], attrs


@surface
def dynamic_slice(x: Any, starts: Any, sizes: Any, mode: str = "clip") -> Node:
    """The part of x of extents `sizes` that begins at `starts`, which may be nodes.

    Negative starts count from the end. With `mode` "clip" a start is moved so that the part lies
    inside of x, as in XLA; with "raise" one that does not is an IndexError at run time.
    """
    node, extents = as_node(x), as_shape(sizes)
    begin = _starts(node, starts, extents, mode, "dynamic_slice")
    fixed = tuple(0 if isinstance(start, Node) else start for start in begin)
    whole = tuple(
        full if isinstance(start, Node) else size
        for start, full, size in zip(begin, node.shape, extents, strict=True)
    )
    if whole != node.shape:
        node = slice_op(node, starts=fixed, extents=whole, steps=(1,) * node.ndim)
    positions, attrs = _windows(begin, extents)
    return gather_op(node, *positions, **attrs) if positions else node


@surface
def dynamic_update_slice(x: Any, update: Any, starts: Any, mode: str = "clip") -> Node:
    """x with `update`, an array of its rank, at `starts`, which may be nodes; `mode` as for
    `dynamic_slice`.
    """
    node = as_node(x)
    part = cast(as_node(update), node.dtype)
    begin = _starts(node, starts, part.shape, mode, "dynamic_update_slice")
    if not any(isinstance(start, Node) for start in begin):
        return overlay_op(node, part, starts=tuple(begin), steps=(1,) * node.ndim)
    from graphc.ops.operands import constant

    every = [
        start if isinstance(start, Node) else
        constant(start) if isinstance(start, int) else extent(start)
        for start in begin
    ]  # fmt: skip
    positions, attrs = _windows(every, part.shape)
    return scatter_op["set"](node, part, *positions, **attrs)


# -- positions of what is true ---------------------------------------------------------------------


@surface
def nonzero(x: Any, *, size: Extent | None = None, fill_value: Any = None) -> tuple[Node, ...]:
    """The positions where x is not 0, in C order: an array for each axis.

    How many there are depends on data, so `size` says how many are wanted; if there are fewer the
    rest is `fill_value` (0 if it is None; one value, or one for each axis). For a constant x `size`
    may be left out.
    """
    node = as_node(x)
    if node.ndim == 0:
        raise GraphError("nonzero needs at least one axis; use gx.atleast_1d\n" + describe([node]))
    if size is None:
        if node.op is not constant_op:
            raise GraphError(
                "how many elements are not 0 depends on data: say how many are wanted\n"
                + describe([node])
                + "\nWrite size=..., and fill_value=... for what follows the last; or use gx.where."
            )
        return tuple(as_node(a) for a in np.nonzero(node.attrs["value"].array))
    (length,) = as_shape((size,))
    flat = _first_true(ravel(node) != 0, length)
    fills = list(fill_value) if isinstance(fill_value, (tuple, list)) else [fill_value] * node.ndim
    if len(fills) != node.ndim:
        raise GraphError("nonzero: one fill_value, or one for each axis\n" + describe([node]))
    return tuple(
        _where_found(flat, part, fill, node.size)
        for part, fill in zip(_unraveled(flat, node.shape), fills, strict=True)
    )


def _first_true(mask: Node, length: Extent) -> Node:
    """The first `length` positions at which a mask of rank 1 is true; its extent after the last."""
    from graphc.ops.movement import iota_op
    from graphc.ops.special import where

    size = mask.shape[0]
    line = iota_op(shape=(size,), axis=0, dtype=dtypes.INT64)
    blank = to_shape(extent(size), (length + 1,))
    if size == 0:
        return to_shape(extent(size), (length,))
    rank = SURFACE["cumsum"](mask) - 1
    target = where(mask, clipped(rank, 0, length), extent(length))
    stored = scatter_op["set"](blank, line, target, **positions_attributes((0,)))
    return slice_op(stored, starts=(0,), extents=(length,), steps=(1,))


def _unraveled(flat: Node, shape: Shape) -> list[Node]:
    """The index in C order of element number `flat`, by axis; of the last one beyond the end."""
    from graphc.ops.movement import iota_op

    if len(shape) == 1 or product(shape) == 0:
        return [flat] * len(shape)
    safe = clipped(flat, 0, product(shape) - 1)
    lines = [ravel(iota_op(shape=shape, axis=a, dtype=dtypes.INT64)) for a in range(len(shape))]
    return [gather_op(line, safe, **positions_attributes((0,))) for line in lines]


def _where_found(flat: Node, part: Node, fill: Any, size: Extent) -> Node:
    from graphc.ops.special import where

    return where(flat < extent(size), part, 0 if fill is None else fill)


@surface
def flatnonzero(x: Any, *, size: Extent | None = None, fill_value: Any = None) -> Node:
    """The positions in the flattened x where it is not 0; `size` and `fill_value` as for `nonzero`.
    """
    return nonzero(ravel(x), size=size, fill_value=fill_value)[0]


@surface
def argwhere(x: Any, *, size: Extent | None = None, fill_value: Any = None) -> Node:
    """The positions where x is not 0 as rows; `size` and `fill_value` as for `nonzero`."""
    from graphc.ops.joining import stack

    return stack(nonzero(x, size=size, fill_value=fill_value), axis=1)


@surface
def one_hot(x: Any, num_classes: Any, axis: int = -1, dtype: Any = "float64") -> Node:
    """1 at the position that each element of x names along a new axis of `num_classes`, else 0;
    nothing but 0 for one that is out of range.
    """
    from graphc.ops.movement import expand_dims, iota_op

    positions = as_positions(x, "one_hot")
    rank = positions.ndim + 1
    where = normalize_axis(axis, rank, "one_hot")
    (count,) = as_shape((num_classes,))
    shape = (*positions.shape[:where], count, *positions.shape[where:])
    line = iota_op(shape=shape, axis=where, dtype=dtypes.INT64)
    spread = broadcast(expand_dims(positions, where), shape, tuple(range(rank)))
    return cast(line == spread, dtype)
