"""What is the exponential of a matrix?  Of degree 13, a rational function, squared as often as the
matrix was halved before: Higham 2005.

Its derivative is the exponential of a matrix of twice the size, so it has all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.lowering import Compose
from graphc.node import Node
from graphc.op import Leading, Op, Rules, register
from graphc.ops.arithmetic import absolute, like
from graphc.ops.contract import matmul
from graphc.ops.matrices import matrix_type
from graphc.ops.movement import matrix_transpose, slice_op
from graphc.ops.operands import broadcast, cast
from graphc.ops.reduce import max_, sum_
from graphc.ops.special import where_op
from graphc.ops.systems import floats, identities, solved, squares
from graphc.types import Type

# By dtype: coefficients of the numerator, and the largest norm for which its error is rounding
# (Higham 2005, table 2.3 and section 2).
_COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "float64": (
        *(64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0),
        *(129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0),
        *(40840800.0, 960960.0, 16380.0, 182.0, 1.0),
    ),
    "float32": (17297280.0, 8648640.0, 1995840.0, 277200.0, 25200.0, 1512.0, 56.0, 1.0),
}
_LARGEST = {"float64": 5.371920351148152, "float32": 3.925724783138660}


def _infer_expm(a: Type) -> Type:
    return matrix_type("expm", a, square=True)


def _numpy_expm(a: Any) -> Any:
    """The same in NumPy, matrix by matrix."""
    shape = a.shape
    made = [_numpy_one(matrix) for matrix in a.reshape((-1, *shape[-2:]) if a.size else (0, 0, 0))]
    return np.stack(made).reshape(shape) if made else a.copy()


def _numpy_one(a: Any) -> Any:
    name = a.dtype.name
    with np.errstate(all="ignore"):
        ratio = np.abs(a).sum(-2).max() / _LARGEST[name]
        halvings = int(np.ceil(np.log2(ratio))) if 1 < ratio < np.inf else 0
        if not np.isfinite(ratio):
            return np.full_like(a, np.nan)
        scaled = a * a.dtype.type(2.0) ** -halvings
        even, odd = np.zeros_like(a), np.zeros_like(a)
        power, square = np.eye(len(a), dtype=a.dtype), scaled @ scaled
        for i in range(0, len(_COEFFICIENTS[name]), 2):
            even = even + a.dtype.type(_COEFFICIENTS[name][i]) * power
            odd = odd + a.dtype.type(_COEFFICIENTS[name][i + 1]) * power
            power = power @ square
        odd = scaled @ odd
        found = np.linalg.solve(even - odd, even + odd)
        for _ in range(halvings):
            found = found @ found
    return found


def _build_expm(a: Node) -> Node:
    from graphc.ops.iteration import while_loop
    from graphc.ops.rounding import ceil
    from graphc.ops.transcend import exp2, log2

    name = a.dtype.name
    size = max_(sum_(absolute(a), -2), -1, initial=0)
    ratio = size / like(size, _LARGEST[name])
    large = (ratio > like(ratio, 1)) & (ratio < like(ratio, float("inf")))
    halvings = where_op(large, ceil(log2(where_op(large, ratio, like(ratio, 1)))), like(ratio, 0))
    lead = tuple(range(a.ndim - 2))
    scaled = a * broadcast(exp2(-halvings), a.shape, lead)
    found = _rational(scaled, _COEFFICIENTS[name])
    times = cast(halvings, dtypes.INT64)

    def squared(state: tuple[Node, Node]) -> tuple[Node, Node]:
        power, rest = state
        more = broadcast(rest > like(rest, 0), power.shape, lead)
        return where_op(more, matmul(power, power), power), rest - like(rest, 1)

    return while_loop(lambda state: max_(state[1], initial=0) > 0, squared, (found, times))[0]


def _rational(x: Node, coefficients: tuple[float, ...]) -> Node:
    """(V - U)⁻¹ (V + U), V of the even coefficients, U of the odd ones."""
    square = matmul(x, x)
    powers = [identities(x, x.shape[-1]), square]
    while 2 * len(powers) < len(coefficients):
        powers.append(matmul(powers[-1], square))
    even, odd = (
        _sum([power * like(power, c) for power, c in zip(powers, part, strict=False)])
        for part in (coefficients[::2], coefficients[1::2])
    )
    turned = matmul(x, odd)
    return solved(even - turned, even + turned)


def _sum(terms: list[Node]) -> Node:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _direction(a: Node, along: Node) -> Node:
    """The derivative of the exponential of a: of [[a, e], [0, a]] the upper right block."""
    from graphc.ops.joining import concatenate

    n = a.shape[-1]
    above = concatenate([a, along], -1)
    below = concatenate([like(a, 0), a], -1)
    whole = expm_op(concatenate([above, below], -2))
    starts = (*(0,) * (a.ndim - 1), n)
    return slice_op(whole, starts=starts, extents=a.shape, steps=(1,) * a.ndim)


expm_op: Op = register(
    Op(
        "expm",
        _infer_expm,
        _numpy_expm,
        Compose(_build_expm),
        Rules(
            lambda node, tangents, transform: [_direction(node.args[0], tangents[0])],
            lambda node, cotangents, wanted, transform: [
                _direction(matrix_transpose(node.args[0]), cotangents[0])
            ],
        ),
        batch=Leading(),
        doc="The exponential of square matrices, by scaling and squaring: Higham 2005, algorithm "
        "2.3. Derivative: Van Loan 1978; Al-Mohy and Higham 2009.",
    )
)


def expm(A: Any) -> Node:  # noqa: N803 -- SciPy's name
    """The exponential of the matrices A [..., n, n], as SciPy's; NaN for one that is not finite."""
    (node,) = floats("expm", A)
    return expm_op(squares("expm", node))
