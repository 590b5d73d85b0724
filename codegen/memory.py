"""Where do temporaries live?  One arena for a call, planned from lifetimes.

Statements are numbered in program order, the branches of a choice one after the other. A temporary
lives from its first to its last use; one that is used inside a loop but first used outside lives to
the loop's end. Temporaries of known size are placed best-fit, largest first, among those alive at
the same time; where very many have one size they take turns in a *slab* of places of that size, so
that planning is nearly linear. Those of symbolic size share a place only with others of the same
size. Every place is aligned to 64 bytes. Where a kernel's operand dies and its result may be
written over it, the result takes its place.
"""

from __future__ import annotations

import bisect
import collections
import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.codegen.loops import Contract, Kernel, product_bytes
from graphc.codegen.passes.beside import ticks
from graphc.codegen.passes.inplace import Overwriting
from graphc.codegen.program import (
    Blocks,
    Call,
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    Switch,
    While,
    bodies,
    operands_of,
)
from graphc.dims import Extent, ceildiv, evaluate, substitute, symbols_of

# The workspace in bytes that a contraction needs on a number of workers.
ProductScratch = Callable[[Contract, int], Extent]

ALIGNMENT = 64
# Temporaries of one size beyond which they share a slab.
MOST_OF_A_SIZE = 256
# Keeping apart what could run side by side may cost a quarter of the arena, or any share of one of
# at most so many bytes; extents that are not known count as so many.
SMALL_ARENA = 64 << 20
NOMINAL_EXTENT = 1024


@dataclass(eq=False)
class _Life:
    """Storages that share one place, one after the other, and the statements during which it is
    taken.
    """

    storages: list[Storage]
    first: int
    last: int
    loops: tuple[int, ...]

    @property
    def storage(self) -> Storage:
        return self.storages[0]

    def put(self, offset: Extent) -> None:
        for storage in self.storages:
            storage.offset = offset


def sums_alone(contract: Contract, workers: int) -> Extent:
    """The workspace of a target that needs none but for the sums of products."""
    return product_bytes(contract)


def plan(
    program: Program,
    workers: int,
    product_scratch: ProductScratch,
    streams: int = 1,
) -> None:
    """Give every temporary an offset in bytes, and every procedure the size of its arena.

    `product_scratch` is the workspace in bytes that a target needs for a contraction on a number of
    workers; statements that do not need each other may run on so many `streams`.
    """
    procedures = (*program.procedures, program.main)
    blocks = list(program.blocks())
    inside = {launch for each in blocks for launch in each.launches}
    sizes: dict[Kernel, Extent] = {}  # launches share kernels
    for launch in program.launches():
        kernel = launch.kernel
        if isinstance(kernel.nest, Contract):
            if kernel not in sizes:
                mine = 1 if launch in inside else workers
                sizes[kernel] = product_scratch(kernel.nest, mine)
            size = sizes[kernel]
            kind = "held" if launch in inside else "temporary"
            launch.scratch = None if size == 0 else Storage(kind, np.dtype("uint8"), (size,))
    _find_lone_scratch(list(program.launches()), inside)
    for each in blocks:
        _plan_block(each)
    for procedure in procedures:
        _plan_procedure(procedure, workers, streams)


def _plan_block(blocks: Blocks) -> None:
    """Place what the launches of a block hold in scratch of the worker that runs them."""
    launches: list[Statement] = list(blocks.launches)
    lives = _overwrite(launches, _lifetimes(launches, ("held",)))
    blocks.launches = [launch for launch in launches if isinstance(launch, Launch)]
    size = _placed(lives, 1)
    blocks.scratch = None if size == 0 else Storage("worker", np.dtype("uint8"), (size,))


