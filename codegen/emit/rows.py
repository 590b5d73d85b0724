"""How is a reduction written whose results are many?

- over the last axis: *row mode*, rows in parallel, a vector loop with accumulators for a stage;
- over so few elements of it that lanes would be idle: *short rows*, a row in each lane, whose terms
  are written one after the other;
- leaving it: *column mode*, lanes along the last axis, serial loops over what is reduced.

A *stage* is one pass over the reduced axes; what a stage reduces is available to the next. A dear
value that several stages need goes to scratch that is private to the worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import TypeVar

from graphc import dtypes
from graphc.codegen.emit.row_passes import Passes
from graphc.codegen.emit.writer import TILE, Writer, combiner_of, owner_of, placed, sums
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.fuse.reading import result_shape, variables
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Accumulator, LoopBuilder, Scope, Value
from graphc.dims import Dim, Extent, ceildiv, dim_min, product
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.ops.special import project_op
from graphc.types import Shape

# Terms that are summed one by one before the sum is added to what came before. Sums of sums round
# less often: the error grows with the longest chain of additions, not with the terms.
SUMMED_IN_ORDER = 128
# Rows from which lanes share a column, how many columns are then a task (a sector of memory at
# least), how many of them share it at the least, and how many tasks keep a GPU busy.
LONG_COLUMN, LEAST_STRIPS = 32, 8
MOST_SHARED_COLUMNS, LEAST_SHARED_COLUMNS = 32, 8
ENOUGH_TASKS = 128
# Short rows: the fewest that lanes are given to, how many are a task, and the most work of one.
LEAST_SHORT_ROWS, SHORT_ROWS_OF_TASK, MOST_WRITTEN_OUT = 64, 1024, 160
# From so many floats on, rows fill a register, and their sums are finished together, see
# `codegen.llvm.row_sums`.
SUMMED_TOGETHER = 8


Reduced = TypeVar("Reduced", bound=Hashable)  # whom a result belongs to


class RowWriter(Writer):
    """Writes a reduction, and what is computed from its results for each row."""

    written_out = False  # whether what is reduced is so, term by term
    flat_row: Extent | None = None  # the number of the row at hand, if rows are one run in memory
    lane_offset: Extent = 0
    lane_count: Extent | None = None
    summed_in_order = SUMMED_IN_ORDER
    # Where what is carried from row to row waits, and which part of the rows this is.
    partials: dict[Node, Operand]
    part: Extent = 0

    def launches(self) -> list[Launch]:
        group = self.group
        reduced = group.reduced or ()
        last = len(group.domain) - 1
        each, tactics = product(group.domain[axis] for axis in reduced), self.partition.tactics
        if self.has_short_rows():
            return [self._short_rows()]
        narrow = isinstance(each, int) and each <= tactics.narrow_rows
        if last in reduced and not (narrow and group.kept):
            return [self._row_mode()]
        return [self._flat_column_mode() if tactics.flat_columns else self._column_mode()]

    def _row_mode(self) -> Launch:
        """Rows in parallel; each stage a vector loop over the last axis inside serial loops over
        the other reduced ones.
        """
        group = self.group
        draft = self.draft()
        tasks = product(group.kept)
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            kept = unravel(p, group.kept, draft.bounds)
            self._run_stages(draft, outer.body, kept, vector=True)
        inner = product(group.domain[axis] for axis in group.reduced or ())
        return draft.launch(tasks, inner, group.members, self.reason())

    def _column_mode(self) -> Launch:
        """Lanes along the last axis, which stays; each stage serial loops over the reduced axes."""
        group = self.group
        draft = self.draft()
        columns = group.kept[-1]
        tiles = 1 if isinstance(columns, int) and columns <= TILE else ceildiv(columns, TILE)
        tasks = product(group.kept[:-1]) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // tiles), group.kept[:-1], draft.bounds)
            start = draft.simplify(p % tiles) * TILE
            stop = columns if tiles == 1 else dim_min(columns, start + TILE)
            with outer.body.loop("vector", start, stop) as lanes:
                j = draft.bind(lanes.variable, 0, columns)
                self.lane_offset = j - start
                self._run_stages(draft, lanes.body, (*lead, j), vector=False)
        inner = product(group.domain[axis] for axis in group.reduced or ()) * dim_min(columns, TILE)
        return draft.launch(tasks, inner, group.members, self.reason())

    def has_short_rows(self) -> bool:
        """Whether rows lie side by side that are so short, and so little work, that each is written
        out for a lane of its own.
        """
        group, tactics = self.group, self.partition.tactics
        rank, axes = len(group.domain), group.reduced or ()
        each = product(group.domain[axis] for axis in axes)
        if group.carried or not group.kept or axes != tuple(range(rank - len(axes), rank)):
            return False
        reductions = [m for m in group.members if isinstance(m.op.lowering, Reduce)]
        most = tactics.short_rows
        if all(dtypes.is_float(m.dtype) for m in reductions):
            most = min(most, SUMMED_TOGETHER - 1)
        if not isinstance(each, int) or not 1 < each <= most:
            return False
        if each * max(len(group.members), group.work) > MOST_WRITTEN_OUT:
            return False
        lanes = product(self._rows_in_lanes())
        return not isinstance(lanes, int) or lanes >= LEAST_SHORT_ROWS

    def _rows_in_lanes(self) -> Shape:
        """The extents of the axes that stay along which lanes go: the last one, or where that is
        short all of them, if rows follow one another in every array.
        """
        group = self.group
        last = group.kept[-1]
        if not isinstance(last, int) or last >= LEAST_SHORT_ROWS:
            return group.kept[-1:]
        full = [n for n, _ in self.results() if not is_row_member(owner_of(n), group)]
        known = {m for m in group.members if is_row_member(m, group)}
        terms = [m.args[0] for m in group.members if isinstance(m.op.lowering, Reduce)]
        flat = self.is_flat([*full, *terms], group.domain, known)
        return group.kept if flat else group.kept[-1:]

    def _short_rows(self) -> Launch:
        """Lanes along the last axes that stay, each with the row behind it; a stage is written out.
        """
        group = self.group
        draft = self.draft()
        inner = self._rows_in_lanes()
        before, rows = group.kept[: len(group.kept) - len(inner)], product(inner)
        one = isinstance(rows, int) and rows <= SHORT_ROWS_OF_TASK
        tiles = 1 if one else ceildiv(rows, SHORT_ROWS_OF_TASK)
        tasks = product(before) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // tiles), before, draft.bounds)
            start = draft.simplify(p % tiles) * SHORT_ROWS_OF_TASK
            stop = rows if tiles == 1 else dim_min(rows, start + SHORT_ROWS_OF_TASK)
            with outer.body.loop("vector", start, stop) as lanes:
                j = draft.bind(lanes.variable, 0, rows)
                self.written_out = True
                self.flat_row = j if len(inner) > 1 else None
                kept = (*lead, *unravel(j, inner, draft.bounds))
                self._run_stages(draft, lanes.body, kept, vector=False)
        each = product(group.domain[axis] for axis in group.reduced or ())
        elements = each * dim_min(rows, SHORT_ROWS_OF_TASK)
        reason = "; ".join(filter(None, [self.reason(), f"rows of {each} in lanes"]))
        return draft.launch(tasks, elements, group.members, reason)

    def _flat_column_mode(self) -> Launch:
        """Lanes along all axes that stay, as they lie in the result."""
        group = self.group
        draft = self.draft()
        total = product(group.kept)
        tile = columns_together(total, product(group.domain[axis] for axis in group.reduced or ()))
        tasks = ceildiv(total, tile)
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            start = draft.bind(outer.variable, 0, tasks) * tile
            whole = isinstance(total, int) and total % tile == 0
            stop = start + tile if whole else dim_min(total, start + tile)
            with outer.body.loop("vector", start, stop) as lanes:
                j = draft.bind(lanes.variable, 0, total)
                self.lane_offset, self.lane_count = j - start, tile
                if tile < TILE:
                    self.summed_in_order = LEAST_STRIPS * SUMMED_IN_ORDER
                kept = unravel(j, group.kept, draft.bounds)
                self._run_stages(draft, lanes.body, kept, vector=False)
        inner = product(group.domain[axis] for axis in group.reduced or ()) * tile
        return draft.launch(tasks, inner, group.members, self.reason())

    # -- stages ------------------------------------------------------------------------------------

    def has_passes(self) -> bool:
        """Whether rows are read again once what they are reduced to is known."""
        return len(self._targets(self._stages()[0])) > 1

    def _stages(self) -> tuple[dict[Node, int], dict[Node, int]]:
        """For full members the stage in which they can be computed; for row members the stage after
        which.
        """
        group = self.group
        full: dict[Node, int] = {}
        row: dict[Node, int] = {}
        for member in group.members:
            if self._carried_rows(member):
                continue  # accumulated when the row is done
            level = 0
            start = variables(
                len(
                    member.args[0].shape
                    if isinstance(member.op.lowering, Reduce)
                    else result_shape(member)
                )
            )
            for other, _ in self.partition.reads(member, start):
                level = max(level, row.get(other, full.get(other, 0)))
            if member in group.carried:
                full[member] = level
            elif isinstance(member.op.lowering, Reduce):
                full[member] = level
                row[member] = level + 1
            elif is_row_member(member, group):
                row[member] = level
            else:
                full[member] = level
        return full, row

    def _run_stages(self, draft: Draft, scope: Scope, kept: Index, vector: bool) -> Reader:
        """Emit every stage into `scope`, where one row (or lane) with index `kept` is at hand.

        Returns the reader of what there is one of for each row.
        """
        group = self.group
        full, row = self._stages()
        results = list(self.results())
        targets = self._targets(full)
        stages = len(targets)
        passes = self.passes_over(targets)
        rows = Reader(self, draft, scope)
        for stage, members in enumerate(targets):
            for member in group.members:  # row members that the finished stages allow
                if row.get(member) == stage and not isinstance(member.op.lowering, Reduce):
                    self._finish_row(rows, member, kept, results)
            if members and self.written_out:
                self._stage_written_out(rows, members, kept, results)
            elif members:
                saving = [n for n in passes.saving(stage) if n not in self.saved]
                self._stage(rows, members, saving, kept, vector, results)
        for member in group.members:
            if row.get(member) == stages and not isinstance(member.op.lowering, Reduce):
                self._finish_row(rows, member, kept, results)
        for node, operand in results:
            if node in self.rows and isinstance(node.op.lowering, Reduce):
                self.store(rows, node, operand, kept)
        return rows

    def _targets(self, full: dict[Node, int]) -> list[list[Node]]:
        """For each stage the reductions of it, and the full members that are stored in it."""
        results = list(self.results())
        stages = 1 + max(full.values(), default=0)
        targets: list[list[Node]] = [[] for _ in range(stages)]
        for member in self.group.members:
            if member in full and (
                isinstance(member.op.lowering, Reduce) or self._is_placed(member, results)
            ):
                targets[full[member]].append(member)
        return targets

    def _is_placed(self, member: Node, results: list[tuple[Node, Operand]]) -> bool:
        return any(
            node is member or (node.op is project_op and node.args[0] is member)
            for node, _ in results
        )

    def _finish_row(
        self, rows: Reader, member: Node, kept: Index, results: list[tuple[Node, Operand]]
    ) -> None:
        value = rows.value(member, kept)
        if not isinstance(value, tuple):
            self.rows[member] = value
        for node, operand in results:
            if node is member or (node.op is project_op and node.args[0] is member):
                self.store(rows, node, operand, kept)

    def _needed(self, members: Sequence[Node]) -> list[Node]:
        """The full members that computing `members` evaluates, in order; nothing beneath those that
        an earlier pass has saved.
        """
        wanted = set(members)
        stack = list(members)
        while stack:
            node = stack.pop()
            form = node.op.lowering
            at = variables(
                len(node.args[0].shape if isinstance(form, Reduce) else result_shape(node))
            )
            for other, _ in self.partition.reads(node, at):
                if (
                    other in self.members
                    and other not in wanted
                    and other not in self.saved
                    and not is_row_member(other, self.group)
                ):
                    wanted.add(other)
                    stack.append(other)
        return [
            m for m in self.group.members if m in wanted and not isinstance(m.op.lowering, Reduce)
        ]

    def passes_over(self, targets: Sequence[Sequence[Node]]) -> Passes:
        """The passes that reduce, and store, these in turn, and what they keep for one another."""
        needed = [self._needed(members) for members in targets]
        return Passes(self.partition, self.group, targets, needed)

    def _stage(
        self,
        rows: Reader,
        members: Sequence[Node],
        saving: Sequence[Node],
        kept: Index,
        vector: bool,
        results: list[tuple[Node, Operand]],
    ) -> None:
        """One pass over the reduced axes: accumulate, store, and save what later stages need."""
        group, draft = self.group, rows.draft
        axes = group.reduced or ()
        reducing = [m for m in members if isinstance(m.op.lowering, Reduce)]
        reductions = [m for m in reducing if m not in group.carried]
        spans = [(0, group.domain[axis]) for axis in axes]
        innermost = "vector" if vector else "serial"
        summing = any(map(sums, reductions))
        if vector and len(axes) > 1 and self.partition.tactics.one_lane_axis:
            opened, found = self._open_flat(draft, rows.scope, tuple(e for _, e in spans))
        else:
            opened, found = self._open(
                draft, rows.scope, axes, spans, group.domain, innermost, summing
            )
        index = placed(axes, found, kept, len(group.domain))
        reader = Reader(self, draft, opened[-1].body, rows)
        pending: list[Node] = []
        targets = set(members)
        for member in self._needed(members):
            if member not in self.written:
                reader.value(member, index)
        for member in saving:
            self._save(reader, member, index, vector)
        for node, operand in results:
            owner = owner_of(node)
            if owner in targets and not isinstance(owner.op.lowering, Reduce):
                self.store(reader, node, operand, index)
                pending.append(node)
        states: dict[Node, Accumulator] = {}
        for member in reductions:
            value = reader.value(member.args[0], index)
            states[member] = opened[-1].accumulate(combiner_of(member), value)
        for member in reducing:
            if member in group.carried:
                self._carry(reader, member, tuple(found), [index])
        self.rows.update(self._close(opened, states))
        self.note_written(pending)

    def _stage_written_out(
        self,
        rows: Reader,
        members: Sequence[Node],
        kept: Index,
        results: list[tuple[Node, Operand]],
    ) -> None:
        """A stage of rows in lanes, term by term: what it computes is at hand for later stages."""
        group = self.group
        axes = group.reduced or ()
        places = list(itertools.product(*(range(int(group.domain[axis])) for axis in axes)))
        reductions = [m for m in members if isinstance(m.op.lowering, Reduce)]
        full = {m for m in members if not isinstance(m.op.lowering, Reduce)}
        stored = [(node, operand) for node, operand in results if owner_of(node) in full]
        totals: dict[Node, Value] = {}
        for number, place in enumerate(places):
            index = placed(axes, place, kept, len(group.domain))
            if self.flat_row is not None:
                self.flat[index] = self.flat_row * len(places) + number
            for member in self._needed(members):
                if member not in self.written:
                    rows.value(member, index)
            for node, operand in stored:
                self.store(rows, node, operand, index)
            for member in reductions:
                term = rows.value(member.args[0], index)
                before = totals.get(member)
                totals[member] = (
                    term if before is None else rows.scope.emit(combiner_of(member), before, term)
                )
        self.rows.update(totals)
        self.note_written([node for node, _ in stored])

    def _save(self, reader: Reader, member: Node, index: Index, vector: bool) -> None:
        """Write a member to the worker's scratch, to be read at the same place by later stages."""
        group = self.group
        place = self.place(member)
        if place is not None:
            return  # it is stored anyway, and read back from there
        extents = [group.domain[axis] for axis in group.reduced or ()]
        shape: Shape = tuple(extents)
        if not vector:
            shape = (*shape, self.lane_count or dim_min(group.kept[-1], TILE))
        operand = Operand(Storage("worker", member.dtype, shape))
        axes = group.reduced or ()
        offset = self.lane_offset

        def where(at: Index) -> Index:
            inside = tuple(at[axis] for axis in axes)
            return inside if vector else (*inside, offset)

        value = reader.value(member, index)
        buffer = reader.draft.buffer(operand, shape)
        located, args = reader.draft.located(where(index))
        reader.scope.store(buffer, located, value, args)
        self.saved[member] = (operand, where, shape)

    def _carried_rows(self, member: Node) -> bool:
        """Whether a member reduces what there is one of for each row."""
        return member in self.group.carried and member.args[0].shape != self.group.domain

    def _carry(self, reader: Reader, member: Node, place: Index, rows: Sequence[Index]) -> None:
        """Combine the elements at the indices of `rows`, in order, with what earlier rows left at
        `place`.
        """
        operand = self.partials[member]
        buffer = reader.draft.buffer(operand, operand.storage.shape)
        values = [reader.value(member.args[0], index) for index in rows]
        located, args = reader.draft.located((self.part, *place))
        held = reader.scope.load(buffer, located, args)
        for value in values:
            held = reader.scope.emit(combiner_of(member), held, value)
        reader.scope.store(buffer, located, held, args)

    # -- loops over reduced axes -------------------------------------------------------------------

    def _open(
        self,
        draft: Draft,
        scope: Scope,
        axes: Sequence[int],
        spans: Sequence[tuple[Extent, Extent]],
        shape: Shape,
        innermost: str,
        summing: bool = False,
    ) -> tuple[list[LoopBuilder], list[Dim]]:
        """Nested loops over `axes`; all are serial but the last, whose role is `innermost`.

        `summing`: that over a long last axis is several, over blocks of blocks, for sums of sums.
        """
        opened: list[LoopBuilder] = []
        found: list[Dim] = []
        for position, (axis, (low, high)) in enumerate(zip(axes, spans, strict=True)):
            role = innermost if position == len(axes) - 1 else "serial"
            if summing and position == len(axes) - 1:
                in_lanes = self.partition.tactics.summed_in_lanes
                least = in_lanes if role == "vector" else self.summed_in_order
                for block in _blocks(high - low, least):
                    count = ceildiv(high - low, block)
                    outer = scope.loop("serial", 0, count)
                    start = low + draft.bind(outer.variable, 0, count) * block
                    low, high = start, dim_min(high, start + block)
                    opened.append(outer)
                    scope = outer.body
            loop = scope.loop(role, low, high)
            found.append(draft.bind(loop.variable, 0, shape[axis]))
            opened.append(loop)
            scope = loop.body
        return opened, found

    def _open_flat(
        self, draft: Draft, scope: Scope, extents: Shape
    ) -> tuple[list[LoopBuilder], Sequence[Extent]]:
        """One loop of lanes over several axes."""
        total = product(extents)
        loop = scope.loop("vector", 0, total)
        position = draft.bind(loop.variable, 0, total)
        return [loop], unravel(position, extents, draft.bounds)

    def _close(
        self, opened: Sequence[LoopBuilder], states: dict[Reduced, Accumulator]
    ) -> dict[Reduced, Value]:
        """Close nested loops from the innermost; what an inner one accumulated, the next
        accumulates in turn.
        """
        results: dict[Reduced, Value] = {}
        for position in range(len(opened) - 1, -1, -1):
            opened[position].close()
            for member, state in list(states.items()):
                results[member] = opened[position].result(state)
                if position:
                    states[member] = opened[position - 1].accumulate(
                        state.combiner, results[member]
                    )
        return results


def columns_together(columns: Extent, rows: Extent) -> int:
    """How many columns are one task, where lanes are all that stays: few where they are long, so
    that several lanes can share the rows of each.
    """
    if not isinstance(columns, int) or not isinstance(rows, int) or rows < LONG_COLUMN:
        return TILE
    if columns >= ENOUGH_TASKS * TILE:
        return TILE
    tile = MOST_SHARED_COLUMNS
    while tile > LEAST_SHARED_COLUMNS and columns < ENOUGH_TASKS * tile:
        tile //= 2
    return tile


def _blocks(length: Extent, least: int) -> list[int]:
    """Into blocks of how many terms a sum is cut, and those into which again; the largest first."""
    sizes = (32 * least, least)
    return [size for size in sizes if not isinstance(length, int) or length > size]
