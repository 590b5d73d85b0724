"""Do products that go from launch to launch in registers come out as if they were stored?

The same graph is run by the kernel interpreter, launch by launch, and by the emulator as the chain
that is printed, in every order of the threads; NVIDIA's compiler must find registers for all that
is held. None of this is evidence that a GPU has run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cuda_host
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda.program import cuda_source, lower_for_cuda
from graphc.codegen.interpret import run_program
from graphc.codegen.lower import expand
from graphc.codegen.program import Chain, Together
from graphc.graph import close
from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

WORKERS = 3
Graphs = tuple[Sequence[gx.Node], Sequence[gx.Node]]


def symbol(name: str, *shape: Any, dtype: str = "float32") -> gx.Node:
    return gx.symbol(name, shape, dtype)


def scores(heads: Any, rows: Any, columns: int, depth: int = 20) -> Graphs:
    q, k = symbol("q", heads, rows, depth), symbol("k", heads, columns, depth)
    return [q, k], [gx.softmax(q @ gx.swapaxes(k, 1, 2) * 0.3, axis=-1)]


def attention() -> Graphs:
    """A softmax between products, and its gradients."""
    q, k, v = symbol("q", 2, 40, 16), symbol("k", 2, 132, 16), symbol("v", 2, 132, 16)
    seed = symbol("seed", 2, 40, 16)
    mixed = gx.softmax(q @ gx.swapaxes(k, 1, 2), axis=-1) @ v
    return [q, k, v, seed], [mixed, *gx.vjp(mixed, [q, k, v], seed)]


def sum_of_products() -> Graphs:
    a, b, c = symbol("a", 70, 30), symbol("b", 30, 50), symbol("c", 70, 20)
    d, e, f = symbol("d", 20, 50), symbol("e", 70, 33), symbol("f", 33, 50)
    return [a, b, c, d, e, f], [gx.tanh(a @ b + c @ d + e @ f + 1)]


def masked_rows() -> Graphs:
    """An epilogue before the rows, other arrays in them, a result for each row and two that stay.
    """
    x, w = symbol("x", 21, 12), symbol("w", 12, 160)
    bias, keep = symbol("bias", 160), symbol("keep", 21, 160, dtype="bool")
    shares = gx.log_softmax(gx.where(keep, gx.tanh(x @ w + bias), -9.0), axis=1)
    return [x, w, bias, keep], [shares, gx.argmax(shares, axis=1), shares.sum(axis=1)]


def centred_rows() -> Graphs:
    """Rows that begin at no multiple of 16 bytes in what else is read."""
    x, w, y = symbol("x", 9, 12), symbol("w", 12, 128), symbol("y", 9, 131)
    made = x @ w + 0.5
    return [x, w, y], [(made - gx.mean(made, axis=1, keepdims=True)) * y[:, 1:129]]


GRAPHS: dict[str, Callable[[], Graphs]] = {
    "attention": attention,
    "sum of products": sum_of_products,
    "masked rows": masked_rows,
    "centred rows": centred_rows,
    "few rows": lambda: scores(3, 3, 128),
    "one head": lambda: scores(1, 5, 128),
    "ragged rows": lambda: scores(2, 45, 200),
    "wide rows": lambda: scores(2, 18, 512, 9),
    "rows of unknown number": lambda: scores("h", "n", 128),
}
SIZES = {"h": 2, "n": 37}


def lowered(name: str) -> Any:
    inputs, outputs = GRAPHS[name]()
    graph, _ = close(list(inputs), list(outputs))
    return lower_for_cuda(expand(graph), WORKERS)


def drawn(inputs: Sequence[gx.Node]) -> list[np.ndarray]:
    shapes = [tuple(SIZES.get(str(e), e) for e in x.shape) for x in inputs]
    random = np.random.default_rng(23)
    values = [random.standard_normal(shape).astype("f4") for shape in shapes]
    pairs = zip(inputs, values, strict=True)
    return [each > 0.3 if x.dtype == "bool" else each for x, each in pairs]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_chain_computes_what_its_launches_do(name: str) -> None:
    inputs, _ = GRAPHS[name]()
    program = lowered(name)
    chains = [
        each
        for statement in program.main.body
        for each in (statement.launches if isinstance(statement, Together) else [statement])
        if isinstance(each, Chain)
    ]
    assert chains
    arrays = drawn(inputs)
    printed = cuda_source(program, workers=WORKERS)
    sizes = cuda_host.sizes_of(printed, arrays)
    wanted, _ = run_program(program, arrays, sizes, WORKERS)
    outcome = cuda_host.run_in_every_order(printed, arrays)
    for got, want in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@nvrtc.required
@pytest.mark.parametrize("name", ["attention", "sum of products", "wide rows"])
def test_what_is_held_stays_in_registers(name: str) -> None:
    text = cuda_source(lowered(name), workers=WORKERS).text
    for kernel, usage in nvrtc.compile(text, "sm_90").usage.items():
        assert (usage.stack, usage.spill_stores, usage.spill_loads) == (0, 0, 0), (kernel, usage)


def test_what_another_kernel_reads_as_well_is_stored() -> None:
    q, k = symbol("q", 40, 16), symbol("k", 16, 128)
    made = q @ k
    program = gx.emit([q, k], [gx.softmax(made, axis=1), made], target="cuda")
    assert program.totals().launches == 2
