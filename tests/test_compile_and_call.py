"""Does a compiled Function do what a Python function of arrays would do, however it is called?

Whole Functions, from an expression to numbers, as a user makes them: the native one and the one
that the kernel interpreter runs. The layer of the call by itself is tested in
`runtime/test_call.py`, the texts of errors in `test_errors.py`.
"""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import run_python

import graphc as gx
from graphc.runtime.descriptor import Word

TARGETS = ("cpu", "interpret")
UNCACHED = gx.Options(cache=False)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


# -- arguments and results -------------------------------------------------------------------------


def test_positions_and_names(target: str) -> None:
    x, y = gx.vector("x", 3), gx.scalar("y")
    f = gx.compile([x, y], [x - y], target=target, name="difference")
    a = np.arange(3.0)
    for got in (f(a, 1.0), f(a, y=1.0), f(y=1.0, x=a), f(x=a, y=1.0)):
        np.testing.assert_array_equal(got[0], a - 1)
    assert f.__name__ == "difference" and "difference(x: float64(3,), y: float64)" in repr(f)


@pytest.mark.parametrize(
    "name", ["self", "args", "named", "f", "π", "a b", "None", "'", "{x}", "d0"]
)
def test_inputs_of_any_name(target: str, name: str) -> None:
    x = gx.vector(name, "n")
    f = gx.compile([x], [x * 2], target=target)
    np.testing.assert_array_equal(f(np.ones(3))[0], [2, 2, 2])
    np.testing.assert_array_equal(f(**{name: np.ones(2)})[0], [2, 2])


def test_an_input_that_is_called_out(target: str) -> None:
    x = gx.vector("out", 3)
    f = gx.compile([x], [x * 2], target=target)
    array = np.zeros(3)
    assert f(np.ones(3), out=array)[0] is array


Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Model:
    weights: Any
    bias: Any = None


gx.register_container  # noqa: B018  (the name is public; dataclasses need no registration)


def test_nested_containers_in_and_out(target: str) -> None:
    w, b, x, s = gx.matrix("w", (3, 2)), gx.vector("b", 2), gx.vector("x", 3), gx.scalar("s")
    inputs = [Model(w, {"b": b}), (x, [s, None])]
    outputs = {"y": Pair(x @ w + b, [s, (s, None)]), "m": Model(w * 2)}
    f = gx.compile(inputs, outputs, target=target)
    weights, bias, vector = np.ones((3, 2)), np.array([1.0, 2.0]), np.arange(3.0)
    got = f(Model(weights, {"b": bias}), (vector, [0.5, None]))
    assert set(got) == {"y", "m"} and isinstance(got["y"], Pair) and isinstance(got["m"], Model)
    np.testing.assert_array_equal(got["y"].left, vector @ weights + bias)
    assert got["y"].right[0] == got["y"].right[1][0] == 0.5 and got["y"].right[1][1] is None
    np.testing.assert_array_equal(got["m"].weights, weights * 2)
    assert got["m"].bias is None


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (lambda y: y, np.ndarray),
        (lambda y: [y], list),
        (lambda y: (y,), tuple),
        (lambda y: {"a": y}, dict),
    ],
)
def test_one_result_alone_or_packed(target: str, pack: Any, kind: type) -> None:
    x = gx.vector("x", 3)
    got = gx.compile([x], pack(x + 1), target=target)(np.ones(3))
    assert type(got) is kind


def test_a_symbol_alone_and_no_inputs_at_all(target: str) -> None:
    x = gx.vector("x", 3)
    np.testing.assert_array_equal(gx.compile(x, x * 2, target=target)(np.ones(3)), [2, 2, 2])
    np.testing.assert_array_equal(gx.compile([], gx.iota(3), target=target)(), [0, 1, 2])


def test_results_are_new_arrays(target: str) -> None:
    """An input, a constant or a view as a result is a copy, and so is the same result twice."""
    x = gx.matrix("x", (2, 3))
    c = gx.constant(np.arange(6.0).reshape(2, 3))
    f = gx.compile([x], [x, x, c, x.T, x[0], gx.reshape(x, 6), x * 2, x * 2], target=target)
    array = np.ones((2, 3))
    first, second = f(array), f(array)
    every = [array, *first, *second]
    for i, one in enumerate(every):
        assert not any(np.shares_memory(one, other) for other in every[:i])
    for result in first:
        assert result.flags.c_contiguous and result.flags.writeable
        result[...] = -1
    np.testing.assert_array_equal(f(array)[2], np.arange(6.0).reshape(2, 3))
    assert (array == 1).all()


def test_inputs_that_are_not_used(target: str) -> None:
    x, y, z = gx.vector("x", "n"), gx.vector("y", "m"), gx.scalar("z", "bool")
    f = gx.compile([x, y, z], [y * 2], target=target)
    np.testing.assert_array_equal(f(np.ones(0), np.ones(2), True)[0], [2, 2])
    with pytest.raises(TypeError):
        f(np.ones(0), np.ones(2), "yes")


