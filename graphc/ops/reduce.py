"""Reductions over any axes, and what is composed of them: mean, logsumexp, softmax.

The ops take sorted, non-negative `axes` and drop them; the surface adds `keepdims` and the forms of
`axis` that NumPy has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import product
from graphc.errors import GraphError
from graphc.lowering import Compose, Reduce
from graphc.node import Node
from graphc.op import Linear, Op, Rules, no_derivative, register
from graphc.ops.arithmetic import like, strong_multiply, subtract
from graphc.ops.operands import as_node, broadcast, cast, constant, describe, extent, normalize_axes
from graphc.tensor import surface
from graphc.types import Shape, TensorType, Type


def remaining(rank: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that a reduction keeps."""
    return tuple(axis for axis in range(rank) if axis not in axes)


def _infer(name: str, kinds: str) -> Any:
    def infer(x: Type, axes: tuple[int, ...]) -> Type:
        assert isinstance(x, TensorType)
        if dtypes.kind(x.dtype) not in kinds:
            raise GraphError(f"{name} is not defined for dtype {x.dtype.name}")
        if any(not 0 <= axis < x.ndim for axis in axes) or list(axes) != sorted(set(axes)):
            raise GraphError(f"{name} of {x} over axes {axes}")
        return TensorType(x.dtype, tuple(x.shape[axis] for axis in remaining(x.ndim, axes)))

    return infer


def spread(reduced: Node, shape: Shape, axes: tuple[int, ...]) -> Node:
    """A reduced value back at the shape before the reduction over `axes`."""
    return broadcast(reduced, shape, remaining(len(shape), axes))


