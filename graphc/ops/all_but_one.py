"""What is, for each element, the product of all others?  The derivative of a product.

The whole product over the element is quick, and wrong where elements are 0: those are counted. A
formula of choices like that has the right value and wrong derivatives, for a choice on 0 does not
move. So the op has a derivative of its own: that of the running products from both ends, which are
exact wherever the zeros lie, and have all further derivatives.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import product
from graphc.graph import Graph, parameter
from graphc.lowering import Compose
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import like
from graphc.ops.reduce import prod_op, remaining, spread, sum_op
from graphc.ops.special import where_op
from graphc.types import TensorType, Type


def _build(x: Node, axes: tuple[int, ...]) -> Node:
    zero = x == like(x, 0)
    filled = where_op(zero, like(x, 1), x)
    rest = spread(prod_op(filled, axes=axes), x.shape, axes)
    count = spread(sum_op(where_op(zero, like(x, 1), like(x, 0)), axes=axes), x.shape, axes)
    none, one = like(x, 0), like(x, 1)
    if_zero = where_op(count == one, rest, none)
    return where_op(zero, if_zero, where_op(count == none, rest / filled, none))


def _numpy(x: Any, axes: tuple[int, ...]) -> Any:
    wide = dtypes.widened(x)
    zero = wide == 0
    filled = np.where(zero, np.ones_like(wide), wide)
    with np.errstate(all="ignore"):
        rest = np.prod(filled, axis=axes, keepdims=True, dtype=wide.dtype).astype(x.dtype)
        count = zero.sum(axis=axes, keepdims=True)
        whole = np.where(count == 0, dtypes.widened(rest) / filled, 0)
        return np.where(zero, np.where(count == 1, rest, 0), whole).astype(x.dtype)


def _by_running_products(x: Node, axes: tuple[int, ...]) -> Node:
    """The same: the product of all before an element, times that of all behind it."""
    from graphc.ops.cumulative import cumulate_op, shifted
    from graphc.ops.movement import reshape, transpose

    order = (*remaining(x.ndim, axes), *axes)
    turned = transpose(x, order)
    kept = len(order) - len(axes)
    line = reshape(turned, (*turned.shape[:kept], product(turned.shape[kept:])))
    before, behind = (
        shifted(cumulate_op(line, combiner="mul", axis=kept, reverse=end), kept, end, 1)
        for end in (False, True)
    )
    back = reshape(before * behind, turned.shape)
    return transpose(back, tuple(order.index(axis) for axis in range(x.ndim)))


@functools.lru_cache(maxsize=256)
def _graph(type_: TensorType, axes: tuple[int, ...]) -> Graph:
    return Graph([type_], [_by_running_products(parameter(0, type_), axes)])


def _jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    (x,) = node.args
    graph = transform.jvp(_graph(x.type, node.attrs["axes"]), (0,))  # type: ignore[arg-type]
    return list(graph(x, tangents[0]))


def _vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    (x,) = node.args
    graph = transform.vjp(_graph(x.type, node.attrs["axes"]), (0,), (0,))  # type: ignore[arg-type]
    return list(graph(x, cotangents[0]))


def _infer(x: Type, axes: tuple[int, ...]) -> Type:
    return x


all_but_one_op: Op = register(
    Op(
        "all_but_one",
        _infer,
        _numpy,
        Compose(_build),
        Rules(_jvp, _vjp),
        attributes=("axes",),
        batch=Leading(raised=("axes",)),
        doc="For each element the product of all others along the axes, exact with zeros, in all "
        "derivatives, too.",
    )
)
