"""How are partial results kept, and combined in order?

What is reduced in parts, each by one worker, is the same whichever worker does it and whenever: the
partial results lie in memory in the order of the parts, and a further kernel combines them in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen import loops
from graphc.codegen.emit.rows import RowWriter
from graphc.codegen.emit.writer import combiner_of, placed, sums
from graphc.codegen.fuse.cost import own_cost
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Accumulator, Scope
from graphc.codegen.tactics import Tactics
from graphc.dims import Extent, product
from graphc.node import Node
from graphc.types import Shape

# Memory is what takes time where an element takes at most so many additions to make.
STREAMED_COST = 4


class PartialWriter(RowWriter):
    """Writes reductions by parts."""

    def streams_of(self, terms: Sequence[Node]) -> int:
        """In how many streams the terms of reductions are read: one, where making them takes longer
        than memory does.
        """
        tactics = self.partition.tactics
        most = min(tactics.streams_of_part, tactics.sums_of_part // len(terms))
        return most if most > 1 and self._work(terms) <= STREAMED_COST else 1

    def _work(self, terms: Sequence[Node]) -> int:
        """What the terms of an element take, in additions; or more than memory does."""
        stack = list(terms)
        seen, cost = set(stack), 0
        while stack and cost <= STREAMED_COST:
            node = stack.pop()
            if self.partition.floats(node) or node in self.members:
                cost += own_cost(node)
                fresh = [argument for argument in node.args if argument not in seen]
                seen.update(fresh)
                stack += fresh
        return cost

    def _clear_at(self, draft: Draft, scope: Scope, member: Node, place: Index) -> None:
        operand, dtype = self.partials[member], member.dtype.name
        buffer = draft.buffer(operand, operand.storage.shape)
        located, args = draft.located((self.part, *place))
        start = scope.const(loops.identity(combiner_of(member), dtype), dtype)
        scope.store(buffer, located, start, args)

    def _combine(
        self, partials: dict[Node, Operand], kept_shape: Shape, rows: Sequence[Node]
    ) -> Launch:
        """Combine the partial results in order, and finish what follows from them."""
        draft = self.draft(self.title() + "_combine")
        count = next(iter(partials.values())).storage.shape[0]
        why = "combines the parts of a split reduction in order"
        if self.partition.tactics.combines_in_lanes:
            tasks = product(kept_shape)
            with draft.scope.loop("parallel", 0, tasks, "p") as outer:
                p = draft.bind(outer.variable, 0, tasks)
                kept = unravel(p, kept_shape, draft.bounds)
                self._combine_row(draft, outer.body, kept, partials, rows, "vector")
            return draft.launch(tasks, count, [*partials, *rows], why)
        tasks = product(kept_shape[:-1])
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(p, kept_shape[:-1], draft.bounds)
            if kept_shape:
                with outer.body.loop("vector", 0, kept_shape[-1]) as lanes:
                    j = draft.bind(lanes.variable, 0, kept_shape[-1])
                    self._combine_row(draft, lanes.body, (*lead, j), partials, rows, "serial")
            else:
                self._combine_row(draft, outer.body, (), partials, rows, "vector")
        inner = count * (kept_shape[-1] if kept_shape else 1)
        return draft.launch(tasks, inner, [*partials, *rows], why)

    def _combine_row(
        self,
        draft: Draft,
        scope: Scope,
        kept: Index,
        partials: dict[Node, Operand],
        rows: Sequence[Node],
        role: str,
        shape: Shape = (),
        axes: Sequence[int] = (0,),
    ) -> None:
        """Combine over `axes` of partial results of this shape, by default over the parts."""
        shape = shape or next(iter(partials.values())).storage.shape
        spans: list[tuple[Extent, Extent]] = [(0, shape[axis]) for axis in axes]
        summing = any(map(sums, partials))
        opened, found = self._open(draft, scope, axes, spans, shape, role, summing)
        index = placed(axes, found, kept, len(shape))
        states: dict[Node, Accumulator] = {}
        for reduction, operand in partials.items():
            buffer = draft.buffer(operand, shape)
            located, args = draft.located(index)
            loaded = opened[-1].body.load(buffer, located, args)
            states[reduction] = opened[-1].accumulate(combiner_of(reduction), loaded)
        self.rows.update(self._close(opened, states))
        reader = Reader(self, draft, scope)
        results = list(self.results())
        for node, operand in results:
            if node in partials:
                self.store(reader, node, operand, kept)
        for member in rows:
            self._finish_row(reader, member, kept, results)


def partial_results(reduction: Node, count: Extent) -> Operand:
    """Memory for the results of `count` parts of a reduction."""
    return Operand(Storage("temporary", reduction.dtype, (count, *reduction.shape)))


def rows_of_part(rows: Extent, tactics: Tactics) -> int:
    """How many rows one task reduces one after the other, and carries results along: as many as may
    be summed in order, fewer where there would be no work for many workers.
    """
    if not isinstance(rows, int):
        return tactics.rows_of_part
    return max(1, min(tactics.rows_of_part, rows // tactics.least_parts))
