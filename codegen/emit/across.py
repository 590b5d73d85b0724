"""Which arrays are read in the order of their memory along another axis than the last one?

Elements beside one another in the result lie a row apart in such an array. Of long rows, tiles of
two axes are worked on, so that lines of memory are used whole while they are near; of short ones,
all elements of a row at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.codegen.fuse.reading import reads_at, variables
from graphc.codegen.loops import MOST_TURNED, TURNED_SIDE
from graphc.codegen.reader import Index
from graphc.dims import Extent, affine, product, symbols_of
from graphc.node import Node
from graphc.types import Shape

# Where what is written has rows shorter than this, and those lie side by side in what is read, this
# is read in as many streams.
LEAST_LANES = 8
# Rows so many bytes apart have the same places in the second cache: as many as there are lines in
# those. Of rows an eighth as far apart, a tile's fit.
CROWDED = 1 << 17
# Where rows are as short as this, lanes pick their elements out of whole vectors.
MOST_STEPPED = 4


@dataclass(frozen=True)
class Across:
    """Arrays that are read in the order of their memory along some neighbouring axes, of which none
    is the last one.

    Along the last, elements lie `apart` bytes apart, at most. `beside`: others are read in the
    order that the result is written in.
    """

    axes: tuple[int, ...]
    apart: int
    beside: bool

    def lanes(self, most: int) -> int:
        """How wide tiles are, if `most` lanes write long enough pieces of lines. Rows a multiple of
        a large power of two apart have few places in caches: fewer of them are read together.
        """
        power = self.apart & -self.apart
        if most and power >= CROWDED:
            return TURNED_SIDE // 2
        if power >= CROWDED // 8 and not self.beside:
            return TURNED_SIDE
        return max(TURNED_SIDE, min(MOST_TURNED, most))

    def is_in_streams(self, domain: Shape) -> bool:
        """Whether a row of the domain, element by element, follows a few rows of memory."""
        lanes = domain[-1]
        narrow = isinstance(lanes, int) and lanes < LEAST_LANES
        return narrow and self.axes[-1] == len(domain) - 2


@dataclass(frozen=True, eq=False)
class _Read:
    """An array that is read: which element, the axis along which that is in the order of its memory
    while lanes step from row to row, and whether it is read in the order of the domain.
    """

    node: Node
    position: Extent
    axis: int | None
    in_order: bool

    def apart(self, lane: str) -> int:
        """By how many bytes lanes lie apart; 0 if that is not known."""
        step = affine(self.position, lane)
        known = step is not None and isinstance(step[0], int)
        return abs(step[0]) * self.node.dtype.itemsize if known else 0  # type: ignore


def read_across(
    nodes: Sequence[Node], domain: Shape, is_stored: Callable[[Node], bool], least: int
) -> Across | None:
    """How arrays are read whose rows lie along another axis, for at least so many elements; None if
    there is none.
    """
    read = _reads(nodes, domain, is_stored, least)
    long = [r for r in read if r.axis is not None and not _is_short(domain[r.axis])]
    if not long:
        return None
    index = variables(len(domain))
    axes = _axes_as_one(long[0].axis, read, domain)  # type: ignore[arg-type]
    apart = max(each.apart(str(index[-1])) for each in long)
    return Across(axes, apart, any(r.in_order for r in read if r not in long))


def short_axis(
    nodes: Sequence[Node], domain: Shape, is_stored: Callable[[Node], bool], least: int
) -> int | None:
    """The axis along which the short rows of arrays lie, while the last one steps from one to the
    next, for at least so many elements; None if there is no such axis, or several.
    """
    read = _reads(nodes, domain, is_stored, least)
    axes = {r.axis for r in read if r.axis is not None}
    short = {axis for axis in axes if _is_short(domain[axis]) and domain[axis] != 1}
    return short.pop() if len(short) == 1 else None


def _is_short(extent: Extent) -> bool:
    return isinstance(extent, int) and extent <= MOST_STEPPED


def _reads(
    nodes: Sequence[Node], domain: Shape, is_stored: Callable[[Node], bool], least: int
) -> list[_Read]:
    """What is read of arrays for an element of a domain of several axes and so many elements."""
    total = product(domain)
    if len(domain) < 2 or (isinstance(total, int) and total < least):
        return []
    index = variables(len(domain))
    stack: list[tuple[Node, Index]] = [(node, index) for node in nodes]
    seen = set(stack)
    found = []
    while stack:
        node, at = stack.pop()
        if is_stored(node):
            in_order = names_in(index) <= names_in(at)
            axis = _axis_in_order(at, index, domain)
            found.append(_Read(node, _position(node, at), axis, in_order))
            continue
        for pair in reads_at(node, at):
            if pair not in seen:
                seen.add(pair)
                stack.append(pair)
    return found


def _axis_in_order(at: Index, index: Index, domain: Shape) -> int | None:
    """The axis of the domain along which an array that is read at `at` is read in order, where the
    last axis of the domain steps from row to row.
    """
    *rows, place = at or (0,)
    lane = str(index[-1])
    if lane in symbols_of(place) or lane not in names_in(rows):
        return None
    for axis in range(len(domain) - 1):
        along = affine(place, str(index[axis]))
        if along is not None and along[0] == 1:
            return axis
    return None


def _position(node: Node, at: Index) -> Extent:
    """Which element of an array an index names, in the order of memory."""
    position: Extent = 0
    for extent, place in zip(node.shape, at, strict=True):
        position = position * extent + place
    return position


def _axes_as_one(axis: int, read: Sequence[_Read], domain: Shape) -> tuple[int, ...]:
    """An axis and those before it that are one with it in each array: a step along one is all steps
    along the next.
    """
    axes, index = [axis], variables(len(domain))
    while axes[0]:
        outer, inner = axes[0] - 1, axes[0]
        for each in read:
            along, further = (affine(each.position, str(index[a])) for a in (inner, outer))
            if along is None or further is None or further[0] != along[0] * domain[inner]:
                return tuple(axes)
        axes.insert(0, outer)
    return tuple(axes)


def names_in(index: Sequence[Extent]) -> set[str]:
    """The variables of an index."""
    return {name for extent in index for name in symbols_of(extent)}
