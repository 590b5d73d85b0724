"""Which columns can share a direction?  Colours, such that no row meets a colour twice.

One product with the sum of the unit vectors of a colour gives all columns of that colour, if no two
of them have a row in common (Curtis, Powell and Reid 1974). The number of colours is what a sparse
Jacobian costs; it is at least the number of entries of the fullest row.

Columns that come from a grid are coloured by a formula first: (a . position) mod C, the smallest C
for which some a keeps the columns of every row apart. It finds the optimum for the usual stencils,
where going from one column to the next does not, and takes as long as it takes to see that a
hundred thousand rows are a few different ones. All else is coloured greedily, a set of colours for
each row in the bits of a number; columns, and rows, that are alike are done once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.autodiff.pattern import Pattern, starts

# A pattern is no grid if its rows look like more than so many different ones.
_MOST_STENCILS = 4_000
_MOST_DIFFERENCES = 4_000
_WIDEST_STENCIL = 128
# So many formulas are tried for a number of colours, and so many numbers above the least.
_MOST_FORMULAS = 40_000
_MOST_ABOVE = 4


@dataclass(frozen=True, eq=False)
class Coloring:
    """`colors[j]` of column j, from 0 to `count`; -1 for a column that needs none."""

    colors: np.ndarray
    count: int


def color_columns(pattern: Pattern, grid: Sequence[int] = ()) -> Coloring:
    """Colours of the columns of which no row has one twice.

    `grid` is the shape of an array whose elements, in C order, the columns are.
    """
    least = int(pattern.row_sizes.max(initial=0))
    if least <= 1:
        return _of(np.where(_used(pattern), 0, -1))
    by_formula = _lattice(pattern, grid, least)
    if by_formula is not None and by_formula.count == least:
        return by_formula
    found = [c for c in (by_formula, _greedy(pattern)) if c is not None]
    return min(found, key=lambda coloring: coloring.count)


def separates(pattern: Pattern, colors: np.ndarray) -> bool:
    """Whether no row has a colour twice, and every column in use has one."""
    own = colors[pattern.indices].astype(np.int64)
    if (own < 0).any():
        return False
    width = int(own.max(initial=0)) + 1
    keys = np.sort(pattern.rows.astype(np.int64) * width + own)
    return not (keys[1:] == keys[:-1]).any()


def _used(pattern: Pattern) -> np.ndarray:
    return np.bincount(pattern.indices, minlength=pattern.shape[1]) > 0


def _of(colors: np.ndarray) -> Coloring:
    return Coloring(colors, int(colors.max(initial=-1)) + 1)


# -- by a formula ----------------------------------------------------------------------------------


def _lattice(pattern: Pattern, grid: Sequence[int], least: int) -> Coloring | None:
    extents = np.array([extent for extent in grid if extent > 1], np.int64)
    if not len(extents) or pattern.shape[1] != np.prod(extents):
        return None
    differences = _differences(pattern, extents)
    if differences is None:
        return None
    for count in range(least, least + _MOST_ABOVE):
        factors = _formula(differences, count)
        if factors is not None:
            places = np.unravel_index(np.arange(pattern.shape[1]), extents)
            colors = np.zeros(pattern.shape[1], np.int64)
            for factor, place in zip(factors, places, strict=True):
                colors += factor * place
            colors = np.where(_used(pattern), colors % count, -1)
            return _of(colors) if separates(pattern, colors) else None
    return None


def _differences(pattern: Pattern, extents: np.ndarray) -> np.ndarray | None:
    """The distances in the grid between columns of a row, of all rows; None if they are many."""
    wide = 2 * extents - 1  # so that a distance, which may be negative, is one number
    strides = np.append(np.cumprod(wide[:0:-1])[::-1], 1)
    places = np.unravel_index(np.arange(pattern.shape[1]), extents)
    line = sum(stride * place for stride, place in zip(strides, places, strict=True))
    sizes, found = pattern.row_sizes, [np.zeros(0, np.int64)]
    for size in np.unique(sizes[sizes > 1]):
        if size > _WIDEST_STENCIL:
            return None
        begins = pattern.indptr[:-1][sizes == size].astype(np.int64)
        columns = line[pattern.indices[begins[:, None] + np.arange(size)]]
        stencils = _distinct(columns - columns[:, :1])
        if len(stencils) > _MOST_STENCILS:
            return None
        left, right = np.triu_indices(size, 1)
        found.append(np.unique(stencils[:, right] - stencils[:, left]))
    numbers = np.unique(np.concatenate(found))
    if len(numbers) > _MOST_DIFFERENCES:
        return None
    digits = np.unravel_index(numbers + (strides * (extents - 1)).sum(), wide)
    return np.stack(digits, 1) - (extents - 1)


def _distinct(rows: np.ndarray) -> np.ndarray:
    """The different rows of a matrix, as a product with random numbers tells them apart."""
    weights = np.random.default_rng(rows.shape[1]).integers(1, 2**62, rows.shape[1])
    _, chosen = np.unique(rows @ weights, return_index=True)
    return rows[chosen]


def _formula(differences: np.ndarray, count: int) -> np.ndarray | None:
    """Factors whose product with no difference is a multiple of `count`."""
    axes = differences.shape[1]
    if count**axes <= _MOST_FORMULAS:
        factors = np.indices((count,) * axes).reshape(axes, -1).T
    else:
        factors = np.random.default_rng(count).integers(0, count, (_MOST_FORMULAS, axes))
    for difference in differences[np.argsort(np.abs(differences).sum(1), kind="stable")]:
        factors = factors[(factors @ difference) % count != 0]
        if not len(factors):
            return None
    return factors[0]


# -- greedily --------------------------------------------------------------------------------------


def _greedy(pattern: Pattern) -> Coloring:
    """One column after the other takes the first colour that none of its rows has."""
    rows, (_, kind, counts) = _merged(pattern)
    columns = rows.transposed
    found = _sweep(columns.indptr.tolist(), columns.indices.tolist(), rows.shape[0], counts)
    colors = np.empty(pattern.shape[1], np.int64)
    colors[np.argsort(kind, kind="stable")] = found  # the columns of a kind are neighbours there
    return _of(np.where(_used(pattern), colors, -1))


def _sweep(begins: list[int], rows: list[int], height: int, counts: np.ndarray) -> np.ndarray:
    """The colours of all columns, of each as many as it stands for: the lowest that are free."""
    taken = [0] * height  # the colours that a row has, as bits
    found: list[int] = []
    for column, count in enumerate(counts.tolist()):
        own = rows[begins[column] : begins[column + 1]]
        held = 0
        for row in own:
            held |= taken[row]
        before = held
        for _ in range(count):
            bit = ~held & (held + 1)
            held |= bit
            found.append(bit.bit_length() - 1)
        new = held ^ before
        for row in own:
            taken[row] |= new
    return np.array(found, np.int64)


def _merged(pattern: Pattern) -> tuple[Pattern, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pattern with one of all rows that are alike, and then one of all such columns.

    Also, for the columns, (one of each kind, the kind of each, how many there are of each kind).
    """
    once = _picked_rows(pattern, _kinds(pattern)[0])
    turned = once.transposed
    kinds = _kinds(turned)
    return _picked_rows(turned, kinds[0]).transposed, kinds


