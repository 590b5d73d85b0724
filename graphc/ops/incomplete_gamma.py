"""What are the regularised incomplete gamma functions?  Graphs of other functions, chosen by size.

P(a, x) = gamma(a, x)/gamma(a) is found from the power series (DLMF 8.11.4) up to a, and its
complement Q from the continued fraction (DLMF 8.9.2) above; Q of small a and x, where P is nearly
1, from the series of what is left (DLMF 8.7.3, as Didonato and Morris, ACM Transactions on
Mathematical Software 12, 1986, arrange it). From a = 20 on, while x is neither far below nor far
above a, both are Temme's uniform expansion (DLMF 8.12). The derivative by x is the density; that by
a is one of the formulas.
"""

from __future__ import annotations

import math
from typing import Any

from graphc import dtypes
from graphc.node import Node
from graphc.ops.arithmetic import like, maximum_op, minimum_op, sqrt_op
from graphc.ops.beta import stirling_rest
from graphc.ops.custom import custom_derivative
from graphc.ops.incomplete_gamma_tables import ATANH_REST, LGAMMA_SLOPE, UNIFORM
from graphc.ops.operands import cast, operands
from graphc.ops.special import where_op
from graphc.ops.special_functions import erfc_op, gamma_op, gammaln_op
from graphc.ops.transcend import exp_op, expm1_op, log_op, power_op
from graphc.tensor import surface

# From this a on the uniform expansion is used, for x/a between the bounds, where |eta| <= 1.
_UNIFORM_FROM = 20.0
_LOWEST, _HIGHEST = 0.302, 2.357
_STIRLING_FROM = 10.0
# Below, the complement has a series of its own.
_SMALL_A, _SMALL_X = 1.25, 1.5
# Further away one of the functions underflows.
_MOST_A, _MOST_X = 1600.0, 4000.0
_SERIES, _FRACTION, _SMALL = 54, 74, 20  # terms


def polynomial(x: Node, coefficients: tuple[float, ...]) -> Node:
    total = like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + like(x, coefficient)
    return total


def _between(x: Node, low: float, high: float) -> Node:
    return minimum_op(maximum_op(x, like(x, low)), like(x, high))


def _series(a: Node, x: Node) -> Node:
    """1 + x/(a + 1) (1 + x/(a + 2) (1 + ...))."""
    total = one = like(a, 1)
    for j in range(_SERIES, 0, -1):
        total = one + x * total / (a + like(a, j))
    return total


def _fraction(a: Node, x: Node) -> Node:
    """1/(x + 1 - a - 1 (1 - a)/(x + 3 - a - 2 (2 - a)/(x + 5 - a - ...)))."""
    apart = x - a
    below = apart + like(a, 2 * _FRACTION + 1)
    for j in range(_FRACTION, 0, -1):
        taken = like(a, j) * (like(a, j) - a)
        below = apart + like(a, 2 * j - 1) - taken / below
    return like(a, 1) / below


def _small_complement(a: Node, x: Node) -> Node:
    """Q for a up to 1.25 and x up to 1.5: 1 - x**a/gamma(1 + a) (1 + a sum), without the 1s.

    Where nothing cancels the 1 stands there: expm1 has itself and 1 for its derivative, which has
    lost its places where it is close to -1, and is multiplied by the derivative of x**a.
    """
    total, power = like(x, 0), like(x, 1)
    for n in range(1, _SMALL + 1):
        power = power * x * like(x, -1 / n)
        total = total + power / (a + like(a, n))
    exponent = a * (log_op(x) - polynomial(a, LGAMMA_SLOPE))
    power = exp_op(exponent)
    far = exponent < like(x, -1)
    near = expm1_op(where_op(far, like(x, 0), exponent))
    return where_op(far, like(x, 1) - power, -near) - power * a * total


def _bend(mu: Node) -> Node:
    """(mu - log(1 + mu)) / mu**2, for 1 + mu between the bounds."""
    both = mu + like(mu, 2)
    r = mu / both
    return (like(mu, 1) - like(mu, 2) * r * polynomial(r * r, ATANH_REST) / both) / both


def _uniform(a: Node, mu: Node) -> tuple[Node, Node]:
    """P and Q for x = a (1 + mu)."""
    ratio = _bend(mu)
    eta = mu * sqrt_op(ratio + ratio)
    inverse = like(a, 1) / a
    total = polynomial(eta, UNIFORM[-1])
    for row in reversed(UNIFORM[:-1]):
        total = total * inverse + polynomial(eta, row)
    rest = total * exp_op(-(a * mu * mu * ratio)) / sqrt_op(a * like(a, 2 * math.pi))
    z = eta * sqrt_op(a * like(a, 0.5))
    half = like(a, 0.5)
    return half * erfc_op(-z) - rest, half * erfc_op(z) + rest


def _factor(a: Node, x: Node) -> Node:
    """x**a exp(-x)/gamma(a + 1)."""
    large = a >= like(a, _STIRLING_FROM)
    small_a = where_op(large, like(a, 1), a)
    half = exp_op(x * like(x, -0.5))  # exp(-x) may underflow where the product does not
    small = power_op(x, small_a) * half * half / gamma_op(small_a + like(a, 1))
    large_a = where_op(large, a, like(a, _STIRLING_FROM))
    apart = _log_apart(large_a, x)
    root = sqrt_op(large_a * like(a, 2 * math.pi))
    return where_op(large, exp_op(apart) / root, small)


