"""How are the Bessel functions J0, J1, Y0 and Y1, and the modified ones, I0 and I1, computed?

The modified ones: up to 16 by a polynomial in x**2, all of whose terms are positive as those of the
power series are (DLMF 10.25.2); above, exp(x)/sqrt(x) times a polynomial in 1/x (DLMF 10.40.1).

The others: up to 8 a polynomial in x**2 times the distances of x**2 from the squares of the first
three zeros, which are known in two parts, so that values near these are as exact as others; above,
a cosine and a sine of x with polynomials in 1/x**2 as factors (DLMF 10.17.3). There the error is a
few last places of the amplitude, sqrt(2/(pi x)), not of the value. Y0 and Y1 are the same waves a
quarter turn on; up to 8 they are the logarithm times J0 or J1, and a polynomial (DLMF 10.8.1).

float32 computes in float64 with shorter polynomials.
"""

from __future__ import annotations

import math

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.exp import exp, exp_tail, times_power_in_halves
from graphc.codegen.vecmath.log import log_in_two_parts
from graphc.codegen.vecmath.parts import (
    FORMATS,
    at_least,
    at_most,
    horner,
    in_float64,
    polynomial,
    two_product,
    two_sum,
)
from graphc.codegen.vecmath.tables import (
    I0,
    I0_FAR,
    I1,
    I1_FAR,
    J0,
    J0_COSINE,
    J0_SINE,
    J0_SMALL,
    J0_ZERO_1,
    J0_ZERO_2,
    J0_ZERO_3,
    J1,
    J1_COSINE,
    J1_SINE,
    J1_ZERO_1,
    J1_ZERO_2,
    J1_ZERO_3,
    Y0,
    Y0_SMALL,
    Y1,
)
from graphc.codegen.vecmath.trig import sine_and_cosine, turn

_FAR = 16.0  # of the modified functions
_WAVES = 8.0  # from here on the others are waves with slowly changing factors
_MIDDLE = 32.0  # of the squares below that: a polynomial around it cancels least
_ZEROS = ((J0_ZERO_1, J0_ZERO_2, J0_ZERO_3), (J1_ZERO_1, J1_ZERO_2, J1_ZERO_3))
_INFINITY = float("inf")
_TINY = 2.0**-40  # below, only the pole counts


def _near(k: Scope, size: Value, order: int, key: str) -> Value:
    inside = at_most(k, size, _FAR)
    square, square_rest = two_product(k, inside, inside)  # Horner's rule alone squares it no more
    if order == 0:
        result = k.fma(square, horner(k, square, I0[key]), 1.0)
    else:
        result = k.mul(inside, horner(k, square, I1[key]))
    # Both grow about as exp(x), so by square_rest/(2 x) of themselves where that matters.
    change = k.mul(square_rest, k.div(0.5, at_least(k, inside, 1.0)))
    return k.fma(result, change, result)


def _far(k: Scope, size: Value, order: int, key: str) -> Value:
    """The function times exp(-size), for a size of at least 16."""
    inside = at_least(k, size, _FAR)
    series = polynomial(k, k.div(1.0, inside), (I0_FAR, I1_FAR)[order][key])
    return k.div(series, k.sqrt(inside))


def _plain(k: Scope, x: Value, order: int, key: str) -> Value:
    """The function overflows later than exp does: its power of two is multiplied last."""
    size = at_most(k, k.abs(x), 720.0)
    shifted, tail = exp_tail(k, size)
    far = _far(k, size, order, key)
    n = k.sub(shifted, FORMATS["float64"].magic)
    far = times_power_in_halves(k, k.fma(far, tail, far), n)
    return k.select(k.gt(size, _FAR), far, _near(k, size, order, key))


def _decaying(k: Scope, x: Value, order: int, key: str) -> Value:
    size = k.abs(x)
    near = k.mul(_near(k, size, order, key), exp(k, k.neg(size)))
    return k.select(k.gt(size, _FAR), _far(k, size, order, key), near)


@in_float64
def i0(k: Scope, x: Value, key: str) -> Value:
    """I0(x), within 4 ulp."""
    return _plain(k, x, 0, key)


@in_float64
def i1(k: Scope, x: Value, key: str) -> Value:
    """I1(x), within 4 ulp; the sign of a zero is kept."""
    return k.copysign(_plain(k, x, 1, key), x)


@in_float64
def i0e(k: Scope, x: Value, key: str) -> Value:
    """exp(-|x|) I0(x), within 4 ulp."""
    return _decaying(k, x, 0, key)


@in_float64
def i1e(k: Scope, x: Value, key: str) -> Value:
    """exp(-|x|) I1(x), within 4 ulp; the sign of a zero is kept."""
    return k.copysign(_decaying(k, x, 1, key), x)


def _between_zeros(k: Scope, size: Value, order: int, key: str) -> Value:
    inside = at_most(k, size, _WAVES)
    square, rest = two_product(k, inside, inside)
    result = horner(k, k.sub(square, _MIDDLE), (J0, J1)[order][key])
    for zero in _ZEROS[order]:
        main, tail = zero["float64"]
        distance = k.add(k.sub(main, square), k.sub(tail, rest))
        result = k.mul(result, distance)
    if order == 1:
        return k.mul(inside, result)
    small = k.fma(square, horner(k, square, J0_SMALL[key]), 1.0)
    return k.select(k.lt(inside, 1.0), small, result)


