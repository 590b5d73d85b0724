"""Which is the first colour that nothing in the way of a thing has?  First fit, thing by thing.

The colours that a row has met are bits of its words, so a column asks its rows once, takes the
lowest bit that none of them has, and leaves it with them: as many steps as the matrix has entries
(compare Gebremedhin, Manne and Pothen 2005, section 3). The order of columns is part of what is
computed, so a kernel of one task does it, and nothing here has a derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.dims import Extent, dim_max
from graphc.errors import GraphError
from graphc.lowering import Nest
from graphc.node import Node
from graphc.op import Op, no_derivative, register
from graphc.types import TensorType, TupleType, Type

BITS = 64


def _one_by_one(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """One matrix after the other: their entries are not of one number."""
    return transform.looped(node, args, mapped, size)


def _infer_fit(begins: Type, rows: Type, taken: Type) -> Type:
    right = all(isinstance(t, TensorType) and t.dtype == "int64" for t in (begins, rows))
    if not right or not isinstance(taken, TensorType) or taken.dtype != "uint64":
        raise GraphError(f"first_fit of {begins}, {rows} and {taken}")
    assert isinstance(begins, TensorType) and isinstance(rows, TensorType)
    if (begins.ndim, rows.ndim, taken.ndim) != (1, 1, 2) or begins.shape[0] == 0:
        raise GraphError(f"first_fit of {begins}, {rows} and {taken}")
    return TupleType((TensorType("int64", (begins.shape[0] - 1,)), taken))


def _numpy_fit(begins: Any, rows: Any, taken: Any) -> tuple[Any, Any]:
    words = taken.shape[1]
    held = [sum(int(word) << (BITS * i) for i, word in enumerate(line)) for line in taken]
    colors = np.full(len(begins) - 1, -1, np.int64)
    for column in range(len(colors)):
        own = rows[begins[column] : begins[column + 1]].tolist()
        every = 0
        for row in own:
            every |= held[row]
        bit = ~every & (every + 1)
        if bit.bit_length() <= BITS * words:
            colors[column] = bit.bit_length() - 1
            for row in own:
                held[row] |= bit
    mask = 2**BITS - 1
    left = [[line >> (BITS * i) & mask for i in range(words)] for line in held]
    return colors, np.array(left, np.uint64).reshape(taken.shape)


def _write_fit(nest: Any) -> None:
    colors, met = nest.results
    columns, entries = nest.result_shapes[0][0], nest.shapes[1][0]
    height, words = nest.shapes[2]
    colors = colors or nest.scratch("int64", (columns,))
    met = met or nest.scratch("uint64", (height, words))
    held = nest.scratch("uint64", (1,))
    with nest.parallel(1, entries) as task:
        with task.loop("serial", 0, height) as row, row.loop("serial", 0, words) as word:
            at = (row.index, word.index)
            word.store(met, at, word.read(2, at))
        with task.loop("serial", 0, columns) as column:
            begin = column.read(0, (column.index,))
            end = column.read(0, (column.index + 1,))
            column.store(colors, (column.index,), column.k.const(-1, "int64"))
            with column.loop("serial", 0, words) as word:
                _take(word, colors, met, held, column.index, (begin, end), entries)


def _take(
    word: Any, colors: Any, met: Any, held: Any, column: Any, ends: tuple[Any, Any], entries: Any
) -> None:
    """Take the first bit of this word that no row has, if there is one; then that was the last
    word.
    """
    k = word.k
    begin, end = ends

    def rows(step: Any) -> tuple[Any, Any]:
        """Where the next row's word is, and whether there is one."""
        at = step.k.add(begin, step.position(step.index))
        inside = step.k.lt(at, end)
        return (step.read(1, (at,), inside), word.index), inside

    word.store(held, (0,), k.const(0, "uint64"))
    with word.loop("serial", 0, dim_max(entries, 1)) as step:
        where, inside = rows(step)
        own = step.load(met, where, inside)
        step.store(held, (0,), step.k.or_(step.load(held, (0,)), own))
        step.until(_last(step, begin, end))
    every = word.load(held, (0,))
    bit = k.and_(k.not_(every), k.add(every, 1))
    found = k.ne(bit, 0)
    number = k.convert(_bits_below(k, bit), "int64")
    color = k.add(number, k.mul(word.position(word.index), BITS))
    word.store(colors, (column,), color, found)
    with word.loop("serial", 0, dim_max(entries, 1)) as step:
        where, inside = rows(step)
        inside = step.k.and_(inside, found)
        step.store(met, where, step.k.or_(step.load(met, where, inside), bit), inside)
        step.until(_last(step, begin, end))
    word.until(found)


