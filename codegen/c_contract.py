"""How is a contraction written as C?  Tiles on the stack, a block of sums in vector registers.

Both operands are packed for a step along the contracted axis, each in the order in which it lies in
memory: so a region computes an element once for many sums, and an operand may be anything that a
region can compute. The packed step is multiplied by one function for each dtype, whose vectors are
those that the compiler says the processor has: a block of rows by two vectors stays in registers,
which no compiler does reliably with plain loops. Every sum is in the order of the contracted axis,
by fused multiply-add, so the blocks change no bit of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphc.codegen.c_kernel import Assignment, CKernelPrinter, Lanes, declare_if_used
from graphc.codegen.c_scalar import C
from graphc.codegen.clike import Level
from graphc.codegen.loops import Buffer, Contract, Region, linear
from graphc.codegen.scalar import For, Value, walk
from graphc.dims import Bounds, Dim, affine, ceildiv

# Rows of a tile of a product: a multiple of the rows of every block. Its columns, and the length of
# a step along the contracted axis. Two packed operands and the sums take 80 KiB of the stack.
TILE_ROWS = {"float32": 96, "float64": 48}
TILE_COLUMNS, TILE_DEPTH = 64, 64

_ISA = """\
/* The vectors of a product, and the rows of a block: those times two vectors stay in registers. */
#if defined(__AVX512F__) && !defined(GRAPHC_PORTABLE)
#include <immintrin.h>
#define VECTORS_OF_64
#define BLOCK_ROWS 8
#define EACH_ROW(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
#elif defined(__AVX__) && defined(__FMA__) && !defined(GRAPHC_PORTABLE)
#include <immintrin.h>
#define VECTORS_OF_32
#define BLOCK_ROWS 6
#define EACH_ROW(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5)
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(GRAPHC_PORTABLE)
#include <arm_neon.h>
#define VECTORS_OF_16
#define BLOCK_ROWS 8
#define EACH_ROW(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
#else
#define PORTABLE_VECTORS
#define BLOCK_ROWS 4
#define EACH_ROW(STEP) STEP(0) STEP(1) STEP(2) STEP(3)
#endif"""

# Types and suffixes of the vectors of x86, and those of ARM.
_VECTOR_NAMES = {
    "float32": ("", "ps", "float32x4_t", "f32"),
    "float64": ("d", "pd", "float64x2_t", "f64"),
}

_VECTORS = """\
#if defined(VECTORS_OF_64)
typedef __m512{d} vector_{t};
#define load_{t} _mm512_loadu_{p}
#define store_{t} _mm512_storeu_{p}
#define spread_{t} _mm512_set1_{p}
#define fused_{t} _mm512_fmadd_{p}
#elif defined(VECTORS_OF_32)
typedef __m256{d} vector_{t};
#define load_{t} _mm256_loadu_{p}
#define store_{t} _mm256_storeu_{p}
#define spread_{t} _mm256_set1_{p}
#define fused_{t} _mm256_fmadd_{p}
#elif defined(VECTORS_OF_16)
typedef {neon} vector_{t};
#define load_{t} vld1q_{f}
#define store_{t} vst1q_{f}
#define spread_{t} vdupq_n_{f}
#define fused_{t}(x, y, z) vfmaq_{f}(z, x, y)
#else
typedef struct vector_{t} {{ {c} lane[4]; }} vector_{t};

static inline vector_{t} load_{t}(const {c} *from)
{{
    const vector_{t} v = {{{{from[0], from[1], from[2], from[3]}}}};
    return v;
}}

static inline void store_{t}({c} *to, vector_{t} v)
{{
    for (int n = 0; n < 4; ++n) to[n] = v.lane[n];
}}

static inline vector_{t} spread_{t}({c} x)
{{
    const vector_{t} v = {{{{x, x, x, x}}}};
    return v;
}}

static inline vector_{t} fused_{t}(vector_{t} x, vector_{t} y, vector_{t} z)
{{
    for (int n = 0; n < 4; ++n) z.lane[n] = fma_{t}(x.lane[n], y.lane[n], z.lane[n]);
    return z;
}}
#endif
#define LANES_{t} ((int)(sizeof(vector_{t}) / sizeof({c})))"""

