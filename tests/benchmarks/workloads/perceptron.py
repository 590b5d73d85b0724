"""How long does a training step of a perceptron take, and how long its compilation?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "loss, gradients and momentum update of 784-512-512-10 with relu, batch 128"
VARIANTS = ("f32",)
SIZES, BATCH, RATE, DECAY = (784, 512, 512, 10), 128, 0.1, 0.9
PAIRS = list(zip(SIZES, SIZES[1:], strict=False))
WEIGHTS = [f"{kind}{i}" for i in range(len(PAIRS)) for kind in "wb"]


def tolerance(variant: str) -> float:
    return 1e-4


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(13)
    values: Values = {"x": generator.normal(size=(BATCH, SIZES[0])).astype("f4")}
    values["labels"] = generator.integers(0, SIZES[-1], BATCH)
    for i, (rows, columns) in enumerate(PAIRS):
        weight = generator.normal(size=(rows, columns)) / np.sqrt(rows)
        values |= {f"w{i}": weight.astype("f4"), f"b{i}": np.zeros(columns, "f4")}
    moved = {f"m{k}": 0.01 * generator.normal(size=values[k].shape) for k in WEIGHTS}
    return values | {k: v.astype("f4") for k, v in moved.items()}


def operations(variant: str) -> float:
    """Three products for each layer but the first, which has no gradient of its input."""
    products = [rows * columns for rows, columns in PAIRS]
    return 2.0 * BATCH * (3 * sum(products) - products[0])


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    kind, rows = values["x"].dtype.type, np.arange(BATCH)
    inner, before = [values["x"]], []
    for i in range(len(PAIRS)):
        before.append(inner[-1] @ values[f"w{i}"] + values[f"b{i}"])
        inner.append(np.maximum(before[-1], 0))
    logits = before[-1] - before[-1].max(1, keepdims=True)
    powers = np.exp(logits)
    total = powers.sum(1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - logits[rows, values["labels"]])
    back = powers / total
    back[rows, values["labels"]] -= 1
    back /= kind(BATCH)
    gradients = {}
    for i in reversed(range(len(PAIRS))):
        gradients |= {f"w{i}": inner[i].T @ back, f"b{i}": back.sum(0)}
        if i:
            back = (back @ values[f"w{i}"].T) * (before[i - 1] > 0)
    moved = [kind(DECAY) * values[f"m{k}"] + gradients[k] for k in WEIGHTS]
    pairs = zip(WEIGHTS, moved, strict=True)
    return [loss, *[values[k] - kind(RATE) * m for k, m in pairs], *moved]


reference = by_hand


def of_graphc(variant: str, x: Any, labels: Any, **state: Any) -> Any:
    import graphc as gx
    from graphc import nn

    hidden = x
    for i in range(len(PAIRS)):
        hidden = hidden @ state[f"w{i}"] + state[f"b{i}"]
        hidden = gx.relu(hidden) if i + 1 < len(PAIRS) else hidden
    loss = nn.softmax_cross_entropy(hidden, labels)
    gradients = gx.grad(loss, [state[k] for k in WEIGHTS])
    moved = [DECAY * state[f"m{k}"] + g for k, g in zip(WEIGHTS, gradients, strict=True)]
    return [loss, *[state[k] - RATE * m for k, m in zip(WEIGHTS, moved, strict=True)], *moved]


def of_jax(variant: str, x: Any, labels: Any, **state: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def loss(weights: Any) -> Any:
        hidden = x
        for i in range(len(PAIRS)):
            hidden = hidden @ weights[f"w{i}"] + weights[f"b{i}"]
            hidden = jax.nn.relu(hidden) if i + 1 < len(PAIRS) else hidden
        chosen = jnp.take_along_axis(jax.nn.log_softmax(hidden), labels[:, None], 1)
        return -jnp.mean(chosen)

    value, gradients = jax.value_and_grad(loss)({k: state[k] for k in WEIGHTS})
    moved = [DECAY * state[f"m{k}"] + gradients[k] for k in WEIGHTS]
    return [value, *[state[k] - RATE * m for k, m in zip(WEIGHTS, moved, strict=True)], *moved]


def torch_loss(variant: str, x: Any, labels: Any, **state: Any) -> Any:
    import torch

    hidden = x
    for i in range(len(PAIRS)):
        hidden = torch.addmm(state[f"b{i}"], hidden, state[f"w{i}"])
        hidden = torch.relu(hidden) if i + 1 < len(PAIRS) else hidden
    return torch.nn.functional.cross_entropy(hidden, labels)


def torch_update(value: Any, gradients: Any, **state: Any) -> Any:
    moved = [DECAY * state[f"m{k}"] + g for k, g in zip(WEIGHTS, gradients, strict=True)]
    return [value, *[state[k] - RATE * m for k, m in zip(WEIGHTS, moved, strict=True)], *moved]


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    **workload.torch(torch_loss, WEIGHTS, after=torch_update),
}
