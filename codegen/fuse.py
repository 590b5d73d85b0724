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
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from graphc.codegen.masks import LEAST_READERS, is_sign_mask
from graphc.codegen.schedule import Traffic, likely_bytes, schedule
from graphc.codegen.tactics import CPU, Tactics
from graphc.dims import Dim, Extent, affine, product
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
from graphc.ops.gather import lookup
from graphc.ops.movement import reshape_op
from graphc.ops.operands import broadcast_op, constant_op, restate_op
from graphc.ops.special import cast_op, project_op
from graphc.ops.windows import slide_op
from graphc.types import Shape, TensorType, TupleType

# An element-wise value dearer than this, needed by several kernels, is stored rather than
# recomputed.
RECOMPUTE_COST = 8
# Costs are not told apart beyond this.
MOST_COST = 10_000
# Parts of an array that are found by trying one after the other; of more each is stored by itself.
MOST_PARTS = 8
# Work that each element of an array of few parts may do in vain, in additions, rather than be
# stored.
SPARED_COST = 32
# Passes over the reduced axes in one kernel.
MOST_STAGES = 8
# Reshapes folded into one index: each may double it.
MOST_RESHAPES = 3
# Unrelated values of one shape that one kernel stores.
MOST_TOGETHER = 8
# Numbers that one kernel writes into an array of many.
PARTS_TOGETHER = 64
# Pieces that are shorter share their lines of memory with those of other parts: all are written by
# one kernel, whatever made them.
LINE_BYTES = 64
# Nodes examined when looking for a cycle before a join is refused.
CYCLE_SEARCH = 256
# Kernels that read a floating value, told apart by name; of more only the first and last count.
MOST_READERS = 16
# Results of a reduction over all rows that are carried along in memory while rows are reduced.
MOST_CARRIED = 4096
LEAST_CARRIED = 65536  # elements of the rows
# Nodes looked at to tell what a reduction reads from memory; kernels that may read the same.
SOURCE_SEARCH = 64
MOST_SIBLINGS = 16

# Why a node joins a kernel.
READS_VALUES = "which reads values of the kernel where it makes them"
READS_ARRAYS = "which reduces an array that the kernel reads anyway"


@dataclass(eq=False)
class Group:
    """Nodes computed by one kernel (or by one region statement).

    `domain` is the shape that is iterated; `reduced` the axes that its reductions take away, if it
    has some.
    """

    # "nest", "contract", "scatter", "own" (an op's own loops), "check", "parts", "region"
    kind: str
    domain: Shape
    members: list[Node] = field(default_factory=list)
    reduced: tuple[int, ...] | None = None
    needs: set[Group] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    fused: dict[str, list[str]] = field(default_factory=dict)  # names of ops, by why they joined
    refused: dict[str, list[str]] = field(default_factory=dict)  # and by why they did not
    stages: dict[Node, int] = field(default_factory=dict)  # the passes before a member is known
    carried: set[Node] = field(default_factory=set)  # reductions over the rows, which others reduce
    woven: Shape | None = None  # of parts that one kernel computes and writes side by side
    work: int = 0
    number: int = 0  # in the order of opening
    continuation: Group | None = None  # takes what is refused because the kernel is long enough

    @property
    def reason(self) -> str:
        """Why the kernel computes what it does, and what it was asked to take but did not."""
        fused = [f"fused: {_listed(names)}, {why}" for why, names in self.fused.items()]
        refused = [f"not fused: {_listed(names)}, {why}" for why, names in self.refused.items()]
        return "; ".join([*self.reasons, *fused, *refused])

    @property
    def kept(self) -> Shape:
        """The shape that is left after the reductions."""
        gone = self.reduced or ()
        return tuple(e for axis, e in enumerate(self.domain) if axis not in gone)


def variables(count: int) -> tuple[Dim, ...]:
    """Stand-ins for the index of a domain, while relations between indices are found."""
    return tuple(Dim.symbol(f"_axis{axis}") for axis in range(count))


