"""What value does a curve have at a point?  Tables, and angles that run on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import like, minimum
from graphc.ops.compare import isnan
from graphc.ops.composed import clip
from graphc.ops.cumulative import cumsum
from graphc.ops.differences import diff
from graphc.ops.division import remainder
from graphc.ops.indexing import take
from graphc.ops.joining import concatenate, piece
from graphc.ops.operands import (
    as_node,
    broadcast_together,
    cast,
    constant,
    describe,
    normalize_axis,
)
from graphc.ops.sorting import argsort, searchsorted
from graphc.ops.special import where
from graphc.tensor import surface


def _table(xp: Any, fp: Any) -> tuple[Node, Node]:
    """The points of a table in float64, of one length."""
    points, values = cast(as_node(xp), dtypes.FLOAT64), cast(as_node(fp), dtypes.FLOAT64)
    if points.ndim != 1 or values.ndim != 1:
        raise GraphError("interp: the table is two arrays of rank 1\n" + describe([points, values]))
    sizes = (points.shape[0], values.shape[0])
    if sizes[0] != sizes[1] and (1 in sizes or all(isinstance(size, int) for size in sizes)):
        raise GraphError("interp: one value for each point\n" + describe([points, values]))
    if sizes[0] == 0:
        raise GraphError("interp: the table is empty\n" + describe([points]))
    first, second = broadcast_together("interp", [points, values])
    return first, second


@surface
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Node:
    """The piecewise linear function through the points (xp, fp) at each element of x, in float64.

    `xp` rises. Before its first point the value is `left` or fp[0], after its last `right` or
    fp[-1]. With `period`, x and xp are angles of that period, xp in any order, and `left` and
    `right` are ignored.
    """
    at, (points, values) = cast(as_node(x), dtypes.FLOAT64), _table(xp, fp)
    if period is not None:
        if isinstance(period, (int, float)) and period == 0:
            raise GraphError("interp: the period is not 0")
        size = abs(period)
        at, points = remainder(at, size), remainder(points, size)
        order = argsort(points)
        points, values = take(points, order), take(values, order)
        first, top = points[:1] + size, points[-1:] - size
        missing = isnan(top)  # points that are NaN come last: the line has to be sorted
        ends = where(missing, -math.inf, top), where(missing, math.nan, first)
        points = concatenate([ends[0], points, ends[1]])
        values = concatenate([values[-1:], values, values[:1]])
        left = right = None
    last = points.shape[0] - 1
    before = clip(searchsorted(points, at, side="right") - 1, 0, last)
    after = minimum(before + 1, last)
    x0, x1, y0, y1 = (take(a, i) for a in (points, values) for i in (before, after))
    slope = (y1 - y0) / (x1 - x0)
    from_before, from_after = slope * (at - x0) + y0, slope * (at - x1) + y1
    # Infinite values have slopes that are no numbers; the points themselves, and flat pieces, have
    # their values all the same. NumPy decides in this order, too.
    otherwise = where(isnan(from_after) & (y0 == y1), y0, from_after)
    inner = where(isnan(from_before), where(at == x0, y0, otherwise), from_before)
    inner = where(at == points[-1], values[-1], inner)
    inner = where(at > points[-1], values[-1] if right is None else right, inner)
    inner = where(at < points[0], values[0] if left is None else left, inner)
    return where(isnan(at), at, inner)


@surface
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * math.pi) -> Node:
    """p with whole periods added along `axis`, such that no step is larger than `discont`, which
    is half a period unless it is more. An integer period keeps integers.
    """
    node = as_node(p)
    where_ = normalize_axis(axis, node, "unwrap")
    steps = diff(node, axis=where_)
    dtype = np.result_type(steps.dtype, period)
    steps = cast(steps, dtype)
    if dtypes.is_integer(dtype):
        high, odd = divmod(period, 2)
    else:
        high, odd = period / 2, 0
    wrapped = remainder(steps + high, period) - high
    if not odd:  # half a period may go either way: the way of the step
        wrapped = where((wrapped == -high) & (steps > 0), constant(high, dtype), wrapped)
    small = abs(steps) < (period / 2 if discont is None else discont)
    corrections = cumsum(where(small, like(steps, 0), wrapped - steps), axis=where_)
    node = cast(node, dtype)
    first = piece(node, where_, 0, 1)
    rest = piece(node, where_, 1, node.shape[where_] - 1)
    return concatenate([first, rest + corrections], axis=where_)
