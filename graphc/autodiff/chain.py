"""How does one op pass a derivative on?  The step of the chain rule, for either direction.

An op states its derivative once (`Partials`, `Linear` or `Rules`); the forward and the reverse step
are both derived from it here. A cotangent or tangent of None is an exact zero that was never built.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.node import Node
from graphc.op import Linear, NoDerivative, Partials, Rules
from graphc.ops.arithmetic import (
    add_op,
    like,
    multiply_op,
    negative_op,
    strong_multiply_op,
    subtract_op,
)
from graphc.ops.operands import broadcast_op, constant_op, to_shape
from graphc.origin import location
from graphc.types import TensorType, TupleType, Type

Maybe = Node | None

# Types of which is known whether they vary smoothly: every node is asked about.
_TYPES_REMEMBERED = 256


@functools.lru_cache(_TYPES_REMEMBERED)
def is_real(type_: Type) -> bool:
    """Whether values of this type vary smoothly: floats, or tuples with a float in them."""
    if isinstance(type_, TupleType):
        return any(is_real(item) for item in type_.items)
    return dtypes.is_float(type_.dtype)


def result_types(node: Node) -> tuple[TensorType, ...]:
    """The types of the results of a node."""
    return node.type.items if isinstance(node.type, TupleType) else (node.type,)


def plus(first: Maybe, second: Maybe) -> Maybe:
    """The sum of two tangents or cotangents; of one and the opposite of another, the difference."""
    if first is None or second is None:
        return second if first is None else first
    if second.op is negative_op:
        return subtract_op(first, second.args[0])
    if first.op is negative_op:
        return subtract_op(second, first.args[0])
    return add_op(first, second)


def zero(type_: TensorType) -> Node:
    """0 at a type."""
    from graphc.ops.operands import broadcast, constant

    return broadcast(constant(0, type_.dtype), type_.shape, ())


def literal(node: Node) -> float | None:
    """The number that every element of a constant is, or None."""
    op = node.op
    while op is broadcast_op:
        node = node.args[0]
        op = node.op
    if op is not constant_op:
        return None
    array = node.attrs["value"].array
    if array.ndim and array.size and np.all(array == array.flat[0]):
        return float(array.flat[0])
    return float(array) if array.ndim == 0 else None


def times(direction: Node, partial: Maybe, singular: bool) -> Maybe:
    """A tangent or cotangent times a partial derivative. Signs are taken out in front, for `plus`.
    """
    if partial is None:
        return None
    opposite = False
    while partial.op is negative_op:
        partial, opposite = partial.args[0], not opposite
    while direction.op is negative_op:
        direction, opposite = direction.args[0], not opposite
    number = literal(partial)
    if number == 0:
        return None
    if number == -1:
        opposite = not opposite
    if number in (1, -1):
        product = direction
    elif singular:
        product = strong_multiply_op(direction, partial)
    else:
        product = partial if literal(direction) == 1 else multiply_op(direction, partial)
    return negative_op(product) if opposite else product


# Sums by the signs of their terms: no partial is built to be multiplied by.
_SIGNS = {add_op: (1, 1), subtract_op: (1, -1)}


def _signed(direction: Node, sign: int) -> Node:
    if sign > 0:
        return direction
    return direction.args[0] if direction.op is negative_op else negative_op(direction)


def partials_of(node: Node, derivative: Partials) -> list[tuple[Maybe, ...]]:
    """For each result its partials by every argument."""
    if isinstance(node.type, TupleType):
        from graphc.ops.special import project

        results: Any = [project(node, i) for i in range(len(node.type.items))]
        return list(derivative.partials(*node.args, results, **node.attrs))
    if not node.attrs:
        return [derivative.partials(*node.args, node)]
    return [derivative.partials(*node.args, node, **node.attrs)]


def _refuse(node: Node, why: str) -> GraphError:
    where = location(node.origin)
    return GraphError(
        f"{node.op.name} has no derivative: {why}\n"
        f"node: {node.type!r}" + (f", built at {where}" if where else "") + "\n"
        "Use gx.stop_gradient on it if it is to count as a constant."
    )


def pull(
    node: Node,
    cotangents: Sequence[Maybe],
    wanted: Sequence[bool],
    transform: Any,
    masked: bool = False,
) -> list[Maybe]:
    """The cotangents of a node's arguments, from those of its results. Only `wanted` ones are
    built. Where `masked`, zero times any partial is zero, not only where the op declares it
    singular.
    """
    derivative = node.op.derivative
    if isinstance(derivative, NoDerivative):
        raise _refuse(node, derivative.why)
    answer: list[Maybe] = [None] * len(node.args)
    if isinstance(derivative, Rules):
        return derivative.vjp(node, list(cotangents), list(wanted), transform)
    if isinstance(derivative, Linear):
        cotangent = cotangents[0]
        if cotangent is not None:
            for i in derivative.arguments or range(len(node.args)):
                if not wanted[i]:
                    continue
                if masked and derivative.multi and node.args[i].ndim == 1 and node.ndim == 0:
                    spread = to_shape(cotangent, node.args[i].shape)
                    answer[i] = strong_multiply_op(spread, node.args[1 - i])
                else:
                    answer[i] = derivative.transpose(cotangent, node, i)
        return answer
    signs = _SIGNS.get(node.op)
    if signs is not None:
        given = cotangents[0]
        if given is not None:
            answer = [_signed(given, s) if w else None for s, w in zip(signs, wanted, strict=True)]
        return answer
    rows = partials_of(node, derivative)
    for cotangent, row in zip(cotangents, rows, strict=True):
        if cotangent is None:
            continue
        for i, partial in enumerate(row):
            if wanted[i]:
                strong = masked or i in derivative.singular
                answer[i] = plus(answer[i], times(cotangent, partial, strong))
    return answer


def push(
    node: Node, tangents: Sequence[Maybe], transform: Any, moved: bool = False
) -> list[Maybe]:
    """The tangents of a node's results, from those of its arguments. If all elements are `moved`
    none of them has to stay 0 where the result is infinite.
    """
    signs = _SIGNS.get(node.op)
    if signs is not None:
        first, second = tangents
        if second is not None:
            second = _signed(second, signs[1])
        return [plus(first, second)]
    derivative = node.op.derivative
    if isinstance(derivative, NoDerivative):
        raise _refuse(node, derivative.why)
    if isinstance(derivative, Rules):
        return derivative.jvp(node, list(tangents), transform)
    if isinstance(derivative, Linear):
        return [push_linear(node, derivative, tangents)]
    answer: list[Maybe] = []
    singular = () if moved and derivative.at_poles else derivative.singular
    for row in partials_of(node, derivative):
        total: Maybe = None
        for i, partial in enumerate(row):
            tangent = tangents[i]
            if tangent is not None:
                total = plus(total, times(tangent, partial, i in singular))
        answer.append(total)
    return answer


def push_linear(node: Node, derivative: Linear, tangents: Sequence[Maybe]) -> Maybe:
    """The tangent of the result of an op that is linear."""
    moving = [i for i in derivative.arguments or range(len(node.args)) if tangents[i] is not None]
    if not moving:
        return None
    if derivative.multi:
        total: Maybe = None
        for i in moving:
            if node.op is multiply_op:
                total = plus(total, times(tangents[i], node.args[1 - i], False))  # type: ignore[arg-type]
                continue
            args = [tangents[j] if j == i else arg for j, arg in enumerate(node.args)]
            total = plus(total, node.op(*args, **node.attrs))  # type: ignore[arg-type]
        return total
    linear = derivative.arguments or range(len(node.args))
    args = [
        arg if j not in linear else tangents[j] if tangents[j] is not None else like(arg, 0)
        for j, arg in enumerate(node.args)
    ]
    return node.op(*args, **node.attrs)  # type: ignore[arg-type]
