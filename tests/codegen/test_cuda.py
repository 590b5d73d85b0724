"""Does the CUDA C++ of a program compute what the evaluator computes, and does NVIDIA's compiler accept it?

Every graph below is printed, compiled by g++ and run by the emulator under several orders of the threads, which must all give
the same bits; the results are compared with the evaluator. The same text goes through NVRTC for three architectures with
warnings as errors. None of this is evidence that a GPU has run it.
"""

from __future__ import annotations

import functools
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cuda_host
import graphc as gx
import numpy as np
import pytest
from graphc.autodiff import grad
from graphc.codegen.cuda import KernelStep, LoopStep, cuda_source, translation_unit
from graphc.codegen.loops import Buffer, Kernel, verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.program import Launch, Operand, Procedure, Program, Storage
from graphc.codegen.scalar import BITS, OPCODES, Scope
from graphc.errors import GraphError
from graphc.graph import close
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.op import REGISTRY
from graphc.types import TupleType
from test_scalar import NUMPY_DTYPES, assert_same, build, edges, one_zero, opcodes_over, samples

from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

FLOATS = ("float32", "float64")
WORKERS = 3
RANDOM = np.random.default_rng(11)
OPS = dict(REGISTRY)  # before a test registers more


def program_of(inputs: Sequence[Node], outputs: Sequence[Node], strided: Sequence[bool] = ()) -> Any:
    """The CUDA program of a graph as it is written."""
    graph, captured = close(list(inputs), list(outputs))
    assert not captured
    lowered = lower(expand(graph), workers=WORKERS, strided=strided)
    for kernel in lowered.kernels():
        verify(kernel)
    return cuda_source(lowered, workers=WORKERS)


def normal(*shape: int, dtype: str = "float64") -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


# -- graphs --------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A graph, and the lists of arrays that it is run on. Floats may differ by `ulps` times the largest value."""

    inputs: Sequence[Node]
    outputs: Sequence[Node]
    arrays: Sequence[Sequence[np.ndarray]]
    strided: Sequence[bool] = ()
    ulps: float = 64

    @functools.cached_property
    def program(self) -> Any:
        return program_of(self.inputs, self.outputs, self.strided)

    @functools.cached_property
    def module(self) -> emulator.Module:
        return cuda_host.compile_programs([self.program])


CASES: dict[str, Callable[[], Case]] = {}


def case(function: Callable[[str], Case]) -> Callable[[str], Case]:
    """Register a graph in both float dtypes."""
    for dtype in FLOATS:
        CASES[f"{function.__name__}-{dtype}"] = functools.partial(function, dtype)
    return function


@functools.cache
def made(name: str) -> Case:
    return CASES[name]()


@functools.cache
def elementwise_ops(dtype: str) -> list[tuple[str, list[Node], list[Node]]]:
    """Every registered element-wise op on vectors of a dtype: its name, arguments, results."""
    found = []
    for name, op in OPS.items():
        if not isinstance(op.lowering, Elementwise) or op.attributes or name == "where":
            continue
        arity = len(inspect.signature(op.lowering.kernel).parameters) - 1
        args = [gx.symbol(f"{name}_{i}", ("n",), dtype) for i in range(arity)]
        try:
            node = op(*args)
        except GraphError:
            continue  # not for this dtype
        results = len(node.type.items) if isinstance(node.type, TupleType) else 0
        found.append((name, args, [gx.project(node, i) for i in range(results)] or [node]))
    return found


def elementwise(dtype: str) -> Case:
    """Each op at all pairs of edge values, and inside its domain."""
    inputs: list[Node] = []
    outputs: list[Node] = []
    arrays: list[np.ndarray] = []
    first, second = (each.reshape(-1) for each in np.meshgrid(edges(dtype), edges(dtype)))
    for name, args, results in elementwise_ops(dtype):
        inputs += args
        outputs += results
        for argument, special in zip(range(len(args)), (first, second), strict=False):
            many = np.resize(special, special.size + 64)
            domain = OPS[name].domain
            low, high = (domain[argument].low, domain[argument].high) if domain else (-30, 30)
            if dtype != "bool":
                many[special.size :] = RANDOM.uniform(low, high, 64).astype(dtype)
            arrays.append(many)
    return Case(inputs, outputs, [arrays], ulps=4)


for _dtype in (*FLOATS, "int64", "bool"):
    CASES[f"elementwise-{_dtype}"] = functools.partial(elementwise, _dtype)


