"""How fast are the mathematical functions on one core, beside NumPy, PyTorch and JAX?

Arrays that fit in the second-level cache. The figure is the marginal cost of an element in
nanoseconds, the difference between the best times of a long and a short array over the difference
of their lengths, so that the cost of a call drops out: peers differ in that by microseconds. Names
and dtypes can be chosen; peers that are not installed are left out.

    taskset -c 0 python tests/benchmarks/vector_math.py [--dtype float32] [sin cos ...]
"""

from __future__ import annotations

import argparse
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
    "gelu": ((-6, 6),),
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
    "gelu": "nn.functional.gelu",
}  # fmt: skip
JAX = {name: f"numpy.{name}" for name in FUNCTIONS} | {
    name: f"scipy.special.{name}"
    for name in ("logit", "erf", "erfc", "erfinv", "gammaln", "gamma", "digamma", "i0", "i1")
    + ("i0e", "i1e", "xlogy", "xlog1py")
} | {name: f"nn.{name}" for name in ("sigmoid", "softplus", "silu")}


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
        function = lambda x: jax.nn.gelu(x, approximate=False)  # noqa: E731
    if function is None:
        return None

    @jax.jit
    def compiled(first: Any, *others: Any) -> Any:
        """Each turn's argument depends on the last result, or all but one would be left out."""
        turn = lambda _, last: function(first + last * 1e-30, *others)  # noqa: E731
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
        start = time.perf_counter()
        call()
        repeats.append(max(1, int(SECONDS / (time.perf_counter() - start))))
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for i, (call, count) in enumerate(zip(calls, repeats, strict=True)):
            start = time.perf_counter()
            for _ in range(count):
                call()
            best[i] = min(best[i], (time.perf_counter() - start) / count * 1e9)
    return best


def costs(name: str, dtype: str) -> dict[str, float]:
    """Marginal nanoseconds an element, by peer."""
    made = {peer: make(name, dtype) for peer, make in PEERS.items()}
    present = {peer: of_length for peer, of_length in made.items() if of_length is not None}
    calls = [of_length(n) for of_length in present.values() for n in (SHORT, LONG)]
    best = best_times(calls)
    return {
        peer: (best[2 * i + 1] - best[2 * i]) / (LONG - SHORT) / (INSIDE if peer == "JAX" else 1)
        for i, peer in enumerate(present)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float32", "float64"))
    parser.add_argument("names", nargs="*", default=list(FUNCTIONS))
    chosen = parser.parse_args()
    print(f"{'ns an element':<12}{'dtype':<9}" + "".join(f"{p:>9}" for p in PEERS) + "  to best")
    for name in chosen.names:
        for dtype in [chosen.dtype] if chosen.dtype else ["float32", "float64"]:
            cost = costs(name, dtype)
            cells = "".join(f"{cost[p]:>9.2f}" if p in cost else f"{'-':>9}" for p in PEERS)
            others = [each for peer, each in cost.items() if peer != "graphc"]
            ratio = f"{cost['graphc'] / min(others):>9.2f}" if others else ""
            print(f"{name:<13}{dtype:<9}{cells}{ratio}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    main()
