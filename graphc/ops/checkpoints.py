"""Which values does reverse mode compute again rather than keep?  Those inside `checkpoint`.

A `call` is the mark. Its derivative is a call of the derivative of its Graph, which begins with the
arguments: what the Graph computes on the way is made again inside. Nodes of different Graphs are
different nodes, and no rule writes out a call, so that nothing shares the two computations. Within
a loop see `checkpoint=` of `scan`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import GraphError, shortened
from graphc.graph import close, placeholder
from graphc.node import Node, created_since, youngest
from graphc.ops.control import call_graph
from graphc.ops.operands import as_node
from graphc.tensor import surface
from graphc.tree import flatten


@surface
def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, of which reverse mode keeps the arguments only: what it computes on the way is
    computed again when its derivative is.

    Arguments and results may be nested containers of nodes and arrays; everything else among the
    arguments, Python's numbers too, is given to the function as it is. What the function uses from
    outside is kept like an argument. Checkpoints may lie within one another. The values, and all
    derivatives, are those of the function itself.

    >>> import graphc as gx
    >>> x = gx.vector("x", 3)
    >>> layer = gx.checkpoint(lambda h: gx.tanh(gx.exp(h)))
    >>> print(gx.grad(layer(layer(x)).sum(), x).type)
    float64[3]
    """
    if not callable(function):
        raise GraphError(
            f"checkpoint marks a function, got {shortened(repr(function))}\n"
            "Write gx.checkpoint(f)(x), or use it as a decorator; the steps that a loop keeps are "
            "the `checkpoint` of gx.scan."
        )
    name = str(getattr(function, "__name__", "function"))

    @functools.wraps(function)
    def marked(*args: Any, **named: Any) -> Any:
        leaves, structure = flatten((args, named))
        arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (Node, np.ndarray))]
        nodes = [as_node(leaves[i]) for i in arrays]
        inputs = [placeholder(node.type) for node in nodes]
        given = dict(enumerate(leaves)) | dict(zip(arrays, inputs, strict=True))
        marker = youngest()
        own, own_named = structure.unflatten(list(given.values()))
        results, result_structure = flatten(function(*own, **own_named))
        outputs = [as_node(result) for result in results]
        graph, captured = close(inputs, outputs, inside=created_since(marker))
        found = call_graph(graph, [*nodes, *captured], f"checkpoint of {name}")
        return result_structure.unflatten(found if outputs else [])

    return marked