def test_every_dtype_as_input_and_output(target: str) -> None:
    for dtype in ("bool", "int64", "float32", "float64"):
        x = gx.symbol("x", ("n",), dtype)
        for got in gx.compile([x], [x, x[::-1]], target=target)(np.array([0, 1, 1], dtype)):
            assert got.dtype == dtype and got.sum() == 2


@pytest.mark.parametrize("value", [2, 2.0, True, np.float32(2), np.array(2.0), np.int8(2)])
def test_scalars(target: str, value: Any) -> None:
    x = gx.scalar("x")
    got = gx.compile([x], x * 2, target=target)(value)
    assert got.shape == () and got == float(value) * 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7e308])
def test_floats_of_every_kind(target: str, value: float) -> None:
    x = gx.vector("x", 3)
    got = gx.compile([x], [x, -x, x.reshape(3, 1)], target=target)(np.full(3, value))
    np.testing.assert_array_equal(got[0], [value] * 3)
    assert (np.signbit(got[0]) == np.signbit(value)).all()
    assert (np.signbit(got[1]) != np.signbit(value)).all()


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, 0, -1])
def test_integers_of_every_size(target: str, value: int) -> None:
    x = gx.vector("x", 3, "int64")
    wrapped = np.full(3, value) * np.int64(3)
    got = gx.compile([x], [x, x * 3, gx.absolute(x)], target=target)(np.full(3, value))
    np.testing.assert_array_equal(got[0], np.full(3, value))
    np.testing.assert_array_equal(got[1], wrapped)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got[2], np.abs(np.full(3, value)))


# -- layouts and sizes -----------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda a: a,
    "Fortran": np.asfortranarray,
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "with gaps": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    "unaligned": lambda a: (
        np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)
    ),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "a field": lambda a: np.rec.fromarrays([a, a], names="p,q")["q"],
    "a matrix": lambda a: a.view(np.matrix),
    "float32": lambda a: a.astype("float32"),
    "nested lists": lambda a: a.tolist(),
    "a buffer": lambda a: memoryview(np.ascontiguousarray(a)),
}


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", ["contiguous", "Fortran", "backwards"])
@pytest.mark.parametrize("extent", [5, "n"])
def test_layouts_in_every_position(first: str, second: str, extent: Any) -> None:
    x, y = gx.matrix("x", (extent, 4)), gx.matrix("y", (extent, 4))
    outputs = [
        x + y,
        gx.sum(x, axis=0) * y,
        x @ y.T,
        gx.softmax(y - x),
        x[::-1],
        gx.take(y, [1, 0]),
    ]
    f = gx.compile([x, y], outputs)
    a, b = np.arange(20.0).reshape(5, 4) / 8, np.arange(20.0)[::-1].reshape(5, 4) / 4
    wanted = gx.evaluate(outputs, {x: a, y: b})
    for one, other in ((first, second), (second, first)):
        left, right = (a, b) if one == first else (b, a)
        if one != first:
            wanted = gx.evaluate(outputs, {x: left, y: right})
        for got, value in zip(f(LAYOUTS[one](left), LAYOUTS[other](right)), wanted, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-14)


def test_one_array_in_many_positions(target: str) -> None:
    """The same array, its views and a broadcast of one number."""
    x, y, z = (gx.matrix(name, ("n", "n")) for name in "xyz")
    f = gx.compile([x, y, z], [x @ y + z], target=target)
    a = np.arange(9.0).reshape(3, 3)
    for given in ((a, a, a), (a, a.T, a[::-1]), (np.broadcast_to(2.0, (3, 3)), a, a.T)):
        p, q, r = given
        np.testing.assert_allclose(f(*given)[0], p @ q + r)


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
@pytest.mark.parametrize("columns", [0, 1, 5])
def test_symbolic_sizes_down_to_none(target: str, rows: int, columns: int) -> None:
    x, v = gx.matrix("x", ("n", "m")), gx.vector("v", "m")
    outputs = [
        x * v,
        x @ v,
        x.T @ x,
        gx.sum(x, axis=0),
        gx.sum(x),
        gx.prod(x, axis=1),
        gx.softmax(x),
        gx.reshape(x, (-1,)),
        x.T[::-1],
        gx.concatenate([x, x * 2], axis=1),
        gx.take(x, gx.iota(x.shape[0]), axis=0),
        gx.mean(x + 1),
        x[1:, :-1],
    ]
    f = gx.compile([x, v], outputs, target=target)
    a = np.arange(float(rows * columns)).reshape(rows, columns) / 7
    b = np.arange(float(columns))
    with np.errstate(all="ignore"):
        wanted = gx.evaluate(outputs, {x: a, v: b})
    for got, value in zip(f(a, b), wanted, strict=True):
        assert got.shape == np.shape(value)
        np.testing.assert_allclose(got, value, rtol=1e-12)


