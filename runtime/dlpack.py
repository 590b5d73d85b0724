"""How do array libraries hand one another memory?  DLPack's structures, read and written.

A capsule holds the address of a structure that says where an array lies, and how to let go of it:
https://dmlc.github.io/dlpack/latest/c_api.html. Both forms are read, with a version and without;
what is written is the form that the consumer asks for.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import as_dtype

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_READ_ONLY = 1
VERSION = (1, 0)
# Kinds of elements.
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_number", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_FORMS: tuple[tuple[bytes, type[Any]], ...] = (
    (b"dltensor_versioned", _Versioned),
    (b"dltensor", _Managed),
)
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@dataclass(frozen=True)
class View:
    """Where an array lies; strides are in bytes. `owner` keeps it there."""

    address: int
    device: tuple[int, int]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    read_only: bool
    owner: Any


class _Owner:
    """Calls the deleter of a structure when nobody refers to this any more."""

    def __init__(self, deleter: int | None, address: int) -> None:
        self._deleter = deleter
        self._address = address

    def __del__(self) -> None:
        if self._deleter:
            _DELETER(self._deleter)(self._address)


def read(capsule: Any) -> View:
    """What a capsule says; it is used up, as the protocol demands.

    Raises TypeError for what is no capsule, and for elements that graphc has no dtype for.
    """
    form = next((f for f in _FORMS if _is_valid(id(capsule), f[0])), None)
    if form is None:
        raise TypeError("__dlpack__ returned no fresh capsule")
    name, structure = form
    address = _pointer(id(capsule), name)
    managed = structure.from_address(address)
    if structure is _Versioned and managed.major != VERSION[0]:
        raise TypeError(f"DLPack {managed.major}.{managed.minor} is not known: 1 is")
    tensor = managed.tensor
    dtype = _dtype(tensor)  # before the capsule is used up: it still belongs to its maker
    _rename(id(capsule), _USED[name])
    shape = tuple(tensor.shape[i] for i in range(tensor.rank))
    if tensor.strides:
        strides = tuple(tensor.strides[i] * dtype.itemsize for i in range(tensor.rank))
    else:
        strides = contiguous_strides(shape, dtype.itemsize)
    return View(
        (tensor.data or 0) + tensor.offset,
        (tensor.device_type, tensor.device_number),
        dtype,
        shape,
        strides,
        structure is _Versioned and bool(managed.flags & _READ_ONLY),
        _Owner(managed.deleter, address),
    )


_USED = {b"dltensor_versioned": b"used_dltensor_versioned", b"dltensor": b"used_dltensor"}


def _dtype(tensor: _Tensor) -> np.dtype[Any]:
    if tensor.lanes == 1:
        if (tensor.code, tensor.bits) == (_BFLOAT, 16):
            return as_dtype("bfloat16")
        for kind, code in _CODES.items():
            if code == tensor.code and tensor.bits in (8, 16, 32, 64):
                name = "?" if kind == "b" else f"{kind}{tensor.bits // 8}"
                return as_dtype(np.dtype(name))
    raise TypeError(
        f"graphc has no dtype for elements of DLPack's kind {tensor.code}, {tensor.bits} bits, "
        f"{tensor.lanes} lanes"
    )


def write(view: View, versioned: bool) -> Any:
    """A capsule for an array; its owner lives until whoever takes the capsule lets go of it."""
    name, structure = _FORMS[0 if versioned else 1]
    managed = structure()
    rank = len(view.shape)
    extents = (ctypes.c_int64 * max(rank, 1))(*view.shape)
    steps = (ctypes.c_int64 * max(rank, 1))(*(s // view.dtype.itemsize for s in view.strides))
    tensor = managed.tensor
    tensor.data = view.address
    tensor.device_type, tensor.device_number = view.device
    tensor.rank = rank
    is_bfloat = view.dtype.name == "bfloat16"
    tensor.code = _BFLOAT if is_bfloat else _CODES[view.dtype.kind]
    tensor.bits, tensor.lanes = 8 * view.dtype.itemsize, 1
    tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
    tensor.strides = ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = ctypes.cast(_let_go, ctypes.c_void_p)
    if versioned:
        managed.major, managed.minor = VERSION
        managed.flags = _READ_ONLY * view.read_only
    address = ctypes.addressof(managed)
    _GIVEN[address] = (managed, extents, steps, view.owner)
    return _new_capsule(address, name, _dropped)


# What consumers of capsules hold: the structure at an address, with what it points to.
_GIVEN: dict[int, Any] = {}


@_DELETER
def _let_go(address: int) -> None:
    _GIVEN.pop(address, None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _dropped(capsule: int) -> None:
    """A capsule goes: if nobody took what is in it, that goes too."""
    for name, _ in _FORMS:
        if _is_valid(capsule, name):
            _GIVEN.pop(_pointer(capsule, name), None)


def contiguous_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The strides in bytes of an array in C order."""
    sizes = itertools.accumulate(reversed(shape[1:]), initial=itemsize, func=lambda a, b: a * b)
    return tuple(reversed(list(sizes)))[-len(shape) :] if shape else ()


def is_contiguous(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether elements lie in C order without gaps; axes of one element do not matter."""
    if math.prod(shape) == 0:
        return True
    expected = contiguous_strides(shape, itemsize)
    return all(n == 1 or s == e for n, s, e in zip(shape, strides, expected, strict=True))


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_is_valid = _function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_rename = _function("PyCapsule_SetName", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_new_capsule = _function(
    "PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)


__all__ = ["CPU", "CUDA", "CUDA_HOST", "CUDA_MANAGED", "VERSION", "View"]
__all__ += ["contiguous_strides", "is_contiguous", "read", "write"]
