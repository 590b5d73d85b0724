"""How are fmod, hypot, ldexp, frexp and nextafter computed from scalar instructions?  By the bits.

Like those of `vecmath`, a procedure is straight-line text over the builder `k` and serves every
backend. What is different: apart from `hypot` these have no rounding error at all, or that of one
rounding, so there are no coefficients, only the layout of a format.

The remainder of a large quotient is modular arithmetic. With x and y as integers X 2**e and Y of
one unit, the residue of 2**e modulo Y comes from repeated squaring, where a product of two numbers
of 53 bits is held exactly as a product and its rounding error (an fma), and the nearest multiple of
Y is subtracted exactly. The number of steps grows with log(e) instead of e, and there is no loop.
Quotients that fit the format, which are the usual ones, need one division and one fma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.scalar import BITS, Scope, Value

Procedure = Callable[..., Value]


@dataclass(frozen=True)
class Layout:
    """The bits of a format: fraction bits, and the bias of the exponent."""

    fraction: int
    bias: int

    @property
    def normal(self) -> float:
        """The least normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def tiny(self) -> float:
        """The least positive number."""
        return 2.0 ** (1 - self.bias - self.fraction)

    @property
    def raised(self) -> float:
        """A power of two by which every subnormal number becomes normal."""
        return 2.0 ** (self.fraction + 2)


LAYOUTS = {
    "float64": Layout(52, 1023),
    "float32": Layout(23, 127),
    "float16": Layout(10, 15),
    "bfloat16": Layout(7, 127),
}
INFINITY = float("inf")
NAN = float("nan")


def word_of(dtype: str) -> str:
    """The unsigned integer as wide as a float."""
    return f"uint{BITS[dtype]}"


def signed_of(dtype: str) -> str:
    """The signed integer as wide as a float."""
    return f"int{BITS[dtype]}"


def rarely(k: Scope, condition: Value, rare: Value, usual: Value) -> Value:
    """A select whose condition seldom holds: a printer may branch around what only `rare` needs."""
    return k.emit("select", condition, rare, usual, immediate="rarely")


def power_of_two(k: Scope, exponent: Value, dtype: str) -> Value:
    """2**exponent for a signed integer as wide as the float, in the range of normal exponents."""
    layout = LAYOUTS[dtype]
    return k.bitcast(k.shl(k.add(exponent, layout.bias), layout.fraction), dtype)


# -- remainders ----------------------------------------------------------------------------------


def _nearest_residue(k: Scope, value: Value, modulus: Value) -> Value:
    """`value` less the nearest multiple of `modulus`; exact while the quotient fits the format."""
    multiple = k.rint(k.div(value, modulus))
    return k.fma(k.neg(multiple), modulus, value)


def _modular_product(k: Scope, a: Value, b: Value, modulus: Value, inverse: Value) -> Value:
    """a b modulo an integer of 53 bits, for |a|, |b| <= modulus/2, and again at most that.

    The multiple that is subtracted from the rounded product is off by less than 1/4 beyond
    rounding to the nearest, and the rounding error of the product is at most modulus/8: the sum
    stays below 2**53, so both steps are exact.
    """
    product = k.mul(a, b)
    rest = k.fma(a, b, k.neg(product))
    near = k.add(_nearest_residue(k, product, modulus), rest)
    return k.fma(k.neg(k.rint(k.mul(near, inverse))), modulus, near)


def _far_remainder(k: Scope, a: Value, b: Value) -> Value:
    """The remainder of finite float64 a >= 2**52 b > 0: significands as integers, 2**e modulo one.

    e = 32 s + r: 2**s is reduced, squared five times, multiplied with the significand of `a`, and
    2**r goes into the last reduction.
    """
    dtype, layout = "float64", LAYOUTS["float64"]
    word, signed = word_of(dtype), signed_of(dtype)
    integer = layout.bias + layout.fraction << layout.fraction

    def significand(bits: Value) -> Value:
        kept = k.and_(bits, (1 << layout.fraction) - 1)
        return k.bitcast(k.or_(kept, integer), dtype)

    small = k.lt(b, layout.normal)
    a_bits = k.bitcast(a, word)
    b_bits = k.bitcast(k.select(small, k.mul(b, layout.raised), b), word)
    a_exponent = k.bitcast(k.shr(a_bits, layout.fraction), signed)
    lowered = k.select(small, k.const(layout.fraction + 2, signed), k.const(0, signed))
    b_exponent = k.sub(k.bitcast(k.shr(b_bits, layout.fraction), signed), lowered)
    modulus = significand(b_bits)
    inverse = k.div(1.0, modulus)

    exponent = k.sub(a_exponent, b_exponent)
    factor = _nearest_residue(k, power_of_two(k, k.shr(exponent, 5), dtype), modulus)
    for _ in range(5):
        factor = _modular_product(k, factor, factor, modulus, inverse)
    reduced = _nearest_residue(k, significand(a_bits), modulus)
    product = _modular_product(k, reduced, factor, modulus, inverse)
    shifted = k.mul(product, power_of_two(k, k.and_(exponent, 31), dtype))
    result = _nearest_residue(k, shifted, modulus)
    result = k.select(k.lt(result, 0.0), k.add(result, modulus), result)

    unit = k.sub(b_exponent, layout.bias + layout.fraction)
    half = k.shr(unit, 1)
    scaled = k.mul(result, power_of_two(k, half, dtype))
    return k.mul(scaled, power_of_two(k, k.sub(unit, half), dtype))


