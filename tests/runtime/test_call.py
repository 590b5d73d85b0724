"""Does a call do the same, natively and in plain Python, for everything that a user may pass?

The programs are written by hand in LLVM IR against the documented C signature (decision 3), so
these tests need no graph. Each one runs over the native leaf type and over the plain class.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import gc
import inspect
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from graphc.codegen.status import Code
from graphc.runtime import entry, layout, memory
from graphc.runtime.callable import Implementation
from graphc.runtime.callspec import CallSpec, Input, Output
from graphc.runtime.descriptor import Word
from graphc.runtime.engine import Engine
from graphc.runtime.leaf import Function, make_function
from graphc.runtime.shared import call_runtime

ROOT = Path(__file__).resolve().parents[2]
F8, F4, I8, I4 = (np.dtype(name) for name in ("f8", "f4", "i8", "i4"))
ENGINE = Engine()
RUNTIME = call_runtime(ENGINE)
# "own": with the entry that a Function gets when it has been called often.
KINDS = ["native", "own", "plain"] if RUNTIME.routines.entry else ["plain"]
SIGNATURE = "(ptr %buffers, ptr %extents, ptr %strides, ptr %workspace, ptr %status)"
LLVM_TYPES = {F8: "double", F4: "float", I8: "i64", I4: "i32", np.dtype(bool): "i8"}

needs_native = pytest.mark.skipif("native" not in KINDS, reason=RUNTIME.plain_because)
posix_only = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")


# -- programs -------------------------------------------------------------------------------------


def compile_program(body: str, name: str = "program", symbols: Mapping[str, int] | None = None):
    """One function with the C signature of programs; `body` starts in the entry block."""
    text = f"{declarations(symbols or {})}\ndefine i64 @{name}{SIGNATURE} {{\nstart:\n{body}\n}}\n"
    return ENGINE.load_ir(text, [name], symbols)


def declarations(symbols: Mapping[str, int]) -> str:
    return "\n".join(f"declare void @{name}(ptr)" for name in symbols)


def buffer(name: str, index: int) -> str:
    return (
        f"  %{name}_at = getelementptr ptr, ptr %buffers, i64 {index}\n"
        f"  %{name} = load ptr, ptr %{name}_at\n"
    )


def extent(name: str, slot: int) -> str:
    return (
        f"  %{name}_at = getelementptr i64, ptr %extents, i64 {slot}\n"
        f"  %{name} = load i64, ptr %{name}_at\n"
    )


def loop(count: str, body: str, after: str = "  ret i64 0") -> str:
    """Run the body for %i from 0 to count."""
    return (
        "  br label %check\ncheck:\n  %i = phi i64 [ 0, %start ], [ %next, %body ]\n"
        f"  %more = icmp slt i64 %i, {count}\n  br i1 %more, label %body, label %done\nbody:\n"
        f"{body}  %next = add i64 %i, 1\n  br label %check\ndone:\n{after}"
    )


def at(result: str, base: str, strided: int | None = None) -> str:
    """The address of element %i; `strided`: the word of the stride, in bytes."""
    if strided is None:
        return f"  %{result} = getelementptr double, ptr %{base}, i64 %i\n"
    return (
        f"  %{result}_w = getelementptr i64, ptr %strides, i64 {strided}\n"
        f"  %{result}_s = load i64, ptr %{result}_w\n"
        f"  %{result}_o = mul i64 %i, %{result}_s\n"
        f"  %{result} = getelementptr i8, ptr %{base}, i64 %{result}_o\n"
    )


def multiply_add(count: str = "%n", strided: bool = False, before: str = "") -> str:
    """out = x * y + x over one axis."""
    words = (0, 1) if strided else (None, None)
    sizes = extent("n", 0) if count == "%n" else ""
    return (
        buffer("x", 0)
        + buffer("y", 1)
        + buffer("out", 2)
        + sizes
        + before
        + loop(
            count,
            at("xi", "x", words[0])
            + at("yi", "y", words[1])
            + at("oi", "out")
            + "  %xv = load double, ptr %xi\n  %yv = load double, ptr %yi\n"
            "  %m = fmul double %xv, %yv\n  %r = fadd double %m, %xv\n"
            "  store double %r, ptr %oi\n",
        )
    )


MULTIPLY_ADD = compile_program(multiply_add())
MULTIPLY_ADD_STRIDED = compile_program(multiply_add(strided=True))
VECTOR = (("free", 0),)
SAME = (("slot", 0),)
MULTIPLY_ADD_SPEC = CallSpec(
    inputs=(Input("x", F8, VECTOR, "model.py:3"), Input("y", F8, VECTOR, "model.py:4")),
    outputs=(Output(F8, SAME),),
    contiguous=MULTIPLY_ADD["program"],
    slots=(0,),
    slot_names={0: "n"},
)


class Subject(Implementation):
    """An implementation that keeps its code, records what it is asked, and pickles by name."""

    def __init__(self, spec: CallSpec, keep: object = (), strided: Any = None) -> None:
        super().__init__(spec, RUNTIME)
        self.keep = (keep, strided)
        self.strided = strided
        self.strided_requests = 0
        self.failures: list[tuple[int, ...]] = []

    def strided_program(self) -> int:
        self.strided_requests += 1
        return self.strided["program"] if self.strided else 0

    def raise_status(self, words: tuple[int, ...]) -> NoReturn:
        self.failures.append(words)
        super().raise_status(words)

    def reduce(self) -> tuple:
        return rebuild_multiply_add, (self.spec.name,)


def make(implementation: Implementation, kind: str = "native") -> Any:
    function = make_function(implementation, plain=kind == "plain")
    if kind == "own":
        implementation.hasten()
    return function


def rebuild_multiply_add(_: str) -> Any:
    return make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def f(kind: str) -> Any:
    return make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED), kind)


def native_counter(implementation: Implementation, kind: str = "native") -> tuple[Any, list[int]]:
    """A native Function, and how often its slow path was taken."""
    count = [0]
    original = implementation.slow

    def slow(*args: Any, **named: Any) -> Any:
        count[0] += 1
        return original(*args, **named)

    implementation.slow = slow  # type: ignore[method-assign]
    return make(implementation, kind), count


X, Y = np.linspace(-2, 3, 10), np.linspace(1, 5, 10)
EXPECTED = X * Y + X


# -- results --------------------------------------------------------------------------------------


@needs_native
def test_the_layout_is_known_here() -> None:
    assert RUNTIME.plain_because == ""
    assert layout.probe() is layout.probe()


def test_values(f: Any) -> None:
    result = f(X, Y)
    assert type(result) is np.ndarray and result.dtype is F8 and result.flags.carray
    np.testing.assert_array_equal(result, EXPECTED)


@needs_native
def test_ordinary_calls_stay_native() -> None:
    g, slow_calls = native_counter(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED))
    out = np.empty(10)
    assert g(X, Y, out=out) is out
    g(X, Y, out=None)
    g(np.empty(0), np.empty(0))
    g(pickle.loads(pickle.dumps(X)), Y)  # has a dtype object of its own
    large = np.ones(1 << 18)
    g(large, large)
    assert slow_calls == [0]
    g(X[::2], Y[::2])
    assert slow_calls == [1]  # compiles the strided program
    g(X[::-1], Y)
    assert slow_calls == [1]


def test_every_size_including_none(f: Any) -> None:
    for size in (0, 1, 2, 1000):
        x, y = np.arange(float(size)), np.arange(float(size)) - 5
        np.testing.assert_array_equal(f(x, y), x * y + x)


def test_static_shapes(kind: str) -> None:
    program = compile_program(multiply_add(count="12"))
    spec = CallSpec(
        inputs=(Input("x", F8, (3, 4)), Input("y", F8, (3, 4))),
        outputs=(Output(F8, (3, 4)),),
        contiguous=program["program"],
    )
    g = make(Subject(spec, program), kind)
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(g(x, x), x * x + x)
    with pytest.raises(ValueError, match=r"axis 1 is 3, not 4"):
        g(x, np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"shape \(3, 4\), got rank 1"):
        g(x, np.ones(12))


# -- strides --------------------------------------------------------------------------------------


def test_strided_arguments_compile_their_program_once(f: Any) -> None:
    wide = np.arange(40.0)
    for x, y in [(wide[::4], wide[9::-1]), (wide[20:30], wide[::-4]), (wide[5:15:1], Y)]:
        np.testing.assert_array_equal(f(x, y), x * y + x)
    assert f._impl.strided_requests == 1


def test_strided_arguments_are_copied_without_a_strided_program(kind: str) -> None:
    g = make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD), kind)
    np.testing.assert_array_equal(g(X[::2], Y[::-2]), X[::2] * Y[::-2] + X[::2])


def test_the_table_of_strides(kind: str) -> None:
    """The strided variant sees every stride, in the order of the buffers, outputs C-contiguous."""
    words = "  %w = load i64, ptr %from\n  store i64 %w, ptr %to\n"
    program = compile_program(
        buffer("out", 3) + loop("6", at("from", "strides") + at("to", "out") + words)
    )
    spec = CallSpec(
        inputs=(Input("a", F8, (3, 2)), Input("b", F8, (2,)), Input("c", F8, ())),
        outputs=(Output(I8, (6,)), Output(F8, (2, 3))),
        contiguous=0,
        strided=program["program"],
        packing="tuple",
    )
    g = make(Subject(spec, program), kind)
    for a, b in [(np.empty((6, 8))[::2, ::4], np.empty(9)[::-5]), (np.empty((3, 2)), np.empty(2))]:
        assert g(a, b, 1.0)[0].tolist() == [*a.strides, *b.strides, 8, 24, 8]


# -- extents --------------------------------------------------------------------------------------

# Slots: n, m, n + m, workspace bytes, work. Refuses n above 1000 with code 2.
DERIVE = """
define i64 @derive(ptr %extents, ptr %status) {
  %m_at = getelementptr i64, ptr %extents, i64 1
  %sum_at = getelementptr i64, ptr %extents, i64 2
  %bytes_at = getelementptr i64, ptr %extents, i64 3
  %work_at = getelementptr i64, ptr %extents, i64 4
  %n = load i64, ptr %extents
  %m = load i64, ptr %m_at
  %sum = add i64 %n, %m
  store i64 %sum, ptr %sum_at
  %bytes = shl i64 %sum, 3
  store i64 %bytes, ptr %bytes_at
  %work = mul i64 %sum, 1000
  store i64 %work, ptr %work_at
  %long = icmp sgt i64 %n, 1000
  br i1 %long, label %refuse, label %accept
refuse:
  %index_at = getelementptr i64, ptr %status, i64 2
  %wanted_at = getelementptr i64, ptr %status, i64 3
  store i64 2, ptr %status
  store i64 %n, ptr %index_at
  store i64 1000, ptr %wanted_at
  ret i64 2
accept:
  ret i64 0
}
"""


def concatenation(kind: str) -> Any:
    """(n,), (m,), (n + m,) -> (n + m,): the first two joined, through the workspace, plus the last.

    Its status is 0 only if the workspace is aligned to 64 bytes.
    """
    check = "  %address = ptrtoint ptr %workspace to i64\n  %low = and i64 %address, 63\n"
    body = buffer("x", 0) + buffer("y", 1) + buffer("z", 2) + buffer("out", 3)
    body += extent("n", 0) + extent("sum", 2) + check
    body += loop(
        "%sum",
        "  %first = icmp slt i64 %i, %n\n  %j = sub i64 %i, %n\n"
        "  %k = select i1 %first, i64 %i, i64 %j\n"
        "  %base = select i1 %first, ptr %x, ptr %y\n"
        "  %from = getelementptr double, ptr %base, i64 %k\n"
        + at("zi", "z")
        + at("wi", "workspace")
        + at("oi", "out")
        + "  %v = load double, ptr %from\n  store double %v, ptr %wi\n"
        "  %u = load double, ptr %wi\n  %a = load double, ptr %zi\n"
        "  %r = fadd double %u, %a\n  store double %r, ptr %oi\n",
        "  ret i64 %low",
    )
    program = compile_program(body)
    library = ENGINE.load_ir(DERIVE, ["derive"])
    spec = CallSpec(
        inputs=(Input("x", F8, (("free", 0),)), Input("y", F8, (("free", 1),)), Z),
        outputs=(Output(F8, (("slot", 2),)),),
        contiguous=program["program"],
        extents=library["derive"],
        slots=(0,) * 5,
        workspace_slot=3,
        work_slot=4,
        slot_names={0: "n", 1: "m", 2: "n + m"},
    )
    return make(Subject(spec, (program, library)), kind)


Z = Input("z", F8, (("slot", 2),), "model.py:9")


def test_derived_extents_workspace_and_late_comparisons(kind: str) -> None:
    g = concatenation(kind)
    for n, m in [(3, 4), (0, 2), (1, 0), (0, 0), (1000, 70_000), (5, 1)]:
        x, y, z = np.arange(n) + 0.5, np.arange(m) - 7.0, np.full(n + m, 0.25)
        np.testing.assert_array_equal(g(x, y, z), np.concatenate([x, y]) + z)
    with pytest.raises(ValueError, match=r"axis 0 is 6, but n \+ m is 7"):
        g(np.ones(3), np.ones(4), np.ones(6))
    with pytest.raises(ValueError, match="1001 where 1000 is needed"):
        g(np.ones(1001), np.ones(1), np.ones(1002))
    assert g._impl.failures[-1][:4] == (Code.CONSTRAINT_VIOLATED, 0, 1001, 1000)


@needs_native
def test_derived_extents_stay_native() -> None:
    prototype = concatenation("native")
    g, slow_calls = native_counter(prototype._impl)
    g(np.ones(3), np.ones(4), np.ones(7))
    assert slow_calls == [0]


def test_a_name_twice_must_agree(kind: str) -> None:
    square = CallSpec(
        inputs=(Input("x", F8, (("free", 0), ("free", 0))),),
        outputs=(Output(F8, (("slot", 0), 2)),),
        contiguous=compile_program("  ret i64 0")["program"],
        slots=(0,),
    )
    g = make(Subject(square, compile_program("  ret i64 0")), kind)
    assert g(np.ones((3, 3))).shape == (3, 2)
    with pytest.raises(ValueError, match="axis 1 is 4, but extent 0 is 3, axis 0 of x"):
        g(np.ones((3, 4)))


def test_constant_slots(kind: str) -> None:
    """Without free extents the slots are constants, and may be named by axes."""
    program = compile_program(
        buffer("out", 1) + extent("n", 0) + "  store i64 %n, ptr %out\n  ret i64 0"
    )
    spec = CallSpec(
        inputs=(Input("x", F8, (("slot", 0),)),),
        outputs=(Output(I8, ()),),
        contiguous=program["program"],
        slots=(5,),
    )
    g = make(Subject(spec, program), kind)
    assert g(np.ones(5)) == 5
    with pytest.raises(ValueError, match="axis 0 is 4, but extent 0 is 5"):
        g(np.ones(4))


# -- scalars --------------------------------------------------------------------------------------


def identity(dtype: np.dtype, kind: str) -> Any:
    """() -> (): the argument itself, as the program sees it."""
    llvm = LLVM_TYPES[dtype]
    program = compile_program(
        buffer("x", 0)
        + buffer("out", 1)
        + f"  %v = load {llvm}, ptr %x\n  store {llvm} %v, ptr %out\n  ret i64 0"
    )
    spec = CallSpec((Input("x", dtype, ()),), (Output(dtype, ()),), program["program"])
    return make(Subject(spec, program), kind)


SCALARS = [
    2.5,
    -0.0,
    math.inf,
    math.nan,
    1e300,
    7,
    -3,
    2**31,
    2**53 + 1,
    2**63 - 1,
    True,
    False,
    np.float64(1.1),
    np.float32(0.1),
    np.int64(-9),
    np.int32(5),
    np.uint8(200),
    np.True_,
    np.False_,
    np.array(1.25),
    np.array(3, np.int16),
]
ACCEPTED = {
    F8: lambda value: True,
    F4: lambda value: not isinstance(value, np.float64 | np.int64 | np.int32) and _not_f8(value),
    I8: lambda value: np.asarray(value).dtype.kind in "biu" and fits(value, I8),
    I4: lambda value: _is_narrow_integer(value),
    np.dtype(bool): lambda value: isinstance(value, bool | np.bool_),
}


def _not_f8(value: Any) -> bool:
    return not (isinstance(value, np.ndarray) and value.dtype == F8)


def fits(value: Any, dtype: np.dtype) -> bool:
    return np.iinfo(dtype).min <= int(value) <= np.iinfo(dtype).max


def _is_narrow_integer(value: Any) -> bool:
    if isinstance(value, np.int64) or np.asarray(value).dtype.kind not in "biu":
        return False
    return fits(value, I4)


@pytest.mark.parametrize("dtype", list(LLVM_TYPES), ids=str)
@pytest.mark.parametrize("value", SCALARS, ids=lambda v: f"{type(v).__name__} {v!r}")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_scalars(dtype: np.dtype, value: Any, kind: str) -> None:
    g = identity(dtype, kind)
    if not ACCEPTED[dtype](value):
        with pytest.raises((TypeError, OverflowError), match="argument 1, x|out of bounds"):
            g(value)
        return
    with np.errstate(over="ignore"):
        expected = np.asarray(value, dtype)
    result = g(value)
    assert result.dtype is dtype and result.shape == ()
    assert result.tobytes() == expected.tobytes()


@needs_native
def test_usual_scalars_stay_native() -> None:
    for dtype, values in {
        F8: (1.5, 2, True, np.float64(1), np.float32(1), np.int64(1), np.True_, np.array(1.0)),
        F4: (1.5, 2, True, np.float32(1), np.False_, math.inf),
        I8: (2, True, np.int64(1), np.True_),
        I4: (2, -(2**31), True),
        np.dtype(bool): (True, np.False_),
    }.items():
        g, slow_calls = native_counter(identity(dtype, "native")._impl)
        for value in values:
            g(value)
            assert slow_calls == [0], (dtype, value)


def test_integers_that_do_not_fit(kind: str) -> None:
    for value in (2**63, -(2**200)):
        with pytest.raises(OverflowError, match="argument 1, x"):
            identity(I8, kind)(value)
    with pytest.raises(OverflowError, match="argument 1, x"):
        identity(F8, kind)(10**400)


def test_a_subclass_of_float_is_a_number(kind: str) -> None:
    class Metres(float):
        pass

    assert identity(F8, kind)(Metres(2.5)) == 2.5


# -- conversions ----------------------------------------------------------------------------------


def test_safe_conversions(f: Any) -> None:
    for x in (
        list(X),
        tuple(map(float, X)),
        X.astype("f4").astype("f8").astype("f4"),
        X.astype(">f8"),
        np.arange(10),
        [True] * 10,
        np.arange(10, dtype=np.uint8),
        X.view(type("Sub", (np.ndarray,), {})),
        _unaligned(X),
        memoryview(X),
    ):
        given = np.asarray(x, F8)
        np.testing.assert_array_equal(f(x, Y), given * Y + given)


def _unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype)
    view[...] = array
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (X + 1j, r"dtype complex128 and shape \(10,\)"),
        ([1j] * 10, "a list with a Python complex"),
        (["a"] * 10, "a list"),
        (None, "a NoneType"),
        (object(), "an object"),
        (np.array(["2020-01-01"] * 10, "M8[D]"), "dtype datetime64"),
    ],
)
def test_unsafe_conversions(f: Any, x: Any, got: str) -> None:
    with pytest.raises(
        TypeError, match=rf"argument 1, x: expected a float64 array.*got {got}"
    ) as e:
        f(x, Y)
    assert_message(e.value, "x built at model.py:3")


def test_python_floats_are_no_integers(kind: str) -> None:
    program = compile_program("  ret i64 0")
    spec = CallSpec((Input("k", I8, VECTOR),), (Output(I8, ()),), program["program"], slots=(0,))
    g = make(Subject(spec, program), kind)
    assert g([1, 2, 3]).dtype is I8
    for value in ([1.0, 2.0], 1.5, np.float64(3), np.array([1.5])):
        with pytest.raises(TypeError, match="argument 1, k: expected an int64 array"):
            g(value)


def test_ragged_lists_and_arrays_that_cannot_be_made(f: Any) -> None:
    class Hostile:
        def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
            raise RuntimeError("no arrays today")

    with pytest.raises(ValueError, match="inhomogeneous"):
        f([1, [2, 3]], Y)
    with pytest.raises(TypeError, match="no arrays today"):
        f(Hostile(), Y)


# -- arguments and messages -----------------------------------------------------------------------


def assert_message(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert len(text.splitlines()) <= 8, text
    for part in parts:
        assert part in text


def test_names(f: Any) -> None:
    for result in (f(X, y=Y), f(y=Y, x=X), f(x=X, y=Y, out=np.empty(10))):
        np.testing.assert_array_equal(result, EXPECTED)


@pytest.mark.parametrize(
    ("args", "named", "parts"),
    [
        ((), {}, ("takes 2 arguments (x, y), 0 were given", "missing: x, y")),
        ((X,), {}, ("takes 2 arguments (x, y), 1 were given", "missing: y")),
        ((X, Y, Y), {}, ("takes 2 arguments (x, y), 3 were given",)),
        ((X, Y), {"z": 1}, ("unexpected keyword 'z'", "its inputs are x, y, and out")),
        ((X,), {"x": Y}, ("got input x twice",)),
        ((X, Y), {"out": 3}, ("out: expected an ndarray, got an int",)),
    ],
)
def test_wrong_counts_and_names(f: Any, args: tuple, named: dict, parts: tuple[str, ...]) -> None:
    with pytest.raises(TypeError) as caught:
        f(*args, **named)
    assert_message(caught.value, "f() ", *parts)


def test_extents_that_disagree_name_both_arguments(f: Any) -> None:
    with pytest.raises(ValueError) as caught:
        f(X, Y[:3])
    assert_message(
        caught.value,
        "argument 2, y: expected a float64 array of shape (n,), got shape (3,)",
        "axis 0 is 3, but n is 10, axis 0 of x of shape (10,)",
        "y built at model.py:4",
        "x built at model.py:3",
    )


def test_rank(f: Any) -> None:
    with pytest.raises(ValueError) as caught:
        f(X, np.ones((10, 1)))
    assert_message(caught.value, "argument 2, y", "got rank 2", "(10, 1)", "model.py:4")


def test_many_arguments_leave_the_stack(kind: str) -> None:
    """More arguments than the entry's stack holds, and messages that do not list them all."""
    count = 400
    body = buffer("out", count) + buffer("last", count - 1)
    body += "  %v = load double, ptr %last\n  store double %v, ptr %out\n  ret i64 0"
    program = compile_program(body)
    spec = CallSpec(
        inputs=tuple(Input(f"w{i}", F8, VECTOR if i % 2 else ()) for i in range(count)),
        outputs=(Output(F8, ()),),
        contiguous=program["program"],
        slots=(0,),
    )
    g = make(Subject(spec, program), kind)
    values = [np.full(3, float(i)) if i % 2 else float(i) for i in range(count)]
    assert spec_words(g) > entry.STACK_WORDS
    assert g(*values) == count - 1
    with pytest.raises(TypeError) as caught:
        g(*values[:-1])
    assert len(str(caught.value)) < 400


