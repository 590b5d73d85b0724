"""How is memory read?  Wide where lanes lie side by side, once where they share, else gathered.

Lanes that are off touch nothing. Where lanes lie a few elements apart, whole vectors are loaded and
each lane picks its own; where each has a row, parts of rows are read, see `rows`. Some loads ask
for what the next iterations read, see `ahead`, and some find what they read turned, see `turned`.
"""

from __future__ import annotations

from graphc.codegen.llvm.ahead import ELEMENTS_AHEAD, Scattered, Sought
from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.rows import MOST_INTERLEAVED, ReadBlock, RowReader, rows_read
from graphc.codegen.llvm.scalar import constant, llvm_type, memory_type
from graphc.codegen.llvm.shuffles import Shuffles, register_lanes
from graphc.codegen.llvm.values import vector_suffix
from graphc.codegen.loops import LINE_BYTES, linear
from graphc.codegen.scalar import Address, For, Scope, Value
from graphc.dims import Dim, Extent, affine, substitute

_ALL = "splat (i1 true)"  # lanes are on
_AVX_BYTES = 32  # of a register of AVX, whose masks are vectors


class Loads:
    """The loads of one function."""

    def __init__(self, indices: Indices) -> None:
        self.indices = indices
        self.values = indices.values
        self.moved: dict[int, Address] = {}  # where loads find what they read, turned
        self.ahead: dict[int, Extent] = {}  # by how many bytes what is read next lies ahead
        self.scattered: dict[int, Scattered] = {}  # loads from anywhere that ask ahead
        # By loads, the rows that are asked for, and where they begin.
        self.sought: dict[int, tuple[Sought, str]] = {}
        # Of loads that several rows have in common: what they gave, by the position of the lanes.
        self.shared: dict[int, dict[str, str]] = {}
        self.rows: dict[tuple[Scope, int], dict[int, ReadBlock]] = {}  # by bodies and lanes
        self.row_reader = RowReader(indices)
        self.shuffles = Shuffles(indices.values)

    def address(self, load: Value) -> Address:
        """Where a load finds what it reads."""
        return self.moved.get(id(load), load.immediate)

    def load(self, level: Level, value: Value) -> str:
        shared = self.shared.get(id(value))
        if shared is None or level.lanes is None:
            return self._load(level, value)
        position = level.lanes.position
        if position not in shared:
            shared[position] = self._load(level, value)
        return shared[position]

    def _load(self, level: Level, value: Value) -> str:
        address = self.address(value)
        buffer, dtype = address.buffer, value.dtype
        lanes = level.lanes
        count = level.lane_count
        args = value.args[: address.count]
        block = self._rows(level).get(id(value))
        if block is not None:
            if id(value) not in level.ready:
                read = self.row_reader.read(level, block)
                level.ready |= {id(v): name for v, name in zip(block.loads, read, strict=True)}
            return self.values.from_memory(level, level.ready[id(value)], dtype, count)
        slope = self._step(level, value)
        if slope is not None:
            return self._stepped(level, value, slope)
        how, at = self.indices.place(level, buffer, address.index, args)
        mask, fill = self._masks(level, value)
        if how == "uniform" and count > 1:
            return self._uniform(level, value, at, count)
        typed, size = memory_type(dtype, count), buffer.item_bytes
        name = self.values.fresh("l")
        if how == "wide" and id(value) in self.sought and lanes is not None and count > 1:
            self._ask_for_row(level, lanes, *self.sought[id(value)])
        if mask is None and how in ("wide", "uniform"):
            level.put(f"{name} = load {typed}, ptr {at}, align {size}")
            distance = buffer.next_step or self.ahead.get(id(value), 0)
            if distance != 0 and how == "wide" and count > 1:
                self._prefetch(level, at, distance, count * size)
        elif count == 1:
            return self.guarded(level, value, at, mask or "", fill)
        elif how == "wide":
            at = self._mapped(level, value, at)
            name = self._masked(level, at, dtype, count, size, str(mask), fill)
        else:
            row = affine(linear(buffer, address.index), "_arg0")
            if id(value) in self.ahead and row is not None and lanes is not None:
                # as far into the next row as this iteration is into its own
                into = row[1] + Dim.symbol(lanes.variable)
                here = self.indices.pointer(level, buffer, into, size, {})
                self._prefetch(level, here, self.ahead[id(value)], count * size)
            elif id(value) in self.scattered and lanes is not None and lanes.end:
                self._ask_for_elements(level, lanes, value, self.scattered[id(value)])
            self._gather(level, name, at, dtype, count, size, mask or _ALL, fill)
        return self.values.from_memory(level, name, dtype, count)

    def seek(self, level: Level, row: For, position: str, stop: str, sought: Sought) -> None:
        """Find out where a row begins that an iteration further on reads; the last one again, where
        there is none. A place that is out of range is asked for, too: nothing is touched.
        """
        address, fresh = sought.load.immediate, self.values.fresh
        later, last, place = fresh(), fresh(), fresh()
        level.put(f"{later} = add i64 {position}, {sought.rows}")
        level.put(f"{last} = sub i64 {stop}, 1")
        self.values.declarations.add("declare i64 @llvm.smin.i64(i64, i64)")
        level.put(f"{place} = call i64 @llvm.smin.i64(i64 {later}, i64 {last})")
        ahead = Level(row.body, level.parent, block=level.block)
        ahead.symbols[row.variable] = place
        for value in sought.made:
            ahead.names[id(value)] = self._again(ahead, value)
        buffer, names = address.buffer, self.indices.argument_names(ahead, sought.load.args[:1])
        first = substitute(linear(buffer, address.index), {sought.lanes.variable: 0})
        begin = self.indices.pointer(ahead, buffer, first, buffer.item_bytes, names)
        self.sought[id(sought.load)] = sought, begin
        level.lines += ahead.lines
        level.block = ahead.block

    def _ask_for_row(self, level: Level, lanes: Lanes, sought: Sought, begin: str) -> None:
        """Ask for as much of a row that is read later as lanes read of theirs now. Wherever a short
        one begins in a line of memory, its end is asked for, too.
        """
        size, at = sought.load.immediate.buffer.item_bytes, self.values.fresh("p")
        level.put(f"{at} = getelementptr i{8 * size}, ptr {begin}, i64 {lanes.position}")
        self.prefetch(level, at, lanes.count * size)
        if sought.length <= lanes.count:
            last = self.values.fresh("p")
            level.put(f"{last} = getelementptr i8, ptr {at}, i64 {sought.length * size - 1}")
            self.prefetch(level, last, 1)

    def _ask_for_elements(
        self, level: Level, lanes: Lanes, load: Value, scattered: Scattered
    ) -> None:
        """Ask for the elements that an iteration further on fetches; the last ones again, where
        there is none. Places that are out of range are asked for, too: nothing is touched.
        """
        address, fresh = load.immediate, self.values.fresh
        tag = self.values.tag()
        if not isinstance(scattered.reach, int):
            reach, pays = self.indices.dim(level, scattered.reach), fresh("c")
            level.put(f"{pays} = icmp sge i64 {reach}, {scattered.least}")
            level.put(f"br i1 {pays}, label %ask{tag}, label %asked{tag}")
            level.label(f"ask{tag}")
        later, last, position = fresh(), fresh(), fresh()
        level.put(f"{later} = add i64 {lanes.position}, {max(ELEMENTS_AHEAD, lanes.count)}")
        level.put(f"{last} = sub i64 {lanes.end}, {lanes.count}")
        self.values.declarations.add("declare i64 @llvm.smin.i64(i64, i64)")
        level.put(f"{position} = call i64 @llvm.smin.i64(i64 {later}, i64 {last})")
        own = Lanes(lanes.variable, lanes.count, position, None)
        ahead = Level(level.scope, level.parent, block=level.block, lanes=own)
        ahead.symbols[lanes.variable] = position
        for value in scattered.made:
            ahead.names[id(value)] = self._again(ahead, value)
        places = load.args[: address.count]
        _, pointers = self.indices.place(ahead, address.buffer, address.index, places)
        self.values.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for lane in range(lanes.count):
            at = fresh("p")
            ahead.put(f"{at} = extractelement <{lanes.count} x ptr> {pointers}, i64 {lane}")
            ahead.put(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 2, i32 1)")
        level.lines += ahead.lines
        level.block = ahead.block
        if not isinstance(scattered.reach, int):
            level.put(f"br label %asked{tag}")
            level.label(f"asked{tag}")

    def _again(self, level: Level, value: Value) -> str:
        """A value of a loop, in other lanes."""
        if value.opcode == "load":
            return self.load(level, value)
        if value.opcode == "index":
            return self.indices.value(level, value)
        operands = [self.values.operand(level, argument) for argument in value.args]
        dtypes = [argument.dtype for argument in value.args]
        return self.values.compute(
            level, value.opcode, operands, dtypes, value.dtype, level.lane_count
        )

    def _rows(self, level: Level) -> dict[int, ReadBlock]:
        """The rows that the innermost loop reads, if its lanes are all live; by loads."""
        lanes = level.lanes
        if lanes is None or lanes.mask is not None or not level.introduces_lanes or self.moved:
            return {}
        assert level.scope is not None
        key = (level.scope, lanes.count)
        if key not in self.rows:
            bytes_ = self.values.machine.vector_bytes
            self.rows[key] = rows_read(level.scope, lanes.variable, lanes.count, bytes_)
        return self.rows[key]

    def _prefetch(self, level: Level, at: str, distance: Extent, size: int) -> None:
        """Ask for so many bytes at a distance: of addresses that do not exist, nothing is asked."""
        ahead = self.indices.dim(level, distance)
        base = self.values.fresh("p")
        level.put(f"{base} = getelementptr i8, ptr {at}, i64 {ahead}")
        self.prefetch(level, base, size)

    def prefetch(self, level: Level, base: str, size: int, locality: int = 2) -> None:
        """Ask for so many bytes from an address on, to be in the second level of cache, or by a
        `locality` of 3 in the first.
        """
        self.values.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for offset in range(0, size, LINE_BYTES):
            line = self.values.fresh("p")
            level.put(f"{line} = getelementptr i8, ptr {base}, i64 {offset}")
            level.put(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 {locality}, i32 1)")

    def _step(self, level: Level, value: Value) -> int | None:
        """By how many elements the lanes of a load lie apart, if all are live and it is few."""
        address = self.address(value)
        lanes, buffer = level.lanes, address.buffer
        if lanes is None or lanes.mask is not None or len(value.args) > address.count:
            return None
        if buffer.layout != "contiguous" or lanes.count < 4 or address.count:
            return None
        split = affine(linear(buffer, address.index), lanes.variable)
        if split is None or not isinstance(split[0], int):
            return None
        return split[0] if split[0] != 1 and 1 <= abs(split[0]) <= MOST_INTERLEAVED else None

    def _stepped(self, level: Level, value: Value, slope: int) -> str:
        """Lanes a few elements apart: whole vectors of memory, of which each lane picks its own.

        Nothing beyond the first and the last lane is touched: the last vector of each piece ends
        where that piece does.
        """
        address = self.address(value)
        buffer, dtype, lanes = address.buffer, value.dtype, level.lanes
        assert lanes is not None
        size, count, step = buffer.item_bytes, lanes.count, abs(slope)
        width = register_lanes(count, size, self.values.machine.vector_bytes)
        split = affine(linear(buffer, address.index), lanes.variable)
        assert split is not None
        first_lane = slope * Dim.symbol(lanes.variable) + split[1]
        at, fresh = self.indices.pointer(level, buffer, first_lane, size, {}), self.values.fresh
        element = memory_type(dtype, 1)
        typed = f"<{width} x {element}>"
        pieces: list[str] = []
        span = step * (width - 1) + 1  # elements from the first lane of a piece to the last
        for first in range(0, count, width):
            low = first * slope if slope > 0 else (first + width - 1) * slope
            starts = [min(k * width, span - width) for k in range(step)]
            chosen = "poison"
            for k, start in enumerate(starts):
                pointer, loaded = fresh("p"), fresh("l")
                level.put(f"{pointer} = getelementptr i8, ptr {at}, i64 {(low + start) * size}")
                level.put(f"{loaded} = load {typed}, ptr {pointer}, align {size}")
                picks = []
                for lane in range(width):
                    wanted = lane * step if slope > 0 else (width - 1 - lane) * step
                    if k * width <= wanted < (k + 1) * width:
                        picks.append(width + wanted - start)
                    else:
                        picks.append(lane)
                chosen = self.shuffles.shuffled(level, (chosen, loaded), typed, picks)
            pieces.append(chosen)
        joined = self.shuffles.joined(level, pieces, element, width)
        return self.values.from_memory(level, joined, dtype, count)

    def _mapped(self, level: Level, value: Value, at: str) -> str:
        """The address of a masked load, or the buffer's own where the mask is off for all lanes
        alike: lanes that are off touch nothing, but beyond any page they cost a fault each time.
        """
        address = self.address(value)
        own = self.indices.pointers[address.buffer]
        mask = value.args[address.count : address.count + 1]
        for condition in self._shared_conditions(level, mask):
            held = self.values.fresh("p")
            holds = self.values.operand(level, condition, 1)
            level.put(f"{held} = select i1 {holds}, ptr {at}, ptr {own}")
            at = held
        return at

    def _shared_conditions(self, level: Level, masks: tuple[Value, ...]) -> list[Value]:
        """The parts of a mask, taken apart where it is an `and`, that are the same in all lanes."""
        found: list[Value] = []
        stack = list(masks)
        while stack:
            mask = stack.pop()
            home = next((each for each in level.chain() if id(mask) in each.names), None)
            if home is None or home.lane_count == 1:
                found.append(mask)
            elif mask.opcode == "and":
                stack += mask.args
        return found

    def wide(self, level: Level, at: str, dtype: str, lanes: Lanes, size: int) -> str:
        """Consecutive elements in consecutive lanes; lanes that are off touch nothing and hold 0.
        """
        if lanes.mask is not None:
            fill = constant(0, dtype, lanes.count)
            return self._masked(level, at, dtype, lanes.count, size, lanes.mask, fill)
        name = self.values.fresh("l")
        level.put(f"{name} = load {memory_type(dtype, lanes.count)}, ptr {at}, align {size}")
        return name

    def _masked(
        self,
        level: Level,
        at: str,
        dtype: str,
        count: int,
        size: int,
        mask: str,
        fill: str,
    ) -> str:
        """Consecutive elements under a mask.

        Those of several AVX registers are loaded register by register: where LLVM (22.1) cuts such
        a load itself and then finds a part of the mask to be off, it reads all of that part's
        elements, or fails. A part that is known to be off is not loaded here.
        """
        machine = self.values.machine
        if count * size > machine.vector_bytes == _AVX_BYTES and size >= 4:
            width = machine.vector_bytes // size
            element, parts = memory_type(dtype), []
            for start in range(0, count, width):
                lanes = range(start, start + width)
                own = self.values.part_of_mask(level, mask, count, lanes)
                filler = self.shuffles.part(level, fill, element, count, lanes)
                place = self.values.fresh("p")
                level.put(f"{place} = getelementptr i8, ptr {at}, i64 {start * size}")
                parts.append(self._masked(level, place, dtype, width, size, own, filler))
            return self.shuffles.joined(level, parts, element, width)
        typed, flags = memory_type(dtype, count), llvm_type("bool", count)
        function = f"llvm.masked.load.{vector_suffix(dtype, count)}.p0"
        self.values.declarations.add(f"declare {typed} @{function}(ptr, i32, {flags}, {typed})")
        name = self.values.fresh("l")
        level.put(
            f"{name} = call {typed} @{function}(ptr align {size} {at}, i32 {size}, {flags} "
            f"{mask}, {typed} {fill})"
        )
        return name

    def _gather(
        self,
        level: Level,
        name: str,
        pointers: str,
        dtype: str,
        count: int,
        size: int,
        mask: str,
        fill: str,
    ) -> None:
        """An element for each lane of a mask, from an address of its own.

        Where lanes are loaded one by one, each would be asked whether it is on: those that are off
        read a stand-in instead.
        """
        typed, flags = memory_type(dtype, count), llvm_type("bool", count)
        many = f"<{count} x ptr>"
        if mask != _ALL and not self.values.machine.has_masks:
            top = next(each for each in level.chain() if each.parent is None)
            spare, safe, read = (self.values.fresh("p") for _ in range(3))
            top.put(f"{spare} = alloca i64, align 8")
            top.put(f"store i64 0, ptr {spare}, align 8")
            lanes = self.values.broadcast(level, spare, "ptr", count)
            level.put(f"{safe} = select {flags} {mask}, {many} {pointers}, {many} {lanes}")
            self._gather(level, read, safe, dtype, count, size, _ALL, fill)
            level.put(f"{name} = select {flags} {mask}, {typed} {read}, {typed} {fill}")
            return
        function = f"llvm.masked.gather.{vector_suffix(dtype, count)}.v{count}p0"
        self.values.declarations.add(f"declare {typed} @{function}({many}, i32, {flags}, {typed})")
        level.put(
            f"{name} = call {typed} @{function}({many} {pointers}, i32 {size}, {flags} {mask}, "
            f"{typed} {fill})"
        )

    def _masks(self, level: Level, value: Value) -> tuple[str | None, str]:
        """The mask of a load, if any lane may be off, and what those lanes get, in memory form."""
        address: Address = value.immediate
        count = level.lane_count
        fill = constant(0, "uint8" if value.dtype == "bool" else value.dtype, count)
        mask = level.lanes.mask_of(address.buffer) if level.lanes else None
        if len(value.args) > address.count:
            own = self.values.operand(level, value.args[address.count])
            filler = self.values.operand(level, value.args[address.count + 1])
            fill = self.values.to_memory(level, filler, value.dtype, count)
            mask = self.values.both(level, mask, own)
        return mask, fill

    def _uniform(self, level: Level, value: Value, at: str, count: int) -> str:
        """One element for all lanes. Lanes that are off may see it: what they compute is not used.
        """
        address: Address = value.immediate
        dtype, size = value.dtype, address.buffer.item_bytes
        if len(value.args) > address.count:  # lanes disagree about reading at all: ask each
            pointers = self.values.broadcast(level, at, "ptr", count)
            mask, fill = self._masks(level, value)
            name = self.values.fresh("l")
            self._gather(level, name, pointers, dtype, count, size, str(mask), fill)
            return self.values.from_memory(level, name, dtype, count)
        name = self.values.fresh("l")
        level.put(f"{name} = load {memory_type(dtype)}, ptr {at}, align {size}")
        single = self.values.from_memory(level, name, dtype, 1)
        return self.values.broadcast(level, single, llvm_type(dtype), count)

    def guarded(self, level: Level, value: Value, at: str, mask: str, fill: str) -> str:
        """A scalar load under a condition: an absent element is read from a stand-in."""
        dtype = value.dtype
        size, typed = value.immediate.buffer.item_bytes, memory_type(dtype)
        tag = self.values.tag()
        before = level.block
        name, result = self.values.fresh("l"), self.values.fresh("l")
        level.put(f"br i1 {mask}, label %read{tag}, label %skip{tag}")
        level.label(f"read{tag}")
        level.put(f"{name} = load {typed}, ptr {at}, align {size}")
        level.put(f"br label %skip{tag}")
        level.label(f"skip{tag}")
        level.put(f"{result} = phi {typed} [{fill}, %{before}], [{name}, %read{tag}]")
        return self.values.from_memory(level, result, dtype, 1)
