"""How are the gamma function and its logarithm, digamma and polygamma computed?

Arguments are moved by the recurrence (DLMF 5.5.1, 5.5.2) to an interval of length 1 for which there
is a polynomial, or are large enough for Stirling's series (DLMF 5.11.1, 5.11.2). Negative ones use
the reflection formulas (DLMF 5.5.3, 5.5.4), with sin(pi x) reduced without error. polygamma is a
Hurwitz zeta function, by the Euler-Maclaurin formula (DLMF 25.11.5, 5.15.1). float32 computes in
float64 with shorter polynomials; its results are rounded once.
"""

from __future__ import annotations

import math
from fractions import Fraction

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.exp import exp2_tail, times_power_in_halves
from graphc.codegen.vecmath.log import log2_in_two_parts, log_in_two_parts
from graphc.codegen.vecmath.parts import (
    FORMATS,
    Parts,
    at_least,
    at_most,
    fast_two_sum,
    horner,
    in_float64,
    polynomial,
    product,
    rarely,
    times_constant,
    two_product,
    two_sum,
)
from graphc.codegen.vecmath.tables import (
    DIGAMMA,
    DIGAMMA_FAR,
    DIGAMMA_ZERO,
    GAMMA,
    HALF_LOG_TWO_PI,
    INVERSE_LN2,
    LGAMMA,
    LOG_PI,
    ROOT_TWO_PI,
    STIRLING,
    STIRLING_FACTOR,
)
from graphc.codegen.vecmath.trig import cotangent_of_pi, sine_of_pi

_FAR = 7.25  # from here on Stirling's series is used
_TINY = 2.0**-60  # below, only the pole at 0 counts
_INFINITY, _NAN = float("inf"), float("nan")


class _Moved:
    """gamma(x) for -1/2 <= x <= 7.25 is gamma(2 + z) times a factor, or divided by it if `below`.

    `lost` is the rounding error of a factor that multiplies.
    """

    def __init__(self, k: Scope, x: Value) -> None:
        y = at_most(k, x, _FAR)
        self.below = k.lt(y, 1.25)
        lowest = k.lt(y, 0.25)
        factor, lost, at = k.const(1.0, "float64"), k.const(0.0, "float64"), y
        for _ in range(5):
            above = k.gt(at, 2.25)
            less = k.sub(at, 1.0)
            main, rest = two_product(k, factor, less)
            factor = k.select(above, main, factor)
            lost = k.select(above, k.fma(lost, less, rest), lost)
            at = k.select(above, less, at)
        up = k.select(lowest, k.mul(y, k.add(y, 1.0)), y)
        self.factor, self.lost = k.select(self.below, up, factor), lost
        near = k.select(lowest, y, k.sub(y, 1.0))
        self.z = k.select(self.below, near, k.sub(at, 2.0))


def _lgamma_above(k: Scope, x: Value, key: str) -> Value:
    """log|gamma(x)| for x >= -1/2."""
    moved = _Moved(k, x)
    far = k.gt(x, _FAR)
    upper, lower = log_in_two_parts(k, k.abs(k.select(far, x, moved.factor)))

    near = k.mul(moved.z, polynomial(k, moved.z, LGAMMA[key]))
    sign = k.select(moved.below, k.const(-1.0, "float64"), k.const(1.0, "float64"))
    total, error = two_sum(k, k.mul(upper, sign), near)
    near = k.add(total, k.fma(lower, sign, error))

    w = k.div(1.0, at_least(k, x, _FAR))
    main, rest = two_product(k, k.sub(x, 0.5), k.sub(upper, 1.0))
    rest = k.fma(k.sub(x, 0.5), lower, rest)
    series = k.fma(w, polynomial(k, k.mul(w, w), STIRLING[key]), HALF_LOG_TWO_PI[key][0] - 0.5)
    large = k.select(k.lt(main, _INFINITY), k.add(main, k.add(rest, series)), main)
    return k.select(far, large, near)


@in_float64
def lgamma(k: Scope, x: Value, key: str) -> Value:
    """log|gamma(x)|, within 3 ulp for x > -1/2; below, of the larger of it and 1. inf at 0, -1, ...

    Relative to the result the error is large near the zeros between negative integers only.
    """
    size = k.abs(x)
    reflected = k.lt(x, -0.5)
    above = _lgamma_above(k, k.select(reflected, size, x), key)
    sine = k.abs(sine_of_pi(k, size))
    upper, lower = log_in_two_parts(k, k.mul(size, sine))
    first, second = LOG_PI[key]
    total, error = two_sum(k, k.const(first, "float64"), k.neg(upper))
    total, more = two_sum(k, total, k.neg(above))
    below = k.add(total, k.add(k.add(error, more), k.sub(second, lower)))
    pole = k.or_(k.eq(sine, 0.0), k.eq(size, _INFINITY))
    below = k.select(pole, k.const(_INFINITY, "float64"), below)
    result = rarely(k, reflected, below, above)
    return k.select(k.eq(x, 0.0), k.const(_INFINITY, "float64"), result)


