"""How is a matrix product cut into blocks, packed, and handed to register tiles and threads?

stub docstring
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.irtext import Function, Module, Operand
from graphc.codegen.machine import KIB, Machine
from graphc.codegen.microkernel import (
    DOT_TILE,
    DOT_TYPES,
    STREAM_ROWS,
    TILE_TYPES,
    Tile,
    dot_kernel,
    pack_kernel,
    stream_kernel,
    tile_kernel,
)

JOB_WORDS = (
    "left", "left_row", "left_column", "left_batch",
    "right", "right_row", "right_column", "right_batch",
    "out", "out_row", "out_batch",
    "rows", "columns", "depth", "batches",
    "accumulate",
    "epilogue", "epilogue_context",
    "pack_left", "pack_left_context", "pack_right", "pack_right_context",
    "workspace", "workers", "status",
)
JOB = {name: index for index, name in enumerate(JOB_WORDS)}
PLAN_WORDS = (
    *JOB_WORDS,
    "swapped",
    "left_packed",       # 0 in place, 1 by each task
    "right_packed",      # 0 in place, 1 by each task, 2 once for all tasks
    "depth_block", "depth_begin", "depth_end",
    "row_block", "row_blocks",
    "column_begin", "column_end", "group", "groups",
    "left_panel", "right_panel",
    "shared", "scratch", "scratch_bytes", "right_scratch",
    "tasks", "grain", "direct",
)
PLAN = {name: index for index, name in enumerate(PLAN_WORDS)}
POINTERS = {"left", "right", "out", "epilogue", "epilogue_context", "pack_left", "pack_left_context", "pack_right", "pack_right_context", "workspace", "status", "shared", "scratch"}
CANCEL_WORD = 4
IN_PLACE, BY_TASK, ONCE = 0, 1, 2


@dataclass(frozen=True)
class Blocking:
    tile: Tile
    depth_in_place: int
    depth_packed: int
    row_block: int
    column_block: int
    group_packed: int
    small: int
    task: int
    big: int

    @staticmethod
    def of(dtype: str, machine: Machine) -> Blocking:
        tile = Tile.of(dtype, machine)
        return Blocking(tile, depth_in_place=1024, depth_packed=512, row_block=240, column_block=4096, group_packed=16, small=64**3, task=2**20, big=2**28)


class Words:
    def __init__(self, f: Function, base: Operand, table: dict[str, int]) -> None:
        self.f, self.base, self.table = f, base, table
        self.cache: dict = {}

    def __getitem__(self, name: str) -> Operand:
        if name in POINTERS:
            return self.f.word(self.base, self.table[name], "ptr")
        return self.f.word(self.base, self.table[name])

    def __setitem__(self, name: str, value: Operand) -> None:
        self.f.set_word(self.base, self.table[name], value, "ptr" if name in POINTERS else "i64")

    def many(self, names: str) -> list[Operand]:
        return [self[name] for name in names.split()]


def is_set(f, pointer):
    return f.compare("ne", pointer, "null", "ptr")


def kernel_table(b: Blocking) -> str:
    t = b.tile
    entries = []
    for rows in range(t.rows + 1):
        for vectors in range(1, t.vectors + 1):
            for edge in (False, True):
                there = rows in t.heights and (t.machine.has_masks or not edge)
                entries.append(f"ptr @{t.kernel_name(rows, vectors, edge)}" if there else "ptr null")
    return f"@tiles = internal constant [{len(entries)} x ptr] [{', '.join(entries)}]"


def dot_table(b):
    t = b.tile
    entries = []
    for rows in range(DOT_TILE[0] + 1):
        for columns in range(DOT_TILE[0] + 1):
            entries.append(f"ptr @{t.dot_name(rows, columns)}" if rows in DOT_TILE and columns in DOT_TILE else "ptr null")
    return f"@dots = internal constant [{len(entries)} x ptr] [{', '.join(entries)}]"


def stream_table(b):
    t = b.tile
    entries = ["ptr null"] + [f"ptr @{t.stream_name(rows)}" for rows in sorted(STREAM_ROWS)]
    return f"@streams = internal constant [{len(entries)} x ptr] [{', '.join(entries)}]"


def next_height(f, heights, remaining):
    ordered = sorted(heights)
    height = ordered[0]
    for candidate in ordered[1:]:
        height = f.select(f.compare("sge", remaining, candidate), candidate, height)
    return height


def panel_product(b: Blocking) -> Function:
    t = b.tile
    es = t.vector.element_bytes
    f = Function(f"{t.prefix}_panel", "ptr plan, ptr left, i64 left_row, i64 left_step, i64 left_panel, ptr right, i64 right_step, ptr out, i64 depth, i64 rows, i64 columns, i64 accumulate, i64 finish, i64 row, i64 column, i64 batch", linkage="internal")
    plan, left, left_row, left_step, left_panel, right, right_step, out, depth, rows, columns, accumulate, finish, row, column, batch = f.parameters
    w = Words(f, plan, PLAN)
    out_row, epilogue, context = w.many("out_row epilogue epilogue_context")
    vectors = f.ceil_divide(columns, t.vector.lanes)
    masked = t.machine.has_masks
    ragged = f.compare("ne", f.remainder(columns, t.vector.lanes), 0)
    if masked:
        edge = f.let(f"zext i1 {ragged} to i64")
    else:
        edge = 0
        scratch = f.let(f"alloca [{t.rows * t.columns} x {t.vector.element}], align 64")
    finishing = f.compare("ne", finish, 0)
    with f.loop(0, rows, 1, [("ptr", left), ("ptr", out), ("i64", 0)]) as loop:
        panel, c, inside = loop.carried
        height = next_height(f, t.heights, f.subtract(rows, loop.index))
        kernel = f.word("@tiles", f.add(f.multiply(f.subtract(f.add(f.multiply(height, t.vectors), vectors), 1), 2), edge), "ptr")
        a = f.at(panel, f.multiply(inside, left_row))
        if masked:
            target, target_row, add = c, out_row, accumulate
        else:
            target, target_row, add = f.select(ragged, scratch, c, "ptr"), f.select(ragged, t.columns * es, out_row), f.select(ragged, 0, accumulate)
        values = (a, right, target, depth, left_row, left_step, right_step, target_row, columns, add)
        f.call_pointer("void", kernel, *zip(TILE_TYPES, values, strict=True))
        if not masked:
            with f.when(ragged):
                f.call("void", f"{t.prefix}_copy_tile", ("ptr", scratch), ("ptr", c), ("i64", out_row), ("i64", height), ("i64", columns), ("i64", accumulate))
        with f.when(finishing):
            f.call_pointer("void", epilogue, ("ptr", context), ("ptr", c), ("i64", out_row), ("i64", f.add(row, loop.index)), ("i64", column), ("i64", height), ("i64", columns), ("i64", batch))
        below = f.add(inside, height)
        whole = f.compare("sge", below, t.rows)
        loop.step = height
        loop.next = [f.select(whole, f.at(panel, left_panel), panel, "ptr"), f.at(c, f.multiply(height, out_row)), f.select(whole, 0, below)]
    return f


def copy_tile(b):
    t = b.tile
    el, es = t.vector.element, t.vector.element_bytes
    f = Function(f"{t.prefix}_copy_tile", "ptr source, ptr out, i64 out_row, i64 rows, i64 columns, i64 accumulate", linkage="internal")
    source, out, out_row, rows, columns, accumulate = f.parameters
    adding = f.compare("ne", accumulate, 0)
    with f.loop(0, rows) as i:
        s, d = f.at(source, f.multiply(i.index, t.columns * es)), f.at(out, f.multiply(i.index, out_row))
        with f.loop(0, columns) as j:
            off = f.multiply(j.index, es)
            v = f.load(el, f.at(s, off), es)
            place = f.at(d, off)
            with f.when(adding) as branch:
                total = f.let(f"fadd {el} {f.load(el, place, es)}, {v}")
            f.store(el, branch.merge(el, total, v), place, es)
    return f


def pack_call(f, t, side, packer, context, base, across, along, first, count, k0, depth, batch, destination):
    """Pack through the caller's packer, or from memory."""
    width = t.rows if side == "left" else t.columns
    custom = is_set(f, packer)
    with f.when(custom):
        f.call_pointer("void", packer, ("ptr", context), ("ptr", destination), ("i64", first), ("i64", count), ("i64", k0), ("i64", depth), ("i64", batch), ("i64", width * t.vector.element_bytes))
    with f.when(f.negate(custom)):
        source = f.at(f.at(base, f.multiply(first, across)), f.multiply(k0, along))
        f.call("void", t.pack_name(side), ("ptr", source), ("i64", across), ("i64", along), ("i64", count), ("i64", depth), ("ptr", destination))