def _find_lone_scratch(launches: Sequence[Launch], inside: Collection[Launch]) -> None:
    """Mark the scratch that only launches of one task use, of which no others run at the time:
    whoever runs them is worker 0.
    """
    several = {
        operand.storage
        for launch in launches
        if launch.tasks != 1 or launch in inside
        for operand in launch.operands
    }
    for launch in launches:
        for storage in {operand.storage for operand in launch.operands} - several:
            storage.alone = storage.kind == "worker"


def aligned(size: Extent) -> Extent:
    """`size` rounded up to the alignment."""
    return ceildiv(size, ALIGNMENT) * ALIGNMENT


def storage_bytes(storage: Storage, workers: int) -> Extent:
    """Bytes that a temporary takes in the arena."""
    copies = workers if storage.kind == "worker" and not storage.alone else 1
    size = storage.bytes if storage.parts == 1 else ceildiv(storage.bytes, storage.parts)
    return aligned(size) * copies


def _reserve_callees(body: list[Statement]) -> None:
    """Give every call scratch of the size of its callee's arena. Callees are planned before
    callers.
    """
    for statement in body:
        for inner in bodies(statement):
            _reserve_callees(inner)
        if isinstance(statement, Call):
            size = substitute(statement.procedure.arena, statement.sizes)
            statement.scratch = (
                Storage("temporary", np.dtype("uint8"), (size,)) if size != 0 else None
            )


def _plan_procedure(procedure: Procedure, workers: int, streams: int) -> None:
    _reserve_callees(procedure.body)
    wider = _side_by_side(procedure, workers, streams) if streams > 1 else None
    body = procedure.body
    lives = _overwrite(body, _lifetimes(body))
    procedure.arena = _placed(lives, workers)
    if wider is not None and _is_worth(wider.arena, procedure.arena):
        wider.put()


def _placed(lives: list[_Life], workers: int) -> Extent:
    """Put every life somewhere; the bytes of the arena."""
    static = [life for life in lives if isinstance(storage_bytes(life.storage, workers), int)]
    known = set(static)
    dynamic = [life for life in lives if life not in known]
    return _place_dynamic(dynamic, _place_static(static, workers), workers)


def _is_worth(wider: Extent, arena: Extent) -> bool:
    sizes = dict.fromkeys(symbols_of(wider) | symbols_of(arena), NOMINAL_EXTENT)
    first, second = evaluate(wider, sizes), evaluate(arena, sizes)
    return first <= SMALL_ARENA or first <= second + second // 4


@dataclass
class _Order:
    """Another order of the statements of a procedure, in which those that may run side by side
    follow one another, and the memory plan for it.
    """

    procedure: Procedure
    body: list[Statement]
    lives: list[_Life]
    workers: int
    arena: Extent

    def put(self) -> None:
        self.procedure.body[:] = self.body
        self.procedure.arena = _placed(self.lives, self.workers)


def _side_by_side(procedure: Procedure, workers: int, streams: int) -> _Order | None:
    """The statements in the order of the time at which they run on so many streams, with no place
    shared by those of one time; None if one stream is enough.
    """
    times = dict(zip(procedure.body, ticks(procedure.body, streams), strict=True))
    if len(set(times.values())) == len(times):
        return None
    body = sorted(procedure.body, key=times.__getitem__)
    ends = dict[int, tuple[int, int]]()  # the first and last clock of each time
    clock = 0
    for statement in body:
        start, _ = ends.get(times[statement], (clock + 1, clock))
        clock += _length(statement)
        ends[times[statement]] = start, clock
    alone = {time for time, count in collections.Counter(times.values()).items() if count == 1}
    bounds = [end for time, end in sorted(ends.items()) if time not in alone]
    starts = [start for start, _ in bounds]
    wide = [_widened(life, bounds, starts) for life in _overwrite(body, _lifetimes(body))]
    return _Order(procedure, body, wide, workers, _placed(wide, workers))