def spec_words(function: Any) -> int:
    return function._impl.descriptor[Word.FRAME]


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
    spec = _with(MULTIPLY_ADD_SPEC, donated={0: 0})
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


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


SHARED = np.arange(12.0)


@pytest.mark.parametrize(
    ("x", "y", "error", "part"),
    [
        (_read_only(X), Y, ValueError, "is donated, but read-only"),
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
            _with(CallSpec((x, x), (out,), MULTIPLY_ADD["program"], slots=(0,)), **change)
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


# -- threads --------------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_threads_call_one_function(kind: str) -> None:
    g = concatenation(kind)  # releases the GIL and uses a workspace

    def work(number: int) -> None:
        for step in range(25 if kind == "plain" else 100):
            n, m = 1 + (number * 37 + step) % 400, 3000 + step
            x, y, z = np.full(n, number + 0.5), np.full(m, step - 0.25), np.ones(n + m)
            result = g(x, y, z)
            assert (result[:n] == number + 1.5).all() and (result[n:] == step + 0.75).all()

    in_threads(8, work)


def waiting(kind: str, threshold: int) -> Any:
    """Waits until x[0] is not 0; fails with code 3 when that takes too long."""
    body = (
        buffer("x", 0)
        + buffer("out", 1)
        + "  br label %look\nlook:\n  %i = phi i64 [ 0, %start ], [ %next, %look ]\n"
        "  %next = add i64 %i, 1\n  %v = load atomic volatile i64, ptr %x monotonic, align 8\n"
        "  %still = icmp eq i64 %v, 0\n  %soon = icmp slt i64 %i, 20000000000\n"
        "  %again = and i1 %still, %soon\n  br i1 %again, label %look, label %done\ndone:\n"
        "  store i64 %v, ptr %out\n  %code = select i1 %soon, i64 0, i64 3\n  ret i64 %code"
    )
    program = compile_program(body)
    spec = CallSpec(
        (Input("x", I8, (1,)),),
        (Output(I8, ()),),
        program["program"],
        slots=(1000,),
        work_slot=0,
        release_threshold=threshold,
    )
    return make(Subject(spec, program), kind)


def test_work_above_the_threshold_releases_the_lock(kind: str) -> None:
    g, flag = waiting(kind, 999), np.zeros(1, np.int64)
    timer = threading.Timer(0.05, flag.fill, (42,))
    timer.start()
    assert g(flag) == 42
    timer.join()


# -- signals and processes ------------------------------------------------------------------------


def run_python(script: str, *options: str, expect: int | None = 0) -> subprocess.CompletedProcess:
    source = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'runtime')!r}]\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", source + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    if expect is not None:
        assert done.returncode == expect, done.stderr
    return done


