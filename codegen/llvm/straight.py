"""How is arithmetic without branches written for a compiler that is in a hurry?

LLVM's level 0 takes a tenth of the time of level 1, linear in the text. It selects instructions one
by one, backwards, and gives each value a register from where it is made to where it is last used;
so which values are in registers is decided here. Of more than there are registers, the one whose
next use is farthest is put aside (Belady's rule, which nothing beats where the order is fixed), and
a value that memory holds, be it put aside, a constant or what another segment made, is loaded in
front of its use: such a load becomes part of the instruction that uses it. So does an address that
is a number away from one that is known, however many instructions use it: it is written once.
Arrays of others are loaded once, where the segment says: a result may lie in the memory of an input
that it replaces. Values have numbers in the order of the text, in place of names, of which LLVM
would keep a table: it reads such text in two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from graphc.codegen.lanes import choose_lanes
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import constant, llvm_type
from graphc.codegen.loops import LINE_BYTES, Buffer, Kernel, linear
from graphc.codegen.machine import Machine
from graphc.codegen.routines import joined
from graphc.codegen.scalar import For, Routine, Scope, Store, Value, item_bytes, loops_in
from graphc.codegen.segments import TILE_BYTES, used
from graphc.dims import Extent, affine, product

if TYPE_CHECKING:
    from graphc.codegen.llvm.kernel import Printer

# Registers that are left for what an instruction loads and makes.
SPARE_REGISTERS = 4
# An array that a segment reads or writes so often has its address made once.
OFTEN = 4
# Processors see by themselves that so many arrays are written one element after the other.
MOST_STREAMS = 16
# Instructions of LLVM under their names here.
_PLAIN = frozenset(("add", "sub", "mul", "div"))


def is_straight(kernel: Kernel, machine: Machine) -> bool:
    """Whether the work of a kernel is segments that are all written as straight code."""
    segments = [loop for loop in loops_in(kernel.body) if loop.segment]
    known = machine.triple.startswith(("x86_64", "i686"))
    return known and bool(segments) and all(_is_straight(s, machine) for s in segments)


def _is_straight(loop: For, machine: Machine) -> bool:
    if not loop.straight or loop.role != "vector":
        return loop.straight
    size = next(item_bytes(s.dtype) for s in loop.body.statements if isinstance(s, Value))
    return choose_lanes(loop, machine.vector_bytes) * size == machine.vector_bytes


@dataclass
class _Memory:
    """Where a value lies besides in a register: in an array, or put aside in a slot."""

    buffer: Buffer | None
    index: tuple[Extent, ...] = ()
    slot: int = 0


@dataclass(frozen=True)
class Pair:
    """Two calls that are made together: the routine that returns the results of both."""

    routine: Routine
    calls: tuple[Value, Value]


@dataclass
class Straight:
    """Writes the statements of one segment into a level."""

    printer: Printer
    level: Level
    scope: Scope
    constants: dict[str, str]  # symbols by text, of the module
    names: dict[Value, str] = field(default_factory=dict)  # of the values in registers
    pairs: dict[Value, Pair] = field(default_factory=dict)  # by the call that comes first
    numbers: dict[Value, int] = field(default_factory=dict)  # of all values, as they are first met
    values: list[Value] = field(default_factory=list)  # by number
    memory: dict[Value, _Memory] = field(default_factory=dict)
    uses: dict[Value, list[int]] = field(default_factory=dict)  # still to come, the next one last
    # A heap: farthest use first. Numbers decide among operands of one instruction, so that the text
    # is the same wherever values lie.
    waiting: list[tuple[int, int]] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    slots: int = 0
    addresses: dict[tuple[Buffer | None, Any], str] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)  # where this vector is, by that of lane 0
    rows: dict[Any, tuple[Extent, int]] = field(default_factory=dict)  # positions, see `_position`
    # How many arrays a store asks for in turn, where that is not its own alone.
    asking: dict[Store, int] = field(default_factory=dict)
    ahead: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        lanes = self.level.lane_count
        self.dtype = next(s.dtype for s in self.scope.statements if isinstance(s, Value))
        self.typed = llvm_type(self.dtype, lanes)
        self.bytes = item_bytes(self.dtype) * lanes
        self.fetches = self._asks_ahead()

    def _asks_ahead(self) -> bool:
        """Whether the memory of results is asked for a tile ahead: they are many, and together
        larger than the second-level cache.
        """
        written = {s.buffer for s in self.scope.statements if isinstance(s, Store)}
        streams = [buffer for buffer in written if buffer.space == "global"]
        if self.level.lanes is None or len(streams) <= MOST_STREAMS:
            return False
        size = sum(product(each.shape) * each.item_bytes for each in streams)
        return not isinstance(size, int) or size > self.printer.machine.l2

    def write(self) -> None:
        """All statements, in their order."""
        self.pairs = pairs_of(self.scope.statements)
        together = {call for pair in self.pairs.values() for call in pair.calls}
        statements = [s for s in self.scope.statements if s not in together or s in self.pairs]
        names = self.names
        self._count(statements)
        if self.fetches:
            self._take_turns(statements)
        registers = self.printer.machine.vector_registers - SPARE_REGISTERS
        for time, statement in enumerate(statements):
            if type(statement) is Store:
                stored = (statement.value,)
                self._store(statement, *self._operands(stored))
                self._done(stored, time)
            elif statement.opcode in _PLAIN:
                operands = statement.args
                first, second = self._operands(operands)
                names[statement] = self._made(f"f{statement.opcode}", first, second)
                self._done(operands, time)
                self._keep(statement)
            elif statement.opcode == "load":
                if self._is_own(statement):
                    continue
                names[statement] = self._loaded(statement)
                self._keep(statement)
            elif statement.opcode != "const":
                operands = statement.args
                called = self._operands(operands)
                if statement.opcode == "call":
                    self._empty(time)
                    self._call(statement, called)
                else:
                    names[statement] = self._compute(statement, called)
                self._done(operands, time)
                pair = self.pairs.get(statement)
                for made in (statement,) if pair is None else pair.calls:
                    self._keep(made)
            while len(names) > registers:
                self._put_aside(self._farthest())
        self._reserve()

    def _count(self, statements: Sequence[Store | Value]) -> None:
        often = often_reached(statements)
        uses = self.uses
        for time, statement in enumerate(statements):
            for value in used(statement):
                times = uses.get(value)
                if times is None:
                    uses[value] = [] if value.opcode == "const" else [time]
                elif value.opcode != "const" and times[-1] != time:
                    times.append(time)
        for times in uses.values():
            times.reverse()
        self.values = list(uses)
        self.numbers = {value: number for number, value in enumerate(self.values)}
        frame = enumerate(self.printer.kernel.frame())
        places = {item: position for position, (kind, item) in frame if kind == "buffer"}
        later = loaded_at_use(often)
        self.places = {buffer: places[buffer] for buffer in often if buffer in later}

    def _take_turns(self, statements: Sequence[Store | Value]) -> None:
        """Find stores, as many as a line has vectors, of which one asks for the lines of all."""
        turns = LINE_BYTES // self.bytes
        stores = [s for s in statements if type(s) is Store and s.buffer in self.places]
        variable = self.level.lanes.variable if self.level.lanes else ""
        while turns > 1 and len(stores) >= turns:
            several = stores[:turns]
            place = self.places[several[0].buffer]
            positions = [affine(linear(s.buffer, s.index), variable) for s in several]
            in_order = [self.places[s.buffer] for s in several] == [*range(place, place + turns)]
            if in_order and all(p == (1, 0) for p in positions):
                self.asking |= dict.fromkeys(several, 0) | {several[0]: turns}
                del stores[:turns]
            else:
                del stores[0]

    # -- registers ---------------------------------------------------------------------------------

    def _operands(self, values: Sequence[Value]) -> list[str]:
        """The names of operands. What only this instruction needs is loaded last."""
        names = self.names
        found = [names.get(value) for value in values]
        if None not in found:
            return found  # type: ignore[return-value]
        if len(found) == 1:
            value = values[0]
            if value.opcode == "const":
                return [self._constant(value)]
            names[value] = self._loaded(value)
            return [names[value]]
        missing = [v for v in dict.fromkeys(values) if v not in names]
        if len(missing) > 1:
            missing.sort(key=lambda v: (v.opcode == "const", len(self.uses[v]) == 1))
        constants: dict[Value, str] = {}
        for value in missing:
            if value.opcode == "const":
                constants[value] = self._constant(value)
            else:
                names[value] = self._loaded(value)
        return [constants.get(v) or names[v] for v in values]

    def _done(self, operands: Iterable[Value], time: int) -> None:
        """An instruction has used its operands."""
        uses, names = self.uses, self.names
        for value in operands:
            times = uses[value]
            if not times or times[-1] != time:
                continue  # a constant, or an operand twice
            times.pop()
            if not times:
                names.pop(value, None)
                self._release(value)
            elif value in names:
                heappush(self.waiting, (-times[-1], self.numbers[value]))

    def _keep(self, value: Value) -> None:
        """A value stays in its register until its next use, if there is one."""
        times = self.uses.get(value)
        if times:
            heappush(self.waiting, (-times[-1], self.numbers[value]))
        else:
            del self.names[value]
            self._release(value)

    def _release(self, value: Value) -> None:
        held = self.memory.pop(value, None)
        if held is not None and held.buffer is None:
            self.free.append(held.slot)

    def _farthest(self) -> Value:
        """The value in a register whose next use is farthest."""
        while True:
            time, number = heappop(self.waiting)
            value = self.values[number]
            if value in self.names and self.uses[value] and self.uses[value][-1] == -time:
                return value

    def _put_aside(self, value: Value) -> None:
        name = self.names.pop(value)
        if value in self.memory or self._is_own(value):
            return
        slot = self.free.pop() if self.free else self.slots
        self.slots = max(self.slots, slot + 1)
        self.memory[value] = _Memory(None, slot=slot)
        self.level.put(f"store {self.typed} {name}, ptr {self._slot(slot)}, align {self.bytes}")

    def _empty(self, time: int) -> None:
        """A call keeps nothing in registers."""
        for value in list(self.names):
            if self.uses[value][-1] > time or len(self.uses[value]) > 1:
                self._put_aside(value)
        self.names.clear()
        self.waiting.clear()

    def _reserve(self) -> None:
        """Room for what is put aside, at the start of the function."""
        if not self.slots:
            return
        top = next(each for each in self.level.chain() if each.parent is None)
        size = self.printer.machine.vector_bytes
        top.lines.insert(2, f"  %aside = alloca [{self.slots} x {self.typed}], align {size}")

    # -- lines -------------------------------------------------------------------------------------

    def _constant(self, value: Value) -> str:
        number = constant(value.immediate, value.dtype, self.level.lane_count)
        symbol = self.constants.setdefault(
            f"{self.typed} {number}", f"@number{len(self.constants)}"
        )
        name = self.printer.values.numbered()
        self.level.put(f"{name} = load {self.typed}, ptr {symbol}, align {self.bytes}")
        return name

    def _slot(self, slot: int) -> str:
        name = self.addresses.get((None, slot))
        if name is None:
            name = self.addresses[None, slot] = self.printer.values.numbered()
            offset = slot * self.bytes
            self.level.put(f"{name} = getelementptr i8, ptr %aside, i64 {offset}")
        return name

    def _made(self, instruction: str, first: str, second: str) -> str:
        """The name of what an instruction makes of two operands."""
        name = self.printer.values.numbered()
        self.level.lines.append(f"  {name} = {instruction} {self.typed} {first}, {second}")
        return name

    def _compute(self, value: Value, operands: list[str]) -> str:
        opcode, dtype = value.opcode, self.dtype
        if opcode == "neg":  # to change the sign takes several instructions here
            minus_one = Value(self.scope, "const", (), dtype, -1.0)
            opcode, operands = "mul", [*operands, self._constant(minus_one)]
        dtypes, lanes = [dtype] * len(operands), self.level.lane_count
        return self.printer.values.compute(self.level, opcode, operands, dtypes, dtype, lanes)

    def _call(self, value: Value, operands: list[str]) -> None:
        """Call a routine, or the one that makes the result of another call as well."""
        printer, names = self.printer, self.names
        pair = self.pairs.get(value)
        if pair is None:
            names[value] = printer.call(self.level, value, operands)
            return
        both = printer.called(self.level, pair.routine, value.args, operands)
        for position, each in enumerate(pair.calls):
            name = names[each] = printer.values.numbered()
            made = f"{{ {self.typed}, {self.typed} }}"
            self.level.put(f"{name} = extractvalue {made} {both}, {position}")

    def _loaded(self, value: Value) -> str:
        """A value from where it lies in memory."""
        held = self.memory.get(value)
        numbered = self.printer.values.numbered
        if held is not None and held.buffer is None:
            at = self._slot(held.slot)
            name = numbered()
            self.level.put(f"{name} = load {self.typed}, ptr {at}, align {self.bytes}")
            return name
        if held is not None:
            buffer, index = held.buffer, held.index
        else:
            buffer, index = value.immediate.buffer, value.immediate.index
        assert buffer is not None
        at, size, lanes = self._address(buffer, index), buffer.item_bytes, self.level.lanes
        if lanes is None or lanes.mask_of(buffer) is None:
            name = numbered()
            self.level.put(f"{name} = load {self.typed}, ptr {at}, align {size}")
            return name
        return self.printer.loads.wide(self.level, at, value.dtype, lanes, size)

    def _is_own(self, value: Value) -> bool:
        """Whether a value is what another segment has left in scratch."""
        return value.opcode == "load" and value.immediate.buffer.space == "worker"

    def _store(self, store: Store, name: str) -> None:
        buffer, lanes = store.buffer, self.level.lanes
        at, size = self._address(buffer, store.index), buffer.item_bytes
        if self.fetches and buffer.space == "global":
            self._ask(store, at)
        if lanes is None or lanes.mask_of(buffer) is None:
            self.level.put(f"store {self.typed} {name}, ptr {at}, align {size}")
        else:
            self.printer.stores.wide(self.level, name, at, store.value.dtype, lanes, size)
        if buffer.space == "worker" and store.value not in self.memory:
            self.memory[store.value] = _Memory(buffer, store.index)

    def _ask(self, store: Store, at: str) -> None:
        """Ask for a line of memory that the next tile writes. A line is several vectors: of as many
        arrays, whose addresses lie one after the other in the frame, each vector asks for one.
        """
        turns = self.asking.get(store, 1)
        if not turns:
            return
        fresh, put = self.printer.values.fresh, self.level.put
        self.printer.values.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        line = fresh("p")
        if turns == 1:
            put(f"{line} = getelementptr i8, ptr {at}, i64 {TILE_BYTES}")
        else:
            turn, ahead = self._turn(turns)
            moved, place, start = fresh("p"), fresh("p"), fresh("p")
            put(f"{moved} = getelementptr i8, ptr %frame, i64 {turn}")
            put(f"{place} = getelementptr i8, ptr {moved}, i64 {8 * self.places[store.buffer]}")
            put(f"{start} = load ptr, ptr {place}, align 8, !invariant.load !0")
            put(f"{line} = getelementptr i8, ptr {start}, i64 {ahead}")
        put(f"call void @llvm.prefetch.p0(ptr {line}, i32 1, i32 2, i32 1)")

    def _turn(self, turns: int) -> tuple[str, str]:
        """Where in the frame the array stands that a vector asks for, from the first of so many,
        and how many bytes on from its start the vector of the next tile is.
        """
        if self.ahead is None:
            lanes = self.level.lanes
            assert lanes is not None
            fresh, put = self.printer.values.fresh, self.level.put
            at, ahead, words, turn = (fresh() for _ in range(4))
            put(f"{at} = mul i64 {lanes.position}, {self.bytes // lanes.count}")
            put(f"{ahead} = add i64 {at}, {TILE_BYTES}")
            put(f"{words} = udiv i64 {at}, {self.bytes // 8}")
            put(f"{turn} = and i64 {words}, {8 * (turns - 1)}")
            self.ahead = turn, ahead
        return self.ahead

    def _position(self, buffer: Buffer, index: tuple[Extent, ...]) -> tuple[Extent, int]:
        """Where an element of lane 0 is, but for the lanes: what depends on names, and a number.
        That of one row follows from that of another.
        """
        slot, *inner = index if index else (0,)
        if not inner or not isinstance(slot, int):
            return self._split(linear(buffer, index))
        row = product(buffer.shape[1:])
        if buffer.layout != "contiguous" or not isinstance(row, int):
            return self._split(linear(buffer, index))
        key = buffer, *inner
        if key not in self.rows:
            self.rows[key] = self._split(linear(buffer, (0, *inner)))
        named, number = self.rows[key]
        return named, number + slot * row

    def _split(self, position: Extent) -> tuple[Extent, int]:
        if self.level.lanes is not None:
            split = affine(position, self.level.lanes.variable)
            assert split is not None
            position = split[1]
        number = constant_part(position)
        return position - number, number

    def _moved(self, base: str, element: str, moving: str) -> str:
        """An address so many elements on, written once."""
        at = self.starts.get(base)
        if at is None:
            at = self.starts[base] = self.printer.values.numbered()
            self.level.put(f"{at} = getelementptr {element}, ptr {base}, i64 {moving}")
        return at

    def _address(self, buffer: Buffer, index: tuple[Extent, ...]) -> str:
        """The address of an element, from one that is known: by the lanes, and by a number."""
        known = self.addresses.get((buffer, index))
        if known is not None:
            return known
        level, indices, size = self.level, self.printer.indices, buffer.item_bytes
        moving = level.lanes.position if level.lanes is not None else ""
        named, number = self._position(buffer, index)
        loaded = buffer in self.places
        if loaded:
            at, base = self.printer.values.numbered(), self.printer.values.numbered()
            level.put(f"{at} = getelementptr i64, ptr %frame, i64 {self.places[buffer]}")
            level.put(f"{base} = load ptr, ptr {at}, align 8, !invariant.load !0")
            if named != 0:
                first, at = base, indices.dim(level, named)
                base = self.printer.values.numbered()
                level.put(f"{base} = getelementptr i{8 * size}, ptr {first}, i64 {at}")
        else:
            base = indices.advance(level, indices.pointers[buffer], named, size, {})
        if moving:
            base = self._moved(base, f"i{8 * size}", moving)
        at = base
        if number != 0:
            at = self.printer.values.numbered()
            level.put(f"{at} = getelementptr i8, ptr {base}, i64 {number * size}")
        if buffer.space == "worker" or not (named != 0 or loaded or self.fetches):
            self.addresses[buffer, index] = at
        return at


def often_reached(statements: Iterable[Any]) -> dict[Buffer, int]:
    """How many statements read or write each array."""
    often: dict[Buffer, int] = {}
    for statement in statements:
        if type(statement) is Store:
            buffer = statement.buffer
        elif type(statement) is Value and statement.opcode == "load":
            buffer = statement.immediate.buffer
        else:
            continue
        often[buffer] = often.get(buffer, 0) + 1
    return often


def loaded_at_use(often: Mapping[Buffer, int]) -> set[Buffer]:
    """The arrays whose addresses are fetched from the frame where they are used."""
    return {b for b, count in often.items() if count < OFTEN and b.space == "global"}


def pairs_of(statements: Iterable[Any]) -> dict[Value, Pair]:
    """Calls for the same arguments that one routine answers, by the one that comes first."""
    alone: dict[tuple[Value, ...], list[Value]] = {}
    found: dict[Value, Pair] = {}
    for call in (s for s in statements if type(s) is Value and s.opcode == "call"):
        earlier = alone.setdefault(call.args, [])
        for each in earlier:
            pair = _pair(each, call) or _pair(call, each)
            if pair is not None:
                found[each] = pair
                earlier.remove(each)
                break
        else:
            earlier.append(call)
    return found


def _pair(first: Value, second: Value) -> Pair | None:
    routine = joined(first.immediate, second.immediate)
    return None if routine is None else Pair(routine, (first, second))


def constant_part(extent: Extent) -> int:
    """The number that an extent adds to what depends on names."""
    if isinstance(extent, int):
        return extent
    return sum(coefficient for monomial, coefficient in extent.terms if not monomial)
