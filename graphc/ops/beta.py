"""What are the beta function and its logarithm?  Graphs of other functions, chosen by size.

log B(a, b) = log gamma(a) + log gamma(b) - log gamma(a + b) loses all places where a or b is large.
So from 10 on log gamma is written as Stirling's formula (DLMF 5.11.1), whose large terms are taken
together by hand (Didonato & Morris, ACM Transactions on Mathematical Software 18, 1992, algorithm
708, has the same three cases). Derivatives are those of the formulas, exact where these are.
"""

from __future__ import annotations

import math
from typing import Any

from graphc import dtypes
from graphc.node import Node
from graphc.ops.arithmetic import like
from graphc.ops.operands import cast, operands
from graphc.ops.special import where_op
from graphc.ops.special_functions import gammaln_op
from graphc.ops.transcend import exp_op, log1p_op, log_op
from graphc.tensor import surface

_LARGE = 10.0
# B(2k) / (2k (2k - 1)), the coefficients of x**(1 - 2k) in log gamma.
STIRLING = (
    *(1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188),
    *(-691 / 360360, 1 / 156, -3617 / 122400),
)
_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


def stirling_rest(x: Node) -> Node:
    """What log gamma(x) is more than (x - 1/2) log x - x + log(2 pi)/2, for x of at least 10."""
    inverse = like(x, 1) / x
    square = inverse * inverse
    total = like(x, STIRLING[-1])
    for coefficient in reversed(STIRLING[:-1]):
        total = total * square + like(x, coefficient)
    return total * inverse


def _of_small(a: Node, b: Node) -> Node:
    return gammaln_op(a) + gammaln_op(b) - gammaln_op(a + b)


def _of_small_and_large(a: Node, b: Node) -> Node:
    """log gamma(b) - log gamma(a + b) without their large terms."""
    both = a + b
    apart = stirling_rest(b) - stirling_rest(both) - (b - like(b, 0.5)) * log1p_op(a / b)
    return gammaln_op(a) + apart - a * log_op(both) + a


def _of_large(a: Node, b: Node) -> Node:
    both = a + b
    rests = stirling_rest(a) + stirling_rest(b) - stirling_rest(both) + like(a, _HALF_LOG_TWO_PI)
    shares = (a - like(a, 0.5)) * log_op(a / both) - b * log1p_op(a / b)
    return shares + rests - log_op(b) * like(b, 0.5)


def _logarithm(a: Node, b: Node) -> Node:
    """log B(a, b) of float64."""
    first = a <= b
    low, high = where_op(first, a, b), where_op(first, b, a)
    ten, one = like(a, _LARGE), like(a, 1)
    low_is_large, infinite = low >= ten, high == like(a, math.inf)
    high_is_large = (high >= ten) & ~infinite
    small = _of_small(where_op(high_is_large, one, low), where_op(high >= ten, one, high))
    above = where_op(high_is_large, high, ten)
    mixed = _of_small_and_large(where_op(low_is_large, one, low), above)
    large = _of_large(where_op(low_is_large & high_is_large, low, ten), above)
    found = where_op(high_is_large, where_op(low_is_large, large, mixed), small)
    found = where_op(infinite & (low > like(a, 0)), like(a, -math.inf), found)
    outside = (low < like(a, 0)) | (infinite & (low == like(a, 0))) | (a != a) | (b != b)
    return where_op(outside, like(a, math.nan), found)


def _in_float64(name: str, a: Any, b: Any) -> tuple[Node, Node, Any]:
    first, second = operands(name, a, b, real=True)
    return cast(first, dtypes.FLOAT64), cast(second, dtypes.FLOAT64), first.dtype


@surface
def betaln(a: Any, b: Any) -> Node:
    """log B(a, b), for a and b of at least 0; NaN below.

    inf where one of them is 0. All float dtypes compute in float64; the error is a few last places
    of the result or of 8, whichever is more. In a float dtype: integers and bool become the float
    dtype that NumPy's ufuncs choose.
    """
    first, second, dtype = _in_float64("betaln", a, b)
    return cast(_logarithm(first, second), dtype)


@surface
def beta(a: Any, b: Any) -> Node:
    """The beta function gamma(a) gamma(b) / gamma(a + b), for a and b of at least 0; NaN below.

    As exp(betaln(a, b)): the relative error grows with the size of the logarithm. SciPy's also has
    values for negative numbers. Dtypes are as for `betaln`.
    """
    first, second, dtype = _in_float64("beta", a, b)
    return cast(exp_op(_logarithm(first, second)), dtype)
