"""What does it cost to compute a value once more?  In additions.

What is cheaper than a few of them is computed by every kernel that reads it, since memory would
take longer; what is dearer is stored as soon as two kernels want it (`storing`).
"""

from __future__ import annotations

import functools

from graphc.lowering import Elementwise, Gather
from graphc.node import Node
from graphc.op import Op

# An element-wise value dearer than this, needed by several kernels, is stored rather than
# recomputed.
RECOMPUTE_COST = 8
# Costs are not told apart beyond this.
MOST_COST = 10_000
# Ops of which this is remembered: every node is asked about several times.
_OPS_REMEMBERED = 512


def own_cost(node: Node) -> int:
    """What a floating node itself takes, in additions: views take nothing."""
    return cost_of(node.op)


@functools.lru_cache(_OPS_REMEMBERED)
def cost_of(op: Op) -> int:
    """The same of a node of an op."""
    form = op.lowering
    if isinstance(form, Elementwise):
        return form.cost
    return RECOMPUTE_COST if isinstance(form, Gather) else 0
