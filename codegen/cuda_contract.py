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

from graphc.codegen.clike import Level, enclosed
from graphc.codegen.cuda_kernel import _PACK, KernelPrinter
from graphc.codegen.cuda_lanes import WIDEST, accesses_of, common_width, divides
from graphc.codegen.cuda_scalar import CUDA
from graphc.codegen.loops import Contract, Kernel, Plain, Region, plain_operand, scopes
from graphc.codegen.scalar import BITS, For, Store, Value, walk
from graphc.dims import Bounds, Dim, Extent, ceildiv, symbols_of

BLOCK = 256
# Threads along a side of a tile, and elements next to each other that a thread has of it.
ACROSS, NEXT = 16, 4
# Steps along the contracted axis, by elements of a thread along a side of the tile.
DEPTHS = {("float32", 4): 16, ("float64", 4): 8, ("float32", 8): 8}
# Blocks that a multiprocessor must hold: left to itself ptxas spills doubles to hold three.
RESIDENT = {("float32", 4): None, ("float64", 4): 2, ("float32", 8): 1}
# Tiles of 8 x 8 elements for each thread are worth while if there are so many.
LARGE_TILES = 128

_PRODUCT = """\
#pragma unroll
for (int k = 0; k < {depth}; ++k) {{
    Pack<{type}, {v}> x[{packs}], y[{packs}];
    #pragma unroll
    for (int n = 0; n < {packs}; ++n) {{
        x[n] = take<{v}>(&left[now][k][row + {place}]);
        y[n] = take<{v}>(&right[now][k][column + {place}]);
    }}
    #pragma unroll
    for (int m = 0; m < {n}; ++m) {{
        #pragma unroll
        for (int n = 0; n < {n}; ++n) {{
            sums[m][n] = {fused}(x[m / {v}].at[m % {v}], y[n / {v}].at[n % {v}], sums[m][n]);
        }}
    }}
}}"""


