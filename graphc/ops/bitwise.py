"""Which functions see integers as bits?  And, or, xor, not, shifts, and the number of ones.

On bool the first four are the logical functions, so that `&`, `|`, `^` and `~` serve masks as well;
floats are a TypeError, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.node import Node
from graphc.op import Op, elementwise, no_derivative
from graphc.ops.compare import logical_and_op, logical_not_op, logical_or_op, not_equal_op
from graphc.ops.elementwise import counted, published
from graphc.ops.operands import cast, operands
from graphc.tensor import alias, surface
from graphc.types import TensorType

_WHY = no_derivative("integers do not vary smoothly")


def _two(name: str, opcode: str, sign: str, *laws: str) -> Op:
    return elementwise(
        name,
        numpy=getattr(np, name),
        kernel=lambda k, x, y: k.emit(opcode, x, y),
        partials=_WHY,
        kinds="iu",
        laws=frozenset(("commutative", "associative", *laws)),
        text=f"{{}} {sign} {{}}",
    )


bitwise_and_op = _two("bitwise_and", "and", "&", "idempotent")
bitwise_or_op = _two("bitwise_or", "or", "|", "idempotent")
bitwise_xor_op = _two("bitwise_xor", "xor", "^")
invert_op = elementwise(
    "invert",
    numpy=np.invert,
    kernel=lambda k, x: k.not_(x),
    partials=_WHY,
    kinds="iu",
    laws=frozenset(("involution",)),
    text="~{}",
)


def _shift(name: str, opcode: str, sign: str) -> Op:
    """NumPy's shift: amounts of the width or more, and negative ones, shift everything out."""

    def kernel(k: Any, x: Any, y: Any) -> Any:
        inside = k.lt(y, x.bits)
        if y.is_signed:
            inside = k.and_(inside, k.ge(y, 0))
        out = k.const(0, x.dtype)
        if opcode == "shr" and x.is_signed:
            out = k.shr(x, x.bits - 1)
        return k.select(inside, k.emit(opcode, x, y), out)

    return elementwise(
        name,
        numpy=getattr(np, name),
        kernel=kernel,
        partials=_WHY,
        kinds="iu",
        cost=4,
        text=f"{{}} {sign} {{}}",
        doc="An amount of the width or more, or below 0, shifts every bit out.",
    )


left_shift_op = _shift("left_shift", "shl", "<<")
right_shift_op = _shift("right_shift", "shr", ">>")


def _count_infer(x: Any) -> TensorType:
    from graphc.op import same_types

    return TensorType("uint8", same_types("bitwise_count", (x,), "iu").shape)


def _count_kernel(k: Any, x: Any) -> Any:
    """Sums of neighbouring fields of 1, 2, 4, ... bits (Hacker's Delight, 5-1)."""
    word = f"uint{x.bits}"
    bits = k.bitcast(k.abs(x) if x.is_signed else x, word)
    ones = (1 << x.bits) - 1
    width = 1
    while width < x.bits:
        mask = ones // ((1 << width) + 1)  # every other field of that width
        bits = k.add(k.and_(bits, mask), k.and_(k.shr(bits, width), mask))
        width *= 2
    return k.convert(bits, "uint8")


bitwise_count_op = elementwise(
    "bitwise_count",
    numpy=np.bitwise_count,
    kernel=_count_kernel,
    partials=_WHY,
    infer=_count_infer,
    kinds="iu",
    cost=20,
    doc="The number of ones in |x|.",
)

# -- the surface ---------------------------------------------------------------------------------


def _on_bits_or_bool(op: Op, logical: Op, doc: str) -> Callable[..., Node]:
    """The public function of an op on integers that is a logical function on bool."""

    def apply(*values: Any) -> Node:
        nodes = operands(op.name, *values, kinds="biu")
        return (logical if dtypes.kind(nodes[0].dtype) == "b" else op)(*nodes)

    def one(x: Any) -> Node:
        return apply(x)

    def two(x: Any, y: Any) -> Node:
        return apply(x, y)

    return published(one if op is invert_op else two, op.name, doc + " A TypeError for floats.")


bitwise_and = _on_bits_or_bool(
    bitwise_and_op, logical_and_op, "The bits that both integers have; `and` on bool."
)
bitwise_or = _on_bits_or_bool(
    bitwise_or_op, logical_or_op, "The bits that one of the integers has; `or` on bool."
)
bitwise_xor = _on_bits_or_bool(
    bitwise_xor_op, not_equal_op, "The bits that differ; exclusive `or` on bool."
)
invert = _on_bits_or_bool(invert_op, logical_not_op, "Every bit turned over; `not` on bool.")


@surface
def left_shift(x: Any, y: Any) -> Node:
    """x << y: 0 if y is the width of x or more, or negative. A TypeError for floats."""
    return left_shift_op(*counted("left_shift", x, y, kinds="iu"))


@surface
def right_shift(x: Any, y: Any) -> Node:
    """x >> y, with the sign kept: 0 or -1 if y is the width of x or more, or negative.
    A TypeError for floats.
    """
    return right_shift_op(*counted("right_shift", x, y, kinds="iu"))


@surface
def bitwise_count(x: Any) -> Node:
    """How many bits of |x| are ones, as uint8. A TypeError for floats."""
    (node,) = operands("bitwise_count", x, kinds="biu")
    if dtypes.kind(node.dtype) == "b":
        return cast(node, "uint8")
    return bitwise_count_op(node)


alias("bitwise_not", invert)
