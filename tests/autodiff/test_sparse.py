"""Are sparse Jacobians and Hessians what the dense ones are, and no wider than they must be?

The truth is the dense matrix, taken with the evaluator at points where nothing cancels. Patterns
contain it always; where the positions of an op are not data they are equal to it. Colourings are
held to what they are for: every entry can be read.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc import dtypes
from graphc.autodiff import coloring, sparsity
from graphc.autodiff.coloring import Coloring, color_columns, separates, star
from graphc.autodiff.compressed import _in_directions, plan_of, tangent_of
from graphc.autodiff.pattern import Pattern
from graphc.autodiff.sparse_matrix import SparseMatrix
from graphc.autodiff.sparsity import linear_pattern
from graphc.autodiff.star_coloring import color_symmetric, mirrored
from graphc.errors import GraphError
from graphc.graph import substitute_dims
from graphc.node import Node, topological
from graphc.op import REGISTRY, NoDerivative
from tests.ops.samples import Sample, results, table
from tests.programs import Seeded, program

# Ops whose derivative is zero in places that only values know, or that are taken for denser than
# they are, and why.
WIDER = {
    **dict.fromkeys(("maximum", "minimum", "relu", "where"), "which side is taken is data"),
    **dict.fromkeys(("max", "min", "sort", "cumulate"), "which element is taken is data"),
    **dict.fromkeys(("gather", "scatter_set", "scatter_add"), "positions are data"),
    **dict.fromkeys(("scatter_mul", "scatter_max", "scatter_min"), "positions are data"),
    **dict.fromkeys(("cholesky", "expm", "lu", "qr"), "solves are taken for dense"),
    "scan": "terms cancel",
}


def dense(output: Node, wrt: Node, values: dict[Node, Any]) -> np.ndarray:
    """The Jacobian, a direction for each column, by NumPy."""
    tangent, direction = tangent_of(output, wrt)
    every = Coloring(np.arange(int(wrt.size)), int(wrt.size))
    made, _ = _in_directions(tangent, direction, every)
    return np.asarray(gx.evaluate(made, values)).reshape(int(wrt.size), int(output.size)).T


def pattern_of(output: Node, wrt: Node) -> np.ndarray:
    return linear_pattern(*tangent_of(output, wrt)).toarray()


def smooth_samples() -> list[Any]:
    return [
        pytest.param(sample, id=f"{name} {sample.label}")
        for name, samples in table().items()
        for sample in samples
        if not isinstance(REGISTRY[name].derivative, NoDerivative)
        and sample.smooth
        and "float64" in sample.dtypes
        and sum(int(np.prod(each.shape)) for each in sample.inputs) <= 150
    ]


@pytest.mark.parametrize("sample", smooth_samples())
def test_patterns_of_ops_are_those_of_their_jacobians(sample: Sample) -> None:
    symbols = sample.symbols("float64")
    points = [sample.arrays("float64", seed) for seed in range(3)]
    real = [node for node in symbols if dtypes.is_float(node.dtype)]
    for output in results(sample.node(symbols)):
        if not dtypes.is_float(output.dtype):
            continue
        for wrt in real:
            values = [dense(output, wrt, dict(zip(symbols, p, strict=True))) for p in points]
            seen = np.logical_or.reduce([value != 0 for value in values])
            found = pattern_of(output, wrt)
            assert not (seen & ~found).any()
            if sample.name not in WIDER:
                np.testing.assert_array_equal(found, seen)


def _of_random_programs(seed: int) -> None:
    made = program(Seeded(seed), smooth=True)
    sizes = dict.fromkeys(made.names, 3)
    arrays = made.arrays(sizes)
    if made.names:
        *inputs, = substitute_dims(made.inputs, sizes)
        outputs = substitute_dims(made.outputs, sizes)
    else:
        inputs, outputs = list(made.inputs), list(made.outputs)
    values = dict(zip(inputs, arrays, strict=True))
    for output in outputs:
        for wrt in inputs:
            both_real = dtypes.is_float(output.dtype) and dtypes.is_float(wrt.dtype)
            if not both_real or int(output.size) * int(wrt.size) > 4_000:
                continue
            matrix = gx.jacobian(output, wrt, sparse=True, unused="zero")
            want = dense(output, wrt, values)
            got = gx.evaluate(matrix, values).toarray()
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=str(output))
            held = matrix.pattern.toarray()
            assert not ((want != 0) & ~held).any(), str(output)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int) -> None:
    _of_random_programs(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 400))
def test_many_random_programs(seed: int) -> None:
    _of_random_programs(seed)


# -- colourings ------------------------------------------------------------------------------------


@st.composite
def patterns(draw: Any, square: bool = False) -> Pattern:
    rows = draw(st.integers(0, 12))
    columns = rows if square else draw(st.integers(0, 12))
    seed, density = draw(st.integers(0, 2**20)), draw(st.sampled_from((0.05, 0.2, 0.5, 0.9)))
    there = np.random.default_rng(seed).random((rows, columns)) < density
    if square:
        there |= there.T
        there |= np.eye(rows, dtype=bool) & draw(st.booleans())
    if draw(st.booleans()) and there.size:
        there[0] = True
        there[:, :1] |= square
    return Pattern.of(*np.nonzero(there), there.shape)


@settings(deadline=None, max_examples=120)
@given(patterns(), st.sampled_from(("auto", "forward", "reverse")))
def test_every_entry_can_be_read(pattern: Pattern, mode: str) -> None:
    plan = plan_of(pattern, mode=mode)
    ways = [(plan.forwards, plan.columns, False), (~plan.forwards, plan.rows, True)]
    for chosen, colors, turned in ways:
        part = Pattern.of(pattern.rows[chosen], pattern.indices[chosen], pattern.shape)
        assert not part.nnz or separates(part.transposed if turned else part, colors.colors)
        assert colors.count == colors.colors.max(initial=-1) + 1
    if mode == "forward":
        assert plan.forwards.all() and plan.count >= pattern.row_sizes.max(initial=0)


@settings(deadline=None, max_examples=120)
@given(patterns(square=True))
def test_every_entry_of_a_symmetric_matrix_can_be_read(pattern: Pattern) -> None:
    assert mirrored(pattern, star(pattern).colors) is not None
    best, swapped = color_symmetric(pattern)
    places = pattern.rows, pattern.indices
    rows, columns = np.where(swapped, places[::-1], places)
    seen: dict[tuple[int, int], set[int]] = {}
    for row, column in zip(pattern.rows, pattern.indices, strict=True):
        seen.setdefault((row, best.colors[column]), set()).add(column)
    assert all(seen[r, best.colors[c]] == {c} for r, c in zip(rows, columns, strict=True))


@settings(deadline=None, max_examples=60)
@given(patterns())
def test_patterns(pattern: Pattern) -> None:
    there = pattern.toarray()
    np.testing.assert_array_equal(pattern.transposed.toarray(), there.T)
    assert pickle.loads(pickle.dumps(pattern)) == pattern
    assert pattern.transposed.transposed == pattern
    assert pattern == Pattern.of(pattern.rows[::-1], pattern.indices[::-1], pattern.shape)


def stencil(shape: Sequence[int], wrap: bool = False) -> Pattern:
    """Every point and its neighbours along the axes."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    rows, columns = [numbers.ravel()], [numbers.ravel()]
    for axis in range(len(shape)):
        there = np.roll(numbers, 1, axis)
        inside = np.ones(shape, bool) if wrap else there < numbers
        rows += [numbers[inside], there[inside]]
        columns += [there[inside], numbers[inside]]
    size = numbers.size
    return Pattern.of(np.concatenate(rows), np.concatenate(columns), (size, size))


