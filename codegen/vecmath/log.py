"""How is the logarithm family computed?  log, log2, log10, log1p, softplus and the inverse
hyperbolic functions.

The forms follow Tang (ACM TOMS 16, 1990) and fdlibm (Sun Microsystems, 1993): with s = f/(2 + f),
log(1 + f) = f - f**2/2 + s (f**2/2 + R(s**2)). The inverse hyperbolic functions are logarithms
(DLMF 4.37(iv)) whose arguments are kept in two parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.scalar import TABLE_ENTRIES, Scope, Value
from graphc.codegen.vecmath.exp import Decay
from graphc.codegen.vecmath.parts import (
    FORMATS,
    Parts,
    at_most,
    bits_of,
    constant_plus,
    fast_two_sum,
    polynomial,
    product,
    quotient,
    rarely,
    root,
    select_parts,
    times_constant,
    two_product,
    two_sum,
)
from graphc.codegen.vecmath.tables import (
    INVERSE_LN2,
    INVERSE_LN10,
    LOG,
    LOG2_CUBIC,
    LOG2_LINEAR,
    LOG2_TAIL,
    LOG10_OF_2,
    LOG_CUBIC,
    LOG_RECIPROCALS,
    LOG_SLOPE,
    SHORT_LOG,
    SHORT_LOG2,
    SHORT_LOG2_CUBIC,
    SHORT_LOG10,
    Table,
)


def moved_bits(k: Scope, positive: Value) -> Value:
    """The bits of a normal m * 2**n, 0.75 <= m < 1.5, moved so that the exponent field tells n.

    The field holds n + bias + 1, and the bits below it how far m is above 0.75.
    """
    format_ = FORMATS[positive.dtype]
    return k.add(bits_of(k, positive), format_.bits_of_two - format_.bits_of_three_quarters)


def exponent_of(k: Scope, moved: Value, dtype: str) -> Value:
    """magic + bias + 1 + n as a float: the field becomes the low bits of `magic`."""
    format_ = FORMATS[dtype]
    return k.bitcast(k.or_(k.shr(moved, format_.fraction), format_.magic_bits), dtype)


def is_unusual(k: Scope, x: Value) -> Value:
    """Whether x is anything but a positive normal number: by its bits, one comparison."""
    format_ = FORMATS[x.dtype]
    least = format_.bits_of(format_.normal)
    return k.ge(k.sub(bits_of(k, x), least), format_.bits_of(float("inf")) - least)


def log_arguments(k: Scope, x: Value, unusual: Value | None = None) -> tuple[Value, Value]:
    """f and n with x = (1 + f) * 2**n exactly, -0.25 <= f < 0.5, for any positive finite x."""
    mantissa, moved, origin = _scaled(k, x, unusual)
    return k.sub(mantissa, 1.0), k.sub(exponent_of(k, moved, x.dtype), origin)


def _scaled(k: Scope, x: Value, unusual: Value | None = None) -> tuple[Value, Value, Value]:
    """m with x = m * 2**n, 0.75 <= m < 1.5, for any positive finite x; its moved bits, and what
    their exponent is above n.

    Subnormal numbers are made normal, in a branch; `unusual` is a condition that holds for them.
    """
    format_ = FORMATS[x.dtype]
    subnormal = k.lt(x, format_.normal)
    if unusual is None:
        unusual = is_unusual(k, x)
    lift = format_.fraction + 2
    origins = [k.const(format_.exponent_origin + by, x.dtype) for by in (lift, 0)]
    lifted = k.select(subnormal, k.mul(x, 2.0**lift), x)
    lower = k.select(subnormal, *origins)
    moved = moved_bits(k, rarely(k, unusual, lifted, x))
    origin = rarely(k, unusual, lower, origins[1])
    above = k.and_(moved, (1 << format_.fraction) - 1)
    mantissa = k.bitcast(k.add(above, format_.bits_of_three_quarters), x.dtype)
    return mantissa, moved, origin


@dataclass(frozen=True)
class _Logarithm:
    """log(1 + f) = f - half_square + small, where half_square is f**2/2. `slope` is about
    1/(1 + f).
    """

    half_square: Value
    small: Value
    slope: Callable[[], Value]


def _logarithm(k: Scope, f: Value) -> _Logarithm:
    """In float64 s (f**2/2 + R(s**2)) with s = f/(2 + f) takes fewer terms than a polynomial of f
    and a division; in float32 the polynomial is cheaper.
    """
    half_square = k.mul(k.mul(f, 0.5), f)
    if f.dtype == "float32":
        small = k.mul(k.mul(k.mul(f, f), f), polynomial(k, f, LOG_CUBIC[f.dtype]))

        def fraction() -> Value:
            """1/(1 + f) is 1 - f/(1 + f): exact where f is small and what it multiplies is not."""
            return k.fma(k.neg(f), polynomial(k, f, LOG_SLOPE[f.dtype]), 1.0)

        return _Logarithm(half_square, small, fraction)
    s = k.div(f, k.add(f, 2.0))
    z = k.mul(s, s)
    series = k.fma(z, polynomial(k, z, LOG[f.dtype]), half_square)

    def slope() -> Value:
        root = k.sub(1.0, s)
        return k.mul(root, root)

    return _Logarithm(half_square, k.mul(s, series), slope)


def log_sum(k: Scope, f: Value, n: Value, rest: Value | None = None) -> Value:
    """log(1 + f + rest) + n ln 2, for a rest below the last place of f."""
    format_ = FORMATS[f.dtype]
    parts = _logarithm(k, f)
    small = k.fma(n, format_.ln2[1], parts.small)
    if rest is not None:
        small = k.fma(parts.slope(), rest, small)
    return k.fma(n, format_.ln2[0], k.sub(f, k.sub(parts.half_square, small)))


def log_edges(k: Scope, x: Value, result: Value) -> Value:
    """A logarithm of x: infinity and NaN are themselves, zero gives -inf, a negative number NaN."""
    edge = k.select(k.lt(x, float("inf")), result, x)
    edge = k.select(k.eq(x, 0.0), k.const(float("-inf"), x.dtype), edge)
    edge = k.select(k.lt(x, 0.0), k.const(float("nan"), x.dtype), edge)
    return rarely(k, is_unusual(k, x), edge, result)


def looks_up(k: Scope, dtype: str) -> bool:
    """Whether a logarithm takes numbers from tables: in float32, where lookups are cheap."""
    return dtype == "float32" and k.tables


def log(k: Scope, x: Value) -> Value:
    """The natural logarithm, within 1 ulp; -inf at 0, NaN below."""
    if looks_up(k, x.dtype):
        return log_edges(k, x, _short_log(k, x, SHORT_LOG, FORMATS["float32"].ln2))
    return log_edges(k, x, log_sum(k, *log_arguments(k, x)))


def _short_log(k: Scope, x: Value, table: Table, of_two: tuple[float, ...]) -> Value:
    """A logarithm of a positive finite float32, by tables; `of_two` is that of 2 in two parts.

    With r near the reciprocal of the mantissa m, f = r m - 1 is exact and small. The largest terms,
    the logarithm of 2**n/r and the linear one in f, are added with what the sum loses.
    """
    f, n, (main, rest) = _in_pieces(k, x, table)
    factor, factor_rest, *series = table["float32"][2 * TABLE_ENTRIES :]
    main = k.add(n, main) if of_two[0] == 1 else k.fma(n, of_two[0], main)
    if of_two[1]:
        rest = k.fma(n, of_two[1], rest)
    if factor_rest:
        total = k.fma(f, factor, main)
        lost = k.fma(f, factor_rest, k.fma(f, factor, k.sub(main, total)))
    else:
        total = k.add(main, f)
        lost = k.sub(f, k.sub(total, main))
    square = k.mul(f, f)
    small = k.fma(square, polynomial(k, f, tuple(series)), k.add(lost, rest))
    return k.add(total, small)


def _in_pieces(
    k: Scope, x: Value, table: Table, unusual: Value | None = None
) -> tuple[Value, Value, Parts]:
    """f and n with x = (1 + f)/r * 2**n exactly, -0.04 < f <= 0.0625, and the logarithm of 1/r."""
    entries = table["float32"]
    m, moved, origin = _scaled(k, x, unusual)
    n = k.sub(exponent_of(k, moved, x.dtype), origin)
    piece = k.shr(moved, FORMATS[x.dtype].fraction - 4)
    f = k.fma(m, k.lookup(piece, LOG_RECIPROCALS["float32"], x.dtype), -1.0)
    upper, lower = entries[:TABLE_ENTRIES], entries[TABLE_ENTRIES : 2 * TABLE_ENTRIES]
    return f, n, (k.lookup(piece, upper, x.dtype), k.lookup(piece, lower, x.dtype))


def _log_to_base(k: Scope, x: Value, factor: tuple[float, ...], ln2: tuple[float, ...]) -> Value:
    """log(x) * factor, where `ln2` is ln 2 * factor, whose upper part times n is exact.

    log(1 + f) is kept in two parts so that its product with the factor is rounded once.
    """
    f, n = log_arguments(k, x)
    parts = _logarithm(k, f)
    upper = k.sub(f, parts.half_square)
    lower = k.add(parts.small, k.sub(k.sub(f, upper), parts.half_square))
    main, rest = times_constant(k, (upper, lower), factor)
    total, error = fast_two_sum(k, n if ln2[0] == 1 else k.mul(n, ln2[0]), main)
    rest = k.add(error, rest)
    if ln2[1]:
        rest = k.fma(n, ln2[1], rest)
    return log_edges(k, x, k.add(total, rest))


def log2(k: Scope, x: Value) -> Value:
    """The logarithm to base 2, within 1 ulp; exact for powers of two."""
    if looks_up(k, x.dtype):
        return log_edges(k, x, _short_log(k, x, SHORT_LOG2, (1.0, 0.0)))
    return _log_to_base(k, x, INVERSE_LN2[x.dtype], (1.0, 0.0))


def log10(k: Scope, x: Value) -> Value:
    """The logarithm to base 10, within 1 ulp; exact for powers of ten that the dtype holds."""
    if looks_up(k, x.dtype):
        return log_edges(k, x, _short_log(k, x, SHORT_LOG10, LOG10_OF_2["float32"]))
    return _log_to_base(k, x, INVERSE_LN10[x.dtype], LOG10_OF_2[x.dtype])


def log_in_two_parts(k: Scope, x: Value) -> Parts:
    """The logarithm of a positive finite number, four bits more than one part would have."""
    format_ = FORMATS[x.dtype]
    f, n = log_arguments(k, x)
    parts = _logarithm(k, f)
    total, error = fast_two_sum(k, k.mul(n, format_.ln2[0]), f)
    small = k.fma(n, format_.ln2[1], parts.small)
    return fast_two_sum(k, total, k.add(error, k.sub(small, parts.half_square)))


def log1p_arguments(
    k: Scope, x: Value, rest: Value | None = None
) -> tuple[Value, Value, Value | None]:
    """f, n and r with 1 + x + rest = (1 + f + r) * 2**n for finite x > -1, -0.25 <= f < 0.5, and a
    rest below the last place of x.

    1 + x only decides n: f = x / 2**n + (2**-n - 1) is exact wherever its last bits matter.
    """
    format_ = FORMATS[x.dtype]
    moved = moved_bits(k, k.add(x, 1.0))
    n = k.sub(exponent_of(k, moved, x.dtype), format_.exponent_origin)
    field = k.sub(k.and_(moved, format_.exponent_mask), format_.bits_of_two)
    scaled = k.bitcast(k.sub(bits_of(k, x), field), x.dtype)
    lift = 10  # 2**(10 - n) is a normal number for every n, 2**-n is not
    lifted = k.const(format_.bits_of_one + (lift << format_.fraction), format_.word)
    power = k.bitcast(k.sub(lifted, field), x.dtype)
    if rest is not None:
        rest = k.mul(k.mul(rest, power), 2.0**-lift)
    return k.add(scaled, k.fma(power, 2.0**-lift, -1.0)), n, rest


def log1p(k: Scope, x: Value) -> Value:
    """log(1 + x), within 1 ulp; the sign of a zero is kept."""
    f, n, _ = log1p_arguments(k, x)
    return _log1p_edges(k, x, k.copysign(log_sum(k, f, n), x))


def _log1p_edges(k: Scope, x: Value, result: Value) -> Value:
    """A logarithm of 1 + x: infinity and NaN are themselves, -1 gives -inf, less NaN."""
    inside = k.and_(k.gt(x, -1.0), k.lt(x, float("inf")))
    edge = k.select(k.eq(x, -1.0), k.const(float("-inf"), x.dtype), x)
    edge = k.select(k.lt(x, -1.0), k.const(float("nan"), x.dtype), edge)
    return rarely(k, k.not_(inside), edge, result)


def _log1p_in_two_parts(k: Scope, x: Value) -> Parts:
    """log(1 + x) for finite x > -1."""
    format_ = FORMATS[x.dtype]
    f, n, _ = log1p_arguments(k, x)
    parts = _logarithm(k, f)
    total, error = fast_two_sum(k, k.mul(n, format_.ln2[0]), f)
    small = k.fma(n, format_.ln2[1], parts.small)
    return fast_two_sum(k, total, k.add(error, k.sub(small, parts.half_square)))


def _product_with_log(
    k: Scope, x: Value, y: Value, inside: Value, parts: Parts, edge: Callable[[Value], Value]
) -> Value:
    """x times a logarithm of y in two parts, where `inside` says that y has one; 0 if x is 0.

    Elsewhere it is x times `edge(upper part)`.
    """
    usual = k.and_(inside, k.and_(k.ne(x, 0.0), k.lt(k.abs(x), float("inf"))))
    upper, lower = parts
    result = k.fma(x, upper, k.mul(x, lower))
    nothing = k.and_(k.eq(x, 0.0), k.eq(y, y))
    unusual = k.select(nothing, k.const(0.0, x.dtype), k.mul(x, edge(upper)))
    return rarely(k, k.not_(usual), unusual, result)


def xlogy(k: Scope, x: Value, y: Value) -> Value:
    """x log(y), within 1 ulp; 0 where x is 0 and y a number."""
    parts, inside = log_in_two_parts(k, y), k.not_(is_unusual(k, y))
    return _product_with_log(k, x, y, inside, parts, lambda upper: log_edges(k, y, upper))


def xlog1py(k: Scope, x: Value, y: Value) -> Value:
    """x log(1 + y), within 1 ulp; 0 where x is 0 and y a number."""
    inside = k.and_(k.gt(y, -1.0), k.lt(y, float("inf")))
    parts = _log1p_in_two_parts(k, y)
    return _product_with_log(k, x, y, inside, parts, lambda upper: _log1p_edges(k, y, upper))


def softplus(k: Scope, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log(1 + q) with q = exp(-|x|), within 1 ulp.

    q is in two parts. From 1/2 on 1 + q is 2 (1 + f) with f = (q - 1)/2, which is exact.
    """
    ln2, zero = FORMATS[x.dtype].ln2, k.const(0.0, x.dtype)
    decay = Decay(k, x)
    q, q_rest = decay.main, decay.fine_rest(k)
    doubled = k.ge(q, 0.5)
    f = k.select(doubled, k.fma(q, 0.5, -0.5), q)
    rest = k.select(doubled, k.mul(q_rest, 0.5), q_rest)
    base, base_rest = (k.select(doubled, k.const(part, x.dtype), zero) for part in ln2)
    parts = _logarithm(k, f)
    below, below_rest = fast_two_sum(k, base, f)
    total, lost = two_sum(k, k.max(x, 0.0), below)
    low = k.fma(parts.slope(), rest, k.add(base_rest, parts.small))
    low = k.add(k.add(lost, below_rest), k.sub(low, parts.half_square))
    return rarely(k, k.eq(total, float("inf")), total, k.add(total, low))


