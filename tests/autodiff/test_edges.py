"""What are derivatives at ties, at zero, at the ends of domains and behind masks?

One table, held to by reverse mode, forward mode and compiled code: where a function has a kink the
derivative is the one that its op states, the same in every mode.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.lowering import Elementwise
from graphc.node import topological
from graphc.op import REGISTRY, Partials

OPTIONS = gx.Options(cache=False)
INF = float("inf")
X = gx.vector("x", 3)
ZERO = (0.0, 0.0, 0.0)
Entry = tuple[Callable[[Any], Any], tuple[float, ...], tuple[float, ...]]
LENGTHS: dict[str, Callable[[Any], Any]] = {
    "sqrt of a sum of squares": lambda x: gx.sqrt(gx.sum(x * x)),
    "root mean square": lambda x: gx.sqrt(gx.mean(x**2)),
    "sqrt of a product": lambda x: gx.sqrt(x @ x),
    "sqrt of squares": lambda x: gx.sqrt(x * x),
    "a few squares": lambda x: gx.sqrt(x[0] ** 2 + 2 * gx.square(x[1]) - x[2] ** 2 / -3),
    "a power of a sum of powers": lambda x: gx.sum(abs(x) ** 3) ** (1 / 3),
    "by axes": lambda x: gx.sqrt(gx.sum(gx.stack([x, x * 2]) ** 2, axis=1)),
    "norm": gx.linalg.norm,
    "norm of order 3": lambda x: gx.linalg.norm(x, 3),
    "largest": lambda x: gx.linalg.norm(x, INF),
    "std": gx.std,
    "hypot": lambda x: gx.hypot(x, 2 * x),
    "abs": gx.abs,
}
TABLE: dict[str, Entry] = {
    **{name: (f, ZERO, ZERO) for name, f in LENGTHS.items()},
    "a root behind a length": (lambda x: gx.sqrt(x), (0.0, 1.0, 4.0), (INF, 0.5, 0.25)),
    "a length that is not 0": (lambda x: gx.sqrt(gx.sum(x * x)), (3.0, 4.0, 0.0), (0.6, 0.8, 0.0)),
    "a sum that is kept above 0": (lambda x: x / gx.sqrt(gx.sum(x * x) + 0.25), ZERO, (2, 2, 2)),
    "x to the 2.5": (lambda x: x**2.5, ZERO, ZERO),
    "x to the 0": (lambda x: x**0, ZERO, ZERO),
    "x to the 1": (lambda x: x**1.0, ZERO, (1, 1, 1)),
    "0 to the y": (lambda x: gx.zeros(3) ** x, (1.0, 2.0, 3.0), ZERO),
    "largest of two": (gx.max, (1.0, 1.0, 0.0), (0.5, 0.5, 0)),
    "the larger": (lambda x: gx.maximum(x, 1.0), (0.0, 1.0, 2.0), (0, 0.5, 1)),
    "clip": (lambda x: gx.clip(x, 0, 1), (0.0, 0.5, 1.0), (0.5, 1, 0.5)),
    "relu": (gx.relu, (0.0, 1.0, -1.0), (0, 1, 0)),
    "sign": (gx.sign, (0.0, 1.0, -1.0), ZERO),
    "logsumexp of equals": (gx.logsumexp, ZERO, (1 / 3, 1 / 3, 1 / 3)),
    "logsumexp beside nothing": (gx.logsumexp, (-INF, 1.0, 1.0), (0, 0.5, 0.5)),
    "logaddexp of equal infinities": (
        lambda x: gx.logaddexp(x, x[::-1]), (-INF, 1.0, -INF), (1, 1, 1)
    ),
    "log_softmax beside nothing": (
        lambda x: gx.log_softmax(x)[1], (-INF, 1.0, 1.0), (0, 0.5, -0.5)
    ),
    "product with one zero": (gx.prod, (0.0, 2.0, 3.0), (6, 0, 0)),
    "product with two": (gx.prod, (0.0, 0.0, 3.0), ZERO),
    "sorted equals": (lambda x: gx.sort(x) * gx.constant([1.0, 2, 3]), (1.0, 1.0, 0.0), (2, 3, 1)),
    "masked log": (lambda x: gx.where(x > 0, gx.log(x), 0.0), (-1.0, 0.0, 2.0), (0, 0, 0.5)),
    "masked root": (
        lambda x: gx.where(x > 0, 1 / gx.sqrt(x), x), (-1.0, 0.0, 4.0), (1, 1, -1 / 16)
    ),
    "masked length": (lambda x: gx.where(gx.sum(x) > 0, gx.sqrt(gx.sum(x * x)), 0.0), ZERO, ZERO),
    "arcsin at its ends": (gx.arcsin, (-1.0, 0.0, 1.0), (INF, 1, INF)),
    "cbrt": (gx.cbrt, (0.0, 1.0, -8.0), (INF, 1 / 3, 1 / 12)),
    "sinc": (gx.sinc, ZERO, ZERO),
    "i1": (gx.i1, ZERO, (0.5, 0.5, 0.5)),
}


@pytest.mark.parametrize("name", TABLE)
def test_derivatives_at_the_edge(name: str) -> None:
    function, point, wanted = TABLE[name]
    array = np.array(point)
    cost = gx.sum(function(X))
    reverse = gx.grad(cost, X)
    forward = gx.jacobian(cost, X, mode="forward")
    compiled = gx.compile([X], [reverse, forward], options=OPTIONS)(array)
    with np.errstate(all="ignore"):
        evaluated = gx.evaluate([reverse, forward], {X: array})
    for found in (*evaluated, *compiled):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", LENGTHS)
def test_beside_the_edge_the_derivative_is_what_differences_say(name: str) -> None:
    assert gx.check_grad(gx.sum(LENGTHS[name](X)), [X], {X: np.array([0.7, -1.3, 2.1])})


def test_the_second_derivative_of_a_length_is_infinite_at_zero_and_right_elsewhere() -> None:
    made = gx.hessian(gx.sqrt(gx.sum(X * X)), X)
    with np.errstate(all="ignore"):
        assert np.isinf(np.diag(gx.evaluate(made, {X: np.zeros(3)}))).all()
    point = np.array([3.0, 4.0, 0.0])
    wanted = np.eye(3) / 5 - np.outer(point, point) / 125
    np.testing.assert_allclose(gx.evaluate(made, {X: point}), wanted, atol=1e-15)


def test_a_sum_with_a_number_costs_no_further_choice() -> None:
    """A root of what is not 0 is differentiated by plain products: layers of networks have many."""
    for added, strong in ((1e-6, False), (0.0, True)):
        made = gx.grad(gx.sqrt(gx.sum(X**2) + added), X)
        products = [n for n in topological([made]) if n.op.name == "strong_multiply"]
        assert any(n.args[1] is X + X for n in products) == strong

# -- over the registry -----------------------------------------------------------------------------

EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 1e-300, INF, -INF)


def _smooth_ops() -> list[str]:
    """Element-wise ops with partials, of floats alone and without attributes."""
    found = []
    for name in REGISTRY:
        op = REGISTRY[name]
        form, derivative = op.lowering, op.derivative
        if isinstance(form, Elementwise) and isinstance(derivative, Partials) and not op.attributes:
            arity = len(inspect.signature(form.kernel).parameters) - 1
            try:
                type_ = op.infer(*[gx.Type("float64", (1,))] * arity)
            except gx.GraphError:
                continue
            if isinstance(type_, gx.Type) and type_.dtype == np.float64:
                found.append(name)
    return sorted(found)


@pytest.mark.parametrize("name", _smooth_ops())
def test_at_edges_both_modes_agree_and_zero_stays_zero(name: str) -> None:
    """Whatever the partial is there; a cotangent of zero is what a mask hands on."""
    op = REGISTRY[name]
    arity = len(inspect.signature(op.lowering.kernel).parameters) - 1
    points = np.array(list(itertools.product(EDGES, repeat=arity))).T.copy()
    symbols = [gx.vector(f"edge{i}", points.shape[1]) for i in range(arity)]
    given = dict(zip(symbols, points, strict=True))
    y = op(*symbols)
    one, none = gx.ones(y.shape), gx.zeros(y.shape)
    with np.errstate(all="ignore"):
        for i, symbol in enumerate(symbols):
            back, forth, masked = gx.evaluate(
                [gx.vjp(y, symbol, one), gx.jvp(y, symbol, one), gx.vjp(y, symbol, none)], given
            )
            np.testing.assert_array_equal(back, forth)
            declared = i in op.derivative.singular
            finite = np.isfinite(back)
            assert (masked[finite] == 0).all()
            if declared:
                assert (masked == 0).all()
            else:  # what is not declared is finite wherever the arguments and the value are
                inside = np.isfinite(points).all(0) & np.isfinite(gx.evaluate(y, given))
                assert finite[inside].all(), points[:, inside & ~finite]
