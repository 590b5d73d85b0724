"""Are products that call register tiles directly the same, to the bit, as those of the family?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm import direct_product, short_product
from graphc.codegen.loops import Contract
from graphc.codegen.machine import PRESETS, Machine
from graphc.runtime import printing

# Rows, depth, columns: whole tiles, edges below and on the right, both; a deep one.
SIZES = [(32, 64, 64), (29, 7, 64), (24, 33, 45), (61, 17, 71), (13, 128, 33)]

Build = Callable[..., Any]


def _activated(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.tanh(x @ w + b) * gx.exp(-z * z)


def _turned(x: Any, w: Any, b: Any, z: Any) -> Any:
    return x @ gx.transpose(w) + z


def _both_turned(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.transpose(x) @ gx.transpose(w)


def _several(x: Any, w: Any, b: Any, z: Any) -> Any:
    product = x @ gx.transpose(w)
    return product, gx.tanh(product + z).astype("float16"), product > b


BUILDS = [_activated, _turned, _both_turned, _several]


def _values(build: Build, dtype: str, rows: int, depth: int, columns: int) -> dict[str, Any]:
    generator = np.random.default_rng(rows + columns)
    left = (depth, rows) if build is _both_turned else (rows, depth)
    right = (depth, columns) if build is _activated else (columns, depth)
    shapes = {"x": left, "w": right, "b": (columns,), "z": (rows, columns)}
    values = {name: generator.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    values["x"][0, 0] = np.nan
    values["w"][-1, -1] = np.inf
    return values


def _results(build: Build, values: dict[str, Any]) -> list[np.ndarray]:
    symbols = {k: gx.symbol(k, v.shape, str(v.dtype)) for k, v in values.items()}
    results = build(*symbols.values())
    listed = list(results) if isinstance(results, tuple) else [results]
    options = gx.Options(cache=False)
    found = gx.compile(list(symbols.values()), listed, options=options)(*values.values())
    return [np.asarray(each) for each in found]


@pytest.fixture
def asked(monkeypatch) -> list[bool]:
    """What was said of each product, whether it is direct. Those that would be written whole, with
    right packed before all, are direct products here.
    """
    said: list[bool] = []

    def in_place(contract: Contract, machine: Machine) -> bool:
        found = short_product.is_short(contract, machine)
        return found and not short_product.short_kernels(contract, machine)

    monkeypatch.setattr(printing, "is_short", in_place)

    def noted(contract: Contract, machine: Machine) -> bool:
        said.append(direct_product.is_direct(contract, machine))
        return said[-1]

    monkeypatch.setattr(printing, "is_direct", noted)
    return said


def _by_family(monkeypatch) -> None:
    monkeypatch.setattr(printing, "is_direct", lambda contract, machine: False)
    monkeypatch.setattr(printing, "is_short", lambda contract, machine: False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__[1:])
def test_the_bits_of_the_family(build, dtype, asked, monkeypatch):
    for rows, depth, columns in SIZES[:: 1 if dtype == "float32" else 2]:
        values = _values(build, dtype, rows, depth, columns)
        direct = _results(build, values)
        assert asked and (all(asked) or not Machine.host().has_masks)
        asked.clear()
        with monkeypatch.context() as patch:
            _by_family(patch)
            family = _results(build, values)
        for a, b in zip(direct, family, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("turned", [False, True])
def test_batches(turned, asked):
    generator = np.random.default_rng(5)
    x, w = generator.normal(size=(3, 17, 20)), generator.normal(size=(3, 20, 37))
    a, b = gx.symbol("a", x.shape), gx.symbol("b", (3, 37, 20) if turned else w.shape)
    right = gx.transpose(b, (0, 2, 1)) if turned else b
    f = gx.compile([a, b], gx.sinh(gx.tanh(a @ right)), options=gx.Options(cache=False))
    given = np.ascontiguousarray(w.transpose(0, 2, 1)) if turned else w
    np.testing.assert_allclose(f(x, given), np.sinh(np.tanh(x @ w)), rtol=1e-12)
    assert any(asked) or not turned or not Machine.host().has_masks


def test_beside_products_that_need_a_plan(asked):
    """One program of both, whose tiles are in one library; and arguments with strides."""
    generator = np.random.default_rng(6)
    x, w, v = (generator.normal(size=s) for s in ((48, 40), (32, 40), (32, 700)))
    a, b, c = (gx.symbol(n, s.shape) for n, s in (("a", x), ("b", w), ("c", v)))
    hidden = gx.tanh(a @ gx.transpose(b))
    f = gx.compile([a, b, c], [hidden, gx.tanh(hidden @ c)], options=gx.Options(cache=False))
    assert sorted(set(asked)) == [False, True]
    exact = np.tanh(x @ w.T)
    for given in (x, np.repeat(x, 2, axis=1)[:, ::2]):
        first, second = f(given, w, v)
        np.testing.assert_allclose(first, exact, rtol=1e-12)
        np.testing.assert_allclose(second, np.tanh(exact @ v), rtol=1e-9, atol=1e-13)


def test_what_has_no_whole_tile_or_too_much_work_is_left_to_the_family(asked):
    for rows, depth, columns in ((4, 64, 64), (32, 64, 7), (32, 4000, 64), (512, 64, 512)):
        x, w = np.ones((rows, depth)), np.ones((columns, depth))
        a, b = gx.symbol("a", x.shape), gx.symbol("b", w.shape)
        product = gx.tanh(a @ gx.transpose(b) / depth)
        f = gx.compile([a, b], product, options=gx.Options(cache=False))
        np.testing.assert_allclose(f(x, w), np.tanh(x @ w.T / depth), rtol=1e-12)
    assert asked and not any(asked)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_machine_has_its_text(name, dtype, monkeypatch):
    """The very kernels of a program, written for each processor, are modules that LLVM accepts."""
    contracts: list[Any] = []
    print_kernel = printing.kernel_text

    def kept(kernel: Any, machine: Machine) -> Any:
        contracts.extend([kernel] if isinstance(kernel.nest, Contract) else [])
        return print_kernel(kernel, machine)

    monkeypatch.setattr(printing, "kernel_text", kept)
    for rows, depth, columns in ((32, 64, 64), (29, 20, 80)):
        _results(_several, _values(_several, dtype, rows, depth, columns))
    machine = PRESETS[name]
    for kernel in contracts:
        assert direct_product.is_direct(kernel.nest, machine)
        text = direct_product.direct_product_module(kernel, machine, "kernel")
        llvm.parse_assembly(text.text).verify()
        assert text.driver is not None
        driving = printing.driving({"kernel_0": ("tiles_0", text.driver)})
        llvm.parse_assembly(driving.source.text).verify()
