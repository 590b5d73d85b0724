"""How fast is element-wise work with dear functions? European calls, and their sensitivities."""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Skip, Values

TITLE = "Black-Scholes prices of 1,000,000 calls, and their derivatives by spot and volatility"
VARIANTS = ("f64 value", "f32 value", "f64 gradient", "f32 gradient")
COUNT, RATE, HALF_ROOT = 1_000_000, 0.03, float(np.sqrt(0.5))
tolerance = workload.tolerance_of


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(11)
    ranges = {"spot": (50, 150), "strike": (60, 140), "time": (0.1, 2), "volatility": (0.1, 0.6)}
    drawn = {k: generator.uniform(low, high, COUNT) for k, (low, high) in ranges.items()}
    return {k: v.astype(workload.dtype_of(variant)) for k, v in drawn.items()}


def operations(variant: str) -> float:
    """Those written below, a function counted as one."""
    return COUNT * (32 if variant.endswith("gradient") else 26)


def price(lib: Any, erf: Any, spot: Any, strike: Any, time: Any, volatility: Any) -> Any:
    """Hull, Options, Futures and Other Derivatives, the formulas of Black and Scholes."""
    spread = volatility * lib.sqrt(time)
    first = (lib.log(spot / strike) + (RATE + 0.5 * volatility * volatility) * time) / spread
    second = first - spread
    paid = strike * lib.exp(-RATE * time) * (0.5 + 0.5 * erf(second * HALF_ROOT))
    return spot * (0.5 + 0.5 * erf(first * HALF_ROOT)) - paid


def by_hand(values: Values, variant: str) -> list[np.ndarray]:
    from scipy.special import ndtr

    spot, strike, time, volatility = values.values()
    spread = volatility * np.sqrt(time)
    half, rate = spot.dtype.type(0.5), spot.dtype.type(RATE)
    first = (np.log(spot / strike) + (rate + half * volatility * volatility) * time) / spread
    discounted = strike * np.exp(-rate * time)
    held = ndtr(first)
    value = spot * held - discounted * ndtr(first - spread)
    if not variant.endswith("gradient"):
        return [value]
    density = np.exp(-half * first * first) * spot.dtype.type(1 / np.sqrt(2 * np.pi))
    return [value, held, spot * np.sqrt(time) * density]


reference = by_hand


def of_graphc(variant: str, **symbols: Any) -> Any:
    import graphc as gx

    value = price(gx, gx.erf, **symbols)
    if not variant.endswith("gradient"):
        return value
    return [value, *gx.grad(value.sum(), [symbols["spot"], symbols["volatility"]])]


def of_jax(variant: str, **arrays: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def total(wrt: Any) -> Any:
        value = price(jnp, jax.lax.erf, **{**arrays, **wrt})
        return value.sum(), value

    if not variant.endswith("gradient"):
        return total({})[1]
    wrt = {name: arrays[name] for name in ("spot", "volatility")}
    (_, value), gradients = jax.value_and_grad(total, has_aux=True)(wrt)
    return [value, gradients["spot"], gradients["volatility"]]


def of_torch(compiled: bool) -> Any:
    def builder(values: Values, variant: str) -> Any:
        import torch

        f = torch.compile(price, dynamic=False) if compiled else price
        held = {name: torch.from_numpy(array) for name, array in values.items()}
        wanted = [held["spot"], held["volatility"]]
        gradient = variant.endswith("gradient")
        for tensor in wanted if gradient else ():
            tensor.requires_grad_()
        ones = torch.ones_like(held["spot"], requires_grad=False)

        def run() -> Any:
            value = f(torch, torch.erf, **held)
            return [value, *torch.autograd.grad(value, wanted, ones)] if gradient else value

        return run

    return builder


def of_numba(values: Values, variant: str) -> Any:
    if variant.endswith("gradient"):
        raise Skip("does not differentiate")
    import math

    import numba

    dtype = values["spot"].dtype.type
    half, rate, root = dtype(0.5), dtype(RATE), dtype(HALF_ROOT)

    @numba.njit(parallel=True, fastmath=True)
    def prices(spot: Any, strike: Any, time: Any, volatility: Any) -> Any:
        result = np.empty_like(spot)
        for i in numba.prange(spot.size):
            v = volatility[i]
            spread = v * math.sqrt(time[i])
            first = (math.log(spot[i] / strike[i]) + (rate + half * v * v) * time[i]) / spread
            paid = strike[i] * math.exp(-rate * time[i])
            paid *= half + half * math.erf((first - spread) * root)
            result[i] = spot[i] * (half + half * math.erf(first * root)) - paid
        return result

    arrays = list(values.values())
    return lambda: prices(*arrays)


def of_pytensor(values: Values, variant: str) -> Any:
    import pytensor
    import pytensor.tensor as pt

    symbols = {k: pt.vector(k, dtype=str(v.dtype)) for k, v in values.items()}
    value = price(pt, pt.erf, **symbols).astype(str(values["spot"].dtype))
    results = [value]
    if variant.endswith("gradient"):
        results += pytensor.grad(value.sum(), [symbols["spot"], symbols["volatility"]])
    f = pytensor.function(list(symbols.values()), results)
    arrays = list(values.values())
    return lambda: f(*arrays)


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_hand),
    "jax": workload.jax(of_jax),
    "torch": of_torch(False),
    "torch_compile": of_torch(True),
    "numba": of_numba,
    "pytensor": of_pytensor,
}
