"""How are many short lines sorted at once?  One in each lane, by a network of comparisons.

The networks are Batcher's (Sorting networks and their applications, 1968): which elements are
compared never depends on data, so that lanes with lines of their own go the same way. A few
elements, which stay in registers, are sorted by merging odd and even ones, which takes the fewest
comparisons; longer runs are merged as bitonic sequences, whose comparisons lie at one distance at a
time. Every comparison leaves the smaller element first; what pads a line to a power of two is
larger than any element, and stays behind it. Comparisons of several distances are done on a few
elements at a time that are loaded once and stored once.

An element is a record of one or two words (`sorting_words`), ordered by the first, then by the
second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from graphc.ops.sorting_words import Record

# Elements that are under way at once: what is compared fits into registers, and where they lie a
# power of two apart, into the few places that a cache has for them.
TOGETHER = 8
# Elements that are sorted, or merged, as far as that goes, before the next are: with those of the
# other lanes, which share lines of memory with them, they stay in the first level of cache.
PART = 256


def padded(length: int) -> int:
    """The elements of a network for lines of so many: a power of two."""
    return 1 << max(1, (length - 1).bit_length())


def sort_in_lanes(
    loop: Any,
    words: Sequence[Any],
    lane: Any,
    length: int,
    prepared: Callable[[Any, Record], Record],
) -> None:
    """Sort what the scratch arrays `words`, of shape (padded(length), lanes), hold for `lane`.

    `prepared` makes what is compared of what is there.
    """
    network = _Network(words, lane, prepared)
    whole, part = padded(length), min(padded(length), PART)
    if whole == part:
        network.sort_part(loop, 0, length, whole)
        return
    parts = -(-length // part)
    with loop.loop("serial", 0, parts) as each:
        network.sort_part(each, each.index * part, part, part)
    size = 2 * part
    while size <= whole:
        step = network.mirrored(loop, 0, length, size)
        while step > part:
            step = network.halved(loop, 0, length, step)
        with loop.loop("serial", 0, parts) as each:
            network.finish(each, each.index * part, part, step)
        size *= 2


def comparisons(count: int) -> Iterator[tuple[int, int]]:
    """The pairs that sort so many elements, a power of two, in order: odd-even merges."""
    size = 1
    while size < count:
        step = size
        while step:
            for first in range(step % size, count - step, 2 * step):
                for i in range(first, first + min(step, count - first - step)):
                    if i // (2 * size) == (i + step) // (2 * size):
                        yield i, i + step
            step //= 2
        size *= 2


def _merged(k: Any, items: list[Record]) -> list[Record]:
    """Two halves in order become one: the first comparison mirrors the second half."""
    half = len(items) // 2
    pairs = [_exchanged(k, items[i], items[-1 - i]) for i in range(half)]
    low, high = [a for a, _ in pairs], [b for _, b in reversed(pairs)]
    return [*_halved(k, low), *_halved(k, high)]


def _halved(k: Any, items: list[Record]) -> list[Record]:
    """Comparisons at half the length, at half of that, down to neighbours."""
    items, half = list(items), len(items) // 2
    while half:
        for i in range(len(items)):
            if not i & half:
                items[i], items[i + half] = _exchanged(k, items[i], items[i + half])
        half //= 2
    return items


class _Network:
    """Passes over some elements of the scratch arrays, from `base` on, `length` of which matter."""

    def __init__(
        self, words: Sequence[Any], lane: Any, prepared: Callable[[Any, Record], Record]
    ) -> None:
        self.words, self.lane, self.prepared = words, lane, prepared

    def sort_part(self, loop: Any, base: Any, length: int, whole: int) -> None:
        """Sort `whole` elements: a few at a time, whose runs are merged."""
        together = min(whole, TOGETHER)
        with loop.loop("serial", 0, -(-length // together)) as block:
            places = [base + block.index * together + i for i in range(together)]
            items = [self.prepared(block.k, item) for item in self._load(block, places)]
            for i, j in comparisons(together):
                items[i], items[j] = _exchanged(block.k, items[i], items[j])
            self._store(block, places, items)
        size = 2 * together
        while size <= whole:
            self.finish(loop, base, length, self.mirrored(loop, base, length, size))
            size *= 2

    def mirrored(self, loop: Any, base: Any, length: int, size: int) -> int:
        """The first pass of a merge of neighbours of half of `size` elements: a few at a time that
        lie mirrored in the halves. Returns the distance from which on nothing is left to compare.
        """
        count, step = TOGETHER // 2, size // TOGETHER
        with (
            loop.loop("serial", 0, -(-length // size)) as block,
            block.loop("serial", 0, step) as offset,
        ):
            first = base + block.index * size + offset.index
            last = base + block.index * size + (size - 1) - offset.index
            low = [first + i * step for i in range(count)]
            high = [last - i * step for i in range(count)]
            places = [*low, *reversed(high)]
            self._store(offset, places, _merged(offset.k, self._load(offset, places)))
        return step

    def halved(self, loop: Any, base: Any, length: int, step: int) -> int:
        """A further pass, over what lies nearer than `step`. Returns what mirrored does."""
        count = min(TOGETHER, step)
        part = step // count
        with (
            loop.loop("serial", 0, -(-length // step)) as block,
            block.loop("serial", 0, part) as offset,
        ):
            first = base + block.index * step + offset.index
            places = [first + i * part for i in range(count)]
            self._store(offset, places, _halved(offset.k, self._load(offset, places)))
        return part

    def finish(self, loop: Any, base: Any, length: int, step: int) -> None:
        """All further passes of a merge."""
        while step > 1:
            step = self.halved(loop, base, length, step)

    def _load(self, loop: Any, places: Sequence[Any]) -> list[Record]:
        return [tuple(loop.load(w, (place, self.lane)) for w in self.words) for place in places]

    def _store(self, loop: Any, places: Sequence[Any], items: Sequence[Record]) -> None:
        for place, item in zip(places, items, strict=True):
            for word, value in zip(self.words, item, strict=True):
                loop.store(word, (place, self.lane), value)


def _exchanged(k: Any, a: Record, b: Record) -> tuple[Record, Record]:
    """The smaller record and the larger one. Of equal ones both are kept."""
    if len(a) == 1 and not a[0].is_float:
        return (k.min(a[0], b[0]),), (k.max(a[0], b[0]),)
    if len(a) == 1:  # as vector units choose between two floats
        earlier = k.lt(a[0], b[0])
        return (k.select(earlier, a[0], b[0]),), (k.select(earlier, b[0], a[0]),)
    later = k.or_(k.lt(b[0], a[0]), k.and_(k.eq(b[0], a[0]), k.lt(b[1], a[1])))
    low = tuple(k.select(later, y, x) for x, y in zip(a, b, strict=True))
    high = tuple(k.select(later, x, y) for x, y in zip(a, b, strict=True))
    return low, high
