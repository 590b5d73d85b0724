"""How is a kernel written as LLVM IR? Explicit vectors, masked tails, code at the outermost level
where it can be.

A `Printer` writes one function: it opens the frame and dispatches statements to what writes each
kind of them (`loops`, `loads`, `stores`, `accumulators`, `checks`), which all share the names of
`values` and `indices`. Long loops in segments become functions of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.codegen.llvm.accumulators import Accumulators
from graphc.codegen.llvm.checks import RECORD, Checks
from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.library import Libraries
from graphc.codegen.llvm.loads import Loads
from graphc.codegen.llvm.loops import Loops
from graphc.codegen.llvm.numbers import Numbers
from graphc.codegen.llvm.pauses import PAUSE, Pauses, may_run_long
from graphc.codegen.llvm.scalar import llvm_type
from graphc.codegen.llvm.stores import Stores
from graphc.codegen.llvm.straight import Straight, is_straight, loaded_at_use, often_reached
from graphc.codegen.llvm.stream import Traffic, all_of, is_large
from graphc.codegen.llvm.turned import routine
from graphc.codegen.llvm.values import Values
from graphc.codegen.loops import Buffer, Kernel, stride_name
from graphc.codegen.machine import Machine
from graphc.codegen.memory import aligned
from graphc.codegen.rare import Rare, rarely_needed
from graphc.codegen.scalar import (
    Accumulate,
    Address,
    Barrier,
    Check,
    For,
    Library,
    Routine,
    Scope,
    Store,
    Until,
    Value,
    count_statements,
    loops_in,
    walk,
)
from graphc.codegen.segments import used
from graphc.dims import Extent, product

# Who runs a function, as every function with a frame calls it.
WORKER = "%worker"
# A loop of so many statements has its values in registers.
SHORT_BODY = 16
PARAMETERS = "ptr noalias %frame, i64 %begin, i64 %end, i64 %worker"


@dataclass(frozen=True)
class Driver:
    """A kernel that only calls functions of other modules, as parts of a module: it runs so
    seldom that one module of them all, compiled without care, does.
    """

    declarations: frozenset[str]
    preludes: tuple[str, ...]
    function: str


@dataclass(frozen=True)
class Text:
    """The text of a module, the routines that it calls, by symbol, with the lanes of each, and the
    symbols of a library that it calls.

    If there is a `driver`, that is the kernel, and the text, which may be empty, what it calls or
    has called.
    """

    text: str
    routines: Mapping[str, tuple[Routine, int]]
    foreign: tuple[str, ...] = ()
    driver: Driver | None = None
    straight: bool = False  # written so that level 0 makes good code of it, see `straight`

    @property
    def whole(self) -> str:
        """All of it, to be read."""
        return self.text + (self.driver.function if self.driver else "")


def kernel_module(kernel: Kernel, machine: Machine, name: str) -> Text:
    """The LLVM module of a loop-nest kernel: `void name(ptr frame, i64 begin, i64 end, i64
    worker)`.
    """
    printer = Printer(kernel, machine)
    strided = [b for b in kernel.buffers if b.layout == "strided" and b.shape]
    if not strided or any(loop.segment for loop in loops_in(kernel.body)):
        return printer.module(printer.function(name, kernel.body, kernel.nest))
    return _two_versions(printer, Printer(kernel, machine), strided, name)


def _two_versions(any_: Printer, rows: Printer, strided: Sequence[Buffer], name: str) -> Text:
    """A kernel over arrays of any strides, and one for those of which rows lie in one piece each:
    parts of larger arrays, mostly. Lanes that lie side by side are loaded as vectors.
    """
    kernel = any_.kernel
    rows.indices.side_by_side = frozenset(strided)
    texts = []
    for printer, suffix in ((any_, "any"), (rows, "rows")):
        text = printer.function(f"{name}_{suffix}", kernel.body, kernel.nest)
        texts.append(text.removesuffix(_METADATA).replace("define void", "define internal void", 1))
    lines = [f"define void @{name}({PARAMETERS}) nounwind {{", "entry:"]
    holds = "true"
    for position, (kind, item) in enumerate(kernel.frame()):
        if kind != "stride" or item[1] != len(item[0].shape) - 1:
            continue
        lines += [
            f"  %w{position} = getelementptr i64, ptr %frame, i64 {position}",
            f"  %s{position} = load i64, ptr %w{position}, align 8",
            f"  %c{position} = icmp eq i64 %s{position}, {item[0].item_bytes}",
            f"  %a{position} = and i1 {holds}, %c{position}",
        ]
        holds = f"%a{position}"
    lines.append(f"  br i1 {holds}, label %rows, label %any")
    for suffix in ("rows", "any"):
        lines += [f"{suffix}:", f"  tail call void @{name}_{suffix}({PARAMETERS})", "  ret void"]
    texts.append("\n".join([*lines, "}"]) + _METADATA)
    any_.values.declarations |= rows.values.declarations
    any_.routines |= rows.routines
    preludes = dict.fromkeys([*any_.preludes(), *rows.preludes()])
    text = "\n".join([*sorted(any_.values.declarations), "", *preludes, *texts]) + "\n"
    symbols = tuple(dict.fromkeys([*any_.libraries.symbols, *rows.libraries.symbols]))
    return Text(text, any_.routines, symbols)


def routine_module(routine: Routine, lanes: int, machine: Machine, name: str) -> str:
    """The LLVM module of a routine on vectors of so many lanes: arguments and results by value."""
    printer = Printer(Kernel([], routine.body, routine.name), machine)
    level = Level(routine.body, None, lanes=Lanes("", lanes, "", None))
    for position, parameter in enumerate(routine.parameters):
        level.names[id(parameter)] = f"%x{position}"
    results = [routine.result] if routine.also is None else [routine.result, routine.also]
    printer.block(level, routine.body, results)
    given = ", ".join(
        f"{llvm_type(p.dtype, lanes)} %x{i}" for i, p in enumerate(routine.parameters)
    )
    made = _returned(routine, lanes)
    aligned = aligned_stack(machine) if lanes > 1 else ""
    head = [f"define {made} @{name}({given}) nounwind{aligned} {{", "entry:"]
    first, *others = (printer.values.operand(level, result) for result in results)
    typed = llvm_type(routine.result.dtype, lanes)
    for other in others:
        level.put(f"%first = insertvalue {made} poison, {typed} {first}, 0")
        level.put(f"%both = insertvalue {made} %first, {typed} {other}, 1")
        first = "%both"
    tail = [f"  ret {made} {first}", "}", "!0 = !{}"]
    return printer.module("\n".join([*head, *level.lines, *tail])).text


def _returned(routine: Routine, lanes: int) -> str:
    """The LLVM type of what a routine returns."""
    typed = llvm_type(routine.result.dtype, lanes)
    return typed if routine.also is None else f"{{ {typed}, {typed} }}"


def aligned_stack(machine: Machine) -> str:
    """What keeps vectors that are put aside from lying across two lines of the cache."""
    return f" alignstack({machine.vector_bytes})"


def longest_function(kernel: Kernel) -> int:
    """Statements of the longest function in the text of a kernel: of a segment, or of the rest."""
    segments = [len(loop.body.statements) for loop in loops_in(kernel.body) if loop.segment]
    return max(count_statements(kernel.body) - sum(segments), *segments, 0)


def buffers_of(loop: For) -> set[Buffer]:
    """The buffers that a loop reads or writes."""
    found: set[Buffer] = set()
    for statement in walk(loop.body):
        if type(statement) is Store:
            found.add(statement.buffer)
        elif type(statement) is Value and type(statement.immediate) is Address:
            found.add(statement.immediate.buffer)
    return found


class Printer:
    """Writes one function of a kernel, and the functions of its segments."""

    is_straight: bool
    numbers: Numbers

    def __init__(self, kernel: Kernel, machine: Machine, whole: Printer | None = None) -> None:
        """`whole` writes the kernel of which this one writes a segment."""
        self.kernel = kernel
        self.machine = machine
        self.routines: dict[str, tuple[Routine, int]] = {}
        self.words: dict[str, str] = {}  # status, and for contractions scratch and workers
        self.is_part = whole is not None
        self.is_straight = is_straight(kernel, machine) if whole is None else whole.is_straight
        # Of numbers in memory, the symbols by text.
        self.constants: dict[str, str] = {} if whole is None else whole.constants
        self.segments: list[str] = []
        self.values = Values(machine)
        self.numbers = Numbers(self.values, {} if whole is None else whole.numbers.symbols)
        self.indices = Indices(self.values)
        self.loads, self.stores = Loads(self.indices), Stores(self.indices)
        self.checks = Checks(self.values, self.words)
        self.accumulators = Accumulators(self.values)
        self.libraries = Libraries(self.values, self.indices)
        self.pauses = Pauses(self.values, self.words, WORKER)
        self.loops = Loops(self.loads, self.stores, self.accumulators, self.pauses, self.block)

    def module(self, function: str) -> Text:
        """The module of a finished function."""
        preludes = self.preludes()
        lines = [*sorted(self.values.declarations), "", *preludes, function]
        text = "\n".join(lines) + "\n"
        return Text(text, self.routines, self.libraries.symbols, straight=self.is_straight)

    def driver(self, level: Level) -> Driver:
        """What was written, as the kernel that other functions of the text are for."""
        preludes = tuple(self.preludes())
        return Driver(frozenset(self.values.declarations), preludes, "\n".join(level.lines))

    def declare(self, function: str, types: str = "") -> str:
        """The name of a function that another module defines."""
        self.values.declarations.add(f"declare void @{function}({types})")
        return f"@{function}"

    def preludes(self) -> list[str]:
        """What the text of the function needs before it."""
        texts = [RECORD] if self.checks.used else []
        texts += [PAUSE] if self.pauses.used else []
        for size, side in sorted(self.loops.turning):
            text, declarations = routine(size, side, self.machine)
            self.values.declarations |= declarations
            texts.append(text)
        size = self.machine.vector_bytes
        numbers = [
            f"{symbol} = private constant {number}, align {size}"
            for number, symbol in self.constants.items()
        ]
        numbers += self.numbers.lines()
        return [*texts, *self.libraries.texts.values(), *numbers, *self.segments]

    # -- the function ------------------------------------------------------------------------------

    def open(
        self, name: str, parameters: str, frame: str = "%frame", used_by: For | None = None
    ) -> Level:
        """The entry of a function: the words of the frame as named values, those that a loop uses
        and does not fetch itself.
        """
        used = None if used_by is None else buffers_of(used_by)
        if used is not None and self.is_straight:
            used -= loaded_at_use(often_reached(used_by.body.statements))  # type: ignore[union-attr]
        level = Level(None, None)
        level.lines.append(f"define void @{name}({parameters}) nounwind {{")
        level.label("entry")
        self.fetch_words(level, frame, used)
        return level

    def fetch_words(self, level: Level, frame: str, used: set[Buffer] | None = None) -> None:
        """The words of the frame as named values, of buffers those that are used, if that is known.
        """
        for position, (kind, item) in enumerate(self.kernel.frame()):
            if used is not None and kind == "buffer" and item not in used:
                continue
            at = self.values.fresh("w")
            level.put(f"{at} = getelementptr i64, ptr {frame}, i64 {position}")
            typed = "i64" if kind in ("stride", "extent", "workers") else "ptr"
            value = self.values.fresh("f")
            level.put(f"{value} = load {typed}, ptr {at}, align 8, !invariant.load !0")
            if kind == "buffer":
                self.indices.pointers[item] = value
            elif kind == "stride":
                level.symbols[stride_name(*item)] = value
            elif kind == "extent":
                level.symbols[item] = value
            else:
                self.words[kind] = value
        for buffer in self.kernel.buffers:
            if buffer.space == "worker" and buffer in self.indices.pointers:
                self._own_scratch(level, buffer)

    def _own_scratch(self, level: Level, buffer: Buffer) -> None:
        """Point a buffer of worker space at this worker's copy; copies are 64-byte aligned."""
        size = self.indices.dim(level, _aligned_bytes(buffer))
        offset, pointer = self.values.fresh(), self.values.fresh()
        level.put(f"{offset} = mul i64 {size}, {WORKER}")
        first = self.indices.pointers[buffer]
        level.put(f"{pointer} = getelementptr i8, ptr {first}, i64 {offset}")
        self.indices.pointers[buffer] = pointer

    def function(self, name: str, body: Scope, nest: Any) -> str:
        assert isinstance(nest, For)
        top = self.open(name, PARAMETERS)
        level = Level(body, top, block=top.block)
        level.lines, level.symbols = top.lines, {}
        self.pauses.allowed = may_run_long(self.kernel)
        self.loops.traffic = Traffic.of(self.kernel, self.machine)
        for statement in body.statements:
            if statement is nest:
                self.loops.counted(level, nest, "%begin", "%end")
            else:
                self.statement(level, statement)
        self._finish_streams(level)
        level.put("ret void")
        if self.pauses.used:
            level.label("stopped")
            level.put("ret void")
        level.lines.append("}")
        if _puts_aside(body):
            level.lines[0] = level.lines[0].replace(" {", f"{aligned_stack(self.machine)} {{")
        return "\n".join(level.lines) + _METADATA

    def _finish_streams(self, level: Level) -> None:
        """What went past the caches is seen by the others before they see that the task is done."""
        traffic = self.loops.traffic
        if traffic is None:
            return
        for buffer in dict.fromkeys(traffic.streamed):
            large = all_of(self.indices, level, is_large(self.indices, level, buffer, traffic))
            tag = self.values.tag()
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
        if self.is_part and self.is_straight:
            Straight(self, level, scope, self.constants).write()
            return
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
        lanes = level.lane_count
        condition, flags = self.values.operand(level, rare.condition), llvm_type("bool", lanes)
        usual = [self.values.operand(level, value.args[2]) for value in rare.selects]
        tag = self.values.tag()
        if lanes > 1:
            function = f"llvm.vector.reduce.or.v{lanes}i1"
            self.values.declarations.add(f"declare i1 @{function}({flags})")
            some = self.values.fresh("c")
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
            result = self.values.fresh("r")
            typed = llvm_type(value.dtype, lanes)
            level.put(f"{result} = phi {typed} [{inside}, %rare{tag}], [{outside}, %{before}]")
            level.names[id(value)] = result

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, Value):
            self.value(level, s)
        elif isinstance(s, Store):
            self.stores.store(level, s)
            self.accumulators.replace(level, s)
        elif isinstance(s, Accumulate):
            self.accumulators.accumulate(level, s)
        elif isinstance(s, Check):
            self.checks.check(level, s)
        elif isinstance(s, Until):
            level.finished = self.checks.all_lanes(level, s.condition)
        elif isinstance(s, Library):
            self.libraries.call(level, s)
        elif isinstance(s, Barrier):
            pass  # a task is done by one thread, in order
        elif isinstance(s, For):
            if s.segment and not self.is_part:
                self.segment(level, s)
            elif s.role == "vector":
                self.loops.vector(level, s)
            else:
                bounds = self.indices.dim(level, s.start), self.indices.dim(level, s.stop)
                self.loops.counted(level, s, *bounds)
        else:
            raise AssertionError(f"no such statement: {s!r}")

    def value(self, level: Level, value: Value) -> None:
        if value.opcode == "const":
            return
        if value.opcode == "result":
            level.names[id(value)] = self.accumulators.results[value.immediate]
            return
        if value.opcode == "index":
            level.names[id(value)] = self.indices.value(level, value)
            return
        if value.opcode == "load":
            carried = self.accumulators.states.get(value)
            level.names[id(value)] = carried or self.loads.load(level, value)
            return
        operands = [self.numbers.operand(level, value, argument) for argument in value.args]
        if value.opcode == "call":
            level.names[id(value)] = self.call(level, value, operands)
            return
        if value.opcode == "lookup":
            level.names[id(value)] = self.values.lookup(level, value, operands[0])
            return
        dtypes = [argument.dtype for argument in value.args]
        level.names[id(value)] = self.values.compute(
            level, value.opcode, operands, dtypes, value.dtype, level.lane_count
        )

    def call(self, level: Level, value: Value, operands: list[str]) -> str:
        """The result of a routine, of the variant for the lanes of this level."""
        return self.called(level, value.immediate, value.args, operands)

    def called(
        self, level: Level, routine: Routine, args: Sequence[Value], operands: list[str]
    ) -> str:
        """What a routine returns for arguments."""
        lanes = level.lane_count
        symbol = f"graphc_{routine.name}_x{lanes}"
        self.routines[symbol] = routine, lanes
        types = [llvm_type(argument.dtype, lanes) for argument in args]
        made, name = _returned(routine, lanes), self.values.fresh()
        given = ", ".join(map(" ".join, zip(types, operands, strict=True)))
        self.values.declarations.add(f"declare {made} @{symbol}({', '.join(types)}) nounwind")
        level.put(f"{name} = call {made} @{symbol}({given})")
        return name

    def segment(self, level: Level, loop: For) -> None:
        """A function of the loop, and the call of it, with loop variables and values from outside.
        """
        made = set(loop.body.statements)
        needed = dict.fromkeys(v for s in loop.body.statements for v in used(s) if v not in made)
        outer = [value for value in needed if value.opcode != "const"]
        names = {n: each for each in level.chain() for n in each.symbols if each.scope is not None}
        part = Printer(self.kernel, self.machine, self)
        top = part.open("", "", used_by=loop)
        inner = Level(Scope(), top, block=top.block)
        inner.lines = top.lines
        given, parameters = ["ptr %frame", f"i64 {WORKER}"], ["ptr %frame", "i64 %worker"]
        for i, (name, each) in enumerate(sorted(names.items())):
            inner.symbols[name] = f"%i{i}"
            parameters.append(f"i64 %i{i}")
            given.append(f"i64 {each.symbols[name]}")
        for i, value in enumerate(outer):
            inner.names[id(value)] = f"%x{i}"
            parameters.append(f"{llvm_type(value.dtype)} %x{i}")
            given.append(f"{llvm_type(value.dtype)} {self.values.operand(level, value, 1)}")
        part.statement(inner, loop)
        name = f"@segment{self.values.tag()}"
        alignment = aligned_stack(self.machine) if loop.role == "vector" else ""
        signature = f"{name}({', '.join(parameters)}) noinline nounwind{alignment}"
        head = f"define internal void {signature} {{"
        self.segments.append("\n".join([head, *inner.lines[1:], "  ret void", "}"]))
        self.values.declarations |= part.values.declarations
        self.routines |= part.routines
        self.checks.used = self.checks.used or part.checks.used
        level.put(f"call void {name}({', '.join(given)})")


def _aligned_bytes(buffer: Buffer) -> Extent:
    return aligned(product(buffer.shape) * buffer.item_bytes)


def _puts_aside(body: Scope) -> bool:
    """Whether a vector loop in it has so long a body that some values may lie in memory."""
    loops = (s for s in walk(body) if isinstance(s, For) and s.role == "vector" and not s.segment)
    return any(len(loop.body.statements) > SHORT_BODY for loop in loops)


def _has_rare(scope: Scope) -> bool:
    return any(isinstance(s, Value) and s.immediate == "rarely" for s in scope.statements)


# An empty set; how often a loop goes on, and how rarely a pause is more than that; what marks
# stores that go past the caches.
_METADATA = """
!0 = !{}
!1 = !{!"branch_weights", i32 16384, i32 1}
!2 = !{!"branch_weights", i32 1, i32 4096}
!3 = !{i32 1}
"""
