"""Is a native Function the object that the plain one is, in random calls and by itself?"""

from __future__ import annotations

import copy
import ctypes
import inspect
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

from graphc.runtime import layout
from graphc.runtime.callable import Implementation
from graphc.runtime.callspec import CallSpec, Input, Output
from graphc.runtime.leaf import Function, make_function
from tests.runtime.call_programs import (
    EXPECTED,
    F8,
    MULTIPLY_ADD,
    MULTIPLY_ADD_SPEC,
    MULTIPLY_ADD_STRIDED,
    Subject,
    X,
    Y,
    compile_program,
    make,
    needs_native,
    read_only,
    run_python,
    unaligned,
    with_changes,
)

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
        lambda: read_only(base[:6]),
        lambda: unaligned(base[:6]),
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
    spec = with_changes(MULTIPLY_ADD_SPEC, donated=donated)
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
        from tests.runtime import call_programs as given
        assert given.KINDS == ["plain"] and given.RUNTIME.plain_because == "for the test"
        f = given.make(given.Subject(given.MULTIPLY_ADD_SPEC))
        print((f(given.X, given.Y) == given.EXPECTED).all())
    """
    assert run_python(script).stdout == "True\n"


@needs_native
def test_memory_that_is_not_there_is_reported() -> None:
    with pytest.raises(OSError):
        layout._read_safely(8, 8)
    number = ctypes.c_int64(77)
    assert layout._read_integers(ctypes.addressof(number), 1) == (77,)


