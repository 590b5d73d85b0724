"""How are updates written to the positions that indices give?

A copy of what is scattered into, then a kernel in which each task owns a tile of lanes, and
combines the updates of those in order.
"""

from __future__ import annotations

from graphc.codegen import loops
from graphc.codegen.emit.elementwise import ElementwiseWriter, copy_operand
from graphc.codegen.emit.writer import TILE, Framed, Writer
from graphc.codegen.fuse import Group
from graphc.codegen.program import Launch, Operand
from graphc.codegen.reader import Index, Reader, unravel
from graphc.codegen.scalar import Scope, Value
from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.lowering import Scatter
from graphc.node import Node
from graphc.ops.gather import lookup


class ScatterWriter(Writer):
    """Writes a scatter."""

    def launches(self) -> list[Launch]:
        """A copy of what is scattered into, then a kernel in which each task owns a tile of lanes,
        and combines the updates of those in order.
        """
        node = self.group.members[0]
        place = self.place(node)
        if place is None:
            return []
        copied = self._base(node, place)
        found = lookup(node)
        extents = found.kept_of(node.args[1].shape)
        indices = node.args[2:]
        count_shape = indices[0].shape[len(found.batch) :]
        # Windows may overlap, unless there is only one: then one task walks along them.
        alone = product(count_shape) == 1
        spread = [axis for axis in found.kept if alone or axis not in found.axes]
        walked = [axis for axis in found.kept if axis not in spread]
        shape = tuple(extents[axis] for axis in spread)
        walk = (*count_shape, *(extents[axis] for axis in walked))
        columns: Extent = shape[-1] if shape else 1
        tiles = 1 if isinstance(columns, int) and columns <= TILE else ceildiv(columns, TILE)
        tasks, count = product(shape[:-1]) * tiles, product(walk)
        if product(shape) == 0 or count == 0:
            return copied
        draft = self.draft()
        buffer = draft.buffer(place, node.shape)
        draft.scope.written.add(buffer)  # so that no load of it leaves the loop of the updates
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // tiles), shape[:-1], draft.bounds)
            start = draft.simplify(p % tiles) * TILE
            stop = columns if tiles == 1 else dim_min(columns, start + TILE)
            with outer.body.loop("vector", start, stop) as lanes:
                j = draft.bind(lanes.variable, 0, columns)
                kept = dict(zip(spread, (*lead, j) if shape else (), strict=True))
                with lanes.body.loop("serial", 0, count) as every:
                    k = draft.bind(every.variable, 0, count)
                    step = unravel(k, walk, draft.bounds)
                    inner = step[: len(count_shape)]
                    kept |= zip(walked, step[len(count_shape) :], strict=True)
                    at = found.joined([kept[axis] for axis in found.kept], inner)
                    reader = Reader(self, draft, every.body)
                    values = [reader.value(i, found.place(at)) for i in indices]
                    located, inside = reader.positions(node, values, None)
                    value = reader.value(node.args[1], at)
                    index, args = draft.located(found.source(kept, located))
                    self._combine_at(every.body, buffer, index, args, value, inside)
        inner_size = count * dim_min(columns, TILE)
        return [*copied, draft.launch(tasks, inner_size, self.group.members, self.reason())]

    def _base(self, node: Node, place: Operand) -> list[Launch]:
        """What is scattered into, where the result goes."""
        base = node.args[0]
        made = self.place(base)
        apart = made is None or made.storage.strided or isinstance(made, Framed)
        if made is not None and not apart and product(node.shape) != 0:
            return copy_operand(made, place, node.shape)
        copier = ElementwiseWriter(
            self.partition, Group("nest", node.shape), self.place, self.number
        )
        return copier.copy([(base, place)])

    def _combine_at(
        self,
        scope: Scope,
        buffer: loops.Buffer,
        index: Index,
        args: tuple[Value, ...],
        value: Value,
        mask: Value | None,
    ) -> None:
        """Store a value at a position, or what it gives together with the one that is there."""
        form = self.group.members[0].op.lowering
        assert isinstance(form, Scatter)
        if form.combiner != "set":
            held = scope.load(buffer, index, args, mask)
            value = scope.emit(form.combiner, held, value)
        scope.store(buffer, index, value, args, mask)
