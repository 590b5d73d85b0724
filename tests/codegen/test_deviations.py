"""Are variances of large arrays, read once in blocks, as exact as in two passes?"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.passes.deviations import read_once
from graphc.codegen.tactics import GPU, NATIVE
from graphc.graph import Graph

CASES = [
    ((4099, 300), (0,)),  # a rest of a block
    ((200_003, 3), (0,)),  # several rows as one, and a rest
    ((600_001,), None),
    ((5, 140_000), (1,)),
    ((700, 50, 30), (0, 2)),
    ((40, 6, 3000), (0, 2)),
    ((3, 1500, 90), (1,)),
]


def _moments(x: np.ndarray, axis: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    symbol = gx.symbol("x", x.shape, str(x.dtype))
    f = gx.compile([symbol], [gx.mean(symbol, axis=axis), gx.var(symbol, axis=axis)])
    return f(x)


@pytest.mark.parametrize(("shape", "axis"), CASES)
@pytest.mark.parametrize("far", [0.0, 3e3])
def test_moments_are_exact(shape: tuple[int, ...], axis: tuple[int, ...], far: float) -> None:
    x = np.random.default_rng(1).standard_normal(shape, "f4") + np.float32(far)
    mean, variance = _moments(x, axis)
    exact = x.astype("f8")
    eps = np.finfo("f4").eps
    np.testing.assert_allclose(mean, exact.mean(axis=axis), rtol=4 * eps, atol=40 * eps)
    # the centre is rounded too: its error is squared, and half a unit of the far values
    slack = 40 * eps + (2 * far * eps) ** 2
    np.testing.assert_allclose(variance, exact.var(axis=axis), rtol=slack)


def test_no_order_of_the_elements_spoils_it() -> None:
    # Pivots from elements that are all far from the others, and from a ramp's end.
    step = np.zeros((8192, 40), "f4")
    step[::256], step[1::256] = 1e4, 1e4
    step[4096:] += np.random.default_rng(2).standard_normal((4096, 40), "f4")
    ramp = np.linspace(-1, 1, 8192 * 40, dtype="f4").reshape(8192, 40)
    for x in (step, ramp, ramp[::-1].copy()):
        _, variance = _moments(x, (0,))
        np.testing.assert_allclose(variance, x.astype("f8").var(axis=0), rtol=2e-6)


def test_nan_and_infinities() -> None:
    x = np.random.default_rng(3).standard_normal((4096, 100), "f4")
    x[0, 1], x[4000, 2], x[7, 3], x[9, 4], x[4095, 4] = np.nan, np.inf, -np.inf, np.inf, -np.inf
    x[:, 5] = 2.5e38  # sums overflow
    mean, variance = _moments(x, (0,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = x.mean(axis=0), x.var(axis=0)
    np.testing.assert_allclose(mean, wanted[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance[:5], wanted[1][:5], rtol=1e-4)


def test_blocks_that_begin_with_huge_elements_have_finite_sums() -> None:
    x = np.zeros((4096, 512), "f4")
    x[:16] = 1e37  # times the elements of a block: more than a float holds
    mean, _ = _moments(x, (0,))
    np.testing.assert_allclose(mean, x.astype("f8").mean(axis=0), rtol=1e-6)


def test_doubles_and_derivatives() -> None:
    x = np.random.default_rng(4).standard_normal((3000, 120))
    symbol = gx.symbol("x", x.shape, "float64")
    spread = gx.std(symbol, axis=0)
    f = gx.compile([symbol], [spread, gx.grad(gx.sum(spread), symbol)])
    value, gradient = f(x)
    np.testing.assert_allclose(value, x.std(axis=0), rtol=1e-14)
    np.testing.assert_allclose(gradient, (x - x.mean(axis=0)) / (3000 * x.std(axis=0)), rtol=1e-11)


def test_only_where_a_cache_does_not_hold_it() -> None:
    def changes(shape: tuple[int, ...], axis: int, tactics: object = NATIVE) -> bool:
        x = gx.symbol("x", shape, "float32")
        rewritten = gx.compile([x], gx.var(x, axis=axis)).rewritten
        assert isinstance(rewritten, Graph)
        return read_once(rewritten, tactics) is not rewritten

    assert changes((4096, 512), 0)
    assert not changes((256, 2048), 0)
    assert not changes((4096, 512), 1)
    assert not changes((4096, 512), 0, GPU)