def _both(a: Node, x: Node) -> tuple[Node, Node]:
    """P and Q of float64, for a > 0 and x > 0 that are finite; the smaller one is the exact one."""
    one = like(a, 1)
    large = a >= like(a, _UNIFORM_FROM)
    ratio = x / a
    near = large & (ratio > like(a, _LOWEST)) & (ratio < like(a, _HIGHEST))
    mu = (x - a) / where_op(near, a, one)
    middle = _uniform(where_op(near, a, like(a, _UNIFORM_FROM)), where_op(near, mu, like(a, 0)))

    inside, at = _between(a, 0.0, _MOST_A), _between(x, 0.0, _MOST_X)
    inside = where_op(near, one, inside)
    at = where_op(near, one, at)
    beyond = (a > like(a, _MOST_A)) | (x > like(a, _MOST_X))
    factor = where_op(beyond, like(a, 0), _factor(inside, at))
    above = at > maximum_op(inside, like(a, _SMALL_X))
    small = (inside <= like(a, _SMALL_A)) & (at <= like(a, _SMALL_X))

    upper = factor * inside * _fraction(
        where_op(above, inside, one), where_op(above, at, like(a, 2))
    )
    lower = factor * _series(where_op(above, one, inside), where_op(above, one, at))
    rest = _small_complement(where_op(small, inside, one), where_op(small, at, one))
    lower = where_op(above, one - upper, lower)
    upper = where_op(above, upper, where_op(small, rest, one - lower))
    return where_op(near, middle[0], lower), where_op(near, middle[1], upper)


def _at_ends(a: Node, x: Node, upper: bool) -> Node:
    """One of the functions, at 0 and infinity too."""
    one, none, infinity = like(a, 1), like(a, 0), like(a, math.inf)
    start, end = (one, none) if upper else (none, one)
    usual = (a > none) & (x > none) & (a < infinity) & (x < infinity)
    inner = _both(where_op(usual, a, one), where_op(usual, x, one))[upper]
    found = where_op(usual, inner, end)  # a is 0, or x infinite
    found = where_op((x == none) | (a == infinity), start, found)
    return where_op(_is_outside(a, x), like(a, math.nan), found)


def _is_outside(a: Node, x: Node) -> Node:
    none, infinity = like(a, 0), like(a, math.inf)
    nothing = (x == none) & (a == none) | (x == infinity) & (a == infinity)
    return nothing | (a < none) | (x < none) | (a != a) | (x != x)


def _density(a: Node, x: Node) -> Node:
    """x**(a - 1) exp(-x) / gamma(a); 0 where an a of 0 or infinity makes a step."""
    one, none, infinity = like(a, 1), like(a, 0), like(a, math.inf)
    positive = (a > none) & (a < infinity)
    usual = positive & (x > none) & (x < infinity)
    first, at = where_op(usual, a, one), where_op(usual, x, one)
    ten, log_x = like(a, _STIRLING_FROM), log_op(at)
    small_a, large_a = minimum_op(first, ten), maximum_op(first, ten)
    small = small_a * log_x - at - gammaln_op(small_a)
    large = _log_apart(large_a, at) + log_op(large_a * like(a, 0.5 / math.pi)) * like(a, 0.5)
    found = exp_op(where_op(first >= ten, large, small) - log_x)
    # at 0: 1 where a is 1, infinite below
    start = where_op(a == one, one, where_op(a > one, none, infinity))
    end = where_op(positive & (x == none), start, none)
    return where_op(_is_outside(a, x), like(a, math.nan), where_op(usual, found, end))


def _log_apart(a: Node, x: Node) -> Node:
    """log(x**a exp(-x)/gamma(a + 1)) + log(2 pi a)/2, for a from 10 on."""
    mu = (x - a) / a
    ratio = x / a
    near = (ratio > like(a, _LOWEST)) & (ratio < like(a, _HIGHEST))
    inside = where_op(near, mu, like(a, 0))
    bend = where_op(near, inside * inside * _bend(inside), mu - log_op(ratio))
    return -(a * bend) - stirling_rest(a)


def _function(name: str, a: Any, x: Any, upper: bool) -> Node:
    first, second = operands(name, a, x, real=True)

    def value(a: Node, x: Node) -> Node:
        return _at_ends(a, x, upper)

    def moved(args: Any, result: Node, tangents: Any) -> Node:
        slope = _density(*args) * tangents[1]
        return -slope if upper else slope

    value.__name__ = name
    wide = [cast(each, dtypes.FLOAT64) for each in (first, second)]
    return cast(custom_derivative(value, jvp=moved, by=(1,))(*wide), first.dtype)


@surface
def gammainc(a: Any, x: Any) -> Node:
    """The regularised lower incomplete gamma function P(a, x), for a and x of at least 0.

    It has derivatives by both arguments, of every order; that by x is the density. All float dtypes
    compute in float64; the relative error is within 24 units in the last place, times the size of
    the logarithm of the result where that is more than 1. The graph is large: it takes a second or
    more to compile. As SciPy's, it is 1 at a = 0, and NaN where both are 0, both infinite, or one
    is below 0. In a float dtype: integers and bool become the float dtype that NumPy's ufuncs
    choose.
    """
    return _function("gammainc", a, x, False)


@surface
def gammaincc(a: Any, x: Any) -> Node:
    """The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x), accurate where it is
    small. Everything else is as for `gammainc`.
    """
    return _function("gammaincc", a, x, True)
