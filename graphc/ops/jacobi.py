"""How do rows become orthogonal to each other?  By rotations of pairs of them: Hestenes 1958.

Each rotation makes two rows orthogonal and the longer one first; sweeps over all pairs go on until
one of them finds nothing to do. The lengths are singular values with small relative errors (Demmel
and Veselić 1992), rows are contiguous, and there is no case that does not converge. It takes more
operations than to make a matrix bidiagonal first, but for all but large matrices less time: these
are vectors at work, those are bookkeeping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Extent

# Six to ten sweeps are what it takes.
MOST_SWEEPS = 40
# Of two components nearly equal in size the same one decides about the sign of a vector, whatever
# rounding does: the first that is not much smaller than the largest.
LARGE = 0.37


class Rotations:
    """Pairs of rows of `rows`, [count, length] in scratch, are rotated, and those of the square
    matrix `followers` with them.
    """

    def __init__(
        self, task: Any, rows: Any, count: Extent, length: Extent, followers: Any = None
    ) -> None:
        self.rows, self.count, self.length = rows, count, length
        self.targets = [(rows, length)]
        if followers is not None:
            self.targets.append((followers, count))
        self.dtype = rows.buffer.dtype
        self.squares = task.memory(self.dtype, count)  # of the lengths of rows
        self.turned = task.memory(self.dtype, 1)  # whether the sweep has done anything
        k = task.k
        terms = k.convert(task.position(length), self.dtype)
        # Of the cosine of an angle, a quarter of what rounding may make of it: that is what it
        # makes of few, and the last sweep costs no more.
        self.limit = k.mul(k.sqrt(terms), float(np.finfo(self.dtype).eps) / 4)

    def orthogonalise(self, task: Any) -> None:
        """Rotate until all rows are orthogonal and in the order of their lengths, the longest
        first.
        """
        with task.steps(0, MOST_SWEEPS) as sweep:
            sweep.barrier()
            sweep.store(self.turned, sweep.k.const(0.0, self.dtype), 0)
            with sweep.steps(0, self.count) as row:
                row.store(self.squares, self._product(row, row.index, row.index), row.index)
            with (
                sweep.steps(0, self.count) as one,
                one.steps(one.index + 1, self.count, (0, self.count)) as other,
            ):
                self._rotate(other, one.index, other.index)
            sweep.barrier()
            sweep.until(sweep.k.eq(sweep.load(self.turned, 0), 0.0))

    def _product(self, team: Any, one: Extent, other: Extent) -> Any:
        """The inner product of two rows."""
        with team.each(0, self.length) as each:
            x, y = (each.load(self.rows, row, each.index) for row in (one, other))
            total = each.accumulate("add", each.k.mul(x, y))
        return each.total(total)

    def _rotate(self, pair: Any, one: Extent, other: Extent) -> None:
        pair.barrier()
        g = self._product(pair, one, other)
        a, b = pair.load(self.squares, one), pair.load(self.squares, other)
        k = pair.k
        apart = k.gt(k.abs(g), k.mul(self.limit, k.mul(k.sqrt(a), k.sqrt(b))))
        sine, half, moved = _angle(k, a, b, g, apart)
        swap = k.or_(k.lt(a, b), k.and_(apart, k.eq(a, b)))
        for target, width in self.targets:
            with pair.each(0, width) as each:
                k = each.k
                x, y = (each.load(target, row, each.index) for row in (one, other))
                first = k.fma(k.neg(sine), k.fma(half, x, y), x)
                second = k.fma(sine, k.fma(k.neg(half), y, x), y)
                each.store(target, k.select(swap, second, first), one, each.index)
                each.store(target, k.select(swap, first, second), other, each.index)
        k = pair.k
        self._note(pair, one, other, (a, b, moved), swap, k.or_(apart, swap))

    def _note(
        self, pair: Any, one: Extent, other: Extent, squares: Any, swap: Any, done: Any
    ) -> None:
        """The squares of the new lengths, and that something was done."""
        k, (a, b, moved) = pair.k, squares
        shorter, longer = k.sub(a, moved), k.add(b, moved)
        before = pair.load(self.turned, 0)
        pair.barrier()
        pair.store(self.squares, k.select(swap, longer, shorter), one)
        pair.store(self.squares, k.select(swap, shorter, longer), other)
        pair.store(self.turned, k.max(before, k.select(done, k.const(1.0, self.dtype), 0.0)), 0)


def _angle(k: Any, a: Any, b: Any, g: Any, apart: Any) -> tuple[Any, Any, Any]:
    """Of the smaller angle that makes two vectors orthogonal, of squares a and b and of inner
    product g (Golub and Van Loan, section 8.5.2), the sine and the tangent of its half, and what it
    moves from a to b: all 0 if they are orthogonal already.

    A rotation x - s (y + t x), y + s (x - t y) with these keeps lengths better than one with the
    cosine, whose rounding would make all vectors longer, time after time (Rutishauser 1966).
    """
    one = k.const(1.0, a.dtype)
    ratio = k.div(k.sub(b, a), k.add(g, g))
    root = k.add(k.abs(ratio), k.sqrt(k.add(k.mul(ratio, ratio), 1.0)))
    tangent = k.select(apart, k.div(k.copysign(one, ratio), root), 0.0)
    cosine = k.div(one, k.sqrt(k.add(k.mul(tangent, tangent), 1.0)))
    sine = k.mul(cosine, tangent)
    return sine, k.div(sine, k.add(cosine, 1.0)), k.mul(tangent, g)


def orthogonalise(
    task: Any, rows: Any, count: Extent, length: Extent, followers: Any = None
) -> None:
    """Rotate the rows of `rows`, and those of the square matrix `followers` with them, until the
    former are orthogonal; they end in the order of their lengths, the longest first.
    """
    Rotations(task, rows, count, length, followers).orthogonalise(task)


def sign_of(team: Any, length: Extent, component: Any, in_order: bool = False) -> Any:
    """1 or -1: the sign of the first component of a vector that is not much smaller than the
    largest. `component(team, i)` is component i. With `in_order` no lanes share a vector.
    """
    loop = team.steps if in_order else team.each
    with loop(0, length) as each:
        found = each.accumulate("max", each.k.abs(component(each, each.index)))
    bound = team.k.mul(each.total(found), LARGE)
    with loop(0, length) as each:
        k, value = each.k, component(each, each.index)
        here, end = each.position(each.index), each.position(length)
        large = k.select(k.ge(k.abs(value), bound), here, end)
        first = each.accumulate("min", large)
    place = team.k.min(each.total(first), team.position(length - 1))
    one = team.k.const(1.0, bound.dtype)
    return team.k.copysign(one, component(team, place))


def numpy_signs(vectors: Any) -> Any:
    """The same for columns of matrices, in NumPy: [..., 1, n]."""
    size = np.abs(vectors)
    large = size >= LARGE * size.max(-2, keepdims=True, initial=0)
    if 0 in vectors.shape:
        return np.ones((*vectors.shape[:-2], 1, vectors.shape[-1]), vectors.dtype)
    place = np.argmax(large, axis=-2)[..., None, :]
    return np.copysign(np.ones((), vectors.dtype), np.take_along_axis(vectors, place, -2))


__all__ = ["numpy_signs", "orthogonalise", "sign_of"]
