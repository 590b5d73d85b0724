"""How is a system of equations with any square matrix solved, and what is its derivative?

By LU factors with partial pivoting. It is an op of its own for the sake of its derivatives, which
are solutions with the same matrix, or with its transpose: they take the factors that the value has,
where derivatives by way of the factors would solve for every column of them. (Giles, Collected
matrix derivative results for forward and reverse mode algorithmic differentiation, 2008, 2.2.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.lowering import Compose
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.contract import matmul
from graphc.ops.lu import in_order, lu_op, out_of_order
from graphc.ops.movement import matrix_transpose
from graphc.ops.special import project
from graphc.ops.triangular import divided, triangular_solve_op
from graphc.types import TensorType, Type


def _infer(a: Type, b: Type, transposed: bool) -> Type:
    assert isinstance(a, TensorType) and isinstance(b, TensorType)
    fits = a.ndim == b.ndim >= 2 and a.shape[:-1] == b.shape[:-1] and a.shape[-1] == a.shape[-2]
    if not fits or a.dtype is not b.dtype or a.dtype not in (dtypes.FLOAT32, dtypes.FLOAT64):
        raise GraphError(f"solve of {a} and {b}")
    return b


def _numpy(a: Any, b: Any, transposed: bool) -> Any:
    packed, _, order = lu_op.numpy(a)

    def divide(right: Any, lower: bool) -> Any:
        kind = {"lower": lower, "transposed": transposed, "unit": lower}
        return triangular_solve_op.numpy(packed, right, **kind)

    if not transposed:
        rows = np.take_along_axis(b, order[..., None], -2)
        return divide(divide(rows, True), False)
    found = divide(divide(b, False), True)
    return np.take_along_axis(found, np.argsort(order, -1)[..., None], -2)


def _build(a: Node, b: Node, transposed: bool) -> Node:
    factors = lu_op(a)
    return by_factors(project(factors, 0), project(factors, 2), b, transposed)


def by_factors(packed: Node, order: Node, b: Node, transposed: bool) -> Node:
    """The solution, from packed factors and the order of the rows that they are of."""
    if not transposed:
        return divided(packed, divided(packed, in_order(b, order), unit=True), lower=False)
    found = divided(packed, b, lower=False, transposed=True)
    return out_of_order(divided(packed, found, transposed=True, unit=True), order)


def _jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """A X = B: dX = A⁻¹ (dB - dA X)."""
    moved = tangents[1]
    if tangents[0] is not None:
        turned = tangents[0]
        turned = matrix_transpose(turned) if node.attrs["transposed"] else turned
        by_matrix = matmul(turned, node)
        moved = -by_matrix if moved is None else moved - by_matrix
    return [solve_op(node.args[0], moved, **node.attrs)]


def _vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    transposed = node.attrs["transposed"]
    given = solve_op(node.args[0], cotangents[0], transposed=not transposed)
    if not wanted[0]:
        return [None, given]
    left, right = (node, given) if transposed else (given, node)
    return [-matmul(left, matrix_transpose(right)), given]


solve_op: Op = register(
    Op(
        "solve",
        _infer,
        _numpy,
        Compose(_build),
        Rules(_jvp, _vjp),
        attributes=("transposed",),
        batch=Leading(),
        doc="X with A X = B, or Aᵀ X = B if `transposed`.",
    )
)
