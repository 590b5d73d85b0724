"""Which convolutions are there?  Those of networks, over 1 to 3 spatial axes, and their transposes.

Layouts, groups and the ways to say padding are told apart here; the op is `convolve`, which knows
labels of axes instead. The transpose is a convolution too: of the input dilated by the stride, with
the flipped kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.convolve import convolve_op
from graphc.ops.movement import flip_op, reshape
from graphc.ops.operands import as_node, cast, common_dtype, describe, restate_op
from graphc.ops.windows import Windows, channels_first, dilated, each, reach, spatial_axes
from graphc.tensor import surface
from graphc.types import Shape


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
    positions = moves.counts(sizes)
    labels = _Labels.of(rank, first, groups != 1)
    product = convolve_op(
        _grouped(x, 1 if first else x.ndim - 1, groups),
        _grouped(w, 0 if first else w.ndim - 1, groups),
        labels=f"{labels.inputs},{labels.kernel}->{labels.outputs}",
        spatial=labels.spatial,
        strides=moves.strides,
        dilations=moves.dilations,
        steps=steps,
        before=moves.before,
        extents=positions,
    )
    batch = x.shape[0]
    shape = (batch, outputs, *positions) if first else (batch, *positions, outputs)
    return reshape(product, shape)


@dataclass(frozen=True)
class _Labels:
    """Labels of the axes of inputs, kernels and outputs: n the batch, g the group, i and o the
    channels in a group, and the `spatial` ones.
    """

    inputs: str
    kernel: str
    outputs: str
    spatial: str

    @staticmethod
    def of(rank: int, first: bool, grouped: bool) -> _Labels:
        spatial = "dhw"[3 - rank :]
        g = "g" if grouped else ""
        if first:
            return _Labels(f"n{g}i{spatial}", f"{g}oi{spatial}", f"n{g}o{spatial}", spatial)
        return _Labels(f"n{spatial}{g}i", f"{spatial}i{g}o", f"n{spatial}{g}o", spatial)


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


def _grouped(x: Node, axis: int, groups: int) -> Node:
    """x with an axis for the groups before that of the channels in one; as it is for one group."""
    if groups == 1:
        return x
    size = x.shape[axis] // groups
    return reshape(x, (*x.shape[:axis], groups, size, *x.shape[axis + 1 :]))


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
    counts = tuple(x.shape[axis] for axis in axes)
    given = stride, padding, dilation, output_padding
    sizes, moves = _transposed_windows(counts, axes, kernel, *given, name)
    if any(isinstance(size, int) and size < 0 for size in sizes):
        raise GraphError(f"{name}: the padding is more than there is\n" + describe([x, w]))
    inputs = w.shape[0] if first else w.shape[-1]
    per_group = w.shape[1] if first else w.shape[-2]
    x = _with_channels(x, 1 if first else -1, inputs // groups, groups, name, w)
    labels = _Labels.of(rank, first, groups != 1)
    flipped = flip_op(w, axes=tuple(range(2, w.ndim) if first else range(rank)))
    before = tuple(
        (size - 1) * apart - lo
        for size, apart, lo in zip(kernel, moves.dilations, moves.before, strict=True)
    )
    product = convolve_op(
        _grouped(x, 1 if first else x.ndim - 1, groups),
        _grouped(flipped, 0 if first else w.ndim - 1, groups),
        labels=f"{labels.outputs},{labels.kernel}->{labels.inputs}",
        spatial=labels.spatial,
        strides=(1,) * rank,
        dilations=moves.dilations,
        steps=moves.strides,
        before=before,
        extents=sizes,
    )
    channels, batch = per_group * groups, x.shape[0]
    shape = (batch, channels, *sizes) if first else (batch, *sizes, channels)
    return reshape(product, shape)


def _transposed_windows(
    counts: Shape,
    axes: tuple[int, ...],
    kernel: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    name: str,
) -> tuple[Shape, Windows]:
    """The extents of what a convolution with `counts` results was of, and its windows there."""
    rank = len(axes)
    more = each(output_padding, rank, "output_padding", name, 0)
    strides = each(stride, rank, "stride", name)
    dilations = each(dilation, rank, "dilation", name)
    if isinstance(padding, str) and padding.lower() == "same":
        sizes = tuple(n * s for n, s in zip(counts, strides, strict=True))
        return sizes, Windows.over(sizes, axes, kernel, strides, "same", dilations, name)
    covered = [reach(*parts) for parts in zip(counts, strides, kernel, dilations, strict=True)]
    grown = tuple(size + extra for size, extra in zip(covered, more, strict=True))
    plain = Windows.over(grown, axes, kernel, strides, "valid", dilations, name)
    given = Windows.over(grown, axes, kernel, strides, padding, dilations, name)
    sizes = tuple(
        size - lo - hi for size, lo, hi in zip(grown, given.before, given.after, strict=True)
    )
    moves = Windows(axes, kernel, plain.strides, plain.dilations, given.before, given.after)
    return sizes, moves
