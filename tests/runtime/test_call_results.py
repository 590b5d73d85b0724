"""Where do results of a call go, natively and in plain Python, and what if there are none?

Into arrays that are given, donated or recycled, several at a time; nothing leaks, and a program
that fails says so.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest

from graphc.runtime import memory
from graphc.runtime.callspec import CallSpec, Input, Output
from tests.runtime.call_programs import (
    EXPECTED,
    F4,
    F8,
    MULTIPLY_ADD,
    MULTIPLY_ADD_SPEC,
    MULTIPLY_ADD_STRIDED,
    RUNTIME,
    SAME,
    VECTOR,
    Subject,
    X,
    Y,
    assert_message,
    at,
    buffer,
    compile_program,
    concatenation,
    extent,
    identity,
    in_threads,
    loop,
    make,
    multiply_add,
    native_counter,
    needs_native,
    read_only,
    with_changes,
)

# -- out ------------------------------------------------------------------------------------------


def test_out(f: Any) -> None:
    out = np.full(10, np.nan)
    assert f(X, Y, out=out) is out
    np.testing.assert_array_equal(out, EXPECTED)
    assert f(X, Y, out=(out,)) is out
    assert f(X, Y, out=[None]) is not out


def test_out_of_another_layout_or_dtype(f: Any) -> None:
    for out in (np.empty(20)[::2], np.empty(10)[::-1], np.empty(10, "f4"), np.empty(10, ">f8")):
        assert f(X, Y, out=out) is out
        np.testing.assert_allclose(out, EXPECTED, rtol=1e-6)


def test_out_of_a_subclass(f: Any) -> None:
    out = np.empty(10).view(type("Sub", (np.ndarray,), {}))
    assert f(X, Y, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), EXPECTED)


def test_out_overlapping_an_input(f: Any) -> None:
    for shift in range(-9, 10):
        memory_ = np.linspace(-1, 1, 40)
        x, out = memory_[15:25], memory_[15 + shift : 25 + shift]
        expected = x * Y + x
        assert f(x, Y, out=out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("out", "error", "part"),
    [
        (np.empty(9), ValueError, "expected a float64 array of shape (10,), got shape (9,)"),
        (np.empty((10, 1)), ValueError, "got shape (10, 1)"),
        (np.empty(10, int), TypeError, "float64 results cannot be stored as int64"),
        ([1.0] * 10, ValueError, "expected 1 arrays, got 10"),
        ((1.0,), TypeError, "expected a float64 array of shape (10,), got a float"),
        ("x", TypeError, "expected an ndarray, got a str"),
    ],
)
def test_out_that_cannot_be_used(f: Any, out: Any, error: type[Exception], part: str) -> None:
    with pytest.raises(error) as caught:
        f(X, Y, out=out)
    assert_message(caught.value, "out", part)


def test_read_only_out(f: Any) -> None:
    out = np.zeros(10)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        f(X, Y, out=out)
    assert not out.any()


# -- several results ------------------------------------------------------------------------------


SUM_AND_PRODUCT = compile_program(
    buffer("x", 0)
    + buffer("y", 1)
    + buffer("s", 2)
    + buffer("p", 3)
    + extent("n", 0)
    + loop(
        "%n",
        at("xi", "x")
        + at("yi", "y")
        + at("si", "s")
        + at("pi", "p")
        + "  %a = load double, ptr %xi\n  %b = load double, ptr %yi\n"
        "  %sum = fadd double %a, %b\n  %product = fmul double %a, %b\n"
        "  store double %sum, ptr %si\n  store double %product, ptr %pi\n",
    )
)


def sum_and_product(packing: Any, kind: str) -> Any:
    spec = CallSpec(
        inputs=(Input("x", F8, VECTOR), Input("y", F8, VECTOR)),
        outputs=(Output(F8, SAME), Output(F8, SAME)),
        contiguous=SUM_AND_PRODUCT["program"],
        slots=(0,),
        packing=packing,
    )
    return make(Subject(spec, SUM_AND_PRODUCT), kind)


@pytest.mark.parametrize(
    ("packing", "container", "take"),
    [
        ("tuple", tuple, lambda r: r),
        ("list", list, lambda r: r),
        (lambda flat: {"s": flat[0], "p": [flat[1]]}, dict, lambda r: (r["s"], r["p"][0])),
    ],
    ids=["tuple", "list", "callable"],
)
def test_containers(packing: Any, container: type, take: Callable, kind: str) -> None:
    g = sum_and_product(packing, kind)
    result = g(X, Y)
    assert type(result) is container
    total, product = take(result)
    np.testing.assert_array_equal(total, X + Y)
    np.testing.assert_array_equal(product, X * Y)
    outs = (np.empty(10), np.empty(10))
    for out in (outs, list(outs)):
        given = take(g(X, Y, out=out))
        assert given[0] is outs[0] and given[1] is outs[1]
    total, product = take(g(X, Y, out=(None, outs[1])))
    assert product is outs[1] and total is not outs[0]


def test_outs_must_not_overlap_each_other(kind: str) -> None:
    g = sum_and_product("tuple", kind)
    shared = np.empty(15)
    for out in ((shared[:10], shared[5:]), (shared[:10], shared[:10])):
        with pytest.raises(ValueError, match="out: arrays 0 and 1 overlap"):
            g(X, Y, out=out)
    with pytest.raises(ValueError, match="expected 2 arrays, got 1"):
        g(X, Y, out=(shared[:10],))
    with pytest.raises(TypeError, match="a tuple of 2 ndarrays"):
        g(X, Y, out=shared[:10])


def test_a_container_that_raises(kind: str) -> None:
    def refuse(flat: tuple) -> NoReturn:
        raise LookupError("no container")

    g = sum_and_product(refuse, kind)
    for _ in range(3):
        with pytest.raises(LookupError, match="no container"):
            g(X, Y)


def test_no_results_at_all(kind: str) -> None:
    program = compile_program("  ret i64 0")
    spec = CallSpec((Input("x", F8, ()),), (), program["program"], packing="tuple")
    assert make(Subject(spec, program), kind)(1.0) == ()


# -- donation -------------------------------------------------------------------------------------


def donating(kind: str) -> Any:
    """x is donated: x * y + x is written over it."""
    spec = with_changes(MULTIPLY_ADD_SPEC, donated={0: 0})
    return make(Subject(spec, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED), kind)


def test_a_donated_array_is_the_result(kind: str) -> None:
    g = donating(kind)
    x = X.copy()
    assert g(x, Y) is x
    np.testing.assert_array_equal(x, EXPECTED)
    x = X.copy()
    assert g(x, Y[::-1]) is x
    np.testing.assert_array_equal(x, X * Y[::-1] + X)
    assert g(x, y=Y, out=(x,)) is x


@needs_native
def test_donation_stays_native() -> None:
    g, slow_calls = native_counter(donating("native")._impl)
    g(X.copy(), Y)
    interleaved = np.zeros(40)
    g(interleaved[:10], interleaved[20:30])
    assert slow_calls == [0]


SHARED = np.arange(12.0)


@pytest.mark.parametrize(
    ("x", "y", "error", "part"),
    [
        (read_only(X), Y, ValueError, "is donated, but read-only"),
        (SHARED[:10], SHARED[:10], ValueError, "is donated, but overlaps argument y"),
        (SHARED[:10], SHARED[2:], ValueError, "is donated, but overlaps argument y"),
        (np.arange(20.0)[::2], Y, ValueError, "not C-contiguous"),
        (list(X), Y, TypeError, "is donated: expected a float64 array of shape (n,), got a list"),
        (X.astype("f4"), Y, TypeError, "got dtype float32"),
    ],
)
def test_donations_that_cannot_be_made(
    x: Any, y: Any, error: type[Exception], part: str, kind: str
) -> None:
    before = copy.deepcopy((x, y))
    with pytest.raises(error) as caught:
        donating(kind)(x, y)
    assert_message(caught.value, "argument 1, x", part, "model.py:3")
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_the_same_array_twice(kind: str) -> None:
    x = X.copy()
    with pytest.raises(ValueError, match="is the same array as argument y"):
        donating(kind)(x, x)
    np.testing.assert_array_equal(x, X)


def test_an_interleaved_array_does_not_overlap(kind: str) -> None:
    rows = np.arange(20.0).reshape(2, 10)
    x, y = rows[0], rows[1]
    expected = x * y + x
    assert donating(kind)(x, y) is x
    np.testing.assert_array_equal(x, expected)


def test_out_for_a_donated_result(kind: str) -> None:
    with pytest.raises(ValueError, match="output 0 is the donated argument x"):
        donating(kind)(X.copy(), Y, out=np.empty(10))


def test_a_donated_scalar_must_be_an_array(kind: str) -> None:
    program = compile_program(buffer("out", 1) + "  store double 3.0, ptr %out\n  ret i64 0")
    spec = CallSpec((Input("x", F8, ()),), (Output(F8, ()),), program["program"], donated={0: 0})
    g = make(Subject(spec, program), kind)
    x = np.array(1.0)
    assert g(x) is x and x == 3.0
    with pytest.raises(TypeError, match="is donated"):
        g(1.0)


def test_specs_that_make_no_sense() -> None:
    x, out = Input("x", F8, VECTOR), Output(F8, SAME)
    for change, part in [
        ({"donated": {0: 0, 1: 0}}, "same output"),
        ({"outputs": (Output(F4, SAME),), "donated": {0: 0}}, "another type"),
        ({"outputs": (Output(F8, (3,)),), "donated": {0: 0}}, "another type"),
        ({"outputs": (out, out)}, "one output"),
        ({"work_slot": 1}, "outside"),
        ({"outputs": (Output(F8, (("slot", 9),)),)}, "outside"),
        ({"outputs": (Output(F8, (1,) * 65),)}, "64 axes"),
    ]:
        with pytest.raises(ValueError, match=part):
            with_changes(CallSpec((x, x), (out,), MULTIPLY_ADD["program"], slots=(0,)), **change)
    with pytest.raises(ValueError, match="byte order"):
        Input("x", np.dtype(">f8"), ())


# -- failures -------------------------------------------------------------------------------------


def failing(kind: str, code: int) -> Any:
    """Fails with the code, at node 7, index 3, extent 5, if the first element is negative."""
    stores = "".join(
        f"  %w{word} = getelementptr i64, ptr %status, i64 {word}\n"
        f"  store i64 {value}, ptr %w{word}\n"
        for word, value in enumerate((code, 7, 3, 5))
    )
    program = compile_program(
        buffer("x", 0) + "  %v = load double, ptr %x\n  %bad = fcmp olt double %v, 0.0\n"
        f"  br i1 %bad, label %fail, label %fine\nfine:\n  ret i64 0\nfail:\n{stores}"
        f"  ret i64 {code}"
    )
    spec = CallSpec(
        (Input("x", F8, VECTOR),),
        (Output(F8, SAME),) * 2,
        program["program"],
        slots=(0,),
        packing="tuple",
    )
    return make(Subject(spec, program), kind)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (1, IndexError, r"index 3 is out of range for extent 5 \(node 7\)"),
        (2, ValueError, "extents disagree"),
        (3, ValueError, "check failed"),
        (4, ZeroDivisionError, "integer division by zero at index 3"),
        (5, KeyboardInterrupt, "cancelled"),
        (6, MemoryError, "out of memory"),
        (99, RuntimeError, "failed with code 99"),
    ],
)
def test_a_status_becomes_an_error(
    code: int, error: type[BaseException], text: str, kind: str
) -> None:
    g = failing(kind, code)
    with pytest.raises(error, match=text):
        g(np.array([-1.0]))
    assert g._impl.failures == [(code, 7, 3, 5, 0, *g._impl.failures[0][5:])]
    assert len(g(np.array([1.0]))) == 2


def test_an_unexplained_status(kind: str) -> None:
    class Silent(Subject):
        def raise_status(self, words: tuple[int, ...]) -> None:  # type: ignore[override]
            """Returns, which it must not."""

    program = compile_program("  ret i64 9")
    spec = CallSpec((), (Output(F8, ()),), program["program"])
    with pytest.raises(RuntimeError, match="not explained"):
        make(Silent(spec, program), kind)()


def test_too_large_a_result(kind: str) -> None:
    program = compile_program("  ret i64 0")
    spec = CallSpec(
        (Input("x", F8, (("free", 0), 0)),),
        (Output(F8, (("slot", 0), ("slot", 0), ("slot", 0))),),
        program["program"],
        slots=(0,),
    )
    g = make(Subject(spec, program), kind)
    for size in (2**21, 2**40):
        with pytest.raises((MemoryError, ValueError)):
            g(np.empty((size, 0)))


# -- large results --------------------------------------------------------------------------------


def test_large_results_are_recycled(f: Any) -> None:
    pool = RUNTIME.pool
    pool.limit_bytes = 0
    pool.limit_bytes = memory.DEFAULT_LIMIT_BYTES
    x = np.arange(float(1 << 18))
    result = f(x, x)
    address = result.ctypes.data
    assert address % memory.ALIGNMENT_BYTES == 0
    assert result.flags.writeable and not result.flags.owndata
    np.testing.assert_array_equal(result, x * x + x)
    view = result[5:].reshape(-1)
    del result
    held = pool.held_bytes
    other = f(x, x)
    assert other.ctypes.data != address  # a view is still there
    assert view[0] == 30.0
    del view
    gc.collect()
    assert pool.held_bytes == held + x.nbytes
    again = f(x[:-9], x[:-9])
    assert again.ctypes.data == address
    np.testing.assert_array_equal(again, (x * x + x)[:-9])


def test_the_pool_is_bounded() -> None:
    pool = RUNTIME.pool
    try:
        pool.limit_bytes = 4 << 20
        blocks = [pool.take(1 << 20) for _ in range(10)]
        assert len(set(blocks)) == 10
        for block in blocks:
            pool.give(block)
        assert 0 < pool.held_bytes <= 4 << 20
        pool.give(pool.take(5 << 20))  # larger than all that may be held
        assert pool.held_bytes <= 4 << 20
        pool.limit_bytes = 0
        assert pool.held_bytes == 0
    finally:
        pool.limit_bytes = memory.DEFAULT_LIMIT_BYTES
    many = [pool.take(100_000) for _ in range(3 * memory.POOL_SLOTS)]
    for block in many:
        pool.give(block)
    assert pool.held_bytes <= memory.POOL_SLOTS * 100_000 * 1.25 + (64 << 20)
    with pytest.raises(ValueError, match="at least 0"):
        pool.limit_bytes = -1
    with pytest.raises(MemoryError):
        pool.take(2**62)
    with pytest.raises(MemoryError):
        pool.take(-8)


def test_the_pool_in_many_threads() -> None:
    """Every taken block belongs to one thread at a time."""
    pool = RUNTIME.pool

    def work(mark: int) -> None:
        for step in range(300):
            size = 100_000 + 5_000 * (step % 7)
            block = pool.take(size)
            words = (ctypes.c_int64 * 4).from_address(block)
            words[:] = [mark] * 4
            time.sleep(0)
            assert list(words) == [mark] * 4
            pool.give(block)

    in_threads(8, work)


# -- counting references --------------------------------------------------------------------------


@needs_native
def test_nothing_leaks() -> None:
    rounds = 20_000
    f = make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED))
    pair, listed = sum_and_product("tuple", "native"), sum_and_product("list", "native")
    boxed = sum_and_product(lambda flat: {"flat": flat}, "native")
    scalar, donor, fail = identity(F8, "native"), donating("native"), failing("native", 1)
    joined = concatenation("native")
    x, y, out, outs = X.copy(), Y.copy(), np.empty(10), (np.empty(10), np.empty(10))
    wide, negative, big, number = np.arange(20.0), np.array([-1.0]), np.ones(1 << 17), 12345.678
    triple = (np.ones(2), np.ones(3), np.ones(5))

    def every(count: int) -> None:
        for _ in range(count):
            f(x, y)
            f(x, y, out=out)
            pair(x, y, out=outs)
            scalar(number)
        for _ in range(count // 10):
            pair(x, y)
            listed(x, y)
            boxed(x, y)
            joined(*triple)
            f(wide[::2], y)
            donor(out, y)
            f(big, big)
        for _ in range(count // 40):
            for function, args in [(fail, (negative,)), (f, (x, x[:3])), (f, (x, None))]:
                with pytest.raises((IndexError, ValueError, TypeError)):
                    function(*args)
            f(list(x), y)
            make(f._impl)

    fail._impl.failures = Forgetful()
    watched = (x, y, out, outs, outs[0], big, number, F8, wide, negative, f, pair, f._impl, None)
    every(2000)
    gc.collect()
    before = [sys.getrefcount(member) for member in watched]
    blocks = sys.getallocatedblocks()
    every(rounds)
    gc.collect()
    after = [sys.getrefcount(member) for member in watched]
    assert after[:-1] == before[:-1]
    assert abs(after[-1] - before[-1]) < 100  # None is everybody's
    rarest = rounds // 40  # a leak in any of the calls would be at least as large
    assert sys.getallocatedblocks() - blocks < 0.8 * rarest


class Forgetful(list):
    """A list that does not grow."""

    def append(self, item: Any) -> None:
        """Forgets it."""


def test_a_function_and_its_implementation_go_away(kind: str) -> None:
    program = compile_program(multiply_add())
    implementation = Subject(MULTIPLY_ADD_SPEC, program)
    f = make(implementation, kind)
    f(X, Y)
    references = weakref.ref(f), weakref.ref(implementation)
    del f, implementation
    assert [reference() for reference in references] == [None, None]  # no cycle
