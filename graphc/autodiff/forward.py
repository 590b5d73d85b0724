"""How are derivatives taken forwards?  Forward mode: tangents pushed along the graph in its own order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.autodiff.chain import Maybe, is_real, push, result_types
from graphc.autodiff.reverse import _filled, _inputs, active_nodes, seed_like
from graphc.errors import GraphError
from graphc.node import Node, topological
from graphc.ops.operands import as_node
from graphc.ops.special import project_op
from graphc.origin import Event, because
from graphc.tree import flatten


def push_forward(
    outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Maybe]
) -> list[Maybe]:
    """The tangent of every output; None where it is exactly zero."""
    from graphc.autodiff.regions import TRANSFORM

    order = topological(outputs, known=inputs)
    active = active_nodes(order, inputs)
    held: dict[Node, list[Maybe]] = {
        node: [tangent] for node, tangent in zip(inputs, tangents, strict=True)
    }
    for node in order:
        if node not in active or node in held:
            continue
        if node.op is project_op:
            held[node] = [held[node.args[0]][node.attrs["index"]]]
            continue
        given = [held[argument][0] if argument in active and argument in held else None for argument in node.args]
        if all(tangent is None for tangent in given):
            held[node] = [None] * len(result_types(node))
            continue
        with because(Event("jvp", node.op.name, because=node.origin)):
            pushed = push(node, given, TRANSFORM)
        held[node] = [
            tangent if is_real(type_) else None
            for tangent, type_ in zip(pushed, result_types(node), strict=True)
        ]
    return [held[node][0] if node in held else None for node in outputs]


def jvp(outputs: Any, inputs: Any, tangents: Any) -> Any:
    """Tangents of `outputs`, given those of `inputs`: Jacobian-vector products as graphs.

    All three are nodes or nested containers; tangents have the structure, shapes and dtypes of the inputs; the
    result has the structure of `outputs`.
    """
    out_leaves, out_structure = flatten(outputs)
    in_leaves, in_structure = flatten(inputs)
    given, given_structure = flatten(tangents)
    if given_structure != in_structure:
        raise GraphError(f"jvp: tangents have structure {given_structure}, inputs {in_structure}")
    in_nodes = _inputs(in_leaves, "jvp")
    out_nodes = [as_node(leaf) for leaf in out_leaves]
    seeds = [seed_like(node, value) for node, value in zip(in_nodes, given, strict=True)]
    answer = push_forward(out_nodes, in_nodes, seeds)
    return out_structure.unflatten(_filled(out_nodes, answer))