def panel_bytes(f, t, side, depth):
    width = t.rows if side == "left" else t.columns
    return f.add(f.multiply(f.round_up(depth, t.vector.lanes), width * t.vector.element_bytes), 64)


def compute_task(b: Blocking) -> Function:
    t = b.tile
    es, W = t.vector.element_bytes, t.columns
    f = Function(f"{t.prefix}_compute", "ptr plan, i64 begin, i64 end, i64 worker", linkage="internal")
    plan, begin, end, worker = f.parameters
    w = Words(f, plan, PLAN)
    scratch = f.at(w["scratch"], f.multiply(worker, w["scratch_bytes"]))
    right_buffer = scratch
    left_buffer = f.at(scratch, w["right_scratch"])
    left, left_row, left_column, left_batch, right, right_row, right_column, right_batch, out, out_row, out_batch = w.many("left left_row left_column left_batch right right_row right_column right_batch out out_row out_batch")
    rows, columns, depth = w.many("rows columns depth")
    row_block, row_blocks, groups, group = w.many("row_block row_blocks groups group")
    depth_block, depth_begin, depth_end = w.many("depth_block depth_begin depth_end")
    column_begin, column_end = w.many("column_begin column_end")
    pack_left, pack_left_context, pack_right, pack_right_context = w.many("pack_left pack_left_context pack_right pack_right_context")
    left_panel, right_panel = w.many("left_panel right_panel")
    left_mode = f.compare("ne", w["left_packed"], 0)
    right_mode = w["right_packed"]
    right_by_task, right_once = f.compare("eq", right_mode, BY_TASK), f.compare("eq", right_mode, ONCE)
    accumulate = w["accumulate"]
    has_epilogue = is_set(f, w["epilogue"])
    single_block = f.compare("sle", f.subtract(depth_end, depth_begin), depth_block)
    per_batch = f.multiply(row_blocks, groups)
    with f.loop(begin, end, 1, [("i64", -1)]) as task:
        batch = f.divide(task.index, per_batch)
        local = f.subtract(task.index, f.multiply(batch, per_batch))
        rb = f.divide(local, groups)
        g = f.subtract(local, f.multiply(rb, groups))
        block_id = f.add(f.multiply(batch, row_blocks), rb)
        r0 = f.multiply(rb, row_block)
        m = f.minimum(row_block, f.subtract(rows, r0))
        c0 = f.add(column_begin, f.multiply(g, f.multiply(group, W)))
        c1 = f.minimum(column_end, f.add(c0, f.multiply(group, W)))
        a = f.at(left, f.multiply(batch, left_batch))
        bb = f.at(right, f.multiply(batch, right_batch))
        c = f.at(f.at(out, f.multiply(batch, out_batch)), f.multiply(r0, out_row))
        stale = f.either(f.negate(single_block), f.compare("ne", task.carried[0], block_id))
        must_pack = f.both(left_mode, stale)
        with f.loop(depth_begin, depth_end, depth_block) as k:
            k0 = k.index
            kc = f.minimum(depth_block, f.subtract(depth_end, k0))
            later = f.let(f"zext i1 {f.compare('sgt', k0, 0)} to i64")
            add = f.let(f"or i64 {later}, {accumulate}")
            finish = f.let(f"zext i1 {f.both(has_epilogue, f.compare('eq', f.add(k0, kc), depth))} to i64")
            with f.when(must_pack):
                with f.loop(0, m, t.rows, [("ptr", left_buffer)]) as i:
                    pack_call(f, t, "left", pack_left, pack_left_context, a, left_row, left_column, f.add(r0, i.index), f.minimum(t.rows, f.subtract(m, i.index)), k0, kc, batch, i.carried[0])
                    i.next = [f.at(i.carried[0], left_panel)]
            in_place = f.at(f.at(a, f.multiply(r0, left_row)), f.multiply(k0, left_column))
            lp = f.select(left_mode, left_buffer, in_place, "ptr")
            l_row = f.select(left_mode, es, left_row)
            l_step = f.select(left_mode, t.rows * es, left_column)
            l_panel = f.select(left_mode, left_panel, f.multiply(left_row, t.rows))
            with f.loop(c0, c1, W) as j:
                col = j.index
                n = f.minimum(W, f.subtract(columns, col))
                by_task = right_by_task
                if not t.machine.has_masks:
                    ragged = f.compare("ne", f.remainder(n, t.vector.lanes), 0)
                    by_task = f.either(by_task, f.both(ragged, f.compare("eq", right_mode, IN_PLACE)))
                with f.when(by_task):
                    pack_call(f, t, "right", pack_right, pack_right_context, bb, right_column, right_row, col, n, k0, kc, batch, right_buffer)
                shared = f.at(w["shared"], f.multiply(f.divide(f.subtract(col, column_begin), W), right_panel))
                packed = f.select(right_once, shared, right_buffer, "ptr")
                is_packed = f.either(by_task, right_once)
                rp = f.select(is_packed, packed, f.at(f.at(bb, f.multiply(k0, right_row)), f.multiply(col, right_column)), "ptr")
                r_step = f.select(is_packed, W * es, right_row)
                f.call("void", f"{t.prefix}_panel", ("ptr", plan), ("ptr", lp), ("i64", l_row), ("i64", l_step), ("i64", l_panel), ("ptr", rp), ("i64", r_step), ("ptr", f.at(c, f.multiply(col, es))), ("i64", kc), ("i64", m), ("i64", n), ("i64", add), ("i64", finish), ("i64", r0), ("i64", col), ("i64", batch))
        task.next = [block_id]
    return f


