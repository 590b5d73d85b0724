"""How does a contraction use the matrix units of a GPU?  By `mma.sync`, a warp at a time.

Tiles come to shared memory as in any contraction (`contract`); then each of eight warps
multiplies 32 x 32 elements of a tile of 128 x 64 in pieces of 16 x 8. Sums are float32. Operands
that were 16-bit floats go as such, which loses nothing; float32 ones are rounded to 11 significant
bits (tf32), which is why this is an option (`Options.tensor_cores`). Which lane holds what is fixed
by the PTX ISA (section "Matrix Fragments for mma.m16n8k8", and "m16n8k16"). The instruction stands
in a function that has a second body, of warp shuffles, for compilers that do not know it: that body
is what the CPU emulator executes, so everything but the instruction itself is run by the tests.

Compiled by NVRTC for sm_80/90/100; the instruction has not run on a GPU.
"""

from __future__ import annotations

from graphc.codegen.clike import Level
from graphc.codegen.cuda.contract import ContractPrinter, Tiling
from graphc.codegen.loops import Contract, Region

# Rows and columns of a piece of a product, and of the pieces of a warp.
PIECE_ROWS, PIECE_COLUMNS = 16, 8
ROW_PIECES, COLUMN_PIECES = 2, 4
WARPS_ACROSS = 2
# The tile of a block, in the terms of how its threads load it.
TILE = Tiling(8, 4, depth=16)
# Sizes from which most of a tile is worked on.
LEAST_ROWS, LEAST_COLUMNS, LEAST_DEPTH = 64, 32, 16
# By the dtype of operands: its name in PTX, and terms of one instruction.
KINDS = {"float32": ("tf32", 8), "float16": ("f16", 16), "bfloat16": ("bf16", 16)}


def uses_matrix_units(contract: Contract) -> bool:
    """Whether a product is of a dtype and of a size for them."""
    sizes = (contract.rows, contract.columns, contract.depth)
    least = (LEAST_ROWS, LEAST_COLUMNS, LEAST_DEPTH)
    pairs = zip(sizes, least, strict=True)
    return contract.dtype == "float32" and all(
        isinstance(size, int) and size >= limit for size, limit in pairs
    )


def operand_dtype(contract: Contract) -> str:
    """What the matrix units are given: the 16-bit dtype of both operands, else float32."""
    kinds = {_dtype_of(region) for region in (contract.left, contract.right)}
    return kinds.pop() if len(kinds) == 1 else "float32"


def _dtype_of(region: Region) -> str:
    value = region.value
    if value is not None and value.opcode == "convert" and value.args[0].dtype in KINDS:
        return value.args[0].dtype
    return "float32"


class TensorPrinter(ContractPrinter):
    """Writes a contraction whose products and sums the matrix units do."""

    padding = 32  # bytes: four lanes that read next to each other in depth meet in no bank
    next_columns = 2
    resident_with_arithmetic = None
    asks_for_edges = True  # without, ptxas takes loads together that fill all registers

    @property
    def elements_each(self) -> tuple[int, int]:
        return 2 * ROW_PIECES, 2 * COLUMN_PIECES

    def chosen_tiling(self, contract: Contract) -> Tiling:
        return TILE

    def declare_place(self, top: Level) -> None:
        rows, columns = ROW_PIECES * PIECE_ROWS, COLUMN_PIECES * PIECE_COLUMNS
        top.put("const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;")
        top.put(f"const int warp_row = warp / {WARPS_ACROSS} * {rows};")
        top.put(f"const int warp_column = warp % {WARPS_ACROSS} * {columns};")
        top.put("const int row = warp_row + lane / 4;")
        top.put("const int column = warp_column + lane % 4 * 2;")

    def row_place(self, number: str, step: int = 1) -> str:
        return f"{number} * {PIECE_ROWS // 2}"

    def column_place(self, number: str, step: int = 1) -> str:
        return f"{number} / 2 * {PIECE_COLUMNS} + {number} % 2"

    def product_text(self, contract: Contract) -> str:
        dtype = operand_dtype(contract)
        kind, terms = KINDS[dtype]
        fields = {"kind": kind, "terms": terms, "depth": self.depth}
        fields |= {"i": ROW_PIECES, "j": COLUMN_PIECES}
        for name, text in (("operand", self.operand_text(dtype)), ("mma", self.mma_text(dtype))):
            self.helpers.setdefault(f"{name}_{kind}", text)
        return (_SINGLES if dtype == "float32" else _PAIRS).format(**fields)

    def operand_text(self, dtype: str) -> str:
        """The function that makes what a lane gives to the instruction."""
        if dtype == "float32":
            return _TF32
        names = ("low", "high")
        halves = {n: self.instruction("convert", [n], ["float32"], dtype) for n in names}
        return _PAIR.format(kind=KINDS[dtype][0], **halves)

    def mma_text(self, dtype: str) -> str:
        """The function with the instruction, and what it does in shuffles."""
        kind, terms = KINDS[dtype]
        given = ("__uint_as_float(a)", "__uint_as_float(b)")
        if dtype != "float32":
            left, right = (f"(unsigned short)({name} >> k % 2 * 16)" for name in "ab")
            given = (
                self.instruction("convert", [left], [dtype], "float32"),
                self.instruction("convert", [right], [dtype], "float32"),
            )
        each = terms // 8
        return _MULTIPLY_ADD.format(kind=kind, terms=terms, each=each, a=given[0], b=given[1])


