"""What does the standard's extension `linalg` offer?  All of it, for real matrices.

Matrices lie in the last two axes. What has several results gives a named tuple, as the standard
says; what fails for the values of a matrix raises `numpy.linalg.LinAlgError`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from graphc.array_api.array_object import Array
from graphc.array_api.creation import eye
from graphc.array_api.elementwise import require_kinds
from graphc.array_api.evaluation import compute
from graphc.array_api.manipulation import broadcast_to, permute_dims, reshape
from graphc.array_api.products import matmul, matrix_transpose, require_axis, tensordot, vecdot
from graphc.array_api.reductions import sum as _sum

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def _require_matrices(name: str, x: Array) -> None:
    if x.ndim < 2:
        raise ValueError(f"{name} is for two axes or more, this array has {x.ndim}")


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The vector at right angles to both, of three elements along `axis`; other axes broadcast."""
    require_kinds("cross", "iufc", x1, x2)
    require_axis("cross", axis, x1, x2)
    if not x1.shape[axis] == x2.shape[axis] == 3:
        got = f"{x1.shape[axis]} and {x2.shape[axis]}"
        raise ValueError(f"cross: vectors have 3 elements along the axis, these have {got}")

    def turned(x: Array, places: int) -> Array:
        return compute("roll", x, -places, axis=axis)

    ahead = compute("multiply", turned(x1, 1), turned(x2, 2))
    behind = compute("multiply", turned(x1, 2), turned(x2, 1))
    return compute("subtract", ahead, behind)


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """The elements of each matrix whose column is their row plus `offset`."""
    _require_matrices("diagonal", x)
    return compute("diagonal", x, offset, -2, -1)


def trace(x: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """The sum of each diagonal, in the dtype that `sum` has."""
    require_kinds("trace", "iufc", x)
    return _sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def outer(x1: Array, x2: Array, /) -> Array:
    """The product of every element of one vector with every element of another."""
    require_kinds("outer", "iufc", x1, x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"outer is for two vectors, these have {x1.ndim} and {x2.ndim} axes")
    return compute("outer", x1, x2)


def matrix_power(x: Array, n: int, /) -> Array:
    """The product of n times the same square matrix, or of -n times its inverse; ones on the
    diagonal for n = 0.
    """
    require_kinds("matrix_power", "iufc", x)
    _require_matrices("matrix_power", x)
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power is for square matrices, these are {list(x.shape[-2:])}")
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape)
    squares = [x]  # x to the powers 1, 2, 4, ..., as many as n has bits
    while len(squares) < n.bit_length():
        squares.append(matmul(squares[-1], squares[-1]))
    return functools.reduce(matmul, [s for bit, s in enumerate(squares) if n >> bit & 1])


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    """The norm of each matrix: "fro", 1, -1 (sums of columns), inf, -inf (of rows), 2, -2 (the
    largest and the smallest singular value) or "nuc" (their sum).
    """
    require_kinds("matrix_norm", "f", x)
    _require_matrices("matrix_norm", x)
    return compute("norm", x, ord, axis=(-2, -1), keepdims=keepdims)


def vector_norm(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    """The norm of the vectors along an axis, several taken as one, or all."""
    require_kinds("vector_norm", "f", x)
    given = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    if not all(-x.ndim <= place < x.ndim for place in given):
        raise IndexError(f"vector_norm: axis {axis} is out of range for rank {x.ndim}")
    along = {place % x.ndim for place in given}
    if len(along) != len(given):
        raise ValueError(f"vector_norm: axis {axis} names a place twice")
    rest = [place for place in range(x.ndim) if place not in along]
    kept = tuple(x.shape[place] for place in rest)
    length = math.prod(x.shape[place] for place in along)
    lines = reshape(permute_dims(x, (*rest, *sorted(along))), (*kept, length))
    found = compute("norm", lines, ord, axis=-1)
    if not keepdims:
        return found
    return reshape(found, tuple(1 if place in along else n for place, n in enumerate(x.shape)))


# -- decompositions --------------------------------------------------------------------------------


def _decomposed(name: str, x: Array, *args: Any, **options: Any) -> Any:
    require_kinds(name, "f", x)
    _require_matrices(name, x)
    return compute(f"linalg.{name}", x, *args, **options)


def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """The lower triangle L with L Lᵀ = x, or the upper one U with Uᵀ U = x, of positive definite
    matrices; `numpy.linalg.LinAlgError` for others.
    """
    return _decomposed("cholesky", x, upper=upper)


def det(x: Array, /) -> Array:
    """The determinant of each square matrix."""
    return _decomposed("det", x)


def eigh(x: Array, /) -> Any:
    """The eigenvalues of symmetric matrices, ascending, and their vectors as columns: a named tuple
    of `eigenvalues` and `eigenvectors`.
    """
    return _decomposed("eigh", x)


def eigvalsh(x: Array, /) -> Array:
    """The eigenvalues of symmetric matrices in ascending order."""
    return _decomposed("eigvalsh", x)


def inv(x: Array, /) -> Array:
    """The inverse of each square matrix; `numpy.linalg.LinAlgError` for a singular one."""
    return _decomposed("inv", x)


def matrix_rank(x: Array, /, *, rtol: Any = None) -> Array:
    """How many singular values are greater than `rtol` times the largest, by default the larger
    extent times eps.
    """
    return _decomposed("matrix_rank", x, rtol=rtol)


def pinv(x: Array, /, *, rtol: Any = None) -> Array:
    """The pseudo-inverse, singular values of at most `rtol` times the largest counting as 0, by
    default the larger extent times eps.
    """
    return _decomposed("pinv", x, rtol=rtol)


def qr(x: Array, /, *, mode: str = "reduced") -> Any:
    """Orthonormal columns and an upper triangle whose product is x: a named tuple of `Q` and `R`;
    `mode` is "reduced" or "complete".
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: mode is 'reduced' or 'complete', not {mode!r}")
    return _decomposed("qr", x, mode)


def slogdet(x: Array, /) -> Any:
    """The sign of the determinant and the logarithm of its size: a named tuple of `sign` and
    `logabsdet`.
    """
    return _decomposed("slogdet", x)


def solve(x1: Array, x2: Array, /) -> Array:
    """The solution of x1 x = x2, x2 being a vector if it has one axis;
    `numpy.linalg.LinAlgError` for singular matrices.
    """
    require_kinds("solve", "f", x1, x2)
    _require_matrices("solve", x1)
    return compute("linalg.solve", x1, x2)


def svd(x: Array, /, *, full_matrices: bool = True) -> Any:
    """x as U diag(S) Vh, S descending: a named tuple of `U`, `S` and `Vh`, with as many vectors
    as there are singular values unless `full_matrices`.
    """
    return _decomposed("svd", x, full_matrices)


def svdvals(x: Array, /) -> Array:
    """The singular values of each matrix, descending."""
    return _decomposed("svdvals", x)
