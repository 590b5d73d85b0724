"""How is a group of nodes written as kernels?  Each kind of group has a writer, in its own file.

- `elementwise`: no reduction;
- `rows`: reductions with many results, in stages; `row_passes`: what one stage keeps
  for the next;
- `carried`: rows that are reduced while all of them are;
- `streamed_rows`: long rows, several at once, for which little is computed;
- `split`: few results from many elements, by parts (`partial`);
- `strips`: long columns, row after row as they lie in memory, as `strip_plan` cuts them (`merged`):
  all rows at once (`whole_strips`) or by parts (`parted_strips`);
- `reduced_product`: a product whose rows are reduced as they are made;
- `contraction`, `scatter`, `check`: what their names say;
- `joined`: an array that is put together of parts;
- `own`: loops that the op writes, with the builder of `nest`.

What they share is `writer`; values themselves are written by `reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.codegen.emit.carried import CarriedWriter
from graphc.codegen.emit.check import CheckWriter
from graphc.codegen.emit.contraction import ContractionWriter
from graphc.codegen.emit.elementwise import ElementwiseWriter, copy_operand
from graphc.codegen.emit.joined import JoinedWriter
from graphc.codegen.emit.own import OwnWriter
from graphc.codegen.emit.parted_strips import PartedStripWriter
from graphc.codegen.emit.reduced_product import ReducedProductWriter
from graphc.codegen.emit.rows import RowWriter
from graphc.codegen.emit.scatter import ScatterWriter
from graphc.codegen.emit.split import SplitWriter
from graphc.codegen.emit.streamed_rows import StreamedRowWriter
from graphc.codegen.emit.strip_plan import planned_strips
from graphc.codegen.emit.whole_strips import WholeStripWriter
from graphc.codegen.emit.writer import Writer, framed_operand, part_operand
from graphc.codegen.fuse import Group, Partition
from graphc.codegen.program import Launch, Operand
from graphc.lowering import Reduce
from graphc.node import Node

__all__ = [
    "copy_launches",
    "copy_operand",
    "framed_operand",
    "launches",
    "part_operand",
]

_KINDS: dict[str, type[Writer]] = {
    "contract": ContractionWriter,
    "scatter": ScatterWriter,
    "own": OwnWriter,
    "check": CheckWriter,
    "parts": JoinedWriter,
}


def launches(
    partition: Partition,
    group: Group,
    place: Callable[[Node], Operand | None],
    number: Callable[..., int],
) -> list[Launch]:
    """The launches that compute a group.

    `place` says where a node's value is kept, None if it needs no memory; `number` numbers a node
    that is checked while the program runs.
    """
    asked = (partition, group, place, number)
    if group.kind == "contract" and group.reduced is not None:
        return ReducedProductWriter(*asked).launches()
    if group.kind in _KINDS:
        return _KINDS[group.kind](*asked).launches()
    if not any(isinstance(member.op.lowering, Reduce) for member in group.members):
        return ElementwiseWriter(*asked).launches()
    rows = RowWriter(*asked)
    strips = planned_strips(rows)
    if strips is not None:
        kind = WholeStripWriter if strips.whole else PartedStripWriter
        return kind(strips, *asked).launches()
    if partition.tactics.has_parts(group.domain, group.reduced or ()):
        return SplitWriter(*asked).launches()
    if rows.has_short_rows():
        return rows.launches()
    streamed = StreamedRowWriter(*asked)
    if streamed.streams() > 1:
        return streamed.launches()
    carried = CarriedWriter(*asked)
    if group.carried or carried.works_in_blocks():
        return carried.launches()
    return rows.launches()


def copy_launches(
    partition: Partition,
    group: Group,
    place: Callable[[Node], Operand | None],
    number: Callable[..., int],
    copies: Sequence[tuple[Node, Operand]],
) -> list[Launch]:
    """A kernel that writes the values of any nodes of the group's shape to memory."""
    return ElementwiseWriter(partition, group, place, number).copy(copies)
