"""The normal distribution: its distribution function, its density, and gelu, which is made of them.

Each is an op, because compositions of erf and exp lose the places of what is small far out. Their
kernels are made of the same instructions, and derivatives are graphs of these ops: a kernel that
computes gelu and its derivative holds the exponential and the series once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.op import Interval
from graphc.ops.arithmetic import strong_multiply
from graphc.ops.special_functions import each_float64
from graphc.ops.transcend import as_float64, quiet, real_op, real_surface

_erfc = each_float64(math.erfc)
# -sqrt(1/2), and what its nearest float64 lacks.
_MINUS_ROOT_HALF, _MINUS_ROOT_HALF_REST = -math.sqrt(0.5), 4.833646656726457e-17
_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


def _halves(x: Any) -> tuple[Any, Any]:
    """Two numbers of half the digits whose sum a float64 is."""
    far = x * 134217729.0  # 2**27 + 1
    high = far - (far - x)
    return high, x - high


def _ndtr_numpy(x: Any) -> Any:
    """erfc(-x/sqrt(2))/2.

    Where erfc falls steeply its argument must be known to more than its own digits: the error of
    the product comes from its parts (Dekker, Numer. Math. 18, 1971), and moves erfc by its slope.
    """
    near = np.clip(x, -40, 40)
    at = near * _MINUS_ROOT_HALF
    (a, b), (c, d) = _halves(near), _halves(_MINUS_ROOT_HALF)
    error = ((a * c - at) + a * d + b * c) + b * d + near * _MINUS_ROOT_HALF_REST
    return (_erfc(at) - 2 / math.sqrt(math.pi) * np.exp(-at * at) * error) / 2


def _density_numpy(x: Any) -> Any:
    """exp(-x**2/2)/sqrt(2 pi), with a square of twice the digits."""
    near = np.clip(x, -40, 40)
    high, low = _halves(near)
    return _DENSITY_AT_0 * np.exp(-0.5 * low * (near + high)) * np.exp(-0.5 * high * high)


def _gelu_numpy(x: Any) -> Any:
    below = np.isneginf(x)
    return np.where(below, -0.0, np.where(below, 0, x) * _ndtr_numpy(x))


normal_density_op = real_op(
    "normal_density",
    as_float64(quiet(_density_numpy)),
    lambda x, y: -strong_multiply(y, x),
    20,
    domain=(Interval(-4, 4),),
    laws=frozenset(("even",)),
    facts=lambda node, known: frozenset(("nonnegative",)),
    doc="exp(-x**2/2)/sqrt(2 pi).",
)
ndtr_op = real_op(
    "ndtr",
    as_float64(quiet(_ndtr_numpy)),
    lambda x, y: normal_density_op(x),
    45,
    domain=(Interval(-4, 4),),
    laws=frozenset(("increasing",)),
    facts=lambda node, known: frozenset(("nonnegative",)),
    doc="erfc(-x/sqrt(2))/2, accurate where it is small.",
)
gelu_op = real_op(
    "gelu",
    as_float64(quiet(_gelu_numpy)),
    lambda x, y: ndtr_op(x) + strong_multiply(normal_density_op(x), x),
    50,
    domain=(Interval(-4, 4),),
    doc="x erfc(-x/sqrt(2))/2.",
)

ndtr = real_surface(
    ndtr_op,
    "The distribution function of the standard normal distribution, erfc(-x/sqrt(2))/2, accurate "
    "where it is small.",
)
normal_density = real_surface(
    normal_density_op, "The density of the standard normal distribution, exp(-x**2/2)/sqrt(2 pi)."
)
