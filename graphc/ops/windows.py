"""What does a window see that moves over an array?  Two views, each the other's transpose.

`slide` reads an array at position plus offset: along an axis and along the axis of the offsets that
goes with it, at once. So the windows of x are a slide over x repeated along new axes, nothing is
copied, and whoever reads them, a reduction or a contraction, finds its elements by index
arithmetic. `unslide` puts every element back where it was read, and zeros elsewhere; summed over
the offsets that is the overlap-add, and so the derivative of the windows follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as tuples
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, ceildiv, dim_max
from graphc.errors import GraphError, shortened
from graphc.lowering import Index, Piece, View
from graphc.node import Node
from graphc.op import Leading, Linear, Op, register
from graphc.ops.movement import concatenate_op, overlay_op, pad_op, reshape, slice_op
from graphc.ops.operands import as_node, broadcast, constant, describe, normalize_axis
from graphc.tensor import surface
from graphc.types import Shape, TensorType, Type, as_extent

Ints = tuple[int, ...]


def reach(count: Extent, stride: int, window: Extent, dilation: int) -> Extent:
    """How much of an axis `count` windows cover."""
    return (count - 1) * stride + (window - 1) * dilation + 1


def _replaced(x: Type, axes: Ints, extents: Shape) -> TensorType:
    assert isinstance(x, TensorType)
    shape = list(x.shape)
    for axis, extent in zip(axes, extents, strict=True):
        shape[axis] = extent
    return TensorType(x.dtype, tuple(shape))


def _check(
    x: TensorType, whole: Shape, counts: Shape, windows: Ints, strides: Ints, dilations: Ints
) -> None:
    """Refuse windows that leave what they move over."""
    parts = zip(whole, counts, windows, strides, dilations, strict=True)
    for size, count, place, stride, dilation in parts:
        window = x.shape[place]
        known = all(isinstance(extent, int) for extent in (size, count, window))
        if known and count and window and reach(count, stride, window, dilation) > size:  # type: ignore[operator]
            raise GraphError(
                f"{count} windows of {window}, {stride} apart and dilated by {dilation}, leave an "
                f"axis of extent {size}, in {x}"
            )


def _infer_slide(
    x: Type, axes: Ints, windows: Ints, strides: Ints, dilations: Ints, extents: Shape
) -> Type:
    assert isinstance(x, TensorType)
    _check(x, tuple(x.shape[a] for a in axes), extents, windows, strides, dilations)
    return _replaced(x, axes, extents)


def _infer_unslide(
    x: Type, axes: Ints, windows: Ints, strides: Ints, dilations: Ints, extents: Shape
) -> Type:
    assert isinstance(x, TensorType)
    _check(x, extents, tuple(x.shape[a] for a in axes), windows, strides, dilations)
    return _replaced(x, axes, extents)


def _each_offset(
    full: Any, part: Any, axes: Ints, windows: Ints, strides: Ints, dilations: Ints
) -> Iterator[tuple[Any, Any]]:
    """Views of the array that windows move over and of that of the windows, for each offset."""
    for offsets in tuples(*(range(part.shape[place]) for place in windows)):
        at: list[Any] = [slice(None)] * part.ndim
        there: list[Any] = list(at)
        parts = zip(axes, windows, strides, dilations, offsets, strict=True)
        for axis, place, stride, dilation, offset in parts:
            start, count = offset * dilation, part.shape[axis]
            there[axis] = slice(start, start + count * stride, stride)
            at[place] = there[place] = slice(offset, offset + 1)
        yield full[tuple(there)], part[tuple(at)]


def _numpy_slide(x: Any, extents: Any, **attrs: Any) -> Any:
    shape = list(x.shape)
    for axis, extent in zip(attrs["axes"], extents, strict=True):
        shape[axis] = extent
    result = np.empty(shape, x.dtype)
    for source, target in _each_offset(x, result, **attrs):
        target[...] = source
    return result


def _numpy_unslide(x: Any, extents: Any, **attrs: Any) -> Any:
    shape = list(x.shape)
    for axis, extent in zip(attrs["axes"], extents, strict=True):
        shape[axis] = extent
    result = np.zeros(shape, x.dtype)
    for target, source in _each_offset(result, x, **attrs):
        target[...] = source
    return result


def _slide_pieces(
    index: Index,
    types: Any,
    result: Any,
    axes: Ints,
    windows: Ints,
    strides: Ints,
    dilations: Ints,
    extents: Shape,
) -> list[Piece]:
    taken = list(index)
    for axis, place, stride, dilation in zip(axes, windows, strides, dilations, strict=True):
        taken[axis] = index[axis] * stride + index[place] * dilation
    return [Piece(0, tuple(taken))]


def _unslide_pieces(
    index: Index,
    types: Any,
    result: Any,
    axes: Ints,
    windows: Ints,
    strides: Ints,
    dilations: Ints,
    extents: Shape,
) -> list[Piece]:
    taken = list(index)
    inside: list[tuple[Extent, Extent, Extent]] = []
    for axis, place, stride, dilation in zip(axes, windows, strides, dilations, strict=True):
        count = types[0].shape[axis]
        offset = index[axis] - index[place] * dilation
        taken[axis] = offset // stride
        inside.append((offset, 0, (count - 1) * stride + 1 if stride != 1 else count))
        if stride != 1:
            inside.append((offset % stride, 0, 1))
    return [Piece(0, tuple(taken), tuple(inside))]


_MOVES = ("axes", "windows", "strides", "dilations")


def _transposed(op: Op, cotangent: Node, node: Node) -> Node:
    moves = {name: node.attrs[name] for name in _MOVES}
    source = node.args[0].shape
    return op(cotangent, **moves, extents=tuple(source[a] for a in node.attrs["axes"]))


slide_op: Op = register(
    Op(
        "slide",
        _infer_slide,
        _numpy_slide,
        View(_slide_pieces),
        Linear(lambda cotangent, node, i: _transposed(unslide_op, cotangent, node)),
        attributes=(*_MOVES, "extents"),
        batch=Leading(raised=("axes", "windows")),
        doc="The argument at index * stride + offset * dilation along each of `axes`, the offset "
        "being the index along the axis of `windows` that goes with it; `extents` are the numbers "
        "of windows.",
    )
)
unslide_op: Op = register(
    Op(
        "unslide",
        _infer_unslide,
        _numpy_unslide,
        View(_unslide_pieces),
        Linear(lambda cotangent, node, i: _transposed(slide_op, cotangent, node)),
        attributes=(*_MOVES, "extents"),
        batch=Leading(raised=("axes", "windows")),
        doc="Zeros of `extents` along `axes`, with the elements of the argument where slide reads "
        "them.",
    )
)


def windows_of(
    x: Node, axes: Ints, window: Shape, strides: Ints, dilations: Ints, at: int
) -> Node:
    """x with its `axes` counting windows, and new axes, from axis `at` on, for the offsets in them.
    """
    count = len(axes)
    places = tuple(range(at, at + count))
    kept = tuple(axis + count if axis >= at else axis for axis in range(x.ndim))
    repeated = broadcast(x, (*x.shape[:at], *window, *x.shape[at:]), kept)
    extents = tuple(
        (x.shape[a] - (k - 1) * d - 1) // s + 1
        for a, k, s, d in zip(axes, window, strides, dilations, strict=True)
    )
    return slide_op(
        repeated,
        axes=tuple(kept[axis] for axis in axes),
        windows=places,
        strides=strides,
        dilations=dilations,
        extents=extents,
    )


# More phases than this are not told apart.
MOST_PHASES = 64


def interleaved(
    parts: Mapping[Ints, Node], axes: Sequence[int], apart: Sequence[int], extents: Shape
) -> Node:
    """Arrays put one between the others along `axes`: element q of the part of a phase is element
    q * apart + phase. There is a part for each phase of all axes, in order, all of one shape;
    `extents` are those of the result along the axes.
    """
    made = dict(parts)
    for axis, count, wanted in reversed(list(zip(axes, apart, extents, strict=True))):
        joined: dict[Ints, Node] = {}
        for phases in dict.fromkeys(phases[:-1] for phases in made):
            each_phase = [made[*phases, phase] for phase in range(count)]
            shape = each_phase[0].shape
            lead, rest = shape[: axis + 1], shape[axis + 1 :]
            whole = each_phase[0]
            if count > 1:
                lone = [reshape(part, (*lead, 1, *rest)) for part in each_phase]
                between = concatenate_op(*lone, axis=axis + 1)
                whole = reshape(between, (*shape[:axis], shape[axis] * count, *rest))
            start = (0,) * whole.ndim
            joined[phases] = cut(whole, start, (*shape[:axis], wanted, *rest))
        made = joined
    return made[()]


def cut(x: Node, starts: Shape, extents: Shape) -> Node:
    """A box of x; x itself if that is all of it."""
    if extents == x.shape:
        return x
    return slice_op(x, starts=starts, extents=extents, steps=(1,) * x.ndim)


@surface
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, subok: bool = False, writeable: bool = False
) -> Node:
    """All windows of a shape into x, as `numpy.lib.stride_tricks.sliding_window_view`: each of
    `axis` (None: all) counts windows, and the windows' own axes come last.
    """
    node = as_node(x)
    del subok
    if writeable:
        raise GraphError("sliding_window_view: an expression cannot be written to")
    window = tuple(window_shape) if isinstance(window_shape, (tuple, list)) else (window_shape,)
    if axis is None:
        axes = tuple(range(node.ndim))
    else:
        given = axis if isinstance(axis, (tuple, list)) else (axis,)
        axes = tuple(normalize_axis(a, node, "sliding_window_view") for a in given)
    fits = len(axes) == len(window) and all(
        isinstance(k, (int, np.integer)) and k >= 1 for k in window
    )
    if not fits or len(set(axes)) != len(axes):
        raise GraphError(
            f"sliding_window_view: {shortened(repr(window_shape))} is no window for the axes "
            f"{axes}; each takes one positive extent, once\n" + describe([node])
        )
    sizes = tuple(int(k) for k in window)
    for a, k in zip(axes, sizes, strict=True):
        if isinstance(node.shape[a], int) and k > node.shape[a]:
            raise GraphError(
                f"sliding_window_view: a window of {k} is larger than axis {a}\n" + describe([node])
            )
    ones = (1,) * len(axes)
    return windows_of(node, axes, sizes, ones, ones, node.ndim)


# -- how windows are given -------------------------------------------------------------------------

# Where the channels are; W, HW or DHW stand for the spatial axes.
LAYOUTS = {
    **dict.fromkeys(("NCW", "NCHW", "NCDHW"), True),
    **dict.fromkeys(("NWC", "NHWC", "NDHWC"), False),
}


def channels_first(layout: Any, name: str) -> bool:
    """Whether a layout has the channels before the spatial axes, rather than last."""
    found = LAYOUTS.get(layout) if isinstance(layout, str) else None
    if found is None:
        raise GraphError(
            f"{name}: layout is one of {', '.join(LAYOUTS)}, got {shortened(repr(layout))}"
        )
    return found


def spatial_axes(x: Node, layout: Any, name: str) -> Ints:
    """The axes that windows move along: all but the first and that of the channels."""
    first = channels_first(layout, name)
    rank = x.ndim - 2
    if not 1 <= rank <= 3 or len(layout) not in (4, x.ndim):
        raise GraphError(
            f"{name}: an array of batch, channels and 1 to 3 spatial axes is needed, in layout "
            f"{layout}\n" + describe([x])
        )
    return tuple(range(2, 2 + rank)) if first else tuple(range(1, 1 + rank))


def each(value: Any, rank: int, what: str, name: str, least: int = 1) -> Ints:
    """One integer for each spatial axis, from one for all or from a sequence."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in given)
    if len(given) != rank or not whole or any(v < least for v in given):
        raise GraphError(
            f"{name}: {what} is an integer of at least {least}, or {rank} of them, got "
            f"{shortened(repr(value))}"
        )
    return tuple(int(v) for v in given)


