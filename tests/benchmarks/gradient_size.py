"""How many times larger is a graph with its gradient than the graph that was differentiated?

    python tests/benchmarks/gradient_size.py

After rewriting, over what was written: nodes, and element operations over those of the rewritten
value (`graphc.rewrite.size` says what is counted). For every workload, ADBench's problems and the
functions that the examples compile, by `gx.compile` or `gx.jit`. The bar is 4 for both.

A whole Jacobian of straight-line code is as many derivatives as it has columns, not a gradient: it
is shown beside the gradient of the same code, with its columns, and no bar is held to it. What
holds no derivative, or a sparse one, whose work is counted in directions, is named at the end.
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
from workloads import scalar_code  # noqa: E402

import graphc as gx  # noqa: E402
from graphc import function  # noqa: E402
from graphc.rewrite.size import Growth, growth  # noqa: E402
from graphc.tree import flatten  # noqa: E402

BAR = 4.0
Found = Iterator[tuple[str, "Growth | None"]]
# Workloads that compute a whole Jacobian, and its columns.
JACOBIANS = {"scalar_code": 2 * scalar_code.LINKS}


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
    xs = [gx.scalar(f"x{i}") for i in range(2 * scalar_code.LINKS)]
    value = sum(rate * rate for rate in scalar_code.motion(xs, gx.sin, gx.cos))
    yield "scalar_code gradient", growth([value, *gx.grad(value, xs)])


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
    prepare = function.prepare
    for page in sorted((ROOT / "examples").glob("[0-9][0-9]_*.py")):
        found: list[Growth | None] = []

        def recorded(inputs: Any, outputs: Any, *rest: Any) -> Any:
            found.append(growth(nodes_of(outputs)))  # noqa: B023
            return prepare(inputs, outputs, *rest)

        function.prepare = recorded  # type: ignore[assignment]
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
            function.prepare = prepare
        for number, each in enumerate(found):
            yield f"{page.stem} {number}", each


def main() -> None:
    print(f"{'graph':<32}{'written':>9}{'whole':>8}{'rewritten':>11}{'times':>8}{'operations':>12}")
    worst, without = 0.0, []
    for source in (of_workloads, of_adbench, of_examples):
        for name, found in source():
            if found is None:
                without.append(name.partition(" ")[0])
                continue
            columns = JACOBIANS.get(name.partition(" ")[0]) if "gradient" not in name else None
            largest = max(found.nodes, found.operations)
            note = f"   a Jacobian of {columns} columns" if columns else ""
            if not columns:
                worst = max(worst, largest)
                note = "   above the bar" if largest > BAR else ""
            print(
                f"{name:<32}{found.primal.nodes:>9}{found.whole.nodes:>8}"
                f"{found.whole_rewritten.nodes:>11}{found.nodes:>8.2f}{found.operations:>12.2f}{note}",
                flush=True,
            )
    print(f"without a gradient: {', '.join(dict.fromkeys(without))}")
    print(f"the most: {worst:.2f} times; the bar is {BAR:.0f}")


if __name__ == "__main__":
    main()
