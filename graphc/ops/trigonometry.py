"""Sine, cosine, tangent, their inverses, and sinc; angles are in radians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.node import Node
from graphc.op import Interval, Op, elementwise
from graphc.ops.arithmetic import absolute_op, like, sqrt_op
from graphc.ops.special import where_op
from graphc.ops.transcend import as_float64, quiet, real_op, real_surface

sin_op = real_op(
    "sin",
    np.sin,
    lambda x, y: cos_op(x),
    26,
    domain=(Interval(-10, 10),),
    laws=frozenset(("odd",)),
    latex=r"\sin {}",
)
cos_op: Op = real_op(
    "cos",
    np.cos,
    lambda x, y: -sin_op(x),
    26,
    domain=(Interval(-10, 10),),
    laws=frozenset(("even",)),
    latex=r"\cos {}",
)
tan_op = real_op(
    "tan",
    np.tan,
    lambda x, y: like(x, 1) + y * y,
    40,
    domain=(Interval(-1, 1),),
    laws=frozenset(("odd",)),
    latex=r"\tan {}",
)


def _across(x: Node) -> Node:
    """sqrt(1 - x**2), accurate near 1."""
    return sqrt_op((like(x, 1) - x) * (like(x, 1) + x))


arcsin_op = real_op(
    "arcsin",
    np.arcsin,
    lambda x, y: like(x, 1) / _across(x),
    36,
    "asin",
    singular=(0,),
    domain=(Interval(-0.8, 0.8),),
    laws=frozenset(("odd", "increasing")),
    latex=r"\arcsin {}",
    doc="NaN outside of [-1, 1]. The derivative at -1 and 1 is infinite.",
)
arccos_op = real_op(
    "arccos",
    np.arccos,
    lambda x, y: like(x, -1) / _across(x),
    40,
    "acos",
    singular=(0,),
    domain=(Interval(-0.8, 0.8),),
    facts=lambda node, known: frozenset(("nonnegative",)),
    latex=r"\arccos {}",
    doc="NaN outside of [-1, 1]. The derivative at -1 and 1 is infinite.",
)
arctan_op = real_op(
    "arctan",
    np.arctan,
    lambda x, y: like(x, 1) / (like(x, 1) + x * x),
    36,
    "atan",
    domain=(Interval(-9, 9),),
    laws=frozenset(("odd", "increasing")),
    latex=r"\arctan {}",
)


def _angle_partials(y: Node, x: Node, result: Node) -> tuple[Node, Node]:
    """x/(x**2 + y**2) and -y/(x**2 + y**2), divided by the larger: a square may overflow where the
    quotient does not.
    """
    steep = absolute_op(y) > absolute_op(x)
    larger, smaller = where_op(steep, y, x), where_op(steep, x, y)
    ratio = smaller / larger
    divisor = larger + smaller * ratio
    one = like(x, 1)
    return where_op(steep, ratio, one) / divisor, where_op(steep, -one, -ratio) / divisor


arctan2_op = elementwise(
    "arctan2",
    numpy=quiet(np.arctan2),
    kernel=lambda k, y, x: k.call("atan2", y, x),
    partials=_angle_partials,
    singular=(0, 1),
    kinds="f",
    cost=50,
    domain=(Interval(0.5, 3), Interval(-3, 3)),
    doc="The angle of the point (x, y), with IEEE's special cases. At the origin the derivative is "
    "NaN; times a zero cotangent it is 0.",
)


def _sinc_numpy(x: Any) -> Any:
    """sin(pi x)/(pi x), with x reduced before it is multiplied by pi: exactly 0 at integers."""
    half_turns = np.round(x)
    sine = np.sin(np.pi * (x - half_turns)) * np.where(half_turns % 2 == 0, 1.0, -1.0)
    return np.where(x == 0, 1.0, sine / (np.pi * np.where(x == 0, 1.0, x)))


# The first terms of sinc'(x)/x in x**2, by the power series of the sine.
_SINC_SLOPE = tuple(
    2 * i * (-1) ** i * math.pi ** (2 * i) / math.factorial(2 * i + 1) for i in range(1, 12)
)


def _sinc_slope(x: Node, result: Node) -> Node:
    """(cos(pi x) - sinc(x))/x cancels near 0: a power series takes its place there."""
    square = x * x
    series = like(x, _SINC_SLOPE[-1])
    for coefficient in reversed(_SINC_SLOPE[:-1]):
        series = series * square + like(x, coefficient)
    near = square < like(x, 0.25)
    divisor = where_op(near, like(x, 1), x)
    far = (cos_op(x * like(x, math.pi)) - result) / divisor
    return where_op(near, series * x, far)


sinc_op = real_op(
    "sinc",
    as_float64(_sinc_numpy),
    _sinc_slope,
    60,
    domain=(Interval(-3, 3),),
    laws=frozenset(("even",)),
    doc="sin(pi x)/(pi x): 1 at 0 and exactly 0 at other integers, where NumPy leaves 1e-17.",
)

sin = real_surface(sin_op, "The sine.")
cos = real_surface(cos_op, "The cosine.")
tan = real_surface(tan_op, "The tangent.")
arcsin = real_surface(arcsin_op, "The inverse sine, in [-pi/2, pi/2]: NaN beyond 1.", "asin")
arccos = real_surface(arccos_op, "The inverse cosine, in [0, pi]: NaN beyond 1.", "acos")
arctan = real_surface(arctan_op, "The inverse tangent, in [-pi/2, pi/2].", "atan")
arctan2 = real_surface(arctan2_op, "The angle of the point (second, first argument).", "atan2")
sinc = real_surface(sinc_op, "sin(pi x)/(pi x), 1 at 0.", always_float64=True)
