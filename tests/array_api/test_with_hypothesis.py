"""Does the namespace serve hypothesis's strategies for the standard, and hold on what they draw?

`hypothesis.extra.array_api` builds arrays through the namespace alone, with every dtype, shape and
special value, and reads back what it wrote.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import graphc.array_api as xp

DRAWN = make_strategies_namespace(xp, api_version="2024.12")
SHAPES = DRAWN.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
DTYPES = st.sampled_from(list(xp.__array_namespace_info__().dtypes().values()))
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def equal(result: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert isinstance(result, xp.Array)
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(np.asarray(result), expected)


@FEW
@given(DRAWN.arrays(DTYPES, SHAPES))
def test_arrays_are_what_was_drawn(x: Any) -> None:
    value = np.asarray(x)
    equal(xp.asarray(value, copy=True), value)
    equal(xp.reshape(x, (-1,)) if x.size else xp.reshape(x, (0,)), value.reshape(-1))
    equal(xp.flip(x), np.flip(value))
    equal(xp.stack([x, x], axis=-1), np.stack([value, value], axis=-1))


@FEW
@given(st.data())
def test_indices(data: Any) -> None:
    x = data.draw(DRAWN.arrays(DTYPES, SHAPES))
    key = data.draw(DRAWN.indices(x.shape, allow_newaxis=True))
    value = np.asarray(x)
    equal(x[key], value[key])
    changed, expected = xp.asarray(x, copy=True), value.copy()
    changed[key] = xp.zeros((), dtype=x.dtype)
    expected[key] = 0
    equal(changed, expected)


@FEW
@given(st.data())
def test_masks(data: Any) -> None:
    x = data.draw(DRAWN.arrays(DTYPES, SHAPES))
    mask = data.draw(DRAWN.arrays(xp.bool, x.shape))
    value, chosen = np.asarray(x), np.asarray(mask)
    equal(x[mask], value[chosen])
    equal(xp.where(mask, x, xp.zeros_like(x)), np.where(chosen, value, np.zeros_like(value)))


@FEW
@given(st.data())
def test_shapes_broadcast(data: Any) -> None:
    drawn = data.draw(DRAWN.mutually_broadcastable_shapes(2, max_dims=3, max_side=3))
    first, second = (data.draw(DRAWN.arrays(xp.int64, shape)) for shape in drawn.input_shapes)
    with np.errstate(over="ignore"):
        equal(first + second, np.asarray(first) + np.asarray(second))
        equal(first * second, np.asarray(first) * np.asarray(second))
    equal(first < second, np.asarray(first) < np.asarray(second))


@pytest.mark.parametrize("name", ["max", "min", "argmax", "sum", "prod", "all", "any"])
@FEW
@given(data=st.data())
def test_reductions_over_drawn_axes(name: str, data: Any) -> None:
    shapes = DRAWN.array_shapes(min_dims=1, max_dims=3, max_side=3)
    x = data.draw(DRAWN.arrays(st.sampled_from([xp.int8, xp.uint16, xp.int64]), shapes))
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    keepdims = data.draw(st.booleans())
    result = getattr(xp, name)(x, axis=axis, keepdims=keepdims)
    equal(result, getattr(np, name)(np.asarray(x), axis=axis, keepdims=keepdims))
