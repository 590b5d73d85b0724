"""What will run on a GPU, and what does it cost?  Launches, bytes beside the ideal, and of each
kernel the registers, occupancy and instructions.

All of it is modelled or read from the compiler's output, so it needs no GPU: bytes are those of
`codegen.traffic`, registers and shared memory are the assembler's, occupancy follows from them, and
instructions are counted in the disassembly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.codegen.cuda.occupancy import Occupancy, occupancy
from graphc.codegen.cuda.plan import CallStep, KernelStep, LoopStep, Step, SwitchStep
from graphc.codegen.cuda.program import CudaProgram
from graphc.dims import Dim, Extent, evaluate, product, substitute, symbols_of
from graphc.errors import CompileError
from graphc.options import Options
from graphc.request import prepare
from graphc.runtime.compile import emit_cuda
from graphc.runtime.cuda.branches import dependencies, longest_chain
from graphc.runtime.cuda.compile import Code, Usage, compiled
from graphc.runtime.cuda.disassembly import Mix, mixes, reason_missing
from graphc.runtime.cuda.frame import MOST_NODES, Undecided, imagined, launches
from graphc.runtime.engine import engine

if TYPE_CHECKING:
    from graphc.runtime.cuda.launch import LoadedProgram

CHECKED = "compiled by NVRTC, executed by a CPU emulator in the tests; not run on a GPU"


@dataclass(frozen=True)
class LaunchUse:
    """One launch of the plan: `bytes` are what it moves, by the model; `is_product` tells whether
    it is nothing but a matrix product.
    """

    grid: Extent
    block: int
    bytes: Extent
    is_product: bool


@dataclass(frozen=True)
class KernelUse:
    """A kernel: the ops that it computes, its launches, and what it takes of a multiprocessor.

    `usage`, `occupancy` and `mix` are None where nothing can say them.
    """

    name: str
    nodes: tuple[str, ...]
    lines: tuple[str, ...]
    launches: tuple[LaunchUse, ...]
    usage: Usage | None
    occupancy: Occupancy | None
    mix: Mix | None


@dataclass(frozen=True)
class CudaReport:
    """The story of a program on a GPU. `print` it, or read its fields.

    `ideal_bytes` are those of all inputs and outputs, each once.  `launches` and `bytes` are those
    of one call, `in_turn` the most launches of which each waits for the one before; None where
    extents are needed that are not given, `in_turn` also where data decide what is launched.
    `notes` say what is missing.
    """

    name: str
    arch: str
    kernels: tuple[KernelUse, ...]
    arena_bytes: Extent
    ideal_bytes: Extent
    launches: int | None
    bytes: int | None
    in_turn: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    calls: str = ""
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(
        program: CudaProgram,
        arch: str,
        code: Code | None,
        *,
        sizes: Mapping[str, int] | None = None,
        seconds: Mapping[str, float] | None = None,
        loaded: LoadedProgram | None = None,
        notes: Sequence[str] = (),
    ) -> CudaReport:
        """`code` is the program compiled for `arch`, if it could be; `sizes` are values of named
        extents.
        """
        is_cubin = code is not None and code.arch.startswith("sm_")
        found = mixes(code.image) if code is not None and is_cubin else {}
        said = list(notes)
        if is_cubin and reason_missing():
            said.append(f"no instruction counts: {reason_missing()}")
        usage = code.usage if code is not None else {}
        words = _Words(dict(sizes or {}), dict(program.dims))
        by_kernel = _launches(program.plan.steps)
        kernels = tuple(
            _kernel(kernel, by_kernel.get(kernel.name, []), arch, usage, found, words)
            for kernel in program.kernels
        )
        ideal: Extent = 0
        for array in (*program.plan.inputs, *program.plan.outputs):
            ideal = ideal + product(array.shape) * array.dtype.itemsize
        known = set(words.sizes) >= set(program.plan.sizes)
        totals = program.totals(words.sizes) if known else None
        return CudaReport(
            program.name,
            arch,
            kernels,
            words.said(program.arena_bytes),
            words.said(ideal),
            None if totals is None else totals.launches,
            None if totals is None else totals.bytes,
            None if totals is None else _in_turn(program, words.sizes, totals.launches),
            dict(seconds or {}),
            "" if loaded is None else loaded.device.name,
            "" if loaded is None else _calls(loaded),
            tuple(said),
        )

    @property
    def of_ideal(self) -> float | None:
        """Modelled bytes of one call over the ideal; None where either is not known."""
        if self.bytes is None or not isinstance(self.ideal_bytes, int) or not self.ideal_bytes:
            return None
        return self.bytes / self.ideal_bytes

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        where = f"{self.device}, {self.arch}" if self.device else f"{self.arch} ({CHECKED})"
        yield f"{self.name} for {where}"
        if self.seconds:
            yield "compile time, milliseconds:"
            for phase, seconds in self.seconds.items():
                yield f"  {phase:<16}{seconds * 1e3:9.1f}"
        if self.bytes is None:
            yield f"bytes: ideal {self.ideal_bytes}"
        else:
            ratio = "" if self.of_ideal is None else f", {self.of_ideal:.2f} of the ideal"
            several = self.in_turn is not None and self.in_turn != self.launches
            turns = f" ({self.in_turn} one after the other)" if several else ""
            yield (
                f"one call: {self.launches} launches{turns}, "
                f"{_megabytes(self.bytes)} modelled{ratio} "
                f"({self.ideal_bytes} bytes: inputs and outputs once)"
            )
        yield f"arena: {self.arena_bytes} bytes"
        if self.calls:
            yield self.calls
        for kernel in self.kernels:
            yield from _kernel_lines(kernel)
        for note in self.notes:
            yield f"note: {note}"


@dataclass(frozen=True)
class _Words:
    """Values of extents that are known, and the user's names of those that are not."""

    sizes: dict[str, int]
    dims: dict[str, str]

    def said(self, extent: Extent) -> Extent:
        if symbols_of(extent) <= set(self.sizes):
            return evaluate(extent, self.sizes)
        names = {a: Dim.symbol(b) for a, b in self.dims.items() if a not in self.sizes}
        return substitute(extent, names)


