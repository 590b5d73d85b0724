"""Ops that move elements without computing: index arithmetic, folded into whoever reads them.

Each states where an output element comes from, and its transpose: transposed, padded, flipped or
sliced back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.dims import Dim, Extent, ceildiv, dim_max, dim_min, product
from graphc.errors import GraphError, shortened
from graphc.lowering import Generate, Index, Piece, View
from graphc.node import Node
from graphc.op import Linear, Op, no_derivative, register
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_op,
    cast,
    common_dtype,
    constant,
    describe,
    extent,
    normalize_axes,
    normalize_axis,
    to_shape,
)
from graphc.tensor import surface
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
    )
)

# -- transpose -------------------------------------------------------------------------------------


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
        doc="Zeros of `shape` with the argument at `starts`, its elements `steps` apart: the "
        "transpose of slice.",
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


# -- the surface -----------------------------------------------------------------------------------


@surface
def reshape(x: Any, shape: Any) -> Node:
    """x with another shape, in C order; one extent may be -1."""
    node = as_node(x)
    given = tuple(shape) if isinstance(shape, (tuple, list, np.ndarray)) else (shape,)
    open_ = [isinstance(extent_, (int, np.integer)) and extent_ == -1 for extent_ in given]
    if sum(open_) > 1:
        raise GraphError(f"reshape: only one extent may be -1, got {given}\n" + describe([node]))
    if any(open_):
        rest = product(as_extent(e) for e, free in zip(given, open_, strict=True) if not free)
        whole = node.size
        if rest == 0 or whole % rest != 0:
            raise GraphError(
                f"reshape to {given}: {whole} elements are no known multiple of {rest}\n"
                + describe([node])
            )
        pairs = zip(given, open_, strict=True)
        given = tuple(whole // rest if free else e for e, free in pairs)
    wanted = as_shape(given)
    if node.size != product(wanted):
        raise GraphError(
            f"reshape to {wanted}: {node.size} elements are not {product(wanted)}\n"
            + describe([node])
            + "\nOne extent may be -1, for what is left."
        )
    return node if node.shape == wanted else reshape_op(node, shape=wanted)


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
def swapaxes(x: Any, axis1: int, axis2: int) -> Node:
    """x with two axes exchanged."""
    node = as_node(x)
    a, b = (normalize_axis(axis, node, "swapaxes") for axis in (axis1, axis2))
    axes = list(range(node.ndim))
    axes[a], axes[b] = b, a
    return transpose(node, axes)


@surface
def broadcast_to(x: Any, shape: Any) -> Node:
    """x stretched to `shape` by NumPy's rule."""
    node, wanted = as_node(x), as_shape(shape)
    fits = node.ndim <= len(wanted) and all(
        old == new or old == 1
        for old, new in zip(node.shape, wanted[len(wanted) - node.ndim :], strict=True)
    )
    if not fits:
        raise GraphError(f"cannot broadcast to {wanted}\n" + describe([node]))
    return to_shape(node, wanted)


@surface
def expand_dims(x: Any, axis: Any) -> Node:
    """x with axes of extent 1 inserted at `axis` (positions in the result)."""
    node = as_node(x)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    rank = node.ndim + count
    added = normalize_axes(axis, rank, "expand_dims")
    kept = tuple(a for a in range(rank) if a not in added)
    extents = iter(node.shape)
    shape = tuple(1 if a in added else next(extents) for a in range(rank))
    return broadcast_op(node, shape=shape, axes=kept)


@surface
def squeeze(x: Any, axis: Any = None) -> Node:
    """x without its axes of extent 1, or without those named."""
    node = as_node(x)
    ones = tuple(a for a, extent_ in enumerate(node.shape) if extent_ == 1)
    gone = ones if axis is None else normalize_axes(axis, node, "squeeze")
    if any(a not in ones for a in gone):
        raise GraphError(f"squeeze of axes {gone}: only extents of 1 can go\n" + describe([node]))
    return reshape(node, tuple(e for a, e in enumerate(node.shape) if a not in gone))


@surface
def flip(x: Any, axis: Any = None) -> Node:
    """x with the order of elements along `axis` reversed (None: all axes)."""
    node = as_node(x)
    axes = normalize_axes(axis, node, "flip")
    return flip_op(node, axes=axes) if axes else node


@surface
def concatenate(arrays: Sequence[Any], axis: int = 0) -> Node:
    """The arrays one after the other along `axis`."""
    _require_arrays("concatenate", arrays)
    dtype = common_dtype("concatenate", arrays)
    nodes = [cast(as_node(array), dtype) for array in arrays]
    if nodes[0].ndim == 0:
        raise GraphError(
            "concatenate needs arrays of at least one axis; use gx.stack\n" + describe(nodes)
        )
    where = normalize_axis(axis, nodes[0], "concatenate")
    for other in nodes[1:]:
        if _without(other.shape, where) != _without(nodes[0].shape, where) or (
            other.ndim != nodes[0].ndim
        ):
            raise GraphError(
                f"concatenate along axis {where}: the shapes must agree on all other axes\n"
                + describe([nodes[0], other])
            )
    return nodes[0] if len(nodes) == 1 else concatenate_op(*nodes, axis=where)


