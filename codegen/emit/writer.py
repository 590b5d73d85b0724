"""What do the writers of all kinds of kernels share?

Where a node is loaded from, where results are stored, what the kernel is called; `reader` asks
these questions while it writes values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from graphc import dtypes
from graphc.codegen.fuse import Group, Partition
from graphc.codegen.fuse.cost import RECOMPUTE_COST
from graphc.codegen.fuse.parts import Part
from graphc.codegen.fuse.reading import reads_at, result_shape, variables
from graphc.codegen.program import Launch, Operand
from graphc.codegen.reader import Draft, Index, Reader
from graphc.codegen.routines import work_together
from graphc.codegen.scalar import Scope, Value
from graphc.dims import Extent, product, symbols_of
from graphc.lowering import Elementwise, Gather, Generate, Reduce
from graphc.node import Node
from graphc.ops.operands import constant_op
from graphc.ops.special import project_op
from graphc.types import Shape, TupleType

# Work of the mathematical procedures of one kernel, in additions, beyond which they are called.
MOST_COPIED = 75
# Beyond this they are called, whatever they share.
MOST_SHARED = 3 * MOST_COPIED
# Lanes of a tile, where each lane works alone.
TILE = 256


@dataclass(eq=False)
class Framed(Operand):
    """An array of which a part is stored."""

    shape: Shape = ()
    axis: int = 0
    start: Extent = 0

    @property
    def frame(self) -> tuple[Shape, int, Extent]:
        """The shape of the array, and which part it is: along which axis, from where."""
        return self.shape, self.axis, self.start

    def at(self, index: Index) -> Index:
        """The place in the array of an element of the part."""
        return tuple(i + self.start if axis == self.axis else i for axis, i in enumerate(index))


@dataclass(eq=False)
class Element(Framed):
    """An array of which one element is stored, whose number is `start`."""

    def at(self, index: Index) -> Index:
        return (self.start,)


class Writer:
    """Writes the kernels of one group; each kind of group has a subclass."""

    def __init__(
        self,
        partition: Partition,
        group: Group,
        place: Callable[[Node], Operand | None],
        number: Callable[..., int],
    ) -> None:
        self.partition = partition
        self.group = group
        self.place = place
        self.number = number
        self.rows: dict[Node, Value] = {}
        self.saved: dict[Node, tuple[Operand, Callable[[Index], Index], Shape]] = {}
        self.written: set[Node] = set()
        self.flat: dict[Index, Extent] = {}  # positions in memory, by indices of the domain
        self.members = set(group.members)
        self._readable: dict[Node, Operand | None] = {}

    def launches(self) -> list[Launch]:
        """The launches that compute the group."""
        raise NotImplementedError

    # -- what the reader asks ----------------------------------------------------------------------

    def readable(self, node: Node) -> Operand | None:
        """Where to load a node from: memory, unless this kernel is the one that computes it."""
        if node not in self._readable:
            self._readable[node] = self._find_readable(node)
        return self._readable[node]

    def _find_readable(self, node: Node) -> Operand | None:
        place = self.place(node)
        if place is None:
            return None
        owner = node.args[0] if node.op is project_op and node.args[0] in self.members else node
        if owner in self.members and node not in self.written:
            return None
        source = self.partition.alias(node)
        made_here = owner_of(source) in self.members and source not in self.written
        return None if made_here else place

    def row_value(self, node: Node) -> Value | None:
        """The value of a member that has one for each row, once it is computed."""
        return self.rows.get(node)

    def flat_index(self, index: Index, shape: Shape, operand: Operand) -> Extent | None:
        """The position in memory of a read at the nest's own index, when the nest is flat."""
        if not self.flat or shape != self.group.domain or operand.storage.strided:
            return None
        return self.flat.get(index)

    # -- the kernel --------------------------------------------------------------------------------

    def draft(self, title: str = "") -> Draft:
        """A new kernel, which calls what a large one should not hold copies of."""
        fast, tables = self.partition.tactics.fast, self.partition.tactics.tables
        scope = Scope(calls_routines=self._is_dear(), fast=fast, tables=tables)
        return Draft(title or self.title(), scope)

    def _is_dear(self) -> bool:
        """Whether copies of mathematical procedures would be most of a large kernel. Instructions
        that several have in common at the same arguments are there once.
        """
        copied = 0
        dear: dict[tuple[Node, ...], list[Node]] = {}  # by the arguments
        stack, seen = list(self.group.members), set(self.group.members)
        while stack:
            node = stack.pop()
            form = node.op.lowering
            if isinstance(form, Elementwise) and form.cost > RECOMPUTE_COST:
                dear.setdefault(node.args, []).append(node)
                copied += form.cost
                if copied > MOST_SHARED:
                    return True
            for argument in node.args:
                if argument not in seen and self.readable(argument) is None:
                    seen.add(argument)
                    stack.append(argument)
        if copied <= MOST_COPIED:
            return False
        fast, tables = self.partition.tactics.fast, self.partition.tactics.tables
        return sum(work_together(each, fast, tables) for each in dear.values()) > MOST_COPIED

    def title(self) -> str:
        names: dict[str, None] = {}
        for member in self.group.members:
            names.setdefault(member.op.name)
        return "_".join(list(names)[:6])

    def reason(self) -> str:
        return self.group.reason

    # -- results -----------------------------------------------------------------------------------

    def results(self) -> Iterator[tuple[Node, Operand]]:
        """The members (or results of members) that have a place, with it."""
        for member in self.group.members:
            if isinstance(member.type, TupleType):
                for i in range(len(member.type.items)):
                    result = project_op(member, index=i)
                    place = self.place(result)
                    if place is not None:
                        yield result, place
            else:
                place = self.place(member)
                if place is not None:
                    yield member, place

    def store(self, reader: Reader, node: Node, operand: Operand, index: Index) -> None:
        value = reader.value(node, index)
        flat = self.flat_index(index, node.shape, operand)
        if isinstance(operand, Framed):
            shape, at = operand.shape, operand.at(index)
        else:
            shape, at = (node.shape, index) if flat is None else ((product(node.shape),), (flat,))
        buffer = reader.draft.buffer(operand, shape)
        located, args = reader.draft.located(at)
        reader.scope.store(buffer, located, value, args)

    def note_written(self, nodes: Sequence[Node]) -> None:
        """These members are in memory now: later stages load them."""
        self.written.update(nodes)
        self._readable.clear()

    def is_flat(
        self, nodes: Sequence[Node], domain: Shape, known: Collection[Node] = ()
    ) -> bool:
        """Whether every array is read at the domain's own index, or is a single element; those
        `known` are not read.
        """
        if len(domain) < 2:
            return False
        index = variables(len(domain))
        members = [member for member in self.group.members if result_shape(member) == domain]
        stack: list[tuple[Node, Index]] = [(node, index) for node in (*nodes, *members)]
        seen = set(stack)
        while stack:
            node, at = stack.pop()
            if node in known:
                continue
            place = self.readable(node)
            constant = not any(symbols_of(e) for e in at)
            if place is not None:
                if place.storage.strided and not constant:
                    return False
                if not constant and (at != index or node.shape != domain):
                    return False
                continue
            if at != index and not constant and node.op is not constant_op:
                return False
            if (
                isinstance(node.op.lowering, (Generate, Gather))
                and not constant
                and node.shape != ()
            ):
                return False
            for pair in reads_at(node, at):
                if pair not in seen:
                    seen.add(pair)
                    stack.append(pair)
        return True


