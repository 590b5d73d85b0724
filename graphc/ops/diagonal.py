"""What can be done with diagonals and triangles of matrices?  diagonal, diag, trace, tril, eye.

Reading a diagonal and putting one into a matrix of zeros are two views, each the other's transpose;
triangles are choices between positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, dim_max, dim_min
from graphc.errors import GraphError, shortened
from graphc.lowering import Index, Piece, View
from graphc.node import Node
from graphc.op import Leading, Linear, Op, register
from graphc.ops.movement import iota_op, ravel, transpose
from graphc.ops.operands import as_node, broadcast, cast, describe, normalize_axis
from graphc.tensor import surface
from graphc.types import TensorType, Type, as_extent


def _begin(offset: int) -> tuple[int, int]:
    """The row and column at which a diagonal begins."""
    return max(-offset, 0), max(offset, 0)


def _length(rows: Extent, columns: Extent, offset: int) -> Extent:
    """How many elements a diagonal of a matrix has."""
    row, column = _begin(offset)
    if row == column == 0:
        return rows if rows == columns else dim_min(rows, columns)
    return dim_max(dim_min(rows - row, columns - column), 0)


def _infer_diagonal(x: Type, offset: int) -> Type:
    if not isinstance(x, TensorType) or x.ndim < 2:
        raise GraphError(f"diagonal needs at least two axes, got {x}")
    return TensorType(x.dtype, (*x.shape[:-2], _length(x.shape[-2], x.shape[-1], offset)))


def _diagonal_pieces(index: Index, types: Any, result: Any, offset: int) -> list[Piece]:
    row, column = _begin(offset)
    return [Piece(0, (*index[:-1], index[-1] + row, index[-1] + column))]


diagonal_op: Op = register(
    Op(
        "diagonal",
        _infer_diagonal,
        lambda x, offset: np.diagonal(x, offset, -2, -1),
        View(_diagonal_pieces),
        Linear(
            lambda cotangent, node, i: embed_diagonal_op(
                cotangent,
                offset=node.attrs["offset"],
                rows=node.args[0].shape[-2],
                columns=node.args[0].shape[-1],
            )
        ),
        attributes=("offset",),
        batch=Leading(),
        doc="A diagonal of the last two axes, `offset` above the main one.",
    )
)


def _infer_embed(x: Type, offset: int, rows: Extent, columns: Extent) -> Type:
    assert isinstance(x, TensorType)
    length = _length(rows, columns, offset)
    known = isinstance(length, int) and x.ndim and isinstance(x.shape[-1], int)
    if x.ndim < 1 or known and length != x.shape[-1]:
        raise GraphError(
            f"embed_diagonal of {x}: the diagonal {offset} of [{rows}, {columns}] has {length} "
            "elements"
        )
    return TensorType(x.dtype, (*x.shape[:-1], rows, columns))


def _numpy_embed(x: Any, offset: int, rows: int, columns: int) -> Any:
    result = np.zeros((*x.shape[:-1], rows, columns), x.dtype)
    line, (row, column) = np.arange(x.shape[-1]), _begin(offset)
    result[..., line + row, line + column] = x
    return result


def _embed_pieces(
    index: Index, types: Any, result: Any, offset: int, rows: Extent, columns: Extent
) -> list[Piece]:
    *lead, i, j = index
    row, column = _begin(offset)
    on_it = (j - column - (i - row), 0, 1)
    return [Piece(0, (*lead, i - row), (on_it, (i - row, 0, types[0].shape[-1])))]


embed_diagonal_op: Op = register(
    Op(
        "embed_diagonal",
        _infer_embed,
        _numpy_embed,
        View(_embed_pieces),
        Linear(lambda cotangent, node, i: diagonal_op(cotangent, offset=node.attrs["offset"])),
        attributes=("offset", "rows", "columns"),
        batch=Leading(),
        doc="Zeros with the last axis of the argument along a diagonal of two new last axes.",
    )
)

# -- the surface: diagonals ------------------------------------------------------------------------


# No matrix has a diagonal as far out, and positions added to it fit in int64.
_FARTHEST = 2**62


def _offset(value: Any, name: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise GraphError(f"{name}: an offset is an integer, got {shortened(repr(value))}")
    return max(-_FARTHEST, min(int(value), _FARTHEST))


@surface
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The elements of x at which position on `axis2` minus that on `axis1` is `offset`, along a new
    last axis in place of the two.
    """
    node = as_node(x)
    first, second = (normalize_axis(axis, node, "diagonal") for axis in (axis1, axis2))
    if first == second:
        raise GraphError(f"diagonal: axis {axis1} is named twice\n" + describe([node]))
    rest = [axis for axis in range(node.ndim) if axis not in (first, second)]
    return diagonal_op(transpose(node, (*rest, first, second)), offset=_offset(offset, "diagonal"))


@surface
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Node:
    """The sum of a diagonal, in the dtype that `sum` uses."""
    from graphc.ops.reduce import sum_

    found = diagonal(x, offset, axis1, axis2)
    total = sum_(found if dtype is None else cast(found, dtype), axis=-1)
    return total if dtype is None else cast(total, dtype)


@surface
def diag(v: Any, k: int = 0) -> Node:
    """The diagonal k of a matrix; or the matrix that has v, of rank 1, as its diagonal k."""
    node = as_node(v)
    if node.ndim == 2:
        return diagonal(node, k)
    if node.ndim != 1:
        raise GraphError("diag needs a vector or a matrix\n" + describe([node]))
    size = node.shape[0] + abs(_offset(k, "diag"))
    return embed_diagonal_op(node, offset=int(k), rows=size, columns=size)


