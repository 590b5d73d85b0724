"""Are rows that are summed up together the same as each by itself, whatever their number?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm.kernel import kernel_module
from graphc.codegen.llvm.row_sums import row_sums
from graphc.codegen.loops import LINE_BYTES
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import For, walk

FRESH = gx.Options(cache=False, threads=1)


def logistic(rows: Any, columns: int, dtype: str) -> Any:
    """What a regression computes: for each row, over the rows, and by the columns."""
    x, w = gx.symbol("x", (rows, columns), dtype), gx.symbol("w", (columns,), dtype)
    z = x @ w
    value = gx.softplus(z).sum()
    return gx.compile([x, w], [gx.exp(-z * z), value, gx.grad(value, w)], options=FRESH)


def data(rows: int, columns: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(columns)
    x = generator.normal(size=(rows, columns)).astype(dtype)
    x[rows // 2 :: 7] *= -0.0
    return x, generator.normal(size=columns).astype(dtype)


@pytest.mark.parametrize(("dtype", "columns"), [("float32", 32), ("float32", 37), ("float64", 16)])
def test_each_row_has_the_bits_that_it_has_alone(dtype: str, columns: int) -> None:
    f = logistic("n", columns, dtype)
    loops = [s for kernel in f.kernels for s in walk(kernel.body) if isinstance(s, For)]
    wide = Machine.host().vector_bytes * 8 // np.dtype(dtype).itemsize // 8 >= 4
    assert any(row_sums(loop, Machine.host().vector_bytes) for loop in loops) == wide
    x, w = data(75, columns, dtype)
    alone = [f(x[i : i + 1], w)[0] for i in range(len(x))]
    for count in (0, 1, 15, 16, 17, 32, 47, 75):
        found, value, gradient = f(x[:count], w)
        np.testing.assert_array_equal(found, np.concatenate([np.zeros(0, dtype), *alone[:count]]))
        z = x[:count].astype(float) @ w.astype(float)
        bound = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(value, np.logaddexp(0, z).sum(), rtol=bound)
        exact = (1 / (1 + np.exp(-z))) @ x[:count].astype(float)
        np.testing.assert_allclose(gradient, exact, rtol=bound, atol=20 * bound)


def test_only_what_is_read_of_a_row_is_kept() -> None:
    """The sum, its term of the value, and its factor in the gradient; not what these are made of.
    """
    x, w = gx.symbol("x", (4096, 32), "float32"), gx.symbol("w", (32,), "float32")
    labels = gx.symbol("labels", (4096,), "float32")
    z = x @ w
    value = gx.mean(gx.softplus(z) - labels * z)
    f = gx.compile([x, w, labels], [value, gx.grad(value, w)], options=FRESH)
    kept = [b for kernel in f.kernels for b in kernel.buffers if b.space == "worker"]
    assert len(kept) == 3


def test_loops_that_do_more_than_to_sum_up_are_left_alone() -> None:
    x = gx.symbol("x", (64, 32), "float32")
    y = gx.symbol("y", (32,), "float32")
    f = gx.compile([x, y], gx.softmax(x * y, axis=1), options=FRESH)
    loops = [s for kernel in f.kernels for s in walk(kernel.body) if isinstance(s, For)]
    assert not any(row_sums(loop, 64) for loop in loops)


@pytest.mark.parametrize("rows", [1, 16, 75])
def test_rows_that_are_reduced_twice_wait_for_the_first_result(rows: int) -> None:
    x = gx.symbol("x", (rows, 16), "float32")
    least = gx.min(x, axis=1, keepdims=True)
    f = gx.compile([x], gx.sum(gx.where(x > least, x, 0), axis=1), options=FRESH)
    value = np.random.default_rng(rows).integers(-3, 4, (rows, 16)).astype("f4")
    above = value > value.min(axis=1, keepdims=True)
    np.testing.assert_array_equal(f(value), np.where(above, value, 0).sum(axis=1))


@pytest.mark.parametrize(("dtype", "columns"), [("float32", 32), ("float64", 150), ("float32", 37)])
def test_sums_of_nothing_but_negative_zeros_are_positive(dtype: str, columns: int) -> None:
    x = gx.symbol("x", (19, columns), dtype)
    f = gx.compile(x, gx.sum(x, axis=1), options=FRESH)
    sums = f(np.full((19, columns), -0.0, dtype))
    assert (sums == 0).all()
    assert not np.signbit(sums).any()


@pytest.mark.parametrize("columns", [16, 37, 128, 150])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_any_length_are_reduced_by_any_combiner(dtype: str, columns: int) -> None:
    """Vectors that are written out, a loop over the others, and a rest."""
    x, w = gx.symbol("x", (37, columns), dtype), gx.symbol("w", (columns,), dtype)
    outputs = [x @ w, gx.max(x, axis=1), gx.sum(x * x * w, axis=1), gx.prod(x * 0.5 + w, axis=1)]
    f = gx.compile([x, w], outputs, options=FRESH)
    generator = np.random.default_rng(columns)
    a = generator.integers(-2, 3, (37, columns)).astype(dtype)
    b = generator.integers(1, 3, columns).astype(dtype)
    a[5, columns // 2] = np.nan
    halves = a * np.dtype(dtype).type(0.5)
    wanted = [a @ b, a.max(axis=1), (a * a * b).sum(axis=1), (halves + b).prod(axis=1)]
    for found, exact in zip(f(a, b), wanted, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-5)


@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_terms_are_not_added_to_zeros_and_weights_are_read_once(name: str) -> None:
    """Of as many rows as a register has lanes, which are reduced together."""
    x, w = gx.symbol("x", (4096, 32), "float32"), gx.symbol("w", (32,), "float32")
    (kernel,) = gx.compile([x, w], x @ w, options=FRESH).kernels
    text = kernel_module(kernel, Machine.preset(name), "f").text
    count = Machine.preset(name).vector_bytes // 4
    # One row is written by itself.
    assert len(re.findall(r"= fmul <32 x float>", text)) == count + 1
    assert len(re.findall(r"load <32 x float>", text)) == count + 1 + 2
    assert len(re.findall(r"= fadd <32 x float>", text)) == 1
    assert len(re.findall(rf"= fadd <{count} x float> %\w+, splat", text)) == 1


def test_the_next_block_of_rows_is_asked_for_while_something_is_computed() -> None:
    texts = {}
    for rows in (400_000, 512):
        x, w = gx.symbol("x", (rows, 32), "float32"), gx.symbol("w", (32,), "float32")
        y = gx.symbol("y", (rows,), "float32")
        z = x @ w
        value = gx.mean(gx.softplus(z) - y * z)
        texts[rows] = gx.compile([x, y, w], [value, gx.grad(value, w)], options=FRESH).llvm_ir
    asked = "call void @llvm.prefetch"
    # In the loop in lanes, a row in each: as many rows of 128 bytes as lanes, each time.
    bodies = [part for part in re.split(r"\n\w+:", texts[400_000]) if asked in part]
    assert len(bodies) == 1
    lanes = {int(n) for n in re.findall(r"load <(\d+) x float>", bodies[0])}
    assert bodies[0].count(asked) * LINE_BYTES == max(lanes) * 32 * 4
    assert asked not in texts[512]
