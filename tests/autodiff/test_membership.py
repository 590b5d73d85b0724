"""Is a derivative by what is not in the graph refused, by name, and nothing else?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import MESSAGE_LINES, GraphError
from graphc.node import Node

x, y, s = gx.vector("x", 3), gx.vector("y", 3), gx.scalar("s")
square = (x * x).sum()

TRANSFORMATIONS: dict[str, Callable[..., Any]] = {
    "grad": lambda **how: gx.grad(square, y, **how),
    "grad within memory": lambda **how: gx.grad((gx.sin(x) * x).sum(), y, memory=0.5, **how),
    "value_and_grad": lambda **how: gx.value_and_grad(square, y, **how)[1],
    "vjp": lambda **how: gx.vjp(x * x, y, x, **how),
    "jvp": lambda **how: gx.jvp(x * x, y, x, **how),
    "jacobian": lambda **how: gx.jacobian(x * x, y, **how),
    "sparse jacobian": lambda **how: gx.jacobian(x * x, y, sparse=True, **how),
    "hessian": lambda **how: gx.hessian(square, y, **how),
    "sparse hessian": lambda **how: gx.hessian(square, y, sparse=True, **how),
    "hvp": lambda **how: gx.hvp(square, y, x, **how),
    "taylor": lambda **how: gx.taylor(x * x, y, x, order=2, **how)[2],
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_what_is_not_in_the_graph_is_named_or_gives_zeros(name: str) -> None:
    derivative = TRANSFORMATIONS[name]
    named = r"not in it:\n  float64\[3\]  y, built at .*\.py:\d+"
    with pytest.raises(GraphError, match=named) as raised:
        derivative()
    assert 'unused="zero"' in str(raised.value)
    assert str(raised.value).count("\n") < MESSAGE_LINES
    zeros = gx.evaluate(derivative(unused="zero"), {x: np.ones(3), y: np.ones(3)})
    assert not np.any(zeros.toarray() if hasattr(zeros, "toarray") else zeros)
    with pytest.raises(GraphError, match='unused is "error" or "zero", got True'):
        derivative(unused=True)


def test_a_leaf_of_a_container_is_told_by_its_path() -> None:
    with pytest.raises(GraphError, match=r"y, built at .*, \['b'\]\[0\] of the container"):
        gx.grad(square, {"a": x, "b": (y,)})
    many = [gx.vector(f"v{i}", 3) for i in range(9)]
    with pytest.raises(GraphError, match="and 6 more") as raised:
        gx.grad(square, many)
    assert str(raised.value).count("\n") < MESSAGE_LINES
    found = gx.evaluate(gx.grad(square, {"a": x, "b": (y,)}, unused="zero"), {x: np.ones(3)})
    np.testing.assert_array_equal(found["a"], [2, 2, 2])
    np.testing.assert_array_equal(found["b"], [[0, 0, 0]])


def test_an_argument_that_a_compiled_function_ignores() -> None:
    @gx.jit
    def slopes(a: Any, b: Any, unused: str = "error") -> Any:
        return gx.grad((a * a).sum(), [a, b], unused=unused)

    with pytest.raises(GraphError, match="b, built at"):
        slopes(np.ones(3), np.ones(3))
    np.testing.assert_array_equal(slopes(np.ones(3), np.ones(3), "zero")[1], np.zeros(3))


NO_INFLUENCE: dict[str, Callable[[], Node]] = {
    "stopped": lambda: (gx.stop_gradient(x) * y).sum(),
    "rounded": lambda: gx.floor(x).sum(),
    "compared": lambda: gx.where(x > 0, y, 2 * y).sum(),
    "an integer on the way": lambda: (gx.cast(gx.cast(x, "int64"), "float64") * y).sum(),
    "inside a scan": lambda: gx.scan(lambda c, v: (c + s, v), s, x)[0],
}


@pytest.mark.parametrize("name", NO_INFLUENCE)
def test_what_is_in_the_graph_without_influence_has_zeros(name: str) -> None:
    given = {x: np.array([0.5, 1.5, -0.5]), y: np.ones(3), s: np.array(1.0)}
    assert not np.any(gx.evaluate(gx.grad(NO_INFLUENCE[name](), x), given))


def test_what_an_intermediate_node_hides_is_in_the_graph() -> None:
    """x acts through h alone, which is held."""
    h = gx.sin(x)
    found = gx.evaluate(gx.grad((h * h).sum(), [h, x]), {x: np.ones(3)})
    np.testing.assert_array_equal(found, [2 * np.sin(np.ones(3)), np.zeros(3)])


def test_a_derivative_of_a_derivative_may_be_free_of_what_it_is_taken_by() -> None:
    """That of a linear function is; so is a mixed one of a sum."""
    linear = (3 * x * y).sum()
    given = {x: np.ones(3), y: np.ones(3), s: np.array(0.5)}
    slope = gx.grad(linear, x)
    assert not np.any(gx.evaluate(gx.grad(slope.sum(), x), given))
    assert not np.any(gx.evaluate(gx.grad((slope * slope).sum(), x), given))
    apart = (x * x).sum() + (y * y).sum()
    assert not np.any(gx.evaluate(gx.jacobian(gx.grad(apart, x), y), given))
    tangent = gx.jvp(s * x, x, y)
    assert not np.any(gx.evaluate(gx.jvp(tangent, x, x), given))
    sparse = gx.jacobian(y * x, x, sparse=True)
    assert not np.any(gx.evaluate(gx.grad(sparse.values.sum(), x), given))
    by_rows = gx.vmap(lambda row: gx.grad(s * row, row))(x)
    assert not np.any(gx.evaluate(gx.grad(by_rows.sum(), x), given))
    fourth = s**2
    for _ in range(4):
        fourth = gx.grad(fourth, s)
    assert gx.evaluate(fourth, given) == 0


def test_a_graph_beside_a_derivative_is_still_checked() -> None:
    """Ones are the derivative of a sum, and what anybody else may write; x is that of x * y."""
    slope = gx.grad(x.sum(), x)
    assert slope is not None
    with pytest.raises(GraphError, match="not in it"):
        gx.grad((y * gx.ones(3)).sum(), x)
    seen, weight = gx.vector("seen", 3), gx.vector("weight", 3)
    assert gx.grad((seen * weight).sum(), weight) is seen
    with pytest.raises(GraphError, match="not in it"):
        gx.grad((seen * seen).sum(), y)
    assert gx.grad(gx.grad((seen * weight).sum(), weight).sum(), weight) is not None


def test_nothing_is_kept_alive() -> None:
    import gc

    from graphc.autodiff import membership

    before = len(membership._derivatives)
    kept = gx.grad((gx.cos(x) * 17).sum(), x)
    assert len(membership._derivatives) == before + 1
    del kept
    gc.collect()
    assert len(membership._derivatives) <= before
