"""Which modules of text does a program need, and how carefully is each compiled?

Everything that a program needs, as plain text that a cache can keep: each distinct kernel once, the
matrix-product family of every dtype in use, the program, its extents. Nothing in a text is an
address.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from graphc.codegen.extents import Layout
from graphc.codegen.gemm import driver as gemm
from graphc.codegen.llvm.contract import contract_module, sides_with_tables
from graphc.codegen.llvm.direct_product import (
    direct_kernels,
    direct_product_module,
    is_direct,
)
from graphc.codegen.llvm.extents import extents_module
from graphc.codegen.llvm.kernel import (
    Driver,
    Text,
    kernel_module,
    longest_function,
    routine_module,
)
from graphc.codegen.llvm.program import program_module
from graphc.codegen.llvm.short_product import is_short, short_kernels, short_product_module
from graphc.codegen.llvm.tables import LAUNCHES, LAUNCHES_MODULE
from graphc.codegen.loops import Contract, Kernel, product_bytes
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program, bodies
from graphc.codegen.scalar import Routine, count_statements
from graphc.dims import Extent
from graphc.runtime.engine import Source
from graphc.runtime.native import OWN, RUNTIME_SYMBOLS, Module

# Kernels beyond this many statements are compiled at level 0, whose time is linear in the text; in
# a program of very many statements smaller ones are, too. Their code is a tenth slower.
BIG_KERNEL = 1500
BIG_PROGRAM, BIG_PART = 4000, 150
# Long kernels in segments take three times as long with care as without, and run in two thirds of
# the time: in programs of at most so many statements that is worth it.
MOST_SEGMENTS = 20_000
# Level 2 schedules once more after registers are given: a sixth of the time of long segments, and
# of what finishes the tiles of a product, and no faster code.
LEAST_CARE = 1
# What stands between kernels takes LLVM a quarter of the time at level 0, and costs a nanosecond a
# launch. Only loops of few launches are worth more.
LONG_PROGRAM = 32
ROUTINE_LEVEL = 2


def product_scratch(contract: Contract, workers: int) -> Extent:
    """The workspace, in bytes, that a contraction needs on this machine."""
    machine = Machine.host()
    sizes = (contract.rows, contract.columns, contract.depth, contract.batch)
    tabled = bool(sides_with_tables(contract, machine))
    scratch = gemm.workspace(*sizes, contract.dtype, machine, workers, tabled)
    return product_bytes(contract) + scratch


def kernel_text(kernel: Kernel, machine: Machine) -> Text:
    """The LLVM module of a kernel, under the name `kernel`, and the routines that it calls."""
    if not isinstance(kernel.nest, Contract):
        return kernel_module(kernel, machine, "kernel")
    if is_short(kernel.nest, machine):
        return short_product_module(kernel, machine, "kernel")
    printer = direct_product_module if is_direct(kernel.nest, machine) else contract_module
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
    drivers: dict[str, tuple[str, Driver]] = {}
    sizes = {id(kernel): count_statements(kernel.body) for kernel in program.kernels()}
    total = sum(sizes.values())
    big = BIG_PART if total > BIG_PROGRAM else BIG_KERNEL
    for kernel in program.kernels():
        written = kernel_text(kernel, machine)
        text, driver = written.text, written.driver
        name = f"{'kernel' if driver is None else 'tiles'}_{_digest(text)}"
        if driver is None:
            names[id(kernel)] = kernel.name = name
        else:
            kernel.name = f"kernel_{_digest(f'{name} {driver.function}')}"
            names[id(kernel)] = kernel.name
            drivers[kernel.name] = name, driver
        if text and name not in printed:
            printed.add(name)
            size = sizes[id(kernel)]
            in_segments = total <= MOST_SEGMENTS and longest_function(kernel) < size
            most = LEAST_CARE if in_segments or driver is not None else opt_level
            level = min(opt_level, most) if size <= big or in_segments else 0
            level = 0 if written.straight else level
            imports: tuple[str, ...] = written.foreign
            for symbol, (routine, lanes) in written.routines.items():
                imports += (symbol,)
                if symbol not in printed:
                    printed.add(symbol)
                    made.append(_routine(symbol, routine, lanes, machine))
            careful = opt_level and not in_segments and not written.straight
            passes = "instcombine" if careful else "none"
            named = text.replace("@kernel", f"@{name}")
            exports = (name,) if driver is None else ()
            made.append(Module(name, Source(named, level, passes), exports, imports))
    if drivers:
        made.append(driving(drivers))
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


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def driving(drivers: Mapping[str, tuple[str, Driver]]) -> Module:
    """The module of kernels that only call others: each by its name, with that of the module whose
    functions are of its tiles.
    """
    declarations: dict[str, None] = {}
    preludes: dict[str, None] = {}
    functions = []
    for name, (tiles, driver) in drivers.items():
        renamed = [
            text.replace("@kernel_", f"@{tiles}_").replace("@kernel(", f"@{name}(")
            for text in (*sorted(driver.declarations), driver.function)
        ]
        declarations |= dict.fromkeys(renamed[:-1])
        preludes |= dict.fromkeys(driver.preludes)
        functions.append(renamed[-1])
    text = "\n".join([*declarations, *preludes, *functions, "!0 = !{}", ""])
    called = re.findall(r"(?m)^declare void @(graphc_\w+)", text)
    return Module("products", Source(text, 0, "none"), tuple(drivers), tuple(called))


def _routine(symbol: str, routine: Routine, lanes: int, machine: Machine) -> Module:
    """The module of a routine. Whatever kernel calls it, it is worth compiling well."""
    text = routine_module(routine, lanes, machine, symbol)
    source = Source(text, ROUTINE_LEVEL, "instcombine")
    return Module(symbol, source, (symbol,), (), group=symbol, kept=True)


def _product_modules(program: Program, machine: Machine) -> list[Module]:
    """The matrix-product family of every dtype that a contraction of the program has, without
    unreachable tiles; of direct products the tiles alone.
    """
    shapes: dict[str, list[gemm.ProductShape]] = {}
    called: dict[str, set[str]] = {}
    for kernel in program.kernels():
        nest = kernel.nest
        if not isinstance(nest, Contract):
            continue
        short = is_short(nest, machine)
        if short and not short_kernels(nest, machine):
            continue
        own, names = shapes.setdefault(nest.dtype, []), called.setdefault(nest.dtype, set())
        if short:
            names |= short_kernels(nest, machine)
        elif is_direct(nest, machine):
            names |= direct_kernels(nest, machine)
        else:
            own.append((nest.rows, nest.columns, nest.depth, sides_with_tables(nest, machine)))
    made = []
    for dtype in sorted(shapes):
        family = gemm.modules(dtype, machine, shapes[dtype], called[dtype])
        for name, text, exports, imports, level in sorted(family, key=_is_chosen):
            group = f"{dtype} chosen" if _is_chosen((name,)) else dtype
            group = group if shapes[dtype] else OWN
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
