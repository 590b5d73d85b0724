"""Does a thread of any kernel template touch what another one has, or what is not there?

One small graph for each template (`test_cuda_budget` has them at full size), with the limits from
which a template is chosen lowered so that it is chosen here too, under ThreadSanitizer, with a
fiber for each CUDA thread, and under AddressSanitizer and UndefinedBehaviorSanitizer. Results must
be the evaluator's. None of this has run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cuda_host
import numpy as np
import pytest
from test_cuda_budget import TEMPLATES

import graphc as gx
from graphc.codegen.cuda import contract as cuda_contract
from graphc.codegen.cuda import lanes as cuda_lanes
from graphc.codegen.cuda import program as cuda
from graphc.codegen.fuse import group as fused
from graphc.codegen.tactics import GPU
from tests.cuda_emulator import emulator

pytestmark = emulator.required

Graphs = tuple[Sequence[gx.Node], Sequence[gx.Node]]
SMALL: dict[str, Callable[[], Graphs]] = {}
SIZES = {"m": 3, "n": 40}
# What a template must show in its text, where another one might have been chosen.
SHOWS = {
    "row_in_registers": "kept0",
    "row_for_a_warp": "lane = threadIdx.x % 32",
    "rows_and_columns": "kept",
    "columns_in_strips": "strip = threadIdx.x / 8",
    "large_product": "sums[8][8]",
    "handed_rows": "tile0",
    "handed_sums": "tile0",
    "several_parts": "blockIdx.x - ",
}
# The cheap ones, of each kind of kernel, run always.
ALWAYS = {("handed_rows", "tsan"), ("product_in_packs", "tsan"), ("row_in_registers", "asan")}
ALWAYS |= {("columns_in_strips", "tsan")}


def small(function: Callable[[], Any]) -> Callable[[], Any]:
    SMALL[function.__name__] = function
    return function


def symbol(name: str, *shape: Any, dtype: str = "float32") -> gx.Node:
    return gx.symbol(name, shape, dtype)


@small
def elementwise() -> Any:
    x, y = symbol("x", "n"), symbol("y", "n")
    return [x, y], [gx.tanh(x) * y + gx.erf(y)]


@small
def elementwise_half() -> Any:
    x, y = symbol("x", 40, dtype="float16"), symbol("y", 40, dtype="float16")
    return [x, y], [gx.exp(x) + 1, gx.cast(gx.cast(y, "bfloat16") * 2, "float32")]


@small
def row_in_registers() -> Any:
    x, seed = symbol("x", 2, 256), symbol("seed", 2, 256)
    y = gx.softmax(x, axis=1)
    return [x, seed], [y, gx.vjp(y, x, seed)]


@small
def row_of_unknown_length() -> Any:
    x = symbol("x", "m", "n")
    return [x], [gx.softmax(x, axis=1)]


@small
def rows_and_columns() -> Any:
    x, gain, seed = symbol("x", 6, 64), symbol("gain", 64), symbol("seed", 6, 64)
    centred = x - gx.mean(x, axis=1, keepdims=True)
    y = centred / gx.std(x, axis=1, keepdims=True) * gain
    return [x, gain, seed], [y, *gx.vjp(y, [x, gain], seed)]


@small
def row_for_a_warp() -> Any:
    x = symbol("x", 20, 64)
    return [x], [gx.logsumexp(x, axis=1)]


@small
def long_rows() -> Any:
    x = symbol("x", 4, 2, 6, 6)
    centred = x - gx.mean(x, axis=(0, 2, 3), keepdims=True)
    variance = gx.mean(centred * centred, axis=(0, 2, 3), keepdims=True)
    return [x], [gx.relu(centred / gx.sqrt(variance + 1e-5))]


@small
def columns() -> Any:
    x = symbol("x", 8, 40)
    return [x], [gx.std(x, axis=0)]


@small
def columns_in_strips() -> Any:
    x = symbol("x", 36, 13)
    return [x], [gx.logsumexp(x, axis=0), x.sum(axis=0)]


@small
def split_columns() -> Any:
    x = symbol("x", 600, 8)
    return [x], [x.sum(axis=0)]


@small
def product_with_epilogue() -> Any:
    a, b = symbol("a", 20, 18), symbol("b", 18, 22)
    return [a, b], [gx.relu(gx.exp(a) @ b + 1)]


@small
def product_in_packs() -> Any:
    a, b = symbol("a", 32, 32), symbol("b", 32, 32)
    return [a, b], [a @ b, a.T @ b.T]


@small
def large_product() -> Any:
    a, b = symbol("a", 130, 20), symbol("b", 20, 132)
    return [a, b], [gx.gelu(a @ b)]


@small
def product_of_doubles() -> Any:
    a, b = symbol("a", 20, 10, dtype="float64"), symbol("b", 10, 18, dtype="float64")
    return [a, b], [a @ b]


@small
def convolution() -> Any:
    x, kernel = symbol("x", 2, 3, 6, 6), symbol("kernel", 4, 3, 3, 3)
    y = gx.conv2d(x, kernel, padding=1)
    return [x, kernel], [y, *gx.grad((y * y).sum(), [x, kernel])]


@small
def several_parts() -> Any:
    x, a, b = symbol("x", 12, 16), symbol("a", 16, 16), symbol("b", 16, 16)
    return [x, a, b], [x @ a, x @ b, x.sum(axis=0), gx.tanh(a)]


@small
def handed_rows() -> Any:
    q, k, v = symbol("q", 2, 9, 8), symbol("k", 2, 128, 8), symbol("v", 2, 128, 4)
    return [q, k, v], [gx.softmax(q @ gx.swapaxes(k, 1, 2), axis=-1) @ v]


@small
def handed_sums() -> Any:
    a, b, c, d = symbol("a", 20, 9), symbol("b", 9, 12), symbol("c", 20, 5), symbol("d", 5, 12)
    return [a, b, c, d], [gx.tanh(a @ b + c @ d)]


@small
def gathers_and_scatters() -> Any:
    x, i = symbol("x", 10, 16), symbol("i", 8, dtype="int64")
    return [x, i], [x[i] * 2, gx.grad((x[i] ** 2).sum(), x)]


@small
def random_numbers() -> Any:
    key = gx.symbol("key", (2,), "uint32")
    return [key], [gx.random.normal(key, (40,))]


def arrays_of(inputs: Sequence[gx.Node]) -> list[np.ndarray]:
    random = np.random.default_rng(23)
    made = []
    for x in inputs:
        shape = tuple(SIZES.get(str(e), e) for e in x.shape)
        integer = np.dtype(x.dtype).kind in "iu"
        drawn = random.integers(0, 9, shape) if integer else random.standard_normal(shape)
        made.append(np.asarray(drawn, x.dtype))
    return made


@pytest.fixture
def chosen_when_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates for large arrays are chosen for small ones."""
    tactics = replace(GPU, split_elements=512, part_elements=128, least_parts=2)
    monkeypatch.setattr(cuda, "GPU", tactics)
    monkeypatch.setattr(fused, "LEAST_CARRIED", 64)
    monkeypatch.setattr(cuda_lanes, "MANY_TASKS", 4)
    monkeypatch.setattr(cuda_contract, "LARGE_TILES", 2)


def test_every_template_has_a_small_graph() -> None:
    assert set(SMALL) == set(TEMPLATES)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=[] if (name, mode) in ALWAYS else [pytest.mark.slow])
        for name in SMALL
        for mode in ("tsan", "asan")
    ],
)
def test_sanitizers_find_nothing(name: str, mode: str, chosen_when_small: None) -> None:
    inputs, outputs = SMALL[name]()
    program = gx.emit(list(inputs), list(outputs), target="cuda")
    assert SHOWS.get(name, "") in program.text
    assert len(program.kernels) > (name == "split_columns")
    arrays = arrays_of(inputs)
    module = cuda_host.compile_programs([program], mode)
    sizes = cuda_host.sizes_of(program, arrays)
    got = cuda_host.run(program, arrays, sizes, module=module, apart=True)
    wanted = gx.evaluate(list(outputs), dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(got.outputs, wanted, strict=True):
        tolerance = 1e-2 if one.dtype == "float16" else 1e-4
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
