"""What lies in memory, and who touched it?  Whoever accesses it must not depend on an order.

A `Ledger` notes the iterations that read and wrote each element of the memory that a kernel writes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.codegen.interpret.context import Context
from graphc.codegen.interpret.faults import InterpreterError
from graphc.codegen.loops import Buffer

# Bytes that fill memory before anything is written to it: NaN as a float, -1 as an integer.
POISON = 0xFF

NOBODY, EVERYBODY = 0, -1
LANE_BITS = 32
_LANE = (1 << LANE_BITS) - 1
# What stands for a lane of a task: several of them, or all that did something before a barrier.
_SEVERAL, _JOINED = _LANE, _LANE - 1


class Ledger:
    """Who wrote and who read each unit of a stretch of memory, as one number for each iteration.

    Behind a barrier the number of the task stands for all its lanes, with a mark of its own.
    """

    def __init__(self, units: int) -> None:
        self.writer = np.zeros(units, np.int64)
        self.reader = np.zeros(units, np.int64)

    def read(self, at: Any, lane: Any, task: Any) -> None:
        """Note reads; an error if another iteration wrote there.

        What a task wrote outside of vector loops its lanes may read: each could have done it. What
        its lanes wrote the task may read outside of vector loops: they have ended.
        """
        writer, joined = self.writer[at], _marked(lane, _JOINED)
        foreign = (writer != NOBODY) & (writer != lane) & (writer != task) & (writer != joined)
        if np.any(foreign & ((lane != task) | (writer >> LANE_BITS != task >> LANE_BITS))):
            raise InterpreterError("an iteration reads what another one wrote")
        reader, several = self.reader[at], _marked(lane, _SEVERAL)
        alone = (reader == NOBODY) | (reader == lane) | (reader == joined)
        near = _marked(reader, _SEVERAL) == several
        self.reader[at] = noted = np.where(alone, lane, np.where(near, several, EVERYBODY))
        held = self.reader[at]
        clash = held != noted  # several iterations read it now
        near = _marked(held, _SEVERAL) == several
        self.reader[at[clash & near]] = several[clash & near]
        self.reader[at[clash & ~near]] = EVERYBODY

    def write(self, at: Any, lane: Any) -> None:
        """Note writes; an error if another iteration wrote or read there."""
        joined = _marked(lane, _JOINED)
        for past, did in ((self.writer[at], "writes"), (self.reader[at], "reads")):
            if np.any((past != NOBODY) & (past != lane) & (past != joined)):
                raise InterpreterError(f"an iteration writes what another one {did}")
        self.writer[at] = lane
        if np.any(self.writer[at] != lane):
            raise InterpreterError("two iterations write the same element")

    def join(self, tasks: Any) -> None:
        """From now on all lanes of each of these tasks may touch what any of them has touched."""
        for numbers in (self.writer, self.reader):
            mine = np.isin(numbers >> LANE_BITS, tasks)
            numbers[mine] = _marked(numbers[mine], _JOINED)


def _marked(numbers: Any, mark: int) -> Any:
    """The number of the task of an iteration, with a mark where that of the lane was."""
    return numbers & ~_LANE | mark


class Memory:
    """The array of a buffer, of rank 1 at least; with a ledger if the kernel writes to this memory.

    A unit of the ledger is as many bytes as divide every address in it.
    """

    def __init__(self, buffer: Buffer, array: Any) -> None:
        self.buffer = buffer
        self.array = array.reshape(1) if array.ndim == 0 else array
        self.ledger: Ledger | None = None
        self.start = 0
        self.steps: tuple[int, ...] = ()
        self.width = 1

    @property
    def address(self) -> int:
        return self.array.__array_interface__["data"][0]

    def share(self, ledger: Ledger, low: int, unit: int) -> None:
        """Use a ledger whose first unit is the byte at the address `low`."""
        self.ledger = ledger
        self.start = (self.address - low) // unit
        self.steps = tuple(stride // unit for stride in self.array.strides)
        self.width = self.array.itemsize // unit

    def read(self, index: list[Any], context: Context, active: Any) -> Any:
        index = self._checked(index, active)
        for at, lane, task in self._touched(index, context, active):
            assert self.ledger is not None
            if self.buffer.space == "worker" and np.any(self.ledger.writer[at] == NOBODY):
                raise InterpreterError(f"{self.buffer.name} is scratch, read before it is written")
            self.ledger.read(at, lane, task)
        return self.array[tuple(index)]

    def write(self, index: list[Any], value: Any, context: Context, active: Any) -> None:
        if not self.array.flags.writeable:
            raise InterpreterError(f"{self.buffer.name} is read-only, and stored to")
        index = self._checked(index, active)
        for at, lane, _ in self._touched(index, context, active):
            assert self.ledger is not None
            self.ledger.write(at, lane)
        value = value if active is None or np.ndim(value) == 0 else value[active]
        if np.ndim(value) and not any(np.ndim(position) for position in index):
            value = value[0]  # one iteration, or the ledger would have refused
        self.array[tuple(index)] = value

    def taken(self, slot: int, task: int) -> Any:
        """The scratch of a task, as an array to work on: from now on the task has written it all,
        as if before a barrier.
        """
        mine = self.array[slot]
        if self.ledger is not None and mine.size:
            unit = self.array.itemsize // self.width
            first = self.start + slot * (self.array.strides[0] // unit)
            units = slice(first, first + mine.nbytes // unit)
            self.ledger.writer[units] = self.ledger.reader[units] = _marked(task, _JOINED)
        return mine

    def _checked(self, index: list[Any], active: Any) -> list[Any]:
        """The index of the active iterations, all of it inside the array."""
        if self.buffer.shape == () and self.buffer.space != "worker":
            return [0]
        index = [p if active is None or np.ndim(p) == 0 else p[active] for p in index]
        for axis, (position, size) in enumerate(zip(index, self.array.shape, strict=True)):
            low, high = np.min(position), np.max(position)
            if low < 0 or high >= size:
                worst = low if low < 0 else high
                raise InterpreterError(
                    f"{self.buffer.name} is accessed at {worst} of axis {axis}, of extent {size}"
                )
        return index

    def _touched(
        self, index: list[Any], context: Context, active: Any
    ) -> Iterator[tuple[Any, Any, Any]]:
        """The units of the ledger that each iteration touches, with its lane and task."""
        if self.ledger is None:
            return
        first: Any = self.start
        for position, step in zip(index, self.steps, strict=True):
            first = first + position * step
        owners = (context.lane, context.task)
        owners = tuple(o if active is None or np.ndim(o) == 0 else o[active] for o in owners)
        at, lane, task = np.broadcast_arrays(np.atleast_1d(first), *owners)
        for unit in range(self.width):
            yield at + unit, lane, task


def keep_ledgers(memories: Sequence[Memory], written: Sequence[Buffer]) -> None:
    """Give a common ledger to those that overlap each other, where one of them is written."""
    spans = [(*np.lib.array_utils.byte_bounds(m.array), m) for m in memories if m.array.size]
    cluster: list[Memory] = []
    start = end = 0
    for low, high, memory in sorted(spans, key=lambda span: span[:2]):
        if cluster and low >= end:
            _keep_ledger(cluster, written, start, end)
            cluster = []
        if not cluster:
            start = low
        cluster.append(memory)
        end = max(end, high)
    if cluster:
        _keep_ledger(cluster, written, start, end)


def _keep_ledger(
    cluster: Sequence[Memory], written: Sequence[Buffer], low: int, high: int
) -> None:
    if not any(memory.buffer in written for memory in cluster):
        return
    numbers = [(m.array.itemsize, m.address - low, *m.array.strides) for m in cluster]
    unit = math.gcd(*itertools.chain(*numbers))
    ledger = Ledger((high - low) // unit)
    for memory in cluster:
        memory.share(ledger, low, unit)
