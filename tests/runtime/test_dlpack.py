"""Are DLPack's structures read and written as NumPy, which has its own implementation, does?"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphc.runtime import dlpack

DTYPES = ("bool", "int8", "uint8", "int16", "int64", "uint64", "float16", "float32", "float64")
VIEWS = {
    "contiguous": lambda a: a,
    "strided": lambda a: a[:, ::2, ::-1],
    "transposed": lambda a: a.T,
    "empty": lambda a: a[:0],
    "rank 0": lambda a: a[1, 1, 1],
}


class Holder:
    """An object with the protocol, over what graphc writes."""

    def __init__(self, view: dlpack.View, versioned: bool) -> None:
        self.view, self.versioned = view, versioned

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.view.device

    def __dlpack__(self, **named: Any) -> Any:
        return dlpack.write(self.view, self.versioned)


def capsule(array: np.ndarray, versioned: bool) -> Any:
    return array.__dlpack__(max_version=(1, 0)) if versioned else array.__dlpack__()


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_go_to_and_fro(dtype: str, name: str, versioned: bool) -> None:
    array = np.asarray(VIEWS[name](np.arange(60).reshape(3, 4, 5).astype(dtype)))
    view = dlpack.read(capsule(array, versioned))
    assert (view.shape, view.dtype, view.device) == (array.shape, array.dtype, (dlpack.CPU, 0))
    if array.size:
        assert view.strides == array.strides
        assert view.address == array.__array_interface__["data"][0]
    given = dlpack._GIVEN.copy()
    again = np.from_dlpack(Holder(view, versioned))
    assert (again == array).all() and again.shape == array.shape
    del again
    gc.collect()
    assert given == dlpack._GIVEN


def test_read_only_is_told() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    view = dlpack.read(capsule(array, True))
    assert view.read_only
    assert not np.from_dlpack(Holder(view, True)).flags.writeable


def test_bfloat16_goes_to_and_fro() -> None:
    array = np.arange(4).astype(ml_dtypes.bfloat16)
    view = dlpack.View(
        array.__array_interface__["data"][0], (dlpack.CPU, 0), array.dtype, (4,), (2,), False, array
    )
    read = dlpack.read(dlpack.write(view, True))
    assert read == dataclasses.replace(view, owner=read.owner)


def test_what_nobody_takes_is_let_go() -> None:
    view = dlpack.read(capsule(np.arange(3.0), False))
    made = dlpack.write(view, True)
    assert len(dlpack._GIVEN) > 0
    before = len(dlpack._GIVEN)
    del made
    assert len(dlpack._GIVEN) == before - 1


def test_an_owner_lives_as_long_as_its_view() -> None:
    array = np.arange(3.0)
    view = dlpack.View(1, (dlpack.CUDA, 0), array.dtype, (3,), (8,), False, array)
    read = dlpack.read(dlpack.write(view, False))
    address = next(reversed(dlpack._GIVEN))
    assert address in dlpack._GIVEN
    del read
    gc.collect()
    assert address not in dlpack._GIVEN


def test_strides_may_be_left_out() -> None:
    made = dlpack.write(dlpack.read(capsule(np.zeros((2, 3)), False)), False)
    address = dlpack._pointer(id(made), b"dltensor")
    dlpack._Managed.from_address(address).tensor.strides = ctypes.POINTER(ctypes.c_int64)()
    assert dlpack.read(made).strides == (24, 8)


def test_what_is_no_capsule_is_refused() -> None:
    for wrong in (3, object()):
        with pytest.raises(TypeError, match="no fresh capsule"):
            dlpack.read(wrong)
    used = capsule(np.zeros(3), False)
    dlpack.read(used)
    with pytest.raises(TypeError, match="no fresh capsule"):
        dlpack.read(used)
    with pytest.raises(TypeError, match="no dtype for elements of DLPack's kind 5, 128 bits"):
        dlpack.read(capsule(np.zeros(3, "c16"), False))
    newer = capsule(np.zeros(3), True)
    address = dlpack._pointer(id(newer), b"dltensor_versioned")
    dlpack._Versioned.from_address(address).major = 2
    with pytest.raises(TypeError, match="DLPack 2.0 is not known"):
        dlpack.read(newer)
    dlpack._Versioned.from_address(address).major = 1


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0, 3), (1, 4, 1)])
def test_strides_in_c_order(shape: tuple[int, ...]) -> None:
    array = np.empty(shape)
    strides = dlpack.contiguous_strides(shape, 8)
    assert len(strides) == len(shape) and dlpack.is_contiguous(shape, strides, 8)
    assert dlpack.is_contiguous(shape, array.strides, 8)
    if array.size:
        assert strides == array.strides
