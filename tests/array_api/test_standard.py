"""Is `graphc.array_api` what the array API standard, 2024.12, describes?

Written from the text of the standard: names, signatures, dtypes of results, special cases, and the
behaviour of the array object. Values are compared with NumPy's.
"""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc.array_api as xp
from graphc.array_api import elementwise

FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
ALL = ("bool", *INTEGERS, *FLOATS)
RANDOM = np.random.default_rng(7)

UNARY = "(x, /)"
BINARY = "(x1, x2, /)"
REDUCTION = "(x, /, *, axis=None, keepdims=False)"
TYPED_REDUCTION = "(x, /, *, axis=None, dtype=None, keepdims=False)"
SPREAD = "(x, /, *, axis=None, correction=0.0, keepdims=False)"
RUNNING = "(x, /, *, axis=None, dtype=None, include_initial=False)"
SORT = "(x, /, *, axis=-1, descending=False, stable=True)"
SHAPED = "(shape, *, dtype=None, device=None)"
LIKE = "(x, /, *, dtype=None, device=None)"
SIGNATURES = {
    **dict.fromkeys(elementwise.UNARY, UNARY),
    **dict.fromkeys(elementwise.BINARY, BINARY),
    "clip": "(x, /, min=None, max=None)",
    "where": "(condition, x1, x2, /)",
    **dict.fromkeys(("empty", "zeros", "ones"), SHAPED),
    **dict.fromkeys(("empty_like", "zeros_like", "ones_like"), LIKE),
    "arange": "(start, /, stop=None, step=1, *, dtype=None, device=None)",
    "asarray": "(obj, /, *, dtype=None, device=None, copy=None)",
    "eye": "(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)",
    "from_dlpack": "(x, /, *, device=None, copy=None)",
    "full": "(shape, fill_value, *, dtype=None, device=None)",
    "full_like": "(x, /, fill_value, *, dtype=None, device=None)",
    "linspace": "(start, stop, /, num, *, dtype=None, device=None, endpoint=True)",
    "meshgrid": "(*arrays, indexing='xy')",
    **dict.fromkeys(("tril", "triu"), "(x, /, *, k=0)"),
    "can_cast": "(from_, to, /)",
    **dict.fromkeys(("finfo", "iinfo"), "(type, /)"),
    "isdtype": "(dtype, kind)",
    "result_type": "(*arrays_and_dtypes)",
    "astype": "(x, dtype, /, *, copy=True, device=None)",
    "broadcast_arrays": "(*arrays)",
    "broadcast_to": "(x, /, shape)",
    "concat": "(arrays, /, *, axis=0)",
    "expand_dims": "(x, /, axis=0)",
    "flip": "(x, /, *, axis=None)",
    "moveaxis": "(x, source, destination, /)",
    "permute_dims": "(x, /, axes)",
    "repeat": "(x, repeats, /, *, axis=None)",
    "reshape": "(x, /, shape, *, copy=None)",
    "roll": "(x, /, shift, *, axis=None)",
    "squeeze": "(x, /, axis)",
    "stack": "(arrays, /, *, axis=0)",
    "tile": "(x, repetitions, /)",
    "unstack": "(x, /, *, axis=0)",
    **dict.fromkeys(("matmul", "matrix_transpose"), BINARY),
    "matrix_transpose": UNARY,
    "tensordot": "(x1, x2, /, *, axes=2)",
    "vecdot": "(x1, x2, /, *, axis=-1)",
    **dict.fromkeys(("all", "any", "max", "mean", "min", "count_nonzero"), REDUCTION),
    **dict.fromkeys(("argmax", "argmin"), REDUCTION),
    **dict.fromkeys(("sum", "prod"), TYPED_REDUCTION),
    **dict.fromkeys(("std", "var"), SPREAD),
    **dict.fromkeys(("cumulative_sum", "cumulative_prod"), RUNNING),
    "diff": "(x, /, *, axis=-1, n=1, prepend=None, append=None)",
    **dict.fromkeys(("sort", "argsort"), SORT),
    **dict.fromkeys(
        ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values"), UNARY
    ),
    "searchsorted": "(x1, x2, /, *, side='left', sorter=None)",
    "take": "(x, indices, /, *, axis=None)",
    "take_along_axis": "(x, indices, /, *, axis=-1)",
}


