"""Does a long kernel that is cut into segments compute what it did in one piece, on any machine?

Few segments of few statements stand for the real ones: the constants are made small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

import graphc as gx
from graphc.codegen import segments, tactics
from graphc.codegen.interpret import run_program
from graphc.codegen.llvm.kernel import kernel_module, longest_function
from graphc.codegen.loops import verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program
from graphc.codegen.scalar import For, walk
from graphc.graph import Graph, close

FRESH = gx.Options(cache=False, threads=1)


@pytest.fixture(autouse=True)
def small_segments() -> Iterator[None]:
    with (
        mock.patch.object(segments, "SEGMENT", 40),
        mock.patch.object(segments, "WHOLE", 60),
        mock.patch.object(tactics, "NATIVE", replace(tactics.NATIVE, most_work=50, straight=0)),
    ):
        yield


def crossing(x: gx.Node) -> list[gx.Node]:
    """Values of several dtypes that are needed far from where they are made: numbers, flags,
    integers, one argument that is read everywhere.
    """
    flags = [x > 0.1 * k for k in range(12)]
    places = [gx.cast(gx.floor(x * k), "int64") for k in range(1, 12)]
    y = x
    early = []
    for k in range(40):
        y = gx.where(flags[k % 12], y * 0.75 + x, y - gx.cast(places[k % 11], x.dtype) * 0.125)
        early.append(y)
    for k in reversed(range(40)):
        y = y * 0.5 + early[k] * early[-k]
    return [y, early[3] + y, places[5], flags[7]]


def functions(x: gx.Node) -> list[gx.Node]:
    """Calls of routines, and branches for what is rarely needed, in several segments."""
    y = x
    for k in range(24):
        y = gx.sin(y + k) * 0.5 + gx.cos(x * 1e5 + k)
    return [y, gx.grad(gx.sum(y), x)]


def lowered(x: gx.Node, made: list[gx.Node]) -> Program:
    graph, captured = close([x], made)
    assert not captured
    return lower(expand(Graph(graph.parameters, graph.outputs)), tactics=tactics.NATIVE)


def loops(program: Program) -> list[For]:
    found = [s for kernel in program.kernels() for s in walk(kernel.body) if isinstance(s, For)]
    return [loop for loop in found if loop.segment]


def given(shape: tuple[int, ...], dtype: str) -> Any:
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (29,), (3, 5), (2, 40), (0,)])
def test_the_bits_are_those_of_the_evaluator(shape: tuple[int, ...], dtype: str) -> None:
    x = gx.symbol("x", shape, dtype)
    made, array = crossing(x), given(shape, dtype)
    found = gx.compile([x], made, options=FRESH)(array)
    for mine, wanted in zip(found, gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), wanted)


@pytest.mark.parametrize("shape", [(), (29,)])
def test_functions_in_segments(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape, "float64")
    made, array = functions(x), given(shape, "float64")
    found = gx.compile([x], made, options=FRESH)(array)
    for mine, wanted in zip(found, gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-9, atol=1e-9)


def test_extents_known_at_the_call() -> None:
    x = gx.symbol("x", ("n",), "float64")
    made = crossing(x)
    f = gx.compile([x], made, options=FRESH.replace(threads=2))
    for count in (0, 1, 8, 5_000):
        array = given((count,), "float64")
        for mine, wanted in zip(f(array), gx.evaluate(made, {x: array}), strict=True):
            np.testing.assert_array_equal(mine, wanted)
    strided = given((33, 3), "float64")[:, 1]
    np.testing.assert_array_equal(f(strided)[0], f(strided.copy())[0])


@pytest.mark.parametrize("shape", [(), (29,)])
def test_kernels_keep_the_rules_and_the_interpreter_agrees(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape, "float64")
    made, array = crossing(x), given(shape, "float64")
    program = lowered(x, made)
    assert len(loops(program)) >= 4
    for kernel in program.kernels():
        verify(kernel)
    found, failures = run_program(program, [array], {})
    assert not failures
    for mine, wanted in zip(found, gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_each_segment_is_one_function_written_once() -> None:
    x = gx.symbol("x", (29,), "float64")
    program = lowered(x, crossing(x))
    (kernel,) = (k for k in program.kernels() if longest_function(k) < len(list(walk(k.body))))
    count = len(loops(program))
    text = kernel_module(kernel, Machine.host(), "kernel").text
    assert text.count("define internal void @segment") == count
    assert longest_function(kernel) < 3 * segments.SEGMENT


def test_scratch_is_used_again() -> None:
    """A recurrence needs a few values at a time, however long it is."""
    x = gx.symbol("x", (29,), "float64")
    y, z = x, x + 1.0
    for k in range(600):
        y, z = z, y * 0.5 + z * (0.25 + 1e-3 * k)
    program = lowered(x, [y])
    sizes = {o.storage.shape[0] for launch in program.launches() for o in launch.operands
             if o.storage.kind == "worker"}
    assert len(loops(program)) > 20
    assert max(sizes) <= 8


def test_checks_and_gathers_in_segments() -> None:
    x, table = gx.symbol("x", (20,), "int64"), gx.symbol("t", (9,), "float64")
    y = table[x]
    for k in range(80):
        y = y * 0.5 + gx.cast(x + k, "float64")
    y = y + gx.cast(100 // (x + 1), "float64")
    f = gx.compile([x, table], y, options=FRESH)
    places, values = np.arange(20) % 9, given((9,), "float64")
    np.testing.assert_array_equal(f(places, values), gx.evaluate(y, {x: places, table: values}))
    with pytest.raises(IndexError):
        f(np.arange(20), values)


def test_a_donated_argument_is_read_before_it_is_overwritten() -> None:
    x = gx.symbol("x", (37,), "float64")
    y = crossing(x)[0]
    f = gx.compile([x], y, options=FRESH, donate=[x])
    array = given((37,), "float64")
    wanted = gx.evaluate(y, {x: array.copy()})
    np.testing.assert_array_equal(f(array), wanted)
