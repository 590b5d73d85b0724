"""What does one task of a matrix product do, once the driver has decided how to cut it?

A task function has the signature ``void task(ptr plan, i64 begin, i64 end, i64 worker)`` and runs
the tasks begin .. end - 1. The plan is written by the driver before the tasks start and only read
by them; tasks write disjoint parts of out, so they need no barriers.

Each task covers some rows and columns of one product of the batch, always in the same order along
k: which worker runs it, and beside how many others, cannot change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.gemm.microkernel import (
    DOT_TILE,
    DOT_TYPES,
    STREAM_ROWS,
    STREAM_TYPES,
    Tile,
)
from graphc.codegen.gemm.panel import next_of
from graphc.codegen.gemm.table import BY_TASK, ONCE, TABLED, KernelTable, Plan, is_set
from graphc.codegen.irtext import Function, Operand, TypedOperand, VectorType


@dataclass(frozen=True)
class Block:
    """Where one task works: batch, and rows and columns by their first and their number."""

    batch: Operand
    row: Operand
    rows: Operand
    column: Operand
    columns: Operand
    identity: Operand  # equal for tasks that share batch and rows


def compute_tiles(tile: Tile) -> Function:
    """The general task: pack what is to be packed, then multiply panel by panel.

    Rows of left that are packed here are packed again only when the task works on other rows, or
    on another part of k, than the one before it.
    """
    return _ComputeTiles(tile).written()


class _ComputeTiles:
    """Writes that task: the words of the plan, and what holds for all blocks."""

    def __init__(self, tile: Tile) -> None:
        self.tile, self.size = tile, tile.vector.element_bytes
        f = self.f = _task_function(tile, "compute_tiles")
        self.plan, self.begin, self.end, worker = f.parameters
        p = self.p = Plan(f, self.plan)
        self.operands = _Operands(f, p)
        self.right_buffer = _scratch(f, p, worker)
        self.left_buffer = f.at(self.right_buffer, p["right_panel"])
        self.left_row, self.left_step, self.left_panel = p.read("left_row left_column left_panel")
        self.right_row, self.right_column, self.right_panel = p.read(
            "right_row right_column right_panel"
        )
        self.depth, self.depth_block, self.depth_begin, self.depth_end = p.read(
            "depth depth_block depth_begin depth_end"
        )
        self.columns, self.column_begin, self.shared, self.kernels = p.read(
            "columns column_begin shared kernels"
        )
        self.tables = _Tables(f, tile, p, worker)
        self.left_packed = f.compare("eq", p["left_source"], BY_TASK)
        self.left_tabled = f.compare("eq", p["left_source"], TABLED)
        self.right_once = f.compare("eq", p["right_source"], ONCE)
        self.right_by_task = f.compare("eq", p["right_source"], BY_TASK)
        depth = f.subtract(self.depth_end, self.depth_begin)
        self.whole_depth = f.compare("sle", depth, self.depth_block)
        by_lines = f.either(self.right_once, f.compare("eq", self.right_column, self.size))
        self.comes_by_lines = f.either(by_lines, f.compare("ne", p["right_panels"], 0))

    def written(self) -> Function:
        """The function: blocks of k one after the other, for each task."""
        f, p, tables = self.f, self.p, self.tables
        with f.loop(self.begin, self.end, 1, [("i64", -1)]) as task:
            block = _block(f, p, task.index)
            # Mostly of the next columns.
            other_task = f.compare("slt", f.add(task.index, 1), self.end)
            left, right, out = self.operands.of(block.batch)
            left = f.at(left, f.multiply(block.row, self.left_row))
            out = f.at(out, f.multiply(block.row, p["out_row"]))
            other_rows = f.compare("ne", task.carried[0], block.identity)
            must_pack = f.either(other_rows, f.negate(self.whole_depth))
            must_pack = f.both(self.left_packed, must_pack)
            first_task = f.compare("eq", task.index, self.begin)
            with f.when(f.both(self.left_tabled, other_rows)):
                tables.fill("left_across", block.row, block.rows, block.batch)
            with f.loop(self.depth_begin, self.depth_end, self.depth_block) as k:
                kc = f.minimum(self.depth_block, f.subtract(self.depth_end, k.index))
                stale = f.either(first_task, f.negate(self.whole_depth))
                with f.when(f.both(self.left_tabled, stale)):
                    tables.fill("left_along", k.index, kc, 0)
                with f.when(f.both(f.both(tables.right, stale), self.right_by_task)):
                    tables.fill("right_along", k.index, kc, 0)
                accumulate = _accumulate(f, p, k.index)
                last = f.compare("eq", f.add(k.index, kc), self.depth)
                finished = f.let(f"zext i1 {last} to i64")
                lefts = self._left(left, block, (k.index, kc), must_pack)
                self._panels(
                    block, (k.index, kc), lefts, right, out, (accumulate, finished), other_task
                )
            task.next = [block.identity]
        return f

    def _left(
        self, left: Operand, block: Block, along: tuple[Operand, Operand], must_pack: str
    ) -> tuple[TypedOperand, ...]:
        """Pack the rows of a block for some k, if that is to be done: where kernels find them."""
        f, tile, tables = self.f, self.tile, self.tables
        in_place = f.at(left, f.multiply(along[0], self.left_step))
        with f.when(must_pack):
            _pack_left(f, tile, self.p, in_place, block, along, self.left_buffer)
        row_step = f.select(self.left_packed, self.size, self.left_row)
        k_step = f.select(self.left_packed, tile.rows * self.size, self.left_step)
        here = f.select(self.left_packed, self.left_buffer, in_place, "ptr")
        row = f.select(self.left_tabled, tables.address("left_across"), row_step)
        k = f.select(self.left_tabled, tables.address("left_along"), k_step)
        panel_step = f.multiply(self.left_row, tile.rows)
        panel = f.select(self.left_packed, self.left_panel, panel_step)
        return ("ptr", here), ("i64", row), ("i64", k), ("i64", panel)

    def _panels(
        self,
        block: Block,
        along: tuple[Operand, Operand],
        lefts: Sequence[TypedOperand],
        right: Operand,
        out: Operand,
        state: tuple[Operand, Operand],
        other_task: str,
    ) -> None:
        """Multiply the rows of a block with its panels of right, for some k. `state`: whether that
        adds to out, and whether it is all of k.
        """
        f, p, tile, size, width = self.f, self.p, self.tile, self.size, self.tile.columns
        (k, kc), (accumulate, finished) = along, state
        stop = f.add(block.column, block.columns)
        with f.loop(block.column, stop, width) as j:
            n = f.minimum(width, f.subtract(self.columns, j.index))
            source = f.at(
                f.at(right, f.multiply(k, self.right_row)), f.multiply(j.index, self.right_column)
            )
            beside = f.at(source, f.multiply(self.right_column, width))
            by_task = self.right_by_task
            if not tile.machine.has_masks:
                ragged = f.compare("ne", f.remainder(n, tile.vector.lanes), 0)
                by_task = f.either(by_task, f.both(ragged, f.negate(self.right_once)))
            with f.when(by_task):
                place = (j.index, n, k, kc, block.batch)
                _pack(f, tile, p, "right", source, place, self.right_buffer, self.tables)
            number = f.divide(f.subtract(j.index, self.column_begin), width)
            there = f.at(self.shared, f.multiply(number, self.right_panel))
            packed = f.select(self.right_once, there, self.right_buffer, "ptr")
            is_packed = f.either(self.right_once, by_task)
            right_here = f.select(is_packed, packed, source, "ptr")
            right_step = f.select(is_packed, width * size, self.right_row)
            next_step = f.select(self.right_once, width * size, self.right_row)
            next_panel = f.at(there, self.right_panel)
            next_right = f.select(self.right_once, next_panel, beside, "ptr")
            following = f.add(j.index, width)
            follows = f.either(
                f.compare("slt", following, stop),
                f.both(other_task, f.compare("slt", following, p["column_end"])),
            )
            follows = f.both(follows, self.comes_by_lines)
            f.call(
                "void",
                f"{tile.prefix}_panel_product",
                *(("ptr", self.plan), ("ptr", self.kernels), *lefts),
                *(("ptr", right_here), ("i64", right_step)),
                ("ptr", f.at(out, f.multiply(j.index, size))),
                *(("i64", kc), ("i64", block.rows), ("i64", n), ("i64", accumulate)),
                *(("i64", finished), ("i64", block.row), ("i64", j.index)),
                *(("i64", block.batch), ("i64", p["exchanged"])),
                ("i64", f.let(f"zext i1 {self.left_tabled} to i64")),
                ("ptr", f.select(follows, next_right, right_here, "ptr")),
                ("i64", f.select(follows, next_step, right_step)),
            )


def small_products(tile: Tile) -> Function:
    """Products ``begin .. end - 1`` of a batch of small ones, operands in place.

    It needs no plan: ``job`` may be a job or a plan.
    """
    width = tile.columns * tile.vector.element_bytes
    f = Function(
        f"{tile.prefix}_small_products",
        "ptr job, ptr kernels, i64 begin, i64 end",
    )
    job, kernels, begin, end = f.parameters
    p = Plan(f, job)
    left_row, left_step, right_row = p.read("left_row left_column right_row")
    rows, columns, depth, accumulate = p.read("rows columns depth accumulate")
    group = f.multiply(left_row, tile.rows)
    operands = _Operands(f, p)
    with f.loop(begin, end) as batch:
        left, right, out = operands.of(batch.index)
        with f.loop(0, columns, tile.columns, [("ptr", right), ("ptr", out)]) as j:
            n = f.minimum(tile.columns, f.subtract(columns, j.index))
            f.call(
                "void",
                f"{tile.prefix}_panel_product",
                *(("ptr", job), ("ptr", kernels), ("ptr", left), ("i64", left_row)),
                *(("i64", left_step), ("i64", group), ("ptr", j.carried[0]), ("i64", right_row)),
                *(("ptr", j.carried[1]), ("i64", depth), ("i64", rows), ("i64", n)),
                *(("i64", accumulate), ("i64", 1), ("i64", 0), ("i64", j.index)),
                *(("i64", batch.index), ("i64", 0), ("i64", 0)),
                *(("ptr", j.carried[0]), ("i64", right_row)),
            )
            j.next = [f.at(j.carried[0], width), f.at(j.carried[1], width)]
    return f


def compute_small(tile: Tile) -> Function:
    """The task of small products: so many of them."""
    f = _task_function(tile, "compute_small")
    plan, begin, end, _ = f.parameters
    values = (("ptr", plan), ("ptr", Plan(f, plan)["kernels"]), ("i64", begin), ("i64", end))
    f.call("void", f"{tile.prefix}_small_products", *values)
    return f


def pack_panels(tile: Tile) -> Function:
    """Pack panels of the right operand that all tasks of the next phase share."""
    f = _task_function(tile, "pack_panels")
    plan, begin, end, worker = f.parameters
    p = Plan(f, plan)
    right_row, right_column, right_panel = p.read("right_row right_column right_panel")
    columns, column_begin, shared = p.read("columns column_begin shared")
    depth_begin, depth_end = p.read("depth_begin depth_end")
    tables = _Tables(f, tile, p, worker)
    with f.when(tables.right):
        tables.fill("right_along", depth_begin, f.subtract(depth_end, depth_begin), 0)
    start = f.at(p["right"], f.multiply(depth_begin, right_row))
    depth = f.subtract(depth_end, depth_begin)
    beside = f.both(_lies_beside(f, tile, p, "right"), f.negate(tables.right))
    whole = f.divide(f.subtract(columns, column_begin), tile.columns)
    stop = f.select(beside, f.minimum(end, whole), begin)

    def place_of(task: Operand) -> tuple[Operand, Operand, Operand]:
        column = f.add(column_begin, f.multiply(task, tile.columns))
        source = f.at(start, f.multiply(column, right_column))
        return column, source, f.at(shared, f.multiply(task, right_panel))

    _, source, destination = place_of(begin)
    through = _pack_beside(f, tile, p, "right", (begin, stop), source, depth, destination)
    with f.loop(through, end) as task:
        column, source, destination = place_of(task.index)
        count = f.minimum(tile.columns, f.subtract(columns, column))
        place = (column, count, depth_begin, depth, 0)
        _pack(f, tile, p, "right", source, place, destination, tables)
    return f


def compute_streams(tile: Tile) -> Function:
    """A range of columns of a product with few rows, by stream kernels.

    More rows than a kernel has take a block of right, which then stays in cache, several times.
    """
    size = tile.vector.element_bytes
    f = _task_function(tile, "compute_streams")
    plan, begin, end, _ = f.parameters
    p = Plan(f, plan)
    operands = _Operands(f, p)
    left_row, left_step, right_row, out_row = p.read("left_row left_column right_row out_row")
    depth, depth_block, kernels = p.read("depth depth_block kernels")
    with f.loop(begin, end) as task:
        block = _block(f, p, task.index)
        left, right, out = operands.of(block.batch)
        offset = f.multiply(block.column, size)
        right, out = f.at(right, offset), f.at(out, offset)
        with f.loop(0, depth, depth_block) as k:
            kc = f.minimum(depth_block, f.subtract(depth, k.index))
            accumulate = _accumulate(f, p, k.index)
            a = f.at(left, f.multiply(k.index, left_step))
            b = f.at(right, f.multiply(k.index, right_row))
            with f.loop(0, block.rows) as i:
                i.step = next_of(f, STREAM_ROWS, f.subtract(block.rows, i.index))
                values = (
                    *(f.at(a, f.multiply(i.index, left_row)), b),
                    *(f.at(out, f.multiply(i.index, out_row)), kc, left_row, left_step),
                    *(right_row, out_row, block.columns, accumulate),
                )
                kernel = KernelTable(tile).load_stream(f, kernels, i.step)
                f.call_pointer("void", kernel, *zip(STREAM_TYPES, values, strict=True))
        _finish(f, tile, plan, block)
    return f


def compute_dots(tile: Tile) -> Function:
    """A block of a product by dot kernels; an operand that is not contiguous along k is copied."""
    size = tile.vector.element_bytes
    f = _task_function(tile, "compute_dots")
    plan, begin, end, worker = f.parameters
    p = Plan(f, plan)
    operands = _Operands(f, p)
    buffer = _scratch(f, p, worker)
    left_row, left_step, right_step, right_column = p.read(
        "left_row left_column right_row right_column"
    )
    out_row, depth, depth_block, kernels = p.read("out_row depth depth_block kernels")
    copy_left, copy_right = f.compare("ne", left_step, size), f.compare("ne", right_step, size)
    line = f.multiply(depth_block, size)
    left_line = f.select(copy_left, line, left_row)
    right_line = f.select(copy_right, line, right_column)
    with f.loop(begin, end) as task:
        block = _block(f, p, task.index)
        left, right, out = operands.of(block.batch)
        left = f.at(left, f.multiply(block.row, left_row))
        right = f.at(right, f.multiply(block.column, right_column))
        out = f.at(f.at(out, f.multiply(block.row, out_row)), f.multiply(block.column, size))
        with f.loop(0, depth, depth_block) as k:
            kc = f.minimum(depth_block, f.subtract(depth, k.index))
            accumulate = _accumulate(f, p, k.index)
            a = f.at(left, f.multiply(k.index, left_step))
            b = f.at(right, f.multiply(k.index, right_step))
            for needed, source, across, along, count in (
                (copy_left, a, left_row, left_step, block.rows),
                (copy_right, b, right_column, right_step, block.columns),
            ):
                with f.when(needed):
                    f.call(
                        "void",
                        f"{tile.prefix}_copy_lines",
                        *(("ptr", source), ("i64", across), ("i64", along), ("i64", count)),
                        *(("i64", kc), ("ptr", buffer), ("i64", line)),
                    )
            a = f.select(copy_left, buffer, a, "ptr")
            b = f.select(copy_right, buffer, b, "ptr")
            with f.loop(0, block.rows) as i:
                i.step = next_of(f, DOT_TILE, f.subtract(block.rows, i.index))
                here = f.at(a, f.multiply(i.index, left_line))
                target = f.at(out, f.multiply(i.index, out_row))
                with f.loop(0, block.columns) as j:
                    j.step = next_of(f, DOT_TILE, f.subtract(block.columns, j.index))
                    kernel = KernelTable(tile).load_dot(f, kernels, i.step, j.step)
                    values = (
                        *(here, f.at(b, f.multiply(j.index, right_line))),
                        *(f.at(target, f.multiply(j.index, size)), kc, left_line, right_line),
                        *(out_row, accumulate),
                    )
                    f.call_pointer("void", kernel, *zip(DOT_TYPES, values, strict=True))
        _finish(f, tile, plan, block)
    return f


def copy_lines(tile: Tile) -> Function:
    """Copy ``count`` vectors of any strides to lines that are contiguous along k."""
    element, size = tile.vector.element, tile.vector.element_bytes
    f = Function(
        f"{tile.prefix}_copy_lines",
        "ptr source, i64 across, i64 along, i64 count, i64 depth, ptr destination, i64 line",
    )
    source, across, along, count, depth, destination, line = f.parameters
    with f.loop(0, count, 1, [("ptr", source), ("ptr", destination)]) as i:
        with f.loop(0, depth, 1, [("ptr", i.carried[0]), ("ptr", i.carried[1])]) as k:
            here, there = k.carried
            f.store(element, f.load(element, here, size), there, size)
            k.next = [f.at(here, along), f.at(there, size)]
        i.next = [f.at(i.carried[0], across), f.at(i.carried[1], line)]
    return f


def combine(tile: Tile) -> Function:
    """Add the partial sums over pieces of k to out, in the order of the pieces; a task is a row."""
    size = tile.vector.element_bytes
    f = _task_function(tile, "combine")
    plan, begin, end, _ = f.parameters
    p = Plan(f, plan)
    columns, out_row = p.read("columns out_row")
    row_bytes = f.multiply(columns, size)
    whole = f.multiply(f.divide(columns, tile.vector.lanes), tile.vector.bytes)
    single = VectorType(tile.vector.element, 1)
    replacing = f.compare("eq", p["accumulate"], 0)
    with f.loop(begin, end) as task:
        out = f.at(p["out"], f.multiply(task.index, out_row))
        first = f.at(p["partial"], f.multiply(task.index, row_bytes))
        for start, stop, vector in ((0, whole, tile.vector), (whole, row_bytes, single)):
            with f.loop(start, stop, vector.bytes) as j:
                place = f.at(out, j.index)
                total = _sum_partials(f, p, vector, f.at(first, j.index))
                with f.when(f.negate(replacing)) as adding:
                    before = f.load(vector.text, place, size)
                    both = f.let(f"fadd {vector.text} {before}, {total}")
                f.store(vector.text, adding.merge(vector.text, both, total), place, size)
        _finish(f, tile, plan, Block(0, task.index, 1, 0, columns, 0))
    return f


def combine_turned(tile: Tile) -> Function:
    """The same where partial sums lie the other way round; a task is a vector of columns."""
    vector, size = tile.vector, tile.vector.element_bytes
    single = VectorType(vector.element, 1)
    f = _task_function(tile, "combine_turned")
    plan, begin, end, _ = f.parameters
    p = Plan(f, plan)
    rows, columns, out_row = p.read("rows columns out_row")
    replacing = f.compare("eq", p["accumulate"], 0)

    def turn(part: VectorType, row: Operand, column: Operand) -> None:
        """Columns ``column ..`` of one row of the partial sums, to a column of out."""
        place = f.at(f.at(p["out"], f.multiply(column, out_row)), f.multiply(row, size))
        source = f.at(p["partial"], f.multiply(f.add(f.multiply(row, columns), column), size))
        total = _sum_partials(f, p, part, source)
        for lane in range(part.lanes):
            value = f.let(f"extractelement {part.text} {total}, i64 {lane}")
            with f.when(f.negate(replacing)) as adding:
                before = f.load(part.element, place, size)
                both = f.let(f"fadd {part.element} {before}, {value}")
            f.store(part.element, adding.merge(part.element, both, value), place, size)
            place = f.at(place, out_row)

    with f.loop(begin, end) as task:
        column = f.multiply(task.index, vector.lanes)
        count = f.minimum(vector.lanes, f.subtract(columns, column))
        whole = f.compare("eq", count, vector.lanes)
        with f.loop(0, rows) as i:
            with f.when(whole):
                turn(vector, i.index, column)
            with f.when(f.negate(whole)), f.loop(0, count) as j:
                turn(single, i.index, f.add(column, j.index))
        _finish(f, tile, plan, Block(0, 0, rows, column, count, 0))
    return f


def _sum_partials(f: Function, p: Plan, vector: VectorType, source: Operand) -> str:
    """The sum of a vector at ``source`` over the pieces, of which there is at least one."""
    first = f.load(vector.text, source, vector.element_bytes)
    stride, count = p.read("partial_bytes partials")
    carried = [("ptr", f.at(source, stride)), (vector.text, first)]
    with f.loop(1, count, 1, carried) as piece:
        here, total = piece.carried
        value = f.load(vector.text, here, vector.element_bytes)
        piece.next = [f.at(here, stride), f.let(f"fadd {vector.text} {total}, {value}")]
    return piece.carried[1]


def clear_rows(tile: Tile) -> Function:
    """The product over an empty k: zeros, or out as it is when accumulating; a task is a row."""
    element, size = tile.vector.element, tile.vector.element_bytes
    f = _task_function(tile, "clear_rows")
    plan, begin, end, _ = f.parameters
    p = Plan(f, plan)
    rows, columns, out_row = p.read("rows columns out_row")
    replacing = f.compare("eq", p["accumulate"], 0)
    with f.loop(begin, end) as task:
        batch, row = f.divide(task.index, rows), f.remainder(task.index, rows)
        with f.when(replacing):
            out = f.at(f.at(p["out"], f.multiply(batch, p["out_batch"])), f.multiply(row, out_row))
            with f.loop(0, f.multiply(columns, size), size) as j:
                f.store(element, "0.0", f.at(out, j.index), size)
        _finish(f, tile, plan, Block(batch, row, 1, 0, columns, 0))
    return f


def finish(tile: Tile) -> Function:
    """Call the epilogue for a finished block, in the orientation that the caller knows."""
    size = tile.vector.element_bytes
    f = Function(
        f"{tile.prefix}_finish",
        "ptr plan, i64 batch, i64 row, i64 rows, i64 column, i64 columns",
    )
    plan, batch, row, rows, column, columns = f.parameters
    p = Plan(f, plan)
    epilogue, context, out_row = p.read("epilogue epilogue_context out_row")
    with f.when(is_set(f, epilogue)):
        exchanged = f.compare("ne", p["exchanged"], 0)

        def one_of(if_exchanged: Operand, otherwise: Operand) -> Operand:
            return f.select(exchanged, if_exchanged, otherwise)

        first, second = one_of(column, row), one_of(row, column)
        out = f.at(f.at(p["out"], f.multiply(batch, p["out_batch"])), f.multiply(first, out_row))
        f.call_pointer(
            "void",
            epilogue,
            *(("ptr", context), ("ptr", f.at(out, f.multiply(second, size))), ("i64", out_row)),
            *(("i64", first), ("i64", second)),
            *(("i64", one_of(columns, rows)), ("i64", one_of(rows, columns)), ("i64", batch)),
        )
    return f


class _Tables:
    """The tables of offsets in a worker's scratch, and who fills them."""

    def __init__(self, f: Function, tile: Tile, p: Plan, worker: Operand) -> None:
        self._f, self._p = f, p
        base = f.at(_scratch(f, p, worker), p["tables"])
        block = p["depth_block"]
        self._places: dict[str, Operand] = {"right_across": base}
        base = f.at(base, 8 * tile.columns)
        for name in ("right_along", "left_along"):
            self._places[name] = base
            base = f.at(base, f.multiply(block, 8))
        self._places["left_across"] = base
        self.right = is_set(f, p["right_across"])

    def __getitem__(self, name: str) -> Operand:
        return self._places[name]

    def address(self, name: str) -> str:
        return self._f.let(f"ptrtoint ptr {self._places[name]} to i64")

    def fill(self, name: str, first: Operand, count: Operand, batch: Operand) -> None:
        words = (("i64", first), ("i64", count), ("i64", batch))
        context = ("ptr", self._p["offsets_context"])
        self._f.call_pointer("void", self._p[name], context, ("ptr", self[name]), *words)


