"""What does one pass over rows keep for the next?  What is dear, and would be computed in both.

Besides members of the kernel these are values that float: made of arrays in memory, so that no
kernel had to take them. The logits of a softmax, if logarithms make them, are needed for its
maximum, for its sum and for its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.codegen.fuse import Group, Partition
from graphc.codegen.fuse.cost import MOST_COST, RECOMPUTE_COST, own_cost
from graphc.codegen.fuse.reading import index_rank, variables
from graphc.lowering import Elementwise, Reduce
from graphc.node import Node
from graphc.types import TupleType

# What floats is made of arrays that are read, so that more than this, in additions, must be saved
# by reading it instead.
LEAST_SAVED = 2 * RECOMPUTE_COST


class Passes:
    """The passes of a kernel over its rows.

    `targets` are for each pass the reductions that it makes and the full members that it stores,
    `needed` the full members that it computes for them, in order.
    """

    def __init__(
        self,
        partition: Partition,
        group: Group,
        targets: Sequence[Sequence[Node]],
        needed: Sequence[Sequence[Node]],
    ) -> None:
        self.partition = partition
        self.group = group
        self._floating = self._read_as_they_lie() if len(targets) > 1 else set()
        self._computed = [
            list(self._in_order(wanted, set(members)))
            for wanted, members in zip(targets, needed, strict=True)
        ]
        self.worth_saving = self._worth_saving({t for wanted in targets for t in wanted})

    def saving(self, number: int) -> list[Node]:
        """What a pass computes that is worth saving, each after what it is made of."""
        return [node for node in self._computed[number] if node in self.worth_saving]

    def _read_as_they_lie(self) -> set[Node]:
        """Floating arithmetic that the kernel reads at the element at hand, and nowhere else: what
        a view reads may be of another row.
        """
        here: set[Node] = set()
        elsewhere: set[Node] = set()
        stack = [(a, self._is_full(m)) for m in self.group.members for a in m.args]
        while stack:
            node, own = stack.pop()
            if not self.partition.floats(node):
                continue
            own = own and isinstance(node.op.lowering, Elementwise) and self._is_full(node)
            found = here if own else elsewhere
            if node not in found:
                found.add(node)
                stack += [(argument, own) for argument in node.args]
        return here - elsewhere

    def _is_full(self, node: Node) -> bool:
        """Whether a node reads its arguments at each element of the rows."""
        if isinstance(node.op.lowering, Reduce):
            return node.args[0].shape == self.group.domain
        return not isinstance(node.type, TupleType) and node.shape == self.group.domain

    def _in_order(self, targets: Sequence[Node], members: set[Node]) -> Iterator[Node]:
        """`members`, and what floats and can be saved, that `targets` are made of: each after those
        that it is made of.
        """
        seen = set(targets)
        stack = [(target, False) for target in reversed(targets)]
        while stack:
            node, finished = stack.pop()
            if finished:
                if node in members or node in self._floating:
                    yield node
                continue
            stack.append((node, True))
            for argument in node.args:
                if argument in seen:
                    continue
                if argument in members or self.partition.floats(argument):
                    seen.add(argument)
                    stack.append((argument, False))

    def _worth_saving(self, targets: set[Node]) -> set[Node]:
        """What several passes need, and would cost too much to compute once more each time. Of a
        chain of values, each of which only the next one needs, the last.
        """
        passes: dict[Node, int] = {}  # that need a value, as bits
        for number, nodes in enumerate(self._computed):
            for node in nodes:
                passes[node] = passes.get(node, 0) | 1 << number
        dear_anew = max(LEAST_SAVED, self.partition.tactics.remade_cost)
        saved: set[Node] = set()
        members: dict[Node, int] = {}  # what members take that a value is made of
        floating: dict[Node, int] = {}  # and what floats
        for node, mine in passes.items():
            below = self._made_of(node)
            own = own_cost(node) if node in self._floating else _cost_of_member(node)
            members[node] = min(sum(members.get(other, 0) for other in below), MOST_COST)
            floating[node] = min(sum(floating.get(other, 0) for other in below), MOST_COST)
            (floating if node in self._floating else members)[node] += own
            dear = members[node] > RECOMPUTE_COST or members[node] + floating[node] > dear_anew
            if not dear or not mine & mine - 1 or isinstance(node.type, TupleType):
                continue
            users = self.partition.users.get(node, ())
            if len(users) == 1 and users[0] not in targets and passes.get(users[0]) == mine:
                continue
            saved.add(node)
            members[node] = floating[node] = 0
        return saved

    def _made_of(self, node: Node) -> set[Node]:
        """What a value is computed from, as far as passes compute that."""
        below = set(node.args)
        if node not in self._floating:
            index = variables(index_rank(node))
            below.update(other for other, _ in self.partition.reads(node, index))
        return below


def _cost_of_member(member: Node) -> int:
    form = member.op.lowering
    return form.cost if isinstance(form, Elementwise) else RECOMPUTE_COST + 1