@pytest.mark.parametrize("shape", [(50,), (20, 30), (9, 8, 7), (1, 40)])
def test_grids_need_as_many_colours_as_a_point_has_neighbours(shape: tuple[int, ...]) -> None:
    pattern = stencil(shape)
    assert color_columns(pattern, shape).count == pattern.row_sizes.max()


def test_grids_that_close_on_themselves() -> None:
    pattern = stencil((10, 15), wrap=True)
    found = color_columns(pattern, (10, 15))
    assert found.count == 5 and separates(pattern, found.colors)


def test_kernels_color_as_the_evaluator_does(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    there = random.random((90, 90)) < 0.2
    there[:80, :80] = True  # more colours than bits of a word
    symmetric = there | there.T
    for make, matrix in ((coloring._greedy, there), (star, symmetric)):
        pattern = Pattern.of(*np.nonzero(matrix), matrix.shape)
        monkeypatch.setattr(coloring, "_WORTH_A_KERNEL", 10**9)
        plain = make(pattern)
        monkeypatch.setattr(coloring, "_WORTH_A_KERNEL", 0)
        np.testing.assert_array_equal(make(pattern).colors, plain.colors)
        assert plain.count >= 80


def test_full_rows_and_columns_are_taken_apart() -> None:
    arrow = np.eye(30, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    pattern = Pattern.of(*np.nonzero(arrow), arrow.shape)
    assert plan_of(pattern).count == 3
    assert color_symmetric(pattern)[0].count == 2
    for full in (arrow[:, 1:], arrow[1:]):
        assert plan_of(Pattern.of(*np.nonzero(full), full.shape)).count == 2


# -- whole derivatives -----------------------------------------------------------------------------


def laplacian(x: Node) -> Node:
    y = gx.pad(x, 1)
    return y[2:, 1:-1] + y[:-2, 1:-1] + y[1:-1, 2:] + y[1:-1, :-2] - 4 * x


def by_constants(x: Node) -> Node:
    matrix = np.diag([1.0, 2.0, 3.0, 4.0]) + np.diag([5.0, 6.0, 7.0], 1)
    return gx.constant(matrix) @ x[0] * gx.constant(np.array([1.0, 0.0, 2.0, 3.0]))


OUTPUTS: dict[str, tuple[tuple[int, ...], Callable[[Node], Node]]] = {
    "stencil": ((5, 6), lambda x: laplacian(x) + gx.exp(x) * x),
    "running": ((4, 5), lambda x: gx.cumsum(gx.sin(x), axis=1)),
    "constants": ((3, 4), by_constants),
    "arrow": ((6,), lambda x: gx.concatenate([x[:1] + gx.sum(x * x), x[1:] * x[0]])),
    "positions": ((7,), lambda x: gx.at(x * x)[np.array([1, 1, 4])].add(x[np.array([0, 5, 6])])),
    "whole rows": ((4, 3), lambda x: gx.softmax(x, axis=1)),
    "nothing": ((4,), lambda x: gx.floor(x) + 1),
    "one number": ((), lambda x: gx.sin(x)),
    "no elements": ((0, 3), lambda x: x * x),
    "loop": ((4,), lambda x: gx.scan(lambda s, v: (gx.sin(s) * 0.5 + v, s), gx.sum(x[:1]), x)[1]),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobians(name: str, mode: str) -> None:
    shape, function = OUTPUTS[name]
    x = gx.symbol("x", shape)
    y = function(x)
    point = np.random.default_rng(1).uniform(0.2, 0.9, shape)
    matrix = gx.jacobian(y, x, mode=mode, sparse=True)
    want = dense(y, x, {x: point})
    found = gx.evaluate(matrix, {x: point})
    np.testing.assert_allclose(found.toarray(), want, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(matrix.pattern.toarray(), want != 0)
    assert matrix.shape == want.shape and found.nnz == matrix.nnz


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_function_gives_csr(dtype: str) -> None:
    from scipy import sparse

    x = gx.symbol("x", (5, 4), dtype)
    y = laplacian(x) + gx.exp(x) * x
    cost = gx.sum(y * y)
    jacobian, hessian = gx.jacobian(y, x, sparse=True), gx.hessian(cost, x, sparse=True)
    f = gx.compile([x], {"j": jacobian, "h": hessian, "y": y})
    point = np.random.default_rng(2).uniform(size=(5, 4)).astype(dtype)
    found = f(point)
    assert isinstance(found["j"], sparse.csr_array) and found["h"].dtype == dtype
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(found["j"].toarray(), dense(y, x, {x: point}), **near)
    np.testing.assert_allclose(found["h"].toarray(), dense(gx.grad(cost, x), x, {x: point}), **near)
    assert found["j"].has_canonical_format and not found["j"].indices.flags.writeable
    twice = found["j"] @ found["h"]
    assert twice.shape == (20, 20)
    again = pickle.loads(pickle.dumps(f))(point)
    np.testing.assert_array_equal(again["h"].data, found["h"].data)


def test_halves_come_as_float32() -> None:
    x = gx.symbol("x", (4,), "float16")
    matrix = gx.jacobian(x * x[::-1], x, sparse=True)
    found = gx.evaluate(matrix, {x: np.arange(4, dtype="float16")})
    assert matrix.dtype == "float16" and found.dtype == "float32"
    np.testing.assert_array_equal(found @ np.ones(4), [3, 3, 3, 3])


def test_a_sparse_matrix_in_a_graph() -> None:
    x, v = gx.vector("x", 6), gx.vector("v", 6)
    matrix = gx.jacobian(gx.sin(x) * x[::-1], x, sparse=True)
    assert isinstance(matrix, SparseMatrix) and matrix.values.shape == (12,)
    assert repr(matrix) == "<sparse float64 matrix, <pattern of 12 positions in 6 x 6>>"
    point = {x: np.linspace(1, 2, 6), v: np.linspace(-1, 1, 6)}
    whole, product, kept = gx.evaluate([matrix.todense(), matrix @ v, matrix], point)
    np.testing.assert_allclose(whole, kept.toarray())
    np.testing.assert_allclose(product, kept @ point[v], rtol=1e-14)
    to_x = gx.grad(gx.sum(matrix.values), x)  # values are differentiated like any others
    step = 1e-6 * np.eye(6)
    sums = [gx.evaluate(matrix.values, {x: point[x] + s}).sum() for s in (*step, *-step)]
    slopes = (np.array(sums[:6]) - sums[6:]) / 2e-6
    np.testing.assert_allclose(gx.evaluate(to_x, point), slopes, rtol=1e-6, atol=1e-6)
    with pytest.raises(GraphError, match=r"needs a vector float64\[6\]"):
        matrix @ v[:2]


def test_containers_of_inputs() -> None:
    a, b = gx.vector("a", 4), gx.vector("b", 3)
    y = a[1:] * b
    found = gx.jacobian(y, {"a": a, "b": [b]}, sparse=True)
    assert found["a"].shape == (3, 4) and found["b"][0].nnz == 3


def test_hessians_have_the_pattern_of_the_form() -> None:
    x = gx.vector("x", 8)
    weights = gx.constant(np.arange(8.0))
    linear = gx.sum(weights * x) + 3 * x[2]
    assert gx.hessian(linear, x, sparse=True).nnz == 0
    steps = gx.sum((x[1:] - x[:-1]) ** 2)
    assert gx.hessian(steps + linear, x, sparse=True).nnz == 8 + 2 * 7
    product = x[0] * x[5] + gx.exp(x[3])
    rows, columns = gx.hessian(product, x, sparse=True).pattern.toarray().nonzero()
    assert list(zip(rows, columns, strict=True)) == [(0, 5), (3, 3), (5, 0)]


def test_primal_work_is_not_repeated_for_every_direction() -> None:
    x = gx.vector("x", 40)
    y = gx.sin(gx.cos(x)) * x[::-1] + gx.exp(x[::-1])
    calls = [
        n for n in topological([gx.jacobian(y, x, sparse=True).values]) if n.op.name == "call"
    ]
    assert [call.attrs["name"] for call in calls] == ["coefficients", "directions"]
    inside = {n.op.name for n in calls[1].attrs["graph"].nodes()}
    assert not inside & {"sin", "cos", "exp"}


def by_loop(xs: Node) -> list[Node]:
    """States that couple everything before, and results that are of one step alone."""
    first = gx.constant(np.zeros(3))
    final, together = gx.scan(lambda s, v: (gx.sin(s) * 0.5 + v[::-1], s * v), first, xs)
    _, apart = gx.scan(lambda s, v: (s, gx.sin(v) * v[::-1]), first, xs, reverse=True)
    return [final, together, apart]


def test_long_loops_are_not_followed_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    xs = gx.symbol("xs", (6, 3))
    exact = [pattern_of(output, xs) for output in by_loop(xs)]
    monkeypatch.setattr(sparsity, "_MOST_STEPS", 0)
    wide = [pattern_of(output, xs) for output in by_loop(xs)]
    assert all((one <= other).all() for one, other in zip(exact, wide, strict=True))
    np.testing.assert_array_equal(exact[2], wide[2])
    assert exact[1].sum() < wide[1].sum()


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_with_respect_to_what_is_computed(target: str) -> None:
    x = gx.vector("x", 5)
    h = gx.sin(x)
    y = gx.exp(h) * h[::-1] * x
    f = gx.compile([x], gx.jacobian(y, h, sparse=True), target=target)
    point = np.linspace(0.1, 0.9, 5)
    want = gx.evaluate(gx.jacobian(y, h), {x: point})
    np.testing.assert_allclose(f(point).toarray(), want, rtol=1e-13)


# -- what is refused -------------------------------------------------------------------------------


def test_bad_input() -> None:
    x, k = gx.vector("x", 5), gx.symbol("k", (5,), "int64")
    with pytest.raises(GraphError, match="does not vary smoothly"):
        gx.jacobian(x * k, k, sparse=True)
    with pytest.raises(GraphError, match="does not vary smoothly"):
        gx.jacobian(k + k, x, sparse=True)
    with pytest.raises(GraphError, match='mode is "auto", "forward" or "reverse"'):
        gx.jacobian(x * x, x, mode="sideways", sparse=True)
    with pytest.raises(GraphError, match="rank 0"):
        gx.hessian(x * x, x, sparse=True)
    with pytest.raises(GraphError, match="grad: differentiate with respect to nodes"):
        gx.hessian(gx.sum(x), [x, 3.0], sparse=True)
    n = gx.vector("n", "size")
    with pytest.raises(GraphError, match=r"(?s)all extents; size is a name.*n, built.*@gx.jit"):
        gx.jacobian(n * n, n, sparse=True)
    with pytest.raises(GraphError, match=r"(?s)all extents; size is a name.*n, built.*@gx.jit"):
        gx.hessian(gx.sum(n * n), n, sparse=True)
    large = gx.vector("large", 100_000)
    with pytest.raises(GraphError, match=r"100000 x 100000 elements takes 80 GB\n.*built"):
        gx.jacobian(gx.sin(large), large)
    with pytest.raises(GraphError, match="no sparse Jacobian"):
        gx.jacobian(gx.softmax(large), large, sparse=True)


def test_scipy_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    x = gx.vector("x", 3)
    matrix = gx.jacobian(x * x, x, sparse=True)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match=r"graphc-compiler\[scipy\]"):
        gx.evaluate(matrix, {x: np.ones(3)})
    np.testing.assert_array_equal(gx.evaluate(matrix.values, {x: np.ones(3)}), [2, 2, 2])


def test_any_size_under_jit() -> None:
    """A pattern for each size, made once."""
    traced = []

    @gx.jit
    def matrices(x: Any) -> Any:
        traced.append(x.shape)
        y = x[1:] * gx.sin(x[:-1])
        return gx.jacobian(y, x, sparse=True), gx.hessian(gx.sum(y), x, sparse=True)

    for size in (4, 7, 4, 7):
        point = np.linspace(0.1, 0.9, size)
        jacobian, hessian = matrices(point)
        x = gx.vector("x", size)
        y = x[1:] * gx.sin(x[:-1])
        wanted = gx.evaluate([gx.jacobian(y, x), gx.hessian(gx.sum(y), x)], {x: point})
        np.testing.assert_allclose(jacobian.toarray(), wanted[0], atol=1e-15)
        np.testing.assert_allclose(hessian.toarray(), wanted[1], atol=1e-15)
        assert jacobian.nnz == 2 * (size - 1)
    assert [shape for shape in traced if isinstance(shape[0], int)] == [(4,), (7,)]
