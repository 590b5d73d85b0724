"""Reductions over any axes: sums, products, extrema and where they are, truth values, means.

The ops take sorted, non-negative `axes` and drop them; the surface adds the arguments that NumPy
has: every form of `axis`, `dtype`, `keepdims`, `initial`, `where`. What statistics make of them is
in `statistics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, product
from graphc.errors import GraphError
from graphc.lowering import Compose, Reduce
from graphc.node import Node
from graphc.op import Leading, Linear, Op, Rules, no_derivative, register, remembering
from graphc.ops.arithmetic import difference_op, like, strong_multiply, subtract
from graphc.ops.operands import (
    as_node,
    broadcast,
    cast,
    constant,
    describe,
    extent,
    normalize_axes,
    normalize_axis,
    operands,
    to_shape,
)
from graphc.tensor import alias, surface
from graphc.types import Shape, TensorType, Type


def remaining(rank: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that a reduction keeps."""
    return tuple(axis for axis in range(rank) if axis not in axes)


def _infer(name: str, kinds: str) -> Any:
    @remembering
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
    """For each element the product of all others."""
    from graphc.ops.all_but_one import all_but_one_op

    return all_but_one_op(node.args[0], axes=node.attrs["axes"])


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


def _infer_position(name: str) -> Any:
    def infer(x: Type, axis: int) -> Type:
        assert isinstance(x, TensorType)
        if not 0 <= axis < x.ndim:
            raise GraphError(f"{name} of {x} along axis {axis}")
        return TensorType("int64", (*x.shape[:axis], *x.shape[axis + 1 :]))

    return infer


# Lines of so many elements are searched for an extremum in pieces of so many, which a cache holds.
LONG_LINE, PIECE_OF_LINE = 1 << 16, 1 << 12


def _position(name: str, extremum: Op, numpy: Any) -> Op:
    """The op that gives the first position of an extremum."""

    def evaluate(x: Any, axis: int) -> Any:
        if x.shape[axis] == 0:
            return np.full(x.shape[:axis] + x.shape[axis + 1 :], np.iinfo("int64").max)
        return numpy(dtypes.widened(x), axis=axis)

    def compose(x: Node, axis: int) -> Node:
        """The least position at which the extremum is attained; NaN counts as one, as in NumPy."""
        from graphc.ops.movement import iota_op
        from graphc.ops.special import where_op

        length = x.shape[axis]
        if axis == x.ndim - 1 and isinstance(length, int) and length >= LONG_LINE:
            return _position_in_pieces(extremum, op, x, length)
        short = isinstance(length, int) and 0 < length <= np.iinfo("int32").max
        dtype = dtypes.INT32 if short else dtypes.INT64  # of vectors that hold more positions
        position = iota_op(shape=x.shape, axis=axis, dtype=dtype)
        hit = x == spread(extremum(x, axes=(axis,)), x.shape, (axis,))
        if dtypes.kind(x.dtype) == "f":
            hit = hit | (x != x)
        never = like(position, int(np.iinfo(dtype).max))
        return cast(min_op(where_op(hit, position, never), axes=(axis,)), dtypes.INT64)

    op = register(
        Op(
            name,
            _infer_position(name),
            evaluate,
            Compose(compose),
            no_derivative("a position does not vary smoothly"),
            attributes=("axis",),
            batch=Leading(raised=("axis",)),
            doc=f"The first position of the {'maximum' if extremum is max_op else 'minimum'}; over "
            "no elements, the largest int64.",
        )
    )
    return op


