"""How does a kernel become one for a part of its work, or for arrays that lie otherwise?

It is copied with other indices: for some products of the batch of a contraction (`restricted`), for
some of its rows (`of_rows`), in other shares of its lanes (`in_tasks`), or with the axes of an
array in another order (`relaid`). So steps and places are found as in any other
kernel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from graphc.codegen.loops import Buffer, Contract, Kernel, Region, scopes
from graphc.codegen.scalar import Accumulate, Address, For, Scope, Store, Value, walk
from graphc.dims import Dim, Extent, substitute, symbols_of

# What a kernel may hold to be copied.
COPIED = (Value, Store, Accumulate, For, Contract)
# The one product of a batch of one: its number is 0, so it is in no index.
ALONE = "_alone"
# Tasks of which each is looked at.
MOST_TASKS = 64


def can_be_copied(kernel: Kernel) -> bool:
    """Whether all statements of a kernel are known here."""
    return all(isinstance(s, COPIED) for scope in scopes(kernel) for s in walk(scope))


def restricted(kernel: Kernel, first: Extent, count: int) -> Kernel:
    """The kernel of a contraction for products `first` .. `first + count - 1` of its batch."""
    contract = kernel.nest
    assert isinstance(contract, Contract)

    def part(region: Region) -> Region:
        batch = region.variables[0]
        name = ALONE if count == 1 else batch
        number = first if count == 1 else first + Dim.symbol(batch)
        copied = _Copy({batch: number})
        body = copied.scope(region.body)
        body.variables = frozenset((name, *region.variables[1:]))
        return replace(
            region,
            variables=(name, *region.variables[1:]),
            body=body,
            value=None if region.value is None else copied.value(region.value),
            lines=None if region.lines is None else part(region.lines),
        )

    left, right, epilogue = map(part, (contract.left, contract.right, contract.epilogue))
    made = replace(contract, batch=count, left=left, right=right, epilogue=epilogue)
    body = copy.copy(kernel.body)
    body.statements = [made if s is contract else s for s in kernel.body.statements]
    return Kernel(kernel.buffers, body, kernel.title, kernel.notes)


def of_rows(kernel: Kernel, first: Extent, count: int) -> Kernel:
    """The kernel of a contraction for rows `first` .. `first + count - 1` of each product; not of
    one whose rows are several axes of an array.
    """
    contract = kernel.nest
    assert isinstance(contract, Contract) and contract.left.lines is None

    def part(region: Region) -> Region:
        row = region.variables[1]
        copied = _Copy({row: first + Dim.symbol(row)})
        body = copied.scope(region.body)
        value = None if region.value is None else copied.value(region.value)
        return replace(region, body=body, value=value)

    left, epilogue = part(contract.left), part(contract.epilogue)
    made = replace(contract, rows=count, left=left, epilogue=epilogue)
    body = copy.copy(kernel.body)
    body.statements = [made if s is contract else s for s in kernel.body.statements]
    return Kernel(kernel.buffers, body, kernel.title, kernel.notes)


def flat_lanes(kernel: Kernel) -> int:
    """How many elements a kernel goes over that does nothing but that: its tasks are shares of one
    vector loop, and no index asks for the task. 0 if there is more to it.
    """
    nest = kernel.nest
    lanes = _only_lanes(kernel)
    if lanes is None or not isinstance(nest, For):
        return 0
    tasks = nest.stop
    if nest.start != 0 or not isinstance(tasks, int) or not 0 < tasks <= MOST_TASKS:
        return 0
    through: Extent = 0
    for task in range(tasks):
        start, stop = (substitute(e, {nest.variable: task}) for e in (lanes.start, lanes.stop))
        if start != through:
            return 0
        through = stop
    return through if isinstance(through, int) else 0


def _only_lanes(kernel: Kernel) -> For | None:
    """The vector loop that is all that the tasks of a kernel do, values aside."""
    nest = kernel.nest
    if not isinstance(nest, For) or nest.segment:
        return None
    others = [s for s in (*kernel.body.statements, *nest.body.statements) if type(s) is not Value]
    lanes = others[-1]
    if len(others) != 2 or not isinstance(lanes, For) or lanes.role != "vector":
        return None
    if lanes.segment or lanes.straight or lanes.full or lanes.accumulators:
        return None
    asked = {name for s in walk(nest.body) for e in _indices(s) for name in symbols_of(e)}
    return None if nest.variable in asked else lanes


def _indices(s: Any) -> tuple[Extent, ...]:
    """The extents in a value or a store."""
    if isinstance(s, Store):
        return s.index
    immediate = s.immediate if isinstance(s, Value) else None
    if isinstance(immediate, Address):
        return immediate.index
    is_index = isinstance(s, Value) and s.opcode == "index"
    return (immediate,) if is_index and immediate is not None else ()


def in_tasks(kernel: Kernel, count: int) -> Kernel:
    """A kernel of flat lanes with so many tasks, each of an equal share of them."""
    nest, lanes = kernel.nest, _only_lanes(kernel)
    assert isinstance(nest, For) and lanes is not None
    task, each = Dim.symbol(nest.variable), flat_lanes(kernel) // count
    share = replace(lanes, start=task * each, stop=task * each + each)
    inner, body = copy.copy(nest.body), copy.copy(kernel.body)
    inner.statements = [share if s is lanes else s for s in nest.body.statements]
    made = replace(nest, stop=count, body=inner)
    body.statements = [made if s is nest else s for s in kernel.body.statements]
    return Kernel(kernel.buffers, body, kernel.title, kernel.notes)


def relaid(kernel: Kernel, old: Buffer, order: Sequence[int]) -> Kernel:
    """The kernel with the axes of a buffer in another order: axis i is what axis `order[i]` was."""
    new = replace(old, shape=tuple(old.shape[axis] for axis in order))
    copied = _Copy({}, {old: (new, order)})
    buffers = [copied.buffer(buffer) for buffer in kernel.buffers]
    return Kernel(buffers, copied.scope(kernel.body), kernel.title, kernel.notes)


class _Copy:
    """Copies statements, with other extents in place of some variables, and other buffers, of which
    the axes have another order.
    """

    def __init__(
        self,
        extents: Mapping[str, Extent],
        buffers: Mapping[Buffer, tuple[Buffer, Sequence[int]]] = MappingProxyType({}),
    ) -> None:
        self._extents = extents
        self._buffers = buffers
        self._values: dict[int, Value] = {}

    def scope(self, scope: Scope) -> Scope:
        made = copy.copy(scope)
        made.statements = [self._statement(s) for s in scope.statements]
        return made

    def value(self, value: Value) -> Value:
        """The copy of a value; itself if it was made outside of what is copied."""
        return self._values.get(id(value), value)

    def buffer(self, buffer: Buffer) -> Buffer:
        """The buffer that takes the place of one."""
        return self._buffers[buffer][0] if buffer in self._buffers else buffer

    def _extent(self, extent: Extent) -> Extent:
        return extent if isinstance(extent, int) else substitute(extent, self._extents)

    def _index(self, buffer: Buffer, index: tuple[Extent, ...]) -> tuple[Extent, ...]:
        order = self._buffers[buffer][1] if buffer in self._buffers else range(len(index))
        return tuple(self._extent(index[axis]) for axis in order)

    def _region(self, region: Region) -> Region:
        body = self.scope(region.body)
        value = None if region.value is None else self.value(region.value)
        lines = None if region.lines is None else self._region(region.lines)
        return replace(region, body=body, value=value, lines=lines)

    def _all(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(map(self.value, values))

    def _statement(self, s: Any) -> Any:
        if isinstance(s, Value):
            immediate = s.immediate
            if isinstance(immediate, Address):
                buffer, index = immediate.buffer, immediate.index
                at = self._index(buffer, index)
                immediate = Address(self.buffer(buffer), at, immediate.count)
            elif s.opcode == "index":
                immediate = self._extent(immediate)
            made = Value(s.scope, s.opcode, self._all(s.args), s.dtype, immediate)
            self._values[id(s)] = made
            return made
        mask = None if getattr(s, "mask", None) is None else self.value(s.mask)
        if isinstance(s, Store):
            index, args = self._index(s.buffer, s.index), self._all(s.args)
            return Store(self.buffer(s.buffer), index, self.value(s.value), args, mask)
        if isinstance(s, Accumulate):
            factor = None if s.factor is None else self.value(s.factor)
            return Accumulate(s.accumulator, self.value(s.value), mask, factor)
        if isinstance(s, Contract):
            regions = map(self._region, (s.left, s.right, s.epilogue))
            left, right, epilogue = regions
            over = [self.buffer(buffer) for buffer in s.overwriting]
            return replace(s, left=left, right=right, epilogue=epilogue, overwriting=over)
        assert isinstance(s, For)
        bounds = self._extent(s.start), self._extent(s.stop)
        return replace(s, start=bounds[0], stop=bounds[1], body=self.scope(s.body))


__all__ = ["can_be_copied", "flat_lanes", "in_tasks", "of_rows", "relaid", "restricted"]
