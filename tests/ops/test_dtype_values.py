"""Which values do narrow and unsigned dtypes give, where a careless rule would give others?

Comparisons across signed and unsigned integers, Python numbers that do not fit, conversions between
every two dtypes: against NumPy, and against exact integers where NumPy leaves a case to the
processor.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from backends import Case, check_exact, compiled, run
from samples import ALL, FLOATS, INTEGERS, bit_patterns, special

import graphc as gx
from graphc import dtypes
from graphc.codegen.cuda.program import cuda_source
from graphc.node import Node
from tests.cuda_emulator import nvrtc

COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
OUTSIDE = (-1, 300, -300, 2**31, -(2**31) - 1, 2**63, 2**64, -(2**63) - 1, 2**70, -(2**70))


def pairs_of(first: Any, second: Any) -> tuple[Any, Any]:
    """Every value of one array beside every value of the other."""
    return np.repeat(first, len(second)), np.tile(second, len(first))


@pytest.mark.parametrize("backend", ["interpreter", "llvm-1"])
def test_integers_of_all_dtypes_compare_exactly(backend: str) -> None:
    symbols: list[Node] = []
    outputs: list[Node] = []
    arrays: list[Any] = []
    wants: list[Any] = []
    for a, b in itertools.product(INTEGERS, repeat=2):
        if "64" not in a + b or backend != "interpreter" and "uint64" not in (a, b):
            continue
        given = pairs_of(special(a), special(b))
        pair = [gx.symbol(f"{a}_{b}_{i}", x.shape, x.dtype) for i, x in enumerate(given)]
        symbols, arrays = [*symbols, *pair], [*arrays, *given]
        for name in COMPARISONS:
            outputs.append(getattr(gx, name)(*pair))
            want = [getattr(int(x), _METHODS[name])(int(y)) for x, y in zip(*given, strict=True)]
            assert np.array_equal(getattr(np, name)(*given), want), "NumPy is exact, too"
            wants.append(want)
    for got, want in zip(run(backend, Case(symbols, outputs), arrays), wants, strict=True):
        assert np.array_equal(got, want)


_METHODS = {
    "equal": "__eq__",
    "not_equal": "__ne__",
    "less": "__lt__",
    "less_equal": "__le__",
    "greater": "__gt__",
    "greater_equal": "__ge__",
}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_comparison_with_a_python_int_out_of_range(dtype: str) -> None:
    values = special(dtype)
    x = gx.symbol("x", values.shape, dtype)
    for number, name in itertools.product(OUTSIDE, COMPARISONS):
        ours, numpys = getattr(gx, name), getattr(np, name)
        got = gx.evaluate([ours(x, number), ours(number, x)], {x: values})
        for result, want in zip(got, (numpys(values, number), numpys(number, values)), strict=True):
            assert result.dtype == bool and np.array_equal(result, want), (dtype, name, number)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_a_python_int_must_fit(dtype: str) -> None:
    """As in NumPy 2, where it is an OverflowError."""
    x = gx.symbol("x", (2,), dtype)
    least, most = dtypes.limits(np.dtype(dtype))
    assert (x + most).dtype == (x + least).dtype == dtype
    for number in (most + 1, least - 1):
        for build in (lambda n: x + n, lambda n: gx.maximum(n, x), lambda n: gx.where(True, x, n)):
            with pytest.raises(gx.GraphError, match="out of bounds|too large|too big"):
                build(number)
            with pytest.raises(OverflowError):
                np.ones(2, dtype) + number
        with pytest.raises(gx.GraphError):
            gx.constant(number, dtype)
        with pytest.raises(gx.GraphError):
            gx.constant([number], dtype)


def test_constants_of_integers_are_not_wrapped() -> None:
    for values, dtype in (([300], "uint8"), ([-1], "uint64"), ([2**31], "int32")):
        with pytest.raises(gx.GraphError, match="fit"):
            gx.constant(np.array(values), dtype)
    assert gx.constant(np.array([255]), "uint8").dtype == "uint8"


@pytest.mark.parametrize(("dtype", "bad"), [("uint8", -1.0), ("int8", 128.0), ("uint64", 2.0**64)])
def test_constants_of_floats_are_not_wrapped(dtype: str, bad: float) -> None:
    for value in (bad, [bad], np.array([bad]), np.nan, np.array([np.inf])):
        with pytest.raises(gx.GraphError, match="fit"):
            gx.constant(value, dtype)


# -- conversions -----------------------------------------------------------------------------------


def converted(value: Any, dtype: str) -> Any:
    """One number converted by Python's exact arithmetic: the meaning of a cast."""
    target = np.dtype(dtype)
    if dtype == "bool":
        return bool(value)
    if dtype in FLOATS:
        with np.errstate(all="ignore"):
            if dtype == "bfloat16":
                value = np.asarray(value).astype(np.float32)
            return np.asarray(value).astype(target)
    if not isinstance(value, float):
        return target.type(dtypes.wrapped(int(value), target))
    least, most = dtypes.limits(target)
    if math.isnan(value):
        return target.type(0)
    if math.isinf(value):
        return target.type(most if value > 0 else least)
    return target.type(min(max(int(value), least), most))


