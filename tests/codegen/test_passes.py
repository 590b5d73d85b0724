"""Is an array that is needed several times read once, and is what comes out right?

Each graph is compared with the evaluator on every backend, with the constants that decide on parts
and tiles made small; at their true sizes the number of kernels is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.scalar import Value, walk
from tests.backends import BATCHED, Case, Judge, backends, compiled, compiled_together

Build = Callable[[gx.Node, gx.Node], list[gx.Node]]


def _loss(x: gx.Node, w: gx.Node) -> list[gx.Node]:
    """Rows, what is dear for each of them, and reductions over all of them."""
    z = gx.sum(x * w, axis=1)
    value = gx.sum(gx.softplus(z) - z)
    return [value, gx.grad(value, w)]


def _layer_norm(x: gx.Node, w: gx.Node) -> list[gx.Node]:
    centred = x - gx.mean(x, axis=1, keepdims=True)
    unit = centred / gx.sqrt(gx.mean(centred * centred, axis=1, keepdims=True) + 1e-3)
    return [unit * w, *gx.vjp(unit * w, [x, w], x)]


def _dear(x: gx.Node, w: gx.Node, axis: int) -> list[gx.Node]:
    """What several passes over rows, or columns, need of arrays in memory; and one that reads it
    elsewhere as well.
    """
    z = gx.log(gx.exp(x) + 1) * gx.tanh(x) + x
    turned = z[::-1] if axis else z[:, ::-1]
    top = gx.max(z, axis=axis, keepdims=True)
    return [
        gx.softmax(z, axis=axis) * gx.erf(x * w),
        gx.sum(gx.exp(gx.sinh(gx.tanh(x)) - top), axis=axis),
        gx.tanh(turned - gx.max(turned, axis=axis, keepdims=True)) * turned,
    ]


def _joined(x: gx.Node, w: gx.Node) -> list[gx.Node]:
    """Parts that one kernel makes, one that stands twice, and one that is an input."""
    rows = [gx.tanh(w * k) for k in range(1, 11)]
    return [gx.stack([*rows, rows[0], w]), gx.concatenate([*rows, w]), gx.stack(rows, axis=1)]


BUILDS: dict[str, Build] = {
    "several of all": lambda x, w: [gx.sum(x), gx.max(x), gx.sum(x * x), gx.min(x)],
    "several of rows": lambda x, w: [gx.sum(x, axis=1), gx.max(x * w, axis=1)],
    "several of columns": lambda x, w: [gx.sum(x, axis=0), gx.max(x, axis=0) * w],
    "rows and columns": lambda x, w: [gx.max(x, axis=1), gx.sum(x, axis=0), gx.min(x, axis=0)],
    "one for each row": lambda x, w: [gx.sum(gx.sum(x, axis=1) ** 2), gx.sum(x * w, axis=0)],
    "loss": _loss,
    "layer norm": _layer_norm,
    "matrix and vector": lambda x, w: [x @ w, w @ x.T, x.T @ (x @ w), w @ w],
    "dear in rows": lambda x, w: _dear(x, w, 1),
    "dear in columns": lambda x, w: _dear(x, w, 0),
    "joined": _joined,
    "turned": lambda x, w: [x.T + 1, gx.transpose(x * w), gx.expand_dims(x, 0).T * 2],
    "stepped": lambda x, w: [x[::-1] + 1, x[:, ::-1] * 2, x[:, ::2] + 1, w[::3] * 2, w[::-2] + 1],
}
# The largest of no elements is an error.
OF_NO_ROWS = ("several of all", "several of columns", "rows and columns", "dear in columns")
SHAPES = ((1, 5), (7, 5), (40, 6), (300, 17))


def _case(name: str, rows: Any, columns: Any) -> Case:
    x, w = gx.symbol("x", (rows, columns), "float32"), gx.symbol("w", (columns,), "float32")
    return Case([x, w], BUILDS[name](x, w))


def _arrays(rows: int, columns: int) -> list[np.ndarray]:
    generator = np.random.default_rng(rows)
    x = generator.normal(size=(rows, columns)).astype("f4")
    return [x, generator.normal(size=columns).astype("f4")]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BUILDS)
def test_static_shapes(name: str, shape: tuple[int, int]) -> None:
    case, arrays = _case(name, *shape), _arrays(*shape)
    judge = Judge(case.inputs, case.outputs, arrays)
    found = {}
    for backend in ("interpreter", "llvm-1", "llvm-2"):
        found[backend] = compiled(backend, case)(*arrays)
        judge.check(found[backend], backend)
    one, two = ([a.tobytes() for a in found[b]] for b in ("llvm-1", "llvm-2"))
    assert one == two, "one and two threads differ"


@pytest.mark.parametrize("name", BUILDS)
def test_named_dimensions(name: str) -> None:
    columns = 12 if name in ("joined", "stepped") else gx.dim("m")
    case = _case(name, gx.dim("n"), columns)
    functions = {backend: compiled(backend, case) for backend in ("interpreter", "llvm-2")}
    for rows, width in ((0, 12), (1, 12), (33, 12)):
        arrays = _arrays(rows, width)
        if rows == 0 and name in OF_NO_ROWS:
            continue
        judge = Judge(case.inputs, case.outputs, arrays)
        for backend, function in functions.items():
            judge.check(function(*arrays), f"{backend} at {rows}")


@pytest.mark.parametrize("backend", [name for name in BATCHED if name in backends()])
def test_other_targets(backend: str) -> None:
    cases = [_case(name, 40, 6) for name in BUILDS]
    arrays = _arrays(40, 6)
    for name, case, function in zip(
        BUILDS, cases, compiled_together(backend, cases), strict=True
    ):
        Judge(case.inputs, case.outputs, arrays).check(function(*arrays), f"{name} on {backend}")


def test_nan_and_infinities() -> None:
    case, (x, w) = _case("rows and columns", 40, 6), _arrays(40, 6)
    x[3, 2], x[5, 1], x[6, 0] = np.nan, np.inf, -np.inf
    Judge(case.inputs, case.outputs, [x, w]).check(compiled("llvm-1", case)(x, w), "llvm-1")


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("several of all", 2), ("loss", 3), ("rows and columns", 2), ("several of columns", 2)],
)
def test_a_large_array_is_read_once(name: str, kernels: int) -> None:
    """One pass, and the combination of its parts for every shape of result."""
    case = _case(name, 4000, 300 if name != "loss" else 30)
    assert len(gx.compile(case.inputs, case.outputs).report().kernels) == kernels


@pytest.mark.parametrize("axis", [0, 1])
def test_what_several_passes_need_is_computed_once(axis: int) -> None:
    """The logits of a softmax, which logarithms make, wait in memory of the worker for its second
    pass, as their exponentials do for its third; what they are made of does not.
    """
    u = gx.symbol("u", (300, 500), "float32")
    outputs = gx.softmax(-gx.log(-gx.log(u)), axis=axis)
    (kernel,) = gx.compile(u, outputs, options=gx.Options(cache=False)).kernels
    loads = [
        s.immediate.buffer.space
        for s in walk(kernel.body)
        if isinstance(s, Value) and s.opcode == "load"
    ]
    reading = {"global": 1, "worker": 2}
    assert {space: loads.count(space) for space in reading} == reading


def test_parts_are_made_where_they_belong() -> None:
    """Ten rows of a stack need no kernel that copies them."""
    w = gx.vector("w", 1000)
    rows = [gx.tanh(w * k) for k in range(1, 11)]
    assert len(gx.compile([w], gx.stack(rows)).report().kernels) <= 2


@pytest.mark.parametrize(
    "part",
    [
        lambda x: gx.cumsum(x, -1),
        lambda x: gx.linalg.cholesky(x @ x.T + 9 * gx.eye(10)),
        lambda x: x.at[np.array([2, 0, 1])].add(1.0),
        lambda x: gx.concatenate([gx.exp(x[[i]] * i) @ gx.ones((8, 8)) for i in range(10)], 0),
        lambda x: gx.softmax(x, -1),
        lambda x: x @ x.T,
    ],
    ids=["running sum", "factor", "scatter", "parts of its own", "rows", "product"],
)
def test_a_part_between_others_is_where_it_belongs(part: Callable[[gx.Node], gx.Node]) -> None:
    """Whoever makes it: its rows lie apart in the array that it is a part of."""
    x = gx.symbol("x", (10, 8))
    scaled = [x * k for k in range(2, 12)]
    whole = gx.concatenate([*scaled[:4], part(x), *scaled[4:]], 1)
    given = np.random.default_rng(6).normal(size=(10, 8))
    wanted = gx.evaluate(whole, {x: given})
    for target in ("cpu", "interpret"):
        made = gx.compile(x, whole, target=target, options=gx.Options(cache=False, threads=1))
        np.testing.assert_allclose(made(given), wanted, rtol=1e-12, atol=1e-12)


def test_the_report_says_what_is_fused_and_what_is_not() -> None:
    x, w = gx.symbol("x", (64, 64)), gx.symbol("w", (64, 64))
    y = gx.exp(gx.relu(x @ w + 1) + 1)
    z = gx.sum(y, axis=1) + 1
    function = gx.compile([x, w], [z, y + y.T], options=gx.Options(cache=False))
    reasons = " / ".join(kernel.reason for kernel in function.report().kernels)
    assert "fused: add (2 times), relu, exp, which reads values of the kernel where" in reasons
    assert "not fused: sum, which needs whole rows, and a product is made in tiles" in reasons
    assert "not fused: add, which reads values of the kernel elsewhere" in reasons


def test_a_sum_over_rows_waits_for_the_kernel_of_the_rows() -> None:
    """It is the first reduction of the graph, but the array is read once."""
    x, seed = gx.symbol("x", (700, 128)), gx.symbol("seed", (700, 128))
    unit = x / gx.sqrt(gx.mean(x * x, axis=1, keepdims=True))
    outputs = [gx.sum(seed, axis=0), unit, gx.sum(unit * (seed * 2), axis=1)]
    made = gx.compile([x, seed], outputs, options=gx.Options(cache=False))
    assert len(made.kernels) == 2  # the second adds up the parts
    a, b = np.random.default_rng(4).normal(size=(2, 700, 128))
    wanted = a / np.sqrt((a * a).mean(1, keepdims=True))
    for got, each in zip(made(a, b), [b.sum(0), wanted, (wanted * b * 2).sum(1)], strict=True):
        np.testing.assert_allclose(got, each, rtol=1e-12, atol=1e-12)
