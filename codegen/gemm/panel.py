"""How are all register tiles of some rows with one panel of columns multiplied?

The innermost function of the family that is not a kernel: it cuts rows into tiles, tells each what
to ask of memory meanwhile, and hands what is finished to the epilogue of the job.
"""

from __future__ import annotations

from graphc.codegen.gemm.microkernel import FINISH_TYPES, PREFETCH_DEPTH, TILE_TYPES, Tile
from graphc.codegen.gemm.table import KernelTable, Plan, is_set
from graphc.codegen.irtext import Function, Operand, TypedOperand
from graphc.codegen.loops import LINE_BYTES

_PARAMETERS = (
    "ptr plan, ptr kernels, ptr left, i64 left_row, i64 left_step, i64 left_panel, ptr right,"
    "i64 right_step, ptr out, i64 depth, i64 rows, i64 columns, i64 accumulate, i64 finished,"
    "i64 row, i64 column, i64 batch, i64 turned, i64 tabled, ptr next_right, i64 next_step"
)


def panel_product(tile: Tile) -> Function:
    """All register tiles of ``rows`` rows of left with one panel of right.

    ``left_panel`` is the distance in bytes of groups of as many rows as the largest tile has. If
    left is ``tabled``, ``left_row`` and ``left_step`` are the addresses of tables of offsets.
    Tiles that an epilogue finishes are handed to it in a scratch tile, which stays in the first
    level of cache: lines of out are written once, by the epilogue. If the job has a finisher, full
    tiles never leave the registers before that. Without masks a panel whose
    columns are not whole vectors must be packed; its tiles then go through the scratch tile to out.

    ``next_right`` is where the panel that will be needed next begins, and ``next_step`` the bytes
    from a row of it to the following one. While the first tiles are computed, one line of each row
    at a time, it is fetched into the second level of cache: from the third it would come too late.
    While others are computed, so are the rows of left that follow, if nothing lies between them.
    """
    return _PanelProduct(tile).written()


