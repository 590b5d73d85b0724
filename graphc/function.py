"""How does a graph become a Function?  The whole pipeline, each step one line of `_compile`.

Close the graph over its inputs, rewrite it, lower it to a program, compile the program, and put a
callable object over it. The Function keeps the graph as it was written, what rewriting did, the
kernels and the times of all phases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc import tracing
from graphc.collector import paused
from graphc.node import Node
from graphc.options import Options
from graphc.request import prepare

TARGETS = ("cpu", "interpret", "cuda")


@paused()
def compile(  # noqa: A001
    inputs: Any,
    outputs: Any,
    *,
    target: str = "cpu",
    options: Options | None = None,
    donate: Sequence[Node] | Mapping[Node, int] = (),
    name: str = "f",
) -> Any:
    """A Function that computes `outputs` from arrays for `inputs`.

    `inputs` are symbols in a list, or nested in containers; `outputs` are nodes, likewise.
    `target`: "cpu" (native code), "cuda" (a GPU; arrays on one stay there, by DLPack or
    `__cuda_array_interface__`), or "interpret" (the kernel interpreter). `donate` names inputs
    whose arrays may be overwritten: each is given to the first output of its type, or to the
    position that a mapping states.

    Raises `GraphError` for inputs that are no symbols or symbols that were not passed,
    `CompileError` for a graph that cannot be compiled.
    """
    from graphc.runtime.compile import compile_cpu, compile_interpreted

    if target not in TARGETS:
        raise ValueError(f"target is one of {TARGETS}, got {target!r}")
    make = compile_interpreted if target == "interpret" else compile_cpu
    if target == "cuda":
        from graphc.runtime.cuda.support import compile_cuda

        make = compile_cuda
    with tracing.entered(None):  # a function may be compiled while another is traced
        return make(prepare(inputs, outputs, options or Options(), donate, name))
