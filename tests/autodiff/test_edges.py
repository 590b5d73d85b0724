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
    "gelu and its ends": (gx.gelu, (-INF, 0.0, INF), (0, 0.5, 1)),
    "ndtr and its ends": (lambda x: x - gx.ndtr(x), (-INF, INF, 50.0), (1, 1, 1)),
    "logsumexp of equals": (gx.logsumexp, ZERO, (1 / 3, 1 / 3, 1 / 3)),
    "logsumexp beside nothing": (gx.logsumexp, (-INF, 1.0, 1.0), (0, 0.5, 0.5)),
    "logsumexp of nothing": (gx.logsumexp, (-INF, -INF, -INF), (1 / 3, 1 / 3, 1 / 3)),
    "logsumexp with an infinity": (gx.logsumexp, (INF, 1.0, -INF), (1, 0, 0)),
    "logsumexp of infinities": (gx.logsumexp, (INF, 1.0, INF), (0.5, 0, 0.5)),
    "logsumexp of weighted infinities": (
        lambda x: gx.logsumexp(x, b=gx.constant([1.0, 0.0, 3.0])), (INF, INF, INF), (0.25, 0, 0.75)
    ),
    "logaddexp of equal infinities": (
        lambda x: gx.logaddexp(x, x[::-1]), (-INF, 1.0, -INF), (1, 1, 1)
    ),
    "logaddexp2 of equal infinities": (
        lambda x: gx.logaddexp2(x, x[::-1]), (INF, 1.0, INF), (1, 1, 1)
    ),
    "logcumsumexp with infinities": (gx.logcumsumexp, (-INF, INF, 1.0), (1, 2, 0)),
    "xlogy by both at 0": (lambda x: gx.xlogy(x[0], x[1]), ZERO, (-INF, 0, 0)),
    "xlogy at 0 and 2": (lambda x: gx.xlogy(x[0], x[1]), (0.0, 2.0, 0.0), (np.log(2), 0, 0)),
    "xlog1py at 0 and -1": (lambda x: gx.xlog1py(x[0], x[1]), (0.0, -1.0, 0.0), (-INF, 0, 0)),
    "entropy of what may be 0": (
        lambda x: -gx.xlogy(x, x), (0.0, 1.0, 0.5), (INF, -1, np.log(2) - 1)
    ),
    "x to the y at 0": (lambda x: x[0] ** x[1], (0.0, 0.0, 0.0), (0, -INF, 0)),
    "x to the y at 0 and 1": (lambda x: x[0] ** x[1], (0.0, 1.0, 0.0), (1, 0, 0)),
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


