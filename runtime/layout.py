"""Where do CPython and NumPy keep the fields that native code reads?

The generic entry reads arrays, tuples and numbers without calling anything, which needs the
offsets of their fields. No header is parsed and no version is trusted: the offsets are *found*, by
reading the bytes of deliberately different objects and looking for values that Python already told
us. Memory behind a pointer that is only suspected to be one is read through a system call, which
reports a bad address instead of faulting. On any doubt `probe` raises `UnknownLayout`, and calls
run through the plain Python class over ctypes, with the same behaviour.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_POINTER = 8
_OBJECT_HEADER = 16  # reference count and type, as in every build that is not free-threaded

# Indices in NumPy's C API table. They are frozen: the table only ever grows.
_GET_C_VERSION = 0
_ARRAY_TYPE = 2
_DESCR_FROM_TYPE = 45
API_INDEX = {
    "PyArray_NewFromDescr": 94,
    "PyArray_EquivTypes": 182,
    "PyArray_SetBaseObject": 282,
}
_NUMPY_2_ABI = 0x2000000
_NPY_DOUBLE = 12


class UnknownLayout(Exception):
    """The interpreter or NumPy does not look as native code expects; the message says where."""


@dataclass(frozen=True)
class Layout:
    """Offsets in bytes from the start of an object. They are baked into the entry's text, so they
    enter its cache key.
    """

    object_type: int
    float_value: int
    scalar_value: int
    tuple_size: int
    tuple_items: int
    array_data: int
    array_rank: int
    array_dims: int
    array_strides: int
    array_descr: int
    array_flags: int


def is_free_threaded() -> bool:
    """Was this interpreter built to run without a global lock?"""
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@functools.cache
def probe() -> Layout:
    """Find every offset by value.

    Raises `UnknownLayout` if the interpreter is not a 64-bit CPython with a global lock, if a
    field cannot be found or is ambiguous, or if NumPy's C API does not behave as its frozen table
    promises. Takes 1 to 2 ms, once a process.
    """
    if sys.implementation.name != "cpython" or is_free_threaded():
        raise UnknownLayout("the interpreter is not CPython with a global lock")
    if struct.calcsize("P") != _POINTER:
        raise UnknownLayout("pointers are not 64 bits wide")
    layout = Layout(
        object_type=_probe_object(),
        float_value=_probe_float(),
        scalar_value=_probe_scalars(),
        **_probe_tuple(),
        **_probe_array(),
    )
    _try_numpy_api()
    return layout


def numpy_api() -> dict[str, int]:
    """Addresses of the NumPy C functions named in `API_INDEX`."""
    table = _api_table()
    return {name: int(table[index] or 0) for name, index in API_INDEX.items()}


def keep_reference(member: object) -> None:
    """Add a reference that only native code gives back, or nobody."""
    increment = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
    increment(member)


def _bytes_of(instance: Any, size: int | None = None) -> bytes:
    """The bytes of a live object; the caller holds it in a variable, since the id of a temporary
    dangles.
    """
    return ctypes.string_at(id(instance), size or type(instance).__basicsize__)


def _word(raw: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", raw, offset)[0])


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise UnknownLayout(what)


def _probe_object() -> int:
    number, pair, array = 1.5, (1, 2), np.empty(1)
    for instance in (number, pair, array):
        _require(_word(_bytes_of(instance, _OBJECT_HEADER), 8) == id(type(instance)), "ob_type")
    _require(object.__basicsize__ == _OBJECT_HEADER, "the object header")
    return 8


def _probe_float() -> int:
    number = 1.2345
    return _find("<d", 8, [(_bytes_of(number), number)], "float value")


def _probe_scalars() -> int:
    """float64, float32 and int64 scalars keep their value at one offset."""
    double, single, integer = np.float64(2.25), np.float32(-3.5), np.int64(-123456789012345)
    offsets = {
        _find("<d", 8, [(_bytes_of(double), 2.25)], "float64 scalar"),
        _find("<f", 4, [(_bytes_of(single), -3.5)], "float32 scalar"),
        _find("<q", 8, [(_bytes_of(integer), -123456789012345)], "int64 scalar"),
    }
    _require(len(offsets) == 1, "NumPy scalars")
    return offsets.pop()


def _probe_tuple() -> dict[str, int]:
    members = (object(), None, "z")
    size, items = _OBJECT_HEADER, tuple.__basicsize__
    raw = _bytes_of(members, items + 3 * _POINTER)
    _require(_word(raw, size) == 3, "tuple size")
    for position, member in enumerate(members):
        _require(_word(raw, items + _POINTER * position) == id(member), "tuple items")
    return {"tuple_size": size, "tuple_items": items}


def _sample_arrays() -> list[np.ndarray]:
    """Arrays that differ in every field: rank, extents, strides, dtype, flags, data."""
    base = np.arange(4 * 5 * 7 * 2, dtype=np.float64).reshape(4, 5, 7, 2)
    return [
        base[1:, ::2, 1:4, 0],
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.zeros((3, 0, 2), np.int64),
        np.frombuffer(b"12345678", np.uint8)[1:],
        np.asfortranarray(np.ones((3, 4, 5), np.complex128)),
    ]


def _probe_array() -> dict[str, int]:
    arrays = _sample_arrays()
    raws = [_bytes_of(array) for array in arrays]

    def field(form: str, size: int, what: str, value: Callable[[np.ndarray], int]) -> int:
        return _find(form, size, [(r, value(a)) for r, a in zip(raws, arrays, strict=True)], what)

    dims = _find_dims(arrays, raws)
    return {
        "array_data": field("<Q", 8, "data", lambda a: a.__array_interface__["data"][0]),
        "array_rank": field("<i", 4, "rank", lambda a: a.ndim),
        "array_descr": field("<Q", 8, "descr", lambda a: id(a.dtype)),
        "array_flags": field("<i", 4, "flags", lambda a: a.flags.num),
        "array_dims": dims,
        "array_strides": dims + _POINTER,
    }


def _find(form: str, size: int, samples: Iterable[tuple[bytes, float]], what: str) -> int:
    """The one offset at which every sample holds its value."""
    common: set[int] | None = None
    for raw, value in samples:
        offsets = range(_OBJECT_HEADER, len(raw) - size + 1, size)
        hits = {at for at in offsets if struct.unpack_from(form, raw, at)[0] == value}
        common = hits if common is None else common & hits
    if common is None or len(common) != 1:
        raise UnknownLayout(f"{what}: {len(common or ())} candidates")
    return common.pop()


def _find_dims(arrays: Sequence[np.ndarray], raws: Sequence[bytes]) -> int:
    """Two neighbouring pointers, to the extents and to the strides."""

    def fits(offset: int) -> bool:
        try:
            return all(
                _read_integers(_word(raw, offset), a.ndim) == a.shape
                and _read_integers(_word(raw, offset + _POINTER), a.ndim) == a.strides
                for raw, a in zip(raws, arrays, strict=True)
            )
        except OSError:
            return False

    last = len(raws[0]) - 2 * _POINTER
    candidates = [at for at in range(_OBJECT_HEADER, last + 1, _POINTER) if fits(at)]
    _require(len(candidates) == 1, f"dims: {len(candidates)} candidates")
    return candidates[0]


def _read_integers(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}q", _read_safely(address, 8 * count))


def _read_safely(address: int, size: int) -> bytes:
    """The bytes at an address, or `OSError`: the kernel touches the memory, not this process."""
    if os.name == "nt":
        return _read_own_process(address, size)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.write.restype = ctypes.c_ssize_t
    libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    reader, writer = os.pipe()
    try:
        if libc.write(writer, address, size) != size:
            raise OSError(ctypes.get_errno(), "bad address")
        return os.read(reader, size)
    finally:
        os.close(reader)
        os.close(writer)


def _read_own_process(address: int, size: int) -> bytes:
    """Windows has no pipe that reports a bad address; it can read a process's memory by handle."""
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    buffer, done = ctypes.create_string_buffer(size), ctypes.c_size_t()
    source, length = ctypes.c_void_p(address), ctypes.c_size_t(size)
    if not kernel.ReadProcessMemory(process, source, buffer, length, ctypes.byref(done)):
        raise OSError("bad address")
    return buffer.raw


