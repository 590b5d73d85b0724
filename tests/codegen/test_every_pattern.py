"""Is every function of one argument within its bound on every argument there is?

The long run is `tests/codegen/every_pattern.py measure`, which keeps a record; here it is held that
the record is of the functions as they are, and that none is missing. The slow tests make the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import every_pattern
import numpy as np
import pytest
from every_pattern import (
    NARROW,
    ROOT,
    blocks_of,
    distance_to_other,
    error_graph,
    error_of_all,
    has_tables,
    is_current,
    known,
    largest_error,
    page,
    patterns,
)
from unary_functions import COMPOSED, EXACT, FUNCTIONS, ROUNDED, Function
from vecmath_reference import BINARY, REFERENCES

import graphc as gx
from graphc.lowering import Elementwise
from graphc.node import topological
from graphc.op import REGISTRY

SLACK = 1e-3  # what the function in float64 may be off itself
EVERY = (*FUNCTIONS, *BINARY)


def float_ops_of_one_argument() -> set[str]:
    """The ops that make a float of a float, element by element."""
    found = set()
    for name, op in REGISTRY.items():
        x = gx.symbol("x", (), "float32")
        if not isinstance(op.lowering, Elementwise) or op.attributes or name.startswith("ulp_"):
            continue
        try:
            node = op(x)
        except (TypeError, gx.GraphError):
            continue
        leaves = getattr(node.type, "items", (node.type,))
        if any(each.dtype == x.dtype for each in leaves):
            found.add(name)
    return found


def test_no_function_is_missing() -> None:
    """`spacing` is a unit in the last place and `drawn` takes random bits: in another dtype they
    are something else.
    """
    x = gx.symbol("x", (), "float32")
    nodes = topological([function.build(x) for function in FUNCTIONS.values()])
    listed = {node.op.name for node in nodes}
    assert float_ops_of_one_argument() - listed == {"spacing", "drawn"}


@pytest.mark.parametrize("name", known())
def test_the_record_is_of_the_functions_as_they_are(name: str) -> None:
    assert is_current(name, known()), f"run tests/codegen/every_pattern.py measure {name}"


@pytest.mark.parametrize("name", [name for name in known() if name in FUNCTIONS])
def test_the_record_is_within_the_bounds(name: str) -> None:
    record, function = known()[name], FUNCTIONS[name]
    for dtype in NARROW:
        assert record[dtype]["ulp"] <= function.bound_in(dtype) + SLACK, dtype
    assert ("tables" in record) == has_tables(function)
    if "tables" in record:
        assert record["tables"]["ulp"] <= function.bound_in("float32") + SLACK
    if name in REFERENCES:
        assert record["float64"]["ulp"] <= REFERENCES[name].bound
    if "other" in record:
        assert record["other"]["ulp"] <= function.apart


def test_the_page_is_of_the_record() -> None:
    assert (ROOT / "docs" / "ulp.md").read_text() == page()


@pytest.mark.parametrize("name", ["exp", "log", "erfc", "gelu", "sqrt", "floor"])
def test_every_float16(name: str) -> None:
    function = FUNCTIONS[name]
    error, at = largest_error(function, "float16", blocks_of("float16"))
    assert error <= function.bound_in("float16") + SLACK, at


def test_what_counts_as_an_error() -> None:
    """A function that is wrong in all the ways there are, beside one that is right."""

    def wrong(x: gx.Node) -> gx.Node:
        if x.dtype == np.float64:
            return x
        made = gx.where(x > 3, x + 2.0**-20, x)  # 2**-22 is a unit in the last place of 4 to 8
        made = gx.where(x > 9, np.nan, made)
        made = gx.where(x > 99, 3.0, made)
        return gx.where(x < 0, -made, made) * 1

    x, error = error_graph(Function(wrong, 1.0), "float32")
    values = np.array([0.0, 1.0, 5.0, 7.0, 10.0, np.nan, -np.inf, -1.0, np.inf], "float32")
    got = gx.compile([x], error)(values)
    np.testing.assert_array_equal(got[:6], [0, 0, 2, 2, np.inf, 0])
    assert got[6] == np.inf
    assert got[7] == 2.0**24
    assert got[8] == np.inf
    larger = Function(lambda x: x * 1.5 if x.dtype == np.float32 else x, 1.0)
    x, error = error_graph(larger, "float32")
    overflow = gx.compile([x], error)(np.array([3e38, -3e38], "float32"))
    np.testing.assert_allclose(overflow, (2.0**128 - 3e38) / 2.0**104, rtol=1e-6)


def test_the_sign_of_a_zero_counts() -> None:
    x, error = error_graph(Function(abs, 1.0), "float32")
    np.testing.assert_array_equal(gx.compile([x], error)(np.array([0.0, -0.0], "float32")), [0, 0])
    turned = Function(lambda x: abs(x) if x.dtype == np.float32 else x, 1.0)
    x, error = error_graph(turned, "float32")
    got = gx.compile([x], error)(np.array([0.0, -0.0], "float32"))
    np.testing.assert_array_equal(got, [0, np.inf])


def test_what_a_law_or_a_domain_says_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a few blocks of both signs: a function that breaks it has an infinite error."""
    starts = (0, 0x3F800000, 0x40000000, 0x80000000, 0xBF800000, 0xC0000000)

    def few(dtype: str) -> Iterator[np.ndarray]:
        return (patterns(dtype, start, start + 4096) for start in starts)

    monkeypatch.setattr(every_pattern, "blocks_of", few)
    sin, exp = FUNCTIONS["sin"], FUNCTIONS["exp"]
    assert error_of_all(sin, "float32")[0] < 1
    assert error_of_all(exp, "float32")[0] < 1
    assert error_of_all(FUNCTIONS["asin"], "float32")[0] < 1
    for wrong in (
        dataclasses.replace(sin, law="even"),
        dataclasses.replace(exp, law="odd"),
        dataclasses.replace(FUNCTIONS["absolute"], law="odd"),
        dataclasses.replace(exp, domain=(0, 1)),
    ):
        assert error_of_all(wrong, "float32")[0] == np.inf


def test_patterns_are_all_numbers() -> None:
    for dtype in ("float16", "bfloat16"):
        every = patterns(dtype)
        assert len(every) == 2**16
        assert len(np.unique(every.view("uint16"))) == 2**16
    assert patterns("float32", 0x3F800000, 0x3F800002).tolist() == [1.0, 1.0 + 2.0**-23]


@pytest.mark.slow
def test_the_record_is_complete() -> None:
    assert [name for name in EVERY if name not in known()] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument(name: str, dtype: str) -> None:
    function = FUNCTIONS[name]
    error, at = error_of_all(function, dtype)
    assert error <= function.bound_in(dtype) + SLACK, at


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, each in FUNCTIONS.items() if each.other is not None])
def test_against_other_libraries(name: str) -> None:
    found = distance_to_other(FUNCTIONS[name])
    assert found is not None
    assert found[0] <= FUNCTIONS[name].apart, found[1]


def test_the_kinds_of_functions_are_apart() -> None:
    kinds = (REFERENCES, ROUNDED, COMPOSED, EXACT)
    assert sum(map(len, kinds)) == len(FUNCTIONS)
