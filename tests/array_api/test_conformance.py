"""Does each area of the standard hold on drawn arrays of every dtype and shape?

One section for each module of the consortium's suite (tests/array_api/skips.txt names what of it is
not met, and why); special cases have a file of their own. Arrays are drawn through the namespace by
hypothesis; NumPy, whose functions have the standard's meaning where kinds do not mix, is the
reference, and `array_api_strict` that of names and signatures, where it is installed.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import graphc.array_api as xp
from graphc.array_api import elementwise

DRAWN = make_strategies_namespace(xp, api_version="2024.12")
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SIGNED = (xp.int8, xp.int16, xp.int32, xp.int64)
UNSIGNED = (xp.uint8, xp.uint16, xp.uint32, xp.uint64)
FLOATS = (xp.float32, xp.float64)
INTEGERS = (*SIGNED, *UNSIGNED)
NUMBERS = (*INTEGERS, *FLOATS)
DTYPES = (xp.bool, *NUMBERS)
SHAPES = DRAWN.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
MATRICES = DRAWN.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=3)
FILLED = DRAWN.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
OPERATORS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "pow": operator.pow,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift,
    "bitwise_right_shift": operator.rshift,
}
IN_PLACE = {
    "add": operator.iadd,
    "subtract": operator.isub,
    "multiply": operator.imul,
    "divide": operator.itruediv,
    "floor_divide": operator.ifloordiv,
    "pow": operator.ipow,
    "remainder": operator.imod,
    "bitwise_and": operator.iand,
    "bitwise_or": operator.ior,
    "bitwise_xor": operator.ixor,
    "bitwise_left_shift": operator.ilshift,
    "bitwise_right_shift": operator.irshift,
}
NUMPY_NAMES = {"pow": "power", "concat": "concatenate", "permute_dims": "transpose"}


def numpy_function(name: str) -> Any:
    return getattr(np, name) if hasattr(np, name) else getattr(np, NUMPY_NAMES[name])


def quiet(function: Any, *args: Any, **named: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(function(*args, **named))


def equal(result: Any, expected: Any, rtol: float = 0.0) -> None:
    expected = np.asarray(expected)
    assert type(result) is xp.Array
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=rtol, atol=rtol)


def drawn(data: Any, dtypes: Any, shapes: Any = SHAPES, **elements: Any) -> tuple[Any, np.ndarray]:
    """An array of one of the dtypes, and NumPy's of the same values."""
    dtype = data.draw(st.sampled_from(dtypes))
    x = data.draw(DRAWN.arrays(dtype, shapes, elements=elements or None))
    return x, np.asarray(x).copy()


def small(data: Any, dtypes: Any, shapes: Any = FILLED) -> tuple[Any, np.ndarray]:
    """As `drawn`, of numbers from 0 to 4: their sums and products are exact."""
    return drawn(data, dtypes, shapes, min_value=0, max_value=4)


# -- names and signatures --------------------------------------------------------------------------


def plain_signature(function: Any) -> inspect.Signature:
    found = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return found.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def accepts(ours: inspect.Signature, theirs: inspect.Signature) -> None:
    """Ours takes every call that theirs takes; a default that theirs only marks may be any."""
    assert list(ours.parameters) == list(theirs.parameters)
    for name, wanted in theirs.parameters.items():
        got = ours.parameters[name]
        assert got.kind in (wanted.kind, got.POSITIONAL_OR_KEYWORD)
        if wanted.default is not wanted.empty and "UNDEF" not in repr(wanted.default):
            assert got.default == wanted.default or got.default is wanted.default


def strict() -> Any:
    module = pytest.importorskip("array_api_strict", reason="names come from array_api_strict")
    module.set_array_api_strict_flags(api_version="2024.12")
    return module


def test_names_and_signatures_are_those_of_array_api_strict() -> None:
    module = strict()
    foreign = ("Device", "ALL_DEVICES", "ArrayAPIStrictFlags", "__version__")
    names = [n for n in module.__all__ if n not in foreign and not n.endswith("strict_flags")]
    assert {n for n in names if not hasattr(xp, n)} == {"complex64", "complex128", "fft"}
    assert all(hasattr(xp.linalg, name) for name in module.linalg.__all__)
    spaces = [(module, xp, names), (module.linalg, xp.linalg, module.linalg.__all__)]
    for theirs, ours, found in spaces:
        for name in found:
            function = getattr(theirs, name)
            if inspect.isfunction(function) and hasattr(ours, name):
                accepts(plain_signature(getattr(ours, name)), plain_signature(function))


