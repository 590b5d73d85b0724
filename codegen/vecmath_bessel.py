"""How are the modified Bessel functions of the first kind, I0 and I1, computed?

Up to 16 by a polynomial in x**2, all of whose terms are positive as those of the power series are
(DLMF 10.25.2); above, exp(x)/sqrt(x) times a polynomial in 1/x (DLMF 10.40.1). float32 computes in
float64 with shorter polynomials.
"""

from __future__ import annotations

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath_exp import exp, exp_tail, times_power_in_halves
from graphc.codegen.vecmath_parts import (
    FORMATS,
    at_least,
    at_most,
    horner,
    in_float64,
    polynomial,
    two_product,
)
from graphc.codegen.vecmath_tables import I0, I0_FAR, I1, I1_FAR

_FAR = 16.0


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
