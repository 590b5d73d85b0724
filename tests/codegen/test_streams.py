"""Is a long reduction read in several streams at once, and is it the same number?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen import tactics
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import For, walk

FRESH = gx.Options(cache=False)


def loops_of(f: Any) -> list[For]:
    return [s for kernel in f.kernels for s in walk(kernel.body) if isinstance(s, For)]


def streams(expression: Any, *symbols: Any) -> int:
    """The accumulators of the loop that has the most."""
    f = gx.compile(list(symbols), expression, options=FRESH)
    return max(len(loop.accumulators) for loop in loops_of(f))


def test_what_only_reads_reads_in_four_streams() -> None:
    x = gx.symbol("x", (300_000,), "float32")
    rows = gx.symbol("rows", (700, 500), "float64")
    assert streams(gx.sum(x), x) == 4
    assert streams(gx.max(abs(rows)), rows) == 4
    many = 4 if Machine.host().has_masks else 8  # two or four of two: as there are registers
    assert streams([gx.sum(x), gx.sum(x * x)], x) == many
    assert streams(gx.sum(gx.exp(x)), x) == 1  # waits for arithmetic


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("extent", [65_537, 73_728, 98_309, 262_144])
def test_pieces_and_what_is_left_are_everything(dtype: str, extent: int) -> None:
    values = (np.arange(extent) % 97 - 40).astype(dtype)
    x = gx.symbol("x", (extent,), dtype)
    f = gx.compile([x], [gx.sum(x), gx.max(x), gx.min(x * x)], options=FRESH)
    alone = gx.compile([x], gx.sum(x), options=FRESH)
    assert float(alone(values)) == float(np.sum(values, dtype=np.float64))
    assert [float(r) for r in f(values)] == [float(alone(values)), 56.0, 0.0]
    for place in (0, extent // 3, extent - 1):
        values[place] += 1000
        assert float(alone(values)) == float(np.sum(values, dtype=np.float64))


@pytest.mark.parametrize("parts", [8, 9, 12, 31, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_streams_that_go_on_in_the_next_part_read_every_element_once(
    dtype: str, parts: int
) -> None:
    part = tactics.NATIVE.part_elements
    x = gx.symbol("x", (parts * part + part,), dtype)
    f = gx.compile([x], [gx.sum(x), gx.max(x), gx.min(x), gx.argmax(x)], options=FRESH)
    rows = gx.symbol("rows", (2, parts * part), dtype)
    of_rows = gx.compile([rows], [gx.sum(rows, axis=1), gx.max(rows)], options=FRESH)
    values = np.zeros(x.shape, dtype)
    step = part // 8
    for place in range(step // 2, values.size, step * 5):
        values[:] = 0
        values[place] = 3
        assert [float(r) for r in f(values)] == [3, 3, 0, place]
        sums, most = of_rows(values[part // 2 :][: parts * part // 2 * 2].repeat(2).reshape(2, -1))
        assert sums.sum() == 6 * (0 <= place - part // 2 < parts * part)
        assert most == 3 * (0 <= place - part // 2 < parts * part)


def test_any_extent_and_any_number_of_threads() -> None:
    n = gx.dim("n")
    x = gx.symbol("x", (n,), "float32")
    made = [
        gx.compile([x], [gx.sum(x), gx.max(x)], options=gx.Options(cache=False, threads=threads))
        for threads in (1, 2)
    ]
    generator = np.random.default_rng(3)
    for extent in (1, 255, 256, 8191, 8192, 8193, 65_536 + 257, 200_003):
        values = generator.normal(size=extent).astype("float32")
        one, two = (f(values) for f in made)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_allclose(one[0], np.sum(values, dtype=np.float64), rtol=0, atol=1e-2)
        assert one[1] == values.max()


def test_what_is_no_number_is_found_in_every_stream() -> None:
    x = gx.symbol("x", (100_000,), "float64")
    f = gx.compile([x], [gx.max(x), gx.sum(x)], options=FRESH)
    for place in (0, 2048, 2049, 4100, 8191, 99_999):
        values = np.zeros(100_000)
        values[place] = np.nan
        assert all(np.isnan(float(r)) for r in f(values))


# -- outputs beside sums ---------------------------------------------------------------------------


def test_a_sum_writes_what_else_is_made_of_its_elements() -> None:
    """A value and its gradient read once, and share what both compute."""
    x = gx.symbol("x", (100_003,), "float32")
    y = gx.symbol("y", (100_003,), "float32")
    cost = gx.sum(gx.silu(x) ** 2 * y)
    outputs = [cost, *gx.grad(cost, [x, y])]
    f = gx.compile([x, y], outputs, options=FRESH)
    generator = np.random.default_rng(5)
    values = [generator.normal(size=100_003).astype("float32") for _ in range(2)]
    wanted = gx.evaluate(outputs, dict(zip([x, y], values, strict=True)))
    for mine, theirs in zip(f(*values), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)
    assert len(f.kernels) == 2  # the second adds up the parts


@pytest.mark.parametrize("shape", [(100_000,), (300, 401), (7, 100, 200)])
@pytest.mark.parametrize("threads", [1, 2])
def test_results_beside_sums_lie_where_they_belong(shape: tuple[int, ...], threads: int) -> None:
    x = gx.symbol("x", shape)
    row = gx.symbol("row", shape[-1:])
    outputs = [gx.sum(x * row), x * 2.0 + row, gx.reshape(x * x, -1), gx.max(x)]
    options = gx.Options(cache=False, threads=threads)
    f = gx.compile([x, row], outputs, options=options)
    generator = np.random.default_rng(6)
    a, b = generator.normal(size=shape), generator.normal(size=shape[-1:])
    for given in (a, np.asfortranarray(a)):
        total, scaled, squares, most = f(given, b)
        np.testing.assert_allclose(total, np.sum(a * b), rtol=1e-10)
        np.testing.assert_array_equal(scaled, a * 2 + b)
        np.testing.assert_array_equal(squares, (a * a).ravel())
        assert most == a.max()


def test_sums_beside_what_is_written_over_their_operand() -> None:
    x, d = gx.symbol("x", (100_000,)), gx.symbol("d", (100_000,))
    new = x - 0.5 * d
    f = gx.compile([x, d], [gx.sum(x * d), new, gx.sum(new)], donate=[x], options=FRESH)
    generator = np.random.default_rng(7)
    a, b = generator.normal(size=(2, 100_000))
    product, moved, total = f(a.copy(), b)
    np.testing.assert_allclose(product, a @ b, rtol=1e-9)
    np.testing.assert_array_equal(moved, a - 0.5 * b)
    np.testing.assert_allclose(total, (a - 0.5 * b).sum(), rtol=1e-9)


def test_what_is_read_elsewhere_keeps_its_own_loops() -> None:
    x = gx.symbol("x", (100_000,))
    f = gx.compile([x], [gx.sum(x), gx.roll(x, 3) + x], options=FRESH)
    assert len(f.kernels) == 3
    values = np.arange(100_000.0)
    np.testing.assert_array_equal(f(values)[1], np.roll(values, 3) + values)
