"""Which nodes are computed in one kernel?  Partition of a graph into groups.

Nodes are visited in order. Views and generated values are *virtual*: index arithmetic in whoever
reads them. An element-wise node that depends on no kernel's result yet *floats*: it is computed
inside its consumers. Every other node joins the latest group that produces one of its arguments, if
it reads that group's members only at its own index (or, for members that were reduced, at the index
that is left), and if joining makes no cycle; else it opens a group. So element-wise work ends up in
the epilogue of the contraction or the reduction that feeds it, and a reduction in the kernel of
what it reduces: softmax is one kernel over rows.

No kernel grows without bound, for compile time grows faster than its text: a kernel that is long
enough takes no more, and floating work beyond that is cut into *segments* of the order, whose
values cross from one kernel to the next in memory. So the work of partitioning and of compiling is
linear in the graph.

Each decision leaves a reason on the group, for the report.

- `waiting`: when a node is placed; `placing`: which kernel takes it; `reduced_products`: which
  products are reduced where they are made; `remaking`: which values are computed again by those who
  read them; `storing`: which other values must be in memory; `order`: in which order the kernels
  run. These are the passes, over a `partition` of `group`s.
- `reading`: which elements of its arguments a node reads; `parts`: what an array is put together
  of; `cost`: what a value takes to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from graphc.codegen.fuse.group import Group
from graphc.codegen.fuse.order import sort
from graphc.codegen.fuse.partition import Partition
from graphc.codegen.fuse.placing import Placing
from graphc.codegen.fuse.remaking import remade
from graphc.codegen.fuse.storing import store
from graphc.codegen.fuse.waiting import rows_first
from graphc.codegen.tactics import CPU, Tactics
from graphc.node import Node, users_of

__all__ = ["Group", "Partition", "partitioned"]


def partitioned(
    order: Sequence[Node],
    outputs: Sequence[Node],
    external: set[Node],
    strided: set[Node] | frozenset[Node] = frozenset(),
    overwritten: Mapping[Node, Node] = MappingProxyType({}),
    tactics: Tactics | None = None,
) -> Partition:
    """The kernels of a graph whose nodes come in `order`. `overwritten` are external nodes over
    which an output will lie; `tactics` are those of a CPU if none are given.
    """
    asked = users_of(order), external, strided, overwritten, tactics or CPU
    found = _placed(Partition(*asked), order, outputs)
    anew = remade(found, outputs)
    if anew:
        found = _placed(Partition(*asked, anew), order, outputs)
    store(found, order, outputs)
    sort(found, outputs)
    return found


def _placed(partition: Partition, order: Sequence[Node], outputs: Sequence[Node]) -> Partition:
    placing = Placing(partition, order, outputs)
    for node in rows_first(order):
        placing.place(node)
    return partition
