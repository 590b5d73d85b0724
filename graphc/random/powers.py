"""Which distributions are powers and quotients of exponential and uniform numbers?

Rayleigh, Weibull, Pareto, power, triangular, Wald (inverse Gaussian), and F. All but F and Wald are
their quantile function of a uniform number, and so differentiate by the chain rule; Wald chooses
between the two roots of a quadratic (Michael, Schucany, Haas: Generating random variates using
transformations with multiple roots, 1976), which is a jump, and is opaque to derivatives.
"""

from __future__ import annotations

from typing import Any

import graphc as gx
from graphc.random.continuous import placed, standard_normal
from graphc.random.floats import parts, steps
from graphc.random.gammas import standard_gamma
from graphc.random.keys import inner
from graphc.random.rejection import opaque
from graphc.random.settings import setting


def rayleigh(key: Any, shape: Any = None, dtype: Any = None, scale: Any = 1.0) -> gx.Node:
    """Rayleigh, the length of a normal vector in the plane: scale * sqrt(-2 log(q))."""
    s = setting("rayleigh", key, shape, dtype, [scale])
    q, _ = parts(s.key, s.shape, s.inner)
    return placed(s, gx.sqrt(-2 * gx.log(q)), 0.0, scale)


def weibull(
    key: Any, a: Any, shape: Any = None, dtype: Any = None, scale: Any = 1.0
) -> gx.Node:
    """Weibull of shape parameter `a`: scale * (-log(q)) ** (1 / a)."""
    s = setting("weibull", key, shape, dtype, [a, scale])
    q, _ = parts(s.key, s.shape, s.inner)
    return placed(s, gx.exp(gx.log(-gx.log(q)) / s.parameters[0]), 0.0, scale)


def pareto(key: Any, a: Any, shape: Any = None, dtype: Any = None, scale: Any = 1.0) -> gx.Node:
    """Pareto of tail index `a`, at least `scale`: scale * q ** (-1 / a).

    NumPy's `pareto` is this less `scale`.
    """
    s = setting("pareto", key, shape, dtype, [a, scale])
    q, _ = parts(s.key, s.shape, s.inner)
    return placed(s, gx.exp(-gx.log(q) / s.parameters[0]), 0.0, scale)


def power(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> gx.Node:
    """On (0, 1), of density a x ** (a - 1): q ** (1 / a)."""
    s = setting("power", key, shape, dtype, [a])
    q, _ = parts(s.key, s.shape, s.inner)
    return gx.cast(gx.exp(gx.log(q) / s.parameters[0]), s.dtype)


def triangular(
    key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None
) -> gx.Node:
    """On [left, right], of a density that rises to `mode` and falls from there."""
    s = setting("triangular", key, shape, dtype, [left, mode, right])
    low, peak, high = s.parameters
    span = high - low
    u = steps(s.key, s.shape, s.inner)
    rising = u * span < peak - low
    below = low + gx.sqrt(gx.where(rising, u, 0.0) * span * (peak - low))
    above = high - gx.sqrt(gx.where(rising, 0.0, 1 - u) * span * (high - peak))
    return gx.cast(gx.where(rising, below, above), s.dtype)


def wald(key: Any, mean: Any, scale: Any, shape: Any = None, dtype: Any = None) -> gx.Node:
    """Wald, the inverse Gaussian: of this mean, and of variance mean ** 3 / scale.

    By its parameters there is no derivative.
    """
    s = setting("wald", key, shape, dtype, [mean, scale])
    centre, weight = s.parameters
    z = standard_normal(inner(s.key, 0), s.shape, s.inner)
    half = centre * z * z / (2 * weight)
    # 1 + half - sqrt(half ** 2 + 2 half), without the difference
    root = 1 / (1 + half + gx.sqrt(half * half + 2 * half))
    u = steps(inner(s.key, 1), s.shape, s.inner)
    return gx.cast(opaque(centre * gx.where(u * (1 + root) <= 1, root, 1 / root)), s.dtype)


def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> gx.Node:
    """F (Fisher, Snedecor): the quotient of two chi-squares, each over its degrees of freedom."""
    s = setting("f", key, shape, dtype, [dfnum, dfden])
    first, second = (degrees * 0.5 for degrees in s.parameters)
    above = standard_gamma(inner(s.key, 0), first) / first
    below = standard_gamma(inner(s.key, 1), second) / second
    return gx.cast(above / below, s.dtype)
