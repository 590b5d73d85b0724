"""Which formulas are replaced by more accurate ones?  log(1 + x), log-sum-exp, softmax and their kin.

A stability rule is always admitted, since it never loses: its result is at least as accurate on every input, infinities and
overflow included, which `tests/rewrite/test_stable.py` checks against mpmath. So a user may write the textbook
formula. Derivatives are taken before rewriting, so what reverse mode makes of these formulas has rules here too.

Sums of exponentials are shifted by their maximum m. Where m is infinite nothing is subtracted: all elements at -inf then give
log(0) = -inf, one at +inf gives +inf, and NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.node import Node
from graphc.ops.arithmetic import divide_op, like
from graphc.ops.operands import broadcast_op
from graphc.ops.reduce import max_op, remaining, spread, sum_op
from graphc.ops.special import where_op
from graphc.rewrite.pattern import functions, named, number_of, numbers, variables
from graphc.rewrite.rule import rule
from graphc.autodiff import grad

x, y, z = variables("x y z")
(c,) = numbers("c")
exp, expm1, log, log1p, sqrt, square = functions("exp expm1 log log1p sqrt square")
sigmoid, softplus, tanh, cos, sin = functions("sigmoid softplus tanh cos sin")
broadcast, strong_multiply, sum_ = functions("broadcast strong_multiply sum")

# -- near 1 and near 0 -------------------------------------------------------------------------------

rule("log1p", log(1 + x), log1p(x), law="stable", example=lambda x: log(1 + x))
rule("log1p_negative", log(1 - x), log1p(-x), law="stable", example=lambda x: log(1 - x))
rule("log1p_minus_one", log(x - (-1)), log1p(x), law="stable", example=lambda x: log(x - (-1.0)))
rule("expm1", exp(x) - 1, expm1(x), law="stable", example=lambda x: exp(x) - 1)
rule("expm1_added", exp(x) + (-1), expm1(x), law="stable", example=lambda x: exp(x) + (-1.0))
rule("expm1_negative", 1 - exp(x), -expm1(x), law="stable", example=lambda x: 1 - exp(x))
rule(
    "one_minus_cosine", 1 - cos(x), 2 * square(sin(0.5 * x)), law="stable",
    example=lambda x: 1 - cos(x),
)  # fmt: skip

# -- inverses ----------------------------------------------------------------------------------------

rule("log_exp", log(exp(x)), x, law="stable", example=lambda x: log(exp(x)))
rule("log1p_expm1", log1p(expm1(x)), x, law="stable", example=lambda x: log1p(exp(x) - 1))
rule("exp_log", exp(log(x)), x, law="real", example=lambda x: exp(log(x)))
rule("expm1_log1p", expm1(log1p(x)), x, law="real", example=lambda x: expm1(log1p(x)))
rule(
    "exp_log_nonnegative", exp(log(x)), x, law="stable",
    guard=lambda x, known: "unsigned" in known(x), example=lambda x: exp(log(abs(x))),
)  # fmt: skip
rule("exp_negative", 1 / exp(x), exp(-x), law="stable", example=lambda x: 1 / exp(x))
rule("exp_product", exp(x) * exp(y), exp(x + y), law="real", example=lambda x, y: exp(x) * exp(y))
rule("exp_quotient", exp(x) / exp(y), exp(x - y), law="real", example=lambda x, y: exp(x) / exp(y))
rule("log_sqrt", log(sqrt(x)), 0.5 * log(x), law="real", example=lambda x: log(sqrt(x)))

# -- sigmoid, softplus, tanh -------------------------------------------------------------------------

rule("sigmoid", 1 / (1 + exp(-x)), sigmoid(x), law="stable", example=lambda x: 1 / (1 + exp(-x)))
rule("sigmoid_negative", 1 / (1 + exp(x)), sigmoid(-x), law="stable", example=lambda x: 1 / (1 + exp(x)))
rule("sigmoid_quotient", exp(x) / (1 + exp(x)), sigmoid(x), law="stable", example=lambda x: exp(x) / (1 + exp(x)))
rule("one_minus_sigmoid", 1 - sigmoid(x), sigmoid(-x), law="stable", example=lambda x: 1 - sigmoid(x))
rule(
    "sigmoid_of_tanh", 0.5 * (1 + tanh(0.5 * x)), sigmoid(x), law="stable",
    example=lambda x: 0.5 * (1 + tanh(0.5 * x)),
)  # fmt: skip
rule(
    "tanh_of_exponentials",
    (exp(x) - exp(-x)) / (exp(x) + exp(-x)),
    tanh(x),
    law="stable",
    example=lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)),
)
rule("log_sigmoid", log(sigmoid(x)), -softplus(-x), law="stable", example=lambda x: log(sigmoid(x)))
rule("softplus", log1p(exp(x)), softplus(x), law="stable", example=lambda x: log(1 + exp(x)))
rule("softplus_minus", softplus(x) - x, softplus(-x), law="stable", example=lambda x: softplus(x) - x)

# -- sums of exponentials ----------------------------------------------------------------------------


def _shift(x: Node, axes: tuple[int, ...]) -> Node:
    """The maximum over `axes`, or 0 where it is infinite: what may be subtracted from x before exp."""
    largest = max_op(x, axes=axes)
    infinite = abs(largest) == like(largest, math.inf)
    return where_op(infinite, like(largest, 0), largest)


def _is_shifted(x: Node) -> bool:
    """Whether x is already something minus its own maximum."""
    if x.op.name != "subtract":
        return False
    value, taken = x.args
    for _ in range(8):
        if taken.op is max_op:
            return taken.args[0] is value
        if taken.op is where_op:
            taken = taken.args[2]
        elif taken.op.name in ("broadcast", "stop_gradient", "reshape"):
            taken = taken.args[0]
        else:
            return False
    return False


def _plain(x: Node) -> bool:
    return not _is_shifted(x)


def _log_sum_exp(x: Node, total: Node) -> Node:
    axes = total.attrs["axes"]
    shift = _shift(x, axes)
    return shift + log(sum_op(exp(x - spread(shift, x.shape, axes)), axes=axes))


rule(
    "log_sum_exp",
    log(named("total", sum_(exp(x)))),
    _log_sum_exp,
    law="stable",
    doc="m + log(sum(exp(x - m))), m the maximum",
    guard=_plain,
    example=lambda x: log(sum_(exp(x), axis=1)),
)
rule(
    "log_mean_exp",
    log(c * named("total", sum_(exp(x)))),
    lambda x, total, c: _log_sum_exp(x, total) + math.log(c),
    law="stable",
    doc="m + log(sum(exp(x - m))) + log(c)",
    guard=lambda x, c: _plain(x) and 0 < c < math.inf,
    example=lambda x: log(sum_(exp(x), axis=1) * 0.25),
)
rule(
    "log_mean_exp_divided",
    log(named("total", sum_(exp(x))) / c),
    lambda x, total, c: _log_sum_exp(x, total) - math.log(c),
    law="stable",
    doc="m + log(sum(exp(x - m))) - log(c)",
    guard=lambda x, c: _plain(x) and 0 < c < math.inf,
    example=lambda x: log(sum_(exp(x), axis=0) / 3.0),
)


def _back(spread_total: Node, total: Node) -> bool:
    """Whether a broadcast puts a sum back along the axes that were summed."""
    x, axes = total.args[0], total.attrs["axes"]
    attrs = spread_total.attrs
    return attrs["shape"] == x.shape and attrs["axes"] == remaining(x.ndim, axes)


def _softmax(x: Node, total: Node, wide: Node) -> Node:
    powers, shifted_total = _shifted(x, total.attrs["axes"])
    return powers / broadcast_op(shifted_total, **wide.attrs)


def _shifted(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """exp(x - m), m the maximum over `axes`, and its sum over them."""
    powers = exp(x - spread(_shift(x, axes), x.shape, axes))
    return powers, sum_op(powers, axes=axes)


_total = named("total", sum_(exp(x)))
rule(
    "softmax",
    exp(x) / named("wide", broadcast(_total)),
    _softmax,
    law="stable",
    doc="e / sum(e) with e = exp(x - m), m the maximum",
    guard=lambda x, total, wide: _plain(x) and _back(wide, total),
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

# -- what reverse mode makes of them -------------------------------------------------------------------
#
# The gradient of log(sum(exp(x))) is exp(x) times something divided by sum(exp(x)), where the exponential overflows although
# the quotient does not. A factor is therefore pushed into what it is multiplied with, down to the divisor: past sums and
# differences into both terms, past products into one factor.

_MOST_VISITS = 48
Push = Callable[[Node], "Node | None"]


class _Pushing:
    """Pushes a factor into an expression. `leaf(node)` gives node times the factor where it can absorb it, else None."""

    def __init__(self, leaf: Push) -> None:
        self._leaf = leaf
        self._visits = _MOST_VISITS

    def __call__(self, node: Node) -> Node | None:
        """The node times the factor; None if it would have to be multiplied after all."""
        self._visits -= 1
        if self._visits < 0:
            return None
        if number_of(node) == 0:
            return node
        absorbed = self._leaf(node)
        if absorbed is not None:
            return absorbed
        places = _FACTOR_PLACES.get(node.op.name)
        if places is None:
            return None
        every, positions = places
        args = list(node.args)
        for i in positions:
            pushed = self(args[i])
            if pushed is not None:
                args[i] = pushed
                if not every:
                    break
            elif every:
                return None
        changed = any(new is not old for new, old in zip(args, node.args, strict=True))
        return node.op(*args, **node.attrs) if changed else None


# Where a factor may enter: into every argument at these positions, or into one of them.
_FACTOR_PLACES: dict[str, tuple[bool, tuple[int, ...]]] = {
    "negative": (True, (0,)),
    "add": (True, (0, 1)),
    "subtract": (True, (0, 1)),
    "where": (True, (1, 2)),
    "multiply": (False, (0, 1)),
    "strong_multiply": (False, (0, 1)),
    "divide": (False, (0,)),
}


def _is_total(node: Node, powers: Node) -> bool:
    return node.op is sum_op and node.args[0] is powers


class _Shifting:
    """Multiplies by exp(m), m the maximum of x, what is divided by sum(exp(x)): that turns it into sum(exp(x - m))."""

    def __init__(self, x: Node, powers: Node) -> None:
        self.x, self.powers = x, powers
        self.axes: tuple[int, ...] | None = None

    def total(self, node: Node) -> Node | None:
        """The shifted sum in place of the plain one; the axes of the first sum met are those of all."""
        if not _is_total(node, self.powers) or self.axes not in (None, node.attrs["axes"]):
            return None
        self.axes = node.attrs["axes"]
        return _shifted(self.x, self.axes)[1]

    def wide(self, node: Node) -> Node | None:
        """At the shape of x."""
        if node.op is divide_op and self._is_back(node.args[1]):
            total = self.total(node.args[1].args[0])
            return None if total is None else node.args[0] / spread(total, self.x.shape, self.axes or ())
        if not self._is_back(node):
            return None
        narrow = _Pushing(self.narrow)(node.args[0])
        return None if narrow is None else broadcast_op(narrow, **node.attrs)

    def narrow(self, node: Node) -> Node | None:
        """At the shape of the sum."""
        if node.op is divide_op:
            total = self.total(node.args[1])
            return None if total is None else node.args[0] / total
        if node.op is sum_op and node.attrs["axes"] == self.axes and node.args[0].shape == self.x.shape:
            wide = _Pushing(self.wide)(node.args[0])
            return None if wide is None else sum_op(wide, axes=self.axes)
        return None

    def _is_back(self, node: Node) -> bool:
        """Whether the node is broadcast from a shape that a sum over some axes of x has."""
        if node.op is not broadcast_op or node.shape != self.x.shape:
            return False
        axes = tuple(a for a in range(node.ndim) if a not in node.attrs["axes"])
        return (self.axes is None or self.axes == axes) and node.args[0].ndim + len(axes) == node.ndim


def _push_exponential(x: Node, y: Node, powers: Node) -> Node | None:
    shifting = _Shifting(x, powers)
    pushed = _Pushing(shifting.wide)(y)
    if pushed is None or shifting.axes is None:
        return None
    return _shifted(x, shifting.axes)[0] * pushed


def _push_into_sigmoid(x: Node, y: Node) -> Node | None:
    """sigmoid(-x) times exp(x) is sigmoid(x)."""
    return _Pushing(
        lambda node: sigmoid(x) if node.op.name == "sigmoid" and _opposite(node.args[0], x) else None
    )(y)


def _opposite(first: Node, second: Node) -> bool:
    """Whether one is visibly the negative of the other."""
    for a, b in ((first, second), (second, first)):
        if a.op.name == "negative" and a.args[0] is b:
            return True
    if first.op is not second.op:
        return False
    if first.op.name == "subtract":
        return first.args[0] is second.args[1] and first.args[1] is second.args[0]
    if first.op.name != "multiply":
        return False
    return any(
        a is b and number_of(c) is not None and number_of(c) == -(number_of(d) or 0)
        for a, c in (first.args, first.args[::-1])
        for b, d in (second.args, second.args[::-1])
    )


rule(
    "softmax_gradient",
    named("powers", exp(x)) * y,
    _push_exponential,
    law="stable",
    doc="exp(x - m) * y with sum(exp(x - m)) for sum(exp(x)) in y, m the maximum",
    guard=_plain,
    example=lambda x: grad(sum_(log(sum_(exp(x), axis=1))), x),
)
rule(
    "sigmoid_gradient",
    exp(x) * y,
    _push_into_sigmoid,
    law="stable",
    doc="y with sigmoid(x) for sigmoid(-x)",
    example=lambda x: grad(sum_(log(1 + exp(x))), x),
)
rule(
    "divide_logistic", y / (1 + exp(x)), y * sigmoid(-x), law="stable",
    example=lambda x, y: y / (1 + exp(x)),
)  # fmt: skip

# Over the real numbers exp and sigmoid are never 0, so a quotient by one of them cancels even where it underflows.


def _never_zero(z: Node) -> bool:
    return z.op.name in ("exp", "sigmoid")


def _without(node: Node, z: Node) -> Node | None:
    """The node divided by its factor z; None if z is not visibly a factor."""

    def leaf(part: Node) -> Node | None:
        if part is z:
            return like(part, 1)
        return z if part.op.name == "square" and part.args[0] is z else None

    return _Pushing(leaf)(node)


def _strong_without(y: Node, x: Node, z: Node) -> Node | None:
    left = _without(x, z)
    return None if left is None else strong_multiply(y, left)


rule(
    "cancel_quotient", x / z, lambda x, z: _without(x, z), law="stable", guard=_never_zero,
    doc="x without its factor z", example=lambda x: grad(sum_(log(sigmoid(x))), x),
)  # fmt: skip
rule(
    "cancel_reciprocal", strong_multiply(x, 1 / z), lambda x, z: _without(x, z), law="stable",
    guard=_never_zero, doc="x without its factor z",
    example=lambda x, y: strong_multiply(sigmoid(x) * y, 1.0 / sigmoid(x)),
)  # fmt: skip
rule(
    "cancel_product", strong_multiply(y, 1 / z) * x, _strong_without, law="stable", guard=_never_zero,
    doc="strong_multiply(y, x without its factor z)",
    example=lambda x, y: grad(sum_(y * log(sigmoid(x))), x),
)  # fmt: skip
rule(
    "cancel_strong_product", strong_multiply(strong_multiply(y, 1 / z), x), _strong_without,
    law="stable", guard=_never_zero, doc="strong_multiply(y, x without its factor z)",
    example=lambda x, y: grad(sum_(y * log(1 / (1 + exp(-x)))), x),
)  # fmt: skip
