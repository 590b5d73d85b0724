"""Does a launch move the bytes that the model says, in whole sectors?

The emulator counts the 32-byte sectors that each warp touches by each access. Where a kernel reads
each array once and every access is coalesced, that is the model's count to the byte; anything read
twice, or with gaps, shows as more. What each kernel template moves at a small size is checked in
(`cuda_sectors.json`, written anew by `pytest --regenerate`) beside what the model says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cuda_host
import cuda_transactions
import numpy as np
import pytest
from test_cuda_templates import SMALL, arrays_of, chosen_when_small

import graphc as gx
from graphc.codegen.cuda.program import translation_unit
from tests.cuda_emulator import emulator

pytestmark = emulator.required
__all__ = ["chosen_when_small"]  # a fixture

SECTORS = Path(__file__).with_name("cuda_sectors.json")


def symbol(name: str, *shape: int) -> gx.Node:
    return gx.symbol(name, shape, "float32")


def moved(inputs: Sequence[gx.Node], outputs: Sequence[gx.Node]) -> tuple[Any, int]:
    """Counted sectors of a run, and the bytes that the model counts."""
    program = gx.emit(list(inputs), list(outputs), target="cuda")
    text = cuda_transactions.with_counts(translation_unit(program.kernels))
    module = emulator.compile(text, [kernel.name for kernel in program.kernels])
    random = np.random.default_rng(3)
    arrays = [random.standard_normal(x.shape).astype(x.dtype) for x in inputs]
    outcome = cuda_host.run(program, arrays, module=module)
    wanted = gx.evaluate(list(outputs), dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-4, atol=1e-4)
    return cuda_transactions.counted(module), program.totals().bytes


def _softmax() -> Any:
    x, seed = symbol("x", 8, 1024), symbol("seed", 8, 1024)
    y = gx.softmax(x, axis=1)
    return [x, seed], [y, gx.vjp(y, x, seed)]


def _elementwise() -> Any:
    x, y = symbol("x", 64, 128), symbol("y", 64, 128)
    return [x, y], [gx.tanh(x) * y, x + y]


def _row_sums() -> Any:
    x = symbol("x", 2048, 64)
    return [x], [x.max(axis=1, keepdims=True) - x]


def _column_sums() -> Any:
    x = symbol("x", 20, 2048)
    return [x], [x.sum(axis=0)]


@pytest.mark.parametrize("make", [_softmax, _elementwise, _row_sums, _column_sums])
def test_each_array_moves_once_in_whole_sectors(make: Any) -> None:
    sectors, modelled = moved(*make())
    assert sectors.bytes == modelled


def test_a_row_vector_is_read_once_by_each_block() -> None:
    """What all rows share comes from memory, or a cache, once for each of them."""
    x, gain = symbol("x", 16, 512), symbol("gain", 512)
    sectors, modelled = moved([x, gain], [gx.softmax(x, axis=1) * gain])
    assert sectors.bytes == modelled + 15 * 512 * 4


def test_what_is_not_coalesced_shows() -> None:
    x = symbol("x", 64, 64)
    sectors, modelled = moved([x], [gx.transpose(x) * 2.0])
    assert sectors.bytes > 2 * modelled


def test_a_product_reads_tiles() -> None:
    """Each operand once for each row or column of tiles, results once."""
    a, b = symbol("a", 128, 64), symbol("b", 64, 128)
    sectors, _ = moved([a, b], [a @ b])
    assert sectors.reads * 32 == 2 * (128 * 64 * 4) * 2
    assert sectors.writes * 32 == 128 * 128 * 4


@pytest.mark.slow
def test_each_template_moves_no_more_than_it_did(
    chosen_when_small: None, request: pytest.FixtureRequest
) -> None:
    """Counted bytes of whole sectors, and modelled bytes, of each template. Small arrays and those
    that blocks share make the count the larger; the model counts scratch that caches keep.
    """
    found = {name: sectors_of(name) for name in SMALL}
    if request.config.getoption("--regenerate"):
        SECTORS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    known = json.loads(SECTORS.read_text())
    assert set(found) == set(known), "pytest --regenerate writes the file anew"
    for name, (counted, modelled) in found.items():
        assert counted <= known[name][0], (name, counted)
        assert modelled == known[name][1], (name, modelled)


def sectors_of(name: str) -> list[int]:
    """Counted and modelled bytes of a template's small graph."""
    inputs, outputs = SMALL[name]()
    program = gx.emit(list(inputs), list(outputs), target="cuda")
    text = cuda_transactions.with_counts(translation_unit(program.kernels))
    module = emulator.compile(text, [kernel.name for kernel in program.kernels])
    arrays = arrays_of(inputs)
    sizes = cuda_host.sizes_of(program, arrays)
    cuda_host.run(program, arrays, sizes, module=module)
    return [cuda_transactions.counted(module).bytes, program.totals(sizes).bytes]
