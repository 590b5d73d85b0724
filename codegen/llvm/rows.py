"""How do lanes write short rows?  A row at a time, turned in registers.

Where each lane of a loop has a row of an array for itself, as where the columns of many small
Jacobians are computed side by side, a store reaches one element of every row: an instruction that
takes as long as as many stores, or is one for each lane. But a loop that stores several
neighbouring columns has the rows already. So they are written together, when the last of them is
known: blocks of columns are turned by shuffles, and a lane's part of a block is one store. Blocks
are as long as a power of two; the last may overlap the one before it, and writes the same again.
Rows of few elements that follow one another without a gap are one run of memory, which is written
in whole vectors.

The nest means what it meant; nothing that it reads is written by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import memory_type
from graphc.codegen.loops import Buffer, linear
from graphc.codegen.scalar import Address, Scope, Store, Value, walk
from graphc.dims import Dim, Extent, affine

# Columns of a block, and of rows that are interleaved: the shuffles of these grow as the square.
MOST_COLUMNS, MOST_INTERLEAVED = 16, 4
# Smaller elements stay scattered: a block of them is not much more than one of these.
_LEAST_BYTES = 4


@dataclass(frozen=True, eq=False)
class Block:
    """Stores to neighbouring elements, in the order of these: lane i of the first is at `start` and
    `step` times the loop's variable. `whole`: they are all of a row.
    """

    stores: tuple[Store, ...]
    step: int
    start: Extent
    whole: bool


@dataclass
class Rows:
    """Of one loop the stores that wait, and the blocks that are due with each store."""

    waiting: set[int] = field(default_factory=set)
    due: dict[int, list[Block]] = field(default_factory=dict)


def rows_of(scope: Scope, variable: str, lanes: int, vector_bytes: int) -> Rows:
    """The rows that a vector loop over `variable` writes, in blocks."""
    made = Rows()
    order = {id(s): i for i, s in enumerate(scope.statements) if isinstance(s, Store)}
    stores: dict[Buffer, list[Store]] = {}
    barred = set()
    for statement in walk(scope):
        if isinstance(statement, Store):
            stores.setdefault(statement.buffer, []).append(statement)
            if id(statement) not in order:
                barred.add(statement.buffer)
        elif isinstance(statement, Value) and isinstance(statement.immediate, Address):
            barred.add(statement.immediate.buffer)
    for buffer, own in stores.items():
        width = min(lanes, vector_bytes // buffer.item_bytes, MOST_COLUMNS)
        if buffer in barred or buffer.item_bytes < _LEAST_BYTES:
            continue
        for block in _blocks(own, variable, width):
            last = max(block.stores, key=lambda store: order[id(store)])
            made.due.setdefault(id(last), []).append(block)
            made.waiting |= set(map(id, block.stores))
    return made


def _blocks(stores: Sequence[Store], variable: str, width: int) -> Iterator[Block]:
    """All stores to one array as blocks; none if they do not all write to rows of the same step."""
    places: dict[int, tuple[Store, Extent]] = {}
    step, origin = 0, None
    for store in stores:
        if store.mask is not None or store.args or store.buffer.layout != "contiguous":
            return
        split = affine(linear(store.buffer, store.index), variable)
        if split is None or not isinstance(split[0], int) or split[0] < 2:
            return
        origin = split[1] if origin is None else origin
        offset = split[1] - origin
        if not isinstance(offset, int) or offset in places or step not in (0, split[0]):
            return
        places[offset], step = (store, split[1]), split[0]
    columns = sorted(places)
    if columns[-1] - columns[0] >= step:  # rows that reach into each other
        return
    for first, stop in _runs(columns):
        whole = stop - first == step <= MOST_INTERLEAVED
        length = stop - first if whole else _power(min(stop - first, width))
        for begin in dict.fromkeys(min(k, stop - length) for k in range(first, stop, length)):
            own = tuple(places[k][0] for k in range(begin, begin + length))
            yield Block(own, step, places[begin][1], whole)


def _runs(columns: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where numbers in increasing order follow one another: from, and up to."""
    first = columns[0]
    for column, following in zip(columns, [*columns[1:], None], strict=True):
        if following != column + 1:
            yield first, column + 1
            first = following or 0


def _power(most: int) -> int:
    """The largest power of two up to a number."""
    return 1 << (most.bit_length() - 1)


class RowWriter:
    """Writes blocks of one function."""

    def __init__(self, indices: Indices) -> None:
        self.indices = indices
        self.values = indices.values

    def write(self, level: Level, block: Block) -> None:
        lanes = level.lanes
        assert lanes is not None
        buffer, dtype = block.stores[0].buffer, block.stores[0].value.dtype
        size, element = buffer.item_bytes, memory_type(dtype)
        position = block.step * Dim.symbol(lanes.variable) + block.start
        at = self.indices.pointer(level, buffer, position, size, {})
        columns = []
        for store in block.stores:
            value = self.values.operand(level, store.value)
            columns.append(self.values.to_memory(level, value, dtype, lanes.count))
        width = min(lanes.count, max(4, self.values.machine.vector_bytes // size))
        for first in range(0, lanes.count, width):
            parts = [self._part(level, c, element, lanes.count, first, width) for c in columns]
            write = self._interleaved if block.whole else self._turned
            for lane, offset, vector, count in write(level, parts, element, width):
                place = ((first + lane) * block.step + offset) * size
                self._store(level, at, place, vector, f"<{count} x {element}>", size)

    def _store(
        self, level: Level, at: str, place: int, vector: str, typed: str, size: int
    ) -> None:
        pointer = self.values.fresh("p")
        level.put(f"{pointer} = getelementptr i8, ptr {at}, i64 {place}")
        level.put(f"store {typed} {vector}, ptr {pointer}, align {size}")

    def _shuffled(
        self, level: Level, pair: tuple[str, str], typed: str, picks: Sequence[int]
    ) -> str:
        name = self.values.fresh()
        order = ", ".join(f"i32 {k}" for k in picks)
        level.put(
            f"{name} = shufflevector {typed} {pair[0]}, {typed} {pair[1]}, "
            f"<{len(picks)} x i32> <{order}>"
        )
        return name

    def _part(
        self, level: Level, vector: str, element: str, lanes: int, first: int, width: int
    ) -> str:
        """Some neighbouring lanes."""
        if lanes == width:
            return vector
        typed = f"<{lanes} x {element}>"
        return self._shuffled(level, (vector, "poison"), typed, range(first, first + width))

    def _turned(
        self, level: Level, columns: Sequence[str], element: str, width: int
    ) -> Iterator[tuple[int, int, str, int]]:
        """Lanes' parts of a block: (lane, 0, vector, its length).

        Quarters change places, then quarters of those, down to elements, as in `turned`; columns
        that are longer than they are many lie in several squares side by side.
        """
        typed, count = f"<{width} x {element}>", len(columns)
        rows, half = list(columns), len(columns) // 2
        while half:
            changed = list(rows)
            for k in range(count):
                if k & half:
                    continue
                low = [i if not i & half else width + i - half for i in range(width)]
                high = [i + half if not i & half else width + i for i in range(width)]
                for place, picks in ((k, low), (k + half, high)):
                    changed[place] = self._shuffled(level, (rows[k], rows[k + half]), typed, picks)
            rows, half = changed, half // 2
        for square in range(0, width, count):
            for k, row in enumerate(rows):
                yield square + k, 0, self._part(level, row, element, width, square, count), count

    def _interleaved(
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
                chosen = self._shuffled(level, (chosen, vector), typed, picks)
            yield 0, first, chosen, width
