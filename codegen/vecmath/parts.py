"""What are the mathematical procedures made of?  Formats, polynomials, numbers in two parts.

A number in two parts is an unevaluated sum whose second term is below the last place of the first.
The sums and products without error are those of Dekker (Numer. Math. 18, 1971) and Knuth (The Art
of Computer Programming 2, 4.2.2).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.scalar import BITS, TABLE_ENTRIES, Scope, Value
from graphc.codegen.vecmath.tables import EXP

Procedure = Callable[..., Value]
Parts = tuple[Value, Value]


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

    def bits_of(self, power: float) -> int:
        """The bits of a power of two that is a normal number, or of infinity."""
        exponent = self.bias + 1 if math.isinf(power) else math.frexp(power)[1] - 1
        return self.bias + exponent << self.fraction

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


def polynomial(k: Scope, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The polynomial with these coefficients, constant first, as two Horner chains in x**2."""
    if len(coefficients) < 4:
        return horner(k, x, coefficients)
    square = k.mul(x, x)
    even = horner(k, square, coefficients[0::2])
    odd = horner(k, square, coefficients[1::2])
    return k.fma(odd, x, even)


def horner(k: Scope, x: Value, coefficients: tuple[float, ...]) -> Value:
    result = k.const(coefficients[-1], x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        result = k.fma(result, x, coefficient)
    return result


@dataclass(frozen=True)
class Pieces:
    """An odd function of x >= 0 in sixteen pieces, each with a polynomial of its own.

    A piece has a center c, a base b and a polynomial s in t = x - c. Near 0 the function is
    x + x s(t), and beyond it b + t s(t) where b is the function at c, which was chosen so that b
    is a float nearly without error: either way the last rounding is the only one that counts.
    """

    rows: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, entries: tuple[float, ...]) -> Pieces:
        count = range(0, len(entries), TABLE_ENTRIES)
        return cls(tuple(entries[i : i + TABLE_ENTRIES] for i in count))

    def at(self, k: Scope, x: Value, number: Value, near: Value) -> Value:
        """The function at x in the piece of this number, by its low bits."""
        center, base, *coefficients = (k.lookup(number, row, x.dtype) for row in self.rows)
        t = k.sub(x, center)
        slope = coefficients[-1]
        for coefficient in reversed(coefficients[:-1]):
            slope = k.fma(slope, t, coefficient)
        return k.fma(k.select(near, x, t), slope, k.select(near, x, base))


def at_most(k: Scope, x: Value, limit: float) -> Value:
    """The smaller of x and a limit; NaN passes."""
    return k.select(k.gt(x, limit), k.const(limit, x.dtype), x)


def at_least(k: Scope, x: Value, limit: float) -> Value:
    return k.select(k.lt(x, limit), k.const(limit, x.dtype), x)


def magnitude(k: Scope, x: Value) -> Value:
    """|x|, the same instruction for x, -x and -|x|."""
    while x.opcode in ("neg", "abs"):
        (x,) = x.args
    return k.abs(x)


def bits_of(k: Scope, x: Value) -> Value:
    return k.bitcast(x, FORMATS[x.dtype].word)


def power_of_two(k: Scope, shifted: Value, bias: Value | int) -> Value:
    """2**n times the power of two whose bits are `bias`; `shifted` is magic + n."""
    format_ = FORMATS[shifted.dtype]
    exponent = k.shl(bits_of(k, shifted), format_.fraction)
    return k.bitcast(k.add(exponent, bias), shifted.dtype)


def fast_two_sum(k: Scope, a: Value, b: Value) -> tuple[Value, Value]:
    """a + b and its rounding error, if |a| >= |b| or a is 0."""
    total = k.add(a, b)
    return total, k.sub(b, k.sub(total, a))


def rarely(k: Scope, condition: Value, rare: Value, usual: Value) -> Value:
    """A select whose condition seldom holds.

    The hint changes no value: a printer may branch around what only `rare` needs.
    """
    return k.emit("select", condition, rare, usual, immediate="rarely")


def select_parts(k: Scope, condition: Value, x: Parts, y: Parts) -> Parts:
    return k.select(condition, x[0], y[0]), k.select(condition, x[1], y[1])


def in_float64(procedure: Callable[..., Value]) -> Procedure:
    """`procedure(k, x, key, ...)`, which computes in float64.

    `key` is the dtype that was asked for, by which the procedure chooses its tables.
    """

    @functools.wraps(procedure)
    def computed(k: Scope, x: Value, *settings: int) -> Value:
        wide = procedure(k, k.convert(x, "float64"), x.dtype, *settings)
        return k.convert(wide, x.dtype)

    return computed


# -- numbers in two parts --------------------------------------------------------------------------


