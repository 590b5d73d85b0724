"""What do statistics make of reductions?  Variances, averages, covariances, with gaps or without.

Everything here is a graph of other ops. A variance is computed in two passes, as in NumPy: the
mean, then the squares of what differs from it; both passes stand in one kernel where rows are
reduced. The functions named nan... leave NaN out; a line of nothing else gives NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, dim_max, product
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import like, maximum, sqrt
from graphc.ops.compare import isnan
from graphc.ops.cumulative import cumprod, cumsum
from graphc.ops.operands import (
    as_node,
    broadcast,
    cast,
    constant,
    describe,
    extent,
    normalize_axes,
    operands,
)
from graphc.ops.reduce import (
    all_,
    argmax,
    argmin,
    count_of,
    keep_axes,
    mask_for,
    max_,
    mean,
    min_,
    prod_,
    refuse_out,
    selected,
    spread,
    sum_,
    sum_op,
)
from graphc.ops.special import check, where_op
from graphc.tensor import surface
from graphc.types import Shape


def root(x: Node) -> Node:
    """The square root of a sum of squares; its derivative at 0 is taken as 0, not as infinite."""
    nothing = x == like(x, 0)
    return where_op(nothing, like(x, 0), sqrt(where_op(nothing, like(x, 1), x)))


# -- variances -------------------------------------------------------------------------------------


def _correction(ddof: Any, correction: Any) -> int | float:
    if correction is not None and not (isinstance(ddof, int) and ddof == 0):
        raise GraphError("ddof and correction are two names of one number: give one of them")
    given = ddof if correction is None else correction
    if isinstance(given, bool) or not isinstance(given, (int, float, np.integer, np.floating)):
        raise GraphError(f"ddof is a number, got {given!r}")
    return given.item() if isinstance(given, np.generic) else given


def _freedom(node: Node, axes: tuple[int, ...], mask: Node | None, ddof: int | float) -> Node:
    """The number of elements less `ddof`, never below 0, to divide by."""
    size = product(node.shape[a] for a in axes)
    if mask is None and isinstance(ddof, int):
        free = dim_max(size - ddof, 0)
        return constant(free, node.dtype) if isinstance(free, int) else extent(free, node.dtype)
    return maximum(count_of(node, axes, mask, False) - ddof, 0)


def _float_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """The dtype that is asked for, which has to be one of floats."""
    wanted = dtypes.as_dtype(dtype)
    if not dtypes.is_float(wanted):
        raise GraphError(
            f"{name} is a float, not {wanted.name}: leave dtype out, and round the result"
        )
    return wanted


def _variance(
    name: str,
    x: Any,
    axis: Any,
    dtype: Any,
    out: Any,
    ddof: Any,
    keepdims: bool,
    where: Any,
    given_mean: Any,
    correction: Any,
) -> Node:
    refuse_out(name, out)
    node, less = as_node(x), _correction(ddof, correction)
    wanted = dtypes.mean_dtype(node.dtype) if dtype is None else _float_dtype(name, dtype)
    node = cast(node, dtypes.accumulator(wanted))  # of 16-bit floats the result is rounded once
    axes = normalize_axes(axis, node, name)
    mask = mask_for(where, node, name)
    if given_mean is None:
        center = mean(node, axes, where=True if mask is None else mask)
        middle = spread(center, node.shape, axes)
    else:
        node, middle = operands(name, node, given_mean, real=True)
        wanted = dtypes.promote(wanted, node.dtype)
    apart = selected(node - middle, mask, 0)
    total = sum_op(apart * apart, axes=axes) if axes else apart * apart
    found = cast(total / _freedom(node, axes, mask, less), wanted)
    return keep_axes(found, node.shape, axes) if keepdims else found


@surface
def var(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Node:
    """The variance over `axis`: the mean of (x - mean)**2, with `ddof` taken from the count.

    `correction` is another name of `ddof`; `mean` may be given where it is known (with the reduced
    axes kept). NaN where no freedom is left, as for one element with ddof=1.
    """
    return _variance("var", x, axis, dtype, out, ddof, keepdims, where, mean, correction)


@surface
def std(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Node:
    """The standard deviation over `axis`, the root of `var`; its derivative at 0 is taken as 0."""
    return root(_variance("std", x, axis, dtype, out, ddof, keepdims, where, mean, correction))


@surface
def average(
    x: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    """The mean over `axis`, weighted; with `returned` also the sum of the weights.

    `weights` has x's shape, or that of the axes that are averaged.
    """
    node = as_node(x)
    axes = normalize_axes(axis, node, "average")
    if weights is None:
        node = cast(node, dtypes.mean_dtype(node.dtype))
        found = mean(node, axes, keepdims=keepdims)
        total = spread_count(count_of(node, axes, None, False), found)
    else:
        weight = as_node(weights)
        real = dtypes.promote(dtypes.mean_dtype(node.dtype), weight.dtype)
        node, weight = cast(node, real), _weights(node, cast(weight, real), axis, axes)
        total = sum_(weight, axes, keepdims=keepdims)
        found = sum_(node * weight, axes, keepdims=keepdims) / total
    return (found, total) if returned else found


def spread_count(count: Node, of: Node) -> Node:
    """A rank-0 count at the shape of what it counts for."""
    return broadcast(count, of.shape, ()) if of.ndim else count


def _weights(node: Node, weight: Node, axis: Any, axes: tuple[int, ...]) -> Node:
    """Weights at the shape of what they weigh."""
    if weight.shape == node.shape:
        return weight
    order = axes
    if isinstance(axis, (tuple, list)):  # axes of the weights come in the order that is given
        order = tuple(int(a) % node.ndim for a in axis)
    if axis is None or weight.shape != tuple(node.shape[a] for a in order):
        raise GraphError(
            "average: weights have the shape of x, or with `axis` that of the averaged axes\n"
            + describe([node, weight])
        )
    from graphc.ops.movement import transpose

    by_axis = sorted(range(len(order)), key=lambda i: order[i])
    return broadcast(transpose(weight, by_axis) if weight.ndim else weight, node.shape, axes)


# -- gaps ------------------------------------------------------------------------------------------


def _present(x: Any, where: Any, name: str) -> tuple[Node, Node | None]:
    """The elements as a node, and which of them are numbers; None if all of them must be."""
    node = as_node(x)
    mask = mask_for(where, node, name)
    if dtypes.kind(node.dtype) != "f":
        return node, mask
    number = ~isnan(node)
    return node, number if mask is None else number & mask


@surface
def nansum(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The sum over `axis` with NaN taken as 0."""
    node, mask = _present(x, where, "nansum")
    return sum_(node, axis, dtype, out, keepdims, initial, True if mask is None else mask)


