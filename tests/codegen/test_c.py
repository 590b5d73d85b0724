"""Does C text compile without a warning, and compute the bits of native code?

The graphs are those of the CUDA tests. Every program is compiled by gcc with all warnings as
errors, linked without a library of mathematics, and called through ctypes; one build uses nothing
of the processor but what every processor has. The sanitizers look at a program of its own.
"""

from __future__ import annotations

import ctypes
import functools
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import c_host
import numpy as np
import pytest
from test_cuda import (
    CASES,
    INSTRUCTIONS,
    assert_close,
    instructions,
    launch_of_procedures,
    made,
    normal,
    operands_for,
)
from test_scalar import assert_same, one_zero, same_bits, samples

import graphc as gx
from graphc.codegen import softfloat
from graphc.codegen.c.interface import Signature
from graphc.codegen.c.program import CSource, c_source
from graphc.codegen.extents import Layout, Slots
from graphc.codegen.machine import Machine
from graphc.codegen.program import Program
from graphc.node import Node

pytestmark = c_host.required

OPTIONS = gx.Options(threads=1, cache=False)
PORTABLE = (*c_host.STRICT, "-O1", "-DGRAPHC_PORTABLE")
GRAPHS = list(CASES)
# Sums of products are added up in order here, and in blocks by native code.
BLOCKED = ("products-float32", "products-float64")
# In the quick tests each graph has one dtype.
QUICK = GRAPHS[:4:3] + GRAPHS[4::4] + GRAPHS[7::4]


def emitted(
    inputs: Sequence[Node], outputs: Sequence[Node], name: str = "graph", **more: Any
) -> CSource:
    return gx.emit(list(inputs), list(outputs), target="c", name=name, options=OPTIONS, **more)


def identifier(name: str) -> str:
    return name.replace("-", "_")


@functools.cache
def source(name: str) -> CSource:
    graph = made(name)
    flags = graph.strided or (False,) * len(graph.inputs)
    strided = [node for node, flag in zip(graph.inputs, flags, strict=True) if flag]
    return emitted(graph.inputs, graph.outputs, identifier(name), strided=strided)


@functools.cache
def quick_library() -> c_host.Library:
    return c_host.Library([source(name) for name in QUICK])


def check_bits(name: str, library: c_host.Library) -> None:
    """The bits of native code, or the evaluator's values where the order of sums is another."""
    graph = made(name)
    native = gx.compile(list(graph.inputs), list(graph.outputs), options=OPTIONS)
    for arrays in graph.arrays:
        outcome = library.run(identifier(name), arrays)
        assert outcome.status == (0, 0, 0, 0) and outcome.message == "no failure"
        if name in BLOCKED:
            values = dict(zip(graph.inputs, arrays, strict=True))
            wanted = gx.evaluate(list(graph.outputs), values)
            for got, want in zip(outcome.outputs, wanted, strict=True):
                assert_close(got, np.asarray(want), graph.ulps, name)
            continue
        wanted = native(*arrays)
        wanted = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
        for number, (got, want) in enumerate(zip(outcome.outputs, wanted, strict=True)):
            want = np.asarray(want)
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            assert same_bits(got, want).all(), f"output {number} of {name}"


@pytest.mark.parametrize("name", QUICK)
def test_results_have_the_bits_of_native_code(name: str) -> None:
    check_bits(name, quick_library())


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("-O3", "-march=native", "-fno-math-errno"), ("-O0",)])
def test_results_have_the_bits_of_native_code_however_compiled(flags: tuple[str, ...]) -> None:
    library = c_host.Library([source(name) for name in GRAPHS], (*c_host.STRICT, *flags))
    for name in GRAPHS:
        check_bits(name, library)


def check_same(
    names: Sequence[str], flags: Sequence[str], compiler: str | None = c_host.COMPILER
) -> None:
    """Another build of programs gives the same bits."""
    other = c_host.Library([source(name) for name in names], flags, compiler)
    for name in names:
        for arrays in made(name).arrays:
            one, two = (
                library.run(identifier(name), arrays) for library in (quick_library(), other)
            )
            for got, want in zip(two.outputs, one.outputs, strict=True):
                assert same_bits(got, want).all(), name


