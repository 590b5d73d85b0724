"""Do chains of kernels that run block by block compute what they compute one after the other?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen import tactics
from graphc.codegen.interpret import run_program
from graphc.codegen.llvm.short_product import is_short
from graphc.codegen.loops import Contract, tabled_sides, verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.machine import PRESETS
from graphc.codegen.program import Blocks, Program
from graphc.graph import close
from graphc.runtime import compile as compiling
from graphc.runtime import printing
from graphc.runtime.profile import profile

Build = Callable[..., Any]
# Of a core alone: a few blocks of the programs here, and less than all of what they hand on.
CACHE_BYTES = 1 << 18
BATCH, HEADS, ROWS, OTHER, DEPTH = 4, 8, 48, 80, 48


def _heads(x: Any, rows: int) -> Any:
    return gx.transpose(gx.reshape(x, (BATCH, rows, HEADS, DEPTH)), (0, 2, 1, 3))


def _scores(q: Any, k: Any) -> Any:
    scores = gx.matmul(_heads(q, ROWS), gx.swapaxes(_heads(k, OTHER), 2, 3))
    return scores * gx.cast(DEPTH**-0.5, scores.dtype)


def _mixed(shares: Any, v: Any) -> Any:
    mixed = gx.transpose(gx.matmul(shares, _heads(v, OTHER)), (0, 2, 1, 3))
    return gx.reshape(mixed, (BATCH, ROWS, HEADS * DEPTH))


def _plain(q: Any, k: Any, v: Any, w: Any, keep: Any) -> Any:
    return _mixed(gx.softmax(_scores(q, k), axis=-1), v) @ w


def _masked(q: Any, k: Any, v: Any, w: Any, keep: Any) -> Any:
    scores = gx.where(keep[:, None], _scores(q, k), -np.inf)
    return _mixed(gx.softmax(scores, axis=-1), v) @ w


def _causal(q: Any, k: Any, v: Any, w: Any, keep: Any) -> Any:
    before = np.tril(np.ones((ROWS, OTHER), bool))
    scores = gx.where(before, _scores(q, k), -1e30)
    return _mixed(gx.softmax(scores, axis=-1), v) @ w


def _kept(q: Any, k: Any, v: Any, w: Any, keep: Any) -> Any:
    shares = gx.softmax(_scores(q, k), axis=-1)
    return _mixed(shares, v) @ w, shares, gx.sum(shares, axis=2)


def _across(q: Any, k: Any, v: Any, w: Any, keep: Any) -> Any:
    shares = gx.softmax(_scores(q, k), axis=-1)
    shares = shares + gx.max(shares, axis=1, keepdims=True)  # of all heads
    return _mixed(shares, v) @ w


def _gradients(build: Build) -> Build:
    def gradients(q: Any, k: Any, v: Any, w: Any, keep: Any) -> Any:
        result = build(q, k, v, w, keep)
        return [result, *gx.grad(gx.sum(result * result), [q, k, v, w])]

    return gradients


BUILDS = {
    "plain": _plain,
    "masked": _masked,
    "causal": _causal,
    "kept": _kept,
    "across": _across,
    "gradients": _gradients(_plain),
    "masked gradients": _gradients(_masked),
}


def _symbols(dtype: str) -> dict[str, Any]:
    shapes = {
        "q": (BATCH, ROWS, HEADS * DEPTH),
        "k": (BATCH, OTHER, HEADS * DEPTH),
        "v": (BATCH, OTHER, HEADS * DEPTH),
        "w": (HEADS * DEPTH, 24),
    }
    symbols = {name: gx.symbol(name, shape, dtype) for name, shape in shapes.items()}
    return symbols | {"keep": gx.symbol("keep", (BATCH, ROWS, OTHER), "bool")}


def _arrays(symbols: dict[str, Any]) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    values = {name: generator.normal(size=symbol.shape) for name, symbol in symbols.items()}
    values["keep"] = values["keep"] > -1
    values["keep"][..., 0] = True
    values["w"] /= 20
    return {name: values[name].astype(symbol.dtype) for name, symbol in symbols.items()}


@pytest.fixture
def cache_bytes(monkeypatch):
    """Sets what a core has to itself."""
    native = compiling._native_tactics

    def put(size: int) -> None:
        monkeypatch.setattr(
            compiling,
            "_native_tactics",
            lambda request: replace(native(request), own_cache_bytes=size),
        )

    return put


def _compiled(build: Build, symbols: dict[str, Any], **options: Any) -> Any:
    results = build(*symbols.values())
    listed = list(results) if isinstance(results, (list, tuple)) else [results]
    chosen = gx.Options(cache=False, debug=True, **options)
    return gx.compile(list(symbols.values()), listed, options=chosen)


def _chains(function: Any) -> list[Blocks]:
    return list(function._impl.program.blocks())


@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float64", 3)])
@pytest.mark.parametrize("name", BUILDS)
def test_blocks_have_the_bits_of_whole_kernels(name, dtype, threads, cache_bytes):
    symbols = _symbols(dtype)
    arrays = list(_arrays(symbols).values())
    cache_bytes(0)
    whole = _compiled(BUILDS[name], symbols, threads=threads)
    assert not _chains(whole)
    cache_bytes(CACHE_BYTES)
    parted = _compiled(BUILDS[name], symbols, threads=threads)
    assert _chains(parted)
    for one, other in zip(parted(*arrays), whole(*arrays), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_operands_of_half_width(dtype, cache_bytes):
    symbols = _symbols(dtype)
    arrays = _arrays(symbols)
    cache_bytes(CACHE_BYTES)
    function = _compiled(_masked, symbols, threads=2)
    (found,) = function(*arrays.values())
    wide = {k: x.astype("float64") if k != "keep" else x for k, x in arrays.items()}
    exact = gx.evaluate(_masked(*_symbols("float64").values()), _by_symbol(wide))
    assert np.abs(found.astype("float64") - exact).max() <= 0.03 * np.abs(exact).max()


def _by_symbol(arrays: dict[str, Any]) -> dict[Any, Any]:
    return {symbol: arrays[name] for name, symbol in _symbols("float64").items()}


def _lowered(build: Build, symbols: dict[str, Any]) -> Program:
    results = build(*symbols.values())
    listed = list(results) if isinstance(results, (list, tuple)) else [results]
    graph, _ = close(list(symbols.values()), listed)
    wanted = replace(tactics.NATIVE, straight=0, own_cache_bytes=CACHE_BYTES, least_blocks=4)
    program = lower(expand(graph), workers=2, tactics=wanted)
    for kernel in program.kernels():
        verify(kernel)
    return program


@pytest.mark.parametrize("name", ["plain", "kept", "masked gradients"])
def test_blocks_mean_what_the_graph_does(name):
    symbols = _symbols("float64")
    arrays = _arrays(symbols)
    program = _lowered(BUILDS[name], symbols)
    assert list(program.blocks())
    made, failures = run_program(program, list(arrays.values()), {}, workers=2)
    assert failures == []
    results = BUILDS[name](*symbols.values())
    listed = results if isinstance(results, (list, tuple)) else [results]
    for found, node in zip(made, listed, strict=True):
        wanted = gx.evaluate(node, {symbols[key]: arrays[key] for key in symbols})
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_what_only_the_chain_touches_is_of_one_block():
    program = _lowered(_plain, _symbols("float32"))
    (chain,) = program.blocks()
    held = {o.storage for o in chain.operands if o.storage.kind == "held"}
    scores = BATCH * HEADS * ROWS * OTHER
    assert {int(np.prod(storage.shape)) for storage in held} == {scores}
    assert all(storage.parts == chain.count == BATCH * HEADS for storage in held)
    assert chain.scratch.bytes < scores
    kept = _lowered(_kept, _symbols("float32"))
    written = {o.storage.kind for chain in kept.blocks() for o in chain.operands}
    assert "output" in written


def test_what_goes_across_blocks_ends_a_chain():
    (chain,) = _lowered(_across, _symbols("float32")).blocks()
    assert [launch.kernel.title.split("_")[0] for launch in chain.launches] == ["contract", "max"]


def test_readers_find_rows_in_place():
    program = _lowered(_gradients(_plain), _symbols("float32"))
    for kernel in program.kernels():
        if isinstance(kernel.nest, Contract):
            assert not tabled_sides(kernel.nest), kernel.text()


def test_no_chain_of_what_a_cache_keeps_or_of_few_blocks():
    small = replace(tactics.NATIVE, own_cache_bytes=1 << 26)
    graph, _ = close(list(_symbols("float32").values()), [_plain(*_symbols("float32").values())])
    assert not list(lower(expand(graph), tactics=small).blocks())
    few = replace(tactics.NATIVE, own_cache_bytes=CACHE_BYTES, least_blocks=BATCH * HEADS + 1)
    assert not list(lower(expand(graph), tactics=few).blocks())


def test_the_report_says_so(cache_bytes):
    cache_bytes(CACHE_BYTES)
    text = str(_compiled(_plain, _symbols("float32")).report())
    assert f"one of {BATCH * HEADS} blocks of the batch at a time" in text


def test_every_launch_of_a_block_is_timed(cache_bytes):
    cache_bytes(CACHE_BYTES)
    symbols = _symbols("float32")
    function = _compiled(_plain, symbols, threads=1)
    timings = profile(function._impl, list(_arrays(symbols).values()), repeat=2)
    assert [each.launch for each in timings] == list(function._impl.program.launches())
    assert all(len(each.seconds) == 2 for each in timings)


def test_a_check_that_fails_in_a_block(cache_bytes):
    cache_bytes(CACHE_BYTES)
    symbols = _symbols("float32")
    table, places = gx.symbol("table", (9,), "float32"), gx.symbol("places", (ROWS, OTHER), "int64")

    def build(q: Any, k: Any, v: Any, w: Any, keep: Any, table: Any, places: Any) -> Any:
        return _mixed(gx.softmax(_scores(q, k) + gx.take(table, places, axis=0), axis=-1), v)

    function = _compiled(build, symbols | {"table": table, "places": places}, threads=2)
    given = [*_arrays(symbols).values(), np.zeros(9, "f4"), np.zeros((ROWS, OTHER), "i8")]
    function(*given)
    given[-1][3, 4] = 12
    with pytest.raises(IndexError, match="12"):
        function(*given)
    given[-1][3, 4] = 0
    function(*given)


def test_an_output_over_an_input_of_the_chain(cache_bytes):
    symbols = _symbols("float32")
    arrays = _arrays(symbols)
    results = []
    for size in (0, CACHE_BYTES):
        cache_bytes(size)
        q = symbols["q"]
        result = q + _mixed(gx.softmax(_scores(q, symbols["k"]), axis=-1), symbols["v"])
        function = gx.compile(
            [q, symbols["k"], symbols["v"]],
            result,
            donate=[q],
            options=gx.Options(cache=False),
        )
        results.append(function(arrays["q"].copy(), arrays["k"], arrays["v"]))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_are_text_for_every_machine(preset, dtype):
    machine = PRESETS[preset]
    program = _lowered(_gradients(_plain), _symbols(dtype))
    products = 0
    for kernel in program.kernels():
        text = printing.kernel_text(kernel, machine)
        if text.text:
            llvm.parse_assembly(text.text).verify()
        products += isinstance(kernel.nest, Contract) and is_short(kernel.nest, machine)
    assert products or not machine.has_masks
