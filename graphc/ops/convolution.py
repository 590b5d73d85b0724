"""What are convolutions made of?  Padding, windows and a contraction; nothing of their own.

The windows are a view, so the contraction reads them where they lie while it packs its operands,
and no array of them is ever stored. Derivatives follow: by the weights, a contraction of windows
with cotangents; by the input, the overlap-add of a contraction, which is also what a transposed
convolution is. The axes of the offsets come where all of these have their axes in order: before the
spatial axes if the channels come first, else before the channels. With one input channel to a
group, products are summed directly instead.
"""

from __future__ import annotations

from typing import Any

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.contract import contraction
from graphc.ops.movement import reshape, slice_op, squeeze, transpose
from graphc.ops.operands import as_node, broadcast, cast, common_dtype, describe, restate_op
from graphc.ops.reduce import sum_op
from graphc.ops.windows import (
    Windows,
    channels_first,
    dilated,
    each,
    reach,
    spatial_axes,
    unslide_op,
)
from graphc.tensor import surface
from graphc.types import Shape

# Labels of the axes in products: batch, group, channel in a group, output channel in a group; then
# positions and offsets, numbered by spatial axis.
_N, _G, _I, _O = "n", "g", "i", "o"


def _positions(rank: int) -> tuple[str, ...]:
    return tuple(f"p{axis}" for axis in range(rank))


def _offsets(rank: int) -> tuple[str, ...]:
    return tuple(f"k{axis}" for axis in range(rank))


@surface
def conv(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    input_dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    dtype: Any = None,
) -> Node:
    """The convolution of x with the kernels w over 1 to 3 spatial axes, without flipping, as
    networks use it.

    In layout "NCHW" (NCW, NCDHW: the channels first) x is [batch, channels, *spatial] and w
    [outputs, channels / groups, *kernel]; in "NHWC" (NWC, NDHWC: the channels last) x is [batch,
    *spatial, channels] and w [*kernel, channels / groups, outputs]. The result is laid out as x.
    `padding` is "valid" (none), "same" (ceil(extent / stride) results), an integer, or one or a
    (before, after) pair for each spatial axis. `dilation` is the distance of kernel elements,
    `input_dilation` that of input elements, zeros between. Each of `groups` groups of channels
    gives its own outputs; as many groups as channels is the depthwise convolution. Terms are
    computed and summed in `dtype`, by default what x and w promote to.

    >>> import graphc as gx
    >>> x, w = gx.symbol("x", ("n", 3, 28, 28)), gx.symbol("w", (8, 3, 3, 3))
    >>> gx.conv(x, w, padding="same", stride=2).type
    float64[n, 8, 14, 14]
    """
    name = "conv"
    x, w = _arguments(name, x, w, dtype)
    axes, first = spatial_axes(x, layout, name), channels_first(layout, name)
    rank = len(axes)
    if w.ndim != x.ndim:
        raise GraphError(f"{name}: w must have the rank of x\n" + describe([x, w]))
    kernel = w.shape[2:] if first else w.shape[:rank]
    steps = each(input_dilation, rank, "input_dilation", name)
    sizes = tuple(dilated(x.shape[a], step) for a, step in zip(axes, steps, strict=True))
    moves = Windows.over(sizes, axes, kernel, stride, padding, dilation, name)
    inputs, outputs = (w.shape[1], w.shape[0]) if first else w.shape[-2:]
    x = _with_channels(x, 1 if first else -1, inputs, groups, name, w)
    seen = _seen(moves.padded(x, 0, steps), moves)
    product = _product(seen, w, groups, first)
    positions = moves.counts(sizes)
    batch = x.shape[0]
    shape = (batch, outputs, *positions) if first else (batch, *positions, outputs)
    return reshape(product, shape)


def _arguments(name: str, x: Any, w: Any, dtype: Any) -> list[Node]:
    wanted = common_dtype(name, (x, w)) if dtype is None else dtypes.as_dtype(dtype)
    nodes = [as_node(x), as_node(w)]
    if dtypes.kind(wanted) == "b":
        raise GraphError(f"{name} is not defined for bool; cast first\n" + describe(nodes))
    return [cast(node, wanted) for node in nodes]


def _with_channels(x: Node, axis: int, inputs: Extent, groups: int, name: str, w: Node) -> Node:
    """x, whose channels are as many as the groups of kernels want."""
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise GraphError(f"{name}: groups is a positive integer, got {groups!r}")
    axis %= x.ndim
    channels, wanted = x.shape[axis], inputs * groups
    outputs = w.shape[0] if channels_first_of(axis) else w.shape[-1]
    whole = not isinstance(outputs, int) or outputs % groups == 0
    known = isinstance(channels, int) and isinstance(wanted, int)
    if not whole or known and channels != wanted:
        raise GraphError(
            f"{name}: {channels} channels and {outputs} outputs in {groups} groups do not fit "
            f"kernels of {inputs} channels\n" + describe([x, w])
        )
    if channels == wanted:
        return x
    return restate_op(x, shape=(*x.shape[:axis], wanted, *x.shape[axis + 1 :]))


