"""What is an array of `graphc.array_api`? Values that may change, with the standard's operators.

The standard's arrays are mutable, expressions are not: an `Array` holds values, and every operation
makes a new one through the graph (`graphc.array_api.evaluation`). Assignment replaces the values by
changed ones, so arrays that share memory never see each other change.
"""

from __future__ import annotations

import functools
import operator
from types import ModuleType
from typing import Any

import numpy as np

from graphc import dtypes

_NUMBERS = (bool, int, float)


class Array:
    """An array of the standard, made by the functions of the namespace."""

    __slots__ = ("__weakref__", "_value")
    _value: np.ndarray

    def __new__(cls, *args: Any, **named: Any) -> Array:
        raise TypeError("arrays are made by asarray, zeros, arange and the like")

    @classmethod
    def _of(cls, value: np.ndarray) -> Array:
        array = object.__new__(cls)
        array._value = value
        return array

    # -- attributes --------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._value.dtype

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def ndim(self) -> int:
        return self._value.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.shape

    @property
    def size(self) -> int:
        return self._value.size

    @property
    def T(self) -> Array:
        if self.ndim != 2:
            raise ValueError(f"T is for two axes, this array has {self.ndim}; use matrix_transpose")
        return _compute("transpose", self)

    @property
    def mT(self) -> Array:
        if self.ndim < 2:
            raise ValueError(f"mT is for two axes or more, this array has {self.ndim}")
        return _compute("swapaxes", self, -1, -2)

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        import graphc.array_api

        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"the namespace is that of 2024.12, not of {api_version!r}")
        return graphc.array_api

    def to_device(self, device: str, /, *, stream: Any = None) -> Array:
        """This array: there is one device."""
        if device != "cpu":
            raise ValueError(f"the only device is 'cpu', got {device!r}")
        if stream is not None:
            raise ValueError("the device 'cpu' has no streams")
        return self

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        value = self._value if self._value.flags.writeable else self._value.copy()
        return value.__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._value.__dlpack_device__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._value, dtype=dtype, copy=copy)

    # -- values for Python -------------------------------------------------------------------------

    def _number(self, kinds: str, what: str) -> Any:
        if self.ndim:
            raise TypeError(f"only an array of rank 0 has a {what}, this one has rank {self.ndim}")
        if dtypes.kind(self.dtype) not in kinds:
            raise TypeError(f"an array of dtype {self.dtype.name} has no {what}")
        return self._value.item()

    def __bool__(self) -> bool:
        return bool(self._number("biuf", "truth value"))

    def __int__(self) -> int:
        return int(self._number("biuf", "integer value"))

    def __float__(self) -> float:
        return float(self._number("biuf", "float value"))

    def __complex__(self) -> complex:
        return complex(self._number("biuf", "complex value"))

    def __index__(self) -> int:
        return operator.index(self._number("iu", "value as an index"))

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("an array of rank 0 has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        return iter([self[position] for position in range(len(self))])

    def __repr__(self) -> str:
        return repr(self._value).replace("array(", "Array(", 1)

    __hash__ = None  # type: ignore[assignment]

    # -- indexing ----------------------------------------------------------------------------------

    def __getitem__(self, key: Any, /) -> Array:
        if _reads_data(key):  # the shape of the result depends on the mask
            return Array._of(np.asarray(self._value[_plain(key)]))
        key = _plain(key)
        _require_range(key, self.shape)
        return _compute("getitem", self, key)

    def __setitem__(self, key: Any, value: Any, /) -> None:
        given = value._value if isinstance(value, Array) else value
        kept = isinstance(given, np.ndarray) and np.can_cast(given.dtype, self.dtype, "same_kind")
        if not kept and not _fits(given, self.dtype):
            got = getattr(given, "dtype", type(given).__name__)
            raise TypeError(f"{got} values cannot be stored in an array of {self.dtype.name}")
        changed = self._value.copy()
        changed[_plain(key)] = given
        self._value = changed

    # -- operators ---------------------------------------------------------------------------------

    def __pos__(self) -> Array:
        return _unary("positive", "iuf", self)

    def __neg__(self) -> Array:
        return _unary("negative", "iuf", self)

    def __abs__(self) -> Array:
        return _unary("abs", "iuf", self)

    def __invert__(self) -> Array:
        return _unary("bitwise_invert", "biu", self)


def _compute(name: str, *args: Any, **named: Any) -> Any:
    from graphc.array_api.evaluation import compute

    return compute(name, *args, **named)


@functools.cache
def _function(name: str) -> Any:
    import graphc.array_api

    return getattr(graphc.array_api, name)


def _unary(name: str, kinds: str, array: Array) -> Array:
    if dtypes.kind(array.dtype) not in kinds:
        raise TypeError(f"{name} is not defined for dtype {array.dtype.name}")
    return _function(name)(array)


def _plain(key: Any) -> Any:
    """A key without arrays of ours: those that bound a slice as integers, others as NumPy's."""
    if isinstance(key, tuple):
        return tuple(map(_plain, key))
    if isinstance(key, slice):
        return slice(*map(_bound, (key.start, key.stop, key.step)))
    return key._value if isinstance(key, Array) else key


def _bound(value: Any) -> Any:
    return operator.index(value) if isinstance(value, Array) else value


def _reads_data(key: Any) -> bool:
    """Whether a key holds arrays: the standard's masks and integer arrays."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, (Array, np.ndarray, bool)) for part in parts)


def _require_range(key: Any, shape: tuple[int, ...]) -> None:
    """Refuse integers outside their axes, as Python's own sequences do."""
    parts = [part for part in (key if isinstance(key, tuple) else (key,)) if part is not None]
    if sum(part is not Ellipsis for part in parts) > len(shape):
        raise IndexError(f"{len(parts)} indices for an array of rank {len(shape)}")
    for place, part in enumerate(parts):
        if part is Ellipsis:
            later = len(parts) - place - 1
            _require_range(tuple(parts[place + 1 :]), shape[len(shape) - later :])
            return
        if isinstance(part, int) and not -shape[place] <= part < shape[place]:
            raise IndexError(f"index {part} is out of range for axis {place} of {shape[place]}")


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a Python number may meet an array of this dtype: its kind is not higher."""
    if type(value) is bool:
        return dtypes.kind(dtype) == "b"
    if type(value) is int:
        return dtypes.kind(dtype) in "iufc"
    return type(value) is float and dtypes.kind(dtype) in "fc"


# The operators of the standard: Python's name, ours, and the kinds of dtypes it is defined for.
_BINARY = (
    ("add", "add", "iuf"),
    ("sub", "subtract", "iuf"),
    ("mul", "multiply", "iuf"),
    ("truediv", "divide", "f"),
    ("floordiv", "floor_divide", "iuf"),
    ("mod", "remainder", "iuf"),
    ("pow", "pow", "iuf"),
    ("matmul", "matmul", "iuf"),
    ("and", "bitwise_and", "biu"),
    ("or", "bitwise_or", "biu"),
    ("xor", "bitwise_xor", "biu"),
    ("lshift", "bitwise_left_shift", "iu"),
    ("rshift", "bitwise_right_shift", "iu"),
)
_COMPARISONS = (
    ("eq", "equal", "biuf"),
    ("ne", "not_equal", "biuf"),
    ("lt", "less", "iuf"),
    ("le", "less_equal", "iuf"),
    ("gt", "greater", "iuf"),
    ("ge", "greater_equal", "iuf"),
)


def _operand(name: str, kinds: str, array: Array, other: Any) -> bool:
    """Whether `other` may stand beside the array; TypeError where the standard defines nothing."""
    if isinstance(other, Array):
        known = all(dtypes.kind(dtype) in kinds for dtype in (array.dtype, other.dtype))
    elif type(other) in _NUMBERS and name != "matmul":
        known = dtypes.kind(array.dtype) in kinds and _fits(other, array.dtype)
    else:
        return False
    if not known:
        got = other.dtype.name if isinstance(other, Array) else f"a Python {type(other).__name__}"
        raise TypeError(f"{name} is not defined for {array.dtype.name} and {got}")
    return True


def _define(python: str, name: str, kinds: str, ordinary: bool) -> None:
    def forward(self: Array, other: Any, /) -> Array:
        if not _operand(name, kinds, self, other):
            return NotImplemented
        return _function(name)(self, other)

    def reflected(self: Array, other: Any, /) -> Array:
        if not _operand(name, kinds, self, other):
            return NotImplemented
        return _function(name)(other, self)

    def in_place(self: Array, other: Any, /) -> Array:
        result = forward(self, other)
        if result is NotImplemented:
            return NotImplemented
        if result.shape != self.shape or dtypes.promote(result.dtype, self.dtype) != self.dtype:
            raise TypeError(
                f"{name} in place would make {self.dtype.name}{list(self.shape)} "
                f"{result.dtype.name}{list(result.shape)}"
            )
        self._value = result._value
        return self

    methods = {"": forward, "r": reflected, "i": in_place} if ordinary else {"": forward}
    for prefix, method in methods.items():
        method.__name__ = f"__{prefix}{python}__"
        method.__qualname__ = f"Array.{method.__name__}"
        setattr(Array, method.__name__, method)


for _row in _BINARY:
    _define(*_row, ordinary=True)
for _row in _COMPARISONS:
    _define(*_row, ordinary=False)
