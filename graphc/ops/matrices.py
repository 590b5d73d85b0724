"""Who works on a matrix while a kernel decomposes it, and where does the matrix lie meanwhile?

One text of an algorithm serves two ways of sharing the work out. A matrix of some size is a task of
its own: the elements of its rows are lanes of vector loops, and barriers stand between what lanes
hand to each other. Of many small matrices each is a lane: `TILE` of them are a task, element (i, j)
of all of them lies side by side in scratch, and what was a vector loop is a loop in order. A
`Team` is what an algorithm sees of either: loops over elements (`each`), loops in order (`steps`),
scratch, and the arguments and results of its own matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphc.dims import Extent, dim_min, product
from graphc.errors import GraphError
from graphc.types import Shape, TensorType, Type

# Matrices of at most so many rows are lanes, where there are as many of them as fill a vector.
SMALL = 24
# The same of rotations, each of which waits for two square roots: lanes wait together.
SMALL_FOR_ROTATIONS = 64
# Matrices of a task in which each is a lane: two vectors of float64 with AVX-512.
TILE = 16
_FEWEST = 4

Index = Any  # extents and values, as the builder of the loops takes them


class Team:
    """The body of a loop of an algorithm on one matrix."""

    def __init__(self, nest: Any, loop: Any, at: tuple[Index, ...], own: tuple[Index, ...]) -> None:
        self._nest = nest
        self._at = at  # the matrix, among all
        self._own = own  # its lane, where matrices are lanes
        self.loop = loop
        self.k = loop.k
        self.index: Extent = loop.index

    @contextmanager
    def _loop(self, role: str, start: Extent, stop: Extent, within: Any) -> Iterator[Team]:
        with self.loop.loop(role, start, stop, within) as opened:
            yield Team(self._nest, opened, self._at, self._own)

    def steps(self, start: Extent, stop: Extent, within: Any = None) -> Any:
        """A loop in order: `with team.steps(0, n) as step`."""
        return self._loop("serial", start, stop, within)

    def each(self, start: Extent, stop: Extent, within: Any = None) -> Any:
        """A loop over elements, each of which is done by a lane of its own if there are lanes."""
        return self._loop("serial" if self._own else "vector", start, stop, within)

    def barrier(self) -> None:
        """What elements have stored before may be loaded for others from here on."""
        if not self._own:
            self.loop.barrier()

    # -- memory ------------------------------------------------------------------------------------

    def memory(self, dtype: str, *shape: Extent) -> Any:
        """Scratch for the matrix."""
        return self._nest.scratch(dtype, (*shape, TILE) if self._own else shape)

    def load(self, memory: Any, *index: Index) -> Any:
        return self.loop.load(memory, (*index, *self._own))

    def store(self, memory: Any, value: Any, *index: Index) -> None:
        self.loop.store(memory, (*index, *self._own), value)

    def read(self, argument: int, *index: Index) -> Any:
        """An element of an argument."""
        return self.loop.read(argument, (*self._at, *index))

    def give(self, result: Any, value: Any, *index: Index) -> None:
        """Store an element of a result, unless nobody reads it."""
        if result is not None:
            self.loop.store(result, (*self._at, *index), value)

    # -- values ------------------------------------------------------------------------------------

    def position(self, extent: Extent) -> Any:
        """An extent as an int64 value."""
        return self.loop.position(extent)

    def sum_of_products(self, start: Extent, stop: Extent, factors: Any) -> Any:
        """The sum over a loop in order of the product of two values that `factors(step)` gives."""
        with self.steps(start, stop) as step:
            total = step.loop.accumulate("add", step.k.mul(*factors(step)))
        return step.loop.total(total)

    def demand(self, holds: Any, index: Extent = 0) -> None:
        self.loop.demand(holds, index)

    def library(
        self, routine: str, dtype: str, arrays: Any, sizes: tuple[Extent, ...], condition: Any
    ) -> Any:
        """The outcome of a routine of a library, if a condition holds; for a matrix of one task."""
        return self.loop.library(routine, dtype, arrays, sizes, condition)

    def until(self, condition: Any) -> None:
        self.loop.until(condition)

    def accumulate(self, combiner: str, value: Any) -> Any:
        return self.loop.accumulate(combiner, value)

    def total(self, accumulator: Any) -> Any:
        """The result of an accumulation, after the loop's `with` block."""
        return self.loop.total(accumulator)


