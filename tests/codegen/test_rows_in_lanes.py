"""Are rows of few elements, each of which one lane reduces, what NumPy makes of them?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm.kernel import kernel_module
from graphc.codegen.machine import PRESETS, Machine

OPTIONS = gx.Options(threads=1, cache=False)
IN_LANES = "in lanes"
Build = Callable[[Any], Any]
FLOATING: dict[str, Build] = {
    "sum": lambda x: gx.sum(x, axis=-1),
    "max": lambda x: gx.max(x, axis=-1),
    "position": lambda x: gx.argmin(x, axis=-1),
    "length": lambda x: gx.sqrt(gx.sum(x * x, axis=-1)),
    "both": lambda x: [gx.sum(x, axis=-1), gx.prod(x, axis=-1), gx.min(x, axis=-1)],
    "centred": lambda x: x - gx.mean(x, axis=-1, keepdims=True),
    "unit": lambda x: x / gx.sqrt(gx.sum(x * x, axis=-1, keepdims=True)),
    "variance": lambda x: gx.var(x, axis=-1),
    "any": lambda x: gx.any(x > 0.5, axis=-1),
}


def assert_like_evaluator(build: Build, array: Any, dims: tuple[Any, ...] = ()) -> str:
    """Compiled and evaluated, they agree; returns the report."""
    x = gx.symbol("x", dims or array.shape, array.dtype.name)
    made = build(x)
    function = gx.compile(x, made, options=OPTIONS)
    results = function(array)
    nodes, found = (made, results) if isinstance(made, list) else ([made], [results])
    small = array.dtype == "f4"
    rounding = {"rtol": 2e-6, "atol": 2e-6} if small else {"rtol": 1e-13, "atol": 1e-14}
    for node, result in zip(nodes, found, strict=True):
        wanted = gx.evaluate(node, {x: array})
        allowed = rounding if wanted.dtype.kind == "f" else {}
        np.testing.assert_allclose(result, wanted, **allowed, strict=True)
    return str(function.report())


@pytest.mark.parametrize("name", FLOATING)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [2, 3, 5, 8, 16])
def test_rows_of_any_length(name: str, dtype: str, width: int) -> None:
    generator = np.random.default_rng(width)
    for count in (71, 1025):
        assert_like_evaluator(FLOATING[name], generator.random((count, width)).astype(dtype))


@pytest.mark.parametrize("name", ["sse2", "avx2"])
def test_machines_of_shorter_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Machine.host()
    if name == "avx2" and host.vector_bytes < 32 or not host.triple.startswith("x86_64"):
        pytest.skip(f"this machine has no {name}")
    machine = dataclasses.replace(PRESETS[name], triple=host.triple)
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    generator = np.random.default_rng(3)
    for build in FLOATING.values():
        for width in (3, 4, 6):
            assert_like_evaluator(build, generator.random((130, width)).astype("f4"))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "bool", "float16"])
def test_rows_of_any_dtype(dtype: str) -> None:
    numbers = np.random.default_rng(5).integers(0, 50, (333, 3))
    array = numbers > 25 if dtype == "bool" else numbers.astype(dtype)
    assert_like_evaluator(lambda x: gx.sum(x, axis=-1), array)
    assert_like_evaluator(lambda x: gx.max(x, axis=-1), array)
    assert_like_evaluator(lambda x: gx.argmax(x, axis=-1), array)
    assert_like_evaluator(lambda x: gx.any(x == x[:, :1], axis=-1), array)


def test_numbers_that_are_none_and_signs_of_zero() -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], "f4")
    rows = np.stack(np.meshgrid(special, special, special), -1).reshape(-1, 3)
    for name in ("sum", "max", "position", "centred", "any"):
        assert_like_evaluator(FLOATING[name], rows)


def test_rows_that_lie_apart_in_memory() -> None:
    whole = np.random.default_rng(7).random((300, 7)).astype("f4")
    for array in (whole[::2, :3], whole[:, ::3], whole[::-1, 4:1:-1], whole.T[:7].T):
        for name in ("sum", "unit", "position"):
            assert_like_evaluator(FLOATING[name], array)


def test_several_axes() -> None:
    array = np.random.default_rng(9).random((5, 70, 3, 2))
    assert_like_evaluator(lambda x: gx.sum(x, axis=-1), array)
    assert_like_evaluator(lambda x: gx.sum(x, axis=(2, 3)), array)
    assert_like_evaluator(lambda x: gx.argmax(x[:, :, :, 0], axis=2), array)
    assert_like_evaluator(lambda x: x / gx.sum(x, axis=(2, 3), keepdims=True), array)


@pytest.mark.parametrize("shape", [(40, 9, 3), (30, 5, 4, 2), (7, 11, 13, 5), (1025, 2, 6)])
def test_few_rows_that_follow_one_another_in_each_of_many_places(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(11).random(shape)
    for name in ("sum", "both", "unit", "centred"):
        assert IN_LANES in assert_like_evaluator(FLOATING[name], array)
    assert_like_evaluator(FLOATING["position"], array)
    weights = gx.constant(np.arange(1.0, shape[-2] + 1)[:, None])
    assert_like_evaluator(lambda x: gx.sum(x * weights, axis=-1), array)
    assert_like_evaluator(lambda x: x * gx.max(x, axis=-1, keepdims=True) + weights, array)
    apart = np.repeat(array, 2, axis=-1)[..., ::2]
    assert_like_evaluator(FLOATING["unit"], apart)
    assert_like_evaluator(FLOATING["sum"], array.swapaxes(-1, -2)[..., :3])


def test_any_number_of_rows_at_run_time() -> None:
    x = gx.symbol("x", ("n", 3), "float32")
    function = gx.compile(x, [gx.sum(x, axis=1), gx.argmax(x, axis=1)], options=OPTIONS)
    assert IN_LANES in str(function.report())
    for count in (0, 1, 5, 64, 1023, 1024, 2049):
        array = np.random.default_rng(count).random((count, 3)).astype("f4")
        total, position = function(array)
        np.testing.assert_allclose(total, array.sum(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(position, array.argmax(axis=1))


def test_few_rows_and_long_ones_are_reduced_along() -> None:
    for shape in ((8, 3), (4096, 64)):
        report = assert_like_evaluator(FLOATING["sum"], np.ones(shape, "f4"))
        assert IN_LANES not in report
    assert IN_LANES in assert_like_evaluator(FLOATING["sum"], np.ones((4096, 3), "f4"))


@pytest.mark.parametrize("name", PRESETS)
def test_texts_for_other_machines_are_well_formed(name: str) -> None:
    x = gx.symbol("x", (4096, 3), "float32")
    outputs = [x / gx.sum(x, axis=1, keepdims=True), gx.argmax(x, axis=1)]
    program = gx.compile(x, outputs, options=OPTIONS)._impl.program  # type: ignore[attr-defined]
    for kernel in program.kernels():
        text = kernel_module(kernel, Machine.preset(name), "kernel").text
        llvm.parse_assembly(text).verify()
