"""Are many short lines in order, stable, and bit by bit what they were?"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx

OPTIONS = gx.Options(threads=2, cache=False)


def lines_of(count: int, length: int, dtype: str) -> np.ndarray:
    """Few distinct values, so that there are ties; of floats NaN, infinities and both zeros."""
    random = np.random.default_rng(count * 1000 + length)
    if dtype == "bool":
        return random.integers(0, 2, (count, length)).astype(bool)
    if dtype.startswith("float"):
        few = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e-40, 3e4], dtype)
        return few[random.integers(0, len(few), (count, length))]
    limits = np.iinfo(dtype)
    few = np.array([limits.min, limits.max, 0, 1, limits.max // 2, limits.max - 1], dtype)
    return few[random.integers(0, len(few), (count, length))]


@pytest.mark.parametrize(
    ("dtype", "length"),
    [("float32", n) for n in (1, 2, 5, 16, 33, 65, 256, 300, 512)]
    + [("float64", n) for n in (3, 8, 31, 129)]
    + [(name, 37) for name in ("bool", "int8", "uint16", "int32", "int64", "uint64", "float16")],
)
def test_many_lines_of_one_length(dtype: str, length: int) -> None:
    x = gx.symbol("x", ("n", length), dtype)
    results = [gx.sort(x), gx.argsort(x)]
    both = gx.compile(x, results, options=OPTIONS)
    values_alone = gx.compile(x, results[0], options=OPTIONS)
    for count in (0, 1, 15, 16, 50):
        array = lines_of(count, length, dtype)
        order = np.argsort(array, -1, kind="stable")
        wanted = np.take_along_axis(array, order, -1)
        values, positions = both(array)
        np.testing.assert_array_equal(positions, order)
        assert values.tobytes() == wanted.tobytes()
        assert values_alone(array).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float64"])
def test_the_largest_first_and_those_at_the_top(dtype: str) -> None:
    array = lines_of(3 * 20, 24, dtype).reshape(3, 20, 24)
    x = gx.symbol("x", array.shape, dtype)
    built = [*gx.topk(x, 5), gx.sort(x, axis=0), gx.sort(x, axis=1), gx.flip(gx.sort(x), -1)]
    values, positions, first, second, last = gx.compile(x, built, options=OPTIONS)(array)
    turned = np.argsort(array[..., ::-1], -1, kind="stable")[..., ::-1]
    order = 23 - turned[..., :5]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(values, np.take_along_axis(array, order, -1))
    np.testing.assert_array_equal(first, np.sort(array, 0, kind="stable"))
    np.testing.assert_array_equal(second, np.sort(array, 1, kind="stable"))
    np.testing.assert_array_equal(last, np.sort(array, -1, kind="stable")[..., ::-1])
