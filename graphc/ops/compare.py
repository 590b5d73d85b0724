"""Comparison and logic. Results are bool, so no cotangent ever reaches these ops."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim
from graphc.node import Node
from graphc.op import Op, elementwise, no_derivative
from graphc.ops.elementwise import published, unary
from graphc.ops.operands import (
    as_node,
    broadcast_together,
    cast,
    constant,
    operands,
    to_shape,
)
from graphc.tensor import surface
from graphc.weak import WeakScalar

_WHY = no_derivative("a truth value does not vary smoothly")


def _compare(name: str, opcode: str, sign: str, kinds: str = "iuf", *laws: str) -> Op:
    return elementwise(
        name,
        numpy=getattr(np, name),
        kernel=lambda k, x, y: k.emit(opcode, x, y),
        partials=_WHY,
        kinds=kinds,
        result="bool",
        laws=frozenset(laws),
        text=f"{{}} {sign} {{}}",
    )


equal_op = _compare("equal", "eq", "==", "biuf", "commutative")
not_equal_op = _compare("not_equal", "ne", "!=", "biuf", "commutative")
less_op = _compare("less", "lt", "<")
less_equal_op = _compare("less_equal", "le", "<=")
greater_op = _compare("greater", "gt", ">")
greater_equal_op = _compare("greater_equal", "ge", ">=")


def _logic(name: str, kernel: Callable[..., Any], sign: str, *laws: str) -> Op:
    return elementwise(
        name,
        numpy=getattr(np, name),
        kernel=kernel,
        partials=_WHY,
        kinds="b",
        laws=frozenset(laws),
        text=sign,
    )


logical_and_op = _logic(
    "logical_and",
    lambda k, x, y: k.and_(x, y),
    "{} & {}",
    "commutative",
    "associative",
    "idempotent",
)
logical_or_op = _logic(
    "logical_or", lambda k, x, y: k.or_(x, y), "{} | {}", "commutative", "associative", "idempotent"
)
logical_not_op = _logic("logical_not", lambda k, x: k.not_(x), "~{}", "involution")
isnan_op = elementwise(
    "isnan",
    numpy=np.isnan,
    kernel=lambda k, x: k.ne(x, x),
    partials=_WHY,
    kinds="f",
    result="bool",
)

_MIRRORED = {
    equal_op: equal_op,
    not_equal_op: not_equal_op,
    less_op: greater_op,
    less_equal_op: greater_equal_op,
    greater_op: less_op,
    greater_equal_op: less_equal_op,
}
# Numbers that have no value yet, or are no integers: they compare in the promoted dtype.
_UNKNOWN = (float, Dim, WeakScalar)
_OF_INTS: dict[Op, Callable[[int, int], bool]] = {
    equal_op: operator.eq,
    not_equal_op: operator.ne,
    less_op: operator.lt,
    less_equal_op: operator.le,
    greater_op: operator.gt,
    greater_equal_op: operator.ge,
}


def _compared(op: Op, x: Any, y: Any) -> Node:
    """A comparison, exact for integers, as in NumPy 2: a Python int may be out of the range of the
    other operand, and signed integers compare with uint64, for which no common dtype has room.
    """
    if type(x) is int and type(y) is not int:
        return _compared(_MIRRORED[op], y, x)
    if isinstance(x, _UNKNOWN) or isinstance(y, _UNKNOWN):
        return op(*operands(op.name, x, y))
    first = as_node(x)
    if type(y) is int and dtypes.is_integer(first.dtype) and not dtypes.fits(y, first.dtype):
        inside = dtypes.limits(first.dtype)[y > 0]
        return to_shape(constant(_OF_INTS[op](inside, y)), first.shape)
    second = y if type(y) in (bool, int) else as_node(y)
    if isinstance(second, Node) and dtypes.UINT64 in (first.dtype, second.dtype):
        if dtypes.kind(first.dtype) == "i":
            return _signed_with_uint64(op, first, second)
        if dtypes.kind(second.dtype) == "i":
            return _signed_with_uint64(_MIRRORED[op], second, first)
    nodes = operands(op.name, first, second)
    if dtypes.kind(nodes[0].dtype) == "b" and op not in (equal_op, not_equal_op):
        nodes = [cast(node, "uint8") for node in nodes]
    return op(*nodes)


def _signed_with_uint64(op: Op, signed: Node, unsigned: Node) -> Node:
    """A negative number is less than any unsigned one; the others compare as uint64."""
    compared = op(*operands(op.name, cast(signed, dtypes.UINT64), unsigned))
    if op in (less_op, less_equal_op, not_equal_op):
        return logical_or(signed < 0, compared)
    return logical_and(signed >= 0, compared)


# -- the surface ---------------------------------------------------------------------------------


def _comparison(op: Op, doc: str) -> Callable[[Any, Any], Node]:
    def function(x: Any, y: Any) -> Node:
        return _compared(op, x, y)

    return published(function, op.name, doc)


equal = _comparison(equal_op, "x == y, element by element.")
not_equal = _comparison(not_equal_op, "x != y, element by element.")
less = _comparison(less_op, "x < y, element by element; False is less than True.")
less_equal = _comparison(less_equal_op, "x <= y, element by element.")
greater = _comparison(greater_op, "x > y, element by element; True is greater than False.")
greater_equal = _comparison(greater_equal_op, "x >= y, element by element.")
isnan = unary(isnan_op, "True where x is NaN.", real=True)


def truth(x: Any) -> Node:
    """x as a truth value: anything but 0 is true, NaN included."""
    node = as_node(x)
    return node if dtypes.kind(node.dtype) == "b" else not_equal(node, 0)


def _truths(name: str, x: Any, y: Any) -> list[Node]:
    return broadcast_together(name, [truth(x), truth(y)])


@surface
def logical_and(x: Any, y: Any) -> Node:
    """Whether both x and y are true: not 0."""
    return logical_and_op(*_truths("logical_and", x, y))


@surface
def logical_or(x: Any, y: Any) -> Node:
    """Whether x or y is true: not 0."""
    return logical_or_op(*_truths("logical_or", x, y))


@surface
def logical_xor(x: Any, y: Any) -> Node:
    """Whether one of x and y is true, not 0, and the other is not."""
    return not_equal_op(*_truths("logical_xor", x, y))


@surface
def logical_not(x: Any) -> Node:
    """Whether x is 0."""
    return logical_not_op(truth(x))
