"""How fast is a training step beside JAX, PyTorch and NumPy, and how long does it take to compile?

A perceptron of 784-512-512-10 with relu, batch 128, softmax cross-entropy, SGD with momentum,
float32: loss, gradients and update. The process is tied to one CPU before anything is imported, so
every peer has one thread. Peers that are not installed are left out. In turns; medians, and the
median over the rounds of the ratio to the best peer of the round.

The phases of compiling are those of two fresh processes that share a new cache folder: the first
finds it empty.

    python tests/benchmarks/training_step.py
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the variables below do most of it
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

import graphc as gx  # noqa: E402
from graphc import nn, optim  # noqa: E402

SIZES = (784, 512, 512, 10)
BATCH, RATE, DECAY = 128, 0.1, 0.9
ROUNDS, STEPS = 25, 10
Step = Callable[[], Any]


def values() -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Pictures, labels, parameters (weight, bias, ...), velocities."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(BATCH, SIZES[0])).astype("f4")
    labels = generator.integers(0, SIZES[-1], BATCH)
    parameters: list[np.ndarray] = []
    for inputs, outputs in zip(SIZES, SIZES[1:], strict=False):
        weight = generator.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        parameters += [weight.astype("f4"), np.zeros(outputs, "f4")]
    velocities = [(0.01 * generator.normal(size=p.shape)).astype("f4") for p in parameters]
    return x, labels, parameters, velocities


def compiled(donate: bool = False) -> Any:
    """The step as a Function of pictures, labels, parameters, velocities."""
    x = gx.symbol("x", (BATCH, SIZES[0]), "float32")
    labels = gx.symbol("labels", (BATCH,), "int64")
    pairs = list(zip(SIZES, SIZES[1:], strict=False))
    layers = [nn.Dense.symbols(f"layer{i}", *pair) for i, pair in enumerate(pairs)]
    speeds = [nn.Dense.symbols(f"speed{i}", *pair) for i, pair in enumerate(pairs)]
    hidden = x
    for layer in layers[:-1]:
        hidden = gx.relu(nn.dense(layer, hidden))
    loss = nn.softmax_cross_entropy(nn.dense(layers[-1], hidden), labels)
    updated = optim.momentum(layers, gx.grad(loss, layers), speeds, RATE, DECAY)
    state = [part for group in (layers, speeds) for d in group for part in (d.weight, d.bias)]
    new = [part for group in updated for d in group for part in (d.weight, d.bias)]
    return gx.compile(
        [x, labels, *state],
        [loss, *new],
        donate=state if donate else (),
        options=gx.Options(threads=1),
        name="step",
    )


def graphc_step() -> Step:
    x, labels, parameters, velocities = values()
    f = compiled()
    return lambda: f(x, labels, *parameters, *velocities)


def graphc_in_place() -> Step:
    x, labels, parameters, velocities = values()
    f = compiled(donate=True)
    return lambda: f(x, labels, *parameters, *velocities)


def numpy_step() -> Step:
    x, labels, p, v = values()
    rows = np.arange(BATCH)

    def step() -> Any:
        before0 = x @ p[0] + p[1]
        hidden0 = np.maximum(before0, 0)
        before1 = hidden0 @ p[2] + p[3]
        hidden1 = np.maximum(before1, 0)
        logits = hidden1 @ p[4] + p[5]
        logits -= logits.max(1, keepdims=True)
        soft = np.exp(logits)
        total = soft.sum(1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - logits[rows, labels])
        soft /= total
        soft[rows, labels] -= 1
        soft /= BATCH
        back1 = (soft @ p[4].T) * (before1 > 0)
        back0 = (back1 @ p[2].T) * (before0 > 0)
        gradients = [x.T @ back0, back0.sum(0), hidden0.T @ back1, back1.sum(0)]
        gradients += [hidden1.T @ soft, soft.sum(0)]
        moved = [np.float32(DECAY) * a + g for a, g in zip(v, gradients, strict=True)]
        return [loss, *[a - np.float32(RATE) * m for a, m in zip(p, moved, strict=True)], *moved]

    return step


def jax_step() -> Step:
    import jax
    import jax.numpy as jnp

    def loss(p: Any, x: Any, labels: Any) -> Any:
        hidden = jax.nn.relu(x @ p[0] + p[1])
        hidden = jax.nn.relu(hidden @ p[2] + p[3])
        logits = jax.nn.log_softmax(hidden @ p[4] + p[5])
        return -jnp.mean(jnp.take_along_axis(logits, labels[:, None], 1))

    def step(p: Any, v: Any, x: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(p, x, labels)
        moved = [DECAY * a + g for a, g in zip(v, gradients, strict=True)]
        return [value, *[a - RATE * m for a, m in zip(p, moved, strict=True)], *moved]

    x, labels, parameters, velocities = values()
    arguments = jax.device_put((parameters, velocities, x, labels))
    f = jax.jit(step)
    return lambda: jax.block_until_ready(f(*arguments))


def _torch_step(compile_it: bool) -> Step:
    import torch

    torch.set_num_threads(1)
    x, labels, parameters, velocities = values()
    tx, tlabels = torch.from_numpy(x), torch.from_numpy(labels)
    p = [torch.from_numpy(a).requires_grad_() for a in parameters]
    v = [torch.from_numpy(a) for a in velocities]

    def loss(p: Any, x: Any, labels: Any) -> Any:
        hidden = torch.relu(torch.addmm(p[1], x, p[0]))
        hidden = torch.relu(torch.addmm(p[3], hidden, p[2]))
        return torch.nn.functional.cross_entropy(torch.addmm(p[5], hidden, p[4]), labels)

    def update(p: Any, v: Any, gradients: Any) -> Any:
        moved = [DECAY * a + g for a, g in zip(v, gradients, strict=True)]
        return [a - RATE * m for a, m in zip(p, moved, strict=True)] + moved

    if compile_it:
        loss, update = torch.compile(loss), torch.compile(update)

    def step() -> Any:
        value = loss(p, tx, tlabels)
        gradients = torch.autograd.grad(value, p)
        with torch.no_grad():
            return [value, *update(p, v, gradients)]

    return step


def torch_step() -> Step:
    return _torch_step(compile_it=False)


def torch_compiled() -> Step:
    return _torch_step(compile_it=True)


OURS = {"graphc": graphc_step, "graphc, in place": graphc_in_place}
PEERS = {
    "NumPy": ("numpy", numpy_step),
    "JAX": ("jax", jax_step),
    "PyTorch": ("torch", torch_step),
    "PyTorch compiled": ("torch", torch_compiled),
}


def check(name: str, results: Any, want: list[Any]) -> None:
    """Results agree with NumPy's in norm, or there is nothing to compare."""
    for got, wanted in zip(results, want, strict=True):
        got = got.detach().numpy() if hasattr(got, "detach") else np.asarray(got)
        error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        if not error < 1e-3:
            raise SystemExit(f"{name} computes something else: relative error {error:.2g}")


