"""How many kernels does a step launch on a GPU, and how many bytes do they move?

Modelled, not measured: each launch reads each array that it needs once and writes each result once
(`codegen/traffic.py`), and the ideal reads every input of the graph once and writes every output
once. Beside it what tinygrad 0.14 gives by its own count (DEV=NULL:CUDA:sm_90, global_mem and
kernel_count of the second run), recorded here, with the same shapes; where none are it did not
finish in a quarter of an hour (LSTM of 64 steps, unrolled). Where no bar is named, tinygrad is it:
"equal" says that neither counts are fewer, and "missed" that some are more. Nothing runs on a GPU.

    python tests/benchmarks/cuda_traffic.py [--plan] [workload ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from cuda_others import OTHERS
from workloads import attention, black_scholes, convolution, normalisation, perceptron, recurrent

import graphc as gx
from graphc.dims import product

ROWS = (4096, 1024)
IMAGES = (64, 32, 28, 28)
OPTIONS = 4_000_000


@dataclass(frozen=True)
class Graph:
    """Inputs and outputs, float32 unless said."""

    inputs: Sequence[gx.Node]
    outputs: Sequence[gx.Node]

    @property
    def ideal_bytes(self) -> int:
        """Each input once, each output once."""
        sizes = [product(n.shape) * n.dtype.itemsize for n in (*self.inputs, *self.outputs)]
        return int(sum(sizes))


@dataclass(frozen=True)
class Row:
    """A workload, with tinygrad's kernels and MB, and the bar: launches, and MB."""

    build: Callable[[], Graph]
    kernels: int | None
    megabytes: float | None
    most_launches: int | None
    most_megabytes: float | None


def _symbol(name: str, shape: tuple[int, ...]) -> gx.Node:
    return gx.symbol(name, shape, "float32")


def _softmax(backward: bool) -> Graph:
    x, seed = _symbol("x", ROWS), _symbol("seed", ROWS)
    y = gx.softmax(x, axis=1)
    return Graph([x, seed], [y, gx.vjp(y, x, seed)]) if backward else Graph([x], [y])


def _layer_norm(backward: bool) -> Graph:
    x, seed = _symbol("x", ROWS), _symbol("seed", ROWS)
    gain, shift = _symbol("gain", ROWS[1:]), _symbol("shift", ROWS[1:])
    y = normalisation.layer_norm(gx, x, gain, shift)
    if not backward:
        return Graph([x, gain, shift], [y])
    return Graph([x, gain, shift, seed], [y, *gx.vjp(y, [x, gain, shift], seed)])


def _batch_norm(backward: bool) -> Graph:
    x, seed = _symbol("x", IMAGES), _symbol("seed", IMAGES)
    gain, shift = _symbol("gain", IMAGES[1:2]), _symbol("shift", IMAGES[1:2])
    centred = x - gx.mean(x, axis=(0, 2, 3), keepdims=True)
    variance = gx.mean(centred * centred, axis=(0, 2, 3), keepdims=True)
    scaled = centred / gx.sqrt(variance + 1e-5) * gain.reshape(1, -1, 1, 1)
    y = gx.relu(scaled + shift.reshape(1, -1, 1, 1))
    if not backward:
        return Graph([x, gain, shift], [y])
    return Graph([x, gain, shift, seed], [y, *gx.vjp(y, [x, gain, shift], seed)])


def _black_scholes() -> Graph:
    names = ("spot", "strike", "time", "volatility")
    symbols = {name: _symbol(name, (OPTIONS,)) for name in names}
    outputs = black_scholes.of_graphc("f32 gradient", **symbols)
    return Graph(list(symbols.values()), outputs)


def _sum(shape: tuple[int, int], axis: int) -> Graph:
    x = _symbol("x", shape)
    return Graph([x], [x.sum(axis=axis)])


def _workload(module: Any, variant: str) -> Graph:
    values = module.inputs(variant)
    symbols = {k: gx.symbol(k, v.shape, v.dtype.name) for k, v in values.items()}
    return Graph(list(symbols.values()), module.of_graphc(variant, **symbols))


