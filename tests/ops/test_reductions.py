"""Do reductions, running combinations, sorting and counting hold over all their arguments?

NumPy is the reference: random shapes, axes, masks and values, NaN among them, with and without
symbolic extents. Derivatives are held against differences; the accuracy of sums against exact ones.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphc as gx
import graphc.ops.sorting_kernel as sorting
from graphc.autodiff.check import check_grad

OPTIONS = gx.Options(cache=False, threads=1)
quickly = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def value_of(make: Callable[..., Any], *arrays: Any, symbolic: bool = False) -> Any:
    """What a function of nodes gives, compiled; with every extent a symbol if asked for."""
    symbols = []
    for i, array in enumerate(arrays):
        array = np.asarray(array)
        shape = tuple(f"n{i}_{axis}" for axis in range(array.ndim)) if symbolic else array.shape
        symbols.append(gx.symbol(f"x{i}", shape, array.dtype))
    function = gx.compile(symbols, make(*symbols), options=OPTIONS)
    return function(*arrays)


def same(got: Any, want: Any, dtype: Any = "float64") -> None:
    """Equal up to the rounding of a dtype."""
    eps = 200 * np.finfo(dtype).eps if np.dtype(dtype).kind == "f" else 0
    np.testing.assert_allclose(got, want, eps, eps)


def quiet(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*args, **options)


# -- reductions over all arguments -----------------------------------------------------------------


@st.composite
def reductions(draw: Any) -> tuple[Any, Any, bool, Any]:
    """An array, an axis in one of its forms, keepdims, a mask or True."""
    rank = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = random.uniform(-2, 2, shape).astype(draw(st.sampled_from(("float64", "float32"))))
    if draw(st.booleans()):
        array[random.random(shape) < 0.3] = np.nan
    one = st.integers(-rank, rank - 1)
    several = st.sets(st.integers(0, rank - 1)).map(lambda axes: tuple(sorted(axes)))
    axis = draw(st.one_of(st.none(), one, several))
    mask = random.random(shape) < 0.7 if draw(st.booleans()) else True
    return array, axis, draw(st.booleans()), mask


PLAIN = ("sum", "prod", "mean", "var", "std", "nansum", "nanprod", "nanmean", "nanvar", "nanstd")
EXTREMA = ("max", "min", "nanmax", "nanmin")


@quickly
@given(reductions(), st.sampled_from((*PLAIN, *EXTREMA)), st.booleans())
def test_reductions_mean_what_numpy_does(case: Any, name: str, symbolic: bool) -> None:
    array, axis, keepdims, mask = case
    options: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    if name in EXTREMA and mask is not True:
        options["initial"] = 0.5
    if name in ("nanvar", "nanstd", "var", "std"):
        options["ddof"] = 1
    want = quiet(getattr(np, name), array, where=mask, **options)
    masks = [] if mask is True else [mask]
    got = value_of(
        lambda x, w=True: getattr(gx, name)(x, where=w, **options),
        array,
        *masks,
        symbolic=symbolic,
    )
    assert got.dtype == want.dtype and got.shape == want.shape
    same(got, want, want.dtype)


@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_an_op_of_two_results_between_reductions_of_short_rows(target: str) -> None:
    x = gx.symbol("x", ("n", 5))
    whole, fraction = gx.modf(gx.exp(gx.sum(gx.exp(x), axis=1)) * 3)
    highest = gx.max(x * fraction[:, None] + whole[:, None], axis=1)
    made = [whole, fraction, gx.sum(x * (gx.tanh(highest) * fraction)[:, None], axis=1)]
    array = np.random.default_rng(4).uniform(-1, 1, (37, 5))
    function = gx.compile(x, made, target=target, options=gx.Options(cache=False, threads=1))
    for got, want in zip(function(array), gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_allclose(got, want, 1e-9, 1e-9)


@pytest.mark.parametrize("rows", [0, 3, 32, 300])
@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_a_loss_over_short_rows_and_its_gradient(target: str, rows: int) -> None:
    """Blocks of rows, in parts of them: none, one that is not full, a whole one, several."""
    x, y = gx.symbol("x", ("n", 7)), gx.symbol("y", ("n",))
    w = gx.symbol("w", (7,))
    z = x @ w
    loss = gx.sum(gx.softplus(z) - y * z)
    made = [loss, gx.grad(loss, w), gx.max(x * gx.tanh(z)[:, None], axis=0)]
    made = made if rows else made[:2]
    random = np.random.default_rng(5)
    arrays = [random.normal(size=shape) for shape in ((rows, 7), rows, 7)]
    function = gx.compile([x, y, w], made, target=target, options=gx.Options(cache=False))
    wanted = gx.evaluate(made, dict(zip((x, y, w), arrays, strict=True)))
    for got, want in zip(function(*arrays), wanted, strict=True):
        np.testing.assert_allclose(got, want, 1e-12, 1e-12)
    assert sum("multiply" in k.nodes for k in function.report().kernels) == 1  # x is read once


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("name", ["median", "nanmedian", "quantile", "nanquantile"])
def test_quantiles_over_a_dimension_that_may_be_0(name: str, rows: int) -> None:
    """NaN where there is nothing, as NumPy has it for medians."""
    x = gx.symbol("x", ("n", 3), "float32")
    q = () if name.endswith("median") else (0.37,)
    array = np.random.default_rng(3).uniform(-1, 1, (rows, 3)).astype("float32")
    made = [getattr(gx, name)(x, *q, axis=axis, keepdims=True) for axis in (0, 1, None)]
    nothing = [np.full((1, 3), np.nan), np.full((0, 1), np.nan), np.full((1, 1), np.nan)]
    wanted = [getattr(np, name)(array, *q, axis=a, keepdims=True) for a in (0, 1, None) if rows]
    compiled = gx.compile(x, made, options=gx.Options(cache=False))(array)
    for found in (gx.evaluate(made, {x: array}), compiled):
        for got, want in zip(found, wanted or nothing, strict=True):
            np.testing.assert_allclose(got, want, 1e-6)


@quickly
@given(reductions(), st.sampled_from(("median", "nanmedian", "quantile", "nanquantile")))
def test_quantiles_mean_what_numpy_does(case: Any, name: str) -> None:
    array, axis, keepdims, _ = case
    if axis == ():
        return
    q = () if name.endswith("median") else (0.37,)
    want = quiet(getattr(np, name), array, *q, axis=axis, keepdims=keepdims)
    got = value_of(lambda x: getattr(gx, name)(x, *q, axis=axis, keepdims=keepdims), array)
    assert got.dtype == want.dtype
    same(got, want, array.dtype)


@pytest.mark.parametrize("name", ["var", "std"])
def test_a_variance_without_freedom_is_nan(name: str) -> None:
    got = value_of(lambda x: getattr(gx, name)(x, ddof=1), np.array([1.5]), symbolic=True)
    assert np.isnan(got)


def test_a_variance_is_computed_in_two_passes() -> None:
    """Far from 0 the difference of mean squares would have no digit left."""
    x = 1e9 + np.random.default_rng(0).random(1000)
    exact = float(np.var(x.astype(np.longdouble)))
    assert abs(value_of(gx.var, x) - exact) <= 1e-6 * exact


@pytest.mark.parametrize(
    ("make", "kernels"),
    [
        (gx.softmax, 1),
        (lambda x: gx.var(x, axis=1), 1),
        (lambda x: gx.std(x, axis=1, keepdims=True) + x, 1),
        (lambda x: (x - gx.mean(x, 1, keepdims=True)) / gx.std(x, 1, keepdims=True), 1),
    ],
)
def test_rows_are_reduced_in_one_kernel(make: Callable[..., Any], kernels: int) -> None:
    x = gx.symbol("x", ("m", "n"), "float32")
    function = gx.compile([x], make(x), options=OPTIONS)
    assert len(list(function.program.launches())) == kernels


# -- the accuracy of sums --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"), [((1_000_000,), 0), ((3, 200_000), 1), ((100_000, 5), 0), ((70, 30_000), 1)]
)
def test_long_sums_are_accurate(shape: tuple[int, ...], axis: int) -> None:
    """Off by a few eps of the sum of the terms, however many there are; NumPy's columns are not."""
    x = np.random.default_rng(3).random(shape, dtype="float32")
    got = value_of(lambda x: gx.sum(x, axis=axis), x, symbolic=True)
    lines = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    for line, sum_ in zip(lines[:5], np.ravel(got), strict=False):
        exact = math.fsum(line.tolist())
        assert abs(float(sum_) - exact) <= 6 * np.finfo("float32").eps * exact


