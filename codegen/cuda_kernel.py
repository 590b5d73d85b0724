"""How is a kernel written as CUDA C++?  Blocks for tasks, threads for lanes.

An iteration of the parallel loop is done by a block, or by several where nothing but lanes is in
it. A vector loop is shared out to the threads of the block with a stride of the block's size, so
that the same lane of every loop is the same thread. What stands outside of vector loops all threads
compute alike, and the first one stores. Accumulators of vector loops end in a reduction over the
block in a fixed order. Index arithmetic is in long long; what does not vary in a loop is named in
front of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.clike import Level, StatementPrinter, enclosed
from graphc.codegen.cuda_scalar import CUDA
from graphc.codegen.loops import Buffer, Kernel, identity
from graphc.codegen.memory import aligned
from graphc.codegen.scalar import (
    BITS,
    Accumulate,
    Accumulator,
    Check,
    For,
    Scope,
    Store,
    Value,
    walk,
)
from graphc.dims import Bounds, Compound, Dim, Extent, product

WARP = 32
BLOCK_SIZES = (32, 64, 128, 256)
# Elements that a thread takes at least before a task is shared out to several blocks.
LANES_PER_THREAD = 4


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel, with its name and type in the text.

    `kind` is "buffer", "stride" (in bytes), "extent", "tasks" or "status".
    """

    kind: str
    name: str
    type: str


@dataclass(eq=False)
class CudaKernel:
    """A __global__ function: its text, and how it must be launched (a row of `block` threads)."""

    name: str
    block: int
    shared_bytes: int
    parameters: tuple[Parameter, ...]
    text: str
    helpers: dict[str, str]
    can_fail: bool
    comments: list[str] = field(default_factory=list)


# Who touches memory at a point of a task: a loop (its range), every thread, or the first one.
Toucher = tuple[Any, Any] | str
_EVERY, _FIRST = "every thread", "first thread"


