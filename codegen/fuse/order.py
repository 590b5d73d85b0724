"""In which order do kernels run?  Each after those that it needs, with few bytes alive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.codegen.fuse.group import Group
from graphc.codegen.fuse.partition import Partition
from graphc.codegen.schedule import Traffic, likely_bytes, schedule
from graphc.dims import product
from graphc.node import Node
from graphc.types import TupleType


def sort(partition: Partition, outputs: Sequence[Node]) -> None:
    """Order the groups so that each comes after those that it needs, floats included, and few
    bytes are alive at a time.
    """
    readers: dict[Node, list[Group]] = {node: [] for node in partition.overwritten}
    reads = {group: _read_values(partition, group, readers) for group in partition.groups}
    done: set[Group] = set()
    order: list[Group] = []
    # What is written into an array comes late: others may read what it was before.
    for root in sorted(partition.groups, key=lambda group: group.kind == "scatter"):
        stack = [(root, iter(reads[root]))]
        if root in done:
            continue
        done.add(root)
        while stack:
            group, rest = stack[-1]
            following = next((n for n in rest if partition.group_of[n] not in done), None)
            if following is None:
                stack.pop()
                order.append(group)
            else:
                needed = partition.group_of[following]
                done.add(needed)
                stack.append((needed, iter(reads[needed])))
    values = {value for group in order for value in reads[group]}
    sizes = {node: _likely_bytes(node) for node in values}
    sizes.update(dict.fromkeys(values.intersection(outputs), 0))  # not in the arena
    after = _overwriting(partition, order, readers)
    partition.groups = schedule(order, Traffic(reads, partition.group_of, sizes, after))


def _overwriting(
    partition: Partition, order: Sequence[Group], readers: Mapping[Node, Sequence[Group]]
) -> dict[Group, set[Group]]:
    """The kernels before each that writes an output over what they read, as in `order`."""
    number = {group: i for i, group in enumerate(order)}
    found: dict[Group, set[Group]] = {}
    for node, output in partition.overwritten.items():
        source = partition.alias(output)
        writer = partition.group_of.get(source.args[0] if partition.is_result(source) else source)
        if writer is not None:
            earlier = (g for g in readers[node] if number[g] < number[writer])
            found.setdefault(writer, set()).update(earlier)
    return found


def _read_values(
    partition: Partition, group: Group, readers: Mapping[Node, list[Group]]
) -> list[Node]:
    """The values of other groups that the members of one read, in the order of a walk; it is
    added to the `readers` of what it reads of these.
    """
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    group_of, is_external = partition.group_of, partition.is_external
    for member in group.members:
        stack = [argument for argument in member.args if argument not in seen]
        seen.update(stack)
        while stack:
            current = stack.pop()
            if readers and current in readers:
                readers[current].append(group)
            owner = group_of.get(current)
            if owner is not None:
                if owner is not group:
                    found[current] = None
            elif current.args and not is_external(current):
                for argument in current.args:
                    if argument not in seen:
                        seen.add(argument)
                        stack.append(argument)
    partition.steps += len(seen)
    return list(found)


def _likely_bytes(node: Node) -> int:
    """The bytes of a value, or of all results of a node that has several."""
    types = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    return sum(likely_bytes(product(t.shape) * t.dtype.itemsize) for t in types)  # type: ignore[union-attr]
