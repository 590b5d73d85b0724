"""Do draws have the distributions they are named after, and derivatives where they promise some?

Kolmogorov-Smirnov and chi-square tests against SciPy's distributions, with fixed keys: a test that
passes passes always. The long runs, which see errors of a thousandth, carry the slow marker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.stats as st
from backends import Case, backends, run

import graphc as gx
from graphc.random.floats import parts, parts_of, signed_unit, steps, steps_of
from graphc.random.keys import inner

r = gx.random
KEY = gx.random.key(20260417)
COUNT = 10_000
FAIR = 1e-3  # the least p-value that passes

Draw = Callable[..., gx.Node]

CONTINUOUS: dict[str, tuple[Draw, Any]] = {
    "uniform": (lambda k, **s: r.uniform(k, **s), st.uniform()),
    "uniform between": (lambda k, **s: r.uniform(k, minval=-3, maxval=5, **s), st.uniform(-3, 8)),
    "normal": (lambda k, **s: r.normal(k, **s), st.norm()),
    "normal placed": (lambda k, **s: r.normal(k, loc=2.0, scale=0.5, **s), st.norm(2, 0.5)),
    "lognormal": (
        lambda k, **s: r.lognormal(k, mean=0.3, sigma=0.7, **s),
        st.lognorm(0.7, 0, np.exp(0.3)),
    ),
    "truncated": (lambda k, **s: r.truncated_normal(k, -1.0, 2.0, **s), st.truncnorm(-1, 2)),
    "truncated above": (lambda k, **s: r.truncated_normal(k, 4.0, 9.0, **s), st.truncnorm(4, 9)),
    "truncated below": (
        lambda k, **s: r.truncated_normal(k, -8.0, -5.0, **s),
        st.truncnorm(-8, -5),
    ),
    "exponential": (lambda k, **s: r.exponential(k, scale=2.0, **s), st.expon(0, 2)),
    "gumbel": (lambda k, **s: r.gumbel(k, loc=1.0, **s), st.gumbel_r(1)),
    "laplace": (lambda k, **s: r.laplace(k, scale=3.0, **s), st.laplace(0, 3)),
    "logistic": (lambda k, **s: r.logistic(k, **s), st.logistic()),
    "cauchy": (lambda k, **s: r.cauchy(k, **s), st.cauchy()),
    "gamma": (lambda k, **s: r.gamma(k, 2.5, scale=0.5, **s), st.gamma(2.5, 0, 0.5)),
    "gamma of 1": (lambda k, **s: r.gamma(k, 1.0, **s), st.gamma(1)),
    "gamma below 1": (lambda k, **s: r.gamma(k, 0.2, **s), st.gamma(0.2)),
    "gamma, large": (lambda k, **s: r.gamma(k, 900.0, **s), st.gamma(900)),
    "chisquare": (lambda k, **s: r.chisquare(k, 3.0, **s), st.chi2(3)),
    "student_t": (lambda k, **s: r.student_t(k, 2.5, loc=1.0, **s), st.t(2.5, 1)),
    "beta": (lambda k, **s: r.beta(k, 2.0, 0.7, **s), st.beta(2, 0.7)),
    "rayleigh": (lambda k, **s: r.rayleigh(k, scale=2.0, **s), st.rayleigh(0, 2)),
    "weibull": (lambda k, **s: r.weibull(k, 1.7, scale=3.0, **s), st.weibull_min(1.7, 0, 3)),
    "pareto": (lambda k, **s: r.pareto(k, 2.5, scale=2.0, **s), st.pareto(2.5, 0, 2)),
    "power": (lambda k, **s: r.power(k, 0.4, **s), st.powerlaw(0.4)),
    "triangular": (lambda k, **s: r.triangular(k, -1.0, 0.5, 3.0, **s), st.triang(0.375, -1, 4)),
    "triangular, edge": (lambda k, **s: r.triangular(k, 0.0, 0.0, 2.0, **s), st.triang(0, 0, 2)),
    "wald": (lambda k, **s: r.wald(k, 2.0, 3.0, **s), st.invgauss(2 / 3, 0, 3)),
    "f": (lambda k, **s: r.f(k, 3.0, 7.0, **s), st.f(3, 7)),
    "beta, small": (lambda k, **s: r.beta(k, 0.3, 0.4, **s), st.beta(0.3, 0.4)),
}
COUNTS: dict[str, tuple[Draw, Any]] = {
    "randint": (lambda k, **s: r.randint(k, minval=-4, maxval=9, **s), st.randint(-4, 9)),
    "bernoulli": (lambda k, **s: r.bernoulli(k, 0.3, **s), st.bernoulli(0.3)),
    "poisson, small": (lambda k, **s: r.poisson(k, 0.8, **s), st.poisson(0.8)),
    "poisson below": (lambda k, **s: r.poisson(k, 9.9, **s), st.poisson(9.9)),
    "poisson above": (lambda k, **s: r.poisson(k, 10.1, **s), st.poisson(10.1)),
    "poisson, large": (lambda k, **s: r.poisson(k, 300.0, **s), st.poisson(300)),
    "binomial": (lambda k, **s: r.binomial(k, 12, 0.3, **s), st.binom(12, 0.3)),
    "binomial, likely": (lambda k, **s: r.binomial(k, 12, 0.9, **s), st.binom(12, 0.9)),
    "binomial, many": (lambda k, **s: r.binomial(k, 100, 0.4, **s), st.binom(100, 0.4)),
    "binomial, many likely": (lambda k, **s: r.binomial(k, 400, 0.8, **s), st.binom(400, 0.8)),
    "negative binomial": (
        lambda k, **s: r.negative_binomial(k, 2.5, 0.4, **s),
        st.nbinom(2.5, 0.4),
    ),
    "geometric": (lambda k, **s: r.geometric(k, 0.25, **s), st.geom(0.25)),
}


def value(node: gx.Node) -> np.ndarray:
    return np.asarray(gx.evaluate(node, {}))


def check_continuous(found: np.ndarray, law: Any) -> None:
    assert st.kstest(found, law.cdf).pvalue > FAIR


def check_counts(found: np.ndarray, law: Any) -> None:
    """Chi-square over the values, those with few expected joined at either end."""
    low, high = int(found.min()), int(found.max())
    edges = np.arange(low, high + 1)
    expected = law.pmf(edges) * found.size
    inside = np.flatnonzero(expected >= 20)
    first, last = edges[inside[0]], edges[inside[-1]]
    clipped = np.clip(found.astype(int), first, last)
    observed = np.bincount(clipped - first, minlength=last - first + 1)
    expected = law.pmf(np.arange(first, last + 1))
    expected[0], expected[-1] = law.cdf(first), law.sf(last - 1)
    assert st.chisquare(observed, expected * found.size).pvalue > FAIR


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("dtype", ("float64", "float32"))
def test_continuous(name: str, dtype: str) -> None:
    draw, law = CONTINUOUS[name]
    found = value(draw(KEY, shape=(COUNT,), dtype=dtype))
    assert found.dtype == dtype and np.isfinite(found).all()
    check_continuous(found.astype("float64"), law)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    draw, law = COUNTS[name]
    check_counts(value(draw(KEY, shape=(COUNT,))), law)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONTINUOUS, *COUNTS])
def test_long_runs(name: str) -> None:
    """Two million draws, compiled."""
    draw, law = (CONTINUOUS | COUNTS)[name]
    key = gx.symbol("key", (2,), "uint32")
    found = gx.compile([key], draw(key, shape=(2_000_000,)))(np.array([3, 4], "uint32"))
    (check_continuous if name in CONTINUOUS else check_counts)(found, law)


def test_compiled_draws_are_those_of_the_evaluator() -> None:
    """To rounding: counts and rejection could differ where a comparison is decided by one."""
    names = ("lognormal", "truncated above", "cauchy", "student_t", "beta, small")
    names += ("poisson below", "binomial, many likely", "geometric")
    nodes = [(CONTINUOUS | COUNTS)[name][0](KEY, shape=(200,)) for name in names]
    for node, found in zip(nodes, gx.compile([], nodes)(), strict=True):
        want = value(node)
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-12)


def test_every_backend_gives_the_same_numbers() -> None:
    """Bit for bit, through logarithms and rejection: the functions are one text everywhere. Without
    rewriting, which may choose other formulas for a whole expression.
    """
    key = gx.symbol("key", (2,), "uint32")
    chosen = ("normal", "gamma below 1")
    nodes = [
        CONTINUOUS[name][0](key, shape=(40,), dtype=dtype)
        for name in chosen
        for dtype in ("float32", "float64")
    ]
    case, words = Case([key], [*nodes, r.poisson(key, 12.0, (40,))]), np.array([5, 6], "uint32")
    first, *others = (run(backend, case, [words]) for backend in backends())
    for found in others:
        assert [a.tobytes() for a in found] == [a.tobytes() for a in first]


# -- floats ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "digits"), [("float64", 53), ("float32", 24), ("float16", 11), ("bfloat16", 8)]
)
def test_steps_are_those_of_the_mantissa(dtype: str, digits: int) -> None:
    """Uniform numbers are the upper bits of the words, exactly: every multiple of 2**-digits."""
    count = 3000
    found = value(r.uniform(KEY, (count,), dtype))
    if digits == 53:
        whole = value(r.bits(KEY, (count,), "uint64")) >> np.uint64(11)
    else:
        whole = value(r.bits(KEY, (count,))) >> np.uint32(32 - digits)
    assert (found.astype("float64") * 2.0**digits == whole).all()
    assert found.min() >= 0 and found.max() < 1
    if digits <= 11:
        assert len(np.unique(found)) > 0.7 * min(2**digits, count)


@pytest.mark.parametrize(("dtype", "least"), [("float64", 2.0**-64), ("float32", 2.0**-32)])
def test_quantiles_stay_inside(dtype: str, least: float) -> None:
    """The extreme words give numbers above 0 and below 1, whose quantiles are finite."""
    ends = gx.constant(np.array([0, 0xFFFFFFFF], "uint32"))
    q, negative = parts_of(ends, ends, np.dtype(dtype))
    found = value(q)
    assert found.tolist() == [least, 1 - float(np.finfo(dtype).epsneg)]
    assert value(negative).tolist() == [False, True]
    for quantile in (gx.erfcinv(q), gx.log(q), gx.log(-gx.log1p(-q)), 1 / gx.tan(q * np.pi / 2)):
        assert np.isfinite(value(quantile)).all()
    assert value(steps_of(ends, ends, np.dtype(dtype))).tolist() == [0, found[1]]
    drawn = value(parts(KEY, (COUNT,), np.dtype(dtype))[0])
    assert st.kstest(drawn, "uniform").pvalue > FAIR


def test_signed_numbers_are_symmetric() -> None:
    """Odd multiples of 2**-53: never 0, never 1, and the lowest is minus the highest."""
    low = gx.constant(np.array([0, 0xFFFFFFFF, 0, 0xFFFFFFFF], "uint32"))
    high = gx.constant(np.array([1 << 31, (1 << 31) - 1, 0, 0xFFFFFFFF], "uint32"))
    found = value(signed_unit(low, high))
    step = 2.0**-53
    assert found.tolist() == [step - 1, 1 - step, step, -step]
    reach = value(math.sqrt(2) * gx.erfinv(signed_unit(low, high)))
    assert reach[1] == -reach[0] and 8.2 < reach[1] < 8.3


def test_no_draw_reaches_the_upper_end() -> None:
    """Where low + u * span would round up to the end that is excluded."""
    found = value(r.uniform(KEY, (COUNT,), "float16", 1024.0, 1026.0))
    assert found.min() >= 1024 and found.max() < 1026
    found = value(
        r.uniform(KEY, (COUNT,), "float32", 1.0, np.nextafter(np.float32(1), np.float32(2)))
    )
    assert (found == 1).all()


def test_pairs_of_neighbours_are_independent() -> None:
    """Over a grid of 16 x 16, at several distances."""
    found = (value(steps(KEY, (COUNT,), np.dtype("float64"))) * 16).astype(int)
    for lag in (1, 2, 3, 16, 1000):
        table = np.bincount(found[lag:] * 16 + found[:-lag], minlength=256)
        assert st.chisquare(table).pvalue > FAIR


def test_every_bit_is_fair() -> None:
    words = value(r.bits(KEY, (COUNT,), "uint64"))
    ones = [(words >> np.uint64(i) & np.uint64(1)).sum() for i in range(64)]
    assert np.abs(np.array(ones) - COUNT / 2).max() < 4.5 * np.sqrt(COUNT) / 2


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_normal_tails(dtype: str) -> None:
    """Of 2**26 numbers beyond 3, 4 and 5 standard deviations as many as there should be."""
    key = gx.symbol("key", (2,), "uint32")
    size = gx.absolute(r.normal(key, (1 << 24,), dtype))
    counts = [gx.sum(size > limit) for limit in (3.0, 4.0, 5.0)]
    function = gx.compile([key], counts)
    totals = np.sum([function(np.array([i, 9], "uint32")) for i in range(4)], axis=0)
    expected = 2 * st.norm.sf([3, 4, 5]) * 2**26
    assert (np.abs(totals - expected) < 4 * np.sqrt(expected)).all()


# -- parameters ------------------------------------------------------------------------------------


def test_shapes_and_dtypes() -> None:
    row = np.ones(3, "float32")
    assert r.normal(KEY).type == gx.Type("float64", ())
    assert r.normal(KEY, loc=row).type == gx.Type("float32", (3,))
    assert r.normal(KEY, (2, 3), loc=row).type == gx.Type("float32", (2, 3))
    assert r.normal(KEY, "n", "float32").type == gx.Type("float32", (gx.dim("n"),))
    assert r.normal(KEY, (3,), "float16", row).dtype == np.float16
    assert r.uniform(KEY, minval=np.zeros((2, 1)), maxval=row).type == gx.Type("float64", (2, 3))
    assert r.gamma(KEY, np.ones((0, 2))).shape == (0, 2)
    assert r.poisson(KEY, row, dtype="int32").type == gx.Type("int32", (3,))
    assert r.randint(KEY, (4,), 0, 3).type == gx.Type("int64", (4,))
    assert r.bernoulli(KEY, row).type == gx.Type("bool", (3,))
    assert r.rademacher(KEY, (2,)).type == gx.Type("int64", (2,))
    assert r.dirichlet(KEY, np.ones((4, 3))).shape == (4, 3)
    assert r.dirichlet(KEY, row, (5,)).shape == (5, 3)


def test_integers_over_whole_ranges() -> None:
    for dtype in ("int8", "uint8", "int16", "uint32", "int64", "uint64"):
        info = np.iinfo(dtype)
        found = value(r.randint(KEY, (COUNT,), int(info.min), int(info.max) + 1, dtype))
        spread = (found.astype("float64") - info.min) / (float(info.max) - info.min + 1)
        assert st.kstest(spread + 0.5 / 2**info.bits, "uniform").pvalue > FAIR or info.bits == 8
        assert found.dtype == dtype
    low = value(r.randint(KEY, (COUNT,), -128, 128, "int8"))
    assert st.chisquare(np.bincount(low.astype(int) + 128, minlength=256)).pvalue > FAIR


@pytest.mark.parametrize("span", (1, 3, 1000, 2**32 - 1, 2**32, 2**32 + 1, 3 << 61, 2**64 - 1))
def test_integers_are_products_of_fractions(span: int) -> None:
    """floor(x * span) for the fraction x that the words make, by Python's integers."""
    found = value(r.randint(KEY, (50,), 0, span, "uint64"))
    first = value(r.bits(KEY, (50,), "uint64")).tolist()
    more = value(r.bits(inner(KEY, 0), (50,), "uint64")).tolist()
    long = span > 1 << 32
    want = [
        ((a << 64 | b) * span) >> 128 if long else (a * span) >> 64
        for a, b in zip(first, more, strict=True)
    ]
    assert found.tolist() == want