def pack_task(b):
    t = b.tile
    W = t.columns
    f = Function(f"{t.prefix}_pack", "ptr plan, i64 begin, i64 end, i64 worker", linkage="internal")
    plan, begin, end, _ = f.parameters
    w = Words(f, plan, PLAN)
    right, right_row, right_column, columns, column_begin, depth_begin, depth_end, shared, right_panel = w.many("right right_row right_column columns column_begin depth_begin depth_end shared right_panel")
    packer, context = w.many("pack_right pack_right_context")
    kc = f.subtract(depth_end, depth_begin)
    with f.loop(begin, end) as task:
        col = f.add(column_begin, f.multiply(task.index, W))
        n = f.minimum(W, f.subtract(columns, col))
        pack_call(f, t, "right", packer, context, right, right_column, right_row, col, n, depth_begin, kc, 0, f.at(shared, f.multiply(task.index, right_panel)))
    return f


def finish_function(b):
    """Call the epilogue on a block of out, in the orientation that the caller of the product knows."""
    t = b.tile
    f = Function(f"{t.prefix}_finish", "ptr plan, i64 row, i64 column, i64 m, i64 n, i64 batch", linkage="internal")
    plan, row, column, m, n, batch = f.parameters
    w = Words(f, plan, PLAN)
    epilogue, context, out, out_row, out_batch = w.many("epilogue epilogue_context out out_row out_batch")
    with f.when(is_set(f, epilogue)):
        es = t.vector.element_bytes
        tile = f.at(f.at(f.at(out, f.multiply(batch, out_batch)), f.multiply(row, out_row)), f.multiply(column, es))
        sw = f.compare("ne", w["swapped"], 0)
        pick = lambda a, c: f.select(sw, a, c)
        f.call_pointer("void", epilogue, ("ptr", context), ("ptr", tile), ("i64", pick(es, out_row)), ("i64", pick(column, row)), ("i64", pick(row, column)), ("i64", pick(n, m)), ("i64", pick(m, n)), ("i64", batch))
    return f


