"""How does an element-wise op become a public function?  One shape serves nearly all of them.

The arguments are converted, promoted and broadcast (`operands`), then the op is applied. What
differs is the op, the docstring, and the dtypes that are taken: a table of calls says that better
than a page of functions. A function that does more than this is written out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.node import Node
from graphc.op import Op
from graphc.ops.operands import cast, operands
from graphc.tensor import surface


def unary(
    op: Op,
    doc: str,
    *,
    real: bool = False,
    kinds: str = "biuf",
    integers: np.dtype[Any] | None = None,
) -> Callable[[Any], Node]:
    """The public function of an op of one argument. The options are those of `operands`."""

    def function(x: Any) -> Node:
        return op(*operands(op.name, x, real=real, kinds=kinds, integers=integers))

    function.__module__ = _caller()
    return published(function, op.name, doc)


def binary(
    op: Op,
    doc: str,
    *,
    real: bool = False,
    kinds: str = "biuf",
    integers: np.dtype[Any] | None = None,
) -> Callable[[Any, Any], Node]:
    """The public function of an op of two arguments, which broadcast and promote."""

    def function(x: Any, y: Any) -> Node:
        return op(*operands(op.name, x, y, real=real, kinds=kinds, integers=integers))

    function.__module__ = _caller()
    return published(function, op.name, doc)


def counted(name: str, *values: Any, kinds: str = "iuf") -> list[Node]:
    """The operands of a function of numbers: bool counts as int8, as in NumPy."""
    nodes = operands(name, *values, kinds="b" + kinds)
    if dtypes.kind(nodes[0].dtype) != "b":
        return nodes
    return [cast(node, "int8") for node in nodes]


def published(function: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    """The function as part of the surface, under its name and with its docstring."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return surface(function)


def _caller() -> str:
    """The module that asks for a function: `help` says that it is defined there."""
    return sys._getframe(2).f_globals["__name__"]