def test_a_processor_without_instructions_gives_the_same_bits() -> None:
    check_same([name for name in QUICK if name.split("-")[0] in PORTABLE_GRAPHS], PORTABLE)


PORTABLE_GRAPHS = ("elementwise", "normalised_rows", "products", "scans")


def test_a_compiler_that_may_contract_does_not() -> None:
    names = [name for name in QUICK if name.split("-")[0] in ("normalised_rows", "calls")]
    check_same(names, ("-std=gnu11", "-O2", "-march=native"))


def test_threads_give_the_same_bits() -> None:
    names = [name for name in QUICK if name.split("-")[0] in ("large", "gathers", "reductions")]
    try:
        check_same(names, (*c_host.FLAGS, "-fopenmp"))
    except AssertionError as error:
        if "lgomp" in str(error):
            pytest.skip("this compiler has no OpenMP")
        raise


def test_clang_takes_the_text_as_well_and_gives_the_same_bits() -> None:
    if c_host.CLANG is None:
        pytest.skip("there is no clang")
    names = [name for name in QUICK if name.split("-")[0] in PORTABLE_GRAPHS]
    check_same(names, c_host.FLAGS, c_host.CLANG)


def test_arrays_without_elements_share_addresses_and_nothing_else() -> None:
    """They may have the address of another array, which no compiler may take for an alias."""
    x, y = gx.symbol("x", (0, 3), "float32"), gx.symbol("y", (4,), "float32")
    a, b = gx.sort(x, axis=0), gx.cumsum(x, axis=0)
    c = gx.softmax(gx.concatenate([a, b]), axis=1)
    outputs = [c.sum(), gx.cumsum(a * 2, axis=1) @ y[:3], gx.sort(b.T, axis=1), gx.sort(y) + 1]
    outcome = c_host.Library([emitted([x, y], outputs)]).run("graph", [np.ones((0, 3)), np.ones(4)])
    assert [out.shape for out in outcome.outputs] == [(), (0,), (3, 0), (4,)]
    assert outcome.outputs[0] == 0 and (outcome.outputs[3] == 2).all()


# -- strides and donation --------------------------------------------------------------------------


