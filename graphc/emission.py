"""How does a user get source text without running anything? `emit`: C, CUDA C++ or LLVM IR, and the
launch plan.

No GPU, driver or toolkit is needed. What is printed is what compiling would use: the same
rewriting, the same kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.options import Options

if TYPE_CHECKING:
    from graphc.request import Request

TARGETS = ("c", "cuda", "llvm")


def emit(
    inputs: Any,
    outputs: Any,
    target: str = "cuda",
    *,
    options: Options | None = None,
    name: str = "graph",
    donate: Sequence[Node] | Mapping[Node, int] = (),
    strided: bool | Sequence[Node] = False,
) -> Any:
    """The source of a graph's kernels for `target`: "c", "cuda" or "llvm".

    For "c" the result has `source` and `header`, the texts of `name.c` and `name.h`, which
    `save(folder)` writes: C99 that needs no library; the header documents its functions. `donate`
    names inputs that may be the array of an output, as for `compile`, and `strided` those that come
    with strides of their own; True is all others that have axes. For "cuda" the result has
    `text`, `kernels` and `plan` (which kernel runs when, on what), and `save(folder, host=True)`
    writes a launcher in C++ as well; for "llvm" it has `text`.
    `str()` of each is the text. Errors as for `compile`.
    """
    from graphc.request import prepare
    from graphc.runtime import compile as compiling

    if target not in TARGETS:
        raise ValueError(f"target is one of {TARGETS}, got {target!r}")
    request = prepare(inputs, outputs, options or Options(), donate, name)
    flags = _strided(strided, request)
    if target == "c":
        return compiling.emit_c(request, flags)
    if request.donated or any(flags):
        raise ValueError(f"donate and strided are for target 'c', not {target!r}")
    return getattr(compiling, f"emit_{target}")(request)


def _strided(strided: Any, request: Request) -> list[bool]:
    """For each input whether it comes with strides of its own."""
    symbols = request.symbols
    if isinstance(strided, bool):
        chosen = set(symbols) if strided else set()
        chosen -= {symbols[position] for position in request.donated}
    else:
        given = [strided] if isinstance(strided, Node) else list(strided)
        for node in given:
            if not isinstance(node, Node) or node not in set(symbols):
                raise GraphError(
                    f"a strided array is one of the inputs, not {shortened(repr(node))}\n"
                    "Pass the symbols: strided=[x], or strided=True for all."
                )
        chosen = set(given)
        for position in request.donated:
            if symbols[position] in chosen:
                name = request.names[position]
                raise GraphError(f"the input {name!r} is donated: it cannot have strides")
    return [symbol in chosen and len(symbol.shape) > 0 for symbol in symbols]
