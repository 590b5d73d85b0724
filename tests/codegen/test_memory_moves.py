"""Does memory arrive where it belongs when tiles are turned in registers, or go past the caches?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm.shuffles import exchanges, interleavings
from graphc.codegen.llvm.turned import block_side, routine
from graphc.codegen.machine import PRESETS, Machine
from graphc.runtime import printing

OPTIONS = gx.Options(threads=2, cache=False)
# Whole tiles and blocks, one element more or less, fewer than a block of registers.
EXTENTS = [(1024, 64), (1025, 65), (1023, 127), (9, 7282), (7282, 9), (300, 3, 100)]


def random_array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    bits = np.random.default_rng(5).integers(0, 2, shape, "i8")
    numbers = np.arange(bits.size).reshape(shape) % 127
    return bits.astype(dtype) if dtype == "bool" else numbers.astype(dtype)


DTYPES = ["bool", "int16", "float16", "float64"]


def _texts_for(other: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of each kernel that is compiled from now on, the text for another machine, as it comes."""
    texts: list[str] = []
    print_kernel = printing.kernel_text

    def kept(kernel: Any, machine: Machine) -> Any:
        texts.append(print_kernel(kernel, other).text)
        return print_kernel(kernel, machine)

    monkeypatch.setattr(printing, "kernel_text", kept)
    return texts


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("float32", shape) for shape in EXTENTS] + [(dtype, EXTENTS[1]) for dtype in DTYPES],
)
def test_a_transpose_of_any_extents(dtype: str, shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", shape, dtype)
    turned = gx.compile(x, gx.transpose(x).copy(), options=OPTIONS)
    array = random_array(shape, dtype)
    np.testing.assert_array_equal(turned(array), array.T)
    np.testing.assert_array_equal(turned(np.asfortranarray(array)), array.T)


def test_tiles_are_turned_where_the_loop_reads_across_rows() -> None:
    x = gx.symbol("x", ("n", "m"), "float32")
    compiled = gx.compile(x, x.T * 2, options=OPTIONS)
    assert "@turn4x" in compiled.llvm_ir and "gather" not in compiled.llvm_ir
    assert "read across rows: tiles of 128 lanes by 1024" in str(compiled.report())
    for shape in ((1, 1), (3, 70), (70, 3), (64, 64), (65, 129), (0, 5), (5, 0)):
        array = random_array(shape, "float32")
        np.testing.assert_array_equal(compiled(array), array.T * 2)


def test_tiles_are_narrow_where_rows_crowd_in_a_cache() -> None:
    for columns, lanes in ((1000, 128), (4096, 64), (32768, 32)):
        x = gx.symbol("x", (256, columns), "float32")
        report = str(gx.compile(x, x.T * 2, options=OPTIONS).report())
        assert f"tiles of {lanes} lanes by 1024" in report
    x, y = gx.symbol("x", (256, 4096), "float32"), gx.symbol("y", (4096, 256), "float32")
    assert "tiles of 128 lanes by" in str(gx.compile([x, y], x.T + y, options=OPTIONS).report())


@pytest.mark.parametrize("shape", [(64, 64), (100, 41), (8, 520), (520, 8), (16, 16, 16)])
def test_arrays_of_some_thousand_elements_are_turned(shape: tuple[int, ...]) -> None:
    """In the first cache as well: a gather loads each element by itself."""
    axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    for dtype in ("uint8", "float16", "float32", "float64"):
        x = gx.symbol("x", shape, dtype)
        compiled = gx.compile(x, gx.transpose(x, axes).copy(), options=OPTIONS)
        assert "@turn" in compiled.llvm_ir
        array = random_array(shape, dtype)
        np.testing.assert_array_equal(compiled(array), np.transpose(array, axes))
    x = gx.symbol("x", (60, 60), "float32")
    assert "@turn" not in gx.compile(x, x.T * 2, options=OPTIONS).llvm_ir


@pytest.mark.parametrize("columns", [2, 3, 4, 7])
def test_few_rows_are_read_as_streams(columns: int) -> None:
    """Coordinates that become points are not turned, however many they are."""
    for shape, order in (((columns, 30_000), (1, 0)), ((5, columns, 6_000), (0, 2, 1))):
        x = gx.symbol("x", shape, "float32")
        compiled = gx.compile(x, gx.transpose(x, order) * 2, options=OPTIONS)
        assert "@turn" not in compiled.llvm_ir
        array = random_array(shape, "float32")
        np.testing.assert_array_equal(compiled(array), np.transpose(array, order) * 2)
    x = gx.symbol("x", (columns, 100, 200), "float32")  # a row apart, rows of others in between
    compiled = gx.compile(x, gx.transpose(x, (2, 1, 0)).copy(), options=OPTIONS)
    assert "@turn" in compiled.llvm_ir
    array = random_array((columns, 100, 200), "float32")
    np.testing.assert_array_equal(compiled(array), np.transpose(array, (2, 1, 0)))


def test_pieces_are_loops_of_their_own_rather_than_tiles() -> None:
    """Unless they are so large that lines of memory would be read again and again."""
    x, y = gx.symbol("x", (300, 300), "float32"), gx.symbol("y", (300, 300), "float32")
    a, b = random_array((300, 300), "float32"), random_array((300, 300), "float32")[::-1]
    joined = gx.compile([x, y], gx.concatenate([x.T, y], axis=1), options=OPTIONS)
    padded = gx.compile(x, gx.pad(x.T, 1), options=OPTIONS)
    assert not any("select" in kernel.text() for kernel in (*joined.kernels, *padded.kernels))
    np.testing.assert_array_equal(joined(a, b), np.concatenate([a.T, b], axis=1))
    np.testing.assert_array_equal(padded(a), np.pad(a.T, 1))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_less_than_a_block_is_turned_with_the_strip_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where blocks have no masks: a strip of 16 may have 7 more, in blocks of 8."""
    texts = _texts_for(PRESETS[name], monkeypatch)
    x = gx.symbol("x", (100, 100), "float32")
    compiled = gx.compile(x, x.T * 2, options=OPTIONS)
    side = min(16, PRESETS[name].vector_bytes // 4)
    most = 16 if PRESETS[name].has_masks else 16 + side - 1
    assert re.search(rf"icmp sle i64 %\w+, {most}$", texts[0], re.MULTILINE)
    array = random_array((100, 100), "float32")
    np.testing.assert_array_equal(compiled(array), array.T * 2)


@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
def test_strips_end_with_lines_wherever_an_array_starts(dtype: str) -> None:
    x, y = gx.symbol("x", ("n", "m"), dtype), gx.symbol("y", ("n", "m"), "float32")
    compiled = gx.compile([x, y], [x.T * 2, x.T + y.T], options=OPTIONS)
    for shape in ((300, 300), (70, 1025), (1025, 7), (3, 40)):
        whole = random_array((shape[0] * shape[1] + 64,), dtype)
        other = random_array(shape, "float32")
        for first in (0, 1, 5, 15, 16, 63):
            array = whole[first : whole.size - 64 + first].reshape(shape)
            for got, wanted in zip(compiled(array, other), [array.T * 2, array.T + other.T],
                                   strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_turned_reads_beside_others_and_several_at_once() -> None:
    x, y = gx.symbol("x", (300, 300)), gx.symbol("y", (300, 300))
    bias = gx.symbol("b", (300,))
    built = [x + x.T, gx.where(y.T > 50, x, y.T) + bias, gx.exp(-x.T) * y]
    a, c = random_array((300, 300), "f8"), np.arange(300.0)
    b = a[::-1] * 2
    got = gx.compile([x, y, bias], built, options=OPTIONS)(a, b, c)
    wanted = [a + a.T, np.where(b.T > 50, a, b.T) + c, np.exp(-a.T) * b]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_a_donated_array_is_turned_before_it_is_overwritten() -> None:
    x = gx.symbol("x", (257, 257))
    compiled = gx.compile(x, x.T + 1, options=OPTIONS, donate=[x])
    array = random_array((257, 257), "f8")
    wanted = array.T + 1
    np.testing.assert_array_equal(compiled(array), wanted)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_axes_of_a_cube_change_places(order: tuple[int, ...]) -> None:
    x = gx.symbol("x", (40, 50, 60), "float32")
    array = random_array((40, 50, 60), "float32")
    compiled = gx.compile(x, gx.transpose(x, order) * 2, options=OPTIONS)
    np.testing.assert_array_equal(compiled(array), np.transpose(array, order) * 2)


def test_axes_that_lie_together_are_read_as_one() -> None:
    x = gx.symbol("x", (3, 40, 20, 31), "float32")
    plane, line = gx.symbol("p", (20, 31, 1), "float32"), gx.symbol("l", (20, 1, 1), "float32")
    last = gx.transpose(x, (0, 2, 3, 1))
    built = {"whole": last * 2, "plane": last + plane, "line": last * line}
    given = [random_array(symbol.shape, "float32") for symbol in (x, plane, line)]
    turned = given[0].transpose(0, 2, 3, 1)
    wanted = {"whole": turned * 2, "plane": turned + given[1], "line": turned * given[2]}
    for name, value in built.items():
        compiled = gx.compile([x, plane, line], value, options=OPTIONS)
        # a line of a plane is one element: rows of it are no rows of what is read beside
        assert f"transpose: {60 if name == 'line' else 3} tasks" in str(compiled.report())
        np.testing.assert_array_equal(compiled(*given), wanted[name])


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(30011, 3), (4, 8200, 4), (70001, 2), (70001, 1)])
def test_short_rows_are_read_once_for_all_their_elements(
    dtype: str, shape: tuple[int, ...]
) -> None:
    x = gx.symbol("x", shape, dtype)
    turned = gx.swapaxes(x, -1, -2)
    compiled = gx.compile(x, gx.where(turned > 1, turned, turned), options=OPTIONS)
    assert ("rows in turns of" in str(compiled.report())) == (shape[-1] > 1)
    array = random_array(shape, dtype)
    np.testing.assert_array_equal(compiled(array), array.swapaxes(-1, -2))


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("rows", [64, 5])
def test_blocks_fit_into_registers(name: str, size: int, rows: int) -> None:
    machine = PRESETS[name]
    text, _ = routine(size, block_side(size, rows, machine), machine)
    widths = {int(n) * int(bits) // 8 for n, bits in re.findall(r"<(\d+) x i(\d+)> %", text)
              if bits != "1"}
    loaded = len(set(re.findall(r"(%r\d+) = (?:load|call)", text)))
    assert loaded <= machine.vector_registers and max(widths) <= machine.vector_bytes
    assert ("masked" in text) == machine.has_masks


@pytest.mark.parametrize("steps", [exchanges, interleavings])
@pytest.mark.parametrize(("count", "width"), [(2, 2), (4, 4), (4, 8), (16, 16), (8, 16), (2, 4)])
def test_steps_transpose_squares_side_by_side(steps: Callable, count: int, width: int) -> None:
    rows = [[(row, column) for column in range(width)] for row in range(count)]
    for step in steps(count, width):
        changed = list(rows)
        for place, (first, second), picks in step:
            both = rows[first] + rows[second]
            changed[place] = [both[i] for i in picks]
        rows = changed
    wanted = [
        [(column % count, column // count * count + row) for column in range(width)]
        for row in range(count)
    ]
    assert rows == wanted


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_what_is_written_asks_for_the_next_strip(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a register holds no whole line: each iteration for its share of the lines."""
    texts = _texts_for(PRESETS[name], monkeypatch)
    x = gx.symbol("x", (300, 1000), "float32")
    gx.compile(x, x.T * 2, options=OPTIONS)
    text = texts[0]
    llvm.parse_assembly(text).verify()
    turning, kernel = text.split("define internal void @turn4x", 1)[1].split("\n}\n", 1)
    within, after = (part.count("call void @llvm.prefetch") for part in (turning, kernel))
    assert (within, after) == ((16, 0) if PRESETS[name].has_masks else (0, 128 // 16))
    if not PRESETS[name].has_masks:  # the line in which the next strip of a row ends
        assert re.search(r"getelementptr i8, ptr %\w+, i64 127$", kernel, re.MULTILINE)


@pytest.mark.parametrize("name", ["sse2", "avx2"])
@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
def test_blocks_without_masks(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are moved back from the edge, and what is smaller is turned one by one."""
    host = Machine.host()
    if name == "avx2" and host.vector_bytes < 32 or not host.triple.startswith("x86_64"):
        pytest.skip(f"this machine has no {name}")
    machine = dataclasses.replace(PRESETS[name], triple=host.triple)
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    x = gx.symbol("x", ("n", "m"), dtype)
    compiled = gx.compile(x, gx.transpose(x) * 2, options=OPTIONS)
    for shape in ((1, 1), (3, 70), (70, 3), (64, 64), (65, 129), (17, 31), (0, 5)):
        array = random_array(shape, dtype)
        np.testing.assert_array_equal(compiled(array), array.T * array.dtype.type(2))


# -- past the caches -------------------------------------------------------------------------------


@pytest.fixture
def small_caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A last cache of 16 KiB, and one of 8 before it: arrays beyond them take no time."""
    machine = dataclasses.replace(Machine.host(), l2=1 << 13, l3=1 << 14)
    monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    yield


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", ["bool", "int16", "float32", "float64"])
def test_large_results_go_past_the_caches(dtype: str) -> None:
    x = gx.symbol("x", ("n",), dtype)
    compiled = gx.compile(x, gx.where(x > 1, x, x[::-1]), options=OPTIONS)
    # As many bools as are compared at once fill a vector that can be written so on AVX-512 only.
    if dtype != "bool" or Machine.host().has_masks:
        assert "!nontemporal" in compiled.llvm_ir and "fence" in compiled.llvm_ir
    for count in (0, 1, 1000, 1 << 14, 50_001):
        array = random_array((count,), dtype)
        wanted = np.where(array > 1, array, array[::-1])
        np.testing.assert_array_equal(compiled(array), wanted)
        room = np.empty(count + 3, dtype)[3:]  # not at the start of a line
        compiled(array, out=room)
        np.testing.assert_array_equal(room, wanted)


@pytest.mark.usefixtures("small_caches")
def test_rows_of_any_length_go_past_the_caches() -> None:
    for columns in (64, 100, 1029):
        x, row = gx.symbol("x", (60, columns), "float32"), gx.symbol("r", (columns,), "float32")
        compiled = gx.compile([x, row], [x + row, x * 2], options=OPTIONS)
        a, b = random_array((60, columns), "float32"), random_array((columns,), "float32")
        for got, wanted in zip(compiled(a, b), [a + b, a * 2], strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("name", ["sse2", "avx2", "host"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "float64"])
def test_lanes_that_are_off_gather_a_stand_in(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is out of range is reported, and elements beyond the last one are not touched."""
    host = Machine.host()
    if name != "host":
        if name == "avx2" and host.vector_bytes < 32 or not host.triple.startswith("x86_64"):
            pytest.skip(f"this machine has no {name}")
        machine = dataclasses.replace(PRESETS[name], triple=host.triple)
        monkeypatch.setattr(Machine, "host", staticmethod(lambda: machine))
    x, i = gx.symbol("x", ("n",), dtype), gx.symbol("i", ("m",), "int64")
    compiled = gx.compile([x, i], gx.take(x, i, axis=0), options=OPTIONS)
    if not Machine.host().has_masks:
        gathers = re.findall(r"call [^\n]*@llvm.masked.gather[^\n]*", compiled.llvm_ir)
        assert gathers and all("splat (i1 true)" in gather for gather in gathers)
    for length in (1, 7, 30, 1000):
        array = random_array((length,), dtype)
        for many in (0, 1, 5, 64, 77):
            places = np.arange(many) * 31 % (2 * length) - length
            np.testing.assert_array_equal(compiled(array, places), array[places])
            for wrong in (length, -length - 1, 1 << 60):
                if many:
                    with pytest.raises(IndexError):
                        compiled(array, np.where(places == places[-1], wrong, places))
    np.testing.assert_array_equal(compiled(array[:0], places[:0]), array[:0])


@pytest.mark.parametrize("columns", [4, 8, 24, 100])
def test_lines_that_several_rows_share_are_written_through_the_caches(columns: int) -> None:
    """One part of a line past the caches and the other through them takes 90 times as long."""
    x, row = gx.symbol("x", (3000, columns), "float32"), gx.symbol("r", (columns,), "float32")
    compiled = gx.compile([x, row], x + row, options=OPTIONS)
    assert "!nontemporal" not in compiled.llvm_ir
    a, b = random_array((3000, columns), "float32"), random_array((columns,), "float32")
    np.testing.assert_array_equal(compiled(a, b), a + b)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("columns", [256, 260])
def test_rows_that_are_added_up_go_past_the_caches_too(columns: int) -> None:
    """As all arrays of the kernel together do not fit; passes over a row ask for the next one."""
    shape = (300, columns)
    x, gain = gx.symbol("x", shape), gx.symbol("g", shape[1:])
    y = (x - x.mean(1, keepdims=True)) * gain
    outputs = [y, *gx.vjp(gx.sum(y * y, axis=1), [x, gain], gx.ones(300))]
    compiled = gx.compile([x, gain], outputs, options=OPTIONS)
    assert "!nontemporal" in compiled.llvm_ir and "@llvm.prefetch" in compiled.llvm_ir
    a, b = random_array(shape, "float64"), random_array(shape[1:], "float64")
    wanted = gx.compile([x, gain], outputs, target="interpret")(a, b)
    for got, each in zip(compiled(a, b), wanted, strict=True):
        np.testing.assert_allclose(got, each, rtol=1e-12, atol=1e-10)


@pytest.mark.usefixtures("small_caches")
def test_small_or_masked_or_reread_results_stay_in_the_caches() -> None:
    x = gx.symbol("x", (100,), "float32")
    y = gx.symbol("y", ("n",), "float32")
    for built, symbols in ((x + 1, x), (gx.cumsum(y), y), (gx.sum(y), y)):
        assert "!nontemporal" not in gx.compile(symbols, built, options=OPTIONS).llvm_ir


# -- places that data decides ----------------------------------------------------------------------


@pytest.mark.usefixtures("small_caches")
def test_rows_are_gathered_from_in_any_order() -> None:
    x, i = gx.symbol("x", (50, 300), "float32"), gx.symbol("i", (291,), "int64")
    taken = gx.compile([x, i], gx.take(x, i, axis=1), options=OPTIONS)
    assert "@llvm.prefetch" in taken.llvm_ir
    array = random_array((50, 300), "float32")
    places = np.random.default_rng(6).integers(-300, 300, 291)
    np.testing.assert_array_equal(taken(array, places), array[:, places])
    places[290] = 300
    with pytest.raises(IndexError):
        taken(array, places)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("size", [9000, "n"])
@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
def test_elements_from_anywhere_are_asked_for(size: int | str, dtype: str) -> None:
    """Whatever says where they are, and however many there are of both."""
    x, i = gx.symbol("x", (size,), dtype), gx.symbol("i", ("m",), "int64")
    k = gx.symbol("k", ("m",), "int32")
    built = [gx.take(x, i, axis=0), gx.take(x, i // 2 + k, axis=0) * 2]
    taken = gx.compile([x, i, k], built, options=OPTIONS)
    assert "@llvm.prefetch" in taken.llvm_ir
    generator = np.random.default_rng(6)
    array = random_array((9000,), dtype)
    for count in (0, 1, 63, 64, 65, 200, 9001):
        places, more = generator.integers(-9000, 9000, count), generator.integers(0, 9, count, "i4")
        places = np.where(places // 2 + more >= 9000, 0, places)
        for got, wanted in zip(taken(array, places, more),
                               [array[places], array[places // 2 + more] * array.dtype.type(2)],
                               strict=True):
            np.testing.assert_array_equal(got, wanted)
        if count:
            places[-1] = 9000
            with pytest.raises(IndexError):
                taken(array, places, more)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
@pytest.mark.parametrize("columns", [3, 8, 16, 33, 300])
def test_rows_from_anywhere_are_asked_for(columns: int, dtype: str) -> None:
    """However long they are, whatever says where they are, at both ends of both arrays."""
    x, i = gx.symbol("x", (9000, columns), dtype), gx.symbol("i", ("m",), "int64")
    k = gx.symbol("k", ("m",), "int32")
    later = gx.take(x[:, 1:], i // 2 + k, axis=0) + x[:, 1:][5]
    built = [gx.take(x, i, axis=0), later]
    taken = gx.compile([x, i, k], built, options=OPTIONS)
    assert "@llvm.prefetch" in taken.llvm_ir
    generator = np.random.default_rng(6)
    array = random_array((9000, columns), dtype)
    for count in (0, 1, 31, 32, 33, 700):
        places, more = generator.integers(-9000, 9000, count), generator.integers(0, 9, count, "i4")
        places = np.where(places // 2 + more >= 9000, 0, places)
        wanted = array[places], array[places // 2 + more][:, 1:] + array[5, 1:]
        for got, each in zip(taken(array, places, more), wanted, strict=True):
            np.testing.assert_array_equal(got, each)
        for bad in (9000, -9001) if count else ():
            places[-1] = bad
            with pytest.raises(IndexError):
                taken(array, places, more)


@pytest.mark.usefixtures("small_caches")
def test_a_row_is_asked_for_before_its_place_is_reached() -> None:
    """What is asked for is made of another place than what is read: some rows on, or the last."""
    x, i = gx.symbol("x", (900, 256), "float32"), gx.symbol("i", (700,), "int64")
    text = gx.compile([x, i], gx.take(x, i, axis=0), options=OPTIONS).llvm_ir
    (later,) = re.findall(r"(%\S+) = add i64 %p\d+_\d+, 4\n", text)
    assert re.search(rf"call i64 @llvm.smin.i64\(i64 {later}, i64 %\S+\)", text)
    bags = gx.sum(gx.take(x, gx.reshape(i, (70, 10)), axis=0), axis=1)
    array, places = random_array((900, 256), "float32"), np.arange(700) * 7 % 900
    got = gx.compile([x, i], bags, options=OPTIONS)(array, places)
    np.testing.assert_allclose(got, array[places.reshape(70, 10)].sum(1), rtol=1e-5, atol=1e-5)


def test_elements_of_what_fits_into_a_cache_are_not_asked_for() -> None:
    x, i = gx.symbol("x", (500,), "float32"), gx.symbol("i", ("m",), "int64")
    assert "@llvm.prefetch" not in gx.compile([x, i], gx.take(x, i, axis=0)).llvm_ir


# -- pieces of rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [64, 4096, 4100, 9000])
def test_views_of_several_pieces_are_written_piece_by_piece(columns: int) -> None:
    x = gx.symbol("x", (9, columns), "float32")
    built = [
        gx.pad(x, ((2, 2), (3, 5)), mode="reflect"),
        gx.pad(x, ((0, 1), (1, 0)), constant_values=7),
        gx.roll(x, 5, axis=1) + x,
        gx.concatenate([x, x[:, ::-1], x * 2], axis=1),
        gx.concatenate([x[:, :40], x[:, 2:]], axis=1),
    ]
    array = random_array((9, columns), "float32")
    wanted = [
        np.pad(array, ((2, 2), (3, 5)), mode="reflect"),
        np.pad(array, ((0, 1), (1, 0)), constant_values=7),
        np.roll(array, 5, axis=1) + array,
        np.concatenate([array, array[:, ::-1], array * 2], axis=1),
        np.concatenate([array[:, :40], array[:, 2:]], axis=1),
    ]
    for one, other in zip(gx.compile(x, built, options=OPTIONS)(array), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_long_row_is_written_piece_by_piece() -> None:
    x = gx.symbol("x", (10_000,))
    rolled = gx.compile(x, gx.roll(x, 4321), options=OPTIONS)
    assert "llvm.masked.gather" not in rolled.llvm_ir
    array = np.random.default_rng(4).random(10_000)
    np.testing.assert_array_equal(rolled(array), np.roll(array, 4321))


# -- rows that are reduced -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1024, 1030, 2047])
@pytest.mark.parametrize("axes", [0, (0, 1)])
def test_columns_are_reduced_rows_at_a_time(rows: int, axes: int | tuple[int, int]) -> None:
    shape = (rows, 300) if axes == 0 else (rows // 2, 3, 300)
    x = gx.symbol("x", shape)
    built = [gx.sum(x, axis=axes), gx.max(x, axis=axes), gx.min(x * x, axis=axes)]
    array = np.random.default_rng(rows).standard_normal(shape)
    array[5, ..., 7] = np.nan
    got = gx.compile(x, built, options=OPTIONS)(array)
    wanted = [array.sum(axes), array.max(axes), (array * array).min(axes)]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("small_caches")
def test_short_pieces_of_rows_are_asked_for_ahead() -> None:
    x = gx.symbol("x", (200, 140, 64), "float32")
    summed = gx.compile(x, gx.sum(x, axis=(0, 2)), options=OPTIONS)
    assert "@llvm.prefetch" in summed.llvm_ir
    array = np.random.default_rng(3).random((200, 140, 64), "f4")
    np.testing.assert_allclose(summed(array), array.sum((0, 2), "f8"), rtol=1e-5)


def test_what_follows_is_asked_for_where_much_is_computed() -> None:
    """Also of arrays that fit into caches: they may be steps of larger ones."""
    x = gx.symbol("x", (40, 96), "float32")
    parts = gx.split(x, 3, axis=1)
    heavy = gx.compile(x, gx.tanh(parts[0]) * gx.tanh(parts[1]) + gx.tanh(parts[2]))
    light = gx.compile(x, parts[0] * parts[1] + parts[2])
    assert "@llvm.prefetch" in heavy.llvm_ir and "@llvm.prefetch" not in light.llvm_ir
    array = random_array((40, 96), "float32")
    one, two, three = np.split(array, 3, axis=1)
    wanted = np.tanh(one) * np.tanh(two) + np.tanh(three)
    np.testing.assert_allclose(heavy(array), wanted, rtol=1e-6, atol=1e-6)


def test_what_an_epilogue_reads_is_asked_for_before() -> None:
    """Rows beside the product, in any dtype; not what is the same for all rows."""
    x, w = gx.symbol("x", (330, 270), "float32"), gx.symbol("w", (270, 290), "float32")
    v, row = gx.symbol("v", (330, 290), "float64"), gx.symbol("row", (290,), "float32")
    product = x @ w
    compiled = gx.compile([x, w, v], [v - product, product > 0, product])
    biased = gx.compile([x, w, row], product + row)
    assert "_warm(" in compiled.llvm_ir and "_warm" not in biased.llvm_ir
    arrays = [random_array(s.shape, str(s.dtype)) for s in (x, w, v)]
    sums = arrays[0] @ arrays[1]
    difference, positive, given = compiled(*arrays)
    np.testing.assert_allclose(given, sums, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(difference, arrays[2] - given)
    np.testing.assert_array_equal(positive, given > 0)


@pytest.mark.parametrize(("width", "over"), [(10, False), (16, True)])
def test_short_rows_are_not_written_over_others(width: int, over: bool) -> None:
    """Lanes masked off at the end of a row would hold up the load of the next one."""
    x = gx.symbol("x", (5, 64, width), "float64")
    factors = gx.symbol("factors", (5, width, width), "float64")
    made = x @ factors
    shares = gx.softmax(gx.sum(made, axis=2), axis=0)
    shared = gx.expand_dims(shares, 2) * made
    outputs = [gx.sum(shared, axis=1), gx.swapaxes(shared, 1, 2) @ x]
    launches = gx.compile([x, factors], outputs)._impl.program.launches()
    (launch,) = (each for each in launches if each.kernel.title == "multiply_sum")
    read, _, written, _ = launch.operands
    assert read.storage.shape == written.storage.shape == x.shape
    assert (read.storage.offset == written.storage.offset) is over
