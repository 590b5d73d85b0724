"""How fast are the mathematical functions on one core, beside NumPy, PyTorch and JAX?

Arrays that fit in the second-level cache. The figure is the marginal cost of an element in
nanoseconds, the difference between the best times of a long and a short array over the difference
of their lengths, so that the cost of a call drops out: peers differ in that by microseconds. Times
are the processor's, which other processes disturb less than those of the clock on the wall. Names
and dtypes can be chosen; peers that are not installed are left out. In brackets is the largest
error of float32 in ULP at these arguments: a faster function may be a less exact one.

    taskset -c 0 python tests/benchmarks/vector_math.py [--dtype float32] [sin cos ...]
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import graphc as gx

SHORT, LONG = 4096, 32768
ROUNDS, SECONDS = 15, 4e-4
INSIDE = 16  # how often a compiled JAX function computes its result, for its calls are dear
Interval = tuple[float, float]
Call = Callable[[], Any]

# The name in graphc, the intervals of the arguments, and the names of NumPy, PyTorch (a module and
# an attribute) and JAX where they differ.
FUNCTIONS: dict[str, tuple[Interval, ...]] = {
    "sqrt": ((0, 100),),
    "exp": ((-20, 20),),
    "exp2": ((-20, 20),),
    "expm1": ((-10, 10),),
    "log": ((0.01, 100),),
    "log2": ((0.01, 100),),
    "log10": ((0.01, 100),),
    "log1p": ((-0.9, 100),),
    "sinh": ((-10, 10),),
    "cosh": ((-10, 10),),
    "tanh": ((-6, 6),),
    "arcsinh": ((-100, 100),),
    "arccosh": ((1, 100),),
    "arctanh": ((-1, 1),),
    "sigmoid": ((-10, 10),),
    "softplus": ((-10, 10),),
    "logit": ((0, 1),),
    "silu": ((-10, 10),),
    "mish": ((-10, 10),),
    "gelu": ((-6, 6),),
    "ndtr": ((-6, 6),),
    "normal_density": ((-6, 6),),
    "cbrt": ((-100, 100),),
    "sin": ((-100, 100),),
    "cos": ((-100, 100),),
    "tan": ((-100, 100),),
    "sinc": ((-10, 10),),
    "arcsin": ((-1, 1),),
    "arccos": ((-1, 1),),
    "arctan": ((-10, 10),),
    "erf": ((-4, 4),),
    "erfc": ((-4, 9),),
    "erfinv": ((-1, 1),),
    "erfcinv": ((0, 2),),
    "gammaln": ((0.1, 100),),
    "gamma": ((0.1, 30),),
    "digamma": ((0.1, 100),),
    "i0": ((-30, 30),),
    "i1": ((-30, 30),),
    "i0e": ((-30, 30),),
    "i1e": ((-30, 30),),
    "power": ((0.01, 20), (-5, 5)),
    "arctan2": ((-9, 9), (-9, 9)),
    "hypot": ((-9, 9), (-9, 9)),
    "logaddexp": ((-9, 9), (-9, 9)),
    "xlogy": ((-9, 9), (0.01, 9)),
    "xlog1py": ((-9, 9), (-0.9, 9)),
}
TORCH = {
    "power": "pow", "gammaln": "lgamma", "i0": "special.i0", "i1": "special.i1",
    "i0e": "special.i0e", "i1e": "special.i1e", "xlog1py": "special.xlog1py",
    "softplus": "nn.functional.softplus", "silu": "nn.functional.silu",
    "mish": "nn.functional.mish", "gelu": "nn.functional.gelu",
}  # fmt: skip
_OF_SCIPY = ("logit", "erf", "erfc", "erfinv", "gammaln", "gamma", "digamma", "i0", "i1", "i0e")
_OF_SCIPY += ("i1e", "xlogy", "xlog1py")
JAX = {name: f"numpy.{name}" for name in FUNCTIONS}
JAX |= {name: f"scipy.special.{name}" for name in _OF_SCIPY}
JAX |= {name: f"nn.{name}" for name in ("sigmoid", "softplus", "silu", "mish")}


def attribute(module: Any, path: str) -> Any:
    """module.a.b for "a.b"; None where there is none."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def arguments(name: str, dtype: str, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.uniform(low, high, count).astype(dtype) for low, high in FUNCTIONS[name]]


def ours(name: str, dtype: str) -> Callable[[int], Call] | None:
    symbols = [gx.symbol(f"x{i}", ("n",), dtype) for i, _ in enumerate(FUNCTIONS[name])]
    node = attribute(gx, name)(*symbols)
    function = gx.compile(symbols, node, options=gx.Options(threads=1))

    def of_length(count: int) -> Call:
        inputs = arguments(name, dtype, count)
        out = np.empty_like(inputs[0])
        return lambda: function(*inputs, out=out)

    return of_length


