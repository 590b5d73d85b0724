"""Which arrays are made of nothing but their positions?  zeros, arange, linspace, eye, indices.

They are generated where they are read, never stored. Extents may be named. The ends of a range may
be nodes where its length does not depend on them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, ceildiv, dim_max
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.movement import broadcast_to, expand_dims, iota_op, moveaxis, reshape
from graphc.ops.operands import (
    as_node,
    broadcast,
    cast,
    check_parts,
    constant,
    describe,
    extent,
    normalize_axis,
    operands,
    to_shape,
)
from graphc.tensor import alias, surface
from graphc.types import Shape, as_extent, as_shape


@surface
def iota(shape: Any, axis: int = 0, dtype: Any = "int64") -> Node:
    """Each element is its own position along `axis`."""
    extents = as_shape(shape)
    where = normalize_axis(axis, len(extents), "iota")
    return iota_op(shape=extents, axis=where, dtype=dtypes.as_dtype(dtype))


@surface
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Node:
    """`fill_value`, broadcast to `shape`."""
    if dtype is None or isinstance(fill_value, Node):
        node = as_node(fill_value) if dtype is None else cast(as_node(fill_value), dtype)
    elif isinstance(fill_value, Dim):
        node = extent(fill_value, dtype)
    else:
        node = cast(constant(fill_value), dtype)
    wanted = as_shape(shape)
    if node.ndim > len(wanted):
        raise GraphError(f"full: the value does not fit shape {wanted}\n" + describe([node]))
    return broadcast_to(node, wanted)


@surface
def zeros(shape: Any, dtype: Any = "float64") -> Node:
    """Zeros."""
    return full(shape, 0, dtype)


@surface
def ones(shape: Any, dtype: Any = "float64") -> Node:
    """Ones."""
    return full(shape, 1, dtype)


@surface
def empty(shape: Any, dtype: Any = "float64") -> Node:
    """Zeros: an expression has no undefined values."""
    return full(shape, 0, dtype)


@surface
def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Node:
    """`fill_value` at the shape and dtype of x, unless others are given."""
    node = as_node(x)
    return full(node.shape if shape is None else shape, fill_value, dtype or node.dtype)


@surface
def zeros_like(x: Any, dtype: Any = None, shape: Any = None) -> Node:
    """Zeros at the shape and dtype of x, unless others are given."""
    return full_like(x, 0, dtype, shape)


@surface
def ones_like(x: Any, dtype: Any = None, shape: Any = None) -> Node:
    """Ones at the shape and dtype of x, unless others are given."""
    return full_like(x, 1, dtype, shape)


@surface
def empty_like(x: Any, dtype: Any = None, shape: Any = None) -> Node:
    """Zeros at the shape and dtype of x: an expression has no undefined values."""
    return full_like(x, 0, dtype, shape)


# -- ranges ----------------------------------------------------------------------------------------


@surface
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Node:
    """start, start + step, ... up to `stop`, exclusive; arange(stop) starts at 0.

    The length must not depend on data: all three are numbers or extents (with a named extent the
    others are integers). `dtype` is that of the numbers unless it is given.
    """
    low, high = (0, start) if stop is None else (start, stop)
    given = {"start": low, "stop": high, "step": step}
    for name, value in given.items():
        if isinstance(value, Node):
            raise GraphError(
                f"arange: the {name} must be known when the graph is built, as the length depends "
                "on it\n" + describe([value]) + "\nUse start + step * gx.arange(length)."
            )
    if any(isinstance(value, Dim) for value in given.values()):
        return _named_range(low, high, step, dtypes.as_dtype(dtype or "int64"))
    try:
        line = np.arange(low, high, step)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise GraphError(f"arange({low!r}, {high!r}, {step!r}): {error}") from None
    wanted = dtypes.as_dtype(dtype or line.dtype)
    # NumPy's elements: the first two decide the step
    values = line.astype(wanted) if dtype is None else np.arange(low, high, step, dtype=wanted)
    first = values[0] if values.size else 0
    by = values[1] - first if values.size > 1 else 0
    return _affine(line.size, first, by, wanted)


def _affine(length: Extent, first: Any, step: Any, dtype: Any) -> Node:
    """first + i * step, in a dtype."""
    line = iota_op(shape=(length,), axis=0, dtype=dtype)
    scaled = line if step == 1 else line * constant(step, dtype)
    return scaled if first == 0 else scaled + constant(first, dtype)


def _named_range(start: Any, stop: Any, step: Any, dtype: Any) -> Node:
    for value in (start, stop, step):
        if not isinstance(value, (int, np.integer, Dim)) or isinstance(value, bool):
            raise GraphError(
                f"arange over a named extent needs integers, got {shortened(repr(value))}"
            )
    if not isinstance(step, (int, np.integer)) or step == 0:
        raise GraphError(f"arange: the step over a named extent is an integer, got {step!r}")
    span = stop - start if step > 0 else start - stop
    length = ceildiv(span, abs(int(step)))
    length = length if start == 0 and step > 0 else dim_max(length, 0)
    line = iota_op(shape=(length,), axis=0, dtype=dtype)
    scaled = line if step == 1 else line * constant(int(step), dtype)
    if isinstance(start, Dim):
        return scaled + extent(start, dtype)
    return scaled if start == 0 else scaled + constant(int(start), dtype)


@surface
def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """`num` values evenly spaced from `start` to `stop`, which may be nodes of any shape; the last
    is `stop` itself if `endpoint`. With `retstep` the pair of these and the spacing.
    """
    count = as_extent(num)
    low, high = operands("linspace", start, stop, integers=dtypes.FLOAT64)
    wanted = dtypes.as_dtype(dtype) if dtype is not None else low.dtype
    parts = count - 1 if endpoint else count
    shape = (count, *low.shape)
    line = broadcast(iota_op(shape=(count,), axis=0, dtype=low.dtype), shape, (0,))
    span = high - low
    step = span / (extent(parts, low.dtype) if not isinstance(parts, int) else max(parts, 1))
    values = line * step + low
    if isinstance(parts, int) and parts <= 0:
        step = to_shape(constant(math.nan, low.dtype), low.shape)
    if endpoint and parts != 0:
        from graphc.ops.special import where

        last = iota_op(shape=(count,), axis=0, dtype=dtypes.INT64) == (
            extent(parts) if not isinstance(parts, int) else parts
        )
        values = where(broadcast(last, shape, (0,)), to_shape(high, shape), values)
    if dtypes.is_integer(wanted):
        values = _floor(values)
    made = _first_axis_to(cast(values, wanted), axis)
    return (made, step) if retstep else made


def _floor(x: Node) -> Node:
    """x rounded down to whole numbers, by way of int64."""
    from graphc.ops.special import where

    whole = cast(cast(x, dtypes.INT64), x.dtype)
    return where(whole > x, whole - 1, whole)


def _first_axis_to(x: Node, axis: int) -> Node:
    """x with its first axis at `axis`."""
    return x if axis == 0 else moveaxis(x, 0, axis)


@surface
def logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Node:
    """`num` values from base**start to base**stop, evenly spaced in the exponent."""
    from graphc.ops.arithmetic import power

    exponents = linspace(start, stop, num, endpoint, axis=axis)
    if isinstance(base, (Node, np.ndarray)) and as_node(base).ndim:
        base = expand_dims(base, axis)
    values = power(base, exponents)
    return values if dtype is None else cast(values, dtype)


@surface
def geomspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
) -> Node:
    """`num` values from `start` to `stop`, each the same multiple of the one before; both ends are
    exact. The ends have one sign.
    """
    from graphc.ops.arithmetic import absolute, sign
    from graphc.ops.special import where
    from graphc.ops.transcend import exp, log

    count = as_extent(num)
    low, high = operands("geomspace", start, stop, real=True)
    parts = count - 1 if endpoint else count
    shape = (count, *low.shape)
    ends = [absolute(low), absolute(high)]
    inner = sign(low) * exp(linspace(log(ends[0]), log(ends[1]), count, endpoint))
    position = broadcast(iota_op(shape=(count,), axis=0, dtype=dtypes.INT64), shape, (0,))
    values = where(position == 0, to_shape(low, shape), inner)
    if endpoint and parts != 0:
        last = extent(parts) if not isinstance(parts, int) else parts
        values = where(position == last, to_shape(high, shape), values)
    made = _first_axis_to(values, axis)
    return made if dtype is None else cast(made, dtype)


# -- grids -----------------------------------------------------------------------------------------


@surface
def indices(dimensions: Any, dtype: Any = "int64", sparse: bool = False) -> Any:
    """The positions along each axis of an array of shape `dimensions`, as one array with the axis
    first; with `sparse` a tuple of arrays that broadcast to it.
    """
    shape, wanted = as_shape(dimensions), dtypes.as_dtype(dtype)
    if not shape:
        return () if sparse else zeros((0,), wanted)
    if sparse:
        return tuple(
            iota_op(
                shape=tuple(e if a == axis else 1 for a, e in enumerate(shape)),
                axis=axis,
                dtype=wanted,
            )
            for axis in range(len(shape))
        )
    from graphc.ops.joining import stack

    return stack([iota_op(shape=shape, axis=axis, dtype=wanted) for axis in range(len(shape))])


@surface
def meshgrid(
    *arrays: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Node, ...]:
    """The arrays of rank 1 spread over the grid that they span, one axis each; with `indexing` "xy"
    the first two axes are exchanged.
    """
    if indexing not in ("xy", "ij"):
        raise GraphError(f"meshgrid: indexing is 'xy' or 'ij', got {shortened(repr(indexing))}")
    nodes = [reshape(as_node(array), (as_node(array).size,)) for array in arrays]
    rank = len(nodes)
    order = list(range(rank))
    if indexing == "xy" and rank > 1:
        order[0], order[1] = 1, 0
    shape: Shape = tuple(nodes[order[axis]].shape[0] for axis in range(rank))
    made = []
    for i, node in enumerate(nodes):
        axis = order.index(i)
        own = tuple(e if a == axis else 1 for a, e in enumerate(shape))
        made.append(broadcast(node, own if sparse else shape, (axis,)))
    return tuple(made)


def ix_(*arrays: Any) -> tuple[Node, ...]:
    """The arrays of rank 1, each along an axis of its own: as positions in x[gx.ix_(rows, columns)]
    they index a rectangle.

    A constant array of bool stands for the positions where it is true.
    """
    from graphc.ops.indexing import static_mask

    found = []
    for i, given in enumerate(arrays):
        mask = static_mask(given, "ix_")
        node = as_node(given if mask is None else np.flatnonzero(mask))
        if node.ndim != 1:
            raise GraphError("ix_ needs arrays of rank 1\n" + describe([node]))
        shape = tuple(node.size if a == i else 1 for a in range(len(arrays)))
        found.append(broadcast(node, shape, (i,)))
    return tuple(found)


alias("ix_", ix_)  # the underscore is part of its name


@surface
def fromfunction(function: Any, shape: Any, *, dtype: Any = "float64", **options: Any) -> Any:
    """`function` of the positions along each axis, an array of `shape` for each."""
    extents, wanted = as_shape(shape), dtypes.as_dtype(dtype)
    grids = [iota_op(shape=extents, axis=axis, dtype=wanted) for axis in range(len(extents))]
    return function(*grids, **options)


@surface
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Node:  # noqa: N803
    """Powers of the elements of x as columns, N of them, the highest first unless `increasing`."""
    from graphc.ops.joining import stack
    from graphc.ops.movement import flip

    node = as_node(x)
    if node.ndim != 1:
        raise GraphError("vander needs an array of rank 1\n" + describe([node]))
    count = node.size if N is None else N
    if not isinstance(count, int):
        raise GraphError(
            f"vander: the number of columns must be known, not {count}; give N\n" + describe([node])
        )
    check_parts(count, "vander", "N")
    node = cast(node, dtypes.promote(node.dtype, dtypes.INT64))
    if count == 0:
        return zeros((*node.shape, 0), node.dtype)
    powers = [ones_like(node)]
    while len(powers) < count:
        powers.append(powers[-1] * node)
    made = stack(powers, axis=1)
    return made if increasing else flip(made, 1)
