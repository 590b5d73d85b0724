"""Is an array changed where it is, wherever nothing needs what it was?  Loops, chains, donations.

What is copied shows in the program: a launch that does nothing but copy. Values are those of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.program import Launch, Statement, bodies
from graphc.dims import product
from graphc.node import Node

X = gx.symbol("x", ("n",))
STEPS = gx.arange(40)


def statements(body: list[Statement], inside: bool = False) -> Iterator[tuple[Statement, bool]]:
    for statement in body:
        yield statement, inside
        for inner in bodies(statement):
            yield from statements(inner, True)


def copies(f: Any, inside: bool) -> int:
    """How many launches only copy, in loops or outside of them."""
    found = statements(f._impl.program.main.body)
    return sum(isinstance(s, Launch) and s.copies and here == inside for s, here in found)


def add(x: Node) -> Any:
    return gx.scan(lambda s, t: (s.at[t % 7].add(1.5), None), x, STEPS)[0]


def add_by_numpy(x: np.ndarray) -> Any:
    for t in range(40):
        x[t % 7] += 1.5
    return x


def sum_of_earlier(x: Node) -> Any:
    return gx.scan(lambda s, t: (s.at[t + 2].set(s[t + 1] + 0.5 * s[t]), None), x, STEPS)[0]


def sum_of_earlier_by_numpy(x: np.ndarray) -> Any:
    for t in range(40):
        x[t + 2] = x[t + 1] + 0.5 * x[t]
    return x


def twice(x: Node) -> Any:
    def step(s: Node, t: Node) -> tuple[Node, Node]:
        return s.at[t % 7].add(1.5).at[t % 5].multiply(0.5), s[t % 3]

    return gx.scan(step, x, STEPS)


def twice_by_numpy(x: np.ndarray) -> Any:
    seen = []
    for t in range(40):
        seen.append(x[t % 3])
        x[t % 7] += 1.5
        x[t % 5] *= 0.5
    return x, np.array(seen)


def until(x: Node) -> Any:
    def body(h: Any) -> Any:
        return h[0].at[h[1]].set(h[0][h[1]] * 2), h[1] + 1

    return gx.while_loop(lambda h: h[1] < 40, body, (x, gx.constant(0)))[0]


def until_by_numpy(x: np.ndarray) -> Any:
    x[:40] *= 2
    return x


LOOPS = [
    (add, add_by_numpy),
    (sum_of_earlier, sum_of_earlier_by_numpy),
    (twice, twice_by_numpy),
    (until, until_by_numpy),
]


@pytest.mark.parametrize(("build", "by_numpy"), LOOPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_a_state_is_changed_where_it_is(build: Any, by_numpy: Any, target: str) -> None:
    made = build(X)
    outputs = [made[0], made[1]] if isinstance(made, tuple) else [made]
    x = np.random.default_rng(3).normal(size=50)
    f = gx.compile([X], outputs, target=target)
    got = f(x)
    want = by_numpy(x.copy())
    want = list(want) if isinstance(want, tuple) else [want]
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if target == "cpu":
        assert copies(f, inside=False) == 1  # the argument, which stays as it was
        large = {
            tuple(s.operands[1].storage.shape)
            for s, inside in statements(f._impl.program.main.body)
            if inside and isinstance(s, Launch) and s.copies
        }
        assert large <= {()}  # numbers, if anything


def test_what_a_step_still_needs_is_copied() -> None:
    """The second state is the first one as it was: both must be there."""

    def step(s: Any, t: Node) -> Any:
        return (s[0].at[t % 7].add(1.0), s[0] + s[1]), None

    (last, total), _ = gx.scan(step, (X, X), STEPS)
    x = np.random.default_rng(4).normal(size=50)
    got = gx.compile([X], [last, total])(x)
    a, b = x.copy(), x.copy()
    for t in range(40):
        changed = a.copy()
        changed[t % 7] += 1.0
        a, b = changed, a + b
    np.testing.assert_array_equal(got[0], a)
    np.testing.assert_array_equal(got[1], b)


def test_states_that_change_places() -> None:
    (a, b), _ = gx.scan(lambda s, t: ((s[1], s[0] + t), None), (X, X * 2), STEPS[:7])
    x = np.arange(5.0)
    got = gx.compile([X], [a, b])(x)
    p, q = x, x * 2
    for t in range(7):
        p, q = q, p + t
    np.testing.assert_array_equal(got[0], p)
    np.testing.assert_array_equal(got[1], q)


def test_an_array_that_is_changed_several_times_is_one() -> None:
    i = gx.scalar("i", "int64")
    made = gx.sort(X).at[i].set(5.0).at[i + 1].add(2.0).at[i + 2].multiply(3.0)
    f = gx.compile([X, i], made)
    assert copies(f, inside=False) == 0
    x = np.random.default_rng(5).normal(size=9)
    want = np.sort(x)
    want[3], want[4], want[5] = 5.0, want[4] + 2.0, want[5] * 3.0
    np.testing.assert_array_equal(f(x, 3), want)


def test_a_donated_array_is_changed_where_it_is() -> None:
    i = gx.scalar("i", "int64")
    f = gx.compile([X, i], X.at[i].set(5.0), donate=[X])
    assert copies(f, inside=False) == 0
    x = np.arange(6.0)
    result = f(x, 2)
    assert result is x
    np.testing.assert_array_equal(x, [0.0, 1.0, 5.0, 3.0, 4.0, 5.0])


@pytest.mark.parametrize("reverse", [False, True])
def test_states_that_are_given_out_are_rows(reverse: bool) -> None:
    """The states before every step, for a product behind the loop, and the last one."""

    def step(s: Node, t: Node) -> tuple[Node, Node]:
        return gx.tanh(s * 0.5 + t), s

    last, states = gx.scan(step, X, STEPS[:5], reverse=reverse)
    cost = (states * states).sum() + last.sum()
    x = np.random.default_rng(6).normal(size=4)
    f = gx.compile([X], [cost, last, gx.grad(cost, X)])
    want, s = 0.0, x
    for t in reversed(range(5)) if reverse else range(5):
        want += (s * s).sum()
        s = np.tanh(s * 0.5 + t)
    got = f(x)
    np.testing.assert_allclose(got[0], want + s.sum(), rtol=1e-12)
    np.testing.assert_allclose(got[1], s, rtol=1e-12)
    assert copies(f, inside=True) == 0


def test_numbers_are_changed_where_they_are() -> None:
    """Several states of a loop that are numbers, one of which is given out as it was."""
    t = gx.scalar("t")

    def step(s: Any, row: Node) -> tuple[Any, Node]:
        return (s[0] * 0.5 + row, s[1] + s[0]), s[0]

    (a, b), seen = gx.scan(step, (t, t * 2.0), STEPS * 1.0)
    f = gx.compile([t], [a, b, seen])
    assert copies(f, inside=True) == 0
    p, q, rows = 0.3, 0.6, []
    for row in range(40):
        rows.append(p)
        p, q = p * 0.5 + row, q + p
    got = f(0.3)
    np.testing.assert_allclose(got[0], p, rtol=1e-14)
    np.testing.assert_allclose(got[1], q, rtol=1e-14)
    np.testing.assert_allclose(got[2], rows, rtol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("last_is_changed", [False, True])
@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_what_is_copied_of_longer_rows_does_not_take_them_along(
    reverse: bool, last_is_changed: bool, target: str
) -> None:
    """Rows of states lie in one array with the last state, which is read before they are changed;
    the copy that is changed has no place for all of it.
    """
    i = gx.scalar("i", "int64")

    def step(s: Node, t: Node) -> tuple[Node, Node]:
        return gx.tanh(s * 0.5 + t), s

    last, states = gx.scan(step, X, STEPS[:5], reverse=reverse)
    read, changed = (states, last) if last_is_changed else (last, states)
    outputs = [(read * read).sum(), changed.at[i].set(1.0)]
    f = gx.compile([X, i], outputs, target=target)
    for s, _ in statements(f._impl.program.main.body):
        if not isinstance(s, Launch):
            continue
        for operand, buffer in zip(s.operands, s.kernel.buffers, strict=True):
            size = product(operand.storage.shape)
            assert operand.storage.kind != "output" or product(buffer.shape) == size
    x = np.random.default_rng(8).normal(size=4)
    want = gx.evaluate(outputs, {X: x, i: np.int64(1)})
    for mine, theirs in zip(f(x, 1), want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_a_kernel_is_used_again_for_other_arrays_than_a_loop_has_moved(target: str) -> None:
    """In the loop the function is written over its argument, behind the loop it is not."""
    last, _ = gx.scan(lambda s, t: (gx.tanh(s), None), X, STEPS[:3])
    made = gx.sort(last)
    outputs = [gx.tanh(made), made]
    x = np.random.default_rng(9).normal(size=6)
    want = gx.evaluate(outputs, {X: x})
    for mine, theirs in zip(gx.compile([X], outputs, target=target)(x), want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
