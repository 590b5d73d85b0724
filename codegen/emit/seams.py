"""Where does it change from which array an element comes?

A view of several pieces (padded, joined, rolled arrays) asks of every element in which piece it
lies, and every lane loads from each of them under a mask. Between two of the seams found here the
answer is the same for all lanes: a loop for each part of the row asks nothing. Where rows come from
different arrays, those between two seams have a kernel of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

from graphc.codegen.fuse.reading import reads_at, variables
from graphc.dims import Extent, affine, product
from graphc.lowering import Piece, View
from graphc.node import Node
from graphc.types import Shape

# Parts beyond which masks cost less than loops, unless each is a long row itself.
FEW_PARTS = 6
# Rows shorter than this are done at once under masks.
LONG_ROW = 64
# Boxes, of at least so many elements together, of which each has a kernel.
MOST_BOXES, LEAST_ELEMENTS = 9, 1 << 12

Span = tuple[Extent, Extent]


def parts_of_rows(
    nodes: Iterable[Node],
    domain: Shape,
    axis: int,
    most_long: int,
    is_stored: Callable[[Node], bool],
) -> list[Span]:
    """The axis of the domain that lanes go along, cut where the pieces of some view begin or end:
    in at most `most_long` parts if they are long, and else in few.
    """
    columns = domain[axis]
    if not isinstance(columns, int) or columns < LONG_ROW:
        return [(0, columns)]
    parts = _spans(_cuts(nodes, domain, is_stored)[axis], columns)
    most = FEW_PARTS if columns < LONG_ROW * len(parts) else most_long
    return parts if len(parts) <= most else [(0, columns)]


def boxes_of_rows(
    nodes: Iterable[Node], domain: Shape, axes: Sequence[int], is_stored: Callable[[Node], bool]
) -> list[tuple[Span, ...]]:
    """The rows of a large domain, which `axes` count, in boxes, within each of which all elements
    of a column come from the same piece: of each box where it is along each of the axes.
    """
    whole = tuple((0, domain[axis]) for axis in axes)
    total = product(domain)
    if not axes or not isinstance(total, int) or total < LEAST_ELEMENTS:
        return [whole]
    cuts = _cuts(nodes, domain, is_stored)
    spans = [_spans(cuts[axis], domain[axis]) for axis in axes]
    if math.prod(map(len, spans)) > MOST_BOXES:
        return [whole]
    return list(itertools.product(*spans))


def _cuts(
    nodes: Iterable[Node], domain: Shape, is_stored: Callable[[Node], bool]
) -> list[set[int]]:
    """For each axis of the domain where along it the pieces of some view begin or end."""
    index = variables(len(domain))
    cuts: list[set[int]] = [set() for _ in domain]
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
                for found, variable in zip(cuts, index, strict=True):
                    found.update(_ends(piece, str(variable)))
        for pair in reads_at(node, at):
            if pair not in seen:
                seen.add(pair)
                stack.append(pair)
    return cuts


def _spans(cuts: Iterable[int], extent: Extent) -> list[Span]:
    """An axis from cut to cut."""
    if not isinstance(extent, int):
        return [(0, extent)]
    ends = [0, *sorted(cut for cut in cuts if 0 < cut < extent), extent]
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
