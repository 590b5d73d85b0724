"""How is the exponential family computed?  exp, exp2, expm1, sinh, cosh, tanh and sigmoid.

The reduction is that of Cody & Waite (1980); the forms of exp and expm1 follow Tang (ACM TOMS 15,
1989).
"""

from __future__ import annotations

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.parts import (
    FORMATS,
    Parts,
    Pieces,
    at_least,
    at_most,
    bits_of,
    curvature_of,
    fast_two_sum,
    fine_curvature,
    horner,
    magnitude,
    polynomial,
    power_of_two,
    product,
    quotient,
    rarely,
    reduce_by_ln2,
    scaled_sum,
    select_parts,
    two_product,
    two_sum,
)
from graphc.codegen.vecmath.tables import (
    COSH,
    EXP2,
    EXP2_SLOPE,
    LN2,
    LOG2_LINEAR,
    SINH,
    TANH,
    TANH_PIECES,
)


def exp_tail(k: Scope, x: Value) -> tuple[Value, Value]:
    """exp(x) = 2**n * (1 + tail), with n in the low bits of the first result."""
    r = reduce_by_ln2(k, x)
    return r.shifted, k.add(r.high, curvature_of(k, r))


def exp(k: Scope, x: Value) -> Value:
    """exp(x), within 1 ulp."""
    format_ = FORMATS[x.dtype]
    x = at_least(k, at_most(k, x, format_.largest), format_.least)
    return times_power(k, x, *exp_tail(k, x))


# From its negative on x exp(x) rounds to 0.
_SILU_IS_0 = {"float64": 754.0, "float32": 110.0}


def lift_of(dtype: str) -> float:
    """A power of two that makes the least exponentials, and products with them, normal."""
    return 2.0**128 if dtype == "float64" else 2.0**64


def lifted_exp(k: Scope, x: Value, rest: Value | None = None) -> Parts:
    """exp(x + rest) times `lift_of` in two parts for x <= 0 and a rest below its last place.

    From where x exp(x) rounds to 0 it stays what it is.
    """
    format_ = FORMATS[x.dtype]
    r = reduce_by_ln2(k, at_least(k, x, -_SILU_IS_0[x.dtype]))
    curvature = curvature_of(k, r)
    if rest is not None:
        curvature = k.fma(rest, k.add(k.add(curvature, r.high), 1.0), curvature)
    scale = power_of_two(k, r.shifted, format_.bits_of(lift_of(x.dtype)))
    return fast_two_sum(k, *scaled_sum(k, scale, scale, r.high, curvature))


def exp2(k: Scope, x: Value) -> Value:
    """2**x, within 1 ulp; exact for integers."""
    format_ = FORMATS[x.dtype]
    x = at_least(k, at_most(k, x, format_.bias + 1), -(format_.bias + format_.fraction + 2))
    shifted = k.add(x, format_.magic)
    reduced = k.sub(x, k.sub(shifted, format_.magic))
    return times_power(k, x, shifted, exp2_tail(k, reduced))


def exp2_tail(k: Scope, reduced: Value, rest: Value | None = None) -> Value:
    """2**(reduced + rest) - 1 for |reduced| <= 1/2 and a rest below its last place."""
    upper, lower = LN2[reduced.dtype]
    square = k.mul(reduced, reduced)
    linear = k.mul(reduced, lower)
    if rest is not None:
        linear = k.fma(rest, upper, linear)
    low = k.fma(square, polynomial(k, reduced, EXP2[reduced.dtype]), linear)
    return k.fma(reduced, upper, low)


def times_power(k: Scope, x: Value, shifted: Value, tail: Value) -> Value:
    """2**n * (1 + tail)."""
    scale, rest = power_in_two_factors(k, x, shifted)
    return k.mul(k.fma(scale, tail, scale), rest)


