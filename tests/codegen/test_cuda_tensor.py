"""Do products by matrix units come out right, as far as that can be known without a GPU?

NVIDIA's compiler takes the instruction for three architectures and finds registers; the emulator
runs the same text with what the instruction does written in shuffles, so that who loads what, and
where it goes, is checked. The instruction itself has not run.
"""

from __future__ import annotations

from typing import Any

import cuda_host
import ml_dtypes
import numpy as np
import pytest

import graphc as gx
from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

OPTIONS = gx.Options(tensor_cores=True)
# The instruction of each dtype, and the largest error of an operand, relative.
EXPECTED = {
    "float32": ("m16n8k8.row.col.f32.tf32.tf32.f32", 2.0**-11),
    "float16": ("m16n8k16.row.col.f32.f16.f16.f32", 2.0**-11),
    "bfloat16": ("m16n8k16.row.col.f32.bf16.bf16.f32", 2.0**-8),
}


def program_of(dtype: str, rows: int, depth: int, columns: int) -> tuple[Any, list[gx.Node], Any]:
    a, b = gx.symbol("a", (rows, depth), dtype), gx.symbol("b", (depth, columns), dtype)
    output = gx.relu(a @ b) + 1
    return gx.emit([a, b], [output], target="cuda", options=OPTIONS), [a, b], output


@pytest.mark.parametrize("dtype", EXPECTED)
@pytest.mark.parametrize("sizes", [(128, 32, 64), (70, 21, 36)])
def test_the_text_multiplies(dtype: str, sizes: tuple[int, int, int]) -> None:
    program, inputs, _ = program_of(dtype, *sizes)
    instruction, error = EXPECTED[dtype]
    assert f"mma.sync.aligned.{instruction}" in program.text
    random = np.random.default_rng(31)
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    arrays = [random.standard_normal(x.shape).astype(kind) for x in inputs]
    arrays[0][3] = 0
    arrays[1][2, 5] = np.inf
    got = cuda_host.run_in_every_order(program, arrays).outputs[0].astype("float64")
    with np.errstate(invalid="ignore"):
        exact = [array.astype("float64") for array in arrays]
        want = np.maximum(exact[0] @ exact[1], 0) + 1
        large = np.abs(exact[0]) @ np.abs(np.where(np.isfinite(exact[1]), exact[1], 0)) + 1
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    finite = np.isfinite(want)
    assert (np.abs(got[finite] - want[finite]) <= 3 * error * large[finite]).all()


@nvrtc.required
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("dtype", EXPECTED)
def test_the_compiler_takes_the_instruction(dtype: str, arch: str) -> None:
    program, *_ = program_of(dtype, 512, 256, 384)
    compiled = nvrtc.compile(program.text, arch)
    assert "mma.sync" in compiled.ptx
    for usage in compiled.usage.values():
        assert (usage.stack, usage.spill_stores, usage.spill_loads) == (0, 0, 0), usage
        assert usage.registers <= 128


def test_nothing_is_rounded_unless_asked_for() -> None:
    a, b = gx.symbol("a", (128, 64), "float32"), gx.symbol("b", (64, 128), "float32")
    assert "mma" not in gx.emit([a, b], [a @ b], target="cuda").text


def test_a_small_product_is_not_worth_it() -> None:
    a, b = gx.symbol("a", (20, 64), "float32"), gx.symbol("b", (64, 128), "float32")
    assert "mma" not in gx.emit([a, b], [a @ b], target="cuda", options=OPTIONS).text
