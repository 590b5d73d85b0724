"""In which order are nodes placed?  Sums over rows wait for the kernels that reduce each row.

A kernel that passes over the rows of an array carries sums over all rows along, if it is there when
they are placed. A gradient of a shift is such a sum: of a cotangent that is an input, it comes
first in the order of the graph, and would be read from memory once more by a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import Shape


def rows_first(order: Sequence[Node]) -> Sequence[Node]:
    """The order, with sums over the rows of an array behind what reduces each row, and behind them
    what is made of them. A sum that a reduction of rows needs stays where it is.
    """
    along = [node for node in order if _reduces(node, along=True)]
    if not along:
        return order
    shapes: set[Shape] = {node.args[0].shape for node in along}
    feeding = set(along)
    for node in reversed(order):
        if node in feeding:
            feeding.update(node.args)
    late: set[Node] = set()
    for node in order:
        over = _reduces(node, along=False) and node.args[0].shape in shapes
        if over and node not in feeding or any(argument in late for argument in node.args):
            late.add(node)
    if not late:
        return order
    return [*(n for n in order if n not in late), *(n for n in order if n in late)]


def _reduces(node: Node, along: bool) -> bool:
    """Whether a node reduces each row of an array, or, if not `along`, goes over its rows."""
    if not isinstance(node.op.lowering, Reduce):
        return False
    axes, last = node.attrs["axes"], node.args[0].ndim - 1
    return 0 < len(axes) <= last and (last in axes) == along
