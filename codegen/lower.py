"""How does a graph become a program? Each group of nodes is emitted as a kernel; regions become
loops and calls.

`lower` partitions a closed Graph (`fuse`), emits every group as a loop nest or contraction
(`emit`), gives the values that cross kernels a storage, and plans the memory. Bodies of loops and
branches are lowered in place; those of calls once, as procedures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from graphc import dtypes, origin
from graphc.codegen import emit
from graphc.codegen.emit import copy_operand, framed_operand, part_operand
from graphc.codegen.fuse import Group, partitioned
from graphc.codegen.fuse.parts import WRITE_WHOLE, run_bytes
from graphc.codegen.fuse.reading import beneath, result_shape
from graphc.codegen.fuse.storing import most_together
from graphc.codegen.likeness import Written, signature
from graphc.codegen.loops import LINE_BYTES
from graphc.codegen.memory import ProductScratch, plan, sums_alone
from graphc.codegen.passes.blocks import run_in_blocks
from graphc.codegen.passes.carried import Rows, State, forward_copies, settle
from graphc.codegen.passes.deviations import read_once
from graphc.codegen.passes.inplace import protect
from graphc.codegen.passes.layouts import lay_out_for_readers
from graphc.codegen.passes.neighbours import take_along
from graphc.codegen.passes.next_step import ask_for_next_step
from graphc.codegen.passes.records import with_records
from graphc.codegen.passes.stretches import stretched
from graphc.codegen.passes.stripes import run_in_stripes
from graphc.codegen.passes.tiny import written_out
from graphc.codegen.passes.weights import LEAST_STEPS, Layout, laid_out
from graphc.codegen.program import (
    Call,
    Checked,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    Switch,
    While,
)
from graphc.codegen.reader import symbol
from graphc.codegen.tactics import CPU, Tactics
from graphc.dims import Dim, Extent, product
from graphc.graph import Graph, parameter_op, rebuild
from graphc.lowering import (
    Compose,
    Contract,
    Elementwise,
    Form,
    Leaf,
    Nest,
    Reduce,
    Region,
    Scatter,
    View,
)
from graphc.node import NO_ATTRIBUTES, Node
from graphc.ops.contract import free_axes
from graphc.ops.operands import cast, constant_op
from graphc.ops.special import project_op
from graphc.types import Shape, TensorType


def lower(
    graph: Graph,
    workers: int = 1,
    strided: Sequence[bool] = (),
    donated: Mapping[int, int] | None = None,
    product_scratch: ProductScratch = sums_alone,
    arrange: Callable[[Program], None] | None = None,
    tactics: Tactics | None = None,
) -> Program:
    """The program of a closed, rewritten, expanded graph.

    `strided` tells which parameters come with strides of their own; the others are C-contiguous.
    `donated` maps a parameter to the output that will be written over it. `workers` is the most
    threads that will run it, for scratch; `product_scratch` is the workspace in bytes that the
    target needs for a contraction on a number of workers; `arrange` may change the order of
    statements before the memory is planned; `tactics` are those of the target, of a CPU if none are
    given.
    """
    lowering = _Lowering(tactics)
    flags = [*strided, *[False] * (len(graph.parameters) - len(strided))]
    main = lowering.procedure(graph, "main", flags, donated or {})
    program = Program(main, list(lowering.procedures.values()), lowering.checks)
    protect(main, donated or {})
    if arrange is not None:
        arrange(program)
    if tactics is not None and tactics.own_cache_bytes:
        run_in_blocks(program, tactics, donated or {})
        lay_out_for_readers(program)
        run_in_stripes(program, tactics, donated or {})
    plan(program, workers, product_scratch, 1 if tactics is None else tactics.branches)
    return program


def expand(graph: Graph) -> Graph:
    """The graph with composed ops replaced by what they are made of, and products that no kernel
    takes written out.
    """
    graph = with_records(graph)
    while True:
        done: dict[Node, Node] = {}
        expanded = False
        for node in graph.order:
            same = rebuild(node, [done[a] for a in node.args]) if expanded else node
            made = _expansion(same)
            expanded = expanded or made is not None
            done[node] = same if made is None else made
        if not expanded:
            return graph
        graph = Graph(graph.parameters, [done[output] for output in graph.outputs])


def _expansion(node: Node) -> Node | None:
    form = node.op.lowering
    if isinstance(form, Elementwise | View | Leaf):
        return None
    if isinstance(form, Compose):
        with origin.because(*node.origin):
            return form.build(*node.args, **node.attrs)
    if isinstance(form, Contract) and not dtypes.is_float(node.dtype):
        return _product_and_sum(node)
    if isinstance(form, Contract) and not dtypes.is_half(node.dtype):
        side = _vector_of(node)
        return written_out(node) if side is None else _sum_along(node, side)
    if _accumulates(form) and isinstance(node.type, TensorType) and dtypes.is_half(node.dtype):
        return _accumulated(node)
    return None


def _accumulates(form: Form) -> bool:
    """Whether results may be sums or products of many terms, each of which would round, or extrema,
    for which each would be converted there and back.
    """
    if isinstance(form, Reduce):
        return True
    if isinstance(form, Scatter):
        return form.combiner in ("add", "mul")
    return isinstance(form, Contract | Nest)


def _accumulated(node: Node) -> Node:
    """A sum of 16-bit floats, or their extremum: carried in float32, rounded once. The casts fuse
    with what is near.
    """
    wide = [
        cast(x, dtypes.accumulator(x.dtype)) if isinstance(x.type, TensorType) else x
        for x in node.args
    ]
    return cast(node.op(*wide, **node.attrs), node.dtype)


def _vector_of(node: Node) -> int | None:
    """Which argument of a contraction is a vector, or one in each batch; None if neither is.

    Each element of the other one is used once then, so that there is nothing to keep in registers
    and all to gain from fusing.
    """
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    if not contracted[0]:
        return None
    for side in (1, 0):
        x = node.args[side]
        if product(x.shape[a] for a in free_axes(x.ndim, batch[side], contracted[side])) == 1:
            return side
    return None


def _sum_along(node: Node, side: int) -> Node:
    """A contraction with a vector: repeated as the matrix lies in memory, multiplied, summed."""
    from graphc.ops.contract import labels_of
    from graphc.ops.movement import reshape, transpose
    from graphc.ops.operands import broadcast
    from graphc.ops.reduce import sum_op

    labels, result = labels_of(node)
    vector, matrix = node.args[side], node.args[1 - side]
    mine, other = labels[1 - side], labels[side]
    kept = [label for label in other if label in mine]
    extents = [vector.shape[axis] for axis, label in enumerate(other) if label in mine]
    order = [label for label in mine if label in kept]
    turned = transpose(reshape(vector, extents), [kept.index(label) for label in order])
    repeated = broadcast(turned, matrix.shape, tuple(map(mine.index, order)))
    summed = tuple(axis for axis, label in enumerate(mine) if label not in result)
    total = sum_op(matrix * repeated, axes=summed)
    alone = [label for label in other if label not in mine]  # of extent 1
    left = [*alone, *(label for label in mine if label in result)]
    total = reshape(total, (*[1] * len(alone), *total.shape))
    return transpose(total, [left.index(label) for label in result])


def _product_and_sum(node: Node) -> Node:
    """A contraction of integers: broadcast both operands to all axes, multiply, sum.

    The summed axes come last where they do so in the second operand, a product with a transposed
    matrix; else before its free axes, so that the lanes of a vector are neighbours in its rows.
    """
    from graphc.ops.arithmetic import multiply_op
    from graphc.ops.movement import transpose
    from graphc.ops.operands import broadcast
    from graphc.ops.reduce import sum_op

    x, y = node.args
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    x_free = free_axes(x.ndim, batch[0], contracted[0])
    y_free = free_axes(y.ndim, batch[1], contracted[1])
    x = transpose(x, (*batch[0], *x_free, *contracted[0]))
    b, m, n, k = len(batch[0]), len(x_free), len(y_free), len(contracted[0])
    inner = not n or not k or max(contracted[1]) > max(y_free)
    mine, last = (y_free, contracted[1]) if inner else (contracted[1], y_free)
    y = transpose(y, (*batch[1], *mine, *last))
    first = b + m + (n if inner else 0)  # where the summed axes begin
    summed = tuple(range(first, first + k))
    shape = (*x.shape[: b + m], *y.shape[b:])
    lead = tuple(range(b))
    left = broadcast(x, shape, (*range(b + m), *summed))
    right = broadcast(y, shape, (*lead, *range(b + m, len(shape))))
    product = multiply_op(left, right)
    return sum_op(product, axes=summed) if k else product


class _Lowering:
    """State of lowering one graph: procedures by digest, checked nodes."""

    def __init__(self, tactics: Tactics | None) -> None:
        self.tactics = tactics
        self.procedures: dict[bytes, Procedure] = {}
        self.checks: list[Checked] = []
        self.written = Written()
        self._loops = 0

    def fresh_variable(self) -> str:
        """A name for the variable of a program loop."""
        self._loops += 1
        return f"t{self._loops}"

    def procedure(
        self,
        graph: Graph,
        name: str,
        strided: Sequence[bool],
        donated: Mapping[int, int] = MappingProxyType({}),
    ) -> Procedure:
        tactics = self.tactics or CPU
        graph = stretched(read_once(graph, tactics), tactics.kept_bytes, tactics.panel_bytes)
        inputs = [
            Storage("input", type_.dtype, type_.shape, position=i, strided=flag)  # type: ignore[union-attr]
            for i, (type_, flag) in enumerate(zip(graph.parameters, strided, strict=True))
        ]
        outputs = [
            Storage("output", node.dtype, node.shape, position=len(inputs) + i)
            for i, node in enumerate(graph.outputs)
        ]
        procedure = Procedure(name, inputs, outputs, parameter_dims(graph))
        places = {i: Operand(storage) for i, storage in enumerate(inputs)}
        block = _Block(self, graph, places, [Operand(output) for output in outputs], donated)
        forward_copies(block.statements, block.own)
        procedure.body = block.statements
        return procedure

    def called(self, graph: Graph, name: str) -> Procedure:
        """The procedure of a called graph, lowered the first time."""
        found = self.procedures.get(graph.digest)
        if found is None:
            name = f"call_{graph.digest.hex()}"
            found = self.procedure(expand(graph), name, [False] * len(graph.parameters))
            self.procedures[graph.digest] = found  # after its own callees: callees come first
        return found


def parameter_dims(graph: Graph) -> tuple[str, ...]:
    """The named dimensions of a graph, in order of appearance in its parameters' types, then in its
    nodes and in the graphs that they carry.
    """
    names: dict[str, None] = {}

    def note(value: Any) -> None:
        if isinstance(value, TensorType):
            for extent in value.shape:
                note(extent)
        elif isinstance(value, Dim):
            names.update(dict.fromkeys(sorted(value.symbols)))
        elif isinstance(value, tuple):
            for item in value:
                note(item)
        elif isinstance(value, Graph):
            names.update(dict.fromkeys(parameter_dims(value)))

    for type_ in graph.parameters:
        note(type_)
    types: dict[Any, None] = {}
    for node in graph.order:
        if node.type not in types:
            types[node.type] = None
            note(node.type)
        if node.attrs is not NO_ATTRIBUTES:
            for value in node.attrs.values():
                note(value)
    return tuple(names)


class _Block:
    """One closed graph lowered to statements, given where its parameters are and where its outputs
    go.
    """

    def __init__(
        self,
        lowering: _Lowering,
        graph: Graph,
        parameters: Mapping[int, Operand],
        results: Sequence[Operand],
        donated: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.lowering = lowering
        self.given = {result.storage for result in results}  # the places of others
        self.statements: list[Statement] = []
        self.places: dict[Node, Operand] = {}
        self.own: set[Storage] = set()  # temporaries of this block
        order = graph.order
        external = set()
        for node in order:
            if node.op is parameter_op:
                self.places[node] = parameters[node.attrs["index"]]
                external.add(node)
            elif node.op is constant_op and node.shape != ():
                array = node.attrs["value"].array
                storage = Storage("constant", node.dtype, node.shape, array=array)
                self.places[node] = Operand(storage)
        strided = {node for node in external if self.places[node].storage.strided}
        overwritten = {
            node: graph.outputs[donated[node.attrs["index"]]]
            for node in external
            if node.op is parameter_op and node.attrs["index"] in donated
        }
        self.partition = partitioned(
            order, graph.outputs, external, strided, overwritten, lowering.tactics
        )
        copies = self._claim_outputs(graph.outputs, results)
        self.copied = {node for node, _ in copies}
        self._readers = self._kernels_reading(order)
        self._claim_parts(order)
        self._allocate(order)
        take_along(self.partition, order, self.places, donated)
        self.storages = {id(operand.storage) for operand in self.places.values()}
        before = [copy for copy in copies if self._is_state(copy[0])]
        self._copy_all(before)  # so that the states may be written over by what follows
        for group in self.partition.groups:
            self._group(group)
        self._copy_all([copy for copy in copies if not self._is_state(copy[0])])

    def _is_state(self, node: Node) -> bool:
        """Whether a node is a parameter, as it lies, in memory that the block may write."""
        return node.op is parameter_op and self.places[node].storage.kind != "input"

    def _copy_all(self, copies: Sequence[tuple[Node, Operand]]) -> None:
        for shape, together in _by_shape(copies).items():
            most = most_together(shape) or len(together)
            for start in range(0, len(together), most):
                self._copy(together[start : start + most])

    # -- where values live -------------------------------------------------------------------------

    def _claim_outputs(
        self, outputs: Sequence[Node], results: Sequence[Operand]
    ) -> list[tuple[Node, Operand]]:
        """Let the node that makes an output write it in place; what cannot is copied at the end."""
        copies: list[tuple[Node, Operand]] = []
        for node, operand in zip(outputs, results, strict=True):
            source = self.partition.alias(node)
            owned = source in self.partition.group_of or self.partition.is_result(source)
            if owned and source not in self.places:
                self.places[source] = operand
            else:
                copies.append((node, operand))
        return copies

    def _claim_parts(self, order: Sequence[Node]) -> None:
        """Let the kernels that make parts of an array write them where they belong in it."""
        for node in reversed(order):  # what is itself a part has its place before its own parts
            group = self.partition.group_of.get(node)
            if group is None or group.kind != "parts":
                continue
            self._allocate([node])
            place = self.places.get(node)
            if place is None:
                continue
            for part in self.partition.parts(node):
                source = beneath(node.args[part.argument])
                maker = self.partition.group_of.get(source)
                if maker is None:
                    continue
                where = part_operand(node, part, place)
                alone = source is node.args[part.argument] and source not in self.copied
                alone = alone and run_bytes(node, part) >= LINE_BYTES
                alone = alone and maker.kind not in WRITE_WHOLE
                if where is None and alone and len(self.partition.users[source]) == 1:
                    where = framed_operand(node, part, place)
                if where is not None:
                    self.places.setdefault(source, where)

    def _allocate(self, order: Sequence[Node]) -> None:
        """Temporaries for values that another kernel reads."""
        for node in order:
            if node in self.places or not self._must_store(node):
                continue
            assert isinstance(node.type, TensorType)
            storage = Storage("temporary", node.dtype, node.shape)
            self.own.add(storage)
            self.places[node] = Operand(storage)

    def _must_store(self, node: Node) -> bool:
        if self.partition.is_result(node):
            owner = self.partition.group_of[node.args[0]]
            return owner.kind == "region" or self._crosses(node, owner)
        group = self.partition.group_of.get(node)
        if group is None or not isinstance(node.type, TensorType) or group.kind == "region":
            return False
        return self._crosses(node, group)

    def _crosses(self, node: Node, group: Group) -> bool:
        """Whether a kernel other than its own reads the node, or it is copied at the end."""
        return not self._readers[node] <= {group}

    def _kernels_reading(self, order: Sequence[Node]) -> dict[Node, frozenset[Group | None]]:
        """The kernels that read each node, through whatever is computed where it is read; None
        stands for a copy at the end. Two are told of many.
        """
        found: dict[Node, frozenset[Group | None]] = {}
        group_of, users = self.partition.group_of, self.partition.users
        alone = {group: frozenset((group,)) for group in self.partition.groups}
        nobody: frozenset[Group | None] = frozenset()
        for node in reversed(order):
            readers = frozenset((None,)) if node in self.copied else nobody
            for user in users.get(node, ()):
                owner = group_of.get(user)
                theirs = found[user] if owner is None else alone[owner]
                if theirs is not readers:  # nodes with the same readers share the set
                    readers = readers | theirs if readers else theirs
                if len(readers) > 1:
                    break
            found[node] = readers
        return found

    def place(self, node: Node) -> Operand | None:
        """Where a node is in memory, if it is."""
        return self.places.get(self.partition.alias(node))

    # -- statements --------------------------------------------------------------------------------

    def _group(self, group: Group) -> None:
        if group.kind == "region":
            self._region(group.members[0])
            return
        found = signature(self.partition, group, self.place)
        again = None if found is None else self.lowering.written.again(found, group)
        if again is not None:
            self.statements += again
            return
        launches = emit.launches(self.partition, group, self.place, self._number)
        self.statements += launches
        if found is not None:
            self.lowering.written.note(found, launches, self.storages)

    def _number(self, node: Node, axis: int = 0, window: Extent = 1) -> int:
        """The number of a checked node, at one of its positions, in the program's table."""
        self.lowering.checks.append(Checked(node, axis, window))
        return len(self.lowering.checks) - 1

    def _copy(self, copies: Sequence[tuple[Node, Operand]]) -> None:
        """Write values of one shape that already have a place, or are only views, to where outputs
        go.
        """
        group = Group("nest", result_shape(copies[0][0]))
        group.reasons.append("copied: the value is an input, a view, or an output twice")
        asked = (self.partition, group, self.place, self._number)
        self.statements += emit.copy_launches(*asked, copies)

    def _region(self, node: Node) -> None:
        form = node.op.lowering
        assert isinstance(form, Region)
        results = []
        for i, type_ in enumerate(node.type.items):  # type: ignore[union-attr]
            place = self.places.get(project_op(node, index=i))
            results.append(place or Operand(Storage("temporary", type_.dtype, type_.shape)))
        args = [self._argument(argument) for argument in node.args]
        if form.statement == "call":
            graph = node.attrs["graph"]
            procedure = self.lowering.called(graph, node.attrs["name"])
            sizes = bind_dims(procedure.sizes, graph, node)
            self.statements.append(Call(procedure, [*args, *results], sizes))
        else:
            by_statement = {"scan": self._scan, "while": self._while, "switch": self._switch}
            by_statement[form.statement](node, args, results)

    def _argument(self, node: Node) -> Operand:
        place = self.place(node)
        if place is None or place.storage.strided or node.op is constant_op and node.shape == ():
            operand = Operand(Storage("temporary", node.dtype, node.shape))
            self._copy([(node, operand)])
            return operand
        return place

    def _scan(self, node: Node, args: Sequence[Operand], results: Sequence[Operand]) -> None:
        """Copy the states to where they begin, then loop."""
        attrs = node.attrs
        graph: Graph = expand(attrs["graph"])
        carry, steps, length = attrs["carry"], attrs["steps"], attrs["length"]
        args = list(args)
        if not isinstance(length, int) or length >= LEAST_STEPS:
            panel_bytes = (self.lowering.tactics or CPU).panel_bytes
            graph, copies = laid_out(graph, carry + steps, panel_bytes)
            args += [self._laid_out(node.args[i], layout) for i, layout in copies]
        variable = self.lowering.fresh_variable()
        step = symbol(variable)
        rows = self._rows(node, graph, results)
        parameters: dict[int, Operand] = {}
        shapes = [output.shape for output in graph.outputs[:carry]]
        for i in range(carry):
            start = rows[i].initial if i in rows else results[i]
            self.statements += copy_operand(args[i], start, shapes[i])
            parameters[i] = rows[i].before(step) if i in rows else results[i]
        for i in range(carry, len(args)):
            operand = args[i]
            if i < carry + steps:
                size = product(graph.parameters[i].shape)  # type: ignore[union-attr]
                operand = Operand(operand.storage, operand.offset + step * size)
            parameters[i] = operand
        outputs: list[tuple[Node, Operand]] = []
        states: list[State] = []
        for i, output in enumerate(graph.outputs[:carry]):
            if i in rows:
                outputs.append((output, rows[i].after(step)))
                continue
            fresh = Operand(Storage("temporary", output.dtype, output.shape))
            outputs.append((output, fresh))
            states.append(State(results[i], fresh, output.shape))
        there = {each.storage for each in rows.values()}
        for output, result in zip(graph.outputs[carry:], results[carry:], strict=True):
            if result.storage not in there:
                place = Operand(result.storage, result.offset + step * product(output.shape))
                outputs.append((output, place))
        body_graph = Graph(graph.parameters, [output for output, _ in outputs])
        places = [place for _, place in outputs]
        block = _Block(self.lowering, body_graph, parameters, places)
        body = block.statements
        settle(body, states, block.own)
        tactics = self.lowering.tactics or CPU
        ask_for_next_step(body, variable, attrs["reverse"], tactics.kept_bytes)
        self.statements.append(Loop(variable, length, attrs["reverse"], body))
        for i, each in rows.items():
            final = project_op(node, index=i)
            own = results[i].storage.kind == "temporary" and results[i].storage not in self.given
            if self.places.get(final) is None or own:
                self.places[final] = each.final
            else:
                self.statements += copy_operand(each.final, results[i], shapes[i])

    def _laid_out(self, matrix: Node, layout: Layout) -> Operand:
        """A copy of a matrix, as products want to read it."""
        copy = layout.of(matrix)
        operand = Operand(Storage("temporary", copy.dtype, copy.shape))
        self._copy([(copy, operand)])
        return operand

    def _rows(
        self, node: Node, graph: Graph, results: Sequence[Operand]
    ) -> dict[int, Rows]:
        """The states that are given out before every step, each with where its rows are."""
        carry, length = node.attrs["carry"], node.attrs["length"]
        found: dict[int, Rows] = {}
        for j in range(carry, len(results)):
            output, result = graph.outputs[j], project_op(node, index=j)
            if output.op is not parameter_op or output.attrs["index"] >= carry:
                continue
            i = output.attrs["index"]
            rows = None
            given = results[j].storage in self.given
            if i not in found and graph.outputs[i] is not output and not given:
                rows = Rows.within(results[j], result.shape, length, node.attrs["reverse"])
            if rows is not None:
                found[i] = rows
                self.places[result] = rows.stacked
        return found

    def _while(self, node: Node, args: Sequence[Operand], results: Sequence[Operand]) -> None:
        """Copy the states to where they end; each round tests them and makes new ones."""
        body, carry = expand(node.attrs["body"]), node.attrs["carry"]
        shapes = [output.shape for output in body.outputs]
        for given, state, shape in zip(args[:carry], results, shapes, strict=True):
            self.statements += copy_operand(given, state, shape)
        parameters = dict(enumerate([*results, *args[carry:]]))
        condition = Operand(Storage("temporary", dtypes.BOOL, ()))
        test = _Block(self.lowering, expand(node.attrs["condition"]), parameters, [condition])
        fresh = [Operand(Storage("temporary", o.dtype, o.shape)) for o in body.outputs]
        block = _Block(self.lowering, body, parameters, fresh)
        round_ = block.statements
        settle(round_, list(map(State, results, fresh, shapes)), block.own)
        self.statements.append(While(test.statements, condition, round_))

    def _switch(self, node: Node, args: Sequence[Operand], results: Sequence[Operand]) -> None:
        """Every branch makes the results in the same places."""
        parameters = dict(enumerate(args[1:]))
        branches = [
            _Block(self.lowering, expand(graph), parameters, results).statements
            for graph in node.attrs["branches"]
        ]
        self.statements.append(Switch(args[0], branches))


def _by_shape(
    copies: Sequence[tuple[Node, Operand]],
) -> dict[Shape, list[tuple[Node, Operand]]]:
    """Copies that one kernel can make, in order."""
    found: dict[Shape, list[tuple[Node, Operand]]] = {}
    for node, operand in copies:
        found.setdefault(node.shape, []).append((node, operand))
    return found


def bind_dims(names: Sequence[str], graph: Graph, node: Node) -> dict[str, Extent]:
    """What the named dimensions of a called graph are at this call: they have the same names on
    both sides.
    """
    return {name: symbol(name) for name in names}

