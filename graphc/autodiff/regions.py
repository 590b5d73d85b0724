"""How are Graphs differentiated?  The transformation that rules of ops with Graphs receive.

A derivative of a Graph is a Graph, cached by what it was made of, so the fifty calls of one layer
share one derivative body and are lowered once. The reverse of a scan runs the body's derivative
from the last step to the first over the states that a forward scan has saved; the rewriter merges
that scan with the original one. That of a while loop with a bound is the reverse of a scan over so
many rounds, whose body does nothing once the condition has failed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from graphc import dtypes
from graphc.autodiff.chain import Maybe, is_real, zero
from graphc.autodiff.sweep import pull_back, push_forward
from graphc.graph import Graph, close, placeholder
from graphc.node import Node
from graphc.ops.reduce import sum_op


class Transform:
    """Derivatives of closed Graphs, and of scans over them.

    `masked` is for Graphs beneath a branch of a `where`: in reverse mode zero times any partial is
    zero inside them too. `under_mask` is that transformation.
    """

    def __init__(self, masked: bool = False) -> None:
        self.masked = masked
        self._cache: weakref.WeakKeyDictionary[Graph, dict[Any, Graph]] = (
            weakref.WeakKeyDictionary()
        )

    def jvp(self, graph: Graph, moving: tuple[int, ...]) -> Graph:
        """(parameters, tangents of the `moving` ones) -> tangents of the real outputs."""
        return self._cached(graph, ("jvp", moving), lambda: _jvp_graph(graph, moving, self))

    def vjp(self, graph: Graph, given: tuple[int, ...], asked: tuple[int, ...]) -> Graph:
        """(parameters, cotangents of the `given` outputs) -> cotangents of the `asked` parameters.
        """
        key = ("vjp", given, asked)
        return self._cached(graph, key, lambda: _vjp_graph(graph, given, asked, self))

    def _cached(self, graph: Graph, key: Any, make: Any) -> Graph:
        held = self._cache.setdefault(graph, {})
        if key not in held:
            held[key] = make()
        return held[key]

    def scan_jvp(self, node: Node, tangents: Sequence[Maybe]) -> list[Maybe]:
        return _scan_jvp(node, tangents, self)

    def scan_vjp(
        self, node: Node, cotangents: Sequence[Maybe], wanted: Sequence[bool]
    ) -> list[Maybe]:
        return _scan_vjp(node, cotangents, wanted, self)

    def while_jvp(self, node: Node, tangents: Sequence[Maybe]) -> list[Maybe]:
        return _while_jvp(node, tangents, self)

    def while_vjp(
        self, node: Node, cotangents: Sequence[Maybe], wanted: Sequence[bool]
    ) -> list[Maybe]:
        return _while_vjp(node, cotangents, wanted, self)

    @property
    def under_mask(self) -> Transform:
        """The transformation of Graphs beneath a branch."""
        return MASKED


TRANSFORM = Transform()
MASKED = Transform(masked=True)


def _closed(inputs: Sequence[Node], outputs: Sequence[Node]) -> Graph:
    graph, captured = close(inputs, outputs)
    assert not captured, "the derivative of a closed graph is closed"
    return graph


def _or_zero(value: Maybe, type_: Any) -> Node:
    return zero(type_) if value is None else value


def _jvp_graph(graph: Graph, moving: tuple[int, ...], transform: Transform) -> Graph:

    inputs = [placeholder(type_) for type_ in graph.parameters]
    tangents = [placeholder(graph.parameters[i]) for i in moving]
    outputs = graph(*inputs)
    pushed = push_forward(outputs, [inputs[i] for i in moving], tangents, transform)
    live = [_or_zero(p, o.type) for p, o in zip(pushed, outputs, strict=True) if is_real(o.type)]
    return _closed([*inputs, *tangents], live)


def _vjp_graph(
    graph: Graph, given: tuple[int, ...], asked: tuple[int, ...], transform: Transform
) -> Graph:

    inputs = [placeholder(type_) for type_ in graph.parameters]
    outputs = graph(*inputs)
    cotangents = [placeholder(outputs[i].type) for i in given]
    chosen = [inputs[i] for i in asked]
    pulled = pull_back([outputs[i] for i in given], chosen, cotangents, transform)
    answer = [_or_zero(p, i.type) for p, i in zip(pulled, chosen, strict=True)]
    return _closed([*inputs, *cotangents], answer)


def _real(indices: Any, types: Sequence[Any]) -> list[int]:
    return [i for i in indices if is_real(types[i])]


def _scan_jvp(node: Node, tangents: Sequence[Maybe], transform: Transform) -> list[Maybe]:
    """One scan over states and their tangents; the originals are computed along, and merged by the
    rewriter.
    """
    from graphc.ops.control import scan_graph

    attrs = node.attrs
    graph, carry, steps = attrs["graph"], attrs["carry"], attrs["steps"]
    types = graph.parameters
    states = _real(range(carry), types)
    moving_slices = [i for i in range(carry, carry + steps) if tangents[i] is not None]
    moving_rest = [i for i in range(carry + steps, len(types)) if tangents[i] is not None]
    inputs = [placeholder(type_) for type_ in types]
    moved = {i: placeholder(types[i]) for i in (*states, *moving_slices, *moving_rest)}
    outputs = graph(*inputs)
    pushed = push_forward(
        outputs, [inputs[i] for i in moved], list(moved.values()), transform
    )
    new_tangents = [_or_zero(pushed[i], types[i]) for i in states]
    results = _real(range(carry, len(outputs)), [o.type for o in outputs])
    stacked = [_or_zero(pushed[i], outputs[i].type) for i in results]
    body = _closed(
        [
            *inputs[:carry],
            *[moved[i] for i in states],
            *inputs[carry : carry + steps],
            *[moved[i] for i in moving_slices],
            *inputs[carry + steps :],
            *[moved[i] for i in moving_rest],
        ],
        [*outputs[:carry], *new_tangents, *stacked],
    )
    args = [
        *node.args[:carry],
        *[_or_zero(tangents[i], types[i]) for i in states],
        *node.args[carry : carry + steps],
        *[tangents[i] for i in moving_slices],
        *node.args[carry + steps :],
        *[tangents[i] for i in moving_rest],
    ]
    found = scan_graph(
        body,
        args,  # type: ignore[arg-type]
        carry + len(states),
        steps + len(moving_slices),
        attrs["length"],
        attrs["reverse"],
    )
    answer: list[Maybe] = [None] * len(outputs)
    for i, value in zip(states, found[carry : carry + len(states)], strict=True):
        answer[i] = value
    for i, value in zip(results, found[carry + len(states) :], strict=True):
        answer[i] = value
    return answer


def _scan_vjp(
    node: Node, cotangents: Sequence[Maybe], wanted: Sequence[bool], transform: Transform
) -> list[Maybe]:
    from graphc.ops.control import scan_graph

    attrs = node.attrs
    graph, carry, steps = attrs["graph"], attrs["carry"], attrs["steps"]
    length, reverse = attrs["length"], attrs["reverse"]
    types = graph.parameters
    states = _real(range(carry), types)
    slices = [i for i in _real(range(carry, carry + steps), types) if wanted[i]]
    rest = [i for i in _real(range(carry + steps, len(types)), types) if wanted[i]]
    given = [i for i in range(carry, len(graph.outputs)) if cotangents[i] is not None]

    saved = _saved_states(node)
    inputs = [placeholder(type_) for type_ in types]
    outputs = graph(*inputs)
    state_cotangents = [placeholder(types[i]) for i in states]
    result_cotangents = [placeholder(outputs[i].type) for i in given]
    chosen = [inputs[i] for i in (*states, *slices, *rest)]
    pulled = pull_back(
        [*[outputs[i] for i in states], *[outputs[i] for i in given]],
        chosen,
        [*state_cotangents, *result_cotangents],
        transform,
    )
    first, last = len(states), len(states) + len(slices)
    to_states = [_or_zero(p, types[i]) for i, p in zip(states, pulled[:first], strict=True)]
    to_slices = [_or_zero(p, types[i]) for i, p in zip(slices, pulled[first:last], strict=True)]
    terms = {i: p for i, p in zip(rest, pulled[last:], strict=True) if p is not None}
    body = _closed(
        [
            *state_cotangents,
            *inputs[: carry + steps],
            *result_cotangents,
            *inputs[carry + steps :],
        ],
        [*to_states, *to_slices, *terms.values()],
    )
    found = scan_graph(
        body,
        [
            *[_or_zero(cotangents[i], types[i]) for i in states],
            *saved,
            *node.args[carry : carry + steps],
            *[cotangents[i] for i in given],  # type: ignore[list-item]
            *node.args[carry + steps :],
        ],
        len(states),
        carry + steps + len(given),
        length,
        not reverse,
    )
    answer: list[Maybe] = [None] * len(node.args)
    for i, value in zip((*states, *slices), found, strict=False):
        answer[i] = value
    for i, rows in zip(terms, found[last:], strict=True):
        answer[i] = sum_op(rows, axes=(0,))
    return answer


def _saved_states(node: Node) -> list[Node]:
    """The state before every step, from a forward scan that also gives them out."""
    from graphc.ops.control import scan_graph

    attrs = node.attrs
    graph, carry = attrs["graph"], attrs["carry"]
    inputs = [placeholder(type_) for type_ in graph.parameters]
    outputs = graph(*inputs)
    body = _closed(inputs, [*outputs, *inputs[:carry]])
    found = scan_graph(
        body, node.args, carry, attrs["steps"], attrs["length"], attrs["reverse"]
    )
    return found[len(outputs) :]




def _while_jvp(node: Node, tangents: Sequence[Maybe], transform: Transform) -> list[Maybe]:
    """One loop over states and their tangents, as long as the condition on the states holds."""
    from graphc.ops.iteration import while_graph

    attrs = node.attrs
    body, condition, carry = attrs["body"], attrs["condition"], attrs["carry"]
    types = body.parameters
    states = _real(range(carry), types)
    rest = [i for i in range(carry, len(types)) if tangents[i] is not None]
    inputs = [placeholder(type_) for type_ in types]
    moved = {i: placeholder(types[i]) for i in (*states, *rest)}
    outputs = body(*inputs)
    pushed = push_forward(outputs, [inputs[i] for i in moved], list(moved.values()), transform)
    new_tangents = [_or_zero(pushed[i], types[i]) for i in states]
    leaves = [
        *inputs[:carry],
        *[moved[i] for i in states],
        *inputs[carry:],
        *[moved[i] for i in rest],
    ]
    found = while_graph(
        _closed(leaves, condition(*inputs)),
        _closed(leaves, [*outputs, *new_tangents]),
        [
            *node.args[:carry],
            *[_or_zero(tangents[i], types[i]) for i in states],
            *node.args[carry:],
            *[tangents[i] for i in rest],  # type: ignore[list-item]
        ],
        carry + len(states),
        attrs["bound"],
    )
    answer: list[Maybe] = [None] * carry
    for i, value in zip(states, found[carry:], strict=True):
        answer[i] = value
    return answer


def _while_vjp(
    node: Node, cotangents: Sequence[Maybe], wanted: Sequence[bool], transform: Transform
) -> list[Maybe]:
    """The reverse of a scan over `bound` rounds, after a check that there were no more."""
    from graphc.ops.branch import switch_graphs
    from graphc.ops.control import scan_graph
    from graphc.ops.special import cast_op, check_op

    attrs = node.attrs
    body, condition, carry, bound = (
        attrs[name] for name in ("body", "condition", "carry", "bound")
    )
    inputs = [placeholder(type_) for type_ in body.parameters]
    same = _closed(inputs, inputs[:carry])
    (goes_on,) = condition(*inputs)
    chosen = cast_op(goes_on, dtype=dtypes.INT64)
    rounds = _closed(inputs, switch_graphs([same, body], [chosen, *inputs]))
    final = scan_graph(rounds, node.args, carry, 0, bound, False)
    (unfinished,) = condition(*final, *node.args[carry:])
    found = _scan_vjp(final[0].args[0], cotangents, wanted, transform)
    message = f"a while_loop ran longer than its bound of {bound} rounds; reverse mode needs them"
    return [None if p is None else check_op(p, ~unfinished, message=message) for p in found]