def _widened(life: _Life, bounds: list[tuple[int, int]], starts: list[int]) -> _Life:
    """A life that takes all of a time that it has a part of, if several statements have it."""
    first, last = life.first, life.last
    before = bisect.bisect_right(starts, first) - 1
    if before >= 0 and bounds[before][1] >= first:
        first = bounds[before][0]
    after = bisect.bisect_right(starts, last) - 1
    if after >= 0 and bounds[after][1] >= last:
        last = bounds[after][1]
    return _Life(life.storages, first, last, life.loops)


def _lifetimes(
    body: list[Statement], kinds: Collection[str] = ("temporary", "worker")
) -> list[_Life]:
    """The lives of the storages of some kinds that statements use."""
    lives: dict[int, _Life] = {}
    clock = 0
    loop_starts: dict[int, int] = {}
    loop_ends: dict[int, int] = {}

    def use(storage: Storage | None, now: int, loops: tuple[int, ...]) -> None:
        if storage is None or storage.kind not in kinds:
            return
        life = lives.get(id(storage))
        if life is None:
            lives[id(storage)] = _Life([storage], now, now, loops)
            return
        life.last = max(life.last, now)
        common = [a for a, b in zip(life.loops, loops, strict=False) if a == b]
        if len(loops) > len(common):  # used again inside a loop that it was not born in
            pending.append((life, loops[len(common)]))
        # born inside a loop, used after it: no iteration may touch it
        if len(life.loops) > len(common):
            life.first = min(life.first, loop_starts[life.loops[len(common)]])
            life.loops = tuple(common)

    pending: list[tuple[_Life, int]] = []
    counter = 0
    # Statements, the next of them, the loops around them, and what is read when they have run.
    stack: list[tuple[list[Statement], int, tuple[int, ...], list[Operand]]] = [(body, 0, (), [])]
    while stack:
        statements, position, loops, last = stack.pop()
        if position == len(statements):
            for operand in last:
                use(operand.storage, clock, loops)
            if loops:
                loop_ends[loops[-1]] = clock
            continue
        stack.append((statements, position + 1, loops, last))
        statement = statements[position]
        clock += 1
        if isinstance(statement, (Loop, While)):
            counter += 1
            loop_starts[counter] = clock
            inside = [s for inner in bodies(statement) for s in inner]
            # A condition is taken to live as long as an iteration, which is a little longer.
            stack.append((inside, 0, (*loops, counter), operands_of(statement)))
            continue
        for operand in operands_of(statement):
            use(operand.storage, clock, loops)
        if isinstance(statement, Switch):
            inside = [s for branch in statement.branches for s in branch]
            stack.append((inside, 0, loops, []))
        else:
            use(statement.scratch, clock, loops)
    for life, loop in pending:
        life.last = max(life.last, loop_ends[loop])
    return list(lives.values())


def _overwrite(body: list[Statement], lives: list[_Life]) -> list[_Life]:
    """Join the life of a result to that of an operand that dies where the result is born, if it may
    be overwritten.

    Only at the top level of a procedure: inside a loop a place is needed again in the next
    iteration.
    """
    born = {id(life.storage): life for life in lives}
    joined: set[_Life] = set()
    idle: set[Statement] = set()  # copies of what is there
    clock = 0
    for statement in body:
        clock += _length(statement)
        if not isinstance(statement, Launch):
            continue
        ending = _ending(statement, born, clock)
        if not ending:
            continue
        overwriting = Overwriting(statement)
        for made in _starting(statement, born, clock):
            for dying in ending:
                if dying.last != clock:  # another result has taken its place
                    continue
                given = dying.storages[-1]
                same = given.dtype == made.storage.dtype and given.bytes == made.storage.bytes
                same = same and overwriting.pays(made.storage)
                if same and overwriting.allows(given, made.storage):
                    dying.storages += made.storages
                    dying.last = made.last
                    born[id(made.storage)] = dying
                    joined.add(made)
                    if statement.copies:
                        idle.add(statement)
                    break
    body[:] = [s for s in body if s not in idle]
    return [life for life in lives if life not in joined]


