"""Which values are made anew by the kernels that read them, rather than stored by the one that has
them?

A gradient reads what the forward pass has made on its way: of an activation half a dozen arrays,
though all of them follow from one. Where arithmetic costs less than memory the kernel that has them
stores a few from which its readers can make the rest. Which, is a minimum cut: what is stored and
read, in bytes, must separate what the kernel is given from what others need of it. Elements that a
product reads go through its tiles many times, so of these only cheap ones are made anew.

What is made anew floats: it belongs to no kernel, and each that needs it computes it, the one that
would have stored it included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from graphc.codegen.fuse.cost import MOST_COST, own_cost
from graphc.codegen.fuse.cut import minimum_cut
from graphc.codegen.fuse.group import Group
from graphc.codegen.fuse.partition import Partition
from graphc.codegen.fuse.reading import asks, result_shape
from graphc.dims import product
from graphc.lowering import Contract, Elementwise, Generate, Reduce, View
from graphc.node import Node
from graphc.ops.movement import reshape_op, slice_op, transpose_op
from graphc.ops.operands import broadcast_op, constant_op, restate_op
from graphc.types import TensorType

# Elements of a value that is worth the question, and nodes from which a kernel's values follow.
LEAST_ELEMENTS, MOST_NODES = 1 << 12, 400
# What making an element of a product's operand anew may cost, in additions: it goes through as many
# tiles as there are across, and in each of them meets 64 multiply-adds.
COST_IN_TILES = 24
# Views that a value may be read through, or be made through.
PLAIN_VIEWS = frozenset((broadcast_op, reshape_op, restate_op, transpose_op))


def remade(partition: Partition, outputs: Sequence[Node]) -> set[Node]:
    """The members of kernels that should float instead."""
    most = partition.tactics.remade_cost
    if not most:
        return set()
    readers = _Reading(partition)
    kept = set(outputs)
    found: set[Node] = set()
    for group in partition.groups:
        if group.kind in ("nest", "contract"):
            found |= _Kernel(partition, group, readers, kept, most).remade()
    return found


@dataclass(eq=False)
class _Reading:
    """Which kernels read a value, and by what: nodes of theirs, through views and what floats."""

    partition: Partition
    known: dict[Node, tuple[set[Group], list[Node]]] = field(default_factory=dict)

    def of(self, node: Node) -> tuple[set[Group], list[Node]]:
        if node not in self.known:
            nodes = list(self._walk(node))
            owners = self.partition.group_of
            self.known[node] = {owners[n] for n in nodes if n in owners}, nodes
        return self.known[node]

    def _walk(self, node: Node) -> Iterator[Node]:
        """Nodes of kernels that read a value; views among them that it could not be read through,
        and floating ones that nothing reads.
        """
        stack, seen = [node], {node}
        while stack:
            current = stack.pop()
            users = self.partition.users.get(current, ())
            if not users:
                yield current
            for user in users:
                if user in seen:
                    continue
                seen.add(user)
                if user in self.partition.group_of or not self._looked_through(user, current):
                    yield user
                else:
                    stack.append(user)

    def _looked_through(self, user: Node, node: Node) -> bool:
        if isinstance(user.op.lowering, Elementwise):
            return True
        return _is_plain(user) and _size(user) == _size(node)


@dataclass(eq=False)
class _Kernel:
    """The values of one kernel that others read."""

    partition: Partition
    group: Group
    reading: _Reading
    kept: set[Node]  # in memory anyhow
    most: int

    def remade(self) -> set[Node]:
        members = [m for m in self.group.members if isinstance(m.type, TensorType)]
        goals = {m for m in members if self._may_float(m)}
        stored = {m for m in members if self._crosses(m)} - goals
        while goals:
            cut = self._cut(goals, stored)
            if cut is None:
                return set()
            separating, behind = cut
            dear = {goal for goal in goals & behind if self._is_dear(goal, separating | stored)}
            if not dear:
                return {m for m in behind if self.partition.group_of.get(m) is self.group} - stored
            goals -= dear
            stored |= dear
        return set()

    def _others(self, node: Node) -> list[Node]:
        owners = self.partition.group_of
        return [n for n in self.reading.of(node)[1] if owners.get(n) is not self.group]

    def _crosses(self, node: Node) -> bool:
        return node in self.kept or bool(self._others(node))

    def _may_float(self, node: Node) -> bool:
        """Whether a member is read by other kernels, all of which could make it."""
        others = self._others(node)
        if not others or node in self.kept or not isinstance(node.op.lowering, Elementwise):
            return False
        size = _size(node)
        if size is None or size < LEAST_ELEMENTS:
            return False
        kinds = (Contract, Elementwise, Reduce)
        return all(
            isinstance(n.op.lowering, kinds)
            and n in self.partition.group_of
            and self.partition.group_of[n].kind in ("nest", "contract")
            for n in others
        )

    def _cut(
        self, goals: set[Node], stored: set[Node]
    ) -> tuple[set[Node], set[Node]] | None:
        """What should be in memory for others to make the goals, and what follows from it."""
        before: dict[Node, list[Node]] = {}
        stack = list(goals)
        while stack:
            node = stack.pop()
            if node in before:
                continue
            if len(before) > MOST_NODES:
                return None
            before[node] = []
            if self._follows(node):
                before[node] = [a for a in node.args if not self._is_free(a)]
                stack += before[node]
        price: dict[Node, int | None] = {}
        for node, theirs in self._wanted(goals, before).items():
            owner = self.partition.group_of.get(node)
            mine = owner is self.group
            in_memory = mine or owner is not None or self.partition.is_external(node)
            there = not mine or node in stored
            price[node] = self._price(node, theirs, there) if in_memory else None
            if price[node] is None and not before[node]:
                return None
        return minimum_cut(before, price, goals)

    def _follows(self, node: Node) -> bool:
        """Whether a value can be made of its arguments again, element by element."""
        owner = self.partition.group_of.get(node)
        if self.partition.is_external(node) or owner is not None and owner is not self.group:
            return False
        if isinstance(node.op.lowering, Elementwise):
            return True
        return owner is None and (_is_plain(node) or node.op is slice_op)

    def _wanted(
        self, goals: set[Node], before: dict[Node, list[Node]]
    ) -> dict[Node, set[Group]]:
        """By node, the other kernels that need what follows from it."""
        found: dict[Node, set[Group]] = {node: set() for node in before}
        for goal in goals:
            theirs = self.reading.of(goal)[0] - {self.group}
            stack, seen = [goal], {goal}
            while stack:
                node = stack.pop()
                found[node] |= theirs
                fresh = [a for a in before[node] if a not in seen]
                seen.update(fresh)
                stack += fresh
        return found

    def _is_free(self, node: Node) -> bool:
        """Whether a value is a number, or follows from an index: no kernel needs memory for it."""
        if self.partition.is_external(node):
            return False
        form = node.op.lowering
        if node.op is constant_op or isinstance(form, Generate) and not node.args:
            return True
        return _is_plain(node) and node.op is not transpose_op and self._is_free(node.args[0])

    def _price(self, node: Node, theirs: set[Group], there: bool) -> int | None:
        """Bytes stored, if the value would not be `there` anyway, and read by others; None if that
        is not known.
        """
        size = _size(node)
        if size is None or not isinstance(node.type, TensorType):
            return None
        readers = self.reading.of(node)[0]
        if there and readers == {self.group} and self._may_be_handed_on(node):
            times = len(theirs) + 2  # stored, and read by this kernel, which it would not be
        elif there:
            times = len(theirs - readers)
        else:
            times = len(theirs) + 1
        return size * node.dtype.itemsize * times

    def _may_be_handed_on(self, node: Node) -> bool:
        """Whether a product may come to the kernel in registers, a whole row at a time."""
        group, shape = self.group, result_shape(node)
        if group.kind != "nest" or group.domain != shape or group.reduced != (len(shape) - 1,):
            return False
        least, most = self.partition.tactics.handed_columns
        length = shape[-1]
        whole = isinstance(length, int) and least <= length <= most
        return whole and isinstance(node.op.lowering, Contract)

    def _is_dear(self, goal: Node, given: set[Node]) -> bool:
        """Whether making a value of what is given costs too much for those who read it."""
        cost = 0
        stack, seen = [goal], {goal}
        while stack:
            node = stack.pop()
            if node in given or self.partition.is_external(node):
                continue
            cost += own_cost(node)
            if cost > MOST_COST:
                return True
            fresh = [a for a in node.args if a not in seen]
            seen.update(fresh)
            stack += fresh
        tiled = any(isinstance(n.op.lowering, Contract) for n in self._others(goal))
        return cost > (COST_IN_TILES if tiled else self.most)


def _is_plain(node: Node) -> bool:
    """Whether a node is a view of all of one array, element for element or each several times."""
    return (
        isinstance(node.op.lowering, View)
        and len(node.args) == 1
        and node.op in PLAIN_VIEWS
        and not asks(node)
    )


def _size(node: Node) -> int | None:
    size = product(result_shape(node))
    return size if isinstance(size, int) else None


__all__ = ["remade"]
