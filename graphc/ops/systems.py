"""How are systems of linear equations solved?  By factors; determinants and inverses come of them.

Compositions of `lu`, `cholesky` and `triangular_solve`, with the names and the meaning of NumPy's
`linalg` and, where it has none, of SciPy's. A singular matrix is found when something is divided by
the zero on the diagonal of its factor: the call raises `numpy.linalg.LinAlgError`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphc import dtypes
from graphc.errors import GraphError, GraphLinAlgError, GraphTypeError
from graphc.node import Node
from graphc.ops.arithmetic import absolute, sign
from graphc.ops.cholesky import cholesky_op
from graphc.ops.diagonal import diagonal, eye, tril, triu
from graphc.ops.lu import lu_op
from graphc.ops.matrices import least
from graphc.ops.minors import MOST_ROWS, by_minors
from graphc.ops.movement import (
    expand_dims,
    iota_op,
    restate_op,
    slice_op,
    squeeze,
)
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    constant,
    describe,
    to_shape,
)
from graphc.ops.reduce import prod_, sum_
from graphc.ops.solving import by_factors, solve_op
from graphc.ops.special import project, where
from graphc.ops.transcend import log
from graphc.ops.triangular import divided


class SlogdetResult(NamedTuple):
    """The sign of determinants and the logarithm of their size."""

    sign: Node
    logabsdet: Node


class LUResult(NamedTuple):
    """Factors of A = P L U."""

    p: Node
    l: Node  # noqa: E741 -- SciPy's name
    u: Node


# -- arguments -------------------------------------------------------------------------------------


def floats(name: str, *values: Any) -> list[Node]:
    """The arguments as nodes of the one dtype in which NumPy computes: float32 if all of them are,
    else float64. `GraphTypeError` for 16-bit floats, as in NumPy.
    """
    nodes = [as_node(value) for value in values]
    for node in nodes:
        if dtypes.is_half(node.dtype):
            raise GraphTypeError(
                f"{name} is not for dtype {node.dtype.name}, as in NumPy\n"
                + describe([node])
                + "\nConvert it: x.astype('float32')."
            )
    single = all(node.dtype == dtypes.FLOAT32 for node in nodes)
    return [cast(node, dtypes.FLOAT32 if single else dtypes.FLOAT64) for node in nodes]


def require_matrices(name: str, x: Node) -> Node:
    """`GraphLinAlgError` unless the node has two axes at least."""
    if x.ndim < 2:
        raise GraphLinAlgError(
            f"{name} needs matrices in the last two axes, got rank {x.ndim}\n" + describe([x])
        )
    return x


def squares(name: str, x: Node) -> Node:
    """Square matrices in the last two axes; named extents are taken to be equal, which each call
    checks.
    """
    require_matrices(name, x)
    rows, columns = x.shape[-2:]
    if rows == columns:
        return x
    if isinstance(rows, int) and isinstance(columns, int):
        raise GraphLinAlgError(
            f"{name} needs square matrices, got {rows} by {columns}\n" + describe([x])
        )
    size = rows if isinstance(rows, int) else columns if isinstance(columns, int) else rows
    return restate_op(x, shape=(*x.shape[:-2], size, size))


def right_hand_sides(name: str, a: Node, b: Node) -> tuple[Node, Node, bool]:
    """A and b with the same leading axes and as many rows; whether b was a vector."""
    if b.ndim == 0:
        raise GraphLinAlgError(f"{name}: b has at least one axis\n" + describe([a, b]))
    vector = b.ndim == 1
    right = expand_dims(b, 1) if vector else b
    rows, n = right.shape[-2], a.shape[-1]
    if rows != n:
        if isinstance(rows, int) and isinstance(n, int):
            raise GraphLinAlgError(
                f"{name}: b has {rows} rows, but the matrices have {n}\n" + describe([a, b])
            )
        right = restate_op(right, shape=(*right.shape[:-2], n, right.shape[-1]))
    lead = broadcast_shapes(name, [leading(a), leading(right)])
    return to_shape(a, (*lead, n, n)), to_shape(right, (*lead, n, right.shape[-1])), vector


def leading(x: Node) -> Node:
    """A stand-in with the leading axes of matrices, for the rule of broadcasting."""
    return broadcast(constant(0), x.shape[:-2], ())


def identities(x: Node, rows: Any) -> Node:
    """Identity matrices along the leading axes of x."""
    one = eye(rows, dtype=x.dtype)
    return broadcast(one, (*x.shape[:-2], rows, rows), (x.ndim - 2, x.ndim - 1))


# -- factors ---------------------------------------------------------------------------------------


def cholesky(a: Any, /, *, upper: bool = False) -> Node:
    """The lower triangle L with L Lᵀ = a, or with `upper` the upper one with Uᵀ U = a.

    a [..., n, n] is symmetric and positive definite, of which only that triangle is read, so the
    derivative by the other one is 0. `numpy.linalg.LinAlgError` at run time if it is not positive
    definite.
    """
    (node,) = floats("cholesky", a)
    return cholesky_op(squares("cholesky", node), upper=bool(upper))


def lu_factor(a: Any) -> tuple[Node, Node]:
    """The packed LU factors of a [..., m, n] and the pivots (int64): row i was exchanged with row
    pivots[i]. As SciPy's; singular matrices have factors, too.
    """
    (node,) = floats("lu_factor", a)
    both = lu_op(require_matrices("lu_factor", node))
    return project(both, 0), project(both, 1)


def lu(a: Any, permute_l: bool = False, p_indices: bool = False) -> Any:
    """(p, l, u) with a = p @ l @ u, where p permutes rows, l is a lower triangle with a diagonal of
    ones and elements of at most 1, u an upper one; a [..., m, n]. As SciPy's.

    With `permute_l` the result is (p @ l, u); with `p_indices` p is an array of positions, and
    a = l[p] @ u.
    """
    (node,) = floats("lu", a)
    both = lu_op(require_matrices("lu", node))
    packed, order = project(both, 0), project(both, 2)
    left, right = triangles(packed)
    if permute_l:
        from graphc.ops.lu import out_of_order

        return out_of_order(left, order), right
    if p_indices:
        from graphc.ops.sorting import argsort

        return LUResult(argsort(order), left, right)
    m = order.shape[-1]
    axes = (*range(order.ndim - 1), order.ndim)
    found = broadcast(order, (*order.shape[:-1], m, m), axes)
    rows = iota_op(shape=found.shape, axis=order.ndim - 1, dtype=dtypes.INT64)
    return LUResult(cast(found == rows, node.dtype), left, right)


def triangles(packed: Node) -> tuple[Node, Node]:
    """L [..., m, k] and U [..., k, n] of a packed factorisation."""
    m, n = packed.shape[-2:]
    k, lead, rank = least(m, n), packed.shape[:-2], packed.ndim
    start, ones = (0,) * rank, (1,) * rank

    def cut(x: Node, rows: Any, columns: Any) -> Node:
        shape = (*lead, rows, columns)
        return x if x.shape == shape else slice_op(x, starts=start, extents=shape, steps=ones)

    one = cast(eye(m, k), packed.dtype)
    left = cut(tril(packed, -1), m, k) + broadcast(one, (*lead, m, k), (rank - 2, rank - 1))
    return left, cut(triu(packed), k, n)


def lu_solve(lu_and_piv: Any, b: Any, trans: int = 0) -> Node:
    """x with a x = b, or aᵀ x = b with `trans` 1, from `lu_factor(a)`. As SciPy's."""
    packed, pivots = lu_and_piv
    transposed = _transposed("lu_solve", trans)
    node, right = floats("lu_solve", packed, b)
    node, right, vector = right_hand_sides("lu_solve", squares("lu_solve", node), right)
    order = broadcast_order(order_of(as_node(pivots)), right)
    found = by_factors(node, order, right, transposed)
    return squeeze(found, -1) if vector else found


