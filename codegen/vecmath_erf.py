"""How are the error function, its complement and their inverses computed?

erf is an odd polynomial near 0 and 1 - exp(P(u) - x**2) above; erfc is exp(-x**2) u Q(u), where
u = 1/(x + c) spreads the half line over a short interval. The inverses are a polynomial near 0 and,
for erfcinv(y) with t = sqrt(-log(y)), t + P(1/(t + c)): the difference is smooth (DLMF 7.17(iii)).
"""

from __future__ import annotations

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath_exp import exp_tail, power_in_two_factors
from graphc.codegen.vecmath_log import log_arguments, log_sum
from graphc.codegen.vecmath_parts import (
    FORMATS,
    Parts,
    Reduced,
    at_least,
    at_most,
    curvature_of,
    fast_two_sum,
    in_float64,
    polynomial,
    power_of_two,
    quotient,
    reduce_by_ln2,
    two_product,
    two_sum,
)
from graphc.codegen.vecmath_tables import (
    ERF_FAR,
    ERF_SMALL,
    ERFC,
    ERFINV,
    ERFINV_FAR,
    ERFINV_NEAR,
    TWO_OVER_ROOT_PI,
)


def _reciprocal(k: Scope, x: Value, shift: float, center: float) -> Value:
    """1/(x + shift) - center, without the rounding error of a quotient near the subtrahend."""
    return k.div(k.fma(x, -center, 1.0 - center * shift), k.add(x, shift))


def _near_erf(k: Scope, x: Value, size: Value) -> Parts:
    """erf(x) for |x| <= 0.9 in two parts, of which the second is not normalised."""
    square = k.mul(size, size)
    factor, factor_rest = TWO_OVER_ROOT_PI[x.dtype]
    square_rest = k.fma(size, size, k.neg(square))
    series = polynomial(k, square, ERF_SMALL[x.dtype])
    excess = k.fma(square, series, k.fma(square_rest, series, factor_rest))
    main, rest = two_product(k, x, factor)
    return main, k.fma(excess, x, rest)


def erf(k: Scope, x: Value) -> Value:
    """The error function, within 1 ulp; the sign of a zero is kept."""
    size = k.abs(x)
    near = k.add(*_near_erf(k, size, size))
    inside = at_most(k, size, 6.0 if x.dtype == "float64" else 4.0)
    u = _reciprocal(k, inside, 4.5, 0.185546875)  # 0 near 0.89, where errors count most
    exponent = k.fma(k.neg(inside), inside, polynomial(k, u, ERF_FAR[x.dtype]))
    shifted, tail = exp_tail(k, exponent)
    scale = power_of_two(k, shifted, FORMATS[x.dtype].bits_of_one)
    far = k.fma(k.neg(scale), tail, k.sub(1.0, scale))
    return k.copysign(k.select(k.lt(size, 0.875), near, far), x)


def erfc(k: Scope, x: Value) -> Value:
    """1 - erf(x), within 3.5 ulp of the small results too."""
    size, dtype = k.abs(x), x.dtype
    main, rest = _near_erf(k, x, size)
    total, error = fast_two_sum(k, k.const(1.0, dtype), k.neg(main))
    near = k.add(total, k.sub(error, rest))

    inside = at_most(k, size, 27.3 if dtype == "float64" else 10.1)
    square, square_rest = two_product(k, inside, inside)
    exponent = k.neg(square)
    r = reduce_by_ln2(k, exponent)
    low = k.sub(r.low, square_rest)
    r = Reduced(r.shifted, r.high, low, k.add(r.high, low))
    tail = k.add(r.high, curvature_of(k, r))
    three = k.const(3.0, dtype)
    divisor = two_sum(k, inside, three)
    reciprocal, lost = quotient(k, (k.const(1.0, dtype), k.const(0.0, dtype)), divisor)
    u = k.add(k.sub(reciprocal, 0.09375), lost)
    factor = polynomial(k, u, ERFC[dtype])
    scale, rest = power_in_two_factors(k, exponent, r.shifted)
    factor = k.fma(factor, tail, factor)
    factor = k.fma(factor, reciprocal, k.mul(factor, lost))
    far = k.mul(k.mul(factor, scale), rest)
    far = k.select(k.lt(x, 0.0), k.sub(2.0, far), far)
    return k.select(k.lt(size, 0.5), near, far)


def _inverse_of_tail(k: Scope, y: Value, key: str, deep: bool) -> Value:
    """erfcinv(y) for y <= 1/2; `deep`: below 2**-53 as well."""
    t = k.sqrt(k.neg(log_sum(k, *log_arguments(k, y))))
    u = _reciprocal(k, t, 2.0, 0.234375)
    table = [k.const(each, "float64") for each in ERFINV_NEAR[key]]
    if deep:
        far = k.gt(t, 6.05)
        u = k.select(far, _reciprocal(k, t, 4.0, 0.0625), u)
        table = [
            k.select(far, k.const(each, "float64"), near)
            for each, near in zip(ERFINV_FAR[key], table, strict=True)
        ]
    rest = table[-1]
    for coefficient in reversed(table[:-1]):
        rest = k.fma(rest, u, coefficient)
    return k.add(t, rest)


def _inverse_near_0(k: Scope, x: Value, key: str) -> Value:
    return k.mul(x, polynomial(k, k.mul(x, x), ERFINV[key]))


@in_float64
def erfinv(k: Scope, x: Value, key: str) -> Value:
    """The inverse of erf, within 4 ulp; infinite at -1 and 1, NaN beyond."""
    size = k.abs(x)
    left = k.sub(1.0, size)
    far = _inverse_of_tail(k, at_least(k, left, 2.0**-54), key, deep=False)
    far = k.select(k.eq(left, 0.0), k.const(float("inf"), "float64"), far)
    far = k.select(k.lt(left, 0.0), k.const(float("nan"), "float64"), far)
    return k.select(k.gt(size, 0.5), k.copysign(far, x), _inverse_near_0(k, x, key))


@in_float64
def erfcinv(k: Scope, y: Value, key: str) -> Value:
    """The inverse of erfc, within 4 ulp; inf at 0, -inf at 2, NaN outside."""
    left = k.sub(1.0, y)
    above = k.gt(y, 1.0)
    tail = k.select(above, k.sub(2.0, y), y)
    far = _inverse_of_tail(k, tail, key, deep=True)
    far = k.select(k.eq(tail, 0.0), k.const(float("inf"), "float64"), far)
    far = k.select(k.lt(tail, 0.0), k.const(float("nan"), "float64"), far)
    far = k.select(above, k.neg(far), far)
    return k.select(k.gt(k.abs(left), 0.5), far, _inverse_near_0(k, left, key))
