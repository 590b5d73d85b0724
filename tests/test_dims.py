"""Are extents exact: does every operation and simplification agree with Python's integers?

Random expressions are built twice, as extents and as plain integers, so that no expected value is
written by hand; the named cases state which simplifications shape inference and index arithmetic
rely on.
"""

from __future__ import annotations

import doctest
import importlib
import operator
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
import graphc.dims
from graphc.dims import (
    Bounds,
    Compound,
    Dim,
    affine,
    ceildiv,
    dim,
    dim_max,
    dim_min,
    evaluate,
    interval,
    parse,
    product,
    proves_nonnegative,
    simplify,
    substitute,
    symbols_of,
)
from graphc.errors import ExtentError

a, b, c, i, j, k, m, n = map(dim, "abcijkmn")

NAMES = ("a", "b", "c")
BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": lambda left, right: dim_min(left, right),
    "max": lambda left, right: dim_max(left, right),
    "ceildiv": lambda left, right: (left + right - 1) // right,
}
PYTHON = {**BINARY, "min": min, "max": max}


def trees():
    """Expression trees: an int, a name, or (operator, left, right)."""
    leaves = st.one_of(st.integers(-12, 12), st.sampled_from(NAMES), st.sampled_from(NAMES))
    return st.recursive(
        leaves,
        lambda inner: st.tuples(st.sampled_from(sorted(BINARY)), inner, inner),
        max_leaves=9,
    )


def index_trees():
    """Sums of products divided by products: the shape that index arithmetic has."""
    factor = st.one_of(st.integers(1, 8), st.sampled_from(NAMES))
    monomial = st.lists(factor, min_size=1, max_size=3).map(lambda f: fold("*", f))
    total = st.lists(monomial, min_size=1, max_size=4).map(lambda f: fold("+", f))
    quotient = st.tuples(st.sampled_from(["//", "%"]), total, monomial)
    nested = st.tuples(st.sampled_from(["//", "%"]), st.one_of(quotient, total), monomial)
    scaled = st.tuples(st.just("*"), st.one_of(quotient, nested), monomial)
    return st.lists(st.one_of(scaled, nested, monomial), min_size=1, max_size=3).map(
        lambda f: fold("+", f)
    )


def fold(name, parts):
    result = parts[0]
    for part in parts[1:]:
        result = (name, result, part)
    return result


def build(tree, leaf, operators):
    if isinstance(tree, tuple):
        name, left, right = tree
        return operators[name](build(left, leaf, operators), build(right, leaf, operators))
    return leaf[tree] if isinstance(tree, str) else tree


def extent_of(tree):
    """The extent, or None where a constant divisor is zero."""
    try:
        return build(tree, {name: dim(name) for name in NAMES}, BINARY)
    except ZeroDivisionError:
        return None


def value_of(tree, values):
    """Python's own answer, or None where it divides by zero."""
    try:
        return build(tree, values, PYTHON)
    except ZeroDivisionError:
        return None


def is_normal(extent):
    """The invariants of the normal form, checked from outside."""
    if type(extent) is int:
        return True
    terms = extent.terms
    return (
        len({monomial for monomial, _ in terms}) == len(terms)
        and all(coefficient for _, coefficient in terms)
        and terms[0][0] != ()
        and all(power > 0 for monomial, _ in terms for _, power in monomial)
    )


integers = st.integers(-9, 9)
sizes = st.fixed_dictionaries(dict.fromkeys(NAMES, integers))
any_tree = st.one_of(trees(), index_trees())


# Agreement with Python's integers


@settings(max_examples=250, deadline=None)
@given(any_tree, sizes)
def test_operations_agree_with_integers(tree, values):
    extent, expected = extent_of(tree), value_of(tree, values)
    if extent is None or expected is None:
        return
    assert is_normal(extent)
    assert evaluate(extent, values) == expected


@settings(max_examples=250, deadline=None)
@given(any_tree)
def test_text_round_trip(tree):
    extent = extent_of(tree)
    if extent is None:
        return
    again = parse(str(extent))
    assert again == extent and str(again) == str(extent) and hash(again) == hash(extent)
    loaded = pickle.loads(pickle.dumps(extent))
    assert loaded == extent and hash(loaded) == hash(extent) and repr(loaded) == repr(extent)


