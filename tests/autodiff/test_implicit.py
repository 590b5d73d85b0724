"""Are equations solved within a graph, and do solutions move as the implicit function says?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GraphError

OPTIONS = gx.Options(cache=False, threads=1)
a = gx.scalar("a")
theta = gx.vector("theta", 2)


def square_root(a: Any) -> Any:
    return gx.root(lambda x, a: x * x - a, gx.constant(1.0), a)


def test_a_square_root_to_the_third_order() -> None:
    orders = [square_root(a)]
    for _ in range(3):
        orders.append(gx.grad(orders[-1], a))
    found = gx.compile(a, orders, options=OPTIONS)(2.0)
    want = [2**0.5, 0.5 * 2**-0.5, -0.25 * 2**-1.5, 0.375 * 2**-2.5]
    np.testing.assert_allclose(found, want, 1e-13)


def test_a_system_in_a_container() -> None:
    def equations(s: dict[str, Any], t: Any) -> Any:
        return s["u"] ** 2 + s["v"] - t[0], s["u"] - s["v"] ** 3 - t[1]

    start = {"u": gx.constant(1.0), "v": gx.constant(1.0)}
    solution = gx.root(equations, start, theta)
    at = {theta: np.array([2.0, 0.3])}
    found = gx.evaluate(solution, at)
    np.testing.assert_allclose(found["u"] ** 2 + found["v"], 2.0, 1e-14)
    np.testing.assert_allclose(found["u"] - found["v"] ** 3, 0.3, 1e-14)
    assert gx.check_grad(solution["u"] * solution["v"], theta, at)
    tangent = gx.jvp(solution["v"], theta, gx.constant(np.array([1.0, 0.0])))
    gradient = gx.grad(solution["v"], theta)
    assert gx.evaluate(tangent, at) == pytest.approx(gx.evaluate(gradient, at)[0], rel=1e-12)


@pytest.mark.parametrize("memory", [1, 5])
def test_a_fixed_point_of_a_network(memory: int) -> None:
    w, b = gx.matrix("w", ("n", "n")), gx.vector("b", "n")
    x = gx.fixed_point(
        lambda x, w, b: gx.tanh(w @ x + b), gx.zeros(b.shape), w, b, memory=memory
    )
    cost = (x * x).sum()
    f = gx.compile([w, b], [x, gx.grad(cost, [w, b])], options=OPTIONS)
    random = np.random.default_rng(0)
    given = random.normal(size=(12, 12)) * 0.15, random.normal(size=12)
    found, gradient = f(*given)
    np.testing.assert_allclose(found, np.tanh(given[0] @ found + given[1]), 1e-13, 1e-13)
    bent = 1 - found**2
    pulled = 2 * found @ np.linalg.inv(np.eye(12) - bent[:, None] * given[0]) * bent
    np.testing.assert_allclose(gradient[0], np.outer(pulled, found), 1e-9, 1e-12)
    np.testing.assert_allclose(gradient[1], pulled, 1e-9)


def test_acceleration_needs_fewer_steps() -> None:
    """A linear contraction of three modes is solved in a few combinations."""
    rates = np.array([0.99, 0.95, 0.5])

    def run(memory: int) -> np.ndarray:
        x = gx.fixed_point(
            lambda x: x * rates + 1.0, gx.constant(np.zeros(3)), memory=memory, max_steps=12
        )
        return gx.evaluate(x, {})

    np.testing.assert_allclose(run(5), 1 / (1 - rates), 1e-10)
    assert np.isnan(run(1)).all(), "no solution after so many steps"


def test_the_least_point_of_a_smooth_problem() -> None:
    """The derivative through an argmin: that of the root of the gradient."""
    x = gx.vector("x", 2)

    def valley(x: Any, t: Any) -> Any:
        return (x[0] - t[0]) ** 2 + (x[1] - t[0] * t[1]) ** 2 + 0.1 * (x[0] * x[1]) ** 2

    least = gx.root(lambda x, t: gx.grad(valley(x, t), x), x, theta)
    at = {theta: np.array([1.2, 0.7]), x: np.ones(2)}
    assert np.abs(gx.evaluate(gx.grad(valley(least, theta), theta), at)).max() < 10
    assert gx.check_grad(least[0] * least[1] ** 2, theta, at)
    np.testing.assert_array_equal(gx.evaluate(gx.grad(least.sum(), x), at), [0, 0])


def test_for_many_examples_and_under_jit() -> None:
    values = np.array([1.0, 4.0, 9.0, 1e-6])
    x = gx.vector("x", 4)
    roots = gx.vmap(square_root)(x)
    slopes = gx.vmap(lambda v: gx.grad(square_root(v), v))(x)
    found = gx.compile(x, [roots, slopes], options=OPTIONS)(values)
    np.testing.assert_allclose(found, [values**0.5, 0.5 * values**-0.5], 1e-10)

    @gx.jit
    def f(v: Any) -> Any:
        return gx.root(lambda x, v: np.exp(x) * x - v, 1.0, v)

    assert f(np.e) == pytest.approx(1.0, rel=1e-14)


def test_what_cannot_be_solved() -> None:
    nothing = gx.root(lambda x, a: x * x + a, gx.constant(0.7), a, max_steps=20)
    assert np.isnan(gx.compile(a, nothing, options=OPTIONS)(1.0))
    flat = gx.root(lambda x, a: 0 * x + a, gx.constant(1.0), a)
    with pytest.raises(np.linalg.LinAlgError):
        gx.compile(a, flat, options=OPTIONS)(1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gx.root(lambda x: x, gx.constant(1)), "float arrays"),
        (lambda: gx.root(lambda x: x[:1], gx.constant(np.ones(2))), "one equation for each"),
        (lambda: gx.root(lambda x: x, 1.0, max_steps=0), "max_steps >= 1"),
        (lambda: gx.fixed_point(lambda x: x, 1.0, memory=0), "memory"),
        (lambda: gx.root(lambda x: x, {"a": 1.0, "b": gx.constant(np.float32(1))}), "float32, or"),
        (
            lambda: gx.grad(gx.root(lambda x: x * x - a, gx.constant(1.0)), a),
            "Pass that as an argument",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        call()


# -- minima ----------------------------------------------------------------------------------------


def test_a_quadratic_moves_with_its_linear_part() -> None:
    """x = A^-1 b, the derivative by b is A^-1, by A that of a solution of equations."""
    matrix, b = gx.matrix("matrix", (3, 3)), gx.vector("b", 3)
    x = gx.minimize(lambda x, m, b: 0.5 * (x @ m @ x) - b @ x, gx.zeros(3), matrix, b)
    found, to_b, to_m = gx.compile(
        [matrix, b], [x, gx.jacobian(x, b), gx.grad(x[0], matrix)], options=OPTIONS
    )(SPD, np.array([1.0, -2.0, 0.5]))
    inverse = np.linalg.inv(SPD)
    np.testing.assert_allclose(found, inverse @ [1.0, -2.0, 0.5], 1e-12)
    np.testing.assert_allclose(to_b, inverse, 1e-12)
    both = -0.5 * (np.outer(inverse[0], found) + np.outer(found, inverse[0]))
    np.testing.assert_allclose(to_m, both, 1e-11)


SPD = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -0.2], [0.5, -0.2, 2.0]])


def test_a_valley_that_bends_from_where_the_curvature_is_negative() -> None:
    """Rosenbrock's function, from three places; its minimum is at (a, a^2)."""

    def valley(s: dict[str, Any], a: Any) -> Any:
        return (a - s["x"]) ** 2 + 100 * (s["y"] - s["x"] ** 2) ** 2

    for start in ((-1.2, 1.0), (0.0, 3.0), (2.0, -5.0)):
        guess = {"x": gx.constant(start[0]), "y": gx.constant(start[1])}
        s = gx.minimize(valley, guess, a)
        orders = [s["x"], s["y"], gx.grad(s["y"], a), gx.grad(gx.grad(s["y"], a), a)]
        found = gx.compile(a, orders, options=OPTIONS)(0.8)
        np.testing.assert_allclose(found, [0.8, 0.64, 1.6, 2.0], 1e-9)


