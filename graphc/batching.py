"""How does a function of one example become a function of many?  `vmap`: graph in, graph out.

The function is traced once, for one example. Then every node that depends on a mapped argument is
made again over a further axis, which is always the first: an op's record says how (`Op.batch`).
What does not depend on one is shared by all examples. The result is an ordinary graph over whole
arrays, so it fuses, vectorises and differentiates like any other, and nothing remains that calls
the function once for each example.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from graphc.collector import paused
from graphc.dims import Extent
from graphc.errors import GraphError, shortened
from graphc.graph import Graph, close, placeholder
from graphc.lowering import Elementwise, Reduce, Verify
from graphc.node import Node, topological
from graphc.op import Leading, Op
from graphc.ops.control import scan
from graphc.ops.movement import moveaxis
from graphc.ops.operands import as_node, broadcast, describe, normalize_axis, restate_op
from graphc.ops.special import project, project_op
from graphc.origin import Event, because
from graphc.tree import Structure, flatten
from graphc.types import TensorType, TupleType, Type

__all__ = ["vmap"]

Mapped = tuple[bool, ...]
# How attributes change where the form of an op says so.
_OF_FORM: dict[type, Leading] = {
    Elementwise: Leading(),
    Verify: Leading(),
    Reduce: Leading(raised=("axes",)),
}


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """A function that does for every example along an axis what `function` does for one.

    `in_axes` says along which axis of each argument the examples lie: an int for all, None for an
    argument that all examples share, or a tuple with one of these, or a container of the structure
    of the argument, for each positional argument. Arguments by keyword are mapped along axis 0.
    `out_axes` says where the axis of examples goes in the results, likewise. Arguments and results
    may be nested containers; calls nest: `vmap(vmap(f))` maps over two axes.

    Random numbers, loops and branches are mapped as well. A branch whose condition differs from
    example to example is computed for all of them, and so is every round of a loop until the last
    example is done. `GraphError` if the arguments have different numbers of examples.
    """

    @functools.wraps(function)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        axes = (*_per_argument("in_axes", in_axes, args), dict.fromkeys(kwargs, 0))
        leaves, structure = flatten((*args, kwargs))
        nodes = [as_node(leaf) for leaf in leaves]
        places = _per_leaf("in_axes", axes, structure)
        moved = [
            node if axis is None else moveaxis(node, normalize_axis(axis, node, "vmap"), 0)
            for node, axis in zip(nodes, places, strict=True)
        ]
        own = tuple(axis is not None for axis in places)
        moved, size = _agreed(moved, own)
        inputs = [
            placeholder(_without_first(node.type)) if each else node
            for node, each in zip(moved, own, strict=True)
        ]
        *given, named = structure.unflatten(inputs)
        results, result_structure = flatten(function(*given, **named))
        outputs = [as_node(result) for result in results]
        known = {
            leaf: node for leaf, node, each in zip(inputs, moved, own, strict=True) if each
        }
        found = push_rows(outputs, known, size)
        ends = _per_leaf("out_axes", out_axes, result_structure)
        return result_structure.unflatten(
            [
                _placed(output, rows, axis, size)
                for output, rows, axis in zip(outputs, found, ends, strict=True)
            ]
        )

    return mapped


# -- axes of arguments and results -----------------------------------------------------------------


def _is_axis(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _per_argument(name: str, axes: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    if _is_axis(axes):
        return (axes,) * len(args)
    if isinstance(axes, (tuple, list)) and len(axes) == len(args):
        return tuple(axes)
    raise GraphError(
        f"vmap: {name} is an axis, None, or a tuple with one of them for each of the {len(args)} "
        f"arguments, got {shortened(repr(axes))}"
    )


def _per_leaf(name: str, axes: Any, structure: Structure) -> list[int | None]:
    """An axis for each leaf: `axes` is one, or a container whose leaves stand for whole branches.
    """
    try:
        found = structure.spread(axes, _is_axis)
    except ValueError as error:
        raise GraphError(f"vmap: {name} does not fit {structure}: {error}") from None
    if not all(map(_is_axis, found)):
        raise GraphError(f"vmap: {name} is an axis or None, got {shortened(repr(axes))}")
    return found


def _agreed(nodes: Sequence[Node], own: Mapped) -> tuple[list[Node], Extent]:
    """The arguments with one number of examples, and that number."""
    mapped = [node for node, each in zip(nodes, own, strict=True) if each]
    if not mapped:
        raise GraphError("vmap: no argument is mapped; in_axes is None for all of them")
    numbers = [node.shape[0] for node in mapped]
    size = next((number for number in numbers if isinstance(number, int)), numbers[0])
    if any(isinstance(number, int) and number != size for number in numbers):
        raise GraphError(
            f"vmap: the arguments have different numbers of examples: {_listed(numbers)}\n"
            + describe(mapped)
        )
    return [
        restate_op(node, shape=(size, *node.shape[1:])) if each and node.shape[0] != size else node
        for node, each in zip(nodes, own, strict=True)
    ], size


def _listed(numbers: Sequence[Extent]) -> str:
    return ", ".join(map(str, dict.fromkeys(numbers)))


def _without_first(type_: Type) -> Type:
    assert isinstance(type_, TensorType)
    return TensorType(type_.dtype, type_.shape[1:])


def _placed(output: Node, rows: Node | None, axis: int | None, size: Extent) -> Node:
    if axis is None:
        if rows is not None:
            raise GraphError(
                "vmap: out_axes is None for a result that differs from example to example\n"
                + describe([output])
            )
        return output
    every = spread(output, size) if rows is None else rows
    return moveaxis(every, 0, normalize_axis(axis, every, "vmap"))


# -- the sweep -------------------------------------------------------------------------------------


def spread(x: Node, size: Extent) -> Node:
    """The same for every example."""
    return broadcast(x, (size, *x.shape), tuple(range(1, x.ndim + 1)))


@paused()
def push_rows(
    outputs: Sequence[Node], known: dict[Node, Node], size: Extent
) -> list[Node | None]:
    """The outputs for all examples, given those of `known` nodes; None where all have the same."""
    held: dict[Node, list[Node]] = {node: [rows] for node, rows in known.items()}
    labels: dict[tuple[Op, Any], Event] = {}
    for node in topological(outputs, known=held):
        if node in held or not any(argument in held for argument in node.args):
            continue
        if node.op is project_op:
            held[node] = [held[node.args[0]][node.attrs["index"]]]
            continue
        key = (node.op, node.origin)
        event = labels.get(key)
        if event is None:
            event = labels[key] = Event("vmap", node.op.name, because=node.origin)
        with because(event):
            args = [held[arg][0] if arg in held else arg for arg in node.args]
            mapped = tuple(arg in held for arg in node.args)
            held[node] = _over_rows(node, args, mapped, size)
    return [held[output][0] if output in held else None for output in outputs]


def _over_rows(node: Node, args: Sequence[Node], mapped: Mapped, size: Extent) -> list[Node]:
    rule = node.op.batch or _OF_FORM.get(type(node.op.lowering))
    if rule is None:
        return ROWS.looped(node, args, mapped, size)
    if not isinstance(rule, Leading):
        return rule(node, args, mapped, size, ROWS)
    every = [arg if own else spread(arg, size) for arg, own in zip(args, mapped, strict=True)]
    return _results(node.op(*every, **rule.attributes(node.attrs, size)))


def _results(made: Node) -> list[Node]:
    if isinstance(made.type, TupleType):
        return [project(made, i) for i in range(len(made.type.items))]
    return [made]


class Rows:
    """What the rules of ops receive: Graphs over rows, the same row again, and a loop over rows."""

    def __init__(self) -> None:
        self._cache: weakref.WeakKeyDictionary[Graph, dict[Any, tuple[Graph, Mapped]]] = (
            weakref.WeakKeyDictionary()
        )

    spread = staticmethod(spread)

    def batch(
        self, graph: Graph, mapped: Mapped, size: Extent, wanted: Mapped
    ) -> tuple[Graph, Mapped]:
        """The Graph whose `mapped` parameters are rows, and which of its outputs are: those that
        depend on one, and those that are `wanted` so.
        """
        held = self._cache.setdefault(graph, {})
        key = (tuple(mapped), size, tuple(wanted))
        if key not in held:
            held[key] = self._batched(graph, *key)
        return held[key]

    def _batched(
        self, graph: Graph, mapped: Mapped, size: Extent, wanted: Mapped
    ) -> tuple[Graph, Mapped]:
        inputs = [placeholder(type_) for type_ in graph.parameters]
        rows = [
            placeholder(_with_first(leaf.type, size)) if own else leaf
            for leaf, own in zip(inputs, mapped, strict=True)
        ]
        known = {leaf: row for leaf, row, own in zip(inputs, rows, mapped, strict=True) if own}
        outputs = graph(*inputs)
        found = push_rows(outputs, known, size)
        ends = [
            row if row is not None else spread(output, size) if want else output
            for output, row, want in zip(outputs, found, wanted, strict=True)
        ]
        made, captured = close(rows, ends)
        assert not captured, "a closed graph over rows is closed"
        own = tuple(row is not None or want for row, want in zip(found, wanted, strict=True))
        return made, own

    def looped(
        self, node: Node, args: Sequence[Node], mapped: Mapped, size: Extent
    ) -> list[Node]:
        """The op for one row after the other."""

        def one(state: None, rows: tuple[Node, ...]) -> tuple[None, tuple[Node, ...]]:
            row = iter(rows)
            every = [next(row) if own else arg for arg, own in zip(args, mapped, strict=True)]
            return state, tuple(_results(node.op(*every, **node.attrs)))

        rows = tuple(arg for arg, own in zip(args, mapped, strict=True) if own)
        _, found = scan(one, None, rows, length=size)
        return list(found)


def _with_first(type_: Type, size: Extent) -> Type:
    assert isinstance(type_, TensorType)
    return TensorType(type_.dtype, (size, *type_.shape))


ROWS = Rows()
