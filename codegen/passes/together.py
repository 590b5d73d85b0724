"""Which launches need not wait for each other?  They become one launch of several parts.

A launch costs a GPU some microseconds, and a small one leaves most of it idle. Launches that
neither read nor write what another of them writes can share one: some blocks do one, some another,
and what several of them read is read once. Statements keep their order wherever one needs another;
a launch moves up to the first place where all that it needs is done, to a launch there with room.

This is done before memory is planned, so temporaries of one launch never share a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from graphc.codegen.program import (
    Blocks,
    Call,
    Chain,
    Launch,
    Operand,
    Program,
    Statement,
    Storage,
    Together,
    bodies,
    operands_of,
)
from graphc.dims import product

# Parts of one launch.
MOST_PARTS = 8
# Statements back that a launch looks for one to join: the work stays linear in the program.
LOOK_BACK = 24


@dataclass(eq=False)
class _Round:
    """Statements that run at once: one of any kind, or several launches."""

    statements: list[Statement]
    joins: bool
    touches: list[Touch] = field(default_factory=list)


@dataclass(frozen=True)
class Touch:
    """Elements of a storage that a statement reads or writes; all of it if the size is None."""

    storage: Storage
    start: int
    size: int | None
    writes: bool

    def conflicts(self, other: Touch) -> bool:
        if self.storage is not other.storage or not (self.writes or other.writes):
            return False
        if self.size is None or other.size is None:
            return True
        return self.start < other.start + other.size and other.start < self.start + self.size


def put_together(program: Program, joins: Callable[[Launch | Chain], bool]) -> None:
    """Join launches of a program wherever `joins` allows it of each."""
    for procedure in (*program.procedures, program.main):
        procedure.body[:] = _joined(procedure.body, joins)


def _joined(body: list[Statement], joins: Callable[[Launch | Chain], bool]) -> list[Statement]:
    rounds: list[_Round] = []
    for statement in body:
        for inner in bodies(statement):
            inner[:] = _joined(inner, joins)
        touches = list(touches_of(statement))
        able = isinstance(statement, (Launch, Chain)) and joins(statement)
        target = _target(rounds, touches) if able else None
        if target is None:
            rounds.append(_Round([statement], able, touches))
        else:
            target.statements.append(statement)
            target.touches += touches
    return [
        each.statements[0] if len(each.statements) == 1 else Together(each.statements)  # type: ignore[arg-type]
        for each in rounds
    ]


def _target(rounds: list[_Round], touches: list[Touch]) -> _Round | None:
    """The earliest round that a launch may join: it must come after all that it waits for."""
    found = None
    for each in reversed(rounds[-LOOK_BACK:]):
        if any(mine.conflicts(other) for mine in touches for other in each.touches):
            break
        if each.joins and len(each.statements) < MOST_PARTS:
            found = each
    return found


def touches_of(statement: Statement) -> Iterator[Touch]:
    for inner in bodies(statement):
        for each in inner:
            yield from touches_of(each)
    if isinstance(statement, (Blocks, Chain, Together)):
        for launch in statement.launches:
            yield from touches_of(launch)
    elif isinstance(statement, Launch):
        written = set(statement.kernel.written())
        for buffer, operand in zip(statement.kernel.buffers, statement.operands, strict=True):
            if operand.storage.kind in ("constant", "held"):
                continue
            yield _touch(operand, product(buffer.shape), buffer in written)
    elif isinstance(statement, Call):
        count = len(statement.procedure.inputs)
        for position, operand in enumerate(statement.operands):
            yield Touch(operand.storage, 0, None, position >= count)
    else:
        for operand in operands_of(statement):
            yield Touch(operand.storage, 0, None, False)


def _touch(operand: Operand, size: object, writes: bool) -> Touch:
    known = isinstance(operand.offset, int) and isinstance(size, int)
    if not known or operand.storage.strided:
        return Touch(operand.storage, 0, None, writes)
    return Touch(operand.storage, int(operand.offset), int(size), writes)  # type: ignore[call-overload]


__all__ = ["Touch", "put_together", "touches_of"]
