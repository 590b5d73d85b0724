"""Are Taylor coefficients right, for every op, in every mixture of modes, and is the graph small?

Against nested forward mode, which knows nothing of series, and against mpmath for high orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import graphc as gx
from graphc.node import topological

OPTIONS = gx.Options(cache=False)
T = gx.scalar("t")
X, V = gx.vector("x", 3), gx.vector("v", 3)
POINT, DIRECTION = np.array([0.4, 0.9, 0.6]), np.array([1.0, -0.5, 0.25])


def nested(out: Any, wrt: Any, direction: Any, order: int) -> list[Any]:
    """Coefficients by forward mode over forward mode."""
    made, found = out, [out]
    for k in range(1, order + 1):
        made = gx.jvp(made, wrt, direction)
        found.append(made / math.factorial(k))
    return found


def assert_like_nested(out: Any, order: int = 4, rtol: float = 1e-9, point: Any = POINT) -> None:
    given = {X: point, V: DIRECTION}
    got = gx.evaluate(gx.taylor(out, X, V, order), given)
    wanted = gx.evaluate(nested(out, X, V, order), given)
    scale = max(float(np.max(np.abs(each), initial=0)) for each in wanted)
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        np.testing.assert_allclose(a, b, rtol, rtol * scale, err_msg=f"coefficient {k}")


NAMES = """
    exp expm1 log log1p log2 log10 exp2 sqrt cbrt square sin cos tan sinh cosh tanh arcsin
    arccos arctan arcsinh arctanh sigmoid softplus silu mish gelu erf erfc erfinv gammaln
    digamma i0 i1 i0e i1e sinc logit absolute sign relu negative floor logsumexp softmax
    log_softmax cumsum cumprod prod max sort std