class _PanelProduct:
    """Writes that function: its parameters, and what holds for all of its tiles."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        vector, self.masked = tile.vector, tile.machine.has_masks
        f = self.f = Function(
            f"{tile.prefix}_panel_product",
            _PARAMETERS,
        )
        plan, self.kernels, self.left, self.left_row, self.left_step = f.parameters[:5]
        self.left_panel, self.right, self.right_step, self.out, self.depth = f.parameters[5:10]
        self.rows, self.columns, self.accumulate, finished, self.row = f.parameters[10:15]
        self.column, self.batch, turned, tabled, self.next_right, self.next_step = f.parameters[15:]
        self.out_row, self.epilogue, self.context, self.warm, self.finisher = Plan(f, plan).read(
            "out_row epilogue epilogue_context warm finisher"
        )
        self.exchanged = f.compare("ne", turned, 0)
        self.vectors = f.ceil_divide(self.columns, vector.lanes)
        self.ragged = f.compare("ne", f.remainder(self.columns, vector.lanes), 0)
        self.by_table = f.compare("ne", tabled, 0)
        self.kind: Operand = f.select(self.by_table, 2, 0)
        if self.masked:
            self.kind = f.add(self.kind, f.let(f"zext i1 {self.ragged} to i64"))
        row_bytes = tile.columns * vector.element_bytes
        # Tiles of which the scratch tile has room.
        self.together = max(1, tile.machine.l1 // (8 * tile.rows * row_bytes))
        elements = self.together * tile.rows * tile.columns
        self.scratch = f.let(f"alloca [{elements} x {vector.element}], align 64")
        last = f.compare("ne", finished, 0)
        self.finishing = f.both(last, is_set(f, self.epilogue))
        self.warming = f.both(last, is_set(f, self.warm))
        self.aside = self.by_scratch = self.finishing
        if not self.masked:
            self.aside = f.both(self.finishing, f.negate(self.ragged))
            self.by_scratch = f.either(self.finishing, self.ragged)
        self.to_row = f.select(self.by_scratch, row_bytes, self.out_row)
        # A tile the other way round is a single row, whose elements are the rows that the caller
        # knows.
        own_row = f.both(self.aside, f.negate(self.exchanged))
        self.given_row = f.select(own_row, row_bytes, self.out_row)
        finishes = f.both(self.finishing, is_set(f, self.finisher))
        plain = f.negate(f.either(f.either(self.ragged, self.exchanged), self.by_table))
        whole = f.both(plain, f.compare("eq", self.vectors, tile.vectors))
        self.finishing_whole = f.both(finishes, whole)
        self.short = f.compare("slt", self.depth, PREFETCH_DEPTH)
        self.lines = f.multiply(self.vectors, vector.bytes)
        dense = f.compare("eq", self.left_row, f.multiply(self.depth, vector.element_bytes))
        self.dense = f.both(dense, f.compare("eq", self.left_step, vector.element_bytes))

    def written(self) -> Function:
        """The function: tile after tile, or some alike at a time, down the rows."""
        f, tile = self.f, self.tile
        in_place = f.compare("eq", self.left_panel, f.multiply(self.left_row, tile.rows))
        in_place = f.both(in_place, f.negate(self.by_table))
        evened = f.select(in_place, tile.rows, 0)
        most = f.select(self.by_scratch, self.together, self.rows)
        first: list[TypedOperand] = [("ptr", self.left), ("ptr", self.out), ("i64", 0), ("i64", 0)]
        with f.loop(0, self.rows, 1, first) as loop:
            panel, target, inside, line = loop.carried
            fetching = f.compare("slt", line, self.lines)
            rest = f.subtract(self.rows, loop.index)
            height, whole = next_tiles(f, tile, rest, evened)
            if tile.tabled_heights != tile.heights:
                height = f.select(self.by_table, next_of(f, tile.tabled_heights, rest), height)
            alone = f.either(f.either(self.by_table, fetching), f.compare("sle", whole, 1))
            at_once = f.both(self.finishing_whole, f.compare("eq", height, tile.rows))
            tiles = f.select(alone, 1, f.minimum(whole, f.select(at_once, self.rows, most)))
            down = f.multiply(tiles, height)
            first_row = f.add(self.row, loop.index)
            place = panel, inside, loop.index
            given = self._given(place, target, (height, tiles), (fetching, line))
            with f.when(at_once):
                where = (self.context, first_row, self.column, self.batch)
                words = zip(FINISH_TYPES, (*given, *where), strict=True)
                f.call_pointer("void", self.finisher, *words)
            with f.when(f.negate(at_once)):
                with f.when(self.warming):
                    # A short tile is done before what it asks for is there: that of the next is.
                    asked_row = f.add(first_row, f.select(self.short, down, 0))
                    f.call_pointer("void", self.warm, *self._block_at(asked_row, down, target))
                kernel = KernelTable(tile).load_tile(
                    f, self.kernels, height, self.vectors, self.kind
                )
                f.call_pointer("void", kernel, *zip(TILE_TYPES, given, strict=True))
                self._finish(first_row, down, target)
            through = f.add(inside, height)
            next_panel = f.compare("sge", through, tile.rows)
            loop.step = down
            below = f.at(panel, f.multiply(tiles, self.left_panel))
            loop.next = [
                f.select(next_panel, below, panel, "ptr"),
                f.at(target, f.multiply(down, self.out_row)),
                f.select(next_panel, 0, through),
                f.add(line, LINE_BYTES),
            ]
        return f

    def _given(
        self,
        place: tuple[Operand, Operand, Operand],
        target: Operand,
        count: tuple[Operand, Operand],
        asked: tuple[str, Operand],
    ) -> tuple[Operand, ...]:
        """What a kernel is given for tiles of one height: `place` is the panel of left, the row in
        it and that of all; `count` the height and how many; `asked` whether a line of each row of
        the next panel of right is asked for, and which.
        """
        f, (panel, inside, row), (height, tiles) = self.f, place, count
        fetching, line = asked
        adding = self.accumulate if self.masked else f.select(self.ragged, 0, self.accumulate)
        entry = f.add(self.left_row, f.multiply(row, 8))
        next_rows = f.at(panel, f.multiply(f.add(inside, height), self.left_row))
        below = f.select(self.dense, next_rows, self.right, "ptr")
        below_step = f.select(self.dense, LINE_BYTES, self.right_step)
        here = f.at(panel, f.multiply(inside, self.left_row))
        return (
            f.select(self.by_table, self.left, here, "ptr"),
            *(self.right, target, self.depth, f.select(self.by_table, entry, self.left_row)),
            *(self.left_step, self.right_step, self.out_row, self.columns, adding),
            f.select(fetching, f.at(self.next_right, line), below, "ptr"),
            f.select(fetching, self.next_step, below_step),
            *(f.select(self.by_scratch, self.scratch, target, "ptr"), self.to_row, tiles),
            *(self.left_panel, f.select(self.dense, self.left_panel, 0)),
        )

    def _finish(self, first_row: Operand, down: Operand, target: Operand) -> None:
        """Copy what a kernel without masks left in the scratch tile, and call the epilogue."""
        f = self.f
        if not self.masked:
            with f.when(self.ragged):
                f.call(
                    "void",
                    f"{self.tile.prefix}_copy_tile",
                    *(("ptr", self.scratch), ("ptr", target), ("i64", self.out_row)),
                    *(("i64", down), ("i64", self.columns), ("i64", self.accumulate)),
                )
        with f.when(self.finishing):
            finished_tile = f.select(self.aside, self.scratch, target, "ptr")
            f.call_pointer("void", self.epilogue, *self._block_at(first_row, down, finished_tile))

    def _block_at(
        self, first: Operand, height: Operand, target: Operand
    ) -> list[tuple[str, Operand]]:
        """Arguments for a function of a block, in the orientation that the caller knows."""
        f = self.f
        mine = (first, self.column, height, self.columns)
        theirs = (mine[1], mine[0], mine[3], mine[2])
        place = [f.select(self.exchanged, a, b) for a, b in zip(theirs, mine, strict=True)]
        words: list[tuple[str, Operand]] = [("i64", value) for value in place]
        head = [("ptr", self.context), ("ptr", target), ("i64", self.given_row)]
        return [*head, *words, ("i64", self.batch)]


def copy_tile(tile: Tile) -> Function:
    """Copy the part of a scratch tile that exists to out, or add it."""
    element, size = tile.vector.element, tile.vector.element_bytes
    f = Function(
        f"{tile.prefix}_copy_tile",
        "ptr source, ptr out, i64 out_row, i64 rows, i64 columns, i64 accumulate",
    )
    source, out, out_row, rows, columns, accumulate = f.parameters
    adding = f.compare("ne", accumulate, 0)
    with f.loop(0, rows, 1, [("ptr", source), ("ptr", out)]) as i:
        with f.loop(0, columns, 1, [("ptr", i.carried[0]), ("ptr", i.carried[1])]) as j:
            here, there = j.carried
            value = f.load(element, here, size)
            with f.when(adding) as branch:
                total = f.let(f"fadd {element} {f.load(element, there, size)}, {value}")
            f.store(element, branch.merge(element, total, value), there, size)
            j.next = [f.at(here, size), f.at(there, size)]
        i.next = [f.at(i.carried[0], tile.columns * size), f.at(i.carried[1], out_row)]
    return f


def next_tiles(
    f: Function, tile: Tile, rest: Operand, evened: Operand
) -> tuple[Operand, Operand]:
    """The height of the next tile of so many rows, and how many full ones come next: the rows that
    are left after them, with ``evened`` more if those are too few by themselves, are for lower
    tiles (`Tile.cut_rows`).
    """
    below: Operand = 0
    remainder = f.remainder(rest, tile.rows)
    for few in tile.evened_rests:
        below = f.select(f.compare("eq", remainder, few), evened, below)
    whole = f.divide(f.subtract(rest, f.minimum(below, rest)), tile.rows)
    lower: Operand = next_of(f, tile.heights[1:], rest)
    return f.select(f.compare("sgt", whole, 0), tile.rows, lower), whole



def next_of(f: Function, sizes: tuple[int, ...], remaining: Operand) -> Operand:
    """The largest of ``sizes`` that is not above ``remaining``, which is at least the smallest."""
    chosen: Operand = min(sizes)
    for size in sorted(sizes)[1:]:
        chosen = f.select(f.compare("sge", remaining, size), size, chosen)
    return chosen
