"""Do strips of threads reduce columns as the evaluator does?

In every order of the threads, for every dtype and combiner, columns that fill no block, rows that
fill no strip, several passes, and axes between others; alone and as a part of a larger launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cuda_host
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda.program import CudaProgram
from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

Graphs = tuple[Sequence[gx.Node], Sequence[gx.Node]]
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint16", "int64", "bool")


def symbol(*shape: Any, dtype: str = "float32", name: str = "x") -> gx.Node:
    return gx.symbol(name, shape, dtype)


def moments(rows: int, columns: int) -> Graphs:
    """Passes that need what one before has found, and elements that are stored."""
    x = symbol(rows, columns)
    centred = x - gx.mean(x, axis=0)
    return [x], [centred / gx.sqrt(gx.mean(centred * centred, axis=0) + 1e-5), x.max(axis=0)]


def between(rows: int) -> Graphs:
    x = symbol(3, rows, 5)
    return [x], [gx.logsumexp(x, axis=1), x.min(axis=1)]


def outer_axes(rows: int) -> Graphs:
    x = symbol(4, rows, 6)
    return [x], [gx.prod(x, axis=(0, 1)), gx.argmax(x, axis=0)]


def beside_a_product(rows: int, columns: int) -> Graphs:
    x, w = symbol(rows, columns), symbol(columns, 20, name="w")
    return [x, w], [x @ w, x.sum(axis=0), x.sum(axis=1)]


GRAPHS: dict[str, Callable[[], Graphs]] = {
    "moments": lambda: moments(200, 37),
    "whole blocks": lambda: moments(64, 16),
    "few rows in the last round": lambda: moments(33, 9),
    "one column": lambda: beside_a_product(40, 1),
    "parts of few columns": lambda: moments(1700, 40),
    "parts of single columns": lambda: moments(30011, 3),
    "an axis between": lambda: between(45),
    "several axes": lambda: outer_axes(40),
    "a part of a launch": lambda: beside_a_product(50, 20),
}


def printed(graph: Graphs) -> CudaProgram:
    inputs, outputs = graph
    return gx.emit(list(inputs), list(outputs), target="cuda")


@pytest.mark.parametrize("name", GRAPHS)
def test_columns_are_the_evaluators_in_every_order(name: str) -> None:
    graph = GRAPHS[name]()
    program = printed(graph)
    assert "strip" in program.text or name == "one column"
    generator = np.random.default_rng(7)
    arrays: list[Any] = [generator.standard_normal(x.shape).astype("f4") for x in graph[0]]
    wanted = gx.evaluate(list(graph[1]), dict(zip(graph[0], arrays, strict=True)))
    outcome = cuda_host.run_in_every_order(program, arrays)
    for got, want in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_reduced(dtype: str) -> None:
    x = symbol(70, 11, dtype=dtype)
    outputs = [x.any(axis=0), x.all(axis=0)]
    if dtype != "bool":
        outputs = [x.sum(axis=0), x.max(axis=0), x.min(axis=0), gx.argmin(x, axis=0)]
    drawn = np.random.default_rng(9).integers(0, 50, x.shape)
    array = (drawn > 2) if dtype == "bool" else drawn.astype(np.dtype(outputs[1].dtype))
    wanted = gx.evaluate(outputs, {x: array})
    outcome = cuda_host.run_in_every_order(printed(([x], outputs)), [array])
    for got, want in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(got, "f8"), np.asarray(want, "f8"))


def test_numbers_that_are_none_and_infinities_come_through() -> None:
    x = symbol(64, 8)
    array = np.zeros((64, 8), "f4")
    array[50, 1], array[3, 2], array[60, 2], array[9, 3] = np.nan, np.inf, -np.inf, -np.inf
    outputs = [x.sum(axis=0), x.max(axis=0), gx.logsumexp(x, axis=0)]
    with np.errstate(invalid="ignore"):
        wanted = gx.evaluate(outputs, {x: array})
    outcome = cuda_host.run_in_every_order(printed(([x], outputs)), [array])
    for got, want in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


@nvrtc.required
def test_few_long_columns_are_one_launch_of_enough_blocks() -> None:
    x, a = symbol(4096), symbol(4096, 4096, name="a")
    program = printed(([x, a], [x @ a]))
    (step,) = program.plan.steps
    assert step.grid == 128  # type: ignore[union-attr]
    assert program.totals().bytes == 4 * (4096 * 4096 + 2 * 4096)
    for usage in nvrtc.compile(program.text, "sm_90").usage.values():
        assert (usage.stack, usage.spill_stores, usage.spill_loads) == (0, 0, 0)
