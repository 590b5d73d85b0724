"""How does a sequence change, and what does it add up to?  Differences, slopes, areas."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.joining import concatenate
from graphc.ops.movement import reshape, slice_op
from graphc.ops.operands import (
    as_node,
    broadcast,
    cast,
    check_parts,
    describe,
    normalize_axes,
    normalize_axis,
)
from graphc.ops.reduce import sum_
from graphc.tensor import surface


def _part(x: Node, axis: int, start: Extent, count: Extent) -> Node:
    """`count` elements along an axis, from `start` on."""
    starts = tuple(start if a == axis else 0 for a in range(x.ndim))
    extents = tuple(count if a == axis else size for a, size in enumerate(x.shape))
    return slice_op(x, starts=starts, extents=extents, steps=(1,) * x.ndim)


def _pair(x: Node, axis: int, apart: int = 1) -> tuple[Node, Node]:
    """The elements that have one `apart` places behind them, and those."""
    count = x.shape[axis] - apart
    return _part(x, axis, 0, count), _part(x, axis, apart, count)


def _need(name: str, x: Node, axis: int, least: int) -> None:
    size = x.shape[axis]
    if isinstance(size, int) and size < least:
        raise GraphError(
            f"{name} needs at least {least} elements along axis {axis}\n" + describe([x])
        )


def _beside(value: Any, node: Node, axis: int) -> Node:
    """What is put before or after: a number stands for one element a line."""
    other = as_node(value)
    if other.ndim:
        return other
    shape = tuple(1 if a == axis else size for a, size in enumerate(node.shape))
    return broadcast(other, shape, ())


@surface
def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Node:
    """x[i+1] - x[i] along `axis`, `n` times over; whether they differ, for bool.

    `prepend` and `append` are joined to x first: arrays, or a number for one element a line.
    """
    node = as_node(x)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise GraphError(f"diff: n counts differences, got {n!r}")
    if node.ndim == 0:
        raise GraphError("diff needs an array of rank 1 or more\n" + describe([node]))
    if n == 0:
        return node
    where = normalize_axis(axis, node, "diff")
    parts = [node]
    if prepend is not None:
        parts.insert(0, _beside(prepend, node, where))
    if append is not None:
        parts.append(_beside(append, node, where))
    node = concatenate(parts, axis=where)
    for _ in range(check_parts(int(n), "diff", "n")):
        if node.shape[where] == 0:
            return node
        first, second = _pair(node, where)
        node = second != first if dtypes.kind(node.dtype) == "b" else second - first
    return node


@surface
def ediff1d(x: Any, to_end: Any = None, to_begin: Any = None) -> Node:
    """The differences of the flattened x, with what is given before and after them."""
    node = as_node(x)
    flat = reshape(node, (node.size,))
    parts = [diff(flat)]
    for given, place in ((to_begin, 0), (to_end, 2)):
        if given is not None:
            other = as_node(given)
            flat_other = cast(reshape(other, (other.size,)), flat.dtype)
            parts.insert(place, flat_other)
    return concatenate(parts)


def _spacings(spacing: tuple[Any, ...], count: int) -> list[Any]:
    if not spacing:
        return [1.0] * count
    given = list(spacing) * count if len(spacing) == 1 else list(spacing)
    if len(given) != count:
        raise GraphError(f"gradient: one spacing, or one for each of {count} axes")
    for value in given:
        if np.ndim(getattr(value, "shape", value)) and as_node(value).ndim:
            raise GraphError(
                "gradient: coordinates of single points are not supported; give one spacing an "
                "axis\nFor uneven points, divide gx.diff of values by gx.diff of coordinates."
            )
    return given


@surface
def gradient(x: Any, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """The slope along each axis; a tuple of slopes if there are several.

    Central differences inside, one-sided ones of order `edge_order` (1 or 2) at the ends. `spacing`
    is one number, or one for each axis.
    """
    node = as_node(x)
    axes = normalize_axes(axis, node, "gradient")
    if isinstance(axis, (tuple, list)):
        axes = tuple(normalize_axis(a, node, "gradient") for a in axis)
    if edge_order not in (1, 2):
        raise GraphError(f"gradient: edge_order is 1 or 2, got {edge_order!r}")
    node = cast(node, dtypes.mean_dtype(node.dtype))
    slopes = [
        _slope(node, a, step, edge_order)
        for a, step in zip(axes, _spacings(spacing, len(axes)), strict=True)
    ]
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


def _slope(x: Node, axis: int, step: Any, order: int) -> Node:
    _need("gradient", x, axis, order + 1)
    size = x.shape[axis]
    before, after = _pair(x, axis, 2)
    inside = (after - before) / (2.0 * step)

    def at(place: int) -> Node:
        return _part(x, axis, place if place >= 0 else size + place, 1)

    if order == 1:
        first, last = (at(1) - at(0)) / step, (at(-1) - at(-2)) / step
    else:
        first = (-1.5 / step) * at(0) + (2.0 / step) * at(1) + (-0.5 / step) * at(2)
        last = (0.5 / step) * at(-3) + (-2.0 / step) * at(-2) + (1.5 / step) * at(-1)
    return concatenate([first, inside, last], axis=axis)


@surface
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Node:
    """The area under y along `axis` by the trapezoidal rule, at points x or `dx` apart."""
    node = as_node(y)
    where = normalize_axis(axis, node, "trapezoid")
    _need("trapezoid", node, where, 1)
    first, second = _pair(node, where)
    if x is None:
        return sum_((first + second) * dx / 2.0, axis=where)
    points = as_node(x)
    if points.ndim == 1:
        widths = diff(points)
        shape = tuple(widths.shape[0] if a == where else 1 for a in range(node.ndim))
        widths = broadcast(widths, shape, (where,))
    else:
        widths = diff(points, axis=where)
    return sum_(widths * (first + second) / 2.0, axis=where)
