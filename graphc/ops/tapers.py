"""With which weights does a segment of a signal fade in and out?  NumPy's window functions.

The length M may be an extent. Each is 1 in the middle, and symmetric; one point has weight 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, dim_max
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.arithmetic import sqrt
from graphc.ops.bessel import i0
from graphc.ops.movement import iota_op
from graphc.ops.operands import as_node, cast, extent
from graphc.ops.trigonometry import cos
from graphc.tensor import surface

__all__ = ["bartlett", "blackman", "hamming", "hanning", "kaiser"]


def _fractions(name: str, M: Any) -> Node:  # noqa: N803
    """From -1 to 1 in M equal steps (float64); 0 where there is one point."""
    if isinstance(M, (bool, np.bool_)) or not isinstance(M, (int, np.integer, Dim)):
        raise GraphError(f"{name}: the number of points is an integer, got {shortened(repr(M))}")
    count: Extent = M if isinstance(M, Dim) else int(M)
    line = cast(iota_op(shape=(dim_max(count, 0),), axis=0, dtype=dtypes.INT64), dtypes.FLOAT64)
    steps = cast(extent(dim_max(count - 1, 1)), dtypes.FLOAT64)
    ends = cast(extent(count - 1), dtypes.FLOAT64)
    return (2 * line - ends) / steps


def _of_cosines(name: str, weights: tuple[float, ...], formula: str) -> Callable[[Any], Node]:
    def window(M: Any) -> Node:  # noqa: N803
        angle = math.pi * _fractions(name, M)
        total = as_node(weights[0]) + weights[1] * cos(angle)
        for times, weight in enumerate(weights[2:], 2):
            total = total + weight * cos(times * angle)
        return total

    window.__name__ = window.__qualname__ = name
    window.__module__ = __name__
    window.__doc__ = f"{formula} for M points t from -1 to 1, in float64."
    return surface(window)


hanning = _of_cosines("hanning", (0.5, 0.5), "0.5 + 0.5 cos(pi t)")
hamming = _of_cosines("hamming", (0.54, 0.46), "0.54 + 0.46 cos(pi t)")
blackman = _of_cosines("blackman", (0.42, 0.5, 0.08), "0.42 + 0.5 cos(pi t) + 0.08 cos(2 pi t)")


@surface
def bartlett(M: Any) -> Node:  # noqa: N803
    """1 - |t| for M points t from -1 to 1, in float64."""
    return 1 - abs(_fractions("bartlett", M))


@surface
def kaiser(M: Any, beta: Any) -> Node:  # noqa: N803
    """i0(beta sqrt(1 - t^2)) / i0(beta) for M points t from -1 to 1, in float64 (J. F. Kaiser,
    "Digital Filters", in Kuo and Kaiser, System Analysis by Digital Computer, 1966).
    """
    at = _fractions("kaiser", M)
    shape = cast(as_node(beta), dtypes.FLOAT64)
    return i0(shape * sqrt(1 - at * at)) / i0(shape)
