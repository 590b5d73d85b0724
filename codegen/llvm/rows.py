"""How do lanes read and write short rows?  A row at a time, turned in registers.

Where each lane of a loop has a row of an array for itself, as where the columns of many small
Jacobians are computed side by side, a load or a store reaches one element of every row: an
instruction that takes as long as as many of them, or is one for each lane. But a loop that asks for
several neighbouring columns asks for parts of rows. Those are read together when the first of them
is needed, and written together when the last of them is known: a lane's part of a block of columns
is one load or store, and blocks are turned by shuffles. They are as long as a power of two; the
last may overlap the one before it, and is read, or written, twice.

Rows of few elements that follow one another without a gap are one run of memory, which is written
in whole vectors (`loads` reads it so).

The nest means what it meant: no array that it writes in blocks is read by it, or the other way
round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import memory_type
from graphc.codegen.llvm.shuffles import Shuffles, register_lanes
from graphc.codegen.loops import LINE_BYTES, Buffer, linear
from graphc.codegen.scalar import Address, Scope, Store, Value, walk
from graphc.dims import Dim, Extent, affine

# Columns of a block, and of whole rows that are interleaved: for those shuffles grow as the square.
MOST_COLUMNS, MOST_INTERLEAVED = 16, 4
# Rows of fewer elements are read as one run of memory.
_LEAST_STEP = 4
# Smaller elements stay scattered, unless they are whole rows: a block of them is not much more than
# one of these.
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
        if buffer in barred:
            continue
        for block in _blocks(own, variable, width):
            if buffer.item_bytes < _LEAST_BYTES and not block.whole:
                continue
            last = max(block.stores, key=lambda store: order[id(store)])
            made.due.setdefault(id(last), []).append(block)
            made.waiting |= set(map(id, block.stores))
    return made


def written_blocks(scope: Scope, variable: str, lanes: int, vector_bytes: int) -> list[Block]:
    """The blocks in which a vector loop over `variable` writes short rows."""
    due = rows_of(scope, variable, lanes, vector_bytes).due
    return [block for blocks in due.values() for block in blocks]


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
    if len(columns) == step <= MOST_INTERLEAVED:
        yield Block(tuple(places[k][0] for k in columns), step, places[columns[0]][1], True)
        return
    for begin, end in _cut(columns, width):
        own = tuple(places[k][0] for k in range(begin, end))
        yield Block(own, step, places[begin][1], False)


def _cut(columns: Sequence[int], width: int) -> Iterator[tuple[int, int]]:
    """Runs of columns cut in pieces of as many as a power of two, of which the last may overlap."""
    for first, stop in _runs(columns):
        length = _power(min(stop - first, width))
        for begin in dict.fromkeys(min(k, stop - length) for k in range(first, stop, length)):
            yield begin, begin + length


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
    """Writes the blocks of one function."""

    def __init__(self, indices: Indices) -> None:
        self.indices = indices
        self.values = indices.values
        self.shuffles = Shuffles(indices.values)

    def write(self, level: Level, block: Block, past: bool = False) -> None:
        """Write a block; `past` the caches, if it begins at a line of memory."""
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
        width = register_lanes(lanes.count, size, self.values.machine.vector_bytes)
        write = self.shuffles.interleaved if block.whole else self.shuffles.turned_apart
        for first in range(0, lanes.count, width):
            part = range(first, first + width)
            own = [self.shuffles.part(level, c, element, lanes.count, part) for c in columns]
            for lane, offset, vector, count in write(level, own, element, width):
                place = ((first + lane) * block.step + offset) * size
                pointer = self.values.fresh("p")
                level.put(f"{pointer} = getelementptr i8, ptr {at}, i64 {place}")
                aligned, hint = size, ""
                if past:
                    step = lanes.count * block.step * size
                    aligned, hint = math.gcd(LINE_BYTES, place, step), ", !nontemporal !3"
                typed = f"<{count} x {element}>"
                level.put(f"store {typed} {vector}, ptr {pointer}, align {aligned}{hint}")


# -- rows that are read ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ReadBlock:
    """Loads of neighbouring elements, in the order of these; `start` and `step` as in `Block`."""

    loads: tuple[Value, ...]
    step: int
    start: Extent


def rows_read(scope: Scope, variable: str, lanes: int, vector_bytes: int
              ) -> dict[int, ReadBlock]:  # fmt: skip
    """The rows that a vector loop over `variable` reads in blocks: by each load, its block."""
    written = {s.buffer for s in walk(scope) if isinstance(s, Store)}
    found: dict[tuple[Buffer, int], list[tuple[Value, Extent]]] = {}
    for load in scope.statements:
        if not isinstance(load, Value) or load.opcode != "load" or load.args:
            continue
        address: Address = load.immediate
        buffer = address.buffer
        if buffer in written or buffer.layout != "contiguous" or buffer.item_bytes < _LEAST_BYTES:
            continue
        split = affine(linear(buffer, address.index), variable)
        if split is not None and isinstance(split[0], int) and split[0] >= _LEAST_STEP:
            found.setdefault((buffer, split[0]), []).append((load, split[1]))
    made: dict[int, ReadBlock] = {}
    for (buffer, step), own in found.items():
        width = min(lanes, vector_bytes // buffer.item_bytes, MOST_COLUMNS)
        places: dict[int, tuple[Value, Extent]] = {}
        for load, start in own:
            offset = start - own[0][1]
            if isinstance(offset, int):
                places.setdefault(offset, (load, start))
        for begin, stop in _cut(sorted(places), width):
            loads = tuple(places[k][0] for k in range(begin, stop))
            if len(loads) > 1:
                block = ReadBlock(loads, step, places[begin][1])
                made |= {id(load): made.get(id(load), block) for load in loads}
    return made


class RowReader:
    """Reads the blocks of one function."""

    def __init__(self, indices: Indices) -> None:
        self.indices = indices
        self.values = indices.values
        self.shuffles = Shuffles(indices.values)

    def read(self, level: Level, block: ReadBlock) -> list[str]:
        """What the loads of a block give, in the form of memory."""
        lanes = level.lanes
        assert lanes is not None
        buffer = block.loads[0].immediate.buffer
        size, element = buffer.item_bytes, memory_type(block.loads[0].dtype)
        position = block.step * Dim.symbol(lanes.variable) + block.start
        at = self.indices.pointer(level, buffer, position, size, {})
        width = register_lanes(lanes.count, size, self.values.machine.vector_bytes)
        count = len(block.loads)
        parts: list[list[str]] = [[] for _ in block.loads]
        for first in range(0, lanes.count, width):
            rows: list[list[str]] = [[] for _ in block.loads]
            for lane in range(width):
                pointer, loaded = self.values.fresh("p"), self.values.fresh("l")
                place = (first + lane) * block.step * size
                level.put(f"{pointer} = getelementptr i8, ptr {at}, i64 {place}")
                level.put(f"{loaded} = load <{count} x {element}>, ptr {pointer}, align {size}")
                rows[lane % count].append(loaded)
            squares = [self.shuffles.joined(level, row, element, count) for row in rows]
            for part, column in zip(
                parts, self.shuffles.turned(level, squares, element, width), strict=True
            ):
                part.append(column)
        return [self.shuffles.joined(level, part, element, width) for part in parts]
