"""Are pads that are added joined, gaps and all, and written as one array?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from backends import Case, backends, run

import graphc as gx
from graphc.node import topological
from graphc.rewrite import rewrite


def ops(node: gx.Node) -> Counter[str]:
    return Counter(each.op.name for each in topological(rewrite([node]).outputs))


def test_the_gradient_by_columns_taken_one_by_one_is_joined() -> None:
    x = gx.matrix("x", ("n", 6))
    parts = [x[:, i] for i in (4, 0, 1, 3)]
    cost = gx.sum(parts[0] * parts[1] + gx.sin(parts[2]) * parts[3])
    found = ops(gx.grad(cost, x))
    assert found["pad"] == 1 and found["concatenate"] == 1 and found["add"] == 0
    values = np.random.default_rng(0).normal(size=(5, 6))
    gradient = gx.compile([x], gx.grad(cost, x), options=gx.Options(cache=False))(values)
    wanted = np.zeros((5, 6))
    wanted[:, 4], wanted[:, 0] = values[:, 0], values[:, 4]
    wanted[:, 1], wanted[:, 3] = np.cos(values[:, 1]) * values[:, 3], np.sin(values[:, 1])
    assert np.allclose(gradient, wanted, rtol=1e-15)


def test_what_overlaps_or_lies_anywhere_is_added() -> None:
    x = gx.vector("x", 8)
    assert ops(gx.grad(gx.sum(x[:4] * 2) + gx.sum(x[3:] ** 2), x))["add"] == 1
    assert ops(gx.grad(gx.sum(x[:3] * 2) + gx.sum(x[3:] ** 2), x))["add"] == 0
    far = gx.grad(gx.sum(x[:2] * 2) + gx.sum(x[3:6:2] ** 2), x)  # every other element
    assert ops(far)["add"] == 1
    values = np.linspace(1, 2, 8)
    assert np.array_equal(gx.compile([x], far)(values), gx.evaluate(far, {x: values}))


def _determinant(a: gx.Node) -> gx.Node:
    minors = [a[..., 1, i] * a[..., 2, j] - a[..., 1, j] * a[..., 2, i] for i, j in PAIRS]
    return a[..., 0, 0] * minors[0] - a[..., 0, 1] * minors[1] + a[..., 0, 2] * minors[2]


PAIRS = ((1, 2), (0, 2), (0, 1))
GRIDS: list[Callable[[gx.Node], gx.Node]] = [
    _determinant,
    lambda a: a[:, 0, 1] * a[:, 2, 2],  # with gaps
    lambda a: a[:, 2, 0] * gx.sum(a[:, :2] ** 2, (1, 2)),  # whole rows, and an element
    lambda a: a[:, 0, 2] * a[:, 1, 0] * gx.sum(a[:, 2, 1:] ** 2, 1),  # parts of rows
    lambda a: gx.sum(a[:, :, 1] ** 2, 1) + a[:, 0, 0],  # a column is no run
    lambda a: a[:, 1, 1] * gx.sum(a[:, :, 1:] ** 2, (1, 2)),  # what overlaps
]


@pytest.mark.parametrize("function", GRIDS)
@pytest.mark.parametrize("backend", backends())
def test_elements_of_small_matrices(
    function: Callable[[gx.Node], gx.Node], backend: str
) -> None:
    """Over all axes of the matrices they lie side by side, if over none of them."""
    a = gx.symbol("a", ("n", 3, 3))
    gradient = gx.grad(gx.sum(gx.sin(function(a))), a)
    terms = [
        argument.args[0].op.name if argument.op.name == "reshape" else argument.op.name
        for node in topological(rewrite([gradient]).outputs)
        if node.op.name == "add"
        for argument in node.args
    ]
    assert ("pad" in terms or "concatenate" in terms) == (GRIDS.index(function) >= 4)
    for rows in (0, 1, 50):
        values = np.random.default_rng(rows).normal(size=(rows, 3, 3))
        (found,) = run(backend, Case([a], [gradient]), [values])
        np.testing.assert_allclose(found, gx.evaluate(gradient, {a: values}), 1e-12, 1e-12)


@pytest.mark.parametrize("backend", backends())
def test_many_columns_are_written_side_by_side(backend: str) -> None:
    x = gx.matrix("x", ("n", 3))
    columns = [gx.tanh(x[:, i % 3]) + float(i) for i in range(21)]
    joined = gx.stack([*columns, x[:, 0]], axis=1)
    pairs = gx.concatenate([x[:, :2] * 2.0, x[:, 1:], *[x[:, 1:] - float(i) for i in range(12)]], 1)
    case = Case([x], [joined, pairs])
    for rows in (0, 1, 7, 300):
        values = np.random.default_rng(rows).normal(size=(rows, 3))
        found = run(backend, case, [values])
        for mine, wanted in zip(found, gx.evaluate([joined, pairs], {x: values}), strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-14)
