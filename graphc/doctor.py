"""What does this installation have, and what does it do?  Versions, processor, cache, and whether calls are native."""

from __future__ import annotations

import importlib.metadata
import platform
import sys


def diagnose() -> str:
    """A readable account, one fact a line."""
    import graphc
    from graphc.codegen.machine import Machine
    from graphc.runtime.callable import call_runtime
    from graphc.runtime.engine import engine
    from graphc.runtime.threads import default_workers

    machine, shared = Machine.host(), engine()
    runtime = call_runtime(shared)
    lines = [
        f"graphc {graphc.__version__}, Python {platform.python_version()} on {sys.platform} {platform.machine()}",
        *[f"{name} {_version(name)}" for name in ("numpy", "llvmlite", "sympy", "networkx")],
        f"processor {machine.cpu}: vectors of {machine.vector_bytes} bytes, "
        f"{machine.vector_registers} registers, caches {machine.l1}, {machine.l2}, {machine.l3} bytes",
        f"threads {default_workers()}",
        f"calls: {'Python, because ' + runtime.plain_because if runtime.plain_because else 'native'}",
        f"cache: {shared.cache.folder}",
        *[f"extra {name}: {_extra(packages)}" for name, packages in _EXTRAS.items()],
    ]
    return "\n".join(lines)


_EXTRAS = {
    "examples": ("scikit-learn", "rich", "fast-sugiyama"),
    "cuda": ("cuda-bindings", "nvidia-cuda-nvrtc"),
}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _extra(packages: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {_version(name)}" for name in packages)
