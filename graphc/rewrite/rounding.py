"""Which roundings, remainders and bounds are done twice, or by more than is needed?

A whole number is not rounded again, and a remainder by 1 is what floor leaves. Quotients of
integers by a power of two are shifts: those of NumPy are floored, as an arithmetic shift is.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.ops.operands import constant
from graphc.rewrite.pattern import Number, functions, numbers, variables
from graphc.rewrite.rule import rule

(x,) = variables("x")
c, d = numbers("c d")
maximum, minimum = functions("maximum minimum")
floor_divide, remainder, invert = functions("floor_divide remainder invert")
floor, ceil, trunc, rint = functions("floor ceil trunc rint")


def _whole(name: str, rounded: Any, before: Any) -> None:
    """What is whole is not rounded again; nor are infinities and NaN changed by it."""
    rule(
        f"{name}_whole",
        rounded(x),
        x,
        law="ieee",
        guard=lambda x, known: "integer" in known(x),
        example=lambda x: rounded(before(x)),
    )


_whole("floor", floor, rint)
_whole("ceil", ceil, floor)
_whole("trunc", trunc, floor)
_whole("rint", rint, trunc)

# -- remainders and quotients --------------------------------------------------------------------


def _power_of_two(c: Number) -> bool:
    return isinstance(c, int) and c > 1 and c & (c - 1) == 0


rule(
    "remainder_one",
    remainder(x, 1),
    lambda x: x - floor(x),
    law="ieee",
    kinds="f",
    doc="x - floor(x)",
    example=lambda x: x % 1.0,
)
rule("remainder_one_integer", remainder(x, 1), 0, law="ieee", kinds="iu", example=lambda i: i % 1)
rule("floor_divide_one", floor_divide(x, 1), x, law="ieee", kinds="iu", example=lambda i: i // 1)
rule(
    "floor_divide_power_of_two",
    floor_divide(x, c),
    lambda x, c: x >> (c.bit_length() - 1),
    law="ieee",
    kinds="iu",
    doc="x >> log2(c)",
    guard=_power_of_two,
    example=lambda i: i // 8,
)
rule(
    "remainder_power_of_two",
    remainder(x, c),
    lambda x, c: x & (c - 1),
    law="ieee",
    kinds="iu",
    doc="x & (c - 1)",
    guard=_power_of_two,
    example=lambda i: i % 8,
)
rule("invert_invert", invert(invert(x)), x, law="ieee", example=lambda i: ~~i)

# -- bounds --------------------------------------------------------------------------------------


def _ordered(c: Number, d: Number) -> bool:
    """Not NaN, which a bound passes on."""
    return not (math.isnan(c) or math.isnan(d))


rule(
    "maximum_maximum",
    maximum(maximum(x, c), d),
    lambda x, c, d: maximum(x, constant(max(c, d), x.dtype)),
    law="ieee",
    doc="maximum(x, max(c, d))",
    guard=_ordered,
    example=lambda x: maximum(maximum(x, 1.0), 2.0),
)
rule(
    "minimum_minimum",
    minimum(minimum(x, c), d),
    lambda x, c, d: minimum(x, constant(min(c, d), x.dtype)),
    law="ieee",
    doc="minimum(x, min(c, d))",
    guard=_ordered,
    example=lambda x: minimum(minimum(x, 2.0), 1.0),
)
