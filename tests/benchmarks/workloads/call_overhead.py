"""What does it cost to call a compiled function of ten elements?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Skip, Values

TITLE = "tanh(x * y) + x of ten elements"
VARIANTS = ("f64", "f32")
tolerance = workload.tolerance_of


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(12)
    return {k: generator.normal(size=10).astype(workload.dtype_of(variant)) for k in ("x", "y")}


def operations(variant: str) -> float:
    return 30


def formula(lib: Any, x: Any, y: Any) -> Any:
    return lib.tanh(x * y) + x


def reference(values: Values, variant: str) -> list[np.ndarray]:
    return [formula(np, **values)]


def of_graphc(values: Values, variant: str) -> Any:
    """Called by name, as the others are: a list of arguments taken apart would cost a tenth."""
    import graphc as gx

    f = workload.graphc(lambda variant, **named: formula(gx, **named))(values, variant).function
    x, y = values["x"], values["y"]
    return lambda: f(x, y)


def of_jax(variant: str, x: Any, y: Any) -> Any:
    import jax.numpy as jnp

    return formula(jnp, x, y)


def of_torch(variant: str, x: Any, y: Any) -> Any:
    import torch

    return formula(torch, x, y)


def of_numba(values: Values, variant: str) -> Any:
    import numba

    f = numba.njit(lambda x, y: np.tanh(x * y) + x)
    x, y = values["x"], values["y"]
    return lambda: f(x, y)


def of_numexpr(values: Values, variant: str) -> Any:
    import numexpr

    held = dict(values)
    return lambda: numexpr.evaluate("tanh(x * y) + x", local_dict=held)


def of_pytensor(values: Values, variant: str) -> Any:
    import pytensor
    import pytensor.tensor as pt

    symbols = [pt.vector(k, dtype=str(v.dtype)) for k, v in values.items()]
    f = pytensor.function(symbols, formula(pt, *symbols))
    f.trust_input = True
    x, y = values["x"], values["y"]
    return lambda: f(x, y)


def of_heyoka(values: Values, variant: str) -> Any:
    import heyoka

    x, y = heyoka.make_vars("x", "y")
    kind = {"f32": np.float32, "f64": float}[variant]
    f = heyoka.cfunc([formula(heyoka, x, y)], [x, y], fp_type=kind)
    both = np.stack([values["x"], values["y"]])
    return lambda: f(both)


def of_casadi(values: Values, variant: str) -> Any:
    """With buffers bound beforehand, the way that costs least."""
    if variant == "f32":
        raise Skip("float64 only")
    import casadi

    x, y = casadi.SX.sym("x", 10), casadi.SX.sym("y", 10)
    buffer, trigger = casadi.Function("f", [x, y], [formula(casadi, x, y)]).buffer()
    held = values["x"], values["y"], np.empty(10), buffer
    buffer.set_arg(0, memoryview(held[0]))
    buffer.set_arg(1, memoryview(held[1]))
    buffer.set_res(0, memoryview(held[2]))

    def run() -> Any:
        trigger()
        return held[2]

    return run


PARTICIPANTS = {
    "graphc": of_graphc,
    "numpy": workload.numpy(reference),
    "jax": workload.jax(of_jax),
    **workload.torch(of_torch),
    "numba": of_numba,
    "numexpr": of_numexpr,
    "pytensor": of_pytensor,
    "heyoka": of_heyoka,
    "casadi": of_casadi,
}
