"""How are all columns of a linear map computed at once?  In few directions as far as these meet
nowhere, in one for each column from there on.

A tangent of a large function begins sparse: an angle moves the bones behind its joint, a pixel its
neighbourhood. Columns that meet in no element of what is computed first can share a direction
there, as columns of a sparse Jacobian do (`coloring`), even if every result depends on all of them.
So the graph of the tangent is cut in two. In front of the cut it is pushed forward in as many
directions as there are colours; at the cut a gather gives every column its own, with zeros where
its colour belongs to others; behind it there is a direction for each column.

Where to cut is a matter of counting: for every number of columns that elements may depend on, what
lies within that number is a candidate, and the one with the fewest operations is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.autodiff.chain import result_types
from graphc.autodiff.coloring import Coloring, color_columns
from graphc.autodiff.pattern import Pattern
from graphc.autodiff.sparsity import dependences
from graphc.dims import Extent, product
from graphc.graph import placeholder_op
from graphc.lowering import Contract, Elementwise, Reduce, View
from graphc.node import Node, topological
from graphc.ops.gather import gather_op
from graphc.ops.movement import reshape, reshape_op, transpose_op
from graphc.ops.operands import broadcast, broadcast_op, constant
from graphc.ops.special import where
from graphc.types import TensorType

# Elements of all columns of one array: where there are more, columns are made one after the other.
MOST_ELEMENTS = 2**20
# Directions times elements of all arrays that are looked at to find where columns meet.
_MOST_POSITIONS = 2**20
# What it costs to give a column an element of a direction that it shares.
_SPREAD_COST = 8
# What an element of a product of matrices costs, and how many of its terms cost as much as one
# addition elsewhere.
_SUM_COST, _TERMS = 4, 8
# Elements of a vector.
_VECTOR = 8
# What an element of an op costs that has no estimate of its own, in additions.
_UNKNOWN_COST = 16


@dataclass(frozen=True, eq=False)
class Cut:
    """Nodes behind which every column has its own direction, the pattern of all of them one after
    the other, and the colours of the columns in front of them.
    """

    nodes: tuple[Node, ...]
    pattern: Pattern
    coloring: Coloring


def fits(result: Node, direction: Node) -> bool:
    """Whether all columns of a linear map may be computed at once: their sizes are numbers, and no
    array of all of them is too large.
    """
    sizes = _sizes(_moving(result, direction))
    known = all(isinstance(size, int) for size in sizes)
    return known and int(direction.size) * max(sizes, default=0) <= MOST_ELEMENTS


def _moving(result: Node, direction: Node) -> list[Node]:
    """What lies between the direction and the result, both included, in order."""
    found = {direction: None}
    for node in topological([result]):
        if any(argument in found for argument in node.args):
            found[node] = None
    return list(found)


def _sizes(nodes: Sequence[Node]) -> list[Extent]:
    return [product(type_.shape) for node in nodes for type_ in result_types(node)]


def all_columns(result: Node, direction: Node) -> Node:
    """The results of a linear map, given for `direction`, for every unit vector in its place: of
    shape (direction.size, *result.shape).
    """
    from graphc.batching import push_rows, spread

    count = int(direction.size)
    cut = cheapest_cut(result, direction)
    if cut is None:
        known = {direction: _unit_vectors(direction, np.arange(count), count)}
    else:
        few = cut.coloring.count
        seeds = {direction: _unit_vectors(direction, cut.coloring.colors, few)}
        found = push_rows(cut.nodes, seeds, few)
        known, start = {}, 0
        for node, rows in zip(cut.nodes, found, strict=True):
            stop = start + int(node.size)
            each = spread(node, few) if rows is None else rows
            known[node] = _spread_out(each, cut, start, stop)
            start = stop
    (rows,) = push_rows([result], known, count)
    return spread(result, count) if rows is None else rows


def _unit_vectors(direction: Node, colors: np.ndarray, count: int) -> Node:
    """For each colour the sum of the unit vectors of its columns."""
    hits = np.arange(count)[:, None] == colors
    return constant(hits.reshape(count, *direction.shape).astype(direction.dtype.name))


def _spread_out(rows: Node, cut: Cut, start: int, stop: int) -> Node:
    """Each column's own part of the direction that it shares."""
    pattern, colors = cut.pattern, np.maximum(cut.coloring.colors, 0)
    own = np.zeros((len(colors), stop - start), bool)
    inside = (pattern.rows >= start) & (pattern.rows < stop)
    own[pattern.indices[inside], pattern.rows[inside] - start] = True
    flat = reshape(rows, (cut.coloring.count, stop - start))
    chosen = gather_op(flat, constant(colors), axes=(0,), batch=(), at=0, windows=())
    if not own.all():
        chosen = where(constant(own), chosen, broadcast(constant(0, rows.dtype), own.shape, ()))
    return reshape(chosen, (len(colors), *rows.shape[1:]))


