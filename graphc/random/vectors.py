"""Which distributions are over vectors?  Multivariate normal, and multinomial counts.

A multivariate normal vector is the mean plus the Cholesky factor of the covariance times a standard
normal vector, and moves smoothly with both. Multinomial counts are binomial ones, category after
category, each of what the earlier ones left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc.random.continuous import standard_normal
from graphc.random.counts import binomial
from graphc.random.keys import as_key, inner
from graphc.random.settings import float_dtype
from graphc.types import as_shape


def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None
) -> gx.Node:
    """Normal vectors of this mean [..., n] and covariance [..., n, n], along the last axis.

    `shape` is that of the result without its last axis, by default that to which the parameters
    broadcast. A covariance that is not positive definite fails the call (see
    `gx.linalg.cholesky`).
    """
    node = as_key(key, "multivariate_normal")
    wanted = float_dtype("multivariate_normal", dtype, [mean, cov])
    inner_dtype = np.dtype("float32") if wanted.itemsize < 4 else wanted
    centre, spread = gx.cast(mean, inner_dtype), gx.cast(cov, inner_dtype)
    if centre.ndim == 0 or spread.ndim < 2 or spread.shape[-1] != spread.shape[-2]:
        raise gx.GraphError(
            "random.multivariate_normal needs a mean [..., n] and a covariance [..., n, n], got "
            f"{centre.type} and {spread.type}"
        )
    if centre.shape[-1] != spread.shape[-1]:
        raise gx.GraphError(
            f"random.multivariate_normal: the mean has {centre.shape[-1]} elements, the covariance "
            f"is of {spread.shape[-1]}"
        )
    factor = gx.linalg.cholesky(spread)
    if shape is None:
        batch = gx.broadcast_shapes(centre.shape[:-1], spread.shape[:-2])
    else:
        batch = as_shape(shape)
    drawn = standard_normal(node, (*batch, centre.shape[-1]), inner_dtype)
    return gx.cast(centre + gx.matvec(factor, drawn), wanted)


def multinomial(
    key: Any, n: Any, pvals: Any, shape: Any = None, dtype: Any = "int64"
) -> gx.Node:
    """How often each category comes up in n trials: counts along the last axis, n in all.

    `pvals` [..., k] are the probabilities, of which the last is what the others leave of 1; `shape`
    is that of the result without its last axis. -1 for impossible n or probabilities.
    """
    node = as_key(key, "multinomial")
    chances = gx.cast(pvals, "float64")
    if chances.ndim == 0 or not isinstance(chances.shape[-1], int) or chances.shape[-1] == 0:
        raise gx.GraphError(
            f"random.multinomial needs probabilities [..., k] of a known k > 0, got {chances.type}"
        )
    trials = gx.cast(n, "int64")
    if shape is None:
        batch = gx.broadcast_shapes(trials.shape, chances.shape[:-1])
    else:
        batch = as_shape(shape)
    left = gx.broadcast_to(trials, batch)
    rest = gx.ones(batch)
    counts = []
    for category in range(chances.shape[-1] - 1):
        chance = gx.broadcast_to(chances[..., category], batch)
        share = gx.where(rest > 0, gx.minimum(chance / gx.where(rest > 0, rest, 1.0), 1.0), 0.0)
        drawn = binomial(inner(node, category), left, share)
        counts.append(drawn)
        left, rest = gx.where(drawn < 0, -1, left - drawn), rest - chance
    return gx.cast(gx.stack([*counts, left], axis=-1), dtype)