def block_indices(f, w, index):
    """Task number -> batch, first row, rows, first column, columns, for plans whose blocks are row_block x group columns."""
    rows, columns, row_block, row_blocks, group, groups = w.many("rows columns row_block row_blocks group groups")
    per_batch = f.multiply(row_blocks, groups)
    batch = f.divide(index, per_batch)
    local = f.subtract(index, f.multiply(batch, per_batch))
    rb = f.divide(local, groups)
    r0 = f.multiply(rb, row_block)
    c0 = f.multiply(f.subtract(local, f.multiply(rb, groups)), group)
    return batch, r0, f.minimum(row_block, f.subtract(rows, r0)), c0, f.minimum(group, f.subtract(columns, c0))


def stream_task(b):
    t = b.tile
    es = t.vector.element_bytes
    f = Function(f"{t.prefix}_stream", "ptr plan, i64 begin, i64 end, i64 worker", linkage="internal")
    plan, begin, end, _ = f.parameters
    w = Words(f, plan, PLAN)
    left, left_row, left_column, left_batch, right, right_row, right_batch, out, out_row, out_batch, depth, accumulate = w.many("left left_row left_column left_batch right right_row right_batch out out_row out_batch depth accumulate")
    with f.loop(begin, end) as task:
        batch, _, m, c0, n = block_indices(f, w, task.index)
        kernel = f.word("@streams", m, "ptr")
        off = f.multiply(c0, es)
        values = (f.at(left, f.multiply(batch, left_batch)), f.at(f.at(right, f.multiply(batch, right_batch)), off), f.at(f.at(out, f.multiply(batch, out_batch)), off), depth, left_row, left_column, right_row, out_row, n, accumulate)
        f.call_pointer("void", kernel, *zip(TILE_TYPES, values, strict=True))
        f.call("void", f"{t.prefix}_finish", ("ptr", plan), ("i64", 0), ("i64", c0), ("i64", m), ("i64", n), ("i64", batch))
    return f


