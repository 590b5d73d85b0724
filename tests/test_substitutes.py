"""Do NumPy's makers of arrays know expressions while a function is traced, and only then?"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import graphc as gx

X = np.array([1.5, -2.0, 0.5])
M = np.arange(6.0).reshape(2, 3)

FUNCTIONS = {
    "array of scalars": lambda x: np.array([[x[0], 1], [x.sum(), -x[1]]]),
    "array in a dtype": lambda x: np.array([x[0], 2], dtype="float32"),
    "array of rows": lambda x: np.asarray([x, 2 * x, [1, 2, 3]]),
    "array with ndmin": lambda x: np.array(x, ndmin=3),
    "array of extents": lambda x: np.array([x.size, 2]),
    "numbers are strong": lambda x: np.array([x.astype("float32")[0], 2.5]),
    "no expression": lambda x: np.array([1, 2, 3]) + x,
    "arange": lambda x: np.arange(x.size) * x,
    "arange downwards": lambda x: np.arange(x.size - 1, -1, -1) * x,
    "linspace": lambda x: np.linspace(-1, 1, x.shape[0]) * x,
    "eye": lambda x: np.eye(x.shape[0], k=1) @ x,
    "full": lambda x: np.full((2, x.shape[0]), x[0]),
    "take": lambda x: np.take(np.eye(4), np.floor(abs(x)).astype(int), axis=0),
    "of a list": lambda x: (np.max([x[0], x[1]]), np.sum([x, x], axis=0), np.all([x > 0, x > 1])),
    "norm of a list": lambda x: np.linalg.norm([x[0], 3.0]),
    "list in a list of arrays": lambda x: np.concatenate(([x[0]], x, [0.0])),
    "in place": lambda x: _accumulated(x),
}


def _accumulated(x: Any) -> Any:
    total, inside = np.zeros(x.shape, "float32"), np.zeros(3, dtype=bool)
    total += x
    total *= 2
    inside ^= x > 0
    inside |= x < -1
    return total, inside


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_as_numpy(name: str) -> None:
    function = FUNCTIONS[name]
    got, wanted = gx.jit(function)(X), function(X)
    pairs = zip(got, wanted, strict=True) if isinstance(wanted, tuple) else [(got, wanted)]
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.shape(one) == np.shape(other)


def test_sizes_stay_symbols() -> None:
    f = gx.jit(lambda x: np.arange(x.size) + np.zeros(x.shape) + np.linspace(0, 1, x.size) * x)
    for size in (3, 5, 8):
        assert f(np.ones(size)).shape == (size,)
    assert len(f.traces) == 1


def test_an_array_that_is_assigned_to_is_one_of_numpy() -> None:
    @gx.jit
    def f(x: Any) -> Any:
        ramp = np.zeros(x.shape)
        ramp[1:] = 2.0
        return ramp * x

    np.testing.assert_array_equal(f(X), [0.0, -4.0, 1.0])
    np.testing.assert_array_equal(f(np.ones(2)), [0.0, 2.0])
    assert len(f.traces) == 2


def test_numpy_is_itself_again() -> None:
    names = ("array", "asarray", "arange", "zeros", "sum", "take")
    before = [getattr(np, name) for name in names] + [np.linalg.norm]
    seen = []

    @gx.jit
    def f(x: Any) -> Any:
        other = threading.Thread(target=lambda: seen.append(np.array([1.0, 2.0])))
        other.start()
        other.join()
        raise KeyError(type(np.array([x[0]])).__name__)

    with pytest.raises(KeyError, match="Node"):
        f(X)
    assert type(seen[0]) is np.ndarray
    assert [getattr(np, name) for name in names] + [np.linalg.norm] == before


# -- what cannot be done in place ------------------------------------------------------------------


def _into_numpy(x: Any) -> Any:
    out = np.zeros(3)
    out[0] = x[0]
    return out


def _into_view(x: Any) -> Any:
    table = np.zeros((2, 3))
    row = table[0]
    row += x
    return table


def _into_expression(x: Any) -> Any:
    x[0] = 1.0
    return x


def _out(x: Any) -> Any:
    out = np.zeros(3)
    np.add(out, x, out=out)
    return out


def _narrower(x: Any) -> Any:
    counts = np.zeros(3, dtype=int)
    counts += x
    return counts


def _wider(x: Any) -> Any:
    x += np.ones((2, 3))
    return x


REFUSED = {
    _into_numpy: r"out\.at\[key\]\.set\(value\)",
    _into_expression: r"x\.at\[key\]\.set\(value\)",
    _into_view: r"np\.stack\(parts\)",
    _out: "array = np.add",
    _narrower: r"Write x = x \+ y",
    _wider: r"Write x = x \+ y",
    lambda x: x.sort(): r"np\.sort\(x\)",
    lambda x: x.fill(0): r"np\.full_like",
    lambda x: x.put(0, 1): r"x\.at\[indices\]\.set",
    lambda x: np.eye(3)[x.astype(int)]: r"gx\.take\(array",
    lambda x: x.item(): "not known",
    lambda x: x.tolist(): "not known",
}


@pytest.mark.parametrize("function", REFUSED)
def test_in_place_says_what_to_write(function: Any) -> None:
    with pytest.raises((TypeError, gx.GraphError), match=REFUSED[function]):
        gx.jit(function)(X)


def test_augmented_assignment_keeps_the_dtype() -> None:
    def f(x: Any, y: Any) -> Any:
        x = x + 0
        x += y
        total = x[0]
        total += y  # a scalar of NumPy becomes what the operator gives
        return x, total

    x = np.ones(3, "float32")
    got, wanted = gx.jit(f)(x, X), f(x, X)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert one.dtype == other.dtype and one.shape == other.shape
