"""Where along a row does it change from which array an element comes?

A view of several pieces (padded, joined, rolled arrays) asks of every element in which piece it
lies, and every lane loads from each of them under a mask. Between two of the seams found here the
answer is the same for all lanes: a loop for each part of the row asks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from graphc.codegen.fuse.reading import reads_at, variables
from graphc.dims import Extent, affine
from graphc.lowering import Piece, View
from graphc.node import Node
from graphc.types import Shape

# Parts beyond which masks cost less than loops.
MOST_PARTS = 6
# Rows shorter than this are done at once under masks.
LONG_ROW = 64


def parts_of_rows(
    nodes: Iterable[Node], domain: Shape, is_stored: Callable[[Node], bool]
) -> list[tuple[Extent, Extent]]:
    """The last axis of the domain, cut where the pieces of some view begin or end."""
    columns = domain[-1]
    if not isinstance(columns, int) or columns < LONG_ROW:
        return [(0, columns)]
    index = variables(len(domain))
    lane = str(index[-1])
    cuts: set[int] = set()
    stack: list[tuple[Node, tuple[Extent, ...]]] = [(node, index) for node in nodes]
    seen = set(stack)
    while stack:
        node, at = stack.pop()
        if is_stored(node):
            continue
        form = node.op.lowering
        if isinstance(form, View):
            types = [argument.type for argument in node.args]
            for piece in form.pieces(at, types, node.type, **node.attrs):
                cuts.update(_ends(piece, lane))
        for pair in reads_at(node, at):
            if pair not in seen:
                seen.add(pair)
                stack.append(pair)
    ends = [0, *sorted(cut for cut in cuts if 0 < cut < columns), columns]
    if len(ends) - 1 > MOST_PARTS:
        return [(0, columns)]
    return list(zip(ends, ends[1:], strict=False))


def _ends(piece: Piece, lane: str) -> Iterable[int]:
    """Where along the lanes the conditions of a piece begin or cease to hold."""
    for position, low, high in piece.inside:
        split = affine(position, lane)
        if split is None or split[0] not in (1, -1):
            continue
        slope, rest = split
        for limit in (low - rest, high - rest):
            if isinstance(limit, int):
                yield limit if slope == 1 else 1 - limit
