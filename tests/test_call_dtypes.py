"""Which arguments does a compiled function take for an input of a given dtype?

One rule for every dtype: an array or NumPy scalar is taken if NumPy can cast it safely, a Python
number if its kind is not higher and it is in range; anything else is refused with what was expected
and what came.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes  # noqa: F401, so that NumPy knows bfloat16 by its name
import numpy as np
import pytest

import graphc as gx
from graphc import dtypes

ALL = dtypes.NAMES


def doubled(dtype: str, shape: Any = ("n",)) -> Any:
    """A compiled function that gives its argument back, once as it is and once in an expression."""
    x = gx.symbol("x", shape, dtype)
    return gx.compile([x], [gx.where(x == x, x, x), x])


def values(dtype: str) -> Any:
    return np.arange(6).reshape(2, 3).astype(dtype)


@pytest.mark.parametrize("dtype", ALL)
def test_arrays_of_the_dtype_come_through_in_every_layout(dtype: str) -> None:
    call = doubled(dtype, ("n", "m"))
    base = values(dtype)
    unaligned = np.frombuffer(b"\0" + base.tobytes(), dtype, offset=1).reshape(base.shape)
    swapped = base.astype(np.dtype(dtype).newbyteorder())
    for array in (base, base.T, base[:, ::2], base[::-1], base[:0], unaligned, swapped):
        for result in call(array):
            assert result.dtype == np.dtype(dtype) and result.dtype.isnative
            np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("given", ALL)
def test_arrays_of_other_dtypes_are_cast_if_that_is_safe(dtype: str, given: str) -> None:
    array, scalar = doubled(dtype), doubled(dtype, ())
    for call, value in ((array, values(given)[0]), (scalar, values(given)[0, 1])):
        if np.can_cast(given, dtype, "safe"):
            result = call(value)[0]
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, value.astype(dtype))
        else:
            with pytest.raises(TypeError, match=f"expected an? {dtype}.*\n?.*{given}"):
                call(value)
    x = gx.symbol("x", (3,), dtype)
    if not np.can_cast(given, dtype, "safe"):
        with pytest.raises(TypeError, match=f"{dtype}, got {given}"):
            gx.evaluate([x], {x: values(given)[0]})


@pytest.mark.parametrize("dtype", ALL)
def test_python_numbers_are_weak(dtype: str) -> None:
    call = doubled(dtype, ())
    x = gx.symbol("x", (), dtype)
    kind = dtypes.kind(np.dtype(dtype))
    for value in (True, 7, 2.5):
        taken = {"b": 0, "i": 1, "u": 1, "f": 2}[kind] >= (True, 7, 2.5).index(value)
        if taken:
            assert call(value)[0] == gx.evaluate([x], {x: value})[0] == np.dtype(dtype).type(value)
            continue
        with pytest.raises(TypeError):
            call(value)
        with pytest.raises(TypeError):
            gx.evaluate([x], {x: value})
    if kind in "iu":
        least, most = dtypes.limits(np.dtype(dtype))
        assert [int(call(n)[0]) for n in (least, most)] == [least, most]
        for number in (least - 1, most + 1):
            with pytest.raises(OverflowError):
                call(number)
            with pytest.raises(OverflowError):
                gx.evaluate([x], {x: number})
            with pytest.raises(OverflowError):
                doubled(dtype)([number])


@pytest.mark.parametrize("given", [[1, 0, 1], (True, False), [2.5, 1], [300, 1], [-1], [1j], []])
@pytest.mark.parametrize("dtype", ALL)
def test_lists_of_python_numbers_are_weak(dtype: str, given: Any) -> None:
    """The evaluator takes those that a compiled function takes, and refuses the others alike."""
    call, x = doubled(dtype), gx.symbol("x", ("n",), dtype)
    try:
        expected = call(given)[0]
    except (TypeError, OverflowError) as error:
        with pytest.raises(type(error)):
            gx.evaluate([x], {x: given})
        return
    (found,) = gx.evaluate([x], {x: given})
    assert found.dtype == expected.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ALL)
def test_results_are_written_where_the_caller_wants(dtype: str) -> None:
    call, base = doubled(dtype, (6,)), values(dtype).reshape(-1)
    out = [np.empty(6, dtype), np.empty(12, dtype)[::2]]
    got = call(base, out=out)
    assert got[0] is out[0] and got[1] is out[1]
    for array in out:
        np.testing.assert_array_equal(array, base)


@pytest.mark.parametrize("dtype", ALL)
def test_graph_files_pickles_and_digests_keep_the_dtype(dtype: str) -> None:
    import pickle

    from graphc.graphfile import pack, unpack_one

    value = values(dtype)
    node = gx.where(gx.constant(value) == gx.symbol("x", (2, 3), dtype), gx.constant(value), value)
    assert pickle.loads(pickle.dumps(node)) is node
    assert unpack_one(pack([node])) is node
    others = {gx.constant(value.astype(other)).digest for other in ALL}
    assert len(others) == len(ALL)
