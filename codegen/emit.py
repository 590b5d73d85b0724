"""How is a group of nodes written as a kernel?  A loop nest chosen by shape.

- no reduction: rows in parallel, lanes along the last axis; or one flat run of elements when every
  operand is read at its own index;
- a reduction over the last axis: *row mode*, rows in parallel, a vector loop with accumulators for
  each stage;
- a reduction that leaves the last axis: *column mode*, lanes along the last axis, serial loops over
  what is reduced;
- few results from many elements: parts in parallel, and a second kernel that combines them in
  order;
- rows that are reduced while all of them are: parts of the rows in parallel, what reduces all
  carried from row to row, and kernels that combine the parts;
- loops of the op's own (`Nest`): the op writes them, with the builder of `nest`.

A *stage* is one pass over the reduced axes; what a stage reduces is available to the next. A dear
value that several stages need goes to scratch that is private to the worker. Values themselves are
written by `reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import dtypes
from graphc.codegen import loops
from graphc.codegen.fuse import (
    MOST_CARRIED,
    MOST_TOGETHER,
    RECOMPUTE_COST,
    Group,
    Part,
    Partition,
    is_row_member,
    parts_of,
    reads_at,
    result_shape,
    splits,
    streams,
    variables,
)
from graphc.codegen.loops import CHUNK, Region, plain_operand, tabled_operand
from graphc.codegen.nest import NestBuilder
from graphc.codegen.program import Launch, Operand, Storage
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Accumulator, LoopBuilder, Scope, Value
from graphc.dims import (
    Dim,
    Extent,
    affine,
    ceildiv,
    dim_max,
    dim_min,
    product,
    substitute,
    symbols_of,
)
from graphc.lowering import Elementwise, Gather, Generate, Nest, Reduce, Scatter
from graphc.node import Node
from graphc.ops.contract import free_axes
from graphc.ops.gather import lookup
from graphc.ops.operands import constant_op
from graphc.ops.special import project_op
from graphc.types import Shape, TupleType

# Elements in one part of a split reduction.
PART = 8192
# Terms that are summed before the sum is added to what came before: in lanes, and one by one. Sums
# of sums round less often: the error grows with the longest chain of additions, not with the terms.
SUMMED_IN_LANES = 4096
SUMMED_IN_ORDER = 128
# Work of the mathematical procedures of one kernel, in additions, beyond which they are called.
MOST_COPIED = 75
# Lanes of a tile in column mode.
TILE = 256
# Numbers that one kernel writes into an array of many.
PARTS_TOGETHER = 64
# Arrays of so many elements that are read across their rows are read in tiles, of so many elements
# of each of so many rows.
TURNED_ELEMENTS = 1 << 16
TURNED_LINE = 32
TURNED_LANES = 32
# Rows of at most so many elements are short.
NARROW = 128
# Parts of the rows, where results are carried from row to row within each.
LEAST_PARTS = 16

CHECK_FAILED = 3


class Emitter:
    """Writes the kernels of one group."""

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
        self.flat: Index | None = None
        self.flat_variable: Extent = 0
        self.frame: tuple[Shape, Part] | None = None  # the array of which a part is stored
        self.members = set(group.members)
        self._readable: dict[Node, Operand | None] = {}

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
        return None if source in self.members and source not in self.written else place

    def row_value(self, node: Node) -> Value | None:
        """The value of a member that has one for each row, once it is computed."""
        return self.rows.get(node)

    def flat_index(self, index: Index, shape: Shape, operand: Operand) -> Extent | None:
        """The position in memory of a read at the nest's own index, when the nest is flat."""
        same = self.flat is not None and index == self.flat and shape == self.group.domain
        if not same or operand.storage.strided:
            return None
        return self.flat_variable

    # -- choosing a nest ---------------------------------------------------------------------------

    def launches(self) -> list[Launch]:
        """The launches that compute the group."""
        group = self.group
        if group.kind == "contract":
            return self._contract()
        if group.kind == "scatter":
            return self._scatter()
        if group.kind == "own":
            return self._own()
        if group.kind == "check":
            return self._check()
        if group.kind == "parts":
            return self._parts()
        if not any(isinstance(m.op.lowering, Reduce) for m in group.members):
            return self._unless_empty(list(self._results()), group.domain)
        if splits(group.domain, group.reduced or ()):
            return self._split()
        if group.carried or self._works_in_blocks():
            return self._by_parts()
        return [self._reduce()]

    def draft(self, title: str = "") -> Draft:
        """A new kernel, which calls what a large one should not hold copies of."""
        return Draft(title or self.title(), Scope(calls_routines=self._is_dear()))

    def _is_dear(self) -> bool:
        """Whether copies of mathematical procedures would be most of a large kernel."""
        copied = 0
        stack, seen = list(self.group.members), set(self.group.members)
        while stack:
            node = stack.pop()
            form = node.op.lowering
            if isinstance(form, Elementwise) and form.cost > RECOMPUTE_COST:
                copied += form.cost
                if copied > MOST_COPIED:
                    return True
            for argument in node.args:
                if argument not in seen and self.readable(argument) is None:
                    seen.add(argument)
                    stack.append(argument)
        return False

    def title(self) -> str:
        names: dict[str, None] = {}
        for member in self.group.members:
            names.setdefault(member.op.name)
        return "_".join(list(names)[:6])

    def reason(self) -> str:
        return "; ".join(self.group.reasons)

    def _results(self) -> Iterator[tuple[Node, Operand]]:
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

    def copy(self, copies: Sequence[tuple[Node, Operand]]) -> list[Launch]:
        """A kernel that writes the values of any nodes of one shape to memory."""
        return self._unless_empty(copies, copies[0][0].shape)

    def _parts(self) -> list[Launch]:
        """Kernels that write the parts of an array where they belong, one for each part, or for
        several of one shape that lie in one piece. Some may have been made there.
        """
        node = self.group.members[0]
        place = self.place(node)
        if place is None:
            return []
        launches: list[Launch] = []
        together: dict[Shape, list[tuple[Node, Operand]]] = {}
        for part in parts_of(node):
            source = node.args[part.argument]
            where = part_operand(node, part, place)
            if where is None:
                writer = Emitter(
                    self.partition, Group("nest", source.shape), self.place, self.number
                )
                writer.frame = (node.shape, part)
                launches += writer.copy([(source, place)])
                continue
            made = self.place(source)
            if made is None or made.storage is not where.storage or made.offset != where.offset:
                together.setdefault(source.shape, []).append((source, where))
        for shape, copies in together.items():
            most = PARTS_TOGETHER if product(shape) == 1 else MOST_TOGETHER
            for start in range(0, len(copies), most):
                writer = Emitter(self.partition, Group("nest", shape), self.place, self.number)
                launches += writer.copy(copies[start : start + most])
        for launch in launches:
            launch.nodes, launch.reason = self.group.members, "one of many parts"
        return launches

    def _unless_empty(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape
    ) -> list[Launch]:
        """An element-wise launch, or none where there are no elements: their indices mean nothing.
        """
        return [] if product(domain) == 0 else [self._elementwise(results, domain)]

    # -- no reduction ------------------------------------------------------------------------------

    def _elementwise(self, results: Sequence[tuple[Node, Operand]], domain: Shape) -> Launch:
        draft = self.draft()
        nodes = [node for node, _ in results]
        if not domain:
            with draft.scope.loop("parallel", 0, 1, "p") as once:
                self._store_all(Reader(self, draft, once.body), results, ())
            return draft.launch(1, 1, self.group.members, self.reason())
        flat = self._is_flat(nodes, domain)
        turned = None if flat else self._turned_axis(nodes, domain)
        if turned is not None:
            return self._tiled(results, domain, turned)
        shape: Shape = (product(domain),) if flat else domain
        rows, columns = product(shape[:-1]), shape[-1]
        tiles = 1 if isinstance(columns, int) and columns <= CHUNK else ceildiv(columns, CHUNK)
        tasks = rows * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            row = draft.simplify(p // tiles)
            start = draft.simplify(p % tiles) * CHUNK
            lead = unravel(row, shape[:-1], draft.bounds)
            stop = columns if tiles == 1 else dim_min(columns, start + CHUNK)
            with outer.body.loop("vector", start, stop) as lanes:
                i = draft.bind(lanes.variable, 0, columns)
                index: Index = (*lead, i)
                if flat:
                    self.flat = index = unravel(i, domain, draft.bounds)
                    self.flat_variable = i
                self._store_all(Reader(self, draft, lanes.body), results, index)
        inner = columns if tiles == 1 else CHUNK
        return draft.launch(tasks, inner, self.group.members, self.reason())

    def _turned_axis(self, nodes: Sequence[Node], domain: Shape) -> int | None:
        """The axis along which a large array is read in the order of its memory, if that is not the
        last one; None if there is no such array.
        """
        last = len(domain) - 1
        total = product(domain)
        if last < 1 or (isinstance(total, int) and total < TURNED_ELEMENTS):
            return None
        index = variables(len(domain))
        stack: list[tuple[Node, Index]] = [(node, index) for node in nodes]
        seen = set(stack)
        while stack:
            node, at = stack.pop()
            if self.readable(node) is not None:
                turned = self._read_across(at, index, domain)
                if turned is not None:
                    return turned
                continue
            for pair in reads_at(node, at):
                if pair not in seen:
                    seen.add(pair)
                    stack.append(pair)
        return None

    def _read_across(self, at: Index, index: Index, domain: Shape) -> int | None:
        """The axis of the domain along which an array that is read at `at` is read in order, where
        the last axis of the domain steps from row to row.
        """
        *rows, place = at or (0,)
        lane = str(index[-1])
        if lane in symbols_of(place) or lane not in _names(rows):
            return None
        for axis, extent in enumerate(domain[:-1]):
            along = affine(place, str(index[axis]))
            if along is not None and along[0] == 1:
                return axis if not isinstance(extent, int) or extent >= TURNED_LINE else None
        return None

    def _tiled(
        self, results: Sequence[tuple[Node, Operand]], domain: Shape, turned: int
    ) -> Launch:
        """Tiles of two axes, so that lines of memory that run along one of them are used whole
        while they are near.
        """
        draft = self.draft()
        last = len(domain) - 1
        others = tuple(axis for axis in range(last) if axis != turned)
        across = ceildiv(domain[last], TURNED_LANES)
        down = ceildiv(domain[turned], TURNED_LINE)
        tasks = product(domain[axis] for axis in others) * down * across
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(
                draft.simplify(p // (down * across)),
                tuple(domain[axis] for axis in others),
                draft.bounds,
            )
            tile = draft.simplify(p % (down * across))
            top = draft.simplify(tile // across) * TURNED_LINE
            left = draft.simplify(tile % across) * TURNED_LANES
            with outer.body.loop("serial", top, dim_min(domain[turned], top + TURNED_LINE)) as row:
                i = draft.bind(row.variable, 0, domain[turned])
                right = dim_min(domain[last], left + TURNED_LANES)
                with row.body.loop("vector", left, right) as lanes:
                    j = draft.bind(lanes.variable, 0, domain[last])
                    index = _placed((turned, last), (i, j), lead, len(domain))
                    self._store_all(Reader(self, draft, lanes.body), results, index)
        inner = dim_min(domain[last], TURNED_LANES) * dim_min(domain[turned], TURNED_LINE)
        return draft.launch(tasks, inner, self.group.members, self.reason())

    def _store_all(
        self, reader: Reader, results: Sequence[tuple[Node, Operand]], index: Index
    ) -> None:
        for member in self.group.members:  # in order, so that nothing nests deeply
            if not isinstance(member.op.lowering, Reduce):
                reader.value(member, index)
        for node, operand in results:
            self._store(reader, node, operand, index)

    def _store(self, reader: Reader, node: Node, operand: Operand, index: Index) -> None:
        value = reader.value(node, index)
        flat = None if self.frame else self.flat_index(index, node.shape, operand)
        shape, at = (node.shape, index) if flat is None else ((product(node.shape),), (flat,))
        if self.frame:
            shape, part = self.frame
            at = tuple(i + part.start if axis == part.axis else i for axis, i in enumerate(index))
        buffer = reader.draft.buffer(operand, shape)
        located, args = reader.draft.located(at)
        reader.scope.store(buffer, located, value, args)

    def _is_flat(self, nodes: Sequence[Node], domain: Shape) -> bool:
        """Whether every array is read at the domain's own index, or is a single element."""
        if len(domain) < 2:
            return False
        index = variables(len(domain))
        members = [member for member in self.group.members if result_shape(member) == domain]
        stack: list[tuple[Node, Index]] = [(node, index) for node in (*nodes, *members)]
        seen = set(stack)
        while stack:
            node, at = stack.pop()
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

    # -- reductions --------------------------------------------------------------------------------

    def _stages(self) -> tuple[dict[Node, int], dict[Node, int]]:
        """For full members the stage in which they can be computed; for row members the stage after
        which.
        """
        group = self.group
        full: dict[Node, int] = {}
        row: dict[Node, int] = {}
        for member in group.members:
            if self._carried_rows(member):
                continue  # accumulated when the row is done
            level = 0
            start = variables(
                len(
                    member.args[0].shape
                    if isinstance(member.op.lowering, Reduce)
                    else result_shape(member)
                )
            )
            for other, _ in self.partition.reads(member, start):
                level = max(level, row.get(other, full.get(other, 0)))
            if member in group.carried:
                full[member] = level
            elif isinstance(member.op.lowering, Reduce):
                full[member] = level
                row[member] = level + 1
            elif is_row_member(member, group):
                row[member] = level
            else:
                full[member] = level
        return full, row

    def _reduce(self) -> Launch:
        group = self.group
        reduced = group.reduced or ()
        last = len(group.domain) - 1
        if last in reduced:
            return self._row_mode()
        return self._column_mode()

    def _row_mode(self) -> Launch:
        """Rows in parallel; each stage a vector loop over the last axis inside serial loops over
        the other reduced ones.
        """
        group = self.group
        draft = self.draft()
        tasks = product(group.kept)
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            kept = unravel(p, group.kept, draft.bounds)
            self._run_stages(draft, outer.body, kept, vector=True)
        inner = product(group.domain[axis] for axis in group.reduced or ())
        return draft.launch(tasks, inner, group.members, self.reason())

    def _column_mode(self) -> Launch:
        """Lanes along the last axis, which stays; each stage serial loops over the reduced axes."""
        group = self.group
        draft = self.draft()
        columns = group.kept[-1]
        tiles = 1 if isinstance(columns, int) and columns <= TILE else ceildiv(columns, TILE)
        tasks = product(group.kept[:-1]) * tiles
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // tiles), group.kept[:-1], draft.bounds)
            start = draft.simplify(p % tiles) * TILE
            stop = columns if tiles == 1 else dim_min(columns, start + TILE)
            with outer.body.loop("vector", start, stop) as lanes:
                j = draft.bind(lanes.variable, 0, columns)
                self.lane_offset = j - start
                self._run_stages(draft, lanes.body, (*lead, j), vector=False)
        inner = product(group.domain[axis] for axis in group.reduced or ()) * dim_min(columns, TILE)
        return draft.launch(tasks, inner, group.members, self.reason())

    lane_offset: Extent = 0

    def _run_stages(self, draft: Draft, scope: Scope, kept: Index, vector: bool) -> Reader:
        """Emit every stage into `scope`, where one row (or lane) with index `kept` is at hand.

        Returns the reader of what there is one of for each row.
        """
        group = self.group
        full, row = self._stages()
        results = list(self._results())
        targets = self._targets(full)
        stages = len(targets)
        needs = [self._needed(stage) for stage in targets]
        kept_for_later = self._worth_saving(needs)
        rows = Reader(self, draft, scope)
        for stage, members in enumerate(targets):
            for member in group.members:  # row members that the finished stages allow
                if row.get(member) == stage and not isinstance(member.op.lowering, Reduce):
                    self._finish_row(rows, member, kept, results)
            if members:
                saving = [n for n in needs[stage] if n in kept_for_later and n not in self.saved]
                self._stage(rows, members, saving, kept, vector, results)
        for member in group.members:
            if row.get(member) == stages and not isinstance(member.op.lowering, Reduce):
                self._finish_row(rows, member, kept, results)
        for node, operand in results:
            if node in self.rows and isinstance(node.op.lowering, Reduce):
                self._store(rows, node, operand, kept)
        return rows

    def _targets(self, full: dict[Node, int]) -> list[list[Node]]:
        """For each stage the reductions of it, and the full members that are stored in it."""
        results = list(self._results())
        stages = 1 + max(full.values(), default=0)
        targets: list[list[Node]] = [[] for _ in range(stages)]
        for member in self.group.members:
            if member in full and (
                isinstance(member.op.lowering, Reduce) or self._placed(member, results)
            ):
                targets[full[member]].append(member)
        return targets

    def _placed(self, member: Node, results: list[tuple[Node, Operand]]) -> bool:
        return any(
            node is member or (node.op is project_op and node.args[0] is member)
            for node, _ in results
        )

    def _finish_row(
        self, rows: Reader, member: Node, kept: Index, results: list[tuple[Node, Operand]]
    ) -> None:
        value = rows.value(member, kept)
        if not isinstance(value, tuple):
            self.rows[member] = value
        for node, operand in results:
            if node is member or (node.op is project_op and node.args[0] is member):
                self._store(rows, node, operand, kept)

    def _needed(self, members: Sequence[Node]) -> list[Node]:
        """The full members that computing `members` evaluates, in order."""
        wanted = set(members)
        stack = list(members)
        while stack:
            node = stack.pop()
            form = node.op.lowering
            at = variables(
                len(node.args[0].shape if isinstance(form, Reduce) else result_shape(node))
            )
            for other, _ in self.partition.reads(node, at):
                if (
                    other in self.members
                    and other not in wanted
                    and not is_row_member(other, self.group)
                ):
                    wanted.add(other)
                    stack.append(other)
        return [
            m for m in self.group.members if m in wanted and not isinstance(m.op.lowering, Reduce)
        ]

    def _worth_saving(self, needs: Sequence[Sequence[Node]]) -> set[Node]:
        """Members that later stages need as well, and that would cost too much to compute once more
        each time.
        """
        last = {member: stage for stage, members in enumerate(needs) for member in members}
        saved: set[Node] = set()
        cost: dict[Node, int] = {}
        for stage, members in enumerate(needs):
            for member in members:
                if member in cost:
                    continue
                form = member.op.lowering
                own = form.cost if isinstance(form, Elementwise) else RECOMPUTE_COST + 1
                at = variables(len(result_shape(member)))
                below = [cost.get(other, 0) for other, _ in self.partition.reads(member, at)]
                cost[member] = own + sum(below)
                dear = cost[member] > RECOMPUTE_COST and not isinstance(member.type, TupleType)
                if dear and last[member] > stage:
                    saved.add(member)
                    cost[member] = 0
        return saved

    def _stage(
        self,
        rows: Reader,
        members: Sequence[Node],
        saving: Sequence[Node],
        kept: Index,
        vector: bool,
        results: list[tuple[Node, Operand]],
    ) -> None:
        """One pass over the reduced axes: accumulate, store, and save what later stages need."""
        group, draft = self.group, rows.draft
        axes = group.reduced or ()
        reducing = [m for m in members if isinstance(m.op.lowering, Reduce)]
        reductions = [m for m in reducing if m not in group.carried]
        spans = [(0, group.domain[axis]) for axis in axes]
        innermost = "vector" if vector else "serial"
        summing = any(map(_sums, reductions))
        opened, found = self._open(draft, rows.scope, axes, spans, group.domain, innermost, summing)
        index = _placed(axes, found, kept, len(group.domain))
        reader = Reader(self, draft, opened[-1].body, rows)
        pending: list[Node] = []
        targets = set(members)
        for member in self._needed(members):
            if member not in self.written:
                reader.value(member, index)
        for member in saving:
            self._save(reader, member, index, found, vector)
        for node, operand in results:
            owner = _owner(node)
            if owner in targets and not isinstance(owner.op.lowering, Reduce):
                self._store(reader, node, operand, index)
                pending.append(node)
        states: dict[Node, Accumulator] = {}
        for member in reductions:
            value = reader.value(member.args[0], index)
            states[member] = opened[-1].accumulate(_combiner(member), value)
        for member in reducing:
            if member in group.carried:
                self._carry(reader, member, tuple(found), index)
        self.rows.update(self._close(opened, states))
        self._note_written(pending)

    def _note_written(self, nodes: Sequence[Node]) -> None:
        """These members are in memory now: later stages load them."""
        self.written.update(nodes)
        self._readable.clear()

    def _save(
        self, reader: Reader, member: Node, index: Index, found: Sequence[Dim], vector: bool
    ) -> None:
        """Write a member to the worker's scratch, to be read at the same place by later stages."""
        group = self.group
        place = self.place(member)
        if place is not None:
            return  # it is stored anyway, and read back from there
        extents = [group.domain[axis] for axis in group.reduced or ()]
        shape: Shape = tuple(extents) if vector else (*extents, dim_min(group.kept[-1], TILE))
        operand = Operand(Storage("worker", member.dtype, shape))
        axes = group.reduced or ()
        offset = self.lane_offset

        def where(at: Index) -> Index:
            inside = tuple(at[axis] for axis in axes)
            return inside if vector else (*inside, offset)

        value = reader.value(member, index)
        buffer = reader.draft.buffer(operand, shape)
        located, args = reader.draft.located(where(index))
        reader.scope.store(buffer, located, value, args)
        self.saved[member] = (operand, where, shape)

    # -- reductions over the rows, while rows are reduced ------------------------------------------

    def _by_parts(self) -> list[Launch]:
        """Parts of the rows in parallel. In each part rows are reduced one after the other, as in
        row mode, and what reduces all of them is carried along; then kernels that combine the parts
        in order. So an array whose rows and columns are both reduced is read once.
        """
        group = self.group
        draft = self.draft()
        rows = product(group.kept)
        depth = _rows_of_part(rows)
        count = ceildiv(rows, depth)
        carried = [member for member in group.members if member in group.carried]
        self.partials = {m: _partial(m, count) for m in carried}
        with draft.scope.loop("parallel", 0, count, "p") as outer:
            self.part = draft.bind(outer.variable, 0, count)
            for member in carried:
                if not self._carried_rows(member):
                    self._clear(draft, outer.body, member)
            start = self.part * depth
            stop = dim_min(rows, start + depth)
            if self._works_in_blocks():
                each, states = self._run_block(draft, outer.body, start, stop, depth)
            else:
                with outer.body.loop("serial", start, stop) as each:
                    row = draft.bind(each.variable, 0, rows)
                    kept = unravel(row, group.kept, draft.bounds)
                    reader = self._run_stages(draft, each.body, kept, vector=True)
                    states = self._carry_rows(each, reader, kept)
            for member, state in states.items():
                buffer = draft.buffer(self.partials[member], (count,))
                located, args = draft.located((self.part,))
                outer.body.store(buffer, located, each.result(state), args)
        inner = depth * product(group.domain[axis] for axis in group.reduced or ())
        first = draft.launch(count, inner, group.members, self.reason())
        launches = [first]
        for shape in dict.fromkeys(member.shape for member in carried):
            alike = {m: self.partials[m] for m in carried if m.shape == shape}
            launches.append(self._combine(alike, shape, []))
        return launches

    def _carry_rows(
        self, each: LoopBuilder, reader: Reader, kept: Index
    ) -> dict[Node, Accumulator]:
        """Accumulate what reduces values of which there is one for each row."""
        members = [member for member in self.group.members if self._carried_rows(member)]
        return {
            member: each.accumulate(_combiner(member), reader.value(member.args[0], kept))
            for member in members
        }

    def _works_in_blocks(self) -> bool:
        """Whether the rows are so short that what is dear for each of them is done for a block of
        them at once, in lanes.
        """
        group = self.group
        last = len(group.domain) - 1
        width = product(group.domain[axis] for axis in group.reduced or ())
        if last not in (group.reduced or ()) or not isinstance(width, int) or width > NARROW:
            return False
        rows = [m for m in group.members if is_row_member(m, group)]
        forms = [m.op.lowering for m in rows if not isinstance(m.type, TupleType)]
        if sum(f.cost for f in forms if isinstance(f, Elementwise)) <= RECOMPUTE_COST:
            return False
        full, _ = self._stages()
        return not self._worth_saving([self._needed(stage) for stage in self._targets(full)])

    def _run_block(
        self, draft: Draft, scope: Scope, start: Extent, stop: Extent, depth: Extent
    ) -> tuple[LoopBuilder, dict[Node, Accumulator]]:
        """Every stage for all rows of a block before the next: reductions row after row, what is
        made of them in lanes, a row in each. The values of rows wait in scratch.

        Returns the last loop over rows in lanes, and what it accumulates.
        """
        group = self.group
        full, row = self._stages()
        targets, results = self._targets(full), list(self._results())
        total = product(group.kept)
        for stage in range(len(targets) + 1):
            done = [m for m in group.members if row.get(m) == stage]
            last = stage == len(targets)
            states: dict[Node, Accumulator] = {}
            if done or last:
                with scope.loop("vector", start, stop) as lanes:
                    i = draft.bind(lanes.variable, 0, total)
                    self.row_of_block = i - start
                    kept = unravel(i, group.kept, draft.bounds)
                    reader = Reader(self, draft, lanes.body)
                    for member in done:
                        value = reader.value(member, kept)
                        if not isinstance(member.op.lowering, Reduce) and not last:
                            for node, one in self._parts_of(member, value):
                                self._keep_row(draft, lanes.body, node, one, depth)
                        for node, operand in results:
                            if _owner(node) is member:
                                self._store(reader, node, operand, kept)
                    if last:
                        states = self._carry_rows(lanes, reader, kept)
            if last:
                return lanes, states
            with scope.loop("serial", start, stop) as each:
                i = draft.bind(each.variable, 0, total)
                self.row_of_block = i - start
                kept = unravel(i, group.kept, draft.bounds)
                for member, (operand, _, shape) in self.saved.items():
                    buffer = draft.buffer(operand, shape)
                    located, args = draft.located((self.row_of_block,))
                    self.rows[member] = each.body.load(buffer, located, args)
                reader = Reader(self, draft, each.body)
                self._stage(reader, targets[stage], [], kept, True, results)
                for member in targets[stage]:
                    if member in self.rows:
                        self._keep_row(draft, each.body, member, self.rows[member], depth)
                self.rows.clear()
        raise AssertionError("the last stage returns")

    row_of_block: Extent = 0

    def _parts_of(self, member: Node, value: Any) -> list[tuple[Node, Value]]:
        """The value of a member, or those of several results that somebody reads."""
        if not isinstance(member.type, TupleType):
            return [(member, value)]
        readers = self.partition.users.get(member, ())
        return [(node, value[node.attrs["index"]]) for node in readers if node.op is project_op]

    def _keep_row(
        self, draft: Draft, scope: Scope, member: Node, value: Value, depth: Extent
    ) -> None:
        """Write the value of a row to the worker's scratch, for the loops after this one."""
        if member not in self.saved:
            operand = Operand(Storage("worker", member.dtype, (depth,)))
            self.saved[member] = (operand, lambda at: (self.row_of_block,), (depth,))
        operand, _, shape = self.saved[member]
        located, args = draft.located((self.row_of_block,))
        scope.store(draft.buffer(operand, shape), located, value, args)

    partials: dict[Node, Operand]
    part: Extent = 0

    def _carried_rows(self, member: Node) -> bool:
        """Whether a member reduces what there is one of for each row."""
        return member in self.group.carried and member.args[0].shape != self.group.domain

    def _clear(self, draft: Draft, scope: Scope, member: Node) -> None:
        """Begin what is carried along in memory with the identity."""
        shape = member.shape
        axes = range(len(shape))
        spans = [(0, extent) for extent in shape]
        opened, found = self._open(draft, scope, axes, spans, shape, "vector")
        self._clear_at(draft, opened[-1].body, member, tuple(found))
        for loop in reversed(opened):
            loop.close()

    def _clear_at(self, draft: Draft, scope: Scope, member: Node, place: Index) -> None:
        operand, dtype = self.partials[member], member.dtype.name
        buffer = draft.buffer(operand, operand.storage.shape)
        located, args = draft.located((self.part, *place))
        start = scope.const(loops.identity(_combiner(member), dtype), dtype)
        scope.store(buffer, located, start, args)

    def _carry(self, reader: Reader, member: Node, place: Index, index: Index) -> None:
        """Combine the element at `index` with what earlier rows left at `place`."""
        operand = self.partials[member]
        buffer = reader.draft.buffer(operand, operand.storage.shape)
        value = reader.value(member.args[0], index)
        located, args = reader.draft.located((self.part, *place))
        held = reader.scope.load(buffer, located, args)
        value = reader.scope.emit(_combiner(member), held, value)
        reader.scope.store(buffer, located, value, args)

    # -- split reductions --------------------------------------------------------------------------

    def _split(self) -> list[Launch]:
        """Parts in parallel, each to one row of partial results; then a kernel that combines them
        in order.
        """
        parts = self._cut()
        first = self._reduce_parts(parts)
        self.flat = None
        group = self.group
        full = [n for n, _ in self._results() if not is_row_member(_owner(n), group)]
        self._note_written(full)
        rows = [m for m in group.members if is_row_member(m, group) and m not in parts.partials]
        return [first, self._combine(parts.partials, group.kept, rows)]

    def _cut(self) -> _Parts:
        """How the reduced elements are cut: along one axis, so that a part has about `PART` of
        them.
        """
        group = self.group
        reductions = [m for m in group.members if isinstance(m.op.lowering, Reduce)]
        before = [m for m in group.members if not is_row_member(m, group)]
        domain, reduced = group.domain, group.reduced or ()
        read = [*before, *(reduction.args[0] for reduction in reductions)]
        flat = not group.kept and self._is_flat(read, domain)
        shape: Shape = (product(domain),) if flat else domain
        reduced = (0,) if flat else reduced
        axis = reduced[0]
        rest = product(extent for other, extent in enumerate(shape) if other != axis)
        depth: Extent = max(1, PART // rest) if isinstance(rest, int) and rest else 1
        if streams(domain, reduced):
            others = product(domain[other] for other in reduced[1:])
            depth = dim_max(1, ceildiv(_rows_of_part(shape[axis] * others), others))
        count = ceildiv(shape[axis], depth)
        partials = {reduction: _partial(reduction, count) for reduction in reductions}
        return _Parts(before, shape, reduced, axis, depth, count, rest, flat, partials)

    def _reduce_parts(self, parts: _Parts) -> Launch:
        group = self.group
        if streams(group.domain, group.reduced or ()):
            return self._stream_parts(parts)
        draft = self.draft()
        lanes_kept = bool(group.kept) and len(parts.shape) - 1 not in parts.reduced
        lead = group.kept[:-1] if lanes_kept else group.kept
        tasks = product(lead) * parts.count
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            part = draft.simplify(p % parts.count)
            kept: Index = unravel(draft.simplify(p // parts.count), lead, draft.bounds)
            if lanes_kept:
                with outer.body.loop("vector", 0, group.kept[-1]) as lanes:
                    j = draft.bind(lanes.variable, 0, group.kept[-1])
                    self._reduce_part(draft, lanes.body, (*kept, j), part, parts, "serial")
            else:
                self._reduce_part(draft, outer.body, kept, part, parts, "vector")
        nodes = [*parts.before, *parts.partials]
        return draft.launch(tasks, parts.depth * parts.rest, nodes, self.reason())

    def _stream_parts(self, parts: _Parts) -> Launch:
        """Rows in the order of memory, each combined with what the earlier ones of its part left in
        memory; very long rows in pieces.
        """
        group = self.group
        draft = self.draft()
        lead, columns = group.kept[:-1], group.kept[-1]
        tiles = ceildiv(columns, MOST_CARRIED)
        tasks = product(lead) * parts.count * tiles
        self.partials = parts.partials
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            tile, number = draft.simplify(p % tiles), draft.simplify(p // tiles)
            self.part = draft.simplify(number % parts.count)
            before = unravel(draft.simplify(number // parts.count), lead, draft.bounds)
            first = tile * MOST_CARRIED
            span = (first, dim_min(columns, first + MOST_CARRIED))
            with outer.body.loop("vector", *span) as lanes:
                j = draft.bind(lanes.variable, 0, columns)
                for reduction in parts.partials:
                    self._clear_at(draft, lanes.body, reduction, (*before, j))
            start = self.part * parts.depth
            spans = [
                (start, dim_min(parts.shape[axis], start + parts.depth))
                if axis == parts.axis
                else (0, parts.shape[axis])
                for axis in parts.reduced
            ]
            opened, found = self._open(
                draft, outer.body, parts.reduced, spans, parts.shape, "serial"
            )
            with opened[-1].body.loop("vector", *span) as lanes:
                j = draft.bind(lanes.variable, 0, columns)
                kept = (*before, j)
                index = _placed(parts.reduced, found, kept, len(parts.shape))
                reader = Reader(self, draft, lanes.body)
                for node, operand in self._results():
                    if not is_row_member(_owner(node), group):
                        self._store(reader, node, operand, index)
                for reduction in parts.partials:
                    self._carry(reader, reduction, kept, index)
            for loop in reversed(opened):
                loop.close()
        nodes = [*parts.before, *parts.partials]
        return draft.launch(tasks, parts.depth * parts.rest, nodes, self.reason())

    def _reduce_part(
        self, draft: Draft, scope: Scope, kept: Index, part: Extent, parts: _Parts, innermost: str
    ) -> None:
        """One part: its loops, the values stored on the way, and its row of the partial results."""
        start = part * parts.depth
        spans = [
            (start, dim_min(parts.shape[axis], start + parts.depth))
            if axis == parts.axis
            else (0, parts.shape[axis])
            for axis in parts.reduced
        ]
        opened, found = self._open(draft, scope, parts.reduced, spans, parts.shape, innermost)
        index = _placed(parts.reduced, found, kept, len(parts.shape))
        if parts.flat:
            self.flat_variable = index[0]
            self.flat = index = unravel(index[0], self.group.domain, draft.bounds)
        reader = Reader(self, draft, opened[-1].body)
        for node, operand in self._results():
            if not is_row_member(_owner(node), self.group):
                self._store(reader, node, operand, index)
        states = {
            reduction: opened[-1].accumulate(
                _combiner(reduction), reader.value(reduction.args[0], index)
            )
            for reduction in parts.partials
        }
        for reduction, result in self._close(opened, states).items():
            operand = parts.partials[reduction]
            buffer = draft.buffer(operand, operand.storage.shape)
            located, args = draft.located((part, *kept))
            scope.store(buffer, located, result, args)

    def _combine(
        self, partials: dict[Node, Operand], kept_shape: Shape, rows: Sequence[Node]
    ) -> Launch:
        """Combine the partial results in order, and finish what follows from them."""
        draft = self.draft(self.title() + "_combine")
        count = next(iter(partials.values())).storage.shape[0]
        tasks = product(kept_shape[:-1])
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(p, kept_shape[:-1], draft.bounds)
            if kept_shape:
                with outer.body.loop("vector", 0, kept_shape[-1]) as lanes:
                    j = draft.bind(lanes.variable, 0, kept_shape[-1])
                    self._combine_row(draft, lanes.body, (*lead, j), partials, rows, "serial")
            else:
                self._combine_row(draft, outer.body, (), partials, rows, "vector")
        inner = count * (kept_shape[-1] if kept_shape else 1)
        why = "combines the parts of a split reduction in order"
        return draft.launch(tasks, inner, [*partials, *rows], why)

    def _combine_row(
        self,
        draft: Draft,
        scope: Scope,
        kept: Index,
        partials: dict[Node, Operand],
        rows: Sequence[Node],
        role: str,
    ) -> None:
        count = next(iter(partials.values())).storage.shape[0]
        summing = any(map(_sums, partials))
        opened, (part,) = self._open(draft, scope, (0,), [(0, count)], (count,), role, summing)
        states: dict[Node, Accumulator] = {}
        for reduction, operand in partials.items():
            buffer = draft.buffer(operand, operand.storage.shape)
            located, args = draft.located((part, *kept))
            loaded = opened[-1].body.load(buffer, located, args)
            states[reduction] = opened[-1].accumulate(_combiner(reduction), loaded)
        self.rows.update(self._close(opened, states))
        reader = Reader(self, draft, scope)
        results = list(self._results())
        for node, operand in results:
            if node in partials:
                self._store(reader, node, operand, kept)
        for member in rows:
            self._finish_row(reader, member, kept, results)

    # -- loops over reduced axes -------------------------------------------------------------------

    def _open(
        self,
        draft: Draft,
        scope: Scope,
        axes: Sequence[int],
        spans: Sequence[tuple[Extent, Extent]],
        shape: Shape,
        innermost: str,
        summing: bool = False,
    ) -> tuple[list[LoopBuilder], list[Dim]]:
        """Nested loops over `axes`; all are serial but the last, whose role is `innermost`.

        `summing`: that over a long last axis is several, over blocks of blocks, for sums of sums.
        """
        opened: list[LoopBuilder] = []
        found: list[Dim] = []
        for position, (axis, (low, high)) in enumerate(zip(axes, spans, strict=True)):
            role = innermost if position == len(axes) - 1 else "serial"
            if summing and position == len(axes) - 1:
                for block in _blocks(high - low, role):
                    count = ceildiv(high - low, block)
                    outer = scope.loop("serial", 0, count)
                    start = low + draft.bind(outer.variable, 0, count) * block
                    low, high = start, dim_min(high, start + block)
                    opened.append(outer)
                    scope = outer.body
            loop = scope.loop(role, low, high)
            found.append(draft.bind(loop.variable, 0, shape[axis]))
            opened.append(loop)
            scope = loop.body
        return opened, found

    def _close(
        self, opened: Sequence[LoopBuilder], states: dict[Node, Accumulator]
    ) -> dict[Node, Value]:
        """Close nested loops from the innermost; what an inner one accumulated, the next
        accumulates in turn.
        """
        results: dict[Node, Value] = {}
        for position in range(len(opened) - 1, -1, -1):
            opened[position].close()
            for member, state in list(states.items()):
                results[member] = opened[position].result(state)
                if position:
                    states[member] = opened[position - 1].accumulate(
                        state.combiner, results[member]
                    )
        return results

    # -- contractions ------------------------------------------------------------------------------

    def _contract(self) -> list[Launch]:
        group = self.group
        node = group.members[0]
        draft = self.draft()
        scope = draft.scope
        x, y = node.args
        axes = [
            (x, *_contract_axes(x, node.attrs["batch"][0], node.attrs["contracted"][0])),
            (y, *_contract_axes(y, node.attrs["batch"][1], node.attrs["contracted"][1])),
        ]
        left, right, shapes = self._operands(draft, axes[0], axes[1])
        turned = _reads_along_depth(right, shapes)
        if turned:  # windows whose lines lie along what is summed: those are read from the left
            left, right, shapes = self._operands(draft, axes[1], axes[0])
        sizes = batches, rows, columns, depth = [product(shape) for shape in shapes]
        epilogue_names = tuple(scope.fresh_variable("c") for _ in range(3))
        body = Scope(scope, epilogue_names)
        statement = loops.Contract(
            batches,
            rows,
            columns,
            depth,
            node.dtype.name,
            left,
            right,
            Region(epilogue_names, body),
        )
        value = Value(body, "result", (), node.dtype.name, statement)
        statement.product = value
        found: list[Index] = []
        for name, shape, size in zip(epilogue_names, shapes[:3], sizes[:3], strict=True):
            variable = draft.bind(name, 0, size)
            found.append(unravel(variable, shape, draft.bounds))
        across, down = (found[2], found[1]) if turned else (found[1], found[2])
        index: Index = (*found[0], *across, *down)
        reader = Reader(self, draft, body)
        reader.known[(node, index, None)] = value
        for member in group.members[1:]:
            reader.value(member, index)
        for result, operand in self._results():
            self._store(reader, result, operand, index)
        scope.statements.append(statement)
        tasks = sizes[0] * sizes[1] * sizes[2]
        return [draft.launch(tasks, sizes[3], group.members, self.reason())]

    def _operands(
        self, draft: Draft, first: _Factor, second: _Factor
    ) -> tuple[Region, Region, list[Shape]]:
        """The regions of both operands; the extents along the batch, rows, columns and depth."""
        x, x_batch, x_free, x_summed = first
        y, y_batch, y_free, y_summed = second
        shapes = [
            tuple(node.shape[a] for a in axes)
            for node, axes in ((x, x_batch), (x, x_free), (y, y_free), (x, x_summed))
        ]
        names = [draft.scope.fresh_variable("c") for _ in range(5)]
        left = self._operand(
            draft,
            x,
            (x_batch, x_free, x_summed),
            (shapes[0], shapes[1], shapes[3]),
            names[:3],
            across=1,
        )
        right = self._operand(
            draft,
            y,
            (y_batch, y_summed, y_free),
            (shapes[0], shapes[3], shapes[2]),
            (names[0], names[3], names[4]),
            across=2,
        )
        return left, right, shapes

    def _operand(
        self,
        draft: Draft,
        node: Node,
        axes: Sequence[tuple[int, ...]],
        shapes: Sequence[Shape],
        names: Sequence[str],
        across: int,
    ) -> Region:
        """The region that says what the element of an operand at (b, i, k) or (b, k, j) is.

        Where it must be packed, and the axis along a panel, number `across`, is several axes of
        the node, it has lines too.
        """

        def at(body: Scope, given: Sequence[Index]) -> Value:
            index: dict[int, Extent] = {}
            for group_axes, positions in zip(axes, given, strict=True):
                index.update(zip(group_axes, positions, strict=True))
            reader = Reader(self, draft, body)
            return reader.value(node, tuple(index[axis] for axis in range(node.ndim)))

        body = Scope(draft.scope, tuple(names))
        plain: list[Index] = []
        for name, shape in zip(names, shapes, strict=True):
            variable = draft.bind(name, 0, product(shape))
            plain.append(unravel(variable, shape, draft.bounds))
        region = Region(tuple(names), body, at(body, plain))
        last = _line_axis(shapes[across])
        if last is None or plain_operand(region) is not None:
            return region
        outer, length = shapes[across][:last], shapes[across][last]
        line, place = (draft.scope.fresh_variable("c") for _ in range(2))
        number = draft.bind(line, 0, product(outer))
        rest = (0,) * (len(shapes[across]) - last - 1)
        plain[across] = (
            *unravel(number, outer, draft.bounds),
            draft.bind(place, 0, length),
            *rest,
        )
        along = names[3 - across]
        variables = (names[0], line, place, along)
        inside = Scope(draft.scope, variables)
        region.lines = Region(variables, inside, at(inside, plain))
        region.length = length
        return region

    # -- an op's own loops -------------------------------------------------------------------------

    def _own(self) -> list[Launch]:
        """The kernel that the op writes itself; none if nobody reads what it would store."""
        node = self.group.members[0]
        form = node.op.lowering
        assert isinstance(form, Nest)
        places = dict(self._results())
        if not places:
            return []
        draft = self.draft()
        builder = NestBuilder(self, draft, node, places)
        form.write(builder, **node.attrs)
        return [builder.launch(self.group.members, self.reason())]

    # -- scatter and check -------------------------------------------------------------------------

    def _scatter(self) -> list[Launch]:
        """A copy of what is scattered into, then a kernel in which each task owns a tile of lanes,
        and combines the updates of those in order.
        """
        node = self.group.members[0]
        place = self.place(node)
        if place is None:
            return []
        base = node.args[0]
        copier = Emitter(self.partition, Group("nest", node.shape), self.place, self.number)
        copied = copier.copy([(base, place)])
        found = lookup(node)
        extents = found.kept_of(node.args[1].shape)
        indices = node.args[2:]
        count_shape = indices[0].shape[len(found.batch) :]
        # Windows may overlap, unless there is only one: then one task walks along them.
        alone = product(count_shape) == 1
        spread = [axis for axis in found.kept if alone or axis not in found.axes]
        walked = [axis for axis in found.kept if axis not in spread]
        shape = tuple(extents[axis] for axis in spread)
        walk = (*count_shape, *(extents[axis] for axis in walked))
        columns: Extent = shape[-1] if shape else 1
        tiles = 1 if isinstance(columns, int) and columns <= TILE else ceildiv(columns, TILE)
        tasks, count = product(shape[:-1]) * tiles, product(walk)
        if product(shape) == 0 or count == 0:
            return copied
        draft = self.draft()
        buffer = draft.buffer(place, node.shape)
        draft.scope.written.add(buffer)  # so that no load of it leaves the loop of the updates
        with draft.scope.loop("parallel", 0, tasks, "p") as outer:
            p = draft.bind(outer.variable, 0, tasks)
            lead = unravel(draft.simplify(p // tiles), shape[:-1], draft.bounds)
            start = draft.simplify(p % tiles) * TILE
            stop = columns if tiles == 1 else dim_min(columns, start + TILE)
            with outer.body.loop("vector", start, stop) as lanes:
                j = draft.bind(lanes.variable, 0, columns)
                kept = dict(zip(spread, (*lead, j) if shape else (), strict=True))
                with lanes.body.loop("serial", 0, count) as every:
                    k = draft.bind(every.variable, 0, count)
                    step = unravel(k, walk, draft.bounds)
                    inner = step[: len(count_shape)]
                    kept |= zip(walked, step[len(count_shape) :], strict=True)
                    at = found.joined([kept[axis] for axis in found.kept], inner)
                    reader = Reader(self, draft, every.body)
                    values = [reader.value(i, found.place(at)) for i in indices]
                    located, inside = reader.positions(node, values, None)
                    value = reader.value(node.args[1], at)
                    index, args = draft.located(found.source(kept, located))
                    self._combine_at(every.body, buffer, index, args, value, inside)
        inner_size = count * dim_min(columns, TILE)
        return [*copied, draft.launch(tasks, inner_size, self.group.members, self.reason())]

    def _combine_at(
        self,
        scope: Scope,
        buffer: loops.Buffer,
        index: Index,
        args: tuple[Value, ...],
        value: Value,
        mask: Value | None,
    ) -> None:
        """Store a value at a position, or what it gives together with the one that is there."""
        form = self.group.members[0].op.lowering
        assert isinstance(form, Scatter)
        if form.combiner != "set":
            held = scope.load(buffer, index, args, mask)
            value = scope.emit(form.combiner, held, value)
        scope.store(buffer, index, value, args, mask)

    def _check(self) -> list[Launch]:
        """A kernel that checks every element of the condition, and a copy of what was guarded."""
        node = self.group.members[0]
        guarded, condition = node.args
        domain = condition.shape
        draft = Draft("check")
        rows, columns = product(domain[:-1]), domain[-1] if domain else 1
        with draft.scope.loop("parallel", 0, rows, "p") as outer:
            p = draft.bind(outer.variable, 0, rows)
            lead = unravel(p, domain[:-1], draft.bounds)
            with outer.body.loop("vector", 0, columns) as lanes:
                i = draft.bind(lanes.variable, 0, columns)
                index: Index = (*lead, i) if domain else ()
                reader = Reader(self, draft, lanes.body)
                holds = reader.value(condition, index)
                lanes.body.check(holds, CHECK_FAILED, self.number(node), draft.index(lanes.body, i))
        checked = draft.launch(rows, columns, [node], self.reason())
        place = self.place(node)
        if place is None:
            return [checked]
        copier = Emitter(self.partition, Group("nest", guarded.shape), self.place, self.number)
        return [checked, *copier.copy([(guarded, place)])]


@dataclass(frozen=True)
class _Parts:
    """Split reductions: `shape` is cut along `axis` into `count` parts of `depth`; `rest` are the
    other elements.

    `before` are the members that the reductions read; `partials` hold for each reduction a row of
    results for each part.
    """

    before: list[Node]
    shape: Shape
    reduced: tuple[int, ...]
    axis: int
    depth: Extent
    count: Extent
    rest: Extent
    flat: bool
    partials: dict[Node, Operand]


def _partial(reduction: Node, count: Extent) -> Operand:
    """Memory for the results of `count` parts of a reduction."""
    return Operand(Storage("temporary", reduction.dtype, (count, *reduction.shape)))


def _combiner(reduction: Node) -> str:
    form = reduction.op.lowering
    assert isinstance(form, Reduce)
    return form.combiner


def _rows_of_part(rows: Extent) -> int:
    """How many rows one task reduces one after the other, and carries results along: as many as may
    be summed in order, fewer where there would be no work for many workers.
    """
    if not isinstance(rows, int):
        return SUMMED_IN_ORDER
    return max(1, min(SUMMED_IN_ORDER, rows // LEAST_PARTS))


def _blocks(length: Extent, role: str) -> list[int]:
    """Into blocks of how many terms a sum is cut, and those into which again; the largest first."""
    least = SUMMED_IN_LANES if role == "vector" else SUMMED_IN_ORDER
    sizes = (32 * least, least)
    return [size for size in sizes if not isinstance(length, int) or length > size]


def _sums(reduction: Node) -> bool:
    """Whether a reduction adds numbers that are rounded."""
    form = reduction.op.lowering
    return isinstance(form, Reduce) and form.combiner == "add" and dtypes.is_float(reduction.dtype)


def _owner(node: Node) -> Node:
    """The member whose result a node is: itself, or the node with several results that it projects.
    """
    return node.args[0] if node.op is project_op else node


def _placed(axes: Sequence[int], found: Sequence[Extent], kept: Index, rank: int) -> Index:
    """The full index, from that over `axes` and that over the others."""
    inner = dict(zip(axes, found, strict=True))
    left = iter(kept)
    return tuple(inner[axis] if axis in inner else next(left) for axis in range(rank))


# An argument of a contraction, and its batch, free and contracted axes.
_Factor = tuple[Node, tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _contract_axes(
    node: Node, batch: tuple[int, ...], contracted: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return batch, free_axes(node.ndim, batch, contracted), contracted


def _reads_along_depth(right: Region, shapes: Sequence[Shape]) -> bool:
    """Whether lines of a right operand that is read by tables lie along the depth of the product,
    or are longer there than along the columns, of which there are more than rows: each operand may
    be on the right, and that is the one that is packed.
    """
    _, rows, columns, depth = shapes
    tabled = tabled_operand(right)
    if tabled is None or plain_operand(right) is not None:
        return False
    many, few = product(columns), product(rows)
    if not isinstance(many, int) or not isinstance(few, int) or many <= few:
        return False
    _, along, across = right.variables
    _, part_along, part_across = tabled.parts
    return _run(part_along, along, depth) > _run(part_across, across, columns)


# How long a line of unknown length is taken to be.
_LONG_LINE = 64


def _run(part: Extent, name: str, shape: Shape) -> int:
    """How many elements that follow each other in memory a variable for axes of `shape` passes."""
    if isinstance(part, int) or substitute(part, {name: 1}) - substitute(part, {name: 0}) != 1:
        return 1
    last = next((extent for extent in reversed(shape) if extent != 1), 1)
    return last if isinstance(last, int) else _LONG_LINE


# Lines shorter than this are not worth a loop of their own.
_SHORTEST_LINE = 8


def _names(index: Sequence[Extent]) -> set[str]:
    return {name for extent in index for name in symbols_of(extent)}


def _line_axis(shape: Shape) -> int | None:
    """The last of several axes, if packing along it in lines pays; None if not."""
    real = [axis for axis, extent in enumerate(shape) if extent != 1]
    if len(real) < 2 or any(extent == 0 for extent in shape):
        return None
    length = shape[real[-1]]
    return None if isinstance(length, int) and length < _SHORTEST_LINE else real[-1]


def part_operand(node: Node, part: Part, place: Operand) -> Operand | None:
    """Where a part of an array at `place` is, if it lies in one piece there."""
    if product(node.shape[: part.axis]) != 1:
        return None
    offset = part.start * product(node.shape[part.axis + 1 :])
    return Operand(place.storage, place.offset + offset)


def copy_operand(source: Operand, target: Operand, shape: Shape) -> list[Launch]:
    """A kernel that copies a contiguous array of that shape: either may be a slice of its storage.
    """
    draft = Draft("copy")
    size = product(shape)
    tiles = 1 if isinstance(size, int) and size <= CHUNK else ceildiv(size, CHUNK)
    with draft.scope.loop("parallel", 0, tiles, "p") as outer:
        p = draft.bind(outer.variable, 0, tiles)
        start = p * CHUNK
        stop = size if tiles == 1 else dim_min(size, start + CHUNK)
        with outer.body.loop("vector", 0 if tiles == 1 else start, stop) as lanes:
            i = draft.bind(lanes.variable, 0, size)
            value = lanes.body.load(draft.buffer(source, (size,)), (i,))
            lanes.body.store(draft.buffer(target, (size,)), (i,), value)
    return [draft.launch(tiles, dim_min(size, CHUNK), [], "a state of a scan")]
