"""How are the numbers in tables of the mathematical procedures found?

Polynomials by interpolation or least squares in 300-bit arithmetic, rounded to a dtype; functions
in pieces, each with a polynomial of its own; numbers in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

DTYPES = ("float64", "float32")
PRECISION = 300  # bits
Real = Callable[[Any], Any]


def real(text: str) -> Any:
    """A number written in decimal, to full precision."""
    return mpmath.mpf(text)


def interpolated(function: Real, low: Any, high: Any, degree: int, zeros: int = 0) -> list[Any]:
    """Coefficients, constant first, of the polynomial that meets `function` at Chebyshev nodes.

    `zeros` nodes nearest to 0 are left out: there the error has zeros anyway, because the
    polynomial is multiplied by that power of its argument.
    """
    low, high, count = mpmath.mpf(low), mpmath.mpf(high), degree + 1 + zeros
    nodes = [mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    nodes = [(low + high) / 2 + (high - low) / 2 * node for node in nodes]
    nodes = sorted(nodes, key=abs)[zeros:]
    differences = [function(node) for node in nodes]
    for order in range(1, degree + 1):
        for i in range(degree, order - 1, -1):
            rise = differences[i] - differences[i - 1]
            differences[i] = rise / (nodes[i] - nodes[i - order])
    result = [differences[-1]]
    for i in range(degree - 1, -1, -1):
        result = [mpmath.mpf(0), *result]
        for j in range(len(result) - 1):
            result[j] -= nodes[i] * result[j + 1]
        result[0] += differences[i]
    return result


def least_squares(function: Real, weight: Real, low: Any, high: Any, degree: int) -> list[Any]:
    """The polynomial with the least weighted squares of errors at many Chebyshev nodes."""
    low, high, count = mpmath.mpf(low), mpmath.mpf(high), 6 * (degree + 1)
    middle, half = (low + high) / 2, (high - low) / 2

    def basis(x: Any) -> list[Any]:
        return [mpmath.chebyt(j, (x - middle) / half) for j in range(degree + 1)]

    nodes = [mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    nodes = [middle + half * node for node in nodes]
    rows = [[weight(x) * each for each in basis(x)] for x in nodes]
    right = [weight(x) * function(x) for x in nodes]
    solution = mpmath.qr_solve(mpmath.matrix(rows), mpmath.matrix(right))[0]
    return interpolated(lambda x: mpmath.fdot(solution, basis(x)), low, high, degree)


def rounded(values: Any, dtype: str) -> tuple[float, ...]:
    """Each value as the nearest number of the dtype."""
    as_float = [float(each) for each in values]
    return tuple(as_float if dtype == "float64" else (float(np.float32(each)) for each in as_float))


def rounded_in_turn(
    function: Real, weight: Real, low: Any, high: Any, degree: int, count: int, dtype: str
) -> tuple[float, ...]:
    """`least_squares`, rounded; the others make up for what the first `count` lose by it."""
    known: tuple[float, ...] = ()
    for order in range(count + 1):
        rest = _beyond(function, known), lambda x, order=order: weight(x) * abs(x) ** order
        found = rounded(least_squares(*rest, low, high, degree - order), dtype)
        known += found[:1] if order < count else found
    return known


def _beyond(function: Real, known: tuple[float, ...]) -> Real:
    """What follows the first coefficients of a function."""
    terms = known[::-1] or (0,)
    return lambda x: (function(x) - mpmath.polyval(terms, x)) / x ** len(known)


def in_parts(value: Any, count: int, dtype: str) -> tuple[float, ...]:
    """A number as the nearest one of the dtype, the nearest to what is left, and so on."""
    parts: list[float] = []
    for _ in range(count):
        parts += rounded([value - mpmath.fsum(parts)], dtype)
    return tuple(parts)


def in_exact_parts(value: Any, kept: int, dtype: str) -> tuple[float, ...]:
    """A number below 1 as its first `kept` bits after the point and what is left."""
    upper = mpmath.ldexp(mpmath.nint(mpmath.ldexp(value, kept)), -kept)
    return float(upper), *rounded([value - upper], dtype)


# -- functions in pieces ---------------------------------------------------------------------------


def pieces(
    function: Real,
    borders: list[tuple[Any, Any]],
    near: int,
    degree: int,
) -> tuple[float, ...]:
    """Rows of a piecewise float32 approximation, an entry for each piece: centers c, bases b, then
    the coefficients of a polynomial s in t = x - c, constant first.

    In the first `near` pieces the function is x + x s(t), and b is 0; in the others b + t s(t),
    where b is f(c), and c is chosen so that this is a float32 but for a hundredth of its last
    place.
    """
    columns = []
    for piece, (low, high) in enumerate(borders):
        center, base, slope = _far_piece(function, low, high)
        if piece < near:
            center, base = float(mpmath.nint((low + high) * 256) / 512) if piece else 0.0, 0.0

            def slope(x: Any) -> Any:
                return function(x) / x - 1

        found = interpolated(
            lambda t, at=center, of=slope: of(t + at), low - center, high - center, degree
        )
        columns.append((center, base, *rounded(found, "float32")))
    return tuple(entry for row in zip(*columns, strict=True) for entry in row)


def _far_piece(function: Real, low: Any, high: Any) -> tuple[float, float, Real]:
    """The center of a piece, the function there as a float32, and the slope to elsewhere."""
    middle, step = (low + high) / 2, (high - low) / 1024

    def wrong(center: float) -> float:
        value = function(mpmath.mpf(center))
        return float(abs(value - _as_float32(value)) / np.spacing(np.float32(value)))

    candidates = [float(np.float32(middle + i * step)) for i in range(-480, 481)]
    candidates.sort(key=lambda center: abs(center - middle))
    exact = next((each for each in candidates if wrong(each) < 0.01), None)
    center = min(candidates, key=wrong) if exact is None else exact
    value = function(mpmath.mpf(center))
    return center, _as_float32(value), lambda x: (function(x) - value) / (x - center)


def _as_float32(value: Any) -> float:
    return float(np.float32(float(value)))
