"""When may one array be written over another?

In one launch: when every load of the old array is at the very position at which the new one is
stored in the same iteration (`may_overwrite`). The memory plan then lets a temporary take the place
of one that dies. A donated pair is *safe* if every launch that reads the input comes before the
first that writes the output, or is that launch and may overwrite; for any other pair the output is
made in a temporary and copied at the end (`protect`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.codegen.emit import copy_operand
from graphc.codegen.loops import (
    WIDEST_BYTES,
    Buffer,
    Contract,
    Kernel,
    accumulator_buffer,
    linear,
    most_steps,
    scopes,
)
from graphc.codegen.program import (
    Launch,
    Operand,
    Procedure,
    Statement,
    Storage,
    bodies,
    operands_of,
)
from graphc.codegen.scalar import Address, For, Scope, Store, Value, walk
from graphc.dims import Extent, symbols_of

# Of rows of which many fit into the time that one waits.
SHORT_BYTES = 512


def protect(procedure: Procedure, donated: Mapping[int, int]) -> None:
    """Redirect outputs that would overwrite a donated input too early. `donated`: input to output,
    by position.
    """
    for source, target in donated.items():
        given, made = procedure.inputs[source], procedure.outputs[target]
        _accumulate_elsewhere(procedure.body, given, made)
        if not _is_safe(procedure.body, given, made):
            aside = Storage("temporary", made.dtype, made.shape)
            _redirect(procedure.body, made, aside)
            procedure.body += copy_operand(Operand(aside), Operand(made), made.shape)
        else:
            _drop_copies(procedure.body, given, made)


def _drop_copies(body: list[Statement], given: Storage, made: Storage) -> None:
    """Without what copies an input to the output that is the same memory."""
    body[:] = [
        s
        for s in body
        if not (
            isinstance(s, Launch)
            and s.copies
            and [operand.storage for operand in s.operands] == [given, made]
            and all(operand.offset == 0 for operand in s.operands)
        )
    ]


def _accumulate_elsewhere(body: list[Statement], given: Storage, made: Storage) -> None:
    """Contractions that read a donated input in their epilogue must not sum up in the output that
    lies over it.
    """
    for statement in body:
        if not isinstance(statement, Launch) or not isinstance(statement.kernel.nest, Contract):
            continue
        pairs = list(zip(statement.kernel.buffers, statement.operands, strict=True))
        if any(operand.storage is given for _, operand in pairs):
            outputs = [buffer for buffer, operand in pairs if operand.storage is made]
            statement.kernel.nest.overwriting += outputs


def _is_safe(body: list[Statement], given: Storage, made: Storage) -> bool:
    written = False
    for statement in body:
        if bodies(statement):
            if written and _touches([statement], given) or _touches([statement], made):
                return False
            continue
        storages = [operand.storage for operand in operands_of(statement)]
        reads, writes = given in storages, made in storages
        if written and reads:
            return False
        if writes and reads and not (
            isinstance(statement, Launch) and may_overwrite(statement, given, made)
        ):
            return False
        written = written or writes
    return True


def _touches(body: list[Statement], storage: Storage) -> bool:
    return any(
        storage in [operand.storage for operand in operands_of(statement)]
        or any(_touches(inner, storage) for inner in bodies(statement))
        for statement in body
    )


def may_overwrite(launch: Launch, given: Storage, made: Storage) -> bool:
    """Whether a launch reads each element of `given` only where it writes the same element of
    `made`.

    Positions are compared as polynomials of loop variables, and both must stand in the same loop.
    """
    return Overwriting(launch).allows(given, made)


@dataclass(frozen=True, eq=False)
class _Access:
    """A load or a store: its number in the text, its scope, and whether its index is free of data.
    """

    number: int
    scope: Scope
    buffer: Buffer
    index: tuple[Extent, ...]
    plain: bool

    @property
    def at(self) -> Extent:
        """The position in memory."""
        return linear(self.buffer, self.index)


class Overwriting:
    """What may be written over what in one launch: its kernel is read once, however many ask."""

    def __init__(self, launch: Launch) -> None:
        kernel = launch.kernel
        self._nest = kernel.nest
        self._alone = launch.tasks == 1 and _has_no_lanes(kernel)
        self._buffers: dict[Storage, list[Buffer]] = {}
        self._fixed: set[Storage] = set()
        for buffer, operand in zip(kernel.buffers, launch.operands, strict=True):
            self._buffers.setdefault(operand.storage, []).append(buffer)
            if operand.offset != 0 or operand.storage.strided:
                self._fixed.add(operand.storage)
        self._loads: dict[Buffer, list[_Access]] = {}
        self._stores: dict[Buffer, list[_Access]] = {}
        self._short: set[int] = set()  # the stores by lanes to rows that do not fill vectors
        number = 0
        for scope in scopes(kernel):
            loops = [s for s in walk(scope) if isinstance(s, For)]
            lanes = [loop.variable for loop in loops if _has_short_rows(loop)]
            for inner in (scope, *[loop.body for loop in loops]):
                for s in inner.statements:
                    number += 1
                    self._note(s, number, inner)
                    if isinstance(s, Store) and _mentions(s.index[-1:], lanes) and len(s.index) > 1:
                        self._short.add(number)

    def _note(self, s: Any, number: int, scope: Scope) -> None:
        if isinstance(s, Store):
            access = _Access(number, scope, s.buffer, s.index, s.args == ())
            self._stores.setdefault(s.buffer, []).append(access)
        elif isinstance(s, Value) and isinstance(s.immediate, Address):
            buffer, index = s.immediate.buffer, s.immediate.index
            access = _Access(number, scope, buffer, index, s.args == ())
            self._loads.setdefault(buffer, []).append(access)

    def pays(self, made: Storage) -> bool:
        """Whether writing an array over another costs nothing. Where lanes go over short rows that
        do not fill vectors, a row is loaded from where lanes that are masked off have just not
        stored: the processor waits until that store has left it, twenty cycles for each row.
        """
        return not any(
            store.number in self._short
            for buffer in self._buffers.get(made, [])
            for store in self._stores.get(buffer, ())
        )

    def allows(self, given: Storage, made: Storage) -> bool:
        """Whether `made` may lie over `given`."""
        if given in self._fixed or made in self._fixed:
            return False
        inputs, outputs = self._buffers.get(given, []), self._buffers.get(made, [])
        nest = self._nest
        if isinstance(nest, Contract):
            if accumulator_buffer(nest) in outputs:
                return False  # the sums are there before the operand is read
            regions = (nest.left, nest.right)
            if any(_loads_from(s, set(inputs)) for r in regions for s in walk(r.body)):
                return False
        stores = [access for buffer in outputs for access in self._stores.get(buffer, ())]
        loads = [access for buffer in inputs for access in self._loads.get(buffer, ())]
        if len(stores) != 1:
            return False
        (store,) = stores
        return all(
            load.number < store.number  # else the store was before it
            and (
                self._alone
                and load.scope.parent is None  # loaded once, before anything is stored
                or load.scope is store.scope
                and load.plain
                and store.plain
                and load.at == store.at
            )
            for load in loads
        )


def _has_short_rows(loop: For) -> bool:
    """Whether lanes of a loop are few, and fewer than whole vectors have."""
    length = most_steps(loop.start, loop.stop)
    if loop.role != "vector" or length is None:
        return False
    sizes = [s.buffer.item_bytes for s in walk(loop.body) if isinstance(s, Store)]
    return any(length * size % WIDEST_BYTES and length * size <= SHORT_BYTES for size in sizes)


def _mentions(index: Sequence[Extent], variables: Sequence[str]) -> bool:
    return any(not symbols_of(extent).isdisjoint(variables) for extent in index)


def _has_no_lanes(kernel: Kernel) -> bool:
    """Whether one iteration does all that a kernel of one task does."""
    loops = [s for scope in scopes(kernel) for s in walk(scope) if isinstance(s, For)]
    return all(loop.role != "vector" for loop in loops)


def _loads_from(statement: Any, buffers: set[Buffer]) -> bool:
    """Whether a statement is a load of one of the buffers."""
    if not isinstance(statement, Value) or not isinstance(statement.immediate, Address):
        return False
    return statement.immediate.buffer in buffers


def _redirect(body: list[Statement], old: Storage, new: Storage) -> None:
    for statement in body:
        for inner in bodies(statement):
            _redirect(inner, old, new)
        for operand in operands_of(statement):
            if operand.storage is old:
                operand.storage = new
