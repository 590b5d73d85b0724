"""Are maxima NaN where a term is, wherever it lies, and do loops over lanes note that once?"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm.kernel import kernel_module
from graphc.codegen.llvm.unordered import noted_terms
from graphc.codegen.machine import PRESETS
from graphc.codegen.scalar import For, walk

FRESH = gx.Options(cache=False)


def assert_same(results: Any, expected: Any) -> None:
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("extent", [1, 2, 7, 64, 257, 1000, 5003, 65_536 + 77, 131_072])
def test_one_term_that_is_nan_is_enough(dtype: str, extent: int) -> None:
    """A negative NaN, too, and beside infinities."""
    x = gx.symbol("x", (extent,), dtype)
    f = gx.compile([x], [gx.max(x), gx.min(x), gx.max(-x)], options=FRESH)
    values = np.random.default_rng(1).normal(size=extent).astype(dtype)
    values[extent // 2] = np.inf
    assert_same(f(values), [values.max(), values.min(), (-values).max()])
    for place in {0, 1 % extent, extent // 3, extent // 2, extent - 1}:
        for nan in (np.nan, -np.nan):
            spoilt = values.copy()
            spoilt[place] = nan
            assert_same(f(spoilt), [np.nan] * 3)
    values[:] = -np.inf
    assert_same(f(values), [-np.inf, -np.inf, np.inf])
    values[:] = np.nan
    assert_same(f(values), [np.nan] * 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 3000), (3, 300), ("n", "m"), (40, 7, 111)])
def test_rows_are_nan_by_themselves(dtype: str, shape: tuple[Any, ...]) -> None:
    x = gx.symbol("x", shape, dtype)
    last = len(shape) - 1
    two = [gx.max(x, axis=last), gx.min(x * 2, axis=last), gx.sum(x, axis=last)]
    f = gx.compile([x], [*two, gx.max(x), gx.max(x, axis=0)], options=FRESH)
    for sizes in [(9, 5000), (3, 1)] if shape == ("n", "m") else [shape]:
        values = np.random.default_rng(2).integers(-99, 99, sizes).astype(dtype)
        values[1, ..., sizes[-1] // 2] = np.nan
        values[2, ..., -1] = np.nan
        values[0, ..., 0] = -np.inf
        rows = [values.max(-1), (values * 2).min(-1), values.sum(-1)]
        assert_same(f(values), [*rows, values.max(), values.max(0)])


def test_terms_that_a_mask_leaves_out_are_not_noted() -> None:
    """The lanes behind the last element compute, too: 0 / 0 there is nobody's term."""
    x = gx.symbol("x", (1003,), "float32")
    f = gx.compile([x], [gx.max(x / x), gx.min(x / x)], options=FRESH)
    assert_same(f(np.full(1003, 2, "float32")), [1, 1])


def test_x86_notes_what_extremes_of_the_same_terms_share() -> None:
    x = gx.symbol("x", (4096,), "float32")
    f = gx.compile([x], [gx.max(x), gx.min(x), gx.max(x * x), gx.sum(x)], options=FRESH)
    statements = [s for kernel in f.kernels for s in walk(kernel.body)]
    loop = max((s for s in statements if isinstance(s, For)), key=lambda s: len(s.accumulators))
    noted = {name: noted_terms(loop, 16, machine) for name, machine in PRESETS.items()}
    assert {name: len(found) for name, found in noted.items()} == {
        "sse2": 3,
        "avx2": 3,
        "avx512": 0,
        "neon": 0,
    }
    assert len(set(noted["avx2"].values())) == 2
    assert not noted_terms(loop, 1, PRESETS["avx2"])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("extent", [100_003, "n"])
def test_the_text_of_every_machine_is_well_formed(name: str, extent: Any) -> None:
    """Of registers that are filled, of parts of them, and of loops that other sums are in."""
    x, y = gx.symbol("x", (extent,), "float32"), gx.symbol("y", (7, extent), "float64")
    made = [gx.max(x), gx.min(x), gx.sum(x * x), gx.max(y, axis=1), gx.min(y + 1)]
    f = gx.compile([x, y], made, options=FRESH)
    for kernel in f._impl.program.kernels():  # type: ignore[attr-defined]
        text = kernel_module(kernel, PRESETS[name], "kernel").text
        llvm.parse_assembly(text).verify()
        if name in ("avx512", "neon"):
            assert "vector.reduce.or.v" not in text
