"""What is left of a row after its whole vectors: right, and nothing behind it is written.

Where masks are no registers of their own, it is written by powers of two of lanes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.lower import lower
from graphc.codegen.machine import Machine
from graphc.graph import close
from graphc.runtime.engine import engine
from graphc.runtime.printing import kernel_text

OPTIONS = gx.Options(threads=1, cache=False)
DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "uint8", "bool"]
BEHIND = 40  # elements that follow a result in memory
LENGTHS = [*range(35), 63, 64, 65, 70, 127]

Build = Callable[[Any], Any]
FORMS: dict[str, Build] = {
    "one result": lambda x: x + x,
    "a wider result": lambda x: x.astype("float64") * 0.5,
    "a narrower result": lambda x: x > 0,
    "a result of few lanes": lambda x: gx.where(x > 0, x.astype("int8"), 3),
    "a line of a table": lambda x: gx.stack([x, x + x]),
}


@pytest.fixture(params=["host", "avx2", "sse2"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    host = Machine.host()
    if request.param == "host":
        return host
    chosen = Machine.preset(request.param)
    if host.vector_bytes < chosen.vector_bytes or not host.triple.startswith("x86_64"):
        pytest.skip("this processor has no such registers")
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: chosen))
    return chosen


def check(f: Any, build: Build, x: Any, array: np.ndarray) -> None:
    """The result in the middle of memory that holds something else, which stays."""
    expected = gx.evaluate(build(x), {x: array})
    memory = np.full(expected.size + BEHIND, 1, expected.dtype)
    out = memory[: expected.size].reshape(expected.shape)
    f(array, out=out)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(memory[expected.size :], 1)


def numbers(length: int, dtype: str) -> np.ndarray:
    return ((np.arange(length) * 7) % 11 - 4).astype(dtype)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_length(form: str, dtype: str) -> None:
    x = gx.vector("x", "n", dtype)
    f = gx.compile([x], FORMS[form](x), options=OPTIONS)
    for length in LENGTHS:
        check(f, FORMS[form], x, numbers(length, dtype))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 10, 13, 31, 37])
def test_lengths_that_are_known(length: int, dtype: str) -> None:
    x = gx.vector("x", length, dtype)
    f = gx.compile([x], FORMS["one result"](x), options=OPTIONS)
    check(f, FORMS["one result"], x, numbers(length, dtype))


def test_rows_of_lengths_that_are_known_only_in_a_call() -> None:
    x = gx.matrix("x", ("n", "m"))
    f = gx.compile([x], gx.tanh(x) + x, options=OPTIONS)
    for columns in (1, 3, 4, 6, 9, 15, 16, 18):
        array = np.linspace(-2, 2, 5 * columns).reshape(5, columns)
        memory = np.full(5 * columns + BEHIND, 9.0)
        out = memory[: 5 * columns].reshape(5, columns)
        f(array, out=out)
        np.testing.assert_allclose(out, np.tanh(array) + array, rtol=1e-15)
        assert (memory[5 * columns :] == 9).all()


def kernel_of(preset: str, extent: int | str, dtype: str = "float64") -> str:
    """The text for a machine, which LLVM accepts."""
    machine = Machine.preset(preset)
    x = gx.vector("x", extent, dtype)
    program = lower(close([x], [gx.tanh(x) + x])[0], 1)
    (kernel,) = program.kernels()
    text: str = kernel_text(kernel, machine).whole
    engine().assembly(text, machine=machine)
    return text


@pytest.mark.parametrize("extent", ["n", 10])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_only_machines_with_masks_store_under_them(extent: int | str, dtype: str) -> None:
    for preset in ("avx2", "sse2", "neon"):
        assert "masked.store" not in kernel_of(preset, extent, dtype)
    assert "masked.store" in kernel_of("avx512", extent, dtype)


def test_what_is_left_is_done_vector_by_vector() -> None:
    for preset, lanes in (("avx2", 4), ("avx512", 8), ("sse2", 2)):
        text = kernel_of(preset, "n")
        assert set(re.findall(r"fdiv <(\d+) x double>", text)) == {str(lanes), str(4 * lanes)}


def test_loops_that_write_much_keep_their_masks() -> None:
    x = gx.vector("x", "n")
    results = tuple(x * float(k) for k in range(2, 12))
    f = gx.compile([x], results, options=OPTIONS)
    array = np.arange(11.0)
    for k, result in enumerate(f(array), 2):
        np.testing.assert_array_equal(result, array * k)