def order_of(pivots: Node) -> Node:
    """The order of rows that exchanges one after the other make."""
    from graphc.ops.control import scan
    from graphc.ops.indexing import take_along_axis
    from graphc.ops.movement import moveaxis

    line = iota_op(shape=pivots.shape, axis=pivots.ndim - 1, dtype=dtypes.INT64)
    first = iota_op(shape=(pivots.shape[-1],), axis=0, dtype=dtypes.INT64)

    def exchange(order: Node, here: Any) -> Any:
        step, pivot = here
        one = broadcast(step, order.shape, ())
        other = broadcast(pivot, order.shape, tuple(range(pivot.ndim)))
        at_one, at_other = (take_along_axis(order, place, -1) for place in (one, other))
        return where(line == one, at_other, where(line == other, at_one, order)), None

    return scan(exchange, line, (first, moveaxis(pivots, -1, 0)))[0]


def broadcast_order(order: Node, right: Node) -> Node:
    return to_shape(order, right.shape[:-1])


def _transposed(name: str, trans: Any) -> bool:
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise GraphError(f"{name}: trans is 0 or 1, got {trans!r}")
    return trans not in (0, "N")


# -- systems ---------------------------------------------------------------------------------------


def solve(a: Any, b: Any) -> Node:
    """x with a @ x = b, by LU factors with partial pivoting.

    a [..., n, n]; b [n] or [..., n, k], with leading axes that broadcast. `LinAlgError` at run time
    if a matrix is singular.
    """
    node, right = floats("solve", a, b)
    node, right, vector = right_hand_sides("solve", squares("solve", node), right)
    found = solved(node, right)
    return squeeze(found, -1) if vector else found


