"""In which order do the axes of a temporary lie?  As the products that read it want them.

A product writes its batch outermost: the heads of attention, each with its rows. The product after
it reads the rows of all heads as one row, which in that order has no constant step, so that it goes
by tables. Products that are made block by block (`program.Blocks`) write rows with any step just as
fast. So what they make for others has its axes put in the order in which the most operands are read
in place: in every kernel that touches it, the buffer and all indices are permuted.

The last axis keeps its place, for lanes go along it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from graphc.codegen.loops import Buffer, Contract, Kernel, Region, constant_steps, linear
from graphc.codegen.passes.copies import can_be_copied, relaid
from graphc.codegen.program import (
    Blocks,
    Launch,
    Procedure,
    Program,
    Statement,
    Storage,
    bodies,
    operands_of,
)
from graphc.codegen.scalar import Store
from graphc.dims import Extent

# Axes of which all orders are tried, but for the last: 24 orders.
MOST_AXES = 5


def lay_out_for_readers(program: Program) -> None:
    """Order the axes of what blocks make for products that come after them."""
    for procedure in (*program.procedures, program.main):
        made = [s for s in procedure.body if isinstance(s, Blocks)]
        if made:
            _Layouts(procedure).run(made)


@dataclass(eq=False)
class _Uses:
    """The launches that touch a storage, and how they call it; whether anything else does."""

    launches: list[tuple[Launch, Buffer]] = field(default_factory=list)
    others: bool = False


class _Layouts:
    """The temporaries of one procedure."""

    def __init__(self, procedure: Procedure) -> None:
        self.uses: dict[int, _Uses] = {}
        self.copies: dict[tuple[Kernel, Buffer, tuple[int, ...]], Kernel] = {}
        for statement in procedure.body:
            self._note(statement)

    def _note(self, statement: Statement) -> None:
        launches = statement.launches if isinstance(statement, Blocks) else [statement]
        for inner in bodies(statement):
            for each in inner:
                self._note_others(each)
        for launch in launches:
            if not isinstance(launch, Launch):
                self._note_others(launch)
                continue
            for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True):
                uses = self._of(operand.storage)
                uses.launches.append((launch, buffer))
                same = tuple(buffer.shape) == tuple(operand.storage.shape)
                whole = same and operand.offset == 0 and buffer.layout == "contiguous"
                uses.others = uses.others or not whole or not can_be_copied(launch.kernel)

    def _note_others(self, statement: Statement) -> None:
        for operand in operands_of(statement):
            self._of(operand.storage).others = True
        for inner in bodies(statement):
            for each in inner:
                self._note_others(each)

    def _of(self, storage: Storage) -> _Uses:
        return self.uses.setdefault(id(storage), _Uses())

    def run(self, made: Sequence[Blocks]) -> None:
        for blocks in made:
            for storage in dict.fromkeys(_products_of(blocks)):
                uses = self._of(storage)
                rank = len(storage.shape)
                if uses.others or storage.kind != "temporary" or not 2 < rank <= MOST_AXES:
                    continue
                order = self._best(uses, rank)
                if order != tuple(range(rank)):
                    self._put(storage, uses, order)

    def _best(self, uses: _Uses, rank: int) -> tuple[int, ...]:
        """The order in which the most operands of products are read in place: the first such, so
        that axes keep their places where nothing is gained.
        """
        orders = [(*some, rank - 1) for some in itertools.permutations(range(rank - 1))]
        return max(orders, key=lambda order: _in_place(uses, order))

    def _put(self, storage: Storage, uses: _Uses, order: tuple[int, ...]) -> None:
        storage.shape = tuple(storage.shape[axis] for axis in order)
        for launch, buffer in uses.launches:
            key = launch.kernel, buffer, order
            if key not in self.copies:
                self.copies[key] = relaid(*key)
            launch.kernel = self.copies[key]


def _products_of(blocks: Blocks) -> Iterator[Storage]:
    """What contractions among the launches of blocks store."""
    for launch in blocks.launches:
        if isinstance(launch.kernel.nest, Contract):
            written = set(launch.kernel.written())
            pairs = zip(launch.kernel.buffers, launch.operands, strict=True)
            yield from (o.storage for buffer, o in pairs if buffer in written)


def _in_place(uses: _Uses, order: Sequence[int]) -> int:
    """How many operands and results of products have constant steps, with the axes in an order."""
    count = 0
    for launch, buffer in uses.launches:
        nest = launch.kernel.nest
        if not isinstance(nest, Contract):
            continue
        turned = replace(buffer, shape=tuple(buffer.shape[axis] for axis in order))
        for region, index in _places(nest, buffer):
            at = linear(turned, tuple(index[axis] for axis in order))
            count += constant_steps(at, region.variables) is not None
    return count


def _places(contract: Contract, buffer: Buffer) -> Iterator[tuple[Region, tuple[Extent, ...]]]:
    """Where a contraction reads an operand, or writes a result, that a buffer is."""
    for region in (contract.left, contract.right):
        value = region.value
        loads = value is not None and value.opcode == "load" and not value.args
        if loads and value.immediate.buffer is buffer:  # type: ignore[union-attr]
            yield region, value.immediate.index  # type: ignore[union-attr]
    for s in contract.epilogue.body.statements:
        if isinstance(s, Store) and s.buffer is buffer and not s.args:
            yield contract.epilogue, s.index


__all__ = ["lay_out_for_readers"]