def test_the_array_has_the_attributes_and_methods_of_the_standard() -> None:
    module = strict()
    array = module.asarray([1.0])
    of_strict = {"__array_interface__", "__buffer__", "__release_buffer__", "__array_priority__"}
    names = [n for n in dir(type(array)) if n not in dir(object) and n not in of_strict]
    public = [n for n in names if n.startswith("__") or not n.startswith("_")]
    assert not [name for name in public if not hasattr(xp.Array, name)]


def test_what_is_absent_says_why() -> None:
    for name, why in (("complex64", "complex dtypes"), ("fft", "Fourier transforms")):
        with pytest.raises(AttributeError, match=f"graphc has no {why} yet"):
            getattr(xp, name)
    with pytest.raises(AttributeError, match="'nothing'$"):
        xp.nothing  # noqa: B018
    for x in (1j, [1.0, 2j]):
        with pytest.raises(ValueError, match="complex128 is not supported"):
            xp.asarray(x)


# -- data types and functions of them --------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_functions_of_dtypes(dtype: Any) -> None:
    name = dtype.name
    kinds = {
        "bool": name == "bool",
        "signed integer": name.startswith("int"),
        "unsigned integer": name.startswith("uint"),
        "integral": "int" in name,
        "real floating": name.startswith("float"),
        "complex floating": False,
        "numeric": name != "bool",
    }
    assert {kind: xp.isdtype(dtype, kind) for kind in kinds} == kinds
    assert (dtype, hash(dtype)) == (np.dtype(name), hash(np.dtype(name)))
    x = xp.zeros((2,), dtype=dtype)
    assert x.dtype == dtype and xp.result_type(x) == xp.result_type(dtype, dtype) == dtype
    assert xp.can_cast(x, dtype)
    if "int" in name:
        found = xp.iinfo(x)
        bits = int(name.strip("uint"))
        most = 2 ** (bits - (not kinds["unsigned integer"])) - 1
        assert (found.bits, found.max, found.dtype) == (bits, most, dtype)
        assert found.min == (0 if kinds["unsigned integer"] else -most - 1)
    if "float" in name:
        found = xp.finfo(x)
        digits = {32: 24, 64: 53}[found.bits]
        assert (found.eps, found.dtype) == (2.0 ** (1 - digits), dtype)
        most = (2.0 - 2.0 ** (1 - digits)) * 2.0 ** {32: 127, 64: 1023}[found.bits]
        assert (found.max, found.min) == (most, -most)
        assert found.smallest_normal == 2.0 ** {32: -126, 64: -1022}[found.bits]


def test_promotion_is_a_lattice() -> None:
    for first, second in itertools.product(DTYPES, DTYPES):
        both = xp.result_type(first, second)
        assert both == xp.result_type(second, first)
        x, y = xp.ones((1,), dtype=first), xp.ones((1,), dtype=second)
        assert xp.concat([x, y]).dtype == xp.stack([x, y]).dtype == both
        assert xp.where(xp.asarray([True]), x, y).dtype == both
        if first.kind == second.kind:
            assert both == (first if first.itemsize >= second.itemsize else second)
            assert xp.can_cast(first, second) == (first.itemsize <= second.itemsize)
        if first.kind == "i" and second.kind == "u" and second.itemsize < 8:
            assert both == xp.int64 if second.itemsize == 4 else both.kind == "i"
            assert both.itemsize == max(first.itemsize, 2 * second.itemsize)


def test_python_numbers_take_the_dtype_of_the_array() -> None:
    for dtype in DTYPES:
        x = xp.ones((2,), dtype=dtype)
        for number, kinds in ((True, "b"), (2, "iuf"), (2.5, "f")):
            for name, (_, defined) in elementwise.BINARY.items():
                function = getattr(xp, name)
                if dtype.kind not in defined or dtype.kind not in kinds:
                    for pair in ((x, number), (number, x)):
                        with pytest.raises(TypeError):
                            function(*pair)
                    continue
                beside = xp.asarray(number, dtype=dtype)
                equal(function(x, number), np.asarray(function(x, beside)))
                equal(function(number, x), np.asarray(function(beside, x)))
        number = True if dtype == xp.bool else 1
        assert xp.where(xp.asarray([True, False]), x, number).dtype == dtype
    for number in (300, -1):
        with pytest.raises(ValueError, match="cannot make a uint8 constant"):
            xp.ones((2,), dtype=xp.uint8) + number


# -- inspection ------------------------------------------------------------------------------------


