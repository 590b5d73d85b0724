"""Does NVIDIA's compiler accept a text, and how many registers do its kernels take?

NVRTC and its assembler come as pip wheels (`nvidia-cuda-nvrtc`, `cuda-bindings`) and need neither a
GPU nor a driver. The wheels are an extra: where they are missing `reason_missing()` says so and the
mark `required` skips the tests.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

try:
    from cuda.bindings import nvrtc as _nvrtc
except ImportError as error:
    _nvrtc, _import_error = None, error

#: The architectures that graphc's text is compiled for in the tests.
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")

# -fmad=false: what the user wrote as a * b + c is not contracted, so the fused operations are those
# that the text spells out. Whatever the compiler has to say about generated text is an error.
_OPTIONS = ("--std=c++17", "-fmad=false", "-Werror=all-warnings", "--ptxas-options=-v")


class NvrtcError(RuntimeError):
    """The text did not compile; the message is the compiler's log."""


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers of a thread, static shared bytes of a block, and bytes of a
    thread in local memory: its stack, and what spilled registers store and load."""

    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int
    stack: int


@dataclass(frozen=True)
class Compiled:
    """The result for one architecture; `usage` is by kernel name."""

    cubin: bytes = field(repr=False)
    ptx: str = field(repr=False)
    log: str = field(repr=False)
    usage: dict[str, Usage]


def _checked(result: tuple) -> Any:
    """The value of a binding's (status, value)."""
    status, *values = result
    if int(status):
        raise NvrtcError(_nvrtc.nvrtcGetErrorString(status)[1].decode())
    return values[0] if len(values) == 1 else tuple(values)


@functools.cache
def reason_missing() -> str | None:
    """Why nothing can be compiled here, or None if it can."""
    if _nvrtc is None:
        return f"NVRTC needs cuda-bindings and nvidia-cuda-nvrtc: {_import_error}"
    try:
        _checked(_nvrtc.nvrtcVersion())
    except (RuntimeError, OSError) as error:  # the first call loads the library
        return f"NVRTC needs nvidia-cuda-nvrtc: {error}"
    return None


#: Marks tests (or a module, as `pytestmark`) to be skipped, with the reason, without NVRTC.
required = pytest.mark.skipif(reason_missing() is not None, reason=str(reason_missing()))


def compile(source: str, arch: str, options: Sequence[str] = ()) -> Compiled:
    """Compile CUDA C++ `source`, which includes no header, for `arch` ("sm_90").

    `options` come after the standing ones. Raises NvrtcError with the log, for warnings too.
    """
    program = _checked(_nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    try:
        flags = [o.encode() for o in (f"--gpu-architecture={arch}", *_OPTIONS, *options)]
        status = _nvrtc.nvrtcCompileProgram(program, len(flags), flags)[0]
        log = _text(_fetch(program, "ProgramLog"))
        if int(status):
            raise NvrtcError(f"{arch}: {log}")
        cubin, ptx = _fetch(program, "CUBIN"), _text(_fetch(program, "PTX"))
    finally:
        _nvrtc.nvrtcDestroyProgram(program)
    return Compiled(cubin, ptx, log, _usage(log))


def _fetch(program: object, what: str) -> bytes:
    buffer = bytearray(_checked(getattr(_nvrtc, f"nvrtcGet{what}Size")(program)))
    _checked(getattr(_nvrtc, f"nvrtcGet{what}")(program, buffer))
    return bytes(buffer)


def _text(buffer: bytes) -> str:
    return buffer.rstrip(b"\0").decode().strip()


def _usage(log: str) -> dict[str, Usage]:
    """What ptxas reports of each entry function, in the order of the log."""
    reports = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return {
        name: Usage(
            registers=_number(report, "Used (\\d+) registers"),
            spill_stores=_number(report, "(\\d+) bytes spill stores"),
            spill_loads=_number(report, "(\\d+) bytes spill loads"),
            shared_bytes=_number(report, "(\\d+) bytes smem"),
            stack=_number(report, "(\\d+) bytes stack frame"),
        )
        for name, report in zip(reports[::2], reports[1::2], strict=True)
    }


def _number(report: str, pattern: str) -> int:
    match = re.search(pattern, report)
    return int(match[1]) if match else 0  # ptxas leaves out what is zero
