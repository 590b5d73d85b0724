"""Reading an array at positions that are data, and its transpose, combining updates into it there.

Two forms say it all (`graphc.lowering.Lookup`): positions for any of the axes, along with any of
the others (`batch`), and one element or a whole window at each. Every way of indexing that is not
index arithmetic, and every update of a part of an array, is one of these. Positions count from 0,
negative ones from the end, as in NumPy; one out of range is an IndexError at run time that names
the user's line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.lowering import Gather, Lookup, Scatter
from graphc.node import Attributes, Node
from graphc.op import Derivative, Linear, Op, Rules, register
from graphc.types import Shape, TensorType, Type

ATTRIBUTES = ("axes", "batch", "at", "windows")


def _lookup(array: Any, positions: Any, axes: Any, batch: Any, at: int, windows: Any) -> Lookup:
    inner = positions.ndim - len(batch)
    return Lookup(array.ndim, inner, axes, batch, at, bool(windows))


def lookup(node: Node) -> Lookup:
    """The correspondence of axes of a gather or scatter node."""
    return _lookup(node.args[0], node.args[-1], **node.attrs)


def _found_shape(
    name: str,
    x: TensorType,
    positions: tuple[Type, ...],
    axes: tuple[int, ...],
    batch: tuple[int, ...],
    at: int,
    windows: Shape,
) -> Shape:
    """The shape of what lies at the positions; `GraphError` if they do not fit the array."""
    first = positions[0] if positions else None
    named = (*axes, *batch)
    fits = (
        isinstance(first, TensorType)
        and first.dtype == dtypes.INT64
        and all(other is first for other in positions)
        and len(positions) == len(axes)
        and len(set(named)) == len(named)
        and all(0 <= axis < x.ndim for axis in named)
        and first.shape[: len(batch)] == tuple(x.shape[axis] for axis in batch)
        and len(windows) in (0, len(axes))
    )
    if not fits:
        raise GraphError(
            f"{name} of {x} along axes {axes}, batch {batch}, windows {windows}, at {positions}"
        )
    assert isinstance(first, TensorType)
    found = _lookup(x, first, axes, batch, at, windows)
    size = dict(enumerate(x.shape)) | dict(zip(axes, windows, strict=False))
    kept = [size[axis] for axis in found.kept]
    return found.joined(kept, first.shape[len(batch) :])


def _infer_gather(x: Type, *positions: Type, **attrs: Any) -> Type:
    assert isinstance(x, TensorType)
    return TensorType(x.dtype, _found_shape("gather", x, positions, **attrs))


def _numpy_index(shape: Sequence[int], positions: Sequence[Any], attrs: Any) -> tuple[Any, ...]:
    """NumPy's index of the elements that lie at the positions: an array for each axis."""
    windows = attrs["windows"]
    found = Lookup(
        len(shape), positions[0].ndim - len(attrs["batch"]), attrs["axes"], attrs["batch"],
        attrs["at"], bool(windows),
    )  # fmt: skip
    size = dict(enumerate(shape)) | dict(zip(found.axes, windows, strict=False))
    marks = [("kept", axis) for axis in found.kept]
    order = found.joined(marks, [("inner", i) for i in range(found.inner)])

    def spread(array: Any, own: Sequence[Any]) -> Any:
        """An array whose axes are the marks `own`, with its axes where the result has them."""
        ranks = [order.index(mark) for mark in own]
        array = np.transpose(array, sorted(range(len(ranks)), key=ranks.__getitem__))
        full = [1] * len(order)
        for rank, extent in zip(sorted(ranks), array.shape, strict=True):
            full[rank] = extent
        return array.reshape(full)

    own = [("kept", axis) for axis in found.batch] + [("inner", i) for i in range(found.inner)]
    lines = {axis: spread(np.arange(size[axis]), [("kept", axis)]) for axis in found.kept}
    index = dict(lines)
    for i, (axis, given) in enumerate(zip(found.axes, positions, strict=True)):
        extent = shape[axis]
        last = extent - (windows[i] if windows else 1)
        wrapped = np.where(given < 0, given + extent, given)
        wrong = given[(wrapped < 0) | (wrapped > last)]
        if wrong.size:
            raise IndexError(
                f"index {wrong.flat[0]} is out of range for axis {axis} of extent {extent}"
            )
        index[axis] = spread(wrapped, own) + (lines[axis] if windows else 0)
    full_shape = [size[what] if kind == "kept" else positions[0].shape[len(found.batch) + what]
                  for kind, what in order]  # fmt: skip
    return tuple(np.broadcast_to(index[axis], full_shape) for axis in range(len(shape)))


