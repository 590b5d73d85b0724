"""What does CUDA C++ kernel text compute, and does it break a rule of CUDA on the way?

A module is compiled by g++ from the text that NVRTC would get, `emulator.h` before it and one exported
entry for each kernel after it. It is launched with NumPy arrays, under several orders of the threads:
text whose result depends on the order lacks a barrier. Three modes look at different faults: `fast` (guard pages
around each array; in this process), `asan` (each byte out of bounds, misaligned vectors, undefined
arithmetic) and `tsan` (data races), the last two in a program of their own, about 0.1 s a launch.

Linux with g++ only; elsewhere `reason_missing()` says so and `required` skips the test.
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
import pytest

_HERE = pathlib.Path(__file__).parent
_COMPILER = "g++"
_ORDERS = ("forward", "reverse", "lifo")
_MAX_THREADS, _MAX_BLOCK = 1024, (1024, 1024, 64)
_MAX_GRID = (2**31 - 1, 2**16 - 1, 2**16 - 1)
_MAX_SHARED_BYTES = 227 * 1024  # static and dynamic together, on sm_90
LAUNCH_SECONDS = 60.0

#: Orders (and seeds of the random one) that between them show every missing barrier of the tests.
ORDERS = (("forward", 0), ("reverse", 0), ("lifo", 0), ("lifo", 1))


class EmulationError(RuntimeError):
    """The text did not compile, or a launch broke a rule of CUDA; the message says where."""


# ---- Compiling -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mode:
    """How the kernel text and the scheduler are compiled."""

    flags: tuple[str, ...]
    scheduler_flags: tuple[str, ...] = ()
    sanitizers: tuple[str, ...] = ()  # for every link, and for the runner


def _machine_flags() -> tuple[str, ...]:
    """x86-64 has no fused multiply-add before Haswell; without it `fmaf` is a slow call, and as right."""
    if platform.machine() != "x86_64":
        return ()
    words = pathlib.Path("/proc/cpuinfo").read_text().split()
    return tuple(f"-m{name}" for name in ("sse4.1", "fma") if name.replace(".", "_") in words)


# CUDA text reads float arrays through float4 pointers, hence no strict aliasing. Contraction is off so
# that the fused operations are those of the text, as NVRTC compiles it with -fmad=false.
_COMMON = (
    "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing",
    "-fno-math-errno", "-U_FORTIFY_SOURCE", "-Werror=return-type", "-Werror=uninitialized",
)  # fmt: skip
_ASAN = ("-fsanitize=address,undefined",)
_TSAN = ("-fsanitize=thread",)
_MODES = {
    "fast": _Mode(("-O1",)),
    "portable": _Mode(("-O1",), ("-DEMULATOR_UCONTEXT",)),  # the fibers of other machines
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
        return "the CUDA emulator needs Linux (ELF sections, guard pages)"
    if shutil.which(_COMPILER) is None:
        return f"the CUDA emulator needs {_COMPILER}"
    return None


#: Marks a test (or a module, as `pytestmark`) that is skipped, with the reason, where g++ is missing.
required = pytest.mark.skipif(reason_missing() is not None, reason=str(reason_missing()))


@functools.cache
def _cache_folder() -> pathlib.Path:
    folder = pathlib.Path(tempfile.gettempdir()) / f"graphc-cuda-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # code is loaded from here
        raise EmulationError(f"{folder} belongs to someone else")
    return folder


@functools.cache
def _toolchain_digest() -> bytes:
    """What a cached object depends on besides its own text and flags."""
    digest = hashlib.sha256()
    version = subprocess.run([_COMPILER, "--version"], capture_output=True, check=True).stdout
    digest.update(version)
    for name in ("emulator.h", "fiber.h", "scheduler.cpp", "runner.cpp"):
        digest.update((_HERE / name).read_bytes())
    return digest.digest()


def _build(text: str, flags: Sequence[str], suffix: str, inputs: Sequence[pathlib.Path] = ()) -> pathlib.Path:
    """The file that g++ makes of `text` and `inputs`, from the cache if it was made before."""
    key = hashlib.sha256(_toolchain_digest())
    key.update("\0".join([text, suffix, *flags, *map(str, inputs)]).encode())
    target = _cache_folder() / f"{key.hexdigest()[:32]}{suffix}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=_cache_folder()) as folder:
        source = pathlib.Path(folder, "kernel.cpp")
        source.write_text(text)
        made = pathlib.Path(folder, "made")
        command = [_COMPILER, *_COMMON, *_machine_flags(), *flags, f"-I{_HERE}", str(source)]
        command += [*map(str, inputs), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise EmulationError(done.stderr)
        os.replace(made, target)  # whole or not at all, for test processes side by side
    return target


_DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s+)?([\w\s]+?)\s*\b(\w+)\s*\[\s*\]"
)


def _library(source: str, kernels: Sequence[str], mode: str) -> pathlib.Path:
    how = _MODES[mode]
    scheduler_text = (_HERE / "scheduler.cpp").read_text()
    scheduler = _build(scheduler_text, ["-O2", "-c", *how.scheduler_flags], ".o")
    body = _DYNAMIC_SHARED.sub(r"EMULATOR_DYNAMIC_SHARED(\1, \2)", source)
    entries = "".join(f"EMULATOR_KERNEL({name})\n" for name in kernels)
    text = f'#include "emulator.h"\n#line 1 "kernel.cu"\n{body}\n{entries}'
    return _build(text, ["-shared", *how.flags], ".so", [scheduler])


def compile(source: str, kernels: Sequence[str], mode: str = "fast") -> Module:
    """Compile CUDA C++ `source` for the CPU.

    `kernels` names its `extern "C" __global__` functions. `mode` is "fast", "asan", "tsan", or "portable"
    (as fast, with ucontext for the fibers). Results are cached in the temporary folder, by text.
    Raises EmulationError with g++'s message.
    """
    return Module(source, tuple(kernels), mode)


# ---- Memory --------------------------------------------------------------------------------------

_GUARD = mmap.PAGESIZE
_ALIGNMENT = 16  # of the widest vector access; so up to 15 bytes lie between an array and its guard
_MARK = 0xFF  # a byte of NaN


class Buffer:
    """Device memory: an array that ends at an inaccessible page.

    The bytes before it in its first page, and the up to 15 after it, are marked and compared after each
    launch. `array` is the live content, in the shape and dtype that the buffer was made from. A buffer
    may be used by many launches; `at(bytes)` points into it.
    """

    def __init__(self, content: np.ndarray) -> None:
        content = np.asarray(content)
        body = -(-max(content.nbytes, 1) // _GUARD) * _GUARD
        self._memory = mmap.mmap(-1, body + 2 * _GUARD)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for guard in (base, base + _GUARD + body):
            _protect(guard, _GUARD)
        self._body = np.frombuffer(self._memory, np.uint8, body, _GUARD)
        self._body[:] = _MARK
        self._start = (body - content.nbytes) // _ALIGNMENT * _ALIGNMENT
        self.nbytes = content.nbytes
        self.address = base + _GUARD + self._start
        self._low, self._high = base, base + body + 2 * _GUARD
        self.bytes = self._body[self._start : self._start + content.nbytes]
        self.array = self.bytes.view(content.dtype).reshape(content.shape)
        self.array[...] = content

    @classmethod
    def empty(cls, shape: int | tuple[int, ...], dtype: np.typing.DTypeLike) -> Buffer:
        """A buffer of NaN bytes, as device memory that nobody has written yet."""
        return cls(np.full(math.prod(np.atleast_1d(shape)) * np.dtype(dtype).itemsize, 0xFF, np.uint8)
                   .view(dtype).reshape(shape))  # fmt: skip

    def at(self, offset: int) -> Pointer:
        """A pointer `offset` bytes into the buffer."""
        return Pointer(self, offset)

    def read(self) -> np.ndarray:
        """A copy of the content."""
        return self.array.copy()

    def check(self, what: str) -> None:
        """Raise EmulationError if the marks around the array were overwritten."""
        end = self._start + self.nbytes
        for side, marks in (("before", self._body[: self._start]), ("beyond", self._body[end:])):
            if (marks != _MARK).any():
                raise EmulationError(f"something was written {side} {what}")

    def locate(self, address: int) -> str | None:
        """Where a faulting address lies, if it is near this buffer."""
        if not self._low <= address < self._high:
            return None
        if address < self.address:
            return f"{self.address - address} bytes before"
        return f"{address - self.address - self.nbytes} bytes after the end of"


@dataclass(frozen=True)
class Pointer:
    """An address inside a buffer, in bytes from its start."""

    buffer: Buffer
    offset: int


_C = ctypes.CDLL(None, use_errno=True)


def _protect(address: int, length: int) -> None:
    if _C.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), 0):
        raise OSError(ctypes.get_errno(), "mprotect failed")


# ---- Launching -----------------------------------------------------------------------------------


class _ParameterCode(ctypes.Structure):
    """The C++ type of one parameter; `emulator.h` has the same structure."""

    _fields_ = (("pointer", ctypes.c_char), ("kind", ctypes.c_char), ("bytes", ctypes.c_ushort))

    @property
    def is_pointer(self) -> bool:
        return self.pointer == b"*"

    @property
    def dtype(self) -> np.dtype | None:
        """Of the value or of what is pointed to; None for a vector or a struct."""
        return None if self.kind == b"V" else np.dtype(f"{self.kind.decode()}{self.bytes}")

    def fits(self, dtype: np.dtype) -> bool:
        """Arrays of 8- and 16-bit elements travel as integers (bool, float16), vectors as their elements."""
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
    """One launch whose arguments are device memory and plain words."""

    name: str
    grid: Sequence[int]
    block: Sequence[int]
    values: Sequence[_Value]
    shared_bytes: int
    order: int
    seed: int


Argument = np.ndarray | Buffer | Pointer | np.generic | int | float | bool


class Module:
    """Compiled kernel text; see `compile`."""

    def __init__(self, source: str, kernels: tuple[str, ...], mode: str) -> None:
        self.kernels = kernels
        self._launch_bounds = {
            name: int(bound)
            for bound, name in re.findall(r"__launch_bounds__\s*\(\s*(\d+)[^)]*\)\s*(\w+)", source)
        }
        self._library = _library(source, kernels, mode)
        self._sanitizers = _MODES[mode].sanitizers
        # A sanitized library cannot be loaded into Python. The parameter types come from the plain one,
        # which tests have nearly always compiled before.
        plain = _library(source, kernels, "fast") if self._sanitizers else self._library
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

        `grid` and `block` are (x, y, z). `arguments`: NumPy arrays, which are copied into fresh device memory
        and back; `Buffer`s and pointers into them; NumPy scalars of the parameter's very type, or Python
        numbers. An array or buffer given twice is one piece of memory. A read-only array must come back
        unchanged. `shared_bytes` is dynamic shared memory. `order` says which threads and blocks run
        first: "forward", "reverse" or "lifo"; a nonzero `seed` makes the last one random.

        Raises TypeError for arguments that do not fit the parameters, ValueError for a launch that
        CUDA would refuse, EmulationError for a rule that the kernel broke.
        """
        if name not in self.kernels:
            raise ValueError(f"no kernel {name!r} among {', '.join(self.kernels)}")
        _check_limits(grid, block, shared_bytes, self._launch_bounds.get(name, _MAX_THREADS))
        copies: dict[int, tuple[np.ndarray, Buffer]] = {}
        values = self._values(name, arguments, copies)
        launch = _Launch(name, grid, block, values, shared_bytes, _ORDERS.index(order), seed)
        if self._sanitizers:
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

    def _values(
        self,
        name: str,
        arguments: Sequence[Argument],
        copies: dict[int, tuple[np.ndarray, Buffer]],
    ) -> list[_Value]:
        """The parameter array; arrays get a buffer in `copies`, by identity."""
        codes = (_ParameterCode * 256)()
        count = getattr(self._loaded, f"{name}__describe")(codes)
        if count != len(arguments):
            raise TypeError(f"{name} takes {count} arguments, {len(arguments)} were given")
        values = []
        for position, (code, argument) in enumerate(zip(codes, arguments, strict=False)):
            if isinstance(argument, np.ndarray):
                if id(argument) not in copies:
                    copies[id(argument)] = argument, Buffer(argument)
                argument = copies[id(argument)][1]
            if isinstance(argument, Buffer):
                argument = argument.at(0)
            given = argument.buffer.array.dtype if isinstance(argument, Pointer) else None
            if isinstance(argument, np.generic):
                given = argument.dtype
            elif given is None and code.dtype is not None:
                argument, given = code.dtype.type(argument), code.dtype
            if isinstance(argument, Pointer) != code.is_pointer or given is None or not code.fits(given):
                raise TypeError(f"argument {position} of {name} is {given}, the parameter is {code}")
            if isinstance(argument, Pointer):
                values.append(_Value(argument.offset, argument.buffer))
            else:
                values.append(_Value(int.from_bytes(argument.tobytes(), "little")))
        return values

    def _run_here(self, launch: _Launch) -> None:
        words = (ctypes.c_uint64 * max(len(launch.values), 1))(
            *(v.word + (v.buffer.address if v.buffer else 0) for v in launch.values)
        )
        pointers = (ctypes.c_void_p * len(words))(
            *(ctypes.addressof(words) + 8 * i for i in range(len(words)))
        )
        extents = ctypes.c_uint * 3
        failed = self._loaded.emulator_launch(
            getattr(self._loaded, f"{launch.name}__call"),
            pointers,
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
                message += f": {place} argument {position}"
        raise EmulationError(message)

    def _run_apart(self, launch: _Launch) -> None:
        """In a program of its own, which a sanitizer may end: see `runner.cpp` for the file."""
        buffers = list({id(v.buffer): v.buffer for v in launch.values if v.buffer}.values())
        words = [*launch.grid, *launch.block, launch.shared_bytes, launch.order, launch.seed]
        words += [len(buffers), len(launch.values), *(b.nbytes for b in buffers)]
        for value in launch.values:
            words += [buffers.index(value.buffer) if value.buffer else 2**64 - 1, value.word]
        contents = [b.bytes.tobytes() + bytes(-b.nbytes % 8) for b in buffers]
        runner = _build((_HERE / "runner.cpp").read_text(), ["-O1", *self._sanitizers], ".exe")
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "launch")
            file.write_bytes(np.array(words, np.uint64).tobytes() + b"".join(contents))
            command = [*_without_address_randomisation(), runner, self._library, launch.name, file]
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=5 * LAUNCH_SECONDS,
                env={**os.environ, **_SANITIZER_OPTIONS},
            )
            if done.returncode:
                raise EmulationError(f"{launch.name}: {_summary(done.stderr)}\n{done.stderr}")
            returned = file.read_bytes()[8 * len(words) :]
        for buffer, content in zip(buffers, contents, strict=True):
            buffer.bytes[:] = np.frombuffer(returned, np.uint8, buffer.nbytes)
            returned = returned[len(content) :]