class KernelPrinter(StatementPrinter):
    """Writes a loop nest."""

    DIALECT = CUDA
    INTEGER = "long long"
    MINIMUM, MAXIMUM, LONG = "min", "max", "LL"

    def __init__(self, kernel: Kernel, groups: Sequence[int]) -> None:
        super().__init__(kernel, groups)
        self.merged = _merged_reductions(kernel.body, self.live)
        self.shared: dict[str, int] = {}
        self.touched: dict[int, set[tuple[Toucher, bool]]] = {}
        self.task_touched: dict[int, set[tuple[Toucher, bool]]] = {}
        self.words: list[tuple[str, Any]] = []
        self.block = BLOCK_SIZES[-1]
        self.parts = 1
        self.tasks: Extent = 0
        self.on_chip: set[Buffer] = set()  # scratch that is not in global memory

    # -- the function ------------------------------------------------------------------------------

    def kernel_function(self) -> CudaKernel:
        """The finished kernel; its name ends in a digest of its text."""
        top = self.top()
        self.body(top)
        lines = [*self.openings(), *top.lines]
        parameters = self.parameters()
        listed = [f"{p.type} {p.name}" for p in parameters]
        head = f'extern "C" __global__ void __launch_bounds__({self.block}) '
        body = "\n".join(["{", *lines, "}"])
        digest = hashlib.blake2b(digest_size=5)
        digest.update("\0".join([head, *listed, body, *self.helpers.values()]).encode())
        title = re.sub(r"\W", "_", self.kernel.title, flags=re.ASCII)
        title = title if title[:1].isalpha() else f"kernel{title}"
        name = f"{title}_{digest.hexdigest()}"
        text = f"{head}{name}({', '.join(listed)})\n{body}"
        if len(text.split("\n", 1)[0]) > 100:
            joined = ",\n    ".join(listed)
            text = f"{head}{name}(\n    {joined})\n{body}"
        widest = max((_bytes(name) for name in self.shared if name in BITS), default=1)
        shared = -(-sum(self.shared.values()) // widest) * widest  # as the widest is aligned
        failing = ("status", None) in self.used
        return CudaKernel(name, self.block, shared, tuple(parameters), text, self.helpers, failing)

    def parameters(self) -> list[Parameter]:
        """The words of the kernel's frame that its text uses."""
        found = []
        names = {word: text for text, word in self.words_by_name.values()}
        order = [
            *(("buffer", buffer) for buffer in self.kernel.buffers),
            *names,
            ("tasks", None),
            ("status", None),
        ]
        self.words = [word for word in order if word in self.used]
        for word in self.words:
            if word[0] == "buffer":
                found.append(self.buffer_parameter(word[1]))
            elif word[0] == "status":
                found.append(Parameter("status", "status", "unsigned long long*"))
            else:
                found.append(Parameter(word[0], names.get(word, "tasks"), "long long"))
        return found

    def buffer_parameter(self, buffer: Buffer) -> Parameter:
        type_ = CUDA.memory_type(buffer.dtype)
        name = f"all_{buffer.name}" if buffer.space == "worker" else buffer.name
        const = "" if buffer in self.stored else "const "
        restricted = "" if buffer in self.writes else " __restrict__"
        return Parameter("buffer", name, f"{const}{type_}*{restricted}")

    def openings(self) -> list[str]:
        """Declarations at the head of a function: shared arrays, this block's copies of scratch."""
        lines = []
        for dtype in sorted(name for name in self.shared if name in BITS):
            lines.append(
                f"    __shared__ {CUDA.types[dtype]} partials_{dtype}[{self.block // WARP}];"
            )
        top = self.top()
        for buffer in self.kernel.buffers:
            if buffer.space == "worker" and ("buffer", buffer) in self.used:
                size = max(1, BITS[buffer.dtype] // 8)
                elements = aligned(product(buffer.shape) * size) // size
                copy = enclosed(self.index(top, elements))
                const = "" if buffer in self.stored else "const "  # as that of the parameter
                type_ = f"{const}{CUDA.memory_type(buffer.dtype)}"
                top.put(
                    f"{type_}* const {buffer.name} = "
                    f"all_{buffer.name} + (long long)blockIdx.x * {copy};"
                )
        return [*lines, *top.lines]

    def body(self, top: Level) -> None:
        nest = self.kernel.nest
        assert isinstance(nest, For)
        self.tasks = nest.stop - nest.start
        self.block, self.parts = self.launch_shape(nest)
        for statement in self.kernel.body.statements:
            if statement is nest:
                self.parallel_loop(top, nest)
            else:
                self.statement(top, statement)

    def parallel_loop(self, top: Level, loop: For) -> None:
        variable = loop.variable
        inside = top.inner({variable: variable})
        self.scope(inside, loop.body)
        scratch = {self.group[b] for b in self.kernel.buffers if b.space == "worker"}
        touched = [self.task_touched.get(group, ()) for group in scratch]
        if any(_conflict(one, touchers) for touchers in touched for one in touchers):
            inside.put("__syncthreads();")  # before the next task writes to scratch
        share = "" if self.parts == 1 else f" / {self.parts}"
        start = "" if loop.start == 0 else f"{self.index(top, loop.start)} + "
        stop = self.task_count() if loop.start == 0 else self.index(top, loop.stop)
        top.close(
            f"for (long long {variable} = {start}blockIdx.x{share}; {variable} < {stop}; "
            f"{variable} += gridDim.x{share})",
            inside,
        )

    def launch_shape(self, nest: For) -> tuple[int, int]:
        """The size of a block, and how many blocks share a task.

        Several may where lanes are all that there is: nothing is carried from one to another, nor
        kept in scratch, nor read for all of them from memory that one of them writes.
        """
        loops = [s for s in walk(nest.body) if isinstance(s, For) and s.role == "vector"]
        lengths = [_longest(loop, self.bounds) for loop in loops]
        block = BLOCK_SIZES[-1]
        known = [length for length in lengths if length is not None]
        if len(known) == len(lengths):
            longest = max(known, default=1)
            block = next((size for size in BLOCK_SIZES if size >= longest), block)
        outside = [*self.kernel.body.statements, *nest.body.statements]
        others = [s for s in outside if isinstance(s, (Store, Check, For)) and s is not nest]
        carried = any(id(a) in self.live for loop in loops for a in loop.accumulators)
        scratch = any(buffer.space == "worker" for buffer in self.kernel.buffers)
        read = {s.immediate.buffer for s in outside if isinstance(s, Value) and s.opcode == "load"}
        if (
            len(loops) != 1
            or others != loops
            or carried
            or scratch
            or not known
            or read & self.writes
        ):
            return block, 1
        return block, max(1, known[0] // (block * LANES_PER_THREAD))

    def task_count(self) -> str:
        if isinstance(self.tasks, int):
            return str(self.tasks)
        self.used.add(("tasks", None))
        return "tasks"

    # -- loops -------------------------------------------------------------------------------------

    def loop(self, level: Level, loop: For) -> None:
        vector = loop.role == "vector"
        self.order_memory(level, loop)
        mine = [a for a in loop.accumulators if id(a) in self.live]
        for accumulator in mine:
            if accumulator in self.merged:
                self.states[accumulator] = self.states[self.merged[accumulator]]
                continue
            name = self.states[accumulator] = self.fresh("a")
            start = self.literal(
                identity(accumulator.combiner, accumulator.dtype), accumulator.dtype
            )
            level.put(f"{CUDA.types[accumulator.dtype]} {name} = {start};")
        variable = loop.variable
        inside = level.inner({variable: variable}, lanes=vector)
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        before = {group: set(touchers) for group, touchers in self.touched.items()}
        self.scope(inside, loop.body)
        for group, touchers in before.items():  # a loop of no iterations has no barriers either
            self.touched.setdefault(group, set()).update(touchers)
        if vector:
            thread = "threadIdx.x"
            if self.parts > 1:
                thread = f"blockIdx.x % {self.parts} * {self.block} + threadIdx.x"
            first = thread if start == "0" else f"{start} + {thread}"
            step = f"{variable} += {self.block * self.parts}"
        else:
            first, step = start, f"++{variable}"
        level.close(f"for (long long {variable} = {first}; {variable} < {stop}; {step})", inside)
        partial = set(self.merged.values())
        for accumulator in mine:
            if accumulator not in self.merged:
                spread = vector or accumulator in partial
                name = self.reduced(level, accumulator) if spread else self.states[accumulator]
                for value in self.results[accumulator]:
                    self.names[id(value)] = name

    def reduced(self, level: Level, accumulator: Accumulator) -> str:
        """What the partial results of the threads combine to, in every thread."""
        dtype = accumulator.dtype
        self.shared[dtype] = self.block // WARP * _bytes(dtype)
        name = f"block_{accumulator.combiner}_{dtype}"
        self.reduction(name, accumulator.combiner, dtype)
        result = self.fresh("v")
        state = self.states[accumulator]
        level.put(f"const {CUDA.types[dtype]} {result} = {name}({state}, partials_{dtype});")
        self.touched.clear()
        return result

    def reduction(self, name: str, combiner: str, dtype: str) -> None:
        if name in self.helpers:
            return
        text = self.instruction(combiner, ["value", "other"], [dtype, dtype], dtype)
        type_ = CUDA.types[dtype]
        wide = dtype in ("float32", "float64") or BITS[dtype] >= 32
        shuffled = "value" if wide else "(int)value"
        back = "" if wide else f"({type_})"
        self.helpers[name] = _REDUCTION.format(
            name=name, type=type_, combined=text, value=shuffled, back=back
        )

    def accumulate(self, level: Level, s: Accumulate) -> None:
        if id(s.accumulator) not in self.live or s.accumulator in self.merged.values():
            return
        state, value = self.states[s.accumulator], self.operand(s.value)
        guard = "" if s.mask is None else f"if ({self.operand(s.mask)}) "
        level.put(f"{guard}{state} = {self.combined(s.accumulator, state, value)};")

    # -- memory ------------------------------------------------------------------------------------

    def load(self, level: Level, value: Value) -> str:
        buffer = value.immediate.buffer
        if not level.lanes and buffer in self.writes:
            self.order(level, [(self.group[buffer], _EVERY, False)])
        return super().load(level, value)

    def store(self, level: Level, s: Store) -> None:
        if not level.lanes:
            self.order(level, [(self.group[s.buffer], _FIRST, True)])
        element = self.element(level, s.buffer, s.index, s.args)
        guards = [] if level.lanes else ["threadIdx.x == 0"]
        guards += [] if s.mask is None else [self.operand(s.mask)]
        guard = f"if ({' && '.join(guards)}) " if guards else ""
        level.put(f"{guard}{element} = {self.operand(s.value)};")

    def order_memory(self, level: Level, loop: For) -> None:
        """A barrier before a loop that touches what other threads have touched, if either wrote.

        What a loop in order touches it may have touched in the iteration before.
        """
        if level.lanes:
            return
        accesses: list[tuple[int, Toucher, bool]] = []
        for toucher, s in _accesses(loop, _EVERY, _FIRST):
            buffer = s.buffer if isinstance(s, Store) else s.immediate.buffer
            if buffer in self.writes and (isinstance(s, Store) or id(s) in self.live):
                accesses.append((self.group[buffer], toucher, isinstance(s, Store)))
        if loop.role == "vector":
            self.order(level, accesses)
        else:
            self.note(accesses)

    def order(self, level: Level, accesses: Sequence[tuple[int, Toucher, bool]]) -> None:
        """Note the accesses of one statement, behind a barrier where they need one."""
        if any(_conflict((t, w), self.touched.get(group, ())) for group, t, w in accesses):
            level.put("__syncthreads();")
            self.touched.clear()
        self.note(accesses)

    def note(self, accesses: Sequence[tuple[int, Toucher, bool]]) -> None:
        for group, toucher, writes in accesses:
            for touched in (self.touched, self.task_touched):
                touched.setdefault(group, set()).add((toucher, writes))

    # -- checks ------------------------------------------------------------------------------------

    def check(self, level: Level, s: Check) -> None:
        self.used.add(("status", None))
        self.helpers.setdefault("record", _RECORD)
        first = "" if level.lanes else "threadIdx.x == 0 && "
        condition, index = self.operand(s.condition), self.operand(s.index)
        level.put(f"if ({first}!{condition}) record(status, {s.code}, {s.node}, {index});")

    def barrier(self, level: Level) -> None:
        level.put("__syncthreads();")
        self.touched.clear()


# Halves of a warp onto halves, then the warps in order: the order depends on the block's size only.
_REDUCTION = """\
__device__ inline {type} {name}({type} value, {type}* partials)
{{
    for (int lanes = 16; lanes > 0; lanes /= 2) {{
        const {type} other = {back}__shfl_xor_sync(0xffffffffu, {value}, lanes);
        value = {combined};
    }}
    if (threadIdx.x % 32 == 0) partials[threadIdx.x / 32] = value;
    __syncthreads();
    value = partials[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {{
        const {type} other = partials[warp];
        value = {combined};
    }}
    __syncthreads();
    return value;
}}"""

# The first failing thread writes the record; later ones find the code taken.
_RECORD = """\
__device__ inline void record(
    unsigned long long* status, unsigned long long code, long long node, long long index)
{
    if (atomicCAS(status, 0ULL, code) != 0) return;
    status[1] = node;
    status[2] = index;
}"""

# -- what is known of a kernel before it is written ------------------------------------------------


def _merged_reductions(scope: Scope, live: set[int]) -> dict[Accumulator, Accumulator]:
    """Accumulators whose results only go on into one of the enclosing loop, by the same combiner.

    If the innermost loop is one of lanes, every thread can carry its part through all of them, and
    the block reduces once.
    """
    uses: dict[int, int] = {}
    for s in walk(scope):
        values = s.args if isinstance(s, Value) and id(s) in live else ()
        if isinstance(s, Store):
            values = (s.value, *s.args, *([s.mask] if s.mask is not None else []))
        elif isinstance(s, Check):
            values = (s.condition, s.index)
        elif isinstance(s, Accumulate):
            values = (s.value, *([s.mask] if s.mask is not None else []))
        for value in values:
            uses[id(value)] = uses.get(id(value), 0) + 1
    into: dict[Accumulator, Accumulator] = {}
    loops = [s for s in walk(scope) if isinstance(s, For)]
    for loop in loops:
        if loop.role != "serial":
            continue
        inner = {a for s in loop.body.statements if isinstance(s, For) for a in s.accumulators}
        additions = [s for s in walk(loop.body) if isinstance(s, Accumulate)]
        for outer in loop.accumulators:
            mine = [s for s in additions if s.accumulator is outer]
            if len(mine) != 1 or mine[0].mask is not None or mine[0].value.opcode != "result":
                continue
            source = mine[0].value.immediate
            if (
                source in inner
                and source.combiner == outer.combiner
                and uses[id(mine[0].value)] == 1
            ):
                into[source] = outer
    merged: dict[Accumulator, Accumulator] = {}
    for loop in loops:
        if loop.role == "vector":
            for accumulator in loop.accumulators:
                while accumulator in into:
                    merged[accumulator] = accumulator = into[accumulator]
    return merged


def _conflict(one: tuple[Toucher, bool], others: Iterable[tuple[Toucher, bool]]) -> bool:
    """Whether threads meet in memory: it is touched in two ways, and one of them writes."""
    return any(one[0] != other and (one[1] or wrote) for other, wrote in others)


def _accesses(loop: For, every: Toucher, first: Toucher) -> Iterator[tuple[Toucher, Any]]:
    """The loads and stores of a loop, with who does them."""
    if loop.role == "vector":
        every = first = (loop.start, loop.stop)
    for s in loop.body.statements:
        if isinstance(s, For):
            yield from _accesses(s, every, first)
        elif isinstance(s, Store):
            yield first, s
        elif isinstance(s, Value) and s.opcode == "load":
            yield every, s


def _longest(loop: For, bounds: Bounds) -> int | None:
    """The most iterations that a loop can have, if that is known."""
    stops: tuple[Extent, ...] = (loop.stop,)
    if isinstance(loop.stop, Dim) and len(loop.stop.terms) == 1:
        monomial, coefficient = loop.stop.terms[0]
        atom, power = monomial[0]
        lone = (len(monomial), power, coefficient) == (1, 1, 1)
        if lone and isinstance(atom, Compound) and atom.operator == "min":
            stops = atom.arguments
    limits = [bounds.interval(stop - loop.start)[1] for stop in stops]
    return min((limit for limit in limits if limit is not None), default=None)


def _bytes(dtype: str) -> int:
    """Of one element, a truth value's too."""
    return max(1, BITS[dtype] // 8)