def _last(step: Any, begin: Any, end: Any) -> Any:
    k = step.k
    return k.ge(k.add(k.add(begin, step.position(step.index)), 1), end)


def _bits_below(k: Any, bit: Any) -> Any:
    """The number of a bit that stands alone; by halves, as there is no instruction for it."""
    number = k.const(0, "uint64")
    for half in (32, 16, 8, 4, 2, 1):
        low = sum(((1 << half) - 1) << start for start in range(0, BITS, 2 * half))
        above = k.eq(k.and_(bit, low), 0)
        number = k.add(number, k.select(above, k.const(half, "uint64"), k.const(0, "uint64")))
    return number


first_fit_op: Op = register(
    Op(
        "first_fit",
        _infer_fit,
        _numpy_fit,
        Nest(_write_fit),
        no_derivative("a colour does not vary smoothly"),
        batch=_one_by_one,
        result_names=("colors", "taken"),
        doc="For each column in order the least number that no row of its own has taken, and that "
        "they take by it; -1 where all are taken. Column j has the rows[begins[j]:begins[j + 1]]; "
        "the last argument is what each row has taken already, 64 numbers a word.",
    )
)


# -- star colourings -------------------------------------------------------------------------------
#
# Gebremedhin, Tarafdar, Manne and Pothen 2007, algorithm 4.1. Its question whether an edge is part
# of a star with a centre is answered by sets of colours, in bits again: `once` those that a vertex
# has among its neighbours, `often` those that several of them have, `centres` those of neighbours
# that have another neighbour of its own colour, so that a further one would close a path.


def _infer_star(begins: Type, neighbours: Type, order: Type, words: int) -> Type:
    types = (begins, neighbours, order)
    right = all(isinstance(t, TensorType) and t.dtype == "int64" and t.ndim == 1 for t in types)
    if not right or begins.shape[0] != order.shape[0] + 1:  # type: ignore[union-attr]
        raise GraphError(f"star_fit of {begins}, {neighbours} and {order}")
    return order


def _numpy_star(begins: Any, neighbours: Any, order: Any, words: int) -> Any:
    size = len(order)
    flat, ends = neighbours.tolist(), begins.tolist()
    colors = [-1] * size
    once, often, centres = [0] * size, [0] * size, [0] * size
    for v in order.tolist():
        around = [w for w in flat[ends[v] : ends[v + 1]] if w != v]
        every = 0
        for w in around:
            every |= once[w] if colors[w] < 0 else (1 << colors[w]) | centres[w]
        bit = ~every & (every + 1)
        color = bit.bit_length() - 1
        if color >= BITS * words:
            continue
        colors[v] = color
        for w in around:
            own = colors[w]
            if own >= 0 and often[v] >> own & 1:
                centres[w] |= bit
            if own >= 0 and often[w] & bit:
                centres[v] |= 1 << own
            elif own >= 0 and once[w] & bit:
                for x in flat[ends[w] : ends[w + 1]]:
                    if x != w and colors[x] == color:
                        centres[x] |= 1 << own
            often[w] |= once[w] & bit
            once[w] |= bit
    return np.array(colors, np.int64)


def _write_star(nest: Any, words: int) -> None:
    (colors,), size, entries = nest.results, nest.result_shapes[0][0], nest.shapes[1][0]
    sets = [nest.scratch("uint64", (size, words)) for _ in range(3)]
    held = nest.scratch("uint64", (1,))
    with nest.parallel(1, entries) as task:
        with task.loop("serial", 0, size) as row:
            row.store(colors, (row.index,), row.k.const(-1, "int64"))
            with row.loop("serial", 0, words) as word:
                for each in sets:
                    word.store(each, (row.index, word.index), word.k.const(0, "uint64"))
        with task.loop("serial", 0, size) as turn:
            _Star(turn, colors, sets, held, words, dim_max(entries, 1)).place()


