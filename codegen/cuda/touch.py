"""Which memory does a launch touch?  What a host must know to let launches run side by side.

A launch that neither writes what another one reads or writes, nor the other way round, need not
wait for it. Memory is what counts, not the graph: temporaries take turns in places of the arena.
Constants, and inputs with strides of their own, are written by nobody and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from graphc.codegen.loops import Buffer
from graphc.codegen.memory import storage_bytes
from graphc.codegen.program import (
    Chain,
    Launch,
    Loop,
    Operand,
    Statement,
    Together,
    While,
    bodies,
    operands_of,
)
from graphc.dims import Extent, product, symbols_of

Touch = tuple[Operand, Extent, bool]


def touches(
    statement: Statement, workers: int, on_chip: Set[Buffer] = frozenset()
) -> Iterator[Touch]:
    """Where the touched memory begins, its bytes, and whether it is written; of a loop that is one
    launch, what all its rounds touch. `workers` is what the memory was planned for; scratch that is
    `on_chip` is none.
    """
    yield from _of(statement, workers, on_chip, frozenset())


def _of(
    statement: Statement, workers: int, on_chip: Set[Buffer], within: frozenset[str]
) -> Iterator[Touch]:
    if isinstance(statement, Loop):
        within |= {statement.variable}
    for body in bodies(statement):
        for inner in body:
            yield from _of(inner, workers, on_chip, within)
    if isinstance(statement, (Chain, Together)):
        for launch in statement.launches:
            yield from _of(launch, workers, on_chip, within)
    elif isinstance(statement, Launch):
        yield from _of_launch(statement, workers, on_chip, within)
    elif isinstance(statement, While):
        yield from (_whole(operand, workers, True) for operand in operands_of(statement))


def _of_launch(
    launch: Launch, workers: int, on_chip: Set[Buffer], within: frozenset[str]
) -> Iterator[Touch]:
    written = set(launch.kernel.written())
    for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True):
        storage = operand.storage
        if storage.kind in ("constant", "held") or storage.strided or buffer in on_chip:
            continue
        size = product(buffer.shape) * storage.dtype.itemsize
        moves = symbols_of(operand.offset) & within
        if storage.kind == "worker" or moves:
            yield _whole(operand, workers, buffer in written)
        else:
            yield operand, size, buffer in written


def _whole(operand: Operand, workers: int, writes: bool) -> Touch:
    storage = operand.storage
    return Operand(storage), storage_bytes(storage, workers), writes


__all__ = ["Touch", "touches"]
