"""Where do the numbers of `graphc.codegen.vecmath.tables` come from?

Every table is the interpolation of a stated function at Chebyshev nodes in 300-bit arithmetic,
which comes within a few per cent of the best polynomial, rounded to the dtype. Three tables of erf
are least squares, because what they approximate is weighted. `test_vecmath.py` derives each again;
`python tests/codegen/vecmath_fits.py > codegen/vecmath/tables.py` writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
from approximation import (
    DTYPES,
    PRECISION,
    Real,
    in_exact_parts,
    in_parts,
    interpolated,
    least_squares,
    pieces,
    real,
    rounded,
    rounded_in_turn,
)

# -- the functions ---------------------------------------------------------------------------------


def odd_log(z: Any) -> Any:
    """log((1 + s)/(1 - s)) / s in z = s**2."""
    s = mpmath.sqrt(z)
    return mpmath.log((1 + s) / (1 - s)) / s


def exp_quotient(r: Any) -> Any:
    return (mpmath.exp(r) - 1 - r) / r**2


def over_root(function: Real) -> Real:
    """function(s) / s in s**2."""
    return lambda z: function(mpmath.sqrt(z)) / mpmath.sqrt(z)


def far_erfc(x: Any) -> Any:
    return mpmath.erfc(x) * mpmath.exp(x * x) * (x + 3)


def far_normal(shift: str) -> Real:
    """What ndtr(-x) is over exp(-x**2/2), times x + shift."""
    return lambda x: (
        mpmath.erfc(x / mpmath.sqrt(2)) * mpmath.exp(x * x / 2) * (x + real(shift)) / 2
    )


def inverse_erfc(y: Any) -> Any:
    """By Newton's method on the logarithm of erfc."""
    size = mpmath.sqrt(-mpmath.log(y))
    x = mpmath.mpf(size) if y < 0.01 else mpmath.mpf(1)
    for _ in range(60):
        tail = mpmath.erfc(x)
        slope = -2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x) / tail
        step = mpmath.log(tail / y) / slope
        x -= step
        if abs(step) < mpmath.mpf(2) ** -150:
            break
    return x


def shifted(function: Real, shift: str, center: str) -> Real:
    """function(x) in u = 1/(x + shift) - center."""
    return lambda u: function(1 / (u + real(center)) - real(shift))


def shifted_ends(low: str, high: str, shift: str, center: str) -> tuple[Any, Any]:
    ends = (1 / (real(each) + real(shift)) - real(center) for each in (high, low))
    return tuple(ends)  # type: ignore[return-value]


def stirling_rest(x: Any) -> Any:
    """log(gamma(x)) less the terms of Stirling's formula (DLMF 5.11.1) that do not vanish."""
    return mpmath.loggamma(x) - (x - 0.5) * mpmath.log(x) + x - mpmath.log(2 * mpmath.pi) / 2


def digamma_zero() -> Any:
    return mpmath.findroot(mpmath.digamma, real("1.4616321"))


def scaled_bessel(order: int) -> Real:
    return lambda w: mpmath.besseli(order, 1 / w) * mpmath.exp(-1 / w) / mpmath.sqrt(w)


def bessel_zeros(order: int) -> list[Any]:
    """The squares of the first three zeros of J above 0."""
    return [mpmath.besseljzero(order, i) ** 2 for i in (1, 2, 3)]


def without_zeros(order: int) -> Real:
    """J(x), for order 1 over x, divided by its first three zeros less z = x**2, in z - 32."""
    zeros = bessel_zeros(order)

    def quotient(u: Any) -> Any:
        z = u + 32
        x = mpmath.sqrt(z)
        return mpmath.besselj(order, x) / x**order / mpmath.fprod(zero - z for zero in zeros)

    return quotient


def modulated(order: int, sine: bool) -> Real:
    """P of v = 1/x**2, or x Q, with J = sqrt(2/(pi x)) (P cos w - Q sin w), w = x - (2 order + 1)
    pi/4 (DLMF 10.17.3).
    """

    def factor(v: Any) -> Any:
        x = 1 / mpmath.sqrt(v)
        first, second = mpmath.besselj(order, x), mpmath.bessely(order, x)
        w = x - (2 * order + 1) * mpmath.pi / 4
        cos, sin = mpmath.cos(w), mpmath.sin(w)
        part = x * (second * cos - first * sin) if sine else first * cos + second * sin
        return part * mpmath.sqrt(mpmath.pi * x / 2)

    return factor