@surface
def stack(arrays: Sequence[Any], axis: int = 0) -> Node:
    """The arrays along a new axis."""
    if not isinstance(arrays, Node):
        _require_arrays("stack", arrays)
    nodes = [as_node(array) for array in arrays]
    for other in nodes[1:]:
        if other.shape != nodes[0].shape:
            raise GraphError("stack: the shapes must be equal\n" + describe([nodes[0], other]))
    return concatenate([expand_dims(node, axis) for node in nodes], axis)


def _require_arrays(name: str, arrays: Any) -> None:
    if not isinstance(arrays, (tuple, list, np.ndarray)) or len(arrays) == 0:
        got = type(arrays).__name__ if isinstance(arrays, Node) else shortened(repr(arrays))
        raise GraphError(f"{name} needs a tuple or list of at least one array, got {got}")


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


@surface
def iota(shape: Any, axis: int = 0, dtype: Any = "int64") -> Node:
    """Each element is its own position along `axis`."""
    from graphc import dtypes

    extents = as_shape(shape)
    where = normalize_axis(axis, len(extents), "iota")
    return iota_op(shape=extents, axis=where, dtype=dtypes.as_dtype(dtype))


@surface
def arange(stop: Any, dtype: Any = "int64") -> Node:
    """0, 1, ... up to `stop` (an int or an extent), exclusive."""
    return iota((stop,), 0, dtype)


@surface
def full(shape: Any, value: Any, dtype: Any = None) -> Node:
    """`value` (rank 0) at `shape`."""
    node = (
        as_node(value)
        if dtype is None
        else cast(constant(value) if not isinstance(value, Dim) else extent(value), dtype)
    )
    if node.ndim:
        raise GraphError(
            "full needs a value of rank 0; use gx.broadcast_to for an array\n" + describe([node])
        )
    return broadcast(node, as_shape(shape), ())


@surface
def zeros(shape: Any, dtype: Any = "float64") -> Node:
    """Zeros."""
    return full(shape, 0, dtype)


@surface
def ones(shape: Any, dtype: Any = "float64") -> Node:
    """Ones."""
    return full(shape, 1, dtype)


@surface
def pad(x: Any, width: Sequence[tuple[int, int]]) -> Node:
    """x with zeros before and after each axis: a pair of counts for each."""
    node = as_node(x)
    pairs = width if isinstance(width, (tuple, list)) else ()
    if len(pairs) != node.ndim or any(not _is_pair(pair) for pair in pairs):
        raise GraphError(
            f"pad needs a (before, after) pair for each of {node.ndim} axes, got {width}\n"
            + describe([node])
        )
    if any(isinstance(count, int) and count < 0 for pair in pairs for count in pair):
        raise GraphError(
            f"pad: widths must not be negative, got {width}; slice instead\n" + describe([node])
        )
    starts = tuple(as_extent(before) for before, _ in width)
    shape = tuple(
        before + size + as_extent(after)
        for size, before, (_, after) in zip(node.shape, starts, width, strict=True)
    )
    return pad_op(node, starts=starts, shape=shape, steps=(1,) * node.ndim)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


@surface
def getitem(x: Any, key: Any) -> Node:
    """x[key]: integers, slices, None, an ellipsis, and at most one integer array."""
    from graphc.ops.indexing import take

    node = as_node(x)
    parts = _expand_ellipsis(key if isinstance(key, tuple) else (key,), node)
    starts: list[Extent] = []
    extents: list[Extent] = []
    steps: list[int] = []
    flipped: list[int] = []
    result: list[str] = []  # what becomes of each axis, with "new" for None
    arrays: list[tuple[int, Any]] = []
    axis = 0
    for part in parts:
        if part is None:
            result.append("new")
            continue
        size = node.shape[axis]
        start, length, step = _part(part, size, axis, node)
        starts.append(start)
        extents.append(length)
        steps.append(abs(step))
        if step < 0:
            flipped.append(axis)
        if isinstance(part, slice):
            result.append("keep")
        elif isinstance(part, (int, np.integer)):
            result.append("drop")
        else:
            arrays.append((axis, part))
            result.append("keep")
        axis += 1
    if len(arrays) > 1:
        raise GraphError(
            "indexing with more than one integer array is not supported: use gx.take\n"
            + describe([node])
        )
    plain = tuple(extents) == node.shape and not any(flipped) and all(step == 1 for step in steps)
    taken = node
    if not plain:
        taken = slice_op(node, starts=tuple(starts), extents=tuple(extents), steps=tuple(steps))
    if flipped:
        taken = flip_op(taken, axes=tuple(flipped))
    for where, indices in arrays:
        taken = take(taken, indices, axis=where)
    return _drop_and_insert(taken, result, arrays)


