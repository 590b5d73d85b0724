"""Does `vmap` of a function give for every example what the function gives for one?

Every sample of every op, with all arguments mapped and with each of them alone, on the evaluator;
programs of many ops compiled. What is element-wise, or moved, or looked up has to agree bit for
bit; sums may be associated otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ops.samples import Sample, results, table
from ops.samples import samples as samples_of

import graphc as gx
from graphc.errors import GraphError
from graphc.lowering import Compose, Contract, Nest, Reduce, Region
from graphc.node import Node

ROWS = 3
RANDOM = np.random.default_rng(8)
A = RANDOM.normal(size=(5, 3, 4))
B = RANDOM.normal(size=(5, 4, 2))
V = RANDOM.normal(size=4)


def choices(arity: int) -> list[tuple[bool, ...]]:
    """Which arguments are mapped: all, and each alone."""
    alone = [tuple(i == j for j in range(arity)) for i in range(arity)]
    return list(dict.fromkeys([(True,) * arity, *alone])) if arity else []


def check_sample(sample: Sample, dtype: str, count: Callable[..., None]) -> None:
    rows = [sample.arrays(dtype, seed) for seed in range(ROWS)]
    symbols = sample.symbols(dtype)

    def one(*args: Node) -> list[Node]:
        return results(sample.node(list(args)))

    for mapped in choices(len(symbols)):
        given = [
            np.stack([row[i] for row in rows]) if own else rows[0][i]
            for i, own in enumerate(mapped)
        ]
        wide = [
            gx.symbol(f"w{i}", array.shape, array.dtype) for i, array in enumerate(given)
        ]
        made = gx.vmap(one, in_axes=tuple(0 if own else None for own in mapped))(*wide)
        found = gx.evaluate(made, dict(zip(wide, given, strict=True)))
        for row in range(ROWS):
            own_row = [rows[row if own else 0][i] for i, own in enumerate(mapped)]
            want = gx.evaluate(one(*symbols), dict(zip(symbols, own_row, strict=True)))
            for got, expected in zip(found, want, strict=True):
                label = f"{sample.name} {sample.label} {dtype}, mapped {mapped}, row {row}"
                compare(got[row], expected, isinstance(sample.op.lowering, SUMS), label)
        count("vmap", "samples")


SUMS = (Compose, Contract, Nest, Reduce, Region)


def compare(got: Any, want: Any, rounded: bool, label: str) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape, label
    if not rounded or got.dtype.kind not in "fV":
        assert got.tobytes() == np.asarray(want).tobytes(), label
        return
    tolerance = 64 * float(np.finfo(want.dtype).eps) if want.dtype.kind == "f" else 0.1
    np.testing.assert_allclose(
        np.asarray(got, "float64"), np.asarray(want, "float64"), tolerance, tolerance, err_msg=label
    )


@pytest.mark.parametrize("name", list(table()))
def test_every_op(name: str, count: Callable[..., None]) -> None:
    for sample in samples_of(name):
        dtypes = [d for d in ("float64", "int64", "bool") if d in sample.dtypes]
        for dtype in dtypes[:1] or sample.dtypes[:1]:
            check_sample(sample, dtype, count)


def examples_of(
    function: Callable[..., Any], arrays: Sequence[Any], axes: Sequence[int | None], out: int
) -> np.ndarray:
    """The function of one example after the other, evaluated."""
    number = next(a.shape[x] for a, x in zip(arrays, axes, strict=True) if x is not None)
    rows = []
    for k in range(number):
        own = [
            gx.constant(a if x is None else np.take(a, k, x))
            for a, x in zip(arrays, axes, strict=True)
        ]
        rows.append(gx.evaluate(function(*own), {}))
    return np.stack(rows, out)


POSITIONS = np.array([0, 2, 1, 1, 0])
PROGRAMS: dict[str, tuple[Any, ...]] = {
    "products": (lambda x, y: x @ y, (A, B), (0, 0), 0),
    "a product with a shared vector": (lambda x, y: x @ y, (A, V), (0, None), 0),
    "a product of a shared matrix": (lambda x, y: gx.matmul(x, y), (A[0], B), (None, 0), 0),
    "batched products, one shared": (lambda x, y: x @ y, (A, B), (None, 0), 1),
    "a softmax": (lambda x: gx.softmax(x, axis=0) * x.var(ddof=1), (A,), (0,), 0),
    "a sort, results along the last axis": (lambda x: gx.sort(x, 0)[::-1], (A,), (0,), -1),
    "examples along axis 1": (lambda x: gx.cumsum(x, 1).T.reshape(-1), (A,), (1,), 0),
    "positions": (lambda x, i: x[:, i], (A, RANDOM.integers(0, 4, (5, 2))), (0, 0), 0),
    "positions in a shared array": (lambda x, i: x[i], (A[0], POSITIONS), (None, 0), 0),
    "positions along with lines": (
        lambda x, i: gx.take_along_axis(x, i, 1),
        (A[0], RANDOM.integers(0, 4, (5, 3, 2))),
        (None, 0),
        0,
    ),
    "an update": (lambda x, i: x.at[i].add(1.5), (A, POSITIONS), (0, 0), 0),
    "an update of a shared array": (
        lambda x, i: x.at[:, i].set(V[:2]),
        (A[0], RANDOM.integers(0, 4, (5, 2))),
        (None, 0),
        0,
    ),
    "a scan": (
        lambda x: gx.scan(lambda s, r: (s * 0.5 + r.sum(), s * r), 0.0, x)[1],
        (A,),
        (0,),
        0,
    ),
    "a scan over shared slices": (
        lambda s, x: gx.scan(lambda s, r: (s * r.sum(), s), s, x)[1],
        (A[:, 0, 0], A[0]),
        (0, None),
        0,
    ),
    "a loop that ends in other rounds": (
        lambda x: gx.while_loop(
            lambda s: s[0] < 20.0, lambda s: (s[0] * 1.5 + 1, s[1] + 1), (x, gx.constant(0))
        )[1],
        (np.array([0.5, 30.0, 19.0, 3.0]),),
        (0,),
        0,
    ),
    "a choice by example": (
        lambda p, x: gx.cond(p > 0, lambda t: t.sum(), lambda t: t.prod(), x),
        (A[:, 0, 0], A),
        (0, 0),
        0,
    ),
    "a choice for all": (
        lambda p, x: gx.cond(p > 0, lambda t: t.sum(), lambda t: t.prod(), x),
        (np.array(1.0), A),
        (None, 0),
        0,
    ),
    "a line for each": (
        lambda line, x: gx.searchsorted(line, x),
        (np.sort(RANDOM.normal(size=(5, 6))), RANDOM.normal(size=(5, 3))),
        (0, 0),
        0,
    ),
    "padding": (lambda x: gx.pad(x, 1, mode="reflect"), (A,), (0,), 0),
    "a convolution": (lambda x: gx.convolve(x, V[:3]), (A[:, 0],), (0,), 0),
    "medians": (lambda x: gx.median(x, axis=1), (A,), (0,), 0),
    "a call": (lambda x: gx.call(lambda y: gx.tanh(y) @ V, x), (A,), (0,), 0),
    "nested": (lambda x: gx.vmap(lambda r: r @ V * r.max())(x), (A,), (0,), 0),
    "a gradient for each": (
        lambda w: (lambda s: gx.grad(gx.logsumexp(s * V), s))(w * 1.0),
        (A[:, 0],),
        (0,),
        0,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    function, arrays, axes, out = PROGRAMS[name]
    symbols = [gx.symbol(f"a{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    made = gx.vmap(function, tuple(axes), out)(*symbols)
    want = examples_of(function, arrays, axes, out)
    compiled = gx.compile(symbols, made, options=gx.Options(cache=False, threads=1))
    for got in (compiled(*arrays), gx.evaluate(made, dict(zip(symbols, arrays, strict=True)))):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, 1e-12, 1e-12)


def test_gradients_of_examples_are_one_kernel() -> None:
    w, x = gx.vector("w", 4), gx.matrix("x", ("n", 4))
    each = gx.vmap(lambda row: gx.grad(gx.tanh(w @ row) ** 2, w))(x)
    f = gx.compile([w, x], each)
    given = RANDOM.normal(size=(6, 4))
    t = np.tanh(given @ V)
    np.testing.assert_allclose(f(V, given), (2 * t * (1 - t * t))[:, None] * given, 1e-12)
    assert len(f.kernels) <= 2


def test_derivatives_of_what_is_mapped() -> None:
    """Through the loops of all examples, forwards and backwards."""
    x = gx.matrix("x", (3, 4))

    def grown(row: Node) -> Node:
        return gx.scan(lambda s, r: (gx.sin(s + r), None), 0.5, row)[0]

    rows = gx.vmap(grown)(x)
    assert gx.check_grad(rows.sum(), x, {x: A[0]})


def test_containers_keywords_and_shared_parameters() -> None:
    params = {"w": gx.matrix("w", (2, 4)), "b": gx.vector("b", 2)}
    x = gx.matrix("x", ("n", 4))

    def layer(params: dict[str, Node], *, x: Node) -> dict[str, Any]:
        return {"y": params["w"] @ x + params["b"], "norm": (x * x).sum(), "w": params["w"]}

    out = gx.vmap(layer, in_axes=None, out_axes={"y": 1, "norm": 0, "w": None})(params, x=x)
    assert out["y"].shape == (2, gx.dim("n")) and out["norm"].shape == (gx.dim("n"),)
    assert out["w"] is params["w"]
    stacked = gx.vmap(lambda p, x: p["w"] @ x + p["b"], in_axes=({"w": None, "b": 0}, None))
    assert stacked({"w": A[0], "b": RANDOM.normal(size=(7, 3))}, V).shape == (7, 3)


def test_symbolic_numbers_of_examples_are_one() -> None:
    x, y = gx.vector("x", "n"), gx.vector("y", "m")
    f = gx.compile([x, y], gx.vmap(lambda a, b: a * b)(x, y))
    np.testing.assert_array_equal(f([1.0, 2.0], [3.0, 4.0]), [3.0, 8.0])
    with pytest.raises(ValueError):
        f([1.0, 2.0], [3.0])


def test_inside_jit() -> None:
    @gx.jit
    def f(x: np.ndarray) -> np.ndarray:
        return gx.vmap(lambda row: np.sort(row)[0] + np.linalg.norm(row))(x)

    np.testing.assert_allclose(f(A[0]), np.sort(A[0], 1)[:, 0] + np.linalg.norm(A[0], axis=1))


def test_random_numbers_of_keys() -> None:
    seeds = gx.vector("seeds", 3, "int64")
    noise = gx.vmap(lambda seed: gx.random.normal(gx.random.key(seed), (4,)))(seeds)
    got = gx.evaluate(noise, {seeds: np.array([1, 2, 3])})
    for seed, row in zip((1, 2, 3), got, strict=True):
        want = gx.evaluate(gx.random.normal(gx.random.key(seed), (4,)), {})
        assert row.tobytes() == want.tobytes()


x3, x4 = gx.vector("x3", 3), gx.vector("x4", 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gx.vmap(gx.add)(x3, x4), "different numbers of examples: 3, 4"),
        (lambda: gx.vmap(gx.add, in_axes=None)(x3, x3), "no argument is mapped"),
        (lambda: gx.vmap(gx.add, in_axes=(0,))(x3, x3), "each of the 2 arguments"),
        (lambda: gx.vmap(gx.exp, in_axes=1)(x3), "axis 1"),
        (lambda: gx.vmap(gx.exp, in_axes="rows")(x3), "in_axes"),
        (lambda: gx.vmap(gx.exp)(2.0), "axis 0"),
        (lambda: gx.vmap(gx.exp, out_axes=None)(x3), "out_axes is None"),
        (lambda: gx.vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": x3}), "does not fit"),
    ],
)
def test_bad_input(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        call()
