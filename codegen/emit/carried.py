"""How is written what reduces rows while each of them is reduced too?

Parts of the rows in parallel; in each, what reduces all rows is carried from row to row. Where rows
are short and something dear is done for each, a block of them is worked on at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.codegen.emit.partial import PartialWriter, partial_results, rows_of_part
from graphc.codegen.emit.writer import combiner_of, owner_of, placed
from graphc.codegen.fuse.cost import RECOMPUTE_COST
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.fuse.reading import result_shape, variables
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Accumulator, LoopBuilder, Scope, Value
from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.lowering import Elementwise, Reduce
from graphc.node import Node
from graphc.ops.special import project_op
from graphc.types import TupleType

# Rows of at most so many elements are short.
NARROW = 128
# Rows of a block: few, so that while one is worked on the next is already on its way from memory.
BLOCK = 32


class CarriedWriter(PartialWriter):
    """Writes reductions of rows together with those over the rows."""

    row_of_block: Extent = 0

    def launches(self) -> list[Launch]:
        """Parts of the rows in parallel. In each part rows are reduced one after the other, as in
        row mode, and what reduces all of them is carried along; then kernels that combine the parts
        in order. So an array whose rows and columns are both reduced is read once.
        """
        group = self.group
        draft = self.draft()
        rows = product(group.kept)
        depth = rows_of_part(rows, self.partition.tactics)
        count = ceildiv(rows, depth)
        carried = [member for member in group.members if member in group.carried]
        self.partials = {m: partial_results(m, count) for m in carried}
        with draft.scope.loop("parallel", 0, count, "p") as outer:
            self.part = draft.bind(outer.variable, 0, count)
            for member in carried:
                if not self._carried_rows(member):
                    self._clear(draft, outer.body, member)
            start = self.part * depth
            stop = dim_min(rows, start + depth)
            if self.works_in_blocks():
                each, states = self._run_blocks(draft, outer.body, start, stop, depth)
            else:
                with outer.body.loop("serial", start, stop) as each:
                    row = draft.bind(each.variable, 0, rows)
                    kept = unravel(row, group.kept, draft.bounds)
                    reader = self._run_stages(draft, each.body, kept, vector=True)
                    states = self._carry_rows(each, reader, kept)
            for member, state in states.items():
                buffer = draft.buffer(self.partials[member], (count,))
                located, args = draft.located((self.part,))
                outer.body.store(buffer, located, each.result(state), args)
        inner = depth * product(group.domain[axis] for axis in group.reduced or ())
        first = draft.launch(count, inner, group.members, self.reason())
        launches = [first]
        for shape in dict.fromkeys(member.shape for member in carried):
            alike = {m: self.partials[m] for m in carried if m.shape == shape}
            launches.append(self._combine(alike, shape, []))
        return launches

    def _carry_rows(
        self, each: LoopBuilder, reader: Reader, kept: Index
    ) -> dict[Node, Accumulator]:
        """Accumulate what reduces values of which there is one for each row."""
        members = [member for member in self.group.members if self._carried_rows(member)]
        return {
            member: each.accumulate(combiner_of(member), reader.value(member.args[0], kept))
            for member in members
        }

    def works_in_blocks(self) -> bool:
        """Whether the rows are so short that what is dear for each of them is done for a block of
        them at once, in lanes.
        """
        if not self.partition.tactics.blocks_of_rows:
            return False
        group = self.group
        last = len(group.domain) - 1
        width = product(group.domain[axis] for axis in group.reduced or ())
        if last not in (group.reduced or ()) or not isinstance(width, int) or width > NARROW:
            return False
        rows = [m for m in group.members if is_row_member(m, group)]
        forms = [m.op.lowering for m in rows if not isinstance(m.type, TupleType)]
        if sum(f.cost for f in forms if isinstance(f, Elementwise)) <= RECOMPUTE_COST:
            return False
        full, _ = self._stages()
        return not self.passes_over(self._targets(full)).worth_saving

    def _run_blocks(
        self, draft: Draft, scope: Scope, start: Extent, stop: Extent, depth: int
    ) -> tuple[LoopBuilder, dict[Node, Accumulator]]:
        """The rows of a part in blocks, and what has been accumulated over them."""
        size = min(BLOCK, depth)
        with scope.loop("serial", 0, ceildiv(stop - start, size)) as blocks:
            first = start + draft.bind(blocks.variable, 0, ceildiv(depth, size)) * size
            last = dim_min(stop, first + size)
            blocks.body.barrier()  # the scratch of one block is that of the next
            each, states = self._run_block(draft, blocks.body, first, last, size)
            states = {
                member: blocks.accumulate(state.combiner, each.result(state))
                for member, state in states.items()
            }
        return blocks, states

    def _run_block(
        self, draft: Draft, scope: Scope, start: Extent, stop: Extent, depth: int
    ) -> tuple[LoopBuilder, dict[Node, Accumulator]]:
        """Every stage for all rows of a block before the next: reductions row after row, what is
        made of them in lanes, a row in each. The values of rows wait in scratch.

        Returns the last loop over rows in lanes, and what it accumulates.
        """
        group = self.group
        full, row = self._stages()
        targets, results = self._targets(full), list(self.results())
        total = product(group.kept)
        for stage in range(len(targets) + 1):
            done = [m for m in group.members if row.get(m) == stage]
            last = stage == len(targets)
            read = self._read_from(stage, targets, row)
            states: dict[Node, Accumulator] = {}
            if done or last:
                with scope.loop("vector", start, stop) as lanes:
                    i = draft.bind(lanes.variable, 0, total)
                    self.row_of_block = i - start
                    kept = unravel(i, group.kept, draft.bounds)
                    reader = Reader(self, draft, lanes.body)
                    for member in done:
                        value = reader.value(member, kept)
                        if not isinstance(member.op.lowering, Reduce) and not last:
                            for node, one in self._parts_of(member, value):
                                if member in read or node in read:
                                    self._keep_row(draft, lanes.body, node, one, depth)
                        for node, operand in results:
                            if owner_of(node) is member:
                                self.store(reader, node, operand, kept)
                    if last:
                        states = self._carry_rows(lanes, reader, kept)
            if last:
                return lanes, states
            if self._only_carries(targets[stage]):
                self._carry_columns(draft, scope, targets[stage], start, stop)
                continue
            with scope.loop("serial", start, stop) as each:
                i = draft.bind(each.variable, 0, total)
                self.row_of_block = i - start
                kept = unravel(i, group.kept, draft.bounds)
                self._fetch_row(draft, each.body)
                reader = Reader(self, draft, each.body)
                self._stage(reader, targets[stage], [], kept, True, results)
                for member in targets[stage]:
                    if member in self.rows:
                        self._keep_row(draft, each.body, member, self.rows[member], depth)
                self.rows.clear()
        raise AssertionError("the last stage returns")

    def _read_from(
        self, stage: int, targets: Sequence[Sequence[Node]], row: dict[Node, int]
    ) -> set[Node]:
        """What is read by the stages from this one on, and by rows that are finished after it."""
        readers = [m for members in targets[stage:] for m in (*self._needed(members), *members)]
        readers += [m for m, level in row.items() if level > stage]
        readers += [m for m in self.group.members if self._carried_rows(m)]
        read: set[Node] = set()
        for member in readers:
            reduces = isinstance(member.op.lowering, Reduce)
            shape = member.args[0].shape if reduces else result_shape(member)
            read |= {other for other, _ in self.partition.reads(member, variables(len(shape)))}
        return read

    def _only_carries(self, stage: Sequence[Node]) -> bool:
        """Whether a stage has nothing to do but to carry along what reduces all rows."""
        return bool(stage) and self.group.carried.issuperset(stage)

    def _carry_columns(
        self, draft: Draft, scope: Scope, members: Sequence[Node], start: Extent, stop: Extent
    ) -> None:
        """A stage that only carries: columns in lanes, and down the block in registers. In rows,
        each would wait for what the one before it left in memory.
        """
        group = self.group
        axes = group.reduced or ()
        spans = [(0, group.domain[axis]) for axis in axes]
        scope.barrier()  # a column reads what others have kept of the rows
        opened, found = self._open(draft, scope, axes, spans, group.domain, "vector")
        columns = opened[-1].body
        with columns.loop("serial", start, stop) as each:
            i = draft.bind(each.variable, 0, product(group.kept))
            self.row_of_block = i - start
            index = placed(axes, found, unravel(i, group.kept, draft.bounds), len(group.domain))
            self._fetch_row(draft, each.body)
            reader = Reader(self, draft, each.body)
            states = {
                member: each.accumulate(combiner_of(member), reader.value(member.args[0], index))
                for member in members
            }
        for member, state in states.items():
            operand = self.partials[member]
            buffer = draft.buffer(operand, operand.storage.shape)
            located, args = draft.located((self.part, *found))
            before = columns.load(buffer, located, args)
            total = columns.emit(state.combiner, before, each.result(state))
            columns.store(buffer, located, total, args)
        for loop in reversed(opened):
            loop.close()
        self.rows.clear()

    def _fetch_row(self, draft: Draft, scope: Scope) -> None:
        """Load what earlier loops have kept of a row."""
        for member, (operand, _, shape) in self.saved.items():
            buffer = draft.buffer(operand, shape)
            located, args = draft.located((self.row_of_block,))
            self.rows[member] = scope.load(buffer, located, args)

    def _parts_of(self, member: Node, value: Any) -> list[tuple[Node, Value]]:
        """The value of a member, or those of several results that somebody reads."""
        if not isinstance(member.type, TupleType):
            return [(member, value)]
        readers = self.partition.users.get(member, ())
        return [(node, value[node.attrs["index"]]) for node in readers if node.op is project_op]

    def _keep_row(
        self, draft: Draft, scope: Scope, member: Node, value: Value, depth: Extent
    ) -> None:
        """Write the value of a row to the worker's scratch, for the loops after this one."""
        if member not in self.saved:
            operand = Operand(Storage("worker", member.dtype, (depth,)))
            self.saved[member] = (operand, lambda at: (self.row_of_block,), (depth,))
        operand, _, shape = self.saved[member]
        located, args = draft.located((self.row_of_block,))
        scope.store(draft.buffer(operand, shape), located, value, args)

    def _clear(self, draft: Draft, scope: Scope, member: Node) -> None:
        """Begin what is carried along in memory with the identity."""
        shape = member.shape
        axes = range(len(shape))
        spans = [(0, extent) for extent in shape]
        opened, found = self._open(draft, scope, axes, spans, shape, "vector")
        self._clear_at(draft, opened[-1].body, member, tuple(found))
        for loop in reversed(opened):
            loop.close()