def log2_in_two_parts(k: Scope, size: Value, unusual: Value | None = None) -> Parts:
    """log2 of a positive finite number with eleven more bits than the format has.

    With s = f/(2 + f) and z = s**2 in two parts each, it is s (C1 + z (C3 + z Q(z))) + n. `unusual`
    is as in `log_arguments`.
    """
    dtype = size.dtype
    if dtype == "float32":
        return _short_log2_in_two_parts(k, size, unusual)
    f, n = log_arguments(k, size, unusual)
    divisor, divisor_rest = fast_two_sum(k, k.const(2.0, dtype), f)
    s = k.div(f, divisor)
    remainder = k.fma(k.neg(s), divisor_rest, k.fma(k.neg(s), divisor, f))
    ratio = (s, k.mul(remainder, k.fma(s, -0.5, 0.5)))  # 1/(2 + f) is (1 - s)/2
    z = k.mul(s, s)
    square = (z, k.fma(k.add(s, s), ratio[1], k.fma(s, s, k.neg(z))))

    linear, cubic = LOG2_LINEAR[dtype], LOG2_CUBIC[dtype]
    tail = k.fma(z, polynomial(k, z, LOG2_TAIL[dtype]), cubic[1])
    series = product(k, square, fast_two_sum(k, k.const(cubic[0], dtype), tail))
    series = product(k, ratio, constant_plus(k, linear, series))
    total, rest = fast_two_sum(k, n, series[0])
    return fast_two_sum(k, total, k.add(rest, series[1]))


