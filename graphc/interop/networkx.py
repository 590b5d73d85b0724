"""How does a graph become one of networkx, for its algorithms on graphs?

The library is imported when a function here is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.errors import missing_extra
from graphc.origin import location

if TYPE_CHECKING:
    import networkx  # type: ignore[import-untyped]

__all__ = ["to_networkx"]


def to_networkx(x: Any) -> networkx.DiGraph:
    """Every node of a node, a Graph, or a nested container of nodes, as a networkx graph.

    Nodes are keyed "n0", "n1", ... in the order and under the names of `to_text(x, hide=False)`,
    parameters of a Graph "p0", "p1", .... Attributes of a node: `op` (its name), `type`, `origin`
    ("file:line", or empty), `label` (its text), all strings. An edge leads from an argument to its
    user and has its position as `argument`; if a node takes an argument more than once the result
    is a `MultiDiGraph`. The Graphs that nodes carry are not entered. Raises `ImportError` if
    networkx is not installed.

    >>> from graphc.ops.operands import symbol
    >>> graph = to_networkx(-symbol("x"))
    >>> graph.nodes["n1"]["op"], list(graph.edges(data="argument"))
    ('negative', [('n0', 'n1', 0)])
    """
    try:
        import networkx
    except ImportError:
        raise missing_extra("networkx", "all", "to_networkx") from None
    from graphc.display.listing import origins_of, outline

    shown = outline(x, hide=False)
    listing, names = shown.main, shown.main.boxes()
    edges = [
        (names[source], name, position)
        for node, name in listing.names.items()
        for position, source in listing.sources(node)
    ]
    repeated = len({(start, end) for start, end, _ in edges}) < len(edges)
    graph = networkx.MultiDiGraph() if repeated else networkx.DiGraph()
    for node, name in names.items():
        graph.add_node(
            name,
            op=node.op.name,
            type=repr(node.type),
            origin=location(origins_of(node)),
            label=listing.text(node, shown.names),
        )
    for start, end, position in edges:
        graph.add_edge(start, end, argument=position)
    return graph
