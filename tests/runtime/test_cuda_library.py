"""Do large products go to cuBLAS if that is asked for, the right way round, and small ones not?"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda import product as cuda_product
from graphc.runtime.cuda import library as cuda_library
from tests.cuda_emulator import emulator

pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
from tests.runtime import fake_cuda
from tests.runtime.fake_cublas import FakeCublas

OPTIONS = gx.Options(cache=False, library="cublas")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCublas]:
    found = FakeCublas(fake_cuda.put_in_place(monkeypatch))
    monkeypatch.setattr(cuda_library, "bindings", lambda: found)
    monkeypatch.setattr(cuda_library, "_LOADED", {})
    monkeypatch.setattr(cuda_library, "WORKSPACE_BYTES", 1024)
    monkeypatch.setattr(cuda_product, "LEAST_OPERATIONS", 2 * 33 * 40 * 36)
    yield found


def _transposed(dtype: str) -> tuple[list[Any], Any]:
    a, b = gx.symbol("a", (36, "m"), dtype), gx.symbol("b", (40, 36), dtype)
    return [a, b], a.T @ b.T


def _batched(dtype: str) -> tuple[list[Any], Any]:
    a, b = gx.symbol("a", (3, "m", 36), dtype), gx.symbol("b", (3, 36, 40), dtype)
    return [a, b], a @ b


def _plain(dtype: str) -> tuple[list[Any], Any]:
    a, b = gx.symbol("a", ("m", 36), dtype), gx.symbol("b", (36, 40), dtype)
    return [a, b], a @ b


def _part(dtype: str) -> tuple[list[Any], Any]:
    a, b = gx.symbol("a", ("m", 50), dtype), gx.symbol("b", (36, 60), dtype)
    return [a, b], a[:, 4:40] @ b[:, 5:45]


SHAPES = {
    _plain: [(33, 36), (36, 40)],
    _transposed: [(36, 33), (40, 36)],
    _batched: [(3, 33, 36), (3, 36, 40)],
    _part: [(33, 50), (36, 60)],
}


@emulator.required
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", SHAPES)
def test_products_are_those_of_numpy(
    make: Callable[[str], Any], dtype: str, library: FakeCublas
) -> None:
    inputs, output = make(dtype)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype(dtype) for shape in SHAPES[make]]
    function = gx.compile(inputs, output, target="cuda", options=OPTIONS)
    wanted = gx.compile(inputs, output)(*arrays)
    for _ in range(3):
        np.testing.assert_allclose(function(*arrays), wanted, rtol=1e-4, atol=1e-4)
    assert function.counts.library_calls == len(library.products) > 0
    assert function.counts.launches == 0
    assert "a plain product: cuBLAS can do it" in str(function.report())
    rows = -1 if make is _transposed else -2
    small = [np.take(arrays[0], range(5), axis=rows), arrays[1]]
    before = len(library.products)
    function(*small)
    assert len(library.products) == before and function.counts.launches == 1  # too few rows


@emulator.required
def test_products_that_may_run_at_once_share_no_workspace(library: FakeCublas) -> None:
    a, b = gx.symbol("a", (64, 64), "float32"), gx.symbol("b", (64, 64), "float32")
    function = gx.compile([a, b], gx.sort(a @ b, axis=1) @ b, target="cuda", options=OPTIONS)
    random = np.random.default_rng(0)
    one, other = (random.normal(size=(64, 64)).astype("f4") for _ in range(2))
    wanted = np.sort(one @ other, axis=1) @ other
    streams = [None, *(int(library.driver._cuStreamCreate(1)[1]) for _ in range(2))]
    for _ in range(3):
        for stream in streams:
            with gx.cuda_stream(stream):
                np.testing.assert_allclose(function(one, other), wanted, rtol=1e-3, atol=1e-3)
    assert function.counts.graphs == len(streams) == len(set(library.workspaces))
    assert len(library.workspaces) == 2 * 2 * len(streams)  # on the stream once, in a graph once


@emulator.required
def test_what_is_more_than_a_product_stays_a_kernel(library: FakeCublas) -> None:
    a, b = gx.symbol("a", (64, 64), "float32"), gx.symbol("b", (64, 64), "float32")
    array = np.eye(64, dtype="f4")
    for output in (gx.tanh(a @ b), a.astype("float16") @ b.astype("float16")):
        function = gx.compile([a, b], output, target="cuda", options=OPTIONS)
        np.testing.assert_allclose(
            np.asarray(function(array, array), "f8"),
            np.asarray(gx.compile([a, b], output)(array, array), "f8"),
            rtol=1e-3,
        )
    assert library.products == []
    own = gx.compile([a, b], a @ b, target="cuda", options=gx.Options(cache=False))
    assert (own(array, array) == array).all() and library.products == []


@emulator.required
def test_without_the_library_kernels_run(
    library: FakeCublas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_library, "bindings", lambda: None)
    a = gx.symbol("a", (64, 64), "float32")
    function = gx.compile([a], a @ a, target="cuda", options=OPTIONS)
    array = np.eye(64, dtype="f4")
    assert (function(array) == array).all() and function.counts.launches == 1
    assert "note: cuBLAS is not installed: pip install nvmath-python" in str(function.report())


def test_unknown_libraries_are_refused() -> None:
    with pytest.raises(ValueError, match="library is one of"):
        gx.Options(library="mkl")


@pytest.mark.skipif(
    importlib.util.find_spec("nvmath") is None, reason="nvmath-python is not installed"
)
def test_the_bindings_take_the_calls() -> None:
    from nvmath.bindings import cublas as real

    for name in ("Operation", "ComputeType", "GemmAlgo"):
        for member in getattr(FakeCublas, name):
            assert int(getattr(getattr(real, name), member.name)) == int(member)
    for name in ("create", "set_stream", "set_workspace", "gemm_strided_batched_ex"):
        wanted = re.findall(r"(\w+)[,)]", getattr(real, name).__doc__.splitlines()[0])
        given = list(inspect.signature(getattr(FakeCublas, name)).parameters)[1:]
        assert len(given) == len([w for w in wanted if w != "intptr_t"]), (wanted, given)
    arguments = (1, 0, 1, 2, 3, 4, 10, 20, 0, 4, 5, 30, 0, 4, 5, 11, 40, 0, 4, 5, 6, 68, -1)
    with pytest.raises(RuntimeError, match="driver is not found"):
        real.gemm_strided_batched_ex(*arguments)
    with pytest.raises(TypeError):
        real.gemm_strided_batched_ex(*arguments[:-1])