def test_no_function_is_absent() -> None:
    for name in SIGNATURES:
        assert hasattr(xp, name) and name in xp.__all__, name


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_the_standard(name: str) -> None:
    signature = inspect.signature(getattr(xp, name))
    plain = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    assert str(plain) == SIGNATURES[name]
    assert getattr(xp, name).__name__ == name
    assert getattr(xp, name).__doc__


def test_constants_and_version() -> None:
    assert (xp.pi, xp.e, xp.inf, xp.newaxis) == (math.pi, math.e, math.inf, None)
    assert math.isnan(xp.nan)
    assert xp.__array_api_version__ == "2024.12"


# -- element by element ----------------------------------------------------------------------------


def sample(dtype: str, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    if dtype == "bool":
        return RANDOM.integers(0, 2, shape).astype(bool)
    if dtype in FLOATS:
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], dtype)
        values = RANDOM.uniform(-3, 3, shape).astype(dtype)
        return np.concatenate([values.ravel(), special])
    low = 0 if dtype in UNSIGNED else -5
    return RANDOM.integers(low, 6, shape).astype(dtype)


def agree(result: Any, expected: np.ndarray, rtol: float = 0.0) -> None:
    assert isinstance(result, xp.Array)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_allclose(np.asarray(result), expected, rtol=rtol, atol=rtol)


NUMPY_NAMES = {
    "bitwise_invert": "invert",
    "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift",
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "conj": "conjugate",
    "pow": "power",
}


def numpy_function(name: str) -> Callable[..., Any]:
    return getattr(np, NUMPY_NAMES.get(name, name))


def kinds_of(name: str) -> str:
    return (elementwise.UNARY | elementwise.BINARY)[name][1]


@pytest.mark.parametrize("name", elementwise.UNARY)
def test_functions_of_one_array(name: str) -> None:
    for dtype in ALL:
        x = sample(dtype)
        if x.dtype.kind not in kinds_of(name):
            with pytest.raises(TypeError, match=f"{name} is not defined for dtype {dtype}"):
                getattr(xp, name)(xp.asarray(x))
            continue
        with np.errstate(all="ignore"):
            expected = numpy_function(name)(x)
        tolerance = 2e-6 if dtype == "float32" else 1e-14
        agree(getattr(xp, name)(xp.asarray(x)), np.asarray(expected), tolerance)


@pytest.mark.parametrize("name", elementwise.BINARY)
def test_functions_of_two_arrays(name: str) -> None:
    defined = kinds_of(name)
    for first, second in itertools.product(ALL, ALL):
        x, y = sample(first), sample(second)
        if x.dtype.kind not in defined or y.dtype.kind not in defined:
            with pytest.raises(TypeError):
                getattr(xp, name)(xp.asarray(x), xp.asarray(y))
            continue
        apart = (x.dtype.kind in "iu") != (y.dtype.kind in "iu") or "bool" in (first, second)
        if (
            (apart and first != second)
            or {first, second} & {"uint64"}
            and x.dtype.kind != y.dtype.kind
        ):
            continue  # the standard defines no promotion
        if name in ("floor_divide", "remainder", "pow") and x.dtype.kind in "iu":
            y = np.abs(y) % 4 + 1
        if "shift" in name:
            y = np.abs(y) % 4
        x, y = np.broadcast_arrays(x.reshape(-1)[:6], y.reshape(-1)[:6])
        with np.errstate(all="ignore"):
            expected = numpy_function(name)(x, y)
        tolerance = 2e-6 if "float32" in (first, second) else 1e-14
        agree(getattr(xp, name)(xp.asarray(x), xp.asarray(y)), expected, tolerance)


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "less", "subtract"])
def test_python_numbers_beside_an_array(name: str) -> None:
    function = getattr(xp, name)
    for dtype in (*INTEGERS, *FLOATS):
        x = sample(dtype)
        agree(function(xp.asarray(x), 2), getattr(np, name)(x, 2))
        agree(function(2, xp.asarray(x)), getattr(np, name)(2, x))
        if dtype in INTEGERS:
            with pytest.raises(TypeError, match="does not go with"):
                function(xp.asarray(x), 2.5)
        else:
            agree(function(xp.asarray(x), 2.5), getattr(np, name)(x, 2.5))
    with pytest.raises(TypeError, match="takes arrays"):
        function(1, 2)


