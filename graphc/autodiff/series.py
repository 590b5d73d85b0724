"""How does a power series run through a graph?  Coefficient by coefficient, each from lower ones.

Along a curve x(t) every value is a series in t. An op has stated its partial derivatives p as
graphs, and y' = sum of p(x, y) x' is a recurrence: coefficient m of y follows from those of p below
m. Partials are graphs over the same nodes (cos for sin, y itself for exp, 1 - y*y for tanh), so
their series are found in the same way, and interning closes the circle: m products for coefficient
m, O(n^2) for all up to n, with no table of recurrences (Griewank and Walther, Evaluating
Derivatives, 2nd edition, section 13.2, has that table). Only products, quotients and powers are
told apart: their partials would lead to ever new nodes. What has rules instead of partials is
pushed forward once; the result is a graph of the derivative by t, whose series is one order behind.

Coefficient 0 of a node is the node itself: nothing is computed twice. None is an exact zero.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from graphc.autodiff.chain import (
    Maybe,
    is_real,
    literal,
    partials_of,
    plus,
    push,
    push_linear,
    result_types,
    times,
    zero,
)
from graphc.graph import placeholder, rebuild
from graphc.lowering import Region
from graphc.node import Node
from graphc.op import Linear, Partials
from graphc.ops.arithmetic import (
    divide_op,
    like,
    multiply_op,
    square_op,
    strong_divide_op,
    strong_multiply,
    strong_multiply_op,
)
from graphc.ops.custom import custom_op
from graphc.ops.special import project, project_op
from graphc.ops.transcend import log_op, power_op
from graphc.origin import Event, because
from graphc.types import TupleType

# Whole exponents up to this are products of series, which are exact where the base is 0.
MOST_FACTORS = 64
_MANY = sys.maxsize
_QUOTIENTS = (divide_op, strong_divide_op)

Column = list[Maybe]  # the coefficients of a value, from 0
Expand = Callable[[Node, list[Column], int], list[Column]]


class Series:
    """The coefficients of nodes along one curve.

    `given` has those of the `inputs` from 1 on, of which the last is not zero for ever after.
    `expand(node, columns, order)` gives the coefficients 1 to `order` of the results of an op with
    Graphs, from those of its arguments.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        given: Sequence[Sequence[Maybe]],
        transform: Any,
        expand: Expand,
    ) -> None:
        self._columns: dict[Node, list[Column]] = {}  # for each result of a node
        self._moves: dict[Node, bool] = {}
        self._ends = set(inputs)
        for node, column in zip(inputs, given, strict=True):
            self._columns[node] = [[node, *column]]
            self._moves[node] = True
        self._transform = transform
        self._expand = expand
        self._slopes: dict[Node, Node] = {}  # what stands for a derivative by t -> of what
        self._partials: dict[Node, list[tuple[Maybe, ...]]] = {}
        self._derived: dict[Node, list[Maybe]] = {}  # derivatives by t of results
        self._products: dict[Node, Node] = {}  # powers, as products

    def coefficients(self, nodes: Sequence[Node], order: int) -> list[Column]:
        """The coefficients 1 to `order` of every node."""
        self._run([(node, order) for node in nodes])
        found = [[self.at(node, m) for m in range(1, order + 1)] for node in nodes]
        flat = iter(self._without_slopes([c for column in found for c in column if c is not None]))
        return [[None if c is None else next(flat) for c in column] for column in found]

    def at(self, node: Node, m: int) -> Maybe:
        """Coefficient m of a node; it has been found before."""
        if m == 0:
            return node
        if not self._moving(node):
            return None
        column = self._columns[node][0]
        return column[m] if m < len(column) else None

    # -- the order of work -------------------------------------------------------------------------

    def _run(self, wanted: Sequence[tuple[Node, int]]) -> None:
        """Find coefficients up to an order each, and what they need: depth costs no stack."""
        stack = [need for need in reversed(wanted) if self._known(need[0]) <= need[1]]
        while stack:
            node, order = stack[-1]
            if self._known(node) > order:
                stack.pop()
                continue
            needs = self._needs(node, order)
            missing = [(other, m) for other, m in needs if self._known(other) <= m]
            if missing:
                stack.extend(missing)
                continue
            with because(Event("jvp", node.op.name, because=node.origin)):
                self._advance(node, order)

    def _moving(self, node: Node) -> bool:
        """Whether a node depends on an input through real values."""
        stack = [node]
        while stack:
            top = stack[-1]
            missing = [a for a in top.args if a not in self._moves] if is_real(top.type) else []
            if top in self._moves or not missing:
                held = is_real(top.type) and any(self._moves[a] for a in top.args)
                self._moves.setdefault(top, held)
                stack.pop()
            else:
                stack.extend(missing)
        return self._moves[node]

    def _known(self, node: Node) -> int:
        """How many coefficients of a node are known."""
        if node in self._ends or not self._moving(node):
            return _MANY
        columns = self._columns.get(node)
        if columns is None:
            several = isinstance(node.type, TupleType)
            count = len(result_types(node))
            results = [project(node, i) for i in range(count)] if several else [node]
            columns = self._columns[node] = [[result] for result in results]
        return len(columns[0])

    def _needs(self, node: Node, order: int) -> list[tuple[Node, int]]:
        """What coefficients up to `order` need of the arguments, and the next one besides."""
        if node in self._slopes:
            return [(self._slopes[node], order + 1)]
        needs = [(argument, order) for argument in node.args]
        known = self._known(node)
        if node.op is power_op and self._product(node) is not None:
            return [*needs, (self._products[node], order)]
        derivative = node.op.derivative
        if _is_product(node) or node.op in _QUOTIENTS or _is_region(node):
            return needs
        if isinstance(derivative, Partials):
            rows = self._partials_of(node)
            return [*needs, *((p, known - 1) for row in rows for p in row if p is not None)]
        if isinstance(derivative, Linear) and not derivative.multi or node.op is project_op:
            return needs
        if any(self._known(argument) <= order for argument in node.args):
            return needs
        return [*needs, *((d, known - 1) for d in self._derivatives(node) if d is not None)]

    def _advance(self, node: Node, order: int) -> None:
        """Add the next coefficient of each result, or those up to `order`."""
        columns = self._columns[node]
        if _is_region(node):
            given = [[self.at(a, m) for m in range(1, order + 1)] for a in node.args]
            found = self._expand(node, given, order)
            self._columns[node] = [
                [old[0], *new] for old, new in zip(columns, found, strict=True)
            ]
            return
        for column, value, type_ in zip(
            columns, self._next(node, len(columns[0])), result_types(node), strict=True
        ):
            column.append(value if is_real(type_) else None)

    # -- the next coefficient ----------------------------------------------------------------------

    def _next(self, node: Node, m: int) -> list[Maybe]:
        """Coefficient m of each result."""
        if node in self._slopes:
            return [_scaled(self.at(self._slopes[node], m + 1), m + 1)]
        if node.op is project_op:
            return [self._columns[node.args[0]][node.attrs["index"]][m]]
        if node in self._products:
            return [self.at(self._products[node], m)]
        if _is_product(node):
            return [self._product_at(node, m)]
        if node.op in _QUOTIENTS:
            return [self._quotient_at(node, m)]
        derivative = node.op.derivative
        if isinstance(derivative, Linear) and not derivative.multi:
            return [push_linear(node, derivative, [self.at(a, m) for a in node.args])]
        if isinstance(derivative, Partials):
            return [self._by_partials(node, row, m) for row in self._partials_of(node)]
        return [_over(None if d is None else self.at(d, m - 1), m) for d in self._derivatives(node)]

    def _by_partials(self, node: Node, row: Sequence[Maybe], m: int) -> Maybe:
        """The sum over arguments of (1/m) sum of j x_j p_(m-j); the term of j = m by itself."""
        singular = node.op.derivative.singular  # type: ignore[union-attr]
        last: Maybe = None
        others: Maybe = None
        for i, (argument, partial) in enumerate(zip(node.args, row, strict=True)):
            if partial is None:
                continue
            for j in range(1, m + 1):
                x, p = self.at(argument, j), self.at(partial, m - j)
                if x is None or p is None:
                    continue
                if j == m:
                    last = plus(last, times(x, p, i in singular))
                else:
                    others = plus(others, times(_scaled(x, j), p, i in singular))  # type: ignore[arg-type]
        return plus(last, _over(others, m))

    def _product_at(self, node: Node, m: int) -> Maybe:
        """The sum of a_j b_(m-j): each pair once where both factors are one."""
        first, second, multiply = _factors(node)
        total: Maybe = None
        if first is second and node.op in (multiply_op, square_op):
            for j in range((m + 1) // 2):
                a, b = self.at(first, j), self.at(first, m - j)
                if a is not None and b is not None:
                    total = plus(total, multiply(a, b))
            total = _scaled(total, 2)
            middle = self.at(first, m // 2) if m % 2 == 0 else None
            return total if middle is None else plus(total, multiply(middle, middle))
        for j in range(m + 1):
            a, b = self.at(first, j), self.at(second, m - j)
            if a is not None and b is not None:
                total = plus(total, multiply(a, b))
        return total

    def _quotient_at(self, node: Node, m: int) -> Maybe:
        """q_m = (a_m - sum of b_j q_(m-j)) / b_0."""
        above, below = node.args
        taken: Maybe = None
        for j in range(1, m + 1):
            b, q = self.at(below, j), self.at(node, m - j)
            if b is not None and q is not None:
                taken = plus(taken, b * q)
        top = self.at(above, m)
        if taken is not None:
            top = -taken if top is None else top - taken
        return None if top is None else node.op(top, below)

    # -- derivatives that ops state ----------------------------------------------------------------

    def _partials_of(self, node: Node) -> list[tuple[Maybe, ...]]:
        if node not in self._partials:
            if node.op is power_op:
                base, exponent = node.args
                by_exponent = strong_multiply(node, log_op(base))
                self._partials[node] = [(_power_by_base(node, base, exponent), by_exponent)]
            else:
                self._partials[node] = partials_of(node, node.op.derivative)  # type: ignore[arg-type]
        return self._partials[node]

    def _derivatives(self, node: Node) -> list[Maybe]:
        """The derivatives by t of the results, with a stand-in for each one of an argument."""
        if node not in self._derived:
            tangents: list[Maybe] = []
            for argument in node.args:
                slope = placeholder(argument.type) if self._moving(argument) else None
                if slope is not None:
                    self._slopes[slope] = argument
                    self._moves[slope] = True
                tangents.append(slope)
            self._derived[node] = push(node, tangents, self._transform)
        return self._derived[node]

    def _product(self, node: Node) -> Node | None:
        """A power to a small whole number, as products."""
        if node not in self._products:
            number = literal(node.args[1])
            if number is None or not number.is_integer() or abs(number) > MOST_FACTORS:
                return None
            self._products[node] = _whole_power(node.args[0], int(number))
        return self._products[node]

    def _without_slopes(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes with derivatives by t in place of what stands for them."""
        done: dict[Node, Node] = {}
        stack = list(reversed(nodes)) if self._slopes else []
        while stack:
            node = stack[-1]
            slope = self._slopes.get(node)
            below = node.args
            if slope is not None:
                first = self.at(slope, 1)
                below = (zero(slope.type) if first is None else first,)  # type: ignore[arg-type]
            missing = [argument for argument in below if argument not in done]
            if node in done or not missing:
                args = [done[argument] for argument in below]
                done.setdefault(node, args[0] if slope is not None else rebuild(node, args))
                stack.pop()
            else:
                stack.extend(missing)
        return [done.get(node, node) for node in nodes]


def _power_by_base(node: Node, base: Node, exponent: Node) -> Node:
    """The partial of a power by its base, by which its series is a recurrence over itself.

    Of a visibly positive exponent it is the next lower power, which has a value where the base is
    0: there are no more of them than the exponent says. Below 0 the recurrence gives the infinities
    that belong there.
    """
    number = literal(exponent)
    if number is None or not number > 0:
        return exponent * node / base
    return exponent * power_op(base, like(exponent, number - 1))


def _is_region(node: Node) -> bool:
    return isinstance(node.op.lowering, Region) and node.op is not custom_op


def _is_product(node: Node) -> bool:
    derivative = node.op.derivative
    if node.op in (multiply_op, strong_multiply_op, square_op):
        return True
    return isinstance(derivative, Linear) and derivative.multi and len(node.args) == 2


def _factors(node: Node) -> tuple[Node, Node, Callable[[Node, Node], Node]]:
    """The two factors of a product, and how coefficients of theirs are multiplied."""
    if node.op is square_op:
        return node.args[0], node.args[0], multiply_op
    first, second = node.args
    return first, second, lambda a, b: node.op(a, b, **node.attrs)


def _scaled(value: Maybe, number: int) -> Maybe:
    return value if value is None or number == 1 else multiply_op(value, like(value, number))


def _over(value: Maybe, number: int) -> Maybe:
    return value if value is None or number == 1 else divide_op(value, like(value, number))


def _whole_power(base: Node, exponent: int) -> Node:
    """By squaring: exponent 5 is x times the square of the square of x."""
    if exponent < 0:
        return divide_op(like(base, 1), _whole_power(base, -exponent))
    product, square = like(base, 1), base
    while exponent:
        if exponent % 2:
            product = square if literal(product) == 1 else multiply_op(product, square)
        exponent //= 2
        square = square_op(square) if exponent else square
    return product