def polling(kind: str, threshold: int) -> Any:
    """Polls until it is cancelled, 2 ** 40 times at most."""
    poll = {"poll": RUNTIME.poll_address}
    body = (
        "  %cancel_at = getelementptr i64, ptr %status, i64 4\n  br label %look\nlook:\n"
        "  %i = phi i64 [ 0, %start ], [ %next, %look ]\n  %next = add i64 %i, 1\n"
        "  call void @poll(ptr %status)\n"
        "  %cancel = load atomic i64, ptr %cancel_at monotonic, align 8\n"
        "  %going = icmp eq i64 %cancel, 0\n  %soon = icmp slt i64 %i, 1099511627776\n"
        "  %again = and i1 %going, %soon\n  br i1 %again, label %look, label %done\ndone:\n"
        "  %code = load i64, ptr %status\n  ret i64 %code"
    )
    program = compile_program(body, symbols=poll)
    spec = CallSpec(
        (),
        (Output(F8, ()),),
        program["program"],
        slots=(1000,),
        work_slot=0,
        release_threshold=threshold,
    )
    return make(Subject(spec, program), kind)


@posix_only
@pytest.mark.parametrize("threshold", [0, 10**6], ids=["released", "held"])
def test_an_interrupt_stops_a_long_call(kind: str, threshold: int) -> None:
    script = f"""
        import signal, sys
        import test_call
        f = test_call.polling({kind!r}, {threshold})
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            f()
        except KeyboardInterrupt:
            print("interrupted", f._impl.failures)
        assert test_call.make(f._impl)  # the process goes on
        print(test_call.rebuild_multiply_add("")(test_call.X, test_call.Y)[0])
    """
    lines = run_python(script).stdout.splitlines()
    assert lines == ["interrupted []", str(EXPECTED[0])]


