"""Is the size of a graph what its nodes and elements say, and do gradients stay small?"""

from __future__ import annotations

from typing import Any

import pytest

import graphc as gx
from graphc.origin import origins
from graphc.rewrite.size import growth, size_of


def test_operations_are_those_of_elements() -> None:
    x, y = gx.matrix("x", (3, 4)), gx.matrix("y", (4, 5))
    assert size_of([x]).operations == 0 and size_of([x.T]).operations == 0
    assert size_of([x + x]).operations == 12
    assert size_of([x / x]).operations == 12 * 8
    assert size_of([gx.sum(x, axis=0)]).operations == 12
    assert size_of([x @ y]).operations == 2 * 3 * 5 * 4
    assert size_of([x @ y]).nodes == 3
    n = gx.vector("v", "n")
    assert str(size_of([n + n]).operations) == "n"


def test_loops_count_as_often_as_they_run_and_their_bodies_once() -> None:
    x = gx.vector("x", 7)
    last, _ = gx.scan(lambda s, _: (s + s, None), x, gx.vector("steps", 10))
    assert size_of([last]).operations == 10 * 7
    assert size_of([last]).nodes < 10


def build(name: str) -> tuple[gx.Node, list[gx.Node]]:
    x, w = gx.matrix("x", (64, 16)), gx.matrix("w", (16, 8))
    if name == "network":
        return gx.mean(gx.logsumexp(gx.tanh(x @ w) @ w.T, axis=1)), [w]
    if name == "loop":
        first = (gx.zeros((64, 8)), gx.zeros((64, 8)))

        def step(state: Any, _: gx.Node) -> Any:
            hidden, cell = state
            cell = gx.sigmoid(x @ w + hidden) * cell + gx.tanh(x @ w)
            return (gx.tanh(cell), cell), None

        (hidden, _), _ = gx.scan(step, first, gx.zeros(9))
        return gx.sum(hidden * hidden), [w]
    columns = [x[:, i] for i in range(16)]
    total = columns[0]
    for column in columns[1:]:
        total = gx.sin(total) * column + total / (1 + column * column)
    return gx.sum(total), [x]


@pytest.mark.parametrize("name", ["network", "loop", "columns"])
def test_a_gradient_is_at_most_four_times_as_large(name: str) -> None:
    cost, wrt = build(name)
    found = growth([cost, *gx.grad(cost, wrt)])
    assert found is not None
    assert found.nodes <= 4 and found.operations <= 4, str(found)
    assert found.whole.nodes > found.primal.nodes > 5


def test_what_another_gradient_made_of_constants_counts_as_nobodys() -> None:
    u, v = gx.vector("u", 6), gx.vector("v", 6)
    other = gx.grad(gx.sum(u), u)  # ones, which a derivative made first
    cost = gx.sum(gx.tanh(v) * gx.broadcast_to(gx.constant(1.0), 6))
    found = growth([cost, gx.grad(cost, v)])
    assert other.shape == (6,) and found is not None
    assert found.primal.operations == size_of([cost]).operations


def test_composed_ops_count_as_what_they_are_made_of() -> None:
    x, w = gx.symbol("x", (2, 3, 8, 8)), gx.symbol("w", (4, 3, 3, 3))
    y = gx.conv(x, w)
    assert size_of([y]).operations >= 2 * y.size * 3 * 3 * 3


def test_a_report_says_it() -> None:
    x = gx.vector("x", 5)
    cost = gx.sum(gx.tanh(x) ** 2)
    f = gx.compile([x], [cost, gx.grad(cost, x)], options=gx.Options(cache=False))
    # x, tanh, its square and the sum
    assert f.report().growth.primal.nodes == 4
    assert "differentiated: 4 nodes became" in str(f.report())
    plain = gx.compile([x], cost, options=gx.Options(cache=False)).report()
    assert plain.growth is None and "differentiated" not in str(plain)


def test_without_origins_there_is_no_answer() -> None:
    with origins(False):
        y = gx.vector("never seen elsewhere", 3)
        assert growth([gx.grad(gx.sum(y * y * y), y)]) is None
