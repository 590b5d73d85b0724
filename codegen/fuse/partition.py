"""Which kernel has which node?  What the passes of fusion find out, and what others ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from graphc.codegen.fuse.group import Group
from graphc.codegen.fuse.parts import Part, parts_of
from graphc.codegen.fuse.reading import RENAMING, reads_at, renames
from graphc.codegen.tactics import Tactics
from graphc.dims import Extent
from graphc.node import Node
from graphc.ops.operands import constant_op
from graphc.ops.special import project_op


class Partition:
    """The groups of a graph in an order in which they can run, and the group of every node that has
    one. `users` are those of every node; `overwritten` are external nodes over which an output will
    lie, `remade` those that no kernel takes (`remaking`).
    """

    def __init__(
        self,
        users: dict[Node, list[Node]],
        external: set[Node],
        strided: set[Node] | frozenset[Node],
        overwritten: Mapping[Node, Node],
        tactics: Tactics,
        remade: Set[Node] = frozenset(),
    ) -> None:
        self.tactics = tactics
        self.remade = remade
        self.external = external
        self.overwritten = overwritten
        self.strided = strided
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self.users = users
        self.dependencies: dict[Node, frozenset[Group]] = {}  # the kernels that each waits for
        self._parts: dict[Node, list[Part]] = {}
        self.steps = 0  # nodes and kernels looked at, for tests of how the work grows

    def is_external(self, node: Node) -> bool:
        """Whether the node is in memory before the procedure starts."""
        return node in self.external or (node.op is constant_op and node.shape != ())

    def floats(self, node: Node) -> bool:
        """Whether the node is computed inside each of its consumers."""
        if node in self.group_of or node in self.external:
            return False
        return node.op is not constant_op or node.shape == ()

    def alias(self, node: Node) -> Node:
        """The node in whose memory a reshape finds its elements as they lie; the node itself if it
        has none such.
        """
        source = node
        if source.op not in RENAMING:
            return source
        while renames(source) and source not in self.group_of:
            source = source.args[0]
        if source is node:
            return node
        in_memory = self.is_external(source) and source not in self.strided
        return source if in_memory or source in self.group_of or self.is_result(source) else node

    def parts(self, node: Node) -> list[Part]:
        """The parts that an array is put together of, see `parts_of`."""
        found = self._parts.get(node)
        if found is None:
            found = self._parts[node] = parts_of(node)
        return found

    def is_result(self, node: Node) -> bool:
        """Whether a node is one result of a placed node with several."""
        return node.op is project_op and node.args[0] in self.group_of

    def after_split(self, group: Group) -> bool:
        """Whether the group's reduction is one that is split into parts for parallelism."""
        return group.reduced is not None and self.tactics.splits(group.domain, group.reduced)

    def reads(
        self, node: Node, index: tuple[Extent, ...]
    ) -> Iterator[tuple[Node, tuple[Extent, ...]]]:
        """The placed nodes that `node` reads through virtual and floating ones, and the index at
        which.
        """
        stack: list[tuple[Node, tuple[Extent, ...]]] = []
        seen: set[tuple[Node, tuple[Extent, ...]]] = set()

        def push(reader: Node, at: tuple[Extent, ...]) -> None:
            for argument, where in reads_at(reader, at):
                if (argument, where) not in seen:
                    seen.add((argument, where))
                    stack.append((argument, where))

        push(node, index)
        while stack:
            current, at = stack.pop()
            self.steps += 1
            if current in self.group_of:
                yield current, at
            elif self.dependencies[current]:  # nothing that is placed lies beneath a floating one
                push(current, at)

    def add(self, group: Group) -> Group:
        group.number = len(self.groups)
        self.groups.append(group)
        return group
