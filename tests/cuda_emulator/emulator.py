"""What does CUDA C++ kernel text compute, and does it break a rule of CUDA on the way?

A module is compiled by g++ from the text that NVRTC would get, `emulator.h` before it and one
exported entry for each kernel after it. It is launched with NumPy arrays under several orders of
the threads: text whose result depends on the order lacks a barrier. Three modes look for different
faults: `fast` (guard pages around each array; in this process), `asan` (every byte out of bounds,
misaligned vectors, undefined arithmetic) and `tsan` (data races), the last two in a program of
their own. What the fibers cannot show (the memory model, speed) stays unknown until a GPU runs it.

Linux with g++ only; elsewhere `reason_missing()` says so and the mark `required` skips the tests.
One launch at a time: the threads of the emulated GPU are global to a module.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import mmap
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

#: (order, seed) of launches that between them show the missing barriers planted in the tests.
ORDERS = (("forward", 0), ("reverse", 0), ("lifo", 0), ("lifo", 1))
#: CPU time after which a launch counts as an endless loop.
LAUNCH_SECONDS = 60.0

_ORDER_CODES = {"forward": 0, "reverse": 1, "lifo": 2}
_MAX_THREADS, _MAX_BLOCK = 1024, (1024, 1024, 64)
_MAX_GRID = (2**31 - 1, 2**16 - 1, 2**16 - 1)
_MAX_SHARED_BYTES = 227 * 1024  # of a block on sm_90


class EmulationError(RuntimeError):
    """The text did not compile, or a launch broke a rule of CUDA; the message says where."""


# ---- Compiling -----------------------------------------------------------------------------------

_HERE = pathlib.Path(__file__).parent
_COMPILER = "g++"

# CUDA text reads float arrays through float4 pointers, hence no strict aliasing. Contraction is off
# so that the fused operations are those of the text, as with NVRTC's -fmad=false.
_COMMON = (
    "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing",
    "-fno-math-errno", "-fno-exceptions", "-U_FORTIFY_SOURCE",
    "-Werror", "-Wreturn-type", "-Wuninitialized",
)  # fmt: skip
_PLAIN = ("-O1", "-fstack-clash-protection")  # a frame is touched before it can pass a guard page
# The C++ library is not used, and to link with it takes longer than to compile a kernel. What the
# sanitizers' instrumentation calls, the runner has loaded.
_LIBRARIES = ("-nostdlib", "-lm", "-lc", "-lgcc")
_ASAN = ("-fsanitize=address,undefined",)
_TSAN = ("-fsanitize=thread",)


@dataclass(frozen=True)
class _Mode:
    """The flags for the kernel text, for the scheduler, and for the program that launches it."""

    kernel: tuple[str, ...]
    scheduler: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()  # empty: launched in this process


_MODES = {
    "fast": _Mode(_PLAIN),
    "portable": _Mode(_PLAIN, ("-DEMULATOR_UCONTEXT",)),  # the fibers of other machines
    "asan": _Mode(
        ("-O1", "-g1", *_ASAN, "-fsanitize-sections=cuda_shared", "-fno-sanitize-recover=all"),
        ("-DEMULATOR_ASAN",),
        _ASAN,
    ),
    "tsan": _Mode(("-O1", "-g1", *_TSAN), ("-DEMULATOR_TSAN",), _TSAN),
}


@functools.cache
def reason_missing() -> str | None:
    """Why nothing can be emulated here, or None if it can."""
    if sys.platform != "linux":
        return "the CUDA emulator needs Linux (ELF sections, signals on guard pages)"
    if shutil.which(_COMPILER) is None:
        return f"the CUDA emulator needs {_COMPILER}"
    return None


#: Marks tests (or a module, as `pytestmark`) to be skipped, with the reason, where g++ is missing.
required = pytest.mark.skipif(reason_missing() is not None, reason=str(reason_missing()))


def compile(source: str, kernels: Sequence[str], mode: str = "fast") -> Module:
    """Compile CUDA C++ `source` for the CPU.

    `kernels` names its `extern "C" __global__` functions. `mode` is "fast", "asan", "tsan" or
    "portable" (as fast, with ucontext for the fibers). What was compiled is kept in the temporary
    folder, by the hash of its text. Raises EmulationError with g++'s message.
    """
    return Module(source, tuple(kernels), mode)


_DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+"
    r"(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s+)?"
    r"(?P<type>[\w\s]+?)\s*\b(?P<name>\w+)\s*\[\s*\]"
)


def _library(source: str, kernels: Sequence[str], mode: str) -> pathlib.Path:
    flags = _MODES[mode]
    scheduler = _build((_HERE / "scheduler.cpp").read_text(), ["-O2", "-c", *flags.scheduler], ".o")
    body = _DYNAMIC_SHARED.sub(r"EMULATOR_DYNAMIC_SHARED(\g<type>, \g<name>)", source)
    entries = "".join(f"EMULATOR_KERNEL({name})\n" for name in kernels)
    text = f'#include "emulator.h"\n#line 1 "kernel.cu"\n{body}\n{entries}'
    return _build(text, ["-shared", *flags.kernel], ".so", [str(scheduler), *_LIBRARIES])


def _build(
    text: str, flags: Sequence[str], suffix: str, inputs: Sequence[str] = ()
) -> pathlib.Path:
    """The file that g++ makes of `text` and `inputs`, from the cache if it was made before."""
    key = hashlib.sha256(_toolchain_digest())
    key.update("\0".join([text, suffix, *flags, *inputs]).encode())
    target = _cache_folder() / f"{key.hexdigest()[:32]}{suffix}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=_cache_folder()) as folder:
        source, made = pathlib.Path(folder, "kernel.cpp"), pathlib.Path(folder, "made")
        source.write_text(text)
        command = [_COMPILER, *_COMMON, *_machine_flags(), *flags, f"-I{_HERE}", str(source)]
        command += [*inputs, "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise EmulationError(done.stderr)
        os.replace(made, target)  # whole or not at all, for test processes side by side
    return target


_X86_FLAGS = {"-msse4.1": "sse4_1", "-mfma": "fma"}  # and what Linux calls the feature


@functools.cache
def _machine_flags() -> tuple[str, ...]:
    """Instructions for fma and rint. On a machine without them they are calls: slower, the same."""
    if platform.machine() != "x86_64":
        return ()
    features = set(pathlib.Path("/proc/cpuinfo").read_text().split())
    return tuple(flag for flag, name in _X86_FLAGS.items() if name in features)


@functools.cache
def _cache_folder() -> pathlib.Path:
    folder = pathlib.Path(tempfile.gettempdir()) / f"graphc-cuda-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # code is loaded from here
        raise EmulationError(f"{folder} belongs to someone else")
    return folder


@functools.cache
def _toolchain_digest() -> bytes:
    """What a compiled file depends on besides its own text and flags."""
    version = subprocess.run([_COMPILER, "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + "".join(_COMMON + _machine_flags()).encode())
    for name in ("emulator.h", "fiber.h"):
        digest.update((_HERE / name).read_bytes())
    return digest.digest()


# ---- Device memory -------------------------------------------------------------------------------

_PAGE = mmap.PAGESIZE
_ALIGNMENT = 16  # of the widest vector access; up to 15 bytes lie between an array and its guard
_MARK = 0xFF  # a byte of NaN


class Buffer:
    """Device memory: the content of an array, ending at an inaccessible page.

    `array` is the live content, in the shape and dtype of the array that it was made from. The
    bytes before it in its first page, and the up to 15 after it, are marked, and looked at after
    each launch. Many launches may use a buffer; `at(bytes)` points into it.
    """

    def __init__(self, content: npt.ArrayLike) -> None:
        content = np.asarray(content)
        body = -(-max(content.nbytes, 1) // _PAGE) * _PAGE
        self._memory = mmap.mmap(-1, body + 2 * _PAGE)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for guard in (self._base, self._base + _PAGE + body):
            _forbid_page(guard)
        marked = np.frombuffer(self._memory, np.uint8, body, _PAGE)
        marked[:] = _MARK
        start = (body - content.nbytes) // _ALIGNMENT * _ALIGNMENT
        end = start + content.nbytes
        self._margins = {"before": marked[:start], "beyond": marked[end:]}
        self.nbytes = content.nbytes
        self.address = self._base + _PAGE + start
        self.bytes = marked[start:end]
        self.array = self.bytes.view(content.dtype).reshape(content.shape)
        self.array[...] = content

    @classmethod
    def empty(cls, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Buffer:
        """A buffer of NaN bytes, as memory that nobody has written yet."""
        buffer = cls(np.empty(shape, dtype))
        buffer.bytes[:] = _MARK
        return buffer

    def at(self, offset: int) -> Pointer:
        """A pointer `offset` bytes into the buffer."""
        return Pointer(self, offset)

    def read(self) -> np.ndarray:
        """A copy of the content."""
        return self.array.copy()

    def check(self, what: str) -> None:
        """Raise EmulationError, naming `what`, if the marks around the array were overwritten."""
        for side, margin in self._margins.items():
            if (margin != _MARK).any():
                margin[:] = _MARK
                raise EmulationError(f"something was written {side} {what}")

    def locate(self, address: int) -> str | None:
        """Where an address that was refused lies, if it is in one of the guard pages."""
        if not self._base <= address < self._base + len(self._memory):
            return None
        if address < self.address:
            return f"{self.address - address} bytes before the start of"
        return f"{address - self.address - self.nbytes} bytes after the end of"


@dataclass(frozen=True)
class Pointer:
    """An address inside a buffer, in bytes from its start."""

    buffer: Buffer
    offset: int


def _forbid_page(address: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect failed")


# ---- Launching -----------------------------------------------------------------------------------

Argument = np.ndarray | Buffer | Pointer | np.generic | int | float | bool


class _ParameterCode(ctypes.Structure):
    """The C++ type of one parameter; `emulator.h` has the same structure."""

    _fields_ = (("pointer", ctypes.c_char), ("kind", ctypes.c_char), ("bytes", ctypes.c_ushort))

    @property
    def is_pointer(self) -> bool:
        return self.pointer == b"*"

    @property
    def dtype(self) -> np.dtype | None:
        """Of the value, or of what is pointed to; None for a vector."""
        return None if self.kind == b"V" else np.dtype(f"{self.kind.decode()}{self.bytes}")

    def fits(self, dtype: np.dtype) -> bool:
        """Vectors take any array; elements of 8 and 16 bits may go as integers (bool, float16)."""
        if self.dtype is None or (self.is_pointer and dtype.itemsize == self.bytes <= 2):
            return True
        return self.dtype == dtype

    def __str__(self) -> str:
        return f"{self.dtype or 'vector'}{' *' if self.is_pointer else ''}"


@dataclass(frozen=True)
class _Value:
    """One word of the parameter array: a scalar's bits, or an offset in bytes into a buffer."""

    word: int
    buffer: Buffer | None = None


