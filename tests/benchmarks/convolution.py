"""How fast are convolutions and their gradients beside PyTorch, and how near to the machine's peak?

A dozen shapes in both layouts, float32: the forward product, the gradient by the input and that by
the kernel, in turns with PyTorch eager; medians, the median of the ratios of the rounds, the ratio
of the shortest times, and the share of the peak that the shortest time reaches, which is that of
the faster of both at a product of square matrices. With one thread the times are those that the
process itself ran, so that neighbours disturb less. Without PyTorch its columns stay empty, and
that is said.

    python tests/benchmarks/convolution.py [--threads N] [--seconds S] [name ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

arguments = argparse.ArgumentParser()
arguments.add_argument("--threads", type=int, default=1)
arguments.add_argument("--seconds", type=float, default=0.6, help="for each row")
arguments.add_argument("names", nargs="*", help="parts of names of the cases; all by default")
CHOSEN = arguments.parse_args()
if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the variables below do most of it
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: CHOSEN.threads]))
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(CHOSEN.threads)

import numpy as np  # noqa: E402

import graphc as gx  # noqa: E402

OPTIONS = gx.Options(threads=CHOSEN.threads)
TORCH = importlib.util.find_spec("torch") is not None
SQUARE = 1024
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One convolution: shapes in its layout, and the other arguments of `gx.conv`."""

    name: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    layout: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> bool:
        """Whether the channels come before the spatial axes."""
        return self.layout in ("NCHW", "NCW", "NCDHW")

    def multiplications(self, y: tuple[int, ...]) -> float:
        """Of each of the three products."""
        outputs = self.w[0] if self.first else self.w[-1]
        return float(np.prod(self.w)) / outputs * float(np.prod(y))


