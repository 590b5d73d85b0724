"""Which kernel takes a node?  Each joins one that makes what it reads, or opens one.

Nodes are visited in order; an element-wise node that waits for no kernel's result is not placed, it
floats. Whether a node can join a kernel is a question of where it reads the kernel's values; why it
did, or did not, is noted for the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.codegen.fuse.cost import MOST_COST, cost_of
from graphc.codegen.fuse.group import Group, carries, is_row_member, shape_text
from graphc.codegen.fuse.partition import Partition
from graphc.codegen.fuse.parts import MOST_PARTS, interleaves
from graphc.codegen.fuse.reading import (
    asks,
    beneath_views,
    index_rank,
    is_at,
    reads_at,
    result_shape,
    variables,
    views_from,
    windowed_sources,
)
from graphc.codegen.fuse.reduced_products import lanes_of, pays
from graphc.codegen.passes.masks import LEAST_READERS, is_sign_mask
from graphc.dims import Extent, product
from graphc.lowering import (
    Contract,
    Elementwise,
    Gather,
    Generate,
    Leaf,
    Nest,
    Reduce,
    Region,
    Scatter,
    Verify,
    View,
)
from graphc.node import Node
from graphc.ops.arithmetic import relu_op
from graphc.ops.movement import reshape_op
from graphc.ops.operands import constant_op
from graphc.types import Shape, TensorType, TupleType

# Work that each element of an array of few parts may do in vain, in additions, rather than be
# stored.
SPARED_COST = 32
# Passes over the reduced axes in one kernel.
MOST_STAGES = 8
# Reshapes folded into one index: each may double it.
MOST_RESHAPES = 3
# Nodes examined when looking for a cycle before a join is refused.
CYCLE_SEARCH = 256
# Nodes looked at to tell what a reduction reads from memory; kernels that may read the same.
SOURCE_SEARCH = 64
MOST_SIBLINGS = 16

NOTHING: frozenset[Group] = frozenset()

# Why a node joins a kernel.
READS_VALUES = "which reads values of the kernel where it makes them"
READS_ARRAYS = "which reduces an array that the kernel reads anyway"


class Placing:
    """The first pass over a graph, in `order`."""

    def __init__(
        self, partition: Partition, order: Sequence[Node], outputs: Sequence[Node] = ()
    ) -> None:
        self.partition = partition
        self._outputs = frozenset(outputs)
        self._work: dict[Node, int] = {}  # of computing a floating value, in additions
        self._inlined: dict[Node, int] = {}  # what computing a value anew costs
        self._folded: dict[Node, int] = {}  # reshapes in the index of a view
        self._windowed = {source for node in order for source in windowed_sources(node)}
        self._reducing: dict[Shape, list[Group]] = {}  # by the shape that is reduced
        self._sources: dict[Group, set[Node]] = {}  # what the reductions of a group read

    def place(self, node: Node) -> None:
        """Put a node into a kernel, or leave it to those that read it."""
        form = node.op.lowering
        if self.partition.is_external(node):
            self.partition.dependencies[node] = NOTHING
            return
        needed = self._needed(node)
        if not needed and isinstance(form, (Elementwise, Gather)):
            self._float(node, cost_of(node.op))
            return
        if isinstance(form, View) and (
            self._is_joined(node) or self._folds_too_much(node) or self._is_windowed(node)
        ):
            group = self._open(node)
            self.partition.dependencies[node] = frozenset((group,))
            group.members.append(node)
            group.needs |= needed
            self.partition.group_of[node] = group
            return
        below = sum([self._work.get(argument, 0) for argument in node.args])
        if isinstance(form, (Leaf, View, Generate)):
            self._work[node] = min(below, MOST_COST)
            self.partition.dependencies[node] = needed
            return
        masks = self.partition.tactics.remakes_masks
        if node in self.partition.remade or masks and self._is_remade(node):
            self.partition.dependencies[node] = needed
            return
        joined = self._join(node, needed)
        if joined is None and self._is_inlined(node):
            self.partition.dependencies[node] = needed
            return
        group = joined or self._open(node)
        if joined is None:
            for full in needed:
                if full.work > self.partition.tactics.most_work and full.continuation is None:
                    full.continuation = group
        if isinstance(form, Reduce):
            self._note_reduction(node, group)
        group.members.append(node)
        group.stages[node] = self._stage(node, group)
        group.work += form.cost if isinstance(form, Elementwise) else 1
        group.needs |= needed - {group}
        self.partition.group_of[node] = group
        self.partition.dependencies[node] = frozenset((group,))

    def _float(self, node: Node, cost: int) -> None:
        """Leave a node to those that read it."""
        work = self._work
        for argument in node.args:
            cost += work.get(argument, 0)
        work[node] = cost if cost < MOST_COST else MOST_COST
        self.partition.dependencies[node] = NOTHING

    def _needed(self, node: Node) -> frozenset[Group]:
        """The kernels that a node waits for; nodes that wait for the same share the set."""
        dependencies = self.partition.dependencies
        found = NOTHING
        for argument in node.args:
            below = dependencies[argument]
            if below and below is not found:
                found = found | below if found else below
        return found

    def _is_inlined(self, node: Node) -> bool:
        """Whether a value that no kernel takes is computed anew in each that reads it: if that is
        cheap, and it reads no more than it would have to store.
        """
        form, most = node.op.lowering, self.partition.tactics.inlined_cost
        if not most or not isinstance(form, Elementwise) or isinstance(node.type, TupleType):
            return False
        sources = {beneath_views(argument) for argument in node.args}
        cost = form.cost + sum(self._inlined.get(source, 0) for source in sources)
        if cost > most:
            return False
        readers = list(self._readers_of(node))
        kinds = (Contract, Elementwise, Reduce)
        if not readers or not all(isinstance(r.op.lowering, kinds) for r in readers):
            return False
        read: Extent = 0
        for source in sources:
            if source.op is not constant_op and isinstance(source.type, TensorType):
                read = read + product(source.shape) * source.dtype.itemsize
        stored = product(node.shape) * node.dtype.itemsize
        known = isinstance(read, int) and isinstance(stored, int)
        if not known or len(readers) > 1 and read > stored or read > 2 * stored:  # type: ignore[operator]
            return False
        self._inlined[node] = cost
        return True

    def _is_remade(self, node: Node) -> bool:
        """Whether a node is the sign of what relu gives, which others read as well, and read only
        by kernels that can make it anew.
        """
        if not is_sign_mask(node) or node.args[0].op is not relu_op:
            return False
        others = [reader for reader in self._readers_of(node.args[0]) if reader is not node]
        readers = list(self._readers_of(node))
        kinds = (Contract, Elementwise, Reduce)
        if len(others) < LEAST_READERS or not readers:
            return False
        return all(isinstance(reader.op.lowering, kinds) for reader in readers)

    def _readers_of(self, node: Node) -> Iterator[Node]:
        """What reads a node, views looked through; a node that is not an array's view ends it."""
        stack, seen = [node], {node}
        while stack:
            for user in self.partition.users.get(stack.pop(), ()):
                if user in seen:
                    continue
                seen.add(user)
                if isinstance(user.op.lowering, View) and len(user.args) == 1:
                    stack.append(user)
                else:
                    yield user

    def _note_reduction(self, node: Node, group: Group) -> None:
        """Remember who reduces what, for reductions to come."""
        if carries(node, group):
            group.carried.add(node)
        if group not in self._sources:
            self._reducing.setdefault(group.domain, []).append(group)
        self._sources.setdefault(group, set()).update(self._read_sources(node, group))

    def _read_sources(self, node: Node, group: Group | None = None) -> set[Node]:
        """What a reduction reads from memory at its own index, as far as it is soon found: by
        itself or, in a group, by what the group computes for it.
        """
        index: tuple[Extent, ...] = variables(node.args[0].ndim)
        stack, seen = [(node.args[0], index)], {node.args[0]}
        found: set[Node] = set()
        while stack and len(seen) < SOURCE_SEARCH:
            current, at = stack.pop()
            owner = self.partition.group_of.get(current)
            if self.partition.is_external(current) or owner is not None:
                if at == index:
                    found.add(current)
                inside = owner is not None and owner is group
                if not inside or not isinstance(current.op.lowering, Elementwise):
                    continue
            for argument, where in reads_at(current, at):
                if argument not in seen:
                    seen.add(argument)
                    stack.append((argument, where))
        return found

    def _siblings(self, node: Node, needed: frozenset[Group]) -> list[Group]:
        """Groups that reduce the same array from memory, the latest first; for element-wise work
        those that read what it reads of another kernel.
        """
        if isinstance(node.op.lowering, Elementwise):
            latest = self.partition.groups[-MOST_SIBLINGS:]
            alike = (g for g in latest if g.kind == "nest" and g.domain == result_shape(node))
            return [g for g in alike if g.needs & needed and self._takes_besides(g)]
        if not isinstance(node.op.lowering, Reduce):
            return []
        groups = self._reducing.get(node.args[0].shape, [])[-MOST_SIBLINGS:]
        sources = self._read_sources(node) if groups else set()
        return [group for group in reversed(groups) if sources & self._sources[group]]

    def _takes_besides(self, group: Group) -> bool:
        """Whether a kernel takes element-wise work only because it reads the same arrays."""
        if group.reduced is None:
            return True
        return self.partition.tactics.rows_take_besides and not self.partition.after_split(group)

    def _is_joined(self, node: Node) -> bool:
        """Whether each part of an array is made where it belongs: very many, single elements of
        several in turns, or parts that every element would compute all of to choose one.
        """
        if len(node.args) < 2:
            return False
        spared = sum(self._work.get(argument, 0) for argument in node.args)
        spared -= spared // len(node.args)
        several = len(node.args) > MOST_PARTS or spared > SPARED_COST or interleaves(node)
        if self.partition.tactics.joins_outputs and node in self._outputs:
            several = several or any(self.partition.dependencies[part] for part in node.args)
        return several and bool(self.partition.parts(node))

    def _folds_too_much(self, node: Node) -> bool:
        """Whether a view has so many reshapes beneath it that its index would be long: then it is
        stored.
        """
        folded = max((self._folded.get(argument, 0) for argument in node.args), default=0)
        if node.op is reshape_op and self.partition.alias(node) is node:
            folded += 1
        self._folded[node] = folded if folded <= MOST_RESHAPES else 0
        return folded > MOST_RESHAPES

    def _is_windowed(self, node: Node) -> bool:
        """Whether a product reads windows into this view, and would have to ask at every element of
        them whether it is there: padding is stored once, and its windows are read where they lie.
        """
        if not self.partition.tactics.stores_windowed:
            return False
        asked = len(node.args) > 1 or any(asks(view) for view in views_from(node))
        return node in self._windowed and asked

    def _stage(self, node: Node, group: Group) -> int:
        """How many passes of the kernel come before a member's value is known."""
        reads = self.partition.reads(node, variables(index_rank(node)))
        before = max((group.stages[a] for a, _ in reads if a in group.stages), default=0)
        return before + isinstance(node.op.lowering, Reduce)

    def _open(self, node: Node) -> Group:
        form = node.op.lowering
        if isinstance(form, Reduce):
            group = Group("nest", node.args[0].shape, reduced=node.attrs["axes"])
        elif isinstance(form, Contract):
            group = Group("contract", node.shape)
        elif isinstance(form, Scatter):
            group = Group("scatter", node.shape)
        elif isinstance(form, Nest):
            group = Group("own", result_shape(node))
        elif isinstance(form, Verify):
            group = Group("check", node.args[1].shape)
        elif isinstance(form, Region):
            group = Group("region", ())
        elif isinstance(form, View) and self._is_joined(node):
            group = Group("parts", node.shape)
        else:
            group = Group("nest", result_shape(node))
        return self.partition.add(group)

    def _join(self, node: Node, needed: frozenset[Group]) -> Group | None:
        form = node.op.lowering
        if not isinstance(form, (Elementwise, Gather, Reduce)):
            return None
        producers = sorted(needed, key=lambda group: group.number, reverse=True)
        if self.partition.tactics.rows_before_epilogues:
            producers.sort(key=lambda group: group.kind == "contract")
        siblings = [group for group in self._siblings(node, needed) if group not in needed]
        for needs in (*producers, *siblings):
            group = needs
            while group.work > self.partition.tactics.most_work and group.continuation is not None:
                group = group.continuation
            why = self._refusal(node, group, needed) or self._delay(node, group, needed)
            if why is None:
                if isinstance(form, Reduce) and group.reduced is None:
                    group.reduced = node.attrs["axes"]
                why = READS_VALUES if needs in needed else READS_ARRAYS
                group.fused.setdefault(why, []).append(node.op.name)
                return group
            group.refused.setdefault(why, []).append(node.op.name)
        return None

    def _refusal(self, node: Node, group: Group, needed: frozenset[Group]) -> str | None:
        """Why `node` cannot be computed in `group`; None if it can."""
        form = node.op.lowering
        if group.kind not in ("nest", "contract"):
            what = "sorting, searching or running" if group.kind == "own" else group.kind
            return f"a {what} kernel takes no further work"
        if group.work > self.partition.tactics.most_work:
            return "the kernel is long enough to compile"
        if isinstance(form, Reduce) and self._stage(node, group) > MOST_STAGES:
            return "the kernel passes over its rows often enough"
        shape = node.args[0].shape if isinstance(form, Reduce) else result_shape(node)
        if isinstance(form, Reduce):
            if group.kind == "contract" and not self._in_registers(node, group):
                return "which needs whole rows, and a product is made in tiles"
            same = shape == group.domain and group.reduced in (None, node.attrs["axes"])
            if not same and not (carries(node, group) and not self.partition.after_split(group)):
                mine, theirs = shape_text(node.attrs["axes"]), shape_text(group.reduced or ())
                return (
                    f"which reduces axes {mine} of {shape_text(shape)}, while the kernel reduces "
                    f"{theirs} of {shape_text(group.domain)}"
                )
            if same and self.partition.after_split(group) and self._stage(node, group) > 1:
                return "which needs results that parts of the kernel make together"
        elif shape == group.domain:
            if group.reduced is not None and self.partition.after_split(group):
                return "which needs results that parts of the kernel make together"
        elif group.reduced is None or shape != group.kept:
            return f"whose shape {shape_text(shape)} is not the kernel's {shape_text(group.domain)}"
        if not self._reads_in_place(node, group, shape):
            return "which reads values of the kernel elsewhere than it makes them, as views do"
        if any(self._reaches(other, group) for other in needed if other is not group):
            return "which also needs a kernel that needs this one"
        return None

    def _in_registers(self, node: Node, group: Group) -> bool:
        """Whether a reduction's rows are those of a product, and so short that they stay in
        registers.
        """
        axes, made = node.attrs["axes"], group.members[0]
        if group.reduced is not None:
            return True  # of the same axes, which is asked next
        if node.args[0].shape != made.shape:
            return False
        if lanes_of(made, axes, self.partition.tactics) is None:
            return False
        return pays(made, axes, self.partition.users, self._outputs)

    def _delay(self, node: Node, group: Group, needed: frozenset[Group]) -> str | None:
        """Why a few numbers should not make a kernel wait for others that it could run beside."""
        few, size = self.partition.tactics.few_delaying, product(result_shape(node))
        if not isinstance(node.op.lowering, Elementwise) or not isinstance(size, int):
            return None
        if size > few or not any(other not in group.needs for other in needed - {group}):
            return None
        if all(self._reaches(group, other) for other in needed - {group}):
            return None
        return "for which the kernel would have to wait"

    def _reads_in_place(self, node: Node, group: Group, shape: Shape) -> bool:
        """Whether every value of `group` that `node` reads is read at the node's own index, or what
        is left of it.
        """
        index: tuple[Extent, ...] = variables(len(shape))
        full = shape == group.domain
        reduced = group.reduced or ()
        if isinstance(node.op.lowering, Reduce) and group.reduced is None:
            reduced = node.attrs["axes"]
        left = tuple(v for axis, v in enumerate(index) if axis not in reduced) if full else index
        for member, at in self.partition.reads(node, index):
            if self.partition.group_of.get(member) is not group:
                continue
            if member in group.carried:
                return False
            is_row = group.reduced is not None and is_row_member(member, group)
            own = left if is_row else index
            if not is_at(at, own, result_shape(member)) or (not full and not is_row):
                return False
        return True

    def _reaches(self, start: Group, goal: Group) -> bool:
        """Whether `start` needs `goal`, directly or not; True when the search is too long to tell.
        """
        stack, seen = [start], {start}
        while stack:
            group = stack.pop()
            self.partition.steps += 1
            if goal in group.needs:
                return True
            if len(seen) > CYCLE_SEARCH:
                return True
            fresh = group.needs - seen
            seen |= fresh
            stack.extend(fresh)
        return False
