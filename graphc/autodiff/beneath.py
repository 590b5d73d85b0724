"""What lies beneath outputs that are differentiated by one input after the other?  Found once.

The columns of a Jacobian are as many derivatives of the same outputs, and to walk through the graph
takes longer than to push one tangent along the few nodes that it moves. What was found is kept for
the outputs that were asked about last, and for no longer than they live: it refers to nodes beneath
them, which live as long by themselves, and not to the outputs.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from graphc.node import Node, topological

# Of larger graphs nothing is kept.
_MOST_NODES = 1 << 16


class Beneath:
    """The nodes that outputs need, arguments before users, and what is known of these."""

    __slots__ = ("_nodes", "_places", "_roots", "members", "numbers")

    def __init__(self, outputs: Sequence[Node]) -> None:
        self._nodes: list[Node | None] = [*topological(outputs)]
        self.members = frozenset(map(id, self._nodes))
        self.numbers: dict[Node, bool] = {}  # whether factors are no masks: see `moved`
        self._roots = [weakref.ref(output, _forget) for output in outputs]
        place = {node: i for i, node in enumerate(self._nodes)}
        self._places = [place[output] for output in outputs]
        for i in self._places:
            self._nodes[i] = None

    def is_of(self, outputs: Sequence[Node]) -> bool:
        """Whether these are the outputs."""
        roots = self._roots
        return len(roots) == len(outputs) and all(
            root() is output for root, output in zip(roots, outputs, strict=True)
        )

    def refers_to(self, reference: weakref.ref[Node]) -> bool:
        return any(reference is root for root in self._roots)

    def order(self, outputs: Sequence[Node]) -> list[Node]:
        """The nodes; the outputs are passed, for they are not kept."""
        left_out = dict(zip(self._places, outputs, strict=True))
        return [left_out[i] if node is None else node for i, node in enumerate(self._nodes)]

    def order_with(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes and what others need, which follow the outputs in `nodes`."""
        count = len(self._places)
        order = self.order(nodes[:count])
        others = [node for node in nodes[count:] if id(node) not in self.members]
        return order + topological(others) if others else order


_last: Beneath | None = None


def _forget(reference: weakref.ref[Node]) -> None:
    """An output died: let go of what was beneath it."""
    global _last
    last = _last
    if last is not None and last.refers_to(reference):
        _last = None


def beneath(outputs: Sequence[Node]) -> Beneath:
    """What lies beneath outputs, themselves included."""
    global _last
    found = _last
    if found is None or not found.is_of(outputs):
        found = Beneath(outputs)
        if len(found.members) <= _MOST_NODES:
            _last = found
    return found
