"""Which loops are cut into stretches, so that what their steps give out is used while it is near?

The gradient of weights that every step uses is a product over all of the steps: of what the reverse
loop gives out, an array with a row for each step, and of what each step had read. Behind the loop
it would come from memory again, which takes longer than the level of cache that it has left by
then. So the loop goes over stretches of steps, each a loop of its own, and adds up the products
over stretches; the array exists for one stretch at a time.

This is graph to graph, before a procedure is lowered. All stretches are as long, so that they are
the same kernels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphc.codegen.passes.weights import laid_out
from graphc.dims import product
from graphc.dtypes import is_float
from graphc.graph import Graph, close, placeholder, rebuild
from graphc.node import Node, users_of
from graphc.ops.arithmetic import add_op
from graphc.ops.contract import contract_op
from graphc.ops.control import scan_op
from graphc.ops.movement import reshape
from graphc.ops.operands import broadcast, constant
from graphc.ops.reduce import sum_op
from graphc.ops.special import project
from graphc.types import TensorType

# Fewer steps, or fewer stretches, gain less than what adding up costs.
LEAST_STEPS = LEAST_STRETCHES = 4


@dataclass(frozen=True)
class _Sums:
    """Products and sums over the steps of a loop, and the arrays that they read beside what the
    loop gives out.
    """

    nodes: tuple[Node, ...]
    beside: tuple[Node, ...]


def stretched(graph: Graph, most_bytes: int, panel_bytes: int = 0) -> Graph:
    """The graph with loops cut such that what products over a stretch read is at most so much.

    A row of a panel of a matrix has `panel_bytes` (see `weights`).
    """
    order = graph.order
    if not most_bytes or not any(node.op is scan_op for node in order):
        return graph
    users = users_of(order)
    outputs = set(graph.outputs)
    done: dict[Node, Node] = {}
    for node in _loops_late(order, users):
        if node in done:
            continue
        if node.op is scan_op and node not in outputs:
            sums = _sums_over(node, users, done)
            steps = _steps_of_stretch(node, sums, most_bytes)
            if steps:
                done[node] = node  # only its results are read, and they are replaced
                done |= _in_stretches(node, sums, steps, done, users, outputs, panel_bytes)
                continue
        done[node] = rebuild(node, [done[argument] for argument in node.args])
    return Graph(graph.parameters, [done[output] for output in graph.outputs])


def _loops_late(order: Sequence[Node], users: dict[Node, list[Node]]) -> Iterator[Node]:
    """The nodes in an order in which what needs no loop comes before it."""
    missing = {node: len(node.args) for node in order}
    ready = deque(node for node in order if not missing[node])
    loops: deque[Node] = deque()
    while ready or loops:
        node = ready.popleft() if ready else loops.popleft()
        yield node
        for user in users.get(node, ()):
            missing[user] -= 1
            if not missing[user]:
                (loops if user.op is scan_op else ready).append(user)


def _sums_over(loop: Node, users: dict[Node, list[Node]], done: dict[Node, Node]) -> _Sums:
    """What adds up over the steps what the loop gives out, of that and of what is there before."""
    carry = loop.attrs["carry"]
    made = [each for each in users.get(loop, ()) if each.attrs["index"] >= carry]
    own = set(made)
    found: dict[Node, None] = {}
    beside: dict[Node, None] = {}
    for node in (user for each in made for user in users.get(each, ())):
        others = [argument for argument in node.args if argument not in own]
        if _adds_steps(node) and all(other in done for other in others):
            found[node] = None
            beside.update(dict.fromkeys(others))
    return _Sums(tuple(found), tuple(beside))


def _adds_steps(node: Node) -> bool:
    """Whether a node adds up over the first axis of each of its arguments."""
    if node.op is sum_op:
        return 0 in node.attrs["axes"] and isinstance(node.type, TensorType)
    if node.op is not contract_op:
        return False
    return (0, 0) in zip(*node.attrs["contracted"], strict=True)


def _steps_of_stretch(loop: Node, sums: _Sums, most_bytes: int) -> int:
    """How many steps a stretch has; 0 if the loop stays whole: all that is read stays near anyway,
    or the sums are no less than what is added up in a stretch.
    """
    length = loop.attrs["length"]
    if not isinstance(length, int) or not sums.nodes:
        return 0
    read = dict.fromkeys(argument for node in sums.nodes for argument in node.args)
    row = sum(_bytes(argument) for argument in read) // max(1, length)
    total = sum(_bytes(node) for node in sums.nodes)
    for steps in range(length // LEAST_STRETCHES, LEAST_STEPS - 1, -1):
        if length % steps == 0 and steps * row <= most_bytes:
            return steps if length * row > 2 * most_bytes and total <= steps * row else 0
    return 0


def _bytes(node: Node) -> int:
    size = product(node.shape)
    return size * node.dtype.itemsize if isinstance(size, int) else 0


def _in_stretches(
    loop: Node,
    sums: _Sums,
    steps: int,
    done: dict[Node, Node],
    users: dict[Node, list[Node]],
    outputs: set[Node],
    panel_bytes: int,
) -> dict[Node, Node]:
    """By the results of a loop and the sums over them: what a loop over stretches gives."""
    attrs = loop.attrs
    carry, length = attrs["carry"], attrs["length"]
    last = carry + attrs["steps"]
    body, copies = laid_out(attrs["graph"], last, panel_bytes)  # in front, not of each stretch
    fixed = [done[argument] for argument in loop.args[last:]]
    fixed += [layout.of(done[loop.args[i]]) for i, layout in copies]
    parts = length // steps
    gone = set(sums.nodes)
    results = [project(loop, i) for i in range(len(loop.type.items))]  # type: ignore[union-attr]
    kept = [
        i
        for i, result in enumerate(results)
        if i >= carry and (result in outputs or not gone.issuperset(users.get(result, ())))
    ]
    rows = [*loop.args[carry:last], *sums.beside]

    def cut(array: Node) -> Node:
        return reshape(array, (parts, steps, *array.shape[1:]))

    states = [placeholder(argument.type) for argument in loop.args[:carry]]
    totals = [placeholder(node.type) for node in sums.nodes]
    pieces = [placeholder(TensorType(a.dtype, (steps, *a.shape[1:]))) for a in rows]
    rest = [placeholder(argument.type) for argument in fixed]
    stepping = {**attrs, "graph": body, "length": steps}
    inner = scan_op(*states, *pieces[: last - carry], *rest, **stepping)
    piece_of = dict(zip(sums.beside, pieces[last - carry :], strict=True))
    piece_of |= {result: project(inner, i) for i, result in enumerate(results)}
    terms = [node.op(*map(piece_of.__getitem__, node.args), **node.attrs) for node in sums.nodes]
    added = [add_op(total, term) for total, term in zip(totals, terms, strict=True)]
    given = [project(inner, i) for i in (*range(carry), *kept)]
    stretch, captured = close(
        [*states, *totals, *pieces, *rest], [*given[:carry], *added, *given[carry:]]
    )
    assert not captured, "a stretch reads what it is given"
    outer = scan_op(
        *[done[argument] for argument in loop.args[:carry]],
        *[broadcast(_nothing(node), node.shape, ()) for node in sums.nodes],
        *[cut(done[array]) for array in rows],
        *fixed,
        graph=stretch,
        carry=carry + len(totals),
        steps=len(rows),
        length=parts,
        reverse=attrs["reverse"],
    )
    found = {results[i]: project(outer, i) for i in range(carry)}
    found |= {node: project(outer, carry + i) for i, node in enumerate(sums.nodes)}
    for place, i in enumerate(kept, carry + len(totals)):
        found[results[i]] = reshape(project(outer, place), results[i].shape)
    # What nothing reads any more stays what it was: it is in no output.
    return {**dict.fromkeys(results, loop), **found}


def _nothing(node: Node) -> Node:
    """What a sum begins with: what changes no term, -0.0 included."""
    return constant(-0.0 if is_float(node.dtype) else 0, node.dtype)


__all__ = ["stretched"]
