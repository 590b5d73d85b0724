"""Which parts of an array are written by the kernel that computes others of them?

Zeros beside what is computed, or a row of an input: a part that nobody makes. Each shape of such
parts would take a kernel of its own. A kernel without reductions that writes parts of the same size
where they belong takes them along: it goes over the same elements, and the part costs a store.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from graphc.codegen.emit import part_operand
from graphc.codegen.fuse import Group
from graphc.codegen.fuse.partition import Partition
from graphc.codegen.fuse.parts import PARTS_TOGETHER, Part, without_ones
from graphc.codegen.fuse.reading import beneath, beneath_views
from graphc.codegen.fuse.storing import MOST_TOGETHER
from graphc.codegen.program import Operand
from graphc.dims import product
from graphc.graph import parameter_op
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.ops.movement import reshape
from graphc.ops.operands import broadcast, constant_op


def take_along(
    partition: Partition,
    order: Sequence[Node],
    places: Mapping[Node, Operand],
    donated: Mapping[int, int],
) -> None:
    """Give kernels the parts that they write beside their own; the groups that put arrays together
    leave those out.
    """
    stored = Counter(partition.group_of[node] for node in places if node in partition.group_of)
    arrays = {node: group for node, group in partition.group_of.items() if group.kind == "parts"}
    joined = [n for n in order if n in arrays and type(places.get(n)) is Operand]
    parts = {node: list(_located(partition, node, places[node])) for node in joined}
    hosts: dict[Node, Group | None] = {}
    may_host = functools.cache(_may_host)
    for node in joined:
        hosts[node] = _host(partition, node, parts[node], places, hosts, may_host)
    for node in reversed(joined):  # what is itself a part may have the host of its neighbours
        for part, _ in parts[node]:
            source = beneath(node.args[part.argument])
            if source in hosts and hosts[source] is None:
                hosts[source] = hosts[node]
    for node in joined:
        host = hosts[node]
        if host is None:
            continue
        together = PARTS_TOGETHER if product(host.domain) == 1 else MOST_TOGETHER
        most = max(together, 2 * stored[host])
        for part, _ in parts[node]:
            value = _unmade(partition, node.args[part.argument], host, donated)
            if value is not None and stored[host] + len(host.beside) < most:
                host.beside.append((value, node, part))
                arrays[node].left_out.add(part.argument)


def _located(
    partition: Partition, node: Node, place: Operand
) -> Iterator[tuple[Part, Operand]]:
    """The parts of an array that lie in one piece, and where."""
    for part in partition.parts(node):
        where = part_operand(node, part, place)
        if where is not None:
            yield part, where


def _host(
    partition: Partition,
    node: Node,
    parts: Sequence[tuple[Part, Operand]],
    places: Mapping[Node, Operand],
    hosts: Mapping[Node, Group | None],
    may_host: Callable[[Group], bool],
) -> Group | None:
    """The group that makes the most parts of an array where they belong, or parts of its parts."""
    makers: Counter[Group] = Counter()
    for part, where in parts:
        source = beneath(node.args[part.argument])
        made = places.get(source)
        if made is None or (made.storage, made.offset) != (where.storage, where.offset):
            continue
        maker = hosts.get(source) or partition.group_of.get(source)
        if maker is not None and type(made) is Operand and may_host(maker):
            makers[maker] += 1
    return makers.most_common(1)[0][0] if makers else None


def _may_host(group: Group) -> bool:
    """Whether a group computes element by element."""
    reduces = any(isinstance(member.op.lowering, Reduce) for member in group.members)
    return group.kind == "nest" and group.reduced is None and not reduces


def _unmade(
    partition: Partition, part: Node, host: Group, donated: Mapping[int, int]
) -> Node | None:
    """What a part is, at the elements of the host: a number, or part of an input; None if it is
    neither, or is of another size. A number that is a result as well comes from a kernel, which may
    not have run.
    """
    if without_ones(part.shape) != without_ones(host.domain):
        return None
    source, root = beneath(part), beneath_views(part)
    if root.op is constant_op and root.shape == () and root not in partition.group_of:
        return broadcast(root, host.domain, ())
    if source in partition.group_of or root.op is not parameter_op:
        return None
    return None if root.attrs["index"] in donated else reshape(source, host.domain)
