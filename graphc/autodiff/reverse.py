"""How are derivatives taken backwards?  Reverse mode: graph in, graph out.

The result is an ordinary graph that shares the forward nodes, so it can be looked at, rewritten,
compiled, and differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.autodiff.chain import Maybe, is_real, zero
from graphc.autodiff.membership import remembered, require_members
from graphc.autodiff.regions import TRANSFORM
from graphc.autodiff.sweep import pull_back
from graphc.errors import GraphError
from graphc.graph import placeholder
from graphc.node import Node
from graphc.ops.arithmetic import like
from graphc.ops.operands import as_node, describe
from graphc.tree import flatten
from graphc.types import TensorType
from graphc.weak import WeakScalar


def vjp(outputs: Any, inputs: Any, cotangents: Any, *, unused: str = "error") -> Any:
    """Cotangents of `inputs`, given those of `outputs`: vector-Jacobian products as graphs.

    All three are nodes or nested containers; cotangents have the structure, shapes and dtypes of
    the outputs. The result has the structure of `inputs`, zeros where an input has no influence.
    Raises `GraphError` for an op without a derivative on the way, and for an input that is in the
    graph of no output, unless `unused` is "zero".
    """
    out_leaves, out_structure = flatten(outputs)
    in_leaves, in_structure = flatten(inputs)
    given, given_structure = flatten(cotangents)
    if given_structure != out_structure:
        raise GraphError(
            f"vjp: cotangents have structure {given_structure}, outputs {out_structure}"
        )
    out_nodes = [as_node(leaf) for leaf in out_leaves]
    in_nodes = real_inputs(in_leaves, "vjp")
    seeds = [
        seed_like(node, value, "cotangent") for node, value in zip(out_nodes, given, strict=True)
    ]
    answer = pull_back(out_nodes, in_nodes, seeds, TRANSFORM)
    require_members("vjp", out_nodes, in_nodes, absent(answer), in_structure, unused)
    of = [*out_nodes, *in_nodes, *seeds]
    return in_structure.unflatten(remembered(filled(in_nodes, answer), of))


def seed_like(node: Node, value: Any, what: str) -> Node:
    """A given cotangent, tangent or direction (`what`), as a node of the type of `node`."""
    from graphc.ops.operands import broadcast_together, cast

    given = cast(as_node(value), node.dtype)
    seed = given
    if seed.shape != node.shape:
        try:
            seed = broadcast_together(what, [given, node])[0]
        except GraphError:
            seed = given
    if seed.type is not node.type:
        raise GraphError(
            f"a {what} of type {given.type} for a value of type {node.type}\n"
            + describe([given, node])
            + f"\nA {what} has the shape of its value, or one that broadcasts to it."
        )
    return seed


def real_inputs(leaves: Sequence[Any], name: str) -> list[Node]:
    nodes = [leaf.node if isinstance(leaf, WeakScalar) else leaf for leaf in leaves]
    for leaf in nodes:
        if not isinstance(leaf, Node) or not isinstance(leaf.type, TensorType):
            raise GraphError(f"{name}: differentiate with respect to nodes, not {leaf!r}")
        if not is_real(leaf.type):
            raise GraphError(
                f"{name}: {leaf.type} does not vary smoothly; differentiate with respect to "
                "floats\n"
                + describe([leaf])
            )
    return nodes


def filled(nodes: Sequence[Node], answer: Sequence[Maybe]) -> list[Node]:
    return [zero(n.type) if a is None else a for n, a in zip(nodes, answer, strict=True)]  # type: ignore[arg-type]


def absent(answer: Sequence[Maybe]) -> list[int]:
    """The numbers of the inputs that nothing came back to."""
    return [i for i, each in enumerate(answer) if each is None]


def value_and_grad(
    cost: Node, wrt: Any, memory: float | None = None, *, unused: str = "error"
) -> tuple[Node, Any]:
    """`cost` and its gradient; see `grad`."""
    return cost, grad(cost, wrt, memory, unused=unused)


def grad(cost: Node, wrt: Any, memory: float | None = None, *, unused: str = "error") -> Any:
    """The gradient of a rank-0 real `cost` with respect to a node or a nested container of nodes.

    The result has the structure of `wrt`; a node without influence, behind `stop_gradient` say, has
    zeros. A node that is not in the graph of `cost` is an error, or with `unused="zero"` zeros too.
    The derivative of a derivative is no such error: that of a linear function is a constant.

    With `memory` only so many bytes of intermediate values are kept for the backward computation,
    those that are dearest to compute again (a minimum cut; needs networkx); inputs do not count. An
    int is a number of bytes; a float from 0 to 1 a part of what is kept where nothing is computed
    again but views, for extents that are not known, too.

    >>> import graphc as gx
    >>> x = gx.vector("x", 3)
    >>> print(gx.grad((x * x).sum(), x).type)
    float64[3]
    """
    node = as_node(cost)
    if node.shape != () or not is_real(node.type):
        raise GraphError(
            f"grad needs a cost of rank 0 and a float dtype, got {node.type}\n" + describe([node])
            + "\nTake a sum or a mean first, or use gx.vjp or gx.jacobian."
        )
    leaves, structure = flatten(wrt)
    nodes = real_inputs(leaves, "grad")
    one = like(node, 1)
    if memory is None:
        answer = pull_back([node], nodes, [one], TRANSFORM)
        require_members("grad", [node], nodes, absent(answer), structure, unused)
        return structure.unflatten(remembered(filled(nodes, answer), [node, *nodes]))
    from graphc.autodiff.rematerialise import within

    seed = placeholder(node.type)
    answer = pull_back([node], nodes, [seed], TRANSFORM)
    require_members("grad", [node], nodes, absent(answer), structure, unused)
    found = within(node, seed, filled(nodes, answer), memory)
    return structure.unflatten(remembered(found, [node, *nodes]))
