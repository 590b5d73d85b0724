"""How are elements found, sorted, and told apart?

`nonzero` and the functions on sets give shapes that depend on data, which a graph cannot have:
NumPy answers those.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphc.array_api.array_object import Array
from graphc.array_api.elementwise import require_kinds
from graphc.array_api.evaluation import compute
from graphc.array_api.manipulation import flip


class unique_all_result(NamedTuple):
    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class unique_counts_result(NamedTuple):
    values: Array
    counts: Array


class unique_inverse_result(NamedTuple):
    values: Array
    inverse_indices: Array


def argmax(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """The position of the first largest element along `axis`, of all if it is None."""
    require_kinds("argmax", "iuf", x)
    return compute("argmax", x, axis=axis, keepdims=keepdims)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """The position of the first smallest element along `axis`, of all if it is None."""
    require_kinds("argmin", "iuf", x)
    return compute("argmin", x, axis=axis, keepdims=keepdims)


def count_nonzero(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """How many elements are not zero."""
    return compute("count_nonzero", x, axis=axis, keepdims=keepdims)


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """The positions of the elements that are not zero, an array for each axis."""
    if x.ndim == 0:
        raise ValueError("nonzero is for arrays of at least one axis")
    return tuple(map(Array._of, np.nonzero(x._value)))


def searchsorted(
    x1: Array, x2: Any, /, *, side: str = "left", sorter: Array | None = None
) -> Array:
    """Where the elements of x2 belong in the sorted x1."""
    require_kinds("searchsorted", "iuf", x1, x2)
    if sorter is not None:
        x1 = take(x1, sorter, axis=0)
    return compute("searchsorted", x1, x2, side=side)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """x sorted along an axis."""
    require_kinds("sort", "iuf", x)
    result = compute("sort", x, axis=axis)
    return flip(result, axis=axis) if descending else result


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The positions that sort x along an axis; equal elements keep their order."""
    require_kinds("argsort", "iuf", x)
    if not descending:
        return compute("argsort", x, axis=axis)
    # Sorted in reverse and read backwards, so that equal elements keep their order, too.
    backwards = compute("argsort", flip(x, axis=axis), axis=axis)
    return flip(compute("subtract", x.shape[axis] - 1, backwards), axis=axis)


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """The slices of x at positions along `axis`, which may be left out for one axis."""
    if axis is None and x.ndim != 1:
        raise ValueError("take needs an axis unless the array has just one")
    return compute("take", x, indices, axis=0 if axis is None else axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """One position for each line along `axis`."""
    return compute("take_along_axis", x, indices, axis)


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Array:
    """Which elements of x1 occur in x2."""
    require_kinds("isin", "biuf", x1, x2)
    first, second = (v._value if isinstance(v, Array) else v for v in (x1, x2))
    return Array._of(np.asarray(np.isin(first, second, invert=invert)))


def _unique(x: Array, **wanted: bool) -> Any:
    """NumPy's unique, with every NaN an element of its own."""
    unique: Any = np.unique  # its overloads do not see through keywords
    return unique(x._value, equal_nan=False, **wanted)


def unique_all(x: Array, /) -> unique_all_result:
    """The different elements, where each comes first, which each element is, and how often."""
    values, indices, inverse, counts = _unique(
        x, return_index=True, return_inverse=True, return_counts=True
    )
    arrays = (values, indices, inverse.reshape(x.shape), counts)
    return unique_all_result(*map(Array._of, arrays))


def unique_counts(x: Array, /) -> unique_counts_result:
    """The different elements, and how often each comes."""
    return unique_counts_result(*map(Array._of, _unique(x, return_counts=True)))


def unique_inverse(x: Array, /) -> unique_inverse_result:
    """The different elements, and which of them each element is."""
    values, inverse = _unique(x, return_inverse=True)
    return unique_inverse_result(Array._of(values), Array._of(inverse.reshape(x.shape)))


def unique_values(x: Array, /) -> Array:
    """The different elements."""
    return Array._of(_unique(x))