def test_broadcasting() -> None:
    x, y = np.arange(6.0).reshape(2, 1, 3), np.arange(4.0).reshape(4, 1)
    agree(xp.add(xp.asarray(x), xp.asarray(y)), x + y)
    agree(xp.add(xp.zeros((0, 3)), xp.zeros((1, 3))), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="do not broadcast"):
        xp.add(xp.zeros(3), xp.zeros(4))


def test_clip_and_where() -> None:
    x = np.arange(-3, 4)
    for low, high in ((-1, 2), (None, 1), (0, None), (None, None)):
        agree(xp.clip(xp.asarray(x), low, high), np.clip(x, low, high))
    agree(xp.clip(xp.asarray(x), xp.asarray(x[::-1].copy())), np.clip(x, x[::-1], None))
    with pytest.raises(TypeError):
        xp.clip(xp.asarray(x), 0.5)
    agree(xp.where(xp.asarray(x > 0), xp.asarray(x), 0), np.where(x > 0, x, 0))


# -- creation --------------------------------------------------------------------------------------


def test_arrays_of_one_value() -> None:
    for dtype in ALL:
        for name, value in (("zeros", 0), ("ones", 1)):
            agree(
                getattr(xp, name)((2, 3), dtype=getattr(xp, dtype)), np.full((2, 3), value, dtype)
            )
            like = getattr(xp, f"{name}_like")(xp.asarray(sample(dtype)))
            assert like.dtype == np.dtype(dtype)
        assert xp.empty(3, dtype=getattr(xp, dtype)).shape == (3,)
    assert xp.zeros(()).dtype == xp.float64
    assert xp.full(2, True).dtype == xp.bool
    assert xp.full(2, 3).dtype == xp.int64
    assert xp.full(2, 0.5).dtype == xp.float64
    agree(xp.full_like(xp.zeros(2, dtype=xp.int8), 3), np.full(2, 3, "int8"))
    with pytest.raises(ValueError, match="the only device is 'cpu'"):
        xp.zeros(3, device="cuda:0")


@pytest.mark.parametrize("copy", [None, False, True])
def test_asarray_shares_unless_it_copies(copy: bool | None) -> None:
    x = xp.asarray([1.0, 2.0], dtype=xp.float32)
    same, plain = xp.asarray(x, dtype=xp.float32, copy=copy), xp.asarray(x, copy=copy)
    x[0] = 5.0
    assert float(same[0]) == float(plain[0]) == (1.0 if copy else 5.0)


def test_asarray() -> None:
    assert xp.asarray(1).dtype == xp.int64
    assert xp.asarray([[1.0, 2.0]]).shape == (1, 2)
    assert xp.asarray([True]).dtype == xp.bool
    agree(xp.asarray([xp.asarray(1.0), 2.0]), np.array([1.0, 2.0]))
    x = xp.zeros(3)
    copied = xp.asarray(x, copy=True)
    copied[0] = 1.0
    assert float(x[0]) == 0.0
    with pytest.raises(ValueError):
        xp.asarray([1, 2], copy=False)
    with pytest.raises(ValueError, match="dtype"):
        xp.asarray(["a"])
    for large in (2**63, [1, 2**63], [[2**64]], -(2**63) - 1):
        with pytest.raises(OverflowError, match="fit int64"):
            xp.asarray(large)
    assert int(xp.asarray(2**63, dtype=xp.uint64)) == 2**63
    assert xp.asarray([]).dtype == xp.asarray([2**63, 1.0]).dtype == xp.float64


def test_ranges() -> None:
    for args in ((5,), (2, 7), (7, 2, -2), (0, 5, 2), (3, 3), (0.0, 1.0, 0.25), (5, None, 2)):
        expected = np.arange(*args) if args[1:2] != (None,) else np.arange(0, 5, 2)
        agree(xp.arange(*args), expected)
    agree(xp.arange(3, dtype=xp.float32), np.arange(3, dtype="float32"))


def test_linspace() -> None:
    agree(xp.linspace(0, 1, 5), np.linspace(0, 1, 5), 1e-15)
    agree(xp.linspace(0.0, 1.0, 5, endpoint=False), np.linspace(0, 1, 5, endpoint=False), 1e-15)
    agree(xp.linspace(2, 3, 0), np.linspace(2, 3, 0))
    agree(xp.linspace(2, 3, 1, dtype=xp.float32), np.linspace(2, 3, 1, dtype="float32"))


