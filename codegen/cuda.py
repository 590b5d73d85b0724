"""How is a program written as CUDA C++?  One translation unit, one __global__ function a kernel, and a plan of launches.

An iteration of a parallel loop is done by a block, or by several where nothing but lanes is in it; a vector loop is shared
out to the threads of the block with a stride of the block's size, so that the same lane of every loop is the same thread. What stands outside of vector
loops all threads compute alike, and the first one stores. Accumulators of vector loops end in a reduction over the block in
a fixed order. A contraction is a kernel of tiles in shared memory. No header is included, every fused multiply-add is spelled
out, and the text is to be compiled with -fmad=false.

The plan says what to launch, in which order and with which arguments, as plain data: whoever runs it needs nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from graphc.codegen.cuda_scalar import (
    HELPERS,
    cuda_type,
    from_memory,
    instruction,
    literal,
    memory_type,
)
from graphc.codegen.llvm import identity
from graphc.codegen.llvm_scalar import rarely_needed
from graphc.codegen.loops import (
    Buffer,
    Contract,
    Kernel,
    Region,
    linear,
    plain_operand,
    scopes,
    stride_name,
)
from graphc.codegen.memory import aligned
from graphc.codegen.program import (
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
)
from graphc.codegen.scalar import (
    BITS,
    Accumulate,
    Accumulator,
    Address,
    Check,
    For,
    Scope,
    Store,
    Value,
    walk,
)

from graphc.dims import Bounds, Compound, Dim, Extent, ceildiv, dim_min, product, symbols_of
from graphc.origin import location

WARP = 32
BLOCK_SIZES = (32, 64, 128, 256)
# Blocks of a launch; more tasks than this are taken in turns.
MOST_BLOCKS = 1 << 16
# Elements that a thread takes at least before a task is shared out to several blocks.
LANES_PER_THREAD = 4
# Source lines and nodes named in the comment above a kernel.
LISTED = 8


# -- what the host gets --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel. `kind` is "buffer", "stride" (in bytes), "extent", "tasks" or "status"; `name` is its
    name in the text, `type` what C++ calls it.
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


@dataclass(frozen=True)
class Place:
    """An address: `offset` bytes into the input, output or constant number `index`, or into the arena.

    `space` is "input", "output", "constant" or "arena".
    """

    space: str
    index: int
    offset: Extent

    def __str__(self) -> str:
        base = "arena" if self.space == "arena" else f"{self.space} {self.index}"
        return base if self.offset == 0 else f"{base} + {self.offset}"


@dataclass(frozen=True)
class Stride:
    """The step in bytes along `axis` of input number `index`, as a long long."""

    index: int
    axis: int

    def __str__(self) -> str:
        return f"stride {self.axis} of input {self.index}"


@dataclass(frozen=True)
class Size:
    """The value of an extent, as a long long."""

    extent: Extent

    def __str__(self) -> str:
        return str(self.extent)


@dataclass(frozen=True)
class Status:
    """The address of three unsigned 64-bit words, 0 before the call: code, node and index of the first failing check."""

    def __str__(self) -> str:
        return "status"


Argument = Place | Stride | Size | Status


@dataclass(frozen=True)
class KernelStep:
    """Launch a kernel on a row of `grid` blocks of `block` threads; a grid of 0 blocks is passed over."""

    kernel: str
    grid: Extent
    block: int
    arguments: tuple[Argument, ...]
    can_fail: bool
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoopStep:
    """Do the steps with `variable` from 0 to `length` - 1, or the other way round."""

    variable: str
    length: Extent
    reverse: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class CallStep:
    """Do a plan on these operands, its inputs and then its outputs, with these sizes and that part of the arena."""

    plan: Plan
    operands: tuple[Place, ...]
    sizes: dict[str, Extent]
    arena: Place


Step = KernelStep | LoopStep | CallStep


@dataclass(frozen=True)
class ArrayType:
    """An input or output: C-contiguous, or with strides of its own."""

    dtype: np.dtype[Any]
    shape: tuple[Extent, ...]
    strided: bool = False


@dataclass(frozen=True)
class Plan:
    """The steps of a procedure, in order, over the named extents `sizes`."""

    name: str
    inputs: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    sizes: tuple[str, ...]
    arena_bytes: Extent
    steps: tuple[Step, ...]


@dataclass(eq=False)
class CudaProgram:
    """A program as CUDA C++: kernels, the plan of the main procedure, and the arrays of its constants.

    `checks` are the graph nodes that status records number.
    """

    name: str
    kernels: tuple[CudaKernel, ...]
    plan: Plan
    constants: tuple[Any, ...]
    checks: tuple[Any, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def arena_bytes(self) -> Extent:
        """Bytes of the arena of one call."""
        return self.plan.arena_bytes

    @property
    def text(self) -> str:
        """The translation unit, with where each kernel comes from in comments."""
        return translation_unit(self.kernels, self.name)

    @property
    def code(self) -> str:
        """The translation unit without comments: equal for programs that compute the same, so a key for caches."""
        return translation_unit(self.kernels)

    def launch_plan_text(self) -> str:
        """The plan, one step a line; each called procedure once."""
        return "\n".join(_plan_lines(self.plan)) + "\n"


def translation_unit(kernels: Iterable[CudaKernel], name: str | None = None) -> str:
    """The text of kernels, of one program or of several; comments only if it is given a name."""
    helpers: dict[str, str] = {}
    functions: dict[str, str] = {}
    for kernel in kernels:
        helpers |= kernel.helpers
        remarks = kernel.comments if name is not None else []
        functions.setdefault(kernel.name, "\n".join([*(f"// {line}" for line in remarks), kernel.text]))
    head = [] if name is None else [f"// {_comment(name)}: compile with -fmad=false."]
    return "\n\n".join([*head, *helpers.values(), *functions.values()]) + "\n"


def cuda_source(program: Program, name: str = "graph", workers: int = 1) -> CudaProgram:
    """The CUDA C++ of a program, and the plan to run it.

    `workers` is what the memory was planned for (`lower(graph, workers)`): kernels that need scratch run as many blocks
    at most.
    """
    planner = _Planner(workers)
    plans = {id(p): planner.procedure(p) for p in (*program.procedures, program.main)}
    kernels = tuple(planner.kernels.values())
    constants = tuple(planner.constants)
    return CudaProgram(name, kernels, plans[id(program.main)], constants, tuple(program.checks))


def _plan_lines(plan: Plan) -> Iterator[str]:
    shown: set[int] = set()
    waiting = [plan]
    while waiting:
        current = waiting.pop(0)
        if id(current) in shown:
            continue
        shown.add(id(current))
        arrays = [*(f"input {i}" for i in range(len(current.inputs)))]
        arrays += [f"output {i}" for i in range(len(current.outputs))]
        types = [f"{a.dtype.name}[{', '.join(map(str, a.shape))}]" for a in (*current.inputs, *current.outputs)]
        listed = ", ".join(f"{array}: {type_}" for array, type_ in zip(arrays, types, strict=True))
        yield f"{current.name}({listed}), arena of {current.arena_bytes} bytes:"
        for depth, step in _flat(current.steps, 1):
            indent = "    " * depth
            if isinstance(step, KernelStep):
                arguments = ", ".join(map(str, step.arguments))
                yield f"{indent}{step.kernel}<<<{step.grid}, {step.block}>>>({arguments})"
            elif isinstance(step, LoopStep):
                order = " reversed" if step.reverse else ""
                yield f"{indent}for {step.variable} in range({step.length}){order}:"
            else:
                operands = ", ".join(map(str, step.operands))
                sizes = "".join(f", {name} = {extent}" for name, extent in step.sizes.items())
                yield f"{indent}call {step.plan.name}({operands}; {step.arena}{sizes})"
                waiting.append(step.plan)


def _flat(steps: Sequence[Step], depth: int) -> Iterator[tuple[int, Step]]:
    for step in steps:
        yield depth, step
        if isinstance(step, LoopStep):
            yield from _flat(step.steps, depth + 1)


def _comment(text: str) -> str:
    """Text that stays within a comment of one line."""
    return "".join(c if c.isprintable() else "?" for c in text).rstrip("\\")


# -- the plan ------------------------------------------------------------------------------------------


class _Planner:
    """Prints each kernel once and says how to launch it."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.kernels: dict[str, CudaKernel] = {}
        self.constants: list[Any] = []
        self.plans: dict[int, Plan] = {}

    def procedure(self, procedure: Procedure) -> Plan:
        """The plan of a procedure whose callees have been planned."""
        inputs, outputs = (
            tuple(ArrayType(s.dtype, s.shape, s.strided) for s in storages)
            for storages in (procedure.inputs, procedure.outputs)
        )
        steps = self.steps(procedure.body, len(procedure.inputs))
        plan = Plan(procedure.name, inputs, outputs, procedure.sizes, procedure.arena, steps)
        self.plans[id(procedure)] = plan
        return plan

    def steps(self, body: Sequence[Statement], inputs: int) -> tuple[Step, ...]:
        return tuple(self.step(statement, inputs) for statement in body)

    def step(self, statement: Statement, inputs: int) -> Step:
        if isinstance(statement, Launch):
            return self.launch(statement, inputs)
        if isinstance(statement, Loop):
            steps = self.steps(statement.body, inputs)
            return LoopStep(statement.variable, statement.length, statement.reverse, steps)
        operands = tuple(self.place(operand, inputs) for operand in statement.operands)
        scratch = 0 if statement.scratch is None else statement.scratch.offset
        arena = Place("arena", 0, scratch)
        return CallStep(self.plans[id(statement.procedure)], operands, dict(statement.sizes), arena)

    def place(self, operand: Operand, inputs: int) -> Place:
        storage = operand.storage
        offset = operand.offset * storage.dtype.itemsize
        if storage.kind == "constant":
            return Place("constant", self.constant(storage), offset)
        if storage.kind in ("temporary", "worker"):
            return Place("arena", 0, storage.offset + offset)
        first = inputs if storage.kind == "output" else 0
        return Place(storage.kind, storage.position - first, offset)

    def constant(self, storage: Storage) -> int:
        for index, array in enumerate(self.constants):
            if array is storage.array:
                return index
        self.constants.append(storage.array)
        return len(self.constants) - 1

    def launch(self, launch: Launch, inputs: int) -> KernelStep:
        kernel = launch.kernel
        numbers: dict[int, int] = {}
        groups = [numbers.setdefault(id(o.storage), len(numbers)) for o in launch.operands]
        contract = isinstance(kernel.nest, Contract)
        made = (_ContractPrinter if contract else _Printer)(kernel, groups)
        printed = made.kernel_function()
        known = self.kernels.setdefault(printed.name, printed)
        nodes = tuple(dict.fromkeys(node.op.name for node in launch.nodes))
        for line in _remarks(launch):
            if line not in known.comments:
                known.comments.append(line)
        operands = dict(zip(map(id, kernel.buffers), launch.operands, strict=True))
        arguments = tuple(self.argument(word, operands, made.tasks, inputs) for word in made.words)
        scratch = any(buffer.space == "worker" for buffer in kernel.buffers)
        most = self.workers if scratch else MOST_BLOCKS // made.parts
        grid = dim_min(made.tasks, most) * made.parts
        return KernelStep(printed.name, grid, printed.block, arguments, printed.can_fail, nodes)

    def argument(
        self, word: tuple[str, Any], operands: Mapping[int, Operand], tasks: Extent, inputs: int
    ) -> Argument:
        kind, item = word
        if kind == "buffer":
            return self.place(operands[id(item)], inputs)
        if kind == "stride":
            buffer, axis = item
            return Stride(operands[id(buffer)].storage.position, axis)
        if kind == "status":
            return Status()
        return Size(tasks if kind == "tasks" else Dim.symbol(item))


