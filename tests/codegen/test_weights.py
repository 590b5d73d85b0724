"""Do products by matrices that are the same in every step of a loop find them as they want them?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.gemm.microkernel import Tile
from graphc.codegen.llvm.contract import panels_of
from graphc.codegen.loops import Contract, panelled_operand
from graphc.codegen.machine import Machine
from graphc.evaluator import run_graph
from graphc.graph import close


def loop(rows: int, width: int, dtype: str, steps: int = 6, turned: bool = False) -> Any:
    """A loop whose steps multiply by a matrix, its symbols and arguments."""
    x = gx.symbol("x", (steps, rows, width), dtype)
    weights = gx.symbol("w", (width, width), dtype)
    matrix = weights.T if turned else weights

    def step(state: Any, row: Any) -> Any:
        state = gx.tanh(state @ matrix * 0.5 + row)
        return state, state

    last, seen = gx.scan(step, gx.zeros((rows, width), dtype), x)
    random = np.random.default_rng(4)
    given = [random.normal(size=s.shape).astype(dtype) / 8 for s in (x, weights)]
    return [x, weights], [last, seen], given


def read_in_panels(f: Any) -> list[bool]:
    """For every product of a program, whether its right operand lies in panels."""
    nests = [kernel.nest for kernel in f.kernels]
    products = [nest for nest in nests if isinstance(nest, Contract)]
    found = [panels_of(nest, Machine.host()) is not None for nest in products]
    assert found == [panelled_operand(nest) is not None for nest in products]
    return found


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [5, 13, 70])
def test_matrices_of_a_loop_lie_in_panels(rows: int, dtype: str, turned: bool) -> None:
    inputs, outputs, given = loop(rows, 384, dtype, turned=turned)
    f = gx.compile(inputs, outputs)
    assert read_in_panels(f) == [True]
    graph, _ = close(inputs, outputs)
    bound = 1e-5 if dtype == "float32" else 1e-13
    for got, want in zip(f(*given), run_graph(graph, given), strict=True):
        np.testing.assert_allclose(got, want, atol=bound)
    single = gx.compile(inputs, outputs, options=gx.Options(threads=1))
    for got, want in zip(f(*given), single(*given), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("rows", "width", "steps"),
    [(32, 384, 3), (4, 384, 6), (32, 64, 6), (40, 201, 6), ("n", 384, 6)],
    ids=["few steps", "few rows", "short", "parts of a panel", "unknown rows"],
)
def test_others_stay_as_they_are(rows: Any, width: int, steps: int) -> None:
    """Where a copy would cost what it saves, or products have other ways."""
    inputs, outputs, given = loop(5 if rows == "n" else rows, width, "float32", steps)
    if rows == "n":
        x = gx.symbol("x", (steps, "n", width), "float32")
        start = x[0] * 0
        last, seen = gx.scan(
            lambda s, row: (gx.tanh(s @ inputs[1] * 0.5 + row),) * 2, start, x
        )
        inputs, outputs = [x, inputs[1]], [last, seen]
    f = gx.compile(inputs, outputs)
    assert not any(read_in_panels(f))
    graph, _ = close(inputs, outputs)
    for got, want in zip(f(*given), run_graph(graph, given), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_gradients_read_panels_in_both_loops() -> None:
    """The reverse loop multiplies by the transposed matrix, the first by the matrix itself."""
    inputs, outputs, given = loop(24, 384, "float32")
    cost = (outputs[0] * outputs[0]).sum()
    results = [cost, *gx.grad(cost, inputs)]
    f = gx.compile(inputs, results)
    assert sum(read_in_panels(f)) == 2
    graph, _ = close(inputs, results)
    for got, want in zip(f(*given), run_graph(graph, given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_what_is_read_in_panels_by_hand() -> None:
    """A view of an array in panels is read as those, if they are as wide as this machine's."""
    width = Tile.of("float32", Machine.host()).columns
    for wide in (width, 2 * width):
        x = gx.symbol("x", (40, 96), "float32")
        panels = gx.symbol("p", (20, 96, wide), "float32")
        y = x @ gx.reshape(gx.transpose(panels, (1, 0, 2)), (96, 20 * wide))
        f = gx.compile([x, panels], y)
        found = [panels_of(kernel.nest, Machine.host()) is not None for kernel in f.kernels]
        assert found == [wide == width]
        random = np.random.default_rng(5)
        a = random.normal(size=(40, 96)).astype("f4")
        b = random.normal(size=(20, 96, wide)).astype("f4")
        want = a @ b.transpose(1, 0, 2).reshape(96, -1)
        np.testing.assert_allclose(f(a, b), want, atol=1e-4)
