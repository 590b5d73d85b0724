"""Are arrays put together from pieces, and from short turns, without asking of every element where
it is from?
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.emit import seams
from graphc.codegen.machine import Machine

OPTIONS = gx.Options(threads=2, cache=False)
DTYPES = ["uint8", "float16", "float64"]


@pytest.fixture
def small_caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A last cache of 16 KiB, and one of 8 before it: arrays beyond them take no time. What is much
    for a kernel is less, too.
    """
    monkeypatch.setattr(seams, "LEAST_ELEMENTS", 1 << 14)
    machine = dataclasses.replace(Machine.host(), l2=1 << 13, l3=1 << 14)
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    yield


def checked(function: Callable[..., Any], *arrays: np.ndarray) -> gx.Function:
    """A function compiled for arrays, with results as NumPy has them: for arrays in any order of
    memory, and into any place.
    """
    symbols = [gx.symbol(f"x{i}", a.shape, str(a.dtype)) for i, a in enumerate(arrays)]
    compiled = gx.compile(symbols, function(gx, *symbols), options=OPTIONS)
    wanted = function(np, *arrays)
    for given in (arrays, [np.asfortranarray(a) for a in arrays]):
        np.testing.assert_array_equal(compiled(*given), wanted)
        room = np.empty(wanted.size + 3, wanted.dtype)[3:].reshape(wanted.shape)
        compiled(*given, out=room)
        np.testing.assert_array_equal(room, wanted)
    return compiled


def numbers(shape: tuple[int, ...], dtype: str = "float32", start: int = 0) -> np.ndarray:
    return ((np.arange(np.prod(shape)) + start) % 125).reshape(shape).astype(dtype)


@pytest.mark.parametrize("rows", [64, 65])
def test_a_small_stencil_asks_only_at_its_edges(rows: int) -> None:
    """As a step of a loop does often: the rows inside have a kernel without conditions."""

    def step(lib: Any, x: Any) -> Any:
        p = lib.pad(x, 1)
        return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * x

    compiled = checked(step, numbers((rows, 64), "float64"))
    assert len(compiled.kernels) == 3  # the first row, the last one, and those between


# -- pieces ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("columns", [500, 256])
def test_many_arrays_are_joined(dtype: str, axis: int, columns: int) -> None:
    arrays = [numbers((70, columns), dtype, start=i) for i in range(8)]
    compiled = checked(lambda lib, *xs: lib.concatenate(xs, axis=axis), *arrays)
    kernels = [kernel.text() for kernel in compiled.kernels]
    assert not any("select" in text for text in kernels)
    assert len(kernels) == (8 if axis == 0 else 1)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(300, 300), (65, 1029), (40, 30, 70), (3, 30000)])
def test_edges_have_kernels_of_their_own(dtype: str, shape: tuple[int, ...]) -> None:
    x = numbers(shape, dtype)
    reflected = checked(lambda lib, x: lib.pad(x, 2, mode="reflect"), x)
    assert not any("select" in kernel.text() for kernel in reflected.kernels)
    for function in (
        lambda lib, x: lib.pad(x, 3, constant_values=1),
        lambda lib, x: lib.roll(x, 5, axis=0),
        lambda lib, x: lib.roll(x, (2, 7), axis=(0, -1)),
        lambda lib, x: lib.stack([x, x, x]),
    ):
        checked(function, x)


def test_few_elements_are_one_kernel() -> None:
    compiled = checked(lambda lib, x: lib.pad(x, 1), numbers((20, 90)))
    assert len(compiled.kernels) == 1


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
@pytest.mark.parametrize("columns", [1024, 1031, 517])
def test_rows_that_begin_within_a_line_go_past_the_caches(dtype: str, columns: int) -> None:
    compiled = checked(lambda lib, x: lib.roll(x, 5, axis=1), numbers((30, columns), dtype))
    assert "!nontemporal" in compiled.llvm_ir


@pytest.mark.usefixtures("small_caches")
def test_rows_of_two_results_begin_where_both_may() -> None:
    x = gx.symbol("x", (40, 1029), "float32")
    outputs = [x + 1, gx.pad(x, ((0, 0), (1, 0))) * 2]
    compiled = gx.compile(x, outputs, options=OPTIONS)
    array = numbers((40, 1029))
    wanted = [array + 1, np.pad(array, ((0, 0), (1, 0))) * 2]
    for got, each in zip(compiled(array), wanted, strict=True):
        np.testing.assert_array_equal(got, each)


