"""Does a derivative that a user states take the place of the function's own, in every mode?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GraphError
from graphc.node import Node

x, w = gx.vector("x", 3), gx.vector("w", 3)
A, B = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, 3.0])


def product(x: Any, w: Any) -> Any:
    return gx.sin(x) * w


def product_jvp(args: Any, result: Any, tangents: Any) -> Any:
    (x, w), (dx, dw) = args, tangents
    return gx.cos(x) * w * dx + gx.sin(x) * dw


def product_vjp(args: Any, result: Any, cotangent: Any) -> Any:
    x, w = args
    return gx.cos(x) * w * cotangent, gx.sin(x) * cotangent


RULES: dict[str, dict[str, Any]] = {
    "forward": {"jvp": product_jvp},
    "reverse": {"vjp": product_vjp},
    "both": {"jvp": product_jvp, "vjp": product_vjp},
}


@pytest.mark.parametrize("given", RULES)
def test_one_rule_serves_every_mode_and_order(given: str) -> None:
    f = gx.custom_derivative(product, **RULES[given])
    cost = (f(x, w) ** 2).sum()
    assert gx.check_grad(cost, [x, w], {x: A, w: B})
    compiled = gx.compile(
        [x, w],
        {
            "gradient": gx.grad(cost, [x, w]),
            "tangent": gx.jvp(f(x, w), [x, w], [w, x]),
            "hessian": gx.hessian(cost, x),
            "examples": gx.vmap(lambda a, b: gx.grad(f(a, b), [a, b]))(x, w),
        },
    )
    found = compiled(A, B)
    s, c = np.sin(A), np.cos(A)
    np.testing.assert_allclose(found["gradient"], [2 * s * c * B * B, 2 * s * s * B], 1e-13)
    np.testing.assert_allclose(found["tangent"], c * B * B + s * A, 1e-13)
    np.testing.assert_allclose(found["hessian"], np.diag(2 * np.cos(2 * A) * B * B), 1e-12, 1e-12)
    np.testing.assert_allclose(found["examples"], [c * B, s], 1e-13)


def test_the_rule_is_what_counts() -> None:
    """A gradient that is clipped on its way back, and one with a sign that the function lacks."""
    clipped = gx.custom_derivative(lambda v: v * 1, vjp=lambda args, y, ct: (gx.clip(ct, -1, 1),))
    turned = gx.custom_derivative(jvp=lambda args, y, t: -t[0])(lambda v: v)
    f = gx.compile([x], gx.grad((clipped(x) * 5).sum() + turned(x).sum(), x))
    np.testing.assert_array_equal(f(A), [0, 0, 0])
    assert len(f.kernels) == 1, "the function is written out, and fused"


def test_containers_integers_and_no_derivative() -> None:
    def function(params: dict[str, Any], k: Any) -> dict[str, Any]:
        return {"y": params["a"] * params["b"] * k, "count": k + 1}

    def vjp(args: Any, results: Any, cotangents: Any) -> Any:
        params, k = args
        assert cotangents["count"] is None
        return {"a": params["b"] * k * cotangents["y"], "b": None}, None

    f = gx.custom_derivative(function, vjp=vjp)
    k = gx.scalar("k", "int64")
    params = {"a": x, "b": w}
    gradient = gx.grad(f(params, k)["y"].sum(), params)
    found = gx.evaluate(gradient, {x: A, w: B, k: 3})
    np.testing.assert_array_equal(found["a"], 3 * B)
    np.testing.assert_array_equal(found["b"], [0, 0, 0])


def test_what_is_shared_by_examples_is_summed() -> None:
    f = gx.custom_derivative(
        lambda a, w: (gx.sin(a) * w).sum(),
        vjp=lambda args, y, ct: (
            (gx.cos(args[0]) * args[1] * ct).sum(),
            gx.broadcast_to(gx.sin(args[0]) * ct, (3,)),
        ),
    )
    rows = gx.vmap(lambda a: f(a, w))(x)
    found = gx.evaluate(gx.grad(rows.sum(), [x, w]), {x: A, w: B})
    np.testing.assert_allclose(found[0], np.cos(A) * B.sum(), 1e-13)
    np.testing.assert_allclose(found[1], np.full(3, np.sin(A).sum()), 1e-13)


def test_inside_a_scan() -> None:
    step = gx.custom_derivative(gx.tanh, vjp=lambda args, y, ct: (2 * ct,))
    final, _ = gx.scan(lambda s, row: (step(s + row), None), gx.constant(0.0), x)
    f = gx.compile([x], gx.grad(final, x))
    np.testing.assert_array_equal(f(A), [8, 4, 2])


def test_jit_reaches_it() -> None:
    f = gx.custom_derivative(np.tanh, jvp=lambda args, y, t: t[0])

    @gx.jit
    def step(v: np.ndarray) -> np.ndarray:
        return f(v)

    np.testing.assert_allclose(step(A), np.tanh(A), 1e-15)


def _uses(outside: Node) -> Node:
    return gx.custom_derivative(lambda v: v * outside, jvp=lambda a, y, t: t[0] * outside)(x).sum()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gx.custom_derivative(gx.exp), "needs a rule"),
        (lambda: gx.grad(_uses(w), w), "Pass that as an argument"),
        (
            lambda: gx.custom_derivative(gx.exp, vjp=lambda a, y, ct: ct)(x),
            "should have the structure",
        ),
        (
            lambda: gx.custom_derivative(gx.exp, vjp=lambda a, y, ct: (ct.sum(),))(x),
            r"vjp of exp: result 0 is float64, it should be float64\[3\]",
        ),
        (lambda: gx.custom_derivative(gx.exp, jvp=lambda a, y, t: t[0], by=1)(x), "in a tuple"),
        (
            lambda: gx.custom_derivative(gx.exp, jvp=lambda a, y, t: t[0], by=(1,))(x),
            r"there are 1, got \(1,\)",
        ),
        (
            lambda: gx.custom_derivative(gx.exp, jvp=lambda a, y, t: gx.cast(t[0], "float32"))(x),
            "it should be float64",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        call()


def test_what_is_used_from_outside_may_stay_constant() -> None:
    f = gx.compile([x, w], gx.grad(_uses(w), x))
    np.testing.assert_array_equal(f(A, B), B)


def test_a_rule_may_use_the_results() -> None:
    """Derivatives of higher order go through the rule again."""
    f = gx.custom_derivative(gx.sigmoid, vjp=lambda args, y, ct: (ct * y * (1 - y),))
    first = gx.grad(f(x).sum(), x)
    second = gx.grad(first.sum(), x)
    found = gx.compile([x], [first, second])(A)
    s = 1 / (1 + np.exp(-A))
    np.testing.assert_allclose(found[0], s * (1 - s), 1e-14)
    np.testing.assert_allclose(found[1], s * (1 - s) * (1 - 2 * s), 1e-13)


def doubled_by_w(args: Any, result: Any, tangents: Any) -> Any:
    """Twice what the derivative by w is, so that it shows where the rule was asked."""
    assert tangents[0] is None
    return 2 * gx.sin(args[0]) * tangents[1]


def doubled_cotangent(args: Any, result: Any, cotangent: Any) -> Any:
    return cotangent * 1e9, 2 * gx.sin(args[0]) * cotangent  # what is said of x does not count


@pytest.mark.parametrize("rule", [{"jvp": doubled_by_w}, {"vjp": doubled_cotangent}])
def test_a_rule_about_one_argument_leaves_the_others_to_the_function(rule: Any) -> None:
    f = gx.custom_derivative(product, by=(1,), **rule)
    cost = f(x, w).sum()
    by_x, by_w = gx.grad(cost, [x, w])
    compiled = gx.compile(
        [x, w],
        {
            "both": [by_x, by_w],
            "one": [gx.grad(cost, x), gx.grad(cost, w)],
            "tangents": [
                gx.jvp(f(x, w), [x, w], [w, x]),
                gx.jvp(f(x, w), x, w),
                gx.jvp(f(x, w), w, x),
            ],
            "second": [gx.grad(by_x.sum(), x), gx.grad(by_w.sum(), x)],
            "examples": gx.vmap(lambda a, b: gx.grad(f(a, b), [a, b]))(x, w),
        },
    )
    found = compiled(A, B)
    s, c = np.sin(A), np.cos(A)
    for name in ("both", "one", "examples"):
        np.testing.assert_allclose(found[name], [c * B, 2 * s], 1e-13)
    wanted = [c * B * B + 2 * s * A, c * B * B, 2 * s * A]
    np.testing.assert_allclose(found["tangents"], wanted, 1e-13)
    np.testing.assert_allclose(found["second"], [-s * B, 2 * c], 1e-13)
