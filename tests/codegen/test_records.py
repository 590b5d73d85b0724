"""Do loops that hand on records compute what they did, and do they hand on records at all?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.passes import records
from graphc.codegen.passes.records import with_records
from graphc.graph import Graph, close
from graphc.node import Node, topological
from graphc.rewrite import rewrite


def network(steps: int, shape: tuple[int, ...], dtype: str = "float64", reverse: bool = False
            ) -> tuple[list[Node], list[Node]]:  # fmt: skip
    """A recurrence in several layers, its gradients, and something of what it gave out."""
    weights = [gx.symbol(f"w{i}", shape, dtype) for i in range(6)]
    rows = gx.symbol("rows", (steps, *shape), dtype)
    zero = gx.zeros(shape, dtype)

    def step(states: Any, row: Any) -> Any:
        new, x = [], row
        for i, (state, (a, b)) in enumerate(
            zip(states, zip(weights[::2], weights[1::2], strict=True), strict=True)
        ):
            gate = gx.sigmoid(x * a + state * b)
            x = gx.tanh(gate * state + x * float(i + 1))
            new.append(x + 0.5 * state)
        return tuple(new), (x, x * x)

    _, (seen, squares) = gx.scan(step, (zero, zero, zero), rows, reverse=reverse)
    cost = gx.sum(seen * seen) + gx.sum(gx.exp(-squares[::2]))
    return [*weights, rows], [cost, *gx.grad(cost, [*weights, rows]), squares]


def handed_on(outputs: list[Node]) -> tuple[int, int]:
    """The arrays that loops read row by row, before and after."""
    order = [n for n in topological(outputs) if n.op.name == "symbol"]
    graph, _ = close(order, rewrite(outputs).outputs)

    def count(found: Graph) -> int:
        return sum(n.attrs["steps"] for n in found.nodes() if n.op.name == "scan")

    return count(graph), count(with_records(graph))


def test_long_loops_of_short_rows_hand_on_records() -> None:
    before, after = handed_on(network(100, (14,))[1])
    assert before > 12 and after <= before - 6
    for steps, width in ((records.LEAST_STEPS - 1, 14), (100, 2), (100, 3000)):
        before, after = handed_on(network(steps, (width,))[1])
        assert after == before


@pytest.mark.parametrize("target", ["cpu", "interpret"])
@pytest.mark.parametrize(
    ("steps", "shape", "dtype", "reverse"),
    [
        (7, (5,), "float64", False),
        (7, (5,), "float64", True),
        (4, (2, 3), "float32", False),
        (1, (3,), "float64", False),
        (0, (3,), "float64", False),
    ],
)
def test_values_stay(
    target: str, steps: int, shape: tuple[int, ...], dtype: str, reverse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, number in (("LEAST_STEPS", 0), ("FEW_STREAMS", 1), ("LEAST_BYTES", 1)):
        monkeypatch.setattr(records, name, number)
    inputs, outputs = network(steps, shape, dtype, reverse)
    if steps > 1:
        before, after = handed_on(outputs)
        assert after < before
    generator = np.random.default_rng(steps)
    arrays = [generator.normal(size=n.shape).astype(dtype) for n in inputs]
    options = gx.Options(cache=False)
    found = gx.compile(inputs, outputs, target=target, options=options)(*arrays)
    wanted = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    bound = 1e-12 if dtype == "float64" else 1e-4
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=bound, atol=bound)
