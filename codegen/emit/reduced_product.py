"""How is a product written whose short rows are reduced as soon as they are made?

Blocks of rows in parallel, each lane with a row. One loop over the terms adds to as many sums as a
row has elements, which never leave the registers; what is made of them follows element by element.
Arrays whose own rows lie along the terms are turned before, a block at a time: once for several
products of a batch, if all of them read the same. `fuse.reduced_products` says for which products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.codegen.emit.writer import MOST_COPIED, Writer, combiner_of, owner_of
from graphc.codegen.fuse.cost import RECOMPUTE_COST, own_cost
from graphc.codegen.fuse.group import is_row_member
from graphc.codegen.fuse.reading import asks, reads_at
from graphc.codegen.fuse.reduced_products import lanes_of, result_axes
from graphc.codegen.loops import TURNED_SIDE
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, symbol, unravel
from graphc.codegen.scalar import Scope, Value
from graphc.dims import Extent, ceildiv, dim_min, product, symbols_of
from graphc.lowering import Elementwise, Generate, Reduce, View
from graphc.node import Node
from graphc.ops.contract import labels_of
from graphc.ops.operands import constant_op
from graphc.types import Shape

# Rows of a block, as many as are turned at once, and products of a batch that share what is turned.
BLOCK, TOGETHER = TURNED_SIDE, 8
# Sums that one loop over the terms carries, and what each term may cost in it, in additions.
MOST_SUMS, MOST_COST = 24, 4


@dataclass(frozen=True)
class _Plan:
    """How the rows are come by: the arrays that are turned once for several products, and whether
    the rest is done in the loop over the terms, rather than put into scratch.
    """

    turned: tuple[Node, ...]
    in_passing: bool


class ReducedProductWriter(Writer):
    """Writes a product together with the reductions of its rows."""

    node: Node  # the product
    side: int  # which argument lanes have rows of
    row_shape: Shape
    terms: Shape
    column_shape: Shape
    span: tuple[Extent, Extent]  # the rows of the block
    _anew = False  # whether values that are stored are made once more, for the rows

    def launches(self) -> list[Launch]:
        group, node = self.group, self.group.members[0]
        assert group.reduced is not None
        side = lanes_of(node, group.reduced, self.partition.tactics)
        assert side is not None
        batch, *free = result_axes(node)
        lead, self.row_shape, self.column_shape = (
            tuple(node.shape[axis] for axis in axes) for axes in (batch, free[side], group.reduced)
        )
        self.terms = tuple(node.args[0].shape[axis] for axis in node.attrs["contracted"][0])
        self.node, self.side = node, side
        plan = self._plan()
        draft, count, rows = self.draft(), product(lead), product(self.row_shape)
        together = TOGETHER if plan.turned else 1
        blocks, chunks = ceildiv(rows, BLOCK), ceildiv(count, together)
        with draft.scope.loop("parallel", 0, chunks * blocks, "p") as outer:
            p = draft.bind(outer.variable, 0, chunks * blocks)
            first = draft.simplify(p // blocks) * together
            start = draft.simplify(p % blocks) * BLOCK
            self.span = (start, dim_min(rows, start + BLOCK))
            tiles = self._gather(draft, outer.body, plan.turned, unravel(first, lead, draft.bounds))
            with outer.body.loop("serial", first, dim_min(count, first + together)) as each:
                b = draft.bind(each.variable, 0, count)
                each.body.barrier()  # the scratch of one product is that of the next
                self._write(draft, each.body, plan, tiles, unravel(b, lead, draft.bounds))
        inner = BLOCK * together * product(self.column_shape) * product(self.terms)
        return [draft.launch(chunks * blocks, inner, group.members, self.reason())]

    def _write(
        self, draft: Draft, scope: Scope, plan: _Plan, tiles: dict[Node, Operand], lead: Index
    ) -> None:
        """All that becomes of a block of rows of one product."""
        if not plan.in_passing:
            tiles = self._gather(draft, scope, [self.node.args[self.side]], lead, tiles)
            scope.barrier()
        with scope.loop("vector", *self.span) as lanes:
            i = draft.bind(lanes.variable, 0, product(self.row_shape))
            row = unravel(i, self.row_shape, draft.bounds)
            reader = Reader(self, draft, lanes.body)
            places = self._places(lead, row)
            sums = self._sums(reader, tiles, lead, row, i - self.span[0])
            for at, value in zip(places, sums, strict=True):
                reader.note(self.node, at, value)
            self._finish(reader, places, (*lead, *row))

    def _is_dear(self) -> bool:
        """Whether mathematical procedures are called, which are written once for each element."""
        form = [m.op.lowering for m in self.group.members if not is_row_member(m, self.group)]
        costs = [f.cost for f in form if isinstance(f, Elementwise) and f.cost > RECOMPUTE_COST]
        count = product(self.group.domain[axis] for axis in self.group.reduced or ())
        assert isinstance(count, int)
        return super()._is_dear() or sum(costs) * count > MOST_COPIED

    # -- where an element is -----------------------------------------------------------------------

    def _element(self, side: int, lead: Index, free: Index, term: Index) -> Index:
        """The index of an element of an argument."""
        labels, result = labels_of(self.node)
        batch = len(lead)
        where = dict(zip(result[:batch], lead, strict=True))
        own = [label for label in labels[side] if label in result[batch:]]
        where.update(zip(own, free, strict=True))
        summed = [labels[0][axis] for axis in self.node.attrs["contracted"][0]]
        where.update(zip(summed, term, strict=True))
        return tuple(where[label] for label in labels[side])

    def _columns(self) -> list[Index]:
        """The places of a row's elements along the other argument's axes."""
        count = product(self.column_shape)
        assert isinstance(count, int)
        return [_numbered(j, self.column_shape) for j in range(count)]

    def _places(self, lead: Index, row: Index) -> list[Index]:
        """The indices of the elements of a row of the product."""
        if self.side == 0:
            return [(*lead, *row, *column) for column in self._columns()]
        return [(*lead, *column, *row) for column in self._columns()]

    # -- what the rows are computed from -----------------------------------------------------------

    def _plan(self) -> _Plan:
        batch = len(self.node.attrs["batch"][0])
        lead, row, term = (
            tuple(symbol(f"_{name}{axis}") for axis in range(count))
            for name, count in (
                ("lead", batch), ("row", len(self.row_shape)), ("term", len(self.terms)),
            )
        )
        at = self._element(self.side, lead, row, term)
        stored = self._planned(at, lead, row)
        self._anew = True
        made = self._planned(at, lead, row)
        self._anew = bool(made.turned) and made.in_passing
        return made if self._anew else stored

    def _planned(self, at: Index, lead: Index, row: Index) -> _Plan:
        found = self._leaves(self.node.args[self.side], at)
        if found is None:
            return _Plan((), False)
        leaves, cost = found
        across = [leaf for leaf, place in leaves.items() if _mentions(place, row)]
        along = [leaf for leaf in across if not _mentions(leaves[leaf][-1:], row)]
        turned = tuple(leaf for leaf in along if not _mentions(leaves[leaf], lead))
        passes = -(-len(self._columns()) // MOST_SUMS)
        return _Plan(turned, len(turned) == len(along) and cost * passes <= MOST_COST)

    def _is_read(self, node: Node) -> bool:
        """Whether the rows take a value from memory. What another kernel has stored may be made
        anew of what the call was given, if products share that: less is read then.
        """
        if self.readable(node) is None:
            return False
        anew = self._anew and isinstance(node.op.lowering, (Elementwise, View))
        return not anew or self.partition.is_external(node)

    def _leaves(self, node: Node, at: Index) -> tuple[dict[Node, Index], int] | None:
        """The arrays that a value is made of element by element, with where each is read, and what
        that costs; None if one is read at several places, or not always.
        """
        found: dict[Node, Index] = {}
        stack, seen, cost = [(node, at)], {(node, at)}, 0
        while stack:
            current, where = stack.pop()
            form = current.op.lowering
            if self._is_read(current):
                if found.setdefault(current, where) != where:
                    return None
                continue
            plain = isinstance(form, View) and len(current.args) == 1 and not asks(current)
            plain = plain or isinstance(form, (Elementwise, Generate))
            if not plain and current.op is not constant_op:
                return None
            cost += own_cost(current)
            fresh = [pair for pair in reads_at(current, where) if pair not in seen]
            seen.update(fresh)
            stack += fresh
        return found, cost

    def _made_anew(self) -> set[Node]:
        """The values that are in memory but not read from there for the rows."""
        found: set[Node] = set()
        stack = [self.node.args[self.side]] if self._anew else []
        while stack:
            node = stack.pop()
            if node not in found and not self._is_read(node):
                found.add(node)
                stack += node.args
        return found

    def _gather(
        self,
        draft: Draft,
        scope: Scope,
        nodes: Sequence[Node],
        lead: Index,
        tiles: dict[Node, Operand] | None = None,
    ) -> dict[Node, Operand]:
        """Put what the rows of the block need of nodes into scratch, a line for each term."""
        start, stop = self.span
        depth, made = product(self.terms), dict(tiles or {})
        root = self.node.args[self.side]
        for node in nodes:
            operand = Operand(Storage("worker", node.dtype, (depth, BLOCK)))
            with scope.loop("serial", 0, depth) as deep:
                k = draft.bind(deep.variable, 0, depth)
                term = unravel(k, self.terms, draft.bounds)
                with deep.body.loop("vector", start, stop) as lanes:
                    i = draft.bind(lanes.variable, 0, product(self.row_shape))
                    row = unravel(i, self.row_shape, draft.bounds)
                    at = self._element(self.side, lead, row, term)
                    if node is not root:
                        found = self._leaves(root, at)
                        assert found is not None
                        at = found[0][node]
                    with self._reading(tiles or {}, (k, i - start)):
                        value = Reader(self, draft, lanes.body).value(node, at)
                    buffer = draft.buffer(operand, (depth, BLOCK))
                    located, args = draft.located((k, i - start))
                    lanes.body.store(buffer, located, value, args)
            made[node] = operand
        return made

    @contextmanager
    def _reading(self, tiles: dict[Node, Operand], place: Index) -> Iterator[None]:
        """While this holds, nodes that have a tile are read from there."""
        shape = (product(self.terms), BLOCK)
        anew = self._made_anew()
        before = {node: self.readable(node) for node in (*tiles, *anew)}
        self._readable.update(dict.fromkeys((*tiles, *anew)))
        self.saved = {node: (operand, lambda _: place, shape) for node, operand in tiles.items()}
        yield
        self.saved = {}
        self._readable.update(before)

    # -- the product, and what becomes of it -------------------------------------------------------

    def _sums(
        self, reader: Reader, tiles: dict[Node, Operand], lead: Index, row: Index, lane: Extent
    ) -> list[Value]:
        """The elements of a row, each a sum over the terms."""
        draft, columns, depth = reader.draft, self._columns(), product(self.terms)
        passes = -(-len(columns) // MOST_SUMS)
        together = -(-len(columns) // passes)
        sums: list[Value] = []
        for first in range(0, len(columns), together):
            with reader.scope.loop("serial", 0, depth) as deep:
                k = draft.bind(deep.variable, 0, depth)
                term = unravel(k, self.terms, draft.bounds)
                inner = Reader(self, draft, deep.body, reader)
                with self._reading(tiles, (k, lane)):
                    at = self._element(self.side, lead, row, term)
                    value = inner.value(self.node.args[self.side], at)
                states = []
                for column in columns[first : first + together]:
                    at = self._element(1 - self.side, lead, column, term)
                    factor = inner.value(self.node.args[1 - self.side], at)
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


def _mentions(index: Index, names: Index) -> bool:
    """Whether an index depends on one of these variables."""
    wanted = frozenset().union(*map(symbols_of, names))
    return any(wanted & symbols_of(extent) for extent in index)


def _numbered(number: int, shape: Shape) -> Index:
    """The index of an element by its number."""
    found: list[Extent] = []
    for extent in reversed(shape):
        assert isinstance(extent, int)
        found.append(number % extent)
        number //= extent
    return tuple(reversed(found))
