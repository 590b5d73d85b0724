"""How fast are the value and the gradients of an attention block?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "attention of 8 heads, batch 8, 128 tokens of width 256: result and all gradients"
VARIANTS = ("f32 value", "f32 gradient")
BATCH, TOKENS, WIDTH, HEADS = 8, 128, 256, 8
DEPTH = WIDTH // HEADS
NAMES = ("x", "query", "key", "values", "out")
SCALE = float(DEPTH) ** -0.5


def tolerance(variant: str) -> float:
    return 1e-4


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(14)
    values = {"x": generator.normal(size=(BATCH, TOKENS, WIDTH))}
    values |= {k: generator.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH) for k in NAMES[1:]}
    if variant.endswith("gradient"):
        values["seed"] = generator.normal(size=(BATCH, TOKENS, WIDTH))
    return {k: v.astype("f4") for k, v in values.items()}


def operations(variant: str) -> float:
    forward = 2.0 * BATCH * TOKENS * WIDTH * (4 * WIDTH + 2 * TOKENS)
    return 3 * forward if variant.endswith("gradient") else forward


def _heads(x: np.ndarray) -> np.ndarray:
    return x.reshape(BATCH, TOKENS, HEADS, DEPTH).transpose(0, 2, 1, 3)


def _joined(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 1, 3).reshape(BATCH, TOKENS, WIDTH)


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    x, query, key, value, out = (values[name] for name in NAMES)
    scale = x.dtype.type(SCALE)
    q, k, v = (_heads(x @ weight) for weight in (query, key, value))
    scores = q @ k.swapaxes(2, 3) * scale
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    mixed = _joined(shares @ v)
    result = mixed @ out
    if not variant.endswith("gradient"):
        return [result]
    seed = values["seed"]
    back = _heads(seed @ out.T)
    d_shares = back @ v.swapaxes(2, 3)
    d_scores = shares * (d_shares - (d_shares * shares).sum(-1, keepdims=True)) * scale
    pulled = [_joined(a) for a in (d_scores @ k, d_scores.swapaxes(2, 3) @ q)]
    pulled.append(_joined(shares.swapaxes(2, 3) @ back))
    d_x = sum(d @ w.T for d, w in zip(pulled, (query, key, value), strict=True))
    rows = x.reshape(-1, WIDTH)
    d_weights = [rows.T @ d.reshape(-1, WIDTH) for d in pulled]
    d_out = mixed.reshape(-1, WIDTH).T @ seed.reshape(-1, WIDTH)
    return [result, d_x, *d_weights, d_out]


reference = by_hand


def block(lib: Any, softmax: Any, x: Any, query: Any, key: Any, values: Any, out: Any) -> Any:
    """The block in what NumPy, JAX and graphc have in common."""

    def heads(y: Any) -> Any:
        return lib.transpose(lib.reshape(y, (BATCH, TOKENS, HEADS, DEPTH)), (0, 2, 1, 3))

    q, k, v = heads(x @ query), heads(x @ key), heads(x @ values)
    shares = softmax(lib.matmul(q, lib.swapaxes(k, 2, 3)) * SCALE)
    mixed = lib.transpose(lib.matmul(shares, v), (0, 2, 1, 3))
    return lib.reshape(mixed, (BATCH, TOKENS, WIDTH)) @ out


def of_graphc(variant: str, seed: Any = None, **symbols: Any) -> Any:
    import graphc as gx

    result = block(gx, lambda s: gx.softmax(s, axis=-1), **symbols)
    if seed is None:
        return result
    return [result, *gx.vjp(result, [symbols[name] for name in NAMES], seed)]


def of_jax(variant: str, seed: Any = None, **arrays: Any) -> Any:
    import jax
    import jax.numpy as jnp

    if seed is None:
        return block(jnp, jax.nn.softmax, **arrays)
    result, pull = jax.vjp(lambda *a: block(jnp, jax.nn.softmax, *a), *(arrays[n] for n in NAMES))
    return [result, *pull(seed)]


def torch_block(variant: str, x: Any, query: Any, key: Any, values: Any, out: Any) -> Any:
    import torch

    def heads(y: Any) -> Any:
        return y.view(BATCH, TOKENS, HEADS, DEPTH).transpose(1, 2)

    attended = torch.nn.functional.scaled_dot_product_attention(
        heads(x @ query), heads(x @ key), heads(x @ values)
    )
    return attended.transpose(1, 2).reshape(BATCH, TOKENS, WIDTH) @ out


def of_torch(how: str) -> Any:
    forward = workload.torch(torch_block)[how]
    backward = workload.torch(torch_block, NAMES, seed="seed")[how]
    return lambda values, variant: (backward if "seed" in values else forward)(values, variant)


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    "torch": of_torch("torch"),
    "torch_compile": of_torch("torch_compile"),
}
