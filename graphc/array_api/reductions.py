"""What is the sum, the spread, the running total of the elements, and does a condition hold?"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.array_api.array_object import Array
from graphc.array_api.elementwise import require_kinds
from graphc.array_api.evaluation import compute
from graphc.array_api.manipulation import astype, concat


def all(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Whether all elements are true, or not zero."""
    return compute("all", x, axis=axis, keepdims=keepdims)


def any(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Whether an element is true, or not zero."""
    return compute("any", x, axis=axis, keepdims=keepdims)


def max(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The largest element; NaN if there is one."""
    require_kinds("max", "iuf", x)
    return compute("max", x, axis=axis, keepdims=keepdims)


def min(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The smallest element; NaN if there is one."""
    require_kinds("min", "iuf", x)
    return compute("min", x, axis=axis, keepdims=keepdims)


def mean(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The arithmetic mean."""
    require_kinds("mean", "fc", x)
    return compute("mean", x, axis=axis, keepdims=keepdims)


def std(x: Array, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """The standard deviation, with N - correction in the denominator."""
    require_kinds("std", "f", x)
    return compute("std", x, axis=axis, ddof=correction, keepdims=keepdims)


def var(x: Array, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """The variance, with N - correction in the denominator."""
    require_kinds("var", "f", x)
    return compute("var", x, axis=axis, ddof=correction, keepdims=keepdims)


def sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """The sum; integers of up to 64 bits add in 64 bits if no dtype is given."""
    require_kinds("sum", "iufc", x)
    return _typed(compute("sum", _accumulated(x, dtype), axis=axis, keepdims=keepdims), dtype)


def prod(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """The product; integers of up to 64 bits multiply in 64 bits if no dtype is given."""
    require_kinds("prod", "iufc", x)
    return _typed(compute("prod", _accumulated(x, dtype), axis=axis, keepdims=keepdims), dtype)


def _accumulated(x: Array, dtype: Any) -> Array:
    return x if dtype is None else astype(x, dtypes.as_dtype(dtype), copy=False)


def _typed(result: Array, dtype: Any) -> Array:
    """The result in the dtype asked for: a sum in more bits, cut off, is the sum in fewer."""
    return _accumulated(result, dtype)


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    """The running sum along an axis, after a 0 if `include_initial`."""
    return _cumulative("cumsum", 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    """The running product along an axis, after a 1 if `include_initial`."""
    return _cumulative("cumprod", 1, x, axis, dtype, include_initial)


def _cumulative(
    name: str, initial: int, x: Array, axis: int | None, dtype: Any, include_initial: bool
) -> Array:
    require_kinds(name, "iufc", x)
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"{name} needs an axis unless the array has just one")
        axis = 0
    result = _typed(compute(name, _accumulated(x, dtype), axis), dtype)
    if not include_initial:
        return result
    shape = tuple(1 if place == axis % x.ndim else n for place, n in enumerate(x.shape))
    first = Array._of(np.full(shape, initial, result.dtype))
    return concat([first, result], axis=axis)


def diff(
    x: Array,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: Array | None = None,
    append: Array | None = None,
) -> Array:
    """Differences of neighbours along an axis, n times."""
    require_kinds("diff", "iufc", x)
    parts = [part for part in (prepend, x, append) if part is not None]
    return compute("diff", concat(parts, axis=axis), n=n, axis=axis)