_TILE_PRODUCT = """\
/* Adds the product of two packed operands to the sums of a tile. Element (m, k) of the left one is
   left[m * row_step + k * depth_step]. */
static void tile_product_{t}(
    int rows, int columns, int depth, const {c} *left, int row_step, int depth_step,
    const {c} *right, {c} *sums)
{{
    for (int row = 0; row < rows; row += BLOCK_ROWS) {{
        for (int column = 0; column < columns; column += 2 * LANES_{t}) {{
            {c} *const block = sums + row * {columns} + column;
            const {c} *l = left + row * row_step, *r = right + column;
#define STEP(m) \\
            vector_{t} x##m = load_{t}(block + m * {columns}); \\
            vector_{t} y##m = load_{t}(block + m * {columns} + LANES_{t});
            EACH_ROW(STEP)
#undef STEP
            for (int k = 0; k < depth; ++k) {{
                const vector_{t} r0 = load_{t}(r), r1 = load_{t}(r + LANES_{t});
#define STEP(m) {{ \\
                    const vector_{t} each = spread_{t}(l[m * row_step]); \\
                    x##m = fused_{t}(each, r0, x##m); \\
                    y##m = fused_{t}(each, r1, y##m); \\
                }}
                EACH_ROW(STEP)
#undef STEP
                l += depth_step;
                r += {columns};
            }}
#define STEP(m) \\
            store_{t}(block + m * {columns}, x##m); \\
            store_{t}(block + m * {columns} + LANES_{t}, y##m);
            EACH_ROW(STEP)
#undef STEP
        }}
    }}
}}"""

# The names of all this text: no program may have one of them.
PRODUCT_NAMES = frozenset(
    re.findall(r"(?:define|vector_\w+|inline \S+|static void) (\w+)", _ISA)
    + [
        name
        for dtype in _VECTOR_NAMES
        for name in re.findall(rf"\b\w+_{dtype}\b", _VECTORS.replace("{t}", dtype))
        + [f"tile_product_{dtype}"]
    ]
)