def _task_function(tile: Tile, name: str) -> Function:
    return Function(f"{tile.prefix}_{name}", "ptr plan, i64 begin, i64 end, i64 worker")


def _finish(f: Function, tile: Tile, plan: Operand, block: Block) -> None:
    values = (block.batch, block.row, block.rows, block.column, block.columns)
    f.call("void", f"{tile.prefix}_finish", ("ptr", plan), *(("i64", value) for value in values))


def _block(f: Function, p: Plan, task: Operand) -> Block:
    """Tasks are numbered with columns fastest, then rows, then batches."""
    row_block, row_blocks, group, groups = p.read(
        "row_block row_blocks column_group column_groups"
    )
    each = f.multiply(row_blocks, groups)
    batch = f.divide(task, each)
    within = f.subtract(task, f.multiply(batch, each))
    down = f.divide(within, groups)
    across = f.subtract(within, f.multiply(down, groups))
    row = f.multiply(down, row_block)
    column = f.add(p["column_begin"], f.multiply(across, group))
    return Block(
        batch,
        row,
        f.minimum(row_block, f.subtract(p["rows"], row)),
        column,
        f.minimum(group, f.subtract(p["column_end"], column)),
        f.add(f.multiply(batch, row_blocks), down),
    )


class _Operands:
    """Where the operands of each product of the batch are; made at the entry of a function."""

    def __init__(self, f: Function, p: Plan) -> None:
        self._f, self._p = f, p
        self._place = f.let("alloca i64, align 8")

    def of(self, batch: Operand) -> tuple[Operand, Operand, Operand]:
        """Addresses of left, right and out."""
        return self._one("left", batch), self._one("right", batch), self._start("out", batch)

    def _start(self, name: str, batch: Operand) -> Operand:
        return self._f.at(self._p[name], self._f.multiply(batch, self._p[f"{name}_batch"]))

    def _one(self, name: str, batch: Operand) -> Operand:
        f, start = self._f, self._start(name, batch)
        place, context = self._p.read(f"{name}_place offsets_context")
        with f.when(is_set(f, place)) as placed:
            words = (("i64", batch), ("i64", 1), ("i64", 0))
            f.call_pointer("void", place, ("ptr", context), ("ptr", self._place), *words)
            moved = f.at(start, f.load("i64", self._place, 8))
        return placed.merge("ptr", moved, start)


