"""Which entries of a Jacobian may differ from zero?  Read off the graph, exactly, without probing.

The Jacobian is the matrix of the map from a tangent of the input to that of the output, which is a
graph (`push_forward`). So the dependence of the output's tangent on the input's, element by
element, is its pattern, and derivative rules have already dropped what is exactly zero: a gradient
of a quadratic form is linear, hence its Hessian has the pattern of the form.

How elements depend on elements follows from the lowering form of an op. Views and gathers are run
on positions instead of values; a reduction unites groups; a contraction or a product with constants
leaves out where those are 0. Positions that only data knows stand for all along their axes, and so
do the axes along which a kernel of its own couples elements (`Nest.reach`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc import evaluator
from graphc.autodiff.chain import is_real, literal, result_types
from graphc.autodiff.dependence import Dependence, Moves, gathered, identity
from graphc.autodiff.pattern import Pattern
from graphc.autodiff.support import Supports
from graphc.dims import symbols_of
from graphc.errors import GraphError
from graphc.graph import Graph, parameter, parameter_op, placeholder_op, symbol_op
from graphc.lowering import (
    Compose,
    Contract,
    Elementwise,
    Gather,
    Nest,
    Reduce,
    Region,
    Scatter,
    Verify,
    View,
)
from graphc.node import Node, topological
from graphc.ops.arithmetic import multiply_op, strong_multiply_op
from graphc.ops.contract import free_axes
from graphc.ops.operands import describe
from graphc.ops.special import project_op, where_op
from graphc.types import TensorType

Maybe = Dependence | None

# A loop is followed step by step while it has no more steps, times nodes of the body, than this.
_MOST_STEPS = 50_000
# Rounds of a loop after which states that still change count as depending on everything.
_MOST_ROUNDS = 40


def linear_pattern(output: Node, given: Node) -> Pattern:
    """The pattern of the matrix of a linear map: `output` as a function of `given`.

    `GraphError` where an extent is not a number.
    """
    order = topological([output])
    require_numbers([*order, output, given])
    size = _size(given)
    scope = _Scope(deps={given: [identity(size)]})
    found = _Tracing(size).run([output], scope)[0]
    if found is None:
        return Pattern(np.zeros(_size(output) + 1), (), (_size(output), size))
    return found.pattern()


def dependences(output: Node, given: Node) -> dict[Node, list[Maybe]]:
    """What every node between `given` and `output` that varies with `given` depends on: for each of
    its results.
    """
    scope = _Scope(deps={given: [identity(_size(given))]})
    _Tracing(_size(given)).run([output], scope)
    return scope.deps


def require_numbers(nodes: Sequence[Node]) -> None:
    """`GraphError` where an extent of a node is not a number."""
    for node in nodes:
        for type_ in result_types(node):
            names = sorted({name for extent in type_.shape for name in symbols_of(extent)})
            if names:
                raise GraphError(
                    "a sparse derivative needs numbers for all extents; "
                    f"{' and '.join(names)} {'is a name' if len(names) == 1 else 'are names'}\n"
                    + describe([node])
                    + "\nThe pattern is part of what is compiled. A function under gx.jit is "
                    "compiled, with its pattern, for each size that it is called with, and kept:\n"
                    "  @gx.jit\n"
                    "  def matrix(x): return gx.jacobian(f(x), x, sparse=True)\n"
                    "Or make the symbols with numbers, or use gx.jvp, gx.vjp or gx.hvp, which "
                    "need none."
                )


def _size(node: Node) -> int:
    return int(node.size)  # type: ignore[arg-type]


def _positions(node: Node, first: int = 1) -> np.ndarray:
    """The elements of a node, numbered."""
    return np.arange(first, first + _size(node)).reshape(node.shape)


def sources(view: Node) -> list[np.ndarray]:
    """For each argument of a view the element that each element of the view is; -1 for none.

    Found by running the op on numbered elements, from 1: where it puts 0 there is none.
    """
    first, numbered = 1, []
    for argument in view.args:
        numbered.append(_positions(argument, first))
        first += _size(argument)
    taken = np.ravel(view.op.numpy(*numbered, **view.attrs))
    found, first = [], 1
    for argument in view.args:
        own = taken - first
        inside = (own >= 0) & (own < _size(argument))
        found.append(own if inside.all() else np.where(inside, own, -1))
        first += _size(argument)
    return found


@dataclass
class _Scope:
    """What is known of the nodes of one Graph: dependences of the results of those that have one,
    and values of those that are made of constants alone.
    """

    deps: dict[Node, list[Maybe]] = field(default_factory=dict)
    constant: set[Node] = field(default_factory=set)
    values: dict[Node, Any] = field(default_factory=dict)
    supports: Supports = field(init=False)

    def __post_init__(self) -> None:
        self.supports = Supports(self.value, sources)

    def of(self, node: Node) -> Maybe:
        found = self.deps.get(node)
        return found[0] if found else None

    def value(self, node: Node) -> Any:
        """The value of a node of constants; None for any other."""
        if node not in self.constant:
            return None
        if node not in self.values:
            self.values[node] = evaluator.run([node], self.values, {})[0]
        return self.values[node]


class _Tracing:
    """One analysis: `columns` is the number of elements depended on."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.moves = Moves()
        self.maps: dict[Node, Any] = {}

    def run(self, outputs: Sequence[Node], scope: _Scope) -> list[Maybe]:
        """The dependences of the outputs."""
        known = [*scope.deps, *scope.values]
        scope.constant.update(scope.values)
        for node in topological(outputs, known=known):
            if node.op is project_op:
                self._project(node, scope)
            elif any(argument in scope.deps for argument in node.args):
                found = self._passed(node, scope)
                real = [is_real(type_) for type_ in result_types(node)]
                made = [each if own else None for each, own in zip(found, real, strict=True)]
                if any(each is not None for each in made):
                    scope.deps[node] = made
            elif node.op not in (symbol_op, parameter_op, placeholder_op) and all(
                argument in scope.constant for argument in node.args
            ):
                scope.constant.add(node)
        return [scope.of(output) for output in outputs]

    def _project(self, node: Node, scope: _Scope) -> None:
        if node.args[0] in scope.deps:
            made = scope.deps[node.args[0]][node.attrs["index"]]
            if made is not None:
                scope.deps[node] = [made]
        elif node.args[0] in scope.constant:
            scope.constant.add(node)

    def _passed(self, node: Node, scope: _Scope) -> list[Maybe]:
        form = node.op.lowering
        if isinstance(form, Region):
            return _REGIONS[form.statement](self, node, scope)
        rule = _OF_FORM.get(type(form), _Tracing._everything)
        made = rule(self, node, scope)
        return made if isinstance(made, list) else [made] * len(result_types(node))

    # -- one form after the other ------------------------------------------------------------------

    def _elementwise(self, node: Node, scope: _Scope) -> Maybe:
        deps = [scope.of(argument) for argument in node.args]
        if node.op in (multiply_op, strong_multiply_op):
            deps = [
                self._times(dep, other, scope)
                for dep, other in zip(deps, reversed(node.args), strict=True)
            ]
        elif node.op is where_op:
            condition = scope.value(node.args[0])
            if condition is not None:
                mask = np.ravel(condition)
                deps = [self.moves.kept(deps[1], mask), self.moves.kept(deps[2], ~mask)]
        return self.moves.united(deps)

    def _times(self, dep: Maybe, other: Node, scope: _Scope) -> Maybe:
        """A product: nothing where the other factor is 0 whatever the inputs are."""
        if dep is None or literal(other) is not None and literal(other) != 0:
            return dep
        mask = scope.supports.of(other)
        return dep if mask is None else self.moves.kept(dep, np.ravel(mask))

    def _view(self, node: Node, scope: _Scope) -> Maybe:
        """Each element is one of one argument, or of none."""
        found = self.maps.get(node)
        if found is None:
            found = self.maps[node] = sources(node)
        return self.moves.joined([scope.of(argument) for argument in node.args], found)

    def _reduce(self, node: Node, scope: _Scope) -> Maybe:
        (x,), axes = node.args, node.attrs["axes"]
        dep = scope.of(x)
        assert dep is not None
        return gathered(dep, _groups(x, axes), _size(node))

    def _verified(self, node: Node, scope: _Scope) -> Maybe:
        return scope.of(node.args[0])

    def _contract(self, node: Node, scope: _Scope) -> Maybe:
        parts = [
            self._by_factor(node, position, scope)
            for position in (0, 1)
            if node.args[position] in scope.deps
        ]
        return self.moves.united(parts)

    def _by_factor(self, node: Node, position: int, scope: _Scope) -> Maybe:
        """A sum over products with the other argument; those with a sure 0 are left out."""
        mine, other = node.args[position], node.args[1 - position]
        batch, contracted = (
            (pairs[position], pairs[1 - position])
            for pairs in (node.attrs["batch"], node.attrs["contracted"])
        )
        free = free_axes(mine.ndim, batch[0], contracted[0])
        others = free_axes(other.ndim, batch[1], contracted[1])
        dep = scope.of(mine)
        assert dep is not None
        lead = _lengths(mine, batch[0])
        own, theirs = _lengths(mine, free), _lengths(other, others)
        mask = scope.supports.of(other)
        # the result's elements by (batch, mine, theirs), in whichever order it has them
        places = _positions(node, 0)
        if position == 1:
            places = places.reshape(lead, theirs, own).swapaxes(1, 2)
        places = places.reshape(lead, own, theirs)
        if mask is None:
            summed = gathered(dep, _groups(mine, contracted[0]), lead * own)
            # the groups are numbered in the order of the axes of `mine`
            kept = [a for a in range(mine.ndim) if a not in contracted[0]]
            order = [kept.index(axis) for axis in (*batch[0], *free)]
            groups = np.arange(lead * own).reshape([mine.shape[a] for a in kept]).transpose(order)
            source = np.empty(_size(node), np.int64)
            source[places] = groups.reshape(lead, own, 1)
            return self.moves.moved(summed, source)
        factor = np.transpose(mask, (*batch[1], *contracted[1], *others))
        factor = factor.reshape(lead, -1, theirs)
        elements = np.transpose(_positions(mine, 0), (*batch[0], *contracted[0], *free))
        elements = elements.reshape(lead, -1, own)
        b, k, t = np.nonzero(factor)
        source, groups = elements[b, k], places[b, :, t]
        return gathered(self.moves.moved(dep, source.ravel()), groups.ravel(), _size(node))

    def _gather(self, node: Node, scope: _Scope) -> Maybe:
        x, *positions = node.args
        dep = scope.of(x)
        if dep is None:
            return None
        known = [scope.value(position) for position in positions]
        if all(value is not None for value in known):
            source = self.maps.get(node)
            if source is None:
                source = np.ravel(node.op.numpy(_positions(x, 0), *known, **node.attrs))
                self.maps[node] = source
            return self.moves.moved(dep, source)
        axes = node.attrs["axes"]
        lines = gathered(dep, _groups(x, axes), _size(x) // max(_lengths(x, axes), 1))
        if not _size(node):
            return None
        number = _groups(x, axes).reshape(x.shape)
        zeros = [np.zeros(position.shape, np.int64) for position in positions]
        return self.moves.moved(lines, np.ravel(node.op.numpy(number, *zeros, **node.attrs)))

    def _scatter(self, node: Node, scope: _Scope) -> Maybe:
        """The array, and at each place what is combined into it."""
        from graphc.ops.gather import gather_op

        x, updates, *positions = node.args
        base, dep = scope.of(x), scope.of(updates)
        if not _size(node) or not _size(updates):
            return base
        known = [scope.value(position) for position in positions]
        exact = all(value is not None for value in known)
        if exact:
            number = _positions(x, 0)
        else:
            number = _groups(x, node.attrs["axes"]).reshape(x.shape)
            known = [np.zeros(position.shape, np.int64) for position in positions]
        targets = np.ravel(gather_op.numpy(number, *known, **node.attrs))
        if exact and node.op.lowering.combiner == "set":  # type: ignore[union-attr]
            return self._replaced(node, base, dep, number, known)
        if dep is None:
            return base
        count = _size(x) if exact else int(number.max()) + 1
        added = gathered(dep, targets, count)
        if not exact:
            added = self.moves.moved(added, np.ravel(number))
        return self.moves.united([base, added])

    def _replaced(
        self, node: Node, base: Maybe, dep: Maybe, number: np.ndarray, known: Sequence[Any]
    ) -> Maybe:
        """Elements of the array, and in known places of the updates instead."""
        first = number.size
        taken = np.ravel(
            node.op.numpy(number, _positions(node.args[1], first), *known, **node.attrs)
        )
        sources = [np.where(taken < first, taken, -1), np.where(taken < first, -1, taken - first)]
        return self.moves.joined([base, dep], sources)

    def _nest(self, node: Node, scope: _Scope) -> Maybe | list[Maybe]:
        form = node.op.lowering
        assert isinstance(form, Nest)
        deps = [scope.of(argument) for argument in node.args]
        moving = [a for a, dep in zip(node.args, deps, strict=True) if dep is not None]
        same = isinstance(node.type, TensorType) and all(a.shape == node.shape for a in moving)
        if form.reach is None or not same:
            return self._everything(node, scope)
        dep = self.moves.united(deps)
        assert dep is not None
        for axis, side in form.reach(**node.attrs).items():
            elements, groups = _along(node, axis % node.ndim, side)
            dep = gathered(self.moves.moved(dep, elements), groups, _size(node))
        return dep

    def _everything(self, node: Node, scope: _Scope) -> list[Maybe]:
        """Every element of every result depends on all that any argument depends on."""
        ends = [
            gathered(dep, np.zeros(dep.size, np.int64), 1)
            for dep in map(scope.of, node.args)
            if dep is not None
        ]
        whole = self.moves.united(ends)
        assert whole is not None
        return [
            self.moves.moved(whole, np.zeros(int(type_.size), np.int64))  # type: ignore[arg-type]
            for type_ in result_types(node)
        ]

    def _composed(self, node: Node, scope: _Scope) -> Maybe:
        form = node.op.lowering
        assert isinstance(form, Compose)
        inner = _Scope(dict(scope.deps), scope.constant, scope.values)
        return self.run([form.build(*node.args, **node.attrs)], inner)[0]

    # -- Graphs ------------------------------------------------------------------------------------

    def _inside(self, graph: Graph, given: Sequence[Maybe], values: Sequence[Any]) -> _Scope:
        """What is known of the parameters of a Graph."""
        scope = _Scope()
        for i, (type_, dep, value) in enumerate(zip(graph.parameters, given, values, strict=True)):
            leaf = parameter(i, type_)
            if dep is not None:
                scope.deps[leaf] = [dep]
            elif value is not None:
                scope.values[leaf] = value
        return scope

    def _given(self, nodes: Sequence[Node], scope: _Scope) -> tuple[list[Maybe], list[Any]]:
        return [scope.of(node) for node in nodes], [scope.value(node) for node in nodes]

    def _call(self, node: Node, scope: _Scope) -> list[Maybe]:
        graph = node.attrs["graph"]
        return self.run(graph.outputs, self._inside(graph, *self._given(node.args, scope)))

    def _switch(self, node: Node, scope: _Scope) -> list[Maybe]:
        branches = node.attrs["branches"]
        given = self._given(node.args[1:], scope)
        index = scope.value(node.args[0])
        if index is not None:
            branches = [branches[int(np.clip(index, 0, len(branches) - 1))]]
        found = [self.run(graph.outputs, self._inside(graph, *given)) for graph in branches]
        return [self.moves.united(each) for each in zip(*found, strict=True)]

    def _while(self, node: Node, scope: _Scope) -> list[Maybe]:
        """As many rounds as may change something; zero of them, too."""
        body, carry = node.attrs["body"], node.attrs["carry"]
        deps, values = self._given(node.args, scope)
        values[:carry] = [None] * carry

        def step(states: Sequence[Maybe]) -> list[Maybe]:
            return self.run(body.outputs, self._inside(body, [*states, *deps[carry:]], values))

        return self._settled(step, deps[:carry], body.parameters)

    def _settled(
        self, step: Callable[..., list[Maybe]], states: Sequence[Maybe], types: Sequence[Any]
    ) -> list[Maybe]:
        """States that depend on all that they do after any number of steps."""
        held = _digests(states)
        for _ in range(_MOST_ROUNDS):
            after = step(states)[: len(states)]
            states = [self.moves.united(pair) for pair in zip(states, after, strict=True)]
            now = _digests(states)
            if now == held:
                return list(states)
            held = now
        everything = np.arange(self.columns)
        whole = gathered(identity(self.columns), np.zeros_like(everything), 1)
        return [
            state and self.moves.moved(whole, np.zeros(int(type_.size), np.int64))
            for state, type_ in zip(states, types, strict=False)
        ]

    def _scan(self, node: Node, scope: _Scope) -> list[Maybe]:
        attrs = node.attrs
        graph, carry, steps = attrs["graph"], attrs["carry"], attrs["steps"]
        length = int(attrs["length"])
        deps, values = self._given(node.args, scope)
        order = list(reversed(range(length)) if attrs["reverse"] else range(length))
        lines = [
            None if dep is None else np.arange(dep.size).reshape(length, dep.size // max(length, 1))
            for dep in deps[carry : carry + steps]
        ]

        def given(t: int, states: Sequence[Maybe], known: Sequence[Any]) -> _Scope:
            slices = [
                None if dep is None or line is None else self.moves.moved(dep, line[t])
                for dep, line in zip(deps[carry:], lines, strict=False)
            ]
            read = [None if v is None else np.asarray(v[t]) for v in values[carry : carry + steps]]
            rest = carry + steps
            return self._inside(
                graph, [*states, *slices, *deps[rest:]], [*known, *read, *values[rest:]]
            )

        states, known = list(deps[:carry]), list(values[:carry])
        results: list[list[Maybe]] = [[None] * length for _ in graph.outputs[carry:]]
        if length * len(graph.nodes()) > _MOST_STEPS:
            return self._long_scan(node, deps, values)
        for t in order:
            inner = given(t, states, known)
            found = self.run(graph.outputs, inner)
            states = [dep and _short(dep) for dep in found[:carry]]
            known = [inner.value(output) for output in graph.outputs[:carry]]
            for row, dep in zip(results, found[carry:], strict=True):
                row[t] = dep
        return [*states, *[self._stacked(row) for row in results]]

    def _long_scan(
        self, node: Node, deps: Sequence[Maybe], values: Sequence[Any]
    ) -> list[Maybe]:
        """States as they may be before any step; then all steps at once, as `vmap` makes them."""
        from graphc.batching import ROWS

        attrs = node.attrs
        graph, carry, steps = attrs["graph"], attrs["carry"], attrs["steps"]
        length, rest = int(attrs["length"]), carry + attrs["steps"]
        unknown = [None] * carry
        slices = [
            dep and gathered(dep, np.arange(dep.size) % (dep.size // length), dep.size // length)
            for dep in deps[carry:rest]
        ]

        def step(states: Sequence[Maybe]) -> list[Maybe]:
            given = [*unknown, *[None] * steps, *values[rest:]]
            inside = self._inside(graph, [*states, *slices, *deps[rest:]], given)
            return [dep and _short(dep) for dep in self.run(graph.outputs, inside)]

        states = self._settled(step, deps[:carry], graph.parameters)
        mapped = (*(False,) * carry, *(True,) * steps, *(False,) * (len(deps) - rest))
        rows, own = ROWS.batch(graph, mapped, length, (False,) * len(graph.outputs))
        inside = self._inside(rows, [*states, *deps[carry:]], [*unknown, *values[carry:]])
        found = self.run(rows.outputs, inside)[carry:]
        return [
            *states,
            *[
                dep if each or dep is None else self.moves.moved(dep, _tiled(dep.size, length))
                for dep, each in zip(found, own[carry:], strict=True)
            ],
        ]

    def _stacked(self, rows: Sequence[Maybe]) -> Maybe:
        """One after the other."""
        known = [row for row in rows if row is not None]
        if not known:
            return None
        size = known[0].size
        pairs = [(t * size, *row.entries()) for t, row in enumerate(rows) if row is not None]
        elements = np.concatenate([start + found for start, found, _ in pairs])
        columns = np.concatenate([found for _, _, found in pairs])
        flat = Dependence(len(elements), self.columns, identity(self.columns).parts)
        flat = self.moves.moved(flat, columns)
        return gathered(flat, elements, size * len(rows))


def _tiled(size: int, count: int) -> np.ndarray:
    return np.tile(np.arange(size), count)


def _short(given: Dependence) -> Dependence:
    """Written out if it has become a union of several parts."""
    if len(given.parts) < 2:
        return given
    return gathered(given, np.arange(given.size), given.size)


def _digests(states: Sequence[Maybe]) -> list[Any]:
    return [None if state is None else state.pattern().digest for state in states]


def _lengths(node: Node, axes: Sequence[int]) -> int:
    """How many elements there are along some axes."""
    return math.prod(int(node.shape[axis]) for axis in axes)  # type: ignore[arg-type]


def _groups(node: Node, axes: Sequence[int]) -> np.ndarray:
    """For each element the number of the line along `axes` that it lies on."""
    kept = [1 if axis in axes else int(extent) for axis, extent in enumerate(node.shape)]  # type: ignore[arg-type]
    number = np.arange(int(np.prod(kept, dtype=np.int64))).reshape(kept)
    return np.ravel(np.broadcast_to(number, tuple(map(int, node.shape))))


def _along(node: Node, axis: int, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (from, to) of elements on a line along `axis`: from those before, or after, or all."""
    extent = int(node.shape[axis])  # type: ignore[arg-type]
    to, come = {
        "before": lambda: np.tril_indices(extent),
        "after": lambda: np.triu_indices(extent),
        "all": lambda: np.divmod(np.arange(extent * extent), max(extent, 1)),
    }[side]()
    rest = _size(node) // max(extent, 1)
    lines = np.moveaxis(_positions(node, 0), axis, 0).reshape(extent, rest)
    return np.ravel(lines[come]), np.ravel(lines[to])


_OF_FORM: Mapping[type, Callable[..., Any]] = {
    Compose: _Tracing._composed,
    Contract: _Tracing._contract,
    Elementwise: _Tracing._elementwise,
    Gather: _Tracing._gather,
    Nest: _Tracing._nest,
    Reduce: _Tracing._reduce,
    Scatter: _Tracing._scatter,
    Verify: _Tracing._verified,
    View: _Tracing._view,
}
_REGIONS: Mapping[str, Callable[..., list[Maybe]]] = {
    "call": _Tracing._call,
    "scan": _Tracing._scan,
    "switch": _Tracing._switch,
    "while": _Tracing._while,
}
