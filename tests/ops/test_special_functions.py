"""What do the special functions and activations promise beyond the contract of every op?

Values against SciPy over wide ranges, derivatives where formulas cancel or overflow, orders of
polygamma, and that an activation is one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import graphc as gx
from graphc.node import Node

WIDE = np.concatenate([np.geomspace(1e-300, 1e300, 61), np.linspace(0.01, 30, 200)])
SIGNED = np.concatenate([WIDE, -WIDE, [0.0, -0.0, np.inf, -np.inf, np.nan]])


def run(function: Callable[[Node], Node], x: Any) -> np.ndarray:
    x = np.asarray(x)
    symbol = gx.symbol("special_x", x.shape, x.dtype)
    return gx.compile(symbol, function(symbol))(x)


def slope(function: Callable[[Node], Node], x: Any) -> np.ndarray:
    x = np.asarray(x)
    symbol = gx.symbol("special_x", x.shape, x.dtype)
    return gx.compile(symbol, gx.grad(gx.sum(function(symbol)), symbol))(x)


SCIPY = {
    "erf": (scipy.special.erf, SIGNED),
    "erfc": (scipy.special.erfc, SIGNED[np.abs(SIGNED) < 25]),
    "erfinv": (scipy.special.erfinv, np.linspace(-1.1, 1.1, 111)),
    "erfcinv": (scipy.special.erfcinv, np.concatenate([np.linspace(-0.1, 2.1, 111), WIDE[:30]])),
    "gammaln": (scipy.special.gammaln, np.concatenate([WIDE, [0.0, -1.0, -2.0, np.inf]])),
    "gamma": (scipy.special.gamma, np.concatenate([WIDE, np.linspace(-20.3, -0.1, 80)])),
    "digamma": (scipy.special.digamma, np.concatenate([WIDE, [0.0, -0.0, -3.0, np.inf]])),
    "i0": (scipy.special.i0, SIGNED[np.abs(SIGNED) < 700]),
    "i1": (scipy.special.i1, SIGNED[np.abs(SIGNED) < 700]),
    "i0e": (scipy.special.i0e, SIGNED),
    "i1e": (scipy.special.i1e, SIGNED),
    "j0": (scipy.special.j0, SIGNED[np.abs(SIGNED) < 1e8]),
    "j1": (scipy.special.j1, SIGNED[np.abs(SIGNED) < 1e8]),
    "y0": (scipy.special.y0, SIGNED[np.abs(SIGNED) < 1e8]),
    "y1": (scipy.special.y1, SIGNED[np.abs(SIGNED) < 1e8]),
    "ndtr": (scipy.special.ndtr, SIGNED[np.abs(SIGNED) < 37]),
    "normal_density": (
        lambda x: np.exp(-0.5 * np.longdouble(x) ** 2) / np.sqrt(2 * np.longdouble(np.pi)),
        SIGNED[np.abs(SIGNED) < 37],
    ),
    "logit": (scipy.special.logit, np.linspace(-0.1, 1.1, 121)),
}


@pytest.mark.parametrize("name", SCIPY)
def test_against_scipy(name: str) -> None:
    """Both have errors of a few units in the last place; near zeros, of 1."""
    reference, x = SCIPY[name]
    with np.errstate(all="ignore"):
        expected = reference(x)
    np.testing.assert_allclose(run(getattr(gx, name), x), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 10])
def test_orders_of_polygamma(order: int) -> None:
    x = np.linspace(0.05, 40, 60)
    found = run(lambda node: gx.polygamma(order, node), x)
    with mpmath.workprec(120):
        exact = [float(mpmath.psi(order, mpmath.mpf(each))) for each in x.tolist()]
    np.testing.assert_allclose(found, exact, rtol=(5 + order) * 2.3e-16, atol=1e-16)


def test_the_evaluator_knows_digamma_around_its_zero() -> None:
    x = np.array([1.0, 1.2, 1.44, 1.4616, 1.4616321449683622, 1.4616321449683625, 1.47, 1.8, 2.0])
    symbol = gx.vector("special_v", len(x))
    with mpmath.workprec(120):
        exact = [float(mpmath.digamma(mpmath.mpf(each))) for each in x.tolist()]
    for found in (gx.evaluate(gx.digamma(symbol), {symbol: x}), run(gx.digamma, x)):
        np.testing.assert_array_max_ulp(found, np.array(exact), 4)


def test_polygamma_of_order_0_is_digamma() -> None:
    x = gx.vector("special_v", 3)
    assert gx.polygamma(0, x) is gx.digamma(x)


def test_the_derivatives_of_gammaln_are_a_chain_of_polygammas() -> None:
    x = gx.scalar("special_s")
    first = gx.grad(gx.gammaln(x), x)
    second = gx.grad(first, x)
    third = gx.grad(second, x)
    found = gx.compile(x, [first, second, third])(2.5)
    expected = [scipy.special.digamma(2.5), *(scipy.special.polygamma(n, 2.5) for n in (1, 2))]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("x", [0.0, 1e-300, 1e-8, 1e-3, 0.3, 0.4999, 0.5001, 1.0, 2.5])
def test_the_derivative_of_sinc_does_not_cancel(x: float) -> None:
    with mpmath.workprec(2200):  # the difference cancels in the reference, too
        y = mpmath.pi * x
        exact = (mpmath.cos(y) - mpmath.sinc(y)) / x if x else mpmath.mpf(0)
    np.testing.assert_allclose(slope(gx.sinc, x), float(exact), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (gx.cbrt, 0.0, np.inf),
        (gx.i1, 0.0, 0.5),
        (gx.i1e, 0.0, 0.5),
        (gx.i0e, 0.0, 0.0),
        (gx.arcsin, 1.0, np.inf),
        (gx.arccosh, 1.0, np.inf),
        (gx.arctanh, -1.0, np.inf),
        (gx.arctan, 1e200, 0.0),
        (lambda x: gx.where(x > 0, gx.log2(x), 0.0), -1.0, 0.0),
        (lambda x: gx.where(x < 1, gx.arcsin(x), 0.0), 1.0, 0.0),
        (lambda x: gx.where(x > 0, gx.gammaln(x), 0.0), -2.0, 0.0),
    ],
)
def test_derivatives_at_the_edges(function: Any, x: float, expected: float) -> None:
    assert slope(function, x) == expected


def test_logaddexp2_of_infinities_and_its_derivative() -> None:
    x = np.array([np.inf, -np.inf, -np.inf, 3.0, 1e308])
    y = np.array([np.inf, -np.inf, 2.0, 3.0, -1e308])
    first, second = gx.vector("special_a", 5), gx.vector("special_b", 5)
    node = gx.logaddexp2(first, second)
    found, by_first = gx.compile([first, second], [node, gx.grad(gx.sum(node), first)])(x, y)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, np.logaddexp2(x, y))
    np.testing.assert_array_equal(by_first[2:], [0.0, 0.5, 1.0])


# -- activations -----------------------------------------------------------------------------------

TORCH_LIKE: dict[str, tuple[Callable[[Node], Node], Callable[[Any], Any]]] = {
    "gelu": (gx.gelu, lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2),
    "ndtr": (gx.ndtr, lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2),
    "normal_density": (
        gx.normal_density,
        lambda x: mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi),
    ),
    "gelu, tanh": (
        lambda x: gx.gelu(x, approximate="tanh"),
        lambda x: (
            x
            / 2
            * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
        ),
    ),
    "silu": (gx.silu, lambda x: x / (1 + mpmath.exp(-x))),
    "mish": (gx.mish, lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))),
    "log_sigmoid": (gx.log_sigmoid, lambda x: -mpmath.log1p(mpmath.exp(-x))),
    "softsign": (gx.softsign, lambda x: x / (1 + abs(x))),
    "elu": (lambda x: gx.elu(x, 0.7), lambda x: x if x > 0 else 0.7 * mpmath.expm1(x)),
    "celu": (lambda x: gx.celu(x, 0.7), lambda x: x if x > 0 else 0.7 * mpmath.expm1(x / 0.7)),
    "selu": (
        gx.selu,
        lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * mpmath.expm1(x)),
    ),
    "leaky_relu": (gx.leaky_relu, lambda x: x if x > 0 else 0.01 * x),
    "relu6": (gx.relu6, lambda x: min(max(x, 0), 6)),
    "hard_tanh": (gx.hard_tanh, lambda x: min(max(x, -1), 1)),
    "hard_sigmoid": (gx.hard_sigmoid, lambda x: min(max(x + 3, 0), 6) / 6),
    "hard_swish": (gx.hard_swish, lambda x: x * min(max(x + 3, 0), 6) / 6),
}
POINTS = np.array([-30.0, -12.5, -8.0, -3.5, -1.0, -0.1, -1e-9, 1e-9, 0.25, 1.0, 2.75, 7.0, 40.0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", TORCH_LIKE)
def test_activations_and_their_derivatives(name: str, dtype: str) -> None:
    """In the far tails too, where 1 + erf, 1 + tanh and log(sigmoid) have nothing left."""
    function, exact = TORCH_LIKE[name]
    x = POINTS.astype(dtype)
    with mpmath.workprec(2000):
        points = [mpmath.mpf(each) for each in x.tolist()]
        values = [float(exact(each)) for each in points]
        slopes = [float(mpmath.diff(exact, each, h=mpmath.mpf(2) ** -60)) for each in points]
    eps = np.finfo(dtype).eps
    # The argument of exp(x) carries a rounding of its own: |x| units in the last place.
    np.testing.assert_allclose(run(function, x), values, rtol=400 * eps, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(slope(function, x), slopes, rtol=2000 * eps, atol=10 * eps)


@pytest.mark.parametrize("name", TORCH_LIKE)
def test_an_activation_is_one_kernel(name: str) -> None:
    x = gx.symbol("special_x", ("n",), "float32")
    assert len(gx.compile(x, TORCH_LIKE[name][0](x)).kernels) == 1


def test_extremes_of_activations() -> None:
    x = np.array([-np.inf, -1e30, 1e30, np.inf, np.nan])
    np.testing.assert_array_equal(run(gx.softsign, x[1:3]), [-1, 1])
    np.testing.assert_array_equal(run(gx.silu, x[1:4]), [-0.0, 1e30, np.inf])
    np.testing.assert_array_equal(run(gx.log_sigmoid, x), [-np.inf, -1e30, 0, 0, np.nan])
    np.testing.assert_array_equal(run(gx.elu, x), [-1, -1, 1e30, np.inf, np.nan])
    assert math.isnan(run(gx.hard_tanh, np.nan))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_i1(order: int) -> None:
    """At 0 too, where the quotient that they hold has a removable singularity."""
    x = gx.symbol("special_x", ())
    node = gx.i1(x)
    for _ in range(order):
        node = gx.grad(node, x)
    derivative = gx.compile([x], node)
    for point in (0.0, 1e-9, 1e-3, -0.5, 3.9999, 4.0, 9.0):
        exact = float(mpmath.diff(lambda t: mpmath.besseli(1, t), mpmath.mpf(point), order))
        np.testing.assert_allclose(derivative(point), exact, rtol=1e-13, atol=1e-18)


def test_the_derivative_of_arctan2_at_extremes() -> None:
    """The squares of these arguments overflow or underflow."""
    y, x = gx.symbol("special_y", ()), gx.symbol("special_x", ())
    slopes = gx.compile([y, x], gx.grad(gx.arctan2(y, x), [y, x]))
    for up, across in ((1e200, 1e200), (1e-200, -3e-200), (-1e-300, 1e-290), (2.0, -3.0)):
        square = mpmath.mpf(across) ** 2 + mpmath.mpf(up) ** 2
        exact = [float(across / square), float(-up / square)]
        np.testing.assert_allclose(slopes(up, across), exact, rtol=1e-15)
    np.testing.assert_array_equal(slopes(1.0, np.inf), [0, 0])
    np.testing.assert_array_equal(slopes(np.inf, 1.0), [0, 0])


# -- the beta function -----------------------------------------------------------------------------


def _log_beta(a: float, b: float) -> float:
    with mpmath.workdps(60):
        x, y = mpmath.mpf(a), mpmath.mpf(b)
        return float(mpmath.loggamma(x) + mpmath.loggamma(y) - mpmath.loggamma(x + y))


def test_the_logarithm_of_beta_over_all_sizes() -> None:
    sizes = [*np.geomspace(1e-12, 1e12, 25), 0.5, 1.0, 2.0, 9.999, 10.0, 10.001, 3.7, 123.4]
    pairs = np.array([(a, b) for a in sizes for b in sizes])
    a, b = gx.vector("a", len(pairs)), gx.vector("b", len(pairs))
    got = gx.compile([a, b], gx.betaln(a, b))(*pairs.T.copy())
    exact = np.array([_log_beta(*pair) for pair in pairs])
    assert np.max(np.abs(got - exact) / np.maximum(np.abs(exact), 8)) < 8 * 2.0**-52


def test_derivatives_of_the_logarithm_of_beta() -> None:
    """digamma(a) - digamma(a + b), also where that cancels, and the second ones at equal values."""
    points = [(0.3, 0.7), (2.0, 2.0), (5.0, 30.0), (1e-3, 1e6), (50.0, 50.0), (1e5, 20.0), (12, 3)]
    a, b = gx.scalar("a"), gx.scalar("b")
    out = gx.betaln(a, b)
    first = gx.grad(out, [a, b])
    second = [gx.grad(first[0], a), gx.grad(first[0], b), gx.grad(first[1], b)]
    f = gx.compile([a, b], [*first, *second])
    for x, y in points:
        with mpmath.workdps(50):
            x_, y_ = mpmath.mpf(x), mpmath.mpf(y)
            both = mpmath.psi(1, x_ + y_)
            exact = [
                mpmath.psi(0, x_) - mpmath.psi(0, x_ + y_),
                mpmath.psi(0, y_) - mpmath.psi(0, x_ + y_),
                mpmath.psi(1, x_) - both,
                -both,
                mpmath.psi(1, y_) - both,
            ]
        np.testing.assert_allclose(f(x, y), [float(each) for each in exact], 2e-12, 1e-16)


def test_beta_at_the_ends_and_of_16_bits() -> None:
    inf, nan = math.inf, math.nan
    pairs = [(0, 1), (1, 0), (inf, 1), (2, inf), (inf, inf), (-1, 2), (nan, 1), (0, inf), (3, -0.5)]
    a, b = gx.vector("a", len(pairs)), gx.vector("b", len(pairs))
    got = gx.compile([a, b], [gx.betaln(a, b), gx.beta(a, b)])(*np.array(pairs, float).T.copy())
    np.testing.assert_array_equal(got[0], [inf, inf, -inf, -inf, -inf, nan, nan, nan, nan])
    np.testing.assert_array_equal(got[1], [inf, inf, 0, 0, 0, nan, nan, nan, nan])
    half = np.array([0.5, 3, 40], "float16")
    x = gx.vector("x", 3, "float16")
    np.testing.assert_array_equal(
        gx.compile(x, gx.betaln(x, x))(half),
        np.array([_log_beta(v, v) for v in half.tolist()]).astype("float16"),
    )


@pytest.mark.parametrize("order", [0, 1])
def test_bessel_functions_are_exact_to_units_of_their_amplitude(order: int) -> None:
    """Where SciPy's have lost the phase, too."""
    random = np.random.default_rng(order)
    x = np.concatenate([random.uniform(8, 100, 200), 2.0 ** random.uniform(7, 80, 200)])
    with mpmath.workprec(400):
        exact = np.array([float(mpmath.besselj(order, mpmath.mpf(v))) for v in x.tolist()])
    off = np.abs(run((gx.j0, gx.j1)[order], x) - exact)
    assert np.max(off / np.sqrt(2 / (np.pi * x))) < 3 * 2.0**-52


