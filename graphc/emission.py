"""How does a user get source text without running anything? `emit`: C, CUDA C++ or LLVM IR, and the
launch plan.

No GPU, driver or toolkit is needed. What is printed is what compiling would use: the same
rewriting, the same kernels.
"""

from __future__ import annotations

from typing import Any

from graphc.options import Options

TARGETS = ("c", "cuda", "llvm")


def emit(
    inputs: Any,
    outputs: Any,
    target: str = "cuda",
    *,
    options: Options | None = None,
    name: str = "graph",
) -> Any:
    """The source of a graph's kernels for `target`: "c", "cuda" or "llvm".

    For "c" the result has `source` and `header`, the texts of `name.c` and `name.h`, which
    `save(folder)` writes: C99 that needs no library; the header documents its functions. For
    "cuda" the result has `text`, `kernels` and `plan` (which kernel runs when, on what); for
    "llvm" it has `text`. `str()` of each is the text. Errors as for `compile`.
    """
    from graphc.request import prepare
    from graphc.runtime import compile as compiling

    if target not in TARGETS:
        raise ValueError(f"target is one of {TARGETS}, got {target!r}")
    request = prepare(inputs, outputs, options or Options(), (), name)
    return getattr(compiling, f"emit_{target}")(request)
