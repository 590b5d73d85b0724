"""How do tests run CUDA C++ without a GPU?  The plan of a program, step by step, on an emulator.

A host needs nothing but a `CudaProgram`: the text of its kernels, its constants, and a plan of
launches. Memory that nobody has written is NaN (all bits set), so what a kernel should have written
and did not shows. The arena is one buffer; kernels see it through pointers of their own types.

A step says which memory its launch touches, by which hosts let launches run side by side. Here all
else in the arena and the outputs is NaN while it runs, and must stay so.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import graphc as gx
from graphc.codegen.cuda.plan import (
    Argument,
    CallStep,
    KernelStep,
    LoopStep,
    Place,
    Size,
    Status,
    Step,
    Stride,
    SwitchStep,
    WhileStep,
)
from graphc.codegen.cuda.program import CudaProgram, translation_unit
from graphc.codegen.cuda.scalar import CUDA
from graphc.codegen.scalar import DTYPES
from graphc.dims import evaluate
from graphc.evaluator import bind_extents
from graphc.types import TensorType
from tests.cuda_emulator import emulator

_POINTEES = {
    CUDA.memory_type(dtype): dtype for dtype in DTYPES if "float16" not in dtype and dtype != "bool"
}


# Bytes of memory beyond which it is not looked at what launches touch: it would take too long.
MOST_LOOKED_AT = 1 << 22


@dataclass(frozen=True)
class Outcome:
    """The outputs of a run, and how many launches it took.

    `failure` is the (code, node, index) of a failing check, all 0 if there is none.
    """

    outputs: list[np.ndarray]
    failure: tuple[int, int, int]
    launches: int


def compile_programs(programs: Sequence[CudaProgram], mode: str = "fast") -> emulator.Module:
    """One module with the kernels of several programs."""
    kernels = {kernel.name: kernel for program in programs for kernel in program.kernels}
    return emulator.compile(translation_unit(kernels.values()), list(kernels), mode)


def run(
    program: CudaProgram,
    inputs: Sequence[np.ndarray],
    sizes: Mapping[str, int] | None = None,
    *,
    module: emulator.Module | None = None,
    order: str = "forward",
    seed: int = 0,
    apart: bool = False,
) -> Outcome:
    """The outputs of a program on arrays. `sizes` are the values of its named dimensions.

    `apart` must be true for a sanitized module: it runs kernels in another process, to which memory
    goes by type.

    Raises `EmulationError` where a kernel breaks a rule of CUDA, or writes to an input or constant.
    """
    sizes = dict(sizes or {})
    plan = program.plan
    given = [
        _on_device(np.asarray(array), type_.strided)
        for array, type_ in zip(inputs, plan.inputs, strict=True)
    ]
    constants = [_on_device(np.ascontiguousarray(array), False) for array in program.constants]
    outputs = []
    for type_ in plan.outputs:
        shape = tuple(evaluate(extent, sizes) for extent in type_.shape)
        outputs.append(_Memory(emulator.Buffer.empty(shape, type_.dtype)))
    arena = _Memory(emulator.Buffer.empty(evaluate(program.arena_bytes, sizes), np.uint8))
    host = _Host(program, module or compile_programs([program]), constants, order, seed, apart)
    untouchable = [memory.buffer for memory in (*given, *constants)]
    before = [buffer.bytes.copy() for buffer in untouchable]
    host.steps(plan.steps, _Frame(given, outputs, arena, sizes))
    for buffer, content in zip(untouchable, before, strict=True):
        if not np.array_equal(buffer.bytes, content):
            raise emulator.EmulationError("a kernel wrote to an input or a constant")
    code, node, index = host.status.read().view(np.int64).tolist()
    return Outcome([memory.buffer.read() for memory in outputs], (code, node, index), host.launches)


def sizes_of(program: CudaProgram, inputs: Sequence[np.ndarray]) -> dict[str, int]:
    """The values of a program's named dimensions, from the shapes of its inputs."""
    sizes: dict[str, int] = {}
    for number, (type_, array) in enumerate(zip(program.plan.inputs, inputs, strict=True)):
        bind_extents(
            TensorType(type_.dtype, type_.shape), np.shape(array), sizes, f"input {number}"
        )
    return sizes