def test_integer_bounds_as_nodes() -> None:
    low, high = gx.symbol("low", (), "int64"), gx.symbol("high", (1000,), "int64")
    node = r.randint(KEY, None, low, high)
    function = gx.compile([low, high], node)
    tops = np.arange(1000) - 2**62
    found = function(-(2**63), tops)
    assert (found >= -(2**63)).all() and (found < tops).all()
    with pytest.raises(ValueError, match="maxval is not above minval"):
        function(5, np.arange(5, 1005))
    with pytest.raises(gx.GraphError, match="no integers of int8 from 0 to 200"):
        r.randint(KEY, (2,), 0, 201, "int8")
    with pytest.raises(gx.GraphError, match="no integers of int64"):
        r.randint(KEY, (2,), 3, 3)
    with pytest.raises(gx.GraphError, match="needs maxval"):
        r.randint(KEY, (2,))


def test_edges_of_parameters() -> None:
    nan = np.nan
    assert np.array_equal(
        value(r.gamma(KEY, np.array([0.0, -1.0, nan]))), [0, nan, nan], equal_nan=True
    )
    assert value(r.poisson(KEY, np.array([0.0, -1.0, nan]))).tolist() == [0, -1, -1]
    trials, chance = np.array([0, 5, 5, -1, 5, 5000]), np.array([0.5, 0, 1, 0.5, 1.5, 1.0])
    assert value(r.binomial(KEY, trials, chance)).tolist() == [0, 0, 5, -1, -1, 5000]
    assert value(r.geometric(KEY, np.array([1.0, 0.0, 1.5]))).tolist() == [1, -1, -1]
    assert value(r.bernoulli(KEY, np.array([0.0, 1.0]), (1000, 2))).sum(0).tolist() == [0, 1000]


