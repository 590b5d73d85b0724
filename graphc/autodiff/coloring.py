"""Which columns can share a direction?  Colours, such that no row meets a colour twice.

One product with the sum of the unit vectors of a colour gives all columns of that colour, if no two
of them have a row in common (Curtis, Powell and Reid 1974). The number of colours is what a sparse
Jacobian costs; it is at least the number of entries of the fullest row.

Columns are coloured greedily, by an op of graphc's own (`graphc.ops.coloring`). Where that takes
more colours than the fullest row has entries, and the columns come from a grid, a formula may need
fewer: (a . position) mod C, the smallest C for which some a keeps the columns of every row apart.
It finds the optimum for the usual stencils, and takes as long as it takes to see that a hundred
thousand rows are a few different ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.autodiff.pattern import Pattern
from graphc.ops.coloring import BITS

# A pattern is no grid if its rows look like more than so many different ones.
_MOST_STENCILS = 4_000
_MOST_DIFFERENCES = 4_000
_WIDEST_STENCIL = 128
# So many formulas are tried for a number of colours, and so many numbers above the least.
_MOST_FORMULAS = 40_000
_MOST_ABOVE = 12
# Fewer numbers than this are looked at without a kernel.
_WORTH_A_KERNEL = 20_000


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
    greedy = _greedy(pattern)
    if greedy.count == least:
        return greedy
    return _lattice(pattern, grid, least, greedy.count) or greedy


def separates(pattern: Pattern, colors: np.ndarray) -> bool:
    """Whether no row has a colour twice, and every column in use has one."""
    own = colors[pattern.indices]
    if (own < 0).any():
        return False
    width = int(own.max(initial=0)) + 1
    keys = pattern.rows.astype(np.int64) * width + own
    if pattern.shape[0] * width <= 8 * len(keys):
        met = np.zeros(pattern.shape[0] * width, bool)
        met[keys] = True
        return int(np.count_nonzero(met)) == len(keys)
    return len(np.unique(keys)) == len(keys)


def _used(pattern: Pattern) -> np.ndarray:
    return np.bincount(pattern.indices, minlength=pattern.shape[1]) > 0


def _of(colors: np.ndarray) -> Coloring:
    return Coloring(colors, int(colors.max(initial=-1)) + 1)


# -- by a formula ----------------------------------------------------------------------------------


def _lattice(pattern: Pattern, grid: Sequence[int], least: int, best: int) -> Coloring | None:
    """Fewer colours than `best`, if there is a formula for them."""
    extents = np.array([extent for extent in grid if extent > 1], np.int64)
    if not len(extents) or pattern.shape[1] != np.prod(extents):
        return None
    differences = _differences(pattern, extents)
    if differences is None:
        return None
    for count in range(least, min(best, least + _MOST_ABOVE)):
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
    columns = pattern.transposed
    begins, rows = _as_int64(columns.indptr), _as_int64(columns.indices)
    words = int(pattern.row_sizes.max(initial=0)) // BITS + 1
    while True:
        taken = np.zeros((pattern.shape[0], words), np.uint64)
        colors = _fitted("first_fit", (begins, rows, taken))[0]
        if colors.min(initial=0) >= 0:
            return _of(np.where(columns.row_sizes > 0, colors, -1))
        words *= 4


def star(pattern: Pattern) -> Coloring:
    """A greedy star colouring of the graph of a symmetric pattern, fullest vertices first."""
    order = np.argsort(-pattern.row_sizes, kind="stable")
    given = _as_int64(pattern.indptr), _as_int64(pattern.indices), _as_int64(order)
    words = 1
    while True:
        (colors,) = _fitted("star_fit", given, words=words)
        if colors.min(initial=0) >= 0:
            return _of(np.where(pattern.row_sizes > 0, colors, -1))
        words *= 4


def _as_int64(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int64)


def _fitted(name: str, given: Sequence[np.ndarray], **attrs: int) -> tuple[np.ndarray, ...]:
    """The results of an op of `graphc.ops.coloring`, by its kernel where there is much to do."""
    from graphc.op import find

    if sum(array.size for array in given) < _WORTH_A_KERNEL:
        made = find(name).numpy(*given, **attrs)
    else:
        made = _kernel(name, tuple(attrs.items()))(*given)
    return made if isinstance(made, tuple) else (made,)


@functools.cache
def _kernel(name: str, attrs: tuple[tuple[str, int], ...]) -> Any:
    """One Function for every size."""
    from graphc.function import compile as compiled
    from graphc.op import find
    from graphc.ops.operands import symbol
    from graphc.ops.special import project_op
    from graphc.options import Options

    third = ("taken", ("h", "w"), "uint64") if name == "first_fit" else ("order", ("n",), "int64")
    shapes = (("begins", ("n+1",), "int64"), ("places", ("k",), "int64"), third)
    symbols = [symbol(*each) for each in shapes]
    made = find(name)(*symbols, **dict(attrs))
    if name == "first_fit":
        made = project_op(made, index=0)
    return compiled(symbols, made, options=Options(threads=1), name=name)
