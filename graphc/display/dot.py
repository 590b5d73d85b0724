"""How does a graph look in DOT, the language of Graphviz?

The same listing as text, as boxes and arrows: a box says `n3 = n1 * 2.0`, so the order of arguments
needs no marks on the arrows. The body of a nested Graph is a cluster, drawn once however many nodes
carry it. Nothing here needs Graphviz; `dot -Tsvg` draws what comes out.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Any

from graphc.display.listing import (
    Listing,
    Outline,
    family,
    is_derivative,
    origin_text,
    origins_of,
    outline,
    type_text,
    whole_origins,
)
from graphc.display.text import header, returned
from graphc.node import Node

# Fill colours of the families of ops, distinct without red and green as well.
COLOURS = {
    "leaf": "#eeeeee",
    "elementwise": "#cfe3f5",
    "movement": "#fdf2c4",
    "reduce": "#d5ecd4",
    "contract": "#f6d5c3",
    "region": "#e4d9f1",
    "composed": "#dcebe8",
    "other": "#ffffff",
}
DERIVATIVE = "#b03a2e"  # the outline, dashed, of nodes that differentiation built
PLAIN = "#555555"


def to_dot(x: Any, origins: bool = True) -> str:
    """A node, a Graph, or a nested container of nodes as a `digraph`.

    A box holds the node's text and its type, and with `origins` the line of the user's code that it
    comes from; its tooltip says all origins with whole paths. Nodes built by differentiation are
    outlined in dashes. A dotted line leads from a node to the body of the Graph that it carries.

    >>> from graphc.ops.operands import symbol
    >>> print(to_dot(-symbol("x"), origins=False).splitlines()[-2])
      "n0" -> "n1";
    """
    shown = outline(x)
    lines = [
        "digraph {",
        '  graph [compound=true, fontname="monospace", fontsize=10, labeljust=l, labelloc=b];',
        '  node [shape=box, style="filled,rounded", fontname="monospace", fontsize=10];',
        f"  edge [color={_quoted(PLAIN)}, arrowsize=0.7];",
    ]
    for name, listing in shown.listings():
        body = _body(listing, _prefix(name), shown, origins)
        lines += _cluster(name, header(listing, name), body) if name else body
    for inside, node, name in shown.carriers():
        lines.append(
            f"  {_quoted(_prefix(inside) + node)} -> {_quoted(_prefix(name) + 'return')} "
            f"[lhead={_quoted(f'cluster_{name}')}, style=dotted, arrowhead=none];"
        )
    return "\n".join([*lines, "}"])


def _prefix(name: str) -> str:
    """What stands before the names of one listing, which are its own."""
    return f"{name}_" if name else ""


def _cluster(name: str, title: str, body: Iterable[str]) -> Iterator[str]:
    yield f"  subgraph {_quoted(f'cluster_{name}')} {{"
    yield f"    label={_quoted(title)}; labelloc=t; color={_quoted(PLAIN)}; style=rounded;"
    yield from ("  " + line for line in body)
    yield "  }"


def _body(listing: Listing, prefix: str, shown: Outline, origins: bool) -> Iterator[str]:
    """Boxes, then arrows, of one listing."""
    names = listing.boxes()
    outputs = dict.fromkeys(map(listing.source, listing.subject.outputs))
    for node, name in names.items():
        label, attributes = _box(listing, node, name, shown, origins)
        if node in outputs:
            attributes["penwidth"] = "2"
        given = "".join(f", {key}={_quoted(value)}" for key, value in attributes.items())
        yield f"  {_quoted(prefix + name)} [label=<{label}>{given}];"
    for node, name in listing.names.items():
        for _, source in listing.sources(node):
            yield f"  {_quoted(prefix + names[source])} -> {_quoted(prefix + name)};"
    back = "\n".join(returned(listing))
    if not back:
        return
    end = _quoted(f"{prefix}return")
    yield f"  {end} [label={_quoted(back, justified=True)}, shape=plaintext, style=solid];"
    for output in outputs:
        if output is not None:
            yield f"  {_quoted(prefix + names[output])} -> {end} [style=dashed];"


def _box(
    listing: Listing, node: Node, name: str, shown: Outline, origins: bool
) -> tuple[str, dict[str, str]]:
    """The label of a box, in Graphviz's HTML, and its attributes."""
    small = [type_text(node)]
    attributes = {"fillcolor": COLOURS[family(node)], "color": PLAIN}
    events = origins_of(node)
    if is_derivative(events):
        attributes |= {"color": DERIVATIVE, "style": "filled,rounded,dashed"}
    if origins and events:
        small.append(origin_text(events[:1]))
        attributes["tooltip"] = whole_origins(events)
    lines = [html.escape(box_text(listing, node, name, shown))]
    lines += [f'<font point-size="9">{html.escape(text)}</font>' for text in small]
    return "<br/>".join(lines), attributes


def box_text(listing: Listing, node: Node, name: str, shown: Outline) -> str:
    """What a box says first: `n3 = n1 * 2.0`."""
    text = listing.text(node, shown.names)
    return text if text == name else f"{name} = {text}"


def _quoted(text: str, justified: bool = False) -> str:
    """A string of DOT; with `justified` its lines are set to the left."""
    end = "\\l" if justified else "\\n"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", end)
    return f'"{escaped}{end if justified else ""}"'
