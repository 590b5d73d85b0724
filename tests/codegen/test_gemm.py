"""Do the native matrix products agree with NumPy, for every size, stride, path of the plan and CPU?

Products run in buffers with guards on all sides and NaN in what they must not read; the pool is a
stub that runs ranges backwards under changing worker numbers, so that a task that leaned on the
order, or on another worker's scratch, would show.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import itertools
import platform
import re
import threading

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphc.codegen.gemm import driver as gemm
from graphc.codegen.gemm.driver import JOB
from graphc.codegen.gemm.microkernel import (
    STREAM_DEPTH,
    STREAM_ROWS,
    TILE_TYPES,
    Tile,
    stream_kernel,
)
from graphc.codegen.irtext import Function, Module
from graphc.codegen.machine import KIB, PRESETS, Machine
from graphc.dims import dim, evaluate

GUARD = 64
MOST_ELEMENTS = 200_000  # of out, where visits are counted
DTYPES = ("float32", "float64")
# The host with caches so small that matrices of a few hundred rows count as large.
SMALL_CACHES = {"l1": 8 * KIB, "l2": 64 * KIB, "l3": 512 * KIB}

STUB = """
@hits = global [64 x i64] zeroinitializer
define void @test_hit(i64 %index) {
  %place = getelementptr i64, ptr @hits, i64 %index
  %old = atomicrmw add ptr %place, i64 1 monotonic
  ret void
}
define void @graphc_parallel_for(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %workers,
                                 ptr %status) {
entry:
  %up = add i64 %tasks, %grain
  %up1 = sub i64 %up, 1
  %ranges = udiv i64 %up1, %grain
  br label %head
head:
  %left = phi i64 [%ranges, %entry], [%next, %body]
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %body, label %done
body:
  %next = sub i64 %left, 1
  %begin = mul i64 %next, %grain
  %end0 = add i64 %begin, %grain
  %over = icmp slt i64 %end0, %tasks
  %end = select i1 %over, i64 %end0, i64 %tasks
  %worker = urem i64 %next, %workers
  call void %function(ptr %context, i64 %begin, i64 %end, i64 %worker)
  br label %head
done:
  ret void
}
"""


def host_runs(name: str) -> bool:
    """Whether this process can execute code for a preset."""
    if name == "host":
        return True
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    features = llvm.get_host_cpu_features()
    needed = {"sse2": (), "avx2": ("avx2", "fma", "bmi2"), "avx512": ("avx512f", "avx512vl")}
    return name in needed and all(features.get(feature) for feature in needed[name])


MACHINES = [
    pytest.param(
        name, marks=pytest.mark.skipif(not host_runs(name), reason=f"the host does not run {name}")
    )
    for name in ("host", "avx2", "sse2")
]


def machine_named(name: str) -> Machine:
    return Machine.host() if name == "host" else Machine.preset(name)


class Family:
    """The functions of one dtype and machine, compiled and linked with a stub of the pool."""

    def __init__(self, dtype: str, machine: Machine, *, shapes=None, pool=STUB, hooks=True) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.dtype, self.machine = np.dtype(dtype), machine
        self.tasks: list[str] = []
        self.modules = gemm.modules(dtype, machine, shapes)
        texts = [(self._instrumented(text), level) for _, text, _, _, level in self.modules]
        texts.append((pool, 1))
        if hooks:
            texts.append((hooks_module(Tile.of(dtype, machine)).text, 1))
        self._engine = None
        for text, level in texts:
            self._add(text, level)
        self._engine.finalize_object()
        self.call = self.function(gemm.entry_name(dtype), ctypes.c_void_p)

    def _instrumented(self, text: str) -> str:
        """Count the calls of every task function."""

        def count(match: re.Match[str]) -> str:
            self.tasks.append(match[2])
            return f"{match[1]}\n  call void @test_hit(i64 {len(self.tasks) - 1})"

        pattern = r"(define void @\w+_f\d\d_(\w+)\(ptr %plan, i64 %begin.*\{\nentry:)"
        counted = re.sub(pattern, count, text)
        return counted if counted == text else counted + "declare void @test_hit(i64)\n"

    def _add(self, text: str, level: int) -> None:
        module = llvm.parse_assembly(text)
        module.verify()
        target = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=self.machine.cpu, features=self.machine.features, opt=level, jit=True
        )
        module.triple, module.data_layout = target.triple, str(target.target_data)
        if self._engine is None:
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        data = target.emit_object(module)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))

    def function(self, name: str, *types):
        return ctypes.CFUNCTYPE(None, *types)(self.address(name))

    def address(self, name: str) -> int:
        return self._engine.get_function_address(name)

    def hits(self) -> dict[str, int]:
        """Calls of each task function so far."""
        counts = (ctypes.c_int64 * 64).from_address(self._engine.get_global_value_address("hits"))
        return dict(zip(self.tasks, counts, strict=False))

    def multiply(self, left, right, out, workers=1, words=(), tabled=False) -> None:
        """Run the product of arrays of three axes; ``words`` of the job come on top."""
        (batches, rows, depth), columns = left.shape, right.shape[2]
        extents = (rows, columns, depth, batches)
        size = gemm.workspace(*extents, self.dtype.name, self.machine, workers, tabled)
        space = np.full(size + 64 + GUARD, 255, np.uint8)
        start = -space.ctypes.data % 64
        values = {
            **dict(zip(("rows", "columns", "depth", "batches"), extents, strict=True)),
            **dict(zip(("left_batch", "left_row", "left_column"), left.strides, strict=True)),
            **dict(zip(("right_batch", "right_row", "right_column"), right.strides, strict=True)),
            **dict(zip(("out_batch", "out_row"), out.strides[:2], strict=True)),
            "left": left.ctypes.data, "right": right.ctypes.data, "out": out.ctypes.data,
            "workspace": space.ctypes.data + start, "workers": workers,
            **dict(words),
        }
        job = (ctypes.c_int64 * len(JOB))()
        for name, value in values.items():
            job[JOB[name]] = value
        self.call(ctypes.addressof(job))
        assert (space[start + size :] == 255).all(), "written beyond the workspace"


@functools.cache
def family(dtype: str, name: str, small_caches: bool = False) -> Family:
    machine = machine_named(name)
    return Family(dtype, dataclasses.replace(machine, **SMALL_CACHES) if small_caches else machine)


def hooks_module(tile: Tile) -> Module:
    """An epilogue and two packers, as a compiler would generate them."""
    tables = [_offsets(name) for name in OFFSETS[:4]]
    return Module([_epilogue(tile), _packer(tile, "left"), _packer(tile, "right"), *tables])


# Words of the contexts that the hooks take.
EPILOGUE = ("out", "out_batch", "second", "bias", "visits", "out_row", "columns")
PACKER = ("source", "across", "along", "batch", "scale")


def _epilogue(tile: Tile) -> Function:
    """second = relu(tile + bias), and one visit counted for each element; out is what tile is."""
    element, size = tile.vector.element, tile.vector.element_bytes
    f = Function(
        "test_epilogue",
        "ptr context, ptr tile, i64 out_row, i64 row, i64 column, i64 m, i64 n, i64 batch",
    )
    context, address, out_row, row, column, m, n, batch = f.parameters
    word = {name: f.word(context, index) for index, name in enumerate(EPILOGUE)}
    out, second, bias, visits = (
        f.word(context, EPILOGUE.index(name), "ptr") for name in ("out", "second", "bias", "visits")
    )
    with f.loop(0, m) as i, f.loop(0, n) as j:
        place = f.at(f.at(address, f.multiply(i.index, out_row)), f.multiply(j.index, size))
        r, c = f.add(row, i.index), f.add(column, j.index)
        offset = f.add(f.multiply(r, word["out_row"]), f.multiply(c, size))
        offset = f.add(offset, f.multiply(batch, word["out_batch"]))
        number = f.add(f.multiply(r, word["columns"]), c)
        at = f.at(visits, f.multiply(f.add(f.multiply(batch, MOST_ELEMENTS), number), 8))
        f.store("i64", f.add(f.load("i64", at, 8), 1), at, 8)
        b = f.load(element, f.at(bias, f.multiply(c, size)), size)
        product = f.load(element, place, size)
        total = f.let(f"fadd {element} {product}, {b}")
        positive = f.let(f"fcmp ogt {element} {total}, 0.0")
        value = f.select(positive, total, "0.0", element)
        f.store(element, value, f.at(second, offset), size)
        f.store(element, product, f.at(out, offset), size)
    return f


def _packer(tile: Tile, side: str) -> Function:
    """A prologue: source squared, packed as the interface says."""
    element, size = tile.vector.element, tile.vector.element_bytes
    f = Function(
        f"test_pack_{side}",
        "ptr context, ptr destination, i64 first, i64 m, i64 k, i64 kc, i64 batch, i64 stride",
    )
    context, destination, first, m, k, kc, batch, stride = f.parameters
    source = f.word(context, PACKER.index("source"), "ptr")
    across, along, step = (f.word(context, PACKER.index(n)) for n in ("across", "along", "batch"))
    source = f.at(source, f.multiply(batch, step))
    with f.loop(0, kc) as row, f.loop(0, m) as i:
        offset = f.multiply(f.add(first, i.index), across)
        here = f.at(f.at(source, offset), f.multiply(f.add(k, row.index), along))
        there = f.at(f.at(destination, f.multiply(row.index, stride)), f.multiply(i.index, size))
        value = f.load(element, here, size)
        f.store(element, f.let(f"fmul {element} {value}, {value}"), there, size)
    return f


# Words of the context of the functions that write tables of offsets: where the whole tables are.
OFFSETS = ("left_across", "left_along", "right_across", "right_along", "extents", "columns")


def _offsets(name: str) -> Function:
    """Copies a part of a table; that of rows or columns is one of the batch's."""
    f = Function(f"test_{name}", "ptr context, ptr table, i64 first, i64 count, i64 batch")
    context, table, first, count, batch = f.parameters
    source = f.word(context, OFFSETS.index(name), "ptr")
    if name.endswith("across"):
        extent = "extents" if name.startswith("left") else "columns"
        first = f.add(first, f.multiply(batch, f.word(context, OFFSETS.index(extent))))
    with f.loop(0, count) as i:
        f.set_word(table, i.index, f.word(source, f.add(first, i.index)))
    return f


