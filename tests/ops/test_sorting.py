"""Are lines in order, stable, and bit by bit what they were?  Many, few, short and long ones."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.ops.sorting import sort_op
from graphc.ops.sorting_kernel import MANY, NETWORK
from graphc.ops.sorting_network import PART, comparisons
from graphc.ops.special import project

OPTIONS = gx.Options(threads=2, cache=False)


def lines_of(count: int, length: int, dtype: str) -> np.ndarray:
    """Few distinct values, so that there are ties; of floats NaN, infinities and both zeros."""
    random = np.random.default_rng(count * 1000 + length)
    if dtype == "bool":
        return random.integers(0, 2, (count, length)).astype(bool)
    if dtype.startswith("float"):
        few = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e-40, 3e4], dtype)
        return few[random.integers(0, len(few), (count, length))]
    limits = np.iinfo(dtype)
    few = np.array([limits.min, limits.max, 0, 1, limits.max // 2, limits.max - 1], dtype)
    return few[random.integers(0, len(few), (count, length))]


@pytest.mark.parametrize(
    ("dtype", "length"),
    [("float32", n) for n in (1, 2, 5, 16, 33, 65, 256, 300, 512)]
    + [("float64", n) for n in (3, 8, 31, 129)]
    + [(name, 37) for name in ("bool", "int8", "uint16", "int32", "int64", "uint64", "float16")]
    + [("float32", 3 * PART), ("float64", PART + 1), ("int64", NETWORK[2]), ("int32", NETWORK[1])],
)
def test_many_lines_of_one_length(dtype: str, length: int) -> None:
    x = gx.symbol("x", ("n", length), dtype)
    results = [gx.sort(x), gx.argsort(x)]
    both = gx.compile(x, results, options=OPTIONS)
    values_alone = gx.compile(x, results[0], options=OPTIONS)
    for count in (0, 1, 15, 16, 50):
        array = lines_of(count, length, dtype)
        order = np.argsort(array, -1, kind="stable")
        wanted = np.take_along_axis(array, order, -1)
        values, positions = both(array)
        np.testing.assert_array_equal(positions, order)
        assert values.tobytes() == wanted.tobytes()
        assert values_alone(array).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float64"])
def test_the_largest_first_and_those_at_the_top(dtype: str) -> None:
    array = lines_of(3 * 20, 24, dtype).reshape(3, 20, 24)
    x = gx.symbol("x", array.shape, dtype)
    built = [*gx.topk(x, 5), gx.sort(x, axis=0), gx.sort(x, axis=1), gx.flip(gx.sort(x), -1)]
    values, positions, first, second, last = gx.compile(x, built, options=OPTIONS)(array)
    turned = np.argsort(array[..., ::-1], -1, kind="stable")[..., ::-1]
    order = 23 - turned[..., :5]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(values, np.take_along_axis(array, order, -1))
    np.testing.assert_array_equal(first, np.sort(array, 0, kind="stable"))
    np.testing.assert_array_equal(second, np.sort(array, 1, kind="stable"))
    np.testing.assert_array_equal(last, np.sort(array, -1, kind="stable")[..., ::-1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint64", "bool"])
@pytest.mark.parametrize("shape", [(2, 97), (1, MANY), (3, MANY + 1), (17, 40), (2, 9, PART + 3)])
def test_every_way_from_both_ends(shape: tuple[int, ...], dtype: str) -> None:
    """Values alone, which are sorted with no positions, are those that the positions tell."""
    array = lines_of(shape[0] * (shape[1] if len(shape) > 2 else 1), shape[-1], dtype)
    array = array.reshape(shape)
    x = gx.symbol("x", shape, dtype)
    rising, falling = (sort_op(x, descending=falls) for falls in (False, True))
    alone = [project(rising, 0), project(falling, 0)]
    values = [gx.compile([x], each, options=OPTIONS)(array) for each in alone]
    orders = gx.compile([x], [project(rising, 1), project(falling, 1)], options=OPTIONS)(array)
    turned = np.argsort(array[..., ::-1], -1, kind="stable")[..., ::-1]
    wanted = [np.argsort(array, -1, kind="stable"), shape[-1] - 1 - turned]
    for value, order, want in zip(values, orders, wanted, strict=True):
        np.testing.assert_array_equal(order, want)
        assert value.tobytes() == np.take_along_axis(array, want, -1).tobytes()


@pytest.mark.parametrize("bits", ["negative zeros", "NaN of every kind"])
@pytest.mark.parametrize("length", [50, MANY])
def test_what_compares_equal_keeps_its_place_and_its_bits(length: int, bits: str) -> None:
    """Only some of the lines have anything to restore, the last of them among others."""
    array = np.random.default_rng(5).normal(size=(21, length)).astype("float32")
    words = array.view("uint32")
    some = np.random.default_rng(6).integers(0, 2, (21, length)) == 1
    some[:9] = False
    if bits == "negative zeros":
        array[some] = np.where(array[some] > 0, 0.0, -0.0)
    else:
        words[some] |= 0x7F800001
    x = gx.symbol("x", array.shape, "float32")
    order = np.argsort(array, -1, kind="stable")
    wanted = np.take_along_axis(words, order, -1)
    got = gx.compile([x], gx.sort(x), options=OPTIONS)(array)
    np.testing.assert_array_equal(got.view("uint32"), wanted)


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_a_few_elements_are_sorted_by_every_network(count: int) -> None:
    """A network that sorts zeros and ones sorts everything (Knuth, section 5.3.4)."""
    for bits in range(2**count):
        items = [bits >> i & 1 for i in range(count)]
        for i, j in comparisons(count):
            items[i], items[j] = min(items[i], items[j]), max(items[i], items[j])
        assert items == sorted(items)


@pytest.mark.parametrize("missing", [[], [2], [0, 6], [*range(7)]], ids=len)
def test_interpolation_with_a_period_searches_a_sorted_line(missing: list[int]) -> None:
    """Among points that are NaN too, natively and by NumPy's functions, in every order."""
    x, points = gx.vector("x", 40), gx.vector("points", 7)
    generator = np.random.default_rng(1)
    angles, given = generator.uniform(-5, 5, 40), generator.uniform(-5, 5, 7)
    angles[3] = np.nan
    given[missing] = np.nan
    made = gx.interp(x, points, points * 2, period=1.5)
    want = gx.evaluate(made, {x: angles, points: given})
    found = gx.compile([x, points], made, options=gx.Options(cache=False))(angles, given)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    if not missing:
        numpy = np.interp(angles, given, given * 2, period=1.5)
        np.testing.assert_allclose(found, numpy, rtol=1e-12)