def test_inspection() -> None:
    info = xp.__array_namespace_info__()
    assert set(info.capabilities()) == {
        *("boolean indexing", "data-dependent shapes", "max dimensions"),
    }
    most = info.capabilities()["max dimensions"]
    assert xp.zeros((1,) * most).ndim == most
    for device in (None, *info.devices()):
        defaults = info.default_dtypes(device=device)
        assert xp.zeros(1, device=device).dtype == defaults["real floating"]
        assert xp.asarray(1, device=device).dtype == defaults["integral"]
        assert xp.argmax(xp.zeros(1, device=device)).dtype == defaults["indexing"]
        assert xp.nonzero(xp.zeros(1))[0].dtype == defaults["indexing"]
        assert set(info.dtypes(device=device).values()) == set(DTYPES)
    for kind in ("bool", "signed integer", "unsigned integer", "real floating", "numeric"):
        wanted = {d.name for d in DTYPES if xp.isdtype(d, kind)}
        assert set(info.dtypes(kind=kind)) == wanted
    assert info.dtypes(kind="complex floating") == {}
    assert set(info.dtypes(kind=("bool", "integral"))) == {"bool", *(d.name for d in INTEGERS)}


# -- creation --------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_creation(data: Any) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(SHAPES)
    value = data.draw(DRAWN.from_dtype(dtype))
    given_shape = shape[0] if len(shape) == 1 and data.draw(st.booleans()) else shape
    equal(xp.full(given_shape, value, dtype=dtype), np.full(shape, value, dtype))
    equal(xp.zeros(given_shape, dtype=dtype), np.zeros(shape, dtype))
    equal(xp.ones(given_shape, dtype=dtype), np.ones(shape, dtype))
    assert xp.empty(given_shape, dtype=dtype).shape == shape
    like = xp.zeros(shape, dtype=dtype)
    other = data.draw(st.sampled_from(DTYPES))
    equal(xp.ones_like(like), np.ones(shape, dtype))
    equal(xp.zeros_like(like, dtype=other), np.zeros(shape, other))
    equal(xp.full_like(like, value), np.full(shape, value, dtype))
    assert xp.empty_like(like, dtype=other).dtype == other
    rows, columns, k = (data.draw(st.integers(low, 4)) for low in (0, 0, -4))
    equal(xp.eye(rows, columns, k=k, dtype=dtype), np.eye(rows, columns, k, dtype))
    equal(xp.eye(rows), np.eye(rows))


@FEW
@given(st.data())
def test_ranges(data: Any) -> None:
    dtype = data.draw(st.sampled_from((None, *SIGNED, *FLOATS)))
    start, stop = data.draw(st.integers(-50, 50)), data.draw(st.integers(-50, 50))
    step = data.draw(st.integers(-9, 9).filter(bool))
    equal(xp.arange(start, stop, step, dtype=dtype), np.arange(start, stop, step, dtype=dtype))
    equal(xp.arange(stop, dtype=dtype), np.arange(stop, dtype=dtype))
    num, endpoint = data.draw(st.integers(0, 9)), data.draw(st.booleans())
    floating = data.draw(st.sampled_from((None, *FLOATS)))
    result = xp.linspace(start, stop, num, dtype=floating, endpoint=endpoint)
    expected = np.linspace(start, stop, num, dtype=floating, endpoint=endpoint)
    equal(result, expected, 1e-5 if floating == xp.float32 else 1e-13)
    if num > 1:
        assert float(result[0]) == start and (not endpoint or float(result[-1]) == stop)


@FEW
@given(st.data())
def test_parts_of_matrices_and_grids(data: Any) -> None:
    x, value = drawn(data, DTYPES, MATRICES)
    k = data.draw(st.integers(-5, 5))
    equal(xp.tril(x, k=k), np.tril(value, k))
    equal(xp.triu(x, k=k), np.triu(value, k))
    lines = [drawn(data, DTYPES, (n,)) for n in range(data.draw(st.integers(0, 3)))]
    indexing = data.draw(st.sampled_from(("xy", "ij")))
    found = xp.meshgrid(*[line for line, _ in lines], indexing=indexing)
    wanted = np.meshgrid(*[line for _, line in lines], indexing=indexing)
    for one, other in zip(found, wanted, strict=True):
        equal(one, other)


@FEW
@given(st.data())
def test_arrays_of_sequences_of_buffers_and_of_arrays(data: Any) -> None:
    x, value = drawn(data, DTYPES)
    if x.size:  # an empty list has no dtype, and no inner extents
        equal(xp.asarray(value.tolist(), dtype=x.dtype), value)
    equal(xp.asarray(memoryview(value)), value)
    copied, same = xp.asarray(x, copy=True), xp.asarray(x, copy=False)
    equal(same, value)
    if x.size:
        copied[...] = xp.zeros((), dtype=x.dtype)
        equal(x, value)
    for dtype in (xp.float64, x.dtype):
        equal(xp.asarray(x, dtype=dtype), value.astype(dtype))