def part_operand(node: Node, part: Part, place: Operand) -> Operand | None:
    """Where a part of an array at `place` is, if it lies in one piece there."""
    if product(node.shape[: part.axis]) != 1:
        return None
    offset = part.start * product(node.shape[part.axis + 1 :])
    return Operand(place.storage, place.offset + offset)


def framed_operand(node: Node, part: Part, place: Operand) -> Framed:
    """Where a part of an array at `place` is, in pieces."""
    return Framed(place.storage, place.offset, node.shape, part.axis, part.start)


def beside_each_other(results: Sequence[tuple[Node, Operand]]) -> list[tuple[Node, Operand]]:
    """Single elements with where they go. Those of one array are stored in that array, which a
    kernel then knows once, and not as so many arrays.
    """
    arrays = Counter(id(place.storage) for _, place in results if _is_element(place))
    found: list[tuple[Node, Operand]] = []
    for node, place in results:
        storage = place.storage
        if arrays[id(storage)] > 1 and _is_element(place):
            place = Element(storage, 0, (product(storage.shape),), 0, place.offset)
        found.append((node, place))
    return found


def _is_element(place: Operand) -> bool:
    """Whether it is known which element of a contiguous array lies at a place."""
    storage = place.storage
    known = isinstance(place.offset, int) and isinstance(product(storage.shape), int)
    return known and type(place) is Operand and not storage.strided


def owner_of(node: Node) -> Node:
    """The member whose result a node is: itself, or the node with several results that it projects.
    """
    return node.args[0] if node.op is project_op else node


def placed(axes: Sequence[int], found: Sequence[Extent], kept: Index, rank: int) -> Index:
    """The full index, from that over `axes` and that over the others."""
    inner = dict(zip(axes, found, strict=True))
    left = iter(kept)
    return tuple(inner[axis] if axis in inner else next(left) for axis in range(rank))


def combiner_of(reduction: Node) -> str:
    form = reduction.op.lowering
    assert isinstance(form, Reduce)
    return form.combiner


def sums(reduction: Node) -> bool:
    """Whether a reduction adds numbers that are rounded."""
    form = reduction.op.lowering
    return isinstance(form, Reduce) and form.combiner == "add" and dtypes.is_float(reduction.dtype)
