"""How long does each kernel of a Function take? The program replayed launch by launch, each one
timed.

Frames are filled in from Python as the compiled program fills them, and the same native kernels run
on the same memory, on one thread. So the figures are those of the kernels, without what the program
saves by staying in native code.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.codegen.loops import LINE_BYTES, Contract
from graphc.codegen.program import (
    BLOCK,
    Blocks,
    Call,
    Launch,
    Loop,
    Operand,
    Statement,
    Steps,
    Storage,
    Switch,
    Together,
    While,
)
from graphc.dims import Extent, evaluate
from graphc.evaluator import bind_extents

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@dataclass
class Timing:
    """One launch, and the seconds of each repetition (of the whole loop, for launches inside one).
    """

    launch: Launch
    seconds: list[float]

    @property
    def best(self) -> float:
        return min(self.seconds)


def profile(implementation: Any, args: Sequence[Any], repeat: int = 5) -> list[Timing]:
    """Times of every launch of a compiled Function's program, in program order, in seconds."""
    replay = _Replay(implementation, args)
    timings: dict[int, Timing] = {}
    for _ in range(repeat):
        seconds: dict[int, float] = {}
        replay.run(implementation.program.main.body, seconds)
        for launch in implementation.program.launches():
            if id(launch) in seconds:
                timing = timings.setdefault(id(launch), Timing(launch, []))
                timing.seconds.append(seconds[id(launch)])
    return list(timings.values())


def _aligned(shape: Sequence[int], dtype: str) -> np.ndarray[Any, Any]:
    """An array that begins where a line of memory does, as those that calls take from their pool;
    NumPy's own large ones begin 16 bytes later, and kernels that store much wait for that.
    """
    held = np.dtype(dtype)
    bytes_ = math.prod(shape) * held.itemsize
    room = np.zeros(bytes_ + LINE_BYTES, np.uint8)
    first = -room.ctypes.data % LINE_BYTES
    return room[first : first + bytes_].view(held).reshape(shape)


class _Replay:
    def __init__(self, implementation: Any, args: Sequence[Any]) -> None:
        self.implementation = implementation
        self.sizes: dict[str, int] = {}
        self.memory: dict[int, np.ndarray] = {}
        program, native = implementation.program, implementation.native
        types = implementation.written.parameters
        for storage, type_, value in zip(program.main.inputs, types, args, strict=True):
            array = np.array(value, type_.dtype, order="C")
            bind_extents(type_, array.shape, self.sizes, "argument")
            self.memory[id(storage)] = array
        for storage in program.main.outputs:
            shape = [evaluate(extent, self.sizes) for extent in storage.shape]
            self.memory[id(storage)] = _aligned(shape, storage.dtype)
        self.arena = _aligned([self.value(program.main.arena)], "uint8")
        self.base = self.arena.ctypes.data
        self.held = 0  # where a worker has what launches of a block hold
        self.status = (ctypes.c_int64 * 8)()
        self.kernels = {name: _KERNEL(address) for name, address in native.kernels.items()}

    def value(self, extent: Extent) -> int:
        return evaluate(extent, self.sizes)

    def address(self, operand: Operand) -> int:
        storage: Storage = operand.storage
        offset = self.value(operand.offset) * storage.dtype.itemsize
        if storage.kind in ("temporary", "worker"):
            return self.base + self.value(storage.offset) + offset
        if storage.kind == "held":
            before = self.sizes[BLOCK] * (self.value(storage.bytes) // storage.parts)
            own = 0 if storage.parts == 1 else before  # kernels count from the first block
            return self.base + self.held + self.value(storage.offset) - own
        array = storage.array if storage.kind == "constant" else self.memory[id(storage)]
        return array.ctypes.data + offset

    def run(self, body: Sequence[Statement], seconds: dict[int, float]) -> None:
        for statement in body:
            if isinstance(statement, Loop):
                for _ in self.steps(statement):
                    self.run(statement.body, seconds)
            elif isinstance(statement, While):
                self.run(statement.test, seconds)
                while self.scalar(statement.condition, ctypes.c_int8):
                    self.run(statement.body, seconds)
                    self.run(statement.test, seconds)
            elif isinstance(statement, Switch):
                last = len(statement.branches) - 1
                chosen = min(max(self.scalar(statement.index, ctypes.c_int64), 0), last)
                self.run(statement.branches[chosen], seconds)
            elif isinstance(statement, Call):
                raise ValueError(
                    "a program with calls is not replayed: profile the called graph by itself"
                )
            elif isinstance(statement, Together):
                self.run(statement.launches, seconds)
            elif isinstance(statement, Launch):
                self.launch(statement, seconds)
            elif isinstance(statement, Blocks):
                self.blocks(statement, seconds)
            else:
                raise NotImplementedError("launches are chained for GPUs alone")

    def steps(self, loop: Loop | Steps) -> Iterator[int]:
        """The steps of a loop in order, each as the value of its variable."""
        steps = range(self.value(loop.length))
        for step in reversed(steps) if loop.reverse else steps:
            self.sizes[loop.variable] = step
            yield step

    def blocks(self, blocks: Blocks, seconds: dict[int, float]) -> None:
        """Run the blocks in order, as one worker does."""
        self.held = 0 if blocks.scratch is None else self.value(blocks.scratch.offset)
        for number in range(blocks.count):
            self.sizes[BLOCK] = number
            for _ in (0,) if blocks.steps is None else self.steps(blocks.steps):
                for launch in blocks.launches:
                    self.launch(launch, seconds, number * self.value(launch.tasks))
        del self.sizes[BLOCK]

    def scalar(self, operand: Operand, kind: Any) -> int:
        """A number that the program reads to know how to go on."""
        return int(kind.from_address(self.address(operand)).value)

    def launch(self, launch: Launch, seconds: dict[int, float], first: int = 0) -> None:
        """Run a kernel; that of a loop nest from its task `first` on."""
        kernel = launch.kernel
        operands = dict(zip(map(id, kernel.buffers), launch.operands, strict=True))
        words = []
        for kind, item in kernel.frame():
            if kind == "buffer":
                words.append(self.address(operands[id(item)]))
            elif kind == "extent":
                words.append(self.sizes[item])
            elif kind == "scratch":
                scratch = launch.scratch
                words.append(0 if scratch is None else self.address(Operand(scratch)))
            else:
                words.append(1 if kind == "workers" else ctypes.addressof(self.status))
        frame = (ctypes.c_int64 * len(words))(*words)
        whole = isinstance(kernel.nest, Contract)
        begin, end = (0, 1) if whole else (first, first + self.value(launch.tasks))
        run = self.kernels[kernel.name]
        start = time.perf_counter()
        run(ctypes.addressof(frame), begin, end, 0)
        seconds[id(launch)] = seconds.get(id(launch), 0.0) + time.perf_counter() - start