def two_sum(k: Scope, a: Value, b: Value) -> Parts:
    """a + b and its rounding error."""
    total = k.add(a, b)
    second = k.sub(total, a)
    return total, k.add(k.sub(a, k.sub(total, second)), k.sub(b, second))


def sum_with_short(k: Scope, x: Value, constant: float) -> Parts:
    """x + constant and its rounding error, for 0 <= x < 2**16 and a multiple of 1/8 up to 2**16.

    The constant is a multiple of the last place of the sum: taking it away again is exact,
    whichever of the two is larger.
    """
    total = k.add(x, constant)
    return total, k.sub(x, k.sub(total, constant))


def two_product(k: Scope, a: Value, b: Value | float) -> Parts:
    """a * b and its rounding error."""
    main = k.mul(a, b)
    return main, k.fma(a, b, k.neg(main))


def product(k: Scope, a: Parts, b: Parts) -> Parts:
    """The product of two numbers in two parts each, up to the product of the lower parts."""
    main = k.mul(a[0], b[0])
    rest = k.fma(a[0], b[0], k.neg(main))
    return main, k.fma(a[0], b[1], k.fma(a[1], b[0], rest))


def constant_plus(k: Scope, constant: tuple[float, ...], small: Parts) -> Parts:
    """A constant in two parts and a smaller number in two parts."""
    total, rest = fast_two_sum(k, k.const(constant[0], small[0].dtype), small[0])
    return total, k.add(rest, k.add(small[1], constant[1]))


def times_constant(k: Scope, a: Parts, constant: tuple[float, ...]) -> Parts:
    """The product with a constant in two parts."""
    main, rest = two_product(k, a[0], constant[0])
    return main, k.fma(a[0], constant[1], k.fma(a[1], constant[0], rest))


def quotient(k: Scope, a: Parts, b: Parts) -> Parts:
    """a / b, by one division."""
    reciprocal = k.div(1.0, b[0])
    main = k.mul(a[0], reciprocal)
    wrong = k.fma(k.neg(main), b[0], a[0])
    wrong = k.add(wrong, k.fma(k.neg(main), b[1], a[1]))
    return main, k.mul(wrong, reciprocal)


def root(k: Scope, a: Parts) -> Parts:
    """The square root of a nonnegative number."""
    main = k.sqrt(a[0])
    wrong = k.add(k.fma(k.neg(main), main, a[0]), a[1])
    above_zero = at_least(k, main, FORMATS[main.dtype].normal)
    return main, k.mul(wrong, k.div(0.5, above_zero))


# -- the reduction of exp --------------------------------------------------------------------------


@dataclass(frozen=True)
class Reduced:
    """x = n ln 2 + high + low, with n in the low bits of `shifted`; `high` is exact.

    `both` is high + low, rounded; |both| < 0.35.
    """

    shifted: Value
    high: Value
    low: Value
    both: Value


def reduce_by_ln2(k: Scope, x: Value) -> Reduced:
    """The reduction of a finite x between the format's `least` and `largest`."""
    format_ = FORMATS[x.dtype]
    shifted = k.fma(x, format_.inverse_ln2, format_.magic)
    n = k.sub(shifted, format_.magic)
    high = k.fma(n, -format_.ln2[0], x)
    low = k.mul(n, -format_.ln2[1])
    return Reduced(shifted, high, low, k.add(high, low))


def reduced_by_ln2(k: Scope, x: Value, rest: Value) -> Reduced:
    """The reduction of x + rest, for a rest below the last place of x; `low` holds it, too."""
    format_ = FORMATS[x.dtype]
    shifted = k.fma(x, format_.inverse_ln2, format_.magic)
    n = k.sub(shifted, format_.magic)
    high = k.fma(n, -format_.ln2[0], x)
    low = k.fma(n, -format_.ln2[1], rest)
    return Reduced(shifted, high, low, k.add(high, low))


def curvature_of(k: Scope, r: Reduced) -> Value:
    """exp(high + low) - 1 - high."""
    square = k.mul(r.both, r.both)
    return k.fma(square, polynomial(k, r.both, EXP[r.both.dtype]), r.low)


def fine_curvature(k: Scope, r: Reduced) -> Value:
    """exp(high + low) - 1 - high, without the rounding error of the square in the largest term."""
    half, *others = EXP[r.both.dtype]
    cube = k.mul(k.mul(r.both, r.both), r.both)
    cubic = k.fma(cube, polynomial(k, r.both, tuple(others)), r.low)
    return k.fma(k.mul(r.both, half), r.both, cubic)


def scaled_sum(k: Scope, offset: Value, scale: Value, high: Value, curvature: Value) -> Parts:
    """offset + scale (high + curvature) in two parts, if |offset| >= |scale high| or it is 0."""
    total, error = fast_two_sum(k, offset, k.mul(scale, high))
    return total, k.fma(scale, curvature, error)
