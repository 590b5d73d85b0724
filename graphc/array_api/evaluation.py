"""How does a function of the standard get its values? It builds the graph of one step and runs it.

Arguments become placeholders of their types, the function of graphc's surface makes nodes of them,
and the evaluator runs those: tens of microseconds for a small array, nothing compiled, nothing
kept. Code that should be fast is put under `gx.jit`, where the same names build one graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import origin
from graphc.array_api.array_object import Array
from graphc.evaluator import run
from graphc.graph import placeholder
from graphc.node import Node
from graphc.protocols import find
from graphc.tree import flatten
from graphc.types import TensorType


def compute(name: str, *args: Any, **named: Any) -> Any:
    """The surface's function `name` on arrays, which may lie in lists and tuples."""
    function = find(name)
    if function is None:
        raise NotImplementedError(f"graphc has no {name} yet")
    return apply(function, *args, **named)


def apply(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What a function that builds graphs gives for arrays, as arrays."""
    values: dict[Node, Any] = {}
    with origin.origins(False):
        nodes = [_node(value, values) for value in args]
        options = {name: _node(value, values) for name, value in named.items()}
        made, structure = flatten(function(*nodes, **options))
    # A result of rank 0 may be a scalar of NumPy.
    results = [np.asarray(result) for result in run(made, values, {})]
    for node, result in zip(made, results, strict=True):
        assert result.dtype == node.dtype and result.shape == node.shape, (node, result)
    return structure.unflatten([Array._of(result) for result in results])


def _node(value: Any, values: dict[Node, Any]) -> Any:
    """A placeholder for an array, also within a list or tuple; anything else as it is."""
    if isinstance(value, Array):
        node = placeholder(TensorType(value.dtype, value.shape))
        values[node] = value._value
        return node
    if isinstance(value, (list, tuple)):
        return type(value)([_node(item, values) for item in value])
    return value