def times_power_in_halves(k: Scope, value: Value, n: Value) -> Value:
    """value * 2**n for a whole n of up to twice the exponents of the format.

    Neither half of the power overflows, and a subnormal result is rounded once.
    """
    format_ = FORMATS[value.dtype]
    half = k.floor(k.mul(n, 0.5))
    for part in (half, k.sub(n, half)):
        value = k.mul(value, power_of_two(k, k.add(part, format_.magic), format_.bits_of_one))
    return value


def power_in_two_factors(k: Scope, x: Value, shifted: Value) -> Parts:
    """2**n as two factors, where n may be one beyond the exponents of the format, or below them.

    The first is 2 times too small for positive x and much too large otherwise: a last product with
    the second makes up for it, and is the only rounding of a subnormal result.
    """
    format_ = FORMATS[x.dtype]
    shrinks = k.lt(x, 0.0)
    lift = 64 if x.dtype == "float64" else 32
    biases = [k.const(format_.bias + by << format_.fraction, format_.word) for by in (lift, -1)]
    scale = power_of_two(k, shifted, k.select(shrinks, *biases))
    rest = k.select(shrinks, k.const(2.0**-lift, x.dtype), k.const(2.0, x.dtype))
    return scale, rest


def expm1(k: Scope, x: Value) -> Value:
    """exp(x) - 1, within 1 ulp; the sign of a zero is kept."""
    format_ = FORMATS[x.dtype]
    inside = at_least(k, at_most(k, x, format_.largest), format_.saturated)
    r = reduce_by_ln2(k, inside)
    # Halved, because 2**1024 is not a float64.
    scale = power_of_two(k, r.shifted, format_.bias - 1 << format_.fraction)
    offset = k.sub(scale, 0.5)
    total, rest = scaled_sum(k, offset, scale, r.high, fine_curvature(k, r))
    lost = k.sub(k.sub(scale, offset), 0.5)
    half = k.add(total, k.add(rest, lost))
    tiny = k.lt(k.abs(x), 2.0 ** -(format_.fraction + 2))
    return k.select(tiny, x, k.add(half, half))


def tanh(k: Scope, x: Value) -> Value:
    """The hyperbolic tangent, within 1 ulp.

    In float64, with e = expm1(-2|x|), tanh|x| = -e / (2 + e). Rounding e and 2 + e costs up to 2
    ulp near 1, so the quotient is corrected for what both lost; 1 / (2 + e) is found from the
    quotient itself.
    """
    if x.dtype == "float32":
        short = _tanh_in_pieces if k.tables else _short_tanh
        return k.copysign(short(k, k.abs(x)), x)
    format_ = FORMATS[x.dtype]
    argument = at_least(k, k.mul(k.abs(x), -2.0), format_.saturated)
    r = reduce_by_ln2(k, argument)
    scale = power_of_two(k, r.shifted, format_.bits_of_one)
    offset = k.sub(scale, 1.0)
    total, rest = scaled_sum(k, offset, scale, r.high, curvature_of(k, r))
    lost = k.sub(scale, k.add(offset, 1.0))
    change, change_lost = fast_two_sum(k, total, k.add(rest, lost))
    denominator, denominator_lost = fast_two_sum(k, k.const(2.0, x.dtype), change)
    quotient = k.div(change, denominator)
    twice_reciprocal = k.sub(1.0, quotient)
    wrong = k.fma(k.neg(quotient), denominator, change)
    wrong = k.fma(k.neg(quotient), denominator_lost, wrong)
    wrong = k.fma(change_lost, twice_reciprocal, wrong)
    result = k.fma(k.mul(wrong, 0.5), twice_reciprocal, quotient)
    return k.copysign(result, x)


def _short_tanh(k: Scope, size: Value) -> Value:
    """tanh(x) for x >= 0 in float32: an odd polynomial below 1, above it 1 - 2/(1 + exp(2 x)).

    Beyond 9.125 it is 1 within half an ulp.
    """
    format_, dtype = FORMATS[size.dtype], size.dtype
    square = k.mul(size, size)
    near = k.fma(k.mul(size, square), horner(k, square, TANH[dtype]), size)
    inside = at_most(k, size, 9.125)
    factor = LOG2_LINEAR[dtype][0]
    shifted = k.fma(inside, factor, format_.magic)
    reduced = k.fma(inside, factor, k.sub(format_.magic, shifted))
    scale = power_of_two(k, shifted, format_.bits_of_one)
    tail = k.mul(reduced, horner(k, reduced, EXP2_SLOPE[dtype]))
    far = k.fma(k.div(1.0, k.fma(scale, tail, k.add(scale, 1.0))), -2.0, 1.0)
    return k.select(k.lt(size, 1.0), near, far)


