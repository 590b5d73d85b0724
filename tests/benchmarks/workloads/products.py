"""How fast are matrix products with what follows them, square and skinny?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "relu(x @ w + b), rows x depth x columns"
_SIZES = ("16x16x16", "32x32x32", "64x64x64", "128x128x128", "256x256x256", "512x512x512")
_SIZES += ("1024x1024x1024", "2048x2048x2048", "4x512x512", "1x1024x1024", "4096x64x16")
VARIANTS = tuple(f"{dtype} {size}" for dtype in ("f32", "f64") for size in _SIZES)


def tolerance(variant: str) -> float:
    return 1e-4 if variant.startswith("f32") else 1e-12


def _sizes(variant: str) -> tuple[int, int, int]:
    rows, depth, columns = map(int, variant[4:].split("x"))
    return rows, depth, columns


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(20)
    rows, depth, columns = _sizes(variant)
    shapes = {"x": (rows, depth), "w": (depth, columns), "b": (columns,)}
    kind = workload.dtype_of(variant)
    return {k: generator.normal(size=shape).astype(kind) for k, shape in shapes.items()}


def operations(variant: str) -> float:
    rows, depth, columns = _sizes(variant)
    return 2.0 * rows * depth * columns


def reference(values: Values, variant: str) -> list[np.ndarray]:
    return [np.maximum(values["x"] @ values["w"] + values["b"], 0)]


def in_place(values: Values, variant: str) -> Any:
    result = values["x"] @ values["w"]
    result += values["b"]
    return np.maximum(result, 0, out=result)


def of_graphc(variant: str, x: Any, w: Any, b: Any) -> Any:
    import graphc as gx

    return gx.relu(x @ w + b)


def of_jax(variant: str, x: Any, w: Any, b: Any) -> Any:
    import jax

    return jax.nn.relu(x @ w + b)


def of_torch(variant: str, x: Any, w: Any, b: Any) -> Any:
    import torch

    return torch.relu(torch.addmm(b, x, w))


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(in_place),
    "jax": workload.jax(of_jax),
    **workload.torch(of_torch),
}
