"""Are reductions right whose terms lie far apart?  Strips, whole and in parts, beside NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.loops import linear
from graphc.codegen.scalar import For, Value, walk

# Shapes and axes that are written in strips: whole ones, parts of rows, several short rows as one
# (with a rest, and without), ends of an array, axes that others part.
CASES = [
    ((300, 1400), (0,)),
    ((4099, 130), (0,)),
    ((100_001, 3), (0,)),
    ((1 << 16, 5), (0,)),
    ((2, 20_001, 7), (1,)),
    ((40, 100, 150), (0,)),
    ((5, 70, 30, 40), (1,)),
    ((20, 70, 300), (1,)),
    ((2, 523, 300), (1,)),
    ((256, 64, 32), (0, 2)),
    ((3, 40, 50, 30), (1, 3)),
    ((1024, 90, 8), (0, 2)),
    ((40, 30, 60, 20), (0, 2)),
]
MEANINGS: dict[str, Callable[..., Any]] = {
    "sum": lambda lib, x, axis: lib.sum(x, axis=axis),
    "max": lambda lib, x, axis: lib.max(x, axis=axis),
    "mean of an expression": lambda lib, x, axis: lib.mean(2 * x + 1, axis=axis),
    "mean and variance": lambda lib, x, axis: [lib.mean(x, axis=axis), lib.var(x, axis=axis)],
    "centred": lambda lib, x, axis: x - lib.mean(x, axis=axis, keepdims=True),
    "with what is summed": lambda lib, x, axis: [lib.sum(lib.exp(x), axis=axis), lib.exp(x)],
}


def _compared(x: np.ndarray, meaning: Callable[..., Any], axis: Any, **choices: Any) -> None:
    symbol = gx.symbol("x", x.shape, str(x.dtype))
    f = gx.compile([symbol], meaning(gx, symbol, axis), **choices)
    found, wanted = f(x), meaning(np, x, axis)
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, list) else [(found, wanted)]
    tolerance = 1e-12 if x.dtype == np.float64 else 3e-5
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_strips_give_what_numpy_gives(shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).standard_normal(shape, "f4")
    for name in ("sum", "centred") if x.size < 600_000 else ("mean and variance",):
        _compared(x, MEANINGS[name], axis)


@pytest.mark.parametrize("name", MEANINGS)
def test_each_meaning(name: str) -> None:
    generator = np.random.default_rng(4)
    for shape, axis in [((70, 40, 100), (0,)), ((1100, 13, 5), (0,)), ((33, 20, 100), (0, 2))]:
        _compared(generator.standard_normal(shape), MEANINGS[name], axis)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int64", "bool"])
def test_other_dtypes(dtype: str) -> None:
    x = (np.random.default_rng(5).random((300, 1000)) * 20 - 10).astype(dtype)
    symbol = gx.symbol("x", x.shape, dtype)
    reduce_ = gx.any if dtype == "bool" else gx.max
    f = gx.compile([symbol], [gx.sum(symbol, axis=0), reduce_(symbol, axis=0)])
    total, most = f(x)
    wanted = x.astype("float64").sum(axis=0)
    assert np.abs(total - wanted).max() <= (0.25 if dtype == "float16" else 0)
    assert np.array_equal(most, x.max(axis=0))


def test_nan_and_infinities_stay_in_their_columns() -> None:
    x = np.zeros((2000, 600), "f4")
    x[1999, 3], x[5, 4], x[7, 5], x[8, 5] = np.nan, np.inf, np.inf, -np.inf
    symbol = gx.symbol("x", x.shape, "float32")
    total, most = gx.compile([symbol], [gx.sum(symbol, axis=0), gx.max(symbol, axis=0)])(x)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(total, x.sum(axis=0))
    np.testing.assert_array_equal(most, x.max(axis=0))


def test_the_number_of_threads_changes_no_bit() -> None:
    x = np.random.default_rng(6).random((4096, 300), "f4")
    symbol = gx.symbol("x", x.shape, "float32")
    results = [
        gx.compile([symbol], gx.sum(symbol, axis=0), options=gx.Options(threads=threads))(x)
        for threads in (1, 2)
    ]
    assert np.array_equal(*results)


def test_errors_of_sums_grow_with_the_longest_chain_only() -> None:
    x = np.random.default_rng(7).random((1 << 17, 12), "f4")
    symbol = gx.symbol("x", x.shape, "float32")
    found = gx.compile([symbol], gx.sum(symbol, axis=0))(x)
    exact = x.astype("f8").sum(axis=0)
    assert np.abs(found - exact).max() <= 6 * np.finfo("f4").eps * exact.max()


def test_the_interpreter_has_the_same_strips() -> None:
    x = np.random.default_rng(8).standard_normal((1100, 40))
    _compared(x, MEANINGS["centred"], (0,), target="interpret")
    _compared(x, MEANINGS["sum"], (0,), target="interpret")


def test_the_report_says_how_rows_are_added_up() -> None:
    symbol = gx.symbol("x", (100_000, 3), "float32")
    report = str(gx.compile([symbol], gx.sum(symbol, axis=0)).report())
    assert "512 rows as one, in strips of 1536 columns" in report


@pytest.mark.parametrize("axis", [0, 1, None])
def test_extrema_of_halves(axis: int | None) -> None:
    x = np.random.default_rng(9).standard_normal((70, 130)).astype("f2")
    x[0, 5], x[3, 9], x[4], x[5, 7] = np.nan, np.inf, -0.0, 6e-8
    symbol = gx.symbol("x", x.shape, "float16")
    least, most = gx.compile([symbol], [gx.min(symbol, axis=axis), gx.max(symbol, axis=axis)])(x)
    assert least.dtype == most.dtype == np.float16
    np.testing.assert_array_equal(least, x.min(axis=axis))
    np.testing.assert_array_equal(most, x.max(axis=axis))


def test_rows_added_at_once_lie_in_runs_of_their_own() -> None:
    """Neighbours share a page, in which the machine foresees one run of addresses."""
    x = gx.symbol("x", (64, 96, 256), "float32")
    f = gx.compile([x], gx.sum(x, axis=1))
    assert "adds up 96 rows whole, in strips of 256 columns" in str(f.report())
    (kernel,) = f.kernels
    (rows,) = [s for s in walk(kernel.body) if isinstance(s, For) and s.role == "serial"]
    loads = [s.immediate for s in walk(rows.body) if isinstance(s, Value) and s.opcode == "load"]
    places = [
        linear(each.buffer, each.index) for each in loads if each.buffer.space == "global"
    ]
    assert [place - places[0] for place in places] == [24 * 256 * k for k in range(4)]
