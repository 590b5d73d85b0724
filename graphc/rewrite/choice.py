"""How are choices and truth values simplified?  where, comparisons, logic, and products with masks.

The derivatives of relu, maximum and where multiply a cotangent by a mask of ones and zeros, with
the product in which 0 times anything is 0. These rules move that product into the branches, where
it is the cotangent or 0: a mask costs a select and no multiplication.
"""

from __future__ import annotations

from graphc import dtypes
from graphc.node import Node
from graphc.ops.operands import symbol
from graphc.ops.special import where_op
from graphc.rewrite.pattern import functions, number_of, numbers, variables
from graphc.rewrite.rule import Known, rule

x, y, z, p, q = variables("x y z p q")
(c,) = numbers("c")
where, isnan, check, strong_multiply = functions("where isnan check strong_multiply")
equal, not_equal = functions("equal not_equal")

# -- where -----------------------------------------------------------------------------------------

rule("where_true", where(True, x, y), x, law="ieee", example=lambda x, y: where(True, x, y))
rule("where_false", where(False, x, y), y, law="ieee", example=lambda x, y: where(False, x, y))
rule("where_same", where(p, x, x), x, law="ieee", example=lambda p, x: where(p, x, x))
rule(
    "where_not",
    where(~p, x, y),
    where(p, y, x),
    law="ieee",
    example=lambda p, x, y: where(~p, x, y),
)
rule(
    "where_where_then",
    where(p, where(p, x, y), z),
    where(p, x, z),
    law="ieee",
    example=lambda p, x, y, z: where(p, where(p, x, y), z),
)
rule(
    "where_where_else",
    where(p, x, where(p, y, z)),
    where(p, x, z),
    law="ieee",
    example=lambda p, x, y, z: where(p, x, where(p, y, z)),
)
rule("where_truth", where(p, True, False), p, law="ieee", example=lambda p: where(p, True, False))
rule(
    "where_untruth", where(p, False, True), ~p, law="ieee", example=lambda p: where(p, False, True)
)

# -- logic -----------------------------------------------------------------------------------------

rule("not_not", ~~p, p, law="ieee", example=lambda p: ~~p)
rule("and_true", p & True, p, law="ieee", example=lambda p: p & True)
rule("and_false", p & False, False, law="ieee", example=lambda p: p & False)
rule("and_self", p & p, p, law="ieee", example=lambda p: p & p)
rule("and_not", p & ~p, False, law="ieee", example=lambda p: p & ~p)
rule("or_true", p | True, True, law="ieee", example=lambda p: p | True)
rule("or_false", p | False, p, law="ieee", example=lambda p: p | False)
rule("or_self", p | p, p, law="ieee", example=lambda p: p | p)
rule("or_not", p | ~p, True, law="ieee", example=lambda p: p | ~p)
rule("nor", ~p & ~q, ~(p | q), law="ieee", example=lambda p, q: ~p & ~q)
rule("nand", ~p | ~q, ~(p & q), law="ieee", example=lambda p, q: ~p | ~q)
rule("not_equal", ~equal(x, y), not_equal(x, y), law="ieee", example=lambda x, y: ~equal(x, y))
rule(
    "not_not_equal",
    ~not_equal(x, y),
    equal(x, y),
    law="ieee",
    example=lambda x, y: ~not_equal(x, y),
)


def _integers(x: Node) -> bool:
    """With NaN, neither x < y nor x >= y holds."""
    return dtypes.is_integer(x.dtype)


rule("not_less", ~(x < y), x >= y, law="ieee", guard=_integers, example=lambda i, j: ~(i < j))
rule(
    "not_less_equal", ~(x <= y), x > y, law="ieee", guard=_integers, example=lambda i, j: ~(i <= j)
)
rule("not_greater", ~(x > y), x <= y, law="ieee", guard=_integers, example=lambda i, j: ~(i > j))
rule(
    "not_greater_equal",
    ~(x >= y),
    x < y,
    law="ieee",
    guard=_integers,
    example=lambda i, j: ~(i >= j),
)

