"""How are arrays put together, and taken apart again?  concatenate, stack, block, split.

One op joins, `concatenate`, and slices take apart; both are index arithmetic. Named extents that
must agree off the axis are unified: that they do is checked at entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, dim_max, dim_min
from graphc.errors import GraphError, GraphTypeError, shortened
from graphc.node import Node, intern
from graphc.ops.movement import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    concatenate_op,
    expand_dims,
    ravel,
    reshape,
    slice_op,
    transpose,
)
from graphc.ops.operands import (
    as_node,
    cast,
    check_parts,
    common_dtype,
    describe,
    normalize_axis,
    to_shape,
)
from graphc.tensor import alias, surface
from graphc.types import Shape, as_extent


def _arrays(name: str, arrays: Any) -> list[Any]:
    """The arrays of a sequence; a node is the sequence of its rows."""
    if isinstance(arrays, Node) and arrays.ndim and isinstance(arrays.shape[0], int):
        arrays = list(arrays)
    if not isinstance(arrays, (tuple, list, np.ndarray)) or len(arrays) == 0:
        got = arrays.type if isinstance(arrays, Node) else shortened(repr(arrays))
        raise GraphError(f"{name} needs a tuple or list of at least one array, got {got}")
    return list(arrays)


def _common(name: str, arrays: Sequence[Any], dtype: Any) -> list[Node]:
    """The arrays in the dtype that they promote to, or in `dtype`, by NumPy's rule same_kind."""
    nodes = [as_node(array) for array in arrays]
    if dtype is None:
        wanted = common_dtype(name, arrays)
        return [cast(node, wanted) for node in nodes]
    wanted = dtypes.as_dtype(dtype)
    for node in nodes:
        if not np.can_cast(node.dtype, wanted, "same_kind"):
            raise GraphTypeError(
                f"{name}(dtype={wanted.name}): {node.dtype.name} does not become {wanted.name} by "
                f"the rule same_kind\n{describe([node])}\n"
                f"Convert it yourself: x.astype({wanted.name!r})"
            )
    return [cast(node, wanted) for node in nodes]


@surface
def concatenate(arrays: Sequence[Any], axis: int | None = 0, dtype: Any = None) -> Node:
    """The arrays one after the other along `axis`; flattened first if it is None."""
    nodes = _common("concatenate", _arrays("concatenate", arrays), dtype)
    if axis is None:
        nodes, axis = [ravel(node) for node in nodes], 0
    if nodes[0].ndim == 0:
        raise GraphError(
            "concatenate needs arrays of at least one axis; use gx.stack\n" + describe(nodes)
        )
    where = normalize_axis(axis, nodes[0], "concatenate")
    joined = [nodes[0]]
    for other in nodes[1:]:
        if not _agree(nodes[0], other, where):
            raise GraphError(
                f"concatenate along axis {where}: the shapes must agree on all other axes\n"
                + describe([nodes[0], other])
            )
        if other.type is not nodes[0].type:
            shape = (*nodes[0].shape[:where], other.shape[where], *nodes[0].shape[where + 1 :])
            other = to_shape(other, shape)
        joined.append(other)
    return nodes[0] if len(nodes) == 1 else concatenate_op(*joined, axis=where)


def _agree(first: Node, other: Node, axis: int) -> bool:
    """Whether two arrays may be equal on all axes but one: extents are, or one of them is named."""
    if first.type is other.type:
        return True
    if first.ndim != other.ndim:
        return False
    pairs = [p for a, p in enumerate(zip(first.shape, other.shape, strict=True)) if a != axis]
    return all(
        a == b or (isinstance(a, Dim) and b != 1) or (isinstance(b, Dim) and a != 1)
        for a, b in pairs
    )


@surface
def stack(arrays: Sequence[Any], axis: int = 0, dtype: Any = None) -> Node:
    """The arrays along a new axis."""
    nodes = _common("stack", _arrays("stack", arrays), dtype)
    for other in nodes[1:]:
        if not _agree(nodes[0], other, -1):
            raise GraphError("stack: the shapes must be equal\n" + describe([nodes[0], other]))
    return concatenate(_with_axis(nodes, axis), axis)


def _with_axis(nodes: Sequence[Node], axis: int) -> list[Node]:
    """Nodes of which each has a further axis of extent 1; which is found once for those of a type.
    """
    first = expand_dims(nodes[0], axis)
    return [
        intern(first.op, (node,), first.attrs)
        if node.type is nodes[0].type
        else expand_dims(node, axis)
        for node in nodes
    ]


@surface
def hstack(arrays: Sequence[Any], dtype: Any = None) -> Node:
    """The arrays side by side: along the second axis, along the first for arrays of rank 1."""
    nodes = [atleast_1d(array) for array in _arrays("hstack", arrays)]
    return concatenate(nodes, 0 if nodes[0].ndim == 1 else 1, dtype)


@surface
def vstack(arrays: Sequence[Any], dtype: Any = None) -> Node:
    """The arrays as rows, one above the other."""
    return concatenate([atleast_2d(array) for array in _arrays("vstack", arrays)], 0, dtype)


@surface
def dstack(arrays: Sequence[Any]) -> Node:
    """The arrays along a third axis."""
    return concatenate([atleast_3d(array) for array in _arrays("dstack", arrays)], 2)


@surface
def column_stack(arrays: Sequence[Any]) -> Node:
    """Arrays of rank 1 as columns, beside each other and beside arrays of rank 2."""
    nodes = [as_node(array) for array in _arrays("column_stack", arrays)]
    return concatenate([n if n.ndim > 1 else transpose(atleast_2d(n)) for n in nodes], 1)


