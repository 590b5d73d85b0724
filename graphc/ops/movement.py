"""Ops that move elements without computing: index arithmetic, folded into whoever reads them.

Each states where an output element comes from, and its transpose: transposed, padded, flipped or
sliced back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.dims import Extent, product
from graphc.errors import GraphError, shortened
from graphc.lowering import Generate, Index, Piece, View
from graphc.node import Node
from graphc.op import SIZE, Leading, Linear, Op, no_derivative, register, remembering
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_shapes,
    broadcast_together,
    constant,
    describe,
    normalize_axes,
    normalize_axis,
    restate_op,
    to_shape,
)
from graphc.tensor import alias, surface
from graphc.types import Shape, TensorType, Type, as_extent, as_shape

# -- reshape ---------------------------------------------------------------------------------------


def _infer_reshape(x: Type, shape: Shape) -> Type:
    assert isinstance(x, TensorType)
    if x.size != product(shape):
        raise GraphError(
            f"cannot reshape {x} to {shape}: {x.size} elements are not {product(shape)}"
        )
    return TensorType(x.dtype, shape)


def _reshape_pieces(index: Index, types: Any, result: TensorType, shape: Shape) -> list[Piece]:
    return [Piece(0, reshape_index(index, shape, types[0].shape))]


def reshape_index(index: Index, shape: Shape, source: Shape) -> Index:
    """The index in `source` of the element at `index` in `shape`, both in C order.

    Axes are matched in groups of equal size, so that an axis that both shapes have is passed
    through and only what is really split or merged costs a division.
    """
    empty = next((i for i, extent in zip(index, shape, strict=True) if extent == 0), None)
    if empty is not None:  # no element: any index that keeps its load in the loop that never runs
        return (empty,) * len(source)
    taken: list[Extent] = []
    position = 0
    axis = 0
    while axis < len(source):
        if source[axis] == 1:
            taken.append(0)
            axis += 1
            continue
        while position < len(shape) and shape[position] == 1:
            position += 1
        from_axes, to_axes = [axis], [position]
        while product(source[a] for a in from_axes) != product(shape[p] for p in to_axes):
            if _can_grow(source, from_axes, shape, to_axes):
                from_axes.append(from_axes[-1] + 1)
            else:
                to_axes.append(to_axes[-1] + 1)
        linear: Extent = 0
        for p in to_axes:
            linear = linear * shape[p] + index[p]
        if len(from_axes) == 1:
            taken.append(linear)
        else:
            taken += _unravel(linear, [source[a] for a in from_axes])
        axis, position = from_axes[-1] + 1, to_axes[-1] + 1
    return tuple(taken)


def _can_grow(source: Shape, from_axes: list[int], shape: Shape, to_axes: list[int]) -> bool:
    """Whether the group of source axes should take in one more before the target axes do."""
    if from_axes[-1] + 1 >= len(source):
        return False
    if to_axes[-1] + 1 >= len(shape):
        return True
    mine, other = product(source[a] for a in from_axes), product(shape[p] for p in to_axes)
    if isinstance(mine, int) and isinstance(other, int):
        return mine < other
    return len(from_axes) <= len(to_axes)


def _unravel(linear: Extent, extents: Sequence[Extent]) -> list[Extent]:
    taken: list[Extent] = []
    for size in reversed(extents[1:]):
        taken.append(linear % size)
        linear = linear // size
    return [linear, *reversed(taken)]


reshape_op: Op = register(
    Op(
        "reshape",
        _infer_reshape,
        lambda x, shape: x.reshape(shape),
        View(_reshape_pieces),
        Linear(lambda cotangent, node, i: reshape_op(cotangent, shape=node.args[0].shape)),
        attributes=("shape",),
        batch=Leading(preceded=(("shape", SIZE),)),
    )
)

# -- transpose -------------------------------------------------------------------------------------


@remembering
def _infer_transpose(x: Type, axes: tuple[int, ...]) -> Type:
    assert isinstance(x, TensorType)
    if sorted(axes) != list(range(x.ndim)):
        raise GraphError(f"transpose of {x}: {axes} is not a permutation of its axes")
    return TensorType(x.dtype, tuple(x.shape[axis] for axis in axes))


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The inverse permutation."""
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i]))


def _transpose_pieces(index: Index, types: Any, result: Any, axes: tuple[int, ...]) -> list[Piece]:
    return [Piece(0, tuple(index[i] for i in inverse(axes)))]


