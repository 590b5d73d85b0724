"""What does x[key] mean, and x.at[key].set(values)?  NumPy's rules of indexing, read once for both.

A key is taken apart into a slice of every axis, which is index arithmetic, and positions for some
axes, which are looked up. Integers are slices of one element. Arrays of positions broadcast with
each other; what they find takes their place among the axes if they stand together (integers stand
with them), and comes first if they do not. The same `Subscript` then reads, or stores and puts the
parts back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.dims import Bounds, Dim, Extent, ceildiv, dim_max, dim_min
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.gather import gather_op, positions_attributes, scatter_op
from graphc.ops.indexing import as_positions, fitted, require_known_positions, static_mask
from graphc.ops.movement import flip_op, overlay_op, reshape, slice_op
from graphc.ops.operands import (
    as_node,
    broadcast_shapes,
    constant,
    describe,
    to_shape,
)
from graphc.tensor import surface
from graphc.types import Shape


@dataclass
class _Axis:
    """What a key says of one axis of the array: `length` elements from `start`, `step` apart;
    `kind` is "keep", "drop" (an integer) or "array" (positions).
    """

    kind: str
    start: Extent
    length: Extent
    step: int = 1
    positions: Node | None = None


@dataclass
class Subscript:
    """A key, understood for one array. `source` is the array, with an axis of extent 1 for each
    truth value in the key; `order` names the axes of the result: an axis of the source, "new", or
    "found" for all those of the positions.
    """

    node: Node
    source: Node
    axes: list[_Axis]
    order: list[int | str] = field(default_factory=list)

    @property
    def arrays(self) -> list[int]:
        return [i for i, axis in enumerate(self.axes) if axis.kind == "array"]

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(abs(axis.step) for axis in self.axes)

    @property
    def starts(self) -> Shape:
        return tuple(axis.start for axis in self.axes)

    @property
    def extents(self) -> Shape:
        return tuple(axis.length for axis in self.axes)

    @property
    def flipped(self) -> tuple[int, ...]:
        return tuple(i for i, axis in enumerate(self.axes) if axis.step < 0)

    @property
    def is_whole(self) -> bool:
        """Whether the slices leave nothing out."""
        return self.extents == self.source.shape and all(step == 1 for step in self.steps)

    def _positions(self) -> tuple[list[Node], dict[str, Any], Shape]:
        """The positions at their common shape, the attributes of their gather, and that shape."""
        given = [self.axes[i].positions for i in self.arrays]
        nodes = [node for node in given if node is not None]
        shape = broadcast_shapes("indexing", nodes)
        ahead = self.order[: self.order.index("found")]
        first = max((a + 1 for a in ahead if isinstance(a, int)), default=0)
        at = sum(1 for a in range(first) if self.axes[a].kind != "array")
        attrs = positions_attributes(tuple(self.arrays), at=at)
        return [to_shape(node, shape) for node in nodes], attrs, shape

    def _result_shape(self, found: Shape) -> Shape:
        shape: list[Extent] = []
        for part in self.order:
            if part == "found":
                shape += found
            else:
                shape.append(1 if isinstance(part, str) else self.axes[part].length)
        return tuple(shape)

    def _sliced(self) -> Node:
        """The slices of the source, in the order of the key."""
        part = self.source
        if not self.is_whole:
            part = slice_op(part, starts=self.starts, extents=self.extents, steps=self.steps)
        return flip_op(part, axes=self.flipped) if self.flipped else part

    def read(self) -> Node:
        """x[key]."""
        part = self._sliced()
        found: Shape = ()
        if self.arrays:
            positions, attrs, found = self._positions()
            part = gather_op(part, *positions, **attrs)
        return reshape(part, self._result_shape(found))

    def write(self, combine: str, values: Any) -> Node:
        """The array with `values` stored at the key, or combined with what is there: `combine` is a
        combiner of `scatter_op`.
        """
        name, part = f"at[...].{combine}", self._sliced()
        if self.arrays:
            positions, attrs, found = self._positions()
            updates = fitted(name, values, part.dtype, self._result_shape(found))
            kept = [e for i, e in enumerate(self.extents) if i not in self.arrays]
            shape = (*kept[: attrs["at"]], *found, *kept[attrs["at"] :])
            part = scatter_op[combine](part, reshape(updates, shape), *positions, **attrs)
        else:
            updates = fitted(name, values, part.dtype, self._result_shape(()))
            updates = reshape(updates, part.shape)
            part = updates if combine == "set" else _COMBINE[combine](part, updates)
        if self.flipped:
            part = flip_op(part, axes=self.flipped)
        if not self.is_whole:
            part = overlay_op(self.source, part, starts=self.starts, steps=self.steps)
        return reshape(part, self.node.shape)


def _by_surface(name: str) -> Callable[[Node, Node], Node]:
    from graphc.tensor import SURFACE

    return lambda x, y: SURFACE[name](x, y)


_COMBINE: dict[str, Callable[[Node, Node], Node]] = {
    "add": _by_surface("add"),
    "mul": _by_surface("multiply"),
    "max": _by_surface("maximum"),
    "min": _by_surface("minimum"),
}

# -- reading a key ---------------------------------------------------------------------------------


def subscript(x: Any, key: Any) -> Subscript:
    """What `key` says of x; `GraphError` if it says nothing."""
    node = as_node(x)
    parts = _parts(key if isinstance(key, tuple) else (key,), node)
    parts = _expand_ellipsis(parts, node)
    shape: list[Extent] = []
    axes: list[_Axis] = []
    order: list[int | str] = []
    indexed: list[int] = []  # places in `order` of integers and arrays
    separate = 0
    before: int | None = None
    taken = 0
    for place, part in enumerate(parts):
        if part is Ellipsis:
            continue
        if part is None:
            order.append("new")
            continue
        if isinstance(part, bool):  # a truth value: positions along an axis of its own
            size: Extent = 1
            where: Any = constant(np.zeros(int(part), np.int64))
        else:
            size, where = node.shape[taken], part
            taken += 1
        shape.append(size)
        axis = _axis(where, size, taken - 1, node)
        axes.append(axis)
        if axis.kind == "keep":
            order.append(len(axes) - 1)
            continue
        separate += before is not None and place != before + 1
        before = place
        indexed.append(len(order))
        order.append("found")
    has_arrays = any(axis.kind == "array" for axis in axes)
    first = indexed[0] if indexed and not separate else 0
    kept = [part for part in order if part != "found"]
    if has_arrays:
        ahead = sum(1 for part in order[:first] if part != "found")
        kept.insert(ahead, "found")
    source = node if tuple(shape) == node.shape else reshape(node, tuple(shape))
    made = Subscript(node, source, axes, kept)
    for i in made.arrays:
        positions = axes[i].positions
        assert positions is not None
        require_known_positions("indexing", node if source is node else source, positions, i)
    return made


def _parts(key: tuple[Any, ...], node: Node) -> list[Any]:
    """The parts of a key, with masks as the positions where they are true."""
    parts: list[Any] = []
    for part in key:
        if part is None or part is Ellipsis or isinstance(part, (slice, Dim)):
            parts.append(part)
            continue
        if isinstance(part, (bool, np.bool_)):
            parts.append(bool(part))
            continue
        if isinstance(part, (int, np.integer)):
            parts.append(int(part))
            continue
        if not isinstance(part, (Node, np.ndarray, list, tuple)):
            raise GraphError(
                f"cannot index with {shortened(repr(part))}\n"
                + describe([node])
                + "\nIndices are integers, slices, None, ... and arrays of integers."
            )
        mask = static_mask(part, "indexing")
        if mask is None:
            positions = as_positions(part, "indexing")
            known = positions.ndim == 0 and positions.op.name == "constant"
            parts.append(int(positions.attrs["value"].array) if known else positions)
        elif mask.ndim == 0:
            parts.append(bool(mask))
        else:
            parts += [_Found(a, e) for a, e in zip(mask.nonzero(), mask.shape, strict=True)]
    return parts


@dataclass
class _Found:
    """Positions along an axis at which a mask is true; `extent` is the mask's own."""

    positions: np.ndarray
    extent: int