@surface
def block(arrays: Any) -> Node:
    """An array from nested lists of blocks: the innermost lists are joined along the last axis, the
    next along the one before it.
    """
    depth = _depth(arrays)
    leaves = _leaves(arrays)
    rank = max(depth, *(as_node(leaf).ndim for leaf in leaves))
    return _block(arrays, depth, rank)


def _depth(arrays: Any) -> int:
    """How deep the lists are nested; `GraphError` if not all alike."""
    if not isinstance(arrays, list):
        return 0
    depths = {_depth(item) for item in arrays}
    if len(depths) != 1:
        raise GraphError("block: lists must be nested equally deep, and none may be empty")
    return 1 + depths.pop()


def _leaves(arrays: Any) -> list[Any]:
    if isinstance(arrays, list):
        return [leaf for item in arrays for leaf in _leaves(item)]
    return [arrays]


def _block(arrays: Any, depth: int, rank: int) -> Node:
    if depth == 0:
        node = as_node(arrays)
        return reshape(node, (1,) * (rank - node.ndim) + node.shape)
    return concatenate([_block(item, depth - 1, rank) for item in arrays], rank - depth)


@surface
def append(x: Any, values: Any, axis: int | None = None) -> Node:
    """x with `values` after it along `axis`; both flattened if it is None."""
    return concatenate((x, values), axis)


# -- taking apart ----------------------------------------------------------------------------------


def piece(node: Node, axis: int, start: Extent, length: Extent) -> Node:
    """`length` elements of a node along an axis, from `start`."""
    starts = tuple(start if a == axis else 0 for a in range(node.ndim))
    extents = (*node.shape[:axis], length, *node.shape[axis + 1 :])
    return slice_op(node, starts=starts, extents=extents, steps=(1,) * node.ndim)


@surface
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    """Parts of x along `axis`: a number of equal ones, or those between the given positions."""
    node = as_node(x)
    axis = normalize_axis(axis, node, "split")
    size, sections = node.shape[axis], _sections(indices_or_sections, "split")
    if isinstance(sections, list):
        return array_split(node, sections, axis)
    left = size % sections
    if isinstance(left, int) and left:
        raise GraphError(
            f"split: {size} elements do not make {sections} equal parts; use gx.array_split\n"
            + describe([node])
        )
    part = size // sections
    if left != 0:  # a named extent: that it divides is checked at entry
        node = to_shape(node, (*node.shape[:axis], part * sections, *node.shape[axis + 1 :]))
    return [piece(node, axis, i * part, part) for i in range(sections)]


@surface
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    """Parts of x along `axis`: a number of nearly equal ones, larger ones first, or those between
    the given positions.
    """
    node = as_node(x)
    axis = normalize_axis(axis, node, "array_split")
    size, sections = node.shape[axis], _sections(indices_or_sections, "array_split")
    if isinstance(sections, list):
        bounds = [0, *(_bound(position, size) for position in sections), size]
        pairs = zip(bounds[:-1], bounds[1:], strict=True)
        return [piece(node, axis, low, _span(low, high)) for low, high in pairs]
    part, extra = size // sections, size % sections
    starts = [i * part + dim_min(i, extra) for i in range(sections)]
    ends = [*starts[1:], size]
    return [piece(node, axis, low, high - low) for low, high in zip(starts, ends, strict=True)]


def _sections(given: Any, name: str) -> Any:
    if isinstance(given, (int, np.integer)) and not isinstance(given, (bool, np.bool_)):
        if given <= 0:
            raise GraphError(f"{name}: the number of parts must be positive, got {given}")
        return check_parts(int(given), name, "the number of parts")
    if isinstance(given, (tuple, list, np.ndarray)):
        return list(given)
    raise GraphError(f"{name} needs a number of parts or positions, got {shortened(repr(given))}")


def _bound(position: Any, size: Extent) -> Extent:
    """A position as the bound of a slice: negative ones from the end, never outside."""
    if isinstance(position, (int, np.integer)):
        at = int(position)
        return dim_max(size + at, 0) if at < 0 else dim_min(at, size)
    return dim_min(as_extent(position), size)


def _span(low: Extent, high: Extent) -> Extent:
    return high - low if low == 0 else dim_max(high - low, 0)


def _split_along(name: str, axis: int, rank: int) -> Any:
    def split_along(x: Any, indices_or_sections: Any) -> list[Node]:
        node = as_node(x)
        if node.ndim < rank:
            raise GraphError(f"{name} needs at least {rank} axes\n" + describe([node]))
        return split(node, indices_or_sections, 0 if node.ndim == 1 else axis)

    split_along.__name__ = name
    split_along.__doc__ = f"`split` along axis {axis}."
    return surface(split_along)


hsplit = _split_along("hsplit", 1, 1)
vsplit = _split_along("vsplit", 0, 2)
dsplit = _split_along("dsplit", 2, 3)


@surface
def unstack(x: Any, axis: int = 0) -> tuple[Node, ...]:
    """What lies along `axis`, one by one, without that axis."""
    node = as_node(x)
    axis = normalize_axis(axis, node, "unstack")
    size = node.shape[axis]
    if not isinstance(size, int):
        raise GraphError(
            f"unstack along an axis of extent {size}: the number of results must be known\n"
            + describe([node])
        )
    shape: Shape = (*node.shape[:axis], *node.shape[axis + 1 :])
    return tuple(reshape(piece(node, axis, i, 1), shape) for i in range(size))


alias("concat", concatenate)
