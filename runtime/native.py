"""How do modules become machine code in this process? One link, in dependency order.

`link` compiles or fetches the modules that `printing` makes through the engine's cache of objects
and resolves the names between them. They are cached one by one and linked in groups, for a library
takes long to map whatever is in it: what programs share, and what belongs to one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphc.runtime import lapack, threads
from graphc.runtime.engine import Source, engine
from graphc.runtime.shared import call_runtime

RUNTIME_SYMBOLS = ("graphc_parallel_for", "graphc_poll")
OWN = "program"  # the group of what no other program uses


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

    `exports` are the symbols that modules of other groups call, `imports` those of other groups
    that it calls. A group is linked as one library, after the groups before it; one that is `kept`
    stays loaded for programs to come.
    """

    name: str
    source: Source
    exports: tuple[str, ...]
    imports: tuple[str, ...]
    group: str = OWN
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
    symbols = dict(zip(RUNTIME_SYMBOLS, addresses, strict=True))
    symbols |= {symbol: array.ctypes.data for symbol, array in constants.items()}
    symbols |= lapack.addresses(name for module in made for name in module.imports)
    groups: dict[str, list[Module]] = {}
    for module in made:
        groups.setdefault(module.group, []).append(module)
    libraries: list[Any] = []
    # What a program does not share comes last: it may call anything.
    for group in sorted(groups, key=lambda name: name == OWN):
        members, own = groups[group], group == OWN
        called = {name for module in made if module.group != group for name in module.imports}
        exports = [s for module in members for s in module.exports if own or s in called]
        wanted = dict.fromkeys(name for module in members for name in module.imports)
        imports = {name: symbols[name] for name in wanted if name in symbols}
        held = tuple(library for library in libraries if not imports.keys().isdisjoint(library))
        loaded = shared.load(
            [module.source for module in members],
            exports,
            imports,
            cache=cache,
            keep=(*constants.values(), *held) if own else held,
            recorder=recorder.events,
        )
        symbols |= loaded
        libraries.append(loaded)
        if members[0].kept:
            _kept[id(loaded)] = loaded
    held = (*constants.values(), *libraries)
    kernels = {name: address for name, address in symbols.items() if name.startswith("kernel_")}
    return NativeProgram(symbols["main"], symbols.get("extents", 0), kernels, held)