@surface
def diagflat(v: Any, k: int = 0) -> Node:
    """The matrix that has the elements of v as its diagonal k."""
    return diag(ravel(v), k)


@surface
def fill_diagonal(x: Any, val: Any, wrap: bool = False) -> Node:
    """x with its main diagonal set to `val`, whose elements repeat in C order: a new array, where
    NumPy's function changes its argument. With `wrap` the diagonal of a tall matrix starts again
    below its end.
    """
    from graphc.ops.arrangement import resize
    from graphc.ops.movement import overlay_op, reshape

    node = as_node(x)
    if node.ndim < 2:
        raise GraphError("fill_diagonal needs at least two axes\n" + describe([node]))
    if not all(isinstance(size, int) for size in node.shape):
        raise GraphError(
            "fill_diagonal needs known extents\n"
            + describe([node])
            + "\nUse gx.where(gx.eye(n, m, dtype=bool), value, x)."
        )
    if node.ndim > 2 and len(set(node.shape)) > 1:
        raise GraphError("fill_diagonal: all extents must be equal\n" + describe([node]))
    strides = np.cumprod([1, *map(int, node.shape[:0:-1])], dtype=np.int64)
    step = int(strides.sum())
    columns = node.shape[1]
    end = node.size if wrap or node.ndim > 2 else min(node.size, columns * columns)  # type: ignore[operator, type-var]
    count = len(range(0, end, step))  # type: ignore[arg-type]
    values = resize(cast(as_node(val), node.dtype), (count,))
    flat = overlay_op(ravel(node), values, starts=(0,), steps=(step,)) if count else ravel(node)
    return reshape(flat, node.shape)


# -- triangles -------------------------------------------------------------------------------------


def _triangle(rows: Extent, columns: Extent, k: int) -> Node:
    """Where the column is at most k to the right of the diagonal."""
    line, across = (
        iota_op(shape=(rows, columns), axis=axis, dtype=dtypes.INT64) for axis in (0, 1)
    )
    return across <= (line + k if k else line)


@surface
def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = "float64") -> Node:  # noqa: N803
    """1 at and below the diagonal k of an N by M matrix, 0 above."""
    rows = as_extent(N)
    columns = rows if M is None else as_extent(M)
    return cast(_triangle(rows, columns, _offset(k, "tri")), dtype)


def _keep_triangle(m: Any, k: int, lower: bool, name: str) -> Node:
    from graphc.ops.special import where_op, zeros_like

    node = as_node(m)
    if node.ndim == 1:
        node = broadcast(node, (node.shape[0], node.shape[0]), (1,))
    if node.ndim < 2:
        raise GraphError(f"{name} needs at least one axis\n" + describe([node]))
    rows, columns = node.shape[-2:]
    below = _triangle(rows, columns, _offset(k, name) if lower else _offset(k, name) - 1)
    mask = broadcast(below, node.shape, (node.ndim - 2, node.ndim - 1))
    zero = zeros_like(node)
    return where_op(mask, node, zero) if lower else where_op(mask, zero, node)


@surface
def tril(m: Any, k: int = 0) -> Node:
    """m with zeros above its diagonal k; over the last two axes."""
    return _keep_triangle(m, k, True, "tril")


@surface
def triu(m: Any, k: int = 0) -> Node:
    """m with zeros below its diagonal k; over the last two axes."""
    return _keep_triangle(m, k, False, "triu")


@surface
def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = "float64") -> Node:  # noqa: N803
    """1 on the diagonal k of an N by M matrix, 0 elsewhere."""
    rows = as_extent(N)
    columns = rows if M is None else as_extent(M)
    line, across = (
        iota_op(shape=(rows, columns), axis=axis, dtype=dtypes.INT64) for axis in (0, 1)
    )
    return cast(across == (line + _offset(k, "eye") if k else line), dtype)


@surface
def identity(n: Any, dtype: Any = "float64") -> Node:
    """The n by n identity matrix."""
    return eye(n, dtype=dtype)


def _known(value: Any, name: str) -> int:
    extent_ = as_extent(value)
    if not isinstance(extent_, int):
        raise GraphError(
            f"{name} of a named extent {extent_}: how many positions there are must be known\n"
            "Use gx.tril or gx.triu, or gx.where with a comparison of positions."
        )
    return extent_


def _indices(name: str, find: Any) -> Any:
    def of_size(n: Any, k: int = 0, m: Any = None) -> tuple[Node, ...]:
        rows = _known(n, name)
        columns = None if m is None else _known(m, name)
        return tuple(as_node(part) for part in find(rows, _offset(k, name), columns))

    def of_array(arr: Any, k: int = 0) -> tuple[Node, ...]:
        node = as_node(arr)
        if node.ndim != 2:
            raise GraphError(f"{name}_from needs a matrix\n" + describe([node]))
        return of_size(node.shape[0], k, node.shape[1])

    of_size.__name__, of_array.__name__ = name, f"{name}_from"
    of_size.__doc__ = f"The rows and the columns of a triangle of an n by m matrix: NumPy's {name}."
    of_array.__doc__ = f"The rows and the columns of a triangle of a matrix: NumPy's {name}_from."
    return surface(of_size), surface(of_array)


tril_indices, tril_indices_from = _indices("tril_indices", np.tril_indices)
triu_indices, triu_indices_from = _indices("triu_indices", np.triu_indices)


@surface
def diag_indices(n: Any, ndim: int = 2) -> tuple[Node, ...]:
    """The positions of the main diagonal of an array with `ndim` axes of extent n."""
    line = iota_op(shape=(as_extent(n),), axis=0, dtype=dtypes.INT64)
    return (line,) * ndim
