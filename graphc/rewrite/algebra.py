"""Which identities of arithmetic are used?  Units, zero, signs, powers, literals, sums of products.

Under `ieee` an identity must hold for every bit pattern: x - 0 and x * 1 are x, but x + 0 turns
-0.0 into +0.0 and 0 * x is NaN at an infinity, so these ask for a fact about x or for
`math="real"`. What is known about x comes from `graphc.rewrite.facts`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.node import Node
from graphc.ops.operands import cast, constant_op
from graphc.ops.special import cast_op
from graphc.rewrite.facts import never_zero
from graphc.rewrite.pattern import Number, functions, named, numbers, variables
from graphc.rewrite.rule import rule

x, y, z = variables("x y z")
c, d = numbers("c d")
absolute, broadcast, cast_, cos, maximum, minimum, negative = functions(
    "absolute broadcast cast cos maximum minimum negative"
)
relu, sign, sqrt, square = functions("relu sign sqrt square")


def _held(value: Number, x: Node) -> Number:
    """A number as the dtype of `x` has it: integers wrap around."""
    return dtypes.wrapped(int(value), x.dtype) if dtypes.is_integer(x.dtype) else value


# -- units and zeros -------------------------------------------------------------------------------

rule("multiply_one", x * 1, x, law="ieee", example=lambda x: x * 1.0)
rule("divide_one", x / 1, x, law="ieee", example=lambda x: x / 1.0)
rule("subtract_zero", x - 0, x, law="ieee", example=lambda x: x - 0.0)
rule("add_zero_integer", x + 0, x, law="ieee", kinds="iu", example=lambda i: i + 0)
rule("add_minus_zero", x + (-0.0), x, law="ieee", kinds="f", example=lambda x: x + (-0.0))
rule(
    "add_zero_unsigned",
    x + 0,
    x,
    law="ieee",
    guard=lambda x, known: "unsigned" in known(x),
    example=lambda x: absolute(x) + 0.0,
)
rule("add_zero", x + 0, x, law="real", example=lambda x: x + 0.0)
rule("multiply_zero_integer", x * 0, 0, law="ieee", kinds="iu", example=lambda i: i * 0)
rule(
    "multiply_zero_finite",
    x * 0,
    0,
    law="ieee",
    guard=lambda x, known: {"finite", "unsigned"} <= known(x),
    example=lambda p: cast(p, "float64") * 0.0,
)
rule("multiply_zero", x * 0, 0, law="real", example=lambda x: x * 0.0)
rule("zero_divided", 0 / x, 0, law="real", example=lambda x: 0.0 / x)
rule("subtract_self_integer", x - x, 0, law="ieee", kinds="iu", example=lambda i: i - i)
rule(
    "subtract_self_finite",
    x - x,
    0,
    law="ieee",
    guard=lambda x, known: "finite" in known(x),
    example=lambda p: cast(p, "float64") - cast(p, "float64"),
)
rule("subtract_self", x - x, 0, law="real", example=lambda x: x - x)
rule("divide_self", x / x, 1, law="real", example=lambda x: x / x)
rule("add_self", x + x, 2 * x, law="ieee", example=lambda x: x + x)

# -- signs -----------------------------------------------------------------------------------------

rule("negative_negative", negative(-x), x, law="ieee", example=lambda x: negative(-x))
rule("multiply_minus_one", x * -1, -x, law="ieee", example=lambda x: x * -1.0)
rule("divide_minus_one", x / -1, -x, law="ieee", example=lambda x: x / -1.0)
rule("subtract_from_minus_zero", -0.0 - x, -x, law="ieee", kinds="f", example=lambda x: -0.0 - x)
rule("subtract_from_zero_integer", 0 - x, -x, law="ieee", kinds="iu", example=lambda i: 0 - i)
rule("subtract_from_zero", 0 - x, -x, law="real", example=lambda x: 0.0 - x)
rule("add_negative", x + (-y), x - y, law="ieee", example=lambda x, y: x + (-y))
rule("subtract_negative", x - (-y), x + y, law="ieee", example=lambda x, y: x - (-y))
rule("multiply_negatives", (-x) * (-y), x * y, law="ieee", example=lambda x, y: (-x) * (-y))
rule("divide_negatives", (-x) / (-y), x / y, law="ieee", example=lambda x, y: (-x) / (-y))
rule(
    "multiply_negative_number",
    (-x) * c,
    lambda x, c: _held(-c, x) * x,
    law="ieee",
    doc="(-c) * x",
    example=lambda x: (-x) * 3.0,
)
rule(
    "divide_negative_number",
    (-x) / c,
    lambda x, c: x / -c,
    law="ieee",
    doc="x / (-c)",
    example=lambda x: (-x) / 3.0,
)
rule(
    "negative_multiply_number",
    -(x * c),
    lambda x, c: _held(-c, x) * x,
    law="ieee",
    doc="(-c) * x",
    example=lambda x: -(3.0 * x),
)
rule("negative_subtract", -(x - y), y - x, law="real", example=lambda x, y: -(x - y))
rule("multiply_negative", (-x) * y, -(x * y), law="ieee", example=lambda x, y: (-x) * y)
rule("divide_negative", (-x) / y, -(x / y), law="ieee", example=lambda x, y: (-x) / y)
rule("divide_by_negative", x / (-y), -(x / y), law="ieee", example=lambda x, y: x / (-y))
rule(
    "add_broadcast_negative",
    x + broadcast(-y),
    x - broadcast(y),
    law="ieee",
    example=lambda x, u: x + (-u),
)
rule(
    "subtract_broadcast_negative",
    x - broadcast(-y),
    x + broadcast(y),
    law="ieee",
    example=lambda x, u: x - (-u),
)
rule(
    "multiply_broadcast_negative",
    x * broadcast(-y),
    -(x * broadcast(y)),
    law="ieee",
    example=lambda x, u: x * (-u),
)
rule("square_negative", square(-x), square(x), law="ieee", example=lambda x: square(-x))
rule("square_absolute", square(abs(x)), square(x), law="ieee", example=lambda x: square(abs(x)))
rule(
    "absolute_negative",
    abs(-x),
    abs(x),
    law="ieee",
    guard=lambda x: dtypes.kind(x.dtype) != "u",  # -x has wrapped around, and is its own magnitude
    example=lambda x: abs(-x),
)
rule("cosine_negative", cos(-x), cos(x), law="real", example=lambda x: cos(-x))
rule(
    "absolute_unsigned",
    abs(x),
    x,
    law="ieee",
    guard=lambda x, known: "unsigned" in known(x),
    example=lambda x: abs(x * x),
)
rule(
    "absolute_nonnegative",
    abs(x),
    x,
    law="real",
    guard=lambda x, known: "nonnegative" in known(x),
    example=lambda x: abs(relu(x)),
)
rule(
    "relu_unsigned",
    relu(x),
    x,
    law="ieee",
    guard=lambda x, known: "unsigned" in known(x),
    example=lambda x: relu(abs(x)),
)


# -- idempotence and powers ------------------------------------------------------------------------

rule("maximum_self", maximum(x, x), x, law="ieee", example=lambda x: maximum(x, x))
rule("minimum_self", minimum(x, x), x, law="ieee", example=lambda x: minimum(x, x))
rule(
    "maximum_minus_infinity",
    maximum(x, -math.inf),
    x,
    law="ieee",
    example=lambda x: maximum(x, -math.inf),
)
rule(
    "minimum_infinity", minimum(x, math.inf), x, law="ieee", example=lambda x: minimum(x, math.inf)
)
rule("absolute_absolute", abs(abs(x)), abs(x), law="ieee", example=lambda i: abs(abs(i)))
rule("relu_relu", relu(relu(x)), relu(x), law="ieee", example=lambda x: relu(relu(x)))
rule("sign_sign", sign(sign(x)), sign(x), law="ieee", example=lambda x: sign(sign(x)))
rule("multiply_self", x * x, square(x), law="ieee", example=lambda x: x * x)
rule("sqrt_square", sqrt(square(x)), abs(x), law="real", example=lambda x: sqrt(x**2))
rule("square_sqrt", square(sqrt(x)), x, law="real", example=lambda x: sqrt(x) * sqrt(x))
rule("divide_sqrt", x / sqrt(x), sqrt(x), law="real", example=lambda x: x / sqrt(x))
rule("power_zero", x**0, 1, law="ieee", example=lambda x: x**0.0)
rule("power_one", x**1, x, law="ieee", example=lambda x: x**1.0)
rule("power_two", x**2, square(x), law="stable", example=lambda x: x**2.0)
rule("power_minus_one", x**-1, 1 / x, law="stable", example=lambda x: x**-1.0)
rule("power_half", x**0.5, sqrt(x), law="real", example=lambda x: x**0.5)
rule("power_minus_half", x**-0.5, 1 / sqrt(x), law="real", example=lambda x: x**-0.5)
rule(
    "power_half_unsigned",
    x**0.5,
    sqrt(x),
    law="stable",
    guard=lambda x, known: "unsigned" in known(x),
    example=lambda x: absolute(x) ** 0.5,
)
_LARGEST_EXPONENT = 16


def _integer_power(base: Node, exponent: int) -> Node:
    """By repeated squaring."""
    if exponent < 0:
        return 1 / _integer_power(base, -exponent)
    made: Node | None = None
    while exponent:
        if exponent & 1:
            made = base if made is None else made * base
        base, exponent = square(base), exponent >> 1
    assert made is not None
    return made


rule(
    "power_integer",
    x**c,
    lambda x, c: _integer_power(x, int(c)),
    law="real",
    doc="a product of squares, or one over it",
    guard=lambda c: math.isfinite(c) and c == int(c) and 2 <= abs(c) <= _LARGEST_EXPONENT,
    example=lambda x: x**3.0,
)

# -- quotients -------------------------------------------------------------------------------------

_LEAST_NORMAL = {
    "float16": 2.0**-14,
    "bfloat16": 2.0**-126,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
}


def _exact_reciprocal(c: Number, node: Node) -> bool:
    """Whether 1 / c is exact: a power of two, and neither c nor 1 / c is subnormal or infinite."""
    if c == 0 or not math.isfinite(c) or abs(math.frexp(c)[0]) != 0.5:
        return False
    least = _LEAST_NORMAL[node.dtype.name]
    return abs(c) >= least and abs(1 / c) >= least


rule(
    "divide_power_of_two",
    x / c,
    lambda x, c: x * (1 / c),
    law="ieee",
    doc="x * (1 / c)",
    guard=_exact_reciprocal,
    example=lambda x: x / 4.0,
)
rule(
    "divide_number",
    x / c,
    lambda x, c: x * (1 / c),
    law="real",
    doc="x * (1 / c)",
    guard=lambda c: math.isfinite(c) and 1e-30 < abs(c) < 1e30,
    example=lambda x: x / 3.0,
)
rule(
    "multiply_reciprocal",
    y * (1 / x),
    y / x,
    law="stable",
    guard=lambda node, known: known.shared.isdisjoint(node.args),  # many products, one quotient
    example=lambda x, y: y * (1 / x),
)
rule("reciprocal_quotient", 1 / (x / y), y / x, law="stable", example=lambda x, y: 1 / (x / y))
rule("divide_quotient", x / (y / z), (x * z) / y, law="real", example=lambda x, y, z: x / (y / z))
rule("quotient_divided", (x / y) / z, x / (y * z), law="real", example=lambda x, y, z: x / y / z)
rule("multiply_divide", (x / y) * y, x, law="real", example=lambda x, y: x / y * y)
rule("divide_product", (x * y) / y, x, law="real", example=lambda x, y: x * y / y)
rule(
    "divide_by_broadcast",
    x / broadcast(y),
    x * broadcast(1 / y),
    law="fast",
    guard=lambda x, y: y.op is not constant_op and not never_zero(y, x.shape),
    example=lambda x, u: x / u,
)

# -- literal factors and terms ---------------------------------------------------------------------

rule(
    "add_numbers_integer",
    (x + c) + d,
    lambda x, c, d: x + _held(c + d, x),
    law="ieee",
    kinds="iu",
    doc="x + (c + d)",
    example=lambda i: i + 1 + 2,
)
rule(
    "multiply_numbers_integer",
    (x * c) * d,
    lambda x, c, d: x * _held(c * d, x),
    law="ieee",
    kinds="iu",
    doc="x * (c * d)",
    example=lambda i: i * 3 * 5,
)
rule(
    "add_numbers", (x + c) + d, x + (c + d), law="real", kinds="f", example=lambda x: x + 1.0 + 2.0
)
rule("subtract_numbers", (x - c) - d, x - (c + d), law="real", example=lambda x: x - 1.0 - 2.0)
rule("add_subtract_numbers", (x - c) + d, x + (d - c), law="real", example=lambda x: x - 1.0 + 5.0)
rule("subtract_add_numbers", (x + c) - d, x + (c - d), law="real", example=lambda x: x + 1.0 - 5.0)
rule(
    "multiply_numbers",
    (x * c) * d,
    x * (c * d),
    law="real",
    kinds="f",
    example=lambda x: 2.0 * (3.0 * x),
)
rule(
    "number_over_quotient", c * (d / x), (c * d) / x, law="real", example=lambda x: 3.0 * (2.0 / x)
)


# -- sums of products ------------------------------------------------------------------------------

rule("factor_sum", x * y + x * z, x * (y + z), law="real", example=lambda x, y, z: x * y + x * z)
rule(
    "factor_difference",
    x * y - x * z,
    x * (y - z),
    law="real",
    example=lambda x, y, z: x * y - x * z,
)
rule("factor_one", x * c + x, x * (c + 1), law="real", example=lambda x: x * 3.0 + x)
rule(
    "factor_quotients",
    x / z + y / z,
    (x + y) / z,
    law="real",
    example=lambda x, y, z: x / z + y / z,
)

# -- conversions -----------------------------------------------------------------------------------


def _lossless(source: np.dtype[Any], inner: np.dtype[Any], last: np.dtype[Any]) -> bool:
    """Whether a value of the first dtype survives the second, whatever it is, and means the same to
    the third: integers wrap around where floats saturate.
    """
    if dtypes.kind(source) == "b":
        return True
    if not np.can_cast(source, inner) or (dtypes.is_integer(source) and _rounds(source, inner)):
        return False
    same = dtypes.is_float(source) == dtypes.is_float(inner)
    return same or not dtypes.is_integer(last)


def _rounds(source: np.dtype[Any], inner: np.dtype[Any]) -> bool:
    """NumPy calls int64 to float64 safe."""
    return dtypes.is_float(inner) and source.itemsize >= inner.itemsize


rule(
    "cast_same",
    cast_(x),
    x,
    law="ieee",
    guard=lambda x, node: x.dtype == node.dtype,
    example=lambda x: cast_op(x, dtype=x.dtype),
)
rule(
    "cast_cast",
    cast_(named("inner", cast_(x))),
    lambda x, node: cast(x, node.dtype),
    law="ieee",
    doc="cast(x), or x",
    guard=lambda x, inner, node: _lossless(x.dtype, inner.dtype, node.dtype),
    example=lambda a: cast(cast(a, "float64"), "float32"),
)
