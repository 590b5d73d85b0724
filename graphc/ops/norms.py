"""How long is a vector, how large a matrix?  Norms, with NumPy's orders."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import absolute, power, square
from graphc.ops.movement import expand_dims, moveaxis
from graphc.ops.operands import as_node, cast, describe, normalize_axes, normalize_axis
from graphc.ops.reduce import max_, min_, sum_
from graphc.ops.statistics import root
from graphc.tensor import surface

_INFINITY = float("inf")


def _vector_norm(x: Node, order: Any, axes: tuple[int, ...], keepdims: bool) -> Node:
    if order is None or order == 2:
        return root(sum_(square(x), axes, keepdims=keepdims))
    if order == 0:
        return sum_(cast(x != 0, x.dtype), axes, keepdims=keepdims)
    if order == 1:
        return sum_(absolute(x), axes, keepdims=keepdims)
    if order == _INFINITY:
        return max_(absolute(x), axes, keepdims=keepdims)
    if order == -_INFINITY:
        return min_(absolute(x), axes, keepdims=keepdims)
    total = sum_(power(absolute(x), float(order)), axes, keepdims=keepdims)
    return power(total, 1.0 / float(order))


def _matrix_norm(x: Node, order: Any, axes: tuple[int, int], keepdims: bool) -> Node:
    if order is None or order == "fro":
        return root(sum_(square(x), axes, keepdims=keepdims))
    if order in (2, -2, "nuc"):
        return _spectral_norm(x, order, axes, keepdims)
    if order not in (1, -1, _INFINITY, -_INFINITY):
        raise GraphError(
            "norm: a matrix has the orders 'fro', 'nuc', 1, -1, 2, -2, inf, -inf; got "
            f"{order!r}\n" + describe([x])
        )
    row, column = axes
    inner, outer = (row, column) if abs(order) == 1 else (column, row)
    sums = sum_(absolute(x), inner, keepdims=True)
    found = (max_ if order > 0 else min_)(sums, outer, keepdims=True)
    return found if keepdims else sum_(found, axes)


def _spectral_norm(x: Node, order: Any, axes: tuple[int, int], keepdims: bool) -> Node:
    """The largest singular value (2), the smallest (-2), or the sum of all ("nuc")."""
    from graphc.ops.spectra import svdvals

    values = svdvals(moveaxis(x, axes, (-2, -1)))
    if order == "nuc":
        found = sum_(values, -1)
    else:
        found = max_(values, -1, initial=0) if order == 2 else min_(values, -1)
    return expand_dims(found, axes) if keepdims else found


@surface
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Node:  # noqa: A002
    """The norm of vectors (`axis` an integer) or matrices (two axes); of all of x by default.

    Vectors have every order: 2 (default), 1, 0 (how many are not 0), inf, -inf, or any number p:
    sum(|x|**p)**(1/p). Matrices have "fro" (default), 1 and -1 (sums of columns), inf and -inf (of
    rows), 2 and -2 (the largest and the smallest singular value), "nuc" (their sum). The derivative
    of the Euclidean norm at 0 is taken as 0.
    """
    node = as_node(x)
    node = cast(node, dtypes.mean_dtype(node.dtype))
    if isinstance(ord, np.generic):
        ord = ord.item()  # noqa: A001
    if axis is None:
        axes = tuple(range(node.ndim))
        if ord is None:
            return _vector_norm(node, None, axes, keepdims)
        if node.ndim not in (1, 2):
            raise GraphError(
                "norm: with an order, arrays of rank 3 and more need `axis`\n" + describe([node])
            )
    else:
        given = axis if isinstance(axis, (tuple, list)) else (axis,)
        axes = tuple(normalize_axis(a, node, "norm") for a in given)
        if len(axes) not in (1, 2) or len(set(axes)) != len(axes):
            raise GraphError(f"norm: `axis` names one axis or two, got {axis}\n" + describe([node]))
    if len(axes) == 2:
        return _matrix_norm(node, ord, (axes[0], axes[1]), keepdims)
    if ord in ("fro", "nuc"):
        raise GraphError(f"norm: order {ord!r} is one of matrices\n" + describe([node]))
    if ord is not None and (isinstance(ord, bool) or not isinstance(ord, (int, float))):
        raise GraphError(f"norm: an order is a number, got {ord!r}\n" + describe([node]))
    return _vector_norm(node, ord, axes, keepdims)


def matrix_norm(
    x: Any,
    /,
    *,
    keepdims: bool = False,
    ord: Any = "fro",  # noqa: A002
) -> Node:
    """The norm of each of the matrices x [..., m, n]; `ord` as that of matrices in `norm`."""
    return norm(x, ord, axis=(-2, -1), keepdims=keepdims)


def vector_norm(
    x: Any,
    /,
    *,
    axis: Any = None,
    keepdims: bool = False,
    ord: Any = 2,  # noqa: A002
) -> Node:
    """The norm of the vectors along `axis`, along several axes taken as one, or of all of x."""
    node = as_node(x)
    node = cast(node, dtypes.mean_dtype(node.dtype))
    order = ord.item() if isinstance(ord, np.generic) else ord
    if isinstance(order, bool) or not isinstance(order, (int, float)):
        raise GraphError(f"vector_norm: an order is a number, got {ord!r}\n" + describe([node]))
    return _vector_norm(node, order, normalize_axes(axis, node, "vector_norm"), keepdims)
