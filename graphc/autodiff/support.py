"""Where is a value zero whatever the inputs are?  The support of factors in a derivative.

Padding, masks and constants leave zeros that a product passes on, so the entries that they would
multiply are no entries. Only what zeros survive is looked through: index arithmetic, products, sums
and signs. A support of None is everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.lowering import View
from graphc.node import Node
from graphc.ops.arithmetic import (
    add_op,
    multiply_op,
    negative_op,
    strong_multiply_op,
    subtract_op,
)
from graphc.ops.operands import broadcast_op
from graphc.ops.special import cast_op, where_op

Mask = np.ndarray | None


def _product(masks: list[Mask]) -> Mask:
    known = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(known) if known else None


def _sum(masks: list[Mask]) -> Mask:
    known = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(known) if len(known) == len(masks) else None


_RULES: dict[Any, Callable[[list[Mask]], Mask]] = {
    add_op: _sum,
    cast_op: _sum,
    multiply_op: _product,
    negative_op: _sum,
    strong_multiply_op: _product,
    subtract_op: _sum,
}


class Supports:
    """The supports of nodes; `value(node)` is that of a node of constants, None for others, and
    `sources(view)` says for each argument from where a view takes its elements, -1 for nowhere.
    """

    def __init__(self, value: Callable[[Node], Any], sources: Callable[[Node], Any]) -> None:
        self._value = value
        self._sources = sources
        self._held: dict[Node, Mask] = {}

    def of(self, node: Node) -> Mask:
        """Where the node may differ from zero, as a mask of its shape; None where it always may."""
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self._held:
                stack.pop()
                continue
            beneath = self._looked_through(top)
            waiting = [argument for argument in beneath if argument not in self._held]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            mask = self._found(top, [self._held[argument] for argument in beneath])
            self._held[top] = None if mask is None or mask.all() else mask
        return self._held[node]

    def _looked_through(self, node: Node) -> tuple[Node, ...]:
        if self._value(node) is not None:
            return ()
        if isinstance(node.op.lowering, View) or node.op in _RULES:
            return node.args
        return node.args[1:] if node.op is where_op else ()

    def _found(self, node: Node, masks: list[Mask]) -> Mask:
        value = self._value(node)
        if value is not None:
            return np.asarray(value != 0)
        if node.op in _RULES:
            return _RULES[node.op](masks)
        if node.op is where_op:
            return self._chosen(node, masks)
        if not isinstance(node.op.lowering, View):
            return None
        if node.op is broadcast_op and masks[0] is None:
            return None
        made = np.zeros(int(node.size), bool)  # type: ignore[arg-type]
        for mask, source in zip(masks, self._sources(node), strict=True):
            if mask is None:
                made |= source >= 0
            else:
                made |= np.append(np.ravel(mask), False)[source]
        return made.reshape(node.shape)

    def _chosen(self, node: Node, masks: list[Mask]) -> Mask:
        condition = self._value(node.args[0])
        if condition is None:
            return _sum(masks)
        one, other = (np.ones(node.shape, bool) if mask is None else mask for mask in masks)
        return np.where(condition, one, other)
