"""How many sums does a loop in lanes carry?  As many as there are registers for.

A product that is reduced at once has a sum for each of its columns, in every lane: twenty vectors,
where AVX2 has sixteen registers, and those that lie in memory wait for themselves from iteration to
iteration, as for what was stored last. Such a loop is run several times, with a part of the sums
each: what is computed for all of them is computed again, and what each of them loads is loaded once
all the same. No sum sees a difference.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.machine import Machine
from graphc.codegen.rare import used_values
from graphc.codegen.scalar import BITS, Accumulate, Accumulator, For, Scope, Value

# Registers for what an iteration loads and computes.
SPARE_REGISTERS = 4
# What the parts compute together may be so much more than the whole loop.
MOST_REPEATED = 1.5


def in_registers(loop: For, lanes: int, machine: Machine) -> list[For]:
    """A loop in order in so many lanes, in parts whose sums stay in registers; the loop itself if
    they do anyway, if it does more than add up, or if too much would be computed again.
    """
    statements = loop.body.statements
    if lanes == 1 or not all(_only_adds(s) for s in statements):
        return [loop]
    free = machine.vector_registers - SPARE_REGISTERS
    needed = [_registers(each, lanes, machine) for each in loop.accumulators]
    count = -(-sum(needed) // free)
    if sum(needed) <= machine.vector_registers or max(needed) > free:
        return [loop]
    size = -(-len(needed) // count)
    groups = [loop.accumulators[i : i + size] for i in range(0, len(needed), size)]
    parts = [_part(loop, group) for group in groups]
    repeated = sum(len(part.body.statements) for part in parts)
    return parts if repeated <= MOST_REPEATED * len(statements) else [loop]


def _only_adds(statement: object) -> bool:
    if isinstance(statement, Accumulate):
        return True
    return isinstance(statement, Value) and statement.opcode not in ("call", "result")


def _registers(accumulator: Accumulator, lanes: int, machine: Machine) -> int:
    return max(1, lanes * BITS[accumulator.dtype] // (8 * machine.vector_bytes))


def _part(loop: For, accumulators: Sequence[Accumulator]) -> For:
    """The loop with some of its sums, and what these need."""
    body, needed = Scope(loop.body.parent), set[int]()
    for statement in reversed(loop.body.statements):
        if isinstance(statement, Accumulate):
            wanted = statement.accumulator in accumulators
        else:
            wanted = id(statement) in needed
        if wanted:
            body.statements.append(statement)
            needed |= {id(value) for value in used_values(statement)}
    body.statements.reverse()
    return For(loop.variable, loop.start, loop.stop, loop.role, body, list(accumulators))
