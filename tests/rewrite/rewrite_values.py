"""Which values are rewrites tried on, and when are two results the same under a law?

Symbols are filled with ordinary numbers, or with the values at which identities fail: zeros of both
signs, infinities, NaN, subnormals, the extremes of each dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from graphc.dtypes import is_float
from graphc.evaluator import run
from graphc.graph import symbol_op
from graphc.node import Node, topological
from graphc.types import TensorType

SIZES = {"n": 5, "m": 3}
_FLOATS = (0.0, 1.0, 0.5, 2.0, 3.0, 1e-8, 745.2, 710.0, 40.0, np.inf)
_INTEGERS = (0, 1, -1, 2, -3, 7, 128, 2**62)


def special_values(dtype: Any) -> np.ndarray:
    """Values at which identities tend to fail, with both signs."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        held = [value for value in _INTEGERS if limits.min <= value <= limits.max]
        return np.array([*held, limits.min, limits.max], dtype)
    limits = ml_dtypes.finfo(dtype)
    extremes = (limits.max, limits.tiny, limits.smallest_subnormal, limits.max**0.5 * 2)
    half = np.array([*_FLOATS, *extremes], dtype)
    return np.concatenate([half, -half, np.array([np.nan], dtype)])


def symbols_of(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in topological(nodes) if node.op is symbol_op]


def fill(symbol: Node, rng: np.random.Generator, special: bool) -> np.ndarray:
    """An array for a symbol, within the facts that it states."""
    type_ = symbol.type
    assert isinstance(type_, TensorType)
    shape = tuple(SIZES.get(str(extent), extent) for extent in type_.shape)
    dtype, facts = type_.dtype, symbol.attrs["facts"]
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if special:
        array = np.asarray(rng.choice(special_values(dtype), shape))
    elif dtype.kind in "iu":
        array = np.asarray(rng.integers(0 if dtype.kind == "u" else -40, 40, shape))
    else:
        array = np.asarray(rng.normal(0, 2, shape).astype(dtype))
    if "finite" in facts and is_float(dtype):
        array = np.nan_to_num(array)
    if "positive" in facts:
        array = np.abs(array) + dtype.type(1 if dtype.kind in "iu" else ml_dtypes.finfo(dtype).tiny)
    elif "nonnegative" in facts:
        array = np.abs(array)
    return array.astype(dtype)


def values_of(nodes: Sequence[Node], values: Mapping[Node, Any]) -> list[Any]:
    """The evaluator's values; dimensions n and m are 5 and 3."""
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in run(list(nodes), dict(values), SIZES)]


def same_bits(first: Any, second: Any) -> bool:
    """Equal in every bit, but for the sign and payload of NaN."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if not is_float(first.dtype):
        return bool(np.array_equal(first, second))
    nan = np.isnan(first) & np.isnan(second)
    return bool(np.all(nan | ((first == second) & (np.signbit(first) == np.signbit(second)))))


def close(first: Any, second: Any) -> bool:
    """Equal to within rounding, wherever the first is finite."""
    if not is_float(first.dtype):
        return bool(np.array_equal(first, second))
    tolerance = 2e-4 if first.dtype == np.float32 else 1e-9
    finite = np.isfinite(first)
    scale = np.max(np.abs(first[finite]), initial=1.0)
    return bool(np.all(np.abs(first[finite] - second[finite]) <= tolerance * scale))