def _drop_and_insert(taken: Node, result: list[str], arrays: list[tuple[int, Any]]) -> Node:
    """Remove the axes that an integer indexed and insert those that None asked for."""
    if all(part == "keep" for part in result):
        return taken
    ranks = {axis: as_node(indices).ndim for axis, indices in arrays}
    shape: list[Extent] = []
    axis = position = 0
    for part in result:
        if part == "new":
            shape.append(1)
            continue
        count = ranks.get(axis, 1)
        if part == "keep":
            shape += taken.shape[position : position + count]
        position += count
        axis += 1
    return reshape(taken, tuple(shape))


def _expand_ellipsis(parts: tuple[Any, ...], node: Node) -> list[Any]:
    used = sum(1 for part in parts if part is not None and part is not Ellipsis)
    if used > node.ndim or sum(1 for part in parts if part is Ellipsis) > 1:
        raise GraphError(f"too many indices for rank {node.ndim}\n" + describe([node]))
    fill = [slice(None)] * (node.ndim - used)
    if not any(part is Ellipsis for part in parts):
        return [*parts, *fill]
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return [*parts[:at], *fill, *parts[at + 1 :]]


def _part(part: Any, size: Extent, axis: int, node: Node) -> tuple[Extent, Extent, int]:
    """Start, length and step along one axis; a negative step is taken after a flip."""
    if isinstance(part, slice):
        return _slice_part(_checked_slice(part, node), size, node)
    if isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_)):
        position = int(part)
        if isinstance(size, int) and not -size <= position < size:
            raise GraphError(
                f"index {position} is out of range for axis {axis} of extent {size}\n"
                + describe([node])
            )
        return (position if position >= 0 else size + position), 1, 1
    if isinstance(part, (Node, np.ndarray, list)):
        return 0, size, 1
    raise GraphError(
        f"cannot index axis {axis} with {shortened(repr(part))}\n"
        + describe([node])
        + "\nIndices are integers, slices, None, ... and one array of integers."
    )


# Beyond it a position is outside every array.
_FAR = 2**62


def _checked_slice(part: slice, node: Node) -> slice:
    """The slice with bounds that are extents or None; integers so large that they are outside every
    array stay outside, but fit 64 bits.
    """
    bounds: list[Any] = []
    for name in ("start", "stop", "step"):
        bound = getattr(part, name)
        if isinstance(bound, (int, np.integer)) and not isinstance(bound, (bool, np.bool_)):
            bound = max(-_FAR, min(int(bound), _FAR))
        elif not (bound is None or isinstance(bound, Dim) and name != "step"):
            raise GraphError(
                f"the {name} of a slice is an integer or an extent, got {shortened(repr(bound))}\n"
                + describe([node])
                + "\nFor positions that are data use gx.take."
            )
        bounds.append(bound)
    if bounds[2] == 0:
        raise GraphError("the step of a slice must not be 0\n" + describe([node]))
    return slice(*bounds)


def _slice_part(part: slice, size: Extent, node: Node) -> tuple[Extent, Extent, int]:
    step = 1 if part.step is None else part.step
    if step < 0:
        if not isinstance(size, int):
            if part.start is None and part.stop is None and step == -1:
                return 0, size, -1
            raise GraphError(
                "a negative step over a symbolic extent takes the whole axis\n"
                + describe([node])
                + "\nReverse it first, x[::-1], then take a slice forwards."
            )
        positions = range(*part.indices(size))
        if not positions:
            return 0, 0, -1
        low = positions[-1]
        return low, len(positions), step
    start = 0 if part.start is None else _clamp(part.start, size)
    stop = size if part.stop is None else _clamp(part.stop, size)
    from_start = start == 0 and not isinstance(part.stop, Dim)  # else the stop may be negative
    span = stop if from_start else dim_max(stop - start, 0)
    return start, (span if step == 1 else ceildiv(span, step)), step


def _clamp(position: Any, size: Extent) -> Extent:
    """A slice bound as NumPy has it: negative from the end, never outside."""
    if isinstance(position, (int, np.integer)) and int(position) < 0:
        return dim_max(size + int(position), 0)
    given = position if isinstance(position, Dim) else int(position)
    return given if given == 0 or given == size else dim_min(given, size)


def moveaxis_last(x: Node) -> Node:
    """x with its first axis last."""
    return transpose(x, (*range(1, x.ndim), 0))