@posix_only
def test_an_interrupt_from_outside() -> None:
    """As a user's Ctrl-C: another process sends the signal, nothing in this one expects it."""
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'runtime')!r}]\n"
        f"import test_call\nf = test_call.polling({KINDS[0]!r}, 0)\n"
        "print('ready', flush=True)\nf()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0


@posix_only
def test_handlers_that_return_let_the_call_go_on(kind: str) -> None:
    g, flag = waiting_politely(kind), np.zeros(1, np.int64)
    seen = []

    def handler(*_: Any) -> None:
        seen.append(len(seen))
        flag[0] = len(seen) >= 2

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert g(flag) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert seen == [0, 1]


def waiting_politely(kind: str) -> Any:
    """Waits until x[0] is not 0, polling; the handler of a signal sets it."""
    poll = {"poll": RUNTIME.poll_address}
    body = (
        buffer("x", 0)
        + buffer("out", 1)
        + "  br label %look\nlook:\n  call void @poll(ptr %status)\n"
        "  %v = load atomic volatile i64, ptr %x monotonic, align 8\n"
        "  %still = icmp eq i64 %v, 0\n  br i1 %still, label %look, label %done\ndone:\n"
        "  store i64 %v, ptr %out\n  ret i64 0"
    )
    program = compile_program(body, symbols=poll)
    spec = CallSpec(
        (Input("x", I8, (1,)),),
        (Output(I8, ()),),
        program["program"],
        slots=(1000,),
        work_slot=0,
        release_threshold=0,
    )
    return make(Subject(spec, program), kind)


