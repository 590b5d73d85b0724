"""Which stores go past the caches, and when?  Those of large arrays, where lines are filled whole.

A store reads the line that it writes to, and an array that the last cache cannot hold comes back
out of it a line at a time: half as much traffic again as the elements themselves. A non-temporal
store does neither. It pays where memory is what a loop waits for and where whole lines are written
one after the other, so the loop is written twice, and at its start the size of the array and the
alignment of the first element decide between the two.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.lanes import UNROLL_BELOW
from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.loops import Buffer, linear
from graphc.codegen.scalar import Check, For, Store, Value
from graphc.dims import Extent, affine, product, substitute

LINE_BYTES = 64
# The least bytes of a store that may go past the caches.
LEAST_BYTES = 16


def streaming_stores(loop: For, lanes: int, least_bytes: int) -> list[Store]:
    """The stores of a vector loop that may go past the caches: all of them, or none.

    `least_bytes` is the size of an array that is worth it. The loop does little else than load and
    store, and each store writes neighbouring elements, all of them, to an array that it only
    writes.
    """
    statements = loop.body.statements
    if loop.accumulators or len(statements) > UNROLL_BELOW:
        return []
    if not all(isinstance(s, (Value, Store, Check)) for s in statements):
        return []
    values = [s for s in statements if isinstance(s, Value)]
    if any(value.opcode == "call" for value in values):
        return []
    read = {value.immediate.buffer for value in values if value.opcode == "load"}
    stores = [s for s in statements if isinstance(s, Store)]
    fit = all(_fits(s, loop, lanes, least_bytes) and s.buffer not in read for s in stores)
    return stores if fit else []


def _fits(store: Store, loop: For, lanes: int, least_bytes: int) -> bool:
    buffer = store.buffer
    if store.mask is not None or store.args or (buffer.layout, buffer.space) != _WHOLE:
        return False
    size = _size(buffer)
    if isinstance(size, int) and size < least_bytes:
        return False
    split = affine(linear(buffer, store.index), loop.variable)
    together = lanes * buffer.item_bytes
    return split is not None and split[0] == 1 and together >= LEAST_BYTES


_WHOLE = ("contiguous", "global")


def _size(buffer: Buffer) -> Extent:
    return product(buffer.shape) * buffer.item_bytes


def alignment(store: Store, lanes: int) -> int:
    """How the address of each store is aligned, if that of the first is at the start of a line."""
    return min(LINE_BYTES, lanes * store.buffer.item_bytes)


def is_large(indices: Indices, level: Level, buffer: Buffer, least_bytes: int) -> str:
    """Whether an array is worth it, as an i1 that is known from the start of the function."""
    size = _size(buffer)
    if isinstance(size, int):
        return "true" if size >= least_bytes else "false"
    top = next(each for each in level.chain() if each.parent is None)
    key = ("large", size)
    if key not in top.dims:
        name = indices.values.fresh("c")
        top.put(f"{name} = icmp sge i64 {indices.dim(top, size)}, {least_bytes}")
        top.dims[key] = name
    return top.dims[key]


def may_stream(
    indices: Indices, level: Level, loop: For, stores: Sequence[Store], least_bytes: int
) -> str:
    """Whether the stores of a loop go past the caches, as an i1 at its start."""
    conditions = []
    for store in stores:
        buffer, size = store.buffer, store.buffer.item_bytes
        conditions.append(is_large(indices, level, buffer, least_bytes))
        first = substitute(linear(buffer, store.index), {loop.variable: loop.start})
        at = indices.pointer(level, buffer, first, size, {})
        address, rest, aligned = (indices.values.fresh() for _ in range(3))
        level.put(f"{address} = ptrtoint ptr {at} to i64")
        level.put(f"{rest} = and i64 {address}, {LINE_BYTES - 1}")
        level.put(f"{aligned} = icmp eq i64 {rest}, 0")
        conditions.append(aligned)
    total = conditions[0]
    for condition in conditions[1:]:
        both = indices.values.fresh("c")
        level.put(f"{both} = and i1 {total}, {condition}")
        total = both
    return total
