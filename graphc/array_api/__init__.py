"""Arrays with values under the names of the Python array API standard, 2024.12.

>>> import graphc.array_api as xp
>>> x = xp.asarray([1.0, 4.0, 9.0])
>>> float(xp.sum(xp.sqrt(x)))
6.0

Every operation runs the graph of one step with the ops' NumPy functions: this namespace is for
code written to the standard and for conformance, not for speed. The same code under `gx.jit` is
compiled whole. Where the standard defines no result, as for arrays of mixed kinds, it is NumPy 2's.
Complex dtypes and the extension `fft` are absent.
"""

from __future__ import annotations

import math
from typing import NoReturn

import graphc.ops as _ops
from graphc.array_api import (
    creation,
    data_types,
    elementwise,
    linalg,
    manipulation,
    products,
    reductions,
    selection,
)
from graphc.array_api.array_object import Array
from graphc.array_api.data_types import __array_namespace_info__

__array_api_version__ = "2024.12"
e, inf, nan, newaxis, pi = math.e, math.inf, math.nan, None, math.pi

_MODULES = {
    creation: (
        *("arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like"),
        *("linspace", "meshgrid", "ones", "ones_like", "tril", "triu", "zeros", "zeros_like"),
    ),
    data_types: ("can_cast", "finfo", "iinfo", "isdtype", "result_type"),
    elementwise: ("clip", "where"),
    manipulation: (
        *("astype", "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat"),
        *("expand_dims", "flip", "moveaxis", "permute_dims", "repeat", "reshape", "roll"),
        *("squeeze", "stack", "tile", "unstack"),
    ),
    products: ("matmul", "matrix_transpose", "tensordot", "vecdot"),
    reductions: (
        *("all", "any", "cumulative_prod", "cumulative_sum", "diff", "max", "mean", "min"),
        *("prod", "std", "sum", "var"),
    ),
    selection: (
        *("argmax", "argmin", "argsort", "count_nonzero", "isin", "nonzero", "searchsorted"),
        *("sort", "take", "take_along_axis", "unique_all", "unique_counts", "unique_inverse"),
        "unique_values",
    ),
}
_ABSENT = {
    "complex64": "complex dtypes",
    "complex128": "complex dtypes",
    "fft": "Fourier transforms",
}
_names = {name: getattr(module, name) for module, names in _MODULES.items() for name in names}
_names |= elementwise.FUNCTIONS | data_types.DTYPES
globals().update(_names)
__all__ = [
    "Array",
    "__array_api_version__",
    "__array_namespace_info__",
    "linalg",
    *("e", "inf", "nan", "newaxis", "pi"),
    *sorted(_names),
]
del _ops


def __getattr__(name: str) -> NoReturn:
    why = f": graphc has no {_ABSENT[name]} yet" if name in _ABSENT else ""
    raise AttributeError(f"module 'graphc.array_api' has no attribute {name!r}{why}")
