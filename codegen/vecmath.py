"""How are exp, log, tanh and their like computed from scalar instructions?

A procedure takes the builder `k` and values, and emits instructions; the same text serves SIMD
lanes, CUDA threads and the NumPy interpreter, so their results have the same bits. There are no
branches and no tables in memory: an argument is reduced to a small interval, a polynomial is
evaluated with fused multiply-adds, and the result is put together again, carrying the rounding
error of the largest term where it matters. Special values come out of the arithmetic where they
can; a `select` does the rest.

Errors are measured in units in the last place of the exact result, over the full range including
subnormal arguments and results. The bounds in the docstrings hold for float32 and float64, and
tests compare them with mpmath. float16 and bfloat16 compute in float32.

Coefficients: interpolation of the stated function at Chebyshev nodes in 300-bit arithmetic, rounded
to the dtype; `tests/codegen/test_vecmath.py` derives every table again. The reductions are those of
Cody & Waite (1980) and Payne & Hanek (1983); the forms of exp and expm1 follow Tang (ACM TOMS 15,
1989), those of the logarithms Tang (ACM TOMS 16, 1990) and fdlibm (Sun Microsystems, 1993).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.scalar import BITS, Scope, Value

Procedure = Callable[..., Value]
_Parts = tuple[Value, Value]


@dataclass(frozen=True)
class Format:
    """What the procedures need to know about a binary floating-point format.

    `magic` is 1.5 * 2**fraction: adding it rounds to an integer, which is then found in the low
    bits. `ln2` is in two parts, the upper one short enough that its product with any exponent is
    exact. Beyond `largest` and `least` exp is surely infinite or zero; below `saturated`,
    1 + 2 exp(x) is 1.
    """

    dtype: str
    word: str
    fraction: int
    bias: int
    inverse_ln2: float
    ln2: tuple[float, float]
    least: float
    largest: float
    saturated: float

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.fraction

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`: exponent `fraction`, upper fraction bit set."""
        return (self.bias + self.fraction << self.fraction) | 1 << self.fraction - 1

    @property
    def bits_of_one(self) -> int:
        return self.bias << self.fraction

    @property
    def bits_of_two(self) -> int:
        return self.bias + 1 << self.fraction

    @property
    def bits_of_three_quarters(self) -> int:
        return self.bits_of_one - (1 << self.fraction - 1)

    @property
    def exponent_mask(self) -> int:
        """The bits of sign and exponent."""
        return (1 << BITS[self.dtype]) - (1 << self.fraction)

    @property
    def exponent_origin(self) -> float:
        """What `magic_bits` stand for with the exponent field of 2 in them: magic + bias + 1."""
        return self.magic + self.bias + 1

    @property
    def normal(self) -> float:
        """The least normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {
    "float64": Format(
        dtype="float64",
        word="uint64",
        fraction=52,
        bias=1023,
        inverse_ln2=1.4426950408889634,
        ln2=(0.6931471805598903, 5.497923018708371e-14),
        least=-746.0,
        largest=710.0,
        saturated=-40.0,
    ),
    "float32": Format(
        dtype="float32",
        word="uint32",
        fraction=23,
        bias=127,
        inverse_ln2=1.4426950216293335,
        ln2=(0.693145751953125, 1.428606765330187e-06),
        least=-104.0,
        largest=89.0,
        saturated=-20.0,
    ),
}

# Constants as the nearest number of the format and what it leaves.
LN2 = {
    "float64": (0.6931471805599453, 2.3190468138462996e-17),
    "float32": (0.6931471824645996, -1.9046542121259336e-09),
}
INVERSE_LN2 = {
    "float64": (1.4426950408889634, 2.0355273740931033e-17),
    "float32": (1.4426950216293335, 1.925963033500011e-08),
}
TWO_OVER_ROOT_PI = {
    "float64": (1.1283791670955126, 1.533545961316588e-17),
    "float32": (1.128379225730896, -5.8635382771399236e-08),
}

# (exp(r) - 1 - r) / r**2 on |r| <= ln(2)/2; relative error of exp 2**-58 and 2**-29
EXP = {
    "float64": (
        0.5,
        0.16666666666666688,
        0.04166666666666833,
        0.008333333333313618,
        0.0013888888888355883,
        0.00019841269903393853,
        2.4801588101056327e-05,
        2.755722884186362e-06,
        2.75567383591521e-07,
        2.5113886261876557e-08,
        2.1055245993118447e-09,
    ),
    "float32": (
        0.5,
        0.1666666716337204,
        0.041666243225336075,
        0.00833328627049923,
        0.001394755905494094,
        0.00019906436500605196,
    ),
}
# (log((1 + s)/(1 - s)) - 2 s) / s**3 in s**2 <= 0.04; relative error of log 2**-62 and 2**-28
LOG = {
    "float64": (
        0.6666666666666659,
        0.40000000000061936,
        0.28571428554935835,
        0.222222243716142,
        0.18181662399016713,
        0.15391201834056953,
        0.1317238261853732,
        0.13849746991816575,
    ),
    "float32": (
        0.6666697859764099,
        0.39955654740333557,
        0.3039637804031372,
    ),
}
# (2**r - 1 - r ln 2) / r**2 on |r| <= 1/2; relative error of exp2 2**-58 and 2**-29
EXP2 = {
    "float64": (
        0.2402265069591007,
        0.05550410866482165,
        0.00961812910762886,
        0.00133335581463969,
        0.00015403530392790477,
        1.5252733851816916e-05,
        1.3215487216140123e-06,
        1.0178052627291088e-07,
        7.054762914389128e-09,
        4.4565008587246024e-10,
        2.5897977682818875e-11,
    ),
    "float32": (
        0.24022650718688965,
        0.05550410971045494,
        0.009618031792342663,
        0.0013333483366295695,
        0.00015468598576262593,
        1.5302830433938652e-05,
    ),
}
# (erf(x)/x - 2/sqrt(pi)) / x**2 in x**2 <= 0.75**2
ERF_SMALL = {
    "float64": (
        -0.37612638903183726,
        0.11283791670952789,
        -0.026866170644456348,
        0.00522397761565378,
        -0.000854832620088619,
        0.0001205528997164403,
        -1.4924204946369666e-05,
        1.6430798826168726e-06,
        -1.5940926072135625e-07,
        1.1475279541949191e-08,
    ),
    "float32": (
        -0.376126229763031,
        0.1128341481089592,
        -0.026836102828383446,
        0.005116908811032772,
        -0.000676587747875601,
    ),
}
# log(erfc(x)) + x**2 in u = 1/(x + 4.5) - 0.140625 for 0.75 <= x <= 5.95 (float32: 4): least
# squares with the weight erfc(x), because the result is 1 - erfc
ERF_FAR = {
    "float64": (
        -1.5953239242893469,
        17.223592711222445,
        12.131905774888576,
        242.53489939424117,
        -488.0790038408553,
        2055.8254038740483,
        -34705.576312860205,
        93749.60910307484,
        -675991.946249335,
        7189935.576169939,
        -28133711.17663516,
        227297583.69029403,
        -1858991700.92144,
        4911937263.575182,
    ),
    "float32": (
        -1.5953137874603271,
        17.22088050842285,
        12.401389122009277,
        229.21548461914062,
        -131.5460968017578,
        -3048.310546875,
    ),
}
# log2((1 + s)/(1 - s)) = s (C1 + z (C3 + z Q(z))) in z = s**2 <= 0.04: C1 = 2/ln 2 and C3 = C1/3 in
# two parts, and Q
LOG2_LINEAR = {
    "float64": (
        2.8853900817779268,
        4.0710547481862066e-17,
    ),
    "float32": (
        2.885390043258667,
        3.851926067000022e-08,
    ),
}
LOG2_CUBIC = {
    "float64": (
        0.9617966939259756,
        5.0577616648125907e-17,
    ),
    "float32": (
        0.9617967009544373,
        -7.028461812552678e-09,
    ),
}
LOG2_TAIL = {
    "float64": (
        0.5770780163555854,
        0.41219858311108365,
        0.32059889798680485,
        0.26230818779751963,
        0.22195319406276812,
        0.19235402515277403,
        0.16989012750523333,
        0.148864811773515,
        0.16815953091514924,
    ),
    "float32": (
        0.5770778656005859,
        0.4122183620929718,
        0.3194746673107147,
        0.2891586720943451,
    ),
}
# (sin(r)/r - 1) / z and (cos(r) - 1 + z/2) / z**2 in z = r**2 <= 0.63
SIN = {
    "float64": (
        -0.1666666666666662,
        0.008333333333319967,
        -0.00019841269828024108,
        2.755731310874013e-06,
        -2.505067037879812e-08,
        1.589185031924771e-10,
    ),
    "float32": (
        -0.16666652262210846,
        0.008332060649991035,
        -0.00019503301882650703,
    ),
}
COS = {
    "float64": (
        0.04166666666666655,
        -0.001388888888886752,
        2.4801587285812238e-05,
        -2.755731338468507e-07,
        2.087560107428565e-09,
        -1.1353693336862584e-11,
    ),
    "float32": (
        0.04166664183139801,
        -0.001388709177263081,
        2.4410470359725878e-05,
    ),
}
# The first bits of 2/pi.
TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424d"
    "d2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639"
    "835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f46"
    "3f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)
TWO_OVER_PI_BITS = 1216

# -- pieces ------------------------------------------------------------------------------------


def polynomial(k: Scope, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The polynomial with these coefficients, constant first, as two Horner chains in x**2."""
    if len(coefficients) < 4:
        return _horner(k, x, coefficients)
    square = k.mul(x, x)
    even = _horner(k, square, coefficients[0::2])
    odd = _horner(k, square, coefficients[1::2])
    return k.fma(odd, x, even)


