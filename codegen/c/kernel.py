"""How is a kernel written as C?  Plain loops, which the compiler turns into vectors.

A kernel is a static function of its buffers and extents. A vector loop that carries nothing is one
loop. One that accumulates keeps an array of partial results, as many as native code has lanes, and
adds halves onto halves at its end: so the order of summation, and every bit of the result, is that
of native code. Iterations of the parallel loop are shared out to threads under OpenMP where they
need no scratch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.c.scalar import C
from graphc.codegen.clike import Level, StatementPrinter, spread
from graphc.codegen.lanes import choose_lanes
from graphc.codegen.loops import Buffer, Contract, Kernel, identity, linear
from graphc.codegen.rare import Rare, used_values
from graphc.codegen.scalar import Accumulate, Accumulator, Check, For, Scope, Store, Until, Value
from graphc.dims import Extent

RECORD = """\
static void record(graphc_status *status, int64_t code, int64_t node, int64_t index)
{
#ifdef _OPENMP
#pragma omp critical (graphc_record)
#endif
    if (status->code == 0) {
        status->code = code;
        status->node = node;
        status->index = index;
    }
}"""


@dataclass(eq=False)
class CKernel:
    """A static function without its name: parameters, body, the frame words that it takes, helpers
    and under which conditions they are needed.

    `can_fail` tells whether it may write the status record.
    """

    title: str
    parameters: tuple[str, ...]
    body: str
    words: tuple[tuple[str, Any], ...]
    helpers: dict[str, str]
    conditions: dict[str, set[str]]
    can_fail: bool
    name: str = ""
    comments: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The function, with comments that say what it computes."""
        head = spread(f"static void {self.name}(", self.parameters or ("void",), ")")
        return "\n".join([*(f"/* {line} */" for line in self.comments), head, self.body])


@dataclass(frozen=True)
class Lanes:
    """A block of a vector loop: lane `lane` below `live` is where `variable` is `first + lane`.

    Arrays have `count` elements.
    """

    variable: str
    first: str
    lane: str
    live: str
    count: int

    @property
    def head(self) -> str:
        return f"for (int {self.lane} = 0; {self.lane} < {self.live}; ++{self.lane})"


@dataclass(frozen=True)
class Assignment:
    """A value of a lane that goes to a place in the text, after all statements."""

    value: Value
    place: str


