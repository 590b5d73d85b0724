"""Where are the states of a loop?  In one place each, or in the rows that the loop gives out.

A body reads old states and makes new ones. A new state is written over the old one if nothing reads
the old one any more, or if its kernel reads each element only where it writes the same: `settle`
finds out. Otherwise it is made aside and copied. A scan that gives out the state before every step
needs no place besides: step t reads row t of what is given out, and writes the row that comes next
(`Rows`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphc.codegen.emit import copy_operand
from graphc.codegen.loops import Contract
from graphc.codegen.passes.inplace import may_overwrite
from graphc.codegen.program import (
    Launch,
    Operand,
    Statement,
    Storage,
    bodies,
    operands_of,
)
from graphc.dims import Extent, product
from graphc.types import Shape


@dataclass(frozen=True)
class State:
    """A state of a loop: where it is, where the body makes the next one, and its shape."""

    place: Operand
    fresh: Operand
    shape: Shape


@dataclass(frozen=True)
class Rows:
    """A storage whose rows are a state before every step, and after the last."""

    storage: Storage
    length: Extent
    size: Extent  # of a row
    reverse: bool

    @staticmethod
    def within(place: Operand, shape: Shape, length: Extent, reverse: bool) -> Rows | None:
        """A place for stacked states, with one row more; None if it is not its own to lengthen."""
        storage = place.storage
        own = storage.kind == "temporary" and storage.shape == shape
        if not own or place.offset != 0:
            return None
        storage.shape = (length + 1, *shape[1:])
        return Rows(storage, length, product(shape[1:]), reverse)

    @property
    def stacked(self) -> Operand:
        """The rows of the steps."""
        return self._row(int(self.reverse))

    @property
    def initial(self) -> Operand:
        return self._row(self.length if self.reverse else 0)

    @property
    def final(self) -> Operand:
        return self._row(0 if self.reverse else self.length)

    def before(self, step: Extent) -> Operand:
        """The state that a step reads."""
        return self._row(step + int(self.reverse))

    def after(self, step: Extent) -> Operand:
        """The state that it makes."""
        return self._row(step + int(not self.reverse))

    def _row(self, number: Extent) -> Operand:
        return Operand(self.storage, number * self.size)


def settle(body: list[Statement], states: Sequence[State], own: Collection[Storage]) -> None:
    """Let the body end with its new states in their places: written there, or copied.

    `own` are the temporaries that are made and used up in the body.
    """
    forward_copies(body, own)
    for state in states:
        if _may_be_written(body, state):
            place = state.place
            _redirect(body, state.fresh.storage, place.storage, place.offset)
        else:
            body += copy_operand(state.fresh, state.place, state.shape)
    body[:] = [s for s in body if not (isinstance(s, Launch) and s.is_idle)]


def forward_copies(body: list[Statement], own: Collection[Storage]) -> None:
    """Make what is only made to be copied where the copy goes: an array that is changed several
    times is one. `own` are temporaries that nothing outside the body knows. One of which only a
    part is copied stays where it is: rows with one more behind them, an array of parts.
    """
    for i, statement in enumerate(body):
        if not isinstance(statement, Launch) or not statement.copies or statement.is_idle:
            continue
        source, target = statement.operands
        old, new = source.storage, target.storage
        size = product(statement.kernel.buffers[0].shape)
        whole = source.offset == 0 and size == product(old.shape)
        if old not in own or not whole or any(_touches(s, new) for s in body[:i]):
            continue
        if any(_touches(s, old) for s in body[i + 1 :]):
            continue
        _redirect(body, old, new, target.offset)
    body[:] = [s for s in body if not (isinstance(s, Launch) and s.is_idle)]


def _may_be_written(body: list[Statement], state: State) -> bool:
    old, new = state.place.storage, state.fresh.storage
    writer = next((i for i, s in enumerate(body) if _touches(s, new)), None)
    if writer is None or any(_touches(statement, old) for statement in body[writer + 1 :]):
        return False
    statement = body[writer]
    if not _touches(statement, old):
        return True
    if not isinstance(statement, Launch):
        return False
    return may_overwrite(statement, old, new) or _adds_aside(statement, old, new)


def _adds_aside(launch: Launch, old: Storage, new: Storage) -> bool:
    """Whether a product may write the new state over the old one, which its epilogue reads, if it
    does not sum up there. If so it no longer does.
    """
    contract = launch.kernel.nest
    if not isinstance(contract, Contract):
        return False
    pairs = zip(launch.kernel.buffers, launch.operands, strict=True)
    before = contract.overwriting
    contract.overwriting = [*before, *[buffer for buffer, o in pairs if o.storage is new]]
    if may_overwrite(launch, old, new):
        return True
    contract.overwriting = before
    return False


def _touches(statement: Statement, storage: Storage) -> bool:
    return any(operand.storage is storage for operand in operands_of(statement)) or any(
        _touches(s, storage) for inner in bodies(statement) for s in inner
    )


def _redirect(body: list[Statement], fresh: Storage, storage: Storage, offset: Extent) -> None:
    """Let what writes and reads one storage do so in another. The operand that a state was made
    with may be among them, so neither is taken from it on the way.
    """
    for statement in body:
        for inner in bodies(statement):
            _redirect(inner, fresh, storage, offset)
        for operand in operands_of(statement):
            if operand.storage is fresh:
                operand.storage = storage
                operand.offset = operand.offset + offset
