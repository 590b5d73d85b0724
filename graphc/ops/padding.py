"""What stands around a padded array?  np.pad, in all of its modes.

Zeros are one view. Every other mode pads one axis after the other, as NumPy does, by putting
slices, flipped or stretched, beside the array: index arithmetic again, and its transpose adds what
was read twice. Over a named extent, where how often the array is passed is not known, positions are
computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim, Extent, dim_max
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.gather import gather_op, positions_attributes
from graphc.ops.indexing import around, clipped
from graphc.ops.joining import concatenate, piece
from graphc.ops.movement import flip_op, iota_op, moveaxis, pad_op, squeeze
from graphc.ops.operands import as_node, broadcast, cast, constant, describe, extent
from graphc.tensor import surface
from graphc.types import as_extent

Pair = tuple[Any, Any]


@surface
def pad(x: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Node:
    """x with `pad_width` elements before and after each axis: an int, a pair for all axes, a pair
    for each, or a dict from axes to these.

    Modes and options are NumPy's: "constant" (`constant_values`), "edge", "reflect" and "symmetric"
    (`reflect_type`), "wrap", "linear_ramp" (`end_values`), "maximum", "minimum", "mean"
    (`stat_length`), and "empty", which pads with zeros. Widths may be extents.
    """
    node = as_node(x)
    allowed = _OPTIONS.get(mode) if isinstance(mode, str) else None
    if allowed is None:
        raise GraphError(
            f"pad: mode {shortened(repr(mode))} is not supported; there are "
            f"{', '.join(_OPTIONS)}\n" + describe([node])
        )
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise GraphError(f"pad: mode {mode!r} takes no {', '.join(unknown)}\n" + describe([node]))
    widths = _widths(node, pad_width)
    if mode == "empty" or mode == "constant" and _all_zero(options.get("constant_values", 0)):
        return _with_zeros(node, widths)
    values = _pairs(options[allowed[0]], node, allowed[0]) if options else None
    for axis, (before, after) in enumerate(widths):
        if before == 0 and after == 0:
            continue
        if mode in _OF_CONTENTS and node.shape[axis] == 0:
            raise GraphError(
                f"pad: axis {axis} is empty; mode {mode!r} needs an element\n" + describe([node])
            )
        option = None if values is None else values[axis]
        node = _PAD_AXIS[mode](node, axis, before, after, option)
    return node


_OPTIONS: dict[str, tuple[str, ...]] = {
    "constant": ("constant_values",),
    "edge": (),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    "wrap": (),
    "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "minimum": ("stat_length",),
    "mean": ("stat_length",),
    "empty": (),
}
_OF_CONTENTS = frozenset(_OPTIONS) - {"constant", "linear_ramp", "empty"}


def _all_zero(value: Any) -> bool:
    """Whether only zeros are to be put around the array; -0.0 is something else."""
    if (
        isinstance(value, Node)
        or isinstance(value, (list, tuple))
        and any(isinstance(item, Node) for item in value)
    ):
        return False
    array = np.asarray(value)
    return dtypes.kind(array.dtype) in "biuf" and not array.any() and not np.signbit(array).any()


def _widths(node: Node, given: Any) -> list[tuple[Extent, Extent]]:
    if isinstance(given, dict):
        table: list[Any] = [(0, 0)] * node.ndim
        for axis, width in given.items():
            table[axis] = width if isinstance(width, (tuple, list)) else (width, width)
        given = table
    pairs = _pairs(given, node, "pad_width")
    for width in (w for pair in pairs for w in pair):
        if isinstance(width, (int, np.integer)) and not isinstance(width, bool) and width < 0:
            raise GraphError(
                f"pad: widths must not be negative, got {shortened(repr(given))}; slice instead\n"
                + describe([node])
            )
    return [(as_extent(before), as_extent(after)) for before, after in pairs]


def _pairs(given: Any, node: Node, name: str) -> list[Pair]:
    """A pair for each axis, from one value, one pair, or one of them for each axis."""
    if name == "reflect_type":
        if given not in ("even", "odd"):
            raise GraphError(f"pad: reflect_type is 'even' or 'odd', got {shortened(repr(given))}")
        return [(given, given)] * node.ndim
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, (list, tuple)):
        return [(given, given)] * node.ndim
    rows = [tuple(g) if isinstance(g, (list, tuple)) else g for g in given]
    if all(isinstance(row, tuple) for row in rows):
        rows = [row * 2 if len(row) == 1 else row for row in rows]
        if len(rows) in (1, node.ndim) and all(len(row) == 2 for row in rows):
            return rows * (node.ndim if len(rows) == 1 else 1)
    elif len(rows) in (1, 2) and not any(isinstance(row, tuple) for row in rows):
        return [(rows[0], rows[-1])] * node.ndim
    raise GraphError(
        f"pad: {name} is one value, a (before, after) pair, or one for each of {node.ndim} axes, "
        f"got {shortened(repr(given))}\n" + describe([node])
    )


def _with_zeros(node: Node, widths: list[tuple[Extent, Extent]]) -> Node:
    shape = tuple(
        before + size + after for size, (before, after) in zip(node.shape, widths, strict=True)
    )
    if shape == node.shape:
        return node
    starts = tuple(before for before, _ in widths)
    return pad_op(node, starts=starts, shape=shape, steps=(1,) * node.ndim)


def _beside(node: Node, axis: int, before: Node | None, after: Node | None) -> Node:
    return concatenate([part for part in (before, node, after) if part is not None], axis)


def _stretched(part: Node, axis: int, length: Extent) -> Node | None:
    """A part of extent 1 along an axis, repeated; None for no element."""
    if length == 0:
        return None
    shape = (*part.shape[:axis], length, *part.shape[axis + 1 :])
    return broadcast(part, shape, tuple(range(part.ndim)))


def _on_both_sides(
    make: Callable[[Node, int, Any, bool], Node],
) -> Callable[..., Node]:
    """Padding that repeats one slice: `make(node, axis, option, at_end)`."""

    def pad_axis(node: Node, axis: int, before: Extent, after: Extent, option: Any) -> Node:
        first, last = option or (None, None)
        return _beside(
            node,
            axis,
            None if before == 0 else _stretched(make(node, axis, first, False), axis, before),
            None if after == 0 else _stretched(make(node, axis, last, True), axis, after),
        )

    return pad_axis


def _edge(node: Node, axis: int, option: Any = None, at_end: bool = False) -> Node:
    return piece(node, axis, node.shape[axis] - 1 if at_end else 0, 1)


def _constant_slice(node: Node, axis: int, value: Any, at_end: bool) -> Node:
    shape = (*node.shape[:axis], 1, *node.shape[axis + 1 :])
    given = value if isinstance(value, Node) else constant(value)
    if given.ndim:
        raise GraphError("pad: a constant value is of rank 0\n" + describe([node, given]))
    return broadcast(cast(given, node.dtype), shape, ())


def _statistic(name: str) -> Callable[[Node, int, Any, bool], Node]:
    def statistic(node: Node, axis: int, length: Any, at_end: bool) -> Node:
        from graphc.tensor import SURFACE

        size = node.shape[axis]
        part = node
        if length is not None and not (isinstance(size, int) and length >= size):
            if not isinstance(length, (int, np.integer)) or length < 1:
                raise GraphError(
                    f"pad: stat_length is a positive integer, got {shortened(repr(length))}\n"
                    + describe([node])
                )
            if not isinstance(size, int):
                raise GraphError(
                    f"pad: stat_length over axis {axis} of extent {size}, which is not known\n"
                    + describe([node])
                )
            part = piece(node, axis, size - int(length) if at_end else 0, int(length))
        found = SURFACE[name](part, axis=axis, keepdims=True)
        if dtypes.is_float(found.dtype) and dtypes.is_integer(node.dtype):
            found = _rounded(found)
        return cast(found, node.dtype)

    return statistic


def _rounded(x: Node) -> Node:
    """x rounded to the nearest whole number, halves to even ones."""
    from graphc.ops.special import where

    whole = cast(cast(x, dtypes.INT64), x.dtype)
    rest = x - whole
    odd = around(cast(whole, dtypes.INT64), 2) == 1
    up, down = (rest > 0.5) | ((rest == 0.5) & odd), (rest < -0.5) | ((rest == -0.5) & odd)
    return where(up, whole + 1, where(down, whole - 1, whole))


def _linear_ramp(node: Node, axis: int, before: Extent, after: Extent, option: Any) -> Node:
    """From the end values, which stand at the rims, in equal steps to the edges."""
    ends = option or (0, 0)

    def ramp(width: Extent, end: Any, at_end: bool) -> Node | None:
        if width == 0:
            return None
        from graphc.ops.creation import linspace

        edge = _edge(node, axis, None, at_end)
        shape = edge.shape
        target = end if isinstance(end, Node) else constant(end)
        line = linspace(
            broadcast(cast(target, node.dtype), shape, ()), edge, width, False, dtype=node.dtype
        )
        # the new first axis takes the place of the one of extent 1
        moved = moveaxis(line, 0, axis)
        made = squeeze(moved, axis + 1)
        return flip_op(made, axes=(axis,)) if at_end else made

    return _beside(node, axis, ramp(before, ends[0], False), ramp(after, ends[1], True))


# -- the array over again --------------------------------------------------------------------------


def _periodic(kind: str) -> Callable[..., Node]:
    """Padding with what lies around the array when it is repeated, mirrored or not."""

    def pad_axis(node: Node, axis: int, before: Extent, after: Extent, option: Any) -> Node:
        odd = option is not None and option[0] == "odd"
        size = node.shape[axis]
        known = all(isinstance(extent_, int) for extent_ in (size, before, after))
        if odd:
            if not known:
                raise GraphError(
                    f"pad: reflect_type 'odd' needs known extents, not {size}\n" + describe([node])
                )
            return _grown(node, axis, before, after, kind, True)  # type: ignore[arg-type]
        if known:
            return _grown(node, axis, before, after, kind, False)  # type: ignore[arg-type]
        return _looked_up(node, axis, before, after, kind)

    return pad_axis


def _grown(node: Node, axis: int, before: int, after: int, kind: str, odd: bool) -> Node:
    """Slices beside the array, again and again until the widths are reached, as NumPy does it."""
    if kind == "reflect" and node.shape[axis] == 1:
        return _PAD_AXIS["edge"](node, axis, before, after, None)
    period = node.shape[axis]
    while before or after:
        size = node.shape[axis]
        assert isinstance(size, int) and isinstance(period, int)
        # the most that one more round can add, and keep the pattern
        most = {"reflect": size - 1, "symmetric": size, "wrap": size - size % period}[kind]
        left, right = min(before, most), min(after, most)
        parts = [
            _slice_beside(node, axis, count, kind, odd, at_end) if count else None
            for count, at_end in ((left, False), (right, True))
        ]
        node = _beside(node, axis, parts[0], parts[1])
        before, after = before - left, after - right
    return node


def _slice_beside(node: Node, axis: int, count: int, kind: str, odd: bool, at_end: bool) -> Node:
    """The `count` elements that go on before the array, or after it."""
    size = node.shape[axis]
    assert isinstance(size, int)
    if kind == "wrap":
        return piece(node, axis, 0 if at_end else size - count, count)
    skip = 1 if kind == "reflect" else 0
    start = size - count - skip if at_end else skip
    mirrored = flip_op(piece(node, axis, start, count), axes=(axis,))
    if not odd:
        return mirrored
    edge = _stretched(_edge(node, axis, None, at_end), axis, count)
    assert edge is not None
    return edge + edge - mirrored


def _looked_up(node: Node, axis: int, before: Extent, after: Extent, kind: str) -> Node:
    """The same by position, for named extents: positions follow a wave of known period."""
    size = node.shape[axis]
    line = iota_op(shape=(before + size + after,), axis=0, dtype=dtypes.INT64)
    offset = line - (extent(before) if isinstance(before, Dim) else before)
    if kind == "wrap":
        where = around(offset, size)
    else:
        skip = 1 if kind == "reflect" else 0
        period = dim_max((size - skip) * 2, 1)
        phase = around(offset, period)
        back = (extent(period) if isinstance(period, Dim) else period) - (1 - skip) - phase
        from graphc.ops.arithmetic import minimum

        where = clipped(minimum(phase, back), 0, size - 1)
    return gather_op(node, where, **positions_attributes((axis,), at=axis))


_PAD_AXIS: dict[str, Callable[..., Node]] = {
    "constant": _on_both_sides(_constant_slice),
    "edge": _on_both_sides(_edge),
    "maximum": _on_both_sides(_statistic("max")),
    "minimum": _on_both_sides(_statistic("min")),
    "mean": _on_both_sides(_statistic("mean")),
    "linear_ramp": _linear_ramp,
    "reflect": _periodic("reflect"),
    "symmetric": _periodic("symmetric"),
    "wrap": _periodic("wrap"),
}