@settings(max_examples=250, deadline=None)
@given(any_tree, st.fixed_dictionaries({name: trees() for name in NAMES[:2]}), sizes)
def test_substitution_is_composition(tree, replacements, values):
    extent = extent_of(tree)
    inner = {name: extent_of(other) for name, other in replacements.items()}
    inner_values = {name: value_of(other, values) for name, other in replacements.items()}
    if extent is None or None in inner.values() or None in inner_values.values():
        return
    expected = value_of(tree, {**values, **inner_values})
    try:
        replaced = substitute(extent, inner)
    except ZeroDivisionError:
        assert expected is None
        return
    if expected is not None:
        assert evaluate(replaced, values) == expected


@settings(max_examples=250, deadline=None)
@given(any_tree, sizes)
def test_affine_parts_add_up(tree, values):
    extent = extent_of(tree)
    if extent is None:
        return
    for name in NAMES:
        parts = affine(extent, name)
        if parts is None:
            continue
        slope, rest = parts
        assert name not in symbols_of(slope) | symbols_of(rest)
        assert slope * dim(name) + rest == extent


@settings(max_examples=250, deadline=None)
@given(any_tree, st.tuples(integers, integers, integers, integers), st.data())
def test_simplify_is_sound_within_constant_bounds(tree, limits, data):
    extent = extent_of(tree)
    if extent is None:
        return
    bounds = {"a": tuple(sorted(limits[:2])), "b": tuple(sorted(limits[2:]))}
    check_soundness(tree, extent, bounds, data)


@settings(max_examples=250, deadline=None)
@given(any_tree, st.integers(0, 3), st.data())
def test_simplify_is_sound_within_symbolic_bounds(tree, slack, data):
    extent = extent_of(tree)
    if extent is None:
        return
    tile = dim_min(4, c - 4 * b)
    bounds = {"a": (0, tile - 1), "b": (0, ceildiv(c, 4) - 1 + slack), "c": (slack, None)}
    check_soundness(tree, extent, bounds, data)
    check_soundness(tree, extent, {"a": (0, b * c - 1), "b": (0, c - 1)}, data)


def check_soundness(tree, extent, bounds, data):
    """Compare at points drawn from within the bounds; symbols without bounds are >= 0."""
    facts = Bounds(bounds)
    simpler = simplify(extent, facts)
    assert is_normal(simpler)
    low, high = interval(extent, facts)
    nonnegative = proves_nonnegative(extent, facts)
    for _ in range(4):
        values = draw_values(bounds, data)
        expected = None if values is None else value_of(tree, values)
        if expected is None:
            continue
        assert evaluate(simpler, values) == expected
        assert (low is None or low <= expected) and (high is None or expected <= high)
        assert not nonnegative or expected >= 0


def draw_values(bounds, data):
    values = {}
    for name in reversed(NAMES):
        low, high = bounds.get(name, (0, None))
        low = -20 if low is None else evaluate(low, values)
        high = low + 20 if high is None else evaluate(high, values)
        if low > high:
            return None
        values[name] = data.draw(st.integers(low, high))
    return values


# Normal form


