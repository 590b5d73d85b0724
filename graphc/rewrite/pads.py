"""What becomes of pads that are added?  One array, if they lie side by side.

The derivative by a slice is a pad, and that by all elements or columns of an array, taken one by
one, a sum of pads as long as the array is wide: it would be added up in its full width once for
each of them. Side by side they are joined instead, which a kernel writes where it belongs.
"""

from __future__ import annotations

from typing import Any

from graphc.dims import Extent
from graphc.node import Node
from graphc.ops.arithmetic import add_op
from graphc.ops.movement import concatenate_op, pad_op
from graphc.rewrite.movement import MOST_JOINED, is_plain, known_extents
from graphc.rewrite.pattern import Family, at_type, functions, number_of
from graphc.rewrite.rule import rule
from graphc.types import TensorType

(padded,) = functions("pad")
_Piece = tuple[Node, tuple[Extent, ...]]  # an array, and where it begins


def _side_by_side(node: Node) -> Node | None:
    """Arrays padded to one shape and added, side by side: each begins where another ends, or later
    where that is known.
    """
    pieces: list[_Piece] = []
    stack = [*node.args]
    while stack:
        term = stack.pop()
        if term.op is add_op:
            stack += term.args
        elif term.op is concatenate_op:  # as wide as all: nothing is left to pad
            pieces += _joined(term, (0,) * node.ndim)
        elif term.op is pad_op and is_plain(term):
            inner, begin = term.args[0], term.attrs["starts"]
            pieces += _joined(inner, begin) if inner.op is concatenate_op else [(inner, begin)]
        else:
            return None
        if len(pieces) + len(stack) > MOST_JOINED:
            return None
    starts = [start for _, start in pieces]
    apart = [axis for axis in range(node.ndim) if any(s[axis] != starts[0][axis] for s in starts)]
    if len(apart) != 1:
        return None
    (axis,) = apart
    if len({(*a.shape[:axis], *a.shape[axis + 1 :]) for a, _ in pieces}) != 1:
        return None
    pieces = _in_sequence(pieces, axis) or _with_gaps(pieces, axis)
    if not pieces:
        return None
    joined = concatenate_op(*[array for array, _ in pieces], axis=axis)
    return pad_op(joined, starts=pieces[0][1], shape=node.shape, steps=(1,) * node.ndim)


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
    Family("add", lambda op: op is add_op, frozenset((add_op, pad_op, concatenate_op))),
    _side_by_side,
    law="stable",
    doc="pad(concatenate(...)), or concatenate(...)",
    example=lambda u, v: padded(u, [(0, 9)]) + padded(v, [(9, 0)]) + padded(u * v, [(4, 5)]),
)
