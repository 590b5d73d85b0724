"""How are views and reductions brought together?  One view instead of two, less work before a broadcast, none for a transpose.

Views cost nothing once a kernel folds them in, but they hide what lies beneath. So views of views are merged, and views and broadcasts
are moved towards the outputs: past element-wise ops where all arguments are moved alike, so that work is done before a
broadcast and not after, and into reductions and contractions, whose axes can simply be renamed. Nothing is moved the
other way, so this ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.dims import Extent
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.op import Op
from graphc.ops.contract import contract_op, free_axes
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
from graphc.ops.operands import broadcast, broadcast_op, extent, restate_op
from graphc.ops.reduce import all_op, any_op, max_op, min_op, prod_op, remaining, sum_op
from graphc.rewrite.pattern import Family, at_type, functions, named, number_of, numbers, variables
from graphc.rewrite.rule import Known, rule
from graphc.types import Shape, TensorType

x, y = variables("x y")
(c,) = numbers("c")
transposed, reshaped, broadcasted, restated = functions("transpose reshape broadcast restate")
sliced, padded, flipped, concatenated = functions("slice pad flip concatenate")
sum_, contract, multiply = functions("sum contract multiply")
_Axes = tuple[int, ...]

# -- a view of a view --------------------------------------------------------------------------------

rule(
    "transpose_transpose", transposed(named("inner", transposed(x))),
    lambda x, inner, node: transpose(x, [inner.attrs["axes"][a] for a in node.attrs["axes"]]),
    law="ieee", doc="x, or one transpose", example=lambda x: x.T.T,
)  # fmt: skip
rule(
    "transpose_nothing", transposed(x), x, law="ieee",
    guard=lambda node: node.attrs["axes"] == tuple(range(node.ndim)),
    example=lambda x: transpose_op(x, axes=(0, 1)),
)  # fmt: skip
rule(
    "reshape_reshape", reshaped(reshaped(x)), lambda x, node: reshape_op(x, shape=node.shape),
    law="ieee", doc="one reshape", example=lambda x: x.reshape(12).reshape(6, 2),
)  # fmt: skip
rule(
    "reshape_nothing", reshaped(x), x, law="ieee",
    guard=lambda x, node: x.shape == node.shape, example=lambda x: reshape_op(x, shape=(3, 4)),
)  # fmt: skip
rule(
    "restate_nothing", restated(x), x, law="ieee",
    guard=lambda x, node: x.shape == node.shape, example=lambda x: restate_op(x, shape=(3, 4)),
)  # fmt: skip
rule(
    "broadcast_broadcast", broadcasted(named("inner", broadcasted(x))),
    lambda x, inner, node: broadcast_op(
        x, shape=node.shape, axes=tuple(node.attrs["axes"][a] for a in inner.attrs["axes"])
    ),
    law="ieee", doc="one broadcast", example=lambda s: broadcast(broadcast(s, (4,), ()), (3, 4), (1,)),
)  # fmt: skip
rule(
    "broadcast_nothing", broadcasted(x), x, law="ieee",
    guard=lambda x, node: x.shape == node.shape,
    example=lambda x: broadcast_op(x, shape=(3, 4), axes=(0, 1)),
)  # fmt: skip
rule(
    "flip_flip", flipped(named("inner", flipped(x))),
    lambda x, inner, node: _flip(x, set(inner.attrs["axes"]) ^ set(node.attrs["axes"])),
    law="ieee", doc="x, or one flip", example=lambda x: flipped(flipped(x, 0), 1),
)  # fmt: skip
rule(
    "flip_nothing", flipped(x), x, law="ieee",
    guard=lambda node: all(node.shape[a] == 1 for a in node.attrs["axes"]),
    example=lambda u: flipped(u[0:1], 0),
)  # fmt: skip


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
    "slice_slice", sliced(named("inner", sliced(x))), _merge_slices, law="ieee", doc="one slice",
    example=lambda u: u[1:][:2],
)  # fmt: skip
rule(
    "slice_nothing", sliced(x), x, law="ieee", guard=_is_whole_slice,
    example=lambda x: slice_op(x, starts=(0, 0), extents=(3, 4), steps=(1, 1)),
)  # fmt: skip

# -- views of broadcasts, and broadcasts of reshapes: about fewer elements, or axes of extent 1 ------------


def _transpose_source(x: Node, inner: Node, node: Node) -> Node:
    """The broadcast of the transposed source: axis a of the source goes where its axis of the broadcast went."""
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
    axes = {i for i, axis in enumerate(inner.attrs["axes"]) if axis in node.attrs["axes"] and x.shape[i] != 1}
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
    "transpose_broadcast", transposed(named("inner", broadcasted(x))), _transpose_source,
    law="ieee", doc="broadcast(transpose(x))", example=lambda x, u: broadcast(u, (3, 4), (1,)).T,
)  # fmt: skip
rule(
    "slice_broadcast", sliced(named("inner", broadcasted(x))), _slice_source,
    law="ieee", doc="broadcast(slice(x))", example=lambda u: broadcast(u, (3, 4), (1,))[:2, 1:],
)  # fmt: skip
rule(
    "flip_broadcast", flipped(named("inner", broadcasted(x))), _flip_source,
    law="ieee", doc="broadcast(flip(x))", example=lambda u: flipped(broadcast(u, (3, 4), (1,))),
)  # fmt: skip
rule(
    "reshape_broadcast_scalar", reshaped(broadcasted(x)), lambda x, node: broadcast(x, node.shape, ()),
    law="ieee", doc="broadcast(x)",
    guard=lambda x: x.ndim == 0, example=lambda s: broadcast(s, (3, 4), ()).reshape(12),
)  # fmt: skip
rule(
    "reshape_broadcast", reshaped(named("inner", broadcasted(x))),
    lambda x, node: reshape(x, node.shape), law="ieee", doc="reshape(x)",
    guard=lambda x, inner: x.size == inner.size, example=lambda x: x[:, None, :].reshape(12),
)  # fmt: skip
rule(
    "reshape_inserting", reshaped(x),
    lambda x, node: broadcast_op(x, shape=node.shape, axes=_inserted_axes(x.shape, node.shape)),
    law="ieee", doc="broadcast(x), which inserts the axes of extent 1",
    guard=lambda x, node: x.ndim < node.ndim and _inserted_axes(x.shape, node.shape) is not None,
    example=lambda x: x[:, None, :],
)  # fmt: skip

# -- pad, slice, concatenate -------------------------------------------------------------------------


def _same_window(inner: Node, node: Node, x: Node) -> bool:
    a, b = inner.attrs, node.attrs
    return a["starts"] == b["starts"] and a["steps"] == b["steps"] and node.shape == x.shape


def _is_plain(node: Node) -> bool:
    return all(step == 1 for step in node.attrs["steps"])


def _known_extents(*shapes: Shape) -> bool:
    return all(isinstance(extent_, int) for shape in shapes for extent_ in shape)


def _slice_of_pad(x: Node, inner: Node, node: Node) -> Node | None:
    """A slice that stays inside what was padded, or one that misses it along some axis."""
    starts, inner_starts = node.attrs["starts"], inner.attrs["starts"]
    if not (_is_plain(inner) and _is_plain(node) and _known_extents(x.shape, node.shape, starts, inner_starts)):
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


def _flat_concatenate(node: Node) -> Node | None:
    """Arrays that are themselves concatenated along the axis, in place of those."""
    axis = node.attrs["axis"]
    flat: list[Node] = []
    for array in node.args:
        joined = array.op is concatenate_op and array.attrs["axis"] == axis
        flat += array.args if joined else (array,)
    return concatenate_op(*flat, axis=axis) if len(flat) > len(node.args) else None


def _joined_slices(node: Node) -> Node | None:
    """Slices of one array that follow each other along the axis: a slice of it."""
    axis = node.attrs["axis"]
    first = node.args[0]
    expected: Extent = first.attrs["starts"][axis] if first.op is slice_op else 0
    for part in node.args:
        if part.op is not slice_op or part.args[0] is not first.args[0] or not _is_plain(part):
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
    "slice_pad_same", sliced(named("inner", padded(x))), x, law="ieee",
    guard=_same_window, example=lambda x: padded(x, [(1, 1), (0, 2)])[1:4, :4],
)  # fmt: skip
rule(
    "slice_pad", sliced(named("inner", padded(x))), _slice_of_pad, law="ieee",
    doc="slice(x), or 0", example=lambda u: padded(u, [(2, 2)])[3:5],
)  # fmt: skip
rule(
    "pad_pad", padded(named("inner", padded(x))), _merge_pads, law="ieee", doc="one pad",
    guard=_is_plain, example=lambda u: padded(padded(u, [(1, 0)]), [(0, 2)]),
)  # fmt: skip
rule(
    "pad_nothing", padded(x), x, law="ieee",
    guard=lambda x, node: x.shape == node.shape, example=lambda u: padded(u, [(0, 0)]),
)  # fmt: skip
rule(
    "concatenate_one", concatenated(x), x, law="ieee", example=lambda x: concatenate_op(x, axis=0),
)  # fmt: skip
rule(
    "concatenate_concatenate", _CONCATENATE, _flat_concatenate, law="ieee", doc="one concatenate",
    example=lambda u, v: concatenated([concatenated([u, v]), u]),
)  # fmt: skip
rule(
    "concatenate_slices", _CONCATENATE, _joined_slices, law="ieee", doc="slice(x), or x",
    example=lambda u: concatenated([u[:2], u[2:]]),
)  # fmt: skip
rule(
    "slice_concatenate", sliced(named("inner", _CONCATENATE)), _slice_of_concatenate, law="ieee",
    doc="slice of one of the arrays", example=lambda u, v: concatenated([u, v])[4:],
)  # fmt: skip

# -- past element-wise ops -----------------------------------------------------------------------------


def _is_elementwise(op: Op) -> bool:
    return isinstance(op.lowering, Elementwise)


def _narrow(node: Node) -> tuple[_Axes, Shape]:
    """The axes along which some argument varies, all of which are broadcasts, and the extents that are needed there."""
    needed: dict[int, Extent] = {}
    for argument in node.args:
        for axis, size in zip(argument.attrs["axes"], argument.args[0].shape, strict=True):
            if size != 1 or axis not in needed:
                needed[axis] = size
    axes = tuple(sorted(needed))
    return axes, tuple(needed[axis] for axis in axes)


def _before_broadcast(node: Node) -> Node | None:
    """The op over the sources, then one broadcast; None if the sources together vary along every axis."""
    if not isinstance(node.type, TensorType):
        return None
    axes, extents = _narrow(node)
    if extents == node.shape:
        return None
    place = {axis: i for i, axis in enumerate(axes)}
    sources = [
        broadcast(arg.args[0], extents, tuple(place[axis] for axis in arg.attrs["axes"])) for arg in node.args
    ]
    return broadcast_op(node.op(*sources, **node.attrs), shape=node.shape, axes=axes)


def _before_view(node: Node) -> Node | None:
    """The op over what all arguments transpose or reshape alike, then that; scalars fit any shape."""
    views = [argument for argument in node.args if argument.op in (transpose_op, reshape_op)]
    if not views or not isinstance(node.type, TensorType):
        return None
    first, shape = views[0], views[0].args[0].shape
    alike = all(v.op is first.op and v.attrs == first.attrs and v.args[0].shape == shape for v in views)
    scalars = [argument for argument in node.args if argument.op is broadcast_op]
    if not alike or any(scalar.args[0].ndim for scalar in scalars):
        return None
    sources = [
        broadcast(arg.args[0], shape, ()) if arg.op is broadcast_op else arg.args[0] for arg in node.args
    ]
    return first.op(node.op(*sources, **node.attrs), **first.attrs)


rule(
    "broadcast_last", Family("elementwise", _is_elementwise, frozenset((broadcast_op,))), _before_broadcast,
    law="ieee", doc="broadcast(elementwise(...)), over fewer elements",
    example=lambda u: broadcast(u, (3, 4), (1,)) * broadcast(u + 1.0, (3, 4), (1,)),
)  # fmt: skip
rule(
    "view_last",
    Family("elementwise", _is_elementwise, frozenset((broadcast_op, transpose_op, reshape_op))),
    _before_view,
    law="ieee", doc="transpose or reshape of elementwise(...)", example=lambda x, y: x.T * 2.0 + y.T,
)  # fmt: skip

# -- reductions ----------------------------------------------------------------------------------------

REDUCTIONS: dict[Op, bool] = {
    sum_op: True, prod_op: True, max_op: False, min_op: False, all_op: False, any_op: False
}  # fmt: skip
"""Which ops reduce over `axes`, and whether the order of combining shows in the result."""


def _reduces(op: Op) -> bool:
    return op in REDUCTIONS


def _after_reduction(node: Node) -> Node:
    """The reduction before the transpose, over the axes as they were; what is left may need one, smaller."""
    moved = node.args[0]
    permutation, axes = moved.attrs["axes"], node.attrs["axes"]
    gone = tuple(sorted(permutation[a] for a in axes))
    left = remaining(moved.ndim, gone)
    order = [left.index(permutation[a]) for a in remaining(moved.ndim, axes)]
    return transpose(node.op(moved.args[0], axes=gone), order)


def _merge_reductions(node: Node) -> Node | None:
    inner = node.args[0]
    if inner.op is not node.op:
        return None
    left = remaining(inner.args[0].ndim, inner.attrs["axes"])
    axes = (*inner.attrs["axes"], *[left[a] for a in node.attrs["axes"]])
    return node.op(inner.args[0], axes=tuple(sorted(axes)))


def _reduce_fewer(node: Node) -> Node | None:
    """Axes of extent 1 leave the reduction."""
    x, axes = node.args[0], node.attrs["axes"]
    units = tuple(a for a in axes if x.shape[a] == 1)
    if not units:
        return None
    shape = tuple(size for a, size in enumerate(x.shape) if a not in units)
    kept = remaining(x.ndim, units)
    axes = tuple(kept.index(a) for a in axes if a not in units)
    return node.op(reshape(x, shape), axes=axes) if axes else reshape(x, shape)


def _repeated(node: Node, known: Known) -> Node | None:
    """A sum over axes along which the argument only repeats: as many times what is left."""
    wide = node.args[0]
    source, axes = wide.args[0], node.attrs["axes"]
    used = [a for a, size in zip(wide.attrs["axes"], source.shape, strict=True) if size == wide.shape[a]]
    repeats = tuple(a for a in axes if a not in used)
    if not repeats:
        return None
    count: Extent = 1
    for axis in repeats:
        count = count * wide.shape[axis]
    if not (isinstance(count, int) and count > 0) and not {"finite", "unsigned"} <= known(source):
        return None  # 0 times infinity would be NaN, and 0 times -1 a negative zero
    left = remaining(wide.ndim, repeats)
    shape = tuple(wide.shape[a] for a in left)
    narrow = _narrowed(source, wide, shape, left)
    total = narrow * (count if isinstance(count, int) else extent(count, node.dtype))
    axes = tuple(left.index(a) for a in axes if a not in repeats)
    return sum_op(total, axes=axes) if axes else total


def _narrowed(source: Node, wide: Node, shape: Shape, left: _Axes) -> Node:
    """The source broadcast to the axes `left` of the broadcast; its other axes have extent 1, and go."""
    kept = [i for i, a in enumerate(wide.attrs["axes"]) if a in left]
    slim = reshape(source, tuple(source.shape[i] for i in kept))
    return broadcast(slim, shape, tuple(left.index(wide.attrs["axes"][i]) for i in kept))


def _factor_out(x: Node, y: Node, wide: Node, node: Node) -> Node | None:
    """A factor that does not vary along the summed axes is multiplied after the sum."""
    axes = node.attrs["axes"]
    source_axes = zip(wide.attrs["axes"], y.shape, strict=True)
    if any(axis in axes and size != 1 for axis, size in source_axes):
        return None
    factor = _narrowed(y, wide, node.shape, remaining(x.ndim, axes))
    return sum_op(x, axes=axes) * factor


_REDUCED_TRANSPOSE = Family("reduction", _reduces, frozenset((transpose_op,)))
rule(
    "reduce_transpose", _REDUCED_TRANSPOSE, _after_reduction, law="ieee", reorders=True,
    doc="reduction over the axes before the transpose", example=lambda f: sum_(f.transpose(2, 0, 1), axis=0),
)  # fmt: skip
rule(
    "reduce_reduce", Family("reduction", _reduces, frozenset(REDUCTIONS)), _merge_reductions,
    law="ieee", reorders=True, doc="one reduction over the axes of both",
    example=lambda f: sum_(sum_(f, axis=1), axis=0),
)  # fmt: skip
rule(
    "reduce_extent_one", Family("reduction", _reduces), _reduce_fewer, law="ieee", reorders=True,
    doc="reshape(x), or a reduction over fewer axes", example=lambda x: sum_(x[:1], axis=0),
)  # fmt: skip
rule(
    "sum_broadcast", sum_(broadcasted(x)), _repeated, law="stable", doc="count * x",
    example=lambda u: sum_(broadcast(u, (3, 4), (1,)), axis=0),
)  # fmt: skip
rule(
    "sum_negative_integer", sum_(-x), -sum_(x), law="ieee", kinds="i", example=lambda i: sum_(-i),
)  # fmt: skip
rule("sum_negative", sum_(-x), -sum_(x), law="stable", example=lambda x: sum_(-x))
rule(
    "sum_scaled_integer", sum_(x * c), sum_(x) * c, law="ieee", kinds="i", example=lambda i: sum_(3 * i),
)  # fmt: skip
rule("sum_scaled", sum_(x * c), sum_(x) * c, law="real", example=lambda x: sum_(3.0 * x, axis=1))
rule(
    "sum_factor", sum_(x * named("wide", broadcasted(y))), _factor_out, law="real",
    doc="sum(x) * y", example=lambda x, u: sum_(x * broadcast(u[:3], (3, 4), (0,)), axis=1),
)  # fmt: skip

# -- contractions --------------------------------------------------------------------------------------
#
# A contraction is worked on in the notation of einsum: a label for each axis of the arguments, and the labels of the
# result. Labels of both arguments are batch axes if the result has them, else contracted.

_Labels = tuple[int, ...]


def _labels(node: Node) -> tuple[list[_Labels], _Labels]:
    """The labels of both arguments and of the result."""
    x, y = node.args
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    first = tuple(range(x.ndim))
    shared = dict(zip((*batch[1], *contracted[1]), (*batch[0], *contracted[0]), strict=True))
    second = tuple(shared.get(axis, x.ndim + axis) for axis in range(y.ndim))
    free_x = free_axes(x.ndim, batch[0], contracted[0])
    free_y = free_axes(y.ndim, batch[1], contracted[1])
    return [first, second], (*batch[0], *free_x, *[second[axis] for axis in free_y])


def _contraction(args: Sequence[Node], labels: Sequence[_Labels], result: _Labels) -> Node:
    """The contraction that these labels describe, arguments exchanged or the result transposed if need be."""
    (x, y), (first, second) = args, labels
    straight = _natural(first, second, result)
    if straight != result and _natural(second, first, result) == result:
        (x, y), (first, second), straight = (y, x), (second, first), result
    shared = [label for label in result if label in first and label in second]
    gone = [label for label in first if label in second and label not in result]
    made = contract_op(
        x,
        y,
        batch=(tuple(map(first.index, shared)), tuple(map(second.index, shared))),
        contracted=(tuple(map(first.index, gone)), tuple(map(second.index, gone))),
    )
    return transpose(made, [straight.index(label) for label in result])


def _natural(first: _Labels, second: _Labels, result: _Labels) -> _Labels:
    """The labels of a contraction's result as `contract` orders them."""
    batch = [label for label in result if label in first and label in second]
    free_x = [label for label in first if label not in second]
    free_y = [label for label in second if label not in first]
    return (*batch, *free_x, *free_y)