# -- turns -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("times", [2, 3, 5, 9, 100])
def test_elements_are_repeated(dtype: str, times: int) -> None:
    for columns in (128, 201):
        x = numbers((90, columns), dtype)
        compiled = checked(lambda lib, x: lib.repeat(x, times, axis=1), x)
        assert f"in turns of {times}" in str(compiled.report())
        assert "gather" not in compiled.llvm_ir


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(20000, 3), (4097, 4), (33, 300, 2), (9001, 2)])
def test_short_rows_are_turns(dtype: str, shape: tuple[int, ...]) -> None:
    x, row = numbers(shape, dtype), numbers(shape[-1:], dtype, start=1)
    compiled = checked(lambda lib, x, row: x[..., ::-1] * row, x, row)
    assert f"in turns of {shape[-1]}" in str(compiled.report())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_thousand_elements_come_in_turns(dtype: str) -> None:
    """No lane divides its index, or fetches its element by itself."""
    repeated = checked(lambda lib, x: lib.repeat(x, 3), numbers((350,), dtype))
    points = checked(lambda lib, x: lib.transpose(x) + x[0, 0], numbers((3, 401), dtype))
    for compiled in (repeated, points):
        assert "in turns of 3" in str(compiled.report())
        assert not re.search("gather|(srem|sdiv|urem|udiv) <", compiled.llvm_ir)
    few = checked(lambda lib, x: lib.repeat(x, 3), numbers((341,), dtype))
    assert "in turns" not in str(few.report())


@pytest.mark.parametrize("shapes", [((64, 64), (4, 4)), ((50, 70), (7, 3))])
def test_kronecker_products(shapes: tuple[tuple[int, ...], ...]) -> None:
    compiled = checked(lambda lib, a, b: lib.kron(a, b), *(numbers(shape) for shape in shapes))
    assert f"in turns of {shapes[1][1]}" in str(compiled.report())


@pytest.mark.parametrize("shapes", [((9, 80), (20, 64)), ((5, 6), (10, 12)), ((2, 3, 4), (3, 9))])
def test_a_reshape_of_arithmetic_is_computed_at_its_indices(shapes: Any) -> None:
    """Its elements lie as the result's, and no lane divides its index to find what it reads."""
    first, second = (numbers(shape) for shape in shapes)
    kron = checked(lambda lib, a, b: lib.kron(a, b), first, second)
    pairs = checked(lambda lib, a, b: lib.reshape(a[..., None] * b, -1), first, numbers((11,)))
    assert not re.search("(srem|sdiv) <", kron.llvm_ir + pairs.llvm_ir)


def test_two_reshapes_of_one_value() -> None:
    a, b = gx.matrix("a", (6, 10)), gx.vector("b", 12)
    pairs = gx.exp(a[:, :, None] * b)
    compiled = gx.compile(
        [a, b], [pairs.reshape(60, 12), pairs.reshape(6, 120), pairs], options=OPTIONS
    )
    x, y = numbers((6, 10), "float64") / 100, numbers((12,), "float64") / 100
    flat, wide, whole = compiled(x, y)
    np.testing.assert_allclose(whole, np.exp(x[:, :, None] * y), rtol=1e-15)
    np.testing.assert_array_equal(flat, whole.reshape(60, 12))
    np.testing.assert_array_equal(wide, whole.reshape(6, 120))
    assert [kernel.title for kernel in compiled.report().kernels].count("exp") == 1


def test_what_is_repeated_several_times() -> None:
    x = numbers((70, 90))
    checked(lambda lib, x: lib.repeat(lib.repeat(x, 7, axis=1), 2, axis=0), x)
    checked(lambda lib, x: lib.repeat(lib.repeat(x, 2, axis=1), 6, axis=1), x)
    checked(lambda lib, x: lib.repeat(x, 2, axis=1) + lib.repeat(x[:, :60], 3, axis=1), x)
    checked(lambda lib, x: lib.tile(x, (1, 3)) + lib.repeat(x, 3, axis=1), x)


def test_few_turns_and_turns_of_unknown_length_are_left_to_lanes() -> None:
    x = gx.symbol("x", ("n", 3), "float32")
    compiled = gx.compile(x, x[:, ::-1] * 2, options=OPTIONS)
    assert "in turns" not in str(compiled.report())
    for count in (0, 1, 5000):
        array = numbers((count, 3))
        np.testing.assert_array_equal(compiled(array), array[:, ::-1] * 2)
    few = checked(lambda lib, x: lib.repeat(x, 2, axis=1), numbers((400, 30)))
    assert "in turns" not in str(few.report())
