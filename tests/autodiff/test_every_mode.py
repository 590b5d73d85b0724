"""Do all ways to a derivative agree, for every op, in every float dtype?

Every sample of every differentiable op on the evaluator: four ways to second derivatives, mixed
partials in both orders, a Hessian times a vector by one pass and by its matrix, and the derivatives
in float32, float16 and bfloat16 beside those in float64, which `test_contract.py` compares with
differences and complex steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from backends import evaluator
from ops.samples import FLOATS, Sample, results
from ops.samples import samples as samples_of

import graphc as gx
from graphc.dtypes import is_float
from graphc.node import Node
from graphc.op import REGISTRY, NoDerivative
from graphc.types import TensorType

NARROW = tuple(dtype for dtype in FLOATS if dtype != "float64")


def _real(node: Node) -> bool:
    return isinstance(node.type, TensorType) and is_float(node.type.dtype)


def _ops() -> list[str]:
    """The ops with derivatives that have smooth samples of float64."""
    found = []
    for name in REGISTRY:
        if isinstance(REGISTRY[name].derivative, NoDerivative):
            continue
        if any(sample.smooth and "float64" in sample.dtypes for sample in samples_of(name)):
            found.append(name)
    return sorted(found)


class Point:
    """A sample at a point of a dtype, with two directions for its inputs and one for its results.

    Numbers are of the dtype `exact` and may be held in a wider one.
    """

    def __init__(self, sample: Sample, dtype: str, exact: str) -> None:
        self.symbols = sample.symbols(dtype)
        held = [
            array.astype(exact) if is_float(array.dtype) else array
            for array in sample.arrays("float64")
        ]
        self.arrays = [
            array.astype(symbol.dtype) for array, symbol in zip(held, self.symbols, strict=True)
        ]
        self.outputs = [result for result in results(sample.node(self.symbols)) if _real(result)]
        self.inputs = [symbol for symbol in self.symbols if _real(symbol)]
        random = np.random.default_rng(7)

        def drawn(nodes: list[Node]) -> list[Any]:
            return [
                random.uniform(-1, 1, node.shape).astype(exact).astype(node.dtype)
                for node in nodes
            ]

        self.first, self.second = drawn(self.inputs), drawn(self.inputs)
        self.weights = drawn(self.outputs)

    def value(self, nodes: list[Node]) -> list[Any]:
        with np.errstate(all="ignore"):
            found = evaluator(self.symbols, nodes, self.arrays)
        return [np.asarray(each).astype(np.float64) for each in found]

    def pulled(self) -> list[Node]:
        return list(gx.vjp(self.outputs, self.inputs, self.weights))

    def pushed(self, direction: list[Any]) -> list[Node]:
        return list(gx.jvp(self.outputs, self.inputs, direction))


def _inner(first: list[Any], second: list[Any]) -> tuple[float, float]:
    terms = [np.asarray(a, np.float64) * b for a, b in zip(first, second, strict=True)]
    total = float(sum(np.sum(t) for t in terms))
    return total, float(sum(np.sum(np.abs(t)) for t in terms))


def check_second_order(sample: Sample) -> None:
    """u' H v by each pair of modes, and with u and v changed about."""
    point = Point(sample, "float64", "float64")
    inputs, u, v = point.inputs, point.first, point.second
    gradient, pushed = point.pulled(), point.pushed(u)
    ways = {
        "forward over reverse": (point.value(gx.jvp(gradient, inputs, v)), u),
        "the other way about": (point.value(gx.jvp(gradient, inputs, u)), v),
        "reverse over reverse": (point.value(gx.vjp(gradient, inputs, u)), v),
        "reverse over forward": (point.value(gx.vjp(pushed, inputs, point.weights)), v),
        "forward over forward": (point.value(gx.jvp(pushed, inputs, v)), point.weights),
    }
    found = {name: _inner(*pair) for name, pair in ways.items()}
    size = max(size for _, size in found.values())
    wanted = found["forward over reverse"][0]
    for name, (got, _) in found.items():
        assert abs(got - wanted) <= 1e-11 * (size + 1e-300), (sample.label, name, got, wanted)


@pytest.mark.parametrize("name", _ops())
def test_the_ways_to_second_derivatives_agree_and_mixed_partials_commute(name: str) -> None:
    for sample in samples_of(name)[:2]:
        if sample.smooth and "float64" in sample.dtypes:
            check_second_order(sample)