def _contract_sources(node: Node) -> Node:
    """The contraction over what its arguments transpose."""
    args, (labels, result) = list(node.args), _labels(node)
    for side, arg in enumerate(node.args):
        if arg.op is transpose_op:
            args[side] = arg.args[0]
            labels[side] = tuple(labels[side][a] for a in inverse(arg.attrs["axes"]))
    return _contraction(args, labels, result)


def _contract_exchanged(inner: Node, node: Node) -> Node | None:
    """The transpose of a product is the product the other way round."""
    labels, result = _labels(inner)
    made = _contraction(inner.args, labels, tuple(result[a] for a in node.attrs["axes"]))
    return made if made.op is contract_op else None


def _contract_once(node: Node) -> Node | None:
    """An argument that repeats along free or batch axes is taken once along those.

    Without a free axis there is less to compute. Without a batch axis there is one product instead of many, which
    is worth having if the axes then come out in order.
    """
    (labels, result), args = _labels(node), list(node.args)
    summed = {label for label in labels[0] if label in labels[1] and label not in result}
    for side, arg in enumerate(node.args):
        if arg.op is broadcast_op:
            source = arg.args[0]
            sizes = dict(zip(arg.attrs["axes"], source.shape, strict=True))
            kept = tuple(a for a, label in enumerate(labels[side]) if label in summed or sizes.get(a, 1) != 1)
            args[side] = _narrowed(source, arg, tuple(arg.shape[a] for a in kept), kept)
            labels[side] = tuple(labels[side][a] for a in kept)
    if not all(labels) or all(new.type is old.type for new, old in zip(args, node.args, strict=True)):
        return None
    left = tuple(label for label in result if label in labels[0] or label in labels[1])
    made = _contraction(args, labels, left)
    if left == result and made.op is transpose_op:
        return None
    return broadcast(made, node.shape, tuple(map(result.index, left)))