def center_of(function: Real, shift: str, center: str) -> tuple[Any, Any]:
    """The value and the slope of a function at the center."""
    at = shifted(function, shift, center)
    return at(mpmath.mpf(0)), mpmath.diff(at, 0)


def without_logarithm(order: int) -> Real:
    """pi/2 Y0(x) - log(x) J0(x), or (pi/2 Y1(x) - log(x) J1(x) + 1/x)/x, in x**2 - 32."""

    def rest(u: Any) -> Any:
        x = mpmath.sqrt(u + 32)
        part = mpmath.pi / 2 * mpmath.bessely(order, x) - mpmath.log(x) * mpmath.besselj(order, x)
        return (part + 1 / x) / x if order else part

    return rest


def beyond_center(function: Real, shift: str, center: str) -> Real:
    """What is left of a function without its value and its slope at the center, over u**2."""
    value, slope = center_of(function, shift, center)
    return lambda u: (shifted(function, shift, center)(u) - value - u * slope) / u**2


ERFC_AT, NORMAL_AT, SHORT_AT = ("3", "0.140625"), ("4", "0.125"), ("1.25", "0.3125")
ERFINV_NEAR, ERFINV_FAR = ("2", "0.234375"), ("4", "0.0625")


@dataclass(frozen=True)
class Fit:
    """A table: `function` on [low, high], a degree for each dtype that uses it, and zeros of the
    error at 0.

    `wide`: the float32 function computes in float64, so its coefficients are rounded to that.
    """

    comment: str
    function: Real
    low: Any
    high: Any
    degrees: tuple[int | None, int | None]
    zeros: int = 0
    wide: bool = False

    def tables(self) -> dict[str, tuple[float, ...]]:
        """The coefficients by dtype."""
        return {
            dtype: rounded(
                interpolated(self.function, self.low, self.high, degree, self.zeros),
                "float64" if self.wide else dtype,
            )
            for dtype, degree in zip(DTYPES, self.degrees, strict=True)
            if degree is not None
        }