@pytest.mark.slow
@pytest.mark.parametrize("name", _ops())
def test_every_sample_agrees_at_second_order(name: str) -> None:
    for sample in samples_of(name):
        if sample.smooth and "float64" in sample.dtypes:
            check_second_order(sample)


# How many units in the last place of the largest element a derivative may be off: a rule is a few
# operations, each rounded; in decompositions they are sums over rows of an inverse.
ROUNDINGS = 32.0
AMPLIFIED = {
    **dict.fromkeys(("eigh", "svd", "qr", "lu", "cholesky", "triangular_solve"), 4096.0),
    **dict.fromkeys(("pinv", "expm"), 4096.0),
    "scatter_mul": 256.0,  # quotients of products of many
}


def check_narrow(sample: Sample, dtype: str) -> None:
    """jvp, vjp and forward over reverse in a dtype, beside float64 at the same numbers."""
    narrow, wide = Point(sample, dtype, dtype), Point(sample, "float64", dtype)
    if [node.dtype for node in wide.outputs] == [node.dtype for node in narrow.outputs]:
        return  # the op's dtype does not follow its arguments
    unit = float(ml_dtypes.finfo(dtype).eps)
    for label, make in (
        ("jvp", lambda p: p.pushed(p.first)),
        ("vjp", lambda p: p.pulled()),
        ("second", lambda p: gx.jvp(p.pulled(), p.inputs, p.second)),
    ):
        for got, want in zip(narrow.value(make(narrow)), wide.value(make(wide)), strict=True):
            if not want.size or not np.all(np.isfinite(want)):
                continue
            largest = 1 + float(np.max(np.abs(want)))
            if largest > float(ml_dtypes.finfo(dtype).max) / 8:
                continue  # it overflows, or what it is made of does
            allowed = AMPLIFIED.get(sample.name, ROUNDINGS) * unit * largest
            apart = np.max(np.abs(got - want))
            assert apart <= allowed, (sample.name, sample.label, dtype, label, apart / unit)


@pytest.mark.parametrize("name", _ops())
def test_derivatives_in_float32_are_those_of_float64(name: str) -> None:
    for sample in samples_of(name)[:2]:
        if sample.smooth and {"float32", "float64"} <= set(sample.dtypes):
            check_narrow(sample, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", _ops())
def test_derivatives_in_every_dtype_are_those_of_float64(name: str, dtype: str) -> None:
    for sample in samples_of(name):
        if sample.smooth and {dtype, "float64"} <= set(sample.dtypes):
            check_narrow(sample, dtype)


HESSIANS: dict[str, Callable[[Node], Node]] = {
    "products": lambda x: gx.prod(x) + gx.sum(x[1:] * x[:-1] ** 2),
    "special functions": lambda x: gx.sum(gx.gammaln(x) * gx.j0(x) + gx.xlogy(x, x)),
    "sums of exponentials": lambda x: gx.logsumexp(gx.outer(x, x), axis=1).sum(),
    "a loop": lambda x: gx.scan(lambda s, v: (gx.tanh(s * v) + v, s), gx.sum(x), x)[0],
    "a choice": lambda x: gx.cond(x[0] > 0, lambda v: gx.sum(v**3), lambda v: gx.sum(v), x),
    "a bounded loop": lambda x: gx.while_loop(
        lambda s: s[1] < 3, lambda s: (gx.sin(s[0]) * x + s[0], s[1] + 1),
        (x, gx.constant(0)), bound=5,
    )[0].sum(),
    "a solution": lambda x: gx.linalg.solve(gx.outer(x, x) + 4 * gx.eye(4), x).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", HESSIANS)
def test_a_hessian_times_a_vector_is_its_product_with_the_vector(name: str) -> None:
    x, v = gx.vector("x", 4), gx.vector("v", 4)
    cost = HESSIANS[name](x)
    made = [
        gx.hvp(cost, x, v),
        gx.hessian(cost, x) @ v,
        v @ gx.hessian(cost, x),
        gx.grad(gx.grad(cost, x) @ v, x),
    ]
    given = {x: np.array([0.7, 1.3, 0.4, 2.1]), v: np.array([1.0, -2.0, 0.5, 0.25])}
    found = gx.evaluate(made, given)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-11, atol=1e-12)
