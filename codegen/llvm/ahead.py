"""What is asked for before it is needed?  Short pieces of rows, a few rows ahead.

The machine foresees what lies in one run of memory. Where a loop in order takes a short piece of
every row, each piece would be waited for: the loads of such a loop ask for what the iterations that
follow will read. Where it passes over each row several times, memory would rest during all passes
but the first: that one asks for the next row. Where rows are read by the block, and then much is
computed for each of them, memory would rest meanwhile: what is computed for some rows asks for as
many of the next block.
Addresses beyond an array are asked for as well, which touches nothing.

Of what fits in the second level of cache little needs to be waited for. But it may be a part of
something larger, as a step of a loop is, and where much is computed for each load asking costs
nothing.

Whole rows from anywhere are asked for while rows before them are read: what says where a row is has
been read ahead, once for all of its elements.

Of elements that lanes fetch from anywhere in a large array the machine foresees nothing, and it
waits for few at a time. What says where they are is read ahead, and they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphc.codegen.loops import Buffer, linear, most_steps
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import Address, For, Value
from graphc.dims import Dim, Extent, affine, product, symbols_of

# Pieces of at most so many bytes are short; so many bytes ahead, the memory has time to answer.
SHORT_BYTES = 1 << 16
AHEAD_BYTES = 8192
# Of tiles: what is near beside has few places in a cache where rows are a power of two apart.
TILE_AHEAD_BYTES = 4096
# So many instructions for each load are much; a routine is about so many of them. Meanwhile so many
# bytes ahead are enough.
MUCH_WORK = 12
ROUTINE_WORK = 40
AHEAD_AT_WORK = 512
# Elements from anywhere are asked for so many iterations before they are fetched: memory answers
# in the time of some 50. What says where they are is made in at most so many instructions.
ELEMENTS_AHEAD, MOST_MADE = 64, 16
# Rows from anywhere are asked for so many bytes ahead, but not more rows than that: of short ones
# memory answers as soon.
ROWS_AHEAD_BYTES, MOST_ROWS_AHEAD = 4096, 32
# Rows of at most so many bytes are asked for whole.
LONGEST_ROW = 1 << 16
# So many instructions are a long pass. During one rows of at most so many bytes are asked for.
LONG_PASS, LONGEST_ASKED = 32, 1 << 10


def tile_ahead(row: For, lanes: For) -> dict[int, Extent]:
    """For the loads of a tile that lie side by side: by how many bytes the row lies ahead that is
    asked for.
    """
    found: dict[int, Extent] = {}
    length = most_steps(lanes.start, lanes.stop)
    for load, step in _steps(row, lanes):
        size = load.immediate.buffer.item_bytes
        if length and (not isinstance(step, int) or abs(step) > size):
            found[id(load)] = step * max(1, TILE_AHEAD_BYTES // (length * size))
    return found


def pieces_ahead(row: For, large_bytes: int) -> dict[int, Extent]:
    """For the loads of a loop over short pieces of the rows of an array of at least `large_bytes`,
    or of any size where much is computed for each: by how many bytes the piece lies ahead that is
    asked for.
    """
    inner = [s for s in row.body.statements if isinstance(s, For)]
    if row.role not in ("serial", "parallel") or len(inner) != 1 or inner[0].role != "vector":
        return {}
    (lanes,) = inner
    length = most_steps(lanes.start, lanes.stop)
    steps = _steps(row, lanes)
    works = _work(lanes) >= MUCH_WORK * len(steps)
    found: dict[int, Extent] = {}
    for load, step in steps:
        buffer = load.immediate.buffer
        size, total = buffer.item_bytes, product(buffer.shape)
        if length is None or not isinstance(step, int) or not isinstance(total, int):
            continue
        piece = length * size
        if row.role == "parallel" and not works or not works and total * size < large_bytes:
            continue
        if 0 < piece <= SHORT_BYTES and abs(step) >= 2 * piece:
            found[id(load)] = step * max(1, (AHEAD_AT_WORK if works else AHEAD_BYTES) // piece)
    return found


def _work(loop: For) -> int:
    """The instructions of an iteration."""
    values = (s for s in loop.body.statements if isinstance(s, Value))
    return sum(ROUTINE_WORK if value.opcode == "call" else 1 for value in values)


def next_row_ahead(row: For, large_bytes: int) -> dict[int, Extent]:
    """For the loads of a loop that passes several times over every row of arrays of at least
    `large_bytes`, those that are the first to read an array: how far the next row lies ahead.
    """
    passes = [s for s in row.body.statements if isinstance(s, For)]
    if row.role != "serial" or len(passes) < 2 or any(s.role != "vector" for s in passes):
        return {}
    found: dict[int, Extent] = {}
    seen: set[Buffer] = set()
    for lanes in passes:
        length = most_steps(lanes.start, lanes.stop)
        for load, step in _steps(row, lanes):
            buffer = load.immediate.buffer
            size, total = buffer.item_bytes, product(buffer.shape)
            if buffer in seen or not isinstance(step, int) or not isinstance(total, int):
                continue
            seen.add(buffer)
            whole = length is not None and length * size == abs(step) <= LONGEST_ROW
            if whole and total * size >= large_bytes:
                found[id(load)] = step
    return found


@dataclass(frozen=True, eq=False)
class NextBlock:
    """Rows of the next block: for the one at hand the position of the one to ask for, and the bytes
    of each.
    """

    buffer: Buffer
    position: Extent
    bytes: int


def next_block_ahead(blocks: For, large_bytes: int) -> tuple[For, list[NextBlock]] | None:
    """For a loop over blocks of rows, of which one pass reads the rows from memory and others
    compute in lanes, a row in each: the longest of these, and what the next block will read of
    arrays of at least `large_bytes`. Memory would rest during that pass.
    """
    passes = [s for s in blocks.body.statements if isinstance(s, For)]
    in_lanes = [s for s in passes if s.role == "vector" and _work(s) >= LONG_PASS]
    if blocks.role != "serial" or not in_lanes or passes[0].segment:
        return None
    longest = max(in_lanes, key=_work)
    found: dict[Buffer, NextBlock] = {}
    for rows in passes:
        along = affine(rows.start, blocks.variable)
        if rows.role != "serial" or rows.start != longest.start or along is None:
            continue
        for lanes in rows.body.statements:
            if isinstance(lanes, For) and lanes.role == "vector" and isinstance(along[0], int):
                for each in _next_rows(rows, lanes, longest.variable, along[0]):
                    size = product(each.buffer.shape) * each.buffer.item_bytes
                    if not isinstance(size, int) or size >= large_bytes:
                        found.setdefault(each.buffer, each)
    return (longest, list(found.values())) if found else None


def _next_rows(rows: For, lanes: For, variable: str, count: int) -> Iterator[NextBlock]:
    """What the loads of a loop over `count` rows read in the next block, if rows lie end to end;
    the row at hand is `variable`.
    """
    length = most_steps(lanes.start, lanes.stop)
    for load, step in _steps(rows, lanes):
        buffer = load.immediate.buffer
        split = affine(linear(buffer, load.immediate.index), rows.variable)
        size = None if length is None else length * buffer.item_bytes
        if split is None or size is None or step != size:
            continue
        within = affine(split[1], lanes.variable)
        if within is not None and within[0] == 1 and size <= LONGEST_ASKED:
            first = split[0] * (Dim.symbol(variable) + count) + within[1] + lanes.start
            yield NextBlock(buffer, first, size)


def rows_ahead(lanes: For, large_bytes: int) -> dict[int, Extent]:
    """For the loads from data-dependent places of a row, by lanes as many as half of the row at
    least: how far the next row lies ahead. In any order, a row is read faster from a cache.
    """
    found: dict[int, Extent] = {}
    length = most_steps(lanes.start, lanes.stop)
    for load in lanes.body.statements:
        if not isinstance(load, Value) or load.opcode != "load" or load.immediate.count != 1:
            continue
        buffer, index = load.immediate.buffer, load.immediate.index
        size, total = buffer.item_bytes, product(buffer.shape)
        along = affine(linear(buffer, index), "_arg0")
        if along is None or along[0] != 1 or buffer.layout != "contiguous" or length is None:
            continue
        names = symbols_of(along[1])
        split = affine(along[1], next(iter(names))) if len(names) == 1 else None
        if split is None or not isinstance(split[0], int) or not isinstance(total, int):
            continue
        row = abs(split[0])
        if 0 < row * size <= LONGEST_ROW and 2 * length >= row and total * size >= large_bytes:
            found[id(load)] = split[0] * size
    return found


@dataclass(frozen=True, eq=False)
class Sought:
    """A row that lanes read at a place that data decides: the load, the loop over its elements, the
    instructions that make its place, how many elements it has at most, and how many rows ahead it
    is asked for.
    """

    load: Value
    lanes: For
    made: Sequence[Value]
    length: int
    rows: int


def rows_sought(row: For, large_bytes: int) -> list[Sought]:
    """The rows that the lanes in a loop in order read from anywhere in at least `large_bytes`."""
    passes = [s for s in row.body.statements if isinstance(s, For)]
    own = {id(s): s for s in row.body.statements if isinstance(s, Value)}
    found: list[Sought] = []
    if row.role not in ("serial", "parallel") or len(passes) != 1 or passes[0].role != "vector":
        return found
    (lanes,) = passes
    length = most_steps(lanes.start, lanes.stop)
    for load in lanes.body.statements:
        if not isinstance(load, Value) or load.opcode != "load" or load.immediate.count != 1:
            continue
        buffer, place = load.immediate.buffer, load.args[0]
        along = affine(linear(buffer, load.immediate.index), lanes.variable)
        reach = _reach(load.immediate)
        large = not isinstance(reach, int) or reach >= large_bytes
        if id(place) not in own or along is None or along[0] != 1 or not large:
            continue
        made = _made_of([place], own)
        if made and length and buffer.layout == "contiguous":
            ahead = ROWS_AHEAD_BYTES // (length * buffer.item_bytes)
            found.append(Sought(load, lanes, made, length, max(1, min(MOST_ROWS_AHEAD, ahead))))
    return found


@dataclass(frozen=True, eq=False)
class Scattered:
    """Elements that lanes fetch from anywhere in `reach` bytes, which must be `least` for asking to
    pay, and the instructions of the loop that make their places.
    """

    reach: Extent
    least: int
    made: Sequence[Value]


def elements_ahead(lanes: For, machine: Machine) -> dict[int, Scattered]:
    """The loads of a vector loop from places that data decides for each lane, unless all places are
    known to lie within half of the last cache: from there they come as fast without.
    """
    least = machine.l3 // 2
    found: dict[int, Scattered] = {}
    own = {id(s): s for s in lanes.body.statements if isinstance(s, Value)}
    for load in own.values():
        if load.opcode != "load" or not load.immediate.count:
            continue
        places = load.args[: load.immediate.count]
        made = _made_of(places, own)
        reach = _reach(load.immediate)
        large = not isinstance(reach, int) or reach >= least
        if made and large and load.immediate.buffer.layout == "contiguous":
            found[id(load)] = Scattered(reach, least, made)
    return found


def _made_of(places: Sequence[Value], own: dict[int, Value]) -> Sequence[Value]:
    """The instructions of a loop that make some values, in order; none if these are many, or fetch
    from places that data decides themselves.
    """
    needed: set[int] = set()
    stack = [value for value in places if id(value) in own]
    while stack and len(needed) <= MOST_MADE:
        value = stack.pop()
        if value.opcode in ("call", "lookup", "result") or value.opcode == "load" and value.args:
            return ()
        if id(value) not in needed and value.opcode != "const":
            needed.add(id(value))
            stack += [argument for argument in value.args if id(argument) in own]
    return () if stack else [value for key, value in own.items() if key in needed]


def _reach(address: Address) -> Extent:
    """Bytes from the first place that an element may have, for any data, to the last."""
    shape = address.buffer.shape
    for axis, position in enumerate(address.index):
        if any(name.startswith("_arg") for name in symbols_of(position)):
            return product(shape[axis:]) * address.buffer.item_bytes
    return 0


def _steps(row: For, lanes: For) -> list[tuple[Value, Extent]]:
    """The loads at known places, and by how many bytes each iteration of the outer loop moves."""
    found = []
    for load in lanes.body.statements:
        if not isinstance(load, Value) or load.opcode != "load" or load.args:
            continue
        buffer = load.immediate.buffer
        along = affine(linear(buffer, load.immediate.index), row.variable)
        if along is not None and along[0] != 0 and buffer.layout == "contiguous":
            found.append((load, along[0] * buffer.item_bytes))
    return found