def fits() -> dict[str, Fit]:
    """Every interpolated table, by its name."""
    ln2 = mpmath.log(2)
    reach = ln2 / 2 * real("1.001")
    half = real("0.5005")
    z_log, z_sine, z_exp = real("0.0415"), real("0.63"), real("0.1205")
    tiny = real("1e-30")
    root = mpmath.sqrt

    def inverse_rest(t: Any) -> Any:
        return inverse_erfc(mpmath.exp(-t * t)) - t

    return {
        "EXP": Fit(
            "(exp(r) - 1 - r) / r**2 on |r| <= ln(2)/2; relative error of exp 2**-58 and 2**-29",
            exp_quotient, -reach, reach, (10, 5), 2,
        ),
        "EXP2": Fit(
            "(2**r - 1 - r ln 2) / r**2 on |r| <= 1/2; relative error of exp2 2**-58 and 2**-29",
            lambda r: exp_quotient(r * ln2) * ln2**2, -half, half, (10, 5), 2,
        ),
        "SINH": Fit(
            "(sinh(r)/r - 1) / z in z = r**2 <= (ln(2)/2)**2; relative error 2**-60 and 2**-35",
            lambda z: (over_root(mpmath.sinh)(z) - 1) / z, 0, z_exp, (4, 2), 1,
        ),
        "COSH": Fit(
            "(cosh(r) - 1 - z/2) / z**2 in z = r**2 <= (ln(2)/2)**2; relative error 2**-66, 2**-41",
            lambda z: (mpmath.cosh(root(z)) - 1 - z / 2) / z**2, 0, z_exp, (4, 2), 2,
        ),
        "LOG": Fit(
            "(log((1 + s)/(1 - s)) - 2 s) / s**3 in s**2 <= 0.0415; relative error 2**-61, 2**-28",
            lambda z: (odd_log(z) - 2) / z, 0, z_log, (7, 2), 1,
        ),
        "LOG_CUBIC": Fit(
            "(log(1 + f) - f + f**2/2) / f**3 on -1/4 <= f <= 1/2; relative error of log 2**-27",
            lambda f: (mpmath.log1p(f) - f + f**2 / 2) / f**3,
            real("-0.2501"), real("0.5001"), (None, 8), 3,
        ),
        "LOG_SLOPE": Fit(
            "1 / (1 + f) on -1/4 <= f <= 1/2; relative error 2**-7",
            lambda f: 1 / (1 + f), real("-0.25"), real("0.5"), (None, 2),
        ),
        "LOG2_TAIL": Fit(
            "log2((1 + s)/(1 - s)) = s (C1 + z (C3 + z Q(z))) in z = s**2 <= 0.0415: Q",
            lambda z: (odd_log(z) - 2 - 2 * z / 3) / z**2 / ln2, 0, z_log, (8, 3), 2,
        ),
        "CBRT": Fit(
            "m**(-1/3) on 0.75 <= m <= 1.5; relative error 2**-17 and 2**-12",
            lambda m: m ** (-real("1") / 3), real("0.749"), real("1.501"), (5, 3),
        ),
        "SIN": Fit(
            "(sin(r)/r - 1) / z in z = r**2 <= 0.63",
            lambda z: (mpmath.sinc(root(z)) - 1) / z, 0, z_sine, (5, 2), 1,
        ),
        "COS": Fit(
            "(cos(r) - 1 + z/2) / z**2 in z = r**2 <= 0.63",
            lambda z: (mpmath.cos(root(z)) - 1 + z / 2) / z**2, 0, z_sine, (5, 2), 2,
        ),
        "TAN": Fit(
            "(tan(r)/r - 1) / z in z = r**2 <= 0.63",
            lambda z: (over_root(mpmath.tan)(z) - 1) / z, 0, z_sine, (14, 6), 1,
        ),
        "TANH": Fit(
            "(tanh(x)/x - 1) / z in z = x**2 <= 1; relative error 2**-27",
            lambda z: (over_root(mpmath.tanh)(z) - 1) / z, 0, 1, (None, 6), 1,
        ),
        "EXP2_SLOPE": Fit(
            "(2**r - 1) / r on |r| <= 1/2; relative error of exp2 2**-28",
            lambda r: mpmath.expm1(r * ln2) / r if r else ln2, -half, half, (None, 5),
        ),
        "ATAN": Fit(
            "(atan(t)/t - 1) / z in z = t**2 <= tan(pi/8)**2; relative error 2**-62 and 2**-33",
            lambda z: (over_root(mpmath.atan)(z) - 1) / z, 0, real("0.1725"), (11, 5), 1,
        ),
        "ASIN": Fit(
            "(asin(s)/s - 1) / z in z = s**2 <= 1/4; relative error 2**-58 and 2**-29",
            lambda z: (over_root(mpmath.asin)(z) - 1) / z, 0, real("0.2501"), (12, 5), 1,
        ),
        "ERF_SMALL": Fit(
            "(erf(x)/x - 2/sqrt(pi)) / z in z = x**2 <= 0.77; relative error 2**-60",
            lambda z: (over_root(mpmath.erf)(z) - 2 / root(mpmath.pi)) / z,
            0, real("0.77"), (11, None), 1,
        ),
        "ERFC": Fit(
            "erfc(x) exp(x**2) (x + 3) = center + u (slope + u P(u)) in u = 1/(x + 3) - 0.140625 "
            "for\n# 0.5 <= x <= 27.3: P",
            beyond_center(far_erfc, *ERFC_AT),
            *shifted_ends("0.5", "27.3", *ERFC_AT), (20, None), 2,
        ),
        "NORMAL_TAIL": Fit(
            "ndtr(-x) exp(x**2/2) (x + 4) = center + u (slope + u P(u)) in\n# "
            "u = 1/(x + 4) - 0.125 for 0 <= x <= 39: P",
            beyond_center(far_normal("4"), *NORMAL_AT),
            *shifted_ends("0", "39", *NORMAL_AT), (21, None), 2,
        ),
        "SHORT_TAIL": Fit(
            "ndtr(-x) exp(x**2/2) (x + 1.25) - 1/2 in u = 1/(x + 1.25) - 0.3125 for 0 <= x <= 14.5",
            shifted(lambda x: far_normal("1.25")(x) - 0.5, *SHORT_AT),
            *shifted_ends("0", "14.5", *SHORT_AT), (None, 13),
        ),
        "ERFINV": Fit(
            "erfinv(x)/x in x**2 <= 1/4; relative error 2**-58 and 2**-30",
            over_root(mpmath.erfinv), tiny, real("0.25"), (13, 6), 0, True,
        ),
        "ERFINV_NEAR": Fit(
            "erfcinv(exp(-t**2)) - t in u = 1/(t + 2) - 0.234375 for 0.83 <= t <= 6.1",
            shifted(inverse_rest, *ERFINV_NEAR),
            *shifted_ends("0.83", "6.1", *ERFINV_NEAR), (22, 11), 0, True,
        ),
        "ERFINV_FAR": Fit(
            "erfcinv(exp(-t**2)) - t in u = 1/(t + 4) - 0.0625 for 6 <= t <= 27.5",
            shifted(inverse_rest, *ERFINV_FAR),
            *shifted_ends("6", "27.5", *ERFINV_FAR), (22, 11), 0, True,
        ),
        "LGAMMA": Fit(
            "lgamma(2 + z)/z on -3/4 <= z <= 1/4; relative error 2**-58 and 2**-30",
            lambda z: mpmath.loggamma(2 + z) / z, real("-0.75"), real("0.25001"), (20, 10), 0, True,
        ),
        "GAMMA": Fit(
            "(gamma(2 + z) - 1)/z on -3/4 <= z <= 1/4; relative error 2**-58 and 2**-30",
            lambda z: (mpmath.gamma(2 + z) - 1) / z,
            real("-0.75"), real("0.25001"), (20, 10), 0, True,
        ),
        "STIRLING": Fit(
            "x (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi)/2) in 1/x**2, x >= 7.25",
            lambda v: stirling_rest(1 / root(v)) / root(v), tiny, 1 / real("52"), (6, 3), 0, True,
        ),
        "STIRLING_FACTOR": Fit(
            "x (exp(lgamma(x) - (x - 1/2) log(x) + x - log(2 pi)/2) - 1) in 1/x, x >= 7.25",
            lambda w: mpmath.expm1(stirling_rest(1 / w)) / w,
            tiny, 1 / real("7.2"), (9, 4), 0, True,
        ),
        "DIGAMMA": Fit(
            "digamma(x)/(x - zero) in x - 1.5 on [1, 2]; relative error 2**-58 and 2**-30",
            lambda d: mpmath.digamma(d + 1.5) / (d + 1.5 - digamma_zero()),
            real("-0.5"), real("0.5"), (22, 11), 0, True,
        ),
        "DIGAMMA_FAR": Fit(
            "x**2 (log(x) - digamma(x) - 1/(2 x)) in 1/x**2, x >= 8",
            lambda v: (-mpmath.log(v) / 2 - mpmath.digamma(1 / root(v)) - root(v) / 2) / v,
            tiny, 1 / real("64"), (6, 3), 0, True,
        ),
        "I0": Fit(
            "(I0(x) - 1)/z in z = x**2 <= 256; relative error of I0 2**-60 and 2**-31",
            lambda z: (mpmath.besseli(0, root(z)) - 1) / z, tiny, 256, (21, 15), 0, True,
        ),
        "I1": Fit(
            "I1(x)/x in z = x**2 <= 256; relative error 2**-60 and 2**-31",
            lambda z: mpmath.besseli(1, root(z)) / root(z), tiny, 256, (22, 16), 0, True,
        ),
        "I0_FAR": Fit(
            "I0(x) exp(-x) sqrt(x) in 1/x, x >= 16; relative error 2**-58 and 2**-30",
            scaled_bessel(0), real("1e-4"), real("0.0625"), (13, 5), 0, True,
        ),
        "I1_FAR": Fit(
            "I1(x) exp(-x) sqrt(x) in 1/x, x >= 16; relative error 2**-58 and 2**-30",
            scaled_bessel(1), real("1e-4"), real("0.0625"), (13, 5), 0, True,
        ),
        "J0_SMALL": Fit(
            "(J0(x) - 1)/z in z = x**2 <= 1; relative error of J0 2**-60 and 2**-31",
            lambda z: (mpmath.besselj(0, root(z)) - 1) / z, tiny, 1, (7, 4), 0, True,
        ),
        "J0": Fit(
            "J0(x)/((a - z) (b - z) (c - z)) in z - 32, z = x**2 <= 64; error 2**-57 and 2**-33",
            without_zeros(0), -32, 32, (13, 9), 0, True,
        ),
        "J1": Fit(
            "J1(x)/(x (a - z) (b - z) (c - z)) in z - 32, z = x**2 <= 64; error 2**-59 and 2**-35",
            without_zeros(1), -32, 32, (13, 9), 0, True,
        ),
        "J0_COSINE": Fit(
            "the factor of cos(x - pi/4) in J0 in 1/x**2, x >= 8; relative error 2**-60 and 2**-33",
            modulated(0, False), real("1e-6"), 1 / real("64"), (13, 4), 0, True,
        ),
        "J0_SINE": Fit(
            "x times that of -sin(x - pi/4); error of J0 2**-58 and 2**-31",
            modulated(0, True), real("1e-6"), 1 / real("64"), (12, 4), 0, True,
        ),
        "J1_COSINE": Fit(
            "the factor of cos(x - 3 pi/4) in J1 in 1/x**2, x >= 8; relative error 2**-60, 2**-33",
            modulated(1, False), real("1e-6"), 1 / real("64"), (13, 4), 0, True,
        ),
        "J1_SINE": Fit(
            "x times that of -sin(x - 3 pi/4); error of J1 2**-58 and 2**-31",
            modulated(1, True), real("1e-6"), 1 / real("64"), (12, 4), 0, True,
        ),
        "Y0_SMALL": Fit(
            "pi/2 Y0(x) - log(x) J0(x) in z = x**2 <= 4; error 2**-61 and 2**-36",
            lambda z: without_logarithm(0)(z - 32), tiny, 4, (9, 6), 0, True,
        ),
        "Y0": Fit(
            "pi/2 Y0(x) - log(x) J0(x) in z - 32, z = x**2 <= 64; error 2**-60 and 2**-31",
            without_logarithm(0), -32, 32, (16, 11), 0, True,
        ),
        "Y1": Fit(
            "(pi/2 Y1(x) - log(x) J1(x) + 1/x)/x in z - 32, z = x**2 <= 64; error 2**-62, 2**-33",
            without_logarithm(1), -32, 32, (16, 11), 0, True,
        ),
    }  # fmt: skip


