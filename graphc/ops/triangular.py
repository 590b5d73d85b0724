"""What solves a system whose matrix is a triangle?  Substitution, an unknown after the other.

Columns of the right-hand side are independent of each other: they are lanes, and nothing passes
between lanes. A single column has no such lanes; there the terms of each sum are, or, where the
matrix is transposed and a sum would run down one of its columns, the sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import GraphError
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.contract import matmul
from graphc.ops.diagonal import tril, triu
from graphc.ops.matrices import are_lanes, matrix_type, teams
from graphc.ops.movement import matrix_transpose
from graphc.types import Type

SINGULAR = "Singular matrix"
# So many right-hand sides of many small matrices are done by one lane, one after the other.
_FEW = 4


def _infer_solve(t: Type, b: Type, lower: bool, transposed: bool, unit: bool) -> Type:
    triangle, given = matrix_type("triangular_solve", t, square=True), matrix_type("solve", b)
    if triangle.dtype != given.dtype or triangle.shape[:-1] != given.shape[:-1]:
        raise GraphError(f"triangular_solve of {t} and {b}")
    return given


def _numpy_solve(t: Any, b: Any, lower: bool, transposed: bool, unit: bool) -> Any:
    diagonal = np.diagonal(t, 0, -2, -1)
    if not unit and not np.all(diagonal):
        raise np.linalg.LinAlgError(SINGULAR)
    t = np.swapaxes(t, -1, -2) if transposed else t
    n, x = t.shape[-1], b.copy()
    forwards = lower != transposed
    with np.errstate(all="ignore"):
        for i in range(n) if forwards else reversed(range(n)):
            known = slice(0, i) if forwards else slice(i + 1, n)
            x[..., i, :] -= (t[..., i, None, known] @ x[..., known, :])[..., 0, :]
            if not unit:
                x[..., i, :] /= diagonal[..., i, None]
    return x


def _write_solve(nest: Any, lower: bool, transposed: bool, unit: bool) -> None:
    (result,), (shape, given) = nest.results, nest.shapes
    n, columns = given[-2:]
    few = isinstance(columns, int) and columns <= _FEW
    options = {"forwards": lower != transposed, "transposed": transposed, "unit": unit}
    if (few and are_lanes(shape[:-2], n)) or columns == 1:
        with teams(nest, shape[:-2], n, n * n * columns + 1) as task:
            lanes = bool(task._own)
            if not unit:
                _demand_regular(task, n)
            with task.steps(0, columns) as column:
                if transposed and not lanes:
                    _take_out(column, result, n, column.index, lower != transposed, unit)
                else:
                    _substitute(column, result, n, column.index, by_terms=not lanes, **options)
        return
    with nest.lines((*shape[:-2], columns), n * n, lanes=True) as (lane, (*at, column)):
        from graphc.ops.matrices import Team

        team = Team(nest, lane, tuple(at), ())
        if not unit:
            _demand_regular(team, n)
        _substitute(team, result, n, column, by_terms=False, **options)


def _demand_regular(team: Any, n: Any) -> None:
    with team.steps(0, n) as step:
        step.demand(step.k.ne(step.read(0, step.index, step.index), 0.0), step.index)


def _substitute(
    team: Any,
    result: Any,
    n: Any,
    column: Any,
    forwards: bool,
    transposed: bool,
    unit: bool,
    by_terms: bool,
) -> None:
    """One column. `by_terms`: the terms of a sum are shared out among lanes."""
    with team.steps(0, n) as row:
        i = row.index if forwards else n - 1 - row.index
        loop = row.each if by_terms else row.steps
        # Upwards in either case: as elements of a row lie in memory.
        before = (0, i) if forwards else (i + 1, n)
        with loop(*before, (0, n)) as term:
            j = term.index
            factor = term.read(0, j, i) if transposed else term.read(0, i, j)
            known = term.loop.load(result, (*term._at, j, column))
            total = term.accumulate("add", term.k.mul(factor, known))
        value = row.k.sub(row.read(1, i, column), term.total(total))
        if not unit:
            value = row.k.div(value, row.read(0, i, i))
        row.give(result, value, i, column)


def _take_out(
    team: Any, result: Any, n: Any, column: Any, forwards: bool, unit: bool
) -> None:
    """One column of a transposed system: each unknown is taken out of what is left of the others'
    right-hand sides, for its coefficients are a row, which lies together in memory.
    """
    with team.each(0, n) as row:
        row.give(result, row.read(1, row.index, column), row.index, column)
    with team.steps(0, n) as step:
        i = step.index if forwards else n - 1 - step.index
        step.barrier()
        value = step.loop.load(result, (*step._at, i, column))
        if not unit:
            value = step.k.div(value, step.read(0, i, i))
        step.barrier()
        step.give(result, value, i, column)
        with step.each(*((i + 1, n) if forwards else (0, i)), (0, n)) as row:
            left = row.loop.load(result, (*row._at, row.index, column))
            known = row.k.mul(row.read(0, i, row.index), value)
            row.give(result, row.k.sub(left, known), row.index, column)


def _reach(lower: bool, transposed: bool, unit: bool) -> dict[int, str]:
    """How an unknown depends on right-hand sides."""
    return {-2: "before" if lower != transposed else "after"}


# -- derivatives -----------------------------------------------------------------------------------


def _triangle(x: Node, node: Node) -> Node:
    """The part of a matrix that the node reads."""
    strict = int(node.attrs["unit"])
    return tril(x, -strict) if node.attrs["lower"] else triu(x, strict)


def _solve_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """T X = B: dX = T⁻¹ (dB - dT X)."""
    moved = tangents[1]
    if tangents[0] is not None:
        turned = _triangle(tangents[0], node)
        turned = matrix_transpose(turned) if node.attrs["transposed"] else turned
        by_matrix = matmul(turned, node)
        moved = -by_matrix if moved is None else moved - by_matrix
    return [triangular_solve_op(node.args[0], moved, **node.attrs)]


def _solve_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    attrs = dict(node.attrs)
    attrs["transposed"] = not attrs["transposed"]
    given = triangular_solve_op(node.args[0], cotangents[0], **attrs)
    if not wanted[0]:
        return [None, given]
    left, right = (node, given) if node.attrs["transposed"] else (given, node)
    return [-_triangle(matmul(left, matrix_transpose(right)), node), given]


triangular_solve_op: Op = register(
    Op(
        "triangular_solve",
        _infer_solve,
        _numpy_solve,
        Nest(_write_solve, stored=(0,), refusal=SINGULAR, reach=_reach),
        Rules(_solve_jvp, _solve_vjp),
        attributes=("lower", "transposed", "unit"),
        batch=Leading(),
        doc="X with T X = B, or Tᵀ X = B if `transposed`, T being the lower or the upper triangle "
        "of the first argument, with a diagonal of ones if `unit`. The rest is not read. "
        "Derivative: Giles 2008, section 2.3.1.",
    )
)


def divided(
    t: Node, b: Node, lower: bool = True, transposed: bool = False, unit: bool = False
) -> Node:
    """T⁻¹ b or T⁻ᵀ b."""
    return triangular_solve_op(t, b, lower=lower, transposed=transposed, unit=unit)


__all__ = ["divided", "triangular_solve_op"]
