"""What does a graph of a million nodes cost to build, differentiate, print, pickle, compile, free?

A chain, so that anything that recursed over the graph would fail. Processor seconds of each step,
and the peak of the process's memory after it. The first interpreter's memory is the first row.

Last a chain of as many multiplications and additions of small vectors is compiled, which takes
minutes: `--compile NODES` says how long it is to be, 0 leaves it out. Its values are compared with
the evaluator's.

    python tests/benchmarks/million_nodes.py [NODES] [--compile NODES]
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gx
from graphc.options import Options


def peak_bytes() -> float:
    """The largest resident size of this process so far; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else peak * 1024.0


def step(name: str, action: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = action()
    note = f"   {len(result) / 1e6:.0f} MB" if isinstance(result, str | bytes) else ""
    print(
        f"{name:<28}{time.process_time() - start:>10.2f}{peak_bytes() / 1e9:>10.2f}{note}",
        flush=True,
    )
    return result


def chain(x: gx.Node, length: int) -> gx.Node:
    for _ in range(length):
        x = gx.tanh(x)
    return x


def recurrence(x: gx.Node, length: int) -> gx.Node:
    y = x
    for _ in range(length // 2):
        y = y * 0.999 + x
    return y


def compile_and_compare(nodes: int) -> None:
    """Compile without the cache, and say what of it took how long."""
    x = gx.vector("x", 4)
    y = recurrence(x, nodes)
    print(f"\na recurrence of {nodes:,} nodes on vectors")
    compiled = step("compile", lambda: gx.compile([x], y, options=Options(cache=False)))
    report = str(compiled.report()).partition("rewrites fired")[0]
    print(report, f"kernels: {len(compiled.kernels)}")
    given = np.linspace(-1, 1, 4)
    same = np.allclose(compiled(given), gx.evaluate(y, {x: given}), rtol=1e-10)
    print(f"the values are the evaluator's: {same}")


def main(nodes: int, compiled: int) -> None:
    x = gx.scalar("x")
    gx.tanh(x)
    print(f"a chain of {nodes:,} nodes")
    print(f"{'step':<28}{'seconds':>10}{'peak GB':>10}")
    step("start", lambda: None)
    held: dict[str, Any] = {"y": step("build", lambda: chain(x, nodes))}
    held["gradient"] = step("gradient", lambda: gx.grad(held["y"], x))
    step("print", lambda: str(held["y"]))
    held["pickled"] = step("pickle", lambda: pickle.dumps(held["y"]))
    same = step("unpickle (interned again)", lambda: pickle.loads(held["pickled"])) is held["y"]
    del held["pickled"]
    step("free the gradient", lambda: held.__delitem__("gradient"))
    step("free", lambda: held.__delitem__("y"))
    print(f"unpickling gave the same node: {same}")

    if compiled:
        compile_and_compare(compiled)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--compile", type=int, default=1_000_000, metavar="NODES")
    arguments = parser.parse_args()
    main(arguments.nodes, arguments.compile)
