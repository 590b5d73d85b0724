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
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from graphc.dims import Extent, substitute

# What an extent that is not known counts as, in comparisons of sizes.
LIKELY_EXTENT = 256
# Another order is taken if the peak falls below this part of it.
WORTH = 0.95

Step = TypeVar("Step")


@dataclass(frozen=True)
class Traffic(Generic[Step]):
    """What steps read of one another: for each step the values that it reads, for each value the
    step that makes it, and its bytes. A step also comes after those that `after` names, of which it
    reads nothing.
    """

    reads: Mapping[Step, Sequence[Any]]
    maker: Mapping[Any, Step]
    sizes: Mapping[Any, int]
    after: Mapping[Step, Collection[Step]] = field(default_factory=dict)

    def needs(self, step: Step) -> list[Step]:
        """The steps whose values one reads, each once."""
        return list(dict.fromkeys(self.maker[value] for value in self.reads[step]))


def likely_bytes(size: Extent) -> int:
    """A size in bytes for comparisons: extents that are not known count as `LIKELY_EXTENT`."""
    if isinstance(size, int):
        return size
    found = substitute(size, dict.fromkeys(size.symbols, LIKELY_EXTENT))
    return found if isinstance(found, int) else LIKELY_EXTENT


def peak_bytes(order: Sequence[Step], traffic: Traffic[Step]) -> int:
    """The most bytes alive at a time: a value is alive from the step that makes it to the last that
    reads it, and may take the place of one of its size that ends there.
    """
    last = {value: step for step in order for value in traffic.reads[step]}
    starting: dict[Step, list[int]] = {}
    ending: dict[Step, list[int]] = {}
    for value, step in last.items():
        starting.setdefault(traffic.maker[value], []).append(traffic.sizes[value])
        ending.setdefault(step, []).append(traffic.sizes[value])
    alive = most = 0
    for step in order:
        made, gone = Counter(starting.get(step, ())), Counter(ending.get(step, ()))
        alive += sum(made.elements())
        most = max(most, alive - sum((made & gone).elements()))
        alive -= sum(gone.elements())
    return most


def schedule(order: Sequence[Step], traffic: Traffic[Step]) -> list[Step]:
    """The steps in an order in which each comes after those that it needs: another than the given
    one if that keeps fewer bytes alive.
    """
    made = _from_the_end(order, traffic)
    return made if peak_bytes(made, traffic) < WORTH * peak_bytes(order, traffic) else list(order)


def _from_the_end(order: Sequence[Step], traffic: Traffic[Step]) -> list[Step]:
    reads, sizes = traffic.reads, traffic.sizes
    readers: dict[Any, list[Step]] = {}
    own: dict[Step, int] = dict.fromkeys(order, 0)
    before: dict[Step, list[Step]] = {}
    depth: dict[Step, int] = {}
    waiting = dict.fromkeys(order, 0)
    for step in order:
        needs = traffic.needs(step)
        depth[step] = 1 + max((depth[needed] for needed in needs), default=0)
        before[step] = [*needs, *traffic.after.get(step, ())]
        for earlier in before[step]:
            waiting[earlier] += 1
        for value in reads[step]:
            readers.setdefault(value, []).append(step)
    for value in readers:
        own[traffic.maker[value]] += sizes[value]
    number = {step: i for i, step in enumerate(order)}
    alive: set[Any] = set()
    placed: set[Step] = set()
    ready: list[tuple[int, int, int, Step]] = []

    def offer(step: Step) -> None:
        """Enter a step with what it adds; among equals the deepest, then the latest, is first."""
        added = sum(sizes[value] for value in reads[step] if value not in alive)
        heapq.heappush(ready, (added - own[step], -depth[step], -number[step], step))

    for step in order:
        if not waiting[step]:
            offer(step)
    found: list[Step] = []
    while ready:
        step = heapq.heappop(ready)[3]
        if step in placed:
            continue
        placed.add(step)
        found.append(step)
        fresh = [value for value in reads[step] if value not in alive]
        alive.update(fresh)
        for earlier in before[step]:
            waiting[earlier] -= 1
            if waiting[earlier] == 0:
                offer(earlier)
        for reader in {reader for value in fresh for reader in readers[value]}:
            if waiting[reader] == 0 and reader not in placed:  # it adds less now
                offer(reader)
    return found[::-1]
