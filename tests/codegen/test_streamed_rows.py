"""Are long rows that are read several at once, far apart, each reduced by itself?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx

OPTIONS = gx.Options(threads=1, cache=False)
AT_ONCE = "rows at once"


def compiled(build: Any, *shapes: Any, dtype: str = "float32", threads: int = 1) -> Any:
    symbols = [gx.symbol(f"x{k}", shape, dtype) for k, shape in enumerate(shapes)]
    options = gx.Options(threads=threads, cache=False)
    return gx.compile(symbols, build(*symbols), options=options)


# Rows that fill the blocks of a task, that are left over, and of which there are few.
@pytest.mark.parametrize("rows", [128, 129, 131, 517, 1024])
@pytest.mark.parametrize("width", [512, 1000, 4100, 9001])
def test_rows_of_any_number_and_length(rows: int, width: int) -> None:
    f = compiled(lambda x: [gx.sum(x, axis=1), gx.max(x * x, axis=1)], (rows, width))
    assert (AT_ONCE in str(f.report())) == (rows * width > 1 << 16)
    array = np.random.default_rng(rows).integers(-50, 50, (rows, width)).astype("f4")
    total, largest = f(array)
    np.testing.assert_array_equal(total, array.sum(axis=1))
    np.testing.assert_array_equal(largest, (array * array).max(axis=1))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint16", "int64", "bool"])
def test_dtypes(dtype: str) -> None:
    numbers = np.random.default_rng(1).integers(0, 3, (300, 700))
    array = numbers > 1 if dtype == "bool" else numbers.astype(dtype)
    f = compiled(lambda x: [gx.sum(x, axis=1), gx.max(x, axis=1)], array.shape, dtype=dtype)
    total, largest = f(array)
    np.testing.assert_array_equal(total, array.sum(axis=1))
    np.testing.assert_array_equal(largest, array.max(axis=1))
    flags = compiled(lambda x: gx.any(x == x[:, :1] + x[:, 1:2], axis=1), array.shape, dtype=dtype)
    wanted = (array == array[:, :1] + array[:, 1:2]).any(axis=1)
    np.testing.assert_array_equal(flags(array), wanted)


def test_several_axes_and_what_follows() -> None:
    array = np.random.default_rng(2).random((9, 23, 30, 40))
    f = compiled(lambda x: gx.log(gx.mean(x, axis=(2, 3))), array.shape, dtype="float64")
    assert AT_ONCE in str(f.report())
    np.testing.assert_allclose(f(array), np.log(array.mean(axis=(2, 3))), rtol=1e-13)
    turned = array.transpose(0, 1, 3, 2)  # the same function, of elements that lie elsewhere
    back = compiled(lambda x: gx.sum(x, axis=(2, 3)), turned.shape, dtype="float64")
    np.testing.assert_allclose(back(turned), array.sum(axis=(2, 3)), rtol=1e-13)


def test_several_arrays() -> None:
    x = np.random.default_rng(3).random((257, 800)).astype("f4")
    f = compiled(lambda x, y, w: gx.mean(abs(x - y) * w, axis=1), x.shape, (257, 1), (800,))
    given = x, x[:, :1].copy(), x[0].copy()
    assert AT_ONCE in str(f.report())
    wanted = (abs(x - given[1]) * given[2]).astype("f8").mean(axis=1)
    np.testing.assert_allclose(f(*given), wanted, rtol=1e-5)


def test_special_values_stay_in_their_rows() -> None:
    x = np.ones((200, 600))
    for k, value in enumerate((np.nan, np.inf, -np.inf, -0.0)):
        x[17 * (k + 1), 100 * k + 3] = value
    f = compiled(lambda x: [gx.sum(x, axis=1), gx.max(x, axis=1), gx.min(x, axis=1)], x.shape,
                 dtype="float64")  # fmt: skip
    for found, wanted in zip(f(x), (x.sum(axis=1), x.max(axis=1), x.min(axis=1)), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_any_number_of_rows_by_any_number_of_threads() -> None:
    one, two = (
        compiled(lambda x: gx.sum(x, axis=1), ("n", 1024), threads=threads) for threads in (1, 2)
    )
    for rows in (0, 1, 3, 64, 65, 200, 1001):
        array = np.random.default_rng(rows).random((rows, 1024)).astype("f4")
        np.testing.assert_array_equal(one(array), two(array))
        np.testing.assert_allclose(one(array), array.sum(axis=1), rtol=1e-5)


def test_rows_that_lie_apart_in_memory() -> None:
    whole = np.random.default_rng(4).random((400, 1300))
    f = compiled(lambda x: gx.sum(x, axis=1), (200, 650), dtype="float64")
    for array in (whole[::2, ::2], whole[200:, 650:], whole[199::-1, 649::-1]):
        np.testing.assert_allclose(f(array), array.sum(axis=1), rtol=1e-13)


def test_what_takes_longer_than_memory_is_done_row_by_row() -> None:
    for build in (lambda x: gx.sum(gx.exp(x), axis=1), lambda x: gx.var(x, axis=1)):
        assert AT_ONCE not in str(compiled(build, (400, 1000)).report())
    assert AT_ONCE not in str(compiled(lambda x: gx.sum(x, axis=1), (4000, 100)).report())


def test_a_few_long_rows_are_reduced_whole() -> None:
    """Sixteen of them are enough for many workers: what is made of them is made in one kernel."""
    array = np.random.default_rng(5).normal(size=(16, 10_000))
    f = compiled(lambda x: [gx.argmax(x, axis=1), gx.var(x, axis=1)], array.shape, dtype="float64")
    assert not any(kernel.title.endswith("_combine") for kernel in f.kernels)
    position, variance = f(array)
    np.testing.assert_array_equal(position, array.argmax(axis=1))
    np.testing.assert_allclose(variance, array.var(axis=1), rtol=1e-12)
    for shape in ((15, 10_000), (16, 70_000)):
        few = compiled(lambda x: gx.max(x, axis=1), shape)
        assert any(kernel.title.endswith("_combine") for kernel in few.kernels)


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 90_000])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_positions_in_long_lines(dtype: str, length: int) -> None:
    f = compiled(lambda x: [gx.argmax(x), gx.argmin(x, axis=1)], (2, length), dtype=dtype)
    array = np.random.default_rng(length).integers(-99, 99, (2, length)).astype(dtype)
    places = [(), [(0, 5)], [(1, length - 1)], [(0, 4096), (0, 4095)], [(1, 7), (0, length - 1)]]
    for case in places:
        for place in case:
            array[place] = 200 if dtype == "int16" else np.nan
        largest, least = f(array)
        assert largest == array.argmax()
        np.testing.assert_array_equal(least, array.argmin(axis=1))