def test_static_sizes_of_none(target: str) -> None:
    x = gx.matrix("x", (0, 3))
    outputs = [
        x + 1,
        gx.sum(x, axis=0),
        x @ np.ones((3, 2)),
        x.T,
        gx.reshape(x, (3, 0, 7)),
        gx.sum(x),
    ]
    f = gx.compile([x], outputs, target=target)
    for got, value in zip(
        f(np.ones((0, 3))), gx.evaluate(outputs, {x: np.ones((0, 3))}), strict=True
    ):
        np.testing.assert_array_equal(got, value)


def test_the_most_axes_that_numpy_has(target: str) -> None:
    x = gx.symbol("x", (1,) * 63 + (2,))
    got = gx.compile([x], [x * 2, gx.sum(x, axis=0)], target=target)(np.ones(x.shape))
    assert got[0].shape == x.shape and got[1].shape == x.shape[1:] and got[1].sum() == 2


# -- symbolic extents ------------------------------------------------------------------------------


def test_compound_extents_are_solved_for(target: str) -> None:
    x, y = gx.symbol("x", ("2*n + 1",)), gx.symbol("y", ("n + m", "m"))
    n, m = gx.dim("n"), gx.dim("m")
    outputs = [gx.sum(x) / n, gx.zeros((n, m)) + 1, gx.iota(n * m + 3), y.T]
    f = gx.compile([x, y], outputs, target=target)
    for i, j in ((2, 3), (0, 1), (1, 0), (0, 0)):
        arrays = np.ones(2 * i + 1), np.ones((i + j, j))
        with np.errstate(all="ignore"):
            wanted = gx.evaluate(outputs, dict(zip((x, y), arrays, strict=True)))
        for got, value in zip(f(*arrays), wanted, strict=True):
            np.testing.assert_array_equal(got, value)
            assert got.shape == np.shape(value)


def test_an_extent_is_a_value(target: str) -> None:
    x = gx.matrix("x", ("n", "m"))
    f = gx.compile([x], [gx.sum(x) / (x.shape[0] * x.shape[1]), x * x.shape[1]], target=target)
    got = f(np.full((3, 4), 2.0))
    assert got[0] == 2.0 and (got[1] == 8.0).all()


@pytest.mark.parametrize(
    "name",
    ["d0", "d1", "i1", "p1", "t1", "v0", "_arg0", "raw0_0", "_derived0", "status", "n1", "é"],
)
def test_dimensions_named_like_the_programs_own(target: str, name: str) -> None:
    other = "d0" if name != "d0" else "d1"
    x, y = gx.symbol("x", (name, other)), gx.symbol("y", (other,))
    _, rows = gx.scan(lambda s, a: (s + a, s * 2), y * 0, x)
    outputs = [gx.exp(x) @ y, gx.sum(gx.softmax(x), axis=0), rows, gx.reshape(x.T, (-1,))]
    f = gx.compile([x, y], outputs, target=target)
    a, b = np.arange(12.0).reshape(3, 4) / 5, np.arange(4.0)
    for arrays in ((a, b), (a[::-1], b[::-1])):
        wanted = gx.evaluate(outputs, dict(zip((x, y), arrays, strict=True)))
        for got, value in zip(f(*arrays), wanted, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-13)


def test_dimensions_that_exchange_the_canonical_names(target: str) -> None:
    """`d1` comes first and is renamed to `d0`, and the other way round."""
    x, y = gx.vector("x", "d1"), gx.vector("y", "d0")
    f = gx.compile([x, y], [gx.iota(gx.dim("d1")), gx.iota(gx.dim("d0"))], target=target)
    assert [len(got) for got in f(np.ones(2), np.ones(5))] == [2, 5]


def test_unified_extents(target: str) -> None:
    x, y = gx.vector("x", "n"), gx.vector("y", "m")
    f = gx.compile([x, y], [x + y, gx.dot(x, y)], target=target)
    assert f(np.ones(3), np.ones(3))[1] == 3.0
    for sizes in ((3, 4), (3, 1), (1, 3), (0, 1)):
        with pytest.raises(ValueError, match=f"m = {sizes[1]} and n = {sizes[0]} must be equal"):
            f(*map(np.ones, sizes))


