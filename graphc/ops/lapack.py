"""Which decompositions are left to LAPACK, from which size on, and what do kernels do around it?

With `Options(library="lapack")` the ops `eigh`, `svd`, `lu` and `cholesky` have a second kernel
each. It copies a matrix to scratch, looks for NaN and infinities, for some routines do not return
from them, lets the routine work, and gives out what that has left: in the same places, with the
same signs and the same failures as the kernel of the op. A matrix is one task, as it is there.

The sizes are those from which LAPACK was ahead, this copying included: decision 16 has the figures.
Where many small matrices are lanes of vectors, the kernels stay ahead for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from graphc.dims import Extent, dim_max, dim_min
from graphc.lowering import ByLibrary
from graphc.ops.jacobi import sign_of
from graphc.ops.matrices import SMALL, SMALL_FOR_ROTATIONS, Team, are_lanes, least

# LAPACK's integers are of 32 bits: sizes of workspace fit in them up to this order, and extents.
_MOST_ORDER, _MOST_EXTENT = 1 << 14, 1 << 30
# Columns that LAPACK's reductions take at a time.
_BLOCK = 32


@dataclass(frozen=True)
class _From:
    """The order of a matrix from which LAPACK is ahead, by dtype: of one matrix, and of many that
    are lanes if they have at most `small` rows.
    """

    alone: int
    in_lanes: dict[str, int]
    small: int = SMALL

    def share(self, type_: Any) -> Extent:
        """1 where LAPACK is asked, else 0."""
        m, n = type_.shape[-2:]
        order, larger = least(m, n), m if m == n else dim_max(m, n)
        lanes = are_lanes(type_.shape[:-2], larger, self.small)
        bound = self.in_lanes[type_.dtype.name] if lanes else self.alone
        fits = _below(order, _MOST_ORDER) * _below(larger, _MOST_EXTENT)
        return _reaches(order, bound) * fits


def _reaches(size: Extent, bound: int) -> Extent:
    """1 from a bound on, else 0."""
    return dim_min(size // bound, 1)


def _below(size: Extent, bound: int) -> Extent:
    return 1 - _reaches(size, bound)


@contextmanager
def _tasks(nest: Any, work: Extent) -> Iterator[Team]:
    """A task for every matrix."""
    with nest.lines(nest.shapes[0][:-2], work, lanes=False) as (task, at):
        yield Team(nest, task, at, ())


# What a kernel takes from its argument: whether an element at (row, column) is read, by bounds of
# the columns, and whether the copy is transposed.
Columns = Callable[[Extent], tuple[Extent, Extent]]


def _copy(
    task: Team, dtype: str, rows: Extent, columns: Extent, within: Columns, turned: bool = False
) -> tuple[Any, Any]:
    """A copy of the argument in scratch, and whether all that was copied is finite."""
    matrix = task.memory(dtype, *((columns, rows) if turned else (rows, columns)))
    with task.steps(0, rows) as row:
        with row.each(*within(row.index), (0, columns)) as column:
            value = column.read(0, row.index, column.index)
            at = (column.index, row.index) if turned else (row.index, column.index)
            column.store(matrix, value, *at)
            found = column.accumulate("max", column.k.abs(value))
        largest = row.accumulate("max", column.total(found))
    return matrix, task.k.lt(row.total(largest), float("inf"))


def _lower(row: Extent) -> tuple[Extent, Extent]:
    return 0, row + 1


# -- eigh ------------------------------------------------------------------------------------------


def _write_eigh(nest: Any) -> None:
    dtype, n = nest.dtypes[0], nest.shapes[0][-1]
    values, vectors = nest.results
    with _tasks(nest, 9 * n * n * n + 1) as task:
        matrix, finite = _copy(task, dtype, n, n, _lower)
        found = task.memory(dtype, n)
        sizes = (2 * n + 1, 1) if vectors is None else (2 * n * n + 6 * n + 1, 5 * n + 3)
        memory = (task.memory(dtype, sizes[0]), task.memory("int32", sizes[1]))
        routine = "eigvalsh" if vectors is None else "eigh"
        outcome = task.library(routine, dtype, (matrix, found, *memory), (n,), finite)
        task.demand(task.k.eq(outcome, 0))
        with task.each(0, n) as each:
            each.give(values, each.load(found, each.index), each.index)
        if vectors is not None:
            _give_rows(task, vectors, matrix, n)


def _give_rows(task: Team, result: Any, rows: Any, n: Extent) -> None:
    """The rows of scratch as columns, with the sign of `sign_of`."""
    with task.steps(0, n) as one:
        i = one.index
        sign = sign_of(one, n, lambda team, at: team.load(rows, i, at))
        with one.each(0, n) as each:
            held = each.k.mul(each.load(rows, i, each.index), sign)
            each.give(result, held, each.index, i)


# -- svd -------------------------------------------------------------------------------------------


def _write_svd(nest: Any) -> None:
    dtype, (m, n) = nest.dtypes[0], nest.shapes[0][-2:]
    left, values, right = nest.results
    order, larger = least(m, n), m if m == n else dim_max(m, n)
    alone = left is None and right is None
    with _tasks(nest, (6 if alone else 20) * order * order * larger + 1) as task:
        matrix, finite = _copy(task, dtype, m, n, lambda row: (0, n))
        found = task.memory(dtype, order)
        integers = task.memory("int32", 8 * order)
        if alone:
            work = task.memory(dtype, 3 * order + larger + 7 * order + _BLOCK * (m + n))
            outcome = task.library(
                "svdvals", dtype, (matrix, found, work, integers), (n, m), finite
            )
        else:
            work = task.memory(dtype, 4 * order * order + 7 * order + _BLOCK * (m + n))
            rights, lefts = task.memory(dtype, order, n), task.memory(dtype, m, order)
            given = (matrix, found, rights, lefts, work, integers)
            outcome = task.library("svd", dtype, given, (n, m, order), finite)
        task.demand(task.k.eq(outcome, 0))
        with task.each(0, order) as each:
            each.give(values, each.load(found, each.index), each.index)
        if not alone:
            _give_vectors(task, nest, rights, lefts, order)


def _give_vectors(task: Team, nest: Any, rights: Any, lefts: Any, order: Extent) -> None:
    """Left vectors as columns and right ones as rows; each pair has the sign of the left one."""
    dtype, (m, n) = nest.dtypes[0], nest.shapes[0][-2:]
    left, _, right = nest.results
    signs = task.memory(dtype, order)
    with task.each(0, order) as vector:
        i = vector.index
        sign = sign_of(vector, m, lambda team, at: team.load(lefts, at, i), in_order=True)
        vector.store(signs, sign, i)
    task.barrier()
    with task.steps(0, m) as row, row.each(0, order) as column:
        held = column.load(lefts, row.index, column.index)
        signed = column.k.mul(held, column.load(signs, column.index))
        column.give(left, signed, row.index, column.index)
    with task.steps(0, order) as row:
        sign = row.load(signs, row.index)
        with row.each(0, n) as column:
            held = column.load(rights, row.index, column.index)
            column.give(right, column.k.mul(held, sign), row.index, column.index)


# -- lu --------------------------------------------------------------------------------------------


def _write_lu(nest: Any) -> None:
    dtype, (m, n) = nest.dtypes[0], nest.shapes[0][-2:]
    packed, pivots, order = nest.results
    steps = least(m, n)
    with _tasks(nest, m * n * steps // 3 + 1) as task:
        matrix, _ = _copy(task, dtype, m, n, lambda row: (0, n), turned=True)
        swaps, rows = task.memory("int32", steps), task.memory("int64", m)
        # NaN passes through, and so does a column of zeros: nobody fails before division by it.
        always = task.k.const(True, "bool")
        task.library("lu", dtype, (matrix, swaps), (m, n), always)
        with task.steps(0, m) as row, row.each(0, n) as column:
            held = column.load(matrix, column.index, row.index)
            column.give(packed, held, row.index, column.index)
        with task.each(0, m) as row:
            row.store(rows, row.position(row.index), row.index)
        with task.steps(0, steps) as step:
            step.barrier()
            pivot = _pivot(step, swaps, m)
            step.give(pivots, pivot, step.index)
            one, other = step.load(rows, step.index), step.load(rows, pivot)
            step.barrier()
            step.store(rows, other, step.index)
            step.store(rows, one, pivot)
        task.barrier()
        with task.each(0, m) as row:
            row.give(order, row.load(rows, row.index), row.index)


def _pivot(step: Team, swaps: Any, m: Extent) -> Any:
    """The row with which a step has exchanged its own, from 0: one that there is, even where NaN
    was compared.
    """
    k, here = step.k, step.position(step.index)
    named = k.sub(k.convert(step.load(swaps, step.index), "int64"), 1)
    return k.max(k.min(named, step.position(m - 1)), here)


# -- cholesky --------------------------------------------------------------------------------------


def _write_cholesky(nest: Any, upper: bool) -> None:
    (result,), (dtype,), n = nest.results, nest.dtypes, nest.shapes[0][-1]
    within = (lambda row: (row, n)) if upper else _lower
    with _tasks(nest, n * n * n // 3 + 1) as task:
        matrix, _ = _copy(task, dtype, n, n, within)
        routine = "cholesky_upper" if upper else "cholesky_lower"
        outcome = task.library(routine, dtype, (matrix,), (n,), task.k.const(True, "bool"))
        task.demand(task.k.eq(outcome, 0))
        with task.each(0, n) as each:  # LAPACK lets NaN pass
            pivot = each.load(matrix, each.index, each.index)
            each.demand(each.k.gt(pivot, 0.0), each.index)
        with task.steps(0, n) as row, row.each(0, n) as column:
            i, j = row.position(row.index), column.position(column.index)
            inside = column.k.le(i, j) if upper else column.k.ge(i, j)
            held = column.loop.load(matrix, (row.index, column.index), inside)
            column.give(result, held, row.index, column.index)


_NEVER = SMALL + 1  # as lanes
_ROTATED = {
    # of which the vectors are wanted, and of which the values alone
    "eigh": (
        _From(10, {"float32": 56, "float64": 36}, SMALL_FOR_ROTATIONS),
        _From(8, {"float32": 28, "float64": 20}, SMALL_FOR_ROTATIONS),
    ),
    "svd": (
        _From(12, {"float32": 64, "float64": 32}, SMALL_FOR_ROTATIONS),
        _From(8, {"float32": 40, "float64": 24}, SMALL_FOR_ROTATIONS),
    ),
}
_LU = _From(32, {"float32": _NEVER, "float64": _NEVER})
_CHOLESKY = _From(192, {"float32": _NEVER, "float64": _NEVER})


def _share_eigh(types: Sequence[Any], wanted: Sequence[bool]) -> Extent:
    with_vectors, alone = _ROTATED["eigh"]
    return (with_vectors if wanted[1] else alone).share(types[0])


def _share_svd(types: Sequence[Any], wanted: Sequence[bool]) -> Extent:
    with_vectors, alone = _ROTATED["svd"]
    return (with_vectors if wanted[0] or wanted[2] else alone).share(types[0])


EIGH = ByLibrary(_write_eigh, _share_eigh)
SVD = ByLibrary(_write_svd, _share_svd)
LU = ByLibrary(_write_lu, lambda types, wanted: _LU.share(types[0]))
CHOLESKY = ByLibrary(_write_cholesky, lambda types, wanted: _CHOLESKY.share(types[0]))

__all__ = ["CHOLESKY", "EIGH", "LU", "SVD"]