transpose_op: Op = register(
    Op(
        "transpose",
        _infer_transpose,
        lambda x, axes: np.transpose(x, axes),
        View(_transpose_pieces),
        Linear(
            lambda cotangent, node, i: transpose_op(cotangent, axes=inverse(node.attrs["axes"]))
        ),
        attributes=("axes",),
        batch=Leading(raised=("axes",), preceded=(("axes", 0),)),
    )
)


# -- slice, pad, flip ------------------------------------------------------------------------------


def _infer_slice(x: Type, starts: Shape, extents: Shape, steps: tuple[int, ...]) -> Type:
    assert isinstance(x, TensorType)
    for size, start, length, step in zip(x.shape, starts, extents, steps, strict=True):
        known = all(isinstance(part, int) for part in (size, start, length))
        if known and length and not (start >= 0 and start + (length - 1) * step < size):  # type: ignore[operator]
            raise GraphError(
                f"slice of {x} from {starts}, extents {extents}, steps {steps} leaves it"
            )
    return TensorType(x.dtype, extents)


def _numpy_slice(x: Any, starts: Any, extents: Any, steps: Any) -> Any:
    for axis, (size, start, length, step) in enumerate(
        zip(x.shape, starts, extents, steps, strict=True)
    ):
        if length > 0 and not 0 <= start <= start + (length - 1) * step < size:
            outside = start if not 0 <= start < size else start + (length - 1) * step
            raise IndexError(f"index {outside} is out of range for axis {axis} of extent {size}")
    parts = zip(starts, extents, steps, strict=True)
    return x[tuple(slice(start, start + length * step, step) for start, length, step in parts)]


def _slice_pieces(
    index: Index, types: Any, result: Any, starts: Shape, extents: Shape, steps: tuple[int, ...]
) -> list[Piece]:
    parts = zip(index, starts, steps, strict=True)
    return [Piece(0, tuple(start + i * step for i, start, step in parts))]


def _slice_transpose(cotangent: Node, node: Node, i: int) -> Node:
    attrs, source = node.attrs, node.args[0]
    return pad_op(cotangent, starts=attrs["starts"], shape=source.shape, steps=attrs["steps"])


slice_op = register(
    Op(
        "slice",
        _infer_slice,
        _numpy_slice,
        View(_slice_pieces),
        Linear(_slice_transpose),
        attributes=("starts", "extents", "steps"),
        batch=Leading(preceded=(("starts", 0), ("extents", SIZE), ("steps", 1))),
        doc="Steps are positive; negative ones are a flip first.",
    )
)


def _infer_pad(x: Type, starts: Shape, shape: Shape, steps: tuple[int, ...]) -> Type:
    assert isinstance(x, TensorType)
    if not len(starts) == len(shape) == len(steps) == x.ndim:
        raise GraphError(f"pad of {x} to {shape}: one start, extent and step for each axis")
    return TensorType(x.dtype, shape)


def _numpy_pad(x: Any, starts: Any, shape: Any, steps: Any) -> Any:
    result = np.zeros(shape, x.dtype)
    parts = zip(starts, x.shape, steps, strict=True)
    result[tuple(slice(start, start + n * step, step) for start, n, step in parts)] = x
    return result


