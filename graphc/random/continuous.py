"""Which draws move smoothly with their parameters?  Those made of uniform numbers by a formula.

So they differentiate by the chain rule (the reparametrisation). The formula is the quantile
function of the distribution; where there are two tails it is that of one of them, and a sign, so
both are as exact as small floats are. Normal numbers reach 8.2 standard deviations, in float32 6.6.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import graphc as gx
from graphc.random.floats import open_unit, parts, signed_unit, steps
from graphc.random.keys import words
from graphc.random.settings import Setting, setting
from graphc.types import Shape


def uniform(
    key: Any, shape: Any = None, dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
) -> gx.Node:
    """Uniform on [minval, maxval), in steps of 2**-53 of the span (2**-24 for float32)."""
    s = setting("uniform", key, shape, dtype, [minval, maxval])
    if _is_number(minval, 0) and _is_number(maxval, 1):
        return steps(s.key, s.shape, s.dtype)
    low, high = s.parameters
    value = gx.cast(low + steps(s.key, s.shape, s.inner) * (high - low), s.dtype)
    # what rounding takes to the upper end, which is excluded, falls to the lower
    return gx.where(value < gx.cast(high, s.dtype), value, gx.cast(low, s.dtype))


def normal(
    key: Any, shape: Any = None, dtype: Any = None, loc: Any = 0.0, scale: Any = 1.0
) -> gx.Node:
    """Normal with mean `loc` and standard deviation `scale`."""
    s = setting("normal", key, shape, dtype, [loc, scale])
    return placed(s, standard_normal(s.key, s.shape, s.inner), loc, scale)


def lognormal(
    key: Any, shape: Any = None, dtype: Any = None, mean: Any = 0.0, sigma: Any = 1.0
) -> gx.Node:
    """exp of a normal number with this mean and standard deviation."""
    s = setting("lognormal", key, shape, dtype, [mean, sigma])
    centre, width = s.parameters
    drawn = standard_normal(s.key, s.shape, s.inner)
    return gx.cast(gx.exp(centre + width * drawn), s.dtype)


def truncated_normal(
    key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None
) -> gx.Node:
    """Standard normal, given that it lies in [lower, upper].

    Drawn by its quantile function on the side of the smaller tail, so bounds far out on one side
    work: to 12 standard deviations in float32, 37 in float64.
    """
    s = setting("truncated_normal", key, shape, dtype, [lower, upper])
    low, high = s.parameters
    mirrored = low > 0
    first = gx.where(mirrored, -high, low)
    second = gx.where(mirrored, -low, high)
    below, above = (gx.erfc(-end / math.sqrt(2)) for end in (first, second))  # twice the quantiles
    q, _ = parts(s.key, s.shape, s.inner)
    value = -math.sqrt(2) * gx.erfcinv(below + q * (above - below))
    return gx.cast(gx.clip(gx.where(mirrored, -value, value), low, high), s.dtype)


def exponential(key: Any, shape: Any = None, dtype: Any = None, scale: Any = 1.0) -> gx.Node:
    """Exponential with mean `scale`: -log(q)."""
    s = setting("exponential", key, shape, dtype, [scale])
    q, _ = parts(s.key, s.shape, s.inner)
    return placed(s, -gx.log(q), 0.0, scale)


def gumbel(
    key: Any, shape: Any = None, dtype: Any = None, loc: Any = 0.0, scale: Any = 1.0
) -> gx.Node:
    """Gumbel (the largest of many): -log(-log(1 - q)), exact in the long tail."""
    s = setting("gumbel", key, shape, dtype, [loc, scale])
    return placed(s, standard_gumbel(s), loc, scale)


def laplace(
    key: Any, shape: Any = None, dtype: Any = None, loc: Any = 0.0, scale: Any = 1.0
) -> gx.Node:
    """Laplace (double exponential): -log(q) and a sign."""
    s = setting("laplace", key, shape, dtype, [loc, scale])
    q, negative = parts(s.key, s.shape, s.inner)
    return placed(s, _signed(-gx.log(q), negative), loc, scale)


def logistic(
    key: Any, shape: Any = None, dtype: Any = None, loc: Any = 0.0, scale: Any = 1.0
) -> gx.Node:
    """Logistic: log((1 - p) / p) of p = q/2, and a sign."""
    s = setting("logistic", key, shape, dtype, [loc, scale])
    q, negative = parts(s.key, s.shape, s.inner)
    half = q * 0.5
    return placed(s, _signed(gx.log1p(-half) - gx.log(half), negative), loc, scale)


def cauchy(
    key: Any, shape: Any = None, dtype: Any = None, loc: Any = 0.0, scale: Any = 1.0
) -> gx.Node:
    """Cauchy: 1 / tan(pi q / 2) and a sign."""
    s = setting("cauchy", key, shape, dtype, [loc, scale])
    q, negative = parts(s.key, s.shape, s.inner)
    return placed(s, _signed(1.0 / gx.tan(q * (math.pi / 2)), negative), loc, scale)


# -- for the other distributions -------------------------------------------------------------------


def standard_normal(key: gx.Node, shape: Shape, dtype: np.dtype[Any]) -> gx.Node:
    """Normal numbers from one call of the cipher each.

    In float64 53 of its bits are a quantile. In float32 one word is the square of a radius and one
    an angle (Box, Muller: A note on the generation of random normal deviates, 1958), which is twice
    as fast, and as exact: each word has more bits than the result.
    """
    low, high = words(key, shape)
    if dtype == np.float64:
        return math.sqrt(2) * gx.erfinv(signed_unit(low, high))
    turn = gx.cast(gx.cast(high, "int32"), dtype) * (math.pi * 2.0**-31)
    return gx.sqrt(-2 * gx.log(open_unit(low, high, dtype))) * gx.cos(turn)


def standard_gumbel(s: Setting) -> gx.Node:
    q, _ = parts(s.key, s.shape, s.inner)
    return -gx.log(-gx.log1p(-q))


def _signed(size: gx.Node, negative: gx.Node) -> gx.Node:
    return gx.where(negative, -size, size)


def placed(s: Setting, value: gx.Node, loc: Any, scale: Any) -> gx.Node:
    """loc + scale * value, in the dtype asked for; a neutral loc and scale cost nothing."""
    if not _is_number(scale, 1):
        value = value * s.parameters[-1]
    if not _is_number(loc, 0):
        value = value + s.parameters[0]
    return gx.cast(value, s.dtype)


def _is_number(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value == number
