"""Arithmetic, element by element.

Each record states NumPy's function, the kernel over scalar instructions, and the partial
derivatives as graph expressions.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from graphc import dtypes, origin
from graphc.errors import GraphError
from graphc.node import Node, add_origin
from graphc.op import Op, elementwise
from graphc.ops.elementwise import binary, counted, unary
from graphc.ops.operands import as_node, broadcast_op, constant, describe, operands, to_shape
from graphc.tensor import alias, surface

# The nodes of `like` that are alive: partial derivatives ask for the same ones again and again.
_ALIKE: weakref.WeakValueDictionary[tuple[Any, ...], Node] = weakref.WeakValueDictionary()


def like(x: Node, value: float) -> Node:
    """`value` at the type of `x`."""
    key = (x.type, type(value), repr(value))  # 0.0 equals -0.0, and 1 equals True
    found = _ALIKE.get(key)
    if found is None:
        found = _ALIKE[key] = to_shape(constant(value, x.dtype), x.shape)
    else:
        add_origin(found, origin.current(2))
    return found


def _strong_numpy(x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.where((x == 0) | (y == 0), np.zeros_like(x), x * y)


def _unless_it_wraps(node: Node) -> frozenset[str]:
    """Nonnegative, but for signed integers: the most negative one has no opposite, and squares wrap
    around.
    """
    return frozenset(() if dtypes.kind(node.dtype) == "i" else ("nonnegative",))


def _strong_kernel(k: Any, x: Any, y: Any) -> Any:
    # Asked this way round it is one masked product on machines that have such.
    both = k.and_(k.ne(x, 0), k.ne(y, 0))
    return k.select(both, k.mul(x, y), k.const(0, x.dtype))


add_op = elementwise(
    "add",
    numpy=np.add,
    kernel=lambda k, x, y: k.add(x, y),
    partials=lambda x, y, result: (like(x, 1), like(y, 1)),
    laws=frozenset(("commutative", "associative")),
    text="{} + {}",
    latex="{} + {}",
)
subtract_op = elementwise(
    "subtract",
    numpy=np.subtract,
    kernel=lambda k, x, y: k.sub(x, y),
    partials=lambda x, y, result: (like(x, 1), like(y, -1)),
    text="{} - {}",
    latex="{} - {}",
)
multiply_op = elementwise(
    "multiply",
    numpy=np.multiply,
    kernel=lambda k, x, y: k.mul(x, y),
    partials=lambda x, y, result: (y, x),
    laws=frozenset(("commutative", "associative")),
    text="{} * {}",
    latex=r"{} \cdot {}",
)
strong_multiply_op = elementwise(
    "strong_multiply",
    numpy=_strong_numpy,
    kernel=_strong_kernel,
    partials=lambda x, y, result: (y, x),
    singular=(0, 1),
    laws=frozenset(("commutative",)),
    kinds="f",
    cost=4,
    doc="A product in which 0 times anything, infinity and NaN included, is 0; its own derivative "
    "is that product.",
)


def _quotient_partials(x: Node, y: Node, result: Node) -> tuple[Node, Node]:
    """By x and by y of x / y. Of a divisor that is spread along an axis there is one 1 / y for all
    elements along it, and a product takes a tenth of the time of a quotient.
    """
    inverse = divide_op(like(y, 1), y)
    if y.op is broadcast_op:  # 0 where the result is, even if 1 / y overflows
        return inverse, negative_op(strong_multiply_op(result, inverse))
    return inverse, negative_op(divide_op(result, y))


divide_op = elementwise(
    "divide",
    numpy=np.divide,
    kernel=lambda k, x, y: k.div(x, y),
    partials=_quotient_partials,
    singular=(0, 1),
    at_poles=True,
    kinds="f",
    cost=8,
    text="{} / {}",
    latex=r"\frac{{{}}}{{{}}}",
)


def _strong_quotient(x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.where(x == 0, np.zeros_like(x), x / y)


strong_divide_op: Op = elementwise(
    "strong_divide",
    numpy=_strong_quotient,
    kernel=lambda k, x, y: k.select(k.eq(x, 0), k.const(0, x.dtype), k.div(x, y)),
    partials=lambda x, y, result: (like(y, 1) / y, strong_divide_op(-result, y)),
    singular=(0, 1),
    kinds="f",
    cost=9,
    doc="A quotient in which 0 over anything, 0 and NaN included, is 0. Its derivative by x is 1/y "
    "there too, infinite where y is 0.",
)


def _distance(x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.where(x == y, np.zeros_like(x), x - y)


difference_op = elementwise(
    "difference",
    numpy=_distance,
    kernel=lambda k, x, y: k.select(k.eq(x, y), k.const(0, x.dtype), k.sub(x, y)),
    partials=lambda x, y, result: (like(x, 1), like(y, -1)),
    kinds="f",
    cost=2,
    doc="x - y, where equal infinities are apart by 0. The derivatives are 1 and -1 there too.",
)
negative_op = elementwise(
    "negative",
    numpy=np.negative,
    kernel=lambda k, x: k.neg(x),
    partials=lambda x, result: (like(x, -1),),
    laws=frozenset(("odd", "involution")),
    text="-{}",
    latex="-{}",
)
absolute_op = elementwise(
    "absolute",
    numpy=np.abs,
    kernel=lambda k, x: k.abs(x),
    partials=lambda x, result: (sign_op(x),),
    laws=frozenset(("even", "idempotent")),
    facts=lambda node, known: known(node.args[0]) & {"finite", "integer"} | _unless_it_wraps(node),
    latex=r"\lvert {} \rvert",
    doc="The derivative at 0 is 0.",
)


def _sign_kernel(k: Any, x: Any) -> Any:
    one, zero = k.const(1, x.dtype), k.const(0, x.dtype)
    if x.is_unsigned:
        return k.select(k.ne(x, zero), one, zero)
    still = k.select(k.eq(x, zero), zero, x)  # 0 for -0.0, and NaN for NaN
    signed = k.select(k.lt(x, zero), k.const(-1, x.dtype), still)
    return k.select(k.gt(x, zero), one, signed)


sign_op: Op = elementwise(
    "sign",
    numpy=np.sign,
    kernel=_sign_kernel,
    partials=lambda x, result: (None,),
    laws=frozenset(("odd", "increasing", "idempotent")),
    cost=3,
    doc="The derivative is 0 everywhere, the jump at 0 included.",
)


def _chosen(won: Node, tied: Node) -> Node:
    """1 where an argument won, 1/2 where both are equal, 0 where it lost."""
    from graphc.ops.special import where_op

    half = where_op(tied, like_bool(tied, 0.5, won), like_bool(tied, 0.0, won))
    return where_op(won, like_bool(won, 1.0, won), half)


def like_bool(mask: Node, value: float, typed: Node) -> Node:
    """`value` in the float dtype of the comparison's operands, at the mask's shape."""
    return to_shape(constant(value, typed.args[0].dtype), mask.shape)


maximum_op = elementwise(
    "maximum",
    numpy=np.maximum,
    kernel=lambda k, x, y: k.max(x, y),
    partials=lambda x, y, result: (_chosen(x > y, x == y), _chosen(y > x, x == y)),
    singular=(0, 1),
    laws=frozenset(("commutative", "associative", "idempotent")),
    doc="NaN propagates. At a tie each argument has derivative 1/2.",
)
minimum_op = elementwise(
    "minimum",
    numpy=np.minimum,
    kernel=lambda k, x, y: k.min(x, y),
    partials=lambda x, y, result: (_chosen(x < y, x == y), _chosen(y < x, x == y)),
    singular=(0, 1),
    laws=frozenset(("commutative", "associative", "idempotent")),
    doc="NaN propagates. At a tie each argument has derivative 1/2.",
)
square_op = elementwise(
    "square",
    numpy=np.square,
    kernel=lambda k, x: k.mul(x, x),
    partials=lambda x, result: (x + x,),
    laws=frozenset(("even",)),
    facts=lambda node, known: known(node.args[0]) & {"integer"} | _unless_it_wraps(node),
    text="{}**2",
    latex="{}^2",
)


def _sqrt_numpy(x: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


def _sqrt_facts(node: Node, known: Any) -> frozenset[str]:
    """Below 0 it is NaN, which is not finite; any other root is nonnegative."""
    found = known(node.args[0])
    above = bool(found & {"nonnegative", "positive"})
    return found & {"positive", *(("finite",) if above else ())} | {"nonnegative"}


sqrt_op = elementwise(
    "sqrt",
    numpy=_sqrt_numpy,
    kernel=lambda k, x: k.sqrt(x),
    partials=lambda x, result: (like(x, 0.5) / result,),
    singular=(0,),
    kinds="f",
    cost=10,
    laws=frozenset(("increasing",)),
    facts=_sqrt_facts,
    latex=r"\sqrt{{{}}}",
    doc="The derivative at 0 is infinite; times a zero cotangent it is 0.",
)
relu_op = elementwise(
    "relu",
    numpy=lambda x: np.maximum(x, np.zeros((), x.dtype)),
    kernel=lambda k, x: k.max(x, 0),
    partials=lambda x, result: (_step(x),),
    singular=(0,),
    laws=frozenset(("increasing", "idempotent")),
    facts=lambda node, known: known(node.args[0]) & {"finite", "integer"} | {"nonnegative"},
    doc="max(x, 0); the derivative at 0 is 0.",
)


def _step(x: Node) -> Node:
    from graphc.ops.special import where_op

    return where_op(x > like(x, 0), like(x, 1), like(x, 0))


def _modf_infer(x: Any) -> Any:
    from graphc.op import same_types
    from graphc.types import TupleType

    common = same_types("modf", (x,), "f")
    return TupleType((common, common))


def _modf_kernel(k: Any, x: Any) -> Any:
    whole = k.trunc(x)
    infinite = k.eq(k.abs(x), float("inf"))
    rest = k.select(infinite, k.const(0, x.dtype), k.sub(x, whole))
    return k.copysign(rest, x), whole


modf_op = elementwise(
    "modf",
    numpy=np.modf,
    kernel=_modf_kernel,
    partials=lambda x, result: ((like(x, 1),), (None,)),
    infer=_modf_infer,
    cost=3,
    doc="Two results: the fractional and the whole part, both with the sign of x.",
)


# -- the surface -----------------------------------------------------------------------------------


@surface
def add(x: Any, y: Any) -> Node:
    """x + y; on bool, logical or."""
    nodes = operands("add", x, y)
    if dtypes.kind(nodes[0].dtype) == "b":
        from graphc.ops.compare import logical_or

        return logical_or(*nodes)
    return add_op(*nodes)


@surface
def multiply(x: Any, y: Any) -> Node:
    """x * y; on bool, logical and."""
    nodes = operands("multiply", x, y)
    if dtypes.kind(nodes[0].dtype) == "b":
        from graphc.ops.compare import logical_and

        return logical_and(*nodes)
    return multiply_op(*nodes)


subtract = binary(subtract_op, "x - y.", kinds="iuf")
strong_multiply = binary(
    strong_multiply_op,
    "x * y, but 0 wherever x or y is 0, even against infinity or NaN.",
    real=True,
)
divide = binary(
    divide_op, "x / y; integers and bool are divided in float64.", integers=dtypes.FLOAT64
)
negative = unary(negative_op, "-x.", kinds="iuf")
sign = unary(sign_op, "-1, 0 or 1; NaN for NaN. The derivative is 0.", kinds="iuf")
sqrt = unary(sqrt_op, "The square root; NaN below 0.", real=True)
relu = unary(relu_op, "max(x, 0).", kinds="iuf")


@surface
def square(x: Any) -> Node:
    """x * x."""
    return square_op(*counted("square", x))


@surface
def absolute(x: Any) -> Node:
    """|x|; a bool is its own. The derivative at 0 is 0."""
    (node,) = operands("absolute", x)
    return node if dtypes.kind(node.dtype) == "b" else absolute_op(node)


@surface
def maximum(x: Any, y: Any) -> Node:
    """The larger of x and y; NaN if either is. At a tie each has derivative 1/2. On bool, or."""
    nodes = operands("maximum", x, y)
    if dtypes.kind(nodes[0].dtype) == "b":
        from graphc.ops.compare import logical_or

        return logical_or(*nodes)
    return maximum_op(*nodes)


@surface
def minimum(x: Any, y: Any) -> Node:
    """The smaller of x and y; NaN if either is. At a tie each has derivative 1/2. On bool, and."""
    nodes = operands("minimum", x, y)
    if dtypes.kind(nodes[0].dtype) == "b":
        from graphc.ops.compare import logical_and

        return logical_and(*nodes)
    return minimum_op(*nodes)


@surface
def modf(x: Any) -> tuple[Node, Node]:
    """The fractional and the whole part of x, both with its sign."""
    from graphc.ops.special import project

    both = modf_op(*operands("modf", x, real=True))
    return project(both, 0), project(both, 1)


@surface
def power(x: Any, y: Any) -> Node:
    """x ** y. Whole Python exponents of integers, and 0, 1 and 2, are done by multiplication.

    Integers to negative integer powers are a `GraphError` if the exponent is a Python int, else a
    `ValueError` at run time.
    """
    if type(y) is int and 0 <= y <= 2 and as_node(x).dtype != dtypes.BOOL:
        base = as_node(x)
        return (like(base, 1), base, square(base) if y == 2 else base)[y]
    nodes = counted("power", x, y)
    if dtypes.is_float(nodes[0].dtype):
        from graphc.ops.transcend import power_op

        return power_op(*nodes)
    if type(y) is int:
        return _whole_power(nodes[0], y)
    from graphc.ops.division import integer_power_op

    return integer_power_op(*nodes)


def _whole_power(base: Node, exponent: int) -> Node:
    """An integer to a Python exponent, by squaring and multiplying."""
    if exponent < 0:
        raise GraphError(
            f"integers to negative integer powers are not allowed, got {exponent}\n"
            + describe([base])
            + "\nCast the base to a float dtype, or use gx.float_power."
        )
    result, factor = like(base, 1), base
    while exponent:
        if exponent & 1:
            result = result * factor
        factor, exponent = factor * factor, exponent >> 1
    return result


alias("abs", absolute)
alias("true_divide", divide)
alias("pow", power)
