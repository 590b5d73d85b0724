"""The error function family, and gamma and its relatives.

The evaluator's functions are written in NumPy and the standard library: SciPy is no dependency.
They find their values by other ways than the kernels do: Newton's method, recurrences and power
series.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from graphc.errors import GraphError
from graphc.node import Node
from graphc.op import Interval, Op, elementwise
from graphc.ops.arithmetic import like
from graphc.ops.operands import operands
from graphc.ops.transcend import as_float64, exp_op, quiet, real_op, real_surface
from graphc.tensor import surface

_ROOT_PI = math.sqrt(math.pi)


def each_float64(function: Callable[[float], float], at_error: float = math.nan) -> Any:
    """The array function of a function of `math`, which raises at poles (`at_error`) and when it
    overflows (infinity).
    """

    def one(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return at_error
        except OverflowError:
            return math.inf

    over = np.vectorize(one, otypes=["float64"])

    def call(x: Any) -> Any:
        return over(x) if x.size else x.copy()

    return as_float64(call)


# -- the error function ----------------------------------------------------------------------------

_erf, _erfc = each_float64(math.erf), each_float64(math.erfc)


def _erfinv_numpy(x: Any) -> Any:
    """By Newton's method on erf, or on the logarithm of erfc where erf is near 1."""
    size = np.abs(x)
    return np.copysign(
        np.where(size < 0.5, _newton_near_0(size), _newton_of_tail(1 - size, size)), x
    )


def _erfcinv_numpy(y: Any) -> Any:
    left = 1 - y
    tail = _newton_of_tail(np.where(y < 1, y, 2 - y), np.abs(left))
    return np.where(
        np.abs(left) < 0.5, np.copysign(_newton_near_0(np.abs(left)), left), np.copysign(tail, left)
    )


def _newton_near_0(size: Any) -> Any:
    inside = np.minimum(size, 0.5)
    root = inside * _ROOT_PI / 2
    for _ in range(6):
        root = root - (_erf(root) - inside) * _ROOT_PI / 2 * np.exp(root * root)
    return np.where(size < 0.5, root, np.nan)


def _log_erfc(t: Any) -> Any:
    """log(erfc(t)); far out by the continued fraction (DLMF 7.9.3), for erfc underflows there."""
    far = np.maximum(t, 3.0)
    fraction = far
    for k in range(60, 0, -1):
        fraction = far + k / 2 / fraction
    outside = -far * far - np.log(fraction * _ROOT_PI)
    return np.where(t > 3, outside, np.log(_erfc(np.minimum(t, 3.0))))


def _newton_of_tail(left: Any, size: Any) -> Any:
    """The t with erfc(t) = left, for left below 1/2."""
    inside = np.clip(left, 5e-324, 0.5)
    root = np.sqrt(-np.log(inside))
    for _ in range(60):
        found = _log_erfc(root)
        # What erfc(t) exp(t**2) sqrt(pi)/2 is near to (DLMF 7.8.3), which cannot overflow
        slope = 1 / (root + np.sqrt(root * root + 4 / np.pi))
        root = root + (found - np.log(inside)) * slope
    root = np.where(left == 0, np.inf, root)
    return np.where((left < 0) | np.isnan(size), np.nan, root)


erf_op = real_op(
    "erf",
    _erf,
    lambda x, y: like(x, 2 / _ROOT_PI) * exp_op(-(x * x)),
    60,
    domain=(Interval(-3, 3),),
    laws=frozenset(("odd", "increasing")),
)
erfc_op = real_op(
    "erfc",
    _erfc,
    lambda x, y: like(x, -2 / _ROOT_PI) * exp_op(-(x * x)),
    70,
    domain=(Interval(-3, 3),),
    facts=lambda node, known: frozenset(("nonnegative",)),
    doc="1 - erf(x), accurate where it is small.",
)
erfinv_op = real_op(
    "erfinv",
    as_float64(_erfinv_numpy),
    lambda x, y: like(x, _ROOT_PI / 2) * exp_op(y * y),
    70,
    singular=(0,),
    domain=(Interval(-0.8, 0.8),),
    laws=frozenset(("odd", "increasing")),
    doc="Infinite at -1 and 1, as the derivative is; NaN beyond.",
)
erfcinv_op = real_op(
    "erfcinv",
    as_float64(_erfcinv_numpy),
    lambda x, y: like(x, -_ROOT_PI / 2) * exp_op(y * y),
    90,
    singular=(0,),
    domain=(Interval(0.2, 1.8),),
    doc="inf at 0, -inf at 2, where the derivative is infinite; NaN outside.",
)