def numpys(name: str, dtype: str) -> Callable[[int], Call] | None:
    function = attribute(np, name)
    if not isinstance(function, np.ufunc):
        return None

    def of_length(count: int) -> Call:
        inputs = arguments(name, dtype, count)
        out = np.empty_like(inputs[0])
        return lambda: function(*inputs, out=out)

    return of_length


def torches(name: str, dtype: str) -> Callable[[int], Call] | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    function = attribute(torch, TORCH.get(name, name))
    if function is None:
        return None

    def of_length(count: int) -> Call:
        inputs = [torch.from_numpy(each) for each in arguments(name, dtype, count)]
        if "nn." in TORCH.get(name, ""):
            return lambda: function(*inputs)
        out = torch.empty_like(inputs[0])
        return lambda: function(*inputs, out=out)

    return of_length


def jaxes(name: str, dtype: str) -> Callable[[int], Call] | None:
    try:
        import jax
        import jax.scipy.special
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    function = attribute(jax, JAX.get(name, name))
    if name == "gelu":
        function = functools.partial(jax.nn.gelu, approximate=False)
    if function is None:
        return None

    @jax.jit
    def compiled(first: Any, *others: Any) -> Any:
        """Each turn's argument depends on the last result, or all but one would be left out."""

        def turn(_: Any, last: Any) -> Any:
            nothing = last * 1e-30
            return function(*(each + nothing for each in (first, *others)))

        return jax.lax.fori_loop(0, INSIDE, turn, first)

    def of_length(count: int) -> Call:
        inputs = [jax.device_put(each) for each in arguments(name, dtype, count)]
        return lambda: compiled(*inputs).block_until_ready()

    return of_length


PEERS = {"graphc": ours, "NumPy": numpys, "PyTorch": torches, "JAX": jaxes}


def best_times(calls: Iterable[Call]) -> list[float]:
    """The best time of each call in nanoseconds, taken in turns."""
    calls = list(calls)
    repeats = []
    for call in calls:
        call()
        start = time.process_time()
        call()
        repeats.append(max(1, int(SECONDS / (time.process_time() - start))))
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for i, (call, count) in enumerate(zip(calls, repeats, strict=True)):
            start = time.process_time()
            for _ in range(count):
                call()
            best[i] = min(best[i], (time.process_time() - start) / count * 1e9)
    return best


def costs(name: str, dtype: str) -> dict[str, tuple[float, float]]:
    """Marginal nanoseconds an element and the largest error in ULP, by peer."""
    made = {peer: make(name, dtype) for peer, make in PEERS.items()}
    present = {peer: of_length for peer, of_length in made.items() if of_length is not None}
    calls = [of_length(n) for of_length in present.values() for n in (SHORT, LONG)]
    best = best_times(calls)
    exact = exact_values(name, dtype)
    found = {}
    for i, peer in enumerate(present):
        cost = (best[2 * i + 1] - best[2 * i]) / (LONG - SHORT) / (INSIDE if peer == "JAX" else 1)
        found[peer] = cost, error_in_ulp(np.asarray(calls[2 * i + 1]()), exact)
    return found


def exact_values(name: str, dtype: str) -> np.ndarray | None:
    """graphc's own results in float64, for arguments in float32."""
    if dtype == "float64":
        return None
    symbols = [gx.symbol(f"x{i}", ("n",), "float64") for i, _ in enumerate(FUNCTIONS[name])]
    function = gx.compile(symbols, attribute(gx, name)(*symbols))
    inputs = [each.astype("float64") for each in arguments(name, dtype, LONG)]
    return np.asarray(function(*inputs))


def error_in_ulp(actual: np.ndarray, exact: np.ndarray | None) -> float:
    """The largest error of float32 results; NaN if it is not known."""
    if exact is None:
        return float("nan")
    with np.errstate(all="ignore"):
        place = np.spacing(np.abs(exact).astype("float32")).astype("float64")
        return float(np.nanmax(np.abs(actual - exact) / place))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float32", "float64"))
    parser.add_argument("names", nargs="*", default=list(FUNCTIONS))
    chosen = parser.parse_args()
    print(f"{'ns (ULP)':<22}" + "".join(f"{peer:>17}" for peer in PEERS) + "  to the best")
    for name in chosen.names:
        for dtype in [chosen.dtype] if chosen.dtype else ["float32", "float64"]:
            cost = costs(name, dtype)
            cells = "".join(f"{_cell(cost.get(peer)):>17}" for peer in PEERS)
            others = [each for peer, (each, _) in cost.items() if peer != "graphc"]
            ratio = f"{cost['graphc'][0] / min(others):>9.2f}" if others else ""
            print(f"{name:<13}{dtype:<9}{cells}{ratio}", flush=True)


def _cell(cost: tuple[float, float] | None) -> str:
    if cost is None:
        return "-"
    return f"{cost[0]:.2f}" + (f" ({cost[1]:.3g})" if np.isfinite(cost[1]) else "")


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    main()
