"""How are long rows reduced that memory is waited for?  Several at once, far apart.

Where little is computed for an element, a row after the other is read as fast as the machine
foresees one run of addresses: to the end of a page, and little further. A task has a block of rows,
cut into as many equal runs as there are streams, and reduces the next row of each run in one loop.
(Measured on Zen 3, 64 MB of rows of 512 to 4096 float32: 17 to 20 GB/s one by one, 12 to 21 as
neighbours at once, 23 to 26 far apart.)
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.emit.partial import PartialWriter
from graphc.codegen.emit.writer import combiner_of, owner_of, sums
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.program import Launch
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Accumulator, Scope, Value
from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.lowering import Reduce
from graphc.node import Node

# Rows of fewer elements end too often, and streams lie so many apart.
LEAST_ROW, APART = 512, 1 << 14


class StreamedRowWriter(PartialWriter):
    """Writes light reductions of long rows."""

    def streams(self) -> int:
        """How many rows are read at once: one, where anything else than reading takes time, or
        where rows are short.
        """
        group, tactics = self.group, self.partition.tactics
        rank, axes = len(group.domain), group.reduced or ()
        if tactics.streams_of_part < 2 or not group.kept or group.carried:
            return 1
        if axes != tuple(range(rank - len(axes), rank)) or self.has_passes():
            return 1
        each, rows = self._row_elements(), product(group.kept)
        if not isinstance(each, int) or each < LEAST_ROW:
            return 1
        if isinstance(rows, int) and rows * each <= tactics.streamed_elements:
            return 1
        full = [n for n, _ in self.results() if not is_row_member(owner_of(n), group)]
        if full or len(axes) > 1 and not self._is_flat():
            return 1
        return self.streams_of([m.args[0] for m in self._reductions()])

    def launches(self) -> list[Launch]:
        group, draft = self.group, self.draft()
        rows, count = product(group.kept), self.streams()
        depth = self._depth(rows, count)
        block = count * depth
        tasks = ceildiv(rows, block)
        whole = isinstance(rows, int) and rows % block == 0
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            first = draft.bind(outer.variable, 0, tasks) * block
            here = block if whole else dim_min(block, rows - first)
            runs = here // count
            with outer.body.loop("serial", 0, runs) as each:
                i = first + draft.bind(each.variable, 0, depth)
                self._reduce_rows(draft, each.body, [i + k * runs for k in range(count)])
            if not whole:
                with outer.body.loop("serial", first + runs * count, first + here) as each:
                    self._reduce_rows(draft, each.body, [draft.bind(each.variable, 0, rows)])
        reason = "; ".join(filter(None, [self.reason(), f"{count} rows at once, {depth} apart"]))
        inner = block * self._row_elements()
        return [draft.launch(tasks, inner, group.members, reason)]

    def _depth(self, rows: Extent, count: int) -> int:
        """How many rows a run has: enough to lie apart, but few where many workers want some."""
        each = self._row_elements()
        assert isinstance(each, int)
        depth = max(1, APART // each)
        if isinstance(rows, int):
            depth = min(depth, rows // (count * self.partition.tactics.least_parts))
        return max(1, depth)

    def _row_elements(self) -> Extent:
        return product(self.group.domain[axis] for axis in self.group.reduced or ())

    def _reductions(self) -> list[Node]:
        return [m for m in self.group.members if isinstance(m.op.lowering, Reduce)]

    def _is_flat(self) -> bool:
        """Whether rows of several axes are one run in every array."""
        return self.is_flat([m.args[0] for m in self._reductions()], self.group.domain)

    def _reduce_rows(self, draft: Draft, scope: Scope, rows: Sequence[Extent]) -> None:
        """Reduce some rows in one loop, and finish each."""
        group, reductions = self.group, self._reductions()
        length = self._row_elements()
        kept = [unravel(draft.simplify(row), group.kept, draft.bounds) for row in rows]
        given = (0,), [(0, length)], (length,)
        opened, (place,) = self._open(
            draft, scope, *given, "vector", any(map(sums, reductions))
        )
        reader = Reader(self, draft, opened[-1].body)
        states: dict[tuple[int, Node], Accumulator] = {}
        for k, row in enumerate(rows):
            index = self._element(draft, row, kept[k], place)
            for member in reductions:
                value = reader.value(member.args[0], index)
                states[k, member] = opened[-1].accumulate(combiner_of(member), value)
        found = self._close(opened, states)
        self.flat.clear()
        for k, at in enumerate(kept):
            self._finish(draft, scope, at, {m: found[k, m] for m in reductions})

    def _element(self, draft: Draft, row: Extent, kept: Index, place: Extent) -> Index:
        """The index of an element of a row."""
        if len(self.group.reduced or ()) == 1:
            return (*kept, place)
        position = row * self._row_elements() + place
        index = unravel(position, self.group.domain, draft.bounds)
        self.flat[index] = position
        return index

    def _finish(
        self, draft: Draft, scope: Scope, kept: Index, found: dict[Node, Value]
    ) -> None:
        """Store what a row came to, and what follows from it."""
        results = list(self.results())
        self.rows = dict(found)
        reader = Reader(self, draft, scope)
        for node, operand in results:
            if node in found:
                self.store(reader, node, operand, kept)
        for member in self.group.members:
            if member not in found and is_row_member(member, self.group):
                self._finish_row(reader, member, kept, results)
        self.rows = {}