_SINGLES = """\
#pragma unroll
for (int k = 0; k < {depth}; k += {terms}) {{
    unsigned x[{i}][4], y[{j}][2];
    #pragma unroll
    for (int e = 0; e < 4; ++e) {{
        const int term = k + lane % 4 + e / 2 * 4;
        #pragma unroll
        for (int i = 0; i < {i}; ++i) {{
            x[i][e] = operand_{kind}(left[now][term][row + i * 16 + e % 2 * 8]);
        }}
    }}
    #pragma unroll
    for (int e = 0; e < 2; ++e) {{
        const int term = k + lane % 4 + e * 4;
        #pragma unroll
        for (int j = 0; j < {j}; ++j) {{
            y[j][e] = operand_{kind}(right[now][term][warp_column + lane / 4 + j * 8]);
        }}
    }}
    #pragma unroll
    for (int i = 0; i < {i}; ++i) {{
        #pragma unroll
        for (int j = 0; j < {j}; ++j) {{
            mma_{kind}(&sums[2 * i][2 * j], &sums[2 * i + 1][2 * j], x[i], y[j]);
        }}
    }}
}}"""

_PAIRS = """\
#pragma unroll
for (int k = 0; k < {depth}; k += {terms}) {{
    unsigned x[{i}][4], y[{j}][2];
    #pragma unroll
    for (int e = 0; e < 4; ++e) {{
        const int term = k + lane % 4 * 2 + e / 2 * 8;
        #pragma unroll
        for (int i = 0; i < {i}; ++i) {{
            const int at = row + i * 16 + e % 2 * 8;
            x[i][e] = operand_{kind}(left[now][term][at], left[now][term + 1][at]);
        }}
    }}
    #pragma unroll
    for (int e = 0; e < 2; ++e) {{
        const int term = k + lane % 4 * 2 + e * 8;
        #pragma unroll
        for (int j = 0; j < {j}; ++j) {{
            const int at = warp_column + lane / 4 + j * 8;
            y[j][e] = operand_{kind}(right[now][term][at], right[now][term + 1][at]);
        }}
    }}
    #pragma unroll
    for (int i = 0; i < {i}; ++i) {{
        #pragma unroll
        for (int j = 0; j < {j}; ++j) {{
            mma_{kind}(&sums[2 * i][2 * j], &sums[2 * i + 1][2 * j], x[i], y[j]);
        }}
    }}
}}"""

# What a lane gives to the instruction: one value of float32 rounded to nearest, ties away from
# zero, or two 16-bit values that are exact, the first in the lower half.
_TF32 = """\
__device__ inline unsigned operand_tf32(float x)
{
#ifdef __CUDA_ARCH__
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
#else
    const unsigned bits = __float_as_uint(x);
    return x != x ? bits : (bits + 0x1000u) & ~0x1fffu;
#endif
}"""

_PAIR = """\
__device__ inline unsigned operand_{kind}(float low, float high)
{{
#ifdef __CUDA_ARCH__
    unsigned pair;
    asm("cvt.rn.{kind}x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (unsigned){low} | (unsigned){high} << 16;
#endif
}}"""

_MULTIPLY_ADD = """\
__device__ inline void mma_{kind}(
    float* upper, float* lower, const unsigned (&x)[4], const unsigned (&y)[2])
{{
#ifdef __CUDA_ARCH__
    asm volatile(
        "mma.sync.aligned.m16n8k{terms}.row.col.f32.{kind}.{kind}.f32 "
        "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
        : "+f"(upper[0]), "+f"(upper[1]), "+f"(lower[0]), "+f"(lower[1])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
#else
    const int lane = threadIdx.x % 32;
    for (int k = 0; k < {terms}; ++k) {{
        const int from = k / {each} % 4, half = k / ({each} * 4);
        for (int e = 0; e < 4; ++e) {{
            const unsigned a = __shfl_sync(0xffffffffu, x[half * 2 + e / 2], lane / 4 * 4 + from);
            const unsigned b = __shfl_sync(0xffffffffu, y[half], (lane % 4 * 2 + e % 2) * 4 + from);
            float& sum = e / 2 == 0 ? upper[e % 2] : lower[e % 2];
            sum = fmaf({a}, {b}, sum);
        }}
    }}
#endif
}}"""

__all__ = ["TensorPrinter", "operand_dtype", "uses_matrix_units"]
