"""How are the inverse trigonometric functions computed?

An arc tangent is that of a fraction between 0 and tan(pi/8), plus a multiple of pi/4 in two parts.
Arc sine and arc cosine use asin(x) = pi/2 - 2 asin(sqrt((1 - x)/2)) (DLMF 4.24(iii)) above 1/2.
"""

from __future__ import annotations

import math

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.parts import (
    Parts,
    at_most,
    fast_two_sum,
    polynomial,
    quotient,
    root,
    select_parts,
    two_product,
)
from graphc.codegen.vecmath.tables import ASIN, ATAN, HALF_PI, PI, QUARTER_PI


def _arc_of_fraction(k: Scope, a: Value, b: Value) -> tuple[Parts, Value]:
    """atan(a/b) for 0 <= a <= b as an angle below pi/8 and a number of pi/4 to be added."""
    dtype = a.dtype
    zero = k.const(0.0, dtype)
    middle = k.gt(a, k.mul(b, math.tan(math.pi / 8)))
    difference, lost = fast_two_sum(k, k.neg(b), a)
    top = select_parts(k, middle, (difference, lost), (a, zero))
    bottom = select_parts(k, middle, fast_two_sum(k, b, a), (b, zero))
    t, t_rest = quotient(k, top, bottom)
    z = k.mul(t, t)
    slope = k.fma(k.neg(z), t_rest, t_rest)
    rest = k.fma(k.mul(t, z), polynomial(k, z, ATAN[dtype]), slope)
    return (t, rest), k.convert(middle, dtype)


def _eighths(k: Scope, angle: Parts, count: Value) -> Value:
    """angle + count * pi/4."""
    first, second = QUARTER_PI[count.dtype]
    main, rest = two_product(k, count, first)
    rest = k.fma(count, second, rest)
    total, error = fast_two_sum(k, main, angle[0])
    return k.add(total, k.add(error, k.add(rest, angle[1])))


def _mirrored(k: Scope, condition: Value, angle: Parts, count: Value, eighths: float) -> tuple:
    """`eighths` * pi/4 less the angle where the condition holds."""
    opposite = k.neg(angle[0]), k.neg(angle[1])
    angle = select_parts(k, condition, opposite, angle)
    return angle, k.select(condition, k.sub(eighths, count), count)


def atan(k: Scope, x: Value) -> Value:
    """The inverse tangent, within 1 ulp; the sign of a zero is kept."""
    size = at_most(k, k.abs(x), 2.0**60)
    one = k.const(1.0, x.dtype)
    steep = k.gt(size, 1.0)
    small, large = k.select(steep, one, size), k.select(steep, size, one)
    angle, count = _arc_of_fraction(k, small, large)
    angle, count = _mirrored(k, steep, angle, count, 2.0)
    return k.copysign(_eighths(k, angle, count), x)


# Below the first number both arguments are multiplied by the second, above the third by the fourth:
# the reciprocal is normal then, and the remainder of a quotient that is normal is exact.
_SCALES = {
    "float64": (2.0**300, 2.0**600, 2.0**900, 2.0**-300),
    "float32": (2.0**40, 2.0**80, 2.0**100, 2.0**-40),
}


def atan2(k: Scope, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), within 1 ulp, with the special cases of IEEE 754."""
    dtype = x.dtype
    height, width = k.abs(y), k.abs(x)
    steep = k.gt(height, width)
    small, large = k.select(steep, width, height), k.select(steep, height, width)
    infinite = k.eq(large, float("inf"))
    at_infinity = k.select(k.eq(small, float("inf")), k.const(1.0, dtype), k.mul(small, 0.0))
    small = k.select(infinite, at_infinity, small)
    one = k.const(1.0, dtype)
    large = k.select(k.or_(infinite, k.eq(large, 0.0)), one, large)
    low, up, high, down = _SCALES[dtype]
    scale = k.select(k.gt(large, high), k.const(down, dtype), one)
    scale = k.select(k.lt(large, low), k.const(up, dtype), scale)
    angle, count = _arc_of_fraction(k, k.mul(small, scale), k.mul(large, scale))
    angle, count = _mirrored(k, steep, angle, count, 2.0)
    leftward = k.lt(k.copysign(one, x), 0.0)
    angle, count = _mirrored(k, leftward, angle, count, 4.0)
    return k.copysign(_eighths(k, angle, count), y)


class _Arc:
    """What arc sine and arc cosine share: asin(s) = s + tail, s = |x| or sqrt((1 - |x|)/2)."""

    def __init__(self, k: Scope, x: Value) -> None:
        self.size = k.abs(x)
        self.far = k.gt(self.size, 0.5)
        beyond = k.mul(k.sub(1.0, self.size), 0.5)
        z = k.select(self.far, beyond, k.mul(self.size, self.size))
        zero = k.const(0.0, x.dtype)
        self.s, rest = select_parts(k, self.far, root(k, (z, zero)), (self.size, zero))
        self.tail = k.fma(k.mul(self.s, z), polynomial(k, z, ASIN[x.dtype]), rest)

    def less_twice(self, k: Scope, constant: tuple[float, ...]) -> Value:
        """constant - 2 asin(s)."""
        first, second = constant
        start = k.const(first, self.s.dtype)
        total, error = fast_two_sum(k, start, k.mul(self.s, -2.0))
        return k.add(total, k.add(error, k.fma(self.tail, -2.0, second)))


def asin(k: Scope, x: Value) -> Value:
    """The inverse sine, within 1 ulp; the sign of a zero is kept, NaN outside of [-1, 1]."""
    arc = _Arc(k, x)
    far = arc.less_twice(k, HALF_PI[x.dtype])
    return k.copysign(k.select(arc.far, far, k.add(arc.s, arc.tail)), x)


def acos(k: Scope, x: Value) -> Value:
    """The inverse cosine, within 1 ulp; NaN outside of [-1, 1]."""
    arc = _Arc(k, x)
    half = k.add(arc.s, arc.tail)
    far = k.select(k.gt(x, 0.0), k.add(half, half), arc.less_twice(k, PI[x.dtype]))
    first, second = HALF_PI[x.dtype]
    total, error = fast_two_sum(k, k.const(first, x.dtype), k.neg(x))
    tail = k.sub(second, k.copysign(arc.tail, x))
    return k.select(arc.far, far, k.add(total, k.add(error, tail)))
