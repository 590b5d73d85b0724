"""In which order are the elements, and where does a value belong?  Sorting and searching.

One op sorts lines along the last axis, stably, and gives values and positions: NaN is the largest,
and -0.0 equals 0.0, as in NumPy. `sorting_kernel` says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, dim_min
from graphc.errors import GraphError
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, no_derivative, register
from graphc.ops.operands import as_node, cast, constant, describe, normalize_axis
from graphc.ops.sorting_kernel import write_sort
from graphc.ops.special import project
from graphc.tensor import surface
from graphc.types import TensorType, TupleType, Type


def _infer_sort(x: Type, descending: bool) -> Type:
    assert isinstance(x, TensorType)
    if x.ndim == 0 or dtypes.kind(x.dtype) not in "biuf":
        raise GraphError(f"sort of {x}")
    return TupleType((x, TensorType("int64", x.shape)))


def _numpy_sort(x: Any, descending: bool) -> Any:
    keys = dtypes.widened(x)
    if descending:  # stable: sort the other way round from the other end
        turned = np.argsort(keys[..., ::-1], axis=-1, kind="stable")[..., ::-1]
        order = x.shape[-1] - 1 - turned
    else:
        order = np.argsort(keys, axis=-1, kind="stable")
    return np.take_along_axis(x, order, -1), order.astype("int64")


# -- derivatives -----------------------------------------------------------------------------------


def _sort_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    from graphc.ops.indexing import take_along_axis

    return [take_along_axis(tangents[0], project(node, 1), -1), None]


def _sort_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    from graphc.ops.cumulative import add_along_axis

    if cotangents[0] is None:
        return [None]
    return [add_along_axis(project(node, 1), cotangents[0], node.args[0].ndim - 1)]


sort_op: Op = register(
    Op(
        "sort",
        _infer_sort,
        _numpy_sort,
        Nest(write_sort, stored=(0,)),
        Rules(_sort_jvp, _sort_vjp),
        attributes=("descending",),
        batch=Leading(),
        result_names=("values", "positions"),
        doc="The elements of each line along the last axis in order, and where each was. Stable. "
        "NaN is larger than every number; -0.0 equals 0.0.",
    )
)


# -- searching -------------------------------------------------------------------------------------

# With so many elements of a line a value is compared one by one.
MOST_COUNTED = 16


def _infer_search(line: Type, values: Type, right: bool) -> Type:
    assert isinstance(line, TensorType) and isinstance(values, TensorType)
    if line.ndim != 1 or line.dtype != values.dtype or dtypes.kind(line.dtype) not in "biuf":
        raise GraphError(f"searchsorted of {values} in {line}")
    return TensorType("int64", values.shape)


def _numpy_search(line: Any, values: Any, right: bool) -> Any:
    side: Literal["left", "right"] = "right" if right else "left"
    return np.asarray(np.searchsorted(dtypes.widened(line), dtypes.widened(values), side), "int64")


def _write_search(nest: Any, right: bool) -> None:
    (length,), shape = nest.shapes
    if not isinstance(length, int):
        _write_search_of_any_length(nest, right)
        return
    work = MOST_COUNTED + 8 * length.bit_length()
    with nest.lines(shape or (1,), work, lanes=True) as (lane, at):
        index = at if shape else ()
        found = _found(lane, lane.read(1, index), length, right)
        lane.store(nest.results[0], index, lane.k.convert(found, "int64"))


def _found(lane: Any, value: Any, length: int, right: bool) -> Any:
    """How many elements of a line belong before a value: how many pieces of it do is counted, and
    the piece in which the value lies is halved. What lies beyond the line is not passed, whatever
    is read in its place.
    """
    k = lane.k
    dtype = "int32" if length < 1 << 30 else "int64"
    halvings = max(0, (length // (MOST_COUNTED + 1)).bit_length())
    piece, now = 1 << halvings, k.const(0, dtype)
    for last in range(piece - 1, length, piece):
        before = _goes_before(k, lane.read(0, (last,)), value, right)
        now = k.add(now, k.select(before, k.const(piece, dtype), k.const(0, dtype)))
    for power in reversed(range(halvings)):
        ahead = k.add(now, k.const(1 << power, dtype))
        place = k.sub(k.min(ahead, k.const(length, dtype)), k.const(1, dtype))
        passed = lane.read(0, (k.convert(place, "int64"),))
        inside = k.le(ahead, k.const(length, dtype))
        goes = k.and_(inside, _goes_before(k, passed, value, right))
        now = k.select(goes, ahead, now)
    return now


def _goes_before(k: Any, element: Any, value: Any, right: bool) -> Any:
    """Whether an element of a line stands before a value that is put in, on the right of equals."""
    if right and value.is_float:  # whether the value is NaN is the same for all elements
        return k.or_(k.ge(value, element), k.ne(value, value))
    return k.not_(_before(k, value, element)) if right else _before(k, element, value)


def _write_search_of_any_length(nest: Any, right: bool) -> None:
    (result,), (length,) = nest.results, nest.shapes[0]
    shape = nest.shapes[1]
    steps = _halvings(length)
    held = nest.scratch("int64", (256,))
    with nest.lines(shape or (1,), 8 * 24, lanes=True) as (lane, at):
        index = at if shape else ()
        value = lane.read(1, index)
        lane.store(held, (lane.offset,), lane.k.const(0, "int64"))
        with lane.loop("serial", 0, steps) as halving:
            k = halving.k
            one = k.const(1, "int64")
            reach = k.shl(one, halving.position(steps - 1 - halving.index))
            now = halving.load(held, (lane.offset,))
            ahead = k.add(now, reach)
            inside = k.le(ahead, halving.position(length))
            passed = halving.read(0, (k.sub(ahead, 1),), inside)
            step = k.select(k.and_(inside, _goes_before(k, passed, value, right)), ahead, now)
            halving.store(held, (lane.offset,), step)
        lane.store(result, index, lane.load(held, (lane.offset,)))


def _halvings(length: Extent) -> Extent:
    """At least the bits of a length that is a symbol: a multiple of 8."""
    return sum((8 * dim_min(1, length // 256**byte) for byte in range(1, 6)), 8)


def _before(k: Any, x: Any, y: Any) -> Any:
    """Whether x belongs before y: NaN after every number."""
    if x.dtype == "bool":
        return k.and_(k.not_(x), y)
    less = k.lt(x, y)
    return k.or_(less, k.and_(k.ne(y, y), k.eq(x, x))) if x.is_float else less


def _batch_search(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """One line serves all values; a line for each is searched in turn."""
    if mapped[0]:
        return transform.looped(node, args, mapped, size)
    return [search_op(*args, **node.attrs)]


search_op: Op = register(
    Op(
        "searchsorted",
        _infer_search,
        _numpy_search,
        Nest(_write_search, stored=(0,)),
        no_derivative("a position does not vary smoothly"),
        attributes=("right",),
        batch=_batch_search,
        doc="How many elements of a sorted line belong before each value: those that are less, or "
        "not greater if `right`.",
    )
)

# -- the surface -----------------------------------------------------------------------------------


def _refuse_options(name: str, kind: Any, order: Any, stable: Any) -> None:
    if order is not None:
        raise GraphError(f"{name}: `order` names fields of records, which graphc does not have")
    kinds = (None, "quicksort", "mergesort", "heapsort", "stable")
    if kind not in kinds:
        raise GraphError(f"{name}: kind is one of {kinds[1:]}, got {kind!r}; every one is stable")


def sorted_lines(x: Any, axis: Any, name: str, descending: bool = False) -> tuple[Node, Node, int]:
    """Values and positions sorted along an axis that was moved to the end, and where it was."""
    from graphc.ops.movement import reshape, swapaxes

    node = as_node(x)
    if axis is None:
        node, axis = reshape(node, (node.size,)), 0
    if node.ndim == 0:
        raise GraphError(f"{name} needs an array of rank 1 or more\n" + describe([node]))
    where = normalize_axis(axis, node, name)
    moved = node if where == node.ndim - 1 else swapaxes(node, where, -1)
    both = sort_op(moved, descending=descending)
    return project(both, 0), project(both, 1), where


def _back(x: Node, axis: int) -> Node:
    from graphc.ops.movement import swapaxes

    return x if axis == x.ndim - 1 else swapaxes(x, axis, -1)


@surface
def sort(
    x: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Node:
    """x sorted along `axis` (None: the flattened x), NaN last. Every `kind` is a stable one."""
    _refuse_options("sort", kind, order, stable)
    values, _, where = sorted_lines(x, axis, "sort")
    return _back(values, where)


@surface
def argsort(
    x: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Node:
    """The positions (int64) that sort x along `axis`; equal elements keep their order."""
    _refuse_options("argsort", kind, order, stable)
    _, positions, where = sorted_lines(x, axis, "argsort")
    return _back(positions, where)


@surface
def lexsort(keys: Any, axis: int = -1) -> Node:
    """The positions (int64) that sort by several keys along `axis`, by the last one first: rows of
    an array or a sequence of arrays of one shape.
    """
    from graphc.ops.indexing import take_along_axis

    rows = [as_node(key) for key in keys]
    if not rows or any(row.shape != rows[0].shape for row in rows):
        raise GraphError("lexsort needs keys of one shape\n" + describe(rows))
    axis = normalize_axis(axis, rows[0], "lexsort")
    order = argsort(rows[0], axis)
    for row in rows[1:]:
        order = take_along_axis(order, argsort(take_along_axis(row, order, axis), axis), axis)
    return order


def _check_kth(kth: Any, x: Node, axis: int | None, name: str) -> None:
    size = x.size if axis is None else x.shape[normalize_axis(axis, x, name)]
    for position in kth if isinstance(kth, (tuple, list)) else (kth,):
        if not isinstance(position, (int, np.integer)) or isinstance(position, bool):
            raise GraphError(f"{name}: kth is an integer or several, got {kth!r}")
        if isinstance(size, int) and not -size <= position < size:
            raise GraphError(
                f"{name}: kth {position} is out of range for extent {size}\n" + describe([x])
            )


@surface
def partition(x: Any, kth: Any, axis: int | None = -1) -> Node:
    """x with element `kth` where it would be in order, none before it greater, none after it less.

    The whole line is sorted, which is one of the orders that NumPy allows.
    """
    _check_kth(kth, as_node(x), axis, "partition")
    return sort(x, axis)


@surface
def argpartition(x: Any, kth: Any, axis: int | None = -1) -> Node:
    """The positions that `partition` takes the elements from."""
    _check_kth(kth, as_node(x), axis, "argpartition")
    return argsort(x, axis)


@surface
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Node:
    """Where in the sorted line `a` (rank 1) each element of v would be inserted to keep the order.

    `side`: "left" puts it before equal elements, "right" after them. NaN belongs at the end.
    """
    from graphc.ops.indexing import take

    if side not in ("left", "right"):
        raise GraphError(f"searchsorted: side is 'left' or 'right', got {side!r}")
    line = as_node(a)
    if line.ndim != 1:
        raise GraphError(
            "searchsorted: the sorted array has rank 1; compare and sum for several lines\n"
            + describe([line])
        )
    if sorter is not None:
        line = take(line, sorter)
    from graphc.ops.operands import common_dtype

    dtype = common_dtype("searchsorted", [line, v])
    values = constant(v, dtype) if type(v) in (bool, int, float) else cast(as_node(v), dtype)
    return search_op(cast(line, dtype), values, right=side == "right")


@surface
def digitize(x: Any, bins: Any, right: bool = False) -> Node:
    """For each element of x the bin that it lies in: i if bins[i-1] <= x < bins[i].

    `bins` is monotonic; constants may fall, what is only known at run time must not. With `right`
    the upper edge belongs to the bin.
    """
    from graphc.ops.movement import flip
    from graphc.ops.operands import constant_op

    edges = as_node(bins)
    if edges.ndim != 1:
        raise GraphError("digitize: bins have rank 1\n" + describe([edges]))
    side = "left" if right else "right"
    if edges.op is not constant_op:
        return searchsorted(edges, x, side)
    steps = np.diff(edges.attrs["value"].array)
    if np.any(steps < 0) and np.any(steps > 0):
        raise GraphError("digitize: bins must rise or fall\n" + describe([edges]))
    if not np.any(steps < 0):
        return searchsorted(edges, x, side)
    size = edges.shape[0]
    return size - searchsorted(flip(edges), x, side)
