"""How is an array with some elements changed written?  x.at[key].set(values): a new array.

The keys are those of x[key]. Parts that slices name are laid over the array, which a kernel folds;
positions are a scatter, in which updates of one place are combined in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import dtypes
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.operands import as_node, describe
from graphc.ops.subscript import subscript
from graphc.tensor import SURFACE, surface

# A value is converted to a dtype of the same kind or of one further on, as by `x += value`.
_RANK = {"b": 0, "u": 1, "i": 2, "f": 3}


class At:
    """x.at: `x.at[key]` is a place in x."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getitem__(self, key: Any) -> Place:
        return Place(self._node, key)


class Place:
    """A place in an array: what is there, and the array with something else there.

    Values broadcast to the shape of x[key] and take the dtype of x. Of several values for one
    element `set` keeps the last one; the others combine all of them, in order.
    """

    __slots__ = ("_key", "_node")

    def __init__(self, node: Node, key: Any) -> None:
        self._node = node
        self._key = key

    def get(self) -> Node:
        """x[key]."""
        return subscript(self._node, self._key).read()

    def set(self, values: Any) -> Node:
        """x with x[key] = values, which are converted to the dtype of x as by an assignment."""
        return subscript(self._node, self._key).write("set", values)

    def _combined(self, combine: str, values: Any) -> Node:
        node, given = self._node, as_node(values)
        kind = dtypes.kind(given.dtype)
        if type(values) is int and dtypes.is_integer(node.dtype):
            kind = dtypes.kind(node.dtype)  # a Python number is weak
        if _RANK[kind] > _RANK[dtypes.kind(node.dtype)]:
            raise GraphError(
                f"values of {given.dtype.name} do not fit an array of {node.dtype.name}\n"
                + describe([node, given])
                + "\nConvert one of them with astype."
            )
        return subscript(node, self._key).write(combine, values)

    def add(self, values: Any) -> Node:
        """x with x[key] += values, for each value."""
        return self._combined("add", values)

    def subtract(self, values: Any) -> Node:
        """x with x[key] -= values, for each value."""
        return self._combined("add", SURFACE["negative"](as_node(values)))

    def multiply(self, values: Any) -> Node:
        """x with x[key] *= values, for each value."""
        return self._combined("mul", values)

    def divide(self, values: Any) -> Node:
        """x with x[key] /= values, for each value: x over the product of the values for a place."""
        return self._by_factors(SURFACE["divide"], values)

    def power(self, values: Any) -> Node:
        """x with x[key] **= values, for each value: x to the product of the values for a place."""
        return self._by_factors(SURFACE["power"], values)

    def _by_factors(self, function: Callable[[Any, Any], Node], values: Any) -> Node:
        factors = Place(SURFACE["ones_like"](self._node), self._key)._combined("mul", values)
        made = function(self.get(), Place(factors, self._key).get())
        if made.dtype != self._node.dtype:
            raise GraphError(
                f"the result is {made.dtype.name}, which does not fit the array\n"
                + describe([self._node])
                + "\nConvert it with astype."
            )
        return self.set(made)

    def min(self, values: Any) -> Node:
        """x with x[key] = minimum(x[key], values), for each value."""
        return self._combined("min", values)

    def max(self, values: Any) -> Node:
        """x with x[key] = maximum(x[key], values), for each value."""
        return self._combined("max", values)

    def apply(self, function: Callable[[Node], Any]) -> Node:
        """x with x[key] = function(x[key]): once, however often the key names an element."""
        return self.set(function(self.get()))

    mul = multiply


@surface
def at(x: Any) -> At:
    """The places of x: `gx.at(x)[key].set(values)` is x with x[key] = values."""
    return At(as_node(x))
