"""How are the parts of an array written where they belong?

One kernel for several parts of one shape. Those that lie in one piece are few at a time; columns
share the lines of memory that they are written to, and so are written together.
"""

from __future__ import annotations

from graphc.codegen.emit.elementwise import ElementwiseWriter
from graphc.codegen.emit.writer import Framed, Writer, framed_operand, part_operand
from graphc.codegen.fuse import Group
from graphc.codegen.fuse.parts import PARTS_TOGETHER
from graphc.codegen.fuse.storing import MOST_TOGETHER
from graphc.codegen.program import Launch, Operand
from graphc.dims import product
from graphc.node import Node
from graphc.types import Shape


class JoinedWriter(Writer):
    """Writes the parts of an array."""

    def launches(self) -> list[Launch]:
        """Kernels that write the parts of an array where they belong, each for several of one
        shape. Some parts may have been made there.
        """
        node = self.group.members[0]
        place = self.place(node)
        if place is None:
            return []
        launches: list[Launch] = []
        together: dict[tuple[bool, Shape], list[tuple[Node, Operand]]] = {}
        for part in self.partition.parts(node):
            if part.argument in self.group.left_out:
                continue
            source = node.args[part.argument]
            where = part_operand(node, part, place) or framed_operand(node, part, place)
            if not _is_at(self.place(source), where):
                key = (isinstance(where, Framed), source.shape)
                together.setdefault(key, []).append((source, where))
        for (apart, shape), copies in together.items():
            most = PARTS_TOGETHER if apart or product(shape) == 1 else MOST_TOGETHER
            for start in range(0, len(copies), most):
                writer = ElementwiseWriter(
                    self.partition, Group("nest", shape), self.place, self.number
                )
                launches += writer.copy(copies[start : start + most])
        for launch in launches:
            launch.nodes, launch.reason = self.group.members, "one of many parts"
        return launches


def _is_at(made: Operand | None, where: Operand) -> bool:
    """Whether a part was made where it belongs."""
    if made is None or made.storage is not where.storage or made.offset != where.offset:
        return False
    if not isinstance(made, Framed) or not isinstance(where, Framed):
        return type(made) is type(where)
    return made.frame == where.frame
