"""Reading at positions that are data, and its transpose, adding at them.

Positions count from 0, negative ones from the end, as in NumPy; one out of range is an IndexError
at run time that names the user's line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.lowering import Gather, Scatter
from graphc.node import Node
from graphc.op import Linear, Op, register
from graphc.ops.operands import as_node, cast, constant_op, describe, normalize_axis
from graphc.tensor import surface
from graphc.types import TensorType, Type


def _infer_take(x: Type, indices: Type, axis: int) -> Type:
    assert isinstance(x, TensorType) and isinstance(indices, TensorType)
    if indices.dtype != dtypes.INT64 or not 0 <= axis < x.ndim:
        raise GraphError(f"take of {x} along axis {axis} at {indices}")
    return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


take_op = register(
    Op(
        "take",
        _infer_take,
        lambda x, indices, axis: np.take(x, indices, axis=axis),
        Gather(),
        Linear(
            lambda cotangent, node, i: scatter_add_op(
                node.args[1],
                cotangent,
                axis=node.attrs["axis"],
                extent=node.args[0].shape[node.attrs["axis"]],
            ),
            arguments=(0,),
        ),
        attributes=("axis",),
    )
)


def _infer_scatter(indices: Type, updates: Type, axis: int, extent: Extent) -> Type:
    assert isinstance(indices, TensorType) and isinstance(updates, TensorType)
    spanned = updates.shape[axis : axis + indices.ndim]
    if indices.dtype != dtypes.INT64 or spanned != indices.shape:
        raise GraphError(f"scatter_add of {updates} along axis {axis} at {indices}")
    shape = (*updates.shape[:axis], extent, *updates.shape[axis + indices.ndim :])
    return TensorType(updates.dtype, shape)


def _numpy_scatter(indices: Any, updates: Any, axis: int, extent: int) -> Any:
    shape = (*updates.shape[:axis], extent, *updates.shape[axis + indices.ndim :])
    result = np.zeros(shape, dtypes.accumulator(updates.dtype))
    np.add.at(result, (*[slice(None)] * axis, indices), dtypes.widened(updates))
    return result.astype(updates.dtype, copy=False)


scatter_add_op: Op = register(
    Op(
        "scatter_add",
        _infer_scatter,
        _numpy_scatter,
        Scatter(),
        Linear(
            lambda cotangent, node, i: take_op(cotangent, node.args[0], axis=node.attrs["axis"]),
            arguments=(1,),
        ),
        attributes=("axis", "extent"),
        doc="Zeros, with each update added at its position along `axis`, in order; positions may "
        "repeat.",
    )
)


def _positions(indices: Any, name: str) -> Node:
    from graphc.ops.arithmetic import minimum

    node = as_node(indices)
    if not dtypes.is_integer(node.dtype) and node.size == 0 and node.op is constant_op:
        return cast(node, dtypes.INT64)  # an empty list is one of integers, too
    if dtypes.kind(node.dtype) == "b":
        raise GraphError(
            f"{name} with a mask would give a shape that depends on data; use gx.where\n"
            + describe([node])
        )
    if not dtypes.is_integer(node.dtype):
        raise GraphError(
            f"{name} needs integer positions, got {node.dtype.name}\n" + describe([node])
        )
    if node.dtype is dtypes.UINT64:  # what does not fit int64 is out of range, not negative
        node = minimum(node, dtypes.limits(dtypes.INT64)[1])
    return cast(node, dtypes.INT64)


@surface
def take(x: Any, indices: Any, axis: int | None = None) -> Node:
    """The elements of x along `axis` at `indices` (integers, any shape); of the flattened x if
    `axis` is None.
    """
    from graphc.ops.movement import reshape

    node = as_node(x)
    if axis is None:
        node, axis = reshape(node, (node.size,)), 0
    where, positions = normalize_axis(axis, node, "take"), _positions(indices, "take")
    _require_known_positions(node, positions, where)
    return take_op(node, positions, axis=where)


def _require_known_positions(x: Node, positions: Node, axis: int) -> None:
    """Refuse constant positions that are outside an axis of known extent now, not at run time."""
    size = x.shape[axis]
    if positions.op is not constant_op or not isinstance(size, int):
        return
    array = positions.attrs["value"].array
    wrong = array[(array < -size) | (array >= size)]
    if wrong.size:
        raise GraphError(
            f"take: index {wrong.flat[0]} is out of range for axis {axis} of extent {size}\n"
            + describe([x])
        )


@surface
def take_along_axis(x: Any, indices: Any, axis: int) -> Node:
    """x[..., indices[..., k, ...], ...]: one position for each line along `axis`, as in NumPy.

    Written with `take` of the flattened array, so its derivative adds at the same positions.
    """
    from graphc.ops.movement import iota_op, reshape

    node, where = as_node(x), _positions(indices, "take_along_axis")
    axis = normalize_axis(axis, node, "take_along_axis")
    expected = tuple(e for a, e in enumerate(node.shape) if a != axis)
    if tuple(e for a, e in enumerate(where.shape) if a != axis) != expected:
        raise GraphError("take_along_axis: shapes differ off the axis\n" + describe([node, where]))
    from graphc.ops.special import where as choose

    size = node.shape[axis]
    flat: Node | None = None
    for a in range(node.ndim):
        position = (
            choose(where < 0, where + size, where)
            if a == axis
            else iota_op(shape=where.shape, axis=a, dtype=dtypes.INT64)
        )
        flat = position if flat is None else flat * node.shape[a] + position
    assert flat is not None
    flat = choose((where >= -size) & (where < size), flat, node.size)
    return take_op(reshape(node, (node.size,)), flat, axis=0)
