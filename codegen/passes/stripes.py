"""Which loops does each worker run by itself, for rows of its own?  Where no row needs another.

A step of a recurrent network is a product of its state with weights, and functions of the rows of
that: kernels of some ten microseconds, between which all workers wait for each other, and rows that
one has made are read by another. But no row of the state needs another row. So the rows are cut
into stripes, and each runs all steps of the loop (`program.Blocks` with `steps`): there is one
wait, at the end, and what a stripe hands on stays in the cache of the core that works on it.

A loop is run so if it is made of launches alone, has a product among them, and every array that it
writes keeps to its rows: an access is in a slice, of the size that all of them see, and there in
the part of its own stripe. What stripes only read they may read anywhere; all of them read the
weights, which must be few enough to stay in each core's own cache.

This is done before memory is planned: stripes are at different steps at a time, so nothing that
they touch may share a place. The number of stripes hangs on sizes and the machine alone, and sums
keep their order: the same bits for any number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphc.codegen.loops import TASK_WORK, Contract
from graphc.codegen.passes.accesses import Access, accesses_of, ranges_of
from graphc.codegen.passes.copies import can_be_copied, flat_lanes, in_tasks, of_rows
from graphc.codegen.program import (
    BLOCK,
    Blocks,
    Launch,
    Loop,
    Procedure,
    Program,
    Statement,
    Steps,
    Storage,
    bodies,
)
from graphc.codegen.scalar import For
from graphc.codegen.tactics import Tactics
from graphc.dims import Bounds, Dim, Extent, product, symbols_of


def run_in_stripes(program: Program, tactics: Tactics, donated: Mapping[int, int]) -> None:
    """Let loops of a program run stripe by stripe, where they can and it pays. `donated` are the
    inputs of `main` that outputs are written over.
    """
    if not tactics.stripe_rows:
        return
    for procedure in (*program.procedures, program.main):
        aliases = _aliases(procedure, donated) if procedure is program.main else {}
        waiting: list[list[Statement]] = [procedure.body]
        while waiting:
            body = waiting.pop()
            for position, statement in enumerate(body):
                made = _striped(statement, tactics, aliases)
                if made is None:
                    waiting += bodies(statement)
                else:
                    body[position] = made


def _aliases(procedure: Procedure, donated: Mapping[int, int]) -> dict[Storage, Storage]:
    return {
        procedure.outputs[target]: procedure.inputs[source] for source, target in donated.items()
    }


def _striped(
    loop: Statement, tactics: Tactics, aliases: Mapping[Storage, Storage]
) -> Blocks | None:
    """A loop as stripes that run its steps; None if it stays as it is."""
    if not isinstance(loop, Loop):
        return None
    launches = [launch for launch in loop.body if isinstance(launch, Launch)]
    if len(launches) < len(loop.body) or not all(map(_can_be_cut, launches)):
        return None
    count = _count(launches, tactics)
    if count < 2 or _shared_bytes(launches, loop.variable) > tactics.own_cache_bytes:
        return None
    launches = [_in_tasks(launch, count) for launch in launches]
    if not _are_apart([_Part(launch, count) for launch in launches], aliases):
        return None
    steps = Steps(loop.variable, loop.length, loop.reverse)
    return Blocks(count, [_of_stripe(launch, count) for launch in launches], steps=steps)


def _can_be_cut(launch: Launch) -> bool:
    """Whether a launch is of tasks, or of rows of one product, whose number is known, and nothing
    but numbers and the steps of loops says where its operands are.
    """
    kernel, nest = launch.kernel, launch.kernel.nest
    if kernel.extents or not can_be_copied(kernel) or not isinstance(launch.tasks, int):
        return False
    if any(o.storage.strided for o in launch.operands) or launch.tasks == 0:
        return False
    if not all(isinstance(product(buffer.shape), int) for buffer in kernel.buffers):
        return False
    if isinstance(nest, For):
        return True
    sizes = (nest.rows, nest.columns, nest.depth)
    known = nest.batch == 1 and all(isinstance(size, int) and size > 0 for size in sizes)
    return known and nest.left.lines is None


def _count(launches: Sequence[Launch], tactics: Tactics) -> int:
    """How many stripes: a power of two, for so many cores there are; each with rows enough for
    products to run at their pace, and work enough for calls to cost nothing. 1 if there is no
    product, or tasks of one are more than its stripes would be.
    """
    products = [launch for launch in launches if isinstance(launch.kernel.nest, Contract)]
    if not products:
        return 1
    rows = [_rows(launch) for launch in products]
    parts = [_rows(launch) for launch in launches]
    work = max(_work(launch) for launch in products)
    count = 1
    while (
        all(part % (2 * count) == 0 for part in parts)
        and min(rows) // (2 * count) >= tactics.stripe_rows
        and work // (2 * count) >= tactics.least_block_work
    ):
        count *= 2
    return count if work // count <= TASK_WORK else 1


def _rows(launch: Launch) -> int:
    """What is cut: rows of a product, lanes of which all tasks are shares, else tasks."""
    nest = launch.kernel.nest
    found = nest.rows if isinstance(nest, Contract) else launch.tasks
    found = flat_lanes(launch.kernel) or found
    assert isinstance(found, int)
    return found


def _in_tasks(launch: Launch, count: int) -> Launch:
    """A launch with as many tasks as there are stripes, if it is of lanes."""
    if not flat_lanes(launch.kernel):
        return launch
    return replace(launch, kernel=in_tasks(launch.kernel, count), tasks=count)


def _work(launch: Launch) -> int:
    """The multiplications of a product."""
    nest = launch.kernel.nest
    assert isinstance(nest, Contract)
    found = product((nest.rows, nest.columns, nest.depth))
    assert isinstance(found, int)
    return found


def _shared_bytes(launches: Sequence[Launch], step: str) -> int:
    """Bytes that all stripes read in every step."""
    written = _written(launches)
    found: dict[int, int] = {}
    for launch in launches:
        for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True):
            offset, size = operand.offset, product(buffer.shape)
            moves = not isinstance(offset, int) and step in symbols_of(offset)
            if not moves and operand.storage not in written and buffer.space == "global":
                assert isinstance(size, int)
                key = id(operand.storage)
                found[key] = max(found.get(key, 0), size * buffer.item_bytes)
    return sum(found.values())


def _written(launches: Sequence[Launch]) -> set[Storage]:
    return {
        operand.storage
        for launch in launches
        for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True)
        if buffer in set(launch.kernel.written())
    }


class _Part:
    """A launch, cut into stripes: which elements each of them touches."""

    def __init__(self, launch: Launch, count: int) -> None:
        self.launch, self.count = launch, count
        nest, block = launch.kernel.nest, Dim.symbol(BLOCK)
        parts = nest.rows if isinstance(nest, Contract) else launch.tasks
        assert isinstance(parts, int)
        each = parts // count
        own = (block * each, block * each + each - 1)
        ranges = ranges_of(launch) | {BLOCK: (0, count - 1)}
        if isinstance(nest, Contract):
            for region in (nest.left, nest.epilogue):
                ranges[region.variables[1]] = own
        else:
            ranges[nest.variable] = own
        self.bounds = Bounds(ranges)
        self.accesses = list(accesses_of(launch))

    def keeps_to_own(self, access: Access, size: int) -> bool:
        """Whether an access is in a slice of so many elements of its storage, and there in the part
        of its stripe.
        """
        if access.at is None or size % self.count or not _is_multiple(access.offset, size):
            return False
        each = size // self.count
        within = access.at - access.offset - Dim.symbol(BLOCK) * each
        return all(map(self.bounds.proves_nonnegative, (within, each - 1 - within)))


def _is_multiple(offset: Extent, size: int) -> bool:
    if isinstance(offset, int):
        return offset % size == 0
    return all(coefficient % size == 0 for _, coefficient in offset.terms)


def _are_apart(parts: Sequence[_Part], aliases: Mapping[Storage, Storage]) -> bool:
    """Whether no stripe touches an element that another one writes, at whatever steps they are."""
    written = _written([part.launch for part in parts])
    memory = {aliases.get(storage, storage) for storage in written}
    sizes: dict[Storage, int] = {}
    for part in parts:
        for access in part.accesses:
            storage = access.storage
            if aliases.get(storage, storage) not in memory:
                continue
            assert isinstance(access.size, int)
            size = sizes.setdefault(storage, access.size)
            if storage not in written or access.size != size:
                return False
            if not part.keeps_to_own(access, size):
                return False
    return True


def _of_stripe(launch: Launch, count: int) -> Launch:
    """The launch of one stripe."""
    kernel = launch.kernel
    if isinstance(kernel.nest, Contract):
        each = _rows(launch) // count
        kernel = of_rows(kernel, Dim.symbol(BLOCK) * each, each)
    assert isinstance(launch.tasks, int) and isinstance(launch.work, int)
    why = f"one of {count} stripes of rows, each of which runs all steps of the loop by itself"
    reason = "; ".join(filter(None, (launch.reason, why)))
    tasks, work = launch.tasks // count, launch.work // count
    return replace(launch, kernel=kernel, tasks=tasks, work=work, reason=reason)


__all__ = ["run_in_stripes"]
