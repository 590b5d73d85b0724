"""What have the elements up to here come to?  Running sums, products, extrema; recurrences.

Two ops. `cumulate` combines every element with all before it; `recurrence` solves
z[i] = a[i] z[i-1] + b[i]. The second is what makes the first differentiable: the derivative of a
running product or log-sum-exp is a recurrence, exact where elements are 0, and the derivative of a
recurrence is one again, running the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import dim_min
from graphc.errors import GraphError
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import difference_op, like, multiply_op, strong_multiply_op
from graphc.ops.operands import as_node, broadcast_together, cast, describe, normalize_axis
from graphc.ops.reduce import lowest, refuse_out
from graphc.tensor import surface
from graphc.types import TensorType, Type

LN2 = 0.6931471805599453


def _logaddexp(k: Any, x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)) from the larger one and the distance; equal infinities have none."""
    low, high = k.min(x, y), k.max(x, y)
    apart = k.sub(low, high)
    return k.select(k.eq(x, y), k.add(x, LN2), k.add(high, k.call("log1p", k.call("exp", apart))))


# By name: what NumPy accumulates with, one step of the kernel, the kinds of dtype it has.
COMBINERS: dict[str, tuple[Any, Callable[..., Any], str]] = {
    "add": (np.add, lambda k, x, y: k.add(x, y), "iuf"),
    "mul": (np.multiply, lambda k, x, y: k.mul(x, y), "iuf"),
    "max": (np.maximum, lambda k, x, y: k.max(x, y), "iuf"),
    "min": (np.minimum, lambda k, x, y: k.min(x, y), "iuf"),
    "logaddexp": (np.logaddexp, _logaddexp, "f"),
}


def _infer_cumulate(x: Type, combiner: str, axis: int, reverse: bool) -> Type:
    assert isinstance(x, TensorType)
    if combiner not in COMBINERS:
        raise GraphError(f"cumulate combines with {', '.join(COMBINERS)}, not {combiner!r}")
    if dtypes.kind(x.dtype) not in COMBINERS[combiner][2]:
        raise GraphError(f"cumulate with {combiner} is not defined for dtype {x.dtype.name}")
    if not 0 <= axis < x.ndim:
        raise GraphError(f"cumulate of {x} along axis {axis}")
    return x


def _turned(x: Any, axis: int, reverse: bool) -> Any:
    return np.flip(x, axis) if reverse else x


def _numpy_cumulate(x: Any, combiner: str, axis: int, reverse: bool) -> Any:
    turned = dtypes.widened(_turned(x, axis, reverse))
    with np.errstate(all="ignore"):
        made = COMBINERS[combiner][0].accumulate(turned, axis=axis, dtype=turned.dtype)
        return _turned(made, axis, reverse).astype(x.dtype, copy=False)


