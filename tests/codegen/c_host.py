"""How do tests run C?  They compile it with every warning as an error and call it through ctypes.

Many programs go into one shared library, for starting the compiler takes longer than most of them.
Outputs and the workspace hold NaN before a call (all bits set), so what should have been written
and was not shows; a canary behind each shows what was written beyond it.
"""

from __future__ import annotations

import ctypes
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from graphc.codegen.c.program import CArray, CSource

COMPILER = shutil.which("gcc")
CLANG = shutil.which("clang")
STRICT = (
    *("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wsign-conversion"),
    *("-Wshadow", "-Wundef", "-Wcast-qual", "-Wcast-align", "-Wpointer-arith", "-Wvla"),
    *("-Wstrict-prototypes", "-Wmissing-prototypes", "-Wdouble-promotion"),
)
FLAGS = (*STRICT, "-O2", "-march=native", "-ffp-contract=off")
QUICK = (*STRICT, "-O1", "-march=native")
CANARY = 64

required = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


class Status(ctypes.Structure):
    """The record of the first failure."""

    _fields_ = [(name, ctypes.c_int64) for name in ("code", "node", "index", "extent")]

    @property
    def words(self) -> tuple[int, int, int, int]:
        return self.code, self.node, self.index, self.extent


def run_compiler(arguments: Sequence[str], compiler: str | None = COMPILER) -> None:
    """Run gcc, or another compiler; an error shows what it says."""
    assert compiler is not None
    done = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:6000]


class Library:
    """Programs, compiled into one shared library. Undefined symbols are errors, and of a library
    there are memcpy, memset and memmove, which compilers call for assignments.
    """

    def __init__(
        self,
        sources: Sequence[CSource],
        flags: Sequence[str] = FLAGS,
        compiler: str | None = COMPILER,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="graphc-c-")
        folder = pathlib.Path(self.folder.name)
        files = [str(source.save(folder)[0]) for source in sources]
        target = folder / "library.so"
        link = ("-shared", "-fPIC", "-Wl,-z,defs")
        run_compiler([*flags, *link, *files, "-o", str(target)], compiler)
        self.library = ctypes.CDLL(str(target))
        self.sources = {source.name: source for source in sources}

    def run(self, name: str, arrays: Sequence[Any], in_place: bool = False) -> Outcome:
        return run(self.library, self.sources[name], arrays, in_place)


@dataclass(frozen=True)
class Outcome:
    """The outputs of a call, and the words of its status."""

    outputs: list[Any]
    status: tuple[int, int, int, int]
    message: str


def run(library: Any, source: CSource, arrays: Sequence[Any], in_place: bool = False) -> Outcome:
    """Call a program by position, after it has filled in its extents; `in_place` with the arrays of
    outputs for donated inputs.
    """
    given = [
        np.asarray(array, known.dtype) if known.strided else np.array(array, known.dtype, order="C")
        for array, known in zip(arrays, source.inputs, strict=True)
    ]
    over = dict(source.donated) if in_place else {}
    strides = [
        step // array.itemsize
        for array, known in zip(given, source.inputs, strict=True)
        for step in (array.strides if known.strided else ())
    ]
    extents = np.zeros(max(1, source.slots), np.int64)
    for array, known in zip(given, source.inputs, strict=True):
        for axis, extent in zip(known.axes, array.shape, strict=True):
            if isinstance(axis, int):
                assert axis == extent
            else:
                extents[axis[1]] = extent
    status = Status(9, 9, 9, 9)
    if function(library, f"{source.name}_extents")(extents.ctypes, ctypes.byref(status)):
        return Outcome([], status.words, message(library, source, status))
    outputs = [guarded(shape_of(known, extents), known.dtype) for known in source.outputs]
    for source_, target in over.items():
        outputs[target][0][...] = given[source_]
        given[source_] = outputs[target][0]
    workspace = guarded((int(function(library, f"{source.name}_workspace")(extents.ctypes)),))
    before = [array.copy() for array in given]
    buffers = [array.ctypes.data for array in (*given, *(out for out, _ in outputs))]
    pointers = (ctypes.c_void_p * max(1, len(buffers)))(*buffers)
    program = function(library, source.name)
    layout = [(ctypes.c_int64 * len(strides))(*strides)] if strides else []
    scratch = workspace[0].ctypes
    code = program(pointers, extents.ctypes, *layout, scratch, ctypes.byref(status))
    assert code == status.code
    for position, (array, old) in enumerate(zip(given, before, strict=True)):
        assert position in over or array.tobytes() == old.tobytes(), "an input was written to"
    for _, canary in (*outputs, workspace):
        assert (canary == 0xFF).all(), "something was written beyond an array"
    return Outcome([out for out, _ in outputs], status.words, message(library, source, status))


def function(library: Any, name: str) -> Any:
    found = getattr(library, name)
    found.restype = ctypes.c_int64
    return found


def message(library: Any, source: CSource, status: Status) -> str:
    found = getattr(library, f"{source.name}_message")
    found.restype = ctypes.c_char_p
    return found(ctypes.byref(status)).decode()


def shape_of(array: CArray, extents: Any) -> tuple[int, ...]:
    return tuple(a if isinstance(a, int) else int(extents[a[1]]) for a in array.axes)


def guarded(shape: tuple[int, ...], dtype: Any = np.uint8) -> tuple[Any, Any]:
    """An array of all bits set, aligned to 64 bytes, and the bytes behind it."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.full(size + CANARY + 64, 0xFF, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape), memory[start + size :]