# -- where to cut ----------------------------------------------------------------------------------


def cheapest_cut(result: Node, direction: Node) -> Cut | None:
    """The cut with the fewest operations; None if no cut spares a tenth of them."""
    count = int(direction.size)
    moving = _moving(result, direction)
    if moving[-1] is not result or count * sum(_sizes(moving)) > _MOST_POSITIONS:
        return None
    held = dependences(result, direction)
    order = [node for node in moving if node in held and any(held[node])]
    fullest = {
        node: max(int(dep.pattern().row_sizes.max(initial=0)) for dep in held[node] if dep)
        for node in order
    }
    work = {node: _work(node) for node in order}
    best, least = None, 0.9 * count * sum(work.values())
    for most in sorted(set(fullest.values()) - {count}):
        inside = _within(order, fullest, most)
        edge = _edge(order, inside, result)
        behind = sum(work[node] for node in order if node not in inside)
        behind += _SPREAD_COST * sum(int(node.size) for node in edge)
        before = sum(work[node] for node in inside)
        if most * before + count * behind >= least:
            continue
        pattern = _stacked([dep.pattern() for node in edge for dep in held[node] if dep], count)
        coloring = color_columns(pattern)
        total = coloring.count * before + count * behind
        if total < least:
            best, least = Cut(tuple(edge), pattern, coloring), total
    return best


def _within(order: Sequence[Node], fullest: dict[Node, int], most: int) -> set[Node]:
    """Nodes whose elements depend on at most so many columns, and all that they are made of; but
    for views at the end that leave none out.
    """
    inside: set[Node] = set()
    for node in order:
        if fullest[node] <= most and all(a in inside for a in node.args if a in fullest):
            inside.add(node)
    needed = {argument for node in inside for argument in node.args}
    for node in reversed(order):
        if node in inside and node not in needed and _shows_all(node):
            inside.remove(node)
            needed = {argument for node in inside for argument in node.args}
    return inside


def _shows_all(node: Node) -> bool:
    """Whether a node is a view of one array that leaves out nothing of it."""
    return node.op in (broadcast_op, reshape_op, transpose_op)


def _edge(order: Sequence[Node], inside: set[Node], result: Node) -> list[Node]:
    """What is inside and read from outside."""
    read = {argument for node in order if node not in inside for argument in node.args}
    return [node for node in order if node in inside and (node in read or node is result)]


def _stacked(patterns: Sequence[Pattern], columns: int) -> Pattern:
    """Patterns one below the other."""
    starts = np.cumsum([0, *(pattern.shape[0] for pattern in patterns)])
    rows = [start + pattern.rows for start, pattern in zip(starts, patterns, strict=False)]
    indices = np.concatenate([pattern.indices for pattern in patterns])
    return Pattern.of(np.concatenate(rows), indices, (int(starts[-1]), columns))


def _work(node: Node) -> int:
    """An estimate of the operations of a node, for one direction. Rows that are shorter than a
    vector take as long as one.
    """
    form = node.op.lowering
    if node.op is placeholder_op or isinstance(form, View):
        return 0
    if isinstance(form, Reduce):
        return _elements(result_types(node.args[0])[0])
    elements = sum(map(_elements, result_types(node)))
    if isinstance(form, Contract):
        terms = math.prod(node.args[0].shape[axis] for axis in node.attrs["contracted"][0])
        return elements * (_SUM_COST + terms // _TERMS)
    return elements * (form.cost if isinstance(form, Elementwise) else _UNKNOWN_COST)


def _elements(type_: TensorType) -> int:
    """The elements of an array, its rows filled up to whole vectors."""
    *rows, last = type_.shape or (1,)
    return int(math.prod(rows) * -(-last // _VECTOR) * _VECTOR)
