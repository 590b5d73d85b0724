"""How many events?  Poisson, binomial, geometric and negative binomial numbers, as integers.

Small means are drawn by inversion, adding up probabilities until they reach a uniform number. Large
ones by transformed rejection with squeeze (Hoermann: The transformed rejection method for
generating Poisson random variables, 1993, algorithm PTRS; The generation of binomial random
variates, 1993, algorithm BTRS). Everything is computed in float64, so counts of more than about
2**40 are as coarse as the logarithm of their factorials. Being integers they carry no derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gx
from graphc.random.floats import parts, steps
from graphc.random.gammas import standard_gamma
from graphc.random.keys import as_key, inner
from graphc.random.rejection import MOST_ROUNDS, first_accepted
from graphc.random.settings import shape_of, spread

# The mean from which rejection is used: below, inversion needs few steps.
LARGE_MEAN = 10.0
# Probabilities below this end the search of inversion: the uniform number has 53 bits.
NEGLIGIBLE = 1e-20
_FLOAT = np.dtype("float64")


def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = "int64") -> gx.Node:
    """Poisson numbers of mean `lam`; -1 where it is negative or NaN."""
    node, _, (mean,) = _arguments("poisson", key, shape, dtype, lam)
    valid = mean >= 0
    small, large = inner(node, 0), inner(node, 1)
    value = gx.where(
        mean < LARGE_MEAN,
        _few(
            small, mean, gx.exp(-mean), lambda count, term: term * mean / count, mean < LARGE_MEAN
        ),
        _poisson_many(large, mean),
    )
    return _counted(value, valid, dtype)


def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = "int64") -> gx.Node:
    """How many of n trials succeed, each with probability p; -1 for impossible n or p."""
    node, _, (trials, chance) = _arguments("binomial", key, shape, dtype, n, p)
    valid = (trials >= 0) & (chance >= 0) & (chance <= 1)
    likely = chance > 0.5
    rare = gx.where(likely, 1 - chance, chance)
    odds = rare / (1 - rare)
    few = trials * rare < LARGE_MEAN
    small, large = inner(node, 0), inner(node, 1)

    def following(count: gx.Node, term: gx.Node) -> gx.Node:
        return term * odds * (trials - count + 1) / count

    value = gx.where(
        few,
        _few(small, trials, gx.exp(trials * gx.log1p(-rare)), following, few & valid),
        _binomial_many(large, trials, rare, valid & gx.logical_not(few)),
    )
    value = gx.clip(value, 0.0, trials)
    return _counted(gx.where(likely, trials - value, value), valid, dtype)


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = "int64") -> gx.Node:
    """How many trials up to the first success, it included; -1 where p is not in (0, 1]."""
    node, extents, (chance,) = _arguments("geometric", key, shape, dtype, p)
    q, _ = parts(node, extents, _FLOAT)
    certain = chance == 1
    rate = gx.log1p(-gx.where(certain, gx.full(extents, 0.5), chance))
    value = gx.where(certain, gx.ones(extents), gx.maximum(gx.ceil(gx.log(q) / rate), 1.0))
    return _counted(value, (chance > 0) & (chance <= 1), dtype)


def negative_binomial(
    key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = "int64"
) -> gx.Node:
    """How many failures before the n-th success, each trial succeeding with probability p; n > 0
    need not be whole. -1 for impossible n or p.

    A Poisson number whose mean is a gamma number of n and scale (1 - p) / p.
    """
    node, _, (wanted, chance) = _arguments("negative_binomial", key, shape, dtype, n, p)
    valid = (wanted > 0) & (chance > 0) & (chance <= 1)
    count, share = gx.where(valid, wanted, 1.0), gx.where(valid, chance, 1.0)
    mean = standard_gamma(inner(node, 0), count) * ((1 - share) / share)
    return _counted(gx.cast(poisson(inner(node, 1), mean), _FLOAT), valid, dtype)


def _arguments(
    name: str, key: Any, shape: Any, dtype: Any, *parameters: Any
) -> tuple[gx.Node, Any, tuple[gx.Node, ...]]:
    """The key, the shape, and the parameters as float64."""
    node = as_key(key, name)
    if np.dtype(dtype).kind not in "iu":
        raise gx.GraphError(f"random.{name} gives integers, got dtype {np.dtype(dtype).name}")
    nodes = [gx.cast(parameter, _FLOAT) for parameter in parameters]
    extents = shape_of(shape, nodes)
    return node, extents, spread(nodes, extents)


def _counted(value: gx.Node, valid: gx.Node, dtype: Any) -> gx.Node:
    """Integers, -1 where the parameters are none of the distribution's."""
    return gx.cast(gx.where(valid, value, gx.full(value.shape, -1.0)), dtype)