# -- running combinations --------------------------------------------------------------------------

RUNNING = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "logaddexp": np.logaddexp,
}


@quickly
@given(reductions(), st.sampled_from(tuple(RUNNING)), st.booleans(), st.booleans())
def test_running_combinations(case: Any, combiner: str, reverse: bool, symbolic: bool) -> None:
    array, axis, _, _ = case
    axis = axis if isinstance(axis, int) else array.ndim - 1
    step = -1 if reverse else 1
    turned = np.moveaxis(array, axis, 0)[::step]
    want = np.moveaxis(quiet(RUNNING[combiner].accumulate, turned, axis=0)[::step], 0, axis)
    got = value_of(lambda x: gx.cumulate(x, combiner, axis, reverse), array, symbolic=symbolic)
    same(got, want, array.dtype)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"])
@pytest.mark.parametrize("special", [[], [0.0], [-np.inf, 1.0], [np.nan, 1.0], [-0.0, -0.0, 2.0]])
def test_running_over_special_values(name: str, special: list[float]) -> None:
    x = np.array(special)
    numpy = {
        "cumsum": np.add,
        "cumprod": np.multiply,
        "cummax": np.maximum,
        "cummin": np.minimum,
        "logcumsumexp": np.logaddexp,
    }[name]
    want = quiet(numpy.accumulate, x)
    got = value_of(getattr(gx, name), x, symbolic=True)
    same(got, want)
    if name in ("cumsum", "cumprod"):
        assert np.array_equal(np.signbit(got), np.signbit(want))