# The Hessian of a sum at a point. At a kink the first derivative is taken as constant.
SECOND: dict[str, Entry] = {
    "abs": (gx.abs, (0.0, 1.0, -1.0), np.zeros((3, 3))),
    "relu": (gx.relu, (0.0, 1.0, -1.0), np.zeros((3, 3))),
    "largest of two": (gx.max, (1.0, 1.0, 0.0), np.zeros((3, 3))),
    "the larger": (lambda x: gx.maximum(x, 1.0), (0.0, 1.0, 2.0), np.zeros((3, 3))),
    "square root": (gx.sqrt, (0.0, 1.0, 4.0), np.diag([-INF, -0.25, -1 / 32])),
    "cube root": (gx.cbrt, (0.0, 1.0, -8.0), np.diag([-INF, -2 / 9, 2 / 288])),
    "x to the 2.5": (lambda x: x**2.5, (0.0, 1.0, 4.0), np.diag([0, 3.75, 7.5])),
    "x to the 1.5": (lambda x: x**1.5, (0.0, 1.0, 4.0), np.diag([INF, 0.75, 0.375])),
    "x to the y": (
        lambda x: x[0] ** x[1], (0.0, 2.0, 0.0), np.array([[2.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    ),
    "cube of the norm": (lambda x: gx.linalg.norm(x) ** 3, ZERO, np.zeros((3, 3))),
    "product": (gx.prod, (0.0, 0.0, 3.0), np.array([[0.0, 3, 0], [3, 0, 0], [0, 0, 0]])),
    "masked log": (lambda x: gx.where(x > 0, gx.log(x), 0.0), (-1, 0.0, 2), np.diag([0, 0, -0.25])),
    "masked root": (
        lambda x: gx.where(x > 0, gx.sqrt(x), x * x), (-1.0, 0.0, 4.0), np.diag([2, 2, -1 / 32])
    ),
    "product with one zero": (
        gx.prod, (0.0, 2.0, 3.0), np.array([[0.0, 3, 2], [3, 0, 0], [2, 0, 0]])
    ),
    "masked NaN": (
        lambda x: gx.where(x > 0, gx.exp(gx.sin(gx.log(x))), x * x), (-1.0, 0.0, 1.0),
        np.diag([2.0, 2, 0]),
    ),
    "logsumexp of equals": (gx.logsumexp, ZERO, np.eye(3) / 3 - 1 / 9),
    "logsumexp of nothing": (gx.logsumexp, (-INF, -INF, -INF), np.eye(3) / 3 - 1 / 9),
    "logsumexp with an infinity": (gx.logsumexp, (INF, 1.0, 0.0), np.zeros((3, 3))),
    "logaddexp of equals": (
        lambda x: gx.logaddexp(x[0], x[1]), (1.0, 1.0, 0.0),
        np.array([[0.25, -0.25, 0], [-0.25, 0.25, 0], [0, 0, 0]]),
    ),
    "logaddexp2 of equals": (
        lambda x: gx.logaddexp2(x[0], x[1]) / np.log(2), (1.0, 1.0, 0.0),
        np.array([[0.25, -0.25, 0], [-0.25, 0.25, 0], [0, 0, 0]]),
    ),
    "xlogy at 0": (
        lambda x: gx.xlogy(x[0], x[1]), (0.0, 2.0, 0.0),
        np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]),
    ),
    "xlogy at 0 and 0": (
        lambda x: gx.xlogy(x[0], x[1]), ZERO, np.array([[0, INF, 0], [INF, 0, 0], [0, 0, 0]])
    ),
    "xlog1py at 0": (
        lambda x: gx.xlog1py(x[0], x[1]), (0.0, 1.0, 0.0),
        np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]),
    ),
    "sinc": (gx.sinc, ZERO, np.diag([-np.pi**2 / 3] * 3)),
    "i1": (gx.i1, ZERO, np.zeros((3, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_at_the_edge(name: str) -> None:
    """Forward over reverse, reverse over reverse, reverse over forward, forward over forward."""
    function, point, wanted = SECOND[name]
    array = np.array(point)
    cost = gx.sum(function(X))
    slope, forward = gx.grad(cost, X), gx.jacobian(cost, X, mode="forward")
    made = [gx.jacobian(s, X, mode=m) for s in (slope, forward) for m in ("forward", "reverse")]
    compiled = gx.compile([X], made, options=OPTIONS)(array)
    with np.errstate(all="ignore"):
        evaluated = gx.evaluate(made, {X: array})
    for found in (*evaluated, *compiled):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("exponent", [0.5, 1.5, 2.5, 1 / 3, 70.5, -1.5])
def test_taylor_coefficients_of_a_power_at_zero_are_those_of_nested_derivatives(
    exponent: float,
) -> None:
    x = gx.vector("x", 2)
    along = np.array([1.0, 0.0])
    made = gx.taylor(x**exponent, x, along, 5)
    nested = [x**exponent]
    for order in range(1, 6):
        nested.append(gx.jvp(nested[-1] * order, x, along) / order**2)
    point = np.zeros(2)
    with np.errstate(all="ignore"):
        found, wanted = gx.evaluate([made, nested], {x: point})
    np.testing.assert_array_equal(found, wanted)
    assert not np.isnan(found).any()


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


# What differs at second order: beyond the domain, where a square of 1e-300 underflows, and 0 ** y
# for 0 < y < 1, which is the difference of two infinities one way and one of them the other.
_APART = {
    "arccosh": lambda x: x < 1,
    "logit": lambda x: x == 1e-300,
    "arctan2": lambda y, x: (abs(x) < 1e-200) & (abs(y) < 1e-200),
    "power": lambda x, y: (x == 0) & (y > 0) & (y < 1) | (x < 0),
}


@pytest.mark.parametrize("name", _smooth_ops())
def test_at_edges_the_ways_to_second_derivatives_agree(name: str) -> None:
    op = REGISTRY[name]
    arity = len(inspect.signature(op.lowering.kernel).parameters) - 1
    points = np.array(list(itertools.product(EDGES, repeat=arity))).T.copy()
    symbols = [gx.vector(f"edge{i}", points.shape[1]) for i in range(arity)]
    given = dict(zip(symbols, points, strict=True))
    y = op(*symbols)
    one = gx.ones(y.shape)
    with np.errstate(all="ignore"):
        inside = np.isfinite(points).all(0) & np.isfinite(gx.evaluate(y, given))
        inside &= ~_APART.get(name, lambda *_: np.zeros(points.shape[1], bool))(*points)
        for first, second in itertools.product(symbols, repeat=2):
            slope, forth = gx.grad(gx.sum(y), first), gx.jvp(y, first, one)
            mixed = gx.jvp(gx.jvp(y, second, one), first, one)
            ways = gx.evaluate(
                [
                    gx.jvp(slope, second, one),
                    gx.grad(gx.sum(slope), second),
                    gx.grad(gx.sum(forth), second),
                    gx.jvp(forth, second, one),
                    mixed,
                ],
                given,
            )
            for found in ways[1:]:
                np.testing.assert_allclose(found[inside], ways[0][inside], rtol=1e-12, atol=1e-300)
            if name != "power":
                assert not np.isnan(ways[0][inside]).any()


def test_factors_at_positions_have_second_derivatives_or_none_but_no_wrong_ones() -> None:
    """Beside a factor of 0 the second derivative of a product at positions is NaN, never 0."""
    positions = np.array([0, 0, 1, 1])
    x = gx.vector("x", 4)
    slope = gx.grad(gx.sum(gx.at(gx.ones(2))[positions].multiply(x)), x)
    made = [slope, gx.jacobian(slope, x, mode="forward"), gx.jacobian(slope, x, mode="reverse")]
    compiled = gx.compile(x, made, options=OPTIONS)
    for point in (np.array([2.0, 3, 4, 5]), np.array([0.0, 3, 4, 5])):
        with np.errstate(all="ignore"):
            evaluated = gx.evaluate(made, {x: point})
        for first, *second in (evaluated, compiled(point)):
            np.testing.assert_array_equal(first, point[[1, 0, 3, 2]])
            for matrix in second:
                whole = np.kron(np.eye(2), np.ones((2, 2)))
                if point[0] == 0:
                    assert np.isnan(matrix[:2, :2]).all()
                    matrix, whole = matrix[2:, 2:], whole[2:, 2:]
                np.testing.assert_allclose(matrix, whole - np.eye(len(whole)), atol=1e-15)


def test_a_masked_product_of_vectors_is_zero_in_directions() -> None:
    v = gx.vector("v", 3)
    cost = gx.where(gx.sum(X) > 9, gx.log(X) @ gx.exp(gx.log(X)), X @ X)
    slope = gx.grad(cost, X)
    made = [gx.hvp(cost, X, v), gx.grad(slope @ v, X), gx.jvp(gx.jvp(cost, X, v), X, v)]
    point, along = np.array([-1.0, 0.0, 1.0]), np.array([1.0, -2.0, 3.0])
    with np.errstate(all="ignore"):
        found = gx.evaluate(made, {X: point, v: along})
    for got, wanted in zip(found, (2 * along, 2 * along, 2 * along @ along), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("combiner", ["mul", "logaddexp"])
def test_a_masked_running_combination_is_zero(combiner: str, reverse: bool) -> None:
    def running(x: Any) -> Any:
        return gx.cumulate(gx.log(x), combiner, 0, reverse=reverse)

    all_masked = gx.sum(gx.where(X[0] > 0, running(X), X))
    kept = gx.constant([not reverse, False, reverse])
    one_kept = gx.sum(gx.where(kept, running(X), 0))
    alone = gx.sum(gx.where(kept, gx.log(X), 0))
    made = [gx.grad(c, X) for c in (all_masked, one_kept, alone)]
    point = {X: np.array([-1.0, -1.0, 2.0] if reverse else [2.0, -1.0, -1.0])}
    with np.errstate(all="ignore"):
        _, one, single = gx.evaluate(made, point)
        none, _, _ = gx.evaluate(made, {X: np.array([-1.0, 0.0, 2.0])})
    np.testing.assert_array_equal(none, np.ones(3))
    np.testing.assert_array_equal(one, single)


def test_a_choice_in_front_of_a_product_keeps_its_gradient_zero() -> None:
    matrix = gx.matrix("m", (3, 3))
    above = X[0] > 0
    cost = gx.sum(gx.where(above, matrix @ gx.log(gx.where(above, X, 1)), 0))
    made = gx.grad(cost, [matrix, X])
    for found in gx.evaluate(made, {X: np.array([-1.0, -2.0, 3.0]), matrix: np.ones((3, 3))}):
        np.testing.assert_array_equal(found, np.zeros(found.shape))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_pole_of_one_element_leaves_the_derivatives_by_others_zero(mode: str) -> None:
    x = gx.vector("x", 2)
    jacobian = gx.compile(x, gx.jacobian(gx.tanh(1 / x), x, mode=mode), options=OPTIONS)
    answer = jacobian(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(answer[[0, 1], [1, 0]], 0.0)


def test_masks_and_choices_keep_a_direction_zero_at_poles() -> None:
    x, y, chosen = (gx.vector(name, 3) for name in ("x", "y", "chosen"))
    mask = gx.cast(chosen > 0, "float64")
    masked = [mask * x, gx.where(chosen > 0, x, 0.0), gx.maximum(x * mask, 0.0), y + mask * x]
    opposite, turned = 1 - gx.cast(chosen <= 0, "float64"), gx.reshape(gx.reshape(mask, (3, 1)), 3)
    masked += [each * x for each in (opposite, turned, -mask, mask * mask)]
    for made in (*masked, x / (1 / mask), gx.stack([mask, mask])[0] * x):
        slope = gx.jvp(gx.tanh(1 / made), x, gx.ones_like(x))
        given = {x: np.ones(3), y: np.zeros(3), chosen: np.array([0.0, 1.0, 0.0])}
        np.testing.assert_array_equal(gx.evaluate(slope, given)[[0, 2]], 0.0)


def test_quotients_by_what_moves_are_plain_products() -> None:
    a, b = gx.scalar("a"), gx.scalar("b")
    slope = gx.jvp(gx.sin(a * b) / (b * b + 2.0), b, gx.ones_like(b))
    assert all(node.op.name != "strong_multiply" for node in topological([slope]))
    chosen = gx.jvp(gx.sin(a) / gx.maximum(b, 1.0), b, gx.ones_like(b))
    assert any(node.op.name == "strong_multiply" for node in topological([chosen]))


def test_a_divisor_of_a_row_is_inverted_once_for_its_gradient() -> None:
    """Quotients of all elements are those of the value; the gradient has products."""
    x, seed = gx.matrix("x", (3, 5)), gx.matrix("seed", (3, 5))
    rate = gx.sqrt(gx.mean(x * x, axis=1, keepdims=True))
    for made in (gx.softmax(x, axis=1), x / rate, x / gx.sum(x)):
        graph = topological([made, *gx.vjp(made, [x], seed)])
        quotients = [n for n in graph if n.op.name == "divide" and n.shape == x.shape]
        assert sum(n.args[0].op.name != "broadcast" for n in quotients) == 1


def test_the_gradient_by_a_divisor_of_a_row_is_zero_where_the_quotient_is() -> None:
    """Even if the inverse of the divisor overflows; elsewhere it is what the quotient's is."""
    x, y = gx.vector("x", 3), gx.scalar("y")
    slope = gx.jvp(x / y, y, gx.ones_like(y))
    tiny = np.array(5e-324)
    given = np.array([0.0, 1.0, -2.0])
    np.testing.assert_array_equal(gx.evaluate(slope, {x: given, y: tiny}), [0.0, -np.inf, np.inf])
    compiled = gx.compile([x, y], slope, options=OPTIONS)
    np.testing.assert_array_equal(compiled(given, tiny), [0.0, -np.inf, np.inf])
    for divisor in (3.0, -1e200, 1e300, 1e-150):
        found = compiled(given, np.array(divisor))
        np.testing.assert_allclose(found, -(given / divisor) / divisor, rtol=1e-15)
