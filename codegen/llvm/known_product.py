"""What is known of a product whose sizes are numbers, and how are its tiles written one by one?

Where batch, rows, columns and depth are known, and both operands are read in place with known
steps, nothing is left to be found out at run time: the product is cut into register tiles when it
is written. `short_product` writes the tiles themselves, `direct_product` calls of their kernels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from graphc.codegen.gemm.driver import SPREAD_BYTES
from graphc.codegen.gemm.microkernel import Tile
from graphc.codegen.llvm.indices import unit_bytes
from graphc.codegen.llvm.kernel import PARAMETERS, Printer
from graphc.codegen.llvm.level import Level
from graphc.codegen.loops import LINE_BYTES, Contract, Kernel, Plain, known_operands
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import For, Scope


@dataclass(frozen=True)
class KnownProduct:
    """A product of known sizes, and the register tile of its dtype."""

    tile: Tile
    left: Plain
    right: Plain
    batch: int
    rows: int
    columns: int
    depth: int

    @staticmethod
    def of(contract: Contract, machine: Machine) -> KnownProduct | None:
        operands = known_operands(contract)
        if operands is None:
            return None
        sizes = (contract.batch, contract.rows, contract.columns, contract.depth)
        batch, rows, columns, depth = (size for size in sizes if isinstance(size, int))
        tile = Tile.of(contract.dtype, machine)
        return KnownProduct(tile, *operands, batch, rows, columns, depth)

    @property
    def work(self) -> int:
        """Multiplications."""
        return self.batch * self.rows * self.columns * self.depth

    @property
    def left_spread(self) -> bool:
        """Whether rows of left lie so far apart that they have few places in the first level of
        cache, as those of one head among others, and are too many for these.
        """
        return _is_spread(self.left, self.rows, self.depth, self.tile.machine)

    @property
    def right_spread(self) -> bool:
        """The same of right."""
        return _is_spread(self.right, self.depth, self.columns, self.tile.machine)

    def misses_near(self, spread: bool) -> bool:
        """Whether an operand that is spread so is better packed: narrow panels are so near that
        it counts where the rest is.
        """
        return spread and not self.tile.long_runs

    @property
    def fits_vectors(self) -> bool:
        """Whether no row of a tile ends within a vector, or a mask takes care of that."""
        return self.tile.machine.has_masks or self.columns % self.tile.vector.lanes == 0


def _is_spread(operand: Plain, rows: int, columns: int, machine: Machine) -> bool:
    unit = unit_bytes(operand.buffer)
    across, along = (step * unit for step in operand.steps[1:])  # type: ignore[operator]
    if along != operand.buffer.item_bytes:
        across, along, rows, columns = along, across, columns, rows
    gaps = across > columns * along  # type: ignore[operator]
    return gaps and across % SPREAD_BYTES == 0 and rows * LINE_BYTES >= machine.l1 // 8


class KnownProductPrinter(Printer):
    """Writes all tiles of a product of known sizes, those of one shape as loops."""

    def __init__(self, kernel: Kernel, machine: Machine, contract: Contract) -> None:
        super().__init__(kernel, machine)
        known = KnownProduct.of(contract, machine)
        assert known is not None
        self.contract, self.known = contract, known
        self.tile, self.left, self.right = known.tile, known.left, known.right

    def tiles(self) -> Iterable[Any]:
        """The loops over the tiles of one product of the batch."""
        raise NotImplementedError

    def prepare(self, level: Level) -> None:
        """Write what all tiles need."""

    def written(self, name: str) -> Level:
        """The function that computes the product, whole."""
        level = self.open(name, PARAMETERS)
        self.prepare(level)
        for statement in self.kernel.body.statements:
            if statement is not self.contract:
                self.statement(level, statement)
        batch = self.contract.epilogue.variables[0]
        everything = For(batch, 0, self.known.batch, "serial", Scope(), [])
        everything.body.statements.extend(self.tiles())
        self.loops.counted(level, everything, "0", str(self.known.batch))
        level.put("ret void")
        level.lines.append("}")
        return level