_TANH = Pieces.of(TANH_PIECES["float32"])


def _tanh_in_pieces(k: Scope, size: Value) -> Value:
    """The same by sixteen short polynomials, where lookups are cheap."""
    inside = at_most(k, size, 9.125)
    moved = k.add(inside, 0.625)
    number = k.shr(bits_of(k, moved), FORMATS[size.dtype].fraction - 2)
    return _TANH.at(k, inside, number, k.lt(moved, 1.5))


# Up to here 1 + exp(x) is finite in float32 and its reciprocal normal; beyond, its 1 is nothing.
_SIGMOID_IS_NORMAL = 87.0


class _Sigmoid:
    """1 / (1 + exp(x)) as reciprocal * (1 + wrong), while exp(x) and its reciprocal are normal.

    The denominator, 1 + 2**n (1 + tail), is carried in two parts and the reciprocal corrected for
    the lower one, and for what the tail loses: less than half of 1, that is a quarter of an ulp.
    """

    def __init__(self, k: Scope, x: Value) -> None:
        r = reduce_by_ln2(k, x)
        curvature = curvature_of(k, r)
        tail = k.add(r.high, curvature)
        scale = power_of_two(k, r.shifted, FORMATS[x.dtype].bits_of_one)
        offset = k.add(scale, 1.0)
        denominator = k.fma(scale, tail, offset)
        residue = k.fma(scale, tail, k.sub(offset, denominator))
        residue = k.add(residue, k.sub(1.0, k.sub(offset, scale)))
        residue = k.fma(scale, k.sub(curvature, k.sub(tail, r.high)), residue)

        self.reciprocal = k.div(1.0, denominator)
        wrong = k.fma(k.neg(self.reciprocal), denominator, 1.0)
        self.wrong = k.fma(k.neg(self.reciprocal), residue, wrong)


class Decay:
    """What sigmoid and softplus share: exp(-|x|) in two parts, `main` and `rest`.

    `lifted` and `lifted_rest` are the same times `lift_of`, normal numbers: what is computed from
    these is to be multiplied with `unit`, which rounds a subnormal result once. Rounding
    exp(-|x|) - 1 loses a quarter of an ulp; `fine_rest` takes it along.
    """

    def __init__(self, k: Scope, x: Value) -> None:
        self.size = at_most(k, magnitude(k, x), _SILU_IS_0[x.dtype])
        r = reduce_by_ln2(k, k.neg(self.size))
        curvature = curvature_of(k, r)
        tail = k.add(r.high, curvature)
        lift = lift_of(x.dtype)
        scale = power_of_two(k, r.shifted, FORMATS[x.dtype].bits_of(lift))
        self.unit = k.const(1 / lift, x.dtype)
        self.lifted = k.fma(scale, tail, scale)
        self.lifted_rest = k.fma(scale, tail, k.sub(scale, self.lifted))
        self.main = k.mul(self.lifted, self.unit)
        self._scale, self._lost = scale, (curvature, tail, r.high)

    def fine_rest(self, k: Scope) -> Value:
        """The second part of exp(-|x|), nearly exact."""
        curvature, tail, high = self._lost
        lost = k.sub(curvature, k.sub(tail, high))
        return k.mul(k.fma(self._scale, lost, self.lifted_rest), self.unit)


