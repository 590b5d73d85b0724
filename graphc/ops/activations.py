"""Activation functions of neural networks, composed of other functions: fusion makes one kernel of
each.

Those whose composition would lose places (silu, mish, softplus, gelu) are ops of their own. Names
and formulas are those that papers and the large frameworks share; parameters are Python
numbers or anything that broadcasts.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import maximum, minimum, relu
from graphc.ops.normal import gelu_op
from graphc.ops.operands import operands
from graphc.ops.special import where
from graphc.ops.transcend import expm1, sigmoid, softplus
from graphc.tensor import surface


def _float(name: str, x: Any) -> Node:
    return operands(name, x, real=True)[0]


@surface
def gelu(x: Any, approximate: str | bool = "none") -> Node:
    """x times the distribution function of the normal distribution (Hendrycks & Gimpel 2016).

    `approximate`: "none" (or False) is x erfc(-x/sqrt(2))/2, accurate for large negative x too;
    "tanh" (or True) is x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))/2, written as a sigmoid.
    Raises `GraphError` for anything else.
    """
    x = _float("gelu", x)
    if approximate in ("none", False):
        return gelu_op(x)
    if approximate in ("tanh", True):
        return x * sigmoid((2 * math.sqrt(2 / math.pi)) * (x + 0.044715 * (x * x * x)))
    raise GraphError(
        f'gelu: approximate is "none" or "tanh", got {approximate!r}\n'
        "Both also have the spellings False and True."
    )


@surface
def log_sigmoid(x: Any) -> Node:
    """log(sigmoid(x)) as -softplus(-x), without overflow."""
    return -softplus(-_float("log_sigmoid", x))


@surface
def softsign(x: Any) -> Node:
    """x / (1 + |x|)."""
    x = _float("softsign", x)
    return x / (1 + abs(x))


@surface
def elu(x: Any, alpha: Any = 1.0) -> Node:
    """x above 0, alpha (exp(x) - 1) below (Clevert, Unterthiner & Hochreiter 2015)."""
    x = _float("elu", x)
    above = x > 0
    return where(above, x, alpha * expm1(where(above, 0, x)))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@surface
def selu(x: Any) -> Node:
    """The scaled elu that keeps mean 0 and variance 1 (Klambauer and others 2017)."""
    return _SELU_SCALE * elu(_float("selu", x), _SELU_ALPHA)


@surface
def celu(x: Any, alpha: Any = 1.0) -> Node:
    """max(x, 0) + min(alpha (exp(x/alpha) - 1), 0), smooth for every alpha (Barron 2017)."""
    x = _float("celu", x)
    above = x > 0
    return where(above, x, alpha * expm1(where(above, 0, x) / alpha))


@surface
def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Node:
    """x above 0, negative_slope x below; the derivative at 0 is negative_slope."""
    x = _float("leaky_relu", x)
    return where(x > 0, x, negative_slope * x)


@surface
def relu6(x: Any) -> Node:
    """min(max(x, 0), 6)."""
    return minimum(relu(x), 6)


@surface
def hard_tanh(x: Any) -> Node:
    """x, clipped to [-1, 1]."""
    return maximum(minimum(_float("hard_tanh", x), 1), -1)


@surface
def hard_sigmoid(x: Any) -> Node:
    """min(max(x + 3, 0), 6)/6."""
    return relu6(_float("hard_sigmoid", x) + 3) / 6


@surface
def hard_swish(x: Any) -> Node:
    """x hard_sigmoid(x) (Howard and others 2019)."""
    x = _float("hard_swish", x)
    return x * hard_sigmoid(x)