def test_constraints_of_bodies_are_checked(target: str) -> None:
    """Extents are unified in a called body and in a loop, where arrays would be read out of bounds.
    """
    x, y = gx.vector("x", "n"), gx.vector("y", "m")
    called = gx.call(lambda a, b: gx.exp(a) + b, x, y)
    looped, _ = gx.scan(lambda s, _: (s + gx.call(lambda a, b: gx.dot(a, b), x, y), None), 0.0, x)
    for output in (called, looped):
        f = gx.compile([x, y], [output], target=target)
        f(np.ones(3), np.ones(3))
        for sizes in ((5, 3), (3, 5)):
            with pytest.raises(ValueError, match="must be equal"):
                f(*map(np.ones, sizes))
    picked = gx.compile([x], [gx.call(lambda a: a[3] + a[-2], x)], target=target)
    assert picked(np.arange(4.0))[0] == 5.0
    with pytest.raises(IndexError, match="index 3 is out of range"):
        picked(np.ones(3))


@pytest.mark.parametrize(
    ("build", "sizes", "error"),
    [
        (lambda n, m: gx.zeros(n * n * n * n), (65536, 1), ValueError),
        (lambda n, m: gx.zeros((n * n, n * n)), (2**17, 1), (ValueError, MemoryError)),
        (lambda n, m: gx.sum(gx.iota((n * n, n * n * n))), (2**17, 1), (ValueError, MemoryError)),
        (lambda n, m: gx.zeros(n // (m - 1)), (3, 1), ValueError),
        (lambda n, m: gx.zeros(n % (m - 1)), (3, 1), ValueError),
        (lambda n, m: gx.zeros(n - m), (3, 4), ValueError),
        (lambda n, m: gx.sum(gx.ones(n - m)), (3, 4), ValueError),
        (lambda n, m: gx.zeros((n * 2**40, 2**20)), (2**10, 1), (ValueError, MemoryError)),
    ],
)
def test_extents_that_no_array_can_have(
    target: str, build: Callable[..., Any], sizes: tuple[int, int], error: Any
) -> None:
    """They overflow, are negative, or have no value at all: never a wrong answer."""
    x, y = gx.vector("x", "n"), gx.vector("y", "m")
    f = gx.compile(
        [x, y], [build(gx.dim("n"), gx.dim("m")), x[:1]], target=target, options=UNCACHED
    )
    with pytest.raises(error):
        f(*map(np.zeros, sizes))


@pytest.mark.parametrize("sizes", [(2**31, 2**30), (2**33, 2**33), (2**62, 4)])
def test_a_workspace_that_no_machine_has(sizes: tuple[int, int]) -> None:
    """Arrays of one repeated number have any size; the product of two is needed in the workspace.
    """
    x, y = gx.vector("x", "n"), gx.vector("y", "m")
    t = gx.exp(x[:, None] * y)
    f = gx.compile([x, y], [gx.sum(t @ gx.reshape(t, (y.shape[0], x.shape[0])))], options=UNCACHED)
    with pytest.raises((MemoryError, ValueError)):
        f(*(np.broadcast_to(1.0, size) for size in sizes))


# -- out -------------------------------------------------------------------------------------------


def test_out_is_what_is_returned(target: str) -> None:
    x = gx.matrix("x", ("n", 3))
    f = gx.compile([x], {"a": x * 2, "b": gx.sum(x)}, target=target)
    a, b = np.zeros((2, 3)), np.zeros(())
    got = f(np.ones((2, 3)), out=(a, b))
    assert got["a"] is a and got["b"] is b and b == 6 and (a == 2).all()
    got = f(np.ones((2, 3)), out=(None, b))
    assert got["a"] is not a and got["b"] is b


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((6, 8))[:, ::2],
        np.zeros((4, 6)).T,
        np.zeros((6, 4), ">f8"),
        np.zeros((6, 4), "float32"),
        np.zeros((6, 4), "complex128"),
        np.zeros((6, 4))[::-1],
    ],
)
def test_out_of_any_layout(target: str, out: np.ndarray) -> None:
    x = gx.matrix("x", (6, 4))
    f = gx.compile([x], x @ np.eye(4) + 1, target=target)
    assert f(np.full((6, 4), 0.5), out=out) is out
    assert (out == 1.5).all()


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_out_over_an_input(target: str, shift: int) -> None:
    x = gx.matrix("x", ("n", 4))
    outputs = gx.flip(x, 0) + gx.sum(x, axis=0)
    f = gx.compile([x], outputs, target=target)
    memory = np.arange(32.0).reshape(8, 4)
    given, out = memory[:6], memory[shift : shift + 6]
    wanted = gx.evaluate(outputs, {x: given.copy()})
    assert f(given, out=out) is out
    np.testing.assert_array_equal(out, wanted)


def test_out_that_is_refused_is_not_touched(target: str) -> None:
    x, i = gx.vector("x", 3), gx.scalar("i", "int64")
    f = gx.compile([x, i], [x * 2, gx.take(x, i)], target=target)
    out = np.full(3, 7.0)
    for bad in (np.zeros(1), np.zeros((), int), [0.0]):
        with pytest.raises((TypeError, ValueError)):
            f(np.ones(3), 0, out=(out, bad))
    assert (out == 7).all()


# -- donation --------------------------------------------------------------------------------------

