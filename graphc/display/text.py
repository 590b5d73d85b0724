"""How does a graph read as text?  A numbered listing, or one line for a small expression.

The listing shows a shared node once and costs nothing by depth; the expression repeats what is
shared, as a formula does, and is cut off at a limit.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from graphc.display.listing import (
    ATOM,
    GraphNames,
    Listing,
    Operand,
    Outline,
    graphs_of,
    notation,
    origin_text,
    origins_of,
    outline,
    shown_arguments,
    type_text,
)
from graphc.graph import Graph
from graphc.node import Node

_WIDEST = 72  # columns before the origins; longer lines push theirs to the right
_OPERATIONS_IN_SUMMARY = 8


def summary(node: Node) -> str:
    """A node in one line: a short expression and the type.

    >>> from graphc.ops.operands import symbol
    >>> x = symbol("x", ("n", 3))
    >>> summary((x + 1.0) * x)
    '<(x + 1.0) * x: float64[n, 3]>'
    """
    return f"<{to_expression(node, _OPERATIONS_IN_SUMMARY)}: {type_text(node)}>"


def to_expression(node: Node, limit: int = 40) -> str:
    """`node` as one infix expression of at most `limit` operations; beyond them stands "...".

    >>> from graphc.ops.operands import symbol
    >>> x, y = symbol("x"), symbol("y")
    >>> to_expression(-(x - (y - 2.0)) ** y)
    '-(x - (y - 2.0)) ** y'
    >>> to_expression(x * x + y * y, limit=2)
    'x * x + ...'
    """
    # Occurrences in breadth-first order: (node, the first of its operands' occurrences).
    occurrences: list[tuple[Node, int | None]] = [(node, None)]
    operations = position = 0
    while position < len(occurrences):
        shown, _ = occurrences[position]
        if shown.args and operations < limit:
            operations += 1
            occurrences[position] = (shown, len(occurrences))
            occurrences += [(argument, None) for argument in shown_arguments(shown)]
        position += 1
    texts: list[Operand] = [Operand("...", ATOM)] * len(occurrences)
    for position in reversed(range(len(occurrences))):
        shown, first = occurrences[position]
        if not shown.args:
            texts[position] = notation(shown, ())
        elif first is not None:
            texts[position] = notation(shown, texts[first : first + len(shown.args)], typed=False)
    return texts[0].text


def to_text(x: Any, origins: bool = False, hide: bool = True) -> str:
    """A numbered listing of a node, a Graph, or a nested container of nodes; shared nodes once.

    `origins` adds where each node comes from. `hide=False` also shows the broadcasts and casts that
    NumPy's rules imply, numbers, and results of nodes with several, each under a name of its own.
    The body of a `call` or `scan` stands below the first node that carries it.

    >>> from graphc.ops.operands import symbol
    >>> x = symbol("x", ("n", 3))
    >>> print(to_text((x * 2.0 + x).sum()))
    n0 = x: float64[n, 3]
    n1 = n0 * 2.0: float64[n, 3]
    n2 = n1 + n0: float64[n, 3]
    n3 = sum(n2, axes=(0, 1)): float64
    """
    if not origins:
        written = io.StringIO()
        for text, _ in _lines(outline(x, hide)):
            written.write(f"{text}\n")
        return written.getvalue().removesuffix("\n")
    lines = list(_lines(outline(x, hide)))
    width = min(max((len(text) for text, _ in lines), default=0), _WIDEST)
    return "\n".join(
        f"{text:<{width}}  {origin_text(origins_of(node))}".rstrip() if node is not None else text
        for text, node in lines
    )


def header(listing: Listing, title: str) -> str:
    """What stands above the body of a Graph: `g0(p0: float64[3])`; empty for anything else."""
    types = listing.subject.parameters
    if types is None:
        return ""
    return f"{title}({', '.join(f'p{i}: {type_!r}' for i, type_ in enumerate(types))})"


def returned(listing: Listing) -> list[str]:
    """What is given back, in lines: nothing for a bare node, which stands in the last line."""
    subject = listing.subject
    if subject.is_bare:
        return []
    names = [listing.reference(output).text for output in subject.outputs]
    paths = subject.paths or ()
    if all(re.fullmatch(r"\[\d+\]", path) for path in paths):
        return [f"return {', '.join(names) or '()'}"]
    return ["return", *(f"  {path}: {name}" for path, name in zip(paths, names, strict=True))]


Line = tuple[str, Node | None, list[Graph]]


def _lines(shown: Outline) -> Iterator[tuple[str, Node | None]]:
    """The lines, each with the node that it is about; a body follows the line that carries it."""
    begun: set[Graph] = set()
    open_bodies = [_body(shown.main, "graph", shown.names, "")]
    while open_bodies:
        line = next(open_bodies[-1], None)
        if line is None:
            open_bodies.pop()
            continue
        text, node, graphs = line
        yield text, node
        new = [graph for graph in graphs if graph not in begun]
        begun.update(new)
        indent = " " * (len(text) - len(text.lstrip()) + 4)
        open_bodies += [
            _body(shown.bodies[graph], shown.names[graph], shown.names, indent)
            for graph in reversed(new)
        ]


def _body(listing: Listing, title: str, names: GraphNames, indent: str) -> Iterator[Line]:
    above = header(listing, title)
    if above:
        yield f"{indent}{above}:", None, []
        indent += "  "
    for node, name in listing.names.items():
        text = f"{indent}{name} = {listing.text(node, names)}: {type_text(node)}"
        yield text, node, graphs_of(node)
    for text in returned(listing):
        yield indent + text, None, []
