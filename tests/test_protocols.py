"""Do NumPy's functions on expressions mean what they mean on arrays, or say why they cannot?

Each row is a call, written once: on an array it gives the expected value, shape and dtype; on a
symbol it builds a graph that is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GraphTypeError
from graphc.tensor import SURFACE

X = np.linspace(-2.0, 2.0, 12).reshape(3, 4)
I = np.arange(12).reshape(3, 4) - 5  # noqa: E741
x = gx.symbol("x", (3, 4))
i = gx.symbol("i", (3, 4), "int64")

CALLS: list[Callable[[Any, Any], Any]] = [
    lambda x, i: np.tanh(x),
    lambda x, i: np.add(x, X),
    lambda x, i: np.add(X, x),
    lambda x, i: X * x - np.float32(2),
    lambda x, i: np.true_divide(x, 2),
    lambda x, i: np.power(x, 2),
    lambda x, i: np.sin(x, dtype="float32"),
    lambda x, i: np.add(i, 1, dtype="float64"),
    lambda x, i: np.less(x, 1, dtype=bool),
    lambda x, i: np.sin(x, where=True, casting="same_kind", order="K", subok=True, out=None),
    lambda x, i: np.add.reduce(x),
    lambda x, i: np.add.reduce(x, axis=None),
    lambda x, i: np.add.reduce(x, axis=1, keepdims=True),
    lambda x, i: np.maximum.reduce(x, axis=(0, 1)),
    lambda x, i: np.multiply.reduce(x, 1),
    lambda x, i: np.logical_or.reduce(x > 1, axis=1),
    lambda x, i: np.maximum.accumulate(x, axis=1),
    lambda x, i: np.add.accumulate(i),
    lambda x, i: np.multiply.outer(x, X[0]),
    lambda x, i: np.subtract.outer(X[0], x),
    lambda x, i: np.less.outer(x, np.float64(0.5)),
    lambda x, i: np.sum(x),
    lambda x, i: np.sum(x, 0),
    lambda x, i: np.sum(a=x, axis=1, keepdims=True),
    lambda x, i: np.max(x, axis=1),
    lambda x, i: np.argmax(x, axis=1),
    lambda x, i: np.all(x > 0, axis=1),
    lambda x, i: np.concatenate([x, X], axis=1),
    lambda x, i: np.concatenate((X, x, x)),
    lambda x, i: np.stack([x, X], axis=-1),
    lambda x, i: np.where(x > 0, x, 0),
    lambda x, i: np.where(x > 0, i, x),
    lambda x, i: np.reshape(x, (4, 3)),
    lambda x, i: np.reshape(x, shape=-1, order="C"),
    lambda x, i: np.transpose(x),
    lambda x, i: np.transpose(x, (1, 0)),
    lambda x, i: np.take(x, [0, 1], axis=1),
    lambda x, i: np.take(a=x, indices=[3, -1], axis=None, mode="raise"),
    lambda x, i: np.dot(x, X.T),
    lambda x, i: np.matmul(X.T, x),
    lambda x, i: X.T @ x,
    lambda x, i: np.tensordot(x, X, axes=2),
    lambda x, i: np.outer(x[0], X[1]),
    lambda x, i: np.flip(x, axis=1),
    lambda x, i: np.cumsum(x, axis=0),
    lambda x, i: np.expand_dims(x, 0),
    lambda x, i: np.swapaxes(x, 0, 1),
    lambda x, i: np.squeeze(x[:1]),
    lambda x, i: np.broadcast_to(x, (2, 3, 4)),
    lambda x, i: np.linalg.matmul(x, X.T),
    lambda x, i: np.linalg.tensordot(x, X, axes=2),
    lambda x, i: np.linalg.norm(x),
    lambda x, i: np.linalg.norm(x, axis=1, keepdims=True),
    lambda x, i: np.copy(x),
]


@pytest.mark.parametrize("call", CALLS)
def test_calls_of_numpy_build_the_graph(call: Callable[[Any, Any], Any]) -> None:
    node, expected = call(x, i), call(X, I)
    assert isinstance(node, gx.Node)
    value = gx.evaluate(node, {x: X, i: I})
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert np.asarray(value).dtype == np.asarray(expected).dtype
    assert np.shape(value) == np.shape(expected)


QUESTIONS: list[Callable[[Any], Any]] = [
    np.shape,
    np.ndim,
    np.size,
    lambda x: np.size(x, 1),
    lambda x: np.result_type(x, np.float32),
    lambda x: np.result_type(x, 1.0),
    np.iscomplexobj,
    np.isrealobj,
]


if np.lib.NumpyVersion(np.__version__) >= "2.4.0":
    QUESTIONS.append(lambda x: np.size(x, (0, 1)))


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_about_types_are_answered(question: Callable[[Any], Any]) -> None:
    assert question(x) == question(X)
    assert question(i) == question(I)


REFUSED: list[tuple[Callable[[], Any], tuple[str, ...]]] = [
    (lambda: np.add(x, 1, out=X.copy()), ("np.add", "'out'", "f(..., out=array)")),
    (lambda: X.copy().__iadd__(x), ("np.add", "'out'", "array = np.add(array")),
    (lambda: np.add(x, 1, where=X > 0), ("np.add", "'where'", "gx.where")),
    (lambda: np.add(x, 1, casting="unsafe"), ("np.add", "'casting'")),
    (lambda: np.add(x, 1, dtype="int64"), ("same_kind", "x.astype('int64')")),
    (lambda: np.add.at(x, 0, 1), ("np.add.at", "x.at[indices].add(values)")),
    (lambda: np.add.reduceat(x, [0]), ("np.add.reduceat",)),
    (lambda: np.subtract.reduce(x), ("np.subtract.reduce", "reduce is for add")),
    (lambda: np.fft.fft2(x), ("np.fft.fft2",)),
    (lambda: np.packbits(x), ("np.packbits",)),
    (lambda: np.take(x, [0], out=X.copy()), ("np.take", "'out'", "gx.take takes")),
    (lambda: np.array([x, x]), ("array value", "gx.stack")),
    (lambda: np.asarray(x), ("array value",)),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_what_has_no_equal_is_refused_by_name(
    call: Callable[[], Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(GraphTypeError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8


def test_near_names_are_offered() -> None:
    from graphc import protocols

    with pytest.raises(GraphTypeError, match="Nearest are gx.maximum"):
        protocols._refuse("np.maximums", "maximums")


def test_every_synonym_is_a_name_of_numpy_or_the_standard() -> None:
    from graphc.protocols import _SYNONYMS, find

    for theirs, ours in _SYNONYMS.items():
        assert hasattr(np, theirs) or theirs in ("conj", "amax", "amin")
        if any(name in SURFACE for name in ours):
            assert find(theirs) is not None


def test_the_namespace_is_graphc_for_the_versions_of_the_standard() -> None:
    assert x.__array_namespace__() is gx
    assert x.__array_namespace__(api_version="2024.12") is gx
    with pytest.raises(ValueError, match="versions of the array API"):
        x.__array_namespace__(api_version="1999.12")


def test_dimensions_take_part_in_functions_of_numpy_while_traced() -> None:
    f = gx.jit(lambda x: x / np.sqrt(x.shape[0]) + np.ones(4) * x.shape[1])
    np.testing.assert_allclose(f(X), X / np.sqrt(3) + 4)
    n = gx.dim("n")
    assert np.int64(3) * n == 3 * n
    assert np.int64(3) + n == n + 3
    with pytest.raises(TypeError):
        np.sqrt(n)
