"""What are the eigenvalues and eigenvectors of a symmetric matrix?

The rows of A + c I, c being so large that it is positive definite and far from singular, have as
their singular vectors the eigenvectors of A: they are made orthogonal (`jacobi`). An eigenvalue is
the Rayleigh quotient of its vector, which is exact to the square of the vector's error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Extent
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import absolute, like
from graphc.ops.cholesky import one_triangle, symmetric
from graphc.ops.contract import matmul
from graphc.ops.diagonal import diagonal_op, embed_diagonal_op
from graphc.ops.jacobi import numpy_signs, orthogonalise, sign_of
from graphc.ops.lapack import EIGH
from graphc.ops.matrices import SMALL_FOR_ROTATIONS, matrix_type, power_of_two, teams
from graphc.ops.movement import matrix_transpose
from graphc.ops.operands import broadcast
from graphc.ops.reduce import max_
from graphc.ops.special import project, where_op
from graphc.types import TensorType, TupleType, Type

NOT_CONVERGED = "Eigenvalues did not converge: a matrix has NaN or an infinity"
# Eigenvalues closer than so many eps of the largest count as equal in derivatives.
EQUAL_EPS = 16.0


def _infer_eigh(a: Type) -> Type:
    type_ = matrix_type("eigh", a, square=True)
    return TupleType((TensorType(type_.dtype, type_.shape[:-1]), type_))


def _numpy_eigh(a: Any) -> Any:
    if not np.isfinite(np.tril(a)).all():
        raise np.linalg.LinAlgError(NOT_CONVERGED)
    values, vectors = np.linalg.eigh(a)
    return values, vectors * numpy_signs(vectors)


# -- the kernel ------------------------------------------------------------------------------------


def _write_eigh(nest: Any) -> None:
    shape, dtype = nest.shapes[0], nest.dtypes[0]
    n = shape[-1]
    with teams(nest, shape[:-2], n, 20 * n * n * n + 1, SMALL_FOR_ROTATIONS) as task:
        power, inverse = power_of_two(task, n, n, _element)
        k = task.k
        finite = k.eq(k.sub(power, power), 0.0)
        task.demand(finite)
        matrix, rows = (task.memory(dtype, n, n) for _ in range(2))
        values = task.memory(dtype, n)
        _load_shifted(task, matrix, rows, n, inverse)
        if n != 0:
            orthogonalise(task, rows, n, n)
            _find_values(task, matrix, rows, values, n)
        _give(task, nest.results, rows, values, n, power)


def _element(team: Any, i: Extent, j: Extent) -> Any:
    """An element of the lower triangle, 0 above."""
    inside = team.k.ge(team.position(i), team.position(j))
    return team.loop.read(0, (*team._at, i, j), inside)


def _load_shifted(task: Any, matrix: Any, rows: Any, n: Extent, inverse: Any) -> None:
    """The scaled matrix, and the same with more than the largest sum of a row added to its
    diagonal, by which it becomes positive definite, with eigenvalues at most 9 times each other.
    """
    with task.steps(0, n) as row, row.each(0, row.index + 1, (0, n)) as column:
        value = column.k.mul(column.read(0, row.index, column.index), inverse)
        column.store(matrix, value, row.index, column.index)
        column.store(matrix, value, column.index, row.index)
    task.barrier()
    with task.steps(0, n) as row:
        with row.each(0, n) as column:
            value = column.load(matrix, row.index, column.index)
            column.store(rows, value, row.index, column.index)
            size = column.accumulate("add", column.k.abs(value))
        largest = row.accumulate("max", column.total(size))
    k, bound = task.k, row.total(largest)
    shift = k.select(k.gt(bound, 0.0), k.mul(bound, 1.25), 1.0)
    task.barrier()
    with task.each(0, n) as row:
        value = row.k.add(row.load(rows, row.index, row.index), shift)
        row.store(rows, value, row.index, row.index)


def _find_values(task: Any, matrix: Any, rows: Any, values: Any, n: Extent) -> None:
    """Divide each row by its length, and store the Rayleigh quotient of what it is then."""
    with task.steps(0, n) as row:
        i = row.index
        row.barrier()
        with row.each(0, n) as column:
            value = column.load(rows, i, column.index)
            square = column.accumulate("add", column.k.mul(value, value))
        length = row.k.sqrt(column.total(square))
        shrink = row.k.select(row.k.eq(length, 0.0), length, row.k.div(_one(row, length), length))
        with row.each(0, n) as column:
            value = column.k.mul(column.load(rows, i, column.index), shrink)
            column.store(rows, value, i, column.index)
        row.barrier()
        with row.each(0, n) as column:

            def terms(step: Any, j: Extent = column.index) -> Any:
                return step.load(rows, i, step.index), step.load(matrix, step.index, j)

            image = column.sum_of_products(0, n, terms)
            moved = column.k.mul(image, column.load(rows, i, column.index))
            quotient = column.accumulate("add", moved)
        row.store(values, column.total(quotient), i)


def _one(team: Any, pattern: Any) -> Any:
    return team.k.const(1.0, pattern.dtype)


def _give(task: Any, results: Any, rows: Any, values: Any, n: Extent, power: Any) -> None:
    """Values in order, and their vectors as columns, with the sign of `sign_of`."""
    given_values, given_vectors = results
    task.barrier()
    with task.steps(0, n) as one:
        i = one.index
        value = one.load(values, i)
        with one.each(0, n) as other:
            k, theirs = other.k, other.load(values, other.index)
            after = k.and_(k.eq(theirs, value), k.gt(other.position(other.index), one.position(i)))
            before = k.or_(k.lt(theirs, value), after)  # rows are in descending order
            counted = other.accumulate("add", k.convert(before, "int64"))
        place = other.total(counted)
        one.give(given_values, one.k.mul(value, power), place)
        if given_vectors is not None:
            sign = sign_of(one, n, lambda team, at, i=i: team.load(rows, i, at))
            with one.each(0, n) as each:
                held = each.k.mul(each.load(rows, i, each.index), sign)
                each.give(given_vectors, held, each.index, place)


# -- derivatives -----------------------------------------------------------------------------------


def as_columns(values: Node, to: Node) -> Node:
    """[..., n] at the shape [..., m, n] of matrices: one value for each column."""
    return broadcast(values, to.shape, (*range(values.ndim - 1), values.ndim))


def as_rows(values: Node, to: Node) -> Node:
    """[..., m] at the shape [..., m, n] of matrices: one value for each row."""
    return broadcast(values, to.shape, tuple(range(values.ndim)))


def reciprocal_gaps(values: Node, to: Node, bound: Node) -> Node:
    """1 / (value[j] - value[i]) at (i, j); 0 where the distance is at most `bound`."""
    gaps = as_columns(values, to) - as_rows(values, to)
    near = absolute(gaps) <= bound
    return where_op(near, like(gaps, 0), like(gaps, 1) / where_op(near, like(gaps, 1), gaps))


def nearness(values: Node, to: Node) -> Node:
    """The distance below which values count as equal, at the shape of matrices."""
    largest = max_(absolute(values), -1, initial=0)
    bound = largest * like(largest, EQUAL_EPS * float(np.finfo(values.dtype).eps))
    return broadcast(bound, to.shape, tuple(range(bound.ndim)))


def _eigh_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """M = Vᵀ dA V: dw = diag(M), dV = V (F * M)."""
    values, vectors = project(node, 0), project(node, 1)
    inner = matmul(matmul(matrix_transpose(vectors), symmetric(tangents[0])), vectors)
    gaps = reciprocal_gaps(values, vectors, nearness(values, vectors))
    return [diagonal_op(inner, offset=0), matmul(vectors, gaps * inner)]


def _eigh_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    values, vectors = project(node, 0), project(node, 1)
    n = vectors.shape[-1]
    inner: Any = None
    if cotangents[0] is not None:
        inner = embed_diagonal_op(cotangents[0], offset=0, rows=n, columns=n)
    if cotangents[1] is not None:
        gaps = reciprocal_gaps(values, vectors, nearness(values, vectors))
        turned = gaps * matmul(matrix_transpose(vectors), cotangents[1])
        inner = turned if inner is None else inner + turned
    whole = matmul(matmul(vectors, inner), matrix_transpose(vectors))
    half = like(whole, 0.5)
    return [one_triangle((whole + matrix_transpose(whole)) * half)]


eigh_op: Op = register(
    Op(
        "eigh",
        _infer_eigh,
        _numpy_eigh,
        Nest(_write_eigh, stored=(0,), refusal=NOT_CONVERGED, by_library=EIGH),
        Rules(_eigh_jvp, _eigh_vjp),
        batch=Leading(),
        result_names=("eigenvalues", "eigenvectors"),
        doc="The eigenvalues of symmetric matrices in ascending order, and orthonormal vectors as "
        "columns; of the matrices only the lower triangle is read. Of each vector the first "
        "component of at least 0.37 of the largest is positive. Derivative: Giles 2008, section "
        "3.1; inside the space of equal eigenvalues the vectors do not turn.",
    )
)