def run_in_every_order(
    program: CudaProgram,
    inputs: Sequence[np.ndarray],
    *,
    module: emulator.Module | None = None,
) -> Outcome:
    """The outcome of a program, after asserting the same bits in every order of the threads."""
    module = module or compile_programs([program])
    sizes = sizes_of(program, inputs)
    outcomes = {
        (order, seed): run(program, inputs, sizes, module=module, order=order, seed=seed)
        for order, seed in emulator.ORDERS
    }
    first = next(iter(outcomes.values()))
    for order, outcome in outcomes.items():
        for number, (one, other) in enumerate(zip(first.outputs, outcome.outputs, strict=True)):
            assert one.tobytes() == other.tobytes(), f"output {number} is another in order {order}"
        assert outcome.failure[0] == first.failure[0]
    return first


def compile_for_emulator(
    inputs: Sequence[gx.Node], outputs: Sequence[gx.Node], options: gx.Options
) -> Callable[..., list[Any]]:
    """A callable from the arrays of `inputs` to those of `outputs`, from what `gx.emit` prints."""
    program = gx.emit(list(inputs), list(outputs), target="cuda", options=options)
    module = compile_programs([program])

    def call(*arrays: Any) -> list[Any]:
        from graphc.runtime.compile import raise_checked

        typed = [
            np.ascontiguousarray(array, type_.dtype).reshape(np.shape(array))
            for array, type_ in zip(arrays, program.plan.inputs, strict=True)
        ]
        outcome = run_in_every_order(program, typed, module=module)
        code, node, index = outcome.failure
        if code:
            raise_checked(program.name, program.checks[node], code, index)
        return outcome.outputs

    return call


