"""How are the sums of neighbouring rows finished?  Together, as many rows as a register has lanes.

A row that is reduced in lanes ends as one vector, whose halves are added onto each other until one
lane is left: for short rows that takes longer than to read them. Two rows share each of these
additions, then four, until a vector holds the sums of as many rows as it has lanes, which are
stored at once. Each row's halves are added in the order in which they are for a row by itself, so
the sums have the same bits.

LLVM would read all these rows in an order of its own, which memory does not foresee: rows that are
long together are read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.lanes import choose_lanes
from graphc.codegen.llvm.accumulators import Accumulators
from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import llvm_type
from graphc.codegen.llvm.shuffles import Shuffles
from graphc.codegen.loops import linear, most_steps
from graphc.codegen.machine import Machine
from graphc.codegen.recurrence import carried_loads
from graphc.codegen.scalar import BITS, Accumulate, Accumulator, For, Store, Value
from graphc.dims import affine, symbols_of

# A body that does more is not short, and would be long if it were there for every row.
MOST_STATEMENTS = 24
# In any order, so many bytes are read as fast as they come. (Measured on Zen 4, 400,000 rows of 32
# doubles: 4.4 ms in order or by 512 bytes, 5.0 by 1024 bytes, 5.7 by 2048.)
ANY_ORDER_BYTES = 512
_FENCE = 'call void asm sideeffect "", "~{memory}"()'
_DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class RowSums:
    """A loop over rows that do nothing but to reduce themselves in lanes and to store the results;
    `count` of them are done at once.
    """

    loop: For
    rows: tuple[For, ...]
    stores: tuple[tuple[Store, Accumulator], ...]
    count: int

    @property
    def in_any_order(self) -> int:
        """How many rows may be read in any order."""
        longest = max(most_steps(row.start, row.stop) or 0 for row in self.rows)
        size = max(BITS[a.dtype] // 8 for row in self.rows for a in row.accumulators)
        return max(1, ANY_ORDER_BYTES // (longest * size))

    def shared_loads(self, machine: Machine) -> list[Value]:
        """The loads that are the same for every row, if their vectors take half of the registers at
        most: memory would else be asked again for each row, as what lies between two of them may
        have changed it for all that LLVM knows.
        """
        found, vectors = [], 0
        for row in self.rows:
            for s in row.body.statements:
                if not isinstance(s, Value) or s.opcode != "load" or s.args:
                    continue
                address = s.immediate
                place = symbols_of(linear(address.buffer, address.index))
                if self.loop.variable in map(str, place):
                    continue
                steps = most_steps(row.start, row.stop) or 0
                found.append(s)
                vectors += -(-steps * address.buffer.item_bytes // machine.vector_bytes)
        return found if 2 * vectors <= machine.vector_registers else []


def row_sums(loop: For, vector_bytes: int) -> RowSums | None:
    """What a loop sums up, if it is such a loop."""
    rows = tuple(s for s in loop.body.statements if isinstance(s, For))
    accumulators = [a for row in rows for a in row.accumulators]
    widths = {BITS[a.dtype] if a.dtype in _DTYPES else 0 for a in accumulators}
    if loop.accumulators or len(widths) != 1 or 0 in widths or any(carried_loads(loop)):
        return None
    count = vector_bytes * 8 // widths.pop()
    if count < 4 or not all(_is_short(row, count, vector_bytes) for row in rows):
        return None
    if any(_reads_results(row, loop) for row in rows):
        return None
    stores = []
    for s in loop.body.statements:
        if isinstance(s, Store) and _follows(s, loop.variable):
            stores.append((s, s.value.immediate))
        elif not isinstance(s, For) and not (isinstance(s, Value) and s.opcode == "result"):
            return None
    return RowSums(loop, rows, tuple(stores), count)


def _is_short(row: For, count: int, vector_bytes: int) -> bool:
    """Whether a row is a loop in lanes, at least a register of them, that computes and adds up."""
    static = isinstance(row.start, int) and isinstance(row.stop, int)
    plain = all(isinstance(s, (Value, Accumulate)) for s in row.body.statements)
    if row.role != "vector" or not static or not plain:
        return False
    lanes = choose_lanes(row, vector_bytes)
    return lanes >= count and len(row.body.statements) <= MOST_STATEMENTS


def _reads_results(row: For, loop: For) -> bool:
    """Whether a row is computed from what another one of the loop came to: that is complete only
    when all rows are.
    """
    found = {s for s in loop.body.statements if isinstance(s, Value)}
    read: set[Value | None] = set()
    for s in row.body.statements:
        if isinstance(s, Value):
            read.update(s.args)
        elif isinstance(s, Accumulate):
            read.update((s.value, s.mask, s.factor))
    return not found.isdisjoint(read)


def _follows(store: Store, variable: str) -> bool:
    """Whether what a row stores is a result of its own, beside that of the row before it."""
    if store.args or store.mask is not None or store.buffer.layout != "contiguous":
        return False
    is_result = store.value.opcode == "result" and isinstance(store.value.immediate, Accumulator)
    split = affine(linear(store.buffer, store.index), variable)
    return is_result and split is not None and split[0] == 1


class RowSumsWriter:
    """Writes `count` rows of such a loop; `reduced` writes a loop in lanes, and tells how many its
    accumulators have and what is in them.
    """

    def __init__(
        self,
        indices: Indices,
        accumulators: Accumulators,
        reduced: Callable[[Level, For], tuple[int, dict[Accumulator, str]]],
    ) -> None:
        self.indices, self.values = indices, indices.values
        self.accumulators = accumulators
        self.shuffles = Shuffles(indices.values)
        self.reduced = reduced

    def write(self, level: Level, sums: RowSums, position: str) -> None:
        """Rows from `position` on."""
        states = self._tree(level, sums, position, 0, sums.count)
        for store, accumulator in sums.stores:
            size, typed = store.buffer.item_bytes, llvm_type(accumulator.dtype, sums.count)
            total = self.accumulators.begun(level, accumulator, states[accumulator], sums.count)
            _, place = self.indices.place(level, store.buffer, store.index, ())
            level.put(f"store {typed} {total}, ptr {place}, align {size}")

    def _tree(
        self, level: Level, sums: RowSums, position: str, first: int, rows: int
    ) -> dict[Accumulator, str]:
        """For each accumulator a register with the sums of some rows, in so many parts of it."""
        if rows == 1:
            return self._row(level, sums, position, first)
        half = rows // 2
        low = self._tree(level, sums, position, first, half)
        high = self._tree(level, sums, position, first + half, half)
        return {a: self._pair(level, a, (low[a], high[a]), sums.count, half) for a in low}

    def _pair(
        self, level: Level, a: Accumulator, pair: tuple[str, str], lanes: int, parts: int
    ) -> str:
        """Of two registers with as many rows in parts, one with all rows in parts half as long."""
        size = lanes // parts
        lower = [k for k in range(2 * lanes) if k % size < size // 2]
        upper = [k + size // 2 for k in lower]
        typed = llvm_type(a.dtype, lanes)
        halves = [self.shuffles.shuffled(level, pair, typed, picks) for picks in (lower, upper)]
        return self.accumulators.combined(level, a, halves[0], halves[1], lanes)

    def _row(
        self, level: Level, sums: RowSums, position: str, number: int
    ) -> dict[Accumulator, str]:
        """What one row has in a register."""
        row = Level(sums.loop.body, level, block=level.block)
        row.symbols[sums.loop.variable] = position
        if number:
            row.symbols[sums.loop.variable] = self.values.fresh("i")
            row.put(f"{row.symbols[sums.loop.variable]} = add nsw i64 {position}, {number}")
        if number % sums.in_any_order == 0:
            row.put(_FENCE)
        found: dict[Accumulator, str] = {}
        for loop in sums.rows:
            lanes, states = self.reduced(row, loop)
            for a, state in states.items():
                found[a] = self.accumulators.combine_lanes(row, a, state, lanes, sums.count)
        level.lines.extend(row.lines)
        level.block = row.block
        return found