def cast_points(dtype: str) -> Any:
    return bit_patterns(dtype, 200, np.random.default_rng(3))


def _casts() -> tuple[list[Node], list[Node], list[Any]]:
    arrays = [cast_points(dtype) for dtype in ALL]
    symbols = [gx.symbol(f"x_{d}", a.shape, d) for d, a in zip(ALL, arrays, strict=True)]
    return symbols, [gx.cast(s, d) for s, d in itertools.product(symbols, ALL)], arrays


def test_every_cast_has_its_stated_meaning() -> None:
    symbols, outputs, arrays = _casts()
    got = gx.evaluate(outputs, dict(zip(symbols, arrays, strict=True)))
    for result, (array, dtype) in zip(got, itertools.product(arrays, ALL), strict=True):
        want = np.array([converted(value, dtype) for value in array.tolist()], dtype)
        check_exact(np.asarray(result), want, f"{array.dtype} to {dtype}")


@pytest.mark.parametrize("backend", ["interpreter", "llvm-1"])
def test_every_cast_on_a_backend(backend: str) -> None:
    symbols, outputs, arrays = _casts()
    want = gx.evaluate(outputs, dict(zip(symbols, arrays, strict=True)))
    got = compiled(backend, Case(symbols, outputs))(*arrays)
    for i, (source, target) in enumerate(itertools.product(ALL, ALL)):
        check_exact(got[i], np.asarray(want[i]), f"{source} to {target} on {backend}")


# -- wrapping around -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS)
def test_sums_and_products_of_arrays(dtype: str) -> None:
    """Sums widen as NumPy's do, matrix products stay and wrap around."""
    random = np.random.default_rng(4)
    array = bit_patterns(dtype, 35, random).reshape(5, 7)
    x = gx.symbol("x", (5, 7), dtype)
    outputs = [gx.sum(x), gx.prod(x, axis=0), x @ gx.transpose(x), x.max(), x.min(axis=1)]
    outputs += [gx.argmax(x), gx.mean(x), gx.tensordot(x, x, axes=2)]
    with np.errstate(over="ignore"):
        want = [np.sum(array), np.prod(array, axis=0), array @ array.T, np.max(array)]
        want += [np.min(array, axis=1), np.argmax(array), np.mean(array)]
        want += [np.tensordot(array, array, axes=2)]
    for results in (gx.evaluate(outputs, {x: array}), gx.compile([x], outputs)(array)):
        for got, expected in zip(results, want, strict=True):
            assert np.asarray(got).dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_an_index_of_uint64_is_never_negative() -> None:
    x, i = gx.symbol("x", (3,)), gx.symbol("i", (2,), "uint64")
    call = gx.compile([x, i], gx.take(x, i))
    np.testing.assert_array_equal(call(np.arange(3.0), np.array([2, 0], "uint64")), [2, 0])
    with pytest.raises(IndexError):
        call(np.arange(3.0), np.array([2**64 - 1, 0], "uint64"))


def test_an_extent_wraps_around_in_a_narrow_dtype() -> None:
    """As its cast from int64 would: rewriting must not take one for the number."""
    x = gx.symbol("x", ("n",))
    narrow = gx.cast(gx.sum(x * 0 + 1), "int64")
    size = gx.cast(narrow * 0 + x.shape[0], "int8")
    for math_level in ("ieee", "fast"):
        call = gx.compile([x], [size, size + size], options=gx.Options(math=math_level))
        assert [int(value) for value in call(np.zeros(200))] == [200 - 256, 2 * (200 - 256)]


# -- CUDA ------------------------------------------------------------------------------------------


@pytest.mark.slow
@nvrtc.required
def test_nvrtc_takes_every_dtype() -> None:
    """NVIDIA's compiler, with warnings as errors: the emulator's C++ compiler is more lenient."""
    symbols, outputs, _ = _casts()
    for x in symbols[1:]:
        outputs += [x * x + x, gx.sum(x), gx.max(x), gx.argmax(x), gx.sign(x), abs(x), x @ x]
        outputs += [gx.where(x > 1, x, -x), gx.exp(x), gx.cumsum(x), gx.sort(x)]
    program = gx.compile(symbols, outputs, target="interpret").program
    assert nvrtc.compile(cuda_source(program, "dtypes").text, "sm_90").usage