def _expand_ellipsis(parts: list[Any], node: Node) -> list[Any]:
    used = sum(not (part is None or part is Ellipsis or isinstance(part, bool)) for part in parts)
    if used > node.ndim or sum(1 for part in parts if part is Ellipsis) > 1:
        raise GraphError(f"too many indices for rank {node.ndim}\n" + describe([node]))
    fill = [slice(None)] * (node.ndim - used)
    if not any(part is Ellipsis for part in parts):
        return [*parts, *fill]
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return [*parts[: at + 1], *fill, *parts[at + 1 :]]  # even one of no axes separates positions


def _axis(part: Any, size: Extent, axis: int, node: Node) -> _Axis:
    """What one part of a key says of one axis."""
    if isinstance(part, slice):
        start, length, step = _slice_part(_checked_slice(part, node), size)
        return _Axis("keep", start, length, step)
    if isinstance(part, int):
        if isinstance(size, int) and not -size <= part < size:
            raise GraphError(
                f"index {part} is out of range for axis {axis} of extent {size}\n"
                + describe([node])
            )
        return _Axis("drop", part if part >= 0 else size + part, 1)
    if isinstance(part, Dim):
        return _Axis("drop", part, 1)
    if isinstance(part, _Found):
        if part.extent != size:
            raise GraphError(
                f"a mask of extent {part.extent} does not fit axis {axis} of extent {size}\n"
                + describe([node])
            )
        part = constant(part.positions.astype(np.int64))
    return _Axis("array", 0, size, 1, part)


