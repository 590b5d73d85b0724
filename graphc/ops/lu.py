"""Which triangles make up a matrix, once its rows are in another order?  LU with partial pivoting.

Each step makes a column of L and a row of U from those before it (Crout's order), so every element
of A is read once and sums stay in registers. L lies transposed in scratch, for its columns to be
contiguous, and rows of A never move: their numbers do. The packed result, pivots included, is
LAPACK's; a matrix without a pivot left is factorised all the same, with a zero on the diagonal of
U, and nobody fails before something is divided by it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import dim_max
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import like
from graphc.ops.contract import matmul
from graphc.ops.diagonal import tril, triu
from graphc.ops.lapack import LU
from graphc.ops.matrices import least, matrix_type, teams
from graphc.ops.movement import iota_op, matrix_transpose
from graphc.ops.operands import broadcast
from graphc.ops.special import project, where_op
from graphc.types import TensorType, TupleType, Type


def _infer_lu(a: Type) -> Type:
    type_ = matrix_type("lu", a)
    lead, (m, n) = type_.shape[:-2], type_.shape[-2:]
    pivots = TensorType("int64", (*lead, least(m, n)))
    return TupleType((type_, pivots, TensorType("int64", (*lead, m))))


def _numpy_lu(a: Any) -> Any:
    lead, (m, n) = a.shape[:-2], a.shape[-2:]
    count = math.prod(lead)
    packed = a.reshape(count, m, n).copy()
    pivots = np.zeros((count, min(m, n)), np.int64)
    order = np.tile(np.arange(m), (count, 1))
    with np.errstate(all="ignore"):
        for matrix, swaps, rows in zip(packed, pivots, order, strict=True):
            _eliminate(matrix, swaps, rows)
    return (
        packed.reshape(a.shape),
        pivots.reshape((*lead, min(m, n))),
        order.reshape((*lead, m)),
    )


def _eliminate(matrix: Any, swaps: Any, rows: Any) -> None:
    for k in range(len(swaps)):
        size = np.abs(matrix[k:, k])
        best = k + (0 if np.isnan(size).any() else int(np.argmax(size)))
        swaps[k] = best
        rows[[k, best]] = rows[[best, k]]
        matrix[[k, best]] = matrix[[best, k]]
        if matrix[k, k] != 0:
            matrix[k + 1 :, k] /= matrix[k, k]
        matrix[k + 1 :, k + 1 :] -= matrix[k + 1 :, k, None] * matrix[k, k + 1 :]


# -- the kernel ------------------------------------------------------------------------------------


class _Factors:
    """What a step works with: L transposed, U, and which row of A is where."""

    def __init__(self, task: Any, nest: Any) -> None:
        self.m, self.n = nest.shapes[0][-2:]
        self.steps = least(self.m, self.n)
        dtype = nest.dtypes[0]
        self.left = task.memory(dtype, self.steps, self.m)
        self.right = task.memory(dtype, self.steps, self.n)
        self.rows = task.memory("int64", self.m)
        self.packed, self.pivots, self.order = nest.results


def _write_lu(nest: Any) -> None:
    shape = nest.shapes[0]
    m, n = shape[-2:]
    larger = m if m == n else dim_max(m, n)
    with teams(nest, shape[:-2], larger, m * n * least(m, n) // 3 + 1) as task:
        f = _Factors(task, nest)
        with task.each(0, m) as row:
            row.store(f.rows, row.position(row.index), row.index)
        if f.steps != 0:  # else there is nothing in scratch
            with task.steps(0, f.steps) as step:
                _make_column(step, f)
                _make_row(step, f)
            task.barrier()
            _give_packed(task, f)
        with task.each(0, m) as row:
            row.give(f.order, row.load(f.rows, row.index), row.index)


def _give_packed(task: Any, f: _Factors) -> None:
    with task.steps(0, f.m) as row:
        i = row.index
        with row.each(0, least(i, f.n), (0, f.m)) as column:
            column.give(f.packed, column.load(f.left, column.index, i), i, column.index)
    with task.steps(0, f.steps) as row:
        i = row.index
        with row.each(i, f.n) as column:
            column.give(f.packed, column.load(f.right, i, column.index), i, column.index)


def _make_column(step: Any, f: _Factors) -> None:
    """Column k of L: what is left of that of A, with the largest element swapped to the front."""
    i = step.index
    step.barrier()
    with step.each(i, f.m) as row:

        def before(each: Any, j: Any = row.index) -> Any:
            return each.load(f.left, each.index, j), each.load(f.right, each.index, i)

        known = row.sum_of_products(0, i, before)
        value = row.k.sub(row.read(0, row.load(f.rows, row.index), i), known)
        row.store(f.left, value, i, row.index)
        size = row.accumulate("max", row.k.abs(value))
    largest = row.total(size)
    with step.each(i, f.m) as row:
        k = row.k
        hit = k.eq(k.abs(row.load(f.left, i, row.index)), largest)
        first = row.accumulate("min", k.select(hit, row.position(row.index), row.position(f.m)))
    k, found = step.k, row.total(first)
    pivot = k.select(k.lt(found, step.position(f.m)), found, step.position(i))  # none if NaN
    step.give(f.pivots, pivot, i)
    step.barrier()
    _swap(step, f, i, pivot)
    step.barrier()
    head = step.load(f.left, i, i)
    step.store(f.right, head, i, i)
    with step.each(i + 1, f.m) as row:
        k, value = row.k, row.load(f.left, i, row.index)
        row.store(f.left, k.select(k.eq(head, 0.0), value, k.div(value, head)), i, row.index)


def _swap(step: Any, f: _Factors, i: Any, pivot: Any) -> None:
    """Rows i and `pivot` of L, and of the numbers of rows."""
    with step.each(0, i + 1) as column:
        one = column.load(f.left, column.index, i)
        other = column.load(f.left, column.index, pivot)
        column.store(f.left, other, column.index, i)
        column.store(f.left, one, column.index, pivot)
    one, other = step.load(f.rows, i), step.load(f.rows, pivot)
    step.barrier()
    step.store(f.rows, other, i)
    step.store(f.rows, one, pivot)


def _make_row(step: Any, f: _Factors) -> None:
    """Row k of U."""
    i = step.index
    step.barrier()
    source = step.load(f.rows, i)
    with step.each(i + 1, f.n) as column:

        def before(each: Any, j: Any = column.index) -> Any:
            return each.load(f.left, each.index, i), each.load(f.right, each.index, j)

        known = column.sum_of_products(0, i, before)
        value = column.k.sub(column.read(0, source, column.index), known)
        column.store(f.right, value, i, column.index)


# -- derivatives -----------------------------------------------------------------------------------


def in_order(x: Node, order: Node) -> Node:
    """The rows of matrices as a permutation numbers them."""
    from graphc.ops.indexing import take_along_axis

    lead = tuple(range(order.ndim))
    return take_along_axis(x, broadcast(order, x.shape, lead), -2)


def out_of_order(x: Node, order: Node) -> Node:
    """The rows of matrices put back to where `in_order` has taken them from."""
    from graphc.ops.cumulative import add_along_axis

    lead = tuple(range(order.ndim))
    return add_along_axis(broadcast(order, x.shape, lead), x, x.ndim - 2)


def _squares(packed: Node) -> tuple[Node, Node]:
    """L and U of a packed factorisation, both square: what one of them lacks is of the identity."""
    m, n = packed.shape[-2:]
    k = least(m, n)
    return _completed(tril(packed, -1), m, k, unit=True), _completed(triu(packed), n, k, unit=False)


def _completed(x: Node, size: Any, k: Any, unit: bool) -> Node:
    """A triangle cut or filled up to `size`, with ones on its diagonal from k on, or on all."""
    from graphc.ops.movement import pad_op, slice_op

    lead, rank = x.shape[:-2], x.ndim
    ones, start = (1,) * rank, (0,) * rank
    cut = (*lead, *((size, k) if unit else (k, size)))
    if x.shape != cut:
        x = slice_op(x, starts=start, extents=cut, steps=ones)
    whole = (*lead, size, size)
    if x.shape != whole:
        x = pad_op(x, starts=start, shape=whole, steps=ones)
    square = (size, size)
    row, column = (iota_op(shape=square, axis=axis, dtype=dtypes.INT64) for axis in (0, 1))
    mask = row == column
    if not unit:
        mask = mask & (row >= (row * 0 + k))
    mask = broadcast(mask, whole, (rank - 2, rank - 1))
    return x + where_op(mask, like(x, 1), like(x, 0))


def _lu_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """With P A = L U and F = L⁻¹ P dA U⁻¹: dL = L tril(F, -1), dU = triu(F) U."""
    from graphc.ops.triangular import divided

    packed, order = project(node, 0), project(node, 2)
    left, right = _squares(packed)
    turned = divided(left, in_order(tangents[0], order), unit=True)
    inner = matrix_transpose(
        divided(right, matrix_transpose(turned), lower=False, transposed=True)
    )
    return [matmul(left, tril(inner, -1)) + matmul(triu(inner), right), None, None]


def _lu_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    from graphc.ops.triangular import divided

    if cotangents[0] is None:
        return [None]
    packed, order = project(node, 0), project(node, 2)
    left, right = _squares(packed)
    given = cotangents[0]
    inner = tril(matmul(matrix_transpose(left), given), -1)
    inner = inner + triu(matmul(given, matrix_transpose(right)))
    turned = divided(left, inner, transposed=True, unit=True)
    whole = matrix_transpose(divided(right, matrix_transpose(turned), lower=False))
    return [out_of_order(whole, order)]


lu_op: Op = register(
    Op(
        "lu",
        _infer_lu,
        _numpy_lu,
        Nest(_write_lu, stored=(0,), by_library=LU),
        Rules(_lu_jvp, _lu_vjp),
        batch=Leading(),
        result_names=("packed", "pivots", "order"),
        doc="L U = A[order], the elements of the unit lower triangle L being at most 1 in size: "
        "both in one array, the row with which each was exchanged, and the order that this makes. "
        "Derivative: of L U = P A with the order held, where A is not singular; de Hoog, Anderssen "
        "and Lukas 2011.",
    )
)
