"""Which modules of text does a program need, and how carefully is each compiled?

Everything that a program needs, as plain text that a cache can keep: each distinct kernel once, the
matrix-product family of every dtype in use, the program, its extents. Nothing in a text is an
address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from graphc.codegen import gemm
from graphc.codegen.extents import Layout
from graphc.codegen.llvm.contract import contract_module
from graphc.codegen.llvm.extents import extents_module
from graphc.codegen.llvm.kernel import Text, kernel_module, longest_function, routine_module
from graphc.codegen.llvm.program import program_module
from graphc.codegen.llvm.short_product import is_short, short_product_module
from graphc.codegen.llvm.tables import LAUNCHES, LAUNCHES_MODULE
from graphc.codegen.loops import Contract, Kernel, product_bytes, tabled_sides
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program, bodies
from graphc.codegen.scalar import Routine, walk
from graphc.dims import Extent
from graphc.runtime.engine import Source
from graphc.runtime.native import RUNTIME_SYMBOLS, Module

# Kernels beyond this many statements are compiled at level 0, whose time is linear in the text; in
# a program of very many statements smaller ones are, too. Their code is a tenth slower.
BIG_KERNEL = 1500
BIG_PROGRAM, BIG_PART = 4000, 150
# Long kernels in segments take three times as long with care as without, and run in two thirds of
# the time: in programs of at most so many statements that is worth it.
MOST_SEGMENTS = 20_000
# Level 2 schedules once more after registers are given: a sixth of the time, and no faster code.
SEGMENT_LEVEL = 1
# What stands between kernels takes LLVM a quarter of the time at level 0, and costs a nanosecond a
# launch. Only loops of few launches are worth more.
LONG_PROGRAM = 32
ROUTINE_LEVEL = 2


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
    if not isinstance(kernel.nest, Contract):
        return kernel_module(kernel, machine, "kernel")
    printer = short_product_module if is_short(kernel.nest, machine) else contract_module
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
            most = SEGMENT_LEVEL if in_segments else opt_level
            level = min(opt_level, most) if size <= big or in_segments else 0
            imports: tuple[str, ...] = ()
            if isinstance(nest, Contract) and not is_short(nest, machine):
                imports = (gemm.entry_name(nest.dtype),)
            imports += written.foreign
            for symbol, (routine, lanes) in written.routines.items():
                imports += (symbol,)
                if symbol not in printed:
                    printed.add(symbol)
                    made.append(_routine(symbol, routine, lanes, machine))
            passes = "instcombine" if opt_level and not in_segments else "none"
            named = text.replace("@kernel", f"@{name}")
            made.append(Module(name, Source(named, level, passes), (name,), imports))
        names[id(kernel)] = kernel.name = name
    if found.slots.free:
        text = extents_module(found.slots)
        made.append(Module("extents", Source(text, 0, "none"), ("extents",), ()))
    text, constants = program_module(program, names, workers, found.slots.program_names)
    imports = (*constants, *RUNTIME_SYMBOLS)
    if f"@{LAUNCHES}(" in text:
        source = Source(LAUNCHES_MODULE, 0, "none")  # as what else stands between kernels
        called = ("graphc_parallel_for",)
        made.append(Module(LAUNCHES, source, (LAUNCHES,), called, group=LAUNCHES, kept=True))
        imports += (LAUNCHES,)
    procedures = (program.main, *program.procedures)
    loops = any(bodies(statement) for procedure in procedures for statement in procedure.body)
    careful = loops and sum(1 for _ in program.launches()) <= LONG_PROGRAM
    effort = (min(opt_level, 1), "always-inline") if careful else (0, "none")
    made.append(Module("main", Source(text, *effort), ("main",), imports))
    return made, {symbol: storage.array for symbol, storage in constants.items()}


def _routine(symbol: str, routine: Routine, lanes: int, machine: Machine) -> Module:
    """The module of a routine. Whatever kernel calls it, it is worth compiling well."""
    text = routine_module(routine, lanes, machine, symbol)
    source = Source(text, ROUTINE_LEVEL, "instcombine")
    return Module(symbol, source, (symbol,), (), group=symbol, kept=True)


def _product_modules(program: Program, machine: Machine) -> list[Module]:
    """The matrix-product family of every dtype that a contraction of the program has, without
    unreachable tiles.
    """
    shapes: dict[str, list[gemm.ProductShape]] = {}
    for kernel in program.kernels():
        nest = kernel.nest
        if isinstance(nest, Contract) and not is_short(nest, machine):
            shape = (nest.rows, nest.columns, nest.depth, tabled_sides(nest))
            shapes.setdefault(nest.dtype, []).append(shape)
    made = []
    for dtype in sorted(shapes):
        family = gemm.modules(dtype, machine, shapes[dtype])
        for name, text, exports, imports, level in sorted(family, key=_is_chosen):
            group = f"{dtype} chosen" if _is_chosen((name,)) else dtype
            source = Source(text, level, "none")
            made.append(
                Module(f"{dtype} {name}", source, tuple(exports), tuple(imports), group)
            )
    return made


def _is_chosen(module: Sequence[Any]) -> bool:
    """Whether a module of the matrix-product family goes with the sizes of a program: its kernels,
    the table of them, and the entry that knows the table.
    """
    return not module[0].endswith(gemm.SHARED)
