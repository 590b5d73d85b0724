"""How are many short lines sorted at once?  One in each lane, by a network of comparisons.

The network is Batcher's bitonic sorter (Sorting networks and their applications, 1968): which
elements are compared never depends on data, so that lanes with lines of their own go the same way.
Every comparison leaves the smaller element first; what pads a line to a power of two is larger than
any element, and stays behind it. Comparisons of several distances are done on a few elements at a
time that are loaded once and stored once.

An element is a record of one or two unsigned words, ordered by the first, then by the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Elements that are under way at once, by the words of one: what is compared fits into registers.
TOGETHER = {1: 16, 2: 8}

Record = tuple[Any, ...]


def padded(length: int) -> int:
    """The elements of a network for lines of so many: a power of two."""
    return 1 << max(1, (length - 1).bit_length())


def sort_in_lanes(loop: Any, words: Sequence[Any], lane: Any, length: int) -> None:
    """Sort what the scratch arrays `words`, of shape (padded(length), lanes), hold for `lane`."""
    whole = padded(length)
    together = min(whole, TOGETHER[len(words)])
    with loop.loop("serial", 0, -(-length // together)) as block:
        places = [block.index * together + i for i in range(together)]
        items = _load(block, words, lane, places)
        _store(block, words, lane, places, _sorted(block.k, items))
    size = 2 * together
    while size <= whole:
        _merge(loop, words, lane, length, size, together)
        size *= 2


def _sorted(k: Any, items: list[Record]) -> list[Record]:
    """A few elements in order."""
    size = 2
    while size <= len(items):
        blocks = [items[i : i + size] for i in range(0, len(items), size)]
        items = [item for block in blocks for item in _merged(k, block)]
        size *= 2
    return items


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


def _merge(
    loop: Any, words: Sequence[Any], lane: Any, length: int, size: int, together: int
) -> None:
    """Merge neighbours of half of `size` elements: first `together` elements at a time that lie
    mirrored in the halves, then what is nearer than those.
    """
    count = together // 2
    step = size // together
    with (
        loop.loop("serial", 0, -(-length // size)) as block,
        block.loop("serial", 0, step) as offset,
    ):
        first = block.index * size + offset.index
        last = block.index * size + (size - 1) - offset.index
        low = [first + i * step for i in range(count)]
        high = [last - i * step for i in range(count)]
        places = [*low, *reversed(high)]
        items = _load(offset, words, lane, places)
        _store(offset, words, lane, places, _merged(offset.k, items))
    while step > 1:
        # comparisons at step / 2 and less
        count = min(together, step)
        part = step // count
        with (
            loop.loop("serial", 0, -(-length // step)) as block,
            block.loop("serial", 0, part) as offset,
        ):
            first = block.index * step + offset.index
            places = [first + i * part for i in range(count)]
            items = _load(offset, words, lane, places)
            _store(offset, words, lane, places, _halved(offset.k, items))
        step = part


def _load(loop: Any, words: Sequence[Any], lane: Any, places: Sequence[Any]) -> list[Record]:
    return [tuple(loop.load(word, (place, lane)) for word in words) for place in places]


def _store(
    loop: Any, words: Sequence[Any], lane: Any, places: Sequence[Any], items: Sequence[Record]
) -> None:
    for place, item in zip(places, items, strict=True):
        for word, value in zip(words, item, strict=True):
            loop.store(word, (place, lane), value)


def _exchanged(k: Any, a: Record, b: Record) -> tuple[Record, Record]:
    """The smaller record and the larger one."""
    if len(a) == 1:
        return (k.min(a[0], b[0]),), (k.max(a[0], b[0]),)
    later = k.or_(k.lt(b[0], a[0]), k.and_(k.eq(b[0], a[0]), k.lt(b[1], a[1])))
    low = tuple(k.select(later, y, x) for x, y in zip(a, b, strict=True))
    high = tuple(k.select(later, x, y) for x, y in zip(a, b, strict=True))
    return low, high
