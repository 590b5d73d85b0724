"""How long does it take to compile a deep network?  Look at the columns `cold` and `cached`."""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "loss and gradients of 50 residual layers of width 64, batch 32"
VARIANTS = ("f32",)
LAYERS, WIDTH, BATCH = 50, 64, 32


def tolerance(variant: str) -> float:
    return 1e-3


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(21)
    values = {"x": generator.normal(size=(BATCH, WIDTH))}
    for i in range(LAYERS):
        values[f"w{i}"] = 0.3 * generator.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
        values[f"b{i}"] = 0.01 * generator.normal(size=WIDTH)
    return {k: v.astype("f4") for k, v in values.items()}


def operations(variant: str) -> float:
    return 6.0 * LAYERS * BATCH * WIDTH * WIDTH


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    hidden, added = [values["x"]], []
    for i in range(LAYERS):
        added.append(np.tanh(hidden[-1] @ values[f"w{i}"] + values[f"b{i}"]))
        hidden.append(hidden[-1] + added[-1])
    back = hidden[-1] * hidden[-1].dtype.type(2 / hidden[-1].size)
    gradients: list[np.ndarray] = []
    for i in reversed(range(LAYERS)):
        inner = back * (1 - added[i] ** 2)
        gradients[:0] = [hidden[i].T @ inner, inner.sum(0)]
        back = back + inner @ values[f"w{i}"].T
    return [np.mean(hidden[-1] ** 2), *gradients]


reference = by_hand


def loss(lib: Any, x: Any, **weights: Any) -> Any:
    for i in range(LAYERS):
        x = x + lib.tanh(x @ weights[f"w{i}"] + weights[f"b{i}"])
    return lib.mean(x * x)


def of_graphc(variant: str, x: Any, **weights: Any) -> Any:
    import graphc as gx

    value = loss(gx, x, **weights)
    return [value, *gx.grad(value, list(weights.values()))]


def of_jax(variant: str, x: Any, **weights: Any) -> Any:
    import jax
    import jax.numpy as jnp

    value, gradients = jax.value_and_grad(lambda w: loss(jnp, x, **w))(weights)
    # The arguments of a jitted function come sorted by name.
    return [value, *[gradients[f"{kind}{i}"] for i in range(LAYERS) for kind in "wb"]]


def of_torch(variant: str, x: Any, **weights: Any) -> Any:
    import torch

    return loss(torch, x, **weights)


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    **workload.torch(of_torch, [f"{kind}{i}" for i in range(LAYERS) for kind in "wb"]),
}
