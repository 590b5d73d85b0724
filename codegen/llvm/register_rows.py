"""How does an epilogue take the sums of a register tile from the registers?  Row by row.

What `contract` writes as a function of blocks in memory is written here once for each row of a
tile, in a kernel that has just computed it: `short_product` has such tiles, and so has a kernel of
the family that the job names as its finisher. The sums are neither stored nor loaded in between,
and what lies beside the product is asked for while they are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.gemm.microkernel import Finish, Tile, tile_kernel
from graphc.codegen.irtext import Function, Operand
from graphc.codegen.llvm.kernel import Printer
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.shuffles import Shuffles
from graphc.codegen.loops import LINE_BYTES, Buffer, Contract, Kernel
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import Scope, Store, Value, walk
from graphc.dims import Dim, Extent, substitute

MOST_STATEMENTS = 32  # of an epilogue that is written once for each row of a tile
FEW_STATEMENTS = 16  # of one that is written beside another, for edges
NEAREST = 3  # the first level of cache, in which the rows of out are asked for, too


class RegisterRows:
    """The rows of register tiles, for a printer of the function that computes them."""

    def __init__(self, printer: Printer, contract: Contract, tile: Tile) -> None:
        self.printer, self.contract, self.tile = printer, contract, tile
        self.shuffles = Shuffles(printer.values)
        self._sums = ""  # of the row whose epilogue is being written
        printer.values.product = self._product

    def write(
        self,
        level: Level,
        place: tuple[str, str],
        sums: Sequence[Sequence[str]],
        live: Sequence[bool] | None = None,
    ) -> None:
        """What becomes of a tile whose first row and column are `place`: of each row, `sums` are
        the vectors. All lanes are live, if it is not said which are.
        """
        (first, position), printer = place, self.printer
        _, row, column = self.contract.epilogue.variables
        count = len(sums[0]) * self.tile.vector.lanes
        mask = None if live is None else mask_text(live)
        single = "true" if live is not None and sum(live) == 1 else ""
        joined = [self._joined(level, vectors) for vectors in sums]
        for number, self._sums in enumerate(joined):
            lanes = Lanes(column, count, position, mask, single)
            body = Level(self.contract.epilogue.body, level, block=level.block, lanes=lanes)
            here = printer.values.fresh()
            level.put(f"{here} = add nuw nsw i64 {first}, {number}")
            body.symbols |= {row: here, column: position}
            printer.block(body, self.contract.epilogue.body)
            level.lines.extend(body.lines)
            level.block = body.block

    def _joined(self, level: Level, parts: Sequence[str]) -> str:
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

    def _product(self, level: Level, value: Value) -> str:
        """The sums of this row, in lanes."""
        level.names[id(value)] = self._sums
        return self._sums


def mask_text(live: Sequence[bool]) -> str:
    """A mask of lanes, as a constant."""
    return f"<{', '.join('i1 true' if lane else 'i1 false' for lane in live)}>"


def fits_registers(body: Scope, most: int = MOST_STATEMENTS) -> bool:
    """Whether the body of an epilogue may be written for each row: short, without loops."""
    statements = list(walk(body))
    return len(statements) <= most and all(isinstance(s, (Value, Store)) for s in statements)


def is_finished_in_registers(kernel: Kernel, contract: Contract) -> bool:
    """Whether a product has a kernel that finishes full tiles: one that does little to them.

    Routines need registers of their own, and more time than a tile waits for memory.
    """
    plain = all(isinstance(s, (Value, Contract)) for s in kernel.body.statements)
    values = [s for s in walk(contract.epilogue.body) if isinstance(s, Value)]
    calls = any(value.opcode in ("call", "lookup") for value in values)
    return plain and not calls and fits_registers(contract.epilogue.body, FEW_STATEMENTS)


class FinisherPrinter(Printer):
    """Writes the kernel of the family that finishes the tiles of a product.

    `beside` are the rows beside those of the product that the epilogue reads and writes.
    """

    def __init__(
        self,
        kernel: Kernel,
        machine: Machine,
        contract: Contract,
        beside: Sequence[tuple[Buffer, Extent]],
    ) -> None:
        super().__init__(kernel, machine)
        self.contract, self.beside = contract, beside
        self.tile = Tile.of(contract.dtype, machine)
        self.rows = RegisterRows(self, contract, self.tile)

    def text(self, name: str) -> str:
        finish = Finish(name, self._ask, self._write)
        f = tile_kernel(self.tile, self.tile.rows, self.tile.vectors, finish=finish)
        self.values.declarations |= f.declarations
        return f.text

    def _opened(self, f: Function, row: Operand) -> Level:
        """What is written at this place of the function: words of the frame, and what is in front
        of the product.
        """
        level = Level(None, None, block=f.here)
        self.fetch_words(level, "%frame")
        batch, row_name, _ = self.contract.epilogue.variables
        level.symbols |= {batch: "%batch", row_name: str(row)}
        for statement in self.kernel.body.statements:
            if statement is not self.contract:
                self.statement(level, statement)
        return level

    def _ask(self, f: Function, row: Operand) -> None:
        """Ask for what lies beside a tile. Rows may begin within a line, so for their ends, too."""
        if not self.beside:
            return
        level = self._opened(f, row)
        _, row_name, column = self.contract.epilogue.variables
        level.symbols[column] = "%column"
        for buffer, position in self.beside:
            size = buffer.item_bytes
            bytes_ = self.tile.columns * size
            for number in range(self.tile.rows):
                below = substitute(position, {row_name: Dim.symbol(row_name) + number})
                below += buffer.next_step // size
                at = self.indices.pointer(level, buffer, below, size, {})
                for offset in (*range(0, bytes_, LINE_BYTES), bytes_ - 1):
                    line = self.values.fresh("p")
                    level.put(f"{line} = getelementptr i8, ptr {at}, i64 {offset}")
                    self.loads.prefetch(level, line, 1, NEAREST)
        f.splice(level.lines, level.block)

    def _write(self, f: Function, row: Operand, totals: list[Operand]) -> None:
        """Do what the epilogue does with all rows of a tile."""
        level = self._opened(f, row)
        vectors = self.tile.vectors
        sums = [
            [str(total) for total in totals[i : i + vectors]]
            for i in range(0, len(totals), vectors)
        ]
        self.rows.write(level, (str(row), "%column"), sums)
        f.splice(level.lines, level.block)