# -- gamma and its relatives -----------------------------------------------------------------------


@functools.cache
def _bernoulli(count: int) -> list[float]:
    """B2, B4, ... (DLMF 24.5.3)."""
    found: list[Fraction] = []
    for m in range(2 * count + 1):
        total = sum((math.comb(m + 1, j) * found[j] for j in range(m)), Fraction(0))
        found.append(Fraction(1) if m == 0 else -total / (m + 1))
    return [float(each) for each in found[2::2]]


def _gamma_one(x: float) -> float:
    try:
        return math.gamma(x) if x else math.copysign(math.inf, x)
    except OverflowError:  # near zeros below it, too
        return math.copysign(math.inf, x)


def _zeta_minus_one(k: int) -> float:
    """zeta(k) - 1 for k >= 2, by Euler and Maclaurin."""
    far = 200
    tail = far ** (1 - k) / (k - 1) - far**-k / 2 + k * far ** (-k - 1) / 12
    tail -= k * (k + 1) * (k + 2) * far ** (-k - 3) / 720
    return math.fsum([tail, *(j**-k for j in range(2, far + 1))])


_EULER = 0.57721566490153286
_lgamma_of_math, _gamma_of_math = each_float64(math.lgamma, math.inf), each_float64(_gamma_one)


@functools.cache
def _series_at_2() -> tuple[float, ...]:
    """The coefficients of z**2, z**3, ... of lgamma(2 + z) (DLMF 5.7.3)."""
    return tuple((-1) ** k * _zeta_minus_one(k) / k for k in range(2, 45))


def _gammaln_numpy(x: Any) -> Any:
    """Near the zeros at 1 and 2 the series at 2 (DLMF 5.7.3), above the logarithm of gamma."""
    near = (x > 0.5) & (x < 2.5)
    below = x < 1.5
    z = np.where(near, np.where(below, x - 1, x - 2), 0)
    series = np.zeros_like(z)
    for coefficient in reversed(_series_at_2()):
        series = series * z + coefficient
    series = z * (1 - _EULER) + z * z * series - np.where(below, np.log1p(z), 0)
    above = (x >= 2.5) & (x < 100)
    large = np.log(_gamma_of_math(np.where(above, x, 3.0)))
    return np.where(near, series, np.where(above, large, _lgamma_of_math(x)))


# The zero of digamma above 0, and what it is more than that float.
_DIGAMMA_ZERO = (1.4616321449683622, 9.549995429965697e-17)


@functools.cache
def _series_at_zero() -> tuple[float, ...]:
    """The coefficients of z, z**2, ... of digamma at its zero above 0: derivatives over k!."""
    zero = np.array(_DIGAMMA_ZERO[0])
    return tuple(float(_polygamma_numpy(zero, k)) / math.factorial(k) for k in range(1, 48))


def _cot_of_turns(x: Any) -> Any:
    """cot(pi x), exactly 0 at the halves."""
    turn = x - np.round(x)
    beyond = np.copysign(0.5 - np.abs(turn), turn)
    middle = np.abs(turn) > 0.25
    near = 1 / np.tan(np.pi * np.where(middle, 0.25, turn))
    return np.where(middle, np.tan(np.pi * beyond), near)


def _digamma_numpy(x: Any) -> Any:
    """The recurrence up to 16, then the asymptotic series (DLMF 5.5.2, 5.11.2). From 1 to 2, where
    these cancel, the series at the zero between.
    """
    negative = x < 0
    at = np.where(negative, 1 - x, x)
    less = np.zeros_like(at)
    for _ in range(16):
        low = at < 16
        less = np.where(low, less + 1 / np.where(low, at, 1.0), less)
        at = np.where(low, at + 1, at)
    square = 1 / (at * at)
    series = np.zeros_like(at)
    for i, number in reversed(list(enumerate(_bernoulli(12), 1))):
        series = (series + number / (2 * i)) * square
    value = np.log(at) - 0.5 / at - series - less
    near = (x >= 1) & (x <= 2)
    z = np.where(near, (x - _DIGAMMA_ZERO[0]) - _DIGAMMA_ZERO[1], 0.0)
    close = np.zeros_like(z)
    for coefficient in reversed(_series_at_zero()):
        close = (close + coefficient) * z
    value = np.where(near, close, value)
    reflected = value - np.pi * _cot_of_turns(np.where(negative, x, 0.25))
    pole = negative & (x == np.round(x))
    return np.where(pole, np.nan, np.where(negative, reflected, value))