def test_eye() -> None:
    for rows, columns, k in ((3, None, 0), (2, 4, 1), (4, 2, -1), (0, 3, 0), (2, 2, 5)):
        agree(xp.eye(rows, columns, k=k), np.eye(rows, columns, k))
    assert xp.eye(2, dtype=xp.int8).dtype == xp.int8


@pytest.mark.parametrize("k", [2**63, -(2**63) - 1, 10**30, 2**62, -(2**62)])
def test_diagonals_far_outside(k: int) -> None:
    x = np.ones((2, 3))
    agree(xp.eye(2, 3, k=k), np.zeros((2, 3)))
    agree(xp.tril(xp.asarray(x), k=k), x if k > 0 else 0 * x)
    agree(xp.triu(xp.asarray(x), k=k), 0 * x if k > 0 else x)


def test_triangles_and_grids() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    for k in (-2, 0, 1):
        agree(xp.tril(xp.asarray(x), k=k), np.tril(x, k))
        agree(xp.triu(xp.asarray(x), k=k), np.triu(x, k))
    a, b = np.arange(3), np.arange(4)
    for indexing in ("xy", "ij"):
        made = xp.meshgrid(xp.asarray(a), xp.asarray(b), indexing=indexing)
        for one, other in zip(made, np.meshgrid(a, b, indexing=indexing), strict=True):
            agree(one, other)


def test_dlpack_both_ways() -> None:
    x = xp.asarray([1.0, 2.0])
    np.testing.assert_array_equal(np.from_dlpack(x), [1.0, 2.0])
    agree(xp.from_dlpack(np.arange(3)), np.arange(3))
    agree(xp.from_dlpack(xp.broadcast_to(x, (2, 2))), np.array([[1.0, 2.0]] * 2))
    assert x.__dlpack_device__() == (1, 0)


# -- dtypes ----------------------------------------------------------------------------------------


def test_promotion_is_that_of_the_standard() -> None:
    for first, second in itertools.product(ALL, ALL):
        a, b = np.dtype(first), np.dtype(second)
        if a.kind == b.kind or {a.kind, b.kind} == {"i", "u"} and "uint64" not in (first, second):
            assert xp.result_type(getattr(xp, first), getattr(xp, second)) == np.result_type(a, b)
    assert xp.result_type(xp.asarray(1, dtype=xp.int8), 3) == xp.int8
    assert xp.result_type(xp.float32, 3.0) == xp.float32
    with pytest.raises(ValueError):
        xp.result_type()


def test_kinds_and_casts() -> None:
    assert xp.isdtype(xp.int8, "signed integer") and not xp.isdtype(xp.int8, "unsigned integer")
    assert xp.isdtype(xp.uint8, ("bool", "integral"))
    assert xp.isdtype(xp.float32, xp.float32) and xp.isdtype(xp.float32, "numeric")
    assert not xp.isdtype(xp.bool, "numeric")
    with pytest.raises(ValueError, match="kinds are"):
        xp.isdtype(xp.bool, "number")
    assert xp.can_cast(xp.int8, xp.int16) and not xp.can_cast(xp.int16, xp.int8)
    assert xp.can_cast(xp.asarray(1.0), xp.float64) and not xp.can_cast(xp.int8, xp.float64)


def test_limits() -> None:
    found = xp.finfo(xp.asarray(1.0, dtype=xp.float32))
    assert (found.bits, found.dtype) == (32, xp.float32)
    assert found.eps == float(np.finfo("float32").eps) and type(found.max) is float
    assert (xp.iinfo(xp.uint8).max, xp.iinfo(xp.int8).min, xp.iinfo(xp.int8).bits) == (255, -128, 8)
    with pytest.raises(TypeError):
        xp.finfo(xp.int8)
    with pytest.raises(TypeError):
        xp.iinfo(xp.float32)


def test_inspection() -> None:
    info = xp.__array_namespace_info__()
    assert info.capabilities()["boolean indexing"] is True
    assert info.devices() == [info.default_device()] == ["cpu"]
    assert info.default_dtypes()["real floating"] == xp.float64
    assert set(info.dtypes(kind="integral")) <= set(INTEGERS)
    assert {"bool", "int64", "float32", "float64"} <= set(info.dtypes())
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", *FLOATS}