def _contract_number(node: Node, side: int, c: float) -> Node:
    """A product with a constant c everywhere is c times a sum."""
    labels, result = _labels(node)
    other, mine = node.args[1 - side], labels[1 - side]
    axes = tuple(a for a, label in enumerate(mine) if label not in result)
    total = sum_op(other, axes=axes) if axes else other
    left = tuple(label for label in mine if label in result)
    order = tuple(label for label in result if label in mine)
    total = transpose(total, [left.index(label) for label in order]) * c
    return broadcast(total, node.shape, tuple(map(result.index, order)))


rule(
    "contract_transpose", Family("contract", lambda op: op is contract_op), _contract_sources,
    law="ieee", reorders=True, doc="contract over other axes",
    guard=lambda node: any(arg.op is transpose_op for arg in node.args),
    example=lambda x, y: x.T @ y,
)  # fmt: skip
rule(
    "transpose_contract", transposed(named("inner", contract(x, y))), _contract_exchanged,
    law="ieee", reorders=True, doc="contract with the arguments exchanged",
    example=lambda x, y: (x @ y.T).T,
)  # fmt: skip
rule(
    "contract_ones_right", contract(x, 1), lambda node: _contract_number(node, 1, 1), law="ieee", reorders=True,
    doc="sum(x)", example=lambda x: x @ at_type(1, x.T.type),
)  # fmt: skip
rule(
    "contract_ones_left", contract(1, x), lambda node: _contract_number(node, 0, 1), law="ieee", reorders=True,
    doc="sum(x)", example=lambda x: at_type(1, x.T.type) @ x,
)  # fmt: skip
rule(
    "contract_number_right", contract(x, c), lambda node, c: _contract_number(node, 1, c), law="real",
    doc="sum(x) * c", example=lambda x: x @ at_type(3, x.T.type),
)  # fmt: skip
rule(
    "contract_number_left", contract(c, x), lambda node, c: _contract_number(node, 0, c), law="real",
    doc="sum(x) * c", example=lambda x: at_type(3, x.T.type) @ x,
)  # fmt: skip
rule(
    "contract_broadcast", Family("contract", lambda op: op is contract_op), _contract_once,
    law="ieee", reorders=True, doc="broadcast(contract(...)), over what an argument repeats",
    guard=lambda node: any(arg.op is broadcast_op for arg in node.args),
    example=lambda f, x: f @ broadcast(x.T, (2, 4, 3), (1, 2)),
)  # fmt: skip
