"""What do the steps of a plan refer to in one run?  Addresses, extents, and so the memory that each
launch touches.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.codegen.cuda.plan import (
    Argument,
    CallStep,
    KernelStep,
    LoopStep,
    Place,
    Plan,
    Size,
    Status,
    Step,
    Stride,
)
from graphc.dims import evaluate

STATUS_BYTES = 24
MOST_NODES = 4096  # launches that a CUDA graph may hold
# The first byte, the one after the last, and whether it is written.
Span = tuple[int, int, bool]


@dataclass(frozen=True)
class Array:
    """Where an input or output lies, and its strides in bytes if it has its own."""

    address: int
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Frame:
    """What the steps of a plan refer to: addresses, the values of extents and loop variables."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    constants: tuple[int, ...]
    arena: int
    status: int
    sizes: Mapping[str, int]

    def key(self) -> tuple[Any, ...]:
        """Runs with equal keys are the same launches with the same arguments."""
        sizes = tuple(sorted(self.sizes.items()))
        return self.inputs, self.outputs, self.constants, self.arena, self.status, sizes

    def address(self, place: Place) -> int:
        offset = evaluate(place.offset, self.sizes)
        if place.space == "arena":
            return self.arena + offset
        if place.space == "constant":
            return self.constants[place.index] + offset
        arrays = self.inputs if place.space == "input" else self.outputs
        return arrays[place.index].address + offset

    def word(self, argument: Argument) -> int:
        """An argument of a launch."""
        if isinstance(argument, Place):
            return self.address(argument)
        if isinstance(argument, Size):
            return evaluate(argument.extent, self.sizes)
        if isinstance(argument, Stride):
            return self.inputs[argument.index].strides[argument.axis]
        assert isinstance(argument, Status)
        return self.status

    def spans(self, step: KernelStep) -> Iterator[Span]:
        """The memory that a launch touches; those that may record a failing check write the
        record, so the first in the order of the plan is the one that is told.
        """
        for touched in step.touches:
            start = self.address(touched.place)
            size = evaluate(touched.bytes, self.sizes)
            if size > 0:
                yield start, start + size, touched.writes
        if step.can_fail:
            yield self.status, self.status + STATUS_BYTES, True

    def within(self, step: CallStep) -> Frame:
        """The frame of the plan that a step calls."""
        places = tuple(Array(self.address(place)) for place in step.operands)
        count = len(step.plan.inputs)
        return replace(
            self,
            inputs=places[:count],
            outputs=places[count:],
            arena=self.address(step.arena),
            sizes={name: evaluate(extent, self.sizes) for name, extent in step.sizes.items()},
        )


def imagined(plan: Plan, constants: int, sizes: Mapping[str, int]) -> Frame:
    """A frame in which all arrays are apart, for a look at a plan that does not run."""
    apart = itertools.count(_APART, _APART)
    inputs, outputs = (
        tuple(Array(next(apart)) for _ in arrays) for arrays in (plan.inputs, plan.outputs)
    )
    places = tuple(next(apart) for _ in range(constants))
    return Frame(inputs, outputs, places, next(apart), next(apart), sizes)


_APART = 1 << 48


def rounds(step: LoopStep, frame: Frame) -> Iterator[Frame]:
    """The frame of each round of a loop."""
    numbers = range(evaluate(step.length, frame.sizes))
    for number in reversed(numbers) if step.reverse else numbers:
        yield replace(frame, sizes={**frame.sizes, step.variable: number})


class Undecided(Exception):
    """What is launched next is known only once the launches before have run."""


def launches(steps: Sequence[Step], frame: Frame) -> Iterator[tuple[KernelStep, Frame]]:
    """Every launch of a plan, in order; raises Undecided where data decide which there are."""
    for step in steps:
        if isinstance(step, KernelStep):
            if evaluate(step.grid, frame.sizes):
                yield step, frame
        elif isinstance(step, LoopStep):
            for inner in rounds(step, frame):
                yield from launches(step.steps, inner)
        elif isinstance(step, CallStep):
            yield from launches(step.plan.steps, frame.within(step))
        else:
            raise Undecided("data decide what is launched next")


__all__ = ["MOST_NODES", "STATUS_BYTES", "Array", "Frame", "Span", "Undecided", "imagined"]
__all__ += ["launches", "rounds"]
