"""Are many small products one element-wise kernel, and right for every order of their axes?"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.loops import Contract

QUICK = gx.Options(cache=False, threads=1)
RANDOM = np.random.default_rng(31)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    ("labels", "shapes"),
    [
        ("bij,bjk->bik", ((50, 4, 3), (50, 3, 5))),
        ("bij,bkj->bik", ((50, 3, 4), (50, 5, 4))),
        ("bji,bjk->bik", ((50, 3, 4), (50, 3, 2))),
        ("ijb,jkb->bki", ((3, 3, 17), (3, 2, 17))),
        ("abij,abjk->abik", ((5, 7, 2, 2), (5, 7, 2, 2))),
        ("baij,bj->bai", ((40, 2, 2, 6), (40, 6))),
        ("bi,bj->bij", ((64, 3), (64, 8))),
        ("bij,jk->bik", ((50, 4, 3), (3, 5))),
    ],
)
def test_any_order_of_axes(labels: str, shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    values = [RANDOM.integers(-4, 5, shape).astype(dtype) for shape in shapes]
    symbols = [gx.symbol(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)]
    compiled = gx.compile(symbols, gx.einsum(labels, *symbols), options=QUICK)
    np.testing.assert_array_equal(compiled(*values), np.einsum(labels, *values))


def test_what_is_done_with_small_products_is_done_in_their_kernel() -> None:
    """But what is dear to compute is not computed for each sum that it is in."""
    for extents, dear, one in (
        ((3, 3, 3), False, True),
        ((8, 8, 8), False, True),
        ((9, 3, 3), False, False),
        ((3, 3, 3), True, False),
    ):
        m, k, n = extents
        a, b, c = gx.symbol("a", (100, m, k)), gx.symbol("b", (100, k, n)), gx.symbol("c", (n,))
        right = gx.exp(b) if dear else 2 * b
        compiled = gx.compile([a, b, c], gx.tanh(a @ right + c), options=QUICK)
        bodies = (kernel.body.statements for kernel in compiled.program.kernels())
        products = [s for body in bodies for s in body if isinstance(s, Contract)]
        assert bool(products) != one
        values = [RANDOM.normal(size=node.shape) for node in (a, b, c)]
        operand = np.exp(values[1]) if dear else 2 * values[1]
        want = np.tanh(values[0] @ operand + values[2])
        np.testing.assert_allclose(compiled(*values), want, 1e-12, 1e-12)


def test_named_numbers_of_products_and_their_gradients() -> None:
    a, b = gx.symbol("a", ("n", 3, 3)), gx.symbol("b", ("n", 3, 3))
    loss = gx.sum((a @ b) ** 2)
    compiled = gx.compile([a, b], gx.grad(loss, [a, b]), options=QUICK)
    for count in (0, 1, 30):
        x, y = RANDOM.normal(size=(2, count, 3, 3))
        got = compiled(x, y)
        slope = 2 * (x @ y)
        np.testing.assert_allclose(got[0], slope @ y.transpose(0, 2, 1), 1e-11, 1e-11)
        np.testing.assert_allclose(got[1], x.transpose(0, 2, 1) @ slope, 1e-11, 1e-11)
