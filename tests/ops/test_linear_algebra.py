"""Are systems solved and matrices decomposed as NumPy and SciPy do, with exact derivatives?

Values are held against LAPACK's, by backward errors where matrices are ill-conditioned; first and
second derivatives against differences. Every function runs compiled, on matrices that are lanes and
on those that are tasks of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import graphc as gx
from graphc import linalg
from graphc.autodiff.check import check_grad
from tests.backends import Case, backends, run

OPTIONS = gx.Options(cache=False, threads=1)
# One matrix, small ones as lanes, larger ones as tasks, two leading axes, and nothing.
SHAPES = [(3, 3), (7, 5, 5), (2, 20, 20), (2, 3, 4, 4), (0, 0), (0, 3, 3), (1, 1)]
CASES = [*[(shape, "float64") for shape in SHAPES], ((9, 4, 4), "float32"), ((18, 18), "float32")]


def compiled(make: Callable[..., Any], *arrays: Any, symbolic: bool = False) -> Any:
    """What a function of nodes gives, compiled."""
    symbols = []
    for i, array in enumerate(arrays):
        shape = tuple(f"n{i}_{axis}" for axis in range(array.ndim)) if symbolic else array.shape
        symbols.append(gx.symbol(f"x{i}", shape, array.dtype))
    return gx.compile(symbols, make(*symbols), options=OPTIONS)(*arrays)


def close(got: Any, want: Any, factor: float = 1000.0) -> None:
    """Equal up to the rounding of the dtype, beside the largest element."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype, (got.dtype, got.shape, want.shape)
    scale = factor * np.finfo(want.dtype).eps * np.abs(want).max(initial=1.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=scale)


def regular(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    """Random matrices that are far from singular."""
    random = np.random.default_rng([seed, *shape])
    return (random.standard_normal(shape) + 2 * np.eye(shape[-1])).astype(dtype)


def positive(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    half = regular(shape, "float64", seed)
    return (half @ np.swapaxes(half, -1, -2) + np.eye(shape[-1])).astype(dtype)


def check_derivatives(make: Callable[..., Any], *arrays: Any, second: bool = True) -> None:
    """First and second derivatives of all results, with random weights, against differences."""
    random = np.random.default_rng(5)
    symbols = [gx.symbol(f"x{i}", array.shape) for i, array in enumerate(arrays)]
    point = dict(zip(symbols, arrays, strict=True))
    results = make(*symbols)
    results = list(results) if isinstance(results, (tuple, list)) else [results]
    cost = sum(
        (gx.sum(random.standard_normal(r.shape) * r) for r in results if r.dtype.kind == "f"),
        gx.constant(0.0),
    )
    assert check_grad(cost, symbols, point, tolerance=1e-5)
    if second:
        slopes = gx.grad(cost, symbols)
        total = sum(gx.sum(random.standard_normal(s.shape) * s) for s in slopes)
        assert check_grad(total, symbols, point, tolerance=1e-4)
    # forward mode agrees with reverse mode
    moves = [random.standard_normal(s.shape) for s in symbols]
    forward = gx.jvp(cost, symbols, [gx.constant(m) for m in moves])
    reverse = sum(gx.sum(m * s) for m, s in zip(moves, gx.grad(cost, symbols), strict=True))
    one, other = gx.evaluate([forward, reverse], point)
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


# -- factors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_cholesky(shape: tuple[int, ...], dtype: str) -> None:
    a = positive(shape, dtype)
    half = np.tril(a) + np.triu(np.full(shape, np.nan, dtype), 1)  # the other triangle is not read
    close(compiled(linalg.cholesky, half), np.linalg.cholesky(a))
    got = compiled(lambda x: linalg.cholesky(x, upper=True), np.swapaxes(half, -1, -2))
    close(got, np.linalg.cholesky(a, upper=True))


RECTANGLES = [((5, 3), "float64"), ((6, 4, 7), "float32"), ((2, 25, 20), "float64")]
RECTANGLES += [((0, 3), "float64"), ((4, 0), "float64")]


@pytest.mark.parametrize(("shape", "dtype"), [*CASES, *RECTANGLES])
def test_lu(shape: tuple[int, ...], dtype: str) -> None:
    a = np.random.default_rng(list(shape)).standard_normal(shape).astype(dtype)

    def make(x: Any) -> Any:
        permuted, places = linalg.lu(x, permute_l=True)[0], linalg.lu(x, p_indices=True)[0]
        return linalg.lu(x), linalg.lu_factor(x), permuted, places

    (p, left, right), (packed, pivots), permuted, places = compiled(make, a)
    close(p @ left @ right, a, 50)
    for got, want in zip((p, left, right), _each(scipy.linalg.lu, a, 3), strict=True):
        close(got, want)
    for got, want in zip((packed, pivots), _each(scipy.linalg.lu_factor, a, 2), strict=True):
        close(got, want) if got.dtype.kind == "f" else np.testing.assert_array_equal(got, want)
    close(permuted, p @ left)
    close(np.take_along_axis(left, places[..., None], -2), p @ left)


def _each(function: Callable[..., Any], a: Any, count: int) -> list[Any]:
    """SciPy's function on each matrix, stacked; the results of no matrix have their shapes."""
    if a.size == 0:
        shape = a.shape
        m, n = shape[-2:]
        k = min(m, n)
        ends = ((m, m), (m, k), (k, n)) if count == 3 else ((m, n), (k,))
        made = []
        for end in ends:
            whole = np.zeros((*shape[:-2], *end), a.dtype if end != (k,) else "int64")
            made.append(whole + np.eye(*end, dtype=a.dtype) if end in ((m, m), (m, k)) else whole)
        return made
    found = [function(matrix) for matrix in a.reshape(-1, *a.shape[-2:])]
    parts = [np.stack(part) for part in zip(*found, strict=True)]
    parts = [p.astype("int64") if p.dtype.kind == "i" else p for p in parts]
    return [p.reshape(*a.shape[:-2], *p.shape[1:]) for p in parts]


def test_lu_of_singular_matrices() -> None:
    """Factors exist, with a zero on the diagonal of U."""
    a = np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [2.0, 4.0]], [[0.0, 1.0], [0.0, 3.0]]])
    p, left, right = compiled(linalg.lu, a)
    np.testing.assert_array_equal(p @ left @ right, a)
    assert np.all(np.abs(left) <= 1)
    sign, size = compiled(linalg.slogdet, a)
    np.testing.assert_array_equal(sign, 0)
    np.testing.assert_array_equal(size, -np.inf)
    np.testing.assert_array_equal(compiled(linalg.det, a), 0)