x2, y2, z2 = (gx.matrix(name, (5, 7)) for name in ("x2", "y2", "z2"))
DONATIONS: dict[str, tuple[list[Any], dict[Any, int]]] = {
    "element by element": ([x2 + 1], {x2: 0}),
    "read again afterwards": ([x2 + 1, x2 * 2], {x2: 0}),
    "read again before": ([x2 * 2, x2 + 1], {x2: 1}),
    "itself": ([x2], {x2: 0}),
    "itself and a copy": ([x2, x2], {x2: 1}),
    "swapped": ([y2, x2], {x2: 0, y2: 1}),
    "three in a ring": ([y2, z2, x2], {x2: 0, y2: 1, z2: 2}),
    "three in a ring, computed": ([y2 + 1, z2 * x2, x2 - y2], {x2: 0, y2: 1, z2: 2}),
    "reversed": ([gx.flip(x2)], {x2: 0}),
    "rows exchanged": ([gx.take(x2, [4, 3, 2, 1, 0], axis=0)], {x2: 0}),
    "transposed in place": ([gx.reshape(x2.T, (5, 7))], {x2: 0}),
    "shifted": ([gx.concatenate([x2[:, 2:], x2[:, :2]], axis=1)], {x2: 0}),
    "summed and spread": ([x2 - gx.sum(x2, axis=1, keepdims=True)], {x2: 0}),
    "summed over all": ([x2 / gx.sum(x2)], {x2: 0}),
    "columns": ([x2 - gx.max(x2, axis=0)], {x2: 0}),
    "a row kernel": ([gx.softmax(x2)], {x2: 0}),
    "a product": ([gx.tanh(x2 @ (y2.T @ x2))], {x2: 0}),
    "an epilogue": ([x2 + (y2 @ y2.T) @ z2], {x2: 0}),
    "an epilogue over an operand": ([y2 + (x2 @ x2.T) @ y2], {y2: 0}),
    "a loop": ([gx.scan(lambda s, r: (s * 0.5 + r, s + r), y2[0], x2)[1]], {x2: 0}),
    "a called body": ([gx.call(lambda a, b: a * gx.sum(b, axis=0), x2, y2), y2 + x2], {y2: 1}),
    "momentum": ([x2 - 0.1 * (0.9 * y2 + z2), 0.9 * y2 + z2], {x2: 0, y2: 1}),
}


@pytest.mark.parametrize("case", DONATIONS)
def test_donation_changes_memory_and_not_values(
    target: str, case: str, random: np.random.Generator
) -> None:
    outputs, donate = DONATIONS[case]
    inputs = [x2, y2, z2]
    plain = gx.compile(inputs, outputs, target=target, options=UNCACHED)
    donating = gx.compile(inputs, outputs, target=target, donate=donate, options=UNCACHED)
    for layout in (np.ascontiguousarray, np.asfortranarray):
        state = [random.standard_normal((5, 7)) for _ in inputs]
        mine = [
            array.copy() if any(s is given for given in donate) else layout(array)
            for s, array in zip(inputs, state, strict=True)
        ]
        for _ in range(3):
            wanted, before = plain(*state), [array.copy() for array in mine]
            got = donating(*mine)
            for value, expected in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(value, expected)
            for position, symbol in enumerate(inputs):
                output = next((o for s, o in donate.items() if s is symbol), None)
                if output is None:
                    np.testing.assert_array_equal(mine[position], before[position])
                else:
                    assert got[output] is mine[position]
                    state[position] = wanted[output]


def test_donation_with_symbolic_extents(target: str, random: np.random.Generator) -> None:
    x, g = gx.matrix("x", ("n", "m")), gx.matrix("g", ("n", "m"))
    f = gx.compile([x, g], [x - 0.1 * g, gx.sum(x)], target=target, donate=[x])
    for shape in ((3, 4), (0, 4), (1, 1), (40, 30)):
        a, b = random.random(shape), random.random(shape)
        wanted = a - 0.1 * b
        got = f(a, b.T.copy().T)
        assert got[0] is a
        np.testing.assert_allclose(a, wanted)


def test_a_donation_that_is_refused_changes_nothing(target: str) -> None:
    x, y = gx.vector("x", 4), gx.vector("y", 4)
    f = gx.compile([x, y], [x + y, x - y], target=target, donate=[x, y])
    memory = np.arange(8.0)
    read_only = np.arange(4.0)
    read_only.flags.writeable = False
    pairs = [
        (memory[:4], memory[:4]),
        (memory[:4], memory[2:6]),
        (memory[::2], memory[:4]),
        (read_only, memory[:4]),
        (memory[:4], read_only),
        (memory[:4], [1.0, 2.0, 3.0, 4.0]),
        (memory[:4], np.ones(4, "float32")),
    ]
    for pair in pairs:
        with pytest.raises((TypeError, ValueError), match="donated"):
            f(*pair)
    np.testing.assert_array_equal(memory, np.arange(8.0))


