"""Which instructions are rarely needed?  Those behind selects whose condition seldom holds.

A procedure that treats far arguments in another way computes both ways and selects. Where it says
that one is rare, a printer may put it behind a branch that is seldom taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from graphc.codegen.scalar import For, Scope, Value, walk


@dataclass(frozen=True)
class Rare:
    """Selects on one condition that seldom holds, and the instructions that nothing else needs.

    A printer may put `instructions` and the selects behind a branch on "any lane of `condition`",
    at the place of the first select; without the branch each select is its last operand.
    """

    condition: Value
    selects: tuple[Value, ...]
    instructions: tuple[Value, ...]


def rarely_needed(scope: Scope, results: Iterable[Value] = ()) -> list[Rare]:
    """The branches that selects with the hint "rarely" allow in this scope, in order.

    `results` are values that something other than these statements uses. Loads stay where they are.
    A select that only another branch needs is an ordinary instruction of that branch.
    """
    groups = _rare_groups(scope)
    group_of = {select: number for number, group in enumerate(groups) for select in group}
    always = len(groups)
    need = dict.fromkeys(results, always)  # by which group a value is needed, or always

    def note(value: Value, number: int) -> None:
        need[value] = number if need.get(value, number) == number else always

    for statement in reversed(scope.statements):
        if statement in group_of and need.get(statement, always) == always:
            condition, rare, usual = statement.args
            need[statement] = always
            note(rare, group_of[statement])
            note(condition, always)
            note(usual, always)
        elif isinstance(statement, Value) and statement.opcode not in ("load", "result"):
            for value in statement.args:
                note(value, need.get(statement, always))
        else:
            need[statement] = always
            inside = walk(statement.body) if isinstance(statement, For) else ()
            for value in itertools.chain.from_iterable(map(used_values, (statement, *inside))):
                note(value, always)
    hidden: list[list[Value]] = [[] for _ in groups]
    for statement in scope.statements:
        number = need.get(statement, always)
        if number != always and statement.opcode != "const":
            hidden[number].append(statement)
    outer = [[select for select in group if need[select] == always] for group in groups]
    return [
        Rare(group[0].args[0], tuple(group), tuple(instructions))
        for group, instructions in zip(outer, hidden, strict=True)
        if group and instructions
    ]


def _rare_groups(scope: Scope) -> list[list[Value]]:
    """Selects with the hint, together where one branch can serve them.

    They have one condition, and all their operands come before the first of them.
    """
    position = {statement: i for i, statement in enumerate(scope.statements)}
    groups: list[list[Value]] = []
    for statement in scope.statements:
        if not isinstance(statement, Value) or statement.immediate != "rarely":
            continue
        first = groups[-1][0] if groups else None
        if first is not None and first.args[0] is statement.args[0] and all(
            position.get(value, -1) < position[first] for value in statement.args
        ):
            groups[-1].append(statement)
        else:
            groups.append([statement])
    return groups


def used_values(statement: Any) -> list[Value]:
    """The values that a statement uses, whatever its fields are called."""
    if type(statement) is Value:
        return list(statement.args)
    found: list[Value] = []
    for value in (getattr(statement, name, None) for name in _OPERAND_FIELDS):
        if isinstance(value, Value):
            found.append(value)
        elif isinstance(value, tuple):
            found += [each for each in value if isinstance(each, Value)]
    return found


_OPERAND_FIELDS = ("args", "value", "factor", "mask", "condition", "index")