# -- the exchange of memory ------------------------------------------------------------------------


@FEW
@given(st.data())
def test_dlpack_both_ways(data: Any) -> None:
    x, value = drawn(data, DTYPES)
    equal(xp.from_dlpack(x), value)
    equal(xp.from_dlpack(value), value)
    np.testing.assert_array_equal(np.from_dlpack(x), value)
    copied = xp.from_dlpack(value, copy=True)
    value[...] = 0
    equal(copied, np.asarray(x))
    assert x.__dlpack_device__() == (1, 0)
    for version in (None, (1, 0)):
        assert "dltensor" in repr(x.__dlpack__(max_version=version, copy=False))


# -- element by element, and operators -------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
@FEW
@given(data=st.data())
def test_operators_are_the_functions(name: str, data: Any) -> None:
    kinds = elementwise.BINARY[name][1]
    dtypes = [dtype for dtype in DTYPES if dtype.kind in kinds]
    shapes = data.draw(DRAWN.mutually_broadcastable_shapes(2, max_dims=2, max_side=3)).input_shapes
    bounds = {"min_value": 0, "max_value": 6} if "shift" in name or name == "pow" else {}
    x, first = drawn(data, dtypes, shapes[0], **bounds)
    y, second = drawn(data, [x.dtype], shapes[1], **bounds)
    if x.dtype.kind in "iu" and name in ("floor_divide", "remainder"):
        assume(bool(np.all(second != 0)))
    rtol = 1e-6 if name == "pow" and x.dtype.kind == "f" else 0.0
    expected = quiet(numpy_function(name), first, second)
    equal(getattr(xp, name)(x, y), expected, rtol)
    equal(OPERATORS[name](x, y), expected, rtol)
    if y.shape == () and type(scalar := second.item()) in (bool, int, float):
        assume(x.dtype != xp.float32 or np.float32(scalar) == scalar or math.isnan(scalar))
        equal(OPERATORS[name](x, scalar), expected, rtol)
    if x.shape == () and type(scalar := first.item()) in (bool, int, float):
        equal(OPERATORS[name](scalar, y), expected, rtol)
    if name in IN_PLACE and expected.shape == first.shape:
        changed, kept = xp.asarray(x, copy=True), xp.asarray(x)
        before = changed
        changed = IN_PLACE[name](changed, y)
        assert changed is before
        equal(changed, expected, rtol)
        equal(kept, first)


@FEW
@given(data=st.data())
def test_unary_operators(data: Any) -> None:
    x, value = drawn(data, NUMBERS)
    for apply in (operator.neg, operator.pos, operator.abs):
        equal(apply(x), quiet(apply, value))
    x, value = drawn(data, (xp.bool, *INTEGERS))
    equal(~x, ~value)
    for apply in (operator.neg, operator.pos, operator.abs):
        with pytest.raises(TypeError, match="not defined for dtype bool"):
            apply(xp.asarray(True))
    with pytest.raises(TypeError, match="not defined for dtype float64"):
        ~xp.asarray(1.0)


@FEW
@given(data=st.data())
def test_clip_and_where(data: Any) -> None:
    shapes = data.draw(DRAWN.mutually_broadcastable_shapes(3, max_dims=2, max_side=3)).input_shapes
    x, value = drawn(data, NUMBERS, shapes[0])
    kind = [x.dtype]
    low, low_value = drawn(data, kind, shapes[1], **finite(x.dtype))
    high, high_value = drawn(data, kind, shapes[2], **finite(x.dtype))
    assume(bool(np.all(low_value <= high_value)))
    equal(xp.clip(x, low, high), np.clip(value, low_value, high_value))
    equal(xp.clip(x, max=high), np.minimum(value, high_value))
    equal(xp.clip(x, low), np.maximum(value, low_value))
    mask, chosen = drawn(data, [xp.bool], shapes[0])
    equal(xp.where(mask, low, high), np.where(chosen, low_value, high_value))
    for bound in (True, "1", xp.asarray(True), xp.asarray(1 if x.dtype.kind == "f" else 1.0)):
        with pytest.raises(TypeError, match="does not bound"):
            xp.clip(x, bound)


def finite(dtype: Any) -> dict[str, Any]:
    return {"allow_nan": False} if dtype.kind == "f" else {}


