"""Which matrices does a loop multiply by in every step, and how should they lie?

A product reads its right operand row by row, and packs one whose rows lie across. Of a matrix that
is the same in every step that is done once, in front of the loop.
"""

from __future__ import annotations

from graphc.dims import product
from graphc.graph import Graph, parameter, parameter_op, rebuild
from graphc.lowering import Contract
from graphc.node import Node, topological
from graphc.ops.contract import contract_op
from graphc.types import TensorType

# Of fewer steps the copy costs what it saves, and so small a matrix is packed for nothing.
LEAST_STEPS = 4
LEAST_ELEMENTS = 1024


def turned(graph: Graph, first: int) -> tuple[Graph, list[int]]:
    """The graph with products by transposed matrices, and the parameters of which it takes those.

    Matrices are parameters from number `first` on; each that is turned is a further parameter.
    """
    places: dict[int, Node] = {}
    types = list(graph.parameters)
    done: dict[Node, Node] = {}
    for node in topological(graph.outputs):
        args = [done[argument] for argument in node.args]
        if not _reads_across(node, first):
            done[node] = rebuild(node, args)
            continue
        i = node.args[1].attrs["index"]
        if i not in places:
            type_ = types[i]
            assert isinstance(type_, TensorType)
            types.append(TensorType(type_.dtype, type_.shape[::-1]))
            places[i] = parameter(len(types) - 1, types[-1])
        contracted = (node.attrs["contracted"][0], (0,))
        done[node] = contract_op(
            args[0], places[i], batch=node.attrs["batch"], contracted=contracted
        )
    if not places:
        return graph, []
    return Graph(types, [done[output] for output in graph.outputs]), list(places)


def _reads_across(node: Node, first: int) -> bool:
    if not isinstance(node.op.lowering, Contract):
        return False
    matrix, (batch, _) = node.args[1], node.attrs["batch"]
    if matrix.op is not parameter_op or matrix.attrs["index"] < first or batch:
        return False
    size = product(matrix.shape)
    large = not isinstance(size, int) or size >= LEAST_ELEMENTS
    return matrix.ndim == 2 and node.attrs["contracted"][1] == (1,) and large
