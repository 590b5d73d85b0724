"""In which order do the kernels of a graph run?  In one that keeps few bytes alive.

Any order in which each kernel comes after those that it needs gives the same result. A walk from
the outputs, depth first, finds one of them, but a poor one for a gradient: it goes down the whole
chain of cotangents before it makes the gradient of the second weight, so all of them are kept. Here
the order is built from its end. Of the kernels whose readers have all been placed, the one is
placed before them that adds least to what is alive there: its own result need not be alive any
more, what it reads must. So a kernel that recomputes a value comes just before the first that reads
it. It is the greedy rule of register allocation by pebbling (Sethi and Ullman, J. ACM 17, 1970) on
graphs that are not trees, where it is a heuristic: it is taken only where the peak falls.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TypeVar

from graphc.dims import Extent, substitute

Step = TypeVar("Step")

# What an extent that is not known counts as, in comparisons of sizes.
LIKELY_EXTENT = 256
# Another order is taken if the peak falls below this part of it.
WORTH = 0.95


def likely_bytes(size: Extent) -> int:
    """A size in bytes for comparisons: extents that are not known count as `LIKELY_EXTENT`."""
    if isinstance(size, int):
        return size
    found = substitute(size, dict.fromkeys(size.symbols, LIKELY_EXTENT))
    return found if isinstance(found, int) else LIKELY_EXTENT


def peak_bytes(
    order: Sequence[Step], needs: Mapping[Step, Sequence[Step]], sizes: Mapping[Step, int]
) -> int:
    """The most bytes alive at a time: a result is alive from its step to the last that needs it."""
    last = {needed: step for step in order for needed in needs[step]}
    ending: dict[Step, int] = {}
    for needed, step in last.items():
        ending[step] = ending.get(step, 0) + sizes[needed]
    alive = most = 0
    for step in order:
        alive += sizes[step] if step in last else 0
        most = max(most, alive)
        alive -= ending.get(step, 0)
    return most


def schedule(
    order: Sequence[Step], needs: Mapping[Step, Sequence[Step]], sizes: Mapping[Step, int]
) -> list[Step]:
    """The steps in an order that respects `needs`: another than the given one if that keeps fewer
    bytes alive. `sizes` are the bytes of the results that other steps need.
    """
    made = _from_the_end(order, needs, sizes)
    before, after = (peak_bytes(each, needs, sizes) for each in (order, made))
    return made if after < WORTH * before else list(order)


def _from_the_end(
    order: Sequence[Step], needs: Mapping[Step, Sequence[Step]], sizes: Mapping[Step, int]
) -> list[Step]:
    users: dict[Step, list[Step]] = {step: [] for step in order}
    depth: dict[Step, int] = {}
    for step in order:
        depth[step] = 1 + max((depth[needed] for needed in needs[step]), default=0)
        for needed in needs[step]:
            users[needed].append(step)
    waiting = {step: len(users[step]) for step in order}
    number = {step: i for i, step in enumerate(order)}
    alive: set[Step] = set()
    placed: set[Step] = set()
    ready: list[tuple[int, int, int, Step]] = []

    def offer(step: Step) -> None:
        """Enter a step with what it adds; among equals the deepest, then the latest, is first."""
        added = sum(sizes[needed] for needed in needs[step] if needed not in alive)
        gone = sizes[step] if users[step] else 0
        heapq.heappush(ready, (added - gone, -depth[step], -number[step], step))

    for step in order:
        if not users[step]:
            offer(step)
    found: list[Step] = []
    while ready:
        step = heapq.heappop(ready)[3]
        if step in placed:
            continue
        placed.add(step)
        found.append(step)
        for needed in needs[step]:
            waiting[needed] -= 1
            if waiting[needed] == 0:
                offer(needed)
            if needed not in alive:
                alive.add(needed)
                for user in users[needed]:  # they add less now
                    if waiting[user] == 0 and user not in placed:
                        offer(user)
    return found[::-1]