def test_dirichlet_of_tiny_parameters() -> None:
    """Gamma numbers of 0.001 are mostly 0 in floats: their logarithms are not."""
    found = value(r.dirichlet(KEY, np.full(4, 1e-3, "float32"), (5000,)))
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    winners = np.bincount(found.argmax(-1), minlength=4)
    assert st.chisquare(winners).pvalue > FAIR
    found = value(r.dirichlet(KEY, np.array([1, 2, 3], "float32"), (COUNT,)))
    check_continuous(found[:, 0], st.beta(1, 5))
    check_continuous(found[:, 2], st.beta(3, 3))


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("normal", "gumbel", "laplace", "logistic", "cauchy", "student_t"))
def test_place_and_scale_differentiate(name: str) -> None:
    """x = loc + scale z: dx/dloc is 1 and dx/dscale is z."""
    loc, scale = gx.vector("loc", 5), gx.vector("scale", 5)
    more = {"df": 4.0} if name == "student_t" else {}
    drawn = getattr(r, name)(KEY, **more, loc=loc, scale=scale)
    by_loc, by_scale = gx.grad(gx.sum(drawn), [loc, scale])
    at = {loc: np.arange(5.0), scale: np.arange(1.0, 6.0)}
    plain = value(getattr(r, name)(KEY, **more, shape=(5,)))
    assert gx.evaluate(by_loc, at).tolist() == [1] * 5
    np.testing.assert_allclose(gx.evaluate(by_scale, at), plain, rtol=1e-12)


