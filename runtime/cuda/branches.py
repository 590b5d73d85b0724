"""Which launches of a run must come after which?

A launch waits for the last one that wrote what it touches, and if it writes, for those that have
read it since. What is left of the order of the plan is a graph of dependencies, by addresses: so it
holds for temporaries that take turns, and for arrays of the caller's that overlap.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.runtime.cuda.frame import Span


@dataclass
class _Piece:
    """Bytes with one history: who wrote them last, and who has read them since."""

    start: int
    end: int
    writer: int | None
    readers: set[int] = field(default_factory=set)


class Ledger:
    """What every launch so far has touched, by address."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []  # in order, none overlaps another

    def enter(self, number: int, spans: Iterable[Span]) -> frozenset[int]:
        """Note a launch; the numbers of those that it must come after."""
        listed = list(spans)
        needs: set[int] = set()
        for start, end, writes in listed:
            for piece in self._pieces[slice(*self._range(start, end))]:
                needs |= {piece.writer} if piece.writer is not None else set()
                needs |= piece.readers if writes else set()
        for start, end, writes in listed:
            self._note(number, start, end, writes)
        return frozenset(needs - {number})

    def _range(self, start: int, end: int) -> tuple[int, int]:
        """The positions of the pieces that overlap with an interval."""
        first = bisect.bisect_right(self._pieces, start, key=lambda piece: piece.end)
        last = bisect.bisect_left(self._pieces, end, key=lambda piece: piece.start)
        return first, max(first, last)

    def _note(self, number: int, start: int, end: int, writes: bool) -> None:
        first, last = self._range(start, end)
        found, at = [], start
        for piece in self._pieces[first:last]:
            before = _Piece(piece.start, start, piece.writer, set(piece.readers))
            after = _Piece(end, piece.end, piece.writer, set(piece.readers))
            found += [before] if piece.start < start else []
            if not writes:
                low, high = max(piece.start, start), min(piece.end, end)
                found += [_Piece(at, low, None, {number})] if at < low else []
                found.append(_Piece(low, high, piece.writer, piece.readers | {number}))
                at = high
            found += [after] if end < piece.end else []
        if writes:
            found.append(_Piece(start, end, number))
        elif at < end:
            found.append(_Piece(at, end, None, {number}))
        self._pieces[first:last] = sorted(found, key=lambda piece: piece.start)


def dependencies(launches: Iterable[Iterable[Span]]) -> list[frozenset[int]]:
    """For each launch the numbers of those that it must come after, as far as they are the last to
    touch what it touches.
    """
    ledger = Ledger()
    return [ledger.enter(number, spans) for number, spans in enumerate(launches)]


def longest_chain(needs: Sequence[frozenset[int]]) -> int:
    """How many launches there are of which each waits for the one before."""
    depth: list[int] = []
    for mine in needs:
        depth.append(1 + max((depth[other] for other in mine), default=0))
    return max(depth, default=0)


__all__ = ["Ledger", "dependencies", "longest_chain"]
