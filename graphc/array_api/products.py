"""Which functions of the standard multiply matrices and vectors, or transpose them?"""

from __future__ import annotations

from typing import Any

from graphc.array_api.array_object import Array
from graphc.array_api.elementwise import require_kinds
from graphc.array_api.evaluation import compute


def matmul(x1: Array, x2: Array, /) -> Array:
    """The product of matrices, over all leading axes."""
    require_kinds("matmul", "iuf", x1, x2)
    return compute("matmul", x1, x2)


def matrix_transpose(x: Array, /) -> Array:
    """x with its last two axes exchanged."""
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose is for two axes or more, this array has {x.ndim}")
    return compute("swapaxes", x, -1, -2)


def require_axis(name: str, axis: int, x1: Array, x2: Array) -> None:
    """ValueError unless the axis counts from the end of both, since the beginnings broadcast."""
    if not -min(x1.ndim, x2.ndim) <= axis < 0:
        raise ValueError(f"{name}: the axis counts from the end, -1 for the last one; got {axis}")


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    """The sum of products over pairs of axes."""
    require_kinds("tensordot", "iuf", x1, x2)
    return compute("tensordot", x1, x2, axes)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The sum of products along an axis, over all others broadcast."""
    require_kinds("vecdot", "iuf", x1, x2)
    require_axis("vecdot", axis, x1, x2)
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(f"vecdot: extents {x1.shape[axis]} and {x2.shape[axis]} must be equal")
    product = compute("multiply", x1, x2)
    total = compute("sum", product, axis=axis)
    return Array._of(total._value.astype(product.dtype, copy=False))
