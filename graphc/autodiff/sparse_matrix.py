"""What is a sparse derivative to a user?  A matrix of values and a pattern; SciPy's CSR on a call.

In a graph it is a container with one leaf, the values, so that it can be an output of a Function,
of `gx.call` or a member of a dict like any other; the pattern is known while the graph is built.
Where the leaf is an array, which is what a call of a Function gives, the container is a matrix of
SciPy.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np

from graphc import dtypes
from graphc.autodiff.pattern import Pattern
from graphc.errors import GraphError, missing_extra
from graphc.node import Node
from graphc.ops.gather import gather_op, scatter_op
from graphc.ops.movement import reshape
from graphc.ops.operands import as_node, constant, describe, to_shape
from graphc.tree import register_container


@final
class SparseMatrix:
    """`values[k]` is the entry in row `pattern.rows[k]` and column `pattern.indices[k]`.

    `values` is a node of rank 1; what the pattern leaves out is 0. A Function that has a
    SparseMatrix among its outputs gives a `scipy.sparse.csr_array`, and so does `gx.evaluate`. Its
    indices are shared by all calls, and read-only; `copy` gives one of your own.
    """

    __slots__ = ("pattern", "values")

    def __init__(self, values: Any, pattern: Pattern) -> None:
        self.values = values
        self.pattern = pattern

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.pattern.shape

    @property
    def nnz(self) -> int:
        """The number of entries."""
        return self.pattern.nnz

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def todense(self) -> Node:
        """The matrix as a node of rank 2, zeros written out."""
        rows, columns = self.shape
        place = self.pattern.rows.astype(np.int64) * columns + self.pattern.indices
        return reshape(_summed(self.values, place, rows * columns), self.shape)

    def __matmul__(self, vector: Any) -> Node:
        """The product with a vector."""
        given = as_node(vector)
        if given.shape != self.shape[1:] or given.dtype != self.dtype:
            raise GraphError(
                f"a product of {self!r} needs a vector {self.dtype.name}[{self.shape[1]}], "
                f"got {given.type}\n" + describe([given])
            )
        terms = self.values * taken(given, self.pattern.indices)
        return _summed(terms, self.pattern.rows, self.shape[0])

    def __repr__(self) -> str:
        return f"<sparse {self.dtype.name} matrix, {self.pattern!r}>"


def taken(x: Node, places: np.ndarray) -> Node:
    """The elements of a vector at known places."""
    chosen = constant(places.astype(np.int64))
    return gather_op(x, chosen, axes=(0,), batch=(), at=0, windows=())


def _summed(values: Node, places: np.ndarray, size: int) -> Node:
    """The sums of the values that belong to each place."""
    nothing = to_shape(constant(0, values.dtype), (size,))
    where = constant(places.astype(np.int64))
    return scatter_op["add"](nothing, values, where, axes=(0,), batch=(), at=0, windows=())


def as_scipy(values: np.ndarray, pattern: Pattern) -> Any:
    """SciPy's matrix of these values; 16-bit floats, with which SciPy does not compute, as float32.
    """
    try:
        from scipy.sparse import csr_array
    except ImportError:
        what = "A sparse derivative's value (its entries alone are the matrix's `values`)"
        raise missing_extra("scipy", "scipy", what) from None
    values = dtypes.widened(values)
    made = csr_array((values, pattern.indices, pattern.indptr), shape=pattern.shape)
    made.has_canonical_format = True
    return made


def _unflatten(children: list[Any], pattern: Pattern) -> Any:
    (values,) = children
    if isinstance(values, np.ndarray):
        return as_scipy(values, pattern)
    return SparseMatrix(values, pattern)


register_container(SparseMatrix, lambda matrix: ([matrix.values], matrix.pattern), _unflatten)
