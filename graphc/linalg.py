"""What does linear algebra offer?  What graphc has of NumPy's `linalg`, by its names, and a few of
SciPy's: `expm`, `lu`, `lu_factor`, `lu_solve`, `solve_triangular`.

Matrices lie in the last two axes, whatever is before them numbers matrices. Integers count as
float64, 16-bit floats are refused, as in NumPy. A matrix that is singular, or not positive
definite, raises `numpy.linalg.LinAlgError` at run time. Everything has derivatives of any order.
"""

from __future__ import annotations

from typing import Any

from graphc.node import Node
from graphc.ops.contract import matmul, outer, tensordot
from graphc.ops.diagonal import diagonal as _diagonal
from graphc.ops.diagonal import trace as _trace
from graphc.ops.exponential import expm
from graphc.ops.movement import matrix_transpose
from graphc.ops.norms import matrix_norm, norm, vector_norm
from graphc.ops.products import cross, matrix_power, multi_dot, vecdot
from graphc.ops.spectra import (
    cond,
    eigh,
    eigvalsh,
    lstsq,
    matrix_rank,
    pinv,
    qr,
    svd,
    svdvals,
)
from graphc.ops.systems import (
    cholesky,
    det,
    inv,
    lu,
    lu_factor,
    lu_solve,
    slogdet,
    solve,
    solve_triangular,
)

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "expm",
    "inv",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_solve",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def diagonal(x: Any, /, *, offset: int = 0) -> Node:
    """The diagonals of the matrices in the last two axes of x."""
    return _diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Node:
    """The sums of the diagonals of the matrices in the last two axes of x."""
    return _trace(x, offset, -2, -1, dtype)
