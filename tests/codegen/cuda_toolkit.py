"""Where are NVIDIA's compiler and headers?  Those of an installed toolkit, or of the pip wheels."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path


def _roots() -> Iterator[Path]:
    """Folders that have `bin` and `include`: the wheels', which are of one version, come first."""
    found = importlib.util.find_spec("nvidia")
    for folder in [] if found is None else found.submodule_search_locations or []:
        yield from sorted(Path(folder).glob("cu[0-9]*"))
    yield from sorted(Path("/usr/local").glob("cuda*"), reverse=True)


@functools.cache
def include_folder(header: str) -> Path | None:
    """The folder that holds a header."""
    return next((r / "include" for r in _roots() if (r / "include" / header).exists()), None)


@functools.cache
def nvcc() -> tuple[str, ...] | None:
    """The command that starts nvcc, with what it must be told: a toolkit's, or the wheels'."""
    installed = shutil.which("nvcc")
    if installed is not None:
        return (installed,)
    for root in _roots():
        parts = ("bin/nvcc", "nvvm/bin/cicc", "include/cuda_runtime.h", "lib/libcudart_static.a")
        if all((root / part).exists() for part in parts):
            return str(root / "bin" / "nvcc"), f"-L{root / 'lib'}"
    return None


__all__ = ["include_folder", "nvcc"]