def _tail_of(k: Scope, decay: Decay) -> tuple[Value, Value, Value]:
    """t, w and v with 1 / (1 + exp(|x|)) = t + w v, all to be multiplied with `unit` of `decay`.

    As q/(1 + q) with q = exp(-|x|), corrected for what q, the sum and the quotient lose; 1/(1 + q)
    is what the quotient leaves of 1.
    """
    one = k.const(1.0, decay.main.dtype)
    divisor, divisor_rest = fast_two_sum(k, one, decay.main)
    tail = k.div(decay.lifted, divisor)
    left = k.fma(k.neg(tail), decay.unit, 1.0)
    lost = k.fma(k.neg(tail), divisor_rest, decay.lifted_rest)
    wrong = k.add(k.fma(k.neg(tail), divisor, decay.lifted), lost)
    return tail, wrong, left


def sigmoid_tail(k: Scope, x: Value) -> Value:
    """1 / (1 + exp(|x|)), within 1 ulp: the smaller of sigmoid(x) and sigmoid(-x)."""
    decay = Decay(k, x)
    tail, wrong, left = _tail_of(k, decay)
    return k.mul(k.fma(wrong, left, tail), decay.unit)


def sigmoid(k: Scope, x: Value) -> Value:
    """1 / (1 + exp(-x)), within 1 ulp: the tail, or what it leaves of 1.

    A derivative is sigmoid(x) sigmoid(-x): both have the same tail, which is computed once. Taken
    from 1, of which it is at most half, its error is at most half of what it was.
    """
    tail = k.call("sigmoid_tail", x.args[0] if x.opcode == "neg" else x)
    return k.select(k.lt(x, 0.0), tail, k.sub(1.0, tail))


def silu(k: Scope, x: Value) -> Value:
    """x / (1 + exp(-x)), within 1 ulp; -0.0 at -inf."""
    return _short_silu(k, x) if x.dtype == "float32" else _long_silu(k, x)


def _long_silu(k: Scope, x: Value) -> Value:
    """max(x, 0) less |x| times the tail of sigmoid, which the derivative has, too: half of all its
    instructions are shared.
    """
    decay = Decay(k, x)
    tail, wrong, left = _tail_of(k, decay)
    main, rest = two_product(k, decay.size, tail)
    rest = k.fma(decay.size, k.mul(wrong, left), rest)
    lifted = k.mul(at_least(k, x, -0.0), lift_of(x.dtype))
    top, lost = fast_two_sum(k, lifted, k.neg(main))
    result = k.mul(k.add(top, k.sub(lost, rest)), decay.unit)
    return rarely(k, k.not_(k.lt(x, 2.0**60)), x, result)


def _short_silu(k: Scope, x: Value) -> Value:
    """As it is written: by itself that is a fifth cheaper in float32."""
    s = _Sigmoid(k, k.neg(x))
    main, rest = two_product(k, x, s.reciprocal)
    usual = k.copysign(k.add(main, k.fma(main, s.wrong, rest)), x)
    is_usual = k.lt(k.abs(x), _SIGMOID_IS_NORMAL)
    return rarely(k, k.not_(is_usual), _far_silu(k, x), usual)


def _far_silu(k: Scope, x: Value) -> Value:
    """x for a large x, and x exp(x), which is rounded once, for one far below 0."""
    power, power_rest = lifted_exp(k, x)
    finite = at_least(k, x, -_SILU_IS_0[x.dtype])
    main, rest = two_product(k, finite, power)
    below = k.add(main, k.fma(finite, power_rest, rest))
    return k.select(k.lt(x, 0.0), k.mul(below, 1 / lift_of(x.dtype)), x)