def test_a_thread_in_a_call_when_the_interpreter_ends() -> None:
    """A daemon thread that wants the lock back from a dead interpreter must not bring it down."""
    script = f"""
        import threading, time
        import numpy as np
        import test_call
        f, flag = test_call.waiting({KINDS[0]!r}, 0), np.zeros(1, np.int64)
        threading.Thread(target=f, args=(flag,), daemon=True).start()
        time.sleep(0.1)
        class Late:
            def __del__(self):
                flag[0] = 1
                time.sleep(0.05)
        late = Late()
    """
    run_python(script)


def test_large_results_may_outlive_everything() -> None:
    script = f"""
        import builtins
        import numpy as np
        import test_call
        f = test_call.make(test_call.Subject(test_call.MULTIPLY_ADD_SPEC), {KINDS[0]!r})
        x = np.ones(1 << 18)
        builtins.kept = f(x, x)
        builtins.function = f
    """
    run_python(script)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_calls_go_on_after_a_fork() -> None:
    script = f"""
        import os, signal, threading
        import test_call
        f = test_call.polling({KINDS[0]!r}, 0)
        def fork():
            child = os.fork()
            if child:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            signal.alarm(1)  # this thread is the child's main thread
            try:
                f()
            except KeyboardInterrupt:
                os._exit(7)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    """
    run_python(script, "-W", "ignore", expect=7)


