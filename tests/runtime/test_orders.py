"""Are arrays in other orders of axes, and parts of larger ones, read right as they lie?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx

BASE = np.random.default_rng(1).standard_normal((6, 700, 400))

VIEWS: dict[str, np.ndarray] = {
    "transposed": BASE[0].T,
    "part of rows": BASE[0][:, 30:333],
    "transposed part": BASE[0][100:, 30:333].T,
    "every third row": BASE[0][::3],
    "rows backwards": BASE[0][::-1],
    "every second column": BASE[0][:, ::2],
    "columns backwards": BASE[0][:, ::-1],
    "repeated row": np.broadcast_to(BASE[0, 0], (300, 400)),
    "repeated column": np.broadcast_to(BASE[0, :, :1], (700, 500)),
    "one column": BASE[0][:, 3:4],
    "narrow": BASE[0][:, :3],
}


def _compiled(shape: Any) -> Any:
    x = gx.symbol("x", shape)
    return gx.compile([x], [gx.sum(x, axis=0), gx.sum(x, axis=1), 2 * x + 1, gx.max(x)])


@pytest.fixture(scope="module")
def f() -> Any:
    return _compiled(("n", "m"))


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_larger_arrays(f: Any, name: str) -> None:
    x = VIEWS[name]
    wanted = [x.sum(axis=0), x.sum(axis=1), 2 * x + 1, x.max()]
    for _ in range(2):
        for mine, theirs in zip(f(x), wanted, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-12)
    static = _compiled(x.shape)(x)
    for mine, theirs in zip(static, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-12)


def test_every_order_of_three_axes() -> None:
    x = gx.symbol("x", ("a", "b", "c"))
    f = gx.compile([x], {"sum": gx.sum(x, axis=(0, 2)), "x": x - gx.mean(x, axis=1, keepdims=True)})
    for order in [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 1, 2)]:
        turned = BASE[:3].transpose(order)
        found = f(turned)
        np.testing.assert_allclose(found["sum"], turned.sum(axis=(0, 2)), rtol=1e-12, atol=1e-11)
        centred = turned - turned.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found["x"], centred, rtol=1e-12, atol=1e-13)


def test_out_mixed_orders_and_errors() -> None:
    x, y, i = gx.symbol("x", ("n", "m")), gx.symbol("y", ("n", "m")), gx.symbol("i", (), "int64")
    f = gx.compile([x, y, i], gx.sum(x * y, axis=0) + x[i, 0])
    a, b = BASE[0].T, np.ascontiguousarray(BASE[1].T)
    wanted = (a * b).sum(axis=0)
    out = np.empty(700)
    assert f(a, b, 3, out=out) is out
    np.testing.assert_allclose(out, wanted + a[3, 0], rtol=1e-12, atol=1e-11)
    with pytest.raises(IndexError, match="400"):
        f(a, b, 400)
    with pytest.raises(ValueError, match="y"):
        f(a, b[:, 1:], 3)


def test_donated_arrays_keep_their_program() -> None:
    x, y = gx.symbol("x", (400, 700)), gx.symbol("y", (400, 700))
    f = gx.compile([x, y], x + y, donate=[x])
    a = np.ascontiguousarray(BASE[0].T)
    wanted = a + BASE[1].T
    np.testing.assert_array_equal(f(a, BASE[1].T), wanted)
