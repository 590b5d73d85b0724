"""How do loops hand on what later loops read step by step?  In records: one array with a row for
each step, in which all of it lies side by side.

Reverse mode reads in every step dozens of values that the forward loop gave out, a few numbers
each. As arrays of their own they are as many streams of memory, more than a processor follows, each
on a page of its own. So results of a loop that another loop over as many steps reads, row by row,
are given out as one row; and so are arrays that are made for such a loop alone.

This is graph to graph, before a program is lowered: a row is a concatenation, whose parts kernels
write where they belong, and reading a part of it is index arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.dims import product
from graphc.graph import Graph, parameter, parameter_op, rebuild, replace
from graphc.lowering import Elementwise
from graphc.node import Node, users_of
from graphc.ops.control import scan_op
from graphc.ops.movement import concatenate_op, reshape, slice_op
from graphc.ops.special import project, project_op
from graphc.types import TensorType

# So many arrays may stay by themselves.
FEW_STREAMS = 4
# Steps of a loop for which it is worth it.
LEAST_STEPS = 64
# Rows of fewer bytes, or of more, are not put together: parts would share lines of memory, or are
# long enough to be read ahead by themselves.
LEAST_BYTES, MOST_BYTES = 64, 2048


def with_records(graph: Graph) -> Graph:
    """The graph with what its loops hand on put together."""
    order = graph.order
    loops = [node for node in order if node.op is scan_op and _is_long(node)]
    if not loops:
        return graph
    users = users_of(order)
    outputs = set(graph.outputs)
    given = {loop: _given_out(loop, users, outputs) for loop in loops}
    read = {loop: _made_for(loop, users, outputs) for loop in loops}
    if not any(given.values()) and not any(read.values()):
        return graph
    done: dict[Node, Node] = {}
    rows: dict[Node, tuple[Node, int]] = {}  # by what was read: the record, and where in its rows
    for node in order:
        if node.op is project_op and node.args[0] in given:
            index = node.attrs["index"]
            if index in given[node.args[0]]:
                done[node] = _out_of_record(node, *rows[node])
                continue
            before = sum(other < index for other in given[node.args[0]])
            done[node] = project(done[node.args[0]], index - before)
        elif node in given:
            done[node] = _loop(node, given[node], read[node], done, rows)
            _note(node, given[node], done[node], rows)
        else:
            done[node] = rebuild(node, [done[argument] for argument in node.args])
    return Graph(graph.parameters, [done[output] for output in graph.outputs])


def _is_long(loop: Node) -> bool:
    length = loop.attrs["length"]
    return isinstance(length, int) and length >= LEAST_STEPS


def _fits(row: TensorType) -> bool:
    """Whether a row is of a size at which it is better read beside others."""
    size = product(row.shape)
    return (
        isinstance(size, int)
        and len(row.shape) > 0
        and LEAST_BYTES <= size * row.dtype.itemsize <= MOST_BYTES
    )


def _many(found: Sequence[tuple[int, TensorType]]) -> list[int]:
    """Those that are of the dtype that most are of, if they are many."""
    dtypes = [row.dtype for _, row in found]
    if not dtypes:
        return []
    common = max(dict.fromkeys(dtypes), key=dtypes.count)
    chosen = [i for i, row in found if row.dtype == common]
    return chosen if len(chosen) > FEW_STREAMS else []


def _given_out(loop: Node, users: dict[Node, list[Node]], outputs: set[Node]) -> list[int]:
    """The results of a loop that are given out in one row."""
    graph, carry = loop.attrs["graph"], loop.attrs["carry"]
    states = set(graph.outputs[:carry])
    found = []
    for made in users.get(loop, ()):
        index = made.attrs["index"]
        output = graph.outputs[index]
        if index < carry or output in states or output.op is parameter_op or made in outputs:
            continue
        readers = users.get(made, ())
        if _fits(output.type) and any(_reads_rows(reader, made, loop) for reader in readers):
            found.append((index, output.type))
    once = {graph.outputs[index]: index for index, _ in found}
    return sorted(_many([(i, row) for i, row in found if once[graph.outputs[i]] == i]))


def _reads_rows(reader: Node, made: Node, loop: Node) -> bool:
    """Whether a node is a loop over as many steps that reads the rows of an array, and only those.
    """
    if reader.op is not scan_op or not _is_long(reader):
        return False
    first = reader.attrs["carry"]
    last = first + reader.attrs["steps"]
    others = (*reader.args[:first], *reader.args[last:])
    return reader.attrs["length"] == loop.attrs["length"] and made not in set(others)


def _made_for(loop: Node, users: dict[Node, list[Node]], outputs: set[Node]) -> list[int]:
    """The arguments of a loop that are computed for it alone, all rows at once."""
    first = loop.attrs["carry"]
    found = []
    for i in range(first, first + loop.attrs["steps"]):
        argument = loop.args[i]
        alone = users[argument] == [loop] and argument not in outputs
        row = loop.attrs["graph"].parameters[i]
        computed = isinstance(argument.op.lowering, Elementwise) and len(row.shape) == 1
        if alone and computed and _fits(row):
            found.append((i, row))
    return _many(found)


def _note(
    loop: Node, packed: Sequence[int], made: Node, rows: dict[Node, tuple[Node, int]]
) -> None:
    """Where the results of a loop that are in its record are found."""
    if not packed:
        return
    record = project(made, len(made.type.items) - 1)  # type: ignore[union-attr]
    start = 0
    for index in packed:
        rows[project_op(loop, index=index)] = (record, start)
        start += int(product(loop.attrs["graph"].outputs[index].shape))


def _out_of_record(node: Node, record: Node, start: int) -> Node:
    """The rows of a value, for whom reads more than one at a time."""
    shape = (record.shape[0], product(node.shape[1:]))
    part = slice_op(record, starts=(0, start), extents=shape, steps=(1, 1))
    return reshape(part, node.shape)


def _loop(
    loop: Node,
    packed: Sequence[int],
    joined: Sequence[int],
    done: dict[Node, Node],
    rows: dict[Node, tuple[Node, int]],
) -> Node:
    """The loop that reads records in place of what lies in them, and gives out one if it is to."""
    graph, carry, steps = (loop.attrs[name] for name in ("graph", "carry", "steps"))
    own: dict[int, int] = {}  # where arguments lie in the record that is made for this loop
    start = 0
    for i in joined:
        own[i], start = start, start + int(product(graph.parameters[i].shape))
    kept: list[int] = []
    places: dict[int, tuple[Node, int]] = {}
    for i in range(carry, carry + steps):
        if i in own:
            continue
        if loop.args[i] in rows:
            places[i] = rows[loop.args[i]]
        else:
            kept.append(i)
    if own:
        record = concatenate_op(*[done[loop.args[i]] for i in joined], axis=1)
        places |= {i: (record, own[i]) for i in joined}
    records = list(dict.fromkeys(record for record, _ in places.values()))
    every = [*range(carry), *kept, *range(carry + steps, len(loop.args))]
    types = [graph.parameters[i] for i in (*range(carry), *kept)]
    first_record = len(types)
    types += [TensorType(record.dtype, record.shape[1:]) for record in records]
    types += [graph.parameters[i] for i in range(carry + steps, len(loop.args))]
    inside: dict[Node, Node] = {}
    for place, i in enumerate(every):
        shift = place if place < first_record else place + len(records)
        inside[parameter(i, graph.parameters[i])] = parameter(shift, graph.parameters[i])
    numbers = {record: first_record + k for k, record in enumerate(records)}
    for i, (record, begin) in places.items():
        leaf = parameter(numbers[record], types[numbers[record]])
        shape = graph.parameters[i].shape
        part = slice_op(leaf, starts=(begin,), extents=(product(shape),), steps=(1,))
        inside[parameter(i, graph.parameters[i])] = reshape(part, shape)
    results = replace(graph.outputs, inside)
    if packed:
        parts = [reshape(results[i], (product(results[i].shape),)) for i in packed]
        gone = set(packed)
        results = [result for i, result in enumerate(results) if i not in gone]
        results.append(concatenate_op(*parts, axis=0))
    args = [done[loop.args[i]] for i in every]
    args[first_record:first_record] = records
    attrs = {**loop.attrs, "graph": Graph(types, results), "steps": len(kept) + len(records)}
    return scan_op(*args, **attrs)