def solved(a: Node, b: Node) -> Node:
    """a⁻¹ b, of equal leading axes."""
    return solve_op(a, b, transposed=False)


def solve_triangular(
    a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Node:
    """x with a x = b, or aᵀ x = b with `trans` 1, where only a triangle of a is read: the upper
    one, or with `lower` the lower; its diagonal counts as ones with `unit_diagonal`. As SciPy's.

    a [..., n, n]; b [n] or [..., n, k]. `LinAlgError` at run time for a zero on the diagonal.
    """
    node, right = floats("solve_triangular", a, b)
    node = squares("solve_triangular", node)
    node, right, vector = right_hand_sides("solve_triangular", node, right)
    transposed = _transposed("solve_triangular", trans)
    found = divided(node, right, bool(lower), transposed, bool(unit_diagonal))
    return squeeze(found, -1) if vector else found


def inv(a: Any) -> Node:
    """The inverses of the matrices a [..., n, n]. `LinAlgError` at run time if one is singular."""
    (node,) = floats("inv", a)
    node = squares("inv", node)
    return solved(node, identities(node, node.shape[-1]))


# -- determinants ----------------------------------------------------------------------------------


def _diagonal_and_parity(name: str, a: Any) -> tuple[Node, Node]:
    """The diagonal of U, and the sign of the permutation of the rows."""
    (node,) = floats(name, a)
    both = lu_op(squares(name, node))
    packed, pivots = project(both, 0), project(both, 1)
    places = iota_op(shape=pivots.shape, axis=pivots.ndim - 1, dtype=dtypes.INT64)
    one = like_float(pivots, 1, node)
    parity = prod_(where(pivots == places, one, -one), -1)
    return diagonal(packed, 0, -2, -1), parity


def like_float(pattern: Node, value: float, dtype_of: Node) -> Node:
    return broadcast(constant(value, dtype_of.dtype), pattern.shape, ())


def det(a: Any) -> Node:
    """The determinants of the matrices a [..., n, n].

    Up to 4 x 4, of known extents, they are sums of products of elements, which may overflow where
    factors of matrices of very unlike rows do not. The derivative of larger ones is that of
    matrices that are not singular, and raises `LinAlgError` at run time for others.
    """
    (node,) = floats("det", a)
    node = squares("det", node)
    rows = node.shape[-1]
    if isinstance(rows, int) and rows <= MOST_ROWS:
        return by_minors(node)
    found, parity = _diagonal_and_parity("det", node)
    return prod_(found, -1) * parity


def slogdet(a: Any) -> SlogdetResult:
    """The sign of the determinants of a [..., n, n] (0 for singular matrices), and the logarithm of
    their size (-inf for those): no overflow.
    """
    found, parity = _diagonal_and_parity("slogdet", a)
    return SlogdetResult(prod_(sign(found), -1) * parity, sum_(log(absolute(found)), -1))