# -- systems ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype"), CASES)
@pytest.mark.parametrize("columns", [None, 3, 9])
def test_solve(shape: tuple[int, ...], dtype: str, columns: int | None) -> None:
    a, random = regular(shape, dtype), np.random.default_rng(1)
    right = (shape[-1],) if columns is None else (*shape[:-1], columns)
    b = random.standard_normal(right).astype(dtype)
    close(compiled(linalg.solve, a, b), np.linalg.solve(a, b))


@pytest.mark.parametrize("columns", [None, 2])
def test_lu_solve(columns: int | None) -> None:
    a, shape = regular((5, 4, 4)), (4,) if columns is None else (5, 4, columns)
    b = np.random.default_rng(1).standard_normal(shape)
    got = compiled(lambda x, y: [linalg.lu_solve(linalg.lu_factor(x), y, t) for t in (0, 1)], a, b)
    close(got[0], np.linalg.solve(a, b))
    close(got[1], np.linalg.solve(np.swapaxes(a, -1, -2), b))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("lower", [False, True])
def test_solve_triangular(lower: bool, trans: int, unit: bool) -> None:
    for shape, columns in (((6, 6), 1), ((9, 3, 3), 2), ((9, 3, 3), 8), ((30, 30), 40)):
        a = regular(shape) / 4 + np.eye(shape[-1])
        b = np.random.default_rng(2).standard_normal((*shape[:-1], columns))
        triangle = np.tril(a) if lower else np.triu(a)
        if unit:
            triangle = triangle - triangle * np.eye(shape[-1]) + np.eye(shape[-1])
        want = np.linalg.solve(np.swapaxes(triangle, -1, -2) if trans else triangle, b)

        def make(x: Any, y: Any) -> Any:
            return linalg.solve_triangular(x, y, trans, lower, unit)

        close(compiled(make, a, b), want, 1e5)
        if len(shape) == 2:
            close(compiled(make, a, b[:, 0]), want[:, 0], 1e5)


