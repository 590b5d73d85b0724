"""On which columns does each element of an array depend?  A set of columns for every element.

What moves elements is index arithmetic, so a dependence is kept as it came about: a union of
*parts*, each of which says for every element from which row of a table of sets it takes over. For
elements of the input itself the table is the identity. Moving elements composes maps, adding arrays
unites lists of parts, and a part that comes from two sides is one object; so a chain of element-
wise work costs nothing, and sets are written out only where elements are combined (`gathered`) or
at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.autodiff.pattern import Pattern, sorted_pairs
from graphc.errors import GraphError

# Written-out sets hold no more columns than this in all: ten bytes each while they are sorted.
MOST_POSITIONS = 200_000_000
# More parts than this are united at once.
_MOST_PARTS = 24


@dataclass(frozen=True, eq=False)
class Sets:
    """A table of sets of columns: compressed rows."""

    indptr: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True, eq=False)
class Part:
    """Element i has what row `rows[i]` of `sets` holds, nothing where that is -1.

    Without a table it is the column of that number.
    """

    sets: Sets | None
    rows: np.ndarray


class Dependence:
    """What each of `size` elements depends on among `columns`."""

    __slots__ = ("columns", "parts", "size")

    def __init__(self, size: int, columns: int, parts: Sequence[Part]) -> None:
        self.size = size
        self.columns = columns
        self.parts = tuple(parts)

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """(elements, columns): every pair, some perhaps twice.

        `GraphError` if there are too many.
        """
        self._refuse_many()
        elements, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part in self.parts:
            if part.sets is None:
                found = np.flatnonzero(part.rows >= 0)
                elements.append(found)
                columns.append(part.rows[found])
            else:
                owners, places = _unrolled(part.sets.indptr, part.rows)
                elements.append(owners)
                columns.append(part.sets.indices[places])
        return np.concatenate(elements), np.concatenate(columns)

    def count(self) -> int:
        """How many places `entries` writes out."""
        count = 0
        for part in self.parts:
            if part.sets is None:
                count += len(part.rows)
            else:
                sizes = np.append(np.diff(part.sets.indptr), 0)
                count += int(sizes[part.rows].sum())
        return count

    def _refuse_many(self) -> None:
        count = self.count()
        if count > MOST_POSITIONS:
            raise GraphError(
                f"{self.size} elements depend on {self.columns} in up to {count} places: that is "
                f"no sparse Jacobian (at most {MOST_POSITIONS} are written out)\n"
                "Use gx.jvp, gx.vjp or gx.hvp, which need no matrix."
            )

    def pattern(self) -> Pattern:
        """A row for each element."""
        return Pattern.of(*self.entries(), (self.size, self.columns))


def _unrolled(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each place of the chosen rows its position in `rows`, and where it lies."""
    known = np.flatnonzero(rows >= 0)
    first = indptr[rows[known]]
    counts = indptr[rows[known] + 1] - first
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    shift = np.repeat(first - (ends - counts), counts)
    return np.repeat(known, counts), shift + np.arange(total)


def identity(size: int) -> Dependence:
    """Each element depends on its own column."""
    return Dependence(size, size, [Part(None, np.arange(size))])


class Moves:
    """How dependences are moved and united; remembers compositions, so that equal ones are one."""

    def __init__(self) -> None:
        self._composed: dict[tuple[int, int], tuple[Any, np.ndarray]] = {}

    def moved(self, given: Dependence, source: np.ndarray) -> Dependence:
        """Element i is what element `source[i]` was; nothing where that is -1."""
        parts = [Part(part.sets, self._composition(part.rows, source)) for part in given.parts]
        return Dependence(len(source), given.columns, parts)

    def _composition(self, rows: np.ndarray, source: np.ndarray) -> np.ndarray:
        key = id(rows), id(source)
        held = self._composed.get(key)
        if held is None:
            made = np.append(rows, -1)[source]  # -1 is the last
            held = self._composed[key] = ((rows, source), made)  # both stay, and so their ids
        return held[1]

    def united(self, given: Sequence[Dependence | None]) -> Dependence | None:
        """Each element depends on what it does in any of them."""
        known = [each for each in given if each is not None]
        if len(known) < 2:
            return known[0] if known else None
        parts = {(id(part.sets), id(part.rows)): part for each in known for part in each.parts}
        made = Dependence(known[0].size, known[0].columns, tuple(parts.values()))
        return made if len(parts) <= _MOST_PARTS else written(made)

    def kept(self, given: Dependence | None, mask: np.ndarray) -> Dependence | None:
        """Only the elements of the mask."""
        if given is None or mask.all():
            return given
        return self.moved(given, np.where(mask, np.arange(given.size), -1))

    def joined(self, given: Sequence[Dependence | None], sources: Sequence[np.ndarray]) -> Any:
        """Every element is one of one of the given, at most: of which is what `sources` say.

        Parts that take from the same table become one, since they cannot meet.
        """
        moved = [
            self.moved(each, source)
            for each, source in zip(given, sources, strict=True)
            if each is not None
        ]
        if len(moved) < 2:
            return moved[0] if moved else None
        tables: dict[int, list[list[Part]]] = {}
        for each in moved:
            own: dict[int, list[Part]] = {}
            for part in each.parts:
                own.setdefault(id(part.sets), []).append(part)
            for key, parts in own.items():
                tables.setdefault(key, []).append(parts)
        parts = [_overlaid(ranks) for lists in tables.values() for ranks in _ranks(lists)]
        return Dependence(moved[0].size, moved[0].columns, parts)


def _ranks(lists: Sequence[Sequence[Part]]) -> list[list[Part]]:
    longest = max(map(len, lists))
    return [[parts[i] for parts in lists if i < len(parts)] for i in range(longest)]


def _overlaid(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return Part(parts[0].sets, np.maximum.reduce([part.rows for part in parts]))


def written(given: Dependence) -> Dependence:
    """The same with its sets written out."""
    return gathered(given, np.arange(given.size), given.size)


def gathered(given: Dependence, groups: np.ndarray, count: int) -> Dependence:
    """`count` groups of elements: `groups[i]` is that of element i. Each depends on what any of its
    elements depends on.
    """
    elements, columns = given.entries()
    sets = Sets(*sorted_pairs(groups[elements], columns, count, given.columns))
    return Dependence(count, given.columns, [Part(sets, np.arange(count))])