# -- indexing --------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_keys_of_every_form(data: Any) -> None:
    x, value = drawn(data, DTYPES, FILLED)
    inside = {"min_value": -x.shape[0], "max_value": x.shape[0] - 1}
    rows = data.draw(DRAWN.arrays(xp.int64, (3,), elements=inside))
    mask, chosen = drawn(data, [xp.bool], x.shape)
    first, chosen_first = drawn(data, [xp.bool], x.shape[:1])
    keys = [
        (data.draw(DRAWN.indices(x.shape, allow_newaxis=True)),) * 2,
        (mask, chosen),
        (first, chosen_first),
        (rows, np.asarray(rows)),
        ((rows, ...), (np.asarray(rows), ...)),
        ((..., None), (..., None)),
        ((rows, *[0] * (x.ndim - 1)), (np.asarray(rows), *[0] * (x.ndim - 1))),
    ]
    number = data.draw(DRAWN.from_dtype(x.dtype))
    for ours, theirs in keys:
        equal(x[ours], value[theirs])
        for new in (number, xp.asarray(number, dtype=x.dtype), x[ours]):
            changed, expected = xp.asarray(x, copy=True), value.copy()
            changed[ours] = new
            expected[theirs] = np.asarray(new)
            equal(changed, expected)
        equal(x, value)
    indices, places = small(data, SIGNED, x.shape[:-1] + (2,))
    places %= x.shape[-1]
    indices = indices % x.shape[-1]
    taken = np.take_along_axis(value, places.astype("int64"), axis=-1)
    equal(xp.take_along_axis(x, indices), taken)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    rows = rows % x.shape[axis]
    equal(xp.take(x, rows, axis=axis), np.take(value, np.asarray(rows), axis))


# -- manipulation ----------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_manipulation(data: Any) -> None:
    x, value = drawn(data, DTYPES, FILLED)
    n = x.ndim
    axis = data.draw(st.integers(-n, n - 1))
    order = tuple(data.draw(st.permutations(range(n))))
    equal(xp.permute_dims(x, order), value.transpose(order))
    equal(xp.moveaxis(x, axis, 0), np.moveaxis(value, axis, 0))
    equal(xp.moveaxis(x, order, tuple(range(n))), np.moveaxis(value, order, tuple(range(n))))
    equal(xp.expand_dims(x, axis=axis), np.expand_dims(value, axis))
    equal(xp.squeeze(xp.expand_dims(x, axis=0), axis=(0,)), value)
    for along in (None, axis, tuple(range(n))):
        equal(xp.flip(x, axis=along), np.flip(value, along))
    shift = data.draw(st.integers(-9, 9))
    for along in (None, axis):
        equal(xp.roll(x, shift, axis=along), np.roll(value, shift, along))
    equal(xp.roll(x, (shift, 1), axis=(axis, 0)), np.roll(value, (shift, 1), (axis, 0)))
    repetitions = data.draw(st.tuples(*[st.integers(0, 2)] * data.draw(st.integers(0, 4))))
    equal(xp.tile(x, repetitions), np.tile(value, repetitions))
    counts = data.draw(
        DRAWN.arrays(xp.uint64, (x.shape[axis],), elements={"min_value": 0, "max_value": 3})
    )
    times = np.asarray(counts).astype("int64")
    equal(xp.repeat(x, counts, axis=axis), np.repeat(value, times, axis))
    equal(xp.repeat(x, shift % 4, axis=axis), np.repeat(value, shift % 4, axis))
    with pytest.raises(TypeError, match="is an integer, not bool"):
        xp.repeat(x, xp.asarray(True))
    for copy in (None, True):
        equal(xp.reshape(x, (-1,), copy=copy), value.reshape(-1))
    equal(xp.reshape(x, shape=(*x.shape[::-1], 1)), value.reshape(*x.shape[::-1], 1))
    y, other = drawn(data, [d for d in DTYPES if d.kind == x.dtype.kind], x.shape)
    equal(xp.concat([x, y], axis=axis), np.concatenate([value, other], axis))
    equal(xp.concat((x, y, x), axis=None), np.concatenate([value, other, value], None))
    equal(xp.stack([x, y], axis=axis), np.stack([value, other], axis))
    for one, two in zip(xp.unstack(x, axis=axis), np.unstack(value, axis=axis), strict=True):
        equal(one, two)
    shape = (2, *x.shape)
    equal(xp.broadcast_to(x, shape), np.broadcast_to(value, shape))
    for one in xp.broadcast_arrays(x, xp.zeros(shape)):
        assert one.shape == shape


# -- searching, sorting, sets ----------------------------------------------------------------------