def both(name: str, x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> list[Case]:
    """The case in both layouts, from shapes with the channels first."""
    rank = len(x) - 2
    spatial = "DHW"[3 - rank :]
    last = (*w[2:], w[1], w[0])
    return [
        Case(f"{name} NC{spatial}", x, w, f"NC{spatial}", options),
        Case(f"{name} N{spatial}C", (x[0], *x[2:], x[1]), last, f"N{spatial}C", options),
    ]


CASES = [
    *both("3x3 32>32 28", (32, 32, 28, 28), (32, 32, 3, 3), padding=1),
    *both("3x3 128>128 14", (16, 128, 14, 14), (128, 128, 3, 3), padding=1),
    *both("3x3 1>32 28", (64, 1, 28, 28), (32, 1, 3, 3), padding=1),
    *both("3x3 s2 64>128 28", (16, 64, 28, 28), (128, 64, 3, 3), padding=1, stride=2),
    *both("7x7 s2 3>64 112", (4, 3, 112, 112), (64, 3, 7, 7), padding=3, stride=2),
    *both("5x5 s2 16>32 32", (32, 16, 32, 32), (32, 16, 5, 5), padding=2, stride=2),
    *both("1x1 64>128 28", (32, 64, 28, 28), (128, 64, 1, 1)),
    *both("grouped 4 64>64 28", (16, 64, 28, 28), (64, 16, 3, 3), padding=1, groups=4),
    *both("depthwise 3x3 64 28", (32, 64, 28, 28), (64, 1, 3, 3), padding=1, groups=64),
    *both("3x3 d2 32>32 28", (16, 32, 28, 28), (32, 32, 3, 3), padding=2, dilation=2),
    *both("1-D k9 64>64 256", (16, 64, 256), (64, 64, 9), padding=4),
    *both("3-D 3 16>32 16", (4, 16, 16, 16, 16), (32, 16, 3, 3, 3), padding=1),
]


def graphc_runs(case: Case) -> tuple[dict[str, Run], tuple[int, ...]]:
    """Forward, dx and dw as calls, and the shape of the result."""
    x, w = gx.symbol("x", case.x, "float32"), gx.symbol("w", case.w, "float32")
    y = gx.conv(x, w, layout=case.layout, **case.options)
    c = gx.symbol("c", y.shape, "float32")
    by_x, by_w = gx.vjp([y], [x, w], [c])
    generator = np.random.default_rng(1)
    xv, wv, cv = (generator.normal(size=n.shape).astype("f4") for n in (x, w, c))
    forward = gx.compile([x, w], y, options=OPTIONS)
    dx = gx.compile([c, w], by_x, options=OPTIONS)
    dw = gx.compile([x, c], by_w, options=OPTIONS)
    runs = {
        "forward": lambda: forward(xv, wv),
        "dx": lambda: dx(cv, wv),
        "dw": lambda: dw(xv, cv),
    }
    return runs, y.shape


def torch_runs(case: Case, y_shape: tuple[int, ...]) -> dict[str, Run]:
    """The same by PyTorch: tensors in the memory format of the layout."""
    import torch

    torch.set_num_threads(CHOSEN.threads)
    generator = np.random.default_rng(1)
    arrays = [generator.normal(size=s).astype("f4") for s in (case.x, case.w, y_shape)]
    if case.first:
        x, w, c = (torch.from_numpy(a) for a in arrays)
    else:  # views with the channels first, in memory last
        to = (0, len(case.x) - 1, *range(1, len(case.x) - 1))
        x, c = (torch.from_numpy(arrays[i]).permute(to) for i in (0, 2))
        w = torch.from_numpy(arrays[1])
        w = w.permute(w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if w.ndim in formats:
            w = w.contiguous(memory_format=formats[w.ndim])
    rank = x.ndim - 2

    def each(name: str, default: int) -> list[int]:
        return [case.options.get(name, default)] * rank

    groups = case.options.get("groups", 1)
    moves = (each("stride", 1), each("padding", 0), each("dilation", 1), False, [0] * rank, groups)

    def backward(by_x: bool, by_w: bool) -> Run:
        mask = [by_x, by_w, False]
        return lambda: torch.ops.aten.convolution_backward(c, x, w, None, *moves, mask)

    return {
        "forward": lambda: torch.ops.aten.convolution(x, w, None, *moves),
        "dx": backward(True, False),
        "dw": backward(False, True),
    }


def timed(run: Run) -> float:
    clock = time.process_time if CHOSEN.threads == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def in_turns(runs: list[Run], seconds: float) -> list[list[float]]:
    """Times of each, one after the other, for so long."""
    for run in runs:
        run()
        run()
    times: list[list[float]] = [[] for _ in runs]
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times[0]) < 5:
        for run, mine in zip(runs, times, strict=True):
            mine.append(timed(run))
    return times


def peak() -> float:
    """Multiplications and additions a second of a product of square matrices."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(SQUARE, SQUARE)).astype("f4")
    left, right = gx.symbol("a", a.shape, "float32"), gx.symbol("b", a.shape, "float32")
    product = gx.compile([left, right], left @ right, options=OPTIONS)
    runs: list[Run] = [lambda: product(a, a)]
    if TORCH:
        import torch

        torch.set_num_threads(CHOSEN.threads)
        t = torch.from_numpy(a)
        runs.append(lambda: t @ t)
    return 2 * SQUARE**3 / min(map(min, in_turns(runs, 1.0)))


def main() -> None:
    best = peak()
    print(f"{CHOSEN.threads} thread(s), peak {best / 1e9:.0f} GFLOP/s")
    if not TORCH:
        print("PyTorch is not installed: its columns are empty")
    head = f"{'case':<26}{'':<9}{'graphc':>10}{'torch':>10}{'ratio':>8}{'best':>7}"
    print(head + f"{'of peak':>9}{'torch':>7}")
    for case in CASES:
        if CHOSEN.names and not any(name in case.name for name in CHOSEN.names):
            continue
        ours, shape = graphc_runs(case)
        theirs = torch_runs(case, shape) if TORCH else {}
        work = 2 * case.multiplications(shape)
        for what, run in ours.items():
            runs = [run, *([theirs[what]] if TORCH else [])]
            times = in_turns(runs, CHOSEN.seconds)
            medians = [statistics.median(mine) for mine in times]
            row = f"{case.name:<26}{what:<9}{medians[0] * 1e3:>8.2f}ms"
            shortest = [min(mine) for mine in times]
            share = work / shortest[0] / best
            if TORCH:
                ratios = [a / b for a, b in zip(*times, strict=True)]
                row += f"{medians[1] * 1e3:>8.2f}ms{statistics.median(ratios):>8.2f}"
                row += f"{shortest[0] / shortest[1]:>7.2f}{share:>9.2f}"
                row += f"{work / shortest[1] / best:>7.2f}"
            else:
                row += f"{'':>10}{'':>15}{share:>9.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
