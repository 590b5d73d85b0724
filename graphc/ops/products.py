"""What else multiplies vectors and matrices?  NumPy's products by name, written with `einsum`,
`dot` and what they are made of.

Each takes `dtype` where a sum of products is formed: that of the terms and of the result, by
default what the arguments promote to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.contract import as_truth, dot, matmul, product_dtype, tensordot
from graphc.ops.diagonal import eye
from graphc.ops.einsum import LETTERS, einsum
from graphc.ops.joining import stack
from graphc.ops.movement import moveaxis, ravel, reshape
from graphc.ops.operands import as_node, broadcast, cast, describe, normalize_axis
from graphc.tensor import surface


@surface
def inner(a: Any, b: Any, dtype: Any = None) -> Node:
    """The sum over the last axes of a and b; a plain product if one of them is a scalar."""
    left, right = as_node(a), as_node(b)
    if left.ndim == 0 or right.ndim == 0:
        return dot(a, b, dtype=dtype)
    return tensordot(a, b, (-1, -1), dtype)


@surface
def vdot(a: Any, b: Any, dtype: Any = None) -> Node:
    """The sum of the products of all elements of a and b, both flattened."""
    return dot(ravel(a), ravel(b), dtype=dtype)


@surface
def vecdot(x1: Any, x2: Any, axis: int = -1, dtype: Any = None) -> Node:
    """The sum of products along `axis`, broadcast over the other axes."""
    left, right = _ranked("vecdot", (x1, 1), (x2, 1))
    ends = [moveaxis(node, normalize_axis(axis, node, "vecdot"), -1) for node in (left, right)]
    return einsum("...i,...i->...", *ends, dtype=dtype)


@surface
def matvec(x1: Any, x2: Any, dtype: Any = None) -> Node:
    """Matrices x1 [..., m, n] times vectors x2 [..., n]: [..., m]."""
    return einsum("...ij,...j->...i", *_ranked("matvec", (x1, 2), (x2, 1)), dtype=dtype)


@surface
def vecmat(x1: Any, x2: Any, dtype: Any = None) -> Node:
    """Vectors x1 [..., n] times matrices x2 [..., n, m]: [..., m]."""
    return einsum("...i,...ij->...j", *_ranked("vecmat", (x1, 1), (x2, 2)), dtype=dtype)


def _ranked(name: str, *given: tuple[Any, int]) -> list[Node]:
    """The arguments as nodes, each of at least the rank stated."""
    nodes = [as_node(value) for value, _ in given]
    for number, (node, (_, rank)) in enumerate(zip(nodes, given, strict=True)):
        if node.ndim < rank:
            raise GraphError(
                f"{name}: argument {number} needs at least {rank} axes\n" + describe(nodes)
            )
    return nodes


@surface
def kron(a: Any, b: Any) -> Node:
    """The Kronecker product: every element of a times all of b, in blocks."""
    wanted, truth = product_dtype("kron", (a, b))
    nodes = [cast(as_node(value), wanted) for value in (a, b)]
    rank = max(node.ndim for node in nodes)
    left, right = (
        reshape(node, (*(1,) * (rank - node.ndim), *node.shape)) for node in nodes
    )
    pairs = tuple(size for both in zip(left.shape, right.shape, strict=True) for size in both)
    product = broadcast(left, pairs, tuple(range(0, 2 * rank, 2))) * broadcast(
        right, pairs, tuple(range(1, 2 * rank, 2))
    )
    shape = tuple(m * n for m, n in zip(left.shape, right.shape, strict=True))
    return as_truth(reshape(product, shape), truth)


@surface
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Node:
    """The cross product of vectors of 3 components, which lie along `axisa` of a and `axisb` of b
    and come to lie along `axisc`; `axis` stands for all three.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    nodes = [as_node(value) for value in (a, b)]
    x, y = (
        moveaxis(node, normalize_axis(place, node, "cross"), -1)
        for node, place in zip(nodes, (axisa, axisb), strict=True)
    )
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise GraphError(
            "cross needs vectors of 3 components; of two vectors in the plane it is "
            "x[0] * y[1] - x[1] * y[0]\n" + describe(nodes)
        )
    first, second = ([node[..., i] for i in range(3)] for node in (x, y))
    turns = ((1, 2), (2, 0), (0, 1))
    parts = [first[i] * second[j] - first[j] * second[i] for i, j in turns]
    return stack(parts, normalize_axis(axisc, stack(parts, -1), "cross"))


@surface
def multi_dot(arrays: Sequence[Any], dtype: Any = None) -> Node:
    """The product of a chain of matrices in the order with the fewest multiplications; the first
    and the last array may be vectors.
    """
    nodes = [as_node(array) for array in arrays]
    ends = {0, len(nodes) - 1}
    fits = len(nodes) > 1 and all(
        node.ndim == 2 or (node.ndim == 1 and i in ends) for i, node in enumerate(nodes)
    )
    if not fits:
        raise GraphError(
            "multi_dot needs two or more matrices; the first and the last may be vectors\n"
            + describe(nodes)
        )
    if len(nodes) >= len(LETTERS):
        raise GraphError(f"multi_dot of {len(nodes)} arrays: at most {len(LETTERS) - 1}")
    terms = [LETTERS[i : i + 2] for i in range(len(nodes))]
    terms[0] = terms[0][2 - nodes[0].ndim :]
    terms[-1] = terms[-1][: nodes[-1].ndim]
    result = terms[0][: nodes[0].ndim - 1] + terms[-1][1:]
    return einsum(f"{','.join(terms)}->{result}", *arrays, dtype=dtype)


@surface
def matrix_power(a: Any, n: int) -> Node:
    """Square matrices to the n-th power, by squaring; of their inverses if n is negative."""
    node = as_node(a)
    if node.ndim < 2 or node.shape[-1] != node.shape[-2]:
        raise GraphError("matrix_power needs square matrices\n" + describe([node]))
    if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)):
        raise GraphError(
            f"matrix_power: n is an integer, got {shortened(repr(n))}\n" + describe([node])
        )
    if n < 0:
        from graphc.ops.systems import inv

        node, n = inv(node), -n
    if n == 0:
        one = eye(node.shape[-1], dtype=node.dtype)
        return broadcast(one, node.shape, (node.ndim - 2, node.ndim - 1))
    result: Node | None = None
    square, rest = node, int(n)
    while rest:
        if rest & 1:
            result = square if result is None else matmul(result, square)
        rest >>= 1
        if rest:
            square = matmul(square, square)
    assert result is not None
    return result
