"""How is one of several computations chosen at run time?  `switch`, and `cond`, which has two.

Only the branch that is chosen runs, unlike `where`, which computes both sides and picks by element.
What a branch uses is what it is given, or what its function mentions: expressions that the function
itself writes stay inside the branch, those that existed before are arguments. Reverse and forward
mode differentiate every branch, and choose among the derivatives by the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.graph import Graph, close, placeholder
from graphc.lowering import Region
from graphc.node import Node, created_since, youngest
from graphc.op import Op, Rules, register
from graphc.ops.operands import as_node, broadcast, cast, describe, operands
from graphc.ops.special import project, where_op
from graphc.tensor import surface
from graphc.tree import flatten
from graphc.types import TensorType, TupleType, Type


def _infer_switch(index: Type, *types: Type, branches: tuple[Graph, ...]) -> Type:
    if index is not TensorType("int64", ()):
        raise GraphError(f"switch needs an int64 index of rank 0, got {index}")
    if not branches:
        raise GraphError("switch needs at least one branch")
    for graph in branches:
        if graph.parameters != types:
            raise GraphError(f"a branch of switch takes {graph.parameters}, it is given {types}")
        if graph.types != branches[0].types:
            raise GraphError(f"branches of switch give {branches[0].types} and {graph.types}")
    return TupleType(branches[0].types)


def _numpy_switch(index: Any, *arrays: Any, branches: tuple[Graph, ...]) -> Any:
    from graphc.evaluator import run_graph

    return tuple(run_graph(branches[int(np.clip(index, 0, len(branches) - 1))], arrays))


def _switch_jvp(node: Node, tangents: Sequence[Any], transform: Any) -> list[Any]:
    moving = tuple(i for i, tangent in enumerate(tangents[1:]) if tangent is not None)
    pushed = [transform.jvp(graph, moving) for graph in node.attrs["branches"]]
    results = switch_graphs(pushed, [*node.args, *[tangents[i + 1] for i in moving]])
    live = iter(results)
    return [
        next(live) if dtypes.is_float(type_.dtype) else None  # type: ignore[union-attr]
        for type_ in node.attrs["branches"][0].types
    ]


def _switch_vjp(
    node: Node, cotangents: Sequence[Any], wanted: Sequence[bool], transform: Any
) -> list[Any]:
    given = tuple(i for i, cotangent in enumerate(cotangents) if cotangent is not None)
    asked = tuple(i for i, want in enumerate(wanted[1:]) if want)
    pulled = [transform.vjp(graph, given, asked) for graph in node.attrs["branches"]]
    results = switch_graphs(pulled, [*node.args, *[cotangents[i] for i in given]])
    answer: list[Any] = [None] * len(node.args)
    for i, result in zip(asked, results, strict=True):
        answer[i + 1] = result
    return answer


def _batch_switch(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """The switch over rows; where the index differs from row to row all branches are computed, and
    each row takes its own.
    """
    branches = node.attrs["branches"]
    every = (True,) * len(branches[0].outputs)
    graphs = [transform.batch(graph, mapped[1:], size, every)[0] for graph in branches]
    if not mapped[0]:
        return switch_graphs(graphs, args)
    index, *given = args
    *others, results = [list(graph(*given)) for graph in graphs]
    for number in reversed(range(len(others))):
        results = [
            where_op(broadcast(index <= number, there.type.shape, (0,)), here, there)
            for here, there in zip(others[number], results, strict=True)
        ]
    return results


switch_op = register(
    Op(
        "switch",
        _infer_switch,
        _numpy_switch,
        Region("switch"),
        Rules(_switch_jvp, _switch_vjp),
        attributes=("branches",),
        batch=_batch_switch,
        doc="The results of the branch that the first argument numbers, the first or the last one "
        "if it lies outside; only that branch runs.",
    )
)


def switch_graphs(branches: Sequence[Graph], args: Sequence[Node]) -> list[Node]:
    """The results of a switch: `args` are the index, then what every branch takes."""
    node = switch_op(*args, branches=tuple(branches))
    return [project(node, i) for i in range(len(branches[0].outputs))]


@surface
def cond(
    predicate: Any,
    true_function: Callable[..., Any],
    false_function: Callable[..., Any],
    *args: Any,
) -> Any:
    """`true_function(*args)` if `predicate` holds at run time, else `false_function(*args)`.

    `predicate` is a scalar, true if it is not 0. Arguments and results may be nested containers;
    the results of both functions have one structure, their leaves promote and broadcast to a common
    type as those of `where`. Only one of the functions runs; `where` chooses by element.
    """
    node = _scalar("cond", predicate, "predicate")
    chosen = cast(node if node.dtype == dtypes.BOOL else node != 0, "int64")
    return _choose("cond", chosen, (false_function, true_function), args)


@surface
def switch(index: Any, branches: Sequence[Callable[..., Any]], *args: Any) -> Any:
    """`branches[index](*args)`, chosen at run time: the first for a negative index, the last for
    one too large.

    `index` is an integer scalar. Arguments and results are as for `cond`.
    """
    node = _scalar("switch", index, "index")
    if node.dtype.kind not in "biu":
        got = f"{node.dtype.name}\n{describe([node])}"
        raise GraphError(f"switch needs an integer index, got {got}")
    functions = tuple(branches)
    if not functions or not all(map(callable, functions)):
        raise GraphError("switch needs a sequence of functions, one or more")
    return _choose("switch", cast(node, "int64"), functions, args)


def _scalar(name: str, value: Any, what: str) -> Node:
    node = as_node(value)
    if not isinstance(node.type, TensorType) or node.shape != ():
        raise GraphError(
            f"{name}: the {what} is one number, got {node.type}\n{describe([node])}\n"
            "Use gx.where for a choice by element, or reduce it: gx.all(...), gx.any(...)."
        )
    return node


def _choose(name: str, index: Node, functions: Sequence[Callable[..., Any]], args: Any) -> Any:
    leaves, structure = flatten(args)
    nodes = [as_node(leaf) for leaf in leaves]
    inputs = [placeholder(node.type) for node in nodes]
    marker = youngest()
    made = [flatten(function(*structure.unflatten(list(inputs)))) for function in functions]
    result_structure = made[0][1]
    for _, other in made[1:]:
        if other != result_structure:
            raise GraphError(
                f"{name}: the branches give different containers\n"
                f"{result_structure} and {other}: {result_structure.difference(other)}"
            )
    leaves_of = [found for found, _ in made]
    columns = [operands(name, *column) for column in zip(*leaves_of, strict=True)]
    outputs = [node for branch in zip(*columns, strict=True) for node in branch]
    count = len(columns)
    graph, captured = close(inputs, outputs, inside=created_since(marker))
    branches = [
        Graph(graph.parameters, graph.outputs[i * count : (i + 1) * count])
        for i in range(len(functions))
    ]
    results = switch_graphs(branches, [index, *nodes, *captured]) if count else []
    return result_structure.unflatten(results)
