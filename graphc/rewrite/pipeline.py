"""What is done to a graph, and in which order?  Rules to a fixed point, loops between them.

The rules of one file after the other, all at once, bottom up; then scans and calls are merged and
pruned; and again, until nothing changes. Bodies of calls and scans go through the same, each once
however often it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.errors import GraphError
from graphc.graph import Graph, graphs_of, rebuild
from graphc.lowering import Region
from graphc.node import NO_ATTRIBUTES, Node, topological
from graphc.ops.custom import custom_op
from graphc.ops.special import project_op
from graphc.rewrite.engine import NO_LEAVES, Engine
from graphc.rewrite.rule import ADMITTED, RULES, Firing, Rule
from graphc.rewrite.scans import Regions

MOST_ROUNDS = 32


@dataclass(frozen=True)
class Result:
    """Rewritten outputs; every firing, in order; the rules that were refused, where and why.

    `complete` is false if the bound on the work was met before a fixed point.
    """

    outputs: list[Node]
    firings: list[Firing]
    refused: list[tuple[Rule, Node, str]]
    complete: bool


def admitted(math: str = "ieee", exclude: Collection[str] = ()) -> list[Rule]:
    """The rules that `math` ("ieee", "real" or "fast") admits, without those excluded by name.

    Raises `GraphError` for an unknown level or name.
    """
    if math not in ADMITTED:
        raise GraphError(f"math is one of {', '.join(map(repr, ADMITTED))}, got {math!r}")
    unknown = sorted(set(exclude) - RULES.keys())
    if unknown:
        raise GraphError(
            f"no rule is named {', '.join(map(repr, unknown))}; graphc.rewrite.RULES has the names"
        )
    return [
        rule for name, rule in RULES.items() if rule.law in ADMITTED[math] and name not in exclude
    ]


class Pipeline:
    """One rewriting: what it has found about nodes and bodies serves all of its graphs."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.engine = Engine(rules, self.body)
        self._regions = Regions(frozenset(rules), self.engine.firings)
        self._bodies: dict[Graph, Graph] = {}
        self._settled = True

    @property
    def complete(self) -> bool:
        return self._settled and not self.engine.exhausted

    def run(
        self,
        outputs: Sequence[Node],
        order: Sequence[Node],
        leaves: Mapping[Node, Node] = NO_LEAVES,
    ) -> list[Node]:
        """The outputs after everything. `order` is of all nodes, arguments first; `leaves` are
        those that others stand for.
        """
        for graph in _graphs_inside(order, self._bodies):
            self.body(graph)
        nodes = self.engine.run(outputs, order, leaves)
        if not self.engine.has_regions:
            return nodes
        for _ in range(MOST_ROUNDS):
            changed = self._regions.run(nodes)
            if _same(changed, nodes):
                return nodes
            nodes = self.engine.run(changed)
        self._settled = False
        return nodes

    def body(self, graph: Graph) -> Graph:
        """The Graph with its outputs rewritten; parameters and types stay."""
        found = self._bodies.get(graph)
        if found is None:
            outputs = self.run(*_without_rules_of_users(graph.outputs, graph.order))
            found = graph if _same(outputs, graph.outputs) else Graph(graph.parameters, outputs)
            self._bodies[graph] = self._bodies[found] = found
        return found


def _same(first: Sequence[Node], second: Sequence[Node]) -> bool:
    return all(a is b for a, b in zip(first, second, strict=True))


def _graphs_inside(order: Sequence[Node], known: Collection[Graph]) -> list[Graph]:
    """The Graphs that nodes carry at any depth, inner ones first: nesting costs no stack."""
    found: dict[Graph, None] = {}
    stack = [_carried(order)]
    while stack:
        graphs = stack[-1]
        if not graphs:
            stack.pop()
            continue
        graph = graphs[-1]
        if graph in found or graph in known:
            graphs.pop()
            continue
        inner = [g for g in _carried(graph.order) if g not in found and g not in known]
        if inner:
            stack.append(inner)
        else:
            found[graph] = None
    return list(found)


def _carried(order: Sequence[Node]) -> list[Graph]:
    return [
        graph
        for node in order
        if node.attrs is not NO_ATTRIBUTES and isinstance(node.op.lowering, Region)
        for graph in graphs_of(node.attrs)
    ]


def _without_rules_of_users(
    outputs: Sequence[Node], order: Sequence[Node]
) -> tuple[Sequence[Node], Sequence[Node]]:
    """The outputs with functions that had derivatives of their own written out, for derivatives
    have been taken; and the order of all nodes.
    """
    if custom_op not in {node.op for node in order}:
        return outputs, order
    done: dict[Node, Node] = {}
    written: dict[Node, tuple[Node, ...]] = {}
    for node in order:
        if node.op is custom_op:
            args = [done[argument] for argument in node.args]
            inlined = node.attrs["graph"](*args)
            written[node] = tuple(_without_rules_of_users(inlined, topological(inlined))[0])
            done[node] = node
        elif node.op is project_op and node.args[0] in written:
            done[node] = written[node.args[0]][node.attrs["index"]]
        else:
            done[node] = rebuild(node, [done[argument] for argument in node.args])
    changed = [done[output] for output in outputs]
    return changed, topological(changed)


def rewrite(
    outputs: Sequence[Node],
    math: str = "ieee",
    exclude: Collection[str] = frozenset(),
    order: Sequence[Node] | None = None,
    leaves: Mapping[Node, Node] = NO_LEAVES,
) -> Result:
    """The outputs, simplified: of the same types, and equal by the laws that `math` admits.

    `math`: "ieee" keeps every bit (up to NaN's sign and payload) except where a stability rule
    makes a result more accurate; "real" admits what holds over the real numbers, "fast" what may
    lose stated accuracy. `exclude`: names of rules to leave out (see `RULES`). `order`, if the
    caller has it, is that of all nodes, arguments first; `leaves`: nodes to put in the place of
    leaves. The work is bounded by the size of the graph, and depth costs nothing. Raises
    `GraphError` for an unknown level or name, and for nothing else.

    >>> from graphc.ops.operands import symbol
    >>> from graphc.ops.transcend import log
    >>> x = symbol("x", 3)
    >>> found = rewrite([log(1 + x)])
    >>> [firing.rule.name for firing in found.firings]
    ['log1p']
    """
    pipeline = Pipeline(admitted(math, exclude))
    found = topological(outputs) if order is None else order
    nodes = pipeline.run(*_without_rules_of_users(outputs, found), leaves)
    engine = pipeline.engine
    return Result(nodes, engine.firings, engine.refused, pipeline.complete)


def nodes_of(graphs: Any) -> list[Node]:
    """The nodes of a node, a Graph, or a nested container of nodes."""
    from graphc.tree import flatten

    if isinstance(graphs, Graph):
        return list(graphs.outputs)
    leaves, _ = flatten(graphs)
    return [leaf for leaf in leaves if isinstance(leaf, Node)]
