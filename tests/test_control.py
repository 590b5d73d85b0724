"""Choices and loops: what runs, what is an argument, derivatives of every mode, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.graph import Graph
from graphc.node import Node, topological
from graphc.ops.branch import switch_op
from graphc.ops.iteration import while_op

x, s, k = gx.vector("x", "n"), gx.scalar("s"), gx.scalar("k", "int64")
VALUES = np.linspace(0.3, 2.0, 5)


def agree(inputs: list[Node], outputs: Any, *values: Any) -> Any:
    """The compiled and the interpreted results, after comparing them with the evaluator's."""
    expected = gx.evaluate(outputs, dict(zip(inputs, values, strict=True)))
    for target in ("cpu", "interpret"):
        got = gx.compile(inputs, outputs, target=target)(*values)
        for a, b in zip(flat(got), flat(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)
    return got


def flat(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        return [value]
    return [leaf for item in value for leaf in flat(item)]


def node_of(expression: Node) -> Node:
    return next(n for n in topological([expression]) if n.op in (switch_op, while_op))


# -- choices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [1.5, -2.0, 0.0])
def test_cond_and_its_gradient(where: float) -> None:
    out = gx.cond(s > 0, lambda v: gx.exp(v) * s, lambda v: 1 - v, x)
    agree([x, s], [out, *gx.grad(gx.sum(out), [x, s])], VALUES, where)


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 9])
def test_switch_takes_the_nearest_branch(index: int) -> None:
    out = gx.switch(k, [lambda a: a, lambda a: a * 2, lambda a: gx.sum(a)], x)
    expected = [VALUES, VALUES * 2, np.full(5, VALUES.sum())][min(max(index, 0), 2)]
    np.testing.assert_allclose(agree([k, x], out, index, VALUES), expected)


def test_only_the_branch_that_is_chosen_runs() -> None:
    i = gx.vector("i", 1, "int64")
    out = gx.cond(s > 0, lambda: gx.sum(gx.take(x, i)), lambda: 0.0)
    f = gx.compile([x, s, i], out)
    assert f(VALUES, -1.0, np.array([77])) == 0.0
    with pytest.raises(IndexError, match="77"):
        f(VALUES, 1.0, np.array([77]))


def test_what_a_branch_writes_stays_inside_and_what_was_there_is_an_argument() -> None:
    shared = gx.tanh(x)
    out = gx.cond(s > 0, lambda: gx.sum(shared * 2) + gx.sum(gx.log1p(x)), lambda: 0.0)
    assert [argument.op.name for argument in node_of(out).args[1:]] == ["tanh", "symbol"]
    agree([x, s], [out, shared], VALUES, 1.0)


def test_results_promote_and_broadcast_like_those_of_where() -> None:
    single = gx.vector("w", "n", "float32")
    out = gx.cond(s > 0, lambda: single * 2, lambda: 0)
    assert out.type is single.type
    mixed = gx.cond(s > 0, lambda: single, lambda: x)
    assert mixed.dtype == np.float64


def test_nested_containers_go_in_and_out() -> None:
    out = gx.cond(
        s > 0,
        lambda held: {"a": held["p"][0], "b": (held["q"], None)},
        lambda held: {"a": held["q"], "b": (held["p"][0], None)},
        {"p": [x], "q": x * 2},
    )
    assert list(out) == ["a", "b"] and out["b"][1] is None
    agree([x, s], [out["a"], out["b"][0]], VALUES, -1.0)


def test_a_constant_index_leaves_its_branch() -> None:
    out = gx.cond(True, lambda: gx.exp(x), lambda: gx.log(x))
    f = gx.compile([x], out)
    ops = {node.op.name for node in topological(f._impl.rewritten.outputs)}
    assert "switch" not in ops and "log" not in ops
    np.testing.assert_allclose(f(VALUES), np.exp(VALUES))


def test_unwanted_results_are_pruned() -> None:
    first, _ = gx.cond(s > 0, lambda: (x * 2, gx.exp(x)), lambda: (x, gx.log(x)))
    f = gx.compile([x, s], first)
    (node,) = [n for n in topological(f._impl.rewritten.outputs) if n.op is switch_op]
    assert all(len(graph.outputs) == 1 for graph in node.attrs["branches"])
    assert {n.op.name for g in node.attrs["branches"] for n in g.nodes()}.isdisjoint({"exp", "log"})


def test_choices_within_choices_and_loops() -> None:
    def step(state: Node, row: Node) -> Any:
        new = gx.cond(
            row > 1.0,
            lambda: gx.cond(s > 0, lambda: state + row, lambda: state - row),
            lambda: state * row,
        )
        return new, new

    final, all_ = gx.scan(step, gx.constant(1.0), x)
    for value in (1.0, -1.0):
        agree([x, s], [final, all_, gx.grad(final, x)], VALUES, value)


def test_forward_mode_and_second_derivatives_of_cond() -> None:
    out = gx.sum(gx.cond(s > 0, lambda v: v**3 * s, lambda v: gx.exp(s * v), x))
    for value in (0.7, -0.7):
        assert gx.check_grad(out, [x, s], {x: VALUES, s: np.float64(value)})
        agree([x, s], [gx.jvp(out, [s], [gx.constant(1.0)]), gx.hessian(out, x)], VALUES, value)


