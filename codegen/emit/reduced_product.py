"""How is a product written whose short rows are reduced as soon as they are made?

Blocks of rows in parallel, each lane with a row. First what the rows are computed from is put
side by side in scratch, a tile of it for all terms; then one loop over the terms adds to as many
sums as a row has elements, which never leave the registers; what is made of them follows element by
element. `fuse.reduced_products` says for which products.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.emit.writer import Writer, combiner_of, owner_of
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.fuse.reduced_products import lanes_of, result_axes
from graphc.codegen.loops import TURNED_SIDE, Buffer
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Scope, Value
from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.ops.contract import labels_of
from graphc.types import Shape

# Rows of a block: as many as are turned at once.
BLOCK = TURNED_SIDE
# Sums that one loop over the terms carries.
MOST_SUMS = 24


class ReducedProductWriter(Writer):
    """Writes a product together with the reductions of its rows."""

    def launches(self) -> list[Launch]:
        group, node = self.group, self.group.members[0]
        assert group.reduced is not None
        side = lanes_of(node, group.reduced, self.partition.tactics)
        assert side is not None
        draft = self.draft()
        batch, *free = result_axes(node)
        lead_shape = tuple(node.shape[axis] for axis in batch)
        self.rows_shape: Shape = tuple(node.shape[axis] for axis in free[side])
        rows = product(self.rows_shape)
        blocks = ceildiv(rows, BLOCK)
        tasks = product(lead_shape) * blocks
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // blocks), lead_shape, draft.bounds)
            start = draft.simplify(p % blocks) * BLOCK
            stop = dim_min(rows, start + BLOCK)
            terms = self._terms(node)
            tile = self._gather(draft, outer.body, node, side, (lead, start, stop))
            outer.body.barrier()
            with outer.body.loop("vector", start, stop) as lanes:
                i = draft.bind(lanes.variable, 0, rows)
                row = unravel(i, self.rows_shape, draft.bounds)
                reader = Reader(self, draft, lanes.body)
                places = self._places(node, side, lead, row)
                sums = self._sums(reader, node, side, lead, tile, i - start)
                for at, value in zip(places, sums, strict=True):
                    reader.known[node, at, None] = value
                self._finish(reader, places, (*lead, *row))
        columns = product(node.shape[axis] for axis in group.reduced)
        inner = BLOCK * columns * product(terms)
        return [draft.launch(tasks, inner, group.members, self.reason())]

    def _terms(self, node: Node) -> Shape:
        """The extents that are summed."""
        return tuple(node.args[0].shape[axis] for axis in node.attrs["contracted"][0])

    def _element(
        self, node: Node, side: int, lead: Index, free: Index, term: Index
    ) -> Index:
        """The index of an element of an argument."""
        labels, result = labels_of(node)
        batch = len(node.attrs["batch"][0])
        mine = labels[side]
        where = dict(zip(result[:batch], lead, strict=True))
        own = [label for label in mine if label in result[batch:]]
        where.update(zip(own, free, strict=True))
        summed = [labels[0][axis] for axis in node.attrs["contracted"][0]]
        where.update(zip(summed, term, strict=True))
        return tuple(where[label] for label in mine)

    def _gather(
        self,
        draft: Draft,
        scope: Scope,
        node: Node,
        side: int,
        block: tuple[Index, Extent, Extent],
    ) -> Buffer:
        """Put what the rows of a block are computed from into scratch: a line for each term."""
        lead, start, stop = block
        terms, rows = self._terms(node), product(self.rows_shape)
        depth = product(terms)
        operand = Operand(Storage("worker", node.dtype, (depth, BLOCK)))
        tile = draft.buffer(operand, (depth, BLOCK))
        with scope.loop("serial", 0, depth) as deep:
            k = draft.bind(deep.variable, 0, depth)
            with deep.body.loop("vector", start, stop) as lanes:
                i = draft.bind(lanes.variable, 0, rows)
                reader = Reader(self, draft, lanes.body)
                row = unravel(i, self.rows_shape, draft.bounds)
                at = self._element(node, side, lead, row, unravel(k, terms, draft.bounds))
                value = reader.value(node.args[side], at)
                located, args = draft.located((k, i - start))
                lanes.body.store(tile, located, value, args)
        return tile

    def _columns(self, node: Node, side: int) -> list[Index]:
        """The places of a row's elements along the other argument's axes."""
        free = result_axes(node)[1:][1 - side]
        shape = tuple(node.shape[axis] for axis in free)
        count = product(shape)
        assert isinstance(count, int)
        return [_unravelled(j, shape) for j in range(count)]

    def _places(self, node: Node, side: int, lead: Index, row: Index) -> list[Index]:
        """The indices of the elements of a row of the product."""
        columns = self._columns(node, side)
        if side == 0:
            return [(*lead, *row, *column) for column in columns]
        return [(*lead, *column, *row) for column in columns]

    def _sums(
        self, reader: Reader, node: Node, side: int, lead: Index, tile: Buffer, lane: Extent
    ) -> list[Value]:
        """The elements of a row, each a sum over the terms."""
        draft, scope = reader.draft, reader.scope
        terms, columns = self._terms(node), self._columns(node, side)
        depth = product(terms)
        passes = -(-len(columns) // MOST_SUMS)
        together = -(-len(columns) // passes)
        sums: list[Value] = []
        for first in range(0, len(columns), together):
            with scope.loop("serial", 0, depth) as deep:
                k = draft.bind(deep.variable, 0, depth)
                inner = Reader(self, draft, deep.body, reader)
                located, args = draft.located((k, lane))
                value = deep.body.load(tile, located, args)
                term = unravel(k, terms, draft.bounds)
                states = []
                for column in columns[first : first + together]:
                    at = self._element(node, 1 - side, lead, column, term)
                    factor = inner.value(node.args[1 - side], at)
                    states.append(deep.accumulate("add", value, factor=factor))
            sums += [deep.result(state) for state in states]
        return sums

    def _finish(self, reader: Reader, places: Sequence[Index], kept: Index) -> None:
        """What becomes of a row: reductions of it, and what is made of them, in order."""
        for member in self.group.members[1:]:
            if isinstance(member.op.lowering, Reduce):
                values = [reader.value(member.args[0], at) for at in places]
                total = values[0]
                for value in values[1:]:
                    total = reader.scope.emit(combiner_of(member), total, value)
                self.rows[member] = total
        for node, operand in self.results():
            one = is_row_member(owner_of(node), self.group)
            for at in [kept] if one else places:
                self.store(reader, node, operand, at)


def _unravelled(number: int, shape: Shape) -> Index:
    """The index of an element by its number."""
    found: list[Extent] = []
    for extent in reversed(shape):
        assert isinstance(extent, int)
        found.append(number % extent)
        number //= extent
    return tuple(reversed(found))
