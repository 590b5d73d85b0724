"""What are the derivatives of high order along a curve?  Taylor mode: all coefficients in one pass.

`series` says how coefficients run through ops. Here are the ops that carry Graphs, whose bodies get
the coefficients as further arguments, states and results, and the function that users call.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.autodiff.chain import Maybe, is_real, zero
from graphc.autodiff.membership import remembered, require_members
from graphc.autodiff.regions import TRANSFORM
from graphc.autodiff.reverse import filled, real_inputs, seed_like
from graphc.autodiff.series import Column, Series
from graphc.collector import paused
from graphc.errors import GraphError
from graphc.graph import Graph, close, placeholder
from graphc.node import Node
from graphc.ops.branch import switch_graphs
from graphc.ops.control import call_graph, scan_graph
from graphc.ops.iteration import while_graph
from graphc.ops.operands import as_node
from graphc.tree import Structure, flatten
from graphc.types import Type

Pattern = tuple[tuple[int, ...], ...]  # which coefficients of each argument there are


@paused()
def taylor(
    outputs: Any, inputs: Any, directions: Any, order: int, *, unused: str = "error"
) -> list[Any]:
    """The Taylor coefficients 0 to `order` of `outputs` along a curve through `inputs`: number k is
    the k-th derivative by t, divided by k!, at t = 0.

    `directions` has the structure of `inputs`: the curve is `inputs + t * directions`. Or it is a
    list of such containers, the coefficients of t, t**2 and so on of the curve. Each item of the
    result has the structure of `outputs`; the first is `outputs` itself. The graph grows as
    order**2, where nested `jvp` grow exponentially; the coefficients are nodes like others, to be
    differentiated in any mode. `GraphError` for an op without a derivative on the way, and for an
    input that is in the graph of no output, unless `unused` is "zero".

    >>> import graphc as gx
    >>> t = gx.scalar("t")
    >>> coefficients = gx.taylor(gx.exp(t), t, 1.0, order=4)
    >>> [round(float(gx.evaluate(c, {t: 0.0})), 4) for c in coefficients]
    [1.0, 1.0, 0.5, 0.1667, 0.0417]
    """
    if not isinstance(order, int) or isinstance(order, bool) or order < 0:
        raise GraphError(f"taylor: order is a whole number, 0 or more, got {order!r}")
    out_leaves, out_structure = flatten(outputs)
    in_leaves, in_structure = flatten(inputs)
    nodes = real_inputs(in_leaves, "taylor")
    results = [as_node(leaf) for leaf in out_leaves]
    require_members("taylor", results, nodes, range(len(nodes)), in_structure, unused)
    curve = _curve(directions, in_structure)
    given = [
        [seed_like(n, v, "direction") for n, v in zip(nodes, c, strict=True)] for c in curve[:order]
    ]
    columns: list[Column] = [list(column) for column in zip(*given, strict=True)]
    series = Series(nodes, columns or [[] for _ in nodes], TRANSFORM, expand)
    found = series.coefficients(results, order)
    rows = [[column[m] for column in found] for m in range(order)]
    of = [*results, *nodes, *(node for seeds in given for node in seeds)]
    made = [results, *(remembered(filled(results, row), of) for row in rows)]
    return [out_structure.unflatten(row) for row in made]


def _curve(directions: Any, structure: Structure) -> list[list[Any]]:
    """The leaves of the coefficients of t, t**2, ..."""
    leaves, found = flatten(directions)
    if found == structure:
        return [leaves]
    if isinstance(directions, (list, tuple)):
        parts = [flatten(part) for part in directions]
        if parts and all(part == structure for _, part in parts):
            return [leaves for leaves, _ in parts]
    raise GraphError(
        f"taylor: directions have structure {found}, inputs {structure}\n"
        "Pass a container like the inputs, or a list of such containers: the coefficients of t, "
        "t**2, ... of a curve."
    )


# -- ops with Graphs -------------------------------------------------------------------------------


def expand(node: Node, given: list[Column], order: int) -> list[Column]:
    """The coefficients 1 to `order` of the results of an op with Graphs, from those of its
    arguments.
    """
    return _EXPANSIONS[node.op.name](node, given, order)


def _present(given: Sequence[Column]) -> Pattern:
    return tuple(tuple(m for m, c in enumerate(column, 1) if c is not None) for column in given)


def _all(given: Sequence[Column]) -> list[Node]:
    return [c for column in given for c in column if c is not None]


@dataclass(frozen=True)
class _Body:
    """A Graph's parameters, the coefficients of each that are given, its outputs, and for each
    output its coefficients from 1 on; none for one that does not vary smoothly.
    """

    inputs: list[Node]
    marks: list[list[Node]]
    outputs: list[Node]
    made: list[list[Node]]


def _expanded(graph: Graph, present: Pattern, order: int) -> _Body:
    inputs = [placeholder(type_) for type_ in graph.parameters]
    marks = [[placeholder(t) for _ in p] for t, p in zip(graph.parameters, present, strict=True)]
    moving = [i for i, orders in enumerate(present) if orders]
    columns = [_placed(marks[i], present[i], order) for i in moving]
    outputs = list(graph(*inputs))
    series = Series([inputs[i] for i in moving], columns, TRANSFORM, expand)
    made = [
        [zero(output.type) if c is None else c for c in column]  # type: ignore[arg-type]
        for output, column in zip(outputs, series.coefficients(outputs, order), strict=True)
    ]
    real = [column if is_real(o.type) else [] for o, column in zip(outputs, made, strict=True)]
    return _Body(inputs, marks, outputs, real)


def _placed(nodes: Sequence[Node], orders: Sequence[int], order: int) -> list[Maybe]:
    """A column with nodes at their orders."""
    at = dict(zip(orders, nodes, strict=True))
    return [at.get(m) for m in range(1, order + 1)]


def _joined(columns: Sequence[Sequence[Node]]) -> list[Node]:
    return list(itertools.chain.from_iterable(columns))


def _closed(inputs: Sequence[Node], outputs: Sequence[Node]) -> Graph:
    graph, captured = close(inputs, outputs)
    assert not captured, "the series of a closed graph is closed"
    return graph


def _columns(types: Sequence[Type], found: Sequence[Node], order: int) -> list[Column]:
    """Results one after the other, as columns of the outputs that vary smoothly."""
    left = iter(found)
    return [
        [next(left) if is_real(type_) else None for _ in range(order)] for type_ in types
    ]


_bodies: weakref.WeakKeyDictionary[Graph, dict[Any, Graph]] = weakref.WeakKeyDictionary()


def _graph_of(graph: Graph, present: Pattern, order: int) -> Graph:
    """(parameters, coefficients that are present) -> coefficients of the real outputs: one for the
    fifty calls of a layer.
    """
    held = _bodies.setdefault(graph, {})
    if (present, order) not in held:
        body = _expanded(graph, present, order)
        leaves = [*body.inputs, *_joined(body.marks)]
        held[present, order] = _closed(leaves, _joined(body.made))
    return held[present, order]


def _call(node: Node, given: list[Column], order: int) -> list[Column]:
    graph = _graph_of(node.attrs["graph"], _present(given), order)
    name = f"taylor of {node.attrs['name']}"
    found = call_graph(graph, [*node.args, *_all(given)], name)
    return _columns(node.attrs["graph"].types, found, order)


def _switch(node: Node, given: list[Column], order: int) -> list[Column]:
    branches = node.attrs["branches"]
    graphs = [_graph_of(graph, _present(given[1:]), order) for graph in branches]
    found = switch_graphs(graphs, [*node.args, *_all(given)])
    return _columns(branches[0].types, found, order)


def _states(
    args: Sequence[Node], given: Sequence[Column], order: int
) -> tuple[Pattern, list[Node]]:
    """Each real state has all coefficients, for it will have them after a step."""
    real = [is_real(state.type) for state in args]
    present = tuple(tuple(range(1, order + 1)) if held else () for held in real)
    values = [
        zero(state.type) if c is None else c  # type: ignore[arg-type]
        for state, column, held in zip(args, given, real, strict=True)
        if held
        for c in column
    ]
    return present, values


def _scan(node: Node, given: list[Column], order: int) -> list[Column]:
    """One scan over states and their coefficients; slices and invariants have theirs beside them.
    """
    attrs = node.attrs
    graph, carry, steps = attrs["graph"], attrs["carry"], attrs["steps"]
    slices = slice(carry, carry + steps)
    first, states = _states(node.args[:carry], given[:carry], order)
    body = _expanded(graph, (*first, *_present(given[carry:])), order)
    inputs, marks = body.inputs, body.marks
    leaves = [
        *inputs[:carry],
        *_joined(marks[:carry]),
        *inputs[slices],
        *_joined(marks[slices]),
        *inputs[carry + steps :],
        *_joined(marks[carry + steps :]),
    ]
    found = scan_graph(
        _closed(leaves, [*body.outputs[:carry], *_joined(body.made)]),
        [
            *node.args[:carry],
            *states,
            *node.args[slices],
            *_all(given[slices]),
            *node.args[carry + steps :],
            *_all(given[carry + steps :]),
        ],
        carry + len(states),
        steps + len(_all(given[slices])),
        attrs["length"],
        attrs["reverse"],
    )
    return _columns(graph.types, found[carry:], order)


def _while(node: Node, given: list[Column], order: int) -> list[Column]:
    """One loop over states and their coefficients, as long as the condition on the states holds."""
    attrs = node.attrs
    carry = attrs["carry"]
    first, states = _states(node.args[:carry], given[:carry], order)
    body = _expanded(attrs["body"], (*first, *_present(given[carry:])), order)
    leaves = [
        *body.inputs[:carry],
        *_joined(body.marks[:carry]),
        *body.inputs[carry:],
        *_joined(body.marks[carry:]),
    ]
    found = while_graph(
        _closed(leaves, attrs["condition"](*body.inputs)),
        _closed(leaves, [*body.outputs, *_joined(body.made)]),
        [*node.args[:carry], *states, *node.args[carry:], *_all(given[carry:])],
        carry + len(states),
        attrs["bound"],
    )
    return _columns(attrs["body"].types, found[carry:], order)


_EXPANSIONS = {"call": _call, "switch": _switch, "scan": _scan, "while_loop": _while}
