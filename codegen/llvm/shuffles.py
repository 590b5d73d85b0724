"""How do elements move between vectors?  By shuffles: parts, joins, transposes, rows woven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.values import Values

# A vector that a step makes: its place, the places of the two that it is made of, and which of
# their elements it has.
Exchange = tuple[int, tuple[int, int], Sequence[int]]


def exchanges(count: int, width: int) -> Iterator[list[Exchange]]:
    """The steps that transpose vectors of `width` elements, as squares of `count` side by side:
    quarters change places, then quarters of those, down to elements.

    (The method of Eklundh, A fast computer method for matrix transposing, 1972.)
    """
    half = count // 2
    while half:
        low = [i if not i & half else width + i - half for i in range(width)]
        high = [i + half if not i & half else width + i for i in range(width)]
        firsts = [k for k in range(count) if not k & half]
        yield [
            (place, (k, k + half), picks)
            for k in firsts
            for place, picks in ((k, low), (k + half, high))
        ]
        half //= 2


def interleavings(count: int, width: int) -> Iterator[list[Exchange]]:
    """The steps that transpose `count` vectors, in each part of `count` elements by itself: halves
    of two vectors are interleaved. Each step moves one bit of the position of an element from its
    column to its row. Where parts are those that a processor's unpacking stays in, each vector of a
    step is one instruction.
    """
    half, starts = count // 2, range(0, width, count)
    step: list[Exchange] = [
        (2 * k + upper, (k, k + half), [
            first + upper * half + i // 2 + (width if i % 2 else 0)
            for first in starts for i in range(count)
        ])
        for k in range(half) for upper in (0, 1)
    ]  # fmt: skip
    for _ in range(count.bit_length() - 1):
        yield step


def register_lanes(lanes: int, size: int, vector_bytes: int) -> int:
    """Of how many lanes one register has the elements."""
    return min(lanes, max(4, vector_bytes // size))


class Shuffles:
    """What moves elements between vectors."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def shuffled(
        self, level: Level, pair: tuple[str, str], typed: str, picks: Sequence[int]
    ) -> str:
        name = self.values.fresh()
        order = ", ".join(f"i32 {k}" for k in picks)
        level.put(
            f"{name} = shufflevector {typed} {pair[0]}, {typed} {pair[1]}, "
            f"<{len(picks)} x i32> <{order}>"
        )
        return name

    def part(self, level: Level, vector: str, element: str, lanes: int, part: range) -> str:
        """Some neighbouring lanes."""
        if lanes == len(part):
            return vector
        return self.shuffled(level, (vector, "poison"), f"<{lanes} x {element}>", part)

    def joined(self, level: Level, parts: Sequence[str], element: str, width: int) -> str:
        """Vectors one after the other as one, pair by pair."""
        while len(parts) > 1:
            typed, picks = f"<{width} x {element}>", range(2 * width)
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.shuffled(level, pair, typed, picks) for pair in pairs]
            width *= 2
        return parts[0]

    def turned(
        self, level: Level, vectors: Sequence[str], element: str, width: int
    ) -> list[str]:
        """A power of two of vectors, at most as many as each has lanes, as squares side by side:
        each of these is transposed.
        """
        typed, rows = f"<{width} x {element}>", list(vectors)
        for stage in exchanges(len(vectors), width):
            changed = list(rows)
            for place, pair, picks in stage:
                changed[place] = self.shuffled(level, (rows[pair[0]], rows[pair[1]]), typed, picks)
            rows = changed
        return rows

    def turned_apart(
        self, level: Level, columns: Sequence[str], element: str, width: int
    ) -> Iterator[tuple[int, int, str, int]]:
        """Lanes' parts of some columns: (lane, 0, vector, its length)."""
        rows, count = self.turned(level, columns, element, width), len(columns)
        for first in range(0, width, count):
            for k, row in enumerate(rows):
                own = self.part(level, row, element, width, range(first, first + count))
                yield first + k, 0, own, count

    def interleaved(
        self, level: Level, columns: Sequence[str], element: str, width: int
    ) -> Iterator[tuple[int, int, str, int]]:
        """Whole vectors of rows without gaps: (0, the first element, vector, its length)."""
        typed, count = f"<{width} x {element}>", len(columns)
        for first in range(0, count * width, width):
            chosen = "poison"
            for column, vector in enumerate(columns):
                picks = []
                for i in range(width):
                    lane, wanted = divmod(first + i, count)
                    picks.append(width + lane if wanted == column else i)
                chosen = self.shuffled(level, (chosen, vector), typed, picks)
            yield 0, first, chosen, width
