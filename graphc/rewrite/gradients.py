"""Which formulas does reverse mode make of exponentials, and how are they kept from overflowing?

Derivatives are taken of the graph as it was written. The gradient of log(sum(exp(x))) is exp(x)
times something divided by sum(exp(x)): a quotient that is at most 1 of numbers that overflow. So a
factor is pushed into what it is multiplied with, down to the divisor that it cancels or rescales:
past sums into both terms, past products into one factor.

exp, sigmoid and sums of exponentials are never 0 over the real numbers: a quotient by one of them
cancels, even where it underflows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphc.node import Node
from graphc.op import Op
from graphc.ops.arithmetic import (
    add_op,
    divide_op,
    like,
    multiply_op,
    negative_op,
    square_op,
    strong_multiply_op,
    subtract_op,
)
from graphc.ops.operands import broadcast_op
from graphc.ops.reduce import spread, sum_op
from graphc.ops.special import where_op
from graphc.ops.transcend import sigmoid_op
from graphc.rewrite.facts import NEVER_ZERO, never_zero
from graphc.rewrite.pattern import Family, functions, named, number_of, variables
from graphc.rewrite.rule import rule
from graphc.rewrite.stable import is_shifted, shifted

x, y, z = variables("x y z")
exp, sigmoid, strong_multiply, sum_ = functions("exp sigmoid strong_multiply sum")
_MOST_VISITS = 48
_Axes = tuple[int, ...]
Leaf = Callable[[Node], Node | None]

# Where a factor enters: into all arguments at these positions, or into one of them.
_PLACES: dict[Op, tuple[bool, _Axes]] = {
    negative_op: (True, (0,)),
    add_op: (True, (0, 1)),
    subtract_op: (True, (0, 1)),
    where_op: (True, (1, 2)),
    multiply_op: (False, (0, 1)),
    strong_multiply_op: (False, (0, 1)),
    divide_op: (False, (0,)),
}


class Push:
    """Pushes a factor into an expression: calling it with a node gives the node times the factor.

    `leaf` does the same where the factor can be absorbed, and gives None elsewhere. The answer is
    None if no leaf absorbs the factor, or if that would take too long.
    """

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._visits = _MOST_VISITS

    def __call__(self, node: Node) -> Node | None:
        self._visits -= 1
        if self._visits < 0:
            return None
        if number_of(node) == 0:
            return node
        absorbed = self._leaf(node)
        if absorbed is not None:
            return absorbed
        if node.op is square_op:
            once = self(node.args[0])
            return None if once is None else node.args[0] * once
        if node.op not in _PLACES:
            return None
        every, positions = _PLACES[node.op]
        return self._into_all(node, positions) if every else self._into_one(node, positions)

    def _into_all(self, node: Node, positions: _Axes) -> Node | None:
        args = list(node.args)
        for i in positions:
            pushed = self(args[i])
            if pushed is None:
                return None
            args[i] = pushed
        return node.op(*args, **node.attrs)

    def _into_one(self, node: Node, positions: _Axes) -> Node | None:
        for i in positions:
            pushed = self(node.args[i])
            if pushed is not None:
                return node.op(*node.args[:i], pushed, *node.args[i + 1 :], **node.attrs)
        return None


# -- softmax: shift the exponentials under the sum -------------------------------------------------


class _Shift:
    """Multiplies by exp(m) what is divided by sum(exp(x)), which becomes sum(exp(x - m)).

    Expressions have the shape of x (`wide`), or that of the sum (`narrow`); the axes of the first
    sum met are those of all.
    """

    def __init__(self, x: Node, powers: Node) -> None:
        self.x, self.powers = x, powers
        self.axes: _Axes | None = None

    def wide(self, node: Node) -> Node | None:
        before = self.axes
        made = self._wide(node)
        if made is None:
            self.axes = before
        return made

    def _wide(self, node: Node) -> Node | None:
        if node.op is divide_op and self._spreads(node.args[1]):
            divisor = self._divisor(node.args[1].args[0])
            if divisor is None:
                return None
            return node.args[0] / broadcast_op(divisor, **node.args[1].attrs)
        if not self._spreads(node):
            return None
        narrow = Push(self.narrow)(node.args[0])
        return None if narrow is None else broadcast_op(narrow, **node.attrs)

    def narrow(self, node: Node) -> Node | None:
        if node.op is divide_op:
            divisor = self._divisor(node.args[1])
            return None if divisor is None else node.args[0] / divisor
        if (
            node.op is sum_op
            and node.attrs["axes"] == self.axes
            and node.args[0].shape == self.x.shape
        ):
            wide = Push(self.wide)(node.args[0])
            return None if wide is None else sum_op(wide, axes=node.attrs["axes"])
        return None

    def _divisor(self, node: Node) -> Node | None:
        """A product with the sum as a factor, divided by exp(m)."""
        return Push(self._total)(node)

    def _total(self, node: Node) -> Node | None:
        if (
            node.op is not sum_op
            or node.args[0] is not self.powers
            or node.attrs["axes"] != self.axes
        ):
            return None
        return shifted(self.x, node.attrs["axes"])[1]

    def _spreads(self, node: Node) -> bool:
        """Whether the node is spread back to the shape of x along the axes of the sum."""
        if node.op is not broadcast_op or node.shape != self.x.shape:
            return False
        kept = node.attrs["axes"]
        axes = tuple(axis for axis in range(node.ndim) if axis not in kept)
        if node.args[0].shape != tuple(node.shape[axis] for axis in kept) or not axes:
            return False
        if self.axes is None:
            self.axes = axes
        return self.axes == axes


def _push_exponential(x: Node, y: Node, powers: Node) -> Node | None:
    shift = _Shift(x, powers)
    pushed = Push(shift.wide)(y)
    if pushed is None or shift.axes is None or is_shifted(x, shift.axes):
        return None
    return shifted(x, shift.axes)[0] * pushed


rule(
    "softmax_gradient",
    named("powers", exp(x)) * y,
    _push_exponential,
    law="stable",
    doc="exp(x - m) * y, with sum(exp(x - m)) for sum(exp(x)) in y, m the maximum",
    example=lambda x: exp(x) * spread(1.0 / sum_(exp(x), axis=1), x.shape, (1,)),
)

# -- sigmoid: exp(x) * sigmoid(-x) is sigmoid(x) ---------------------------------------------------


def _opposite(first: Node, second: Node) -> bool:
    """Whether one is visibly the negative of the other."""
    for a, b in ((first, second), (second, first)):
        if a.op is negative_op and a.args[0] is b:
            return True
    if first.op is not second.op:
        return False
    if first.op is subtract_op:
        return first.args[0] is second.args[1] and first.args[1] is second.args[0]
    return first.op is multiply_op and any(
        a is b and _negated(number_of(c), number_of(d))
        for a, c in (first.args, first.args[::-1])
        for b, d in (second.args, second.args[::-1])
    )


def _negated(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and first == -second


def _push_into_sigmoid(x: Node, y: Node) -> Node | None:
    def leaf(node: Node) -> Node | None:
        return sigmoid(x) if node.op is sigmoid_op and _opposite(node.args[0], x) else None

    return Push(leaf)(y)


rule(
    "sigmoid_gradient",
    exp(x) * y,
    _push_into_sigmoid,
    law="stable",
    doc="y with sigmoid(x) for sigmoid(-x)",
    example=lambda x, y: exp(x) * (y * sigmoid(-x)),
)

# -- cancelling factors that are never 0 -----------------------------------------------------------


def _without_factor(node: Node, factor: Node) -> Node | None:
    """The node divided by its factor; None if that is not visibly one."""
    return Push(lambda part: like(part, 1) if part is factor else None)(node)


def _without_divisor(node: Node, divisor: Node) -> Node | None:
    """The node times what it is divided by."""

    def leaf(part: Node) -> Node | None:
        if part.op is divide_op and part.args[1] is divisor:
            return part.args[0]
        if part.op is broadcast_op and part.args[0].op is divide_op and divisor.op is broadcast_op:
            same = part.attrs == divisor.attrs and part.args[0].args[1] is divisor.args[0]
            return broadcast_op(part.args[0].args[0], **part.attrs) if same else None
        return None

    return Push(leaf)(node)


_MAY_DIVIDE = frozenset(
    (divide_op, broadcast_op, multiply_op, strong_multiply_op, negative_op, add_op, subtract_op)
)


def _may_cancel(node: Node) -> bool:
    """Whether it is worth looking for divisors."""
    return node.op in _MAY_DIVIDE and number_of(node) is None


_DEEPEST = 4  # products, quotients and sums that are looked into


def _divisors(node: Node, depth: int = _DEEPEST) -> Iterator[Node]:
    """What a product is visibly divided by, of that which is never 0."""
    if depth == 0:
        return
    if node.op is divide_op:
        if never_zero(node.args[1]):
            yield node.args[1]
        yield from _divisors(node.args[0], depth - 1)
    elif (
        node.op is broadcast_op
        and node.args[0].op is divide_op
        and never_zero(node.args[0].args[1], node.shape)
    ):
        yield broadcast_op(node.args[0].args[1], **node.attrs)
    elif node.op in (multiply_op, strong_multiply_op):
        for argument in node.args:
            yield from _divisors(argument, depth - 1)
    elif node.op is negative_op:
        yield from _divisors(node.args[0], depth - 1)


def _cancelled(first: Node, second: Node, op: Op) -> Node | None:
    """The product of two nodes, one of which has a factor by which the other one is divided."""
    for one, other in ((first, second), (second, first)):
        for divisor in _divisors(other):
            left = _without_factor(one, divisor)
            right = None if left is None else _without_divisor(other, divisor)
            if left is not None and right is not None:
                return op(left, right)
    return None


def _cancel(node: Node) -> Node | None:
    first, second = node.args
    return _cancelled(first, second, node.op)


def _distribute(x: Node, y: Node, z: Node, inner: Node, depth: int = _DEEPEST) -> Node | None:
    """A product with a sum or difference, term by term, if that cancels.

    It must in both terms; or in one, if the other is constant along the axes of a softmax.
    """
    first, second = _term(x, y, depth), _term(x, z, depth)
    if first is None and y.op is broadcast_op:
        first = x * y
    elif second is None and z.op is broadcast_op:
        second = x * z
    return None if first is None or second is None else inner.op(first, second)


def _term(x: Node, term: Node, depth: int) -> Node | None:
    if term.op in (add_op, subtract_op):
        first, second = term.args
        return _distribute(x, first, second, term, depth - 1) if depth else None
    return _cancelled(x, term, multiply_op)


_PRODUCTS = (multiply_op, strong_multiply_op)
rule(
    "cancel_quotient",
    x / z,
    lambda x, z: _without_factor(x, z),
    law="stable",
    needs=NEVER_ZERO,
    guard=lambda z: never_zero(z),
    doc="x without its factor z",
    example=lambda x, y: sigmoid(x) * y / sigmoid(x),
)
rule(
    "cancel_product",
    Family("product", lambda op: op in _PRODUCTS),
    _cancel,
    law="stable",
    needs=NEVER_ZERO,
    doc="a product without a factor and what divides it",
    guard=lambda node: _may_cancel(node.args[0]) or _may_cancel(node.args[1]),
    example=lambda x, y: strong_multiply(y, 1.0 / sigmoid(x)) * sigmoid(x),
)
rule(
    "cancel_in_sum",
    x * named("inner", y + z),
    lambda x, y, z, inner: _distribute(x, y, z, inner),
    law="stable",
    needs=NEVER_ZERO,
    doc="x * y + x * z, where x cancels",
    guard=lambda x, y, z: number_of(x) is None and (_may_cancel(y) or _may_cancel(z)),
    example=lambda x, y: sigmoid(x) * (x / sigmoid(x) + strong_multiply(y, 1.0 / sigmoid(x))),
)
rule(
    "cancel_in_difference",
    x * named("inner", y - z),
    lambda x, y, z, inner: _distribute(x, y, z, inner),
    law="stable",
    needs=NEVER_ZERO,
    doc="x * y - x * z, where x cancels",
    guard=lambda x, y, z: number_of(x) is None and (_may_cancel(y) or _may_cancel(z)),
    example=lambda x, y, u: exp(x) * (spread(u, x.shape, (0,)) - strong_multiply(y, 1.0 / exp(x))),
)