@needs_native
def test_everything_again_in_development_mode() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error::ResourceWarning",
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-k",
            "native and not interrupt or leaks",
            __file__,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


# -- native against plain -------------------------------------------------------------------------


def random_argument(rng: np.random.Generator) -> Any:
    """Mostly what fits, now and then anything else."""
    base = rng.normal(size=48)
    views = [
        lambda: base[:6].copy(),
        lambda: base[:6],
        lambda: base[3:9],
        lambda: base[:12:2],
        lambda: base[5::-1],
        lambda: base[:7],
        lambda: base[:0],
        lambda: base.reshape(6, 8)[:, 0],
        lambda: base[:6].reshape(6, 1),
        lambda: _read_only(base[:6]),
        lambda: _unaligned(base[:6]),
        lambda: base[:6].astype(rng.choice(["f4", "i8", ">f8", "c16", "?", "u1"])),
        lambda: base[:6].tolist(),
        lambda: rng.choice([1.5, 2, True]),
        lambda: rng.choice([None, "x", 1j]),
    ]
    weights = np.array([8.0, 8, 2, 2, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1])
    return views[rng.choice(len(views), p=weights / weights.sum())]()


def random_call(rng: np.random.Generator) -> tuple[tuple, dict]:
    x, y = random_argument(rng), random_argument(rng)
    if rng.random() < 0.1:
        y = x
    if isinstance(x, np.ndarray) and x.base is not None and rng.random() < 0.2:
        y = x.base[2:8] if x.base.ndim == 1 else x.base[:, 0]
    named: dict[str, Any] = {}
    if rng.random() < 0.5:
        named["out"] = x if rng.random() < 0.2 else random_argument(rng)
    return ((x, y) if rng.random() < 0.97 else (x,)), named