@case
def conversions(dtype: str) -> Case:
    x, i, b = gx.symbol("x", ("n",), dtype), gx.symbol("i", ("n",), "int64"), gx.symbol("b", ("n",), "bool")
    outputs = [gx.cast(each, to) for each in (x, i, b) for to in ("bool", "int64", *FLOATS)]
    outputs.append(gx.where(b, x, 2 * x))
    values = edges(dtype)
    arrays = [values, np.resize(edges("int64"), values.size), np.resize([True, False, False], values.size)]
    return Case([x, i, b], outputs, [arrays])


@case
def broadcasting(dtype: str) -> Case:
    x, y, s = gx.symbol("x", (5, 1, 7), dtype), gx.symbol("y", (3, 1), dtype), gx.symbol("s", (), dtype)
    table = np.arange(7, dtype=dtype)
    outputs = [x + y, x * s, (x - y) * table, x * gx.arange(7), gx.broadcast_to(s, (2, 3)) + 1, s * s]
    arrays = [normal(5, 1, 7, dtype=dtype), normal(3, 1, dtype=dtype), normal(dtype=dtype)]
    return Case([x, y, s], outputs, [arrays])


@case
def symbolic_sizes(dtype: str) -> Case:
    x = gx.symbol("x", ("n", "m"), dtype)
    outputs = [
        gx.tanh(x) + x, gx.softmax(x, axis=1), x.sum(axis=0), (gx.exp(x) * 2).sum(), gx.mean(x),
        x.sum(axis=1), (x * x).sum(axis=1) * x.shape[0], x.T + 1, x.reshape(x.shape[1], x.shape[0]) - 1,
    ]  # fmt: skip
    shapes = ((5, 7), (1, 1), (0, 3), (4, 0), (33, 65), (3, 5000), (300, 2))
    return Case([x], outputs, [[normal(*shape, dtype=dtype)] for shape in shapes])


@case
def large(dtype: str) -> Case:
    """More than one task of a flat nest, more than one part of a split sum, tiles of columns."""
    x, y = gx.symbol("x", (9000,), dtype), gx.symbol("y", (3, 600), dtype)
    outputs = [x * 2, gx.exp(x).sum(), x.max(), gx.prod(1 + x / 1e4), y.sum(axis=0), gx.argmax(x)]
    return Case([x, y], outputs, [[normal(9000, dtype=dtype), normal(3, 600, dtype=dtype)]])


@case
def reductions(dtype: str) -> Case:
    x, b = gx.symbol("x", (4, 5, 37), dtype), gx.symbol("b", (6, 9), "bool")
    outputs = [
        x.sum(axis=(1, 2)), x.sum(axis=(0, 2)), x.sum(axis=(0, 1)), x.max(axis=(0, 1, 2)), x.min(axis=1),
        gx.prod(x, axis=2), gx.prod(x, axis=0), gx.argmax(x, axis=0), gx.argmax(x, axis=2), gx.mean(x, axis=1),
        gx.all(b), gx.any(b, axis=0), gx.all(b, axis=1), gx.sum(b, axis=1), gx.logsumexp(x, axis=2),
        (x - x.max(axis=2, keepdims=True)).sum(axis=2),
    ]  # fmt: skip
    return Case([x, b], outputs, [[normal(4, 5, 37, dtype=dtype), RANDOM.random((6, 9)) > 0.2]])


@case
def normalised_rows(dtype: str) -> Case:
    """Several stages over a row, with dear values kept in scratch of the block."""
    x = gx.symbol("x", (7, 50), dtype)
    centred = x - gx.mean(x, axis=1, keepdims=True)
    layer = centred / gx.sqrt(gx.mean(centred * centred, axis=1, keepdims=True) + 1e-5)
    heavy = gx.tanh(gx.exp(x) + gx.sin(x))
    outputs = [
        gx.softmax(x, axis=1), gx.log_softmax(x, axis=0), layer, heavy / heavy.sum(axis=1, keepdims=True),
        grad(gx.mean(gx.log_softmax(x, axis=1)[:, 0]), x), grad((layer * gx.sin(x)).sum(), x),
    ]  # fmt: skip
    return Case([x], outputs, [[normal(7, 50, dtype=dtype)]], ulps=256)


