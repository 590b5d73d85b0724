"""Are views taken in by what reads them, and is work done before a broadcast?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewrite_values import fill, symbols_of, values_of

import graphc as gx
from graphc.node import Node, topological
from graphc.ops.contract import contract_op
from graphc.ops.movement import transpose_op
from graphc.ops.operands import broadcast, broadcast_op
from graphc.rewrite import rewrite


def ops(nodes: list[Node]) -> list[str]:
    return [node.op.name for node in topological(nodes)]


def rewritten(before: list[Node]) -> list[Node]:
    """The outputs after rewriting, whose types and values are checked."""
    after = rewrite(before).outputs
    assert [node.type for node in after] == [node.type for node in before]
    rng = np.random.default_rng(6)
    values = {symbol: fill(symbol, rng, special=False) for symbol in symbols_of(before)}
    pairs = zip(values_of(before, values), values_of(after, values), strict=True)
    for old, new in pairs:
        np.testing.assert_allclose(new, old, rtol=1e-10, atol=1e-10)
    return after


a, b = gx.symbol("a", (3, 4)), gx.symbol("b", (4, 5))
batched, weights = gx.symbol("f", (2, 3, 4)), gx.symbol("w", (4, 5))


@pytest.mark.parametrize(
    "product",
    [a.T @ b.T.T[:3], (b.T @ a.T).T, (a @ b).T, a.T @ a, gx.transpose(a @ b @ b.T)],
    ids=str,
)
def test_products_of_transposes_have_none(product: Node) -> None:
    assert "transpose" not in ops(rewritten([product]))


def test_gradients_of_products_have_no_transposes() -> None:
    cost = (gx.tanh(batched @ weights) ** 2).sum()
    after = rewritten([cost, *gx.grad(cost, [batched, weights])])
    assert "transpose" not in ops(after)
    assert ops(after).count("contract") == 3


def test_weights_spread_over_a_batch_are_multiplied_once() -> None:
    wide = broadcast(weights, (2, 4, 5), (1, 2))
    (after,) = rewritten([batched @ wide])
    assert ops([after]) == ["symbol", "symbol", "contract"]
    assert after.attrs["batch"] == ((), ())


def test_a_product_with_ones_is_a_sum() -> None:
    cost = (a @ b).sum()
    after = rewritten(gx.grad(cost, [a, b]))
    assert "contract" not in ops(after)


def test_outer_products_are_elementwise() -> None:
    (after,) = rewritten([gx.reshape(a, (12, 1)) @ gx.reshape(b, (1, 20))])
    assert "contract" not in ops([after])


def test_work_is_done_before_a_broadcast() -> None:
    s, row = gx.scalar("s"), gx.vector("u", 4)
    scaled = gx.exp(s + gx.zeros((3, 4))) * 2.0 + gx.tanh(broadcast(row, (3, 4), (1,)) * 3.0)
    (after,) = rewritten([scaled])
    shapes = {node.op.name: node.shape for node in topological([after])}
    assert shapes["exp"] == ()
    assert shapes["tanh"] == (4,)


def test_rows_and_columns_are_combined_where_they_must() -> None:
    row, column = gx.vector("u", 4), gx.symbol("v", (3, 1))
    (after,) = rewritten([gx.exp(row) * gx.exp(column)])
    assert after.op.name == "multiply" and after.shape == (3, 4)
    assert {n.shape for n in topological([after]) if n.op.name == "exp"} == {(4,), (3, 1)}


def test_symbolic_extents_take_part() -> None:
    x = gx.symbol("x", ("n", 3))
    (after,) = rewritten([(x * 2.0).T.T.sum(axis=0) + gx.zeros(3)[None][0]])
    assert "transpose" not in ops([after])


def test_the_gradient_of_unstacking_is_a_concatenation() -> None:
    x = gx.symbol("x", (3, 4))
    rows = [gx.sin(x[0]), gx.cos(x[1]), gx.tanh(x[2])]
    cost = (rows[0] * rows[1] + rows[2]).sum()
    (after,) = rewritten([gx.grad(cost, x)])
    assert "pad" not in ops([after])
    assert ops([after]).count("concatenate") == 1


def test_bias_gradients_are_plain_sums() -> None:
    x, bias = gx.symbol("x", ("n", 3)), gx.vector("bias", 3)
    cost = gx.tanh(x + bias).sum()
    (after,) = rewritten([gx.grad(cost, bias)])
    assert after.op.name == "sum" and after.attrs["axes"] == (0,)


LETTERS = "bcmnk"
EXTENTS = {"b": 2, "c": 3, "m": 4, "n": 2, "k": 3, "1": 1}


@st.composite
def contractions(draw: Any) -> Node:
    """A contraction of transposed, partly broadcast arguments, its result transposed."""
    batch, contracted = draw(
        st.sampled_from([("", "k"), ("b", "k"), ("bc", "k"), ("b", "ck"), ("b", "")])
    )
    sides = []
    for free in ("m", "n"):
        labels = "".join(draw(st.permutations(batch + contracted + free)))
        repeated = draw(st.sets(st.sampled_from(labels), max_size=2))
        sides.append((labels, _argument(draw, labels, repeated)))
    (first, x), (second, y) = sides
    made = contract_op(
        x,
        y,
        batch=(tuple(map(first.index, batch)), tuple(map(second.index, batch))),
        contracted=(tuple(map(first.index, contracted)), tuple(map(second.index, contracted))),
    )
    return gx.transpose(made, draw(st.permutations(range(made.ndim))))


def _argument(draw: Any, labels: str, repeated: set[str]) -> Node:
    """A symbol with axes `labels`, transposed into order, repeated along some of them."""
    kept = [label for label in labels if label not in repeated]
    stored = draw(st.permutations(kept))
    symbol = gx.symbol(f"s{labels}{''.join(stored)}", tuple(EXTENTS[label] for label in stored))
    turned = gx.transpose(symbol, [stored.index(label) for label in kept])
    if not repeated:
        return turned
    shape = tuple(EXTENTS[label] for label in labels)
    return broadcast_op(turned, shape=shape, axes=tuple(map(labels.index, kept)))


@settings(max_examples=80)
@given(contractions())
def test_any_contraction_keeps_its_value(node: Node) -> None:
    (after,) = rewritten([node])
    again = rewrite([after])
    assert again.firings == []
    order = topological([after])
    turned = [n for n in order if n.op is transpose_op]
    for made in (n for n in order if n.op is contract_op):
        beneath = any(argument.op is transpose_op for argument in made.args)
        above = any(n.args[0] is made for n in turned)
        assert not (beneath and above), "what is put into order while it is packed comes out so"


@st.composite
def slices_of_pads(draw: Any) -> Node:
    length = draw(st.integers(1, 5))
    node = gx.symbol(f"x{length}", (length,))
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            node = gx.pad(node, [(draw(st.integers(0, 2)), draw(st.integers(0, 2)))])
        elif draw(st.booleans()):
            node = gx.concatenate([node, node[: draw(st.integers(1, 3))]])
        else:
            start = draw(st.integers(0, node.shape[0]))
            node = node[start : draw(st.integers(start, node.shape[0])) : draw(st.integers(1, 2))]
        if node.shape[0] == 0:
            break
    return node


@settings(max_examples=80)
@given(slices_of_pads())
def test_slices_pads_and_joins_keep_their_values(node: Node) -> None:
    (after,) = rewritten([node])
    assert rewrite([after]).firings == []


@settings(max_examples=80)
@given(st.data())
def test_chains_of_views_keep_their_values(data: st.DataObject) -> None:
    node = gx.symbol("x", (2, 3, 4))
    for _ in range(data.draw(st.integers(1, 6))):
        kind = data.draw(
            st.sampled_from(["transpose", "reshape", "flip", "slice", "new", "wide", "op"])
        )
        if kind == "transpose":
            node = gx.transpose(node, data.draw(st.permutations(range(node.ndim))))
        elif kind == "reshape":
            node = (
                gx.reshape(node, (-1, data.draw(st.sampled_from([1, 2, 3]))))
                if (node.size % 6 == 0)
                else gx.reshape(node, (-1,))
            )
        elif kind == "flip":
            node = gx.flip(node, data.draw(st.integers(0, node.ndim - 1)))
        elif kind == "slice":
            node = node[: max(1, node.shape[0] - 1)]
        elif kind == "new":
            node = gx.expand_dims(node, data.draw(st.integers(0, node.ndim)))
        elif kind == "wide" and node.size < 100:
            node = gx.broadcast_to(node, (2, *node.shape))
        else:
            node = gx.sin(node) * 2.0 + gx.sum(node, axis=0, keepdims=True)
    (after,) = rewritten([node])
    assert rewrite([after]).firings == []
