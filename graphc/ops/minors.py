"""What are the determinants of small matrices? Sums of products of minors, element-wise.

Factors of a matrix of a few rows cost more in searching for pivots than in arithmetic, and one
matrix is factorised at a time, where sums of products go over many matrices in lanes and come into
one kernel with what is near. The expansion by complementary minors (Laplace; Horn and Johnson,
Matrix Analysis, 2nd edition, section 0.8.9) is as accurate as factors are: its error is some units
in the last place of the same expansion of absolute values. Its derivatives are the cofactors, which
singular matrices have too.
"""

from __future__ import annotations

from graphc.node import Node
from graphc.ops.operands import broadcast, constant

# Of larger matrices the terms are more than the work of factors.
MOST_ROWS = 4


def by_minors(a: Node) -> Node:
    """The determinants of matrices a [..., n, n] of at most `MOST_ROWS` rows."""
    rows = a.shape[-1]
    if rows == 0:
        return broadcast(constant(1, a.dtype), a.shape[:-2], ())
    if rows == 1:
        return a[..., 0, 0]
    if rows == 2:
        return _minor(a, 0, 0, 1)
    if rows == 3:
        first = a[..., 0, 0] * _minor(a, 1, 1, 2) - a[..., 0, 1] * _minor(a, 1, 0, 2)
        return first + a[..., 0, 2] * _minor(a, 1, 0, 1)
    total = _minor(a, 0, 0, 1) * _minor(a, 2, 2, 3)
    total = total - _minor(a, 0, 0, 2) * _minor(a, 2, 1, 3)
    total = total + _minor(a, 0, 0, 3) * _minor(a, 2, 1, 2)
    total = total + _minor(a, 0, 1, 2) * _minor(a, 2, 0, 3)
    total = total - _minor(a, 0, 1, 3) * _minor(a, 2, 0, 2)
    return total + _minor(a, 0, 2, 3) * _minor(a, 2, 0, 1)


def _minor(a: Node, row: int, i: int, j: int) -> Node:
    """The determinants of two rows, one after the other, and two columns."""
    crossed = a[..., row, j] * a[..., row + 1, i]
    return a[..., row, i] * a[..., row + 1, j] - crossed