def test_astype() -> None:
    for first, second in itertools.product(ALL, ALL):
        x = sample(first).ravel()[:6]
        if second in UNSIGNED and first in FLOATS:
            x = np.abs(x)  # C and NumPy leave negative values to the processor
        agree(xp.astype(xp.asarray(x), getattr(xp, second)), x.astype(second))
    x = xp.zeros(2)
    assert xp.astype(x, xp.float64, copy=False) is x
    assert xp.astype(x, xp.float64) is not x


# -- the array object ------------------------------------------------------------------------------

OPERATORS: list[tuple[str, Any]] = [
    ("add", operator.add),
    ("subtract", operator.sub),
    ("multiply", operator.mul),
    ("floor_divide", operator.floordiv),
    ("remainder", operator.mod),
    ("divide", operator.truediv),
    ("pow", operator.pow),
    ("equal", operator.eq),
    ("not_equal", operator.ne),
    ("less", operator.lt),
    ("less_equal", operator.le),
    ("greater", operator.gt),
    ("greater_equal", operator.ge),
]


@pytest.mark.parametrize(("name", "apply"), OPERATORS)
def test_operators(name: str, apply: Any) -> None:
    x, y = np.array([1.5, 2.0, -3.0]), np.array([2.0, 0.5, -3.0])
    a, b = xp.asarray(x), xp.asarray(y)
    with np.errstate(invalid="ignore"):
        agree(apply(a, b), apply(x, y), 1e-14)
        agree(apply(a, 2.0), apply(x, 2.0), 1e-14)
        agree(apply(2.0, a), apply(2.0, x), 1e-14)
    with pytest.raises(TypeError):
        (operator.lt if name in ("equal", "not_equal") else apply)(a, "text")


def test_bitwise_operators() -> None:
    x, y = np.array([6, 3, 0]), np.array([3, 5, 1])
    a, b = xp.asarray(x), xp.asarray(y)
    for name, apply in (
        ("bitwise_and", operator.and_),
        ("bitwise_or", operator.or_),
        ("bitwise_xor", operator.xor),
        ("bitwise_left_shift", operator.lshift),
        ("bitwise_right_shift", operator.rshift),
    ):
        agree(apply(a, b), apply(x, y))
        agree(apply(a, 2), apply(x, 2))
        agree(getattr(xp, name)(a, b), apply(x, y))
        with pytest.raises(TypeError):
            apply(xp.zeros(3), a)
    agree(~a, ~x)
    agree(~xp.asarray(x > 2), ~(x > 2))


def test_operators_in_place_change_the_array() -> None:
    x = xp.asarray([1.0, 2.0])
    same = x
    x += 1
    x *= xp.asarray([2.0, 3.0])
    assert same is x
    agree(same, np.array([4.0, 9.0]))
    with pytest.raises(TypeError, match="in place"):
        x += xp.zeros((2, 2))
    narrow = xp.ones(2, dtype=xp.int8)
    with pytest.raises(TypeError, match="in place"):
        narrow += xp.ones(2, dtype=xp.int64)


def test_matrix_products() -> None:
    x, y = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    agree(xp.asarray(x) @ xp.asarray(y), x @ y, 1e-14)
    agree(xp.matmul(xp.asarray(x), xp.asarray(y)), x @ y, 1e-14)
    agree(xp.tensordot(xp.asarray(x), xp.asarray(y), axes=1), np.tensordot(x, y, 1), 1e-14)
    agree(xp.vecdot(xp.asarray(x), xp.asarray(x[0])), np.vecdot(x, x[0]), 1e-14)
    for dtype in INTEGERS:
        z = sample(dtype, (2, 3))
        agree(xp.vecdot(xp.asarray(z), xp.asarray(z)), np.vecdot(z, z))
        agree(xp.matmul(xp.asarray(z), xp.asarray(z.T)), z @ z.T)
    with pytest.raises(ValueError):
        xp.vecdot(xp.asarray(x), xp.asarray(x[0, :2]))
    with pytest.raises(TypeError):
        xp.asarray(x) @ 2.0


