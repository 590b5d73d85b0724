"""Do rows of which every lane has one arrive whole, and nothing beside them?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm.rows import rows_of, rows_read
from graphc.codegen.loops import Buffer
from graphc.codegen.machine import PRESETS, Machine
from graphc.codegen.scalar import Scope
from graphc.dims import Dim

OPTIONS = gx.Options(threads=1, cache=False)
DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int32", "bool"]


def columns_of(count: int, dtype: str) -> tuple[gx.Node, gx.Node]:
    """Rows of `count` elements, each column computed by a formula of its own."""
    x = gx.symbol("x", ("n",), dtype)
    if dtype == "bool":
        made = [x if k % 2 else ~x for k in range(count)]
    else:
        made = [x * (k + 1) + k // 3 for k in range(count)]
    return x, gx.stack([gx.cast(each, dtype) for each in made], -1)


def given(length: int, dtype: str) -> Any:
    numbers = np.arange(length) % 7 - 3
    if dtype == "bool":
        return numbers > 0
    return gx.evaluate(gx.cast(gx.constant(numbers), dtype), {})


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 15, 16, 17, 30])
def test_rows_of_any_length(count: int) -> None:
    x, rows = columns_of(count, "float64")
    compiled = gx.compile(x, rows, options=OPTIONS)
    for length in (0, 1, 7, 8, 31, 33, 200):
        array = given(length, "float64")
        np.testing.assert_array_equal(compiled(array), gx.evaluate(rows, {x: array}))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_dtype(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for count in (2, 6, 9):
        x, rows = columns_of(count, dtype)
        array = given(77, dtype)
        found, wanted = gx.compile(x, rows, options=OPTIONS)(array), gx.evaluate(rows, {x: array})
        np.testing.assert_array_equal(found.astype("f8"), wanted.astype("f8"))


@pytest.mark.parametrize("name", ["sse2", "avx2"])
def test_rows_on_machines_of_shorter_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Machine.host()
    if name == "avx2" and host.vector_bytes < 32 or not host.triple.startswith("x86_64"):
        pytest.skip(f"this machine has no {name}")
    machine = dataclasses.replace(PRESETS[name], triple=host.triple)
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    for dtype in ("float32", "float64"):
        for count in (2, 3, 7, 18):
            x, rows = columns_of(count, dtype)
            array = given(45, dtype)
            found = gx.compile(x, rows, options=OPTIONS)(array)
            np.testing.assert_array_equal(found, gx.evaluate(rows, {x: array}))


def test_whole_vectors_of_lanes_scatter_nothing() -> None:
    x, rows = columns_of(15, "float64")
    text = gx.compile(x, rows, options=OPTIONS).llvm_ir
    scattered = [line for line in text.splitlines() if "call void @llvm.masked.scatter" in line]
    assert not any("splat (i1 true)" in line for line in scattered)


def test_what_lies_between_rows_is_left_alone() -> None:
    """Columns of several kernels, written into one array."""
    x, y = gx.symbol("x", ("n",)), gx.symbol("y", ("n", 4))
    rows = gx.concatenate([gx.stack([x, x * x, gx.exp(x)], -1), y @ y[:4], gx.stack([-x], -1)], -1)
    a = np.linspace(-1, 1, 83)
    b = np.random.default_rng(3).normal(size=(83, 4))
    found = gx.compile([x, y], rows, options=OPTIONS)(a, b)
    np.testing.assert_allclose(found, gx.evaluate(rows, {x: a, y: b}), rtol=1e-14)
    room = np.full((83 + 2, 8), 7.0)
    gx.compile([x, y], rows, options=OPTIONS)(a, b, out=room[1:-1])
    np.testing.assert_array_equal(room[[0, -1]], np.full((2, 8), 7.0))


def test_a_donated_array_is_read_before_it_is_overwritten() -> None:
    x = gx.symbol("x", (100, 3))
    rows = gx.stack([x[:, 1] + x[:, 2], x[:, 0] * x[:, 2], x[:, 0] - x[:, 1]], -1)
    array = np.random.default_rng(4).normal(size=(100, 3))
    wanted = gx.evaluate(rows, {x: array})
    np.testing.assert_array_equal(gx.compile(x, rows, options=OPTIONS, donate=[x])(array), wanted)


# -- rows that are read ----------------------------------------------------------------------------


def mixed(x: gx.Node, columns: Any) -> gx.Node:
    """What needs some columns of rows, one after the other."""
    y = x[:, columns[0]]
    for k in columns[1:]:
        y = gx.where(x[:, k] > y, y * 2 - x[:, k], y + x[:, k])
    return y


@pytest.mark.parametrize("step", [4, 5, 8, 11, 16, 30])
def test_rows_of_any_length_are_read(step: int) -> None:
    x = gx.symbol("x", ("n", step))
    compiled = gx.compile(x, mixed(x, range(step)), options=OPTIONS)
    for length in (0, 1, 7, 8, 31, 33, 200):
        array = np.random.default_rng(step).normal(size=(length, step))
        wanted = gx.evaluate(mixed(x, range(step)), {x: array})
        np.testing.assert_array_equal(compiled(array), wanted)
        wide = np.zeros((length, step + 3))
        wide[:, 1:-2] = array
        np.testing.assert_array_equal(compiled(wide[:, 1:-2]), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_dtype_are_read(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = gx.symbol("x", ("n", 9), dtype)
    y = gx.stack([x[:, k] for k in (8, 3, 4, 0, 1, 2, 7)], 0)
    array = np.stack([given(77, dtype)[::-1] if k % 2 else given(77, dtype) for k in range(9)], -1)
    array = np.ascontiguousarray(array)
    found = gx.compile(x, y, options=OPTIONS)(array)
    np.testing.assert_array_equal(found.astype("f8"), array.T[[8, 3, 4, 0, 1, 2, 7]].astype("f8"))


@pytest.mark.parametrize("name", ["sse2", "avx2"])
def test_rows_are_read_by_machines_of_shorter_vectors(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Machine.host()
    if name == "avx2" and host.vector_bytes < 32 or not host.triple.startswith("x86_64"):
        pytest.skip(f"this machine has no {name}")
    machine = dataclasses.replace(PRESETS[name], triple=host.triple)
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    for dtype in ("float32", "float64"):
        x = gx.symbol("x", ("n", 7), dtype)
        array = np.random.default_rng(1).normal(size=(45, 7)).astype(dtype)
        found = gx.compile(x, mixed(x, range(7)), options=OPTIONS)(array)
        np.testing.assert_array_equal(found, gx.evaluate(mixed(x, range(7)), {x: array}))


def test_the_last_row_ends_where_its_array_does() -> None:
    """At the end of a page that nobody may read beyond."""
    import ctypes
    import mmap

    page = mmap.PAGESIZE
    room = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    protect = getattr(ctypes.CDLL(None), "mprotect", None)
    if protect is None or protect(ctypes.c_void_p(start + page), page, 0) != 0:
        pytest.skip("no pages can be protected here")
    count = 16
    array = np.frombuffer(room, "f8", count * 11, page - 8 * count * 11).reshape(count, 11)
    array[:] = np.arange(count * 11).reshape(count, 11)
    x = gx.symbol("x", ("n", 11))
    for columns in (range(11), (9, 10), (0, 1, 2, 10)):
        found = gx.compile(x, mixed(x, columns), options=OPTIONS)(array)
        np.testing.assert_array_equal(found, gx.evaluate(mixed(x, columns), {x: array}))


# -- which stores wait -----------------------------------------------------------------------------


def a_body(*places: Any, load: bool = False) -> tuple[Scope, Buffer]:
    """Stores of numbers to places of an array."""
    buffer, body = Buffer("b", "float64", (Dim.symbol("n"), 30)), Scope()
    for k, place in enumerate(places):
        body.store(buffer, place, float(k))
    if load:
        body.load(buffer, places[0])
    return body, buffer


def sizes(body: Scope) -> list[list[int]]:
    rows = rows_of(body, "i", 8, 64)
    return [[len(block.stores) for block in due] for due in rows.due.values()]


def test_blocks_cover_runs_and_wait_for_their_last_store() -> None:
    i = Dim.symbol("i")
    assert sizes(a_body(*((i, k) for k in range(30)))[0]) == [[8], [8], [8], [8]]
    assert sizes(a_body(*((i, k) for k in (4, 3, 0, 1, 2)))[0]) == [[4, 4]]
    assert sizes(a_body((i, 3), (i, 7), (i, 8))[0]) == [[1], [2]]


def test_what_is_read_or_reaches_into_each_other_does_not_wait() -> None:
    i = Dim.symbol("i")
    assert sizes(a_body((i, 0), (i, 1), load=True)[0]) == []
    assert sizes(a_body((i, 0), (i + 1, 0))[0]) == []
    assert sizes(a_body((i, 0), (i, 0))[0]) == []
    assert sizes(a_body((2 * i, 0), (i, 1))[0]) == []
    assert sizes(a_body((0, i), (1, i))[0]) == []


def test_runs_of_loads_are_read_in_blocks() -> None:
    i, buffer, body = Dim.symbol("i"), Buffer("b", "float64", (Dim.symbol("n"), 30)), Scope()
    loads = [body.load(buffer, (i, k)) for k in (0, 1, 2, 3, 4, 9, 20, 21)]
    found = rows_read(body, "i", 8, 64)
    assert [len(found[id(v)].loads) if id(v) in found else 1 for v in loads] == [4] * 5 + [1, 2, 2]
    body.store(buffer, (i, 29), loads[0])
    assert not rows_read(body, "i", 8, 64)
