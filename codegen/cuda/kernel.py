"""How is a kernel written as CUDA C++?  Blocks for tasks, threads for lanes.

An iteration of the parallel loop is done by a block, by several where nothing but lanes is in it,
or by one warp of a block where a row is short. How a vector loop is shared out to the threads, and
what stays in registers, `lanes` decides. What stands outside of vector loops all threads
compute alike, and the first one stores. Accumulators of vector loops end in a reduction over the
warp, then the block, in a fixed order. Index arithmetic is in int where every array is known to be
small enough, else in long long; what does not vary in a loop is named in front of it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.clike import Level, StatementPrinter, enclosed
from graphc.codegen.cuda.functions import (
    PACK,
    PUT_SOME,
    RECORD,
    REDUCTION,
    TAKE_SOME,
    WARP_REDUCTION,
)
from graphc.codegen.cuda.known import (
    EVERY,
    FIRST,
    Toucher,
    conflict,
    is_narrow,
    merged_reductions,
    touches,
)
from graphc.codegen.cuda.lanes import (
    LANE,
    WARP,
    Access,
    Kept,
    Lanes,
    accesses_of,
    divides,
    packs,
)
from graphc.codegen.cuda.lanes import planned as planned_lanes
from graphc.codegen.cuda.scalar import CUDA
from graphc.codegen.loops import Buffer, Kernel, identity, linear, scopes
from graphc.codegen.memory import aligned
from graphc.codegen.scalar import (
    BITS,
    Accumulate,
    Accumulator,
    Check,
    For,
    Store,
    Value,
    item_bytes,
    walk,
)
from graphc.dims import Dim, Extent, ceildiv, dim_min, product, substitute

# Blocks of a launch; more tasks than this are taken in turns.
MOST_BLOCKS = 1 << 16
# Left to itself the compiler spills a little to hold more threads on a multiprocessor: of this many
# values one block will do, and of doubles so many threads.
MANY_VALUES = 600
THREADS_OF_DOUBLES = 512


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
    resident: int | None = None  # blocks that a multiprocessor must hold, if the kernel says so


class KernelPrinter(StatementPrinter):
    """Writes a loop nest."""

    DIALECT = CUDA
    INTEGER = "long long"
    MINIMUM, MAXIMUM, LONG = "min", "max", "LL"

    def __init__(
        self,
        kernel: Kernel,
        groups: Sequence[int],
        alignments: Sequence[int] = (),
        block: int | None = None,
    ) -> None:
        """`alignments` are what the addresses of the buffers are multiples of, in bytes; `block` is
        the size of a block, if something else than this kernel decides it.
        """
        super().__init__(kernel, groups)
        known = alignments or [b.item_bytes for b in kernel.buffers]
        self.alignment = dict(zip(kernel.buffers, known, strict=True))
        self.given_block = block
        self.lanes = Lanes()
        self.filled: set[tuple[Buffer, Extent]] = set()
        self.packed: dict[int, str] = {}
        self.late: set[tuple[Buffer, Extent]] = set()  # kept, and stored at the end of a task
        if is_narrow(kernel, self.live, self.bounds):
            self.INTEGER, self.LONG = "int", ""
        loaded = {
            s.immediate.buffer
            for scope in scopes(kernel)
            for s in walk(scope)
            if isinstance(s, Value) and s.opcode == "load" and id(s) in self.live
        }
        self.unread = {b for b in kernel.buffers if b.space == "worker" and b not in loaded}
        self.merged = merged_reductions(kernel.body, self.live, self.reduces_in_lanes)
        self.shared: dict[str, int] = {}
        self.touched: dict[int, set[tuple[Toucher, bool]]] = {}
        self.task_touched: dict[int, set[tuple[Toucher, bool]]] = {}
        self.words: list[tuple[str, Any]] = []
        self.block = self.lanes.block
        self.parts = 1
        self.tasks: Extent = 0
        self.resident: int | None = None
        self.lone = False  # whether one block does all tasks
        self.on_chip: set[Buffer] = set()  # scratch that is not in global memory

    # -- the function ------------------------------------------------------------------------------

    def kernel_function(self) -> CudaKernel:
        """The finished kernel; its name ends in a digest of its text."""
        lines, parameters = self.printed()
        listed = [f"{p.type} {p.name}" for p in parameters]
        bounds = launch_bounds(self.block, self.resident)
        head = f'extern "C" __global__ void {bounds} '
        return self.function(head, lines, parameters, listed)

    def part_function(
        self, also: Sequence[str] = ("const int block", "const int blocks")
    ) -> CudaKernel:
        """The same as a function of the device, of which a kernel gives each part some blocks.

        It is told which block it is, of how many, or what else it is to know `also`, and where
        shared memory for it begins.
        """
        lines, parameters = self.printed()
        listed = [f"{p.type} {p.name}" for p in parameters]
        offset, moved_lines = 0, []
        for line in lines:
            line = line.replace("blockIdx.x", "block").replace("gridDim.x", "blocks")
            declared = _SHARED_ARRAY.match(line)
            if declared:
                type_, name, extents = declared.groups()
                place = f"*({type_} (*){extents})(shared + {offset})"
                line = f"    {type_} (&{name}){extents} = {place};"
                dtype = next(d for d, text in CUDA.types.items() if text == type_)
                count = math.prod(map(int, re.findall(r"\d+", extents)))
                offset += -(-count * item_bytes(dtype) // 16) * 16
            moved_lines.append(line)
        listed += also
        listed += ["unsigned char* shared"] if offset else []
        head = "static __device__ __forceinline__ void "
        made = self.function(head, moved_lines, parameters, listed)
        made.shared_bytes, made.resident = offset, self.resident
        return made

    def printed(self) -> tuple[list[str], list[Parameter]]:
        """The lines of the body, and the parameters that they need."""
        top = self.top()
        self.body(top)
        return [*self.openings(), *top.lines], self.parameters()

    def function(
        self, head: str, lines: list[str], parameters: list[Parameter], listed: list[str]
    ) -> CudaKernel:
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
        widest = max((item_bytes(name) for name in self.shared if name in BITS), default=1)
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
            count = self.block // WARP * self.partials_of_warp
            lines.append(f"    __shared__ {CUDA.types[dtype]} partials_{dtype}[{count}];")
        for buffer in self.lanes.shared:
            if buffer.name in self.shared:
                type_ = CUDA.memory_type(buffer.dtype)
                size = product(buffer.shape)
                lines.append(f"    __shared__ __align__(16) {type_} {buffer.name}[{size}];")
        if self.lanes.rows > 1:
            lines.append(f"    const int warp = threadIdx.x / {WARP}, lane = threadIdx.x % {WARP};")
        top = self.top()
        for buffer in self.kernel.buffers:
            if buffer.space == "worker" and ("buffer", buffer) in self.used:
                size = buffer.item_bytes
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
        self.lanes = self.plan_lanes()
        if self.lone:
            self.lanes.parts = 1
        self.block, self.parts = self.lanes.block, self.lanes.parts
        self.on_chip = {*self.lanes.shared, *self.lanes.registers}
        self.late = {key for _, key in self.lanes.flushed}
        for statement in self.kernel.body.statements:
            if statement is nest:
                self.parallel_loop(top, nest)
            else:
                self.statement(top, statement)
        many = len(self.live) > MANY_VALUES  # those of routines are known now
        if many:
            self.resident = 1
        elif any(buffer.dtype == "float64" for buffer in self.group):
            self.resident = max(1, THREADS_OF_DOUBLES // self.block)

    def plan_lanes(self) -> Lanes:
        """Who does what of the vector loops."""
        return planned_lanes(
            self.kernel,
            self.live,
            self.group,
            self.writes,
            self.alignment,
            self.bounds,
            self.given_block,
        )

    @property
    def scratch(self) -> bool:
        """Whether blocks need copies of scratch in global memory."""
        return any(b.space == "worker" and b not in self.on_chip for b in self.kernel.buffers)

    def grid(self, workers: int) -> Extent:
        """Blocks of the launch: `workers` at most where each needs scratch."""
        most = workers if self.scratch else MOST_BLOCKS // self.parts
        return dim_min(ceildiv(self.tasks, self.lanes.rows), most) * self.parts

    @property
    def barrier_text(self) -> str:
        return "__syncthreads();" if self.lanes.rows == 1 else "__syncwarp();"

    @property
    def thread(self) -> str:
        """The number of a thread among those of its task."""
        return "threadIdx.x" if self.lanes.rows == 1 else "lane"

    def parallel_loop(self, top: Level, loop: For) -> None:
        variable = loop.variable
        inside = top.inner({variable: variable})
        self.scope(inside, loop.body)
        for kept_by, key in self.lanes.flushed:
            self.flush(inside, kept_by, key)
        rows, parts = self.lanes.rows, self.parts
        share = "" if parts == 1 else f" / {parts}"
        first = "blockIdx.x" + share if rows == 1 else f"blockIdx.x * {rows} + warp"
        start = "" if loop.start == 0 else f"{self.index(top, loop.start)} + "
        most = MOST_BLOCKS // parts * rows
        once = isinstance(self.tasks, int) and self.tasks <= (1 if self.lone else most)
        if once and not self.scratch:
            # a block for each task: none comes back for another
            ragged = rows > 1 and self.tasks % rows
            if ragged or any(re.search(rf"\b{variable}\b", line) for line in inside.lines):
                top.put(f"const {self.INTEGER} {variable} = {start}{first};")
            if ragged:
                stop = self.index(top, loop.stop)
                top.put(f"if ({variable} >= {stop}) return;  // a whole warp does")
            top.lines.extend(line.removeprefix("    ") for line in inside.lines)
            return
        scratch = {self.group[b] for b in self.kernel.buffers if b.space == "worker"}
        touched = [self.task_touched.get(group, ()) for group in scratch]
        if any(conflict(one, touchers) for touchers in touched for one in touchers):
            inside.put(self.barrier_text)  # before the next task writes to scratch
        stop = self.task_count() if loop.start == 0 else self.index(top, loop.stop)
        step = f"gridDim.x{share}" if rows == 1 else f"gridDim.x * {rows}"
        top.close(
            f"for ({self.INTEGER} {variable} = {start}{first}; {variable} < {stop}; "
            f"{variable} += {step})",
            inside,
        )

    def task_count(self) -> str:
        if isinstance(self.tasks, int):
            return str(self.tasks)
        self.used.add(("tasks", None))
        return "tasks"

    def has_effect(self, s: Any) -> bool:
        if isinstance(s, Store) and s.buffer in self.unread:
            return False  # scratch that nobody reads
        return super().has_effect(s)

    def value(self, level: Level, value: Value) -> None:
        super().value(level, value)
        if value.opcode == "index" and self.INTEGER != "long long":
            self.names[id(value)] = f"((long long){self.names[id(value)]})"

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
        before = {group: set(touchers) for group, touchers in self.touched.items()}
        if vector:
            self.vector_loop(level, loop)
        else:
            variable = loop.variable
            inside = level.inner({variable: variable})
            start, stop = self.index(level, loop.start), self.index(level, loop.stop)
            self.scope(inside, loop.body)
            level.close(f"for ({self.serial_head(loop, start, stop)})", inside)
        for group, touchers in before.items():  # a loop of no iterations has no barriers either
            self.touched.setdefault(group, set()).update(touchers)
        partial = set(self.merged.values())
        for accumulator in mine:
            if accumulator not in self.merged:
                spread = self.reduces_in_lanes(loop) or accumulator in partial
                name = self.reduced(level, accumulator) if spread else self.states[accumulator]
                for value in self.results[accumulator]:
                    self.names[id(value)] = name

    def reduces_in_lanes(self, loop: For) -> bool:
        """Whether several threads share the rounds of a loop."""
        return loop.role == "vector"

    partials_of_warp = 1  # numbers that each warp leaves for the others of its block

    def serial_head(self, loop: For, start: str, stop: str) -> str:
        """The head of a loop in order."""
        variable = loop.variable
        return f"{self.INTEGER} {variable} = {start}; {variable} < {stop}; ++{variable}"

    def vector_loop(self, level: Level, loop: For) -> None:
        """A loop whose elements are shared out to the threads of the task."""
        width, rounds = self.lanes.width(loop), self.lanes.rounds_of(loop)
        accesses = list(accesses_of(loop, self.live))
        for access in accesses:
            kept = self.lanes.kept.get((access.buffer, access.place))
            if kept is None or (access.buffer, access.place) in self.filled:
                continue
            if not any(kept.name in line for line in level.lines):
                self.declare_kept(level, kept, width, loop)
        variable = loop.variable
        first = variable if width == 1 else self.fresh("first")
        inside = level.inner({first: first}, lanes=True)
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        self.elements(inside, loop, first, width, accesses)
        self.filled.update(
            (a.buffer, a.place) for a in accesses if (a.buffer, a.place) in self.lanes.kept
        )
        threads, times = self.lanes.threads * self.parts, "" if width == 1 else f" * {width}"
        thread = self.thread
        if self.parts > 1:
            thread = f"(blockIdx.x % {self.parts} * {self.lanes.threads} + threadIdx.x)"
            thread = thread if times else thread[1:-1]
        if rounds is None:
            begin = f"{thread}{times}" if start == "0" else f"{start} + {thread}{times}"
            step = threads * width
            head = f"{self.INTEGER} {first} = {begin}; {first} < {stop}; {first} += {step}"
            level.close(f"for ({head})", inside)
            return
        self.close_kept(level, loop, rounds, first, inside)

    def close_kept(
        self, level: Level, loop: For, rounds: int, first: str, inside: Level
    ) -> None:
        """A loop whose elements are kept: each thread goes round so often as there are some."""
        width, turn = self.lanes.width(loop), self.lanes.threads
        body = level.inner()
        number = self.thread if rounds == 1 else f"(r * {turn} + {self.thread})"
        times = "" if width == 1 else f" * {width}"
        ragged = int(loop.stop) % (turn * width)  # type: ignore[arg-type]
        if ragged or any(re.search(rf"\b{first}\b", line) for line in inside.lines):
            body.put(f"const {self.INTEGER} {first} = {number}{times};")
        if ragged:
            body.close(f"if ({first} < {self.index(level, loop.stop)})", _deeper(inside))
        else:
            body.lines.extend(inside.lines)
        self.close_rounds(level, body, rounds)

    def close_rounds(self, level: Level, body: Level, rounds: int) -> None:
        """Add what a thread does in each of its rounds: a block, if there is only one."""
        if rounds == 1:
            level.put("{")
            level.lines.extend(body.lines)
            level.put("}")
            return
        level.put("#pragma unroll")
        level.close(f"for (int r = 0; r < {rounds}; ++r)", body)

    def flush(self, level: Level, loop: For, key: tuple[Buffer, Extent]) -> None:
        """Store what the task has kept of a buffer, as the elements of a loop."""
        buffer, place = key
        self.used.add(("buffer", buffer))
        width, kept = self.lanes.width(loop), self.lanes.kept[key]
        first = self.fresh("first")
        inside = level.inner({first: first}, lanes=True)
        position = self.index(inside, substitute(place, {LANE: Dim.symbol(first)}))
        name = f"{kept.name}[r]" if kept.rounds > 1 else kept.name
        put = f"put({buffer.name} + {position}, {name});"
        inside.put(put if width > 1 else f"{buffer.name}[{position}] = {name};")
        self.close_kept(level, loop, kept.rounds, first, inside)

    def declare_kept(self, level: Level, kept: Kept, width: int, loop: For) -> None:
        type_ = CUDA.memory_type(kept.dtype)
        if width > 1:
            self.helpers.setdefault("pack", PACK)
            type_ = f"Pack<{type_}, {width}>"
        times = f"[{kept.rounds}]" if kept.rounds > 1 else ""
        ragged = int(loop.stop) % (self.lanes.threads * width * kept.rounds)  # type: ignore[arg-type]
        level.put(f"{type_} {kept.name}{times}{' = {}' if ragged else ''};")

    def elements(
        self, level: Level, loop: For, first: str, width: int, accesses: Sequence[Access]
    ) -> None:
        """What a thread does in one round: `width` elements from `first` on."""
        rest = ""
        if not divides(loop.stop - loop.start, width):
            rest = self.fresh("rest")
            level.put(f"const {self.INTEGER} {rest} = {self.index(level, loop.stop)} - {first};")
        stores = self.take_packs(level, loop, first, width, accesses, rest)
        if width == 1:
            self.scope(level, loop.body)
        else:
            self.body_of_packs(level, loop, first, width, rest)
        for target, name in stores:
            if width == 1:
                level.put(f"{target} = {name};")
            elif not rest:
                level.put(f"put({target}, {name});")
            else:
                self.helpers.setdefault("put_some", PUT_SOME)
                level.put(f"put({target}, {name}, {rest});")

    def take_packs(
        self,
        level: Level,
        loop: For,
        first: str,
        width: int,
        accesses: Sequence[Access],
        rest: str,
    ) -> list[tuple[str, str]]:
        """Take what is read `width` elements at a time and what the task keeps, and make room for
        what is written so: addresses and names of the stores that then follow the elements.
        """
        accesses = [access for access in accesses if self.may_pack(access)]
        together = packs(loop, width, accesses, self.group)
        kept = {
            id(a.statement): self.lanes.kept[a.buffer, a.place]
            for a in accesses
            if a.plain and (a.buffer, a.place) in self.lanes.kept
        }
        turn = "[r]" if (self.lanes.rounds_of(loop) or 1) > 1 else ""
        element = ".at[u]" if width > 1 else ""
        done: dict[tuple[Buffer, Extent], str] = {}
        stores: list[tuple[str, str]] = []
        for access in accesses:
            number, at = id(access.statement), (access.buffer, access.place)
            held = kept.get(number)
            if held is not None:
                self.packed[number] = f"{held.name}{turn}{element}"
                if access.stores:
                    if access.buffer.space != "worker" and at not in self.late:
                        target = self.pack_address(level, access, first)
                        stores.append((target, f"{held.name}{turn}"))
                elif at not in self.filled and at not in done:
                    source = self.pack_address(level, access, first)
                    level.put(f"{held.name}{turn} = {self.taken(access, source, width, rest)};")
                    done[at] = self.packed[number]
                continue
            if number not in together:
                continue
            type_ = CUDA.memory_type(access.buffer.dtype)
            self.helpers.setdefault("pack", PACK)
            if access.stores:
                name = self.fresh("out")
                level.put(f"Pack<{type_}, {width}> {name}{' = {}' if rest else ''};")
                stores.append((self.pack_address(level, access, first), name))
            elif at in done:
                self.packed[number] = done[at]
                continue
            else:
                name, source = self.fresh("in"), self.pack_address(level, access, first)
                text = self.taken(access, source, width, rest)
                level.put(f"const Pack<{type_}, {width}> {name} = {text};")
            self.packed[number] = done[at] = f"{name}.at[u]"
        return stores

    def body_of_packs(self, level: Level, loop: For, first: str, width: int, rest: str) -> None:
        """The body of a loop for each of the elements that a thread has; the first `rest` of them,
        if that matters.
        """
        variable = loop.variable
        body = level.inner({variable: variable})
        self.scope(body, loop.body)
        if any(re.search(rf"\b{variable}\b", line) for line in body.lines):
            indent = "    " * body.depth
            body.lines.insert(0, f"{indent}const {self.INTEGER} {variable} = {first} + u;")
        if rest:  # all rounds are written out, so that packs stay in registers
            guarded = body.inner()
            guarded.lines = _deeper(body).lines
            body.lines = []
            body.close(f"if (u < {rest})", guarded)
        level.put("#pragma unroll")
        level.close(f"for (int u = 0; u < {width}; ++u)", body)

    def may_pack(self, access: Access) -> bool:
        """Whether an access may go some elements at a time, if the loop does."""
        return True

    def taken(self, access: Access, source: str, width: int, rest: str) -> str:
        """The expression of elements from memory; `rest` is how many there are, if that matters."""
        if width == 1:
            return source
        self.helpers.setdefault("pack", PACK)
        if not rest:
            return f"take<{width}>({source})"
        self.helpers.setdefault("take_some", TAKE_SOME)
        return f"take<{width}>({source}, {rest})"

    def pack_address(self, level: Level, access: Access, first: str) -> str:
        """The first of a thread's elements, as its address if there may be several."""
        buffer = access.buffer
        if not (buffer.space == "worker" and buffer in self.lanes.shared):
            self.used.add(("buffer", buffer))
        else:
            self.shared[buffer.name] = 0
        position = self.index(level, substitute(access.place, {LANE: Dim.symbol(first)}))
        single = self.lanes.width(access.loop) == 1
        return f"{buffer.name}[{position}]" if single else f"{buffer.name} + {position}"

    def element(
        self, level: Level, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]
    ) -> str:
        if buffer not in self.lanes.shared:
            return super().element(level, buffer, index, args)
        if buffer.name not in self.shared:
            size = product(buffer.shape) * buffer.item_bytes
            self.shared[buffer.name] = int(-(-size // 16) * 16)  # type: ignore[operator]
        position = self.index(level, linear(buffer, index), self.argument_names(args))
        return f"{buffer.name}[{position}]"

    def reduced(self, level: Level, accumulator: Accumulator) -> str:
        """What the partial results of the threads combine to, in every thread."""
        dtype = accumulator.dtype
        name = f"warp_{accumulator.combiner}_{dtype}"
        self.warp_reduction(name, accumulator.combiner, dtype)
        result, state = self.fresh(f"{accumulator.combiner}_"), self.states[accumulator]
        call = f"{name}({state})"
        if self.lanes.threads > WARP:
            self.shared[dtype] = self.block // WARP * item_bytes(dtype)
            name = f"block_{accumulator.combiner}_{dtype}"
            self.reduction(name, accumulator.combiner, dtype)
            call = f"{name}({state}, partials_{dtype})"
            self.touched.clear()
        level.put(f"const {CUDA.types[dtype]} {result} = {call};")
        return result

    @staticmethod
    def is_wide(dtype: str) -> bool:
        """Whether a warp can shuffle numbers of a dtype as they are."""
        return dtype in ("float32", "float64") or BITS[dtype] >= 32

    def warp_reduction(self, name: str, combiner: str, dtype: str) -> None:
        if name in self.helpers:
            return
        text = self.instruction(combiner, ["value", "other"], [dtype, dtype], dtype)
        type_ = CUDA.types[dtype]
        wide = self.is_wide(dtype)
        shuffled = "value" if wide else "(int)value"
        back = "" if wide else f"({type_})"
        self.helpers[name] = WARP_REDUCTION.format(
            name=name, type=type_, combined=text, value=shuffled, back=back
        )

    def reduction(self, name: str, combiner: str, dtype: str) -> None:
        if name not in self.helpers:
            text = self.instruction(combiner, ["value", "other"], [dtype, dtype], dtype)
            self.helpers[name] = REDUCTION.format(
                name=name, warp=name.replace("block", "warp"), type=CUDA.types[dtype], combined=text
            )

    def accumulate(self, level: Level, s: Accumulate) -> None:
        if id(s.accumulator) not in self.live or s.accumulator in self.merged.values():
            return
        state, value = self.states[s.accumulator], self.accumulated(s)
        guard = "" if s.mask is None else f"if ({self.operand(s.mask)}) "
        level.put(f"{guard}{state} = {self.combined(s.accumulator, state, value)};")

    # -- memory ------------------------------------------------------------------------------------

    def load(self, level: Level, value: Value) -> str:
        if id(value) in self.packed:
            text = self.packed[id(value)]
            return f"{text} != 0" if value.dtype == "bool" else text
        buffer = value.immediate.buffer
        if not level.lanes and buffer in self.writes:
            self.order(level, [(self.group[buffer], EVERY, False)])
        return super().load(level, value)

    def store(self, level: Level, s: Store) -> None:
        if id(s) in self.packed:
            level.put(f"{self.packed[id(s)]} = {self.operand(s.value)};")
            return
        if not level.lanes:
            self.order(level, [(self.group[s.buffer], FIRST, True)])
        element = self.element(level, s.buffer, s.index, s.args)
        guards = self.store_guards(level)
        guards = guards if s.mask is None else [*guards, self.operand(s.mask)]
        guard = f"if ({' && '.join(guards)}) " if guards else ""
        level.put(f"{guard}{element} = {self.operand(s.value)};")

    def store_guards(self, level: Level) -> list[str]:
        """The conditions under which a thread stores what all compute."""
        return [] if level.lanes else [f"{self.thread} == 0"]

    def order_memory(self, level: Level, loop: For) -> None:
        """A barrier before a loop that touches what other threads have touched, if either wrote.

        What a loop in order touches it may have touched in the iteration before.
        """
        if level.lanes:
            return
        accesses: list[tuple[int, Toucher, bool]] = []
        for toucher, s in touches(loop, EVERY, FIRST):
            buffer = s.buffer if isinstance(s, Store) else s.immediate.buffer
            if buffer in self.lanes.registers:
                continue
            if buffer in self.writes and (isinstance(s, Store) or id(s) in self.live):
                accesses.append((self.group[buffer], toucher, isinstance(s, Store)))
        if loop.role == "vector":
            self.order(level, accesses)
        else:
            self.note(accesses)

    def order(self, level: Level, accesses: Sequence[tuple[int, Toucher, bool]]) -> None:
        """Note the accesses of one statement, behind a barrier where they need one."""
        if any(conflict((t, w), self.touched.get(group, ())) for group, t, w in accesses):
            level.put(self.barrier_text)
            self.touched.clear()
        self.note(accesses)

    def note(self, accesses: Sequence[tuple[int, Toucher, bool]]) -> None:
        for group, toucher, writes in accesses:
            for touched in (self.touched, self.task_touched):
                touched.setdefault(group, set()).add((toucher, writes))

    # -- checks ------------------------------------------------------------------------------------

    def check(self, level: Level, s: Check) -> None:
        self.used.add(("status", None))
        self.helpers.setdefault("record", RECORD)
        first = "" if level.lanes else f"{self.thread} == 0 && "
        condition, index = self.operand(s.condition), self.operand(s.index)
        level.put(f"if ({first}!{condition}) record(status, {s.code}, {s.node}, {index});")

    def barrier(self, level: Level) -> None:
        level.put(self.barrier_text)
        self.touched.clear()


def launch_bounds(block: int, resident: int | None) -> str:
    """The attribute of a kernel that tells the compiler how many registers it may use."""
    return f"__launch_bounds__({block}{'' if resident is None else f', {resident}'})"


# A declaration of a shared array: its type, name and extents.
_SHARED_ARRAY = re.compile(
    r"\s*__shared__ (?:__align__\(16\) )?([\w ]+?) (\w+)((?:\[\d+\])+);$"
)


def _deeper(level: Level) -> Level:
    """A level whose lines stand one step further in."""
    level.lines = ["    " + line for line in level.lines]
    return level
