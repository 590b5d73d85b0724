"""How does the chain rule run through a graph? One sweep: backwards with cotangents, or forwards
with tangents.

Each node passes on what it received by its own step (`chain`). `transform` is what ops that carry
Graphs receive; it is an argument, so that differentiating Graphs (`regions`) can be built on these
sweeps and not the other way round.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from graphc.autodiff.beneath import Beneath
from graphc.autodiff.chain import Maybe, is_real, literal, plus, pull, push, result_types
from graphc.autodiff.moved import Moved
from graphc.collector import paused
from graphc.graph import Graph, parameter_op
from graphc.lowering import Region
from graphc.node import Node, topological
from graphc.op import Linear, Op, Partials
from graphc.ops.arithmetic import (
    add_op,
    divide_op,
    multiply_op,
    sqrt_op,
    strong_multiply_op,
    subtract_op,
)
from graphc.ops.branch import switch_op
from graphc.ops.special import project_op, where_op
from graphc.ops.transcend import power_op
from graphc.origin import Event, because
from graphc.types import TupleType


def idle_nodes(order: Sequence[Node], inputs: Sequence[Node]) -> set[Node]:
    """The nodes of `order`, and of `inputs`, through which no real value depends on `inputs`.

    Of the two kinds these are the few: constants, integers and what is made of them.
    """
    idle = {node for node in inputs if not is_real(node.type)}
    for node in order:
        if idle.issuperset(node.args) or not is_real(node.type):
            idle.add(node)
    return idle


def masked_nodes(order: Sequence[Node]) -> set[Node]:
    """The nodes beneath a branch of a `where`: a branch not taken hands them cotangents of zero.

    There every partial may be infinite or NaN, since nobody looks at the value, and zero must win.
    Beneath a strong product, which is the derivative of such a branch, it is the same again. An
    argument of an op with Graphs is beneath what it is beneath inside of them.
    """
    masked: set[Node] = set()
    for node in reversed(order):
        if node.op is where_op:
            masked.update(node.args[1:])
        elif node in masked or node.op is strong_multiply_op:
            masked.update(node.args)
        elif isinstance(node.op.lowering, Region):
            masked.update(_masked_inside(node))
    return masked


def _masked_inside(node: Node) -> list[Node]:
    """The arguments whose parameters are beneath a branch of a `where` in a Graph of the node."""
    graphs: list[Graph] = []
    for value in node.attrs.values():
        graphs += [g for g in (value if isinstance(value, tuple) else (value,)) if _is_graph(g)]
    found = set().union(*map(_masked_parameters, graphs))
    own = node.args[1:] if node.op is switch_op else node.args  # the first chooses
    return [argument for i, argument in enumerate(own) if i in found]


def _is_graph(value: Any) -> bool:
    return isinstance(value, Graph)


_parameters: weakref.WeakKeyDictionary[Graph, frozenset[int]] = weakref.WeakKeyDictionary()


def _masked_parameters(graph: Graph) -> frozenset[int]:
    if graph not in _parameters:
        masked = masked_nodes(graph.nodes())
        found = (node.attrs["index"] for node in masked if node.op is parameter_op)
        _parameters[graph] = frozenset(found)
    return _parameters[graph]


def beneath_roots(order: Sequence[Node]) -> set[Node]:
    """The nodes whose value a root is taken of, alone or in a sum: where all of it is 0 the root
    hands them an infinite cotangent, and what has the derivative 0 there, a square, must win.

    sqrt(sum(x * x)) at 0 then has the derivative 0, as abs has, as a norm has, and as forward mode
    says.
    """
    summed: set[Node] = set()
    found: set[Node] = set()
    for node in reversed(order):
        if node in summed:
            if _adds_up(node):
                summed.update(node.args)
            elif isinstance(node.op.derivative, (Partials, Linear)):
                found.add(node)
        if _is_root(node):
            summed.add(node.args[0])
    return found


def _is_root(node: Node) -> bool:
    if node.op is power_op:
        exponent = literal(node.args[1])
        return exponent is not None and 0 < exponent < 1
    return node.op is sqrt_op


def _adds_up(node: Node) -> bool:
    """Whether a result is 0 where the arguments are, and they alone: sums, means, views. A sum with
    a number, say 1e-6, is what is not 0.
    """
    if node.op in (add_op, subtract_op):
        return not any(literal(argument) for argument in node.args)
    if node.op in (multiply_op, divide_op):
        return any(literal(argument) is not None for argument in node.args)
    derivative = node.op.derivative
    return isinstance(derivative, Linear) and not derivative.multi


@paused()
def pull_back(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    cotangents: Sequence[Maybe],
    transform: Any,
) -> list[Maybe]:
    """The cotangent of every input; None where it is exactly zero."""
    order = topological(outputs, known=inputs)
    idle = idle_nodes(order, inputs)
    masked = masked_nodes(order) | beneath_roots(order)
    held: dict[Node, list[Maybe]] = {}

    def give(node: Node, position: int, cotangent: Maybe) -> None:
        if cotangent is None or node in idle:
            return
        slots = held.get(node)
        if slots is None:
            slots = held[node] = [None] * len(result_types(node))
        slots[position] = plus(slots[position], cotangent)

    for output, cotangent in zip(outputs, cotangents, strict=True):
        give(output, 0, cotangent)
    labels: dict[tuple[Op, Any], because] = {}  # one for all nodes that it labels
    while order:  # taken off the end, so that what is done with can be freed
        node = order.pop()
        slots = held.pop(node, None)
        if slots is None:
            continue
        if node.op is project_op:
            give(node.args[0], node.attrs["index"], slots[0])
            continue
        wanted = [argument not in idle for argument in node.args]
        key = (node.op, node.origin)
        label = labels.get(key)
        if label is None:
            label = labels[key] = because(Event("vjp", node.op.name, because=node.origin))
        with label:
            strong = transform.masked or node in masked
            inner = transform.under_mask if strong else transform
            answer = pull(node, slots, wanted, inner, strong)
            for argument, cotangent in zip(node.args, answer, strict=True):
                give(argument, 0, cotangent)
    return [held[node][0] if node in held else None for node in inputs]


@paused()
def push_forward(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    tangents: Sequence[Maybe],
    transform: Any,
    below: Beneath | None = None,
) -> list[Maybe]:
    """The tangent of every output; None where it is exactly zero. `below`, if it is known, is what
    lies beneath the outputs.
    """
    held: dict[Node, list[Maybe]] = {
        node: [tangent] for node, tangent in zip(inputs, tangents, strict=True)
    }
    # What has a tangent. Of the derivatives by one input among many most nodes have none: they cost
    # one question.
    moving = {node for node in inputs if is_real(node.type) and held[node][0] is not None}
    moved = Moved(inputs, tangents, {} if below is None else below.numbers)
    if below is not None and (len(inputs) == 1 or not any(node.args for node in inputs)):
        order = below.order(outputs)  # nothing beneath the inputs moves
    else:
        order = topological(outputs, known=inputs)
    labels: dict[tuple[Op, Any], because] = {}  # one for all nodes that it labels
    for node in order:
        if moving.isdisjoint(node.args) or not is_real(node.type):
            continue
        op, args = node.op, node.args
        if op is project_op:
            found = [held[args[0]][node.attrs["index"]]]
        else:
            given = [held[argument][0] if argument in moving else None for argument in args]
            key = (op, node.origin)
            label = labels.get(key)
            if label is None:
                label = labels[key] = because(Event("jvp", op.name, because=node.origin))
            with label:
                found = push(node, given, transform, moved.takes(node, given))
            if type(node.type) is TupleType:
                kinds = map(is_real, node.type.items)
                found = [t if real else None for t, real in zip(found, kinds, strict=True)]
        if found[0] is not None or any(tangent is not None for tangent in found):
            moving.add(node)
            held[node] = found
    return [held[node][0] if node in held else None for node in outputs]
