"""How long does a training step of a small convolutional network take?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "a step of two 3x3 convolutions to 32 and 64 channels with pooling, 64 images of 28x28"
VARIANTS = ("f32",)
BATCH, SIDE, CHANNELS, CLASSES, RATE = 64, 28, (1, 32, 64), 10, 0.1
NAMES = ("first", "second", "dense")


def tolerance(variant: str) -> float:
    return 2e-4


def inputs(variant: str) -> Values:
    """Images [batch, channel, y, x], kernels [out, in, y, x]."""
    generator = np.random.default_rng(17)
    a, b, c = CHANNELS
    shapes = {"first": (b, a, 3, 3), "second": (c, b, 3, 3), "dense": (c, CLASSES)}
    values: Values = {"x": generator.normal(size=(BATCH, a, SIDE, SIDE)).astype("f4")}
    values["labels"] = generator.integers(0, CLASSES, BATCH)
    for name, shape in shapes.items():
        fan = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
        values[name] = (generator.normal(size=shape) / np.sqrt(fan)).astype("f4")
    return values


def operations(variant: str) -> float:
    first = 2.0 * BATCH * SIDE**2 * 9 * CHANNELS[0] * CHANNELS[1]
    second = 2.0 * BATCH * (SIDE // 2) ** 2 * 9 * CHANNELS[1] * CHANNELS[2]
    return 2 * first + 3 * second


def _windows(x: np.ndarray) -> np.ndarray:
    """Every 3x3 neighbourhood: [batch, channel, y, x, 3, 3]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


def _convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.tensordot(_windows(x), kernel, ((1, 4, 5), (1, 2, 3))), 3, 1)


def _kernel_gradient(x: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.tensordot(back, _windows(x), ((0, 2, 3), (0, 2, 3)))


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    x, labels, first, second, dense = values.values()
    kind, rows = x.dtype.type, np.arange(BATCH)
    before1 = _convolved(x, first)
    tiles = np.maximum(before1, 0).reshape(BATCH, CHANNELS[1], SIDE // 2, 2, SIDE // 2, 2)
    pooled = tiles.max((3, 5))
    before2 = _convolved(pooled, second)
    features = np.maximum(before2, 0).mean((2, 3))
    logits = features @ dense
    logits = logits - logits.max(1, keepdims=True)
    powers = np.exp(logits)
    total = powers.sum(1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - logits[rows, labels])
    back = powers / total
    back[rows, labels] -= 1
    back /= kind(BATCH)
    d_dense = features.T @ back
    pixels = kind((SIDE // 2) ** 2)
    back2 = (back @ dense.T)[:, :, None, None] / pixels * (before2 > 0)
    d_second = _kernel_gradient(pooled, back2)
    back_pooled = _convolved(back2, second.swapaxes(0, 1)[:, :, ::-1, ::-1])
    hit = tiles == pooled[:, :, :, None, :, None]
    back1 = (hit * back_pooled[:, :, :, None, :, None]).reshape(before1.shape) * (before1 > 0)
    gradients = [_kernel_gradient(x, back1), d_second, d_dense]
    pairs = zip((first, second, dense), gradients, strict=True)
    return [loss, *[weight - kind(RATE) * gradient for weight, gradient in pairs]]


reference = by_hand


def of_graphc(variant: str, x: Any, labels: Any, **weights: Any) -> Any:
    import graphc as gx
    from graphc import nn

    hidden = gx.relu(gx.conv2d(x, weights["first"], padding=1))
    hidden = gx.max_pool(hidden, (2, 2))
    hidden = gx.relu(gx.conv2d(hidden, weights["second"], padding=1))
    loss = nn.softmax_cross_entropy(gx.mean(hidden, axis=(2, 3)) @ weights["dense"], labels)
    gradients = gx.grad(loss, [weights[k] for k in NAMES])
    return [loss, *[weights[k] - RATE * g for k, g in zip(NAMES, gradients, strict=True)]]


def of_jax(variant: str, x: Any, labels: Any, **weights: Any) -> Any:
    import jax
    import jax.numpy as jnp
    from jax import lax

    def convolved(x: Any, kernel: Any) -> Any:
        names = ("NCHW", "OIHW", "NCHW")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)

    def loss(weights: Any) -> Any:
        hidden = jax.nn.relu(convolved(x, weights["first"]))
        window = (1, 1, 2, 2)
        hidden = lax.reduce_window(hidden, -jnp.inf, lax.max, window, window, "VALID")
        hidden = jax.nn.relu(convolved(hidden, weights["second"]))
        logits = jax.nn.log_softmax(hidden.mean((2, 3)) @ weights["dense"])
        return -jnp.mean(jnp.take_along_axis(logits, labels[:, None], 1))

    value, gradients = jax.value_and_grad(loss)(weights)
    return [value, *[weights[k] - RATE * gradients[k] for k in NAMES]]


def torch_loss(variant: str, x: Any, labels: Any, first: Any, second: Any, dense: Any) -> Any:
    from torch.nn import functional

    hidden = functional.relu(functional.conv2d(x, first, padding=1))
    hidden = functional.relu(functional.conv2d(functional.max_pool2d(hidden, 2), second, padding=1))
    return functional.cross_entropy(hidden.mean((2, 3)) @ dense, labels)


def torch_update(value: Any, gradients: Any, **values: Any) -> Any:
    return [value, *[values[k] - RATE * g for k, g in zip(NAMES, gradients, strict=True)]]


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    **workload.torch(torch_loss, NAMES, after=torch_update),
}
