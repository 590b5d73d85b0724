"""How is a contraction written as C?  Tiles on the stack, a block of sums in vector registers.

Both operands are packed for a step along the contracted axis, each in the order in which it lies in
memory: so a region computes an element once for many sums, and an operand may be anything that a
region can compute. The packed step is multiplied by one function for each dtype, whose vectors are
those that the compiler says the processor has: a block of rows by two vectors stays in registers,
which no compiler does reliably with plain loops. Every sum is in the order of the contracted axis,
by fused multiply-add, so the blocks change no bit of it; a product with a vector, whose matrix is
read once, sums in lanes along that axis.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.c.kernel import Assignment, CKernelPrinter, Lanes, declare_if_used
from graphc.codegen.c.scalar import C
from graphc.codegen.clike import Level
from graphc.codegen.loops import Buffer, Contract, Region, linear
from graphc.codegen.scalar import For, Value, walk
from graphc.dims import Bounds, Dim, Extent, affine, ceildiv

# Rows of a tile of a product: a multiple of the rows of every block. Its columns, and the length of
# a step along the contracted axis. Two packed operands and the sums take 80 KiB of the stack.
TILE_ROWS = {"float32": 96, "float64": 48}
TILE_COLUMNS, TILE_DEPTH = 64, 64
# Lanes of a sum along the contracted axis, in a product with a vector: a multiple of all vectors.
DOT_LANES = 16

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
typedef {n} vector_{t};
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

_ROW_PRODUCT = """\
/* Adds the products of a vector and packed rows to sums of {lanes} lanes each; what is packed is
   zero up to a whole number of lanes. */