def test_the_derivative_of_a_running_product_is_exact_at_zeros() -> None:
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    weights = np.arange(1.0, 6.0)
    node = gx.symbol("x", (5,))
    (gradient,) = gx.evaluate([gx.grad(gx.sum(gx.cumprod(node) * weights), node)], {node: x})
    want = np.zeros(5)
    for j in range(5):
        for i in range(j, 5):
            want[j] += weights[i] * np.prod(np.delete(x[: i + 1], j))
    assert np.array_equal(gradient, want)


def test_a_recurrence_smooths_and_discounts() -> None:
    rewards = np.array([1.0, 0.0, 2.0])
    got = value_of(lambda r: gx.recurrence(0.5, r, reverse=True), rewards)
    assert np.array_equal(got, [1.5, 1.0, 2.0])


# -- sorting ---------------------------------------------------------------------------------------


@quickly
@given(
    st.integers(0, 3 * sorting.SHORT),
    st.sampled_from(("float64", "float32", "int64", "bool", "int8", "uint8", "int32", "uint64")),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_sorting_is_stable_and_total(length: int, dtype: str, seed: int, symbolic: bool) -> None:
    """Few distinct values, so that there are many ties; both zeros, NaN and infinities."""
    random = np.random.default_rng(seed)
    x = random.integers(-4, 5, (2, length)).astype("int64").astype(dtype)
    if x.dtype.kind == "f":
        some = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.5, 1e-40]
        x = np.where(random.random(x.shape) < 0.4, random.choice(some, x.shape), x).astype(dtype)
    order = np.argsort(x, axis=-1, kind="stable")
    values, positions = value_of(lambda x: [gx.sort(x), gx.argsort(x)], x, symbolic=symbolic)
    assert np.array_equal(positions, order)
    assert np.array_equal(values, np.take_along_axis(x, order, -1), equal_nan=x.dtype.kind == "f")
    if x.dtype.kind == "f":
        taken = np.take_along_axis(x, order, -1)
        assert np.array_equal(np.signbit(values), np.signbit(taken))


