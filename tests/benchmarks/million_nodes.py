"""What does a graph of a million nodes cost to build, differentiate, print, pickle, compile, free?

A chain, so that anything that recursed over the graph would fail. Processor seconds of each step,
and the peak of the process's memory after it. The first interpreter's memory is the first row.

Last graphs of as many nodes are compiled, which takes minutes, and a tenth of each: a recurrence on
small vectors, which is regular; a graph without any regularity, of sums, products, sines, tangents
and exponentials of what was made before, on small vectors; the same on numbers, differentiated.
`--compile NODES` says how large they are to be, 0 leaves them out. Their values are compared with
the evaluator's, and the seconds of the whole with those of the tenth.

    python tests/benchmarks/million_nodes.py [NODES] [--compile NODES]
"""

from __future__ import annotations

import argparse
import pickle
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gx
from graphc.node import topological
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


def recurrence(leaf: gx.Node, length: int) -> list[gx.Node]:
    y = leaf
    for _ in range(length // 2):
        y = y * 0.999 + leaf
    return [y]


def irregular(leaf: gx.Node, length: int) -> list[gx.Node]:
    """A graph of about `length` nodes, each of one or two of the last forty."""
    chance = random.Random(length)
    made = [leaf, leaf * 0.5, leaf + 1.0]
    while len(made) < 0.7 * length:
        x, y = (made[-chance.randint(1, min(40, len(made)))] for _ in range(2))
        made.append(chance.choice(STEPS)(x, y))
    return [sum(made[-8:])]


STEPS: tuple[Callable[[gx.Node, gx.Node], gx.Node], ...] = (
    *(lambda x, y: (x + y) * 0.5, lambda x, y: x * y * 0.5, lambda x, y: x - y) * 2,
    *(lambda x, _: gx.sin(x), lambda x, _: gx.tanh(x), lambda x, _: gx.exp(-x * x)),
)


def gradient(leaf: gx.Node, length: int) -> list[gx.Node]:
    """An irregular graph and its gradient, of about `length` nodes together."""
    (y,) = irregular(leaf, length // 4)
    return [y, gx.grad(y, leaf)]


def compiled_in(build: Callable[[gx.Node, int], list[gx.Node]], leaf: gx.Node, size: int) -> float:
    """Processor seconds of building and compiling without the cache, and what of it took how long.
    """
    start = time.process_time()
    outputs = build(leaf, size)
    nodes = len(topological(outputs))
    compiled = gx.compile([leaf], outputs, options=Options(cache=False))
    seconds = time.process_time() - start
    phases = ", ".join(f"{name} {s:.1f}" for name, s in compiled.recorder.phases().items())
    print(f"{nodes:>12,}{seconds:>10.2f}{peak_bytes() / 1e9:>10.2f}   {phases}", flush=True)
    given = np.linspace(-1, 1, 4) if leaf.shape else np.float64(0.3)
    wanted = gx.evaluate(outputs, {leaf: given})
    same = all(map(np.allclose, compiled(given), wanted))
    if not same:
        print("the values are not those of the evaluator")
    return seconds / nodes


def compile_and_compare(nodes: int) -> None:
    cases = {
        "a recurrence on vectors": (recurrence, gx.vector("x", 4)),
        "an irregular graph on vectors": (irregular, gx.vector("x", 4)),
        "an irregular graph of numbers, and its gradient": (gradient, gx.scalar("s")),
    }
    for title, (build, leaf) in cases.items():
        print(f"\n{title}\n{'nodes':>12}{'seconds':>10}{'peak GB':>10}   wall seconds of phases")
        small, large = (compiled_in(build, leaf, size) for size in (nodes // 10, nodes))
        print(f"seconds for a node, beside those in a tenth of the graph: {large / small:.2f}")


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
