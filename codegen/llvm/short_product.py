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

from graphc.codegen.gemm import SMALL_WORK, TASK_WORK
from graphc.codegen.llvm.indices import unit_bytes
from graphc.codegen.llvm.kernel import Text
from graphc.codegen.llvm.known_product import KnownProduct, KnownProductPrinter
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.shuffles import Shuffles
from graphc.codegen.loops import Contract, Kernel
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import For, Scope, Value, walk
from graphc.dims import Dim, Extent

MOST_STATEMENTS = 32  # of an epilogue that is written once for each row of a tile


def is_short(contract: Contract, machine: Machine) -> bool:
    """Whether a product is written whole: small, of known sizes, of operands read in place."""
    known = KnownProduct.of(contract, machine)
    if known is None:
        return False
    tile, work, rows, columns = known.tile, known.work, known.rows, known.columns
    # One row is for stream kernels, few columns are for dot products; longer ones have more ways.
    whole = rows >= tile.rows and columns >= tile.columns and work <= TASK_WORK
    if not (work > 0 and (whole or work <= SMALL_WORK and rows > 1 and columns > 4)):
        return False
    runs = known.right.steps[2] * unit_bytes(known.right.buffer) == tile.vector.element_bytes
    statements = list(walk(contract.epilogue.body))
    plain = len(statements) <= MOST_STATEMENTS and not any(isinstance(s, For) for s in statements)
    return runs and known.fits_vectors and plain


def short_product_module(kernel: Kernel, machine: Machine, name: str) -> Text:
    """The LLVM module of such a product, with the signature of every kernel."""
    contract = kernel.nest
    assert isinstance(contract, Contract)
    printer = _ShortPrinter(kernel, machine, contract)
    text = printer.module("\n".join(printer.written(name).lines))
    return Text(text.text + "!0 = !{}\n", text.routines)


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
        self.values.product = self.product
        self.shuffles = Shuffles(self.values)
        self.sums = ""  # of the row whose epilogue is being written

    def tiles(self) -> Iterator[For]:
        for columns, column, panels in self.tile.cut_columns(self.known.columns):
            for rows, row, count in self.tile.cut_rows(self.known.rows):
                yield _tiles(rows, row, count, columns, column, panels)

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, _Part):
            self._part(level, s)
        else:
            super().statement(level, s)

    def _part(self, level: Level, part: _Part) -> None:
        """The sums of a tile, in a loop over k, and what becomes of them, row by row."""
        vector = self.tile.vector
        vectors = -(-part.columns // vector.lanes)
        count = vectors * vector.lanes
        live = None if part.columns == count else [j < part.columns for j in range(count)]
        rows = self._sums(level, part, vectors, live)
        _, row, column = self.contract.epilogue.variables
        first, position = self.indices.dim(level, part.row), self.indices.dim(level, part.column)
        mask = None if live is None else _mask(live)
        single = "true" if part.columns == 1 else ""
        for number, sums in enumerate(rows):
            lanes = Lanes(column, count, position, mask, single)
            body = Level(self.contract.epilogue.body, level, block=level.block, lanes=lanes)
            here = self.values.fresh()
            level.put(f"{here} = add nuw nsw i64 {first}, {number}")
            body.symbols |= {row: here, column: position}
            self.sums = sums
            self.block(body, self.contract.epilogue.body)
            level.lines.extend(body.lines)
            level.block = body.block

    def _sums(
        self, level: Level, part: _Part, vectors: int, live: list[bool] | None
    ) -> list[str]:
        """A loop over k; the sums of each row of the tile, all vectors of it as one."""
        vector, fresh = self.tile.vector, self.values.fresh
        batch, depth = Dim.symbol(self.contract.epilogue.variables[0]), self.contract.depth
        steps, jumps = self.left.steps, self.right.steps
        first = self.left.start + batch * steps[0] + part.row * steps[1]
        left = self.indices.start(level, self.left.buffer, first)
        first = self.right.start + batch * jumps[0] + part.column * jumps[2]
        right = self.indices.start(level, self.right.buffer, first)
        left_row, left_step = (step * unit_bytes(self.left.buffer) for step in steps[1:])
        right_step = jumps[1] * unit_bytes(self.right.buffer)
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
        return [
            self._joined(level, [new[i, j] for j in range(vectors)]) for i in range(part.rows)
        ]

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
            f"{vector.mask} {_mask(live)}, {vector.text} zeroinitializer)"
        )
        return loaded

    def _joined(self, level: Level, parts: list[str]) -> str:
        """Vectors of as many lanes as registers have, as one."""
        own, element = self.tile.vector.lanes, self.tile.vector.element
        shuffled, joined = self.shuffles.shuffled, parts[0]
        for number, part in enumerate(parts[1:], 1):
            have = number * own
            if number > 1:  # both must have one type: what is behind the part is poison
                picks = [min(lane, own) for lane in range(have)]
                part = shuffled(level, (part, "poison"), f"<{own} x {element}>", picks)
            typed = f"<{have} x {element}>"
            joined = shuffled(level, (joined, part), typed, range(have + own))
        return joined

    def product(self, level: Level, value: Value) -> str:
        """The sums of the row whose epilogue is being written, in lanes."""
        level.names[id(value)] = self.sums
        return self.sums


def _tiles(rows: int, row: int, count: int, columns: int, column: int, panels: int) -> For:
    """Tiles of one shape: panel by panel, from top to bottom."""
    inner, outer = Scope(), Scope()
    down, across = Dim.symbol("_down"), Dim.symbol("_across")
    inner.statements.append(_Part(rows, columns, down * rows + row, across * columns + column))
    outer.statements.append(For("_down", 0, count, "serial", inner, []))
    return For("_across", 0, panels, "serial", outer, [])


def _mask(live: list[bool]) -> str:
    return f"<{', '.join('i1 true' if lane else 'i1 false' for lane in live)}>"
