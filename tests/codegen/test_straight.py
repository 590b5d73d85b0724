"""Does arithmetic that is written straight, for LLVM's level 0, compute what the evaluator does?

There the printer decides which values are in registers: the programs need many more at a time than
any processor has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

import graphc as gx
from graphc.codegen import segments, tactics
from graphc.codegen.llvm.kernel import kernel_module
from graphc.codegen.lower import expand, lower
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program
from graphc.codegen.scalar import For, count_statements, loops_in, walk
from graphc.graph import Graph, close

FRESH = gx.Options(cache=False, threads=1)
MANY = 90  # values that are needed again after all have been made


@pytest.fixture(params=[10_000, 225], ids=["one segment", "several"], autouse=True)
def long_kernels(request: Any) -> Iterator[None]:
    with (
        mock.patch.object(segments, "LONG_SEGMENT", request.param),
        mock.patch.object(segments, "WHOLE", 100),
        mock.patch.object(tactics, "NATIVE", replace(tactics.NATIVE, most_work=50, straight=16)),
    ):
        yield


def arithmetic(x: gx.Node) -> list[gx.Node]:
    """Sums, products, quotients, roots and opposites of many values that wait, with numbers."""
    made = [x + 0.25, x * 1.5]
    for k in range(MANY):
        a, b = made[-1], made[-1 - k % 7 % len(made)]
        made.append([a - b * 0.5, -(a + 2.0), a * 0.75 + b * x, a / (b * b + 3.0)][k % 4])
    y = gx.sqrt(made[5] * made[5] + 1.0)
    for each in reversed(made):
        y = y * 0.5 + each * each - gx.abs(each)
    return [made[3], y, *made[10:20], -y]


def functions(x: gx.Node) -> list[gx.Node]:
    """The same around calls of routines, across which nothing stays in registers."""
    made = [gx.sin(x * k) for k in range(1, 12)]
    y = made[0]
    for k in range(MANY):
        y = y * made[k % 11] - gx.cos(y * 0.125) * made[k * 3 % 11]
        made.append(y)
    return [y, made[20] + made[30], sum(made[1:], made[0])]


def lowered(x: gx.Node, made: Sequence[gx.Node]) -> Program:
    graph, _ = close([x], made)
    return lower(expand(Graph(graph.parameters, graph.outputs)), tactics=tactics.NATIVE)


def is_straight(x: gx.Node, made: Sequence[gx.Node], machine: Machine) -> bool:
    kernels = lowered(x, made).kernels()
    long = [k for k in kernels if any(isinstance(s, For) and s.segment for s in walk(k.body))]
    return bool(long) and all(kernel_module(k, machine, "kernel").straight for k in long)


def together(x: gx.Node, f: Any = gx.sin, g: Any = gx.cos) -> list[gx.Node]:
    """Sines and cosines of the same angles, either first, some of them by themselves; or others."""
    angles = [x * k - 1.0 for k in range(1, 12)]
    turned = [(f(a), g(a)) if k % 2 else (g(a), f(a)) for k, a in enumerate(angles)]
    y = f(x) + g(x * 0.5)
    for k in range(MANY):
        first, second = turned[k % 11]
        y = y * first - second * angles[k * 3 % 11]
    return [y, *(part for pair in turned for part in pair)]


def given(shape: tuple[int, ...], dtype: str = "float64") -> Any:
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (29,), (3, 5), (130,), (160,), (0,)])
def test_the_bits_are_those_of_the_evaluator(shape: tuple[int, ...], dtype: str) -> None:
    x = gx.symbol("x", shape, dtype)
    made, array = arithmetic(x), given(shape, dtype)
    found = gx.compile([x], made, options=FRESH)(array)
    for mine, wanted in zip(found, gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), wanted)


@pytest.mark.parametrize("shape", [(), (29,), (130,)])
def test_calls_between_arithmetic(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape)
    made, array = functions(x), given(shape)
    found = gx.compile([x], made, options=FRESH)(array)
    for mine, wanted in zip(found, gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(), (29,), (136,)])
def test_sines_and_cosines_of_one_angle_are_made_together(
    shape: tuple[int, ...], dtype: str
) -> None:
    x = gx.symbol("x", shape, dtype)
    made, array = together(x), given(shape, dtype) * 3
    if shape:
        array[:6] = [0.0, -0.0, np.inf, np.nan, 1e30, -3e9]
    f = gx.compile([x], made, options=FRESH)
    for mine, wanted in zip(f(array), gx.evaluate(made, {x: array}), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4 if dtype == "float32" else 1e-10)
    alone = gx.compile([x], made[1:], options=FRESH)  # copied, or called by itself
    for mine, wanted in zip(f(array)[1:], alone(array), strict=True):
        np.testing.assert_array_equal(mine, wanted)
        np.testing.assert_array_equal(np.signbit(mine), np.signbit(wanted))


@pytest.mark.parametrize("pair", [(gx.softplus, gx.sigmoid), (gx.sinh, gx.cosh)])
@pytest.mark.parametrize("shape", [(), (29,)])
def test_functions_that_share_instructions_are_made_together(
    pair: tuple[Any, Any], shape: tuple[int, ...]
) -> None:
    x = gx.symbol("x", shape)
    made, array = together(x, *pair), given(shape) * 0.3
    if shape:
        array[:6] = [0.0, -0.0, np.inf, np.nan, -np.inf, -75.0]
    f = gx.compile([x], made, options=FRESH)
    alone = gx.compile([x], made[1:], options=FRESH)
    for mine, wanted in zip(f(array)[1:], alone(array), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_one_routine_answers_two_calls() -> None:
    x = gx.symbol("x", ())
    for kernel in lowered(x, together(x)).kernels():
        text = kernel_module(kernel, Machine.preset("avx2"), "kernel").text
        if segments.LONG_SEGMENT > 1000:
            assert text.count("@graphc_sin_float64_cos_x1(double %") == 11
            assert text.count("@graphc_sin_float64_x1(double %") == 1
            assert text.count("@graphc_cos_float64_x1(double %") == 1
    made = together(x, gx.sinh, gx.cosh)
    texts = [kernel_module(k, Machine.preset("avx2"), "k").text for k in lowered(x, made).kernels()]
    if segments.LONG_SEGMENT > 1000:
        names = "sinh_float64_cosh", "cosh_float64_sinh"
        assert sum(t.count(f"@graphc_{n}_x1(double %") for t in texts for n in names) == 11


@pytest.mark.parametrize("name", ["sse2", "avx2", "avx512"])
def test_each_line_of_a_later_tile_is_asked_for_once(name: str) -> None:
    x = gx.symbol("x", (40, 4096))
    y, made = x[0], []
    for k in range(40):
        y = y * x[k] + x[k * 7 % 40] * 0.5
        made += [y, y * 0.25 + x[k], y - 0.75 * x[k]]
    machine = Machine.preset(name)
    for kernel in lowered(x, made).kernels():
        text = kernel_module(kernel, machine, "kernel").text
        stores = len(re.findall(r"store <\d+ x double> %\w+, ptr %\w+, align 8", text))
        asked = text.count("call void @llvm.prefetch")
        if segments.LONG_SEGMENT > 1000:
            assert asked and asked * 64 == stores * machine.vector_bytes


@pytest.mark.parametrize("shape", [(), (200,)])
def test_these_are_written_straight(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape)
    machine = Machine.preset("avx512")
    # Loops over parts of few statements take several vectors at a time.
    fills_loops = not shape or segments.LONG_SEGMENT > 1000
    assert is_straight(x, arithmetic(x), machine)
    assert is_straight(x, functions(x), machine) == fills_loops
    assert not is_straight(x, [*arithmetic(x), gx.where(x > 0, x, 1.0)], machine)
    assert not is_straight(x, arithmetic(x), Machine.preset("neon"))


def test_extents_known_at_the_call() -> None:
    x = gx.symbol("x", ("n",))
    made = arithmetic(x)
    f = gx.compile([x], made, options=FRESH.replace(threads=2))
    for count in (0, 1, 8, 64, 5_000):
        array = given((count,))
        for mine, wanted in zip(f(array), gx.evaluate(made, {x: array}), strict=True):
            np.testing.assert_array_equal(mine, wanted)
    strided = given((133, 3))[:, 1]
    np.testing.assert_array_equal(f(strided)[1], f(strided.copy())[1])


def test_rows_of_one_array_and_parts_of_another() -> None:
    x = gx.symbol("x", (9, 70))
    rows = [x[i] for i in range(9)]
    y = rows[0]
    made = []
    for k in range(60):
        y = y * rows[k % 9] + rows[k * 5 % 9] * 0.5
        made.append(y)
    joined = [gx.stack([*made, rows[3]]), gx.stack(made[::-1])]
    array = given((9, 70)) * 0.5
    found = gx.compile([x], joined, options=FRESH)(array)
    for mine, wanted in zip(found, gx.evaluate(joined, {x: array}), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_rows_at_an_index_of_the_task() -> None:
    x, w = gx.symbol("x", (6, 136)), gx.symbol("w", (136,))
    made = [each * w - w for each in arithmetic(x)]
    f = gx.compile([x, w], made, options=FRESH)
    arrays = given((6, 136)), given((136,)) + 0.5
    wanted = gx.evaluate(made, dict(zip((x, w), arrays, strict=True)))
    for mine, expected in zip(f(*arrays), wanted, strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("shape", [(), (37,)])
def test_a_donated_argument_is_read_before_it_is_overwritten(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape)
    made = [x + 1.0, *arithmetic(x), *(each * x for each in arithmetic(x * 0.5))]
    f = gx.compile([x], made, options=FRESH, donate={x: 0})
    array = np.array(given(shape))
    wanted = gx.evaluate(made, {x: array.copy()})
    for mine, expected in zip(f(array), wanted, strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("name", ["sse2", "avx2", "avx512"])
def test_processors_with_fewer_registers(name: str) -> None:
    """What LLVM makes of the text for each holds few loads and stores of its own."""
    from graphc.runtime.engine import engine

    x = gx.symbol("x", (200,))
    machine = Machine.preset(name)
    for kernel in lowered(x, arithmetic(x)).kernels():
        made = kernel_module(kernel, machine, "kernel")
        if made.straight:
            assembly = engine().assembly(made.text, opt_level=0, passes="none", machine=machine)
            spills = sum("spill" in line.lower() for line in assembly.splitlines())
            lines = sum(line.startswith("\tv") or "pd" in line for line in assembly.splitlines())
            assert spills < 0.1 * lines


def test_the_text_does_not_depend_on_where_objects_lie() -> None:
    """Both operands of a product are needed next at the same time: either may be put aside."""
    x = gx.symbol("x", (1000,))
    made = [x * k + 1.0 for k in range(1, 2 * MANY)]
    y = x
    for a, b in zip(made, reversed(made), strict=True):
        y = y + a * b
    texts, held = set(), []
    for _ in range(8):  # each finds memory in another order, between what is left of others
        with mock.patch.object(segments, "LONG_SEGMENT", 10_000):
            kernels = lowered(x, [y]).kernels()
        written = [kernel_module(k, Machine.preset("avx2"), "kernel") for k in kernels]
        texts.add("".join(each.text for each in written))
        held.append([value for k in kernels for value in walk(k.body)][:: len(held) + 2])
    assert "%aside" in next(iter(texts))
    assert len(texts) == 1


def segment_texts(made: Sequence[gx.Node], x: gx.Node) -> list[str]:
    """The functions of straight segments, as they are printed for the machine at hand."""
    kernels = lowered(x, made).kernels()
    texts = [kernel_module(kernel, Machine.host(), "kernel").text for kernel in kernels]
    return [part for text in texts for part in text.split("define ") if "@segment" in part[:40]]


@pytest.mark.parametrize("shape", [(), (1000,)])
def test_an_address_is_written_once(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape)
    found = segment_texts(arithmetic(x), x)
    addresses = [re.findall(r"= (getelementptr i8, ptr %aside, .*)", text) for text in found]
    assert any(addresses) and all(len(each) == len(set(each)) for each in addresses)


@pytest.mark.parametrize("shape", [(), (1000,)])
def test_the_text_does_not_depend_on_where_values_lie(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape)
    texts = []
    kept = []  # so that each lowering finds other gaps in memory
    for k in range(4):
        texts.append(segment_texts(arithmetic(x), x))
        kept.append([bytearray(64 + 16 * (i * k % 7)) for i in range(2000)][:: k + 2])
    assert texts[0] and all(text == texts[0] for text in texts)


@pytest.mark.parametrize("shape", [(), (1000,)])
def test_loops_are_found_without_looking_into_segments(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape)
    for kernel in lowered(x, arithmetic(x)).kernels():
        every = list(walk(kernel.body))
        loops = [statement for statement in every if isinstance(statement, For)]
        assert list(map(id, loops_in(kernel.body))) == list(map(id, loops))
        assert count_statements(kernel.body) == len(every)