def _short_log2_in_two_parts(k: Scope, size: Value, unusual: Value | None) -> Parts:
    """The same in float32: the linear and the quadratic term of f in two parts each."""
    factor = INVERSE_LN2["float32"]
    f, n, (upper, lower) = _in_pieces(k, size, SHORT_LOG2, unusual)
    linear, linear_rest = two_product(k, f, factor[0])
    linear_rest = k.fma(f, factor[1], linear_rest)
    half = k.mul(f, -0.5)
    quadratic, quadratic_rest = two_product(k, half, linear)
    rest = k.add(lower, k.add(linear_rest, k.fma(half, linear_rest, quadratic_rest)))
    rest = k.fma(k.mul(k.mul(f, f), f), polynomial(k, f, SHORT_LOG2_CUBIC["float32"]), rest)
    total, lost = fast_two_sum(k, k.add(n, upper), linear)
    total, more = fast_two_sum(k, total, quadratic)
    return fast_two_sum(k, total, k.add(k.add(lost, more), rest))


# -- inverse hyperbolic functions ------------------------------------------------------------------

# Above these, x**2 + 1 and x**2 - 1 are x**2.
_SQUARE_ALONE = {"float64": 2.0**30, "float32": 2.0**14}


def _log_of_sum(k: Scope, size: Value, near: Parts) -> Value:
    """log(1 + near), or log(2 size) for a large size."""
    large = k.gt(size, _SQUARE_ALONE[size.dtype])
    far = fast_two_sum(k, size, k.const(-1.0, size.dtype))
    f, n, rest = log1p_arguments(k, *select_parts(k, large, far, near))
    result = log_sum(k, f, k.select(large, k.add(n, 1.0), n), rest)
    return rarely(k, k.not_(k.lt(size, float("inf"))), size, result)


