"""How fast are the row functions of neural networks, with their gradients?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "softmax, layer norm, GELU of (4096, 1024): result and gradients"
VARIANTS = ("f32 softmax", "f32 layer norm", "f32 gelu")
SHAPE, EPSILON = (4096, 1024), 1e-5
PER_ELEMENT = {"softmax": 9, "layer norm": 19, "gelu": 12}


def tolerance(variant: str) -> float:
    return 1e-4


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(16)
    values = {k: generator.normal(size=SHAPE) for k in ("x", "seed")}
    if variant.endswith("layer norm"):
        values["gain"] = generator.uniform(0.5, 1.5, SHAPE[1])
        values["shift"] = generator.normal(size=SHAPE[1])
    return {k: v.astype("f4") for k, v in values.items()}


def operations(variant: str) -> float:
    return SHAPE[0] * SHAPE[1] * PER_ELEMENT[variant[4:]]


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    x, seed = values["x"], values["seed"]
    kind = x.dtype.type
    if variant.endswith("softmax"):
        powers = np.exp(x - x.max(1, keepdims=True))
        y = powers / powers.sum(1, keepdims=True)
        return [y, y * (seed - (seed * y).sum(1, keepdims=True))]
    if variant.endswith("gelu"):
        from scipy.special import ndtr

        share = ndtr(x)
        density = np.exp(kind(-0.5) * x * x) * kind(1 / np.sqrt(2 * np.pi))
        return [x * share, seed * (share + x * density)]
    centred = x - x.mean(1, keepdims=True)
    rate = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + kind(EPSILON))
    unit, back = centred * rate, seed * values["gain"]
    mean_back, mean_unit = back.mean(1, keepdims=True), (back * unit).mean(1, keepdims=True)
    d_x = rate * (back - mean_back - unit * mean_unit)
    return [unit * values["gain"] + values["shift"], d_x, (seed * unit).sum(0), seed.sum(0)]


reference = by_hand


def layer_norm(lib: Any, x: Any, gain: Any, shift: Any) -> Any:
    centred = x - lib.mean(x, axis=1, keepdims=True)
    variance = lib.mean(centred * centred, axis=1, keepdims=True)
    return centred / lib.sqrt(variance + EPSILON) * gain + shift


def of_graphc(variant: str, seed: Any, **symbols: Any) -> Any:
    import graphc as gx

    functions = {
        "softmax": lambda x: gx.softmax(x, axis=1),
        "layer norm": lambda x, gain, shift: layer_norm(gx, x, gain, shift),
        "gelu": gx.gelu,
    }
    y = functions[variant[4:]](**symbols)
    return [y, *gx.vjp(y, list(symbols.values()), seed)]


def of_jax(variant: str, seed: Any, x: Any, **rest: Any) -> Any:
    import jax
    import jax.numpy as jnp

    functions = {
        "softmax": lambda x: jax.nn.softmax(x, 1),
        "layer norm": lambda *a: layer_norm(jnp, *a),
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    }
    y, pull = jax.vjp(functions[variant[4:]], x, *(rest[k] for k in ("gain", "shift") if k in rest))
    return [y, *pull(seed)]


def torch_value(variant: str, x: Any, gain: Any = None, shift: Any = None) -> Any:
    from torch.nn import functional

    if variant.endswith("softmax"):
        return functional.softmax(x, 1)
    if variant.endswith("gelu"):
        return functional.gelu(x)
    return functional.layer_norm(x, SHAPE[1:], gain, shift, EPSILON)


def of_torch(how: str) -> Any:
    def builder(values: Values, variant: str) -> Any:
        wrt = [name for name in ("x", "gain", "shift") if name in values]
        return workload.torch(torch_value, wrt, seed="seed")[how](values, variant)

    return builder


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    "torch": of_torch("torch"),
    "torch_compile": of_torch("torch_compile"),
}
