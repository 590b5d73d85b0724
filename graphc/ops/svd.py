"""What are the singular values and vectors of a matrix?

The columns of a tall matrix, the rows of a wide one, are made orthogonal by rotations (`jacobi`);
their lengths are the singular values, the product of the rotations the vectors of the short side. A
QR decomposition of what has become of them gives those of the long side, which are orthonormal
then however small the values are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Extent, dim_max
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import like
from graphc.ops.contract import matmul
from graphc.ops.diagonal import diagonal_op, embed_diagonal_op
from graphc.ops.eigh import as_columns, as_rows, nearness, reciprocal_gaps
from graphc.ops.jacobi import numpy_signs, orthogonalise, sign_of
from graphc.ops.lapack import SVD
from graphc.ops.matrices import (
    SMALL_FOR_ROTATIONS,
    least,
    matrix_type,
    power_of_two,
    teams,
)
from graphc.ops.movement import matrix_transpose
from graphc.ops.qr import Reflections
from graphc.ops.special import project, where_op
from graphc.types import TensorType, TupleType, Type

NOT_CONVERGED = "SVD did not converge: a matrix has NaN or an infinity"


def _infer_svd(a: Type) -> Type:
    type_ = matrix_type("svd", a)
    lead, (m, n) = type_.shape[:-2], type_.shape[-2:]
    k, dtype = least(m, n), type_.dtype
    shapes = ((*lead, m, k), (*lead, k), (*lead, k, n))
    return TupleType(tuple(TensorType(dtype, shape) for shape in shapes))


def _numpy_svd(a: Any) -> Any:
    if not np.isfinite(a).all():
        raise np.linalg.LinAlgError(NOT_CONVERGED)
    left, values, right = np.linalg.svd(a, full_matrices=False)
    signs = numpy_signs(left)
    return left * signs, values, right * np.swapaxes(signs, -1, -2)


# -- the kernel ------------------------------------------------------------------------------------


def _write_svd(nest: Any) -> None:
    """The rows of scratch are what is made orthogonal: `count` of some `length`. Where it is not
    known which side is short they are columns, some of which end as zeros in a wide matrix.
    """
    shape, dtype = nest.shapes[0], nest.dtypes[0]
    m, n = shape[-2:]
    wide = least(m, n) == m and m != n
    count, length = (m, n) if wide else (n, m)
    left, values, right = nest.results
    long, short = (right, left) if wide else (left, right)
    larger = m if m == n else dim_max(m, n)
    work = 20 * count * count * length + 1
    with teams(nest, shape[:-2], larger, work, SMALL_FOR_ROTATIONS) as task:
        power, inverse = power_of_two(task, m, n, lambda team, i, j: team.read(0, i, j))
        k = task.k
        task.demand(k.eq(k.sub(power, power), 0.0))
        rows = task.memory(dtype, count, length)
        _load_scaled(task, rows, count, length, inverse, wide)
        turns = None
        if long is not None or short is not None:
            turns = task.memory(dtype, count, count)
            _load_identity(task, turns, count, dtype)
        if count == 0 or length == 0:
            return
        orthogonalise(task, rows, count, length, turns)
        _give_values(task, values, rows, least(m, n), length, power)
        if turns is not None:
            _give_vectors(task, (left, right), rows, turns, count, length, wide, dtype)


def _load_scaled(
    task: Any, rows: Any, count: Extent, length: Extent, inverse: Any, wide: bool
) -> None:
    with task.steps(0, count) as row, row.each(0, length) as column:
        at = (row.index, column.index) if wide else (column.index, row.index)
        value = column.k.mul(column.read(0, *at), inverse)
        column.store(rows, value, row.index, column.index)


def _load_identity(task: Any, target: Any, count: Extent, dtype: str) -> None:
    with task.steps(0, count) as row, row.each(0, count) as column:
        on = column.k.eq(column.position(row.index), column.position(column.index))
        value = column.k.select(on, column.k.const(1.0, dtype), 0.0)
        column.store(target, value, row.index, column.index)


def _give_values(
    task: Any, values: Any, rows: Any, count: Extent, length: Extent, power: Any
) -> None:
    if values is None:
        return
    with task.steps(0, count) as row:
        with row.each(0, length) as column:
            value = column.load(rows, row.index, column.index)
            square = column.accumulate("add", column.k.mul(value, value))
        row.give(values, row.k.mul(row.k.sqrt(column.total(square)), power), row.index)


def _give_vectors(
    task: Any,
    results: tuple[Any, Any],
    rows: Any,
    turns: Any,
    count: Extent,
    length: Extent,
    wide: bool,
    dtype: str,
) -> None:
    left, right = results
    work = Reflections(task, dtype, length, count)
    with task.steps(0, count) as row, row.each(0, length) as column:
        value = column.load(rows, row.index, column.index)
        column.store(work.matrix, value, column.index, row.index)
    work.reflect(task)
    long = work.orthonormal(task, work.count)
    with task.steps(0, work.count) as vector:
        i = vector.index
        one = vector.k.const(1.0, dtype)
        flip = vector.k.copysign(one, vector.load(work.matrix, i, i))

        def far(team: Any, at: Any, i: Extent = i) -> Any:
            return team.load(long, at, i)

        def near(team: Any, at: Any, i: Extent = i) -> Any:
            return team.load(turns, i, at)

        sides = [(left, far, length), (right, near, count)]
        if wide:
            sides = [(left, near, count), (right, far, length)]
        sign = sign_of(vector, sides[0][2], sides[0][1])
        signs = (sign, vector.k.mul(sign, flip))
        for number, (result, component, size) in enumerate(sides):
            if result is None:
                continue
            with vector.each(0, size) as each:
                value = each.k.mul(component(each, each.index), signs[number])
                at = (each.index, i) if number == 0 else (i, each.index)
                each.give(result, value, *at)


# -- derivatives -----------------------------------------------------------------------------------


def _inverted(values: Node) -> Node:
    """1 / s; 0 for what counts as 0 beside the largest."""
    from graphc.ops.eigh import EQUAL_EPS
    from graphc.ops.operands import broadcast
    from graphc.ops.reduce import max_

    largest = max_(values, -1, initial=0)
    bound = largest * like(largest, EQUAL_EPS * float(np.finfo(values.dtype).eps))
    none = values <= broadcast(bound, values.shape, tuple(range(bound.ndim)))
    one = like(values, 1)
    return where_op(none, like(values, 0), one / where_op(none, one, values))


def _square_gaps(values: Node, to: Node) -> Node:
    """1 / (s[j]² - s[i]²) at (i, j); 0 where the two count as equal."""
    sums = as_columns(values, to) + as_rows(values, to)
    none = sums <= nearness(values, to)
    inverse = where_op(none, like(sums, 0), like(sums, 1) / where_op(none, like(sums, 1), sums))
    return reciprocal_gaps(values, to, nearness(values, to)) * inverse


def _svd_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """With P = Uᵀ dA V and F[i, j] = 1 / (s[j]² - s[i]²): ds = diag(P), dU = U (F * (P S + S Pᵀ)) +
    (I - U Uᵀ) dA V S⁻¹, and dV the same of Aᵀ.
    """
    left, values, right = (project(node, i) for i in range(3))
    v, moved = matrix_transpose(right), tangents[0]
    inner = matmul(matmul(matrix_transpose(left), moved), v)
    gaps = _square_gaps(values, inner)
    turned = matrix_transpose(inner)
    across, down = as_columns(values, inner), as_rows(values, inner)
    du = matmul(left, gaps * (inner * across + turned * down))
    dv = matmul(v, gaps * (inner * down + turned * across))
    inverse = _inverted(values)
    m, n = left.shape[-2], v.shape[-2]
    if left.shape[-1] != m:
        du = du + _outside(left, matmul(moved, v)) * as_columns(inverse, left)
    if v.shape[-1] != n:
        image = matmul(matrix_transpose(moved), left)
        dv = dv + _outside(v, image) * as_columns(inverse, v)
    return [du, diagonal_op(inner, offset=0), matrix_transpose(dv)]


def _outside(basis: Node, x: Node) -> Node:
    """The part of columns that is orthogonal to those of a basis."""
    return x - matmul(basis, matmul(matrix_transpose(basis), x))


def _svd_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    left, values, right = (project(node, i) for i in range(3))
    v = matrix_transpose(right)
    by_left, by_values, by_right = cotangents
    by_v = None if by_right is None else matrix_transpose(by_right)
    k = values.shape[-1]
    inner: list[Node] = []
    outer: list[Node] = []
    if by_values is not None:
        inner.append(embed_diagonal_op(by_values, offset=0, rows=k, columns=k))
    for side, given in ((left, by_left), (v, by_v)):
        if given is None:
            continue
        turned = matmul(matrix_transpose(side), given)
        skew = _square_gaps(values, turned) * (turned - matrix_transpose(turned))
        of_left = side is left
        inner.append(skew * (as_columns if of_left else as_rows)(values, skew))
        if side.shape[-1] != side.shape[-2]:
            rest = _outside(side, given) * as_columns(_inverted(values), given)
            outer.append(
                matmul(rest, right) if of_left else matmul(left, matrix_transpose(rest))
            )
    middle = inner[0]
    for part in inner[1:]:
        middle = middle + part
    found = matmul(matmul(left, middle), right)
    for part in outer:
        found = found + part
    return [found]


svd_op: Op = register(
    Op(
        "svd",
        _infer_svd,
        _numpy_svd,
        Nest(_write_svd, stored=(0,), refusal=NOT_CONVERGED, by_library=SVD),
        Rules(_svd_jvp, _svd_vjp),
        batch=Leading(),
        result_names=("u", "s", "vh"),
        doc="U with orthonormal columns, the singular values in descending order, and Vᵀ with "
        "orthonormal rows. Of each column of U the first component of at least 0.37 of the largest "
        "is positive. Derivative: Giles 2008, section 3.2; Townsend 2016; the vectors of equal "
        "values do not turn, nor do those of the value 0.",
    )
)
