"""Which products are made where they are read?  Sums of a few terms, of operands that are small
beside the result.

The gradient of a layer of ten outputs is a product of depth 10: a large array made of two small
ones, that products read as an operand. Written out as element-wise work it can float there
(`fuse.remaking` decides), and the array is neither stored nor read. The graph is rewritten in its
own ops, so nothing below knows.
"""

from __future__ import annotations

from graphc import dtypes
from graphc.dims import product
from graphc.graph import Graph, rebuild
from graphc.lowering import Contract, Elementwise, Reduce, View
from graphc.node import Node, topological
from graphc.ops.arithmetic import add_op, multiply_op
from graphc.ops.contract import labels_of
from graphc.ops.movement import transpose
from graphc.ops.operands import broadcast

# Terms that are written out, and how many times larger than its operands a result must be.
MOST_TERMS, LEAST_GROWTH = 10, 4


def shallow_written_out(graph: Graph) -> Graph:
    """The graph with shallow products that other products read as element-wise work."""
    order = topological(graph.outputs)
    readers: dict[Node, list[Node]] = {}
    for node in order:
        for argument in node.args:
            readers.setdefault(argument, []).append(node)
    kept = set(graph.outputs)
    shallow = [node for node in order if node not in kept and _is_shallow(node)]
    found = {node for node in shallow if _feeds_products(node, readers)}
    if not found:
        return graph
    done: dict[Node, Node] = {}
    for node in order:
        same = rebuild(node, [done[argument] for argument in node.args])
        done[node] = _written_out(same) if node in found else same
    return Graph(graph.parameters, [done[output] for output in graph.outputs])


def _terms(node: Node) -> int:
    """How many terms each sum of a product has; 0 if it is over several axes, or not known."""
    axes = node.attrs["contracted"][0]
    depth = node.args[0].shape[axes[0]] if len(axes) == 1 else 0
    return depth if isinstance(depth, int) else 0


def _is_shallow(node: Node) -> bool:
    if not isinstance(node.op.lowering, Contract) or not dtypes.is_float(node.dtype):
        return False
    if dtypes.is_half(node.dtype) or not 0 < _terms(node) <= MOST_TERMS:
        return False
    first, second = node.args
    made, given = product(node.shape), product(first.shape) + product(second.shape)
    return isinstance(made, int) and isinstance(given, int) and made >= LEAST_GROWTH * given


def _feeds_products(node: Node, readers: dict[Node, list[Node]]) -> bool:
    """Whether several products read what is made of a node element by element, and no kernel over
    its rows, to which a product can go in registers (`chains`).
    """
    products = 0
    stack, seen = [node], {node}
    while stack:
        current = stack.pop()
        for reader in readers.get(current, ()):
            form = reader.op.lowering
            if isinstance(form, Reduce) and current.ndim - 1 in reader.attrs["axes"]:
                return False
            products += isinstance(form, Contract)
            if reader not in seen and isinstance(form, (Elementwise, View)):
                seen.add(reader)
                stack.append(reader)
    return products > 1


def _written_out(node: Node) -> Node:
    """The sum of a product's terms, in their order."""
    labels, result = labels_of(node)
    (depth_label,) = set(labels[0]) - set(result)
    place = {label: axis for axis, label in enumerate(result)}
    total: Node | None = None
    for k in range(_terms(node)):
        factors = []
        for x, mine in zip(node.args, labels, strict=True):
            cut = mine.index(depth_label)
            row = x[(slice(None),) * cut + (k,)]
            kept = [label for label in mine if label != depth_label]
            turned = sorted(kept, key=place.__getitem__)
            row = transpose(row, [kept.index(label) for label in turned])
            factors.append(broadcast(row, node.shape, tuple(place[label] for label in turned)))
        term = multiply_op(*factors)
        total = term if total is None else add_op(total, term)
    assert total is not None
    return total


__all__ = ["shallow_written_out"]
