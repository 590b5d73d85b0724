"""Do functions give what the standard lists for zeros with signs, infinities, NaN and the like?

The tables state the standard's cases as values, none of them computed by NumPy; some quotients that
are rounded down follow Python instead (tests/array_api/skips.txt). Each table is checked twice: on
eager arrays, and on what one compiled graph of all the functions returns. Where the standard has an
approximation (multiples of pi), a tolerance applies.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import graphc as gx
import graphc.array_api as xp
from graphc.array_api import elementwise

INF, NAN, PI = math.inf, math.nan, math.pi
SIGNED_ZEROS = [(0.0, 0.0), (-0.0, -0.0), (NAN, NAN)]
ROUNDING = [*SIGNED_ZEROS, (INF, INF), (-INF, -INF), (3.0, 3.0), (-2.0, -2.0)]
LOGARITHM = [
    *[(-1.0, NAN), (-INF, NAN), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF), (NAN, NAN)],
]
UNARY: dict[str, list[tuple[float, Any]]] = {
    "abs": [(NAN, NAN), (-0.0, 0.0), (0.0, 0.0), (-INF, INF), (INF, INF), (-2.5, 2.5)],
    "acos": [(NAN, NAN), (1.5, NAN), (-1.5, NAN), (INF, NAN), (-INF, NAN), (1.0, 0.0)],
    "acosh": [(NAN, NAN), (0.5, NAN), (-INF, NAN), (1.0, 0.0), (INF, INF)],
    "asin": [*SIGNED_ZEROS, (1.5, NAN), (-1.5, NAN), (INF, NAN), (-INF, NAN)],
    "asinh": [*SIGNED_ZEROS, (INF, INF), (-INF, -INF)],
    "atan": [*SIGNED_ZEROS, (INF, PI / 2), (-INF, -PI / 2)],
    "atanh": [*SIGNED_ZEROS, (1.5, NAN), (-1.5, NAN), (1.0, INF), (-1.0, -INF), (INF, NAN)],
    "ceil": [*ROUNDING, (-0.5, -0.0), (0.5, 1.0), (-1.5, -1.0)],
    "cos": [(NAN, NAN), (0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)],
    "cosh": [(NAN, NAN), (0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF)],
    "exp": [(NAN, NAN), (0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0)],
    "expm1": [*SIGNED_ZEROS, (INF, INF), (-INF, -1.0)],
    "floor": [*ROUNDING, (0.5, 0.0), (-0.5, -1.0), (1.5, 1.0)],
    "isfinite": [(INF, False), (-INF, False), (NAN, False), (0.0, True), (-0.0, True), (2.5, True)],
    "isinf": [(INF, True), (-INF, True), (NAN, False), (0.0, False), (2.5, False)],
    "isnan": [(INF, False), (-INF, False), (NAN, True), (0.0, False), (2.5, False)],
    "log": LOGARITHM,
    "log10": LOGARITHM,
    "log1p": [*SIGNED_ZEROS, (-2.0, NAN), (-INF, NAN), (-1.0, -INF), (INF, INF)],
    "log2": LOGARITHM,
    "negative": [(0.0, -0.0), (-0.0, 0.0), (INF, -INF), (-INF, INF), (NAN, NAN)],
    "positive": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "reciprocal": [(NAN, NAN), (INF, 0.0), (-INF, -0.0), (0.0, INF), (-0.0, -INF), (2.0, 0.5)],
    "round": [*ROUNDING, (0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (-1.5, -2.0)],
    "sign": [(-2.5, -1.0), (2.5, 1.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (0.0, 0.0)],
    "signbit": [(0.0, False), (-0.0, True), (INF, False), (-INF, True), (2.5, False), (-2.5, True)],
    "sin": [*SIGNED_ZEROS, (INF, NAN), (-INF, NAN)],
    "sinh": [*SIGNED_ZEROS, (INF, INF), (-INF, -INF)],
    "sqrt": [*SIGNED_ZEROS, (-1.0, NAN), (-INF, NAN), (INF, INF)],
    "square": [(NAN, NAN), (INF, INF), (-INF, INF), (-0.0, 0.0)],
    "tan": [*SIGNED_ZEROS, (INF, NAN), (-INF, NAN)],
    "tanh": [*SIGNED_ZEROS, (INF, 1.0), (-INF, -1.0)],
    "trunc": [*ROUNDING, (0.5, 0.0), (-0.5, -0.0), (-1.5, -1.0)],
}


def _of_nan(other: Any = 1.0) -> list[tuple[float, float, float]]:
    return [(NAN, other, NAN), (other, NAN, NAN), (NAN, NAN, NAN)]


def _signs(
    magnitudes: tuple[float, float], result: float, negative: float | None = None
) -> list[tuple[float, float, float]]:
    """All four pairs of signs; the result has the sign of the product."""
    first, second = magnitudes
    unlike = -result if negative is None else negative
    return [
        *[(first, second, result), (-first, -second, result)],
        *[(-first, second, unlike), (first, -second, unlike)],
    ]


BINARY: dict[str, list[tuple[float, float, Any]]] = {
    "add": [
        *_of_nan(),
        *[(INF, -INF, NAN), (-INF, INF, NAN), (INF, INF, INF), (-INF, -INF, -INF)],
        *[(INF, 2.5, INF), (-INF, 2.5, -INF), (2.5, INF, INF), (2.5, -INF, -INF)],
        *[(-0.0, -0.0, -0.0), (-0.0, 0.0, 0.0), (0.0, -0.0, 0.0), (0.0, 0.0, 0.0)],
        *[(0.0, 2.5, 2.5), (-0.0, 2.5, 2.5), (2.5, -0.0, 2.5), (2.5, -2.5, 0.0)],
    ],
    "subtract": [
        *_of_nan(),
        *[(INF, INF, NAN), (-INF, -INF, NAN), (INF, -INF, INF), (-INF, INF, -INF)],
        *[(0.0, 0.0, 0.0), (-0.0, 0.0, -0.0), (0.0, -0.0, 0.0), (-0.0, -0.0, 0.0)],
    ],
    "multiply": [
        *_of_nan(),
        *_signs((INF, 0.0), NAN),
        *_signs((0.0, INF), NAN),
        *_signs((INF, INF), INF),
        *_signs((INF, 2.5), INF),
        *_signs((2.5, INF), INF),
        *_signs((0.0, 2.5), 0.0),
        *_signs((0.0, 0.0), 0.0),
    ],
    "divide": [
        *_of_nan(),
        *_signs((INF, INF), NAN),
        *_signs((0.0, 0.0), NAN),
        *_signs((0.0, 2.5), 0.0),
        *_signs((2.5, 0.0), INF),
        *_signs((INF, 2.5), INF),
        *_signs((INF, 0.0), INF),
        *_signs((2.5, INF), 0.0),
        *_signs((0.0, INF), 0.0),
    ],
    "floor_divide": [
        *_of_nan(),
        *_signs((INF, INF), NAN),
        *_signs((0.0, 0.0), NAN),
        *_signs((0.0, 2.5), 0.0),
        *_signs((2.5, 0.0), INF),
        # Of an infinite divisor, Python's and NumPy's floor, -1, where the standard lists -0.
        *_signs((2.5, INF), 0.0, -1.0),
        *_signs((7.0, 2.0), 3.0, -4.0),
    ],
    "remainder": [
        *_of_nan(),
        *_signs((INF, INF), NAN),
        *_signs((INF, 2.5), NAN),
        *_signs((0.0, 0.0), NAN),
        *_signs((2.5, 0.0), NAN),
        *[(0.0, 2.5, 0.0), (-0.0, 2.5, 0.0), (0.0, -2.5, -0.0), (-0.0, -2.5, -0.0)],
        *[(2.5, INF, 2.5), (-2.5, -INF, -2.5), (2.5, -INF, -INF), (-2.5, INF, INF)],
        *[(7.0, 4.0, 3.0), (-7.0, 4.0, 1.0), (7.0, -4.0, -1.0), (-7.0, -4.0, -3.0)],
        *[(4.0, 2.0, 0.0), (-4.0, 2.0, 0.0), (4.0, -2.0, -0.0), (-4.0, -2.0, -0.0)],
    ],
    "pow": [
        *[(x, zero, 1.0) for x in (NAN, INF, -INF, 0.0, -0.0, 2.5, -2.5) for zero in (0.0, -0.0)],
        *[(1.0, y, 1.0) for y in (NAN, INF, -INF, 2.5, -2.5)],
        *[(NAN, 2.5, NAN), (2.5, NAN, NAN), (-1.0, INF, 1.0), (-1.0, -INF, 1.0)],
        *[(2.5, INF, INF), (-2.5, INF, INF), (2.5, -INF, 0.0), (-2.5, -INF, 0.0)],
        *[(0.5, INF, 0.0), (-0.5, INF, 0.0), (0.5, -INF, INF), (-0.5, -INF, INF)],
        *[(INF, 2.5, INF), (INF, -2.5, 0.0), (-INF, 3.0, -INF), (-INF, 2.0, INF)],
        *[(-INF, 2.5, INF), (-INF, -3.0, -0.0), (-INF, -2.0, 0.0), (-INF, -2.5, 0.0)],
        *[(0.0, 2.5, 0.0), (0.0, -2.5, INF), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0)],
        *[(-0.0, 2.5, 0.0), (-0.0, -3.0, -INF), (-0.0, -2.0, INF), (-0.0, -2.5, INF)],
        *[(-2.5, 0.5, NAN), (-2.5, -0.5, NAN), (-2.0, 3.0, -8.0)],
    ],
    "atan2": [
        *_of_nan(),
        *[(2.5, 0.0, PI / 2), (2.5, -0.0, PI / 2), (-2.5, 0.0, -PI / 2), (-2.5, -0.0, -PI / 2)],
        *[(0.0, 2.5, 0.0), (0.0, 0.0, 0.0), (0.0, -0.0, PI), (0.0, -2.5, PI)],
        *[(-0.0, 2.5, -0.0), (-0.0, 0.0, -0.0), (-0.0, -0.0, -PI), (-0.0, -2.5, -PI)],
        *[(2.5, INF, 0.0), (2.5, -INF, PI), (-2.5, INF, -0.0), (-2.5, -INF, -PI)],
        *[(INF, 2.5, PI / 2), (-INF, 2.5, -PI / 2), (INF, INF, PI / 4), (INF, -INF, 3 * PI / 4)],
        *[(-INF, INF, -PI / 4), (-INF, -INF, -3 * PI / 4)],
    ],
    "copysign": [
        *[(2.5, -0.0, -2.5), (-2.5, 0.0, 2.5), (0.0, -2.5, -0.0), (-0.0, INF, 0.0)],
        *[(INF, -1.0, -INF), (NAN, 1.0, NAN), (NAN, -1.0, NAN)],
    ],
    "hypot": [
        *_signs((INF, NAN), INF, INF),
        *_signs((NAN, INF), INF, INF),
        *[(NAN, 2.5, NAN), (2.5, NAN, NAN), (0.0, -2.5, 2.5), (-2.5, -0.0, 2.5), (-0.0, 0.0, 0.0)],
    ],
    "logaddexp": [*_of_nan(), (INF, 2.5, INF), (2.5, INF, INF), (INF, INF, INF), (INF, -INF, INF)],
    "maximum": [*_of_nan(), *_of_nan(INF), (INF, 2.5, INF), (-INF, 2.5, 2.5)],
    "minimum": [*_of_nan(), *_of_nan(-INF), (INF, 2.5, 2.5), (-INF, 2.5, -INF)],
    "nextafter": [*_of_nan(), (-0.0, 0.0, 0.0), (0.0, -0.0, -0.0), (2.5, 2.5, 2.5)],
    "equal": [(NAN, NAN, False), (NAN, 1.0, False), (0.0, -0.0, True), (INF, INF, True)],
    "not_equal": [(NAN, NAN, True), (0.0, -0.0, False), (INF, -INF, True)],
    "less": [(NAN, 1.0, False), (1.0, NAN, False), (-0.0, 0.0, False), (-INF, INF, True)],
    "less_equal": [(NAN, NAN, False), (0.0, -0.0, True), (INF, INF, True)],
    "greater": [(NAN, 1.0, False), (1.0, NAN, False), (0.0, -0.0, False), (INF, 1.0, True)],
    "greater_equal": [(NAN, NAN, False), (-0.0, 0.0, True), (-INF, -INF, True)],
}
TABLES: dict[str, list[tuple[Any, ...]]] = {**UNARY, **BINARY}
FLOATS = ("float32", "float64")


def columns(name: str, dtype: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The arguments and the results of a table as arrays."""
    *arguments, results = zip(*TABLES[name], strict=True)
    of = "bool" if isinstance(results[0], bool) else dtype
    return [np.array(column, dtype) for column in arguments], np.array(results, of)