@pytest.mark.parametrize("backend", backends())
def test_a_single_column_on_every_backend(backend: str) -> None:
    """Where lanes share a column: what one of them stores another one loads, a step later."""
    b = np.random.default_rng(2).standard_normal((2, 41, 1))
    a = regular((2, 41, 41)) / 9 + np.eye(41)
    x, y = gx.symbol("x", a.shape), gx.symbol("y", b.shape)
    made, wanted = [], []
    for lower in (False, True):
        for trans in (0, 1):
            triangle = np.tril(a) if lower else np.triu(a)
            turned = np.swapaxes(triangle, -1, -2) if trans else triangle
            made.append(linalg.solve_triangular(x, y, trans, lower))
            wanted.append(np.linalg.solve(turned, b))
    for got, want in zip(run(backend, Case([x, y], made), [a, b]), wanted, strict=True):
        close(got, want, 1e5)


@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_inverse_and_determinants(shape: tuple[int, ...], dtype: str) -> None:
    a = regular(shape, dtype)
    got = compiled(lambda x: (linalg.inv(x), linalg.det(x), linalg.slogdet(x)), a)
    close(got[0], np.linalg.inv(a))
    close(got[1], np.linalg.det(a))
    for one, other in zip(got[2], np.linalg.slogdet(a), strict=True):
        close(one, other)


def test_broadcasting_and_named_extents() -> None:
    a, b = regular((2, 1, 3, 3)), np.random.default_rng(0).standard_normal((4, 3, 2))
    close(compiled(linalg.solve, a, b), np.linalg.solve(a, b))
    a, line = regular((2, 5, 5)), np.arange(5.0)
    close(compiled(linalg.solve, a, line), np.linalg.solve(a, line))
    for shape in ((4, 4), (5, 3, 3), (2, 30, 30)):
        a, b = regular(shape), np.random.default_rng(0).standard_normal((*shape[:-1], 2))
        close(compiled(linalg.solve, a, b, symbolic=True), np.linalg.solve(a, b))
        spd = positive(shape)
        close(compiled(linalg.cholesky, spd, symbolic=True), np.linalg.cholesky(spd))


def test_dtypes() -> None:
    whole = np.array([[2, 1], [1, 3]])
    for a in (whole, whole.astype("int8"), whole.astype(bool) | np.eye(2, dtype=bool)):
        spd = a.dtype != bool
        got = compiled(linalg.cholesky if spd else linalg.det, a)
        assert got.dtype == np.float64
    mixed = compiled(linalg.solve, whole.astype("float32"), np.ones(2))
    assert mixed.dtype == np.float64
    for name in ("float16", "bfloat16"):
        with pytest.raises(gx.GraphError, match=name) as caught:
            linalg.inv(gx.symbol("x", (2, 2), name))
        assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("n", [3, 24])
def test_backward_errors_of_ill_conditioned_matrices(n: int) -> None:
    """Residuals are small, however large the condition is."""
    eps = np.finfo(float).eps
    a = np.vander(np.linspace(0, 1, n))
    b = np.ones(n)
    x = compiled(linalg.solve, a, b)
    assert np.abs(a @ x - b).max() <= 8 * n * eps * np.abs(a).max() * max(1, np.abs(x).sum())
    p, left, right = compiled(linalg.lu, a)
    assert np.abs(p @ left @ right - a).max() <= 4 * n * eps
    spd = a @ a.T + 1e-10 * np.eye(n)
    factor = compiled(linalg.cholesky, spd)
    assert np.abs(factor @ factor.T - spd).max() <= 4 * n * eps * np.abs(spd).max()


# -- failures --------------------------------------------------------------------------------------

SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_matrices_that_do_not_fit(many: bool, target: str) -> None:
    a = np.stack([np.eye(2)] * 5 + [SINGULAR]) if many else SINGULAR
    x = gx.symbol("x", a.shape)
    b = np.ones((*a.shape[:-1], 1))
    cases = {
        "Singular": (linalg.solve(x, b), a),
        "(?s)Singular.*triangular": (linalg.inv(x), a),
        "not positive definite": (linalg.cholesky(x), -np.abs(a)),
        "(?s)definite.*cholesky": (linalg.cholesky(x), a * np.nan),
    }
    for match, (node, value) in cases.items():
        function = gx.compile([x], node, target=target, options=OPTIONS)
        with pytest.raises(np.linalg.LinAlgError, match=match) as caught:
            function(value)
        assert "test_linear_algebra.py" in str(caught.value)
        with pytest.raises(np.linalg.LinAlgError):
            gx.evaluate(node, {x: value})


def test_shapes_that_do_not_fit() -> None:
    x = gx.symbol("x", (2, 3))
    functions = [linalg.inv, linalg.det, linalg.slogdet, linalg.cholesky]
    for make in [*functions, lambda a: linalg.solve(a, x)]:
        with pytest.raises(np.linalg.LinAlgError, match="square") as caught:
            make(x)
        assert isinstance(caught.value, gx.GraphError)
    with pytest.raises(np.linalg.LinAlgError, match="rank 1"):
        linalg.inv(gx.vector("v", 3))
    with pytest.raises(np.linalg.LinAlgError, match="2 rows"):
        linalg.solve(gx.symbol("a", (3, 3)), x)
    with pytest.raises(gx.GraphError, match="broadcast"):
        linalg.solve(gx.symbol("a", (4, 3, 3)), gx.symbol("b", (5, 3, 1)))


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("upper", [False, True])
def test_derivatives_of_cholesky(upper: bool) -> None:
    check_derivatives(lambda x: linalg.cholesky(x, upper=upper), positive((3, 3)))
    check_derivatives(lambda x: linalg.cholesky(x, upper=upper), positive((2, 2, 2)))


def test_derivatives_of_solve() -> None:
    b = np.random.default_rng(0).standard_normal((3, 2))
    check_derivatives(linalg.solve, regular((3, 3)), b)
    check_derivatives(linalg.solve, regular((2, 3, 3)), b[:, 0])
    check_derivatives(linalg.inv, regular((3, 3)))
    check_derivatives(lambda x, y: linalg.lu_solve(linalg.lu_factor(x), y, 1), regular((3, 3)), b)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("lower", [False, True])
def test_derivatives_of_solve_triangular(lower: bool, trans: int, unit: bool) -> None:
    b = np.random.default_rng(0).standard_normal((3, 2))
    check_derivatives(
        lambda x, y: linalg.solve_triangular(x, y, trans, lower, unit), regular((3, 3)), b
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", range(6))
@pytest.mark.parametrize("backend", backends())
def test_determinants_of_many_small_matrices(rows: int, dtype: str, backend: str) -> None:
    a = np.random.default_rng(rows).normal(size=(40, rows, rows)).astype(dtype)
    if rows > 1:
        a[3, 0] = a[3, 1]  # singular
        a[4] *= 1e-5
        a[5, 0, 0], a[6, 1, 0] = np.nan, np.inf
    x = gx.symbol("x", ("n", rows, rows), dtype)
    (found,) = run(backend, Case([x], [linalg.det(x)]), [a])
    sound = np.isfinite(a).all((1, 2))
    assert found.dtype == a.dtype and not np.isfinite(found[~sound]).any()
    exact = a[sound].astype("float64")
    size = np.finfo(dtype).eps * 100 * np.abs(exact).sum(2).prod(1)
    assert np.all(np.abs(found[sound] - np.linalg.det(exact)) <= size)


def test_derivatives_of_determinants() -> None:
    for rows in range(1, 6):
        check_derivatives(linalg.det, regular((rows, rows)))
    check_derivatives(linalg.slogdet, regular((2, 3, 3)))


def test_the_derivative_of_the_determinant_of_a_singular_matrix() -> None:
    """Its cofactors, for few rows."""
    a = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
    gradient = compiled(lambda x: gx.grad(linalg.det(x), x), a)
    wanted = [[4, 4, -4], [-2, -2, 2], [0, 0, 0]]
    np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)])
