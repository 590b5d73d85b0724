"""What do all directions of a derivative share?  Its coefficients: computed once, and stored.

The directions are arrays with an axis more than the values of the function itself. A kernel over
all directions would compute those values again in each, so they are separated: one call computes
the coefficients of the linear map from the inputs, another applies the map to the directions.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.graph import close, parameter_op, placeholder, placeholder_op, replace, symbol_op
from graphc.lowering import Elementwise, Gather, Generate, View
from graphc.node import Node, topological
from graphc.ops.control import call_graph
from graphc.types import TensorType

# What is dearer than this, in additions, is worth memory.
RECOMPUTE_COST = 4
# Coefficients of more elements in all are not stored.
MOST_STORED = 2**27
_LEAVES = (symbol_op, parameter_op, placeholder_op)


def apart(values: Node, directions: Sequence[Node]) -> Node:
    """The same values by two calls: of what does not depend on `directions`, and of the rest.

    Where that would save nothing, the node itself.
    """
    order = topological([values])
    moving = set(directions)
    for node in order:
        if any(argument in moving for argument in node.args):
            moving.add(node)
    cost = _costs(order, moving)
    shared = {
        _beneath_views(argument): None
        for node in order
        if node in moving
        for argument in node.args
        if argument not in moving
    }
    dear = [node for node in shared if cost.get(node, 0) > RECOMPUTE_COST]
    if not dear or sum(int(node.size) for node in dear) > MOST_STORED:  # type: ignore[arg-type]
        return values
    stored = _called(dear, [], [], "coefficients")
    given = [placeholder(node.type) for node in dear]
    ends = _computed(values, moving)
    applied = replace(ends, dict(zip(dear, given, strict=True)))
    made = _called(applied, given, stored, "directions")
    return replace([values], dict(zip(ends, made, strict=True)))[0]


def _computed(values: Node, moving: set[Node]) -> list[Node]:
    """The nodes from which `values` are only moved together."""
    found: dict[Node, None] = {}
    stack, seen = [values], {values}
    while stack:
        node = stack.pop()
        if not isinstance(node.op.lowering, (View, Gather)):
            found[node] = None
            continue
        fresh = [a for a in node.args if a in moving and a not in seen]
        seen.update(fresh)
        stack += fresh
    return list(found)


def _called(
    outputs: Sequence[Node], inputs: Sequence[Node], given: Sequence[Node], name: str
) -> list[Node]:
    """The outputs by a call, in which `given` stand for the placeholders `inputs`."""
    own = set(inputs)
    leaves = [n for n in topological(outputs) if n.op in _LEAVES and n not in own]
    graph, captured = close([*inputs, *leaves], outputs)
    return call_graph(graph, [*given, *leaves, *captured], name)


def _costs(order: Sequence[Node], moving: set[Node]) -> dict[Node, int]:
    """What it takes to compute each node that no direction moves, in additions."""
    cost: dict[Node, int] = {}
    for node in order:
        if node in moving or not isinstance(node.type, TensorType):
            continue
        form = node.op.lowering
        own = 2 * RECOMPUTE_COST  # a kernel of its own, or one result of several
        if isinstance(form, Elementwise):
            own = form.cost
        elif isinstance(form, (View, Generate)) or not node.args:
            own = 0
        beneath = sum(cost.get(argument, 0) for argument in node.args)
        cost[node] = min(own + beneath, 2 * RECOMPUTE_COST)
    return cost


def _beneath_views(node: Node) -> Node:
    while isinstance(node.op.lowering, View) and len(node.args) == 1:
        node = node.args[0]
    return node
