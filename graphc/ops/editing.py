"""How are slices left out of an array, or put between others?  NumPy's delete and insert.

Positions are known when the graph is built: they decide the extent of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Extent
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.indexing import take
from graphc.ops.joining import concatenate, piece
from graphc.ops.movement import broadcast_to, expand_dims, moveaxis, ravel
from graphc.ops.operands import as_node, cast, describe, normalize_axis
from graphc.tensor import surface

__all__ = ["delete", "insert"]


def _line(name: str, x: Any, axis: Any) -> tuple[Node, int]:
    node = as_node(x)
    if axis is None:
        return ravel(node), 0
    return node, normalize_axis(axis, node, name)


def _positions(name: str, obj: Any, node: Node, axis: int) -> Any:
    """An int, or an array of positions from 0 on, of which the extent is known."""
    if isinstance(obj, (int, np.integer)) and not isinstance(obj, bool):
        return int(obj)
    if isinstance(obj, Node):
        raise GraphError(
            f"{name}: positions decide how many elements there are, so they must be known\n"
            + describe([obj])
            + "\nUse gx.where, or gx.take with positions of a known extent."
        )
    size = node.shape[axis]
    if not isinstance(size, int):
        raise GraphError(
            f"{name}: several positions need an axis of a known extent\n" + describe([node])
        )
    if isinstance(obj, slice):
        return np.arange(size)[obj]
    found = np.asarray(obj)
    if found.dtype == bool:
        if found.shape != (size,):
            raise GraphError(f"{name}: a mask has {size} elements, got {found.shape}")
        return np.flatnonzero(found)
    if found.ndim > 1 or (found.size and found.dtype.kind not in "iu"):
        raise GraphError(f"{name}: positions are integers, got {shortened(repr(obj))}")
    return found.astype(np.int64).ravel()


def _checked(name: str, position: int, size: Extent, last: int) -> Extent:
    """A position that may count from the end, from the start."""
    if isinstance(size, int) and not -size <= position < size + last:
        raise GraphError(f"{name}: position {position} is out of range for {size} elements")
    return size + position if position < 0 else position


@surface
def delete(arr: Any, obj: Any, axis: int | None = None) -> Node:
    """arr without the slices at `obj` along `axis` (None: of the flattened array): a position, a
    slice, a sequence of positions or a mask, known when the graph is built.
    """
    node, where = _line("delete", arr, axis)
    positions = _positions("delete", obj, node, where)
    size = node.shape[where]
    if isinstance(positions, int):
        at = _checked("delete", positions, size, 0)
        rest = piece(node, where, at + 1, size - 1 - at)
        return concatenate([piece(node, where, 0, at), rest], axis=where)
    assert isinstance(size, int)
    for position in positions:
        _checked("delete", int(position), size, 0)
    return take(node, np.delete(np.arange(size), positions), axis=where)


@surface
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Node:
    """arr with `values` before the positions `obj` along `axis` (None: of the flattened array), as
    NumPy inserts them: at one position a whole array, at several one slice each.
    """
    node, where = _line("insert", arr, axis)
    positions = _positions("insert", obj, node, where)
    size, added = node.shape[where], cast(as_node(values), node.dtype)
    if isinstance(positions, int):
        at = _checked("insert", positions, size, 1)
        while added.ndim < node.ndim:
            added = expand_dims(added, 0)
        added = _fitted(moveaxis(added, 0, where), node, where, added.shape[0])
        before, after = piece(node, where, 0, at), piece(node, where, at, size - at)
        return concatenate([before, added, after], axis=where)
    assert isinstance(size, int)
    for position in positions:
        _checked("insert", int(position), size, 1)
    count = len(positions)
    both = concatenate([node, _fitted(added, node, where, count)], axis=where)
    order = np.insert(np.arange(size), positions, size + np.arange(count))
    return take(both, order, axis=where)


def _fitted(added: Node, node: Node, axis: int, count: Extent) -> Node:
    """The inserted slices, with the other extents of the array."""
    return broadcast_to(added, (*node.shape[:axis], count, *node.shape[axis + 1 :]))
