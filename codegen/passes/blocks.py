"""Which launches are run one after the other for a part of a batch, rather than each for all of it?

The scores of attention are made by one product, shared out by a softmax and read by another
product. Each of these kernels goes over all heads, so that what one hands to the next goes through
memory wherever all heads together are larger than a cache. But no head needs another: all kernels
are run for one head, then for the next (`program.Blocks`), and what they hand on stays in a cache
that a core has to itself. What nothing else reads is not stored at all: each worker has the memory
of one block. Their gradients are more links of the same chain.

A chain begins at a contraction of several products. Kernels join it that read or write what it has
made, if in every array that they share each block keeps to its own part, and the cache has room for
half of what it touches. Statements between them that need nothing of the chain go before it, others
after. Whether it pays is a matter of bytes: of what is handed on, more than the cache holds is
needed; or more than the cache of all cores does, where products are too large to be written for a
block.

This is done before memory is planned. What is cut hangs on sizes and the machine alone, and sums
keep their order: the same bits for any number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphc.codegen.loops import (
    SERIAL_WORK,
    TASK_WORK,
    Contract,
)
from graphc.codegen.passes.accesses import accesses_of, ranges_of
from graphc.codegen.passes.copies import can_be_copied, restricted
from graphc.codegen.passes.together import Touch, touches_of
from graphc.codegen.program import (
    BLOCK,
    Blocks,
    Launch,
    Procedure,
    Program,
    Statement,
    Storage,
    bodies,
    operands_of,
)
from graphc.codegen.scalar import For
from graphc.codegen.tactics import Tactics
from graphc.dims import Bounds, Dim, Extent, product, symbols_of

# Statements that are looked at for one chain, and launches of it.
LOOK_AHEAD, MOST_LAUNCHES = 48, 24


def run_in_blocks(program: Program, tactics: Tactics, donated: Mapping[int, int]) -> None:
    """Join launches of a program to chains that run block by block. `donated` are the inputs of
    `main` that outputs are written over.
    """
    for procedure in (*program.procedures, program.main):
        over = donated if procedure is program.main else {}
        _Joining(procedure, tactics, over).run()


class _Part:
    """A launch, cut into so many blocks: what each of them touches."""

    def __init__(self, launch: Launch, count: int) -> None:
        self.launch, self.count = launch, count
        nest = launch.kernel.nest
        self.ranges = ranges_of(launch) | {BLOCK: (0, count - 1)}
        block = Dim.symbol(BLOCK)
        if isinstance(nest, Contract):
            assert isinstance(nest.batch, int)
            together = nest.batch // count
            batch = (block * together, block * together + together - 1)
            for region in (nest.left, nest.right, nest.epilogue):
                self.ranges[region.variables[0]] = batch
        else:
            assert isinstance(launch.tasks, int)
            each = launch.tasks // count
            self.ranges[nest.variable] = (block * each, block * each + each - 1)
        self.bounds = Bounds(self.ranges)
        self.accesses = list(accesses_of(launch))
        self._own: dict[Storage, bool] = {}

    def keeps_to_own(self, storage: Storage) -> bool:
        """Whether each block touches no element but those of its own equal part of a storage."""
        found = self._own.get(storage)
        if found is None:
            found = self._own[storage] = self._keeps(storage)
        return found

    def _keeps(self, storage: Storage) -> bool:
        size = product(storage.shape)
        if not isinstance(size, int) or size % self.count:
            return False
        first = Dim.symbol(BLOCK) * (size // self.count)
        for access in self.accesses:
            if access.storage is not storage:
                continue
            if access.at is None:
                return False
            within = access.at - first
            last = size // self.count - 1 - within
            if not all(map(self.bounds.proves_nonnegative, (within, last))):
                return False
        return True

    def touched(self) -> int:
        """Bytes that a block reads or writes, at the most."""
        found: dict[Storage, int] = {}
        for access in self.accesses:
            whole = _bytes(access.storage)
            if self.keeps_to_own(access.storage):
                whole //= self.count
            elif access.at is not None:
                whole = min(whole, access.item * self._positions(access.at))
            found[access.storage] = max(found.get(access.storage, 0), whole)
        return sum(found.values())

    def _positions(self, at: Extent) -> int:
        """How many values an index has at the most, in one block."""
        count = 1
        for name in symbols_of(at) - {BLOCK}:
            low, high = self.ranges.get(name, (0, 0))
            steps = high - low + 1
            count *= max(steps, 1) if isinstance(steps, int) else 1
        return count


def _bytes(storage: Storage) -> int:
    size = storage.bytes
    assert isinstance(size, int)
    return size


def _is_known(launch: Launch) -> bool:
    """Whether all sizes and places of a launch are numbers."""
    kernel = launch.kernel
    static = isinstance(launch.tasks, int) and launch.tasks > 0 and not kernel.extents
    return static and all(
        isinstance(o.offset, int) and isinstance(o.storage.bytes, int) and not o.storage.strided
        for o in launch.operands
    )


def _sizes(launch: Launch) -> tuple[int, int] | None:
    """The products of a contraction whose kernel can be cut, and multiplications of each."""
    contract = launch.kernel.nest
    if not isinstance(contract, Contract) or not _is_known(launch):
        return None
    sizes = (contract.batch, contract.rows, contract.columns, contract.depth)
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    if len(known) < len(sizes) or not can_be_copied(launch.kernel):
        return None
    batch, rows, columns, depth = known
    return batch, rows * columns * depth


def _blocks_of(launch: Launch, tactics: Tactics) -> int:
    """Into how many blocks a chain that begins with a launch is cut: no more than are worth the
    calls; 0 if it is not.
    """
    sizes = _sizes(launch)
    if sizes is None:
        return 0
    batch, work = sizes
    counts = range(batch, tactics.least_blocks - 1, -1)
    wanted = (n for n in counts if batch % n == 0 and batch // n * work >= tactics.least_block_work)
    return next(wanted, 0)


class _Chain:
    """Launches that may run block by block."""

    def __init__(self, first: _Part, uses: Mapping[int, int], aliases: Mapping[Storage, Storage]):
        self.parts = [first]
        self.uses, self.aliases = uses, aliases
        self.count = first.count

    def takes(self, part: _Part, most_bytes: int) -> bool:
        """Whether a launch shares something that the chain makes, and blocks stay apart."""
        if len(self.parts) >= MOST_LAUNCHES:
            return False
        mine = [access for each in self.parts for access in each.accesses]
        handed = False
        for storage in {access.storage for access in part.accesses}:
            theirs = [access for access in mine if self._same(access.storage, storage)]
            own = [access for access in part.accesses if access.storage is storage]
            if not theirs or not any(access.writes for access in (*theirs, *own)):
                continue
            whole = all(access.storage is storage for access in theirs)
            apart = all(each.keeps_to_own(storage) for each in (*self.parts, part))
            if not whole or not apart:
                return False
            handed = handed or any(access.writes for access in theirs)
        return handed and part.touched() <= most_bytes

    def _same(self, one: Storage, other: Storage) -> bool:
        return self.aliases.get(one, one) is self.aliases.get(other, other)

    def handed(self) -> list[Storage]:
        """What launches of the chain make for later ones of it."""
        made: set[Storage] = set()
        found: dict[Storage, None] = {}
        for part in self.parts:
            for access in part.accesses:
                if not access.writes and access.storage in made:
                    found[access.storage] = None
            made |= {access.storage for access in part.accesses if access.writes}
        return list(found)

    def held(self) -> list[Storage]:
        """What nothing but the chain touches, and each block keeps apart."""
        used: dict[int, int] = {}
        by_id: dict[int, Storage] = {}
        for part in self.parts:
            for operand in part.launch.operands:
                by_id[id(operand.storage)] = operand.storage
                used[id(operand.storage)] = used.get(id(operand.storage), 0) + 1
        return [
            storage
            for key, storage in by_id.items()
            if storage.kind == "temporary"
            and used[key] == self.uses[key]
            and all(part.keeps_to_own(storage) for part in self.parts)
        ]

    def statement(self) -> Blocks:
        """The blocks, with what they hold in scratch."""
        held, handed = self.held(), self.handed()
        for storage in held:
            storage.kind, storage.parts = "held", self.count
        saved = sum(map(_bytes, handed))
        titles = ", ".join(dict.fromkeys(part.launch.kernel.title for part in self.parts))
        why = (
            f"one of {self.count} blocks of the batch at a time, with the other kernels of the "
            f"chain ({titles}): of the {saved} bytes that they hand on each block has "
            f"{saved // self.count}, which a cache keeps"
        )
        return Blocks(self.count, [_of_block(part, why) for part in self.parts])


def _of_block(part: _Part, why: str) -> Launch:
    """The launch of one block."""
    launch, count = part.launch, part.count
    kernel, contract = launch.kernel, launch.kernel.nest
    if isinstance(contract, Contract):
        assert isinstance(contract.batch, int)
        together = contract.batch // count
        kernel = restricted(kernel, Dim.symbol(BLOCK) * together, together)
    assert isinstance(launch.tasks, int) and isinstance(launch.work, int)
    reason = "; ".join(filter(None, (launch.reason, why)))
    return replace(
        launch, kernel=kernel, tasks=launch.tasks // count, work=launch.work // count, reason=reason
    )


class _Joining:
    """The chains of one procedure."""

    def __init__(
        self, procedure: Procedure, tactics: Tactics, donated: Mapping[int, int]
    ) -> None:
        self.body, self.tactics = procedure.body, tactics
        self.aliases = {
            procedure.outputs[target]: procedure.inputs[source]
            for source, target in donated.items()
        }
        self.parts: dict[tuple[Statement, int], _Part | None] = {}
        self.uses: dict[int, int] = {}
        self._count(procedure.body)

    def _count(self, body: Sequence[Statement]) -> None:
        for statement in body:
            for operand in operands_of(statement):
                key = id(operand.storage)
                self.uses[key] = self.uses.get(key, 0) + 1
            for inner in bodies(statement):
                self._count(inner)

    def run(self) -> None:
        """Chains in the list of statements; what loops and branches hold is left as it is."""
        position = 0
        while position < len(self.body):
            made = self._from(position)
            if made is None:
                position += 1
                continue
            before, chain, after = made
            stop = position + len(before) + len(chain.parts) + len(after)
            self.body[position:stop] = [*before, chain.statement(), *after]
            position += len(before) + 1

    def _from(self, position: int) -> tuple[list[Statement], _Chain, list[Statement]] | None:
        """The chain that begins with a statement, and those up to its end that are no part of it:
        which go before it, and which after it.
        """
        first = self.body[position]
        count = _blocks_of(first, self.tactics) if isinstance(first, Launch) else 0
        part = self._part(first, count) if count else None
        # Rows go by once: twice what the cache holds still leaves it what comes next.
        most_bytes = 2 * self.tactics.own_cache_bytes
        if part is None or part.touched() > most_bytes:
            return None
        chain = _Chain(part, self.uses, self.aliases)
        ours, later = self._touches(first), list[Touch]()  # of the chain, and of what follows it
        before: list[Statement] = []
        after: list[Statement] = []
        ends = 0, 0  # of the other lists, where the chain ends
        for statement in self.body[position + 1 : position + LOOK_AHEAD]:
            touches = self._touches(statement)
            if _meet(touches, later):
                after.append(statement)
                later += touches
            elif (part := self._part(statement, count)) and chain.takes(part, most_bytes):
                chain.parts.append(part)
                ours += touches
                ends = len(before), len(after)
            elif _meet(touches, ours):
                after.append(statement)
                later += touches
            else:
                before.append(statement)
        if sum(map(_bytes, chain.handed())) <= self._least_bytes(chain):
            return None
        return before[: ends[0]], chain, after[: ends[1]]

    def _least_bytes(self, chain: _Chain) -> int:
        """What a chain must hand on more of, to be worth while. Products that are small enough to
        be written whole gain by that; others only do where memory is what they wait for.
        """
        sizes = [_sizes(part.launch) for part in chain.parts]
        most = max(batch // chain.count * work for batch, work in filter(None, sizes))
        own, shared = self.tactics.own_cache_bytes, self.tactics.shared_cache_bytes
        return own if most <= TASK_WORK else max(own, shared)

    def _part(self, statement: Statement, count: int) -> _Part | None:
        """A statement as a part of a chain of so many blocks: read once, however many ask."""
        key = statement, count
        if key not in self.parts:
            self.parts[key] = _part(statement, count)
        return self.parts[key]

    def _touches(self, statement: Statement) -> list[Touch]:
        return [
            replace(touch, storage=self.aliases.get(touch.storage, touch.storage))
            for touch in touches_of(statement)
        ]


def _meet(touches: Sequence[Touch], others: Sequence[Touch]) -> bool:
    return any(one.conflicts(other) for one in touches for other in others)


def _part(statement: Statement, count: int) -> _Part | None:
    """A statement as a part of a chain of so many blocks, if it can be one."""
    if not isinstance(statement, Launch) or not _is_known(statement):
        return None
    if isinstance(statement.kernel.nest, For):
        assert isinstance(statement.tasks, int)
        return _Part(statement, count) if statement.tasks % count == 0 else None
    sizes = _sizes(statement)
    if sizes is None or sizes[0] % count:
        return None
    # Larger ones ask the pool of threads, whose workers are those of the blocks.
    small = sizes[0] // count * sizes[1] < SERIAL_WORK
    return _Part(statement, count) if small else None


__all__ = ["run_in_blocks"]
