"""How large is a graph, and how many times larger did differentiation make it?

Two counts. `nodes` are the nodes that there are, those of the Graphs that nodes carry once each.
`operations` are the element operations that kernels have to do, in additions: an element-wise node
does what its op says that it costs for each element, a reduction one for each element that it
reads, a contraction a product and a sum for each pair, a composed op what it is made of; views and
leaves do none, and a loop does its body as often as it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.dims import Extent, evaluate, product, symbols_of
from graphc.graph import Graph, graphs_of, parameter_op, placeholder_op, symbol_op
from graphc.lowering import Compose, Contract, Elementwise, Gather, Generate, Nest, Reduce, Scatter
from graphc.node import Node, topological
from graphc.rewrite.pipeline import rewrite
from graphc.types import TensorType, Type

# A named extent counts as so many elements where numbers are compared.
_TYPICAL = 1000
# What is not known before a call.
_GIVEN = (symbol_op, parameter_op, placeholder_op)


@dataclass(frozen=True)
class Size:
    """How large a graph is; `operations` may have named extents in it."""

    nodes: int
    operations: Extent

    def times(self, other: Size) -> tuple[float, float]:
        """How many times larger than another: in nodes, and in operations."""
        return self.nodes / max(other.nodes, 1), _number(self.operations) / max(
            _number(other.operations), 1
        )


def _number(extent: Extent) -> float:
    if isinstance(extent, int):
        return float(extent)
    return float(evaluate(extent, dict.fromkeys(symbols_of(extent), _TYPICAL)))


def size_of(outputs: Iterable[Node]) -> Size:
    """The size of all that some nodes need."""
    return _size(topological(outputs), set())


def _size(order: Iterable[Node], seen: set[Graph]) -> Size:
    nodes = 0
    operations: Any = 0
    for node in order:
        nodes += 1
        operations = operations + _operations(node)
        for graph in graphs_of(node.attrs):
            inner = _size(graph.nodes(), seen)
            nodes += 0 if graph in seen else inner.nodes
            seen.add(graph)
            rounds = node.attrs.get("length", node.attrs.get("bound", 1))
            operations = operations + (1 if rounds is None else rounds) * inner.operations
    return Size(nodes, operations)


def _elements(type_: Type) -> Extent:
    if isinstance(type_, TensorType):
        return type_.size
    return max((item.size for item in type_.items), key=_number, default=0)


def _operations(node: Node) -> Extent:
    form = node.op.lowering
    if isinstance(form, Reduce):
        return _elements(node.args[0].type)
    if isinstance(form, Contract):
        summed = product(node.args[0].shape[axis] for axis in node.attrs["contracted"][0])
        return 2 * _elements(node.type) * summed
    if isinstance(form, (Nest, Scatter)):
        return max((_elements(each.type) for each in (node, *node.args)), key=_number)
    if isinstance(form, Elementwise):
        return form.cost * _elements(node.type)
    if isinstance(form, Compose):
        made = topological([form.build(*node.args, **node.attrs)], known=set(node.args))
        return sum(map(_operations, made), start=0)
    return _elements(node.type) if isinstance(form, (Gather, Generate)) else 0


@dataclass(frozen=True)
class Growth:
    """What differentiation made of a graph: the sizes of what was written without it, of the whole
    as it was written, and of both after rewriting.
    """

    primal: Size
    whole: Size
    primal_rewritten: Size
    whole_rewritten: Size

    @property
    def nodes(self) -> float:
        """Nodes of the whole after rewriting, over those of what was differentiated, as written."""
        return self.whole_rewritten.times(self.primal)[0]

    @property
    def operations(self) -> float:
        """Element operations of the whole, over those of what was differentiated, both after
        rewriting.
        """
        return self.whole_rewritten.times(self.primal_rewritten)[1]

    def __str__(self) -> str:
        return (
            f"differentiated: {self.primal.nodes} nodes became {self.whole.nodes}, "
            f"{self.whole_rewritten.nodes} after rewriting: {self.nodes:.2f} times as many; "
            f"{self.operations:.2f} times the element operations"
        )


def growth(
    outputs: Sequence[Node], math: str = "ieee", exclude: Collection[str] = frozenset()
) -> Growth | None:
    """How much larger derivatives made a graph; None if there are none in it.

    What a derivative made is told by its origins: it was built by a rule of some op, at no line of
    a user's own. So there is no answer where origins were switched off. What is made of derivatives
    counts as theirs.
    """
    order = topological(outputs)
    derived: set[Node] = set()
    fixed: set[Node] = set()  # made of constants: whoever made them first, they are anybody's
    for node in order:
        if all(argument in fixed for argument in node.args) and node.op not in _GIVEN:
            fixed.add(node)
        elif _is_derived(node) or not derived.isdisjoint(node.args):
            derived.add(node)
    if not derived:
        return None
    ends = [node for node in outputs if node not in derived]
    within = (a for node in order if node in derived for a in node.args)
    ends += [a for a in within if a not in derived and a not in fixed]
    ends = list(dict.fromkeys(ends))

    def simplified(nodes: Sequence[Node]) -> Any:
        return rewrite(list(nodes), math, exclude).outputs

    return Growth(
        size_of(ends),
        size_of(outputs),
        size_of(simplified(ends)),
        size_of(simplified(outputs)),
    )


def _is_derived(node: Node) -> bool:
    events = node.origin
    return bool(events) and not any(event.kind == "frame" for event in events) and any(
        event.kind in ("vjp", "jvp") for event in events
    )