@dataclass(frozen=True)
class Windows:
    """How windows move along the spatial axes; `before` and `after` is the padding."""

    axes: Ints
    window: Shape
    strides: Ints
    dilations: Ints
    before: Shape
    after: Shape

    @staticmethod
    def over(
        sizes: Shape,
        axes: Ints,
        window: Shape,
        stride: Any,
        padding: Any,
        dilation: Any,
        name: str,
    ) -> Windows:
        """Read the arguments of a call; `sizes` are the spatial extents.

        "same" padding makes ceil(size / stride) windows, the odd element of it at the end.
        """
        rank = len(axes)
        strides = each(stride, rank, "stride", name)
        dilations = each(dilation, rank, "dilation", name)
        if isinstance(padding, str) and padding.lower() == "same":
            parts = zip(sizes, window, strides, dilations, strict=True)
            pairs = [_same(size, k, s, d) for size, k, s, d in parts]
        else:
            pairs = _pairs(padding, rank, name)
        made = Windows(
            axes,
            window,
            strides,
            dilations,
            tuple(before for before, _ in pairs),
            tuple(after for _, after in pairs),
        )
        for size, count in zip(sizes, made.counts(sizes), strict=True):
            if isinstance(count, int) and count < 0 or isinstance(size, int) and count == 0:
                raise GraphError(
                    f"{name}: windows of {window}, dilated by {dilations}, are larger than the "
                    f"padded axes of {sizes}"
                )
        return made

    def counts(self, sizes: Shape) -> Shape:
        """How many windows there are along each axis."""
        parts = zip(
            sizes, self.before, self.after, self.window, self.strides, self.dilations, strict=True
        )
        return tuple((n + lo + hi - (k - 1) * d - 1) // s + 1 for n, lo, hi, k, s, d in parts)

    def padded(self, x: Node, value: Any = 0, steps: Ints | None = None) -> Node:
        """x with `value` around it, and between its elements if those come `steps` apart."""
        apart = (1,) * len(self.axes) if steps is None else steps
        starts: list[Extent] = [0] * x.ndim
        shape, spaced = list(x.shape), [1] * x.ndim
        for axis, lo, hi, step in zip(self.axes, self.before, self.after, apart, strict=True):
            starts[axis], spaced[axis] = lo, step
            shape[axis] = dilated(x.shape[axis], step) + lo + hi
        if tuple(shape) == x.shape:
            return x
        if value == 0:
            return pad_op(x, starts=tuple(starts), shape=tuple(shape), steps=tuple(spaced))
        around = broadcast(constant(value, x.dtype), tuple(shape), ())
        return overlay_op(around, x, starts=tuple(starts), steps=tuple(spaced))

    def of(self, x: Node, at: int) -> Node:
        """The windows of an array that is padded already, the axes of offsets from `at` on."""
        return windows_of(x, self.axes, self.window, self.strides, self.dilations, at)


def dilated(size: Extent, step: int) -> Extent:
    """The extent of an axis whose elements come `step` apart."""
    return size if step == 1 else dim_max((size - 1) * step + 1, 0)


def _same(size: Extent, window: Extent, stride: int, dilation: int) -> tuple[Extent, Extent]:
    total = dim_max(reach(ceildiv(size, stride), stride, window, dilation) - size, 0)
    return total // 2, total - total // 2


def _pairs(padding: Any, rank: int, name: str) -> list[tuple[Extent, Extent]]:
    """Padding before and after each axis."""
    if isinstance(padding, str):
        if padding.lower() == "valid":
            return [(0, 0)] * rank
        raise GraphError(
            f"{name}: padding is 'same', 'valid', an integer, or one or a pair for each spatial "
            f"axis, got {shortened(repr(padding))}"
        )
    given = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * rank
    pairs = [tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in given]
    if len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
        raise GraphError(
            f"{name}: padding is one integer, or one or a pair for each of {rank} spatial axes, "
            f"got {shortened(repr(padding))}"
        )
    for width in (w for pair in pairs for w in pair):
        whole = isinstance(width, (int, np.integer)) and not isinstance(width, bool) and width >= 0
        if not whole and not isinstance(width, Dim):
            raise GraphError(
                f"{name}: padding is not negative, got {shortened(repr(padding))}; slice instead"
            )
    return [(as_extent(before), as_extent(after)) for before, after in pairs]


def require_number(x: Node, name: str) -> Node:
    """x, unless it holds truth values."""
    if dtypes.kind(x.dtype) == "b":
        raise GraphError(f"{name} is not defined for bool; cast first\n" + describe([x]))
    return x
