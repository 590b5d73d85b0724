"""How do launches that hand on products become one?  Blocks make tiles, which stay in registers.

Each launch of a `Chain` is a function of the device that is given the number of a tile: products
leave their elements in an array of the thread, a later product takes them in its epilogue. Where
the last launch works on rows, a tile is as wide as a row and a warp has whole ones, laid out just
as a kernel over rows of its own would load them; so it reduces them by shuffles, and no element of
what is handed on is in memory at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.codegen.clike import Level, enclosed
from graphc.codegen.cuda.contract import BLOCK, ContractPrinter, Tiling, tiling_of
from graphc.codegen.cuda.functions import PACK
from graphc.codegen.cuda.kernel import MOST_BLOCKS, CudaKernel, KernelPrinter
from graphc.codegen.cuda.lanes import (
    ROW_WIDTH,
    WARP,
    WIDEST,
    Access,
    accesses_of,
    may_be_packed,
    planned_for_rows,
)
from graphc.codegen.cuda.together import Parameters, Part, size_text
from graphc.codegen.loops import Buffer, Contract, Kernel
from graphc.codegen.passes.chains import handed_candidates
from graphc.codegen.program import Chain, Launch, Storage
from graphc.codegen.scalar import For, Store, Value
from graphc.dims import Dim, Extent, dim_min

# Elements of products that a thread holds, and rows of a warp.
MOST_HELD, ROWS_OF_WARP = 64, (4, 2)
# Columns of a row that a warp has: fewer leave threads idle, more go through memory.
LEAST_COLUMNS, MOST_COLUMNS = WARP * ROW_WIDTH, 512
# Columns beyond which a step along the contracted axis is shorter, for want of shared memory.
WIDE, SHORT_STEP = 256, 8


def fits(launches: Sequence[Launch]) -> bool:
    """Whether a block can hand on what these launches make."""
    return tiling_of_chain(launches) is not None


def tiling_of_chain(launches: Sequence[Launch]) -> Tiling | None:
    """The tiles in which launches hand on products; None if they cannot."""
    *products, last = launches
    contracts = [launch.kernel.nest for launch in launches if _is_product(launch)]
    if not all(isinstance(each, Contract) and each.dtype == "float32" for each in contracts):
        return None
    if any(tiling_of(each) != Tiling() for each in contracts):  # type: ignore[arg-type]
        return None  # large ones do better by themselves
    made = {id(o.storage) for each in products for _, o in handed_candidates(each)}
    read = {id(o.storage) for launch in launches for o in launch.operands} & made
    if _is_product(last):
        return Tiling() if 16 * (len(read) + 1) <= MOST_HELD else None
    columns = contracts[0].columns  # type: ignore[union-attr]
    return _tiling_of_rows(columns, len(read)) if _keeps_to_registers(last, read) else None


def _tiling_of_rows(columns: Extent, count: int) -> Tiling | None:
    """Tiles as wide as rows, of which each thread holds elements of `count` products."""
    known = isinstance(columns, int) and columns % ROW_WIDTH == 0
    if not known or not LEAST_COLUMNS <= columns <= MOST_COLUMNS:  # type: ignore[operator]
        return None
    each = -(-int(columns) // LEAST_COLUMNS) * ROW_WIDTH  # type: ignore[call-overload]
    for rows in ROWS_OF_WARP:
        if rows * each * count <= MOST_HELD:
            depth = Tiling.depth if columns <= WIDE else SHORT_STEP  # type: ignore[operator]
            return Tiling(rows, each, WARP, depth)
    return None


def _is_product(launch: Launch) -> bool:
    return isinstance(launch.kernel.nest, Contract)


def _keeps_to_registers(launch: Launch, held: set[int]) -> bool:
    """Whether a kernel over rows needs no scratch but what its warps keep in registers."""
    storages = [id(operand.storage) for operand in launch.operands]
    groups = [storages.index(storage) for storage in storages]
    buffers = launch.kernel.buffers
    names = {b: b.name for b, s in zip(buffers, storages, strict=True) if s in held}
    made = RowsPrinter(launch.kernel, groups, [WIDEST] * len(groups), names, Tiling(), None)
    scratch = {b for b in buffers if b.space == "worker"} - made.unread
    return scratch <= made.planned().registers


# -- the functions of a chain ----------------------------------------------------------------------


class _Held:
    """What printers of a chain know of it: the names of arrays of the thread, by buffer."""

    kernel: Kernel
    held: Mapping[Buffer, str]
    tiling: Tiling

    def tile_parameters(self) -> list[str]:
        """The parameters of a function for what is held."""
        packs = self.tiling.columns_each // ROW_WIDTH
        shape = f"[{self.tiling.rows_each}][{packs}]"
        return [
            f"Pack<float, {ROW_WIDTH}> (&{self.held[buffer]}){shape}"
            for buffer in self.kernel.buffers
            if buffer in self.held
        ]


class ProductPrinter(_Held, ContractPrinter):
    """Writes a contraction as a function that makes one tile, some of whose operands or results
    are held.
    """

    def __init__(
        self,
        kernel: Kernel,
        groups: Sequence[int],
        alignments: Sequence[int],
        held: Mapping[Buffer, str],
        tiling: Tiling,
    ) -> None:
        super().__init__(kernel, groups, alignments)
        self.held, self.tiling = held, tiling

    def body(self, top: Level) -> None:
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        self.prepare(top, contract, self.tiling)
        inside = top.inner({"_tile": "tile"}, lanes=True)
        inside.depth = top.depth
        self.one_tile(inside, contract)
        top.lines += inside.lines

    def accesses_in_memory(self, loop: For) -> list[Access]:
        return [a for a in accesses_of(loop, self.live) if a.buffer not in self.held]

    def held_element(self, buffer: Buffer) -> str:
        """The element of a held array that the epilogue is at."""
        column = enclosed(self.column)
        return f"{self.held[buffer]}[m][{column} / {ROW_WIDTH}].at[{column} % {ROW_WIDTH}]"

    def load(self, level: Level, value: Value) -> str:
        if value.immediate.buffer in self.held:
            return self.held_element(value.immediate.buffer)
        return super().load(level, value)

    def store(self, level: Level, s: Store) -> None:
        if s.buffer in self.held:
            level.put(f"{self.held_element(s.buffer)} = {self.operand(s.value)};")
        else:
            super().store(level, s)


class RowsPrinter(_Held, KernelPrinter):
    """Writes a kernel over rows as a function for those of one tile: each warp has some."""

    def __init__(
        self,
        kernel: Kernel,
        groups: Sequence[int],
        alignments: Sequence[int],
        held: Mapping[Buffer, str],
        tiling: Tiling,
        contract: Contract | None,
    ) -> None:
        """`contract` is one of those that make the tiles."""
        super().__init__(kernel, groups, alignments)
        self.held, self.tiling, self.contract = held, tiling, contract

    def planned(self) -> Any:
        self.lanes = planned_for_rows(
            self.kernel, self.live, self.group, self.writes, self.alignment, set(self.held)
        )
        return self.lanes

    def body(self, top: Level) -> None:
        nest = self.kernel.nest
        assert isinstance(nest, For)
        self.tasks = nest.stop
        self.lanes = self.planned()
        self.block = self.lanes.block
        self.on_chip = {*self.lanes.registers, *self.held}
        self.helpers.setdefault("pack", PACK)
        for statement in self.kernel.body.statements:
            if statement is not nest:
                self.statement(top, statement)
        self.rows(top, nest)

    def rows(self, top: Level, nest: For) -> None:
        """The rows of a tile that a warp has, one after the other."""
        contract, each = self.contract, self.tiling.rows_each
        assert contract is not None
        place = top.inner({"_tile": "tile"})
        place.depth = top.depth
        tile, tiles = Dim.symbol("_tile"), self.tiling.tiles(contract)[0]
        row = tile % tiles * self.tiling.rows if tiles != 1 else 0
        first = self.index(place, row)
        place.put(f"const {self.INTEGER} row0 = {first} + warp * {each};")
        before = self.index(place, tile // tiles * contract.rows)
        variable = nest.variable
        body = place.inner()
        inside = body.inner({variable: variable})
        ragged = not isinstance(contract.rows, int) or contract.rows % self.tiling.rows
        inside.depth = body.depth + bool(ragged)
        inside.put(f"const {self.INTEGER} {variable} = {enclosed(before)} + row0 + m;")
        self.scope(inside, nest.body)
        if ragged:
            body.close(f"if (row0 + m < {enclosed(self.index(place, contract.rows))})", inside)
        else:
            body.lines += inside.lines
        place.put("#pragma unroll")
        place.close(f"for (int m = 0; m < {each}; ++m)", body)
        top.lines += place.lines

    def may_pack(self, access: Access) -> bool:
        return access.buffer in self.held or may_be_packed(access, self.alignment)

    def taken(self, access: Access, source: str, width: int, rest: str) -> str:
        if access.buffer not in self.held:
            return super().taken(access, source, width, rest)
        turn = "r" if (self.lanes.rounds_of(access.loop) or 1) > 1 else "0"
        return f"{self.held[access.buffer]}[m][{turn}]"

    def pack_address(self, level: Level, access: Access, first: str) -> str:
        return "" if access.buffer in self.held else super().pack_address(level, access, first)


# -- the chain -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """A launch of a chain as it is called: its printer, its function, and its arguments."""

    printer: ProductPrinter | RowsPrinter
    function: CudaKernel
    arguments: tuple[Any, ...]
    held: tuple[str, ...]


class ChainPrinter:
    """Writes a chain as a function of the device, of which a kernel gives each part some blocks.

    `place` gives the numbers of a launch's memory and its alignments, `resolve` the argument of a
    word of a printer.
    """

    def __init__(
        self,
        chain: Chain,
        place: Callable[[Launch], tuple[list[int], list[int]]],
        resolve: Callable[[Launch, KernelPrinter, tuple[str, Any]], Any],
    ) -> None:
        tiling = tiling_of_chain(chain.launches)
        first = chain.launches[0].kernel.nest
        assert tiling is not None and isinstance(first, Contract)
        row_tiles, column_tiles = tiling.tiles(first)
        self.tiling, self.contract = tiling, first
        self.tasks: Extent = first.batch * row_tiles * column_tiles
        self.tiles: dict[int, str] = {}
        for launch in chain.launches:
            for operand in launch.operands:
                if operand.storage.kind == "held":
                    self.tiles.setdefault(id(operand.storage), f"tile{len(self.tiles)}")
        self.chain = chain
        self.stages = [self._stage(launch, place, resolve) for launch in chain.launches]

    def on_chip(self) -> list[set[Buffer]]:
        """For each launch the buffers that are not in memory."""
        return [{*stage.printer.on_chip, *stage.printer.held} for stage in self.stages]

    def grid(self) -> Extent:
        return dim_min(self.tasks, MOST_BLOCKS)

    def part(self) -> Part:
        """The function, its arguments and blocks."""
        names = Parameters()
        lines = [f"        Pack<float, {ROW_WIDTH}> {self._tile_list()};"]
        shared = max(stage.function.shared_bytes for stage in self.stages)
        for stage in self.stages:
            pairs = zip(stage.arguments, stage.function.parameters, strict=True)
            listed = [names.name(argument, like) for argument, like in pairs]
            listed += ["tile", *stage.held]
            listed += ["shared"] if stage.function.shared_bytes else []
            lines.append(f"        {stage.function.name}(\n            {', '.join(listed)});")
        stop = size_text(self.tasks, names)
        integer = "int" if isinstance(self.tasks, int) else "long long"
        head = f"    for ({integer} tile = block; tile < {stop}; tile += blocks) {{"
        body = "\n".join(["{", head, *lines, "    }", "}"])
        parameters = tuple(names.found.values())
        listed = [f"{p.type} {p.name}" for p in parameters]
        listed += ["const int block", "const int blocks", *["unsigned char* shared"] * bool(shared)]
        helpers: dict[str, str] = {}
        for stage in self.stages:
            helpers |= stage.function.helpers
        helpers |= {stage.function.name: stage.function.text for stage in self.stages}
        digest = hashlib.blake2b("\0".join([*listed, body, *helpers]).encode(), digest_size=5)
        titles = [stage.function.name.split("_")[0] for stage in self.stages]
        name = f"{'_then_'.join(dict.fromkeys(titles))}_{digest.hexdigest()}"
        text = f"static __device__ __forceinline__ void {name}(\n    "
        text += ",\n    ".join(listed) + f")\n{body}"
        failing = any(stage.function.can_fail for stage in self.stages)
        function = CudaKernel(name, BLOCK, shared, parameters, text, helpers, failing)
        return Part(function, tuple(argument for argument, _ in names.found), self.grid())

    def _tile_list(self) -> str:
        shape = f"[{self.tiling.rows_each}][{self.tiling.columns_each // ROW_WIDTH}]"
        return ", ".join(f"{name}{shape} = {{}}" for name in self.tiles.values())

    def _held(self, launch: Launch) -> dict[Buffer, str]:
        pairs = zip(launch.kernel.buffers, launch.operands, strict=True)
        return {b: f"held_{b.name}" for b, o in pairs if id(o.storage) in self.tiles}

    def _stage(
        self,
        launch: Launch,
        place: Callable[[Launch], tuple[list[int], list[int]]],
        resolve: Callable[[Launch, KernelPrinter, tuple[str, Any]], Any],
    ) -> _Stage:
        groups, alignments = place(launch)
        held = self._held(launch)
        if _is_product(launch):
            made: Any = ProductPrinter(launch.kernel, groups, alignments, held, self.tiling)
        else:
            made = RowsPrinter(
                launch.kernel, groups, alignments, held, self.tiling, self.contract
            )
        integer = "int" if isinstance(self.tasks, int) else "long long"
        function = made.part_function([f"const {integer} tile", *made.tile_parameters()])
        arguments = tuple(resolve(launch, made, word) for word in made.words)
        storages: dict[Buffer, Storage] = {
            b: o.storage for b, o in zip(launch.kernel.buffers, launch.operands, strict=True)
        }
        names = tuple(self.tiles[id(storages[b])] for b in launch.kernel.buffers if b in held)
        return _Stage(made, function, arguments, names)


__all__ = ["ChainPrinter", "fits"]
