"""Is one loop left where one is enough?  Merging and pruning of scans and calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rewrite_values import fill, symbols_of, values_of

import graphc as gx
from graphc.node import Node, topological
from graphc.ops.control import call_op, scan_op
from graphc.ops.special import project
from graphc.rewrite import rewrite


def scans(nodes: list[Node]) -> list[Node]:
    return [node for node in topological(nodes) if node.op is scan_op]


def calls(nodes: list[Node]) -> list[Node]:
    return [node for node in topological(nodes) if node.op is call_op]


def rewritten(before: list[Node]) -> list[Node]:
    """The outputs after rewriting, whose values are checked."""
    result = rewrite(before)
    assert result.complete and result.refused == []
    assert [node.type for node in result.outputs] == [node.type for node in before]
    rng = np.random.default_rng(5)
    values = {symbol: fill(symbol, rng, special=False) / 2 for symbol in symbols_of(before)}
    pairs = zip(values_of(before, values), values_of(result.outputs, values), strict=True)
    for old, new in pairs:
        np.testing.assert_allclose(new, old, rtol=1e-10, atol=1e-12)
    again = rewrite(result.outputs)
    assert again.firings == []
    return result.outputs


xs, w, h0 = gx.symbol("xs", ("n", 3)), gx.symbol("w", (3, 3)), gx.symbol("h0", (3,))


def rnn(state: Node, row: Node) -> tuple[Node, Node]:
    state = gx.tanh(state @ w + row)
    return state, state * state


def lstm(state: tuple[Node, Node], row: Node) -> tuple[tuple[Node, Node], Node]:
    hidden, cell = state
    cell = gx.sigmoid(hidden @ w) * cell + gx.tanh(row)
    hidden = gx.sigmoid(cell) * hidden + cell
    return (hidden, cell), hidden


def test_reverse_mode_leaves_one_forward_and_one_backward_loop() -> None:
    last, ys = gx.scan(rnn, h0, xs)
    cost = ys.sum() + last.sum()
    before = [cost, *gx.grad(cost, [w, h0, xs])]
    assert len(scans(before)) == 3
    assert len(scans(rewritten(before))) == 2


def test_forward_mode_leaves_one_loop() -> None:
    last, ys = gx.scan(rnn, h0, xs)
    before = [ys, last, gx.jvp(ys, h0, gx.symbol("t", 3))]
    assert len(scans(before)) == 2
    assert len(scans(rewritten(before))) == 1


def test_states_with_equal_initial_values_are_kept_apart() -> None:
    zero = gx.zeros(3)
    _, ys = gx.scan(lstm, (zero, zero), xs)
    cost = (ys * ys).sum()
    before = [cost, gx.jvp(cost, w, gx.symbol("t", (3, 3))), gx.grad(cost, w)]
    assert len(scans(before)) == 4
    assert len(scans(rewritten(before))) == 2


def test_second_derivatives_share_loops() -> None:
    last, _ = gx.scan(rnn, h0, xs)
    cost = (last * last).sum()
    before = [cost, gx.grad(cost, w), gx.hvp(cost, w, gx.symbol("t", (3, 3)))]
    assert len(scans(before)) == 6
    assert len(scans(rewritten(before))) == 2


def test_loops_over_the_same_data_with_other_states_are_not_merged() -> None:
    first, _ = gx.scan(lambda s, row: (s + row, None), gx.zeros(3), xs)
    second, _ = gx.scan(lambda s, row: (s * row, None), gx.ones(3), xs)
    assert len(scans(rewritten([first, second]))) == 2


def test_a_loop_that_reads_the_results_of_another_is_not_merged_with_it() -> None:
    def add(state: Node, row: Node) -> tuple[Node, Node]:
        return state + row, state

    _, partial = gx.scan(add, gx.zeros(3), xs)
    both, _ = gx.scan(
        lambda s, rows: ((s[0] + rows[0], s[1] + rows[1]), None),
        (gx.zeros(3), gx.zeros(3)),
        (xs, partial),
    )
    assert len(scans(rewritten([partial, both[0], both[1]]))) == 2


def test_directions_are_not_mixed() -> None:
    forward, _ = gx.scan(lambda s, row: (s * 0.5 + row, None), h0, xs)
    backward, _ = gx.scan(lambda s, row: (s * 0.5 + row, None), h0, xs, reverse=True)
    assert len(scans(rewritten([forward, backward]))) == 2


def test_results_and_states_that_nobody_needs_go() -> None:
    def body(state: Any, row: Node) -> Any:
        total, count, unused = state
        new = (total + row * w[0], count + 1.0, gx.sin(unused + row))
        return new, (total, count, gx.cos(unused))

    start = (h0, gx.scalar("c"), gx.symbol("d", 3))
    (total, _, _), (_, counts, _) = gx.scan(body, start, xs)
    (only,) = scans(rewritten([total]))
    assert only.attrs["carry"] == 1 and len(only.type.items) == 1
    (only,) = scans(rewritten([counts]))
    assert only.attrs["carry"] == 1 and only.attrs["steps"] == 0
    assert [node.type for node in only.args] == [gx.scalar("c").type]


def test_states_that_never_change_become_invariant() -> None:
    def body(state: Any, row: Node) -> Any:
        total, factor = state
        return (total + row * factor, factor), (factor, row, total)

    (total, factor), (factors, rows, _) = gx.scan(body, (gx.zeros(3), h0), xs)
    after = rewritten([total, factor, factors, rows])
    (only,) = scans(after)
    assert only.attrs["carry"] == 1 and len(only.type.items) == 1
    assert after[1] is h0
    assert after[2].op.name == "broadcast"
    assert after[3] is xs


def test_numbers_move_into_the_body() -> None:
    scale = gx.constant(1.0)
    total, _ = gx.scan(lambda s, row: (s + row * gx.stop_gradient(scale), None), gx.zeros(3), xs)
    (only,) = scans(rewritten([total]))
    assert len(only.args) == 2


def test_loops_inside_loops_are_merged() -> None:
    def inner(row: Node) -> tuple[Node, Node]:
        def add(state: Node, value: Node) -> tuple[Node, Node]:
            return state + value, state

        last, _ = gx.scan(add, gx.constant(0.0), row)
        _, partial = gx.scan(add, gx.constant(0.0), row)
        return last, partial

    def outer(state: Node, row: Node) -> tuple[Node, Node]:
        last, partial = inner(row)
        return state + last, partial

    total, rows = gx.scan(outer, gx.constant(0.0), xs)
    (only,) = scans(rewritten([total, rows]))
    assert len(scans(list(only.attrs["graph"].outputs))) == 1


def test_a_scan_that_is_an_output_as_a_whole_is_kept() -> None:
    last, _ = gx.scan(lambda s, row: (s + row, s), h0, xs)
    whole = last.args[0]
    result = rewrite([whole])
    assert result.outputs == [whole] or result.outputs[0].type is whole.type
    assert len(result.outputs[0].type.items) == 2


def test_calls_lose_what_nobody_needs() -> None:
    def layer(a: Node, b: Node, c: Node) -> Any:
        return gx.tanh(a), a * b, gx.sin(c), c, gx.zeros(3)

    u, v, t = (gx.vector(letter, 3) for letter in "uvt")
    first, _, _, last, zero = gx.call(layer, u, v, t)
    after = rewritten([first, last, zero])
    (only,) = calls(after)
    assert only.args == (u,) and len(only.type.items) == 1
    assert after[1] is t
    assert calls(after[2:]) == []


def test_equal_calls_keep_one_body() -> None:
    node = gx.vector("u", 3)
    for _ in range(6):
        node = gx.call(lambda a: (gx.tanh(a), gx.cos(a)), node)[0]
    after = rewritten([node, gx.grad(node.sum(), gx.vector("u", 3))])
    bodies = {n.attrs["graph"] for n in calls(after)}
    assert len(calls(after)) == 12
    assert len(bodies) == 2


def test_merging_and_pruning_are_explained_and_can_be_excluded() -> None:
    last, ys = gx.scan(rnn, h0, xs)
    cost = ys.sum() + last.sum()
    before = [cost, gx.grad(cost, h0)]
    fired = {firing.rule.name for firing in rewrite(before).firings}
    assert "merge_scans" in fired
    result = rewrite(before, exclude={"merge_scans", "prune_scan"})
    assert len(scans(result.outputs)) == 3


def test_a_loop_without_data() -> None:
    last, ys = gx.scan(lambda s, _: (s * 0.5, (s, s + 1.0)), h0, length=4)
    after = rewritten([last, ys[0]])
    (only,) = scans(after)
    assert len(only.type.items) == 2
    assert project(only, 0).type is h0.type


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_of_one_step_is_what_it_computes(reverse: bool) -> None:
    """Its gradient is, too, and shares what the step has computed."""
    last, ys = gx.scan(rnn, h0, gx.symbol("row", (1, 3)), reverse=reverse)
    cost = ys.sum() + last.sum()
    assert not scans(rewritten([last, ys, *gx.grad(cost, [h0, w])]))


def _small_network(steps: int, width: int) -> tuple[list[Any], list[Any], list[np.ndarray]]:
    """A recurrence of dear functions on a handful of numbers, and its gradients."""
    weight, bias = gx.vector("weight", width), gx.vector("bias", width)
    rows = gx.matrix("rows", (steps, width))

    def step(state: Any, row: Any) -> Any:
        gate = gx.sigmoid(row * weight + bias)
        return gx.tanh(gate * state + gx.tanh(row)), gate * state

    last, seen = gx.scan(step, gx.zeros(width), rows)
    cost = gx.sum(last * last) + gx.sum(seen**2)
    generator = np.random.default_rng(width)
    arrays = [generator.normal(size=n.shape) for n in (weight, bias, rows)]
    return [weight, bias, rows], [cost, *gx.grad(cost, [weight, bias])], arrays


def _dear_in_loops(outputs: Sequence[Any]) -> list[int]:
    """How many dear functions there are in each loop."""
    found = []
    for node in topological(rewrite(outputs).outputs):
        if node.op.name == "scan":
            inside = node.attrs["graph"].nodes()
            found.append(sum(each.op.name in ("sigmoid", "tanh") for each in inside))
    return found


def test_dear_functions_of_few_elements_are_computed_once_and_for_all_steps() -> None:
    _, outputs, _ = _small_network(40, 4)
    # forwards only what needs the state; backwards nothing that was computed before
    assert _dear_in_loops(outputs) == [1, 0]
    for width in (14, 3000):
        _, outputs, _ = _small_network(40, width)
        assert min(_dear_in_loops(outputs)) > 0, "rows that keep the lanes full stay in the loop"
    assert _dear_in_loops(_small_network(40, 14)[1])[1] == 1, "what was computed before is kept"


@pytest.mark.parametrize(
    ("steps", "width"), [(40, 14), (40, 4), (3, 300), (1200, 250), (1, 5), (0, 4)]
)
def test_such_loops_keep_their_values(steps: int, width: int) -> None:
    inputs, outputs, arrays = _small_network(steps, width)
    found = gx.compile(inputs, outputs, options=gx.Options(cache=False))(*arrays)
    wanted = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    for mine, other in zip(found, wanted, strict=True):
        scale = np.max(np.abs(other), initial=1e-300)
        assert np.max(np.abs(mine - other), initial=0) <= 1e-13 * scale * max(1, steps) ** 0.5