def _accumulated(function: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """A sum or product in the dtype of `x`; 16-bit floats are rounded once, at the end."""
    wide = dtypes.widened(x)
    result = function(wide, axis=axes, dtype=wide.dtype)
    return np.asarray(result).astype(x.dtype, copy=False)


def _sum_transpose(cotangent: Node, node: Node, i: int) -> Node:
    return spread(cotangent, node.args[0].shape, node.attrs["axes"])


sum_op = register(
    Op(
        "sum",
        _infer("sum", "iuf"),
        lambda x, axes: _accumulated(np.sum, x, axes),
        Reduce("add"),
        Linear(_sum_transpose),
        attributes=("axes",),
    )
)


def _share(node: Node) -> Node:
    """1 / count at the elements that attain the extremum, 0 elsewhere: ties share the derivative
    equally.
    """
    from graphc.ops.special import where_op

    x, axes = node.args[0], node.attrs["axes"]
    hit = x == spread(node, x.shape, axes)
    ones = where_op(hit, like(x, 1), like(x, 0))
    return where_op(hit, spread(like(node, 1) / sum_op(ones, axes=axes), x.shape, axes), like(x, 0))


def _extremum_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    return [sum_op(strong_multiply(tangents[0], _share(node)), axes=node.attrs["axes"])]


def _extremum_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    shape, axes = node.args[0].shape, node.attrs["axes"]
    return [strong_multiply(spread(cotangents[0], shape, axes), _share(node))]


def _extremum(name: str, numpy: Any) -> Op:
    def evaluate(x: Any, axes: tuple[int, ...]) -> Any:
        wide = dtypes.widened(x)
        return np.asarray(numpy(wide, axis=axes, initial=lowest(name, wide.dtype))).astype(x.dtype)

    return register(
        Op(
            name,
            _infer(name, "iuf"),
            evaluate,
            Reduce(name),
            Rules(_extremum_jvp, _extremum_vjp),
            attributes=("axes",),
            doc="NaN propagates; over no elements, the identity (an infinity). Elements that tie "
            "share the derivative equally.",
        )
    )


def lowest(combiner: str, dtype: np.dtype[Any]) -> Any:
    """The identity of max or min in a dtype."""
    sign = -1 if combiner == "max" else 1
    if dtypes.kind(dtype) == "f":
        return dtype.type(sign * np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if combiner == "max" else limits.max)


max_op = _extremum("max", np.max)
min_op = _extremum("min", np.min)


def _prod_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    return [sum_op(tangents[0] * _others(node), axes=node.attrs["axes"])]


def _prod_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    shape, axes = node.args[0].shape, node.attrs["axes"]
    return [strong_multiply(spread(cotangents[0], shape, axes), _others(node))]


def _others(node: Node) -> Node:
    """For each element the product of all others, exact with zeros: zeros are counted and left out.
    """
    from graphc.ops.special import where_op

    x, axes = node.args[0], node.attrs["axes"]
    zero = x == like(x, 0)
    filled = where_op(zero, like(x, 1), x)
    rest = spread(prod_op(filled, axes=axes), x.shape, axes)
    count = spread(sum_op(where_op(zero, like(x, 1), like(x, 0)), axes=axes), x.shape, axes)
    none, one = like(x, 0), like(x, 1)
    if_zero = where_op(count == one, rest, none)
    return where_op(zero, if_zero, where_op(count == none, rest / filled, none))


prod_op = register(
    Op(
        "prod",
        _infer("prod", "iuf"),
        lambda x, axes: _accumulated(np.prod, x, axes),
        Reduce("mul"),
        Rules(_prod_jvp, _prod_vjp),
        attributes=("axes",),
    )
)
all_op = register(
    Op(
        "all",
        _infer("all", "b"),
        lambda x, axes: np.all(x, axis=axes),
        Reduce("and"),
        no_derivative("a truth value does not vary smoothly"),
        attributes=("axes",),
    )
)
any_op = register(
    Op(
        "any",
        _infer("any", "b"),
        lambda x, axes: np.any(x, axis=axes),
        Reduce("or"),
        no_derivative("a truth value does not vary smoothly"),
        attributes=("axes",),
    )
)


def _infer_argmax(x: Type, axis: int) -> Type:
    assert isinstance(x, TensorType)
    if not 0 <= axis < x.ndim:
        raise GraphError(f"argmax of {x} along axis {axis}")
    return TensorType("int64", (*x.shape[:axis], *x.shape[axis + 1 :]))


def _numpy_argmax(x: Any, axis: int) -> Any:
    if x.shape[axis] == 0:
        return np.full(x.shape[:axis] + x.shape[axis + 1 :], np.iinfo("int64").max)
    return np.argmax(dtypes.widened(x), axis=axis)


def _compose_argmax(x: Node, axis: int) -> Node:
    """The least position at which the maximum is attained; NaN counts as the maximum, as in NumPy.
    """
    from graphc.ops.movement import iota_op
    from graphc.ops.special import where_op

    position = iota_op(shape=x.shape, axis=axis, dtype=dtypes.INT64)
    hit = x == spread(max_op(x, axes=(axis,)), x.shape, (axis,))
    if dtypes.kind(x.dtype) == "f":
        hit = hit | (x != x)
    never = like(position, int(np.iinfo("int64").max))
    return min_op(where_op(hit, position, never), axes=(axis,))


argmax_op = register(
    Op(
        "argmax",
        _infer_argmax,
        _numpy_argmax,
        Compose(_compose_argmax),
        no_derivative("a position does not vary smoothly"),
        attributes=("axis",),
        doc="The first position of the maximum; over no elements, the largest int64.",
    )
)

# -- the surface -----------------------------------------------------------------------------------


def _reduce(op: Op, x: Any, axis: Any, keepdims: bool) -> Node:
    node = as_node(x)
    axes = normalize_axes(axis, node, op.name)
    reduced = op(node, axes=axes) if axes else node
    return keep_axes(reduced, node.shape, axes) if keepdims else reduced


def keep_axes(reduced: Node, shape: Shape, axes: tuple[int, ...]) -> Node:
    """A reduced value with its axes back at extent 1."""
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return broadcast(reduced, kept, remaining(len(shape), axes))


@surface
def sum_(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """The sum over `axis` (None: all); bool and signed integers are summed in int64, unsigned ones
    in uint64, 16-bit floats in float32 with one rounding, wider floats in their dtype.
    """
    node = as_node(x)
    return _reduce(sum_op, cast(node, dtypes.sum_dtype(node.dtype)), axis, keepdims)


@surface
def prod_(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """The product over `axis`, in the dtype that `sum` uses."""
    node = as_node(x)
    return _reduce(prod_op, cast(node, dtypes.sum_dtype(node.dtype)), axis, keepdims)


def _ordered(op: Op, x: Any, axis: Any, keepdims: bool) -> Node:
    node = as_node(x)
    if dtypes.kind(node.dtype) == "b":
        return cast(_reduce(op, cast(node, dtypes.INT64), axis, keepdims), dtypes.BOOL)
    axes = normalize_axes(axis, node, op.name)
    if any(node.shape[a] == 0 for a in axes):
        raise GraphError(f"{op.name} over no elements has no value\n" + describe([node]))
    return _reduce(op, node, axis, keepdims)


@surface
def max_(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """The largest element over `axis`; NaN if there is one."""
    return _ordered(max_op, x, axis, keepdims)


@surface
def min_(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """The smallest element over `axis`; NaN if there is one."""
    return _ordered(min_op, x, axis, keepdims)


@surface
def all_(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """Whether every element over `axis` is true."""
    return _reduce(
        all_op,
        as_node(x) if dtypes.kind(as_node(x).dtype) == "b" else as_node(x) != 0,
        axis,
        keepdims,
    )


@surface
def any_(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """Whether some element over `axis` is true."""
    return _reduce(
        any_op,
        as_node(x) if dtypes.kind(as_node(x).dtype) == "b" else as_node(x) != 0,
        axis,
        keepdims,
    )


@surface
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """The first position of the largest element along `axis`, or in the flattened array."""
    from graphc.ops.movement import reshape
    from graphc.ops.operands import normalize_axis

    node = as_node(x)
    if dtypes.kind(node.dtype) == "b":
        node = cast(node, dtypes.INT64)
    if axis is None:
        flat = argmax_op(reshape(node, (node.size,)), axis=0)
        return broadcast(flat, (1,) * node.ndim, ()) if keepdims else flat
    where = normalize_axis(axis, node, "argmax")
    if node.shape[where] == 0:
        raise GraphError("argmax over no elements has no value\n" + describe([node]))
    found = argmax_op(node, axis=where)
    return keep_axes(found, node.shape, (where,)) if keepdims else found


@surface
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """The mean over `axis`, in a float dtype: float64 for integers and bool.

    Of 16-bit floats sum and quotient are taken in float32 and rounded once.
    """
    node = as_node(x)
    dtype = dtypes.mean_dtype(node.dtype)
    node = cast(node, dtypes.accumulator(dtype))
    axes = normalize_axes(axis, node, "mean")
    total = _reduce(sum_op, node, axes, keepdims)
    count = product(node.shape[a] for a in axes)
    number = constant(count, node.dtype) if isinstance(count, int) else extent(count, node.dtype)
    return cast(total / number, dtype)


@surface
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Node:
    """log(sum(exp(x))) over `axis`, without overflow; rewriting makes the plain formula stable."""
    from graphc.ops.transcend import exp, log

    return log(sum_(exp(x), axis=axis, keepdims=keepdims))


@surface
def softmax(x: Any, axis: Any = -1) -> Node:
    """exp(x) over its sum along `axis`, shifted by the maximum."""
    from graphc.ops.transcend import exp

    shifted = exp(_shifted(x, axis))
    return shifted / sum_(shifted, axis=axis, keepdims=True)


@surface
def log_softmax(x: Any, axis: Any = -1) -> Node:
    """log(softmax(x)), accurate where softmax underflows."""
    from graphc.ops.transcend import exp, log

    shifted = _shifted(x, axis)
    return shifted - log(sum_(exp(shifted), axis=axis, keepdims=True))


def _shifted(x: Any, axis: Any) -> Node:
    """x minus its maximum, which is a constant for differentiation: it cancels."""
    from graphc.ops.special import stop_gradient

    node = as_node(x)
    node = cast(node, dtypes.float_of(node.dtype))
    return subtract(node, stop_gradient(max_(node, axis=axis, keepdims=True)))