def test_attributes() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    a = xp.asarray(x)
    assert (a.shape, a.ndim, a.size, a.dtype, a.device) == ((2, 3, 4), 3, 24, xp.int64, "cpu")
    agree(a.mT, np.swapaxes(x, -1, -2))
    agree(a[0].T, x[0].T)
    for wrong in (lambda: a.T, lambda: xp.zeros(3).mT, lambda: xp.matrix_transpose(xp.zeros(3))):
        with pytest.raises(ValueError):
            wrong()
    assert a.to_device("cpu") is a
    assert a.__array_namespace__() is a.__array_namespace__(api_version="2024.12") is xp
    with pytest.raises(TypeError):
        hash(a)
    with pytest.raises(TypeError, match="made by asarray"):
        xp.Array(x)


def test_values_for_python() -> None:
    assert bool(xp.asarray(2.0)) is True and int(xp.asarray(2.5)) == 2
    assert float(xp.asarray(3)) == 3.0 and complex(xp.asarray(1.5)) == 1.5
    assert [10, 20, 30][xp.asarray(1)] == 20
    for ask in (bool, int, float, complex, operator.index):
        with pytest.raises(TypeError, match="rank 0"):
            ask(xp.zeros(1, dtype=xp.int64))
    with pytest.raises(TypeError, match="index"):
        operator.index(xp.asarray(1.0))
    assert len(xp.zeros((3, 2))) == 3 and len(list(xp.zeros((3, 2)))) == 3


KEYS: list[Any] = [
    0,
    -1,
    (1, 2),
    slice(None),
    slice(None, None, -1),
    (slice(1, None), slice(None, None, 2)),
    ...,
    (..., 0),
    (0, ..., 1),
    (None, ..., slice(1, 3)),
    (slice(None), None, 1),
    (),
    (slice(5, 1), 0),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_reading_and_writing(key: Any) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    a = xp.asarray(x, copy=True)
    agree(a[key], x[key])
    expected = x.copy()
    expected[key] = 7
    a[key] = 7
    agree(a, expected)
    part = expected[key] * 2
    a[key] = xp.asarray(part)
    expected[key] = part
    agree(a, expected)


def test_masks_and_integer_arrays() -> None:
    x = np.arange(12).reshape(3, 4)
    a = xp.asarray(x, copy=True)
    agree(a[a > 5], x[x > 5])
    agree(a[xp.asarray([2, 0])], x[[2, 0]])
    agree(a[xp.asarray([2, 0]), xp.asarray([1, 1])], x[[2, 0], [1, 1]])
    a[a > 5] = 0
    agree(a, np.where(x > 5, 0, x))


def test_writing_keeps_the_dtype_and_touches_nobody_else() -> None:
    x = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    y, row = xp.reshape(x, (4,)), x[0]
    x[0, 0] = 9
    assert float(y[0]) == 1.0 and float(row[0]) == 1.0
    integers = xp.zeros(2, dtype=xp.int64)
    with pytest.raises(TypeError, match="cannot be stored"):
        integers[0] = 1.5
    with pytest.raises(TypeError, match="cannot be stored"):
        integers[:] = xp.zeros(2)


def test_bounds_of_slices_may_be_arrays_of_rank_0() -> None:
    x, first, last = xp.arange(10), xp.asarray(2), xp.asarray(7, dtype=xp.uint8)
    agree(x[first:last], np.arange(10)[2:7])
    agree(xp.reshape(x, (2, 5))[:, first:], np.arange(10).reshape(2, 5)[:, 2:])
    x[first : last : xp.asarray(2)] = 0
    agree(x, np.array([0, 1, 0, 3, 0, 5, 0, 7, 8, 9]))
    with pytest.raises(TypeError):
        x[xp.asarray(2.0) :]


def test_indices_outside_are_errors() -> None:
    x = xp.zeros((2, 3))
    for key in (2, -3, (0, 3), (0, 0, 0), (..., -4)):
        with pytest.raises(IndexError):
            x[key]


# -- shapes ----------------------------------------------------------------------------------------


def test_shapes() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    a = xp.asarray(x)
    agree(xp.reshape(a, (4, -1)), x.reshape(4, -1))
    agree(xp.permute_dims(a, (2, 0, 1)), x.transpose(2, 0, 1))
    agree(xp.expand_dims(a, axis=-1), x[..., None])
    agree(xp.squeeze(xp.expand_dims(a, axis=1), 1), x)
    for axis in (None, 0, -1, (0, 2)):
        agree(xp.flip(a, axis=axis), np.flip(x, axis))
    agree(xp.broadcast_to(a, (5, 2, 3, 4)), np.broadcast_to(x, (5, 2, 3, 4)))
    agree(xp.concat([a, a], axis=-1), np.concatenate([x, x], axis=-1))
    agree(xp.concat((a, a), axis=None), np.concatenate([x, x], axis=None))
    agree(xp.stack([a, a], axis=1), np.stack([x, x], axis=1))
    mixed = [xp.zeros(2, dtype=xp.float32), xp.ones(2, dtype=xp.float64)]
    assert xp.concat(mixed).dtype == xp.float64
    for one, other in zip(xp.unstack(a, axis=1), np.unstack(x, axis=1), strict=True):
        agree(one, other)
    first, second = xp.broadcast_arrays(xp.zeros((3, 1)), xp.zeros(4))
    assert first.shape == second.shape == (3, 4)
    with pytest.raises(IndexError):
        xp.expand_dims(a, axis=5)
    with pytest.raises(ValueError):
        xp.squeeze(a, 0)


def test_places() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    a = xp.asarray(x)
    for shift, axis in ((1, None), (-2, 1), ((1, 2), (0, 2))):
        agree(xp.roll(a, shift, axis=axis), np.roll(x, shift, axis))
    agree(xp.moveaxis(a, 0, -1), np.moveaxis(x, 0, -1))
    agree(xp.moveaxis(a, (0, 1), (2, 0)), np.moveaxis(x, (0, 1), (2, 0)))
    agree(xp.tile(a, (2, 1, 3)), np.tile(x, (2, 1, 3)))
    agree(xp.repeat(a, 3), np.repeat(x, 3))
    agree(xp.repeat(a, 2, axis=1), np.repeat(x, 2, axis=1))
    agree(xp.repeat(a, xp.asarray([1, 0, 2]), axis=1), np.repeat(x, [1, 0, 2], axis=1))


# -- sums, orders, sets ----------------------------------------------------------------------------

AXES: list[Any] = [None, 0, -1, (0, 1), ()]


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "all", "any", "mean"])
def test_reductions(name: str) -> None:
    for dtype in ALL:
        x = sample(dtype).reshape(-1)[:6].reshape(2, 3)
        defined = {"mean": "f", "all": "biuf", "any": "biuf"}.get(name, "iuf")
        if x.dtype.kind not in defined:
            with pytest.raises(TypeError):
                getattr(xp, name)(xp.asarray(x))
            continue
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        for axis, keepdims in itertools.product(AXES, (False, True)):
            result = getattr(xp, name)(xp.asarray(x), axis=axis, keepdims=keepdims)
            expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
            agree(result, np.asarray(expected), tolerance)


