"""What is to be compiled? A closed graph, the names of its inputs, the structures around it, and
options.

`prepare` checks what a user passed and closes the graph over the inputs; compiling and emitting
both start from its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.errors import GraphError, shortened
from graphc.graph import Graph, close, symbol_op
from graphc.node import Node, topological
from graphc.options import Options
from graphc.origin import location
from graphc.tree import Structure, flatten

# The longest name of a Function: it stands in messages.
_LONGEST = 200


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

    def of(self, graph: Graph) -> Request:
        """The same inputs and options for another graph of them; results are a list, nothing is
        donated.
        """
        structure = flatten(list(graph.outputs))[1]
        return Request(
            graph,
            self.symbols,
            self.names,
            self.origins,
            self.input_structure,
            structure,
            {},
            self.options,
            self.name,
        )

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

    if not isinstance(options, Options):
        raise TypeError(f"options is a gx.Options, got a {type(options).__name__}")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST:
        raise GraphError(
            f"a Function's name is a string of 1 to {_LONGEST} printable characters, "
            f"got {shortened(repr(name))}"
        )
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
            raise GraphError(
                f"the inputs of a Function are symbols, not {shortened(repr(leaf))}\n"
                "Make them with gx.symbol, and pass symbols only."
            )
        name = leaf.attrs["name"]
        if name in seen:
            same = "twice" if seen[name] is leaf else f"for {seen[name].type} and for {leaf.type}"
            places = [location(node.origin) for node in (seen[name], leaf)]
            built = "".join(f"\n  built at {place}" for place in dict.fromkeys(places) if place)
            raise GraphError(
                f"the name {name!r} is used {same} in the inputs of a Function{built}\n"
                "Inputs can be passed by name: give each one of its own."
            )
        seen[name] = leaf
    return list(leaves)


def _not_passed(captured: Sequence[Node]) -> str:
    missing = [node for node in topological(captured) if node.op is symbol_op]
    lines = ["the outputs depend on symbols that were not passed as inputs:"]
    for node in missing[: 5 if len(missing) > 5 else 6]:
        where = location(node.origin)
        lines.append(
            f"  {node.attrs['name']}: {node.type}" + (f", built at {where}" if where else "")
        )
    if len(missing) > 5:
        lines.append(f"  and {len(missing) - 5} more")
    if not missing:
        lines.append("  a placeholder of a function that is being traced")
    lines.append("Add them to the inputs.")
    return "\n".join(lines)


def _given(donate: Any) -> list[tuple[Any, Any]]:
    """What was passed as `donate`, as pairs of an input and an output or None."""
    if isinstance(donate, Node):
        return [(donate, None)]
    if isinstance(donate, Mapping):
        return list(donate.items())
    if isinstance(donate, (tuple, list, set, frozenset)):
        return [(node, None) for node in donate]
    return [(donate, None)]


def _donations(
    donate: Sequence[Node] | Mapping[Node, int], symbols: Sequence[Node], outputs: Sequence[Node]
) -> dict[int, int]:
    position = {node: i for i, node in enumerate(symbols)}
    taken: dict[int, int] = {}
    for node, target in _given(donate):
        if not isinstance(node, Node) or node not in position:
            raise GraphError(
                f"a donated value is one of the inputs, not {shortened(repr(node))}\n"
                "Pass the symbols: donate=[x], or donate={x: 0} for the first output."
            )
        if position[node] in taken:
            raise GraphError(f"the input {node.attrs['name']!r} is donated twice")
        if target is not None and (type(target) is not int or not 0 <= target < len(outputs)):
            raise GraphError(
                f"the input {node.attrs['name']!r} is donated to output {target!r}; "
                f"there are {len(outputs)}, counted from 0"
            )
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
