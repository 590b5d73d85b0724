"""How fast are factors, systems and spectra, beside NumPy's LAPACK?

One matrix of several sizes, and batches of a thousand small ones, on one thread, in turns: medians
of processor time in microseconds a call, of graphc's own kernels, of what leaves the work to LAPACK
(`Options(library="lapack")`) and of NumPy, and the ratios of the first two to NumPy (below 1:
graphc is faster). A star marks the sizes at which the option asks LAPACK.

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/linear_algebra.py [names] [float32]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import graphc as gx
from graphc import linalg

SHAPES = [(3, 3), (8, 8), (32, 32), (64, 64), (256, 256)]
SHAPES += [(1000, 3, 3), (1000, 8, 8), (1000, 16, 16), (1000, 32, 32)]
ROUNDS, LEAST_SECONDS = 7, 2e-3
# Name, ours, NumPy's; all are given positive definite matrices.
CASES: tuple[tuple[str, Callable[..., Any], Callable[..., Any]], ...] = (
    ("cholesky", linalg.cholesky, np.linalg.cholesky),
    ("solve", lambda a: linalg.solve(a, a[..., :1]), lambda a: np.linalg.solve(a, a[..., :1])),
    ("inv", linalg.inv, np.linalg.inv),
    ("det", linalg.det, np.linalg.det),
    ("qr", linalg.qr, np.linalg.qr),
    ("eigh", linalg.eigh, np.linalg.eigh),
    ("eigvalsh", linalg.eigvalsh, np.linalg.eigvalsh),
    ("svd", linalg.svd, np.linalg.svd),
    ("svdvals", linalg.svdvals, lambda a: np.linalg.svd(a, compute_uv=False)),
)


def seconds(function: Callable[..., Any], argument: Any, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        function(argument)
    return (time.process_time() - start) / calls


def compare(functions: Sequence[Callable[..., Any]], a: Any) -> list[float]:
    """Medians of microseconds a call, taken in turns."""
    calls = [max(1, int(LEAST_SECONDS / max(seconds(f, a, 3), 1e-6))) for f in functions]
    pairs = list(zip(functions, calls, strict=True))
    times = [[seconds(f, a, n) for f, n in pairs] for _ in range(ROUNDS)]
    return [1e6 * statistics.median(column) for column in zip(*times, strict=True)]


def main(names: list[str], dtype: str) -> None:
    random, options = np.random.default_rng(0), gx.Options(threads=1, cache=False)
    for name, ours, theirs in CASES:
        for shape in SHAPES:
            if names and name not in names:
                continue
            half = random.standard_normal(shape)
            a = half @ np.swapaxes(half, -1, -2) / shape[-1] + np.eye(shape[-1])
            x = gx.symbol("x", shape, dtype)
            own, asking = (
                gx.compile([x], ours(x), options=options.replace(library=library))
                for library in (None, "lapack")
            )
            star = "*" if any("@graphc_lapack" in text for text in asking.texts.values()) else ""
            one, asked, other = compare((own, asking, theirs), a.astype(dtype))
            label = " x ".join(map(str, shape))
            print(
                f"{name:9} {label:15} {one:11.1f} {asked:11.1f} {other:11.1f} "
                f"{one / other:8.2f} {asked / other:8.2f}{star}",
                flush=True,
            )


if __name__ == "__main__":
    given = sys.argv[1:]
    dtypes = [word for word in given if word.startswith("float")] or ["float64"]
    times = "".join(f"{word:>12}" for word in ("graphc", "lapack", "numpy"))
    print(f"{'':9} {'shape':15}{times}{'ratio':>9}{'ratio':>9}")
    for dtype in dtypes:
        main([word for word in given if not word.startswith("float")], dtype)
