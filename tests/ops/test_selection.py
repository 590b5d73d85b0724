"""Are the k largest of a long line the first of a stable sort?  Ties, NaN and both zeros too."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx

QUICK = gx.Options(cache=False, threads=1)
RANDOM = np.random.default_rng(23)


def first_of_sort(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What a stable sort from the largest on puts first; NaN is larger than every number."""
    turned = np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    order = (x.shape[-1] - 1 - turned)[..., :k]
    return np.take_along_axis(x, order, -1), order


def lines(kind: str, *shape: int) -> np.ndarray:
    drawn = RANDOM.normal(size=shape)
    makers = {
        "float32": lambda: drawn.astype("f4"),
        "float64": lambda: drawn,
        "few values": lambda: np.round(drawn),
        "one value": lambda: np.zeros(shape),
        "rising": lambda: np.sort(drawn, -1),
        "falling": lambda: -np.sort(drawn, -1),
        "zeros of both signs": lambda: np.where(drawn > 0, 0.0, -0.0),
        "with NaN": lambda: np.where(drawn > 1.5, np.nan, drawn),
        "with infinities": lambda: np.where(abs(drawn) > 0.5, np.sign(drawn) * np.inf, drawn),
        "least": lambda: np.full(shape, -np.inf),
        "int8": lambda: RANDOM.integers(-128, 128, shape).astype("i1"),
        "uint64": lambda: RANDOM.integers(0, 2**63, shape).astype("u8") * 2,
        "float16": lambda: drawn.astype("f2"),
    }
    return makers[kind]()


KINDS = ["float32", "float64", "few values", "one value", "rising", "falling", "with NaN", "least"]
KINDS += ["zeros of both signs", "with infinities", "int8", "uint64", "float16"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_of_a_stable_sort(kind: str) -> None:
    shapes = ((5003,), 7), ((3, 4096), 64), ((2, 2049), 128), ((100_003,), 1), ((20, 301), 16)
    for shape, k in shapes:
        x = lines(kind, *shape)
        node = gx.symbol("x", x.shape, x.dtype)
        want = first_of_sort(x, k)
        outputs = list(gx.topk(node, k))
        got = gx.compile([node], outputs, options=QUICK)(x)
        for results in (got, gx.evaluate(outputs, {node: x})):
            for one, other in zip(results, want, strict=True):
                np.testing.assert_array_equal(one, other)


def test_along_another_axis_and_its_gradient() -> None:
    x = lines("float64", 4000, 3)
    node = gx.symbol("x", x.shape)
    values, positions = gx.topk(node, 5, axis=0)
    (gradient,) = gx.grad(gx.sum(values**2), [node])
    got = gx.compile([node], [values, positions, gradient], options=QUICK)(x)
    want, order = (each.T for each in first_of_sort(x.T, 5))
    np.testing.assert_array_equal(got[0], want)
    np.testing.assert_array_equal(got[1], order)
    slopes = np.zeros_like(x)
    np.put_along_axis(slopes, order, 2 * want, 0)
    np.testing.assert_allclose(got[2], slopes)


def test_a_few_of_a_long_line_are_found_without_sorting_it() -> None:
    x = gx.symbol("x", (1_000_000,), "float32")
    compiled = gx.compile([x], list(gx.topk(x, 100)), options=QUICK)
    scratch = [b for kernel in compiled.program.kernels() for b in kernel.buffers]
    assert not [b for b in scratch if b.dtype != "float32" and b.shape[-1] >= 100_000]
