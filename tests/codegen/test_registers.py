"""What lies in registers, and what in memory, where there are few registers?"""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.lanes import choose_lanes
from graphc.codegen.llvm.kernel import kernel_module, routine_module
from graphc.codegen.llvm.sums import in_registers
from graphc.codegen.machine import Machine
from graphc.codegen.rare import used_values
from graphc.codegen.routines import routine
from graphc.codegen.scalar import Accumulate, For, Value, walk

OPTIONS = gx.Options(threads=1, cache=False)


def texts(given: list[gx.Node], made: gx.Node | list[gx.Node], name: str) -> list[str]:
    """The LLVM text of every kernel, for a named processor."""
    program = gx.compile(given, made, options=OPTIONS)._impl.program  # type: ignore[attr-defined]
    machine = Machine.preset(name)
    return [kernel_module(kernel, machine, "kernel").text for kernel in program.kernels()]


def softmax() -> tuple[list[gx.Node], list[gx.Node]]:
    x, seed = (gx.symbol(name, (4, 100), "float32") for name in ("x", "seed"))
    y = gx.softmax(x, axis=1)
    return [x, seed], [y, *gx.vjp(y, [x], seed)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constants_of_a_long_loop_lie_in_memory(dtype: str) -> None:
    x = gx.symbol("x", (1000,), dtype)
    (text,) = texts([x], gx.gelu(x), "avx2")
    variables = re.findall(r"^@(\S+) = private global <(\d+) x \w+> splat", text, re.MULTILINE)
    assert len(variables) > 16
    assert {int(count) for _, count in variables} == {32 // np.dtype(dtype).itemsize}
    for symbol, _ in variables:
        assert f"ptr @{symbol}, align 32, !invariant.load !0" in text
    for other in ("avx512", "sse2", "neon"):
        assert "private global" not in texts([x], gx.gelu(x), other)[0]


def test_few_constants_stay_in_registers() -> None:
    x = gx.symbol("x", (1000,))
    (text,) = texts([x], 1.5 + x * (2.5 + x * (3.5 + x)), "avx2")
    assert "private global" not in text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [gx.gelu, gx.tanh, gx.softplus, gx.gammaln, gx.arctan])
def test_constants_in_memory_are_those_of_the_function(function, dtype: str) -> None:
    """In whole vectors, a vector and a rest, and beside arrays of any strides."""
    x = gx.symbol("x", ("n",), dtype)
    compiled = gx.compile(x, function(x), options=OPTIONS)
    array = np.linspace(-6, 6, 203).astype(dtype)
    bound = 8 * np.finfo(dtype).eps
    for given in (array, array[:5], array[::3]):
        wanted = gx.evaluate(function(x), {x: given})
        np.testing.assert_allclose(compiled(given), wanted, rtol=bound, atol=bound)


def test_conditions_of_a_row_are_compared_in_lanes() -> None:
    """Vectors of bits that cross blocks are bytes, which each use takes apart."""
    given, made = softmax()
    spread = re.compile(r"shufflevector <\d+ x i1> .*, <\d+ x i32> zeroinitializer")
    for name, expected in (("avx2", False), ("sse2", False), ("neon", False), ("avx512", True)):
        assert any(spread.search(text) for text in texts(given, made, name)) == expected


def test_a_condition_of_a_row_with_infinities_and_zeros() -> None:
    given, made = softmax()
    compiled = gx.compile(given, made, options=OPTIONS)
    random = np.random.default_rng(4)
    x, seed = (random.normal(size=(4, 100)).astype("f4") for _ in range(2))
    x[1, 3], x[2, :] = np.inf, -np.inf
    seed[0, :], seed[2, :50] = 0.0, 0.0
    values = gx.evaluate(made, dict(zip(given, (x, seed), strict=True)))
    for mine, wanted in zip(compiled(x, seed), values, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)


def test_vectors_that_are_put_aside_lie_in_one_line_of_the_cache() -> None:
    x = gx.symbol("x", (1000,))
    for name, size in (("avx2", 32), ("avx512", 64)):
        assert f" alignstack({size}) {{" in texts([x], gx.tanh(x), name)[0]
        assert "alignstack" not in texts([x], x + 1.0, name)[0]


def test_vectors_that_routines_put_aside_lie_in_one_line_of_the_cache() -> None:
    tanh = routine("tanh", ("float64",))
    assert tanh is not None
    for name, size in (("avx2", 32), ("avx512", 64)):
        machine = Machine.preset(name)
        vectors = routine_module(tanh, 8, machine, "tanh8")
        assert f"@tanh8(<8 x double> %x0) nounwind alignstack({size}) {{" in vectors
        assert "alignstack" not in routine_module(tanh, 1, machine, "tanh1")


def distances(columns: int) -> tuple[list[gx.Node], gx.Node]:
    """Squares of rows of a product, added up where they are made: a sum for each column."""
    x, means = gx.symbol("x", (100, 7)), gx.symbol("means", (3, 7))
    factors = gx.symbol("factors", (3, 7, columns))
    centred = gx.expand_dims(x, 0) - gx.expand_dims(means, 1)
    return [x, means, factors], gx.sum(gx.square(centred @ factors), axis=2)


def loops_of_sums(columns: int) -> list[tuple[For, int]]:
    """The loops that add the products up, with the lanes around them on AVX2."""
    given, made = distances(columns)
    program = gx.compile(given, made, options=OPTIONS)._impl.program  # type: ignore[attr-defined]
    return [
        (inner, choose_lanes(lanes, 32))
        for kernel in program.kernels()
        for lanes in walk(kernel.body)
        if isinstance(lanes, For) and lanes.role == "vector"
        for inner in lanes.body.statements
        if isinstance(inner, For) and inner.accumulators
    ]


@pytest.mark.parametrize("columns", [2, 5, 13, 20, 25])
def test_as_many_sums_at_once_as_there_are_registers_for(columns: int) -> None:
    machine = Machine.preset("avx2")
    for loop, lanes in loops_of_sums(columns):
        parts = in_registers(loop, lanes, machine)
        vectors = max(1, lanes // 4)
        assert all(len(part.accumulators) * vectors <= 16 for part in parts)
        assert [a for part in parts for a in part.accumulators] == loop.accumulators
        for part in parts:
            own = {id(s) for s in part.body.statements}
            inside = {id(s) for s in loop.body.statements}
            for statement in part.body.statements:
                assert all(id(v) in own for v in used_values(statement) if id(v) in inside)
                if isinstance(statement, Accumulate):
                    assert statement.accumulator in part.accumulators
    parted = [len(in_registers(*each, machine)) > 1 for each in loops_of_sums(columns)]
    assert any(parted) == (columns >= 13)


@pytest.mark.parametrize("columns", [5, 13, 20, 25])
def test_sums_in_parts_are_right(columns: int) -> None:
    given, made = distances(columns)
    random = np.random.default_rng(5)
    arrays = [random.normal(size=each.shape) for each in given]
    found = gx.compile(given, made, options=OPTIONS)(*arrays)
    wanted = gx.evaluate(made, dict(zip(given, arrays, strict=True)))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_factor_is_used_by_what_adds_its_products() -> None:
    loops = [loop for loop, _ in loops_of_sums(13)]
    sums = [s for loop in loops for s in loop.body.statements if isinstance(s, Accumulate)]
    factors = [s.factor for s in sums if isinstance(s.factor, Value)]
    assert factors and all(s.factor in used_values(s) for s in sums if s.factor is not None)