def _power_of_stirling(k: Scope, x: Value) -> Parts:
    """log2(x**(x - 1/2) exp(-x)) in two parts."""
    logarithm = log2_in_two_parts(k, x)
    zero = k.const(0.0, "float64")
    first = product(k, (k.sub(x, 0.5), zero), logarithm)
    second = times_constant(k, (x, zero), INVERSE_LN2["float64"])
    total, error = fast_two_sum(k, first[0], k.neg(second[0]))
    return fast_two_sum(k, total, k.add(error, k.sub(first[1], second[1])))


@in_float64
def gamma(k: Scope, x: Value, key: str) -> Value:
    """The gamma function, within 4 ulp; signed infinity at zeros, NaN at negative integers."""
    size = k.abs(x)
    reflected = k.lt(x, -0.5)
    positive = k.select(reflected, size, x)
    moved = _Moved(k, positive)
    far = k.gt(positive, _FAR)
    one = k.const(1.0, "float64")

    near = k.fma(moved.z, polynomial(k, moved.z, GAMMA[key]), 1.0)
    multiplied = k.fma(near, moved.factor, k.mul(near, moved.lost))
    top = k.select(moved.below, near, multiplied)
    bottom = k.select(moved.below, moved.factor, one)
    inside = at_most(k, at_least(k, positive, _FAR), 200.0)
    w = k.div(1.0, inside)
    series = k.fma(w, polynomial(k, w, STIRLING_FACTOR[key]), 1.0)
    top = k.select(far, series, top)
    bottom = k.select(far, one, bottom)
    exponent, rest = _power_of_stirling(k, inside)

    # gamma(x) = -pi / (sin(pi |x|) |x| gamma(|x|)) for negative x
    sine = sine_of_pi(k, size)
    below = k.mul(k.mul(k.neg(sine), size), top)
    top = k.select(reflected, bottom, top)
    bottom = k.select(reflected, below, bottom)
    exponent = k.select(reflected, k.neg(exponent), exponent)
    rest = k.select(reflected, k.neg(rest), rest)

    # Stirling's series lacks sqrt(2 pi), the reflection has pi more
    first, second = ROOT_TWO_PI[key][0], math.sqrt(math.pi / 2)
    straight = k.select(far, k.const(first, "float64"), one)
    turned = k.select(far, k.const(second, "float64"), k.const(math.pi, "float64"))
    ratio = k.mul(k.div(top, bottom), k.select(reflected, turned, straight))
    result = k.select(far, _times_exp2(k, ratio, exponent, rest), ratio)
    pole = k.and_(reflected, k.eq(sine, 0.0))
    undefined = k.or_(pole, k.eq(x, -_INFINITY))
    return k.select(undefined, k.const(_NAN, "float64"), result)


def _times_exp2(k: Scope, factor: Value, exponent: Value, rest: Value) -> Value:
    """factor * 2**(exponent + rest)."""
    magic = FORMATS["float64"].magic
    shifted = k.add(exponent, magic)
    whole = k.sub(shifted, magic)
    reduced, reduced_rest = fast_two_sum(k, k.sub(exponent, whole), rest)
    tail = exp2_tail(k, reduced, reduced_rest)
    return times_power_in_halves(k, k.fma(factor, tail, factor), whole)


@in_float64
def digamma(k: Scope, x: Value, key: str) -> Value:
    """The derivative of lgamma, within 4 ulp for x > 0; below, of the larger of it and 1.

    -inf at 0, inf at -0.0, NaN at negative integers. The zero at 1.46... is exact to the last
    place; those between negative integers are not.
    """
    negative, low = k.lt(x, 0.0), k.lt(x, 1.0)
    size = k.abs(x)
    y, y_rest = two_sum(k, size, k.const(1.0, "float64"))
    y = k.select(low, y, x)
    y_rest = k.select(low, y_rest, k.const(0.0, "float64"))

    # digamma(y) = digamma(y - 1) + 1/(y - 1): the sum of reciprocals is one fraction
    at, factor, slope = at_most(k, y, 8.0), k.const(1.0, "float64"), k.const(0.0, "float64")
    for _ in range(6):
        above = k.gt(at, 2.0)
        less = k.sub(at, 1.0)
        slope = k.select(above, k.fma(slope, less, factor), slope)
        factor = k.select(above, k.mul(factor, less), factor)
        at = k.select(above, less, at)
    first, second = DIGAMMA_ZERO[key]
    distance = k.add(k.sub(at, first), k.sub(y_rest, second))
    main, rest = two_product(k, distance, polynomial(k, k.sub(at, 1.5), DIGAMMA[key]))
    # Below 1 the reciprocal comes from -1/x; there is none to be added above.
    apart = k.and_(low, k.not_(negative))
    top = k.select(apart, k.const(-1.0, "float64"), slope)
    added = k.div(top, k.select(apart, x, factor))
    total, error = two_sum(k, main, added)
    near = k.add(total, k.add(error, rest))

    upper, lower = log_in_two_parts(k, y)
    w = k.div(1.0, at_least(k, y, 8.0))
    square = k.mul(w, w)
    less = k.fma(square, polynomial(k, square, DIGAMMA_FAR[key]), k.mul(w, 0.5))
    far = k.add(upper, k.sub(lower, less))
    far = k.select(k.lt(y, _INFINITY), far, y)
    result = k.select(k.gt(y, 8.0), far, near)

    cotangent = cotangent_of_pi(k, size)
    below = k.fma(cotangent, math.pi, result)  # of |x|, hence the sign
    whole = k.eq(k.floor(size), size)
    below = k.select(whole, k.const(_NAN, "float64"), below)
    result = rarely(k, negative, below, result)
    return k.select(k.lt(size, _TINY), k.div(-1.0, x), result)


