"""How is something repeated?  `while_loop`, `fori_loop`, `map`, and `associative_scan`.

`while_loop` has an op of its own: how often it runs is known at run time only. The others are made
of `scan` and of slices. Reverse mode needs the states of all rounds, so a `while_loop` that is to
be differentiated backwards states a bound; `fori_loop` with known limits is a scan and needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc import dtypes
from graphc.dims import Dim, Extent, dim_max, product
from graphc.errors import GraphError
from graphc.graph import Graph, close, placeholder, trace
from graphc.lowering import Region
from graphc.node import Node
from graphc.op import Op, Rules, register
from graphc.ops.control import scan
from graphc.ops.movement import moveaxis, reshape
from graphc.ops.operands import as_node, broadcast, cast, describe, normalize_axis
from graphc.ops.reduce import any_op
from graphc.ops.special import project, where_op
from graphc.tensor import SURFACE, surface
from graphc.tree import flatten
from graphc.types import TensorType, TupleType, Type, as_extent

# Arguments: `carry` initial states, then invariants. Both graphs take states, then invariants.


def _infer_while(
    *types: Type, condition: Graph, body: Graph, carry: int, bound: Extent | None
) -> Type:
    states = types[:carry]
    if condition.parameters != types or body.parameters != types:
        raise GraphError(f"while_loop: its graphs take {body.parameters}, they are given {types}")
    if condition.types != (TensorType("bool", ()),):
        raise GraphError(f"while_loop: the condition gives {condition.types}, not one bool")
    if body.types != states:
        raise GraphError(f"while_loop: states of {states} become {body.types} in a round")
    return TupleType(states)


def _numpy_while(
    *arrays: Any, condition: Graph, body: Graph, carry: int, bound: Extent | None
) -> Any:
    from graphc.evaluator import run_graph

    states, rest = list(arrays[:carry]), arrays[carry:]
    while run_graph(condition, [*states, *rest])[0]:
        states = run_graph(body, [*states, *rest])
    return tuple(states)


def _while_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    return transform.while_jvp(node, tangents)


def _while_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    if node.attrs["bound"] is None:
        raise GraphError(
            "reverse mode needs the states of every round of a while_loop, so it needs a bound\n"
            + describe([node])
            + "\nPass bound=, the most rounds there may be; or use gx.jvp, which needs none."
        )
    return transform.while_vjp(node, cotangents, wanted)


def _batch_while(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """One loop over rows. Where the condition differs from row to row it goes on while it holds for
    some row, and rows for which it does not keep their states: the body sees those, too.
    """
    body, condition, carry = (node.attrs[name] for name in ("body", "condition", "carry"))
    states, rest = tuple(mapped[:carry]), tuple(mapped[carry:])
    while True:
        test, (own_test,) = transform.batch(condition, (*states, *rest), size, (False,))
        wanted = (True,) * carry if own_test else states
        step, got = transform.batch(body, (*wanted, *rest), size, wanted)
        if got == states:
            break
        states = got
    if own_test:
        test, step = _until_all_rows_are_done(test, step)
    given = [
        transform.spread(arg, size) if i < carry and states[i] and not mapped[i] else arg
        for i, arg in enumerate(args)
    ]
    found = while_graph(test, step, given, carry, node.attrs["bound"])
    return [
        final if own else transform.spread(final, size)
        for final, own in zip(found, states, strict=True)
    ]


def _until_all_rows_are_done(test: Graph, step: Graph) -> tuple[Graph, Graph]:
    inputs = [placeholder(type_) for type_ in step.parameters]
    (going,) = test(*inputs)
    held = [
        where_op(broadcast(going, new.shape, (0,)), new, old)
        for new, old in zip(step(*inputs), inputs, strict=False)
    ]
    some, _ = close(inputs, [any_op(going, axes=(0,))])
    kept, _ = close(inputs, held)
    return some, kept


while_op = register(
    Op(
        "while_loop",
        _infer_while,
        _numpy_while,
        Region("while"),
        Rules(_while_jvp, _while_vjp),
        attributes=("condition", "body", "carry", "bound"),
        batch=_batch_while,
        doc="The states after as many rounds of the body as the condition holds.",
    )
)


def while_graph(
    condition: Graph, body: Graph, args: Sequence[Node], carry: int, bound: Extent | None
) -> list[Node]:
    """The final states of a loop."""
    node = while_op(*args, condition=condition, body=body, carry=carry, bound=bound)
    return [project(node, i) for i in range(carry)]


@surface
def while_loop(
    condition: Callable[[Any], Any],
    body: Callable[[Any], Any],
    init: Any,
    bound: Extent | None = None,
) -> Any:
    """The state after `state = body(state)` was repeated while `condition(state)` holds.

    `init` may be a nested container; each leaf keeps its shape and dtype. `condition` gives a
    scalar, true if not 0. Forward mode works as it is; reverse mode needs `bound`, the most rounds
    there may be: it keeps that many states, and raises at run time if there were more rounds. A
    loop that never ends can be interrupted with Ctrl-C.
    """
    leaves, structure = flatten(init)
    states = [as_node(leaf) for leaf in leaves]
    if not states:
        raise GraphError("while_loop needs a state: without one the condition cannot change")

    def both(*inputs: Node) -> list[Node]:
        held = as_node(condition(structure.unflatten(list(inputs))))
        if not isinstance(held.type, TensorType) or held.shape != ():
            raise GraphError(
                f"while_loop: the condition is one number, got {held.type}\n{describe([held])}\n"
                "Reduce it: gx.any(...) or gx.all(...)."
            )
        test = held if held.dtype == dtypes.BOOL else held != 0
        found, found_structure = flatten(body(structure.unflatten(list(inputs))))
        if found_structure != structure:
            raise GraphError(
                f"while_loop: the state was {structure}, the body gives {found_structure}"
            )
        return [test, *[_kept(old, as_node(new)) for old, new in zip(states, found, strict=True)]]

    inputs, outputs = trace(both, [state.type for state in states])
    graph, captured = close(inputs, outputs, repeats=True)
    test, *new = graph.outputs
    graphs = Graph(graph.parameters, [test]), Graph(graph.parameters, new)
    limit = None if bound is None else as_extent(bound)
    results = while_graph(*graphs, [*states, *captured], len(states), limit)
    return structure.unflatten(results)


def _kept(old: Node, new: Node) -> Node:
    """The new value of a state, of the type of the old one."""
    if old.type is new.type:
        return new
    raise GraphError(
        f"while_loop: a state of {old.type} becomes {new.type} in a round\n"
        + describe([old, new])
        + "\nA state must keep its shape and dtype: cast or reshape the first one."
    )


@surface
def fori_loop(
    lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any, bound: Extent | None = None
) -> Any:
    """The state after `state = body(i, state)` for i from `lower` to `upper` - 1.

    With limits that are known when the graph is built (integers, extents) it is a `scan`, and
    differentiable in every mode; with limits that are expressions it is a `while_loop`, for which
    `bound` is what it says there. `i` is an int64 scalar.
    """
    if isinstance(lower, (int, Dim)) and isinstance(upper, (int, Dim)):
        start, length = as_extent(lower), dim_max(as_extent(upper) - as_extent(lower), 0)
        steps = SURFACE["arange"](length) + start
        final, _ = scan(lambda state, i: (body(i, state), None), init, steps)
        return final
    begin, stop = (_counter(limit) for limit in (lower, upper))
    _, final = while_loop(
        lambda held: held[0] < stop,
        lambda held: (held[0] + 1, body(held[0], held[1])),
        (begin, init),
        bound,
    )
    return final


def _counter(limit: Any) -> Node:
    node = as_node(limit)
    if not isinstance(node.type, TensorType) or node.shape != () or node.dtype.kind not in "iu":
        raise GraphError(
            f"fori_loop counts from one integer to another, got {node.type}\n{describe([node])}"
        )
    return cast(node, "int64")


@surface
def map_(function: Callable[[Any], Any], xs: Any) -> Any:
    """`function` of every slice of `xs` along axis 0, one after the other; results are stacked.

    `xs` and the results may be nested containers. One slice at a time needs little memory; an
    expression over whole arrays is faster.
    """
    _, ys = scan(lambda state, x: (state, function(x)), None, xs)
    return ys


@surface
def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Node:
    """`func1d(line, *args, **kwargs)` of every line of arr along `axis`, one after the other; the
    axes of its result take the place of that axis.
    """
    node = as_node(arr)
    where = normalize_axis(axis, node, "apply_along_axis")
    moved = moveaxis(node, where, -1)
    lines = reshape(moved, (product(moved.shape[:-1]), moved.shape[-1]))
    results = map_(lambda line: as_node(func1d(line, *args, **kwargs)), lines)
    rank = results.ndim - 1
    whole = reshape(results, (*moved.shape[:-1], *results.shape[1:]))
    return moveaxis(whole, tuple(range(-rank, 0)), tuple(range(where, where + rank)))


@surface
def associative_scan(
    function: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """All prefixes of `elems` along `axis` combined by an associative `function(a, b)`.

    `function` works on whole arrays, element by element along `axis`: it combines many pairs at a
    time, in about 2 log2(n) parallel steps (the prefix network of Ladner and Fischer, J. ACM 27,
    1980). `elems` may be a nested container; the extents along `axis` are equal and known numbers.
    `reverse` combines from the end.
    """
    leaves, structure = flatten(elems)
    nodes = [as_node(leaf) for leaf in leaves]
    lengths = {node.shape[axis] if -node.ndim <= axis < node.ndim else 0 for node in nodes}
    (length,) = lengths if len(lengths) == 1 else (None,)
    if not isinstance(length, int) or any(not -n.ndim <= axis < n.ndim for n in nodes):
        raise GraphError(
            f"associative_scan needs equal, known extents along axis {axis}\n" + describe(nodes)
        )

    def combine(a: list[Node], b: list[Node]) -> list[Node]:
        first, second = (structure.unflatten(list(part)) for part in (a, b))
        made = function(second, first) if reverse else function(first, second)
        found, found_structure = flatten(made)
        if found_structure != structure:
            raise GraphError(
                f"associative_scan: elements are {structure}, the function gives {found_structure}"
            )
        return [as_node(leaf) for leaf in found]

    moved = [_swapped(node, axis) for node in nodes]
    ordered = [node[::-1] for node in moved] if reverse else moved
    found = _prefixes(combine, ordered, length)
    back = [node[::-1] for node in found] if reverse else found
    return structure.unflatten([_swapped(node, axis) for node in back])


def _swapped(node: Node, axis: int) -> Node:
    """The axis first, and the first where it was."""
    return SURFACE["swapaxes"](node, axis, 0)


def _prefixes(combine: Callable[..., list[Node]], nodes: list[Node], length: int) -> list[Node]:
    """Prefixes along axis 0: pairs are combined, then their prefixes, then the odd ones out."""
    if length < 2:
        return nodes
    pairs = combine([n[0 : length - 1 : 2] for n in nodes], [n[1::2] for n in nodes])
    at_odd = _prefixes(combine, pairs, length // 2)
    rest = (length - 1) // 2
    first = [n[:1] for n in nodes]
    if rest == 0:
        return [SURFACE["concatenate"](pair) for pair in zip(first, at_odd, strict=True)]
    later = combine([n[:rest] for n in at_odd], [n[2::2] for n in nodes])
    at_even = [SURFACE["concatenate"](pair) for pair in zip(first, later, strict=True)]
    return [_interleaved(a, b, length) for a, b in zip(at_even, at_odd, strict=True)]


def _interleaved(even: Node, odd: Node, length: int) -> Node:
    """Rows of both in turn, `length` in all."""
    shape = even.shape[1:]
    pairs = length // 2
    both = SURFACE["stack"]([even[:pairs], odd], axis=1).reshape((2 * pairs, *shape))
    return both if length % 2 == 0 else SURFACE["concatenate"]([both, even[pairs:]])
