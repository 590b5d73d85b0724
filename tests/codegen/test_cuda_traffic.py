"""Does a step on a GPU take as few launches and move as few bytes as it is meant to?

The table of `tests/benchmarks/cuda_traffic.py`, by its own model: nothing is measured. A step
without a bar is held to tinygrad's counts, or to what it reaches, so that it does not get worse
unseen.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cuda_host
import numpy as np
import pytest

import graphc as gx
from tests.cuda_emulator import emulator

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import cuda_traffic

# Where far less than the bar, or than tinygrad takes, is reached: launches and MB.
REACHED = {
    "MLP training step": (7, 16.4),
    "CNN training step": (11, 35.2),
    "LSTM f+b": (261, 86.4),
    "gelu layers f+b": (4, 80.8),
    "batch norm CNN f+b": (8, 79.2),
    "embedding, cross entropy f+b": (6, 12.4),
    "group norm, silu f+b": (3, 67.2),
    "clipped by global norm": (4, 8.0),
    "transformer block f+b": (17, 26.2),
}


@pytest.mark.parametrize("name", cuda_traffic.WORKLOADS)
def test_a_step_keeps_to_its_launches_and_bytes(name: str) -> None:
    row = cuda_traffic.WORKLOADS[name]
    graph = row.build()
    program = gx.emit(list(graph.inputs), list(graph.outputs), target="cuda")
    bar = (row.most_launches or row.kernels, row.most_megabytes or row.megabytes)
    launches, megabytes = REACHED.get(name, bar)
    totals = program.totals()
    assert totals.launches <= launches
    assert totals.bytes / 1e6 <= megabytes + 0.05


@emulator.required
def test_a_mask_is_made_from_what_relu_gives() -> None:
    """The gradient of two layers stores no mask, and is right where relu meets NaN and zeros."""
    x, first = gx.symbol("x", (9, 6), "float32"), gx.symbol("first", (6, 8), "float32")
    second, seed = gx.symbol("second", (8, 5), "float32"), gx.symbol("seed", (9, 5), "float32")
    inputs = [x, first, second, seed]
    made = gx.relu(x @ first) @ second
    outputs = [made, *gx.vjp(made, [x, first, second], seed)]
    program = gx.emit(inputs, outputs, target="cuda")
    assert not re.search(r"unsigned char\* (?!shared)", program.text)
    random = np.random.default_rng(3)
    arrays = [random.standard_normal(node.shape).astype("float32") for node in inputs]
    arrays[0][2] = 0
    arrays[0][4] = np.nan
    wanted = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    outcome = cuda_host.run_in_every_order(program, arrays)
    for got, want in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
