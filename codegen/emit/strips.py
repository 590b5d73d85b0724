"""How are long columns reduced?  In strips: rows as they lie in memory, added to a strip of totals.

Where an axis is reduced that is not the last one, the terms of one result lie far apart, and those
of its neighbours side by side. A task takes a piece of every row, one row after the other, and adds
it to totals that stay in the first level of cache: memory is read in runs, however many rows there
are, and no vector is added up across its lanes. Sums are carried over some hundred rows at most
before they are added to the sums of earlier ones.

*Whole* strips have all rows of their columns. Their values are finished where they are, and further
passes over the same rows (a variance, a softmax) find them in a cache.

Where there are too few strips for many workers the rows are cut into *parts*, each of which leaves
its totals in memory, and a further kernel combines them in order. So it is as well where more is
reduced than the rows (the ends of an array, say): what lies within a row is added up only when all
rows have been, in the kernel that combines. And rows of few elements count as one wide row
together; each of them leaves totals of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.codegen import loops
from graphc.codegen.emit.merged import breaks
from graphc.codegen.emit.partial import PartialWriter
from graphc.codegen.emit.rows import SUMMED_IN_ORDER
from graphc.codegen.emit.writer import TILE, combiner_of, owner_of, sums
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Scope, Value
from graphc.codegen.tactics import runs_of_axes
from graphc.dims import Extent, ceildiv, dim_max, dim_min, product
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import Shape, TupleType

# Elements of a strip that a cache keeps for further passes.
KEPT_ELEMENTS = 1 << 16
# Rows are taken together as long as there are so many of the wide ones.
LEAST_WIDE_ROWS = 64
# Rows that are added to the totals at once, in kernels of so few members.
ROWS_TOGETHER = 4
LIGHT = 8


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


class StripWriter(PartialWriter):
    """Writes reductions of long columns."""

    strips: Strips | None = None
    # The strip that is being written: of which matrix, its index, the first column, how many.
    matrix: Extent = 0
    before: Index = ()
    first: Extent = 0
    length: Extent = 0
    # The column that is being written, in the strip and in the matrix.
    offset: Extent = 0
    column: Extent = 0
    spots: dict[Index, Index]  # where in scratch what belongs to an index is kept

    def suits(self) -> bool:
        """Whether the group is written in strips; they are planned then."""
        group, domain, reduced = self.group, self.group.domain, self.group.reduced or ()
        tactics = self.partition.tactics
        if not tactics.strips or not reduced or not all(isinstance(e, int) for e in domain):
            return False
        rows = runs_of_axes(reduced)[0]
        lead, after = tuple(range(rows[0])), tuple(range(rows[-1] + 1, len(domain)))
        in_parts = tactics.streams(domain, reduced)
        if not after or product(domain) == 0 or not (in_parts or reduced == rows):
            return False
        if not in_parts and not self._is_large(rows):
            return False
        nodes = [m for m in group.members if not is_row_member(m, group)]
        nodes += [m.args[0] for m in group.members if isinstance(m.op.lowering, Reduce)]
        broken = breaks(self, nodes)
        if in_parts:
            if len(runs_of_axes(after, broken)) > 1:
                return False
            self.strips = self._planned(lead, rows, after, not broken)
            return True
        columns = runs_of_axes(after, broken)[-1]
        # In one pass the sums of so few columns had better stay in registers.
        least = tactics.narrow_strip if self._has_passes() else 2 * tactics.narrow_strip
        if _count(domain, columns) < least:
            return False
        lead = tuple(axis for axis in range(columns[0]) if axis not in rows)
        self.strips = self._planned_whole(lead, rows, columns, not broken)
        return True

    def _has_passes(self) -> bool:
        """Whether rows are read again once their sums are known."""
        return len(self._targets(self._stages()[0])) > 1

    def _is_large(self, rows: tuple[int, ...]) -> bool:
        """Whether there are so many rows, and so much in them, that whole strips pay."""
        domain, tactics = self.group.domain, self.partition.tactics
        large = _count(domain, range(len(domain))) > tactics.strip_elements
        return large and _count(domain, rows) >= tactics.strip_rows

    def _planned(
        self,
        lead: tuple[int, ...],
        rows: tuple[int, ...],
        columns: tuple[int, ...],
        flat: bool,
    ) -> Strips:
        """Parts of rows, unless whole strips are many enough."""
        domain, tactics = self.group.domain, self.partition.tactics
        ahead, height, width = (_count(domain, axes) for axes in (lead, rows, columns))
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
        inner = set(columns) & set(self.group.reduced or ())
        whole = count == folded == 1 and not inner
        cut = folded, height, width, count, depth, tile, whole, flat
        return Strips(lead, rows, columns, *cut)

    def _planned_whole(
        self, lead: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...], flat: bool
    ) -> Strips:
        """All rows of as many columns as a cache can hold for what comes after the first pass."""
        domain, tactics = self.group.domain, self.partition.tactics
        ahead, height, width = (_count(domain, axes) for axes in (lead, rows, columns))
        kept = max(tactics.narrow_strip, _power(KEPT_ELEMENTS // height))
        tile = min(tactics.strip_width, kept if self._has_passes() else tactics.strip_width, width)
        while tile > tactics.narrow_strip and ahead * -(-width // tile) < tactics.least_parts:
            tile //= 2
        return Strips(lead, rows, columns, 1, height, width, 1, height, tile, True, flat)

    def reason(self) -> str:
        s = self.strips
        assert s is not None
        how = "whole" if s.whole else f"in {s.count} x {s.depth} rows"
        wide = f", {s.folded} rows as one" if s.folded > 1 else ""
        strip = f"adds up {s.height} rows {how}{wide}, in strips of {s.tile} columns"
        return "; ".join(filter(None, [super().reason(), strip]))

    def launches(self) -> list[Launch]:
        assert self.strips is not None
        return self._whole(self.strips) if self.strips.whole else self._in_parts(self.strips)

    # -- the two kinds -----------------------------------------------------------------------------

    def _whole(self, strips: Strips) -> list[Launch]:
        draft = self.draft()
        shape = self._shape(strips.lead)
        tiles = -(-strips.width // strips.tile)
        tasks = product(shape) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            number = draft.simplify(p // tiles)
            self._begin(draft, strips, number, draft.simplify(p % tiles))
            self._run_passes(draft, outer.body)
        inner = strips.height * strips.tile
        return [draft.launch(tasks, inner, self.group.members, self.reason())]

    def _in_parts(self, strips: Strips) -> list[Launch]:
        group = self.group
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
            self._begin(draft, strips, number, draft.simplify(p % tiles))
            totals = _Totals(self.partials, held, lambda: (*self.before, part, self.column))
            low = part * strips.depth
            high = dim_min(strips.height, low + strips.depth)
            self._reduce(draft, outer.body, (low, high), reductions, totals)
        inner = strips.depth * strips.tile
        first = draft.launch(tasks, inner, [*full, *reductions], self.reason())
        self.flat.clear()
        self.note_written([n for n, _ in self.results() if not is_row_member(owner_of(n), group)])
        rows = [m for m in group.members if is_row_member(m, group) and m not in self.partials]
        return [first, self._combine_strips(strips, rows)]

    def _begin(self, draft: Draft, strips: Strips, number: Extent, tile: Extent) -> None:
        """Write the strip that is the `tile`-th of matrix `number` from here on."""
        self.matrix = number
        self.before = unravel(number, self._shape(strips.lead), draft.bounds)
        self.first = tile * strips.tile
        ragged = strips.width % strips.tile
        self.length = dim_min(strips.tile, strips.width - self.first) if ragged else strips.tile
        self.spots = {}

    @contextmanager
    def _lanes(self, draft: Draft, scope: Scope, length: Extent | None = None) -> Iterator[Scope]:
        """The columns of the strip, in lanes; fewer than all if `length` says so."""
        assert self.strips is not None
        with scope.loop("vector", 0, self.length if length is None else length) as lanes:
            self.offset = draft.bind(lanes.variable, 0, self.strips.tile)
            self.column = self.first + self.offset
            yield lanes.body

    def _combine_strips(self, strips: Strips, rows: Sequence[Node]) -> Launch:
        """Combine the totals of all parts in order, and what is left to reduce within the rows."""
        group = self.group
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

    def _shape(self, axes: Sequence[int]) -> Shape:
        return tuple(self.group.domain[axis] for axis in axes)

    # -- whole strips ------------------------------------------------------------------------------

    def _run_passes(self, draft: Draft, scope: Scope) -> None:
        """Every stage for all rows of a strip before the next. What there is one of for each column
        waits in scratch.
        """
        assert self.strips is not None
        group = self.group
        full, row = self._stages()
        targets, results = self._targets(full), list(self.results())
        needs = [self._needed(stage) for stage in targets]
        dear = self._worth_saving(needs)
        for stage in range(len(targets) + 1):
            done = [m for m in group.members if row.get(m) == stage]
            if done:
                self._finish(draft, scope, done, results)
            if stage == len(targets):
                return
            members = targets[stage]
            reductions = [m for m in members if isinstance(m.op.lowering, Reduce)]
            for member in reductions:
                self._keep(member)
            kept = {m: self.saved[m][0] for m in reductions}
            totals = _Totals(kept, (self.strips.tile,), lambda: (self.offset,))
            saving = [n for n in needs[stage] if n in dear and n not in self.saved]
            self._reduce(draft, scope, (0, self.strips.height), members, totals, saving)
            wanted = set(members)
            stored = [n for n, _ in results if owner_of(n) in wanted]
            self.note_written([n for n in stored if not is_row_member(owner_of(n), group)])

    def _keep(self, member: Node) -> None:
        """Scratch for a value of which there is one for each column."""
        assert self.strips is not None
        shape = (self.strips.tile,)
        operand = Operand(Storage("worker", member.dtype, shape))
        self.saved[member] = (operand, lambda at: (self.offset,), shape)

    def _finish(
        self,
        draft: Draft,
        scope: Scope,
        done: Sequence[Node],
        results: Sequence[tuple[Node, Operand]],
    ) -> None:
        """What follows from totals, for each column."""
        assert self.strips is not None
        readers = self.partition.users
        with self._lanes(draft, scope) as lanes:
            index = self._placed(draft, 0)
            kept = tuple(i for a, i in enumerate(index) if a not in self.strips.rows)
            reader = Reader(self, draft, lanes)
            for member in done:
                value = reader.value(member, kept)
                parts = [(member, value)]
                if isinstance(member.type, TupleType):
                    of = [n for n in readers.get(member, ()) if owner_of(n) is member]
                    parts = [(n, value[n.attrs["index"]]) for n in of]
                for node, one in parts:
                    if node not in self.saved:
                        self._keep(node)
                        operand, _, shape = self.saved[node]
                        located, args = draft.located((self.offset,))
                        lanes.store(draft.buffer(operand, shape), located, one, args)
                for node, operand in results:
                    if owner_of(node) is member:
                        self.store(reader, node, operand, kept)

    # -- rows --------------------------------------------------------------------------------------

    def _reduce(
        self,
        draft: Draft,
        scope: Scope,
        rows: tuple[Extent, Extent],
        members: Sequence[Node],
        totals: _Totals,
        saving: Sequence[Node] = (),
    ) -> None:
        """One pass over the rows: add up, store, and save what later passes need."""
        assert self.strips is not None
        depth = self.strips.depth
        reductions = [m for m in members if isinstance(m.op.lowering, Reduce)]
        self._clear_strip(draft, scope, reductions, totals)
        low, high = rows
        if depth <= SUMMED_IN_ORDER or not any(map(sums, reductions)):
            self._run_rows(draft, scope, rows, members, totals, saving)
            return
        shape = (self.strips.tile,)
        held = {m: Operand(Storage("worker", m.dtype, shape)) for m in reductions}
        block = _Totals(held, shape, lambda: (self.offset,))
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
        self, draft: Draft, scope: Scope, reductions: Sequence[Node], totals: _Totals
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
        totals: _Totals,
        saving: Sequence[Node],
    ) -> None:
        """Rows in order, several at once where their work is light; then those that are left over,
        and what there is of the last row that is made of several.
        """
        strips = self.strips
        assert strips is not None
        low, high = rows
        ragged = _count(self.group.domain, strips.rows) % strips.folded
        height = strips.height - bool(ragged)
        end, high = high, dim_min(high, height) if ragged else high
        # With few rows the loop over several at once may be empty, and what does not depend on its
        # variable is read in front of it: rows that are not there.
        light = strips.depth >= 2 * ROWS_TOGETHER and len(self.group.members) <= LIGHT
        together = ROWS_TOGETHER if light else 1
        groups = (high - low) // together
        with scope.loop("serial", 0, groups) as each:
            number = draft.bind(each.variable, 0, -(-strips.depth // together))
            own = [low + number * together + k for k in range(together)]
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
        totals: _Totals,
        saving: Sequence[Node],
        length: Extent | None = None,
    ) -> None:
        """Some rows of a strip."""
        assert self.strips is not None
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
        assert self.strips is not None
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
        assert strips is not None
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
            self.flat[index] = self.matrix * _count(domain, axes[len(strips.lead) :]) + position
        return index


@dataclass(frozen=True)
class _Totals:
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


def _count(domain: Shape, axes: Sequence[int]) -> int:
    """The elements of some axes, whose extents are known."""
    found = product(domain[axis] for axis in axes)
    assert isinstance(found, int)
    return found


def _power(most: int) -> int:
    """The largest power of two up to a number."""
    return 1 << max(0, most.bit_length() - 1)