def test_a_failed_call_reports_before_donating(target: str) -> None:
    """Shapes are checked before anything is written."""
    x, y = gx.vector("x", "n"), gx.vector("y", "m")
    f = gx.compile([x, y], [x + y], target=target, donate=[x])
    array = np.ones(3)
    with pytest.raises(ValueError, match="must be equal"):
        f(array, np.ones(4))
    assert (array == 1).all()


# -- many of everything ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), ("n",)])
def test_a_thousand_inputs_and_outputs(shape: Any) -> None:
    inputs = [gx.symbol(f"s{i}", shape) for i in range(1_000)]
    f = gx.compile(inputs, [s + float(i) for i, s in enumerate(inputs)], options=UNCACHED)
    value = np.ones([3 if e == "n" else e for e in shape])
    got = f(*[value] * 1_000)
    assert len(got) == 1_000
    for i in (0, 1, 500, 999):
        np.testing.assert_array_equal(got[i], value + i)


def test_hundreds_of_dimensions() -> None:
    inputs = [gx.vector(f"s{i}", f"n{i}") for i in range(200)]
    outputs = [gx.concatenate(inputs[:20]), *[s * 2 for s in inputs]]
    f = gx.compile(inputs, outputs, options=UNCACHED)
    got = f(*[np.full(i % 5, float(i)) for i in range(200)])
    assert got[0].shape == (sum(i % 5 for i in range(20)),)
    np.testing.assert_array_equal(got[9], np.full(3, 16.0))


@pytest.mark.parametrize(
    "step",
    [
        lambda y, i: y + float(i),
        lambda y, i: y * 0.5 + gx.mean(y),
        lambda y, i: gx.reshape(gx.reshape(y, (2, 4)).T, (8,)),
        lambda y, i: gx.concatenate([y[1:], y[:1]]),
        lambda y, i: gx.pad(y[::-1][1:], [(1, 0)]) + y,
        lambda y, i: gx.take(y, np.arange(8)[::-1]),
        lambda y, i: gx.where(y > 0, y, -y) - 0.5,
    ],
)
def test_deep_expressions(step: Callable[[Any, int], Any]) -> None:
    x = gx.vector("x", 8)
    y = x
    for i in range(100):
        y = step(y, i)
    f = gx.compile([x], [y], options=UNCACHED)
    array = np.arange(8.0) / 4
    np.testing.assert_allclose(f(array)[0], gx.evaluate(y, {x: array}), rtol=1e-12)


def test_a_large_constant() -> None:
    values = np.random.default_rng(0).random(1_000_000)
    x = gx.vector("x", 1_000_000)
    f = gx.compile([x], [x * values, gx.sum(x * values)], options=UNCACHED)
    got = f(np.ones(1_000_000))
    np.testing.assert_array_equal(got[0], values)
    np.testing.assert_allclose(got[1], values.sum())


# -- threads ---------------------------------------------------------------------------------------


def test_many_python_threads_call_one_function(random: np.random.Generator) -> None:
    """With scratch, with a loop, above and below the size from which the lock is let go."""
    x, w = gx.matrix("x", ("n", 8)), gx.matrix("w", (8, 8))
    rows = gx.scan(lambda s, a: (gx.tanh(s @ w) + a, s), gx.zeros(8), x)[1]
    outputs = [gx.softmax(gx.tanh(x @ w) @ w), gx.sum(rows, axis=0), gx.exp(x)]
    f = gx.compile([x, w], outputs)
    weights = random.standard_normal((8, 8)) / 4
    arrays = [random.standard_normal((n, 8)) for n in (1, 3, 50, 4_000)]
    wanted = [f(a, weights) for a in arrays]
    for a, values in zip(arrays, wanted, strict=True):
        evaluated = gx.evaluate(outputs, {x: a, w: weights})
        for value, expected in zip(values, evaluated, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-10)
    barrier = threading.Barrier(8)

    def work(seed: int) -> int:
        barrier.wait()
        good = 0
        for k in range(40):
            i = (seed + k) % len(arrays)
            layout = np.asfortranarray if k % 5 == 0 else np.asarray
            got = f(layout(arrays[i]), weights)
            pairs = zip(got, wanted[i], strict=True)
            good += all(np.array_equal(a, b) for a, b in pairs)
        return good

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [40] * 8


def test_threads_compile_at_the_same_time() -> None:
    def build(i: int) -> float:
        x = gx.vector("x", "n")
        f = gx.compile([x], [gx.sum(gx.tanh(x) * float(i % 3)) + float(i)], options=UNCACHED)
        return float(f(np.zeros(5))[0])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(build, range(12))) == [float(i) for i in range(12)]


