"""Does a float of 16 bits round where it should, and nowhere else?

Each node computes in float32 and rounds to its dtype, fused or not; sums of many terms are carried
in float32 and rounded once. What is expected here is written with float32 arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import EITHER_ZERO, ULP, Case, backends, check_exact, evaluator, run, spacing
from samples import ARITY, HALVES, bit_patterns, results, samples

import graphc as gx
from graphc.op import REGISTRY

each_half = pytest.mark.parametrize("dtype", HALVES)
UNARY = [n for n, arity in ARITY.items() if arity == 1 and HALVES[0] in samples(n)[0].dtypes]


def rounded(array: Any, dtype: str) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(array, np.float32).astype(gx.dtypes.as_dtype(dtype))


def single(array: Any) -> Any:
    return np.asarray(array).astype(np.float32)


@each_half
@pytest.mark.parametrize("backend", backends())
def test_every_node_of_a_fused_kernel_rounds(dtype: str, backend: str) -> None:
    random = np.random.default_rng(1)
    arrays = [bit_patterns(dtype, 500, random) for _ in range(3)]
    x, y, z = symbols = [gx.symbol(n, (500,), dtype) for n in "xyz"]
    product, quotient = x * y, x / (y + z)
    outputs = [product + z, quotient * quotient - x, gx.sqrt(abs(product)) + 0.1 * z]
    with np.errstate(all="ignore"):
        a, b, c = map(single, arrays)

        def node(value: Any) -> Any:
            return single(rounded(value, dtype))

        ab, q = node(a * b), node(a / node(b + c))
        tenth = single(rounded(0.1, dtype))
        want = [ab + c, node(q * q) - a, node(np.sqrt(np.abs(ab))) + node(tenth * c)]
    for got, expected in zip(run(backend, Case(symbols, outputs), arrays), want, strict=True):
        check_exact(got, rounded(expected, dtype), f"{dtype} on {backend}")


@each_half
@pytest.mark.parametrize("backend", [*backends(), "evaluator"])
def test_sums_are_carried_in_float32(dtype: str, backend: str) -> None:
    count = 6000  # ones: a float16 stops at 2048, a bfloat16 at 256
    ones = np.ones((1, count), gx.dtypes.as_dtype(dtype))
    x = gx.symbol("x", (1, count), dtype)
    where = gx.symbol("where", (count,), "int64")
    outputs = [
        gx.sum(x),
        gx.sum(x, axis=0)[:3],
        x @ gx.transpose(x),
        gx.mean(x),
        gx.prod(x * 1.5, axis=0)[:2],
        gx.grad(gx.sum(gx.take(x[0, :3], where)), x),
    ]
    arrays = [ones, np.zeros(count, np.int64)]
    if backend == "evaluator":
        got = evaluator([x, where], outputs, arrays)
    else:
        got = run(backend, Case([x, where], outputs), arrays)
    gradient = np.zeros((1, count))
    gradient[0, 0] = count
    want = [count, np.ones(3), [[count]], 1, [1.5, 1.5], gradient]
    for result, expected in zip(got, want, strict=True):
        check_exact(np.asarray(result), rounded(expected, dtype), f"{dtype} on {backend}")


@each_half
def test_a_partial_sum_may_leave_the_range(dtype: str) -> None:
    largest = {"float16": 60000.0, "bfloat16": 3e38}[dtype]
    scale = 1.0 if dtype == "float16" else 0.25  # float32 has the range of bfloat16
    values = rounded([largest * scale, largest * scale, -largest * scale], dtype)
    x = gx.symbol("x", (3,), dtype)
    got = gx.compile([x], [gx.sum(x), gx.mean(x), gx.prod(x / x)])(values)
    check_exact(got[0], values[0].reshape(()), dtype)
    check_exact(got[1], rounded(np.float32(values[0]) / 3, dtype), dtype)


@each_half
@pytest.mark.parametrize("backend", ["interpreter", "llvm-1"])
@pytest.mark.parametrize("name", UNARY)
@pytest.mark.slow
def test_a_function_of_every_value(name: str, dtype: str, backend: str) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(gx.dtypes.as_dtype(dtype))
    x = gx.symbol("x", values.shape, dtype)
    outputs = results(REGISTRY[name](x))
    wants = evaluator([x], outputs, [values])
    for got, want in zip(run(backend, Case([x], outputs), [values]), wants, strict=True):
        if name not in ULP:
            check_exact(got, want, f"{name} {dtype}", either_zero=name in EITHER_ZERO)
            continue
        finite = np.isfinite(want)
        check_exact(np.where(finite, 0, single(got)), np.where(finite, 0, single(want)), name)
        with np.errstate(all="ignore"):
            apart = np.abs(single(got) - single(want)) / single(spacing(want))
        assert np.all(apart[finite] <= 1), "float32 is exact to within an ULP of 16 bits"


@each_half
def test_derivatives_are_of_the_dtype_and_near(dtype: str) -> None:
    eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    values = rounded(np.linspace(0.2, 1.8, 9), dtype)
    x, wide = gx.symbol("x", (9,), dtype), gx.symbol("wide", (9,), "float64")

    def cost(v: Any) -> Any:
        return gx.sum(gx.tanh(v) * gx.exp(-v) + gx.sqrt(v) / (1 + v * v) + gx.log(v))

    narrow, exact = gx.grad(cost(x), x), gx.grad(cost(wide), wide)
    assert narrow.dtype == dtype
    (want,) = gx.evaluate([exact], {wide: values.astype(np.float64)})
    for got in (gx.evaluate([narrow], {x: values})[0], gx.compile([x], narrow)(values)):
        assert got.dtype == np.dtype(gx.dtypes.as_dtype(dtype))
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=16 * eps, atol=16 * eps)


def test_integers_have_no_derivative() -> None:
    for dtype in ("int8", "uint16", "uint64"):
        x = gx.symbol("x", (3,), dtype)
        with pytest.raises(gx.GraphError):
            gx.grad(gx.sum(x), x)
