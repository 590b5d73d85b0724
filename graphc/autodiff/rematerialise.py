"""What is kept from the forward computation for the backward one, and what is computed again?

Values are kept within a number of bytes, so that recomputing the others costs least. For a price
of a byte in operations that is a minimum cut: a value is kept (its bytes at that price), or
computed again (its operations) from values that are kept or computed again themselves; what the
cotangents meet must be there either way (Jain et al., Checkmate, MLSys 2020, has the problem; the
cut is that of project selection). The price is raised until the kept bytes fit. Where a price keeps
too much and the next one far too little, as in a chain of equal layers, bytes that are left keep
values in between, evenly, so that no stretch that is computed again is long.

The backward computation then is a `call`, whose arguments are what is kept: in its Graph the
recomputed nodes are others than those of the forward one (docs/decisions/0013-checkpoints.md).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.dims import Extent, product, substitute
from graphc.errors import GraphError
from graphc.graph import close, placeholder, replace
from graphc.lowering import Contract, Elementwise, Gather, Generate, Leaf, Reduce, Scatter, View
from graphc.node import Node, topological
from graphc.ops.arithmetic import like
from graphc.ops.control import call_graph
from graphc.types import TensorType, TupleType

# What an extent that is not known counts as when sizes are compared.
LIKELY_EXTENT = 256
# Operations a byte, from which to which the price is looked for, and how often.
CHEAPEST, DEAREST, TRIALS = 1e-4, 1e6, 14
# Capacities are whole numbers of parts of an operation, so that a flow is exact.
FINENESS = 1024
# Operations for each element of a loop or of an op with loops of its own.
DEAR = 1000


def within(cost: Node, seed: Node, gradients: Sequence[Node], memory: Any) -> list[Node]:
    """The gradients as results of a call that is given the kept values. `seed` stands for the
    cotangent of `cost`, which is 1.
    """
    one = like(cost, 1)
    problem = _Problem.of(cost, gradients, seed)
    limit = _limit(memory, problem)
    kept = problem.keep(limit)
    inputs = {node: placeholder(node.type) for node in kept}
    outputs = replace(gradients, {**inputs, seed: one})
    again = [node for node in topological(outputs) if node.args]
    graph, captured = close(list(inputs.values()), outputs, inside=set(again))
    return call_graph(graph, [*inputs, *captured], "backward")


def _limit(memory: Any, problem: _Problem) -> float:
    number = isinstance(memory, (int, float)) and not isinstance(memory, bool)
    if not number or not memory >= 0 or (isinstance(memory, float) and memory > 1):
        raise GraphError(
            f"memory is a number of bytes, or a fraction of what is kept otherwise, got {memory!r}"
        )
    if isinstance(memory, float):
        return memory * sum(problem.bytes[node] for node in problem.keep(float("inf")))
    unknown = sorted({name for node in problem.order for name in _unknown(node)})
    if unknown:
        raise GraphError(
            f"memory={memory} bytes needs known extents, and {', '.join(unknown)} is not\n"
            "Give a fraction of what is kept otherwise: memory=0.25."
        )
    return memory


def _unknown(node: Node) -> list[str]:
    shapes = [type_.shape for type_ in _types(node)]
    return [str(e) for shape in shapes for e in shape if not isinstance(e, int)]


def _types(node: Node) -> list[TensorType]:
    items = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    return [item for item in items if isinstance(item, TensorType)]


def _number(size: Extent) -> int:
    if isinstance(size, int):
        return size
    found = substitute(size, dict.fromkeys(size.symbols, LIKELY_EXTENT))
    return found if isinstance(found, int) else LIKELY_EXTENT


def _elements(node: Node) -> int:
    return sum(_number(product(type_.shape)) for type_ in _types(node))


def _bytes(node: Node) -> int:
    return sum(_number(product(t.shape)) * t.dtype.itemsize for t in _types(node))


def _operations(node: Node) -> int:
    """About how many operations a node takes, its arguments aside."""
    form = node.op.lowering
    if isinstance(form, (View, Generate, Leaf)):
        return 0
    if isinstance(form, Elementwise):
        return form.cost * _elements(node)
    if isinstance(form, Contract):
        left = node.args[0]
        summed = [left.shape[axis] for axis in node.attrs["contracted"][0]]
        return 2 * _elements(node) * _number(product(summed))
    if isinstance(form, (Reduce, Gather, Scatter)):
        return 4 * max(_elements(node), *(_elements(argument) for argument in node.args))
    return DEAR * max(_elements(node), *(_elements(argument) for argument in node.args), 1)


@dataclass
class _Problem:
    """The nodes that may be kept or computed again, in order, those that the cost needs before
    `until`; and those that the backward computation reads.
    """

    order: list[Node]
    until: int
    read: set[Node]
    bytes: dict[Node, int] = field(default_factory=dict)
    operations: dict[Node, int] = field(default_factory=dict)
    number: dict[Node, int] = field(default_factory=dict)

    @staticmethod
    def of(cost: Node, gradients: Sequence[Node], seed: Node) -> _Problem:
        order = topological([cost, *gradients])
        backward = {seed}
        free: set[Node] = set()
        for node in order:
            if any(argument in backward for argument in node.args):
                backward.add(node)
            elif all(argument in free and not _is_leaf(argument) for argument in node.args):
                free.add(node)  # inputs, and what is made of constants alone
        forward = [node for node in order if node not in backward and node not in free]
        candidates = set(forward)
        read = {a for node in order if node in backward for a in node.args if a in candidates}
        read.update(node for node in gradients if node in candidates)
        until = {node: i for i, node in enumerate(forward, 1)}.get(cost, 0)
        problem = _Problem(forward, until, read)
        problem.bytes = {node: _bytes(node) for node in forward}
        problem.operations = {node: _operations(node) for node in forward}
        problem.number = {node: i for i, node in enumerate(forward)}
        return problem

    def size(self, kept: Iterable[Node]) -> int:
        """The bytes of kept values."""
        return sum(self.bytes[node] for node in kept)

    def keep(self, limit: float) -> list[Node]:
        """What to keep within `limit` bytes."""
        kept = self._cut(CHEAPEST, ())
        if self.size(kept) <= limit:
            return kept
        low, high = CHEAPEST, DEAREST
        for _ in range(TRIALS):
            price = (low * high) ** 0.5
            trial = self._cut(price, ())
            low, high = (low, price) if self.size(trial) <= limit else (price, high)
        kept = self._cut(high, ())
        if self.size(kept) > limit:
            kept = self._cut(float("inf"), ())
        return self._with_stops(kept, limit)

    def _with_stops(self, kept: list[Node], limit: float) -> list[Node]:
        """What is kept besides, at as many places of the order as fit."""
        fewest, most = 0, self.until
        while fewest < most:
            count = (fewest + most + 1) // 2
            trial = self._cut(DEAREST, self._stops(count))
            if self.size(trial) <= limit:
                fewest, kept = count, trial
            else:
                most = count - 1
        return kept

    def _stops(self, count: int) -> set[Node]:
        """Values from which the rest can be computed, at `count` places: where few bytes pass on.
        """
        forward = self.order[: self.until]
        last = {a: i for i, node in enumerate(forward) for a in node.args}
        work = list(itertools.accumulate(self.operations[node] for node in forward))
        passing = self._passing(forward, last)
        found: set[Node] = set()
        for k in range(1, count + 1):
            middle, reach = work[-1] * k / (count + 1), work[-1] / (3 * (count + 1))
            first = bisect.bisect_left(work, middle - reach)
            near = range(first, max(bisect.bisect_right(work, middle + reach), first + 1))
            at = min(near, key=lambda i: (passing[i], i))
            found.update(node for node in forward[: at + 1] if last.get(node, -1) > at)
        return found

    def _passing(self, forward: Sequence[Node], last: Mapping[Node, int]) -> list[int]:
        """The bytes that are made up to each place of the order and read after it."""
        ending: dict[int, int] = {}
        alive, found = 0, []
        for i, node in enumerate(forward):
            if node in last:
                alive += self.bytes[node]
                ending[last[node]] = ending.get(last[node], 0) + self.bytes[node]
            alive -= ending.get(i, 0)
            found.append(alive)
        return found

    def _cut(self, price: float, stops: Collection[Node]) -> list[Node]:
        """What is kept if a byte costs `price` operations, and nothing for `stops`."""
        import networkx

        network = networkx.DiGraph()
        number = self.number
        for node, i in number.items():
            before, after = (i, "before"), (i, "after")
            if isinstance(node.type, TupleType) or price == float("inf"):
                network.add_edge(before, after)  # without a bound
            else:
                keeps = 0 if node in stops else round(self.bytes[node] * price * FINENESS)
                network.add_edge(before, after, capacity=keeps)
            network.add_edge("start", before, capacity=self.operations[node] * FINENESS)
            for argument in node.args:
                if argument in number:
                    network.add_edge((number[argument], "after"), before)
            if node in self.read:
                network.add_edge(after, "end")
        if "end" not in network:
            return []
        _, (there, _) = networkx.minimum_cut(network, "start", "end")
        return self._kept(lambda node: (number[node], "before") in there)

    def _kept(self, holds: Callable[[Node], bool]) -> list[Node]:
        """The nodes at which the walk back from what is read stops."""
        kept: dict[Node, None] = {}
        seen = set(self.read)
        stack = sorted(self.read, key=self.number.__getitem__, reverse=True)
        while stack:
            node = stack.pop()
            if holds(node) and not isinstance(node.type, TupleType):
                kept[node] = None
                continue
            for argument in node.args:
                if argument in self.bytes and argument not in seen:
                    seen.add(argument)
                    stack.append(argument)
        return list(kept)


def _is_leaf(node: Node) -> bool:
    return not node.args and node.op.name in ("symbol", "parameter", "placeholder")


__all__ = ["within"]