class Partition:
    """The groups of a graph in an order in which they can run, and the group of every node that has
    one.
    """

    def __init__(
        self,
        order: Sequence[Node],
        outputs: Sequence[Node],
        external: set[Node],
        strided: set[Node] | frozenset[Node] = frozenset(),
        overwritten: Mapping[Node, Node] = MappingProxyType({}),
        tactics: Tactics | None = None,
    ) -> None:
        """`overwritten` are external nodes over which an output will lie; `tactics` are those of a
        CPU if none are given.
        """
        self.tactics = tactics or CPU
        self.external = external
        self._overwritten = overwritten
        self.strided = strided
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self.users: dict[Node, list[Node]] = {}
        for node in order:
            for argument in node.args:
                self.users.setdefault(argument, []).append(node)
        self._dependencies: dict[Node, frozenset[Group]] = {}
        self._work: dict[Node, int] = {}  # of computing a floating value, in additions
        self._inlined: dict[Node, int] = {}  # what computing a value anew costs
        self._folded: dict[Node, int] = {}  # reshapes in the index of a view
        self._windowed = {source for node in order for source in _windowed_sources(node)}
        self._reducing: dict[Shape, list[Group]] = {}  # by the shape that is reduced
        self._sources: dict[Group, set[Node]] = {}  # what the reductions of a group read
        self.steps = 0  # nodes and kernels looked at, for tests of how the work grows
        for node in order:
            self._place(node)
        self._ground(order, outputs)

    # -- classification ----------------------------------------------------------------------------

    def is_external(self, node: Node) -> bool:
        """Whether the node is in memory before the procedure starts."""
        return node in self.external or (node.op is constant_op and node.shape != ())

    def is_virtual(self, node: Node) -> bool:
        """Whether the node is nothing but index arithmetic, or a literal."""
        form = node.op.lowering
        if isinstance(form, Leaf):
            return not self.is_external(node)
        return isinstance(form, (View, Generate))

    def floats(self, node: Node) -> bool:
        """Whether the node is computed inside each of its consumers."""
        return node not in self.group_of and not self.is_external(node)

    def alias(self, node: Node) -> Node:
        """The node in whose memory a reshape finds its elements as they lie; the node itself if it
        has none such.
        """
        source = node
        while _renames(source) and source not in self.group_of:
            source = source.args[0]
        if source is node:
            return node
        in_memory = self.is_external(source) and source not in self.strided
        return source if in_memory or source in self.group_of or self.is_result(source) else node

    def is_result(self, node: Node) -> bool:
        """Whether a node is one result of a placed node with several."""
        return node.op is project_op and node.args[0] in self.group_of

    # -- placing -----------------------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        form = node.op.lowering
        needed = frozenset().union(
            *(self._produced_by(argument) for argument in node.args)
        )
        if self.is_external(node):
            self._dependencies[node] = frozenset()
            return
        if isinstance(form, View) and (
            self._is_joined(node) or self._folds_too_much(node) or self._is_windowed(node)
        ):
            group = self._open(node, needed)
            self._dependencies[node] = frozenset((group,))
            group.members.append(node)
            group.needs |= needed
            self.group_of[node] = group
            return
        below = sum(self._work.get(argument, 0) for argument in node.args)
        if isinstance(form, (Leaf, View, Generate)):
            self._work[node] = min(below, MOST_COST)
            self._dependencies[node] = needed
            return
        if isinstance(form, (Elementwise, Gather)) and not needed:
            self._work[node] = min(below + _own_cost(node), MOST_COST)
            self._dependencies[node] = frozenset()
            return
        if self.tactics.remakes_masks and self._is_remade(node):
            self._dependencies[node] = needed
            return
        joined = self._join(node, needed)
        if joined is None and self._is_inlined(node):
            self._dependencies[node] = needed
            return
        group = joined or self._open(node, needed)
        if joined is None:
            for full in needed:
                if full.work > self.tactics.most_work and full.continuation is None:
                    full.continuation = group
        if isinstance(form, Reduce):
            self._note_reduction(node, group)
        group.members.append(node)
        group.stages[node] = self._stage(node, group)
        group.work += form.cost if isinstance(form, Elementwise) else 1
        group.needs |= needed - {group}
        self.group_of[node] = group
        self._dependencies[node] = frozenset((group,))

    def _is_inlined(self, node: Node) -> bool:
        """Whether a value that no kernel takes is computed anew in each that reads it: if that is
        cheap, and it reads no more than it would have to store.
        """
        form, most = node.op.lowering, self.tactics.inlined_cost
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
            for user in self.users.get(stack.pop(), ()):
                if user in seen:
                    continue
                seen.add(user)
                if isinstance(user.op.lowering, View) and len(user.args) == 1:
                    stack.append(user)
                else:
                    yield user

    def _note_reduction(self, node: Node, group: Group) -> None:
        """Remember who reduces what, for reductions to come."""
        if _carries(node, group):
            group.carried.add(node)
        if group not in self._sources:
            self._reducing.setdefault(group.domain, []).append(group)
        self._sources.setdefault(group, set()).update(self._read_sources(node))

    def _read_sources(self, node: Node) -> set[Node]:
        """What a reduction reads from memory at its own index, as far as it is soon found."""
        index: tuple[Extent, ...] = variables(node.args[0].ndim)
        stack, seen = [(node.args[0], index)], {node.args[0]}
        found: set[Node] = set()
        while stack and len(seen) < SOURCE_SEARCH:
            current, at = stack.pop()
            if self.is_external(current) or current in self.group_of:
                if at == index:
                    found.add(current)
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
            latest = self.groups[-MOST_SIBLINGS:]
            alike = (g for g in latest if g.kind == "nest" and g.domain == result_shape(node))
            return [group for group in alike if group.reduced is None and group.needs & needed]
        if not isinstance(node.op.lowering, Reduce):
            return []
        groups = self._reducing.get(node.args[0].shape, [])[-MOST_SIBLINGS:]
        sources = self._read_sources(node) if groups else set()
        return [group for group in reversed(groups) if sources & self._sources[group]]

    def _is_joined(self, node: Node) -> bool:
        """Whether each part of an array is made where it belongs: very many, single elements of
        several in turns, or parts that every element would compute all of to choose one.
        """
        if len(node.args) < 2:
            return False
        spared = sum(self._work.get(argument, 0) for argument in node.args)
        spared -= spared // len(node.args)
        several = len(node.args) > MOST_PARTS or spared > SPARED_COST or _interleaves(node)
        return several and bool(parts_of(node))

    def _folds_too_much(self, node: Node) -> bool:
        """Whether a view has so many reshapes beneath it that its index would be long: then it is
        stored.
        """
        folded = max((self._folded.get(argument, 0) for argument in node.args), default=0)
        if node.op is reshape_op and self.alias(node) is node:
            folded += 1
        self._folded[node] = folded if folded <= MOST_RESHAPES else 0
        return folded > MOST_RESHAPES

    def _is_windowed(self, node: Node) -> bool:
        """Whether a product reads windows into this view, and would have to ask at every element of
        them whether it is there: padding is stored once, and its windows are read where they lie.
        """
        if not self.tactics.stores_windowed:
            return False
        asks = len(node.args) > 1 or any(_asks(view) for view in _views_from(node))
        return node in self._windowed and asks

    def _stage(self, node: Node, group: Group) -> int:
        """How many passes of the kernel come before a member's value is known."""
        reads = [a for a, _ in self.reads(node, variables(_index_rank(node))) if a in group.stages]
        before = max((group.stages[a] for a in reads), default=0)
        return before + isinstance(node.op.lowering, Reduce)

    def _produced_by(self, node: Node) -> frozenset[Group]:
        return self._dependencies[node]

    def _open(self, node: Node, needed: frozenset[Group]) -> Group:
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
        return self._add(group)

    def _add(self, group: Group) -> Group:
        group.number = len(self.groups)
        self.groups.append(group)
        return group

    def _join(self, node: Node, needed: frozenset[Group]) -> Group | None:
        form = node.op.lowering
        if not isinstance(form, (Elementwise, Gather, Reduce)):
            return None
        producers = sorted(needed, key=lambda group: group.number, reverse=True)
        if self.tactics.rows_before_epilogues:
            producers.sort(key=lambda group: group.kind == "contract")
        siblings = [group for group in self._siblings(node, needed) if group not in needed]
        for needs in (*producers, *siblings):
            group = needs
            while group.work > self.tactics.most_work and group.continuation is not None:
                group = group.continuation
            why = self._refusal(node, group, needed)
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
        if group.work > self.tactics.most_work:
            return "the kernel is long enough to compile"
        if isinstance(form, Reduce) and self._stage(node, group) > MOST_STAGES:
            return "the kernel passes over its rows often enough"
        shape = node.args[0].shape if isinstance(form, Reduce) else result_shape(node)
        if isinstance(form, Reduce):
            if group.kind == "contract":
                return "which needs whole rows, and a product is made in tiles"
            same = shape == group.domain and group.reduced in (None, node.attrs["axes"])
            if not same and not (_carries(node, group) and not self._after_split(group)):
                mine, theirs = _text(node.attrs["axes"]), _text(group.reduced or ())
                return (
                    f"which reduces axes {mine} of {_text(shape)}, while the kernel reduces "
                    f"{theirs} of {_text(group.domain)}"
                )
            if same and self._after_split(group) and self._stage(node, group) > 1:
                return "which needs results that parts of the kernel make together"
        elif shape == group.domain:
            if group.reduced is not None and self._after_split(group):
                return "which needs results that parts of the kernel make together"
        elif group.reduced is None or shape != group.kept:
            return f"whose shape {_text(shape)} is not the kernel's {_text(group.domain)}"
        if not self._reads_in_place(node, group, shape):
            return "which reads values of the kernel elsewhere than it makes them, as views do"
        if any(self._reaches(other, group) for other in needed if other is not group):
            return "which also needs a kernel that needs this one"
        return None

    def _after_split(self, group: Group) -> bool:
        """Whether the group's reduction is one that is split into parts for parallelism."""
        return group.reduced is not None and self.tactics.splits(
            group.domain, group.reduced
        )

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
        for member, at in self.reads(node, index):
            if self.group_of.get(member) is not group:
                continue
            if member in group.carried:
                return False
            is_row = group.reduced is not None and is_row_member(member, group)
            if at != (left if is_row else index) or (not full and not is_row):
                return False
        return True

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
            elif self._dependencies[current]:  # nothing that is placed lies beneath a floating one
                push(current, at)

    def _reaches(self, start: Group, goal: Group) -> bool:
        """Whether `start` needs `goal`, directly or not; True when the search is too long to tell.
        """
        stack, seen = [start], {start}
        while stack:
            group = stack.pop()
            self.steps += 1
            if goal in group.needs:
                return True
            if len(seen) > CYCLE_SEARCH:
                return True
            fresh = group.needs - seen
            seen |= fresh
            stack.extend(fresh)
        return False

    # -- what must be in memory --------------------------------------------------------------------

    def _ground(self, order: Sequence[Node], outputs: Sequence[Node]) -> None:
        """Open groups for floating values that must be stored: outputs, operands of regions, dear
        shared values, and what one segment of the order needs of another.
        """
        readers = self._readers(order)
        segments = self._segments(order)
        for group in self.groups if not segments else ():
            group.woven = _woven(group)
        crossing = self._crossing(order, segments)
        must: set[Node] = set(outputs)
        cost: dict[Node, int] = {}  # of computing a floating value once more, up to what is stored
        moved: set[Node] = set()  # read a floating value at other positions, so work may repeat
        for node in order:
            form = node.op.lowering
            if node in self.group_of:
                if isinstance(form, Region):
                    must.update(node.args)
                elif isinstance(form, (Contract, Scatter)):
                    # what is scattered into is computed once, where the result goes
                    several = node.args[isinstance(form, Scatter) :]
                    must.update(a for a in several if cost.get(a, 0) > RECOMPUTE_COST)
                    if isinstance(form, Contract):
                        apart = (a for a in several if self._is_made_apart(a))
                        must.update(a for a in apart if cost.get(a, 0))
                    if isinstance(form, Scatter):  # which may then be written over the old array
                        must.update(a for a in several if self._looks_at(a, node.args[0]))
                    least = 0 if self.tactics.stores_windowed else RECOMPUTE_COST
                    must.update(a for a in _windowed_sources(node) if cost.get(a, 0) > least)
                elif isinstance(form, Nest):
                    must.update(node.args[i] for i in form.stored)
                elif self.group_of[node].woven is not None:
                    pass  # one kernel computes all columns, where they go
                elif isinstance(form, View):  # parts of an array are made together
                    parts = [beneath(a) for a in node.args]
                    least = 0 if segments else RECOMPUTE_COST  # one long kernel makes them all
                    must.update(a for a in parts if cost.get(a, 0) > least)
                continue
            if self.is_external(node):
                continue
            own = _own_cost(node)
            cost[node] = min(own + sum(cost.get(a, 0) for a in node.args), MOST_COST)
            made_before = any(cost.get(argument, 0) > RECOMPUTE_COST for argument in node.args)
            repeats = made_before and _moves(node)
            if repeats or any(argument in moved for argument in node.args):
                moved.add(node)
            if isinstance(form, Gather) and cost.get(node.args[0], 0) > RECOMPUTE_COST:
                must.add(beneath(node.args[0]))  # a reshape finds its elements there
            dear = own and cost[node] > RECOMPUTE_COST
            endless = cost[node] > self.tactics.most_work
            if dear and (node in crossing or self._is_shared(node, readers)):
                must.add(node)
            elif endless and node in moved and node.op is not project_op:
                if self._dependencies[node]:
                    self._ground_one(node)
                else:
                    must.add(node)  # with others of its shape
            else:
                continue
            cost[node] = 0
            moved.discard(node)
        self._ground_all(order, must, set(outputs), segments)
        self._sort(outputs)

    def _looks_at(self, node: Node, array: Node) -> bool:
        """Whether a floating value is made of an array in memory, as far as is soon found."""
        source = self.alias(array)
        stack, seen = [node], {node}
        while stack and len(seen) < SOURCE_SEARCH:
            current = stack.pop()
            if current is source:
                return True
            fresh = [a for a in current.args if a not in seen] if self.floats(current) else []
            seen.update(fresh)
            stack += fresh
        return bool(stack)

    def _is_made_apart(self, operand: Node) -> bool:
        """Whether arithmetic in front of a product is done in lanes, before, rather than one by one
        while the operand is packed. Conversions are not: they would make it larger.
        """
        size = product(operand.shape)
        small = isinstance(size, int) and size <= self.tactics.made_apart
        return small and operand.op is not cast_op

    def _segments(self, order: Sequence[Node]) -> dict[Node, int]:
        """Runs of the order of at most `most_floating` work, numbered; empty if there is little.
        """
        segments: dict[Node, int] = {}
        number = work = total = 0
        for node in order:
            if not self.floats(node):
                continue
            own = _own_cost(node)
            total += own
            work += own
            if work > self.tactics.most_floating:
                number, work = number + 1, own
            segments[node] = number
        return segments if total > self.tactics.most_work else {}

    def _crossing(self, order: Sequence[Node], segments: dict[Node, int]) -> set[Node]:
        """Floating values that other floating ones of another segment or another shape read,
        directly or through views.
        """
        crossing: set[Node] = set()
        read_by: dict[Node, object] = {}  # by what a value is read: one home, or several
        several = object()
        for node in reversed(order):
            if node not in segments:
                continue
            home: object = (result_shape(node), segments[node])
            if _own_cost(node) == 0:  # a view is computed where it is read
                home = read_by.get(node)
            elif read_by.get(node, home) != home:
                crossing.add(node)
            for argument in node.args if home is not None else ():
                read_by[argument] = home if read_by.get(argument, home) == home else several
        return crossing

    def _readers(self, order: Sequence[Node]) -> dict[Node, frozenset[Group]]:
        """The groups that compute or read each node, through whatever floats in between; of very
        many only the first and the last.
        """
        readers: dict[Node, frozenset[Group]] = {}
        for node in reversed(order):
            if node in self.group_of:
                readers[node] = frozenset((self.group_of[node],))
            else:
                users = {readers[user] for user in self.users.get(node, ())}
                readers[node] = _few(frozenset().union(*users))
        return readers

    def _is_shared(self, node: Node, readers: dict[Node, frozenset[Group]]) -> bool:
        """Whether storing a floating value saves work: several kernels read it, or one reads it
        over and over.

        Of a chain that the same kernels read, only the last value is stored.
        """
        mine, shape = readers[node], result_shape(node)
        if shape != () and any(_goes_over_others(group, shape) for group in mine):
            return True
        last = any(
            user in self.group_of or readers[user] != mine for user in self.users.get(node, ())
        )
        return len(mine) > 1 and last

    def _ground_all(
        self,
        order: Sequence[Node],
        must: set[Node],
        outputs: set[Node],
        segments: dict[Node, int],
    ) -> None:
        """Store what must be, several values of one shape in one kernel where none of them waits
        for a kernel.

        The values of one segment share most of their work: one kernel stores them all.
        """
        chosen: list[Node] = []
        for node in order:
            literal = node.op is constant_op and node not in outputs
            if node not in must or literal or not self.floats(node) or self.alias(node) is not node:
                continue
            if self._dependencies[node]:
                continue  # a view of what a kernel makes: copied when that is done
            if isinstance(node.type, TupleType) or node.op is project_op:
                self._ground_one(node)
            else:
                chosen.append(node)
        together: dict[tuple[Shape, int, int], list[Node]] = {}
        waits = self._waits(order, set(chosen))
        for node in chosen:
            key = (result_shape(node), waits[node], segments.get(node, 0))
            together.setdefault(key, []).append(node)
        for (shape, *_), nodes in together.items():
            most = len(nodes) if product(shape) == 1 or segments else MOST_TOGETHER
            for start in range(0, len(nodes), most):
                group = Group("nest", shape, nodes[start : start + most])
                group.reasons.append("stored: outputs, or values that several kernels need")
                self._add(group)
                self.group_of.update(dict.fromkeys(group.members, group))

    def _waits(self, order: Sequence[Node], chosen: set[Node]) -> dict[Node, int]:
        """How many kernels, each of another shape than the next, must run before one that stores a
        chosen node. Nodes of one shape and one number of waits never wait for each other through
        another kernel.
        """
        waits: dict[Node, tuple[int, object]] = {}  # and what kind of kernel was waited for last
        for node in order:
            below = [waits[argument] for argument in node.args if argument in waits]
            most = max((count for count, _ in below), default=0)
            kinds = {kind for count, kind in below if count == most}
            last = kinds.pop() if len(kinds) == 1 else "several"
            if node in chosen or node in self.group_of:
                mine: object = result_shape(node) if node in chosen else id(node)
                waits[node] = (most + bool(below and last != mine), mine)
            elif below:
                waits[node] = (most, last)
        return {node: waits[node][0] for node in chosen}

    def _ground_one(self, node: Node) -> None:
        if node.op is project_op and isinstance(node.args[0].op.lowering, Region):
            return
        if node.op is project_op:
            node = node.args[0]
            if node in self.group_of:
                return
        group = Group("nest", result_shape(node))
        group.needs |= self._dependencies[node]
        group.members.append(node)
        group.reasons.append(f"{node.op.name} stored: several kernels or a region need it")
        self._add(group)
        self.group_of[node] = group

    def _sort(self, outputs: Sequence[Node]) -> None:
        """Order the groups so that each comes after those that it needs, floats included, and few
        bytes are alive at a time.
        """
        readers: dict[Node, list[Group]] = {node: [] for node in self._overwritten}
        reads = {group: self._read_values(group, readers) for group in self.groups}
        done: set[Group] = set()
        order: list[Group] = []
        # What is written into an array comes late: others may read what it was before.
        for root in sorted(self.groups, key=lambda group: group.kind == "scatter"):
            stack = [(root, iter(reads[root]))]
            if root in done:
                continue
            done.add(root)
            while stack:
                group, rest = stack[-1]
                following = next((n for n in rest if self.group_of[n] not in done), None)
                if following is None:
                    stack.pop()
                    order.append(group)
                else:
                    needed = self.group_of[following]
                    done.add(needed)
                    stack.append((needed, iter(reads[needed])))
        values = {value for group in order for value in reads[group]}
        sizes = {node: _likely_bytes(node) for node in values}
        sizes.update(dict.fromkeys(values.intersection(outputs), 0))  # not in the arena
        after = self._overwriting(order, readers)
        self.groups = schedule(order, Traffic(reads, self.group_of, sizes, after))

    def _overwriting(
        self, order: Sequence[Group], readers: Mapping[Node, Sequence[Group]]
    ) -> dict[Group, set[Group]]:
        """The kernels before each that writes an output over what they read, as in `order`."""
        number = {group: i for i, group in enumerate(order)}
        found: dict[Group, set[Group]] = {}
        for node, output in self._overwritten.items():
            source = self.alias(output)
            writer = self.group_of.get(source.args[0] if self.is_result(source) else source)
            if writer is not None:
                earlier = (g for g in readers[node] if number[g] < number[writer])
                found.setdefault(writer, set()).update(earlier)
        return found

    def _read_values(
        self, group: Group, readers: Mapping[Node, list[Group]]
    ) -> list[Node]:
        """The values of other groups that the members of one read, in the order of a walk; it is
        added to the `readers` of what it reads of these.
        """
        found: dict[Node, None] = {}
        seen: set[Node] = set()
        for member in group.members:
            stack = [argument for argument in member.args if argument not in seen]
            seen.update(stack)
            while stack:
                current = stack.pop()
                self.steps += 1
                if current in readers:
                    readers[current].append(group)
                owner = self.group_of.get(current)
                if owner is not None:
                    if owner is not group:
                        found[current] = None
                elif not self.is_external(current):
                    fresh = [a for a in current.args if a not in seen]
                    seen.update(fresh)
                    stack += fresh
        return list(found)


