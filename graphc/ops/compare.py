"""Comparison and logic. Results are bool, so no cotangent ever reaches these ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.node import Node
from graphc.op import Op, elementwise, no_derivative
from graphc.ops.operands import operands
from graphc.tensor import alias, surface

_WHY = no_derivative("a truth value does not vary smoothly")


def _compare(name: str, opcode: str, sign: str, kinds: str = "if", *laws: str) -> Op:
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


equal_op = _compare("equal", "eq", "==", "bif", "commutative")
not_equal_op = _compare("not_equal", "ne", "!=", "bif", "commutative")
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


@surface
def equal(x: Any, y: Any) -> Node:
    """x == y, element by element."""
    return equal_op(*operands("equal", x, y))


@surface
def not_equal(x: Any, y: Any) -> Node:
    """x != y, element by element."""
    return not_equal_op(*operands("not_equal", x, y))


@surface
def less(x: Any, y: Any) -> Node:
    """x < y."""
    return less_op(*operands("less", x, y, kinds="iuf"))


@surface
def less_equal(x: Any, y: Any) -> Node:
    """x <= y."""
    return less_equal_op(*operands("less_equal", x, y, kinds="iuf"))


@surface
def greater(x: Any, y: Any) -> Node:
    """x > y."""
    return greater_op(*operands("greater", x, y, kinds="iuf"))


@surface
def greater_equal(x: Any, y: Any) -> Node:
    """x >= y."""
    return greater_equal_op(*operands("greater_equal", x, y, kinds="iuf"))


@surface
def logical_and(x: Any, y: Any) -> Node:
    """x and y; both bool."""
    return logical_and_op(*operands("logical_and", x, y, kinds="b"))


@surface
def logical_or(x: Any, y: Any) -> Node:
    """x or y; both bool."""
    return logical_or_op(*operands("logical_or", x, y, kinds="b"))


@surface
def logical_not(x: Any) -> Node:
    """not x; bool."""
    return logical_not_op(*operands("logical_not", x, kinds="b"))


@surface
def isnan(x: Any) -> Node:
    """True where x is NaN."""
    return isnan_op(*operands("isnan", x, real=True))


# What NumPy calls `array & node`, `array | node`, and `~node`.
alias("bitwise_and", logical_and)
alias("bitwise_or", logical_or)
alias("invert", logical_not)
