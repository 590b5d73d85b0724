"""How are sine, cosine, tangent and sinc computed, for arguments of any size?

The reductions are those of Cody & Waite (1980) and Payne & Hanek (SIGNUM 18, 1983).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.scalar import BITS, Scope, Value
from graphc.codegen.vecmath.parts import (
    FORMATS,
    Parts,
    at_most,
    bits_of,
    fast_two_sum,
    horner,
    polynomial,
    quotient,
    rarely,
    select_parts,
    times_constant,
)
from graphc.codegen.vecmath.tables import COS, PI, SIN, TAN

# The first bits of 2/pi.
TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424d"
    "d2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639"
    "835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f46"
    "3f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)
TWO_OVER_PI_BITS = 1216


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
class Turned:
    """An argument as quarter * pi/2 + angle + angle_rest, |angle| < 0.79.

    `quarter` is an unsigned word of which the two low bits matter.
    """

    quarter: Value
    angle: Value
    angle_rest: Value


def turn(k: Scope, size: Value) -> Turned:
    """The reduction of any nonnegative argument; NaN for infinity."""
    usual, rare = _turn_moderate(k, size), _turn_large(k, size)
    large = k.ge(size, CIRCLE[size.dtype].limit)
    return Turned(
        rarely(k, large, rare.quarter, usual.quarter),
        rarely(k, large, rare.angle, usual.angle),
        rarely(k, large, rare.angle_rest, usual.angle_rest),
    )


def _turn_moderate(k: Scope, size: Value) -> Turned:
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
    return Turned(bits_of(k, shifted), angle, k.fma(n, -third, rest))


def _turn_large(k: Scope, size: Value) -> Turned:
    """Payne & Hanek (SIGNUM 18, 1983): the product with three words of 2/pi, as integers.

    The argument is an integer of `fraction` + 1 bits times a power of two; bits of 2/pi that make
    multiples of four quarter turns are left out. The top word of the product has two bits of
    quarter turns, and with the next one enough of the fraction for the argument that comes nearest
    to a multiple of pi/2.
    """
    dtype, bits = size.dtype, BITS[size.dtype]
    format_, circle = FORMATS[dtype], CIRCLE[dtype]
    pattern = bits_of(k, size)
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
    return Turned(quarter, k.add(angle, undefined), k.sub(rest, k.sub(angle, main)))


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
    return [k.or_(k.shl(words[i], shift), k.shr(k.shr(words[i + 1], 1), back)) for i in range(3)]


def sine_of(k: Scope, turned: Turned, flip: Value) -> Value:
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
    return k.bitcast(k.xor(bits_of(k, result), sign), dtype)


def sin(k: Scope, x: Value) -> Value:
    """The sine of any finite argument, within 1 ulp; the sign of a zero is kept."""
    size = k.abs(x)
    return sine_of(k, turn(k, size), k.xor(bits_of(k, x), bits_of(k, size)))


def cos(k: Scope, x: Value) -> Value:
    """The cosine of any finite argument, within 1 ulp: the sine a quarter turn on."""
    turned = turn(k, k.abs(x))
    ahead = Turned(k.add(turned.quarter, 1), turned.angle, turned.angle_rest)
    return sine_of(k, ahead, k.const(0, FORMATS[x.dtype].word))


def sine_with_cosine(k: Scope, x: Value) -> tuple[Value, Value]:
    """What `sin` and `cos` return, bit for bit. They need the sine and the cosine of one angle, so
    neither selects coefficients; an odd quarter exchanges the results.
    """
    dtype, size = x.dtype, k.abs(x)
    word, bits = FORMATS[dtype].word, BITS[dtype]
    turned = turn(k, size)
    angle, rest, quarter = turned.angle, turned.angle_rest, turned.quarter
    square = k.mul(angle, angle)
    half = k.mul(square, 0.5)
    base = k.sub(1.0, half)
    base_rest = k.sub(k.sub(1.0, base), half)
    base_rest = k.fma(k.neg(angle), rest, base_rest)
    series = horner(k, square, SIN[dtype]), horner(k, square, COS[dtype])
    sine = k.add(angle, k.fma(k.mul(square, angle), series[0], rest))
    cosine = k.add(base, k.fma(k.mul(square, square), series[1], base_rest))
    odd = k.ne(k.and_(quarter, 1), 0)
    flips = k.xor(bits_of(k, x), bits_of(k, size)), k.const(0, word)
    made = []
    for quarters, value, flip in (
        (quarter, k.select(odd, cosine, sine), flips[0]),
        (k.add(quarter, 1), k.select(odd, sine, cosine), flips[1]),
    ):
        sign = k.xor(k.shl(k.and_(quarters, 2), bits - 2), flip)
        made.append(k.bitcast(k.xor(bits_of(k, value), sign), dtype))
    return made[0], made[1]


def sine_and_cosine(k: Scope, turned: Turned) -> tuple[Parts, Parts]:
    """Sine and cosine of the angle alone, in two parts each."""
    angle, rest, dtype = turned.angle, turned.angle_rest, turned.angle.dtype
    square = k.mul(angle, angle)
    square_rest = k.fma(angle, angle, k.neg(square))
    half = k.mul(square, 0.5)
    slope = k.fma(k.neg(half), rest, rest)
    small = k.fma(k.mul(angle, square), polynomial(k, square, SIN[dtype]), slope)
    sine = fast_two_sum(k, angle, small)
    base = k.sub(1.0, half)
    base_rest = k.sub(k.sub(1.0, base), half)
    base_rest = k.fma(k.neg(angle), rest, k.fma(square_rest, -0.5, base_rest))
    small = k.fma(k.mul(square, square), polynomial(k, square, COS[dtype]), base_rest)
    return sine, fast_two_sum(k, base, small)


def _tangent_of(k: Scope, turned: Turned, flip: Value) -> Value:
    """The tangent of the whole angle, negated where `flip` has the sign bit.

    An odd number of quarter turns makes it -1/tan(angle), corrected for the error of the division.
    """
    angle, dtype = turned.angle, turned.angle.dtype
    square = k.mul(angle, angle)
    cube, series = k.mul(angle, square), polynomial(k, square, TAN[dtype])
    total = k.fma(cube, series, angle)
    cube_rest = k.mul(k.fma(angle, angle, k.neg(square)), angle)
    lost = k.fma(cube_rest, series, k.fma(cube, series, k.sub(angle, total)))
    lost = k.fma(turned.angle_rest, k.fma(total, total, 1.0), lost)
    quotient = k.div(-1.0, total)
    wrong = k.fma(quotient, lost, k.fma(quotient, total, 1.0))
    odd = k.ne(k.and_(turned.quarter, 1), 0)
    result = k.select(odd, k.fma(quotient, wrong, quotient), k.add(total, lost))
    return k.bitcast(k.xor(bits_of(k, result), flip), dtype)


def tan(k: Scope, x: Value) -> Value:
    """The tangent of any finite argument, within 1 ulp; the sign of a zero is kept."""
    size = k.abs(x)
    return _tangent_of(k, turn(k, size), k.xor(bits_of(k, x), bits_of(k, size)))


# -- multiples of pi -------------------------------------------------------------------------------


def turn_of_pi(k: Scope, size: Value) -> Turned:
    """The reduction of pi * size: quarter turns are found without error."""
    size = at_most(k, size, 2.0 ** (FORMATS[size.dtype].fraction + 1))  # an even integer
    n = k.rint(k.add(size, size))
    left = k.fma(n, -0.5, size)
    quarter = k.sub(n, k.mul(k.floor(k.mul(n, 0.25)), 4.0))
    angle, rest = times_constant(k, (left, k.mul(left, 0.0)), PI[size.dtype])
    return Turned(bits_of(k, k.add(quarter, FORMATS[size.dtype].magic)), angle, rest)


def sine_of_pi(k: Scope, size: Value) -> Value:
    """sin(pi size), 0 for integers."""
    return sine_of(k, turn_of_pi(k, size), k.const(0, FORMATS[size.dtype].word))


def cotangent_of_pi(k: Scope, size: Value) -> Value:
    """cot(pi size) but for integers: a quarter turn on, the tangent has the other sign."""
    word = FORMATS[size.dtype].word
    turned = turn_of_pi(k, size)
    ahead = Turned(k.add(turned.quarter, 1), turned.angle, turned.angle_rest)
    return _tangent_of(k, ahead, k.const(1 << BITS[size.dtype] - 1, word))


def sinc(k: Scope, x: Value) -> Value:
    """sin(pi x)/(pi x), within 1 ulp; 1 at 0, exactly 0 at other integers, NaN at infinity."""
    dtype, size = x.dtype, k.abs(x)
    whole = times_constant(k, (size, k.const(0.0, dtype)), PI[dtype])
    turned = turn_of_pi(k, size)
    sine, cosine = sine_and_cosine(k, turned)
    odd = k.ne(k.and_(turned.quarter, 1), 0)
    result = k.add(*quotient(k, select_parts(k, odd, cosine, sine), whole))
    sign = k.shl(k.and_(turned.quarter, 2), BITS[dtype] - 2)
    result = k.bitcast(k.xor(bits_of(k, result), sign), dtype)
    result = k.select(k.lt(size, 2.0**-30), k.const(1.0, dtype), result)
    large = k.gt(size, 2.0 ** (FORMATS[dtype].fraction + 1))  # an integer, pi times it may overflow
    return k.select(large, k.sub(size, size), result)  # NaN for infinity, as NumPy's
