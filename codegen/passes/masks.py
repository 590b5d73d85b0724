"""Which masks are not worth storing?  Those of relu, where what it gives is read again anyway.

The derivative of relu asks for `x > 0`, which `relu(x) > 0` answers alike (of NaN both say no).
Where the kernels of a gradient read `relu(x)` besides, a mask made from it is one array less to
write and to read. The graph is rewritten in its own ops; that the mask is made where it is read,
and not where `relu(x)` is, the partition decides (`Tactics.remakes_masks`).
"""

from __future__ import annotations

import numpy as np

from graphc.graph import Graph, rebuild
from graphc.node import Node, topological
from graphc.ops.arithmetic import relu_op
from graphc.ops.operands import broadcast_op, constant_op

# Who else reads what relu gives: a kernel before, and one where the mask is wanted.
LEAST_READERS = 2


def masks_of_results(graph: Graph) -> Graph:
    """The graph with masks of what relu takes made from what it gives."""
    order = topological(graph.outputs)
    readers: dict[Node, int] = {}
    for node in order:
        for argument in node.args:
            readers[argument] = readers.get(argument, 0) + 1
    rectified = {
        node.args[0]: node
        for node in order
        if node.op is relu_op and readers.get(node, 0) >= LEAST_READERS
    }
    if not rectified:
        return graph
    done: dict[Node, Node] = {}
    for node in order:
        made = rebuild(node, [done[argument] for argument in node.args])
        if is_sign_mask(node) and node.args[0] in rectified:
            result = rectified[node.args[0]]
            if result not in done:  # comes later in the order, and needs nothing else
                done[result] = rebuild(result, [done[result.args[0]]])
            made = rebuild(node, [done[result], done[node.args[1]]])
        done.setdefault(node, made)
    return Graph(graph.parameters, [done[output] for output in graph.outputs])


def is_sign_mask(node: Node) -> bool:
    """Whether a node tells which elements are greater than 0."""
    if node.op.name != "greater":
        return False
    zero = node.args[1]
    while zero.op is broadcast_op:
        zero = zero.args[0]
    return zero.op is constant_op and not np.any(zero.attrs["value"].array)


__all__ = ["LEAST_READERS", "is_sign_mask", "masks_of_results"]
