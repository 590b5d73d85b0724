"""Can a C++ program use what graphc prints? The launcher compiles and links, the header reads well.

Where nvcc is installed a program is built from the two files and one that calls them; elsewhere
that is skipped, and the text is only looked at. Nothing runs on a GPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx


def program() -> Any:
    """One of everything that a plan can hold: launches of any size, loops, choices, calls, arrays.
    """
    x, w = gx.symbol("x", ("n", 8), "float32"), gx.symbol("for", (8, 8), "float32")
    table = gx.constant(np.arange(16, dtype="float32").reshape(2, 8))
    state, _ = gx.scan(lambda s, row: (gx.tanh(s @ w + row), s), w[0], x, reverse=True)
    grown = gx.while_loop(lambda s: s.sum() < 100.0, lambda s: s * 2.0, gx.exp(state))
    chosen = gx.cond(grown.sum() > 3.0, lambda a: a + table[0], lambda a: a - table[1], grown)
    called = gx.call(lambda a: gx.softmax(a, axis=1), x)
    return gx.emit([x, w], [chosen, called], target="cuda", name="everything")


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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_nvcc_compiles_and_links_the_launcher(tmp_path: Path) -> None:
    source, _ = program().save(tmp_path, host=True)
    caller = tmp_path / "caller.cpp"
    caller.write_text(_CALLER)
    command = ["nvcc", "-arch=sm_90", "-std=c++17", "-fmad=false", "-Werror=all-warnings"]
    command += ["-Xcompiler", "-Wall,-Wextra,-Werror", "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, str(source), str(caller)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
