"""Which thread of a block does which elements of a vector loop, and what does it keep in registers?

All vector loops over one range are shared out alike, so that an element is the same thread's in
each of them. Then scratch that is only used at a loop's own element needs no memory, and what one
loop has loaded another need not load again: a row that fits stays in the registers of its block.

Where elements lie next to each other a thread takes as many as make 16 bytes, in one access. That
needs every array to begin at a multiple of 16 bytes (the plan's contract with its host), and the
rows within it as well, which must be provable here; where it is not, threads take single elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.loops import Buffer, Kernel, linear
from graphc.codegen.scalar import BITS, Check, For, Store, Until, Value, walk
from graphc.dims import Bounds, Compound, Dim, Extent, affine, product, substitute

WARP = 32
BLOCK_SIZES = (32, 64, 128, 256)
# Blocks for rows that are so long that each thread of the largest of those would go round often.
LONG_BLOCKS = (512, 1024)
LONG_ROUNDS = 8
# Elements that a thread takes at least before a task is shared out to several blocks.
LANES_PER_THREAD = 4
# Bytes of the widest access to global memory, and the most elements in one.
WIDEST, MOST_ELEMENTS = 16, 8
# Registers, of 4 bytes, in which a thread keeps the elements of one array, and of all.
KEPT_OF_ONE, KEPT_OF_ALL = 32, 64
# Bytes of a block's scratch that are taken from shared memory: without asking for more than 48 KiB.
SHARED_SCRATCH = 32 << 10
# Elements next to each other of a row that is a warp's.
ROW_WIDTH = 4
# Tasks that one warp can do side by side in a block, where there are many.
ROWS_PER_BLOCK = 8
MANY_TASKS = 1024

Range = tuple[Extent, Extent]


@dataclass(frozen=True)
class Kept:
    """Elements of a buffer, one for each of a range, that stay in registers under a name."""

    name: str
    dtype: str
    rounds: int


@dataclass(eq=False)
class Lanes:
    """How the vector loops of a kernel run.

    A block has `block` threads, of which `threads` do a task (the warps of a block may do one
    each), or `parts` blocks do one together. `widths` are the elements that a thread takes next to
    each other, by range; `rounds` how often it takes some, where elements are kept. `kept` is by
    buffer and place; what is `flushed` goes to memory only at the end of the task, as the elements
    of the given loop. `shared` and `registers` are the scratch that is not in global memory.
    """

    block: int = BLOCK_SIZES[-1]
    threads: int = BLOCK_SIZES[-1]
    parts: int = 1
    widths: dict[Range, int] = field(default_factory=dict)
    rounds: dict[Range, int] = field(default_factory=dict)
    kept: dict[tuple[Buffer, Extent], Kept] = field(default_factory=dict)
    flushed: list[tuple[For, tuple[Buffer, Extent]]] = field(default_factory=list)
    shared: list[Buffer] = field(default_factory=list)
    registers: set[Buffer] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """Tasks that a block does side by side."""
        return self.block // self.threads

    def width(self, loop: For) -> int:
        return self.widths.get((loop.start, loop.stop), 1)

    def rounds_of(self, loop: For) -> int | None:
        """How often a thread goes round in a loop, if it keeps elements."""
        return self.rounds.get((loop.start, loop.stop))


@dataclass(frozen=True)
class Access:
    """One load or store of a loop; `place` is where, with the loop's variable named `LANE`."""

    buffer: Buffer
    statement: Any
    loop: For
    place: Extent
    step: Extent | None  # of the place, from element to element
    plain: bool  # without a mask or positions that data decide

    @property
    def stores(self) -> bool:
        return isinstance(self.statement, Store)


LANE = "_lane"


