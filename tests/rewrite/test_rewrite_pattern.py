"""Do patterns match what they say, in every order that their ops allow, and do they print as
written?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.node import Node
from graphc.rewrite.pattern import (
    Pattern,
    build,
    functions,
    matches,
    named,
    number_of,
    numbers,
    orders,
    same_number,
    text,
    variables,
)

x, y, z = variables("x y z")
c, d = numbers("c d")
exp, log, where, sum_ = functions("exp log where sum")


def match(pattern: Pattern, node: Node) -> dict[Any, Any] | None:
    for ordered in orders(pattern):
        found: dict[Any, Any] = {}
        if matches(ordered, node, found, number_of):
            return found
    return None


u, v = gx.vector("u", 4), gx.vector("v", 4)


@pytest.mark.parametrize(
    ("pattern", "node"),
    [
        (log(1 + x), gx.log(1 + u)),
        (log(1 + x), gx.log(u + 1)),
        (x - 1, u - 1.0),
        (x * y + x * z, u * v + gx.sin(v) * u),
        (x * y + x * z, v * u + u * gx.sin(v)),
        (where(x > 0, x, 0), gx.where(u > 0, u, 0.0)),
        (x - x, u - u),
        (c * x, u * 2.5),
        (exp(-x) / (1 + exp(-x)), gx.exp(-u) / (gx.exp(-u) + 1)),
        (sum_(x), gx.sum(u)),
        (~(x < y), ~(u < v)),
    ],
    ids=str,
)
def test_matches(pattern: Pattern, node: Node) -> None:
    found = match(pattern, node)
    assert found is not None


@pytest.mark.parametrize(
    ("pattern", "node"),
    [
        (log(1 + x), gx.log(2 + u)),
        (x - 1, 1 - u),
        (x - x, u - v),
        (x * y + x * z, gx.sin(u) * v + u * gx.sin(v)),
        (c * x, u * v),
        (c * x, u * gx.constant(np.array([1.0, 2.0, 3.0, 4.0]))),
        (x + 0, u + (-0.0)),
        (exp(x), gx.log(u)),
    ],
    ids=str,
)
def test_does_not_match(pattern: Pattern, node: Node) -> None:
    assert match(pattern, node) is None


def test_bindings_are_nodes_numbers_and_named_matches() -> None:
    node = gx.log(gx.sum(u * 3.0))
    found = match(log(named("total", sum_(x * c))), node)
    assert found is not None
    assert found["x"] is u
    assert found["c"] == 3.0
    assert found["total"] is node.args[0]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (log(1 + x), "log(1 + x)"),
        (x * (y + z), "x * (y + z)"),
        (x * y + z, "x * y + z"),
        (x - (y - z), "x - (y - z)"),
        (x - y - z, "x - y - z"),
        (-(x * y), "-(x * y)"),
        (-x * y, "-x * y"),
        (-(x**2), "-x ** 2"),
        ((-x) ** 2, "(-x) ** 2"),
        (x + (-0.0), "x + (-0.0)"),
        (1 / (1 + exp(-x)), "1 / (1 + exp(-x))"),
        (~(x & ~y) | True, "~(x & ~y) | True"),
        (where(x < y, x, 0), "where(x < y, x, 0)"),
        (abs(x), "absolute(x)"),
        (c * (d * x), "c * (d * x)"),
    ],
)
def test_prints_as_written(written: Pattern, shown: str) -> None:
    assert text(written) == shown
    assert str(written) == shown


def test_text_is_python_that_builds_the_same_pattern() -> None:
    names = {"x": x, "y": y, "exp": exp, "where": where}
    for pattern in (x * (y - 1) / -y, where(x <= y, exp(-x), ~(x > y)), (x + y) ** 2 - 1):
        assert text(eval(text(pattern), names)) == text(pattern)  # noqa: S307


def test_results_are_built_at_the_type_of_the_match() -> None:
    node = gx.symbol("a", ("n", 2), "float32")
    made = build(1 / (2 + x), {"x": node}, node.type)
    assert made.type is node.type
    assert made is 1 / (2 + node)


def test_numbers_in_a_where_take_the_type_of_the_branches() -> None:
    condition, node = gx.symbol("p", 4, "bool"), gx.symbol("a", 4, "float32")
    made = build(where(x, 1, y), {"x": condition, "y": node}, node.type)
    assert (
        made is gx.where(condition, gx.cast(gx.ones(4), "float32"), node) or made.type is node.type
    )
    assert number_of(made.args[1]) == 1


def test_numbers_of_constants() -> None:
    assert number_of(gx.constant(3)) == 3
    assert number_of(gx.zeros((2, "n"))) == 0
    assert number_of(gx.constant(np.full((2, 3), 7.0))) == 7
    assert number_of(gx.constant(np.array([1.0, 2.0]))) is None
    assert number_of(gx.constant(np.array([0.0, -0.0]))) is None
    assert number_of(gx.constant(np.array([]))) is None
    assert number_of(gx.constant(2**62 + 1)) == 2**62 + 1
    assert number_of(u) is None


def test_equal_numbers() -> None:
    assert same_number(0.0, 0)
    assert not same_number(0.0, -0.0)
    assert not same_number(True, 1)
    assert not same_number(float("nan"), float("nan"))
