"""What does this installation have, and what does it do?

Versions, processor, threads, cache, and whether calls are native.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

_REQUIRED = ("numpy", "llvmlite", "sympy", "networkx")
# What each extra of setup.cfg brings.
_EXTRAS = {
    "examples": ("scikit-learn", "rich", "fast-sugiyama"),
    "scipy": ("scipy",),
    "bfloat16": ("ml_dtypes",),
    "cuda": ("cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-nvdisasm"),
    "cublas": ("nvmath-python", "nvidia-cublas"),
}


def diagnose() -> str:
    """A readable account, one fact a line."""
    import graphc
    from graphc.codegen.machine import Machine
    from graphc.runtime.cuda.support import missing
    from graphc.runtime.engine import engine
    from graphc.runtime.shared import call_runtime
    from graphc.runtime.threads import default_workers

    machine, shared = Machine.host(), engine()
    runtime = call_runtime(shared)
    facts = {
        "graphc": f"{graphc.__version__} in {graphc.__path__[0]}",
        "Python": f"{platform.python_version()} on {sys.platform} {platform.machine()}",
        **{name: _version(name) for name in _REQUIRED},
        "processor": f"{machine.cpu}, vectors of {machine.vector_bytes} bytes, "
        f"{machine.vector_registers} of them",
        "CPU caches": f"{machine.l1}, {machine.l2}, {machine.l3} bytes",
        "threads": str(default_workers()),
        "calls": f"Python, because {runtime.plain_because}" if runtime.plain_because else "native",
        "code cache": _cache(shared.cache),
        "last plan made": _last_miss(shared.cache),
        'target "cuda"': "; ".join(missing()) or "can run here",
        **{f"extra {name}": _extra(packages) for name, packages in _EXTRAS.items()},
    }
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name:<{width}}{fact}" for name, fact in facts.items())


def _cache(cache: Any) -> str:
    """Where compiled code is kept, how much of it, and whether more can be."""
    if cache is None or cache.folder is None:
        return "none: this platform names no folder for caches"
    key = "0" * 64  # of no graph: what is written here is found again, or says why not
    kept = cache.put(key, b"graphc doctor")
    story = f"{cache.folder}, {cache.size_bytes() / 1e6:.1f} MB"
    if not kept:
        return f"{story}; cannot be written: {cache.stats.last_error}"
    found = cache.explain(key)
    return story if found.state == "present" else f"{story}; {found.state}: {found.detail}"


def _last_miss(cache: Any) -> str:
    """The last Function that the cache did not have, and why."""
    from graphc.runtime.miss import last_miss

    return cache is not None and last_miss(cache) or "none that the cache knows of"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _extra(packages: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {_version(name)}" for name in packages)