@case
def column_scratch(dtype: str) -> Case:
    """A reduction over the first axis in stages: lanes along columns, scratch indexed by lane."""
    x = gx.symbol("x", ("n", 300), dtype)
    heavy = gx.exp(gx.tanh(x))
    outputs = [heavy / heavy.sum(axis=0), gx.softmax(x, axis=0)]
    return Case([x], outputs, [[normal(n, 300, dtype=dtype)] for n in (1, 6)])


@case
def products(dtype: str) -> Case:
    """Contractions: batched, transposed, of vectors, of nothing, with prologues and epilogues."""
    a, b = gx.symbol("a", (2, 9, 20), dtype), gx.symbol("b", (2, 20, 70), dtype)
    c, v, w = gx.symbol("c", (9, 20), dtype), gx.symbol("v", (20,), dtype), gx.symbol("w", (70,), dtype)
    e, f = gx.symbol("e", (5, 0), dtype), gx.symbol("f", (0, 6), dtype)
    outputs = [
        a @ b, c @ b, gx.swapaxes(b, 1, 2) @ gx.swapaxes(a, 1, 2), c.T @ c, c @ v, v @ b, gx.outer(v, w),
        gx.relu(a @ b + w), gx.tanh(c @ v) * 2, (a * a) @ gx.exp(b), c[::-1, 3:9] @ b[0, 3:9], e @ f + 1,
        gx.tensordot(a, b, axes=([0, 2], [0, 1])), gx.dot(v, v),
    ]  # fmt: skip
    shapes = ((2, 9, 20), (2, 20, 70), (9, 20), (20,), (70,), (5, 0), (0, 6))
    return Case([a, b, c, v, w, e, f], outputs, [[normal(*s, dtype=dtype) for s in shapes]])


@case
def symbolic_products(dtype: str) -> Case:
    a, b = gx.symbol("a", ("p", "n", "k"), dtype), gx.symbol("b", ("k", "m"), dtype)
    outputs = [a @ b, gx.sin(a) @ b + 1, grad(gx.tanh(a @ b).sum(), b)]
    sizes = ((1, 1, 1, 1), (2, 3, 0, 4), (0, 2, 2, 2), (2, 65, 17, 33), (1, 5, 40, 70))
    return Case(
        [a, b], outputs, [[normal(p, n, k, dtype=dtype), normal(k, m, dtype=dtype)] for p, n, k, m in sizes]
    )


@case
def gathers(dtype: str) -> Case:
    x, i = gx.symbol("x", (12, 5), dtype), gx.symbol("i", (7,), "int64")
    table = gx.symbol("t", (6, 4), "int64")
    column = gx.minimum(i, 4)
    outputs = [
        x[i], gx.take(x, column, axis=1), gx.take(x, i), grad((x[i] ** 2).sum(), x),
        grad((gx.take(x, column, axis=1) ** 2).sum(), x), x[table[:, 0]], gx.take_along_axis(x, column[:5].reshape(1, 5), 0),
        grad((gx.exp(x)[i] * x[i]).sum(), x), gx.exp(x[i]).sum(axis=1), x[i] @ x.T,
    ]  # fmt: skip
    positions = np.array([3, -1, 0, 3, -5, 4, 2])
    return Case([x, i, table], outputs, [[normal(12, 5, dtype=dtype), positions, RANDOM.integers(-12, 12, (6, 4))]])


@case
def movement(dtype: str) -> Case:
    x = gx.symbol("x", ("n", 6), dtype)
    outputs = [
        gx.concatenate([x, x * 2], axis=1), gx.pad(x, [(1, 2), (0, 3)]), gx.flip(x, axis=0) + 1,
        x[::-1, 4:1:-2], x[:, ::2] * 3, x.T, gx.stack([x, -x], axis=1), gx.transpose(x)[1:3] + x[0, 0],
        grad((gx.pad(x, [(0, 1), (2, 0)]) ** 2).sum(), x), grad((gx.concatenate([x, x[::-1]]) ** 3).sum(), x),
        gx.pad(gx.flip(x, axis=1), [(0, 0), (1, 1)]).sum(axis=1),
    ]  # fmt: skip
    return Case([x], outputs, [[normal(n, 6, dtype=dtype)] for n in (1, 5, 14)])