# -- comparisons of a node with itself -------------------------------------------------------------

rule("less_self", x < x, False, law="ieee", example=lambda x: x < x)
rule("greater_self", x > x, False, law="ieee", example=lambda x: x > x)


def _comparable(x: Node, known: Known) -> bool:
    """Not NaN, which is not equal to itself."""
    return "finite" in known(x)


rule("equal_self", equal(x, x), True, law="ieee", guard=_comparable, example=lambda i: equal(i, i))
rule(
    "not_equal_self",
    not_equal(x, x),
    False,
    law="ieee",
    guard=_comparable,
    example=lambda i: not_equal(i, i),
)
rule("less_equal_self", x <= x, True, law="ieee", guard=_comparable, example=lambda i: i <= i)
rule("greater_equal_self", x >= x, True, law="ieee", guard=_comparable, example=lambda i: i >= i)
rule("isnan_finite", isnan(x), False, law="ieee", guard=_comparable, example=lambda p: isnan(p))
rule(
    "less_zero_nonnegative",
    x < 0,
    False,
    law="ieee",
    guard=lambda x, known: "nonnegative" in known(x),
    example=lambda x: abs(x) < 0,
)
rule("check_true", check(x, True), x, law="ieee", example=lambda x: check(x, True, "holds"))

# -- the product in which 0 times anything is 0 ----------------------------------------------------


def _levels(node: Node, depth: int = 4) -> bool:
    """Whether the node is a number, or chooses among numbers."""
    if number_of(node) is not None:
        return True
    return (
        depth > 0 and node.op is where_op and all(_levels(arm, depth - 1) for arm in node.args[1:])
    )


def _mask(y: Node, z: Node) -> bool:
    """Both arms are numbers, or one is 0: multiplying each arm saves work, or costs none."""
    if number_of(y) == 0 or number_of(z) == 0:
        return True
    return _levels(y) and _levels(z)


rule(
    "strong_multiply_where",
    strong_multiply(x, where(p, y, z)),
    where(p, strong_multiply(x, y), strong_multiply(x, z)),
    law="ieee",
    guard=_mask,
    example=lambda x, p: strong_multiply(x, where(p, 1.0, 0.0)),
)
rule(
    "strong_multiply_zero",
    strong_multiply(x, c),
    0,
    law="ieee",
    guard=lambda c: c == 0,
    example=lambda x: strong_multiply(x, 0.0),
)
rule(
    "strong_multiply_one",
    strong_multiply(x, 1),
    x,
    law="stable",
    example=lambda x: strong_multiply(x, 1.0),
)
rule(
    "strong_multiply_number",
    strong_multiply(x, c),
    x * c,
    law="stable",
    guard=lambda c: c != 0 and abs(c) < float("inf"),
    example=lambda x: strong_multiply(x, 0.5),
)
rule(
    "strong_multiply_negative",
    strong_multiply(-x, y),
    -strong_multiply(x, y),
    law="stable",
    example=lambda x, y: strong_multiply(-x, y),
)
rule(
    "strong_multiply_positive",
    strong_multiply(x, y),
    x * y,
    law="stable",
    guard=lambda y, known: {"finite", "positive"} <= known(y),
    example=lambda x: strong_multiply(x, symbol("rate", x.shape, facts=("finite", "positive"))),
)
rule(
    "strong_multiply_finite",
    strong_multiply(x, y),
    x * y,
    law="stable",
    guard=lambda x, y, known: "finite" in known(x) and "finite" in known(y),
    example=lambda i, j: strong_multiply(i, j),
)
rule(
    "multiply_where",
    x * where(p, y, z),
    where(p, x * y, x * z),
    law="real",
    guard=lambda y, z: number_of(y) in (0, 1) and number_of(z) in (0, 1),
    example=lambda x, p: x * where(p, 1.0, 0.0),
)
