"""How is a program written as CUDA C++?  One translation unit, and a plan of launches.

Each distinct kernel is one __global__ function (`kernel`, `contract`), named after what
it computes and a digest of its text. No header is included, every fused multiply-add is spelled
out, and the text is to be compiled with -fmad=false. The plan says what to launch, in which order
and with which arguments, as plain data: whoever runs it needs nothing else, and must not let an
output overlap with an input.

The tests compile the text with NVRTC for sm_80, sm_90 and sm_100, and execute it by a CPU emulator.
It has not run on a GPU.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphc.codegen.clike import comment, memory_groups, remarks
from graphc.codegen.cuda.chain import ChainPrinter, fits
from graphc.codegen.cuda.columns import ColumnPrinter, reduces_columns
from graphc.codegen.cuda.contract import ContractPrinter
from graphc.codegen.cuda.kernel import CudaKernel, KernelPrinter
from graphc.codegen.cuda.lanes import SHARED_SCRATCH, divides
from graphc.codegen.cuda.launcher import launcher
from graphc.codegen.cuda.loop import LoopPrinter, launches_of, runs_on_device
from graphc.codegen.cuda.plan import (
    Argument,
    ArrayType,
    CallStep,
    KernelStep,
    LoopStep,
    Place,
    Plan,
    Size,
    Status,
    Step,
    Stride,
    SwitchStep,
    Totals,
    Touched,
    WhileStep,
    plan_lines,
    totals,
)
from graphc.codegen.cuda.product import Product, product_of
from graphc.codegen.cuda.tensor import TensorPrinter, uses_matrix_units
from graphc.codegen.cuda.together import PART_BLOCK, Part, joined_kernel
from graphc.codegen.cuda.touch import touches
from graphc.codegen.loops import Buffer, Contract, Plain
from graphc.codegen.lower import lower
from graphc.codegen.passes.chains import chain_products
from graphc.codegen.passes.deep import with_more_blocks
from graphc.codegen.passes.masks import masks_of_results
from graphc.codegen.passes.shallow import shallow_written_out
from graphc.codegen.passes.together import put_together
from graphc.codegen.program import (
    Blocks,
    Call,
    Chain,
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    Switch,
    Together,
    While,
    bodies,
)
from graphc.codegen.tactics import GPU
from graphc.codegen.traffic import Moved, moved, total
from graphc.dims import Dim, Extent, product
from graphc.graph import Graph

# Bytes at whose multiples every input, output and constant, and the arena, begin.
ALIGNED = 16
# Workers to plan the memory for: each block of a kernel that needs scratch takes a copy of it.
SCRATCH_BLOCKS = 512


# -- what the host gets ----------------------------------------------------------------------------


@dataclass(eq=False)
class CudaProgram:
    """A program as CUDA C++: kernels, the plan of the main procedure, the arrays of its constants.

    `checks` are the graph nodes that status records number, `input_names` what the user calls the
    inputs, `dims` what the user calls the named extents; `describe` makes the report.
    """

    name: str
    kernels: tuple[CudaKernel, ...]
    plan: Plan
    constants: tuple[Any, ...]
    checks: tuple[Any, ...]
    input_names: tuple[str, ...] = ()
    dims: Mapping[str, str] = field(default_factory=dict)
    describe: Callable[[CudaProgram, str, Mapping[str, int]], Any] | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def arena_bytes(self) -> Extent:
        """Bytes of the arena of one call."""
        return self.plan.arena_bytes

    @property
    def text(self) -> str:
        """The translation unit, with where each kernel comes from in comments."""
        return translation_unit(self.kernels, self.name, self.dims)

    @property
    def code(self) -> str:
        """The translation unit without comments: a key for caches.

        It is the same wherever a graph was written.
        """
        return translation_unit(self.kernels)

    def host(self) -> tuple[str, str]:
        """The texts of a `.cu` file with the kernels and a function that launches them, and of the
        header that declares it, for a program in C++.
        """
        given = self.input_names or tuple(f"input{i}" for i in range(len(self.plan.inputs)))
        return launcher(self, given)

    def save(self, folder: Any = ".", host: bool = False) -> list[pathlib.Path]:
        """Write `NAME.cu`, and with `host` a launcher in it and `NAME.h`; returns the paths."""
        texts = dict(zip(("cu", "h"), self.host() if host else (self.text,), strict=False))
        paths = []
        for end, text in texts.items():
            paths.append(pathlib.Path(folder) / f"{self.name}.{end}")
            paths[-1].write_text(text, encoding="utf-8")
        return paths

    def report(self, arch: str = "sm_90", **sizes: int) -> Any:
        """Launches, modelled bytes beside the ideal, and of each kernel registers, occupancy and
        instructions on `arch`, for extents by the user's names. It needs no GPU.
        """
        if self.describe is None:
            raise ValueError("only what gx.emit made has a report")
        return self.describe(self, arch, sizes)

    def totals(self, sizes: Mapping[str, int] | None = None) -> Totals:
        """Launches and modelled bytes of one call, for the named extents `sizes`."""
        return totals(self.plan.steps, dict(sizes or {}))

    def launch_plan_text(self) -> str:
        """The plan, one step a line, with the bytes that a launch moves; each called procedure
        once.
        """
        return "\n".join(plan_lines(self.plan)) + "\n"


def translation_unit(
    kernels: Iterable[CudaKernel], name: str | None = None, dims: Mapping[str, str] | None = None
) -> str:
    """The text of kernels, of one program or of several; comments only if it is given a name.
    `dims` are the user's names of extents.
    """
    helpers: dict[str, str] = {}
    functions: dict[str, str] = {}
    for kernel in kernels:
        helpers |= kernel.helpers
        remarks = kernel.comments if name is not None else []
        functions.setdefault(
            kernel.name, "\n".join([*(f"// {line}" for line in remarks), kernel.text])
        )
    head = [] if name is None else [f"// {comment(name)}: compile with -fmad=false."]
    if head and dims:
        listed = ", ".join(f"{own} = {comment(user)}" for own, user in dims.items())
        head.append(f"// Extents: {listed}.")
    return "\n\n".join([*head, *helpers.values(), *functions.values()]) + "\n"


def cuda_source(
    program: Program,
    name: str = "graph",
    workers: int = 1,
    input_names: Sequence[str] = (),
    dims: Mapping[str, str] | None = None,
    tensor_cores: bool = False,
) -> CudaProgram:
    """The CUDA C++ of a program, and the plan to run it.

    `workers` is what the memory was planned for: kernels that need scratch run as many blocks at
    most. A program for CUDA is `lower_for_cuda(graph, workers)`. `input_names` and `dims` are the
    user's names of inputs and of extents. With `tensor_cores` the matrix units do large products
    (`tensor`).
    """
    planner = _Planner(workers, _formal_alignments(program), input_names)
    planner.tensor_cores = tensor_cores
    plans = {id(p): planner.procedure(p) for p in program.procedures}
    planner.in_main = True
    plans[id(program.main)] = planner.procedure(program.main)
    kernels = tuple(planner.kernels.values())
    constants = tuple(planner.constants)
    main, checks = plans[id(program.main)], tuple(program.checks)
    names = tuple(input_names)
    return CudaProgram(name, kernels, main, constants, checks, names, dict(dims or {}))


def lower_for_cuda(
    graph: Graph,
    workers: int = SCRATCH_BLOCKS,
    strided: Sequence[bool] = (),
    fast: bool = False,
) -> Program:
    """The program of a closed, rewritten, expanded graph, as a GPU should run it."""
    graph = shallow_written_out(masks_of_results(with_more_blocks(graph)))
    return lower(
        graph,
        workers,
        strided,
        product_scratch=product_scratch,
        arrange=_arrange,
        tactics=replace(GPU, fast=fast),
    )


def product_scratch(contract: Contract, workers: int) -> Extent:
    """Bytes of scratch that a contraction needs: none, sums stay in registers."""
    return 0


def _arrange(program: Program) -> None:
    """What goes from launch to launch in registers, and which of them run side by side."""
    chain_products(program, fits)
    put_together(program, _may_join)


def _may_join(launch: Launch | Chain) -> bool:
    """Whether a launch may be a part of another: no block of it needs global scratch."""
    if isinstance(launch, Chain):
        return True
    sizes = [
        product(buffer.shape) * buffer.item_bytes
        for buffer in launch.kernel.buffers
        if buffer.space == "worker"
    ]
    return all(isinstance(size, int) for size in sizes) and sum(sizes) <= SHARED_SCRATCH  # type: ignore[operator]


def _formal_alignments(program: Program) -> dict[int, int]:
    """What the addresses of the inputs and outputs of each procedure are multiples of: those of
    the main one by contract, those of others as their callers give them.
    """
    found = {id(s): ALIGNED for s in (*program.main.inputs, *program.main.outputs)}
    for procedure in (program.main, *reversed(program.procedures)):
        waiting = list(procedure.body)
        while waiting:
            statement = waiting.pop()
            for body in bodies(statement):
                waiting.extend(body)
            if isinstance(statement, Call):
                callee = statement.procedure
                formal = (*callee.inputs, *callee.outputs)
                for storage, operand in zip(formal, statement.operands, strict=True):
                    given = _alignment(operand, found)
                    found[id(storage)] = min(found.get(id(storage), ALIGNED), given)
    return found


def _alignment(operand: Operand, formal: Mapping[int, int]) -> int:
    """The largest power of two, up to `ALIGNED`, that divides the address of an operand."""
    storage = operand.storage
    size = storage.dtype.itemsize
    known = formal.get(id(storage), size) if storage.kind in ("input", "output") else ALIGNED
    if storage.strided:
        return size
    while known > size and not divides(operand.offset * size, known):
        known //= 2
    return known


# -- the plan --------------------------------------------------------------------------------------


class _Planner:
    """Prints each kernel once and says how to launch it."""

    def __init__(
        self, workers: int, formal: Mapping[int, int], input_names: Sequence[str]
    ) -> None:
        """`formal` says what the addresses of storages that callers give are multiples of."""
        self.workers = workers
        self.input_names = input_names
        self.in_main = False
        self.tensor_cores = False
        self.on_chip: set[Buffer] = set()  # scratch of the parts of a launch that is being made
        self.formal = formal
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
        if isinstance(statement, Chain):
            return self.together(Together([statement]), inputs)
        if isinstance(statement, Together):
            return self.together(statement, inputs)
        if runs_on_device(statement):
            made = self.device_loop(statement, inputs)
            if made is not None:
                return made
        if isinstance(statement, Loop):
            steps = self.steps(statement.body, inputs)
            return LoopStep(statement.variable, statement.length, statement.reverse, steps)
        if isinstance(statement, While):
            test, steps = (self.steps(body, inputs) for body in (statement.test, statement.body))
            return WhileStep(test, self.place(statement.condition, inputs), steps)
        if isinstance(statement, Switch):
            branches = tuple(self.steps(branch, inputs) for branch in statement.branches)
            return SwitchStep(self.place(statement.index, inputs), branches)
        if isinstance(statement, Blocks):
            raise NotImplementedError("launches run block by block on CPUs alone")
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
        made = self.printer(launch)
        printed = made.kernel_function()
        known = self.known(printed, [launch])
        operands = dict(zip(map(id, launch.kernel.buffers), launch.operands, strict=True))
        arguments = tuple(self.argument(word, operands, made.tasks, inputs) for word in made.words)
        self.explain(known, arguments)
        return KernelStep(
            printed.name,
            made.grid(self.workers),
            printed.block,
            arguments,
            known.can_fail,
            _names_of([launch]),
            total(self.moved(launch, made)),
            self.product(launch, inputs),
            self.touched(launch, inputs, made.on_chip),
        )

    def touched(
        self, statement: Statement, inputs: int, on_chip: Iterable[Buffer]
    ) -> tuple[Touched, ...]:
        """What a statement that is one launch touches, each place once, but for scratch that is on
        the chip.
        """
        found: dict[tuple[Place, Extent], bool] = {}
        for operand, size, writes in touches(statement, self.workers, frozenset(on_chip)):
            key = self.place(operand, inputs), size
            found[key] = found.get(key, False) or writes
        return tuple(Touched(place, size, writes) for (place, size), writes in found.items())

    def product(self, launch: Launch, inputs: int) -> Product | None:
        """The matrix product that a launch is, if it is nothing else."""
        operands = dict(zip(map(id, launch.kernel.buffers), launch.operands, strict=True))

        def place(plain: Plain) -> tuple[Place, tuple[Extent, Extent, Extent]]:
            operand = operands[id(plain.buffer)]
            there = Operand(operand.storage, operand.offset + plain.start)
            return self.place(there, inputs), plain.steps

        return product_of(launch.kernel, place)

    def printer(self, launch: Launch, block: int | None = None) -> KernelPrinter:
        groups = memory_groups(launch, self.workers)
        alignments = [_alignment(operand, self.formal) for operand in launch.operands]
        kind: type[KernelPrinter] = KernelPrinter
        if isinstance(launch.kernel.nest, Contract):
            units = self.tensor_cores and uses_matrix_units(launch.kernel.nest)
            kind = TensorPrinter if units else ContractPrinter
        made = kind(launch.kernel, groups, alignments, block)
        if kind is KernelPrinter and reduces_columns(made):
            return ColumnPrinter(launch.kernel, groups, alignments, block)
        return made

    def known(self, printed: CudaKernel, launches: Sequence[Launch]) -> CudaKernel:
        """The kernel of that text, with where it comes from."""
        known = self.kernels.setdefault(printed.name, printed)
        for launch in launches:
            for line in remarks(launch):
                if line not in known.comments:
                    known.comments.append(line)
        return known

    def explain(self, kernel: CudaKernel, arguments: Sequence[Argument]) -> None:
        """Say in a comment what the arrays of a kernel are where it is first launched."""
        if any(line.startswith("arrays: ") for line in kernel.comments):
            return
        pairs = zip(kernel.parameters, arguments, strict=True)
        named = [f"{p.name} = {self.array_name(a)}" for p, a in pairs if isinstance(a, Place)]
        kernel.comments.append(comment(f"arrays: {', '.join(named)}"))

    def array_name(self, place: Place) -> str:
        if place.space == "input" and self.in_main and place.index < len(self.input_names):
            return self.input_names[place.index]
        return "scratch" if place.space == "arena" else f"{place.space} {place.index}"

    def moved(self, launch: Launch, made: KernelPrinter) -> list[Moved]:
        by_buffer = dict(zip(launch.kernel.buffers, launch.operands, strict=True))
        return moved(launch.kernel, by_buffer, launch.tasks, made.on_chip)

    def together(self, statement: Together, inputs: int) -> KernelStep:
        """One launch of which each part has some of the blocks; equal parts have one text."""
        parts, bytes_ = [], []
        self.on_chip = set()
        for launch in statement.launches:
            part, moved_bytes = self.part(launch, inputs)
            parts.append(part)
            bytes_ += moved_bytes
        launches = [
            each
            for launch in statement.launches
            for each in (launch.launches if isinstance(launch, Chain) else [launch])
        ]
        printed, ordered, grid = joined_kernel(parts)
        known = self.known(printed, launches)
        self.explain(known, ordered)
        return KernelStep(
            printed.name,
            grid,
            printed.block,
            tuple(ordered),
            known.can_fail,
            _names_of(launches),
            total(bytes_),
            touches=self.touched(statement, inputs, self.on_chip),
        )

    def device_loop(self, loop: Loop | While, inputs: int) -> KernelStep | None:
        """A loop as one launch of one block; None if it cannot be."""
        bytes_: list[Moved] = []
        self.on_chip = set()

        def part(launch: Launch | Chain, lengths: Mapping[str, Extent]) -> Part:
            made, moved_bytes = self.part(launch, inputs, lone=True)
            bytes_.extend(each.repeated(lengths) for each in moved_bytes)
            return made

        printer = LoopPrinter(part, lambda o: self.place(o, inputs), Size, Status())
        made = printer.kernel(loop)
        if made is None:
            return None
        printed, arguments = made
        launches = launches_of(loop) or []
        known = self.known(printed, launches)
        self.explain(known, arguments)
        return KernelStep(
            printed.name,
            1,
            printed.block,
            tuple(arguments),
            known.can_fail,
            _names_of(launches),
            total(bytes_),
            touches=self.touched(loop, inputs, self.on_chip),
        )

    def part(
        self, launch: Launch | Chain, inputs: int, lone: bool = False
    ) -> tuple[Part, list[Moved]]:
        """A launch as a function that some blocks of another run, or one alone, and what it moves.
        """
        if isinstance(launch, Chain):
            return self.chain(launch, inputs)
        made = self.printer(launch, PART_BLOCK)
        made.lone = lone
        function = made.part_function()
        self.on_chip |= made.on_chip
        operands = dict(zip(map(id, launch.kernel.buffers), launch.operands, strict=True))
        arguments = tuple(self.argument(w, operands, made.tasks, inputs) for w in made.words)
        return Part(function, arguments, made.grid(self.workers)), self.moved(launch, made)

    def chain(self, chain: Chain, inputs: int) -> tuple[Part, list[Moved]]:
        def place(launch: Launch) -> tuple[list[int], list[int]]:
            alignments = [_alignment(operand, self.formal) for operand in launch.operands]
            return memory_groups(launch, self.workers), alignments

        def resolve(launch: Launch, made: KernelPrinter, word: tuple[str, Any]) -> Argument:
            operands = dict(zip(map(id, launch.kernel.buffers), launch.operands, strict=True))
            return self.argument(word, operands, made.tasks, inputs)

        made = ChainPrinter(chain, place, resolve)
        bytes_: list[Moved] = []
        for launch, on_chip in zip(chain.launches, made.on_chip(), strict=True):
            self.on_chip |= on_chip
            by_buffer = dict(zip(launch.kernel.buffers, launch.operands, strict=True))
            bytes_ += moved(launch.kernel, by_buffer, launch.tasks, on_chip)
        return made.part(), bytes_

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


def _names_of(launches: Sequence[Launch]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.op.name for launch in launches for node in launch.nodes))


__all__ = [
    "ALIGNED",
    "SCRATCH_BLOCKS",
    "CudaProgram",
    "cuda_source",
    "lower_for_cuda",
    "product_scratch",
    "translation_unit",
]
