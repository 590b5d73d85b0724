"""What is the smallest or the largest of extents?  The rules of min and max."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from graphc.dims.polynomial import (
    CACHED_RESULTS,
    FUNCTIONS,
    Compound,
    Extent,
    compound,
    require_extent,
)
from graphc.dims.terms import lone_atom


def dim_min(first: Extent, *others: Extent) -> Extent:
    """The smallest of the extents."""
    return _choose("min", tuple(map(require_extent, (first, *others))))


def dim_max(first: Extent, *others: Extent) -> Extent:
    """The largest of the extents."""
    return _choose("max", tuple(map(require_extent, (first, *others))))


_OPPOSITE = {"min": "max", "max": "min"}


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _choose(name: str, candidates: tuple[Extent, ...]) -> Extent:
    """min or max: nested ones are flattened, what cannot decide is dropped, the rest is sorted."""
    kept: list[Extent] = []
    for candidate in _flat_candidates(name, candidates):
        kept = keep_deciding(name, kept, candidate, _constant_difference_decides)
    # Absorption: min(a, max(a, b)) = a.
    absorbing = set(kept)
    kept = [
        candidate
        for candidate in kept
        if absorbing.isdisjoint(_arguments_of(candidate, _OPPOSITE[name]))
    ]
    if len(kept) == 1:
        return kept[0]
    return compound(name, *sorted(kept, key=_candidate_key))


def _candidate_key(candidate: Extent) -> tuple[bool, str]:
    return isinstance(candidate, int), str(candidate)


def _arguments_of(extent: Extent, name: str) -> tuple[Extent, ...]:
    """The arguments if `extent` is just the compound `name`, else nothing."""
    atom = lone_atom(extent)
    return atom.arguments if isinstance(atom, Compound) and atom.operator == name else ()


def _flat_candidates(name: str, candidates: Iterable[Extent]) -> Iterator[Extent]:
    for candidate in candidates:
        yield from _arguments_of(candidate, name) or (candidate,)


def keep_deciding(
    name: str,
    kept: list[Extent],
    candidate: Extent,
    at_most: Callable[[Extent, Extent], bool],
) -> list[Extent]:
    """`kept` with `candidate`, less what another one makes superfluous; `at_most(a, b)`: a <= b."""
    loses = at_most if name == "max" else lambda a, b: at_most(b, a)
    if any(loses(candidate, other) for other in kept):
        return kept
    return [other for other in kept if not loses(other, candidate)] + [candidate]


def _constant_difference_decides(left: Extent, right: Extent) -> bool:
    difference = right - left
    return isinstance(difference, int) and difference >= 0


FUNCTIONS.update(min=dim_min, max=dim_max)