def outcome(function: Any, args: tuple, named: dict) -> tuple:
    try:
        result = function(*args, **named)
    except Exception as error:
        return type(error), str(error)
    members = [*args, named.get("out")]
    which = [position for position, member in enumerate(members) if member is result]
    return which, result.dtype, result.shape, np.asarray(result).tobytes()


@needs_native
@pytest.mark.parametrize("donated", [{}, {0: 0}], ids=["", "donated"])
def test_random_calls_do_the_same(donated: dict[int, int]) -> None:
    spec = _with(MULTIPLY_ADD_SPEC, donated=donated)
    trio = [
        make(Subject(spec, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED), kind)
        for kind in ("native", "own", "plain")
    ]
    succeeded = 0
    for case in range(1500):
        # Made anew, not copied: copies of views share nothing.
        given = [random_call(np.random.default_rng((5, case))) for _ in trio]
        results = [outcome(f, *arguments) for f, arguments in zip(trio, given, strict=True)]
        assert results[0] == results[1] == results[2]
        for mine, *others in zip(*(args for args, _ in given), strict=True):
            for other in others:
                if isinstance(mine, np.ndarray):
                    np.testing.assert_array_equal(mine, other)
        succeeded += not isinstance(results[0][0], type)
    assert 300 < succeeded < 1400