@dataclass(frozen=True)
class _Memory:
    """Device memory from a byte on, and the strides of the array that lies there."""

    buffer: emulator.Buffer
    offset: int = 0
    strides: tuple[int, ...] = ()

    def elements(self, dtype: str) -> np.ndarray:
        """The memory as elements of `dtype`, without a rest."""
        size = np.dtype(dtype).itemsize
        return self.buffer.bytes[: self.buffer.nbytes // size * size].view(dtype)

    def view(self, dtype: str) -> emulator.Buffer:
        """The same memory, as a buffer of `dtype`."""
        view = copy.copy(self.buffer)
        view.array = self.elements(dtype)
        return view


def _on_device(array: np.ndarray, strided: bool) -> _Memory:
    """A copy of an array; if it keeps its strides, of all the bytes between its elements too."""
    if not strided:
        assert array.flags.c_contiguous
        return _Memory(emulator.Buffer(array))
    low, high = np.lib.array_utils.byte_bounds(array)
    span = np.frombuffer((ctypes.c_uint8 * (high - low)).from_address(low), np.uint8)
    start = array.__array_interface__["data"][0] - low
    return _Memory(emulator.Buffer(span), start, array.strides)


class _Copies:
    """Memory for a launch in another process: a copy for each dtype that a kernel sees it in."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, str], tuple[_Memory, np.ndarray, emulator.Buffer]] = {}

    def of(self, memory: _Memory, dtype: str) -> emulator.Buffer:
        key = (memory.buffer.address, dtype)
        if key not in self.made:
            copied = emulator.Buffer(memory.elements(dtype))
            self.made[key] = (memory, copied.bytes.copy(), copied)
        return self.made[key][2]

    def write_back(self) -> None:
        """What the launch has changed."""
        for memory, before, copied in self.made.values():
            changed = np.flatnonzero(copied.bytes != before)
            memory.buffer.bytes[changed] = copied.bytes[changed]


@dataclass(frozen=True)
class _Frame:
    """What the steps of a plan refer to: memory, and the values of extents and loop variables."""

    inputs: list[_Memory]
    outputs: list[_Memory]
    arena: _Memory
    sizes: dict[str, int]


class _Host:
    """One run of one program."""

    def __init__(
        self,
        program: CudaProgram,
        module: emulator.Module,
        constants: list[_Memory],
        order: str,
        seed: int,
        apart: bool,
    ) -> None:
        self.kernels = {kernel.name: kernel for kernel in program.kernels}
        self.module = module
        self.constants = constants
        self.order = {"order": order, "seed": seed}
        self.apart = apart
        self.status = emulator.Buffer(np.zeros(3, np.uint64))
        self.launches = 0

    def steps(self, steps: Sequence[Step], frame: _Frame) -> None:
        for step in steps:
            if isinstance(step, KernelStep):
                self.launch(step, frame)
            elif isinstance(step, LoopStep):
                self.loop(step, frame)
            elif isinstance(step, WhileStep):
                self.repeat(step, frame)
            elif isinstance(step, SwitchStep):
                index = self.scalar(step.index, frame, "int64")
                self.steps(step.branches[min(max(index, 0), len(step.branches) - 1)], frame)
            else:
                self.call(step, frame)

    def launch(self, step: KernelStep, frame: _Frame) -> None:
        blocks = evaluate(step.grid, frame.sizes)
        if blocks == 0:
            return
        self.launches += 1
        kernel = self.kernels[step.kernel]
        copies = _Copies() if self.apart else None
        arguments = [
            self.argument(argument, parameter.type, frame, copies)
            for argument, parameter in zip(step.arguments, kernel.parameters, strict=True)
        ]
        with self.hidden(step, frame) if copies is None else contextlib.nullcontext():
            self.module.launch(
                step.kernel,
                grid=(blocks, 1, 1),
                block=(step.block, 1, 1),
                arguments=arguments,
                **self.order,
            )
        if copies is not None:
            copies.write_back()

    @contextlib.contextmanager
    def hidden(self, step: KernelStep, frame: _Frame) -> Iterator[None]:
        """Memory that a launch is not said to touch is NaN, and must be afterwards."""
        buffers = {id(m.buffer): m.buffer for m in (frame.arena, *frame.outputs)}
        if sum(buffer.nbytes for buffer in buffers.values()) > MOST_LOOKED_AT:
            yield
            return
        read = {key: np.zeros(buffer.nbytes, bool) for key, buffer in buffers.items()}
        written = {key: np.zeros(buffer.nbytes, bool) for key, buffer in buffers.items()}
        for touched in step.touches:
            memory = self.moved(touched.place, frame)
            key, size = id(memory.buffer), evaluate(touched.bytes, frame.sizes)
            if key in buffers:
                for mask in (read[key], written[key])[: 1 + touched.writes]:
                    mask[memory.offset : memory.offset + size] = True
        before = {key: buffer.bytes.copy() for key, buffer in buffers.items()}
        for key, buffer in buffers.items():
            buffer.bytes[~read[key]] = 0xFF
        shown = {key: buffer.bytes.copy() for key, buffer in buffers.items()}
        yield
        for key, buffer in buffers.items():
            kept = ~written[key]
            if not np.array_equal(buffer.bytes[kept], shown[key][kept]):
                raise emulator.EmulationError(f"{step.kernel} writes what it is not said to touch")
            buffer.bytes[~read[key]] = before[key][~read[key]]

    def argument(
        self, argument: Argument, type_: str, frame: _Frame, copies: _Copies | None
    ) -> emulator.Argument:
        if isinstance(argument, Size):
            return np.int64(evaluate(argument.extent, frame.sizes))
        if isinstance(argument, Stride):
            return np.int64(frame.inputs[argument.index].strides[argument.axis])
        if isinstance(argument, Status):
            return self.status
        dtype = _POINTEES[type_.removeprefix("const ").removesuffix(" __restrict__").rstrip("*")]
        memory = self.memory(argument, frame)
        offset = memory.offset + evaluate(argument.offset, frame.sizes)
        return (memory.view(dtype) if copies is None else copies.of(memory, dtype)).at(offset)

    def memory(self, place: Place, frame: _Frame) -> _Memory:
        if place.space == "arena":
            return frame.arena
        spaces = {"input": frame.inputs, "output": frame.outputs, "constant": self.constants}
        return spaces[place.space][place.index]

    def loop(self, step: LoopStep, frame: _Frame) -> None:
        numbers = range(evaluate(step.length, frame.sizes))
        for number in reversed(numbers) if step.reverse else numbers:
            self.steps(step.steps, replace(frame, sizes={**frame.sizes, step.variable: number}))

    def repeat(self, step: WhileStep, frame: _Frame) -> None:
        self.steps(step.test, frame)
        while self.scalar(step.condition, frame, "uint8") and not self.status.read().any():
            self.steps(step.steps, frame)
            self.steps(step.test, frame)

    def scalar(self, place: Place, frame: _Frame, dtype: str) -> int:
        """What a host copies back to know how to go on."""
        memory = self.moved(place, frame)
        size = np.dtype(dtype).itemsize
        return int(memory.buffer.bytes[memory.offset : memory.offset + size].view(dtype)[0])

    def call(self, step: CallStep, frame: _Frame) -> None:
        operands = [self.moved(place, frame) for place in step.operands]
        count = len(step.plan.inputs)
        sizes = {name: evaluate(extent, frame.sizes) for name, extent in step.sizes.items()}
        arena = self.moved(step.arena, frame)
        self.steps(step.plan.steps, _Frame(operands[:count], operands[count:], arena, sizes))

    def moved(self, place: Place, frame: _Frame) -> _Memory:
        memory = self.memory(place, frame)
        return replace(memory, offset=memory.offset + evaluate(place.offset, frame.sizes))
