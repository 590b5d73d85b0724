"""Does `check_grad` find a wrong derivative, and name the op, its argument and its line?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.autodiff.complex_step import complex_slope
from graphc.node import Node
from graphc.op import REGISTRY, Rules, elementwise

x, w = gx.vector("x", 3), gx.vector("w", 3)
POINT = {x: np.array([0.3, -0.2, 1.1]), w: np.array([1.5, 0.5, 2.0])}


@pytest.fixture
def scaled() -> Iterator[Any]:
    """a * b, the derivative of which by b is said to be twice what it is."""
    yield elementwise(
        "scaled_wrongly",
        numpy=np.multiply,
        kernel=lambda k, a, b: k.mul(a, b),
        partials=lambda a, b, result: (b, 2.0 * a),
        kinds="f",
        text="scaled({}, {})",
    )
    del REGISTRY["scaled_wrongly"]


def test_the_op_the_argument_and_the_line_are_named(scaled: Any) -> None:
    y = scaled(gx.sin(x), gx.exp(w))  # named below
    found = gx.check_grad((y * y).sum() + gx.sum(x), [x, w], POINT)
    assert not found and found.worst > 0.1 and found.where.startswith("w[")
    assert "scaled_wrongly, reverse mode by argument 1" in found.fault
    assert found.fault.endswith("test_check.py:35")
    assert found.fault in str(found) and "off by" in str(found)


def test_the_op_is_found_inside_a_loop(scaled: Any) -> None:
    final, _ = gx.scan(lambda state, v: (gx.tanh(scaled(state, w) + v), v), w, gx.stack([x, x]))
    found = gx.check_grad(final.sum(), [x, w], POINT)
    assert not found and "scaled_wrongly" in found.fault


def test_a_rule_that_is_wrong_in_one_mode_only() -> None:
    def pushed(args: Any, result: Node, tangents: Any) -> Node:
        return 3 * gx.cos(args[0]) * tangents[0]

    def pulled(args: Any, result: Node, cotangent: Node) -> Any:
        return (gx.cos(args[0]) * cotangent,)

    def turned(v: Node) -> Node:
        return gx.sin(v)

    f = gx.custom_derivative(turned, jvp=pushed, vjp=pulled)
    found = gx.check_grad(f(x).sum(), x, POINT)
    assert not found and found.worst < 1e-9 and found.forward > 0.1
    assert "custom_derivative 'turned', forward mode by argument 0" in found.fault
    assert isinstance(REGISTRY["custom_derivative"].derivative, Rules)


def test_a_gradient_that_is_no_number_is_wrong(scaled: Any) -> None:
    broken = elementwise(
        "never_a_slope",
        numpy=np.square,
        kernel=lambda k, a: k.mul(a, a),
        partials=lambda a, result: (a * float("nan"),),
        kinds="f",
        text="never({})",
    )
    try:
        found = gx.check_grad(broken(x).sum(), x, POINT)
        assert not found and found.worst == np.inf and "never_a_slope" in found.fault
    finally:
        del REGISTRY["never_a_slope"]


def test_what_is_right_is_right() -> None:
    for cost in (
        gx.sum(gx.tanh(x) ** 2 * w),
        gx.sum(gx.abs(x) * gx.erf(w)),
        gx.sum(gx.where(x > 0, gx.sqrt(w), x)),
        gx.sum(gx.outer(x, w) @ gx.exp(x)),
        gx.sum(gx.sort(x) * w),
    ):
        found = gx.check_grad(cost, [x], POINT)
        assert found and not found.fault and "is right" in str(found)


def test_extents_may_have_names(scaled: Any) -> None:
    v, rows = gx.vector("v", "n"), gx.matrix("rows", ("n", 2))
    point = {v: np.array([0.3, -0.2, 1.1]), rows: np.ones((3, 2))}
    assert gx.check_grad(gx.sum(gx.tanh(v) @ rows), [v, rows], point)
    found = gx.check_grad(scaled(v, gx.exp(v)).sum(), v, point)
    assert not found and "scaled_wrongly" in found.fault


def test_what_is_stopped_is_blamed_only_where_nothing_else_is_wrong(scaled: Any) -> None:
    held = gx.sum(gx.stop_gradient(x) * x)
    found = gx.check_grad(held + scaled(gx.sin(w), gx.exp(x)).sum(), x, POINT)
    assert not found and "scaled_wrongly" in found.fault
    assert "stop_gradient" in gx.check_grad(held, x, POINT).fault


@pytest.mark.filterwarnings("error")
def test_what_differences_are_rounded_by_is_no_fault() -> None:
    narrow = gx.cast(x, "float32")
    for cost in (
        gx.sum(gx.abs(x) * w) + 1e9,
        gx.sum(gx.sort(x) ** 2) + 1e12,
        gx.cast(gx.sin(narrow) + gx.erf(narrow), "float64").sum(),
        gx.cast(gx.cast(x, "bfloat16") * 0, "float64").sum() + x.sum(),
    ):
        for shift in np.linspace(0, 0.1, 5):
            assert gx.check_grad(cost, x, {**POINT, x: POINT[x] + shift})


def test_a_complex_step_is_right_to_the_last_places() -> None:
    """Differences are not: they lose half of the places."""
    cost = gx.sum(gx.exp(gx.sin(x)) / gx.reshape(w, (3,)))
    way = np.array([0.0, 1.0, 0.0])
    wanted = np.cos(-0.2) * np.exp(np.sin(-0.2)) / 0.5
    assert complex_slope(cost, POINT, {x: way}) == pytest.approx(wanted, rel=1e-15)


@pytest.mark.parametrize(
    "cost",
    [gx.sum(gx.abs(x)), gx.sum(gx.erf(x)), gx.sum(gx.where(x > 0, x, -x)), gx.sum(x**3)],
)
def test_what_is_not_analytic_has_no_complex_step(cost: Node) -> None:
    """A power of a negative number goes by a logarithm, whose imaginary part drowns the step."""
    assert complex_slope(cost, POINT, {x: np.ones(3)}) is None


def test_a_part_of_the_graph_that_the_step_does_not_reach_may_be_anything() -> None:
    cost = gx.sum(gx.exp(x) * gx.abs(w))
    assert complex_slope(cost, POINT, {x: np.ones(3)}) == pytest.approx(
        float(np.sum(np.exp(POINT[x]) * POINT[w])), rel=1e-15
    )