_SANITIZER_OPTIONS = {
    # The fibers' stacks are none that AddressSanitizer knows.
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    "TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0:atexit_sleep_ms=0:history_size=0",
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
    for pattern in (r"EMULATOR: (.*)", r"SUMMARY: \w+: (.*)", r"runtime error: (.*)"):
        if match := re.search(pattern, report):
            return match[1]
    return "ended by a sanitizer"


def _check_limits(
    grid: Sequence[int], block: Sequence[int], shared_bytes: int, max_threads: int
) -> None:
    """What cuLaunchKernel refuses with CUDA_ERROR_INVALID_VALUE."""
    for what, extents, limits in (("grid", grid, _MAX_GRID), ("block", block, _MAX_BLOCK)):
        if len(extents) != 3 or not all(1 <= e <= m for e, m in zip(extents, limits, strict=True)):
            raise ValueError(f"{what} {tuple(extents)} is not within (1, 1, 1) and {limits}")
    if math.prod(block) > max_threads:
        raise ValueError(f"{math.prod(block)} threads in a block, at most {max_threads} are allowed")
    if not 0 <= shared_bytes <= _MAX_SHARED_BYTES:
        raise ValueError(f"{shared_bytes} bytes of shared memory, at most {_MAX_SHARED_BYTES}")
