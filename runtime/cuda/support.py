"""Can `target="cuda"` run here, and if not, what is missing?  Said in full, before anything is
compiled.

The kernels, the plan and a launcher in C++ need no GPU: `gx.emit`. To run them here takes the
driver, a device, and the bindings of the [cuda] extra; what of these is there is looked up when
somebody asks, in that order. What then runs them is compiled by NVRTC and has been executed by a
CPU emulator behind a stand-in for the driver; it has not run on a GPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphc.errors import CompileError

if TYPE_CHECKING:
    from graphc.request import Request

_DRIVER = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_EMIT = (
    "gx.emit(inputs, outputs, target='cuda') gives the CUDA C++ source and the launch plan all the "
    "same, and .save(folder, host=True) a launcher for C++."
)


def compile_cuda(request: Request) -> Any:
    """The Function of a request, for a GPU; raises CompileError, saying why, where none can run it.
    """
    found = missing()
    if found:
        raise CompileError(refusal(found))
    from graphc.runtime.cuda.function import compile_cuda as compile_for_device

    return compile_for_device(request)


def missing() -> list[str]:
    """What keeps this machine from running CUDA programs, in words; empty if nothing does."""
    return list(_missing())


def refusal(found: Sequence[str]) -> str:
    """Why `target="cuda"` is refused, and what can be done."""
    return "\n".join(['target="cuda" cannot run here:', *(f"- {each}" for each in found), _EMIT])


def _missing() -> Iterator[str]:
    name = _DRIVER.get(sys.platform)
    if name is None:
        yield f"there is no CUDA driver for {sys.platform}"
        return
    devices = _devices(name)
    if devices is None:
        yield f"the NVIDIA driver ({name}) is not installed"
    elif devices == 0:
        yield "the NVIDIA driver finds no GPU"
    if not _is_installed("cuda.bindings"):
        yield "cuda-bindings is not installed: pip install 'graphc-compiler[cuda]'"


def _is_installed(module: str) -> bool:
    package, _, _ = module.partition(".")
    return importlib.util.find_spec(package) is not None and (
        importlib.util.find_spec(module) is not None
    )


def _devices(library: str) -> int | None:
    """How many GPUs the driver finds; None without a driver."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


__all__ = ["compile_cuda", "missing", "refusal"]
