"""Products of arrays: one op, from which dot, matmul, tensordot, inner and outer are written.

`contract` multiplies over pairs of *batch* axes, which stay, and sums over pairs of *contracted*
axes, which go. The result's axes are the batch axes, then what is left of the first argument, then
of the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.lowering import Contract
from graphc.node import Node
from graphc.op import Linear, Op, register
from graphc.ops.movement import expand_dims, inverse, reshape, transpose
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    common_dtype,
    describe,
    normalize_axis,
    restate_op,
)
from graphc.tensor import surface
from graphc.types import TensorType, Type

Axes = tuple[tuple[int, ...], tuple[int, ...]]


def free_axes(rank: int, batch: tuple[int, ...], contracted: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one argument that are neither batch nor contracted."""
    return tuple(axis for axis in range(rank) if axis not in batch and axis not in contracted)


def _infer_contract(x: Type, y: Type, batch: Axes, contracted: Axes) -> Type:
    assert isinstance(x, TensorType) and isinstance(y, TensorType)
    if x.dtype is not y.dtype:
        raise GraphError(f"contract needs equal dtypes, got {x} and {y}")
    for a, b in (*zip(*batch, strict=True), *zip(*contracted, strict=True)):
        if x.shape[a] != y.shape[b]:
            raise GraphError(f"contract of {x} and {y}: axis {a} and axis {b} differ")
    kept = [x.shape[a] for a in batch[0]]
    kept += [x.shape[a] for a in free_axes(x.ndim, batch[0], contracted[0])]
    kept += [y.shape[a] for a in free_axes(y.ndim, batch[1], contracted[1])]
    return TensorType(x.dtype, tuple(kept))


def _numpy_contract(x: Any, y: Any, batch: Axes, contracted: Axes) -> Any:
    names = iter(range(x.ndim + y.ndim))
    x_names = [next(names) for _ in range(x.ndim)]
    y_names: list[int] = [-1] * y.ndim
    for a, b in (*zip(*batch, strict=True), *zip(*contracted, strict=True)):
        y_names[b] = x_names[a]
    y_names = [next(names) if name < 0 else name for name in y_names]
    result = [x_names[a] for a in batch[0]]
    result += [x_names[a] for a in free_axes(x.ndim, batch[0], contracted[0])]
    result += [y_names[a] for a in free_axes(y.ndim, batch[1], contracted[1])]
    product = np.einsum(
        dtypes.widened(x), x_names, dtypes.widened(y), y_names, result, optimize=True
    )
    return product.astype(x.dtype, copy=False)


def _transpose_contract(cotangent: Node, node: Node, i: int) -> Node:
    """The cotangent of one argument: the product of the result's cotangent with the other argument.
    """
    mine, other = node.args[i], node.args[1 - i]
    batch = (node.attrs["batch"][i], node.attrs["batch"][1 - i])
    contracted = (node.attrs["contracted"][i], node.attrs["contracted"][1 - i])
    mine_free = free_axes(mine.ndim, batch[0], contracted[0])
    other_free = free_axes(other.ndim, batch[1], contracted[1])
    count = len(batch[0])
    lead = tuple(range(count))
    tail = tuple(range(count, count + len(mine_free if i == 0 else other_free)))
    rest = tuple(range(count + len(tail), cotangent.ndim))
    other_in_cotangent = rest if i == 0 else tail
    product = contract_op(
        cotangent, other, batch=(lead, batch[1]), contracted=(other_in_cotangent, other_free)
    )
    # its axes: batch, my free axes, then the other's contracted axes in the other's order
    left_over = tuple(axis for axis in range(other.ndim) if axis in contracted[1])
    pairs = dict(zip(contracted[1], contracted[0], strict=True))
    order = (*batch[0], *mine_free, *(pairs[axis] for axis in left_over))
    return transpose(product, inverse(order))


contract_op = register(
    Op(
        "contract",
        _infer_contract,
        _numpy_contract,
        Contract(),
        Linear(_transpose_contract, arguments=(0, 1), multi=True),
        attributes=("batch", "contracted"),
        text="contract({}, {})",
    )
)


def _pair(name: str, x: Any, y: Any) -> tuple[Node, Node]:
    dtype = common_dtype(name, (x, y))
    left, right = cast(as_node(x), dtype), cast(as_node(y), dtype)
    if dtypes.kind(dtype) == "b":
        raise GraphError(f"{name} is not defined for bool; cast first\n" + describe([left, right]))
    return left, right


