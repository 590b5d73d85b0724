"""How are views brought together?  One view instead of two, and work before a broadcast, not after.

Views cost nothing once a kernel folds them in, but they hide what lies beneath. So views of views
are merged, and views and broadcasts are moved towards the outputs, past element-wise ops where all
arguments are moved alike. Nothing is moved the other way, so this ends. Reductions and contractions
take views in by renaming their axes: see `reductions` and `contractions`.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.dims import Extent, product
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.op import Op
from graphc.ops.movement import (
    concatenate_op,
    flip_op,
    inverse,
    pad_op,
    reshape,
    reshape_op,
    slice_op,
    transpose,
    transpose_op,
)
from graphc.ops.operands import broadcast, broadcast_op, restate_op
from graphc.rewrite.pattern import Family, at_type, functions, named, variables
from graphc.rewrite.rule import rule
from graphc.types import Shape, TensorType

x, y = variables("x y")
transposed, reshaped, broadcasted, restated = functions("transpose reshape broadcast restate")
sliced, padded, flipped, concatenated = functions("slice pad flip concatenate")
_Axes = tuple[int, ...]

# -- a view of a view ------------------------------------------------------------------------------

rule(
    "transpose_transpose",
    transposed(named("inner", transposed(x))),
    lambda x, inner, node: transpose(x, [inner.attrs["axes"][a] for a in node.attrs["axes"]]),
    law="ieee",
    doc="x, or one transpose",
    example=lambda x: x.T.T,
)
rule(
    "transpose_nothing",
    transposed(x),
    x,
    law="ieee",
    guard=lambda node: node.attrs["axes"] == tuple(range(node.ndim)),
    example=lambda x: transpose_op(x, axes=(0, 1)),
)
rule(
    "reshape_reshape",
    reshaped(reshaped(x)),
    lambda x, node: reshape_op(x, shape=node.shape),
    law="ieee",
    doc="one reshape",
    example=lambda x: x.reshape(12).reshape(6, 2),
)
rule(
    "reshape_nothing",
    reshaped(x),
    x,
    law="ieee",
    guard=lambda x, node: x.shape == node.shape,
    example=lambda x: reshape_op(x, shape=(3, 4)),
)
rule(
    "restate_nothing",
    restated(x),
    x,
    law="ieee",
    guard=lambda x, node: x.shape == node.shape,
    example=lambda x: restate_op(x, shape=(3, 4)),
)
rule(
    "broadcast_broadcast",
    broadcasted(named("inner", broadcasted(x))),
    lambda x, inner, node: broadcast_op(
        x, shape=node.shape, axes=tuple(node.attrs["axes"][a] for a in inner.attrs["axes"])
    ),
    law="ieee",
    doc="one broadcast",
    example=lambda s: broadcast(broadcast(s, (4,), ()), (3, 4), (1,)),
)
rule(
    "broadcast_nothing",
    broadcasted(x),
    x,
    law="ieee",
    guard=lambda x, node: x.shape == node.shape,
    example=lambda x: broadcast_op(x, shape=(3, 4), axes=(0, 1)),
)
rule(
    "flip_flip",
    flipped(named("inner", flipped(x))),
    lambda x, inner, node: _flip(x, set(inner.attrs["axes"]) ^ set(node.attrs["axes"])),
    law="ieee",
    doc="x, or one flip",
    example=lambda x: flipped(flipped(x, 0), 1),
)
rule(
    "flip_nothing",
    flipped(x),
    x,
    law="ieee",
    guard=lambda node: all(node.shape[a] == 1 for a in node.attrs["axes"]),
    example=lambda u: flipped(u[0:1], 0),
)


def _flip(x: Node, axes: set[int]) -> Node:
    return flip_op(x, axes=tuple(sorted(axes))) if axes else x


def _is_whole_slice(x: Node, node: Node) -> bool:
    return node.shape == x.shape and not any(_nonzero(node.attrs["starts"]))


def _nonzero(extents: Sequence[Extent]) -> list[bool]:
    return [extent_ != 0 for extent_ in extents]


def _merge_slices(x: Node, inner: Node, node: Node) -> Node:
    first, second = inner.attrs, node.attrs
    steps = tuple(a * b for a, b in zip(first["steps"], second["steps"], strict=True))
    parts = zip(first["starts"], first["steps"], second["starts"], strict=True)
    starts = tuple(start + step * further for start, step, further in parts)
    return slice_op(x, starts=starts, extents=second["extents"], steps=steps)


rule(
    "slice_slice",
    sliced(named("inner", sliced(x))),
    _merge_slices,
    law="ieee",
    doc="one slice",
    example=lambda u: u[1:][:2],
)
rule(
    "slice_nothing",
    sliced(x),
    x,
    law="ieee",
    guard=_is_whole_slice,
    example=lambda x: slice_op(x, starts=(0, 0), extents=(3, 4), steps=(1, 1)),
)

# -- views of broadcasts, and broadcasts of reshapes: about fewer elements, or axes of extent 1 ----


def _transpose_source(x: Node, inner: Node, node: Node) -> Node:
    """The broadcast of the transposed source: its axes go where those of the broadcast went."""
    place = inverse(node.attrs["axes"])
    axes = [place[a] for a in inner.attrs["axes"]]
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    return broadcast_op(transpose(x, order), shape=node.shape, axes=tuple(axes[i] for i in order))


def _slice_source(x: Node, inner: Node, node: Node) -> Node:
    """The broadcast of the sliced source; an axis that was stretched stays at extent 1."""
    starts: list[Extent] = []
    extents: list[Extent] = []
    steps: list[int] = []
    for size, axis in zip(x.shape, inner.attrs["axes"], strict=True):
        stretched = size == 1
        starts.append(0 if stretched else node.attrs["starts"][axis])
        extents.append(1 if stretched else node.attrs["extents"][axis])
        steps.append(1 if stretched else node.attrs["steps"][axis])
    taken = slice_op(x, starts=tuple(starts), extents=tuple(extents), steps=tuple(steps))
    return broadcast_op(taken, shape=node.shape, axes=inner.attrs["axes"])


def _flip_source(x: Node, inner: Node, node: Node) -> Node:
    axes = {
        i
        for i, axis in enumerate(inner.attrs["axes"])
        if axis in node.attrs["axes"] and x.shape[i] != 1
    }
    return broadcast_op(_flip(x, axes), **inner.attrs)


def _inserted_axes(source: Shape, shape: Shape) -> _Axes | None:
    """Where the axes of `source` are in `shape` if the latter has only extents of 1 besides."""
    axes: list[int] = []
    for axis, size in enumerate(shape):
        if len(axes) < len(source) and source[len(axes)] == size:
            axes.append(axis)
        elif size != 1:
            return None
    return tuple(axes) if len(axes) == len(source) else None


rule(
    "transpose_broadcast",
    transposed(named("inner", broadcasted(x))),
    _transpose_source,
    law="ieee",
    doc="broadcast(transpose(x))",
    example=lambda x, u: broadcast(u, (3, 4), (1,)).T,
)
rule(
    "slice_broadcast",
    sliced(named("inner", broadcasted(x))),
    _slice_source,
    law="ieee",
    doc="broadcast(slice(x))",
    example=lambda u: broadcast(u, (3, 4), (1,))[:2, 1:],
)
rule(
    "flip_broadcast",
    flipped(named("inner", broadcasted(x))),
    _flip_source,
    law="ieee",
    doc="broadcast(flip(x))",
    example=lambda u: flipped(broadcast(u, (3, 4), (1,))),
)
rule(
    "reshape_broadcast_scalar",
    reshaped(broadcasted(x)),
    lambda x, node: broadcast(x, node.shape, ()),
    law="ieee",
    doc="broadcast(x)",
    guard=lambda x: x.ndim == 0,
    example=lambda s: broadcast(s, (3, 4), ()).reshape(12),
)
rule(
    "reshape_broadcast",
    reshaped(named("inner", broadcasted(x))),
    lambda x, node: reshape(x, node.shape),
    law="ieee",
    doc="reshape(x)",
    guard=lambda x, inner: x.size == inner.size,
    example=lambda x: x[:, None, :].reshape(12),
)
rule(
    "reshape_inserting",
    reshaped(x),
    lambda x, node: broadcast_op(x, shape=node.shape, axes=_inserted_axes(x.shape, node.shape)),
    law="ieee",
    doc="broadcast(x), which inserts the axes of extent 1",
    guard=lambda x, node: x.ndim < node.ndim and _inserted_axes(x.shape, node.shape) is not None,
    example=lambda x: x[:, None, :],
)

# -- pad, slice, concatenate -----------------------------------------------------------------------


def _same_window(inner: Node, node: Node, x: Node) -> bool:
    a, b = inner.attrs, node.attrs
    return a["starts"] == b["starts"] and a["steps"] == b["steps"] and node.shape == x.shape


def is_plain(node: Node) -> bool:
    return all(step == 1 for step in node.attrs["steps"])


def known_extents(*shapes: Shape) -> bool:
    return all(isinstance(extent_, int) for shape in shapes for extent_ in shape)


def _slice_of_pad(x: Node, inner: Node, node: Node) -> Node | None:
    """A slice that stays inside what was padded, or one that misses it along some axis."""
    starts, inner_starts = node.attrs["starts"], inner.attrs["starts"]
    if not (
        is_plain(inner)
        and is_plain(node)
        and known_extents(x.shape, node.shape, starts, inner_starts)
    ):
        return None
    offsets = tuple(a - b for a, b in zip(starts, inner_starts, strict=True))
    if any(o + n <= 0 or o >= e for o, n, e in zip(offsets, node.shape, x.shape, strict=True)):
        return at_type(0, node.type)
    if all(o >= 0 and o + n <= e for o, n, e in zip(offsets, node.shape, x.shape, strict=True)):
        return slice_op(x, starts=offsets, extents=node.shape, steps=node.attrs["steps"])
    return None


def _merge_pads(x: Node, inner: Node, node: Node) -> Node:
    starts = tuple(a + b for a, b in zip(inner.attrs["starts"], node.attrs["starts"], strict=True))
    return pad_op(x, starts=starts, shape=node.shape, steps=inner.attrs["steps"])


def _slice_of_concatenate(inner: Node, node: Node) -> Node | None:
    """A slice that stays inside one of the arrays."""
    axis, starts = inner.attrs["axis"], node.attrs["starts"]
    wanted, length, step = starts[axis], node.shape[axis], node.attrs["steps"][axis]
    begin: Extent = 0
    for array in inner.args:
        size, offset = array.shape[axis], wanted - begin
        inside = isinstance(offset, int) and offset >= 0 and _fits(offset, length, step, size)
        if inside:
            moved = tuple(offset if a == axis else start for a, start in enumerate(starts))
            return slice_op(array, starts=moved, extents=node.shape, steps=node.attrs["steps"])
        begin = begin + size
    return None


def _fits(offset: int, length: Extent, step: int, size: Extent) -> bool:
    if offset == 0 and length == size and step == 1:
        return True
    if not (isinstance(length, int) and isinstance(size, int)):
        return False
    return length > 0 and offset + (length - 1) * step < size


MOST_JOINED = 64  # a bound, so that joining one array at a time stays linear


def _flat_concatenate(node: Node) -> Node | None:
    """Arrays that are themselves concatenated along the axis, in place of those."""
    axis = node.attrs["axis"]
    flat: list[Node] = []
    for array in node.args:
        joined = array.op is concatenate_op and array.attrs["axis"] == axis
        flat += array.args if joined else (array,)
    return concatenate_op(*flat, axis=axis) if len(node.args) < len(flat) <= MOST_JOINED else None


def _joined_slices(node: Node) -> Node | None:
    """Slices of one array that follow each other along the axis: a slice of it."""
    axis = node.attrs["axis"]
    first = node.args[0]
    expected: Extent = first.attrs["starts"][axis] if first.op is slice_op else 0
    for part in node.args:
        if part.op is not slice_op or part.args[0] is not first.args[0] or not is_plain(part):
            return None
        here = part.attrs["starts"]
        others = [a for a in range(node.ndim) if a != axis]
        if here[axis] != expected or any(here[a] != first.attrs["starts"][a] for a in others):
            return None
        expected = expected + part.shape[axis]
    return slice_op(
        first.args[0], starts=first.attrs["starts"], extents=node.shape, steps=first.attrs["steps"]
    )


_CONCATENATE = Family("concatenate", lambda op: op is concatenate_op)
rule(
    "slice_pad_same",
    sliced(named("inner", padded(x))),
    x,
    law="ieee",
    guard=_same_window,
    example=lambda x: padded(x, [(1, 1), (0, 2)])[1:4, :4],
)
rule(
    "slice_pad",
    sliced(named("inner", padded(x))),
    _slice_of_pad,
    law="ieee",
    doc="slice(x), or 0",
    example=lambda u: padded(u, [(2, 2)])[3:5],
)
rule(
    "pad_pad",
    padded(named("inner", padded(x))),
    _merge_pads,
    law="ieee",
    doc="one pad",
    guard=is_plain,
    example=lambda u: padded(padded(u, [(1, 0)]), [(0, 2)]),
)
rule(
    "pad_nothing",
    padded(x),
    x,
    law="ieee",
    guard=lambda x, node: x.shape == node.shape,
    example=lambda u: pad_op(u, starts=(0,), shape=u.shape, steps=(1,)),
)
rule(
    "concatenate_one",
    concatenated(x),
    x,
    law="ieee",
    example=lambda x: concatenate_op(x, axis=0),
)
rule(
    "concatenate_concatenate",
    _CONCATENATE,
    _flat_concatenate,
    law="ieee",
    doc="one concatenate",
    example=lambda u, v: concatenated([concatenated([u, v]), u]),
)
rule(
    "concatenate_slices",
    _CONCATENATE,
    _joined_slices,
    law="ieee",
    doc="slice(x), or x",
    example=lambda u: concatenated([u[:2], u[2:]]),
)
rule(
    "slice_concatenate",
    sliced(named("inner", _CONCATENATE)),
    _slice_of_concatenate,
    law="ieee",
    doc="slice of one of the arrays",
    example=lambda u, v: concatenated([u, v])[4:],
)


def narrowed(source: Node, wide: Node, shape: Shape, left: _Axes) -> Node:
    """The source broadcast to the axes `left` only; its other axes have extent 1, and go."""
    kept = [i for i, a in enumerate(wide.attrs["axes"]) if a in left]
    slim = reshape(source, tuple(source.shape[i] for i in kept))
    return broadcast(slim, shape, tuple(left.index(wide.attrs["axes"][i]) for i in kept))


# -- past element-wise ops -------------------------------------------------------------------------


def _is_elementwise(op: Op) -> bool:
    return isinstance(op.lowering, Elementwise)


def _narrow(node: Node) -> tuple[_Axes, Shape]:
    """The axes along which some argument (all are broadcasts) varies; the extents there."""
    needed: dict[int, Extent] = {}
    for argument in node.args:
        for axis, size in zip(argument.attrs["axes"], argument.args[0].shape, strict=True):
            if size != 1 or axis not in needed:
                needed[axis] = size
    axes = tuple(sorted(needed))
    return axes, tuple(needed[axis] for axis in axes)


def _before_broadcast(node: Node) -> Node | None:
    """The op over the sources, then one broadcast; None if they vary along every axis."""
    if not isinstance(node.type, TensorType):
        return None
    axes, extents = _narrow(node)
    if extents == node.shape:
        return None
    place = {axis: i for i, axis in enumerate(axes)}
    sources = [
        broadcast(arg.args[0], extents, tuple(place[axis] for axis in arg.attrs["axes"]))
        for arg in node.args
    ]
    return broadcast_op(node.op(*sources, **node.attrs), shape=node.shape, axes=axes)


def _is_row(view: Node) -> bool:
    """Whether a view is a slice without its axes of extent 1, as `x[i]` is: as good as an array by
    itself.
    """
    source = view.args[0]
    if view.op is not reshape_op or source.op is not slice_op:
        return False
    shapes = (view.shape, source.shape)
    extents, others = ([extent for extent in shape if extent != 1] for shape in shapes)
    return extents == others


def _before_view(node: Node) -> Node | None:
    """The op over what all arguments transpose or reshape alike, then that. What is repeated fits
    in with transposes, numbers with both.
    """
    views = [argument for argument in node.args if argument.op in (transpose_op, reshape_op)]
    if not views or not isinstance(node.type, TensorType):
        return None
    if node.shape == ():  # numbers stay numbers, and are computed together
        return None
    first, shape = views[0], views[0].args[0].shape
    alike = all(
        v.op is first.op and v.attrs == first.attrs and v.args[0].shape == shape for v in views
    )
    repeated = [argument for argument in node.args if argument.op is broadcast_op]
    if not alike or first.op is reshape_op and any(each.args[0].ndim for each in repeated):
        return None
    if all(map(_is_row, views)):
        return None
    sources = [
        _beneath_view(first, arg) if arg.op is broadcast_op else arg.args[0] for arg in node.args
    ]
    return first.op(node.op(*sources, **node.attrs), **first.attrs)


def _beneath_view(view: Node, repeated: Node) -> Node:
    """The broadcast that a transpose, or a reshape if it is of a number, turns into this one."""
    shape = view.args[0].shape
    if view.op is reshape_op:
        return broadcast(repeated.args[0], shape, ())
    return transpose(repeated, inverse(view.attrs["axes"]))


rule(
    "broadcast_last",
    Family("elementwise", _is_elementwise, frozenset((broadcast_op,))),
    _before_broadcast,
    law="ieee",
    doc="broadcast(elementwise(...)), over fewer elements",
    example=lambda u: broadcast(u, (3, 4), (1,)) * broadcast(u + 1.0, (3, 4), (1,)),
)
rule(
    "view_last",
    Family("elementwise", _is_elementwise, frozenset((broadcast_op, transpose_op, reshape_op))),
    _before_view,
    law="ieee",
    doc="transpose or reshape of elementwise(...)",
    example=lambda x, y: x.T * 2.0 + y.T,
)


# -- numbers out of small arrays -------------------------------------------------------------------

# Elements of an array that is taken apart into numbers, and nodes that are looked at on the way to
# what it was joined of.
_MOST_NUMBERS = 32
_LOOKED_AT = 64


def _is_joined(node: Node) -> bool:
    """Whether a small array is made of joined ones by element-wise ops."""
    stack, seen = [node], {node}
    while stack and len(seen) <= _LOOKED_AT:
        for argument in stack.pop().args:
            if argument.op is concatenate_op:
                return True
            if argument not in seen and _is_elementwise(argument.op):
                seen.add(argument)
                stack.append(argument)
    return False


def _may_be_taken_apart(inner: Node) -> bool:
    form = inner.op.lowering
    static = isinstance(inner.type, TensorType) and known_extents(inner.shape)
    return static and isinstance(form, Elementwise) and form.demand is None


def _number_of_elementwise(inner: Node, node: Node) -> Node | None:
    """The op over single elements, where some of them are at hand as numbers."""
    small = product(node.shape) == 1 and _may_be_taken_apart(inner)
    if not small or product(inner.shape) > _MOST_NUMBERS or not _is_joined(inner):
        return None
    window = {name: node.attrs[name] for name in ("starts", "steps")}
    parts = [slice_op(argument, extents=node.shape, **window) for argument in inner.args]
    return inner.op(*parts, **inner.attrs)


rule(
    "slice_elementwise",
    sliced(named("inner", Family("elementwise", _is_elementwise))),
    _number_of_elementwise,
    law="ieee",
    doc="elementwise(slice(...), ...), of single elements",
    example=lambda s, t, u: (concatenated([s.reshape(1), t.reshape(1), u[:2]]) + u)[1:2] * 2.0,
)
rule(
    "reshape_elementwise",
    reshaped(named("inner", Family("elementwise", _is_elementwise))),
    lambda inner, node: inner.op(*[reshape(arg, ()) for arg in inner.args], **inner.attrs),
    law="ieee",
    doc="elementwise(reshape(...), ...), of numbers",
    guard=lambda inner, node: node.shape == () and _may_be_taken_apart(inner),
    example=lambda u, v: (u[:1] + v[1:2]).reshape(()),
)
