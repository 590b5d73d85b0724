"""How are powers and cube roots computed?"""

from __future__ import annotations

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.exp import exp2_tail, times_power
from graphc.codegen.vecmath.log import is_unusual, log2_in_two_parts, log_arguments
from graphc.codegen.vecmath.parts import (
    FORMATS,
    Parts,
    at_least,
    at_most,
    bits_of,
    fast_two_sum,
    polynomial,
    power_of_two,
    product,
    rarely,
    two_product,
)
from graphc.codegen.vecmath.tables import CBRT

# Whole exponents that take fewer products than a power takes otherwise.
_MULTIPLIED = frozenset(float(n) for n in range(3, 17))


def pow(k: Scope, x: Value, y: Value) -> Value:
    """x to the power y, within 1 ulp, with the special cases of IEEE 754.

    exp2(y log2|x|) with the logarithm and the product in two parts. A branch is taken where x is
    no positive normal number or the power nearly none. For a small whole exponent that is known
    x is multiplied instead.
    """
    if y.opcode == "const" and y.immediate in _MULTIPLIED:
        return _multiplied(k, x, int(y.immediate))
    format_ = FORMATS[x.dtype]
    strange = is_unusual(k, x)
    size = k.abs(x)
    upper, lower = log2_in_two_parts(k, size, strange)
    main, rest = _times(k, y, (upper, lower))
    strange = k.or_(strange, k.not_(k.lt(k.abs(main), format_.bias - 2)))
    edge, edge_rest = _clamped_exponent(k, size, y, upper, lower)
    main, rest = rarely(k, strange, edge, main), rarely(k, strange, edge_rest, rest)

    shifted = k.add(main, format_.magic)
    reduced = fast_two_sum(k, k.sub(main, k.sub(shifted, format_.magic)), rest)
    tail = exp2_tail(k, *reduced)
    scale = power_of_two(k, shifted, format_.bits_of_one)
    edge = _power_at_edges(k, x, y, times_power(k, main, shifted, tail))
    return rarely(k, strange, edge, k.fma(scale, tail, scale))


def _multiplied(k: Scope, x: Value, exponent: int) -> Value:
    """A power of at least 2 by squaring, each product in two parts: within 0.76 ulp.

    No product overflows unless the power does; there the lower part means nothing. It never changes
    a sign. A branch is taken where the power is so small that lower parts are subnormal numbers: x
    is scaled there.
    """
    bias = FORMATS[x.dtype].bias
    main, rest = _powers(k, x, exponent)
    whole = k.select(k.lt(k.abs(main), float("inf")), k.add(main, rest), main)
    each = bias * 7 // 8 // exponent
    scaled = k.add(*_powers(k, k.mul(x, 2.0**each), exponent))
    small = k.and_(k.lt(k.abs(main), 2.0 ** -(bias * 3 // 4)), k.ne(main, 0.0))
    return k.copysign(rarely(k, small, k.mul(scaled, 2.0 ** -(each * exponent)), whole), main)


def _powers(k: Scope, x: Value, exponent: int) -> Parts:
    """A power in two parts."""
    result: Parts | None = None
    square: Parts = (x, k.const(0.0, x.dtype))
    for bit in range(exponent.bit_length()):
        square = product(k, square, square) if bit else square
        if exponent >> bit & 1:
            result = square if result is None else product(k, result, square)
    assert result is not None
    return result


def _times(k: Scope, y: Value, logarithm: Parts) -> Parts:
    main = k.mul(y, logarithm[0])
    return main, k.fma(y, logarithm[1], k.fma(y, logarithm[0], k.neg(main)))


def _clamped_exponent(k: Scope, size: Value, y: Value, upper: Value, lower: Value) -> Parts:
    """y log2(size) for any size, not far beyond what over- or underflows."""
    format_, dtype, infinity = FORMATS[size.dtype], size.dtype, float("inf")
    upper = k.select(k.lt(size, infinity), upper, size)
    upper = k.select(k.eq(size, 0.0), k.const(-infinity, dtype), upper)
    # A finite exponent this large does what an infinite one does, and gives 1 where |x| is 1.
    exponent = at_least(k, at_most(k, y, 2.0**100), -(2.0**100))
    main, rest = _times(k, exponent, (upper, lower))
    top, bottom = format_.bias + 1, -(format_.bias + format_.fraction + 2)
    inside = at_least(k, at_most(k, main, top), bottom)
    return inside, k.select(k.eq(main, inside), rest, k.const(0.0, dtype))


def _power_at_edges(k: Scope, x: Value, y: Value, result: Value) -> Value:
    """The power with its sign, which is NaN where it is not real, and 1 where it must be."""
    format_, dtype = FORMATS[x.dtype], x.dtype
    whole_exponent = k.eq(k.trunc(y), y)
    half = k.mul(y, 0.5)
    odd = k.and_(whole_exponent, k.ne(k.trunc(half), half))
    sign = k.xor(bits_of(k, x), bits_of(k, k.abs(x)))
    sign = k.select(odd, sign, k.const(0, format_.word))
    result = k.bitcast(k.or_(bits_of(k, result), sign), dtype)
    undefined = k.and_(k.and_(k.lt(x, 0.0), k.gt(x, -float("inf"))), k.not_(whole_exponent))
    result = k.select(undefined, k.const(float("nan"), dtype), result)
    one = k.or_(k.eq(x, 1.0), k.eq(y, 0.0))
    return k.select(one, k.const(1.0, dtype), result)


def cbrt(k: Scope, x: Value) -> Value:
    """The real cube root, within 1 ulp; exact for cubes.

    The exponent less a multiple of three stays with the mantissa m. With z near m**(-1/3) from a
    polynomial and one step of Halley's kind, y = m z**2 is corrected by Newton's method with an
    exact remainder.
    """
    format_, dtype = FORMATS[x.dtype], x.dtype
    size = k.abs(x)
    strange = is_unusual(k, size)
    f, n = log_arguments(k, size, strange)
    m = k.add(f, 1.0)
    shifted = k.fma(n, 1 / 3, format_.magic)
    left = k.fma(k.sub(shifted, format_.magic), -3.0, n)  # -1, 0 or 1
    less, more = k.lt(left, 0.0), k.gt(left, 0.0)

    def scaled(value: Value, factor: float) -> Value:
        """value * factor**left."""
        low, middle, high = (k.const(factor**by, dtype) for by in (-1, 0, 1))
        return k.mul(value, k.select(less, low, k.select(more, high, middle)))

    z = scaled(polynomial(k, m, CBRT[dtype]), 2.0 ** (-1 / 3))
    m = scaled(m, 2.0)
    wrong = k.fma(k.neg(k.mul(z, k.mul(z, z))), m, 1.0)
    z = k.fma(k.mul(z, wrong), k.fma(wrong, 2 / 9, 1 / 3), z)
    square = k.mul(z, z)
    y = k.mul(m, square)
    power, power_rest = two_product(k, y, y)
    remainder = k.sub(k.fma(k.neg(power), y, m), k.mul(power_rest, y))
    root = k.fma(remainder, k.mul(square, 1 / 3), y)
    result = k.copysign(k.mul(root, power_of_two(k, shifted, format_.bits_of_one)), x)
    plain = k.and_(k.gt(size, 0.0), k.lt(size, float("inf")))
    return rarely(k, strange, k.select(plain, result, x), result)
