"""Which orthonormal columns span those of a matrix?  QR by Householder's reflections.

Column j belongs to lane j: a reflection is the same vector for all lanes, and what each does to its
own column concerns nobody else. The signs are LAPACK's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Extent, dim_max
from graphc.errors import GraphError
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.contract import matmul
from graphc.ops.diagonal import tril
from graphc.ops.matrices import least, matrix_type, power_of_two, teams
from graphc.ops.movement import matrix_transpose, slice_op
from graphc.ops.special import project
from graphc.types import TensorType, TupleType, Type


def _infer_qr(a: Type, complete: bool) -> Type:
    type_ = matrix_type("qr", a)
    lead, (m, n) = type_.shape[:-2], type_.shape[-2:]
    k = m if complete else least(m, n)
    shapes = ((*lead, m, k), (*lead, k, n))
    return TupleType(tuple(TensorType(type_.dtype, shape) for shape in shapes))


def _numpy_qr(a: Any, complete: bool) -> Any:
    with np.errstate(all="ignore"):
        return tuple(np.linalg.qr(a, "complete" if complete else "reduced"))


# -- the kernel ------------------------------------------------------------------------------------


class Reflections:
    """Scratch for a matrix that reflections turn into a triangle: the matrix, the vectors of the
    reflections as rows, and their factors.
    """

    def __init__(self, task: Any, dtype: str, m: Extent, n: Extent) -> None:
        self.dtype, self.m, self.n, self.count = dtype, m, n, least(m, n)
        self.matrix = task.memory(dtype, m, n)
        self.vectors = task.memory(dtype, self.count, m)
        self.factors = task.memory(dtype, self.count)

    def reflect(self, task: Any) -> None:
        """Make the matrix a triangle; what is left below it is not read any more."""
        with task.steps(0, self.count) as step:
            step.barrier()
            self._make_vector(step)
            step.barrier()
            factor = step.load(self.factors, step.index)
            with step.each(step.index + 1, self.n) as column:
                self._apply(column, self.matrix, step.index, factor)

    def _make_vector(self, step: Any) -> None:
        """v and t with (I - t v vᵀ) x = (beta, 0, ...) for the rest x of a column; v[0] is 1."""
        i = step.index
        with step.each(i + 1, self.m) as row:
            value = row.load(self.matrix, row.index, i)
            below = row.accumulate("add", row.k.mul(value, value))
        k, rest, head = step.k, row.total(below), step.load(self.matrix, i, i)
        none = k.eq(rest, 0.0)
        size = k.sqrt(k.add(k.mul(head, head), rest))
        beta = k.select(none, head, k.copysign(size, k.neg(head)))
        factor = k.select(none, 0.0, k.div(k.sub(beta, head), beta))
        shrink = k.select(none, 0.0, k.div(k.const(1.0, self.dtype), k.sub(head, beta)))
        with step.each(i + 1, self.m) as row:
            value = row.k.mul(row.load(self.matrix, row.index, i), shrink)
            row.store(self.vectors, value, i, row.index)
        step.store(self.vectors, k.const(1.0, self.dtype), i, i)
        step.store(self.factors, factor, i)
        step.barrier()
        step.store(self.matrix, beta, i, i)

    def _apply(self, column: Any, target: Any, i: Extent, factor: Any) -> None:
        """Reflect a column of `target` by vector i."""
        j = column.index

        def pair(row: Any) -> Any:
            at = i + row.index
            return row.load(self.vectors, i, at), row.load(target, at, j)

        weight = column.k.mul(factor, column.sum_of_products(0, self.m - i, pair))
        with column.steps(0, self.m - i) as row:
            at = i + row.index
            moved = row.k.mul(row.load(self.vectors, i, at), weight)
            row.store(target, row.k.sub(row.load(target, at, j), moved), at, j)

    def orthonormal(self, task: Any, columns: Extent) -> Any:
        """The first columns of the product of all reflections, in scratch of its own."""
        found = task.memory(self.dtype, self.m, columns)
        with task.steps(0, self.m) as row, row.each(0, columns) as column:
            k, on = column.k, (row.position(row.index), column.position(column.index))
            value = k.select(k.eq(*on), k.const(1.0, self.dtype), 0.0)
            column.store(found, value, row.index, column.index)
        with task.steps(0, self.count) as step:
            i = self.count - 1 - step.index
            step.barrier()
            factor = step.load(self.factors, i)
            with step.each(i, columns) as column:
                self._apply(column, found, i, factor)
        task.barrier()
        return found


def _write_qr(nest: Any, complete: bool) -> None:
    shape, dtype = nest.shapes[0], nest.dtypes[0]
    m, n = shape[-2:]
    larger = m if m == n else dim_max(m, n)
    orthonormal, triangle = nest.results
    with teams(nest, shape[:-2], larger, 2 * m * n * least(m, n) + 1) as task:
        power, inverse = power_of_two(task, m, n, lambda team, i, j: team.read(0, i, j))
        work = Reflections(task, dtype, m, n)
        with task.steps(0, m) as row, row.each(0, n) as column:
            value = column.k.mul(column.read(0, row.index, column.index), inverse)
            column.store(work.matrix, value, row.index, column.index)
        if work.count != 0:
            work.reflect(task)
        task.barrier()
        with task.steps(0, m if complete else work.count) as row, row.each(0, n) as column:
            k, i, j = column.k, row.index, column.index
            inside = k.le(row.position(i), column.position(j))
            held = k.mul(column.load(work.matrix, i, j), power)
            column.give(triangle, k.select(inside, held, 0.0), i, j)
        if orthonormal is None:
            return
        columns = m if complete else work.count
        found = work.orthonormal(task, columns)
        with task.steps(0, m) as row, row.each(0, columns) as column:
            held = column.load(found, row.index, column.index)
            column.give(orthonormal, held, row.index, column.index)


# -- derivatives -----------------------------------------------------------------------------------


def _columns(x: Node, start: Extent, count: Extent) -> Node:
    """Some of the columns of matrices."""
    starts = (*(0,) * (x.ndim - 1), start)
    return slice_op(x, starts=starts, extents=(*x.shape[:-1], count), steps=(1,) * x.ndim)


def _parts(node: Node) -> tuple[Node, Node, Node | None, Extent]:
    """Q, the square part of R, the columns of A beside those that belong to it, and their number.

    With all columns of Q wanted of a tall matrix, those beyond A's are arbitrary: no derivative.
    """
    a = node.args[0]
    m, n = a.shape[-2:]
    if node.attrs["complete"] and m != least(m, n):
        raise GraphError(
            "qr: with mode 'complete' a tall matrix has columns in q that nothing determines, and "
            "which have no derivative\nUse mode 'reduced', or 'r' for the triangle alone."
        )
    q, r = project(node, 0), project(node, 1)
    if least(m, n) == n:
        return q, r, None, 0
    return q, _columns(r, 0, m), _columns(a, m, n - m), n - m


def _over(x: Node, r: Node) -> Node:
    """x R⁻¹."""
    from graphc.ops.triangular import divided

    return matrix_transpose(divided(r, matrix_transpose(x), lower=False, transposed=True))


def _qr_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """C = dA R⁻¹, M = Qᵀ C, W = tril(M, -1) - tril(M, -1)ᵀ: dQ = C - Q (M - W), dR = (M - W) R."""
    from graphc.ops.joining import concatenate

    q, r, rest, count = _parts(node)
    moved = tangents[0]
    first = moved if rest is None else _columns(moved, 0, r.shape[-1])
    turned = _over(first, r)
    inner = matmul(matrix_transpose(q), turned)
    low = tril(inner, -1)
    upper = inner - low + matrix_transpose(low)
    dq, dr = turned - matmul(q, upper), matmul(upper, r)
    if rest is not None:
        other = _columns(moved, r.shape[-1], count)
        beside = matmul(matrix_transpose(dq), rest) + matmul(matrix_transpose(q), other)
        dr = concatenate([dr, beside], -1)
    return [dq, dr]


def _qr_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    """M = R R̄ᵀ - Q̄ᵀ Q: Ā = (Q̄ + Q (tril(M) + tril(M, -1)ᵀ)) R⁻ᵀ."""
    from graphc.ops.arithmetic import like
    from graphc.ops.joining import concatenate
    from graphc.ops.triangular import divided

    q, r, rest, count = _parts(node)
    given, square = cotangents
    given = like(q, 0) if given is None else given
    square = like(project(node, 1), 0) if square is None else square
    beside = None
    if rest is not None:
        across = _columns(square, r.shape[-1], count)
        square = _columns(square, 0, r.shape[-1])
        given = given + matmul(rest, matrix_transpose(across))
        beside = matmul(q, across)
    inner = matmul(r, matrix_transpose(square)) - matmul(matrix_transpose(given), q)
    whole = given + matmul(q, tril(inner) + matrix_transpose(tril(inner, -1)))
    first = matrix_transpose(divided(r, matrix_transpose(whole), lower=False))
    return [first if beside is None else concatenate([first, beside], -1)]


qr_op: Op = register(
    Op(
        "qr",
        _infer_qr,
        _numpy_qr,
        Nest(_write_qr, stored=(0,)),
        Rules(_qr_jvp, _qr_vjp),
        attributes=("complete",),
        batch=Leading(),
        result_names=("q", "r"),
        doc="Q with orthonormal columns, as many as A has rows if `complete`, and the upper "
        "triangle R with A = Q R. Derivative, where the leading columns of A are independent: "
        "Walter and Lehmann 2010, arXiv:1001.1654; of wide matrices Roberts and Roberts 2020, "
        "arXiv:2009.10071.",
    )
)
