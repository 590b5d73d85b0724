"""How are updates written to the positions that indices give?

A copy of what is scattered into, then a kernel in which each task owns a tile of lanes, and
combines the updates of those in order.
"""

from __future__ import annotations

from contextlib import ExitStack

from graphc.codegen import loops
from graphc.codegen.emit.elementwise import ElementwiseWriter, copy_operand
from graphc.codegen.emit.writer import TILE, Framed, Writer
from graphc.codegen.fuse import Group
from graphc.codegen.program import Launch, Operand
from graphc.codegen.reader import Draft, Index, Reader, symbol, unravel
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
        count_shape = node.args[2].shape[len(found.batch) :]
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
        with draft.scope.loop("parallel", 0, tasks, "p") as outer, ExitStack() as nest:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // tiles), shape[:-1], draft.bounds)
            start = draft.simplify(p % tiles) * TILE
            stop = columns if tiles == 1 else dim_min(columns, start + TILE)
            scope, scopes, at = outer.body, {}, {"lanes": start, "updates": 0}
            inward = ["updates"] if columns == 1 else ["updates", "lanes"]
            if spread and spread[-1] in found.batch:
                inward.reverse()  # the positions are those of the lane
            for name in inward:
                limits = ("vector", start, stop) if name == "lanes" else ("serial", 0, count)
                loop = nest.enter_context(scope.loop(*limits))
                scope = scopes[name] = loop.body
                at[name] = draft.bind(loop.variable, 0, columns if name == "lanes" else count)
            kept = dict(zip(spread, (*lead, at["lanes"]) if shape else (), strict=True))
            step = unravel(at["updates"], walk, draft.bounds)
            kept |= zip(walked, step[len(count_shape) :], strict=True)
            inner = step[: len(count_shape)]
            self._update(draft, scopes["updates"], scope, buffer, kept, inner)
        inner_size = count * dim_min(columns, TILE)
        return [*copied, draft.launch(tasks, inner_size, self.group.members, self.reason())]

    def _update(
        self,
        draft: Draft,
        outer: Scope,
        scope: Scope,
        buffer: loops.Buffer,
        kept: dict[int, Extent],
        inner: Index,
    ) -> None:
        """One update of an element: that number `inner` of the positions, at this index along the
        axes that are kept. Positions are looked at in the outer scope, that of the update.
        """
        node, found = self.group.members[0], lookup(self.group.members[0])
        at = found.joined([kept[axis] for axis in found.kept], inner)
        reader = Reader(self, draft, outer)
        values = [reader.value(i, found.place(at)) for i in node.args[2:]]
        located, inside = reader.positions(node, values, None)
        certain = all(_is_some(node.shape[a]) for a in node.attrs["axes"])
        if inside is not None and certain and not self.partition.tactics.masks_updates:
            # a call that fails leaves no results: such updates may go anywhere
            located = [_within(draft, outer, position, inside) for position in located]
            inside = None
        value = Reader(self, draft, scope).value(node.args[1], at)
        index, args = draft.located(found.source(kept, located))
        self._combine_at(scope, buffer, index, args, value, inside)

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


def _is_some(extent: Extent) -> bool:
    """Whether an axis certainly has elements."""
    return isinstance(extent, int) and extent > 0


def _within(draft: Draft, scope: Scope, position: Extent, inside: Value) -> Extent:
    """A position that was checked, or 0 where it lies outside."""
    checked = draft.atoms.get(str(position))
    if checked is None:
        return position
    name = f"_at{len(draft.atoms)}"
    draft.atoms[name] = scope.select(inside, checked, 0)
    return symbol(name)
