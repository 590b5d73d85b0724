"""Is what a derivative is taken by in the graph at all?  If it is not, that is an error.

A forgotten argument, a node built twice from different symbols, a parameter that a layer never
reads: their derivative would be zeros, and training would silently leave them where they are. So
`unused="error"` is what every derivative does unless it is told otherwise.

What is in the graph and has no influence, behind `stop_gradient` or a rounding, has zeros. So has
what a derivative was taken by before: that of a linear function is free of its arguments, and the
derivative of a derivative must not depend on how many orders a function has. Of a derivative it is
therefore remembered which variables it may be free of, those of the graph that was differentiated:
about them nothing is said where a graph contains it. Not about others, for the derivative may be a
node of everybody's: of `(x * w).sum()` by w it is x. About a constant nothing is said either.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from graphc.autodiff.beneath import Beneath
from graphc.autodiff.chain import literal
from graphc.errors import GraphError, shortened
from graphc.graph import placeholder_op
from graphc.node import Node, topological
from graphc.ops.operands import describe, symbol_op
from graphc.tree import Structure

_UNUSED = ("error", "zero")
_VARIABLES = (symbol_op, placeholder_op)


_Variables = dict[int, weakref.ref[Node]] | None


class _Remembered(weakref.ref[Node]):
    """A derivative, and the variables that it may be free of: by identity, for `==` of nodes builds
    a graph; None for all, where a variable of a body stood for others.
    """

    __slots__ = ("free", "key")
    key: int
    free: _Variables


def _forget(reference: weakref.ref[Node]) -> None:
    assert isinstance(reference, _Remembered)
    _derivatives.pop(reference.key, None)


_derivatives: dict[int, _Remembered] = {}


def remembered(
    nodes: list[Node], of: Sequence[Node], below: Beneath | None = None
) -> list[Node]:
    """The same nodes, of which note is taken that they are derivatives of the nodes `of`, or by
    them. `below`, if it is known, is what lies beneath the first of these.

    Not of constants: anybody may build the same ones.
    """
    moving = [node for node in nodes if literal(node) is None]
    if not moving:
        return nodes
    free = _variables(topological(of) if below is None else below.order_with(of))
    for node in moving:
        known = _derivatives.get(id(node))
        if known is None:
            known = _derivatives[id(node)] = _Remembered(node, _forget)
            known.key, known.free = id(node), free
        elif known.free is not None:
            known.free = None if free is None else {**known.free, **free}
    return nodes


def _variables(nodes: Iterable[Node]) -> _Variables:
    """The variables of a graph of these nodes, and those that derivatives in it may be free of."""
    found: dict[int, weakref.ref[Node]] = {}
    known = _derivatives
    for node in nodes:
        if not node.args:
            if node.op is placeholder_op:
                return None
            if node.op is symbol_op:
                found[id(node)] = weakref.ref(node)
        derivative = known.get(id(node)) if known else None
        if derivative is not None:
            if derivative.free is None:
                return None
            found.update(derivative.free)
    return found


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
    """The numbers of those that the outputs do not lead to, but should; none of a constant."""
    left = dict(wanted)
    seen, stack = set(outputs), list(outputs)
    constant = True
    free: dict[int, weakref.ref[Node]] = {}
    while stack and left:
        node = stack.pop()
        left.pop(node, None)
        derivative = _derivatives.get(id(node))
        if derivative is not None:
            if derivative.free is None:
                return []
            free.update(derivative.free)
        constant = constant and node.op not in _VARIABLES
        new = [argument for argument in node.args if argument not in seen]
        seen.update(new)
        stack += new
    if constant:
        return []
    return sorted(i for node, i in left.items() if not _among(node, free))


def _among(node: Node, free: dict[int, weakref.ref[Node]]) -> bool:
    """Whether all variables that a node depends on are among those."""
    own = _variables(topological([node]))
    return own is not None and all(k in free and free[k]() is each() for k, each in own.items())