@FEW
@given(st.data())
def test_sorting_and_searching(data: Any) -> None:
    x, value = drawn(data, NUMBERS, FILLED)
    assume(not np.isnan(value).any())  # where NaN sorts is left open
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    descending, stable = data.draw(st.booleans()), data.draw(st.booleans())
    ordered = np.sort(value, axis)
    ordered = np.flip(ordered, axis) if descending else ordered
    equal(xp.sort(x, axis=axis, descending=descending, stable=stable), ordered)
    places = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    assert places.dtype == xp.int64
    equal(xp.take_along_axis(x, places, axis=axis), ordered)
    if stable:  # equal elements by their positions
        same = np.diff(np.take_along_axis(value, np.asarray(places), axis), axis=axis) == 0
        assert bool(np.all(np.diff(np.asarray(places), axis=axis)[same] > 0))
    for along, keepdims in itertools.product((None, axis), (False, True)):
        for name in ("argmax", "argmin"):
            found = getattr(xp, name)(x, axis=along, keepdims=keepdims)
            equal(found, getattr(np, name)(value, axis=along, keepdims=keepdims))
        found = xp.count_nonzero(x, axis=along, keepdims=keepdims)
        equal(found, np.asarray(np.count_nonzero(value, axis=along, keepdims=keepdims)))
    for one, other in zip(xp.nonzero(x), np.nonzero(value), strict=True):
        equal(one, other)
    line, line_value = xp.sort(xp.reshape(x, (-1,))), np.sort(value.reshape(-1))
    for side in ("left", "right"):
        expected = np.searchsorted(line_value, value, side)
        equal(xp.searchsorted(line, x, side=side), expected)
        flat = xp.reshape(x, (-1,))
        equal(xp.searchsorted(flat, x, side=side, sorter=xp.argsort(flat)), expected)


@FEW
@given(st.data())
def test_sets(data: Any) -> None:
    x, value = drawn(data, DTYPES)
    flat = value.reshape(-1)
    every, counted = xp.unique_all(x), xp.unique_counts(x)
    inverted, values = xp.unique_inverse(x), xp.unique_values(x)
    assert every._fields == ("values", "indices", "inverse_indices", "counts")
    assert counted._fields == ("values", "counts")
    assert inverted._fields == ("values", "inverse_indices")
    for found in (every.values, counted.values, inverted.values):
        equal(found, np.asarray(values))
    assert values.dtype == x.dtype
    assert {every.indices.dtype, every.inverse_indices.dtype, every.counts.dtype} == {
        xp.__array_namespace_info__().default_dtypes()["indexing"]
    }
    nans = int(np.isnan(flat).sum())
    assert values.size == len({v.item() for v in flat if v == v}) + nans
    np.testing.assert_array_equal(np.asarray(values)[np.asarray(every.inverse_indices)], value)
    equal(inverted.inverse_indices, np.asarray(every.inverse_indices))
    np.testing.assert_array_equal(flat[np.asarray(every.indices)], np.asarray(values))
    assert int(xp.sum(every.counts)) == x.size
    np.testing.assert_array_equal(np.asarray(every.counts), np.asarray(counted.counts))
    y, other = drawn(data, [x.dtype])
    equal(xp.isin(x, y), np.isin(value, other))
    equal(xp.isin(x, y, invert=True), np.isin(value, other, invert=True))


# -- statistics and utilities ----------------------------------------------------------------------


def axes_of(data: Any, x: Any) -> Any:
    several = st.lists(st.integers(0, x.ndim - 1), unique=True).map(tuple)
    return data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1), several))


@FEW
@given(st.data())
def test_statistics(data: Any) -> None:
    x, value = small(data, NUMBERS)
    axis, keepdims = axes_of(data, x), data.draw(st.booleans())
    options = {"axis": axis, "keepdims": keepdims}
    for name in ("max", "min", "sum", "prod"):
        rtol = 1e-6 if (name, x.dtype) == ("prod", xp.float32) else 1e-13
        equal(getattr(xp, name)(x, **options), getattr(np, name)(value, **options), rtol)
    wide = xp.float64 if x.dtype.kind == "f" else xp.int64
    for name in ("sum", "prod"):
        with np.errstate(over="ignore"):
            expected = getattr(np, name)(value.astype(wide), **options)
        equal(getattr(xp, name)(x, dtype=wide, **options), expected, 1e-13)
        assert getattr(xp, name)(x, dtype=x.dtype).dtype == x.dtype
    if x.dtype.kind == "f":
        rtol = 1e-5 if x.dtype == xp.float32 else 1e-12
        equal(xp.mean(x, **options), np.mean(value, **options), rtol)
        correction = data.draw(st.sampled_from((0, 0.0, 0.5, 1)))
        count = value.size // max(np.max(value, axis=axis).size, 1)
        if count - correction > 0:
            for name in ("std", "var"):
                wanted = getattr(np, name)(value, correction=correction, **options)
                equal(getattr(xp, name)(x, correction=correction, **options), wanted, rtol * 10)
    one, initial = data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.booleans())
    for name in ("cumulative_sum", "cumulative_prod"):
        found = getattr(xp, name)(x, axis=one, include_initial=initial)
        wanted = getattr(np, name)(value, axis=one, include_initial=initial)
        equal(found, wanted, 1e-6)