def test_derivatives_of_bessel_functions_at_zero() -> None:
    """J0 = 1 - x^2/4 + x^4/64, J1 = x/2 - x^3/16 + x^5/384."""
    x = gx.scalar("x")
    made = [gx.taylor(f(x), x, 1.0, 5) for f in (gx.j0, gx.j1)]
    first, second = gx.evaluate(made, {x: 0.0})
    np.testing.assert_allclose(first, [1, 0, -1 / 4, 0, 1 / 64, 0], atol=1e-16)
    np.testing.assert_allclose(second, [0, 1 / 2, 0, -1 / 16, 0, 1 / 384], atol=1e-16)


def test_derivatives_of_bessel_functions_of_the_second_kind() -> None:
    x = gx.vector("x", 40)
    points = np.linspace(0.1, 40, 40)
    made = [gx.grad(gx.sum(f(x)), x) for f in (gx.y0, gx.y1)]
    made.append(gx.grad(gx.sum(made[1]), x))
    found = gx.compile(x, made)(points)
    for order, times, derivative in ((0, 1, found[0]), (1, 1, found[1]), (1, 2, found[2])):
        wanted = scipy.special.yvp(order, points, times)
        np.testing.assert_allclose(derivative, wanted, rtol=1e-12, atol=1e-15)
    edge = gx.evaluate([gx.grad(f(x)[0], x)[0] for f in (gx.y0, gx.y1)], {x: np.zeros(40)})
    assert edge[0] == np.inf and np.isnan(edge[1])
