"""Which loops compute one register tile of a matrix product?

Every kernel takes sizes and byte strides at run time, so a handful serve all shapes:

- `tile_kernel`: out[rows, columns] (+)= sum over k of left[:, k] * right[k, :], with the sums in
  registers. The rows of a kernel are exact; its columns are a whole number of vectors.
- `dot_kernel`: the same where both operands are contiguous along k, which is faster when one of
  the two sides is much narrower than a vector.
- `stream_kernel`: a few rows of the left operand against rows of the right one as they lie, for
  products that read the right operand only once.

A machine with lane masks uses them at the right edge. Any other computes full vectors into a
scratch tile there, from a packed panel (`packing`), so that its kernels contain no masks at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphc.codegen.irtext import Function, Operand, TypedOperand, VectorType
from graphc.codegen.loops import LINE_BYTES
from graphc.codegen.machine import Machine

ELEMENTS = {"float32": "float", "float64": "double"}
SHORT_NAMES = {"float32": "f32", "float64": "f64"}
DOT_TILE = (4, 2, 1)  # rows and columns of the dot kernels
STREAM_ROWS = (4, 3, 2, 1)
STREAM_DEPTH = (4, 8)  # rows of right that are added at a time, at least and at most
LEAST_SUMS = 8  # vectors that are added to in turn, while one addition takes its time
RUN_BYTES = 128  # a row of a panel of this size is worth reading from afar: two cache lines
BESIDE_BYTES = 512  # of a row of an operand that are packed at once
MOST_BESIDE = 8  # panels of it
PREFETCH_DEPTH = 64  # a shorter loop over k ends before the lines of out have arrived


def family(dtype: str) -> str:
    """The name of the family of kernels for ``float32`` or ``float64``."""
    return f"graphc_gemm_{SHORT_NAMES[dtype]}"


@dataclass(frozen=True)
class Tile:
    """The register tile of a machine for one dtype: ``rows`` by ``vectors`` vectors of columns."""

    dtype: str
    machine: Machine
    vector: VectorType
    rows: int
    vectors: int

    @staticmethod
    def of(dtype: str, machine: Machine) -> Tile:
        """Fill the registers with sums, leaving room for one row of vectors and one broadcast.

        Wide vectors take two to a row: more would waste lanes at the right edge of C. Narrow ones
        take three, which needs fewer loads for each multiplication. Rows come in groups that
        share a pointer.
        """
        element = ELEMENTS[dtype]
        width = VectorType(element, 1).bytes
        vector = VectorType(element, machine.vector_bytes // width)
        many_registers = machine.vector_registers >= 32
        vectors = 3 if many_registers and machine.vector_bytes < 32 else 2
        rows = (machine.vector_registers - vectors - 1) // vectors
        group = machine.rows_per_pointer
        return Tile(dtype, machine, vector, rows // group * group, vectors)

    @property
    def columns(self) -> int:
        return self.vectors * self.vector.lanes

    @property
    def row_bytes(self) -> int:
        """Of one row of the tile, or of a panel of the right operand."""
        return self.vectors * self.vector.bytes

    @property
    def long_runs(self) -> bool:
        """Whether a row of a panel is worth reading from afar. Narrow ones mostly lie across lines
        of memory, and are fewer to pack: 128^3 float32 0.73 of the peak in place, 0.82 packed.
        """
        return self.row_bytes >= RUN_BYTES

    @property
    def heights(self) -> tuple[int, ...]:
        """Rows of the kernels, largest first: the full tile, then what remains at the bottom."""
        return (self.rows, *(rows for rows in (8, 4, 3, 2, 1) if rows < self.rows))

    @property
    def tabled_heights(self) -> tuple[int, ...]:
        """The same where each row has a pointer of its own: as many as there are registers for."""
        most = min(self.rows, self.machine.row_pointers)
        return (most, *(rows for rows in (8, 4, 3, 2, 1) if rows < most))

    @property
    def prefix(self) -> str:
        """What the names of all functions of the family begin with."""
        return family(self.dtype)

    @property
    def evened_rests(self) -> tuple[int, ...]:
        """Rows at the bottom that go together with a full tile into two lower ones: they are so few
        that their sums alone would wait for each other.
        """
        lower = self.heights[1:]
        return tuple(
            rest
            for rest in range(1, self.rows)
            if rest * self.vectors < LEAST_SUMS
            and any(self.rows + rest - height in lower for height in lower)
        )

    def cut_rows(
        self, rows: int, tabled: bool = False, packed: bool = False
    ) -> Iterator[tuple[int, int, int]]:
        """How so many rows are cut from top to bottom: rows of a kernel, the first of them, and how
        often it is called. Panels of ``packed`` rows are as high as a full tile.
        """
        row, rest = 0, rows % self.rows
        evened = self.rows if rest in self.evened_rests and not (tabled or packed) else 0
        for height in self.tabled_heights if tabled else self.heights:
            below = evened if height == self.rows else 0
            count = max(rows - row - below, 0) // height
            if count:
                yield height, row, count
            row += count * height

    def cut_columns(self, columns: int) -> Iterator[tuple[int, int, int]]:
        """The same for columns: whole panels, and what is left."""
        whole, rest = divmod(columns, self.columns)
        if whole:
            yield self.columns, 0, whole
        if rest:
            yield rest, whole * self.columns, 1

    def kernel_name(
        self, rows: int, vectors: int, edge: bool = False, tabled: bool = False
    ) -> str:
        kind = ("edge" if edge else "tile") + ("_tabled" if tabled else "")
        return f"{self.prefix}_{kind}_{rows}x{vectors}"

    def dot_name(self, rows: int, columns: int) -> str:
        return f"{self.prefix}_dot_{rows}x{columns}"

    def stream_name(self, rows: int) -> str:
        return f"{self.prefix}_stream_{rows}"

    def pack_name(self, side: str) -> str:
        return f"{self.prefix}_pack_{side}"

    def panels_beside(self, side: str) -> int:
        """How many panels are copied at once: runs of memory that hide its latency."""
        width = self.rows if side == "left" else self.columns
        return max(1, min(MOST_BESIDE, BESIDE_BYTES // (width * self.vector.element_bytes)))

    def beside_name(self, side: str) -> str:
        return f"{self.prefix}_beside_{side}"

    @property
    def lay_name(self) -> str:
        return f"{self.prefix}_lay_right"


# Arguments, in order, of every kernel that computes an out tile: the addresses of the first
# element of left, right and out; then bytes from row to row (left, out) and from k to k + 1; the
# address of a line that will be needed soon, and bytes from it to the one to ask for at k + 1;
# where the sums are stored, which may be out, and bytes from row to row there; how many tiles are
# computed, one below the other, and bytes from the rows of left of one to those of the next, and
# from the line ahead of one to that of the next.
TILE_PARAMETERS = (
    "ptr noalias left, ptr noalias right, ptr out, i64 depth, i64 left_row, i64 left_step,"
    "i64 right_step, i64 out_row, i64 columns, i64 accumulate, ptr ahead, i64 ahead_step,"
    "ptr to, i64 to_row, i64 tiles, i64 left_tile, i64 ahead_tile"
)
TILE_TYPES = ("ptr", "ptr", "ptr", *["i64"] * 7, "ptr", "i64", "ptr", *["i64"] * 4)
# Of a kernel that finishes its tiles, after these: the context of the epilogue, the first row and
# column of the first tile, and its batch.
FINISH_PARAMETERS = TILE_PARAMETERS + ", ptr frame, i64 row, i64 column, i64 batch"
FINISH_TYPES = (*TILE_TYPES, "ptr", "i64", "i64", "i64")


@dataclass(frozen=True)
class Finish:
    """What a kernel called `name` does with the sums of each tile, instead of storing them.

    `ask` writes what asks for all that is needed for that, of the tile whose first row it is given;
    `write` what is done, given the first row and the vectors of all rows.
    """

    name: str
    ask: Callable[[Function, Operand], None]
    write: Callable[[Function, Operand, list[Operand]], None]


def tile_kernel(
    tile: Tile,
    rows: int,
    vectors: int,
    edge: bool = False,
    tabled: bool = False,
    finish: Finish | None = None,
) -> Function:
    """Register tiles of ``rows`` by ``vectors``, ``tiles >= 1`` of them; ``depth >= 1``.

    An ``edge`` kernel (for machines with masks) touches only the first ``columns`` columns of it,
    which costs 2 to 4 % of speed; any other ignores ``columns``. ``accumulate`` adds what out holds
    to the sums. For a ``tabled`` kernel, of a single tile, ``left_row`` and
    ``left_step`` are the addresses of tables: of the offset in bytes of each row, and of each k;
    it has no registers left to ask for lines ahead. One that is to `finish` its tiles has the
    parameters of `FINISH_PARAMETERS`, and ignores ``to``.
    """
    vector = tile.vector
    if finish is None:
        f = Function(tile.kernel_name(rows, vectors, edge, tabled), TILE_PARAMETERS)
    else:
        f = Function(finish.name, FINISH_PARAMETERS, values="u")
    left, _, out, depth, _, _, _, out_row, columns, _ = f.parameters[:10]
    ahead, _, to, to_row, tiles, left_tile, ahead_tile = f.parameters[10:17]
    masks = [
        f.mask_below(vector, f.subtract(columns, j * vector.lanes)) if edge else None
        for j in range(vectors)
    ]
    # A short loop ends before lines of its own tile have arrived: it fetches those of the next.
    short = f.compare("slt", depth, PREFETCH_DEPTH)
    below = f.select(short, f.multiply(out_row, rows), 0)
    fetched = [] if tabled else [ahead]
    firsts: list[TypedOperand] = [("ptr", first) for first in (left, out, to, *fetched)]
    with f.repeat(tiles, firsts) as tile_loop:
        left, out, to, *fetched = tile_loop.carried
        for row in _rows_from(f, f.at(out, below), out_row, rows):
            prefetch_row(f, row, vectors * vector.bytes)
        first_row: Operand = 0
        if finish is not None:
            first_row = f.add(f.parameters[18], f.multiply(tile_loop.index, rows))
            finish.ask(f, f.add(first_row, f.select(short, rows, 0)))
        walk = (_WalkByTables if tabled else _WalkBySteps)(f, tile, rows, left)
        sums = _summed(f, tile, rows, walk, masks, fetched)
        totals = _accumulated(f, vector, masks, sums, out)
        if finish is None:
            places = _places(f, vector, masks, to, to_row, rows)
            for (address, mask), value in zip(places, totals, strict=True):
                f.store_lanes(vector, value, address, mask)
        else:
            finish.write(f, first_row, totals)
        tile_loop.next = [
            f.at(left, left_tile),
            f.at(out, f.multiply(out_row, rows)),
            f.at(to, f.multiply(to_row, rows)),
            *(f.at(line, ahead_tile) for line in fetched),
        ]
    return f


def _summed(
    f: Function,
    tile: Tile,
    rows: int,
    walk: _WalkByTables | _WalkBySteps,
    masks: Sequence[str | None],
    fetched: Sequence[Operand],
) -> list[Operand]:
    """The loop over k: sums of a tile whose rows of left are found by `walk`, one vector for each
    of `masks` in a row. Lines from `fetched` on are asked for as it goes.
    """
    vector, vectors = tile.vector, len(masks)
    right, depth, right_step, ahead_step = (f.parameters[i] for i in (1, 3, 6, 11))
    zeros: list[TypedOperand] = [(vector.text, "zeroinitializer")] * (rows * vectors)
    pointers: list[TypedOperand] = [("ptr", p) for p in [*walk.starts, *fetched, right]]
    with f.repeat(depth, [*pointers, *zeros]) as loop:
        *lefts, here = loop.carried[: len(pointers)]
        lines = [lefts.pop() for _ in fetched]
        for line in lines:
            f.prefetch(line, 2)
        sums = loop.carried[len(pointers) :]
        addresses = walk.addresses(lefts)
        b = [f.load_lanes(vector, f.at(here, j * vector.bytes), masks[j]) for j in range(vectors)]
        new: list[Operand] = []
        for i in range(rows):
            a = f.splat(vector, f.load(vector.element, addresses[i], vector.element_bytes))
            for j in range(vectors):
                new.append(_multiply_add(f, tile, a, b[j], sums[i * vectors + j]))
        following = [f.at(line, ahead_step) for line in lines]
        loop.next = [*walk.moved(lefts), *following, f.at(here, right_step), *new]
    return list(loop.next[len(pointers) :])


def _accumulated(
    f: Function,
    vector: VectorType,
    masks: Sequence[str | None],
    sums: Sequence[Operand],
    out: Operand,
) -> list[Operand]:
    """The sums of a tile, on top of what is at ``out`` if the kernel accumulates; ``masks`` are
    those of the vectors of a row.
    """
    accumulate, out_row = f.parameters[9], f.parameters[7]
    rows = len(sums) // len(masks)
    with f.when(f.compare("ne", accumulate, 0)) as adding:
        added = [
            f.let(f"fadd {vector.text} {f.load_lanes(vector, address, mask)}, {total}")
            for (address, mask), total in zip(
                _places(f, vector, masks, out, out_row, rows), sums, strict=True
            )
        ]
    return [adding.merge(vector.text, a, b) for a, b in zip(added, sums, strict=True)]


def _places(
    f: Function,
    vector: VectorType,
    masks: Sequence[str | None],
    first: Operand,
    row: Operand,
    rows: int,
) -> list[tuple[Operand, str | None]]:
    """Where the vectors of so many rows are, and their masks."""
    starts = _rows_from(f, first, row, rows)
    return [(f.at(p, j * vector.bytes), mask) for p in starts for j, mask in enumerate(masks)]


class _WalkBySteps:
    """Rows of the left operand a stride apart, as are their elements."""

    def __init__(self, f: Function, tile: Tile, rows: int, left: Operand) -> None:
        left_row, self._step = f.parameters[4:6]
        self._f, self._rows = f, rows
        self._together = tile.machine.rows_per_pointer
        together = min(self._together, rows)
        self._offsets = [f.multiply(left_row, number) for number in range(together)]
        groups = range(0, rows, self._together)
        self.starts: list[Operand] = [
            f.at(left, f.multiply(left_row, first)) for first in groups
        ]

    def addresses(self, pointers: Sequence[Operand]) -> list[Operand]:
        places = (divmod(i, self._together) for i in range(self._rows))
        return [self._f.at(pointers[group], self._offsets[place]) for group, place in places]

    def moved(self, pointers: Sequence[Operand]) -> list[Operand]:
        return [self._f.at(pointer, self._step) for pointer in pointers]


class _WalkByTables:
    """Rows anywhere, and the same offsets from each: what moves is the place in their table."""

    def __init__(self, f: Function, tile: Tile, rows: int, left: Operand) -> None:
        del tile
        left_row, left_step = f.parameters[4:6]
        self._f = f
        table = f.let(f"inttoptr i64 {left_row} to ptr")
        self._lines = [f.at(left, f.word(table, i)) for i in range(rows)]
        self.starts: list[Operand] = [f.let(f"inttoptr i64 {left_step} to ptr")]

    def addresses(self, pointers: Sequence[Operand]) -> list[Operand]:
        offset = self._f.word(pointers[0], 0)
        return [self._f.at(line, offset) for line in self._lines]

    def moved(self, pointers: Sequence[Operand]) -> list[Operand]:
        return [self._f.at(pointers[0], 8)]


DOT_PARAMETERS = (
    "ptr noalias left, ptr noalias right, ptr noalias out, i64 depth, i64 left_row,"
    "i64 right_column, i64 out_row, i64 accumulate"
)
DOT_TYPES = ("ptr", "ptr", "ptr", "i64", "i64", "i64", "i64", "i64")


def dot_kernel(tile: Tile, rows: int, columns: int) -> Function:
    """``rows * columns`` dot products of vectors that are contiguous along k; ``depth >= 0``.

    The terms of one lane are added first, then the lanes, so the order of additions differs from
    that of `tile_kernel`. Few sums cannot hide the latency of an addition, so small tiles keep
    several partial sums of each.
    """
    vector, size = tile.vector, tile.vector.element_bytes
    f = Function(tile.dot_name(rows, columns), DOT_PARAMETERS)
    left, right, out, depth, left_row, right_column, out_row, accumulate = f.parameters
    lefts = _rows_from(f, left, left_row, rows)
    rights = _rows_from(f, right, right_column, columns)
    dots = _Dots(f, tile, lefts, rights)
    sums, through = dots.in_vectors(depth)
    rest = f.subtract(depth, f.divide(through, size))
    row_type = VectorType(vector.element, columns)
    if tile.machine.has_masks:
        with f.when(f.compare("sgt", rest, 0)) as tail:
            last = dots.added(through, sums, f.mask_below(vector, rest))
        sums = [tail.merge(vector.text, a, b) for a, b in zip(last, sums, strict=True)]
        totals = _totals(f, vector, sums, row_type)
    else:
        totals = _totals(f, vector, sums, row_type)
        totals = dots.one_by_one(through, f.multiply(depth, size), totals, row_type)
    outs = _rows_from(f, out, out_row, rows)
    with f.when(f.compare("ne", accumulate, 0)) as adding:
        added = [
            f.let(f"fadd {row_type.text} {f.load(row_type.text, p, size)}, {total}")
            for p, total in zip(outs, totals, strict=True)
        ]
    values = [adding.merge(row_type.text, a, b) for a, b in zip(added, totals, strict=True)]
    for p, value in zip(outs, values, strict=True):
        f.store(row_type.text, value, p, size)
    return f


@dataclass(frozen=True)
class _Dots:
    """The sums of a dot kernel, one for each pair of vectors: how terms are added to them."""

    f: Function
    tile: Tile
    lefts: list[Operand]
    rights: list[Operand]

    def added(
        self, offset: Operand, sums: Sequence[Operand], mask: str | None = None
    ) -> list[Operand]:
        """The sums, with as many terms at an offset added as a register has lanes."""
        f, vector = self.f, self.tile.vector
        a = [f.load_lanes(vector, f.at(p, offset), mask) for p in self.lefts]
        b = [f.load_lanes(vector, f.at(p, offset), mask) for p in self.rights]
        pairs = [(x, y) for x in a for y in b]
        return [
            _multiply_add(f, self.tile, x, y, total)
            for (x, y), total in zip(pairs, sums, strict=True)
        ]

    def in_vectors(self, depth: Operand) -> tuple[list[Operand], Operand]:
        """Add all whole registers of terms, several at a time first; returns the sums, in lanes,
        and the offset in bytes that was reached.
        """
        f, vector, pairs = self.f, self.tile.vector, len(self.lefts) * len(self.rights)
        parts = max(1, 8 // pairs)
        zeros: list[Operand] = ["zeroinitializer"] * (pairs * parts)
        whole = f.multiply(f.divide(depth, parts * vector.lanes), parts * vector.bytes)
        with f.loop(0, whole, parts * vector.bytes, _typed(vector.text, zeros)) as loop:
            for part in range(parts):
                own = loop.carried[part * pairs : (part + 1) * pairs]
                loop.next += self.added(f.add(loop.index, part * vector.bytes), own)
        sums: list[Operand] = list(loop.carried[:pairs])
        for part in range(1, parts):
            own = loop.carried[part * pairs : (part + 1) * pairs]
            sums = [f.let(f"fadd {vector.text} {a}, {b}") for a, b in zip(sums, own, strict=True)]
        vectors = f.multiply(f.divide(depth, vector.lanes), vector.bytes)
        with f.loop(whole, vectors, vector.bytes, _typed(vector.text, sums)) as loop:
            loop.next = self.added(loop.index, loop.carried)
        return list(loop.carried), vectors

    def one_by_one(
        self, start: Operand, stop: Operand, totals: list[Operand], row_type: VectorType
    ) -> list[Operand]:
        """The totals, a short vector for each row, with the terms between two offsets added."""
        f, vector, has_fma = self.f, self.tile.vector, self.tile.machine.has_fma
        size = vector.element_bytes
        with f.loop(start, stop, size, _typed(row_type.text, totals)) as loop:
            scalars = [f.load(vector.element, f.at(p, loop.index), size) for p in self.rights]
            b = _gathered(f, row_type, scalars)
            for p, total in zip(self.lefts, loop.carried, strict=True):
                a = f.load(vector.element, f.at(p, loop.index), size)
                loop.next.append(f.multiply_add(row_type, f.splat(row_type, a), b, total, has_fma))
        return list(loop.carried)


STREAM_PARAMETERS = (
    "ptr noalias left, ptr noalias right, ptr noalias out, i64 depth, i64 left_row, i64 left_step,"
    "i64 right_step, i64 out_row, i64 columns, i64 accumulate"
)
STREAM_TYPES = ("ptr", "ptr", "ptr", *["i64"] * 7)


def stream_kernel(tile: Tile, rows: int) -> Function:
    """``rows`` rows of out over a range of columns, reading whole rows of the right operand.

    Several rows of the right operand are added at a time, so that out, which stays in the first
    level of cache, is loaded and stored once for all of them. They are four even where registers do
    not hold all their factors: one that lies in memory, in all lanes, costs less than out does (4 x
    512 x 512 float32 37 us by two of them, 28 by four, which is the rate of the third level).
    """
    vector = tile.vector
    f = Function(tile.stream_name(rows), STREAM_PARAMETERS)
    left, right, out, depth, left_row, left_step, right_step, out_row, columns, accumulate = (
        f.parameters
    )
    lefts, outs = _rows_from(f, left, left_row, rows), _rows_from(f, out, out_row, rows)
    row_bytes = f.multiply(columns, vector.element_bytes)
    whole = f.multiply(f.divide(columns, vector.lanes), vector.bytes)
    rest = f.subtract(columns, f.divide(whole, vector.element_bytes))
    mask = f.mask_below(vector, rest) if tile.machine.has_masks else None
    stream = _Stream(f, tile, outs, whole, row_bytes, rest, mask)
    with f.when(f.compare("eq", accumulate, 0)):
        stream.clear()

    def add_rows(k: Operand, count: int) -> None:
        """Add rows k .. k + count - 1 of the right operand to out."""
        offset = f.multiply(k, left_step)
        factors: list[list[Operand]] = [
            [
                f.load(vector.element, p, vector.element_bytes)
                for p in _rows_from(f, f.at(start, offset), left_step, count)
            ]
            for start in lefts
        ]
        splats = [[f.splat(vector, factor) for factor in line] for line in factors]
        rights = _rows_from(f, f.at(right, f.multiply(k, right_step)), right_step, count)
        stream.add(factors, splats, rights)

    least, most = STREAM_DEPTH
    at_a_time = max(least, min(most, tile.machine.vector_registers // (2 * rows)))
    grouped = f.multiply(f.divide(depth, at_a_time), at_a_time)
    with f.loop(0, grouped, at_a_time) as loop:
        add_rows(loop.index, at_a_time)
    with f.loop(grouped, depth) as loop:
        add_rows(loop.index, 1)
    return f


@dataclass(frozen=True)
class _Stream:
    """The rows of out of a stream kernel: up to the offset `whole` in registers, from there to
    `row_bytes` the `rest` of the columns, under a mask or one by one.
    """

    f: Function
    tile: Tile
    outs: list[Operand]
    whole: Operand
    row_bytes: Operand
    rest: Operand
    mask: str | None

    def clear(self) -> None:
        f, vector = self.f, self.tile.vector
        for p in self.outs:
            with f.loop(0, self.whole, vector.bytes) as loop:
                f.store_lanes(vector, "zeroinitializer", f.at(p, loop.index), None)
            with f.loop(self.whole, self.row_bytes, vector.element_bytes) as loop:
                f.store(vector.element, "0.0", f.at(p, loop.index), vector.element_bytes)

    def add(
        self, factors: list[list[Operand]], splats: list[list[str]], rights: list[Operand]
    ) -> None:
        """Add rows of the right operand, each times its factor for every row of out; `splats` are
        the factors in all lanes.
        """
        f = self.f
        with f.loop(0, self.whole, self.tile.vector.bytes) as loop:
            self._add_lanes(splats, rights, loop.index, None)
        if self.mask is None:
            self._add_one_by_one(factors, rights)
            return
        with f.when(f.compare("sgt", self.rest, 0)):
            self._add_lanes(splats, rights, self.whole, self.mask)

    def _add_lanes(
        self,
        splats: list[list[str]],
        rights: list[Operand],
        place: Operand,
        mask: str | None,
    ) -> None:
        # All loads before all stores: rows of out at equal offsets in their pages would otherwise
        # seem to depend on each other.
        f, vector = self.f, self.tile.vector
        b = [f.load_lanes(vector, f.at(p, place), mask) for p in rights]
        totals: list[Operand] = [f.load_lanes(vector, f.at(p, place), mask) for p in self.outs]
        for u, right in enumerate(b):
            totals = [
                _multiply_add(f, self.tile, line[u], right, total)
                for line, total in zip(splats, totals, strict=True)
            ]
        for p, total in zip(self.outs, totals, strict=True):
            f.store_lanes(vector, total, f.at(p, place), mask)

    def _add_one_by_one(self, factors: list[list[Operand]], rights: list[Operand]) -> None:
        f, size, has_fma = self.f, self.tile.vector.element_bytes, self.tile.machine.has_fma
        single = VectorType(self.tile.vector.element, 1)
        with f.loop(self.whole, self.row_bytes, size) as loop:
            for p, line in zip(self.outs, factors, strict=True):
                place = f.at(p, loop.index)
                total: Operand = f.load(single.text, place, size)
                for factor, right in zip(line, rights, strict=True):
                    b = f.load(single.text, f.at(right, loop.index), size)
                    total = f.multiply_add(single, f.splat(single, factor), b, total, has_fma)
                f.store(single.text, total, place, size)


def _totals(
    f: Function, vector: VectorType, sums: list[Operand], row_type: VectorType
) -> list[Operand]:
    """Add the lanes of every vector; returns one short vector for each row of the dot tile.

    Pairs of vectors are blended and added until each lane belongs to one of them, which takes
    about one shuffle and addition for each vector where separate sums would take log2(lanes).
    """
    together = min(len(sums), vector.lanes)
    flat: list[Operand] = []
    for start in range(0, len(sums), together):
        flat += _lanes_of(f, vector, _added_lanes(f, vector, sums[start : start + together]))
    width = row_type.lanes
    return [
        _gathered(f, row_type, flat[start : start + width]) for start in range(0, len(flat), width)
    ]


def _added_lanes(f: Function, vector: VectorType, sums: list[Operand]) -> tuple[int, Operand]:
    """Lane i of the result, a vector of ``len(sums)`` lanes, is the sum of the lanes of sums[i]."""
    lanes, distance, count = vector.lanes, 1, len(sums)
    while len(sums) > 1:
        keep = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
        take = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
        pairs = zip(sums[::2], sums[1::2], strict=True)
        sums = [
            f.let(
                f"fadd {vector.text} {f.shuffle(vector.text, a, b, keep)},"
                f" {f.shuffle(vector.text, a, b, take)}"
            )
            for a, b in pairs
        ]
        distance *= 2
    total = sums[0]
    while lanes > count:
        type_, lanes = f"<{lanes} x {vector.element}>", lanes // 2
        low = f.shuffle(type_, total, "poison", range(lanes))
        high = f.shuffle(type_, total, "poison", range(lanes, 2 * lanes))
        total = f.let(f"fadd <{lanes} x {vector.element}> {low}, {high}")
    return count, total


def _lanes_of(f: Function, vector: VectorType, value: tuple[int, Operand]) -> list[Operand]:
    lanes, text = value
    type_ = f"<{lanes} x {vector.element}>"
    return [f.let(f"extractelement {type_} {text}, i64 {lane}") for lane in range(lanes)]


def _gathered(f: Function, type_: VectorType, scalars: Sequence[Operand]) -> Operand:
    """A vector of the given scalars."""
    value: Operand = "poison"
    for lane, scalar in enumerate(scalars):
        value = f.let(
            f"insertelement {type_.text} {value}, {type_.element} {scalar}, i64 {lane}"
        )
    return value


def _multiply_add(f: Function, tile: Tile, a: Operand, b: Operand, c: Operand) -> str:
    return f.multiply_add(tile.vector, a, b, c, tile.machine.has_fma)


def _rows_from(f: Function, first: Operand, stride: Operand, count: int) -> list[Operand]:
    """Addresses of ``count`` rows."""
    rows = [first]
    for _ in range(count - 1):
        rows.append(f.at(rows[-1], stride))
    return rows


def prefetch_row(f: Function, row: Operand, bytes_: int) -> None:
    for offset in range(0, bytes_, LINE_BYTES):
        f.prefetch(f.at(row, offset))


def _typed(type_: str, values: list[Operand]) -> list[TypedOperand]:
    return [(type_, value) for value in values]
