"""Does a loop leave to the time before and after it what needs no state?  Products, sums, reuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rewrite_values import fill, symbols_of, values_of

import graphc as gx
from graphc.node import Node, topological
from graphc.ops.contract import contract_op
from graphc.ops.control import scan_op
from graphc.rewrite import rewrite


def scans(nodes: list[Node]) -> list[Node]:
    return [node for node in topological(nodes) if node.op is scan_op]


def products(nodes: Any) -> int:
    return sum(node.op is contract_op for node in topological(list(nodes)))


def rewritten(before: list[Node], **sizes: int) -> list[Node]:
    """The outputs after rewriting, whose values are checked for random arguments."""
    result = rewrite(before)
    assert result.complete and result.refused == []
    rng = np.random.default_rng(5)
    values = {symbol: fill(symbol, rng, special=False) / 2 for symbol in symbols_of(before)}
    pairs = zip(values_of(before, values), values_of(result.outputs, values), strict=True)
    for old, new in pairs:
        np.testing.assert_allclose(new, old, rtol=1e-9, atol=1e-11)
    assert rewrite(result.outputs).firings == []
    return result.outputs


def fired(before: list[Node]) -> set[str]:
    return {firing.rule.name for firing in rewrite(before).firings}


xs = gx.symbol("xs", (5, 2, 3))
w, r, out = gx.symbol("w", (3, 16)), gx.symbol("r", (4, 16)), gx.symbol("out", (4, 6))
bias = gx.symbol("bias", 16)
start = gx.zeros((2, 4))


def lstm(state: tuple[Node, Node], row: Node) -> tuple[tuple[Node, Node], Node]:
    hidden, cell = state
    i, f, g, o = gx.split(row @ w + hidden @ r + bias, 4, axis=1)
    cell = gx.sigmoid(f) * cell + gx.sigmoid(i) * gx.tanh(g)
    hidden = gx.sigmoid(o) * gx.tanh(cell)
    return (hidden, cell), hidden @ out


@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_network_multiplies_once_in_each_step(reverse: bool) -> None:
    """What is read, and what is given out, is multiplied for all steps; gradients are sums over
    them.
    """
    (hidden, _), ys = gx.scan(lstm, (start, start), xs, reverse=reverse)
    cost = (ys * ys).sum() + hidden.sum()
    after = rewritten([cost, *gx.grad(cost, [w, r, bias, out, xs])])
    forward, backward = scans(after)
    assert products(forward.attrs["graph"].outputs) == 1
    assert products(backward.attrs["graph"].outputs) <= 2
    assert backward.attrs["carry"] == 2  # no sum is carried along
    assert products(after) >= 5


def test_products_in_front_of_a_loop_and_behind_it() -> None:
    _, ys = gx.scan(lambda s, row: (gx.tanh(s + row @ w), s @ r.T), gx.zeros((2, 16)), xs)
    (after,) = rewritten([ys])
    (loop,) = scans([after])
    assert products(loop.attrs["graph"].outputs) == 0
    assert products([after]) == 2


def test_a_loop_without_a_state_is_gone() -> None:
    _, ys = gx.scan(lambda s, row: (s, gx.tanh(row @ w) @ r.T), (), xs)
    (after,) = rewritten([ys])
    assert products([after]) == 2
    assert all(products(loop.attrs["graph"].outputs) == 0 for loop in scans([after]))


def test_a_product_of_the_state_stays_where_it_is() -> None:
    last, _ = gx.scan(lambda s, row: (gx.tanh(s @ r @ r.T + row[:, :1]), None), start, xs)
    (after,) = rewritten([last])
    (loop,) = scans([after])
    assert products(loop.attrs["graph"].outputs) == 2


def test_many_rows_are_multiplied_in_each_step() -> None:
    """A step keeps the processor busy: nothing is won by storing its products for all of them."""
    many = gx.symbol("many", (3, 600, 3))
    _, ys = gx.scan(lambda s, row: (s + row @ w, s.sum()), gx.zeros((600, 16)), many)
    assert "product_before_scan" not in fired([ys])


def test_what_takes_too_much_memory_stays() -> None:
    tall = gx.symbol("tall", (10_000, 4))
    wide = gx.symbol("wide", (4, 100_000))
    last, _ = gx.scan(lambda s, row: (s + row @ wide, None), gx.zeros(100_000), tall)
    assert "product_before_scan" not in fired([last])


def test_a_sum_of_large_rows_is_carried_along() -> None:
    """The gradient of a factor is a sum over the steps, each term as large as the factor."""
    factor = gx.symbol("factor", (16, 16))
    rows = gx.symbol("rows", (4, 16, 16))
    last, _ = gx.scan(lambda s, row: (gx.sin(s * factor + row), None), gx.zeros((16, 16)), rows)
    after = rewritten([gx.grad((last * last).sum(), factor)])
    backward = scans(after)[-1]
    assert backward.attrs["carry"] == 2
    assert len(backward.type.items) == 2


def test_a_sum_of_numbers_is_taken_behind() -> None:
    rows = gx.symbol("rows", (4, 3))
    _, ys = gx.scan(lambda s, row: (gx.sin(s + row), s), gx.zeros(3), rows)
    assert "sum_in_scan" not in fired([ys.sum()])


def test_sums_of_halves_are_rounded_once() -> None:
    rows = gx.symbol("rows", (300, 600), "float16")
    _, ys = gx.scan(lambda s, row: (gx.maximum(s, row), s * row), gx.ones(600, "float16"), rows)
    outputs = [ys.sum(axis=0)]
    assert "sum_in_scan" in fired(outputs)
    values = {rows: np.full((300, 600), 0.1, "float16")}
    (wanted,) = values_of(outputs, values)
    (found,) = values_of(rewrite(outputs).outputs, values)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, wanted)


def test_sums_of_a_result_that_is_wanted_itself() -> None:
    rows = gx.symbol("rows", (4, 16, 16))
    _, ys = gx.scan(lambda s, row: (s + row, gx.sin(s)), gx.zeros((16, 16)), rows)
    after = rewritten([ys.sum(axis=0), ys])
    assert scans(after)[0].attrs["carry"] == 1


def test_weights_used_twice_in_a_step() -> None:
    square = gx.symbol("square", (3, 3))
    def step(s: Node, row: Node) -> tuple[Node, None]:
        return gx.tanh(gx.tanh(s @ square + row) @ square), None

    last, _ = gx.scan(step, gx.zeros((2, 3)), xs)
    after = rewritten([gx.grad((last * last).sum(), square)])
    assert scans(after)[-1].attrs["carry"] == 1


def test_loops_inside_loops() -> None:
    def inner(s: Node, row: Node) -> tuple[Node, None]:
        return gx.tanh(s @ r @ r.T + row @ w @ r.T), None

    def outer(s: Node, block: Node) -> tuple[Node, Node]:
        s, _ = gx.scan(inner, s, block)
        return s, s @ out

    blocks = gx.symbol("blocks", (3, 5, 2, 3))
    last, ys = gx.scan(outer, start, blocks)
    cost = (last * last).sum() + gx.sin(ys).sum()
    rewritten([cost, *gx.grad(cost, [w, r, out])])


def test_second_derivatives() -> None:
    last, _ = gx.scan(lambda s, row: (gx.tanh(s @ r @ r.T + row[:, :1]), None), start, xs)
    cost = (last * last).sum()
    rewritten([gx.hvp(cost, r, gx.symbol("t", (4, 16)))])


def test_examples_by_rows() -> None:
    def cost(x: Node) -> Node:
        (hidden, _), ys = gx.scan(lstm, (start, start), x)
        return gx.grad((ys * ys).sum() + hidden.sum(), r)

    rewritten([gx.vmap(cost)(gx.symbol("batch", (3, 5, 2, 3)))])


def test_matrices_that_lie_across_are_turned_once() -> None:
    matrix = gx.symbol("matrix", (48, 40))
    rows = gx.symbol("rows", (6, 3, 48))
    begin = gx.symbol("begin", (3, 48))

    def step(s: Node, row: Node) -> tuple[Node, None]:
        return gx.tanh(gx.tanh(s @ matrix) @ matrix.T + row), None

    last, _ = gx.scan(step, begin, rows)
    inputs = [matrix, rows, begin]
    outputs = [last, *gx.grad((last * last).sum(), inputs)]
    rng = np.random.default_rng(2)
    values = [rng.normal(size=node.shape) / 5 for node in inputs]
    want = gx.evaluate(outputs, dict(zip(inputs, values, strict=True)))
    f = gx.compile(inputs, outputs)
    for mine, theirs in zip(f(*values), want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_compiled_networks(dtype: str, steps: int) -> None:
    x = gx.symbol("x", ("steps", "batch", 3), dtype)
    u, v = gx.symbol("u", (3, 4), dtype), gx.symbol("v", (4, 4), dtype)
    begin = gx.symbol("begin", ("batch", 4), dtype)

    def step(s: Node, row: Node) -> tuple[Node, Node]:
        s = gx.tanh(row @ u + s @ v)
        return s, s @ v

    last, ys = gx.scan(step, begin, x)
    cost = (ys * ys).sum() + last.sum()
    inputs = [x, u, v, begin]
    outputs = [cost, *gx.grad(cost, inputs)]
    rng = np.random.default_rng(9)
    shapes = [(steps, 2, 3), (3, 4), (4, 4), (2, 4)]
    values = [(rng.normal(size=shape) / 3).astype(dtype) for shape in shapes]
    want = gx.evaluate(outputs, dict(zip(inputs, values, strict=True)))
    rough = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-11}[dtype]
    for target in ("cpu", "interpret"):
        got = gx.compile(inputs, outputs, target=target)(*values)
        for mine, theirs in zip(got, want, strict=True):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
            np.testing.assert_allclose(
                mine.astype(float), theirs.astype(float), rtol=rough, atol=rough
            )


def test_dear_work_on_numbers_is_done_for_all_steps() -> None:
    rows = gx.symbol("rows", 6)
    last, ys = gx.scan(lambda s, row: (s * 0.5 + gx.exp(row), gx.sin(s)), gx.scalar("c"), rows)
    after = rewritten([last, ys])
    (loop,) = scans(after)
    inside = {node.op.name for node in topological(loop.attrs["graph"].outputs)}
    assert not inside & {"exp", "sin"}


def test_dear_work_on_many_elements_stays_in_its_kernel() -> None:
    rows = gx.symbol("rows", (6, 1000))
    last, _ = gx.scan(lambda s, row: (s * 0.5 + gx.exp(row), None), gx.zeros(1000), rows)
    assert "product_before_scan" not in fired([last])


def inner_loop(s: Node, t: Node) -> Node:
    (a, _), _ = gx.scan(
        lambda h, u: ((gx.tanh(h[0] + h[1]), h[1] * 0.5 + u), None), (s, s * 2), gx.arange(3) * t
    )
    return a


def choice(s: Node, t: Node) -> Node:
    a, _ = gx.cond(t > 1, lambda x, y: (x * 0.5, y * x), lambda x, y: (y + x, x), s, gx.tanh(s))
    return a * s


def quotients(s: Node, t: Node) -> Node:
    return gx.tanh(gx.divmod(s * 3, gx.sort(s) + 2.0)[1] * s) + t


def ordered(s: Node, t: Node) -> Node:
    return gx.tanh(gx.sort(s) * t)


@pytest.mark.parametrize("body", [inner_loop, choice, quotients, ordered])
def test_a_loop_keeps_some_of_several_results(body: Any) -> None:
    """The loop of a gradient asks for results that the first loop has no need of."""
    x = gx.symbol("x", 5)
    last, _ = gx.scan(lambda s, t: (body(s, t), None), x, gx.arange(4) * 0.5)
    rewritten([last, gx.grad((last * last).sum(), x)])


def test_a_loop_keeps_what_the_one_before_it_did_not_ask_for() -> None:
    """One result of a choice is what the first loop needs, the other what the second does."""
    x = gx.symbol("x", 5)

    def both(s: Node, t: Node) -> Any:
        return gx.cond(t > 1, lambda a: (gx.tanh(a), a), lambda a: (a, gx.exp(a)), s)

    times = gx.arange(4) * 0.5
    last, states = gx.scan(lambda s, t: (both(s, t)[0], s), x, times)
    _, rows = gx.scan(lambda _, each: (None, both(*each)[1] * 2), None, (states, times))
    rewritten([last, rows])


@pytest.mark.parametrize("rows", [1, 2])
def test_outer_products_are_added_up_behind_the_loop(rows: int) -> None:
    """With a batch of one, the gradient of weights is a sum of outer products over the steps."""
    x = gx.symbol("x", (6, rows, 10))
    w = gx.symbol("w", (10, 10))
    last, _ = gx.scan(lambda s, row: (gx.tanh(s @ w + row), None), gx.zeros((rows, 10)), x)
    outputs = [gx.grad((last * last).sum(), w)]
    (gradient,) = rewritten(outputs)
    names = {node.op.name for node in topological([gradient])}
    assert "contract" in names, "one product over all steps"
    assert "product_behind_scan" in fired(outputs)
    assert "sum_in_scan" not in fired(outputs)


def test_factors_that_a_step_repeats_for_others_too_stay_in_the_loop() -> None:
    """What is repeated is an output itself: an outer product of it is as cheap in the loop."""
    x = gx.symbol("x", (6, 40))

    def step(s: Node, row: Node) -> Any:
        wide = gx.broadcast_to(gx.reshape(row, (40, 1)), (40, 30))
        return s * 0.5 + wide.sum(), (wide, wide * gx.broadcast_to(row[:30], (40, 30)))

    last, (wide, outer) = gx.scan(step, gx.zeros(()), x)
    rewritten([last, wide, outer.sum(axis=0)])
