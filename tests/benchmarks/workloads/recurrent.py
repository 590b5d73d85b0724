"""How fast are the loss and the gradient of a recurrent network, a loop over time?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "long short-term memory of width 128, batch 32, 64 steps: loss and gradients"
VARIANTS = ("f32",)
STEPS, BATCH, INPUTS, WIDTH = 64, 32, 64, 128
NAMES = ("weight", "recurrent", "bias")


def tolerance(variant: str) -> float:
    return 2e-4


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(15)
    values = {
        "x": generator.normal(size=(STEPS, BATCH, INPUTS)),
        "weight": generator.normal(size=(INPUTS, 4 * WIDTH)) / np.sqrt(INPUTS),
        "recurrent": generator.normal(size=(WIDTH, 4 * WIDTH)) / np.sqrt(WIDTH),
        "bias": 0.1 * generator.normal(size=4 * WIDTH),
    }
    return {k: v.astype("f4") for k, v in values.items()}


def operations(variant: str) -> float:
    forward = 2.0 * STEPS * BATCH * 4 * WIDTH * (INPUTS + WIDTH)
    return 3 * forward - 2.0 * STEPS * BATCH * 4 * WIDTH * INPUTS


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    """The mean of the squares of the last state; gates in the order input, forget, cell, output."""
    x, weight, recurrent, bias = values.values()
    hidden = [np.zeros((BATCH, WIDTH), x.dtype)]
    cells = [hidden[0]]
    gates = []
    for t in range(STEPS):
        z = x[t] @ weight + hidden[-1] @ recurrent + bias
        i, f, g, o = np.split(z, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        cells.append(f * cells[-1] + i * g)
        hidden.append(o * np.tanh(cells[-1]))
        gates.append((i, f, g, o))
    last = hidden[-1]
    d_hidden, d_cell = last * x.dtype.type(2 / last.size), np.zeros_like(last)
    gradients = [np.zeros_like(values[name]) for name in NAMES]
    for t in reversed(range(STEPS)):
        i, f, g, o = gates[t]
        curve = np.tanh(cells[t + 1])
        d_cell = d_cell + d_hidden * o * (1 - curve * curve)
        back = [d_cell * g * i * (1 - i), d_cell * cells[t] * f * (1 - f)]
        back += [d_cell * i * (1 - g * g), d_hidden * curve * o * (1 - o)]
        z = np.concatenate(back, axis=1)
        for total, term in zip(gradients, (x[t].T @ z, hidden[t].T @ z, z.sum(0)), strict=True):
            total += term
        d_hidden, d_cell = z @ recurrent.T, d_cell * f
    return [np.mean(last * last), *gradients]


reference = by_hand


def of_graphc(variant: str, x: Any, weight: Any, recurrent: Any, bias: Any) -> Any:
    import graphc as gx

    def step(state: Any, x: Any) -> Any:
        hidden, cell = state
        i, f, g, o = gx.split(x @ weight + hidden @ recurrent + bias, 4, axis=1)
        cell = gx.sigmoid(f) * cell + gx.sigmoid(i) * gx.tanh(g)
        return (gx.sigmoid(o) * gx.tanh(cell), cell), None

    start = gx.zeros((BATCH, WIDTH), "float32")
    (hidden, _), _ = gx.scan(step, (start, start), x)
    loss = gx.mean(hidden * hidden)
    return [loss, *gx.grad(loss, [weight, recurrent, bias])]


def of_jax(variant: str, x: Any, weight: Any, recurrent: Any, bias: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def loss(weights: Any) -> Any:
        weight, recurrent, bias = weights

        def step(state: Any, x: Any) -> Any:
            hidden, cell = state
            i, f, g, o = jnp.split(x @ weight + hidden @ recurrent + bias, 4, axis=1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(cell), cell), None

        start = jnp.zeros((BATCH, WIDTH), x.dtype)
        (hidden, _), _ = jax.lax.scan(step, (start, start), x)
        return jnp.mean(hidden * hidden)

    value, gradients = jax.value_and_grad(loss)((weight, recurrent, bias))
    return [value, *gradients]


def torch_loss(variant: str, x: Any, weight: Any, recurrent: Any, bias: Any) -> Any:
    """The library's own layer, which takes transposed weights and two biases."""
    import torch

    start = torch.zeros((1, BATCH, WIDTH), dtype=x.dtype)
    weights = [weight.T.contiguous(), recurrent.T.contiguous(), bias, torch.zeros_like(bias)]
    given = (True, 1, 0.0, False, False, False)
    _, hidden, _ = torch.lstm(x, (start, start), weights, *given)
    return torch.mean(hidden * hidden)


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    **workload.torch(torch_loss, NAMES),
}
