"""How is a sparse Jacobian computed?  In a few directions, each of which holds many columns.

The columns of a colour (`coloring`) meet in no row, so one tangent, with ones in all of them, gives
them all; vmap carries the tangents of all colours through the graph of the derivative at once, and
a gather puts what they give into the order of the pattern. That is one graph, so one Function, in
which whatever does not depend on the direction is computed once.

Rows can be grouped in the same way, with cotangents. Where a few rows are full they are taken
backwards and the rest forwards, or a few full columns forwards and the rest backwards: whichever
split needs the fewest directions. Hessians use symmetry (`star_coloring`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.autodiff.chain import zero
from graphc.autodiff.coefficients import apart
from graphc.autodiff.coloring import Coloring, color_columns
from graphc.autodiff.pattern import Pattern
from graphc.autodiff.regions import TRANSFORM
from graphc.autodiff.sparse_matrix import SparseMatrix, taken
from graphc.autodiff.sparsity import linear_pattern, require_numbers
from graphc.autodiff.star_coloring import color_symmetric
from graphc.autodiff.sweep import pull_back, push_forward
from graphc.errors import GraphError
from graphc.graph import placeholder
from graphc.lowering import Gather
from graphc.node import Node, topological
from graphc.ops.movement import iota_op, ravel, reshape_op
from graphc.ops.operands import broadcast, cast, constant, constant_op
from graphc.types import TensorType

# Directions times elements: more are refused.
_MOST_ELEMENTS = 2**31
# A split into rows and columns is tried if it may need only this part of the directions.
_WORTH_A_SPLIT = 0.75
@dataclass(frozen=True, eq=False)
class Plan:
    """Which entries are computed forwards, from colours of columns, the others being computed
    backwards, from colours of rows.
    """

    forwards: np.ndarray
    columns: Coloring
    rows: Coloring

    @property
    def count(self) -> int:
        """The number of directions."""
        return self.columns.count + self.rows.count


def sparse_jacobian(output: Node, wrt: Node, mode: str = "auto") -> SparseMatrix:
    """The Jacobian of `output` by `wrt`, both flattened in C order.

    `mode` is "forward", "reverse" or "auto": whatever needs the fewest directions.
    """
    require_numbers([wrt, output])
    tangent, direction = tangent_of(output, wrt)
    pattern = linear_pattern(tangent, direction)
    plan = plan_of(pattern, wrt.shape, output.shape, mode)  # type: ignore[arg-type]
    found, places, start = [], np.zeros(pattern.nnz, np.int64), 0
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    if plan.columns.count:
        found.append(_in_directions(tangent, direction, plan.columns))
        places = plan.columns.colors[columns] * pattern.shape[0] + rows
        start = plan.columns.count * pattern.shape[0]
    if plan.rows.count:
        pulled, cotangent = cotangent_of(output, wrt)
        found.append(_in_directions(pulled, cotangent, plan.rows))
        backwards = start + plan.rows.colors[rows] * pattern.shape[1] + columns
        places = np.where(plan.forwards, places, backwards)
    return SparseMatrix(_collected(found, places, output), pattern)


def sparse_hessian(slope: Node, wrt: Node) -> SparseMatrix:
    """The Hessian by one node, which is flattened in C order, of what has the gradient `slope`."""
    require_numbers([wrt])
    tangent, direction = tangent_of(slope, wrt)
    pattern = symmetric_part(linear_pattern(tangent, direction))
    coloring, swapped = color_symmetric(pattern, wrt.shape)  # type: ignore[arg-type]
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    rows, columns = np.where(swapped, columns, rows), np.where(swapped, rows, columns)
    found = [_in_directions(tangent, direction, coloring)] if coloring.count else []
    places = coloring.colors[columns] * pattern.shape[0] + rows
    return SparseMatrix(_collected(found, places, slope), pattern)


def symmetric_part(pattern: Pattern) -> Pattern:
    """The positions that the pattern has on both sides of the diagonal.

    A Hessian is symmetric, so what a rule could not tell on one side, the other may.
    """
    size = pattern.shape[1]
    keys = pattern.rows.astype(np.int64) * size + pattern.indices
    other = pattern.transposed
    turned = other.rows.astype(np.int64) * size + other.indices
    if np.array_equal(keys, turned):
        return pattern
    both = np.intersect1d(keys, turned, assume_unique=True)
    return Pattern.of(*np.divmod(both, size), pattern.shape)


def tangent_of(output: Node, wrt: Node) -> tuple[Node, Node]:
    direction = placeholder(wrt.type)
    (made,) = push_forward([output], [wrt], [direction], TRANSFORM)
    return (zero(output.type) if made is None else made), direction  # type: ignore[arg-type]


def cotangent_of(output: Node, wrt: Node) -> tuple[Node, Node]:
    direction = placeholder(output.type)
    (made,) = pull_back([output], [wrt], [direction], TRANSFORM)
    return (zero(wrt.type) if made is None else made), direction  # type: ignore[arg-type]


def _in_directions(
    result: Node, direction: Node, coloring: Coloring
) -> tuple[Node, list[Node]]:
    """A linear map's results in the directions of all colours, one after the other, flat; and those
    directions.
    """
    from graphc.batching import push_rows, spread

    count = coloring.count
    if count * max(int(result.size), int(direction.size)) > _MOST_ELEMENTS:  # type: ignore[arg-type]
        raise GraphError(
            f"a Jacobian that needs {count} directions of {direction.size} elements, of which each "
            f"gives {result.size}, is not sparse enough\n"
            "Use gx.jvp, gx.vjp or gx.hvp, which need no matrix."
        )
    known = {}
    for node, colors in _moved_by_gathers(result, direction, coloring.colors).items():
        shape = (count, *node.shape)
        number = iota_op(shape=shape, axis=0, dtype=np.dtype("int64"))
        own = broadcast(constant(colors), shape, tuple(range(1, len(shape))))
        known[node] = cast(number == own, direction.dtype)
    (rows,) = push_rows([result], known, count)
    return ravel(spread(result, count) if rows is None else rows), list(known.values())


def _moved_by_gathers(result: Node, direction: Node, colors: np.ndarray) -> dict[Node, np.ndarray]:
    """The colours of a direction, and those of its elements wherever they are moved to by known
    positions: there one array is read instead of two.
    """
    found = {direction: colors.astype(np.int64).reshape(direction.shape)}
    for node in topological([result], known=found):
        source, *positions = node.args or (node,)
        if source in found and isinstance(node.op.lowering, Gather):
            if all(position.op is constant_op for position in positions):
                places = [position.attrs["value"].array for position in positions]
                found[node] = node.op.numpy(found[source], *places, **node.attrs)
        elif source in found and node.op is reshape_op:
            found[node] = found[source].reshape(node.shape)
    return found


def _collected(found: Sequence[tuple[Node, list[Node]]], places: np.ndarray, like: Node) -> Node:
    """What lies at the places of the results in directions, which are laid end to end."""
    from graphc.ops.movement import concatenate_op

    if not found:
        return zero(TensorType(like.dtype, (0,)))
    results, directions = zip(*found, strict=True)
    whole = results[0] if len(results) == 1 else concatenate_op(*results, axis=0)
    return apart(taken(whole, places), [each for own in directions for each in own])


# -- which directions ------------------------------------------------------------------------------


def plan_of(
    pattern: Pattern, columns: Sequence[int] = (), rows: Sequence[int] = (), mode: str = "auto"
) -> Plan:
    """The directions of a pattern; `columns` and `rows` are the shapes of what they number."""
    forward, backward = pattern, pattern.transposed
    every, none = np.ones(pattern.nnz, bool), Coloring(np.full(0, -1), 0)

    def by_columns() -> Plan:
        return Plan(every, color_columns(forward, columns), none)

    def by_rows() -> Plan:
        return Plan(~every, none, color_columns(backward, rows))

    if mode != "auto":
        return by_columns() if mode == "forward" else by_rows()
    ways = [(_fullest(forward), by_columns)]
    if not np.array_equal(forward.indices, backward.indices):
        ways.append((_fullest(backward), by_rows))
    least = min(bound for bound, _ in ways)
    for full, turned in ((forward, False), (backward, True)):
        bound, apart = _full_rows(full)
        if bound < _WORTH_A_SPLIT * least:
            ways.append((bound, functools.partial(_split, full, apart, turned)))
    best: Plan | None = None
    for bound, way in sorted(ways, key=lambda each: each[0]):
        if best is None or bound < best.count:
            plan = way()
            best = plan if best is None or plan.count < best.count else best
    assert best is not None
    return best


def _fullest(pattern: Pattern) -> int:
    return int(pattern.row_sizes.max(initial=0))


def _full_rows(pattern: Pattern) -> tuple[int, np.ndarray]:
    """(at least so many directions are needed if some rows are taken apart, which rows these are).
    """
    sizes = pattern.row_sizes
    falling = np.append(np.sort(sizes)[::-1], 0)
    least = np.arange(len(falling)) + falling  # so many full rows, and what the next one needs
    return int(least.min()), sizes > falling[int(least.argmin())]


def _split(pattern: Pattern, full: np.ndarray, turned: bool) -> Plan:
    """The full rows apart from the others: by rows those, by columns these.

    Where `turned` the pattern is that of the transposed matrix.
    """
    apart = full[pattern.rows]
    columns = color_columns(_part(pattern, ~apart))
    rows = color_columns(_part(pattern, apart).transposed)
    if not turned:
        return Plan(~apart, columns, rows)
    # entries of the transposed pattern, in the order of the pattern itself
    return Plan(apart[np.argsort(pattern.indices, kind="stable")], rows, columns)


def _part(pattern: Pattern, chosen: np.ndarray) -> Pattern:
    return Pattern.of(pattern.rows[chosen], pattern.indices[chosen], pattern.shape)
