"""Which of NumPy's element-wise functions are graphs of others?  Choices, tests, scalings.

Fusion makes one kernel of such a graph, and its derivative follows by the chain rule, so none of
these needs an op of its own. Each says what it is made of where that decides a derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.arithmetic import absolute, absolute_op, like, maximum, minimum, relu, sign
from graphc.ops.compare import isnan, isnan_op, truth
from graphc.ops.creation import full
from graphc.ops.operands import as_node, broadcast_together, cast, constant, operands
from graphc.ops.reduce import all_
from graphc.ops.special import where, where_op
from graphc.ops.transcend import logaddexp_op, power_op
from graphc.tensor import alias, surface

# -- the larger, the smaller, and bounds ---------------------------------------------------------


@surface
def fmax(x: Any, y: Any) -> Node:
    """The larger of x and y; of NaN and a number the number. At a tie each has derivative 1/2."""
    return _without_nan(maximum, "fmax", x, y)


@surface
def fmin(x: Any, y: Any) -> Node:
    """The smaller of x and y; of NaN and a number the number. At a tie each has derivative 1/2."""
    return _without_nan(minimum, "fmin", x, y)


def _without_nan(choose: Callable[..., Node], name: str, x: Any, y: Any) -> Node:
    first, second = operands(name, x, y)
    chosen = choose(first, second)
    if not dtypes.is_float(first.dtype):
        return chosen
    return where_op(isnan_op(first), second, where_op(isnan_op(second), first, chosen))


@surface
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Node:
    """`a` held between bounds, minimum(maximum(a, low), high); they broadcast, None bounds nothing.

    The bounds may be named `min` and `max`, too. NaN stays. Where `a` is at a bound, `a` and the
    bound have derivative 1/2 each.
    """
    low, high = _one_of(a_min, min, "min"), _one_of(a_max, max, "max")
    given = [bound for bound in (low, high) if bound is not None]
    if not given:
        return as_node(a)
    nodes = operands("clip", a, *given)
    result = nodes.pop(0)
    if low is not None:
        result = maximum(result, nodes.pop(0))
    return minimum(result, nodes.pop(0)) if high is not None else result


def _one_of(first: Any, second: Any, name: str) -> Any:
    if first is not None and second is not None:
        raise GraphError(f"clip: both a_{name} and {name} are given; give one of them")
    return second if first is None else first


# -- tests ---------------------------------------------------------------------------------------


def _constant_truth(x: Node, value: bool) -> Node:
    return full(x.shape, value, "bool")


@surface
def isfinite(x: Any) -> Node:
    """True where x is neither infinite nor NaN."""
    node = as_node(x)
    if not dtypes.is_float(node.dtype):
        return _constant_truth(node, True)
    return absolute_op(node) < like(node, math.inf)


@surface
def isinf(x: Any) -> Node:
    """True where x is infinity, of either sign."""
    node = as_node(x)
    if not dtypes.is_float(node.dtype):
        return _constant_truth(node, False)
    return absolute_op(node) == like(node, math.inf)


@surface
def isposinf(x: Any) -> Node:
    """True where x is positive infinity."""
    return _is_value(x, math.inf)


@surface
def isneginf(x: Any) -> Node:
    """True where x is negative infinity."""
    return _is_value(x, -math.inf)


def _is_value(x: Any, value: float) -> Node:
    node = as_node(x)
    if not dtypes.is_float(node.dtype):
        return _constant_truth(node, False)
    return node == like(node, value)


@surface
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Node:
    """|a - b| <= atol + rtol |b|, or a == b; NaN is close to NaN if `equal_nan`. `rtol` and `atol`
    may be nodes.
    """
    first, second = operands("isclose", a, b)
    if not dtypes.is_float(second.dtype):
        second = cast(second, dtypes.FLOAT64)
    near = absolute(first - second) <= atol + rtol * absolute(second)
    close = (near & isfinite(second)) | (first == second)
    return close | (isnan(first) & isnan(second)) if equal_nan else close


@surface
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Node:
    """Whether all elements are close to each other (`isclose`): a bool node of rank 0."""
    return all_(isclose(a, b, rtol, atol, equal_nan))


@surface
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Node:
    """Whether two arrays have one shape and equal elements: a bool node of rank 0.

    Shapes that are known to differ make it the constant False; that unequal symbolic extents agree
    is checked at entry.
    """
    first, second = as_node(a1), as_node(a2)
    known = zip(first.shape, second.shape, strict=False)
    differ = any(m != n and isinstance(m, int) and isinstance(n, int) for m, n in known)
    if first.ndim != second.ndim or differ:
        return constant(False)
    same = first == second
    if equal_nan:
        same = same | (isnan(first) & isnan(second))
    return all_(same)


# -- choices -------------------------------------------------------------------------------------


@surface
def heaviside(x1: Any, x2: Any) -> Node:
    """0 for x1 < 0, x2 for x1 == 0, 1 for x1 > 0, NaN for NaN; in a float dtype.

    The derivative by x1 is 0 everywhere, the jump included; by x2 it is 1 where x1 is 0.
    """
    step, middle = operands("heaviside", x1, x2, real=True)
    return where_op(step == like(step, 0), middle, relu(sign(step)))


@surface
def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Node:
    """x with `nan`, `posinf` and `neginf` for NaN and the infinities: by default 0 and the largest
    numbers of either sign. `copy` says nothing here, where nothing is written over. The derivative
    is 0 where something was replaced.
    """
    node = as_node(x)
    if not dtypes.is_float(node.dtype):
        return node
    most = largest(node.dtype)
    above = cast(most if posinf is None else posinf, node.dtype)
    below = cast(-most if neginf is None else neginf, node.dtype)
    result = where(isnan(node), cast(nan, node.dtype), node)
    return where(isneginf(node), below, where(isposinf(node), above, result))


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number of a float dtype."""
    above = dtype.type(math.inf)
    return float(np.nextafter(above, dtype.type(0)))


