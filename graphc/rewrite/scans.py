"""How are loops and calls simplified?  Scans merged, results dropped that nobody takes, states that never change.

These are whole-graph transformations: whether a result is needed shows in its users, not beneath it. Reverse mode builds
a forward scan a second time, with the states of every step among its results; forward mode builds one with tangents beside the
states. Merging leaves one loop. It runs between applications of the rules, so that bodies are compared in normal form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc import origin
from graphc.graph import Graph, parameter, parameter_op, rebuild, replace
from graphc.node import Node, add_origin, topological
from graphc.ops.control import call, call_op, scan, scan_op
from graphc.ops.movement import iota
from graphc.ops.operands import broadcast_op, constant_op
from graphc.ops.special import project, project_op
from graphc.rewrite.pattern import Family, number_of
from graphc.rewrite.rule import Firing, Rule, rule

Results = list[Node | None]


def _two_sums(f: Node) -> list[Node]:
    total, _ = scan(lambda s, row: (s + row, None), f[0], f)
    _, partial = scan(lambda s, row: (s + row, s), f[0], f)
    return [total, partial]


def _sum_and_positions(f: Node) -> Node:
    def body(s: tuple[Node, Node], row: Node) -> tuple[tuple[Node, Node], None]:
        return (s[0] + row, s[1] + 1), None

    return scan(body, (f[0], iota((3, 4))), f)[0][0]


MERGE = rule(
    "merge_scans", Family("scan", lambda op: op is scan_op), None, law="ieee",
    doc="one scan with the results of both", example=_two_sums,
)  # fmt: skip
PRUNE_SCAN = rule(
    "prune_scan", Family("scan", lambda op: op is scan_op), None, law="ieee",
    doc="a scan without results and states that nobody needs", example=_sum_and_positions,
)  # fmt: skip
PRUNE_CALL = rule(
    "prune_call", Family("call", lambda op: op is call_op), None, law="ieee",
    doc="a call without results and arguments that nobody needs",
    example=lambda x, y: call(lambda a, b: (a * 2.0, a + b), x, y)[0],
)  # fmt: skip


@dataclass
class Regions:
    """Simplifies the calls and scans of graphs; keeps what it has found about bodies, across calls."""

    rules: frozenset[Rule]
    firings: list[Firing]
    _pruned: dict[Any, Any] = field(default_factory=dict)

    def run(self, outputs: Sequence[Node]) -> list[Node]:
        """The outputs after merging and pruning; the same nodes if there is nothing to do."""
        nodes = list(outputs)
        if not any(node.op in (scan_op, call_op) for node in topological(nodes)):
            return nodes
        if MERGE in self.rules:
            nodes = self._merge_alike(nodes)
            nodes = self._merge_contained(nodes)
        return self._prune(nodes)

    # -- merging -----------------------------------------------------------------------------------

    def _merge_alike(self, outputs: list[Node]) -> list[Node]:
        """One scan for all that have equal arguments and states, with the results of all."""
        groups: dict[Any, list[Node]] = {}
        for node in _scans(outputs):
            graph, carry = node.attrs["graph"], node.attrs["carry"]
            loop = (carry, node.attrs["steps"], node.attrs["length"], node.attrs["reverse"])
            groups.setdefault((node.args, graph.outputs[:carry], loop), []).append(node)
        stacked: dict[Node, list[Node]] = {}
        for group in groups.values():
            if len(group) > 1:
                carry = group[0].attrs["carry"]
                union = dict.fromkeys(r for node in group for r in node.attrs["graph"].outputs[carry:])
                stacked.update(dict.fromkeys(group, list(union)))
        if not stacked:
            return outputs

        def expand(node: Node, args: list[Node]) -> Results | None:
            union = stacked.get(node)
            if union is None:
                return None
            return self._with_results(node, args, union)

        return _rebuild_regions(outputs, expand)

    def _with_results(self, node: Node, args: Sequence[Node], stacked: list[Node]) -> Results:
        """The results of a scan, from one with the stacked results `stacked`, among which its own are."""
        graph, carry = node.attrs["graph"], node.attrs["carry"]
        states = graph.outputs[:carry]
        body = Graph(graph.parameters, [*states, *stacked])
        made = self._made(MERGE, node, args, {**node.attrs, "graph": body})
        place = {result: carry + i for i, result in enumerate(stacked)}
        return [project(made, i) for i in range(carry)] + [
            project(made, place[result]) for result in graph.outputs[carry:]
        ]

    def _merge_contained(self, outputs: list[Node]) -> list[Node]:
        """One scan after the other that is part of another one is replaced by it."""
        while True:
            found = _find_contained(outputs)
            if found is None:
                return outputs
            small, large, results = found
            carry = large.attrs["carry"]
            own = large.attrs["graph"].outputs
            stacked = list(dict.fromkeys((*own[carry:], *[r for r in results if isinstance(r, Node)])))
            kept = self._with_results(large, large.args, stacked)
            wide = kept[0].args[0] if kept else None
            assert wide is not None
            mapping = {project(large, i): result for i, result in enumerate(kept)}
            for i, result in enumerate(results):
                at = result if isinstance(result, int) else carry + _index(stacked, result)
                mapping[project(small, i)] = project(wide, at)
            outputs = replace(outputs, mapping)  # type: ignore[arg-type]

    # -- pruning -----------------------------------------------------------------------------------

    def _prune(self, outputs: list[Node]) -> list[Node]:
        used = _used_results(outputs)

        def expand(node: Node, args: list[Node]) -> Results | None:
            if node not in used:
                return None
            rule_ = PRUNE_SCAN if node.op is scan_op else PRUNE_CALL
            if rule_ not in self.rules:
                return None
            plan = self._plan(node, tuple(sorted(used[node])))
            return None if plan is None else self._follow(plan, rule_, node, args)

        return _rebuild_regions(outputs, expand)

    def _plan(self, node: Node, used: tuple[int, ...]) -> Plan | None:
        """What to keep; the same for every node with this body and these uses."""
        repeats = tuple(_first_use(node.args))
        key = (node.op, node.attrs, used, repeats)
        if key not in self._pruned:
            make = _plan_scan if node.op is scan_op else _plan_call
            self._pruned[key] = make(node, used)
        return self._pruned[key]

    def _follow(self, plan: Plan, rule_: Rule, node: Node, args: list[Node]) -> Results:
        results: Results = [None] * len(node.type.items)  # type: ignore[union-attr]
        made = None
        if plan.kept_results:
            given = [args[i] for i in plan.kept_arguments]
            made = self._made(rule_, node, given, {**node.attrs, **plan.attributes})
        else:
            self.firings.append(Firing(rule_, node, args[0] if args else node, node.origin))
        for position, i in enumerate(plan.kept_results):
            assert made is not None
            results[i] = project(made, position)
        for i, forward in plan.forwarded.items():
            results[i] = forward(args)
        return results

    def _made(self, rule_: Rule, node: Node, args: Sequence[Node], attrs: Mapping[str, Any]) -> Node:
        """The node that replaces a region, with its origins and the event; recorded."""
        event = origin.Event("rule", rule_.name, because=node.origin)
        with origin.because(event):
            made = node.op(*args, **attrs)
        add_origin(made, node.origin)
        self.firings.append(Firing(rule_, node, made, node.origin))
        return made
'''