def check(name: str, dtype: str, got: np.ndarray) -> None:
    """Equal, or close where nothing is special; zeros with their signs."""
    arguments, expected = columns(name, dtype)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    with np.errstate(all="ignore"):
        near = np.isclose(got, expected, rtol=1e-6 if dtype == "float32" else 1e-15, atol=0)
    same = near | ((got != got) & (expected != expected))
    zero = (expected == 0) & (expected.dtype.kind == "f")
    same &= ~zero | (np.signbit(got) == np.signbit(expected))
    wrong = [(*[c[i] for c in arguments], expected[i], got[i]) for i in np.flatnonzero(~same)]
    assert not wrong, f"{name}: arguments, what the standard has, what came: {wrong}"


@pytest.mark.parametrize("name", TABLES)
def test_special_cases_of_eager_arrays(name: str) -> None:
    function = getattr(xp, name)
    for dtype in FLOATS:
        arguments, expected = columns(name, dtype)
        check(name, dtype, np.asarray(function(*map(xp.asarray, arguments))))
        for position in range(len(expected)):  # arrays of rank 0, one case at a time
            single = function(*[xp.asarray(column[position]) for column in arguments])
            assert single.shape == ()
            equal = np.array_equal(np.asarray(single), expected[position], equal_nan=True)
            assert equal or math.isclose(single, expected[position], rel_tol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_cases_of_compiled_graphs(dtype: str) -> None:
    surface = {n: row[0] for n, row in {**elementwise.UNARY, **elementwise.BINARY}.items()}

    def everything(arguments: Any) -> Any:
        return {name: getattr(gx, surface[name])(*given) for name, given in arguments.items()}

    found = gx.jit(everything)({name: columns(name, dtype)[0] for name in TABLES})
    for name, result in found.items():
        check(name, dtype, result)


def test_every_function_of_floats_has_a_table() -> None:
    every = {**elementwise.UNARY, **elementwise.BINARY}
    of_floats = {name for name, (_, kinds) in every.items() if "f" in kinds}
    assert of_floats - TABLES.keys() == {"conj", "real"}  # nothing is special about them


# -- integers and reductions -----------------------------------------------------------------------

INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_divide_downwards_and_wrap_around(dtype: str) -> None:
    limits = xp.iinfo(getattr(xp, dtype))
    values = [v for v in (-7, -4, -1, 1, 2, 4, 7) if v >= limits.min]
    pairs = list(itertools.product(values, values))
    sides = [list(side) for side in zip(*pairs, strict=True)]
    x, y = (xp.asarray(side, dtype=getattr(xp, dtype)) for side in sides)
    assert [int(v) for v in x // y] == [a // b for a, b in pairs]
    assert [int(v) for v in x % y] == [a % b for a, b in pairs]
    powers = [(a, abs(b)) for a, b in pairs if limits.min <= a ** abs(b) <= limits.max]
    base, exponent = (xp.asarray(list(c), dtype=x.dtype) for c in zip(*powers, strict=True))
    assert [int(v) for v in base**exponent] == [a**b for a, b in powers]
    top = xp.asarray(limits.max, dtype=x.dtype)
    assert int(top + 1) == limits.min
    assert int(xp.asarray(limits.min, dtype=x.dtype) - 1) == limits.max
    assert int(~top) == (limits.min if limits.min < 0 else 0)
    for name in ("ceil", "floor", "round", "trunc"):
        assert int(getattr(xp, name)(top)) == limits.max  # not by way of a float


@pytest.mark.parametrize("dtype", FLOATS)
def test_reductions_of_nan_and_of_nothing(dtype: str) -> None:
    with_nan = xp.asarray([1.0, NAN, -INF, INF], dtype=getattr(xp, dtype))
    nothing = xp.zeros((0,), dtype=with_nan.dtype)
    for name in ("max", "min", "sum", "prod", "mean", "std", "var"):
        result = getattr(xp, name)(with_nan)
        assert result.dtype == with_nan.dtype and math.isnan(result)
    assert int(xp.argmax(with_nan)) == int(xp.argmin(with_nan)) == 1
    assert (float(xp.sum(nothing)), float(xp.prod(nothing))) == (0.0, 1.0)
    for name in ("mean", "std", "var"):
        assert math.isnan(getattr(xp, name)(nothing))
    one = xp.asarray([2.5], dtype=with_nan.dtype)
    assert float(xp.var(one)) == 0.0 and math.isnan(xp.var(one, correction=1))
    assert math.isnan(xp.std(one, correction=2))
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError):
            getattr(xp, name)(nothing)
    assert [bool(v) for v in (xp.all(with_nan), xp.any(with_nan))] == [True, True]
    clipped = xp.clip(with_nan, -2.0, xp.asarray([0.5, 0.5, 0.5, NAN], dtype=with_nan.dtype))
    np.testing.assert_array_equal(np.asarray(clipped), np.array([0.5, NAN, -2.0, NAN], dtype))
