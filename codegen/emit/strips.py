"""How are long columns reduced?  In strips: rows as they lie in memory, added to a strip of totals.

Where an axis is reduced that is not the last one, the terms of one result lie far apart, and those
of its neighbours side by side. A task takes a piece of every row, one row after the other, and adds
it to totals that stay in the first level of cache: memory is read in runs, however many rows there
are, and no vector is added up across its lanes. Sums are carried over some hundred rows at most
before they are added to the sums of earlier ones.

`strip_plan` says how a domain is cut. Here is how the rows of a strip are added up, `whole_strips`
and `parted_strips` say what becomes of the totals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.codegen import loops
from graphc.codegen.emit.partial import PartialWriter
from graphc.codegen.emit.rows import SUMMED_IN_ORDER
from graphc.codegen.emit.strip_plan import ROWS_TOGETHER, Strips, count_of
from graphc.codegen.emit.writer import combiner_of, owner_of, sums
from graphc.codegen.fuse import Group, Partition
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.program import Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Scope, Value
from graphc.dims import Extent, ceildiv, dim_max, dim_min
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import Shape

# Kernels of so few members add several rows to the totals at once.
LIGHT = 8


@dataclass(frozen=True)
class Totals:
    """Totals in memory: for each reduction an array of a shape, and where in it those of the column
    are that is being written.
    """

    arrays: dict[Node, Operand]
    shape: Shape
    where: Callable[[], Index]

    def load(self, draft: Draft, scope: Scope, member: Node) -> Value:
        located, args = draft.located(self.where())
        return scope.load(draft.buffer(self.arrays[member], self.shape), located, args)

    def store(self, draft: Draft, scope: Scope, member: Node, value: Value) -> None:
        located, args = draft.located(self.where())
        scope.store(draft.buffer(self.arrays[member], self.shape), located, value, args)


class StripWriter(PartialWriter):
    """Writes reductions of long columns: what whole strips and parts of them have in common."""

    # The strip that is being written: of which matrix, its index, the first column, how many.
    matrix: Extent = 0
    before: Index = ()
    first: Extent = 0
    length: Extent = 0
    # The column that is being written, in the strip and in the matrix.
    offset: Extent = 0
    column: Extent = 0
    spots: dict[Index, Index]  # where in scratch what belongs to an index is kept

    def __init__(
        self,
        strips: Strips,
        partition: Partition,
        group: Group,
        place: Callable[[Node], Operand | None],
        number: Callable[..., int],
    ) -> None:
        super().__init__(partition, group, place, number)
        self.strips = strips

    def reason(self) -> str:
        s = self.strips
        how = "whole" if s.whole else f"in {s.count} x {s.depth} rows"
        wide = f", {s.folded} rows as one" if s.folded > 1 else ""
        strip = f"adds up {s.height} rows {how}{wide}, in strips of {s.tile} columns"
        return "; ".join(filter(None, [super().reason(), strip]))

    def _begin(self, draft: Draft, number: Extent, tile: Extent) -> None:
        """Write the strip that is the `tile`-th of matrix `number` from here on."""
        strips = self.strips
        self.matrix = number
        self.before = unravel(number, self._shape(strips.lead), draft.bounds)
        self.first = tile * strips.tile
        ragged = strips.width % strips.tile
        self.length = dim_min(strips.tile, strips.width - self.first) if ragged else strips.tile
        self.spots = {}

    @contextmanager
    def _lanes(self, draft: Draft, scope: Scope, length: Extent | None = None) -> Iterator[Scope]:
        """The columns of the strip, in lanes; fewer than all if `length` says so."""
        with scope.loop("vector", 0, self.length if length is None else length) as lanes:
            self.offset = draft.bind(lanes.variable, 0, self.strips.tile)
            self.column = self.first + self.offset
            yield lanes.body

    def _shape(self, axes: Sequence[int]) -> Shape:
        return tuple(self.group.domain[axis] for axis in axes)

    # -- rows --------------------------------------------------------------------------------------

    def _reduce(
        self,
        draft: Draft,
        scope: Scope,
        rows: tuple[Extent, Extent],
        members: Sequence[Node],
        totals: Totals,
        saving: Sequence[Node] = (),
    ) -> None:
        """One pass over the rows: add up, store, and save what later passes need."""
        depth = self.strips.depth
        reductions = [m for m in members if isinstance(m.op.lowering, Reduce)]
        self._clear_strip(draft, scope, reductions, totals)
        low, high = rows
        if depth <= SUMMED_IN_ORDER or not any(map(sums, reductions)):
            self._run_rows(draft, scope, rows, members, totals, saving)
            return
        shape = (self.strips.tile,)
        held = {m: Operand(Storage("worker", m.dtype, shape)) for m in reductions}
        block = Totals(held, shape, lambda: (self.offset,))
        with scope.loop("serial", 0, ceildiv(high - low, SUMMED_IN_ORDER)) as blocks:
            number = draft.bind(blocks.variable, 0, ceildiv(depth, SUMMED_IN_ORDER))
            start = low + number * SUMMED_IN_ORDER
            stop = dim_min(high, start + SUMMED_IN_ORDER)
            self._clear_strip(draft, blocks.body, reductions, block)
            self._run_rows(draft, blocks.body, (start, stop), members, block, saving)
            with self._lanes(draft, blocks.body) as lanes:
                for member in reductions:
                    pair = totals.load(draft, lanes, member), block.load(draft, lanes, member)
                    totals.store(draft, lanes, member, lanes.emit(combiner_of(member), *pair))

    def _clear_strip(
        self, draft: Draft, scope: Scope, reductions: Sequence[Node], totals: Totals
    ) -> None:
        if not reductions:
            return
        with self._lanes(draft, scope) as lanes:
            for member in reductions:
                dtype = member.dtype.name
                start = lanes.const(loops.identity(combiner_of(member), dtype), dtype)
                totals.store(draft, lanes, member, start)

    def _run_rows(
        self,
        draft: Draft,
        scope: Scope,
        rows: tuple[Extent, Extent],
        members: Sequence[Node],
        totals: Totals,
        saving: Sequence[Node],
    ) -> None:
        """Rows in order, several at once where their work is light; then those that are left over,
        and what there is of the last row that is made of several.

        Those at once are the next of as many equal runs of rows: neighbours would often share a
        page of memory, in which the machine foresees one run of addresses.
        """
        strips = self.strips
        low, high = rows
        ragged = count_of(self.group.domain, strips.rows) % strips.folded
        height = strips.height - bool(ragged)
        end, high = high, dim_min(high, height) if ragged else high
        # With few rows the loop over several at once may be empty, and what does not depend on its
        # variable is read in front of it: rows that are not there.
        light = strips.depth >= 2 * ROWS_TOGETHER and len(self.group.members) <= LIGHT
        together = ROWS_TOGETHER if light else 1
        groups = (high - low) // together
        with scope.loop("serial", 0, groups) as each:
            number = draft.bind(each.variable, 0, -(-strips.depth // together))
            own = [low + number + k * groups for k in range(together)]
            self._run_row(draft, each.body, own, members, totals, saving)
        if together > 1 and (height % together or strips.depth % together):
            with scope.loop("serial", low + groups * together, high) as each:
                row = draft.bind(each.variable, 0, strips.height)
                self._run_row(draft, each.body, [row], members, totals, saving)
        if ragged:
            there = ragged * (strips.width // strips.folded) - self.first
            with scope.loop("serial", dim_max(low, height), end) as each:
                draft.bind(each.variable, 0, strips.height)
                length = dim_min(self.length, there)
                self._run_row(draft, each.body, [height], members, totals, saving, length)

    def _run_row(
        self,
        draft: Draft,
        scope: Scope,
        rows: Sequence[Extent],
        members: Sequence[Node],
        totals: Totals,
        saving: Sequence[Node],
        length: Extent | None = None,
    ) -> None:
        """Some rows of a strip."""
        with self._lanes(draft, scope, length) as lanes:
            reader = Reader(self, draft, lanes)
            at = []
            for row in rows:
                index = self._placed(draft, row)
                self.spots[index] = (row, self.offset)
                at.append(index)
            for index in at:
                for member in self._needed(members):
                    if member not in self.written:
                        reader.value(member, index)
            for member in saving:
                self._save_rows(reader, member, at)
            wanted = set(members)
            for node, operand in self.results():
                owner = owner_of(node)
                full = not is_row_member(owner, self.group)
                if full and (owner in wanted or not self.strips.whole):
                    for index in at:
                        self.store(reader, node, operand, index)
            for member in members:
                if isinstance(member.op.lowering, Reduce):
                    values = [reader.value(member.args[0], index) for index in at]
                    total = totals.load(draft, lanes, member)
                    for value in values:
                        total = lanes.emit(combiner_of(member), total, value)
                    totals.store(draft, lanes, member, total)

    def _save_rows(self, reader: Reader, member: Node, at: Sequence[Index]) -> None:
        """Keep what is dear for a later pass over the same rows."""
        if self.place(member) is not None:
            return  # it is stored anyway, and read back from there
        values = [reader.value(member, index) for index in at]
        if member not in self.saved:
            shape: Shape = (self.strips.height, self.strips.tile)
            operand = Operand(Storage("worker", member.dtype, shape))
            self.saved[member] = (operand, lambda index: self.spots[index], shape)
        operand, _, shape = self.saved[member]
        for index, value in zip(at, values, strict=True):
            located, args = reader.draft.located(self.spots[index])
            reader.scope.store(reader.draft.buffer(operand, shape), located, value, args)

    def _placed(self, draft: Draft, row: Extent) -> Index:
        """The index in the domain of the column of a row."""
        strips, domain = self.strips, self.group.domain
        rows, columns = self._shape(strips.rows), self._shape(strips.columns)
        position = row * strips.width + self.column
        if strips.folded > 1:
            found = unravel(position, (*rows, *columns), draft.bounds)
        else:
            across = unravel(draft.simplify(self.column), columns, draft.bounds)
            found = (*unravel(draft.simplify(row), rows, draft.bounds), *across)
        axes = (*strips.lead, *strips.rows, *strips.columns)
        placed = dict(zip(axes, (*self.before, *found), strict=True))
        index = tuple(placed[axis] for axis in range(len(domain)))
        if strips.linear:
            self.flat[index] = self.matrix * count_of(domain, axes[len(strips.lead) :]) + position
        return index
