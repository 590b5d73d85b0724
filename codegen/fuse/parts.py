"""Of which parts is an array put together, and who makes each of them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.fuse.group import Group
from graphc.codegen.fuse.reading import variables
from graphc.codegen.loops import LINE_BYTES
from graphc.dims import Extent, affine, product, symbols_of
from graphc.lowering import View
from graphc.node import Node
from graphc.types import Shape

# Parts of an array that are found by trying one after the other; of more each is stored by itself.
MOST_PARTS = 8
# Numbers that one kernel writes into an array of many, or short values that it stores.
PARTS_TOGETHER = 64
# Kinds of groups that write their array as one that lies in one piece, and may read it again.
WRITE_WHOLE = frozenset(("own", "scatter", "parts"))


@dataclass(frozen=True)
class Part:
    """A box of an array that is made by itself: `start <= index[axis] < start + extent` of the
    argument number `argument`.
    """

    argument: int
    axis: int
    start: Extent
    extent: Extent


def parts_of(node: Node) -> list[Part]:
    """The parts of a view that puts arrays one after the other along an axis; none of any other."""
    form = node.op.lowering
    if not isinstance(form, View) or len(node.args) == 1:
        return []
    index = variables(node.ndim)
    types = [argument.type for argument in node.args]
    names = [str(variable) for variable in index]
    parts: list[Part] = []
    for piece in form.pieces(index, types, node.type, **node.attrs):
        if len(piece.inside) != 1:
            return []
        ((position, low, high),) = piece.inside
        for axis, name in enumerate(names):
            split = affine(position, name) if name in symbols_of(position) else None
            if split is not None and split[0] == 1:
                parts.append(Part(piece.argument, axis, low - split[1], high - low))
                break
        else:
            return []
    return parts


def run_bytes(node: Node, part: Part) -> int:
    """The bytes of a part that lie in one piece; those of a whole line, if that is not known."""
    length = part.extent * product(node.shape[part.axis + 1 :])
    return length * node.dtype.itemsize if isinstance(length, int) else LINE_BYTES


def interleaves(node: Node) -> bool:
    """Whether a view puts single elements of several arrays in turns: lanes along them would each
    have to ask where they are from.
    """
    return node.ndim > 1 and node.shape[-1] == len(node.args) and all(
        argument.shape == (*node.shape[:-1], 1) for argument in node.args
    )


def woven_shape(group: Group, parts: Sequence[Part]) -> Shape | None:
    """The shape of the parts of a group's array, if they are columns that one kernel writes side by
    side.
    """
    if not 1 < len(parts) <= PARTS_TOGETHER:
        return None
    node = group.members[0]
    shapes = {node.args[part.argument].shape for part in parts}
    # Shorter pieces share their lines of memory with their neighbours: one kernel writes all.
    if len(shapes) > 1 or any(run_bytes(node, part) >= LINE_BYTES for part in parts):
        return None
    return without_ones(shapes.pop())


def without_ones(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def makes_few(group: Group) -> bool:
    """Whether a group makes an array of few parts, each of which reads what it needs for itself; of
    many parts most share what they are made of.
    """
    return group.kind == "parts" and len(group.members[0].args) <= MOST_PARTS
