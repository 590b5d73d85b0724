"""What is the derivative of an analytic graph, to the last places?  A step in the imaginary
direction.

Im f(x + i h) / h has no difference in it that could cancel (Squire & Trapp, SIAM Review 40, 1998),
so h is as small as one likes. The NumPy functions of the ops take complex numbers wherever the op
is analytic; a graph with any other op that the step goes through has no complex step.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.dtypes import is_float
from graphc.evaluator import bind_extents, evaluate
from graphc.graph import substitute_in
from graphc.node import Node, topological
from graphc.op import Linear

_STEP = 1e-100
_SAME = 1e-9
# Element-wise ops whose NumPy function is that of complex numbers too.
ANALYTIC = frozenset(
    (
        *("add", "subtract", "multiply", "divide", "negative", "square", "sqrt", "exp", "expm1"),
        *("log", "log1p", "tanh", "sin", "cos", "power", "exp2", "log2", "log10", "sinh", "cosh"),
        *("tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
    )
)


def complex_slope(
    cost: Node, point: Mapping[Node, Any], ways: Mapping[Node, Any]
) -> float | None:
    """The slope of a cost in a direction; None if the graph is not analytic on the way, or the way
    leads along a branch cut: then the real part is not the value.
    """
    sizes: dict[str, int] = {}
    held: dict[Node, Any] = {}
    for leaf, value in point.items():
        array = np.asarray(value, leaf.dtype)
        bind_extents(leaf.type, array.shape, sizes, leaf.attrs["name"])
        held[leaf] = array + 1j * _STEP * ways[leaf] if leaf in ways else array
    for node in topological([cost], known=held):
        attrs = {name: substitute_in(value, sizes) for name, value in node.attrs.items()}
        arguments = [held[argument] for argument in node.args]
        moving = any(_is_complex(argument) for argument in arguments)
        if moving and not (node.op.name in ANALYTIC or isinstance(node.op.derivative, Linear)):
            return None
        if moving and node.op.name == "power" and np.any(np.real(arguments[0]) <= 0):
            return None  # by a logarithm, whose imaginary part is pi
        if moving:
            arguments = [_widened(argument) for argument in arguments]
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
                held[node] = node.op.numpy(*arguments, **attrs)
        except (TypeError, ValueError):  # a NumPy function that takes no complex numbers
            return None
        if moving and not _is_complex(held[node]):
            return None
    value = float(evaluate(cost, point))
    same = abs(float(np.real(held[cost])) - value) <= _SAME * max(1.0, abs(value))
    return float(np.imag(held[cost]) / _STEP) if same else None


def _is_complex(value: Any) -> bool:
    """Whether a value is a complex array; the results of an op with several are a tuple."""
    return not isinstance(value, tuple) and np.iscomplexobj(value)


def _widened(argument: Any) -> Any:
    """Floats as complex numbers, so that no NumPy function takes the dtype of the result from one
    that is not moved.
    """
    array = np.asarray(argument)
    return array.astype(complex) if is_float(array.dtype) else array
