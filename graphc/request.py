"""What is to be compiled?  A closed graph, the names of its inputs, the structures around it, and options.

`prepare` checks what a user passed and closes the graph over the inputs; compiling and emitting both start from its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.errors import GraphError
from graphc.graph import Graph, close, symbol_op
from graphc.node import Node, topological
from graphc.options import Options
from graphc.origin import location
from graphc.tree import Structure, flatten


class Request:
    """What is to be compiled: a closed graph, names, structures, donations, options."""

    __slots__ = (
        "donated",
        "graph",
        "input_structure",
        "name",
        "names",
        "options",
        "origins",
        "output_structure",
        "symbols",
    )

    def __init__(
        self,
        graph: Graph,
        symbols: tuple[Node, ...],
        names: tuple[str, ...],
        origins: tuple[str, ...],
        input_structure: Structure,
        output_structure: Structure,
        donated: dict[int, int],
        options: Options,
        name: str,
    ) -> None:
        self.graph = graph
        self.symbols = symbols
        self.names = names
        self.origins = origins
        self.input_structure = input_structure
        self.output_structure = output_structure
        self.donated = donated
        self.options = options
        self.name = name

    def __reduce__(self) -> Any:
        return (Request, tuple(getattr(self, slot) for slot in _REQUEST_FIELDS))


_REQUEST_FIELDS = (
    "graph",
    "symbols",
    "names",
    "origins",
    "input_structure",
    "output_structure",
    "donated",
    "options",
    "name",
)


def prepare(
    inputs: Any,
    outputs: Any,
    options: Options,
    donate: Sequence[Node] | Mapping[Node, int] = (),
    name: str = "f",
) -> Request:
    """Check inputs and outputs and close the graph over them."""
    from graphc.ops.operands import as_node

    leaves, input_structure = flatten([inputs] if isinstance(inputs, Node) else inputs)
    symbols = _symbols(leaves)
    results, output_structure = flatten(outputs)
    nodes = [as_node(result) for result in results]
    if not nodes:
        raise GraphError("compile needs at least one output")
    graph, captured = close(symbols, nodes)
    if captured:
        raise GraphError(_not_passed(captured))
    return Request(
        graph,
        tuple(symbols),
        tuple(node.attrs["name"] for node in symbols),
        tuple(location(node.origin) for node in symbols),
        input_structure,
        output_structure,
        _donations(donate, symbols, nodes),
        options,
        name,
    )


def _symbols(leaves: Sequence[Any]) -> list[Node]:
    seen: dict[str, Node] = {}
    for leaf in leaves:
        if not isinstance(leaf, Node) or leaf.op is not symbol_op:
            raise GraphError(f"the inputs of a Function are symbols, not {leaf!r}")
        name = leaf.attrs["name"]
        if name in seen:
            same = "twice" if seen[name] is leaf else f"for {seen[name].type} and for {leaf.type}"
            raise GraphError(f"the name {name!r} is used {same} in the inputs of a Function")
        seen[name] = leaf
    return list(leaves)


def _not_passed(captured: Sequence[Node]) -> str:
    missing = [node for node in topological(captured) if node.op is symbol_op]
    lines = ["the outputs depend on symbols that were not passed as inputs:"]
    for node in missing[:5]:
        where = location(node.origin)
        lines.append(
            f"  {node.attrs['name']}: {node.type}" + (f", built at {where}" if where else "")
        )
    if not missing:
        lines.append("  a placeholder of a function that is being traced")
    lines.append("Add them to the inputs.")
    return "\n".join(lines)


def _donations(
    donate: Sequence[Node] | Mapping[Node, int], symbols: Sequence[Node], outputs: Sequence[Node]
) -> dict[int, int]:
    position = {node: i for i, node in enumerate(symbols)}
    taken: dict[int, int] = {}
    given = list(donate.items()) if isinstance(donate, Mapping) else [(n, None) for n in donate]
    for node, target in given:
        if node not in position:
            raise GraphError(f"a donated value is one of the inputs, not {node!r}")
        fitting = [
            i
            for i, output in enumerate(outputs)
            if output.type is node.type and i not in taken.values() and target in (None, i)
        ]
        if not fitting:
            raise GraphError(
                f"no output of type {node.type} is left for the donated input "
                f"{node.attrs['name']!r}"
            )
        taken[position[node]] = fitting[0]
    return taken

