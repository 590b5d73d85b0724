"""Which functions round to whole numbers, or to decimals?

Their derivative is 0 wherever they have one; at the jumps, where they have none, it is 0 as well.
Whole numbers of an integer dtype are already what they are rounded to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.op import Op, elementwise
from graphc.ops.arithmetic import divide, multiply
from graphc.ops.elementwise import published, unary
from graphc.ops.operands import as_node, cast, describe
from graphc.tensor import alias, surface


def _finite_integer(node: Node, known: Any) -> frozenset[str]:
    return known(node.args[0]) & {"finite", "nonnegative"} | {"integer"}


def _rounding(name: str, latex: str = "", *laws: str) -> Op:
    return elementwise(
        name,
        numpy=getattr(np, name),
        kernel=lambda k, x: k.emit(name, x),
        partials=lambda x, result: (None,),
        kinds="f",
        cost=2,
        laws=frozenset(("increasing", "idempotent", *laws)),
        facts=_finite_integer,
        latex=latex,
        doc="The derivative is 0 everywhere, the jumps included.",
    )


floor_op = _rounding("floor", r"\lfloor {} \rfloor")
ceil_op = _rounding("ceil", r"\lceil {} \rceil")
trunc_op = _rounding("trunc", "", "odd")
rint_op = _rounding("rint", "", "odd")


def _whole(op: Op, doc: str) -> Callable[[Any], Node]:
    """The public function of an op that leaves integers and bool as they are."""

    def function(x: Any) -> Node:
        node = as_node(x)
        return op(node) if dtypes.is_float(node.dtype) else node

    kept = " Integers and bool stay as they are. The derivative is 0."
    return published(function, op.name, doc + kept)


floor = _whole(floor_op, "The largest whole number that is at most x.")
ceil = _whole(ceil_op, "The least whole number that is at least x.")
trunc = _whole(trunc_op, "x without its fraction: rounded towards zero.")
rint = unary(
    rint_op,
    "x rounded to the nearest whole number, halves to even, in a float dtype. The derivative is 0.",
    real=True,
)
# Powers of ten of float64 end at 308.
_MOST_DECIMALS = 308


@surface
def round_(a: Any, decimals: int = 0) -> Node:
    """`a` rounded to so many decimals, halves to even; negative `decimals` round before the point.

    As in NumPy: `a` times 10**decimals is rounded, and divided again, so the result is the nearest
    float only where that product is exact. Integers stay as they are for decimals >= 0. The
    derivative is 0.
    """
    node = as_node(a)
    if isinstance(decimals, bool) or not isinstance(decimals, (int, np.integer)):
        raise GraphError(
            f"round: decimals is a Python integer, got {shortened(repr(decimals))}\n"
            + describe([node])
        )
    if abs(decimals) > _MOST_DECIMALS:
        raise GraphError(
            f"round: decimals is between {-_MOST_DECIMALS} and {_MOST_DECIMALS}, got {decimals}\n"
            + describe([node])
        )
    dtype = node.dtype
    if dtypes.kind(dtype) == "b" and decimals:
        raise GraphError("round of bool to decimals is not defined\n" + describe([node]))
    if decimals == 0:
        return node if dtypes.is_integer(dtype) else rint(node)
    factor = 10.0 ** abs(int(decimals))
    if decimals > 0:
        return node if dtypes.is_integer(dtype) else divide(rint(multiply(node, factor)), factor)
    return cast(multiply(rint(divide(node, factor)), factor), dtype)


alias("fix", trunc)
alias("around", round_)
