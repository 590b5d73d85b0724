"""How does CUDA C++ become machine code for a device?  NVRTC compiles it once; the disk cache keeps
it.

NVRTC needs neither a GPU nor a driver, so this runs, and is tested, anywhere. What its assembler
says of registers, shared memory and spills is kept with the code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from graphc._version import __version__
from graphc.errors import CompileError
from graphc.runtime.cache import Cache
from graphc.runtime.cuda import driver as cuda_driver

# No contraction: what the text spells out as fused is, and nothing else.
OPTIONS = ("--std=c++17", "-fmad=false", "--ptxas-options=-v")
_FORMAT = 1
_TOLD = re.compile(r"ptxas +(info +:|\.)")  # lines of a log that complain of nothing


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers of a thread, shared bytes of a block, and bytes of a thread in
    local memory: its stack, and what spilled registers store and load.
    """

    registers: int
    shared_bytes: int
    stack: int
    spill_stores: int
    spill_loads: int


@dataclass(frozen=True)
class Code:
    """Machine code for an architecture ("sm_90"), or PTX ("compute_100") that the driver finishes.
    """

    arch: str
    image: bytes = field(repr=False)
    usage: Mapping[str, Usage] = field(repr=False)  # by kernel
    log: str = field(default="", repr=False)


def architecture(capability: tuple[int, int]) -> str:
    """What to compile for a device: its own architecture, or PTX of the newest that NVRTC knows.

    Raises CompileError for a device that NVRTC no longer supports.
    """
    wanted = capability[0] * 10 + capability[1]
    known = supported()
    if wanted in known:
        return f"sm_{wanted}"
    if wanted > known[-1]:
        return f"compute_{known[-1]}"
    older = [each for each in known if each < wanted and each // 10 == capability[0]]
    if older:  # code of one generation runs on its later members
        return f"sm_{older[-1]}"
    raise CompileError(
        f"the GPU is of architecture sm_{wanted}; the installed NVRTC {version()} compiles for "
        f"sm_{known[0]} to sm_{known[-1]}\n"
        "Install an nvidia-cuda-nvrtc that supports the GPU."
    )


def supported() -> tuple[int, ...]:
    """The architectures that the installed NVRTC compiles for, ascending: 90 is sm_90."""
    return tuple(sorted(_checked("nvrtcGetSupportedArchs")))


def version() -> str:
    major, minor = _checked("nvrtcVersion")
    return f"{major}.{minor}"


def compiled(text: str, arch: str, cache: Cache | None, options: Sequence[str] = ()) -> Code:
    """The code of a translation unit for `arch`: from the cache, or compiled now and kept there.

    Raises CompileError with the compiler's words for text that it refuses: a kernel that needs
    more shared memory than there is, for one.
    """
    flags = (*OPTIONS, *options)
    key = _key(text, arch, flags)
    data = cache.get(key) if cache is not None else None
    if data is not None:
        try:
            return _from_bytes(data)
        except (ValueError, KeyError, TypeError):
            pass  # of another format: compiled anew and replaced
    code = _compile(text, arch, flags)
    if cache is not None:
        cache.put(key, _to_bytes(code))
    return code


def _key(text: str, arch: str, flags: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for part in ("cuda", str(_FORMAT), __version__, version(), arch, *flags, text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))  # no two lists of parts run together
        digest.update(data)
    return digest.hexdigest()


def _to_bytes(code: Code) -> bytes:
    usage = {name: asdict(each) for name, each in code.usage.items()}
    head = json.dumps({"arch": code.arch, "usage": usage, "log": code.log})
    return head.encode() + b"\0" + code.image


def _from_bytes(data: bytes) -> Code:
    head, _, image = data.partition(b"\0")
    fields = json.loads(head)
    usage = {name: Usage(**each) for name, each in fields["usage"].items()}
    return Code(fields["arch"], image, usage, fields["log"])


def _compile(text: str, arch: str, flags: Sequence[str]) -> Code:
    nvrtc = cuda_driver.bindings().nvrtc
    program = _checked("nvrtcCreateProgram", text.encode(), b"kernels.cu", 0, [], [])
    try:
        listed = [flag.encode() for flag in (f"--gpu-architecture={arch}", *flags)]
        status = nvrtc.nvrtcCompileProgram(program, len(listed), listed)[0]
        log = _fetched(program, "ProgramLog").rstrip(b"\0").decode().strip()
        if status:
            said = [line for line in log.splitlines() if not _TOLD.match(line)]
            raise CompileError("\n".join([f"NVRTC refuses the kernels for {arch}:", *said]))
        image = _fetched(program, "PTX" if arch.startswith("compute") else "CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Code(arch, image, usage_of(log), log)


def _fetched(program: Any, what: str) -> bytes:
    buffer = bytearray(_checked(f"nvrtcGet{what}Size", program))
    _checked(f"nvrtcGet{what}", program, buffer)
    return bytes(buffer)


def _checked(name: str, *arguments: Any) -> Any:
    nvrtc = cuda_driver.bindings().nvrtc
    try:
        status, *values = getattr(nvrtc, name)(*arguments)
    except (RuntimeError, OSError) as error:  # the first call loads the library
        raise CompileError(
            f"NVRTC is not installed: pip install nvidia-cuda-nvrtc\n{error}"
        ) from None
    if status:
        raise CompileError(f"{name}: {nvrtc.nvrtcGetErrorString(status)[1].decode()}")
    return values[0] if len(values) == 1 else tuple(values)


def usage_of(log: str) -> dict[str, Usage]:
    """What the assembler reports of each kernel."""
    reports = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return {
        name: Usage(
            _number(report, r"Used (\d+) registers"),
            _number(report, r"(\d+) bytes smem"),
            _number(report, r"(\d+) bytes stack frame"),
            _number(report, r"(\d+) bytes spill stores"),
            _number(report, r"(\d+) bytes spill loads"),
        )
        for name, report in zip(reports[::2], reports[1::2], strict=True)
    }


def _number(report: str, pattern: str) -> int:
    match = re.search(pattern, report)
    return int(match[1]) if match else 0  # what is zero is left out


__all__ = ["Code", "Usage", "architecture", "compiled", "supported", "usage_of", "version"]