def _scratch(f: Function, p: Plan, worker: Operand) -> Operand:
    return f.at(p["scratch"], f.multiply(worker, p["scratch_bytes"]))


def _accumulate(f: Function, p: Plan, k: Operand) -> Operand:
    """Whether a block of k adds to out: always after the first, which does so if the job says."""
    later = f.let(f"zext i1 {f.compare('sgt', k, 0)} to i64")
    return f.let(f"or i64 {later}, {p['accumulate']}")


def _lies_beside(f: Function, tile: Tile, p: Plan, side: str) -> str:
    """Whether an operand is packed from memory where what lies across its panels is contiguous."""
    across = p["left_row" if side == "left" else "right_column"]
    plain = f.negate(is_set(f, p[f"pack_{side}"]))
    return f.both(plain, f.compare("eq", across, tile.vector.element_bytes))


def _pack_beside(
    f: Function,
    tile: Tile,
    p: Plan,
    side: str,
    panels: tuple[Operand, Operand],
    source: Operand,
    depth: Operand,
    destination: Operand,
) -> Operand:
    """Pack as many whole panels, from the first to the second of two numbers, as go together; the
    first that was not. ``source`` and ``destination`` are those of the first panel.
    """
    first, stop = panels
    together = tile.panels_beside(side)
    width = (tile.rows if side == "left" else tile.columns) * tile.vector.element_bytes
    panel, along = p.read(f"{side}_panel {'left_column' if side == 'left' else 'right_row'}")
    groups = f.divide(f.maximum(f.subtract(stop, first), 0), together)
    through = f.add(first, f.multiply(groups, together))
    carried: list[TypedOperand] = [("ptr", source), ("ptr", destination)]
    with f.loop(first, through, together, carried) as group:
        here, there = group.carried
        f.call_pointer(
            "void",
            KernelTable(tile).load_beside(f, p["kernels"], side),
            *(("ptr", here), ("i64", along), ("i64", depth), ("ptr", there), ("i64", panel)),
        )
        below = f.at(there, f.multiply(panel, together))
        group.next = [f.at(here, width * together), below]
    return through


