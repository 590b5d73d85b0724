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
from graphc.dims import Extent
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
    reads_beneath = group.kind == "contract" and group.reduced is not None  # what others stored
    if group.kind not in _OPENING or group.beside or reads_beneath:
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
        seen = storage.dtype, storage.shape, storage.strided, operand.offset == 0
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


@dataclass(frozen=True)
class _Noted:
    """A launch, and its operands as they were when it was written: the number of one among those of
    the signature, or scratch and the offset in it. Loops move operands to other storages later.
    """

    launch: Launch
    operands: tuple[int | tuple[Storage, Extent], ...]


class Written:
    """The launches of groups so far, by signature."""

    def __init__(self) -> None:
        self._launches: dict[Hashable, list[_Noted]] = {}

    def again(self, found: Signature, group: Group) -> list[Launch] | None:
        """The launches of kernels written before, on the operands of this group, and on scratch of
        its own.
        """
        held = self._launches.get(found.key)
        if held is None:
            return None
        own: dict[int, Storage] = {}

        def operand(noted: int | tuple[Storage, Extent]) -> Operand:
            if isinstance(noted, int):
                other = found.operands[noted]
                return Operand(other.storage, other.offset)
            scratch, offset = noted
            if id(scratch) not in own:
                own[id(scratch)] = Storage(scratch.kind, scratch.dtype, scratch.shape)
            return Operand(own[id(scratch)], offset)

        return [
            Launch(
                noted.launch.kernel,
                [operand(each) for each in noted.operands],
                noted.launch.tasks,
                noted.launch.grain,
                noted.launch.work,
                group.members,
                group.reason,
            )
            for noted in held
        ]

    def note(self, found: Signature, launches: list[Launch], places: set[int]) -> None:
        """Remember what a group of this signature became. `places` are the ids of the storages that
        belong to nodes; others are scratch.
        """
        numbers = {
            (id(operand.storage), operand.offset): i for i, operand in enumerate(found.operands)
        }
        noted: list[_Noted] = []
        for launch in launches:
            operands: list[int | tuple[Storage, Extent]] = []
            for operand in launch.operands:
                number = numbers.get((id(operand.storage), operand.offset))
                # The parts of a tuple are results that no member of the group is: written anew.
                if number is None and id(operand.storage) in places:
                    return
                operands.append((operand.storage, operand.offset) if number is None else number)
            noted.append(_Noted(launch, tuple(operands)))
        self._launches[found.key] = noted
