"""Which dtypes are there, and what is the dtype of a result?

Dtypes are NumPy's own objects. Promotion is NumPy 2's (NEP 50): Python scalars are weak, they take
the other operand's dtype unless their kind is higher. Accumulators are stated here as well: sums of
bool and of integers accumulate in int64, floats in their own dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import GraphError

BOOL = np.dtype("bool")
INT64 = np.dtype("int64")
FLOAT32 = np.dtype("float32")
FLOAT64 = np.dtype("float64")
SUPPORTED = (BOOL, INT64, FLOAT32, FLOAT64)
_BY_NAME = {dtype.name: dtype for dtype in SUPPORTED}
# Every spelling met so far; asking NumPy for a dtype's name costs more than building a node.
_SPELLINGS: dict[Any, np.dtype[Any]] = {dtype: dtype for dtype in SUPPORTED} | _BY_NAME
# Python scalars: the kind they need, and the default dtype of that kind.
_WEAK = {bool: BOOL, int: INT64, float: FLOAT64}
_RANK = {"b": 0, "i": 1, "f": 2}


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The supported dtype that `dtype` (a name, a NumPy dtype or type) means; `GraphError`
    otherwise.
    """
    known = _SPELLINGS.get(dtype) if isinstance(dtype, (np.dtype, str)) else None
    if known is not None:
        return known
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise GraphError(f"{dtype!r} is not a dtype") from None
    if found.name not in _BY_NAME:
        names = ", ".join(_BY_NAME)
        raise GraphError(f"dtype {found.name} is not supported; supported are {names}")
    return _BY_NAME[found.name]


def promote(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a result of two arrays, as NumPy 2 has it."""
    return first if first is second else as_dtype(np.promote_types(first, second))


def promote_weak(dtype: np.dtype[Any], scalar: bool | int | float) -> np.dtype[Any]:
    """The dtype of a result of an array and a weak Python scalar."""
    weak = _WEAK[type(scalar)]
    return dtype if _RANK[weak.kind] <= _RANK[dtype.kind] else weak


def weak_dtype(scalar: bool | int | float) -> np.dtype[Any]:
    """The dtype of a Python scalar on its own."""
    return _WEAK[type(scalar)]


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f"


def float_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a real function of this dtype is computed: float64 for bool and integers.
    """
    return dtype if dtype.kind == "f" else FLOAT64


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of sums and products: int64 for bool and integers, else the dtype itself."""
    return INT64 if dtype.kind in "bi" else dtype
