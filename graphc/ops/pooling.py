"""What do the windows of an image have in common?  Pooling: reductions over windows.

The windows are a view that the reduction reads in its own loop, so nothing is copied; the axes of
the offsets come first, so that lanes run along the last axis of the result. A maximum shares its
derivative equally among elements that tie, as every maximum does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, ceildiv, dim_max, dim_min
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.contract import contraction
from graphc.ops.movement import iota_op, reshape, slice_op, transpose
from graphc.ops.operands import as_node, broadcast, cast, constant, describe, extent
from graphc.ops.reduce import lowest, max_op, sum_op
from graphc.ops.windows import Ints, Windows, each, reach, require_number, spatial_axes
from graphc.tensor import SURFACE, surface
from graphc.types import Shape


def _moves(
    name: str,
    x: Any,
    window: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    layout: str,
    ceil_mode: bool,
) -> tuple[Node, Windows, Shape]:
    """The array, how windows move over it, and how many elements each axis has with its padding,
    not counting those that only the last windows of `ceil_mode` see.
    """
    node = require_number(as_node(x), name)
    axes = spatial_axes(node, layout, name)
    extents = each(window, len(axes), "window", name)
    sizes = tuple(node.shape[a] for a in axes)
    steps = extents if stride is None else stride
    moves = Windows.over(sizes, axes, extents, steps, padding, dilation, name)
    whole = tuple(n + lo + hi for n, lo, hi in zip(sizes, moves.before, moves.after, strict=True))
    if ceil_mode:
        moves = _with_last_windows(moves, sizes)
    return node, moves, whole


def _with_last_windows(moves: Windows, sizes: Shape) -> Windows:
    """With windows that reach beyond the end, as long as they begin in the array or before it."""
    after = []
    parts = zip(
        sizes,
        moves.before,
        moves.after,
        moves.window,
        moves.strides,
        moves.dilations,
        strict=True,
    )
    for n, lo, hi, window, stride, dilation in parts:
        covered = (window - 1) * dilation + 1
        count = dim_min(ceildiv(n + lo + hi - covered, stride) + 1, ceildiv(n + lo, stride))
        after.append(dim_max(reach(count, stride, window, dilation) - n - lo, hi))
    return Windows(
        moves.axes, moves.window, moves.strides, moves.dilations, moves.before, tuple(after)
    )


@surface
def max_pool(
    x: Any,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    dilation: Any = 1,
    layout: str = "NCHW",
    ceil_mode: bool = False,
) -> Node:
    """The largest element of each window over the 1 to 3 spatial axes of x.

    x is [batch, channels, *spatial], or [batch, *spatial, channels] in layout "NHWC" (NWC, NDHWC).
    `window` and `stride` (None: the window) are an integer or one for each spatial axis, `padding`
    and `dilation` as in `conv`; padding counts as less than everything. `ceil_mode` adds windows
    that reach beyond the end. NaN propagates; elements that tie share the derivative equally.

    >>> import graphc as gx
    >>> gx.max_pool(gx.symbol("x", ("n", 3, 28, 28)), 2).type
    float64[n, 3, 14, 14]
    """
    node, moves, _ = _moves(
        "max_pool", x, window, stride, padding, dilation, layout, ceil_mode
    )
    seen, axes = _seen(moves.padded(node, lowest("max", node.dtype).item()), moves)
    return max_op(seen, axes=axes)


@surface
def sum_pool(
    x: Any,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    dilation: Any = 1,
    layout: str = "NCHW",
    ceil_mode: bool = False,
) -> Node:
    """The sum of each window over the spatial axes of x, in x's dtype; arguments as `max_pool`."""
    node, moves, _ = _moves(
        "sum_pool", x, window, stride, padding, dilation, layout, ceil_mode
    )
    return _summed(node, moves)


def _summed(node: Node, moves: Windows) -> Node:
    seen, axes = _seen(moves.padded(node), moves)
    return sum_op(seen, axes=axes)


def _seen(x: Node, moves: Windows) -> tuple[Node, Ints]:
    """The windows of a padded array, and the axes of the offsets in them.

    Windows that lie side by side are parts of the array, in its own order if the channels come
    last; so what is computed for each element of them, as a gradient is, is computed in its place.
    """
    count = len(moves.axes)
    apart = moves.strides == moves.window and all(dilation == 1 for dilation in moves.dilations)
    if not apart:
        return moves.of(x, at=0), tuple(range(count))
    extents, shape = list(x.shape), []
    offsets: list[int] = []
    for axis in range(x.ndim):
        if axis not in moves.axes:
            shape.append(x.shape[axis])
            continue
        size = moves.strides[moves.axes.index(axis)]
        parts = x.shape[axis] // size
        extents[axis] = parts * size
        offsets.append(len(shape) + 1)
        shape += [parts, size]
    if tuple(extents) != x.shape:
        ones = (1,) * x.ndim
        x = slice_op(x, starts=(0,) * x.ndim, extents=tuple(extents), steps=ones)
    parted = reshape(x, tuple(shape))
    if moves.axes[-1] != x.ndim - 1:
        return parted, tuple(offsets)
    order = (*offsets, *(axis for axis in range(len(shape)) if axis not in offsets))
    return transpose(parted, order), tuple(range(count))


