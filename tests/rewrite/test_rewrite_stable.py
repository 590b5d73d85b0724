"""Are stability rules at least as accurate as what they replace?  Against mpmath, with extremes.

The exact value is that of the formula as it was written, over the real numbers, in 400 digits. A
result may miss it by twice as much as the original did, since roundings fall differently, or by a
few units in the last place, which NumPy's own functions take. Sums of exponentials may miss it by a
few units in the last place of their largest argument, or of 1, where the logarithm crosses 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from rewrite_values import fill, symbols_of, values_of

import graphc as gx
from graphc.node import Node, topological
from graphc.rewrite import RULES, Rule, rewrite

STABLE = [rule for rule in RULES.values() if rule.law == "stable"]
FEW_ULP = 4
_POSITIVE = (1e-300, 1e-20, 1e-9, 1e-3, 0.1, 0.5, 1.0, 2.5, 20.0, 36.8, 40.0, 709.0, 746.0, 9000.0)
GRID = np.array([0.0, *_POSITIVE, *[-value for value in _POSITIVE]])
SMALL_GRID = GRID[::3]

mpmath.mp.dps = 400


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _divide(x: Any, y: Any) -> Any:
    return x / y if y else mpmath.nan


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    """NaN outside the domain, and where a value is neither a number nor an infinity."""

    def call(x: Any, *others: Any) -> Any:
        made = function(x, *others)
        return made if isinstance(made, mpmath.mpf) else mpmath.nan

    return call


def _erfinv(y: Any) -> Any:
    """By Newton's method, from below: erf is concave."""
    size = abs(y)
    if size > 0.9:
        return mpmath.nan
    root = size * mpmath.sqrt(mpmath.pi) / 2
    for _ in range(30):
        root += (size - mpmath.erf(root)) * mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(root**2)
    return mpmath.sign(y) * root


# Of one element; what is not here moves elements, and NumPy does that on objects as well.
EXACT: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "strong_multiply": lambda x, y: x * y,
    "divide": _divide,
    "negative": lambda x: -x,
    "absolute": abs,
    "square": lambda x: x * x,
    "sqrt": _real(mpmath.sqrt),
    "power": _real(lambda x, y: x**y if x or y > 0 else mpmath.nan),
    "exp": mpmath.exp,
    "expm1": lambda x: mpmath.exp(x) - 1,
    "log": _real(lambda x: mpmath.log(x) if x else -mpmath.inf),
    "log1p": _real(lambda x: mpmath.log(1 + x) if x != -1 else -mpmath.inf),
    "sigmoid": _sigmoid,
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "tanh": mpmath.tanh,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "arctan": mpmath.atan,
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": _real(lambda x: mpmath.log(x, 2) if x else -mpmath.inf),
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "arcsinh": mpmath.asinh,
    "arctanh": _real(lambda x: mpmath.atanh(x) if abs(x) < 1 else mpmath.nan),
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "erfinv": _erfinv,
    "erfcinv": lambda y: _erfinv(1 - y),
    "gamma": lambda x: mpmath.gamma(x) if x > 0 else mpmath.nan,
    "logit": _real(lambda x: mpmath.log(x / (1 - x)) if 0 < x < 1 else mpmath.nan),
}


def exact_values(nodes: list[Node], arrays: dict[Node, np.ndarray]) -> list[np.ndarray]:
    """The values of nodes over the real numbers, as arrays of mpmath numbers."""
    held: dict[Node, Any] = {}
    for node in topological(nodes):
        args = [held[argument] for argument in node.args]
        if node in arrays:
            held[node] = np.frompyfunc(mpmath.mpf, 1, 1)(arrays[node].astype(object))
        elif node.op.name == "constant":
            value = node.attrs["value"].array
            held[node] = np.asarray(np.frompyfunc(mpmath.mpf, 1, 1)(value.astype(object)), object)
        elif node.op.name == "cast":
            held[node] = args[0]
        elif node.op.name == "sum":
            held[node] = np.asarray(np.sum(args[0], axis=node.attrs["axes"]), object)
        elif node.op.name in EXACT:
            made = np.frompyfunc(EXACT[node.op.name], len(args), 1)(*args)
            held[node] = np.asarray(made, object)
        else:
            held[node] = node.op.numpy(*args, **node.attrs)
    return [held[node] for node in nodes]


def error_in_ulp(computed: Any, exact: Any) -> float:
    """How far off a float is, in units of its last place; NaN counts as infinitely far."""
    limits = np.finfo(computed.dtype)
    if np.isnan(computed):
        return np.inf
    if np.isinf(computed):
        right = abs(exact) >= mpmath.mpf(float(limits.max))
        return 0.0 if right and (exact > 0) == (computed > 0) else np.inf
    step = float(np.spacing(np.abs(computed.dtype.type(min(abs(exact), float(limits.max))))))
    return float(min(abs(mpmath.mpf(float(computed)) - exact) / step, mpmath.mpf(1e300)))