def test_derivatives_of_lu(shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(4).standard_normal(shape)
    check_derivatives(lambda x: linalg.lu(x)[1:], a)


def test_the_evidence_of_a_gaussian_process() -> None:
    """Wide loops that may fail, as the gradient of a Cholesky factor has them."""
    x, y, theta = gx.matrix("x", ("n", "d")), gx.vector("y", "n"), gx.vector("theta", 3)

    def evidence(xp: Any, solve: Any, x: Any, y: Any, theta: Any) -> Any:
        scale, height, noise = xp.exp(theta[0]), xp.exp(theta[1]), xp.exp(theta[2])
        squares = ((x[:, None] - x[None]) ** 2).sum(-1)
        factor = xp.linalg.cholesky(
            height * xp.exp(-0.5 * squares / scale**2) + noise * xp.eye(x.shape[0])
        )
        white = solve(factor, y, lower=True)
        return 0.5 * (white @ white) + xp.log(xp.diagonal(factor)).sum() + 0.5 * x.shape[0]

    made = evidence(gx, linalg.solve_triangular, x, y, theta)
    f = gx.compile([x, y, theta], [made, gx.grad(made, theta)], options=OPTIONS)
    random = np.random.default_rng(3)
    points, values = random.normal(size=(20, 2)), random.normal(size=20)
    at = np.array([0.1, 0.2, -1])
    value, gradient = f(points, values, at)
    close(value, np.float64(evidence(np, scipy.linalg.solve_triangular, points, values, at)))
    assert check_grad(made, theta, {x: points, y: values, theta: at})
    close(gradient, gx.evaluate(gx.grad(made, theta), {x: points, y: values, theta: at}))
    with pytest.raises(np.linalg.LinAlgError):
        f(points[[0] * 20], values, np.array([0.1, 0.2, -800.0]))


def test_gradients_of_solutions_take_the_factors_of_the_value() -> None:
    """One factorisation, and for each right-hand side one substitution down and one up, with the
    transpose too: nothing is solved for every column of the matrix.
    """
    a, b = gx.symbol("a", (40, 40)), gx.symbol("b", (40, 2))
    x = linalg.solve(a, b)
    compiled = gx.compile([a, b], [x, *gx.grad(gx.sum(x**2), [a, b])], options=OPTIONS)
    titles = [kernel.title for kernel in compiled.program.kernels()]
    assert titles.count("lu") == 1
    solved = [k for k in compiled.program.kernels() if k.title == "triangular_solve"]
    assert all((40, 2) in [buffer.shape for buffer in k.buffers] for k in solved)
    generator = np.random.default_rng(40)
    matrix, right = generator.normal(size=(40, 40)), generator.normal(size=(40, 2))
    got = compiled(matrix, right)
    want = np.linalg.solve(matrix, right)
    given = np.linalg.solve(matrix.T, 2 * want)
    for value, truth in zip(got, (want, -given @ want.T, given), strict=True):
        np.testing.assert_allclose(value, truth, 1e-8, 1e-8 * np.abs(truth).max())
    assert gx.check_grad(gx.sum(linalg.inv(a[:4, :4]) ** 2), [a], {a: matrix})


def test_cross_products_are_one_kernel() -> None:
    generator = np.random.default_rng(9)
    for a, b, axes in (
        ((5, 1, 3), (4, 3), {}),
        ((3, 7), (7, 3), {"axisa": 0, "axisc": 0}),
        ((3,), (3,), {}),
        ((0, 3), (0, 3), {}),
    ):
        x, y = gx.symbol("x", a), gx.symbol("y", b)
        values = [generator.normal(size=a), generator.normal(size=b)]
        compiled = gx.compile([x, y], gx.cross(x, y, **axes), options=OPTIONS)
        np.testing.assert_allclose(compiled(*values), np.cross(*values, **axes), 1e-13, 1e-13)
        assert len(compiled.kernels) <= 1
        loss = gx.sum(gx.cross(x, y, **axes) ** 2)
        assert gx.check_grad(loss, [x, y], dict(zip((x, y), values, strict=True)))
    whole = [gx.symbol(name, (3,), "int32") for name in "xy"]
    given = np.array([1, 2, 3], "i4"), np.array([-4, 5, 6], "i4")
    got = gx.compile(whole, gx.cross(*whole), options=OPTIONS)(*given)
    np.testing.assert_array_equal(got, np.cross(*given))
