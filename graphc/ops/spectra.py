"""What does NumPy's `linalg` make of orthonormal factors?  qr, eigh, svd, and what comes of them:
pseudo-inverses, ranks, conditions, least squares.

Compositions of the ops `qr`, `eigh` and `svd`. The pseudo-inverse has a derivative of its own, for
it varies smoothly where singular vectors do not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphc import dtypes
from graphc.dims import dim_max
from graphc.errors import GraphError, GraphLinAlgError
from graphc.lowering import Compose
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import like
from graphc.ops.cholesky import symmetric
from graphc.ops.contract import matmul
from graphc.ops.eigh import as_columns, eigh_op
from graphc.ops.matrices import least, matrix_type
from graphc.ops.movement import expand_dims, matrix_transpose, slice_op, squeeze
from graphc.ops.operands import as_node, broadcast, cast, constant, describe, extent, to_shape
from graphc.ops.qr import qr_op
from graphc.ops.reduce import max_, sum_
from graphc.ops.special import project, where_op
from graphc.ops.svd import svd_op
from graphc.ops.systems import floats, identities, inv, require_matrices, squares
from graphc.types import TensorType, Type


class QRResult(NamedTuple):
    """Orthonormal columns and the upper triangle that makes the matrix of them."""

    Q: Node
    R: Node


class EighResult(NamedTuple):
    """Eigenvalues in ascending order and, as columns, their vectors."""

    eigenvalues: Node
    eigenvectors: Node


class SVDResult(NamedTuple):
    """Left vectors as columns, singular values in descending order, right vectors as rows."""

    U: Node
    S: Node
    Vh: Node


# -- decompositions --------------------------------------------------------------------------------


def qr(a: Any, mode: str = "reduced") -> Any:
    """(Q, R) with a = Q @ R, Q having orthonormal columns and R being an upper triangle; a [..., m,
    n], k = min(m, n).

    `mode`: "reduced", Q [..., m, k]; "complete", Q [..., m, m]; "r", R [..., k, n] alone. The
    derivative is that of matrices whose first k columns are independent; of a tall matrix Q has
    none in mode "complete".
    """
    if mode not in ("reduced", "complete", "r"):
        raise GraphError(
            f"qr: mode is 'reduced', 'complete' or 'r', got {mode!r}\nLAPACK's packed reflections "
            "(mode 'raw') are not offered."
        )
    (node,) = floats("qr", a)
    m, n = require_matrices("qr", node).shape[-2:]
    both = qr_op(node, complete=mode == "complete" and least(m, n) != m)
    return project(both, 1) if mode == "r" else QRResult(project(both, 0), project(both, 1))


def _symmetric(name: str, a: Any, UPLO: str) -> Node:  # noqa: N803 -- NumPy's name
    if UPLO not in ("L", "U", "l", "u"):
        raise GraphError(f"{name}: UPLO is 'L' or 'U', got {UPLO!r}")
    (node,) = floats(name, a)
    node = squares(name, node)
    return node if UPLO in "lL" else matrix_transpose(node)


def eigh(a: Any, UPLO: str = "L") -> EighResult:  # noqa: N803
    """The eigenvalues of symmetric matrices a [..., n, n], ascending, and their orthonormal vectors
    as columns; only the triangle `UPLO`, lower or upper, is read.

    In each vector the first component of at least 0.37 of the largest is positive. Derivatives of
    vectors take the vectors of equal eigenvalues as not turning into each other: where values are
    equal, theirs are those of first order only. `LinAlgError` at run time for NaN and infinities.
    """
    both = eigh_op(_symmetric("eigh", a, UPLO))
    return EighResult(project(both, 0), project(both, 1))


def eigvalsh(a: Any, UPLO: str = "L") -> Node:  # noqa: N803
    """The eigenvalues of symmetric matrices in ascending order, see `eigh`."""
    return project(eigh_op(_symmetric("eigvalsh", a, UPLO)), 0)


def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """(U, S, Vh) with a = U @ diag(S) @ Vh, S descending and not negative; a [..., m, n].

    U is [..., m, m] and Vh [..., n, n], or with `full_matrices` false [..., m, k] and [..., k, n],
    k = min(m, n); the surplus vectors have no derivative. Without `compute_uv` it is S alone. With
    `hermitian` the lower triangle stands for the upper one. In each column of U the first component
    of at least 0.37 of the largest is positive. `LinAlgError` at run time for NaN and infinities.
    """
    (node,) = floats("svd", a)
    require_matrices("svd", node)
    node = symmetric(squares("svd", node)) if hermitian else node
    parts = svd_op(node)
    left, values, right = (project(parts, i) for i in range(3))
    if not compute_uv:
        return values
    if full_matrices:
        left = _completed(left)
        right = matrix_transpose(_completed(matrix_transpose(right)))
    return SVDResult(left, values, right)


def _completed(basis: Node) -> Node:
    """Orthonormal columns, and more of them until they are a basis."""
    from graphc.ops.joining import concatenate

    m, k = basis.shape[-2:]
    if m == k:
        return basis
    whole = project(qr_op(basis, complete=True), 0)
    starts, ones = (*(0,) * (basis.ndim - 1), k), (1,) * basis.ndim
    rest = slice_op(whole, starts=starts, extents=(*basis.shape[:-1], m - k), steps=ones)
    return concatenate([basis, rest], -1)


def svdvals(x: Any, /) -> Node:
    """The singular values of the matrices x [..., m, n], descending."""
    return svd(x, compute_uv=False)


# -- pseudo-inverses -------------------------------------------------------------------------------


def _infer_pinv(a: Type, cutoff: Type) -> Type:
    type_ = matrix_type("pinv", a)
    if cutoff is not TensorType(type_.dtype, type_.shape[:-2]):
        raise GraphError(f"pinv of {a} with the cutoff {cutoff}")
    return TensorType(type_.dtype, (*type_.shape[:-2], *type_.shape[:-3:-1]))


def _numpy_pinv(a: Any, cutoff: Any) -> Any:
    left, values, right = svd_op.numpy(a)
    kept = values > cutoff[..., None] * values.max(-1, keepdims=True, initial=0)
    inverse = np.where(kept, 1 / np.where(kept, values, 1), 0).astype(a.dtype)
    return np.swapaxes(right, -1, -2) @ (inverse[..., None] * np.swapaxes(left, -1, -2))


def _build_pinv(a: Node, cutoff: Node) -> Node:
    parts = svd_op(a)
    left, values, right = (project(parts, i) for i in range(3))
    bound = cutoff * max_(values, -1, initial=0)
    kept = values > broadcast(bound, values.shape, tuple(range(bound.ndim)))
    one, zero = like(values, 1), like(values, 0)
    inverse = where_op(kept, one / where_op(kept, values, one), zero)
    v = matrix_transpose(right)
    return matmul(v * as_columns(inverse, v), matrix_transpose(left))


def _pinv_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    """dP = -P dA P + P Pᵀ dAᵀ (I - A P) + (I - P A) dAᵀ Pᵀ P."""
    if tangents[0] is None:
        return [None]
    moved, turned = matrix_transpose(tangents[0]), matrix_transpose(node)
    right, left = _projections(node)
    first = matmul(matmul(node, matmul(turned, moved)), right)
    second = matmul(left, matmul(moved, matmul(turned, node)))
    return [first + second - matmul(node, matmul(tangents[0], node))]


def _projections(node: Node) -> tuple[Node, Node]:
    """I - A P and I - P A."""
    a, p = node.args[0], node
    outer, inner = matmul(a, p), matmul(p, a)
    return identities(a, a.shape[-2]) - outer, identities(a, a.shape[-1]) - inner


def _pinv_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    turned, given = matrix_transpose(node), matrix_transpose(cotangents[0])
    right, left = _projections(node)
    first = matmul(right, matmul(given, matmul(node, turned)))
    second = matmul(turned, matmul(node, matmul(given, left)))
    minus = matmul(turned, matmul(cotangents[0], turned))
    return [first + second - minus, None]


pinv_op: Op = register(
    Op(
        "pinv",
        _infer_pinv,
        _numpy_pinv,
        Compose(_build_pinv),
        Rules(_pinv_jvp, _pinv_vjp),
        batch=Leading(),
        doc="The pseudo-inverse of matrices, singular values of at most `cutoff`, the second "
        "argument, times the largest counting as 0. Derivative, where the rank stays: Golub and "
        "Pereyra 1973, equation (4.12).",
    )
)


def _relative(name: str, node: Node, rtol: Any) -> Node:
    """A relative tolerance for each matrix; by default the larger extent times eps."""
    lead = node.shape[:-2]
    if rtol is None:
        m, n = node.shape[-2:]
        larger = m if m == n else dim_max(m, n)
        eps = constant(float(np.finfo(node.dtype).eps), node.dtype)
        return broadcast(extent(larger, node.dtype) * eps, lead, ())
    return to_shape(cast(as_node(rtol), node.dtype), lead)


def pinv(
    a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue
) -> Node:
    """The pseudo-inverses [..., n, m] of the matrices a [..., m, n].

    Singular values of at most `rcond` (default 1e-15), or `rtol` (None: the larger extent times
    eps), times the largest count as 0. The derivative is that at a rank that stays. With
    `hermitian` the lower triangle stands for the upper one.
    """
    (node,) = floats("pinv", a)
    require_matrices("pinv", node)
    if rcond is not None and rtol is not np._NoValue:
        raise GraphError("pinv: `rcond` and `rtol` are the same, give one of them")
    node = symmetric(squares("pinv", node)) if hermitian else node
    if rcond is None:
        rcond = 1e-15 if rtol is np._NoValue else rtol
    return pinv_op(node, _relative("pinv", node, rcond))


def matrix_rank(
    A: Any,  # noqa: N803 -- NumPy's name
    tol: Any = None,
    hermitian: bool = False,
    *,
    rtol: Any = None,
) -> Node:
    """How many singular values (int64) are greater than `tol`, or than `rtol` times the largest, by
    default the larger extent times eps. Of a vector: whether it has an element that is not 0.
    """
    from graphc.ops.reduce import any_, count_nonzero

    (node,) = floats("matrix_rank", A)
    if node.ndim < 2:
        return cast(any_(node), dtypes.INT64)
    if tol is not None and rtol is not None:
        raise GraphError("matrix_rank: give `tol` or `rtol`, not both")
    values = svd(node, compute_uv=False, hermitian=hermitian)
    if tol is None:
        bound = max_(values, -1, initial=0) * _relative("matrix_rank", node, rtol)
    else:
        bound = cast(as_node(tol), values.dtype)
    return count_nonzero(values > bound[..., None], -1)


def cond(x: Any, p: Any = None) -> Node:
    """The condition numbers of matrices: the ratio of the singular values at the ends (p None or 2;
    -2: its inverse), or by another norm p of square matrices norm(x, p) norm(inv(x), p), for which
    a singular one raises `LinAlgError` at run time.
    """
    from graphc.ops.norms import norm

    (node,) = floats("cond", x)
    require_matrices("cond", node)
    if any(size == 0 for size in node.shape[-2:]):
        raise GraphLinAlgError("cond is not defined for empty matrices\n" + describe([node]))
    if p is None or p in (2, -2):
        values = svdvals(node)
        first, last = values[..., 0], values[..., -1]
        found = last / first if p == -2 else first / last
        return where_op(found == found, found, like(found, float("inf")))
    node = squares("cond", node)
    return norm(node, p, axis=(-2, -1)) * norm(inv(node), p, axis=(-2, -1))


def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Node, Node, Node, Node]:
    """(x, residuals, rank, s) with x minimising the length of b - a @ x, and itself the shortest
    that does; a [m, n], b [m] or [m, k].

    Singular values of at most `rcond` (default: the larger extent times eps) times the largest
    count as 0. `residuals` are the squares of the lengths, [k] or [1], and for m <= n empty; where
    the rank is less than n, which only a call knows, NumPy leaves them out, here they are given.
    """
    node, right = floats("lstsq", a, b)
    if node.ndim != 2 or right.ndim not in (1, 2) or node.shape[0] != right.shape[0]:
        raise GraphLinAlgError(
            "lstsq needs a matrix a [m, n] and b [m] or [m, k]\n" + describe([node, right])
        )
    m, n = node.shape
    if not isinstance(m, int) or not isinstance(n, int):
        raise GraphError("lstsq needs known extents of a\n" + describe([node]))
    rcond = max(m, n) * float(np.finfo(node.dtype).eps) if rcond is None else rcond
    rcond = float(np.finfo(node.dtype).eps) if type(rcond) in (int, float) and rcond < 0 else rcond
    columns = expand_dims(right, 1) if right.ndim == 1 else right
    found = matmul(pinv_op(node, _relative("lstsq", node, rcond)), columns)
    values = svdvals(node)
    rank = cast(matrix_rank(node, rtol=rcond), "int32")
    rest = columns - matmul(node, found)
    squared = sum_(rest * rest, 0)
    if m <= n:
        squared = squared[:0]
    return (squeeze(found, -1) if right.ndim == 1 else found), squared, rank, values