def fmod(k: Scope, x: Value, y: Value) -> Value:
    """x less the multiple of y next to it towards zero: exact, with the sign of x.

    NaN for infinite x and for y = 0; x for infinite y.
    """
    dtype = x.dtype
    a, b = k.abs(x), k.abs(y)
    ratio = k.div(a, b)
    near = k.fma(k.neg(k.trunc(ratio)), b, a)  # exact; below 0 if the ratio was rounded up
    near = k.select(k.lt(near, 0.0), k.add(near, b), near)
    if dtype == "float64":
        far = _far_remainder(k, a, b)
    else:
        far = k.convert(fmod(k, k.convert(a, "float64"), k.convert(b, "float64")), dtype)
    is_far = k.ge(ratio, 2.0 ** LAYOUTS[dtype].fraction)
    result = rarely(k, is_far, far, near)
    result = k.select(k.eq(b, INFINITY), a, result)
    undefined = k.or_(k.eq(a, INFINITY), k.eq(b, 0.0))
    return k.copysign(k.select(undefined, k.const(NAN, dtype), result), x)


def _floored(k: Scope, x: Value, y: Value) -> tuple[Value, Value, Value]:
    """fmod, whether it has to move to the side of y, and fmod moved there."""
    towards_zero = fmod(k, x, y)
    other_side = k.ne(k.lt(y, 0.0), k.lt(towards_zero, 0.0))
    moves = k.and_(k.ne(towards_zero, 0.0), other_side)
    return towards_zero, moves, k.select(moves, k.add(towards_zero, y), towards_zero)


def remainder(k: Scope, x: Value, y: Value) -> Value:
    """x less the multiple of y next to it downwards, with the sign of y: Python's modulo."""
    towards_zero, _, result = _floored(k, x, y)
    return k.select(k.eq(towards_zero, 0.0), k.copysign(k.const(0.0, x.dtype), y), result)


def floor_divide(k: Scope, x: Value, y: Value) -> Value:
    """The floor of x/y, made consistent with the remainder: (x - fmod)/y rounded to an integer.

    Where y is 0 it is x/y.
    """
    dtype = x.dtype
    towards_zero, moves, _ = _floored(k, x, y)
    quotient = k.div(k.sub(x, towards_zero), y)
    quotient = k.select(moves, k.sub(quotient, 1.0), quotient)
    below = k.floor(quotient)
    result = k.select(k.gt(k.sub(quotient, below), 0.5), k.add(below, 1.0), below)
    ratio = k.div(x, y)
    zero = k.copysign(k.const(0.0, dtype), ratio)
    result = k.select(k.eq(quotient, 0.0), zero, result)
    return k.select(k.eq(y, 0.0), ratio, result)


# -- lengths -------------------------------------------------------------------------------------