def test_other_parameters_differentiate() -> None:
    low, high = gx.scalar("low"), gx.scalar("high")
    for drawn in (
        r.uniform(KEY, (6,), minval=low, maxval=high),
        r.truncated_normal(KEY, low, high, (6,)),
        r.lognormal(KEY, (6,), mean=low, sigma=high),
        r.exponential(KEY, (6,), scale=high) + low,
        r.gamma(KEY, 1.5, (6,), scale=high) + low,
    ):
        assert gx.check_grad(gx.sum(drawn * drawn), [low, high], {low: -0.7, high: 1.3})


SHAPED: dict[str, tuple[Callable[[Any], gx.Node], Callable[..., Any], float]] = {
    "gamma": (lambda a: r.gamma(KEY, a), st.gamma, 2.5),
    "gamma below 1": (lambda a: r.gamma(KEY, a), st.gamma, 0.3),
    "gamma, large": (lambda a: r.gamma(KEY, a), st.gamma, 400.0),
    "chisquare": (lambda df: r.chisquare(KEY, df), st.chi2, 5.0),
}


@pytest.mark.parametrize("name", SHAPED)
def test_a_draw_moves_as_its_quantile_does(name: str) -> None:
    """At a fixed probability: the derivative is that of the distribution's quantile function."""
    draw, law, at = SHAPED[name]
    a = gx.vector("a", 40)
    drawn = draw(a)
    values = np.full(40, at)
    found, slope = gx.evaluate([drawn, gx.grad(gx.sum(drawn), a)], {a: values})
    p, h = law(at).cdf(found), 1e-5 * at
    upper, lower = p > 0.5, p <= 0.5
    want = np.where(lower, law(at + h).ppf(p) - law(at - h).ppf(p), 0.0)
    q = law(at).sf(found)
    want = np.where(upper, law(at + h).isf(q) - law(at - h).isf(q), want) / (2 * h)
    np.testing.assert_allclose(slope, want, rtol=1e-5)


