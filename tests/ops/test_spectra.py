"""Are orthonormal factors what NumPy's are, and is what is made of them?

Factors are held against NumPy's where they are unique, else by what they have to fulfil;
derivatives against differences, also where values coincide and where a matrix lacks rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import graphc as gx
from graphc import linalg
from tests.ops.test_linear_algebra import check_derivatives, close, compiled, positive, regular

SHAPES = [(3, 3), (7, 5, 3), (7, 3, 5), (2, 20, 17), (0, 4, 3), (2, 0, 3), (3, 0), (1, 1)]
CASES = [*[(shape, "float64") for shape in SHAPES], ((9, 4, 4), "float32"), ((17, 20), "float32")]


def random_matrices(shape: tuple[int, ...], dtype: str = "float64") -> Any:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(dtype)


def transposed(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def check_orthonormal(columns: Any, factor: float = 20.0) -> None:
    gram = transposed(columns) @ columns
    n = columns.shape[-1]
    eps = factor * max(1, n) * np.finfo(columns.dtype).eps
    assert np.abs(gram - np.eye(n)).max(initial=0) <= eps


# -- qr --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_qr(shape: tuple[int, ...], dtype: str) -> None:
    a = random_matrices(shape, dtype)
    modes = ("reduced", "complete", "r")
    got = compiled(lambda x: [linalg.qr(x, mode) for mode in modes], a)
    for (q, r), mode in zip(got[:2], modes, strict=False):
        want = np.linalg.qr(a, mode)
        close(r, want.R)
        check_orthonormal(q)
        close(q @ r, a)
        if mode == "reduced":
            close(q, want.Q)
    close(got[2], np.linalg.qr(a, "r"))


def test_qr_of_difficult_matrices() -> None:
    """Columns that depend on each other, zeros, and numbers at the ends of the range."""
    a = random_matrices((4, 3))
    one = np.eye(4, 3)
    cases = [np.zeros((4, 3)), a @ np.ones((3, 3)), a * 1e300, a * 1e-300, one, -one]
    q, r = compiled(linalg.qr, np.stack(cases))
    check_orthonormal(q)
    for columns, triangle, case in zip(q, r, cases, strict=True):
        size = np.abs(case).max()
        np.testing.assert_allclose(columns @ triangle, case, rtol=0, atol=1e-14 * size)
    assert np.isnan(compiled(linalg.qr, np.full((3, 2), np.nan))[1]).any()


# -- eigh ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(3, 3), (7, 5, 5), (2, 20, 20), (2, 0, 0), (0, 3, 3), (1, 1)])
def test_eigh(shape: tuple[int, ...], dtype: str) -> None:
    half = random_matrices(shape, dtype)
    a = half + transposed(half)
    unread = np.triu(np.full(shape, np.nan, dtype), 1)
    values, vectors = compiled(linalg.eigh, np.tril(a) + unread)
    close(values, np.linalg.eigvalsh(a), 20)
    check_orthonormal(vectors)
    close(a @ vectors, vectors * values[..., None, :], 50)
    close(compiled(lambda x: linalg.eigvalsh(x, "U"), np.triu(a) + transposed(unread)), values)


def test_eigh_of_difficult_matrices() -> None:
    n = 6
    q = np.linalg.qr(random_matrices((n, n)))[0]
    spectra = [np.ones(n), np.zeros(n), [-1, -1, -1, 1, 1, 1], [1e-14, 1e-9, 1e-3, 1, 1, 1e3]]
    cases = [(q * np.array(s)) @ q.T for s in spectra]
    cases += [cases[2] * 1e300, cases[2] * 1e-300]
    cases += [np.diag([3.0, 1.0, 2.0, 1.0, 0.0, -5.0]), np.ones((n, n))]
    values, vectors = compiled(linalg.eigh, np.stack(cases))
    check_orthonormal(vectors)
    for a, w, v in zip(cases, values, vectors, strict=True):
        size = np.abs(a).max()
        assert np.all(np.diff(w) >= 0)
        np.testing.assert_allclose(w, np.linalg.eigvalsh(a), rtol=0, atol=2e-15 * n * size)
        np.testing.assert_allclose(a @ v, v * w, rtol=0, atol=2e-15 * n * size)
    np.testing.assert_array_equal(values[6], [-5, 0, 1, 1, 2, 3])


# -- svd -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_svd(shape: tuple[int, ...], dtype: str) -> None:
    a = random_matrices(shape, dtype)

    def make(x: Any) -> Any:
        return linalg.svd(x), linalg.svd(x, full_matrices=False)

    for (u, s, vh), full in zip(compiled(make, a), (True, False), strict=True):
        want = np.linalg.svd(a, full)
        close(s, want.S, 20)
        assert u.shape == want.U.shape and vh.shape == want.Vh.shape
        check_orthonormal(u)
        check_orthonormal(transposed(vh))
        k = s.shape[-1]
        close((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, 50)
    close(compiled(linalg.svdvals, a), np.linalg.svdvals(a), 20)


def test_svd_of_difficult_matrices() -> None:
    """Values that are equal, zero, tiny beside others, and at the ends of the range."""
    q, p = (np.linalg.qr(random_matrices((n, 4)))[0] for n in (5, 4))
    spectra = [np.ones(4), np.zeros(4), [2, 2, 1, 0], [1, 1e-5, 1e-10, 1e-18], [1, 1, 0, 0]]
    cases = [(q * np.array(s)) @ p.T for s in spectra]
    cases += [cases[2] * 1e300, cases[2] * 1e-300, np.ones((5, 4)), np.eye(5, 4)[::-1]]
    for turn in (False, True):
        stack = np.stack([c.T for c in cases] if turn else cases)
        u, s, vh = compiled(lambda x: linalg.svd(x, full_matrices=False), stack)
        check_orthonormal(u)
        check_orthonormal(transposed(vh))
        for a, left, values, right in zip(stack, u, s, vh, strict=True):
            size = np.abs(a).max(initial=0)
            np.testing.assert_allclose((left * values) @ right, a, rtol=0, atol=1e-14 * size)
            want = np.linalg.svd(a, compute_uv=False)
            np.testing.assert_allclose(values, want, rtol=0, atol=1e-14 * size)


def test_named_extents() -> None:
    for shape in ((4, 3), (3, 4), (5, 3, 3)):
        a = random_matrices(shape)
        u, s, vh = compiled(lambda x: linalg.svd(x, full_matrices=False), a, symbolic=True)
        close((u * s[..., None, :]) @ vh, a, 50)
        close(s, np.linalg.svdvals(a))
        q, r = compiled(linalg.qr, a, symbolic=True)
        close(q @ r, a)
        close(compiled(linalg.pinv, a, symbolic=True), np.linalg.pinv(a))
    a = positive((5, 3, 3))
    close(compiled(linalg.eigh, a, symbolic=True)[0], np.linalg.eigvalsh(a))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_convergence_without_finite_numbers(value: float) -> None:
    a = np.full((2, 2), value)
    for make in (linalg.eigh, linalg.svd, linalg.pinv):
        with pytest.raises(np.linalg.LinAlgError, match="did not converge"):
            compiled(make, a)
        x = gx.symbol("x", a.shape)
        with pytest.raises(np.linalg.LinAlgError, match="did not converge"):
            gx.evaluate(make(x), {x: a})


# -- what is made of them --------------------------------------------------------------------------


def test_pseudo_inverses_and_ranks() -> None:
    a = random_matrices((3, 5, 4))
    a[1] = a[1, :, :2] @ a[1, :2]
    a[2] = 0

    def make(x: Any) -> Any:
        ranks = linalg.matrix_rank(x), linalg.matrix_rank(x, 1.0), linalg.matrix_rank(x, rtol=0.5)
        inverses = linalg.pinv(x), linalg.pinv(x, 0.3), linalg.pinv(x, rtol=[0.1, 0.2, 0.3])
        return ranks, inverses

    ranks, inverses = compiled(make, a)
    for got, options in zip(ranks, ({}, {"tol": 1.0}, {"rtol": 0.5}), strict=True):
        np.testing.assert_array_equal(got, np.linalg.matrix_rank(a, **options))
        assert got.dtype == np.int64
    wanted = np.linalg.pinv(a), np.linalg.pinv(a, 0.3), np.linalg.pinv(a, rtol=[0.1, 0.2, 0.3])
    for got, want in zip(inverses, wanted, strict=True):
        close(got, want)
    line = np.array([0.0, 3.0])
    assert compiled(linalg.matrix_rank, line) == np.linalg.matrix_rank(line)
    spd = positive((3, 3))
    close(compiled(lambda x: linalg.pinv(x, hermitian=True), np.tril(spd)), np.linalg.inv(spd))


@pytest.mark.parametrize("p", [None, 2, -2, 1, -1, np.inf, -np.inf, "fro", "nuc"])
def test_norms_and_conditions(p: Any) -> None:
    a = regular((2, 4, 4))
    orders = {"ord": "fro" if p is None else p}

    def make(x: Any) -> Any:
        found = [linalg.cond(x, p), linalg.norm(x, p, (0, 2), True)]
        found.append(linalg.matrix_norm(x, **orders))
        if not isinstance(p, str):
            found.append(linalg.vector_norm(x, axis=(0, 2), ord=p or 2))
        return found

    got = compiled(make, a)
    close(got[0], np.linalg.cond(a, p))
    close(got[1], np.linalg.norm(a, p, (0, 2), keepdims=True))
    close(got[2], np.linalg.matrix_norm(a, **orders))
    if len(got) > 3:
        close(got[3], np.linalg.vector_norm(a, axis=(0, 2), ord=p or 2))


def test_condition_of_a_singular_matrix() -> None:
    assert compiled(linalg.cond, np.zeros((2, 2))) == np.inf
    with pytest.raises(np.linalg.LinAlgError, match="empty"):
        linalg.cond(gx.symbol("x", (0, 0)))


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4)])
@pytest.mark.parametrize("columns", [None, 2])
def test_least_squares(shape: tuple[int, int], columns: int | None) -> None:
    a = random_matrices(shape)
    b = random_matrices((shape[0],) if columns is None else (shape[0], columns))
    for got, want in zip(compiled(linalg.lstsq, a, b), np.linalg.lstsq(a, b), strict=True):
        close(got, np.asarray(want, got.dtype)) if got.dtype.kind == "f" else None
        assert np.all(got == want) or got.dtype.kind == "f"


@pytest.mark.parametrize("scale", [1e-3, 1.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_expm(scale: float, dtype: str) -> None:
    a = (random_matrices((5, 3, 3)) * scale).astype(dtype)
    close(compiled(linalg.expm, a), np.stack([scipy.linalg.expm(m) for m in a]), 200)


def test_expm_of_large_rotations() -> None:
    """Of skew matrices, which are turned by their eigenvectors into angles."""
    a = 30 * random_matrices((5, 3, 3))
    a = a - transposed(a)
    angles, vectors = np.linalg.eigh(1j * a)
    want = (vectors * np.exp(-1j * angles)[:, None, :]) @ np.conj(transposed(vectors))
    close(compiled(linalg.expm, a), want.real, 500)


def test_expm_of_special_matrices() -> None:
    nilpotent = np.array([[0.0, 1e6], [0.0, 0.0]])
    np.testing.assert_allclose(compiled(linalg.expm, nilpotent), [[1, 1e6], [0, 1]])
    assert np.isnan(compiled(linalg.expm, np.full((2, 2), np.nan))).all()
    assert compiled(linalg.expm, np.zeros((0, 0))).shape == (0, 0)


@pytest.mark.parametrize("n", [-3, -1, 0, 2])
def test_powers_of_matrices(n: int) -> None:
    a = regular((3, 3))
    close(compiled(lambda x: linalg.matrix_power(x, n), a), np.linalg.matrix_power(a, n))


# -- NumPy's own functions -------------------------------------------------------------------------

CALLS: dict[str, Callable[..., Any]] = {
    "solve": lambda x: np.linalg.solve(x, np.ones(3)),
    "solve with an array": lambda x: np.linalg.solve(np.eye(3) * 2, x),
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "slogdet": lambda x: np.linalg.slogdet(x).logabsdet,
    "cholesky": np.linalg.cholesky,
    "qr": lambda x: np.linalg.qr(x).R,
    "eigh": lambda x: np.linalg.eigh(x).eigenvalues,
    "eigvalsh": lambda x: np.linalg.eigvalsh(x, UPLO="U"),
    "svd": lambda x: np.linalg.svd(x, full_matrices=False).S,
    "svdvals": lambda x: np.linalg.svdvals(x),
    "pinv": np.linalg.pinv,
    "matrix_rank": np.linalg.matrix_rank,
    "cond": np.linalg.cond,
    "lstsq": lambda x: np.linalg.lstsq(x, np.ones(3))[0],
    "matrix_power": lambda x: np.linalg.matrix_power(x, -2),
    "matrix_norm": lambda x: np.linalg.matrix_norm(x, ord="nuc"),
    "vector_norm": lambda x: np.linalg.vector_norm(x, axis=0),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_of_numpy_take_nodes(name: str) -> None:
    a, x = positive((3, 3)), gx.symbol("x", (3, 3))
    got, want = gx.evaluate(CALLS[name](x), {x: a}), CALLS[name](a)
    close(np.asarray(got, "float64"), np.asarray(want, "float64"))
    assert got.dtype == want.dtype


def test_numpy_inside_of_jit() -> None:
    @gx.jit
    def whiten(a: Any, b: Any) -> Any:
        factor = np.linalg.cholesky(a)
        return np.linalg.solve(factor, b), np.linalg.slogdet(a)[1]

    a, b = positive((3, 3)), np.ones((3, 2))
    got, size = whiten(a, b)
    close(got, np.linalg.solve(np.linalg.cholesky(a), b))
    close(size, np.linalg.slogdet(a)[1])


def test_arguments_that_are_refused() -> None:
    x = gx.symbol("x", (3, 2))
    for make, match in (
        (lambda: linalg.qr(x, "raw"), "mode"),
        (lambda: linalg.eigh(gx.symbol("a", (2, 2)), "M"), "UPLO"),
        (lambda: linalg.eigh(x), "square"),
        (lambda: linalg.pinv(x, 0.1, rtol=0.1), "same"),
        (lambda: linalg.matrix_rank(x, 0.1, rtol=0.1), "not both"),
        (lambda: linalg.lstsq(x, gx.vector("b", 2)), "lstsq needs"),
        (lambda: linalg.expm(x), "square"),
        (lambda: linalg.svd(gx.vector("v", 2)), "rank 1"),
        (lambda: linalg.vector_norm(x, ord="fro"), "order"),
        (lambda: gx.grad(gx.sum(linalg.qr(x, "complete").Q), x), "complete"),
    ):
        with pytest.raises(gx.GraphError, match=match):
            make()


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)])
def test_derivatives_of_qr(shape: tuple[int, ...]) -> None:
    check_derivatives(linalg.qr, random_matrices(shape))


def test_derivatives_of_the_triangle_of_a_complete_qr() -> None:
    check_derivatives(lambda x: linalg.qr(x, "r"), random_matrices((4, 2)))
    check_derivatives(lambda x: linalg.qr(x, "complete"), random_matrices((3, 3)))


def test_derivatives_of_eigh() -> None:
    check_derivatives(linalg.eigh, positive((3, 3), seed=2))
    check_derivatives(linalg.eigvalsh, positive((2, 3, 3)))


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_derivatives_of_svd(shape: tuple[int, ...]) -> None:
    a = random_matrices(shape) + 2 * np.diag(np.arange(1, 5))[: shape[0], : shape[1]]
    check_derivatives(lambda x: linalg.svd(x, full_matrices=False), a)
    check_derivatives(linalg.svdvals, a)


def test_derivatives_where_values_coincide() -> None:
    """Functions that do not depend on the choice of vectors have theirs, with no NaN."""
    same = np.eye(3) * 2
    check_derivatives(lambda x: gx.sum(linalg.eigvalsh(x)), same, second=False)
    check_derivatives(lambda x: gx.sum(linalg.svdvals(x)), same, second=False)
    check_derivatives(linalg.pinv, same)
    check_derivatives(linalg.expm, same)
    x = gx.symbol("x", (3, 3))
    vectors = linalg.eigh(x).eigenvectors, linalg.svd(x).U
    slopes = [gx.grad(gx.sum(part), x) for part in vectors]
    assert all(np.isfinite(s).all() for s in gx.evaluate(slopes, {x: same}))


def test_derivatives_of_what_is_made_of_them() -> None:
    check_derivatives(linalg.pinv, random_matrices((4, 2)))
    check_derivatives(linalg.pinv, random_matrices((2, 2, 3)))
    check_derivatives(linalg.expm, random_matrices((3, 3)))
    b = random_matrices((4,))
    check_derivatives(lambda x, y: linalg.lstsq(x, y)[:2], random_matrices((4, 2)), b)
    check_derivatives(lambda x: linalg.norm(x, "nuc"), regular((3, 2, 2))[0])
    check_derivatives(linalg.cond, regular((3, 3)))


def test_derivative_of_a_pseudo_inverse_at_a_rank_that_stays() -> None:
    """Along matrices of rank 2."""
    left, right = random_matrices((4, 2)), random_matrices((2, 3))
    check_derivatives(lambda x, y: linalg.pinv(gx.matmul(x, y), 1e-6), left, right)
