"""How does a kernel become one for a part of its work, or for arrays that lie otherwise?

It is copied with other indices: for some products of the batch of a contraction (`restricted`), or
with the axes of an array in another order (`relaid`). So steps and places are found as in any other
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
from graphc.dims import Dim, Extent, substitute

# What a kernel may hold to be copied.
COPIED = (Value, Store, Accumulate, For, Contract)
# The one product of a batch of one: its number is 0, so it is in no index.
ALONE = "_alone"


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


__all__ = ["can_be_copied", "relaid", "restricted"]