def _remarks(launch: Launch) -> list[str]:
    """What a launch computes, and the user's lines that it comes from."""
    if not launch.nodes:
        return [_comment(launch.reason)] if launch.reason else []
    names = list(dict.fromkeys(node.op.name for node in launch.nodes))
    lines = list(dict.fromkeys(filter(None, (location(node.origin) for node in launch.nodes))))
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    remarks = [_comment(f"{listed}: {launch.nodes[-1].type}")]
    if lines:
        more = ", ..." if len(lines) > LISTED else ""
        remarks.append(_comment(f"from {', '.join(lines[:LISTED])}{more}"))
    return remarks


# -- kernels -------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Level:
    """A block of the text under construction; what does not vary in it can still be put in front of it, in an outer one.

    `variables` are the names of index arithmetic that have a value from here on, with their names in the text; `lanes` tells whether
    each thread is at an index of its own.
    """

    parent: Level | None
    depth: int
    lanes: bool
    variables: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def inner(self, variables: Mapping[str, str] | None = None, lanes: bool = False) -> Level:
        return Level(self, self.depth + 1, self.lanes or lanes, dict(variables or {}))

    def close(self, head: str, inner: Level) -> None:
        """Add a finished block."""
        self.put(f"{head} {{")
        self.lines.extend(inner.lines)
        self.put("}")

    def chain(self) -> Iterator[Level]:
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent


