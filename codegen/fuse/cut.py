"""Which places cut the sources of a network off from its goals for the least price?

`remaking` asks it which values to store: the places are values, their prices the bytes that storing
and reading them moves. A minimum cut is found by augmenting paths (Ford and Fulkerson): as long as
a way from a source to a goal has room, more is sent along it; what is full in the end is the cut. A
place has two sides, and a price between them.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

Place = TypeVar("Place", bound=Hashable)


def minimum_cut(
    before: Mapping[Place, Collection[Place]],
    price: Mapping[Place, int | None],
    goals: Collection[Place],
) -> tuple[set[Place], set[Place]] | None:
    """The places that, taken away, leave no way from a source to a goal, and those behind them.

    `before` gives what leads to each place, `price` what it costs to take it away: None if it
    cannot be. A source has nothing before it and a price. Of equally cheap cuts it is the one next
    to the goals. None if no cut is possible.
    """
    flow: dict[Place, int] = dict.fromkeys(before, 0)  # through a place
    along: dict[tuple[Place, Place], int] = {}  # from a place to the next
    after: dict[Place, list[Place]] = {place: [] for place in before}
    for place, earlier in before.items():
        for each in earlier:
            after[each].append(place)

    def steps(place: Place, entered: bool) -> list[tuple[Place, bool]]:
        """Where a search from the goals goes on: sides of places, True for the one that flow enters
        by.
        """
        if entered:  # what may send more to this place, or what it sends back
            found = [(each, False) for each in before[place]]
            return [*found, (place, False)] if flow[place] else found
        free = price[place]
        found = [(each, True) for each in after[place] if along.get((place, each), 0)]
        return [(place, True), *found] if free is None or flow[place] < free else found

    def search() -> tuple[dict[tuple[Place, bool], tuple[Place, bool] | None], Place | None]:
        """All that can still reach a goal, and a source among it."""
        came: dict[tuple[Place, bool], tuple[Place, bool] | None]
        came = {(goal, False): None for goal in goals}
        waiting = list(came)
        while waiting:
            at = waiting.pop()
            place, entered = at
            if entered and not before[place]:
                return came, place
            for step in steps(place, entered):
                if step not in came:
                    came[step] = at
                    waiting.append(step)
        return came, None

    while True:
        came, source = search()
        if source is None:
            break
        path: list[tuple[Place, bool]] = []
        at: tuple[Place, bool] | None = (source, True)
        while at is not None:
            path.append(at)
            at = came[at]
        if not _augmented(path, price, flow, along):
            return None
    cut = {place for place in before if (place, False) in came and (place, True) not in came}
    return cut, {place for place in before if (place, True) in came}


def _augmented(
    path: Sequence[tuple[Place, bool]],
    price: Mapping[Place, int | None],
    flow: dict[Place, int],
    along: dict[tuple[Place, Place], int],
) -> bool:
    """Send as much as there is room for along a path; whether that is bounded."""
    pairs = list(zip(path, path[1:], strict=False))
    rooms = [_room(one, other, price, flow, along) for one, other in pairs]
    known = [room for room in rooms if room is not None]
    if not known:
        return False
    more = min(known)
    for (one, entered), (other, _) in pairs:
        if one is other:
            flow[one] += more if entered else -more
        elif entered:
            along[other, one] -= more
        else:
            along[one, other] = along.get((one, other), 0) + more
    return True


def _room(
    one: tuple[Place, bool],
    other: tuple[Place, bool],
    price: Mapping[Place, int | None],
    flow: Mapping[Place, int],
    along: Mapping[tuple[Place, Place], int],
) -> int | None:
    """How much more can go from one side of a place to another; None if any amount."""
    (place, entered), (following, _) = one, other
    if place is following:
        most = price[place]
        if not entered:
            return flow[place]
        return None if most is None else most - flow[place]
    return along[following, place] if entered else None


__all__ = ["minimum_cut"]
