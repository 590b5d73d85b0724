"""What does a program mean?  Its procedures, run with the memory that was planned for them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.codegen.interpret.context import polynomial
from graphc.codegen.interpret.faults import Failure, InterpreterError, described
from graphc.codegen.interpret.kernel import run_kernel
from graphc.codegen.interpret.memory import POISON
from graphc.codegen.loops import Kernel
from graphc.codegen.memory import ALIGNMENT, aligned, storage_bytes
from graphc.codegen.program import (
    BLOCK,
    Blocks,
    Call,
    Chain,
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Steps,
    Storage,
    Switch,
    Together,
    While,
)
from graphc.codegen.scalar import (
    For,
)
from graphc.dims import evaluate

Trace = Callable[[Launch, list[Any]], None]


def run_program(
    program: Program,
    inputs: Sequence[Any],
    sizes: Mapping[str, int],
    workers: int = 1,
    trace: Trace | None = None,
) -> tuple[list[Any], list[Failure]]:
    """The outputs of a program on arrays, and the failures of its checks, in order.

    `inputs` are arrays of the types of the main procedure's inputs, which are never written; those
    that the program takes as strided may have any strides. `sizes` gives every named dimension.
    `workers` is the number for which memory was planned. Temporaries live at their planned offsets
    in one arena of poisoned bytes, so that a wrong plan shows. `trace(launch, arrays)` is called
    after each launch with the arrays of its operands.

    Raises `InterpreterError` where a program or one of its kernels breaks a rule of its language.
    """
    run = ProgramRun(workers, trace)
    main = program.main
    given = [_read_only(np.asarray(array)) for array in inputs]
    outputs = []
    for storage in main.outputs:
        shape = tuple(evaluate(extent, sizes) for extent in storage.shape)
        outputs.append(
            _poisoned(math.prod(shape) * storage.dtype.itemsize).view(storage.dtype).reshape(shape)
        )
    arena = _poisoned(evaluate(main.arena, sizes))
    run.procedure(main, [*given, *outputs], sizes, arena)
    return outputs, run.failures


def _poisoned(size: int) -> Any:
    return np.full(size, POISON, np.uint8)


def _read_only(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass
class Activation:
    """One call of a procedure: its arena, the values of names, the arrays of storages."""

    arena: Any
    sizes: dict[str, int]
    arrays: dict[Storage, Any] = field(default_factory=dict)

    def shape(self, storage: Storage) -> tuple[int, ...]:
        return tuple(evaluate(extent, self.sizes) for extent in storage.shape)


class ProgramRun:
    """One execution of one program."""

    def __init__(self, workers: int, trace: Trace | None) -> None:
        self.workers = workers
        self.trace = trace
        self.failures: list[Failure] = []

    def procedure(
        self, procedure: Procedure, arrays: Sequence[Any], sizes: Mapping[str, int], arena: Any
    ) -> None:
        activation = Activation(arena, dict(sizes))
        formals = [*procedure.inputs, *procedure.outputs]
        if len(arrays) != len(formals):
            raise InterpreterError(
                f"{procedure.name} takes {len(formals)} arrays, got {len(arrays)}"
            )
        for storage, array in zip(formals, arrays, strict=True):
            shape = activation.shape(storage)
            if array.dtype != storage.dtype or array.shape != shape:
                raise InterpreterError(
                    f"{storage.kind} {storage.position} of {procedure.name} is "
                    f"{storage.dtype.name}{list(shape)}, the array is {described(array)}"
                )
            if not storage.strided and not array.flags.c_contiguous:
                raise InterpreterError(
                    f"{storage.kind} {storage.position} of {procedure.name} is not contiguous"
                )
            activation.arrays[storage] = array
        self.statements(procedure.body, activation)

    def statements(self, body: Sequence[Statement], activation: Activation) -> None:
        for statement in body:
            if isinstance(statement, Launch):
                self.launch(statement, activation)
            elif isinstance(statement, Loop):
                self.loop(statement, activation)
            elif isinstance(statement, While):
                self.repeat(statement, activation)
            elif isinstance(statement, Switch):
                index = int(self._view(statement.index, (), activation)[()])
                chosen = min(max(index, 0), len(statement.branches) - 1)
                self.statements(statement.branches[chosen], activation)
            elif isinstance(statement, (Chain, Together)):
                self.statements(statement.launches, activation)
            elif isinstance(statement, Blocks):
                self.blocks(statement, activation)
            else:
                self.call(statement, activation)

    def launch(self, launch: Launch, activation: Activation) -> None:
        kernel, nest = launch.kernel, launch.kernel.nest
        sizes = activation.sizes
        arrays = []
        for buffer, operand in zip(kernel.buffers, launch.operands, strict=True):
            if buffer.space == "worker":
                arrays.append(self._scratch(operand.storage, activation))
            else:
                shape = tuple(evaluate(extent, sizes) for extent in buffer.shape)
                arrays.append(self._view(operand, shape, activation))
        tasks, grain = evaluate(launch.tasks, sizes), evaluate(launch.grain, sizes)
        if isinstance(nest, For) and tasks != evaluate(nest.stop - nest.start, sizes) or grain < 1:
            raise InterpreterError(f"{tasks} tasks in grains of {grain} for\n{kernel.text()}")
        if launch.scratch is not None and launch.scratch.kind != "held":
            self._scratch(launch.scratch, activation)[:] = POISON
        workers = 1 if tasks == 1 else self.workers
        self.failures += run_kernel(kernel, arrays, sizes, workers)
        if self.trace is not None:
            self.trace(launch, arrays)

    def blocks(self, blocks: Blocks, activation: Activation) -> None:
        """Run the blocks from the last to the first: none may need what another has made."""
        scratch = None
        if blocks.scratch is not None:
            scratch = self._scratch(blocks.scratch, activation)
        for number in reversed(range(blocks.count)):
            activation.sizes[BLOCK] = number
            if scratch is not None:
                scratch[:] = POISON
            if blocks.steps is None:
                self._block(blocks, number, scratch, activation)
            else:
                for _ in self._each(blocks.steps, activation):
                    self._block(blocks, number, scratch, activation)
        activation.sizes.pop(BLOCK, None)

    def _block(
        self, blocks: Blocks, number: int, scratch: Any, activation: Activation
    ) -> None:
        for launch in blocks.launches:
            self._launch_of_block(launch, number, scratch, activation)

    def _launch_of_block(
        self, launch: Launch, number: int, scratch: Any, activation: Activation
    ) -> None:
        """Run a launch for one block. What it holds has the shape of all blocks, but only its own
        is in memory: it comes from where it was planned, and goes back there.
        """
        held: list[tuple[Any, Any, bool]] = []
        written = set(launch.kernel.written())
        for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True):
            storage = operand.storage
            if storage.kind != "held":
                continue
            activation.arrays.pop(storage, None)
            size = math.prod(activation.shape(storage)) * storage.dtype.itemsize // storage.parts
            whole = self._array(storage, activation).reshape(-1).view(np.uint8)
            own = whole[number * size : (number + 1) * size]
            place = scratch[storage.offset : storage.offset + size]
            own[:] = place
            held.append((place, own, buffer in written))
        self.launch(_ranged(launch, number), activation)
        for place, own, back in held:
            if back:
                place[:] = own

    def loop(self, loop: Loop, activation: Activation) -> None:
        for _ in self._each(loop, activation):
            self.statements(loop.body, activation)

    def _each(self, loop: Loop | Steps, activation: Activation) -> Iterator[int]:
        """The steps of a loop in order, each as the value of its variable."""
        steps = range(evaluate(loop.length, activation.sizes))
        for step in reversed(steps) if loop.reverse else steps:
            activation.sizes[loop.variable] = step
            yield step
        activation.sizes.pop(loop.variable, None)

    def repeat(self, loop: While, activation: Activation) -> None:
        while True:
            self.statements(loop.test, activation)
            if self.failures or not self._view(loop.condition, (), activation)[()]:
                return
            self.statements(loop.body, activation)

    def call(self, call: Call, activation: Activation) -> None:
        callee = call.procedure
        sizes = {name: evaluate(extent, activation.sizes) for name, extent in call.sizes.items()}
        formals = [*callee.inputs, *callee.outputs]
        arrays = []
        for storage, operand in zip(formals, call.operands, strict=True):
            shape = tuple(evaluate(extent, sizes) for extent in storage.shape)
            view = self._view(operand, shape, activation)
            arrays.append(_read_only(view) if storage.kind == "input" else view)
        arena = _poisoned(0) if call.scratch is None else self._scratch(call.scratch, activation)
        arena[:] = POISON
        self.procedure(callee, arrays, sizes, arena)

    def _view(self, operand: Operand, shape: tuple[int, ...], activation: Activation) -> Any:
        """The array of `shape` that starts `offset` elements into a storage."""
        storage = operand.storage
        array = self._array(storage, activation)
        offset = evaluate(operand.offset, activation.sizes)
        if array.shape == shape and offset == 0:
            return array
        size = math.prod(shape)
        if not array.flags.c_contiguous or offset < 0 or offset + size > array.size:
            raise InterpreterError(
                f"{list(shape)} at element {offset} of a {storage.kind}: {described(array)}"
            )
        return array.reshape(-1)[offset : offset + size].reshape(shape)

    def _array(self, storage: Storage, activation: Activation) -> Any:
        found = activation.arrays.get(storage)
        if found is not None:
            return found
        if storage.kind == "constant":
            made = _read_only(
                np.ascontiguousarray(storage.array, storage.dtype).reshape(storage.array.shape)
            )
        elif storage.kind == "temporary":
            shape = activation.shape(storage)
            size = math.prod(shape) * storage.dtype.itemsize
            made = self._planned(storage, size, activation).view(storage.dtype).reshape(shape)
        elif storage.kind == "held":
            shape = activation.shape(storage)
            size = math.prod(shape) * storage.dtype.itemsize
            made = _poisoned(size).view(storage.dtype).reshape(shape)
        else:
            raise InterpreterError(f"a {storage.kind} that is no parameter of the procedure")
        activation.arrays[storage] = made
        return made

    def _scratch(self, storage: Storage, activation: Activation) -> Any:
        """The bytes of a storage in the arena, copies for all workers included."""
        size = evaluate(storage_bytes(storage, self.workers), activation.sizes)
        return self._planned(storage, size, activation)

    def _planned(self, storage: Storage, size: int, activation: Activation) -> Any:
        offset = evaluate(storage.offset, activation.sizes)
        end = offset + evaluate(aligned(size), activation.sizes)
        if offset % ALIGNMENT or end > activation.arena.size:
            raise InterpreterError(
                f"a {storage.kind} of {size} bytes is planned at {offset} "
                f"of an arena of {activation.arena.size}"
            )
        return activation.arena[offset : offset + size]


def _ranged(launch: Launch, number: int) -> Launch:
    """The launch of one block: a loop nest over its tasks, a contraction as it is."""
    kernel, nest = launch.kernel, launch.kernel.nest
    if not isinstance(nest, For):
        return launch
    body = copy.copy(kernel.body)
    own = replace(nest, start=number * launch.tasks, stop=(number + 1) * launch.tasks)
    body.statements = [own if s is nest else s for s in kernel.body.statements]
    return replace(launch, kernel=Kernel(kernel.buffers, body, kernel.title, kernel.notes))


__all__ = ["Failure", "InterpreterError", "polynomial", "run_kernel", "run_program"]