def _horner(k: Scope, x: Value, coefficients: tuple[float, ...]) -> Value:
    result = k.const(coefficients[-1], x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        result = k.fma(result, x, coefficient)
    return result


def _at_most(k: Scope, x: Value, limit: float) -> Value:
    """The smaller of x and a limit; NaN passes."""
    return k.select(k.gt(x, limit), k.const(limit, x.dtype), x)


def _at_least(k: Scope, x: Value, limit: float) -> Value:
    return k.select(k.lt(x, limit), k.const(limit, x.dtype), x)


def _bits(k: Scope, x: Value) -> Value:
    return k.bitcast(x, FORMATS[x.dtype].word)


def _power_of_two(k: Scope, shifted: Value, bias: Value | int) -> Value:
    """2**n times the power of two whose bits are `bias`; `shifted` is magic + n."""
    format_ = FORMATS[shifted.dtype]
    exponent = k.shl(_bits(k, shifted), format_.fraction)
    return k.bitcast(k.add(exponent, bias), shifted.dtype)


def _fast_two_sum(k: Scope, a: Value, b: Value) -> tuple[Value, Value]:
    """a + b and its rounding error, if |a| >= |b| or a is 0."""
    total = k.add(a, b)
    return total, k.sub(b, k.sub(total, a))


@dataclass(frozen=True)
class _Reduced:
    """x = n ln 2 + high + low, with n in the low bits of `shifted`; `high` is exact.

    `both` is high + low, rounded; |both| < 0.35.
    """

    shifted: Value
    high: Value
    low: Value
    both: Value


def _reduced(k: Scope, x: Value) -> _Reduced:
    """The reduction of a finite x between the format's `least` and `largest`."""
    format_ = FORMATS[x.dtype]
    shifted = k.fma(x, format_.inverse_ln2, format_.magic)
    n = k.sub(shifted, format_.magic)
    high = k.fma(n, -format_.ln2[0], x)
    low = k.mul(n, -format_.ln2[1])
    return _Reduced(shifted, high, low, k.add(high, low))


def _curvature(k: Scope, r: _Reduced) -> Value:
    """exp(high + low) - 1 - high."""
    square = k.mul(r.both, r.both)
    return k.fma(square, polynomial(k, r.both, EXP[r.both.dtype]), r.low)


def _fine_curvature(k: Scope, r: _Reduced) -> Value:
    """exp(high + low) - 1 - high, without the rounding error of the square in the largest term."""
    half, *others = EXP[r.both.dtype]
    cube = k.mul(k.mul(r.both, r.both), r.both)
    cubic = k.fma(cube, polynomial(k, r.both, tuple(others)), r.low)
    return k.fma(k.mul(r.both, half), r.both, cubic)


def _scaled_sum(k: Scope, offset: Value, scale: Value, high: Value, curvature: Value) -> _Parts:
    """offset + scale (high + curvature) in two parts, if |offset| >= |scale high| or it is 0."""
    total, error = _fast_two_sum(k, offset, k.mul(scale, high))
    return total, k.fma(scale, curvature, error)


# -- the exponential family --------------------------------------------------------------------


def _exp_tail(k: Scope, x: Value) -> tuple[Value, Value]:
    """exp(x) = 2**n * (1 + tail), with n in the low bits of the first result."""
    r = _reduced(k, x)
    return r.shifted, k.add(r.high, _curvature(k, r))


def exp(k: Scope, x: Value) -> Value:
    """exp(x), within 1 ulp."""
    format_ = FORMATS[x.dtype]
    x = _at_least(k, _at_most(k, x, format_.largest), format_.least)
    return _scaled(k, x, *_exp_tail(k, x))


def exp2(k: Scope, x: Value) -> Value:
    """2**x, within 1 ulp; exact for integers."""
    format_ = FORMATS[x.dtype]
    x = _at_least(k, _at_most(k, x, format_.bias + 1), -(format_.bias + format_.fraction + 2))
    shifted = k.add(x, format_.magic)
    reduced = k.sub(x, k.sub(shifted, format_.magic))
    return _scaled(k, x, shifted, _exp2_tail(k, reduced))


def _exp2_tail(k: Scope, reduced: Value, rest: Value | None = None) -> Value:
    """2**(reduced + rest) - 1 for |reduced| <= 1/2 and a rest below its last place."""
    upper, lower = LN2[reduced.dtype]
    square = k.mul(reduced, reduced)
    linear = k.mul(reduced, lower)
    if rest is not None:
        linear = k.fma(rest, upper, linear)
    low = k.fma(square, polynomial(k, reduced, EXP2[reduced.dtype]), linear)
    return k.fma(reduced, upper, low)


def _scaled(k: Scope, x: Value, shifted: Value, tail: Value) -> Value:
    """2**n * (1 + tail), where n may be one beyond the exponents of the format, or far below them.

    The power is taken 2 times too small for positive x and much too large otherwise: one last
    product makes up for it, and is the only rounding of a subnormal result.
    """
    format_ = FORMATS[x.dtype]
    shrinks = k.lt(x, 0.0)
    lift = 64 if x.dtype == "float64" else 32
    biases = [k.const(format_.bias + by << format_.fraction, format_.word) for by in (lift, -1)]
    scale = _power_of_two(k, shifted, k.select(shrinks, *biases))
    rest = k.select(shrinks, k.const(2.0**-lift, x.dtype), k.const(2.0, x.dtype))
    return k.mul(k.fma(scale, tail, scale), rest)


def expm1(k: Scope, x: Value) -> Value:
    """exp(x) - 1, within 1 ulp; the sign of a zero is kept."""
    format_ = FORMATS[x.dtype]
    inside = _at_least(k, _at_most(k, x, format_.largest), format_.saturated)
    r = _reduced(k, inside)
    # Halved, because 2**1024 is not a float64.
    scale = _power_of_two(k, r.shifted, format_.bias - 1 << format_.fraction)
    offset = k.sub(scale, 0.5)
    total, rest = _scaled_sum(k, offset, scale, r.high, _fine_curvature(k, r))
    lost = k.sub(k.sub(scale, offset), 0.5)
    half = k.add(total, k.add(rest, lost))
    tiny = k.lt(k.abs(x), 2.0 ** -(format_.fraction + 2))
    return k.select(tiny, x, k.add(half, half))


def tanh(k: Scope, x: Value) -> Value:
    """With e = expm1(-2|x|), tanh|x| = -e / (2 + e), within 1 ulp.

    Rounding e and 2 + e costs up to 2 ulp near 1, so the quotient is corrected for what both lost;
    1 / (2 + e) is found from the quotient itself.
    """
    format_ = FORMATS[x.dtype]
    argument = _at_least(k, k.mul(k.abs(x), -2.0), format_.saturated)
    r = _reduced(k, argument)
    scale = _power_of_two(k, r.shifted, format_.bits_of_one)
    offset = k.sub(scale, 1.0)
    total, rest = _scaled_sum(k, offset, scale, r.high, _curvature(k, r))
    lost = k.sub(scale, k.add(offset, 1.0))
    change, change_lost = _fast_two_sum(k, total, k.add(rest, lost))
    denominator, denominator_lost = _fast_two_sum(k, k.const(2.0, x.dtype), change)
    quotient = k.div(change, denominator)
    twice_reciprocal = k.sub(1.0, quotient)
    wrong = k.fma(k.neg(quotient), denominator, change)
    wrong = k.fma(k.neg(quotient), denominator_lost, wrong)
    wrong = k.fma(change_lost, twice_reciprocal, wrong)
    result = k.fma(k.mul(wrong, 0.5), twice_reciprocal, quotient)
    return k.copysign(result, x)


def sigmoid(k: Scope, x: Value) -> Value:
    """1 / (1 + exp(-x)), within 1 ulp.

    The denominator is carried in two parts and the reciprocal corrected for the lower one. Where
    the result is subnormal the denominator would be infinite: it is scaled for large negative x.
    """
    format_ = FORMATS[x.dtype]
    argument = _at_least(k, _at_most(k, k.neg(x), -format_.least), format_.saturated)
    r = _reduced(k, argument)
    lift = 128 if x.dtype == "float64" else 32
    large = k.gt(argument, -format_.least / 2)
    biases = [k.const(format_.bias - by << format_.fraction, format_.word) for by in (lift, 0)]
    unit = k.select(large, k.const(2.0**-lift, x.dtype), k.const(1.0, x.dtype))
    scale = _power_of_two(k, r.shifted, k.select(large, *biases))

    offset = k.add(unit, scale)
    total, rest = _scaled_sum(k, offset, scale, r.high, _curvature(k, r))
    lost = k.sub(unit, k.sub(offset, scale))
    denominator, residue = _fast_two_sum(k, total, k.add(rest, lost))

    reciprocal = k.div(1.0, denominator)
    wrong = k.fma(k.neg(reciprocal), denominator, 1.0)
    wrong = k.fma(k.neg(reciprocal), residue, wrong)
    return k.mul(k.fma(reciprocal, wrong, reciprocal), unit)


# -- the logarithm family ----------------------------------------------------------------------


def _moved(k: Scope, positive: Value) -> Value:
    """The bits of a normal m * 2**n, 0.75 <= m < 1.5, moved so that the exponent field tells n.

    The field holds n + bias + 1, and the bits below it how far m is above 0.75.
    """
    format_ = FORMATS[positive.dtype]
    return k.add(_bits(k, positive), format_.bits_of_two - format_.bits_of_three_quarters)


def _exponent(k: Scope, moved: Value, dtype: str) -> Value:
    """magic + bias + 1 + n as a float: the field becomes the low bits of `magic`."""
    format_ = FORMATS[dtype]
    return k.bitcast(k.or_(k.shr(moved, format_.fraction), format_.magic_bits), dtype)


def _log_arguments(k: Scope, x: Value) -> tuple[Value, Value]:
    """f and n with x = (1 + f) * 2**n exactly, -0.25 <= f < 0.5, for any positive finite x."""
    format_ = FORMATS[x.dtype]
    subnormal = k.lt(x, format_.normal)
    lift = format_.fraction + 2
    moved = _moved(k, k.select(subnormal, k.mul(x, 2.0**lift), x))
    above = k.and_(moved, (1 << format_.fraction) - 1)
    mantissa = k.bitcast(k.add(above, format_.bits_of_three_quarters), x.dtype)
    origins = [k.const(format_.exponent_origin + by, x.dtype) for by in (lift, 0)]
    n = k.sub(_exponent(k, moved, x.dtype), k.select(subnormal, *origins))
    return k.sub(mantissa, 1.0), n


@dataclass(frozen=True)
class _Logarithm:
    """log(1 + f) = f - half_square + s * series, where s = f/(2 + f).

    `half_square` is f**2/2 and `series` half_square + s**2 R(s**2).
    """

    half_square: Value
    s: Value
    series: Value


def _logarithm(k: Scope, f: Value) -> _Logarithm:
    s = k.div(f, k.add(f, 2.0))
    z = k.mul(s, s)
    half_square = k.mul(k.mul(f, 0.5), f)
    series = k.fma(z, polynomial(k, z, LOG[f.dtype]), half_square)
    return _Logarithm(half_square, s, series)


def _log_sum(k: Scope, f: Value, n: Value) -> Value:
    """log(1 + f) + n ln 2."""
    format_ = FORMATS[f.dtype]
    parts = _logarithm(k, f)
    small = k.fma(parts.s, parts.series, k.mul(n, format_.ln2[1]))
    return k.fma(n, format_.ln2[0], k.sub(f, k.sub(parts.half_square, small)))


def _log_edges(k: Scope, x: Value, result: Value) -> Value:
    """A logarithm of x: infinity and NaN are themselves, zero gives -inf, a negative number NaN."""
    result = k.select(k.lt(x, float("inf")), result, x)
    result = k.select(k.eq(x, 0.0), k.const(float("-inf"), x.dtype), result)
    return k.select(k.lt(x, 0.0), k.const(float("nan"), x.dtype), result)


def log(k: Scope, x: Value) -> Value:
    """The natural logarithm, within 1 ulp; -inf at 0, NaN below."""
    return _log_edges(k, x, _log_sum(k, *_log_arguments(k, x)))


def log2(k: Scope, x: Value) -> Value:
    """The logarithm to base 2, within 1 ulp; exact for powers of two.

    log(1 + f) is kept in two parts so that its product with 1/ln 2 is rounded once.
    """
    f, n = _log_arguments(k, x)
    parts = _logarithm(k, f)
    upper = k.sub(f, parts.half_square)
    lower = k.fma(parts.s, parts.series, k.sub(k.sub(f, upper), parts.half_square))
    factor, factor_rest = INVERSE_LN2[x.dtype]
    main = k.mul(upper, factor)
    rest = k.fma(upper, factor, k.neg(main))
    rest = k.fma(lower, factor, k.fma(upper, factor_rest, rest))
    total, error = _fast_two_sum(k, n, main)
    result = k.add(total, k.add(error, rest))
    return _log_edges(k, x, result)


def _log1p_inside(k: Scope, x: Value) -> Value:
    """log(1 + x) for finite x > -1.

    1 + x only decides n: f = x / 2**n + (2**-n - 1) is exact wherever its last bits matter.
    """
    format_ = FORMATS[x.dtype]
    moved = _moved(k, k.add(x, 1.0))
    n = k.sub(_exponent(k, moved, x.dtype), format_.exponent_origin)
    field = k.sub(k.and_(moved, format_.exponent_mask), format_.bits_of_two)
    scaled = k.bitcast(k.sub(_bits(k, x), field), x.dtype)
    lift = 10  # 2**(10 - n) is a normal number for every n, 2**-n is not
    lifted = k.const(format_.bits_of_one + (lift << format_.fraction), format_.word)
    power = k.bitcast(k.sub(lifted, field), x.dtype)
    return _log_sum(k, k.add(scaled, k.fma(power, 2.0**-lift, -1.0)), n)


def log1p(k: Scope, x: Value) -> Value:
    """log(1 + x), within 1 ulp; the sign of a zero is kept."""
    result = k.copysign(_log1p_inside(k, x), x)
    result = k.select(k.lt(x, float("inf")), result, x)
    result = k.select(k.eq(x, -1.0), k.const(float("-inf"), x.dtype), result)
    return k.select(k.lt(x, -1.0), k.const(float("nan"), x.dtype), result)


def softplus(k: Scope, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), within 2 ulp."""
    return k.add(k.max(x, 0.0), _log1p_inside(k, exp(k, k.neg(k.abs(x)))))


# -- powers ------------------------------------------------------------------------------------


def _product(k: Scope, a: _Parts, b: _Parts) -> _Parts:
    """The product of two numbers in two parts each, up to the product of the lower parts."""
    main = k.mul(a[0], b[0])
    rest = k.fma(a[0], b[0], k.neg(main))
    return main, k.fma(a[0], b[1], k.fma(a[1], b[0], rest))


def _constant_plus(k: Scope, constant: tuple[float, float], small: _Parts) -> _Parts:
    """A constant in two parts and a smaller number in two parts."""
    total, rest = _fast_two_sum(k, k.const(constant[0], small[0].dtype), small[0])
    return total, k.add(rest, k.add(small[1], constant[1]))


def _log2_in_two_parts(k: Scope, size: Value) -> _Parts:
    """log2 of a positive finite number with half again as many bits as the format.

    With s = f/(2 + f) and z = s**2 in two parts each, it is s (C1 + z (C3 + z Q(z))) + n.
    """
    dtype = size.dtype
    f, n = _log_arguments(k, size)
    divisor, divisor_rest = _fast_two_sum(k, k.const(2.0, dtype), f)
    s = k.div(f, divisor)
    remainder = k.fma(k.neg(s), divisor_rest, k.fma(k.neg(s), divisor, f))
    ratio = (s, k.mul(remainder, k.fma(s, -0.5, 0.5)))  # 1/(2 + f) is (1 - s)/2
    z = k.mul(s, s)
    square = (z, k.fma(k.add(s, s), ratio[1], k.fma(s, s, k.neg(z))))

    tail = polynomial(k, z, LOG2_TAIL[dtype])
    main = k.mul(z, tail)
    series = (main, k.fma(square[1], tail, k.fma(z, tail, k.neg(main))))
    series = _product(k, square, _constant_plus(k, LOG2_CUBIC[dtype], series))
    series = _product(k, ratio, _constant_plus(k, LOG2_LINEAR[dtype], series))
    total, rest = _fast_two_sum(k, n, series[0])
    return _fast_two_sum(k, total, k.add(rest, series[1]))


def pow(k: Scope, x: Value, y: Value) -> Value:
    """x to the power y, within 1 ulp, with the special cases of IEEE 754.

    exp2(y log2|x|) with the logarithm and the product in two parts.
    """
    format_, dtype = FORMATS[x.dtype], x.dtype
    size, infinity = k.abs(x), float("inf")
    upper, lower = _log2_in_two_parts(k, size)
    upper = k.select(k.lt(size, infinity), upper, size)
    upper = k.select(k.eq(size, 0.0), k.const(-infinity, dtype), upper)
    # A finite exponent this large does what an infinite one does, and gives 1 where |x| is 1.
    exponent = _at_least(k, _at_most(k, y, 2.0**100), -(2.0**100))
    main = k.mul(exponent, upper)
    rest = k.fma(exponent, lower, k.fma(exponent, upper, k.neg(main)))
    top, bottom = format_.bias + 1, -(format_.bias + format_.fraction + 2)
    inside = _at_least(k, _at_most(k, main, top), bottom)
    rest = k.select(k.eq(main, inside), rest, k.const(0.0, dtype))

    shifted = k.add(inside, format_.magic)
    whole = k.sub(shifted, format_.magic)
    reduced, reduced_rest = _fast_two_sum(k, k.sub(inside, whole), rest)
    result = _scaled(k, inside, shifted, _exp2_tail(k, reduced, reduced_rest))

    whole_exponent = k.eq(k.trunc(y), y)
    half = k.mul(y, 0.5)
    odd = k.and_(whole_exponent, k.ne(k.trunc(half), half))
    sign = k.xor(_bits(k, x), _bits(k, size))
    sign = k.select(odd, sign, k.const(0, format_.word))
    result = k.bitcast(k.or_(_bits(k, result), sign), dtype)
    undefined = k.and_(k.and_(k.lt(x, 0.0), k.gt(x, -infinity)), k.not_(whole_exponent))
    result = k.select(undefined, k.const(float("nan"), dtype), result)
    one = k.or_(k.eq(x, 1.0), k.eq(y, 0.0))
    return k.select(one, k.const(1.0, dtype), result)


# -- sine and cosine ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Circle:
    """How arguments are reduced to quarter turns.

    `quarter` is pi/2 in three parts, each the nearest number to what is left. Up to `limit` the
    number of quarter turns times the three parts is accurate enough; beyond, the bits of 2/pi that
    matter are picked out as integers. `first` is the biased exponent of `limit`. The stream of
    words that holds 2/pi starts with `padding` zeros, so that the window for an argument with that
    exponent begins with the first bit of the stream.
    """

    quarter: tuple[float, float, float]
    inverse: float
    limit: float
    first: int
    padding: int
    words: int


CIRCLE = {
    "float64": Circle(
        quarter=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
        inverse=0.6366197723675814,
        limit=2.0**30,
        first=1053,
        padding=24,
        words=19,
    ),
    "float32": Circle(
        quarter=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
        inverse=0.6366197466850281,
        limit=2.0**15,
        first=142,
        padding=10,
        words=7,
    ),
}


def _words_of_two_over_pi(dtype: str) -> list[int]:
    """2/pi after the padding of the format, cut into its words."""
    circle, bits = CIRCLE[dtype], BITS[dtype]
    length = circle.words * bits
    stream = TWO_OVER_PI >> TWO_OVER_PI_BITS - (length - circle.padding)
    return [stream >> length - (i + 1) * bits & (1 << bits) - 1 for i in range(circle.words)]


@dataclass(frozen=True)
class _Turned:
    """An argument as quarter * pi/2 + angle + angle_rest, |angle| < 0.79.

    `quarter` is an unsigned word of which the two low bits matter.
    """

    quarter: Value
    angle: Value
    angle_rest: Value


def _turn(k: Scope, size: Value) -> _Turned:
    """The reduction of any nonnegative argument; NaN for infinity."""
    usual, rare = _turn_moderate(k, size), _turn_large(k, size)
    large = k.ge(size, CIRCLE[size.dtype].limit)
    return _Turned(
        _rarely(k, large, rare.quarter, usual.quarter),
        _rarely(k, large, rare.angle, usual.angle),
        _rarely(k, large, rare.angle_rest, usual.angle_rest),
    )


def _rarely(k: Scope, condition: Value, rare: Value, usual: Value) -> Value:
    """A select whose condition seldom holds.

    The hint changes no value: a printer may branch around what only `rare` needs.
    """
    return k.emit("select", condition, rare, usual, immediate="rarely")


def _turn_moderate(k: Scope, size: Value) -> _Turned:
    """Cody & Waite in three parts: the first difference is exact, the second keeps its error."""
    format_, circle = FORMATS[size.dtype], CIRCLE[size.dtype]
    first, second, third = circle.quarter
    shifted = k.fma(size, circle.inverse, format_.magic)
    n = k.sub(shifted, format_.magic)
    near = k.fma(n, -first, size)
    product = k.mul(n, second)
    product_rest = k.fma(n, second, k.neg(product))
    angle = k.sub(near, product)
    rest = k.sub(k.sub(k.sub(near, angle), product), product_rest)
    return _Turned(_bits(k, shifted), angle, k.fma(n, -third, rest))


def _turn_large(k: Scope, size: Value) -> _Turned:
    """Payne & Hanek (SIGNUM 18, 1983): the product with three words of 2/pi, as integers.

    The argument is an integer of `fraction` + 1 bits times a power of two; bits of 2/pi that make
    multiples of four quarter turns are left out. The top word of the product has two bits of
    quarter turns, and with the next one enough of the fraction for the argument that comes nearest
    to a multiple of pi/2.
    """
    dtype, bits = size.dtype, BITS[size.dtype]
    format_, circle = FORMATS[dtype], CIRCLE[dtype]
    pattern = _bits(k, size)
    offset = k.sub(k.shr(pattern, format_.fraction), circle.first)
    integer = k.or_(k.and_(pattern, (1 << format_.fraction) - 1), 1 << format_.fraction)
    window = _window(k, offset, dtype)

    middle = k.mul(integer, window[1])
    lower = k.add(middle, k.mulhi(integer, window[2]))
    carry = k.convert(k.lt(lower, middle), format_.word)
    upper = k.add(k.mul(integer, window[0]), k.add(k.mulhi(integer, window[1]), carry))

    quarter = k.shr(k.add(upper, 1 << bits - 3), bits - 2)
    signed = k.bitcast(k.sub(upper, k.shl(quarter, bits - 2)), f"int{bits}")
    leading = k.convert(signed, dtype)
    trailing = k.convert(k.sub(signed, k.convert(leading, f"int{bits}")), dtype)
    unit = 2.0 ** (2 - bits)
    tail = k.fma(k.convert(lower, dtype), unit * 2.0**-bits, k.mul(trailing, unit))
    turns = k.fma(leading, unit, tail)
    turns_rest = k.sub(tail, k.sub(turns, k.mul(leading, unit)))

    first, second, _ = circle.quarter
    main = k.mul(turns, first)
    rest = k.fma(turns, first, k.neg(main))
    rest = k.fma(turns, second, k.fma(turns_rest, first, rest))
    angle = k.add(main, rest)
    undefined = k.sub(size, size)  # NaN for infinity
    return _Turned(quarter, k.add(angle, undefined), k.sub(rest, k.sub(angle, main)))


def _window(k: Scope, offset: Value, dtype: str) -> list[Value]:
    """Three consecutive words of 2/pi that start `offset` bits into its stream."""
    bits = BITS[dtype]
    words = [k.const(word, offset.dtype) for word in _words_of_two_over_pi(dtype)]
    step = 1 << (len(words) - 4).bit_length() - 1
    while step:  # by the bits of the word number, largest first; keep what can still be reached
        moves = k.ne(k.and_(offset, step * bits), 0)
        reach = 4 + step - 1
        words = [
            k.select(moves, words[i + step], words[i]) if i + step < len(words) else words[i]
            for i in range(min(reach, len(words)))
        ]
        step >>= 1
    shift = k.and_(offset, bits - 1)
    back = k.xor(shift, bits - 1)
    return [
        k.or_(k.shl(words[i], shift), k.shr(k.shr(words[i + 1], 1), back)) for i in range(3)
    ]


def _sine(k: Scope, turned: _Turned, flip: Value) -> Value:
    """sin(quarter * pi/2 + angle), negated where `flip` has the sign bit.

    Sine and cosine of the angle have the same shape, base + factor * P(angle**2), so an odd quarter
    selects coefficients.
    """
    angle, rest = turned.angle, turned.angle_rest
    dtype, bits = angle.dtype, BITS[angle.dtype]
    odd = k.ne(k.and_(turned.quarter, 1), 0)
    square = k.mul(angle, angle)
    half = k.mul(square, 0.5)
    base = k.sub(1.0, half)
    base_rest = k.sub(k.sub(1.0, base), half)
    base_rest = k.fma(k.neg(angle), rest, base_rest)
    coefficients = [
        k.select(odd, k.const(even, dtype), k.const(sine, dtype))
        for even, sine in zip(COS[dtype], SIN[dtype], strict=True)
    ]
    series = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        series = k.fma(series, square, coefficient)
    factor = k.mul(square, k.select(odd, square, angle))
    small = k.fma(factor, series, k.select(odd, base_rest, rest))
    result = k.add(k.select(odd, base, angle), small)
    sign = k.xor(k.shl(k.and_(turned.quarter, 2), bits - 2), flip)
    return k.bitcast(k.xor(_bits(k, result), sign), dtype)


def sin(k: Scope, x: Value) -> Value:
    """The sine of any finite argument, within 1 ulp; the sign of a zero is kept."""
    size = k.abs(x)
    return _sine(k, _turn(k, size), k.xor(_bits(k, x), _bits(k, size)))


def cos(k: Scope, x: Value) -> Value:
    """The cosine of any finite argument, within 1 ulp: the sine a quarter turn on."""
    turned = _turn(k, k.abs(x))
    ahead = _Turned(k.add(turned.quarter, 1), turned.angle, turned.angle_rest)
    return _sine(k, ahead, k.const(0, FORMATS[x.dtype].word))


# -- the error function ------------------------------------------------------------------------


def erf(k: Scope, x: Value) -> Value:
    """The error function, within 2 ulp: odd polynomial below 0.75, 1 - exp(P(u) - x**2) above."""
    size = k.abs(x)
    square = k.mul(size, size)
    factor, factor_rest = TWO_OVER_ROOT_PI[x.dtype]
    excess = k.fma(square, polynomial(k, square, ERF_SMALL[x.dtype]), factor_rest)
    near = k.fma(size, factor, k.mul(excess, size))

    inside = _at_most(k, size, 6.0 if x.dtype == "float64" else 4.0)
    # 1/(x + 4.5) - 0.140625, without the rounding error of a quotient near the subtrahend
    u = k.div(k.fma(inside, -0.140625, 1.0 - 0.140625 * 4.5), k.add(inside, 4.5))
    exponent = k.fma(k.neg(inside), inside, polynomial(k, u, ERF_FAR[x.dtype]))
    shifted, tail = _exp_tail(k, exponent)
    scale = _power_of_two(k, shifted, FORMATS[x.dtype].bits_of_one)
    far = k.fma(k.neg(scale), tail, k.sub(1.0, scale))
    return k.copysign(k.select(k.lt(size, 0.75), near, far), x)


def _through_float32(procedure: Procedure) -> Procedure:
    """`procedure`, which computes in float32 for the 16-bit formats."""

    @functools.wraps(procedure)
    def widened(k: Scope, *values: Value) -> Value:
        dtype = values[0].dtype
        if dtype in FORMATS:
            return procedure(k, *values)
        wide = procedure(k, *(k.convert(value, "float32") for value in values))
        return k.convert(wide, dtype)

    return widened


PROCEDURES: dict[str, Procedure] = {
    procedure.__name__: _through_float32(procedure)
    for procedure in (
        exp, exp2, expm1, log, log2, log1p, tanh, sigmoid, softplus, pow, sin, cos, erf
    )
}
