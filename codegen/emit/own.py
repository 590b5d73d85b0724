"""How is a kernel written whose loops are the op's own (`Nest`)?  By the op, with a builder.

An op may offer a second kernel, which leaves the work to a library. Where extents are known one of
the two is written, else both: of the launches one has no tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.codegen.emit.writer import Writer
from graphc.codegen.nest import NestBuilder, results_of
from graphc.codegen.program import Launch
from graphc.dims import Extent
from graphc.lowering import Nest


class OwnWriter(Writer):
    """Lets the op write its kernel."""

    def launches(self) -> list[Launch]:
        """The kernels that the op writes itself; none if nobody reads what they would store."""
        node = self.group.members[0]
        places = dict(self.results())
        if not places:
            return []
        made = []
        wanted = [result in places for result in results_of(node)]
        for write, share, by in self._ways(wanted):
            if share == 0:
                continue
            builder = NestBuilder(self, self.draft(), node, places, share)
            write(builder, **node.attrs)
            made.append(builder.launch(self.group.members, self.reason() + by))
        return made

    def _ways(self, wanted: Sequence[bool]) -> list[tuple[Callable[..., Any], Extent, str]]:
        """How to write the kernel, for which share of all sizes, and what to say of it. `wanted`:
        which results somebody reads.
        """
        node = self.group.members[0]
        form, library = node.op.lowering, self.partition.tactics.library
        assert isinstance(form, Nest)
        if not library or form.by_library is None:
            return [(form.write, 1, "")]
        share = form.by_library.share([argument.type for argument in node.args], wanted)
        given = (form.by_library.write, share, f"; the work is left to {library}")
        return [(form.write, 1 - share, ""), given]
