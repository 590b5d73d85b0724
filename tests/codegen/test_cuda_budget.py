"""What do kernels take of a GPU? Registers, shared memory and spills, as NVIDIA's assembler says.

One small graph for each template that `gx.emit` has. What ptxas reports for each architecture must
stay within the budget that is checked in (`cuda_budget.json`), and nothing may spill. 64 registers
leave room for 1,024 threads on a multiprocessor, 128 for 512; large products take more. With nvcc
on the machine the same texts must keep the same budgets. None of this has run on a GPU.

    python tests/codegen/test_cuda_budget.py    # writes the budgets anew
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import graphc as gx
from graphc.runtime.cuda.compile import usage_of, version
from tests.codegen.cuda_toolkit import nvcc
from tests.cuda_emulator import nvrtc

BUDGETS = Path(__file__).with_name("cuda_budget.json")
MOST_REGISTERS = 160
REGISTERS_AT_A_TIME = 8  # of each thread
TEMPLATES: dict[str, Callable[[], tuple[Sequence[gx.Node], Sequence[gx.Node]]]] = {}


def template(function: Callable[[], Any]) -> Callable[[], Any]:
    TEMPLATES[function.__name__] = function
    return function


def symbol(name: str, *shape: Any, dtype: str = "float32") -> gx.Node:
    return gx.symbol(name, shape, dtype)


@template
def elementwise() -> Any:
    x, y = symbol("x", "n"), symbol("y", "n")
    return [x, y], [gx.tanh(x) * y + gx.erf(y)]


@template
def elementwise_half() -> Any:
    x, y = symbol("x", 4096, dtype="float16"), symbol("y", 4096, dtype="bfloat16")
    return [x, y], [gx.exp(x) + 1, y * 2]


@template
def row_in_registers() -> Any:
    x, seed = symbol("x", 512, 1024), symbol("seed", 512, 1024)
    y = gx.softmax(x, axis=1)
    return [x, seed], [y, gx.vjp(y, x, seed)]


@template
def row_of_unknown_length() -> Any:
    x = symbol("x", "m", "n")
    return [x], [gx.softmax(x, axis=1)]


@template
def rows_and_columns() -> Any:
    x, gain, seed = symbol("x", 4096, 1024), symbol("gain", 1024), symbol("seed", 4096, 1024)
    centred = x - gx.mean(x, axis=1, keepdims=True)
    y = centred / gx.std(x, axis=1, keepdims=True) * gain
    return [x, gain, seed], [y, *gx.vjp(y, [x, gain], seed)]


@template
def row_for_a_warp() -> Any:
    x = symbol("x", 100000, 64)
    return [x], [gx.logsumexp(x, axis=1)]


@template
def long_rows() -> Any:
    x = symbol("x", 64, 32, 28, 28)
    centred = x - gx.mean(x, axis=(0, 2, 3), keepdims=True)
    variance = gx.mean(centred * centred, axis=(0, 2, 3), keepdims=True)
    return [x], [gx.relu(centred / gx.sqrt(variance + 1e-5))]


@template
def columns() -> Any:
    x = symbol("x", 64, 100000)
    return [x], [gx.std(x, axis=0)]


@template
def columns_in_strips() -> Any:
    x = symbol("x", 4096, 2048)
    return [x], [gx.logsumexp(x, axis=0), gx.std(x, axis=0)]


@template
def split_columns() -> Any:
    x = symbol("x", 100000, 64)
    return [x], [x.sum(axis=0)]


@template
def product_with_epilogue() -> Any:
    a, b = symbol("a", 130, 70), symbol("b", 70, 90)
    return [a, b], [gx.relu(gx.exp(a) @ b + 1)]


@template
def product_in_packs() -> Any:
    a, b = symbol("a", 256, 512), symbol("b", 512, 256)
    return [a, b], [a @ b, a.T @ b.T]


@template
def large_product() -> Any:
    a, b = symbol("a", 2048, 1024), symbol("b", 1024, 2048)
    return [a, b], [gx.gelu(a @ b)]


@template
def product_of_doubles() -> Any:
    a, b = symbol("a", 130, 70, dtype="float64"), symbol("b", 70, 90, dtype="float64")
    return [a, b], [a @ b]


@template
def handed_rows() -> Any:
    q, k, v = (symbol(name, 8, 128, 32) for name in "qkv")
    seed = symbol("seed", 8, 128, 32)
    mixed = gx.softmax(q @ gx.swapaxes(k, 1, 2), axis=-1) @ v
    return [q, k, v, seed], [mixed, *gx.vjp(mixed, [q, k, v], seed)]


@template
def handed_sums() -> Any:
    shapes = {"a": (256, 64), "b": (64, 192), "c": (256, 128), "d": (128, 192)}
    a, b, c, d = (symbol(name, *shape) for name, shape in shapes.items())
    return [a, b, c, d], [gx.tanh(a @ b + c @ d)]


@template
def convolution() -> Any:
    x, kernel = symbol("x", 8, 16, 28, 28), symbol("kernel", 32, 16, 3, 3)
    y = gx.conv2d(x, kernel, padding=1)
    return [x, kernel], [y, *gx.grad((y * y).sum(), [x, kernel])]


@template
def several_parts() -> Any:
    x, a, b = symbol("x", 128, 256), symbol("a", 256, 256), symbol("b", 256, 256)
    return [x, a, b], [x @ a, x @ b, x.sum(axis=0), gx.tanh(a)]


@template
def gathers_and_scatters() -> Any:
    x, i = symbol("x", 1000, 64), symbol("i", 300, dtype="int64")
    return [x, i], [x[i] * 2, gx.grad((x[i] ** 2).sum(), x)]


@template
def random_numbers() -> Any:
    key = gx.symbol("key", (2,), "uint32")
    return [key], [gx.random.normal(key, (4096,))]


@functools.cache
def program(name: str) -> Any:
    inputs, outputs = TEMPLATES[name]()
    return gx.emit(list(inputs), list(outputs), target="cuda", name=name)


def usage_by_title(usages: Mapping[str, Any]) -> dict[str, list[int]]:
    """For each kernel, by its name without the digest: registers, and shared bytes."""
    found: dict[str, list[int]] = {}
    for name, usage in usages.items():
        title = name.rsplit("_", 1)[0]
        before = found.get(title, [0, 0])
        found[title] = [
            max(before[0], usage.registers), max(before[1], usage.shared_bytes)
        ]  # fmt: skip
    return found


@nvrtc.required
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_stays_within_its_budget(name: str) -> None:
    for arch in nvrtc.ARCHITECTURES:
        check_budget(name, arch, nvrtc.compile(program(name).text, arch).usage)


def check_budget(name: str, arch: str, usages: Mapping[str, Any], more: int = 0) -> None:
    """Nothing in local memory, and no more registers and shared memory than checked in; `more` are
    registers that may be taken on top.
    """
    budgets = json.loads(BUDGETS.read_text())
    for kernel, usage in usages.items():
        local = (usage.spill_stores, usage.spill_loads, usage.stack)
        assert local == (0, 0, 0), (arch, kernel, usage)
        assert usage.registers <= MOST_REGISTERS, (arch, kernel, usage)
    taken = usage_by_title(usages)
    assert set(taken) == set(budgets[name]), "run this file to write the budgets anew"
    for title, (registers, shared) in taken.items():
        most = budgets[name][title]
        within = registers <= most[0] + more and shared <= most[1]
        assert within, (arch, title, registers, shared)


@pytest.mark.slow
@pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed (toolkit, or the pip wheels)")
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_nvcc_keeps_the_budget(name: str, arch: str, tmp_path: Path) -> None:
    """By the compiler of the toolkit. One of another version than NVRTC's may take a step more of
    what registers come in.
    """
    source = tmp_path / "kernels.cu"
    source.write_text(program(name).text)
    command = [*(nvcc() or ()), f"-arch={arch}", "-std=c++17", "-fmad=false"]
    command += ["-Werror=all-warnings", "-Xptxas", "-v", "-cubin"]
    command += ["-o", str(tmp_path / "out"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usages = usage_of(done.stderr)
    assert set(usages) == {kernel.name for kernel in program(name).kernels}
    check_budget(name, arch, usages, more=0 if _is_of_nvrtc() else REGISTERS_AT_A_TIME)


def _is_of_nvrtc() -> bool:
    """Whether nvcc and NVRTC are of one release."""
    done = subprocess.run([*(nvcc() or ())[:1], "--version"], capture_output=True, text=True)
    return f"release {version()}," in done.stdout


def write_budgets() -> None:
    """The largest use over the architectures, rounded up to what an allocation takes."""
    found: dict[str, dict[str, list[int]]] = {}
    for name in TEMPLATES:
        mine = found[name] = {}
        for arch in nvrtc.ARCHITECTURES:
            taken = usage_by_title(nvrtc.compile(program(name).text, arch).usage)
            for title, (registers, shared) in taken.items():
                before = mine.get(title, [0, 0])
                whole = -(-registers // REGISTERS_AT_A_TIME) * REGISTERS_AT_A_TIME
                mine[title] = [max(before[0], whole), max(before[1], shared)]
    BUDGETS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    write_budgets()