class _Star:
    """One vertex of a star colouring: its colour, and what its neighbours learn from it."""

    def __init__(
        self, turn: Any, colors: Any, sets: list[Any], held: Any, words: int, entries: Any
    ) -> None:
        self.turn, self.colors, self.held = turn, colors, held
        self.once, self.often, self.centres = sets
        self.words, self.entries = words, entries
        self.vertex = turn.read(2, (turn.index,))

    def place(self) -> None:
        with self.turn.loop("serial", 0, self.words) as word:
            self._first_free(word)
        color = self.turn.load(self.colors, (self.vertex,))
        placed = self.turn.k.ge(color, 0)
        with self.turn.loop("serial", 0, self.entries) as step:
            w, inside, last = self._neighbour(step, self.turn, self.vertex, self.vertex)
            self._tell(step, w, step.k.and_(inside, placed), color)
            step.until(last)

    def _neighbour(self, step: Any, outer: Any, vertex: Any, other: Any) -> tuple[Any, Any, Any]:
        """(the next neighbour of a vertex, whether there is one that is not `other`, whether it is
        the last).
        """
        k = step.k
        begin, end = outer.read(0, (vertex,)), outer.read(0, (outer.k.add(vertex, 1),))
        at = k.add(begin, step.position(step.index))
        there = k.lt(at, end)
        found = step.read(1, (at,), there)
        return found, k.and_(there, k.ne(found, other)), k.ge(k.add(at, 1), end)

    def _first_free(self, word: Any) -> None:
        word.store(self.held, (0,), word.k.const(0, "uint64"))
        with word.loop("serial", 0, self.entries) as step:
            k = step.k
            w, inside, last = self._neighbour(step, self.turn, self.vertex, self.vertex)
            own = step.load(self.colors, (w,), inside)
            known = k.ge(own, 0)
            place = (w, word.index)
            seen = step.load(self.once, place, k.and_(inside, k.not_(known)))
            centre = step.load(self.centres, place, k.and_(inside, known))
            mine = k.eq(k.shr(own, 6), step.position(word.index))
            bit = k.select(mine, self._bit(k, own), k.const(0, "uint64"))
            bit = k.select(k.and_(inside, known), k.or_(bit, centre), seen)
            step.store(self.held, (0,), k.or_(step.load(self.held, (0,)), bit))
            step.until(last)
        k = word.k
        every = word.load(self.held, (0,))
        bit = k.and_(k.not_(every), k.add(every, 1))
        found = k.ne(bit, 0)
        number = k.convert(_bits_below(k, bit), "int64")
        color = k.add(number, k.mul(word.position(word.index), BITS))
        word.store(self.colors, (self.vertex,), color, found)
        word.until(found)

    def _tell(self, step: Any, w: Any, inside: Any, color: Any) -> None:
        k = step.k
        own = step.load(self.colors, (w,), inside)
        known = k.and_(inside, k.ge(own, 0))
        bit, mark = self._bit(k, color), self._bit(k, own)
        here, there = (w, k.shr(color, 6)), (self.vertex, k.shr(own, 6))
        none = k.const(0, "uint64")
        centre = k.ne(k.and_(step.load(self.often, there, known), mark), none)
        self._add(step, self.centres, here, bit, k.and_(known, centre))
        again = k.ne(k.and_(step.load(self.often, here, inside), bit), none)
        seen = k.ne(k.and_(step.load(self.once, here, inside), bit), none)
        self._add(step, self.centres, there, mark, k.and_(known, again))
        second = k.and_(known, k.and_(seen, k.not_(again)))
        with step.loop("serial", 0, self.entries) as leaf:
            x, beside, last = self._neighbour(leaf, step, w, w)
            beside = leaf.k.and_(beside, second)
            alike = leaf.k.eq(leaf.load(self.colors, (x,), beside), color)
            place = (x, leaf.k.shr(own, 6))
            self._add(leaf, self.centres, place, mark, leaf.k.and_(beside, alike))
            leaf.until(leaf.k.or_(last, leaf.k.not_(second)))
        self._add(step, self.often, here, bit, k.and_(inside, seen))
        self._add(step, self.once, here, bit, inside)

    def _add(self, step: Any, sets: Any, place: Any, bit: Any, mask: Any) -> None:
        step.store(sets, place, step.k.or_(step.load(sets, place, mask), bit), mask)

    def _bit(self, k: Any, number: Any) -> Any:
        low = k.and_(number, BITS - 1)
        return k.shl(k.const(1, "uint64"), k.convert(low, "uint64"))


star_fit_op: Op = register(
    Op(
        "star_fit",
        _infer_star,
        _numpy_star,
        Nest(_write_star),
        no_derivative("a colour does not vary smoothly"),
        attributes=("words",),
        batch=_one_by_one,
        doc="A star colouring of a graph, vertex by vertex in an order: neighbours differ, and no "
        "path of four has two colours only; -1 where there are more than 64 colours a word. Vertex "
        "v has the neighbours[begins[v]:begins[v + 1]]; that it is its own does not count.",
    )
)


__all__ = ["BITS", "first_fit_op", "star_fit_op"]
