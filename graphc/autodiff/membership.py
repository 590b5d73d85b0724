"""Is what a derivative is taken by in the graph at all?  If it is not, that is an error.

A forgotten argument, a node built twice from different symbols, a parameter that a layer never
reads: their derivative would be zeros, and training would silently leave them where they are. So
`unused="error"` is what every derivative does unless it is told otherwise.

What is in the graph and has no influence, behind `stop_gradient` or a rounding, has zeros. So has
what a derivative was taken by before: that of a linear function is free of its arguments, and the
derivative of a derivative must not depend on how many orders a function has. A derivative is
therefore remembered as such, and nothing is said about a graph that contains one, nor about one
that is a constant.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from graphc.autodiff.chain import literal
from graphc.errors import GraphError, shortened
from graphc.graph import placeholder_op
from graphc.node import Node
from graphc.ops.operands import describe, symbol_op
from graphc.tree import Structure

_UNUSED = ("error", "zero")
_VARIABLES = (symbol_op, placeholder_op)


class _Remembered(weakref.ref[Node]):
    __slots__ = ("key",)
    key: int


def _forget(reference: weakref.ref[Node]) -> None:
    assert isinstance(reference, _Remembered)
    _derivatives.pop(reference.key, None)


# By identity: `==` of nodes builds a graph, so they cannot be the keys of a weak dictionary.
_derivatives: dict[int, _Remembered] = {}


def remembered(nodes: list[Node]) -> list[Node]:
    """The same nodes, of which note is taken that they are derivatives.

    Not of constants: anybody may build the same ones.
    """
    for node in nodes:
        key = id(node)
        if key not in _derivatives and literal(node) is None:
            reference = _Remembered(node, _forget)
            reference.key = key
            _derivatives[key] = reference
    return nodes


def require_members(
    name: str,
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    suspects: Sequence[int],
    structure: Structure,
    unused: Any,
) -> None:
    """A `GraphError` if one of the inputs, of those numbered in `suspects`, is not in the graph."""
    require_option(name, unused)
    if unused == "zero" or not suspects:
        return
    missing = _missing(outputs, {inputs[i]: i for i in reversed(suspects)})
    if not missing:
        return
    paths = structure.paths()
    lines = [
        f"{name}: differentiate by what is in the graph; not in it:",
        *(_line(inputs[i], paths[i] if len(paths) > 1 else "") for i in missing[:3]),
    ]
    if len(missing) > 3:
        lines.append(f"  and {len(missing) - 3} more")
    lines += [
        "The graph is that of",
        describe(outputs[:1]),
        'Pass unused="zero" for zeros, or build the graph from that very node.',
    ]
    raise GraphError("\n".join(lines))


def require_option(name: str, unused: Any) -> None:
    """`unused` is one of its two values."""
    if unused not in _UNUSED:
        raise GraphError(f'{name}: unused is "error" or "zero", got {shortened(repr(unused))}')


def _line(node: Node, path: str) -> str:
    text = describe([node])
    return f"{text}, {path} of the container" if path else text


def _missing(outputs: Sequence[Node], wanted: dict[Node, int]) -> list[int]:
    """The numbers of those that the outputs do not lead to; none if that may well be so."""
    left = dict(wanted)
    seen, stack = set(outputs), list(outputs)
    constant = True
    while stack and left:
        node = stack.pop()
        left.pop(node, None)
        if id(node) in _derivatives:
            return []
        constant = constant and node.op not in _VARIABLES
        new = [argument for argument in node.args if argument not in seen]
        seen.update(new)
        stack += new
    return [] if constant else sorted(left.values())
