"""How does one native function multiply matrices of any size, strides and dtype f32 or f64?

``void graphc_gemm_f32(ptr job)`` (and ``_f64``) computes, for each product of a batch, out = left @
right or out += left @ right, without a BLAS. The *job* is a struct of int64 words, ``JOB[name]`` is
the index of each; every stride is in bytes and may be zero or negative in left and right:

- ``left, left_row, left_column, left_batch``: address of element (0, 0) and strides along rows, k
  (its columns) and the batch; ``right, right_row`` (along k) ``, right_column, right_batch`` and
  ``out, out_row, out_batch`` likewise. The columns of out are contiguous; it overlaps no operand.
- ``right_panels``: nonzero: right lies in panels of ``Tile.columns`` neighbouring columns, as if
  packed, and ``right_row`` is the step from row to row of one. Panels are ``Tile.columns`` times
  ``right_column`` bytes apart, as if that were a step from column to column. Without masks the
  columns are whole vectors.
- ``rows, columns, depth, batches``: the extents M, N, K and the number of products. An empty k
  gives zeros; no rows, columns or products, nothing.
- ``accumulate``: nonzero adds to out.
- ``epilogue, epilogue_context``: null, or ``void epilogue(ptr context, ptr tile, i64 out_row, i64
  row, i64 column, i64 m, i64 n, i64 batch)``, called once for each finished block of out, while it
  is in cache. Blocks are disjoint and cover out; nothing bounds m and n but the size of out. The
  block is at ``tile``, its rows ``out_row`` bytes apart: in out, or in memory of the worker's own.
  So what out holds in the end is what the epilogue has written there, if it has.
- ``warm``: null, or a function with the same arguments that asks for what the epilogue of a block
  will read and write beside out: called before a register tile is computed, so that it is there
  when the tile is finished. The block may lie below out.
- ``finisher``: null, or a kernel of full register tiles that does with the sums in its registers
  what the epilogue would do (`FINISH_PARAMETERS`); only beside an epilogue, which has the others.
- ``pack_left, pack_left_context``: null, or ``void pack(ptr context, ptr destination, i64 row, i64
  m, i64 k, i64 kc, i64 batch, i64 stride)``, which takes the place of reading left: it writes
  element (row + i, k + l), i < m, l < kc, to ``destination + l * stride + i * element bytes``.
  Nothing else in the panel need be written, but all of it may be: ``stride`` is ``Tile.rows``
  elements for left, ``Tile.columns`` for right. ``pack_right`` is the same for right with columns
  in the place of rows: element (k + l, column + j) goes to ``destination + l * stride + j * ...``.
  A panel may be asked for more than once, by any worker. The strides of a packed operand are
  not read.
- ``left_across, left_along``: null, or ``void offsets(ptr offsets_context, ptr table, i64 first,
  i64 count, i64 batch)``, which write to ``table`` the offsets in bytes of rows (of k) first ..
  first + count - 1: element (i, k) of the batch is at ``left`` plus both. So a product reads
  windows into an array where they lie, without ever storing them. ``right_across, right_along``
  are the same for columns and k of right, which is packed from there. The strides of such an
  operand are not read, and offsets of k do not depend on the batch.
- ``left_place, right_place``: null, or ``void offsets(offsets_context, table, first, count, 0)``,
  which writes the offsets in bytes of products first .. first + count - 1 of the batch: they come
  on top of ``left_batch`` or ``right_batch``, where operands have no one stride along the batch.
- ``workspace``: `workspace` bytes, aligned to 64. ``workers``: how many threads may be used, at
  least 1. ``status``: null or the address of the status record; a code or a cancel word in it
  stops the product between tasks.

Work is handed out by ``graphc_parallel_for(function, plan, tasks, grain, workers, status)``. How k
is cut depends on sizes, strides, dtype and machine alone, and every element of out is summed in the
same order whoever computes it: the same bits for any number of workers, though columns are dealt
out in wider groups to few where each group packs rows of left again. Below ``SERIAL_WORK``
multiplications a single worker runs all tasks without asking the pool; above, the pool is
asked even then, because it polls for signals.

The plan. Register tiles take k in blocks such that a panel of right fills at most an eighth of the
second level of cache. Operands are read where they lie as long as they are near; a transposed or
large right operand is packed, by the tasks that use a panel if few tasks do, else once for all. If
left is transposed, not high and large, as in the gradient of weights, all panels meet one block of
k before the next begins, so that its part of left stays in the second level. A few rows stream over
right (more of them where panels are narrow, which lie across the lines that rows are read by),
narrow products whose operands are contiguous along k take dot products, and a narrow product whose
left operand is transposed is computed the other way round. A long k with a small out is cut into
pieces whose results are added at the end. The thresholds below were measured on a Zen 4 with a
second level of 1 MiB; those of bytes follow the machine. Where panels are narrow (`long_runs` is
false), what was measured on a Zen 3 holds: right is packed from half of the first level on, and so
are rows of left with gaps of a power of two. Panels whose rows lie side by side in memory are
packed several at a time; where they are narrow, few rows share them instead of each task packing
its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from graphc.codegen.gemm.microkernel import DOT_TILE, STREAM_ROWS, Tile, family
from graphc.codegen.gemm.panel import copy_tile, panel_product
from graphc.codegen.gemm.table import (
    BY_TASK,
    CANCEL_WORD,
    CODE_WORD,
    DOT_ROWS,
    FEW_ROWS,
    IN_PLACE,
    JOB,
    JOB_WORDS,
    LARGE,
    NARROW_PANELS,
    ONCE,
    PLAN,
    TABLED,
    WIDE_COLUMNS,
    KernelTable,
    Plan,
    ProductShape,
    is_set,
    kernels,
    panel_bytes,
    reachable,
    streamed,
    table_module,
)
from graphc.codegen.gemm.tasks import (
    clear_rows,
    combine,
    combine_turned,
    compute_dots,
    compute_small,
    compute_streams,
    compute_tiles,
    copy_lines,
    finish,
    pack_panels,
    small_products,
)
from graphc.codegen.irtext import Function, Module, Operand
from graphc.codegen.loops import LINE_BYTES, SERIAL_WORK, TASK_WORK
from graphc.codegen.machine import Machine
from graphc.dims import Extent, ceildiv, dim_max, dim_min

__all__ = ["JOB", "ProductShape", "Tile", "entry_name", "modules", "workspace"]

SHARED = ("_tasks", "_plans")  # how modules are called that are the same for all sizes
SMALL_WORK = 64**3  # up to this a product is not worth a plan
CHEAP_ROWS = 240  # unless packing it would cost too much, which up to here takes twice that size
SHARES = 8  # tasks for each worker, where every task packs rows of left
LEAST_PANELS = 8  # of right that make packing those rows worth while
MANY_PANELS = 16  # from here on there are enough tasks that each take all rows
SPREAD_BYTES = 512  # rows at multiples of this have an eighth of the first level, or less
CONFLICT_BYTES = 4096  # rows at multiples of this compete for the same lines of the first level
TURNED_AREA = 2**18  # elements of out up to which it can be computed the other way round
TURNED_DEPTH = 32  # from here on that is worth turning out
SPLIT_AREA = 2**14  # elements of out up to which a long k is cut into pieces
SPLIT_OPERANDS = 2**20  # elements of left and right from which on it is
SPLIT_DEPTH = 512
SPLIT_PIECES = 16
SPLIT_ROWS = 128  # up to here also where the rows of left are contiguous


@dataclass(frozen=True)
class Blocking:
    """Block sizes in elements for one dtype and machine, derived from its caches."""

    tile: Tile
    # Of k: a packed panel of right takes an eighth of the second level, and the rows of left that
    # a tile reads one and a half of the first.
    depth: int
    rows: int  # of left beside it: two fifths of the second level
    few_rows: int  # three quarters of it: at this height, each task packs its own panels
    packed_rows: int  # the most rows of left that are packed at once, where k is short
    columns: int  # of right that are packed at once: a quarter of the third level
    # Bytes of right up to which tiles read it where it lies, and twice that if rows are so few that
    # packing would cost too much.
    in_place: int
    cheap_rows: int

    @property
    def packed_bytes(self) -> int:
        """Of rows of left that are packed at once: three quarters of the second level."""
        return 3 * self.tile.machine.l2 // 4

    @property
    def table_bytes(self) -> int:
        """Of the tables of offsets: rows and k of left, columns and k of right."""
        rows = self.few_rows + self.tile.rows
        return 8 * (rows + self.tile.columns + 2 * self.depth)

    @staticmethod
    @functools.lru_cache(maxsize=8)
    def of(dtype: str, machine: Machine) -> Blocking:
        tile = Tile.of(dtype, machine)
        size = tile.vector.element_bytes
        panel, lines = machine.l2 // (8 * tile.columns), 3 * machine.l1 // (2 * tile.rows)
        depth = _clamp(min(panel, lines) // size, 128, 1024, 64)
        row_bytes = depth * size
        return Blocking(
            tile,
            depth,
            _clamp(2 * machine.l2 // (5 * row_bytes), 2 * tile.rows, 240, tile.rows),
            _clamp(3 * machine.l2 // (4 * row_bytes), 4 * tile.rows, 240, tile.rows),
            _clamp(240, 4 * tile.rows, 240, tile.rows),
            _clamp(machine.l3 // (4 * row_bytes), 512, 8192, tile.columns),
            LARGE * machine.l2 if tile.long_runs else machine.l1 // 2,
            CHEAP_ROWS if tile.long_runs else 4 * tile.rows,
        )


def _clamp(value: int, low: int, high: int, multiple: int) -> int:
    """``value`` within bounds, rounded down to a multiple (the lower bound up)."""
    return max(-(-low // multiple), min(value, high) // multiple) * multiple


def entry_name(dtype: str) -> str:
    """The symbol of the function for ``float32`` or ``float64``."""
    return family(dtype)


def modules(
    dtype: str,
    machine: Machine,
    shapes: Iterable[ProductShape] | None = None,
    called: Iterable[str] = (),
) -> list[tuple[str, str, list[str], list[str], int]]:
    """The family as small modules: (name, IR text, exports, imports, code generation level).

    They are compiled one by one, without LLVM passes, so that a cache can keep each object.
    ``shapes`` lists (rows, columns, depth) of all products that the program contains, where what is
    not an int may be anything, and the operands that tables describe; kernels that none of them
    can reach are left out, but for those that are ``called`` by name. Without any product there are
    only these.
    """
    table = KernelTable(Tile.of(dtype, machine))
    shapes = None if shapes is None else list(shapes)
    if shapes == []:
        return [_kernel(dtype, machine, name) for name in sorted(called)]
    used = None if shapes is None else reachable(table, shapes) | set(called)
    names = [name if used is None or name in used else None for name in table.names()]
    return list(_modules(dtype, machine, tuple(names)))


# Name, IR text, exports, imports, code generation level.
_Text = tuple[str, str, list[str], list[str], int]


@functools.lru_cache(maxsize=32)
def _modules(
    dtype: str, machine: Machine, names: tuple[str | None, ...]
) -> tuple[_Text, ...]:
    """The modules of the kernels that have a name, the table of all, and what calls them."""
    table = KernelTable(Tile.of(dtype, machine))
    lookup = _text(table.symbol, table_module(table, list(names)), 1)
    wanted = [_kernel(dtype, machine, name) for name in _writers(dtype, machine) if name in names]
    return (*wanted, lookup, *_drivers(dtype, machine))


@functools.lru_cache(maxsize=8)
def _writers(dtype: str, machine: Machine) -> dict[str, tuple[Callable[[], Function], int]]:
    """What writes each kernel of the family, and its level."""
    return {name: (write, level) for name, write, level in kernels(Tile.of(dtype, machine))}


@functools.lru_cache(maxsize=512)
def _kernel(dtype: str, machine: Machine, name: str) -> _Text:
    """One kernel: programs of other sizes need others of the same family."""
    write, level = _writers(dtype, machine)[name]
    return _text(name, Module([write()]), level)


@functools.lru_cache(maxsize=8)
def _drivers(dtype: str, machine: Machine) -> tuple[_Text, ...]:
    """What calls the kernels."""
    return tuple(_text(*driver) for driver in _driver(Blocking.of(dtype, machine)))


def _text(name: str, module: Module, level: int) -> _Text:
    return name, module.text, module.exports, module.imports, level


@functools.lru_cache(maxsize=1024)
def workspace(
    rows: Extent,
    columns: Extent,
    depth: Extent,
    batches: Extent,
    dtype: str,
    machine: Machine,
    workers: Extent = 1,
    tabled: bool = False,
) -> Extent:
    """An upper bound of the bytes that a product needs, an int if all extents are.

    What every worker packs for itself, the panels packed for all of them, and the partial sums of
    a long k; each is bounded whatever the extents are. With operands that tables describe, those.
    """
    b = Blocking.of(dtype, machine)
    tile, size = b.tile, b.tile.vector.element_bytes
    lanes = tile.vector.lanes
    k = ceildiv(dim_min(depth, b.depth), lanes) * lanes
    left_panel = k * tile.rows * size + 64
    right_panel = (k + (2 * lanes if tabled else 0)) * tile.columns * size + 64
    few, most = (ceildiv(dim_min(rows, n), tile.rows) for n in (b.few_rows, b.packed_rows))
    over = b.packed_rows // tile.rows * (tile.rows * tile.vector.bytes + 64)
    fitting = dim_max(few * left_panel, b.packed_bytes + over)
    left_panels = dim_min(most * left_panel, fitting)
    each = right_panel + left_panels + 64 + (b.table_bytes + 64 if tabled else 0)
    total = workers * each + 64
    if not (isinstance(batches, int) and batches > 1):
        panels = ceildiv(dim_min(columns, b.columns), tile.columns)
        total = total + panels * right_panel + 64
        if not (isinstance(depth, int) and depth < SPLIT_DEPTH):
            area = dim_min(rows * columns, SPLIT_AREA)
            total = total + (SPLIT_PIECES + 1) * area * size + 64
        if not (isinstance(columns, int) and columns > FEW_ROWS):
            total = total + dim_min(rows * columns, TURNED_AREA) * size + 64
    return total


def _driver(b: Blocking) -> list[tuple[str, Module, int]]:
    """What calls the kernels, as modules with names and levels: each calls what is before it.

    The way of a small product is compiled with care. What cuts up larger ones, hands out their
    panels, or seldom runs would take seven to ten times as long as at level 0 and gain less than a
    hundredth.
    """
    tile = b.tile
    often = [small_products, panel_product, copy_lines, finish]
    seldom = [compute_tiles, compute_small, compute_streams, compute_dots]
    seldom += [pack_panels, combine, combine_turned, clear_rows]
    inner = [write(tile) for write in often]
    if not tile.machine.has_masks:
        inner.append(copy_tile(tile))
    outer = [write(tile) for write in seldom]
    outer += [plan(b) for plan in (_split, _cut, _cut_streams, _cut_dots, _cut_tiles, _dispatch)]
    return [
        (f"{tile.prefix}_tasks", Module(inner), 1),
        (f"{tile.prefix}_plans", Module(outer), 0),
        (tile.prefix, Module([_entry(b)]), 1),
    ]


def _entry(b: Blocking) -> Function:
    """The exported function: small products at once, all others by a plan."""
    tile, size = b.tile, b.tile.vector.element_bytes
    f = Function(tile.prefix, "ptr job")
    (job,) = f.parameters
    p = Plan(f, job)
    rows, columns, depth, batches = p.read("rows columns depth batches")
    empty = f.compare("sle", f.minimum(f.minimum(rows, columns), batches), 0)
    with f.when(empty):
        f.leave()
    kernels = f.call("ptr", KernelTable(tile).symbol)
    each = f.multiply(f.multiply(rows, columns), depth)
    work = f.multiply(each, batches)
    plain = _plain(f, p)
    small = f.both(f.compare("sle", each, SMALL_WORK), f.compare("sgt", depth, 0))
    small = f.both(small, f.compare("eq", p["right_column"], size))
    # A single row is for stream kernels, few columns for dot products.
    small = f.both(small, f.compare("sgt", f.minimum(f.multiply(rows, 4), columns), 4))
    small = f.both(small, plain)
    if not tile.machine.has_masks:
        small = f.both(small, f.compare("eq", f.remainder(columns, tile.vector.lanes), 0))
    alone, short = f.compare("sle", p["workers"], 1), f.compare("sle", work, SERIAL_WORK)
    serial = f.both(alone, short)
    at_once = f.either(serial, f.compare("sle", work, TASK_WORK))
    with f.when(f.both(small, at_once)):
        name = f"{tile.prefix}_small_products"
        f.call("void", name, ("ptr", job), ("ptr", kernels), ("i64", 0), ("i64", batches))
        f.leave()
    plan = _copy(f, job, JOB_WORDS)
    q = Plan(f, plan)
    q["kernels"], q["exchanged"], q["turned"] = kernels, 0, 0
    q["serial"] = f.let(f"zext i1 {serial} to i64")
    with f.when(small):
        grain = f.maximum(f.divide(TASK_WORK, each), 1)
        _run(f, tile, plan, "compute_small", batches, grain)
        f.leave()
    with f.when(f.compare("sle", depth, 0)):
        _run(f, tile, plan, "clear_rows", f.multiply(rows, batches), 64)
        f.leave()
    _exchange(f, tile, q)
    f.call("void", f"{tile.prefix}_split", ("ptr", plan))
    return f


def _exchange(f: Function, tile: Tile, p: Plan) -> None:
    """Exchange the operands of a narrow product whose left operand is transposed.

    Its columns would waste most of a vector; its rows fill vectors and are read as they lie. The
    result, turned, can be written at once only if it is a contiguous vector.
    """
    size = tile.vector.element_bytes
    left_row, left_step, rows, columns = p.read("left_row left_column rows columns")
    whole = f.round_up(columns, tile.vector.lanes)
    wasteful = f.compare("sle", f.multiply(columns, 5), f.multiply(whole, 4))
    narrow = f.both(f.compare("sle", columns, FEW_ROWS), wasteful)
    narrow = f.both(narrow, f.compare("sge", rows, 2 * tile.vector.lanes))
    narrow = f.both(narrow, f.compare("sle", f.multiply(rows, columns), TURNED_AREA))
    narrow = f.both(narrow, f.compare("sge", p["depth"], TURNED_DEPTH))
    narrow = f.both(narrow, f.compare("eq", p["batches"], 1))
    vector = f.both(f.compare("eq", columns, 1), f.compare("eq", p["out_row"], size))
    transposed = f.both(f.compare("eq", left_row, size), f.compare("ne", left_step, size))
    apt = f.both(transposed, f.either(narrow, vector))
    with f.when(f.both(apt, f.both(_plain(f, p), _stepped(f, p)))):
        words = p.read("left right left_batch right_batch right_column right_row")
        p["right"], p["left"], p["right_batch"], p["left_batch"] = words[:4]
        p["left_row"], p["left_column"] = words[4:]
        p["right_row"], p["right_column"] = left_step, left_row
        p["rows"], p["columns"], p["exchanged"] = columns, rows, 1
        p["turned"] = f.let(f"zext i1 {f.negate(vector)} to i64")


def _split(b: Blocking) -> Function:
    """Cut a long k with a small out into pieces: a batch of products, whose results are added.

    A result that is turned takes the same way, be it in a single piece.
    """
    tile, size = b.tile, b.tile.vector.element_bytes
    f = Function(f"{tile.prefix}_split", "ptr plan")
    (plan,) = f.parameters
    p = Plan(f, plan)
    rows, columns, depth = p.read("rows columns depth")
    area = f.multiply(rows, columns)
    read = f.multiply(depth, f.add(rows, columns))
    streams = f.both(_streams(f, tile, p), _plain(f, p))  # of the whole, not of a piece
    p["streams"] = f.let(f"zext i1 {streams} to i64")
    long = f.both(f.compare("sge", depth, SPLIT_DEPTH), f.compare("sge", read, SPLIT_OPERANDS))
    long = f.both(long, f.both(_stepped(f, p), f.compare("eq", p["batches"], 1)))
    # Pieces of many long rows would only shorten the runs in which left is read.
    by_lines = f.compare("ne", p["left_column"], size)
    few = f.either(by_lines, f.compare("sle", rows, SPLIT_ROWS))
    long = f.both(long, f.both(few, f.compare("sle", area, SPLIT_AREA)))
    turned = f.compare("ne", p["turned"], 0)
    with f.when(f.negate(f.either(long, turned))):
        f.call("void", f"{tile.prefix}_cut", ("ptr", plan))
        f.leave()
    piece = f.round_up(f.maximum(f.ceil_divide(depth, SPLIT_PIECES), SPLIT_DEPTH // 4), 64)
    piece = f.select(long, piece, depth)
    pieces = f.divide(depth, piece)
    done = f.multiply(pieces, piece)
    rest = f.subtract(depth, done)
    partial_bytes = f.multiply(area, size)
    q = Plan(f, _copy(f, plan, PLAN))
    q["depth"], q["batches"], q["accumulate"] = piece, pieces, 0
    q["epilogue"], q["warm"] = "null", "null"
    q["left_batch"] = f.multiply(piece, p["left_column"])
    q["right_batch"] = f.multiply(piece, p["right_row"])
    q["out"], q["out_row"] = p["workspace"], f.multiply(columns, size)
    q["out_batch"] = partial_bytes
    left_over = f.compare("sgt", rest, 0)
    count = f.add(pieces, f.let(f"zext i1 {left_over} to i64"))
    used = f.round_up(f.multiply(partial_bytes, count), 64)
    q["workspace"] = f.at(p["workspace"], used)
    f.call("void", f"{tile.prefix}_cut", ("ptr", q.base))
    with f.when(left_over):
        q["depth"], q["batches"] = rest, 1
        q["left"] = f.at(p["left"], f.multiply(done, p["left_column"]))
        q["right"] = f.at(p["right"], f.multiply(done, p["right_row"]))
        q["out"] = f.at(p["workspace"], f.multiply(pieces, partial_bytes))
        f.call("void", f"{tile.prefix}_cut", ("ptr", q.base))
    p["partial"], p["partial_bytes"], p["partials"] = p["workspace"], partial_bytes, count
    with f.when(turned):
        _run(f, tile, plan, "combine_turned", f.ceil_divide(columns, tile.vector.lanes), 16)
        f.leave()
    _run(f, tile, plan, "combine", rows, 64)
    return f


def _streams(f: Function, tile: Tile, p: Plan) -> str:
    """Whether rows are so few that packing right would cost more than reading it as it lies."""
    size, lanes = tile.vector.element_bytes, tile.vector.lanes
    rows, columns, depth = p.read("rows columns depth")
    right_bytes = f.multiply(f.multiply(depth, columns), size)
    most, least = streamed(tile)
    large = f.compare("sge", right_bytes, least)
    few = f.both(large, f.compare("sle", rows, most))
    few = f.either(few, f.compare("sle", rows, STREAM_ROWS[0]))
    runs = f.compare("eq", p["right_column"], size)
    return f.both(f.both(few, runs), f.compare("sge", columns, 4 * lanes))


def _plain(f: Function, p: Plan) -> str:
    """Whether both operands are read from memory, and right is in no panels."""
    return f.both(_in_memory(f, p), f.compare("eq", p["right_panels"], 0))


def _in_memory(f: Function, p: Plan) -> str:
    """Whether both operands are read from memory."""
    packs = f.either(is_set(f, p["pack_left"]), is_set(f, p["pack_right"]))
    tables = f.either(is_set(f, p["left_across"]), is_set(f, p["right_across"]))
    return f.negate(f.either(packs, tables))


def _stepped(f: Function, p: Plan) -> str:
    """Whether they are, and those of the batch lie a constant step apart."""
    places = f.either(is_set(f, p["left_place"]), is_set(f, p["right_place"]))
    return f.both(_in_memory(f, p), f.negate(places))


def _cut(b: Blocking) -> Function:
    """Choose the kind of kernel, and with it how the product is cut into tasks."""
    tile, size, lanes = b.tile, b.tile.vector.element_bytes, b.tile.vector.lanes
    f = Function(f"{tile.prefix}_cut", "ptr plan")
    (plan,) = f.parameters
    p = Plan(f, plan)
    rows, columns, depth = p.read("rows columns depth")
    p["column_begin"], p["column_end"] = 0, columns
    p["depth_begin"], p["depth_end"] = 0, depth
    with f.when(f.compare("ne", p["streams"], 0)):
        f.call("void", f"{tile.prefix}_cut_streams", ("ptr", plan))
        f.leave()
    # Multiplications that dot products take for a row and column, with six more for adding lanes,
    # against those of register tiles, whose width is rounded up to whole vectors.
    dot = f.add(depth, 6 * lanes)
    narrow = f.compare("slt", f.multiply(f.multiply(columns, dot), 5), f.multiply(depth, 4 * lanes))
    narrow = f.both(narrow, f.compare("eq", p["left_column"], size))
    # Here tiles would have to transpose right, which takes as long as four of its rows.
    flat = f.compare("slt", f.multiply(rows, dot), f.multiply(f.add(rows, 4), depth))
    flat = f.both(flat, f.compare("sle", rows, DOT_ROWS))
    flat = f.both(flat, f.compare("eq", p["right_row"], size))
    with f.when(f.both(_plain(f, p), f.either(narrow, flat))):
        f.call("void", f"{tile.prefix}_cut_dots", ("ptr", plan))
        f.leave()
    f.call("void", f"{tile.prefix}_cut_tiles", ("ptr", plan))
    return f


def _cut_streams(b: Blocking) -> Function:
    """Tasks are ranges of columns: memory is read in long runs, and out stays in the first level.

    More rows than a kernel has share blocks of right that stay in the second level. Each worker has
    a share of the columns, if that is the work of a task.
    """
    tile, size = b.tile, b.tile.vector.element_bytes
    f = Function(f"{tile.prefix}_cut_streams", "ptr plan")
    (plan,) = f.parameters
    p = Plan(f, plan)
    rows, columns, depth = p.read("rows columns depth")
    together = f.minimum(rows, STREAM_ROWS[0])
    fitting = f.divide(b.tile.machine.l1 // size, together)
    most = f.minimum(columns, f.maximum(fitting, tile.vector.lanes))
    block = f.maximum(f.divide(tile.machine.l2 // (4 * size), most), STREAM_ROWS[0])
    column_work = f.multiply(rows, depth)
    shares = f.ceil_divide(p["workers"], p["batches"])
    least = f.maximum(f.ceil_divide(columns, shares), f.ceil_divide(TASK_WORK, column_work))
    group = f.minimum(most, f.round_up(least, LINE_BYTES // size))
    p["depth_block"] = f.select(f.compare("sle", rows, STREAM_ROWS[0]), depth, block)
    p["row_block"], p["row_blocks"] = rows, 1
    p["column_group"], p["column_groups"] = group, f.ceil_divide(columns, group)
    _run_blocks(f, tile, p, "compute_streams", f.multiply(column_work, group))
    return f


def _cut_dots(b: Blocking) -> Function:
    """Tasks are blocks of as many rows and columns as make a task's work."""
    tile, size = b.tile, b.tile.vector.element_bytes
    f = Function(f"{tile.prefix}_cut_dots", "ptr plan")
    (plan,) = f.parameters
    p = Plan(f, plan)
    rows, columns, depth = p.read("rows columns depth")
    group = f.minimum(columns, 64)
    wanted = f.maximum(f.divide(TASK_WORK, f.multiply(depth, group)), 64)
    height = f.minimum(rows, f.round_up(wanted, DOT_TILE[0]))
    p["row_block"], p["row_blocks"] = height, f.ceil_divide(rows, height)
    p["column_group"], p["column_groups"] = group, f.ceil_divide(columns, group)
    along = f.both(
        f.compare("eq", p["left_column"], size), f.compare("eq", p["right_row"], size)
    )
    line = f.minimum(depth, b.depth)
    p["depth_block"] = f.select(along, depth, line)
    p["scratch"] = p["workspace"]
    p["scratch_bytes"] = f.round_up(f.multiply(line, max(DOT_ROWS, tile.columns) * size), 64)
    _run_blocks(f, tile, p, "compute_dots", f.multiply(f.multiply(height, group), depth))
    return f


