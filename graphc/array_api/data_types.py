"""Which dtypes does the namespace have, and what do the functions about dtypes answer?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.array_api.array_object import Array

_STANDARD = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)
# The dtypes of the standard that graphc has.
DTYPES = {name: np.dtype(name) for name in _STANDARD if name in dtypes.NAMES}
_NUMBERS = (bool, int, float, complex)
_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


@dataclass(frozen=True)
class finfo_object:
    """The limits of a floating dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class iinfo_object:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: np.dtype[Any]


def dtype_of(value: Any) -> np.dtype[Any]:
    """The dtype that an array has or a dtype is."""
    return value.dtype if isinstance(value, Array) else dtypes.as_dtype(value)


def finfo(type: Any, /) -> finfo_object:
    """The limits of a floating dtype, or of that of an array; TypeError for others."""
    dtype = dtype_of(type)
    if dtypes.kind(dtype) not in "fc":
        raise TypeError(f"finfo is for floating dtypes, not {dtype.name}")
    found = dtypes.finfo(dtype)
    limits = (float(found.eps), float(found.max), float(found.min), float(found.smallest_normal))
    return finfo_object(int(found.bits), *limits, np.dtype(found.dtype))


def iinfo(type: Any, /) -> iinfo_object:
    """The limits of an integer dtype, or of that of an array; TypeError for others."""
    dtype = dtype_of(type)
    if dtypes.kind(dtype) not in "iu":
        raise TypeError(f"iinfo is for integer dtypes, not {dtype.name}")
    found = np.iinfo(dtype)
    return iinfo_object(int(found.bits), int(found.max), int(found.min), dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a name of the standard, a dtype, or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, each) for each in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"kinds are {', '.join(map(repr, _KINDS))}; got {kind!r}")
        return dtypes.kind(dtypes.as_dtype(dtype)) in _KINDS[kind]
    return dtypes.as_dtype(dtype) == dtypes.as_dtype(kind)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether a dtype becomes another without loss by the rules of promotion."""
    source, target = dtype_of(from_), dtypes.as_dtype(to)
    from_kind, to_kind = dtypes.kind(source), dtypes.kind(target)
    mixed = "b" in (from_kind, to_kind) and from_kind != to_kind
    if mixed or (from_kind in "iu" and to_kind in "fc"):
        return False  # the standard does not mix kinds
    return bool(np.can_cast(source, target, "safe"))


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that arrays, dtypes and Python numbers promote to."""
    if not arrays_and_dtypes:
        raise ValueError("result_type needs at least one array or dtype")
    numbers = [value for value in arrays_and_dtypes if type(value) in (bool, int, float, complex)]
    others = [
        value for value in arrays_and_dtypes if type(value) not in (bool, int, float, complex)
    ]
    if not others:
        raise ValueError("result_type needs an array or a dtype besides Python numbers")
    result = dtype_of(others[0])
    for other in others[1:]:
        result = dtypes.promote(result, dtype_of(other))
    for number in numbers:
        result = dtypes.promote_weak(result, number)
    return result


class Info:
    """What the namespace can do and what its defaults are."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and results whose shape depends on data are there; ranks end where NumPy's do."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtype of Python numbers of each kind, and of indices."""
        require_device(device)
        names = {"real floating": "float64", "integral": "int64", "indexing": "int64"}
        found = {kind: DTYPES[name] for kind, name in names.items()}
        return found | {"complex floating": np.dtype("complex128")}

    def devices(self) -> list[str]:
        return ["cpu"]

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of a kind, all of them for None, by name."""
        require_device(device)
        if kind is None:
            kind = tuple(_KINDS)
        return {name: dtype for name, dtype in DTYPES.items() if isdtype(dtype, kind)}


def __array_namespace_info__() -> Info:
    """What the namespace can do: capabilities, devices and dtypes."""
    return Info()


def require_device(device: Any) -> None:
    """ValueError for any device but the one there is."""
    if device not in (None, "cpu"):
        raise ValueError(f"the only device is 'cpu', got {device!r}")
