"""How do tests run CUDA C++ without a GPU?  The plan of a program, step by step, on the CPU emulator.

A host needs nothing but a `CudaProgram`: kernels' text, constants, and a plan of launches. Memory that nobody has written is NaN (all
bits set), so what a kernel should have written and did not shows. The arena is one buffer; kernels see it through pointers of
their own types.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from graphc.codegen.cuda import (
    CallStep,
    CudaProgram,
    KernelStep,
    LoopStep,
    Place,
    Plan,
    Size,
    Step,
    Stride,
    translation_unit,
)
from graphc.dims import Extent, evaluate

from tests.cuda_emulator import emulator


@dataclass(frozen=True)
class Outcome:
    """Outputs of a run, and the status record: (code, node, index), all 0 if no check failed."""

    outputs: list[np.ndarray]
    status: tuple[int, int, int]
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
) -> Outcome:
    """The outputs of a program on arrays. `sizes` are the values of its named dimensions.

    Raises `EmulationError` where a kernel breaks a rule of CUDA, writes to an input or a constant, or beyond an array.
    """
    sizes = dict(sizes or {})
    module = module or compile_programs([program])
    plan = program.plan
    given = [_Memory.of(np.asarray(array), type_.strided) for array, type_ in zip(inputs, plan.inputs, strict=True)]
    constants = [_Memory.of(np.ascontiguousarray(array), False) for array in program.constants]
    outputs = []
    for type_ in plan.outputs:
        shape = tuple(evaluate(extent, sizes) for extent in type_.shape)
        outputs.append(_Memory(emulator.Buffer.empty(shape, type_.dtype)))
    arena = _Memory(emulator.Buffer.empty(evaluate(program.arena_bytes, sizes), np.uint8))
    status = emulator.Buffer(np.zeros(3, np.uint64))
    host = _Host(program, module, constants, status, order, seed)
    before = [memory.buffer.bytes.copy() for memory in (*given, *constants)]
    host.steps(plan.steps, _Frame(given, outputs, arena, sizes))
    for memory, bytes_ in zip((*given, *constants), before, strict=True):
        if not np.array_equal(memory.buffer.bytes, bytes_):
            raise emulator.EmulationError("a kernel wrote to an input or a constant")
    code, node, index = status.read().view(np.int64).tolist()
    return Outcome([memory.buffer.read() for memory in outputs], (code, node, index), host.launches)


@dataclass
class _Memory:
    """Device memory from `offset` on, and the strides of the array in it."""

    buffer: emulator.Buffer
    offset: int = 0
    strides: tuple[int, ...] = ()
    views: dict[np.dtype, emulator.Buffer] = field(default_factory=dict)

    @classmethod
    def of(cls, array: np.ndarray, strided: bool) -> _Memory:
        """An array on the device: all the bytes between its elements too if it keeps its strides."""
        if not strided:
            assert array.flags.c_contiguous
            return cls(emulator.Buffer(array))
        low, high = np.lib.array_utils.byte_bounds(array)
        start = array.__array_interface__["data"][0]
        whole = np.lib.stride_tricks.as_strided(array[(slice(0, 0),) * array.ndim].view(), (0,))
        if array.size:
            first = array[tuple(-1 if step < 0 else 0 for step in array.strides)]
            whole = np.lib.stride_tricks.as_strided(
                np.asarray(first), ((high - low) // array.itemsize,), (array.itemsize,)
            ) if False else _span(array, low, high)
        return cls(emulator.Buffer(whole), start - low if array.size else 0, array.strides)