def shown(inputs: Any, outputs: Any, arch: str, sizes: Mapping[str, int]) -> str:
    """The launch plan and the report of a graph, for no GPU in particular; `sizes` are by the
    user's names of dimensions.
    """
    program = emit_cuda(prepare(inputs, outputs, Options(), (), "graph"))
    report = described(program, arch, sizes)
    return f"{program.launch_plan_text()}\n{report}"


def described(program: CudaProgram, arch: str, sizes: Mapping[str, int]) -> CudaReport:
    """The report of a program that need not be loaded, for no GPU in particular; `sizes` are by the
    user's names of dimensions.
    """
    if not re.fullmatch(r"sm_\d+[af]?", arch):
        raise ValueError(f"an architecture is written like sm_90, got {arch!r}")
    own = {user: name for name, user in program.dims.items()}
    unknown = sorted(set(sizes) - set(own))
    if unknown:
        raise ValueError(f"the graph has no dimension {unknown[0]!r}; it has {sorted(own)}")
    code, notes = None, []
    try:
        code = compiled(program.code, arch, engine().cache)
    except (CompileError, ImportError) as error:
        notes.append(f"not compiled: {str(error).splitlines()[0]}")
    given = {own[user]: value for user, value in sizes.items()}
    return CudaReport.of(program, arch, code, sizes=given, notes=notes)


def _kernel(
    kernel: Any,
    launches: Sequence[KernelStep],
    arch: str,
    usage: Mapping[str, Usage],
    found: Mapping[str, Mix],
    words: _Words,
) -> KernelUse:
    used = usage.get(kernel.name)
    held = None
    number = arch.rpartition("_")[2]
    if used is not None and number.isdigit():
        held = occupancy(int(number), kernel.block, used.registers, used.shared_bytes)
    nodes = tuple(dict.fromkeys(node for step in launches for node in step.nodes))
    shown = tuple(
        LaunchUse(words.said(s.grid), s.block, words.said(s.bytes), s.product is not None)
        for s in launches
    )
    return KernelUse(
        kernel.name, nodes, tuple(kernel.comments), shown, used, held, found.get(kernel.name)
    )


def _kernel_lines(kernel: KernelUse) -> Iterator[str]:
    yield f"  {kernel.name}: {', '.join(kernel.nodes)}"
    yield from (f"      {line}" for line in kernel.lines)
    for launch in kernel.launches:
        done = ", a plain product: cuBLAS can do it" if launch.is_product else ""
        yield f"      <<<{launch.grid}, {launch.block}>>> moves {launch.bytes} bytes{done}"
    if kernel.usage is not None:
        used = kernel.usage
        spilled = used.spill_stores + used.spill_loads
        yield (
            f"      {used.registers} registers, {used.shared_bytes} bytes shared, "
            f"{used.stack} bytes stack, {spilled} bytes spilled"
        )
    if kernel.occupancy is not None:
        yield f"      occupancy {kernel.occupancy}"
    if kernel.mix is not None:
        yield f"      instructions {kernel.mix}"


def _launches(steps: Sequence[Step]) -> dict[str, list[KernelStep]]:
    """The launches of a plan by kernel, those of a procedure once."""
    found: dict[str, list[KernelStep]] = {}
    waiting, seen = list(reversed(steps)), set[int]()
    while waiting:
        step = waiting.pop()
        if isinstance(step, KernelStep):
            found.setdefault(step.kernel, []).append(step)
            continue
        if isinstance(step, CallStep):
            inner: Sequence[Step] = () if id(step.plan) in seen else step.plan.steps
            seen.add(id(step.plan))
        elif isinstance(step, SwitchStep):
            inner = [each for branch in step.branches for each in branch]
        else:
            inner = step.steps if isinstance(step, LoopStep) else (*step.test, *step.steps)
        waiting += reversed(inner)
    return found


def _in_turn(program: CudaProgram, sizes: Mapping[str, int], count: int) -> int | None:
    """The launches on the longest way through a plan; None where data decide, or of very many."""
    if count > MOST_NODES:
        return None
    try:
        frame = imagined(program.plan, len(program.constants), sizes)
        found = list(launches(program.plan.steps, frame))
    except Undecided:
        return None
    return longest_chain(dependencies([*inner.spans(step)] for step, inner in found))


def _calls(loaded: LoadedProgram) -> str:
    counts = loaded.counts
    text = (
        f"calls so far: {counts.calls}, of which {counts.graph_runs} as one of {counts.graphs} "
        f"CUDA graphs; {counts.launches} single launches; {counts.library_calls} products by cuBLAS"
    )
    if counts.branches > 1:
        text += (
            f"; the last graph has {counts.graph_launches} launches in {counts.branches} branches, "
            f"{counts.longest_chain} one after the other"
        )
    return f"{text}; no graphs: {loaded.graph_refusal}" if loaded.graph_refusal else text


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1000 else f"{count} bytes"


__all__ = ["CudaReport", "KernelUse", "LaunchUse", "described", "shown"]