def asinh(k: Scope, x: Value) -> Value:
    """The inverse hyperbolic sine, log(x + sqrt(x**2 + 1)), within 1 ulp; keeps a zero's sign."""
    size = k.abs(x)
    inside = at_most(k, size, _SQUARE_ALONE[x.dtype])
    main, rest = two_product(k, inside, inside)
    total, error = two_sum(k, main, k.const(1.0, x.dtype))
    upper, lower = root(k, (total, k.add(error, rest)))
    above, lost = fast_two_sum(k, inside, k.sub(upper, 1.0))
    return k.copysign(_log_of_sum(k, size, (above, k.add(lost, lower))), x)


def acosh(k: Scope, x: Value) -> Value:
    """The inverse hyperbolic cosine, log(x + sqrt(x**2 - 1)), within 1 ulp; NaN below 1."""
    above_one = k.sub(at_most(k, x, _SQUARE_ALONE[x.dtype]), 1.0)
    main, rest = two_product(k, above_one, above_one)
    total, error = two_sum(k, k.add(above_one, above_one), main)
    upper, lower = root(k, (total, k.add(error, rest)))
    above, lost = fast_two_sum(k, upper, above_one)
    result = _log_of_sum(k, x, (above, k.add(lost, lower)))
    return k.select(k.lt(x, 1.0), k.const(float("nan"), x.dtype), result)