# Who touches memory at a point of a task: a loop (its range), every thread, or the first one.
Toucher = tuple[Any, Any] | str
_EVERY, _FIRST = "every thread", "first thread"


class _Printer:
    """Writes a loop nest. `groups` numbers the storage of each buffer: those of equal number are one array."""

    def __init__(self, kernel: Kernel, groups: Sequence[int]) -> None:
        self.kernel = kernel
        self.group = dict(zip(kernel.buffers, groups, strict=True))
        written = {self.group[buffer] for buffer in kernel.written()}
        self.writes = {buffer for buffer in kernel.buffers if self.group[buffer] in written}
        self.live = _live(kernel)
        self.bounds = Bounds(_ranges(kernel))
        self.merged = _merged_reductions(kernel.body, self.live)
        self.results: dict[Accumulator, list[Value]] = {}
        for scope in scopes(kernel):
            for s in walk(scope):
                if isinstance(s, Value) and isinstance(s.immediate, Accumulator):
                    self.results.setdefault(s.immediate, []).append(s)
        self.names: dict[int, str] = {}
        self.states: dict[Accumulator, str] = {}
        self.helpers: dict[str, str] = {}
        self.used: set[tuple[str, Any]] = set()
        self.shared: dict[str, int] = {}
        self.touched: dict[int, set[tuple[Toucher, bool]]] = {}
        self.task_touched: dict[int, set[tuple[Toucher, bool]]] = {}
        self.words: list[tuple[str, Any]] = []
        self.block = BLOCK_SIZES[-1]
        self.parts = 1
        self.tasks: Extent = 0
        self._count = 0

    def fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def helper(self, *names: str) -> None:
        """Note helpers that the text calls, those that they need first."""
        for name in names:
            self.helper(*HELPERS[name].needs)
            self.helpers.setdefault(name, HELPERS[name].text)

    # -- the function ----------------------------------------------------------------------------------

    def kernel_function(self) -> CudaKernel:
        """The finished kernel; its name ends in a digest of its text."""
        top = Level(None, 1, False)
        for name in self.kernel.extents:
            top.variables[name] = _extent_name(name, self.kernel.extents)
        for buffer in self.kernel.buffers:
            if buffer.layout == "strided":
                for axis in range(len(buffer.shape)):
                    top.variables[stride_name(buffer, axis)] = f"stride_{buffer.name}_{axis}"
        self.body(top)
        lines = [*self.openings(), *top.lines]
        parameters = self.parameters()
        listed = [f"{p.type} {p.name}" for p in parameters]
        head = f'extern "C" __global__ void __launch_bounds__({self.block}) '
        body = "\n".join(["{", *lines, "}"])
        digest = hashlib.blake2b(digest_size=5)
        digest.update("\0".join([head, *listed, body, *self.helpers.values()]).encode())
        title = re.sub(r"\W", "_", self.kernel.title, flags=re.ASCII) or "kernel"
        name = f"{title}_{digest.hexdigest()}"
        text = f"{head}{name}({', '.join(listed)})\n{body}"
        if len(text.split("\n", 1)[0]) > 100:
            joined = ",\n    ".join(listed)
            text = f"{head}{name}(\n    {joined})\n{body}"
        shared = sum(self.shared.values())
        failing = ("status", None) in self.used
        return CudaKernel(name, self.block, shared, tuple(parameters), text, self.helpers, failing)

    def parameters(self) -> list[Parameter]:
        """The words of the kernel's frame that its text uses."""
        found = []
        words = [word for word in self.kernel.frame() if word[0] in ("buffer", "stride", "extent")]
        self.words = [w for w in (*words, ("tasks", None), ("status", None)) if w in self.used]
        for kind, item in self.words:
            if kind == "buffer":
                found.append(self.buffer_parameter(item))
            elif kind == "stride":
                found.append(Parameter(kind, f"stride_{item[0].name}_{item[1]}", "long long"))
            elif kind == "extent":
                name = _extent_name(item, self.kernel.extents)
                found.append(Parameter(kind, name, "long long"))
            elif kind == "tasks":
                found.append(Parameter(kind, "tasks", "long long"))
            else:
                found.append(Parameter(kind, "status", "unsigned long long*"))
        return found

    def buffer_parameter(self, buffer: Buffer) -> Parameter:
        type_ = memory_type(buffer.dtype)
        name = f"all_{buffer.name}" if buffer.space == "worker" else buffer.name
        if buffer in self.writes:
            return Parameter("buffer", name, f"{type_}*")
        return Parameter("buffer", name, f"const {type_}* __restrict__")

    def openings(self) -> list[str]:
        """Declarations at the head of a function: shared arrays, and this block's copies of scratch."""
        lines = []
        for dtype in sorted(name for name in self.shared if name in BITS):
            lines.append(f"    __shared__ {cuda_type(dtype)} partials_{dtype}[{self.block // WARP}];")
        top = Level(None, 1, False, {n: _extent_name(n, self.kernel.extents) for n in self.kernel.extents})
        for buffer in self.kernel.buffers:
            if buffer.space == "worker" and ("buffer", buffer) in self.used:
                size = max(1, BITS[buffer.dtype] // 8)
                elements = aligned(product(buffer.shape) * size) // size
                copy = _enclosed(self.index(top, elements))
                type_ = memory_type(buffer.dtype)
                top.put(f"{type_}* const {buffer.name} = all_{buffer.name} + blockIdx.x * {copy};")
        return [*lines, *top.lines]

    def body(self, top: Level) -> None:
        nest = self.kernel.nest
        assert isinstance(nest, For)
        self.tasks = nest.stop - nest.start
        self.block, self.parts = _shape_of_launch(self.kernel, nest, self.live, self.bounds)
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

    def task_count(self) -> str:
        if isinstance(self.tasks, int):
            return str(self.tasks)
        self.used.add(("tasks", None))
        return "tasks"

    # -- statements ------------------------------------------------------------------------------------

    def scope(self, level: Level, scope: Scope, results: Iterable[Value] = ()) -> None:
        """The statements of a scope, with what is rarely needed behind a branch."""
        branches = rarely_needed(scope, results)
        hidden = {id(v) for rare in branches for v in (*rare.instructions, *rare.selects)}
        starts = {id(rare.selects[0]): rare for rare in branches}
        for statement in scope.statements:
            if id(statement) in starts:
                self.rare_branch(level, starts[id(statement)])
            elif id(statement) not in hidden:
                self.statement(level, statement)

    def rare_branch(self, level: Level, rare: Any) -> None:
        selects = [select for select in rare.selects if id(select) in self.live]
        if not selects:
            return
        for select in selects:
            usual = self.operand(select.args[2])
            name = self.names[id(select)] = self.fresh("v")
            level.put(f"{cuda_type(select.dtype)} {name} = {usual};")
        inside = level.inner()
        for value in rare.instructions:
            self.statement(inside, value)
        for select in selects:
            inside.put(f"{self.names[id(select)]} = {self.operand(select.args[1])};")
        level.close(f"if ({self.operand(rare.condition)})", inside)

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, Value):
            if id(s) in self.live:
                self.value(level, s)
        elif isinstance(s, Store):
            self.store(level, s)
        elif isinstance(s, Accumulate):
            self.accumulate(level, s)
        elif isinstance(s, Check):
            self.check(level, s)
        elif isinstance(s, For):
            if self.has_effect(s):
                self.loop(level, s)
        else:
            raise AssertionError(f"no such statement: {s!r}")

    def has_effect(self, loop: For) -> bool:
        """Whether a loop stores, checks, or accumulates what is read."""
        return any(
            isinstance(s, (Store, Check)) or (isinstance(s, Accumulate) and id(s.accumulator) in self.live)
            for s in walk(loop.body)
        )

    def value(self, level: Level, value: Value) -> None:
        if value.opcode in ("const", "result"):
            return  # a literal where it is used; a result has its name from its loop
        if value.opcode == "index":
            names = self.argument_names(value.args)
            text = self.index(level, value.immediate, names)
            home = self.home(level, symbols_of(value.immediate), names)
            self.names[id(value)] = self.named(home, text)
            return
        if value.opcode == "load":
            text = self.load(level, value)
        else:
            operands = [self.operand(argument) for argument in value.args]
            dtypes = [argument.dtype for argument in value.args]
            text, helpers = instruction(value.opcode, operands, dtypes, value.dtype)
            self.helper(*helpers)
        name = self.names[id(value)] = self.fresh("v")
        level.put(f"const {cuda_type(value.dtype)} {name} = {text};")

    def operand(self, value: Value) -> str:
        if value.opcode == "const":
            return literal(value.immediate, value.dtype)
        return self.names[id(value)]

    # -- loops -----------------------------------------------------------------------------------------

    def loop(self, level: Level, loop: For) -> None:
        vector = loop.role == "vector"
        self.order_memory(level, loop)
        mine = [a for a in loop.accumulators if id(a) in self.live]
        for accumulator in mine:
            if accumulator in self.merged:
                self.states[accumulator] = self.states[self.merged[accumulator]]
                continue
            name = self.states[accumulator] = self.fresh("a")
            start = literal(identity(accumulator.combiner, accumulator.dtype), accumulator.dtype)
            level.put(f"{cuda_type(accumulator.dtype)} {name} = {start};")
        variable = loop.variable
        inside = level.inner({variable: variable}, lanes=vector)
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        self.scope(inside, loop.body)
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
        self.shared[dtype] = self.block // WARP * max(1, BITS[dtype] // 8)
        name = f"block_{accumulator.combiner}_{dtype}"
        self.reduction(name, accumulator.combiner, dtype)
        result = self.fresh("v")
        state = self.states[accumulator]
        level.put(f"const {cuda_type(dtype)} {result} = {name}({state}, partials_{dtype});")
        self.touched.clear()
        return result

    def reduction(self, name: str, combiner: str, dtype: str) -> None:
        if name in self.helpers:
            return
        text, helpers = instruction(combiner, ["value", "other"], [dtype, dtype], dtype)
        self.helper(*helpers)
        type_ = cuda_type(dtype)
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
        dtype = s.accumulator.dtype
        text, helpers = instruction(s.accumulator.combiner, [state, value], [dtype, dtype], dtype)
        self.helper(*helpers)
        guard = "" if s.mask is None else f"if ({self.operand(s.mask)}) "
        level.put(f"{guard}{state} = {text};")

    # -- memory ----------------------------------------------------------------------------------------

    def load(self, level: Level, value: Value) -> str:
        address: Address = value.immediate
        if not level.lanes and address.buffer in self.writes:
            self.order(level, [(self.group[address.buffer], _EVERY, False)])
        element = self.element(level, address.buffer, address.index, value.args[: address.count])
        element = from_memory(element, value.dtype)
        if len(value.args) == address.count:
            return element
        mask, fill = map(self.operand, value.args[address.count :])
        return f"{mask} ? {element} : {fill}"

    def store(self, level: Level, s: Store) -> None:
        if not level.lanes:
            self.order(level, [(self.group[s.buffer], _FIRST, True)])
        element = self.element(level, s.buffer, s.index, s.args)
        guards = [] if level.lanes else ["threadIdx.x == 0"]
        guards += [] if s.mask is None else [self.operand(s.mask)]
        guard = f"if ({' && '.join(guards)}) " if guards else ""
        level.put(f"{guard}{element} = {self.operand(s.value)};")

    def element(
        self, level: Level, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]
    ) -> str:
        """An element of a buffer, to be read or assigned."""
        self.used.add(("buffer", buffer))
        position = self.index(level, linear(buffer, index), self.argument_names(args))
        if buffer.layout != "strided":
            return f"{buffer.name}[{position}]"
        const = "" if buffer in self.writes else "const "
        return f"*({const}{memory_type(buffer.dtype)}*)(({const}char*){buffer.name} + {_enclosed(position)})"

    def argument_names(self, args: tuple[Value, ...]) -> dict[str, str]:
        return {f"_arg{k}": self.operand(value) for k, value in enumerate(args)}

    def order_memory(self, level: Level, loop: For) -> None:
        """A barrier before a loop that touches what other threads than its own have touched, if either wrote.

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

    # -- checks ----------------------------------------------------------------------------------------

    def check(self, level: Level, s: Check) -> None:
        self.used.add(("status", None))
        self.helpers.setdefault("record", _RECORD)
        first = "" if level.lanes else "threadIdx.x == 0 && "
        condition, index = self.operand(s.condition), self.operand(s.index)
        level.put(f"if ({first}!{condition}) record(status, {s.code}, {s.node}, {index});")

    # -- index expressions -----------------------------------------------------------------------------

    def home(self, level: Level, symbols: Iterable[str], names: Mapping[str, str]) -> Level:
        """The outermost level at which all of these names have a value."""
        wanted = set(symbols)
        if wanted & names.keys():
            return level
        for each in level.chain():
            if each.parent is None or wanted & each.variables.keys():
                return each
        return level

    def named(self, home: Level, text: str) -> str:
        """A name for an index expression, one for all its uses."""
        if re.fullmatch(r"\w+", text):
            return text
        found = home.named.get(text)
        if found is None:
            found = home.named[text] = self.fresh("q")
            home.put(f"const long long {found} = {text};")
        return found

    def index(
        self, level: Level, extent: Extent, names: Mapping[str, str] | None = None
    ) -> str:
        """An extent as an expression in long long: what varies at `level`, and names for what does not."""
        if isinstance(extent, int):
            return str(extent)
        return self.terms(level, extent.terms, names or {})

    def terms(self, level: Level, terms: Sequence[Any], names: Mapping[str, str]) -> str:
        """A sum. Terms that do not vary at the innermost level involved are added up where they are known."""
        homes = [self.home(level, _symbols_of_term(term), names) for term in terms]
        innermost = max(homes, key=lambda home: home.depth)
        moving = [t for t, h in zip(terms, homes, strict=True) if h is innermost or not t[0]]
        fixed = [t for t in terms if t not in moving]
        text = ""
        if fixed:
            home = max((h for t, h in zip(terms, homes, strict=True) if t in fixed), key=lambda h: h.depth)
            text = self.named(home, self.terms(level, fixed, names))
        for term in moving:
            part, negative = self.term(level, term, names)
            sign = "-" if negative else "+"
            text = f"{text} {sign} {part}" if text else ("-" if negative else "") + part
        return text

    def term(self, level: Level, term: Any, names: Mapping[str, str]) -> tuple[str, bool]:
        """A product, and whether it is to be subtracted."""
        monomial, coefficient = term
        factors = [self.atom(level, atom, names) for atom, power in monomial for _ in range(power)]
        if abs(coefficient) != 1 or not factors:
            factors.append(str(abs(coefficient)))
        return " * ".join(factors), coefficient < 0

    def atom(self, level: Level, atom: str | Compound, names: Mapping[str, str]) -> str:
        if isinstance(atom, str):
            return names[atom] if atom in names else self.variable(level, atom)
        texts = [self.index(level, argument, names) for argument in atom.arguments]
        text = self.compound(atom, texts)
        return self.named(self.home(level, atom.symbols, names), text)

    def variable(self, level: Level, name: str) -> str:
        for each in level.chain():
            if name in each.variables:
                if each.parent is None:
                    self.used.add(self.word_of(name))
                return each.variables[name]
        raise AssertionError(f"{name} has no value here")

    def word_of(self, name: str) -> tuple[str, Any]:
        """The word of the frame that an index name stands for."""
        for buffer in self.kernel.buffers:
            for axis in range(len(buffer.shape)):
                if name == stride_name(buffer, axis):
                    return ("stride", (buffer, axis))
        return ("extent", name)

    def compound(self, atom: Compound, texts: Sequence[str]) -> str:
        if atom.operator in ("min", "max"):
            wide = [f"{t}LL" if t.lstrip("-").isdigit() else t for t in texts]
            text = wide[0]
            for other in wide[1:]:
                text = f"{atom.operator}({text}, {other})"
            return text
        (dividend, divisor), (a, b) = atom.arguments, texts
        sign, name = ("/", "floor_divide") if atom.operator == "floordiv" else ("%", "floor_modulo")
        ordinary = self.bounds.proves_nonnegative(dividend) and self.bounds.proves_nonnegative(divisor)
        if not ordinary:
            self.helpers.setdefault(name, _FLOOR[name])
            return f"{name}({a}, {b})"
        if isinstance(divisor, int):
            return f"{_enclosed(a)} {sign} {max(divisor, 1)}"
        return f"{_enclosed(a)} {sign} max({b}, 1LL)"  # of an empty axis nothing is used


class _ContractPrinter(_Printer):
    """Writes a contraction: each block a tile of the product at a time, each thread 4 x 4 elements of it in registers.

    A step along the contracted axis loads a tile of either operand, as its region says, into shared memory. Every element is summed
    in order of that axis, by fused multiply-adds.
    """

    PER_THREAD = 4

    def body(self, top: Level) -> None:
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        self.contract = contract
        self.tile, self.depth = TILES[contract.dtype]
        across = self.tile // self.PER_THREAD
        self.block = across * across
        row_tiles, column_tiles = ceildiv(contract.rows, self.tile), ceildiv(contract.columns, self.tile)
        self.tasks = contract.batch * row_tiles * column_tiles
        self.declare(top, contract.dtype, across)
        for statement in self.kernel.body.statements:
            if statement is not contract:
                self.statement(top, statement)
        inside = top.inner({"_tile": "tile"}, lanes=True)
        tile = Dim.symbol("_tile")
        bounds = Bounds({"_tile": (0, self.tasks - 1)})
        starts = {"row0": tile // column_tiles % row_tiles, "column0": tile % column_tiles}
        for name, start in starts.items():
            text = self.index(inside, bounds.simplify(start) * self.tile)
            inside.put(f"const long long {name} = {text};")
        batches = {region.variables[0] for region in (contract.left, contract.right, contract.epilogue)}
        if batches & _mentioned(self.kernel):
            batch = bounds.simplify(tile // (row_tiles * column_tiles))
            inside.put(f"const long long batch = {self.index(inside, batch)};")
            inside.variables |= dict.fromkeys(batches, "batch")
        self.sum_up(inside, contract)
        self.finish_tile(inside, contract)
        stop = self.task_count()
        top.close(f"for (long long tile = blockIdx.x; tile < {stop}; tile += gridDim.x)", inside)

    def declare(self, top: Level, dtype: str, across: int) -> None:
        """Shared tiles, with rows kept apart so that columns lie in different banks, and this thread's place."""
        type_, size = cuda_type(dtype), BITS[dtype] // 8
        padded = self.tile + 16 // size
        for side in ("left", "right"):
            top.put(f"__shared__ __align__(16) {type_} {side}[{self.depth}][{padded}];")
            self.shared[side] = self.depth * padded * size
        top.put(f"const int row = threadIdx.x / {across} * {self.PER_THREAD};")
        top.put(f"const int column = threadIdx.x % {across} * {self.PER_THREAD};")

    def sum_up(self, level: Level, contract: Contract) -> None:
        type_ = cuda_type(contract.dtype)
        n = self.PER_THREAD
        level.put(f"{type_} sums[{n}][{n}] = {{}};")
        depth = self.index(level, contract.depth)
        inside = level.inner({"_k0": "k0"})
        left, right = contract.left, contract.right
        plain_left, plain_right = plain_operand(left), plain_operand(right)
        rows_first = plain_left is not None and plain_left.steps[1] == 1
        depth_first = plain_right is not None and plain_right.steps[1] == 1
        self.load_tile(inside, left, "left", ("row0", contract.rows), not rows_first)
        self.load_tile(inside, right, "right", ("column0", contract.columns), depth_first)
        fused = "fmaf" if contract.dtype == "float32" else "fma"
        block = _TILE_PRODUCT.format(type=type_, depth=self.depth, n=n, fused=fused)
        for line in block.splitlines():
            inside.put(line)
        level.close(f"for (long long k0 = 0; k0 < {depth}; k0 += {self.depth})", inside)

    def load_tile(
        self, level: Level, region: Region, side: str, across: tuple[str, Extent], depth_first: bool
    ) -> None:
        """Elements of an operand, 0 beyond its edges; neighbouring threads take neighbours in memory."""
        origin, extent = across
        # The left operand binds (batch, row, k), the right one (batch, k, column).
        outer, inner = region.variables[1:] if side == "left" else region.variables[:0:-1]
        element = level.inner({outer: outer, inner: inner})
        fast, slow = ("k", "n") if depth_first else ("n", "k")
        width = self.depth if depth_first else self.tile
        element.put(f"const int {slow} = e / {width}, {fast} = e % {width};")
        element.put(f"const long long {outer} = {origin} + n, {inner} = k0 + k;")
        type_ = cuda_type(self.contract.dtype)
        element.put(f"{type_} element = 0;")
        guarded = element.inner()
        assert region.value is not None
        self.scope(guarded, region.body, [region.value])
        guarded.put(f"element = {self.operand(region.value)};")
        edges = f"{outer} < {_enclosed(self.index(element, extent))}"
        edges += f" && {inner} < {_enclosed(self.index(element, self.contract.depth))}"
        element.close(f"if ({edges})", guarded)
        element.put(f"{side}[k][n] = element;")
        count = self.tile * self.depth
        level.close(f"for (int e = threadIdx.x; e < {count}; e += {self.block})", element)

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements that this thread has summed."""
        _, row, column = contract.epilogue.variables
        n = self.PER_THREAD
        rows = level.inner({row: row})
        rows.put(f"const long long {row} = row0 + row + m;")
        columns = rows.inner({column: column})
        columns.put(f"const long long {column} = column0 + column + n;")
        guarded = columns.inner()
        assert contract.product is not None
        name = self.names[id(contract.product)] = self.fresh("v")
        guarded.put(f"const {cuda_type(contract.dtype)} {name} = sums[m][n];")
        self.scope(guarded, contract.epilogue.body)
        edges = f"{row} < {_enclosed(self.index(columns, contract.rows))}"
        edges += f" && {column} < {_enclosed(self.index(columns, contract.columns))}"
        columns.close(f"if ({edges})", guarded)
        rows.put("#pragma unroll")
        rows.close(f"for (int n = 0; n < {n}; ++n)", columns)
        level.put("#pragma unroll")
        level.close(f"for (int m = 0; m < {n}; ++m)", rows)


# Side of the square tile of the product, and the length of a step along the contracted axis.
TILES = {"float32": (64, 16), "float64": (32, 16)}

_TILE_PRODUCT = """\
__syncthreads();
#pragma unroll
for (int k = 0; k < {depth}; ++k) {{
    {type} x[{n}], y[{n}];
    #pragma unroll
    for (int n = 0; n < {n}; ++n) {{
        x[n] = left[k][row + n];
        y[n] = right[k][column + n];
    }}
    #pragma unroll
    for (int m = 0; m < {n}; ++m) {{
        #pragma unroll
        for (int n = 0; n < {n}; ++n) sums[m][n] = {fused}(x[m], y[n], sums[m][n]);
    }}
}}
__syncthreads();"""

# Halves of a warp onto halves, then the warps in order: an order that depends on the block's size only.
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

_FLOOR = {
    "floor_divide": """\