def grids(before: list[Node]) -> dict[Node, np.ndarray]:
    """Every combination of grid values, over the elements of long symbols."""
    symbols = symbols_of(before)
    points = list(product(GRID if len(symbols) == 1 else SMALL_GRID, repeat=len(symbols)))
    arrays = {}
    for i, symbol in enumerate(symbols):
        column = np.array([point[i] for point in points])
        arrays[symbol] = np.abs(column) if "positive" in symbol.attrs["facts"] else column
    return arrays


def elementwise(rule: Rule) -> bool:
    return all(
        node.shape in ((), symbols_of(rule.example_nodes())[0].shape) and node.op.name != "sum"
        for node in topological(rule.example_nodes())
    )


ELEMENTWISE = [rule for rule in STABLE if elementwise(rule)]
OVER_SUMS = [rule for rule in STABLE if rule not in ELEMENTWISE]


@pytest.mark.parametrize("rule", ELEMENTWISE, ids=lambda rule: rule.name)
def test_elementwise_rules_are_at_least_as_accurate(rule: Rule) -> None:
    before = rule.example_nodes()
    after = rewrite(before).outputs
    shape = before[0].shape
    arrays = grids(before)
    count = len(next(iter(arrays.values())))
    rows = int(np.prod(shape))
    compared = 0
    for start in range(0, count, rows):
        chosen = {
            symbol: np.resize(array[start : start + rows], shape).astype(symbol.dtype)
            for symbol, array in arrays.items()
        }
        compared += _compare(before, after, chosen, lambda old: max(2 * old, FEW_ULP))
    assert compared >= 15


def _compare(
    before: list[Node],
    after: list[Node],
    arrays: dict[Node, np.ndarray],
    allowed: Callable[[float], float],
) -> int:
    compared = 0
    triples = zip(
        exact_values(before, arrays),
        values_of(before, arrays),
        values_of(after, arrays),
        strict=True,
    )
    for exact, old, new in triples:
        for place in np.ndindex(old.shape):
            if mpmath.isnan(exact[place]) or mpmath.isinf(exact[place]):
                continue
            was, now = (error_in_ulp(found[place], exact[place]) for found in (old, new))
            assert now <= allowed(was), (place, arrays, exact[place], old[place], new[place])
            compared += 1
    return compared


@pytest.mark.parametrize("rule", OVER_SUMS, ids=lambda rule: rule.name)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 30.0, 800.0])
def test_rules_over_sums_are_at_least_as_accurate(rule: Rule, scale: float) -> None:
    before = rule.example_nodes()
    after = rewrite(before).outputs
    rng = np.random.default_rng(3)
    arrays = {symbol: scale * rng.normal(size=symbol.shape) for symbol in symbols_of(before)}
    limits = np.finfo("float64")
    largest = max(float(np.max(np.abs(array))) for array in arrays.values())
    exact = exact_values(before, arrays)
    triples = zip(exact, values_of(before, arrays), values_of(after, arrays), strict=True)
    for whole, old, new in triples:
        for place in np.ndindex(old.shape):
            if abs(whole[place]) > float(limits.max):
                continue
            error = abs(mpmath.mpf(float(new[place])) - whole[place])
            was = abs(mpmath.mpf(float(old[place])) - whole[place])
            slack = 8 * float(limits.eps) * max(abs(whole[place]), largest, 1.0)
            no_worse = not np.isfinite(old[place]) or error <= was + slack
            assert np.isfinite(new[place]) and no_worse, (place, old, new)


# Term by term, an infinite cotangent may meet itself with the other sign: inf - inf.
TERMWISE = ("cancel_in_sum", "cancel_in_difference")
FACTORED = [rule for rule in STABLE if rule.name not in TERMWISE]


@pytest.mark.parametrize("rule", FACTORED, ids=lambda rule: rule.name)
def test_special_values_are_kept_unless_the_original_was_nan(rule: Rule) -> None:
    """What was a number or an infinity stays what it was, infinities and NaN being among the
    arguments.
    """
    before = rule.example_nodes()
    after = rewrite(before).outputs
    rng = np.random.default_rng(4)
    for _ in range(40):
        arrays = {}
        for symbol in symbols_of(before):
            array = fill(symbol, rng, special=False)
            if symbol.dtype.kind == "f" and not symbol.attrs["facts"]:
                spots = rng.random(array.shape) < 0.3
                array = np.where(spots, rng.choice([np.inf, -np.inf, np.nan], array.shape), array)
            arrays[symbol] = array.astype(symbol.dtype)
        for old, new in zip(values_of(before, arrays), values_of(after, arrays), strict=True):
            told = ~np.isnan(old)
            np.testing.assert_allclose(new[told], old[told], rtol=1e-6, atol=1e-12)


ROWS = np.array(
    [
        [1000.0, -1000.0, 3.0],
        [0.0, 800.0, -900.0],
        [-np.inf, 1.0, 2.0],
        [-5.0, -4.0, -3.0],
        [750.0, 750.0, 750.0],
    ]
)
TARGET = np.array([[0.0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0], [0.2, 0.3, 0.5]])