static void row_product_{t}(int rows, int depth, const {c} *left, const {c} *right, {c} *sums)
{{
    for (int row = 0; row < rows; ++row) {{
        const {c} *const r = right + row * {columns};
        {c} *const lanes = sums + row * {lanes};
        for (int n = 0; n < {lanes}; n += LANES_{t}) {{
            vector_{t} sum = load_{t}(lanes + n);
            for (int k = n; k < depth; k += {lanes}) {{
                sum = fused_{t}(load_{t}(left + k), load_{t}(r + k), sum);
            }}
            store_{t}(lanes + n, sum);
        }}
    }}
}}"""

_ADD_LANES = """\
/* Sums of {lanes} lanes become one number each, halves onto halves. */
static void add_lanes_{t}(int rows, {c} *sums)
{{
    for (int row = 0; row < rows; ++row) {{
        {c} *const lanes = sums + row * {lanes};
        for (int half = {lanes} / 2; half > 0; half /= 2) {{
            for (int n = 0; n < half; ++n) lanes[n] += lanes[n + half];
        }}
        sums[row] = lanes[0];
    }}
}}"""

# The names of all this text: no program may have one of them.
PRODUCT_NAMES = frozenset(
    re.findall(r"(?:define|vector_\w+|inline \S+|static void) (\w+)", _ISA)
    + [
        name
        for dtype in _VECTOR_NAMES
        for name in re.findall(rf"\b\w+_{dtype}\b", _VECTORS.replace("{t}", dtype))
        + [f"{what}_{dtype}" for what in ("tile_product", "row_product", "add_lanes")]
    ]
)


@dataclass(frozen=True)
class Side:
    """An operand: its region, the axis that is its own and the contracted one, as they are called
    there, and its own axis in the epilogue with its extent.
    """

    region: Region
    own: str
    contracted: str
    axis: str
    extent: Extent

    @functools.cached_property
    def along(self) -> bool:
        """Whether more of what it loads lies along the contracted axis than along its own."""
        loads = [s for s in walk(self.region.body) if isinstance(s, Value) and s.opcode == "load"]
        return _unit_steps(loads, self.contracted) > _unit_steps(loads, self.own)


class CContractPrinter(CKernelPrinter):
    """Writes a contraction."""

    def nest(self, top: Level, nest: For | Contract) -> None:
        """Tile by tile, which threads may share out."""
        assert isinstance(nest, Contract)
        self.choose(nest)
        row_tiles = ceildiv(self.left.extent, self.tile_rows)
        column_tiles = ceildiv(self.right.extent, TILE_COLUMNS)
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
            ("rows", self.left.extent, "row0", self.tile_rows),
            ("columns", self.right.extent, "column0", TILE_COLUMNS),
        ):
            left = f"{self.index(top, extent)} - {first}"
            inside.put(f"const int {name} = {left} < {most} ? (int)({left}) : {most};")
        self.declare_tiles(inside)
        self.sum_up(inside, nest)
        self.finish_tile(inside, nest)
        declare_if_used(inside, before, "batch", batch)
        stop = self.index(top, tasks)
        self.share_out(top)
        top.close(self.counting("tile", "0", stop), inside)

    def choose(self, nest: Contract) -> None:
        """How to tile: a product with a vector has the vector on the left, and sums lane by lane
        along rows of memory if the other operand lies so.
        """
        self.dtype = nest.dtype
        _, row, column = nest.epilogue.variables
        _, own, contracted = nest.left.variables
        left = Side(nest.left, own, contracted, row, nest.rows)
        _, contracted, own = nest.right.variables
        right = Side(nest.right, own, contracted, column, nest.columns)
        if nest.columns == 1:
            left, right = right, left
        self.left, self.right = left, right
        self.lane_by_lane = left.extent == 1 and right.along
        self.tile_rows = 1 if self.lane_by_lane else TILE_ROWS[nest.dtype]
        self.width = DOT_LANES if self.lane_by_lane else 1
        d, p, n, f = _VECTOR_NAMES[nest.dtype]
        names = {"t": nest.dtype, "c": C.types[nest.dtype], "d": d, "p": p, "n": n, "f": f}
        self.spelled = names | {"columns": str(TILE_COLUMNS), "lanes": str(DOT_LANES)}

    def declare_tiles(self, level: Level) -> None:
        """The sums of a tile, all 0, and its packed operands."""
        type_, rows = C.types[self.dtype], self.tile_rows
        size = TILE_COLUMNS * self.width
        level.put(f"{type_} sums[{rows * size}] ALIGNED;")
        level.put(f"{type_} left[{rows * TILE_DEPTH}] ALIGNED;")
        level.put(f"{type_} right[{TILE_DEPTH * TILE_COLUMNS}] ALIGNED;")
        clear = level.inner()
        if self.lane_by_lane:
            level.put(f"for (int n = 0; n < columns * {self.width}; ++n) sums[n] = 0;")
            return
        clear.put(f"for (int n = 0; n < {size}; ++n) sums[m * {size} + n] = 0;")
        level.close("for (int m = 0; m < rows || m % BLOCK_ROWS != 0; ++m)", clear)

    def sum_up(self, level: Level, contract: Contract) -> None:
        depth = self.index(level, contract.depth)
        step = level.inner()
        step.put(
            f"const int depth = {depth} - k0 < {TILE_DEPTH} ? (int)({depth} - k0) : {TILE_DEPTH};"
        )
        self.helpers.setdefault("vectors", _ISA)
        self.helper(f"fma_{self.dtype}", condition="defined(PORTABLE_VECTORS)")
        self.helpers.setdefault(f"vector_{self.dtype}", _VECTORS.format(**self.spelled))
        self.pack(step, "left", self.left, ("m", "row0", "rows"), self.tile_rows)
        self.pack(step, "right", self.right, ("n", "column0", "columns"), TILE_COLUMNS)
        if self.lane_by_lane:
            name, text = f"row_product_{self.dtype}", _ROW_PRODUCT
            step.put(f"{name}(columns, depth, left, right, sums);")
        else:
            name, text = f"tile_product_{self.dtype}", _TILE_PRODUCT
            steps = f"{TILE_DEPTH}, 1" if self.left.along else f"1, {self.tile_rows}"
            step.put(f"{name}(rows, columns, depth, left, {steps}, right, sums);")
        self.helpers.setdefault(name, text.format(**self.spelled))
        level.close(f"for (int64_t k0 = 0; k0 < {depth}; k0 += {TILE_DEPTH})", step)

    def pack(
        self, level: Level, name: str, side: Side, own: tuple[str, str, str], size: int
    ) -> None:
        """The elements of an operand that a step needs; beyond its edges 0, up to a whole block.

        Packs along the axis along which the operand lies in memory. `own` is the operand's own
        axis: its place in a tile, first index, and count.
        """
        place, first, count = own
        value = side.region.value
        assert value is not None
        # The left operand keeps its order; vectors of the right one are along its columns.
        keeps = side.along and (name == "left" or self.lane_by_lane) or self.tile_rows == 1
        at = f"{place} * {TILE_DEPTH} + k" if keeps else f"k * {size} + {place}"
        if side.along:
            lanes = Lanes(side.contracted, "k0", "k", "depth", TILE_DEPTH)
            outer, text = side.own, f"{first} + {place}"
            head = f"for (int {place} = 0; {place} < {count}; ++{place})"
        else:
            lanes = Lanes(side.own, first, place, count, size)
            outer, text = side.contracted, "k0 + k"
            head = "for (int k = 0; k < depth; ++k)"
        inside = level.inner({outer: outer})
        extra = [Assignment(value, f"{name}[{at}]")]
        self.spread |= self.crossing(side.region.body, extra)
        self.lane_scope(inside, side.region.body, lanes, extra)
        declare_if_used(inside, 0, outer, text)
        level.close(head, inside)
        self.pad(level, name, side, (place, count), f"{name}[{at}] = 0;")

    def pad(self, level: Level, name: str, side: Side, own: tuple[str, str], clear: str) -> None:
        """Zeros beyond the edges of a packed operand, up to a whole block."""
        place, count = own
        to_depth = f"for (int k = depth; k % {DOT_LANES} != 0; ++k)"
        edge = "BLOCK_ROWS" if name == "left" else f"(2 * LANES_{self.dtype})"
        heads = [
            f"for (int {place} = {count}; {place} % {edge} != 0; ++{place})",
            "for (int k = 0; k < depth; ++k)",
        ]
        if self.lane_by_lane:
            heads = [f"for (int {place} = 0; {place} < {count}; ++{place})", to_depth]
        outer, inner = heads if side.along or self.lane_by_lane else heads[::-1]
        inside = level.inner()
        inside.put(f"{inner} {clear}")
        level.close(outer, inside)

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements of a finished tile."""
        row, column = self.left.axis, self.right.axis
        if self.lane_by_lane:
            self.helpers.setdefault("add_lanes", _ADD_LANES.format(**self.spelled))
            level.put(f"add_lanes_{self.dtype}(columns, sums);")
        rows = level.inner({row: row})
        assert contract.product is not None
        self.names[id(contract.product)] = f"sums[m * {TILE_COLUMNS} + n]"
        self.spread |= self.crossing(contract.epilogue.body)
        lanes = Lanes(column, "column0", "n", "columns", TILE_COLUMNS)
        self.lane_scope(rows, contract.epilogue.body, lanes)
        declare_if_used(rows, 0, row, "row0 + m")
        level.close("for (int m = 0; m < rows; ++m)", rows)


def _unit_steps(loads: Sequence[Value], variable: str) -> int:
    """How many loads take neighbours in memory for neighbours along an axis."""
    count = 0
    for load in loads:
        buffer: Buffer = load.immediate.buffer
        split = affine(linear(buffer, load.immediate.index), variable)
        count += buffer.layout != "strided" and split is not None and split[0] == 1
    return count
