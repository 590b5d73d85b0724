"""How are loops, calls and choices simplified?  Scans are merged, and what nobody takes is dropped.

These are whole-graph transformations: whether a result is needed shows in its users, not beneath
it. Reverse mode builds a forward scan a second time, with the states of every step among its
results; forward mode builds one with tangents beside the states. Merging leaves one loop. It runs
between applications of the rules, so that bodies are compared in normal form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

from graphc import origin
from graphc.graph import Graph, parameter, parameter_op, rebuild, replace
from graphc.node import Node, add_origin, topological
from graphc.ops.branch import cond, switch_op
from graphc.ops.control import call, call_op, scan, scan_op
from graphc.ops.creation import iota
from graphc.ops.iteration import while_loop, while_op
from graphc.ops.movement import reshape
from graphc.ops.operands import broadcast, constant
from graphc.ops.special import project, project_op
from graphc.rewrite import steps
from graphc.rewrite.pattern import Family, number_of
from graphc.rewrite.rule import Firing, Rule, rule
from graphc.types import TensorType

Results = list[Node | None]
Expand = Callable[[Node, list[Node]], Results | None]


def _two_sums(f: Node) -> list[Node]:
    """Two scans over the same states; one also gives them out."""
    total, _ = scan(lambda s, row: (s + row, None), f[0], f)
    _, partial = scan(lambda s, row: (s + row, s), f[0], f)
    return [total, partial]


def _sum_beside_count(f: Node) -> Node:
    """A scan with a state that no wanted result needs."""
    (total, _), _ = scan(lambda s, row: ((s[0] + row, s[1] + 1), None), (f[0], iota((3, 4))), f)
    return total


def _count_beside_power(x: Node) -> Node:
    """A loop with a state that no wanted result needs; it ends whatever the values are."""
    _, count = while_loop(lambda h: h[1] < 9, lambda h: (h[0] * 2, h[1] + 1), (x, constant(0)))
    return count


_SCAN = Family("scan", lambda op: op is scan_op)
_CALL = Family("call", lambda op: op is call_op)
MERGE = rule(
    "merge_scans",
    _SCAN,
    None,
    law="ieee",
    doc="one scan with the results of both",
    example=_two_sums,
)
PRUNE_SCAN = rule(
    "prune_scan",
    _SCAN,
    None,
    law="ieee",
    doc="what a scan of one step computes; a scan without results and states that nobody needs",
    example=_sum_beside_count,
)
PRUNE_CALL = rule(
    "prune_call",
    _CALL,
    None,
    law="ieee",
    doc="a call without results and arguments that nobody needs",
    example=lambda x, y: call(lambda a, b: (a * 2.0, a + b), x, y)[0],
)
PRUNE_WHILE = rule(
    "prune_while",
    Family("while_loop", lambda op: op is while_op),
    None,
    law="ieee",
    doc="a loop without states that nobody needs",
    example=_count_beside_power,
)
PRUNE_SWITCH = rule(
    "prune_switch",
    Family("switch", lambda op: op is switch_op),
    None,
    law="ieee",
    doc="the branch that a constant index chooses; a choice without results and arguments that "
    "nobody needs",
    example=lambda s, x, y: cond(s > 0, lambda a, b: (a, a + b), lambda a, b: (b, a), x, y)[0],
)
_PRUNED = {
    call_op: PRUNE_CALL,
    scan_op: PRUNE_SCAN,
    while_op: PRUNE_WHILE,
    switch_op: PRUNE_SWITCH,
}


@dataclass(frozen=True)
class Plan:
    """What becomes of a region: which arguments and results stay, and what results are besides.

    `places` says for a result which of the new node's it is; `forwarded` how it is made from the
    old arguments.
    """

    arguments: tuple[int, ...]
    attributes: dict[str, Any]
    places: dict[int, int]
    forwarded: dict[int, Callable[[Sequence[Node]], Node]]


@dataclass
class Regions:
    """Simplifies the calls and scans of graphs; plans for bodies are kept from graph to graph."""

    rules: frozenset[Rule]
    firings: list[Firing]
    _plans: dict[Any, Plan | None] = field(default_factory=dict)
    _records_origins: bool = field(default_factory=lambda: origin._enabled.get())

    def run(self, outputs: Sequence[Node]) -> list[Node]:
        """The outputs after merging and pruning; the same nodes if there is nothing to do."""
        nodes = list(outputs)
        if not any(node.op in _PRUNED for node in topological(nodes)):
            return nodes
        with origin.origins(False):
            if MERGE in self.rules:
                nodes = self._merge_contained(self._merge_alike(nodes))
            nodes = self._prune(nodes)
            passes: dict[Rule, Callable[[list[Node]], list[Node]]] = {
                steps.REPEATED: partial(self._of_each, steps.repeat_inside),
                steps.KEPT: self._keep,
                steps.BEFORE: partial(self._of_each, steps.before),
                steps.BEHIND: self._put_behind,
                steps.SUM: self._carry_sums,
            }
            for rule_, transform in passes.items():
                # One at a time: the next one wants bodies in normal form, without what has gone.
                if rule_ in self.rules and not _same(nodes, outputs):
                    return nodes
                if rule_ in self.rules:
                    nodes = transform(nodes)
            return nodes

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
                union = dict.fromkeys(result for node in group for result in _stacked(node))
                stacked.update((node, list(union)) for node in group)
        if not stacked:
            return outputs
        return _rebuild_regions(
            outputs,
            lambda node, args: (
                self._with_results(node, args, stacked[node]) if node in stacked else None
            ),
        )

    def _with_results(self, node: Node, args: Sequence[Node], stacked: Sequence[Node]) -> Results:
        """The results of a scan, taken from one whose stacked results are `stacked`."""
        graph, carry = node.attrs["graph"], node.attrs["carry"]
        body = Graph(graph.parameters, [*graph.outputs[:carry], *stacked])
        made = self._made(MERGE, node, args, {"graph": body})
        place = {result: carry + i for i, result in enumerate(stacked)}
        return [
            project(made, i) for i in (*range(carry), *[place[result] for result in _stacked(node)])
        ]

    def _merge_contained(self, outputs: list[Node]) -> list[Node]:
        """One after the other, each scan that is part of another one is replaced by it."""
        while (found := _find_contained(outputs)) is not None:
            small, large, states, results = found
            stacked = list(dict.fromkeys((*_stacked(large), *results)))
            kept = self._with_results(large, large.args, stacked)
            wide = next(result.args[0] for result in kept if result is not None)
            place = {result: large.attrs["carry"] + i for i, result in enumerate(stacked)}
            mapping = {project(large, i): result for i, result in enumerate(kept)}
            for i, at in enumerate((*states, *[place[result] for result in results])):
                mapping[project(small, i)] = project(wide, at)
            outputs = replace(outputs, mapping)  # type: ignore[arg-type]
        return outputs

    # -- all steps at once -------------------------------------------------------------------------

    def _keep(self, outputs: list[Node]) -> list[Node]:
        """Each scan reads what an earlier one over the same steps can keep for it."""
        wanted: dict[Node, steps.Kept] = {}
        kept: dict[Node, dict[Node, None]] = {}
        for node in _scans(outputs):
            found = steps.find_kept(node)
            if found is not None and found.source not in wanted:  # else in the next round
                wanted[node] = found
                kept.setdefault(found.source, {}).update(dict.fromkeys(found.nodes.values()))
        if not wanted:
            return outputs
        wide: dict[Node, tuple[Node, dict[Node, int]]] = {}

        def expand(node: Node, args: list[Node]) -> Results | None:
            if node in wanted:
                found = wanted[node]
                return steps.keep(node, args, found, *wide[found.source], self._made)
            if node not in kept:
                return None
            graph, carry = node.attrs["graph"], node.attrs["carry"]
            stacked = list(dict.fromkeys((*_stacked(node), *kept[node])))
            body = Graph(graph.parameters, [*graph.outputs[:carry], *stacked])
            made = self._made(steps.KEPT, node, args, {"graph": body})
            place = {result: carry + i for i, result in enumerate(stacked)}
            wide[node] = (made, place)
            places = (*range(carry), *[place[result] for result in _stacked(node)])
            return [project(made, i) for i in places]

        return _rebuild_regions(outputs, expand)

    def _of_each(self, change: Callable[..., Results | None], outputs: list[Node]) -> list[Node]:
        """The outputs after a change of scans, one by one."""
        return _rebuild_regions(
            outputs,
            lambda node, args: change(node, args, self._made) if node.op is scan_op else None,
        )

    def _put_behind(self, outputs: list[Node]) -> list[Node]:
        whole = set(outputs)
        sums = steps.sums_of_steps(outputs)

        def expand(node: Node, args: list[Node]) -> Results | None:
            if node.op is not scan_op or node in whole:
                return None
            return steps.behind(node, args, sums.get(node, {}), self._made)

        return _rebuild_regions(outputs, expand)

    def _carry_sums(self, outputs: list[Node]) -> list[Node]:
        return steps.carry_sums(outputs, self._made)

    # -- pruning -----------------------------------------------------------------------------------

    def _prune(self, outputs: list[Node]) -> list[Node]:
        used = _used_results(outputs)

        def expand(node: Node, args: list[Node]) -> Results | None:
            rule_ = _PRUNED[node.op]
            if node not in used or rule_ not in self.rules:
                return None
            plan = self._plan(node, tuple(sorted(used[node])))
            return None if plan is None else self._follow(plan, rule_, node, args)

        return _rebuild_regions(outputs, expand)

    def _plan(self, node: Node, used: tuple[int, ...]) -> Plan | None:
        if node.op is not call_op:
            plans = {scan_op: _plan_scan, while_op: _plan_while, switch_op: _plan_switch}
            return plans[node.op](node, used)
        key = (node.attrs["graph"], used)  # fifty calls of one body are planned once
        if key not in self._plans:
            self._plans[key] = _plan_call(node, used)
        return self._plans[key]

    def _follow(self, plan: Plan, rule_: Rule, node: Node, args: list[Node]) -> Results:
        results: Results = [None] * len(node.type.items)  # type: ignore[union-attr]
        for i, make in plan.forwarded.items():
            results[i] = make(args)
        if plan.places:
            made = self._made(rule_, node, [args[i] for i in plan.arguments], plan.attributes)
            for i, place in plan.places.items():
                results[i] = project(made, place)
        else:
            forwarded = next(result for result in results if result is not None)
            self.firings.append(Firing(rule_, node, forwarded, node.origin))
        return results

    def _made(
        self, rule_: Rule, node: Node, args: Sequence[Node], changed: Mapping[str, Any]
    ) -> Node:
        """The node that replaces a region, with its origins and the event; recorded as a firing."""
        label = origin.Event("rule", rule_.name, because=node.origin)
        with origin.origins(self._records_origins), origin.because(label):
            made = node.op(*args, **{**node.attrs, **changed})
        add_origin(made, node.origin)
        self.firings.append(Firing(rule_, node, made, node.origin))
        return made


def _same(first: Sequence[Node], second: Sequence[Node]) -> bool:
    return all(a is b for a, b in zip(first, second, strict=True))


def _scans(outputs: Sequence[Node]) -> list[Node]:
    return [node for node in topological(outputs) if node.op is scan_op]


def _stacked(node: Node) -> tuple[Node, ...]:
    """What the body of a scan gives out at every step."""
    return node.attrs["graph"].outputs[node.attrs["carry"] :]


def _rebuild_regions(outputs: Sequence[Node], expand: Expand) -> list[Node]:
    """The outputs with ops that carry Graphs replaced by what `expand(node, args)` gives: results,
    or None to keep the node.
    """
    done: dict[Node, Node] = {}
    results: dict[Node, Results] = {}
    for node in topological(outputs):
        if node.op is project_op and node.args[0] in results:
            result = results[node.args[0]][node.attrs["index"]]
            assert result is not None
            done[node] = result
            continue
        args = [done[argument] for argument in node.args]
        made = expand(node, args) if node.op in _PRUNED else None
        if made is not None:
            results[node] = made
            done[node] = node  # only projections use it, and they are replaced
        else:
            done[node] = rebuild(node, args)
    return [done[node] for node in outputs]


def _used_results(outputs: Sequence[Node]) -> dict[Node, set[int]]:
    """For each op with Graphs the results taken; without those that are outputs as a whole."""
    used: dict[Node, set[int]] = {}
    for node in topological(outputs):
        if node.op is project_op and node.args[0].op in _PRUNED:
            used.setdefault(node.args[0], set()).add(node.attrs["index"])
    for node in outputs:
        used.pop(node, None)
    return used


# -- one scan that is part of another --------------------------------------------------------------

Contained = tuple[Node, Node, list[int], list[Node]]


def _find_contained(outputs: Sequence[Node]) -> Contained | None:
    """A scan all of whose states another computes as well: both, its states there, its results."""
    loops: dict[Any, list[Node]] = {}
    scans = [node for node in _scans(outputs) if node.args]
    for node in scans:
        for argument in dict.fromkeys(node.args):
            loops.setdefault(_loop_over(node, argument), []).append(node)
    for small in scans:
        for large in loops[_loop_over(small, small.args[0])]:
            if large is small or len(large.args) < len(small.args):
                continue
            found = _correspondence(small, large)
            if found is not None and not _depends(large, small):
                return (small, large, *found)
    return None


def _loop_over(node: Node, argument: Node) -> Any:
    return (argument, node.attrs["length"], node.attrs["reverse"])


def _correspondence(small: Node, large: Node) -> tuple[list[int], list[Node]] | None:
    """Which states of `large` those of `small` are; its results over the parameters of `large`.

    States are paired by their initial value, in order; that they are the same is then seen from the
    bodies.
    """
    mapping: dict[Node, Node] = {}
    parameters = small.attrs["graph"].parameters
    taken: set[int] = set()
    pairs: list[int] = []
    for i, argument in enumerate(small.args):
        candidates = (
            j
            for j in _role(large, _role_of(small, i))
            if large.args[j] is argument and (j not in taken or i >= small.attrs["carry"])
        )
        j = next(candidates, None)
        if j is None:
            return None
        taken.add(j)
        pairs.append(j)
        mapping[parameter(i, parameters[i])] = parameter(j, parameters[i])
    results = replace(small.attrs["graph"].outputs, mapping)
    carry = small.attrs["carry"]
    states, others = pairs[:carry], large.attrs["graph"].outputs
    if any(results[i] is not others[j] for i, j in enumerate(states)):
        return None
    return states, results[carry:]


def _role_of(node: Node, i: int) -> int:
    """0 for a state, 1 for an array read slice by slice, 2 for an invariant."""
    carry, steps = node.attrs["carry"], node.attrs["steps"]
    return 0 if i < carry else 1 if i < carry + steps else 2


def _role(node: Node, role: int) -> range:
    """The arguments of a scan in that role."""
    carry, steps = node.attrs["carry"], node.attrs["steps"]
    ends = (0, carry, carry + steps, len(node.args))
    return range(ends[role], ends[role + 1])


def _depends(node: Node, other: Node) -> bool:
    return any(found is other for found in topological(node.args))


# -- what a region needs ---------------------------------------------------------------------------


def _plan_call(node: Node, used: tuple[int, ...]) -> Plan | None:
    graph: Graph = node.attrs["graph"]
    forwarded: dict[int, Callable[[Sequence[Node]], Node]] = {}
    for i in used:
        output = graph.outputs[i]
        if output.op is parameter_op:
            forwarded[i] = itemgetter(output.attrs["index"])
        elif number_of(output) is not None:
            forwarded[i] = partial(_constantly, output)
    kept = [i for i in used if i not in forwarded]
    outputs, places = _unique(graph, kept)
    needed = sorted(_parameters_beneath(outputs, lambda j: None))
    if (
        not forwarded
        and len(outputs) == len(graph.outputs)
        and len(needed) == len(graph.parameters)
    ):
        return None
    body = _over(graph, needed, outputs, {})
    return Plan(tuple(needed), {"graph": body}, places, forwarded)


def _constantly(result: Node, args: Sequence[Node]) -> Node:
    return result


def _plan_scan(node: Node, used: tuple[int, ...]) -> Plan | None:
    if node.attrs["length"] == 1:
        return Plan((), {}, {}, {i: partial(_only_step, node, i) for i in used})
    graph, carry = node.attrs["graph"], node.attrs["carry"]
    constant = {i for i in range(carry) if graph.outputs[i] is parameter(i, graph.parameters[i])}
    forwards = {i: _forward(node, i, constant) for i in used}
    forwarded = {i: make for i, make in forwards.items() if make is not None}
    kept = [i for i in used if i not in forwarded]
    # a needed state needs what its update reads, other states among it
    reached = _parameters_beneath(
        [graph.outputs[i] for i in kept],
        lambda j: graph.outputs[j] if j < carry and j not in constant else None,
    )
    states = sorted({i for i in (*kept, *reached) if i < carry} - constant)
    reached = _parameters_beneath([graph.outputs[i] for i in (*states, *kept)], lambda j: None)
    fixed = [j for j in (*sorted(constant), *_role(node, 2)) if j in reached]
    numbers = {
        parameter(j, graph.parameters[j]): node.args[j]
        for j in fixed
        if number_of(node.args[j]) is not None
    }
    slices = [j for j in _role(node, 1) if j in reached]
    rest = [j for j in fixed if parameter(j, graph.parameters[j]) not in numbers]
    arguments = (*states, *slices, *rest)
    outputs, places = _unique(graph, [i for i in kept if i >= carry])
    if len(arguments) == len(node.args) and len(states) + len(outputs) == len(graph.outputs):
        return None
    body = _over(graph, arguments, [*[graph.outputs[i] for i in states], *outputs], numbers)
    places = {i: len(states) + place for i, place in places.items()}
    places |= {i: place for place, i in enumerate(states) if i in kept}
    changed = {"graph": body, "carry": len(states), "steps": len(slices)}
    return Plan(arguments, changed, places, forwarded)


def _only_step(node: Node, i: int, args: Sequence[Node]) -> Node:
    """Result i of a scan of one step over `args`."""
    graph, carry = node.attrs["graph"], node.attrs["carry"]
    slices = _role(node, 1)
    given = [
        reshape(arg, parameter_.shape) if j in slices else arg  # type: ignore[union-attr]
        for j, (arg, parameter_) in enumerate(zip(args, graph.parameters, strict=True))
    ]
    (output,) = Graph(graph.parameters, [graph.outputs[i]])(*given)
    return output if i < carry else reshape(output, (1, *output.shape))


def _plan_while(node: Node, used: tuple[int, ...]) -> Plan | None:
    """The states that are taken, those that the condition reads, and what these are made from."""
    attrs = node.attrs
    body, carry = attrs["body"], attrs["carry"]
    roots = [*attrs["condition"].outputs, *[body.outputs[i] for i in used]]
    reached = _parameters_beneath(roots, lambda j: body.outputs[j] if j < carry else None)
    states = sorted({i for i in (*used, *reached) if i < carry})
    rest = sorted(j for j in reached if j >= carry)
    kept = (*states, *rest)
    if len(kept) == len(node.args):
        return None
    changed = {
        "condition": _over(body, kept, attrs["condition"].outputs, {}),
        "body": _over(body, kept, [body.outputs[i] for i in states], {}),
        "carry": len(states),
    }
    return Plan(kept, changed, {i: states.index(i) for i in used}, {})


def _plan_switch(node: Node, used: tuple[int, ...]) -> Plan | None:
    branches = node.attrs["branches"]
    index = number_of(node.args[0])
    if index is not None:
        chosen = branches[min(max(int(index), 0), len(branches) - 1)]
        forwarded: dict[int, Callable[[Sequence[Node]], Node]] = {
            i: partial(_inlined, Graph(chosen.parameters, [chosen.outputs[i]])) for i in used
        }
        return Plan((), {}, {}, forwarded)
    roots = [graph.outputs[i] for graph in branches for i in used]
    needed = sorted(_parameters_beneath(roots, lambda j: None))
    if len(used) == len(branches[0].outputs) and len(needed) + 1 == len(node.args):
        return None
    changed = tuple(_over(g, needed, [g.outputs[i] for i in used], {}) for g in branches)
    places = {i: place for place, i in enumerate(used)}
    return Plan((0, *[j + 1 for j in needed]), {"branches": changed}, places, {})


def _inlined(graph: Graph, args: Sequence[Node]) -> Node:
    (output,) = graph(*args[1:])
    return output


def _forward(node: Node, i: int, constant: set[int]) -> Callable[[Sequence[Node]], Node] | None:
    """How result i of a scan is made without it: an unchanging state, a number, an argument."""
    attrs = node.attrs
    carry, length = attrs["carry"], attrs["length"]
    if i < carry:
        return (lambda args: args[i]) if i in constant else None
    output = attrs["graph"].outputs[i]
    type_ = output.type
    assert isinstance(type_, TensorType)
    shape, axes = (length, *type_.shape), tuple(range(1, type_.ndim + 1))
    if number_of(output) is not None:
        return lambda args: broadcast(output, shape, axes)
    if output.op is not parameter_op:
        return None
    j = output.attrs["index"]
    if _role_of(node, j) == 1:
        return lambda args: args[j]
    if _role_of(node, j) == 2 or j in constant:
        return lambda args: broadcast(args[j], shape, axes)
    return None


def _unique(graph: Graph, indices: Sequence[int]) -> tuple[list[Node], dict[int, int]]:
    """The outputs of these indices without repetition, and the place of each index among them."""
    outputs = list(dict.fromkeys(graph.outputs[i] for i in indices))
    place = {output: position for position, output in enumerate(outputs)}
    return outputs, {i: place[graph.outputs[i]] for i in indices}


def _parameters_beneath(outputs: Sequence[Node], follow: Callable[[int], Node | None]) -> set[int]:
    """The parameters that `outputs` need; `follow` names an output that a parameter needs."""
    found: set[int] = set()
    seen = set(outputs)
    stack = list(outputs)
    while stack:
        node = stack.pop()
        nexts: Iterator[Node] | tuple[Node, ...] = node.args
        if node.op is parameter_op and node.attrs["index"] not in found:
            found.add(node.attrs["index"])
            further = follow(node.attrs["index"])
            nexts = () if further is None else (further,)
        for argument in nexts:
            if argument not in seen:
                seen.add(argument)
                stack.append(argument)
    return found


def _over(
    graph: Graph, kept: Sequence[int], outputs: Sequence[Node], numbers: Mapping[Node, Node]
) -> Graph:
    """The graph of `outputs` over the parameters `kept`, renumbered; `numbers` replace others."""
    types = graph.parameters
    mapping = dict(numbers)
    for i, j in enumerate(kept):
        mapping[parameter(j, types[j])] = parameter(i, types[j])
    return Graph([types[j] for j in kept], replace(outputs, mapping))
