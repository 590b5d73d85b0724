"""Which neighbouring axes may be iterated as one?  Those that every array has side by side.

An image of 56 by 56 pixels is a row of 3136 to what adds images up: one long run of memory instead
of 56 short ones. An array that is read at only one of two axes, or at both in another order, would
have its position taken apart in every lane.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphc.codegen.emit.writer import Writer
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.fuse.reading import reads_at, variables
from graphc.dims import Dim, Extent, affine, joined, symbols_of
from graphc.lowering import Gather, Generate
from graphc.node import Node
from graphc.types import Shape

# Nodes looked at, each at an index, before axes are rather left apart.
_SEARCH = 1024


def breaks(writer: Writer, nodes: Iterable[Node]) -> set[int]:
    """The axes of a group's domain that are not to be iterated as one with the axis after them,
    where `nodes` are computed at its index. What there is one of for each row does not count.
    """
    domain, group = writer.group.domain, writer.group
    index = variables(len(domain))
    pairs = range(len(domain) - 1)
    found: set[int] = set()
    stack: list[tuple[Node, tuple[Extent, ...]]] = [(node, index) for node in nodes]
    seen = set(stack)
    while stack and len(found) < len(pairs):
        node, at = stack.pop()
        if len(seen) > _SEARCH:
            return set(pairs)
        if node in writer.members and is_row_member(node, group):
            continue
        place = writer.readable(node)
        if place is None and not isinstance(node.op.lowering, Generate):
            if isinstance(node.op.lowering, Gather):
                return set(pairs)
            for pair in reads_at(node, at):
                if pair not in seen:
                    seen.add(pair)
                    stack.append(pair)
            continue
        used = {name for position in at for name in symbols_of(position)}
        for axis in pairs:
            mine = {str(index[axis]), str(index[axis + 1])} & used
            whole = place is not None and not place.storage.strided
            along = index[axis], index[axis + 1]
            if mine and not (whole and _beside(at, node.shape, along, domain[axis + 1])):
                found.add(axis)
    return found


def _beside(at: tuple[Extent, ...], shape: Shape, pair: tuple[Dim, Dim], extent: Extent) -> bool:
    """Whether neighbours along the second of a pair of axes, of this extent, are neighbours in an
    array, and its whole length is one step along the first.
    """
    position: Extent = 0
    for size, place in zip(shape, at, strict=True):
        position = position * size + place
    first, second = (affine(joined(position), str(axis)) for axis in pair)
    if first is None or second is None:
        return False
    return second[0] * extent == first[0]
