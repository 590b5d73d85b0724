"""Which columns of a symmetric matrix can share a direction?  More than without the symmetry.

An entry can be read in its own column's direction or, mirrored, in its row's. So it is enough that
neighbours differ and that no path of four vertices has two colours only: a star colouring (Coleman
and More 1984).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.autodiff.coloring import Coloring, color_columns, star
from graphc.autodiff.pattern import Pattern


def color_symmetric(
    pattern: Pattern, grid: Sequence[int] = ()
) -> tuple[Coloring, np.ndarray]:
    """(colours, for each position whether it is read in the direction of its row).

    `grid` is the shape of the array whose elements the columns are, in C order.
    """
    best = star(pattern)
    if best.count > pattern.row_sizes.max(initial=0):  # as many as columns need that do not meet
        best = min(color_columns(pattern, grid), best, key=lambda coloring: coloring.count)
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
    span = int(keys.max(initial=-1)) + 1
    if span <= 16 * len(keys):
        return np.bincount(keys, minlength=span)[keys] == 1
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[inverse] == 1