@surface
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Node:
    """For each element the choice that stands with the first condition that holds, or `default`.

    Conditions are bool; everything broadcasts and choices promote. A choice not taken receives a
    cotangent of exactly 0. The rows of an array serve as a list.
    """
    condlist, choicelist = list(condlist), list(choicelist)
    if len(condlist) != len(choicelist) or not condlist:
        raise GraphError(
            "select needs as many choices as conditions, and at least one; got "
            f"{len(choicelist)} and {len(condlist)}"
        )
    masks = [as_node(condition) for condition in condlist]
    for i, mask in enumerate(masks):
        if mask.dtype != dtypes.BOOL:
            raise GraphError(f"select: condition {i} is {mask.dtype.name}; it has to be bool")
    *choices, result = operands("select", *choicelist, default)
    for mask, choice in zip(reversed(masks), reversed(choices), strict=True):
        result = where(mask, choice, result)
    return result


@surface
def piecewise(
    x: Any, condlist: Sequence[Any], funclist: Sequence[Any], *args: Any, **kw: Any
) -> Node:
    """x through functions (or constants), each where its condition holds; the last condition that
    holds counts. One function more than conditions is the default, else 0. In the dtype of x.

    Every function sees all of x, not only the elements that it decides: it has to be one of single
    elements.
    """
    node = as_node(x)
    conditions = list(condlist) if isinstance(condlist, (list, tuple)) else [condlist]
    functions = list(funclist)
    if len(functions) not in (len(conditions), len(conditions) + 1):
        raise GraphError(
            f"piecewise of {len(conditions)} conditions needs {len(conditions)} or "
            f"{len(conditions) + 1} functions, got {len(functions)}"
        )

    def value(function: Any) -> Node:
        return cast(function(node, *args, **kw) if callable(function) else function, node.dtype)

    default = functions.pop() if len(functions) > len(conditions) else 0
    together = [value(default), *map(truth, conditions), node]
    result, *masks = broadcast_together("piecewise", together)
    for mask, function in zip(masks, functions, strict=False):
        result = where(mask, value(function), result)
    return result


# -- sums and powers -----------------------------------------------------------------------------


@surface
def logaddexp(x1: Any, x2: Any) -> Node:
    """log(exp(x1) + exp(x2)) without overflow, in a float dtype.

    The derivatives are sigmoids of the difference; equal infinities are apart by 0.
    """
    return logaddexp_op(*operands("logaddexp", x1, x2, real=True))


@surface
def float_power(x1: Any, x2: Any) -> Node:
    """x1 ** x2 in float64, whatever the dtypes."""
    nodes = operands("float_power", x1, x2)
    return power_op(*[cast(node, dtypes.FLOAT64) for node in nodes])


# -- scalings and identities ---------------------------------------------------------------------


@surface
def deg2rad(x: Any) -> Node:
    """Degrees as radians: x * (pi / 180), in a float dtype."""
    return _scaled("deg2rad", x, math.pi, 180.0)


@surface
def rad2deg(x: Any) -> Node:
    """Radians as degrees: x * (180 / pi), in a float dtype."""
    return _scaled("rad2deg", x, 180.0, math.pi)


def _scaled(name: str, x: Any, top: float, bottom: float) -> Node:
    """x * (top / bottom); the factor is NumPy's, a quotient in float64 or in float32."""
    (node,) = operands(name, x, real=True)
    wide = dtypes.FLOAT64 if node.dtype == dtypes.FLOAT64 else dtypes.FLOAT32
    factor = float(wide.type(top) / wide.type(bottom))
    return cast(cast(node, wide) * factor, node.dtype)


@surface
def fabs(x: Any) -> Node:
    """|x| in a float dtype."""
    return absolute_op(*operands("fabs", x, real=True))


@surface
def positive(x: Any) -> Node:
    """+x, which is x; not for bool."""
    return operands("positive", x, kinds="iuf")[0]


@surface
def conjugate(x: Any) -> Node:
    """The complex conjugate; of a real number the number."""
    return as_node(x)


@surface
def real(val: Any) -> Node:
    """The real part; of a real number the number."""
    return as_node(val)


@surface
def imag(val: Any) -> Node:
    """The imaginary part; of a real number 0."""
    return like(as_node(val), 0)


alias("radians", deg2rad)
alias("degrees", rad2deg)
alias("conj", conjugate)
