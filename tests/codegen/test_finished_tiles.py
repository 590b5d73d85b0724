"""Are products whose full tiles are finished in registers the same, to the bit, as those of which
every tile is handed to the epilogue?
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm import contract
from graphc.codegen.machine import KIB, PRESETS, Machine
from graphc.runtime import printing

# Rows, depth, columns: whole tiles; edges below and on the right, below, both; few rows; blocks of
# k; a short k.
SIZES = [(96, 300, 96), (97, 300, 101), (97, 300, 96), (131, 257, 77), (7, 400, 520)]
SIZES += [(50, 2100, 48), (200, 9, 160)]

Build = Callable[..., Any]


def _biased(x: Any, w: Any, b: Any, z: Any, v: Any) -> Any:
    return gx.relu(x @ w + b)


def _moved(x: Any, w: Any, b: Any, z: Any, v: Any) -> Any:
    """A step with momentum: two operands beside the product, and two results."""
    momentum = 0.9 * v + x @ w
    return z - 0.1 * momentum, momentum


def _several(x: Any, w: Any, b: Any, z: Any, v: Any) -> Any:
    product = x @ w
    return product, gx.where(product > b, product, z).astype("float16"), product > 0


def _turned(x: Any, w: Any, b: Any, z: Any, v: Any) -> Any:
    """Both operands, and what is beside the product, lie the other way round."""
    return gx.transpose(gx.transpose(x)) @ w - gx.transpose(gx.transpose(z) * 2) * b


def _scaled(x: Any, w: Any, b: Any, z: Any, v: Any) -> Any:
    """One operand is made in packing."""
    return gx.maximum(x, 0) @ w * v


BUILDS = [_biased, _moved, _several, _turned, _scaled]


def _values(dtype: str, rows: int, depth: int, columns: int) -> dict[str, Any]:
    generator = np.random.default_rng(rows + columns)
    area = (rows, columns)
    shapes = {"x": (rows, depth), "w": (depth, columns), "b": (columns,), "z": area, "v": area}
    values = {name: generator.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    values["x"][0, 0] = values["z"][-1, 0] = np.nan
    values["w"][-1, -1] = np.inf
    values["v"][0] = -0.0
    values["b"][: columns // 2] = -np.inf
    return values


def _compiled(build: Build, values: dict[str, Any], named: bool = False) -> Any:
    """Compiled for these sizes, or, `named`, for any."""
    names = {"x": ("m", "k"), "w": ("k", "n"), "b": ("n",), "z": ("m", "n"), "v": ("m", "n")}
    shapes = names if named else {k: v.shape for k, v in values.items()}
    symbols = [gx.symbol(k, shapes[k], str(v.dtype)) for k, v in values.items()]
    results = build(*symbols)
    listed = list(results) if isinstance(results, tuple) else [results]
    return gx.compile(symbols, listed, options=gx.Options(cache=False))


@pytest.fixture(params=["host", "small"])
def caches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those of the host, and some so small that k is cut and operands are packed."""
    if request.param == "small":
        sizes = {"l1": 8 * KIB, "l2": 64 * KIB, "l3": 512 * KIB}
        machine = dataclasses.replace(Machine.host(), **sizes)
        monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    yield


@pytest.mark.usefixtures("caches")
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_as_by_the_epilogue(
    build: Build, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [_values(dtype, *sizes) for sizes in SIZES]
    any_size, known = _compiled(build, cases[0], named=True), _compiled(build, cases[1])
    monkeypatch.setattr(contract, "has_finisher", lambda kernel, machine: False)
    plain_any, plain = _compiled(build, cases[0], named=True), _compiled(build, cases[1])
    for finished, other in ((any_size, plain_any), (known, plain)):
        assert "_finisher(" in finished.llvm_ir and "_finisher(" not in other.llvm_ir
    runs = [(any_size, plain_any, values) for values in cases] + [(known, plain, cases[1])]
    for finished, other, values in runs:
        given = tuple(values.values())
        for got, wanted in zip(finished(*given), other(*given), strict=True):
            np.testing.assert_array_equal(got, wanted)
            if got.dtype.kind == "f":
                zero = wanted == 0
                assert np.array_equal(np.signbit(got)[zero], np.signbit(wanted)[zero])


@pytest.mark.parametrize("build", BUILDS)
def test_values_are_those_of_numpy(build: Build) -> None:
    values = _values("float64", 96, 300, 101)
    compiled = _compiled(build, values)
    symbols = [gx.symbol(k, v.shape, str(v.dtype)) for k, v in values.items()]
    results = build(*symbols)
    listed = list(results) if isinstance(results, tuple) else [results]
    for got, node in zip(compiled(*values.values()), listed, strict=True):
        wanted = np.asarray(gx.evaluate(node, dict(zip(symbols, values.values(), strict=True))))
        bound = 1e-3 if got.dtype == np.float16 else 1e-9
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(
            got.astype(float), wanted.astype(float), rtol=bound, atol=bound
        )


def test_batches_threads_and_arrays_that_are_written_over() -> None:
    generator = np.random.default_rng(4)
    x, w = generator.normal(size=(3, 200, 90)), generator.normal(size=(90, 160))
    v = generator.normal(size=(3, 200, 160))
    symbols = [gx.symbol(k, a.shape) for k, a in zip("xwv", (x, w, v), strict=True)]
    result = gx.relu(symbols[0] @ symbols[1]) + symbols[2]
    found = []
    for threads in (1, 4):
        options = gx.Options(cache=False, threads=threads)
        compiled = gx.compile(symbols, result, options=options)
        assert "_finisher(" in compiled.llvm_ir
        found.append(compiled(x, w, v))
        over = v.copy()
        compiled(x, w, over, out=over)
        found.append(over)
    np.testing.assert_allclose(found[0], np.maximum(x @ w, 0) + v, rtol=1e-12, atol=1e-12)
    for each in found[1:]:
        np.testing.assert_array_equal(each, found[0])


def test_what_takes_long_is_left_to_the_epilogue() -> None:
    """Routines need the registers that hold the sums; a sum as it is needs nothing."""
    values = _values("float32", *SIZES[0])
    assert "_finisher(" in _compiled(_moved, values).llvm_ir
    for build in (lambda x, w, b, z, v: gx.tanh(x @ w + z), lambda x, w, b, z, v: x @ w):
        assert "_finisher(" not in _compiled(build, values).llvm_ir


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", [_moved, _several])
def test_presets_compile(build: Build, dtype: str, name: str) -> None:
    """With the registers of AVX-512 no vector is put aside, be it in the middle of the sums."""
    compiled = _compiled(build, _values(dtype, *SIZES[0]))
    machine = Machine.preset(name)
    kernels = compiled._impl.program.kernels()
    text = next(printing.kernel_text(k, machine).text for k in kernels if k.title != "copy")
    assert "_finisher(" in text
    module = llvm.parse_assembly(text)
    module.verify()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=1
    )
    _, kernel = target.emit_assembly(module).split("_finisher:", 1)
    if machine.has_masks:
        assert not re.search(r"%[xyz]mm\d+, -?\d*\(%rsp\)", kernel.split("Lfunc_end")[0])