def _half_log_of_ratio(k: Scope, a: Parts, b: Parts, unscaled: Value | None = None) -> Parts:
    """log(a/b)/2 for positive normal a and b in two parts; `unscaled` is added to the exponent.

    With a power of two near a/b, s = (a - 2**n b) / (a + 2**n b) is small and its numerator exact;
    the piecewise linear logarithm that the bits of a float are finds n.
    """
    dtype = a[0].dtype
    format_ = FORMATS[dtype]
    half = 1 << format_.fraction - 1
    difference = k.sub(bits_of(k, a[0]), bits_of(k, b[0]))
    field = k.shr(k.add(difference, format_.bits_of_one + half), format_.fraction)
    power = k.bitcast(k.shl(field, format_.fraction), dtype)
    n = k.bitcast(k.or_(field, format_.magic_bits), dtype)
    n = k.sub(n, format_.magic + format_.bias)
    if unscaled is not None:
        n = k.add(n, unscaled)
    other = k.mul(b[0], power), k.mul(b[1], power)
    upper = k.sub(a[0], other[0]), k.sub(a[1], other[1])
    top = two_sum(k, *upper)
    bottom, lost = two_sum(k, a[0], other[0])
    s, s_rest = quotient(k, top, (bottom, k.add(lost, k.add(a[1], other[1]))))
    z = k.mul(s, s)
    cubic = k.mul(k.mul(s, 0.5), k.mul(z, polynomial(k, z, LOG[dtype])))
    halves = k.mul(n, 0.5)
    total, error = fast_two_sum(k, k.mul(halves, format_.ln2[0]), s)
    small = k.fma(halves, format_.ln2[1], k.add(s_rest, cubic))
    return total, k.add(error, small)


