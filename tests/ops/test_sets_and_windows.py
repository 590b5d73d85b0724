"""What do set functions, windows, edits and positions among gaps do where rows of a table do not
look: symbolic lengths, bad input, derivatives, NumPy's own names?
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GraphError

v = gx.vector("v", "n")


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hanning"])
def test_windows_of_a_symbolic_length(name: str) -> None:
    f = gx.compile([v], v * getattr(gx, name)(v.shape[0]))
    for n in (1, 2, 9):
        np.testing.assert_allclose(f(np.ones(n)), getattr(np, name)(n), 1e-14, 1e-14)


def test_the_gradient_by_the_shape_of_a_kaiser_window() -> None:
    beta = gx.scalar("beta")
    slope = gx.compile([beta], gx.grad(gx.kaiser(9, beta).sum(), beta))
    step = 1e-5
    wanted = (np.kaiser(9, 3.5 + step).sum() - np.kaiser(9, 3.5 - step).sum()) / (2 * step)
    assert slope(3.5) == pytest.approx(wanted, rel=1e-8)


def test_delete_and_insert_on_a_symbolic_axis() -> None:
    f = gx.compile([v], [gx.delete(v, 2), gx.insert(v, -1, 7.0)])
    for n in (3, 6):
        x = np.arange(float(n))
        for got, want in zip(f(x), (np.delete(x, 2), np.insert(x, -1, 7.0)), strict=True):
            np.testing.assert_array_equal(got, want)
    with pytest.raises(Exception, match="extent|negative"):
        f(np.ones(1))


def test_a_line_of_gaps_has_no_largest_number() -> None:
    x = gx.matrix("x", (2, 3))
    f = gx.compile([x], gx.nanargmax(x, axis=1))
    np.testing.assert_array_equal(f([[np.nan, -np.inf, np.nan], [1, np.nan, 3]]), [1, 2])
    with pytest.raises(ValueError, match="nanargmax: a line of nothing but NaN"):
        f([[np.nan] * 3, [1, 2, 3]])


def test_numpy_names_reach_them() -> None:
    @gx.jit
    def f(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
        return (
            np.polymul(a, b),
            np.insert(a, 1, b),
            np.lexsort((b, a)),
            np.apply_along_axis(lambda row: row[::-1] * row.sum(), 0, np.stack([a, b])),
        )

    a, b = np.array([3.0, 1.0, 3.0]), np.array([2.0, -1.0, 0.5])
    wanted = (
        np.polymul(a, b),
        np.insert(a, 1, b),
        np.lexsort((b, a)),
        np.apply_along_axis(lambda row: row[::-1] * row.sum(), 0, np.stack([a, b])),
    )
    for got, want in zip(f(a, b), wanted, strict=True):
        np.testing.assert_allclose(got, want, 1e-14)


def test_the_derivative_of_a_huge_order_is_found_at_once() -> None:
    assert gx.polyder(gx.vector("w", 3), 2**60).shape == (0,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gx.union1d(v, v), "give size="),
        (lambda: gx.setdiff1d(v, v, size=-1), "give size="),
        (lambda: gx.intersect1d(v, v, return_indices=True, size=2), "return_indices"),
        (lambda: gx.delete(v, [0, 1]), "known extent"),
        (lambda: gx.delete(gx.vector("w", 3), 3), "position 3 is out of range for 3 elements"),
        (lambda: gx.insert(gx.vector("w", 3), [0, 4], 1.0), "position 4 is out of range"),
        (lambda: gx.delete(v, v), "must be known"),
        (lambda: gx.polyder(gx.vector("w", 3), -1), "order"),
        (lambda: gx.polyval(v, 2.0), "known extent"),
        (lambda: gx.polyint(gx.vector("w", 3), 2, [1, 2, 3]), "2 constants"),
        (lambda: gx.hanning(2.5), "number of points"),
        (lambda: gx.lexsort([v, gx.vector("w", 3)]), "keys of one shape"),
        (lambda: gx.apply_along_axis(lambda r: r, 2, v), "axis 2"),
    ],
)
def test_bad_input(call: object, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        call()  # type: ignore[operator]