# -- loops ----------------------------------------------------------------------------------------


def growth(bound: int | None = None) -> Node:
    return gx.while_loop(lambda held: held < 100.0, lambda held: held * s, gx.sum(x), bound=bound)


def test_while_loop_runs_until_the_condition_fails() -> None:
    total, count = gx.while_loop(
        lambda held: held[0] < 100.0, lambda held: (held[0] * s, held[1] + 1), (gx.sum(x), 0)
    )
    got = agree([x, s], [total, count], VALUES, 1.5)
    assert got[1] == 8
    assert agree([x, s], [total, count], VALUES * 100, 1.5)[1] == 0


def test_derivatives_of_while_loop() -> None:
    loop = growth(bound=30)
    values = {x: VALUES, s: np.float64(1.5)}
    assert gx.check_grad(loop, [x, s], values)
    forward = gx.jvp(growth(), [s], [gx.constant(1.0)])
    backward = gx.grad(loop, s)
    second = gx.grad(backward, s)
    got = agree([x, s], [forward, backward, second], VALUES, 1.5)
    np.testing.assert_allclose(got[0], got[1])
    # sum(x) s^8 has the derivatives 8 sum(x) s^7 and 56 sum(x) s^6
    np.testing.assert_allclose(got[1:], VALUES.sum() * np.array([8 * 1.5**7, 56 * 1.5**6]))


def _thrice(out: Node, wrt: Node) -> list[Node]:
    """The third derivative by a number, in every order of the modes that reverse mode can end."""
    one = gx.constant(1.0)

    def forward(y: Node) -> Node:
        return gx.jvp(y, wrt, one)

    def backward(y: Node) -> Node:
        return gx.grad(y, wrt)

    both = (forward, backward)
    return [a(b(c(out))) for a in both for b in both for c in both]


def test_third_derivatives_of_loops_and_choices_in_every_order_of_modes() -> None:
    """States of other dtypes, a choice within the loop, the loop within a choice."""

    def body(held: tuple[Node, Node]) -> tuple[Node, Node]:
        total, count = held
        by_turns = [lambda: total * s, lambda: total + gx.sin(s) * s]
        return gx.switch(count % 2, by_turns), count + 1

    def repeated() -> Node:
        start = (gx.constant(1.0), gx.constant(0))
        return gx.while_loop(lambda held: held[1] < k, body, start, bound=8)[0]

    out = gx.cond(s > 0, repeated, lambda: s**4)
    for rounds, where in ((5, 1.3), (0, 1.3), (8, 0.4), (5, -2.0)):
        total = s * 0 + 1
        for i in range(rounds):
            total = total + gx.sin(s) * s if i % 2 else total * s
        plain = gx.evaluate(_thrice(total if where > 0 else s**4, s)[0], {s: where})
        found = agree([s, k], _thrice(out, s), where, rounds)
        np.testing.assert_allclose(found, [plain] * 8, rtol=1e-11)


def test_reverse_mode_without_a_bound_says_what_to_do() -> None:
    with pytest.raises(gx.GraphError, match="bound="):
        gx.grad(growth(), s)


def test_a_bound_that_is_exceeded_is_an_error_and_no_wrong_gradient() -> None:
    f = gx.compile([x, s], gx.grad(growth(bound=5), s))
    with pytest.raises(ValueError, match="bound of 5 rounds"):
        f(VALUES, 1.5)
    assert np.isfinite(f(VALUES, 20.0))


def test_states_that_nobody_needs_are_pruned() -> None:
    total, _ = gx.while_loop(
        lambda held: held[0] < 100.0, lambda held: (held[0] * 2, gx.exp(held[1])), (gx.sum(x), x)
    )
    f = gx.compile([x], total)
    (node,) = [n for n in topological(f._impl.rewritten.outputs) if n.op is while_op]
    assert node.attrs["carry"] == 1 and isinstance(node.attrs["body"], Graph)
    agree([x], total, VALUES)


def test_while_loop_over_arrays_and_what_it_captures() -> None:
    a = gx.matrix("a", ("n", "n"))
    start = np.eye(5)[0]

    def step(held: Any) -> Any:
        vector, change, count = held
        product = a @ vector
        new = product / gx.sqrt(gx.sum(product * product))
        return new, gx.max(abs(new - vector)), count + 1

    first = gx.vector("v", "n")
    vector, _, count = gx.while_loop(
        lambda held: (held[1] > 1e-10) & (held[2] < 500), step, (first, gx.constant(1.0), 0)
    )
    matrix = np.diag([3.0, 1.0, 0.5, 0.2, 0.1]) + 0.1
    found, rounds = gx.compile([a, first], [vector, count])(matrix, start)
    assert 5 < rounds < 500
    np.testing.assert_allclose(matrix @ found, found * (found @ matrix @ found), atol=1e-8)