def test_strides_of_all_inputs_or_of_those_that_are_named() -> None:
    x, y = gx.symbol("x", ("n", 6), "float32"), gx.symbol("y", (6, "m"), "float64")
    k = gx.symbol("k", (), "float32")
    outputs = [gx.exp(x).sum(axis=0) * k, (x * k) @ y, y.T]
    base, other = normal(18, 4, dtype="float32"), normal(9, 6)
    arrays = [base.T[::-1, ::3], other.T, np.float32(0.5)]
    wanted = gx.evaluate(outputs, dict(zip((x, y, k), arrays, strict=True)))
    some = emitted([x, y, k], outputs, "some", strided=x)
    every = emitted([x, y, k], outputs, "every", strided=True)
    assert [array.strided for array in some.inputs] == [True, False, False]
    assert [array.strided for array in every.inputs] == [True, True, False]
    parameters = "const float *x, const int64_t *x_strides, const double *y, const int64_t *y_stri"
    assert parameters in " ".join(every.header.split())
    library = c_host.Library([some, every])
    for name in ("some", "every"):
        for got, want in zip(library.run(name, arrays).outputs, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5)
    broadcast = [np.broadcast_to(np.float32(2), (4, 6)), np.broadcast_to(other[:1].T, (6, 5)), 1.0]
    wanted = gx.evaluate(outputs, dict(zip((x, y, k), broadcast, strict=True)))
    for got, want in zip(library.run("every", broadcast).outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_donated_array_is_updated_in_place() -> None:
    """The output may be the array of the input, or another one: results are the same."""
    n = 37
    w, v, x = (gx.symbol(name, (n, n), "float64") for name in "wvx")
    loss = (gx.tanh(x @ w) ** 2).sum()
    gradient = gx.grad(loss, w)
    momentum = 0.9 * v + gradient
    turned = v.T + w  # reads the velocity where another element is written
    program = emitted([w, v, x], [w - 0.1 * momentum, momentum + 0 * turned, loss], donate=[w, v])
    assert program.donated == ((0, 0), (1, 1))
    library = c_host.Library([program])
    arrays = [normal(n, n) for _ in range(3)]
    apart = library.run("graph", arrays).outputs
    in_place = library.run("graph", arrays, in_place=True).outputs
    for one, two in zip(apart, in_place, strict=True):
        assert one.tobytes() == two.tobytes()
    step = gx.compile([w, v, x], [w - 0.1 * momentum, momentum + 0 * turned, loss])
    for got, want in zip(apart, step(*arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    assert "w, input, float64[37, 37], may be the array out0 as well" in program.header


def test_what_cannot_be_strided_or_donated_is_said() -> None:
    x, y = gx.symbol("x", (3,)), gx.symbol("y", (3,))
    with pytest.raises(gx.GraphError, match="one of the inputs"):
        emitted([x], [x * 2], strided=[y])
    with pytest.raises(gx.GraphError, match="'x' is donated: it cannot have strides"):
        emitted([x], [x * 2], strided=[x], donate=[x])
    with pytest.raises(ValueError, match="for target 'c', not 'cuda'"):
        gx.emit([x], [x * 2], target="cuda", strided=True)


# -- opcodes ---------------------------------------------------------------------------------------


def hand_made(program: Program, name: str) -> CSource:
    """The C of a program of known sizes that was not made from a graph."""
    main = program.main
    axes = ([s.shape for s in storages] for storages in (main.inputs, main.outputs))
    inputs, outputs = (tuple(rows) for rows in axes)
    found = Layout(Slots(), inputs, outputs, main.arena, 0, ())
    names = tuple(f"x{i}" for i in range(len(inputs)))
    return c_source(program, Signature(name, names, {}, found), Machine.host().vector_bytes)


@functools.cache
def opcode_library(flags: tuple[str, ...]) -> c_host.Library:
    sources = []
    for dtype, arity in INSTRUCTIONS:
        procedures = [(each.emit, each.result) for each in instructions(dtype, arity)]
        count = len(operands_for(dtype, arity)[0])
        program = launch_of_procedures(procedures, [dtype] * arity, count)
        sources.append(hand_made(program, f"{dtype}_{arity}"))
    return c_host.Library(sources, flags)


@pytest.mark.parametrize("flags", [c_host.QUICK, PORTABLE], ids=["native", "portable"])
def test_opcodes_are_their_numpy_functions(flags: tuple[str, ...]) -> None:
    library = opcode_library(flags)
    for dtype, arity in INSTRUCTIONS:
        arrays = operands_for(dtype, arity)
        results = library.run(f"{dtype}_{arity}", arrays).outputs
        for instruction, got in zip(instructions(dtype, arity), results, strict=True):
            want = instruction.numpy(*arrays)
            if instruction.opcode in ("min", "max"):
                got, want = one_zero(got), one_zero(want)
            try:
                assert_same(got, want, *arrays)
            except AssertionError as error:
                raise AssertionError(f"{instruction} of {dtype}: {error}") from None


def test_the_portable_fused_multiply_add_rounds_once() -> None:
    """Cancellation, ties, subnormal results and overflow: exponents that meet in every way."""
    random = np.random.default_rng(5)
    count = 20000
    scale = random.integers(-40, 41, (3, count)) + random.choice([0, -500, 500, -1000], (3, count))
    a, b, c = np.ldexp(random.integers(-(2**53), 2**53, (3, count)).astype(float), scale - 53)
    with np.errstate(over="ignore"):
        near = -(a * b)
    c[::2] = np.nextafter(near, np.inf)[::2] * np.where(random.random(count // 2) < 0.5, 1, 0.5)
    a[::7], b[::7] = np.ldexp(np.rint(a[::7] % 1 * 8), -600), np.ldexp(1.0, -470)
    few = [np.ldexp(1.0, -1074), -np.ldexp(1.0, -1074), 0.0, -0.0, np.inf, np.nan, 1.0, 2.0**1023]
    grid = [each.reshape(-1) for each in np.meshgrid(few, few, few)]
    arrays = [np.concatenate(pair) for pair in zip((a, b, c), grid, strict=True)]
    procedures = [(lambda k, x, y, z: k.fma(x, y, z), "float64")]
    program = launch_of_procedures(procedures, ["float64"] * 3, len(arrays[0]))
    library = c_host.Library([hand_made(program, "fused")], PORTABLE)
    with np.errstate(all="ignore"):
        want = softfloat.fma(*arrays)
    assert_same(library.run("fused", arrays).outputs[0], want, *arrays)


# -- sanitizers ------------------------------------------------------------------------------------

_MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
{includes}

static void *copy_of(const unsigned char *bytes, size_t size)
{{
    void *memory = malloc(size);
    memcpy(memory, bytes, size);
    return memory;
}}

int main(void)
{{
    graphc_status status;
{bodies}
    return 0;
}}
"""


def body_of(name: str, program: CSource, arrays: Sequence[Any], sizes: Sequence[int]) -> str:
    """Statements that call a program on copies of arrays, and print the bytes of its outputs."""
    lines, buffers = [], []
    for i, (array, known) in enumerate(zip(arrays, program.inputs, strict=True)):
        data = np.array(array, known.dtype, order="C").tobytes()
        numbers = ", ".join(map(str, data)) or "0"
        lines.append(f"static const unsigned char bytes{i}[] = {{{numbers}}};")
        buffers.append(f"copy_of(bytes{i}, {len(data)})")
    buffers += [f"malloc({size})" for size in sizes]
    extents = [0] * max(1, program.slots)
    for array, known in zip(arrays, program.inputs, strict=True):
        for axis, extent in zip(known.axes, np.shape(array), strict=True):
            if not isinstance(axis, int):
                extents[axis[1]] = extent
    lines += [
        f"int64_t extents[] = {{{', '.join(map(str, extents))}}};",
        f"if ({name}_extents(extents, &status) != 0) return 2;",
        f"void *workspace = malloc((size_t){name}_workspace(extents));",
        f"void *buffers[] = {{{', '.join(buffers)}}};",
        f"if ({name}(buffers, extents, workspace, &status) != 0) return 3;",
    ]
    first = len(program.inputs)
    lines += [f"fwrite(buffers[{first + i}], 1, {s}, stdout);" for i, s in enumerate(sizes)]
    lines += [f"for (int i = 0; i < {len(buffers)}; ++i) free(buffers[i]);", "free(workspace);"]
    return "\n".join(["    {", *(f"        {line}" for line in lines), "    }"])


# Graphs with every kind of kernel and statement.
KINDS = ("large", "column_scratch", "products", "gathers", "movement", "scans", "calls")


def test_sanitizers_find_nothing(tmp_path: pathlib.Path) -> None:
    """One program of its own, with heap blocks of just the right size."""
    names = [name for name in QUICK if name.split("-")[0] in KINDS]
    bodies, wanted = [], []
    for name in names:
        arrays = min(made(name).arrays, key=lambda arrays: -sum(map(np.size, arrays)))
        outputs = quick_library().run(identifier(name), arrays).outputs
        sizes = [output.nbytes for output in outputs]
        bodies.append(body_of(identifier(name), source(name), arrays, sizes))
        wanted += [output.tobytes() for output in outputs]
    files = [str(source(name).save(tmp_path)[0]) for name in names]
    includes = "\n".join(f'#include "{identifier(name)}.h"' for name in names)
    main = tmp_path / "main.c"
    main.write_text(_MAIN.format(includes=includes, bodies="\n".join(bodies)))
    target = tmp_path / "sanitized"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-march=native")
    try:
        c_host.run_compiler(["-std=c99", "-O1", *sanitizers, str(main), *files, "-o", str(target)])
    except AssertionError as error:
        if "lasan" in str(error) or "lubsan" in str(error):
            pytest.skip("this compiler has no sanitizers")
        raise
    done = subprocess.run([str(target)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    assert done.stdout == b"".join(wanted)


# -- what fails ------------------------------------------------------------------------------------


def test_a_failing_check_is_recorded_with_the_line_that_demands_it() -> None:
    x, i = gx.symbol("x", ("n",), "float64"), gx.symbol("i", (3,), "int64")
    program = emitted([x, i], [gx.check(x * 2, x < 9.0, 'no "more" than\n9??/'), x[i]])
    library = c_host.Library([program])
    values, positions = np.arange(8.0), np.array([0, -8, 7])
    assert library.run("graph", [values, positions]).status == (0, 0, 0, 0)
    failed = library.run("graph", [values * 1.5, positions])
    assert (failed.status[0], failed.status[2]) == (3, 6)
    assert 'no "more" than\n9??/' in failed.message and "test_c.py:" in failed.message
    failed = library.run("graph", [values, positions + 1])
    assert (failed.status[0], failed.status[2]) == (1, 8)
    assert "index" in failed.message and "test_c.py:" in failed.message


def test_extents_that_do_not_fit_are_refused() -> None:
    x, y = gx.symbol("x", ("n",), "float64"), gx.symbol("y", (2 * gx.dim("m"),), "float64")
    z = gx.symbol("z", (gx.dim("n") + gx.dim("m"),), "float64")
    program = emitted([x, y, z], [gx.concatenate([x, y]), z * 2])
    library = c_host.Library([program])
    good = library.run("graph", [np.ones(3), np.ones(4), np.ones(5)])
    assert good.status == (0, 0, 0, 0) and good.outputs[0].shape == (7,)
    odd = library.run("graph", [np.ones(3), np.ones(5), np.ones(5)])
    assert odd.status[0] == 2 and "y" in odd.message
    long = library.run("graph", [np.ones(3), np.ones(4), np.ones(6)])
    assert long.status[0] == 2 and "z" in long.message
    status = c_host.Status()
    fill = c_host.function(library.library, "graph_extents")
    for first, code in ((-1, 2), (2**62, 2), (3, 0)):
        extents = np.array([first, 4, 5] + [0] * program.slots, np.int64)
        assert fill(extents.ctypes, ctypes.byref(status)) == code


# -- text ------------------------------------------------------------------------------------------


def test_constants_keep_their_bits() -> None:
    x = gx.symbol("x", (4,), "float64")
    tables = [
        np.array([0.1, -0.0, np.inf, np.nan]), np.array([0.1, -1e-310, 1e300, 5e-324]),
        np.array([1e-45, -np.inf, 3.4e38, 0.3], np.float32), np.array([0.1, -2, 65504, 6e-8], "e"),
        np.array([-(2**63), 2**63 - 1, 0, -1]), np.array([2**64 - 1, 0, 1, 2**63], np.uint64),
        np.array([-128, 127, 0, 1], np.int8), np.array([True, False, True, True]),
    ]  # fmt: skip
    outputs = [gx.constant(table)[::-1] for table in tables]
    empty = gx.constant(np.zeros((0, 4)))
    program = emitted([x], [*outputs, gx.concatenate([empty, x[None]])])
    got = c_host.Library([program]).run("graph", [np.ones(4)]).outputs
    for result, table in zip(got, tables, strict=False):
        assert result.tobytes() == table[::-1].tobytes(), table.dtype


def test_no_name_gets_in_the_way() -> None:
    names = ("int", "status", "q1", "b0", "größe", "λ", "double", "out", "workspace", "x_y", "µ")
    symbols = [gx.symbol(name.replace("_", " "), (name, 2), "float32") for name in names]
    program = emitted(symbols, [each + each.shape[0] for each in symbols], "add_1")
    arrays = [normal(1 + i, 2, dtype="float32") for i in range(len(names))]
    library = c_host.Library([program])
    for got, array in zip(library.run("add_1", arrays).outputs, arrays, strict=True):
        np.testing.assert_array_equal(got, array + np.float32(len(array)))
    programs = [emitted(symbols[:1], [symbols[0] * 2], name) for name in ("for", "2d", "record")]
    assert [program.name for program in programs] == ["for_", "x2d", "record_"]
    c_host.Library(programs)


def test_files_can_be_called_from_c_and_the_header_from_cpp(tmp_path: pathlib.Path) -> None:
    x, w = gx.symbol("x", ("n", 3), "float64"), gx.symbol("w", (3,), "float64")
    program = emitted([x, w], [gx.softmax(x @ w)], "model")
    body, header = program.save(tmp_path)
    assert (body.name, header.name) == ("model.c", "model.h")
    assert body.read_text() == program.source == str(program) == program.text
    main = tmp_path / "main.c"
    main.write_text("""\
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
int main(void)
{
    const double x[2][3] = {{1, 2, 3}, {4, 5, 6}}, w[3] = {0.5, 0.25, 0.125};
    double out[2];
    graphc_status status;
    int64_t extents[MODEL_EXTENTS] = {2};
    if (model_extents(extents, &status) != 0) return 1;
    void *workspace = malloc((size_t)model_workspace(extents));
    if (model_call(2, &x[0][0], w, out, workspace, &status) != 0) {
        puts(model_message(&status));
        return 1;
    }
    printf("%.17g %.17g", out[0], out[1]);
    free(workspace);
    return 0;
}
""")
    c_host.run_compiler([*c_host.FLAGS, str(main), str(body), "-o", str(tmp_path / "run")])
    done = subprocess.run([tmp_path / "run"], capture_output=True, text=True, check=True)
    values = np.exp(np.array([[1.0, 2, 3], [4, 5, 6]]) @ [0.5, 0.25, 0.125])
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], values / values.sum())
    if shutil.which("g++") is not None:
        including = tmp_path / "including.cpp"
        including.write_text('#include "model.h"\nint main() { return MODEL_EXTENTS == 0; }\n')
        strict = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c"]
        c_host.run_compiler([*strict, str(including), "-o", str(tmp_path / "including.o")])


def test_the_text_says_what_it_computes_and_for_whom() -> None:
    x = gx.symbol("x", ("rows", 8), "float32")
    program = emitted([x], [gx.softmax(x, axis=1), x.sum()], "model")
    assert "static void max_subtract_exp_sum_divide_1(" in program.source
    assert "int64_t size_rows" in program.source
    remark = r"/\* .*: float32\[rows, 8\] \*/\n/\* from .*test_c\.py:\d+ \*/"
    assert re.search(remark, program.source)
    assert "0: x, input, float32[rows, 8]" in program.header
    assert "#include <stdint.h>" in program.header and "#include <" not in program.source
    assert max(map(len, program.source.splitlines())) <= 130


_TEXT = """
import graphc as gx
x, y = gx.symbol("x", ("n", "m"), "float32"), gx.symbol("y", ("m",), "float32")
heavy = gx.exp(x * y) + gx.sin(x)
outputs = [heavy / heavy.sum(axis=1, keepdims=True), gx.grad(heavy.sum(), y)]
print(gx.emit([x, y], outputs, target="c"))
"""


def test_the_text_is_the_same_in_every_process() -> None:
    path = ":".join(filter(None, sys.path))
    texts = {
        subprocess.run(
            [sys.executable, "-c", _TEXT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1 and "static void" in texts.pop()


def test_equal_kernels_are_printed_once() -> None:
    x = gx.symbol("x", (6, 6), "float32")
    program = emitted([x], [gx.softmax(gx.softmax(x, axis=1) @ x, axis=1)])
    assert len(re.findall(r"^static void max_", program.source, re.M)) == 1
    assert len(re.findall(r"^ +max_\w+\(", program.source, re.M)) == 2


def test_only_what_overlaps_is_not_restricted() -> None:
    x, y = gx.symbol("x", (4, 30), "float32"), gx.symbol("y", (30,), "float32")
    program = emitted([x, y], [x + y])
    head = "const float *restrict b0, const float *restrict b1, float *restrict b2"
    assert head in program.source


def test_select_of_every_dtype() -> None:
    dtypes = ("bool", "int8", "uint16", "int64", "float16", "float32")
    symbols, outputs, arrays = [], [], []
    for dtype in dtypes:
        a, b = samples(dtype, 2)
        c = gx.symbol(f"c_{dtype}", (len(a),), "bool")
        pair = [gx.symbol(f"{letter}_{dtype}", (len(a),), dtype) for letter in "ab"]
        symbols += [c, *pair]
        outputs.append(gx.where(c, *pair))
        arrays += [np.resize([True, False, False], len(a)), a, b]
    got = c_host.Library([emitted(symbols, outputs)]).run("graph", arrays).outputs
    for i, result in enumerate(got):
        c, a, b = arrays[3 * i : 3 * i + 3]
        assert_same(result, np.where(c, a, b), a, b)


def test_a_target_that_does_not_exist_is_named() -> None:
    x = gx.symbol("x", (3,))
    with pytest.raises(ValueError, match="'c', 'cuda', 'llvm'"):
        gx.emit([x], [x * 2], target="fortran")