WORKLOADS = {
    "softmax": Row(lambda: _softmax(False), 3, 67, 1, 33.6 * 1.02),
    "softmax f+b": Row(lambda: _softmax(True), 5, 151, 1, 67.1 * 1.05),
    "layer norm": Row(lambda: _layer_norm(False), 3, 67, 1, 33.6 * 1.02),
    "layer norm f+b": Row(lambda: _layer_norm(True), 9, 252, 3, 67.1 * 1.3),
    "batch norm + relu": Row(lambda: _batch_norm(False), 5, 25.7, 2, 12.8 * 1.6),
    "batch norm + relu f+b": Row(lambda: _batch_norm(True), 16, 135, 5, 25.7 * 2.3),
    "Black-Scholes f+b": Row(_black_scholes, 3, 240, 1, 112.0),
    "MLP training step": Row(lambda: _workload(perceptron, "f32"), 22, 21.9, 12, 11.1 * 1.5),
    "attention f+b": Row(lambda: _workload(attention, "f32 gradient"), 16, 90.6, 10, 55.0),
    "sum (100000, 64) axis 0": Row(lambda: _sum((100000, 64), 0), 2, 26, 2, 25.6 * 1.02),
    "sum (100000, 64) axis 1": Row(lambda: _sum((100000, 64), 1), 1, 26, 2, 26.0 * 1.02),
    "sum (64, 100000) axis 0": Row(lambda: _sum((64, 100000), 0), 1, 26, 2, 26.0 * 1.02),
    "sum (64, 100000) axis 1": Row(lambda: _sum((64, 100000), 1), 2, 26, 2, 25.6 * 1.02),
    "LSTM f+b": Row(lambda: _workload(recurrent, "f32"), None, None, None, None),
    "CNN training step": Row(lambda: _workload(convolution, "f32"), 18, 67.8, None, None),
}

# Kernels and MB of tinygrad for what nobody has named (`cuda_tinygrad.py`).
OF_OTHERS = {
    "LSTM, one step, f+b": (6, 1.23),
    "GRU cell f+b": (6, 4.72),
    "gelu layers f+b": (8, 92.28),
    "batch norm CNN": (12, 48.32),
    "batch norm CNN f+b": (36, 179.95),
    "embedding, cross entropy f+b": (10, 17.99),
    "group norm, silu f+b": (12, 176.21),
    "conv1d, relu f+b": (7, 106.2),
    "Adam, 6 arrays": (18, 26.79),
    "clipped by global norm": (8, 8.15),
    "k-means assignment": (5, 59.18),
    "cosine similarities": (3, 8.4),
    "RMS norm, rotary query": (3, 11.61),
    "causal attention": (4, 42.11),
    "transformer block f+b": (45, 37.41),
    "running sums of rows": (3, 68.29),
    "logsumexp over both axes": (4, 67.17),
    "columns standardised": (5, 67.37),
    "depthwise convolution f+b": (4, 78.08),
    "max pooling f+b": (3, 70.65),
    "vector times matrix": (1, 67.14),
    "logistic regression f+b": (5, 53.33),
    "argmax of rows": (2, 33.6),
    "8 largest of rows": (67, 35.91),
}
WORKLOADS |= {
    name: Row(lambda build=build: Graph(*build()), *OF_OTHERS[name], None, None)  # type: ignore[misc]
    for name, build in OTHERS.items()
}


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _verdict(row: Row, launches: int, megabytes: float) -> str:
    """What is to be said of a workload whose bar, or tinygrad's counts, are not kept below."""
    if row.most_launches is not None and row.most_megabytes is not None:
        kept = launches <= row.most_launches and megabytes <= row.most_megabytes + 0.05
        return "" if kept else "  missed"
    if row.kernels is None or row.megabytes is None:
        return ""
    theirs, ours = (row.kernels, round(row.megabytes, 1)), (launches, round(megabytes, 1))
    if ours[0] > theirs[0] or ours[1] > theirs[1]:
        return "  missed"
    return "  equal" if ours == theirs else ""


def main(arguments: Sequence[str]) -> None:
    """Print the table; with --plan the launches of each workload as well."""
    chosen = [name for name in arguments if not name.startswith("--")]
    head = ("workload, f32", "tinygrad", "MB", "ideal MB", "graphc", "MB", "of ideal", "bar")
    print("{:<30}{:>9}{:>8}{:>10}{:>8}{:>8}{:>10}{:>16}".format(*head))
    for name, row in WORKLOADS.items():
        if chosen and not any(each in name for each in chosen):
            continue
        graph = row.build()
        program = gx.emit(list(graph.inputs), list(graph.outputs), target="cuda")
        totals, ideal = program.totals(), graph.ideal_bytes / 1e6
        ours = totals.bytes / 1e6
        verdict = _verdict(row, totals.launches, ours)
        bar = f"{row.most_launches or '-'}, {_number(row.most_megabytes)}"
        print(
            f"{name:<30}{row.kernels or '-':>9}{_number(row.megabytes):>8}{ideal:>10.1f}"
            f"{totals.launches:>8}{ours:>8.1f}{ours / ideal:>10.2f}{bar:>16}"
            f"{verdict}"
        )
        if "--plan" in arguments:
            print(program.launch_plan_text())


if __name__ == "__main__":
    main(sys.argv[1:])
