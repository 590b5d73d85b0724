"""How near are the incomplete beta functions and their derivatives to exact?

Values against the power series in mpmath, in every way of computing them, derivatives against the
density and against differences of mpmath's function, ends against SciPy.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import graphc as gx

A, B, X = gx.vector("a", "n"), gx.vector("b", "n"), gx.vector("x", "n")
# Units in the last place of the result, times the size of its logarithm where that is above 1.
BOUND = 32
OPTIONS = gx.Options(cache=False)
Point = tuple[float, float, float]


@pytest.fixture(autouse=True)
def _precision() -> Any:
    with mpmath.workprec(600):
        yield


def points(count: int, seed: int = 0) -> np.ndarray:
    """Rows a, b, x: around the mean, anywhere, far below it and next to the ends."""
    rng = np.random.default_rng(seed)
    ranges = ((-12, -3), (-3, 0.2), (-1, 1.5), (0, 2.5), (1, 4))
    found = []
    for i in range(count):
        a, b = (10 ** rng.uniform(*ranges[rng.integers(5)]) for _ in range(2))
        mean = a / (a + b)
        width = np.sqrt(mean * (1 - mean) / (a + b + 1))
        x = (
            mean + 5 * rng.normal() * width,
            rng.random(),
            10 ** rng.uniform(-12, 0),
            mean * 10 ** -rng.uniform(0, 1),
            1 - 2.0 ** -rng.integers(2, 40),
        )[i % 5]
        found.append((a, b, x if 0 < x < 1 else rng.random()))
    return np.array(found).T


def _power_series(a: Any, b: Any, x: Any) -> Any:
    """2F1(a + b, 1; a + 1; x)/a (DLMF 8.17.8): no term is negative."""
    term = total = mpmath.mpf(1)
    n = 0
    while term > total * mpmath.mpf(2) ** -590:
        term = term * x * (a + b + n) / (a + 1 + n)
        total += term
        n += 1
    return total / a


def _terms(a: Any, b: Any, x: Any) -> Any:
    """About how many terms of the series are needed."""
    return max(0, (x * (a + b) - 0.9 * (a + 1)) / (0.9 - x)) if x < 0.85 else mpmath.inf


def exact(a: float, b: float, x: float) -> tuple[Any, Any]:
    """I_x(a, b) and I_{1-x}(b, a)."""
    first, second, at = mpmath.mpf(a), mpmath.mpf(b), mpmath.mpf(x)
    rest = 1 - at
    factor = at**first * rest**second / mpmath.beta(first, second)
    if _terms(first, second, at) <= _terms(second, first, rest):
        lower = factor * _power_series(first, second, at)
        return lower, 1 - lower
    upper = factor * _power_series(second, first, rest)
    return 1 - upper, upper


def assert_near(got: Any, given: np.ndarray) -> None:
    for i, (a, b, x) in enumerate(given.T.tolist()):
        for value, wanted in zip((got[0][i], got[1][i]), exact(a, b, x), strict=True):
            if wanted < 1e-150:
                assert value < 1.1e-150, (a, b, x, value)
                continue
            allowed = BOUND * 2.0**-52 * max(1, -mpmath.log(wanted))
            assert abs(mpmath.mpf(float(value)) / wanted - 1) <= allowed, (a, b, x, value)


def test_values() -> None:
    given = points(100)
    with np.errstate(all="ignore"):
        made = [gx.betainc(A, B, X), gx.betaincc(A, B, X)]
        found = gx.evaluate(made, dict(zip((A, B, X), given, strict=True)))
    assert_near(found, given)


@pytest.mark.slow
def test_values_and_derivatives_by_native_code() -> None:
    made = [gx.betainc(A, B, X), gx.betaincc(A, B, X)]
    made += gx.grad(gx.sum(gx.betainc(A, B, X)), [A, B, X])
    given = points(400, seed=1)
    native = gx.compile([A, B, X], made, options=OPTIONS)(*given)
    assert_near(native[:2], given)
    with np.errstate(all="ignore"):
        evaluated = gx.evaluate(made, dict(zip((A, B, X), given, strict=True)))
    for found, wanted in zip(native[2:], evaluated[2:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-290)


SPOTS: tuple[Point, ...] = (
    *((2.0, 3.0, 0.3), (0.5, 0.7, 0.9), (120.0, 80.0, 0.61), (4.0, 0.2, 0.999), (1.0, 1.0, 0.5)),
    *((0.02, 400.0, 1e-4), (0.3, 0.2, 0.4), (30.0, 1.1, 0.2)),
)


def test_derivatives_by_all_arguments_of_first_and_second_order() -> None:
    lower = gx.sum(gx.betainc(A, B, X))
    by_a, by_b, by_x = gx.grad(lower, [A, B, X])
    made = [by_a, by_b, by_x, gx.grad(gx.sum(by_x), X), gx.grad(gx.sum(by_x), A)]
    made += [gx.grad(gx.sum(by_a), X), gx.grad(gx.sum(gx.betaincc(A, B, X)), B)]
    with np.errstate(all="ignore"):
        found = gx.evaluate(made, dict(zip((A, B, X), np.array(SPOTS).T, strict=True)))
    np.testing.assert_allclose(found[4], found[5], rtol=1e-9)
    np.testing.assert_allclose(found[6], -found[1], rtol=1e-9)
    with mpmath.workprec(160):
        for i, (a, b, x) in enumerate(SPOTS):
            u, v, at = mpmath.mpf(a), mpmath.mpf(b), mpmath.mpf(x)
            density = at ** (u - 1) * (1 - at) ** (v - 1) / mpmath.beta(u, v)
            step = mpmath.mpf(2) ** -40

            def slope(which: int, u: Any = u, v: Any = v, x: float = x, h: Any = step) -> Any:
                du, dv = ((u * h, 0), (0, v * h))[which]
                apart = exact(u + du, v + dv, x)[0] - exact(u - du, v - dv, x)[0]
                return apart / (2 * (du + dv))

            curve = density * ((u - 1) / at - (v - 1) / (1 - at))
            for order, want in enumerate((slope(0), slope(1), density, curve)):
                assert abs(found[order][i] - want) <= 1e-12 * abs(want) + 1e-13, (a, b, x, order)


def test_the_derivative_by_x_is_exact_where_a_or_b_is_tiny() -> None:
    a, b, x = np.array([(1e-10, 0.5, 0.3), (0.3, 1e-10, 0.4), (1e-200, 2.0, 1e-5)]).T
    found = gx.evaluate(gx.grad(gx.sum(gx.betainc(A, B, X)), X), {A: a, B: b, X: x})
    for got, u, v, at in zip(found.tolist(), *map(np.ndarray.tolist, (a, b, x)), strict=True):
        left, right = mpmath.mpf(at), 1 - mpmath.mpf(at)
        density = left ** (mpmath.mpf(u) - 1) * right ** (mpmath.mpf(v) - 1)
        assert abs(got * mpmath.beta(u, v) / density - 1) < 1e-13


def test_large_arguments() -> None:
    """Against SciPy: both are as near as a change of the last place of x allows."""
    rng = np.random.default_rng(2)
    a, b = 10 ** rng.uniform(4, 9, (2, 60))
    mean = a / (a + b)
    x = mean + rng.normal(size=60) * np.sqrt(mean * (1 - mean) / (a + b))
    got = gx.evaluate(gx.betainc(A, B, X), {A: a, B: b, X: x})
    np.testing.assert_array_less(
        np.abs(got / scipy.special.betainc(a, b, x) - 1), 1e-14 * np.sqrt(a + b)
    )


def test_ends_are_scipys_and_a_masked_branch_is_zero() -> None:
    inf, nan = np.inf, np.nan
    ends = [0.0, 1e-250, 0.5, 30.0, 1e20, inf, -1.0, -inf, nan]
    at = [0.0, 1e-300, 0.3, 1.0, -0.1, 1.1, nan]
    a, b, x = np.array([(u, v, w) for u in ends for v in ends for w in at]).T
    with np.errstate(all="ignore"):
        found = gx.evaluate([gx.betainc(A, B, X), gx.betaincc(A, B, X)], {A: a, B: b, X: x})
    np.testing.assert_allclose(found[0], scipy.special.betainc(a, b, x), rtol=1e-12, atol=1e-305)
    np.testing.assert_allclose(found[1], scipy.special.betaincc(a, b, x), rtol=1e-12, atol=1e-305)
    kept = gx.where(X > 0, gx.betainc(A, B, X), 0.0)
    given = {A: np.array([2.0, 0.0]), B: np.array([0.5, -1.0]), X: np.array([-1.0, -2.0])}
    with np.errstate(all="ignore"):
        slopes = gx.evaluate(gx.grad(gx.sum(kept), [A, B, X]), given)
    assert not np.any(slopes)


def test_the_density_at_the_ends() -> None:
    a = np.array([0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 0.0, 2.0])
    b = np.array([3.0, 3.0, 3.0, 0.5, 1.0, 2.0, 2.0, 0.0])
    x = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    found = gx.evaluate(gx.grad(gx.sum(gx.betainc(A, B, X)), X), {A: a, B: b, X: x})
    np.testing.assert_array_equal(found, [np.inf, 3.0, 0.0, np.inf, 3.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_floats_are_rounded_once_and_arguments_broadcast(dtype: str) -> None:
    a, b = gx.symbol("a", (3, 1), dtype), gx.symbol("b", (4,), dtype)
    rng = np.random.default_rng(3)
    first, second = (rng.uniform(0.5, 9, shape).astype(dtype) for shape in ((3, 1), (4,)))
    got = gx.evaluate(gx.betainc(a, b, 0.25), {a: first, b: second})
    assert got.dtype == dtype and got.shape == (3, 4)
    wide = scipy.special.betainc(first.astype(float), second.astype(float), 0.25)
    np.testing.assert_array_equal(got, wide.astype(dtype))
    assert gx.betaincc(gx.constant(2), 3, 0.5).dtype == np.float64


def test_no_elements_and_rank_0() -> None:
    nothing = np.zeros(0)
    assert gx.evaluate(gx.betainc(A, B, X), {A: nothing, B: nothing, X: nothing}).shape == (0,)
    x = gx.scalar("x")
    assert gx.evaluate(gx.betainc(2.0, 2.0, x), {x: 0.5}) == 0.5


def test_a_share_is_between_0_and_1() -> None:
    """Where x is not known well enough to tell, too, and next to the smallest number."""
    a = np.array([1e33, 1e40, 1e100, 1e100, 1e289, 5e-324, 1.25])
    b = np.array([1e33, 3e40, 1e100, 1e200, 1e289, 2.0, 5e-324])
    x = np.array([0.5, 0.25, 0.5, 1e-100, 0.5, 0.5, 0.5])
    symbols = [gx.symbol(name, (7,)) for name in "abx"]
    both = [gx.betainc(*symbols), gx.betaincc(*symbols)]
    function = gx.compile(symbols, both, options=gx.Options(cache=False))
    for found in (function(a, b, x), gx.evaluate(both, dict(zip(symbols, (a, b, x), strict=True)))):
        assert all(((share >= 0) & (share <= 1)).all() for share in found)
