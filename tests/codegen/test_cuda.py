"""Does CUDA C++ text compute what the evaluator computes, and does NVIDIA's compiler accept it?

Every graph below is printed, compiled by g++ and run by the emulator under several orders of the
threads, which must all give the same bits; the results are compared with the evaluator. The same
text goes through NVRTC for three architectures with warnings as errors. None of this is evidence
that a GPU has run it.
"""

from __future__ import annotations

import functools
import inspect
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cuda_host
import numpy as np
import pytest
from test_scalar import NUMPY_DTYPES, assert_same, build, edges, one_zero, opcodes_over, samples

import graphc as gx
from graphc.autodiff import grad
from graphc.codegen.cuda.plan import LoopStep
from graphc.codegen.cuda.program import cuda_source, lower_for_cuda, translation_unit
from graphc.codegen.emit import copy_operand
from graphc.codegen.loops import Buffer, Kernel, verify
from graphc.codegen.lower import expand
from graphc.codegen.memory import aligned
from graphc.codegen.program import Launch, Operand, Procedure, Program, Storage
from graphc.codegen.scalar import BITS, INTEGERS, OPCODES, Scope
from graphc.errors import GraphError
from graphc.graph import close
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.op import REGISTRY
from graphc.types import TupleType
from tests.backends import ULP
from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

FLOATS = ("float32", "float64")
WORKERS = 3
RANDOM = np.random.default_rng(11)
OPS = dict(REGISTRY)  # before a test registers more


def program_of(
    inputs: Sequence[Node], outputs: Sequence[Node], strided: Sequence[bool] = ()
) -> Any:
    """The CUDA program of a graph as it is written."""
    graph, captured = close(list(inputs), list(outputs))
    assert not captured
    lowered = lower_for_cuda(expand(graph), WORKERS, strided)
    for kernel in lowered.kernels():
        verify(kernel)
    return cuda_source(lowered, workers=WORKERS)


def normal(*shape: int, dtype: str = "float64") -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


# -- graphs ----------------------------------------------------------------------------------------


@dataclass
class Case:
    """A graph, and the lists of arrays that it is run on.

    Floats may differ by `ulps` units in the last place: of the element if that is 4, else of the
    largest one.
    """

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
    """A case, with the same values whatever has been drawn before."""
    drawn = np.random.default_rng(zlib.crc32(name.encode()))
    RANDOM.bit_generator.state = drawn.bit_generator.state
    return CASES[name]()


@functools.cache
def elementwise_ops(dtype: str) -> list[tuple[str, list[Node], list[Node]]]:
    """Every registered element-wise op on vectors of a dtype: its name, arguments, results.

    Not those that refuse some values, nor those that may be off by more than 2 ULP, as the
    evaluator may: the contract tests compare these with exact values.
    """
    found = []
    for name, op in OPS.items():
        if not isinstance(op.lowering, Elementwise) or op.attributes or name == "where":
            continue
        if ULP.get(name, 0) > 2 or op.lowering.demand is not None and dtype in INTEGERS:
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
    x, i, b = (
        gx.symbol("x", ("n",), dtype),
        gx.symbol("i", ("n",), "int64"),
        gx.symbol("b", ("n",), "bool"),
    )
    outputs = [gx.cast(each, to) for each in (x, i, b) for to in ("bool", "int64", *FLOATS)]
    outputs.append(gx.where(b, x, 2 * x))
    values = edges(dtype)
    arrays = [
        values,
        np.resize(edges("int64"), values.size),
        np.resize([True, False, False], values.size),
    ]
    return Case([x, i, b], outputs, [arrays])


@case
def broadcasting(dtype: str) -> Case:
    x, y, s = (
        gx.symbol("x", (5, 1, 7), dtype),
        gx.symbol("y", (3, 1), dtype),
        gx.symbol("s", (), dtype),
    )
    table = np.arange(7, dtype=dtype)
    outputs = [
        x + y,
        x * s,
        (x - y) * table,
        x * gx.arange(7),
        gx.broadcast_to(s, (2, 3)) + 1,
        s * s,
    ]
    arrays = [normal(5, 1, 7, dtype=dtype), normal(3, 1, dtype=dtype), normal(dtype=dtype)]
    return Case([x, y, s], outputs, [arrays])


@case
def symbolic_sizes(dtype: str) -> Case:
    x = gx.symbol("x", ("n", "m"), dtype)
    outputs = [
        gx.tanh(x) + x, gx.softmax(x, axis=1), x.sum(axis=0), (gx.exp(x) * 2).sum(), gx.mean(x),
        x.sum(axis=1), (x * x).sum(axis=1) * x.shape[0], x.T + 1,
        x.reshape(x.shape[1], x.shape[0]) - 1,
    ]  # fmt: skip
    shapes = ((5, 7), (1, 1), (0, 3), (4, 0), (33, 2), (2, 5000))
    return Case([x], outputs, [[normal(*shape, dtype=dtype)] for shape in shapes])


