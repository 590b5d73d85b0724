"""Choice, conversion, and the ops that only steer: where, cast, project, stop_gradient, check."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.lowering import Compose, Elementwise, Leaf, Verify
from graphc.node import Node
from graphc.op import Leading, Linear, Op, Rules, no_derivative, register
from graphc.ops.operands import as_node, broadcast_together, cast, describe, operands
from graphc.tensor import surface
from graphc.types import TensorType, TupleType, Type


def zeros_like(x: Node) -> Node:
    """0 at the type of `x`."""
    from graphc.ops.arithmetic import like

    return like(x, 0)


def _infer_where(condition: Type, x: Type, y: Type) -> Type:
    if x is not y or condition is not TensorType("bool", x.shape):  # type: ignore[union-attr]
        raise GraphError(
            f"where needs a bool condition and two equal types, got {condition}, {x}, {y}"
        )
    return x


def _transpose_where(cotangent: Node, node: Node, i: int) -> Node:
    zero = zeros_like(cotangent)
    condition = node.args[0]
    return where_op(condition, cotangent, zero) if i == 1 else where_op(condition, zero, cotangent)


where_op = register(
    Op(
        "where",
        _infer_where,
        np.where,
        Elementwise(lambda k, c, x, y: k.select(c, x, y), native=True),
        Linear(_transpose_where, arguments=(1, 2)),
        doc="x where the condition holds, else y. The branch not taken receives a cotangent of "
        "exactly 0.",
    )
)


def _infer_cast(x: Type, dtype: Any) -> Type:
    assert isinstance(x, TensorType)
    return TensorType(dtype, x.shape)


def _cast_facts(node: Node, known: Any) -> frozenset[str]:
    """What may overflow, underflow or wrap around loses its sign; to an integer it truncates, and
    NaN becomes 0.
    """
    source, target = node.args[0].dtype, node.dtype
    if dtypes.widens(source, target):
        return known(node.args[0]) & {"nonnegative", "positive", "finite", "integer"}
    wraps = dtypes.is_integer(source) and dtypes.kind(target) == "i"
    return known(node.args[0]) & {"integer", *(() if wraps else ("nonnegative",))}


cast_op: Op = register(
    Op(
        "cast",
        _infer_cast,
        dtypes.convert,
        Elementwise(lambda k, x, dtype: k.convert(x, dtype.name)),
        Linear(lambda cotangent, node, i: cast_op(cotangent, dtype=node.args[0].dtype)),
        attributes=("dtype",),
        text="{dtype}({})",
        facts=_cast_facts,
    )
)


def _infer_project(items: Type, index: int) -> Type:
    if not isinstance(items, TupleType) or not 0 <= index < len(items.items):
        raise GraphError(f"cannot take result {index} of {items}")
    return items.items[index]


project_op = register(
    Op(
        "project",
        _infer_project,
        lambda items, index: items[index],
        Leaf(),
        no_derivative("differentiation goes through the node with several results"),
        attributes=("index",),
        text="{}.{index}",
    )
)


def project(node: Node, index: int) -> Node:
    """Result `index` of a node with several results. `GraphError` if there is no such result."""
    if not isinstance(node, Node):
        raise GraphError(f"project takes a node with several results, got a {type(node).__name__}")
    return project_op(node, index=index)


stop_gradient_op = register(
    Op(
        "stop_gradient",
        lambda x: x,
        lambda x: x,
        Compose(lambda x: x),
        Rules(
            jvp=lambda node, tangents, transform: [None],
            vjp=lambda node, cotangents, wanted, transform: [None],
        ),
        facts=lambda node, known: known(node.args[0]),
        batch=Leading(),
        doc="The argument, taken as a constant by differentiation.",
    )
)


def _numpy_check(x: Any, condition: Any, message: str) -> Any:
    if not np.all(condition):
        raise ValueError(f"check failed: {message}")
    return x


def _infer_check(x: Type, condition: Type, message: str) -> Type:
    if not isinstance(condition, TensorType) or dtypes.kind(condition.dtype) != "b":
        raise GraphError(f"check needs a bool condition, got {condition}")
    return x


check_op = register(
    Op(
        "check",
        _infer_check,
        _numpy_check,
        Verify(),
        Linear(lambda cotangent, node, i: cotangent, arguments=(0,)),
        attributes=("message",),
        doc="The first argument; an error at run time if an element of the second is false.",
    )
)


@surface
def where(condition: Any, x: Any, y: Any) -> Node:
    """x where `condition` (bool) holds, else y; all three broadcast.

    To the gradient what is not chosen contributes an exact zero, even if it is infinite or NaN. But
    beneath products of matrices, convolutions and factorisations 0 times NaN is NaN: keep it out of
    their operands, as in `A @ gx.log(gx.where(x > 0, x, 1))`.
    """
    mask = as_node(condition)
    if mask.dtype != dtypes.BOOL:
        mask = mask != 0
    left, right = operands("where", x, y)
    mask, left, right = broadcast_together("where", [mask, left, right])
    return where_op(mask, left, right)


@surface
def stop_gradient(x: Any) -> Node:
    """x, but a constant for differentiation."""
    return stop_gradient_op(as_node(x))


@surface
def check(x: Any, condition: Any, message: str) -> Node:
    """x, after checking at run time that `condition` holds everywhere; a ValueError with `message`
    otherwise.

    The check belongs to the value: where no result needs the value (a function that is called does
    not use that argument, say), it need not be made.
    """
    mask = as_node(condition)
    if mask.dtype != dtypes.BOOL:
        raise GraphError(
            f"check needs a bool condition, got {mask.dtype.name}\n"
            + describe([mask])
            + "\nWrite a comparison, such as x > 0."
        )
    return check_op(as_node(x), mask, message=str(message))


surface(cast)
