"""What is the regularised incomplete beta function?  A sum over points of its integral.

I_x(a, b) is the integral of t**(a - 1) (1 - t)**(b - 1) from 0 to x over B(a, b) (DLMF 8.17.2). Of
it and of I_{1-x}(b, a), which is what is left of 1, the smaller one is found. With t = x exp(-s) it
is the density at x times an integral over s of something that only falls, like an exponential, a
Gaussian or in between. Its width is known, and so the double exponential rule (Takahasi & Mori,
Publ. RIMS 9, 1974) takes equally many points for all arguments: one small loop of one kernel, in
which no terms cancel. Where a is small and x is, too, the integral has no width. There the power
series (DLMF 8.17.7) does, and for what is left of 1 the same without the 1, as for the incomplete
gamma functions.

The derivative by x is the density. By a and b the sums are differentiated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.node import Node
from graphc.ops.arithmetic import like, maximum_op, minimum_op, sqrt_op
from graphc.ops.beta import STIRLING, stirling_rest
from graphc.ops.custom import custom_derivative
from graphc.ops.incomplete_gamma import polynomial
from graphc.ops.incomplete_gamma_tables import LGAMMA_SLOPE
from graphc.ops.operands import broadcast, cast, constant, operands
from graphc.ops.reduce import sum_op
from graphc.ops.special import stop_gradient_op, where_op
from graphc.ops.special_functions import gammaln_op
from graphc.ops.transcend import exp_op, expm1_op, log1p_op, log_op
from graphc.tensor import surface

# The points of the rule and their distance: its error and what is left out are below 1e-16.
_STEP, _FIRST, _POINTS = 0.13, -3.83, 64
# Where the series is used: a, x and b x are at most these. Terms: 2**-54 is below the precision.
_SMALL_A, _SMALL_X, _SMALL_BX, _TERMS = 1.25, 0.5, 1.25, 54
_LARGE = 10.0  # from here on the logarithm of gamma is Stirling's
_MOST = 1e290  # as good as infinite


def _points() -> tuple[np.ndarray, np.ndarray]:
    """Points from 0 to infinity, and their weights: exp(v - exp(-v)) at equal distances of v."""
    v = _FIRST + _STEP * np.arange(_POINTS)
    points = np.exp(v - np.exp(-v))
    return points, _STEP * points * (1 + np.exp(-v))


def _integral(a: Node, b: Node, ratio: Node) -> Node:
    """The integral of exp(-a s) (1 + ratio (1 - exp(-s)))**(b - 1) over s > 0."""
    one = like(a, 1)
    falls = maximum_op(a - (b - one) * ratio, like(a, 0))
    bends = maximum_op(b - one, like(a, 0)) * ratio * (one + ratio)
    # The integral is the same for every width: derivatives need not know of it.
    width = stop_gradient_op(one / (falls + sqrt_op(bends)))
    shape = (*a.shape, _POINTS)
    rows = tuple(range(a.ndim))

    def each(node: Node) -> Node:
        return broadcast(node, shape, rows)

    points, weights = (broadcast(constant(p), shape, (a.ndim,)) for p in _points())
    s = each(width) * points
    grown = log1p_op(-(each(ratio) * expm1_op(-s)))
    return width * sum_op(weights * exp_op(each(b - one) * grown - each(a) * s), axes=(a.ndim,))


# -- the density -----------------------------------------------------------------------------------


def _log_factor(a: Node, b: Node, log_x: Node, log_y: Node, x: Node, y: Node) -> Node:
    """log(x**a y**b / B(a, b)), with no large terms that cancel where both are large."""
    first = a <= b
    low, high = where_op(first, a, b), where_op(first, b, a)
    log_low, log_high = where_op(first, log_x, log_y), where_op(first, log_y, log_x)
    share = where_op(first, x, y)  # that of `low`
    ten, one = like(a, _LARGE), like(a, 1)
    above, inside = maximum_op(high, ten), minimum_op(low, ten)
    both = inside + above
    mixed = (  # log B as in `beta`, its large terms taken together with those of x and y
        inside * (log_op(both) + log_low - one)
        + above * log_high
        + (above - like(a, 0.5)) * log1p_op(inside / above)
        - stirling_rest(above)
        + stirling_rest(both)
        - gammaln_op(inside)
    )
    small_high = minimum_op(high, ten)
    small = (
        inside * log_low
        + small_high * log_high
        + gammaln_op(inside + small_high)
        - gammaln_op(inside)
        - gammaln_op(small_high)
    )
    large = _log_of_large(maximum_op(low, ten), above, share, where_op(first, y, x))
    return where_op(low >= ten, large, where_op(high >= ten, mixed, small))


def _log_of_large(a: Node, b: Node, x: Node, y: Node) -> Node:
    both = a + b
    half = like(a, 0.5)
    # a - (a + b) x by the smaller of x and y, of which the other one may have been rounded
    apart = where_op(x <= half, a - both * x, both * y - b)
    bends = a * _log_of_share(-(apart / a), x * (both / a))
    bends = bends + b * _log_of_share(apart / b, y * (both / b))
    rests = stirling_rest(both) - stirling_rest(a) - stirling_rest(b)
    return bends + rests + half * (log_op(a) + log_op(b / both) - like(a, math.log(2 * math.pi)))


def _log_of_share(less: Node, share: Node) -> Node:
    """The logarithm of `share`, which is 1 + `less`, by whichever of the two knows it better."""
    half = like(less, 0.5)
    near = (less > -half) & (less < half)
    return where_op(near, log1p_op(where_op(near, less, like(less, 0))), log_op(share))


def _density(a: Node, b: Node, x: Node) -> Node:
    """x**(a - 1) (1 - x)**(b - 1) / B(a, b); 0 where an a or b of 0 or infinity makes a step."""
    one, none, most = like(a, 1), like(a, 0), like(a, _MOST)
    positive = (a > none) & (b > none) & (a < most) & (b < most)
    inside = positive & (x > none) & (x < one)
    first, second = where_op(positive, a, one), where_op(positive, b, one)
    at = where_op(inside, x, like(x, 0.5))
    log_x, log_y, y = log_op(at), log1p_op(-at), one - at
    found = exp_op(_log_factor(first, second, log_x, log_y, at, y) - log_x - log_y)
    # at the ends: b at 0, a at 1, where that exponent is 0
    other, own = where_op(x == none, second, first), where_op(x == none, first, second)
    flat = where_op(own > one, none, like(a, math.inf))
    end = where_op(own == one, other, flat)
    slope = where_op(inside, found, where_op(positive, end, none))
    return where_op(_is_outside(a, b, x), like(a, math.nan), slope)


# -- small a and x ---------------------------------------------------------------------------------


def _log_start(a: Node, b: Node, x: Node) -> Node:
    """log(x**a / a / B(a, b)) for a up to 1.25, exact for a next to 0: every term has the factor a.

    gamma(a + b) / gamma(b) by the recurrence up to b + 10, from where on Stirling's series (DLMF
    5.11.1) are subtracted term by term.
    """
    grown = like(a, 0)  # the product of 1 + a/(b + j), without the 1
    for j in range(1, 10):
        step = a / (b + like(b, j))
        grown = grown + step + grown * step
    base = b + like(b, _LARGE)
    both = base + a
    shifted = (base - like(b, 0.5)) * log1p_op(a / base) + a * (log_op(x * both) - like(a, 1))
    fallen = log1p_op(a / b) + log1p_op(grown)
    return shifted - fallen + a * (_rest_slope(base, both) - polynomial(a, LGAMMA_SLOPE))


def _rest_slope(first: Node, second: Node) -> Node:
    """(stirling_rest(second) - stirling_rest(first)) / (second - first): a divided difference."""
    one = like(first, 1)
    u, v = one / second, one / first
    far, near = u * u, v * v
    value, slope = like(first, STIRLING[-1]), like(first, 0)
    for coefficient in reversed(STIRLING[:-1]):
        slope = slope * far + value
        value = value * near + like(first, coefficient)
    return -(u * v) * (u * (u + v) * slope + value)


def _series(a: Node, b: Node, x: Node) -> tuple[Node, Node]:
    """I_x(a, b) and what is left of 1, for small a and x."""
    total, power = like(x, 0), like(x, 1)
    for n in range(1, _TERMS + 1):
        power = power * x * ((like(b, n) - b) * like(b, 1 / n))
        total = total + power / (a + like(a, n))
    start = _log_start(a, b, x)
    whole = exp_op(start)
    rest = whole * a * total
    # Where nothing cancels the 1 stands there: see `incomplete_gamma`.
    far = start < like(a, -1)
    near = expm1_op(where_op(far, like(a, 0), start))
    return whole + rest, where_op(far, like(a, 1) - whole, -near) - rest


# -- all of it -------------------------------------------------------------------------------------


def _both(a: Node, b: Node, x: Node) -> tuple[Node, Node]:
    """I_x(a, b) and I_{1-x}(b, a), for a and b above 0, finite, and x between 0 and 1."""
    one, two, half = like(a, 1), like(a, 2), like(a, 0.5)
    y = one - x
    low = _is_small(a, b, x)
    small = low | _is_small(b, a, y)

    def of_series(first: Node, second: Node, other: float) -> Node:
        return where_op(small, where_op(low, first, second), like(a, other))

    series = _series(of_series(a, b, 1), of_series(b, a, 1), of_series(x, y, 0.25))

    # the side of the mean on which the integral falls from its end on
    left = x <= one / (one + b / a)
    first, second = where_op(small, two, a), where_op(small, two, b)
    at, rest = where_op(small, half, x), where_op(small, half, y)
    log_x, log_y = log_op(at), log1p_op(-at)
    factor = _log_factor(first, second, log_x, log_y, at, rest)
    tail = exp_op(factor - where_op(left, log_y, log_x)) * _integral(
        where_op(left, first, second),
        where_op(left, second, first),
        where_op(left, at / rest, rest / at),
    )
    own, other = where_op(small, series[0], tail), where_op(small, series[1], one - tail)
    straight = where_op(small, low, left)
    return _share(where_op(straight, own, other)), _share(where_op(straight, other, own))


def _share(value: Node) -> Node:
    """A number from 0 to 1: where a and b are so large that x is not known well enough to tell, as
    one half of 1e40 and 1e40, a sum may be beyond.
    """
    one, none = like(value, 1), like(value, 0)
    return where_op(value > one, one, where_op(value < none, none, value))


def _is_small(a: Node, b: Node, x: Node) -> Node:
    small = (a <= like(a, _SMALL_A)) & (x <= like(a, _SMALL_X))
    return small & (b * x <= like(a, _SMALL_BX))


def _at_ends(a: Node, b: Node, x: Node, upper: bool) -> Node:
    """One of the functions, for a and b of 0 and infinity, too."""
    one, none = like(a, 1), like(a, 0)
    start, end = (one, none) if upper else (none, one)
    most = like(a, _MOST)
    usual = (a > none) & (b > none) & (x > none) & (x < one) & (a < most) & (b < most)
    at = where_op(usual, x, like(a, 0.5))
    inner = _both(where_op(usual, a, one), where_op(usual, b, one), at)
    found = where_op(usual, inner[upper], end)  # a is 0, or b infinite, or x is 1
    falls = (b == none) | (a >= most)
    found = where_op(falls & (x < one) | (x == none), start, found)
    return where_op(_is_outside(a, b, x), like(a, math.nan), found)


def _is_outside(a: Node, b: Node, x: Node) -> Node:
    none, one, most = like(a, 0), like(a, 1), like(a, _MOST)
    nothing = (a == none) & (b == none) | (a >= most) & (b >= most)
    wrong = (a < none) | (b < none) | (x < none) | (x > one)
    return nothing | wrong | (a != a) | (b != b) | (x != x)


def _function(name: str, a: Any, b: Any, x: Any, upper: bool) -> Node:
    first, second, third = operands(name, a, b, x, real=True)

    def value(a: Node, b: Node, x: Node) -> Node:
        return _at_ends(a, b, x, upper)

    def moved(args: Any, result: Node, tangents: Any) -> Node:
        slope = _density(*args) * tangents[2]
        return -slope if upper else slope

    value.__name__ = name
    wide = [cast(each, dtypes.FLOAT64) for each in (first, second, third)]
    return cast(custom_derivative(value, jvp=moved, by=(2,))(*wide), first.dtype)


@surface
def betainc(a: Any, b: Any, x: Any) -> Node:
    """The regularised incomplete beta function I_x(a, b), for a and b of at least 0 and x from 0 to
    1; NaN elsewhere.

    It has derivatives by all arguments, of every order; that by x is the density. All float dtypes
    compute in float64; the error is within 32 units in the last place, times the size of the
    logarithm of the result where that is more than 1, plus what 4 units in the last place of x and
    of 1 - x make. It is 1 at a = 0 and 0 at b = 0, the limits at infinity, NaN where both are 0 or
    both infinite, which they are from 1e290 on. In a float dtype: integers and bool become the
    float dtype that NumPy's ufuncs choose.
    """
    return _function("betainc", a, b, x, False)


@surface
def betaincc(a: Any, b: Any, x: Any) -> Node:
    """What is left of 1: 1 - I_x(a, b) = I_{1-x}(b, a), accurate where it is small, for x that is
    close to 0 too. Everything else is as for `betainc`.
    """
    return _function("betaincc", a, b, x, True)
