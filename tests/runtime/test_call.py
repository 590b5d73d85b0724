"""Does a call do the same, natively and in plain Python, for everything that a user may pass?

Each program runs over the native leaf type and over the plain class.
"""

from __future__ import annotations

import math
import pickle
from typing import Any, NoReturn

import numpy as np
import pytest

from graphc.codegen.status import Code
from graphc.runtime import entry, layout
from graphc.runtime.callspec import CallSpec, Input, Output
from graphc.runtime.descriptor import Word
from tests.runtime.call_programs import (
    EXPECTED,
    F4,
    F8,
    I4,
    I8,
    LLVM_TYPES,
    MULTIPLY_ADD,
    MULTIPLY_ADD_SPEC,
    MULTIPLY_ADD_STRIDED,
    RUNTIME,
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
    loop,
    make,
    multiply_add,
    native_counter,
    needs_native,
    unaligned,
)

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
@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((X,), {"y": Y}),
        ((), {"y": Y, "x": X}),
        ((X.astype("f4").astype("f8"), Y.astype("f4")), {}),
        ((X.tolist(), Y), {}),
        ((np.array(X.tolist() * 2)[:10], np.repeat(Y, 2)[::2]), {}),
        ((X,), {"y": np.repeat(Y, 2)[::2]}),
    ],
)
def test_what_is_only_named_or_converted_goes_back_to_the_entry(args: Any, named: Any) -> None:
    subject = Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED)
    g, slow_calls = native_counter(subject)
    runs, run = [0], subject._run

    def counted(*given: Any) -> None:
        runs[0] += 1
        run(*given)

    subject._run = counted  # type: ignore[method-assign]
    x, y = (np.asarray(v) for v in (*args, *(named[k] for k in ("x", "y") if k in named)))
    g(X, Y[::-1])  # the program for strides is compiled
    slow_calls[0] = runs[0] = 0
    np.testing.assert_array_equal(g(*args, **named), x * y + x)
    out = np.empty(10)
    assert g(*args, **named, out=out) is out
    np.testing.assert_array_equal(out, x * y + x)
    assert slow_calls[0] <= 2 and runs == [0]


@needs_native
def test_errors_after_arguments_went_back_to_the_entry_are_those_of_a_plain_call() -> None:
    g, slow_calls = native_counter(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED))
    with pytest.raises(ValueError) as plain:
        g(X, Y[:4].copy())
    assert slow_calls == [1]
    with pytest.raises(ValueError) as named:
        g(X, y=Y[:4].copy())
    assert str(named.value) == str(plain.value) and slow_calls == [3]
    np.testing.assert_array_equal(g(X, y=Y), EXPECTED)


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
        unaligned(X),
        memoryview(X),
    ):
        given = np.asarray(x, F8)
        np.testing.assert_array_equal(f(x, Y), given * Y + given)


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
