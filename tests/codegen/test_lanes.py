"""How many lanes does a vector loop have, and what does that cost?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen import lanes
from graphc.codegen.lanes import SUMS_UNDER_WAY, choose_lanes
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import For, walk
from graphc.runtime.printing import modules

OPTIONS = gx.Options(threads=1, cache=False)


def widest(function: Any) -> int:
    """The most lanes of a vector in the kernels of a function, and of its strided variant."""
    return max(map(int, re.findall(r"<(\d+) x ", function.llvm_ir)), default=1)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
def test_elements_that_lie_apart_are_fetched_by_few_lanes(dtype: str) -> None:
    """64 lanes of int8 that are gathered took LLVM a tenth of a second."""
    x = gx.symbol("x", ("n", "m"), dtype)
    apart = gx.compile(x, x[:, ::-1].T + 1, options=OPTIONS)
    assert widest(apart) <= Machine.host().vector_bytes // 4
    array, one = np.arange(35).reshape(5, 7).astype(dtype), np.ones((), dtype)
    for given in (array, array[::2, ::-3]):
        np.testing.assert_array_equal(apart(given), given[:, ::-1].T + one)


def test_a_sum_has_the_same_lanes_wherever_its_terms_lie() -> None:
    """So it has the same bits, too: the order of the terms depends on the lanes."""
    x = gx.symbol("x", ("n",), "float32")
    total = gx.compile(x, gx.sum(x), options=OPTIONS)
    array = np.random.default_rng(1).standard_normal(2 * 1001).astype(np.float32)
    assert total(array[::2].copy()).tobytes() == total(array[::2]).tobytes()


def test_no_effort_means_none_in_any_module() -> None:
    x = gx.symbol("x", ("n",))
    for level in (0, 2):
        options = OPTIONS.replace(opt_level=level)
        compiled = gx.compile(x, gx.cumsum(x) * 2, options=options)._impl  # type: ignore[attr-defined]
        made, _ = modules(compiled.program, compiled.layout, 1, level)
        assert max(module.source.opt_level for module in made) == level
        assert any("instcombine" in module.source.passes for module in made) == (level > 0)


@pytest.mark.parametrize("upper", [False, True])
def test_a_check_in_more_lanes_than_a_word_has_bits(upper: bool) -> None:
    """A solution takes 128 columns at once; the first of them that fails is looked for."""
    a, b = gx.symbol("a", ("m", "m")), gx.symbol("b", ("m", "n"))
    solved = gx.compile([a, b], gx.linalg.solve_triangular(a, b, lower=not upper), options=OPTIONS)
    matrix = np.diag(np.arange(1.0, 4))
    right = np.random.default_rng(2).standard_normal((3, 200))
    np.testing.assert_allclose(solved(matrix, right), right / np.diag(matrix)[:, None])
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        solved(np.zeros((3, 3)), right)


@pytest.mark.parametrize("wide", ["int64", "int32", "int16"])
@pytest.mark.parametrize("narrow", ["int32", "int16", "uint8"])
def test_a_narrowed_last_lane_leaves_what_follows(
    wide: str, narrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLVM 20 stores one masked lane that was narrowed as wide as it had been, beyond the array."""
    monkeypatch.setattr(lanes, "UNROLL_BELOW", 0)  # as for a kernel of much work
    length = 65  # one more than whole vectors
    x = gx.symbol("x", (length,), wide)
    function = gx.compile(x, x.astype(narrow), options=OPTIONS)
    array, room = np.arange(length).astype(wide), np.full(length + 8, 7, narrow)
    function(array, out=room[:length])
    np.testing.assert_array_equal(room[:length], array.astype(narrow))
    np.testing.assert_array_equal(room[length:], np.full(8, 7, narrow))


def test_columns_that_are_summed_read_long_runs_of_memory() -> None:
    """As many vectors are under way as half of the registers hold."""
    x = gx.symbol("x", (8, "n", 1024), "float32")
    summed = gx.compile(x, gx.sum(x, axis=1), options=OPTIONS)
    assert widest(summed) == SUMS_UNDER_WAY * Machine.host().vector_bytes // 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_three_reductions_of_columns_together(dtype: str) -> None:
    """Lanes are a power of two, however many sums share the registers: 80 of them wrote past the
    ends of results.
    """
    x = gx.symbol("x", (40, "n"), dtype)
    f = gx.compile([x], [gx.sum(x, axis=0), gx.max(x, axis=0), gx.min(x, axis=0)])
    for columns in (70, 100, 200, 300):
        array = np.random.default_rng(columns).integers(-9, 9, (40, columns)).astype(dtype)
        for made, want in zip(f(array), (array.sum(0), array.max(0), array.min(0)), strict=True):
            np.testing.assert_array_equal(made, want)


def test_sums_of_a_loop_leave_half_of_sixteen_registers() -> None:
    x = gx.symbol("x", (3_000,), "float32")
    powers = [gx.sum(x**k) for k in (1, 2, 3, 4)]
    kernels = gx.compile([x], powers, options=OPTIONS).kernels
    (loop,) = (s for k in kernels for s in walk(k.body) if isinstance(s, For) and s.accumulators)
    assert len(loop.accumulators) == 4
    assert [choose_lanes(loop, size) * 4 // size for size in (16, 32, 64)] == [2, 2, 4]
