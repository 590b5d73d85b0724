"""Does x[key] mean what NumPy means by it, and x.at[key] what np.add.at and assignment do?

Keys are drawn at random: integers, slices with steps of either sign, None, an ellipsis, arrays of
positions of several shapes, masks, truth values; constant or as nodes. What NumPy refuses must be
refused, and everything else must agree on the evaluator and in compiled code, gradients included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc.node import Node

OPTIONS = gx.Options(cache=False, threads=1)


@dataclass(frozen=True)
class Key:
    """A key for an array of some shape. `symbolic` says which of its arrays are to be nodes."""

    shape: tuple[int, ...]
    parts: tuple[Any, ...]
    symbolic: tuple[bool, ...]

    def nodes(self, prefix: str) -> tuple[Any, list[Node], list[Any]]:
        """The key with symbols for some of its arrays, those symbols, and their values."""
        made: list[Any] = []
        symbols: list[Node] = []
        values: list[Any] = []
        for i, (part, as_node) in enumerate(zip(self.parts, self.symbolic, strict=True)):
            whole = isinstance(part, (int, np.ndarray)) and not isinstance(part, bool)
            if whole and as_node and np.asarray(part).dtype.kind == "i":
                array = np.asarray(part, np.int64)
                symbols.append(gx.symbol(f"{prefix}_{i}", array.shape, "int64"))
                values.append(array)
                made.append(symbols[-1])
            else:
                made.append(part)
        return tuple(made), symbols, values


@st.composite
def slices(draw: Callable[..., Any], size: int) -> slice:
    bound = st.none() | st.integers(-size - 2, size + 2)
    step = st.none() | st.sampled_from((1, 2, 3, -1, -2, -3))
    return slice(draw(bound), draw(bound), draw(step))


@st.composite
def keys(draw: Callable[..., Any]) -> Key:
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=0, max_size=4)))
    common = tuple(draw(st.lists(st.sampled_from((1, 2, 3)), max_size=2)))
    parts: list[Any] = []
    axis = 0
    while axis < len(shape) and draw(st.integers(0, 9)) > 0:
        size = shape[axis]
        kind = draw(st.sampled_from(("slice", "slice", "int", "array", "array", "mask", "none")))
        if kind == "none":
            parts.append(None)
            continue
        if kind == "slice":
            parts.append(draw(slices(size)))
        elif kind == "int":
            parts.append(draw(st.integers(-size - 1, size)))
        elif kind == "array":
            inner = tuple(e if draw(st.booleans()) else 1 for e in common)
            inner = inner[draw(st.integers(0, len(inner))) :]
            count = int(np.prod(inner))
            low, high = (-size, size - 1) if size else (0, 0)
            flat = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
            parts.append(np.array(flat, np.int64).reshape(inner))
        else:
            rank = draw(st.integers(1, min(2, len(shape) - axis)))
            extents = shape[axis : axis + rank]
            count = int(np.prod(extents))
            flat = draw(st.lists(st.booleans(), min_size=count, max_size=count))
            parts.append(np.array(flat, bool).reshape(extents))
            axis += rank - 1
        axis += 1
    extra = draw(st.integers(0, 11))
    if extra == 0:
        parts.insert(draw(st.integers(0, len(parts))), True)
    if extra == 1:
        parts.insert(draw(st.integers(0, len(parts))), False)
    if extra in (2, 3, 4):
        parts.insert(draw(st.integers(0, len(parts))), Ellipsis)
    symbolic = tuple(draw(st.booleans()) for _ in parts)
    return Key(shape, tuple(parts), symbolic)


def array_of(shape: Sequence[int], start: float = 1.0) -> Any:
    return np.arange(start, start + np.prod(shape, dtype=int), dtype=float).reshape(shape)


def taken(key: Key) -> Any:
    """What NumPy finds, or the exception it raises."""
    try:
        return array_of(key.shape)[key.parts]
    except IndexError as error:
        return error


def nothing_is_read(x: Node, index: Any) -> bool:
    try:
        return x[index].size == 0
    except gx.GraphError:
        return False


@settings(max_examples=400, deadline=None)
@given(keys())
def test_reading_is_numpys(key: Key) -> None:
    x = gx.symbol("x", key.shape)
    index, symbols, values = key.nodes("i")
    want = taken(key)
    given = dict(zip([x, *symbols], [array_of(key.shape), *values], strict=True))
    if isinstance(want, IndexError):
        if symbols and nothing_is_read(x, index):
            return  # and so nothing is checked at run time
        with pytest.raises((gx.GraphError, IndexError)):
            gx.evaluate(x[index], given)
        return
    try:
        node = x[index]
        assert node.shape == want.shape
        np.testing.assert_array_equal(gx.evaluate(node, given), want)
    except (gx.GraphError, IndexError):
        assert want.size == 0, key  # NumPy lets positions pass that do not fit if nothing is read


# -- updates ---------------------------------------------------------------------------------------

UPDATES = ("set", "add", "multiply", "max", "min")
UFUNCS = {"add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum}


def updated(key: Key, how: str, values: Any) -> Any:
    """What NumPy makes of an array: element by element, in order."""
    made = array_of(key.shape)
    if how == "set":
        # assignment through one array of positions: the last of several values stays
        flat = np.arange(made.size).reshape(made.shape)[key.parts].reshape(-1)
        made.reshape(-1)[flat] = np.broadcast_to(values, taken(key).shape).reshape(-1)
    else:
        UFUNCS[how].at(made, key.parts, values)
    return made


def values_for(shape: tuple[int, ...], seed: int) -> Any:
    """Distinct values that broadcast to a shape."""
    random = np.random.default_rng(seed)
    own = tuple(e if random.integers(3) else 1 for e in shape)[random.integers(2) :]
    return random.permutation(int(np.prod(own))).reshape(own) * 1.5 - 3.25


usable = keys().filter(lambda key: not isinstance(taken(key), IndexError) and taken(key).size)


@settings(max_examples=150, deadline=None)
@given(usable, st.sampled_from(UPDATES), st.integers(0, 99))
def test_updates_are_numpys(key: Key, how: str, seed: int) -> None:
    x = gx.symbol("x", key.shape)
    index, symbols, positions = key.nodes("i")
    values = values_for(taken(key).shape, seed)
    v = gx.symbol("v", values.shape)
    node = getattr(x.at[index], how)(v)
    given = dict(zip([x, v, *symbols], [array_of(key.shape), values, *positions], strict=True))
    np.testing.assert_allclose(gx.evaluate(node, given), updated(key, how, values), rtol=1e-12)


# A function holds this many expressions: compiling is what takes the time.
TOGETHER = 12


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(usable, st.sampled_from(UPDATES)), min_size=TOGETHER, max_size=TOGETHER))
def test_compiled_reads_and_updates_are_numpys(cases: list[tuple[Key, str]]) -> None:
    """Read, and updated, in one function: through views, gathers and scatters of every kind."""
    inputs: list[Node] = []
    arrays: list[Any] = []
    outputs: list[Node] = []
    wanted: list[Any] = []
    for i, (key, how) in enumerate(cases):
        index, symbols, positions = key.nodes(f"i{i}")
        values = values_for(taken(key).shape, i)
        x, v = gx.symbol(f"x{i}", key.shape), gx.symbol(f"v{i}", values.shape)
        inputs += [x, v, *symbols]
        arrays += [array_of(key.shape), values, *positions]
        outputs += [x[index], getattr(x.at[index], how)(v) + 1]
        wanted += [taken(key), updated(key, how, values) + 1]
    function = gx.compile(inputs, outputs, options=OPTIONS)
    for (key, how), got, want in zip(
        [case for case in cases for _ in range(2)], function(*arrays), wanted, strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=f"{key} {how}")


@settings(max_examples=40, deadline=None)
@given(usable, st.sampled_from(UPDATES), st.integers(0, 99))
def test_gradients_of_reads_and_updates(key: Key, how: str, seed: int) -> None:
    """Against differences along a random direction, by both modes."""
    random = np.random.default_rng(seed)
    x = gx.symbol("x", key.shape)
    index, symbols, positions = key.nodes("i")
    point = random.permutation(int(np.prod(key.shape))).reshape(key.shape) * 0.5 + 0.1
    values = values_for(taken(key).shape, seed) + 0.013
    v = gx.symbol("v", values.shape)
    weights = [random.normal(size=key.shape), random.normal(size=taken(key).shape)]
    cost = gx.sum(getattr(x.at[index], how)(v) * weights[0]) + gx.sum(x[index] * weights[1])
    inputs, at = [x, v], [point, values]
    steps = [random.normal(size=point.shape), random.normal(size=values.shape)]

    def given(t: float) -> dict[Node, Any]:
        moved = [a + t * step for a, step in zip(at, steps, strict=True)]
        return dict(zip([*inputs, *symbols], [*moved, *positions], strict=True))

    # products of several updates of one place are polynomials of low degree; everything else is
    # linear near the point
    h = 1e-4
    want = (gx.evaluate(cost, given(h)) - gx.evaluate(cost, given(-h))) / (2 * h)
    gradients = gx.evaluate(gx.grad(cost, inputs), given(0))
    pulled = sum(np.sum(g * step) for g, step in zip(gradients, steps, strict=True))
    pushed = gx.evaluate(gx.jvp([cost], inputs, steps)[0], given(0))
    scale = 1 + sum(np.sum(np.abs(g * step)) for g, step in zip(gradients, steps, strict=True))
    assert abs(pulled - pushed) <= 1e-12 * scale
    assert abs(pulled - want) <= 1e-5 * scale, key


def test_of_several_values_for_one_place_the_last_stays() -> None:
    x, v = gx.vector("x", 4), gx.vector("v", 5)
    where = np.array([1, 3, 1, -1, 1])
    node = x.at[where].set(v)
    values = np.arange(5.0) + 10
    given = {x: np.zeros(4), v: values}
    np.testing.assert_array_equal(gx.evaluate(node, given), [0, 14, 0, 13])
    by_x, by_v = gx.evaluate(gx.grad(gx.sum(node * np.arange(1.0, 5.0)), [x, v]), given)
    np.testing.assert_array_equal(by_x, [1, 0, 3, 0])
    np.testing.assert_array_equal(by_v, [0, 0, 0, 4, 2])


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_a_position_out_of_range_names_the_axis_and_the_line(target: str) -> None:
    x, i, j = gx.matrix("x", (3, 5)), gx.vector("i", 2, "int64"), gx.vector("j", 2, "int64")
    for node in (x[i, j], x.at[i, j].set(0.0), x[:, ::-1][i, j]):
        function = gx.compile([x, i, j], [node], target=target, options=OPTIONS)
        good = [np.ones((3, 5)), np.array([0, -3]), np.array([-2, 1])]
        function(*good)
        with pytest.raises(IndexError, match=r"index 7 is out of range for axis 1 of extent") as e:
            function(*good[:2], np.array([0, 7]))
        assert "test_subscripts.py" in str(e.value)
        with pytest.raises(IndexError, match=r"index -4 is out of range for axis 0 of extent 3"):
            function(good[0], np.array([0, -4]), good[2])


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_a_window_out_of_range(target: str) -> None:
    x, i = gx.vector("x", 6), gx.scalar("i", "int64")
    node = gx.dynamic_slice(x, (i,), (4,), mode="raise")
    function = gx.compile([x, i], [node], target=target, options=OPTIONS)
    np.testing.assert_array_equal(function(np.arange(6.0), np.int64(2))[0], [2, 3, 4, 5])
    with pytest.raises(IndexError, match="a window of 4 at index 3 is out of range for axis 0"):
        function(np.arange(6.0), np.int64(3))


# -- named extents ---------------------------------------------------------------------------------

n, m = gx.dim("n"), gx.dim("m")
NAMED: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "half": lambda xp, x, n, m: x[: n // 2],
    "from the middle": lambda xp, x, n, m: x[n // 2 :, 1:],
    "around": lambda xp, x, n, m: x[1 : n - 1, -m:],
    "from before the start": lambda xp, x, n, m: x[max(n - 3, 0) if xp is np else n - 3 :],
    "last": lambda xp, x, n, m: x[n - 1],
    "backwards": lambda xp, x, n, m: x[::-1],
    "backwards by two": lambda xp, x, n, m: x[::-2, ::-3],
    "backwards from five": lambda xp, x, n, m: x[5::-1],
    "backwards to one": lambda xp, x, n, m: x[:1:-1],
    "backwards within": lambda xp, x, n, m: x[-2:0:-2],
    "far": lambda xp, x, n, m: x[100:, -100:100],
    "array": lambda xp, x, n, m: x[[0, -1], 1:],
    "arrays": lambda xp, x, n, m: x[[0, -1], [1, 0]],
    "roll": lambda xp, x, n, m: xp.roll(x, 3, axis=0),
    "roll all": lambda xp, x, n, m: xp.roll(x, -2),
    "tile": lambda xp, x, n, m: xp.tile(x, (2, 1)),
    "repeat": lambda xp, x, n, m: xp.repeat(x, 3, axis=1),
    "ravel": lambda xp, x, n, m: xp.ravel(x, "F"),
    "rot90": lambda xp, x, n, m: xp.rot90(x),
    "diagonal": lambda xp, x, n, m: xp.diagonal(x, 1),
    "trace": lambda xp, x, n, m: xp.trace(x),
    "diagflat": lambda xp, x, n, m: xp.diagflat(x[0], -1),
    "tril": lambda xp, x, n, m: xp.tril(x, 1),
    "triu": lambda xp, x, n, m: xp.triu(x),
    "eye": lambda xp, x, n, m: xp.eye(n, m, 1),
    "arange": lambda xp, x, n, m: xp.arange(1, n * 2, 3),
    "arange down": lambda xp, x, n, m: xp.arange(n, 0, -2),
    "linspace": lambda xp, x, n, m: xp.linspace(x[0], 1.0, n),
    "stack": lambda xp, x, n, m: xp.stack([x[0], x[1]]),
    "hstack": lambda xp, x, n, m: xp.hstack([x, x[:, :2]]),
    "split": lambda xp, x, n, m: xp.concatenate(xp.array_split(x, 3)[::-1]),
    "meshgrid": lambda xp, x, n, m: xp.meshgrid(x[0], x[:, 0])[0],
    "indices": lambda xp, x, n, m: xp.indices((n, m)),
    **{
        f"pad {mode}": lambda xp, x, n, m, mode=mode: xp.pad(x, (3, 2), mode=mode)
        for mode in ("constant", "edge", "reflect", "symmetric", "wrap", "mean", "linear_ramp")
    },
    "reshape": lambda xp, x, n, m: xp.reshape(x, (-1, m)),
}


@pytest.mark.parametrize("sizes", [(4, 6), (7, 3), (2, 2)])
def test_named_extents(sizes: tuple[int, int]) -> None:
    """One function for every size: what each expression gives is what NumPy gives at that size."""
    x = gx.symbol("x", ("n", "m"))
    outputs = [call(gx, x, n, m) for call in NAMED.values()]
    array = array_of(sizes)
    wanted = [call(np, array, *sizes) for call in NAMED.values()]
    for results in (named_function()(array), gx.evaluate(outputs, {x: array})):
        for name, got, want in zip(NAMED, results, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13, err_msg=name)


@pytest.fixture(scope="module", autouse=True)
def _compiled_once() -> None:
    named_function.cache.clear()


def named_function() -> Any:
    """The function of all expressions over named extents, compiled once."""
    if not named_function.cache:
        x = gx.symbol("x", ("n", "m"))
        outputs = [call(gx, x, n, m) for call in NAMED.values()]
        named_function.cache.append(gx.compile([x], outputs, options=OPTIONS))
    return named_function.cache[0]


named_function.cache = []


def test_that_named_extents_fit_is_checked_at_entry() -> None:
    x, y = gx.vector("x", "n"), gx.matrix("y", ("a", "b"))
    rows = gx.compile([x], [gx.reshape(x, (-1, 4))], options=OPTIONS)
    assert rows(np.ones(8))[0].shape == (2, 4)
    with pytest.raises(ValueError, match="must be equal"):
        rows(np.ones(9))
    halves = gx.compile([x], gx.split(x, 2), options=OPTIONS)
    np.testing.assert_array_equal(halves(np.arange(4.0))[1], [2, 3])
    with pytest.raises(ValueError, match="must be equal"):
        halves(np.ones(5))
    joined = gx.compile([x, y], [gx.concatenate([x[None], y])], options=OPTIONS)
    assert joined(np.ones(3), np.ones((2, 3)))[0].shape == (3, 3)
    with pytest.raises(ValueError, match="must be equal"):
        joined(np.ones(3), np.ones((2, 4)))


# -- what is folded --------------------------------------------------------------------------------

FOLDED: dict[str, Callable[[Node], Node]] = {
    "roll": lambda x: gx.roll(x, 3, 0),
    "flip": lambda x: gx.flip(x),
    "tile": lambda x: gx.tile(x, (2, 2)),
    "repeat": lambda x: gx.repeat(x, 2, 1),
    "pad": lambda x: gx.pad(x, 2),
    "pad edge": lambda x: gx.pad(x, 2, mode="edge"),
    "pad reflect": lambda x: gx.pad(x, 2, mode="reflect"),
    "rot90": lambda x: gx.rot90(x),
    "diagonal": lambda x: gx.diagonal(x, 1),
    "slices": lambda x: x[1:, ::-2],
    "update of a slice": lambda x: x.at[1:-1].multiply(2.0),
    "rows by position": lambda x: x[np.array([0, 2, 2])],
    "a window": lambda x: gx.dynamic_slice(x, (gx.scalar("i", "int64"), 0), (2, 6)),
    "triangle": lambda x: gx.tril(x),
    "block": lambda x: gx.block([[x, x], [x, x]]),
}


@pytest.mark.parametrize("name", FOLDED)
def test_views_are_folded_into_what_reads_them(name: str) -> None:
    """What is moved, and the work before and after it, is one kernel."""
    x = gx.symbol("x", (5, 6))
    node = gx.exp(FOLDED[name](x * 2) + 1)
    inputs = [x, gx.scalar("i", "int64")] if name == "a window" else [x]
    function = gx.compile(inputs, [node], options=OPTIONS)
    assert len(function.kernels) == 1, function.report()
