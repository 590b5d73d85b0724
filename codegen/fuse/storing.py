"""Which values that kernels compute inside must be in memory?  Those needed more than once.

Outputs are, operands of regions, and values that are dear and that several kernels read, or one
reads over and over. Floating work beyond what one kernel should hold is cut into segments of the
order, whose values cross from one kernel to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphc.codegen.fuse.cost import MOST_COST, RECOMPUTE_COST, cost_of
from graphc.codegen.fuse.group import Group
from graphc.codegen.fuse.partition import Partition
from graphc.codegen.fuse.parts import PARTS_TOGETHER, makes_few, without_ones, woven_shape
from graphc.codegen.fuse.placing import READS_ARRAYS, SOURCE_SEARCH
from graphc.codegen.fuse.reading import (
    RENAMING,
    beneath,
    moves,
    renames,
    result_shape,
    windowed_sources,
)
from graphc.codegen.fuse.reduced_products import lanes_of
from graphc.codegen.fuse.repeated import readings
from graphc.dims import product
from graphc.lowering import Contract, Elementwise, Gather, Nest, Reduce, Region, Scatter, View
from graphc.node import Node
from graphc.ops.operands import constant_op
from graphc.ops.special import cast_op, project_op
from graphc.types import Shape, TupleType

# Unrelated values of one shape that one kernel stores.
MOST_TOGETHER = 8
# Elements of short values.
FEW_ELEMENTS = 64
# A gather that reads every element so often, on average, is given an array in its order.
LEAST_READS = 4
# Kernels that read a floating value, told apart by name; of more only the first and last count.
MOST_READERS = 16
# Nodes looked at to tell what a value is made of.
ELEMENTS_SEARCH = 512
NOBODY: frozenset[Group] = frozenset()


def store(partition: Partition, order: Sequence[Node], outputs: Sequence[Node]) -> None:
    """Open groups for floating values that must be stored: outputs, operands of regions, dear
    shared values, and what one segment of the order needs of another.
    """
    readers = _readers(partition, order)
    segments = _segments(partition, order)
    for group in partition.groups if not segments else ():
        if group.kind == "parts":
            group.woven = woven_shape(group, partition.parts(group.members[0]))
    crossing = _crossing(order, segments)
    must: set[Node] = set(outputs)
    cost: dict[Node, int] = {}  # of computing a floating value once more, up to what is stored
    most_work = partition.tactics.most_work
    moved: set[Node] = set()  # read a floating value at other positions, so work may repeat
    elsewhere: set[Node] = set()  # read elements, from anywhere, of what is stored for them
    repeated = {} if segments else readings(partition, order)
    for node in order:
        form = node.op.lowering
        if node in partition.group_of:
            if isinstance(form, Gather) and _is_read_over(partition, node):
                _ground_one(partition, node.args[0])
            else:
                must.update(_operands_in_memory(partition, node, cost, bool(segments)))
            continue
        if partition.is_external(node) or node in partition.remade:
            continue
        own = cost_of(node.op)
        total, most = own, 0
        for argument in node.args:
            below = cost.get(argument, 0)
            total += below
            if below > most:
                most = below
        if total > MOST_COST:
            total = MOST_COST
        cost[node] = total
        if not isinstance(form, Elementwise) and most > RECOMPUTE_COST:
            if moves(node):
                moved.add(node)
            if isinstance(form, Gather) and cost.get(node.args[0], 0) > RECOMPUTE_COST:
                must.add(beneath(node.args[0]))  # a reshape finds its elements there
                elsewhere.add(node)
        if moved and not moved.isdisjoint(node.args):
            moved.add(node)
        dear, endless = own and total > RECOMPUTE_COST, total > most_work
        if dear and (node in crossing or _is_shared(partition, node, readers)):
            must.add(node)
        elif dear and _saves_repeating(partition, node, total, repeated):
            must.add(node)
            elsewhere.update(user for user in partition.users[node] if moves(user))
        elif endless and node in moved and node.op is not project_op:
            if partition.dependencies[node]:
                _ground_one(partition, node)
            else:
                must.add(node)  # with others of its shape
        else:
            continue
        cost[node] = 0
        moved.discard(node)
    _ground_all(partition, order, must, set(outputs), segments, elsewhere)


def _operands_in_memory(
    partition: Partition, node: Node, cost: Mapping[Node, int], long: bool
) -> Iterator[Node]:
    """What the kernel of a node reads that must be stored, though it could float. `cost` is that of
    computing a floating value once more; in a `long` program one kernel makes all parts of arrays.
    """
    form = node.op.lowering
    if isinstance(form, Region):
        yield from node.args
    elif isinstance(form, (Contract, Scatter)):
        # what is scattered into is computed once, where the result goes
        several = _read_repeatedly(partition, node)
        yield from (a for a in several if cost.get(a, 0) > RECOMPUTE_COST)
        if isinstance(form, Contract):
            yield from (a for a in several if _is_made_apart(partition, a) and cost.get(a, 0))
        else:  # it may then be written over the old array
            yield from (a for a in several if _looks_at(partition, a, node.args[0]))
        least = 0 if partition.tactics.stores_windowed else RECOMPUTE_COST
        yield from (a for a in windowed_sources(node) if cost.get(a, 0) > least)
    elif isinstance(form, Nest):
        yield from (node.args[i] for i in form.stored)
        if form.alone is not None and form.alone(node.args[0].ndim, **node.attrs):
            yield from (a for a in node.args if cost.get(a, 0) > RECOMPUTE_COST)
    elif partition.group_of[node].woven is not None:
        return  # one kernel computes all columns, where they go
    elif isinstance(form, View):  # parts of an array are made together
        least = 0 if long else RECOMPUTE_COST
        yield from (a for a in map(beneath, node.args) if cost.get(a, 0) > least)


def _read_repeatedly(partition: Partition, node: Node) -> Sequence[Node]:
    """The arguments of a product, or of a scatter, whose elements its kernel may need several
    times, or in an order that is not theirs.
    """
    if isinstance(node.op.lowering, Scatter):
        return node.args[1:]
    axes = partition.group_of[node].reduced
    lanes = None if axes is None else lanes_of(node, axes, partition.tactics)
    return node.args if lanes is None else (node.args[1 - lanes],)


def _is_read_over(partition: Partition, node: Node) -> bool:
    """Whether a gather reads all of what a kernel made several times, but not as it lies in memory.
    """
    source = node.args[0]
    form = source.op.lowering
    if not isinstance(form, View) or partition.alias(source) is not source:
        return False
    if not partition.dependencies.get(source) or source in partition.group_of:
        return False
    read, held = product(node.shape), product(source.shape)
    known = isinstance(read, int) and isinstance(held, int)
    return known and read >= LEAST_READS * held  # type: ignore[operator]


def _looks_at(partition: Partition, node: Node, array: Node) -> bool:
    """Whether a floating value is made of an array in memory, as far as is soon found."""
    source = partition.alias(array)
    stack, seen = [node], {node}
    while stack and len(seen) < SOURCE_SEARCH:
        current = stack.pop()
        if current is source:
            return True
        fresh = [a for a in current.args if a not in seen] if partition.floats(current) else []
        seen.update(fresh)
        stack += fresh
    return bool(stack)


def _is_made_apart(partition: Partition, operand: Node) -> bool:
    """Whether arithmetic in front of a product is done in lanes, before, rather than one by one
    while the operand is packed. Conversions are not: they would make it larger.
    """
    size = product(operand.shape)
    small = isinstance(size, int) and size <= partition.tactics.made_apart
    return small and operand.op is not cast_op


def _segments(partition: Partition, order: Sequence[Node]) -> dict[Node, int]:
    """Runs of the order of at most `most_floating` work, numbered; empty if there is little.
    """
    segments: dict[Node, int] = {}
    number = work = total = 0
    most, floats = partition.tactics.most_floating, partition.floats
    for node in order:
        if not floats(node):
            continue
        own = cost_of(node.op)
        total += own
        work += own
        if work > most:
            number, work = number + 1, own
        segments[node] = number
    return segments if total > partition.tactics.most_work else {}


def _crossing(order: Sequence[Node], segments: dict[Node, int]) -> set[Node]:
    """Floating values that other floating ones of another segment or another shape read,
    directly or through views.
    """
    crossing: set[Node] = set()
    if not segments:
        return crossing
    read_by: dict[Node, object] = {}  # by what a value is read: one home, or several
    several = object()
    homes: dict[object, object] = {}  # one object for all that are equal
    for node in reversed(order):
        number = segments.get(node)
        if number is None:
            continue
        read = read_by.get(node)
        if cost_of(node.op) == 0:  # a view is computed where it is read
            home = read
        else:
            home = (result_shape(node), number)
            home = homes.setdefault(home, home)
            if read is not None and read is not home:
                crossing.add(node)
        for argument in node.args if home is not None else ():
            if read_by.setdefault(argument, home) is not home:
                read_by[argument] = several
    return crossing


def _readers(partition: Partition, order: Sequence[Node]) -> dict[Node, frozenset[Group]]:
    """The groups that compute or read each node, through whatever floats in between; of very
    many only the first and the last.
    """
    readers: dict[Node, frozenset[Group]] = {}
    for node in reversed(order):
        if node in partition.group_of:
            readers[node] = frozenset((partition.group_of[node],))
            continue
        users = partition.users.get(node, ())
        first = readers[users[0]] if users else NOBODY
        for user in users:
            if readers[user] is not first:
                sets = {readers[user] for user in users}
                # nodes that the same kernels read share the set
                first = sets.pop() if len(sets) == 1 else _few(frozenset().union(*sets))
                break
        readers[node] = first
    return readers


def _is_shared(partition: Partition, node: Node, readers: dict[Node, frozenset[Group]]) -> bool:
    """Whether storing a floating value saves work: several kernels read it, or one reads it
    over and over.

    Of a chain that the same kernels read, only the last value is stored.
    """
    mine, shape = readers[node], result_shape(node)
    if shape != () and any(_goes_over_others(group, shape) for group in mine):
        return True
    if len(mine) < 2:
        return False
    owners = partition.group_of
    for user in partition.users.get(node, ()):
        theirs = readers[user]
        if user in owners or theirs is not mine and theirs != mine:
            return True
    return False


def _saves_repeating(
    partition: Partition, node: Node, cost: int, repeated: Mapping[Node, float]
) -> bool:
    """Whether storing a floating value saves more work, where it is read repeatedly, than memory
    takes.
    """
    if node not in repeated or partition.dependencies[node] or node.op is project_op:
        return False
    least = max(RECOMPUTE_COST, partition.tactics.remade_cost)
    return cost * (repeated[node] - 1) > least


def _ground_all(
    partition: Partition,
    order: Sequence[Node],
    must: set[Node],
    outputs: set[Node],
    segments: dict[Node, int],
    elsewhere: set[Node],
) -> None:
    """Store what must be, several values of one shape in one kernel where none of them waits
    for a kernel, or reads `elsewhere` what another has stored.

    The values of one segment share most of their work: one kernel stores them all.
    """
    chosen: dict[Node, None] = {}
    sums = {} if segments else _sums_in_parts(partition)
    for node in order:
        literal = node.op is constant_op and node not in outputs
        if node not in must or literal or not partition.floats(node):
            continue
        if partition.alias(node) is not node:
            continue
        if partition.dependencies[node]:
            continue  # a view of what a kernel makes: copied when that is done
        if isinstance(node.type, TupleType) or node.op is project_op:
            _ground_one(partition, node)
        else:
            source = _computed_as(partition, node)
            if not (sums and _joins_one(partition, source, sums, must)):
                chosen[source] = None
    together: dict[tuple[Shape, int, int], list[Node]] = {}
    waits = _waits(partition, order, set(chosen), elsewhere)
    for node in chosen:
        key = (result_shape(node), waits[node], segments.get(node, 0))
        together.setdefault(key, []).append(node)
    for (shape, *_), nodes in together.items():
        most = (None if segments else most_together(shape)) or len(nodes)
        for start in range(0, len(nodes), most):
            group = Group("nest", shape, nodes[start : start + most])
            group.reasons.append("stored: outputs, or values that several kernels need")
            partition.add(group)
            partition.group_of.update(dict.fromkeys(group.members, group))


def _computed_as(partition: Partition, node: Node) -> Node:
    """What a kernel computes for a node that is to be stored: if that is a reshape of arithmetic,
    its elements lie the same way in memory, and at the indices of the arithmetic nothing has to be
    divided to find its operands (a Kronecker product is an outer product, reshaped).
    """
    source = beneath(node)
    arithmetic = isinstance(source.op.lowering, Elementwise) and partition.floats(source)
    return source if arithmetic else node


def _sums_in_parts(partition: Partition) -> dict[Group, set[Node]]:
    """The kernels that add up, in parts, an array of many elements, where those may write others,
    and the arrays that each reads.
    """
    tactics = partition.tactics
    found: dict[Group, set[Node]] = {}
    for group in partition.groups if tactics.sums_take_outputs else ():
        if group.kind != "nest" or group.reduced is None or group.work > tactics.most_work:
            continue
        if tactics.has_parts(group.domain, group.reduced):
            added = [each.args[0] for each in group.members if isinstance(each.op.lowering, Reduce)]
            found[group] = _elements_read(partition, added)
    return found


def _joins_one(
    partition: Partition, node: Node, sums: Mapping[Group, set[Node]], must: set[Node]
) -> bool:
    """Give a value to one that adds up what is made of the same elements: they are read once, and
    what both compute of them is computed once.
    """
    mine = _elements_read(partition, [node])
    for group, read in sums.items():
        if group.domain != result_shape(node) or read.isdisjoint(mine):
            continue
        together = _with_its_readers(partition, node, group, must)
        stored = [each for each in group.members if not isinstance(each.op.lowering, Reduce)]
        if len(stored) + len(together) > MOST_TOGETHER:
            continue
        for member in together:
            group.members.append(member)
            group.stages[member] = 0
            group.fused.setdefault(READS_ARRAYS, []).append(member.op.name)
            partition.group_of[member] = group
            partition.dependencies[member] = frozenset((group,))
        if together:
            return True
    return False


def _with_its_readers(
    partition: Partition, node: Node, group: Group, must: set[Node]
) -> list[Node]:
    """A value and all that must be stored and is made of it, if the group can write all of that:
    nobody else waits for the group then. None of them if it cannot.
    """
    found, stack, seen = [node], [node], {node}
    while stack:
        for user in partition.users.get(stack.pop(), ()):
            owner = partition.group_of.get(user)
            if user in seen or owner is group:
                continue
            seen.add(user)
            renamed = user.op in RENAMING and renames(user)
            alike = isinstance(user.op.lowering, Elementwise) and result_shape(user) == group.domain
            if owner is not None or len(seen) > ELEMENTS_SEARCH or not (renamed or alike):
                return []
            if alike and user in must:
                if not _elements_read(partition, [user]):
                    return []
                found.append(user)
            stack.append(user)
    return found


def _elements_read(partition: Partition, nodes: Sequence[Node]) -> set[Node]:
    """The arrays in memory that nodes of one shape read at their own index; none if there is more
    to find than is soon looked at, or if elements are read elsewhere, as views do: loops that are
    made for them are not those of a sum.
    """
    stack, seen = list(nodes), set(nodes)
    found: set[Node] = set()
    while stack:
        current = stack.pop()
        if partition.is_external(current):
            found.add(current)
        elif isinstance(current.op.lowering, Elementwise):
            fresh = [argument for argument in current.args if argument not in seen]
            seen.update(fresh)
            stack += fresh
        elif current.op not in RENAMING and current.op is not constant_op:
            return set()
        if len(seen) > ELEMENTS_SEARCH:
            return set()
    return found


def most_together(shape: Shape) -> int | None:
    """How many values of a shape one kernel stores: long ones are streams of memory; of short ones
    most that crosses from kernel to kernel, and is computed twice, would be theirs. None: any.
    """
    size = product(shape)
    if size == 1:
        return None
    return PARTS_TOGETHER if isinstance(size, int) and size <= FEW_ELEMENTS else MOST_TOGETHER


def _waits(
    partition: Partition, order: Sequence[Node], chosen: set[Node], elsewhere: set[Node]
) -> dict[Node, int]:
    """How many kernels, each of another shape than the next or read `elsewhere` by it, must run
    before one that stores a chosen node. Nodes of one shape and one number of waits never wait for
    each other through another kernel, and none computes again what another has stored.
    """
    waits: dict[Node, tuple[int, object]] = {}  # and what kind of kernel was waited for last
    nothing: tuple[int, object] = 0, None
    for node in order:
        found = nothing
        for argument in node.args:
            below = waits.get(argument)
            if below is None or below is found or below[0] < found[0]:
                continue
            several = below[0] == found[0] and found is not nothing and below[1] != found[1]
            found = (below[0], "several") if several else below
        if node in elsewhere and found is not nothing:
            found = (found[0], "elsewhere")
        if node in chosen or node in partition.group_of:
            mine: object = result_shape(node) if node in chosen else id(node)
            waits[node] = (found[0] + (found is not nothing and found[1] != mine), mine)
        elif found is not nothing:
            waits[node] = found
    return {node: waits[node][0] for node in chosen}


def _ground_one(partition: Partition, node: Node) -> None:
    if node.op is project_op and isinstance(node.args[0].op.lowering, Region):
        return
    if node.op is project_op:
        node = node.args[0]
        if node in partition.group_of:
            return
    group = Group("nest", result_shape(node))
    group.needs |= partition.dependencies[node]
    group.members.append(node)
    group.reasons.append(f"{node.op.name} stored: several kernels or a region need it")
    partition.add(group)
    partition.group_of[node] = group


def _few(groups: frozenset[Group]) -> frozenset[Group]:
    """The set, or the first and the last of one that is too large to be carried along."""
    if len(groups) <= MOST_READERS:
        return groups
    ordered = sorted(groups, key=lambda group: group.number)
    half = MOST_READERS // 2
    return frozenset((*ordered[:half], *ordered[-half:]))


def _goes_over_others(group: Group, shape: Shape) -> bool:
    """Whether a kernel may need an element of a value of that shape several times."""
    if group.woven is not None and group.woven == without_ones(shape):
        return False
    return group.domain != shape and not makes_few(group)