def test_sums_in_another_dtype_and_of_nothing() -> None:
    x = xp.ones(3, dtype=xp.int8)
    assert xp.sum(x, dtype=xp.int8).dtype == xp.int8
    assert xp.sum(x).dtype == xp.int64
    assert xp.sum(xp.ones(3, dtype=xp.uint8)).dtype == xp.uint64
    assert float(xp.sum(xp.zeros(0))) == 0.0 and float(xp.prod(xp.zeros(0))) == 1.0
    assert bool(xp.all(xp.zeros(0))) and not bool(xp.any(xp.zeros(0)))


@pytest.mark.parametrize("name", ["std", "var"])
def test_spreads(name: str) -> None:
    x = RANDOM.uniform(-1, 1, (3, 4))
    for axis, correction in itertools.product((None, 0, -1), (0, 1, 0.5)):
        result = getattr(xp, name)(xp.asarray(x), axis=axis, correction=correction)
        expected = getattr(np, name)(x, axis=axis, correction=correction)
        agree(result, np.asarray(expected), 1e-13)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
def test_running_totals(name: str) -> None:
    for dtype in (*INTEGERS, *FLOATS):
        x = sample(dtype).reshape(-1)[:6].reshape(2, 3)
        for axis, initial in itertools.product((0, 1, -1), (False, True)):
            result = getattr(xp, name)(xp.asarray(x), axis=axis, include_initial=initial)
            expected = getattr(np, name)(x, axis=axis, include_initial=initial)
            agree(result, expected, 1e-5 if dtype == "float32" else 1e-13)
    with pytest.raises(ValueError):
        getattr(xp, name)(xp.zeros((2, 2)))


