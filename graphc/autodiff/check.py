"""Is a derivative right?  Gradients beside derivatives that were found in other ways, in float64.

Reverse mode is compared with a complex step where the graph is analytic, which is right to the last
places, else with central differences at steps h and h/2, which combine to an error of order h**4
(Richardson 1911); the difference between the extrapolated value and the finer one bounds the error
that is allowed for. Forward mode is compared with reverse mode in a random direction, which must
give the same number. If anything is wrong, the op is looked for (`fault`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.autodiff.complex_step import complex_slope
from graphc.autodiff.fault import find_fault, grain, richardson
from graphc.autodiff.forward import jvp
from graphc.autodiff.reverse import grad
from graphc.evaluator import evaluate
from graphc.node import Node
from graphc.ops.operands import symbol
from graphc.tree import flatten


@dataclass(frozen=True)
class GradientCheck:
    """The outcome: `ok`, the largest error relative to the gradient's scale, and where it is.

    `forward` is how far forward mode is from reverse mode, relative as well; `fault` says which op
    is wrong, by which argument, and where it was built; empty if there is none. `str()` of it is
    the report.
    """

    ok: bool
    worst: float
    where: str
    forward: float = 0.0
    fault: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if self.ok:
            return f"the gradient is right: the largest error is {self.worst:.2g} at {self.where}"
        return (
            f"the gradient is off by {self.worst:.2g} of its size at {self.where}, forward mode "
            f"is {self.forward:.2g} from it\n"
            + (f"  {self.fault}" if self.fault else "  each op is right by itself at these values")
        )


def check_grad(
    cost: Node, wrt: Any, point: Mapping[Node, Any], step: float = 1e-3, tolerance: float = 1e-6
) -> GradientCheck:
    """Compare `grad(cost, wrt)` with a complex step or differences at `point`, a value for every
    symbol, and with forward mode.

    `wrt` are float64 symbols, alone or in a container. The check fails where the error exceeds
    `tolerance` times the largest derivative plus what the differences themselves are uncertain by,
    or where the modes differ by more; then the answer names the op at fault.
    """
    leaves, _ = flatten(wrt)
    gradients = evaluate([grad(cost, leaf) for leaf in leaves], point)
    worst, where, ok = 0.0, "", True
    for leaf, gradient in zip(leaves, gradients, strict=True):
        difference, doubt = _slopes(cost, leaf, point, step)
        known = np.isfinite(difference)
        scale = max(1.0, float(np.max(np.abs(difference), where=known, initial=0.0)))
        error = np.where(known, np.abs(gradient - np.where(known, difference, 0.0)), 0.0)
        bad = known & ~(error <= tolerance * scale + 4 * doubt)
        error = np.where(np.isnan(error), np.inf, error)
        ratio = float(np.max(error, initial=0.0)) / scale
        if ratio > worst or bad.any():
            position = np.unravel_index(int(np.argmax(error)), error.shape) if error.size else ()
            index = [int(i) for i in position]
            worst, where = ratio, f"{leaf.attrs['name']}{index}"
        ok = ok and not bad.any()
    forward = _apart(cost, leaves, gradients, point)
    if ok and forward <= tolerance:
        return GradientCheck(True, worst, where, forward)
    fault = find_fault(cost, point, tolerance)
    return GradientCheck(False, worst, where, forward, "" if fault is None else str(fault))


def _apart(
    cost: Node, leaves: Sequence[Node], gradients: Sequence[Any], point: Mapping[Node, Any]
) -> float:
    """By how much <gradient, direction> differs from what forward mode gives in the direction."""
    random = np.random.default_rng(0)
    ways = [random.uniform(-1, 1, np.shape(gradient)) for gradient in gradients]
    tangents = [symbol(f"tangent {i}", leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)]
    given = {**point, **dict(zip(tangents, ways, strict=True))}
    pushed = float(evaluate(jvp(cost, list(leaves), tangents), given))
    terms = [gradient * way for gradient, way in zip(gradients, ways, strict=True)]
    pulled = sum(float(np.sum(term)) for term in terms)
    scale = max(1.0, sum(float(np.sum(np.abs(term))) for term in terms))
    same = pushed == pulled or (np.isnan(pushed) and np.isnan(pulled))
    return 0.0 if same or not np.isfinite(scale) else abs(pushed - pulled) / scale


def _slopes(cost: Node, leaf: Node, point: Mapping[Node, Any], step: float) -> tuple[Any, Any]:
    """The derivative by each element, and what it is uncertain by."""
    base = np.asarray(point[leaf], dtype=leaf.dtype)
    result, doubt = np.zeros(base.shape), np.zeros(base.shape)
    analytic = True
    for index in np.ndindex(base.shape):
        way = np.zeros(base.shape)
        way[index] = 1.0
        exact = complex_slope(cost, point, {leaf: way}) if analytic else None
        if exact is not None:
            result[index] = exact
            continue
        analytic = False

        def value(h: float, way: Any = way) -> float:
            return float(evaluate(cost, {**point, leaf: base + h * way}))

        h = step * max(1.0, abs(float(base[index])))
        result[index], doubt[index] = richardson(value, h, grain(cost))
    return result, doubt
