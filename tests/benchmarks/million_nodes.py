"""What does a graph of a million nodes cost to build, differentiate, print, pickle and free?

A chain, so that anything that recursed over the graph would fail. Processor seconds of each step,
and the peak of the process's memory after it. The first interpreter's memory is the first row.

    python tests/benchmarks/million_nodes.py [NODES]
"""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import graphc as gx


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


def main(nodes: int) -> None:
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


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
