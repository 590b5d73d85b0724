"""How fast is a loss over a tall matrix, and its gradient? Memory is what it is about."""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Skip, Values

TITLE = "logistic regression on 400,000 rows of 32: value, value and gradient"
VARIANTS = ("f32 value", "f32 gradient", "f64 value", "f64 gradient")
ROWS, COLUMNS = 400_000, 32


def tolerance(variant: str) -> float:
    return 1e-4 if variant.startswith("f32") else 1e-10


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(22)
    kind = workload.dtype_of(variant)
    x, w = generator.normal(size=(ROWS, COLUMNS)), generator.normal(size=COLUMNS)
    labels = generator.random(ROWS) < 1 / (1 + np.exp(-x @ w))
    return {"x": x.astype(kind), "labels": labels.astype(kind), "w": (0.5 * w).astype(kind)}


def operations(variant: str) -> float:
    return ROWS * COLUMNS * (4.0 if variant.endswith("gradient") else 2.0)


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    x, labels, w = values.values()
    z = x @ w
    value = np.mean(np.logaddexp(0, z) - labels * z)
    if not variant.endswith("gradient"):
        return [value]
    return [value, (1 / (1 + np.exp(-z)) - labels) @ x / x.dtype.type(ROWS)]


reference = by_hand


def of_graphc(variant: str, x: Any, labels: Any, w: Any) -> Any:
    import graphc as gx

    z = x @ w
    value = gx.mean(gx.softplus(z) - labels * z)
    return [value, gx.grad(value, w)] if variant.endswith("gradient") else value


def of_jax(variant: str, x: Any, labels: Any, w: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def value(w: Any) -> Any:
        z = x @ w
        return jnp.mean(jax.nn.softplus(z) - labels * z)

    return jax.value_and_grad(value)(w) if variant.endswith("gradient") else value(w)


def torch_value(variant: str, x: Any, labels: Any, w: Any) -> Any:
    from torch.nn import functional

    return functional.binary_cross_entropy_with_logits(x @ w, labels)


def of_torch(how: str) -> Any:
    def builder(values: Values, variant: str) -> Any:
        wrt = ["w"] if variant.endswith("gradient") else []
        return workload.torch(torch_value, wrt)[how](values, variant)

    return builder


def of_numba(values: Values, variant: str) -> Any:
    if not variant.endswith("gradient"):
        raise Skip("the gradient is the case of interest")
    import math

    import numba

    kind = values["x"].dtype.type

    @numba.njit(fastmath=True)
    def both(x: Any, labels: Any, w: Any) -> Any:
        value, gradient = kind(0), np.zeros_like(w)
        for i in range(x.shape[0]):
            z = kind(0)
            for j in range(x.shape[1]):
                z += x[i, j] * w[j]
            value += math.log1p(math.exp(-abs(z))) + max(z, kind(0)) - labels[i] * z
            back = kind(1) / (kind(1) + math.exp(-z)) - labels[i]
            for j in range(x.shape[1]):
                gradient[j] += back * x[i, j]
        return value / x.shape[0], gradient / x.shape[0]

    arrays = list(values.values())
    return lambda: both(*arrays)


def of_pytensor(values: Values, variant: str) -> Any:
    import pytensor
    import pytensor.tensor as pt

    symbols = {k: pt.as_tensor(v).type(k) for k, v in values.items()}
    z = symbols["x"] @ symbols["w"]
    results = [pt.mean(pt.softplus(z) - symbols["labels"] * z)]
    if variant.endswith("gradient"):
        results += [pytensor.grad(results[0], symbols["w"])]
    f = pytensor.function(list(symbols.values()), results)
    f.trust_input = True
    arrays = list(values.values())
    return lambda: f(*arrays)


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    "torch": of_torch("torch"),
    "torch_compile": of_torch("torch_compile"),
    "numba": of_numba,
    "pytensor": of_pytensor,
}