@pytest.mark.parametrize("length", [sorting.SHORT, sorting.SHORT + 1])
def test_one_function_sorts_short_and_long_lines(length: int) -> None:
    x = gx.symbol("x", ("n",))
    function = gx.compile([x], gx.sort(gx.exp(x)), options=OPTIONS)
    for size in (0, 1, length, 5 * length):
        data = np.random.default_rng(size).standard_normal(size)
        same(function(data), np.exp(np.sort(data)))


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_sorting_along_symbolic_axes(axis: int | None) -> None:
    x = np.random.default_rng(4).integers(0, 9, (40, 7)) * 0.5
    found = value_of(
        lambda x: [gx.sort(x, axis), gx.argsort(x, axis), gx.median(x, axis), gx.cumsum(x, axis)],
        x,
        symbolic=True,
    )
    assert np.array_equal(found[0], np.sort(x, axis))
    assert np.array_equal(found[1], np.argsort(x, axis, kind="stable"))
    assert np.array_equal(found[2], np.median(x, axis))
    assert np.array_equal(found[3], np.cumsum(x, axis))


def test_threads_sort_lines_at_once() -> None:
    """Each worker has scratch of its own."""
    x = np.random.default_rng(5).random((64, 3000))
    node = gx.symbol("x", ("m", "n"))
    function = gx.compile([node], gx.argsort(node), options=gx.Options(cache=False, threads=2))
    assert np.array_equal(function(x), np.argsort(x, kind="stable"))


def test_top_elements_in_their_order() -> None:
    x = np.array([[1.0, np.nan, 3.0, 3.0, -1.0]])
    values, positions = value_of(lambda x: list(gx.topk(x, 4)), x)
    assert np.array_equal(positions, [[1, 2, 3, 0]])
    assert np.array_equal(values, [[np.nan, 3.0, 3.0, 1.0]], equal_nan=True)


@quickly
@given(
    st.integers(0, 600), st.sampled_from(("left", "right")), st.integers(0, 2**32), st.booleans()
)
def test_searching(length: int, side: str, seed: int, symbolic: bool) -> None:
    random = np.random.default_rng(seed)
    line = np.sort(random.choice([np.nan, -1.0, 0.0, 0.5, 2.0, np.inf, *random.random(9)], length))
    wanted = random.choice([np.nan, -0.0, 0.5, -np.inf, np.inf, *random.random(5)], (4, 70))
    got = value_of(lambda a, v: gx.searchsorted(a, v, side), line, wanted, symbolic=symbolic)
    assert np.array_equal(got, np.searchsorted(line, wanted, side))


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 33, 34, 63, 65, 250, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool"])
def test_searching_lines_that_are_counted_and_halved(length: int, dtype: str) -> None:
    numbers = np.random.default_rng(length).integers(0, 60, length + 300)
    values = (numbers > 30) if dtype == "bool" else numbers.astype(dtype)
    line, wanted = np.sort(values[:length]), values[length:]
    if dtype.startswith("float"):
        line[length - length // 5 :] = np.nan
        wanted[::7], wanted[1::7] = np.nan, -np.inf
    for side in ("left", "right"):
        got = value_of(lambda a, v, s=side: gx.searchsorted(a, v, s), line, wanted)
        assert np.array_equal(got, np.searchsorted(line, wanted, side))


# -- counting --------------------------------------------------------------------------------------


@quickly
@given(st.lists(st.integers(0, 6), max_size=40), st.booleans())
def test_counts(values: list[int], weighted: bool) -> None:
    x = np.array(values, "int64")
    weights = np.linspace(0.5, 2.0, len(x)) if weighted else None
    args = (x,) if weights is None else (x, weights)
    got = value_of(lambda x, w=None: gx.bincount(x, w, length=7), *args, symbolic=True)
    same(got, np.bincount(x, weights, minlength=7))


@pytest.mark.parametrize("value", [-1, 7])
def test_a_value_without_a_bin_is_reported(value: int) -> None:
    with pytest.raises(IndexError):
        value_of(lambda x: gx.bincount(x, length=7), np.array([0, value]))


@quickly
@given(
    st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=40), st.integers(1, 9), st.booleans()
)
def test_histograms(values: list[float], bins: int, over: bool) -> None:
    x = np.array(values)
    span = (-1.5, 2.25) if over else None
    counts, edges = value_of(lambda x: list(gx.histogram(x, bins, span)), x)
    want, want_edges = np.histogram(x, edges)  # the same edges: they may differ by a rounding
    assert np.array_equal(counts, want)
    same(edges, np.histogram_bin_edges(x, bins, span))
    assert np.array_equal(want_edges, edges)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("edges", [[0, 1, 1, 2.5, 7], [3, 3], [-np.inf, 0, np.inf], range(100)])