def test_indices_that_another_thread_changes() -> None:
    """Positions are checked where they are used: what is read stays inside, or is refused."""
    x, i = gx.vector("x", "n"), gx.vector("i", "m", "int64")
    taken = gx.take(x, i)
    cost = gx.sum(gx.tanh(taken) ** 2)
    f = gx.compile([x, i], [taken * 2, cost, gx.grad(cost, x)])
    array, positions = np.ones(100), np.zeros(50_000, np.int64)
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            for value in (2**40, 0, -(2**50), 99):
                positions[:] = value

    thread = threading.Thread(target=disturb)
    thread.start()
    outcomes = set()
    try:
        for _ in range(300):
            try:
                assert np.isin(f(array, positions)[0], 2.0).all()
                outcomes.add("fine")
            except IndexError:
                outcomes.add("refused")
    finally:
        done.set()
        thread.join()
    assert "refused" in outcomes


def test_a_call_from_a_destructor_and_from_a_callback() -> None:
    x = gx.vector("x", 3)
    f = gx.compile([x], gx.sum(x))
    found = []

    class Last:
        def __del__(self) -> None:
            found.append(float(f(np.ones(3))))

    class Array(np.ndarray):
        def __array_finalize__(self, other: Any) -> None:
            found.append(float(f(np.ones(3))))

    last = Last()
    del last
    assert f(np.ones(3).view(Array)) == 3.0
    assert set(found) == {3.0}


# -- processes -------------------------------------------------------------------------------------


def make(target: str) -> Any:
    x, i = gx.matrix("x", ("n", 3)), gx.vector("i", "m", "int64")
    final, rows = gx.scan(lambda s, a: (s + gx.tanh(a), s), gx.zeros(3), x)
    outputs = {"y": gx.take(x, i, axis=0), "z": [final, rows]}
    return gx.compile([{"x": x, "i": i}], outputs, target=target, name="pickled")


_LOAD = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    f = pickle.load(file)
got = f({"i": np.array([1, 0, -1]), "x": np.arange(6.0).reshape(2, 3)})
try:
    f({"i": np.array([7]), "x": np.ones((2, 3))})
except IndexError as error:
    assert "test_compile_and_call.py" in str(error), error
print(got["y"].tolist(), got["z"][0].tolist(), f.__name__)
"""


def test_a_function_pickled_here_is_called_elsewhere(target: str, tmp_path: Path) -> None:
    f = make(target)
    (tmp_path / "f.pickle").write_bytes(pickle.dumps(f))
    printed = run_python("-c", _LOAD, str(tmp_path / "f.pickle"), folder=tmp_path)
    got = f({"i": np.array([1, 0, -1]), "x": np.arange(6.0).reshape(2, 3)})
    assert printed.strip() == f"{got['y'].tolist()} {got['z'][0].tolist()} pickled"


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_worker_processes_get_functions_as_arguments() -> None:
    f = make("cpu")
    argument = {"i": np.array([1, 0]), "x": np.arange(6.0).reshape(2, 3)}
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(f, [argument] * 4)
    for got in found:
        np.testing.assert_array_equal(got["y"], f(argument)["y"])


_EXIT = """
import atexit, gc, sys, threading
import numpy as np
import graphc as gx
x = gx.vector("x", "n")
f = gx.compile([x], [gx.tanh(x) * 2])
class Last:
    def __init__(self):
        self.f = f
    def __del__(self):
        try:
            self.f(np.ones(3))
        except Exception:
            pass