# -- the object -----------------------------------------------------------------------------------


def test_the_object(f: Any) -> None:
    assert isinstance(f, Function) and callable(f) and type(f).__name__ == "Function"
    assert repr(f) == "<graphc.Function f(x: float64(n,), y: float64(n,)) -> float64(n,)>"
    assert f.__name__ == "f" and f.__doc__ == Function.__doc__
    f.__doc__, f.label = "mine", 3
    assert f.__doc__ == "mine" and f.label == 3
    assert str(inspect.signature(f)) == "(x, y, *, out=None)"
    assert f.spec is MULTIPLY_ADD_SPEC  # the implementation's attributes
    assert "describe" in dir(f)
    with pytest.raises(AttributeError, match="nothing"):
        f.nothing  # noqa: B018
    assert not hasattr(f, "__array__")
    assert weakref.ref(f)() is f
    assert copy.copy(f) is f and copy.deepcopy(f) is f
    assert {f: 1}[f] == 1 and f != make(f._impl)


def test_it_does_not_bind(f: Any) -> None:
    class Model:
        step = f

    np.testing.assert_array_equal(Model().step(X, Y), EXPECTED)
    np.testing.assert_array_equal(Model.step(X, Y), EXPECTED)


def test_pickling_asks_the_implementation(f: Any) -> None:
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(again(X, Y), EXPECTED)

    class Mute(Subject):
        reduce = Implementation.reduce

    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(make(Mute(MULTIPLY_ADD_SPEC, MULTIPLY_ADD)))


def test_instances_are_only_made_by_compiling(f: Any, kind: str) -> None:
    with pytest.raises(TypeError, match="compiling"):
        type(f)()
    with pytest.raises(TypeError):
        type("Sub", (type(f),), {})
    bare = object.__new__(type(f))
    with pytest.raises((TypeError, AttributeError)):
        bare(X, Y)
    assert not hasattr(type(f), "_entry")
    assert type(f) is type(make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD), kind))


def test_a_base_with_methods(kind: str) -> None:
    class Richer(Function):
        """Richer."""

        __slots__ = ()

        @property
        def graph(self) -> str:
            return f"graph of {self.spec.name}"

    g = make_function(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD), Richer, plain=kind == "plain")
    assert g.graph == "graph of f" and isinstance(g, Richer) and type(g).__name__ == "Richer"
    assert g.__doc__ == "Richer."
    np.testing.assert_array_equal(g(X, Y), EXPECTED)
    assert type(make_function(g._impl, Richer, plain=kind == "plain")) is type(g)


@needs_native
def test_a_base_with_slots_is_refused() -> None:
    class Wider(Function):
        __slots__ = ("extra",)

    with pytest.raises(TypeError, match="__slots__"):
        make_function(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD), Wider)


def test_signatures_of_unusual_names(kind: str) -> None:
    program = compile_program("  ret i64 0")
    for names, text in [
        (("a b", "c"), "(argument_0, c, /, *, out=None)"),
        (("x", "x"), "(argument_0, argument_1, /, *, out=None)"),
        (("out", "y"), "(argument_0, y, /, *, out=None)"),
        (("self", "args"), "(self, args, *, out=None)"),
    ]:
        inputs = tuple(Input(name, F8, ()) for name in names)
        g = make(Subject(CallSpec(inputs, (Output(F8, ()),), program["program"]), program), kind)
        assert str(inspect.signature(g)) == text
        assert g(1.0, 2.0).shape == ()
    assert g(self=1.0, args=2.0).shape == ()


# -- layout ---------------------------------------------------------------------------------------


def test_an_unknown_layout_selects_the_plain_class() -> None:
    script = """
        from graphc.runtime import layout
        def refuse():
            raise layout.UnknownLayout("for the test")
        layout.probe = refuse
        import test_call
        assert test_call.KINDS == ["plain"] and test_call.RUNTIME.plain_because == "for the test"
        f = test_call.make(test_call.Subject(test_call.MULTIPLY_ADD_SPEC))
        print((f(test_call.X, test_call.Y) == test_call.EXPECTED).all())
    """
    assert run_python(script).stdout == "True\n"


@needs_native
def test_memory_that_is_not_there_is_reported() -> None:
    with pytest.raises(OSError):
        layout._read_safely(8, 8)
    number = ctypes.c_int64(77)
    assert layout._read_integers(ctypes.addressof(number), 1) == (77,)


def _with(spec: CallSpec, **changes: Any) -> CallSpec:
    return dataclasses.replace(spec, **changes)
