"""Which products are so small that their terms are written one by one?  Many, of a few elements.

Taking the arguments of a kernel for products apart costs more than sixty-four multiplications, so
many products of small matrices, as transforms of points or steps of filters are, become a sum of
element-wise products: one kernel, which takes what is near with it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from graphc.codegen.fuse.cost import RECOMPUTE_COST, own_cost
from graphc.dims import Extent, product
from graphc.lowering import Elementwise, View
from graphc.node import Node
from graphc.ops.contract import free_axes
from graphc.ops.movement import reshape, slice_op, transpose
from graphc.ops.operands import broadcast

# Matrices have at most so many rows, columns, and terms of a sum, fewer where the columns of the
# result do not lie side by side in the second operand; and there are this many of them.
MOST_EXTENT, MOST_ACROSS = 8, 6
LEAST_BATCH = 16


def written_out(node: Node) -> Node | None:
    """A batch of small products as the sum of their terms; None for other products."""
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    if len(contracted[0]) != 1:
        return None
    lead: Extent = product(node.args[0].shape[axis] for axis in batch[0])
    if isinstance(lead, int) and lead < LEAST_BATCH:
        return None
    terms = node.args[0].shape[contracted[0][0]]
    if any(map(_is_dear, node.args)):
        return None
    across = contracted[1][0] == node.args[1].ndim - 1
    most = MOST_ACROSS if across else MOST_EXTENT
    sides = []
    for x, along, summed in zip(node.args, batch, contracted, strict=True):
        free = free_axes(x.ndim, along, summed)
        extents = (terms, product(x.shape[axis] for axis in free))
        if not all(isinstance(n, int) and 1 <= n <= most for n in extents):
            return None
        sides.append(transpose(x, (*along, *free, *summed)))
    assert isinstance(terms, int)
    count = len(batch[0])
    left, right = sides
    first = (*range(count), *range(count, left.ndim - 1))
    last = (*range(count), *range(left.ndim - 1, node.ndim))
    made = [
        _element(left, k, node.shape, first) * _element(right, k, node.shape, last)
        for k in range(terms)
    ]
    return reduce(operator.add, made)


def _is_dear(x: Node) -> bool:
    """Whether an operand takes much to compute: each of its elements is in several sums, and would
    be computed for each.
    """
    cost, stack, seen = 0, [x], {x}
    while stack and cost <= RECOMPUTE_COST:
        node = stack.pop()
        cost += own_cost(node)
        if isinstance(node.op.lowering, Elementwise | View):
            stack += [a for a in node.args if a not in seen]
            seen.update(node.args)
    return cost > RECOMPUTE_COST


def _element(x: Node, k: int, shape: Sequence[Extent], axes: Sequence[int]) -> Node:
    """Element k along the last axis, repeated to a shape that has the others as `axes`."""
    starts, lead = (*(0,) * (x.ndim - 1), k), x.shape[:-1]
    one = slice_op(x, starts=starts, extents=(*lead, 1), steps=(1,) * x.ndim)
    return broadcast(reshape(one, lead), tuple(shape), tuple(axes))
