"""How is a contraction written as CUDA C++?  Tiles in shared memory, sums in registers.

A block makes a tile of the product at a time, a thread 4 x 4 elements of it, or 8 x 8 where the
product is large. A step along the contracted axis takes a tile of either operand, as its region
says: so an operand may be anything that a region can compute. While a step is multiplied, the next
one is on its way to registers, and goes to the other of two shared tiles: one barrier a step. An
operand that lies in memory with a step of 1 comes 16 bytes at a time where it is aligned. Every
element is summed in the order of the contracted axis by fused multiply-adds, and the epilogue takes
it from its register.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphc.codegen.clike import Level, enclosed
from graphc.codegen.cuda.functions import PACK
from graphc.codegen.cuda.kernel import KernelPrinter
from graphc.codegen.cuda.lanes import WIDEST, Access, accesses_of, common_width, divides
from graphc.codegen.cuda.scalar import CUDA
from graphc.codegen.loops import Contract, Kernel, Plain, Region, plain_operand, scopes
from graphc.codegen.scalar import For, Store, Value, item_bytes, walk
from graphc.dims import Bounds, Dim, Extent, ceildiv, symbols_of

BLOCK = 256
# Threads along a side of a square tile, and elements next to each other that a thread has of it.
ACROSS, NEXT = 16, 4
# Tiles of 8 x 8 elements for each thread are worth while if there are so many.
LARGE_TILES = 128
@dataclass(frozen=True)
class Tiling:
    """How the threads of a block share a tile, `across` of them along its columns.

    A thread has `rows_each` x `columns_each` elements, in groups of `NEXT` next to each other;
    `depth` are the steps along the contracted axis that are in shared memory at a time, `resident`
    the blocks that a multiprocessor must hold, if the compiler is to be told.
    """

    rows_each: int = 4
    columns_each: int = 4
    across: int = ACROSS
    depth: int = 16
    resident: int | None = None

    @property
    def rows(self) -> int:
        return BLOCK // self.across * self.rows_each

    @property
    def columns(self) -> int:
        return self.across * self.columns_each

    def tiles(self, contract: Contract) -> tuple[Extent, Extent]:
        """Tiles along the rows and along the columns of a product."""
        return ceildiv(contract.rows, self.rows), ceildiv(contract.columns, self.columns)


# By dtype and by elements of a thread along a side. Left to itself ptxas spills doubles to hold
# three blocks.
SQUARE = {
    ("float32", 4): Tiling(),
    ("float64", 4): Tiling(depth=8, resident=2),
    ("float32", 8): Tiling(8, 8, depth=8, resident=1),
}

_PRODUCT = """\
#pragma unroll
for (int k = 0; k < {depth}; ++k) {{
    Pack<{type}, {u}> x[{row_packs}];
    Pack<{type}, {v}> y[{column_packs}];
    #pragma unroll
    for (int m = 0; m < {row_packs}; ++m) x[m] = take<{u}>(&left[now][k][row + {row}]);
    #pragma unroll
    for (int n = 0; n < {column_packs}; ++n) y[n] = take<{v}>(&right[now][k][column + {column}]);
    #pragma unroll
    for (int m = 0; m < {m}; ++m) {{
        #pragma unroll
        for (int n = 0; n < {n}; ++n) {{
            sums[m][n] = {fused}(x[m / {u}].at[m % {u}], y[n / {v}].at[n % {v}], sums[m][n]);
        }}
    }}
}}"""


class ContractPrinter(KernelPrinter):
    """Writes a contraction."""

    # What is computed on the way to shared memory needs registers: left to itself ptxas spills some
    # of them, to hold four blocks.
    resident_with_arithmetic: int | None = 3
    asks_for_edges = False  # even where tiles fill an extent
    padding = WIDEST  # bytes between rows of shared tiles
    next_columns = NEXT  # elements of a row that a thread has next to each other

    @property
    def elements_each(self) -> tuple[int, int]:
        """Rows and columns of a thread."""
        return self.tiling.rows_each, self.tiling.columns_each

    def body(self, top: Level) -> None:
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        self.prepare(top, contract, self.chosen_tiling(contract))
        inside = top.inner({"_tile": "tile"}, lanes=True)
        self.one_tile(inside, contract)
        stop, integer = self.task_count(), self.INTEGER
        top.close(f"for ({integer} tile = blockIdx.x; tile < {stop}; tile += gridDim.x)", inside)

    def chosen_tiling(self, contract: Contract) -> Tiling:
        return tiling_of(contract)

    def prepare(self, top: Level, contract: Contract, tiling: Tiling) -> None:
        """What comes before the tiles."""
        self.contract, self.tiling, self.depth = contract, tiling, tiling.depth
        self.block, self.resident = BLOCK, tiling.resident
        if self.resident is None and not all(
            plain_operand(side) for side in (contract.left, contract.right)
        ):
            self.resident = self.resident_with_arithmetic
        row_tiles, column_tiles = tiling.tiles(contract)
        self.tasks = contract.batch * row_tiles * column_tiles
        self.helpers.setdefault("pack", PACK)
        self.declare(top, contract.dtype)
        for statement in self.kernel.body.statements:
            if statement is not contract:
                self.statement(top, statement)

    def one_tile(self, inside: Level, contract: Contract) -> None:
        """A tile of the product, and what the epilogue makes of it."""
        tile = Dim.symbol("_tile")
        # Of an empty product there are no tiles; but what does not run is written all the same.
        row_tiles, column_tiles = (e if e != 0 else 1 for e in self.tiling.tiles(contract))
        bounds = Bounds({"_tile": (0, self.tasks - 1)})
        starts = {
            "row0": (tile // column_tiles % row_tiles, self.tiling.rows),
            "column0": (tile % column_tiles, self.tiling.columns),
        }
        for name, (start, size) in starts.items():
            text = self.index(inside, bounds.simplify(start) * size)
            inside.put(f"const {self.INTEGER} {name} = {text};")
        batches = {
            region.variables[0] for region in (contract.left, contract.right, contract.epilogue)
        }
        if batches & _mentioned(self.kernel, self.live):
            batch = bounds.simplify(tile // (row_tiles * column_tiles))
            inside.put(f"const {self.INTEGER} batch = {self.index(inside, batch)};")
            inside.variables |= dict.fromkeys(batches, "batch")
        self.sum_up(inside, contract)
        self.finish_tile(inside, contract)

    def declare(self, top: Level, dtype: str) -> None:
        """Shared tiles, and this thread's place. Padding puts rows into different banks."""
        type_, size = CUDA.types[dtype], item_bytes(dtype)
        for side in ("left", "right"):
            padded = self.side_of_tile(side) + self.padding // size
            top.put(f"__shared__ __align__(16) {type_} {side}[2][{self.depth}][{padded}];")
            self.shared[side] = 2 * self.depth * padded * size
        self.declare_place(top)

    def declare_place(self, top: Level) -> None:
        """The first row and column of this thread in a tile."""
        across, rows_next = self.tiling.across, min(NEXT, self.tiling.rows_each)
        top.put(f"const int row = threadIdx.x / {across} * {rows_next};")
        top.put(f"const int column = threadIdx.x % {across} * {NEXT};")

    def side_of_tile(self, side: str) -> int:
        return self.tiling.rows if side == "left" else self.tiling.columns

    def row_place(self, number: str, step: int = 1) -> str:
        """Where row `number` times `step` of a thread is in the tile, from its first one on."""
        return _place_of(number, step, self.tiling.rows_each, BLOCK // self.tiling.across)

    def column_place(self, number: str, step: int = 1) -> str:
        """The same of a column."""
        return _place_of(number, step, self.tiling.columns_each, self.tiling.across)

    def sum_up(self, level: Level, contract: Contract) -> None:
        type_, (rows, columns) = CUDA.types[contract.dtype], self.elements_each
        level.put(f"{type_} sums[{rows}][{columns}] = {{}};")
        steps = self.index(level, ceildiv(contract.depth, self.depth))
        inside = level.inner({"_step": "step"})
        inside.put(f"const bool more = step + 1 < {steps};")
        numbers = {side: self.rounds(side, 1) for side in ("left", "right")}
        # One element is a register to compilers, which then miss that it is set where it is used.
        counts = ", ".join(f"next_{s}[{n}]{' = {}' if n == 1 else ''}" for s, n in numbers.items())
        inside.put(f"{type_} {counts};")
        ahead = inside.inner()
        ahead.put(f"const {self.INTEGER} k0 = (step + 1) * {self.depth};")
        sides = (
            (contract.left, "left", ("row0", contract.rows)),
            (contract.right, "right", ("column0", contract.columns)),
        )
        for region, side, across in sides:
            self.take_tile(ahead, region, side, across)
        inside.close("if (more)", ahead)
        product = inside.inner()
        product.put("const int now = step % 2;")
        for line in self.product_text(contract).splitlines():
            product.put(line)
        inside.close("if (step >= 0)", product)
        behind = inside.inner()
        behind.put("const int other = (step + 1) % 2;")
        for region, side, _ in sides:
            self.put_tile(behind, region, side)
        inside.close("if (more)", behind)
        inside.put("__syncthreads();")
        level.close(f"for ({self.INTEGER} step = -1; step < {steps}; ++step)", inside)

    def product_text(self, contract: Contract) -> str:
        """The multiply-adds of one step."""
        tiling = self.tiling
        v = WIDEST // item_bytes(contract.dtype)
        u = min(v, tiling.rows_each)
        return _PRODUCT.format(
            type=CUDA.types[contract.dtype],
            depth=self.depth,
            m=tiling.rows_each,
            n=tiling.columns_each,
            u=u,
            v=v,
            row_packs=tiling.rows_each // u,
            column_packs=tiling.columns_each // v,
            row=self.row_place("m", u),
            column=self.column_place("n", v),
            fused="fmaf" if contract.dtype == "float32" else "fma",
        )

    def layout(self, region: Region, side: str) -> tuple[bool, bool]:
        """Whether next elements in memory lie along the contracted axis, and come in packs."""
        contract = self.contract
        plain = plain_operand(region)
        # The left operand binds (batch, row, k), the right one (batch, k, column).
        along, across = (2, 1) if side == "left" else (1, 2)
        if side == "left":
            depth_first = plain is None or plain.steps[across] != 1
        else:
            depth_first = plain is not None and plain.steps[along] == 1
        if plain is None:
            return depth_first, False
        fast, slow = (along, across) if depth_first else (across, along)
        extents = {
            along: contract.depth,
            across: contract.rows if side == "left" else contract.columns,
        }
        width = WIDEST // item_bytes(contract.dtype)
        whole = self.side_of_tile(side) * self.depth % (BLOCK * width) == 0
        return depth_first, whole and self.is_aligned(plain, fast, slow, extents[fast])

    def is_aligned(self, plain: Plain, fast: int, slow: int, extent: Extent) -> bool:
        """Whether an operand comes in packs that begin at multiples of 16 bytes and end with it."""
        size = item_bytes(self.contract.dtype)
        width = WIDEST // size
        steps = (plain.start, plain.steps[0], plain.steps[slow], extent)
        return (
            plain.buffer.layout == "contiguous"
            and plain.buffer.dtype == self.contract.dtype
            and plain.steps[fast] == 1
            and self.alignment[plain.buffer] >= WIDEST
            and all(divides(step, width) for step in steps)
        )

    def place_in_tile(self, level: Level, side: str, depth_first: bool, packs: bool) -> int:
        """Name the place (k, n) in a tile of element e; returns how many a thread takes at once."""
        width = WIDEST // item_bytes(self.contract.dtype) if packs else 1
        fast, slow = ("k", "n") if depth_first else ("n", "k")
        along = (self.depth if depth_first else self.side_of_tile(side)) // width
        times = f" * {width}" if packs else ""
        number = "threadIdx.x" if self.rounds(side, width) == 1 else f"(r * {BLOCK} + threadIdx.x)"
        level.put(f"const int {slow} = {number} / {along}, {fast} = {number} % {along}{times};")
        return width

    def rounds(self, side: str, width: int) -> int:
        return self.side_of_tile(side) * self.depth // BLOCK // width

    def take_tile(
        self, level: Level, region: Region, side: str, across: tuple[str, Extent]
    ) -> None:
        """This thread's elements of an operand, 0 beyond its edges, to registers."""
        origin, extent = across
        outer, inner = region.variables[1:] if side == "left" else region.variables[:0:-1]
        depth_first, packs = self.layout(region, side)
        element = level.inner({outer: outer, inner: inner})
        width = self.place_in_tile(element, side, depth_first, packs)
        element.put(f"const {self.INTEGER} {outer} = {origin} + n, {inner} = k0 + k;")
        type_ = CUDA.types[self.contract.dtype]
        edges = self.edges(
            element,
            (outer, extent, self.side_of_tile(side)),
            (inner, self.contract.depth, self.depth),
        )
        guarded = element.inner()
        assert region.value is not None
        if packs:
            plain = plain_operand(region)
            assert plain is not None
            self.used.add(("buffer", plain.buffer))
            position: Extent = plain.start
            for name, step in zip(region.variables, plain.steps, strict=True):
                position = position + Dim.symbol(name) * step
            at = f"{plain.buffer.name} + {self.index(guarded, position)}"
            if edges:
                element.put(f"Pack<{type_}, {width}> pack = {{}};")
                element.put(f"if ({edges}) pack = take<{width}>({at});")
            else:
                element.put(f"const Pack<{type_}, {width}> pack = take<{width}>({at});")
            element.put("#pragma unroll")
            first = "u" if self.rounds(side, width) == 1 else f"r * {width} + u"
            element.put(f"for (int u = 0; u < {width}; ++u) next_{side}[{first}] = pack.at[u];")
        else:
            element.put(f"{type_} element = 0;")
            self.scope(guarded, region.body, [region.value])
            guarded.put(f"element = {self.operand(region.value)};")
            close_within(element, edges, guarded)
            element.put(f"next_{side}[{'0' if self.rounds(side, 1) == 1 else 'r'}] = element;")
        self.close_rounds(level, element, self.rounds(side, width))

    def edges(self, level: Level, *axes: tuple[str, Extent, int]) -> str:
        """The condition that a place lies within extents, of which tiles take so many at a time: a
        number that they divide needs none.
        """
        return " && ".join(
            f"{place} < {enclosed(self.index(level, extent))}"
            for place, extent, size in axes
            if self.asks_for_edges or not isinstance(extent, int) or extent % size
        )

    def put_tile(self, level: Level, region: Region, side: str) -> None:
        """What `take_tile` has taken, to the shared tile that nobody reads now."""
        depth_first, packs = self.layout(region, side)
        element = level.inner()
        width = self.place_in_tile(element, side, depth_first, packs)
        if not packs:
            turn = "0" if self.rounds(side, 1) == 1 else "r"
            element.put(f"{side}[other][k][n] = next_{side}[{turn}];")
        else:
            element.put("#pragma unroll")
            first = "u" if self.rounds(side, width) == 1 else f"r * {width} + u"
            target = "[k + u][n]" if depth_first else "[k][n + u]"
            element.put(
                f"for (int u = 0; u < {width}; ++u) {side}[other]{target} = next_{side}[{first}];"
            )
        self.close_rounds(level, element, self.rounds(side, width))

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements that this thread has summed."""
        _, row, column = contract.epilogue.variables
        rows = level.inner({row: row})
        rows.put(f"const {self.INTEGER} {row} = row0 + row + {self.row_place('m')};")
        loop = For(column, 0, contract.columns, "vector", contract.epilogue.body, [])
        accesses = self.accesses_in_memory(loop)
        width = common_width((loop.start, loop.stop), accesses, self.alignment, self.next_columns)
        if width > 1:
            self.finish_packs(rows, contract, loop, width)
        else:
            self.finish_elements(rows, contract)
        drop_unused(rows, row)
        level.put("#pragma unroll")
        level.close(f"for (int m = 0; m < {self.elements_each[0]}; ++m)", rows)

    def accesses_in_memory(self, loop: For) -> list[Access]:
        """What an epilogue loads and stores."""
        return list(accesses_of(loop, self.live))

    def finish_elements(self, rows: Level, contract: Contract) -> None:
        """The epilogue of one row, element by element."""
        _, row, column = contract.epilogue.variables
        columns = rows.inner({column: column})
        columns.put(f"const {self.INTEGER} {column} = column0 + column + {self.column_place('n')};")
        guarded = columns.inner()
        assert contract.product is not None
        self.column = "n"
        name = self.names[id(contract.product)] = self.fresh("v")
        guarded.put(f"const {CUDA.types[contract.dtype]} {name} = sums[m][n];")
        self.scope(guarded, contract.epilogue.body)
        edges = self.edges(
            columns,
            (row, contract.rows, self.side_of_tile("left")),
            (column, contract.columns, self.side_of_tile("right")),
        )
        close_within(columns, edges, guarded)
        drop_unused(columns, column)
        rows.put("#pragma unroll")
        rows.close(f"for (int n = 0; n < {self.elements_each[1]}; ++n)", columns)

    def finish_packs(self, rows: Level, contract: Contract, loop: For, width: int) -> None:
        """The epilogue of one row, where elements next to each other are stored at once."""
        row = contract.epilogue.variables[1]
        assert contract.product is not None
        self.column = "n + u"
        self.names[id(contract.product)] = "sums[m][n + u]"
        self.lanes.widths[loop.start, loop.stop] = width
        packs, first = rows.inner(), self.fresh("first")
        place = self.column_place("n")
        packs.put(f"const {self.INTEGER} {first} = column0 + column + {place};")
        guarded = packs.inner({first: first})
        self.elements(guarded, loop, first, width, self.accesses_in_memory(loop))
        edges = self.edges(
            packs,
            (row, contract.rows, self.side_of_tile("left")),
            (first, contract.columns, self.side_of_tile("right")),
        )
        close_within(packs, edges, guarded)
        drop_unused(packs, first)
        rows.put("#pragma unroll")
        rows.close(f"for (int n = 0; n < {self.elements_each[1]}; n += {width})", packs)


def close_within(level: Level, edges: str, inner: Level) -> None:
    """Add what is done within edges, if there are some."""
    if edges:
        level.close(f"if ({edges})", inner)
    else:
        level.lines.extend(line.removeprefix("    ") for line in inner.lines)


def drop_unused(level: Level, variable: str) -> None:
    """Take away the declaration of an index that nothing else mentions."""
    name = level.variables.get(variable, variable)
    lines = [line for line in level.lines if re.search(rf"\b{name}\b", line)]
    if len(lines) == 1:
        level.lines.remove(lines[0])


def _place_of(number: str, step: int, each: int, threads: int) -> str:
    """Where element `number` times `step` of a thread is along a side of the tile, of which the
    thread has `each`, in groups of `NEXT`.
    """
    at = number if step == 1 else f"{number} * {step}"
    if each <= NEXT:
        return at
    if step == NEXT:
        return f"{number} * {threads * NEXT}"
    at = at if step == 1 else f"({at})"
    return f"{at} % {NEXT} + {at} / {NEXT} * {threads * NEXT}"


def tiling_of(contract: Contract) -> Tiling:
    """The tiles of a product by itself."""
    return SQUARE[contract.dtype, _elements_of_thread(contract)]


def _elements_of_thread(contract: Contract) -> int:
    """Elements of a thread along a side of the tile: 8 if the product is that large, else 4."""
    large = 2 * NEXT
    side = ACROSS * large
    sizes = (contract.batch, contract.rows, contract.columns)
    if (contract.dtype, large) not in SQUARE or not all(isinstance(e, int) for e in sizes):
        return NEXT
    batch, rows, columns = (int(e) for e in sizes)  # type: ignore[call-overload]
    tiles = batch * -(-rows // side) * -(-columns // side)
    waste = min(rows, columns) < side
    return NEXT if waste or tiles < LARGE_TILES else large


def _mentioned(kernel: Kernel, live: set[int]) -> set[str]:
    """The names in the index expressions of what a kernel needs."""
    names: set[str] = set()
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, Store):
                names.update(*map(symbols_of, s.index))
            elif isinstance(s, Value) and s.opcode in ("load", "index") and id(s) in live:
                names |= s.immediate.symbols
    return names
