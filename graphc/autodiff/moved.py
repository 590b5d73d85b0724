"""Which nodes move in every element, so that no tangent has to stay 0?

Where a partial may be infinite a tangent of 0 must win, for it says that the element does not
depend on the direction: the strong product sees to that, at the price of a comparison and a
selection. A direction of ones moves every element of an input, and what is made of these by sums,
products, quotients and the like depends on it everywhere. There is nothing to keep at 0 then, and
a plain product does for the ops that say that they have their poles only where the result is
infinite or NaN itself (`at_poles`).

It goes by the structure, no value is looked at. Tangents may still cancel, or a partial be 0, in
single elements: at a pole of the result they give NaN there instead of 0, and a `where` that
leaves that element out leaves out its tangent, too. What must not be taken for moved is a product
with a mask, which is 0 in some elements on purpose: a factor that does not move must be a number,
which is what the caller gives, and what is made of such by the same few ops and by views. What is
made of a flag, or an array of constants, is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.autodiff.chain import Maybe, literal
from graphc.graph import parameter_op, placeholder_op, symbol_op
from graphc.node import Node
from graphc.ops.arithmetic import (
    add_op,
    divide_op,
    multiply_op,
    negative_op,
    square_op,
    subtract_op,
)
from graphc.ops.movement import reshape_op, slice_op
from graphc.ops.operands import broadcast_op
from graphc.ops.special import cast_op
from graphc.ops.transcend import exp_op
from graphc.ops.trigonometry import cos_op, sin_op

# What hands on a change of all elements of its arguments to all of its own: partials are zero at
# single points only.
_SMOOTH = frozenset(
    (add_op, subtract_op, multiply_op, divide_op, negative_op, square_op, sin_op, cos_op, exp_op)
)
# A term that does not move takes nothing away from one that does.
_TERMS = frozenset((add_op, subtract_op))
_GIVEN = frozenset((symbol_op, parameter_op, placeholder_op))
_VIEWS = frozenset((reshape_op, slice_op))


class Moved:
    """The nodes that move in every element, as a sweep in forward mode finds them."""

    def __init__(
        self, inputs: Sequence[Node], tangents: Sequence[Maybe], numbers: dict[Node, bool]
    ) -> None:
        """`numbers` is what is known of factors, whatever the inputs; more is entered."""
        pairs = zip(inputs, tangents, strict=True)
        self._moved = {node for node, tangent in pairs if _is_one(tangent)}
        self._numbers = numbers

    def takes(self, node: Node, tangents: Sequence[Maybe]) -> bool:
        """Whether a node moves, too, whose arguments have these tangents."""
        op = node.op
        if op not in _SMOOTH:
            return False
        numbers = None if op in _TERMS else self._numbers
        for place, argument in enumerate(node.args):  # half the time of pairs
            if tangents[place] is not None:
                if argument not in self._moved:
                    return False
            elif numbers is not None:
                known = numbers.get(argument)
                if not (self._is_number(argument) if known is None else known):
                    return False
        self._moved.add(node)
        return True

    def _is_number(self, root: Node) -> bool:
        """Whether a factor is no mask: it is made of what is given, and of constant numbers."""
        numbers, stack = self._numbers, [root]
        while stack:
            node = stack[-1]
            missing = []
            if node.op in _SMOOTH or node.op in _VIEWS:
                missing = [argument for argument in node.args if argument not in numbers]
            if missing:
                stack += missing
                continue
            numbers[stack.pop()] = self._is_number_by_itself(node)
        return numbers[root]

    def _is_number_by_itself(self, node: Node) -> bool:
        """The same where it is known of the arguments."""
        if node.op in _SMOOTH or node.op in _VIEWS:
            return all(map(self._numbers.__getitem__, node.args))
        return node.op in _GIVEN or bool(literal(node))


def _is_one(tangent: Maybe) -> bool:
    """Whether a tangent is 1, or -1, in every element."""
    while tangent is not None and tangent.op in (broadcast_op, cast_op):
        tangent = tangent.args[0]
    return tangent is not None and literal(tangent) in (1, -1)
