"""Which stores go past the caches, and when?  Those of kernels that the last cache cannot hold.

A store reads the line that it writes to, and what the last cache cannot hold comes back out of it a
line at a time: half as much traffic again as the elements themselves. A non-temporal store does
neither. What a kernel writes is gone from the cache before anybody reads it if its arrays together
are larger than that. It pays where memory is what a loop waits for and where whole lines are
written one after the other, so the loop is written twice, and at its start the sizes of the arrays
and the alignment of the first element decide between the two. Where rows begin anywhere in a line,
what lies before the first whole line is written element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.rows import written_blocks
from graphc.codegen.loops import LINE_BYTES, Buffer, Kernel, linear, most_steps
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import Address, For, Store, Value, walk
from graphc.dims import Extent, affine, product, substitute

# A loop of more instructions waits for those, not for memory.
LITTLE_WORK = 48
# The least lines of a row that does not end with one.
LEAST_LINES = 8
# The least bytes of a store that may go past the caches.
LEAST_BYTES = 16


@dataclass
class Traffic:
    """The bytes of a kernel's arrays, those that it reads, and what its stores send past the caches
    of a machine.
    """

    size: Extent
    read: frozenset[Buffer]
    machine: Machine
    streamed: list[Buffer]

    @staticmethod
    def of(kernel: Kernel, machine: Machine) -> Traffic:
        loads = (s.immediate for s in walk(kernel.body) if isinstance(s, Value))
        read = frozenset(each.buffer for each in loads if isinstance(each, Address))
        size: Extent = 0
        for buffer in kernel.buffers:
            if buffer.space == "global":
                size = size + _size(buffer)
        return Traffic(size, read, machine, [])

    def least(self, buffer: Buffer) -> list[tuple[Extent, int]]:
        """Sizes that must be so large if an array is to be written past the caches."""
        return [(self.size, self.machine.l3), (_size(buffer), self.machine.l2)]


def streaming_stores(loop: For, lanes: int, traffic: Traffic) -> list[Store]:
    """The stores of a vector loop that may go past the caches.

    The loop does little else than load, store and add up, and each of these stores writes
    neighbouring elements, all of them, to an array that the kernel only writes; or several do,
    which write short rows together.
    """
    statements = loop.body.statements
    if len(statements) > LITTLE_WORK or any(isinstance(s, For) for s in statements):
        return []
    if any(isinstance(s, Value) and s.opcode == "call" for s in statements):
        return []
    stores = [s for s in statements if isinstance(s, Store)]
    blocks = written_blocks(loop.body, loop.variable, lanes, traffic.machine.vector_bytes)
    steps = {id(store): block.step for block in blocks if block.whole for store in block.stores}
    return [
        s
        for s in stores
        if s.buffer not in traffic.read and _fits(s, loop, lanes, traffic, steps.get(id(s), 1))
    ]


def _fits(store: Store, loop: For, lanes: int, traffic: Traffic, row: int) -> bool:
    buffer = store.buffer
    if store.mask is not None or store.args or (buffer.layout, buffer.space) != _WHOLE:
        return False
    if any(isinstance(size, int) and size < least for size, least in traffic.least(buffer)):
        return False
    steps = most_steps(loop.start, loop.stop)
    if steps is not None and _is_ragged(steps * row * buffer.item_bytes):
        return False
    split = affine(linear(buffer, store.index), loop.variable)
    together = lanes * buffer.item_bytes
    if row > 1 and together * row % LINE_BYTES:
        return False
    return split is not None and split[0] == row and together >= LEAST_BYTES


def _is_ragged(row: int) -> bool:
    """Whether many of the lines that a row of so many bytes lies in are its neighbours' as well.
    What goes past the caches in part is waited for by what is written to the rest of its line.
    """
    return row % LINE_BYTES != 0 and row < LEAST_LINES * LINE_BYTES


_WHOLE = ("contiguous", "global")


def _size(buffer: Buffer) -> Extent:
    return product(buffer.shape) * buffer.item_bytes


def alignment(store: Store, lanes: int) -> int:
    """How the address of each store is aligned, if that of the first is at the start of a line."""
    return min(LINE_BYTES, lanes * store.buffer.item_bytes)


def is_large(indices: Indices, level: Level, buffer: Buffer, traffic: Traffic) -> list[str]:
    """What must hold for an array to be written past the caches, each an i1 that is known from the
    start of the function.
    """
    found = []
    top = next(each for each in level.chain() if each.parent is None)
    for size, least in traffic.least(buffer):
        key = ("large", size, least)
        if isinstance(size, int):
            top.dims[key] = "true" if size >= least else "false"
        elif key not in top.dims:
            name = indices.values.fresh("c")
            top.put(f"{name} = icmp sge i64 {indices.dim(top, size)}, {least}")
            top.dims[key] = name
        found.append(top.dims[key])
    return found


def _is_shifted(first: Extent, size: int) -> bool:
    """Whether a position is not always at a line of memory, in an array that begins at one."""
    steps = [first] if isinstance(first, int) else [step for _, step in first.terms]
    return any(step * size % LINE_BYTES for step in steps)


def _firsts(loop: For, stores: Sequence[Store]) -> tuple[list[tuple[Buffer, Extent]], bool]:
    """Where a loop begins to write, of rows that several stores write where the first does; and
    whether there are any.
    """
    found: list[tuple[Buffer, Extent]] = []
    rows: dict[Buffer, Extent] = {}
    for store in stores:
        position = linear(store.buffer, store.index)
        split = affine(position, loop.variable)
        first = substitute(position, {loop.variable: loop.start})
        if split is not None and split[0] == 1:
            found.append((store.buffer, first))
        else:
            before = first - rows.get(store.buffer, first)
            if isinstance(before, int) and before <= 0:
                rows[store.buffer] = first
    return [*found, *rows.items()], bool(rows)


def may_stream(
    indices: Indices, level: Level, loop: For, stores: Sequence[Store], traffic: Traffic
) -> tuple[str, str]:
    """Whether the stores of a loop go past the caches, as an i1 at its start, and how many elements
    there are before the first line, where the loop may do those by themselves.
    """
    conditions = []
    head = ""
    firsts, in_rows = _firsts(loop, stores)
    alone = not loop.accumulators and not in_rows
    shifted = alone and any(_is_shifted(first, b.item_bytes) for b, first in firsts)
    fresh = indices.values.fresh
    for buffer, first in firsts:
        size = buffer.item_bytes
        conditions += is_large(indices, level, buffer, traffic)
        at = indices.pointer(level, buffer, first, size, {})
        address, rest, aligned = (fresh() for _ in range(3))
        level.put(f"{address} = ptrtoint ptr {at} to i64")
        if shifted and not head:
            below, missing, head = (fresh() for _ in range(3))
            level.put(f"{below} = sub i64 0, {address}")
            level.put(f"{missing} = and i64 {below}, {LINE_BYTES - 1}")
            level.put(f"{head} = lshr i64 {missing}, {size.bit_length() - 1}")
        if head:
            moved, later = fresh(), fresh()
            level.put(f"{moved} = mul i64 {head}, {size}")
            level.put(f"{later} = add i64 {address}, {moved}")
            address = later
        level.put(f"{rest} = and i64 {address}, {LINE_BYTES - 1}")
        level.put(f"{aligned} = icmp eq i64 {rest}, 0")
        conditions.append(aligned)
    return all_of(indices, level, conditions), head


def all_of(indices: Indices, level: Level, conditions: Sequence[str]) -> str:
    """Whether all of several conditions hold."""
    total, *others = dict.fromkeys(conditions)
    for condition in others:
        both = indices.values.fresh("c")
        level.put(f"{both} = and i1 {total}, {condition}")
        total = both
    return total
