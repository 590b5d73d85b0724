"""How are long columns reduced where a task has all rows of its columns?  In passes over them.

What follows from the totals is finished where they are, and further passes over the same rows (a
variance, a softmax) find them in a cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.emit.strips import StripWriter, Totals
from graphc.codegen.emit.writer import owner_of
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Reader
from graphc.codegen.scalar import Scope
from graphc.dims import product
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import TupleType


class WholeStripWriter(StripWriter):
    """Writes reductions of long columns, strips of which have all rows."""

    def launches(self) -> list[Launch]:
        strips = self.strips
        draft = self.draft()
        shape = self._shape(strips.lead)
        tiles = -(-strips.width // strips.tile)
        tasks = product(shape) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            number = draft.simplify(p // tiles)
            self._begin(draft, number, draft.simplify(p % tiles))
            self._run_passes(draft, outer.body)
        inner = strips.height * strips.tile
        return [draft.launch(tasks, inner, self.group.members, self.reason())]

    def _run_passes(self, draft: Draft, scope: Scope) -> None:
        """Every stage for all rows of a strip before the next. What there is one of for each column
        waits in scratch.
        """
        group = self.group
        full, row = self._stages()
        targets, results = self._targets(full), list(self.results())
        passes = self.passes_over(targets)
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
            totals = Totals(kept, (self.strips.tile,), lambda: (self.offset,))
            saving = [n for n in passes.saving(stage) if n not in self.saved]
            self._reduce(draft, scope, (0, self.strips.height), members, totals, saving)
            wanted = set(members)
            stored = [n for n, _ in results if owner_of(n) in wanted]
            self.note_written([n for n in stored if not is_row_member(owner_of(n), group)])

    def _keep(self, member: Node) -> None:
        """Scratch for a value of which there is one for each column."""
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
