"""Do loops that are cut into stretches compute what they did, and which are cut?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.lower import expand, lower
from graphc.codegen.passes.stretches import stretched
from graphc.codegen.tactics import NATIVE
from graphc.evaluator import run_graph
from graphc.graph import Graph, close
from graphc.node import Node, topological
from graphc.rewrite import rewrite


def network(
    steps: int, rows: int, width: int, dtype: str = "float64", reverse: bool = False
) -> tuple[list[Node], list[Node]]:
    """A recurrent layer with a gate: its last state, and the gradients by all that it reads."""
    x = gx.symbol("x", (steps, rows, width), dtype)
    weight, recurrent = (gx.symbol(name, (width, width), dtype) for name in ("w", "u"))
    bias = gx.symbol("b", (width,), dtype)

    def step(state: Any, row: Any) -> Any:
        z = row @ weight + state @ recurrent + bias
        state = gx.sigmoid(z) * state + gx.tanh(z) * 0.5
        return state, state * state

    last, seen = gx.scan(step, gx.zeros((rows, width), dtype), x, reverse=reverse)
    cost = (last * last).sum() + seen.mean()
    inputs = [x, weight, recurrent, bias]
    return inputs, [cost, seen, *gx.grad(cost, inputs)]


def closed(inputs: list[Node], outputs: list[Node]) -> Graph:
    graph, captured = close(inputs, rewrite(outputs).outputs)
    assert not captured
    return graph


def values_for(inputs: list[Node], seed: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [(0.05 * random.normal(size=i.shape)).astype(i.dtype) for i in inputs]


def lengths(graph: Graph) -> list[int]:
    """Of the loops of a graph, and of those in their bodies, in any order."""
    found = []
    for node in topological(graph.outputs):
        if node.op.name == "scan":
            found += [node.attrs["length"], *lengths(node.attrs["graph"])]
    return sorted(found, key=str)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_those_of_the_whole_loop(dtype: str, reverse: bool) -> None:
    inputs, outputs = network(24, 3, 5, dtype, reverse)
    graph = closed(inputs, outputs)
    cut = stretched(graph, 6 * 2 * 3 * 5 * np.dtype(dtype).itemsize * 2)
    assert lengths(graph) == [24, 24] and len(lengths(cut)) == 3 and 24 in lengths(cut)
    arrays = values_for(inputs)
    bound = 1e-12 if dtype == "float64" else 1e-5
    for expected, actual in zip(run_graph(graph, arrays), run_graph(cut, arrays), strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=bound, atol=bound)


def test_what_is_cut() -> None:
    graph = closed(*network(24, 3, 5))
    row = 2 * 3 * 5 * 8  # the state, and what it gives out in reverse; the input is read, too
    assert stretched(graph, 0) is graph
    assert lengths(stretched(graph, 24 * 2 * row)) == [24, 24]  # all of it stays near
    assert lengths(stretched(graph, row)) == [24, 24]  # no four steps do
    for steps in (7, 23):  # nothing divides them
        assert lengths(stretched(closed(*network(steps, 3, 5)), 4 * row)) == [steps, steps]
    x, w = gx.symbol("x", ("n", 3, 5), "float64"), gx.symbol("w", (5, 5), "float64")
    last, _ = gx.scan(lambda s, r: (gx.tanh(s @ w + r), None), gx.zeros((3, 5), "float64"), x)
    graph = closed([x, w], [last, *gx.grad(last.sum(), [w])])
    assert len(lengths(stretched(graph, 64))) == 2  # how many steps there are is not known


def test_a_sum_that_needs_another_loop_is_left_to_it() -> None:
    """The product of what two loops give out, where the second needs the first's last state."""
    x = gx.symbol("x", (16, 4, 8), "float64")
    zero = gx.zeros((4, 8), "float64")

    def step(state: Any, row: Any) -> Any:
        state = gx.tanh(state + row)
        return state, state

    last, first = gx.scan(step, zero, x)
    final, second = gx.scan(step, last, x, reverse=True)
    inputs, outputs = [x], [final, gx.einsum("tri,trj->ij", first, second), first.sum(axis=(0, 1))]
    graph = closed(inputs, outputs)
    cut = stretched(graph, 4 * 2 * 4 * 8 * 8)
    assert len(lengths(cut)) > 2
    arrays = values_for(inputs)
    for expected, actual in zip(run_graph(graph, arrays), run_graph(cut, arrays), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled(threads: int) -> None:
    inputs, outputs = network(64, 64, 128, "float32")
    whole = closed(inputs, outputs)
    assert lengths(stretched(whole, NATIVE.kept_bytes)) != lengths(whole)
    f = gx.compile(inputs, outputs, options=gx.Options(threads=threads))
    arrays = values_for(inputs)
    wide = [array.astype("float64") for array in arrays]
    exact = run_graph(closed(*network(64, 64, 128)), wide)
    for expected, actual in zip(exact, f(*arrays), strict=True):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-6 * largest)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_far_away_is_asked_for_a_step_ahead(reverse: bool) -> None:
    far, near = gx.symbol("far", (64, 64, 128), "float32"), gx.symbol("near", (64, 128), "float32")

    def step(state: Any, row: Any) -> Any:
        return gx.tanh(state + row[0] * row[1]), None

    last, _ = gx.scan(step, gx.zeros((64, 128), "float32"), (far, near), reverse=reverse)
    program = lower(expand(closed([far, near], [last])), tactics=NATIVE)
    asked = {buffer.next_step for kernel in program.kernels() for buffer in kernel.buffers}
    assert asked == {0, (-1 if reverse else 1) * 64 * 128 * 4}
    f = gx.compile([far, near], last)
    arrays = values_for([far, near])
    expected = run_graph(closed([far, near], [last]), arrays)[0]
    np.testing.assert_allclose(f(*arrays), expected, rtol=1e-5, atol=1e-6)