def _api_table() -> Any:
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    get_pointer = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    address = get_pointer(_multiarray_umath._ARRAY_API, None)
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))


def _try_numpy_api() -> None:
    """Check the table's version and its type, then make one array over foreign memory the way the
    entry does.
    """
    table = _api_table()
    version = ctypes.CFUNCTYPE(ctypes.c_uint)(table[_GET_C_VERSION])()
    _require(version == _NUMPY_2_ABI, f"NumPy C ABI {version:#x}")
    _require(table[_ARRAY_TYPE] == id(np.ndarray), "NumPy's array type")
    from_type = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_int)(table[_DESCR_FROM_TYPE])
    float64 = np.dtype(np.float64)
    _require(from_type(_NPY_DOUBLE) is float64, "NumPy's dtype singletons")
    _try_new_array(float64)


def _try_new_array(float64: np.dtype) -> None:
    address, pointer, integer = numpy_api(), ctypes.c_void_p, ctypes.c_int
    equivalent = ctypes.PYFUNCTYPE(ctypes.c_ubyte, ctypes.py_object, ctypes.py_object)(
        address["PyArray_EquivTypes"]
    )
    swapped = np.dtype(">f8") if sys.byteorder == "little" else np.dtype("<f8")
    copied = np.dtype("f8", copy=True)
    _require(bool(equivalent(float64, copied)), "PyArray_EquivTypes on equal dtypes")
    _require(not equivalent(float64, swapped), "PyArray_EquivTypes on a swapped dtype")
    new = ctypes.PYFUNCTYPE(
        ctypes.py_object, pointer, pointer, integer, pointer, pointer, pointer, integer, pointer
    )(address["PyArray_NewFromDescr"])
    set_base = ctypes.PYFUNCTYPE(integer, ctypes.py_object, pointer)(
        address["PyArray_SetBaseObject"]
    )
    extents, owner = (ctypes.c_ssize_t * 2)(3, 4), (ctypes.c_double * 12)(*range(12))
    keep_reference(float64)  # stolen by the array
    data, writeable = ctypes.addressof(owner), 0x501
    shape = ctypes.addressof(extents)
    array = new(id(np.ndarray), id(float64), 2, shape, None, data, writeable, None)
    keep_reference(owner)  # stolen as the array's base
    _require(set_base(array, id(owner)) == 0 and array.base is owner, "PyArray_SetBaseObject")
    good = array.shape == (3, 4) and array.dtype is float64 and array[2, 3] == 11.0
    _require(bool(good and array.flags.carray), "PyArray_NewFromDescr")
