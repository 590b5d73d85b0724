"""Which value has a given part of the others below it?  Medians and quantiles, by sorting.

Their derivatives are those of the sorted elements that they are made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Bounds, Extent, product
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import like, maximum, minimum
from graphc.ops.compare import isnan
from graphc.ops.indexing import take_along_axis
from graphc.ops.movement import reshape, transpose
from graphc.ops.operands import (
    as_node,
    broadcast,
    cast,
    describe,
    extent,
    normalize_axes,
)
from graphc.ops.reduce import keep_axes, refuse_out, sum_
from graphc.ops.sorting import sort_op
from graphc.ops.special import project, where_op
from graphc.tensor import SURFACE, surface


def _sorted_last(x: Node, axes: tuple[int, ...], name: str) -> tuple[Node, Extent]:
    """x sorted along its last axis, into which `axes` have been merged; how many elements that is.

    Where these may be none, a NaN comes behind them: it is what there is to be found then.
    """
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    size = product(x.shape[a] for a in axes)
    if size == 0 or not axes:
        raise GraphError(f"{name} over no elements has no value\n" + describe([x]))
    lines = reshape(transpose(x, (*kept, *axes)), (*(x.shape[a] for a in kept), size))
    found = project(sort_op(lines, descending=False), 0)
    if not isinstance(size, int) and not Bounds({}).proves_nonnegative(size - 1):
        behind = [(0, 0)] * (found.ndim - 1) + [(0, 1)]
        found = SURFACE["pad"](found, behind, constant_values=float("nan"))
    return found, size


def _at(lines: Node, position: Node) -> Node:
    """The element of each line at its position."""
    shape = (*lines.shape[:-1], 1)
    where = broadcast(position, shape, tuple(range(position.ndim)))
    return reshape(take_along_axis(lines, where, -1), lines.shape[:-1])


def _numbers_in(lines: Node, size: Extent, skip_nan: bool) -> Node:
    """How many elements of each line count (int64)."""
    if not skip_nan:
        return broadcast(extent(size), lines.shape[:-1], ())
    whole = broadcast(extent(lines.shape[-1]), lines.shape[:-1], ())
    return whole - sum_(isnan(lines), axis=-1)


def _median_of(lines: Node, size: Extent, skip_nan: bool) -> Node:
    """The mean of the two middle elements, which are one if their number is odd."""
    count = _numbers_in(lines, size, skip_nan)
    last = _last(count)
    low, high = _half(last), minimum(_half(count), last)
    first, second = _at(lines, low), _at(lines, high)
    middle = where_op(low == high, first, (first + second) / 2.0)
    return _with_gaps(lines, middle, count, skip_nan)


def _half(count: Node) -> Node:
    """count // 2, of a number that is not negative."""
    return cast(cast(count, dtypes.FLOAT64) * 0.5, dtypes.INT64)


def _last(count: Node) -> Node:
    """The position of the last element that counts; 0 if there is none."""
    return maximum(count - 1, 0)


def _with_gaps(lines: Node, value: Node, count: Node, skip_nan: bool) -> Node:
    """NaN where a line has one, which is the last element then, or where it has nothing else."""
    nothing = count == like(count, 0) if skip_nan else isnan(_at(lines, _last(count)))
    return where_op(nothing, like(value, float("nan")), value)


def _middle(
    name: str, x: Any, axis: Any, out: Any, overwrite: bool, keepdims: bool, skip_nan: bool
) -> Node:
    refuse_out(name, out)
    if overwrite:
        raise GraphError(f"{name}: overwrite_input is not supported: arguments are never changed")
    node = as_node(x)
    node = cast(node, dtypes.mean_dtype(node.dtype))
    axes = normalize_axes(axis, node, name)
    if node.ndim == 0:
        return node
    found = _median_of(*_sorted_last(node, axes, name), skip_nan)
    return keep_axes(found, node.shape, axes) if keepdims else found