"""
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    name: getattr(gx, name)
    for name in NAMES.split()
} | {
    "powers": lambda x: x**3 + x**-2.0 + x**0.5 + x**2.5 + 2.0**x + x**0,
    "variable exponent": lambda x: x ** gx.sin(x),
    "quotients": lambda x: gx.sin(x) / (x + 2) + 1 / x,
    "choices": lambda x: gx.maximum(x, x[::-1] * 0.7) + gx.where(x > 0.5, x * x, gx.exp(x)),
    "two arguments": lambda x: gx.hypot(x, x * x) + gx.arctan2(x, x + 1) + gx.logaddexp(x, 2 * x),
    "the same factor twice": lambda x: gx.stack([x, x * x]) @ gx.stack([x, x * x]).T,
    "outer": lambda x: gx.outer(x, gx.sin(x)) @ gx.exp(x),
    "movement": lambda x: gx.concatenate(
        [x[::-1], gx.pad(x, 1), x[gx.constant([2, 0])]]
    ).reshape(2, 5),
    "convolution": lambda x: gx.convolve(gx.sin(x), gx.stack([x[0], x[1]])),
    "scatter": lambda x: gx.zeros(5).at[gx.constant([0, 2, 0])].add(x * x),
    "stop": lambda x: gx.stop_gradient(x) * x * x,
    "two results": lambda x: gx.modf(x * 3)[0] * x,
    "solve": lambda x: gx.linalg.solve(gx.outer(x, x) + 3 * gx.eye(3), gx.sin(x)),
    "cholesky": lambda x: gx.linalg.cholesky(gx.outer(x, x) + 3 * gx.eye(3)),
    "eigh": lambda x: gx.linalg.eigh(gx.outer(x, x) + gx.diag(gx.constant([1.0, 3.0, 6.0])))[0],
    "rule of a user": lambda x: gx.custom_derivative(
        lambda v: v * v, jvp=lambda args, result, t: 3 * args[0] * t[0]
    )(gx.sin(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_nested_forward_mode(name: str) -> None:
    assert_like_nested(FUNCTIONS[name](X))


def test_arccosh_above_one() -> None:
    assert_like_nested(gx.arccosh(X + 1.5))


LOOPS: dict[str, Callable[[Any], Any]] = {
    "call": lambda x: gx.call(lambda a, b: (gx.sin(a) * b, a.sum()), x, x * x)[0],
    "checkpoint": lambda x: gx.checkpoint(lambda a: gx.exp(gx.sin(a)))(x * x),
    "call within a call": lambda x: gx.call(lambda a: gx.call(gx.sin, a * a) + a, x),
    "scan": lambda x: sum(
        gx.scan(lambda s, row: (gx.tanh(s * row + x[0]), s * s), x[1], x)[i].sum() for i in (0, 1)
    ),
    "scan with a counter": lambda x: gx.scan(
        lambda s, row: ((s[0] * gx.sin(row), s[1] + 1), s[0] * s[1]), (x[0], 0), x, reverse=True
    )[1],
    "while": lambda x: gx.while_loop(
        lambda s: s[1] < 4, lambda s: (gx.sin(s[0]) * x, s[1] + 1), (x, 0)
    )[0],
    "switch": lambda x: gx.switch(
        gx.constant(1) + gx.cast(x[0] > 5, "int64"), [gx.sin, gx.exp, gx.cos], x * x
    ),
    "fori": lambda x: gx.fori_loop(0, 3, lambda i, s: s * x + gx.cast(i, "float64"), x),
}


@pytest.mark.parametrize("name", LOOPS)
def test_ops_with_graphs_against_nested_forward_mode(name: str) -> None:
    assert_like_nested(LOOPS[name](X))


@pytest.mark.parametrize(
    "name", ["exp", "sin", "tanh", "log", "sqrt", "atan", "erf", "gamma", "sigmoid", "besseli"]
)
def test_high_orders_against_mpmath(name: str) -> None:
    order, at = 25, 0.75
    ours = {"atan": gx.arctan, "besseli": gx.i0}.get(name) or getattr(gx, name)
    theirs = {
        "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
        "besseli": lambda z: mpmath.besseli(0, z),
    }.get(name) or getattr(mpmath, name)
    if name == "gamma":
        order = 10  # polygamma of many orders
    with mpmath.workdps(60):
        wanted = [float(c) for c in mpmath.taylor(theirs, mpmath.mpf(at), order)]
    made = gx.taylor(ours(T), T, 1.0, order)
    got = gx.compile([T], made, options=gx.Options(cache=False, opt_level=1))(at)
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-14)


def test_a_product_of_functions_has_the_series_of_the_composition() -> None:
    with mpmath.workdps(50):
        wanted = mpmath.taylor(lambda z: mpmath.exp(mpmath.sin(z) ** 2) / (1 + z**3), 0.3, 16)
    made = gx.taylor(gx.exp(gx.sin(T) ** 2) / (1 + T**3), T, 1.0, 16)
    got = gx.evaluate(made, {T: 0.3})
    np.testing.assert_allclose(got, [float(c) for c in wanted], rtol=1e-11)


def test_powers_at_zero_are_exact() -> None:
    got = gx.evaluate(gx.taylor(T**3 + 2 * T**5, T, 1.0, 6), {T: 0.0})
    np.testing.assert_array_equal(got, [0, 0, 0, 1, 0, 2, 0])


def test_a_curve_is_given_by_its_coefficients() -> None:
    """x = 1 + 2t + 3t^2, y = t^3: sin(x) y and its parts, in containers."""
    x, y = gx.scalar("x"), gx.scalar("y")
    curve = [{"x": 2.0, "y": 0.0}, {"x": 3.0, "y": 0.0}, {"x": 0.0, "y": 1.0}]
    made = gx.taylor({"sum": x + y, "both": (gx.sin(x) * y,)}, {"x": x, "y": y}, curve, 5)
    got = gx.evaluate([[c["sum"], c["both"][0]] for c in made], {x: 1.0, y: 0.0})
    wanted = mpmath.taylor(lambda t: mpmath.sin(1 + 2 * t + 3 * t**2) * t**3, 0, 5)
    np.testing.assert_allclose([row[0] for row in got], [1, 2, 3, 1, 0, 0])
    np.testing.assert_allclose([row[1] for row in got], [float(c) for c in wanted], atol=1e-14)


def test_mixed_with_the_other_modes() -> None:
    """The gradient of a coefficient, coefficients of a gradient, and of a coefficient."""
    cost = (gx.exp(gx.sin(X)) * X[::-1]).sum()
    third = gx.taylor(cost, X, V, 3)[3]
    of_gradient = gx.taylor(gx.grad(cost, X), X, V, 3)[2]
    wanted = nested(cost, X, V, 3)[3]
    given = {X: POINT, V: DIRECTION}
    a, b = gx.evaluate([gx.grad(third, X), gx.grad(wanted, X)], given)
    np.testing.assert_allclose(a, b, rtol=1e-10)
    # the directional derivative of order 2 of the gradient, over 2
    a, b = gx.evaluate([of_gradient, nested(gx.grad(cost, X), X, V, 2)[2]], given)
    np.testing.assert_allclose(a, b, rtol=1e-10)
    a, b = gx.evaluate([gx.taylor(gx.taylor(cost, X, V, 2)[2], X, V, 1)[1], 3 * third], given)
    np.testing.assert_allclose(a, b, rtol=1e-10)
    a, b = gx.evaluate([gx.jvp(third, X, V), 4 * gx.taylor(cost, X, V, 4)[4]], given)
    np.testing.assert_allclose(a, b, rtol=1e-10)


def test_many_directions_at_once_by_vmap() -> None:
    directions = np.eye(3)
    made = gx.vmap(lambda v: gx.taylor((gx.sin(X) * X).sum(), X, v, 2)[2])(gx.constant(directions))
    got = gx.evaluate(made, {X: POINT})
    np.testing.assert_allclose(got, np.cos(POINT) - POINT * np.sin(POINT) / 2, rtol=1e-12)


def test_the_graph_grows_with_the_square_of_the_order() -> None:
    def size(order: int) -> int:
        out = gx.tanh(gx.exp(gx.sin(X)) / (1 + X * X))
        return len(topological(gx.taylor(out, X, V, order)))

    sizes = [size(order) for order in (5, 10, 20, 40)]
    growth = [b / a for a, b in zip(sizes, sizes[1:], strict=False)]
    assert all(ratio < 4.2 for ratio in growth), sizes
    assert sizes[-1] < 20 * 40**2


def test_depth_costs_no_stack() -> None:
    x = T
    for _ in range(3000):
        x = gx.sin(x)
    got = gx.evaluate(gx.taylor(x, T, 1.0, 2)[1:], {T: 0.5})
    assert np.isfinite(got).all()


def test_compiled_and_in_other_dtypes() -> None:
    for dtype, rtol in (("float32", 1e-5), ("float16", 2e-2)):
        x = gx.vector("x", 3, dtype)
        made = gx.taylor(gx.exp(x) * x, x, gx.ones(3, dtype), 3)
        assert all(c.dtype == dtype for c in made)
        got = gx.compile([x], made, options=OPTIONS)(POINT.astype(dtype))
        for k, c in enumerate(got):
            wanted = np.exp(POINT) * (POINT + k) / math.factorial(k)
            np.testing.assert_allclose(c.astype(float), wanted, rtol=rtol)


def test_order_zero_and_what_does_not_depend() -> None:
    assert gx.taylor(gx.sin(X), X, V, 0)[0] is gx.sin(X)
    y = gx.vector("y", 3)
    made = gx.taylor([gx.sin(y), gx.argmax(X), X], X, V, 2)
    got = gx.evaluate([made[1][0], made[2][2]], {X: POINT, V: DIRECTION})
    np.testing.assert_array_equal(got, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("directions", "order", "words"),
    [
        (V, -1, "0 or more"),
        (V, 1.5, "0 or more"),
        ((V, (V, V)), 2, "structure"),
        ((), 2, "structure"),
    ],
)
def test_what_is_refused(directions: Any, order: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        gx.taylor(gx.sin(X), X, directions, order)


def test_a_direction_of_a_wrong_shape_is_called_a_direction() -> None:
    x = gx.vector("x", 3)
    with pytest.raises(gx.GraphError, match=r"a direction of type float64\[2\] for .*float64\[3\]"):
        gx.taylor(x * x, x, np.ones(2), 2)
    with pytest.raises(gx.GraphError, match=r"a tangent of type float64\[3, 1\]"):
        gx.jvp(x * x, x, np.ones((3, 1)))
    with pytest.raises(gx.GraphError, match=r"a cotangent of type float64\[2\]"):
        gx.vjp(x * x, x, np.ones(2))


@pytest.mark.parametrize(
    ("function", "exact"),
    [
        (lambda t: gx.xlogy(t * t, t + 1), lambda t: t * t * mpmath.log(t + 1)),
        (lambda t: gx.logaddexp(t, t * t), lambda t: mpmath.log(mpmath.exp(t) + mpmath.exp(t * t))),
        (lambda t: gx.y1(t + 1), lambda t: mpmath.bessely(1, t + 1)),
        (lambda t: gx.prod(gx.stack([t, t * t, t + 2])), lambda t: t**3 * (t + 2)),
    ],
)
@pytest.mark.parametrize("point", [0.0, 0.7])
def test_series_of_functions_of_several_arguments(function: Any, exact: Any, point: float) -> None:
    t = gx.scalar("t")
    with np.errstate(all="ignore"):
        found = gx.evaluate(gx.taylor(function(t), t, 1.0, 6), {t: point})
    with mpmath.workprec(150):
        wanted = [float(c) for c in mpmath.taylor(exact, mpmath.mpf(point), 6)]
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)


def test_the_graph_of_a_product_with_a_logarithm_grows_with_the_square_of_the_order() -> None:
    t = gx.scalar("t")
    short, long = (
        len(topological(gx.taylor(gx.xlogy(t * t, t + 1), t, 1.0, order)[1:])) for order in (6, 12)
    )
    assert long < 3 * short
