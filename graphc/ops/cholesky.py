"""What is the square root of a positive definite matrix?  Its Cholesky factor, a triangle.

The kernel makes the factor U with A = Uᵀ U row by row, each from the rows above it, and hands out
its transpose where the lower factor is wanted: a row is contiguous, its sums stay in registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import like
from graphc.ops.contract import matmul
from graphc.ops.diagonal import tril, triu
from graphc.ops.lapack import CHOLESKY
from graphc.ops.matrices import matrix_type, teams
from graphc.ops.movement import matrix_transpose
from graphc.types import Type

NOT_POSITIVE = "Matrix is not positive definite"


def _infer_cholesky(a: Type, upper: bool) -> Type:
    return matrix_type("cholesky", a, square=True)


def _numpy_cholesky(a: Any, upper: bool) -> Any:
    found = np.linalg.cholesky(a, upper=upper)
    if np.isnan(np.diagonal(found, 0, -2, -1)).any():  # LAPACK lets NaN pass
        raise np.linalg.LinAlgError(NOT_POSITIVE)
    return found


def _write_cholesky(nest: Any, upper: bool) -> None:
    (result,), (dtype,), (shape,) = nest.results, nest.dtypes, nest.shapes
    n = shape[-1]
    with teams(nest, shape[:-2], n, n * n * n // 3 + 1) as task:
        factor = task.memory(dtype, n, n)
        with task.steps(0, n) as row:
            _make_row(row, factor, n, upper)
        task.barrier()
        with task.steps(0, n) as row, row.each(0, n) as column:
            i, j = (row.index, column.index) if upper else (column.index, row.index)
            inside = column.k.le(column.position(i), column.position(j))
            held = column.loop.load(factor, (i, j, *column._own), inside)
            column.give(result, held, row.index, column.index)


def _make_row(row: Any, factor: Any, n: Any, upper: bool) -> None:
    """Row i of U, up to its diagonal element, and then divided by it."""
    i = row.index
    row.barrier()
    with row.each(i, n) as column:
        j = column.index

        def above(step: Any, j: Any = j) -> Any:
            return step.load(factor, step.index, i), step.load(factor, step.index, j)

        known = column.sum_of_products(0, i, above)
        given = column.read(0, i, j) if upper else column.read(0, j, i)
        column.store(factor, column.k.sub(given, known), i, j)
    row.barrier()
    pivot = row.load(factor, i, i)
    row.demand(row.k.gt(pivot, 0.0), i)
    root = row.k.sqrt(pivot)
    row.barrier()
    row.store(factor, root, i, i)
    with row.each(i + 1, n) as column:
        value = column.k.div(column.load(factor, i, column.index), root)
        column.store(factor, value, i, column.index)


# -- derivatives -----------------------------------------------------------------------------------


def halved_diagonal(x: Node, upper: bool = False) -> Node:
    """A triangle of x, with half of its diagonal."""
    strict, whole = (triu(x, 1), triu(x)) if upper else (tril(x, -1), tril(x))
    return (strict + whole) * like(strict, 0.5)


def one_triangle(x: Node, upper: bool = False) -> Node:
    """The cotangent of a symmetric matrix as that of the one triangle that was read."""
    if upper:
        return triu(x) + triu(matrix_transpose(x), 1)
    return tril(x) + tril(matrix_transpose(x), -1)


def symmetric(x: Node, upper: bool = False) -> Node:
    """The symmetric matrix with a given triangle."""
    if upper:
        return triu(x) + matrix_transpose(triu(x, 1))
    return tril(x) + matrix_transpose(tril(x, -1))


def _cholesky_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """dL = L phi(L⁻¹ dA L⁻ᵀ), phi taking the lower triangle and half of the diagonal; of the upper
    factor dU = phi(U⁻ᵀ dA U⁻¹)ᵀ U.
    """
    from graphc.ops.triangular import divided

    upper = node.attrs["upper"]
    factor = matrix_transpose(node) if upper else node
    turned = divided(factor, symmetric(tangents[0], upper))
    inner = divided(factor, matrix_transpose(turned))
    moved = matmul(factor, halved_diagonal(inner))
    return [matrix_transpose(moved) if upper else moved]


def _cholesky_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    from graphc.ops.triangular import divided

    upper = node.attrs["upper"]
    factor, given = node, cotangents[0]
    if upper:
        factor, given = matrix_transpose(factor), matrix_transpose(given)
    inner = halved_diagonal(matmul(matrix_transpose(factor), given))
    inner = (inner + matrix_transpose(inner)) * like(inner, 0.5)
    turned = divided(factor, inner, transposed=True)
    whole = divided(factor, matrix_transpose(turned), transposed=True)
    return [one_triangle(whole, upper)]


cholesky_op: Op = register(
    Op(
        "cholesky",
        _infer_cholesky,
        _numpy_cholesky,
        Nest(_write_cholesky, stored=(0,), refusal=NOT_POSITIVE, by_library=CHOLESKY),
        Rules(_cholesky_jvp, _cholesky_vjp),
        attributes=("upper",),
        batch=Leading(),
        doc="The lower triangle L with L Lᵀ = A, or the upper one with Uᵀ U = A, of positive "
        "definite matrices of which only that triangle is read. "
        "Derivative: Giles 2008, section 2.2.4; Murray 2016, arXiv:1602.07527.",
    )
)