@case
def strided_inputs(dtype: str) -> Case:
    x, y, b = gx.symbol("x", (20, 20), dtype), gx.symbol("y", ("n", 20), dtype), gx.symbol("b", (20,), "bool")
    outputs = [
        x + x.T, x.sum(axis=1), x.sum(axis=0), gx.exp(y).T, x @ gx.transpose(y), y @ x, gx.where(b, x, 0.0), y[::-1] * 2,
    ]  # fmt: skip
    columns = np.asfortranarray(normal(20, 20, dtype=dtype))
    sliced, flipped = normal(40, 60, dtype=dtype)[::2, ::3], (RANDOM.random(40) > 0.5)[::-2]
    return Case(
        [x, y, b],
        outputs,
        [[sliced, columns, flipped], [columns[::-1], sliced[:3], flipped], [np.broadcast_to(columns[0], (20, 20)), columns[:0], flipped]],
        strided=(True, True, True),
    )


@case
def scans(dtype: str) -> Case:
    x, y = gx.symbol("x", ("n", 4), dtype), gx.symbol("y", (4,), dtype)
    state, rows = gx.scan(lambda s, v: (gx.tanh(s * y + v), s * 2), np.zeros(4, dtype), x)
    matrix = gx.symbol("w", (4, 4), dtype)
    last = gx.scan(lambda s, v: (gx.tanh(s @ matrix + v), s.sum()), y, x)
    outputs = [state, rows, *last, grad((state * state).sum() + (rows * rows).sum(), y), grad(last[0].sum(), matrix)]
    arrays = [[normal(n, 4, dtype=dtype), normal(4, dtype=dtype), normal(4, 4, dtype=dtype)] for n in (0, 1, 5)]
    return Case([x, y, matrix], outputs, arrays)


@case
def calls(dtype: str) -> Case:
    x, y = gx.symbol("x", ("n", 10), dtype), gx.symbol("y", (10,), dtype)

    def layer(a: Node, b: Node) -> Node:
        return gx.tanh(a * b) / (1 + gx.exp(a).sum(axis=1, keepdims=True))

    deep = x
    for _ in range(3):
        deep = gx.call(layer, deep, y)
    outputs = [deep, grad(deep.sum(), x), gx.call(lambda a: gx.call(layer, a[:2], y).sum(), x)]
    return Case([x, y], outputs, [[normal(n, 10, dtype=dtype), normal(10, dtype=dtype)] for n in (2, 9)])


@case
def integers(dtype: str) -> Case:
    """Sums, products and contractions of integers wrap; counts of comparisons."""
    i, x = gx.symbol("i", (6, 9), "int64"), gx.symbol("x", (6, 9), dtype)
    outputs = [i.sum(), gx.prod(i, axis=1), i @ i.T, i.max(axis=0), (x > 0).sum(axis=1), i * 3 - i, gx.absolute(i), i**2]
    values = RANDOM.integers(-(2**63), 2**63 - 1, (6, 9))
    return Case([i, x], outputs, [[values, normal(6, 9, dtype=dtype)]])


@pytest.mark.parametrize("name", list(CASES))
def test_results_are_the_evaluators_in_every_order(name: str) -> None:
    graph = made(name)
    for arrays in graph.arrays:
        outcome = cuda_host.run_in_every_order(graph.program, arrays, module=graph.module)
        assert outcome.failure == (0, 0, 0)
        values = dict(zip(graph.inputs, arrays, strict=True))
        with np.errstate(all="ignore"):
            wanted = gx.evaluate(list(graph.outputs), values)
        for number, (got, want) in enumerate(zip(outcome.outputs, wanted, strict=True)):
            assert_close(got, np.asarray(want), graph.ulps, f"output {number} of {name}")


def assert_close(got: np.ndarray, want: np.ndarray, ulps: float, what: str) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    tolerance = ulps * np.finfo(want.dtype).eps
    finite = np.abs(want[np.isfinite(want)])
    largest = finite[finite < np.finfo(want.dtype).max / 2].max(initial=0) if ulps > 4 else 0
    tiny = ulps * np.finfo(want.dtype).smallest_subnormal
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * largest + tiny, err_msg=what)


# -- NVIDIA's compiler ---------------------------------------------------------------------------------


@nvrtc.required
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("group", range(3))
def test_nvrtc_accepts_every_kernel(arch: str, group: int) -> None:
    programs = [made(name).program for name in list(CASES)[group::3]]
    kernels = {kernel.name: kernel for program in programs for kernel in program.kernels}
    compiled = nvrtc.compile(translation_unit(kernels.values(), "all"), arch)
    assert set(compiled.usage) == set(kernels)
    for name, usage in compiled.usage.items():
        assert usage.shared_bytes >= kernels[name].shared_bytes, name
