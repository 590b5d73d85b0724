"""How does a user say what the derivative of a function is?  `custom_derivative`.

The function and its rules are traced to Graphs, which a node carries side by side. One rule serves
both modes: a rule of forward mode is linear in the tangents and one of reverse mode in the
cotangents, so each is the transpose of the other. Rules are graphs, so derivatives of higher order
go through them. Once derivatives are taken nothing of this is left: rewriting puts the function's
own nodes in place of the call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError, shortened
from graphc.graph import Graph, close, placeholder, replace
from graphc.lowering import Region
from graphc.node import Node
from graphc.op import Op, Rules, register
from graphc.ops.operands import as_node, describe
from graphc.ops.reduce import sum_op
from graphc.ops.special import project, zeros_like
from graphc.tensor import surface
from graphc.tree import Structure, flatten
from graphc.types import TensorType, TupleType, Type

# Arguments: those of the function, then what it and its rules use from outside. The Graph `jvp`
# takes all of them, then the results, then a tangent for each real argument of the function, and
# gives one for each real result; `vjp` takes a cotangent for each real result in the place of the
# tangents, and gives one for each real argument. The results that a rule is given are those of the
# node itself, so that derivatives of higher order meet its rules again. `by` numbers the arguments
# that the rules are about, those that move with them; by the others the function itself is
# differentiated.


def _infer(
    *types: Type, graph: Graph, own: int, jvp: Any, vjp: Any, by: tuple[int, ...], name: str
) -> Type:
    if types != graph.parameters:
        raise GraphError(f"{name} takes {graph.parameters}, got {types}")
    return TupleType(graph.types)


def _numpy(
    *arrays: Any, graph: Graph, own: int, jvp: Any, vjp: Any, by: tuple[int, ...], name: str
) -> Any:
    from graphc.evaluator import run_graph

    return tuple(run_graph(graph, arrays))


def _is_real(type_: Type) -> bool:
    return isinstance(type_, TensorType) and dtypes.is_float(type_.dtype)


def _real(types: Sequence[Type]) -> list[int]:
    return [i for i, type_ in enumerate(types) if _is_real(type_)]


def _refuse_outside(node: Node, moving: Sequence[bool]) -> None:
    """An error if a derivative is asked by something that the rules say nothing of."""
    own = node.attrs["own"]
    outside = [arg for arg, moves in zip(node.args[own:], moving[own:], strict=True) if moves]
    if outside:
        raise GraphError(
            f"{node.attrs['name']} has a derivative of its own, by its arguments; it also depends "
            "on\n" + describe(outside) + "\nPass that as an argument, or use gx.stop_gradient."
        )


def _jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    attrs = node.attrs
    graph, by = attrs["graph"], attrs["by"]
    _refuse_outside(node, [tangent is not None for tangent in tangents])
    answer: list[Any] = [None] * len(graph.outputs)
    if any(tangents[i] is not None for i in by):
        found = _pushed(node, tangents, transform)
        for i, tangent in zip(_real(graph.types), found, strict=True):
            answer[i] = tangent
    others = [i for i in _others(node) if tangents[i] is not None]
    if others:
        rest = transform.jvp(graph, tuple(others))(*node.args, *[tangents[i] for i in others])
        for i, tangent in zip(_real(graph.types), rest, strict=True):
            answer[i] = tangent if answer[i] is None else answer[i] + tangent
    return answer


def _others(node: Node) -> list[int]:
    """The arguments that vary smoothly and no rule is about."""
    attrs = node.attrs
    return [i for i in _real(attrs["graph"].parameters[: attrs["own"]]) if i not in attrs["by"]]


def _pushed(node: Node, tangents: list[Any], transform: Any) -> Sequence[Node]:
    """The tangents of the real results by the rules."""
    attrs = node.attrs
    graph = attrs["graph"]
    moved = [
        zeros_like(node.args[i]) if tangents[i] is None else tangents[i] for i in attrs["by"]
    ]
    if attrs["jvp"] is not None:
        return attrs["jvp"](*node.args, *_results(node), *moved)
    linear = [graph.types[i] for i in _real(graph.types)]
    return _transposed(attrs["vjp"], node, linear, moved, transform)


def _vjp(node: Node, cotangents: list[Any], wanted: list[bool], transform: Any) -> list[Any]:
    attrs = node.attrs
    graph, by = attrs["graph"], attrs["by"]
    _refuse_outside(node, wanted)
    answer: list[Any] = [None] * len(node.args)
    results = _real(graph.types)
    given = [zeros_like(project(node, i)) if cotangents[i] is None else cotangents[i]
             for i in results]
    if any(wanted[i] for i in by):
        found = _pulled(node, given, transform)
        for i, cotangent in zip(by, found, strict=True):
            answer[i] = cotangent if wanted[i] else None
    others = [i for i in _others(node) if wanted[i]]
    if others:
        rest = transform.vjp(graph, tuple(results), tuple(others))(*node.args, *given)
        for i, cotangent in zip(others, rest, strict=True):
            answer[i] = cotangent
    return answer


def _pulled(node: Node, given: Sequence[Node], transform: Any) -> Sequence[Node]:
    """The cotangents by the rules of the arguments that they are about."""
    attrs = node.attrs
    if attrs["vjp"] is not None:
        return attrs["vjp"](*node.args, *_results(node), *given)
    linear = [attrs["graph"].parameters[i] for i in attrs["by"]]
    return _transposed(attrs["jvp"], node, linear, given, transform)


def _transposed(
    rule: Graph, node: Node, linear: Sequence[Type], given: Sequence[Node], transform: Any
) -> Sequence[Node]:
    """What the transpose of a rule, which is linear in its last parameters, gives."""
    known = [*node.args, *_results(node)]
    first = len(known)
    asked = tuple(range(first, first + len(linear)))
    pulled: Graph = transform.vjp(rule, tuple(range(len(rule.outputs))), asked)
    anywhere = [_zero(type_) for type_ in linear]  # what is linear has the same transpose anywhere
    return pulled(*known, *anywhere, *given)


def _zero(type_: Type) -> Node:
    from graphc.ops.creation import zeros

    assert isinstance(type_, TensorType)
    return zeros(type_.shape, type_.dtype)


def _batch(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """The function over rows keeps its rules, over rows as well."""
    attrs = node.attrs
    graph, real = attrs["graph"], attrs["by"]
    over = tuple(mapped)
    every = (True,) * len(graph.outputs)
    made, _ = transform.batch(graph, over, size, every)
    rules: dict[str, Graph | None] = {"jvp": None, "vjp": None}
    if attrs["jvp"] is not None:
        flags = (*over, *every, *(mapped[i] for i in real))
        rules["jvp"], _ = transform.batch(
            attrs["jvp"], flags, size, (True,) * len(attrs["jvp"].outputs)
        )
    if attrs["vjp"] is not None:
        flags = (*over, *every, *[True] * len(_real(graph.types)))
        rows, got = transform.batch(attrs["vjp"], flags, size, tuple(mapped[i] for i in real))
        shared = [has and not mapped[i] for has, i in zip(got, real, strict=True)]
        rules["vjp"] = _summed(rows, shared)
    return _results(
        custom_op(
            *args, graph=made, own=attrs["own"], by=real, name=f"{attrs['name']} by rows", **rules
        )
    )


def _summed(graph: Graph, shared: Sequence[bool]) -> Graph:
    """The Graph with the cotangents of what all rows share summed over them."""
    inputs = [placeholder(type_) for type_ in graph.parameters]
    outputs = [
        sum_op(output, axes=(0,)) if each else output
        for output, each in zip(graph(*inputs), shared, strict=True)
    ]
    return close(inputs, outputs)[0]


def _results(node: Node) -> list[Node]:
    return [project(node, i) for i in range(len(node.attrs["graph"].outputs))]


custom_op = register(
    Op(
        "custom_derivative",
        _infer,
        _numpy,
        Region("call"),
        Rules(_jvp, _vjp),
        attributes=("graph", "own", "jvp", "vjp", "by", "name"),
        batch=_batch,
        text="{name}",
        version=2,
        doc="A sub-graph with the derivative that its rules say, in place of its own.",
    )
)


@surface
def custom_derivative(
    function: Callable[..., Any] | None = None,
    *,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    by: Sequence[int] | None = None,
) -> Any:
    """`function`, whose derivative is what the rules say; a decorator if `function` is left out.

    `jvp(args, results, tangents)` gives the tangents of the results: `args` is the tuple of
    arguments, `tangents` one of the same structure, and the answer has the structure of `results`.
    `vjp(args, results, cotangents)` gives a tuple of cotangents of the arguments, of their
    structure, for cotangents of the structure of the results. None stands for zero; what is not of
    a float dtype has the tangent None. One rule is enough for both modes; it must be linear in its
    last argument. `GraphError` where a derivative is taken by something that the function uses but
    is not given as an argument.

    With `by`, numbers of arguments, the rules are about those alone: the tangents of others are
    None, what is answered for their cotangents does not count, and by them the function itself is
    differentiated.

    >>> import graphc as gx
    >>> @gx.custom_derivative(vjp=lambda args, result, ct: (gx.clip(ct, -1, 1),))
    ... def clipped_gradient(x):
    ...     return x
    """
    if jvp is None and vjp is None:
        raise GraphError("custom_derivative needs a rule: jvp=, vjp=, or both")
    if function is None:
        return lambda found: custom_derivative(found, jvp=jvp, vjp=vjp, by=by)
    name = str(getattr(function, "__name__", "custom_derivative"))

    def call(*args: Any) -> Any:
        leaves, structure = flatten(args)
        nodes = [as_node(leaf) for leaf in leaves]
        return _made(name, function, jvp, vjp, nodes, structure, _ruled(name, args, by))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = function.__doc__
    return call


def _ruled(name: str, args: Sequence[Any], by: Any) -> list[int]:
    """The leaves of the arguments that rules are about: of those numbered in `by`, or of all."""
    counts = [len(flatten(arg)[0]) for arg in args]
    if by is None:
        return list(range(sum(counts)))
    if not isinstance(by, (tuple, list)) or any(
        type(number) is not int or not 0 <= number < len(args) for number in by
    ):
        raise GraphError(
            f"{name}: by numbers the arguments that the rules are about, in a tuple; there are "
            f"{len(args)}, got {shortened(repr(by))}"
        )
    starts = [0, *itertools.accumulate(counts)]
    return [leaf for number in by for leaf in range(starts[number], starts[number + 1])]


def _made(
    name: str,
    function: Callable[..., Any],
    jvp: Callable[..., Any] | None,
    vjp: Callable[..., Any] | None,
    nodes: Sequence[Node],
    structure: Structure,
    ruled: Sequence[int],
) -> Any:
    """The results of a call: the function and its rules traced, over what they use from outside."""
    inputs = [placeholder(node.type) for node in nodes]
    args = structure.unflatten(inputs)
    results, result_structure = flatten(function(*args))
    outputs = [as_node(result) for result in results]
    traced: dict[str, tuple[list[Node], list[Node]]] = {"graph": (inputs, outputs)}
    by = [i for i in _real([node.type for node in inputs]) if i in ruled]
    results_of_rules = _real([node.type for node in outputs])
    for what, rule, from_, from_structure, moving, to, to_structure, asked in (
        ("jvp", jvp, inputs, structure, by, outputs, result_structure, results_of_rules),
        ("vjp", vjp, outputs, result_structure, results_of_rules, inputs, structure, by),
    ):
        given = {i: placeholder(from_[i].type) for i in moving}
        if rule is None or not given or not asked:
            continue
        directions = from_structure.unflatten([given.get(i) for i in range(len(from_))])
        known = [placeholder(output.type) for output in outputs]
        found = rule(args, result_structure.unflatten(known), directions)
        answer = _directions(f"{what} of {name}", found, to, to_structure, asked)
        traced[what] = [*inputs, *known, *given.values()], answer
    captured = (node for leaves, made in traced.values() for node in close(leaves, made)[1])
    outside = {node: placeholder(node.type) for node in captured}
    graphs: dict[str, Graph | None] = {"jvp": None, "vjp": None}
    for what, (leaves, made) in traced.items():
        whole = [*inputs, *outside.values(), *leaves[len(inputs) :]]
        graphs[what] = close(whole, replace(made, outside))[0]
    node = custom_op(
        *nodes, *outside, own=len(nodes), by=tuple(by), name=name, **graphs
    )
    return result_structure.unflatten(_results(node))


def _directions(
    what: str, answer: Any, like: Sequence[Node], structure: Structure, asked: Sequence[int]
) -> list[Node]:
    """The leaves of what a rule gave, one for each leaf that is asked for, of its type."""
    try:
        found = structure.spread(answer, lambda part: part is None)
    except ValueError as error:
        raise GraphError(f"{what} should have the structure {structure}: {error}") from None
    made = []
    for i in asked:
        value = zeros_like(like[i]) if found[i] is None else as_node(found[i])
        if value.type is not like[i].type:
            raise GraphError(
                f"{what}: result {i} is {value.type}, it should be {like[i].type}\n"
                + describe([value])
            )
        made.append(value)
    return made