__device__ inline long long floor_divide(long long a, long long b)
{
    const long long divisor = b == 0 ? 1 : b, rest = a % divisor;
    return a / divisor - (rest != 0 && (rest < 0) != (divisor < 0) ? 1 : 0);
}""",
    "floor_modulo": """\
__device__ inline long long floor_modulo(long long a, long long b)
{
    const long long divisor = b == 0 ? 1 : b, rest = a % divisor;
    return rest + (rest != 0 && (rest < 0) != (divisor < 0) ? divisor : 0);
}""",
}


# -- what is known of a kernel before it is written ----------------------------------------------------


def _live(kernel: Kernel) -> set[int]:
    """The ids of values and accumulators that a store or a check needs, directly or not."""
    live: set[int] = set()
    outer, *regions = scopes(kernel)
    order = [s for scope in (outer, *regions) for s in walk(scope)]
    nest = kernel.nest
    if isinstance(nest, Contract):
        live.update(id(region.value) for region in (nest.left, nest.right))

    def need(*values: Value | None) -> None:
        live.update(id(value) for value in values if value is not None)

    for s in reversed(order):
        if isinstance(s, Value) and id(s) in live:
            need(*s.args)
            if isinstance(s.immediate, Accumulator):
                live.add(id(s.immediate))
        elif isinstance(s, Store):
            need(s.value, s.mask, *s.args)
        elif isinstance(s, Check):
            need(s.condition, s.index)
        elif isinstance(s, Accumulate) and id(s.accumulator) in live:
            need(s.value, s.mask)
    return live


def _mentioned(kernel: Kernel) -> set[str]:
    """The names in the index expressions of a kernel's regions."""
    names: set[str] = set()
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, Store):
                names.update(*map(symbols_of, s.index))
            elif isinstance(s, Value) and isinstance(s.immediate, Address) or isinstance(s, Value) and s.opcode == "index":
                names |= s.immediate.symbols
    return names