def dot_task(b):
    t = b.tile
    es = t.vector.element_bytes
    f = Function(f"{t.prefix}_dot", "ptr plan, i64 begin, i64 end, i64 worker", linkage="internal")
    plan, begin, end, worker = f.parameters
    w = Words(f, plan, PLAN)
    left, left_row, left_column, left_batch, right, right_row, right_column, right_batch, out, out_row, out_batch, depth, accumulate, depth_block, rows, columns = w.many("left left_row left_column left_batch right right_row right_column right_batch out out_row out_batch depth accumulate depth_block rows columns")
    scratch = f.at(w["scratch"], f.multiply(worker, w["scratch_bytes"]))
    pack_l, pack_r = f.compare("ne", left_column, es), f.compare("ne", right_row, es)
    line = f.multiply(depth_block, es)
    with f.loop(begin, end) as task:
        batch, r0, m, c0, n = block_indices(f, w, task.index)
        a = f.at(f.at(left, f.multiply(batch, left_batch)), f.multiply(r0, left_row))
        bb = f.at(f.at(right, f.multiply(batch, right_batch)), f.multiply(c0, right_column))
        c = f.at(f.at(f.at(out, f.multiply(batch, out_batch)), f.multiply(r0, out_row)), f.multiply(c0, es))
        with f.loop(0, depth, depth_block) as k:
            kc = f.minimum(depth_block, f.subtract(depth, k.index))
            a_k, b_k = f.at(a, f.multiply(k.index, left_column)), f.at(bb, f.multiply(k.index, right_row))
            with f.when(pack_l):
                f.call("void", f"{t.prefix}_line_up", ("ptr", a_k), ("i64", left_row), ("i64", left_column), ("i64", m), ("i64", kc), ("ptr", scratch), ("i64", line))
            with f.when(pack_r):
                f.call("void", f"{t.prefix}_line_up", ("ptr", b_k), ("i64", right_column), ("i64", right_row), ("i64", n), ("i64", kc), ("ptr", scratch), ("i64", line))
            lp, lr = f.select(pack_l, scratch, a_k, "ptr"), f.select(pack_l, line, left_row)
            rp, rc = f.select(pack_r, scratch, b_k, "ptr"), f.select(pack_r, line, right_column)
            later = f.let(f"zext i1 {f.compare('sgt', k.index, 0)} to i64")
            add = f.let(f"or i64 {later}, {accumulate}")
            with f.loop(0, m) as i:
                height = next_height(f, DOT_TILE, f.subtract(m, i.index))
                i.step = height
                with f.loop(0, n) as j:
                    width = next_height(f, DOT_TILE, f.subtract(n, j.index))
                    j.step = width
                    kernel = f.word("@dots", f.add(f.multiply(height, DOT_TILE[0] + 1), width), "ptr")
                    values = (f.at(lp, f.multiply(i.index, lr)), f.at(rp, f.multiply(j.index, rc)), f.at(f.at(c, f.multiply(i.index, out_row)), f.multiply(j.index, es)), kc, lr, rc, out_row, add)
                    f.call_pointer("void", kernel, *zip(DOT_TYPES, values, strict=True))
        f.call("void", f"{t.prefix}_finish", ("ptr", plan), ("i64", r0), ("i64", c0), ("i64", m), ("i64", n), ("i64", batch))
    return f


def line_up(b):
    t = b.tile
    el, es = t.vector.element, t.vector.element_bytes
    f = Function(f"{t.prefix}_line_up", "ptr source, i64 across, i64 along, i64 count, i64 depth, ptr destination, i64 line", linkage="internal")
    source, across, along, count, depth, destination, line = f.parameters
    with f.loop(0, count) as i:
        s, d = f.at(source, f.multiply(i.index, across)), f.at(destination, f.multiply(i.index, line))
        with f.loop(0, depth, 1, [("ptr", s), ("ptr", d)]) as k:
            f.store(el, f.load(el, k.carried[0], es), k.carried[1], es)
            k.next = [f.at(k.carried[0], along), f.at(k.carried[1], es)]
    return f


def clear_function(b):
    t = b.tile
    el, es = t.vector.element, t.vector.element_bytes
    f = Function(f"{t.prefix}_clear", "ptr plan", linkage="internal")
    (plan,) = f.parameters
    w = Words(f, plan, PLAN)
    out, out_row, out_batch, rows, columns, batches, accumulate = w.many("out out_row out_batch rows columns batches accumulate")
    with f.loop(0, batches) as batch:
        with f.when(f.compare("eq", accumulate, 0)):
            with f.loop(0, rows) as i:
                row = f.at(f.at(out, f.multiply(batch.index, out_batch)), f.multiply(i.index, out_row))
                with f.loop(0, columns) as j:
                    f.store(el, "0.0", f.at(row, f.multiply(j.index, es)), es)
        f.call("void", f"{t.prefix}_finish", ("ptr", plan), ("i64", 0), ("i64", 0), ("i64", rows), ("i64", columns), ("i64", batch.index))
    return f


