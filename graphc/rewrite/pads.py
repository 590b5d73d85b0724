"""What becomes of pads that are added?  One array, if they lie side by side.

The derivative by a slice is a pad, and that by all elements or columns of an array, taken one by
one, a sum of pads as long as the array is wide: it would be added up in its full width once for
each of them. Side by side they are joined instead, which a kernel writes where it belongs.
"""

from __future__ import annotations

from typing import Any

from graphc.dims import Extent, product
from graphc.node import Node
from graphc.ops.arithmetic import add_op
from graphc.ops.movement import concatenate_op, pad_op, reshape, reshape_op
from graphc.rewrite.movement import MOST_JOINED, is_plain, known_extents
from graphc.rewrite.pattern import Family, at_type, functions, number_of
from graphc.rewrite.rule import rule
from graphc.types import Shape, TensorType

(padded,) = functions("pad")
_Piece = tuple[Node, tuple[Extent, ...]]  # an array, and where it begins


def _side_by_side(node: Node) -> Node | None:
    """Arrays padded to one shape and added, side by side: each begins where another ends, or later
    where that is known.
    """
    terms = _terms(node)
    if terms is None:
        return None
    run = _joined_axes(terms, node.shape)
    if run is None:
        return None
    pieces: list[_Piece] = []
    for term in terms:
        found = _pieces(term)
        if term.op is not reshape_op:
            found = [_along(piece, node.shape, run) for piece in found]
        pieces += found
        if len(pieces) > MOST_JOINED:
            return None
    (first, last), axis = run, run[0]
    if len({(*a.shape[:axis], *a.shape[axis + 1 :]) for a, _ in pieces}) != 1:
        return None
    if len({(*start[:axis], *start[axis + 1 :]) for _, start in pieces}) != 1:
        return None
    pieces = _in_sequence(pieces, axis) or _with_gaps(pieces, axis)
    if not pieces:
        return None
    joined = concatenate_op(*[array for array, _ in pieces], axis=axis)
    shape = (*node.shape[:first], product(node.shape[first:last]), *node.shape[last:])
    padded = pad_op(joined, starts=pieces[0][1], shape=shape, steps=(1,) * len(shape))
    return reshape(padded, node.shape)


def _terms(node: Node) -> list[Node] | None:
    """What is added, if all of it is padded or joined, in this shape or before a reshape."""
    found: list[Node] = []
    stack = [*node.args]
    while stack:
        term = stack.pop()
        if term.op is add_op:
            stack += term.args
        else:
            inner = term.args[0] if term.op is reshape_op else term
            if inner.op is not concatenate_op and not (inner.op is pad_op and is_plain(inner)):
                return None
            found.append(term)
        if len(found) + len(stack) > MOST_JOINED:
            return None
    return found


def _joined_axes(terms: list[Node], shape: Shape) -> tuple[int, int] | None:
    """The axes, from one to before another, that pieces lie side by side along: a single one, or
    several of known extents that are one axis to all pieces; None if there are no such.
    """
    reshapes = {_merged(term) for term in terms if term.op is reshape_op}
    if len(reshapes) > 1 or None in reshapes:
        return None
    pieces = [piece for term in terms if term.op is not reshape_op for piece in _pieces(term)]
    apart = [
        axis
        for axis in range(len(shape))
        if len({(start[axis], array.shape[axis]) for array, start in pieces}) > 1
    ]
    for run in reshapes:
        apart += [run[0], run[1] - 1]  # type: ignore[index]
    if not apart:
        return None
    run = (min(apart), max(apart) + 1)
    if reshapes and run not in reshapes:
        return None
    if run[1] - run[0] > 1 and not all(_is_one_run(piece, shape, run) for piece in pieces):
        return None
    return run


def _merged(node: Node) -> tuple[int, int] | None:
    """The axes of a reshape that were one before it; None if it does not just part an axis."""
    before, after = node.args[0].shape, node.shape
    more = len(after) - len(before)
    if more < 1:
        return None
    first = next((i for i, extent in enumerate(before) if extent != after[i]), None)
    if first is None:
        return None
    last = first + more + 1
    parted = known_extents(after[first:last]) and before[first + 1 :] == after[last:]
    return (first, last) if parted else None


