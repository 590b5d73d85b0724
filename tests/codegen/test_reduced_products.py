"""Are products of short rows right that are reduced where they are made, and are they?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import Case, Judge, backends, run

import graphc as gx
from graphc.codegen.loops import Contract
from graphc.node import Node

RANDOM = np.random.default_rng(23)


def kernels(function: Any) -> list[str]:
    """What the kernels of a Function are: "product" for one by tiles, else their titles."""
    launches = function._impl.program.launches()
    nests = [launch.kernel for launch in launches]
    return ["product" if isinstance(k.nest, Contract) else k.title for k in nests]


def mahalanobis(x: Node, means: Node, factors: Node) -> Node:
    centred = gx.expand_dims(x, 0) - gx.expand_dims(means, 1)
    return gx.sum(gx.square(centred @ factors), axis=2)


def of_columns(x: Node, means: Node, factors: Node) -> Node:
    """The other factor has the rows: products in columns, which are reduced."""
    made = gx.swapaxes(factors, 1, 2) @ gx.swapaxes(
        gx.expand_dims(x, 0) - gx.expand_dims(means, 1), 1, 2
    )
    return gx.max(gx.abs(made), axis=1) - 2.0 * gx.min(made, axis=1)


def several_stages(x: Node, means: Node, factors: Node) -> Node:
    scores = x @ factors[0] + means[0, : factors.shape[2]]
    return gx.logsumexp(scores, axis=1) - gx.sum(scores, axis=1, keepdims=True)[:, 0]


def all_of_several_axes(x: Node, means: Node, factors: Node) -> Node:
    """Two axes are summed, two reduced."""
    made = gx.einsum("nk,bk,bkj,ck->ncj", x, means, factors, means[:2])
    return gx.sum(gx.square(made), axis=(1, 2)) + gx.all(made < 3.0, axis=(1, 2))


FORMS: dict[str, Callable[..., Node]] = {
    "mahalanobis": mahalanobis,
    "of columns": of_columns,
    "several stages": several_stages,
    "several axes": all_of_several_axes,
}


def problem(depth: int, columns: int, dtype: str) -> list[Node]:
    shapes = {"x": ("n", depth), "means": (3, depth), "factors": (3, depth, columns)}
    return [gx.symbol(name, shape, dtype) for name, shape in shapes.items()]


def values(rows: int, depth: int, columns: int, dtype: str) -> list[Any]:
    shapes = ((rows, depth), (3, depth), (3, depth, columns))
    return [RANDOM.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("backend", ["interpreter", "llvm-1", "llvm-2"])
def test_every_form_at_several_sizes(form: str, dtype: str, backend: str) -> None:
    inputs = problem(5, 4, dtype)
    outputs = [FORMS[form](*inputs)]
    for rows in (0, 1, 67, 130):
        arrays = values(rows, 5, 4, dtype)
        judge = Judge(inputs, outputs, arrays, rewritten=True)
        judge.check(run(backend, Case(inputs, outputs, math="ieee"), arrays), backend)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_one_kernel(form: str) -> None:
    inputs = problem(5, 4, "float64")
    found = kernels(gx.compile(inputs, FORMS[form](*inputs)))
    assert "product" not in found and any(title.startswith("contract") for title in found)


@pytest.mark.parametrize("columns", [1, 2, 13, 25, 32, 33])
def test_every_number_of_columns(columns: int) -> None:
    inputs = problem(7, columns, "float64")
    distances = mahalanobis(*inputs)
    f = gx.compile(inputs, distances, options=gx.Options(threads=1))
    in_registers = "contract_square_sum" in kernels(f)
    assert in_registers == (2 <= columns <= 32)
    x, means, factors = values(150, 7, columns, "float64")
    want = np.square((x[None] - means[:, None]) @ factors).sum(2)
    np.testing.assert_allclose(f(x, means, factors), want, rtol=1e-12)


def test_threads_give_the_same_bits() -> None:
    inputs = problem(20, 20, "float64")
    arrays = values(5000, 20, 20, "float64")
    made = [
        gx.compile(inputs, mahalanobis(*inputs), options=gx.Options(threads=threads))(*arrays)
        for threads in (1, 2)
    ]
    assert np.array_equal(*made)


def test_the_text_in_c() -> None:
    if "c" not in backends():
        pytest.skip("no C compiler")
    inputs, arrays = problem(5, 4, "float32"), values(67, 5, 4, "float32")
    outputs = [mahalanobis(*inputs)]
    judge = Judge(inputs, outputs, arrays, rewritten=True)
    judge.check(run("c", Case(inputs, outputs, math="ieee"), arrays), "c")


@pytest.mark.parametrize("backend", ["interpreter", "llvm-1"])
def test_special_values(backend: str) -> None:
    inputs = problem(4, 3, "float64")
    outputs = [several_stages(*inputs), of_columns(*inputs)]
    arrays = values(70, 4, 3, "float64")
    arrays[0][:4, 1] = [np.nan, np.inf, -np.inf, -0.0]
    arrays[0][5] = 1e300
    with np.errstate(all="ignore"):
        judge = Judge(inputs, outputs, arrays, rewritten=True)
        judge.check(run(backend, Case(inputs, outputs, math="ieee"), arrays), backend)


def test_half_floats_are_summed_in_single_precision() -> None:
    inputs = problem(6, 5, "float16")
    made = gx.compile(inputs, mahalanobis(*inputs))(*values(90, 6, 5, "float16"))
    assert made.dtype == np.float16 and made.shape == (3, 90)
    judged = problem(6, 5, "float16")
    arrays = values(90, 6, 5, "float16")
    judge = Judge(judged, [mahalanobis(*judged)], arrays, rewritten=True)
    case = Case(judged, [mahalanobis(*judged)], math="ieee")
    judge.check(run("llvm-1", case, arrays), "llvm-1")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("columns", [3, 4, 20, 27])
def test_elements_are_stored_that_are_wanted_besides(dtype: str, columns: int) -> None:
    inputs = problem(20, columns, dtype)
    x, means, factors = inputs
    made = x @ factors[0]
    outputs = [made, gx.sum(gx.square(made), axis=1), gx.softmax(-made, axis=1)]
    assert "product" not in kernels(gx.compile(inputs, outputs))
    arrays = values(131, 20, columns, dtype)
    judge = Judge(inputs, outputs, arrays, rewritten=True)
    judge.check(run("llvm-1", Case(inputs, outputs, math="ieee"), arrays), "llvm-1")


@pytest.mark.parametrize("donate", [False, True])
def test_rows_are_made_anew_of_what_the_call_was_given(donate: bool) -> None:
    """The centred points are stored for the gradient; the forward pass makes them once more."""
    inputs = problem(20, 20, "float64")
    x, means, factors = inputs
    cost = gx.sum(gx.logsumexp(-mahalanobis(*inputs), axis=0))
    outputs = [cost, *gx.grad(cost, [means, factors]), x * 2.0]
    arrays = values(200, 20, 20, "float64")
    given = {x: len(outputs) - 1} if donate else {}
    want = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    made = gx.compile(inputs, outputs, donate=given)(*[a.copy() for a in arrays])
    for one, other in zip(made, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_alike_products_of_different_points_are_told_apart() -> None:
    names = ("a", "b")
    points = [gx.symbol(name, ("n", 6), "float64") for name in names]
    _, means, factors = problem(6, 5, "float64")
    costs = [gx.sum(gx.tanh(mahalanobis(x, means, factors))) for x in points]
    outputs = [gx.grad(cost, factors) for cost in costs]
    x, centres, matrices = values(70, 6, 5, "float64")
    arrays = [x, 0.5 * x[::-1] + 1.0, centres, matrices]
    inputs = [*points, means, factors]
    want = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(gx.compile(inputs, outputs)(*arrays), want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_long_rows_are_made_in_tiles() -> None:
    inputs = problem(65, 20, "float64")
    assert "product" in kernels(gx.compile(inputs, mahalanobis(*inputs)))


def test_strided_inputs() -> None:
    inputs = problem(6, 5, "float64")
    f = gx.compile(inputs, mahalanobis(*inputs))
    x, means, factors = values(100, 6, 5, "float64")
    want = f(x, means, factors)
    turned = np.asfortranarray(x)
    np.testing.assert_allclose(f(turned, means[::-1][::-1], factors), want, rtol=1e-13)
    np.testing.assert_allclose(f(np.repeat(x, 2, 0)[::2], means, factors), want, rtol=1e-13)
