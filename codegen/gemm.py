"""How does one native function multiply matrices of any size, strides and dtype f32 or f64?

``void graphc_gemm_f32(ptr job)`` (and ``_f64``) computes, for each product of a batch, out = left @
right or out += left @ right, without a BLAS. The *job* is a struct of int64 words, ``JOB[name]`` is
the index of each; every stride is in bytes and may be zero or negative in left and right:

- ``left, left_row, left_column, left_batch``: address of element (0, 0) and strides along rows, k
  (its columns) and the batch; ``right, right_row`` (along k) ``, right_column, right_batch`` and
  ``out, out_row, out_batch`` likewise. The columns of out are contiguous; it overlaps no operand.
- ``rows, columns, depth, batches``: the extents M, N, K and the number of products. An empty k
  gives zeros; no rows, columns or products, nothing.
- ``accumulate``: nonzero adds to out.
- ``epilogue, epilogue_context``: null, or ``void epilogue(ptr context, ptr tile, i64 out_row, i64
  row, i64 column, i64 m, i64 n, i64 batch)``, called once for each finished block of out, while it
  is in cache. Blocks are disjoint and cover out; nothing bounds m and n but the size of out.
- ``pack_left, pack_left_context``: null, or ``void pack(ptr context, ptr destination, i64 row, i64
  m, i64 k, i64 kc, i64 batch, i64 stride)``, which takes the place of reading left: it writes
  element (row + i, k + l), i < m, l < kc, to ``destination + l * stride + i * element bytes``.
  Nothing else in the panel need be written, but all of it may be: ``stride`` is ``Tile.rows``
  elements for left, ``Tile.columns`` for right. ``pack_right`` is the same for right with columns
  in the place of rows: element (k + l, column + j) goes to ``destination + l * stride + j * ...``.
  A panel may be asked for more than once, by any worker. The strides of a packed operand are
  not read.
- ``workspace``: `workspace` bytes, aligned to 64. ``workers``: how many threads may be used, at
  least 1. ``status``: null or the address of the status record, whose cancel word stops the
  product between tasks.

Work is handed out by ``graphc_parallel_for(function, plan, tasks, grain, workers, status)``. How it
is cut depends on sizes, strides, dtype and machine alone, and every element of out is summed in the
same order whoever computes it: the same bits for any number of workers. Below ``SERIAL_WORK``
multiplications a single worker runs all tasks without asking the pool; above, the pool is
asked even then, because it polls for signals.

The plan. Register tiles take k in blocks such that a panel of right fills an eighth of the second
level of cache. Operands are read where they lie as long as they fit there; a transposed or large
right operand is packed, by the tasks that use a panel if few tasks do, else once for all.
Products with up to four rows stream over right, narrow ones whose operands are contiguous along k
take dot products, and a column vector is computed as a row. A long k with a small out is cut into
pieces whose results are added at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.codegen.gemmtasks import (
    BY_TASK,
    CANCEL_WORD,
    IN_PLACE,
    JOB,
    JOB_WORDS,
    ONCE,
    PLAN,
    KernelTable,
    Plan,
    clear,
    combine,
    compute_dots,
    compute_streams,
    compute_tiles,
    copy_lines,
    copy_tile,
    finish,
    is_set,
    pack_panels,
    panel_bytes,
    panel_product,
)
from graphc.codegen.irtext import Function, Module, Operand
from graphc.codegen.machine import Machine
from graphc.codegen.microkernel import (
    DOT_TILE,
    STREAM_ROWS,
    Tile,
    dot_kernel,
    pack_kernel,
    stream_kernel,
    tile_kernel,
)
from graphc.dims import ceildiv, dim_min

__all__ = ["JOB", "SERIAL_WORK", "Tile", "entry_name", "modules", "workspace"]

TASK_WORK = 2**20  # multiplications in a task: about 20 us of one core
SMALL_WORK = 64**3  # below this a product is not worth a plan
SERIAL_WORK = 2**26
STREAM_COLUMNS = 8192
DOT_LINES = 6  # lines that a dot product copies at most; no tile is narrower
SPLIT_AREA = 2**14  # elements of out up to which a long k is cut into pieces
SPLIT_OPERANDS = 2**20  # elements of left and right from which on it is
SPLIT_DEPTH = 512
SPLIT_PIECES = 16
CONFLICT_BYTES = 4096  # rows at multiples of this compete for the same lines of the first level


@dataclass(frozen=True)
class Blocking:
    """Block sizes in elements for one dtype and machine, derived from its caches."""

    tile: Tile
    depth: int  # of k: a packed panel of right takes an eighth of the second level
    rows: int  # of left beside it: a fifth of the second level
    few_rows: int  # three quarters of it: at this height, each task packs its own panels
    columns: int  # of right that are packed at once: a quarter of the third level

    @staticmethod
    def of(dtype: str, machine: Machine) -> Blocking:
        tile = Tile.of(dtype, machine)
        size = tile.vector.element_bytes
        depth = _clamp(machine.l2 // (8 * tile.columns * size), 128, 1024, 64)
        row_bytes = depth * size
        return Blocking(
            tile,
            depth,
            _clamp(machine.l2 // (5 * row_bytes), 2 * tile.rows, 240, tile.rows),
            _clamp(3 * machine.l2 // (4 * row_bytes), 4 * tile.rows, 240, tile.rows),
            _clamp(machine.l3 // (4 * row_bytes), 512, 8192, tile.columns),
        )


def _clamp(value: int, low: int, high: int, multiple: int) -> int:
    """``value`` within bounds, rounded down to a multiple (the lower bound up)."""
    return max(-(-low // multiple), min(value, high) // multiple) * multiple


def entry_name(dtype: str) -> str:
    """The exported symbol; ``dtype`` is ``float32`` or ``float64``."""
    return Tile.of(dtype, Machine.host()).prefix