def _unified(name: str, x: Node, y: Node, pairs: Any) -> tuple[Node, Node]:
    """The arguments with equal extents on the paired axes; symbolic ones are unified."""
    x_shape, y_shape = list(x.shape), list(y.shape)
    for a, b in pairs:
        if x_shape[a] == y_shape[b]:
            continue
        if isinstance(x_shape[a], int) and isinstance(y_shape[b], int):
            message = (
                f"{name}: axis {a} of extent {x_shape[a]} against axis {b} of extent {y_shape[b]}"
            )
            raise GraphError(message + "\n" + describe([x, y]))
        chosen = y_shape[b] if isinstance(y_shape[b], int) else x_shape[a]
        x_shape[a] = y_shape[b] = chosen
    if tuple(x_shape) != x.shape:
        x = restate_op(x, shape=tuple(x_shape))
    if tuple(y_shape) != y.shape:
        y = restate_op(y, shape=tuple(y_shape))
    return x, y


@surface
def matmul(x: Any, y: Any) -> Node:
    """The matrix product, batched over leading axes, as NumPy's `@`."""
    left, right = _pair("matmul", x, y)
    if left.ndim == 0 or right.ndim == 0:
        raise GraphError(
            "matmul needs arrays of at least one axis; use * for scalars\n"
            + describe([left, right])
        )
    column, row = right.ndim == 1, left.ndim == 1
    left, right = _unified(
        "matmul", left, right, [(left.ndim - 1, 0 if column else right.ndim - 2)]
    )
    if right.ndim <= 2 or row:  # nothing to pair: the result has the axes in NumPy's order already
        axis = 0 if column else right.ndim - 2
        return contract_op(left, right, batch=((), ()), contracted=((left.ndim - 1,), (axis,)))
    lead = broadcast_shapes("matmul", [_leading(left), _leading(right)])
    left, right = _stretch(left, lead), _stretch(right, lead)
    axes = tuple(range(len(lead)))
    rank = len(lead)
    return contract_op(left, right, batch=(axes, axes), contracted=((rank + 1,), (rank,)))


def _leading(x: Node) -> Node:
    """A stand-in with the leading axes of `x`, for the rule of broadcasting."""
    from graphc.ops.creation import zeros

    return zeros(x.shape[:-2])


def _stretch(x: Node, lead: Any) -> Node:
    shape = (*lead, *x.shape[-2:])
    return broadcast(x, shape, tuple(range(len(shape) - x.ndim, len(shape))))


@surface
def dot(x: Any, y: Any) -> Node:
    """NumPy's dot: the last axis of x with the second to last of y; a plain product for scalars."""
    left, right = _pair("dot", x, y)
    if left.ndim == 0 or right.ndim == 0:
        return left * right
    axis = 0 if right.ndim == 1 else right.ndim - 2
    left, right = _unified("dot", left, right, [(left.ndim - 1, axis)])
    return contract_op(left, right, batch=((), ()), contracted=((left.ndim - 1,), (axis,)))


@surface
def tensordot(x: Any, y: Any, axes: Any = 2) -> Node:
    """Sum over pairs of axes: the last `axes` of x with the first of y, or the two lists given."""
    left, right = _pair("tensordot", x, y)
    if isinstance(axes, (int, np.integer)) and 0 <= axes <= min(left.ndim, right.ndim):
        count = int(axes)
        first = tuple(range(left.ndim - count, left.ndim))
        second = tuple(range(count))
    elif isinstance(axes, (tuple, list)) and len(axes) == 2:
        given = [tuple(a) if isinstance(a, (tuple, list)) else (a,) for a in axes]
        first = tuple(normalize_axis(a, left, "tensordot") for a in given[0])
        second = tuple(normalize_axis(a, right, "tensordot") for a in given[1])
    else:
        raise GraphError(
            f"tensordot: axes is a count of axes or two lists of them, got {axes!r}\n"
            + describe([left, right])
        )
    unique = len(set(first)) == len(first) and len(set(second)) == len(second)
    if len(first) != len(second) or not unique:
        raise GraphError(
            f"tensordot: axes {axes} are no pairs of different axes\n" + describe([left, right])
        )
    left, right = _unified("tensordot", left, right, list(zip(first, second, strict=True)))
    return contract_op(left, right, batch=((), ()), contracted=(first, second))


@surface
def outer(x: Any, y: Any) -> Node:
    """The product of every element of x with every element of y, both flattened."""
    left, right = _pair("outer", x, y)
    return expand_dims(reshape(left, -1), 1) * expand_dims(reshape(right, -1), 0)
