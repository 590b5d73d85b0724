"""Do `gx.scan` and `gx.call` mean what their NumPy functions say, also where there is little to
loop?

Every graph is compared with `gx.evaluate`, natively and on the kernel interpreter, for several
numbers of steps, none among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx

OPTIONS = gx.Options(cache=False)
STEPS = (4, 1, 0)
Arrays = Sequence[Any]


def compare(inputs: Sequence[Any], outputs: Any, arrays: Arrays, rtol: float = 1e-9) -> list[Any]:
    """Compile for both targets, compare with the evaluator, and return the values."""
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    wanted = [
        np.asarray(a) for a in gx.evaluate(list(outputs), dict(zip(inputs, arrays, strict=True)))
    ]
    for target in ("cpu", "interpret"):
        f = gx.compile(list(inputs), list(outputs), target=target, options=OPTIONS)
        for got, value in zip(f(*arrays), wanted, strict=True):
            assert got.dtype == value.dtype and got.shape == value.shape
            np.testing.assert_allclose(got, value, rtol=rtol, atol=1e-12, err_msg=target)
    return wanted


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1)


X = gx.matrix("x", ("n", 3))
S = gx.vector("s", 3)
C = gx.scalar("c")
INPUTS = [X, S, C]


def values(random: np.random.Generator, steps: int) -> Arrays:
    return [random.uniform(-1, 1, (steps, 3)), random.uniform(-1, 1, 3), 0.5]


def body(state: Any, row: Any) -> tuple[Any, Any]:
    """Captures a scalar, keeps a state, gives a row."""
    return gx.tanh(state * C + row), state * 2


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_final_states_and_stacked_results(
    random: np.random.Generator, steps: int, reverse: bool
) -> None:
    final, rows = gx.scan(body, S, X, reverse=reverse)
    arrays = values(random, steps)
    found = compare(INPUTS, [final, rows], arrays)
    state, expected = arrays[1], np.zeros((steps, 3))
    for t in reversed(range(steps)) if reverse else range(steps):
        expected[t] = state * 2
        state = np.tanh(state * 0.5 + arrays[0][t])
    np.testing.assert_allclose(found[0], state)
    np.testing.assert_allclose(found[1], expected)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kept", [0, 1])
def test_a_result_that_nobody_reads(random: np.random.Generator, steps: int, kept: int) -> None:
    compare(INPUTS, [gx.scan(body, S, X)[kept]], values(random, steps))


def test_states_of_every_dtype(random: np.random.Generator) -> None:
    k, b, f = gx.scalar("k", "int64"), gx.scalar("b", "bool"), gx.scalar("f", "float32")

    def step(state: dict[str, Any], row: Any) -> tuple[Any, Any]:
        new = {
            "k": state["k"] * 3 + 1,
            "b": ~state["b"],
            "f": state["f"] * 0.5 + gx.cast(row[0], "float32"),
        }
        return new, (state["k"], state["b"], state["f"] > 0)

    final, rows = gx.scan(step, {"k": k, "b": b, "f": f}, X)
    outputs = [final["k"], final["b"], final["f"], *rows]
    found = compare([X, k, b, f], outputs, [random.random((5, 3)), 1, True, np.float32(0.25)])
    assert found[0] == 364 and not found[1]
    assert [o.dtype.name for o in found[3:]] == ["int64", "bool", "bool"]


def test_states_that_change_places() -> None:
    a, b = gx.scalar("a", "int64"), gx.scalar("b", "int64")
    (first, second), rows = gx.scan(
        lambda s, _: ((s[1], s[0] + s[1]), s[0]), (a, b), None, length=10
    )
    found = compare([a, b], [first, second, rows], [0, 1])
    assert found[2].tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


def test_states_that_only_swap(random: np.random.Generator) -> None:
    (first, second), _ = gx.scan(lambda s, x: ((s[1], s[0]), None), (S, S * 2), X)
    for steps in (0, 1, 2, 3):
        compare([X, S], [first, second], [random.random((steps, 3)), random.random(3)])


@pytest.mark.parametrize("steps", STEPS)
def test_results_that_are_not_computed(random: np.random.Generator, steps: int) -> None:
    """A captured value, the state, the row, constants, the same thing twice."""
    final, rows = gx.scan(
        lambda s, x: (s, (C, s, s, x, C * 2, gx.constant(3.0), gx.constant([1, 2]))), S, X
    )
    compare(INPUTS, [final, *rows], values(random, steps))


def test_a_body_that_reads_nothing(random: np.random.Generator) -> None:
    final, rows = gx.scan(lambda s, x: (gx.zeros(3), gx.constant(1.0)), S, X)
    compare([X, S], [final, rows], [random.random((4, 3)), random.random(3)])


def test_no_state_and_no_rows(random: np.random.Generator) -> None:
    nothing, rows = gx.scan(lambda s, x: (s, x * 2), None, X)
    assert nothing is None
    compare([X], [rows], [random.random((4, 3))])
    final, nothing = gx.scan(lambda s, x: (s * 2, None), C, None, length=3)
    assert nothing is None
    assert compare([C], [final], [1.0])[0] == 8.0
    assert gx.scan(lambda s, x: (None, None), None, None, length=3) == (None, None)


def test_nested_containers(random: np.random.Generator) -> None:
    state = {"a": [S, None], "b": (C, ())}

    def step(s: Any, x: Any) -> tuple[Any, Any]:
        return {"a": [s["a"][0] + x["row"], None], "b": (s["b"][0] + 1, ())}, [{"r": x["row"][0]}]

    final, rows = gx.scan(step, state, {"row": X})
    assert final["a"][1] is None and final["b"][1] == ()
    compare(INPUTS, [final["a"][0], final["b"][0], rows[0]["r"]], values(random, 4))


def test_rows_that_are_views(random: np.random.Generator) -> None:
    _, rows = gx.scan(lambda s, a: (s + gx.sum(a), a * s), 0.0, X.T[::-1, ::2])
    compare([X], [rows], [random.random((5, 3))])


def test_rows_without_elements() -> None:
    final, rows = gx.scan(lambda s, a: (s + gx.sum(a), a * 2), C, gx.zeros((4, 0)))
    compare([C], [final, rows], [1.0])


def test_many_equal_states(random: np.random.Generator) -> None:
    final, _ = gx.scan(lambda s, a: ([q + a for q in s], None), [S] * 30, X)
    compare([X, S], final, [random.random((3, 3)), random.random(3)])


@pytest.mark.parametrize("extra", [2, -1])
def test_a_length_from_an_extent(random: np.random.Generator, extra: int) -> None:
    final, rows = gx.scan(lambda s, _: (s * 2, s), C, None, length=X.shape[0] + extra)
    arrays = [random.random((5, 3)), 1.0]
    assert compare([X, C], [final, rows], arrays)[1].shape == (5 + extra,)


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_a_length_that_becomes_negative(target: str) -> None:
    final, _ = gx.scan(lambda s, _: (s * 2, None), C, None, length=X.shape[0] - 2)
    f = gx.compile([X, C], [final], target=target, options=OPTIONS)
    assert f(np.ones((2, 3)), 1.0)[0] == 1.0
    with pytest.raises(ValueError, match="n - 2 is -1"):
        f(np.ones((1, 3)), 1.0)


def test_a_state_that_is_a_product_of_matrices(random: np.random.Generator) -> None:
    m = gx.matrix("m", (3, 3))
    final, rows = gx.scan(lambda s, _: (s @ m, s), m, None, length=5)
    matrix = random.random((3, 3))
    found = compare([m], [final, rows], [matrix])
    np.testing.assert_allclose(found[0], np.linalg.matrix_power(matrix, 6))


def test_a_row_kernel_and_a_position_in_the_body(random: np.random.Generator) -> None:
    m = gx.matrix("m", (3, 3))
    _, rows = gx.scan(lambda s, _: (gx.softmax(s @ m), gx.argmax(s, axis=1)), m, None, length=5)
    compare([m], [rows], [random.random((3, 3))])


def test_positions_from_the_loop(random: np.random.Generator) -> None:
    i = gx.vector("i", "m", "int64")
    final, _ = gx.scan(lambda s, j: (s + gx.take(X, j, axis=0), None), S, i)
    arrays = [random.random((4, 3)), random.random(3), np.array([0, 3, -1, 3])]
    compare([X, S, i], [final, *gx.grad(gx.sum(final * final), [X, S])], arrays)


def test_a_long_scan_is_exact() -> None:
    final, _ = gx.scan(lambda s, _: (s + 1, None), gx.scalar("k", "int64"), None, length=100_000)
    f = gx.compile([gx.scalar("k", "int64")], [final], options=OPTIONS)
    assert f(5)[0] == 100_005


# -- regions in regions ----------------------------------------------------------------------------


def nested(state: Any, row: Any) -> tuple[Any, Any]:
    total, rows = gx.scan(lambda u, v: (u * 0.5 + v + C, u), row[0], row)
    return state + total, rows


@pytest.mark.parametrize("steps", STEPS)
def test_a_scan_in_a_scan(random: np.random.Generator, steps: int) -> None:
    final, rows = gx.scan(nested, C, X)
    arrays = [random.random((steps, 3)), 0.5]
    compare([X, C], [final, rows, *gx.grad(final + gx.sum(rows**2), [X, C])], arrays)


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_row_of_a_scan_that_starts_an_inner_one(random: np.random.Generator, rounds: int) -> None:
    """From a slice of one array to a slice of another: only that many elements are copied."""

    def step(state: Any, row: Any) -> tuple[Any, Any]:
        inner = gx.fori_loop(0, rounds, lambda i, held: held * 0.5 + i, row)
        return state + row, (inner, state)

    final, rows = gx.scan(step, gx.zeros(3), X)
    compare([X], [final, *rows], [random.random((4, 3))])


def test_nested_second_derivative(random: np.random.Generator) -> None:
    final, rows = gx.scan(nested, C, X)
    first = gx.grad(final + gx.sum(rows**2), [X, C])
    second = gx.grad(gx.sum(first[0] ** 2) + first[1] ** 2, [X, C])
    compare([X, C], second, [random.random((4, 3)), 0.5])


def test_scans_six_deep() -> None:
    def deep(level: int, value: Any) -> Any:
        if level == 0:
            return value + 1
        return gx.scan(lambda s, _: (deep(level - 1, s), None), value, None, length=2)[0]

    assert compare([C], [deep(6, C)], [0.0])[0] == 64.0
    compare([C], [gx.grad(deep(3, C) ** 2, C)], [1.0])


def product_and_more(p: Any, q: Any) -> tuple[Any, Any]:
    return gx.tanh(gx.dot(p, q)) + C, p * q


@pytest.mark.parametrize("steps", STEPS)
def test_a_call_in_a_scan(random: np.random.Generator, steps: int) -> None:
    final, rows = gx.scan(
        lambda s, a: (gx.call(product_and_more, s, a)[0] * a, gx.call(product_and_more, a, s)[1]),
        S,
        X,
    )
    cost = gx.sum(final) + gx.sum(rows)
    compare(INPUTS, [final, rows, *gx.grad(cost, INPUTS)], values(random, steps))


@pytest.mark.parametrize("steps", STEPS)
def test_a_scan_in_a_call(random: np.random.Generator, steps: int) -> None:
    made = gx.call(lambda a: gx.scan(lambda s, r: (s + r * C, s), S, a)[1], X)
    compare(INPUTS, [made, *gx.grad(gx.sum(made * made), INPUTS)], values(random, steps))


def test_calls_twenty_deep() -> None:
    def deep(level: int, value: Any) -> Any:
        return (
            value * value + 0.1
            if level == 0
            else gx.call(lambda u: deep(level - 1, u) * 0.5, value)
        )

    compare([C], [deep(20, C), gx.grad(deep(20, C), C)], [0.5])


# -- call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda a: a,
        lambda a: gx.zeros((4, 3)) + 1,
        lambda a: a.T[:, ::-1],
        lambda a: gx.constant(2.0),
        lambda a: gx.sum(a) * C,
        lambda a: gx.exp(a) @ a.T,
        lambda a: a[0],
    ],
)
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::-1, ::-1], lambda x: x.T])
def test_what_a_called_body_may_give(
    random: np.random.Generator, function: Any, view: Any
) -> None:
    made = gx.call(function, view(X))
    compare(INPUTS, [made, gx.sum(made) * 2], values(random, 4))


def test_results_that_are_arguments_or_come_twice(random: np.random.Generator) -> None:
    results = gx.call(lambda a, b: (a, a, b + 1, b + 1, a), S, S)
    compare([S], list(results), [random.random(3)])


def test_a_call_without_arguments(random: np.random.Generator) -> None:
    compare([S], [gx.call(lambda: S * 2)], [random.random(3)])


def test_a_call_that_gives_nothing() -> None:
    assert gx.call(lambda a: None, S) is None
    assert gx.call(lambda a: {"a": None, "b": ()}, S) == {"a": None, "b": ()}


def test_equal_bodies_are_lowered_once(random: np.random.Generator) -> None:
    value: Any = S
    for _ in range(50):
        value = gx.call(lambda a: gx.tanh(a) * gx.sum(a), value)
    f = gx.compile([S], [value], options=OPTIONS)
    assert len(f.program.procedures) == 1
    compare([S], [value], [random.random(3)])


def test_bodies_over_other_extents_are_not_mixed_up(random: np.random.Generator) -> None:
    y = gx.matrix("y", (3, "n"))
    made = [gx.call(lambda a: gx.sum(a, axis=0) / a.shape[0], z) for z in (X, y)]
    compare([X, y], made, [random.random((4, 3)), random.random((3, 4))])


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_derivatives(random: np.random.Generator, steps: int, reverse: bool) -> None:
    final, rows = gx.scan(body, S, X, reverse=reverse)
    cost = gx.sum(final) + gx.sum(rows * rows)
    first = gx.grad(cost, INPUTS)
    arrays = values(random, steps)
    compare(INPUTS, first, arrays)
    again = gx.grad(gx.sum(gx.tanh(first[0])) + gx.sum(first[1] ** 2) + first[2], INPUTS)
    compare(INPUTS, again, arrays, rtol=1e-8)
    compare(INPUTS, [gx.hvp(cost, S, S * 3)], arrays)


@pytest.mark.parametrize("steps", STEPS)
def test_forward_and_reverse_agree(random: np.random.Generator, steps: int) -> None:
    outputs = list(gx.scan(body, S, X))
    tangents = [X * 2 + 1, S - 1, gx.constant(0.5)]
    cotangents = [gx.cos(y) if hasattr(gx, "cos") else y * y for y in outputs]
    pushed = gx.jvp(outputs, INPUTS, tangents)
    pulled = gx.vjp(outputs, INPUTS, cotangents)
    left = sum(gx.sum(c * t) for c, t in zip(cotangents, pushed, strict=True))
    right = sum(gx.sum(c * t) for c, t in zip(pulled, tangents, strict=True))
    found = compare(INPUTS, [left, right], values(random, steps))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_gradient_by_differences(random: np.random.Generator) -> None:
    final, rows = gx.scan(body, S, X)
    cost = gx.sum(final * final) + gx.sum(rows)
    arrays = values(random, 4)
    f = gx.compile(INPUTS, [cost, *gx.grad(cost, INPUTS)], options=OPTIONS)
    _, *gradient = f(*arrays)
    step = 1e-6
    for position, slope in enumerate(gradient):
        moved = [np.array(a, float) for a in arrays]
        for index in np.ndindex(slope.shape):
            ends = []
            for sign in (1, -1):
                moved[position][index] += sign * step
                ends.append(f(*moved)[0])
                moved[position][index] -= sign * step
            np.testing.assert_allclose(
                slope[index], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-7
            )


def test_integer_states_carry_no_derivative(random: np.random.Generator) -> None:
    def step(state: tuple[Any, Any], row: Any) -> tuple[Any, Any]:
        count, total = state
        return (count + 1, total + row[0] * gx.cast(count, "float64")), count

    (count, total), _ = gx.scan(step, (gx.scalar("k", "int64"), C), X)
    k = gx.scalar("k", "int64")
    arrays = [random.random((3, 3)), 0.5, 2]
    found = compare([X, C, k], [count, *gx.grad(total, [X, C])], arrays)
    assert found[1][:, 0].tolist() == [2.0, 3.0, 4.0]


def test_a_value_captured_by_both_levels(random: np.random.Generator) -> None:
    w = gx.matrix("w", (3, 3))

    def outer(state: Any, row: Any) -> tuple[Any, Any]:
        inner, _ = gx.scan(lambda u, v: (gx.tanh(u @ w + v), None), state, X)
        return inner @ w + row, gx.sum(inner * w)

    final, rows = gx.scan(outer, S, X)
    cost = gx.sum(final) + gx.sum(rows)
    arrays = [random.uniform(-1, 1, (3, 3)), random.random(3), random.uniform(-1, 1, (3, 3))]
    compare([X, S, w], [cost, *gx.grad(cost, [X, S, w])], arrays)


def test_hessian_of_a_power_of_a_matrix(random: np.random.Generator) -> None:
    m = gx.matrix("m", (3, 3))
    final, _ = gx.scan(lambda s, _: (s @ m, None), m, None, length=5)
    compare([m], [gx.hessian(gx.sum(final) * 1e-2, m)], [random.random((3, 3))])


# -- loops within loops ----------------------------------------------------------------------------


def test_the_last_state_of_an_inner_loop_is_the_state_of_the_outer_one(
    random: np.random.Generator,
) -> None:
    """The inner loop also gives out the state before every step, in a place of its own."""

    def inner(state: Any, row: Any) -> tuple[Any, Any]:
        return gx.tanh(state * C + row), state

    def outer(state: Any, _: Any) -> tuple[Any, Any]:
        final, rows = gx.scan(inner, state, X)
        return final, (rows * rows).sum()

    for steps in (3, 1, 0):
        final, sums = gx.scan(outer, S, length=3)
        compare(INPUTS, [final, sums], values(random, steps))


def test_the_states_of_an_inner_loop_are_the_state_of_the_outer_one(
    random: np.random.Generator,
) -> None:
    start = gx.matrix("start", (4, 3))

    def outer(state: Any, _: Any) -> tuple[Any, Any]:
        _, rows = gx.scan(lambda s, row: (gx.tanh(s * C + row), s), S, state, reverse=True)
        return rows, rows[0]

    final, rows = gx.scan(outer, start, length=3)
    arrays = [random.uniform(-1, 1, (4, 3)), *values(random, 1)[1:]]
    compare([start, S, C], [final, rows], arrays)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_loops_that_only_hand_their_state_down(random: np.random.Generator, depth: int) -> None:
    def nested(state: Any, level: int) -> Any:
        if level == 0:
            return gx.tanh(state * C) + S
        return gx.scan(lambda s, _: (nested(s, level - 1), None), state, length=2)[0]

    compare([S, C], [nested(S * 2, depth), nested(S, depth)], [random.uniform(-1, 1, 3), 0.5])
