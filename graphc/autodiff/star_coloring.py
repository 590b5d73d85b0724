"""Which columns of a symmetric matrix can share a direction?  More than without the symmetry.

An entry can be read in its own column's direction or, mirrored, in its row's. So it is enough that
neighbours differ and that no path of four vertices has two colours only: a star colouring (Coleman
and More 1984). The greedy one is that of Gebremedhin, Tarafdar, Manne and Pothen 2007, algorithm
4.1, whose question "is this edge part of a star with that centre?" is answered by sets of colours
in the bits of numbers: which colours a vertex has seen among its neighbours once, which more often,
and which centres it must not have another leaf of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.autodiff.coloring import Coloring, color_columns
from graphc.autodiff.pattern import Pattern


def color_symmetric(
    pattern: Pattern, grid: Sequence[int] = ()
) -> tuple[Coloring, np.ndarray]:
    """(colours, for each position whether it is read in the direction of its row).

    `grid` is the shape of the array whose elements the columns are, in C order.
    """
    plain = color_columns(pattern, grid)
    best = plain
    if plain.count > 2:
        by_star = star(pattern)
        if by_star.count < plain.count:
            best = by_star
    swapped = mirrored(pattern, best.colors)
    assert swapped is not None, "every entry can be read"
    return best, swapped


def mirrored(pattern: Pattern, colors: np.ndarray) -> np.ndarray | None:
    """For each position of a symmetric pattern whether it must be read in the direction of its row;
    None if some can be read in neither.
    """
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    width = int(colors.max(initial=0)) + 1
    if len(columns) and colors[columns].min() < 0:
        return None
    ahead = _alone(rows * width + colors[columns])
    back = _alone(columns * width + colors[rows])
    return ~ahead if (ahead | back).all() else None


def _alone(keys: np.ndarray) -> np.ndarray:
    """Whether each key stands once."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[inverse] == 1


def star(pattern: Pattern) -> Coloring:
    """A greedy star colouring of the graph of a symmetric pattern, fullest vertices first."""
    size = pattern.shape[0]
    begins, ends = pattern.indptr[:-1].tolist(), pattern.indptr[1:].tolist()
    flat = pattern.indices.tolist()
    neighbours = [flat[begins[v] : ends[v]] for v in range(size)]
    colors = [-1] * size
    once = [0] * size  # colours among the neighbours of a vertex
    often = [0] * size  # those that several of them have
    centres = [0] * size  # colours of neighbours that are centres of stars with this one's colour
    for v in np.argsort(-pattern.row_sizes, kind="stable").tolist():
        around = neighbours[v]
        if not around:
            continue
        held = 0
        for w in around:
            if w == v:
                continue
            own = colors[w]
            held |= once[w] if own < 0 else (1 << own) | centres[w]
        bit = ~held & (held + 1)
        color = colors[v] = bit.bit_length() - 1
        more = often[v]
        for w in around:
            if w == v:
                continue
            own = colors[w]
            if own >= 0 and more >> own & 1:
                centres[w] |= bit
            if not once[w] & bit:
                once[w] |= bit
            elif own >= 0:
                mark = 1 << own
                if often[w] & bit:
                    centres[v] |= mark
                else:
                    for x in neighbours[w]:
                        if colors[x] == color and x != w:
                            centres[x] |= mark
                often[w] |= bit
            else:
                often[w] |= bit
    return Coloring(np.array(colors, np.int64), max(colors, default=-1) + 1)
