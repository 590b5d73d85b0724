"""Is a reduction written in strips, and how is its domain cut into them?

As a matrix of rows and columns for every index of the axes in front of both: the axes of the rows
are reduced, and those of the columns lie side by side in every array. *Whole* strips have all rows
of their columns, so that further passes over them find them in a cache. Where there are too few of
these for many workers the rows are cut into *parts*; so it is as well where more is reduced than
the rows (the ends of an array, say). Rows of few elements count as one wide row together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.emit.merged import breaks
from graphc.codegen.emit.rows import SUMMED_IN_ORDER, RowWriter
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.tactics import Tactics, runs_of_axes
from graphc.dims import product
from graphc.lowering import Reduce
from graphc.types import Shape

# Elements of a strip that a cache keeps for further passes.
KEPT_ELEMENTS = 1 << 16
# Rows are taken together as long as there are so many of the wide ones.
LEAST_WIDE_ROWS = 64
# Rows that are added to the totals at once, in kernels of few members.
ROWS_TOGETHER = 4


@dataclass(frozen=True)
class Strips:
    """How a domain is cut: for each index of the axes `lead` a matrix of `height` rows, each of
    them `folded` rows of the domain, and `width` columns; `count` parts of `depth` rows; `tile`
    columns in a strip.
    """

    lead: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    folded: int
    height: int
    width: int
    count: int
    depth: int
    tile: int
    whole: bool
    linear: bool  # whether the elements lie in every array as they do in the domain


def planned_strips(writer: RowWriter) -> Strips | None:
    """How the domain of a writer's group is cut; None if it is not written in strips."""
    group, domain, tactics = writer.group, writer.group.domain, writer.partition.tactics
    reduced = group.reduced or ()
    if not tactics.strips or not reduced or not all(isinstance(e, int) for e in domain):
        return None
    rows = runs_of_axes(reduced)[0]
    lead, after = tuple(range(rows[0])), tuple(range(rows[-1] + 1, len(domain)))
    in_parts = tactics.streams(domain, reduced)
    if not after or product(domain) == 0 or not (in_parts or reduced == rows):
        return None
    if not in_parts and not _is_large(domain, rows, tactics):
        return None
    nodes = [m for m in group.members if not is_row_member(m, group)]
    nodes += [m.args[0] for m in group.members if isinstance(m.op.lowering, Reduce)]
    broken = breaks(writer, nodes)
    if in_parts:
        if len(runs_of_axes(after, broken)) > 1:
            return None
        return _in_parts(writer, lead, rows, after, not broken)
    columns = runs_of_axes(after, broken)[-1]
    if count_of(domain, columns) < tactics.narrow_strip:
        return None
    lead = tuple(axis for axis in range(columns[0]) if axis not in rows)
    return _of_all_rows(writer, lead, rows, columns, not broken)


def _is_large(domain: Shape, rows: tuple[int, ...], tactics: Tactics) -> bool:
    """Whether there are so many rows, and so much in them, that whole strips pay."""
    large = count_of(domain, range(len(domain))) > tactics.strip_elements
    return large and count_of(domain, rows) >= tactics.strip_rows


def _in_parts(
    writer: RowWriter,
    lead: tuple[int, ...],
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    flat: bool,
) -> Strips:
    """Parts of rows, unless whole strips are many enough."""
    domain, tactics = writer.group.domain, writer.partition.tactics
    ahead, height, width = (count_of(domain, axes) for axes in (lead, rows, columns))
    folded = 1
    if flat:
        while folded * width < tactics.wide_row and height >= 2 * folded * LEAST_WIDE_ROWS:
            folded *= 2
    height, width = -(-height // folded), width * folded
    tile = min(width, tactics.strip_width)
    tasks = ahead * -(-width // tile)
    count = max(1, min(tactics.least_parts // tasks, height // ROWS_TOGETHER))
    depth = -(-height // count)
    depth += -depth % (SUMMED_IN_ORDER if depth > SUMMED_IN_ORDER else ROWS_TOGETHER)
    count = -(-height // depth)
    inner = set(columns) & set(writer.group.reduced or ())
    whole = count == folded == 1 and not inner
    cut = folded, height, width, count, depth, tile, whole, flat
    return Strips(lead, rows, columns, *cut)


def _of_all_rows(
    writer: RowWriter,
    lead: tuple[int, ...],
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    flat: bool,
) -> Strips:
    """All rows of as many columns as a cache can hold for what comes after the first pass."""
    domain, tactics = writer.group.domain, writer.partition.tactics
    ahead, height, width = (count_of(domain, axes) for axes in (lead, rows, columns))
    tile = min(tactics.strip_width, width)
    if writer.has_passes():
        tile = min(tile, max(tactics.narrow_strip, _power(KEPT_ELEMENTS // height)))
    while tile > tactics.narrow_strip and ahead * -(-width // tile) < tactics.least_parts:
        tile //= 2
    return Strips(lead, rows, columns, 1, height, width, 1, height, tile, True, flat)


def count_of(domain: Shape, axes: Sequence[int]) -> int:
    """The elements of some axes, whose extents are known."""
    found = product(domain[axis] for axis in axes)
    assert isinstance(found, int)
    return found


def _power(most: int) -> int:
    """The largest power of two up to a number."""
    return 1 << max(0, most.bit_length() - 1)
