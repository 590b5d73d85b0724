"""What do the calls of a process share?  The native routines, the engine, the recycled blocks."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.runtime import fastpath, memory
from graphc.runtime import layout as layouts
from graphc.runtime.descriptor import DescriptorWords
from graphc.runtime.entry import Engine, Routines, load, prototype
from graphc.runtime.layout import Layout
from graphc.runtime.leaf import Function


@dataclass(frozen=True)
class CallRuntime:
    """What the calls of a process share. `plain_because` says why the native entry is not used, if
    it is not.
    """

    routines: Routines
    run: Callable[..., int]
    """`run(program, buffers, extents, strides, workspace, status, release)`, addresses as
    integers.
    """
    engine: Engine
    layout: Layout | None
    plain_because: str = ""

    def own_entry(self, words: DescriptorWords) -> Mapping[str, int] | None:
        """An entry for Functions of this descriptor alone, mapped while the result lives; None
        while another thread compiles, for no call should wait for that.
        """
        assert self.layout is not None
        if self.engine.busy:
            return None
        text = fastpath.module_text(words, self.layout, Function.__basicsize__)
        symbols = fastpath.symbols(words, self.routines.symbols)
        return self.engine.load_ir(text, ["entry"], symbols, opt_level=1, passes="instcombine")

    @property
    def poll_address(self) -> int:
        """The address of `void poll(status_t *)`, for loops and for callers that wait (decision 3,
        Signals).
        """
        return self.routines.poll

    @property
    def pool(self) -> memory.BlockPool:
        """The recycled blocks."""
        return self.routines.pool


_RUNTIME: list[CallRuntime] = []
_RUNTIME_LOCK = threading.Lock()


def call_runtime(engine: Engine | None = None) -> CallRuntime:
    """The shared routines, compiled or fetched from the cache at the first call, which may name
    the engine to use.
    """
    with _RUNTIME_LOCK:
        if not _RUNTIME:
            _RUNTIME.append(_load_runtime(engine))
        return _RUNTIME[0]


def _load_runtime(engine: Engine | None) -> CallRuntime:
    if engine is None:
        from graphc.runtime.engine import Engine as DefaultEngine

        engine = DefaultEngine()
    layout, reason = None, ""
    try:
        layout = layouts.probe()
    except layouts.UnknownLayout as error:
        reason = str(error)
    routines = load(engine, layout, Function.__basicsize__ if layout else 0)
    return CallRuntime(routines, _runner(routines), engine, layout, reason)


def _runner(routines: Routines) -> Callable[..., int]:
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    if prototype() is ctypes.PYFUNCTYPE:
        kinds = [pointer] * 6 + [ctypes.c_bool]
        return ctypes.PYFUNCTYPE(word, *kinds)(routines.run)
    program_type = ctypes.CFUNCTYPE(word, *[pointer] * 5)

    def run(program: int, *arguments: Any) -> int:
        """Other interpreters release their lock around every foreign call, and do not poll."""
        return program_type(program)(*arguments[:5])

    return run
