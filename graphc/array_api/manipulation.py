"""How are shapes and places changed, and dtypes converted?"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.array_api.array_object import Array
from graphc.array_api.data_types import require_device, result_type
from graphc.array_api.evaluation import compute


def astype(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
    """x converted; floats truncate to integers. Without `copy`, x itself if nothing changes."""
    require_device(device)
    wanted = dtypes.as_dtype(dtype)
    if wanted == x.dtype:
        return Array._of(x._value.copy()) if copy else x
    return compute("cast", x, wanted)


def broadcast_arrays(*arrays: Array) -> tuple[Array, ...]:
    """The arrays at their common shape."""
    shape = broadcast_shapes(*[array.shape for array in arrays])
    return tuple(broadcast_to(array, shape) for array in arrays)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that these broadcast to; ValueError if they do not."""
    return np.broadcast_shapes(*shapes)


def broadcast_to(x: Array, /, shape: Any) -> Array:
    """x at a shape that it broadcasts to."""
    return compute("broadcast_to", x, tuple(shape))


def concat(arrays: Any, /, *, axis: int | None = 0) -> Array:
    """The arrays one after the other along `axis`; flattened if it is None."""
    common = result_type(*arrays)
    parts = [astype(array, common, copy=False) for array in arrays]
    if axis is None:
        parts = [reshape(part, (-1,)) for part in parts]
    return compute("concatenate", parts, 0 if axis is None else axis)


def expand_dims(x: Array, /, axis: int = 0) -> Array:
    """x with a new axis of one element; IndexError for a place that there is not."""
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise IndexError(f"expand_dims: axis {axis} is out of range for rank {x.ndim}")
    return compute("expand_dims", x, axis)


def flip(x: Array, /, *, axis: Any = None) -> Array:
    """x in reverse along an axis, several, or all."""
    return compute("flip", x, axis=axis)


def moveaxis(x: Array, source: Any, destination: Any, /) -> Array:
    """x with axes moved to other places; the rest keeps its order."""
    return compute("moveaxis", x, source, destination)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """x with its axes in another order."""
    return compute("transpose", x, tuple(axes))


def repeat(x: Array, repeats: Any, /, *, axis: int | None = None) -> Array:
    """Every element (or slice along `axis`) so many times."""
    if isinstance(repeats, Array):  # how many elements there will be is in the data
        if repeats.dtype.kind not in "iu":
            raise TypeError(f"repeat: how often is an integer, not {repeats.dtype.name}")
        return Array._of(np.repeat(x._value, repeats._value.astype("int64"), axis=axis))
    return compute("repeat", x, repeats, axis=axis)


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    """The elements in another shape; one extent may be -1."""
    if copy is False and not x._value.flags.c_contiguous:
        raise ValueError("reshape needs a copy here, since the array is not contiguous")
    result = compute("reshape", x, tuple(shape))
    return Array._of(result._value.copy()) if copy else result


def roll(x: Array, /, shift: Any, *, axis: Any = None) -> Array:
    """x moved cyclically along an axis, several, or as if it were flat."""
    return compute("roll", x, shift, axis=axis)


def squeeze(x: Array, /, axis: Any) -> Array:
    """x without axes of one element; ValueError for an axis of more."""
    return compute("squeeze", x, axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Array:
    """The arrays along a new axis."""
    common = result_type(*arrays)
    return compute("stack", [astype(array, common, copy=False) for array in arrays], axis)


def tile(x: Array, repetitions: tuple[int, ...], /) -> Array:
    """x so many times along each axis."""
    return compute("tile", x, tuple(repetitions))


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The slices along an axis."""
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"unstack: axis {axis} is out of range for rank {x.ndim}")
    before = (slice(None),) * (axis % x.ndim)
    return tuple(x[(*before, position)] for position in range(x.shape[axis]))