def dispatch(b):
    f = Function(f"{b.tile.prefix}_dispatch", "ptr plan, ptr function, i64 tasks, i64 grain", linkage="internal")
    plan, function, tasks, grain = f.parameters
    w = Words(f, plan, PLAN)
    status = w["status"]
    with f.when(is_set(f, status)):
        with f.when(f.compare("ne", f.word(status, CANCEL_WORD), 0)):
            f.leave()
    direct = f.either(f.compare("sle", tasks, grain), f.compare("ne", w["direct"], 0))
    with f.when(direct):
        f.call_pointer("void", function, ("ptr", plan), ("i64", 0), ("i64", tasks), ("i64", 0))
        f.leave()
    f.call("void", "graphc_parallel_for", ("ptr", function), ("ptr", plan), ("i64", tasks), ("i64", grain), ("i64", w["workers"]), ("ptr", status))
    return f


def small_function(b):
    t = b.tile
    es, W = t.vector.element_bytes, t.columns
    f = Function(f"{t.prefix}_small", "ptr job", linkage="internal")
    (job,) = f.parameters
    w = Words(f, job, JOB)
    left, left_row, left_column, left_batch, right, right_row, right_batch, out, out_batch, rows, columns, depth, batches, accumulate, epilogue = w.many("left left_row left_column left_batch right right_row right_batch out out_batch rows columns depth batches accumulate epilogue")
    finish = f.let(f"zext i1 {is_set(f, epilogue)} to i64")
    left_panel = f.multiply(left_row, t.rows)
    with f.loop(0, batches, 1, [("ptr", left), ("ptr", right), ("ptr", out)]) as batch:
        a, bb, c = batch.carried
        with f.loop(0, columns, W, [("ptr", bb), ("ptr", c)]) as j:
            n = f.minimum(W, f.subtract(columns, j.index))
            f.call("void", f"{t.prefix}_panel", ("ptr", job), ("ptr", a), ("i64", left_row), ("i64", left_column), ("i64", left_panel), ("ptr", j.carried[0]), ("i64", right_row), ("ptr", j.carried[1]), ("i64", depth), ("i64", rows), ("i64", n), ("i64", accumulate), ("i64", finish), ("i64", 0), ("i64", j.index), ("i64", batch.index))
            j.next = [f.at(j.carried[0], W * es), f.at(j.carried[1], W * es)]
        batch.next = [f.at(a, left_batch), f.at(bb, right_batch), f.at(c, out_batch)]
    return f


