"""The entry that a Function gets when it has been called often: it is used, and changes nothing.

`tests/runtime/test_call*.py` run every case of the call through it as well; here it stands in
front of compiled graphs, and we look at which calls it takes.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.runtime import fastpath
from graphc.runtime.descriptor import Word
from graphc.runtime.leaf import make_function
from graphc.tree import flatten

x, y = gx.vector("x", "n"), gx.vector("y", "m")
a = gx.matrix("a", ("n", "m"))
i = gx.vector("i", "k", "int64")
s = gx.scalar("s")
flag = gx.vector("flag", "n", "bool")


def vectors(n: int = 7, m: int = 4) -> dict[Any, np.ndarray]:
    generator = np.random.default_rng(n * 31 + m)
    return {
        x: generator.normal(size=n),
        y: generator.normal(size=m),
        a: generator.normal(size=(n, m)),
        i: generator.integers(0, n, size=5),
        s: np.array(1.5),
        flag: generator.normal(size=n) > 0,
    }


CASES = {
    "one result": ([x], gx.tanh(x) * x),
    "derived extents": ([x, y], gx.concatenate([x, y, x])),
    "an arena": ([a, x], gx.softmax(gx.matmul(gx.transpose(a), a), axis=1) @ (x @ a)),
    "a tuple": ([a, y], (a @ y, gx.sum(a, axis=0), gx.sum(a))),
    "a list": ([x], [x + 1, x * 2]),
    "a dict": ([x, s], {"p": x * s, "q": x + s}),
    "rank 0": ([s, x], s * gx.sum(x)),
    "static": ([gx.vector("p", 6)], gx.vector("p", 6) * 2.0),
    "bool and float": ([flag, x], gx.where(flag, x, 0.0)),
    "indices": ([x, i], gx.take(x, i)),
}


def hastened(inputs: Any, outputs: Any) -> Any:
    f = gx.compile(inputs, outputs)
    f._impl.hasten()
    assert f._impl._own_entry is not None
    return f


def countdown(f: Any) -> int:
    """It changes with every call that reaches the generic entry."""
    return f._impl.descriptor[Word.COUNTDOWN]


def arrays_of(inputs: Any, n: int, m: int) -> list[np.ndarray]:
    values = vectors(n, m)
    return [values.get(symbol, np.arange(6.0)) for symbol in inputs]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sizes", [(7, 4), (16, 1), (1, 1)])
def test_results_are_those_of_the_generic_entry(name: str, sizes: tuple[int, int]) -> None:
    inputs, outputs = CASES[name]
    arguments = arrays_of(inputs, *sizes)
    if name == "indices":
        arguments[1] = arguments[1] % sizes[0]
    expected, f = gx.compile(inputs, outputs)(*arguments), hastened(inputs, outputs)
    before = countdown(f)
    result = f(*arguments)
    assert countdown(f) == before
    assert type(result) is type(expected)
    for got, wanted in zip(flatten(result)[0], flatten(expected)[0], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_function_that_is_called_often_gets_its_own_entry() -> None:
    f = gx.compile([x], x * 3)
    value = np.arange(4.0)
    for _ in range(fastpath.CALLS_BEFORE - 1):
        f(value)
    assert f._impl._own_entry is None and countdown(f) == 1
    np.testing.assert_array_equal(f(value), value * 3)
    assert f._impl._own_entry is not None
    before = countdown(f)
    np.testing.assert_array_equal(f(value), value * 3)
    assert countdown(f) == before


def test_calls_that_go_on_to_the_generic_entry_stay_native() -> None:
    f = gx.compile([x, s], x * s)
    slow_calls, original = [0], f._impl.slow

    def slow(*arguments: Any, **named: Any) -> Any:
        slow_calls[0] += 1
        return original(*arguments, **named)

    f._impl.slow = slow
    g = make_function(f._impl)
    for _ in range(4 * fastpath.CALLS_BEFORE):
        g(np.arange(4.0), 2.0)
    assert slow_calls == [1] and f._impl._own_entry is not None


def test_out_is_written() -> None:
    f, value, out = hastened([x], x * 3), np.arange(4.0), np.empty(4)
    before = countdown(f)
    assert f(value, out=out) is out
    np.testing.assert_array_equal(out, value * 3)
    np.testing.assert_array_equal(f(value, out=None), value * 3)
    assert countdown(f) == before


@pytest.mark.parametrize(
    "argument",
    [
        np.arange(8.0)[::2],
        [1.0, 2.0],
        np.arange(3, dtype=np.float32),
        np.arange(4.0).view(type("Sub", (np.ndarray,), {})),
    ],
    ids=["strided", "list", "float32", "subclass"],
)
def test_the_unusual_goes_on_to_the_generic_entry(argument: Any) -> None:
    f = hastened([x], x * 3)
    before = countdown(f)
    np.testing.assert_array_equal(f(argument), np.asarray(argument) * 3)
    assert countdown(f) < before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((np.ones(3, complex),), {}),
        ((np.ones((2, 2)),), {}),
        ((), {}),
        ((np.ones(3),), {"other": 1}),
        ((np.ones(3),), {"out": np.empty(4)}),
        ((np.ones(3),), {"out": np.empty(3, np.int64)}),
    ],
)
def test_errors_are_the_same(arguments: tuple, named: dict) -> None:
    messages = []
    for f in (gx.compile([x], x * 3), hastened([x], x * 3)):
        with pytest.raises((TypeError, ValueError)) as caught:
            f(*arguments, **named)
        messages.append((caught.type, str(caught.value)))
    assert messages[0] == messages[1]


def test_out_that_overlaps_an_argument_goes_through_a_temporary() -> None:
    f = hastened([x], x * 3)
    for shift in range(-5, 6):
        memory = np.arange(20.0)
        value, out = memory[8:12], memory[8 + shift : 12 + shift]
        expected, before = value * 3, countdown(f)
        assert f(value, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (countdown(f) == before) == (abs(shift) >= 4)


def test_a_failed_check_is_reported() -> None:
    f = hastened([x, i], gx.take(x, i))
    before = countdown(f)
    with pytest.raises(IndexError, match="9"):
        f(np.arange(4.0), np.array([0, 9]))
    assert countdown(f) == before
    np.testing.assert_array_equal(f(np.arange(4.0), np.array([3, 0])), [3.0, 0.0])


def test_large_results_come_from_the_pool_through_the_generic_entry() -> None:
    f, value = hastened([x], x * 3), np.ones(1 << 18)
    before = countdown(f)
    np.testing.assert_array_equal(f(value), value * 3)
    assert countdown(f) < before


def test_many_arrays_keep_the_generic_entry() -> None:
    inputs = [gx.vector(f"x{k}", "n") for k in range(fastpath.MOST_ARRAYS)]
    f = gx.compile(inputs, sum(inputs[1:], inputs[0]))
    f._impl.hasten()
    assert f._impl._own_entry is None


def test_equal_signatures_share_the_code() -> None:
    f, g = hastened([x], x * 3), hastened([x], x + 4)
    assert f._impl._own_entry is g._impl._own_entry


def test_references_are_balanced() -> None:
    """Of arguments, results, the dtype and what is refused, however the call ends."""
    f, g = hastened([x, i], gx.take(x, i)), hastened([x], (x + 1, x * 2))
    value, index, bad, out = np.arange(4.0), np.array([3, 0]), np.array([0, 9]), np.empty(2)

    def calls() -> None:
        for _ in range(200):
            f(value, index)
            f(value, index, out=out)
            g(value)
            with pytest.raises(IndexError):
                f(value, bad)
            with pytest.raises(IndexError):
                f(value, bad, out=out)
            with pytest.raises(TypeError):
                f(value, index, 3)

    calls()
    kept = (value, index, bad, out, value.dtype, index.dtype, None)
    before = [*map(sys.getrefcount, kept)]
    calls()
    grown = [after - was for after, was in zip(map(sys.getrefcount, kept), before, strict=True)]
    assert all(abs(difference) < 50 for difference in grown), grown
    result, plain = f(value, index), np.empty(2)
    assert sys.getrefcount(result) == sys.getrefcount(plain)
    known = weakref.ref(result)
    del result
    assert known() is None


def test_it_goes_away_with_the_function() -> None:
    f = hastened([x], x * 3)
    own = f._impl._own_entry
    value = np.arange(4.0)
    del f
    g = hastened([x], x * 5)
    assert g._impl._own_entry is own
    np.testing.assert_array_equal(g(value), value * 5)