def planned(
    kernel: Kernel,
    live: set[int],
    group: Mapping[Buffer, int],
    writes: set[Buffer],
    alignment: Mapping[Buffer, int],
    bounds: Bounds,
    block: int | None = None,
) -> Lanes:
    """The lanes of a kernel that is a loop nest, in blocks of `block` threads if that is given.

    `group` numbers the memory of buffers, `writes` are those whose memory is written, `alignment`
    is what the addresses of buffers are multiples of, in bytes.
    """
    nest = kernel.nest
    assert isinstance(nest, For)
    loops = [s for s in walk(nest.body) if isinstance(s, For) and s.role == "vector"]
    simple = [loop for loop in loops if _is_simple(loop)]
    by_loop = {id(loop): list(accesses_of(loop, live)) for loop in simple}
    lanes = Lanes()
    ranges: dict[Range, list[For]] = {}
    for loop in loops:
        ranges.setdefault((loop.start, loop.stop), []).append(loop)
    for range_, alike in ranges.items():
        accesses = [a for loop in alike for a in by_loop.get(id(loop), ())]
        if all(id(loop) in by_loop for loop in alike):
            longest = longest_range(range_, bounds)
            most = MOST_ELEMENTS if longest is None else max(1, longest // WARP)
            lanes.widths[range_] = common_width(range_, accesses, alignment, most)
    _shape(lanes, kernel, nest, loops, live, writes, bounds, block)
    if lanes.parts > 1:
        return lanes
    every = [access for loop in loops for access in accesses_of(loop, live)]
    elsewhere = _touched_elsewhere(kernel, live, group, every)
    in_turn = [
        [s for s in statements if isinstance(s, For) and id(s) in by_loop]
        for statements in _scopes_in_turn(nest)
    ]

    def keep() -> None:
        lanes.kept, lanes.rounds, lanes.registers = {}, {}, set()
        lanes.shared, lanes.flushed = [], []
        keeper = _Keeper(lanes, group, writes, every, elsewhere)
        keeper.keep_throughout(in_turn[0], by_loop)
        for direct in in_turn:
            keeper.keep_within(direct, by_loop)
        _place_scratch(lanes, kernel)

    keep()
    if block in (None, ROWS_PER_BLOCK * WARP):
        _pack_rows(lanes, nest, loops, kernel)
    if block is not None and lanes.block != block:
        lanes.block = lanes.threads = block
        keep()
    return lanes


def planned_for_rows(
    kernel: Kernel,
    live: set[int],
    group: Mapping[Buffer, int],
    writes: set[Buffer],
    alignment: Mapping[Buffer, int],
    held: set[Buffer],
) -> Lanes:
    """The lanes of a kernel each of whose tasks a warp does, `ROW_WIDTH` elements at a time, with
    all vector loops over one range, directly in the task: of `held` buffers it has its elements in
    registers already.
    """
    nest = kernel.nest
    assert isinstance(nest, For)
    loops = [s for s in nest.body.statements if isinstance(s, For)]
    every = [access for loop in loops for access in accesses_of(loop, live)]
    by_loop = {
        id(loop): [
            access
            for access in accesses_of(loop, live)
            if access.buffer not in held and may_be_packed(access, alignment)
        ]
        for loop in loops
    }
    range_ = (loops[0].start, loops[0].stop)
    lanes = Lanes(block=ROWS_PER_BLOCK * WARP, threads=WARP, widths={range_: ROW_WIDTH})
    keeper = _Keeper(lanes, group, writes, every, _touched_elsewhere(kernel, live, group, every))
    keeper.keep_within(loops, by_loop)
    lanes.rounds[range_] = -(-int(range_[1]) // (WARP * ROW_WIDTH))  # type: ignore[call-overload]
    return lanes


def may_be_packed(access: Access, alignment: Mapping[Buffer, int]) -> bool:
    """Whether `ROW_WIDTH` elements of an access begin at a multiple of their bytes."""
    if not access.plain or not _is_next(access):
        return False
    start = substitute(access.place, {LANE: 0})
    bytes_ = ROW_WIDTH * access.buffer.item_bytes
    aligned = min(bytes_, WIDEST) <= alignment[access.buffer]
    return bytes_ <= WIDEST and aligned and divides(start, ROW_WIDTH)


def _is_simple(loop: For) -> bool:
    return not any(isinstance(s, (For, Until)) for s in loop.body.statements)


def accesses_of(loop: For, live: set[int]) -> Iterator[Access]:
    """The loads and stores of a vector loop, inner loops included."""
    for s in walk(loop.body):
        if isinstance(s, Store):
            plain = s.mask is None and not s.args
            yield _access(s.buffer, s, loop, linear(s.buffer, s.index), plain)
        elif isinstance(s, Value) and s.opcode == "load" and id(s) in live:
            address = s.immediate
            place = linear(address.buffer, address.index)
            yield _access(address.buffer, s, loop, place, not s.args)


def _access(buffer: Buffer, statement: Any, loop: For, place: Extent, plain: bool) -> Access:
    place = substitute(place, {loop.variable: Dim.symbol(LANE)})
    split = affine(place, LANE)
    return Access(buffer, statement, loop, place, None if split is None else split[0], plain)


# -- elements next to each other -------------------------------------------------------------------


def divides(extent: Extent, divisor: int) -> bool:
    """Whether an extent is certainly a multiple of `divisor`."""
    if isinstance(extent, int):
        return extent % divisor == 0
    return all(
        coefficient % divisor == 0 or any(_atom_divides(atom, divisor) for atom, _ in monomial)
        for monomial, coefficient in extent.terms
    )


def _atom_divides(atom: str | Compound, divisor: int) -> bool:
    if isinstance(atom, str) or atom.operator not in ("min", "max"):
        return False
    return all(divides(argument, divisor) for argument in atom.arguments)


def _is_next(access: Access) -> bool:
    return access.step == 1 and access.buffer.layout == "contiguous"


def common_width(
    range_: Range, accesses: Iterable[Access], alignment: Mapping[Buffer, int], most: int
) -> int:
    """How many elements of a range a thread takes in one access, `most` at most: 1 where some
    access, to elements that are next to each other, may not begin at a multiple of so many.
    """
    near = [access for access in accesses if _is_next(access)]
    if not any(access.plain for access in near):
        return 1
    start, stop = range_
    sizes = [access.buffer.item_bytes for access in near]
    width = min(WIDEST // max(sizes), MOST_ELEMENTS)
    while width > most:
        width //= 2
    while width > 1:
        rests = (substitute(access.place, {LANE: 0}) for access in near)
        aligned = all(
            divides(rest, width) and alignment[access.buffer] % (width * size) == 0
            for rest, access, size in zip(rests, near, sizes, strict=True)
        )
        if aligned and divides(start, width):
            return width
        width //= 2
    return 1


def packs(
    loop: For, width: int, accesses: Iterable[Access], group: Mapping[Buffer, int]
) -> set[int]:
    """The ids of the loads and stores of a loop that go `width` elements at a time.

    What is both read and written in the loop must be read before it is written, and at one place.
    """
    if width == 1:
        return set()
    mine = list(accesses)
    by_group: dict[int, list[Access]] = {}
    for access in mine:
        by_group.setdefault(group[access.buffer], []).append(access)
    found: set[int] = set()
    for alike in by_group.values():
        stores = [access.stores for access in alike]
        if any(stores) and len(alike) > 1:
            ordered = stores == sorted(stores) and stores.count(True) == 1
            same = len({(access.buffer, access.place) for access in alike}) == 1
            if not (ordered and same and all(access.plain for access in alike)):
                continue
        found.update(id(a.statement) for a in alike if a.plain and _is_next(a))
    return found


# -- the shape of a launch -------------------------------------------------------------------------


def longest_range(range_: Range, bounds: Bounds) -> int | None:
    """The most elements that a range can have, if that is known."""
    start, stop = range_
    stops: tuple[Extent, ...] = (stop,)
    if isinstance(stop, Dim) and len(stop.terms) == 1:
        monomial, coefficient = stop.terms[0]
        atom, power = monomial[0]
        lone = (len(monomial), power, coefficient) == (1, 1, 1)
        if lone and isinstance(atom, Compound) and atom.operator == "min":
            stops = atom.arguments
    limits = [bounds.interval(each - start)[1] for each in stops]
    return min((limit for limit in limits if limit is not None), default=None)


def _shape(
    lanes: Lanes,
    kernel: Kernel,
    nest: For,
    loops: list[For],
    live: set[int],
    writes: set[Buffer],
    bounds: Bounds,
    given: int | None,
) -> None:
    """The size of a block, and how many blocks share a task.

    Several may where lanes are all that there is: nothing is carried from one to another, nor kept
    in scratch, nor read for all of them from memory that one of them writes.
    """
    turns = []  # threads that could work at once
    for loop in loops:
        longest = longest_range((loop.start, loop.stop), bounds)
        turns.append(None if longest is None else -(-longest // lanes.width(loop)))
    block = BLOCK_SIZES[-1]
    known = [count for count in turns if count is not None]
    if len(known) == len(turns):
        most = max(known, default=1)
        block = next((size for size in BLOCK_SIZES if size >= most), block)
        for size in LONG_BLOCKS:
            block = size if most > LONG_ROUNDS * block else block
    if given is not None and block != WARP:
        block = given
    lanes.block = lanes.threads = block
    outside = [*kernel.body.statements, *nest.body.statements]
    others = [s for s in outside if isinstance(s, (Store, Check, For)) and s is not nest]
    carried = any(id(a) in live for loop in loops for a in loop.accumulators)
    scratch = any(buffer.space == "worker" for buffer in kernel.buffers)
    read = {s.immediate.buffer for s in outside if isinstance(s, Value) and s.opcode == "load"}
    alone = len(loops) == 1 and others == loops and not (carried or scratch or read & writes)
    if alone and known:
        each = block * max(1, LANES_PER_THREAD // lanes.width(loops[0]))
        lanes.parts = max(1, known[0] // each)


def _pack_rows(lanes: Lanes, nest: For, loops: list[For], kernel: Kernel) -> None:
    """Let each warp of a block do a task of its own, where a warp is enough for one."""
    tasks = nest.stop - nest.start
    few = isinstance(tasks, int) and tasks < MANY_TASKS
    scratch = [b for b in kernel.buffers if b.space == "worker" and b not in lanes.registers]
    if lanes.block != WARP or lanes.parts > 1 or few or scratch or not loops:
        return
    lanes.block = ROWS_PER_BLOCK * WARP


# -- what stays on the chip ------------------------------------------------------------------------


@dataclass(eq=False)
class _Keeper:
    """Chooses what threads keep in registers from one loop over a range to the next."""

    lanes: Lanes
    group: Mapping[Buffer, int]
    writes: set[Buffer]
    every: list[Access]  # in vector loops
    elsewhere: set[int]  # the memory that is touched outside of them
    budget: int = KEPT_OF_ALL

    def keep_within(self, loops: list[For], by_loop: Mapping[int, list[Access]]) -> None:
        """What the loops of one scope leave for each other: each runs once before the next."""
        for range_, places in self._places(loops, by_loop).items():
            for key, accesses in places.items():
                several = len({id(access.loop) for access in accesses}) > 1
                if not several or all(access.stores for access in accesses):
                    continue
                if key[0] in self.writes and not self._alone(key[0], accesses):
                    continue
                self._keep(range_, key)

    def keep_throughout(self, loops: list[For], by_loop: Mapping[int, list[Access]]) -> None:
        """What the task begins in one of `loops`, and inner loops only add to."""
        for range_, places in self._places(loops, by_loop).items():
            for key, accesses in places.items():
                alike = [a for a in self.every if (a.buffer, a.place) == key]
                if not accesses[0].stores or len(alike) == len(accesses):
                    continue
                same = all((a.loop.start, a.loop.stop) == range_ and a.plain for a in alike)
                if same and self._alone(key[0], alike) and self._keep(range_, key):
                    self.lanes.flushed.append((accesses[0].loop, key))

    def _places(
        self, loops: list[For], by_loop: Mapping[int, list[Access]]
    ) -> dict[Range, dict[tuple[Buffer, Extent], list[Access]]]:
        """By range and place: the accesses of elements that threads could keep."""
        found: dict[Range, dict[tuple[Buffer, Extent], list[Access]]] = {}
        for loop in loops:
            if loop.start == 0 and isinstance(loop.stop, int) and loop.stop:
                places = found.setdefault((loop.start, loop.stop), {})
                for access in by_loop[id(loop)]:
                    if access.plain and _is_next(access):
                        places.setdefault((access.buffer, access.place), []).append(access)
        return found

    def _alone(self, buffer: Buffer, accesses: list[Access]) -> bool:
        """Whether nothing else touches the memory of a buffer."""
        own = {id(access.statement) for access in accesses}
        group = self.group[buffer]
        return group not in self.elsewhere and all(
            id(a.statement) in own for a in self.every if self.group[a.buffer] == group
        )

    def _keep(self, range_: Range, key: tuple[Buffer, Extent]) -> bool:
        lanes, buffer = self.lanes, key[0]
        if key in lanes.kept:
            return False
        width = lanes.widths.get(range_, 1)
        rounds = -(-int(range_[1]) // (lanes.threads * width))  # type: ignore[call-overload]
        cost = rounds * width * max(1, BITS[buffer.dtype] // 32)
        if cost > KEPT_OF_ONE or cost > self.budget:
            return False
        self.budget -= cost
        name = f"kept{len(lanes.kept)}_{buffer.name}"
        lanes.kept[key] = Kept(name, buffer.dtype, rounds)
        lanes.rounds[range_] = rounds
        if buffer.space == "worker":
            lanes.registers.add(buffer)
        return True


def _scopes_in_turn(nest: For) -> Iterator[list[Any]]:
    """The statements of a task, then those of each loop in order within it."""
    waiting = [nest]
    while waiting:
        loop = waiting.pop(0)
        yield loop.body.statements
        waiting += [s for s in loop.body.statements if isinstance(s, For) and s.role == "serial"]


def _touched_elsewhere(
    kernel: Kernel, live: set[int], group: Mapping[Buffer, int], inside: Iterable[Access]
) -> set[int]:
    """The memory that is touched outside of vector loops."""
    known = {id(access.statement) for access in inside}
    return {
        group[s.buffer if isinstance(s, Store) else s.immediate.buffer]
        for s in walk(kernel.body)
        if (isinstance(s, Store) or isinstance(s, Value) and s.opcode == "load" and id(s) in live)
        and id(s) not in known
    }


def _place_scratch(lanes: Lanes, kernel: Kernel) -> None:
    """Scratch of known size goes to shared memory as long as there is room."""
    room = SHARED_SCRATCH
    for buffer in kernel.buffers:
        if buffer.space != "worker" or buffer in lanes.registers:
            continue
        size = product(buffer.shape) * buffer.item_bytes
        if isinstance(size, int) and 0 < size <= room:
            lanes.shared.append(buffer)
            room -= -(-size // WIDEST) * WIDEST


__all__ = [
    "LANE",
    "ROW_WIDTH",
    "WARP",
    "Access",
    "Kept",
    "Lanes",
    "accesses_of",
    "common_width",
    "divides",
    "may_be_packed",
    "packs",
    "planned",
    "planned_for_rows",
]
