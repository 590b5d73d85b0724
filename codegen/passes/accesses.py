"""Which elements does a launch touch?  Its loads and stores, and what its variables range over.

From these `Bounds` proves what a part of a launch, of which some variables have a part of their
range, keeps to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphc.codegen.loops import Buffer, Contract, Region, linear, scopes
from graphc.codegen.program import Launch, Storage
from graphc.codegen.scalar import Address, For, Store, Value, walk
from graphc.dims import Extent, product


@dataclass(frozen=True)
class Access:
    """A load or a store of a launch: where, in elements from the start of the storage, and whether
    it writes; None if the place is data. `item` bytes are moved. The launch sees `size` elements of
    the storage, from `offset` on.
    """

    storage: Storage
    at: Extent | None
    writes: bool
    item: int
    offset: Extent
    size: Extent


def accesses_of(launch: Launch) -> Iterator[Access]:
    """The loads and stores of a launch in memory that others see."""
    places = dict(zip(launch.kernel.buffers, launch.operands, strict=True))

    def one(buffer: Buffer, index: tuple[Extent, ...], plain: bool, writes: bool) -> Access:
        operand = places[buffer]
        at = linear(buffer, index) + operand.offset if plain else None
        offset, size = operand.offset, product(buffer.shape)
        return Access(operand.storage, at, writes, buffer.item_bytes, offset, size)

    for scope in scopes(launch.kernel):
        for s in walk(scope):
            if isinstance(s, Store) and s.buffer.space == "global":
                yield one(s.buffer, s.index, not s.args, True)
            elif isinstance(s, Value) and isinstance(s.immediate, Address):
                address = s.immediate
                if address.buffer.space == "global":
                    yield one(address.buffer, address.index, not address.count, False)


def ranges_of(launch: Launch) -> dict[str, tuple[Extent, Extent]]:
    """The least and the greatest value of each variable of a kernel."""
    nest = launch.kernel.nest
    ranges: dict[str, tuple[Extent, Extent]] = {}
    if isinstance(nest, Contract):
        for region in (nest.left, nest.right, nest.epilogue):
            for name, extent in zip(region.variables, _extents(nest, region), strict=True):
                ranges[name] = (0, extent - 1)
    for scope in scopes(launch.kernel):
        for s in walk(scope):
            if isinstance(s, For):
                ranges[s.variable] = (s.start, s.stop - 1)
    return ranges


def _extents(contract: Contract, region: Region) -> tuple[Extent, Extent, Extent]:
    inner = (contract.rows, contract.columns)
    if region is contract.left:
        inner = (contract.rows, contract.depth)
    elif region is contract.right:
        inner = (contract.depth, contract.columns)
    return (contract.batch, *inner)
