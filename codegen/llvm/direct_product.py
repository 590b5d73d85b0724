"""How is a product of known sizes handed to register tiles, if it is too small to need a plan?

The driver of the family (`graphc.codegen.gemm`) finds out at run time how to cut a product, for any
sizes and strides. Where they are known, and one worker does it all in some microseconds, there is
nothing to find out: a function calls the tile kernels one after the other with these very sizes,
packing a panel of a transposed right operand before it is used. So such a program has neither plans
nor tasks to compile, which take longer than everything else of a small network. Every element is
summed in the order in which the family sums it, to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from graphc.codegen.gemm.driver import Blocking
from graphc.codegen.gemm.microkernel import PREFETCH_DEPTH, TILE_TYPES
from graphc.codegen.gemm.table import reached_tiles
from graphc.codegen.llvm.contract import (
    BLOCK_TYPES,
    Asked,
    beside_product,
    is_trivial,
    tile_functions,
)
from graphc.codegen.llvm.indices import unit_bytes
from graphc.codegen.llvm.kernel import Text
from graphc.codegen.llvm.known_product import KnownProduct, KnownProductPrinter
from graphc.codegen.llvm.level import Level
from graphc.codegen.loops import (
    LINE_BYTES,
    TASK_WORK,
    Contract,
    Kernel,
    Plain,
    accumulator,
)
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import For, Scope
from graphc.dims import Dim, Extent


def is_direct(contract: Contract, machine: Machine) -> bool:
    """Whether a product is a task of whole register tiles, of known sizes and strides."""
    known = KnownProduct.of(contract, machine)
    if known is None or known.misses_near(known.left_spread or known.right_spread):
        return False
    if known.rows < known.tile.rows or known.columns < known.tile.columns:
        return False
    if not 0 < known.depth <= Blocking.of(contract.dtype, machine).depth // 4:
        return False
    return 0 < known.work <= TASK_WORK and known.fits_vectors and _ways(known.right)[0] != ""


def _ways(right: Plain) -> tuple[str, int, int]:
    """How the right operand is used, "in place" or "packed", or neither, "", and its strides in
    bytes: along k, and from column to column.
    """
    unit, size = unit_bytes(right.buffer), right.buffer.item_bytes
    along, across = (step * unit for step in right.steps[1:])  # type: ignore[operator]
    assert isinstance(along, int) and isinstance(across, int)
    way = "in place" if across == size else "packed" if along == size else ""
    return way, along, across


def direct_kernels(contract: Contract, machine: Machine) -> set[str]:
    """Names of the kernels of the family that a direct product calls."""
    known = KnownProduct.of(contract, machine)
    assert known is not None
    packs = {known.tile.pack_name("right")} if _ways(known.right)[0] == "packed" else set()
    return packs | reached_tiles(known.tile, known.rows, known.columns)


def direct_product_module(kernel: Kernel, machine: Machine, name: str) -> Text:
    """The LLVM text of such a product: what finishes a tile, and the function that drives all."""
    contract = kernel.nest
    assert isinstance(contract, Contract)
    printer = _DirectPrinter(kernel, machine, contract, f"{name}_epilogue")
    whole = printer.known.columns % printer.tile.columns == 0
    finish = tile_functions(kernel, machine, name, "whole" if whole else "ragged", warm=False)
    return replace(finish, driver=printer.driver(printer.written(name)))


@dataclass(frozen=True)
class _Panel:
    """Stands in the body of a loop: some columns of the right operand are used next."""

    columns: int
    column: Extent


@dataclass(frozen=True)
class _Rows:
    """Stands in the body of a loop: a register tile of so many rows of the panel."""

    rows: int
    row: Extent


class _DirectPrinter(KnownProductPrinter):
    """Writes the calls of all tiles."""

    def __init__(self, kernel: Kernel, machine: Machine, contract: Contract, finish: str) -> None:
        """`finish` is the function that finishes a tile."""
        super().__init__(kernel, machine, contract)
        self.way, self.right_along, self.right_across = _ways(self.right)
        self.panel = _Panel(0, 0)
        self.right_at, self.finish = "", finish

    def prepare(self, level: Level) -> None:
        """Room for the sums of a tile that is not done when they are known."""
        if not is_trivial(self.contract):
            count = self.tile.rows * self.tile.columns
            level.put(f"%sums = alloca [{count} x {self.tile.vector.element}], align 64")

    def tiles(self) -> Iterator[For]:
        for columns, first, count in self.tile.cut_columns(self.known.columns):
            yield self._panels(columns, first, count)

    def _panels(self, columns: int, first: int, count: int) -> For:
        body = Scope()
        body.statements.append(_Panel(columns, Dim.symbol("_across") * columns + first))
        for height, row, tiles in self.tile.cut_rows(self.known.rows):
            inner = Scope()
            inner.statements.append(_Rows(height, Dim.symbol("_down") * height + row))
            body.statements.append(For("_down", 0, tiles, "serial", inner, []))
        return For("_across", 0, count, "serial", body, [])

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, _Panel):
            self._open_panel(level, s)
        elif isinstance(s, _Rows):
            self._tile(level, s)
        elif isinstance(s, Asked):
            size = s.buffer.item_bytes
            at = self.indices.pointer(level, s.buffer, s.position, size, {})
            self.loads.prefetch(level, at, self.panel.columns * size)
        else:
            super().statement(level, s)

    def _open_panel(self, level: Level, panel: _Panel) -> None:
        """Find or pack the columns of the right operand."""
        self.panel = panel
        column = self.contract.epilogue.variables[2]
        level.symbols[column] = self.indices.dim(level, panel.column)
        batch = Dim.symbol(self.contract.epilogue.variables[0])
        jumps = self.right.steps
        moved = self.right.start + batch * jumps[0] + panel.column * jumps[2]
        self.right_at = self.indices.start(level, self.right.buffer, moved)
        if self.way == "packed":
            packed = self.words["scratch"]
            words = (self.right_across, self.right_along, panel.columns, self.contract.depth)
            given = ", ".join(f"i64 {word}" for word in words)
            name = self.tile.pack_name("right")
            pack = self.declare(name, "ptr, i64, i64, i64, i64, ptr")
            level.put(f"call void {pack}(ptr {self.right_at}, {given}, ptr {packed})")
            self.right_at = packed

    def _tile(self, level: Level, s: _Rows) -> None:
        """Call the kernel of a tile, and what finishes it."""
        contract, tile, vector = self.contract, self.tile, self.tile.vector
        batch, row, _ = (Dim.symbol(name) for name in contract.epilogue.variables)
        columns, size = self.panel.columns, vector.element_bytes
        packed, trivial = self.way == "packed", is_trivial(contract)
        right_step = tile.columns * size if packed else self.right_along
        unit, steps = unit_bytes(self.left.buffer), self.left.steps
        moved = self.left.start + batch * steps[0] + s.row * steps[1]
        left_at = self.indices.start(level, self.left.buffer, moved)
        left_row, left_step = (step * unit for step in steps[1:])
        # As the family does: a short tile is done before what it asks for is there.
        short = self.known.depth < PREFETCH_DEPTH
        self._warm(level, s.row + (s.rows if short else 0), s.rows)
        ahead, ahead_step = self.right_at, right_step
        if left_step == size and left_row == contract.depth * size:
            ahead, ahead_step = self.values.fresh("p"), LINE_BYTES
            level.put(f"{ahead} = getelementptr i8, ptr {left_at}, i64 {s.rows * left_row}")
        target = accumulator(contract)
        out, out_row = "%sums", tile.columns * size
        if target is not None:
            element = target.steps[0] * batch + target.steps[1] * s.row + self.panel.column
            out = self.indices.start(level, target.buffer, target.start + element)
            out_row = target.steps[1] * size  # type: ignore[assignment, operator]
        to, to_row = (out, out_row) if trivial else ("%sums", tile.columns * size)
        out_bytes = self.indices.dim(level, out_row)
        to_bytes = self.indices.dim(level, to_row)
        values = (
            *(left_at, self.right_at, out, contract.depth, left_row, left_step, right_step),
            *(out_bytes, columns, 0, ahead, ahead_step, to, to_bytes, 1, 0, 0),
        )
        edge = tile.machine.has_masks and columns % vector.lanes != 0
        name = tile.kernel_name(s.rows, -(-columns // vector.lanes), edge)
        given = ", ".join(map(" ".join, zip(TILE_TYPES, map(str, values), strict=True)))
        level.put(f"call void {self.declare(name, ', '.join(TILE_TYPES))}({given})")
        if not trivial:
            place = (self.indices.dim(level, s.row), self.indices.dim(level, self.panel.column))
            words = (to_bytes, *place, s.rows, columns, self.indices.dim(level, batch))
            numbers = ", ".join(f"i64 {word}" for word in words)
            finish = self.declare(self.finish, BLOCK_TYPES)
            level.put(f"call void {finish}(ptr %frame, ptr %sums, {numbers})")

    def _warm(self, level: Level, first: Extent, rows: int) -> None:
        """Ask for what the epilogue of a tile will read and write beside the product."""
        beside = beside_product(self.contract)
        if not beside:
            return
        asked = Scope()
        asked.statements += [Asked(buffer, position) for buffer, position in beside]
        row = self.contract.epilogue.variables[1]
        start, stop = (self.indices.dim(level, end) for end in (first, first + rows))
        self.loops.counted(level, For(row, first, first + rows, "serial", asked, []), start, stop)