class CKernelPrinter(StatementPrinter):
    """Writes one kernel.

    `dims` are the user's names of extents, `vector_bytes` those of the machine whose sums are to be
    matched.
    """

    DIALECT = C
    INTEGER = "int64_t"
    MINIMUM, MAXIMUM = "minimum", "maximum"

    def __init__(
        self,
        kernel: Kernel,
        groups: Sequence[int],
        dims: Mapping[str, str],
        vector_bytes: int,
    ) -> None:
        self.dims = dims
        self.vector_bytes = vector_bytes
        self.spread: set[int] = set()
        self.lanes: tuple[Level, Lanes] | None = None
        super().__init__(kernel, groups)

    def extent_name(self, number: int, name: str) -> str:
        return super().extent_name(number, self.dims.get(name, name))

    # -- the function ------------------------------------------------------------------------------

    def function(self) -> CKernel:
        """The finished kernel."""
        top = self.top()
        nest = self.kernel.nest
        for statement in self.kernel.body.statements:
            if statement is nest:
                self.nest(top, nest)
            else:
                self.statement(top, statement)
        words = self.words()
        parameters = tuple(map(self.parameter, words))
        fails = ("status", None) in self.used
        body = "\n".join(["{", *top.lines, "}"])
        title, helpers, conditions = self.kernel.title, self.helpers, self.conditions
        return CKernel(title, parameters, body, tuple(words), helpers, conditions, fails)

    def words(self) -> list[tuple[str, Any]]:
        """The words of the kernel's frame that its text uses."""
        order = [("buffer", buffer) for buffer in self.kernel.buffers]
        order += [word for _, word in self.words_by_name.values()]
        return [word for word in (*order, ("status", None)) if word in self.used]

    def parameter(self, word: tuple[str, Any]) -> str:
        kind, item = word
        if kind == "status":
            return "graphc_status *status"
        if kind != "buffer":  # an extent, or a stride in elements
            name = next(text for text, each in self.words_by_name.values() if each == word)
            return f"int64_t {name}"
        const = "" if item in self.stored else "const "
        return f"{const}{C.memory_type(item.dtype)} *{self.restricted(item)}{item.name}"

    def restricted(self, buffer: Buffer) -> str:
        """Nothing else in the kernel reaches what a buffer writes, or nothing in it is written."""
        sharing = [b for b in self.kernel.buffers if self.group[b] == self.group[buffer]]
        return "restrict " if len(sharing) == 1 or buffer not in self.writes else ""

    def element(
        self, level: Level, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]
    ) -> str:
        """An element of a buffer. Strides count elements here: no address needs a cast."""
        self.used.add(("buffer", buffer))
        position = self.index(level, linear(buffer, index), self.argument_names(args))
        return f"{buffer.name}[{position}]"

    # -- loops -------------------------------------------------------------------------------------

    def nest(self, top: Level, nest: For | Contract) -> None:
        """The parallel loop."""
        assert isinstance(nest, For)
        self.parallel_loop(top, nest)

    def parallel_loop(self, top: Level, loop: For) -> None:
        if loop.start == 0 and loop.stop == 1:
            only = Level(top, top.depth, variables={loop.variable: loop.variable})
            self.scope(only, loop.body)
            declare_if_used(only, 0, loop.variable, "0")
            top.lines += only.lines
            return
        inside = top.inner({loop.variable: loop.variable})
        self.scope(inside, loop.body)
        start, stop = self.index(top, loop.start), self.index(top, loop.stop)
        self.share_out(top)
        top.close(self.counting(loop.variable, start, stop), inside)

    def share_out(self, level: Level) -> None:
        """Let OpenMP do the iterations of the next loop in any order, if none needs scratch."""
        if not any(buffer.space == "worker" for buffer in self.kernel.buffers):
            level.lines += ["#ifdef _OPENMP", "#pragma omp parallel for", "#endif"]

    def counting(self, variable: str, start: str, stop: str) -> str:
        return f"for (int64_t {variable} = {start}; {variable} < {stop}; ++{variable})"

    def loop(self, level: Level, loop: For) -> None:
        mine = [a for a in loop.accumulators if id(a) in self.live]
        if loop.role == "vector" and (mine or self.is_interrupted(loop.body)):
            self.blocked_loop(level, loop, mine)
            return
        for a in mine:
            name = self.states[a] = self.fresh("a")
            level.put(f"{C.types[a.dtype]} {name} = {self.neutral(a)};")
        inside = level.inner({loop.variable: loop.variable}, lanes=loop.role == "vector")
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        self.scope(inside, loop.body)
        level.close(self.counting(loop.variable, start, stop), inside)
        for a in mine:
            self.finish(a, self.states[a])

    def neutral(self, a: Accumulator) -> str:
        return self.literal(identity(a.combiner, a.dtype), a.dtype)

    def finish(self, a: Accumulator, result: str) -> None:
        """What an accumulator holds after its loop."""
        for value in self.results.get(a, ()):
            self.names[id(value)] = result

    def is_interrupted(self, scope: Scope) -> bool:
        """Whether a loop or a branch stands between the statements of a scope."""
        return any(isinstance(item, (For, Rare)) for item in self.items(scope))

    def blocked_loop(self, level: Level, loop: For, mine: Sequence[Accumulator]) -> None:
        """A vector loop, a block of lanes at a time.

        Accumulators are partial results: iteration i goes to lane i modulo their number.
        """
        count = choose_lanes(loop, self.vector_bytes)
        lane, first, live = (self.fresh(prefix) for prefix in ("lane", "first", "live"))
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        for a in mine:
            self.lane_array(level, a, lane, count)
        block = level.inner()
        rest = f"{stop} - {first}"
        block.put(f"const int {live} = {rest} < {count} ? (int)({rest}) : {count};")
        lanes = Lanes(loop.variable, first, lane, live, count)
        self.spread |= self.crossing(loop.body)
        self.lane_scope(block, loop.body, lanes)
        head = f"for (int64_t {first} = {start}; {first} < {stop}; {first} += {count})"
        level.close(head, block)
        for a in mine:
            self.combine_lanes(level, a, lane, count)

    def lane_array(self, level: Level, a: Accumulator, lane: str, count: int) -> None:
        """Give an accumulator an element for each lane."""
        name = self.fresh("a")
        self.states[a] = f"{name}[{lane}]"
        level.put(f"{C.types[a.dtype]} {name}[{count}] ALIGNED;")
        start = level.inner()
        start.put(f"{name}[{lane}] = {self.neutral(a)};")
        level.close(f"for (int {lane} = 0; {lane} < {count}; ++{lane})", start)

    def lane_scope(
        self, level: Level, scope: Scope, lanes: Lanes, extra: Sequence[Assignment] = ()
    ) -> None:
        """The statements of a scope in all lanes of a block, each stretch of them as a loop."""
        stretch: list[Any] = []
        for item in [*self.items(scope, [each.value for each in extra]), *extra]:
            if not isinstance(item, (For, Rare, Until)):
                stretch.append(item)
                continue
            self.stretch(level, stretch, lanes)
            stretch = []
            if isinstance(item, For):
                self.serial_over_lanes(level, item, lanes)
            elif isinstance(item, Until):
                self.until_all_lanes(level, item, lanes)
            else:
                self.rare_lanes(level, item, lanes)
        self.stretch(level, stretch, lanes)

    def stretch(self, level: Level, statements: Sequence[Any], lanes: Lanes) -> None:
        """One loop over lanes."""
        if not statements:
            return
        inside = level.inner({lanes.variable: lanes.variable}, lanes=True)
        outside, self.lanes = self.lanes, (level, lanes)
        for statement in statements:
            if isinstance(statement, Assignment):
                inside.put(f"{statement.place} = {self.operand(statement.value)};")
            else:
                self.statement(inside, statement)
        self.lanes = outside
        declare_if_used(inside, 0, lanes.variable, f"{lanes.first} + {lanes.lane}")
        if inside.lines:
            level.close(lanes.head, inside)

    def crossing(self, scope: Scope, extra: Sequence[Assignment] = ()) -> set[int]:
        """The ids of values that are used in another stretch of a scope than that of their own."""
        homes: dict[int, int] = {}
        users: dict[int, set[int]] = {}
        numbers = itertools.count()

        def use(values: Iterable[Value], number: int) -> None:
            for value in values:
                users.setdefault(id(value), set()).add(number)

        def visit(scope: Scope, extra: Sequence[Assignment]) -> None:
            number = next(numbers)
            for item in [*self.items(scope, [each.value for each in extra]), *extra]:
                if isinstance(item, For):
                    visit(item.body, ())
                    number = next(numbers)
                elif isinstance(item, Until):
                    number = next(numbers)
                    use(used_values(item), number)
                elif isinstance(item, Rare):
                    number = next(numbers)
                    homes.update((id(value), number) for value in item.instructions)
                    for value in (*item.instructions, *item.selects):
                        use(value.args, number)
                    number = next(numbers)
                else:
                    if isinstance(item, Value):
                        homes[id(item)] = number
                    use(used_values(item), number)

        visit(scope, extra)
        return {value for value, home in homes.items() if users.get(value, set()) - {home}}

    def serial_over_lanes(self, level: Level, loop: For, lanes: Lanes) -> None:
        """A loop in order inside a vector loop: every step does all lanes of the block."""
        mine = [a for a in loop.accumulators if id(a) in self.live]
        for a in mine:
            self.lane_array(level, a, lanes.lane, lanes.count)
        inside = level.inner({loop.variable: loop.variable})
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        self.lane_scope(inside, loop.body, lanes)
        level.close(self.counting(loop.variable, start, stop), inside)
        for a in mine:
            self.finish(a, self.states[a])

    def until_all_lanes(self, level: Level, s: Until, lanes: Lanes) -> None:
        """Leave the loop if all lanes of the block would."""
        rest = self.fresh("rest")
        level.put(f"int {rest} = 0;")
        each = level.inner()
        each.put(f"{rest} |= !{self.operand(s.condition)};")
        level.close(lanes.head, each)
        level.put(f"if (!{rest}) break;")

    def rare_lanes(self, level: Level, rare: Rare, lanes: Lanes) -> None:
        """What is rarely needed, if any lane of the block needs it."""
        selects = [select for select in rare.selects if id(select) in self.live]
        if not selects:
            return
        some, condition = self.fresh("some"), self.operand(rare.condition)
        level.put(f"int {some} = 0;")
        usual = level.inner()
        usual.put(f"{some} |= {condition};")
        for select in selects:
            name = self.fresh("v")
            level.put(f"{C.types[select.dtype]} {name}[{lanes.count}] ALIGNED;")
            self.names[id(select)] = f"{name}[{lanes.lane}]"
            usual.put(f"{name}[{lanes.lane}] = {self.operand(select.args[2])};")
        level.close(lanes.head, usual)
        each = level.inner().inner({lanes.variable: lanes.variable}, lanes=True)
        for value in rare.instructions:
            self.statement(each, value)
        for select in selects:
            each.put(f"{self.names[id(select)]} = {self.operand(select.args[1])};")
        declare_if_used(each, 0, lanes.variable, f"{lanes.first} + {lanes.lane}")
        loop = level.inner()
        loop.close(f"if ({condition})", each)
        level.close(f"if ({some}) {lanes.head}", loop)

    def value(self, level: Level, value: Value) -> None:
        """A value that other stretches of a block need goes to an array."""
        super().value(level, value)
        if self.lanes is None or id(value) not in self.spread or value.opcode == "const":
            return
        home, lanes = self.lanes
        name = self.fresh("v")
        home.put(f"{C.types[value.dtype]} {name}[{lanes.count}] ALIGNED;")
        level.put(f"{name}[{lanes.lane}] = {self.names[id(value)]};")
        self.names[id(value)] = f"{name}[{lanes.lane}]"

    def combine_lanes(self, level: Level, a: Accumulator, lane: str, count: int) -> None:
        """Halves onto halves until one lane is left."""
        name = self.states[a].partition("[")[0]
        half = self.fresh("half")
        step = self.combined(a, f"{name}[{lane}]", f"{name}[{lane} + {half}]")
        halves = level.inner()
        lanes = halves.inner()
        lanes.put(f"{name}[{lane}] = {step};")
        halves.close(f"for (int {lane} = 0; {lane} < {half}; ++{lane})", lanes)
        level.close(f"for (int {half} = {count // 2}; {half} > 0; {half} /= 2)", halves)
        result = self.fresh("v")
        level.put(f"const {C.types[a.dtype]} {result} = {name}[0];")
        self.finish(a, result)

    # -- what a statement does ---------------------------------------------------------------------

    def accumulate(self, level: Level, s: Accumulate) -> None:
        if id(s.accumulator) not in self.live:
            return
        state = self.states[s.accumulator]
        step = f"{state} = {self.combined(s.accumulator, state, self.accumulated(s))};"
        level.put(step if s.mask is None else f"if ({self.operand(s.mask)}) {step}")

    def store(self, level: Level, s: Store) -> None:
        element = self.element(level, s.buffer, s.index, s.args)
        step = f"{element} = {self.operand(s.value)};"
        level.put(step if s.mask is None else f"if ({self.operand(s.mask)}) {step}")

    def check(self, level: Level, s: Check) -> None:
        self.used.add(("status", None))
        self.helpers.setdefault("record", RECORD)
        condition, index = self.operand(s.condition), self.operand(s.index)
        level.put(f"if (!{condition}) record(status, {s.code}, {s.node}, {index});")

    def barrier(self, level: Level) -> None:
        """Nothing: a task is done by one thread, in order."""


def declare_if_used(level: Level, position: int, name: str, text: str) -> None:
    """Put an integer in front of the lines from `position` on, if they name it."""
    word = re.compile(rf"\b{name}\b")
    if any(word.search(line) for line in level.lines[position:]):
        line = "    " * level.depth + f"const int64_t {name} = {text};"
        level.lines.insert(position, line)