def _position_in_pieces(extremum: Op, position: Op, x: Node, length: int) -> Node:
    """The first position of the extremum of long lines: pieces of them are read once, while a cache
    holds them, for their extrema and the positions of these.
    """
    from graphc.ops.indexing import take_along_axis
    from graphc.ops.joining import concatenate
    from graphc.ops.movement import reshape

    lead, last = x.shape[:-1], x.ndim - 1
    whole = length - length % PIECE_OF_LINE
    parts = [(reshape(x[..., :whole], (*lead, whole // PIECE_OF_LINE, PIECE_OF_LINE)), last + 1)]
    if length > whole:
        parts.append((reshape(x[..., whole:], (*lead, 1, length - whole)), last + 1))
    extrema = [extremum(part, axes=(axis,)) for part, axis in parts]
    places = [position(part, axis=axis) for part, axis in parts]
    best = position(concatenate(extrema, last), axis=last)
    number = reshape(best, (*lead, 1))
    place = take_along_axis(concatenate(places, last), number, last)
    return best * PIECE_OF_LINE + reshape(place, lead)


argmax_op = _position("argmax", max_op, np.argmax)
argmin_op = _position("argmin", min_op, np.argmin)

# -- the surface -----------------------------------------------------------------------------------


def refuse_out(name: str, out: Any) -> None:
    """`out=` is an argument of NumPy's functions that expressions cannot honour."""
    if out is not None:
        raise GraphError(
            f"{name}: `out` is not supported, an expression has no memory of its own\n"
            "Give out= to the compiled Function, or use the result."
        )


def _reduce(op: Op, x: Any, axis: Any, keepdims: bool) -> Node:
    node = as_node(x)
    axes = normalize_axes(axis, node, op.name)
    reduced = op(node, axes=axes) if axes else node
    return keep_axes(reduced, node.shape, axes) if keepdims else reduced


def keep_axes(reduced: Node, shape: Shape, axes: tuple[int, ...]) -> Node:
    """A reduced value with its axes back at extent 1."""
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return broadcast(reduced, kept, remaining(len(shape), axes))


def mask_for(where: Any, node: Node, name: str) -> Node | None:
    """`where=` as a bool node of the shape of what it selects from; None if it selects all."""
    if where is None or where is True or where is np.True_:
        return None
    mask = as_node(where)
    if dtypes.kind(mask.dtype) != "b":
        raise GraphError(
            f"{name}: `where` holds truth values, got {mask.dtype.name}\n" + describe([node, mask])
        )
    offset = node.ndim - mask.ndim
    pairs = zip(mask.shape, node.shape[max(offset, 0) :], strict=False)
    if offset < 0 or any(not _fits(extent_, size) for extent_, size in pairs):
        raise GraphError(
            f"{name}: `where` does not broadcast to what it selects from\n"
            + describe([node, mask])
        )
    return to_shape(mask, node.shape)


def _fits(extent_: Extent, size: Extent) -> bool:
    """Whether an extent stretches to a size, or may turn out to be it."""
    return extent_ in (1, size) or (
        size != 1 and not (isinstance(extent_, int) and isinstance(size, int))
    )


def selected(node: Node, mask: Node | None, otherwise: Any) -> Node:
    """The elements that a mask selects, `otherwise` in place of the others."""
    from graphc.ops.special import where_op

    return node if mask is None else where_op(mask, node, like(node, otherwise))


def count_of(node: Node, axes: tuple[int, ...], mask: Node | None, keepdims: bool) -> Node:
    """How many elements a reduction over `axes` sees, in the node's dtype."""
    if mask is not None:
        return _reduce(sum_op, cast(mask, node.dtype), axes, keepdims)
    size = product(node.shape[a] for a in axes)
    return constant(size, node.dtype) if isinstance(size, int) else extent(size, node.dtype)


@surface
def sum_(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The sum over `axis` (None: all, or several), from `initial`, of what `where` selects.

    `dtype` is that of the terms and the result: by default int64 for bool and signed integers,
    uint64 for unsigned ones, the own dtype of floats. 16-bit floats are summed in float32 and
    rounded once.
    """
    return _total("sum", sum_op, 0, x, axis, dtype, out, keepdims, initial, where)


@surface
def prod_(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The product over `axis` (None: all, or several), in the dtype that `sum` uses."""
    return _total("prod", prod_op, 1, x, axis, dtype, out, keepdims, initial, where)


def _total(
    name: str,
    op: Op,
    identity: int,
    x: Any,
    axis: Any,
    dtype: Any,
    out: Any,
    keepdims: bool,
    initial: Any,
    where: Any,
) -> Node:
    refuse_out(name, out)
    node = as_node(x)
    wanted = dtypes.sum_dtype(node.dtype) if dtype is None else dtypes.as_dtype(dtype)
    if dtypes.kind(wanted) == "b":
        raise GraphError(f"{name} in bool: use gx.any or gx.all\n" + describe([node]))
    node = selected(cast(node, wanted), mask_for(where, node, name), identity)
    reduced = _reduce(op, node, axis, keepdims)
    if initial is None:
        return reduced
    start = cast(as_node(initial), wanted)
    return reduced + start if op is sum_op else reduced * start


def _ordered(op: Op, x: Any, axis: Any, out: Any, keepdims: bool, initial: Any, where: Any) -> Node:
    from graphc.ops.arithmetic import maximum, minimum

    refuse_out(op.name, out)
    node = as_node(x)
    if dtypes.kind(node.dtype) == "b":
        start = None if initial is None else cast(as_node(initial), dtypes.INT64)
        number = _ordered(op, cast(node, dtypes.INT64), axis, None, keepdims, start, where)
        return cast(number, dtypes.BOOL)
    axes = normalize_axes(axis, node, op.name)
    mask = mask_for(where, node, op.name)
    if initial is None and mask is not None:
        raise GraphError(
            f"{op.name} over no selected element has no value: give `initial` with `where`\n"
            + describe([node])
        )
    if initial is None and any(node.shape[a] == 0 for a in axes):
        raise GraphError(
            f"{op.name} over no elements has no value, unless `initial` is given\n"
            + describe([node])
        )
    bottom = lowest(op.name, node.dtype).item()
    reduced = _reduce(op, selected(node, mask, bottom), axes, keepdims)
    if initial is None:
        return reduced
    return (maximum if op is max_op else minimum)(reduced, cast(as_node(initial), node.dtype))


@surface
def max_(
    x: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The largest element over `axis`, and not less than `initial`; NaN if there is one."""
    return _ordered(max_op, x, axis, out, keepdims, initial, where)


@surface
def min_(
    x: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Node:
    """The smallest element over `axis`, and not more than `initial`; NaN if there is one."""
    return _ordered(min_op, x, axis, out, keepdims, initial, where)


def _truth(op: Op, x: Any, axis: Any, out: Any, keepdims: bool, where: Any) -> Node:
    refuse_out(op.name, out)
    node = as_node(x)
    node = node if dtypes.kind(node.dtype) == "b" else node != 0
    return _reduce(op, selected(node, mask_for(where, node, op.name), op is all_op), axis, keepdims)


@surface
def all_(
    x: Any, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
) -> Node:
    """Whether every element over `axis` is true, of those that `where` selects."""
    return _truth(all_op, x, axis, out, keepdims, where)


@surface
def any_(
    x: Any, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
) -> Node:
    """Whether some element over `axis` is true, of those that `where` selects."""
    return _truth(any_op, x, axis, out, keepdims, where)


@surface
def count_nonzero(x: Any, axis: Any = None, *, keepdims: bool = False) -> Node:
    """How many elements over `axis` are not 0 (int64)."""
    node = as_node(x)
    truth = node if dtypes.kind(node.dtype) == "b" else node != 0
    return _reduce(sum_op, cast(truth, dtypes.INT64), axis, keepdims)


def _position_of(op: Op, x: Any, axis: Any, out: Any, keepdims: bool) -> Node:
    from graphc.ops.movement import reshape

    refuse_out(op.name, out)
    node = as_node(x)
    if dtypes.kind(node.dtype) == "b":
        node = cast(node, dtypes.INT64)
    if axis is None:
        rank, node = node.ndim, reshape(node, (node.size,))
    where = 0 if axis is None else normalize_axis(axis, node, op.name)
    if node.shape[where] == 0:
        raise GraphError(f"{op.name} over no elements has no value\n" + describe([node]))
    found = op(node, axis=where)
    if not keepdims:
        return found
    return (
        broadcast(found, (1,) * rank, ())
        if axis is None
        else keep_axes(found, node.shape, (where,))
    )


@surface
def argmax(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Node:
    """The first position of the largest element along `axis`, or in the flattened array; of the
    first NaN if there is one.
    """
    return _position_of(argmax_op, x, axis, out, keepdims)


@surface
def argmin(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Node:
    """The first position of the smallest element along `axis`, or in the flattened array; of the
    first NaN if there is one.
    """
    return _position_of(argmin_op, x, axis, out, keepdims)


@surface
def mean(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Node:
    """The mean over `axis` of what `where` selects, in a float dtype; NaN over no elements.

    `dtype` is by default float64 for integers and bool, the own dtype of floats; of 16-bit floats
    sum and quotient are taken in float32 and rounded once.
    """
    refuse_out("mean", out)
    node = as_node(x)
    wanted = dtypes.mean_dtype(node.dtype) if dtype is None else dtypes.as_dtype(dtype)
    node = cast(node, dtypes.accumulator(wanted))
    axes = normalize_axes(axis, node, "mean")
    mask = mask_for(where, node, "mean")
    total = _reduce(sum_op, selected(node, mask, 0), axes, keepdims)
    return cast(total / count_of(node, axes, mask, keepdims), wanted)


@surface
def ptp(x: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Node:
    """The distance from the smallest to the largest element over `axis`."""
    refuse_out("ptp", out)
    return max_(x, axis=axis, keepdims=keepdims) - min_(x, axis=axis, keepdims=keepdims)


@surface
def logsumexp(
    x: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Node:
    """log(sum(b exp(x))) over `axis`, without overflow; a negative sum is NaN.

    SciPy's name and arguments. The derivatives by x are the shares of the sum, which together are
    1. Where the largest element is infinite, of either sign, those equal to it have equal shares,
    as at ties of `max`, and all others 0.
    """
    from graphc.ops.movement import expand_dims
    from graphc.ops.special import stop_gradient, where_op
    from graphc.ops.transcend import exp, log

    if return_sign:
        raise GraphError("logsumexp: return_sign is not supported; sum b * exp(x - max) for a sign")
    weight = None
    if b is None:
        (node,) = operands("logsumexp", x, real=True)
        counted = node
    else:
        node, weight = operands("logsumexp", x, b, real=True)
        counted = where_op(weight == like(weight, 0), like(node, float("-inf")), node)
    axes = normalize_axes(axis, node, "logsumexp")
    top = stop_gradient(max_(counted, axis=axes, initial=float("-inf")))
    powers = exp(difference_op(counted, spread(top, node.shape, axes)))
    total = log(sum_(powers if weight is None else weight * powers, axis=axes)) + top
    return expand_dims(total, axes) if keepdims else total


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


alias("amax", max_)
alias("amin", min_)