def _kinds(pattern: Pattern) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the first row of each kind, the kind of each row, how many rows are of each kind).

    Rows whose sums of random numbers of 128 bits in all, one for each column, agree are alike.
    """
    random = np.random.default_rng(pattern.shape[1])
    marks = random.integers(0, 2**63, (2, pattern.shape[1]), np.uint64)
    sums = []
    for mark in marks:
        total = np.append(np.uint64(0), np.cumsum(mark[pattern.indices], dtype=np.uint64))
        sums.append(total[pattern.indptr[1:]] - total[pattern.indptr[:-1]])
    rows = np.arange(pattern.shape[0])
    order = np.lexsort((rows, *sums))
    new = np.zeros(len(order), bool)
    new[:1] = True
    for each in sums:
        new[1:] |= each[order][1:] != each[order][:-1]
    first = order[new]
    kind = np.empty(len(order), np.int64)
    kind[order] = np.cumsum(new) - 1
    # number the kinds by their first row, so that the order of rows stays
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    kind = rank[kind]
    return np.sort(first), kind, np.bincount(kind, minlength=len(first))


def _picked_rows(pattern: Pattern, rows: np.ndarray) -> Pattern:
    if len(rows) == pattern.shape[0]:
        return pattern
    begins, sizes = pattern.indptr[:-1][rows].astype(np.int64), pattern.row_sizes[rows]
    ends = starts(sizes)
    places = np.repeat(begins - ends[:-1], sizes) + np.arange(ends[-1])
    return Pattern(ends, pattern.indices[places], (len(rows), pattern.shape[1]))
