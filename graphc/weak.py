"""What is a Python number while a function is traced?  A scalar that is weak in promotion.

`x * 2.5` keeps the dtype of x in NumPy, because a Python number is weak (NEP 50). A number that is
an argument of a traced function has no value yet, but the same must hold: it is a `WeakScalar`, a
node of rank 0 that takes the dtype of its partner. Python's operators between weak scalars and
Python numbers give weak scalars again, as they give Python numbers; a function of NumPy or graphc
gives an ordinary node, as NumPy's give its own scalars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import dtypes
from graphc.dims import Dim
from graphc.tensor import SURFACE, TensorMethods

if TYPE_CHECKING:
    from graphc.node import Node

_NUMBERS = (bool, int, float)


class WeakScalar(TensorMethods):
    """A Python number whose value is not known yet: `node` is its value, as int64 or float64."""

    __slots__ = ("node",)
    __hash__ = object.__hash__

    def __init__(self, node: Node) -> None:
        self.node = node

    def __getattr__(self, name: str) -> Any:
        if name == "node" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.node, name)

    def __repr__(self) -> str:
        return f"<weak {self.node!r}>"

    @property
    def sample(self) -> bool | int | float:
        """A Python number of the same kind, for rules of promotion."""
        return {"b": False, "i": 0}.get(self.node.dtype.kind, 0.0)

    def in_dtype(self, dtype: np.dtype[Any]) -> Node:
        """The value beside an array of `dtype`; an integer out of its bounds is an error at run
        time, as NumPy has it.
        """
        node = self.node
        if dtypes.is_integer(dtype) and dtype != node.dtype and node.dtype.kind == "i":
            low, high = dtypes.limits(dtype)
            inside = node >= low
            if high <= dtypes.limits(node.dtype)[1]:
                inside = inside & (node <= high)
            message = f"a Python integer is out of bounds for {dtype.name}"
            node = SURFACE["check"](node, inside, message)
        return SURFACE["cast"](node, dtype)  # type: ignore[no-any-return]

    def __add__(self, other: Any) -> Any:
        return _combined("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _combined("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _combined("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _combined("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return _combined("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _combined("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _combined("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _combined("divide", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _combined("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _combined("floor_divide", other, self)

    def __mod__(self, other: Any) -> Any:
        return _combined("remainder", self, other)

    def __rmod__(self, other: Any) -> Any:
        return _combined("remainder", other, self)

    def __pow__(self, other: Any) -> Any:
        if self.node.dtype.kind == "i" and type(other) is int and other < 0:
            return _combined("power", self * 1.0, other)  # Python's 2 ** -1 is a float
        return _combined("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _combined("power", other, self)

    def __neg__(self) -> Any:
        return WeakScalar(SURFACE["negative"](self.node))

    def __abs__(self) -> Any:
        return WeakScalar(SURFACE["absolute"](self.node))


def _combined(name: str, left: Any, right: Any) -> Any:
    """The result of an operator: weak if both sides are numbers of Python."""
    if not (_is_number(left) and _is_number(right)):
        return SURFACE[name](left, right)
    return WeakScalar(SURFACE[name](_plain(left), _plain(right)))


def _is_number(value: Any) -> bool:
    return type(value) in _NUMBERS or isinstance(value, (WeakScalar, Dim))


def _plain(value: Any) -> Any:
    return value.node if isinstance(value, WeakScalar) else value


def of_extent(extent: Dim) -> WeakScalar:
    """An extent as the Python integer that it will be."""
    from graphc.ops.operands import as_node

    return WeakScalar(as_node(extent))
