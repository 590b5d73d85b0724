"""How does the kernel of a sort go about it?  In lanes, by counting, or by radix.

Many lines that are not long are sorted one in each lane, by a network of comparisons
(`sorting_network`). A few short ones by counting: the place of an element is the number of elements
before it, which every lane finds for its own element with no word from another. A long one by
radix: from the least significant digit to the most, each pass moves the keys, in order, to where
their digit belongs; the time is proportional to the length. All give what a stable sort does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.ops.sorting_network import padded, sort_in_lanes
from graphc.ops.sorting_words import Values, bits_of, key_of, value_of, words_for

# The longest line that is sorted by counting: longer ones are sorted by radix.
SHORT = 96
# The longest lines that are sorted in lanes, by the words of an element, and how many lines it
# takes to do that. The lanes of a task, side by side, are a line of memory.
NETWORK = {1: 4096, 2: 256}
MANY_LINES = 16
LINE_BYTES = 64
# They are read and written in pieces of so many elements, each of which lies in a line of memory.
PIECE = 64
# A pass of the radix sort looks at so many bits. Of so many elements at more, where it makes fewer
# passes over keys alone: their counts are paid for, and stay in the first level of cache.
DIGIT = 8
LONG_DIGIT = 11
MANY = 1 << 13


def write_sort(nest: Any, descending: bool) -> None:
    """Lines as tasks. Where the length is a symbol both ways are written, and one runs no loop."""
    shape = nest.shapes[0]
    length = shape[-1]
    known = isinstance(length, int)
    lines = product(shape[:-1])
    if known and not (isinstance(lines, int) and lines < MANY_LINES):
        words = words_for(nest.dtypes[0], nest.results[1] is not None, descending, length)
        if length <= NETWORK[len(words.names)]:
            _Lanes(nest, length, lines, words).write()
            return
    long: Extent = int(length > SHORT) if known else dim_min(1, length // (SHORT + 1))
    with nest.lines(shape[:-1], 32 * length, lanes=False) as (line, at):
        if long != 1:
            _sort_by_counting(nest, line, at, length, length * (1 - long), descending)
        if long != 0:
            _Radix(nest, line, at, length, descending).write(long)


# -- in lanes --------------------------------------------------------------------------------------


class _Lanes:
    """A task takes a few lines to scratch, where each lane has one of its own, sorts them there,
    and writes one after the other.
    """

    def __init__(self, nest: Any, length: int, lines: Extent, words: Values) -> None:
        self.nest, self.length, self.lines, self.words = nest, length, lines, words
        self.shape = nest.shapes[0]
        self.lanes = _lanes(lines, self.words)
        shape = (padded(length), self.lanes)
        self.arrays = [nest.scratch(name, shape) for name in self.words.names]

    def write(self) -> None:
        inner = self.lanes * self.length * 8
        with self.nest.parallel(ceildiv(self.lines, self.lanes), inner) as task:
            start = task.index * self.lanes
            whole = isinstance(self.lines, int) and self.lines % self.lanes == 0
            count = self.lanes if whole else dim_min(self.lines - start, self.lanes)
            self._take(task, start, count)
            task.barrier()
            with task.loop("vector", 0, self.lanes) as lane:
                self._sort(lane, start, count)
            task.barrier()
            self._give(task, start, count)

    def _at(self, line: Extent, place: Any) -> Any:
        return (*self.nest.unraveled(line, self.shape[:-1]), place)

    def _store(self, loop: Any, place: Any, lane: Extent, item: tuple[Any, ...]) -> None:
        for array, word in zip(self.arrays, item, strict=True):
            loop.store(array, (place, lane), word)

    def _take(self, task: Any, start: Extent, count: Extent) -> None:
        with (
            _pieces(task, self.length) as every,
            every.loop("vector", 0, count, within=(0, self.lanes)) as lane,
        ):
            value = lane.read(0, self._at(start + lane.index, every.index))
            item = self.words.packed(lane, value, every.index)
            self._store(lane, every.index, lane.index, item)
        whole = padded(self.length)
        no_line, no_element = (0, self.length, count), (self.length, whole, 0)
        for first, last, free in (no_line, no_element):
            if free == self.lanes or first == last:
                continue
            with (
                task.loop("serial", first, last) as beyond,
                beyond.loop("vector", free, self.lanes, within=(0, self.lanes)) as lane,
            ):
                self._store(lane, beyond.index, lane.index, self.words.last(lane.k))

    def _sort(self, lane: Any, start: Extent, count: Extent) -> None:
        words, here = self.words, lane.index
        if not words.loses_order:
            sort_in_lanes(lane, self.arrays, here, self.length, words.prepared)
            return
        (array,) = self.arrays
        live = lane.k.lt(lane.position(here), lane.position(count))
        order = _Equals(self.nest, lane, here, self.lanes, words.descending)
        with lane.loop("serial", 0, self.length) as each:
            word = each.load(array, (each.index, here))
            counts = order.counted(each, words.value(each.k, (word,)), self.length)
        order.begin(self.length, [each.total(count) for count in counts], live)
        sort_in_lanes(lane, self.arrays, here, self.length, words.prepared)
        with lane.loop("serial", 0, self.length) as each:
            value = each.read(0, self._at(start + here, each.index), live)
            (word,) = words.packed(each, value, each.index)
            order.place(
                each,
                value,
                lambda place, mask: each.store(array, (place, here), word, mask),
            )

    def _give(self, task: Any, start: Extent, count: Extent) -> None:
        values, order = self.nest.results
        with (
            task.loop("serial", 0, -(-self.length // PIECE)) as piece,
            piece.loop("serial", 0, count, within=(0, self.lanes)) as line,
            line.loop("vector", *_piece(piece, self.length), within=(0, self.length)) as lane,
        ):
            item = tuple(lane.load(a, (lane.index, line.index)) for a in self.arrays)
            at = self._at(start + line.index, lane.index)
            position = self.words.position(lane.k, item)
            if values is not None:
                value = self.words.value(lane.k, item)
                if value is None:
                    value = lane.read(0, self._at(start + line.index, position))
                lane.store(values, at, value)
            if order is not None:
                lane.store(order, at, position)


def _lanes(lines: Extent, words: Values) -> int:
    """Lanes whose records are a line of memory, but not many more than there are lines. Of pairs
    twice as many, so that they are not taken two vectors at a time, for which registers would not
    do.
    """
    lanes = len(words.names) * (LINE_BYTES * 8 // bits_of(words.names[0]))
    while isinstance(lines, int) and lanes // 2 >= max(lines, MANY_LINES // 2):
        lanes //= 2
    return lanes


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


class _Equals:
    """Equal floats that are not the same: zeros of both signs, and NaN. Sorted by value alone they
    come in any order, and a NaN as another one; what they were is read from the line once more, if
    there is a NaN or a -0.0 in it.
    """

    def __init__(self, nest: Any, line: Any, lane: Extent, lanes: int, descending: bool) -> None:
        """`line` is the loop in which a line is sorted: by itself, or in one of so many lanes."""
        self.line, self.lane, self.descending = line, lane, descending
        # Where the next zero belongs, and the next NaN.
        self.next = [nest.scratch("int64", (lanes,)) for _ in range(2)]

    def counted(self, each: Any, value: Any, length: Extent) -> list[Any]:
        """Accumulators of the elements that come before zeros, of those that are NaN, and of those
        that are either NaN or -0.0.
        """
        k, bits = each.k, bits_of(value.dtype)
        short = isinstance(length, int) and length < 1 << 31
        name = f"int{max(32, bits)}" if short else "int64"
        before = k.gt(value, 0.0) if self.descending else k.lt(value, 0.0)
        is_nan = k.ne(value, value)
        is_negative_zero = k.eq(k.bitcast(value, f"int{bits}"), -(1 << (bits - 1)))
        conditions = (before, is_nan, k.or_(is_nan, is_negative_zero))
        return [each.accumulate("add", k.convert(c, name)) for c in conditions]

    def begin(self, length: Extent, counts: list[Any], live: Any = None) -> None:
        """Find the first places, from what has been counted; no line is where it is not `live`."""
        line, k = self.line, self.line.k
        before, nans, special = (k.convert(count, "int64") for count in counts)
        firsts = [k.add(nans, before), k.const(0, "int64")]
        if not self.descending:
            firsts = [before, k.sub(line.position(length), nans)]
        for array, first in zip(self.next, firsts, strict=True):
            line.store(array, (self.lane,), first)
        self.live, none = live, k.eq(special, 0)
        self.none = none if live is None else k.or_(none, k.not_(live))

    def place(self, each: Any, value: Any, store: Callable[[Any, Any], None]) -> None:
        """Put an element, of all in order, where it belongs, if it is a zero or NaN."""
        k = each.k
        kinds = k.eq(value, 0.0), k.ne(value, value)
        for array, belongs in zip(self.next, kinds, strict=True):
            belongs = belongs if self.live is None else k.and_(belongs, self.live)
            place = each.load(array, (self.lane,))
            store(place, belongs)
            each.store(array, (self.lane,), k.add(place, k.convert(belongs, "int64")))
        each.until(self.none)


# -- a line by itself ------------------------------------------------------------------------------


def _sort_by_counting(
    nest: Any, line: Any, at: Any, length: Extent, stop: Extent, descending: bool
) -> None:
    """Every lane counts the elements that belong before its own."""
    with line.loop("vector", 0, stop, within=(0, length)) as lane:
        k, value = lane.k, lane.read(0, (*at, lane.index))
        mine, here = key_of(k, value, descending), lane.position(lane.index)
        with lane.loop("serial", 0, length) as each:
            k = each.k
            theirs = key_of(k, each.read(0, (*at, each.index)), descending)
            earlier = k.lt(each.position(each.index), here)
            before = k.or_(k.lt(theirs, mine), k.and_(earlier, k.eq(theirs, mine)))
            counted = each.accumulate("add", k.convert(before, "int64"))
        place = each.total(counted)
        values, order = nest.results
        if values is not None:
            lane.store(values, (*at, place), value)
        if order is not None:
            lane.store(order, (*at, place), here)


class _Radix:
    """Count the digits of all passes at once, turn counts into first places, then move the keys,
    with where they were, if that is wanted.
    """

    def __init__(self, nest: Any, line: Any, at: Any, length: Extent, descending: bool) -> None:
        self.nest, self.line, self.at = nest, line, at
        self.length, self.descending = length, descending
        self.dtype = nest.dtypes[0]
        bits = bits_of(self.dtype)
        known = isinstance(length, int)
        self.values, self.order = nest.results
        pays = bits >= 32 and known and length >= MANY and self.order is None
        self.digit = LONG_DIGIT if pays else DIGIT
        self.buckets = 2**self.digit
        self.passes = ceildiv(bits, self.digit)
        self.place = "uint32" if known and length < 1 << 31 else "int64"
        self.counts = nest.scratch(self.place, (self.passes * self.buckets,))
        held = min(2, self.passes - 1)
        self.keys = [nest.scratch(f"uint{bits}", (length,)) for _ in range(held)]
        kept = held if self.order is not None else 0
        self.origins = [nest.scratch(self.place, (length,)) for _ in range(kept)]

    def write(self, long: Extent) -> None:
        """The passes, where `long` is 1; none where it is 0."""
        self._count(self.length * long, long)
        for turn in range(self.passes):
            with self.line.loop("serial", 0, self.length * long, within=(0, self.length)) as move:
                self._move(move, turn)
        if self.values is not None and "float" in self.dtype:
            self._restore(self.length * long)

    def _count(self, stop: Extent, long: Extent) -> None:
        line, counts, total = self.line, self.counts, self.passes * self.buckets
        with line.loop("serial", 0, total * long, within=(0, total)) as clear:
            clear.store(counts, (clear.index,), clear.k.const(0, self.place))
        with line.loop("serial", 0, stop, within=(0, self.length)) as every:
            key = self._key(every, every.index)
            for turn in range(self.passes):
                bucket = self._bucket(every.k, key, turn)
                every.store(counts, (bucket,), every.k.add(every.load(counts, (bucket,)), 1))
        with (
            line.loop("serial", 0, self.passes * long, within=(0, self.passes)) as every,
            every.loop("serial", 1, self.buckets) as sums,
        ):
            here = every.index * self.buckets + sums.index
            summed = sums.k.add(sums.load(counts, (here - 1,)), sums.load(counts, (here,)))
            sums.store(counts, (here,), summed)

    def _key(self, loop: Any, position: Extent) -> Any:
        return key_of(loop.k, loop.read(0, (*self.at, position)), self.descending)

    def _bucket(self, k: Any, key: Any, turn: int) -> Any:
        digit = k.and_(k.shr(key, turn * self.digit), self.buckets - 1)
        return k.add(k.convert(digit, "int64"), turn * self.buckets)

    def _move(self, move: Any, turn: int) -> None:
        k, i = move.k, self.length - 1 - move.index  # counts are last places: move from the end
        source, target = (turn - 1) % 2, turn % 2
        key = move.load(self.keys[source], (i,)) if turn else self._key(move, i)
        bucket = self._bucket(k, key, turn)
        place = k.sub(move.load(self.counts, (bucket,)), 1)
        move.store(self.counts, (bucket,), place)
        place = k.convert(place, "int64")
        last = turn == self.passes - 1
        if self.order is not None:
            origin = move.load(self.origins[source], (i,)) if turn else None
            if last:
                origin = move.position(i) if origin is None else k.convert(origin, "int64")
                move.store(self.order, (*self.at, place), origin)
            else:
                origin = k.convert(move.position(i), self.place) if origin is None else origin
                move.store(self.origins[target], (place,), origin)
        if not last:
            move.store(self.keys[target], (place,), key)
        elif self.values is not None:
            value = value_of(k, key, self.dtype, self.descending)
            move.store(self.values, (*self.at, place), value)

    def _restore(self, stop: Extent) -> None:
        """Zeros and NaN as they were, which keys do not tell."""
        line, nest = self.line, self.nest
        equals = _Equals(nest, line, 0, 1, self.descending)
        with line.loop("vector", 0, stop, within=(0, self.length)) as lane:
            value = lane.read(0, (*self.at, lane.index))
            counts = equals.counted(lane, value, self.length)
        equals.begin(self.length, [lane.total(count) for count in counts])
        with line.loop("serial", 0, stop, within=(0, self.length)) as each:
            value = each.read(0, (*self.at, each.index))
            equals.place(
                each,
                value,
                lambda place, mask: each.store(self.values, (*self.at, place), value, mask),
            )


__all__ = ["MANY_LINES", "NETWORK", "SHORT", "write_sort"]
