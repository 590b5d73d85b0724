"""Which elements of its arguments does a node read?  At which index, through which views."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.dims import Dim, Extent, product
from graphc.lowering import Contract, Elementwise, Gather, Reduce, Verify, View
from graphc.node import Node
from graphc.ops.arithmetic import multiply_op
from graphc.ops.gather import lookup
from graphc.ops.movement import reshape_op
from graphc.ops.operands import broadcast_op, restate_op
from graphc.ops.special import project_op
from graphc.ops.windows import slide_op
from graphc.types import Shape, TupleType

# What may only rename the elements of its argument.
RENAMING = frozenset((broadcast_op, reshape_op, restate_op))


def variables(count: int) -> tuple[Dim, ...]:
    """Stand-ins for the index of a domain, while relations between indices are found."""
    return tuple(Dim.symbol(f"_axis{axis}") for axis in range(count))


def is_at(place: tuple[Extent, ...], own: tuple[Extent, ...], shape: Shape) -> bool:
    """Whether two indices into a shape are one: along an axis of extent 1 there is but one."""
    if len(place) != len(own) or len(own) != len(shape):
        return place == own
    return all(a == b or extent == 1 for a, b, extent in zip(place, own, shape, strict=True))


def result_shape(node: Node) -> Shape:
    """The shape of a node's results; those of an element-wise node with several are equal."""
    if isinstance(node.type, TupleType):
        return node.type.items[0].shape if node.type.items else ()
    return node.type.shape


def index_rank(node: Node) -> int:
    """The rank of the index at which a member reads its arguments."""
    form = node.op.lowering
    return len(node.args[0].shape if isinstance(form, Reduce) else result_shape(node))


def reads_at(node: Node, index: tuple[Extent, ...]) -> list[tuple[Node, tuple[Extent, ...]]]:
    """The arguments of a node and the index at which it reads each, to compute its element at
    `index`.

    An index that data decides is given as positions named `_unknown`, equal to no other.
    """
    form = node.op.lowering
    if isinstance(form, View):
        types = [argument.type for argument in node.args]
        pieces = form.pieces(index, types, node.type, **node.attrs)
        return [(node.args[piece.argument], piece.index) for piece in pieces]
    if isinstance(form, Gather):
        found = lookup(node)
        unknown = [Dim.symbol("_unknown")] * len(found.axes)
        place = found.place(index)
        source = found.source(found.kept_of(index), unknown)
        return [(node.args[0], source), *((positions, place) for positions in node.args[1:])]
    if isinstance(form, (Elementwise, Reduce)) or node.op is project_op:
        return [(argument, index) for argument in node.args]
    if isinstance(form, Verify):
        return [(node.args[0], index)]
    return [
        (argument, tuple(Dim.symbol("_unknown") for _ in argument.shape)) for argument in node.args
    ]


def renames(node: Node) -> bool:
    """Whether a view has the elements of its argument in their order, at other indices."""
    if node.op is not broadcast_op:
        return node.op is reshape_op or node.op is restate_op
    shape, axes = node.shape, node.attrs["axes"]
    pairs = zip(axes, node.args[0].shape, strict=True)
    added = product(extent for axis, extent in enumerate(shape) if axis not in axes)
    return added == 1 and all(shape[axis] == extent for axis, extent in pairs)


def beneath(node: Node) -> Node:
    """What a node is a reshape of; itself if it is none."""
    while node.op in RENAMING and renames(node):
        node = node.args[0]
    return node


def beneath_views(node: Node) -> Node:
    """What a node is a view of, through all views of one argument."""
    while isinstance(node.op.lowering, View) and len(node.args) == 1:
        node = node.args[0]
    return node


def views_from(node: Node) -> Iterator[Node]:
    """A view, what it is a view of, and so on, as long as those are views of one argument."""
    while isinstance(node.op.lowering, View) and len(node.args) == 1:
        yield node
        node = node.args[0]


def moves(node: Node) -> bool:
    """Whether a node may read its argument at several positions for one of its own."""
    if node.op is reshape_op:
        shapes = (node.shape, node.args[0].shape)
        source, target = ([extent for extent in shape if extent != 1] for shape in shapes)
        return source != target
    form = node.op.lowering
    return isinstance(form, (View, Gather)) and node.op not in (broadcast_op, restate_op)


def asks(view: Node) -> bool:
    """Whether some elements of a view of one argument are not from there."""
    form = view.op.lowering
    assert isinstance(form, View)
    types = [argument.type for argument in view.args]
    pieces = form.pieces(variables(view.ndim), types, view.type, **view.attrs)
    return any(piece.inside for piece in pieces)


def windowed_sources(node: Node) -> Iterator[Node]:
    """The arrays into which the windows lead that a contraction multiplies, or a reduction combines
    or, as a product with something else, adds up, if its lanes move along with the windows.
    """
    form = node.op.lowering
    if not isinstance(form, (Contract, Reduce)):
        return
    factors = node.args
    if isinstance(form, Reduce) and factors[0].op is multiply_op:
        factors = factors[0].args
    for argument in factors:
        for view in views_from(argument):
            if view.op is slide_op and (
                isinstance(form, Contract) or view.ndim - 1 in view.attrs["axes"]
            ):
                source = view.args[0]
                yield source.args[0] if source.op is broadcast_op else source
                break