def _numpy_gather(x: Any, *positions: Any, **attrs: Any) -> Any:
    index = _numpy_index(x.shape, positions, attrs)
    return np.asarray(x)[index]


def _gather_transpose(cotangent: Node, node: Node, i: int) -> Node:
    from graphc.ops.special import zeros_like

    x, *positions = node.args
    return scatter_op["add"](zeros_like(x), cotangent, *positions, **node.attrs)


def _batch_gather(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """A further batch axis; or, where only the positions have it, a further axis of theirs."""
    from graphc.ops.movement import moveaxis, transpose_op

    x, *positions = args
    if not any(mapped[1:]):
        return [gather_op(x, *positions, **_raised(node.attrs))]
    positions = [
        position if own else transform.spread(position, size)
        for position, own in zip(positions, mapped[1:], strict=True)
    ]
    if mapped[0]:
        return [gather_op(x, *positions, **_raised(node.attrs, (0,)))]
    along = len(node.attrs["batch"])
    order = (*range(1, along + 1), 0, *range(along + 1, positions[0].ndim))
    positions = [transpose_op(position, axes=order) for position in positions]
    return [moveaxis(gather_op(x, *positions, **node.attrs), node.attrs["at"], 0)]


def _batch_scatter(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """A further batch axis."""
    moving = any(mapped[2:])
    args = [
        arg if own or (i > 1 and not moving) else transform.spread(arg, size)
        for i, (arg, own) in enumerate(zip(args, mapped, strict=True))
    ]
    return [node.op(*args, **_raised(node.attrs, (0,) if moving else ()))]


def _raised(attrs: Attributes, batch: tuple[int, ...] = ()) -> dict[str, Any]:
    """The attributes where the array has a further axis in front, and so have the positions if
    `batch` names it.
    """
    axes, along = (tuple(a + 1 for a in attrs[name]) for name in ("axes", "batch"))
    return {**attrs, "axes": axes, "batch": (*batch, *along), "at": attrs["at"] + 1}


gather_op: Op = register(
    Op(
        "gather",
        _infer_gather,
        _numpy_gather,
        Gather(),
        Linear(_gather_transpose, arguments=(0,)),
        attributes=ATTRIBUTES,
        batch=_batch_gather,
        doc="Elements, or windows, of the first argument at the positions that the others give.",
    )
)

# -- scatter ---------------------------------------------------------------------------------------

# What each combiner does in NumPy, and the dtype kinds that it takes.
_COMBINERS: dict[str, tuple[Any, str]] = {
    "set": (None, "biuf"),
    "add": (np.add, "iuf"),
    "mul": (np.multiply, "iuf"),
    "max": (np.maximum, "iuf"),
    "min": (np.minimum, "iuf"),
}


def _infer_scatter(name: str, kinds: str) -> Any:
    def infer(x: Type, updates: Type, *positions: Type, **attrs: Any) -> Type:
        assert isinstance(x, TensorType) and isinstance(updates, TensorType)
        shape = _found_shape(name, x, positions, **attrs)
        if updates is not TensorType(x.dtype, shape) or dtypes.kind(x.dtype) not in kinds:
            raise GraphError(f"{name} of {updates} into {x}: updates must be {x.dtype} of {shape}")
        return x

    return infer


def _numpy_scatter(ufunc: Any) -> Any:
    def scatter(x: Any, updates: Any, *positions: Any, **attrs: Any) -> Any:
        """One by one in C order of the positions, so that the last one wins: of windows that
        overlap, too, so positions go before the axes of a window.
        """
        wide = dtypes.accumulator(x.dtype) if ufunc in (np.add, np.multiply) else x.dtype
        result = np.array(x, wide)
        index = _numpy_index(x.shape, positions, attrs)
        if not index:
            index, shape = (np.zeros(np.shape(updates), np.int64),), (1,)
        else:
            shape = result.shape
        inner, at = positions[0].ndim - len(attrs["batch"]), attrs["at"]

        def in_order(array: Any) -> Any:
            return np.moveaxis(array, range(at, at + inner), range(inner)).reshape(-1)

        flat = in_order(np.ravel_multi_index(index, shape)) if result.size else np.zeros(0, int)
        given, line = in_order(np.asarray(updates, wide)), result.reshape(-1)
        if ufunc is None:
            line[flat] = given
        else:
            with np.errstate(all="ignore"):
                ufunc.at(line, flat, given)
        return line.reshape(x.shape).astype(x.dtype, copy=False)

    return scatter


def _cotangent_of_updates(cotangent: Node, node: Node) -> Node:
    return gather_op(cotangent, *node.args[2:], **node.attrs)


def _add_transpose(cotangent: Node, node: Node, i: int) -> Node:
    return cotangent if i == 0 else _cotangent_of_updates(cotangent, node)


def _set_transpose(cotangent: Node, node: Node, i: int) -> Node:
    """What was overwritten receives 0, and so does an update that a later one replaced."""
    from graphc.ops.special import where_op, zeros_like

    x, updates, *positions = node.args
    if i == 0:
        return node.op(cotangent, zeros_like(updates), *positions, **node.attrs)
    pulled = _cotangent_of_updates(cotangent, node)
    if _known_distinct(x.shape, positions, node.attrs):
        return pulled
    return where_op(_is_last(node), pulled, zeros_like(pulled))


def _is_last(node: Node) -> Node:
    """Whether each element of the updates is the one that stays: numbers are stored instead of
    values, and read back.
    """
    from graphc.ops.movement import iota_op, reshape

    x, updates, *positions = node.args
    number = reshape(iota_op(shape=(updates.size,), axis=0, dtype=dtypes.INT64), updates.shape)
    blank = zeros_like_int(x)
    stored = node.op(blank, number, *positions, **node.attrs)
    return gather_op(stored, *positions, **node.attrs) == number


def zeros_like_int(x: Node) -> Node:
    """int64 zeros of the shape of `x`."""
    from graphc.ops.operands import constant, to_shape

    return to_shape(constant(0, dtypes.INT64), x.shape)


# Constant positions of more elements than this are not compared with each other.
_MOST_COMPARED = 1_000_000


def _known_distinct(shape: Shape, positions: Sequence[Node], attrs: Any) -> bool:
    """Whether no two updates can meet: there is one position, or constants that differ."""
    from graphc.ops.operands import constant_op

    inner = positions[0].shape[len(attrs["batch"]) :]
    if all(extent == 1 for extent in inner):
        return True
    known = all(p.op is constant_op and p.size <= _MOST_COMPARED for p in positions)  # type: ignore[operator]
    sizes = [shape[axis] for axis in attrs["axes"]]
    if not known or attrs["batch"] or attrs["windows"]:
        return False
    if not all(isinstance(size, int) for size in sizes):
        return False
    arrays = [p.attrs["value"].array.reshape(-1) for p in positions]
    wrapped = np.stack([a % s for a, s in zip(arrays, sizes, strict=True)])  # type: ignore[operator]
    return len(np.unique(wrapped, axis=1).T) == wrapped.shape[1]


# -- products and extrema: what an element owes to each of its factors or candidates ---------------


def _shares(node: Node) -> tuple[Node, Node]:
    """How the result varies with the first argument, in its shape, and with the updates, in theirs.
    """
    form = node.op.lowering
    assert isinstance(form, Scatter)
    return _factor_shares(node) if form.combiner == "mul" else _extremum_shares(node)


def _factor_shares(node: Node) -> tuple[Node, Node]:
    """For each factor the product of all others, exact with zeros: zeros are counted and left out.

    A choice on zero does not move, so from the second order on this would be silently wrong beside
    a factor of 0. There a term is added that is 0 and has the derivative NaN.
    """
    from graphc.ops.arithmetic import difference_op, like, strong_multiply_op
    from graphc.ops.special import stop_gradient_op, where_op

    x, updates, *positions = node.args
    where = [v == like(v, 0) for v in (x, updates)]
    filled = [where_op(z, like(v, 1), v) for z, v in zip(where, (x, updates), strict=True)]
    ones = [where_op(z, like(v, 1), like(v, 0)) for z, v in zip(where, (x, updates), strict=True)]
    rest = node.op(*filled, *positions, **node.attrs)
    count = scatter_op["add"](*ones, *positions, **node.attrs)

    def others(zero: Node, value: Node, rest: Node, count: Node) -> Node:
        none, one = like(value, 0), like(value, 1)
        if_zero = where_op(count == one, rest, none)
        return where_op(zero, if_zero, where_op(count == none, rest / value, none))

    both = scatter_op["add"](x, updates, *positions, **node.attrs)
    unknown = where_op(count == like(count, 0), like(count, 0), like(count, float("nan")))
    guard = strong_multiply_op(difference_op(both, stop_gradient_op(both)), unknown)
    taken = [gather_op(v, *positions, **node.attrs) for v in (rest, count, guard)]
    return (
        others(where[0], filled[0], rest, count) + guard,
        others(where[1], filled[1], *taken[:2]) + taken[2],
    )


def _extremum_shares(node: Node) -> tuple[Node, Node]:
    """1 / count for the candidates that attain the extremum, 0 for the others."""
    from graphc.ops.arithmetic import like
    from graphc.ops.special import where_op

    x, updates, *positions = node.args
    found = gather_op(node, *positions, **node.attrs)
    hits = [x == node, updates == found]
    ones = [
        where_op(hit, like(v, 1), like(v, 0)) for hit, v in zip(hits, (x, updates), strict=True)
    ]
    count = scatter_op["add"](*ones, *positions, **node.attrs)
    share = like(x, 1) / where_op(count == like(x, 0), like(x, 1), count)
    taken = gather_op(share, *positions, **node.attrs)
    return (
        where_op(hits[0], share, like(x, 0)),
        where_op(hits[1], taken, like(updates, 0)),
    )


def _scatter_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    from graphc.ops.arithmetic import strong_multiply
    from graphc.ops.special import zeros_like

    parts = [
        zeros_like(value) if tangent is None else strong_multiply(tangent, share)
        for tangent, share, value in zip(tangents, _shares(node), node.args, strict=False)
    ]
    return [scatter_op["add"](*parts, *node.args[2:], **node.attrs)]


def _scatter_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    from graphc.ops.arithmetic import strong_multiply

    shares = _shares(node)
    pulled = (cotangents[0], _cotangent_of_updates(cotangents[0], node))
    found: list[Any] = [strong_multiply(c, s) for c, s in zip(pulled, shares, strict=True)]
    return [*found, *(None for _ in node.args[2:])]


_DERIVATIVES: dict[str, Derivative] = {
    "set": Linear(_set_transpose, arguments=(0, 1)),
    "add": Linear(_add_transpose, arguments=(0, 1)),
    **dict.fromkeys(("mul", "max", "min"), Rules(_scatter_jvp, _scatter_vjp)),
}
_DOCS = {
    "set": "; of updates at one position the last one stays",
    "mul": "; beside a factor of 0 its derivatives are NaN from the second order on",
    "max": "; what ties shares the derivative equally",
    "min": "; what ties shares the derivative equally",
}


def _scatter(combiner: str) -> Op:
    ufunc, kinds = _COMBINERS[combiner]
    name = f"scatter_{combiner}"
    return register(
        Op(
            name,
            _infer_scatter(name, kinds),
            _numpy_scatter(ufunc),
            Scatter(combiner),
            _DERIVATIVES[combiner],
            attributes=ATTRIBUTES,
            batch=_batch_scatter,
            doc="The first argument with the second combined into it at the positions that the "
            "others give, in order" + _DOCS.get(combiner, "") + ".",
        )
    )


scatter_op: dict[str, Op] = {combiner: _scatter(combiner) for combiner in _COMBINERS}


def positions_attributes(
    axes: tuple[int, ...],
    batch: tuple[int, ...] = (),
    at: int = 0,
    windows: Shape = (),
) -> dict[str, Any]:
    """The attributes of a gather or scatter."""
    return {"axes": axes, "batch": batch, "at": at, "windows": windows}


def along_axis(positions: Node, axis: int) -> tuple[Node, dict[str, Any]]:
    """Positions, one for each line along an axis, and the attributes of their gather: the other
    axes of both go together.
    """
    from graphc.ops.movement import transpose

    batch = tuple(a for a in range(positions.ndim) if a != axis)
    return transpose(positions, (*batch, axis)), positions_attributes((axis,), batch, axis)


def added_at(positions: Node, updates: Node, extent: Extent) -> Node:
    """Zeros of `extent` along the first axis, with each update added at its position there."""
    from graphc.ops.operands import constant, to_shape

    shape = (extent, *updates.shape[positions.ndim :])
    zeros = to_shape(constant(0, updates.dtype), shape)
    return scatter_op["add"](zeros, updates, positions, **positions_attributes((0,)))
