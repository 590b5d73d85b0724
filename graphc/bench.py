"""How fast is it here? Calls on small arrays and a training step, each beside NumPy's version in
the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gx
from graphc import nn


def interleaved(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, calls: int
) -> tuple[float, float, float]:
    """Median seconds of each, and the median of the ratios round by round."""
    mine: list[float] = []
    other: list[float] = []
    for _ in range(rounds):
        for function, times in ((ours, mine), (theirs, other)):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            times.append((time.perf_counter() - start) / calls)
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return statistics.median(mine), statistics.median(other), statistics.median(ratios)


def run() -> str:
    """A table of medians: seconds, NumPy's seconds, ratio."""
    rows = [("what", "graphc", "NumPy", "ratio")]
    for name, ours, theirs, rounds, calls in (*_calls(), _training_step()):
        mine, other, ratio = interleaved(ours, theirs, rounds, calls)
        rows.append((name, f"{mine * 1e6:.2f} us", f"{other * 1e6:.2f} us", f"{ratio:.2f}"))
    return "\n".join(f"{a:<44}{b:>14}{c:>14}{d:>8}" for a, b, c, d in rows)


def _calls() -> list[tuple[str, Callable[[], Any], Callable[[], Any], int, int]]:
    generator = np.random.default_rng(0)
    a, b, out = generator.normal(size=10), generator.normal(size=10), np.empty(10)
    x, y = gx.vector("x", "n"), gx.vector("y", "n")
    f = gx.compile([x, y], gx.tanh(x * y) + x)
    return [
        ("tanh(x*y)+x on ten float64", lambda: f(a, b), lambda: np.tanh(a * b) + a, 50, 2000),
        ("the same with out=", lambda: f(a, b, out=out), lambda: np.tanh(a * b) + a, 50, 2000),
    ]


def _training_step() -> tuple[str, Callable[[], Any], Callable[[], Any], int, int]:
    generator = np.random.default_rng(0)
    x, labels = gx.symbol("x", (128, 784), "float32"), gx.symbol("labels", (128,), "int64")
    w, b = gx.symbol("w", (784, 512), "float32"), gx.symbol("b", (512,), "float32")
    v = gx.symbol("v", (512, 10), "float32")
    loss = nn.softmax_cross_entropy(gx.relu(x @ w + b) @ v, labels)
    f = gx.compile(
        [x, labels, w, b, v], [loss, *gx.grad(loss, [w, b, v])], options=gx.Options(threads=1)
    )
    values = [
        generator.normal(size=(128, 784)).astype("f4"),
        generator.integers(0, 10, 128),
        nn.he_normal(generator, 784, 512),
        np.zeros(512, "f4"),
        nn.he_normal(generator, 512, 10),
    ]

    def plain() -> Any:
        px, pl, pw, pb, pv = values
        before = px @ pw + pb
        hidden = np.maximum(before, 0)
        logits = hidden @ pv
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        soft = shifted / shifted.sum(1, keepdims=True)
        rows = np.arange(len(pl))
        loss = -np.log(soft[rows, pl]).mean()
        soft[rows, pl] -= 1
        soft /= len(pl)
        back = (soft @ pv.T) * (before > 0)
        return loss, px.T @ back, back.sum(0), hidden.T @ soft

    return "loss and gradient 784-512-10, batch 128", lambda: f(*values), plain, 10, 5
