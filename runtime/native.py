"""How does a program become machine code in this process?  Kernels, their library, the program, linked in that order.

Each distinct kernel text is one object, shared by whoever has the same text; the matrix-product family is loaded once for each dtype that is used; the
program calls them by symbol. Everything goes through the engine's cache.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen import gemm
from graphc.codegen.llvm import kernel_module
from graphc.codegen.llvm_contract import contract_module
from graphc.codegen.llvm_program import Slots, extents_module, program_module
from graphc.codegen.loops import Contract, Kernel
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program
from graphc.codegen.scalar import walk
from graphc.runtime import threads
from graphc.runtime.callable import call_runtime
from graphc.runtime.engine import Engine, Loaded, engine

# Kernels beyond this many statements are compiled at level 0, whose time is linear in the text.
BIG_KERNEL = 1500


@dataclass
class Recorder:
    """Times of the phases of compiling, in seconds, with bytes where there are some."""

    events: list[tuple[str, float, int]] = field(default_factory=list)

    def timed(self, phase: str) -> _Timed:
        return _Timed(self, phase)

    def phases(self) -> dict[str, float]:
        """Total seconds of each phase, in order of first appearance."""
        totals: dict[str, float] = {}
        for phase, seconds, _ in self.events:
            totals[phase] = totals.get(phase, 0.0) + seconds
        return totals


class _Timed:
    def __init__(self, recorder: Recorder, phase: str) -> None:
        self.recorder, self.phase = recorder, phase

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: Any) -> None:
        seconds = time.perf_counter() - self.start
        self.recorder.events.append((self.phase, seconds, 0))


@dataclass(frozen=True)
class NativeProgram:
    """Addresses of a linked program, and what must stay alive as long as they are used."""

    main: int
    extents: int
    texts: dict[str, str]
    held: tuple[Any, ...]


def product_scratch(workers: int) -> Any:
    """The workspace, in bytes, that a contraction needs on this machine."""
    from graphc.codegen.loops import product_bytes

    def size(contract: Contract) -> Any:
        machine = Machine.host()
        sizes = (contract.rows, contract.columns, contract.depth, contract.batch)
        return product_bytes(contract) + gemm.workspace(*sizes, contract.dtype, machine, workers)

    return size


def kernel_text(kernel: Kernel, machine: Machine) -> str:
    """The LLVM module of a kernel, under the name `kernel`."""
    printer = contract_module if isinstance(kernel.nest, Contract) else kernel_module
    return printer(kernel, machine, "kernel")


def build(
    program: Program, slots: Slots, workers: int, opt_level: int, cache: bool, recorder: Recorder
) -> NativeProgram:
    """Compile and link a planned program."""
    machine, shared = Machine.host(), engine()
    pool = threads.pool(shared)
    runtime = call_runtime(shared)
    pool.configure(poll=runtime.poll_address)
    symbols = {"graphc_parallel_for": pool.address, "graphc_poll": runtime.poll_address}
    held: list[Any] = []
    families = {
        k.nest.dtype for k in program.kernels() if isinstance(k.nest, Contract)
    }
    for dtype in sorted(families):
        shapes = [
            (k.nest.rows, k.nest.columns, k.nest.depth)
            for k in program.kernels()
            if isinstance(k.nest, Contract) and k.nest.dtype == dtype
        ]
        address, loaded = product_family(shared, dtype, machine, shapes, symbols, recorder)
        symbols[gemm.entry_name(dtype)] = address
        held += loaded
    names: dict[int, str] = {}
    texts: dict[str, str] = {}
    for kernel in program.kernels():
        with recorder.timed("print kernels"):
            text = kernel_text(kernel, machine)
            name = f"kernel_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
        names[id(kernel)] = kernel.name = name
        if name in texts:
            continue
        texts[name] = text
        level = 0 if sum(1 for _ in walk(kernel.body)) > BIG_KERNEL else opt_level
        loaded_kernel = shared.load_ir(
            text, ["kernel"], symbols, opt_level=level, cache=cache, recorder=recorder.events
        )
        symbols[name] = loaded_kernel["kernel"]
        held.append(loaded_kernel)
    with recorder.timed("print program"):
        text, constants = program_module(program, names, workers, slots.program_names)
    texts["main"] = text
    for symbol, storage in constants.items():
        symbols[symbol] = storage.array.ctypes.data
        held.append(storage.array)
    main = shared.load_ir(
        text, ["main"], symbols, opt_level=1, passes="always-inline", cache=cache, keep=tuple(held),
        recorder=recorder.events,
    )
    extents = 0
    if slots.free:
        texts["extents"] = extents_module(slots)
        loaded_extents = shared.load_ir(
            texts["extents"], ["extents"], opt_level=1, cache=cache, recorder=recorder.events
        )
        extents = loaded_extents["extents"]
        held.append(loaded_extents)
    return NativeProgram(main["main"], extents, texts, (*held, main))


def product_family(
    shared: Engine, dtype: str, machine: Machine, shapes: Any, symbols: dict[str, int], recorder: Recorder
) -> tuple[int, list[Loaded]]:
    """The address of the matrix-product routine of a dtype, and the objects that it is made of."""
    known = {"graphc_parallel_for": symbols["graphc_parallel_for"]}
    held: list[Loaded] = []
    for _, text, exports, imports, level in gemm.modules(dtype, machine, shapes):
        given = {name: known[name] for name in imports}
        loaded = shared.load_ir(
            text, exports, given, opt_level=level, passes="none", keep=tuple(held), recorder=recorder.events
        )
        known.update(loaded)
        held.append(loaded)
    return known[gemm.entry_name(dtype)], held