def _polygamma_numpy(x: Any, n: int) -> Any:
    """n! times the Hurwitz zeta function of n + 1, by Euler and Maclaurin (DLMF 25.11.5)."""
    negative = x < 0
    at = np.where(negative, 1 - x, x)
    steps, s = 20 + n, n + 1
    total = np.zeros_like(at)
    for j in reversed(range(steps)):
        total = total + (at + j) ** -float(s)
    far = at > steps
    end = np.where(far, at, at + steps)
    series = end ** -float(n) / n + end ** -float(s) / 2
    for i, number in enumerate(_bernoulli(10), 1):
        rising = math.prod(range(s, s + 2 * i - 1))
        series = series + number * rising / math.factorial(2 * i) * end ** -float(s + 2 * i - 1)
    sign = 1.0 if n % 2 else -1.0
    value = sign * math.factorial(n) * (np.where(far, 0, total) + series)
    # Reflection (DLMF 5.15.6): the derivatives of cot are polynomials of cot.
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([-1.0, 0.0, -1.0])
    slope = polynomial(_cot_of_turns(np.where(negative, x, 0.25)))
    reflected = -sign * value - np.pi ** (n + 1) * slope
    pole = negative & (x == np.round(x))
    value = np.where(negative, reflected, value)
    return np.where(pole, np.inf if n % 2 else np.nan, value)


def polygamma_at(x: Node, n: int) -> Node:
    """The n-th derivative of digamma of a node in a float dtype."""
    return digamma_op(x) if n == 0 else polygamma_op(x, n=n)


gammaln_op = real_op(
    "gammaln",
    as_float64(quiet(_gammaln_numpy)),
    lambda x, y: digamma_op(x),
    150,
    "lgamma",
    singular=(0,),
    domain=(Interval(0.5, 20),),
    doc="log|gamma(x)|: inf at 0 and negative integers, where the derivative is infinite or NaN.",
)
gamma_op: Op = real_op(
    "gamma",
    _gamma_of_math,
    lambda x, y: y * digamma_op(x),
    200,
    singular=(0,),
    domain=(Interval(0.5, 9),),
    doc="Infinite with its sign at zeros, NaN at negative integers; so are the derivatives.",
)
digamma_op: Op = real_op(
    "digamma",
    as_float64(quiet(_digamma_numpy)),
    lambda x, y: polygamma_at(x, 1),
    150,
    singular=(0,),
    domain=(Interval(0.5, 20),),
    doc="The derivative of gammaln: -inf at 0, inf at -0.0, NaN at negative integers.",
)
MOST_DERIVATIVES = 100
polygamma_op = elementwise(
    "polygamma",
    numpy=quiet(as_float64(_polygamma_numpy)),
    kernel=lambda k, x, n: k.call("polygamma", x, n),
    partials=lambda x, result, n: (polygamma_at(x, n + 1),),
    singular=(0,),
    attributes=("n",),
    kinds="f",
    cost=200,
    text="polygamma({n}, {})",
    latex=r"\psi^{{({n})}}({})",
    doc="The n-th derivative of digamma, n at least 1. At 0 and negative integers inf for odd n; "
    "for even n -inf at 0 and NaN below.",
)

erf = real_surface(erf_op, "The error function.")
erfc = real_surface(erfc_op, "1 - erf(x), accurate where it is small.")
erfinv = real_surface(erfinv_op, "The inverse of erf: infinite at -1 and 1, NaN beyond.")
erfcinv = real_surface(erfcinv_op, "The inverse of erfc: inf at 0, -inf at 2, NaN outside.")
gammaln = real_surface(gammaln_op, "log|gamma(x)|.", "lgamma")
gamma = real_surface(gamma_op, "The gamma function.")
digamma = real_surface(digamma_op, "The derivative of gammaln.")


@surface
def polygamma(n: int, x: Any) -> Node:
    """The n-th derivative of digamma (DLMF 5.15): n is a Python int from 0 to 100.

    In a float dtype: integers and bool are computed in float64. Raises `GraphError` for another n.
    """
    if type(n) is not int or not 0 <= n <= MOST_DERIVATIVES:
        raise GraphError(
            f"polygamma takes an order n that is a Python int from 0 to {MOST_DERIVATIVES}, got "
            f"{n!r}\nThe order is part of the graph: build one node for each order."
        )
    (node,) = operands("polygamma", x, real=True)
    return polygamma_at(node, n)
