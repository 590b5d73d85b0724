"""Do products of heads, which lie side by side in the rows of sequences, read them in place, and
agree with NumPy?"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx

SIZES = [(2, 3, 5, 8), (3, 40, 4, 32), (2, 130, 3, 32), (4, 17, 2, 64)]


def _heads(x, batch, tokens, heads, depth):
    return gx.transpose(gx.reshape(x, (batch, tokens, heads, depth)), (0, 2, 1, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_heads(sizes, dtype, threads):
    batch, tokens, heads, depth = sizes
    shape = (batch, tokens, heads * depth)
    q, k, v = (gx.symbol(name, shape, dtype) for name in "qkv")
    split = [_heads(x, *sizes) for x in (q, k, v)]
    scores = gx.matmul(split[0], gx.swapaxes(split[1], 2, 3)) * 0.25
    mixed = gx.reshape(gx.transpose(gx.matmul(scores, split[2]), (0, 2, 1, 3)), shape)
    turned = gx.matmul(gx.swapaxes(scores, 2, 3), split[0])
    options = gx.Options(threads=threads)
    f = gx.compile([q, k, v], [scores, mixed, turned], options=options)
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=shape).astype(dtype) for _ in range(3)]
    wide = [x.astype("f8").reshape(batch, tokens, heads, depth).swapaxes(1, 2) for x in arrays]
    exact = [wide[0] @ wide[1].swapaxes(2, 3) * 0.25]
    exact += [(exact[0] @ wide[2]).swapaxes(1, 2).reshape(shape), exact[0].swapaxes(2, 3) @ wide[0]]
    for got, expected in zip(f(*arrays), exact, strict=True):
        bound = 200 * np.finfo(dtype).eps * np.abs(expected).max()
        assert np.abs(got - expected).max() <= bound


def test_heads_need_no_tables():
    x = gx.symbol("x", (2, 16, 3 * 8), "float32")
    y = gx.symbol("y", (2, 16, 3 * 8), "float32")
    product = gx.matmul(_heads(x, 2, 16, 3, 8), gx.swapaxes(_heads(y, 2, 16, 3, 8), 2, 3))
    f = gx.compile([x, y], product, options=gx.Options(cache=False))
    texts = "\n".join(f.texts[name] for name in f.texts if name.startswith("tiles_"))
    for side in ("left", "right"):
        assert f"_{side}_place(" in texts
        assert f"_{side}_across(" not in texts