class ContractPrinter(KernelPrinter):
    """Writes a contraction."""

    def body(self, top: Level) -> None:
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        self.contract = contract
        self.each = _elements_of_thread(contract)
        self.tile, self.depth = ACROSS * self.each, DEPTHS[contract.dtype, self.each]
        self.block, self.resident = BLOCK, RESIDENT[contract.dtype, self.each]
        row_tiles = ceildiv(contract.rows, self.tile)
        column_tiles = ceildiv(contract.columns, self.tile)
        self.tasks = contract.batch * row_tiles * column_tiles
        self.helpers.setdefault("pack", _PACK)
        self.declare(top, contract.dtype)
        for statement in self.kernel.body.statements:
            if statement is not contract:
                self.statement(top, statement)
        inside = top.inner({"_tile": "tile"}, lanes=True)
        tile = Dim.symbol("_tile")
        # Of an empty product there are no tiles; but what does not run is written all the same.
        row_tiles, column_tiles = (e if e != 0 else 1 for e in (row_tiles, column_tiles))
        bounds = Bounds({"_tile": (0, self.tasks - 1)})
        starts = {"row0": tile // column_tiles % row_tiles, "column0": tile % column_tiles}
        for name, start in starts.items():
            text = self.index(inside, bounds.simplify(start) * self.tile)
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
        stop, integer = self.task_count(), self.INTEGER
        top.close(f"for ({integer} tile = blockIdx.x; tile < {stop}; tile += gridDim.x)", inside)

    def declare(self, top: Level, dtype: str) -> None:
        """Shared tiles, and this thread's place. Padding puts columns into different banks."""
        type_, size = CUDA.types[dtype], BITS[dtype] // 8
        padded = self.tile + WIDEST // size
        for side in ("left", "right"):
            top.put(f"__shared__ __align__(16) {type_} {side}[2][{self.depth}][{padded}];")
            self.shared[side] = 2 * self.depth * padded * size
        top.put(f"const int row = threadIdx.x / {ACROSS} * {NEXT};")
        top.put(f"const int column = threadIdx.x % {ACROSS} * {NEXT};")

    def place(self, number: str) -> str:
        """Where element `number` of a thread is in the tile, from the thread's first one on."""
        if self.each == NEXT:
            return number
        return f"{number} % {NEXT} + {number} / {NEXT} * {ACROSS * NEXT}"

    def sum_up(self, level: Level, contract: Contract) -> None:
        type_, n = CUDA.types[contract.dtype], self.each
        level.put(f"{type_} sums[{n}][{n}] = {{}};")
        steps = self.index(level, ceildiv(contract.depth, self.depth))
        inside = level.inner({"_step": "step"})
        inside.put(f"const bool more = step + 1 < {steps};")
        count = self.tile * self.depth // BLOCK
        inside.put(f"{type_} next_left[{count}], next_right[{count}];")
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
        v = WIDEST // (BITS[contract.dtype] // 8)
        text = _PRODUCT.format(
            type=type_,
            depth=self.depth,
            n=n,
            v=v,
            packs=n // v,
            place=self.place(f"n * {v}" if n == NEXT else f"(n * {v})"),
            fused="fmaf" if contract.dtype == "float32" else "fma",
        )
        for line in text.splitlines():
            product.put(line)
        inside.close("if (step >= 0)", product)
        behind = inside.inner()
        behind.put("const int other = (step + 1) % 2;")
        for region, side, _ in sides:
            self.put_tile(behind, region, side)
        inside.close("if (more)", behind)
        inside.put("__syncthreads();")
        level.close(f"for ({self.INTEGER} step = -1; step < {steps}; ++step)", inside)

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
        return depth_first, self.is_aligned(plain, fast, slow, extents[fast])

    def is_aligned(self, plain: Plain, fast: int, slow: int, extent: Extent) -> bool:
        """Whether an operand comes in packs that begin at multiples of 16 bytes and end with it."""
        size = BITS[self.contract.dtype] // 8
        width = WIDEST // size
        steps = (plain.start, plain.steps[0], plain.steps[slow], extent)
        return (
            plain.buffer.layout == "contiguous"
            and plain.buffer.dtype == self.contract.dtype
            and plain.steps[fast] == 1
            and self.alignment[plain.buffer] >= WIDEST
            and all(divides(step, width) for step in steps)
        )

    def place_in_tile(self, level: Level, depth_first: bool, packs: bool) -> int:
        """Name the place (k, n) in a tile of element e; returns how many a thread takes at once."""
        width = WIDEST // (BITS[self.contract.dtype] // 8) if packs else 1
        fast, slow = ("k", "n") if depth_first else ("n", "k")
        along = (self.depth if depth_first else self.tile) // width
        times = f" * {width}" if packs else ""
        number = "threadIdx.x" if self.rounds(width) == 1 else f"(r * {BLOCK} + threadIdx.x)"
        level.put(f"const int {slow} = {number} / {along}, {fast} = {number} % {along}{times};")
        return width

    def rounds(self, width: int) -> int:
        return self.tile * self.depth // BLOCK // width

    def take_tile(
        self, level: Level, region: Region, side: str, across: tuple[str, Extent]
    ) -> None:
        """This thread's elements of an operand, 0 beyond its edges, to registers."""
        origin, extent = across
        outer, inner = region.variables[1:] if side == "left" else region.variables[:0:-1]
        depth_first, packs = self.layout(region, side)
        element = level.inner({outer: outer, inner: inner})
        width = self.place_in_tile(element, depth_first, packs)
        element.put(f"const {self.INTEGER} {outer} = {origin} + n, {inner} = k0 + k;")
        type_ = CUDA.types[self.contract.dtype]
        edges = f"{outer} < {enclosed(self.index(element, extent))}"
        edges += f" && {inner} < {enclosed(self.index(element, self.contract.depth))}"
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
            element.put(f"Pack<{type_}, {width}> pack = {{}};")
            guarded.put(f"pack = take<{width}>({at});")
            element.close(f"if ({edges})", guarded)
            element.put("#pragma unroll")
            first = "u" if self.rounds(width) == 1 else f"r * {width} + u"
            element.put(f"for (int u = 0; u < {width}; ++u) next_{side}[{first}] = pack.at[u];")
        else:
            element.put(f"{type_} element = 0;")
            self.scope(guarded, region.body, [region.value])
            guarded.put(f"element = {self.operand(region.value)};")
            element.close(f"if ({edges})", guarded)
            element.put(f"next_{side}[{'0' if self.rounds(1) == 1 else 'r'}] = element;")
        self.close_rounds(level, element, self.rounds(width))

    def put_tile(self, level: Level, region: Region, side: str) -> None:
        """What `take_tile` has taken, to the shared tile that nobody reads now."""
        depth_first, packs = self.layout(region, side)
        element = level.inner()
        width = self.place_in_tile(element, depth_first, packs)
        if not packs:
            element.put(f"{side}[other][k][n] = next_{side}[r];")
        else:
            element.put("#pragma unroll")
            first = "u" if self.rounds(width) == 1 else f"r * {width} + u"
            target = "[k + u][n]" if depth_first else "[k][n + u]"
            element.put(
                f"for (int u = 0; u < {width}; ++u) {side}[other]{target} = next_{side}[{first}];"
            )
        self.close_rounds(level, element, self.rounds(width))

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements that this thread has summed."""
        _, row, column = contract.epilogue.variables
        n = self.each
        rows = level.inner({row: row})
        rows.put(f"const {self.INTEGER} {row} = row0 + row + {self.place('m')};")
        loop = For(column, 0, contract.columns, "vector", contract.epilogue.body, [])
        accesses = list(accesses_of(loop, self.live))
        width = common_width((loop.start, loop.stop), accesses, self.alignment, NEXT)
        if width > 1:
            self.finish_packs(rows, contract, loop, width)
            level.put("#pragma unroll")
            level.close(f"for (int m = 0; m < {n}; ++m)", rows)
            return
        columns = rows.inner({column: column})
        columns.put(f"const {self.INTEGER} {column} = column0 + column + {self.place('n')};")
        guarded = columns.inner()
        assert contract.product is not None
        name = self.names[id(contract.product)] = self.fresh("v")
        guarded.put(f"const {CUDA.types[contract.dtype]} {name} = sums[m][n];")
        self.scope(guarded, contract.epilogue.body)
        edges = f"{row} < {enclosed(self.index(columns, contract.rows))}"
        edges += f" && {column} < {enclosed(self.index(columns, contract.columns))}"
        columns.close(f"if ({edges})", guarded)
        rows.put("#pragma unroll")
        rows.close(f"for (int n = 0; n < {n}; ++n)", columns)
        level.put("#pragma unroll")
        level.close(f"for (int m = 0; m < {n}; ++m)", rows)


    def finish_packs(self, rows: Level, contract: Contract, loop: For, width: int) -> None:
        """The epilogue of one row, where elements next to each other are stored at once."""
        row = contract.epilogue.variables[1]
        assert contract.product is not None
        self.names[id(contract.product)] = "sums[m][n + u]"
        self.lanes.widths[loop.start, loop.stop] = width
        packs, first = rows.inner(), self.fresh("first")
        place = "n" if self.each == NEXT else "(n)"
        packs.put(f"const {self.INTEGER} {first} = column0 + column + {self.place(place)};")
        guarded = packs.inner({first: first})
        self.elements(guarded, loop, first, width, list(accesses_of(loop, self.live)))
        edges = f"{row} < {enclosed(self.index(packs, contract.rows))}"
        edges += f" && {first} < {enclosed(self.index(packs, contract.columns))}"
        packs.close(f"if ({edges})", guarded)
        rows.put("#pragma unroll")
        rows.close(f"for (int n = 0; n < {self.each}; n += {width})", packs)


def _elements_of_thread(contract: Contract) -> int:
    """Elements of a thread along a side of the tile: 8 if the product is that large, else 4."""
    large = 2 * NEXT
    side = ACROSS * large
    sizes = (contract.batch, contract.rows, contract.columns)
    if (contract.dtype, large) not in DEPTHS or not all(isinstance(e, int) for e in sizes):
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
