"""How is a product written that is so short that its call would count?  Whole, as one function.

Where all sizes are known and a few microseconds are all there is to do, a job for the family of
products takes as long to fill in and to take apart as some of its tiles. Here its register tiles
are written for these very sizes, with strides as displacements; the epilogue takes the sums from
the registers. Every element is summed in the order in which the family sums it, to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphc.codegen.gemm.driver import SMALL_WORK
from graphc.codegen.llvm.indices import unit_bytes
from graphc.codegen.llvm.kernel import Text
from graphc.codegen.llvm.known_product import KnownProduct, KnownProductPrinter
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.register_rows import RegisterRows, fits_registers, mask_text
from graphc.codegen.loops import TASK_WORK, Contract, Kernel, Plain
from graphc.codegen.machine import Machine
from graphc.codegen.program import BLOCK
from graphc.codegen.scalar import For, Scope
from graphc.dims import Dim, Extent, substitute


def is_short(contract: Contract, machine: Machine) -> bool:
    """Whether a product is written whole: small, of known sizes, of operands read in place."""
    known = KnownProduct.of(contract, machine)
    if known is None or _way(known) == "":
        return False
    tile, work, rows, columns = known.tile, known.work, known.rows, known.columns
    # One row is for stream kernels, few columns are for dot products; longer ones have more ways.
    whole = rows >= tile.rows and columns >= tile.columns and work <= TASK_WORK
    if not (work > 0 and (whole or work <= SMALL_WORK and rows > 1 and columns > 4)):
        return False
    return known.fits_vectors and fits_registers(contract.epilogue.body)


def _way(known: KnownProduct) -> str:
    """How the right operand is used, "in place" or "packed" before all, or neither, ""."""
    unit, size = unit_bytes(known.right.buffer), known.right.buffer.item_bytes
    along, across = (step * unit for step in known.right.steps[1:])  # type: ignore[operator]
    whole = known.rows >= known.tile.rows and known.columns >= known.tile.columns
    packable = size in (along, across) and whole and known.batch == 1 and _is_near(known)
    if across != size or known.misses_near(known.right_spread):
        return "packed" if packable else "in place" if across == size else ""
    return "in place"


def _is_near(known: KnownProduct) -> bool:
    """Whether all panels of the right operand stay in a quarter of the second level of cache, from
    which they come, one after the other, as fast as a tile takes them.
    """
    size = known.tile.vector.element_bytes
    columns = -(-known.columns // known.tile.columns) * known.tile.columns
    return columns * _padded(known) * size <= known.tile.machine.l2 // 4


def _padded(known: KnownProduct) -> int:
    """Rows of a packed panel."""
    lanes = known.tile.vector.lanes
    return -(-known.depth // lanes) * lanes


def short_kernels(contract: Contract, machine: Machine) -> set[str]:
    """Names of the kernels of the family that a short product calls."""
    known = KnownProduct.of(contract, machine)
    assert known is not None
    return {known.tile.pack_name("right")} if _way(known) == "packed" else set()


def short_product_module(kernel: Kernel, machine: Machine, name: str) -> Text:
    """The LLVM module of such a product, with the signature of every kernel."""
    contract = kernel.nest
    assert isinstance(contract, Contract)
    printer = _ShortPrinter(kernel, machine, contract)
    text = printer.module("\n".join(printer.written(name).lines))
    called = tuple(sorted(short_kernels(contract, machine)))
    return Text(text.text + "!0 = !{}\n", text.routines, called)


@dataclass(frozen=True)
class _Ask:
    """Stands in the body of a loop: a row of an operand is asked for, which starts at a place and
    has so many bytes.
    """

    operand: Plain
    start: Extent
    row_bytes: int


@dataclass(frozen=True)
class _Pack:
    """Stands in the body of a loop: so many columns of the right operand are packed."""

    columns: int
    column: Extent


@dataclass(frozen=True)
class _Part:
    """Stands in the body of a loop: a register tile of so many rows and columns, from a row and a
    column on.
    """

    rows: int
    columns: int
    row: Extent
    column: Extent


class _ShortPrinter(KnownProductPrinter):
    """Writes all tiles of a product."""

    def __init__(self, kernel: Kernel, machine: Machine, contract: Contract) -> None:
        super().__init__(kernel, machine, contract)
        self.rows = RegisterRows(self, contract, self.tile)
        self.packs = _way(self.known) == "packed"

    def tiles(self) -> Iterator[For]:
        """Packed panels are near, so rows of left, which may be far, are read once for all."""
        panels = list(self.tile.cut_columns(self.known.columns))
        rows = list(self.tile.cut_rows(self.known.rows))
        if not self.packs:
            yield from (_tiles(*tile, *panel) for panel in panels for tile in rows)
            return
        for columns, column, count in panels:
            across = Dim.symbol("_across") * columns + column
            yield _loop("_across", count, _Pack(columns, across))
        for height, row, down in rows:
            inner = [_row_of_tiles(height, row, *panel) for panel in panels]
            yield _loop("_down", down, *self._asked(height, row), *inner)

    def _asked(self, height: int, row: int) -> Iterator[For]:
        """Loops that ask for what the next block of a chain reads here, if its rows lie so far
        apart that no processor foresees them: as many as go with a row of tiles.
        """
        known = self.known
        sides = []
        if known.left_spread:
            sides.append((self.left, known.rows, known.depth))
        if known.right_spread:
            sides.append((self.right, known.depth, known.columns))
        for operand, rows, columns in sides:
            across, along = operand.steps[1:]
            if along * unit_bytes(operand.buffer) != operand.buffer.item_bytes:
                across, rows, columns = along, columns, rows
            if isinstance(operand.start, int) or BLOCK not in operand.start.symbols:
                continue
            following = substitute(operand.start, {BLOCK: Dim.symbol(BLOCK) + 1})
            share = -(-rows * height // known.rows)
            first = (Dim.symbol("_down") * height + row) * rows // known.rows
            place = following + (first + Dim.symbol("_asked")) * across
            ask = _Ask(operand, place, columns * operand.buffer.item_bytes)
            yield _loop("_asked", share, ask)

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, _Part):
            self._part(level, s)
        elif isinstance(s, _Ask):
            at = self.indices.start(level, s.operand.buffer, s.start)
            self.loads.prefetch(level, at, s.row_bytes)
        elif isinstance(s, _Pack):
            self._pack(level, s)
        else:
            super().statement(level, s)

    def _pack(self, level: Level, s: _Pack) -> None:
        """Call what packs a panel."""
        right = self.right
        unit = unit_bytes(right.buffer)
        along, across = (step * unit for step in right.steps[1:])
        source = self.indices.start(level, right.buffer, right.start + s.column * right.steps[2])
        pack = self.declare(self.tile.pack_name("right"), "ptr, i64, i64, i64, i64, ptr")
        words = (across, along, s.columns, self.contract.depth)
        given = ", ".join(f"i64 {word}" for word in words)
        level.put(f"call void {pack}(ptr {source}, {given}, ptr {self._packed(level, s.column)})")

    def _packed(self, level: Level, column: Extent) -> str:
        """Where the panel that begins with a column is."""
        place = column * (_padded(self.known) * self.tile.vector.element_bytes)
        at, offset = self.values.fresh("p"), self.indices.dim(level, place)
        level.put(f"{at} = getelementptr i8, ptr {self.words['scratch']}, i64 {offset}")
        return at

    def _part(self, level: Level, part: _Part) -> None:
        """The sums of a tile, in a loop over k, and what becomes of them, row by row."""
        vector = self.tile.vector
        vectors = -(-part.columns // vector.lanes)
        count = vectors * vector.lanes
        live = None if part.columns == count else [j < part.columns for j in range(count)]
        rows = self._sums(level, part, vectors, live)
        first, position = self.indices.dim(level, part.row), self.indices.dim(level, part.column)
        self.rows.write(level, (first, position), rows, live)

    def _sums(
        self, level: Level, part: _Part, vectors: int, live: list[bool] | None
    ) -> list[list[str]]:
        """A loop over k; the sums of each row of the tile."""
        vector, fresh = self.tile.vector, self.values.fresh
        batch, depth = Dim.symbol(self.contract.epilogue.variables[0]), self.contract.depth
        steps, jumps = self.left.steps, self.right.steps
        first = self.left.start + batch * steps[0] + part.row * steps[1]
        left = self.indices.start(level, self.left.buffer, first)
        if self.packs:
            right = self._packed(level, part.column)
            right_step: Extent = self.tile.columns * vector.element_bytes
        else:
            first = self.right.start + batch * jumps[0] + part.column * jumps[2]
            right = self.indices.start(level, self.right.buffer, first)
            right_step = jumps[1] * unit_bytes(self.right.buffer)
        left_row, left_step = (step * unit_bytes(self.left.buffer) for step in steps[1:])
        tag, before = self.values.tag(), level.block
        a, b, k = f"%left{tag}", f"%right{tag}", f"%k{tag}"
        places = [(i, j) for i in range(part.rows) for j in range(vectors)]
        old = {place: f"%s{tag}_{n}" for n, place in enumerate(places)}
        new = {place: f"%n{tag}_{n}" for n, place in enumerate(places)}
        level.put(f"br label %depth{tag}")
        level.label(f"depth{tag}")
        for name, typed, start in ((a, "ptr", left), (b, "ptr", right), (k, "i64", "0")):
            level.put(f"{name} = phi {typed} [{start}, %{before}], [{name}n, %depth{tag}]")
        for place in places:
            ends = f"[zeroinitializer, %{before}], [{new[place]}, %depth{tag}]"
            level.put(f"{old[place]} = phi {vector.text} {ends}")
        masks = [None if live is None else live[j * vector.lanes :] for j in range(vectors)]
        rights = [
            self._right(level, b, j * vector.bytes, mask[: vector.lanes] if mask else None)
            for j, mask in enumerate(masks)
        ]
        for i in range(part.rows):
            at, scalar = fresh("p"), fresh("l")
            level.put(f"{at} = getelementptr i8, ptr {a}, i64 {i * left_row}")
            level.put(f"{scalar} = load {vector.element}, ptr {at}, align {vector.element_bytes}")
            spread = self.values.broadcast(level, scalar, vector.element, vector.lanes)
            for j in range(vectors):
                self.values.multiply_add(
                    level, (spread, rights[j]), old[i, j], self.tile.dtype, vector.lanes, new[i, j]
                )
        level.put(f"{a}n = getelementptr i8, ptr {a}, i64 {left_step}")
        level.put(f"{b}n = getelementptr i8, ptr {b}, i64 {right_step}")
        level.put(f"{k}n = add nuw nsw i64 {k}, 1")
        more = fresh("c")
        level.put(f"{more} = icmp ult i64 {k}n, {depth}")
        level.put(f"br i1 {more}, label %depth{tag}, label %sums{tag}")
        level.label(f"sums{tag}")
        return [[new[i, j] for j in range(vectors)] for i in range(part.rows)]

    def _right(self, level: Level, base: str, offset: int, live: list[bool] | None) -> str:
        vector, at, loaded = self.tile.vector, self.values.fresh("p"), self.values.fresh("l")
        size = vector.element_bytes
        level.put(f"{at} = getelementptr i8, ptr {base}, i64 {offset}")
        if live is None or all(live):
            level.put(f"{loaded} = load {vector.text}, ptr {at}, align {size}")
            return loaded
        function = f"llvm.masked.load.{vector.suffix}.p0"
        self.values.declarations.add(
            f"declare {vector.text} @{function}(ptr, i32, {vector.mask}, {vector.text})"
        )
        level.put(
            f"{loaded} = call {vector.text} @{function}(ptr align {size} {at}, i32 {size}, "
            f"{vector.mask} {mask_text(live)}, {vector.text} zeroinitializer)"
        )
        return loaded


def _loop(variable: str, count: int, *statements: Any) -> For:
    body = Scope()
    body.statements += statements
    return For(variable, 0, count, "serial", body, [])


def _tiles(rows: int, row: int, count: int, columns: int, column: int, panels: int) -> For:
    """Tiles of one shape: panel by panel, from top to bottom."""
    down, across = Dim.symbol("_down"), Dim.symbol("_across")
    tile = _Part(rows, columns, down * rows + row, across * columns + column)
    return _loop("_across", panels, _loop("_down", count, tile))


def _row_of_tiles(rows: int, row: int, columns: int, column: int, panels: int) -> For:
    """Tiles of one shape that lie side by side."""
    down, across = Dim.symbol("_down"), Dim.symbol("_across")
    tile = _Part(rows, columns, down * rows + row, across * columns + column)
    return _loop("_across", panels, tile)
