"""Which products have too few results to keep a GPU busy?  They are summed in parts.

A block makes a tile of a product, so a product of few tiles over a long sum leaves most of a GPU
idle: the gradient of a convolution's kernel is one. An axis of those that are summed, or part of
one, becomes an axis of the batch, and a reduction adds up the parts in order. The graph is
rewritten in its own ops, so nothing below knows.
"""

from __future__ import annotations

from graphc import dtypes
from graphc.dims import product
from graphc.graph import Graph, rebuild
from graphc.lowering import Contract
from graphc.node import Node, topological
from graphc.ops.contract import free_axes
from graphc.ops.movement import reshape_op
from graphc.ops.reduce import sum_op

# Tiles of a product, about as many as there are multiprocessors: fewer leave some idle.
ENOUGH_TILES = 128
TILE = 64
# Terms below which a sum is not cut, and terms of a part.
LONG_SUM, LEAST_TERMS = 2048, 256


def with_more_blocks(graph: Graph) -> Graph:
    """The graph with long products of few results in parts."""
    done: dict[Node, Node] = {}
    changed = False
    for node in topological(graph.outputs):
        same = rebuild(node, [done[argument] for argument in node.args])
        made = _in_parts(same)
        changed = changed or made is not None
        done[node] = same if made is None else made
    if not changed:
        return graph
    return Graph(graph.parameters, [done[output] for output in graph.outputs])


def _in_parts(node: Node) -> Node | None:
    if not isinstance(node.op.lowering, Contract) or dtypes.is_half(node.dtype):
        return None
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    x, y = node.args
    summed = [x.shape[axis] for axis in contracted[0]]
    sizes = [
        product(x.shape[a] for a in batch[0]),
        product(x.shape[a] for a in free_axes(x.ndim, batch[0], contracted[0])),
        product(y.shape[a] for a in free_axes(y.ndim, batch[1], contracted[1])),
        product(summed),
    ]
    if not all(isinstance(size, int) and size for size in sizes):
        return None
    batches, rows, columns, depth = map(int, sizes)  # type: ignore[call-overload]
    tiles = batches * -(-rows // TILE) * -(-columns // TILE)
    wanted = min(ENOUGH_TILES // tiles, depth // LEAST_TERMS)
    if wanted < 2 or depth < LONG_SUM:
        return None
    position, parts = _best_cut([int(e) for e in summed], wanted)  # type: ignore[call-overload]
    if parts < 2:
        return None
    first, second = contracted[0][position], contracted[1][position]
    if parts == summed[position]:
        pairs = list(zip(*contracted, strict=True))
        left = [pair for pair in pairs if pair != (first, second)]
        taken = tuple(tuple(axes) for axes in zip(*left, strict=True)) or ((), ())
        made = node.op(
            x,
            y,
            **{
                **node.attrs,
                "batch": ((*batch[0], first), (*batch[1], second)),
                "contracted": taken,
            },
        )
        return sum_op(made, axes=(len(batch[0]),))
    cut = node.op(
        _cut(x, first, parts),
        _cut(y, second, parts),
        **{
            **node.attrs,
            "batch": tuple(
                (*(_moved(a, axis) for a in axes), axis)
                for axes, axis in zip(batch, (first, second), strict=True)
            ),
            "contracted": tuple(
                tuple(axis + 1 if a == axis else _moved(a, axis) for a in axes)
                for axes, axis in zip(contracted, (first, second), strict=True)
            ),
        },
    )
    return sum_op(cut, axes=(len(batch[0]),))


def _best_cut(extents: list[int], wanted: int) -> tuple[int, int]:
    """The position of an axis, and into how many parts: `wanted` or the nearest below it.

    A whole axis is better than a part of one, up to twice what is wanted.
    """
    whole = [(e, i) for i, e in enumerate(extents) if wanted // 2 <= e <= 2 * wanted]
    if whole and len(extents) > 1:
        parts, position = max(whole)
        return position, parts
    found = (1, 0)
    for position, extent in enumerate(extents):
        parts = next((p for p in range(wanted, 1, -1) if extent % p == 0), 1)
        found = max(found, (parts, position))
    return found[1], found[0]


def _cut(x: Node, axis: int, parts: int) -> Node:
    """An array whose axis is two: the number of the part, and the place in it."""
    extent = x.shape[axis]
    shape = (*x.shape[:axis], parts, extent // parts, *x.shape[axis + 1 :])
    return reshape_op(x, shape=shape)


def _moved(axis: int, cut: int) -> int:
    """Where an axis is after another has become two."""
    return axis + (axis > cut)


__all__ = ["with_more_blocks"]