kept, loop = Last(), [Last()]
loop.append(loop)
sys.modules["a function among the modules"] = f
atexit.register(lambda: print("at exit", f(np.zeros(2))[0].tolist()))
def work():
    while True:
        f(np.ones(100_000))
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
large = f(np.ones(1_000_000))
print("end")
"""


def test_the_interpreter_ends_with_functions_alive_and_at_work(tmp_path: Path) -> None:
    assert run_python("-c", _EXIT, folder=tmp_path).split("\n")[:2] == ["end", "at exit [0.0, 0.0]"]


_INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
import graphc as gx
x = gx.vector("x", "n")
s = gx.scalar("s")
kinds = {
    "scan": ([s], [gx.scan(lambda a, _: (gx.tanh(a), None), s, None, length=10**12)[0]], [1.0]),
    "reduction": ([x], [gx.sum(gx.tanh(x[:, None] * x))], [np.ones(1_000_000)]),
    "map": ([x], [gx.max(gx.tanh(x[:, None] * x), axis=0)], [np.ones(1_000_000)]),
}
inputs, outputs, arrays = kinds[sys.argv[1]]
f = gx.compile(inputs, outputs, options=gx.Options(threads=int(sys.argv[2])))
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    f(*arrays)
except KeyboardInterrupt:
    g = gx.compile([x], [x * 2])
    print("interrupted", g(np.ones(2))[0].tolist())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("kind", ["scan", "reduction", "map"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_control_c_stops_a_long_call(tmp_path: Path, kind: str, threads: str) -> None:
    printed = run_python("-c", _INTERRUPT, kind, threads, folder=tmp_path, timeout=60)
    assert printed.strip() == "interrupted [2.0, 2.0]"


# -- memory ----------------------------------------------------------------------------------------


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_calls_leak_nothing() -> None:
    x = gx.vector("x", "n")
    i = gx.vector("i", "m", "int64")
    f = gx.compile([x, i], {"a": x * 2, "b": [gx.sum(x), gx.take(x, i)]})

    def round_of_calls() -> None:
        for k in range(2_000):
            f(np.ones(50), np.zeros(3, np.int64))
            f(np.ones(50)[::2], [0])
            if k % 10 == 0:
                for bad in ((np.ones((1, 2)), [0]), (np.ones(2), [5]), ("a", [0])):
                    with pytest.raises((TypeError, ValueError, IndexError)):
                        f(*bad)

    round_of_calls()
    gc.collect()
    before = resident_bytes()
    for _ in range(3):
        round_of_calls()
    gc.collect()
    assert resident_bytes() - before < 1_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_functions_that_are_dropped_are_freed() -> None:
    """LLVM keeps some ten kilobytes of names for each object that it ever linked; nothing else may
    stay, neither Python objects nor mapped code.
    """

    def churn(count: int) -> None:
        for k in range(count):
            x = gx.vector("x", "n")
            f = gx.compile([x], [gx.tanh(x) * (k + 0.5) + gx.sum(x)], options=UNCACHED)
            f(np.ones(3))
        del f, x
        gc.collect()

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    churn(5)
    objects, maps, resident = len(gc.get_objects()), mappings(), resident_bytes()
    churn(20)
    assert len(gc.get_objects()) - objects < 100
    assert mappings() - maps < 10
    assert resident_bytes() - resident < 20 * 200_000


def test_a_function_keeps_what_it_needs_and_no_more() -> None:
    x = gx.vector("x", 4)
    constant = np.arange(4.0)
    f = gx.compile([x], [x + constant])
    del x
    constant[:] = 0
    gc.collect()
    np.testing.assert_array_equal(f(np.ones(4))[0], [1, 2, 3, 4])


def test_few_strided_elements_are_copied_where_much_is_done_with_them() -> None:
    """With strides for all inputs the rows of the other argument could not be read in vectors."""
    x, w = gx.symbol("x", ("n", 32), "float64"), gx.symbol("w", (32, 32), "float64")
    f = gx.compile([x, w], gx.sum(gx.square(x @ w), axis=1), options=gx.Options(threads=1))
    generator = np.random.default_rng(2)
    rows, factors = generator.normal(size=(4000, 32)), generator.normal(size=(32, 64))
    want = np.square(rows @ factors[:, ::2]).sum(1)
    np.testing.assert_allclose(f(rows, factors[:, ::2]), want, rtol=1e-12)
    assert not f._impl.descriptor[Word.STRIDED]
    np.testing.assert_allclose(f(rows[:7], factors[:, ::2]), want[:7], rtol=1e-12)
    assert f._impl.descriptor[Word.STRIDED]


def test_the_assembly_is_of_the_code_that_runs() -> None:
    """At the level that each part was compiled at, from the cache too."""
    x = gx.vector("x", "n")
    texts = []
    for level in (0, 2):
        f = gx.compile([x], gx.sum(gx.exp(x) * x), options=gx.Options(opt_level=level))
        texts.append(f.assembly)
        assert pickle.loads(pickle.dumps(f)).assembly == f.assembly
    assert texts[0] != texts[1] and len(texts[0]) > len(texts[1])


def test_containers_of_arguments_in_calls_within_a_call() -> None:
    """The inner call, of the same Function, has the outer one's arrays in another container."""

    class Pair(list):  # type: ignore[type-arg]
        def __init__(self, *items: Any) -> None:
            super().__init__(items)

    x, y = gx.vector("x", 3), gx.vector("y", 3)
    calls: list[Any] = [None] * 3

    def unflatten(children: Any, _: Any) -> Any:
        if len(calls) < 3:
            number = len(calls)
            calls.append(None)
            calls[number] = f({"a": given["a"], "b": given["b"]})
        return Pair(*children)

    gx.register_container(Pair, lambda pair: (list(pair), None), unflatten)
    f = gx.compile([{"a": x, "b": y}], Pair(x * y, x - y))
    given = {"a": np.arange(3.0), "b": np.ones(3)}
    calls.clear()
    result = f(given)
    assert type(result) is Pair and len(calls) == 3
    for each in (result, *calls):
        np.testing.assert_array_equal(each, [given["a"], given["a"] - 1])
    with pytest.raises(TypeError, match="takes"):
        f([given["a"], given["b"]])
