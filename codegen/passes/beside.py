"""Which statements could run side by side?  Those should not take turns in one place of the arena.

Statements that do not need each other can be on streams of their own. They are laid out on a few:
a statement follows on the stream of one that it waits for, where that is the last there, and events
stand for the other waits. With few streams those of a wide program still come in groups, so that
only the temporaries of so many lives at a time are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.passes.together import touches_of
from graphc.codegen.program import Statement


@dataclass(frozen=True)
class Slot:
    """Where a launch goes: the number of its stream, the launches whose events that stream waits
    for before it, and whether another stream waits for this one.
    """

    branch: int
    waits: tuple[int, ...] = ()
    is_awaited: bool = False


def laid_out(needs: Sequence[frozenset[int]], most: int) -> list[Slot]:
    """Launches on at most so many streams, each after those that it needs. Waits that follow from
    earlier ones are left out.
    """
    branches: list[int] = []
    waits: list[tuple[int, ...]] = []
    awaited: set[int] = set()
    tails: list[int] = []  # the last launch of each stream
    done: list[list[int]] = []  # for each launch: of each stream the last one that is over then
    for number, mine in enumerate(needs):
        branch = _branch(mine, branches, tails, most)
        if branch == len(tails):
            tails.append(-1)
        clock = list(done[tails[branch]]) if tails[branch] >= 0 else [-1] * most
        listed = []
        for other in sorted(mine, reverse=True):
            if clock[branches[other]] < other:
                listed.append(other)
                clock = [max(pair) for pair in zip(clock, done[other], strict=True)]
        clock[branch] = number
        awaited.update(listed)
        branches.append(branch)
        waits.append(tuple(sorted(listed)))
        done.append(clock)
        tails[branch] = number
    return [
        Slot(branch, listed, number in awaited)
        for number, (branch, listed) in enumerate(zip(branches, waits, strict=True))
    ]


def _branch(mine: frozenset[int], branches: list[int], tails: list[int], most: int) -> int:
    """The stream of the latest launch that is waited for and the last on its own; else a new one,
    or that which has been quiet for longest.
    """
    for other in sorted(mine, reverse=True):
        if tails[branches[other]] == other:
            return branches[other]
    if len(tails) < most:
        return len(tails)
    return min(range(len(tails)), key=tails.__getitem__)


def ticks(body: Sequence[Statement], most: int) -> list[int]:
    """When each statement runs on so many streams if each takes one tick; equal ticks are side by
    side.
    """
    needs = _needs(body)
    found: list[int] = []
    free = [0] * most
    for mine, slot in zip(needs, laid_out(needs, most), strict=True):
        now = max([free[slot.branch], *(found[other] + 1 for other in mine)])
        free[slot.branch] = now + 1
        found.append(now)
    return found


def _needs(body: Sequence[Statement]) -> list[frozenset[int]]:
    """For each statement those that it must come after, by the storages that they touch."""
    writers: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    found = []
    for number, statement in enumerate(body):
        mine: set[int] = set()
        touched = list(touches_of(statement))
        for touch in touched:
            key = id(touch.storage)
            mine |= {writers[key]} if key in writers else set()
            mine |= readers.get(key, set()) if touch.writes else set()
        for touch in touched:
            key = id(touch.storage)
            if touch.writes:
                writers[key] = number
                readers[key] = set()
            else:
                readers.setdefault(key, set()).add(number)
        found.append(frozenset(mine - {number}))
    return found


__all__ = ["Slot", "laid_out", "ticks"]
