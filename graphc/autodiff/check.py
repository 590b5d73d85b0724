"""Is a derivative right? Gradients compared with Richardson-extrapolated central differences, in
float64.

Central differences at steps h and h/2 combine to an error of order h**4 (Richardson 1911); the
difference between the extrapolated value and the finer one bounds the error that is allowed for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.autodiff.reverse import grad
from graphc.evaluator import evaluate
from graphc.node import Node
from graphc.tree import flatten


@dataclass(frozen=True)
class GradientCheck:
    """The outcome: `ok`, the largest error relative to the gradient's scale, and where it is."""

    ok: bool
    worst: float
    where: str

    def __bool__(self) -> bool:
        return self.ok


def check_grad(
    cost: Node, wrt: Any, point: Mapping[Node, Any], step: float = 1e-3, tolerance: float = 1e-6
) -> GradientCheck:
    """Compare `grad(cost, wrt)` with differences at `point`, a value for every symbol.

    `wrt` are float64 symbols, alone or in a container. The check fails where the error exceeds
    `tolerance` times the largest derivative plus what the differences themselves are uncertain by.
    """
    leaves, _ = flatten(wrt)
    gradients = evaluate([grad(cost, leaf) for leaf in leaves], point)
    worst, where, ok = 0.0, "", True
    for leaf, gradient in zip(leaves, gradients, strict=True):
        difference, doubt = _differences(cost, leaf, point, step)
        scale = max(1.0, float(np.max(np.abs(difference), initial=0.0)))
        error = np.abs(gradient - difference)
        bad = error > tolerance * scale + 4 * doubt
        ratio = float(np.max(error, initial=0.0)) / scale
        if ratio > worst or bad.any():
            position = np.unravel_index(int(np.argmax(error)), error.shape) if error.size else ()
            index = [int(i) for i in position]
            worst, where = ratio, f"{leaf.attrs['name']}{index}"
        ok = ok and not bad.any()
    return GradientCheck(ok, worst, where)


def _differences(cost: Node, leaf: Node, point: Mapping[Node, Any], step: float) -> tuple[Any, Any]:
    base = np.asarray(point[leaf], dtype=leaf.dtype)
    result, doubt = np.zeros(base.shape), np.zeros(base.shape)

    def slope(index: tuple[int, ...], h: float) -> float:
        values = []
        for signed in (h, -h):
            moved = base.copy()
            moved[index] += signed
            values.append(float(evaluate(cost, {**point, leaf: moved})))
        return (values[0] - values[1]) / (2 * h)

    for index in np.ndindex(base.shape):
        h = step * max(1.0, abs(float(base[index])))
        coarse, fine = slope(index, h), slope(index, h / 2)
        result[index] = (4 * fine - coarse) / 3
        doubt[index] = abs(result[index] - fine)
    return result, doubt
