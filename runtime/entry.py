"""What happens natively between a Python call and a compiled program?

One routine, `entry`, serves every Function. It interprets the Function's *descriptor*: a table of
words (`graphc.runtime.descriptor`) which says what each argument must be, where its extents go,
what is allocated and which program runs. So compiling a Function compiles no entry, and the one
that there is comes out of the cache. Everything that the entry does not recognise goes to the
Function's `slow` callable before anything has been written, so every error text has one author.

Its text (ir/entry.ll) is LLVM IR in small functions that LLVM inlines. It names no address:
CPython's and NumPy's functions come from a table that `initialise` fills in each process. Offsets
of struct fields are constants in the text.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from graphc.codegen.status import STATUS_WORDS, Code, Status
from graphc.runtime import ir, memory
from graphc.runtime import layout as layouts
from graphc.runtime.descriptor import (
    ALIGNED,
    C_CONTIGUOUS,
    OWNABLE,
    Axis,
    Packing,
    Record,
    Scalar,
    Store,
    Word,
)
from graphc.runtime.layout import Layout

POLL_INTERVAL_SECONDS = 0.05
RETAINED_WORKSPACE_BYTES = 64 << 20
"""A Function keeps a workspace up to this size for its next call; larger ones go to the shared
pool.
"""

STACK_WORDS = 384
"""A call whose tables fit in so many words keeps them on the stack (below the page that some
systems probe).
"""


# What the text calls, with its C signature. `address` in the table, in this order.
_FUNCTIONS = {
    "PyMem_RawMalloc": "ptr (i64)",
    "PyMem_RawFree": "void (ptr)",
    "madvise": "i32 (ptr, i64, i32)",
    "clock": "i32 (i32, ptr)",
    "PyEval_SaveThread": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
    "PyErr_CheckSignals": "i32 ()",
    "PyThread_get_thread_ident": "i64 ()",
    "PyErr_Occurred": "ptr ()",
    "Py_IncRef": "void (ptr)",
    "Py_DecRef": "void (ptr)",
    "PyObject_Vectorcall": "ptr (ptr, ptr, i64, ptr)",
    "PyObject_VectorcallMethod": "ptr (ptr, ptr, i64, ptr)",
    "PyObject_CallOneArg": "ptr (ptr, ptr)",
    "PyBytes_FromStringAndSize": "ptr (ptr, i64)",
    "PyLong_AsLongLongAndOverflow": "i64 (ptr, ptr)",
    "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)",
    "PyList_New": "ptr (i64)",
    "PyList_SetItem": "i32 (ptr, i64, ptr)",
    "PyCapsule_New": "ptr (ptr, ptr, ptr)",
    "PyCapsule_GetPointer": "ptr (ptr, ptr)",
    "PyArray_NewFromDescr": "ptr (ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)",
    "PyArray_EquivTypes": "i8 (ptr, ptr)",
    "PyArray_SetBaseObject": "i32 (ptr, ptr)",
}

# Objects whose address the text compares with, and plain numbers; they follow the functions in
# the table.
_OBJECTS: Mapping[str, object] = {
    "object_ndarray": np.ndarray,
    "object_tuple": tuple,
    "object_float": float,
    "object_int": int,
    "object_float64": np.float64,
    "object_float32": np.float32,
    "object_int64": np.int64,
    "object_true": True,
    "object_false": False,
    "object_numpy_true": np.True_,
    "object_numpy_false": np.False_,
    "object_none": None,
    "object_out": sys.intern("out"),
    "object_failed": sys.intern("_failed"),
}
_NUMBERS = ("main_thread", "poll_interval", "clock_id")

_READ_CLOCK_POSIX = """call i32 @clock(i32 %id, ptr %record)
  %seconds = call i64 @word(ptr %record, i64 0)
  %nanoseconds = call i64 @word(ptr %record, i64 1)
  %whole = mul i64 %seconds, 1000000000
  %ticks = add i64 %whole, %nanoseconds"""

# QueryPerformanceCounter takes the record alone.
_READ_CLOCK_WINDOWS = """%query = call ptr @address_of_clock()
  call i32 %query(ptr %record)
  %ticks = call i64 @word(ptr %record, i64 0)"""

# What the entries of single Functions call besides the entry that they stand in front of.
_SHARED_ROUTINES = ("take_workspace", "keep_workspace", "release", "report", "pack")

# As fast a call as the full pipeline gives, in a third of its compile time.
_PASSES = "always-inline,sroa,instcombine,simplifycfg"

class Engine(Protocol):
    """Compiles LLVM IR text and links it into this process; `graphc.runtime.engine.Engine`."""

    @property
    def busy(self) -> bool:
        """Would a request wait for one of another thread?"""

    def load_ir(
        self,
        text: str,
        exports: Sequence[str],
        symbols: Mapping[str, int] | None = ...,
        *,
        opt_level: int = ...,
        passes: str = ...,
    ) -> Mapping[str, int]:
        """Addresses of the exported functions, mapped while the result lives."""


@dataclass(frozen=True)
class Routines:
    """The native routines of the call, as addresses; `entry` is 0 where the layout is unknown.

    `symbols` are what the entries of single Functions call: the routines and the interpreter's.
    """

    entry: int
    symbols: Mapping[str, int]
    run: int
    poll: int
    pool: memory.BlockPool


def module_text(layout: Layout | None, self_offset: int) -> str:
    """The LLVM IR of all routines; without the entry if the layout is unknown.

    `self_offset` is the offset in bytes of a Function's three native words: the entry, the slow
    callable, the descriptor.
    """
    constants: dict[str, object] = {
        **memory.BLOCKS_CONSTANTS,
        **{word.name: int(word) for table in (Status, Word, Record, Axis) for word in table},
        **{f"KIND_{kind.name}": int(kind) for kind in Scalar},
        **{f"STORE_{store.name}": int(store) for store in Store},
        **{f"PACKING_{packing.name}": int(packing) for packing in Packing},
        "CANCELLED": int(Code.CANCELLED),
        "THREAD_MASK": 0xFFFFFFFF if os.name == "nt" else -1,  # a C long
        "ADDRESSES": len(_address_names()),
        "STATUS_WORDS": STATUS_WORDS,
        "STATUS_BYTES": 8 * STATUS_WORDS,
        "STACK_WORDS": STACK_WORDS,
        "RETAINED_WORKSPACE_BYTES": RETAINED_WORKSPACE_BYTES,
        "LARGE_BYTES": memory.LARGE_BYTES,
        "POLL_INTERVAL": round(1000 * POLL_INTERVAL_SECONDS),
        "READ_CLOCK": _READ_CLOCK_WINDOWS if os.name == "nt" else _READ_CLOCK_POSIX,
        "C_CONTIGUOUS": C_CONTIGUOUS,
        "ALIGNED": ALIGNED,
        "OWNABLE": OWNABLE,
        "SELF_SLOW": self_offset + 8,
        "SELF_DESCRIPTOR": self_offset + 16,
    }
    files: tuple[str, ...] = ("support", "blocks")
    if layout is not None:
        files += ("entry",)
        constants |= {name.upper(): offset for name, offset in asdict(layout).items()}
    return f"{_address_text()}\n{ir.text(files, constants)}"


def load(engine: Engine, layout: Layout | None, self_offset: int) -> Routines:
    """Compile (or fetch from the cache), link and initialise the routines.

    The code is never unmapped: arrays whose owner returns a block through it may outlive
    everything else in the process.
    """
    exports = ["initialise", "run", "poll", *memory.BLOCKS_EXPORTS]
    if layout is not None:
        exports += ["entry", *_SHARED_ROUTINES]
    text = module_text(layout, self_offset)
    found = engine.load_ir(text, exports, opt_level=2, passes=_PASSES)
    make_immortal(found)

    def fill() -> None:
        _fill_addresses(found["initialise"], layout)

    fill()
    if hasattr(os, "register_at_fork"):  # the forking thread is the child's main thread
        os.register_at_fork(after_in_child=fill)
    return Routines(
        entry=found.get("entry", 0),
        symbols={} if layout is None else _shared_symbols(found, layout),
        run=found["run"],
        poll=found["poll"],
        pool=memory.BlockPool(found, prototype()),
    )


def _shared_symbols(found: Mapping[str, int], layout: Layout) -> dict[str, int]:
    functions, objects = _function_addresses(layout), _object_addresses()
    return {
        "generic_entry": found["entry"],
        **{name: found[name] for name in _SHARED_ROUTINES},
        **{name: functions[name] for name in ("Py_IncRef", "PyArray_NewFromDescr")},
        **{name: objects[name] for name in ("object_ndarray", "object_none", "object_out")},
    }


def prototype() -> Any:
    """The ctypes function factory for native routines: it keeps the GIL and propagates a pending
    exception.

    Interpreters other than CPython have no such thing; there the routines that need it are not
    called.
    """
    return ctypes.PYFUNCTYPE if _is_cpython() else ctypes.CFUNCTYPE


def _is_cpython() -> bool:
    return sys.implementation.name == "cpython"


def _address_names() -> list[str]:
    return [*_FUNCTIONS, *_OBJECTS, *_NUMBERS]


def _address_text() -> str:
    """The table of addresses, and for each function in it a wrapper of the same name."""
    names = _address_names()
    parts = [f"\n@addresses = internal global [{len(names)} x i64] zeroinitializer, align 64\n"]
    for index, name in enumerate(names):
        kind = "i64" if name in _NUMBERS else "ptr"
        parts.append(
            f"define internal {kind} @address_of_{name}() alwaysinline {{\n"
            f"  %at = getelementptr i64, ptr @addresses, i64 {index}\n"
            f"  %value = load {kind}, ptr %at, align 8, !invariant.load !{{}}\n"
            f"  ret {kind} %value\n}}\n"
        )
    parts.extend(_wrapper_text(name, signature) for name, signature in _FUNCTIONS.items())
    return "".join(parts)


def _wrapper_text(name: str, signature: str) -> str:
    result, types = signature.rstrip(")").split(" (")
    kinds = [kind for kind in types.split(", ") if kind]
    arguments = ", ".join(f"{kind} %a{position}" for position, kind in enumerate(kinds))
    body = f"call {result} %function({arguments})"
    body = f"{body}\n  ret void" if result == "void" else f"%r = {body}\n  ret {result} %r"
    return (
        f"define internal {result} @{name}({arguments}) alwaysinline {{\n"
        f"  %function = call ptr @address_of_{name}()\n  {body}\n}}\n"
    )


def _fill_addresses(initialise: int, layout: Layout | None) -> None:
    values = {**_function_addresses(layout), **_object_addresses(), **_numbers()}
    names = _address_names()
    table = (ctypes.c_int64 * len(names))(*(values[name] for name in names))
    prototype()(None, ctypes.c_void_p)(initialise)(ctypes.addressof(table))


def _function_addresses(layout: Layout | None) -> dict[str, int]:
    addresses = dict.fromkeys(_FUNCTIONS, 0)
    if _is_cpython():
        for name in addresses:
            if name.startswith("Py") and not name.startswith("PyArray_"):
                addresses[name] = _address(getattr(ctypes.pythonapi, name))
    if layout is not None:
        addresses |= layouts.numpy_api()
    if os.name == "nt":
        runtime = ctypes.cdll.msvcrt  # type: ignore[attr-defined]
        counter = ctypes.windll.kernel32.QueryPerformanceCounter  # type: ignore[attr-defined]
        addresses["clock"] = _address(counter)
    else:
        runtime = ctypes.CDLL(None)
        addresses["clock"] = _address(runtime.clock_gettime)
    if sys.platform == "linux":  # elsewhere pages are mapped as the system likes
        addresses["madvise"] = _address(runtime.madvise)
    addresses["PyMem_RawMalloc"] = addresses["PyMem_RawMalloc"] or _address(runtime.malloc)
    addresses["PyMem_RawFree"] = addresses["PyMem_RawFree"] or _address(runtime.free)
    return addresses


def _object_addresses() -> dict[str, int]:
    """The objects live as long as the process: types, singletons, and interned names that
    `_OBJECTS` holds.
    """
    return {name: id(member) for name, member in _OBJECTS.items()}


def _numbers() -> dict[str, int]:
    return {
        "main_thread": threading.main_thread().ident or 0,
        "poll_interval": round(POLL_INTERVAL_SECONDS * _ticks_per_second()),
        "clock_id": getattr(time, "CLOCK_MONOTONIC", 0),
    }


def _ticks_per_second() -> int:
    if os.name != "nt":
        return 1_000_000_000
    frequency = ctypes.c_int64()
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.QueryPerformanceFrequency(ctypes.byref(frequency))
    return frequency.value


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def make_immortal(member: object) -> None:
    """Keep an object that native code points to until the process ends, through the interpreter's
    shutdown.
    """
    if _is_cpython():
        layouts.keep_reference(member)
    else:
        _IMMORTAL.append(member)


_IMMORTAL: list[object] = []