# -- polygamma -------------------------------------------------------------------------------------


def _bernoulli(count: int) -> list[Fraction]:
    """The Bernoulli numbers B0, B1, ... (DLMF 24.5.3)."""
    found: list[Fraction] = []
    for m in range(count):
        total = sum((math.comb(m + 1, j) * found[j] for j in range(m)), Fraction(0))
        found.append(Fraction(1) if m == 0 else -total / (m + 1))
    return found


def _euler_maclaurin(s: int, terms: int) -> list[float]:
    """B2k/(2k)! * s (s+1) ... (s + 2k - 2), the coefficients of a**(1 - s - 2k)."""
    numbers = _bernoulli(2 * terms + 1)
    return [
        float(numbers[2 * i] / math.factorial(2 * i) * math.prod(range(s, s + 2 * i - 1)))
        for i in range(1, terms + 1)
    ]


def _derivative_of_cotangent(n: int) -> list[int]:
    """The n-th derivative of cot as a polynomial of cot, constant first."""
    found = [0, 1]
    for _ in range(n):
        slope = [i * c for i, c in enumerate(found)][1:]
        found = [0] * (len(slope) + 2)
        for i, c in enumerate(slope):
            found[i] -= c
            found[i + 2] -= c
    return found


def _power(k: Scope, x: Value, exponent: int) -> Value:
    """x**exponent for a positive integer, by squaring."""
    result: Value | None = None
    while exponent:
        if exponent & 1:
            result = x if result is None else k.mul(result, x)
        exponent >>= 1
        if exponent:
            x = k.mul(x, x)
    assert result is not None
    return result


def _zeta(k: Scope, x: Value, n: int, key: str) -> Value:
    """The Hurwitz zeta function of n + 1 and x > 0."""
    steps, terms = (14 + n // 2, 10) if key == "float64" else (7 + n // 2, 6)
    large = k.gt(x, float(steps))
    last = k.div(1.0, k.select(large, x, k.add(x, float(steps))))
    square = k.mul(last, last)
    coefficients = (1 / n, *_euler_maclaurin(n + 1, terms))
    series = k.fma(last, 0.5, horner(k, square, coefficients))
    rest = k.mul(_power(k, last, n), series)
    total = k.const(0.0, "float64")
    for j in reversed(range(steps)):
        total = k.add(total, _power(k, k.div(1.0, k.add(x, float(j))), n + 1))
    return k.add(rest, k.select(large, k.const(0.0, "float64"), total))


@in_float64
def polygamma(k: Scope, x: Value, key: str, n: int) -> Value:
    """The n-th derivative of digamma for a fixed n >= 1, within 4 + n ulp for x > 0.

    At 0 and negative integers inf for odd n; for even n -inf at 0, NaN below.
    """
    negative = k.lt(x, 0.0)
    size = k.abs(x)
    sign = 1.0 if n % 2 else -1.0
    factor = sign * math.factorial(n)
    result = k.mul(_zeta(k, k.select(negative, k.add(size, 1.0), x), n, key), factor)

    # psi_n(x) = (-1)**n psi_n(1 - x) - pi d^n cot(pi x), and cot(pi x) = -cot(pi |x|)
    cotangent = k.neg(cotangent_of_pi(k, size))
    coefficients = tuple(float(each) for each in _derivative_of_cotangent(n))
    slope = horner(k, cotangent, coefficients)
    below = k.fma(slope, -(math.pi ** (n + 1)), k.mul(result, -sign))
    pole = k.const(_INFINITY if n % 2 else _NAN, "float64")
    below = k.select(k.eq(k.floor(size), size), pole, below)
    below = k.select(k.lt(size, _TINY), k.mul(_power(k, k.div(1.0, x), n + 1), factor), below)
    return rarely(k, negative, below, result)