# -- inversion -------------------------------------------------------------------------------------


def _few(
    key: gx.Node,
    limit: gx.Node,
    none: gx.Node,
    following: Callable[[gx.Node, gx.Node], gx.Node],
    wanted: gx.Node,
) -> gx.Node:
    """The number of terms, of which `none` is the first, whose sum a uniform number exceeds."""
    u = steps(key, limit.shape, _FLOAT)

    def going(count: gx.Node, term: gx.Node, total: gx.Node) -> gx.Node:
        return wanted & (u >= total) & ((term > NEGLIGIBLE) | (count < limit))

    def condition(state: Any) -> gx.Node:
        round_, *rest = state
        return gx.any(going(*rest)) & (round_ < MOST_ROUNDS)

    def step(state: Any) -> Any:
        round_, count, term, total = state
        more = going(count, term, total)
        after = following(count + 1, term)
        return (
            round_ + 1,
            gx.where(more, count + 1, count),
            gx.where(more, after, term),
            gx.where(more, total + after, total),
        )

    start = (gx.zeros((), "int64"), gx.zeros_like(none), none, none)
    return gx.while_loop(condition, step, start)[1]


# -- transformed rejection -------------------------------------------------------------------------


def _proposed(
    key: gx.Node, a: gx.Node, b: gx.Node, shift: gx.Node
) -> tuple[gx.Node, gx.Node, gx.Node]:
    """A whole number from the table mountain of parameters a and b, its distance from the edge, and
    a second uniform number.
    """
    u = steps(key, a.shape, _FLOAT) - 0.5
    v, _ = parts(inner(key, 0), a.shape, _FLOAT)
    edge = gx.maximum(0.5 - gx.absolute(u), 2.0**-54)
    return gx.floor((2 * a / edge + b) * u + shift), edge, v


def _poisson_many(key: gx.Node, mean: gx.Node) -> gx.Node:
    """PTRS; the constants are those of the paper."""
    wanted = mean >= LARGE_MEAN
    lam = gx.where(wanted, mean, gx.full(mean.shape, LARGE_MEAN))
    log_lam = gx.log(lam)
    b = 0.931 + 2.53 * gx.sqrt(lam)
    a = -0.059 + 0.02483 * b
    scale = 1.1239 + 1.1328 / (b - 3.4)
    inner = 0.9277 - 3.6224 / (b - 2)

    def propose(fresh: gx.Node) -> tuple[gx.Node, gx.Node]:
        k, edge, v = _proposed(fresh, a, b, lam + 0.43)
        possible = (k >= 0) & ((edge >= 0.013) | (v <= edge))
        counted = gx.maximum(k, 0.0)
        left = gx.log(v * scale / (a / (edge * edge) + b))
        fits = left <= counted * log_lam - lam - gx.gammaln(counted + 1)
        return k, ((edge >= 0.07) & (v <= inner)) | (possible & fits)

    return first_accepted(key, gx.zeros_like(mean), gx.logical_not(wanted), propose)


def _binomial_many(key: gx.Node, trials: gx.Node, rare: gx.Node, wanted: gx.Node) -> gx.Node:
    """BTRS; the constants are those of the paper."""
    n = gx.where(wanted, trials, gx.full(trials.shape, 4 * LARGE_MEAN))
    p = gx.where(wanted, rare, gx.full(trials.shape, 0.5))
    spread_ = gx.sqrt(n * p * (1 - p))
    log_odds = gx.log(p) - gx.log1p(-p)
    b = 1.15 + 2.53 * spread_
    a = -0.0873 + 0.0248 * b + 0.01 * p
    inner = 0.92 - 4.2 / b
    scale = (2.83 + 5.1 / b) * spread_
    mode = gx.floor((n + 1) * p)
    height = gx.gammaln(mode + 1) + gx.gammaln(n - mode + 1)

    def propose(fresh: gx.Node) -> tuple[gx.Node, gx.Node]:
        k, edge, v = _proposed(fresh, a, b, n * p + 0.5)
        possible = (k >= 0) & (k <= n)
        counted = gx.clip(k, 0.0, n)
        left = gx.log(v * scale / (a / (edge * edge) + b))
        weight = gx.gammaln(counted + 1) + gx.gammaln(n - counted + 1)
        fits = left <= height - weight + (counted - mode) * log_odds
        return k, ((edge >= 0.07) & (v <= inner)) | (possible & fits)

    return first_accepted(key, gx.zeros_like(trials), gx.logical_not(wanted), propose)
