"""Jacobians, Hessians and Hessian-vector products, made of the two modes.

A dense Jacobian is a scan over the rows (reverse mode) or columns (forward mode) of the identity,
whichever is fewer: one derivative body, compiled once, whatever the sizes.
"""

from __future__ import annotations

from typing import Any

from graphc.autodiff.forward import jvp
from graphc.autodiff.reverse import grad, vjp
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.control import scan
from graphc.ops.creation import iota
from graphc.ops.movement import moveaxis_last, reshape
from graphc.ops.operands import as_node, constant
from graphc.ops.special import where
from graphc.tree import flatten


def _basis(k: Node, like: Node) -> Node:
    """The k-th unit vector, in the shape and dtype of `like`."""
    size = like.size
    hit = iota((size,)) == k
    one, none = constant(1, like.dtype), constant(0, like.dtype)
    return reshape(where(hit, one, none), like.shape)


def jacobian(outputs: Node, inputs: Any, mode: str = "auto") -> Any:
    """The Jacobian of one real output with respect to a node or a container of nodes.

    The result has the structure of `inputs`; each leaf has shape `outputs.shape + input.shape`.
    `mode` is "reverse", "forward" or "auto": by the smaller side where sizes are known, else
    reverse.
    """
    output = as_node(outputs)
    leaves, structure = flatten(inputs)
    return structure.unflatten([_jacobian(output, leaf, mode) for leaf in leaves])


def _jacobian(output: Node, wrt: Node, mode: str) -> Node:
    if mode not in ("auto", "forward", "reverse"):
        raise GraphError(f'jacobian: mode is "auto", "forward" or "reverse", got {mode!r}')
    rows, columns = output.size, wrt.size
    fewer_columns = isinstance(rows, int) and isinstance(columns, int) and columns < rows
    if mode == "forward" or (mode == "auto" and fewer_columns):
        _, stacked = scan(lambda s, k: (s, jvp(output, wrt, _basis(k, wrt))), (), iota((columns,)))
        return reshape(moveaxis_last(stacked), (*output.shape, *wrt.shape))
    _, stacked = scan(lambda s, k: (s, vjp(output, wrt, _basis(k, output))), (), iota((rows,)))
    return reshape(stacked, (*output.shape, *wrt.shape))


def hvp(cost: Node, wrt: Any, vector: Any) -> Any:
    """The Hessian of a rank-0 `cost` times `vector`, which has the structure of `wrt`: forward over
    reverse.
    """
    return jvp(grad(cost, wrt), wrt, vector)


def hessian(cost: Node, wrt: Node) -> Node:
    """The Hessian of a rank-0 `cost` by one node: shape `wrt.shape + wrt.shape`."""
    return jacobian(grad(cost, wrt), wrt, mode="forward")