@pytest.mark.parametrize(("lower", "upper"), [(0, 4), (2, 7), (3, 3), (5, 2)])
def test_fori_loop_with_known_and_with_computed_limits(lower: int, upper: int) -> None:
    def body(i: Node, state: Node) -> Node:
        return state * gx.cast(i + 1, "float64")

    expected = 1.0
    for i in range(lower, upper):
        expected *= i + 1
    known = gx.fori_loop(lower, upper, body, gx.constant(1.0))
    computed = gx.fori_loop(k, k + (upper - lower), body, gx.constant(1.0))
    got = agree([k], [known, computed], lower)
    np.testing.assert_allclose(got, [expected, expected])


def test_fori_loop_over_a_symbolic_extent_is_differentiable() -> None:
    total = gx.fori_loop(0, x.shape[0], lambda i, state: state * 1.5 + s, gx.constant(0.0))
    assert gx.check_grad(total, [s], {x: VALUES, s: np.float64(0.3)})
    agree([x, s], [total, gx.grad(total, s)], VALUES, 0.3)


def test_map_is_one_slice_at_a_time() -> None:
    m = gx.matrix("m", ("n", 3))
    rows = np.arange(12.0).reshape(4, 3)
    out = gx.map(lambda held: {"r": gx.sum(held[0]) * held[1]}, (m, m))["r"]
    np.testing.assert_allclose(agree([m], out, rows), rows.sum(1, keepdims=True) * rows)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan_gives_all_prefixes(length: int, reverse: bool) -> None:
    z = gx.vector("z", length)
    values = np.random.default_rng(length).normal(size=length)
    out = gx.associative_scan(lambda a, b: a + b, z, reverse=reverse)
    expected = np.cumsum(values[::-1])[::-1] if reverse else np.cumsum(values)
    np.testing.assert_allclose(agree([z], out, values), expected, rtol=1e-12, atol=1e-12)


def test_associative_scan_of_a_function_that_does_not_commute() -> None:
    m = gx.symbol("m", (2, 7, 2, 2))
    values = np.random.default_rng(0).normal(size=(2, 7, 2, 2))
    out = gx.associative_scan(gx.matmul, m, axis=1)
    expected = values.copy()
    for i in range(1, 7):
        expected[:, i] = expected[:, i - 1] @ values[:, i]
    np.testing.assert_allclose(agree([m], out, values), expected, rtol=1e-10)


def test_associative_scan_over_containers() -> None:
    """The recurrence h = a h + b, as products of affine maps."""
    a, b = gx.vector("a", 6), gx.vector("b", 6)
    _, out = gx.associative_scan(
        lambda f, g: (f[0] * g[0], g[0] * f[1] + g[1]), (a, b)
    )
    left, right = np.linspace(0.5, 1.5, 6), np.linspace(-1, 1, 6)
    state, expected = 0.0, []
    for p, q in zip(left, right, strict=True):
        state = p * state + q
        expected.append(state)
    np.testing.assert_allclose(agree([a, b], out, left, right), expected)


# -- what is refused ------------------------------------------------------------------------------

REFUSED = {
    "a predicate by element": (lambda: gx.cond(x > 0, lambda: x, lambda: x), "gx.where"),
    "other containers": (lambda: gx.cond(s > 0, lambda: x, lambda: (x, x)), "containers"),
    "shapes that do not fit": (
        lambda: gx.cond(s > 0, lambda: gx.constant(np.ones(3)), lambda: gx.constant(np.ones(4))),
        "cond",
    ),
    "a real index": (lambda: gx.switch(s, [lambda: x]), "integer index"),
    "no branches": (lambda: gx.switch(k, []), "one or more"),
    "a state that changes": (
        lambda: gx.while_loop(lambda h: h < 1, lambda h: gx.stack([h, h]), gx.constant(1.0)),
        "keep its shape",
    ),
    "a condition by element": (lambda: gx.while_loop(lambda h: h > 0, lambda h: h, x), "gx.any"),
    "no state": (lambda: gx.while_loop(lambda h: s > 0, lambda h: h, ()), "needs a state"),
    "a real limit": (lambda: gx.fori_loop(0, s, lambda i, h: h, x), "integer"),
    "an unknown extent": (lambda: gx.associative_scan(lambda a, b: a + b, x), "known extents"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_advice(case: str) -> None:
    build, part = REFUSED[case]
    with pytest.raises(gx.GraphError) as caught:
        build()
    assert part in str(caught.value) and len(str(caught.value).splitlines()) <= 8


def test_a_loop_that_never_ends_can_be_interrupted() -> None:
    import signal
    import threading

    f = gx.compile([s], gx.while_loop(lambda h: h > -1.0, lambda h: h + 1.0, s))
    timer = threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        f(0.0)
    timer.join()


def test_a_loop_over_constants_is_run_once_by_the_loop_that_reads_it() -> None:
    """Other expressions of constants are repeated in a body, where they are folded."""
    first = gx.fori_loop(0, 5, lambda i, c: c * 1.5, gx.constant(1.0))
    second = gx.fori_loop(0, 7, lambda i, c: c + first, gx.vector("x", 3).sum())
    loop = second.args[0] if second.op.name == "project" else second
    assert any(argument is first for argument in loop.args)
