"""How is a kernel written as LLVM IR? Explicit vectors, masked tails, code at the outermost level
where it can be.

The text is made in one pass. A loop's body is written first, into a buffer of its own, so that
addresses and splats that do not vary in it can still be put in front of it. A vector loop becomes a
loop over whole vectors and one masked remainder; inside, every value is a vector. Loads and stores
are wide where the index moves by one element a lane, uniform where it does not move, and gathered
otherwise. Accumulators are loop-carried vectors, combined at the end by a fixed tree of shuffles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graphc.codegen.lanes import choose_lanes
from graphc.codegen.llvm_ahead import pieces_ahead, rows_ahead, tile_ahead
from graphc.codegen.llvm_extent import LONG_SUM, Arithmetic
from graphc.codegen.llvm_scalar import (
    Rare,
    constant,
    from_memory,
    instruction,
    llvm_type,
    memory_type,
    rarely_needed,
    to_memory,
    used_values,
)
from graphc.codegen.llvm_stream import LINE_BYTES, alignment, is_large, may_stream, streaming_stores
from graphc.codegen.llvm_turned import fill, routine, turned_loads
from graphc.codegen.loops import Buffer, Kernel, identity, linear, stride_name
from graphc.codegen.machine import Machine
from graphc.codegen.recurrence import carried_loads
from graphc.codegen.scalar import (
    BITS,
    Accumulate,
    Accumulator,
    Address,
    Barrier,
    Check,
    For,
    Routine,
    Scope,
    Store,
    Until,
    Value,
    walk,
)
from graphc.dims import Dim, Extent, affine, symbols_of

# A loop inside a task looks whether it should stop once in so many steps: some ten microseconds. A
# step that holds a loop counts for many.
PAUSE_STEPS = 16_384
PAUSE_STEPS_OF_LOOPS = 128
# Kernels of more values never pause: the call, though it is rare, would push the many constants of
# `exp` and its like out of registers, a tenth of the time of a softmax.
PAUSE_BELOW = 24

# Lanes that lie so many elements apart are picked out of whole vectors; others are gathered.
MOST_STEP = 4

# Words of the status record: what stops a call, and who is asked for signals meanwhile.
CODE_WORD, CANCEL_WORD, POLL_WORD = 0, 4, 7


@dataclass(frozen=True)
class Text:
    """The text of a module, and the routines that it calls, by symbol, with the lanes of each."""

    text: str
    routines: Mapping[str, tuple[Routine, int]]


def kernel_module(kernel: Kernel, machine: Machine, name: str) -> Text:
    """The LLVM module of a loop-nest kernel: `void name(ptr frame, i64 begin, i64 end, i64
    worker)`.
    """
    printer = Printer(kernel, machine)
    return printer.module(printer.function(name, kernel.body, kernel.nest))


def routine_module(routine: Routine, lanes: int, machine: Machine, name: str) -> str:
    """The LLVM module of a routine on vectors of so many lanes: arguments and result by value."""
    printer = Printer(Kernel([], routine.body, routine.name), machine)
    level = Level(routine.body, None, lanes=Lanes("", lanes, "", None))
    for position, parameter in enumerate(routine.parameters):
        level.names[id(parameter)] = f"%x{position}"
    printer.block(level, routine.body, [routine.result])
    given = ", ".join(
        f"{llvm_type(p.dtype, lanes)} %x{i}" for i, p in enumerate(routine.parameters)
    )
    made = llvm_type(routine.result.dtype, lanes)
    head = [f"define {made} @{name}({given}) nounwind {{", "entry:"]
    tail = [f"  ret {made} {printer.operand(level, routine.result)}", "}"]
    return printer.module("\n".join([*head, *level.lines, *tail])).text


def steps_between_pauses(loop: For) -> int:
    """Of a loop inside a task, how many steps it makes before it looks whether to stop."""
    holds_loops = any(isinstance(s, For) for s in loop.body.statements)
    return PAUSE_STEPS_OF_LOOPS if holds_loops else PAUSE_STEPS


def longest_function(kernel: Kernel) -> int:
    """Statements of the longest function in the text of a kernel: of a segment, or of the rest."""
    statements = list(walk(kernel.body))
    segments = [len(s.body.statements) for s in statements if isinstance(s, For) and s.segment]
    return max(len(statements) - sum(segments), *segments, 0)


def buffers_of(loop: For) -> set[Buffer]:
    """The buffers that a loop reads or writes."""
    found = {s.buffer for s in walk(loop.body) if isinstance(s, Store)}
    loads = (s.immediate for s in walk(loop.body) if isinstance(s, Value))
    return found | {each.buffer for each in loads if isinstance(each, Address)}


def may_run_long(kernel: Kernel) -> bool:
    """Whether one task of a loop nest may be stopped half-way: some loop of it pauses, or could."""
    nest = kernel.nest
    if not isinstance(nest, For):
        return False
    statements = list(walk(nest.body))
    if sum(isinstance(s, Value) for s in statements) > PAUSE_BELOW:
        return False
    return any(isinstance(s, For) and not _is_short(s) for s in statements)


def _is_short(loop: For, step: int = 1) -> bool:
    """Whether it is known that a loop ends before it would pause."""
    static = isinstance(loop.start, int) and isinstance(loop.stop, int)
    return static and loop.stop - loop.start <= steps_between_pauses(loop) * step  # type: ignore[operator]


# Dtypes that a wider integer may be narrowed to.
_NARROW = frozenset(("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"))


@dataclass
class Lanes:
    """The vector loop that is being written: its variable, its first position, and which lanes are
    live.
    """

    variable: str
    count: int
    position: str  # i64, the loop variable of lane 0
    mask: str | None  # <count x i1>, or None when all lanes are live
    single: str = ""  # i1, whether only the first lane is live, if that may be known to LLVM


@dataclass(eq=False)
class Level:
    """Code being written for one scope: its lines, and the names of what it has computed."""

    scope: Scope | None
    parent: Level | None
    lines: list[str] = field(default_factory=list)
    block: str = "entry"
    dims: dict[Any, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    splats: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    latest: tuple[Dim, str] | None = None  # the last long sum, from which the next may follow
    lanes: Lanes | None = None  # of the enclosing vector loop, if there is one
    introduces_lanes: bool = False
    finished: str | None = None  # whether the loop whose body this is needs no further iteration

    def __post_init__(self) -> None:
        self.introduces_lanes = self.lanes is not None
        if self.lanes is None and self.parent is not None:
            self.lanes = self.parent.lanes

    def put(self, line: str) -> None:
        self.lines.append("  " + line)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def chain(self) -> Iterator[Level]:
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent


class Printer:
    """Writes one kernel."""

    # Of a vector loop without sums, whose order would depend on them; None: as many as it likes.
    most_lanes: int | None = None

    def __init__(self, kernel: Kernel, machine: Machine) -> None:
        self.kernel = kernel
        self.machine = machine
        self.declarations: set[str] = set()
        self.routines: dict[str, tuple[Routine, int]] = {}
        self._count = 0
        self._records = False
        self._pauses: bool | None = None  # None: a loop here has nobody to ask and never pauses
        self.strides: dict[tuple[Buffer, int], str] = {}
        self.pointers: dict[Buffer, str] = {}
        self.words: dict[str, str] = {}  # status, and for contractions scratch and workers
        self.worker = "%worker"
        self.is_part = False  # of a kernel whose long loops are functions
        self.segments: list[str] = []
        self._states: dict[Any, str] = {}
        self._results: dict[Any, str] = {}
        self._carried: dict[int, Value] = {}  # by stores, the loads that registers replace
        self._literals: dict[tuple[int, int], str] = {}  # of constants, by lanes
        self.turning: set[int] = set()  # the sizes of elements of which tiles are turned
        self._moved: dict[int, Address] = {}  # where loads find what they read, turned
        self._ahead: dict[int, Extent] = {}  # by how many bytes what is read next lies ahead
        self._streaming: set[int] = set()  # stores that go past the caches, in this loop
        self._streams_of: list[Buffer] | None = None  # where they go; None: they are not for here

    def fresh(self, prefix: str = "t") -> str:
        self._count += 1
        return f"%{prefix}{self._count}"

    def module(self, function: str) -> Text:
        """The module of a finished function."""
        preludes = self.preludes()
        lines = [*sorted(self.declarations), "", *preludes, function]
        return Text("\n".join(lines) + "\n", self.routines)

    def preludes(self) -> list[str]:
        texts = [_RECORD] if self._records else []
        texts += [_PAUSE] if self._pauses else []
        for size in sorted(self.turning):
            text, declarations = routine(size, self.machine)
            self.declarations |= declarations
            texts.append(text)
        return [*texts, *self.segments]

    # -- the function ------------------------------------------------------------------------------

    def open(
        self, name: str, parameters: str, frame: str = "%frame", used_by: For | None = None
    ) -> Level:
        """The entry of a function: the words of the frame as named values, those that a loop uses.
        """
        used = None if used_by is None else buffers_of(used_by)
        level = Level(None, None)
        level.lines.append(f"define void @{name}({parameters}) nounwind {{")
        level.label("entry")
        for position, (kind, item) in enumerate(self.kernel.frame()):
            if used is not None and kind == "buffer" and item not in used:
                continue
            at = self.fresh("w")
            level.put(f"{at} = getelementptr i64, ptr {frame}, i64 {position}")
            typed = "i64" if kind in ("stride", "extent", "workers") else "ptr"
            value = self.fresh("f")
            level.put(f"{value} = load {typed}, ptr {at}, align 8, !invariant.load !0")
            if kind == "buffer":
                self.pointers[item] = value
            elif kind == "stride":
                self.strides[item] = value
                level.symbols[stride_name(*item)] = value
            elif kind == "extent":
                level.symbols[item] = value
            else:
                self.words[kind] = value
        for buffer in self.kernel.buffers:
            if buffer.space == "worker" and buffer in self.pointers:
                self._own_scratch(level, buffer)
        return level

    def _own_scratch(self, level: Level, buffer: Buffer) -> None:
        """Point a buffer of worker space at this worker's copy; copies are 64-byte aligned."""
        size = self.dim(level, _aligned_bytes(buffer))
        offset, pointer = self.fresh(), self.fresh()
        level.put(f"{offset} = mul i64 {size}, {self.worker}")
        level.put(f"{pointer} = getelementptr i8, ptr {self.pointers[buffer]}, i64 {offset}")
        self.pointers[buffer] = pointer

    def function(self, name: str, body: Scope, nest: Any) -> str:
        assert isinstance(nest, For)
        top = self.open(name, "ptr noalias %frame, i64 %begin, i64 %end, i64 %worker")
        level = Level(body, top, block=top.block)
        level.lines, level.symbols = top.lines, {}
        self._pauses = False if may_run_long(self.kernel) else None
        self._streams_of = []
        for statement in body.statements:
            if statement is nest:
                self.counted_loop(level, nest, "%begin", "%end")
            else:
                self.statement(level, statement)
        self._finish_streams(level)
        level.put("ret void")
        if self._pauses:
            level.label("stopped")
            level.put("ret void")
        level.lines.append("}")
        return "\n".join(level.lines) + _METADATA

    def _finish_streams(self, level: Level) -> None:
        """What went past the caches is seen by the others before they see that the task is done."""
        for buffer in dict.fromkeys(self._streams_of or ()):
            large = is_large(self, level, buffer, self.machine.l3)
            self._count += 1
            tag = self._count
            level.put(f"br i1 {large}, label %fence{tag}, label %done{tag}, !prof !2")
            level.label(f"fence{tag}")
            level.put("fence seq_cst")
            level.put(f"br label %done{tag}")
            level.label(f"done{tag}")

    # -- statements --------------------------------------------------------------------------------

    def block(self, level: Level, scope: Scope, results: Iterable[Value] = ()) -> None:
        """The statements of a scope, with what is rarely needed behind a branch. `results` are
        values that are used after it.
        """
        branches = rarely_needed(scope, results) if _has_rare(scope) else []
        hidden = {id(v) for rare in branches for v in (*rare.instructions, *rare.selects)}
        starts = {id(rare.selects[0]): rare for rare in branches}
        for statement in scope.statements:
            if id(statement) in starts:
                self.rare(level, starts[id(statement)])
            elif id(statement) not in hidden:
                self.statement(level, statement)

    def rare(self, level: Level, rare: Rare) -> None:
        """Instructions that run only if some lane needs them; elsewhere a select is its last
        operand.
        """
        lanes = self.lane_count(level)
        condition, flags = self.operand(level, rare.condition), llvm_type("bool", lanes)
        usual = [self.operand(level, value.args[2]) for value in rare.selects]
        self._count += 1
        tag = self._count
        if lanes > 1:
            function = f"llvm.vector.reduce.or.v{lanes}i1"
            self.declarations.add(f"declare i1 @{function}({flags})")
            some = self.fresh("c")
            level.put(f"{some} = call i1 @{function}({flags} {condition})")
            condition = some
        before = level.block
        level.put(f"br i1 {condition}, label %rare{tag}, label %usual{tag}")
        level.label(f"rare{tag}")
        for value in (*rare.instructions, *rare.selects):
            self.value(level, value)
        chosen = [level.names[id(value)] for value in rare.selects]
        level.put(f"br label %usual{tag}")
        level.label(f"usual{tag}")
        for value, inside, outside in zip(rare.selects, chosen, usual, strict=True):
            result = self.fresh("r")
            typed = llvm_type(value.dtype, lanes)
            level.put(f"{result} = phi {typed} [{inside}, %rare{tag}], [{outside}, %{before}]")
            level.names[id(value)] = result

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, Value):
            self.value(level, s)
        elif isinstance(s, Store):
            self.store(level, s)
            load = self._carried.get(id(s))
            if load in self._states:
                self._states[load] = self.operand(level, s.value)
        elif isinstance(s, Accumulate):
            self.accumulate(level, s)
        elif isinstance(s, Check):
            self.check(level, s)
        elif isinstance(s, Until):
            level.finished = self.all_lanes(level, s.condition)
        elif isinstance(s, Barrier):
            pass  # a task is done by one thread, in order
        elif isinstance(s, For):
            if s.segment and not self.is_part:
                self.segment(level, s)
            elif s.role == "vector":
                self.vector_loop(level, s)
            else:
                self.counted_loop(level, s, self.dim(level, s.start), self.dim(level, s.stop))
        else:
            raise AssertionError(f"no such statement: {s!r}")

    def value(self, level: Level, value: Value) -> None:
        lanes = self.lane_count(level)
        if value.opcode == "const":
            return
        if value.opcode == "result":
            level.names[id(value)] = self._results[value.immediate]
            return
        if value.opcode == "index":
            level.names[id(value)] = self.index_value(level, value)
            return
        if value.opcode == "load":
            carried = self._states.get(value)
            level.names[id(value)] = carried or self.load(level, value)
            return
        operands = [self.operand(level, argument) for argument in value.args]
        if value.opcode == "call":
            level.names[id(value)] = self.call(level, value, operands)
            return
        dtypes = [argument.dtype for argument in value.args]
        fresh = self.fresh
        lines, result, declarations = instruction(
            *(value.opcode, operands, dtypes, value.dtype, lanes, fresh),
            self.machine.converts_halves,
        )
        for line in lines:
            level.put(line)
        if declarations:
            self.declarations |= declarations
        level.names[id(value)] = result

    def call(self, level: Level, value: Value, operands: list[str]) -> str:
        """The result of a routine, of the variant for the lanes of this level."""
        routine, lanes = value.immediate, self.lane_count(level)
        symbol = f"graphc_{routine.name}_x{lanes}"
        self.routines[symbol] = routine, lanes
        types = [llvm_type(argument.dtype, lanes) for argument in value.args]
        made, name = llvm_type(value.dtype, lanes), self.fresh()
        given = ", ".join(map(" ".join, zip(types, operands, strict=True)))
        self.declarations.add(f"declare {made} @{symbol}({', '.join(types)}) nounwind")
        level.put(f"{name} = call {made} @{symbol}({given})")
        return name

    def lane_count(self, level: Level) -> int:
        return level.lanes.count if level.lanes else 1

    def operand(self, level: Level, value: Value, lanes: int | None = None) -> str:
        """A value as an operand at this level: a literal, a name, or a splat of what was computed
        outside the lanes.
        """
        wanted = self.lane_count(level) if lanes is None else lanes
        if value.opcode == "const":
            key = (id(value), wanted)
            if key not in self._literals:
                self._literals[key] = constant(value.immediate, value.dtype, wanted)
            return self._literals[key]
        each: Level | None = level
        while each is not None:
            name = each.names.get(id(value))
            if name is not None:
                had = self.lane_count(each)
                return name if had == wanted else self.splat(each, level, name, value.dtype, wanted)
            each = each.parent
        if value.opcode == "result":
            return self.product(level, value)
        raise AssertionError(f"{value!r} is not available")

    def product(self, level: Level, value: Value) -> str:
        """The finished sum of a contraction: only epilogues have it (`llvm_contract`)."""
        raise AssertionError(f"{value!r} is not available")

    def splat(self, home: Level, level: Level, name: str, dtype: str, lanes: int) -> str:
        """A uniform value in every lane, made once at the level where it was computed."""
        key = f"{name}x{lanes}"
        found = home.splats.get(key)
        if found is None:
            found = home.splats[key] = self.broadcast(home, name, llvm_type(dtype), lanes)
        return found

    def broadcast(self, level: Level, name: str, element: str, lanes: int) -> str:
        first, result = self.fresh(), self.fresh()
        vector = f"<{lanes} x {element}>"
        level.put(f"{first} = insertelement {vector} poison, {element} {name}, i64 0")
        level.put(
            f"{result} = shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> "
            "zeroinitializer"
        )
        return result

    # -- loops -------------------------------------------------------------------------------------

    def segment(self, level: Level, loop: For) -> None:
        """A function of the loop, and the call of it, with loop variables and values from outside.
        """
        inside = list(walk(loop.body))
        made = {id(s) for s in inside}
        needed = {id(v): v for s in inside for v in used_values(s)}
        outer = [v for key, v in needed.items() if key not in made and v.opcode != "const"]
        names = {n: each for each in level.chain() for n in each.symbols if each.scope is not None}
        part = Printer(self.kernel, self.machine)
        part.is_part, part._pauses = True, None
        top = part.open("", "", used_by=loop)
        inner = Level(Scope(), top, block=top.block)
        inner.lines = top.lines
        given, parameters = ["ptr %frame", f"i64 {self.worker}"], ["ptr %frame", "i64 %worker"]
        for i, (name, each) in enumerate(sorted(names.items())):
            inner.symbols[name] = f"%i{i}"
            parameters.append(f"i64 %i{i}")
            given.append(f"i64 {each.symbols[name]}")
        for i, value in enumerate(outer):
            inner.names[id(value)] = f"%x{i}"
            parameters.append(f"{llvm_type(value.dtype)} %x{i}")
            given.append(f"{llvm_type(value.dtype)} {self.operand(level, value, 1)}")
        part.statement(inner, loop)
        self._count += 1
        name = f"@segment{self._count}"
        # Vectors that are put aside would lie across two lines of the cache.
        aligned = f" alignstack({self.machine.vector_bytes})" if loop.role == "vector" else ""
        signature = f"{name}({', '.join(parameters)}) noinline nounwind{aligned}"
        head = f"define internal void {signature} {{"
        self.segments.append("\n".join([head, *inner.lines[1:], "  ret void", "}"]))
        self.declarations |= part.declarations
        self.routines |= part.routines
        self._records = self._records or part._records
        level.put(f"call void {name}({', '.join(given)})")

    def counted_loop(self, level: Level, loop: For, start: str, stop: str) -> None:
        """A loop in order, with accumulators carried in registers."""
        lanes = self.lane_count(level)
        self._prepare(level, loop)
        initial = {
            a: constant(identity(a.combiner, a.dtype), a.dtype, lanes) for a in loop.accumulators
        }
        initial |= self._first_loads(level, loop, start, stop)
        self._results.update(self._carried_loop(level, loop, start, stop, 1, lanes, initial))

    def _first_loads(self, level: Level, loop: For, start: str, stop: str) -> dict[Any, str]:
        """What the first iteration reads by the loads that registers replace from then on."""
        found: dict[Any, str] = {}
        for load, store in carried_loads(loop):
            ahead = Level(loop.body, level, block=level.block)
            ahead.symbols[loop.variable] = start
            how, at = self.place(ahead, store.buffer, load.immediate.index, ())
            lanes, size = level.lanes, item_bytes(store.buffer)
            if how != ("uniform" if lanes is None else "wide"):
                continue
            some = self.fresh("c")
            ahead.put(f"{some} = icmp slt i64 {start}, {stop}")
            if lanes is None:
                fill = constant(0, load.dtype, 1)
                found[load] = self._guarded_load(ahead, load, at, some, fill)
            else:
                safe, flags = self.fresh("p"), llvm_type("bool", lanes.count)
                ahead.put(f"{safe} = select i1 {some}, ptr {at}, ptr {self.pointers[store.buffer]}")
                mask = self.broadcast(ahead, some, "i1", lanes.count)
                if lanes.mask is not None:
                    both = self.fresh()
                    ahead.put(f"{both} = and {flags} {mask}, {lanes.mask}")
                    mask = both
                masked = replace(lanes, mask=mask)
                found[load] = self.wide_load(ahead, safe, load.dtype, masked, size)
            self._carried[id(store)] = load
            level.lines.extend(ahead.lines)
            level.block = ahead.block
        return found

    def _prepare(self, level: Level, loop: For) -> None:
        """Turn what the lanes in a loop in order would read across the rows of memory, and ask for
        what lies in short pieces of them.
        """
        if self._streams_of is None:
            return
        found = turned_loads(loop)
        if found is None:
            self._ahead |= pieces_ahead(loop, self.machine.l2)
            return
        lanes, turned = found
        self._moved |= {id(t.load): fill(self, level, loop, lanes, t) for t in turned}
        self._ahead |= tile_ahead(loop, lanes)

    def _address(self, load: Value) -> Address:
        return self._moved.get(id(load), load.immediate)

    def _carried_loop(
        self,
        level: Level,
        loop: For,
        start: str,
        stop: str,
        step: int,
        lanes: int,
        initial: dict[Any, str],
    ) -> dict[Any, str]:
        """A loop by `step`, and what its accumulators hold after it. A step of several is one of as
        many lanes.
        """
        self._count += 1
        tag = self._count
        i, following = f"%{loop.variable}_{tag}", f"%{loop.variable}n_{tag}"
        states = {a: f"%a{tag}_{k}" for k, a in enumerate(initial)}
        if step > 1:
            own = Lanes(loop.variable, lanes, i, None)
            body = self._lane_body(level, loop, own, f"body{tag}", states)
        else:
            body = Level(loop.body, level, block=f"body{tag}")
            body.symbols[loop.variable] = i
            self._states.update(states)
            self.block(body, loop.body)
        final = self._close_states(states)
        before = level.block
        condition, done = self.fresh("c"), self.fresh("c")
        short = loop.role == "parallel" or _is_short(loop, step)
        pauses = self._pauses is not None and not short
        first, entrance = ("block", f"%from{tag}") if pauses else ("body", start)
        level.put(f"{condition} = icmp slt i64 {start}, {stop}")
        level.put(f"br i1 {condition}, label %{first}{tag}, label %exit{tag}")
        origin, limit, entering = before, stop, initial
        if pauses:
            entering = {a: f"{name}f" for a, name in states.items()}
            origin, limit = f"block{tag}", f"%limit{tag}"
            level.label(origin)
            level.put(f"{entrance} = phi i64 [{start}, %{before}], [{following}, %go{tag}]")
            for a, name in entering.items():
                ends = f"[{initial[a]}, %{before}], [{final[a]}, %go{tag}]"
                level.put(f"{name} = phi {llvm_type(a.dtype, lanes)} {ends}")
            self._block_end(level, limit, entrance, stop, steps_between_pauses(loop) * step)
            level.put(f"br label %body{tag}")
        level.label(f"body{tag}")
        level.put(f"{i} = phi i64 [{entrance}, %{origin}], [{following}, %latch{tag}]")
        for a, name in states.items():
            ends = f"[{entering[a]}, %{origin}], [{final[a]}, %latch{tag}]"
            level.put(f"{name} = phi {llvm_type(a.dtype, lanes)} {ends}")
        level.lines.extend(body.lines)
        if body.finished is None:
            level.put(f"br label %latch{tag}")
        else:  # there are no accumulators, whose phis would have to know this way out
            level.put(f"br i1 {body.finished}, label %exit{tag}, label %latch{tag}")
        level.label(f"latch{tag}")
        level.put(f"{following} = add nsw i64 {i}, {step}")
        level.put(f"{done} = icmp slt i64 {following}, {limit}")
        if not pauses:
            level.put(f"br i1 {done}, label %body{tag}, label %exit{tag}")
            return self._leave(level, tag, before, f"latch{tag}", lanes, initial, final)
        level.put(f"br i1 {done}, label %body{tag}, label %pause{tag}, !prof !1")
        self._pause(level, tag, following, stop)
        return self._leave(level, tag, before, f"pause{tag}", lanes, initial, final)

    def _block_end(self, level: Level, name: str, start: str, stop: str, block: int) -> None:
        """Where a loop that is at `start` pauses next, under a name."""
        self.declarations.add("declare i64 @llvm.smin.i64(i64, i64)")
        rest, size = self.fresh(), self.fresh()
        level.put(f"{rest} = sub i64 {stop}, {start}")  # start + block could overflow
        level.put(f"{size} = call i64 @llvm.smin.i64(i64 {rest}, i64 {block})")
        level.put(f"{name} = add i64 {start}, {size}")

    def _pause(self, level: Level, tag: int, position: str, stop: str) -> None:
        """Between two blocks of iterations: leave the kernel if the call has been stopped.

        Nothing after the loop runs then: half an accumulator may be no position of anything. The
        weights keep what the call costs, registers that it spoils, out of the iterations.
        """
        self._pauses = True
        more, stopped = self.fresh("c"), self.fresh("c")
        level.label(f"pause{tag}")
        level.put(f"{more} = icmp slt i64 {position}, {stop}")
        level.put(f"br i1 {more}, label %ask{tag}, label %exit{tag}, !prof !2")
        level.label(f"ask{tag}")
        status, words = self.words["status"], []
        level.put(f"call void @pause(ptr {status}, i64 {self.worker})")
        for word in (CODE_WORD, CANCEL_WORD):
            at, value = self.fresh(), self.fresh()
            level.put(f"{at} = getelementptr i64, ptr {status}, i64 {word}")
            level.put(f"{value} = load atomic i64, ptr {at} monotonic, align 8")
            words.append(value)
        either = self.fresh()
        level.put(f"{either} = or i64 {words[0]}, {words[1]}")
        level.put(f"{stopped} = icmp ne i64 {either}, 0")
        level.put(f"br i1 {stopped}, label %stopped, label %go{tag}, !prof !2")
        level.label(f"go{tag}")
        level.put(f"br label %block{tag}")

    def _leave(
        self,
        level: Level,
        tag: int,
        before: str,
        last: str,
        lanes: int,
        initial: dict[Any, str],
        final: dict[Any, str],
    ) -> dict[Any, str]:
        """The block after a loop or a branch: accumulators hold what they had before, or what was
        made of it.
        """
        level.label(f"exit{tag}")
        results = {}
        for a, name in initial.items():
            results[a] = self.fresh("m")
            typed = llvm_type(a.dtype, lanes)
            level.put(f"{results[a]} = phi {typed} {_incoming([(name, before), (final[a], last)])}")
        return results

    def _close_states(self, states: dict[Any, str]) -> dict[Any, str]:
        return {a: self._states.pop(a) for a in states}

    def vector_loop(self, level: Level, loop: For) -> None:
        """Whole vectors, then one masked remainder."""
        count = choose_lanes(loop, self.machine.vector_bytes)
        if self.most_lanes is not None and not loop.accumulators:
            count = min(count, self.most_lanes)
        if not loop.accumulators and self._reaches_apart(loop):
            # Addresses take 8 bytes a lane, and elements are fetched one by one: lanes beyond two
            # vectors of addresses gain nothing, and cost tens of milliseconds to compile. Sums keep
            # their lanes, on which their order depends.
            count = min(count, max(2, self.machine.vector_bytes // 4))
        if self._streams_of is not None:
            self._ahead |= rows_ahead(loop, self.machine.l2)
        static = isinstance(loop.start, int) and isinstance(loop.stop, int)
        length = loop.stop - loop.start if static else None  # type: ignore[operator]
        if loop.segment:
            self._masked_loop(level, loop, count)
            return
        start = self.dim(level, loop.start)
        current = {
            a: constant(identity(a.combiner, a.dtype), a.dtype, count) for a in loop.accumulators
        }
        if length is None:
            stop = self.dim(level, loop.stop)
            total, whole, span = self.fresh(), self.fresh(), self.fresh()
            middle, rest = self.fresh(), self.fresh()
            self.declarations.add("declare i64 @llvm.smax.i64(i64, i64)")
            level.put(f"{span} = sub i64 {stop}, {start}")
            level.put(f"{total} = call i64 @llvm.smax.i64(i64 {span}, i64 0)")
            level.put(f"{whole} = and i64 {total}, {-count}")
            level.put(f"{middle} = add i64 {start}, {whole}")
            level.put(f"{rest} = sub i64 {total}, {whole}")
        else:
            whole_length = length // count * count
            middle, rest = str(loop.start + whole_length), str(length - whole_length)  # type: ignore[operator]
        if length is None or length >= count:
            current = self._main_loop(level, loop, start, middle, count, current)
        if length is None or length % count:
            current = self._remainder(level, loop, count, middle, rest, current, length is None)
        for a, name in current.items():
            self._results[a] = self.combine_lanes(level, a, name, count)

    def _main_loop(
        self, level: Level, loop: For, start: str, stop: str, count: int, initial: dict[Any, str]
    ) -> dict[Any, str]:
        """The whole vectors of a loop; in two versions where its stores may go past the caches."""
        given = (loop, start, stop, count, count, initial)
        stores = streaming_stores(loop, count, self.machine.l3)
        if self._streams_of is None or not stores:
            return self._carried_loop(level, *given)
        self._streams_of += [store.buffer for store in stores]
        condition = may_stream(self, level, loop, stores, self.machine.l3)
        self._count += 1
        tag = self._count
        versions = {}
        for name, past in (("past", stores), ("through", [])):
            versions[name] = Level(level.scope, level, block=f"{name}{tag}")
            self._streaming = {id(store) for store in past}
            self._carried_loop(versions[name], *given)
        level.put(f"br i1 {condition}, label %past{tag}, label %through{tag}")
        for name, version in versions.items():
            level.label(f"{name}{tag}")
            level.lines.extend(version.lines)
            level.put(f"br label %joined{tag}")
        level.label(f"joined{tag}")
        return {}

    def _masked_loop(self, level: Level, loop: For, count: int) -> None:
        """All vectors under a mask, so that a long body is written once."""
        self._count += 1
        tag = self._count
        i, following = f"%{loop.variable}_{tag}", f"%{loop.variable}n_{tag}"
        start, stop = self.dim(level, loop.start), self.dim(level, loop.stop)
        mask, rest, spread = self.fresh("mask"), self.fresh(), self.fresh()
        header = Level(loop.body, level, block=f"body{tag}")
        header.put(f"{i} = phi i64 [{start}, %{level.block}], [{following}, %latch{tag}]")
        header.put(f"{rest} = sub i64 {stop}, {i}")
        spread = self.broadcast(header, rest, "i64", count)
        numbers = ", ".join(f"i64 {k}" for k in range(count))
        header.put(f"{mask} = icmp slt <{count} x i64> <{numbers}>, {spread}")
        single, more = self.fresh("c"), self.fresh("c")
        header.put(f"{single} = icmp eq i64 {rest}, 1")
        lanes = Lanes(loop.variable, count, i, mask, single)
        body = self._lane_body(level, loop, lanes, f"body{tag}", {})
        level.put(f"br label %body{tag}")
        level.label(f"body{tag}")
        level.lines += header.lines + body.lines
        level.put(f"br label %latch{tag}")
        level.label(f"latch{tag}")
        level.put(f"{following} = add nsw i64 {i}, {count}")
        level.put(f"{more} = icmp slt i64 {following}, {stop}")
        level.put(f"br i1 {more}, label %body{tag}, label %exit{tag}")
        level.label(f"exit{tag}")

    def _reaches_apart(self, loop: For) -> bool:
        """Whether lanes of a loop read or write elements that do not lie side by side."""
        inside = set(map(id, walk(loop.body)))
        for statement in walk(loop.body):
            if isinstance(statement, Store):
                buffer, index, args = statement.buffer, statement.index, statement.args
            elif isinstance(statement, Value) and statement.opcode == "load":
                address = self._address(statement)
                buffer, index = address.buffer, address.index
                args = statement.args[: address.count]
            else:
                continue
            split = affine(linear(buffer, index), loop.variable)
            side_by_side = (0, 1) if buffer.layout == "contiguous" else (0,)
            if split is None or split[0] not in side_by_side:
                return True
            if any(id(value) in inside for value in args):
                return True
        return False

    def _remainder(
        self,
        level: Level,
        loop: For,
        count: int,
        position: str,
        rest: str,
        initial: dict[Any, str],
        unknown: bool,
    ) -> dict[Any, str]:
        """The last lanes, fewer than a vector, under a mask."""
        self._count += 1
        tag = self._count
        mask = self.fresh("mask")
        prefix: list[str] = []
        numbers = ", ".join(f"i32 {k}" for k in range(count))
        if unknown:
            narrow = self.fresh()
            prefix.append(f"  {narrow} = trunc i64 {rest} to i32")
            first, spread = self.fresh(), self.fresh()
            vector = f"<{count} x i32>"
            prefix.append(f"  {first} = insertelement {vector} poison, i32 {narrow}, i64 0")
            prefix.append(
                f"  {spread} = shufflevector {vector} {first}, {vector} poison, {vector} "
                "zeroinitializer"
            )
        else:
            spread = f"splat (i32 {rest})"
        prefix.append(f"  {mask} = icmp slt <{count} x i32> <{numbers}>, {spread}")
        states = dict(initial)
        single = "true" if rest == "1" and not unknown else ""
        lanes = Lanes(loop.variable, count, position, mask, single)
        body = self._lane_body(level, loop, lanes, f"body{tag}", states)
        final = self._close_states(states)
        if not unknown:
            level.lines.extend(prefix)
            level.put(f"br label %body{tag}")
            level.label(f"body{tag}")
            level.lines.extend(body.lines)
            level.block = body.block
            return final
        before = level.block
        condition = self.fresh("c")
        level.put(f"{condition} = icmp sgt i64 {rest}, 0")
        level.put(f"br i1 {condition}, label %body{tag}, label %exit{tag}")
        level.label(f"body{tag}")
        level.lines.extend(prefix)
        level.lines.extend(body.lines)
        level.put(f"br label %latch{tag}")
        level.label(f"latch{tag}")
        level.put(f"br label %exit{tag}")
        return self._leave(level, tag, before, f"latch{tag}", count, initial, final)

    def _lane_body(
        self, level: Level, loop: For, lanes: Lanes, block: str, states: dict[Any, str]
    ) -> Level:
        body = Level(loop.body, level, block=block, lanes=lanes)
        body.symbols[loop.variable] = lanes.position
        self._states.update(states)
        self.block(body, loop.body)
        return body

    def accumulate(self, level: Level, s: Accumulate) -> None:
        lanes = level.lanes
        count = lanes.count if lanes else 1
        state = self._states[s.accumulator]
        value = self.operand(level, s.value)
        combined = self.combined(level, s.accumulator, state, value, count)
        masks = [] if lanes is None or lanes.mask is None else [lanes.mask]
        if s.mask is not None:
            masks.append(self.operand(level, s.mask))
        for mask in masks:
            chosen = self.fresh()
            typed, flags = llvm_type(s.accumulator.dtype, count), llvm_type("bool", count)
            level.put(f"{chosen} = select {flags} {mask}, {typed} {combined}, {typed} {state}")
            combined = chosen
        self._states[s.accumulator] = combined

    def combined(self, level: Level, a: Accumulator, first: str, second: str, lanes: int) -> str:
        lines, result, declarations = instruction(
            *(a.combiner, [first, second], [a.dtype, a.dtype], a.dtype, lanes, self.fresh),
            self.machine.converts_halves,
        )
        for line in lines:
            level.put(line)
        self.declarations |= declarations
        return result

    def combine_lanes(self, level: Level, a: Accumulator, name: str, lanes: int) -> str:
        """Halves onto halves until one lane is left: an order that depends on the number of lanes
        only.
        """
        element = llvm_type(a.dtype)
        while lanes > 1:
            half = lanes // 2
            low, high = self.fresh(), self.fresh()
            vector = f"<{lanes} x {element}>"
            for result, base in ((low, 0), (high, half)):
                picks = ", ".join(f"i32 {base + k}" for k in range(half))
                level.put(
                    f"{result} = shufflevector {vector} {name}, {vector} poison, <{half} x i32> "
                    f"<{picks}>"
                )
            if half == 1:
                singles = []
                for half_vector in (low, high):
                    single = self.fresh()
                    level.put(f"{single} = extractelement <1 x {element}> {half_vector}, i64 0")
                    singles.append(single)
                low, high = singles
            name = self.combined(level, a, low, high, half)
            lanes = half
        return name

    # -- memory ------------------------------------------------------------------------------------

    def place(
        self, level: Level, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]
    ) -> tuple[str, str]:
        """How lanes reach memory: ("wide" | "uniform", pointer) or ("lanes", vector of pointers).
        """
        position = linear(buffer, index)
        unit = 1 if buffer.layout == "strided" else item_bytes(buffer)
        lanes = level.lanes
        values = self.argument_names(level, args)
        varying = {name for name, (_, count) in values.items() if count > 1}
        if lanes is None:
            return "uniform", self.pointer(level, buffer, position, unit, values)
        if not symbols_of(position) & varying:
            split = affine(position, lanes.variable)
            if split is not None:
                slope, _ = split
                if slope == 0:
                    return "uniform", self.pointer(level, buffer, position, unit, values)
                if slope == 1 and buffer.layout == "contiguous":
                    return "wide", self.pointer(level, buffer, position, unit, values)
        pointers, typed = self.fresh("p"), f"<{lanes.count} x i64>"
        moving = symbols_of(position) & (varying | {lanes.variable})
        split = affine(position, next(iter(moving))) if len(moving) == 1 else None
        if split is not None and split[0] == 1 and not symbols_of(split[1]) & moving:
            # what is the same in all lanes is added once, and what differs is scaled on the way
            (name,) = moving
            base = self.pointer(level, buffer, split[1], unit, values)
            offsets = self.vector_dim(level, Dim.symbol(name), values)
            level.put(f"{pointers} = getelementptr i{8 * unit}, ptr {base}, {typed} {offsets}")
            return "lanes", pointers
        offsets = self.vector_dim(level, position, values)
        if unit > 1:
            scaled = self.fresh()
            level.put(f"{scaled} = mul {typed} {offsets}, splat (i64 {unit})")
            offsets = scaled
        level.put(f"{pointers} = getelementptr i8, ptr {self.pointers[buffer]}, {typed} {offsets}")
        return "lanes", pointers

    def argument_names(self, level: Level, args: tuple[Value, ...]) -> dict[str, tuple[str, int]]:
        """The names that an index gives to values, with the operand and its number of lanes."""
        found = {}
        for k, value in enumerate(args):
            home = next((each for each in level.chain() if id(value) in each.names), None)
            lanes = 1 if home is None else self.lane_count(home)
            found[f"_arg{k}"] = (self.operand(level, value, lanes), lanes)
        return found

    def pointer(
        self,
        level: Level,
        buffer: Buffer,
        position: Extent,
        unit: int,
        values: dict[str, tuple[str, int]],
    ) -> str:
        """The address of one element. What does not vary in the innermost loop is added in front of
        it.
        """
        inner = {name for name in symbols_of(position) if name in level.symbols or name in values}
        moving: Extent = position
        base = self.pointers[buffer]
        for name in sorted(inner):
            split = affine(position, name) if name in level.symbols else None
            if split is not None and len(inner) == 1:
                slope, rest = split
                moving = slope * Dim.symbol(name)
                base = self._advance(self._home(level, rest, {}), base, rest, unit, {})
        return self._advance(level, base, moving, unit, values)

    def _advance(
        self,
        level: Level,
        base: str,
        position: Extent,
        unit: int,
        values: dict[str, tuple[str, int]],
    ) -> str:
        if position == 0:
            return base
        key = ("pointer", base, position, unit)
        home = self._home(level, position, values)
        if not values and key in home.dims:
            return home.dims[key]
        offset = self.dim(level, position, values)
        result = self.fresh("p")
        element = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}[unit]
        home.put(f"{result} = getelementptr {element}, ptr {base}, i64 {offset}")
        if not values:
            home.dims[key] = result
        return result

    def load(self, level: Level, value: Value) -> str:
        address = self._address(value)
        buffer, dtype = address.buffer, value.dtype
        lanes = level.lanes
        count = lanes.count if lanes else 1
        args = value.args[: address.count]
        slope = self._step(level, value)
        if slope is not None:
            return self._stepped_load(level, value, slope)
        how, at = self.place(level, buffer, address.index, args)
        mask, fill = self.masks(level, value, lanes)
        if how == "uniform" and count > 1:
            return self._uniform_load(level, value, at, count)
        typed, flags, size = memory_type(dtype, count), llvm_type("bool", count), item_bytes(buffer)
        name = self.fresh("l")
        if mask is None and how in ("wide", "uniform"):
            level.put(f"{name} = load {typed}, ptr {at}, align {size}")
            if id(value) in self._ahead and how == "wide":
                self._prefetch(level, at, self._ahead[id(value)], count * size)
        elif count == 1:
            return self._guarded_load(level, value, at, mask or "", fill)
        elif how == "wide":
            at = self._mapped(level, value, at)
            function = f"llvm.masked.load.{_suffix(dtype, count)}.p0"
            self.declarations.add(f"declare {typed} @{function}(ptr, i32, {flags}, {typed})")
            level.put(
                f"{name} = call {typed} @{function}(ptr align {size} {at}, i32 {size}, {flags} "
                f"{mask}, {typed} {fill})"
            )
        else:
            row = affine(linear(buffer, address.index), "_arg0")
            if id(value) in self._ahead and row is not None and lanes is not None:
                # as far into the next row as this iteration is into its own
                into = row[1] + Dim.symbol(lanes.variable)
                here = self.pointer(level, buffer, into, size, {})
                self._prefetch(level, here, self._ahead[id(value)], count * size)
            function = f"llvm.masked.gather.{_suffix(dtype, count)}.v{count}p0"
            pointers = f"<{count} x ptr>"
            live = mask or "splat (i1 true)"
            self.declarations.add(f"declare {typed} @{function}({pointers}, i32, {flags}, {typed})")
            level.put(
                f"{name} = call {typed} @{function}({pointers} {at}, i32 {size}, {flags} {live}, "
                f"{typed} {fill})"
            )
        lines, result = from_memory(name, dtype, count, self.fresh)
        for line in lines:
            level.put(line)
        return result

    def _prefetch(self, level: Level, at: str, distance: Extent, size: int) -> None:
        """Ask for so many bytes at a distance: of addresses that do not exist, nothing is asked."""
        self.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        ahead = self.dim(level, distance)
        base = self.fresh("p")
        level.put(f"{base} = getelementptr i8, ptr {at}, i64 {ahead}")
        for offset in range(0, size, LINE_BYTES):
            line = self.fresh("p")
            level.put(f"{line} = getelementptr i8, ptr {base}, i64 {offset}")
            level.put(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 2, i32 1)")

    def _step(self, level: Level, value: Value) -> int | None:
        """By how many elements the lanes of a load lie apart, if all are live and it is few."""
        address = self._address(value)
        lanes, buffer = level.lanes, address.buffer
        if lanes is None or lanes.mask is not None or len(value.args) > address.count:
            return None
        if buffer.layout != "contiguous" or lanes.count < 4 or address.count:
            return None
        split = affine(linear(buffer, address.index), lanes.variable)
        if split is None or not isinstance(split[0], int):
            return None
        return split[0] if split[0] != 1 and 1 <= abs(split[0]) <= MOST_STEP else None

    def _stepped_load(self, level: Level, value: Value, slope: int) -> str:
        """Lanes a few elements apart: whole vectors of memory, of which each lane picks its own.

        Nothing beyond the first and the last lane is touched: the last vector of each piece ends
        where that piece does.
        """
        address = self._address(value)
        buffer, dtype, lanes = address.buffer, value.dtype, level.lanes
        assert lanes is not None
        size, count, step = item_bytes(buffer), lanes.count, abs(slope)
        width = min(count, max(4, self.machine.vector_bytes // size))
        split = affine(linear(buffer, address.index), lanes.variable)
        assert split is not None
        at = self.pointer(level, buffer, slope * Dim.symbol(lanes.variable) + split[1], size, {})
        element = memory_type(dtype, 1)
        typed = f"<{width} x {element}>"
        pieces: list[str] = []
        span = step * (width - 1) + 1  # elements from the first lane of a piece to the last
        for first in range(0, count, width):
            low = first * slope if slope > 0 else (first + width - 1) * slope
            starts = [min(k * width, span - width) for k in range(step)]
            chosen = "poison"
            for k, start in enumerate(starts):
                pointer, loaded, picked = self.fresh("p"), self.fresh("l"), self.fresh()
                level.put(
                    f"{pointer} = getelementptr i8, ptr {at}, i64 {(low + start) * size}"
                )
                level.put(f"{loaded} = load {typed}, ptr {pointer}, align {size}")
                picks = []
                for lane in range(width):
                    wanted = lane * step if slope > 0 else (width - 1 - lane) * step
                    if k * width <= wanted < (k + 1) * width:
                        picks.append(f"i32 {width + wanted - start}")
                    else:
                        picks.append(f"i32 {lane}")
                level.put(
                    f"{picked} = shufflevector {typed} {chosen}, {typed} {loaded}, "
                    f"<{width} x i32> <{', '.join(picks)}>"
                )
                chosen = picked
            pieces.append(chosen)
        lines, result = from_memory(self._joined(level, pieces, element, width), dtype, count,
                                    self.fresh)
        for line in lines:
            level.put(line)
        return result

    def _joined(self, level: Level, pieces: list[str], element: str, width: int) -> str:
        """Vectors one after the other as one, pair by pair."""
        while len(pieces) > 1:
            typed = f"<{width} x {element}>"
            order = ", ".join(f"i32 {k}" for k in range(2 * width))
            halves = pieces
            pieces = []
            for low, high in zip(halves[::2], halves[1::2], strict=True):
                pieces.append(self.fresh())
                level.put(
                    f"{pieces[-1]} = shufflevector {typed} {low}, {typed} {high}, "
                    f"<{2 * width} x i32> <{order}>"
                )
            width *= 2
        return pieces[0]

    def _mapped(self, level: Level, value: Value, at: str) -> str:
        """The address of a masked load, or the buffer's own where the mask is off for all lanes
        alike: lanes that are off touch nothing, but beyond any page they cost a fault each time.
        """
        address = self._address(value)
        mask = value.args[address.count : address.count + 1]
        for condition in self._shared_conditions(level, mask):
            held = self.fresh("p")
            holds = self.operand(level, condition, 1)
            level.put(f"{held} = select i1 {holds}, ptr {at}, ptr {self.pointers[address.buffer]}")
            at = held
        return at

    def _shared_conditions(self, level: Level, masks: tuple[Value, ...]) -> list[Value]:
        """The parts of a mask, taken apart where it is an `and`, that are the same in all lanes."""
        found: list[Value] = []
        stack = list(masks)
        while stack:
            mask = stack.pop()
            home = next((each for each in level.chain() if id(mask) in each.names), None)
            if home is None or self.lane_count(home) == 1:
                found.append(mask)
            elif mask.opcode == "and":
                stack += mask.args
        return found

    def wide_load(self, level: Level, at: str, dtype: str, lanes: Lanes, size: int) -> str:
        """Consecutive elements in consecutive lanes; lanes that are off touch nothing and hold 0.
        """
        typed, flags = memory_type(dtype, lanes.count), llvm_type("bool", lanes.count)
        name = self.fresh("l")
        if lanes.mask is None:
            level.put(f"{name} = load {typed}, ptr {at}, align {size}")
            return name
        function = f"llvm.masked.load.{_suffix(dtype, lanes.count)}.p0"
        self.declarations.add(f"declare {typed} @{function}(ptr, i32, {flags}, {typed})")
        fill = constant(0, dtype, lanes.count)
        level.put(
            f"{name} = call {typed} @{function}(ptr align {size} {at}, i32 {size}, {flags} "
            f"{lanes.mask}, {typed} {fill})"
        )
        return name

    def wide_store(
        self, level: Level, value: str, at: str, dtype: str, lanes: Lanes, size: int
    ) -> None:
        """Consecutive lanes to consecutive elements; lanes that are off write nothing."""
        typed, flags = memory_type(dtype, lanes.count), llvm_type("bool", lanes.count)
        if lanes.mask is None:
            level.put(f"store {typed} {value}, ptr {at}, align {size}")
            return
        function = f"llvm.masked.store.{_suffix(dtype, lanes.count)}.p0"
        self.declarations.add(f"declare void @{function}({typed}, ptr, i32, {flags})")
        level.put(
            f"call void @{function}({typed} {value}, ptr align {size} {at}, i32 {size}, {flags} "
            f"{lanes.mask})"
        )

    def masks(self, level: Level, value: Value, lanes: Lanes | None) -> tuple[str | None, str]:
        """The mask of a load, if any lane may be off, and what those lanes get, in memory form."""
        address: Address = value.immediate
        count = lanes.count if lanes else 1
        fill = constant(0, "uint8" if value.dtype == "bool" else value.dtype, count)
        mask = lanes.mask if lanes else None
        if len(value.args) > address.count:
            own = self.operand(level, value.args[address.count])
            filler = value.args[address.count + 1]
            lines, fill = to_memory(self.operand(level, filler), value.dtype, count, self.fresh)
            for line in lines:
                level.put(line)
            if mask is not None:
                both = self.fresh()
                level.put(f"{both} = and {llvm_type('bool', count)} {mask}, {own}")
                own = both
            mask = own
        return mask, fill

    def _uniform_load(self, level: Level, value: Value, at: str, count: int) -> str:
        """One element for all lanes. Lanes that are off may see it: what they compute is not used.
        """
        address: Address = value.immediate
        dtype, size = value.dtype, item_bytes(address.buffer)
        if len(value.args) > address.count:  # lanes disagree about reading at all: ask each
            pointers = self.broadcast(level, at, "ptr", count)
            mask, fill = self.masks(level, value, level.lanes)
            typed, flags = memory_type(dtype, count), llvm_type("bool", count)
            function = f"llvm.masked.gather.{_suffix(dtype, count)}.v{count}p0"
            self.declarations.add(
                f"declare {typed} @{function}(<{count} x ptr>, i32, {flags}, {typed})"
            )
            name = self.fresh("l")
            level.put(
                f"{name} = call {typed} @{function}(<{count} x ptr> {pointers}, i32 {size}, "
                f"{flags} {mask}, {typed} {fill})"
            )
            lines, result = from_memory(name, dtype, count, self.fresh)
        else:
            name = self.fresh("l")
            level.put(f"{name} = load {memory_type(dtype)}, ptr {at}, align {size}")
            lines, single = from_memory(name, dtype, 1, self.fresh)
            for line in lines:
                level.put(line)
            return self.broadcast(level, single, llvm_type(dtype), count)
        for line in lines:
            level.put(line)
        return result

    def _guarded_load(self, level: Level, value: Value, at: str, mask: str, fill: str) -> str:
        """A scalar load under a condition: an absent element is read from a stand-in."""
        dtype = value.dtype
        size, typed = item_bytes(value.immediate.buffer), memory_type(dtype)
        self._count += 1
        tag = self._count
        before = level.block
        name, result = self.fresh("l"), self.fresh("l")
        level.put(f"br i1 {mask}, label %read{tag}, label %skip{tag}")
        level.label(f"read{tag}")
        level.put(f"{name} = load {typed}, ptr {at}, align {size}")
        level.put(f"br label %skip{tag}")
        level.label(f"skip{tag}")
        level.put(f"{result} = phi {typed} [{fill}, %{before}], [{name}, %read{tag}]")
        lines, final = from_memory(result, dtype, 1, self.fresh)
        for line in lines:
            level.put(line)
        return final

    def store(self, level: Level, s: Store) -> None:
        lanes = level.lanes
        count = lanes.count if lanes else 1
        dtype, size = s.value.dtype, item_bytes(s.buffer)
        how, at = self.place(level, s.buffer, s.index, s.args)
        value = self.operand(level, s.value)
        lines, value = to_memory(value, dtype, count, self.fresh)
        for line in lines:
            level.put(line)
        mask = lanes.mask if lanes else None
        flags = llvm_type("bool", count)
        if s.mask is not None:
            own = self.operand(level, s.mask)
            if mask is not None:
                both = self.fresh()
                level.put(f"{both} = and {flags} {mask}, {own}")
                own = both
            mask = own
        typed = memory_type(dtype, count)
        if count == 1:
            self._scalar_store(level, typed, value, at, size, mask)
        elif how == "wide" and lanes is not None and lanes.single and dtype in _NARROW:
            live = None if s.mask is None else mask
            self._narrow_store(level, lanes, dtype, value, at, size, live)
        elif how == "wide" and mask is None and id(s) in self._streaming:
            aligned = alignment(s, count)
            level.put(f"store {typed} {value}, ptr {at}, align {aligned}, !nontemporal !3")
        elif how == "wide" and mask is None:
            level.put(f"store {typed} {value}, ptr {at}, align {size}")
        elif how == "wide":
            self._masked_store(level, dtype, count, value, at, size, str(mask))
        else:
            pointers = self.broadcast(level, at, "ptr", count) if how == "uniform" else at
            function = f"llvm.masked.scatter.{_suffix(dtype, count)}.v{count}p0"
            self.declarations.add(
                f"declare void @{function}({typed}, <{count} x ptr>, i32, {flags})"
            )
            live = mask or "splat (i1 true)"
            level.put(
                f"call void @{function}({typed} {value}, <{count} x ptr> {pointers}, i32 {size}, "
                f"{flags} {live})"
            )

    def _masked_store(
        self, level: Level, dtype: str, count: int, value: str, at: str, size: int, mask: str
    ) -> None:
        typed, flags = memory_type(dtype, count), llvm_type("bool", count)
        function = f"llvm.masked.store.{_suffix(dtype, count)}.p0"
        self.declarations.add(f"declare void @{function}({typed}, ptr, i32, {flags})")
        level.put(
            f"call void @{function}({typed} {value}, ptr align {size} {at}, i32 {size}, "
            f"{flags} {mask})"
        )

    def _narrow_store(
        self,
        level: Level,
        lanes: Lanes,
        dtype: str,
        value: str,
        at: str,
        size: int,
        own: str | None,
    ) -> None:
        """A store under a mask, that of one lane by itself. LLVM 20 turns a masked store of one
        element that was narrowed into one of the whole element, over what follows in memory.
        """
        count = lanes.count
        first = self.fresh()
        level.put(f"{first} = extractelement {memory_type(dtype, count)} {value}, i64 0")
        flag = None
        if own is not None:
            flag = self.fresh("c")
            level.put(f"{flag} = extractelement {llvm_type('bool', count)} {own}, i64 0")
        if lanes.single == "true":
            self._scalar_store(level, memory_type(dtype, 1), first, at, size, flag)
            return
        self._count += 1
        tag = self._count
        level.put(f"br i1 {lanes.single}, label %one{tag}, label %several{tag}")
        level.label(f"one{tag}")
        self._scalar_store(level, memory_type(dtype, 1), first, at, size, flag)
        level.put(f"br label %stored{tag}")
        level.label(f"several{tag}")
        self._masked_store(level, dtype, count, value, at, size, str(own or lanes.mask))
        level.put(f"br label %stored{tag}")
        level.label(f"stored{tag}")

    def _scalar_store(
        self, level: Level, typed: str, value: str, at: str, size: int, mask: str | None
    ) -> None:
        if mask is None:
            level.put(f"store {typed} {value}, ptr {at}, align {size}")
            return
        self._count += 1
        tag = self._count
        level.put(f"br i1 {mask}, label %write{tag}, label %skip{tag}")
        level.label(f"write{tag}")
        level.put(f"store {typed} {value}, ptr {at}, align {size}")
        level.put(f"br label %skip{tag}")
        level.label(f"skip{tag}")

    # -- checks ------------------------------------------------------------------------------------

    def all_lanes(self, level: Level, condition: Value) -> str:
        """Whether a condition holds in every live lane."""
        lanes, holds = level.lanes, self.operand(level, condition)
        if lanes is None:
            return holds
        flags = llvm_type("bool", lanes.count)
        if lanes.mask is not None:
            dead, either = self.fresh(), self.fresh()
            level.put(f"{dead} = xor {flags} {lanes.mask}, splat (i1 true)")
            level.put(f"{either} = or {flags} {dead}, {holds}")
            holds = either
        bits, result = self.fresh(), self.fresh()
        level.put(f"{bits} = bitcast {flags} {holds} to i{lanes.count}")
        level.put(f"{result} = icmp eq i{lanes.count} {bits}, -1")
        return result

    def check(self, level: Level, s: Check) -> None:
        """Branch to a call that records the first failure, when a live lane fails."""
        self._records = True
        lanes = level.lanes
        count = lanes.count if lanes else 1
        holds, index = self.operand(level, s.condition), self.operand(level, s.index)
        self._count += 1
        tag = self._count
        flags = llvm_type("bool", count)
        fails = self.fresh()
        ones = "true" if count == 1 else "splat (i1 true)"
        level.put(f"{fails} = xor {flags} {holds}, {ones}")
        if lanes is not None and lanes.mask is not None:
            live = self.fresh()
            level.put(f"{live} = and {flags} {fails}, {lanes.mask}")
            fails = live
        found = fails
        if count > 1:
            bits, found = self.fresh(), self.fresh()
            level.put(f"{bits} = bitcast {flags} {fails} to i{count}")
            level.put(f"{found} = icmp ne i{count} {bits}, 0")
        level.put(f"br i1 {found}, label %fail{tag}, label %fine{tag}")
        level.label(f"fail{tag}")
        detail = index
        if count > 1:
            self.declarations.add(f"declare i{count} @llvm.cttz.i{count}(i{count}, i1)")
            first, wide, detail = self.fresh(), self.fresh(), self.fresh()
            level.put(f"{first} = call i{count} @llvm.cttz.i{count}(i{count} {bits}, i1 false)")
            cast = "zext" if count < 64 else "bitcast" if count == 64 else "trunc"
            level.put(f"{wide} = {cast} i{count} {first} to i64")
            level.put(f"{detail} = extractelement <{count} x i64> {index}, i64 {wide}")
        status = self.words["status"]
        level.put(f"call void @record(ptr {status}, i64 {s.code}, i64 {s.node}, i64 {detail})")
        level.put(f"br label %fine{tag}")
        level.label(f"fine{tag}")

    # -- index expressions -------------------------------------------------------------------------

    def index_value(self, level: Level, value: Value) -> str:
        lanes = level.lanes
        values = self.argument_names(level, value.args)
        if lanes is None:
            return self.dim(level, value.immediate, values)
        return self.vector_dim(level, value.immediate, values)

    def _home(self, level: Level, extent: Extent, values: dict[str, tuple[str, int]]) -> Level:
        """The outermost level at which every name of an extent is known."""
        names = symbols_of(extent)
        if names & values.keys():
            return level
        for each in level.chain():
            if names & each.symbols.keys() or each.parent is None or each.scope is None:
                return each
        return level

    def dim(
        self, level: Level, extent: Extent, values: dict[str, tuple[str, int]] | None = None
    ) -> str:
        """An extent as an i64 (of lane 0 inside a vector loop), computed at the outermost level
        possible.
        """
        if isinstance(extent, int):
            return str(extent)
        values = values or {}
        home = self._home(level, extent, values)
        if not symbols_of(extent) & values.keys() and extent in home.dims:
            return home.dims[extent]

        def name_of(name: str) -> str:
            if name in values:
                return values[name][0]
            return next(each.symbols[name] for each in level.chain() if name in each.symbols)

        emitter = Arithmetic(home, self.fresh, "i64", str, name_of)
        if symbols_of(extent) & values.keys():
            return emitter.extent(extent)
        if len(extent.terms) < LONG_SUM:
            result = emitter.extent(extent)
        else:
            home.latest = emitter.following(extent, home.latest)
            result = home.latest[1]
        home.dims[extent] = result
        return result

    def vector_dim(self, level: Level, extent: Extent, values: dict[str, tuple[str, int]]) -> str:
        """An extent in every lane."""
        lanes = level.lanes
        assert lanes is not None
        count = lanes.count
        vector = f"<{count} x i64>"
        if isinstance(extent, int):
            return f"splat (i64 {extent})"
        if lanes.variable not in symbols_of(extent) and not symbols_of(extent) & values.keys():
            name = self.dim(level, extent)
            return self.splat(self._home(level, extent, {}), level, name, "int64", count)
        split = None if symbols_of(extent) & values.keys() else affine(extent, lanes.variable)
        if split is not None and isinstance(split[0], int):
            return self._lanes_from(level, split[0], split[1])

        def name_of(name: str) -> str:
            if name == lanes.variable:
                return self._lane_positions(level, lanes)
            if name in values:
                held, had = values[name]
                return held if had == count else self.broadcast(level, held, "i64", count)
            home, single = next(
                (each, each.symbols[name]) for each in level.chain() if name in each.symbols
            )
            return self.splat(home, level, single, "int64", count)

        emitter = Arithmetic(level, self.fresh, vector, lambda n: f"splat (i64 {n})", name_of)
        return emitter.extent(extent)

    def _lanes_from(self, level: Level, slope: int, start: Extent) -> str:
        """`slope` times the loop variable, plus what is the same in every lane."""
        lanes = level.lanes
        assert lanes is not None
        vector = f"<{lanes.count} x i64>"
        result = self._lane_positions(level, lanes)
        if slope != 1:
            scaled = self.fresh()
            level.put(f"{scaled} = mul {vector} {result}, splat (i64 {slope})")
            result = scaled
        if start == 0:
            return result
        offset, moved = self.vector_dim(level, start, {}), self.fresh()
        level.put(f"{moved} = add {vector} {result}, {offset}")
        return moved

    def _lane_positions(self, level: Level, lanes: Lanes) -> str:
        """The loop variable in every lane."""
        home = next(each for each in level.chain() if each.introduces_lanes)
        key = ("positions",)
        if key not in home.dims:
            first = self.broadcast(home, lanes.position, "i64", lanes.count)
            numbers = ", ".join(f"i64 {k}" for k in range(lanes.count))
            result = self.fresh()
            home.put(f"{result} = add <{lanes.count} x i64> {first}, <{numbers}>")
            home.dims[key] = result
        return home.dims[key]


def _incoming(values: list[tuple[str, str]]) -> str:
    """The operands of a phi: values with the blocks that they come from."""
    return ", ".join(f"[{value}, %{block}]" for value, block in values)


def item_bytes(buffer: Buffer) -> int:
    """Bytes of an element of a buffer."""
    return item_bytes_of(buffer.dtype)


def item_bytes_of(dtype: str) -> int:
    """Bytes of a value in memory; a bool takes one."""
    return max(1, BITS[dtype] // 8)


def _aligned_bytes(buffer: Buffer) -> Extent:
    from graphc.codegen.memory import aligned
    from graphc.dims import product

    return aligned(product(buffer.shape) * item_bytes(buffer))


def _has_rare(scope: Scope) -> bool:
    return any(isinstance(s, Value) and s.immediate == "rarely" for s in scope.statements)


def _suffix(dtype: str, lanes: int) -> str:
    element = memory_type(dtype)
    return f"v{lanes}{_SUFFIXES.get(element, element)}"


# What stands for a type in the names of intrinsics; integers stand for themselves.
_SUFFIXES = {"half": "f16", "float": "f32", "double": "f64"}


# The first failing thread writes the record; later ones find the code taken.
_RECORD = """
define internal void @record(ptr %status, i64 %code, i64 %node, i64 %index) noinline cold nounwind {
entry:
  %won = cmpxchg ptr %status, i64 0, i64 %code seq_cst seq_cst
  %first = extractvalue {i64, i1} %won, 1
  br i1 %first, label %write, label %done
write:
  %p1 = getelementptr i64, ptr %status, i64 1
  store i64 %node, ptr %p1
  %p2 = getelementptr i64, ptr %status, i64 2
  store i64 %index, ptr %p2
  br label %done
done:
  ret void
}
"""

# An empty set; how often a loop goes on, and how rarely a pause is more than that; what marks
# stores that go past the caches.
_METADATA = """
!0 = !{}
!1 = !{!"branch_weights", i32 16384, i32 1}
!2 = !{!"branch_weights", i32 1, i32 4096}
!3 = !{i32 1}
"""


# The thread that calls, no other, asks Python for signals.
_PAUSE = f"""
define internal void @pause(ptr %status, i64 %worker) noinline cold nounwind {{
entry:
  %poll_at = getelementptr i64, ptr %status, i64 {POLL_WORD}
  %poll = load ptr, ptr %poll_at, align 8
  %can = icmp ne ptr %poll, null
  %calls = icmp eq i64 %worker, 0
  %asks = and i1 %can, %calls
  br i1 %asks, label %ask, label %done
ask:
  call void %poll(ptr %status)
  br label %done
done:
  ret void
}}
"""