@dataclass(frozen=True)
class _Launch:
    """One launch, with arguments that are device memory and plain words."""

    name: str
    grid: Sequence[int]
    block: Sequence[int]
    values: Sequence[_Value]
    shared_bytes: int
    order: int
    seed: int


class Module:
    """Compiled kernel text; see `compile`."""

    def __init__(self, source: str, kernels: tuple[str, ...], mode: str) -> None:
        self.kernels = kernels
        bounds = re.findall(r"__launch_bounds__\s*\(\s*(\d+)[^)]*\)\s*(\w+)", source)
        self._max_threads = {name: int(bound) for bound, name in bounds}
        self._path = _library(source, kernels, mode)
        self._runner_flags = _MODES[mode].runner
        # A sanitized library cannot be loaded into Python. The plain one tells the types of the
        # parameters; tests have nearly always compiled it before.
        plain = _library(source, kernels, "fast") if self._runner_flags else self._path
        self._loaded = ctypes.CDLL(str(plain))
        self._loaded.emulator_message.restype = ctypes.c_char_p
        self._loaded.emulator_fault_address.restype = ctypes.c_void_p

    def launch(
        self,
        name: str,
        *,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
        order: str = "forward",
        seed: int = 0,
    ) -> None:
        """Run kernel `name` and wait for it.

        `grid` and `block` are (x, y, z). `arguments`: NumPy arrays, which are copied into fresh
        device memory and back; `Buffer`s, and pointers into them; NumPy scalars of the parameter's
        very type, or Python numbers. What is given twice is one piece of memory. A read-only array
        must come back unchanged. `shared_bytes` is dynamic shared memory. `order` says which
        threads and blocks run first, "forward", "reverse" or "lifo"; a nonzero `seed` makes the
        last one random.

        Raises TypeError for arguments that do not fit the parameters, ValueError for a launch that
        CUDA would refuse, EmulationError for a rule that the kernel broke.
        """
        if name not in self.kernels:
            raise ValueError(f"no kernel {name!r} among {', '.join(self.kernels)}")
        _check_limits(grid, block, shared_bytes, self._max_threads.get(name, _MAX_THREADS))
        copies: dict[int, tuple[np.ndarray, Buffer]] = {}
        for array in arguments:
            if isinstance(array, np.ndarray) and id(array) not in copies:
                copies[id(array)] = array, Buffer(array)
        placed = [copies[id(a)][1] if id(a) in copies else a for a in arguments]
        values = self._values(name, placed)
        launch = _Launch(name, grid, block, values, shared_bytes, _ORDER_CODES[order], seed)
        if self._runner_flags:
            self._run_apart(launch)
        else:
            self._run_here(launch)
        for position, value in enumerate(values):
            if value.buffer is not None:
                value.buffer.check(f"argument {position} of {name}")
        for array, buffer in copies.values():
            if array.flags.writeable:
                array[...] = buffer.array
            elif array.tobytes() != buffer.array.tobytes():
                raise EmulationError(f"{name} wrote to a read-only array")

    def _values(self, name: str, arguments: Sequence[Argument]) -> list[_Value]:
        """The parameter array."""
        codes = (_ParameterCode * 1024)()
        count = getattr(self._loaded, f"{name}__describe")(codes)
        if count != len(arguments):
            raise TypeError(f"{name} takes {count} arguments, {len(arguments)} were given")
        return [
            _value(code, argument, f"argument {position} of {name}")
            for position, (code, argument) in enumerate(zip(codes, arguments, strict=False))
        ]

    def _run_here(self, launch: _Launch) -> None:
        words = [v.word + (v.buffer.address if v.buffer else 0) for v in launch.values]
        memory = (ctypes.c_uint64 * len(words))(*words)
        addresses = (ctypes.addressof(memory) + 8 * i for i in range(len(words)))
        extents = ctypes.c_uint * 3
        failed = self._loaded.emulator_launch(
            getattr(self._loaded, f"{launch.name}__call"),
            (ctypes.c_void_p * len(words))(*addresses),
            extents(*launch.grid),
            extents(*launch.block),
            ctypes.c_size_t(launch.shared_bytes),
            launch.order,
            ctypes.c_uint64(launch.seed),
            ctypes.c_double(LAUNCH_SECONDS),
        )
        if not failed:
            return
        message = f"{launch.name}: {self._loaded.emulator_message().decode()}"
        address = self._loaded.emulator_fault_address() or 0
        for position, value in enumerate(launch.values):
            if value.buffer is not None and (place := value.buffer.locate(address)):
                message += f", {place} argument {position}"
        raise EmulationError(message)

    def _run_apart(self, launch: _Launch) -> None:
        """In a program of its own, which a sanitizer may end; `runner.cpp` describes the file."""
        buffers = list({id(v.buffer): v.buffer for v in launch.values if v.buffer}.values())
        words = [*launch.grid, *launch.block, launch.shared_bytes, launch.order, launch.seed]
        words += [len(buffers), len(launch.values), *(b.nbytes for b in buffers)]
        for value in launch.values:
            words += [buffers.index(value.buffer) if value.buffer else 2**64 - 1, value.word]
        contents = [b.bytes.tobytes() + bytes(-b.nbytes % 8) for b in buffers]
        flags = ["-O1", *self._runner_flags]
        runner = _build((_HERE / "runner.cpp").read_text(), flags, ".exe")
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "launch")
            file.write_bytes(np.array(words, np.uint64).tobytes() + b"".join(contents))
            done = subprocess.run(
                [*_without_address_randomisation(), runner, self._path, launch.name, file],
                capture_output=True,
                text=True,
                timeout=10 * LAUNCH_SECONDS,
                env={**os.environ, **_SANITIZER_OPTIONS},
            )
            if done.returncode:
                raise EmulationError(f"{launch.name}: {_summary(done.stderr)}\n{done.stderr}")
            returned = file.read_bytes()[8 * len(words) :]
        for buffer, content in zip(buffers, contents, strict=True):
            buffer.bytes[:] = np.frombuffer(returned, np.uint8, buffer.nbytes)
            returned = returned[len(content) :]