def entry(b):
    t = b.tile
    es, lanes, W, MR = t.vector.element_bytes, t.vector.lanes, t.columns, t.rows
    f = Function(t.prefix, "ptr job")
    (job,) = f.parameters
    w = Words(f, job, JOB)
    rows, columns, depth, batches = w.many("rows columns depth batches")
    none = f.either(f.compare("sle", rows, 0), f.either(f.compare("sle", columns, 0), f.compare("sle", batches, 0)))
    with f.when(none):
        f.leave()
    plan = f.let(f"alloca [{len(PLAN)} x i64], align 64")
    p = Words(f, plan, PLAN)
    area = f.multiply(rows, columns)
    one = f.multiply(area, depth)
    custom_left, custom_right = is_set(f, w["pack_left"]), is_set(f, w["pack_right"])
    custom = f.either(custom_left, custom_right)
    plain_right = f.compare("eq", w["right_column"], es)
    # small
    total = f.multiply(one, batches)
    small = f.both(f.compare("sle", total, b.small), f.compare("sgt", depth, 0))
    small = f.both(small, f.both(f.negate(custom), plain_right))
    small = f.both(small, f.compare("sgt", rows, 1))
    small = f.both(small, f.compare("sgt", columns, 4))
    if not t.machine.has_masks:
        small = f.both(small, f.compare("eq", f.remainder(columns, lanes), 0))
    with f.when(small):
        f.call("void", f"{t.prefix}_small", ("ptr", job))
        f.leave()
    for name in JOB_WORDS:
        p[name] = w[name]
    p["swapped"] = 0
    with f.when(f.compare("sle", depth, 0)):
        f.call("void", f"{t.prefix}_clear", ("ptr", plan))
        f.leave()
    # a column vector: exchange the operands
    vector = f.both(f.compare("eq", columns, 1), f.compare("eq", w["out_row"], es))
    exchange = f.both(f.both(vector, f.negate(custom)), f.both(f.compare("eq", w["left_row"], es), f.compare("ne", w["left_column"], es)))
    exchange = f.both(exchange, f.compare("sgt", rows, 1))
    with f.when(exchange):
        for side, other in (("left", "right"), ("right", "left")):
            p[side], p[f"{side}_batch"] = w[other], w[f"{other}_batch"]
        p["left_row"], p["left_column"] = w["right_column"], w["right_row"]
        p["right_row"], p["right_column"] = w["left_column"], w["left_row"]
        p["rows"], p["columns"] = 1, rows
        p["out_row"] = f.multiply(rows, es)
        p["swapped"] = 1
    rows, columns = p.many("rows columns")
    right_row, right_column, left_column, left_row = p.many("right_row right_column left_column left_row")
    plain_right = f.compare("eq", right_column, es)
    p["direct"] = f.let(f"zext i1 {f.both(f.compare('sle', w['workers'], 1), f.compare('sle', total, 2**26))} to i64")
    p["depth_block"] = f.minimum(depth, b.depth_in_place)
    depth_block = p["depth_block"]
    p["depth_begin"], p["depth_end"] = 0, depth
    right_bytes = f.round_up(panel_bytes(f, t, "right", depth_block), 64)
    p["scratch"] = f.at(w["workspace"], 0)
    p["scratch_bytes"] = f.add(right_bytes, 0)
    p["right_scratch"] = right_bytes
    # few rows
    few = f.both(f.compare("sle", rows, STREAM_ROWS[0]), f.both(plain_right, f.negate(custom)))
    with f.when(few):
        p["row_block"], p["row_blocks"] = rows, 1
        group = f.minimum(2048, f.round_up(f.maximum(f.divide(b.task, f.multiply(rows, depth)), 256), lanes))
        p["group"] = group
        groups = f.ceil_divide(columns, group)
        p["groups"] = groups
        tasks = f.multiply(groups, batches)
        grain = f.maximum(f.divide(b.task, f.multiply(f.multiply(rows, depth), f.minimum(group, columns))), 1)
        f.call("void", f"{t.prefix}_dispatch", ("ptr", plan), ("ptr", f"@{t.prefix}_stream"), ("i64", tasks), ("i64", grain))
        f.leave()
    # dots
    along = f.add(depth, 6 * lanes)
    narrow = f.both(f.compare("eq", left_column, es), f.compare("slt", f.multiply(f.multiply(columns, along), 5), f.multiply(depth, 4 * lanes)))
    flat = f.both(f.compare("eq", right_row, es), f.compare("slt", f.multiply(rows, along), f.multiply(f.add(rows, 4), depth)))
    dots = f.both(f.either(narrow, flat), f.negate(custom))
    with f.when(dots):
        all_packed = f.both(f.compare("eq", left_column, es), f.compare("eq", right_row, es))
        p["depth_block"] = f.select(all_packed, depth, depth_block)
        rb = f.minimum(rows, f.round_up(f.maximum(f.divide(b.task, f.multiply(depth, f.minimum(columns, 16))), 64), 4))
        p["row_block"], p["row_blocks"] = rb, f.ceil_divide(rows, rb)
        group = f.minimum(columns, 16)
        p["group"], p["groups"] = group, f.ceil_divide(columns, group)
        tasks = f.multiply(batches, f.multiply(p["row_blocks"], p["groups"]))
        grain = f.maximum(f.divide(b.task, f.multiply(depth, f.multiply(rb, group))), 1)
        f.call("void", f"{t.prefix}_dispatch", ("ptr", plan), ("ptr", f"@{t.prefix}_dot"), ("i64", tasks), ("i64", grain))
        f.leave()
    # tiles
    panels = f.ceil_divide(columns, W)
    one_batch = f.compare("eq", batches, 1)
    big = f.both(f.compare("sgt", one, b.big), one_batch)
    strided = f.compare("eq", f.let(f"and i64 {right_row}, 4095"), 0)
    far = f.either(strided, f.compare("sgt", f.multiply(f.multiply(columns, depth), es), 700 * KIB))
    worth = f.both(f.compare("sge", rows, 3 * MR), f.both(f.compare("sgt", depth, 256), far))
    right_pack = f.either(f.either(custom_right, f.negate(plain_right)), f.either(worth, big))
    left_pack = f.either(custom_left, big)
    kc = f.select(big, b.depth_packed, b.depth_in_place)
    blocks = f.ceil_divide(depth, kc)
    kc = f.minimum(f.round_up(f.ceil_divide(depth, blocks), 16), kc)
    kc = f.minimum(kc, depth)
    p["depth_block"] = kc
    many_rows = f.compare("sgt", rows, 4 * b.row_block)
    once = f.both(f.both(right_pack, one_batch), f.either(many_rows, f.either(custom_left, big)))
    p["right_packed"] = f.select(once, ONCE, f.let(f"zext i1 {right_pack} to i64"))
    p["left_packed"] = f.let(f"zext i1 {left_pack} to i64")
    # row block
    limit = f.select(big, 96, b.row_block)
    wide = f.minimum(columns, W)
    rb = f.round_up(f.maximum(f.divide(b.task, f.multiply(wide, depth)), f.select(right_pack, b.row_block, 4 * MR)), MR)
    rb = f.minimum(rb, limit)
    rb = f.select(f.both(right_pack, f.negate(once)), rows, rb)
    rb = f.select(custom_left, 2 * MR, rb)
    rb = f.minimum(rb, rows)
    row_blocks = f.ceil_divide(rows, rb)
    group = f.maximum(1, f.divide(b.task, f.multiply(rb, f.multiply(wide, depth))))
    group = f.select(big, b.group_packed, group)
    span = f.select(once, b.column_block, f.multiply(panels, W))
    block_panels = f.minimum(panels, f.divide(span, W))
    group = f.select(custom_left, block_panels, f.minimum(group, block_panels))
    p["row_block"], p["row_blocks"], p["group"] = rb, row_blocks, group
    work = f.multiply(f.multiply(rb, f.multiply(group, wide)), depth)
    p["grain"] = f.maximum(f.divide(b.task, work), 1)
    p["left_panel"] = panel_bytes(f, t, "left", kc)
    right_panel = panel_bytes(f, t, "right", kc)
    p["right_panel"] = right_panel
    p["right_scratch"] = right_panel
    left_scratch = f.multiply(f.ceil_divide(rb, MR), p["left_panel"])
    p["scratch_bytes"] = f.round_up(f.add(right_panel, f.select(left_pack, left_scratch, 0)), 64)
    shared_bytes = f.select(once, f.multiply(block_panels, right_panel), 0)
    p["shared"] = w["workspace"]
    p["scratch"] = f.at(w["workspace"], f.round_up(shared_bytes, 64))
    k_span = f.select(once, kc, depth)
    compute, pack = f"@{t.prefix}_compute", f"@{t.prefix}_pack"
    with f.loop(0, columns, span) as jc:
        last = f.minimum(columns, f.add(jc.index, span))
        p["column_begin"], p["column_end"] = jc.index, last
        here = f.ceil_divide(f.subtract(last, jc.index), W)
        groups = f.ceil_divide(here, group)
        p["groups"] = groups
        tasks = f.multiply(batches, f.multiply(row_blocks, groups))
        with f.loop(0, depth, k_span) as k:
            p["depth_begin"], p["depth_end"] = k.index, f.minimum(depth, f.add(k.index, k_span))
            with f.when(once):
                f.call("void", f"{t.prefix}_dispatch", ("ptr", plan), ("ptr", pack), ("i64", here), ("i64", 4))
            f.call("void", f"{t.prefix}_dispatch", ("ptr", plan), ("ptr", compute), ("i64", tasks), ("i64", p["grain"]))
    return f


