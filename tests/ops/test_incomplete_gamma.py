"""How near are the incomplete gamma functions and their derivatives to exact?

Values against mpmath in every way of computing them and on both sides of where they change,
derivatives by both arguments against derivatives of mpmath's, ends against SciPy.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
from incomplete_gamma_fits import PRECISION, tables

import graphc as gx
from graphc.ops import incomplete_gamma_tables

A, X = gx.vector("a", "n"), gx.vector("x", "n")
# Units in the last place of the result, times the size of its logarithm where that is above 1.
BOUND = 24
OPTIONS = gx.Options(cache=False)


@pytest.fixture(autouse=True)
def _precision() -> Any:
    with mpmath.workprec(220):
        yield


def points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Around x = a as far as the functions have a value, and anywhere."""
    rng = np.random.default_rng(seed)
    ranges = (
        *((1e-12, 1e-3), (1e-3, 1.3), (0.5, 5), (4, 20), (9, 11), (19, 21), (20, 60)),
        (60, 3000),
    )
    a = np.concatenate([np.geomspace(low, high, count) for low, high in ranges])
    x = a + rng.normal(0, 9, a.size) * np.sqrt(a)
    anywhere = np.exp(rng.uniform(np.log(1e-6), np.log(900), a.size))
    edges = a * rng.choice([0.302, 0.3021, 2.357, 2.3571, 1.0], a.size)
    return np.tile(a, 3), np.concatenate([np.where(x > 0, x, anywhere), anywhere, edges])


def exact(a: float, x: float) -> tuple[Any, Any]:
    """P and Q; the smaller one is not found from the other."""
    a, x = mpmath.mpf(a), mpmath.mpf(x)
    if x > a:
        upper = mpmath.gammainc(a, x, regularized=True)
        return 1 - upper, upper
    lower = mpmath.gammainc(a, 0, x, regularized=True)
    if a < 1.3 and x < 1.6:
        return lower, mpmath.gammainc(a, x, regularized=True)
    return lower, 1 - lower


def assert_near(got: np.ndarray, a: np.ndarray, x: np.ndarray, which: int) -> None:
    for value, first, second in zip(got.tolist(), a.tolist(), x.tolist(), strict=True):
        wanted = exact(first, second)[which]
        if wanted < 1e-290:
            assert value < 1.1e-290, (first, second)
            continue
        allowed = BOUND * 2.0**-52 * max(1, -mpmath.log(wanted))
        assert abs(value / wanted - 1) <= allowed, (first, second, value)


def test_values() -> None:
    a, x = points(6)
    with np.errstate(all="ignore"):
        found = gx.evaluate([gx.gammainc(A, X), gx.gammaincc(A, X)], {A: a, X: x})
    for which in (0, 1):
        assert_near(found[which], a, x, which)