def _wave(k: Scope, size: Value, order: int, key: str, second: bool = False) -> Value:
    """sqrt(2/(pi x)) (P cos w - Q sin w) for w = x - pi/4 or x - 3 pi/4; of the second kind it is
    P sin w + Q cos w.

    With the sine s and the cosine c of x less its quarter turns, cos x + sin x and sin x - cos x
    are c + s and s - c, or, for an odd number of turns, c - s and c + s; after two both change
    sign.
    """
    inside = at_least(k, size, _WAVES)
    inverse = k.div(1.0, inside)
    square = k.mul(inverse, inverse)
    by_cosine = polynomial(k, square, (J0_COSINE, J1_COSINE)[order][key])
    by_sine = k.mul(inverse, polynomial(k, square, (J0_SINE, J1_SINE)[order][key]))
    turned = turn(k, inside)
    sine, cosine = sine_and_cosine(k, turned)
    total, total_rest = two_sum(k, cosine[0], sine[0])
    both = k.add(total, k.add(total_rest, k.add(cosine[1], sine[1])))
    apart, apart_rest = two_sum(k, cosine[0], k.neg(sine[0]))
    difference = k.add(apart, k.add(apart_rest, k.sub(cosine[1], sine[1])))
    odd = k.ne(k.and_(turned.quarter, 1), 0)
    added = k.select(odd, difference, both)
    subtracted = k.select(odd, both, k.neg(difference))
    if second == (order == 0):
        wave = k.fma(by_cosine, subtracted, k.mul(by_sine, added))
    elif second:
        wave = k.fma(by_sine, subtracted, k.neg(k.mul(by_cosine, added)))
    else:
        wave = k.fma(by_cosine, added, k.neg(k.mul(by_sine, subtracted)))
    wave = k.select(k.ne(k.and_(turned.quarter, 2), 0), k.neg(wave), wave)
    return k.div(k.mul(wave, 1 / math.sqrt(math.pi)), k.sqrt(inside))


def _oscillating(k: Scope, x: Value, order: int, key: str) -> Value:
    size = k.abs(x)
    wave = k.select(k.eq(size, _INFINITY), 0.0, _wave(k, size, order, key))
    return k.select(k.gt(size, _WAVES), wave, _between_zeros(k, size, order, key))


@in_float64
def j0(k: Scope, x: Value, key: str) -> Value:
    """J0(x), within 3 ulp of it or of 1/2, whichever is more; 0 at infinity."""
    return _oscillating(k, x, 0, key)


@in_float64
def j1(k: Scope, x: Value, key: str) -> Value:
    """J1(x), within 3 ulp of it or of 1/2, whichever is more; the sign of a zero is kept, and that
    of infinity is its result's.
    """
    return k.mul(_oscillating(k, x, 1, key), k.copysign(1.0, x))


def _second_near(k: Scope, x: Value, order: int, key: str) -> Value:
    """2/pi (log(x) J0(x) + R(x**2)), or 2/pi (log(x) J1(x) - 1/x + x R(x**2)), up to 8."""
    inside = at_most(k, x, _WAVES)
    square, rest = two_product(k, inside, inside)
    centred = k.add(k.sub(square, _MIDDLE), rest)
    series = horner(k, centred, (Y0, Y1)[order][key])
    upper, lower = log_in_two_parts(k, inside)
    first = _between_zeros(k, inside, order, key)
    main, error = two_product(k, upper, first)
    error = k.fma(lower, first, error)
    if order == 0:
        small = horner(k, square, Y0_SMALL[key])  # around the middle terms would cancel
        total, more = two_sum(k, main, k.select(k.lt(inside, 2.0), small, series))
        return k.mul(k.add(total, k.add(more, error)), 2 / math.pi)
    pole = k.div(-1.0, inside)
    total, more = two_sum(k, pole, main)
    near = k.mul(k.add(total, k.fma(inside, series, k.add(more, error))), 2 / math.pi)
    alone = k.div(-2 / math.pi, inside)  # it overflows later than 1/x does
    return k.select(k.lt(inside, _TINY), alone, near)


def _second(k: Scope, x: Value, order: int, key: str) -> Value:
    wave = k.select(k.eq(x, _INFINITY), 0.0, _wave(k, x, order, key, second=True))
    found = k.select(k.gt(x, _WAVES), wave, _second_near(k, x, order, key))
    found = k.select(k.eq(x, 0.0), -_INFINITY, found)
    return k.select(k.lt(x, 0.0), float("nan"), found)


@in_float64
def y0(k: Scope, x: Value, key: str) -> Value:
    """Y0(x), within 4 ulp of it or of 1/2, whichever is more; -inf at 0, NaN below."""
    return _second(k, x, 0, key)


@in_float64
def y1(k: Scope, x: Value, key: str) -> Value:
    """Y1(x), within 4 ulp of it or of 1/2, whichever is more; -inf at 0, NaN below."""
    return _second(k, x, 1, key)