@case
def large(dtype: str) -> Case:
    """More than one task of a flat nest, more than one part of a split sum, tiles of columns."""
    x, y = gx.symbol("x", (9000,), dtype), gx.symbol("y", (3, 600), dtype)
    outputs = [x * 2, gx.exp(x).sum(), x.max(), gx.prod(gx.sign(x)), y.sum(axis=0), gx.argmax(x)]
    return Case([x, y], outputs, [[normal(9000, dtype=dtype), normal(3, 600, dtype=dtype)]])


@case
def reductions(dtype: str) -> Case:
    x, b = gx.symbol("x", (4, 5, 37), dtype), gx.symbol("b", (6, 9), "bool")
    outputs = [
        x.sum(axis=(1, 2)), x.sum(axis=(0, 2)), x.sum(axis=(0, 1)), x.max(axis=(0, 1, 2)),
        x.min(axis=1), gx.prod(x, axis=2), gx.prod(x, axis=0), gx.argmax(x, axis=0),
        gx.argmax(x, axis=2), gx.mean(x, axis=1),
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
        gx.softmax(x, axis=1), gx.log_softmax(x, axis=0), layer,
        heavy / heavy.sum(axis=1, keepdims=True),
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
    c, v, w = (
        gx.symbol("c", (9, 20), dtype),
        gx.symbol("v", (20,), dtype),
        gx.symbol("w", (70,), dtype),
    )
    e, f = gx.symbol("e", (5, 0), dtype), gx.symbol("f", (0, 6), dtype)
    outputs = [
        a @ b, c @ b, gx.swapaxes(b, 1, 2) @ gx.swapaxes(a, 1, 2), c.T @ c, c @ v, v @ b,
        gx.outer(v, w), gx.relu(a @ b + w), gx.tanh(c @ v) * 2, (a * a) @ gx.exp(b),
        c[::-1, 3:9] @ b[0, 3:9], e @ f + 1, e.T @ c[:5], c[:5].T @ e, e.T @ e,
        gx.tensordot(a, b, axes=([0, 2], [0, 1])), gx.dot(v, v), gx.tanh(c @ v)[:, None] * (c + 1),
    ]  # fmt: skip
    shapes = ((2, 9, 20), (2, 20, 70), (9, 20), (20,), (70,), (5, 0), (0, 6))
    return Case([a, b, c, v, w, e, f], outputs, [[normal(*s, dtype=dtype) for s in shapes]])


@case
def symbolic_products(dtype: str) -> Case:
    a, b = gx.symbol("a", ("p", "n", "k"), dtype), gx.symbol("b", ("k", "m"), dtype)
    outputs = [a @ b, gx.sin(a) @ b + 1, grad(gx.tanh(a @ b).sum(), b)]
    sizes = ((1, 1, 1, 1), (2, 3, 0, 4), (0, 2, 2, 2), (2, 65, 17, 33), (1, 5, 40, 70))
    return Case(
        [a, b],
        outputs,
        [[normal(p, n, k, dtype=dtype), normal(k, m, dtype=dtype)] for p, n, k, m in sizes],
    )


@case
def gathers(dtype: str) -> Case:
    x, i = gx.symbol("x", (12, 5), dtype), gx.symbol("i", (7,), "int64")
    table = gx.symbol("t", (6, 4), "int64")
    column = gx.minimum(i, 4)
    outputs = [
        x[i], gx.take(x, column, axis=1), gx.take(x, i), grad((x[i] ** 2).sum(), x),
        grad((gx.take(x, column, axis=1) ** 2).sum(), x), x[table[:, 0]],
        gx.take_along_axis(x, column[:5].reshape(1, 5), 0),
        grad((gx.exp(x)[i] * x[i]).sum(), x), gx.exp(x[i]).sum(axis=1), x[i] @ x.T,
    ]  # fmt: skip
    positions = np.array([3, -1, 0, 3, -5, 4, 2])
    return Case(
        [x, i, table],
        outputs,
        [[normal(12, 5, dtype=dtype), positions, RANDOM.integers(-12, 12, (6, 4))]],
    )


@case
def movement(dtype: str) -> Case:
    x = gx.symbol("x", ("n", 6), dtype)
    outputs = [
        gx.concatenate([x, x * 2], axis=1), gx.pad(x, [(1, 2), (0, 3)]), gx.flip(x, axis=0) + 1,
        x[::-1, 4:1:-2], x[:, ::2] * 3, x.T, gx.stack([x, -x], axis=1),
        gx.transpose(x)[1:3] + x[0, 0], grad((gx.pad(x, [(0, 1), (2, 0)]) ** 2).sum(), x),
        grad((gx.concatenate([x, x[::-1]]) ** 3).sum(), x),
        gx.pad(gx.flip(x, axis=1), [(0, 0), (1, 1)]).sum(axis=1),
    ]  # fmt: skip
    return Case([x], outputs, [[normal(n, 6, dtype=dtype)] for n in (1, 5, 14)])


@case
def strided_inputs(dtype: str) -> Case:
    x, y, b = (
        gx.symbol("x", (20, 20), dtype),
        gx.symbol("y", ("n", 20), dtype),
        gx.symbol("b", (20,), "bool"),
    )
    outputs = [
        x + x.T, x.sum(axis=1), x.sum(axis=0), gx.exp(y).T, x @ gx.transpose(y), y @ x,
        gx.where(b, x, 0.0), y[::-1] * 2,
    ]  # fmt: skip
    columns = np.asfortranarray(normal(20, 20, dtype=dtype))
    sliced, flipped = normal(40, 60, dtype=dtype)[::2, ::3], (RANDOM.random(40) > 0.5)[::-2]
    return Case(
        [x, y, b],
        outputs,
        [
            [sliced, columns, flipped],
            [columns[::-1], sliced[:3], flipped],
            [np.broadcast_to(columns[0], (20, 20)), columns[:0], flipped],
        ],
        strided=(True, True, True),
    )


@case
def scans(dtype: str) -> Case:
    x, y = gx.symbol("x", ("n", 4), dtype), gx.symbol("y", (4,), dtype)
    state, rows = gx.scan(lambda s, v: (gx.tanh(s * y + v), s * 2), np.zeros(4, dtype), x)
    matrix = gx.symbol("w", (4, 4), dtype)
    last = gx.scan(lambda s, v: (gx.tanh(s @ matrix + v), s.sum()), y, x)
    outputs = [
        state,
        rows,
        *last,
        grad((state * state).sum() + (rows * rows).sum(), y),
        grad(last[0].sum(), matrix),
    ]
    arrays = [
        [normal(n, 4, dtype=dtype), normal(4, dtype=dtype), normal(4, 4, dtype=dtype)]
        for n in (0, 1, 5)
    ]
    return Case([x, y, matrix], outputs, arrays)


@case
def calls(dtype: str) -> Case:
    x, y = gx.symbol("x", ("n", 10), dtype), gx.symbol("y", (10,), dtype)

    def layer(a: Node, b: Node) -> Node:
        return gx.tanh(a * b) / (1 + gx.exp(a).sum(axis=1, keepdims=True))

    deep = x
    for _ in range(3):
        deep = gx.call(layer, deep, y)
    outputs = [deep, grad(deep.sum(), x), gx.call(lambda a: gx.call(layer, a[:2], y).max(), x)]
    return Case(
        [x, y], outputs, [[normal(n, 10, dtype=dtype), normal(10, dtype=dtype)] for n in (2, 9)]
    )


@case
def integers(dtype: str) -> Case:
    """Sums, products and contractions of integers wrap; counts of comparisons."""
    i, x = gx.symbol("i", (6, 9), "int64"), gx.symbol("x", (6, 9), dtype)
    outputs = [
        i.sum(),
        gx.prod(i, axis=1),
        i @ i.T,
        i.max(axis=0),
        (x > 0).sum(axis=1),
        i * 3 - i,
        gx.absolute(i),
        i**2,
    ]
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
    np.testing.assert_allclose(
        got, want, rtol=tolerance, atol=tolerance * largest + tiny, err_msg=what
    )


# -- NVIDIA's compiler -----------------------------------------------------------------------------


BOTH_DTYPES = ("elementwise-float64", "products-float64")


def check_with_nvrtc(names: Sequence[str], arch: str) -> None:
    kernels = {kernel.name: kernel for name in names for kernel in made(name).program.kernels}
    compiled = nvrtc.compile(translation_unit(kernels.values(), "all"), arch)
    assert set(compiled.usage) == set(kernels)
    for name, usage in compiled.usage.items():
        # The compiler drops what a product over nothing does not need, and packs small arrays.
        assert usage.shared_bytes <= kernels[name].shared_bytes, name
        assert usage.spill_stores == usage.spill_loads == 0, name


@nvrtc.required
@pytest.mark.parametrize("part", range(len(nvrtc.ARCHITECTURES)))
def test_nvrtc_accepts_every_kernel(part: int) -> None:
    """Every graph on one of the architectures, most in one float dtype; the slow test does all."""
    names = [name for name in CASES if "float64" not in name or name in BOTH_DTYPES]
    count = len(nvrtc.ARCHITECTURES)
    check_with_nvrtc(names[part::count], nvrtc.ARCHITECTURES[part])


@pytest.mark.slow
@nvrtc.required
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("part", range(4))
def test_nvrtc_accepts_every_kernel_for_every_architecture(arch: str, part: int) -> None:
    check_with_nvrtc(list(CASES)[part::4], arch)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asan", "tsan"])
@pytest.mark.parametrize(
    "name",
    ["reductions", "conversions", "normalised_rows", "large", "scans", "products", "gathers"],
)
def test_sanitizers_find_nothing(name: str, mode: str) -> None:
    graph = made(f"{name}-float32")
    module = cuda_host.compile_programs([graph.program], mode)
    arrays = graph.arrays[-1]
    sizes = cuda_host.sizes_of(graph.program, arrays)
    outcome = cuda_host.run(graph.program, arrays, sizes, module=module, apart=True)
    plain = cuda_host.run(graph.program, arrays, sizes, module=graph.module)
    for one, other in zip(outcome.outputs, plain.outputs, strict=True):
        assert one.tobytes() == other.tobytes()


# -- opcodes ---------------------------------------------------------------------------------------


def launch_of_kernel(kernel: Kernel, storages: Sequence[Storage], tasks: Any = 1) -> Program:
    """A program with one launch, of a kernel made by hand."""
    verify(kernel)
    launch = Launch(kernel, [Operand(storage) for storage in storages], tasks, 1)
    inputs = [storage for storage in storages if storage.kind == "input"]
    outputs = [storage for storage in storages if storage.kind == "output"]
    arena = sum(s.bytes * WORKERS + 64 * WORKERS for s in storages if s.kind == "worker")
    return Program(Procedure("main", inputs, outputs, (), [launch], arena), [], [])


def program_of_kernel(kernel: Kernel, storages: Sequence[Storage], tasks: Any = 1) -> Any:
    """The same as CUDA C++."""
    return cuda_source(launch_of_kernel(kernel, storages, tasks), workers=WORKERS)


def program_of_procedures(
    procedures: Sequence[tuple[Callable[..., Any], str]], dtypes: Sequence[str], count: int
) -> Any:
    """The CUDA program of one kernel that applies procedures over scalar instructions."""
    return cuda_source(launch_of_procedures(procedures, dtypes, count), workers=WORKERS)


def launch_of_procedures(
    procedures: Sequence[tuple[Callable[..., Any], str]], dtypes: Sequence[str], count: int
) -> Program:
    """One kernel that applies procedures over scalar instructions, with their results' dtypes."""
    kernel = Kernel([], Scope(), "opcodes")
    storages = [
        Storage("input", np.dtype(dtype), (count,), position=i) for i, dtype in enumerate(dtypes)
    ]
    for i, (_, dtype) in enumerate(procedures):
        storages.append(Storage("output", np.dtype(dtype), (count,), position=len(dtypes) + i))
    kernel.buffers += [Buffer(f"b{i}", s.dtype.name, s.shape) for i, s in enumerate(storages)]
    with (
        kernel.body.loop("parallel", 0, 1, "p") as outer,
        outer.body.loop("vector", 0, count) as lanes,
    ):
        index = (gx.dim(lanes.variable),)
        loaded = [lanes.body.load(buffer, index) for buffer in kernel.buffers[: len(dtypes)]]
        for buffer, (procedure, _) in zip(kernel.buffers[len(dtypes) :], procedures, strict=True):
            lanes.body.store(buffer, index, procedure(lanes.body, *loaded))
    return launch_of_kernel(kernel, storages)


def results_of(
    procedures: Sequence[tuple[Callable[..., Any], str]], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    dtypes = [array.dtype.name for array in arrays]
    return cuda_host.run(program_of_procedures(procedures, dtypes, len(arrays[0])), arrays).outputs


@dataclass(frozen=True)
class Instruction:
    """One opcode on arrays, with a literal for the second operand if there is one."""

    opcode: str
    result: str
    literal: int | None = None

    def emit(self, k: Any, *operands: Any) -> Any:
        if self.opcode in ("convert", "bitcast"):
            return k.emit(self.opcode, operands[0], dtype=self.result)
        if self.literal is not None:
            operands = (operands[0], k.const(self.literal, operands[0].dtype))
        return build(self.opcode)(k, *operands)

    def numpy(self, *arrays: np.ndarray) -> np.ndarray:
        stated = (self.result,) if self.opcode in ("convert", "bitcast") else ()
        if self.literal is not None:
            arrays = (arrays[0], np.full_like(arrays[0], self.literal))
        with np.errstate(all="ignore"):
            return np.asarray(OPCODES[self.opcode].numpy(*arrays, *stated))


def instructions(dtype: str, arity: int) -> list[Instruction]:
    """What there is to be done with `arity` operands of a dtype."""
    found = []
    for name in opcodes_over(dtype):
        opcode = OPCODES[name]
        result = "bool" if opcode.result == "bool" else dtype
        if opcode.arity == arity:
            found.append(Instruction(name, result))
            literals = (0, 1, 3, -1) if arity == 2 and dtype != "bool" else ()
            usable = [each for each in literals if each >= 0 or not dtype.startswith("u")]
            found += [Instruction(name, result, each) for each in usable]
    if arity == 1:
        others = [to for to in NUMPY_DTYPES if to != dtype]
        found += [Instruction("convert", to) for to in others]
        same_width = [to for to in others if BITS[to] == BITS[dtype] and "bool" not in (to, dtype)]
        found += [Instruction("bitcast", to) for to in same_width]
    return found


def operands_for(dtype: str, arity: int) -> list[np.ndarray]:
    arrays = samples(dtype, arity)
    if (dtype, arity) != ("float64", 1):
        return arrays
    # Halfway cases of float16, and their neighbours.
    ties = np.arange(1, 4096, 2) * 2.0**-25 + 1
    return [np.concatenate([*arrays, ties, np.nextafter(ties, 0), np.nextafter(ties, 2)])]


def program_of_instructions(dtype: str, arity: int) -> Any:
    procedures = [(each.emit, each.result) for each in instructions(dtype, arity)]
    count = len(operands_for(dtype, arity)[0])
    return program_of_procedures(procedures, [dtype] * arity, count)


INSTRUCTIONS = [
    (dtype, arity) for dtype in NUMPY_DTYPES for arity in (1, 2, 3) if instructions(dtype, arity)
]


@pytest.mark.parametrize("dtype,arity", INSTRUCTIONS)
def test_opcode_is_its_numpy_function(dtype: str, arity: int) -> None:
    arrays = operands_for(dtype, arity)
    results = cuda_host.run(program_of_instructions(dtype, arity), arrays).outputs
    for instruction, got in zip(instructions(dtype, arity), results, strict=True):
        want = instruction.numpy(*arrays)
        if instruction.opcode in ("min", "max"):
            got, want = one_zero(got), one_zero(want)
        try:
            assert_same(got, want, *arrays)
        except AssertionError as error:
            raise AssertionError(f"{instruction} of {dtype}: {error}") from None


@nvrtc.required
def test_nvrtc_accepts_every_opcode() -> None:
    programs = [program_of_instructions(dtype, arity) for dtype, arity in INSTRUCTIONS]
    kernels = [kernel for program in programs for kernel in program.kernels]
    assert len(nvrtc.compile(translation_unit(kernels), "sm_90").usage) == len(INSTRUCTIONS)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_select(dtype: str) -> None:
    a, b = samples(dtype, 2)
    condition = np.resize([True, False, False], len(a))
    procedures = [
        (lambda k, c, x, y: k.select(c, x, y), dtype),
        (lambda k, c, x, y: k.select(c, k.const(1, dtype), y), dtype),
    ]
    program = program_of_procedures(procedures, ["bool", dtype, dtype], len(a))
    plain, literal = cuda_host.run(program, [condition, a, b]).outputs
    assert_same(plain, np.where(condition, a, b), a, b)
    assert_same(literal, np.where(condition, np.ones((), dtype), b), a, b)


def test_bfloat16_by_its_bits() -> None:
    """bfloat16 is the upper half of a float32, and rounds to nearest even."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    singles = np.concatenate(
        [bits.astype(np.uint32) << 16 | low for low in (0, 0x7FFF, 0x8000, 0x8001)]
    ).view(np.float32)

    def narrow(k: Any, x: Any) -> Any:
        return k.bitcast(k.convert(x, "bfloat16"), "uint16")

    (got,) = results_of([(narrow, "uint16")], [singles])
    below, above = (singles.view(np.uint32) >> 16), (singles.view(np.uint32) >> 16) + 1
    low = singles.view(np.uint32) & 0xFFFF
    up = (low > 0x8000) | ((low == 0x8000) & (below % 2 == 1))
    want = np.where(np.isnan(singles), 0x7FC0, np.where(up, above, below)).astype(np.uint16)
    np.testing.assert_array_equal(got, want)

    def double(k: Any, x: Any) -> Any:
        value = k.bitcast(x, "bfloat16")
        return k.convert(k.add(value, value), "float32")

    (twice,) = results_of([(double, "float32")], [bits])
    exact = (bits.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(twice, exact * 2)


# -- blocks, threads and memory --------------------------------------------------------------------


def hand_made(space: str, build_body: Callable[..., None], count: int = 200) -> Any:
    """A kernel of float32 over tasks, with scratch `b0`, an input `b1` and an output `b2`."""
    scratch = Storage(space, np.dtype("float32"), (count,))
    source = Storage("input", np.dtype("float32"), (5, count), position=0)
    result = Storage("output", np.dtype("float32"), (5, count), position=1)
    buffers = [Buffer(f"b{i}", "float32", s.shape) for i, s in enumerate((scratch, source, result))]
    buffers[0].space = "worker"
    kernel = Kernel(buffers, Scope(), "scratch")
    with kernel.body.loop("parallel", 0, 5, "p") as outer:
        build_body(outer.body, gx.dim(outer.variable), *buffers, count)
    return program_of_kernel(kernel, [scratch, source, result], 5)


def through_scratch(
    scope: Any, p: Any, scratch: Buffer, source: Buffer, result: Buffer, count: int
) -> None:
    """Write scratch in one loop and read it in another, whose lanes are others."""
    with scope.loop("vector", 0, count) as first:
        i = gx.dim(first.variable)
        first.body.store(scratch, (i,), first.body.load(source, (p, i)))
    with scope.loop("vector", 1, count) as second:
        i = gx.dim(second.variable)
        second.body.store(result, (p, i), second.body.load(scratch, (i,)))
    with scope.loop("vector", 0, 1) as third:
        i = gx.dim(third.variable)
        third.body.store(result, (p, i), third.body.load(scratch, (i,)))


def test_threads_that_read_what_others_wrote_wait_for_them() -> None:
    program = hand_made("worker", through_scratch)
    values = normal(5, 200, dtype="float32")
    outcome = cuda_host.run_in_every_order(program, [values])
    np.testing.assert_array_equal(outcome.outputs[0], values)
    (kernel,) = program.kernels
    body = kernel.text.split("\n")
    barriers = [i for i, line in enumerate(body) if "__syncthreads" in line]
    assert len(barriers) == 2  # before the second loop, and the third: they write the same array
    without = [line for line in body if "__syncthreads" not in line]
    text = "\n\n".join([*kernel.helpers.values(), "\n".join(without)])
    broken = emulator.compile(text, [kernel.name])
    with pytest.raises(AssertionError):
        outcome = cuda_host.run_in_every_order(program, [values], module=broken)
        np.testing.assert_array_equal(outcome.outputs[0], values)


def test_lanes_of_equal_loops_are_the_same_threads() -> None:
    def body(
        scope: Any, p: Any, scratch: Buffer, source: Buffer, result: Buffer, count: int
    ) -> None:
        with scope.loop("vector", 0, count) as first:
            i = gx.dim(first.variable)
            first.body.store(scratch, (i,), first.body.load(source, (p, i)))
        with scope.loop("vector", 0, count) as second:
            i = gx.dim(second.variable)
            second.body.store(result, (p, i), second.body.load(scratch, (i,)))

    program = hand_made("worker", body)
    assert "__syncthreads" not in program.text
    values = normal(5, 200, dtype="float32")
    np.testing.assert_array_equal(
        cuda_host.run_in_every_order(program, [values]).outputs[0], values
    )


def test_what_the_first_thread_stores_others_may_read() -> None:
    def body(
        scope: Any, p: Any, scratch: Buffer, source: Buffer, result: Buffer, count: int
    ) -> None:
        with scope.loop("serial", 0, count) as copy:
            i = gx.dim(copy.variable)
            copy.body.store(scratch, (i,), copy.body.load(source, (p, i)))
        with scope.loop("vector", 0, count) as lanes:
            i = gx.dim(lanes.variable)
            last = lanes.body.load(scratch, (count - 1 - i,))
            lanes.body.store(result, (p, i), lanes.body.add(last, lanes.body.load(source, (p, i))))

    program = hand_made("worker", body, 40)
    values = normal(5, 40, dtype="float32")
    outcome = cuda_host.run_in_every_order(program, [values])
    np.testing.assert_array_equal(outcome.outputs[0], values + values[:, ::-1])


def test_a_barrier_in_a_loop_that_may_not_run_orders_nothing_after_it() -> None:
    def body(
        scope: Any, p: Any, scratch: Buffer, source: Buffer, result: Buffer, count: int
    ) -> None:
        def copy(outer: Any) -> None:
            """Scratch to the result, by other threads than those that wrote scratch."""
            with outer.loop("vector", 1, count) as lanes:
                i = gx.dim(lanes.variable)
                lanes.body.store(result, (p, i), lanes.body.load(scratch, (i,)))

        with scope.loop("vector", 0, count) as first:
            i = gx.dim(first.variable)
            first.body.store(scratch, (i,), first.body.load(source, (p, i)))
        with scope.loop("serial", 0, p - 4) as never:  # p is 4 at most
            copy(never.body)
        copy(scope)
        with scope.loop("vector", 0, 1) as last:
            last.body.store(result, (p, 0), last.body.load(source, (p, 0)))

    program = hand_made("worker", body)
    lines = [line.strip() for line in program.kernels[0].text.split("\n")]
    loops = [number for number, line in enumerate(lines) if "= 1 + threadIdx.x" in line]
    assert [lines[number - 1] for number in loops] == ["__syncthreads();"] * 2
    values = normal(5, 200, dtype="float32")
    outcome = cuda_host.run_in_every_order(program, [values])
    np.testing.assert_array_equal(outcome.outputs[0], values)


def test_scratch_is_one_copy_for_each_block() -> None:
    x, y = gx.symbol("x", ("m", "n"), "float32"), gx.symbol("y", (7, 50), "float32")
    program = program_of([x, y], [gx.softmax(x, axis=1), y.sum(axis=1)])
    texts = {kernel.name: kernel.text for kernel in program.kernels}
    grids = {"all_b" in texts[step.kernel]: step.grid for step in program.plan.steps}
    assert grids[True].evaluate({"m": 100, "n": 9}) == WORKERS and grids[False] == 7


def test_a_reduction_over_two_axes_ends_in_one_reduction_over_the_block() -> None:
    x = gx.symbol("x", (4, 5, 37), "float32")
    (kernel,) = program_of([x], [x.sum(axis=(1, 2))]).kernels
    loops = kernel.text.count("for (")
    calls = kernel.text.count("block_add_float32(")
    assert (loops, calls) == (1, 1)
    assert kernel.text.index("block_add_float32(") > kernel.text.rindex("for (")


def test_what_is_rarely_needed_is_behind_a_branch() -> None:
    x = gx.symbol("x", ("n",), "float64")
    (kernel,) = program_of([x], [gx.sin(x)]).kernels
    before, inside = re.split(r"\n\s+if \(v\d+\) \{\n", kernel.text)
    assert "__umul64hi" in inside.split("}")[0] and "__umul64hi" not in before


def test_a_large_vector_is_shared_out_to_blocks() -> None:
    x = gx.symbol("x", ("n",), "float32")
    program = program_of([x], [x * 2])
    (step,) = program.plan.steps
    assert step.grid.evaluate({"n": 1 << 20}) == 1024
    values = normal(5000, dtype="float32")
    np.testing.assert_array_equal(
        cuda_host.run_in_every_order(program, [values]).outputs[0], values * 2
    )


def test_the_grid_is_limited_and_tasks_take_turns() -> None:
    x = gx.symbol("x", ("n", "m"), "float32")
    program = program_of([x], [gx.softmax(x, axis=1)])
    (step,) = program.plan.steps
    assert step.grid.evaluate({"n": 10**7, "m": 3}) <= 1 << 16
    assert step.grid.evaluate({"n": 0, "m": 3}) == 0


# -- failures --------------------------------------------------------------------------------------


def test_a_failing_check_is_recorded() -> None:
    x = gx.symbol("x", ("n",), "float64")
    y = gx.symbol("y", ("n",), "float64")
    program = program_of(
        [x, y], [gx.check(x * 2, x < 9.0, "small") + gx.check(y, y > 0, "positive")]
    )
    values = np.arange(8.0)
    assert cuda_host.run_in_every_order(program, [values, values + 1]).failure == (0, 0, 0)
    sizes = {"n": 8}
    code, node, index = cuda_host.run(program, [values * 1.5, values + 1], sizes).failure
    assert (code, index) == (3, 6) and program.checks[node].node.attrs["message"] == "small"
    code, node, index = cuda_host.run(program, [values, values], sizes).failure
    assert (code, index) == (3, 0) and program.checks[node].node.attrs["message"] == "positive"
    assert [step.can_fail for step in program.plan.steps].count(True) == 1  # both in one launch


@pytest.mark.parametrize("position", [12, -13, 2**62, -(2**63)])
def test_an_index_out_of_range_is_recorded_and_touches_nothing(position: int) -> None:
    x, i = gx.symbol("x", (12, 5), "float32"), gx.symbol("i", (7,), "int64")
    program = program_of([x, i], [x[i] * 2, grad((x[i] ** 2).sum(), x)])
    positions = np.array([3, -1, 0, position, 5, 4, 2])
    outcome = cuda_host.run_in_every_order(program, [normal(12, 5, dtype="float32"), positions])
    assert (outcome.failure[0], outcome.failure[2]) == (1, position)


# -- text and plan ---------------------------------------------------------------------------------


def test_names_do_not_depend_on_where_or_when_a_graph_is_written() -> None:
    def write() -> Any:
        x = gx.symbol("x", ("n", 8), "float32")
        return program_of([x], [gx.softmax(x, axis=1), x.sum()])

    here = write()
    there = write()
    assert here.code == there.code
    assert [kernel.name for kernel in here.kernels] == [kernel.name for kernel in there.kernels]
    assert all(re.fullmatch(r"[a-z_]+_[0-9a-f]{10}", kernel.name) for kernel in here.kernels)
    assert "test_cuda.py:" in here.text and "test_cuda.py:" not in here.code


_NAMES = """
import graphc as gx
from graphc.codegen.cuda.program import cuda_source, lower_for_cuda
from graphc.codegen.lower import expand
from graphc.graph import close
x = gx.symbol("x", ("n", "m"), "float32")
y = gx.symbol("y", ("m",), "float32")
heavy = gx.exp(x * y) + gx.sin(x)
graph, _ = close([x, y], [heavy / heavy.sum(axis=1, keepdims=True), gx.grad(heavy.sum(), y)])
print(cuda_source(lower_for_cuda(expand(graph))).code)
"""


def test_the_text_is_the_same_in_every_process() -> None:
    path = ":".join(filter(None, sys.path))
    texts = {
        subprocess.run(
            [sys.executable, "-c", _NAMES],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1 and "__global__" in texts.pop()


def test_equal_kernels_are_printed_once() -> None:
    x = gx.symbol("x", (6, 6), "float32")
    program = program_of([x], [gx.softmax(gx.softmax(x.T, axis=1).T, axis=1)])
    assert len(program.kernels) == 1 and len(program.plan.steps) == 2
    assert program.text.count("__global__") == 1


def test_only_what_is_written_is_not_restricted() -> None:
    x, y = gx.symbol("x", (4, 30), "float32"), gx.symbol("y", (30,), "float32")
    (kernel,) = program_of([x, y], [x + y]).kernels
    types = {parameter.name: parameter.type for parameter in kernel.parameters}
    assert types == {
        "b0": "const float* __restrict__",
        "b1": "const float* __restrict__",
        "b2": "float*",
    }


def test_a_result_may_take_the_place_of_an_operand() -> None:
    """All threads read what one writes over: not from the read-only cache, and before it does."""
    count, float32 = 40, np.dtype("float32")
    source = Storage("input", float32, (count,), position=0)
    result = Storage("output", float32, (count,), position=1)
    old, new = (Storage("temporary", float32, (count,), offset=64) for _ in range(2))
    kernel = Kernel([Buffer(f"b{i}", "float32", (count,)) for i in range(2)], Scope(), "in_place")
    with kernel.body.loop("parallel", 0, count, "p") as outer:
        p = gx.dim(outer.variable)
        value = outer.body.load(kernel.buffers[0], (p,))
        with outer.body.loop("vector", 0, 1) as lanes:
            lanes.body.store(kernel.buffers[1], (p,), lanes.body.mul(value, 2))
    verify(kernel)
    body = copy_operand(Operand(source), Operand(old), (count,))
    body.append(Launch(kernel, [Operand(old), Operand(new)], count, 1))
    body += copy_operand(Operand(new), Operand(result), (count,))
    main = Procedure("main", [source], [result], (), body, 64 + aligned(4 * count))
    program = cuda_source(Program(main, [], []))
    values = normal(count, dtype="float32")
    outcome = cuda_host.run_in_every_order(program, [values])
    np.testing.assert_array_equal(outcome.outputs[0], values * 2)
    (printed,) = (each for each in program.kernels if each.name.startswith("in_place"))
    assert [parameter.type for parameter in printed.parameters] == ["const float*", "float*"]
    assert printed.text.count("__syncthreads();") == 1


def test_no_name_of_a_dimension_gets_in_the_way() -> None:
    names = ("int", "tasks", "q1", "v1", "b0", "größe", "λ")
    x, *rest = (gx.symbol(f"x{i}", (name,), "float32") for i, name in enumerate(names))
    program = program_of([x, *rest], [x.sum() * 2, *(each + each.shape[0] for each in rest)])
    arrays = [normal(3 + i, dtype="float32") for i in range(len(names))]
    outcome = cuda_host.run_in_every_order(program, arrays)
    for got, array in zip(outcome.outputs[1:], arrays[1:], strict=True):
        np.testing.assert_allclose(got, array + array.size, rtol=1e-6)
    if nvrtc.reason_missing() is None:
        nvrtc.compile(program.text, "sm_90")


def test_a_plan_can_be_read() -> None:
    x, y = gx.symbol("x", ("n", 10), "float64"), gx.symbol("y", (10,), "float64")

    def step(state: Node, row: Node) -> tuple[Node, Node]:
        return gx.call(lambda a: gx.tanh(a * y), state + row), state

    program = program_of([x, y], [gx.scan(step, y, x, reverse=True)[0]])
    plan = program.launch_plan_text()
    first, *lines = plan.splitlines()
    types = "input 0: float64[n, 10], input 1: float64[10], output 0: float64[10]"
    assert first == f"main({types}), arena of {program.arena_bytes} bytes:"
    assert "    for t1 in range(n) reversed:" in lines
    assert re.search(r"^        call (\w+)\(.*; arena", plan, re.MULTILINE)
    assert re.search(r"<<<\d, \d+>>>\(.*input 0 \+ 80\*t1", plan)
    (loop,) = (each for each in program.plan.steps if isinstance(each, LoopStep))
    assert loop.reverse and str(program) == program.text


def test_what_the_user_wrote_is_rewritten_as_for_the_cpu() -> None:
    """The program that `gx.emit` gives runs, and says no."""
    x = gx.symbol("x", ("n", 6), "float64")
    call = cuda_host.compile_for_emulator(
        [x], [gx.log(gx.exp(x).sum(axis=1)), gx.check(x, x < 50, "range")], gx.Options()
    )
    values = normal(5, 6)
    first, second = call(values)
    np.testing.assert_allclose(first, np.log(np.exp(values).sum(axis=1)), rtol=1e-13)
    np.testing.assert_array_equal(second, values)
    with pytest.raises(ValueError, match="range"):
        call(values * 1000)