@pytest.mark.slow
def test_values_and_derivatives_by_native_code() -> None:
    made = [gx.gammainc(A, X), gx.gammaincc(A, X), *gx.grad(gx.sum(gx.gammainc(A, X)), [A, X])]
    a, x = points(200, seed=1)
    native = gx.compile([A, X], made, options=OPTIONS)(a, x)
    for which in (0, 1):
        assert_near(native[which], a, x, which)
    with np.errstate(all="ignore"):
        evaluated = gx.evaluate(made, {A: a, X: x})
    for found, wanted in zip(native[2:], evaluated[2:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-290)


def scaled_tail(a: float, x: float) -> Any:
    """P below a, Q above, by quadrature of the density over its width (DLMF 8.2.1, 5.11.3)."""
    a, x = mpmath.mpf(a), mpmath.mpf(x)
    start = (x - a) / mpmath.sqrt(a)

    def exponent(mu: Any) -> Any:
        return -a * (mu - mpmath.log1p(mu))

    highest = exponent(start / mpmath.sqrt(a))  # quadrature looks at absolute errors

    def density(s: Any) -> Any:
        mu = s / mpmath.sqrt(a)
        return mpmath.exp(exponent(mu) - highest) / (1 + mu)

    steps = [mpmath.mpf(2) ** i for i in range(-5, 6)]
    ends = [start + (step if start > 0 else -step) for step in (0, *steps)]
    total = abs(mpmath.quad(density, ends)) * mpmath.exp(highest)
    star = mpmath.loggamma(a) - (a - 0.5) * mpmath.log(a) + a - mpmath.log(2 * mpmath.pi) / 2
    return total / mpmath.sqrt(2 * mpmath.pi) / mpmath.exp(star)


def test_large_arguments() -> None:
    a = np.repeat(np.geomspace(1e4, 1e12, 5), 6)
    x = a + np.tile([-24.0, -4, -0.5, 0.25, 3, 30], 5) * np.sqrt(a)
    found = gx.evaluate([gx.gammainc(A, X), gx.gammaincc(A, X)], {A: a, X: x})
    with mpmath.workprec(160):
        for i, (first, second) in enumerate(zip(a.tolist(), x.tolist(), strict=True)):
            got = found[int(second > first)][i]
            wanted = scaled_tail(first, second)
            allowed = BOUND * 2.0**-52 * max(1, -mpmath.log(wanted))
            assert abs(got / wanted - 1) <= allowed, (first, second)


SPOTS = ((0.02, 0.3), (0.7, 1.4), (1.6, 0.2), (4.5, 9.0), (80.0, 95.0), (60.0, 10.0), (30.0, 90.0))
SPOTS += ((25.0, 25.0),)


def test_derivatives_by_both_arguments_of_first_and_second_order() -> None:
    p = gx.sum(gx.gammainc(A, X))
    by_a, by_x = gx.grad(p, [A, X])
    made = [by_a, by_x, *(gx.grad(gx.sum(f), v) for f, v in ((by_a, A), (by_x, A), (by_a, X)))]
    a, x = np.array(SPOTS).T
    with np.errstate(all="ignore"):
        found = gx.evaluate([*made, gx.grad(gx.sum(gx.gammaincc(A, X)), A)], {A: a, X: x})
    np.testing.assert_allclose(found[3], found[4], rtol=1e-10)
    np.testing.assert_allclose(found[5], -found[0], rtol=1e-10)
    for i, (first, second) in enumerate(SPOTS):
        def lower(u: Any, v: Any) -> Any:
            return mpmath.gammainc(u, 0, v, regularized=True)

        step = mpmath.mpf(2) ** -50
        wanted = (
            mpmath.diff(lower, (first, second), (1, 0), h=step),
            mpmath.diff(lower, (first, second), (0, 1), h=step),
            mpmath.diff(lower, (first, second), (2, 0), h=step),
            mpmath.diff(lower, (first, second), (1, 1), h=step),
        )
        for order, (got, want) in enumerate(zip(found, wanted, strict=False)):
            scale = abs(want) + (abs(wanted[0]) if order > 1 else 0)
            assert abs(got[i] - want) <= 1e-11 * scale, (first, second, order)


def test_next_to_zero_the_density_is_not_what_is_left_of_one() -> None:
    """Its derivative by x is -x**(a - 1) exp(-x)/gamma(a), where Q is 1 in all its places."""
    of = (1e-200, 1e-10, 0.01, 0.1, 0.5, 1.0, 1.25)
    a, x = (v.ravel() for v in np.meshgrid(of, (1e-200, 1e-10, 1e-3, 0.5)))
    by_x = gx.grad(gx.sum(gx.gammaincc(A, X)), X)
    found = gx.evaluate([by_x, gx.grad(gx.sum(by_x), X)], {A: a, X: x})
    density = np.array([-(v ** (u - 1)) * mpmath.exp(-v) / mpmath.gamma(u)
                        for u, v in zip(map(mpmath.mpf, a), map(mpmath.mpf, x), strict=True)])
    wanted = density, density * ((a - 1) / x - 1)
    second = x > 1e-100  # 1/x**2 is finite
    np.testing.assert_allclose(found[0], wanted[0].astype(float), rtol=1e-12)
    np.testing.assert_allclose(found[1][second], wanted[1][second].astype(float), rtol=1e-9)


def test_the_density_of_large_arguments_and_at_the_ends() -> None:
    a = np.array([9.99, 10.0, 1e3, 1e6, 50.0, 0.5, 1.0, 2.0, 0.0, np.inf])
    x = np.array([12.0, 1e-3, 1.02e3, 1e6 + 900, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    found = gx.evaluate(gx.grad(gx.sum(gx.gammainc(A, X)), X), {A: a, X: x})
    for got, u, v in zip(found[:5], map(mpmath.mpf, a), map(mpmath.mpf, x), strict=False):
        logarithm = (u - 1) * mpmath.log(v) - v - mpmath.loggamma(u)
        allowed = 2.0**-49 * max(1, abs(logarithm))
        assert abs(got / mpmath.exp(logarithm) - 1) < allowed, (u, v)
    np.testing.assert_array_equal(found[5:], [np.inf, 1.0, 0.0, 0.0, 0.0])


def test_ends_are_scipys_and_a_masked_branch_is_zero() -> None:
    inf, nan = np.inf, np.nan
    ends = [0.0, 1e-300, 0.5, 30.0, 1e20, inf, -1.0, -inf, nan]
    a, x = np.array([(first, second) for first in ends for second in ends]).T
    with np.errstate(all="ignore"):
        found = gx.evaluate([gx.gammainc(A, X), gx.gammaincc(A, X)], {A: a, X: x})
    np.testing.assert_allclose(found[0], scipy.special.gammainc(a, x), rtol=1e-12, atol=1e-305)
    np.testing.assert_allclose(found[1], scipy.special.gammaincc(a, x), rtol=1e-12, atol=1e-305)
    kept = gx.where(X > 0, gx.gammainc(A, X), 0.0)
    with np.errstate(all="ignore"):
        slopes = gx.evaluate(
            gx.grad(gx.sum(kept), [A, X]), {A: np.array([2.0, 0.0]), X: np.array([-1.0, -2.0])}
        )
    assert not np.any(slopes)


def test_float32_is_rounded_once_and_integers_are_taken() -> None:
    a, x = gx.symbol("a", ("n",), "float32"), gx.symbol("x", ("n",), "float32")
    first, second = (each.astype(np.float32) for each in points(3, seed=2))
    wide = gx.evaluate(gx.gammainc(A, X), {A: first.astype(float), X: second.astype(float)})
    narrow = gx.evaluate(gx.gammainc(a, x), {a: first, x: second})
    assert narrow.dtype == np.float32
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))
    assert gx.gammaincc(gx.constant(2), gx.constant(3)).dtype == np.float64


def test_the_tables_can_be_derived_again() -> None:
    with mpmath.workprec(PRECISION):
        for name, table in tables().items():
            assert getattr(incomplete_gamma_tables, name) == table, name
