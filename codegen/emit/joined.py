"""How are the parts of an array written where they belong?

One kernel for each part, or for several of one shape that lie in one piece.
"""

from __future__ import annotations

from graphc.codegen.emit.elementwise import ElementwiseWriter
from graphc.codegen.emit.writer import Writer
from graphc.codegen.fuse import MOST_TOGETHER, Group, Part, parts_of
from graphc.codegen.program import Launch, Operand
from graphc.dims import product
from graphc.node import Node
from graphc.types import Shape

# Numbers that one kernel writes into an array of many.
PARTS_TOGETHER = 64


class JoinedWriter(Writer):
    """Writes the parts of an array."""

    def launches(self) -> list[Launch]:
        """Kernels that write the parts of an array where they belong, one for each part, or for
        several of one shape that lie in one piece. Some may have been made there.
        """
        node = self.group.members[0]
        place = self.place(node)
        if place is None:
            return []
        launches: list[Launch] = []
        together: dict[Shape, list[tuple[Node, Operand]]] = {}
        for part in parts_of(node):
            source = node.args[part.argument]
            where = part_operand(node, part, place)
            if where is None:
                writer = ElementwiseWriter(
                    self.partition, Group("nest", source.shape), self.place, self.number
                )
                writer.frame = (node.shape, part)
                launches += writer.copy([(source, place)])
                continue
            made = self.place(source)
            if made is None or made.storage is not where.storage or made.offset != where.offset:
                together.setdefault(source.shape, []).append((source, where))
        for shape, copies in together.items():
            most = PARTS_TOGETHER if product(shape) == 1 else MOST_TOGETHER
            for start in range(0, len(copies), most):
                writer = ElementwiseWriter(
                    self.partition, Group("nest", shape), self.place, self.number
                )
                launches += writer.copy(copies[start : start + most])
        for launch in launches:
            launch.nodes, launch.reason = self.group.members, "one of many parts"
        return launches


def part_operand(node: Node, part: Part, place: Operand) -> Operand | None:
    """Where a part of an array at `place` is, if it lies in one piece there."""
    if product(node.shape[: part.axis]) != 1:
        return None
    offset = part.start * product(node.shape[part.axis + 1 :])
    return Operand(place.storage, place.offset + offset)