def test_a_fit_moves_with_its_data_in_both_modes() -> None:
    """Logistic regression with a penalty: the derivative of the weights by the penalty."""
    random = np.random.default_rng(2)
    points, labels = random.normal(size=(20, 3)), random.integers(0, 2, 20).astype(float)
    x, penalty = gx.matrix("x", (20, 3)), gx.scalar("penalty")

    def cost(w: Any, x: Any, penalty: Any) -> Any:
        scores = x @ w
        return (gx.softplus(scores) - labels * scores).sum() + penalty * (w * w).sum()

    w = gx.minimize(cost, gx.zeros(3), x, penalty)
    at = {x: points, penalty: np.float64(0.7)}
    assert gx.check_grad(w[1] * w[0], [x, penalty], at, step=1e-2, tolerance=1e-5)
    forward, backward = gx.evaluate([gx.jvp(w[2], penalty, 1.0), gx.grad(w[2], penalty)], at)
    assert forward == pytest.approx(backward, rel=1e-10)
    slope = gx.grad(cost(w, x, penalty), penalty)  # of the least cost: the penalty's own part
    got, norm = gx.evaluate([slope, (w * w).sum()], at)
    assert got == pytest.approx(norm, rel=1e-6)


def test_minima_in_float32_and_without_one() -> None:
    b = gx.scalar("b", "float32")
    x = gx.minimize(lambda x, b: gx.cosh(x - b), gx.constant(np.float32(3.0)), b)
    assert x.dtype == np.float32
    assert gx.evaluate(x, {b: np.float32(0.5)}) == pytest.approx(0.5, abs=1e-3)
    fall = gx.minimize(lambda x, a: gx.exp(-x) * a, gx.constant(1.0), a, max_steps=5)
    assert np.isnan(gx.evaluate(fall, {a: 1.0}))
    with pytest.raises(GraphError, match="one number"):
        gx.minimize(lambda x: x, gx.zeros(3))


def test_nothing_is_looked_for_among_no_elements() -> None:
    for solver in (gx.minimize, gx.root, gx.fixed_point):
        with pytest.raises(gx.GraphError, match="the guess has no elements"):
            solver(lambda x: gx.sum(x * x), np.zeros(0))
        with pytest.raises(gx.GraphError, match="takes a function first"):
            solver(np.zeros(3), np.zeros(3))  # type: ignore[arg-type]
