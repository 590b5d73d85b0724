"""Do loops whose stripes of rows each run by themselves compute what they compute step by step?"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen import tactics
from graphc.codegen.interpret import run_program
from graphc.codegen.loops import verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.machine import PRESETS
from graphc.codegen.program import Blocks, Program
from graphc.graph import close
from graphc.runtime import compile as compiling
from graphc.runtime import printing
from graphc.runtime.profile import profile

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., Any]
STEPS, ROWS, INPUTS, WIDTH = 9, 24, 20, 64


def _lstm(x: Any, weight: Any, recurrent: Any, start: Any) -> Any:
    def step(state: Any, row: Any) -> Any:
        hidden, cell = state
        i, f, g, o = gx.split(row @ weight + hidden @ recurrent, 4, axis=1)
        cell = gx.sigmoid(f) * cell + gx.sigmoid(i) * gx.tanh(g)
        hidden = gx.sigmoid(o) * gx.tanh(cell)
        return (hidden, cell), hidden

    (hidden, cell), rows = gx.scan(step, (start, start * 0.5), x)
    return [hidden, cell, rows]


def _gru(x: Any, weight: Any, recurrent: Any, start: Any) -> Any:
    def step(hidden: Any, row: Any) -> Any:
        a, b = row @ weight, hidden @ recurrent
        r, u = gx.sigmoid(a[:, :WIDTH] + b[:, :WIDTH]), gx.sigmoid((a + b)[:, WIDTH : 2 * WIDTH])
        new = gx.tanh(a[:, 2 * WIDTH : 3 * WIDTH] + r * b[:, 2 * WIDTH : 3 * WIDTH])
        return u * hidden + (1 - u) * new, r

    last, gates = gx.scan(step, start, x, reverse=True)
    return [last, gates]


def _plain(x: Any, weight: Any, recurrent: Any, start: Any) -> Any:
    def step(hidden: Any, row: Any) -> Any:
        hidden = gx.tanh(row @ weight[:, :WIDTH] + hidden @ recurrent[:, :WIDTH])
        return hidden, hidden.sum(axis=1)

    return list(gx.scan(step, start, x))


def _normalised(x: Any, weight: Any, recurrent: Any, start: Any) -> Any:
    """A step with a reduction over each row, and an operand read the other way round."""

    def step(hidden: Any, row: Any) -> Any:
        hidden = gx.softmax(row @ weight[:, :WIDTH] + hidden @ recurrent[:, :WIDTH].T, axis=1)
        return hidden, None

    return [gx.scan(step, start, x)[0]]


def _gradients(build: Build) -> Build:
    def gradients(*args: Any) -> Any:
        results = build(*args)
        return [*results, *gx.grad(sum(gx.sum(r * r) for r in results), list(args))]

    return gradients


BUILDS = {
    "lstm": _lstm,
    "gru": _gru,
    "plain": _plain,
    "normalised": _normalised,
    "lstm gradients": _gradients(_lstm),
    "gru gradients": _gradients(_gru),
    "plain gradients": _gradients(_plain),
    "normalised gradients": _gradients(_normalised),
}


def _symbols(dtype: str, rows: int = ROWS, steps: Any = STEPS) -> dict[str, Any]:
    shapes = {
        "x": (steps, rows, INPUTS),
        "weight": (INPUTS, 4 * WIDTH),
        "recurrent": (WIDTH, 4 * WIDTH),
        "start": (rows, WIDTH),
    }
    return {name: gx.symbol(name, shape, dtype) for name, shape in shapes.items()}




def _arrays(symbols: dict[str, Any]) -> list[Any]:
    generator = np.random.default_rng(7)
    shapes = {k: [e if isinstance(e, int) else STEPS for e in s.shape] for k, s in symbols.items()}
    values = {name: generator.normal(size=shape) / 4 for name, shape in shapes.items()}
    return [values[name].astype(symbol.dtype) for name, symbol in symbols.items()]


CHOSEN = {"stripe_rows": 6, "least_block_work": 1 << 10, "own_cache_bytes": 1 << 18}


@pytest.fixture
def stripe_rows(monkeypatch):
    """Sets how many rows a stripe has at least; 0: loops stay whole."""
    native = compiling._native_tactics

    def put(rows: int) -> None:
        chosen = {**CHOSEN, "stripe_rows": rows}
        monkeypatch.setattr(
            compiling, "_native_tactics", lambda request: replace(native(request), **chosen)
        )

    return put


def _compiled(build: Build, symbols: dict[str, Any], **options: Any) -> Any:
    chosen = gx.Options(cache=False, debug=True, **options)
    return gx.compile(list(symbols.values()), build(*symbols.values()), options=chosen)


def _stripes(program: Program) -> list[Blocks]:
    return [blocks for blocks in program.blocks() if blocks.steps is not None]


@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float64", 3)])
@pytest.mark.parametrize("name", BUILDS)
def test_stripes_have_the_bits_of_whole_loops(name, dtype, threads, stripe_rows):
    symbols = _symbols(dtype)
    arrays = _arrays(symbols)
    stripe_rows(0)
    whole = _compiled(BUILDS[name], symbols, threads=threads)
    assert not _stripes(whole._impl.program)
    stripe_rows(6)
    parted = _compiled(BUILDS[name], symbols, threads=threads)
    found = _stripes(parted._impl.program)
    assert found and all(blocks.count == 4 for blocks in found)
    for one, other in zip(parted(*arrays), whole(*arrays), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_states_of_half_width(dtype, stripe_rows):
    symbols = _symbols(dtype)
    arrays = _arrays(symbols)
    results = []
    for rows in (0, 6):
        stripe_rows(rows)
        function = _compiled(_gradients(_lstm), symbols, threads=2)
        assert bool(_stripes(function._impl.program)) == bool(rows)
        results.append(function(*arrays))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one.view("u2"), other.view("u2"))


def _lowered(build: Build, symbols: dict[str, Any], **choices: Any) -> Program:
    graph, _ = close(list(symbols.values()), build(*symbols.values()))
    wanted = replace(tactics.NATIVE, straight=0, **{**CHOSEN, **choices})
    program = lower(expand(graph), workers=2, tactics=wanted)
    for kernel in program.kernels():
        verify(kernel)
    return program


@pytest.mark.parametrize("steps", [STEPS, "n"])
@pytest.mark.parametrize("name", ["lstm", "gru", "plain"])
def test_stripes_mean_what_the_graph_does(name, steps):
    """The interpreter runs the last stripe first, all of its steps."""
    symbols = _symbols("float64", steps=steps)
    arrays = _arrays(symbols)
    program = _lowered(BUILDS[name], symbols)
    assert _stripes(program)
    sizes = {} if steps == STEPS else {"n": STEPS}
    made, failures = run_program(program, arrays, sizes, workers=2)
    assert failures == []
    given = dict(zip(symbols.values(), arrays, strict=True))
    for found, node in zip(made, BUILDS[name](*symbols.values()), strict=True):
        np.testing.assert_allclose(found, gx.evaluate(node, given), rtol=1e-9, atol=1e-9)


def _with(change: Callable[[Any], Any]) -> Build:
    """A loop with a change of its state between the steps."""

    def build(x: Any, weight: Any, recurrent: Any, start: Any) -> Any:
        def step(hidden: Any, row: Any) -> Any:
            hidden = gx.tanh(row @ weight[:, :WIDTH] + hidden @ recurrent[:, :WIDTH])
            return change(hidden), None

        return [gx.scan(step, start, x)[0]]

    return build


ACROSS = {
    "reversed": lambda h: h[::-1],
    "rolled": lambda h: gx.roll(h, 1, axis=0),
    "sum of rows": lambda h: h - gx.mean(h, axis=0),
    "product of rows": lambda h: h + gx.tanh(h @ h.T) @ h,
    "one row": lambda h: h * h[:1],
}


@pytest.mark.parametrize("name", ACROSS)
def test_rows_that_need_others_are_of_one_loop(name, stripe_rows):
    build, symbols = _with(ACROSS[name]), _symbols("float64")
    assert _stripes(_lowered(_with(lambda h: h * 2), symbols))
    assert not _stripes(_lowered(build, symbols))
    stripe_rows(6)
    arrays = _arrays(symbols)
    (found,) = _compiled(build, symbols, threads=2)(*arrays)
    given = dict(zip(symbols.values(), arrays, strict=True))
    wanted = gx.evaluate(build(*symbols.values())[0], given)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_no_stripes_of_few_rows_or_of_what_no_cache_keeps():
    symbols = _symbols("float32")
    assert _stripes(_lowered(_lstm, symbols))
    assert not _stripes(_lowered(_lstm, symbols, stripe_rows=ROWS))
    assert not _stripes(_lowered(_lstm, symbols, own_cache_bytes=1 << 12))
    assert not _stripes(_lowered(_lstm, symbols, least_block_work=1 << 30))
    assert not _stripes(_lowered(_lstm, _symbols("float32", rows=23)))


def test_the_report_and_the_profile_know_them(stripe_rows):
    stripe_rows(6)
    symbols = _symbols("float32")
    function = _compiled(_gradients(_lstm), symbols, threads=1)
    assert "one of 4 stripes of rows" in str(function.report())
    timings = profile(function._impl, _arrays(symbols), repeat=2)
    assert [each.launch for each in timings] == list(function._impl.program.launches())
    assert all(len(each.seconds) == 2 for each in timings)


def test_an_output_over_an_input_of_the_loop(stripe_rows):
    symbols = _symbols("float32")
    arrays = _arrays(symbols)
    x, weight, recurrent, start = symbols.values()

    def step(hidden: Any, row: Any) -> Any:
        hidden = gx.tanh(row @ weight[:, :INPUTS] + hidden @ recurrent[:INPUTS, :INPUTS])
        return hidden, row[::-1] * hidden

    results = []
    for rows in (0, 6):
        stripe_rows(rows)
        _, made = gx.scan(step, start[:, :INPUTS], x)
        function = gx.compile(
            list(symbols.values()), made, donate=[x], options=gx.Options(cache=False, threads=2)
        )
        results.append(function(arrays[0].copy(), *arrays[1:]))
    np.testing.assert_array_equal(*results)


INTERRUPTED = """
import signal
import numpy as np
import graphc as gx
start = gx.symbol("start", (48, 128), "float32")
matrix = gx.symbol("matrix", (128, 128), "float32")
steps = gx.symbol("steps", ("n",), "float32")
step = lambda h, s: (gx.tanh(h @ matrix), None)
last, _ = gx.scan(lambda h, s: (gx.tanh(h @ matrix) + s, None), start, steps)
f = gx.compile([start, matrix, steps], last, options=gx.Options(threads=THREADS, cache=False))
assert any(blocks.steps for blocks in f._impl.program.blocks())
arrays = np.ones((48, 128), "f4"), np.eye(128, dtype="f4")
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    f(*arrays, np.zeros(30_000_000, "f4"))
except KeyboardInterrupt:
    print("interrupted")
print(f(*arrays, np.zeros(0, "f4"))[0, 0])
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_stops_the_steps_of_a_stripe(threads):
    text = textwrap.dedent(INTERRUPTED).replace("THREADS", str(threads))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["interrupted", "1.0"], done.stderr


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stripes_are_text_for_every_machine(preset, dtype):
    program = _lowered(_gradients(_lstm), _symbols(dtype))
    assert len(_stripes(program)) >= 2
    for kernel in program.kernels():
        text = printing.kernel_text(kernel, PRESETS[preset])
        if text.text:
            llvm.parse_assembly(text.text).verify()
