"""Which elements are in one set, or in both, or in either?  NumPy's functions of sets.

How many elements a set has depends on data, so `size` says how many are wanted: the first `size` in
order. Where there are fewer, the rest is `fill_value`, by default the smallest one that was found,
or 0 where none was. NaN is in no other set, and once in a result.
"""

from __future__ import annotations

from typing import Any

from graphc import dtypes
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.compare import logical_not
from graphc.ops.counting import is_new, isin
from graphc.ops.indexing import flatnonzero, take
from graphc.ops.joining import concatenate
from graphc.ops.movement import ravel
from graphc.ops.operands import as_node, cast, constant, describe
from graphc.ops.reduce import any_
from graphc.ops.sorting import sort
from graphc.ops.special import where
from graphc.tensor import surface

__all__ = ["intersect1d", "setdiff1d", "setxor1d", "union1d"]


@surface
def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Node:
    """The distinct elements of both arrays in order."""
    line = sort(concatenate([ravel(ar1), ravel(ar2)]))
    return _first("union1d", line, is_new(line), size, fill_value)


@surface
def intersect1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Node:
    """The distinct elements that are in both arrays, in order; `assume_unique` changes nothing."""
    if return_indices:
        raise GraphError("intersect1d: return_indices is not supported; use gx.searchsorted")
    first, second = _both(ar1, ar2)
    line = sort(first)
    return _first("intersect1d", line, is_new(line) & isin(line, second), size, fill_value)


@surface
def setdiff1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Node:
    """The distinct elements of the first array that are not in the second, in order;
    `assume_unique` changes nothing.
    """
    first, second = as_node(ar1), as_node(ar2)
    line = sort(ravel(first))
    kept = is_new(line) & logical_not(isin(line, ravel(second)))
    return _first("setdiff1d", line, kept, size, fill_value)


@surface
def setxor1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Node:
    """The distinct elements that are in one of the arrays only, in order; `assume_unique` changes
    nothing.
    """
    first, second = _both(ar1, ar2)
    line = sort(concatenate([first, second]))
    kept = is_new(line) & logical_not(isin(line, first) & isin(line, second))
    return _first("setxor1d", line, kept, size, fill_value)


def _both(ar1: Any, ar2: Any) -> tuple[Node, Node]:
    """Two flat arrays of one dtype."""
    first, second = ravel(ar1), ravel(ar2)
    dtype = dtypes.promote(first.dtype, second.dtype)
    return cast(first, dtype), cast(second, dtype)


def _first(name: str, line: Node, kept: Node, size: Any, fill_value: Any) -> Node:
    """The first `size` elements of a sorted line that are kept."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise GraphError(
            f"{name}: how many elements there are depends on data: give size=, got "
            f"{shortened(repr(size))}\nWhere there are fewer, fill_value= is put in their place."
        )
    if line.shape[0] == 0:
        raise GraphError(f"{name} of no elements\n" + describe([line]))
    places = flatnonzero(kept, size=size, fill_value=-1)
    found = take(line, where(places < 0, 0, places))
    if fill_value is not None:
        fill = cast(as_node(fill_value), line.dtype)
    else:
        smallest = take(line, flatnonzero(kept, size=1)[0])
        fill = where(any_(kept), smallest, constant(0, line.dtype))
    return where(places < 0, fill, found)
