"""Which words and which kernels do the driver of a matrix product and its tasks share?

The job is what the caller fills in, the plan what the driver makes of it: both are tables of
eight-byte words. Kernels are found through a table of addresses, so that a program whose sizes are
known links only the kernels that those sizes use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from graphc.codegen.gemm.microkernel import (
    DOT_TILE,
    STREAM_ROWS,
    Tile,
    dot_kernel,
    stream_kernel,
    tile_kernel,
)
from graphc.codegen.gemm.packing import beside_kernel, lay_kernel, pack_kernel
from graphc.codegen.irtext import Function, Module, Operand

JOB_WORDS = (
    *("left", "left_row", "left_column", "left_batch"),
    *("right", "right_row", "right_column", "right_batch", "right_panels"),
    *("out", "out_row", "out_batch"),
    *("rows", "columns", "depth", "batches", "accumulate"),
    *("epilogue", "epilogue_context", "warm", "finisher"),
    *("pack_left", "pack_left_context", "pack_right", "pack_right_context"),
    *("left_across", "left_along", "right_across", "right_along", "offsets_context"),
    *("left_place", "right_place"),
    *("workspace", "workers", "status"),
)
PLAN_WORDS = (
    *JOB_WORDS,
    "exchanged",  # nonzero: left and right, and so rows and columns, changed places
    "streams",  # nonzero: by stream kernels
    "turned",  # nonzero: and out cannot be written that way round
    "left_source",  # IN_PLACE, BY_TASK or TABLED
    "right_source",  # IN_PLACE, BY_TASK or ONCE
    *("depth_block", "depth_begin", "depth_end"),
    *("row_block", "row_blocks"),
    *("column_begin", "column_end", "column_group", "column_groups"),
    *("left_panel", "right_panel"),  # bytes of a packed panel
    "shared",  # panels of the right operand that are packed once
    *("scratch", "scratch_bytes"),  # bytes for each worker
    *("partial", "partial_bytes", "partials"),  # sums over pieces of k
    "serial",  # nonzero: not worth a thread pool
    "tables",  # in a worker's scratch: bytes before its tables of offsets
    "kernels",  # address of the kernel table
)
JOB = {name: index for index, name in enumerate(JOB_WORDS)}
PLAN = {name: index for index, name in enumerate(PLAN_WORDS)}

IN_PLACE, BY_TASK, ONCE, TABLED = 0, 1, 2, 3
FEW_ROWS = 12  # up to here a large right operand is streamed over, not packed; or exchanged
LARGE = 2  # times a level of cache: a right operand of this size is not used as it lies
WIDE_COLUMNS = 256  # from here on packing left, which every group of columns repeats, is cheap
NARROW_PANELS = 4  # or so many panels of right, where they are narrow
DOT_ROWS = 8  # up to here a transposed right operand takes dot products
CODE_WORD, CANCEL_WORD = 0, 4  # of the status record: nonzero asks every loop to stop

# Rows, columns and depth of a product, and which of its operands, "left" or "right", have tables.
ProductShape = tuple[object, object, object, frozenset[str]]

_POINTERS = {
    *("left", "right", "out", "epilogue", "epilogue_context", "warm", "finisher"),
    *("pack_left", "pack_left_context", "pack_right", "pack_right_context"),
    *("left_across", "left_along", "right_across", "right_along", "offsets_context"),
    *("left_place", "right_place"),
    *("workspace", "status", "shared", "scratch", "partial", "kernels"),
}


class Plan:
    """Words of a plan (or of a job, whose words come first in a plan), by name."""

    def __init__(self, f: Function, base: Operand) -> None:
        self._function = f
        self.base = base

    def __getitem__(self, name: str) -> str:
        return self._function.word(self.base, PLAN[name], _type(name))

    def __setitem__(self, name: str, value: Operand) -> None:
        self._function.set_word(self.base, PLAN[name], value, _type(name))

    def read(self, names: str) -> list[str]:
        """Load several words; ``names`` is separated by blanks."""
        return [self[name] for name in names.split()]


def _type(name: str) -> str:
    return "ptr" if name in _POINTERS else "i64"


@dataclass(frozen=True)
class KernelTable:
    """Where in the kernel table, an array of function addresses, each kernel of a family is."""

    tile: Tile

    def names(self) -> list[str | None]:
        """Symbols in table order; None where no such kernel exists."""
        names: list[str | None] = [None] * (self._packs + 5)
        tile = self.tile
        for tabled, heights in ((False, tile.heights), (True, tile.tabled_heights)):
            for rows in heights:
                for vectors in range(1, tile.vectors + 1):
                    place = self._tile(rows, vectors) + 2 * tabled
                    names[place] = tile.kernel_name(rows, vectors, False, tabled)
                    if tile.machine.has_masks:
                        names[place + 1] = tile.kernel_name(rows, vectors, True, tabled)
        for rows in DOT_TILE:
            for columns in DOT_TILE:
                names[self._dots + rows * (DOT_TILE[0] + 1) + columns] = tile.dot_name(
                    rows, columns
                )
        for rows in STREAM_ROWS:
            names[self._streams + rows] = tile.stream_name(rows)
        names[self._packs] = tile.pack_name("left")
        names[self._packs + 1] = tile.pack_name("right")
        names[self._packs + 2] = tile.lay_name
        names[self._packs + 3] = tile.beside_name("left")
        names[self._packs + 4] = tile.beside_name("right")
        return names

    @property
    def symbol(self) -> str:
        """The function that returns the address of the table."""
        return f"{self.tile.prefix}_kernels"

    @property
    def _dots(self) -> int:
        return 4 * (self.tile.rows + 1) * self.tile.vectors

    @property
    def _streams(self) -> int:
        return self._dots + (DOT_TILE[0] + 1) ** 2

    @property
    def _packs(self) -> int:
        return self._streams + STREAM_ROWS[0] + 1

    def _tile(self, rows: int, vectors: int) -> int:
        return 4 * (rows * self.tile.vectors + vectors - 1)

    def load_tile(
        self, f: Function, table: Operand, rows: Operand, vectors: Operand, kind: Operand
    ) -> str:
        """``kind`` is 1 for an edge, and 2 more if tables say where the left operand lies."""
        place = f.add(f.multiply(rows, self.tile.vectors), f.subtract(vectors, 1))
        return f.word(table, f.add(f.multiply(place, 4), kind), "ptr")

    def load_dot(self, f: Function, table: Operand, rows: Operand, columns: Operand) -> str:
        place = f.add(f.multiply(rows, DOT_TILE[0] + 1), columns)
        return f.word(table, f.add(place, self._dots), "ptr")

    def load_stream(self, f: Function, table: Operand, rows: Operand) -> str:
        return f.word(table, f.add(rows, self._streams), "ptr")

    def load_pack(self, f: Function, table: Operand, side: str) -> str:
        return f.word(table, self._packs + (side == "right"), "ptr")

    def load_beside(self, f: Function, table: Operand, side: str) -> str:
        return f.word(table, self._packs + 3 + (side == "right"), "ptr")

    def load_lay(self, f: Function, table: Operand) -> str:
        return f.word(table, self._packs + 2, "ptr")


def kernels(tile: Tile) -> Iterator[tuple[str, Callable[[], Function], int]]:
    """Every kernel of the family: its name, what writes it, and its code generation level."""
    for tabled, heights in ((False, tile.heights), (True, tile.tabled_heights)):
        for rows in heights:
            for vectors in range(1, tile.vectors + 1):
                for edge in (False, True) if tile.machine.has_masks else (False,):
                    name = tile.kernel_name(rows, vectors, edge, tabled)
                    yield name, partial(tile_kernel, tile, rows, vectors, edge, tabled), 2
    for rows in DOT_TILE:
        for columns in DOT_TILE:
            yield tile.dot_name(rows, columns), partial(dot_kernel, tile, rows, columns), 2
    for rows in STREAM_ROWS:
        yield tile.stream_name(rows), partial(stream_kernel, tile, rows), 2
    for side in ("left", "right"):
        yield tile.pack_name(side), partial(pack_kernel, tile, side), 1
        yield tile.beside_name(side), partial(beside_kernel, tile, side), 1
    yield tile.lay_name, partial(lay_kernel, tile), 1


def reachable(table: KernelTable, shapes: Iterable[ProductShape]) -> set[str]:
    """Names of the kernels that products of these shapes can call."""
    tile = table.tile
    used = {tile.pack_name("right")}
    for rows, columns, depth, tabled in shapes:
        if _may_be_wide(tile, rows, columns):
            used |= {tile.pack_name("left"), tile.beside_name("left")}
        if "right" in tabled:
            used.add(tile.lay_name)
        elif _may_lie_beside(tile, rows, columns):
            used.add(tile.beside_name("right"))
        if not isinstance(rows, int) or not isinstance(columns, int):
            used |= {
                name
                for name in table.names()
                if name is not None and name != tile.lay_name
                and ("left" in tabled or "tabled" not in name)
            }
            continue
        if "left" in tabled:
            used |= reached_tiles(tile, rows, columns, True)
            continue
        pairs = [(rows, columns)]
        if columns <= FEW_ROWS:  # the operands may be exchanged
            pairs.append((columns, rows))
        for down, across in pairs:
            # The last rows may be a block of their own, and those of what is packed are cut higher.
            for many in (down, down % tile.rows):
                for packed in (False, True):
                    used |= reached_tiles(tile, many, across, packed=packed)
        for few, many in ((rows, columns), (columns, rows)):
            if _may_stream(tile, few, many, depth):
                used |= {tile.stream_name(height) for height in _pieces_of(few, STREAM_ROWS)}
        if min(rows, columns) <= max(DOT_ROWS, tile.vector.lanes):
            downs, acrosses = _pieces_of(rows, DOT_TILE), _pieces_of(columns, DOT_TILE)
            used |= {tile.dot_name(i, j) for i in downs for j in acrosses}
            used |= {tile.dot_name(j, i) for i in downs for j in acrosses}
    return used


def _may_stream(tile: Tile, rows: int, columns: int, depth: object) -> bool:
    """Whether so few rows of left may be streamed over a right operand of so many columns."""
    most, least = streamed(tile)
    if rows > most or columns < 4 * tile.vector.lanes:
        return False
    if rows <= STREAM_ROWS[0] or not isinstance(depth, int):
        return True
    return depth * columns * tile.vector.element_bytes >= least


def streamed(tile: Tile) -> tuple[int, int]:
    """Up to how many rows of left are streamed over right, and from how many bytes of it on.

    Narrow panels of right that are read in place lie across lines of memory, and packing them pays
    from more rows on: 16 x 256 x 256 float64 0.54 of the peak by tiles, 0.77 streamed, 24 x 512 x
    512 0.65 either way (Zen 3).
    """
    return (FEW_ROWS, LARGE * tile.machine.l2) if tile.long_runs else (4 * tile.rows, 0)


def _pieces_of(extent: int, sizes: tuple[int, ...]) -> set[int]:
    """Which of ``sizes``, largest first, an extent takes, as many as fit of each: blocks of it end
    at multiples of the largest.
    """
    taken, rest = set(), extent
    for size in sizes:
        taken |= {size} if rest >= size else set()
        rest %= size
    return taken


def _may_be_wide(tile: Tile, rows: object, columns: object) -> bool:
    """Whether a product may have so many columns, its operands exchanged or not, that its left
    operand is packed.
    """
    if not isinstance(rows, int) or not isinstance(columns, int):
        return True
    least = min(WIDE_COLUMNS, NARROW_PANELS * tile.columns)
    return columns >= least or columns <= FEW_ROWS and rows >= least


def _may_lie_beside(tile: Tile, rows: object, columns: object) -> bool:
    """Whether panels of right may be packed several at a time, the operands exchanged or not."""
    least = tile.panels_beside("right") * tile.columns
    return any(
        (not isinstance(across, int) or across >= least)
        and (not isinstance(down, int) or down > FEW_ROWS)
        for down, across in ((rows, columns), (columns, rows))
    )


def reached_tiles(
    tile: Tile, rows: int, columns: int, tabled: bool = False, packed: bool = False
) -> set[str]:
    """Names of the tile kernels that cover so many rows and columns."""
    return {
        tile.kernel_name(
            height,
            -(-width // tile.vector.lanes),
            tile.machine.has_masks and width % tile.vector.lanes != 0,
            tabled,
        )
        for height, *_ in tile.cut_rows(rows, tabled, packed)
        for width, *_ in tile.cut_columns(columns)
    }


def table_module(table: KernelTable, names: list[str | None]) -> Module:
    """The function that returns the address of the kernel table."""
    f = Function(table.symbol, "", result="ptr")
    f.leave("ptr", "@table")
    for name in names:
        if name is not None:
            f.declarations.add(f"declare void @{name}()")
    entries = ", ".join("ptr null" if name is None else f"ptr @{name}" for name in names)
    return Module([f], [f"@table = internal constant [{len(names)} x ptr] [{entries}]"])


def is_set(f: Function, pointer: Operand) -> str:
    return f.compare("ne", pointer, "null", "ptr")


def panel_bytes(
    f: Function, tile: Tile, side: str, depth: Operand, more: Operand = 0
) -> Operand:
    """Bytes of a packed panel: whole vectors along k, ``more`` rows, a cache line to run over."""
    width = tile.rows if side == "left" else tile.columns
    whole = f.add(f.round_up(depth, tile.vector.lanes), more)
    return f.add(f.multiply(whole, width * tile.vector.element_bytes), 64)