def far_erf() -> tuple[float, ...]:
    """log(erfc(x)) + x**2, weighted with erfc(x), because the result is 1 - erfc."""
    shift, center = real("4.5"), real("0.185546875")

    def at(u: Any) -> Any:
        return 1 / (u + center) - shift

    low, high = (1 / (real(each) + shift) - center for each in ("5.95", "0.875"))
    found = least_squares(
        lambda u: mpmath.log(mpmath.erfc(at(u))) + at(u) ** 2,
        lambda u: mpmath.erfc(at(u)) + mpmath.mpf(2) ** -56,
        low,
        high,
        13,
    )
    return rounded(found, "float64")


def near_erf() -> tuple[float, ...]:
    """erf(x)/x - 1 in z = x**2."""

    def excess(z: Any) -> Any:
        return mpmath.erf(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1

    high = real("0.96875") ** 2
    return rounded_in_turn(excess, lambda z: mpmath.mpf(1), real("1e-9"), high, 6, 3, "float32")


def root_of_erfc() -> tuple[float, ...]:
    """sqrt(erfc(x)) in x - 1.5. Errors count as much as the root is large, because the result is
    1 - erfc, and a little more where x is small and those of rounding are largest.
    """

    def erfc(t: Any) -> Any:
        return mpmath.erfc(t + real("1.5"))

    weight, low = real("0.55"), real("-0.53125")
    return rounded_in_turn(
        lambda t: mpmath.sqrt(erfc(t)), lambda t: erfc(t) ** weight, low, 2.5, 10, 2, "float32"
    )


def short_erfc() -> tuple[float, ...]:
    """erfc(x) exp(x**2) (x + 3/4) less its base, with the errors relative to it."""
    shift, center, base = "0.75", "0.625", real("0.65625")

    def scaled(x: Any) -> Any:
        return mpmath.erfc(x) * mpmath.exp(x * x) * (x + real(shift))

    function = shifted(lambda x: scaled(x) - base, shift, center)
    ends = shifted_ends("0", "10.2", shift, center)
    return rounded_in_turn(function, lambda u: 1 / (function(u) + base), *ends, 14, 5, "float32")


def erf_pieces() -> tuple[float, ...]:
    """erf in pieces of which x * 3.84375, rounded, is the number; 4 of them are near 0."""
    width = 1 / real("3.84375")
    borders = [(max(0, i - mpmath.mpf(1) / 2) * width, (i + mpmath.mpf(1) / 2) * width)
               for i in range(16)]  # fmt: skip
    return pieces(mpmath.erf, borders, 4, 5)


def tanh_pieces() -> tuple[float, ...]:
    """tanh in pieces that begin where the second bit after the leading one of x + 0.625 changes.

    They are in the order of these bits' last four; 5 of them are near 0.
    """
    sums = [mpmath.ldexp(4 + i % 4, i // 4 - 3) for i in range(1, 18)]
    starts = [each - real("0.625") for each in sums]
    entries = pieces(mpmath.tanh, list(zip(starts[:-1], starts[1:], strict=True)), 5, 6)
    rows = [entries[i : i + 16] for i in range(0, len(entries), 16)]
    first = 505 % 16  # the bits of 0.625
    return tuple(entry for row in rows for entry in (*row[-first:], *row[:-first]))


def constants() -> dict[str, tuple[Any, int, bool]]:
    """Numbers in parts: value, count of parts, and whether float32 functions use float64 parts."""
    ln2, pi = mpmath.log(2), mpmath.pi
    return {
        "LN2": (ln2, 2, False),
        "INVERSE_LN2": (1 / ln2, 2, False),
        "INVERSE_LN10": (1 / mpmath.log(10), 2, False),
        "LOG2_LINEAR": (2 / ln2, 2, False),
        "LOG2_CUBIC": (2 / ln2 / 3, 2, False),
        "QUARTER_PI": (pi / 4, 2, False),
        "HALF_PI": (pi / 2, 2, False),
        "PI": (pi, 2, False),
        "ERFC_CENTER": (center_of(far_erfc, *ERFC_AT)[0], 2, False),
        "ERFC_SLOPE": (center_of(far_erfc, *ERFC_AT)[1], 2, False),
        "NORMAL_TAIL_CENTER": (center_of(far_normal("4"), *NORMAL_AT)[0], 2, False),
        "NORMAL_TAIL_SLOPE": (center_of(far_normal("4"), *NORMAL_AT)[1], 2, False),
        "NORMAL_DENSITY": (1 / mpmath.sqrt(2 * pi), 2, False),
        "TWO_OVER_ROOT_PI": (2 / mpmath.sqrt(pi), 2, False),
        "HALF_LOG_TWO_PI": (mpmath.log(2 * pi) / 2, 2, True),
        "LOG_PI": (mpmath.log(pi), 2, True),
        "ROOT_TWO_PI": (mpmath.sqrt(2 * pi), 2, True),
        "DIGAMMA_ZERO": (digamma_zero(), 2, True),
        **{
            f"J{order}_ZERO_{i}": (zero, 2, True)
            for order in (0, 1)
            for i, zero in enumerate(bessel_zeros(order), 1)
        },
    }


def pieces_of_mantissas() -> list[tuple[Any, Any]]:
    """Sixteen from 0.75 to 1.5, of which 1 begins one."""
    borders = [real("0.75") + mpmath.ldexp(i, -5) for i in range(8)]
    borders += [1 + mpmath.ldexp(i, -4) for i in range(9)]
    return list(zip(borders[:-1], borders[1:], strict=True))


def reciprocals() -> tuple[float, ...]:
    """About 1/m for mantissas m in each piece, with so few bits that m times it - 1 is a float32,
    and exactly 1 in the two pieces beside 1, where logarithms are small.
    """
    found = []
    for low, high in pieces_of_mantissas():
        grid = 32 if low >= 1 else 16
        candidates = [mpmath.mpf(i) / grid for i in range(grid // 2, 2 * grid)]
        best = min(candidates, key=lambda r, a=low, b=high: max(abs(a * r - 1), abs(b * r - 1)))
        found.append(1.0 if mpmath.mpf(1) in (low, high) else float(best))
    return tuple(found)


def least_and_most() -> tuple[Any, Any]:
    """Between what f = m times the reciprocal - 1 lies."""
    pieces = zip(pieces_of_mantissas(), reciprocals(), strict=True)
    ends = [border * r - 1 for borders, r in pieces for border in borders]
    return min(ends), max(ends)


def short_cubic() -> tuple[float, ...]:
    """What f**3 is multiplied by in log2(1 + f)."""

    def series(f: Any) -> Any:
        return (mpmath.log1p(f) - f + f**2 / 2) / f**3 / mpmath.log(2)

    return rounded(interpolated(series, *least_and_most(), 4), "float32")


def short_logs(base: Any) -> tuple[float, ...]:
    """Of logarithms to a base in float32: those of the pieces in two parts, of which the first is
    added exactly to a multiple of the logarithm of 2; then the factor of f = m times the
    reciprocal - 1 in two parts, and the polynomial that f**2 is multiplied by.
    """
    factor = 1 / mpmath.log(base)
    logs = [-mpmath.log(mpmath.mpf(r)) * factor for r in reciprocals()]
    upper = [mpmath.ldexp(mpmath.nint(mpmath.ldexp(each, 16)), -16) for each in logs]
    lower = [each - short for each, short in zip(logs, upper, strict=True)]

    def series(f: Any) -> Any:
        return (mpmath.log1p(f) - f) / f**2 * factor

    polynomial = interpolated(series, *least_and_most(), 3)
    return rounded([*upper, *lower, *in_parts(factor, 2, "float32"), *polynomial], "float32")


def tables() -> Iterator[tuple[str, str, dict[str, tuple[float, ...]]]]:
    """Name, comment and value of every table."""
    for name, (value, count, wide) in constants().items():
        yield (
            name,
            "",
            {dtype: in_parts(value, count, "float64" if wide else dtype) for dtype in DTYPES},
        )
    # The upper part has as many zeros at its end as exponents have bits: times n it is exact.
    log10_of_2 = mpmath.log10(2)
    yield (
        "LOG10_OF_2",
        "",
        {
            dtype: in_exact_parts(log10_of_2, kept, dtype)
            for dtype, kept in zip(DTYPES, (42, 16), strict=True)
        },
    )
    for name, fit in fits().items():
        yield name, fit.comment, fit.tables()
    yield (
        "ERF_FAR",
        "log(erfc(x)) + x**2 in u = 1/(x + 4.5) - 0.185546875 for 0.875 <= x <= 5.95",
        {"float64": far_erf()},
    )
    yield "ERF_NEAR", "erf(x)/x - 1 in x**2 for |x| <= 0.96875", {"float32": near_erf()}
    comment = "sqrt(erfc(x)) in x - 1.5 for 0.96875 <= x <= 4"
    yield "ERFC_ROOT", comment, {"float32": root_of_erfc()}
    comment = "erfc(x) exp(x**2) (x + 3/4) - 21/32 in u = 1/(x + 3/4) - 0.625 for 0 <= x <= 10.2"
    yield "SHORT_ERFC", comment, {"float32": short_erfc()}
    yield "LOG_RECIPROCALS", "", {"float32": reciprocals()}
    for name, base in (("SHORT_LOG", mpmath.e), ("SHORT_LOG2", 2), ("SHORT_LOG10", 10)):
        comment = "of pieces in two parts; the factor and the polynomial of f"
        yield name, comment, {"float32": short_logs(base)}
    yield "SHORT_LOG2_CUBIC", "", {"float32": short_cubic()}
    yield (
        "ERF_PIECES",
        "centers, bases and polynomials: how is said by `piecewise`",
        {"float32": erf_pieces()},
    )
    yield (
        "TANH_PIECES",
        "centers, bases and polynomials: how is said by `piecewise`",
        {"float32": tanh_pieces()},
    )


HEAD = '''"""Which numbers do the mathematical procedures use?

Written by `python tests/codegen/vecmath_fits.py`, which says how each is found; the test of the
procedures derives all of them again. Polynomials have their constant first; constants are in parts,
the nearest number of the dtype and what it leaves. Functions of the gamma and Bessel families and
the inverse error functions compute float32 in float64, with shorter polynomials.
"""

# fmt: off
Table = dict[str, tuple[float, ...]]
'''


def text(name: str, comment: str, table: dict[str, tuple[float, ...]]) -> str:
    lines = [f"# {comment}"] if comment else []
    lines.append(f"{name}: Table = {{")
    for dtype, values in table.items():
        lines.append(f'    "{dtype}": (')
        for row in rows(values):
            lines.append("        " + " ".join(f"{value!r}," for value in row))
        lines.append("    ),")
    return "\n".join([*lines, "}"])


def rows(values: tuple[float, ...]) -> list[tuple[float, ...]]:
    return [values[i : i + 3] for i in range(0, len(values), 3)]


if __name__ == "__main__":
    with mpmath.workprec(PRECISION):
        print(HEAD + "\n".join(text(*each) for each in tables()))