def _length(statement: Statement) -> int:
    """How many numbers a statement takes up in the count of `_lifetimes`."""
    return 1 + sum(_length(s) for inner in bodies(statement) for s in inner)


def _ending(launch: Launch, born: dict[int, _Life], now: int) -> list[_Life]:
    """The temporaries from before a launch that it is the last to use, each once."""
    found = [born.get(id(operand.storage)) for operand in launch.operands]
    ending = [life for life in found if life is not None and life.first < now == life.last]
    return list(dict.fromkeys(ending))


def _starting(launch: Launch, born: dict[int, _Life], now: int) -> list[_Life]:
    """The temporaries that a launch writes first."""
    found = [born.get(id(operand.storage)) for operand in launch.operands]
    return [
        life
        for life in found
        if life is not None
        and life.first == now
        and life.storage.kind in ("temporary", "held")
        and life.last > now
    ]


@dataclass(eq=False)
class _Block:
    """Bytes that are taken during some statements, and how to say where they are."""

    size: int
    first: int
    last: int
    put: Callable[[int], None]


def _place_static(lives: list[_Life], workers: int) -> int:
    sizes: dict[int, list[_Life]] = {}
    for life in lives:
        sizes.setdefault(_bytes(life, workers), []).append(life)
    blocks: list[_Block] = []
    for size, same in sizes.items():
        if len(same) > MOST_OF_A_SIZE:
            blocks.append(_slab(same, size))
        else:
            blocks += [_Block(size, life.first, life.last, life.put) for life in same]
    placed: list[tuple[int, int, int, int]] = []  # start, end, first, last: sorted
    total = 0
    for block in sorted(blocks, key=lambda block: (-block.size, block.first)):
        first, last = block.first, block.last
        taken = [(p[0], p[1]) for p in placed if p[2] <= last and first <= p[3]]
        offset = _best_gap(taken, block.size)
        block.put(offset)
        bisect.insort(placed, (offset, offset + block.size, first, last))
        total = max(total, offset + block.size)
    return total


def _slab(lives: list[_Life], size: int) -> _Block:
    """One block in which lives of one size take turns."""
    turns = _turns(lives)
    count = 1 + max(turns.values())

    def put(offset: int) -> None:
        for life, turn in turns.items():
            life.put(offset + turn * size)

    first, last = min(life.first for life in lives), max(life.last for life in lives)
    return _Block(size * count, first, last, put)


def _turns(lives: Iterable[_Life]) -> dict[_Life, int]:
    """A place for each life, shared by those that follow one another: as few as there can be."""
    taken: list[tuple[int, int]] = []  # when it will be free, place
    free: list[int] = []
    turns: dict[_Life, int] = {}
    for life in sorted(lives, key=lambda life: life.first):
        while taken and taken[0][0] < life.first:
            heapq.heappush(free, heapq.heappop(taken)[1])
        turns[life] = heapq.heappop(free) if free else len(taken)
        heapq.heappush(taken, (life.last, turns[life]))
    return turns


def _bytes(life: _Life, workers: int) -> int:
    size = storage_bytes(life.storage, workers)
    assert isinstance(size, int)
    return size


def _best_gap(taken: list[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap that holds `size`, else the end of what is taken."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in taken:
        if start - end >= size and (best is None or start - end < best[0]):
            best = (start - end, end)
        if stop > end:
            end = stop
    return end if best is None else best[1]


def _place_dynamic(lives: list[_Life], base: Extent, workers: int) -> Extent:
    sizes: dict[Extent, list[_Life]] = {}
    for life in sorted(lives, key=lambda life: life.first):
        sizes.setdefault(storage_bytes(life.storage, workers), []).append(life)
    total = base
    for size, same in sizes.items():
        turns = _turns(same)
        for life, turn in turns.items():
            life.put(total + size * turn)
        total = total + size * (1 + max(turns.values()))
    return total