def test_histograms_of_numbers_outside_and_on_edges(dtype: str, edges: Any) -> None:
    x = np.random.default_rng(8).integers(-3, 110, 500).astype(dtype)
    if dtype != "int32":
        x[:4] = np.nan, np.inf, -np.inf, -0.0
    bounds = np.array(edges, "float64")
    got = value_of(lambda x: gx.histogram(x, gx.constant(bounds))[0], x)
    assert np.array_equal(got, np.histogram(x, bounds)[0])


@quickly
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 9))
def test_distinct_values(values: list[int], size: int) -> None:
    x = np.array(values, "float64")
    want, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True
    )
    got = value_of(
        lambda x: list(gx.unique(x, True, True, True, size=size, fill_value=99)), x, symbolic=True
    )
    known = min(size, len(want))
    for have, expected, fill in zip(
        (got[0], got[1], got[3]), (want, first, counts), (99, 0, 0), strict=True
    ):
        assert np.array_equal(have[:known], expected[:known]) and np.all(have[known:] == fill)
    assert np.array_equal(got[2], inverse)


# -- derivatives -----------------------------------------------------------------------------------

X = np.random.default_rng(11).permutation(12).reshape(3, 4) * 0.3 - 1.55
SMOOTH: dict[str, Callable[..., Any]] = {
    "var": lambda x: gx.var(x, axis=1, ddof=1),
    "std": lambda x: gx.std(x, axis=0),
    "nanstd": lambda x: gx.nanstd(x),
    "average": lambda x: gx.average(x, axis=1, weights=x * x),
    "masked mean": lambda x: gx.mean(x, axis=0, where=x > -0.5),
    "masked max": lambda x: gx.max(x, axis=0, where=x < 0.9, initial=-3.0),
    "ptp": lambda x: gx.ptp(x, axis=1),
    "logsumexp": lambda x: gx.logsumexp(x, axis=1, b=x * x),
    "norm": lambda x: gx.norm(x, axis=1),
    "norm 3": lambda x: gx.norm(x, 3, axis=0),
    "matrix norm": lambda x: gx.norm(x, 1),
    "cov": lambda x: gx.cov(x),
    "corrcoef": lambda x: gx.corrcoef(x),
    "cumsum": lambda x: gx.cumsum(x, axis=1),
    "cumprod": lambda x: gx.cumprod(x),
    "cummax": lambda x: gx.cummax(x, axis=0),
    "cummin": lambda x: gx.cummin(x, axis=1),
    "logcumsumexp": lambda x: gx.logcumsumexp(x, axis=0),
    "exclusive": lambda x: gx.cumulate(x, "mul", reverse=True, exclusive=True),
    "recurrence": lambda x: gx.recurrence(gx.sin(x), x, axis=0, reverse=True),
    "sort": lambda x: gx.sort(x, axis=0) * np.arange(12).reshape(3, 4),
    "topk": lambda x: gx.topk(x, 2)[0] ** 2,
    "median": lambda x: gx.median(x, axis=1),
    "quantile": lambda x: gx.quantile(x, [0.2, 0.7], axis=0),
    "diff": lambda x: gx.diff(x, 2, axis=1),
    "gradient": lambda x: gx.gradient(x, 0.5, axis=1, edge_order=2),
    "trapezoid": lambda x: gx.trapezoid(x * x, x, axis=0),
    "histogram of weights": lambda x: gx.histogram(X, 3, weights=x)[0],
}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives(name: str) -> None:
    x = gx.symbol("x", (3, 4))
    check_grad(gx.sum(gx.sin(SMOOTH[name](x))), [x], {x: X})


def test_the_derivative_of_a_norm_at_zero_is_zero() -> None:
    x = gx.symbol("x", (3,))
    for norm in (gx.norm(x), gx.std(x)):
        (got,) = gx.evaluate([gx.grad(norm, x)], {x: np.zeros(3)})
        assert np.array_equal(got, np.zeros(3))


