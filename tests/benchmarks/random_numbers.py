"""What does a random number cost, beside NumPy's generators and, if it is installed, jax.random?

Arrays of 2**16 numbers on one thread, in turns; the time of an element in nanoseconds, best and
median, and the ratio of medians to NumPy's PCG64. JAX runs in this process: start it with
`XLA_FLAGS="--xla_cpu_multi_thread_eigen=false"` and pin it to one core for a fair comparison.

    taskset -c 0 python tests/benchmarks/random_numbers.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gx

COUNT, ROUNDS = 1 << 16, 60
Draw = Callable[[], Any]
WHAT = ("bits 32", "uniform f32", "uniform f64", "normal f32", "normal f64", "exponential f64")
WHAT += ("randint",)


def ours() -> dict[str, Draw]:
    key, shape, r = gx.symbol("key", (2,), "uint32"), (COUNT,), gx.random
    nodes = (
        r.bits(key, shape),
        r.uniform(key, shape, "float32"),
        r.uniform(key, shape),
        r.normal(key, shape, "float32"),
        r.normal(key, shape),
        r.exponential(key, shape),
        r.randint(key, shape, 0, 1000),
    )
    words, one = np.array([1, 2], "uint32"), gx.Options(threads=1)
    functions = [gx.compile([key], node, options=one) for node in nodes]
    return {name: (lambda f=f: f(words)) for name, f in zip(WHAT, functions, strict=True)}


def numpys(bits: type) -> dict[str, Draw]:
    g = np.random.Generator(bits(1))
    draws: tuple[Draw, ...] = (
        lambda: g.integers(0, 1 << 32, COUNT, dtype="uint32"),
        lambda: g.random(COUNT, dtype="float32"),
        lambda: g.random(COUNT),
        lambda: g.standard_normal(COUNT, dtype="float32"),
        lambda: g.standard_normal(COUNT),
        lambda: g.standard_exponential(COUNT),
        lambda: g.integers(0, 1000, COUNT),
    )
    return dict(zip(WHAT, draws, strict=True))


def jaxs() -> dict[str, Draw]:
    try:
        import jax
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)
    r, shape = jax.random, (COUNT,)
    key = r.key(1)
    functions = (
        lambda k: r.bits(k, shape),
        lambda k: r.uniform(k, shape, "float32"),
        lambda k: r.uniform(k, shape, "float64"),
        lambda k: r.normal(k, shape, "float32"),
        lambda k: r.normal(k, shape, "float64"),
        lambda k: r.exponential(k, shape, "float64"),
        lambda k: r.randint(k, shape, 0, 1000, "int64"),
    )
    compiled = [jax.jit(f) for f in functions]
    return {
        name: (lambda f=f: f(key).block_until_ready())
        for name, f in zip(WHAT, compiled, strict=True)
    }


def main() -> None:
    makers = {
        "graphc": ours(),
        "NumPy PCG64": numpys(np.random.PCG64),
        "NumPy Philox": numpys(np.random.Philox),
        "jax": jaxs(),
    }
    cases = {(what, who): draws[what] for what in WHAT for who, draws in makers.items() if draws}
    times: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for draw in cases.values():
        draw()
    for _ in range(ROUNDS):
        for case, draw in cases.items():
            start = time.perf_counter()
            draw()
            times[case].append((time.perf_counter() - start) / COUNT * 1e9)
    print(f"{'draw':<18}{'by':<14}{'best ns':>9}{'median ns':>11}{'ratio to PCG64':>16}")
    for (what, who), taken in times.items():
        ratio = statistics.median(taken) / statistics.median(times[what, "NumPy PCG64"])
        print(
            f"{what:<18}{who:<14}{min(taken):>9.2f}{statistics.median(taken):>11.2f}{ratio:>16.2f}"
        )


if __name__ == "__main__":
    main()
