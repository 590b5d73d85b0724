"""Which values are computed before anything runs?  Ops over constants, and arithmetic of extents.

A constant is folded by the op's own NumPy function, the same that the evaluator uses. A result may
not be larger than what it is made of: a broadcast number stays a number.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import dim
from graphc.lowering import Contract, Generate, Leaf, Region, Verify
from graphc.node import Node
from graphc.op import Op
from graphc.ops.operands import broadcast_op, cast, constant, constant_op, extent, extent_op
from graphc.ops.reduce import sum_op
from graphc.rewrite.pattern import Family, functions, named, numbers
from graphc.rewrite.rule import rule
from graphc.types import TensorType

LARGEST_RESULT = 65_536  # elements
MOST_WORK = 1 << 24  # elements read, or products for a contraction

(c,) = numbers("c")
(cast_,) = functions("cast")


def _computes(op: Op) -> bool:
    """Not a broadcast: a broadcast number is easier to recognise than an array of one element."""
    return op is not broadcast_op and not isinstance(op.lowering, (Generate, Leaf, Region, Verify))


def _fold(node: Node) -> Node | None:
    """The constant that the node is; None if it is large, of unknown shape, or has no value."""
    type_ = node.type
    if not isinstance(type_, TensorType) or not isinstance(type_.size, int):
        return None
    sizes = [argument.size for argument in node.args]
    work = math.prod(sizes) if isinstance(node.op.lowering, Contract) else sum(sizes)
    if type_.size > min(LARGEST_RESULT, sum(sizes)) or work > MOST_WORK:
        return None
    arrays = [argument.attrs["value"].array for argument in node.args]
    value = _evaluated(node, arrays)
    if value is None or value.dtype != type_.dtype or value.shape != type_.shape:
        return None
    return constant(value, type_.dtype)


def _evaluated(node: Node, arrays: list[Any]) -> Any:
    """The op's NumPy function on arrays; None if it fails, since the error belongs to the run."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(node.op.numpy(*arrays, **node.attrs))
        except Exception:
            return None


rule(
    "fold_constants",
    Family("op", _computes, frozenset((constant_op,))),
    _fold,
    law="ieee",
    doc="the constant that it is",
    example=lambda: sum_op(constant([1.0, 2.0, 4.0]), axes=(0,)),
)

# -- extents as values -----------------------------------------------------------------------------

_EXTENT = Family("extent", lambda op: op is extent_op)
_FIRST, _SECOND = named("first", _EXTENT), named("second", _EXTENT)


def _rows() -> Node:
    """An extent as a value, for the examples."""
    return extent(dim("n"))


def _is_int64(first: Node) -> bool:
    """In another dtype an extent may have wrapped around."""
    return first.dtype is dtypes.INT64


def _plus(first: Node, second: Node) -> Node:
    return extent(first.attrs["extent"] + second.attrs["extent"])


def _minus(first: Node, second: Node) -> Node:
    return extent(first.attrs["extent"] - second.attrs["extent"])


def _times(first: Node, second: Node) -> Node:
    return extent(first.attrs["extent"] * second.attrs["extent"])


rule(
    "extent_known",
    named("first", _EXTENT),
    lambda first: cast(constant(first.attrs["extent"]), first.dtype),
    law="ieee",
    doc="the number that it is",
    guard=lambda first: isinstance(first.attrs["extent"], int),
    example=lambda: extent_op(extent=3, dtype=dtypes.INT64),
)
rule(
    "extent_cast",
    cast_(_FIRST),
    lambda first, node: extent(first.attrs["extent"], node.dtype),
    law="ieee",
    doc="the extent in the other dtype",
    guard=_is_int64,
    example=lambda: cast(_rows(), "float64"),
)
rule(
    "extent_add",
    _FIRST + _SECOND,
    _plus,
    law="ieee",
    guard=_is_int64,
    doc="the extent that it is",
    example=lambda: _rows() + _rows(),
)
rule(
    "extent_subtract",
    _FIRST - _SECOND,
    _minus,
    law="ieee",
    guard=_is_int64,
    doc="the extent that it is",
    example=lambda: _rows() - extent(dim("m")),
)
rule(
    "extent_multiply",
    _FIRST * _SECOND,
    _times,
    law="ieee",
    guard=_is_int64,
    doc="the extent that it is",
    example=lambda: _rows() * extent(dim("m")),
)
rule(
    "extent_add_number",
    _FIRST + c,
    lambda first, c: extent(first.attrs["extent"] + c),
    law="ieee",
    guard=_is_int64,
    doc="the extent that it is",
    example=lambda: _rows() + 1,
)
rule(
    "extent_subtract_number",
    _FIRST - c,
    lambda first, c: extent(first.attrs["extent"] - c),
    law="ieee",
    guard=_is_int64,
    doc="the extent that it is",
    example=lambda: _rows() - 1,
)
rule(
    "extent_multiply_number",
    _FIRST * c,
    lambda first, c: extent(first.attrs["extent"] * c),
    law="ieee",
    guard=_is_int64,
    doc="the extent that it is",
    example=lambda: 2 * _rows(),
)
