"""How are the error function, its complement, the normal distribution and the inverses computed?

erf is an odd polynomial near 0; above, it is 1 - exp(P(u) - x**2) in float64 and 1 - P(x)**2 in
float32, where a root of erfc takes fewer terms than erfc and no exponential is needed: or, where
lookups are cheap, sixteen short polynomials. erfc is exp(-x**2) u Q(u), where u = 1/(x + c) spreads
the half line over a short interval, and the normal distribution is alike: `ndtr`, its density and
gelu are made of the same instructions, so a kernel that computes several of them at one argument
holds these once. The inverses are a polynomial near 0 and, for erfcinv(y) with t = sqrt(-log(y)),
t + P(1/(t + c)): the difference is smooth (DLMF 7.17(iii)).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.exp import exp_tail, lift_of, lifted_exp
from graphc.codegen.vecmath.log import log_arguments, log_sum
from graphc.codegen.vecmath.parts import (
    FORMATS,
    Parts,
    Pieces,
    at_least,
    at_most,
    bits_of,
    curvature_of,
    fast_two_sum,
    horner,
    in_float64,
    polynomial,
    power_of_two,
    product,
    quotient,
    reduced_by_ln2,
    sum_with_short,
    two_product,
    two_sum,
)
from graphc.codegen.vecmath.tables import (
    ERF_FAR,
    ERF_NEAR,
    ERF_PIECES,
    ERF_SMALL,
    ERFC,
    ERFC_CENTER,
    ERFC_ROOT,
    ERFC_SLOPE,
    ERFINV,
    ERFINV_FAR,
    ERFINV_NEAR,
    NORMAL_DENSITY,
    NORMAL_TAIL,
    NORMAL_TAIL_CENTER,
    NORMAL_TAIL_SLOPE,
    SHORT_ERFC,
    SHORT_TAIL,
    TWO_OVER_ROOT_PI,
    Table,
)


def _reciprocal(k: Scope, x: Value, shift: float, center: float) -> Value:
    """1/(x + shift) - center, without the rounding error of a quotient near the subtrahend."""
    return k.div(k.fma(x, -center, 1.0 - center * shift), k.add(x, shift))


def _near_erf(k: Scope, x: Value, size: Value) -> Parts:
    """erf(x) for |x| <= 0.9 in two parts, of which the second is not normalised."""
    square = k.mul(size, size)
    factor, factor_rest = TWO_OVER_ROOT_PI[x.dtype]
    square_rest = k.fma(size, size, k.neg(square))
    series = horner(k, square, ERF_SMALL[x.dtype])  # exacter than in two chains
    excess = k.fma(square, series, k.fma(square_rest, series, factor_rest))
    main, rest = two_product(k, x, factor)
    return main, k.fma(excess, x, rest)


def erf(k: Scope, x: Value) -> Value:
    """The error function, within 1 ulp; the sign of a zero is kept."""
    size = k.abs(x)
    if x.dtype == "float32":
        short = _erf_in_pieces if k.tables else _short_erf
        return k.copysign(short(k, size), x)
    near = k.add(*_near_erf(k, size, size))
    inside = at_most(k, size, 6.0)
    u = _reciprocal(k, inside, 4.5, 0.185546875)  # 0 near 0.89, where errors count most
    exponent = k.fma(k.neg(inside), inside, polynomial(k, u, ERF_FAR[x.dtype]))
    shifted, tail = exp_tail(k, exponent)
    scale = power_of_two(k, shifted, FORMATS[x.dtype].bits_of_one)
    far = k.fma(k.neg(scale), tail, k.sub(1.0, scale))
    return k.copysign(k.select(k.lt(size, 0.875), near, far), x)


def _short_erf(k: Scope, size: Value) -> Value:
    """erf(x) for x >= 0 in float32; beyond 4 it is 1 within half an ulp."""
    near = k.fma(size, horner(k, k.mul(size, size), ERF_NEAR[size.dtype]), size)
    root = horner(k, k.sub(at_most(k, size, 4.0), 1.5), ERFC_ROOT[size.dtype])
    return k.select(k.lt(size, 0.96875), near, k.fma(k.neg(root), root, 1.0))


_ERF = Pieces.of(ERF_PIECES["float32"])


def _erf_in_pieces(k: Scope, size: Value) -> Value:
    """The same, by lookups."""
    inside = at_most(k, size, 4.0)
    magic = FORMATS[size.dtype].magic
    number = k.fma(inside, 3.84375, magic)
    return _ERF.at(k, inside, bits_of(k, number), k.lt(number, magic + 4))


@dataclass(frozen=True)
class _Tail:
    """A function that is (c0 + u (c1 + u P(u)))/(x + shift) with u = 1/(x + shift) - center.

    c0 and c1 are in two parts each.
    """

    shift: float
    center: float
    value: Table
    slope: Table
    series: Table

    def at(self, k: Scope, x: Value) -> Parts:
        """Its value for x >= 0 in two parts, nearly exact: only P(u) is rounded."""
        dtype = x.dtype
        divisor = sum_with_short(k, x, self.shift)
        reciprocal = quotient(k, (k.const(1.0, dtype), k.const(0.0, dtype)), divisor)
        u, lost = two_sum(k, reciprocal[0], k.const(-self.center, dtype))
        u_rest = k.add(lost, reciprocal[1])
        series = polynomial(k, u, self.series[dtype])
        main, rest = two_product(k, u, series)
        slope = self._plus(k, self.slope[dtype], main, k.fma(u_rest, series, rest))
        value = self._plus(k, self.value[dtype], *product(k, (u, u_rest), slope))
        return product(k, value, reciprocal)

    @staticmethod
    def _plus(k: Scope, constant: tuple[float, ...], main: Value, rest: Value) -> Parts:
        total, lost = two_sum(k, k.const(constant[0], main.dtype), main)
        return total, k.add(lost, k.add(rest, constant[1]))


_ERFC = _Tail(3.0, 0.140625, ERFC_CENTER, ERFC_SLOPE, ERFC)
_NORMAL = _Tail(4.0, 0.125, NORMAL_TAIL_CENTER, NORMAL_TAIL_SLOPE, NORMAL_TAIL)


def _times_exp(k: Scope, factor: Parts, exponent: Parts) -> Value:
    """factor * exp(exponent) for an exponent below 0, rounded once."""
    power, power_rest = lifted_exp(k, *exponent)
    lifted = k.fma(power, factor[0], k.fma(power, factor[1], k.mul(power_rest, factor[0])))
    return k.mul(lifted, 1 / lift_of(power.dtype))


# From here on erfc is 0.
_ERFC_IS_0 = {"float64": 27.3, "float32": 10.1}


def erfc(k: Scope, x: Value) -> Value:
    """1 - erf(x), within 1.25 ulp of the small results too: by one formula in float32."""
    if x.dtype == "float32":
        short = _ShortErfc(k, x)
        tail = k.mul(k.add(*short.tail(k)), short.unit)
        return k.select(k.lt(x, 0.0), k.sub(2.0, tail), tail)
    size, dtype = k.abs(x), x.dtype
    main, rest = _near_erf(k, x, size)
    total, error = fast_two_sum(k, k.const(1.0, dtype), k.neg(main))
    near = k.add(total, k.sub(error, rest))

    inside = at_most(k, size, _ERFC_IS_0[dtype])
    square, square_rest = two_product(k, inside, inside)
    far = _times_exp(k, _ERFC.at(k, inside), (k.neg(square), k.neg(square_rest)))
    far = k.select(k.lt(x, 0.0), k.sub(2.0, far), far)
    return k.select(k.lt(size, 0.625), near, far)


class _Normal:
    """What the functions of the normal distribution share, of t = |x|.

    `tail`, the distribution function at -t, is in two parts, and both it and `density` are to be
    multiplied with `unit`, a power of two: the last product is the only rounding of a subnormal
    result.
    """

    def __init__(self, k: Scope, x: Value) -> None:
        self.size = at_most(k, k.abs(x), 1.5 * _ERFC_IS_0[x.dtype])
        self.unit = k.const(1 / lift_of(x.dtype), x.dtype)
        self._power = lifted_exp(k, *two_product(k, self.size, k.mul(self.size, -0.5)))

    def tail(self, k: Scope) -> Parts:
        return product(k, self._power, _NORMAL.at(k, self.size))

    def density(self, k: Scope) -> Value:
        (main, rest), (factor, factor_rest) = self._power, NORMAL_DENSITY[self.size.dtype]
        return k.fma(main, factor, k.fma(rest, factor, k.mul(main, factor_rest)))


class _ShortTail:
    """A tail of the normal distribution, or erfc, in float32, from x = t >= 0 and its exponential.

    With the reduction of exp, n ln 2 + r, the tail is 2**n (base + P(u)) exp(r)/(t + shift) in
    u = 1/(t + shift) - center. P and exp(r) - 1 are small against the base and 1, so their rounding
    errors count little, and the quotient is corrected for what it and its divisor lost. What is
    computed here is to be multiplied with `unit`, as in `_Normal`.
    """

    shift: float
    center: float
    base: float
    series: Table

    def _reduce(self, k: Scope, size: Value, exponent: Parts) -> None:
        r = reduced_by_ln2(k, *exponent)
        lift = lift_of(size.dtype)  # 2**n may be subnormal, or 0 where the results are
        power = power_of_two(k, r.shifted, FORMATS[size.dtype].bits_of(lift))
        self.size, self.unit = size, k.mul(power, 1 / lift)
        self.high, self.curvature = r.high, curvature_of(k, r)

    def tail(self, k: Scope) -> Parts:
        t = self.size
        divisor, divisor_rest = sum_with_short(k, t, self.shift)
        reciprocal = k.div(1.0, divisor)
        series = polynomial(k, k.sub(reciprocal, self.center), self.series[t.dtype])
        grown = k.fma(series, k.add(self.high, self.curvature), series)
        linear = k.fma(self.high, self.base, self.base)
        lost = k.fma(self.high, self.base, k.sub(self.base, linear))
        change = k.add(k.fma(self.curvature, self.base, grown), lost)
        top, top_rest = fast_two_sum(k, linear, change)
        main = k.mul(top, reciprocal)
        wrong = k.add(k.fma(k.neg(main), divisor, top), top_rest)
        return main, k.mul(k.fma(k.neg(main), divisor_rest, wrong), reciprocal)


class _ShortNormal(_ShortTail, _Normal):
    """The same as `_Normal` for float32, nearly as exact."""

    shift, center, base, series = 1.25, 0.3125, 0.5, SHORT_TAIL

    def __init__(self, k: Scope, x: Value) -> None:
        size = at_most(k, k.abs(x), 1.5 * _ERFC_IS_0[x.dtype])
        self._reduce(k, size, two_product(k, size, k.mul(size, -0.5)))

    def density(self, k: Scope) -> Value:
        factor, rest = NORMAL_DENSITY[self.size.dtype]
        change = k.fma(self.high, factor, k.fma(self.curvature, factor, rest))
        return k.add(change, factor)


class _ShortErfc(_ShortTail):
    """erfc(|x|) in float32."""

    shift, center, base, series = 0.75, 0.625, 0.65625, SHORT_ERFC

    def __init__(self, k: Scope, x: Value) -> None:
        size = at_most(k, k.abs(x), _ERFC_IS_0[x.dtype])
        self._reduce(k, size, two_product(k, size, k.neg(size)))


def _normal(k: Scope, x: Value) -> _Normal:
    return _ShortNormal(k, x) if x.dtype == "float32" else _Normal(k, x)


def ndtr(k: Scope, x: Value) -> Value:
    """erfc(-x/sqrt(2))/2, within 1.5 ulp of the small results too."""
    normal = _normal(k, x)
    tail = k.mul(k.add(*normal.tail(k)), normal.unit)
    return k.select(k.lt(x, 0.0), tail, k.sub(1.0, tail))


def normal_density(k: Scope, x: Value) -> Value:
    """exp(-x**2/2)/sqrt(2 pi), within 1 ulp."""
    normal = _normal(k, x)
    return k.mul(normal.density(k), normal.unit)


def gelu(k: Scope, x: Value) -> Value:
    """x erfc(-x/sqrt(2))/2, within 1.5 ulp; -0.0 at -inf.

    It is max(x, 0) less |x| times the distribution function at -|x|.
    """
    normal = _normal(k, x)
    tail, tail_rest = normal.tail(k)
    main, rest = two_product(k, normal.size, tail)
    less = k.mul(k.add(main, k.fma(normal.size, tail_rest, rest)), normal.unit)
    return k.sub(at_least(k, x, -0.0), less)


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
    """The inverse of erf, within 3 ulp; infinite at -1 and 1, NaN beyond."""
    size = k.abs(x)
    left = k.sub(1.0, size)
    far = _inverse_of_tail(k, at_least(k, left, 2.0**-54), key, deep=False)
    far = k.select(k.eq(left, 0.0), k.const(float("inf"), "float64"), far)
    far = k.select(k.lt(left, 0.0), k.const(float("nan"), "float64"), far)
    return k.select(k.gt(size, 0.5), k.copysign(far, x), _inverse_near_0(k, x, key))


@in_float64
def erfcinv(k: Scope, y: Value, key: str) -> Value:
    """The inverse of erfc, within 3 ulp; inf at 0, -inf at 2, NaN outside."""
    left = k.sub(1.0, y)
    above = k.gt(y, 1.0)
    tail = k.select(above, k.sub(2.0, y), y)
    far = _inverse_of_tail(k, tail, key, deep=True)
    far = k.select(k.eq(tail, 0.0), k.const(float("inf"), "float64"), far)
    far = k.select(k.lt(tail, 0.0), k.const(float("nan"), "float64"), far)
    far = k.select(above, k.neg(far), far)
    return k.select(k.gt(k.abs(left), 0.5), far, _inverse_near_0(k, left, key))