def _numpy_recurrence(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    factors = np.moveaxis(_turned(dtypes.widened(a), axis, reverse), axis, 0)
    made = np.moveaxis(_turned(dtypes.widened(b), axis, reverse), axis, 0).copy()
    with np.errstate(all="ignore"):
        for i in range(1, len(made)):
            made[i] += factors[i] * made[i - 1]
        return _turned(np.moveaxis(made, 0, axis), axis, reverse).astype(b.dtype, copy=False)


def _write_running(
    nest: Any, axis: int, reverse: bool, first: Callable[..., Any], step: Callable[..., Any]
) -> None:
    """Each line in order: `step(k, what was stored last, *elements)`.

    Lines along the last axis are tasks; all others are lanes along it.
    """
    (result,), shape = nest.results, nest.result_shapes[0]
    extent, arguments = shape[axis], range(len(nest.shapes))
    others = (*shape[:axis], *shape[axis + 1 :])
    with nest.lines(others, extent, lanes=axis < len(shape) - 1) as (line, at):

        def place(i: Any) -> tuple[Any, ...]:
            return (*at[:axis], extent - 1 - i if reverse else i, *at[axis:])

        with line.loop("serial", 0, dim_min(1, extent)) as start:
            here = place(start.index)
            start.store(result, here, first(start.k, *[start.read(n, here) for n in arguments]))
        with line.loop("serial", 1, extent) as rest:
            here = place(rest.index)
            before = rest.load(result, place(rest.index - 1))
            elements = [rest.read(n, here) for n in arguments]
            rest.store(result, here, step(rest.k, before, *elements))


def _write_cumulate(nest: Any, combiner: str, axis: int, reverse: bool) -> None:
    _write_running(nest, axis, reverse, lambda k, x: x, COMBINERS[combiner][1])


def _write_recurrence(nest: Any, axis: int, reverse: bool) -> None:
    def step(k: Any, before: Any, a: Any, b: Any) -> Any:
        return k.add(k.mul(a, before), b)

    _write_running(nest, axis, reverse, lambda k, a, b: b, step)


def _reach(axis: int, reverse: bool, **_: Any) -> dict[int, str]:
    return {axis: "after" if reverse else "before"}


def _is_alone(rank: int, axis: int, **_: Any) -> bool:
    """Whether each line is run by one task."""
    return axis == rank - 1


# -- derivatives -----------------------------------------------------------------------------------


def shifted(x: Node, axis: int, reverse: bool, fill: Any = 0) -> Node:
    """At each place the element before it, `fill` at the first; after it, if `reverse`."""
    from graphc.ops.movement import iota_op, pad_op, slice_op
    from graphc.ops.special import where_op

    rank, size = x.ndim, x.shape[axis]
    front = [int(not reverse and a == axis) for a in range(rank)]
    back = [int(reverse and a == axis) for a in range(rank)]
    ones = (1,) * rank
    longer = (*x.shape[:axis], size + 1, *x.shape[axis + 1 :])
    padded = pad_op(x, starts=tuple(front), shape=longer, steps=ones)
    moved = slice_op(padded, starts=tuple(back), extents=x.shape, steps=ones)
    if fill == 0:
        return moved
    position = iota_op(shape=x.shape, axis=axis, dtype=dtypes.INT64)
    last = position * 0 + (size - 1) if reverse else like(position, 0)
    return where_op(position == last, like(x, fill), moved)


def _coefficients(node: Node) -> tuple[Node, Node]:
    """(a, g) such that the tangent of `node` is dy[i] = a[i] dy[i-1] + g[i] dx[i]."""
    from graphc.ops.special import where_op
    from graphc.ops.transcend import exp

    x, axis, reverse = node.args[0], node.attrs["axis"], node.attrs["reverse"]
    if node.attrs["combiner"] == "mul":
        return x, shifted(node, axis, reverse, 1)
    before = shifted(node, axis, reverse, float("-inf"))
    shared = (x == node) & (before == node)  # equal infinities
    earlier = exp(difference_op(before, node))
    return where_op(shared, like(node, 0), earlier), exp(difference_op(x, node))


def _attaining(node: Node) -> Node:
    """For each place the last position so far at which the running extremum was attained."""
    from graphc.ops.movement import iota_op
    from graphc.ops.special import where_op

    x, axis, reverse = node.args[0], node.attrs["axis"], node.attrs["reverse"]
    position = iota_op(shape=x.shape, axis=axis, dtype=dtypes.INT64)
    hit = (x == node) | (x != x)
    if reverse:
        never = like(position, int(np.iinfo("int64").max))
        return cumulate_op(where_op(hit, position, never), combiner="min", axis=axis, reverse=True)
    never = like(position, -1)
    return cumulate_op(where_op(hit, position, never), combiner="max", axis=axis, reverse=False)


def _cumulate_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    from graphc.ops.indexing import take_along_axis

    axis, reverse = node.attrs["axis"], node.attrs["reverse"]
    if node.attrs["combiner"] == "add":
        return [cumulate_op(tangents[0], **node.attrs)]
    if node.attrs["combiner"] in ("max", "min"):
        return [take_along_axis(tangents[0], _attaining(node), axis)]
    a, g = _coefficients(node)
    return [recurrence_op(a, g * tangents[0], axis=axis, reverse=reverse)]


def _cumulate_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    axis, reverse = node.attrs["axis"], node.attrs["reverse"]
    if node.attrs["combiner"] == "add":
        return [cumulate_op(cotangents[0], combiner="add", axis=axis, reverse=not reverse)]
    if node.attrs["combiner"] in ("max", "min"):
        return [add_along_axis(_attaining(node), cotangents[0], axis)]
    a, g = _coefficients(node)
    pulled = _pulled_back(a, cotangents[0], axis, reverse, transform.masked)
    return [_product(transform.masked)(pulled, g)]


def add_along_axis(positions: Node, updates: Node, axis: int) -> Node:
    """Zeros, with the updates added at their positions along `axis`: the transpose of taking."""
    from graphc.ops.gather import along_axis, scatter_op

    moved, attrs = along_axis(positions, axis)
    return scatter_op["add"](like(updates, 0), updates, moved, **attrs)


def _pulled_back(a: Node, cotangent: Node, axis: int, reverse: bool, masked: bool) -> Node:
    """The cotangent of b in z[i] = a[i] z[i-1] + b[i]: the recurrence run from the other end.

    Beneath a branch of a `where` it is 0 until a cotangent is not, whatever the factors are.
    """
    from graphc.ops.special import where_op

    factors = shifted(a, axis, not reverse)
    if masked:
        zero, one = like(a, 0), like(a, 1)
        given = where_op(cotangent == zero, zero, one)
        given = cumulate_op(given, combiner="max", axis=axis, reverse=not reverse)
        factors = where_op(shifted(given, axis, not reverse) == zero, zero, factors)
    return recurrence_op(factors, cotangent, axis=axis, reverse=not reverse)


def _product(masked: bool) -> Op:
    return strong_multiply_op if masked else multiply_op


def _recurrence_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    (a, _), axis, reverse = node.args, node.attrs["axis"], node.attrs["reverse"]
    moved = tangents[1]
    if tangents[0] is not None:
        by_factor = tangents[0] * shifted(node, axis, reverse)
        moved = by_factor if moved is None else moved + by_factor
    return [recurrence_op(a, moved, axis=axis, reverse=reverse)]


def _recurrence_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    (a, _), axis, reverse = node.args, node.attrs["axis"], node.attrs["reverse"]
    pulled = _pulled_back(a, cotangents[0], axis, reverse, transform.masked)
    product = _product(transform.masked)
    return [product(pulled, shifted(node, axis, reverse)) if wanted[0] else None, pulled]


cumulate_op: Op = register(
    Op(
        "cumulate",
        _infer_cumulate,
        _numpy_cumulate,
        Nest(_write_cumulate, reach=_reach, alone=_is_alone),
        Rules(_cumulate_jvp, _cumulate_vjp),
        attributes=("combiner", "axis", "reverse"),
        batch=Leading(raised=("axis",)),
        doc="Each element combined with all before it along `axis` (after it, if `reverse`), in "
        "order. NaN propagates. Of elements that tie the last takes the derivative of an extremum, "
        "and of infinite ones that of a logarithm of sums.",
    )
)


def _infer_recurrence(a: Type, b: Type, axis: int, reverse: bool) -> Type:
    if a is not b or not isinstance(a, TensorType) or dtypes.kind(a.dtype) not in "iuf":
        raise GraphError(f"recurrence needs two tensors of numbers of one type, got {a} and {b}")
    if not 0 <= axis < a.ndim:
        raise GraphError(f"recurrence of {a} along axis {axis}")
    return a


recurrence_op: Op = register(
    Op(
        "recurrence",
        _infer_recurrence,
        _numpy_recurrence,
        Nest(_write_recurrence, reach=_reach, alone=_is_alone),
        Rules(_recurrence_jvp, _recurrence_vjp),
        attributes=("axis", "reverse"),
        batch=Leading(raised=("axis",)),
        doc="z[i] = a[i] z[i-1] + b[i] along `axis`, with z[-1] = 0; from the end if `reverse`.",
    )
)

# -- the surface -----------------------------------------------------------------------------------


_IDENTITIES = {"add": 0, "mul": 1, "logaddexp": float("-inf")}


def _identity(combiner: str, x: Node) -> Any:
    if combiner in _IDENTITIES:
        return _IDENTITIES[combiner]
    return lowest(combiner, x.dtype).item()


@surface
def cumulate(
    x: Any, combiner: str, axis: int = -1, reverse: bool = False, exclusive: bool = False
) -> Node:
    """Each element of x combined with all before it along `axis`; x's shape and dtype.

    `combiner`: "add", "mul", "max", "min" or "logaddexp". With `reverse` it runs from the end; with
    `exclusive` an element is left out of its own result, and the first is the combiner's identity.
    """
    node = as_node(x)
    axis = normalize_axis(axis, node, "cumulate")
    made = cumulate_op(node, combiner=combiner, axis=axis, reverse=bool(reverse))
    if not exclusive:
        return made
    return shifted(made, axis, bool(reverse), _identity(combiner, node))


def _flat(x: Node, axis: int | None, name: str) -> tuple[Node, int]:
    """NumPy's default: the elements of the whole array in C order."""
    from graphc.ops.movement import reshape

    if axis is None:
        return (x if x.ndim == 1 else reshape(x, (x.size,))), 0
    return x, normalize_axis(axis, x, name)


def _running(name: str, combiner: str, x: Any, axis: Any, dtype: Any, out: Any = None) -> Node:
    refuse_out(name, out)
    node = as_node(x)
    if combiner in ("add", "mul"):
        node = cast(node, dtypes.sum_dtype(node.dtype) if dtype is None else dtype)
    if dtypes.kind(node.dtype) == "b":
        raise GraphError(
            f"{name} is not defined for dtype bool\n" + describe([node]) + "\nCast it: x.astype"
        )
    node, where = _flat(node, axis, name)
    return cumulate_op(node, combiner=combiner, axis=where, reverse=False)


@surface
def cumsum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Node:
    """The running sum along `axis` (None: of the flattened x), in the dtype that `sum` uses."""
    return _running("cumsum", "add", x, axis, dtype, out)


@surface
def cumprod(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Node:
    """The running product along `axis` (None: of the flattened x), in the dtype of `prod`."""
    return _running("cumprod", "mul", x, axis, dtype, out)


@surface
def cummax(x: Any, axis: int | None = None) -> Node:
    """The running maximum along `axis` (None: of the flattened x); NaN from the first NaN on."""
    return _running("cummax", "max", x, axis, None)


@surface
def cummin(x: Any, axis: int | None = None) -> Node:
    """The running minimum along `axis` (None: of the flattened x); NaN from the first NaN on."""
    return _running("cummin", "min", x, axis, None)


@surface
def logcumsumexp(x: Any, axis: int | None = None) -> Node:
    """log(cumsum(exp(x))) along `axis` (None: of the flattened x), without overflow."""
    node = as_node(x)
    return _running(
        "logcumsumexp", "logaddexp", cast(node, dtypes.float_of(node.dtype)), axis, None
    )


@surface
def recurrence(a: Any, b: Any, axis: int = -1, reverse: bool = False) -> Node:
    """z with z[i] = a[i] z[i-1] + b[i] along `axis`, z[-1] being 0; a and b broadcast.

    Exponential smoothing, discounted sums and diagonal state-space models are of this form.
    """
    from graphc.ops.operands import operands

    left, right = broadcast_together("recurrence", operands("recurrence", a, b, kinds="iuf"))
    where = normalize_axis(axis, right, "recurrence")
    return recurrence_op(left, right, axis=where, reverse=bool(reverse))