def driver(b: Blocking) -> Module:
    functions = [entry(b), small_function(b), dispatch(b), compute_task(b), pack_task(b), panel_product(b), stream_task(b), dot_task(b), line_up(b), finish_function(b), clear_function(b)]
    if not b.tile.machine.has_masks:
        functions.append(copy_tile(b))
    tables = [kernel_table(b), dot_table(b), stream_table(b)]
    m = Module(functions, tables)
    t = b.tile
    sig = ", ".join(TILE_TYPES)
    for h in t.heights:
        for v in range(1, t.vectors + 1):
            for edge in ((False, True) if t.machine.has_masks else (False,)):
                m.globals.append(f"declare void @{t.kernel_name(h, v, edge)}({sig})")
    for r in DOT_TILE:
        for c in DOT_TILE:
            m.globals.append(f"declare void @{t.dot_name(r, c)}({', '.join(DOT_TYPES)})")
    for r in STREAM_ROWS:
        m.globals.append(f"declare void @{t.stream_name(r)}({sig})")
    return m


def modules(dtype, machine, blocking=None):
    b = blocking or Blocking.of(dtype, machine)
    t = b.tile
    out = []
    for h in t.heights:
        for v in range(1, t.vectors + 1):
            m = Module([tile_kernel(t, h, v, edge) for edge in ((False, True) if t.machine.has_masks else (False,))])
            out.append((t.kernel_name(h, v), m.text, m.exports, m.imports, 2))
    for r in DOT_TILE:
        for c in DOT_TILE:
            m = Module([dot_kernel(t, r, c)])
            out.append((t.dot_name(r, c), m.text, m.exports, m.imports, 2))
    for r in STREAM_ROWS:
        m = Module([stream_kernel(t, r)])
        out.append((t.stream_name(r), m.text, m.exports, m.imports, 2))
    for side in ("left", "right"):
        m = Module([pack_kernel(t, side)])
        out.append((t.pack_name(side), m.text, m.exports, m.imports, 1))
    m = driver(b)
    out.append((t.prefix, m.text, m.exports, m.imports, 1))
    return out