def _pack_left(
    f: Function,
    tile: Tile,
    p: Plan,
    source: Operand,
    block: Block,
    along: tuple[Operand, Operand],
    destination: Operand,
) -> None:
    """Pack the rows of a block, the first of them at ``source``, for so many k from one on."""
    left_row, left_panel = p.read("left_row left_panel")
    k, depth = along
    whole = f.divide(block.rows, tile.rows)
    stop = f.select(_lies_beside(f, tile, p, "left"), whole, 0)
    through = _pack_beside(f, tile, p, "left", (0, stop), source, depth, destination)
    rest = f.at(destination, f.multiply(through, left_panel))
    with f.loop(f.multiply(through, tile.rows), block.rows, tile.rows, [("ptr", rest)]) as i:
        count = f.minimum(tile.rows, f.subtract(block.rows, i.index))
        place = (f.add(block.row, i.index), count, k, depth, block.batch)
        here = f.at(source, f.multiply(i.index, left_row))
        _pack(f, tile, p, "left", here, place, i.carried[0], None)
        i.next = [f.at(i.carried[0], left_panel)]


def _pack(
    f: Function,
    tile: Tile,
    p: Plan,
    side: str,
    source: Operand,
    place: tuple[Operand, Operand, Operand, Operand, Operand],
    destination: Operand,
    tables: _Tables | None,
) -> None:
    """Pack a panel from memory at ``source``; or where ``tables`` say, which have the offsets of k;
    or by the function that the job names.

    ``place`` is the first row or column, their number, the first k, their number, the batch.
    """
    first, count, k, depth, batch = place
    width = tile.rows if side == "left" else tile.columns
    across, along = p.read("left_row left_column" if side == "left" else "right_column right_row")
    packer = p[f"pack_{side}"]
    named = is_set(f, packer)
    with f.when(named):
        f.call_pointer(
            "void",
            packer,
            *(("ptr", p[f"pack_{side}_context"]), ("ptr", destination)),
            *(("i64", first), ("i64", count), ("i64", k), ("i64", depth), ("i64", batch)),
            ("i64", width * tile.vector.element_bytes),
        )
    plain = f.negate(named)
    if tables is not None:
        with f.when(tables.right):
            tables.fill("right_across", first, count, batch)
            f.call_pointer(
                "void",
                KernelTable(tile).load_lay(f, p["kernels"]),
                *(("ptr", p["right"]), ("ptr", tables["right_across"])),
                *(("ptr", tables["right_along"]), ("i64", count), ("i64", depth)),
                ("ptr", destination),
            )
        plain = f.both(plain, f.negate(tables.right))
    with f.when(plain):
        f.call_pointer(
            "void",
            KernelTable(tile).load_pack(f, p["kernels"], side),
            *(("ptr", source), ("i64", across), ("i64", along), ("i64", count)),
            *(("i64", depth), ("ptr", destination)),
        )