def _ranges(kernel: Kernel) -> dict[str, tuple[Any, Any]]:
    """The ranges of loop and region variables; what data decides may be anything."""
    ranges: dict[str, tuple[Any, Any]] = {}
    nest = kernel.nest
    if isinstance(nest, Contract):
        sizes = {
            "left": (nest.batch, nest.rows, nest.depth),
            "right": (nest.batch, nest.depth, nest.columns),
            "epilogue": (nest.batch, nest.rows, nest.columns),
        }
        for side, extents in sizes.items():
            for name, extent in zip(getattr(nest, side).variables, extents, strict=True):
                ranges[name] = (0, extent - 1)
    most = 0
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, For):
                ranges[s.variable] = (s.start, s.stop - 1)
            elif isinstance(s, (Store, Value)):
                most = max(most, len(s.args))
    return ranges | {f"_arg{k}": (None, None) for k in range(most)}


def _merged_reductions(scope: Scope, live: set[int]) -> dict[Accumulator, Accumulator]:
    """Accumulators of inner loops whose results do nothing but go into one of an enclosing loop, by the same combiner.

    If the innermost loop is one of lanes, every thread can carry its part through all of them, and the block reduces once.
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
            if source in inner and source.combiner == outer.combiner and uses[id(mine[0].value)] == 1:
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


def _shape_of_launch(
    kernel: Kernel, nest: For, live: set[int], bounds: Bounds
) -> tuple[int, int]:
    """The size of a block, and how many blocks share a task."""
    loops = [s for s in walk(nest.body) if isinstance(s, For) and s.role == "vector"]
    lengths = [_longest(loop, bounds) for loop in loops]
    block = BLOCK_SIZES[-1]
    known = [length for length in lengths if length is not None]
    if len(known) == len(lengths):
        longest = max(known, default=1)
        block = next((size for size in BLOCK_SIZES if size >= longest), block)
    outside = [s for s in nest.body.statements if isinstance(s, (Store, Check, For))]
    alone = len(loops) == 1 and outside == loops
    carried = any(id(a) in live for loop in loops for a in loop.accumulators)
    scratch = any(buffer.space == "worker" for buffer in kernel.buffers)
    if not alone or carried or scratch or not known:
        return block, 1
    return block, max(1, known[0] // (block * LANES_PER_THREAD))


def _longest(loop: For, bounds: Bounds) -> int | None:
    """The most iterations that a loop can have, if that is known."""
    stops: tuple[Extent, ...] = (loop.stop,)
    if isinstance(loop.stop, Dim) and len(loop.stop.terms) == 1:
        monomial, coefficient = loop.stop.terms[0]
        atom, power = monomial[0]
        lone = len(monomial) == coefficient == power == 1
        if lone and isinstance(atom, Compound) and atom.operator == "min":
            stops = atom.arguments
    limits = [bounds.interval(stop - loop.start)[1] for stop in stops]
    return min((limit for limit in limits if limit is not None), default=None)


def _symbols_of_term(term: Any) -> set[str]:
    names: set[str] = set()
    for atom, _ in term[0]:
        names |= {atom} if isinstance(atom, str) else atom.symbols
    return names


def _extent_name(name: str, extents: Sequence[str]) -> str:
    """A parameter's name for an extent; C++ would not know every identifier of Python."""
    return f"size_{name}" if name.isascii() else f"size_{sorted(extents).index(name)}_"


def _enclosed(text: str) -> str:
    return text if re.fullmatch(r"\w+", text) else f"({text})"


__all__ = [
    "ArrayType",
    "CallStep",
    "CudaKernel",
    "CudaProgram",
    "KernelStep",
    "LoopStep",
    "Parameter",
    "Place",
    "Plan",
    "Size",
    "Status",
    "Stride",
    "cuda_source",
    "translation_unit",
]
