"""How much longer does a derivative take than its function, on ADBench's problems, beside JAX?

    python tests/benchmarks/derivative_times.py                   every file, one thread
    python tests/benchmarks/derivative_times.py gmm_d10 lstm      those whose names hold a word

The objective and its derivative by graphc, by JAX (blocked until ready, where it is installed), and
the objective by hand in NumPy: one process on one CPU, all measured in turns, in seconds that the
processor worked; the least of each, and the median over the turns of the ratio of derivative to
objective. Results of both libraries are compared first. GMM and LSTM have a gradient, BA and Hand
the Jacobian that ADBench asks for. Without ADBench's data (`adbench.DATA`) there is nothing to do.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the variables below do most of it
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ |= {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from adbench import ba, gmm, hand, lstm, only  # noqa: E402

import graphc as gx  # noqa: E402

PROBLEMS = {"gmm": gmm, "lstm": lstm, "ba": ba, "hand": hand}
BARS = {"gmm": 3, "lstm": 3, "ba": 8, "hand": 5}
SAMPLE = 2e-3  # seconds of a run of calls, at least
Run = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="derivatives of ADBench's problems")
    parser.add_argument("words", nargs="*", help="parts of names of files; all by default")
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    heads = ["file", "objective", "derivative", "ratio", "median", "bar"]
    heads += ["JAX objective", "derivative", "NumPy objective"]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for folder, problem in PROBLEMS.items():
        for name in problem.FILES:
            if any(word in name for word in arguments.words) or not arguments.words:
                print(row(folder, problem, name, arguments.turns), flush=True)


def row(folder: str, problem: Any, name: str, turns: int) -> str:
    """One file's line of the table."""
    values = problem.read(only(folder, name))
    arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    settings = {k: v for k, v in values.items() if k not in arrays}
    runs = with_graphc(problem, arrays, settings)
    if importlib.util.find_spec("jax"):
        theirs = with_jax(problem, arrays, settings)
        for ours, other in zip(runs, theirs, strict=True):
            compare(ours(), other())
        runs += theirs
    runs.append(lambda: problem.by_hand(**values))
    seconds = measured(runs, turns)
    ratio = statistics.median(d / o for o, d in zip(seconds[0], seconds[1], strict=True))
    objective, derivative, *others = (1e3 * min(times) for times in seconds)
    told = [f"{each:.4g} ms" for each in (objective, derivative)]
    told += [f"{derivative / objective:.2f}", f"{ratio:.2f}", str(BARS[folder])]
    told += [""] * (3 - len(others)) + [f"{each:.4g} ms" for each in others]
    return f"| {' | '.join([name, *told])} |"


def with_graphc(problem: Any, arrays: dict[str, Any], settings: dict[str, Any]) -> list[Run]:
    """The objective and its derivative."""
    symbols = {k: gx.symbol(k, v.shape, v.dtype.name) for k, v in arrays.items()}
    value = problem.of_graphc(**symbols, **settings)
    if hasattr(problem, "jacobian_of_graphc"):
        slopes = problem.jacobian_of_graphc(**symbols, **settings)
    else:
        slopes = gx.grad(value, [symbols[k] for k in problem.PARAMETERS])
    options = gx.Options(threads=1)
    made = [gx.compile(list(symbols.values()), each, options=options) for each in (value, slopes)]
    given = list(arrays.values())
    return [lambda f=f: f(*given) for f in made]  # type: ignore[misc]


def with_jax(problem: Any, arrays: dict[str, Any], settings: dict[str, Any]) -> list[Run]:
    """The same by JAX, waited for."""
    import jax

    def value(given: Any) -> Any:
        return problem.of_jax(**given, **settings)

    def slopes(given: Any) -> Any:
        if hasattr(problem, "jacobian_of_jax"):
            return problem.jacobian_of_jax(**given, **settings)
        moved = {k: given[k] for k in problem.PARAMETERS}
        found = jax.grad(lambda changed: value({**given, **changed}))(moved)
        return [found[k] for k in problem.PARAMETERS]

    held = jax.device_put(arrays)
    made = [jax.jit(each) for each in (value, slopes)]
    return [lambda f=f: jax.block_until_ready(f(held)) for f in made]  # type: ignore[misc]


def compare(ours: Any, other: Any) -> None:
    """Stop if two results differ by more than 1e-9 of their size."""
    pairs = [(ours, other)] if not isinstance(ours, list) else zip(ours, other, strict=True)
    for a, b in pairs:
        size = max(1.0, float(np.max(np.abs(a), initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * size)


def measured(runs: list[Run], turns: int) -> list[list[float]]:
    """Seconds of a call of each, in every turn."""
    calls = []
    for run in runs:
        run()
        start = time.process_time()
        run()
        calls.append(max(1, round(SAMPLE / max(time.process_time() - start, 1e-7))))
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(turns):
        for times, run, count in zip(found, runs, calls, strict=True):
            start = time.process_time()
            for _ in range(count):
                run()
            times.append((time.process_time() - start) / count)
    return found


if __name__ == "__main__":
    main()
