"""Which arrays only have their axes in another order? Those are read as they lie in memory.

A transposed or Fortran-ordered array has all its elements in one run, in the order of other axes.
The program for any strides would reach across its rows, a line of memory for each element. But the
same graph over the array with its axes in the order of memory, turned back by a view, is a graph
like any other: sums along rows become sums along columns, and what must be turned is turned in
tiles. So a Function has variants for the orders that come, compiled when they do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.node import Node
from graphc.ops.movement import transpose
from graphc.ops.operands import symbol
from graphc.request import Request, prepare

# Bytes of an array from which on a variant pays for its slower call.
LEAST_BYTES = 1 << 18
# Orders for which a Function has variants. Others take the program for any strides.
MOST_ORDERS = 4

# For every argument the order of its axes in memory; None where it is C order.
Orders = tuple[tuple[int, ...] | None, ...]


def orders_of(arrays: Sequence[np.ndarray]) -> Orders | None:
    """The orders of arrays, if that of some large one is not C order. Gaps between rows do not
    count: what comes next in memory is along the last axis.
    """
    orders = [_order_of(array) for array in arrays]
    pairs = zip(arrays, orders, strict=True)
    large = any(order and array.nbytes >= LEAST_BYTES for array, order in pairs)
    return tuple(orders) if large else None


def _order_of(array: np.ndarray) -> tuple[int, ...] | None:
    if array.flags.c_contiguous or 0 in array.strides:
        return None
    steps = [abs(stride) for stride in array.strides]
    order = tuple(sorted(range(array.ndim), key=lambda axis: -steps[axis]))
    return None if order == tuple(range(array.ndim)) else order


def reordered(request: Request, orders: Orders) -> Request:
    """The same outputs, in a list, from arrays whose axes are in the order of memory."""
    symbols: list[Node] = []
    arguments: list[Node] = []
    for i, (type_, order) in enumerate(zip(request.graph.parameters, orders, strict=True)):
        shape = type_.shape if order is None else tuple(type_.shape[axis] for axis in order)  # type: ignore[union-attr]
        symbols.append(symbol(f"turned{i}", shape, type_.dtype))  # type: ignore[union-attr]
        back = None if order is None else [order.index(axis) for axis in range(len(order))]
        arguments.append(symbols[-1] if back is None else transpose(symbols[-1], back))
    outputs = list(request.graph(*arguments))
    made = prepare(symbols, outputs, request.options, name=request.name)
    made.names, made.origins = request.names, request.origins
    return made


__all__ = ["LEAST_BYTES", "MOST_ORDERS", "Orders", "orders_of", "reordered"]
