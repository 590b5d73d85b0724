"""How often would a floating value be computed, if views read it at several positions?

A stencil reads its neighbours, a field plus its transpose reads each element twice: what is dear
and floats would be computed for each of these anew. Counted is in elements: the two pieces of an
array that is rolled read every element once between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.fuse.partition import Partition
from graphc.codegen.fuse.reading import moves, result_shape
from graphc.dims import product
from graphc.lowering import Elementwise, View
from graphc.node import Node

# An element that is read more often than this, on average, is read repeatedly: pads read a few of
# them twice.
REPEATEDLY = 1.5


def readings(partition: Partition, order: Sequence[Node]) -> dict[Node, float]:
    """How often each element is read, on average, of the floating values that views move."""
    counts: dict[Node, float] = {}  # of views as well, while they are counted
    found: dict[Node, float] = {}
    for node in reversed(order):
        if not partition.floats(node):
            continue
        moved, in_place = 0.0, 0
        for user in partition.users.get(node, ()):
            if isinstance(user.op.lowering, View) and moves(user) and partition.floats(user):
                moved += _part_read(user, node) * counts.get(user, 1)
            else:
                in_place = 1
        if not moved:
            continue
        counts[node] = moved + in_place
        if isinstance(node.op.lowering, Elementwise) and counts[node] >= REPEATEDLY:
            found[node] = counts[node]
    return found


def _part_read(view: Node, source: Node) -> float:
    """How many elements a view reads for each that its source has: one, if that is not known."""
    read, held = product(view.shape), product(result_shape(source))
    if len(view.args) > 1 or not isinstance(read, int) or not isinstance(held, int) or not held:
        return 1.0
    return read / held
