"""How is a group without a reduction written?

Rows in parallel, lanes along the last axis; one flat run of elements, when every operand is read at
its own index; or tiles of two axes, when a large array is read across its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphc.codegen import segments
from graphc.codegen.emit.seams import parts_of_rows
from graphc.codegen.emit.writer import Framed, Writer, part_operand, placed
from graphc.codegen.fuse.reading import reads_at, variables
from graphc.codegen.loops import CHUNK, MOST_TURNED, TURNED_SIDE
from graphc.codegen.program import Launch, Operand
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Statement
from graphc.dims import Extent, affine, ceildiv, dim_max, dim_min, product, symbols_of
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import Shape

# Arrays of so many elements that are read across their rows are read in square tiles.
TURNED_ELEMENTS = 1 << 16
# Rows so many bytes apart have the same places in the second cache: as many as there are lines in
# those. Of rows an eighth as far apart, a tile's fit.
CROWDED = 1 << 17
# Where rows are as short as this, lanes pick their elements out of whole vectors.
MOST_STEPPED = 4
# Results whose numbers are a task's, and the least elements of one.
FEW_RESULTS, LEAST_CHUNK = 16, 256
# Statements of an element that threads share as they do those of any loop.
LIGHT = 16
# Members of a group that may be written several times.
FEW_MEMBERS = 8


@dataclass(frozen=True)
class Across:
    """Arrays that are read in the order of their memory along an axis that is not the last one.

    Along the last, elements lie `apart` bytes apart, at most. `beside`: others are read in the
    order that the result is written in.
    """

    axis: int
    apart: int
    beside: bool

    def lanes(self, most: int) -> int:
        """How wide tiles are, if `most` lanes write long enough pieces of lines. Rows a multiple of
        a large power of two apart have few places in caches: fewer of them are read together.
        """
        power = self.apart & -self.apart
        if most and power >= CROWDED:
            return TURNED_SIDE // 2
        if power >= CROWDED // 8 and not self.beside:
            return TURNED_SIDE
        return max(TURNED_SIDE, min(MOST_TURNED, most))


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
        """A kernel that writes the values of any nodes of one shape to memory."""
        return self._unless_empty(copies, copies[0][0].shape)

    def _unless_empty(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape
    ) -> list[Launch]:
        """An element-wise launch, or none where there are no elements: their indices mean nothing.
        """
        return [] if product(domain) == 0 else [self._elementwise(results, domain)]

    def _elementwise(self, results: Sequence[tuple[Node, Operand]], domain: Shape) -> Launch:
        draft = self.draft()
        nodes = [node for node, _ in results]
        if product(domain) == 1:  # lanes would be masked off, all but one
            with draft.scope.loop("parallel", 0, 1, "p") as once:
                self._store_all(Reader(self, draft, once.body), results, (0,) * len(domain))
                if self._is_cut(segments.of_one(draft, once)):
                    segments.in_order(draft, once, self.partition.tactics.straight)
            return draft.launch(1, 1, self.group.members, self.reason())
        framed = any(isinstance(operand, Framed) for _, operand in results)
        flat = not framed and self.is_flat(nodes, domain)
        across = None if flat else self._read_across(nodes, domain)
        if across is not None:
            return self._tiled(results, domain, across)
        # an axis of one element has no lanes to offer
        kept = [axis for axis, extent in enumerate(domain) if extent != 1] or [len(domain) - 1]
        shape: Shape = (product(domain),) if flat else tuple(domain[axis] for axis in kept)
        rows, columns = product(shape[:-1]), shape[-1]
        chunk, heavy = _chunk(len(results)), 1
        tiles = 1 if isinstance(columns, int) and columns <= chunk else ceildiv(columns, chunk)
        tasks = rows * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            row = draft.simplify(p // tiles)
            start = draft.simplify(p % tiles) * chunk
            lead = unravel(row, shape[:-1], draft.bounds)
            stop = columns if tiles == 1 else dim_min(columns, start + chunk)
            seamless = flat or kept[-1] != len(domain) - 1
            parts = [(0, columns)] if seamless else self._parts_of_rows(nodes, domain)
            for low, high in parts:
                first = start if low == 0 else dim_max(start, low)
                last = stop if high == columns else dim_min(stop, high)
                lanes = outer.body.loop("vector", first, last)
                i = draft.bind(lanes.variable, low, high)
                if not flat:
                    nothing = (0,) * (len(domain) - len(kept))
                    index = placed(kept, (*lead, i), nothing, len(domain))
                else:
                    index = unravel(i, domain, draft.bounds)
                    self.flat[index] = i
                self._store_all(Reader(self, draft, lanes.body), results, index)
                if self._is_cut(lanes.body.statements):
                    heavy = max(heavy, len(lanes.body.statements) // LIGHT)
                    straight = self.partition.tactics.straight
                    segments.in_tiles(draft, outer, lanes, straight, _are_whole(low, high))
                else:
                    lanes.close()
        inner = columns if tiles == 1 else chunk
        launch = draft.launch(tasks, inner, self.group.members, self.reason())
        launch.grain = dim_max(launch.grain // heavy, 1)
        return launch

    def _parts_of_rows(self, nodes: Sequence[Node], shape: Shape) -> list[tuple[Extent, Extent]]:
        """Parts of the rows, each of which is written by a loop of its own; one if what is
        computed is too much to be written several times.
        """
        if len(self.group.members) > FEW_MEMBERS:
            return [(0, shape[-1])]
        return parts_of_rows(nodes, shape, lambda node: self.readable(node) is not None)

    def _is_cut(self, body: Sequence[Statement]) -> bool:
        """Whether a body is long, and this target takes it in segments."""
        return self.partition.tactics.segments and segments.may_be_cut(body)

    def _read_across(self, nodes: Sequence[Node], domain: Shape) -> Across | None:
        """How large arrays are read that are not read in the order of their memory along the last
        axis, but along another one; None if there is no such array.
        """
        last = len(domain) - 1
        total = product(domain)
        if last < 1 or (isinstance(total, int) and total < TURNED_ELEMENTS):
            return None
        index = variables(len(domain))
        stack: list[tuple[Node, Index]] = [(node, index) for node in nodes]
        seen = set(stack)
        found: list[tuple[int, int]] = []
        beside = False
        while stack:
            node, at = stack.pop()
            if self.readable(node) is not None:
                axis = _axis_in_order(at, index, domain)
                if axis is not None:
                    found.append((axis, _apart(node, at, str(index[-1]))))
                beside = beside or axis is None and names_in(index) <= names_in(at)
                continue
            for pair in reads_at(node, at):
                if pair not in seen:
                    seen.add(pair)
                    stack.append(pair)
        return Across(found[0][0], max(step for _, step in found), beside) if found else None

    def _tiled(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape, read: Across
    ) -> Launch:
        """Tiles of two axes, so that lines of memory that run along one of them are used whole
        while they are near.
        """
        draft = self.draft()
        last, turned = len(domain) - 1, read.axis
        others = tuple(axis for axis in range(last) if axis != turned)
        widest = max(operand.storage.dtype.itemsize for _, operand in results)
        side = read.lanes(self.partition.tactics.turned_bytes // widest)
        height = self.partition.tactics.turned_rows
        across = ceildiv(domain[last], side)
        down = ceildiv(domain[turned], height)
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
            with outer.body.loop("serial", top, dim_min(domain[turned], top + height)) as row:
                i = draft.bind(row.variable, 0, domain[turned])
                right = dim_min(domain[last], left + side)
                with row.body.loop("vector", left, right) as lanes:
                    j = draft.bind(lanes.variable, 0, domain[last])
                    index = placed((turned, last), (i, j), lead, len(domain))
                    self._store_all(Reader(self, draft, lanes.body), results, index)
        inner = dim_min(domain[last], side) * dim_min(domain[turned], height)
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


def _axis_in_order(at: Index, index: Index, domain: Shape) -> int | None:
    """The axis of the domain along which an array that is read at `at` is read in order, where the
    last axis of the domain steps from row to row.
    """
    *rows, place = at or (0,)
    lane = str(index[-1])
    if lane in symbols_of(place) or lane not in names_in(rows):
        return None
    for axis, extent in enumerate(domain[:-1]):
        along = affine(place, str(index[axis]))
        if along is not None and along[0] == 1:
            return axis if not isinstance(extent, int) or extent > MOST_STEPPED else None
    return None


def _apart(node: Node, at: Index, lane: str) -> int:
    """By how many bytes lanes that read a node lie apart; 0 if that is not known."""
    position: Extent = 0
    for extent, place in zip(node.shape, at, strict=True):
        position = position * extent + place
    step = affine(position, lane)
    return abs(step[0]) * node.dtype.itemsize if step and isinstance(step[0], int) else 0


def _chunk(results: int) -> int:
    """Elements of a task that stores so many results: as many numbers as one that stores few."""
    few = CHUNK * FEW_RESULTS // max(results, FEW_RESULTS)
    return max(LEAST_CHUNK, few // LEAST_CHUNK * LEAST_CHUNK)


def _are_whole(low: Extent, high: Extent) -> bool:
    """Whether elements from one to another, cut into chunks, are whole vectors."""
    both = isinstance(low, int) and isinstance(high, int)
    return both and low % segments.MULTIPLE == high % segments.MULTIPLE == 0  # type: ignore[operator]


def names_in(index: Sequence[Extent]) -> set[str]:
    return {name for extent in index for name in symbols_of(extent)}


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