def test_expectations_differentiate_by_shape_parameters() -> None:
    """Means of slopes are slopes of means."""
    a, b, key = gx.scalar("a"), gx.scalar("b"), gx.symbol("key", (2,), "uint32")
    count = 20_000
    for drawn, at, want in (
        (r.beta(key, gx.broadcast_to(a, (count,)), b), (2.0, 3.0), (3 / 25, -2 / 25)),
        (r.student_t(key, gx.broadcast_to(a, (count,))) ** 2 + 0 * b, (9.0, 1.0), (-2 / 49, 0.0)),
        (r.f(key, b, gx.broadcast_to(a, (count,))), (12.0, 8.0), (-2 / 100, 0.0)),
    ):
        outputs = [*gx.grad(gx.mean(drawn), [a, b]), gx.std(drawn)]
        *slopes, width = gx.compile([key, a, b], outputs)(np.array([5, 6], "uint32"), *at)
        np.testing.assert_allclose(slopes, want, atol=6 * float(width) / count**0.5)


def test_proportions_differentiate_by_their_parameters() -> None:
    alpha = gx.vector("alpha", 3)
    drawn = r.dirichlet(KEY, gx.broadcast_to(alpha, (20_000, 3)))
    slope = gx.compile([alpha], gx.grad(gx.mean(drawn[:, 0]), alpha))(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(slope, [5 / 36, -1 / 36, -1 / 36], atol=4e-3)  # of alpha_0 / total


def test_the_slope_of_a_gamma_number_has_twelve_digits() -> None:
    """Against the definition, in 40 digits."""
    from graphc.random.gamma_slopes import log_slope

    points = [(a, q) for a in (1e-3, 0.1, 1.0, 2.5, 30.0, 1e4) for q in (1e-6, 0.2, 0.8, 1 - 1e-6)]
    values = []
    for a, q in points:
        x = st.gamma(a).ppf(q)
        values.append(math.log(x) if x > 1e-300 else (math.log(q) + math.lgamma(a + 1)) / a)
    given = [np.array(values), np.array([a for a, _ in points])]
    symbols = [gx.vector("log_x", len(points)), gx.vector("a", len(points))]
    got = gx.evaluate(log_slope(*symbols), dict(zip(symbols, given, strict=True)))
    with mpmath.workdps(40):
        for slope, log_x, a in zip(got.tolist(), *map(np.ndarray.tolist, given), strict=True):
            x, exact = mpmath.exp(log_x), mpmath.mpf(a)

            def tail(b: Any, x: Any = x, upper: bool = x > a) -> Any:
                ends = (x, mpmath.inf) if upper else (0, x)
                return mpmath.gammainc(b, *ends, regularized=True) * (-1 if upper else 1)

            density = mpmath.exp((exact - 1) * log_x - x - mpmath.loggamma(exact))
            want = -mpmath.diff(tail, exact, h=exact * mpmath.mpf(10) ** -12) / density / x
            assert abs(slope / want - 1) < 1e-11, (a, log_x)


def test_no_silent_derivative_where_a_choice_jumps() -> None:
    x = gx.scalar("x")
    with pytest.raises(gx.GraphError, match="a number drawn by rejection jumps"):
        gx.grad(r.wald(KEY, x, 1.0), x)
    fixed = gx.stop_gradient(r.wald(KEY, x, 1.0))
    by_x = gx.evaluate([gx.grad(fixed * x, x), fixed], {x: 0.5})
    assert by_x[0] == by_x[1]


# -- vectors ---------------------------------------------------------------------------------------


def test_multivariate_normal_has_its_mean_and_covariance() -> None:
    mean, cov = np.array([1.0, -2.0, 0.5]), np.array([[2, 0.6, 0], [0.6, 1, -0.3], [0, -0.3, 0.5]])
    drawn = value(r.multivariate_normal(KEY, mean, cov, (COUNT,)))
    whitened = np.linalg.solve(np.linalg.cholesky(cov), (drawn - mean).T)
    for row in whitened:
        check_continuous(row, st.norm())
    np.testing.assert_allclose(np.cov(drawn.T), cov, atol=6 * 2 / COUNT**0.5)
    many = r.multivariate_normal(KEY, np.stack([mean, -mean]).astype("f"), cov.astype("f"))
    assert (many.shape, many.dtype) == ((2, 3), np.float32)
    with pytest.raises(gx.GraphError, match="the mean has 2 elements, the covariance is of 3"):
        r.multivariate_normal(KEY, mean[:2], cov)
    with pytest.raises(gx.GraphError, match="needs a mean"):
        r.multivariate_normal(KEY, 0.0, cov)


def test_multivariate_normal_differentiates_by_both_parameters() -> None:
    mean, cov = gx.vector("mean", 2), gx.matrix("cov", (2, 2))
    symmetric = (cov + cov.T) / 2
    drawn = r.multivariate_normal(KEY, mean, symmetric, (3,))
    point = {mean: np.array([0.3, -1.0]), cov: np.array([[2.0, 0.5], [0.5, 1.0]])}
    assert gx.check_grad(gx.sum(drawn**2), [mean, cov], point)


def test_multinomial_counts_are_binomial_and_add_up() -> None:
    chances = np.array([0.2, 0.5, 0.1, 0.2])
    key = gx.symbol("key", (2,), "uint32")
    counts = r.multinomial(key, 12, chances, (COUNT,))
    drawn = gx.evaluate(counts, {key: np.array([7, 8], "uint32")})
    assert drawn.shape == (COUNT, 4) and (drawn.sum(axis=1) == 12).all() and (drawn >= 0).all()
    for column, chance in zip(drawn.T, chances, strict=True):
        check_counts(column, st.binom(12, chance))
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(-0.5, abs=0.05)
    assert value(r.multinomial(KEY, 5, [0.0, 1.0, 0.0])).tolist() == [0, 5, 0]
    assert value(r.multinomial(KEY, [3, -1], [0.5, 0.5], dtype="int32")).tolist()[1] == [-1, -1]
    with pytest.raises(gx.GraphError, match="needs probabilities"):
        r.multinomial(KEY, 5, 0.5)


# -- many keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("normal", "gamma", "poisson", "permutation"))
def test_many_keys_are_mapped_over(name: str) -> None:
    """`split` gives an array of keys, for `vmap`, `map` and `scan`: the draws of one after another.
    """
    draw = {
        "normal": lambda key: r.normal(key, (3,)),
        "gamma": lambda key: r.gamma(key, 0.7, (3,)),
        "poisson": lambda key: r.poisson(key, 20.0, (3,)),
        "permutation": lambda key: r.permutation(key, 5),
    }[name]
    keys = r.split(KEY, 4)
    want = np.stack([value(draw(keys[i])) for i in range(4)])
    together = gx.vmap(draw)(keys)
    _, scanned = gx.scan(lambda state, key: (state, draw(key)), gx.constant(0.0), keys)
    for node in (together, gx.map(draw, keys), scanned):
        np.testing.assert_allclose(value(node), want, rtol=1e-12)
    (compiled,) = gx.compile([], [together])()
    np.testing.assert_allclose(compiled, want, rtol=1e-12)
    grid = r.split(KEY, (2, 2))
    nested = value(gx.vmap(gx.vmap(draw))(grid))
    np.testing.assert_allclose(nested.reshape(want.shape), want, rtol=1e-12)


# -- selection -------------------------------------------------------------------------------------


def test_categorical() -> None:
    weights = np.array([0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.log(weights)
    found = value(r.categorical(KEY, logits, shape=(COUNT,)))
    observed = np.bincount(found, minlength=4)
    assert observed[1] == 0
    assert st.chisquare(observed[weights > 0], COUNT * weights[weights > 0]).pvalue > FAIR
    columns = value(r.categorical(KEY, np.tile(logits[:, None], (1, 3000)) + 5, axis=0))
    assert columns.shape == (3000,)
    assert (
        st.chisquare(np.bincount(columns)[weights > 0], 3000 * weights[weights > 0]).pvalue > FAIR
    )


def test_permutations_are_equally_likely() -> None:
    keys = value(r.split(KEY, 4800))
    key = gx.symbol("key", (2,), "uint32")
    function = gx.compile([key], r.permutation(key, 4))
    found = np.array([function(k) for k in keys])
    assert (np.sort(found, axis=1) == np.arange(4)).all()
    observed = np.unique(found @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(observed) == 24 and st.chisquare(observed).pvalue > FAIR


def test_permutation_and_shuffle_move_slices() -> None:
    x = np.arange(12.0).reshape(4, 3)
    order = value(r.permutation(KEY, 4))
    assert value(r.permutation(KEY, x)).tolist() == x[order].tolist()
    assert value(r.shuffle(KEY, x)).tolist() == x[order].tolist()
    columns = value(r.permutation(KEY, 3))
    assert value(r.shuffle(KEY, x, axis=-1)).tolist() == x[:, columns].tolist()
    big = value(r.permutation(KEY, 5000))
    assert sorted(big.tolist()) == list(range(5000)) and (big != np.arange(5000)).sum() > 4900
    assert value(r.permutation(KEY, 0)).tolist() == []


def test_choice_with_replacement() -> None:
    even = value(r.choice(KEY, 7, (COUNT,)))
    assert st.chisquare(np.bincount(even, minlength=7)).pvalue > FAIR
    p = np.array([0.2, 0.0, 0.5, 0.3])
    found = value(r.choice(KEY, np.array([10, 20, 30, 40]), (COUNT,), p=p))
    observed = np.bincount(found // 10 - 1, minlength=4)
    assert observed[1] == 0 and st.chisquare(observed[p > 0], COUNT * p[p > 0]).pvalue > FAIR
    rows = np.arange(6.0).reshape(3, 2)
    picked = value(r.choice(KEY, rows, (2, 5)))
    assert picked.shape == (2, 5, 2) and set(map(tuple, picked.reshape(-1, 2))) <= set(
        map(tuple, rows)
    )


def test_choice_without_replacement() -> None:
    key = gx.symbol("key", (2,), "uint32")
    p = np.array([0.5, 0.3, 0.2])
    even = gx.compile([key], r.choice(key, 5, (3,), replace=False))
    weighted = gx.compile([key], r.choice(key, 3, (2,), replace=False, p=p))
    keys = value(r.split(KEY, 5000))
    found = np.array([even(k) for k in keys])
    assert all(len(set(row)) == 3 for row in found.tolist())
    assert st.chisquare(np.bincount(found[:, 2], minlength=5)).pvalue > FAIR
    pairs = np.array([weighted(k) for k in keys]) @ [3, 1]
    expected = {3 * i + j: p[i] * p[j] / (1 - p[i]) for i in range(3) for j in range(3) if i != j}
    observed = [int((pairs == code).sum()) for code in expected]
    assert st.chisquare(observed, 5000 * np.array(list(expected.values()))).pvalue > FAIR


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(gx.GraphError, match="4 of 3 without replacement"):
        r.choice(KEY, 3, (4,), replace=False)
    with pytest.raises(gx.GraphError, match="nothing to choose from"):
        r.choice(KEY, 0, (4,))
    with pytest.raises(gx.GraphError, match=r"p has shape \(2,\), not \(3,\)"):
        r.choice(KEY, 3, (4,), p=np.array([0.5, 0.5]))
    for draw in (r.normal, r.uniform, r.exponential):
        with pytest.raises(gx.GraphError, match="gives floats, got dtype int64"):
            draw(KEY, (2,), "int64")
    with pytest.raises(gx.GraphError, match="needs a dtype with -1"):
        r.rademacher(KEY, (2,), "uint8")
    with pytest.raises(gx.GraphError, match="gives integers"):
        r.poisson(KEY, 1.0, (2,), "float32")


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_what_is_sampled_is_the_same_without_any_rewriting(target: str) -> None:
    """A view of one of several results was read before the kernel that makes them wrote it."""
    from graphc.rewrite import RULES

    concentration = gx.symbol("a", ("n",), "float64")
    node = gx.random.gamma(gx.random.key(1), concentration)
    options = gx.Options(exclude=frozenset(RULES), cache=False, threads=1)
    given = np.full(200, 0.7)
    sampled = gx.compile(concentration, node, target=target, options=options)(given)
    np.testing.assert_allclose(sampled, gx.evaluate(node, {concentration: given}), rtol=1e-9)