@surface
def avg_pool(
    x: Any,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    dilation: Any = 1,
    layout: str = "NCHW",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Node:
    """The mean of each window over the spatial axes of x, of a float dtype; arguments as
    `max_pool`.

    With `count_include_pad` the zeros of the padding are elements like others, except those beyond
    it that only `ceil_mode` adds; without, the mean is that of the elements of x.
    """
    node, moves, whole = _moves(
        "avg_pool", x, window, stride, padding, dilation, layout, ceil_mode
    )
    _require_float(node, "avg_pool")
    total = _summed(node, moves)
    sizes = tuple(node.shape[a] for a in moves.axes)
    limits: tuple[tuple[Extent, Extent], ...]
    if count_include_pad:
        limits = tuple((0, size) for size in whole)
    else:
        limits = tuple((lo, lo + n) for lo, n in zip(moves.before, sizes, strict=True))
    share: Node | None = None
    for number, (axis, limit) in enumerate(zip(moves.axes, limits, strict=True)):
        count = _count(moves, number, limit, total.shape[axis], node.dtype)
        if count.ndim:
            count = broadcast(count, total.shape, (axis,))
        share = count if share is None else share * count
    return total / share


def _require_float(node: Node, name: str) -> None:
    if not dtypes.is_float(node.dtype):
        raise GraphError(f"{name} needs a float dtype; cast first\n" + describe([node]))


def _count(
    moves: Windows, number: int, limit: tuple[Extent, Extent], windows: Extent, dtype: Any
) -> Node:
    """How many places of each window along one axis lie between limits: one number if that is the
    same for all windows.
    """
    window, stride = moves.window[number], moves.strides[number]
    dilation, (low, high) = moves.dilations[number], limit
    beyond = reach(windows, stride, window, dilation) - high
    if low == 0 and isinstance(beyond, int) and beyond <= 0:
        return constant(window, dtype)
    places = iota_op(shape=(window, windows), axis=1, dtype=dtypes.INT64) * stride
    places = places + iota_op(shape=(window, windows), axis=0, dtype=dtypes.INT64) * dilation
    inside = (places >= _number(low)) & (places < _number(high))
    return cast(sum_op(cast(inside, dtypes.INT64), axes=(0,)), dtype)


def _number(value: Extent) -> Any:
    return extent(value) if isinstance(value, Dim) else value


def _global(name: str, op: Any) -> Any:
    def pool(x: Any, layout: str = "NCHW", keepdims: bool = False) -> Node:
        node = require_number(as_node(x), name)
        axes = spatial_axes(node, layout, name)
        return SURFACE[op](node, axis=axes, keepdims=keepdims)

    pool.__name__ = name
    pool.__doc__ = (
        f"The {op} over all spatial axes of x: [batch, channels]; with `keepdims` these stay, at "
        "extent 1."
    )
    return surface(pool)


global_max_pool = _global("global_max_pool", "max")
global_avg_pool = _global("global_avg_pool", "mean")


@surface
def adaptive_avg_pool(x: Any, output_size: Any, layout: str = "NCHW") -> Node:
    """The means of `output_size` nearly equal parts of each spatial axis of x, of known extent.

    Part i of m of an axis of extent n goes from floor(i n / m) to ceil((i + 1) n / m). Means are
    products with a matrix for each axis, or windows where all parts are equal.
    """
    name = "adaptive_avg_pool"
    node = as_node(x)
    _require_float(node, name)
    axes = spatial_axes(node, layout, name)
    sizes = tuple(node.shape[a] for a in axes)
    wanted = each(output_size, len(axes), "output_size", name)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise GraphError(f"{name} needs known spatial extents, got {sizes}\n" + describe([node]))
    if all(size % parts == 0 for size, parts in zip(sizes, wanted, strict=True)):
        window = tuple(size // parts for size, parts in zip(sizes, wanted, strict=True))
        return avg_pool(node, window, layout=layout)
    for axis, size, parts in zip(axes, sizes, wanted, strict=True):
        weights = constant(_averages(size, parts), node.dtype)  # type: ignore[arg-type]
        labels = tuple(range(node.ndim))
        result = tuple(-1 if label == axis else label for label in labels)
        node = contraction((node, weights), (labels, (-1, axis)), result)
    return node


def _averages(size: int, parts: int) -> np.ndarray:
    """The matrix [parts, size] that takes an axis to the means of its parts."""
    matrix = np.zeros((parts, size))
    for part in range(parts):
        start, stop = part * size // parts, -(-(part + 1) * size // parts)
        matrix[part, start:stop] = 1 / (stop - start)
    return matrix


@surface
def upsample(x: Any, scale: Any, layout: str = "NCHW") -> Node:
    """x with every element of its spatial axes repeated `scale` times (an integer, or one for each
    axis): the nearest element.
    """
    node = as_node(x)
    axes: Ints = spatial_axes(node, layout, "upsample")
    scales = dict(zip(axes, each(scale, len(axes), "scale", "upsample"), strict=True))
    apart: list[Extent] = []
    kept = []
    for axis, size in enumerate(node.shape):
        kept.append(len(apart))
        apart += [size, scales[axis]] if axis in scales else [size]
    shape = tuple(size * scales.get(axis, 1) for axis, size in enumerate(node.shape))
    return reshape(broadcast(node, tuple(apart), tuple(kept)), shape)
