"""Which element is number i of an array, counted row by row?  Positions along axes, and back."""

from __future__ import annotations

from typing import Any

from graphc import dtypes
from graphc.dims import Extent, product
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.composed import clip
from graphc.ops.division import remainder
from graphc.ops.indexing import as_positions
from graphc.ops.operands import broadcast_together, cast, describe
from graphc.ops.special import check
from graphc.tensor import surface
from graphc.types import Shape, as_shape


def _strides(shape: Shape, order: str, name: str) -> list[Extent]:
    """How many elements further the next position along each axis is."""
    if order not in ("C", "F"):
        raise GraphError(f"{name}: order is 'C' or 'F', got {order!r}")
    if order == "C":
        return [product(shape[axis + 1 :]) for axis in range(len(shape))]
    return [product(shape[:axis]) for axis in range(len(shape))]


@surface
def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Node, ...]:
    """For positions in the flattened array their positions along each axis of `shape` (int64).

    A position out of range is an error at run time.
    """
    extents = as_shape(shape)
    flat = cast(as_positions(indices, "unravel_index"), dtypes.INT64)
    inside = (flat >= 0) & (flat < product(extents))
    flat = check(flat, inside, "unravel_index: a position is out of range")
    strides = _strides(extents, order, "unravel_index")
    return tuple(
        remainder(flat // stride, size) for stride, size in zip(strides, extents, strict=True)
    )


@surface
def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Node:
    """The positions in the flattened array of positions along each axis of `dims` (int64).

    A position out of range is an error at run time with `mode` "raise"; "wrap" counts around the
    axis, "clip" takes its first or last. One mode for all axes, or one for each.
    """
    extents = as_shape(dims)
    given = [cast(as_positions(p, "ravel_multi_index"), dtypes.INT64) for p in multi_index]
    modes = [mode] * len(extents) if isinstance(mode, str) else list(mode)
    if not len(given) == len(extents) == len(modes):
        raise GraphError(
            f"ravel_multi_index: positions and modes for {len(extents)} axes\n" + describe(given)
        )
    positions = broadcast_together("ravel_multi_index", given)
    strides = _strides(extents, order, "ravel_multi_index")
    terms = [
        _within(position, size, how) * stride
        for position, size, how, stride in zip(positions, extents, modes, strides, strict=True)
    ]
    return sum(terms[1:], terms[0])


def _within(position: Node, size: Extent, mode: str) -> Node:
    if mode == "wrap":
        return remainder(position, size)
    if mode == "clip":
        return clip(position, 0, size - 1)
    if mode != "raise":
        raise GraphError(
            f"ravel_multi_index: mode is 'raise', 'wrap' or 'clip', got {mode!r}\n"
            + describe([position])
        )
    inside = (position >= 0) & (position < size)
    return check(position, inside, "ravel_multi_index: a position is out of range")
