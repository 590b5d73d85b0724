"""In which order are the elements, and where does a value belong?  Sorting and searching.

One op sorts lines along the last axis and gives values and positions. Its kernel knows three ways.
Many short lines are sorted one in each lane, by a network of comparisons (`sorting_network`). A few
short ones by counting: the place of an element is the number of elements before it, which every
lane finds for its own element with no word from another. A long one by radix: from the least
significant byte to the most, each pass moves the keys, in order, to where their byte belongs; the
time is proportional to the length. All are stable. Keys are integers in the order of the elements:
NaN is the largest, and -0.0 equals 0.0, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.errors import GraphError
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, no_derivative, register
from graphc.ops.operands import as_node, cast, constant, describe, normalize_axis
from graphc.ops.sorting_network import padded, sort_in_lanes
from graphc.ops.special import project
from graphc.tensor import surface
from graphc.types import TensorType, TupleType, Type

# The longest line that is sorted by counting: longer ones are sorted by radix.
SHORT = 96
# The longest lines that are sorted in lanes, how many lines it takes to do that, and the lanes.
NETWORK = 512
MANY_LINES = 16
LANES = 16
# They are read and written in pieces of so many elements, each of which lies in a line of memory.
PIECE = 64
# A pass of the radix sort looks at so many bits.
DIGIT = 8
BUCKETS = 2**DIGIT


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


# -- keys ------------------------------------------------------------------------------------------


def _bits(dtype: str) -> int:
    return 8 if dtype == "bool" else 16 if dtype == "bfloat16" else np.dtype(dtype).itemsize * 8


def _key(k: Any, value: Any, descending: bool) -> Any:
    """An unsigned integer in the order of the elements: equal keys for equal elements, the largest
    for NaN.
    """
    bits = _bits(value.dtype)
    name = f"uint{bits}"
    if value.dtype == "bool":
        key = k.convert(value, name)
    elif value.dtype.startswith("uint"):
        key = value
    elif value.dtype.startswith("int"):
        key = k.xor(k.bitcast(value, name), 1 << (bits - 1))
    else:
        key = _float_key(k, value, bits)
    return k.not_(key) if descending else key


def _float_key(k: Any, value: Any, bits: int) -> Any:
    """Negative numbers have their order turned, and lie below the positive ones."""
    signed = f"int{bits}"
    raw = k.bitcast(k.select(k.eq(value, 0.0), k.const(0.0, value.dtype), value), signed)
    turned = k.xor(raw, k.or_(k.shr(raw, bits - 1), -(1 << (bits - 1))))
    key = k.bitcast(turned, f"uint{bits}")
    return k.select(k.ne(value, value), k.const(2**bits - 1, f"uint{bits}"), key)


# -- the kernel ------------------------------------------------------------------------------------


def _write_sort(nest: Any, descending: bool) -> None:
    """Lines as tasks. Where the length is a symbol both ways are written, and one runs no loop."""
    shape = nest.shapes[0]
    length = shape[-1]
    known = isinstance(length, int)
    lines = product(shape[:-1])
    if known and length <= NETWORK and not (isinstance(lines, int) and lines < MANY_LINES):
        _sort_in_lanes(nest, length, lines, descending)
        return
    long: Extent = int(length > SHORT) if known else dim_min(1, length // (SHORT + 1))
    with nest.lines(shape[:-1], 32 * length, lanes=False) as (line, at):
        if long != 1:
            _sort_by_counting(nest, line, at, length, length * (1 - long), descending)
        if long != 0:
            _sort_by_radix(nest, line, at, length, long, descending)


def _sort_in_lanes(nest: Any, length: int, lines: Extent, descending: bool) -> None:
    """A task takes a few lines to scratch, where each lane has one of its own, sorts them there,
    and writes one after the other: keys with their positions behind them, where those are wanted or
    values cannot be made from keys.
    """
    shape, dtype = nest.shapes[0], nest.dtypes[0]
    values, order = nest.results
    is_float = "float" in dtype
    record = _Record(_bits(dtype), order is not None or is_float)
    words = [nest.scratch(word, (padded(length), LANES)) for word in record.words]
    with nest.parallel(ceildiv(lines, LANES), LANES * length * 8) as task:
        start = task.index * LANES
        stop = dim_min(lines, start + LANES)
        with (
            _pieces(task, length) as every,
            every.loop("vector", start, stop, within=(0, lines)) as lane,
        ):
            at = (*nest.unraveled(lane.index, shape[:-1]), every.index)
            key = _key(lane.k, lane.read(0, at), descending)
            item = record.packed(lane, key, every.index)
            for word, part in zip(words, item, strict=True):
                lane.store(word, (every.index, lane.index - start), part)
        for first, free in ((0, stop - start), (length, 0)):  # no line, and beyond the last element
            with (
                task.loop("serial", first, padded(length) if first else length) as beyond,
                beyond.loop("vector", free, LANES, within=(0, LANES)) as lane,
            ):
                for word, name in zip(words, record.words, strict=True):
                    most = lane.k.const(2 ** _bits(name) - 1, name)
                    lane.store(word, (beyond.index, lane.index), most)
        task.barrier()
        with task.loop("vector", 0, LANES) as lane:
            sort_in_lanes(lane, words, lane.index, length)
        task.barrier()
        with (
            task.loop("serial", 0, -(-length // PIECE)) as piece,
            piece.loop("serial", start, stop, within=(0, lines)) as line,
            line.loop("vector", *_piece(piece, length), within=(0, length)) as lane,
        ):
            item = tuple(lane.load(word, (lane.index, line.index - start)) for word in words)
            key, position = record.unpacked(lane.k, item)
            at = nest.unraveled(line.index, shape[:-1])
            if values is not None:
                made = (
                    lane.read(0, (*at, position))
                    if is_float
                    else _integer(lane.k, key, dtype, descending)
                )
                lane.store(values, (*at, lane.index), made)
            if order is not None:
                lane.store(order, (*at, lane.index), position)


def _piece(piece: Any, length: int) -> tuple[Extent, Extent]:
    """The positions of a piece of a line."""
    first = piece.index * PIECE
    return first, dim_min(length, first + PIECE)


@contextmanager
def _pieces(task: Any, length: int) -> Iterator[Any]:
    """Every position of a line, piece after piece."""
    with (
        task.loop("serial", 0, -(-length // PIECE)) as piece,
        piece.loop("serial", *_piece(piece, length), within=(0, length)) as every,
    ):
        yield every


class _Record:
    """A key and, if it is wanted, the position that breaks ties, as unsigned words: in one word,
    the position in the lower half, if they fit.
    """

    def __init__(self, bits: int, positions: bool) -> None:
        self.bits, self.positions = bits, positions
        self.half = max(16, bits) if positions and bits < 64 else 0
        name = f"uint{2 * self.half or bits}"
        self.words = [name, name] if positions and not self.half else [name]

    def packed(self, loop: Any, key: Any, position: Extent) -> tuple[Any, ...]:
        k, (name, *_), half = loop.k, self.words, self.half
        if not self.positions:
            return (key,)
        place = k.convert(loop.position(position), name)
        if not half:
            return key, place
        return (k.or_(k.shl(k.convert(key, name), half), place),)

    def unpacked(self, k: Any, item: tuple[Any, ...]) -> tuple[Any, Any]:
        """The key, and the position as int64 (None without)."""
        if not self.positions:
            return item[0], None
        if not self.half:
            return item[0], k.convert(item[1], "int64")
        key = k.convert(k.shr(item[0], self.half), f"uint{self.bits}")
        return key, k.convert(k.and_(item[0], 2**self.half - 1), "int64")


def _integer(k: Any, key: Any, dtype: str, descending: bool) -> Any:
    """The integer or bool that has a key."""
    bits = _bits(dtype)
    key = k.not_(key) if descending else key
    if dtype == "bool":
        return k.ne(key, 0)
    return key if dtype.startswith("uint") else k.bitcast(k.xor(key, 1 << (bits - 1)), dtype)


def _sort_by_counting(
    nest: Any, line: Any, at: Any, length: Extent, stop: Extent, descending: bool
) -> None:
    """Every lane counts the elements that belong before its own."""
    with line.loop("vector", 0, stop, within=(0, length)) as lane:
        k, value = lane.k, lane.read(0, (*at, lane.index))
        mine, here = _key(k, value, descending), lane.position(lane.index)
        with lane.loop("serial", 0, length) as each:
            k = each.k
            theirs = _key(k, each.read(0, (*at, each.index)), descending)
            earlier = k.lt(each.position(each.index), here)
            before = k.or_(k.lt(theirs, mine), k.and_(earlier, k.eq(theirs, mine)))
            counted = each.accumulate("add", k.convert(before, "int64"))
        place = each.total(counted)
        values, order = nest.results
        if values is not None:
            lane.store(values, (*at, place), value)
        if order is not None:
            lane.store(order, (*at, place), here)


def _sort_by_radix(
    nest: Any, line: Any, at: Any, length: Extent, long: Extent, descending: bool
) -> None:
    """Count the digits of all passes at once, turn counts into first places, then move the keys."""
    dtype = nest.dtypes[0]
    bits = _bits(dtype)
    passes = bits // DIGIT
    name = f"uint{bits}"
    counts = nest.scratch("int64", (passes * BUCKETS,))
    pairs = [
        (nest.scratch(name, (length,)), nest.scratch("int64", (length,)))
        for _ in range(min(2, passes - 1))
    ]

    def digit(k: Any, key: Any, turn: int) -> Any:
        return k.convert(k.and_(k.shr(key, turn * DIGIT), BUCKETS - 1), "int64")

    with line.loop("serial", 0, passes * BUCKETS * long, within=(0, passes * BUCKETS)) as clear:
        clear.store(counts, (clear.index,), clear.k.const(0, "int64"))
    with line.loop("serial", 0, length * long, within=(0, length)) as every:
        k = every.k
        key = _key(k, every.read(0, (*at, every.index)), descending)
        for turn in range(passes):
            bucket = k.add(digit(k, key, turn), turn * BUCKETS)
            every.store(counts, (bucket,), k.add(every.load(counts, (bucket,)), 1))
    with (
        line.loop("serial", 0, passes * long, within=(0, passes)) as every,
        every.loop("serial", 1, BUCKETS) as sums,
    ):
        here = every.index * BUCKETS + sums.index
        total = sums.k.add(sums.load(counts, (here - 1,)), sums.load(counts, (here,)))
        sums.store(counts, (here,), total)
    for turn in range(passes):
        with line.loop("serial", 0, length * long, within=(0, length)) as move:
            k, i = move.k, length - 1 - move.index  # counts are last places: move from the end
            if turn == 0:
                key = _key(k, move.read(0, (*at, i)), descending)
                origin = move.position(i)
            else:
                keys, origins = pairs[(turn - 1) % 2]
                key, origin = move.load(keys, (i,)), move.load(origins, (i,))
            bucket = k.add(digit(k, key, turn), turn * BUCKETS)
            place = k.sub(move.load(counts, (bucket,)), 1)
            move.store(counts, (bucket,), place)
            if turn < passes - 1:
                keys, origins = pairs[turn % 2]
                move.store(keys, (place,), key)
                move.store(origins, (place,), origin)
                continue
            values, order = nest.results
            if order is not None:
                move.store(order, (*at, place), origin)
            if values is not None:
                move.store(values, (*at, place), move.read(0, (*at, origin)))


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
        Nest(_write_sort, stored=(0,)),
        Rules(_sort_jvp, _sort_vjp),
        attributes=("descending",),
        batch=Leading(),
        result_names=("values", "positions"),
        doc="The elements of each line along the last axis in order, and where each was. Stable. "
        "NaN is larger than every number; -0.0 equals 0.0.",
    )
)


# -- searching -------------------------------------------------------------------------------------


def _infer_search(line: Type, values: Type, right: bool) -> Type:
    assert isinstance(line, TensorType) and isinstance(values, TensorType)
    if line.ndim != 1 or line.dtype != values.dtype or dtypes.kind(line.dtype) not in "biuf":
        raise GraphError(f"searchsorted of {values} in {line}")
    return TensorType("int64", values.shape)


def _numpy_search(line: Any, values: Any, right: bool) -> Any:
    side: Literal["left", "right"] = "right" if right else "left"
    return np.asarray(np.searchsorted(dtypes.widened(line), dtypes.widened(values), side), "int64")


def _write_search(nest: Any, right: bool) -> None:
    """From the largest power of two downwards: step ahead if what would be passed belongs before
    the value.
    """
    (result,), (length,) = nest.results, nest.shapes[0]
    shape = nest.shapes[1]
    steps = _halvings(length)
    rows = shape or (1,)
    held = nest.scratch("int64", (256,))
    with nest.lines(rows, 8 * (steps if isinstance(steps, int) else 24), lanes=True) as (lane, at):
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
            goes = k.not_(_before(k, value, passed)) if right else _before(k, passed, value)
            step = k.select(k.and_(inside, goes), ahead, now)
            halving.store(held, (lane.offset,), step)
        lane.store(result, index, lane.load(held, (lane.offset,)))


def _halvings(length: Extent) -> Extent:
    """At least the bits of a length; a multiple of 8 where it is a symbol."""
    if isinstance(length, int):
        return length.bit_length()
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
