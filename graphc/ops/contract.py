"""Products of arrays: one op, from which every sum of products is written.

`contract` multiplies over pairs of *batch* axes, which stay, and sums over pairs of *contracted*
axes, which go. The result's axes are the batch axes, then what is left of the first argument, then
of the second. In the notation of einsum: a label for each axis of both arguments, and the labels of
the result, in order (`contraction`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.lowering import Contract
from graphc.node import Node
from graphc.op import Linear, Op, register, remembering
from graphc.ops.arithmetic import negative_op
from graphc.ops.movement import (
    expand_dims,
    inverse,
    moveaxis,
    ravel,
    transpose,
    transpose_op,
)
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    common_dtype,
    constant,
    describe,
    normalize_axis,
    restate_op,
    to_shape,
)
from graphc.ops.reduce import refuse_out, sum_op
from graphc.tensor import surface
from graphc.types import TensorType, Type

Axes = tuple[tuple[int, ...], tuple[int, ...]]
Labels = tuple[Hashable, ...]


def free_axes(rank: int, batch: tuple[int, ...], contracted: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one argument that are neither batch nor contracted."""
    return tuple([axis for axis in range(rank) if axis not in batch and axis not in contracted])


@remembering
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
    left_over = [axis for axis in range(other.ndim) if axis in contracted[1]]
    pairs = dict(zip(contracted[1], contracted[0], strict=True))
    order = (*batch[0], *mine_free, *[pairs[axis] for axis in left_over])
    if order == tuple(range(mine.ndim)):
        return product
    return transpose_op(product, axes=inverse(order))


