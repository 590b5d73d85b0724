"""Transcendental functions. Their kernels are procedures of graphc's own, called by name: no libm.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.node import Node
from graphc.op import Interval, Op, elementwise
from graphc.ops.arithmetic import like, strong_multiply
from graphc.ops.operands import operands
from graphc.tensor import surface


def _quiet(function: Any) -> Any:
    """NumPy's function without its floating-point warnings: infinities and NaN are results here."""

    def call(*arrays: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return call


def _real(name: str, function: Any, partial: Any, cost: int, **record: Any) -> Op:
    """Register a real function of one argument whose kernel is the procedure of that name."""
    return elementwise(
        name,
        numpy=_quiet(function),
        kernel=lambda k, x: k.call(name, x),
        partials=lambda x, result: (partial(x, result),),
        kinds="f",
        cost=cost,
        **record,
    )


def _sigmoid_numpy(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


def _softplus_numpy(x: Any) -> Any:
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(x.dtype)


_POSITIVE = frozenset(("nonnegative",))
_erf_float64 = np.vectorize(math.erf, otypes=["float64"])


def _erf_numpy(x: Any) -> Any:
    return np.asarray(_erf_float64(x)).astype(x.dtype) if x.size else x.copy()


exp_op = _real(
    "exp",
    np.exp,
    lambda x, y: y,
    20,
    laws=frozenset(("increasing",)),
    domain=(Interval(-30, 30),),
    facts=lambda node, known: _POSITIVE,
    latex="e^{{{}}}",
)
expm1_op = _real(
    "expm1",
    np.expm1,
    lambda x, y: y + like(x, 1),
    24,
    laws=frozenset(("increasing",)),
    domain=(Interval(-30, 30),),
)
log_op = _real(
    "log",
    np.log,
    lambda x, y: like(x, 1) / x,
    24,
    singular=(0,),
    domain=(Interval(1e-3, 50),),
    laws=frozenset(("increasing",)),
    latex=r"\log {}",
    doc="-inf at 0, NaN below. The derivative at 0 is infinite; times a zero cotangent it is 0.",
)
log1p_op = _real(
    "log1p",
    np.log1p,
    lambda x, y: like(x, 1) / (x + like(x, 1)),
    26,
    singular=(0,),
    domain=(Interval(-0.9, 50),),
    laws=frozenset(("increasing",)),
)
tanh_op = _real(
    "tanh",
    np.tanh,
    lambda x, y: like(x, 1) - y * y,
    26,
    domain=(Interval(-4, 4),),
    laws=frozenset(("odd", "increasing")),
    latex=r"\tanh {}",
)
sigmoid_op = _real(
    "sigmoid",
    _sigmoid_numpy,
    lambda x, y: y * (like(x, 1) - y),
    26,
    domain=(Interval(-8, 8),),
    laws=frozenset(("increasing",)),
    facts=lambda node, known: _POSITIVE,
    latex=r"\sigma({})",
)
softplus_op = _real(
    "softplus",
    _softplus_numpy,
    lambda x, y: sigmoid_op(x),
    48,
    domain=(Interval(-8, 8),),
    laws=frozenset(("increasing",)),
    facts=lambda node, known: _POSITIVE,
    doc="log(1 + exp(x)), without overflow.",
)
sin_op = _real(
    "sin",
    np.sin,
    lambda x, y: cos_op(x),
    26,
    domain=(Interval(-10, 10),),
    laws=frozenset(("odd",)),
    latex=r"\sin {}",
)
cos_op: Op = _real(
    "cos",
    np.cos,
    lambda x, y: -sin_op(x),
    26,
    domain=(Interval(-10, 10),),
    laws=frozenset(("even",)),
    latex=r"\cos {}",
)
erf_op = _real(
    "erf",
    _erf_numpy,
    lambda x, y: like(x, 2 / math.sqrt(math.pi)) * exp_op(-(x * x)),
    60,
    domain=(Interval(-3, 3),),
    laws=frozenset(("odd", "increasing")),
)


def _power_partials(x: Node, y: Node, result: Node) -> tuple[Node, Node]:
    by_base = y * power_op(x, y - like(y, 1))
    return by_base, strong_multiply(result, log_op(x))


power_op = elementwise(
    "power",
    numpy=_quiet(np.power),
    kernel=lambda k, x, y: k.call("pow", x, y),
    partials=_power_partials,
    singular=(0, 1),
    kinds="f",
    cost=80,
    domain=(Interval(0.1, 5), Interval(-3, 3)),
    text="{} ** {}",
    latex="{}^{{{}}}",
    doc="As IEEE pow. The derivative by the exponent at base 0 is 0 where the power is 0.",
)


def _surface(op: Op, text: str) -> Any:
    def function(x: Any) -> Node:
        return op(*operands(op.name, x, real=True))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = text + " In a float dtype: integers and bool are computed in float64."
    return surface(function)


exp = _surface(exp_op, "e to the power x.")
expm1 = _surface(expm1_op, "exp(x) - 1, accurate near 0.")
log = _surface(log_op, "The natural logarithm: -inf at 0, NaN below.")
log1p = _surface(log1p_op, "log(1 + x), accurate near 0.")
tanh = _surface(tanh_op, "The hyperbolic tangent.")
sigmoid = _surface(sigmoid_op, "1 / (1 + exp(-x)).")
softplus = _surface(softplus_op, "log(1 + exp(x)), without overflow.")
sin = _surface(sin_op, "The sine of x in radians.")
cos = _surface(cos_op, "The cosine of x in radians.")
erf = _surface(erf_op, "The error function.")
