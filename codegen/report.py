"""What did compiling do, and what will run? Phases with seconds, kernels with the nodes and lines
that they compute, reasons.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.codegen.program import Launch, Program
from graphc.dims import Extent
from graphc.origin import location

if TYPE_CHECKING:
    from graphc.rewrite.size import Growth


@dataclass(frozen=True)
class KernelReport:
    """One launch: its kernel, what it computes for whom, and an estimate of its cost.

    `bytes_moved` counts every operand in memory once, in bytes; `operations` is an estimate in
    element operations.
    """

    title: str
    name: str
    tasks: Extent
    bytes_moved: Extent
    operations: Extent
    nodes: tuple[str, ...]
    lines: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Report:
    """The story of a Function. `print` it, or read its fields."""

    seconds: Mapping[str, float]
    kernels: tuple[KernelReport, ...]
    arena_bytes: Extent
    firings: int
    plan: str = ""  # where it came from, and why not from the cache
    measure: Callable[[], Growth | None] = field(default=lambda: None, repr=False, compare=False)

    @staticmethod
    def of(
        program: Program,
        seconds: Mapping[str, float],
        firings: Sequence[Any],
        plan: str = "",
        measure: Callable[[], Growth | None] = lambda: None,
    ) -> Report:
        times = {
            launch: blocks.count for blocks in program.blocks() for launch in blocks.launches
        }
        kernels = tuple(_kernel(launch, times.get(launch, 1)) for launch in program.launches())
        return Report(dict(seconds), kernels, program.main.arena, len(firings), plan, measure)

    @functools.cached_property
    def growth(self) -> Growth | None:
        """How much larger derivatives made the graph; None if there are none in it. Found when it
        is asked for, by rewriting once more.
        """
        return self.measure()

    def __str__(self) -> str:
        lines = ["compile time, milliseconds:"]
        lines += [f"  {phase:<16}{seconds * 1e3:9.1f}" for phase, seconds in self.seconds.items()]
        lines.append(f"  {'total':<16}{sum(self.seconds.values()) * 1e3:9.1f}")
        if self.plan:
            lines.append(f"plan: {self.plan}")
        lines.append(f"rewrites fired: {self.firings}; arena: {self.arena_bytes} bytes")
        if self.growth is not None:
            lines.append(str(self.growth))
        lines.append(f"kernels: {len(self.kernels)}")
        for kernel in self.kernels:
            lines.append(
                f"  {kernel.title}: {kernel.tasks} tasks, {kernel.bytes_moved} bytes, "
                f"{kernel.operations} operations"
            )
            lines += [f"      {text}" for text in kernel.lines]
            if kernel.reason:
                lines.append(f"      why: {kernel.reason}")
        return "\n".join(lines)


def _kernel(launch: Launch, times: int) -> KernelReport:
    """The report of a launch that runs so many times, each for a block of the work."""
    moved: Extent = 0
    for operand in {id(o.storage): o for o in launch.operands}.values():
        if operand.storage.kind != "held":
            moved = moved + operand.storage.bytes
    nodes = tuple(node.op.name for node in launch.nodes)
    lines: dict[str, list[str]] = {}
    for node in launch.nodes:
        lines.setdefault(location(node.origin) or "(no origin)", []).append(node.op.name)
    shown = tuple(f"{where}  {' '.join(names)}" for where, names in lines.items())
    return KernelReport(
        launch.kernel.title,
        launch.kernel.name,
        launch.tasks * times,
        moved,
        launch.work * times,
        nodes,
        shown,
        launch.reason,
    )