def _naive_softmax(x: Node) -> Node:
    powers = gx.exp(x)
    return powers / gx.sum(powers, axis=1, keepdims=True)


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _logistic(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


# A textbook cost of x and a target t, and its gradient by x as one would write it by hand.
COSTS: dict[str, tuple[Callable[[Node, Node], Node], Callable[[Any, Any], Any]]] = {
    "log_sum_exp": (
        lambda x, t: gx.log(gx.sum(gx.exp(x), axis=1)).sum(),
        lambda x, t: _softmax(x),
    ),
    "log_mean_exp": (
        lambda x, t: gx.log(gx.mean(gx.exp(x), axis=1)).sum(),
        lambda x, t: _softmax(x),
    ),
    "softmax": (
        lambda x, t: (t * _naive_softmax(x)).sum(),
        lambda x, t: _softmax(x) * (t - (t * _softmax(x)).sum(axis=1, keepdims=True)),
    ),
    "cross_entropy": (
        lambda x, t: -(t * gx.log(_naive_softmax(x))).sum(),
        lambda x, t: _softmax(x) * t.sum(axis=1, keepdims=True) - t,
    ),
    "cross_entropy_of_softmax": (
        lambda x, t: -(t * gx.log(gx.softmax(x))).sum(),
        lambda x, t: _softmax(x) * t.sum(axis=1, keepdims=True) - t,
    ),
    "cross_entropy_of_log_softmax": (
        lambda x, t: -(t * gx.log_softmax(x)).sum(),
        lambda x, t: _softmax(x) * t.sum(axis=1, keepdims=True) - t,
    ),
    "softplus": (
        lambda x, t: (t * gx.log(1 + gx.exp(x))).sum(),
        lambda x, t: t * _logistic(x),
    ),
    "logistic": (
        lambda x, t: (t / (1 + gx.exp(-x))).sum(),
        lambda x, t: t * _logistic(x) * _logistic(-x),
    ),
    "logistic_quotient": (
        lambda x, t: (t * (gx.exp(x) / (1 + gx.exp(x)))).sum(),
        lambda x, t: t * _logistic(x) * _logistic(-x),
    ),
    "log_logistic": (
        lambda x, t: (t * gx.log(1 / (1 + gx.exp(-x)))).sum(),
        lambda x, t: t * _logistic(-x),
    ),
    "binary_cross_entropy": (
        lambda x, t: -(t * gx.log(gx.sigmoid(x)) + (1 - t) * gx.log(1 - gx.sigmoid(x))).sum(),
        lambda x, t: _logistic(x) - t,
    ),
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("math", ["ieee", "real", "fast"])
def test_gradients_of_textbook_formulas_survive_extremes(name: str, math: str) -> None:
    cost, by_hand = COSTS[name]
    rows = [0, 1, 3, 4] if "cross" in name or "softplus" in name or "log" in name else range(5)
    x, t = (gx.symbol(letter, (len(rows), 3)) for letter in "xt")
    written = [cost(x, t), gx.grad(cost(x, t), x)]
    value, gradient = values_of(rewrite(written, math).outputs, {x: ROWS[rows], t: TARGET[rows]})
    np.testing.assert_allclose(gradient, by_hand(ROWS[rows], TARGET[rows]), rtol=1e-12, atol=1e-14)
    assert np.isfinite(value)


@pytest.mark.parametrize(
    "row",
    [[-np.inf] * 3, [np.inf, 0, 1], [-np.inf, 2, 3], [np.nan, 1, 2], [1e308, -1e308, 0]],
)
def test_log_sum_exp_of_infinities(row: list[float]) -> None:
    x = gx.vector("x", 3)
    (found,) = values_of(rewrite([gx.log(gx.sum(gx.exp(x)))]).outputs, {x: np.array(row)})
    with np.errstate(all="ignore"):
        expected = np.logaddexp.reduce(np.array(row))
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("extent", [0, "n"])
def test_a_sum_over_nothing_is_no_factor_that_cancels(extent: Any) -> None:
    """A sum of exponentials is never 0 unless there are none."""
    x, y = gx.vector("x", extent), gx.scalar("y")
    total = gx.sum(gx.exp(x))
    made = [total * y / total, (y / total) * total]
    given = {x: np.zeros(0), y: np.array(3.0)}
    for before, after in zip(
        values_of(made, given), values_of(rewrite(made).outputs, given), strict=True
    ):
        assert np.isnan(before) and np.isnan(after)


def test_a_sum_that_is_spread_along_what_it_sums_still_cancels() -> None:
    """Where there is nothing to sum, there is no element to be wrong."""
    x, y = gx.vector("x", "n"), gx.vector("y", "n")
    total = gx.sum(gx.exp(x))
    (made,) = rewrite([total * (y / total)]).outputs
    assert made is y