class CContractPrinter(CKernelPrinter):
    """Writes a contraction."""

    def nest(self, top: Level, nest: For | Contract) -> None:
        """Tile by tile, which threads may share out."""
        assert isinstance(nest, Contract)
        self.tile_rows = TILE_ROWS[nest.dtype]
        row_tiles = ceildiv(nest.rows, self.tile_rows)
        column_tiles = ceildiv(nest.columns, TILE_COLUMNS)
        tasks = nest.batch * row_tiles * column_tiles
        if tasks == 0:
            return
        tile = Dim.symbol("_tile")
        inside = top.inner({"_tile": "tile"})
        bounds = Bounds({"_tile": (0, tasks - 1)})
        starts = {
            "row0": bounds.simplify(tile // column_tiles % row_tiles) * self.tile_rows,
            "column0": bounds.simplify(tile % column_tiles) * TILE_COLUMNS,
        }
        for name, start in starts.items():
            inside.put(f"const int64_t {name} = {self.index(inside, start)};")
        batch = self.index(inside, bounds.simplify(tile // (row_tiles * column_tiles)))
        before = len(inside.lines)
        for region in (nest.left, nest.right, nest.epilogue):
            inside.variables[region.variables[0]] = "batch"
        for name, extent, first, most in (
            ("rows", nest.rows, "row0", self.tile_rows),
            ("columns", nest.columns, "column0", TILE_COLUMNS),
        ):
            left = f"{self.index(top, extent)} - {first}"
            inside.put(f"const int {name} = {left} < {most} ? (int)({left}) : {most};")
        self.declare_tiles(inside, nest.dtype)
        self.sum_up(inside, nest)
        self.finish_tile(inside, nest)
        declare_if_used(inside, before, "batch", batch)
        stop = self.index(top, tasks)
        self.share_out(top)
        top.close(self.counting("tile", "0", stop), inside)

    def declare_tiles(self, level: Level, dtype: str) -> None:
        """The sums of a tile, all 0, and its packed operands."""
        type_, rows = C.types[dtype], self.tile_rows
        level.put(f"{type_} sums[{rows * TILE_COLUMNS}] ALIGNED;")
        level.put(f"{type_} left[{rows * TILE_DEPTH}] ALIGNED;")
        level.put(f"{type_} right[{TILE_DEPTH * TILE_COLUMNS}] ALIGNED;")
        clear = level.inner()
        clear.put(f"for (int n = 0; n < {TILE_COLUMNS}; ++n) sums[m * {TILE_COLUMNS} + n] = 0;")
        level.close("for (int m = 0; m < rows || m % BLOCK_ROWS != 0; ++m)", clear)

    def sum_up(self, level: Level, contract: Contract) -> None:
        depth, dtype = self.index(level, contract.depth), contract.dtype
        step = level.inner()
        step.put(
            f"const int depth = {depth} - k0 < {TILE_DEPTH} ? (int)({depth} - k0) : {TILE_DEPTH};"
        )
        self.helpers.setdefault("vectors", _ISA)
        self.helper(f"fma_{dtype}", condition="defined(PORTABLE_VECTORS)")
        d, p, neon, f = _VECTOR_NAMES[dtype]
        names = {"t": dtype, "c": C.types[dtype], "d": d, "p": p, "neon": neon, "f": f}
        self.helpers.setdefault(f"vector_{dtype}", _VECTORS.format(**names))
        name = f"tile_product_{dtype}"
        self.helpers.setdefault(name, _TILE_PRODUCT.format(**names, columns=TILE_COLUMNS))
        by_rows = self.pack(step, contract.left, contract, ("m", "row0", "rows"), self.tile_rows)
        self.pack(step, contract.right, contract, ("n", "column0", "columns"), TILE_COLUMNS)
        steps = f"{TILE_DEPTH}, 1" if by_rows else f"1, {self.tile_rows}"
        step.put(f"{name}(rows, columns, depth, left, {steps}, right, sums);")
        level.close(f"for (int64_t k0 = 0; k0 < {depth}; k0 += {TILE_DEPTH})", step)

    def pack(
        self,
        level: Level,
        region: Region,
        contract: Contract,
        side: tuple[str, str, str],
        size: int,
    ) -> bool:
        """The elements of an operand that a step needs; beyond its edge 0, up to a whole block.

        Packs along the axis along which the operand lies in memory, and returns whether that is the
        contracted one. `side` is the other axis: its place in a tile, first index, and count.
        """
        place, first, count = side
        # The left operand binds (batch, row, k), the right one (batch, k, column).
        is_left = region is contract.left
        other, contracted = region.variables[1:] if is_left else region.variables[:0:-1]
        assert region.value is not None
        name = "left" if is_left else "right"
        edge = "BLOCK_ROWS" if is_left else f"(2 * LANES_{contract.dtype})"
        along = _lies_along(region, contracted, other)
        # The left operand keeps its order; vectors of the right one are along its columns.
        row, k = f"{place} * {TILE_DEPTH} + k", f"k * {size} + {place}"
        at = row if along and is_left else k
        if along:
            lanes = Lanes(contracted, "k0", "k", "depth", TILE_DEPTH)
            outer, text = other, f"{first} + {place}"
            head = f"for (int {place} = 0; {place} < {count}; ++{place})"
        else:
            lanes = Lanes(other, first, place, count, size)
            outer, text = contracted, "k0 + k"
            head = "for (int k = 0; k < depth; ++k)"
        inside = level.inner({outer: outer})
        extra = [Assignment(region.value, f"{name}[{at}]")]
        self.spread |= self.crossing(region.body, extra)
        self.lane_scope(inside, region.body, lanes, extra)
        declare_if_used(inside, 0, outer, text)
        level.close(head, inside)
        self.pad(level, along, (place, count, edge), f"{name}[{at}] = 0;")
        return along

    def pad(self, level: Level, along: bool, side: tuple[str, str, str], clear: str) -> None:
        """Zeros beyond the edge of a packed operand, up to a whole block."""
        place, count, edge = side
        heads = [
            f"for (int {place} = {count}; {place} % {edge} != 0; ++{place})",
            "for (int k = 0; k < depth; ++k)",
        ]
        outer, inner = heads if along else heads[::-1]
        inside = level.inner()
        inside.put(f"{inner} {clear}")
        level.close(outer, inside)

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements of a finished tile."""
        _, row, column = contract.epilogue.variables
        rows = level.inner({row: row})
        assert contract.product is not None
        self.names[id(contract.product)] = f"sums[m * {TILE_COLUMNS} + n]"
        self.spread |= self.crossing(contract.epilogue.body)
        lanes = Lanes(column, "column0", "n", "columns", TILE_COLUMNS)
        self.lane_scope(rows, contract.epilogue.body, lanes)
        declare_if_used(rows, 0, row, "row0 + m")
        level.close("for (int m = 0; m < rows; ++m)", rows)


def _lies_along(region: Region, contracted: str, other: str) -> bool:
    """Whether more of what a region loads lies along the contracted axis than along the other."""
    loads = [s for s in walk(region.body) if isinstance(s, Value) and s.opcode == "load"]
    return _unit_steps(loads, contracted) > _unit_steps(loads, other)


def _unit_steps(loads: Sequence[Value], variable: str) -> int:
    """How many loads take neighbours in memory for neighbours along an axis."""
    count = 0
    for load in loads:
        buffer: Buffer = load.immediate.buffer
        split = affine(linear(buffer, load.immediate.index), variable)
        count += buffer.layout != "strided" and split is not None and split[0] == 1
    return count