def started() -> dict[str, Step]:
    """Every participant that can run, compiled, and checked against NumPy's result."""
    want = numpy_step()()
    found: dict[str, Step] = {}
    builders = OURS | {
        name: build for name, (module, build) in PEERS.items() if importlib.util.find_spec(module)
    }
    for name, build in builders.items():
        start = time.perf_counter()
        try:
            step = build()
            first = step()
        except Exception as error:  # a peer that lacks its own compiler is no failure of ours
            if name in OURS:
                raise
            print(f"{name}: left out, {type(error).__name__}")
            continue
        print(f"{name}: ready after {time.perf_counter() - start:.2f} s")
        check(name, first, want)
        found[name] = step
    return found


def compare() -> None:
    steps = started()
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        rounds.append({})
        for name, step in steps.items():
            step()
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            rounds[-1][name] = (time.perf_counter() - start) / STEPS
    peers = [name for name in steps if name not in OURS]
    print(f"\n{'step':<20}{'median ms':>12}{'best ms':>10}{'ratio to the best peer':>26}")
    for name in steps:
        times = [r[name] * 1e3 for r in rounds]
        ratio = statistics.median(r[name] / min(r[peer] for peer in peers) for r in rounds)
        print(f"{name:<20}{statistics.median(times):>12.3f}{min(times):>10.3f}{ratio:>26.2f}")


def phases() -> None:
    """Print the phases of compiling, with an empty cache and with a filled one."""
    code = (
        "import time, training_step as t; start = time.perf_counter(); f = t.compiled(); "
        "whole = time.perf_counter() - start; s = f.report().seconds; "
        "s['imports, graph, derivative'] = whole - sum(s.values()); "
        "print(*[f'{name}:{seconds}' for name, seconds in s.items()], sep='\\n')"
    )
    columns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as cache:
        here, package = Path(__file__).resolve().parent, Path(gx.__file__).resolve().parents[1]
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": cache,
            "LOCALAPPDATA": cache,
            "PYTHONPATH": os.pathsep.join((str(here), str(package))),
        }
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
                cwd=cache,
            )
            pairs = (line.rpartition(":") for line in done.stdout.splitlines())
            columns.append({name: float(seconds) for name, _, seconds in pairs})
    cold, cached = columns
    print(f"\n{'compile, ms':<28}{'cold':>10}{'cached':>10}")
    for name in [*cold, *(name for name in cached if name not in cold)]:
        print(f"{name:<28}{cold.get(name, 0) * 1e3:>10.1f}{cached.get(name, 0) * 1e3:>10.1f}")
    print(f"{'total':<28}{sum(cold.values()) * 1e3:>10.1f}{sum(cached.values()) * 1e3:>10.1f}")


if __name__ == "__main__":
    compare()
    phases()
