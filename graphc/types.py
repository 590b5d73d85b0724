"""What is the type of a node?  A tensor type (dtype and shape), or a tuple of types.

Types are interned: equal types are the same object, so comparing them is free and a million nodes
share a handful.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, product, symbols_of
from graphc.errors import GraphError
from graphc.tensor import TensorMethods

Shape = tuple[Extent, ...]
_lock = threading.Lock()


class TensorType:
    """`dtype` and `shape`; an extent is an int or a polynomial of named dimensions.

    >>> TensorType("float32", ("batch", 3))
    float32[batch, 3]
    """

    __slots__ = ("__weakref__", "_text", "dtype", "shape")
    _table: weakref.WeakValueDictionary[Any, TensorType] = weakref.WeakValueDictionary()
    dtype: np.dtype[Any]
    shape: Shape
    _text: str

    def __new__(cls, dtype: Any, shape: Any = ()) -> TensorType:
        key = (dtypes.as_dtype(dtype), as_shape(shape))
        found = cls._table.get(key)
        if found is None:
            with _lock:  # equal types are one object in every thread
                found = cls._table.get(key)
                if found is None:
                    found = object.__new__(cls)
                    found.dtype, found.shape = key
                    shape = ", ".join(map(str, found.shape))
                    found._text = found.dtype.name + (f"[{shape}]" if shape else "")
                    cls._table[key] = found
        return found

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Extent:
        """The number of elements."""
        return product(self.shape)

    def __repr__(self) -> str:
        return self._text

    def __reduce__(self) -> Any:
        return (TensorType, (self.dtype.name, self.shape))


class TupleType:
    """The type of a node with several results; `project` takes one."""

    __slots__ = ("__weakref__", "items")
    _table: weakref.WeakValueDictionary[Any, TupleType] = weakref.WeakValueDictionary()
    items: tuple[TensorType, ...]

    def __new__(cls, items: Any) -> TupleType:
        key = tuple(items)
        found = cls._table.get(key)
        if found is None:
            with _lock:
                found = cls._table.get(key)
                if found is None:
                    found = object.__new__(cls)
                    found.items = key
                    cls._table[key] = found
        return found

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self.items))})"

    def __reduce__(self) -> Any:
        return (TupleType, (self.items,))


Type = TensorType | TupleType


def as_shape(shape: Any) -> Shape:
    """A tuple of extents from an extent, a name, or a sequence of these."""
    if type(shape) is not tuple and isinstance(
        shape, (int, str, Dim, np.integer, TensorMethods)
    ):
        shape = (shape,)
    return tuple(map(as_extent, shape))


def as_extent(extent: Any) -> Extent:
    """An int, or a Dim from a name or an expression of names such as "2*n+1"."""
    if type(extent) is int and extent >= 0:
        return extent
    if isinstance(extent, Dim):
        return extent
    if isinstance(extent, str):
        from graphc.dims import parse

        return parse(extent)
    if isinstance(extent, (bool, np.bool_)) or not isinstance(extent, (int, np.integer)):
        hint = "\nA quotient of extents need not be an integer: use //."
        raise GraphError(
            f"an extent is an int, a name or a Dim; got {extent!r}"
            + (hint if isinstance(extent, TensorMethods) else "")
        )
    if extent < 0:
        raise GraphError(f"an extent must not be negative; got {int(extent)}")
    return int(extent)


def shape_symbols(shape: Shape) -> frozenset[str]:
    """The names of the dimensions in a shape."""
    return frozenset().union(*map(symbols_of, shape))