def mish(k: Scope, x: Value) -> Value:
    """x tanh(log(1 + exp(x))), within 1 ulp; -0.0 at -inf.

    With q = exp(-|x|) and g = q (2 + q) the hyperbolic tangent is g/(2 + g) for negative x and
    (1 + 2q)/(1 + g + q**2) for others, all in two parts.
    """
    dtype, limit = x.dtype, _SILU_IS_0[x.dtype]
    one, two, lift = k.const(1.0, dtype), k.const(2.0, dtype), lift_of(x.dtype)
    negative = k.lt(x, 0.0)
    lifted = lifted_exp(k, k.neg(at_most(k, k.abs(x), limit)))
    q, q_rest = k.mul(lifted[0], 1 / lift), k.mul(lifted[1], 1 / lift)
    sum_, lost = fast_two_sum(k, two, q)
    lifted = product(k, lifted, (sum_, k.add(lost, q_rest)))
    g, g_rest = k.mul(lifted[0], 1 / lift), k.mul(lifted[1], 1 / lift)

    square, square_rest = product(k, (q, q_rest), (q, q_rest))
    extra, extra_rest = select_parts(k, negative, (one, k.const(0.0, dtype)), (square, square_rest))
    above, lost = two_sum(k, one, g)
    bottom, more = two_sum(k, above, extra)
    bottom_rest = k.add(k.add(lost, more), k.add(g_rest, extra_rest))
    top, lost = two_sum(k, one, k.add(q, q))
    straight = top, k.fma(q_rest, 2.0, lost)
    ratio = quotient(k, select_parts(k, negative, lifted, straight), (bottom, bottom_rest))

    finite = at_least(k, x, -limit)
    main, rest = two_product(k, finite, ratio[0])
    result = k.add(main, k.fma(finite, ratio[1], rest))
    result = k.mul(result, k.select(negative, k.const(1 / lift, dtype), one))
    return rarely(k, k.not_(k.lt(x, 2.0**64)), x, k.copysign(result, x))


class _Hyperbolic:
    """What sinh and cosh share: x = n ln 2 + r, and half of what multiplies cosh(r) and sinh(r).

    With a = 2**(n-1) + 2**(-n-1) and b = 2**(n-1) - 2**(-n-1), sinh(x) = b cosh(r) + a sinh(r) and
    cosh(x) = a cosh(r) + b sinh(r). The factors are halved, because 2**1024 is not a float64.
    """

    def __init__(self, k: Scope, size: Value) -> None:
        format_ = FORMATS[size.dtype]
        r = reduce_by_ln2(k, at_most(k, size, format_.largest + 0.6))
        square = k.mul(r.both, r.both)
        cube = k.mul(r.both, square)
        self.angle = r.high
        self.odd = k.fma(cube, polynomial(k, square, SINH[size.dtype]), r.low)
        fourth = k.mul(k.mul(square, square), polynomial(k, square, COSH[size.dtype]))
        self.even = k.fma(square, 0.5, fourth)
        quarter = format_.bias - 2 << format_.fraction
        scale = power_of_two(k, r.shifted, quarter)
        exponent = k.shl(bits_of(k, r.shifted), format_.fraction)
        inverse = k.bitcast(k.sub(quarter, exponent), size.dtype)
        inverse = k.select(k.gt(size, 40.0), k.const(0, size.dtype), inverse)
        self.plus = fast_two_sum(k, scale, inverse)
        self.minus = fast_two_sum(k, scale, k.neg(inverse))

    def combined(self, k: Scope, offset: Parts, slope: Parts) -> Value:
        """2 (offset cosh(r) + slope sinh(r))."""
        main, rest = two_product(k, slope[0], self.angle)
        total, error = fast_two_sum(k, offset[0], main)
        lost = k.fma(slope[1], self.angle, offset[1])
        small = k.fma(offset[0], self.even, k.fma(slope[0], self.odd, k.add(rest, lost)))
        half = k.add(total, k.add(error, small))
        return k.add(half, half)


def sinh(k: Scope, x: Value) -> Value:
    """The hyperbolic sine, within 1 ulp; the sign of a zero is kept."""
    size = k.abs(x)
    h = _Hyperbolic(k, size)
    result = k.copysign(h.combined(k, h.minus, h.plus), x)
    tiny = k.lt(size, 2.0 ** -(FORMATS[x.dtype].fraction // 2 + 2))
    return k.select(tiny, x, result)


def cosh(k: Scope, x: Value) -> Value:
    """The hyperbolic cosine, within 1 ulp."""
    h = _Hyperbolic(k, k.abs(x))
    return h.combined(k, h.plus, h.minus)
