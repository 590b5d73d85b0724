"""How fast are an objective of many small factors, and its gradient?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "likelihood of a mixture of 25 Gaussians, 1000 points in 20 dimensions, and its gradient"
VARIANTS = ("f64 value", "f64 gradient")
SIZE, PARTS, POINTS = 20, 25, 1000
LOWER = np.tril_indices(SIZE, -1)
NAMES = ("weights", "means", "scales", "factors")


def tolerance(variant: str) -> float:
    return 1e-9


def inputs(variant: str) -> Values:
    """Log weights and means of the parts, and inverse Cholesky factors: the logarithms of their
    diagonals, and what lies below. After ADBench, with the prior of its `gamma` 1 and `m` 0.
    """
    generator = np.random.default_rng(19)
    return {
        "weights": generator.normal(size=PARTS),
        "means": generator.uniform(size=(PARTS, SIZE)),
        "scales": 0.5 * generator.normal(size=(PARTS, SIZE)),
        "factors": 0.5 * generator.normal(size=(PARTS, len(LOWER[0]))),
        "x": generator.normal(size=(POINTS, SIZE)),
    }


def operations(variant: str) -> float:
    forward = 2.0 * PARTS * POINTS * (SIZE * (SIZE + 1) / 2 + SIZE)
    return 3 * forward if variant.endswith("gradient") else forward


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    weights, means, scales, factors, x = values.values()
    diagonal = np.exp(scales)
    matrices = np.zeros((PARTS, SIZE, SIZE))
    matrices[:, LOWER[0], LOWER[1]] = factors
    matrices[:, range(SIZE), range(SIZE)] = diagonal
    centred = x[None] - means[:, None]
    whitened = centred @ matrices.swapaxes(1, 2)
    logs = weights[:, None] + scales.sum(1)[:, None] - 0.5 * (whitened**2).sum(2)
    top = logs.max(0)
    powers = np.exp(logs - top)
    total = powers.sum(0)
    shifted = np.exp(weights - weights.max())
    prior = 0.5 * ((diagonal**2).sum() + (factors**2).sum())
    value = (top + np.log(total)).sum() + prior
    value -= POINTS * (weights.max() + np.log(shifted.sum()))
    if not variant.endswith("gradient"):
        return [value]
    shares = powers / total
    back = -shares[:, :, None] * whitened
    d_matrices = back.swapaxes(1, 2) @ centred
    d_scales = shares.sum(1)[:, None] + diagonal * (
        d_matrices[:, range(SIZE), range(SIZE)] + diagonal
    )
    d_factors = d_matrices[:, LOWER[0], LOWER[1]] + factors
    d_means = -(back.sum(1)[:, None] @ matrices)[:, 0]
    return [value, shares.sum(1) - POINTS * shifted / shifted.sum(), d_means, d_scales, d_factors]


reference = by_hand


def objective(lib: Any, logsumexp: Any, matrices: Any, values: dict[str, Any]) -> Any:
    weights, means, scales, factors, x = values.values()
    diagonal = lib.exp(scales)
    centred = lib.expand_dims(x, 0) - lib.expand_dims(means, 1)
    whitened = lib.matmul(centred, lib.swapaxes(matrices(diagonal, factors), 1, 2))
    logs = lib.expand_dims(weights + lib.sum(scales, axis=1), 1)
    logs = logs - 0.5 * lib.sum(whitened * whitened, axis=2)
    prior = 0.5 * (lib.sum(diagonal * diagonal) + lib.sum(factors * factors))
    return lib.sum(logsumexp(logs, 0)) - POINTS * logsumexp(weights, 0) + prior


def of_graphc(variant: str, **symbols: Any) -> Any:
    import graphc as gx

    def matrices(diagonal: Any, factors: Any) -> Any:
        empty = gx.zeros((PARTS, SIZE, SIZE))
        below = gx.at(empty)[:, LOWER[0], LOWER[1]].set(factors)
        return below + gx.expand_dims(diagonal, 2) * gx.eye(SIZE)

    value = objective(gx, lambda a, axis: gx.logsumexp(a, axis=axis), matrices, symbols)
    if not variant.endswith("gradient"):
        return value
    return [value, *gx.grad(value, [symbols[k] for k in NAMES])]


def of_jax(variant: str, x: Any, **parameters: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def matrices(diagonal: Any, factors: Any) -> Any:
        below = jnp.zeros((PARTS, SIZE, SIZE)).at[:, LOWER[0], LOWER[1]].set(factors)
        return below + diagonal[:, :, None] * jnp.eye(SIZE)

    def value(p: Any) -> Any:
        held = {**{k: p[k] for k in NAMES}, "x": x}
        return objective(jnp, jax.scipy.special.logsumexp, matrices, held)

    if not variant.endswith("gradient"):
        return value(parameters)
    result, gradients = jax.value_and_grad(value)(parameters)
    return [result, *[gradients[k] for k in NAMES]]


def torch_value(variant: str, **tensors: Any) -> Any:
    import torch

    class Lib:
        exp, matmul, sum, swapaxes = torch.exp, torch.matmul, torch.sum, torch.swapaxes
        expand_dims = torch.unsqueeze

    def matrices(diagonal: Any, factors: Any) -> Any:
        rows, columns = map(torch.from_numpy, LOWER)
        flat = torch.zeros((PARTS, SIZE * SIZE), dtype=torch.float64)
        flat = torch.index_copy(flat, 1, rows * SIZE + columns, factors)
        eye = torch.eye(SIZE, dtype=torch.float64)
        return flat.view(PARTS, SIZE, SIZE) + diagonal[:, :, None] * eye

    return objective(Lib, torch.logsumexp, matrices, tensors)


def of_torch(how: str) -> Any:
    def builder(values: Values, variant: str) -> Any:
        wrt = NAMES if variant.endswith("gradient") else ()
        return workload.torch(torch_value, wrt)[how](values, variant)

    return builder


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    "torch": of_torch("torch"),
    "torch_compile": of_torch("torch_compile"),
}