def test_the_first_of_a_running_log_sum_may_be_of_nothing() -> None:
    x = gx.symbol("x", (3,))
    at = np.array([-np.inf, 0.5, 1.0])
    value, gradient = gx.evaluate(
        [gx.logcumsumexp(x), gx.grad(gx.logcumsumexp(x)[2], x)], {x: at}
    )
    same(value, np.logaddexp.accumulate(at))
    same(gradient, np.exp(at - value[2]))


# -- what is refused -------------------------------------------------------------------------------

M = gx.symbol("m", (3, 4))
K = gx.symbol("k", (5,), "int64")
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "out": (lambda: gx.sum(M, out=np.zeros(())), "out"),
    "out of cumsum": (lambda: gx.cumsum(M, out=np.zeros(12)), "out"),
    "where of numbers": (lambda: gx.sum(M, where=M), "truth values"),
    "where too large": (lambda: gx.sum(M, where=np.ones((2, 3, 4), bool)), "does not broadcast"),
    "max of nothing": (lambda: gx.max(M, where=M > 0), "initial"),
    "no elements": (lambda: gx.max(gx.symbol("e", (0, 3)), axis=0), "no elements"),
    "two names": (lambda: gx.var(M, ddof=1, correction=1), "two names"),
    "norm order": (lambda: gx.norm(M, 3), "matrix"),
    "combiner": (lambda: gx.cumulate(M, "sub"), "add, mul"),
    "cummax of bool": (lambda: gx.cummax(M > 0), "bool"),
    "q": (lambda: gx.quantile(M, 1.5), "between 0 and 1"),
    "q node": (lambda: gx.quantile(M, M), "not an expression"),
    "method": (lambda: gx.quantile(M, 0.5, method="nearest"), "linear"),
    "quantile of nothing": (lambda: gx.median(gx.symbol("e", (0,))), "no elements"),
    "sort kind": (lambda: gx.sort(M, kind="bogo"), "stable"),
    "sort of a number": (lambda: gx.sort(gx.scalar("s")), "rank 1"),
    "kth": (lambda: gx.partition(M, 4), "out of range"),
    "top": (lambda: gx.topk(M, 5), "extent 4"),
    "side": (lambda: gx.searchsorted(M[0], M, side="middle"), "'left' or 'right'"),
    "search in a matrix": (lambda: gx.searchsorted(M, M), "rank 1"),
    "bins that turn": (lambda: gx.digitize(M, [0.0, 1.0, 0.5]), "rise or fall"),
    "bincount": (lambda: gx.bincount(K), "length="),
    "bincount of floats": (lambda: gx.bincount(M[0]), "integers"),
    "unique": (lambda: gx.unique(K), "size="),
    "edges": (lambda: gx.histogram(M, [0.0, 1.0, 0.5]), "rise"),
    "coordinates": (lambda: gx.gradient(M[0], np.arange(4.0)), "one spacing"),
    "weight of a bin": (lambda: gx.bincount(K, M[0], length=3), "one weight"),
    "weights": (lambda: gx.average(M, axis=0, weights=np.ones(4)), "weights"),
    "edge order": (lambda: gx.gradient(M, edge_order=3), "1 or 2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_errors(what: str) -> None:
    call, said = REFUSED[what]
    with pytest.raises(gx.GraphError, match=said) as caught:
        call()
    assert len(str(caught.value).splitlines()) <= 8


def test_methods() -> None:
    x = gx.symbol("x", (3, 4))
    pairs = [
        (x.std(axis=1, ddof=1), gx.std(x, axis=1, ddof=1)),
        (x.var(), gx.var(x)),
        (x.sum(0, dtype="float32"), gx.sum(x, 0, "float32")),
        (x.cumsum(1), gx.cumsum(x, 1)),
        (x.cumprod(), gx.cumprod(x)),
        (x.argsort(), gx.argsort(x)),
        (x.argmin(0), gx.argmin(x, 0)),
        ((x > 0).any(1, keepdims=True), gx.any(x > 0, 1, keepdims=True)),
        ((x > 0).all(), gx.all(x > 0)),
        (x[0].searchsorted(x, "right"), gx.searchsorted(x[0], x, "right")),
        (np.std(x, axis=0), gx.std(x, axis=0)),
        (np.quantile(x, 0.5), gx.quantile(x, 0.5)),
        (np.linalg.norm(x), gx.linalg.norm(x)),
    ]
    assert all(first is second for first, second in pairs)