@surface
def nanprod(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The product over `axis` with NaN taken as 1."""
    node, mask = _present(x, where, "nanprod")
    return prod_(node, axis, dtype, out, keepdims, initial, True if mask is None else mask)


@surface
def nancumsum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Node:
    """The running sum along `axis` with NaN taken as 0."""
    return cumsum(_numbers(x, 0), axis, dtype, out)


@surface
def nancumprod(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Node:
    """The running product along `axis` with NaN taken as 1."""
    return cumprod(_numbers(x, 1), axis, dtype, out)


def _numbers(x: Any, otherwise: int) -> Node:
    node = as_node(x)
    if not dtypes.is_float(node.dtype):
        return node
    return where_op(isnan(node), like(node, otherwise), node)


@surface
def nanmean(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Node:
    """The mean over `axis` of what is not NaN; NaN where there is nothing else."""
    node, mask = _present(x, where, "nanmean")
    if dtype is not None and dtypes.is_float(node.dtype):
        dtype = _float_dtype("nanmean", dtype)
    return mean(node, axis, dtype, out, keepdims, where=True if mask is None else mask)


def _nan_extremum(
    function: Any, name: str, x: Any, axis: Any, out: Any, keepdims: bool, initial: Any, where: Any
) -> Node:
    from graphc.ops.reduce import any_

    node, mask = _present(x, where, name)
    if dtypes.kind(node.dtype) != "f":
        return function(node, axis, out, keepdims, initial, where)
    if initial is None and where is not True:
        return function(node, axis, out, keepdims, None, where)  # says what is wrong
    bottom = float("-inf") if function is max_ else float("inf")
    found = function(selected(node, mask, bottom), axis, out, keepdims, initial)
    if initial is not None:
        return found
    some = any_(mask, axis, keepdims=keepdims)
    return where_op(some, found, like(found, float("nan")))


@surface
def nanmax(
    x: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The largest number over `axis`; NaN where there is nothing else."""
    return _nan_extremum(max_, "nanmax", x, axis, out, keepdims, initial, where)


@surface
def nanmin(
    x: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The smallest number over `axis`; NaN where there is nothing else."""
    return _nan_extremum(min_, "nanmin", x, axis, out, keepdims, initial, where)


@surface
def nanargmax(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Node:
    """The first position of the largest number along `axis`. A line of nothing but NaN is an error
    of the call, as in NumPy.
    """
    return _nan_position(argmax, "nanargmax", -math.inf, x, axis, out, keepdims)


@surface
def nanargmin(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Node:
    """The first position of the smallest number along `axis`. A line of nothing but NaN is an error
    of the call, as in NumPy.
    """
    return _nan_position(argmin, "nanargmin", math.inf, x, axis, out, keepdims)


def _nan_position(
    position_of: Any, name: str, last: float, x: Any, axis: Any, out: Any, keepdims: bool
) -> Node:
    node = as_node(x)
    if not dtypes.is_float(node.dtype):
        return position_of(node, axis, out, keepdims=keepdims)
    gap = isnan(node)
    # A number that is as far as the filling wins where it comes first, or is all there is.
    found = position_of(where_op(gap, like(node, last), node), axis, keepdims=keepdims)
    first = argmin(gap, axis, keepdims=keepdims)
    extreme = (max_ if last < 0 else min_)(
        where_op(gap, like(node, last), node), axis, keepdims=keepdims
    )
    place = where_op(extreme == last, first, found)
    return check(place, ~all_(gap, axis, keepdims=keepdims), f"{name}: a line of nothing but NaN")


def _nan_variance(
    name: str,
    x: Any,
    axis: Any,
    dtype: Any,
    out: Any,
    ddof: Any,
    keepdims: bool,
    where: Any,
    given_mean: Any,
    correction: Any,
) -> Node:
    """As `_variance`, but NaN where `ddof` leaves no freedom: NumPy has it so."""
    node, mask = _present(x, where, name)
    if mask is None:
        return _variance(
            name, node, axis, dtype, out, ddof, keepdims, where, given_mean, correction
        )
    found = _variance(name, node, axis, dtype, out, ddof, keepdims, mask, given_mean, correction)
    axes = normalize_axes(axis, node, name)
    count = count_of(cast(node, dtypes.accumulator(found.dtype)), axes, mask, keepdims)
    enough = count > like(count, _correction(ddof, correction))
    return where_op(enough, found, like(found, float("nan")))


@surface
def nanvar(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Node:
    """The variance over `axis` of what is not NaN."""
    return _nan_variance("nanvar", x, axis, dtype, out, ddof, keepdims, where, mean, correction)


@surface
def nanstd(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Node:
    """The standard deviation over `axis` of what is not NaN."""
    return root(
        _nan_variance("nanstd", x, axis, dtype, out, ddof, keepdims, where, mean, correction)
    )


# -- covariances -----------------------------------------------------------------------------------


def _observations(name: str, x: Any, rowvar: bool) -> Node:
    """Variables as rows."""
    node = as_node(x)
    if node.ndim > 2:
        raise GraphError(f"{name} takes arrays of rank 1 or 2\n" + describe([node]))
    if node.ndim < 2:
        return broadcast(node, (1, *node.shape) if node.ndim else (1, 1), (1,) if node.ndim else ())
    return node if rowvar else node.T


def _frequencies(name: str, weights: Any, shape: Shape, dtype: Any) -> Node:
    node = as_node(weights)
    if node.shape != shape[1:]:
        raise GraphError(
            f"{name} has one weight for each of {shape[1]} observations\n" + describe([node])
        )
    if name == "fweights" and dtypes.kind(node.dtype) not in "iub":
        raise GraphError("fweights are counts: integers\n" + describe([node]))
    return cast(node, dtype)


@surface
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Node:
    """The covariance matrix of variables (rows of m and y; columns if not `rowvar`).

    Divided by N - 1, by N with `bias`, by N - `ddof` if given. `fweights` are counts of
    observations, `aweights` their relative importance. One variable gives a rank-0 result. In
    float64, as in NumPy, unless `dtype` is given.
    """
    from graphc.ops.contract import matmul
    from graphc.ops.joining import concatenate
    from graphc.ops.movement import reshape

    x = _observations("cov", m, rowvar)
    if y is not None:
        x = concatenate([x, _observations("cov", y, rowvar)], axis=0)
    wide = dtypes.promote(x.dtype, dtypes.FLOAT64)
    x = cast(x, wide if dtype is None else _float_dtype("cov", dtype))
    if ddof is not None and (isinstance(ddof, bool) or not isinstance(ddof, (int, np.integer))):
        raise GraphError(f"cov: ddof is an integer, got {ddof!r}")
    less = int(not bias) if ddof is None else int(ddof)
    weights: Node | None = None
    if fweights is not None:
        weights = _frequencies("fweights", fweights, x.shape, x.dtype)
    if aweights is not None:
        importance = _frequencies("aweights", aweights, x.shape, x.dtype)
        weights = importance if weights is None else weights * importance
    count = x.shape[1]
    if weights is None:
        center = mean(x, axis=1, keepdims=True)
        factor: Any = dim_max(count - less, 0)
        factor = extent(factor, x.dtype) if isinstance(factor, Dim) else constant(factor, x.dtype)
    else:
        whole = sum_(weights)
        center = sum_(x * weights, axis=1, keepdims=True) / whole
        if less == 0:
            factor = whole
        elif aweights is None:
            factor = whole - less
        else:
            factor = whole - less * sum_(weights * importance) / whole
        factor = maximum(factor, 0)
    apart = x - center
    scaled = apart if weights is None else apart * weights
    found = matmul(apart, scaled.T) / factor
    return reshape(found, ()) if found.shape == (1, 1) else found


@surface
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Node:
    """The correlation coefficients of variables: covariances over deviations, within [-1, 1]."""
    from graphc.ops.arithmetic import minimum
    from graphc.ops.movement import expand_dims

    found = cov(x, y, rowvar, dtype=dtype)
    if found.ndim == 0:
        return found / found
    size = found.shape[0]
    own = where_op(_diagonal(size, found), found, like(found, 0))
    deviation = sqrt(sum_(own, axis=1))
    scaled = found / expand_dims(deviation, 1) / expand_dims(deviation, 0)
    return minimum(maximum(scaled, -1.0), 1.0)


def _diagonal(size: Any, like_: Node) -> Node:
    from graphc.ops.movement import iota_op

    rows, columns = (iota_op(shape=like_.shape, axis=axis, dtype=dtypes.INT64) for axis in (0, 1))
    return rows == columns
