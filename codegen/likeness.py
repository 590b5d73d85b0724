"""Have we written this kernel before?  Groups that compute the same of other arrays share a kernel.

Deep graphs are regular: the thousandth segment of a chain, or the layer of a network, is the one
before it over other storages. A `Signature` describes a group by what decides its text: ops,
attributes and types, who reads whom, what is in memory and in which layout. Groups of one signature
are written once, and later ones launch the same kernel on their own operands. So the time and the
memory of code generation follow what is different in a graph, not its size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from graphc.codegen.emit.writer import Framed
from graphc.codegen.fuse import Group, Partition
from graphc.codegen.program import Launch, Operand, Storage
from graphc.lowering import Contract, Elementwise, Form, Generate, Leaf, Reduce, View
from graphc.node import Node
from graphc.ops.special import project_op

# Forms whose kernels touch nothing but the arrays of their operands and scratch: no numbered check.
_PLAIN = (Elementwise, Generate, Leaf, View)
_OPENING = {"nest": (*_PLAIN, Reduce), "contract": (*_PLAIN, Contract)}  # of members, by kind


@dataclass(frozen=True)
class Signature:
    """What decides the text of a group's kernel, and the operands in the order of first mention."""

    key: Hashable
    operands: tuple[Operand, ...]


def signature(
    partition: Partition, group: Group, place: Callable[[Node], Operand | None]
) -> Signature | None:
    """The signature of a group of element-wise work, reductions or a contraction; None for a group
    that is always written anew.
    """
    if group.kind not in _OPENING:
        return None
    opening, members = _OPENING[group.kind], set(group.members)
    numbers: dict[Node, int] = {}
    memory: dict[tuple[int, Any], int] = {}
    operands: list[Operand] = []
    parts: list[Hashable] = [group.kind, group.domain, group.reduced]

    def located(operand: Operand) -> Hashable:
        """An operand, by its number among those that are met and by what its buffer looks like."""
        storage = operand.storage
        number = memory.setdefault((id(storage), operand.offset), len(memory))
        if number == len(operands):
            operands.append(operand)
        seen = storage.dtype.name, storage.shape, storage.strided, operand.offset == 0
        return number, *seen, operand.frame if isinstance(operand, Framed) else None

    for root in group.members:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in numbers:
                stack.pop()
                continue
            operand = place(node)
            if operand is not None and node not in members and partition.alias(node) not in members:
                args: Hashable = ()
            elif not _is_plain(node.op.lowering, opening if node in members else _PLAIN):
                return None
            else:
                waiting = [argument for argument in node.args if argument not in numbers]
                if waiting:
                    stack += waiting
                    continue
                args = tuple(numbers[argument] for argument in node.args)
            stack.pop()
            numbers[node] = len(numbers)
            stored = None if operand is None else located(operand)
            what = (node.op, node.attrs) if args or not stored else None
            parts.append((what, node.type, args, stored, node in members))
        for user in partition.users.get(root, ()):
            result = place(user) if user.op is project_op else None
            if result is not None:  # one of several results, which no member reads
                parts.append((user.attrs, numbers[root], located(result)))
    return Signature(tuple(parts), tuple(operands))


def _is_plain(form: Form, plain: tuple[type[Form], ...]) -> bool:
    """Whether the kernel of a node of that form may be shared: it is of these, and checks nothing.
    """
    return isinstance(form, plain) and not (isinstance(form, Elementwise) and form.demand)


class Written:
    """The launches of groups so far, by signature."""

    def __init__(self) -> None:
        self._launches: dict[Hashable, tuple[Signature, list[Launch]]] = {}

    def again(self, found: Signature, group: Group) -> list[Launch] | None:
        """The launches of kernels written before, on the operands of this group, and on scratch of
        its own.
        """
        held = self._launches.get(found.key)
        if held is None:
            return None
        first, launches = held
        moved = {
            (id(mine.storage), mine.offset): other
            for mine, other in zip(first.operands, found.operands, strict=True)
        }
        own: dict[int, Storage] = {}

        def operand(of: Operand) -> Operand:
            other = moved.get((id(of.storage), of.offset))
            if other is not None:
                return Operand(other.storage, other.offset)
            scratch = of.storage
            if id(scratch) not in own:
                own[id(scratch)] = Storage(scratch.kind, scratch.dtype, scratch.shape)
            return Operand(own[id(scratch)], of.offset)

        return [
            Launch(
                launch.kernel,
                [operand(each) for each in launch.operands],
                launch.tasks,
                launch.grain,
                launch.work,
                group.members,
                group.reason,
            )
            for launch in launches
        ]

    def note(self, found: Signature, launches: list[Launch], places: set[int]) -> None:
        """Remember what a group of this signature became. `places` are the ids of the storages that
        belong to nodes; others are scratch.
        """
        known = {(id(operand.storage), operand.offset) for operand in found.operands}
        for launch in launches:
            for operand in launch.operands:
                # The parts of a tuple are results that no member of the group is: written anew.
                key = (id(operand.storage), operand.offset)
                if key not in known and id(operand.storage) in places:
                    return
        self._launches[found.key] = (found, launches)
