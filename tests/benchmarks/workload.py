"""What is a workload, and how do the participants run one?

A workload is a module in `workloads/` with

    TITLE, VARIANTS             what it is, and the names of its variants
    inputs(variant)             seeded NumPy arrays by name, in the dtype that is measured
    reference(values, variant)  what must come out: float64 arrays, from the inputs in float64
    operations(variant)         the fewest additions and multiplications, for the roofline
    tolerance(variant)          the largest error allowed, relative to each result's largest element
    PARTICIPANTS                builders by name

A builder takes (values, variant) and returns a function of no arguments that computes once, waits
until the results are there, and returns them in the order of the reference. It raises `Skip` for
what its library cannot do. A name is a module, or a module, an underscore and a way to use it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Values = dict[str, Any]
Run = Callable[[], Any]
Builder = Callable[[Values, str], Run]


class Skip(Exception):
    """Why a participant leaves a variant out."""


def threads() -> int | None:
    """How many threads a participant may use; None for as many as it likes."""
    given = os.environ.get("BENCHMARK_THREADS", "")
    return int(given) if given else None


def clock_for(threads: int | None) -> Callable[[], float]:
    """Seconds that the processor worked, for one thread; else those that went by."""
    return time.process_time if threads == 1 else time.perf_counter


def dtype_of(variant: str) -> type:
    """The float dtype that a variant's name begins with."""
    return np.float32 if variant.startswith("f32") else np.float64


def tolerance_of(variant: str) -> float:
    """A bound for values that many roundings may have touched."""
    return 3e-5 if variant.startswith("f32") else 1e-10


def in_double(values: Values) -> Values:
    """The inputs with every float array in float64."""
    return {name: _double(value) for name, value in values.items()}


def _double(value: Any) -> Any:
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if is_float else value


def graphc(build: Callable[..., Any], *names: str, **choices: Any) -> Builder:
    """`build(**symbols)` compiled for the shapes at hand; with `names`, of those inputs only."""

    def builder(values: Values, variant: str) -> Run:
        import graphc as gx

        chosen = {name: values[name] for name in names or values}
        symbols = {k: gx.symbol(k, v.shape, str(v.dtype)) for k, v in chosen.items()}
        options = gx.Options(threads=threads(), **choices)
        f = gx.compile(list(symbols.values()), build(variant=variant, **symbols), options=options)
        arrays = list(chosen.values())

        def run() -> Any:
            return f(*arrays)

        run.function, run.arrays = f, arrays  # type: ignore[attr-defined]
        return run

    return builder


def numpy(function: Callable[[Values, str], Any]) -> Builder:
    """The same NumPy code that may serve as the reference, in the dtype that is measured."""
    return lambda values, variant: lambda: function(values, variant)


def jax(build: Callable[..., Any]) -> Builder:
    """`build(variant=..., **arrays)` under `jax.jit`, its inputs on the device."""

    def builder(values: Values, variant: str) -> Run:
        import jax

        f = jax.jit(lambda arrays: build(variant=variant, **arrays))
        arrays = jax.block_until_ready(jax.device_put(values))
        return lambda: jax.block_until_ready(f(arrays))

    return builder


def torch(
    build: Callable[..., Any],
    wrt: Sequence[str] = (),
    seed: str | None = None,
    after: Callable[..., Any] | None = None,
) -> dict[str, Builder]:
    """`torch`, eager, and `torch_compile`: `build(variant=..., **tensors)`, then its gradients.

    `wrt` names inputs; the result is differentiated with the cotangent named `seed`. `after(value,
    gradients, **tensors)` makes the results of both, an update for example.
    """

    def builder(values: Values, variant: str, compiled: bool) -> Run:
        import torch

        held = {name: torch.from_numpy(array) for name, array in values.items()}
        wanted = [held[name].requires_grad_() for name in wrt]
        given = {name: tensor for name, tensor in held.items() if name != seed}

        def forward(tensors: Any) -> Any:
            return build(variant=variant, **tensors)

        def finish(value: Any, gradients: Any, tensors: Any) -> Any:
            return after(value, gradients, **tensors)  # type: ignore[misc]

        if compiled:
            forward = torch.compile(forward)
            finish = torch.compile(finish)

        def differentiated() -> Any:
            value = forward(given)
            cotangent = held[seed] if seed else None
            gradients = torch.autograd.grad(value, wanted, cotangent)
            if after is None:
                return [value, *gradients]
            with torch.no_grad():
                return finish(value, gradients, given)

        def plain() -> Any:
            with torch.no_grad():
                return forward(given)

        return differentiated if wrt else plain

    return {
        "torch": lambda values, variant: builder(values, variant, False),
        "torch_compile": lambda values, variant: builder(values, variant, True),
    }


def flat(results: Any) -> list[np.ndarray]:
    """The results of any participant, nested as they may be, as float64 arrays."""
    if isinstance(results, dict):
        results = list(results.values())
    if isinstance(results, (list, tuple)):
        return [array for result in results for array in flat(result)]
    if hasattr(results, "detach"):
        results = results.detach().numpy()
    elif hasattr(results, "full"):  # a matrix of CasADi
        results = results.full()
    return [np.asarray(results, np.float64)]


def error(results: Any, reference: Any) -> float:
    """The largest error of any result, relative to that result's largest element."""
    got, want = flat(results), flat(reference)
    if [a.size for a in got] != [a.size for a in want]:
        raise ValueError(f"shapes {[a.shape for a in got]}, expected {[a.shape for a in want]}")
    worst = 0.0
    for a, b in zip(got, want, strict=True):
        scale = float(np.max(np.abs(b), initial=0)) or 1.0
        off = float(np.max(np.abs(a.reshape(b.shape) - b), initial=0)) / scale
        worst = max(worst, off) if np.isfinite(off) else np.inf
    return worst
