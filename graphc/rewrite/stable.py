"""Which formulas give way to more accurate ones?  log(1 + x), log-sum-exp, softmax, their kin.

A stability rule is always admitted, since it never loses: its result is at least as accurate on
every input, infinities and overflow included, which `tests/rewrite/test_stable.py` checks against
mpmath. So a user may write the textbook formula. Derivatives are taken before rewriting, so what
reverse mode makes of these formulas has rules here too.

Sums of exponentials are shifted by their maximum m. Where m is infinite nothing is subtracted: all
elements at -inf then give log(0) = -inf, one at +inf gives +inf, and NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.node import Node
from graphc.ops.arithmetic import difference_op, like, subtract_op
from graphc.ops.movement import reshape_op, transpose_op
from graphc.ops.operands import broadcast_op
from graphc.ops.reduce import max_op, remaining, spread, sum_op
from graphc.ops.special import stop_gradient_op, where_op
from graphc.rewrite.pattern import functions, named, numbers, variables
from graphc.rewrite.rule import rule

x, y = variables("x y")
(c,) = numbers("c")
exp, expm1, log, log1p, sqrt, square = functions("exp expm1 log log1p sqrt square")
sigmoid, softplus, tanh, cos, sin = functions("sigmoid softplus tanh cos sin")
broadcast, strong_multiply, sum_ = functions("broadcast strong_multiply sum")

# -- near 1 and near 0 -----------------------------------------------------------------------------

rule("log1p", log(1 + x), log1p(x), law="stable", example=lambda x: log(1 + x))
rule("log1p_negative", log(1 - x), log1p(-x), law="stable", example=lambda x: log(1 - x))
rule("log1p_minus_one", log(x - (-1)), log1p(x), law="stable", example=lambda x: log(x - (-1.0)))
rule("expm1", exp(x) - 1, expm1(x), law="stable", example=lambda x: exp(x) - 1)
rule("expm1_added", exp(x) + (-1), expm1(x), law="stable", example=lambda x: exp(x) + (-1.0))
rule("expm1_negative", 1 - exp(x), -expm1(x), law="stable", example=lambda x: 1 - exp(x))
rule(
    "one_minus_cosine",
    1 - cos(x),
    2 * square(sin(0.5 * x)),
    law="stable",
    example=lambda x: 1 - cos(x),
)

# -- inverses --------------------------------------------------------------------------------------

rule("log_exp", log(exp(x)), x, law="stable", example=lambda x: log(exp(x)))
rule("log1p_expm1", log1p(expm1(x)), x, law="stable", example=lambda x: log1p(exp(x) - 1))
rule("exp_log", exp(log(x)), x, law="real", example=lambda x: exp(log(x)))
rule("expm1_log1p", expm1(log1p(x)), x, law="real", example=lambda x: expm1(log1p(x)))
rule(
    "exp_log_nonnegative",
    exp(log(x)),
    x,
    law="stable",
    guard=lambda x, known: "unsigned" in known(x),
    example=lambda x: exp(log(abs(x))),
)
rule("exp_product", exp(x) * exp(y), exp(x + y), law="real", example=lambda x, y: exp(x) * exp(y))
rule("exp_quotient", exp(x) / exp(y), exp(x - y), law="real", example=lambda x, y: exp(x) / exp(y))
rule("log_sqrt", log(sqrt(x)), 0.5 * log(x), law="real", example=lambda x: log(sqrt(x)))

# -- sigmoid, softplus, tanh -----------------------------------------------------------------------

rule("sigmoid", 1 / (1 + exp(-x)), sigmoid(x), law="stable", example=lambda x: 1 / (1 + exp(-x)))
rule(
    "sigmoid_negative",
    1 / (1 + exp(x)),
    sigmoid(-x),
    law="stable",
    example=lambda x: 1 / (1 + exp(x)),
)
rule(
    "sigmoid_quotient",
    exp(x) / (1 + exp(x)),
    sigmoid(x),
    law="stable",
    example=lambda x: exp(x) / (1 + exp(x)),
)
rule(
    "divide_logistic",
    y / (1 + exp(x)),
    y * sigmoid(-x),
    law="stable",
    example=lambda x, y: y / (1 + exp(x)),
)
rule(
    "sigmoid_minus_square",
    sigmoid(x) - square(sigmoid(x)),
    sigmoid(x) * sigmoid(-x),
    law="stable",
    example=lambda x: sigmoid(x) - sigmoid(x) ** 2,
)
rule(
    "one_minus_sigmoid", 1 - sigmoid(x), sigmoid(-x), law="stable", example=lambda x: 1 - sigmoid(x)
)
rule(
    "sigmoid_of_tanh",
    0.5 * (1 + tanh(0.5 * x)),
    sigmoid(x),
    law="stable",
    example=lambda x: 0.5 * (1 + tanh(0.5 * x)),
)
rule(
    "tanh_of_exponentials",
    (exp(x) - exp(-x)) / (exp(x) + exp(-x)),
    tanh(x),
    law="stable",
    example=lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)),
)
rule("log_sigmoid", log(sigmoid(x)), -softplus(-x), law="stable", example=lambda x: log(sigmoid(x)))
rule("softplus", log1p(exp(x)), softplus(x), law="stable", example=lambda x: log(1 + exp(x)))
rule(
    "softplus_minus", softplus(x) - x, softplus(-x), law="stable", example=lambda x: softplus(x) - x
)

# -- sums of exponentials --------------------------------------------------------------------------


def _maximum(x: Node, axes: tuple[int, ...]) -> Node:
    """The maximum over `axes`, or 0 where it is infinite: what is subtracted from x before exp."""
    largest = max_op(x, axes=axes)
    infinite = abs(largest) == like(largest, math.inf)
    return where_op(infinite, like(largest, 0), largest)


def is_shifted(x: Node, axes: tuple[int, ...]) -> bool:
    """Whether x is visibly something minus its own maximum over `axes`."""
    if x.op not in (subtract_op, difference_op):
        return False
    value, taken = x.args
    for _ in range(_MOST_BEHIND):
        if taken.op not in _BEHIND:
            break
        taken = taken.args[_BEHIND[taken.op]]
    return taken.op is max_op and taken.args[0] is value and taken.attrs["axes"] == axes


_MOST_BEHIND = 8  # ops that the maximum is looked for behind
# Which argument of these is still the maximum.
_BEHIND = {broadcast_op: 0, reshape_op: 0, transpose_op: 0, stop_gradient_op: 0, where_op: 2}


def _plain(x: Node, total: Node) -> bool:
    return not is_shifted(x, total.attrs["axes"])


def shifted(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """exp(x - m), m the maximum over `axes`, and its sum over them."""
    powers = exp(x - spread(_maximum(x, axes), x.shape, axes))
    return powers, sum_op(powers, axes=axes)


def _log_sum_exp(x: Node, total: Node, scale: Callable[[Node], Node]) -> Node:
    """m + log(scale(sum(exp(x - m))))."""
    axes = total.attrs["axes"]
    return _maximum(x, axes) + log(scale(shifted(x, axes)[1]))


rule(
    "log_sum_exp",
    log(named("total", sum_(exp(x)))),
    lambda x, total: _log_sum_exp(x, total, lambda sum_: sum_),
    law="stable",
    doc="m + log(sum(exp(x - m))), m the maximum",
    guard=_plain,
    example=lambda x: log(sum_(exp(x), axis=1)),
)
rule(
    "log_mean_exp",
    log(c * named("total", sum_(exp(x)))),
    lambda x, total, c: _log_sum_exp(x, total, lambda sum_: sum_ * c),
    law="stable",
    doc="m + log(c * sum(exp(x - m))), m the maximum",
    guard=lambda x, total, c: _plain(x, total) and 0 < c < math.inf,
    example=lambda x: log(sum_(exp(x), axis=1) * 0.25),
)
rule(
    "log_mean_exp_divided",
    log(named("total", sum_(exp(x))) / c),
    lambda x, total, c: _log_sum_exp(x, total, lambda sum_: sum_ / c),
    law="stable",
    doc="m + log(sum(exp(x - m)) / c), m the maximum",
    guard=lambda x, total, c: _plain(x, total) and 0 < c < math.inf,
    example=lambda x: log(sum_(exp(x), axis=0) / 3.0),
)


def _back(spread_total: Node, total: Node) -> bool:
    """Whether a broadcast puts a sum back along the axes that were summed."""
    x, axes = total.args[0], total.attrs["axes"]
    attrs = spread_total.attrs
    return attrs["shape"] == x.shape and attrs["axes"] == remaining(x.ndim, axes)


def _softmax(x: Node, total: Node, wide: Node) -> Node:
    powers, shifted_total = shifted(x, total.attrs["axes"])
    return powers / broadcast_op(shifted_total, **wide.attrs)


_total = named("total", sum_(exp(x)))
rule(
    "softmax",
    exp(x) / named("wide", broadcast(_total)),
    _softmax,
    law="stable",
    doc="e / sum(e) with e = exp(x - m), m the maximum",
    guard=lambda x, total, wide: _plain(x, total) and _back(wide, total),
    example=lambda x: exp(x) / sum_(exp(x), axis=1, keepdims=True),
)
rule(
    "log_softmax",
    log(exp(x) / named("wide", broadcast(_total))),
    lambda x, total, wide: x - broadcast_op(log(total), **wide.attrs),
    law="stable",
    doc="x - log(sum(exp(x)))",
    guard=lambda wide, total: _back(wide, total),
    example=lambda x: log(exp(x) / sum_(exp(x), axis=1, keepdims=True)),
)
