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


def orthogonalise(
    task: Any, rows: Any, count: Extent, length: Extent, followers: Any = None
) -> None:
    """Rotate the rows of `rows`, and those of the square matrix `followers` with them, until the
    former are orthogonal; they end in the order of their lengths, the longest first.
    """
    dtype = rows.buffer.dtype
    turned = task.memory(dtype, 1)
    k = task.k
    terms = k.convert(task.position(length), dtype)
    limit = k.mul(k.sqrt(terms), float(np.finfo(dtype).eps))
    with task.steps(0, MOST_SWEEPS) as sweep:
        sweep.barrier()
        sweep.store(turned, sweep.k.const(0.0, dtype), 0)
        with (
            sweep.steps(0, count) as one,
            one.steps(one.index + 1, count, (0, count)) as other,
        ):
            _rotate(other, rows, (one.index, other.index), length, limit, turned, followers, count)
        sweep.barrier()
        sweep.until(sweep.k.eq(sweep.load(turned, 0), 0.0))


def _rotate(
    pair: Any,
    rows: Any,
    which: tuple[Extent, Extent],
    length: Extent,
    limit: Any,
    turned: Any,
    followers: Any,
    count: Extent,
) -> None:
    one, other = which
    pair.barrier()
    with pair.each(0, length) as each:
        x, y = each.load(rows, one, each.index), each.load(rows, other, each.index)
        sums = [each.accumulate("add", each.k.mul(*terms)) for terms in ((x, x), (y, y), (x, y))]
    a, b, g = (each.total(s) for s in sums)
    k = pair.k
    apart = k.gt(k.abs(g), k.mul(limit, k.mul(k.sqrt(a), k.sqrt(b))))
    cosine, sine = _angle(k, a, b, g, apart)
    swap = k.or_(k.lt(a, b), k.and_(apart, k.eq(a, b)))
    against = k.neg(sine)
    first = k.select(swap, sine, cosine), k.select(swap, cosine, against)
    second = k.select(swap, cosine, sine), k.select(swap, against, cosine)
    for target, width in ((rows, length), (followers, count)):
        if target is None:
            continue
        with pair.each(0, width) as each:
            k = each.k
            x, y = each.load(target, one, each.index), each.load(target, other, each.index)
            for place, (p, q) in ((one, first), (other, second)):
                each.store(target, k.add(k.mul(p, x), k.mul(q, y)), place, each.index)
    k = pair.k
    done = k.select(k.or_(apart, swap), k.const(1.0, turned.buffer.dtype), 0.0)
    before = pair.load(turned, 0)
    pair.barrier()
    pair.store(turned, k.max(before, done), 0)


def _angle(k: Any, a: Any, b: Any, g: Any, apart: Any) -> tuple[Any, Any]:
    """Cosine and sine of the smaller angle that makes two vectors orthogonal, of squares a and b
    and of inner product g (Golub and Van Loan, section 8.5.2); 1 and 0 if they are already.
    """
    one = k.const(1.0, a.dtype)
    ratio = k.div(k.sub(b, a), k.add(g, g))
    root = k.add(k.abs(ratio), k.sqrt(k.add(k.mul(ratio, ratio), 1.0)))
    tangent = k.div(k.copysign(one, ratio), root)
    cosine = k.div(one, k.sqrt(k.add(k.mul(tangent, tangent), 1.0)))
    sine = k.mul(cosine, tangent)
    return k.select(apart, cosine, 1.0), k.select(apart, sine, 0.0)


def sign_of(team: Any, length: Extent, component: Any) -> Any:
    """1 or -1: the sign of the first component of a vector that is not much smaller than the
    largest. `component(team, i)` is component i.
    """
    with team.each(0, length) as each:
        found = each.accumulate("max", each.k.abs(component(each, each.index)))
    bound = team.k.mul(each.total(found), LARGE)
    with team.each(0, length) as each:
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
