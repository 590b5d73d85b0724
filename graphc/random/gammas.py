"""Which distributions are made of gamma draws?  Gamma, beta, chi-square, Dirichlet, Student's t.

Gamma is drawn by Marsaglia and Tsang: A simple method for generating gamma variables, ACM TOMS 26
(2000), which accepts at least 95 of 100 proposals. Shapes below 1 are lifted by 1 and multiplied by
a power of a uniform number, whose logarithm is kept: beta and Dirichlet stay exact where the gamma
numbers themselves are too small for floats. Draws move with their shape parameters as their
quantiles do (`gamma_slopes`), so all of them differentiate by all of their parameters.
"""

from __future__ import annotations

from typing import Any

import graphc as gx
from graphc.random.continuous import placed, standard_normal
from graphc.random.floats import parts
from graphc.random.gamma_slopes import reparametrised, reparametrised_log
from graphc.random.keys import inner
from graphc.random.rejection import first_accepted
from graphc.random.settings import setting


def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None, scale: Any = 1.0) -> gx.Node:
    """Gamma of shape parameter `a` and this scale; 0 for a = 0, NaN for a < 0.

    Differentiable by both.
    """
    s = setting("gamma", key, shape, dtype, [a, scale])
    return placed(s, standard_gamma(s.key, s.parameters[0]), 0.0, scale)


def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> gx.Node:
    """Chi-square with `df` degrees of freedom: twice a gamma number of df / 2."""
    s = setting("chisquare", key, shape, dtype, [df])
    return gx.cast(2 * standard_gamma(s.key, s.parameters[0] * 0.5), s.dtype)


def student_t(
    key: Any, df: Any, shape: Any = None, dtype: Any = None, loc: Any = 0.0, scale: Any = 1.0
) -> gx.Node:
    """Student's t with `df` degrees of freedom: normal over the root of chi-square / df."""
    s = setting("student_t", key, shape, dtype, [loc, df, scale])
    half = s.parameters[1] * 0.5
    first, second = inner(s.key, 0), inner(s.key, 1)
    ratio = gx.sqrt(half / standard_gamma(second, half))
    return placed(s, standard_normal(first, s.shape, s.inner) * ratio, loc, scale)


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> gx.Node:
    """Beta of shape parameters a and b, both above 0."""
    s = setting("beta", key, shape, dtype, [a, b])
    first, second = inner(s.key, 0), inner(s.key, 1)
    difference = _log_gamma_draw(first, s.parameters[0]) - _log_gamma_draw(second, s.parameters[1])
    return gx.cast(gx.sigmoid(difference), s.dtype)


def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> gx.Node:
    """Dirichlet: positive numbers along the last axis that sum to 1.

    `alpha` [..., n] are its parameters, above 0; `shape` is that of the result without the last
    axis, by default that of alpha.
    """
    node = gx.constant(alpha) if not isinstance(alpha, gx.Node) else alpha
    if node.ndim == 0:
        raise gx.GraphError("random.dirichlet: alpha is at least of rank 1, got one number")
    batch = node.shape[:-1] if shape is None else shape
    full = (*((batch,) if not isinstance(batch, (tuple, list)) else batch), node.shape[-1])
    s = setting("dirichlet", key, full, dtype, [alpha])
    drawn = _log_gamma_draw(s.key, s.parameters[0])
    return gx.cast(gx.softmax(drawn, axis=-1), s.dtype)


# -- gamma numbers of scale 1 ----------------------------------------------------------------------


def standard_gamma(key: gx.Node, a: gx.Node) -> gx.Node:
    first, second = inner(key, 0), inner(key, 1)
    still = gx.stop_gradient(a)
    return reparametrised(_lifted(first, still) * gx.exp(_log_lowering(second, still)), a)


def _log_gamma_draw(key: gx.Node, a: gx.Node) -> gx.Node:
    first, second = inner(key, 0), inner(key, 1)
    still = gx.stop_gradient(a)
    drawn = gx.log(_lifted(first, still)) + _log_lowering(second, still)
    return reparametrised_log(drawn, a)


def _lifted(key: gx.Node, a: gx.Node) -> gx.Node:
    """Gamma numbers of `a`, or of a + 1 where a < 1; NaN for negative ones and for NaN."""
    valid = a >= 0
    lifted = gx.where(valid, gx.where(a < 1, a + 1, a), gx.ones_like(a))
    d = lifted - 1.0 / 3
    c = 1.0 / gx.sqrt(9 * d)

    def propose(fresh: gx.Node) -> tuple[gx.Node, gx.Node]:
        x = standard_normal(fresh, a.shape, a.dtype)
        q, _ = parts(inner(fresh, 0), a.shape, a.dtype)
        root = 1 + c * x
        positive = root > 0
        v = gx.where(positive, root, gx.ones_like(root)) ** 3
        bound = 0.5 * x * x + d * (1 - v + gx.log(v))
        return d * v, positive & (gx.log(q) < bound)

    nothing = gx.full(a.shape, float("nan"), a.dtype)
    return first_accepted(key, nothing, gx.logical_not(valid), propose)


def _log_lowering(key: gx.Node, a: gx.Node) -> gx.Node:
    """The logarithm of what takes a gamma number of a + 1 to one of a; 0 where a >= 1."""
    q, _ = parts(key, a.shape, a.dtype)
    small = a < 1
    divisor = gx.where(small, a, gx.ones_like(a))
    return gx.where(small, gx.log(q) / divisor, gx.zeros_like(a))
