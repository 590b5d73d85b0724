"""How is a contraction written as CUDA C++?  Tiles in shared memory, sums in registers.

A block makes a tile of the product at a time, a thread 4 x 4 elements of it. A step along the
contracted axis loads a tile of either operand, as its region says, into shared memory: so an
operand may be anything that a region can compute. Every element is summed in the order of that axis
by fused multiply-adds, and the epilogue takes it from its register.
"""

from __future__ import annotations

from graphc.codegen.clike import Level, enclosed
from graphc.codegen.cuda_kernel import KernelPrinter
from graphc.codegen.cuda_scalar import CUDA
from graphc.codegen.loops import Contract, Kernel, Region, plain_operand, scopes
from graphc.codegen.scalar import BITS, Store, Value, walk
from graphc.dims import Bounds, Dim, Extent, ceildiv, symbols_of

# Side of the square tile of the product, and the length of a step along the contracted axis.
TILES = {"float32": (64, 16), "float64": (32, 16)}

_TILE_PRODUCT = """\
__syncthreads();
#pragma unroll
for (int k = 0; k < {depth}; ++k) {{
    {type} x[{n}], y[{n}];
    #pragma unroll
    for (int n = 0; n < {n}; ++n) {{
        x[n] = left[k][row + n];
        y[n] = right[k][column + n];
    }}
    #pragma unroll
    for (int m = 0; m < {n}; ++m) {{
        #pragma unroll
        for (int n = 0; n < {n}; ++n) sums[m][n] = {fused}(x[m], y[n], sums[m][n]);
    }}
}}
__syncthreads();"""


class ContractPrinter(KernelPrinter):
    """Writes a contraction."""

    PER_THREAD = 4

    def body(self, top: Level) -> None:
        contract = self.kernel.nest
        assert isinstance(contract, Contract)
        self.contract = contract
        self.tile, self.depth = TILES[contract.dtype]
        across = self.tile // self.PER_THREAD
        self.block = across * across
        row_tiles = ceildiv(contract.rows, self.tile)
        column_tiles = ceildiv(contract.columns, self.tile)
        self.tasks = contract.batch * row_tiles * column_tiles
        self.declare(top, contract.dtype, across)
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
            inside.put(f"const long long {name} = {text};")
        batches = {
            region.variables[0] for region in (contract.left, contract.right, contract.epilogue)
        }
        if batches & _mentioned(self.kernel, self.live):
            batch = bounds.simplify(tile // (row_tiles * column_tiles))
            inside.put(f"const long long batch = {self.index(inside, batch)};")
            inside.variables |= dict.fromkeys(batches, "batch")
        self.sum_up(inside, contract)
        self.finish_tile(inside, contract)
        stop = self.task_count()
        top.close(f"for (long long tile = blockIdx.x; tile < {stop}; tile += gridDim.x)", inside)

    def declare(self, top: Level, dtype: str, across: int) -> None:
        """Shared tiles, and this thread's place. Padding puts columns into different banks."""
        type_, size = CUDA.types[dtype], BITS[dtype] // 8
        padded = self.tile + 16 // size
        for side in ("left", "right"):
            top.put(f"__shared__ __align__(16) {type_} {side}[{self.depth}][{padded}];")
            self.shared[side] = self.depth * padded * size
        top.put(f"const int row = threadIdx.x / {across} * {self.PER_THREAD};")
        top.put(f"const int column = threadIdx.x % {across} * {self.PER_THREAD};")

    def sum_up(self, level: Level, contract: Contract) -> None:
        type_ = CUDA.types[contract.dtype]
        n = self.PER_THREAD
        level.put(f"{type_} sums[{n}][{n}] = {{}};")
        depth = self.index(level, contract.depth)
        inside = level.inner({"_k0": "k0"})
        left, right = contract.left, contract.right
        plain_left, plain_right = plain_operand(left), plain_operand(right)
        rows_first = plain_left is not None and plain_left.steps[1] == 1
        depth_first = plain_right is not None and plain_right.steps[1] == 1
        self.load_tile(inside, left, "left", ("row0", contract.rows), not rows_first)
        self.load_tile(inside, right, "right", ("column0", contract.columns), depth_first)
        fused = "fmaf" if contract.dtype == "float32" else "fma"
        block = _TILE_PRODUCT.format(type=type_, depth=self.depth, n=n, fused=fused)
        for line in block.splitlines():
            inside.put(line)
        level.close(f"for (long long k0 = 0; k0 < {depth}; k0 += {self.depth})", inside)

    def load_tile(
        self, level: Level, region: Region, side: str, across: tuple[str, Extent], depth_first: bool
    ) -> None:
        """Elements of an operand, 0 beyond its edges: next threads take what is next in memory."""
        origin, extent = across
        # The left operand binds (batch, row, k), the right one (batch, k, column).
        outer, inner = region.variables[1:] if side == "left" else region.variables[:0:-1]
        element = level.inner({outer: outer, inner: inner})
        fast, slow = ("k", "n") if depth_first else ("n", "k")
        width = self.depth if depth_first else self.tile
        element.put(f"const int {slow} = e / {width}, {fast} = e % {width};")
        element.put(f"const long long {outer} = {origin} + n, {inner} = k0 + k;")
        type_ = CUDA.types[self.contract.dtype]
        element.put(f"{type_} element = 0;")
        guarded = element.inner()
        assert region.value is not None
        self.scope(guarded, region.body, [region.value])
        guarded.put(f"element = {self.operand(region.value)};")
        edges = f"{outer} < {enclosed(self.index(element, extent))}"
        edges += f" && {inner} < {enclosed(self.index(element, self.contract.depth))}"
        element.close(f"if ({edges})", guarded)
        element.put(f"{side}[k][n] = element;")
        count = self.tile * self.depth
        level.close(f"for (int e = threadIdx.x; e < {count}; e += {self.block})", element)

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements that this thread has summed."""
        _, row, column = contract.epilogue.variables
        n = self.PER_THREAD
        rows = level.inner({row: row})
        rows.put(f"const long long {row} = row0 + row + m;")
        columns = rows.inner({column: column})
        columns.put(f"const long long {column} = column0 + column + n;")
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