def _batch_contract(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """A further batch axis; or, where only one argument has it, a further free one."""
    shifts = [int(each) for each in mapped]
    batch, contracted = (
        tuple(tuple(a + shift for a in axes) for shift, axes in zip(shifts, pairs, strict=True))
        for pairs in (node.attrs["batch"], node.attrs["contracted"])
    )
    if all(mapped):
        batch = ((0, *batch[0]), (0, *batch[1]))
        return [contract_op(*args, batch=batch, contracted=contracted)]
    product = contract_op(*args, batch=batch, contracted=contracted)
    before = len(batch[0])
    if not mapped[0]:
        before += len(free_axes(args[0].ndim, batch[0], contracted[0]))
    return [moveaxis(product, before, 0)]


contract_op = register(
    Op(
        "contract",
        _infer_contract,
        _numpy_contract,
        Contract(),
        Linear(_transpose_contract, arguments=(0, 1), multi=True),
        attributes=("batch", "contracted"),
        batch=_batch_contract,
        text="contract({}, {})",
    )
)


# -- the notation of einsum ------------------------------------------------------------------------


def labels_of(node: Node) -> tuple[list[Labels], Labels]:
    """The labels of both arguments of a contraction and of its result."""
    x, y = node.args
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    first = tuple(range(x.ndim))
    shared = dict(zip((*batch[1], *contracted[1]), (*batch[0], *contracted[0]), strict=True))
    second = tuple(shared.get(axis, x.ndim + axis) for axis in range(y.ndim))
    free_x = free_axes(x.ndim, batch[0], contracted[0])
    free_y = free_axes(y.ndim, batch[1], contracted[1])
    return [first, second], (*batch[0], *free_x, *[second[axis] for axis in free_y])


def contraction(args: Sequence[Node], labels: Sequence[Labels], result: Labels) -> Node:
    """The contraction of these labels; arguments exchanged or the result transposed if need be.

    Labels of both arguments are batch axes if the result has them, else contracted; a label of one
    argument alone stands in the result.
    """
    (x, y), (first, second) = args, labels
    straight = natural_labels(first, second, result)
    if straight != result and natural_labels(second, first, result) == result:
        (x, y), (first, second), straight = (y, x), (second, first), result
    shared = [label for label in result if label in first and label in second]
    gone = [label for label in first if label in second and label not in result]
    made = contract_op(
        x,
        y,
        batch=(tuple(map(first.index, shared)), tuple(map(second.index, shared))),
        contracted=(tuple(map(first.index, gone)), tuple(map(second.index, gone))),
    )
    return transpose(made, [straight.index(label) for label in result])


def sum_factors(node: Node, axes: Sequence[int]) -> Node:
    """The sum of a node over axes; that of a product along rows of one factor is the product with
    the sum of those rows, which takes as many times less work as there are rows.

    Derivatives ask for it: the cotangent of what is subtracted from all rows before a product.
    Error bounds are those of the sum of the product; 16-bit floats would round once more.
    """
    gone = set(axes)
    if node.op is negative_op:
        return negative_op(sum_factors(node.args[0], axes))
    if node.op is transpose_op:
        order = node.attrs["axes"]
        moved = tuple(sorted(order[axis] for axis in gone))
        kept = [order[axis] for axis in range(node.ndim) if axis not in gone]
        return transpose(sum_factors(node.args[0], moved), [sorted(kept).index(a) for a in kept])
    if node.op is not contract_op or dtypes.is_half(node.dtype) or not dtypes.is_float(node.dtype):
        return sum_op(node, axes=tuple(sorted(gone)))
    labels, result = labels_of(node)
    summed = {result[axis] for axis in gone}
    if summed & set(labels[0]) & set(labels[1]):  # of the batch: more terms, which a rule adds
        return sum_op(node, axes=tuple(sorted(gone)))
    factors, left = [], []
    for factor, mine in zip(node.args, labels, strict=True):
        rows = tuple(axis for axis, label in enumerate(mine) if label in summed)
        factors.append(sum_op(factor, axes=rows) if rows else factor)
        left.append(tuple(label for label in mine if label not in summed))
    return contraction(factors, left, tuple(label for label in result if label not in summed))


def natural_labels(first: Labels, second: Labels, result: Labels) -> Labels:
    """The labels of a contraction's result as `contract` orders them."""
    batch = [label for label in result if label in first and label in second]
    free_x = [label for label in first if label not in second]
    free_y = [label for label in second if label not in first]
    return (*batch, *free_x, *free_y)


# -- the surface -----------------------------------------------------------------------------------


def product_dtype(name: str, values: Sequence[Any], dtype: Any = None) -> tuple[Any, bool]:
    """The dtype in which products are summed, and whether the result is a truth value after all.

    That is the wanted one, or what the arguments promote to. For truth values, sum and product are
    "or" and "and": whether the number of true terms is positive, counted in int64.
    """
    wanted = common_dtype(name, values) if dtype is None else dtypes.as_dtype(dtype)
    truth = dtypes.kind(wanted) == "b"
    return (dtypes.INT64 if truth else wanted), truth


def as_truth(product: Node, truth: bool) -> Node:
    """The product, as a truth value if it counts the terms of one."""
    return product != 0 if truth else product


def _pair(name: str, x: Any, y: Any, dtype: Any) -> tuple[Node, Node, bool]:
    wanted, truth = product_dtype(name, (x, y), dtype)
    left, right = as_node(x), as_node(y)
    if truth:  # a number as a truth value is whether it differs from 0
        left, right = cast(left, dtypes.BOOL), cast(right, dtypes.BOOL)
    return cast(left, wanted), cast(right, wanted), truth


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
def matmul(x: Any, y: Any, dtype: Any = None) -> Node:
    """The matrix product, batched over leading axes, as NumPy's `@`.

    An argument of rank 1 is a row on the left and a column on the right. `dtype` is that of the
    terms and of the result, by default what the arguments promote to: for a product of float16 or
    int8 arrays that keeps its precision, give `dtype="float32"` or `"int32"`.
    """
    left, right, truth = _pair("matmul", x, y, dtype)
    if left.ndim == 0 or right.ndim == 0:
        raise GraphError(
            "matmul needs arrays of at least one axis; use * for scalars\n"
            + describe([left, right])
        )
    column, row = right.ndim == 1, left.ndim == 1
    axis = 0 if column else right.ndim - 2
    left, right = _unified("matmul", left, right, [(left.ndim - 1, axis)])
    contracted = ((left.ndim - 1,), (axis,))
    if right.ndim <= 2 or row:  # nothing to pair: the result has the axes in NumPy's order already
        product = contract_op(left, right, batch=((), ()), contracted=contracted)
        return as_truth(product, truth)
    lead = broadcast_shapes("matmul", [_leading(left), _leading(right)])
    left, right = _stretch(left, lead), _stretch(right, lead)
    rank = len(lead)
    axes = tuple(range(rank))
    contracted = ((rank + 1,), (rank,))
    return as_truth(contract_op(left, right, batch=(axes, axes), contracted=contracted), truth)


def _leading(x: Node) -> Node:
    """A stand-in with the leading axes of `x`, for the rule of broadcasting."""
    return broadcast(constant(0), x.shape[:-2], ())


def _stretch(x: Node, lead: Any) -> Node:
    return to_shape(x, (*lead, *x.shape[-2:]))


@surface
def dot(a: Any, b: Any, out: Any = None, dtype: Any = None) -> Node:
    """NumPy's dot: the last axis of a with the second to last of b; a plain product for scalars."""
    refuse_out("dot", out)
    left, right, truth = _pair("dot", a, b, dtype)
    if left.ndim == 0 or right.ndim == 0:
        return as_truth(left * right, truth)
    axis = 0 if right.ndim == 1 else right.ndim - 2
    left, right = _unified("dot", left, right, [(left.ndim - 1, axis)])
    contracted = ((left.ndim - 1,), (axis,))
    return as_truth(contract_op(left, right, batch=((), ()), contracted=contracted), truth)


@surface
def tensordot(a: Any, b: Any, axes: Any = 2, dtype: Any = None) -> Node:
    """Sum over pairs of axes: the last `axes` of a with the first of b, or the two lists given."""
    left, right, truth = _pair("tensordot", a, b, dtype)
    if isinstance(axes, (int, np.integer)) and 0 <= axes <= min(left.ndim, right.ndim):
        count = int(axes)
        first = tuple(range(left.ndim - count, left.ndim))
        second = tuple(range(count))
    elif isinstance(axes, (tuple, list)) and len(axes) == 2:
        given = [tuple(e) if isinstance(e, (tuple, list)) else (e,) for e in axes]
        first = tuple(normalize_axis(axis, left, "tensordot") for axis in given[0])
        second = tuple(normalize_axis(axis, right, "tensordot") for axis in given[1])
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
    return as_truth(contract_op(left, right, batch=((), ()), contracted=(first, second)), truth)


@surface
def outer(a: Any, b: Any, out: Any = None) -> Node:
    """The product of every element of a with every element of b, both flattened."""
    refuse_out("outer", out)
    left, right, truth = _pair("outer", a, b, None)
    return as_truth(expand_dims(ravel(left), 1) * expand_dims(ravel(right), 0), truth)