def _pad_pieces(
    index: Index, types: Any, result: Any, starts: Shape, shape: Shape, steps: tuple[int, ...]
) -> list[Piece]:
    taken: list[Extent] = []
    inside: list[tuple[Extent, Extent, Extent]] = []
    source = types[0].shape
    for i, start, step, size, full in zip(index, starts, steps, source, shape, strict=True):
        offset = i - start
        taken.append(offset // step)
        if start != 0 or size != full:
            inside.append((offset, 0, (size - 1) * step + 1 if step != 1 else size))
        if step != 1:
            inside.append((offset % step, 0, 1))
    return [Piece(0, tuple(taken), tuple(inside))]


def _pad_transpose(cotangent: Node, node: Node, i: int) -> Node:
    attrs = node.attrs
    return slice_op(
        cotangent, starts=attrs["starts"], extents=node.args[0].shape, steps=attrs["steps"]
    )


pad_op = register(
    Op(
        "pad",
        _infer_pad,
        _numpy_pad,
        View(_pad_pieces),
        Linear(_pad_transpose),
        attributes=("starts", "shape", "steps"),
        batch=Leading(preceded=(("starts", 0), ("shape", SIZE), ("steps", 1))),
        doc="Zeros of `shape` with the argument at `starts`, its elements `steps` apart: the "
        "transpose of slice.",
    )
)


# -- overlay ---------------------------------------------------------------------------------------


def _infer_overlay(x: Type, updates: Type, starts: Shape, steps: tuple[int, ...]) -> Type:
    assert isinstance(x, TensorType) and isinstance(updates, TensorType)
    if updates.dtype != x.dtype or not len(starts) == len(steps) == updates.ndim == x.ndim:
        raise GraphError(f"overlay of {updates} on {x}: one start and step for each axis")
    _infer_slice(x, starts, updates.shape, steps)
    return x


def _numpy_overlay(x: Any, updates: Any, starts: Any, steps: Any) -> Any:
    result = np.array(x)
    parts = zip(starts, updates.shape, steps, strict=True)
    result[tuple(slice(start, start + n * step, step) for start, n, step in parts)] = updates
    return result


def _overlay_pieces(
    index: Index, types: Any, result: Any, starts: Shape, steps: tuple[int, ...]
) -> list[Piece]:
    above = _pad_pieces(index, [types[1]], result, starts, result.shape, steps)[0]
    return [Piece(1, above.index, above.inside), Piece(0, tuple(index))]


def _overlay_transpose(cotangent: Node, node: Node, i: int) -> Node:
    attrs, updates = node.attrs, node.args[1]
    if i == 0:
        nothing = broadcast(constant(0, updates.dtype), updates.shape, ())
        return overlay_op(cotangent, nothing, **attrs)
    return slice_op(cotangent, starts=attrs["starts"], extents=updates.shape, steps=attrs["steps"])


overlay_op: Op = register(
    Op(
        "overlay",
        _infer_overlay,
        _numpy_overlay,
        View(_overlay_pieces),
        Linear(_overlay_transpose),
        attributes=("starts", "steps"),
        batch=Leading(preceded=(("starts", 0), ("steps", 1))),
        doc="The first argument with the second laid over it at `starts`, its elements `steps` "
        "apart.",
    )
)


def _flip_pieces(
    index: Index, types: Any, result: TensorType, axes: tuple[int, ...]
) -> list[Piece]:
    shape = result.shape
    return [Piece(0, tuple(shape[a] - 1 - i if a in axes else i for a, i in enumerate(index)))]


flip_op: Op = register(
    Op(
        "flip",
        lambda x, axes: x,
        lambda x, axes: np.flip(x, axes),
        View(_flip_pieces),
        Linear(lambda cotangent, node, i: flip_op(cotangent, axes=node.attrs["axes"])),
        attributes=("axes",),
        batch=Leading(raised=("axes",)),
    )
)

# -- concatenate -----------------------------------------------------------------------------------


def _infer_concatenate(*types: Type, axis: int) -> Type:
    first = types[0]
    assert isinstance(first, TensorType)
    total: Extent = 0
    for other in types:
        assert isinstance(other, TensorType)
        same = other.dtype == first.dtype and other.ndim == first.ndim
        if not same or any(
            a != b
            for i, (a, b) in enumerate(zip(other.shape, first.shape, strict=True))
            if i != axis
        ):
            raise GraphError(f"concatenate along axis {axis}: {first} and {other} do not fit")
        total = total + other.shape[axis]
    return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concatenate_pieces(index: Index, types: Any, result: Any, axis: int) -> list[Piece]:
    pieces = []
    start: Extent = 0
    for argument, type_ in enumerate(types):
        offset = index[axis] - start
        taken = (*index[:axis], offset, *index[axis + 1 :])
        pieces.append(Piece(argument, taken, ((offset, 0, type_.shape[axis]),)))
        start = start + type_.shape[axis]
    return pieces


def _concatenate_transpose(cotangent: Node, node: Node, i: int) -> Node:
    axis = node.attrs["axis"]
    start: Extent = 0
    for before in node.args[:i]:
        start = start + before.shape[axis]
    rank = cotangent.ndim
    starts = tuple(start if a == axis else 0 for a in range(rank))
    return slice_op(cotangent, starts=starts, extents=node.args[i].shape, steps=(1,) * rank)


concatenate_op = register(
    Op(
        "concatenate",
        _infer_concatenate,
        lambda *arrays, axis: np.concatenate(arrays, axis),
        View(_concatenate_pieces),
        Linear(_concatenate_transpose),
        attributes=("axis",),
        batch=Leading(raised=("axis",)),
    )
)

# -- iota ------------------------------------------------------------------------------------------


def _numpy_iota(shape: Any, axis: int, dtype: Any) -> Any:
    line = np.arange(shape[axis]).astype(dtype)
    return np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


iota_op = register(
    Op(
        "iota",
        lambda shape, axis, dtype: TensorType(dtype, shape),
        _numpy_iota,
        Generate(lambda k, index, shape, axis, dtype: k.convert(k.index(index[axis]), dtype.name)),
        no_derivative("a position does not vary"),
        attributes=("shape", "axis", "dtype"),
        doc="Each element is its own position along `axis`.",
    )
)


# -- the surface: axes and extents -----------------------------------------------------------------


def _order(order: Any, name: str) -> str:
    """C or F; a node has no order in memory, so that A and K are C."""
    if order not in ("C", "F", "A", "K"):
        raise GraphError(f"{name}: order is 'C' or 'F', got {shortened(repr(order))}")
    return "F" if order == "F" else "C"


@surface
def reshape(x: Any, shape: Any, order: str = "C") -> Node:
    """x with another shape; one extent may be -1.

    Where sizes are not known to fit, because of named extents, that is checked at entry. `order`
    "F" reads and writes with the first axis running fastest.
    """
    node = as_node(x)
    if _order(order, "reshape") == "F":
        wanted = _wanted_shape(node, shape)
        return transpose(reshape(transpose(node), tuple(reversed(wanted))))
    wanted = _wanted_shape(node, shape)
    if node.shape == wanted:
        return node
    if node.size != product(wanted):
        node = restate_op(_flat(node), shape=(product(wanted),))
    return node if node.shape == wanted else reshape_op(node, shape=wanted)


def _flat(node: Node) -> Node:
    return node if node.ndim == 1 else reshape_op(node, shape=(node.size,))


def _wanted_shape(node: Node, shape: Any) -> Shape:
    """The shape that a reshape asks for, with -1 filled in; `GraphError` if it cannot fit."""
    given = tuple(shape) if isinstance(shape, (tuple, list, np.ndarray)) else (shape,)
    open_ = [isinstance(extent_, (int, np.integer)) and extent_ == -1 for extent_ in given]
    if sum(open_) > 1:
        raise GraphError(f"reshape: only one extent may be -1, got {given}\n" + describe([node]))
    whole = node.size
    if any(open_):
        rest = product(as_extent(e) for e, free in zip(given, open_, strict=True) if not free)
        left = None if rest == 0 else whole % rest
        if rest == 0 or isinstance(left, int) and left != 0:
            raise GraphError(
                f"reshape to {given}: {whole} elements are no known multiple of {rest}\n"
                + describe([node])
            )
        pairs = zip(given, open_, strict=True)
        given = tuple(whole // rest if free else e for e, free in pairs)
    wanted = as_shape(given)
    size = product(wanted)
    if isinstance(size - whole, int) and size != whole:
        raise GraphError(
            f"reshape to {wanted}: {whole} elements are not {size}\n"
            + describe([node])
            + "\nOne extent may be -1, for what is left."
        )
    return wanted


@surface
def ravel(x: Any, order: str = "C") -> Node:
    """x as one axis."""
    return reshape(x, (-1,) if as_node(x).size != 0 else (0,), order)


@surface
def transpose(x: Any, axes: Any = None) -> Node:
    """x with its axes permuted; reversed if `axes` is None."""
    node = as_node(x)
    if axes is None:
        chosen = tuple(reversed(range(node.ndim)))
    else:
        given = axes if isinstance(axes, (tuple, list)) else (axes,)
        chosen = tuple(normalize_axis(axis, node, "transpose") for axis in given)
    if sorted(chosen) != list(range(node.ndim)):
        raise GraphError(
            f"transpose: {axes} does not name each of {node.ndim} axes once\n" + describe([node])
        )
    return node if chosen == tuple(range(node.ndim)) else transpose_op(node, axes=chosen)


@surface
def matrix_transpose(x: Any) -> Node:
    """x with its last two axes exchanged."""
    node = as_node(x)
    if node.ndim < 2:
        raise GraphError("matrix_transpose needs at least two axes\n" + describe([node]))
    return swapaxes(node, -1, -2)


@surface
def swapaxes(x: Any, axis1: int, axis2: int) -> Node:
    """x with two axes exchanged."""
    node = as_node(x)
    a, b = (normalize_axis(axis, node, "swapaxes") for axis in (axis1, axis2))
    axes = list(range(node.ndim))
    axes[a], axes[b] = b, a
    return transpose(node, axes)


@surface
def moveaxis(x: Any, source: Any, destination: Any) -> Node:
    """x with the axes `source` at the positions `destination`; the others keep their order."""
    node = as_node(x)
    ends = [
        [normalize_axis(a, node, "moveaxis") for a in (e if isinstance(e, (tuple, list)) else (e,))]
        for e in (source, destination)
    ]
    if len(ends[0]) != len(ends[1]) or any(len(set(end)) != len(end) for end in ends):
        raise GraphError(
            f"moveaxis: {source} and {destination} must name as many axes, each once\n"
            + describe([node])
        )
    order = [axis for axis in range(node.ndim) if axis not in ends[0]]
    for target, axis in sorted(zip(ends[1], ends[0], strict=True)):
        order.insert(target, axis)
    return transpose(node, order)


@surface
def rollaxis(x: Any, axis: int, start: int = 0) -> Node:
    """x with `axis` moved back until it lies before the axis that is number `start` now."""
    node = as_node(x)
    rank = node.ndim
    axis = normalize_axis(axis, node, "rollaxis")
    before = normalize_axis(start, rank + 1, "rollaxis") if start >= 0 else start + rank
    if not 0 <= before <= rank:
        raise GraphError(f"rollaxis: start {start} is out of range\n" + describe([node]))
    return moveaxis(node, axis, before - 1 if axis < before else before)


@surface
def broadcast_to(x: Any, shape: Any) -> Node:
    """x stretched to `shape` by NumPy's rule; that named extents agree is checked at entry."""
    node, wanted = as_node(x), as_shape(shape)
    fits = node.ndim <= len(wanted) and all(
        old == 1 or not isinstance(old, int) or not isinstance(new, int) or old == new
        for old, new in zip(node.shape, wanted[len(wanted) - node.ndim :], strict=True)
    )
    if not fits:
        raise GraphError(f"cannot broadcast to {wanted}\n" + describe([node]))
    return to_shape(node, wanted)


@surface
def broadcast_arrays(*arrays: Any) -> tuple[Node, ...]:
    """The arrays at their common shape."""
    nodes = [as_node(array) for array in arrays]
    return tuple(broadcast_together("broadcast_arrays", nodes)) if nodes else ()


@surface
def broadcast_shapes_(*shapes: Any) -> Shape:
    """The shape that arrays of these shapes broadcast to."""
    wanted = [as_shape(shape) for shape in shapes]
    nodes = [broadcast(constant(0), shape, ()) for shape in wanted]
    return broadcast_shapes("broadcast_shapes", nodes) if nodes else ()


@surface
def expand_dims(x: Any, axis: Any) -> Node:
    """x with axes of extent 1 inserted at `axis` (positions in the result)."""
    node = as_node(x)
    if axis is None:
        raise GraphError("expand_dims: an axis is an integer, or several, got None")
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    rank = node.ndim + count
    added = normalize_axes(axis, rank, "expand_dims")
    kept = tuple(a for a in range(rank) if a not in added)
    extents = iter(node.shape)
    shape = tuple(1 if a in added else next(extents) for a in range(rank))
    return broadcast(node, shape, kept)


@surface
def squeeze(x: Any, axis: Any = None) -> Node:
    """x without its axes of extent 1, or without those named."""
    node = as_node(x)
    ones = tuple(a for a, extent_ in enumerate(node.shape) if extent_ == 1)
    gone = ones if axis is None else normalize_axes(axis, node, "squeeze")
    if any(a not in ones for a in gone):
        raise GraphError(f"squeeze of axes {gone}: only extents of 1 can go\n" + describe([node]))
    return reshape(node, tuple(e for a, e in enumerate(node.shape) if a not in gone))


def _at_least(rank: int) -> Any:
    """Where the axes of an array go when it gets at least `rank` of them, as NumPy has it."""
    table: dict[int, dict[int, tuple[int, ...]]] = {
        1: {0: (0,)},
        2: {0: (0, 1), 1: (0,)},
        3: {0: (0, 1, 2), 1: (0, 2), 2: (2,)},
    }
    places = table[rank]

    def at_least(*arrays: Any) -> Any:
        nodes = [as_node(array) for array in arrays]
        made = [
            expand_dims(node, places[node.ndim]) if node.ndim in places else node for node in nodes
        ]
        return made[0] if len(made) == 1 else tuple(made)

    at_least.__name__ = f"atleast_{rank}d"
    at_least.__doc__ = (
        f"Each array with at least {rank} axes; a tuple if there are several."
    )
    return surface(at_least)


atleast_1d, atleast_2d, atleast_3d = _at_least(1), _at_least(2), _at_least(3)


@surface
def flip(x: Any, axis: Any = None) -> Node:
    """x with the order of elements along `axis` reversed (None: all axes)."""
    node = as_node(x)
    axes = normalize_axes(axis, node, "flip")
    return flip_op(node, axes=axes) if axes else node


def moveaxis_last(x: Node) -> Node:
    """x with its first axis last."""
    return transpose(x, (*range(1, x.ndim), 0))


alias("permute_dims", transpose)