@FEW
@given(st.data())
def test_utilities(data: Any) -> None:
    x, value = drawn(data, DTYPES, FILLED)
    options = {"axis": axes_of(data, x), "keepdims": data.draw(st.booleans())}
    equal(xp.all(x, **options), np.all(value, **options))
    equal(xp.any(x, **options), np.any(value, **options))
    x, value = drawn(data, NUMBERS, FILLED)
    axis, n = data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.integers(0, 2))
    equal(xp.diff(x, axis=axis, n=n), quiet(np.diff, value, n, axis))
    ends = {"prepend": value, "append": value}
    result = xp.diff(x, axis=axis, prepend=x, append=x)
    equal(result, quiet(np.diff, value, axis=axis, **ends))


# -- linear algebra --------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_products(data: Any) -> None:
    x, value = small(data, NUMBERS, MATRICES)
    *stack, rows, columns = x.shape
    for shape in ((columns,), (columns, 2), (*[1 for _ in stack], columns, 2)):
        y, other = small(data, [x.dtype], shape)
        equal(xp.matmul(x, y), value @ other)
        equal(xp.linalg.matmul(x, y), value @ other)
        equal(x @ y, value @ other)
    equal(xp.linalg.matrix_transpose(x), np.swapaxes(value, -1, -2))
    equal(x.mT, np.swapaxes(value, -1, -2))
    y, other = small(data, [x.dtype], (columns, 2))
    equal(xp.tensordot(x, y, axes=1), np.tensordot(value, other, 1))
    equal(xp.tensordot(x, y, axes=0), np.tensordot(value, other, 0))
    equal(xp.linalg.tensordot(x, y, axes=((-1,), (0,))), np.tensordot(value, other, ((-1,), (0,))))
    y, other = small(data, [x.dtype], (rows, columns))
    axis = data.draw(st.sampled_from((-1, -2)))
    equal(xp.linalg.vecdot(x, y, axis=axis), np.vecdot(value, other, axis=axis))
    first, second = small(data, [x.dtype], (3,)), small(data, [x.dtype], (2,))
    equal(xp.linalg.outer(first[0], second[0]), np.outer(first[1], second[1]))
    for wrong in (lambda: x @ xp.zeros(()), lambda: xp.linalg.outer(x, first[0])):
        with pytest.raises(ValueError):
            wrong()


@FEW
@given(st.data())
def test_diagonals_powers_and_vectors(data: Any) -> None:
    x, value = small(data, NUMBERS, MATRICES)
    offset = data.draw(st.integers(-3, 3))
    equal(xp.linalg.diagonal(x, offset=offset), np.linalg.diagonal(value, offset=offset))
    wanted = np.sum(np.linalg.diagonal(value, offset=offset), axis=-1)
    equal(xp.linalg.trace(x, offset=offset), wanted)
    assert xp.linalg.trace(x, dtype=xp.float64).dtype == xp.float64
    n, side = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 3))
    square, square_value = small(data, NUMBERS, (2, side, side))
    with np.errstate(over="ignore"):
        power = np.broadcast_to(np.eye(side, dtype=square_value.dtype), square_value.shape)
        for _ in range(n):
            power = power @ square_value
    equal(xp.linalg.matrix_power(square, n), power, 1e-6 if square.dtype.kind == "f" else 0.0)
    shapes = data.draw(DRAWN.mutually_broadcastable_shapes(2, max_dims=2, max_side=3)).input_shapes
    signed = (*SIGNED, *FLOATS)
    dtype = data.draw(st.sampled_from(signed))
    vectors = [small(data, [dtype], (*shape, 3)) for shape in shapes]
    found = xp.linalg.cross(vectors[0][0], vectors[1][0])
    equal(found, np.linalg.cross(vectors[0][1], vectors[1][1]))
    first = [xp.expand_dims(v, axis=-1) for v, _ in vectors]
    equal(xp.linalg.cross(*first, axis=-2), np.asarray(found)[..., None])
    for wrong in (0, -5):
        with pytest.raises(ValueError, match="the axis counts from the end"):
            xp.linalg.cross(first[0], first[1], axis=wrong)
    with pytest.raises(ValueError, match="3 elements"):
        xp.linalg.cross(xp.zeros((2,)), xp.zeros((2,)))


