"""How are long columns reduced where a task has some of their rows?  Totals are combined in order.

There are too few whole strips for many workers, or more is reduced than the rows: what lies within
a row is added up only when all rows have been, in the kernel that combines. Where rows of few
elements count as one wide row together, each of them leaves totals of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.emit.strips import StripWriter, Totals
from graphc.codegen.emit.writer import TILE, owner_of
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import unravel
from graphc.dims import ceildiv, dim_min, product
from graphc.lowering import Reduce
from graphc.node import Node


class PartedStripWriter(StripWriter):
    """Writes reductions of long columns, strips of which are cut into parts."""

    def launches(self) -> list[Launch]:
        group, strips = self.group, self.strips
        draft = self.draft()
        shape = self._shape(strips.lead)
        reductions = [m for m in group.members if isinstance(m.op.lowering, Reduce)]
        full = [m for m in group.members if not is_row_member(m, group)]
        held = (*shape, strips.count, strips.width)
        self.partials = {m: Operand(Storage("temporary", m.dtype, held)) for m in reductions}
        tiles = -(-strips.width // strips.tile)
        tasks = product(shape) * strips.count * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            number = draft.simplify(p // tiles)
            part = draft.simplify(number % strips.count)
            number = draft.simplify(number // strips.count)
            self._begin(draft, number, draft.simplify(p % tiles))
            totals = Totals(self.partials, held, lambda: (*self.before, part, self.column))
            low = part * strips.depth
            high = dim_min(strips.height, low + strips.depth)
            self._reduce(draft, outer.body, (low, high), reductions, totals)
        inner = strips.depth * strips.tile
        first = draft.launch(tasks, inner, [*full, *reductions], self.reason())
        self.flat.clear()
        self.note_written([n for n, _ in self.results() if not is_row_member(owner_of(n), group)])
        rows = [m for m in group.members if is_row_member(m, group) and m not in self.partials]
        return [first, self._combine_strips(rows)]

    def _combine_strips(self, rows: Sequence[Node]) -> Launch:
        """Combine the totals of all parts in order, and what is left to reduce within the rows."""
        group, strips = self.group, self.strips
        draft = self.draft(self.title() + "_combine")
        shape = (
            *self._shape(strips.lead),
            *(strips.count, strips.folded),
            *self._shape(strips.columns),
        )
        first = len(strips.lead)
        inner = [a - strips.columns[0] for a in strips.columns if a in (group.reduced or ())]
        axes = (first, first + 1, *(first + 2 + axis for axis in inner))
        why = "combines the parts of a split reduction in order"
        kept, nodes = group.kept, [*self.partials, *rows]
        each = product(shape[axis] for axis in axes)
        if kept and len(shape) - 1 not in axes:  # neighbours of the last axis are lanes
            tiles = ceildiv(kept[-1], TILE)
            tasks = product(kept[:-1]) * tiles
            with draft.scope.loop("parallel", 0, tasks, "p") as outer:
                p = draft.bind(outer.variable, 0, tasks)
                before = unravel(draft.simplify(p // tiles), kept[:-1], draft.bounds)
                start = draft.simplify(p % tiles) * TILE
                with outer.body.loop("vector", start, dim_min(kept[-1], start + TILE)) as lanes:
                    j = draft.bind(lanes.variable, 0, kept[-1])
                    given = draft, lanes.body, (*before, j), self.partials, rows
                    self._combine_row(*given, "serial", shape, axes)
            return draft.launch(tasks, each * dim_min(kept[-1], TILE), nodes, why)
        tasks = product(kept)
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            at = unravel(p, kept, draft.bounds)
            self._combine_row(draft, outer.body, at, self.partials, rows, "vector", shape, axes)
        return draft.launch(tasks, each, nodes, why)
