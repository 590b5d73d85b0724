"""How is a contraction written as LLVM IR? A job for the matrix-product family, its packers and its
epilogue.

Operands that lie in memory with constant steps are read in place, whatever their order: transposed,
sliced, batched. If only the batch has no constant step, as that of heads of several sequences, a
function says where each of its products is. For one whose place is a sum over its indices, as
windows into an array have it, there are functions that write tables of offsets, and it is read
where those say. Any other operand, with element-wise work fused into it, is a *packer*: a function
that writes one panel of its values where the family wants it. The epilogue is a function of some
finished tiles of the product, called while they are in cache: their rows are a loop in order, their
columns a vector loop, and its body is printed as any other. Sums are accumulated in one of the
outputs where that is allowed, else in scratch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from graphc.codegen.gemm.driver import JOB, entry_name
from graphc.codegen.gemm.microkernel import ELEMENTS, Tile
from graphc.codegen.llvm.indices import unit_bytes
from graphc.codegen.llvm.kernel import PARAMETERS, Driver, Printer, Text
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.register_rows import FinisherPrinter, is_finished_in_registers
from graphc.codegen.loops import (
    Buffer,
    Contract,
    Kernel,
    Panelled,
    Placed,
    Plain,
    Region,
    Tabled,
    accumulator,
    accumulator_buffer,
    linear,
    panelled_operand,
    placed_operand,
    plain_operand,
    product_bytes,
    tabled_operand,
    tabled_sides,
    walk,
)
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import Address, For, Routine, Scope, Store, Value, item_bytes
from graphc.dims import (
    Bounds,
    Compound,
    Dim,
    Extent,
    affine,
    ceildiv,
    dim_max,
    dim_min,
    substitute,
    symbols_of,
)


def contract_module(kernel: Kernel, machine: Machine, name: str) -> Text:
    """The LLVM text of a contraction kernel: functions of its tiles, and the kernel, which fills in
    a job.
    """
    contract = kernel.nest
    assert isinstance(contract, Contract)
    tiles = tile_functions(kernel, machine, name, finisher=has_finisher(kernel, machine))
    job = _JobPrinter(kernel, machine)
    return replace(tiles, driver=job.written(name, contract))


def tile_functions(
    kernel: Kernel,
    machine: Machine,
    name: str,
    widths: str = "any",
    warm: bool = True,
    finisher: bool = False,
) -> Text:
    """The module of what the family calls for parts of a product: its epilogue, what asks for what
    that will need (if `warm`), the kernel that finishes full tiles (if `finisher`), packers of
    operands, or tables of where they lie. Empty if there is nothing of these.

    `widths` says how many columns the blocks have that the epilogue finishes: "whole", those of a
    register tile; "ragged", as many at the most; "any".
    """
    contract = kernel.nest
    assert isinstance(contract, Contract)
    parts = []
    declarations: set[str] = set()
    routines: dict[str, tuple[Routine, int]] = {}
    prelude: list[str] = []
    if not is_trivial(contract):
        epilogue = _EpiloguePrinter(kernel, machine, contract, widths)
        parts.append(epilogue.text(f"{name}_epilogue"))
        declarations |= epilogue.values.declarations
        beside = beside_product(contract) if warm else {}
        if beside:
            asking = _WarmPrinter(kernel, machine, contract)
            parts.append(asking.text(f"{name}_warm", beside))
            declarations |= asking.values.declarations
        routines |= epilogue.routines
        prelude += epilogue.preludes()
        if finisher:
            tiles = FinisherPrinter(kernel, machine, contract, list(beside_product(contract)))
            parts.append(tiles.text(f"{name}_finisher"))
            declarations |= tiles.values.declarations
            prelude += tiles.preludes()
    for side, region in (("left", contract.left), ("right", contract.right)):
        if plain_operand(region) is not None:
            continue
        if side == "right" and panels_of(contract, machine) is not None:
            continue
        placed, tabled = placed_operand(region), tabled_operand(region)
        if placed is not None:
            offsets = _OffsetsPrinter(kernel, machine, contract, region, placed, "place")
            parts.append(offsets.text(f"{name}_{side}_place"))
        elif tabled is not None:
            for axis in ("across", "along"):
                offsets = _OffsetsPrinter(kernel, machine, contract, region, tabled, axis)
                parts.append(offsets.text(f"{name}_{side}_{axis}"))
        else:
            packer = _PackPrinter(kernel, machine, contract, region, side)
            parts.append(packer.text(f"{name}_{side}"))
            declarations |= packer.values.declarations
            routines |= packer.routines
            prelude += packer.preludes()
    if not parts:
        return Text("", {})
    preludes = dict.fromkeys(prelude)
    text = "\n".join([*sorted(declarations), "", *preludes, *parts, "!0 = !{}"]) + "\n"
    return Text(text, routines)


def is_trivial(contract: Contract) -> bool:
    """Whether the epilogue only stores the product where it was accumulated."""
    target = accumulator_buffer(contract)
    stores = [s for s in contract.epilogue.body.statements if isinstance(s, Store)]
    others = [s for s in contract.epilogue.body.statements if not isinstance(s, Store)]
    only = len(stores) == 1 and stores[0].value is contract.product
    return target is not None and only and not others and stores[0].buffer is target


def has_finisher(kernel: Kernel, machine: Machine) -> bool:
    """Whether full tiles of a product are finished in registers."""
    contract = kernel.nest
    assert isinstance(contract, Contract)
    if contract.dtype not in ELEMENTS or is_trivial(contract):
        return False
    tile = Tile.of(contract.dtype, machine)
    sizes = ((contract.rows, tile.rows), (contract.columns, tile.columns))
    full = all(not isinstance(size, int) or size >= least for size, least in sizes)
    return full and is_finished_in_registers(kernel, contract)


def panels_of(contract: Contract, machine: Machine) -> Panelled | None:
    """How right lies, if it does in panels as this machine reads them."""
    found = panelled_operand(contract)
    if found is None or contract.dtype not in ELEMENTS:
        return None
    tile = Tile.of(contract.dtype, machine)
    apart = isinstance(found.panel, int) and found.panel % found.width == 0
    fits = found.width == tile.columns and found.buffer.dtype == contract.dtype
    return found if apart and fits else None


def sides_with_tables(contract: Contract, machine: Machine) -> frozenset[str]:
    """The operands, "left" or "right", of which tables say where they lie."""
    panels = frozenset({"right"} if panels_of(contract, machine) is not None else ())
    return tabled_sides(contract) - panels


_AXES = ("batch", "row", "column")


class _JobPrinter(Printer):
    """Fills in a job and hands it to the family."""

    def written(self, name: str, contract: Contract) -> Driver:
        level = self.open(name, PARAMETERS)
        for statement in self.kernel.body.statements:
            if statement is not contract:
                self.statement(level, statement)
        job, whole = "%job", -(-len(JOB) // 8)
        level.put(f"{job} = alloca [{8 * whole} x i64], align 64")
        words = dict.fromkeys(JOB, "i64 0")
        for side, region in (("left", contract.left), ("right", contract.right)):
            self._side_words(level, words, name, side, region)
        self._result_words(level, words, contract)
        words["rows"] = f"i64 {self.indices.dim(level, contract.rows)}"
        words["columns"] = f"i64 {self.indices.dim(level, contract.columns)}"
        words["depth"] = f"i64 {self.indices.dim(level, contract.depth)}"
        words["batches"] = f"i64 {self.indices.dim(level, contract.batch)}"
        words["workers"] = f"i64 {self.words['workers']}"
        words["status"] = f"ptr {self.words['status']}"
        if not is_trivial(contract):
            words["epilogue"] = f"ptr {self.declare(f'{name}_epilogue')}"
            words["epilogue_context"] = "ptr %frame"
            if beside_product(contract):
                words["warm"] = f"ptr {self.declare(f'{name}_warm')}"
            if has_finisher(self.kernel, self.machine):
                words["finisher"] = f"ptr {self.declare(f'{name}_finisher')}"
        for number in range(whole):
            at = self.values.fresh("j")
            level.put(f"{at} = getelementptr i64, ptr {job}, i64 {8 * number}")
            level.put(f"store <8 x i64> zeroinitializer, ptr {at}, align 64")
        for word, value in words.items():
            if value == "i64 0":
                continue
            at = self.values.fresh("j")
            level.put(f"{at} = getelementptr i64, ptr {job}, i64 {JOB[word]}")
            level.put(f"store {value}, ptr {at}, align 8")
        level.put(f"call void {self.declare(entry_name(contract.dtype), 'ptr')}(ptr {job})")
        level.put("ret void")
        level.lines.append("}")
        return self.driver(level)

    def _side_words(
        self, level: Level, words: dict[str, str], name: str, side: str, region: Region
    ) -> None:
        """Where an operand is read in place, or by tables, or what packs it."""
        plain, tabled = plain_operand(region), tabled_operand(region)
        placed = placed_operand(region)
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        panelled = panels_of(contract, self.machine) if side == "right" else None
        if plain is not None:
            self._plain_words(level, words, side, plain)
        elif panelled is not None:
            unit = unit_bytes(panelled.buffer)
            words["right"] = f"ptr {self.indices.start(level, panelled.buffer, panelled.start)}"
            words["right_panels"] = "i64 1"
            across = panelled.panel * unit // panelled.width
            steps = (panelled.batch * unit, panelled.row * unit, across)
            for axis, step in zip(_AXES, steps, strict=True):
                words[f"right_{axis}"] = f"i64 {self.indices.dim(level, step)}"
        elif placed is not None:
            steady = Plain(placed.buffer, placed.start, (0, *placed.steps))
            self._plain_words(level, words, side, steady)
            words[f"{side}_place"] = f"ptr {self.declare(f'{name}_{side}_place')}"
            words["offsets_context"] = "ptr %frame"
        elif tabled is not None:
            words[side] = f"ptr {self.indices.start(level, tabled.buffer, tabled.start)}"
            words[f"{side}_across"] = f"ptr {self.declare(f'{name}_{side}_across')}"
            words[f"{side}_along"] = f"ptr {self.declare(f'{name}_{side}_along')}"
            words["offsets_context"] = "ptr %frame"
        else:
            words[f"pack_{side}"] = f"ptr {self.declare(f'{name}_{side}')}"
            words[f"pack_{side}_context"] = "ptr %frame"

    def _plain_words(self, level: Level, words: dict[str, str], side: str, plain: Plain) -> None:
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        inner = (contract.rows, contract.depth)
        if side == "right":
            inner = (contract.depth, contract.columns)
        extents = (contract.batch, *inner)
        unit = unit_bytes(plain.buffer)
        words[side] = f"ptr {self.indices.start(level, plain.buffer, plain.start)}"
        for axis, extent, step in zip(_AXES, extents, plain.steps, strict=True):
            # An axis of one element is never stepped along. Its step says how the operand lies,
            # which the family chooses by: as if it were contiguous.
            moved = plain.buffer.item_bytes if extent == 1 else step * unit
            words[f"{side}_{axis}"] = f"i64 {self.indices.dim(level, moved)}"

    def _result_words(self, level: Level, words: dict[str, str], contract: Contract) -> None:
        """Where the sums go: where the result does, or in front of the workspace."""
        target = accumulator(contract)
        scratch = workspace = self.words["scratch"]
        if target is None:
            out, row = scratch, contract.columns
            batch = contract.rows * contract.columns
            offset = self.indices.dim(level, product_bytes(contract))
            workspace = self.values.fresh("p")
            level.put(f"{workspace} = getelementptr i8, ptr {scratch}, i64 {offset}")
        else:
            out = self.indices.start(level, target.buffer, target.start)
            batch, row, _ = target.steps
            if contract.rows == 1:
                row = contract.columns  # it says how out lies, as if it were contiguous
        size = item_bytes(contract.dtype)
        words["out"] = f"ptr {out}"
        words["out_row"] = f"i64 {self.indices.dim(level, row * size)}"
        words["out_batch"] = f"i64 {self.indices.dim(level, batch * size)}"
        words["workspace"] = f"ptr {workspace}"


class _OffsetsPrinter(Printer):
    """Writes a function that tabulates offsets in bytes, along one variable of an operand: those of
    its places in the batch, or "across" or "along" its panels.

    If the variable stands for several axes, it is taken apart, once for each line of the last.
    """

    def __init__(
        self,
        kernel: Kernel,
        machine: Machine,
        contract: Contract,
        region: Region,
        operand: Tabled | Placed,
        axis: str,
    ) -> None:
        super().__init__(kernel, machine)
        self.contract = contract
        unit = unit_bytes(operand.buffer)
        self.batch = region.variables[0]
        self.rest: Extent = 0
        if isinstance(operand, Placed):
            self.variable, self.offset = self.batch, operand.place * unit
            return
        number = 1 if (region is contract.left) == (axis == "across") else 2
        self.variable = region.variables[number]
        self.offset = operand.parts[number] * unit
        self.rest = operand.parts[0] * unit if axis == "across" else 0

    def text(self, name: str) -> str:
        parameters = "ptr %frame, ptr %table, i64 %first, i64 %count, i64 %batch"
        level = self.open(name, parameters)
        level.put("%last = add i64 %first, %count")
        level.symbols |= {self.batch: "%batch", "_first": "%first", "_last": "%last"}
        for statement in self.kernel.body.statements:
            if statement is not self.contract:
                self.statement(level, statement)
        self.statement(level, self._nest())
        level.put("ret void")
        level.lines.append("}")
        return "\n".join(level.lines)

    def _nest(self) -> For:
        first, last = Dim.symbol("_first"), Dim.symbol("_last")
        found = _by_lines(self.offset, self.variable)
        if found is None:
            entry = _Entry(Dim.symbol(self.variable) - first, self.offset + self.rest)
            return For(self.variable, first, last, "serial", _scope(entry), [])
        length, start, step = found
        line, place = Dim.symbol("_line"), Dim.symbol("_place")
        before = line * length
        entry = _Entry(before + place - first, Dim.symbol("_start") + place * step)
        places = For(
            "_place", dim_max(first - before, 0), dim_min(last - before, length), "serial",
            _scope(entry), [],
        )
        body = _scope(_Entry(None, start + self.rest))
        body.statements.append(places)
        return For("_line", first // length, ceildiv(last, length), "serial", body, [])

    def statement(self, level: Level, s: Any) -> None:
        if not isinstance(s, _Entry):
            super().statement(level, s)
            return
        offset = self.indices.dim(level, s.offset)
        if s.place is None:
            level.symbols["_start"] = offset
            return
        at = self.indices.advance(level, "%table", s.place, 8, {})
        level.put(f"store i64 {offset}, ptr {at}, align 8")


@dataclass(frozen=True)
class _Entry:
    """Stands in the body of a loop: store an offset at a place in the table; without a place it is
    that of the line, `_start`.
    """

    place: Extent | None
    offset: Extent


def _by_lines(offset: Extent, variable: str) -> tuple[Extent, Extent, Extent] | None:
    """The extent of the last of the axes that a variable stands for, what an offset is at the start
    of line `_line` of it, and its step along that; None if there are no such lines.
    """
    if isinstance(offset, int):
        return None
    place, whole = Dim.symbol("_place"), Dim.symbol(variable)
    atoms = [atom for monomial, _ in offset.terms for atom, _ in monomial]
    divisors = [
        atom.arguments[1]
        for atom in atoms
        if isinstance(atom, Compound)
        and atom.operator in ("floordiv", "mod")
        and atom.arguments[0] == whole
    ]
    for length in sorted(set(divisors), key=lambda d: (d if isinstance(d, int) else 0, str(d))):
        apart = substitute(offset, {variable: Dim.symbol("_line") * length + place})
        bounds = Bounds({"_place": (0, length - 1), "_line": (0, None)})
        split = affine(bounds.simplify(apart), "_place")
        if split is not None:
            return length, split[1], split[0]
    return None


class _PackPrinter(Printer):
    """Writes a packer: element (first + i, k + l) of an operand to `destination + l * stride + i *
    size`.

    Along the panel, i, elements are lanes. Mostly k is a loop in order around them. Where i stands
    for several axes of an array, lanes go over one line of the last of them at a time, so that they
    load from memory with a constant step; where even that is too short, k is the inner loop, so
    that what divisions say about i is found once for all k.
    """

    def __init__(
        self, kernel: Kernel, machine: Machine, contract: Contract, region: Region, side: str
    ) -> None:
        super().__init__(kernel, machine)
        self.contract = contract
        self.region = region
        batch, first, second = region.variables
        self.batch = batch
        across, self.along = (first, second) if side == "left" else (second, first)
        self.across: Extent = Dim.symbol(across)
        self.nest = self._nest(across)

    def _nest(self, across: str) -> For:
        """The loops around one element, without that over k if it comes last."""
        first, last = Dim.symbol("_first"), Dim.symbol("_last")
        lines = self.region.lines
        inner = Scope()
        if lines is not None:
            self.region, length = lines, self.region.length
            _, line, place, _ = lines.variables
            start = Dim.symbol(line) * length
            self.across = start + Dim.symbol(place)
            inner.statements += [*lines.body.statements, _PACKED]
            lanes = For(
                place, dim_max(first - start, 0), dim_min(last - start, length), "vector", inner, []
            )
            number = For(line, first // length, ceildiv(last, length), "serial", _scope(lanes), [])
            return self._over_k(_scope(number))
        inner.statements += [*self.region.body.statements, _PACKED]
        if _divides(self.region, across):
            return For(across, first, last, "vector", _scope(self._over_k(inner)), [])
        return self._over_k(_scope(For(across, first, last, "vector", inner, [])))

    def _over_k(self, body: Scope) -> For:
        return For(self.along, Dim.symbol("_k"), Dim.symbol("_k_end"), "serial", body, [])

    def text(self, name: str) -> str:
        parameters = (
            "ptr %frame, ptr %destination, i64 %first, i64 %count, i64 %k, i64 %depth, i64 %batch, "
            "i64 %stride"
        )
        level = self.open(name, parameters)
        level.put("%last = add i64 %first, %count")
        level.put("%k_end = add i64 %k, %depth")
        level.symbols |= {
            self.batch: "%batch",
            "_first": "%first",
            "_last": "%last",
            "_k": "%k",
            "_k_end": "%k_end",
            "_stride": "%stride",
        }
        for statement in self.kernel.body.statements:
            if statement is not self.contract:
                self.statement(level, statement)
        self.statement(level, self.nest)
        level.put("ret void")
        level.lines.append("}")
        return "\n".join(level.lines)

    def statement(self, level: Level, s: Any) -> None:
        if s is not _PACKED:
            super().statement(level, s)
            return
        lanes, value = level.lanes, self.region.value
        assert lanes is not None and value is not None
        size = item_bytes(value.dtype)
        along = (Dim.symbol(self.along) - Dim.symbol("_k")) * Dim.symbol("_stride")
        across = (self.across - Dim.symbol("_first")) * size
        at = self.indices.advance(level, "%destination", along + across, 1, {})
        self.stores.wide(level, self.values.operand(level, value), at, value.dtype, lanes, size)


def _scope(statement: Any) -> Scope:
    made = Scope()
    made.statements.append(statement)
    return made


def _divides(region: Region, variable: str) -> bool:
    """Whether the operand is found by dividing a variable."""
    return any(
        affine(extent, variable) is None
        for s in walk(region.body)
        if isinstance(s, Value) and isinstance(s.immediate, Address)
        for extent in s.immediate.index
    )


_PACKED = object()  # stands at the end of a packer's body: store the operand's value


# The arguments of a function of a block of the product.
BLOCK_TYPES = "ptr, ptr, i64, i64, i64, i64, i64, i64"
_BLOCK = (
    "ptr %frame, ptr %tile, i64 %tile_row, i64 %row, i64 %column, i64 %rows, i64 %columns, "
    "i64 %batch"
)


def beside_product(contract: Contract) -> dict[tuple[Buffer, Extent], None]:
    """Where an epilogue reads and writes rows beside those of the product: buffers, and places in
    them. What is the same for all rows stays in cache.
    """
    _, row, column = contract.epilogue.variables
    own = accumulator_buffer(contract)
    found: dict[tuple[Buffer, Extent], None] = {}
    for s in contract.epilogue.body.statements:
        if isinstance(s, Store):
            buffer, index, args = s.buffer, s.index, s.args
        elif isinstance(s, Value) and isinstance(s.immediate, Address):
            buffer, index, args = s.immediate.buffer, s.immediate.index, s.args
        else:
            continue
        position = linear(buffer, index)
        along = affine(position, column)
        lies_so = buffer.layout == "contiguous" and along is not None and along[0] == 1
        if lies_so and not args and buffer is not own and row in symbols_of(position):
            found[buffer, position] = None
    return found


class _WarmPrinter(Printer):
    """Writes what asks for the rows beside a tile that an epilogue will read and write."""

    def __init__(self, kernel: Kernel, machine: Machine, contract: Contract) -> None:
        super().__init__(kernel, machine)
        self.contract = contract

    def text(self, name: str, places: Iterable[tuple[Buffer, Extent]]) -> str:
        level = self.open(name, _BLOCK)
        batch, row, column = self.contract.epilogue.variables
        level.put("%row_end = add i64 %row, %rows")
        level.symbols |= {batch: "%batch", column: "%column"}
        for statement in self.kernel.body.statements:
            if statement is not self.contract:
                self.statement(level, statement)
        asked = Scope()
        asked.statements += [Asked(buffer, position) for buffer, position in places]
        first, end = Dim.symbol("_row"), Dim.symbol("_row_end")
        self.loops.counted(level, For(row, first, end, "serial", asked, []), "%row", "%row_end")
        level.put("ret void")
        level.lines.append("}")
        return "\n".join(level.lines)

    def statement(self, level: Level, s: Any) -> None:
        if not isinstance(s, Asked):
            super().statement(level, s)
            return
        size = s.buffer.item_bytes
        position = s.position + s.buffer.next_step // size
        at = self.indices.pointer(level, s.buffer, position, size, {})
        bytes_ = Tile.of(self.contract.dtype, self.machine).columns * size
        self.loads.prefetch(level, at, bytes_)


@dataclass(frozen=True)
class Asked:
    """Stands in the body of a loop: ask for what lies from a place in a buffer on, as many elements
    as a tile has columns.
    """

    buffer: Buffer
    position: Extent


class _EpiloguePrinter(Printer):
    """Writes what is done with a finished tile: rows in order, columns as lanes."""

    def __init__(
        self, kernel: Kernel, machine: Machine, contract: Contract, widths: str
    ) -> None:
        super().__init__(kernel, machine)
        self.contract = contract
        self.widths = widths
        self.columns: For | None = None  # the loop over columns, where it is a single vector
        self.values.product = self.product
        # Most tiles are as wide as the registers': their rows are whole vectors, without a mask.
        self.loops.most_lanes = Tile.of(contract.dtype, machine).columns

    def text(self, name: str) -> str:
        level = self.open(name, _BLOCK)
        batch, row, column = self.contract.epilogue.variables
        level.put("%row_end = add i64 %row, %rows")
        level.put("%column_end = add i64 %column, %columns")
        level.symbols |= {
            batch: "%batch",
            "_row": "%row",
            "_row_end": "%row_end",
            "_column": "%column",
            "_column_end": "%column_end",
            "_tile_row": "%tile_row",
        }
        for statement in self.kernel.body.statements:
            if statement is not self.contract:
                self.statement(level, statement)
        columns = For(
            column,
            Dim.symbol("_column"),
            Dim.symbol("_column_end"),
            "vector",
            self.contract.epilogue.body,
            [],
        )
        body = Scope()
        body.statements.append(columns)
        rows = For(row, Dim.symbol("_row"), Dim.symbol("_row_end"), "serial", body, [])
        self.columns = columns if self._is_single(columns) else None
        self.loops.counted(level, rows, "%row", "%row_end")
        level.put("ret void")
        level.lines.append("}")
        return "\n".join(level.lines)

    def _is_single(self, columns: For) -> bool:
        """Whether one vector, in front of a mask where that costs little, has all columns."""
        tile = Tile.of(self.contract.dtype, self.machine)
        as_wide = self.loops.lanes_of(columns) == tile.columns
        return as_wide and (
            self.widths == "whole" or self.widths == "ragged" and self.machine.has_masks
        )

    def statement(self, level: Level, s: Any) -> None:
        if isinstance(s, For) and s is self.columns:
            self.loops.single(level, s, masked=self.widths == "ragged")
        else:
            super().statement(level, s)

    def product(self, level: Level, value: Value) -> str:
        """The sums of this row of the tile, in lanes."""
        lanes = level.lanes
        assert lanes is not None
        _, row, column = self.contract.epilogue.variables
        size = item_bytes(self.contract.dtype)
        position = (Dim.symbol(row) - Dim.symbol("_row")) * Dim.symbol("_tile_row")
        base = self.indices.advance(level, "%tile", position, 1, {})
        along = Dim.symbol(column) - Dim.symbol("_column")
        moved = self.indices.advance(level, base, along, size, {})
        name = self.loads.wide(level, moved, value.dtype, lanes, size)
        level.names[id(value)] = name
        return name
