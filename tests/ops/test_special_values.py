"""Do element-wise functions give NumPy's values at zeros, infinities, NaN and the ends of a range?

The contract compares ops with their own evaluators over bit patterns; here the public functions are
compared with NumPy's of the same name, composed ones included, at all pairs of special values, by
the evaluator and by native code. What NumPy leaves to a warning, a division of integers by zero,
and a negative power of integers are errors of the call, with the user's line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import Case, check_exact, check_within, compiled, evaluator, spacing
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import INT, special

import graphc as gx
from graphc.node import Node
from graphc.op import REGISTRY, elementwise, no_derivative

FLOATS = ("float64", "float32")
Call = Callable[..., Any]


def pairs(dtype: str) -> list[np.ndarray]:
    """All pairs of special values."""
    values = special(dtype)
    return [np.repeat(values, len(values)), np.tile(values, len(values))]


def leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def compare(
    calls: dict[str, Call], arrays: list[np.ndarray], either_zero: tuple[str, ...] = ()
) -> None:
    """All calls in one function, against NumPy's, through the evaluator and native code."""
    symbols = [gx.symbol(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    outputs: list[Node] = []
    wanted: list[Any] = []
    labels: list[str] = []
    with np.errstate(all="ignore"):
        for name, call in calls.items():
            made, expected = leaves(call(gx, *symbols)), leaves(call(np, *arrays))
            assert len(made) == len(expected)
            outputs += made
            wanted += expected
            labels += [name] * len(made)
    for how, got in (
        ("evaluator", evaluator(symbols, outputs, arrays)),
        ("native", compiled("llvm-1", Case(symbols, outputs))(*arrays)),
        ("rewritten", compiled("llvm-1", Case(symbols, outputs, math="ieee"))(*arrays)),
    ):
        for name, have, want in zip(labels, got, wanted, strict=True):
            check_exact(have, np.asarray(want), f"{name} on {how}", either_zero=name in either_zero)


def named(*names: str) -> dict[str, Call]:
    return {name: lambda xp, *values, n=name: getattr(xp, n)(*values) for name in names}


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_of_two(dtype: str) -> None:
    calls = named(
        *("floor_divide", "remainder", "mod", "fmod", "divmod", "copysign", "nextafter", "fmax"),
        *("fmin", "heaviside", "isclose", "logical_and", "logical_or", "logical_xor", "maximum"),
        *("minimum", "true_divide"),
    )
    calls |= {
        "x // 0.7": lambda xp, x, y: x // 0.7,
        "x % -0.0": lambda xp, x, y: x % -0.0,
        "clip": lambda xp, x, y: xp.clip(x, y, 2.5),
        "clip to NaN": lambda xp, x, y: xp.clip(x, None, y),
        "close and NaN": lambda xp, x, y: xp.isclose(x, y, equal_nan=True),
    }
    zeros = ("fmax", "fmin", "maximum", "minimum", "clip", "clip to NaN")
    compare(calls, pairs(dtype), zeros)


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_of_one(dtype: str) -> None:
    calls = named(
        *("floor", "ceil", "trunc", "fix", "rint", "round", "signbit", "spacing", "frexp", "modf"),
        *("isfinite", "isinf", "isnan", "isposinf", "isneginf", "nan_to_num", "reciprocal", "sign"),
        *("square", "absolute", "fabs", "positive", "conjugate", "real", "logical_not"),
        *("deg2rad", "radians", "rad2deg", "degrees"),
    )
    calls |= {
        "three decimals": lambda xp, x: xp.round(x, 3),
        "hundreds": lambda xp, x: xp.around(x, -2),
        "x % 1": lambda xp, x: x % 1,
        "x % 1.0": lambda xp, x: xp.remainder(x, 1.0),
        "floor of floor": lambda xp, x: xp.floor(xp.rint(x)),
        "ldexp up": lambda xp, x: xp.ldexp(x, 1030),
        "ldexp down": lambda xp, x: xp.ldexp(x, -1060),
        "ldexp a little": lambda xp, x: xp.ldexp(x, np.int64(-3)),
    }
    compare(calls, [special(dtype)])


def test_integers_of_two() -> None:
    x, y = pairs(INT)
    calls = named(
        *("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift", "maximum"),
        *("minimum", "fmax", "fmin", "gcd", "lcm", "logical_and", "logical_xor", "isclose"),
    )
    compare(calls, [x, y])
    divisor = np.where(y == 0, 3, y)
    compare(named("floor_divide", "remainder", "fmod", "divmod"), [x, divisor])
    compare(named("power"), [x, np.abs(divisor >> 1)])


def test_integers_of_one() -> None:
    calls = named(
        *("invert", "bitwise_not", "bitwise_count", "absolute", "sign", "square", "floor", "rint"),
        *("signbit", "isfinite", "isinf", "isnan", "isposinf", "nan_to_num", "imag", "logical_not"),
    )
    calls |= {
        "by a power of two": lambda xp, x: divmod(x, 8),
        "by a negative number": lambda xp, x: divmod(x, -7),
        "shifted": lambda xp, x: (x << 5) ^ (x >> 3),
        "tens": lambda xp, x: xp.round(x // 1024, -1),
    }
    compare(calls, [special(INT)])
    compare(named("reciprocal"), [np.array([1, -1, 2, -2, 2**63 - 1, -(2**63)])])


def test_the_logical_functions_of_bool() -> None:
    x, y = pairs("bool")
    compare(
        {
            **named("maximum", "minimum", "fmax", "fmin", "logical_xor", "bitwise_xor"),
            "absolute": lambda xp, x, y: xp.absolute(x),
            "operators": lambda xp, x, y: (x & y, x | y, x ^ y, ~x),
        },
        [x, y],
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_lengths_and_sums_of_exponentials(dtype: str) -> None:
    x, y = pairs(dtype)
    symbols = [gx.symbol("x", x.shape, dtype), gx.symbol("y", y.shape, dtype)]
    outputs = [gx.hypot(*symbols), gx.logaddexp(*symbols)]
    got = compiled("llvm-1", Case(symbols, outputs))(x, y)
    with np.errstate(all="ignore"):
        wide = [a.astype(np.longdouble) for a in (x, y)]
        length, total = np.hypot(*wide), np.logaddexp(*wide)
        check_within(got[0], length.astype(dtype), 1.01 * spacing(length.astype(dtype)), "hypot")
        # the larger argument and a logarithm of at most log 2 may cancel
        larger = spacing(np.maximum(np.maximum(np.abs(x), np.abs(y)), 1).astype(dtype))
        check_within(got[1], total.astype(dtype), 3 * larger, "logaddexp")


@settings(max_examples=200, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False).filter(bool),
)
def test_remainders_are_exact(x: float, y: float) -> None:
    """Against rational arithmetic, whatever the quotient."""
    from fractions import Fraction

    exact = Fraction(x) - Fraction(y) * int(Fraction(x) / Fraction(y))
    got = REMAINDER(np.array([x]), np.array([y]))[0]
    assert Fraction(float(got)) == exact


_X, _Y = gx.vector("x", 1), gx.vector("y", 1)
REMAINDER = gx.compile([_X, _Y], gx.fmod(_X, _Y), options=gx.Options(cache=False))


# -- errors of the call ----------------------------------------------------------------------------

DEMANDS: dict[str, tuple[Call, type[Exception], str]] = {
    "//": (lambda n, d: n // d, ZeroDivisionError, "floor_divide"),
    "%": (lambda n, d: n % d, ZeroDivisionError, "remainder"),
    "fmod": (gx.fmod, ZeroDivisionError, "fmod"),
    "divmod": (lambda n, d: divmod(n, d)[1], ZeroDivisionError, "remainder"),
    "reciprocal": (lambda n, d: gx.reciprocal(d) + n, ZeroDivisionError, "floor_divide"),
    "**": (lambda n, d: n ** (d - 1), ValueError, "integer_power"),
}


@pytest.mark.parametrize("what", DEMANDS)
@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_a_broken_demand_is_an_error_with_the_line(what: str, target: str) -> None:
    call, error, op = DEMANDS[what]
    n, d = gx.symbol("n", ("m",), INT), gx.symbol("d", ("m",), INT)
    function = gx.compile([n, d], [call(n, d) + 1], target=target)
    good, bad = np.arange(1, 40), np.arange(39)[::-1].copy()
    function(np.arange(39), good)
    said = f"(?s)(division by zero|negative integer powers).*{op}"
    with pytest.raises(error, match=said) as caught:
        function(np.arange(39), bad)
    assert "test_special_values.py" in str(caught.value)
    with pytest.raises(error):
        gx.evaluate(call(n, d), {n: np.arange(39), d: bad})
    (again,) = function(np.arange(39), good)
    assert again.shape == (39,)


def test_where_does_not_mask_but_a_safe_divisor_does() -> None:
    n, d = gx.symbol("n", (3,), INT), gx.symbol("d", (3,), INT)
    arrays = np.array([7, -7, 9]), np.array([2, 0, -4])
    with pytest.raises(ZeroDivisionError):
        gx.compile([n, d], gx.where(d != 0, n // d, 0))(*arrays)
    safe = gx.where(d != 0, n // gx.where(d != 0, d, 1), 0)
    assert gx.compile([n, d], safe)(*arrays).tolist() == [3, 0, -3]


def test_quotients_and_remainders_of_lanes_are_compiled() -> None:
    """LLVM's code generation must not see a division and a remainder of the same vectors: it would
    not end.
    """
    op = elementwise(
        "both_of_a_division",
        numpy=lambda x, y: np.fmod(x, y) + np.trunc(x / y).astype(INT),
        kernel=lambda k, x, y: k.add(k.quotient(x, y), k.remainder(x, y)),
        partials=no_derivative("integers do not vary smoothly"),
        kinds="i",
    )
    try:
        x, y = gx.symbol("x", (225,), INT), gx.symbol("y", (225,), INT)
        random = np.random.default_rng(0)
        arrays = [random.integers(-999, 999, 225), random.integers(1, 20, 225)]
        case = Case([x, y], [op(x, y), x // y, gx.fmod(x, y)])
        wanted = evaluator(case.inputs, case.outputs, arrays)
        for got, want in zip(compiled("llvm-1", case)(*arrays), wanted, strict=True):
            check_exact(got, want, "a division")
    finally:
        REGISTRY.pop("both_of_a_division")


def test_a_demand_is_made_only_of_what_is_read() -> None:
    """Padding reads nothing outside of its argument, and a slice nothing but its own."""
    n, d = gx.symbol("n", (4,), INT), gx.symbol("d", (4,), INT)
    ratio = n // d
    function = gx.compile([n, d], [gx.pad(ratio, [(2, 1)]), gx.concatenate([ratio, ratio[:1]])])
    padded, joined = function(np.array([4, 5, 6, 7]), np.array([2, 2, 2, 2]))
    assert padded.tolist() == [0, 0, 2, 2, 3, 3, 0] and joined.tolist() == [2, 2, 3, 3, 2]
    part = gx.compile([n, d], (n // d)[1:])
    assert part(np.array([4, 5, 6, 7]), np.array([0, 2, 2, 2])).tolist() == [2, 3, 3]


def test_a_demand_in_reductions_and_products() -> None:
    n, d = gx.symbol("n", (50, 60), INT), gx.symbol("d", (50, 60), INT)
    w = gx.symbol("w", (60, 7))
    outputs = [(n // d).sum(axis=1), (n % d).max(), gx.cast(n // d, "float64") @ w]
    function = gx.compile([n, d, w], outputs)
    random = np.random.default_rng(0)
    x, y, z = random.integers(-99, 99, (50, 60)), random.integers(1, 9, (50, 60)), np.ones((60, 7))
    sums, most, product = function(x, y, z)
    assert np.array_equal(sums, (x // y).sum(axis=1)) and most == (x % y).max()
    assert np.allclose(product, (x // y) @ z)
    y[31, 59] = 0
    with pytest.raises(ZeroDivisionError):
        function(x, y, z)


def test_a_constant_divisor_of_zero_fails_when_it_is_called() -> None:
    n = gx.symbol("n", (3,), INT)
    function = gx.compile([n], n + gx.constant([1, 2, 3]) // 0)
    with pytest.raises(ZeroDivisionError):
        function(np.arange(3))


# -- derivatives of what is composed ---------------------------------------------------------------


def gradients(build: Call, *points: Any) -> list[Any]:
    """The gradient of the sum of a function at points."""
    symbols = [gx.vector(f"x{i}", len(p)) for i, p in enumerate(points)]
    found = gx.grad(gx.sum(build(*symbols)), symbols)
    return gx.evaluate(found, dict(zip(symbols, map(np.asarray, points), strict=True)))


def test_derivatives_at_ties_and_kinks() -> None:
    nan, inf = np.nan, np.inf
    x = [1.0, 2.0, 2.0, nan, 3.0]
    y = [2.0, 1.0, 2.0, 3.0, nan]
    for call, flip in ((gx.fmax, False), (gx.fmin, True)):
        first, second = gradients(call, x, y)
        won, lost = ([0, 1, 0.5, 0, 1], [1, 0, 0.5, 1, 0])
        if flip:
            won, lost = [1, 0, 0.5, 0, 1], [0, 1, 0.5, 1, 0]
        assert first.tolist() == won and second.tolist() == lost
    (by,) = gradients(lambda v: gx.clip(v, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0])
    assert by.tolist() == [0, 0.5, 1, 0.5, 0]
    by, step = gradients(gx.heaviside, [-1.0, 0.0, 2.0], [0.5, 0.5, 0.5])
    assert by.tolist() == [0, 0, 0] and step.tolist() == [0, 1, 0]
    (by,) = gradients(gx.nan_to_num, [1.0, nan, inf, -inf])
    assert by.tolist() == [1, 0, 0, 0]
    x, y = [0.0, inf, -inf, 800.0, 1.0], [0.0, inf, -inf, -800.0, -inf]
    first, second = gradients(gx.logaddexp, x, y)
    assert first.tolist() == [0.5, 0.5, 0.5, 1, 1] and second.tolist() == [0.5, 0.5, 0.5, 0, 0]
    first, second = gradients(gx.copysign, [2.0, -2.0, 0.0], [-1.0, -1.0, 1.0])
    assert first.tolist() == [-1, 1, 0] and second.tolist() == [0, 0, 0]
    (by,) = gradients(lambda v: gx.round(v, 1) + gx.floor(v) + gx.sign(v), [0.26, 1.0, 0.0])
    assert by.tolist() == [0, 0, 0]


def test_derivative_of_a_remainder() -> None:
    """x - q y, with the whole number q of the branch taken."""
    x, y = [7.5, -7.5, 7.5, -7.5, 6.0], [2.0, 2.0, -2.0, -2.0, 2.0]
    by_x, by_y = gradients(gx.remainder, x, y)
    assert by_x.tolist() == [1] * 5
    assert by_y.tolist() == (-np.floor_divide(x, y)).tolist()
    by_x, by_y = gradients(gx.fmod, x, y)
    assert by_x.tolist() == [1] * 5 and by_y.tolist() == (-np.trunc(np.divide(x, y))).tolist()


def test_gradient_through_a_choice() -> None:
    """A choice that is not taken receives exactly 0, whatever its derivative."""
    x = gx.vector("x", 3)
    cost = gx.sum(gx.select([x > 0, x < -1], [gx.sqrt(x), gx.square(x)], 0.0))
    (got,) = gx.evaluate([gx.grad(cost, x)], {x: np.array([4.0, -3.0, 0.0])})
    assert got.tolist() == [0.25, -6.0, 0.0]