def atanh(k: Scope, x: Value) -> Value:
    """The inverse hyperbolic tangent, log((1 + x)/(1 - x))/2, within 1 ulp; keeps a zero's sign."""
    size, one = k.abs(x), k.const(1.0, x.dtype)
    above, below = fast_two_sum(k, one, size), fast_two_sum(k, one, k.neg(size))
    result = k.add(*_half_log_of_ratio(k, above, below))
    result = k.select(k.eq(size, 1.0), k.const(float("inf"), x.dtype), result)
    result = k.select(k.le(size, 1.0), result, k.const(float("nan"), x.dtype))
    return k.copysign(result, x)


def logit(k: Scope, x: Value) -> Value:
    """log(x/(1 - x)), within 1 ulp; -inf at 0, inf at 1, NaN outside."""
    format_, dtype = FORMATS[x.dtype], x.dtype
    subnormal = k.lt(x, format_.normal)
    lift = format_.fraction + 2
    zero = k.const(0.0, dtype)
    lifted = k.select(subnormal, k.mul(x, 2.0**lift), x)
    below = fast_two_sum(k, k.const(1.0, dtype), k.neg(x))
    unscaled = k.select(subnormal, k.const(-float(lift), dtype), zero)
    total, rest = _half_log_of_ratio(k, (lifted, zero), below, unscaled)
    half = k.add(total, rest)
    result = k.add(half, half)
    result = k.select(k.eq(x, 0.0), k.const(float("-inf"), dtype), result)
    result = k.select(k.eq(x, 1.0), k.const(float("inf"), dtype), result)
    inside = k.and_(k.ge(x, 0.0), k.le(x, 1.0))
    return k.select(inside, result, k.const(float("nan"), dtype))