def _cut_tiles(b: Blocking) -> Function:
    """Register tiles: choose what is packed, then the blocks, then run the phases."""
    f = Function(f"{b.tile.prefix}_cut_tiles", "ptr plan")
    p = Plan(f, f.parameters[0])
    sources = _choose_sources(f, b, p)
    work = _choose_blocks(f, b, p, sources)
    _run_phases(f, b, p, sources, work)
    return f


@dataclass(frozen=True)
class Sources:
    """Where register tiles find their operands, as conditions (``i1``)."""

    own_left: str  # left comes from the caller's packer
    left_tabled: str  # or is read where tables say
    right_tabled: str
    left_packed: str  # by each task
    left_repeated: str  # and by more than one task
    left_by_lines: str  # in place, transposed and beyond the second level of cache
    right_by_task: str  # packed by each task
    right_once: str  # packed once for all tasks
    by_depth: str  # a block of k at a time, by all tasks: its rows of left stay in the second level


def _choose_sources(f: Function, b: Blocking, p: Plan) -> Sources:
    """Pack what would miss the caches where it lies; right once for all if many tasks use it."""
    tile, size, l2, l3 = b.tile, b.tile.vector.element_bytes, b.tile.machine.l2, b.tile.machine.l3
    rows, columns, depth, left_row, left_step = p.read("rows columns depth left_row left_column")
    own_left, own_right = is_set(f, p["pack_left"]), is_set(f, p["pack_right"])
    left_tabled, right_tabled = is_set(f, p["left_across"]), is_set(f, p["right_across"])
    own_right = f.either(own_right, right_tabled)
    left_bytes = f.multiply(f.multiply(rows, depth), size)
    right_bytes = f.multiply(f.multiply(columns, depth), size)
    wide = f.compare("sge", columns, WIDE_COLUMNS)

    # Where tables say how left lies, it is taken as read in the best order.
    row_major = f.either(f.compare("eq", left_step, size), left_tabled)
    column_major = f.both(f.compare("eq", left_row, size), f.negate(row_major))
    line = f.select(row_major, left_row, left_step)
    offset = f.let(f"and i64 {line}, {CONFLICT_BYTES - 1}")
    conflict = f.both(f.compare("eq", offset, 0), f.compare("ne", line, 0))
    conflict = f.both(conflict, f.negate(left_tabled))

    # A transposed left operand that leaves no room in the second level would come from the third
    # again for every panel of right: blocks of k are taken one after the other instead.
    by_depth = f.compare("sgt", left_bytes, l2 // 2)
    by_depth = f.both(f.both(by_depth, column_major), f.compare("sle", rows, b.few_rows))
    by_depth = f.both(by_depth, f.negate(f.either(own_left, own_right)))
    by_depth = f.both(by_depth, f.compare("eq", p["right_column"], size))
    by_depth = f.both(by_depth, f.compare("eq", p["batches"], 1))

    far = f.both(column_major, f.compare("sge", left_bytes, l2))
    scattered = f.both(far, f.negate(by_depth))
    cheap = f.compare("sgt", rows, b.cheap_rows)
    large = f.compare("sge", right_bytes, f.select(cheap, b.in_place, 2 * b.in_place))
    large = f.both(f.either(large, f.both(scattered, wide)), f.compare("sgt", rows, FEW_ROWS))
    strided = f.compare("ne", p["right_column"], size)
    right_packed = f.either(f.either(own_right, strided), large)
    right_packed = f.both(right_packed, f.compare("eq", p["right_panels"], 0))

    # Each task packs its own panels of right if it takes all rows, whose left operand must then
    # be good to read from the third level, or if the batch is what gives tasks.
    near = f.both(f.both(row_major, f.negate(conflict)), f.compare("sle", left_bytes, l3 // 4))
    near = f.both(near, f.compare("sge", columns, (MANY_PANELS - 1) * tile.columns + 1))
    few = f.compare("sle", rows, b.few_rows)
    if not tile.long_runs:
        few = f.both(few, f.negate(_packs_beside(f, b, p, row_major)))
    by_task = f.both(f.either(few, near), f.negate(own_left))
    by_task = f.either(by_task, f.compare("ne", p["batches"], 1))
    by_task = f.either(by_task, is_set(f, p["right_place"]))
    once = f.both(right_packed, f.negate(by_task))

    repeated = f.both(wide, f.either(conflict, f.both(large, once)))
    if not tile.long_runs:
        repeated = f.either(repeated, _lies_spread(f, b, p))
    left_packed = f.both(f.either(own_left, repeated), f.negate(left_tabled))
    repeated = f.both(repeated, left_packed)
    by_lines = f.both(scattered, f.negate(left_packed))
    right_by_task = f.both(right_packed, by_task)
    p["left_source"] = f.select(left_packed, BY_TASK, f.select(left_tabled, TABLED, IN_PLACE))
    p["right_source"] = f.select(once, ONCE, f.select(right_by_task, BY_TASK, IN_PLACE))
    return Sources(
        *(own_left, left_tabled, right_tabled, left_packed, repeated, by_lines),
        *(right_by_task, once, by_depth),
    )


def _packs_beside(f: Function, b: Blocking, p: Plan, row_major: str) -> str:
    """Whether panels of right are so narrow, and so many, that packing them together costs much
    less than by the tasks, each alone: 96 x 1024 x 1024 float32 0.73 -> 0.82 of the peak.
    """
    tile = b.tile
    many = f.compare("sge", p["columns"], tile.panels_beside("right") * tile.columns)
    side_by_side = f.compare("eq", p["right_column"], tile.vector.element_bytes)
    return f.both(f.both(many, side_by_side), row_major)


def _lies_spread(f: Function, b: Blocking, p: Plan) -> str:
    """Whether rows of left lie so far apart that they have few places in the first level of cache,
    as those of one head among others, and there are panels enough to make packing them worth while.
    """
    tile, size = b.tile, b.tile.vector.element_bytes
    rows, columns, depth, left_row, left_step = p.read("rows columns depth left_row left_column")
    gaps = f.compare("sgt", left_row, f.multiply(depth, size))
    few_places = f.let(f"and i64 {left_row}, {SPREAD_BYTES - 1}")
    spread = f.both(gaps, f.compare("eq", few_places, 0))
    spread = f.both(spread, f.compare("eq", left_step, size))
    spread = f.both(spread, f.compare("sge", columns, NARROW_PANELS * tile.columns))
    spread = f.both(spread, f.compare("sge", rows, 2 * tile.rows))
    known = f.either(is_set(f, p["pack_left"]), is_set(f, p["left_across"]))
    return f.both(spread, f.negate(known))


def _choose_blocks(f: Function, b: Blocking, p: Plan, sources: Sources) -> Operand:
    """Set the blocks of k, rows and columns and place the scratch; the work of a task."""
    tile, width = b.tile, b.tile.columns
    rows, columns, depth = p.read("rows columns depth")
    # A transposed left operand is read by whole lines: all rows of a short block of k.
    # So may one be that tables describe: a long k are the positions of windows, and rows lie there.
    lines = f.both(sources.left_tabled, f.compare("sge", depth, 2 * b.depth))
    lines = f.either(lines, sources.left_by_lines)
    limit = f.select(lines, b.depth // 4, b.depth)
    fitting = f.divide(tile.machine.l2 // (4 * tile.vector.element_bytes), rows)
    fitting = f.minimum(f.round_up(fitting, 64), b.depth)
    limit = f.select(sources.by_depth, fitting, limit)
    blocks = f.ceil_divide(depth, limit)
    even = f.round_up(f.ceil_divide(depth, blocks), 16)
    kc = f.minimum(even, f.minimum(depth, limit))
    p["depth_block"] = kc

    wanted = f.round_up(f.divide(TASK_WORK, f.multiply(columns, depth)), tile.rows)
    low = f.select(sources.own_left, 2 * tile.rows, b.rows)
    height = f.maximum(low, f.minimum(wanted, b.few_rows))
    height = f.select(sources.left_by_lines, 4 * b.few_rows, height)
    row_bytes = f.multiply(f.minimum(depth, b.depth), tile.vector.element_bytes)
    packed = f.divide(f.divide(b.packed_bytes, row_bytes), tile.rows)
    packed = f.maximum(b.few_rows, f.minimum(f.multiply(packed, tile.rows), b.packed_rows))
    whole = f.select(sources.left_tabled, b.few_rows, rows)
    whole = f.select(sources.left_packed, packed, whole)
    height = f.select(sources.right_by_task, whole, height)
    whole_tiles = f.round_up(height, tile.tabled_heights[0])  # as others are a multiple anyway
    height = f.minimum(f.select(sources.left_tabled, whole_tiles, height), rows)
    p["row_block"], p["row_blocks"] = height, f.ceil_divide(rows, height)

    panels = f.ceil_divide(columns, width)
    most = f.minimum(panels, f.select(sources.right_once, b.columns // width, panels))
    panel_work = f.multiply(f.multiply(height, f.minimum(columns, width)), depth)
    # Each group of columns packs the rows of left again: as few as keep the workers busy.
    shares = f.ceil_divide(f.multiply(p["workers"], SHARES), p["row_blocks"])
    shares = f.select(f.compare("sgt", p["workers"], 1), shares, 1)
    apart = f.maximum(f.ceil_divide(most, shares), LEAST_PANELS)
    least = f.select(sources.left_repeated, apart, 1)
    fair = f.maximum(f.divide(TASK_WORK, panel_work), least)
    group = f.select(sources.own_left, most, f.minimum(fair, most))
    p["column_group"] = f.multiply(group, width)

    left_panel = panel_bytes(f, tile, "left", kc)
    over = f.select(sources.right_tabled, 2 * tile.vector.lanes, 0)
    right_panel = panel_bytes(f, tile, "right", kc, over)
    p["left_panel"], p["right_panel"] = left_panel, right_panel
    left_scratch = f.multiply(f.ceil_divide(height, tile.rows), left_panel)
    own = f.add(right_panel, f.select(sources.left_packed, left_scratch, 0))
    tabled = f.either(sources.left_tabled, sources.right_tabled)
    p["tables"] = f.round_up(own, 8)
    p["scratch_bytes"] = f.round_up(f.add(own, f.select(tabled, b.table_bytes + 8, 0)), 64)
    p["shared"] = p["workspace"]
    shared_bytes = f.round_up(f.multiply(most, right_panel), 64)
    p["scratch"] = f.at(p["workspace"], f.select(sources.right_once, shared_bytes, 0))
    return f.multiply(panel_work, group)


def _run_phases(f: Function, b: Blocking, p: Plan, sources: Sources, work: Operand) -> None:
    """One phase of tasks, or one for each block of k; with panels that are packed once, two for
    each block of them.
    """
    tile, width, once = b.tile, b.tile.columns, sources.right_once
    columns, depth, kc, group = p.read("columns depth depth_block column_group")
    k_span = f.select(f.either(once, sources.by_depth), kc, depth)
    span = f.select(once, b.columns, columns)
    with f.loop(0, columns, span) as j:
        stop = f.minimum(columns, f.add(j.index, span))
        p["column_begin"], p["column_end"] = j.index, stop
        here = f.subtract(stop, j.index)
        p["column_groups"] = f.ceil_divide(here, group)
        with f.loop(0, depth, k_span) as k:
            p["depth_begin"] = k.index
            p["depth_end"] = f.minimum(depth, f.add(k.index, k_span))
            with f.when(once):
                grain = f.maximum(f.divide(TASK_WORK // 32, f.multiply(kc, width)), 1)
                panels, together = f.ceil_divide(here, width), tile.panels_beside("right")
                enough = f.compare("sge", f.divide(panels, together), p["workers"])
                grain = f.maximum(grain, f.select(enough, together, 1))
                _run(f, tile, p.base, "pack_panels", panels, grain)
            _run_blocks(f, tile, p, "compute_tiles", work)


def _dispatch(b: Blocking) -> Function:
    """Run all tasks of a phase, unless the call has failed or was cancelled."""
    f = Function(f"{b.tile.prefix}_dispatch", "ptr plan, ptr function, i64 tasks, i64 grain")
    plan, function, tasks, grain = f.parameters
    p = Plan(f, plan)
    status = p["status"]
    with f.when(is_set(f, status)):
        stop = f.let(f"or i64 {f.word(status, CODE_WORD)}, {f.word(status, CANCEL_WORD)}")
        with f.when(f.compare("ne", stop, 0)):
            f.leave()
    serial = f.either(f.compare("sle", tasks, grain), f.compare("ne", p["serial"], 0))
    with f.when(serial):
        f.call_pointer("void", function, ("ptr", plan), ("i64", 0), ("i64", tasks), ("i64", 0))
        f.leave()
    f.call(
        "void",
        "graphc_parallel_for",
        *(("ptr", function), ("ptr", plan), ("i64", tasks), ("i64", grain)),
        *(("i64", p["workers"]), ("ptr", status)),
    )
    return f


def _run(
    f: Function, tile: Tile, plan: Operand, task: str, tasks: Operand, grain: Operand
) -> None:
    function = f"{tile.prefix}_{task}"
    f.declarations.add(f"declare void @{function}(ptr, i64, i64, i64)")
    f.call(
        "void",
        f"{tile.prefix}_dispatch",
        *(("ptr", plan), ("ptr", f"@{function}"), ("i64", tasks), ("i64", grain)),
    )


def _run_blocks(f: Function, tile: Tile, p: Plan, task: str, work: Operand) -> None:
    """Run a task for each block of each product; ``work`` is the number of multiplications."""
    blocks = f.multiply(p["row_blocks"], p["column_groups"])
    grain = f.maximum(f.divide(TASK_WORK, work), 1)
    _run(f, tile, p.base, task, f.multiply(blocks, p["batches"]), grain)


def _copy(f: Function, source: Operand, words: Iterable[str]) -> str:
    """A plan in this function's frame, beginning with some words of another."""
    copy = f.let(f"alloca [{len(PLAN)} x i64], align 64")
    of, to = Plan(f, source), Plan(f, copy)
    for word in words:
        to[word] = of[word]
    return copy