@surface
def median(
    x: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Node:
    """The middle element over `axis`, or the mean of the middle two; NaN if there is one, or where
    a named dimension is 0.
    """
    return _middle("median", x, axis, out, overwrite_input, keepdims, False)


@surface
def nanmedian(
    x: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Node:
    """The median over `axis` of what is not NaN; NaN where there is nothing else."""
    return _middle("nanmedian", x, axis, out, overwrite_input, keepdims, True)


def _parts(name: str, q: Any, most: float) -> np.ndarray[Any, Any]:
    """The wanted parts as a constant array between 0 and 1."""
    if isinstance(q, Node):
        raise GraphError(f"{name}: q is a number or an array of numbers, not an expression")
    given = np.asarray(q, "float64") / most
    if not np.all((given >= 0) & (given <= 1)):
        raise GraphError(f"{name}: q lies between 0 and {most:g}, got {q!r}")
    return given


def _quantile(
    name: str,
    x: Any,
    q: Any,
    axis: Any,
    out: Any,
    overwrite: bool,
    method: str,
    keepdims: bool,
    weights: Any,
    most: float,
    skip_nan: bool,
) -> Node:
    from graphc.ops.joining import stack

    refuse_out(name, out)
    if overwrite:
        raise GraphError(f"{name}: overwrite_input is not supported: arguments are never changed")
    if method != "linear":
        raise GraphError(f"{name}: the method is 'linear', got {method!r}; see gx.sort for others")
    if weights is not None:
        raise GraphError(f"{name}: weights are not supported; sort, and sum the sorted weights")
    node, parts = as_node(x), _parts(name, q, most)
    real = dtypes.mean_dtype(node.dtype)
    # NumPy 2: a number takes the dtype of x, an array has its own
    if parts.ndim or isinstance(q, (np.ndarray, np.generic)):
        real = dtypes.promote(real, dtypes.mean_dtype(as_node(q).dtype))
    node = cast(node, real)
    axes = normalize_axes(axis, node, name)
    if node.ndim == 0:
        return node if not parts.ndim else broadcast(node, parts.shape, ())
    lines, size = _sorted_last(node, axes, name)
    found = [_quantile_of(lines, size, float(part), skip_nan) for part in parts.ravel()]
    if keepdims:
        found = [keep_axes(one, node.shape, axes) for one in found]
    if not parts.ndim:
        return found[0]
    if not found:
        raise GraphError(f"{name}: q has no elements")
    return reshape(stack(found), (*parts.shape, *found[0].shape))


def _quantile_of(lines: Node, size: Extent, part: float, skip_nan: bool) -> Node:
    """Between the two elements around position part * (count - 1), in proportion."""
    count = _numbers_in(lines, size, skip_nan)
    real = cast(count, dtypes.FLOAT64)
    place = maximum(real - 1.0, 0.0) * part
    low = cast(place, dtypes.INT64)
    weight = cast(place - cast(low, dtypes.FLOAT64), lines.dtype)
    last = _last(count)
    first, second = _at(lines, minimum(low, last)), _at(lines, minimum(low + 1, last))
    return _with_gaps(lines, _between(first, second, weight), count, skip_nan)


def _between(first: Node, second: Node, weight: Node) -> Node:
    """From the nearer end, as NumPy has it: exact at both, and monotonic."""
    apart = second - first
    near = first + apart * weight
    far = second - apart * (like(weight, 1) - weight)
    found = where_op(weight >= like(weight, 0.5), far, near)
    return where_op(first == second, first, found)


@surface
def quantile(
    x: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Node:
    """The value below which a part `q` (0 to 1, constant) of the elements over `axis` lies.

    Interpolated linearly between neighbours. An array of q makes leading axes. NaN if there is one,
    or where a named dimension is 0.
    """
    return _quantile(
        "quantile", x, q, axis, out, overwrite_input, method, keepdims, weights, 1.0, False
    )


@surface
def percentile(
    x: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Node:
    """`quantile` with q from 0 to 100."""
    return _quantile(
        "percentile", x, q, axis, out, overwrite_input, method, keepdims, weights, 100.0, False
    )


@surface
def nanquantile(
    x: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Node:
    """`quantile` of what is not NaN; NaN where there is nothing else."""
    return _quantile(
        "nanquantile", x, q, axis, out, overwrite_input, method, keepdims, weights, 1.0, True
    )


@surface
def nanpercentile(
    x: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Node:
    """`percentile` of what is not NaN; NaN where there is nothing else."""
    return _quantile(
        "nanpercentile", x, q, axis, out, overwrite_input, method, keepdims, weights, 100.0, True
    )
