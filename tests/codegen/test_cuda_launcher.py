"""Can a C++ program use what graphc prints? The launcher runs, compiles and links, the header reads
well.

It runs with the kernels on the CPU emulator. Where nvcc is installed, by a toolkit or by pip, a
program is built from the two files and one that calls them. Nothing runs on a GPU.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda import loop as cuda_loop
from tests.codegen import cuda_launcher_host
from tests.codegen.cuda_toolkit import nvcc
from tests.cuda_emulator import emulator


def graph() -> tuple[list[Any], list[Any]]:
    """One of everything that a plan can hold: launches of any size, loops, choices, calls, arrays.
    """
    x, w = gx.symbol("x", ("n", 8), "float32"), gx.symbol("for", (8, 8), "float32")
    table = gx.constant(np.arange(16, dtype="float32").reshape(2, 8))
    state, _ = gx.scan(lambda s, row: (gx.tanh(s @ w + row), s), w[0], x, reverse=True)
    grown = gx.while_loop(lambda s: s.sum() < 100.0, lambda s: s * 2.0, gx.exp(state))
    chosen = gx.cond(grown.sum() > 3.0, lambda a: a + table[0], lambda a: a - table[1], grown)
    called = gx.call(lambda a: gx.softmax(a, axis=1), x)
    return [x, w], [chosen, called]


def program() -> Any:
    return gx.emit(*graph(), target="cuda", name="everything")


def test_the_header_says_what_the_function_takes() -> None:
    source, header = program().host()
    assert "//   x: float32[" in header and "const void* x," in header
    assert "const void* x_for" in header  # a word of C++ is none of a parameter
    assert re.search(r"cudaError_t everything\(", header) and '#include "everything.h"' in source
    assert "static __device__ __align__(16) const unsigned constant0[" in source


def test_a_constant_that_is_too_large_is_refused() -> None:
    x = gx.symbol("x", (2048, 1024), "float32")
    emitted = gx.emit([x], [x + np.random.rand(2048, 1024).astype("float32")], target="cuda")
    with pytest.raises(ValueError, match="make it an input"):
        emitted.host()


_CALLER = """
#include "everything.h"
int main()
{
    void* arena = nullptr;
    if (cudaMalloc(&arena, everything_arena_bytes(4)) != cudaSuccess) return 1;
    return everything(nullptr, nullptr, nullptr, nullptr, 4, arena, nullptr, 0) != cudaSuccess;
}
"""


@emulator.required
@pytest.mark.parametrize("where", ["device", "host"])
def test_the_launcher_computes_what_the_cpu_computes(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loops, choices, calls, constants and named extents, by the very text that nvcc gets; loops of
    little work on the device, or all on the host.
    """
    if where == "host":
        for name in ("MOST_WORK_OF_ROUND", "MOST_WORK_OF_TEST"):
            monkeypatch.setattr(cuda_loop, name, 0)
    emitted = program()
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(4, 8)).astype("f4"), random.normal(size=(8, 8)).astype("f4")]
    results, failure, launches = cuda_launcher_host.run(emitted, arrays, {"d0": 4})
    wanted = gx.compile(*graph())(*arrays)
    for one, other in zip(results, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert failure == (0, 0, 0) and (launches > 10) == (where == "host")


@emulator.required
def test_the_launcher_records_a_failing_check() -> None:
    x, i = gx.symbol("x", ("rows",), "float64"), gx.symbol("i", (3,), "int64")
    emitted = gx.emit([x, i], [gx.take(x, i)], target="cuda")
    arrays = [np.arange(5.0), np.array([4, 0, 1])]
    results, failure, launches = cuda_launcher_host.run(emitted, arrays, {"d0": 5})
    assert results[0].tolist() == [4, 0, 1] and failure[0] == 0 and launches == 1
    arrays[1][2] = 7
    _, failure, _ = cuda_launcher_host.run(emitted, arrays, {"d0": 5})
    assert (failure[0], failure[2]) == (1, 7)
    header = emitted.host()[1]
    assert "long long rows," in header and "x: float64[rows]" in header


@pytest.mark.slow
@pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed (toolkit, or the pip wheels)")
def test_nvcc_compiles_and_links_the_launcher(tmp_path: Path) -> None:
    source, _ = program().save(tmp_path, host=True)
    caller = tmp_path / "caller.cpp"
    caller.write_text(_CALLER)
    command = [*(nvcc() or ()), "-arch=sm_90", "-std=c++17", "-fmad=false", "-Werror=all-warnings"]
    command += ["-Xcompiler", "-Wall,-Wextra,-Werror", "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, str(source), str(caller)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