def hypot(k: Scope, x: Value, y: Value) -> Value:
    """sqrt(x**2 + y**2) within 1 ulp, without overflow or underflow on the way.

    The root of the rounded sum is corrected by the residue of its square, which fma gives exactly
    (C. Borges, "Algorithm 1014: An Improved Algorithm for hypot(x, y)", ACM TOMS 47, 2020). Numbers
    whose squares leave the format are scaled by a power of two.
    """
    dtype = x.dtype
    top = LAYOUTS[dtype].bias + 1
    up, down = 2.0 ** (top * 5 // 8), 2.0 ** -(top * 5 // 8)
    first, second = k.abs(x), k.abs(y)
    large = k.select(k.lt(first, second), second, first)
    small = k.select(k.lt(first, second), first, second)
    is_large, is_small = k.gt(large, 2.0 ** (top * 7 // 16)), k.lt(large, 2.0 ** -(top * 3 // 8))
    one = k.const(1.0, dtype)
    scale = k.select(is_large, k.const(down, dtype), k.select(is_small, k.const(up, dtype), one))
    back = k.select(is_large, k.const(up, dtype), k.select(is_small, k.const(down, dtype), one))
    a, b = k.mul(large, scale), k.mul(small, scale)
    a_square = k.mul(a, a)
    root = k.sqrt(k.fma(a, a, k.mul(b, b)))
    square = k.mul(root, root)
    residue = k.fma(k.neg(b), b, k.sub(square, a_square))
    residue = k.add(residue, k.fma(root, root, k.neg(square)))
    residue = k.sub(residue, k.fma(a, a, k.neg(a_square)))
    corrected = k.sub(root, k.div(residue, k.add(root, root)))
    # 0 has no correction; of a number and a negligible one the larger is the length
    kept = k.select(k.eq(large, 0.0), large, k.mul(corrected, back))
    length = k.select(k.eq(small, 0.0), large, kept)
    undefined = k.or_(k.ne(x, x), k.ne(y, y))
    length = k.select(undefined, k.const(NAN, dtype), length)
    infinite = k.or_(k.eq(first, INFINITY), k.eq(second, INFINITY))
    return k.select(infinite, k.const(INFINITY, dtype), length)


# -- exponents and neighbours --------------------------------------------------------------------


def ldexp(k: Scope, x: Value, exponent: Value) -> Value:
    """x 2**exponent, rounded once; `exponent` is an integer of any width.

    Two steps keep what is left within the exponents of normal numbers. A step down stops so far
    above the subnormal numbers that only the last product rounds.
    """
    dtype = x.dtype
    if dtype in ("float16", "bfloat16"):
        return k.convert(ldexp(k, k.convert(x, "float32"), exponent), dtype)
    layout, signed = LAYOUTS[dtype], signed_of(dtype)
    most, least = layout.bias, 1 - layout.bias
    limit = 3 * layout.bias  # beyond this everything overflows, or vanishes
    left = k.convert(_between(k, k.convert(exponent, "int64"), -limit, limit), signed)
    up, down = 2.0**most, 2.0 ** (least + layout.fraction + 1)
    for _ in range(2):
        above, below = k.gt(left, most), k.lt(left, least)
        factor = k.select(below, k.const(down, dtype), k.const(1.0, dtype))
        x = k.mul(x, k.select(above, k.const(up, dtype), factor))
        lower = k.sub(left, least + layout.fraction + 1)
        left = k.select(above, k.sub(left, most), k.select(below, lower, left))
    return k.mul(x, power_of_two(k, _between(k, left, least, most), dtype))


def _between(k: Scope, value: Value, low: int, high: int) -> Value:
    return k.max(k.min(value, high), low)


def frexp(k: Scope, x: Value) -> tuple[Value, Value]:
    """x as a number of size 1/2 up to 1 times a power of two; the exponent is an int32.

    Zero, infinity and NaN are themselves, with the exponent 0.
    """
    dtype = x.dtype
    layout, word = LAYOUTS[dtype], word_of(dtype)
    size = k.abs(x)
    small = k.lt(size, layout.normal)
    normal = k.select(small, k.mul(x, layout.raised), x)
    bits = k.bitcast(normal, word)
    field = (1 << BITS[dtype] - 1) - (1 << layout.fraction)
    stored = k.convert(k.shr(k.and_(bits, field), layout.fraction), "int32")
    lowered = k.select(small, k.const(layout.fraction + 2, "int32"), k.const(0, "int32"))
    exponent = k.sub(k.sub(stored, lowered), layout.bias - 1)
    rest = k.and_(bits, (1 << BITS[dtype]) - 1 - field)
    fraction = k.bitcast(k.or_(rest, layout.bias - 1 << layout.fraction), dtype)
    plain = k.or_(k.eq(size, 0.0), k.not_(k.lt(size, INFINITY)))
    return k.select(plain, x, fraction), k.select(plain, k.const(0, "int32"), exponent)


def nextafter(k: Scope, x: Value, y: Value) -> Value:
    """The float next to x in the direction of y; y itself where they are equal."""
    dtype, word = x.dtype, word_of(x.dtype)
    bits = k.bitcast(x, word)
    outwards = k.eq(k.lt(x, y), k.gt(x, 0.0))
    stepped = k.bitcast(k.select(outwards, k.add(bits, 1), k.sub(bits, 1)), dtype)
    first = k.copysign(k.const(LAYOUTS[dtype].tiny, dtype), y)
    result = k.select(k.eq(x, 0.0), first, stepped)
    result = k.select(k.eq(x, y), y, result)
    undefined = k.or_(k.ne(x, x), k.ne(y, y))
    return k.select(undefined, k.const(NAN, dtype), result)


def spacing(k: Scope, x: Value) -> Value:
    """The distance to the next float away from zero, with the sign of x; NaN for infinity.

    That of either zero is positive.
    """
    dtype = x.dtype
    beyond = k.bitcast(k.add(k.bitcast(x, word_of(dtype)), 1), dtype)
    least = k.const(LAYOUTS[dtype].tiny, dtype)
    apart = k.select(k.eq(x, 0.0), least, k.sub(beyond, x))
    finite = k.lt(k.abs(x), INFINITY)
    return k.select(finite, apart, k.const(NAN, dtype))


def _through_float32(procedure: Procedure) -> Procedure:
    """`procedure`, which computes in float32 for the 16-bit formats."""

    def widened(k: Scope, *values: Value) -> Value:
        dtype = values[0].dtype
        if dtype in ("float32", "float64"):
            return procedure(k, *values)
        wide = procedure(k, *(k.convert(value, "float32") for value in values))
        return k.convert(wide, dtype)

    return widened


PROCEDURES: dict[str, Callable[..., Value | tuple[Value, Value]]] = {
    **{
        procedure.__name__: _through_float32(procedure)
        for procedure in (fmod, remainder, floor_divide, hypot)
    },
    **{procedure.__name__: procedure for procedure in (ldexp, frexp, nextafter, spacing)},
}
