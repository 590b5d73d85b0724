"""Which op is to blame for a wrong derivative, and by which of its arguments?

The graph is run once, and every op that it came by, those of loops and branches too, is checked by
itself at the values that it met: in a random direction of each argument, against differences and
between the two modes. The first one that fails is named, with the line that built it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.autodiff.chain import is_real, result_types
from graphc.autodiff.forward import jvp
from graphc.autodiff.reverse import grad
from graphc.dims import Extent
from graphc.evaluator import bind_extents, evaluate, watched
from graphc.graph import substitute_in
from graphc.node import Node, topological
from graphc.op import NoDerivative
from graphc.ops.operands import constant, symbol
from graphc.ops.special import project, project_op, stop_gradient_op
from graphc.origin import location
from graphc.types import TensorType, TupleType


@dataclass(frozen=True)
class Fault:
    """An op whose own derivative is wrong: by argument `argument`, by `error` of its size."""

    node: Node
    argument: int
    mode: str
    error: float

    def __str__(self) -> str:
        where = location(self.node.origin)
        named = self.node.attrs.get("name")
        name = self.node.op.name + (f" {named!r}" if isinstance(named, str) else "")
        return f"{name}, {self.mode} by argument {self.argument}, off by {self.error:.2g}" + (
            f", built at {where}" if where else ""
        )


def find_fault(cost: Node, point: Mapping[Node, Any], tolerance: float) -> Fault | None:
    """The first op on the way to `cost` whose derivative is wrong; None if each is right. Behind
    `stop_gradient` that is meant, so it is the one only where there is no other.
    """
    met: dict[Node, list[Any]] = {}

    def watch(node: Node, arguments: Any, value: Any) -> Any:
        met.setdefault(node, list(arguments))
        return value

    with watched(watch):
        evaluate(cost, point)
    sizes: dict[str, int] = {}
    for leaf, value in point.items():
        bind_extents(leaf.type, np.shape(value), sizes, leaf.attrs["name"])
    for node, arguments in sorted(met.items(), key=lambda item: item[0].op is stop_gradient_op):
        if _can_be_checked(node, arguments):
            fault = _fault_of(node, arguments, sizes, tolerance)
            if fault is not None:
                return fault
    return None


def _can_be_checked(node: Node, arguments: list[Any]) -> bool:
    if node.op is project_op or not node.args or isinstance(node.op.derivative, NoDerivative):
        return False
    types = [argument.type for argument in node.args]
    if not is_real(node.type) or not all(isinstance(type_, TensorType) for type_ in types):
        return False
    floats = [a for a in arguments if dtypes.is_float(np.asarray(a).dtype)]
    wide = all(a.dtype == np.float64 and np.all(np.isfinite(a)) for a in floats)
    return wide and any(a.size for a in floats)


def _fault_of(
    node: Node, arguments: list[Any], sizes: Mapping[str, Extent], tolerance: float
) -> Fault | None:
    arrays = [np.asarray(argument) for argument in arguments]
    leaves = [symbol(f"argument{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    attrs = {name: substitute_in(value, sizes) for name, value in node.attrs.items()}
    rebuilt = node.op(*leaves, **attrs)
    cost = _weighted(rebuilt)
    point = dict(zip(leaves, arrays, strict=True))
    random = np.random.default_rng(0)
    for i, leaf in enumerate(leaves):
        if leaf.dtype != np.float64 or not leaf.size:
            continue
        way = random.uniform(0.5, 1.0, arrays[i].shape) * np.maximum(1.0, np.abs(arrays[i]))
        pulled = np.sum(evaluate(grad(cost, leaf), point) * way)
        pushed = evaluate(jvp(cost, leaf, constant(way)), point)
        slope, doubt = along(cost, point, {leaf: way}, 1e-4)
        allowed = tolerance * max(1.0, abs(slope)) + 4 * doubt
        for mode, got in (("reverse mode", pulled), ("forward mode", pushed)):
            if np.isfinite(slope) and not abs(got - slope) <= allowed:
                return Fault(node, i, mode, float(abs(got - slope) / max(1.0, abs(slope))))
    return None


def _weighted(node: Node) -> Node:
    """A number that depends on all real results of a node."""
    results = [node]
    if isinstance(node.type, TupleType):
        results = [project(node, i) for i in range(len(node.type.items))]
    random, total = np.random.default_rng(1), constant(0.0)
    for result, type_ in zip(results, result_types(node), strict=True):
        if is_real(type_):
            weights = random.uniform(0.5, 1.5, type_.shape)
            total = total + (result * constant(weights)).sum()
    return total


def along(
    cost: Node, point: Mapping[Node, Any], ways: Mapping[Node, Any], step: float
) -> tuple[float, float]:
    """The slope of a cost in a direction by Richardson-extrapolated central differences, and how
    far the extrapolation went.
    """

    def value(h: float) -> float:
        moved = {leaf: np.asarray(point[leaf]) + h * way for leaf, way in ways.items()}
        return float(evaluate(cost, {**point, **moved}))

    return richardson(value, step, grain(cost))


def grain(cost: Node) -> float:
    """The precision of the narrowest float dtype on the way to a cost."""
    types = {type_ for node in topological([cost]) for type_ in result_types(node)}
    return max(float(dtypes.finfo(type_.dtype).eps) for type_ in types if is_real(type_))


def richardson(
    value: Callable[[float], float], step: float, grain: float
) -> tuple[float, float]:
    """The derivative at 0 of a function of one number, and what bounds its error: by how much the
    extrapolation changed it, and what the values are rounded by, those next to 0 as sums are.
    """
    near, far = ([value(h), value(-h)] for h in (step / 2, step))
    fine, coarse = (near[0] - near[1]) / step, (far[0] - far[1]) / (2 * step)
    slope = (4 * fine - coarse) / 3
    rounded = 2 * grain * max(1.0, *map(abs, near), *map(abs, far)) / step
    return slope, abs(slope - fine) + rounded
