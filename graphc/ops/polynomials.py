"""What is done with polynomials?  Arrays of coefficients, the highest power first, as in NumPy.

The number of coefficients must be known. Leading zeros are kept, for whether a coefficient is zero
is a matter of data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.arithmetic import add, subtract
from graphc.ops.creation import ones, zeros, zeros_like
from graphc.ops.filters import convolve
from graphc.ops.joining import concatenate, stack
from graphc.ops.operands import as_node, cast, constant, describe
from graphc.tensor import surface

__all__ = ["poly", "polyadd", "polyder", "polyint", "polymul", "polysub", "polyval"]


def _coefficients(name: str, p: Any) -> Node:
    node = as_node(p)
    if node.ndim == 0:
        node = node[None]
    if node.ndim != 1 or not isinstance(node.shape[0], int):
        raise GraphError(
            f"{name}: coefficients are an array of rank 1 of a known extent\n" + describe([node])
        )
    return node


@surface
def polyval(p: Any, x: Any) -> Node:
    """The polynomial with coefficients p at each element of x, by Horner's scheme."""
    coefficients, at = _coefficients("polyval", p), as_node(x)
    value = zeros_like(at)
    for i in range(len(coefficients)):
        value = value * at + coefficients[i]
    return value


@surface
def poly(seq_of_zeros: Any) -> Node:
    """The coefficients of the polynomial with these zeros and leading coefficient 1."""
    zeros_ = _coefficients("poly", seq_of_zeros)
    if not dtypes.is_float(zeros_.dtype):
        zeros_ = cast(zeros_, dtypes.FLOAT64)
    product = ones((1,), zeros_.dtype)
    for i in range(len(zeros_)):
        product = convolve(product, stack([constant(1, zeros_.dtype), -zeros_[i]]))
    return product


@surface
def polyadd(a1: Any, a2: Any) -> Node:
    """The coefficients of the sum of two polynomials."""
    return _term_by_term("polyadd", add, a1, a2)


@surface
def polysub(a1: Any, a2: Any) -> Node:
    """The coefficients of the difference of two polynomials."""
    return _term_by_term("polysub", subtract, a1, a2)


def _term_by_term(name: str, apply: Callable[[Any, Any], Node], a1: Any, a2: Any) -> Node:
    first, second = _coefficients(name, a1), _coefficients(name, a2)
    size = max(len(first), len(second))
    return apply(*(_preceded(node, size - len(node)) for node in (first, second)))


def _preceded(coefficients: Node, count: int) -> Node:
    """The same polynomial with `count` leading zeros more."""
    if not count:
        return coefficients
    return concatenate([zeros((count,), coefficients.dtype), coefficients])


@surface
def polymul(a1: Any, a2: Any) -> Node:
    """The coefficients of the product of two polynomials.

    Zeros in front of the coefficients are kept, which NumPy strips: a shape depends on no value.
    """
    return convolve(_coefficients("polymul", a1), _coefficients("polymul", a2))


@surface
def polyder(p: Any, m: int = 1) -> Node:
    """The coefficients of the derivative of order m; none are left of a constant."""
    coefficients = _coefficients("polyder", p)
    for _ in range(min(_order("polyder", m), len(coefficients))):
        powers = np.arange(len(coefficients) - 1, 0, -1)
        coefficients = coefficients[:-1] * powers
    return coefficients


@surface
def polyint(p: Any, m: int = 1, k: Any = None) -> Node:
    """The coefficients of an antiderivative of order m; `k` are the m constants of integration, of
    which the first is integrated most often. One is used for all, none are 0.
    """
    coefficients, times = _coefficients("polyint", p), _order("polyint", m)
    given: Any = k if isinstance(k, (list, tuple)) else as_node(0 if k is None else k)
    constants = [given] if isinstance(given, Node) and given.ndim == 0 else list(given)
    if len(constants) == 1:
        constants *= times
    if len(constants) != times:
        raise GraphError(f"polyint: {times} constants of integration are needed, or one")
    for each in constants:
        powers = np.arange(len(coefficients), 0, -1)
        coefficients = concatenate([coefficients / powers, as_node(each)[None]])
    return coefficients


def _order(name: str, m: Any) -> int:
    if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or m < 0:
        raise GraphError(f"{name}: the order is an integer of at least 0, got {shortened(repr(m))}")
    return int(m)
