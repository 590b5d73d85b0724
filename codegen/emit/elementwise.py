"""How is a group without a reduction written?

Rows in parallel, lanes along the last axis; one flat run of elements, when every operand is read at
its own index; tiles of two axes, when a large array is read across its rows; or lanes from turn to
turn, when a few elements at a time are read in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from graphc.codegen import segments
from graphc.codegen.emit.across import MOST_STEPPED, Across, read_across, short_axis
from graphc.codegen.emit.seams import Span, boxes_of_rows, parts_of_rows
from graphc.codegen.emit.woven import LEAST_TURNS, MOST_WOVEN, turns_of
from graphc.codegen.emit.writer import Framed, Writer, beside_each_other, part_operand, placed
from graphc.codegen.loops import CHUNK
from graphc.codegen.program import Launch, Operand
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Scope, Statement
from graphc.dims import Extent, ceildiv, dim_max, dim_min, product
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import Shape

# Results whose numbers are a task's, and the least elements of one.
FEW_RESULTS, LEAST_CHUNK = 16, 256
# Statements of an element that threads share as they do those of any loop.
LIGHT = 16
# Members of a group that may be written several times, and the work of all elements of a turn.
FEW_MEMBERS, MOST_WORK_WOVEN = 8, 256


class ElementwiseWriter(Writer):
    """Writes what is computed element by element."""

    def launches(self) -> list[Launch]:
        return self._unless_empty([*self.results(), *self._beside()], self.group.domain)

    def _beside(self) -> Iterator[tuple[Node, Operand]]:
        """What is no member, but written into parts of arrays, with where."""
        for value, array, part in self.group.beside:
            place = self.place(array)
            where = None if place is None else part_operand(array, part, place)
            assert where is not None
            yield value, where

    def copy(self, copies: Sequence[tuple[Node, Operand]]) -> list[Launch]:
        """Kernels that write the values of any nodes of one shape to memory."""
        return self._unless_empty(copies, copies[0][0].shape)

    def _unless_empty(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape
    ) -> list[Launch]:
        """Element-wise launches; none if there are no elements: their indices mean nothing."""
        return [] if product(domain) == 0 else self._elementwise(results, domain)

    def _elementwise(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape
    ) -> list[Launch]:
        if product(domain) == 1:  # lanes would be masked off, all but one
            return [self._once(results, domain)]
        nodes = [node for node, _ in results]
        framed = any(isinstance(operand, Framed) for _, operand in results)
        if not framed and self.is_flat(nodes, domain):
            return [self._flat(results, domain)]
        # an axis of one element has no lanes to offer
        kept = [axis for axis, extent in enumerate(domain) if extent != 1] or [len(domain) - 1]
        *lead, last = kept
        whole: list[Span] = [(0, domain[last])]
        parts: list[Span] = whole
        boxes: list[tuple[Span, ...]] = [tuple((0, domain[axis]) for axis in lead)]
        # Of what is much to compute one loop is enough.
        if len(self.group.members) <= FEW_MEMBERS:
            tactics = self.partition.tactics
            parts = parts_of_rows(nodes, domain, last, tactics.parts_of_row, self._is_stored)
            if tactics.boxes_of_rows:
                boxes = boxes_of_rows(nodes, domain, lead, self._is_stored)
        across = self._across(nodes, domain, len(parts) * len(boxes))
        if across is not None:
            return [self._tiled(results, domain, across)]
        if len(parts) == len(boxes) == 1:
            turn = self._turn(nodes, domain, kept)
            if turn > 1:
                return [self._woven(results, domain, kept, turn)]
            split = self._split_axis(nodes, domain)
            if split is not None:
                return [self._split(results, domain, split)]
        return [self._rows(results, domain, kept, box, parts) for box in boxes]

    def _across(self, nodes: Sequence[Node], domain: Shape, pieces: int) -> Across | None:
        """What is read across its rows, where tiles pay; `pieces` of the domain come from different
        arrays, and lanes of a tile would ask of each element from which.
        """
        tactics = self.partition.tactics
        least = tactics.turned_elements if pieces == 1 else tactics.turned_pieces
        across = read_across(nodes, domain, self._is_stored, least)
        if across is None or tactics.weaves_turns and across.is_in_streams(domain):
            return None
        return across

    def _turn(self, nodes: Sequence[Node], domain: Shape, kept: list[int]) -> int:
        """How many elements are written in turns; 1 if these are none, or too much to be computed
        each by its own instructions.
        """
        if not self.partition.tactics.weaves_turns:
            return 1
        turn = turns_of(nodes, domain, kept, self._is_stored)
        many = min(turn, MOST_WOVEN) * max(len(self.group.members), self.group.work)
        return turn if many <= MOST_WORK_WOVEN else 1

    def _woven(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape, kept: list[int], turn: int
    ) -> Launch:
        """Turns of as many elements along the last of the axes `kept`, or over rows that are turns
        each.
        """
        draft = self.draft()
        *lead, last = kept
        rows = domain[last] == turn
        across = lead.pop() if rows else last
        extent = domain[across] if rows else domain[last] // turn
        whole = max(LEAST_TURNS, CHUNK // turn // LEAST_TURNS * LEAST_TURNS)
        tiles = 1 if extent <= whole else ceildiv(extent, whole)
        sizes = tuple(domain[axis] for axis in lead)
        nothing = (0,) * (len(domain) - len(kept))
        tasks = product(sizes) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            start = draft.simplify(p % tiles) * whole
            row = unravel(draft.simplify(p // tiles), sizes, draft.bounds)
            stop = extent if tiles == 1 else dim_min(extent, start + whole)
            apart = turn > MOST_WOVEN
            with outer.body.loop("serial" if apart else "vector", start, stop) as turns:
                q = draft.bind(turns.variable, 0, extent)

                def write(body: Scope, j: Extent) -> None:
                    inner = (q, j) if rows else (q * turn + j,)
                    index = placed(kept, (*row, *inner), nothing, len(domain))
                    self._store_all(Reader(self, draft, body), results, index)

                if apart:
                    with turns.body.loop("vector", 0, turn) as lanes:
                        write(lanes.body, draft.bind(lanes.variable, 0, turn))
                else:
                    for j in range(turn):
                        write(turns.body, j)
        reason = f"{self.reason()}; in turns of {turn}"
        return draft.launch(tasks, min(extent, whole) * turn, self.group.members, reason)

    def _split_axis(self, nodes: Sequence[Node], domain: Shape) -> int | None:
        """The axis of short rows, see `short_axis`; None if that is too much to be computed each by
        its own instructions.
        """
        many = MOST_STEPPED * max(len(self.group.members), self.group.work)
        if not self.partition.tactics.weaves_turns or many > MOST_WORK_WOVEN:
            return None
        return short_axis(nodes, domain, self._is_stored, self.partition.tactics.turned_elements)

    def _split(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape, axis: int
    ) -> Launch:
        """Lanes along pieces of the last axis, for all elements of a short one before the next
        piece: the short rows of memory that these are read from are still in the first cache.
        """
        draft, last = self.draft(), len(domain) - 1
        others = tuple(a for a in range(last) if a != axis)
        sizes = tuple(domain[a] for a in others)
        rows = domain[axis]
        assert isinstance(rows, int)
        piece = CHUNK // rows // LEAST_TURNS * LEAST_TURNS
        tiles = ceildiv(domain[last], piece)
        tasks = product(sizes) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            start = draft.simplify(p % tiles) * piece
            lead = unravel(draft.simplify(p // tiles), sizes, draft.bounds)
            stop = dim_min(domain[last], start + piece)
            for k in range(rows):
                with outer.body.loop("vector", start, stop) as lanes:
                    i = draft.bind(lanes.variable, 0, domain[last])
                    index = placed((axis, last), (k, i), lead, len(domain))
                    self._store_all(Reader(self, draft, lanes.body), results, index)
        reason = f"{self.reason()}; {rows} rows in turns of {piece} elements"
        return draft.launch(tasks, dim_min(domain[last], piece) * rows, self.group.members, reason)

    def _is_stored(self, node: Node) -> bool:
        return self.readable(node) is not None

    def _once(self, results: Sequence[tuple[Node, Operand]], domain: Shape) -> Launch:
        """A single element."""
        results = beside_each_other(results)
        draft = self.draft()
        with draft.scope.loop("parallel", 0, 1, "p") as once:
            self._store_all(Reader(self, draft, once.body), results, (0,) * len(domain))
            if self._is_cut(segments.of_one(draft, once)):
                segments.in_order(draft, once, self.partition.tactics.straight)
        return draft.launch(1, 1, self.group.members, self.reason())

    def _flat(self, results: Sequence[tuple[Node, Operand]], domain: Shape) -> Launch:
        """One run of elements."""
        draft, size = self.draft(), product(domain)

        def index_of(lead: Index, i: Extent) -> Index:
            index = unravel(i, domain, draft.bounds)
            self.flat[index] = i
            return index

        return self._in_lanes(draft, results, (), [(0, size)], index_of)

    def _rows(
        self,
        results: Sequence[tuple[Node, Operand]],
        domain: Shape,
        kept: Sequence[int],
        box: Sequence[Span],
        parts: Sequence[Span],
    ) -> Launch:
        """The rows of a box of the axes that are `kept` but for the last, which is cut in parts."""
        draft = self.draft()
        nothing = (0,) * (len(domain) - len(kept))

        def index_of(lead: Index, i: Extent) -> Index:
            rows = [start + place for (start, _), place in zip(box, lead, strict=True)]
            return placed(kept, (*rows, i), nothing, len(domain))

        sizes = tuple(stop - start for start, stop in box)
        return self._in_lanes(draft, results, sizes, parts, index_of)

    def _in_lanes(
        self,
        draft: Draft,
        results: Sequence[tuple[Node, Operand]],
        lead: Shape,
        parts: Sequence[Span],
        index_of: Callable[[Index, Extent], Index],
    ) -> Launch:
        """Rows in parallel, numbered by `lead`, and a loop over lanes for each part of them, where
        `index_of` says what index an element has.
        """
        columns = parts[-1][1]
        chunk, heavy = _chunk(len(results)), 1
        tiles = 1 if isinstance(columns, int) and columns <= chunk else ceildiv(columns, chunk)
        tasks = product(lead) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            start = draft.simplify(p % tiles) * chunk
            row = unravel(draft.simplify(p // tiles), lead, draft.bounds)
            stop = columns if tiles == 1 else dim_min(columns, start + chunk)
            for low, high in parts:
                first = start if low == 0 else dim_max(start, low)
                last = stop if high == columns else dim_min(stop, high)
                lanes = outer.body.loop("vector", first, last)
                i = draft.bind(lanes.variable, low, high)
                reader = Reader(self, draft, lanes.body)
                self._store_all(reader, results, index_of(row, i))
                if self._is_cut(lanes.body.statements):
                    heavy = max(heavy, len(lanes.body.statements) // LIGHT)
                    registers = self.partition.tactics.straight
                    segments.in_tiles(draft, outer, lanes, registers, _are_whole(low, high))
                else:
                    lanes.close()
        inner = columns if tiles == 1 else chunk
        launch = draft.launch(tasks, inner, self.group.members, self.reason())
        launch.grain = dim_max(launch.grain // heavy, 1)
        return launch

    def _is_cut(self, body: Sequence[Statement]) -> bool:
        """Whether a body is long, and this target takes it in segments."""
        return self.partition.tactics.segments and segments.may_be_cut(body)

    def _tiled(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape, read: Across
    ) -> Launch:
        """Tiles of two axes, so that lines of memory that run along one of them are used whole
        while they are near.
        """
        draft = self.draft()
        last, extents = len(domain) - 1, tuple(domain[axis] for axis in read.axes)
        others, rows = tuple(a for a in range(last) if a not in read.axes), product(extents)
        widest = max(operand.storage.dtype.itemsize for _, operand in results)
        side = read.lanes(self.partition.tactics.turned_bytes // widest)
        height = self.partition.tactics.turned_rows
        across = ceildiv(domain[last], side)
        down = ceildiv(rows, height)
        tasks = product(domain[axis] for axis in others) * down * across
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(
                draft.simplify(p // (down * across)),
                tuple(domain[axis] for axis in others),
                draft.bounds,
            )
            tile = draft.simplify(p % (down * across))
            top = draft.simplify(tile % down) * height
            left = draft.simplify(tile // down) * side
            with outer.body.loop("serial", top, dim_min(rows, top + height)) as row:
                i = draft.bind(row.variable, 0, rows)
                right = dim_min(domain[last], left + side)
                with row.body.loop("vector", left, right) as lanes:
                    j = draft.bind(lanes.variable, 0, domain[last])
                    places = (*unravel(i, extents, draft.bounds), j)
                    index = placed((*read.axes, last), places, lead, len(domain))
                    self._store_all(Reader(self, draft, lanes.body), results, index)
        inner = dim_min(domain[last], side) * dim_min(rows, height)
        reason = f"{self.reason()}; read across rows: tiles of {side} lanes by {height}"
        return draft.launch(tasks, inner, self.group.members, reason)

    def _store_all(
        self, reader: Reader, results: Sequence[tuple[Node, Operand]], index: Index
    ) -> None:
        for member in self.group.members:  # in order, so that nothing nests deeply
            if not isinstance(member.op.lowering, Reduce):
                reader.value(member, index)
        for node, target in results:
            self.store(reader, node, target, index)


def _chunk(results: int) -> int:
    """Elements of a task that stores so many results: as many numbers as one that stores few."""
    few = CHUNK * FEW_RESULTS // max(results, FEW_RESULTS)
    return max(LEAST_CHUNK, few // LEAST_CHUNK * LEAST_CHUNK)


def _are_whole(low: Extent, high: Extent) -> bool:
    """Whether elements from one to another, cut into chunks, are whole vectors."""
    both = isinstance(low, int) and isinstance(high, int)
    return both and low % segments.MULTIPLE == high % segments.MULTIPLE == 0  # type: ignore[operator]


def copy_operand(source: Operand, target: Operand, shape: Shape) -> list[Launch]:
    """A kernel that copies a contiguous array of that shape: either may be a slice of its storage.
    """
    draft = Draft("copy")
    size = product(shape)
    tiles = 1 if isinstance(size, int) and size <= CHUNK else ceildiv(size, CHUNK)
    with draft.scope.loop("parallel", 0, tiles, "p") as outer:
        p = draft.bind(outer.variable, 0, tiles)
        start = p * CHUNK
        stop = size if tiles == 1 else dim_min(size, start + CHUNK)
        with outer.body.loop("vector", 0 if tiles == 1 else start, stop) as lanes:
            i = draft.bind(lanes.variable, 0, size)
            value = lanes.body.load(draft.buffer(source, (size,)), (i,))
            lanes.body.store(draft.buffer(target, (size,)), (i,), value)
    launch = draft.launch(tiles, dim_min(size, CHUNK), [], "a state of a scan")
    launch.copies = True
    return [launch]