@FEW
@given(st.data())
def test_norms(data: Any) -> None:
    x, value = small(data, FLOATS, DRAWN.array_shapes(min_dims=2, max_dims=3, max_side=3))
    keepdims = data.draw(st.booleans())
    rtol = 1e-5 if x.dtype == xp.float32 else 1e-13
    for order in ("fro", 1, -1, math.inf, -math.inf, 2, -2, "nuc"):
        found = xp.linalg.matrix_norm(x, ord=order, keepdims=keepdims)
        equal(found, quiet(np.linalg.matrix_norm, value, ord=order, keepdims=keepdims), rtol)
    orders = (0, 1, 2, 3, 2.5, -1, -2, math.inf, -math.inf)
    axis, order = axes_of(data, x), data.draw(st.sampled_from(orders))
    found = xp.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=order)
    if axis == () or isinstance(axis, tuple):  # NumPy takes one axis, or two for matrices
        rest = [n for n in range(x.ndim) if n not in axis]
        lines = value.transpose((*rest, *axis)).reshape(*[x.shape[n] for n in rest], -1)
        wanted = quiet(np.linalg.vector_norm, lines, axis=-1, ord=order)
        shape = [1 if n in axis else size for n, size in enumerate(x.shape)]
        equal(found, wanted.reshape(shape) if keepdims else wanted, rtol)
    else:
        options = {"axis": axis, "keepdims": keepdims, "ord": order}
        equal(found, quiet(np.linalg.vector_norm, value, **options), rtol)


def test_modules_of_the_namespace_are_importable_by_name() -> None:
    assert importlib.import_module("graphc.array_api.linalg") is xp.linalg
    assert all(callable(getattr(xp.linalg, name)) for name in xp.linalg.__all__)


# -- decompositions --------------------------------------------------------------------------------

MATRIX = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])
ONE_RESULT: dict[str, dict[str, Any]] = {
    "cholesky": {"upper": True},
    "det": {},
    "eigvalsh": {},
    "inv": {},
    "matrix_rank": {"rtol": 0.5},
    "pinv": {"rtol": 1e-3},
    "svdvals": {},
}
SEVERAL_RESULTS: dict[str, dict[str, Any]] = {
    "eigh": {},
    "qr": {"mode": "complete"},
    "slogdet": {},
    "svd": {"full_matrices": False},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stacked", [False, True])
def test_decompositions(dtype: str, stacked: bool) -> None:
    value = MATRIX.astype(dtype)
    value = np.stack([value, 2 * value]) if stacked else value
    x, rtol = xp.asarray(value), 1e-5 if dtype == "float32" else 1e-13
    for name, options in ONE_RESULT.items():
        wanted = np.asarray(getattr(np.linalg, name)(value, **options))
        equal(getattr(xp.linalg, name)(x, **options), wanted, rtol)
        if options:
            equal(getattr(xp.linalg, name)(x), getattr(np.linalg, name)(value), rtol)
    for name, options in SEVERAL_RESULTS.items():
        found = getattr(xp.linalg, name)(x, **options)
        wanted = getattr(np.linalg, name)(value, **options)
        assert found._fields == wanted._fields
        for got, want in zip(found, wanted, strict=True):  # vectors may differ in sign
            equal(abs(got), np.abs(want), rtol)
    u, s, vh = xp.linalg.svd(x)
    equal(xp.linalg.matmul(u * s[..., None, :], vh), value, 10 * rtol)
    b = xp.asarray(value[..., :2])
    equal(xp.linalg.solve(x, b), np.linalg.solve(value, value[..., :2]), rtol)
    line = np.linalg.solve(value, np.ones(3, dtype))
    equal(xp.linalg.solve(x, xp.ones(3, dtype=x.dtype)), line, rtol)
    equal(xp.linalg.matrix_power(x, -2), np.linalg.matrix_power(value, -2), rtol)


def test_decompositions_that_fail() -> None:
    zero = xp.zeros((2, 2))
    for call in (lambda: xp.linalg.inv(zero), lambda: xp.linalg.cholesky(zero)):
        with pytest.raises(np.linalg.LinAlgError):
            call()
    with pytest.raises(ValueError, match="mode"):
        xp.linalg.qr(zero, mode="r")
    with pytest.raises(TypeError):
        xp.linalg.inv(xp.zeros((2, 2), dtype=xp.int64))
    with pytest.raises(ValueError, match="two axes"):
        xp.linalg.det(xp.zeros(2))
