"""Does a gradient within a memory budget keep what it says, and give the same values?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.autodiff.rematerialise import _Problem
from graphc.graph import placeholder

OPTIONS = gx.Options(cache=False)
ROWS, WIDTH, LAYERS = 64, 32, 16
ONE = ROWS * WIDTH * 8  # bytes of the values between two layers

X = gx.matrix("x", (ROWS, WIDTH))
WEIGHTS = [gx.matrix(f"w{i}", (WIDTH, WIDTH)) for i in range(LAYERS)]


def chain() -> Any:
    h = X
    for weight in WEIGHTS:
        h = gx.tanh(h @ weight) + h
    return (h * h).mean()


def kept(gradient: Any) -> list[Any]:
    """The arguments of the backward call that are no inputs."""
    call = gradient.args[0]
    assert call.attrs["name"] == "backward"
    return [argument for argument in call.args if argument.op.name != "symbol"]


def size_of(nodes: Sequence[Any]) -> int:
    return sum(node.size * node.dtype.itemsize for node in nodes)


def arena(outputs: Any, inputs: Any) -> int:
    return int(gx.compile(inputs, outputs, options=OPTIONS).report().arena_bytes)


def test_the_budget_is_kept_and_the_peak_falls() -> None:
    cost, inputs = chain(), [X, WEIGHTS]
    plain = arena([cost, gx.grad(cost, WEIGHTS)], inputs)
    peaks = []
    for memory in (16 * ONE, 8 * ONE, 4 * ONE):
        gradients = gx.grad(cost, WEIGHTS, memory=memory)
        assert 0 < size_of(kept(gradients[0])) <= memory
        peaks.append(arena([cost, gradients], inputs))
    assert plain > 2 * LAYERS * ONE and peaks[0] < 0.8 * plain and peaks[2] < 0.6 * plain


def test_values_are_the_same_whatever_is_kept() -> None:
    cost = chain()
    random = np.random.default_rng(0)
    arrays = [random.uniform(-0.4, 0.4, node.shape) for node in (X, *WEIGHTS)]
    given = dict(zip((X, *WEIGHTS), arrays, strict=True))
    wanted = gx.evaluate(gx.grad(cost, [X, WEIGHTS[5]]), given)
    for memory in (1.0, 0.3, 0.1, 0):
        outputs = gx.grad(cost, [X, WEIGHTS[5]], memory=memory)
        compiled = gx.compile([X, *WEIGHTS], outputs, options=OPTIONS)(*arrays)
        for found in (gx.evaluate(outputs, given), compiled):
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_what_is_cheap_is_computed_again_and_what_is_dear_is_kept() -> None:
    """Half of the bytes are those of products; the element-wise values follow from them."""
    h, values = X, []
    for weight in WEIGHTS[:4]:
        values.append(h @ weight)
        h = gx.exp(gx.sin(values[-1]))
    cost = h.sum()
    held = kept(gx.grad(cost, WEIGHTS[:4], memory=0.5)[0])
    assert held and all(
        any(node is value for value in values) or node.op.name in ("sin", "exp") for node in held
    )
    assert not any(node.op.name in ("cos", "multiply") for node in held)


def test_a_cut_costs_least_among_all_that_are_as_small() -> None:
    """Every choice of what to keep, for a graph small enough to try all."""
    x = gx.vector("x", 10)
    a = gx.exp(x)
    b = gx.sum(a) * a
    c = gx.tanh(b) * a
    cost = (gx.sin(c) * b).sum()
    seed = placeholder(cost.type)
    gradient = gx.vjp(cost, x, seed)
    problem = _Problem.of(cost, [gradient], seed)

    def operations(held: frozenset[Any]) -> int:
        seen, stack = set(held), [n for n in problem.read if n not in held]
        seen.update(stack)
        total = 0
        while stack:
            node = stack.pop()
            total += problem.operations[node]
            fresh = [n for n in node.args if n in problem.bytes and n not in seen]
            seen.update(fresh)
            stack += fresh
        return total

    count = len(problem.order)
    assert count <= 16
    every = [
        frozenset(node for i, node in enumerate(problem.order) if bits >> i & 1)
        for bits in range(2**count)
    ]
    costs = [(problem.size(held), operations(held)) for held in every]
    for price in (0.01, 0.2, 1.0, 5.0):
        held = frozenset(problem._cut(price, ()))
        best = min(size * price + work for size, work in costs)
        assert problem.size(held) * price + operations(held) == pytest.approx(best, rel=1e-2)


def test_higher_derivatives_and_containers() -> None:
    x = gx.vector("x", 4)
    cost = (gx.exp(gx.sin(x)) * x[::-1]).sum()
    point = {x: np.array([0.3, 0.9, -0.4, 1.2])}
    value, found = gx.value_and_grad(cost, {"x": x}, memory=0.0)
    a, b = gx.evaluate([gx.grad(found["x"].sum(), x), gx.grad(gx.grad(cost, x).sum(), x)], point)
    np.testing.assert_allclose(a, b, rtol=1e-12)
    assert value is cost


def test_loops_and_extents_that_are_not_known() -> None:
    steps = gx.matrix("steps", ("n", 4))
    start = gx.exp(gx.sin(steps)).sum(axis=0)
    final, rows = gx.scan(lambda s, r: (gx.tanh(s * r), s * r), start, steps)
    cost = (final * final).sum() + (rows * gx.log1p(rows * rows)).sum()
    values = np.random.default_rng(1).uniform(0.5, 1.5, (6, 4))
    wanted = gx.evaluate(gx.grad(cost, steps), {steps: values})
    for part in (0.5, 0.0):
        gradient = gx.grad(cost, steps, memory=part)
        f = gx.compile([steps], gradient, options=OPTIONS)
        np.testing.assert_allclose(f(values), wanted, rtol=1e-10)
    with pytest.raises(gx.GraphError, match="known extents"):
        gx.grad(cost, steps, memory=100)


@pytest.mark.parametrize("memory", [-1, 1.5, "all", True])
def test_what_is_no_budget(memory: Any) -> None:
    with pytest.raises(gx.GraphError, match="number of bytes"):
        gx.grad(X.sum(), X, memory=memory)