# Beyond it a position is outside every array.
_FAR = 2**62


def _checked_slice(part: slice, node: Node) -> slice:
    """The slice with bounds that are extents or None; integers so large that they are outside every
    array stay outside, but fit 64 bits.
    """
    bounds: list[Any] = []
    for name in ("start", "stop", "step"):
        bound = getattr(part, name)
        if isinstance(bound, (int, np.integer)) and not isinstance(bound, (bool, np.bool_)):
            bound = max(-_FAR, min(int(bound), _FAR))
        elif not (bound is None or isinstance(bound, Dim) and name != "step"):
            raise GraphError(
                f"the {name} of a slice is an integer or an extent, got {shortened(repr(bound))}\n"
                + describe([node])
                + "\nFor a start that is data use gx.dynamic_slice, for positions gx.take."
            )
        bounds.append(bound)
    if bounds[2] == 0:
        raise GraphError("the step of a slice must not be 0\n" + describe([node]))
    return slice(*bounds)


def _slice_part(part: slice, size: Extent) -> tuple[Extent, Extent, int]:
    """The lowest position, the number of elements, and the step of a slice."""
    step = 1 if part.step is None else part.step
    if step > 0:
        start = 0 if part.start is None else _clamp(part.start, size, 0, True)
        stop = size if part.stop is None else _clamp(part.stop, size)
        from_start = start == 0 and not isinstance(part.stop, Dim)  # else the stop may be negative
        span = stop if from_start else _at_least(stop - start, 0)
        return start, (span if step == 1 else ceildiv(span, step)), step
    start = size - 1 if part.start is None else _clamp(part.start, size, -1)
    if part.stop is None:
        length = ceildiv(start + 1, -step)
    else:
        length = _at_least(ceildiv(start - _clamp(part.stop, size, -1, True), -step), 0)
    return (0 if length == 0 else start + (length - 1) * step), length, step


def _clamp(position: Any, size: Extent, beyond: int = 0, below: bool = False) -> Extent:
    """A slice bound as NumPy has it: negative from the end, never outside; going backwards, when
    `beyond` is -1, that is one less at both ends. An extent counts from the end if it is negative
    for every size, like -n; another one may come out negative, which matters where `below` is true.
    """
    if isinstance(position, (int, np.integer)) and int(position) < 0:
        return _at_least(size + int(position), beyond)
    if isinstance(position, Dim) and _is_nonnegative(-position):
        return _at_least(size + position, beyond)
    given = position if isinstance(position, Dim) else int(position)
    last = size + beyond
    if given not in (beyond, last) and not _is_nonnegative(last - given):
        given = dim_min(given, last)
    return _at_least(given, beyond) if below else given


def _at_least(extent: Extent, least: int) -> Extent:
    return extent if _is_nonnegative(extent - least) else dim_max(extent, least)


def _is_nonnegative(extent: Extent) -> bool:
    """Whether an extent of named dimensions, none of which is negative, is not negative either."""
    if isinstance(extent, int):
        return extent >= 0
    return Bounds({}).proves_nonnegative(extent)


@surface
def getitem(x: Any, key: Any) -> Node:
    """x[key], with every key that NumPy takes: integers, slices, None, ..., arrays of integers and
    masks that are known when the graph is built; also integer nodes of any rank, and extents.

    An extent as the bound of a slice is a position, 0 if it comes out negative; only one that is
    never positive, like -n, counts from the end.

    A position out of range is a GraphError where that is known, an IndexError at run time where it
    is data.
    """
    return subscript(x, key).read()