def channels_first_of(axis: int) -> bool:
    """Whether channels on this axis come before the spatial axes."""
    return axis == 1


def _seen(x: Node, moves: Windows) -> Node:
    """The windows of x, with axes for the offsets; for kernels of one element a slice does."""
    if any(k != 1 for k in moves.window):
        return moves.of(x, moves.axes[0] if moves.axes[0] == 2 else x.ndim - 1)
    if all(stride == 1 for stride in moves.strides):
        return x
    extents, steps = list(x.shape), [1] * x.ndim
    for axis, stride in zip(moves.axes, moves.strides, strict=True):
        extents[axis] = (x.shape[axis] - 1) // stride + 1
        steps[axis] = stride
    return slice_op(x, starts=(0,) * x.ndim, extents=tuple(extents), steps=tuple(steps))


def _product(seen: Node, w: Node, groups: int, first: bool) -> Node:
    """The sum over channels and offsets of windows times kernels, channels still in groups."""
    rank = w.ndim - 2
    offsets = _offsets(rank) if seen.ndim > w.ndim else ()
    if not offsets:  # one element: no axes of offsets on either side
        w = squeeze(w, tuple(range(2, w.ndim)) if first else tuple(range(rank)))
    seen = _grouped(seen, 1 if first else seen.ndim - 1, groups)
    places = _positions(rank)
    if first:
        x_labels = (_N, _G, _I, *offsets, *places)
        w_labels = (_G, _O, _I, *offsets)
        w = _grouped(w, 0, groups)
        result = (_N, _G, _O, *places)
    else:
        x_labels = (_N, *places, *offsets, _G, _I)
        w_labels = (*offsets, _I, _G, _O)
        w = _grouped(w, w.ndim - 1, groups)
        result = (_N, *places, _G, _O)
    extents = dict(zip((*x_labels, *w_labels), (*seen.shape, *w.shape), strict=True))
    if extents[_I] == 1 and extents[_G] != 1:
        return _direct(seen, x_labels, w, w_labels, result, extents)
    return _contracted(seen, x_labels, w, w_labels, result)


def _grouped(x: Node, axis: int, groups: int) -> Node:
    size = x.shape[axis] // groups
    return reshape(x, (*x.shape[:axis], groups, size, *x.shape[axis + 1 :]))


def _contracted(
    x: Node, x_labels: tuple[str, ...], w: Node, w_labels: tuple[str, ...], result: tuple[str, ...]
) -> Node:
    extents = dict(zip((*x_labels, *w_labels), (*x.shape, *w.shape), strict=True))
    slim = result
    if extents[_G] == 1:
        x, x_labels = _without(x, x_labels, _G)
        w, w_labels = _without(w, w_labels, _G)
        slim = tuple(label for label in result if label != _G)
    if result[1] == _G:  # channels first: each element of the batch is a product of its own
        shape = (x.shape[0], *w.shape)
        w = broadcast(w, shape, tuple(range(1, len(shape))))
        w_labels = (_N, *w_labels)
    made = contraction((x, w), (x_labels, w_labels), slim)
    return reshape(made, tuple(extents[label] for label in result))


def _without(x: Node, labels: tuple[str, ...], gone: str) -> tuple[Node, tuple[str, ...]]:
    axis = labels.index(gone)
    return squeeze(x, axis), (*labels[:axis], *labels[axis + 1 :])


def _direct(
    x: Node,
    x_labels: tuple[str, ...],
    w: Node,
    w_labels: tuple[str, ...],
    result: tuple[str, ...],
    extents: dict[str, Extent],
) -> Node:
    """Products summed one by one, along the last axis of the result as lanes: for kernels of one
    channel, where a contraction has nothing to use twice.
    """
    offsets = tuple(label for label in x_labels if label.startswith("k"))
    kept = result
    if extents[_O] == 1:  # else it would be the lanes, where the channels are last
        w, w_labels = _without(w, w_labels, _O)
        kept = tuple(label for label in result if label != _O)
    every = (*offsets, *kept)
    shape = tuple(extents[label] for label in every)
    factors = []
    for node, labels in (_without(x, x_labels, _I), _without(w, w_labels, _I)):
        order = tuple(label for label in every if label in labels)
        turned = transpose(node, tuple(map(labels.index, order)))
        factors.append(broadcast(turned, shape, tuple(map(every.index, order))))
    product = factors[0] * factors[1]
    total = sum_op(product, axes=tuple(range(len(offsets)))) if offsets else product
    return reshape(total, tuple(extents[label] for label in result))


def _conv_of(rank: int) -> Any:
    def conv_(
        x: Any,
        w: Any,
        stride: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        input_dilation: Any = 1,
        groups: int = 1,
        layout: str = "NCHW",
        dtype: Any = None,
    ) -> Node:
        node = as_node(x)
        if node.ndim != rank + 2:
            raise GraphError(
                f"conv{rank}d needs an array of rank {rank + 2}: batch, channels and {rank} "
                "spatial axes\n" + describe([node])
            )
        return conv(
            node, w, stride, padding, dilation, input_dilation, groups, layout, dtype
        )

    conv_.__name__ = f"conv{rank}d"
    conv_.__doc__ = f"`conv` over {rank} spatial ax{'i' if rank == 1 else 'e'}s."
    return surface(conv_)