LAYOUTS = ("rows", "columns", "reversed", "strided", "broadcast", "power of two")


def operand(rng, layout: str, shape: tuple[int, int, int], dtype) -> np.ndarray:
    """A random array of three axes in one of the layouts, its surroundings NaN."""
    batches, rows, columns = shape

    def filled(base: np.ndarray, view: np.ndarray) -> np.ndarray:
        view[...] = rng.standard_normal(view.shape)
        return view

    if layout == "rows":
        return rng.standard_normal(shape).astype(dtype)
    if layout == "columns":
        return rng.standard_normal((batches, columns, rows)).astype(dtype).transpose(0, 2, 1)
    if layout == "reversed":
        return rng.standard_normal(shape).astype(dtype)[:, ::-1, ::-1]
    if layout == "strided":
        base = np.full((batches, 2 * rows + 1, 3 * columns + 1), np.nan, dtype)
        return filled(base, base[:, 1 : 2 * rows + 1 : 2, 1 : 3 * columns + 1 : 3])
    if layout == "broadcast":
        line = rng.standard_normal((1, 1, columns)).astype(dtype)
        return np.broadcast_to(line, shape)
    wide = -(-max(columns, 1) * dtype.itemsize // 4096) * 4096 // dtype.itemsize
    base = np.full((batches, rows, wide), np.nan, dtype)
    return filled(base, base[:, :, :columns])


def guarded_out(rng, shape: tuple[int, int, int], dtype) -> tuple[np.ndarray, np.ndarray]:
    """An out array inside a larger one, and that."""
    batches, rows, columns = shape
    base = rng.standard_normal((batches, rows + 2, columns + 5)).astype(dtype)
    return base, base[:, 1 : rows + 1, 2 : columns + 2]


def check(left, right, before, out) -> None:
    """Compare with a product in twice the precision, within c * eps * sum |terms|."""
    wide = np.float64 if out.dtype == np.float32 else np.longdouble
    a, b = left.astype(wide), right.astype(wide)
    exact = a @ b
    terms = np.abs(a) @ np.abs(b)
    if before is not None:
        exact, terms = exact + before, terms + np.abs(before)
    tolerance = (8 + 2 * np.sqrt(left.shape[2])) * np.finfo(out.dtype).eps * terms
    error = np.abs(out - exact)
    assert (error <= tolerance).all(), f"error up to {np.nanmax(error / (tolerance + 1e-300)):.3g}"


def run_case(f: Family, rng, sizes, layouts, *, accumulate=False, workers=1) -> None:
    batches, rows, columns, depth = sizes
    left = operand(rng, layouts[0], (batches, rows, depth), f.dtype)
    right = operand(rng, layouts[1], (batches, depth, columns), f.dtype)
    base, out = guarded_out(rng, (batches, rows, columns), f.dtype)
    original = base.copy()
    f.multiply(left, right, out, workers, {"accumulate": int(accumulate)})
    before = original[:, 1 : rows + 1, 2 : columns + 2].astype(np.float64) if accumulate else None
    check(left, right, before, out)
    outside = np.ones(base.shape, bool)
    outside[:, 1 : rows + 1, 2 : columns + 2] = False
    np.testing.assert_array_equal(base[outside], original[outside])


EXTENTS = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 17, 31, 33, 48, 64, 65, 97, 130])


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.tuples(st.integers(1, 3), EXTENTS, EXTENTS, EXTENTS),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    accumulate=st.booleans(),
    workers=st.integers(1, 3),
    small_caches=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_product(dtype, name, sizes, layouts, accumulate, workers, small_caches, seed):
    f = family(dtype, name, small_caches)
    rng = np.random.default_rng(seed)
    run_case(f, rng, sizes, layouts, accumulate=accumulate, workers=workers)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.tuples(st.integers(1, 3), EXTENTS, EXTENTS, EXTENTS),
    layout=st.sampled_from(LAYOUTS),
    accumulate=st.booleans(),
    workers=st.integers(1, 3),
    small_caches=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_panels_are_read_where_they_lie(
    dtype, name, sizes, layout, accumulate, workers, small_caches, seed
):
    """Nothing is read of the last panel but the columns that there are: the others are NaN."""
    f = family(dtype, name, small_caches)
    rng = np.random.default_rng(seed)
    batches, rows, columns, depth = sizes
    tile = Tile.of(dtype, f.machine)
    if not tile.machine.has_masks:
        columns = columns // tile.vector.lanes * tile.vector.lanes
    left = operand(rng, layout, (batches, rows, depth), f.dtype)
    right = rng.standard_normal((batches, depth, columns)).astype(dtype)
    count = -(-columns // tile.columns)
    panels = np.full((batches, max(count, 1), depth, tile.columns), np.nan, dtype)
    for i in range(count):
        piece = right[:, :, i * tile.columns : (i + 1) * tile.columns]
        panels[:, i, :, : piece.shape[2]] = piece
    words = {
        "right": panels.ctypes.data,
        "right_panels": 1,
        "right_batch": panels.strides[0],
        "right_row": panels.strides[2],
        "right_column": panels.strides[1] // tile.columns,
        "accumulate": int(accumulate),
    }
    _, out = guarded_out(rng, (batches, rows, columns), f.dtype)
    before = out.astype(np.float64) if accumulate else None
    f.multiply(left, right, out, workers, words)
    check(left, right, before, out)


# (rows, columns, depth, left layout, right layout): each reaches another part of the plan on the
# small caches, which `test_every_task_is_reached` verifies.
PATHS = {
    "in place": (100, 48, 70, "rows", "rows"),
    "right packed by tasks": (40, 130, 150, "rows", "columns"),
    "right packed once": (300, 300, 200, "columns", "rows"),
    "right packed once, all panels in groups": (130, 512, 200, "columns", "rows"),
    "right packed once, several blocks of k and columns": (130, 1100, 300, "rows", "rows"),
    "left packed against conflicts": (40, 300, 100, "power of two", "rows"),
    "left packed, several blocks of k": (40, 700, 300, "power of two", "rows"),
    "neither contiguous": (50, 60, 70, "strided", "strided"),
    "left by lines": (700, 20, 400, "columns", "rows"),
    "left by blocks of k": (60, 300, 300, "columns", "rows"),
    "one row": (1, 600, 300, "rows", "rows"),
    "three rows, many columns": (3, 3000, 60, "rows", "rows"),
    "few rows, large right": (11, 700, 500, "rows", "rows"),
    "dots, narrow": (90, 5, 300, "rows", "rows"),
    "dots, flat": (7, 90, 300, "rows", "columns"),
    "dots, left copied": (6, 90, 300, "columns", "columns"),
    "column": (300, 1, 200, "columns", "rows"),
    "turned": (203, 5, 90, "columns", "rows"),
    "turned, tall": (20000, 5, 40, "columns", "rows"),
    "long k": (20, 24, 30000, "rows", "columns"),
    "long k, turned": (100, 5, 11000, "columns", "rows"),
    "long row": (1, 3000, 600, "rows", "rows"),
    "empty k": (5, 300, 0, "rows", "rows"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_paths(dtype, path):
    rows, columns, depth, *layouts = PATHS[path]
    f = family(dtype, "host", small_caches=True)
    rng = np.random.default_rng(1)
    for accumulate, workers in ((False, 1), (True, 3)):
        sizes = (1, rows, columns, depth)
        run_case(f, rng, sizes, layouts, accumulate=accumulate, workers=workers)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_panels_packed_together_are_those_packed_alone(dtype, name, side):
    f = family(dtype, name, True)
    tile = Tile.of(dtype, machine_named(name))
    width = tile.rows if side == "left" else tile.columns
    number, depth, size = tile.panels_beside(side), 11, f.dtype.itemsize
    rng = np.random.default_rng(9)
    source = rng.standard_normal((depth, number * width + 3)).astype(dtype)[::-1, 1:]
    panel = (depth + 5) * width * size
    together, alone = (np.full((number, depth + 5, width), -1, dtype) for _ in range(2))
    words = (ctypes.c_void_p, ctypes.c_int64)
    beside = f.function(tile.beside_name(side), *[words[i] for i in (0, 1, 1, 0, 1)])
    single = f.function(tile.pack_name(side), *[words[i] for i in (0, 1, 1, 1, 1, 0)])
    start, along = source.ctypes.data, source.strides[0]
    beside(start, along, depth, together.ctypes.data, panel)
    for i in range(number):
        target = alone.ctypes.data + i * panel
        single(start + i * width * size, size, along, width, depth, target)
    lines = source[:, : number * width].reshape(depth, number, width).swapaxes(0, 1)
    np.testing.assert_array_equal(together[:, :depth], lines)
    np.testing.assert_array_equal(together[:, depth:], -1)
    np.testing.assert_array_equal(together[:, :depth], alone[:, :depth])


def test_every_task_is_reached():
    f = Family("float32", dataclasses.replace(Machine.host(), **SMALL_CACHES))
    rng = np.random.default_rng(2)
    for rows, columns, depth, *layouts in PATHS.values():
        run_case(f, rng, (1, rows, columns, depth), layouts, workers=2)
    run_case(f, rng, (90, 30, 32, 31), ("rows", "rows"), workers=2)  # a batch of small products
    missed = [task for task, count in f.hits().items() if count == 0]
    assert not missed
    assert {"compute_tiles", "pack_panels", "combine_turned"} <= set(f.hits())


@pytest.mark.parametrize("name", MACHINES)
def test_more_rows_are_streamed_where_panels_are_narrow(name):
    f = Family("float64", machine_named(name))
    rng = np.random.default_rng(4)
    narrow = not Tile.of("float64", f.machine).long_runs
    for rows, streams in ((4, True), (24, narrow), (60, False)):
        before = f.hits()["compute_streams"]
        run_case(f, rng, (1, rows, 130, 600), ("rows", "rows"))
        assert (f.hits()["compute_streams"] > before) == streams


@pytest.mark.parametrize("dtype", DTYPES)
def test_workers_share_the_columns_of_few_rows(dtype):
    f = Family(dtype, Machine.host())
    rng = np.random.default_rng(3)

    def ranges(workers: int, sizes: tuple[int, int, int, int]) -> int:
        before = f.hits()["compute_streams"]
        run_case(f, rng, sizes, ("rows", "rows"), workers=workers)
        return f.hits()["compute_streams"] - before

    large = (1, 12, 1030, 400)
    assert [ranges(workers, large) for workers in (1, 2, 3)] == [1, 2, 3]
    assert ranges(3, (2, *large[1:])) == 4  # two for each product of a batch
    assert ranges(8, (1, 4, 600, 400)) == 1  # the work of one task


def hook_words(f: Family, rng, out) -> tuple[dict[str, int], np.ndarray, np.ndarray, list]:
    """Words for the epilogue, its second output and counts, and what must stay alive."""
    batches, rows, columns = out.shape
    assert rows * columns <= MOST_ELEMENTS
    bias = rng.standard_normal(columns).astype(f.dtype)
    second = np.zeros((batches, rows + 2, columns + 5), f.dtype)  # as the base of out
    visits = np.zeros((batches, MOST_ELEMENTS), np.int64)
    values = {
        "out": out.ctypes.data,
        "out_batch": out.strides[0],
        "second": second.ctypes.data,
        "bias": bias.ctypes.data,
        "visits": visits.ctypes.data,
        "out_row": out.strides[1],
        "columns": columns,
    }
    context = (ctypes.c_int64 * len(EPILOGUE))(*(values[name] for name in EPILOGUE))
    words = {
        "epilogue": f.address("test_epilogue"),
        "epilogue_context": ctypes.addressof(context),
    }
    keep = [context, bias, second]
    return words, second, visits, keep


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("path", [*PATHS, "small batch"])
def test_epilogue_visits_every_element_once(name, path):
    f = family("float32", name, small_caches=True)
    rng = np.random.default_rng(3)
    rows, columns, depth, *layouts = PATHS.get(path, (17, 40, 9, "rows", "rows"))
    batches = 3 if path == "small batch" else 1
    left = operand(rng, layouts[0], (batches, rows, depth), f.dtype)
    right = operand(rng, layouts[1], (batches, depth, columns), f.dtype)
    _, out = guarded_out(rng, (batches, rows, columns), f.dtype)
    before = out.astype(np.float64)
    words, second, visits, keep = hook_words(f, rng, out)
    f.multiply(left, right, out, 2, words | {"accumulate": 1})
    check(left, right, before, out)
    counts = visits[:, : rows * columns]
    np.testing.assert_array_equal(counts, np.ones_like(counts))
    inside = second.reshape(batches, -1)[:, : rows * (columns + 5)]
    inside = inside.reshape(batches, rows, columns + 5)[:, :, :columns]
    np.testing.assert_array_equal(inside, np.maximum(out + keep[1], 0))


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes",
    [(1, 30, 40, 20), (2, 70, 65, 130), (1, 400, 70, 150), (1, 13, 600, 300), (1, 1, 50, 9)],
)
@pytest.mark.parametrize("sides", [("left",), ("right",), ("left", "right")])
def test_own_packers(dtype, name, sizes, sides):
    f = family(dtype, name, small_caches=True)
    rng = np.random.default_rng(4)
    batches, rows, columns, depth = sizes
    arrays = {
        "left": operand(rng, "columns", (batches, rows, depth), f.dtype),
        "right": operand(rng, "strided", (batches, depth, columns), f.dtype),
    }
    words, keep = {}, []
    for side in sides:
        array = arrays[side]
        along, across = array.strides[1:] if side == "right" else array.strides[:0:-1]
        values = (array.ctypes.data, across, along, array.strides[0], 0)
        context = (ctypes.c_int64 * len(PACKER))(*values)
        keep.append(context)
        words[f"pack_{side}"] = f.address(f"test_pack_{side}")
        words[f"pack_{side}_context"] = ctypes.addressof(context)
        # The address and strides of an operand with a packer are not read.
        words |= {side: 0, f"{side}_row": 0, f"{side}_column": 0, f"{side}_batch": 0}
    _, out = guarded_out(rng, (batches, rows, columns), f.dtype)
    f.multiply(arrays["left"], arrays["right"], out, 2, words)
    squared = {side: a * a if side in sides else a for side, a in arrays.items()}
    check(squared["left"], squared["right"], None, out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_same_bits_for_any_number_of_workers(dtype, path):
    f = family(dtype, "host", small_caches=True)
    rng = np.random.default_rng(5)
    rows, columns, depth, *layouts = PATHS[path]
    left = operand(rng, layouts[0], (1, rows, depth), f.dtype)
    right = operand(rng, layouts[1], (1, depth, columns), f.dtype)
    results = []
    for workers in (1, 2, 5):
        out = np.empty((1, rows, columns), f.dtype)
        f.multiply(left, right, out, workers=workers)
        results.append(out.tobytes())
    assert results[0] == results[1] == results[2]


def test_concurrent_tasks():
    """Ranges that really run at the same time, each thread with its own worker number."""
    task_type = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
    )

    @ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p
    )
    def parallel_for(function, context, tasks, grain, workers, status):
        task = task_type(function)
        start = threading.Barrier(workers)

        def run(worker: int) -> None:
            start.wait()
            for begin in range(worker * grain, tasks, workers * grain):
                task(context, begin, min(begin + grain, tasks), worker)

        threads = [threading.Thread(target=run, args=(worker,)) for worker in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    address = ctypes.cast(parallel_for, ctypes.c_void_p).value
    arguments = "ptr %a, ptr %b, i64 %c, i64 %d, i64 %e, ptr %f"
    pool = STUB[: STUB.index("define void @graphc_parallel_for")] + (
        f"define void @graphc_parallel_for({arguments}) {{\n"
        f"  call void inttoptr (i64 {address} to ptr)({arguments})\n  ret void\n}}\n"
    )
    machine = dataclasses.replace(Machine.host(), **SMALL_CACHES)
    f = Family("float32", machine, pool=pool)
    rng = np.random.default_rng(6)
    for rows, columns, depth, *layouts in PATHS.values():
        run_case(f, rng, (1, rows, columns, depth), layouts, workers=3)
    for _ in range(5):  # tasks that use their worker's scratch for long enough to overlap
        run_case(f, rng, (1, 40, 6000, 150), ("rows", "columns"), workers=3)


@pytest.mark.parametrize("word", [0, 4], ids=["code", "cancel"])
def test_a_stopped_call_runs_no_task(word):
    f = family("float32", "host")
    status = (ctypes.c_int64 * 8)()
    status[word] = 5
    left, right = np.ones((1, 200, 100), "f4"), np.ones((1, 100, 200), "f4")
    out = np.full((1, 200, 200), 7, "f4")
    f.multiply(left, right, out, 2, {"status": ctypes.addressof(status)})
    assert (out == 7).all()
    status[word] = 0
    f.multiply(left, right, out, 2, {"status": ctypes.addressof(status)})
    assert (out == 100).all()


def test_nothing_to_do_touches_nothing():
    f = family("float32", "host")
    for sizes in ((0, 3, 3, 3), (1, 0, 3, 3), (1, 3, 0, 3)):
        batches, rows, columns, depth = sizes
        left, right = np.ones((batches, rows, depth)), np.ones((batches, depth, columns))
        f.multiply(left, right, np.empty((batches, rows, columns)), 1, {"left": 0, "out": 0})


def test_infinities_and_nan_stay_in_their_row():
    """Neither padding nor masks bring in terms that are not there."""
    f = family("float32", "host")
    left = np.ones((1, 25, 37), "f4")
    left[0, 3, 5], left[0, 20, 1] = np.inf, np.nan
    right = np.ones((1, 37, 43), "f4")
    out = np.empty((1, 25, 43), "f4")
    f.multiply(left, right, out)
    expected = np.full(out.shape, 37, "f4")
    expected[0, 3], expected[0, 20] = np.inf, np.nan
    np.testing.assert_array_equal(out, expected)


def lines(rng, way: str, count: int) -> np.ndarray:
    """Positions of `count` elements: in lines of some length, neighbours or apart there; or any."""
    if way == "any":
        return rng.permutation(3 * count + 1)[:count]
    step = {"neighbours": 1, "every other": 2, "apart": 50}[way]
    length = int(rng.integers(3, 40))
    places = np.arange(count)
    return places // length * (length * step + 3) + places % length * step


WAYS = st.sampled_from(("neighbours", "every other", "apart", "any"))


def offsets_context(held: dict[str, object]) -> ctypes.Array[ctypes.c_int64]:
    """What functions that tabulate offsets are given: addresses of arrays, and numbers."""
    context = (ctypes.c_int64 * len(OFFSETS))()
    for number, word in enumerate(OFFSETS):
        value = held.get(word, 0)
        context[number] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return context



@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.tuples(st.integers(1, 2), *[st.integers(1, 70)] * 2, st.integers(1, 200)),
    ways=st.tuples(WAYS, WAYS, WAYS, WAYS),
    sides=st.sampled_from((("left",), ("right",), ("left", "right"))),
    workers=st.integers(1, 3),
    small_caches=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_tables_of_offsets(dtype, name, sizes, ways, sides, workers, small_caches, seed):
    f = family(dtype, name, small_caches)
    rng = np.random.default_rng(seed)
    batches, rows, columns, depth = sizes
    size = f.dtype.itemsize
    left, right = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((batches, rows, depth), (batches, depth, columns))
    )
    words, held = {}, {"extents": rows, "columns": columns}
    for side, count, (across_way, along_way) in (
        ("left", rows, ways[:2]),
        ("right", columns, ways[2:]),
    ):
        along = lines(rng, along_way, depth)
        across = np.concatenate([lines(rng, across_way, count) for _ in range(batches)])
        if side not in sides:
            continue
        memory = rng.standard_normal(int(across.max() + along.max()) + 1).astype(dtype)
        seen = memory[across.reshape(batches, count, 1) + along]
        left, right = (seen, right) if side == "left" else (left, seen.transpose(0, 2, 1))
        for axis, table in (("across", across), ("along", along)):
            held[f"{side}_{axis}"] = table * size
            words[f"{side}_{axis}"] = f.address(f"test_{side}_{axis}")
        held[side] = memory
        words |= {side: memory.ctypes.data}
        words |= {f"{side}_{word}": 0 for word in ("row", "column", "batch")}
    context = offsets_context(held)
    words["offsets_context"] = ctypes.addressof(context)
    base, out = guarded_out(rng, (batches, rows, columns), f.dtype)
    original = base.copy()
    f.multiply(left, right, out, workers, words, tabled=True)
    check(left, right, None, out)
    outside = np.ones(base.shape, bool)
    outside[:, 1 : rows + 1, 2 : columns + 2] = False
    np.testing.assert_array_equal(base[outside], original[outside])


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.tuples(st.integers(1, 4), *[st.integers(1, 140)] * 2, st.integers(1, 200)),
    layouts=st.tuples(st.sampled_from(("rows", "columns")), st.sampled_from(("rows", "columns"))),
    sides=st.sampled_from((("left",), ("right",), ("left", "right"))),
    workers=st.integers(1, 3),
    small_caches=st.booleans(),
    wide=st.sampled_from((0, 3, 128)),
    seed=st.integers(0, 2**32 - 1),
)
def test_places_in_a_batch(dtype, name, sizes, layouts, sides, workers, small_caches, wide, seed):
    """Operands with no one stride along the batch, and rows with others between them."""
    f = family(dtype, name, small_caches)
    rng = np.random.default_rng(seed)
    batches, rows, columns, depth = sizes
    words, held, operands = {}, {"extents": 0}, {}
    shapes = {"left": (rows, depth), "right": (depth, columns)}
    for side, layout in zip(("left", "right"), layouts, strict=True):
        shape = shapes[side] if layout == "rows" else shapes[side][::-1]
        row = max(shape[1] + wide, wide and -(-shape[1] // wide) * wide)
        base = rng.standard_normal((batches, shape[0], row)).astype(dtype)[:, :, : shape[1]]
        base = base if layout == "rows" else base.transpose(0, 2, 1)
        operands[side] = base
        if side in sides:  # the products of the batch in another order
            order = rng.permutation(batches)
            operands[side] = base[order]
            strides = dict(zip(("batch", "row", "column"), base.strides, strict=True))
            words |= {f"{side}_{word}": stride for word, stride in strides.items()}
            words |= {f"{side}_batch": 0, side: base.ctypes.data}
            words[f"{side}_place"] = f.address(f"test_{side}_across")
            held[f"{side}_across"] = order * base.strides[0]
            held[f"_{side}"] = base
    context = offsets_context(held)
    words["offsets_context"] = ctypes.addressof(context)
    base, out = guarded_out(rng, (batches, rows, columns), f.dtype)
    original = base.copy()
    f.multiply(operands["left"], operands["right"], out, workers, words)
    check(operands["left"], operands["right"], None, out)
    outside = np.ones(base.shape, bool)
    outside[:, 1 : rows + 1, 2 : columns + 2] = False
    np.testing.assert_array_equal(base[outside], original[outside])


@pytest.mark.parametrize("name", PRESETS)
def test_rows_are_cut_whole_and_few_sums_are_never_alone(name):
    tile = Tile.of("float32", Machine.preset(name))
    for rows, packed in itertools.product(range(1, 60), (False, True)):
        cuts = list(tile.cut_rows(rows, packed=packed))
        ends = [first + height * count for height, first, count in cuts]
        assert [first for _, first, _ in cuts] == [0, *ends[:-1]] and ends[-1] == rows
        lowest = min(height for height, *_ in cuts)
        if tile.rows == 6 and rows > 6 and not packed:
            assert lowest >= 3 or rows % 6 == 5  # 4 and 1: nothing is better
        if packed:
            assert all(first % tile.rows == 0 for height, first, _ in cuts if height == tile.rows)


@pytest.mark.parametrize("name", MACHINES)
def test_only_reachable_kernels_are_needed(name):
    machine = machine_named(name)
    none = frozenset()
    shapes = [(64, 64, 64, none), (128, 10, 512, none), (100, 1, 60, none)]
    shapes += [(3, 80, 40, none), (7, 65, 600, none), (12, 640, 900, none)]
    shapes += [(23, 72, 600, none)]
    rng = np.random.default_rng(7)
    everything = len(gemm.modules("float32", machine))
    for shape in shapes:
        f = Family("float32", machine, shapes=[shape])
        assert len(f.modules) < everything
        rows, columns, depth, _ = shape
        for layouts in itertools.product(("rows", "columns"), repeat=2):
            run_case(f, rng, (1, rows, columns, depth), layouts)
    symbolic = gemm.modules("float32", machine, [(dim("n"), 10, 10, none)])
    tabled = gemm.modules("float32", machine, [(dim("n"), 10, 10, frozenset(("left", "right")))])
    assert len(symbolic) < len(tabled) == everything


def test_modules_state_their_symbols():
    exported: set[str] = set()
    for name, text, exports, imports, level in gemm.modules("float64", Machine.host()):
        assert set(imports) <= exported | {"graphc_parallel_for"}, name
        module = llvm.parse_assembly(text)
        defined = {
            f.name
            for f in module.functions
            if not f.is_declaration and f.linkage == llvm.Linkage.external
        }
        assert defined == set(exports)
        assert level in (0, 1, 2)
        exported |= set(exports)
    assert gemm.entry_name("float64") in exported


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PRESETS)
def test_presets_compile(dtype, name):
    """Code for other processors is emitted, calls no library, and keeps the full tile in registers.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = Machine.preset(name)
    tile = Tile.of(dtype, machine)
    full = tile.kernel_name(tile.rows, tile.vectors)
    stack = {"aarch64": r"\[sp", "x86_64": r"\(%rsp\)"}[machine.triple.split("-")[0]]
    for symbol, text, _, imports, level in gemm.modules(dtype, machine):
        target = llvm.Target.from_triple(machine.triple).create_target_machine(
            cpu=machine.cpu, features=machine.features, opt=level
        )
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = machine.triple, str(target.target_data)
        assembly = target.emit_assembly(module)
        called = set(re.findall(r"^\s+(?:callq?|bl)[ \t]+([A-Za-z_]\w*)", assembly, re.M))
        internal = {f.name for f in module.functions if not f.is_declaration}
        assert called <= set(imports) | internal, symbol
        if symbol == full:
            blocks = re.split(r"^\.L", assembly, flags=re.M)
            loop = max(blocks, key=lambda block: len(re.findall("fmla|fmadd|mulp", block)))
            loop = re.split(r"^\s+(?:j[a-z]+|b\.[a-z]+)\s", loop, maxsplit=1, flags=re.M)[0]
            assert not re.search(stack, loop), f"{symbol} spills in its loop"


def test_workspace_of_symbolic_extents():
    m, n, k, b = (dim(name) for name in "mnkb")
    machine = Machine.host()
    symbolic = gemm.workspace(m, n, k, b, "float32", machine, 2)
    for values in ((1, 1, 1, 1), (128, 512, 784, 1), (5000, 3000, 2000, 1), (16, 10, 70000, 1)):
        bound = evaluate(symbolic, dict(zip("mnkb", values, strict=True)))
        exact = gemm.workspace(*values, "float32", machine, 2)
        assert isinstance(exact, int)
        assert exact <= bound <= 64 * 1024 * KIB


def test_workspace_holds_all_partial_sums():
    f = family("float32", "host", small_caches=True)
    sizes = (1, 120, 130, 9000)
    run_case(f, np.random.default_rng(9), sizes, ("columns", "rows"), workers=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_product(dtype):
    """Real block sizes: several blocks of k, and a right operand beyond the second level."""
    f = family(dtype, "host")
    rng = np.random.default_rng(8)
    left = rng.standard_normal((1, 300, 1100)).astype(f.dtype)
    right = rng.standard_normal((1, 1100, 700)).astype(f.dtype)
    out = np.empty((1, 300, 700), f.dtype)
    f.multiply(left, right, out, workers=2)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    terms = np.abs(left).astype(np.float64) @ np.abs(right)
    assert (np.abs(out - exact) <= 80 * np.finfo(f.dtype).eps * terms).all()


def test_tiles_follow_from_registers():
    shapes = {name: Tile.of("float32", machine) for name, machine in PRESETS.items()}
    assert {name: (tile.rows, tile.columns) for name, tile in shapes.items()} == {
        "sse2": (6, 8),
        "avx2": (6, 16),
        "avx512": (12, 32),
        "neon": (8, 12),
    }
    assert TILE_TYPES.count("ptr") == 5


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_of_out_is_stored_once_for_several_of_right(name):
    tile = Tile.of("float32", Machine.preset(name))
    for rows in STREAM_ROWS:
        text = Module([stream_kernel(tile, rows)]).text
        terms = len(re.findall(rf"call <{tile.vector.lanes} x float> @llvm.fm", text))
        loops = 2 if tile.machine.has_masks else 1  # the columns that fill no vector have their own
        assert terms // (loops * rows) - 1 >= STREAM_DEPTH[0]  # one more loop takes single rows
