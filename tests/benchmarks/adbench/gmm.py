"""How likely are points under a mixture of Gaussians with a Wishart prior?  ADBench's GMM.

A Gaussian is given by a lower triangular matrix Q with Q'Q its inverse covariance: the logarithms
of its diagonal (`q`), and what lies below it, column by column (`l`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

PARAMETERS = ("alpha", "mu", "q", "l")
FILES = ("gmm_d2_K5", "gmm_d2_K25", "gmm_d10_K5", "gmm_d10_K25", "gmm_d20_K10", "gmm_d32_K25")


def read(path: Path) -> dict[str, Any]:
    """Log weights, means, factors, points and the prior of a file of ADBench's."""
    lines = path.read_text().splitlines()
    d, k, _ = map(int, lines[0].split())
    rows = [list(map(float, line.split())) for line in lines[1:] if line.strip()]
    factors = np.array(rows[2 * k : 3 * k])
    return {
        "alpha": np.array(rows[:k])[:, 0],
        "mu": np.array(rows[k : 2 * k]),
        "q": factors[:, :d],
        "l": factors[:, d:],
        "x": np.array(rows[3 * k : -1]),
        "gamma": rows[-1][0],
        "m": int(rows[-1][1]),
    }


def below(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what lies below a diagonal, column by column."""
    columns, rows = np.triu_indices(d, 1)
    return rows, columns


def prior_constant(k: int, d: int, n: int, gamma: float, m: int) -> float:
    """What of the objective does not depend on the parameters."""
    freedom = d + m + 1
    halves = sum(math.lgamma(0.5 * (freedom - j)) for j in range(d))
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + halves
    wishart = freedom * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma
    return k * wishart - n * d / 2 * math.log(2 * math.pi)


def objective(
    lib: Any, logsumexp: Any, matrices: Any, alpha: Any, mu: Any, q: Any, l: Any, x: Any,  # noqa: E741
    gamma: float, m: int,
) -> Any:  # fmt: skip
    """The logarithm of the posterior, in what NumPy, JAX and graphc have in common.

    `matrices(diagonal, below)` are the matrices Q.
    """
    (n, d), (k,) = x.shape, alpha.shape
    diagonal = lib.exp(q)
    centred = lib.expand_dims(x, 0) - lib.expand_dims(mu, 1)
    whitened = lib.matmul(centred, lib.swapaxes(matrices(diagonal, l), 1, 2))
    logs = lib.expand_dims(alpha + lib.sum(q, axis=1), 1)
    logs = logs - 0.5 * lib.sum(whitened * whitened, axis=2)
    squares = lib.sum(diagonal * diagonal) + lib.sum(l * l)
    prior = m * lib.sum(q) - 0.5 * gamma * gamma * squares + prior_constant(k, d, n, gamma, m)
    return lib.sum(logsumexp(logs, 0)) - n * logsumexp(alpha, 0) + prior


def of_graphc(alpha: Any, mu: Any, q: Any, l: Any, x: Any, gamma: float, m: int) -> Any:  # noqa: E741
    """The objective as a graph."""
    import graphc as gx

    k, d = mu.shape

    def matrices(diagonal: Any, under: Any) -> Any:
        rows, columns = below(d)
        placed = gx.at(gx.zeros((k, d, d)))[:, rows, columns].set(under)
        return placed + gx.expand_dims(diagonal, 2) * gx.eye(d)

    return objective(
        gx, lambda a, axis: gx.logsumexp(a, axis=axis), matrices, alpha, mu, q, l, x, gamma, m
    )


def of_jax(alpha: Any, mu: Any, q: Any, l: Any, x: Any, gamma: float, m: int) -> Any:  # noqa: E741
    """The objective in JAX."""
    import jax
    import jax.numpy as jnp

    k, d = mu.shape

    def matrices(diagonal: Any, under: Any) -> Any:
        rows, columns = below(d)
        placed = jnp.zeros((k, d, d)).at[:, rows, columns].set(under)
        return placed + diagonal[:, :, None] * jnp.eye(d)

    logsumexp = jax.scipy.special.logsumexp
    return objective(jnp, logsumexp, matrices, alpha, mu, q, l, x, gamma, m)


def by_hand(alpha: Any, mu: Any, q: Any, l: Any, x: Any, gamma: float, m: int) -> Any:  # noqa: E741
    """The objective in NumPy, a matrix product for each Gaussian."""
    (n, d), k = x.shape, len(alpha)
    rows, columns = below(d)
    logs = np.empty((k, n))
    squares = 0.0
    for i in range(k):
        matrix = np.zeros((d, d))
        matrix[rows, columns] = l[i]
        matrix[range(d), range(d)] = np.exp(q[i])
        squares += np.vdot(matrix, matrix)
        whitened = (x - mu[i]) @ matrix.T
        logs[i] = alpha[i] + q[i].sum() - 0.5 * np.einsum("ij,ij->i", whitened, whitened)
    top = logs.max(0)
    total = (top + np.log(np.exp(logs - top).sum(0))).sum()
    total -= n * (alpha.max() + np.log(np.exp(alpha - alpha.max()).sum()))
    prior = m * q.sum() - 0.5 * gamma * gamma * squares
    return total + prior + prior_constant(k, d, n, gamma, m)
