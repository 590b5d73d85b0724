"""Are sums of narrow numbers, counts, and whether all or any hold right, and kept in few bits?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.machine import PRESETS, Machine

OPTIONS = gx.Options(threads=2, cache=False)
# Around whole vectors, a chunk, and nothing.
LENGTHS = [0, 1, 7, 63, 64, 65, 127, 200, 4097, 70_001]
DTYPES = ["bool", "int8", "uint8", "int16", "uint16"]


def extremes(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The largest and the smallest numbers of a dtype, mostly those of one sign."""
    picks = np.random.default_rng(8).random(shape) < 0.9
    if dtype == "bool":
        return picks
    limits = np.iinfo(dtype)
    return np.where(picks, limits.min or limits.max, limits.max // 3).astype(dtype)


@pytest.mark.parametrize("name", ["sse2", "avx2", "host"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_any_length(dtype: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name != "host":
        monkeypatch.setattr(Machine, "host", staticmethod(lambda: PRESETS[name]))
    x = gx.symbol("x", ("n",), dtype)
    y = gx.symbol("y", ("m", 150), dtype)
    total = gx.compile(x, gx.sum(x), options=OPTIONS)
    rows = gx.compile(y, [gx.sum(y, axis=1), gx.sum(y, axis=0)], options=OPTIONS)
    for length in LENGTHS:
        for array in (extremes((length,), dtype), extremes((3 * length,), dtype)[::3]):
            np.testing.assert_array_equal(total(array), array.sum())
    for count in (0, 1, 130):
        array = extremes((count, 150), dtype)
        for got, wanted in zip(rows(array), (array.sum(1), array.sum(0)), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", ["sse2", "avx2", "host"])
@pytest.mark.parametrize("columns", [1, 30, 64, 65, 300, 5000])
def test_all_and_any_see_each_place(
    columns: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "host":
        monkeypatch.setattr(Machine, "host", staticmethod(lambda: PRESETS[name]))
    x = gx.symbol("x", ("n", columns), "bool")
    f = gx.compile(x, [gx.all(x, axis=1), gx.any(~x, axis=1), gx.all(x), gx.any(~x)],
                   options=OPTIONS)  # fmt: skip
    count = min(columns, 200)
    odd = np.ones((count + 1, columns), bool)
    odd[range(count), np.linspace(0, columns - 1, count).astype(int)] = False
    for array in (odd, odd[-1:], odd[:0], np.asfortranarray(odd)):
        wanted: list[Any] = [array.all(1), (~array).any(1), array.all(), (~array).any()]
        for got, each in zip(f(array), wanted, strict=True):
            np.testing.assert_array_equal(got, each)


def test_what_is_computed_in_few_bits_is_added_up_so() -> None:
    """Also several sums at once, and what is compared; a byte that is no bool counts once."""
    x = gx.symbol("x", (500, 333), "int8")
    outputs = [gx.sum(x), gx.sum(x > 3), gx.sum(x * 2), gx.all(x > -128)]
    f = gx.compile(x, outputs, options=OPTIONS)
    array = extremes((500, 333), "int8")
    wanted: list[Any] = [array.sum(), (array > 3).sum(), (array * np.int8(2)).sum(), False]
    for got, each in zip(f(array), wanted, strict=True):
        np.testing.assert_array_equal(got, each)
    flags = gx.symbol("b", (1000,), "bool")
    bytes_ = (np.arange(1000) % 5).astype("u1").view("bool")
    assert gx.compile(flags, gx.sum(flags), options=OPTIONS)(bytes_) == 800


def test_lanes_carry_bytes_of_conditions_and_few_wide_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: PRESETS["avx2"]))
    x, y = gx.symbol("x", (100, 4096), "bool"), gx.symbol("y", (100, 4096), "int8")
    every = gx.compile(x, gx.all(x, axis=1), options=OPTIONS).llvm_ir
    assert "phi <64 x i8>" in every and not re.search(r"phi <\d+ x i1>", every)
    for symbol in (x, y):
        text = gx.compile(symbol, gx.sum(symbol, axis=1), options=OPTIONS).llvm_ir
        assert "phi <8 x i64>" in text and "phi <16 x i64>" not in text


COUNTED = ["float32", "float64", "float16", "int32", "int64", "uint16"]


@pytest.mark.parametrize("name", ["sse2", "avx2", "host"])
@pytest.mark.parametrize("dtype", COUNTED)
def test_counts_of_comparisons(dtype: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name != "host":
        monkeypatch.setattr(Machine, "host", staticmethod(lambda: PRESETS[name]))
    x = gx.symbol("x", ("n",), dtype)
    outputs = [
        gx.sum(x > 3),
        gx.mean(x != x[0]),
        gx.sum(gx.cast(x > 3, "float32")),
        gx.sum(gx.cast((x > 2) & (x < 5), "uint64")),
        gx.max(gx.cast(x > 3, "int64")),
    ]
    whole, plain = (
        gx.compile(x, made, options=OPTIONS) for made in (outputs, [gx.count_nonzero(x > 3)])
    )
    for length in (1, 3, 31, 65, 8192, 70_001):
        array = (np.arange(length) % 7).astype(dtype)
        if dtype == "float64":
            array[::5] = np.nan
        over, between = (array > 3).sum(), ((array > 2) & (array < 5)).sum()
        wanted = [over, (array != array[0]).mean(), over, between, int(over > 0)]
        assert [float(r) for r in whole(array)] == pytest.approx(wanted, rel=1e-15)
        assert plain(array)[0] == over


def test_counts_of_rows_and_where_a_mask_leaves_some_out() -> None:
    x = np.random.default_rng(6).random((130, 1025)).astype("f4")
    symbol = gx.symbol("x", x.shape, "float32")
    kept = gx.pad(symbol > 0.5, [(0, 0), (3, 2)])
    f = gx.compile(symbol, [gx.sum(symbol > 0.5, axis=1), gx.sum(kept, axis=1)], options=OPTIONS)
    for got in f(x):
        np.testing.assert_array_equal(got, (x > 0.5).sum(axis=1))


def test_means_of_bytes_are_exact() -> None:
    for dtype in ("uint8", "int8", "bool"):
        array = extremes((300, 4321), dtype)
        x = gx.symbol("x", array.shape, dtype)
        f = gx.compile(x, [gx.mean(x), gx.mean(x, axis=1)], options=OPTIONS)
        for got, wanted in zip(f(array), (array.mean(), array.mean(axis=1)), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-15)


def test_conditions_are_counted_in_bits_of_what_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: PRESETS["avx2"]))
    for dtype, held in (("float32", "x i32>"), ("float64", "x i64>")):
        x = gx.symbol("x", (1 << 17,), dtype)
        text = gx.compile(x, gx.sum(x > 0.5), options=OPTIONS).llvm_ir
        first = next(line for line in text.splitlines() if " = phi <" in line)
        assert held in first
    bytes_ = gx.symbol("b", (1 << 17,), "uint8")
    text = gx.compile(bytes_, gx.mean(bytes_), options=OPTIONS).llvm_ir
    assert "phi <8 x i64>" in text
