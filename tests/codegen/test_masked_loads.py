"""Do lanes that are off stay off, where a row is shorter than the vectors that read it?

Extents are numbers here, so that the compiler of the generated text knows some lanes of a mask, and
not others. (With LLVM 22.1, loads of two AVX registers under such masks read what lies behind.)
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.machine import Machine

OPTIONS = gx.Options(threads=1, cache=False)
# Elements before, of, and after a row; what is read fills a register, two, or parts of them.
ROWS = [(0, 4, 4), (0, 4, 12), (0, 7, 2), (0, 8, 1), (0, 8, 8), (2, 6, 3), (0, 17, 9), (3, 1, 8)]


@pytest.fixture(params=["host", "avx2"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    host = Machine.host()
    if request.param == "host":
        return host
    chosen = Machine.preset(request.param)
    if host.permuted_bytes < chosen.vector_bytes:
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: chosen))
    return chosen


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8"])
@pytest.mark.parametrize(("before", "width", "after"), ROWS)
def test_padded_rows(dtype: str, before: int, width: int, after: int) -> None:
    x = gx.symbol("x", (5, width), dtype)
    padded = gx.pad(x, [(1, 2), (before, after)])
    array = np.arange(1, 5 * width + 1).reshape(5, width).astype(dtype)
    out = np.full((8, before + width + after), 7, dtype)
    gx.compile(x, padded, options=OPTIONS)(array, out=out)
    np.testing.assert_array_equal(out, np.pad(array, [(1, 2), (before, after)]))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_which_a_mask_takes_some(dtype: str) -> None:
    for width in (5, 8, 9, 12, 16, 17, 31):
        x, on = gx.symbol("x", (3, width), dtype), gx.symbol("on", (3, 1), "bool")
        joined = gx.concatenate([x * 2, gx.where(on, x, -1)[:, : width // 2]], axis=1)
        array = np.arange(1, 3 * width + 1).reshape(3, width).astype(dtype)
        given = np.array([[True], [False], [True]])
        got = gx.compile([x, on], joined, options=OPTIONS)(array, given)
        chosen = np.where(given, array, -1)[:, : width // 2]
        np.testing.assert_array_equal(got, np.concatenate([array * 2, chosen], axis=1))