def _is_one_run(piece: _Piece, shape: Shape, run: tuple[int, int]) -> bool:
    """Whether a piece's elements follow one another along axes that are taken as one."""
    array, start = piece
    inside = slice(*run)
    if not known_extents(shape[inside], array.shape[inside], start[inside]):
        return False
    wide = min((axis for axis in range(*run) if array.shape[axis] != 1), default=run[1])
    return all(array.shape[axis] == shape[axis] for axis in range(wide + 1, run[1]))


def _along(piece: _Piece, shape: Shape, run: tuple[int, int]) -> _Piece:
    """A piece where axes of the shape are taken as one."""
    array, start = piece
    first, last = run
    if last - first == 1:
        return piece
    at: Extent = 0
    for axis in range(first, last):
        at = at * shape[axis] + start[axis]
    extents = (*array.shape[:first], product(array.shape[first:last]), *array.shape[last:])
    return reshape(array, extents), (*start[:first], at, *start[last:])


def _pieces(term: Node) -> list[_Piece]:
    """The arrays of a term and where they begin, before a reshape."""
    inner = term.args[0] if term.op is reshape_op else term
    if inner.op is concatenate_op:  # as wide as all: nothing is left to pad
        return _joined(inner, (0,) * inner.ndim)
    array, begin = inner.args[0], inner.attrs["starts"]
    return _joined(array, begin) if array.op is concatenate_op else [(array, begin)]


def _joined(node: Node, begin: tuple[Extent, ...]) -> list[_Piece]:
    """The arrays that a concatenate joins, and where they begin; zeros count for nothing."""
    axis, found = node.attrs["axis"], []
    for array in node.args:
        if number_of(array) != 0:
            found.append((array, begin))
        begin = (*begin[:axis], begin[axis] + array.shape[axis], *begin[axis + 1 :])
    return found


def _in_sequence(pieces: list[_Piece], axis: int) -> list[_Piece]:
    """The pieces in the order in which one begins where another ends; none if there is no such."""
    begins = {start[axis]: (array, start) for array, start in pieces}
    ends = {start[axis] + array.shape[axis] for array, start in pieces}
    current = [piece for start, piece in begins.items() if start not in ends]
    found: list[_Piece] = []
    while len(current) == 1 and len(found) < len(pieces):
        array, start = current[0]
        found.append((array, start))
        following = begins.get(start[axis] + array.shape[axis])
        current = [] if following is None else [following]
    return found if len(found) == len(pieces) else []


def _with_gaps(pieces: list[_Piece], axis: int) -> list[_Piece]:
    """The pieces in their order, with zeros between those that leave a gap; none if two overlap, or
    if it is not known where they lie.
    """
    if not known_extents(*((start[axis], array.shape[axis]) for array, start in pieces)):
        return []
    found: list[_Piece] = []
    end: Any = None
    for array, start in sorted(pieces, key=lambda piece: piece[1][axis]):  # type: ignore[arg-type, return-value]
        at: Any = start[axis]
        if end is not None and at < end:
            return []
        if end is not None and at > end:
            shape = (*array.shape[:axis], at - end, *array.shape[axis + 1 :])
            nothing = at_type(0, TensorType(array.dtype, shape))
            found.append((nothing, (*start[:axis], end, *start[axis + 1 :])))
        found.append((array, start))
        end = at + array.shape[axis]
    return found


rule(
    "add_pads",
    Family("add", lambda op: op is add_op, frozenset((add_op, pad_op, concatenate_op, reshape_op))),
    _side_by_side,
    law="stable",
    doc="pad(concatenate(...)), or concatenate(...)",
    example=lambda u, v: padded(u, [(0, 9)]) + padded(v, [(9, 0)]) + padded(u * v, [(4, 5)]),
)