@contextmanager
def teams(
    nest: Any, lead: Shape, order: Extent, work: Extent, small: int = SMALL
) -> Iterator[Team]:
    """A team for every matrix. `lead` are the axes that number matrices, `order` is the number of
    their rows or columns, whichever is larger, `work` estimates what one of them costs. Up to the
    order `small` each is a lane, if they are many.
    """
    if not are_lanes(lead, order, small):
        with nest.lines(lead, work, lanes=False) as (task, at):
            yield Team(nest, task, at, ())
        return
    with nest.lines((product(lead),), work, lanes=True, tile=TILE) as (lane, (number,)):
        yield Team(nest, lane, _unravelled(number, lead), (lane.offset,))


def are_lanes(lead: Shape, order: Extent, small: int = SMALL) -> bool:
    """Whether matrices are lanes, of which there are enough to fill a vector."""
    count = product(lead)
    many = bool(lead) and (not isinstance(count, int) or count >= _FEWEST)
    return many and isinstance(order, int) and order <= small


def _unravelled(number: Extent, shape: Shape) -> tuple[Extent, ...]:
    found: list[Extent] = []
    for size in reversed(shape[1:]):
        found.append(number % size)
        number = number // size
    return (number, *reversed(found))


# -- scaling ---------------------------------------------------------------------------------------

# The integers as wide as a float, the bits of its exponent, and the lowest of them.
_EXPONENTS = {
    "float64": ("uint64", 0x7FF0_0000_0000_0000, 1 << 52),
    "float32": ("uint32", 0x7F80_0000, 1 << 23),
}


def power_of_two(
    team: Team, rows: Extent, columns: Extent, element: Callable[[Any, Any, Any], Any]
) -> tuple[Any, Any]:
    """The power of two just below the largest element of a matrix, and its reciprocal.

    Scaled by it, exactly, the matrix has squares that do not overflow, nor underflow if they
    matter. Neither is finite and not 0 for a matrix with NaN or an infinity. `element(team, i, j)`
    reads the matrix.
    """
    with team.steps(0, rows) as row:
        with row.each(0, columns) as column:
            value = element(column, row.index, column.index)
            found = column.accumulate("max", column.k.abs(value))
        largest = row.accumulate("max", column.total(found))
    k = team.k
    most = k.max(row.total(largest), 0.0)  # of no elements, too
    whole, mask, lowest = _EXPONENTS[most.dtype]
    bits = k.max(k.and_(k.bitcast(most, whole), mask), lowest)
    power = k.bitcast(bits, most.dtype)
    return power, k.div(k.const(1.0, most.dtype), power)


# -- types -----------------------------------------------------------------------------------------


def matrix_type(name: str, x: Type, square: bool = False) -> TensorType:
    """The type of matrices in the last two axes, of float32 or float64."""
    if not isinstance(x, TensorType) or x.ndim < 2:
        raise GraphError(f"{name} needs matrices, of two axes or more, got {x}")
    if x.dtype not in (np.float32, np.float64):
        raise GraphError(f"{name} is for float32 and float64, got {x}")
    if square and x.shape[-1] != x.shape[-2]:
        raise GraphError(f"{name} needs square matrices, got {x}")
    return x


def least(m: Extent, n: Extent) -> Extent:
    """The smaller of two extents."""
    return m if m == n else dim_min(m, n)


__all__ = ["SMALL_FOR_ROTATIONS", "Team", "are_lanes", "least", "matrix_type", "power_of_two"]
__all__ += ["teams"]
