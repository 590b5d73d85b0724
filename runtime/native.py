"""How does a program become machine code in this process? Modules of text first, then one link in
dependency order.

`modules` prints everything that a program needs, as plain text that a cache can keep: each distinct
kernel once, the matrix-product family of every dtype in use, the program, its extents. `link`
compiles or fetches each through the engine's cache of objects and resolves the names between them.
Nothing in a text is an address.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen import gemm
from graphc.codegen.extents import Layout
from graphc.codegen.llvm.contract import contract_module
from graphc.codegen.llvm.extents import extents_module
from graphc.codegen.llvm.kernel import Text, kernel_module, longest_function, routine_module
from graphc.codegen.llvm.program import program_module
from graphc.codegen.loops import Contract, Kernel, product_bytes, tabled_sides
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program, bodies
from graphc.codegen.scalar import Routine, walk
from graphc.dims import Extent
from graphc.runtime import threads
from graphc.runtime.engine import engine
from graphc.runtime.shared import call_runtime

# Kernels beyond this many statements are compiled at level 0, whose time is linear in the text; in
# a program of very many statements smaller ones are, too. Their code is a tenth slower.
BIG_KERNEL = 1500
BIG_PROGRAM, BIG_PART = 4000, 150
# Long kernels in segments take three times as long with care as without, and run in two thirds of
# the time: in programs of at most so many statements that is worth it.
MOST_SEGMENTS = 20_000
# What stands between kernels takes LLVM a quarter of the time at level 0, and costs a nanosecond a
# launch. Only loops of few launches are worth more.
LONG_PROGRAM = 32
ROUTINE_LEVEL = 2

_RUNTIME_SYMBOLS = ("graphc_parallel_for", "graphc_poll")


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
class Module:
    """One module of LLVM text.

    `exports` maps the symbols it defines to the names that other modules know them by, which are
    those of `imports`. A module that is `kept` stays loaded for programs to come.
    """

    name: str
    text: str
    exports: tuple[tuple[str, str], ...]
    imports: tuple[str, ...]
    opt_level: int
    passes: str
    kept: bool = False


# What stays loaded: a handful of routines.
_kept: dict[int, Any] = {}


@dataclass(frozen=True)
class NativeProgram:
    """Addresses of a linked program, and what must stay alive as long as they are used."""

    main: int
    extents: int
    kernels: Mapping[str, int]
    held: tuple[Any, ...]


def product_scratch(workers: int) -> Callable[[Contract], Extent]:
    """The workspace, in bytes, that a contraction needs on this machine."""
    machine = Machine.host()

    def size(contract: Contract) -> Extent:
        sizes = (contract.rows, contract.columns, contract.depth, contract.batch)
        scratch = gemm.workspace(
            *sizes, contract.dtype, machine, workers, tabled=bool(tabled_sides(contract))
        )
        return product_bytes(contract) + scratch

    return size


def kernel_text(kernel: Kernel, machine: Machine) -> Text:
    """The LLVM module of a kernel, under the name `kernel`, and the routines that it calls."""
    printer = contract_module if isinstance(kernel.nest, Contract) else kernel_module
    return printer(kernel, machine, "kernel")


def modules(
    program: Program, found: Layout, workers: int, opt_level: int
) -> tuple[list[Module], dict[str, Any]]:
    """The modules of a planned program in link order, the last two being its extents (if any) and
    the program; and its constant arrays by symbol.
    """
    machine = Machine.host()
    made = _product_modules(program, machine)
    names: dict[int, str] = {}
    printed: set[str] = set()
    sizes = {id(kernel): sum(1 for _ in walk(kernel.body)) for kernel in program.kernels()}
    total = sum(sizes.values())
    big = BIG_PART if total > BIG_PROGRAM else BIG_KERNEL
    for kernel in program.kernels():
        nest = kernel.nest
        written = kernel_text(kernel, machine)
        text = written.text
        name = f"kernel_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
        if name not in printed:
            printed.add(name)
            size = sizes[id(kernel)]
            in_segments = total <= MOST_SEGMENTS and longest_function(kernel) < size
            level = opt_level if size <= big or in_segments else 0
            imports: tuple[str, ...] = ()
            if isinstance(nest, Contract):
                imports = (gemm.entry_name(nest.dtype),)
            for symbol, (routine, lanes) in written.routines.items():
                imports += (symbol,)
                if symbol not in printed:
                    printed.add(symbol)
                    made.append(_routine(symbol, routine, lanes, machine))
            passes = "instcombine" if opt_level and not in_segments else "none"
            made.append(Module(name, text, (("kernel", name),), imports, level, passes))
        names[id(kernel)] = kernel.name = name
    if found.slots.free:
        text = extents_module(found.slots)
        made.append(Module("extents", text, (("extents", "extents"),), (), 0, "none"))
    text, constants = program_module(program, names, workers, found.slots.program_names)
    imports = (*dict.fromkeys(names.values()), *constants, *_RUNTIME_SYMBOLS)
    procedures = (program.main, *program.procedures)
    loops = any(bodies(statement) for procedure in procedures for statement in procedure.body)
    careful = loops and sum(1 for _ in program.launches()) <= LONG_PROGRAM
    effort = (min(opt_level, 1), "always-inline") if careful else (0, "none")
    made.append(Module("main", text, (("main", "main"),), imports, *effort))
    return made, {symbol: storage.array for symbol, storage in constants.items()}


def _routine(symbol: str, routine: Routine, lanes: int, machine: Machine) -> Module:
    """The module of a routine. Whatever kernel calls it, it is worth compiling well."""
    text = routine_module(routine, lanes, machine, symbol)
    return Module(symbol, text, ((symbol, symbol),), (), ROUTINE_LEVEL, "instcombine", kept=True)


def _product_modules(program: Program, machine: Machine) -> list[Module]:
    """The matrix-product family of every dtype that a contraction of the program has, without
    unreachable tiles.
    """
    shapes: dict[str, list[gemm.ProductShape]] = {}
    for kernel in program.kernels():
        nest = kernel.nest
        if isinstance(nest, Contract):
            shape = (nest.rows, nest.columns, nest.depth, tabled_sides(nest))
            shapes.setdefault(nest.dtype, []).append(shape)
    made = []
    for dtype in sorted(shapes):
        for name, text, exports, imports, level in gemm.modules(dtype, machine, shapes[dtype]):
            pairs = tuple((symbol, symbol) for symbol in exports)
            made.append(Module(f"{dtype} {name}", text, pairs, tuple(imports), level, "none"))
    return made


def link(
    made: list[Module], constants: Mapping[str, Any], cache: bool, recorder: Recorder
) -> NativeProgram:
    """Compile or fetch every module and resolve the names between them."""
    shared = engine()
    with recorder.timed("runtime"):
        pool = threads.pool(shared)
        runtime = call_runtime(shared)
        pool.configure(poll=runtime.poll_address)
    addresses = (pool.address, runtime.poll_address)
    symbols = dict(zip(_RUNTIME_SYMBOLS, addresses, strict=True))
    symbols |= {symbol: array.ctypes.data for symbol, array in constants.items()}
    held: list[Any] = [*constants.values()]
    for module in made:
        loaded = shared.load_ir(
            module.text,
            [symbol for symbol, _ in module.exports],
            {name: symbols[name] for name in module.imports},
            opt_level=module.opt_level,
            passes=module.passes,
            cache=cache,
            keep=tuple(held) if module.imports else (),
            recorder=recorder.events,
        )
        for symbol, name in module.exports:
            symbols[name] = loaded[symbol]
        held.append(loaded)
        if module.kept:
            _kept[id(loaded)] = loaded
    kernels = {name: address for name, address in symbols.items() if name.startswith("kernel_")}
    return NativeProgram(symbols["main"], symbols.get("extents", 0), kernels, tuple(held))
