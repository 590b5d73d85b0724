"""How is memory read across its rows?  In strips that are turned in registers.

Where a loop in order steps along the rows of an array and the lanes of the vector loop in it step
from row to row, each lane would read a line of memory of its own, once an iteration. Instead the
loop in order is cut into strips, and what a strip reads is turned before it runs: square blocks of
it are loaded along the rows, turned by shuffles, and stored in a small array on the stack, from
which the lanes read side by side. The nest means what it meant; no other backend needs to know.

A strip is as long as a line of memory and ends where a line does, wherever the array starts; the
last one takes what would be left, if that is less than a block. So each line is read once, and
whole: where rows lie a power of two apart, lines of many rows have the same few places in a cache,
and half a line would not be there any more when it is asked for.

Where a register holds a line, what is loaded of a row asks for what follows it. Narrower registers
take several loads for each line, and a strip is turned faster than memory answers: there each
iteration that writes asks for its share of the next strip, so that memory is never left to rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.shuffles import Exchange, exchanges, interleavings
from graphc.codegen.loops import LINE_BYTES, Buffer, linear, most_steps
from graphc.codegen.loops import MOST_TURNED as SIDE
from graphc.codegen.machine import Machine
from graphc.codegen.recurrence import carried_loads
from graphc.codegen.scalar import Address, For, Store, Value, walk
from graphc.dims import Dim, Extent, affine, substitute, symbols_of

# Rows of a block, at most, by the bytes of an element: each takes a vector register, and blocks of
# twice the side take three times the instructions, to compile as well.
MOST_ROWS = {1: 16, 2: 16, 4: 16, 8: 8}
LEAST_ROWS = 4
# So far ahead a block asks for what the strips after this one read.
AHEAD_BYTES = 2 * LINE_BYTES
# Bytes of the strips on the stack that one nest may have: some systems give threads little more.
MOST_BYTES = 1 << 16
# Unpacking moves elements within parts of registers of so many bytes.
PART_BYTES = 16


@dataclass(frozen=True)
class Turned:
    """A load whose lanes step by `step` elements, and whose loop in order steps by one."""

    load: Value
    step: Extent

    @property
    def buffer(self) -> Buffer:
        """The array that is read."""
        return self.load.immediate.buffer


@dataclass(frozen=True)
class TurnedLoop:
    """A loop in order that is run strip by strip: the lanes in it, what they read across the rows,
    the iterations of a strip, the most of the last one, and how many elements apart these lie on
    the stack. `asks`: each iteration asks for its share of what the next strip reads.
    """

    row: For
    lanes: For
    turned: list[Turned]
    long: int
    most: int
    pitch: int
    asks: bool

    def routines(self, machine: Machine) -> set[tuple[int, int]]:
        """The routines that turn what it reads: sizes of elements, and sides of blocks."""
        return {self.routine(turned, machine) for turned in self.turned}

    def routine(self, turned: Turned, machine: Machine) -> tuple[int, int]:
        """Blocks are whole in the array on the stack: no longer than the longest strip."""
        size, steps = turned.buffer.item_bytes, most_steps(self.row.start, self.row.stop)
        rows = self.long if steps is None else min(steps, self.long)
        return size, block_side(size, rows, machine)


def turned_loop(row: For, machine: Machine) -> TurnedLoop | None:
    """How a loop in order is run in strips; None where nothing in it is read across the rows."""
    inner = [s for s in row.body.statements if isinstance(s, For)]
    if row.role != "serial" or row.accumulators or len(inner) != 1 or any(carried_loads(row)):
        return None
    lanes = inner[0]
    if lanes.role != "vector" or row.variable in symbols_of(lanes.start) | symbols_of(lanes.stop):
        return None
    loads = [s for s in lanes.body.statements if isinstance(s, Value) and s.opcode == "load"]
    found = [turned for load in loads if (turned := _turned(load, row, lanes)) is not None]
    width = most_steps(lanes.start, lanes.stop)
    written = {s.buffer for s in walk(row.body) if isinstance(s, Store)}
    if not found or width is None or width > SIDE or any(t.buffer in written for t in found):
        return None
    sizes = [turned.buffer.item_bytes for turned in found]
    long = LINE_BYTES // max(sizes)
    # What is smaller than a block would be turned element by element: the strip before has it.
    sides = [block_side(size, long, machine) for size in sizes]
    most = long if machine.has_masks else long + max(sides) - 1
    asks = machine.vector_bytes < LINE_BYTES
    # Columns of a block that lie a power of two apart would have few places in the first cache.
    pitch = width + machine.vector_bytes // min(sizes) if asks else SIDE
    if most * pitch * sum(sizes) > MOST_BYTES:
        return None
    return TurnedLoop(row, lanes, found, long, most, pitch, asks)


def _turned(load: Value, row: For, lanes: For) -> Turned | None:
    address: Address = load.immediate
    if load.args or address.buffer.layout != "contiguous":
        return None
    along = affine(linear(address.buffer, address.index), row.variable)
    if along is None or along[0] != 1:
        return None
    across = affine(along[1], lanes.variable)
    if across is None or across[0] in (0, 1) or symbols_of(across[0]) & {row.variable}:
        return None
    return Turned(load, across[0])


def strip_end(indices: Indices, level: Level, loop: TurnedLoop, start: str, stop: str) -> str:
    """Where a strip from `start` on ends: where a line of what is read first does, or the loop."""
    fresh = indices.values.fresh
    size = max(turned.buffer.item_bytes for turned in loop.turned)
    first = next(turned for turned in loop.turned if turned.buffer.item_bytes == size)
    address, over, room, steps, end, final = (fresh() for _ in range(6))
    level.put(f"{address} = ptrtoint ptr {_source(indices, level, loop, first)} to i64")
    level.put(f"{over} = and i64 {address}, {LINE_BYTES - size}")
    level.put(f"{room} = sub i64 {loop.long * size}, {over}")
    level.put(f"{steps} = lshr exact i64 {room}, {size.bit_length() - 1}")
    level.put(f"{end} = add i64 {start}, {steps}")
    indices.values.declarations.add("declare i64 @llvm.smin.i64(i64, i64)")
    level.put(f"{final} = call i64 @llvm.smin.i64(i64 {end}, i64 {stop})")
    # A rest that fits is not taken apart, wherever its lines end.
    left, fits, taken = fresh(), fresh("c"), fresh()
    level.put(f"{left} = sub i64 {stop}, {start}")
    level.put(f"{fits} = icmp sle i64 {left}, {loop.most}")
    level.put(f"{taken} = select i1 {fits}, i64 {stop}, i64 {final}")
    return taken


def strip_start(row: For) -> str:
    """The name, in index expressions, of the first iteration of a strip."""
    return f"_strip_{row.variable}"


def _source(indices: Indices, level: Level, loop: TurnedLoop, turned: Turned) -> str:
    """The address of the first element that a strip reads."""
    starts = {loop.row.variable: Dim.symbol(strip_start(loop.row)),
              loop.lanes.variable: loop.lanes.start}  # fmt: skip
    first = substitute(linear(turned.buffer, turned.load.immediate.index), starts)
    return indices.pointer(level, turned.buffer, first, turned.buffer.item_bytes, {})


def fill(indices: Indices, level: Level, loop: TurnedLoop, turned: Turned, rows: str) -> Address:
    """Turn what a strip of so many rows reads; returns where the loads of the loops find it."""
    row, lanes, buffer = loop.row, loop.lanes, turned.buffer
    held = Buffer(f"turned_{indices.values.fresh('s')[1:]}", buffer.dtype, (loop.most, loop.pitch))
    size = buffer.item_bytes
    top = next(each for each in level.chain() if each.parent is None)
    name = f"%{held.name}"
    top.put(f"{name} = alloca [{loop.most * loop.pitch * size} x i8], align 64")
    indices.pointers[held] = name
    given = [
        ("ptr", _source(indices, level, loop, turned)),
        ("i64", indices.dim(level, turned.step * size)),
        ("i64", rows),
        ("i64", indices.dim(level, lanes.stop - lanes.start)),
        ("ptr", name),
        ("i64", str(loop.pitch)),
    ]
    listed = ", ".join(f"{typed} {operand}" for typed, operand in given)
    called = routine_name(*loop.routine(turned, indices.values.machine))
    level.put(f"call void {called}({listed})")
    across = Dim.symbol(row.variable) - Dim.symbol(strip_start(row))
    along = Dim.symbol(lanes.variable) - lanes.start
    return Address(held, (across, along), 0)


def ask(indices: Indices, level: Level, loop: TurnedLoop, turned: Turned, count: str) -> None:
    """In iteration `count` of a strip, ask for its share of the lines that the next one reads."""
    fresh, put, size = indices.values.fresh, level.put, turned.buffer.item_bytes
    width = most_steps(loop.lanes.start, loop.lanes.stop)
    assert width is not None
    rows = -(-width // loop.long)
    step = indices.dim(level, turned.step * size)
    source = _source(indices, level, loop, turned)
    first, below, following, at = fresh(), fresh(), fresh("p"), fresh("p")
    put(f"{first} = mul i64 {count}, {rows}")
    put(f"{below} = mul i64 {first}, {step}")
    # Of rows that do not begin where the first one does in a line, a strip ends in a new line.
    put(f"{following} = getelementptr i8, ptr {source}, i64 {2 * loop.long * size - 1}")
    put(f"{at} = getelementptr i8, ptr {following}, i64 {below}")
    indices.values.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for k in range(rows):
        if k:
            before, at = at, fresh("p")
            put(f"{at} = getelementptr i8, ptr {before}, i64 {step}")
        put(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 2, i32 1)")


# -- the routine that turns a strip ----------------------------------------------------------------


def block_side(size: int, rows: int, machine: Machine) -> int:
    """Elements on a side of a block, where a strip has at most so many rows."""
    side = min(MOST_ROWS[size], machine.vector_bytes // size)
    while rows <= side // 2 and side > LEAST_ROWS:
        side //= 2
    return side


def routine_name(size: int, side: int) -> str:
    return f"@turn{size}x{side}"


def routine(size: int, side: int, machine: Machine) -> tuple[str, set[str]]:
    """`void turn<size>x<side>(source, step, rows, lanes, target, pitch)`, and what it declares.

    Element (i, j) of the target, whose rows lie `pitch` elements apart, becomes element i of what
    lies at the source and `step` bytes further for each j. Where the machine loads some lanes of a
    vector as fast as all of them, blocks reach over the edge: they read nothing there, and the last
    line once more. Elsewhere they are moved back to where they fit, and what is smaller than a
    block is turned element by element.
    """
    writer = _Writer(size, side)
    return writer.text(machine.has_masks), writer.declarations


class _Writer:
    """The text of a routine for elements of `size` bytes in blocks of `count` by `count`."""

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count
        self.element = f"i{8 * size}"
        self.vector = f"<{count} x {self.element}>"
        self.declarations = {
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            "declare i64 @llvm.smin.i64(i64, i64)",
        }
        self.lines: list[str] = []

    def text(self, masked: bool) -> str:
        head = (
            f"define internal void {routine_name(self.size, self.count)}(ptr %source, i64 %step, "
            "i64 %rows, i64 %lanes, ptr noalias %target, i64 %pitch) noinline nounwind {"
        )
        self.lines = [head, "entry:"]
        if masked:
            self.blocks_over_the_edge()
        else:
            self.blocks_that_fit()
        self.lines += ["done:", "  ret void", "}"]
        return "\n".join(self.lines) + "\n"

    def blocks_over_the_edge(self) -> None:
        n = self.count
        numbers = ", ".join(f"i32 {k}" for k in range(n))
        with self.loops("w", "entry", n):
            self.put("%left = sub i64 %rows, %wi")
            self.put("%narrow = trunc i64 %left to i32")
            self.put(f"%one = insertelement <{n} x i32> poison, i32 %narrow, i64 0")
            self.put(
                f"%all = shufflevector <{n} x i32> %one, <{n} x i32> poison, <{n} x i32> "
                "zeroinitializer"
            )
            self.put(f"%live = icmp slt <{n} x i32> <{numbers}>, %all")
            self.block("%wi", "%wj", "%live")

    def blocks_that_fit(self) -> None:
        n = self.count
        self.put(f"%few_rows = icmp slt i64 %rows, {n}")
        self.put(f"%few_lanes = icmp slt i64 %lanes, {n}")
        self.put("%few = or i1 %few_rows, %few_lanes")
        self.put(f"%last_row = sub i64 %rows, {n}")
        self.put(f"%last_lane = sub i64 %lanes, {n}")
        self.put("br i1 %few, label %edge, label %whole")
        self.lines.append("whole:")
        with self.loops("w", "whole", n):
            self.put("%i = call i64 @llvm.smin.i64(i64 %wi, i64 %last_row)")
            self.put("%j = call i64 @llvm.smin.i64(i64 %wj, i64 %last_lane)")
            self.block("%i", "%j", None)
        self.lines.append("edge:")
        with self.loops("e", "edge", 1):
            self.single()

    def put(self, line: str) -> None:
        self.lines.append("  " + line)

    @contextmanager
    def loops(self, tag: str, before: str, step: int) -> Iterator[None]:
        """Around what is written meanwhile: steps along the rows inside of steps over lanes."""
        self.put(f"br label %{tag}lanes")
        self.lines.append(f"{tag}lanes:")
        self.put(f"%{tag}j = phi i64 [0, %{before}], [%{tag}jn, %{tag}next]")
        self.put(f"br label %{tag}rows")
        self.lines.append(f"{tag}rows:")
        self.put(f"%{tag}i = phi i64 [0, %{tag}lanes], [%{tag}in, %{tag}rows]")
        yield
        self.put(f"%{tag}in = add i64 %{tag}i, {step}")
        self.put(f"%{tag}more = icmp slt i64 %{tag}in, %rows")
        self.put(f"br i1 %{tag}more, label %{tag}rows, label %{tag}next")
        self.lines.append(f"{tag}next:")
        self.put(f"%{tag}jn = add i64 %{tag}j, {step}")
        self.put(f"%{tag}again = icmp slt i64 %{tag}jn, %lanes")
        self.put(f"br i1 %{tag}again, label %{tag}lanes, label %done")

    def single(self) -> None:
        """One element."""
        self.put("%away = mul i64 %ej, %step")
        self.put("%there = getelementptr i8, ptr %source, i64 %away")
        self.put(f"%at = getelementptr {self.element}, ptr %there, i64 %ei")
        self.put(f"%x = load {self.element}, ptr %at, align {self.size}")
        self.put("%row = mul i64 %ei, %pitch")
        self.put("%place = add i64 %row, %ej")
        self.put(f"%to = getelementptr {self.element}, ptr %target, i64 %place")
        self.put(f"store {self.element} %x, ptr %to, align {self.size}")

    def block(self, i: str, j: str, live: str | None) -> None:
        """Load along the rows, turn, store: the block at row i and lane j of the target."""
        vector, size = self.vector, self.size
        self.put(f"%beside = sub i64 %lanes, {j}")
        self.put(f"%from = mul i64 {j}, %step")
        self.put("%line = getelementptr i8, ptr %source, i64 %from")
        self.put(f"%p0 = getelementptr {self.element}, ptr %line, i64 {i}")
        places = [f"%p{k}" for k in range(self.count)]
        for k, place in enumerate(places):
            if k:
                step = "%step"
                if live is not None:
                    step = f"%s{k}"
                    self.put(f"%c{k} = icmp sgt i64 %beside, {k}")
                    self.put(f"{step} = select i1 %c{k}, i64 %step, i64 0")
                self.put(f"{place} = getelementptr i8, ptr {places[k - 1]}, i64 {step}")
            if live is not None:  # the strips that follow lie further along the same rows
                self.put(f"%q{k} = getelementptr i8, ptr {place}, i64 {AHEAD_BYTES}")
                self.put(f"call void @llvm.prefetch.p0(ptr %q{k}, i32 0, i32 2, i32 1)")
        self.put(f"%m = mul i64 {i}, %pitch")
        self.put(f"%first = add i64 %m, {j}")
        self.put(f"%t0 = getelementptr {self.element}, ptr %target, i64 %first")
        for k, column in enumerate(self.turned(places, live)):
            if k:
                self.put(f"%t{k} = getelementptr {self.element}, ptr %t{k - 1}, i64 %pitch")
            self.put(f"store {vector} {column}, ptr %t{k}, align {size}")

    def loaded(self, at: str, live: str | None) -> str:
        """The instruction that loads a row of a block."""
        vector, size, n = self.vector, self.size, self.count
        if live is None:
            return f"load {vector}, ptr {at}, align {size}"
        function, flags = f"llvm.masked.load.v{n}{self.element}.p0", f"<{n} x i1>"
        self.declarations.add(f"declare {vector} @{function}(ptr, i32, {flags}, {vector})")
        return (
            f"call {vector} @{function}(ptr align {size} {at}, i32 {size}, {flags} {live}, "
            f"{vector} zeroinitializer)"
        )

    def halves(self, places: list[str]) -> list[list[str]]:
        """Rows of two parts of registers, at some places, so that parts stay where they are: of
        rows half a block apart the first parts together, and the second ones.
        """
        size, half = self.size, self.count // 2
        part, picks = f"<{half} x {self.element}>", ", ".join(f"i32 {i}" for i in range(2 * half))
        found = []
        for which in range(2):
            for k, place in enumerate(places):
                name = f"%h{which}_{k}"
                self.put(f"{name}p = getelementptr i8, ptr {place}, i64 {which * half * size}")
                self.put(f"{name} = load {part}, ptr {name}p, align {size}")
            rows = [f"%g{which}_{k}" for k in range(half)]
            for k, row in enumerate(rows):
                pair = f"{part} %h{which}_{k}, {part} %h{which}_{k + half}"
                self.put(f"{row} = shufflevector {pair}, <{2 * half} x i32> <{picks}>")
            found.append(rows)
        return found

    def turned(self, places: list[str], live: str | None) -> list[str]:
        """The columns of a block whose rows lie at some places."""
        size, n = self.size, self.count
        if live is None and n * size > PART_BYTES:
            first, second = self.halves(places)
            parts = ((first, "a"), (second, "b"))
            moved = [self.moved(rows, interleavings(n // 2, n), tag) for rows, tag in parts]
            return moved[0] + moved[1]
        rows = [f"%r{k}" for k in range(n)]
        for row, place in zip(rows, places, strict=True):
            self.put(f"{row} = {self.loaded(place, live)}")
        steps = exchanges(n, n) if live is not None else interleavings(n, n)
        return self.moved(rows, steps, "x")

    def moved(self, rows: list[str], steps: Iterable[list[Exchange]], tag: str) -> list[str]:
        """What some steps make of vectors."""
        vector, n = self.vector, self.count
        for number, step in enumerate(steps):
            changed = list(rows)
            for place, (first, second), picks in step:
                changed[place] = f"%{tag}{number}_{place}"
                order = ", ".join(f"i32 {i}" for i in picks)
                self.put(
                    f"{changed[place]} = shufflevector {vector} {rows[first]}, "
                    f"{vector} {rows[second]}, <{n} x i32> <{order}>"
                )
            rows = changed
        return rows