def _likely_bytes(node: Node) -> int:
    """The bytes of a value, or of all results of a node that has several."""
    types = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    return sum(likely_bytes(product(t.shape) * t.dtype.itemsize) for t in types)  # type: ignore[union-attr]


@dataclass(frozen=True)
class Part:
    """A box of an array that is made by itself: `start <= index[axis] < start + extent` of the
    argument number `argument`.
    """

    argument: int
    axis: int
    start: Extent
    extent: Extent


def _woven(group: Group) -> Shape | None:
    """The shape of the parts of an array, if they are columns that one kernel writes side by side.
    """
    parts = parts_of(group.members[0]) if group.kind == "parts" else []
    if not 1 < len(parts) <= PARTS_TOGETHER:
        return None
    node = group.members[0]
    shapes = {node.args[part.argument].shape for part in parts}
    if len(shapes) > 1 or any(run_bytes(node, part) >= LINE_BYTES for part in parts):
        return None
    return _without_ones(shapes.pop())


def run_bytes(node: Node, part: Part) -> int:
    """The bytes of a part that lie in one piece; those of a whole line, if that is not known."""
    length = part.extent * product(node.shape[part.axis + 1 :])
    return length * node.dtype.itemsize if isinstance(length, int) else LINE_BYTES


def _without_ones(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def _goes_over_others(group: Group, shape: Shape) -> bool:
    """Whether a kernel may need an element of a value of that shape several times."""
    if group.woven is not None and group.woven == _without_ones(shape):
        return False
    return group.domain != shape and not _makes_few(group)


def _makes_few(group: Group) -> bool:
    """Whether a group makes an array of few parts, each of which reads what it needs for itself; of
    many parts most share what they are made of.
    """
    return group.kind == "parts" and len(group.members[0].args) <= MOST_PARTS


def parts_of(node: Node) -> list[Part]:
    """The parts of a view that puts arrays one after the other along an axis; none of any other."""
    form = node.op.lowering
    if not isinstance(form, View) or len(node.args) == 1:
        return []
    index = variables(node.ndim)
    types = [argument.type for argument in node.args]
    parts: list[Part] = []
    for piece in form.pieces(index, types, node.type, **node.attrs):
        if len(piece.inside) != 1:
            return []
        ((position, low, high),) = piece.inside
        split = [affine(position, str(variable)) for variable in index]
        axis = next((a for a, s in enumerate(split) if s is not None and s[0] == 1), None)
        if axis is None:
            return []
        start = low - split[axis][1]  # type: ignore[index]
        parts.append(Part(piece.argument, axis, start, high - low))
    return parts


def _windowed_sources(node: Node) -> Iterator[Node]:
    """The arrays into which the windows lead that a contraction multiplies, or a reduction combines
    if its lanes move along with the windows.
    """
    form = node.op.lowering
    if not isinstance(form, (Contract, Reduce)):
        return
    for argument in node.args:
        for view in _views_from(argument):
            if view.op is slide_op and (
                isinstance(form, Contract) or view.ndim - 1 in view.attrs["axes"]
            ):
                source = view.args[0]
                yield source.args[0] if source.op is broadcast_op else source
                break


def _views_from(node: Node) -> Iterator[Node]:
    """A view, what it is a view of, and so on, as long as those are views of one argument."""
    while isinstance(node.op.lowering, View) and len(node.args) == 1:
        yield node
        node = node.args[0]


def _asks(view: Node) -> bool:
    """Whether some elements of a view of one argument are not from there."""
    form = view.op.lowering
    assert isinstance(form, View)
    types = [argument.type for argument in view.args]
    pieces = form.pieces(variables(view.ndim), types, view.type, **view.attrs)
    return any(piece.inside for piece in pieces)


def _interleaves(node: Node) -> bool:
    """Whether a view puts single elements of several arrays in turns: lanes along them would each
    have to ask where they are from.
    """
    return node.ndim > 1 and node.shape[-1] == len(node.args) and all(
        argument.shape == (*node.shape[:-1], 1) for argument in node.args
    )


def _own_cost(node: Node) -> int:
    """What a floating node itself takes, in additions: views take nothing."""
    form = node.op.lowering
    if isinstance(form, Elementwise):
        return form.cost
    return RECOMPUTE_COST if isinstance(form, Gather) else 0


def _moves(node: Node) -> bool:
    """Whether a node may read its argument at several positions for one of its own."""
    if node.op is reshape_op:
        shapes = (node.shape, node.args[0].shape)
        source, target = ([extent for extent in shape if extent != 1] for shape in shapes)
        return source != target
    form = node.op.lowering
    return isinstance(form, (View, Gather)) and node.op not in (broadcast_op, restate_op)


# What leaves every element where it lies in memory.
def _renames(node: Node) -> bool:
    """Whether a view has the elements of its argument in their order, at other indices."""
    if node.op is not broadcast_op:
        return node.op is reshape_op or node.op is restate_op
    shape, axes = node.shape, node.attrs["axes"]
    pairs = zip(axes, node.args[0].shape, strict=True)
    added = product(extent for axis, extent in enumerate(shape) if axis not in axes)
    return added == 1 and all(shape[axis] == extent for axis, extent in pairs)


def beneath(node: Node) -> Node:
    """What a node is a reshape of; itself if it is none."""
    while _renames(node):
        node = node.args[0]
    return node


def beneath_views(node: Node) -> Node:
    """What a node is a view of, through all views of one argument."""
    while isinstance(node.op.lowering, View) and len(node.args) == 1:
        node = node.args[0]
    return node


def _few(groups: frozenset[Group]) -> frozenset[Group]:
    """The set, or the first and the last of one that is too large to be carried along."""
    if len(groups) <= MOST_READERS:
        return groups
    ordered = sorted(groups, key=lambda group: group.number)
    half = MOST_READERS // 2
    return frozenset((*ordered[:half], *ordered[-half:]))


def _index_rank(node: Node) -> int:
    """The rank of the index at which a member reads its arguments."""
    form = node.op.lowering
    return len(node.args[0].shape if isinstance(form, Reduce) else result_shape(node))


def _carries(node: Node, group: Group) -> bool:
    """Whether a reduction takes away the rows of a group that reduces each of them, so that it can
    be carried along from row to row: of full values, or of one value for each row.
    """
    reduced, rank = group.reduced, len(group.domain)
    if group.kind != "nest" or not reduced or rank - 1 not in reduced or len(reduced) == rank:
        return False
    shape, axes = node.args[0].shape, node.attrs["axes"]
    rows = tuple(axis for axis in range(rank) if axis not in reduced)
    if shape == group.domain and axes == rows:
        size = product(group.domain[axis] for axis in reduced)
    elif shape == group.kept and len(axes) == len(shape) and shape != group.domain:
        size = 1
    else:
        return False
    total = product(group.domain)
    large = not isinstance(total, int) or total > LEAST_CARRIED
    return large and isinstance(size, int) and size <= MOST_CARRIED


def is_row_member(node: Node, group: Group) -> bool:
    """Whether a member of a reducing group has one value for each row: a reduction, or made of
    such.
    """
    if node in group.carried:
        return False
    return isinstance(node.op.lowering, Reduce) or (
        result_shape(node) == group.kept and result_shape(node) != group.domain
    )


def result_shape(node: Node) -> Shape:
    """The shape of a node's results; those of an element-wise node with several are equal."""
    if isinstance(node.type, TupleType):
        return node.type.items[0].shape if node.type.items else ()
    return node.type.shape


def reads_at(node: Node, index: tuple[Extent, ...]) -> list[tuple[Node, tuple[Extent, ...]]]:
    """The arguments of a node and the index at which it reads each, to compute its element at
    `index`.

    An index that data decides is given as positions named `_unknown`, equal to no other.
    """
    form = node.op.lowering
    if isinstance(form, View):
        types = [argument.type for argument in node.args]
        pieces = form.pieces(index, types, node.type, **node.attrs)
        return [(node.args[piece.argument], piece.index) for piece in pieces]
    if isinstance(form, Gather):
        found = lookup(node)
        unknown = [Dim.symbol("_unknown")] * len(found.axes)
        place = found.place(index)
        source = found.source(found.kept_of(index), unknown)
        return [(node.args[0], source), *((positions, place) for positions in node.args[1:])]
    if isinstance(form, (Elementwise, Reduce)) or node.op is project_op:
        return [(argument, index) for argument in node.args]
    if isinstance(form, Verify):
        return [(node.args[0], index)]
    return [
        (argument, tuple(Dim.symbol("_unknown") for _ in argument.shape)) for argument in node.args
    ]


def _listed(names: Sequence[str]) -> str:
    """Names in order of appearance, each once, with how often it comes if that is more."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{name} ({n} times)" if n > 1 else name for name, n in counts.items())


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
