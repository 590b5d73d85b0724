"""How is a kernel written whose loops are the op's own (`Nest`)?  By the op, with a builder."""

from __future__ import annotations

from graphc.codegen.emit.writer import Writer
from graphc.codegen.nest import NestBuilder
from graphc.codegen.program import Launch
from graphc.lowering import Nest


class OwnWriter(Writer):
    """Lets the op write its kernel."""

    def launches(self) -> list[Launch]:
        """The kernel that the op writes itself; none if nobody reads what it would store."""
        node = self.group.members[0]
        form = node.op.lowering
        assert isinstance(form, Nest)
        places = dict(self.results())
        if not places:
            return []
        draft = self.draft()
        builder = NestBuilder(self, draft, node, places)
        form.write(builder, **node.attrs)
        return [builder.launch(self.group.members, self.reason())]