def test_differences() -> None:
    x = RANDOM.uniform(-1, 1, (3, 4))
    a = xp.asarray(x)
    agree(xp.diff(a), np.diff(x))
    agree(xp.diff(a, axis=0, n=2), np.diff(x, n=2, axis=0))
    agree(xp.diff(a, prepend=a, append=a[:, :1]), np.diff(x, prepend=x, append=x[:, :1]))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extrema(name: str) -> None:
    x = RANDOM.integers(-3, 4, (3, 4))
    for axis, keepdims in itertools.product((None, 0, -1), (False, True)):
        result = getattr(xp, name)(xp.asarray(x), axis=axis, keepdims=keepdims)
        agree(result, np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims)))


def test_sorting_in_both_directions_is_stable() -> None:
    x = RANDOM.integers(-2, 3, (4, 6))
    a = xp.asarray(x)
    for axis in (0, -1):
        agree(xp.sort(a, axis=axis), np.sort(x, axis=axis))
        agree(xp.sort(a, axis=axis, descending=True), np.flip(np.sort(x, axis=axis), axis))
        agree(xp.argsort(a, axis=axis), np.argsort(x, axis=axis, stable=True))
        stable = np.argsort(-x, axis=axis, stable=True)
        agree(xp.argsort(a, axis=axis, descending=True), stable)


def test_searching() -> None:
    x, y = np.array([1.0, 2.0, 2.0, 5.0]), np.array([[0.0, 2.0], [6.0, 3.0]])
    for side in ("left", "right"):
        result = xp.searchsorted(xp.asarray(x), xp.asarray(y), side=side)
        agree(result, np.searchsorted(x, y, side=side))
    order = np.array([3, 0, 2, 1])
    result = xp.searchsorted(
        xp.asarray(x[np.argsort(order)]),
        xp.asarray(y),
        sorter=xp.asarray(np.argsort(np.argsort(order))),
    )
    assert result.shape == y.shape


def test_taking() -> None:
    x = np.arange(12.0).reshape(3, 4)
    agree(xp.take(xp.asarray(x), xp.asarray([2, 0]), axis=1), x[:, [2, 0]])
    agree(xp.take(xp.asarray(x[0]), xp.asarray([2, 0])), x[0][[2, 0]])
    order = np.argsort(-x, axis=1)
    result = xp.take_along_axis(xp.asarray(x), xp.asarray(order), axis=1)
    agree(result, np.take_along_axis(x, order, 1))
    with pytest.raises(ValueError):
        xp.take(xp.asarray(x), xp.asarray([0]))


def test_sets() -> None:
    x = np.array([[3.0, 1.0, np.nan], [1.0, np.nan, 3.0]])
    a = xp.asarray(x)
    values, indices, inverse, counts = xp.unique_all(a)
    np.testing.assert_array_equal(np.asarray(values), [1.0, 3.0, np.nan, np.nan])
    assert inverse.shape == x.shape
    np.testing.assert_array_equal(np.asarray(values)[np.asarray(inverse)], x)
    np.testing.assert_array_equal(x.ravel()[np.asarray(indices)], np.asarray(values))
    np.testing.assert_array_equal(np.asarray(counts), [2, 2, 1, 1])
    assert xp.unique_values(a).shape == xp.unique_counts(a).counts.shape == (4,)
    assert xp.unique_inverse(a).inverse_indices.shape == x.shape
    for one, other in zip(xp.nonzero(a > 2), np.nonzero(x > 2), strict=True):
        agree(one, other)
    with pytest.raises(ValueError):
        xp.nonzero(xp.asarray(1.0))
    agree(xp.isin(xp.asarray([1, 2, 3]), xp.asarray([2, 5])), np.array([False, True, False]))


def test_code_written_to_the_standard_runs_eagerly_and_compiled() -> None:
    import graphc as gx

    def scaled(x: Any) -> Any:
        namespace = x.__array_namespace__()
        return namespace.tanh(x) / (1 + namespace.sum(x * x, axis=-1, keepdims=True))

    x = RANDOM.uniform(-1, 1, (3, 4))
    agree(scaled(xp.asarray(x)), gx.jit(scaled)(x), 1e-13)
