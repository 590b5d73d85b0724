"""How is a condition written that must hold for every element?"""

from __future__ import annotations

from graphc.codegen.emit.elementwise import ElementwiseWriter
from graphc.codegen.emit.writer import Writer
from graphc.codegen.fuse import Group
from graphc.codegen.program import Launch
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.dims import product

CHECK_FAILED = 3


class CheckWriter(Writer):
    """Writes the check of a condition, and a copy of what it guards."""

    def launches(self) -> list[Launch]:
        """A kernel that checks every element of the condition, and a copy of what was guarded."""
        node = self.group.members[0]
        guarded, condition = node.args
        domain = condition.shape
        draft = Draft("check")
        rows, columns = product(domain[:-1]), domain[-1] if domain else 1
        with draft.scope.loop("parallel", 0, rows, "p") as outer:
            p = draft.bind(outer.variable, 0, rows)
            lead = unravel(p, domain[:-1], draft.bounds)
            with outer.body.loop("vector", 0, columns) as lanes:
                i = draft.bind(lanes.variable, 0, columns)
                index: Index = (*lead, i) if domain else ()
                reader = Reader(self, draft, lanes.body)
                holds = reader.value(condition, index)
                lanes.body.check(holds, CHECK_FAILED, self.number(node), draft.index(lanes.body, i))
        checked = draft.launch(rows, columns, [node], self.reason())
        place = self.place(node)
        if place is None:
            return [checked]
        copier = ElementwiseWriter(
            self.partition, Group("nest", guarded.shape), self.place, self.number
        )
        return [checked, *copier.copy([(guarded, place)])]