conv1d, conv2d, conv3d = _conv_of(1), _conv_of(2), _conv_of(3)


@surface
def conv_transpose(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    output_padding: Any = 0,
    groups: int = 1,
    layout: str = "NCHW",
    dtype: Any = None,
) -> Node:
    """The transpose of `conv` with these kernels, which takes its results back to its inputs.

    The kernels are those of that convolution: in "NCHW" layouts [channels of x, outputs / groups,
    *kernel], in "NHWC" layouts [*kernel, outputs / groups, channels of x]. An axis of extent n
    gives (n - 1) * stride + (kernel - 1) * dilation + 1 + output_padding results, less the padding;
    with "same", n * stride.
    """
    name = "conv_transpose"
    x, w = _arguments(name, x, w, dtype)
    axes, first = spatial_axes(x, layout, name), channels_first(layout, name)
    rank = len(axes)
    if w.ndim != x.ndim:
        raise GraphError(f"{name}: w must have the rank of x\n" + describe([x, w]))
    kernel = w.shape[2:] if first else w.shape[:rank]
    more = each(output_padding, rank, "output_padding", name, 0)
    counts = tuple(x.shape[axis] for axis in axes)
    strides = each(stride, rank, "stride", name)
    dilations = each(dilation, rank, "dilation", name)
    covered = [reach(*parts) for parts in zip(counts, strides, kernel, dilations, strict=True)]
    if isinstance(padding, str) and padding.lower() == "same":
        sizes = tuple(n * s for n, s in zip(counts, strides, strict=True))
        moves = Windows.over(sizes, axes, kernel, strides, "same", dilations, name)
    else:
        grown = tuple(size + extra for size, extra in zip(covered, more, strict=True))
        plain = Windows.over(grown, axes, kernel, strides, "valid", dilations, name)
        given = Windows.over(grown, axes, kernel, strides, padding, dilations, name)
        sizes = tuple(
            size - lo - hi for size, lo, hi in zip(grown, given.before, given.after, strict=True)
        )
        moves = Windows(axes, kernel, plain.strides, plain.dilations, given.before, given.after)
    if any(isinstance(size, int) and size < 0 for size in sizes):
        raise GraphError(f"{name}: the padding is more than there is\n" + describe([x, w]))
    inputs = w.shape[0] if first else w.shape[-1]
    per_group = w.shape[1] if first else w.shape[-2]
    x = _with_channels(x, 1 if first else -1, inputs // groups, groups, name, w)
    spread = _spread_product(x, w, groups, first)
    return _added(spread, moves, sizes, per_group * groups, first)


def _spread_product(x: Node, w: Node, groups: int, first: bool) -> Node:
    """What each element of x adds to each element of its window: [batch, groups, outputs,
    *offsets, *positions], or [batch, *positions, *offsets, groups, outputs].
    """
    rank = w.ndim - 2
    places, offsets = _positions(rank), _offsets(rank)
    x = _grouped(x, 1 if first else rank + 1, groups)
    if first:
        w = _grouped(w, 0, groups)
        x_labels, w_labels = (_N, _G, _O, *places), (_G, _O, _I, *offsets)
        result = (_N, _G, _I, *offsets, *places)
    else:
        w = _grouped(w, w.ndim - 1, groups)
        x_labels, w_labels = (_N, *places, _G, _O), (*offsets, _I, _G, _O)
        result = (_N, *places, *offsets, _G, _I)
    return _contracted(x, x_labels, w, w_labels, result)


def _added(spread: Node, moves: Windows, sizes: Shape, channels: Extent, first: bool) -> Node:
    """The overlap-add of what goes to each window, without the padding."""
    rank = len(moves.axes)
    whole = tuple(
        size + lo + hi for size, lo, hi in zip(sizes, moves.before, moves.after, strict=True)
    )
    start = 3 + rank if first else 1
    axes = tuple(range(start, start + rank))
    places = tuple(range(3, 3 + rank) if first else range(1 + rank, 1 + 2 * rank))
    added = unslide_op(
        spread,
        axes=axes,
        windows=places,
        strides=moves.strides,
        dilations=moves.dilations,
        extents=whole,
    )
    total = sum_op(added, axes=places)
    batch = total.shape[0]
    shape = (batch, channels, *whole) if first else (batch, *whole, channels)
    total = reshape(total, shape)
    if tuple(whole) == tuple(sizes):
        return total
    starts: list[Extent] = [0] * total.ndim
    extents = list(total.shape)
    for axis, lo, size in zip(moves.axes, moves.before, sizes, strict=True):
        starts[axis], extents[axis] = lo, size
    return slice_op(
        total, starts=tuple(starts), extents=tuple(extents), steps=(1,) * total.ndim
    )
