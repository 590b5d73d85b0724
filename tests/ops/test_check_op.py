"""Does `gx.check_op` find nothing wrong with a right op, and with others the thing that is wrong?
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.op import REGISTRY, Interval, elementwise, no_derivative
from graphc.op_check import CLAUSES


def cube_numpy(x: Any) -> Any:
    return x * x * x


RIGHT: dict[str, Any] = {
    "numpy": cube_numpy,
    "kernel": lambda k, x: k.mul(k.mul(x, x), x),
    "partials": lambda x, result: (3 * x * x,),
    "kinds": "f",
    "laws": frozenset(("odd", "increasing")),
    "domain": (Interval(-3, 3),),
    "text": "cube({})",
}


@pytest.fixture
def made() -> Iterator[Any]:
    """Makes an op like `RIGHT` but for what is given; it is forgotten after the test."""
    names = []

    def make(**changed: Any) -> Any:
        names.append(f"checked_cube_{len(names)}")
        return elementwise(names[-1], **{**RIGHT, **changed})

    yield make
    for name in names:
        del REGISTRY[name]


def test_a_right_op_keeps_every_clause(made: Any) -> None:
    found = gx.check_op(made())
    assert found and found.ok, str(found)
    assert set(found.clauses) == set(CLAUSES)
    assert "keeps its contract" in str(found) and "second derivative: ok" in str(found)


def wrong_at_edges(x: Any) -> Any:
    return np.where(np.isinf(x), np.nan, cube_numpy(x)).astype(x.dtype)


WRONG = {
    "native code": {"kernel": lambda k, x: k.mul(k.mul(x, x), k.add(x, k.const(1e-3, x.dtype)))},
    "kernel interpreter": {"numpy": wrong_at_edges},
    "derivative": {"partials": lambda x, result: (2 * x * x,)},
    "second derivative": {"partials": lambda x, result: (3 * gx.stop_gradient(x) * x,)},
    "type rule": {"numpy": lambda x: cube_numpy(x).astype(np.float64)},
    "laws": {"laws": frozenset(("even",))},
    "record": {"partials": no_derivative("no")},
}


@pytest.mark.parametrize("clause", WRONG)
def test_the_clause_that_is_broken_is_named(clause: str, made: Any) -> None:
    found = gx.check_op(made(**WRONG[clause]))
    assert not found and found.clauses[clause], str(found)
    if clause not in ("native code", "kernel interpreter", "type rule"):
        assert [c for c, what in found.clauses.items() if what] == [clause], str(found)
    assert "breaks its contract" in str(found)


def test_a_wrong_element_is_shown_with_its_arguments(made: Any) -> None:
    found = gx.check_op(made(numpy=wrong_at_edges))
    assert "at special values: element [2] of inf is inf, and by NumPy nan" in str(found)


def test_an_op_without_derivative_says_why(made: Any) -> None:
    why = "it is the cube of somebody else"
    found = gx.check_op(made(partials=no_derivative(why)))
    assert found, str(found)
    assert found.clauses["derivative"] == "" and "second derivative" not in found.clauses


def test_other_ops_need_examples() -> None:
    x, y = gx.matrix("x", (3, 4)), gx.matrix("y", (4, 2))
    examples = [gx.cumsum(x, axis=1)]
    op = examples[0].op
    with pytest.raises(gx.GraphError, match="needs examples of"):
        gx.check_op(op)
    assert gx.check_op(op, examples), str(gx.check_op(op, examples))
    product = x @ y
    found = gx.check_op(product.op, [product])
    assert found, str(found)
    with pytest.raises(gx.GraphError, match="is a node of it"):
        gx.check_op(op, [product])
    with pytest.raises(gx.GraphError, match="takes an op"):
        gx.check_op("cumsum")
