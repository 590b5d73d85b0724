"""Are products that are written whole the same, to the bit, as those of the family?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm import short_product
from graphc.codegen.loops import Contract
from graphc.codegen.machine import PRESETS, Machine
from graphc.runtime import printing

# Rows, depth, columns: whole tiles, edges on either side, heights one by one, the smallest.
SIZES = [(24, 5, 64), (61, 17, 45), (2, 3, 5), (13, 64, 33), (12, 3, 8), (35, 20, 16), (96, 30, 96)]

Build = Callable[..., Any]


def _bias(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.relu(x @ w + b)


def _scaled(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.sqrt(gx.abs(x @ w)) * z


def _several(x: Any, w: Any, b: Any, z: Any) -> Any:
    product = x @ w
    return product, (product + z).astype("float16"), product > b


def _plain(x: Any, w: Any, b: Any, z: Any) -> Any:
    return x @ w


def _rows(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.sum(z, axis=1, keepdims=True) - x @ w


BUILDS = [_bias, _scaled, _several, _plain, _rows]


def _values(dtype: str, rows: int, depth: int, columns: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(rows + columns)
    shapes = {"x": (rows, depth), "w": (depth, columns), "b": (columns,), "z": (rows, columns)}
    values = {name: generator.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    values["x"][0, 0] = np.nan
    values["w"][-1, -1] = np.inf
    return values


def _compiled(build: Build, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    symbols = {k: gx.symbol(k, v.shape, str(v.dtype)) for k, v in values.items()}
    results = build(*symbols.values())
    listed = list(results) if isinstance(results, tuple) else [results]
    options = gx.Options(cache=False, threads=1)
    found = gx.compile(list(symbols.values()), listed, options=options)(*values.values())
    return [np.asarray(each) for each in found]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_short_products_have_the_bits_of_the_family(dtype, sizes, monkeypatch):
    values, build = _values(dtype, *sizes), BUILDS[SIZES.index(sizes) % len(BUILDS)]
    asked: list[bool] = []

    def counted(contract: Contract, machine: Machine) -> bool:
        asked.append(short_product.is_short(contract, machine))
        return asked[-1]

    monkeypatch.setattr(printing, "is_short", counted)
    whole = _compiled(build, values)
    expected = any(asked) or not Machine.host().has_masks
    assert expected, "nothing was written whole"
    monkeypatch.setattr(printing, "is_short", lambda contract, machine: False)
    for one, other in zip(whole, _compiled(build, values), strict=True):
        assert one.tobytes() == other.tobytes()


def _turned(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.relu(x @ gx.transpose(w) + b) * z


def _far_apart(x: Any, w: Any, b: Any, z: Any) -> Any:
    return x[:, 7 : 7 + w.shape[1]] @ gx.transpose(w) + z[:, : w.shape[0]]


def _columns_far_apart(x: Any, w: Any, b: Any, z: Any) -> Any:
    return gx.transpose(w) @ x[:, 16:48] - b[:32]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", [_turned, _far_apart, _columns_far_apart])
@pytest.mark.parametrize("sizes", [(96, 30, 96), (61, 17, 45), (128, 16, 32)], ids=str)
def test_packed_operands_have_the_bits_of_the_family(build, sizes, dtype, monkeypatch):
    rows, depth, columns = sizes
    values = _values(dtype, rows, depth, columns)
    generator = np.random.default_rng(4)
    values["w"] = generator.normal(size=(columns, depth)).astype(dtype)
    if build is not _turned:
        values["x"] = generator.normal(size=(rows, 256)).astype(dtype)
    if build is _columns_far_apart:
        values["w"] = generator.normal(size=(rows, 40)).astype(dtype)
    asked: list[set[str]] = []

    def packed(contract: Contract, machine: Machine) -> set[str]:
        asked.append(short_product.short_kernels(contract, machine))
        return asked[-1]

    monkeypatch.setattr(printing, "short_kernels", packed)
    whole = _compiled(build, values)
    if build is not _columns_far_apart:
        assert any(asked) or not Machine.host().has_masks
    monkeypatch.setattr(printing, "is_short", lambda contract, machine: False)
    monkeypatch.setattr(printing, "is_direct", lambda contract, machine: False)
    for one, other in zip(whole, _compiled(build, values), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "uint16", "int32"])
@pytest.mark.parametrize(("source", "columns"), [("float32", 33), ("float64", 17)])
def test_a_last_column_writes_nothing_beside_its_element(dtype, source, columns):
    x, w = gx.symbol("x", (24, 5), source), gx.symbol("w", (5, columns), source)
    product = (x @ w).astype(dtype)
    f = gx.compile([x, w], product, options=gx.Options(cache=False, threads=1))
    a, b = (np.ones(each.shape, source) for each in (x, w))
    room = np.full(24 * columns + 16, 77).astype(dtype)
    kept = room[24 * columns :].copy()
    found = f(a, b, out=room[: 24 * columns].reshape(24, columns))
    np.testing.assert_array_equal(found, np.full((24, columns), 5).astype(dtype))
    np.testing.assert_array_equal(room[24 * columns :], kept)


@pytest.mark.parametrize("batched", [False, True])
def test_transposed_and_batched_operands(batched):
    generator = np.random.default_rng(5)
    x = generator.normal(size=(3, 20, 14) if batched else (20, 14))
    w = generator.normal(size=(3, 20, 40) if batched else (20, 40))
    a, b = gx.symbol("a", x.shape), gx.symbol("b", w.shape)
    turned = gx.transpose(a, (0, 2, 1)) if batched else gx.transpose(a)
    f = gx.compile([a, b], gx.maximum(turned @ b, 0.5), options=gx.Options(cache=False))
    exact = np.maximum(np.swapaxes(x, -1, -2) @ w, 0.5)
    np.testing.assert_allclose(f(x, w), exact, rtol=1e-13, atol=1e-13)


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
    _compiled(_bias, _values(dtype, 30, 7, 48))
    machine = PRESETS[name]
    (kernel,) = contracts
    assert short_product.is_short(kernel.nest, machine)
    text = short_product.short_product_module(kernel, machine, "kernel").text
    llvm.parse_assembly(text).verify()
    lanes = machine.vector_bytes // np.dtype(dtype).itemsize
    assert f"<{lanes} x {'float' if dtype == 'float32' else 'double'}>" in text


def test_long_products_are_left_to_the_family(monkeypatch):
    asked: list[bool] = []

    def counted(contract: Contract, machine: Machine) -> bool:
        asked.append(short_product.is_short(contract, machine))
        return asked[-1]

    monkeypatch.setattr(printing, "is_short", counted)
    _compiled(_bias, _values("float32", 128, 128, 128))
    _compiled(_bias, _values("float32", 1, 40, 40))
    assert asked and not any(asked)
