"""How are arrays made? From numbers, sequences and other libraries' arrays, or from shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.array_api.array_object import Array
from graphc.array_api.data_types import require_device
from graphc.array_api.evaluation import compute

_DEFAULT = np.dtype("float64")


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Array:
    """An array of a number, a nested sequence, an array, or anything NumPy can read.

    `copy=False` raises ValueError where a copy is needed; None makes one only then. An array of
    ours of that dtype is itself, unless copied, so that a change of one is a change of the other.
    """
    require_device(device)
    if isinstance(obj, Array) and not copy and (dtype is None or dtype == obj.dtype):
        return obj
    source = obj._value if isinstance(obj, Array) else _plain(obj)
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if copy is False and not isinstance(source, np.ndarray) and not hasattr(source, "__array__"):
        raise ValueError(f"a {type(obj).__name__} does not become an array without a copy")
    try:
        value = np.asarray(source, dtype=wanted, copy=copy)
    except OverflowError:
        raise OverflowError(f"not all of the integers fit {wanted or 'int64'}") from None
    other = wanted is None and value.dtype not in ("bool", "int64") and value.size
    if other and _integers_only(source):  # NumPy has taken uint64, float64 or objects
        raise OverflowError("not all of the integers fit int64; is it dtype=uint64?")
    dtypes.as_dtype(value.dtype)
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return Array._of(value)


def _plain(obj: Any) -> Any:
    if isinstance(obj, (list, tuple)):
        return [_plain(item) for item in obj]
    return obj._value if isinstance(obj, Array) else obj


def _integers_only(source: Any) -> bool:
    """Whether a nested sequence holds nothing but Python's integers."""
    if isinstance(source, (list, tuple)):
        return all(map(_integers_only, source))
    return isinstance(source, int)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """An array over another library's memory, or a copy of it."""
    require_device(device)
    value = np.from_dlpack(x, copy=copy)
    dtypes.as_dtype(value.dtype)
    return Array._of(value)


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Array:
    """start, start + step, ... up to, not including, stop; from 0 to `start` if stop is None."""
    require_device(device)
    if stop is None:
        start, stop = 0, start
    integers = all(isinstance(number, int) for number in (start, stop, step))
    chosen = dtypes.as_dtype(dtype if dtype is not None else "int64" if integers else _DEFAULT)
    # Numbers decide how many there are, so that happens before there is a graph.
    return Array._of(np.arange(start, stop, step, dtype=chosen))


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """An array of any values: zeros here."""
    return zeros(shape, dtype=dtype, device=device)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Zeros, of float64 if no dtype is given."""
    require_device(device)
    return compute("zeros", shape, dtype=_DEFAULT if dtype is None else dtype)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Ones, of float64 if no dtype is given."""
    require_device(device)
    return compute("ones", shape, dtype=_DEFAULT if dtype is None else dtype)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """One number everywhere; the dtype is the default of its kind if none is given."""
    require_device(device)
    chosen = dtypes.weak_dtype(fill_value) if dtype is None else dtypes.as_dtype(dtype)
    return compute("full", shape, fill_value, dtype=chosen)


def empty_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """An array of any values (zeros), of the shape of x."""
    return zeros_like(x, dtype=dtype, device=device)


def zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Zeros of the shape of x, and of its dtype if no other is given."""
    return zeros(x.shape, dtype=x.dtype if dtype is None else dtype, device=device)


def ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Ones of the shape of x, and of its dtype if no other is given."""
    return ones(x.shape, dtype=x.dtype if dtype is None else dtype, device=device)


def full_like(x: Array, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """One number everywhere, in the shape of x, and in its dtype if no other is given."""
    return full(x.shape, fill_value, dtype=x.dtype if dtype is None else dtype, device=device)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
) -> Array:
    """Ones on diagonal k of a matrix of zeros."""
    require_device(device)
    chosen = _DEFAULT if dtype is None else dtypes.as_dtype(dtype)
    return compute("eye", n_rows, n_rows if n_cols is None else n_cols, k, dtype=chosen)


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Array:
    """`num` numbers in equal steps from start to stop, which is the last one if `endpoint`."""
    require_device(device)
    chosen = _DEFAULT if dtype is None else dtypes.as_dtype(dtype)
    return compute("linspace", start, stop, num, endpoint=endpoint, dtype=chosen)


def meshgrid(*arrays: Array, indexing: str = "xy") -> tuple[Array, ...]:
    """Coordinates over the grid of one-dimensional arrays."""
    return tuple(compute("meshgrid", *arrays, indexing=indexing))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """x, with zeros above diagonal k of its last two axes."""
    return compute("tril", x, k)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """x, with zeros below diagonal k of its last two axes."""
    return compute("triu", x, k)
