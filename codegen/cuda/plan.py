"""What must a host launch, in which order and with which arguments?  A plan, as plain data.

Whoever runs it needs nothing else: the runtime, a launcher in C++, or somebody who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.codegen.cuda.product import Product
from graphc.dims import Extent, evaluate


@dataclass(frozen=True)
class Place:
    """An address: `offset` bytes into an array, number `index` of its space.

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
    """The address of the record of the first failing check: its code, node and index.

    Three unsigned 64-bit words, all 0 before the call.
    """

    def __str__(self) -> str:
        return "status"


Argument = Place | Stride | Size | Status


@dataclass(frozen=True)
class Touched:
    """Memory that a launch reads, or also writes: so many bytes from a place on."""

    place: Place
    bytes: Extent
    writes: bool


@dataclass(frozen=True)
class KernelStep:
    """Launch a kernel on `grid` blocks in a row, of `block` threads; 0 blocks are passed over.

    `can_fail` tells whether it may write the status record; `nodes` are the ops that it computes;
    `bytes` is what it moves, counted as `traffic` says; `product` is set where it is nothing but a
    matrix product, which a library may do in its place. `touches` is all memory by which it may
    depend on another launch, but for the status record.
    """

    kernel: str
    grid: Extent
    block: int
    arguments: tuple[Argument, ...]
    can_fail: bool
    nodes: tuple[str, ...] = ()
    bytes: Extent = 0
    product: Product | None = None
    touches: tuple[Touched, ...] = ()


@dataclass(frozen=True)
class LoopStep:
    """Do the steps with `variable` from 0 to `length` - 1, or the other way round."""

    variable: str
    length: Extent
    reverse: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class WhileStep:
    """Do the steps of the test; while the byte at `condition` is not 0 do the others, and so on."""

    test: tuple[Step, ...]
    condition: Place
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class SwitchStep:
    """Do one branch: that which the int64 at `index` numbers, the first or last if it lies outside.
    """

    index: Place
    branches: tuple[tuple[Step, ...], ...]


@dataclass(frozen=True)
class CallStep:
    """Do a plan on `operands` (inputs, then outputs), with `sizes`, in part of the arena."""

    plan: Plan
    operands: tuple[Place, ...]
    sizes: dict[str, Extent]
    arena: Place


Step = KernelStep | LoopStep | WhileStep | SwitchStep | CallStep


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


@dataclass(frozen=True)
class Totals:
    """Launches of one call, and the bytes that they move.

    A loop whose end data decide counts one round, a choice its dearest branch.
    """

    launches: int
    bytes: int

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.launches + other.launches, self.bytes + other.bytes)


def totals(steps: Sequence[Step], sizes: dict[str, int]) -> Totals:
    """Launches and bytes of some steps, for the values of the extents."""
    found = Totals(0, 0)
    for step in steps:
        if isinstance(step, KernelStep):
            if evaluate(step.grid, sizes):
                found += Totals(1, evaluate(step.bytes, sizes))
        elif isinstance(step, LoopStep):
            one = totals(step.steps, {**sizes, step.variable: 0})
            length = evaluate(step.length, sizes)
            found += Totals(one.launches * length, one.bytes * length)
        elif isinstance(step, WhileStep):
            found += totals((*step.test, *step.steps), sizes)
        elif isinstance(step, SwitchStep):
            branches = [totals(branch, sizes) for branch in step.branches]
            found += max(branches, key=lambda each: each.bytes)
        else:
            inner = {name: evaluate(extent, sizes) for name, extent in step.sizes.items()}
            found += totals(step.plan.steps, inner)
    return found


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan in text, and after it those that it calls, each once."""
    shown: set[int] = set()
    waiting = [plan]
    while waiting:
        current = waiting.pop(0)
        if id(current) in shown:
            continue
        shown.add(id(current))
        arrays = [*(f"input {i}" for i in range(len(current.inputs)))]
        arrays += [f"output {i}" for i in range(len(current.outputs))]
        types = [
            f"{a.dtype.name}[{', '.join(map(str, a.shape))}]"
            for a in (*current.inputs, *current.outputs)
        ]
        listed = ", ".join(f"{array}: {type_}" for array, type_ in zip(arrays, types, strict=True))
        yield f"{current.name}({listed}), arena of {current.arena_bytes} bytes:"
        yield from _step_lines(current.steps, "    ", waiting)


def _step_lines(steps: Sequence[Step], indent: str, waiting: list[Plan]) -> Iterator[str]:
    """One line a step, what it repeats or chooses from beneath it; called plans go to `waiting`."""
    inner = indent + "    "
    for step in steps:
        if isinstance(step, KernelStep):
            arguments = ", ".join(map(str, step.arguments))
            launch = f"{step.kernel}<<<{step.grid}, {step.block}>>>({arguments})"
            yield f"{indent}{launch}  # {step.bytes} bytes"
        elif isinstance(step, LoopStep):
            order = " reversed" if step.reverse else ""
            yield f"{indent}for {step.variable} in range({step.length}){order}:"
            yield from _step_lines(step.steps, inner, waiting)
        elif isinstance(step, WhileStep):
            yield f"{indent}repeat:"
            yield from _step_lines(step.test, inner, waiting)
            yield f"{inner}stop unless {step.condition}"
            yield from _step_lines(step.steps, inner, waiting)
        elif isinstance(step, SwitchStep):
            for number, branch in enumerate(step.branches):
                yield f"{indent}if {step.index} is {number}:"
                yield from _step_lines(branch, inner, waiting)
        else:
            operands = ", ".join(map(str, step.operands))
            sizes = "".join(f", {name} = {extent}" for name, extent in step.sizes.items())
            yield f"{indent}call {step.plan.name}({operands}; {step.arena}{sizes})"
            waiting.append(step.plan)


__all__ = [
    "Argument",
    "ArrayType",
    "CallStep",
    "KernelStep",
    "LoopStep",
    "Place",
    "Plan",
    "Size",
    "Status",
    "Step",
    "Stride",
    "SwitchStep",
    "Totals",
    "Touched",
    "WhileStep",
    "plan_lines",
    "totals",
]
