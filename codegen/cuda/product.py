"""Which launches are nothing but a matrix product, so that a library could do them instead?

A kernel whose operands lie in memory with constant steps and whose epilogue only stores the sums is
one. The kernel stays in the plan: whoever runs it may hand the product to cuBLAS where that pays,
and launches the kernel where it does not, or where there is no library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.codegen.loops import Buffer, Contract, Kernel, Plain, accumulator, plain_operand
from graphc.codegen.scalar import Store, Value, walk
from graphc.dims import Extent, evaluate

# Floating-point operations from which a library is asked: a product of 512 x 512 x 512. Below that
# a launch is over before the library's choice among its kernels can matter. This is a model, not a
# measurement: no GPU was at hand.
LEAST_OPERATIONS = 1 << 28
# A product with a shorter side than this reads its operands about as fast as they come.
LEAST_SIDE = 32
# Extents and leading dimensions of BLAS are of 32 bits.
MOST_EXTENT = (1 << 31) - 1


@dataclass(frozen=True)
class Matrix:
    """An operand: an address, and its steps in elements along the batch and its two axes."""

    place: Any
    steps: tuple[Extent, Extent, Extent]


@dataclass(frozen=True)
class Product:
    """`out[b, i, j] = sum over k of left[b, i, k] * right[b, k, j]`, all of `dtype`."""

    dtype: str
    batch: Extent
    rows: Extent
    columns: Extent
    depth: Extent
    left: Matrix
    right: Matrix
    out: Matrix


@dataclass(frozen=True)
class Gemm:
    """A product as BLAS takes it, by columns: `out' = right' left'`, so what is called the first
    operand is `right`. Leading dimensions and steps from matrix to matrix are in elements.
    """

    transposed: tuple[bool, bool]
    sizes: tuple[int, int, int]
    leading: tuple[int, int, int]
    between: tuple[int, int, int]
    batch: int


def product_of(
    kernel: Kernel, place: Callable[[Plain], tuple[Any, tuple[Extent, Extent, Extent]]]
) -> Product | None:
    """The product that a kernel is; None if it is more, or something else. `place` says where an
    operand begins, and its steps in elements.
    """
    nest = kernel.nest
    if not isinstance(nest, Contract) or not _only_stores(nest):
        return None
    found = [plain_operand(nest.left), plain_operand(nest.right), accumulator(nest)]
    matrices = []
    for plain in found:
        if plain is None or not _is_simple(plain.buffer, nest.dtype):
            return None
        matrices.append(Matrix(*place(plain)))
    return Product(nest.dtype, nest.batch, nest.rows, nest.columns, nest.depth, *matrices)


def _is_simple(buffer: Buffer, dtype: str) -> bool:
    return buffer.dtype == dtype and buffer.layout == "contiguous" and buffer.space != "worker"


def _only_stores(contract: Contract) -> bool:
    """Whether the epilogue is one store of the sum as it is."""
    statements = list(walk(contract.epilogue.body))
    stores = [s for s in statements if isinstance(s, Store)]
    rest = [s for s in statements if not isinstance(s, (Store, Value))]
    return len(stores) == 1 and not rest and stores[0].value is contract.product


def gemm(product: Product, sizes: Mapping[str, int]) -> Gemm | None:
    """The product for values of the extents; None where BLAS cannot express it, or where it is too
    small for a library to gain by.
    """
    known = dict(sizes)
    batch, rows, columns, depth = (
        evaluate(e, known) for e in (product.batch, product.rows, product.columns, product.depth)
    )
    if 2 * batch * rows * columns * depth < LEAST_OPERATIONS:
        return None
    if min(rows, columns, depth) < LEAST_SIDE or max(batch, rows, columns, depth) > MOST_EXTENT:
        return None
    left, right, out = (
        [evaluate(step, known) for step in matrix.steps]
        for matrix in (product.left, product.right, product.out)
    )
    first = _leading(right[1], right[2], depth, columns)
    second = _leading(left[1], left[2], rows, depth)
    if first is None or second is None or out[2] != 1 or out[1] < columns:
        return None
    if max(first[1], second[1], out[1]) > MOST_EXTENT:
        return None
    return Gemm(
        (first[0], second[0]),
        (columns, rows, depth),
        (first[1], second[1], out[1]),
        (right[0], left[0], out[0]),
        batch,
    )


def _leading(across: int, along: int, lines: int, length: int) -> tuple[bool, int] | None:
    """Whether a matrix of `lines` x `length` elements, with steps `across` its lines and `along`
    them, is transposed as BLAS sees it, and its leading dimension.
    """
    if along == 1 and across >= length:
        return False, across
    if across == 1 and along >= lines:
        return True, along
    return None


__all__ = ["Gemm", "Matrix", "Product", "gemm", "product_of"]