def test_constants_are_plain_integers():
    for constant in (n - n, n * 0, n // n, n % n, 0 * n, n**0, (n + 1) - n, dim_min(n, n) - n):
        assert type(constant) is int
    assert n - n == 0 and n // n == 1 and n % n == 0


def test_equality_is_structural():
    assert n + m == m + n and hash(n + m) == hash(m + n)
    assert (n + 1) * (n - 1) == n * n - 1
    assert n != m and n != 3 and operator.ne(3, n) and n != "n"
    assert len({n, dim("n"), Dim.symbol("n")}) == 1
    assert dim_max(a, b, 3) == dim_max(3, dim_max(b, a))


@pytest.mark.parametrize(
    ("extent", "text"),
    [
        (2 * dim("batch") + n // 3, "2*batch + n//3"),
        (n + dim("batch"), "batch + n"),
        (n**2 + n * m - 1, "m*n + n**2 - 1"),
        (-n, "-n"),
        (-(n // 3), "-(n//3)"),
        (m - n // 3, "m - n//3"),
        (2 * (n // 3), "2*(n//3)"),
        ((2 * n) // 3, "(2*n)//3"),
        ((n // m) ** 2, "(n//m)**2"),
        (n % 4 + 1, "n % 4 + 1"),
        (dim_min(b, a), "min(a, b)"),
        (dim_max(n, 3) * 2, "2*max(n, 3)"),
        ((n + 1) // (2 * m), "(n + 1)//(2*m)"),
        ((n % 4) // m, "(n % 4)//m"),
        (n // dim_min(a, b), "n//min(a, b)"),
    ],
)
def test_text(extent, text):
    assert str(extent) == repr(extent) == text
    assert parse(text) == extent


def test_order_does_not_depend_on_the_hash_seed():
    program = (
        "from graphc.dims import *; a, b, n = dim('alpha'), dim('beta'), dim('n');"
        "print((a + b + n)**3 + dim_min(n//a, b % 7, a*b) + (b*n + a + n//3)//(a*n))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1


def test_terms_are_the_documented_structure():
    assert (2 * n * m + n // 3 - 1).terms[0] == ((("m", 1), ("n", 1)), 2)
    (atom, power) = (n // 3).terms[0][0][0]
    assert isinstance(atom, Compound) and power == 1
    assert (atom.operator, atom.arguments, atom.symbols) == ("floordiv", (n, 3), {"n"})


# Identities that hold for all integers


@pytest.mark.parametrize(
    ("extent", "expected"),
    [
        (n // 1, n),
        (n // -1, -n),
        (n % 1, 0),
        ((n * 6) // 6, n),
        ((n * 6) // 4, (n * 3) // 2),
        ((n * 6 + 5) // 6, n),
        ((n * 6 + m) // 6, n + m // 6),
        ((n * 6 + m) % 6, m % 6),
        ((n * m) // m, n),
        ((i * n + j) // n, i + j // n),
        ((i * n + j) % n, j % n),
        ((i * n * m + j * m + k) // (n * m), i + (j * m + k) // (n * m)),
        ((i * n * m + j * m + k) // m, i * n + j + k // m),
        ((n + 1) * (m + 2) // (m + 2), n + 1),
        ((n * n - 1) // (n + 1), n - 1),
        ((n + 2) // (n + 1), 1 + 1 // (n + 1)),
        ((n // 2) // 3, n // 6),
        ((n // 2 + 1) // 3, (n + 2) // 6),
        ((n % 12) % 4, n % 4),
        ((n % 4) % 4, n % 4),
        ((3 * (n % 4) + m) % 12, (3 * n + m) % 12),
        ((n % 12) // 4, (n // 4) % 3),
        ((n % (a * b)) % a, n % a),
        ((2 * n) % (2 * m), 2 * (n % m)),
        ((n * a) // (m * a), n // m),
        ((4 * n + 3) % 6, 2 * ((2 * n + 1) % 3) + 1),
        ((n - 1) // 2 + 1, (n + 1) // 2),
        (-(-n // 3), ceildiv(n, 3)),
        (n // -m, -n // m),
        (n % -4, -(-n % 4)),
        (dim_min(n, n + 3), n),
        (dim_max(n, n + 3, m), dim_max(n + 3, m)),
        (dim_min(n, dim_max(n, m)), n),
        (dim_min(7, 3), 3),
        (ceildiv(n * 8, 8), n),
        (ceildiv(7, 2), 4),
        (product([n, 2, m]), 2 * m * n),
        (product([]), 1),
        (divmod(4 * n + 1, 4)[0], n),
        (divmod(4 * n + 1, 4)[1], 1),
    ],
)
def test_exact_identities(extent, expected):
    assert extent == expected


def test_convolution_sizes_stay_small():
    """Three strided convolutions and poolings still have an extent of one floordiv."""
    size = n
    for kernel, stride in ((7, 2), (3, 2), (3, 2)):
        size = (size - kernel) // stride + 1
    assert str(size).count("//") == 1
    assert evaluate(size, {"n": 224}) == ((((224 - 7) // 2 + 1) - 3) // 2 + 1 - 3) // 2 + 1


# What bounds add


MATRIX = {"i": (0, m - 1), "j": (0, n - 1)}
TILE = {"b": (0, ceildiv(n, 32) - 1), "i": (0, dim_min(32, n - 32 * b) - 1)}
UNRAVEL = {"k": (0, a * b * c - 1)}


@pytest.mark.parametrize(
    ("extent", "bounds", "expected"),
    [
        (j // n, MATRIX, 0),
        (j % n, MATRIX, j),
        ((j - n) // n, MATRIX, -1),
        ((j - n) % n, MATRIX, j),
        ((j + 3 * n) // n, MATRIX, 3),
        ((i * n + j) // n, MATRIX, i),
        ((i * n + j) % n, MATRIX, j),
        ((i * n + j) // (m * n), MATRIX, 0),
        ((i * n + j) % (m * n), MATRIX, i * n + j),
        ((k * m * n + i * n + j) // n % m, MATRIX, i),
        ((k * n + j) // (n * 4), MATRIX, k // 4),
        ((k * n + j) % (n * 4), MATRIX, (k % 4) * n + j),
        ((i * n + j) // (m * n), {"i": (0, m), "j": (0, n - 1)}, i // m),
        (k // 12, {"k": (24, 35)}, 2),
        (5 % a, {"a": (0, 0)}, 5 % a),
        (k % 12, {"k": (24, 35)}, k - 24),
        ((4 * i + j) // 8, {"j": (0, 3)}, i // 2),
        ((4 * i + j) % 8, {"j": (0, 3)}, 4 * (i % 2) + j),
        ((i * 5 + j) // 15, {"i": (0, 2), "j": (0, 4)}, 0),
        (dim_min(j, n), MATRIX, j),
        (dim_max(j, n - 1), MATRIX, n - 1),
        (dim_max(n, 0), {}, n),
        (dim_min(i * n + j, m * n), MATRIX, i * n + j),
        (dim_min(32 * b + i, n), TILE, 32 * b + i),
        (dim_max(n - 32 * b, 0), TILE, n - 32 * b),
        ((k // n) * n + k % n, {}, k),
        (k // 6 * 6 + k % 6 + 1, {}, k + 1),
        ((k // (b * c)) * b * c + (k // c % b) * c + k % c, UNRAVEL, k),
        (k // (b * c) // a, UNRAVEL, 0),
        ((k // b) // c, {}, k // (b * c)),
        ((k % (b * c)) // c, {}, (k // c) % b),
        (i * n + 3, {"i": (0, 0)}, 3),
        (i + 1, {"i": (n, n)}, n + 1),
        ((n - 1) // n, {}, 0),
        (ceildiv(n * m, n), {}, m),
    ],
)
def test_simplify(extent, bounds, expected):
    assert simplify(extent, bounds) == expected


@pytest.mark.parametrize(
    ("extent", "bounds"),
    [
        (j // n, {"j": (0, n)}),
        (j // n, {"j": (-1, n - 1)}),
        (j % n, {"j": (0, None)}),
        (j % n, {}),
        (dim_max(n, 0), {"n": (None, None)}),
        (dim_max(n, 1), {}),
        ((4 * i + j) // 8, {"j": (0, 4)}),
        (dim_min(32 * b + i, n - 2), TILE),
        (i // m, {"i": (0, m)}),
    ],
)
def test_simplify_leaves_what_is_not_provable(extent, bounds):
    assert simplify(extent, bounds) == extent


@pytest.mark.parametrize(
    ("extent", "bounds", "answer"),
    [
        (m * n - 1 - i * n - j, MATRIX, True),
        (m * n - 2 - i * n - j, MATRIX, False),
        (n - 1 - 32 * b - i, TILE, True),
        (n - 2 * (n // 2), {}, True),
        (1 - n + 2 * (n // 2), {}, True),
        (-n + 2 * (n // 2), {}, False),
        (a - 1 - k // (b * c), UNRAVEL, True),
        (n - n % 8, {}, True),
        (n * n - n, {"n": (1, None)}, True),
        (n**3 + n**2, {}, True),
        (27 - n**3, {"n": (0, 3)}, True),
        (n**2 - n**2 * m, {"m": (0, 1)}, True),
        (n - 1, {}, False),
        (5, {}, True),
        (-1, {}, False),
    ],
)
def test_proofs(extent, bounds, answer):
    assert proves_nonnegative(extent, bounds) is answer


def test_intervals():
    assert interval(2 * n + 1, {"n": (3, 5)}) == (7, 11)
    assert interval(2 * n + 1, {}) == (1, None)
    assert interval(-n, {}) == (None, 0)
    assert interval(n % 8, {"n": (None, None)}) == (0, 7)
    assert interval(n % 8, {"n": (9, 11)}) == (1, 3)
    assert interval(j, {"j": (0, n - 1), "n": (4, 9)}) == (0, 8)
    assert interval(n**2, {"n": (-3, 2)}) == (0, 9)
    assert interval(7 // n, {"n": (2, None)}) == (0, 3)
    assert interval(dim_max(n, m), {"n": (2, 4), "m": (3, 9)}) == (3, 9)
    assert interval(4, {}) == (4, 4)


def test_circular_bounds_are_refused():
    with pytest.raises(ValueError, match="circle"):
        Bounds({"i": (0, j - 1), "j": (0, i - 1)})
    with pytest.raises(TypeError, match="an extent is an int or a Dim"):
        Bounds({"i": (0, 1.5)})


# Questions


def test_affine_and_coefficient():
    assert (3 * i * n + j + 2).affine("i") == (3 * n, j + 2)
    assert (3 * i * n + j + 2).coefficient("k") == 0
    assert (i * i + i).affine("i") is None
    assert (i + (i // 2)).coefficient("i") is None
    assert (i * (j // 2)).affine("i") == (j // 2, 0)
    assert (i * (j // 2)).affine("j") is None
    assert affine(7, "i") == (0, 7)


def test_symbols_are_found_inside_compounds():
    assert symbols_of(dim_min(a // b, c % 3) * n) == {"a", "b", "c", "n"}
    assert symbols_of(5) == frozenset()


def test_substitution_is_simultaneous():
    assert substitute(a + 2 * b, {"a": b, "b": a}) == b + 2 * a
    assert substitute((n * m) // 4, {"m": 4}) == n
    assert substitute(3, {"n": 1}) == 3
    with pytest.raises(TypeError, match="an extent is an int or a Dim"):
        substitute(n, {"n": "m"})


def test_evaluate_names_what_is_missing():
    with pytest.raises(KeyError, match=r"no value for the dimension 'm' of m\*n.*given for: n"):
        evaluate(n * m, {"n": 2})
    with pytest.raises(ZeroDivisionError):
        evaluate(n // m, {"n": 1, "m": 0})
    assert evaluate(9, {}) == 9
    assert evaluate(n, {"n": np.int64(4)}) == 4


# Refusals


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda: n < 3, "dim_min"),
        (lambda: n <= 3, "evaluate"),
        (lambda: operator.lt(3, n), "evaluate"),
        (lambda: n > m, "unknown until run time"),
        (lambda: bool(n), "no value until run time"),
        (lambda: int(n), "static shape"),
        (lambda: float(n), "no value until run time"),
        (lambda: range(n), "no value until run time"),
        (lambda: n * "x", "unsupported operand|can't multiply|no value until run time"),
        (lambda: Dim("n"), "dim"),
        (lambda: dim(3), "string"),
        (lambda: dim_min(n, 1.5), "an extent is an int or a Dim"),
        (lambda: product([n, None]), "an extent is an int or a Dim"),
    ],
)
def test_type_errors_say_what_to_do(operation, message):
    with pytest.raises(TypeError, match=message):
        operation()


def test_an_extent_beside_numbers_that_are_no_integers_is_a_value():
    x = gx.vector("x", "n")
    given = np.array([1.0, 2.0, 4.0])
    for made, want in (
        (x.sum() / x.shape[0], 7 / 3),
        (0.5 * x.shape[0] + x[0], 2.5),
        (x.sum() * (x.shape[0] / 2), 10.5),
        (x.shape[0] ** 0.5 + 0 * x[0], 3**0.5),
    ):
        assert gx.evaluate(made, {x: given}) == pytest.approx(want, rel=1e-15)
        assert gx.compile(x, made)(given) == pytest.approx(want, rel=1e-15)
    single = gx.cast(x, "float32").sum() * (0.5 * x.shape[0])
    assert single.dtype == "float32", "as weak as a Python number"
    for wrong in (n / 2, n * 0.5):
        with pytest.raises(gx.GraphError, match="use //"):
            gx.zeros(wrong)


def test_division_by_zero_and_powers():
    for operation in (lambda: n // 0, lambda: n % 0, lambda: n // (m - m), lambda: ceildiv(n, 0)):
        with pytest.raises(ZeroDivisionError):
            operation()
    for exponent in (-1, 65):
        with pytest.raises(ValueError, match="between 0 and 64"):
            n**exponent
    with pytest.raises(ValueError, match="positive divisor"):
        ceildiv(n, -2)


@pytest.mark.parametrize("name", ["", "2n", "a b", "lambda", "n-1", "ﬁ"])
def test_names_are_identifiers(name):
    with pytest.raises(ValueError, match="plain identifier"):
        dim(name)


def test_extents_are_immutable():
    for target, name in ((n, "terms"), (n, "other"), ((n // 3).terms[0][0][0][0], "text")):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(target, name, ())


def test_numpy_integers_count_as_integers():
    for extent in (n + np.int64(2), np.int64(2) + n, 2 + n):
        assert extent == n + 2 and type(extent.terms[-1][1]) is int
    assert np.int32(7) // n == 7 // n
    assert n * True == n


def test_foreign_types_may_answer():
    class Node:
        """Stands for a tensor, which takes an extent as a value."""

        def __rtruediv__(self, other):
            return ("divided", other)

        __radd__ = __rmul__ = __gt__ = __eq__ = __rtruediv__

    node = Node()
    for result in (n / node, n + node, n * node, n < node, n == node):
        assert result == ("divided", n)


# Reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("-n", -n),
        (" n + 2 * m ", n + 2 * m),
        ("floordiv(n, 3) + mod(n, 3)", n // 3 + n % 3),
        ("max(n, m, 3)", dim_max(n, m, 3)),
        ("(n + 1)**2", n * n + 2 * n + 1),
        ("2**10", 1024),
        ("min + max(min, 2)", dim("min") + dim_max(dim("min"), 2)),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n +",
        "n / 2",
        "1.5",
        "True",
        "'n'",
        "n.real",
        "f(n)",
        "min()",
        "min(*n)",
        "floordiv(n)",
        "mod(n, 2, 3)",
        "max(n, key=m)",
        "n if m else 2",
        "n < 2",
        "n and m",
        "~n",
        "[n]",
        "n // 0",
        "n**m",
        "n**-1",
        "n**65",
        "9**60**60",
        "((n + m)**60)**60",
        "__import__('os')",
        "(lambda: 1)()",
        "(" * 5000 + "n" + ")" * 5000,
        "-" * 100000 + "n",
    ],
)
def test_parse_refuses(text):
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize("module", ["", ".bounds"])
def test_examples_in_the_documentation(module):
    names = vars(graphc.dims)
    result = doctest.testmod(importlib.import_module(f"graphc.dims{module}"), extraglobs=names)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("target", ["evaluate", "interpret", "cpu"])
@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda x: gx.pad(x, 1, mode="edge"), IndexError, "axis 0"),
        (lambda x: x[-1] + 1, IndexError, "axis 0"),
        (lambda x: gx.zeros(x.shape[0] - 3) + 1, ExtentError, "must not be negative"),
    ],
)
def test_what_no_array_has_is_an_error_everywhere(
    target: str, build: Any, error: type[Exception], message: str
) -> None:
    x = gx.vector("x", "n")
    made = build(x)

    def call(array: Any) -> Any:
        if target == "evaluate":
            return gx.evaluate(made, {x: array})
        return gx.compile(x, made, target=target, options=gx.Options(cache=False))(array)

    assert np.all(np.isfinite(call(np.arange(5.0))))
    with pytest.raises(error, match=message):
        call(np.zeros(0))
