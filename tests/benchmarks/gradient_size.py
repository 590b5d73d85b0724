"""How many times larger is a graph with its gradient than the graph that was differentiated?

    python tests/benchmarks/gradient_size.py

After rewriting, over what was written: nodes, and element operations over those of the rewritten
value (`graphc.rewrite.size` says what is counted). For every workload with a gradient, ADBench's
problems and the functions that the examples compile. The bar is 4 for both.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import numpy as np  # noqa: E402
import workloads  # noqa: E402
from adbench import ba, gmm, hand, lstm  # noqa: E402

import graphc as gx  # noqa: E402
from graphc.rewrite.size import Growth, growth  # noqa: E402
from graphc.tree import flatten  # noqa: E402

BAR = 4.0
Found = Iterator[tuple[str, "Growth | None"]]


def nodes_of(outputs: Any) -> list[gx.Node]:
    return [leaf for leaf in flatten(outputs)[0] if isinstance(leaf, gx.Node)]


def of_workloads() -> Found:
    for module in sorted(m.name for m in pkgutil.iter_modules(workloads.__path__)):
        workload = importlib.import_module(f"workloads.{module}")
        build = getattr(workload, "of_graphc", None)
        for variant in workload.VARIANTS if build else ():
            arrays = {k: np.asarray(v) for k, v in workload.inputs(variant).items()}
            symbols = {k: gx.symbol(k, v.shape, v.dtype.name) for k, v in arrays.items()}
            try:
                outputs = nodes_of(build(variant=variant, **symbols))
            except (TypeError, gx.GraphError):
                continue  # it is made of some of the inputs only
            yield f"{module} {variant}", growth(outputs)


def of_adbench() -> Found:
    """Gradients of the problems' values; where they are many, of the sum of their squares."""
    k, d, n = 5, 4, 100
    parameters = {"alpha": (k,), "mu": (k, d), "q": (k, d), "l": (k, d * (d - 1) // 2)}
    symbols = {name: gx.symbol(name, shape) for name, shape in parameters.items()}
    value = gmm.of_graphc(**symbols, x=gx.symbol("x", (n, d)), gamma=1.0, m=0)
    yield "adbench gmm", growth([value, *nodes_of(gx.grad(value, symbols))])

    main, extra = gx.symbol("main", (4, 56)), gx.symbol("extra", (3, 14))
    value = lstm.of_graphc(main, extra, gx.symbol("state", (4, 14)), gx.symbol("text", (100, 14)))
    yield "adbench lstm", growth([value, *gx.grad(value, [main, extra])])

    camera, point, feature = gx.vector("camera", 11), gx.vector("point", 3), gx.vector("feature", 2)
    weight = gx.scalar("weight")
    seen = ba.residual(gx, camera, point, weight, feature)
    value = seen[0] * seen[0] + seen[1] * seen[1]
    yield "adbench ba", growth([value, *gx.grad(value, [camera, point, weight])])

    values = _a_hand()
    theta = gx.vector("theta", 26)
    value = gx.sum(hand.of_graphc(theta, **values) ** 2)
    yield "adbench hand", growth([value, gx.grad(value, theta)])


def _a_hand() -> dict[str, Any]:
    bones, vertices, points = 22, 40, 30
    parents = [-1, *(0 if i % 4 == 1 else i - 1 for i in range(1, 21)), 0]
    shapes = {"relatives": (bones, 4, 4), "inverses": (bones, 4, 4), "positions": (vertices, 4)}
    shapes |= {"weights": (vertices, bones), "measured": (points, 3)}
    symbols = {name: gx.symbol(name, shape) for name, shape in shapes.items()}
    whole = {"triangles": (vertices, 3), "correspondences": (points,)}
    symbols |= {name: gx.symbol(name, shape, "int64") for name, shape in whole.items()}
    return {**symbols, "parents": parents}


def of_examples() -> Found:
    """Of every function that a page compiles."""
    compiled = gx.compile
    for page in sorted((ROOT / "examples").glob("[0-9][0-9]_*.py")):
        found: list[Growth | None] = []

        def recorded(inputs: Any, outputs: Any, *rest: Any, **options: Any) -> Any:
            found.append(growth(nodes_of(outputs)))  # noqa: B023
            return compiled(inputs, outputs, *rest, **options)

        gx.compile = recorded
        try:
            with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as place:
                here = os.getcwd()
                os.chdir(place)
                try:
                    runpy.run_path(str(page), run_name="__main__")
                finally:
                    os.chdir(here)
        except ImportError as missing:
            print(f"{page.stem}: needs {missing.name}")
        finally:
            gx.compile = compiled
        for number, each in enumerate(found):
            yield f"{page.stem} {number}", each


def main() -> None:
    print(f"{'graph':<32}{'written':>9}{'whole':>8}{'rewritten':>11}{'times':>8}{'operations':>12}")
    worst = 0.0
    for source in (of_workloads, of_adbench, of_examples):
        for name, found in source():
            if found is None:
                continue
            worst = max(worst, found.nodes, found.operations)
            over = "   above the bar" if max(found.nodes, found.operations) > BAR else ""
            print(
                f"{name:<32}{found.primal.nodes:>9}{found.whole.nodes:>8}"
                f"{found.whole_rewritten.nodes:>11}{found.nodes:>8.2f}{found.operations:>12.2f}{over}",
                flush=True,
            )
    print(f"the most: {worst:.2f} times; the bar is {BAR:.0f}")


if __name__ == "__main__":
    main()
