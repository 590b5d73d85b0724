"""How many bytes does a launch move?  In each launch each array that is read counts once, and each
that is written once.

This is what global memory must deliver if caches do their work within a launch and none survives
it. An array counts with the elements that the kernel sees of it, or with as many as it can touch if
those are fewer (rows that data choose from a long table). Scratch in global memory counts for every
task, once written and once read; scratch that a back end keeps in registers or shared memory does
not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.codegen.loops import Buffer, Contract, Kernel, scopes
from graphc.codegen.program import Operand
from graphc.codegen.scalar import For, Scope, Store, Value
from graphc.dims import Extent, dim_min, product, symbols_of


@dataclass(frozen=True)
class Moved:
    """Bytes read from an array, or written to it; equal keys are one array."""

    key: Any
    writes: bool
    bytes: Extent

    def repeated(self, lengths: Mapping[str, Extent]) -> Moved:
        """The same in a launch that is a loop of so many rounds: rows that move along count each
        round, what all rounds touch once.
        """
        names = symbols_of(self.key[1]) if isinstance(self.key, tuple) else frozenset()
        times = product(length for name, length in lengths.items() if name in names)
        return Moved(self.key, self.writes, self.bytes * times)


def moved(
    kernel: Kernel,
    operands: Mapping[Buffer, Operand],
    tasks: Extent,
    kept: Iterable[Buffer] = (),
) -> list[Moved]:
    """What one launch of `kernel` moves; the buffers `kept` are on the chip."""
    on_chip = set(kept)
    most: dict[tuple[Buffer, bool], int | None] = {}
    for buffer, writes, times in _accesses(kernel):
        access = (buffer, writes)
        most[access] = _sum(most[access], times) if access in most else times
    found = []
    for (buffer, writes), count in most.items():
        if buffer in on_chip:
            continue
        operand = operands[buffer]
        elements = product(buffer.shape)
        if buffer.space == "worker":
            elements = elements * tasks
        elif count is not None:
            elements = dim_min(elements, count)
        key = id(buffer) if buffer.space == "worker" else (id(operand.storage), operand.offset)
        found.append(Moved(key, writes, elements * operand.storage.dtype.itemsize))
    return found


def total(parts: Iterable[Moved]) -> Extent:
    """The bytes of one launch; what several parts of it read is read once."""
    largest: dict[tuple[Any, bool], Extent] = {}
    for part in parts:
        key = (part.key, part.writes)
        known = largest.get(key, 0)
        if not (isinstance(known, int) and isinstance(part.bytes, int)):
            largest[key] = part.bytes
        else:
            largest[key] = max(known, part.bytes)
    result: Extent = 0
    for size in largest.values():
        result = result + size
    return result


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _accesses(kernel: Kernel) -> Iterator[tuple[Buffer, bool, int | None]]:
    """The buffers of loads and stores, with how often each runs if that is known."""
    outer, *regions = scopes(kernel)
    yield from _of_scope(outer, 1)
    nest = kernel.nest
    if isinstance(nest, Contract):
        sizes = (
            (nest.batch, nest.rows, nest.depth),
            (nest.batch, nest.depth, nest.columns),
            (nest.batch, nest.rows, nest.columns),
        )
        for region, extents in zip(regions, sizes, strict=True):
            count = product(extents)
            yield from _of_scope(region, count if isinstance(count, int) else None)


def _of_scope(scope: Scope, times: int | None) -> Iterator[tuple[Buffer, bool, int | None]]:
    for s in scope.statements:
        if isinstance(s, For):
            length = s.stop - s.start
            count = times * length if isinstance(length, int) and times is not None else None
            yield from _of_scope(s.body, count)
        elif isinstance(s, Store):
            yield s.buffer, True, times
        elif isinstance(s, Value) and s.opcode == "load":
            yield s.immediate.buffer, False, times


__all__ = ["Moved", "moved", "total"]
