"""How does an op write a kernel of its own?  With a builder of loops that knows no backend.

The op's `Nest` form is called with a `NestBuilder`. It opens the one parallel loop, and inside it
loops with roles; in a loop it reads arguments of the node at any index (what is fused in front is
computed there), loads and stores results and scratch, and computes with the scalar instructions of
`loop.k`. An index is made of extents, loop variables and values: a value is a position that only
data knows. What an op writes this way runs wherever the language runs.

The language's rule about lanes holds: in a vector loop a lane may load what it stored itself, or
what was stored outside of vector loops, and nothing that another lane stored unless a barrier of
the task stands between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from graphc.codegen.loops import Buffer
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import UNFIT_MATRIX, Draft, Index, Reader, Source, symbol, unravel
from graphc.codegen.scalar import Accumulator, LoopBuilder, Scope, Value
from graphc.dims import Extent, ceildiv, dim_min, product
from graphc.node import Node
from graphc.ops.special import project_op
from graphc.types import Shape, TensorType, TupleType

# Lanes of a tile of independent lines.
TILE = 256

Position = Extent | Value


@dataclass(frozen=True, eq=False)
class Array:
    """Memory that the loops may load from and store to: a result or scratch."""

    buffer: Buffer
    shape: Shape


def results_of(node: Node) -> list[Node]:
    """The results of a node, in order: itself, if it has one."""
    if not isinstance(node.type, TupleType):
        return [node]
    return [project_op(node, index=i) for i in range(len(node.type.items))]


class NestBuilder:
    """The kernel of one node under construction.

    `shapes` are those of the node's arguments, `dtypes` their dtypes by name. `results` are the
    arrays to store to, None for a result that nobody reads.
    """

    def __init__(
        self,
        source: Source,
        draft: Draft,
        node: Node,
        places: Mapping[Node, Operand],
        share: Extent = 1,
    ) -> None:
        """`share` is 1, or 0 for sizes at which another kernel does the work."""
        self._share = share
        self._source = source
        self._draft = draft
        self._node = node
        self._tasks: Extent = 0
        self._inner: Extent = 1
        self.shapes = [argument.shape for argument in node.args]
        self.dtypes = [argument.dtype.name for argument in node.args]
        parts = results_of(node)
        self.results: list[Array | None] = []
        for part in parts:
            place = places.get(part)
            self.results.append(None if place is None else self._array(place, part.shape))
        types = [part.type for part in parts]
        self.result_shapes = [t.shape for t in types if isinstance(t, TensorType)]

    def _array(self, operand: Operand, shape: Shape) -> Array:
        buffer = self._draft.buffer(operand, shape)
        self._draft.scope.written.add(buffer)  # its loads are never shared nor hoisted
        return Array(buffer, shape)

    def scratch(self, dtype: str, shape: Shape) -> Array:
        """Memory of this shape for each worker, with no value at the start of a task."""
        return self._array(Operand(Storage("worker", np.dtype(dtype), shape)), shape)

    @contextmanager
    def parallel(self, tasks: Extent, inner: Extent) -> Iterator[Loop]:
        """The one parallel loop; `inner` estimates the elements that a task handles."""
        self._tasks, self._inner = tasks * self._share, inner
        with self._draft.scope.loop("parallel", 0, self._tasks, "p") as opened:
            index = self._draft.bind(opened.variable, 0, tasks)
            yield Loop(self, opened, index, Reader(self._source, self._draft, opened.body))

    @contextmanager
    def lines(
        self, shape: Shape, inner: Extent, lanes: bool, tile: int = TILE
    ) -> Iterator[tuple[Loop, Index]]:
        """A task, or a lane of one, for each index of `shape`: the innermost loop and that index.

        With `lanes` those along the last axis are lanes of a vector loop, `tile` of them a task.
        """
        columns: Extent = shape[-1] if lanes else 1
        tiles = 1 if isinstance(columns, int) and columns <= tile else ceildiv(columns, tile)
        lead = shape[:-1] if lanes else shape
        tasks = product(lead) * tiles
        with self.parallel(tasks, inner * dim_min(columns, tile)) as task:
            at = unravel(self._simplified(task.index // tiles), lead, self._draft.bounds)
            if not lanes:
                yield task, at
                return
            start = self._simplified(task.index % tiles) * tile
            stop = columns if tiles == 1 else dim_min(columns, start + tile)
            with task.loop("vector", start, stop, within=(0, columns)) as lane:
                lane.offset = lane.index - start
                yield lane, (*at, lane.index)

    def unraveled(self, number: Extent, shape: Shape) -> Index:
        """The index, in C order, of element `number` of an array of this shape."""
        return unravel(number, shape, self._draft.bounds)

    def _simplified(self, extent: Extent) -> Extent:
        return self._draft.simplify(extent)

    def launch(self, nodes: Sequence[Node], reason: str) -> Launch:
        """The launch of the finished kernel."""
        return self._draft.launch(self._tasks, self._inner, list(nodes), reason)


class Loop:
    """The body of a loop: where statements go.

    `k` has the scalar instructions, `index` is the loop's variable as an extent; `offset` numbers
    the lanes of a tile (see `NestBuilder.lines`).
    """

    def __init__(
        self, nest: NestBuilder, opened: LoopBuilder, index: Extent, reader: Reader
    ) -> None:
        self._nest = nest
        self._draft = nest._draft
        self._opened = opened
        self._reader = reader
        self.k: Scope = opened.body
        self.index = index
        self.offset: Extent = 0

    @contextmanager
    def loop(
        self, role: str, start: Extent, stop: Extent, within: tuple[Extent, Extent] | None = None
    ) -> Iterator[Loop]:
        """A loop inside this one: `role` is "serial" or "vector". `within` says more simply than
        `start` and `stop` between which bounds its variable stays.
        """
        with self.k.loop(role, start, stop) as opened:
            index = self._draft.bind(opened.variable, *(within or (start, stop)))
            reader = Reader(self._reader.source, self._draft, opened.body, self._reader)
            yield Loop(self._nest, opened, index, reader)

    def read(self, argument: int, index: Sequence[Position], mask: Value | None = None) -> Value:
        """The element of an argument at an index; memory is touched only where `mask` holds."""
        node = self._nest._node.args[argument]
        return self._reader.value(node, self._named(index), mask)

    def load(self, array: Array, index: Sequence[Position], mask: Value | None = None) -> Value:
        """What was stored in an array; 0 where `mask` does not hold."""
        located, args = self._draft.located(self._named(index))
        return self.k.load(array.buffer, located, args, mask)

    def store(
        self, array: Array, index: Sequence[Position], value: Value, mask: Value | None = None
    ) -> None:
        located, args = self._draft.located(self._named(index))
        self.k.store(array.buffer, located, value, args, mask)

    def position(self, extent: Extent) -> Value:
        """An extent as an int64 value."""
        return self._draft.index(self.k, extent)

    def barrier(self) -> None:
        """Let every lane of the task load and replace what any of them has stored before."""
        self.k.barrier()

    def until(self, condition: Value) -> None:
        """Last in the body of a loop in order, which ends where further iterations would change
        nothing. Lanes of an enclosing vector loop go on until the condition holds in all of them.
        """
        self.k.until(condition)

    def demand(self, holds: Value, index: Extent = 0) -> None:
        """Fail the call, as the form's `refusal` says, unless a condition holds."""
        number = self._reader.source.number(self._nest._node)
        self.k.check(holds, UNFIT_MATRIX, number, self.position(index))

    def library(
        self,
        routine: str,
        dtype: str,
        arrays: Sequence[Array],
        sizes: Sequence[Extent],
        condition: Value,
    ) -> Value:
        """The outcome of a routine of a library (`graphc.codegen.lapack`) that works on scratch
        where a condition holds. Only a form's `by_library` may ask for one.
        """
        return self.k.library(routine, dtype, [a.buffer for a in arrays], sizes, condition)

    def accumulate(self, combiner: str, value: Value) -> Accumulator:
        """Combine over the iterations of this loop; `total` has the result once it is closed."""
        return self._opened.accumulate(combiner, value)

    def total(self, accumulator: Accumulator) -> Value:
        """The result of an accumulation, after the loop's `with` block."""
        return self._opened.result(accumulator)

    def _named(self, index: Sequence[Position]) -> Index:
        """The index with a name for every value in it."""
        return tuple(self._name(p) if isinstance(p, Value) else p for p in index)

    def _name(self, value: Value) -> Extent:
        atoms = self._draft.atoms
        found = next((name for name, held in atoms.items() if held is value), None)
        name = found or f"_at{len(atoms)}"
        atoms[name] = value
        return symbol(name)
