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