def _check_limits(
    grid: Sequence[int], block: Sequence[int], shared_bytes: int, max_threads: int
) -> None:
    """Refuse what cuLaunchKernel refuses with CUDA_ERROR_INVALID_VALUE."""
    for what, extents, limits in (("grid", grid, _MAX_GRID), ("block", block, _MAX_BLOCK)):
        if len(extents) != 3 or not all(1 <= e <= m for e, m in zip(extents, limits, strict=True)):
            raise ValueError(f"{what} {tuple(extents)} is not within (1, 1, 1) and {limits}")
    threads = math.prod(block)
    if threads > max_threads:
        raise ValueError(f"{threads} threads in a block, at most {max_threads} are allowed")
    if not 0 <= shared_bytes <= _MAX_SHARED_BYTES:
        raise ValueError(f"{shared_bytes} bytes of shared memory, at most {_MAX_SHARED_BYTES}")


def _value(code: _ParameterCode, argument: Argument, what: str) -> _Value:
    """The word for one argument, if it has the type of the parameter; Python numbers take it on."""
    if isinstance(argument, Buffer):
        argument = argument.at(0)
    if isinstance(argument, Pointer):
        given, is_pointer = argument.buffer.array.dtype, True
    elif isinstance(argument, np.generic):
        given, is_pointer = argument.dtype, False
    elif isinstance(argument, (int, float)) and code.dtype is not None:
        given, is_pointer = code.dtype, False
    else:
        raise TypeError(f"{what} is {argument!r}, the parameter is {code}")
    if is_pointer != code.is_pointer or not code.fits(given):
        raise TypeError(f"{what} is {given}{' *' * is_pointer}, the parameter is {code}")
    if isinstance(argument, Pointer):
        return _Value(argument.offset, argument.buffer)
    return _Value(int.from_bytes(given.type(argument).tobytes(), "little"))


_SANITIZER_OPTIONS = {
    # AddressSanitizer does not know the stacks of the fibers, so it must not move frames off them.
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    # ThreadSanitizer would wait a second at the end for threads that are still busy.
    "TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0:atexit_sleep_ms=0",
    "UBSAN_OPTIONS": "halt_on_error=1",
}


@functools.cache
def _without_address_randomisation() -> tuple[str, ...]:
    """GCC 12's ThreadSanitizer does not start where a newer kernel puts things at random."""
    command = ("setarch", "-R")
    if shutil.which(command[0]) is None or subprocess.run([*command, "true"]).returncode:
        return ()  # a container may forbid it; the sanitizer then says so itself
    return command


def _summary(report: str) -> str:
    """The one line of a sanitizer's or the emulator's report that names the fault."""
    for pattern in (r"EMULATOR: (.*)", r"runtime error: (.*)", r"SUMMARY: \w+: (.*)"):
        if match := re.search(pattern, report):
            return match[1]
    return "ended by a sanitizer"
