"""What can be written with a node?  Operators, methods and NumPy's protocols.

The methods look their functions up in `SURFACE`, which the ops fill when they are imported: the
class has no need to know an op, and an op has no need to know the class.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc import tracing
from graphc.errors import GraphError, GraphTypeError
from graphc.loading import Table

if TYPE_CHECKING:
    from graphc.node import Node

SURFACE: Table[Callable[..., Any]] = Table()
# Versions of the array API standard whose names graphc has.
API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


def surface(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a public function under its name, for methods and for NumPy's protocols.

    A trailing underscore, which keeps a module's own use of a builtin intact, is not part of the
    name.
    """
    function.__name__ = function.__qualname__ = function.__name__.rstrip("_")
    SURFACE[function.__name__] = function
    return function


def alias(name: str, function: Callable[..., Any]) -> None:
    """Register a second name of a public function."""
    SURFACE[name] = function


def in_place(apply: Callable[[Any, Any], Any], target: Any, other: Any) -> Any:
    """What `target` is after an augmented assignment: of its own shape and dtype, as an array is.

    A target of rank 0 is a scalar of NumPy or a number of Python, which become what the operator
    gives.
    """
    result = apply(target, other)
    if not target.shape:
        return result
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise GraphTypeError(
            f"x {_symbol(apply)}= y would make {result.dtype.name} of the {target.dtype.name} x, "
            "which NumPy does not\n"
            f"Write x = x {_symbol(apply)} y for a result of another dtype."
        )
    pairs = zip(result.shape, target.shape, strict=False)
    grown = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
    if grown or len(result.shape) != len(target.shape):
        raise GraphError(
            f"x {_symbol(apply)}= y would make the shape {result.shape} of {target.shape}, which "
            "NumPy does not\n"
            f"Write x = x {_symbol(apply)} y for a result of another shape."
        )
    return SURFACE["cast"](result, target.dtype)


_SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "matmul": "@",
    "and_": "&",
    "or_": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
}


def _symbol(apply: Callable[[Any, Any], Any]) -> str:
    return _SYMBOLS[apply.__name__]


class TensorMethods:
    """Operators and methods of nodes, with NumPy's names and meanings."""

    __slots__ = ()
    __array_priority__ = 1000

    def __add__(self, other: Any) -> Node:
        return SURFACE["add"](self, other)

    def __radd__(self, other: Any) -> Node:
        return SURFACE["add"](other, self)

    def __sub__(self, other: Any) -> Node:
        return SURFACE["subtract"](self, other)

    def __rsub__(self, other: Any) -> Node:
        return SURFACE["subtract"](other, self)

    def __mul__(self, other: Any) -> Node:
        return SURFACE["multiply"](self, other)

    def __rmul__(self, other: Any) -> Node:
        return SURFACE["multiply"](other, self)

    def __truediv__(self, other: Any) -> Node:
        return SURFACE["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return SURFACE["divide"](other, self)

    def __floordiv__(self, other: Any) -> Node:
        return SURFACE["floor_divide"](self, other)

    def __rfloordiv__(self, other: Any) -> Node:
        return SURFACE["floor_divide"](other, self)

    def __mod__(self, other: Any) -> Node:
        return SURFACE["remainder"](self, other)

    def __rmod__(self, other: Any) -> Node:
        return SURFACE["remainder"](other, self)

    def __divmod__(self, other: Any) -> tuple[Node, Node]:
        return SURFACE["divmod"](self, other)

    def __rdivmod__(self, other: Any) -> tuple[Node, Node]:
        return SURFACE["divmod"](other, self)

    def __pow__(self, other: Any) -> Node:
        return SURFACE["power"](self, other)

    def __rpow__(self, other: Any) -> Node:
        return SURFACE["power"](other, self)

    def __matmul__(self, other: Any) -> Node:
        return SURFACE["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Node:
        return SURFACE["matmul"](other, self)

    def __neg__(self) -> Node:
        return SURFACE["negative"](self)

    def __pos__(self) -> Node:
        return SURFACE["positive"](self)

    def __abs__(self) -> Node:
        return SURFACE["absolute"](self)

    def __invert__(self) -> Node:
        return SURFACE["invert"](self)

    def __round__(self, ndigits: int | None = None) -> Node:
        return SURFACE["round"](self, ndigits or 0)

    def __and__(self, other: Any) -> Node:
        return SURFACE["bitwise_and"](self, other)

    def __rand__(self, other: Any) -> Node:
        return SURFACE["bitwise_and"](other, self)

    def __or__(self, other: Any) -> Node:
        return SURFACE["bitwise_or"](self, other)

    def __ror__(self, other: Any) -> Node:
        return SURFACE["bitwise_or"](other, self)

    def __xor__(self, other: Any) -> Node:
        return SURFACE["bitwise_xor"](self, other)

    def __rxor__(self, other: Any) -> Node:
        return SURFACE["bitwise_xor"](other, self)

    def __lshift__(self, other: Any) -> Node:
        return SURFACE["left_shift"](self, other)

    def __rlshift__(self, other: Any) -> Node:
        return SURFACE["left_shift"](other, self)

    def __rshift__(self, other: Any) -> Node:
        return SURFACE["right_shift"](self, other)

    def __rrshift__(self, other: Any) -> Node:
        return SURFACE["right_shift"](other, self)

    # `x += y` names another node x; shape and dtype stay, as they do in NumPy's arrays.

    def __iadd__(self, other: Any) -> Node:
        return in_place(operator.add, self, other)

    def __isub__(self, other: Any) -> Node:
        return in_place(operator.sub, self, other)

    def __imul__(self, other: Any) -> Node:
        return in_place(operator.mul, self, other)

    def __itruediv__(self, other: Any) -> Node:
        return in_place(operator.truediv, self, other)

    def __ifloordiv__(self, other: Any) -> Node:
        return in_place(operator.floordiv, self, other)

    def __imod__(self, other: Any) -> Node:
        return in_place(operator.mod, self, other)

    def __ipow__(self, other: Any) -> Node:
        return in_place(operator.pow, self, other)

    def __imatmul__(self, other: Any) -> Node:
        return in_place(operator.matmul, self, other)

    def __iand__(self, other: Any) -> Node:
        return in_place(operator.and_, self, other)

    def __ior__(self, other: Any) -> Node:
        return in_place(operator.or_, self, other)

    def __ixor__(self, other: Any) -> Node:
        return in_place(operator.xor, self, other)

    def __ilshift__(self, other: Any) -> Node:
        return in_place(operator.lshift, self, other)

    def __irshift__(self, other: Any) -> Node:
        return in_place(operator.rshift, self, other)

    def __eq__(self, other: object) -> Node:  # type: ignore[override]
        return SURFACE["equal"](self, other)

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return SURFACE["not_equal"](self, other)

    def __lt__(self, other: Any) -> Node:
        return SURFACE["less"](self, other)

    def __le__(self, other: Any) -> Node:
        return SURFACE["less_equal"](self, other)

    def __gt__(self, other: Any) -> Node:
        return SURFACE["greater"](self, other)

    def __ge__(self, other: Any) -> Node:
        return SURFACE["greater_equal"](self, other)

    def __getitem__(self, key: Any) -> Node:
        return SURFACE["getitem"](self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        from graphc.unknown import refuse_change

        refuse_change()

    if not TYPE_CHECKING:  # which would take every attribute for a known one

        def __getattr__(self, name: str) -> NoReturn:
            from graphc.unknown import refuse_attribute

            refuse_attribute(self, name)

    def __len__(self) -> int:
        extent = self.shape[0] if self.shape else None  # type: ignore[attr-defined]
        if not isinstance(extent, int):
            if extent is not None:
                tracing.want_number(extent)
            raise GraphTypeError(
                f"the length of {self.type!r} is no number: use node.shape[0], or gx.scan to loop"  # type: ignore[attr-defined]
            )
        return extent

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(len(self))])

    def _no_value(self, what: str) -> NoReturn:
        from graphc.unknown import refuse

        refuse(self, what)

    def __bool__(self) -> bool:
        self._no_value("truth value")

    def __float__(self) -> float:
        self._no_value("float value")

    def __int__(self) -> int:
        self._no_value("int value")

    def __complex__(self) -> complex:
        self._no_value("complex value")

    def __index__(self) -> int:
        self._no_value("integer value")

    def __array__(self, *_: Any, **__: Any) -> Any:
        self._no_value("array value")

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        import graphc

        if api_version not in (None, *API_VERSIONS):
            raise ValueError(f"versions of the array API are {API_VERSIONS}, got {api_version!r}")
        return graphc

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from graphc.protocols import apply_ufunc

        return apply_ufunc(ufunc, method, *inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        from graphc.protocols import call_function

        return call_function(function, args, named)

    def _stays(self, method: str, instead: str) -> NoReturn:
        raise TypeError(
            f"an expression cannot be changed in place: x.{method}\nMake a new one: {instead}."
        )

    def sort(self, axis: int = -1, **_: Any) -> NoReturn:
        """Refused: an expression has no method of NumPy's that changes it."""
        self._stays("sort()", "x = np.sort(x)")

    def fill(self, value: Any) -> NoReturn:
        """Refused: an expression has no method of NumPy's that changes it."""
        self._stays("fill(value)", "x = np.full_like(x, value)")

    def put(self, indices: Any, values: Any, mode: str = "raise") -> NoReturn:
        """Refused: an expression has no method of NumPy's that changes it."""
        self._stays("put(indices, values)", "x = x.at[indices].set(values)")

    def item(self, *_: Any) -> NoReturn:
        """Refused: an expression has no number of Python's before a call."""
        self._no_value("float value")

    def tolist(self) -> NoReturn:
        """Refused: an expression has no numbers of Python's before a call."""
        self._no_value("array value")

    @property
    def T(self) -> Node:
        """The node with its axes reversed."""
        return SURFACE["transpose"](self)

    @property
    def mT(self) -> Node:  # noqa: N802
        """The node with its last two axes exchanged."""
        return SURFACE["matrix_transpose"](self)

    @property
    def at(self) -> Any:
        """The places of the node: `x.at[key].set(values)` is x with x[key] = values."""
        return SURFACE["at"](self)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize  # type: ignore[attr-defined]

    @property
    def nbytes(self) -> Any:
        """Bytes of all elements."""
        return self.size * self.itemsize  # type: ignore[attr-defined]

    # Reductions take the other arguments of NumPy's, `keepdims`, `where` and so on, by name.

    def sum(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["sum"](self, axis=axis, **options)

    def prod(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["prod"](self, axis=axis, **options)

    def mean(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["mean"](self, axis=axis, **options)

    def var(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["var"](self, axis=axis, **options)

    def std(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["std"](self, axis=axis, **options)

    def max(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["max"](self, axis=axis, **options)

    def min(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["min"](self, axis=axis, **options)

    def all(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["all"](self, axis=axis, **options)

    def any(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["any"](self, axis=axis, **options)

    def argmax(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["argmax"](self, axis=axis, **options)

    def argmin(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["argmin"](self, axis=axis, **options)

    def cumsum(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["cumsum"](self, axis=axis, **options)

    def cumprod(self, axis: Any = None, **options: Any) -> Node:
        return SURFACE["cumprod"](self, axis=axis, **options)

    def argsort(self, axis: Any = -1, **options: Any) -> Node:
        return SURFACE["argsort"](self, axis=axis, **options)

    def argpartition(self, kth: Any, axis: Any = -1) -> Node:
        return SURFACE["argpartition"](self, kth=kth, axis=axis)

    def searchsorted(self, v: Any, side: str = "left", sorter: Any = None) -> Node:
        return SURFACE["searchsorted"](self, v, side=side, sorter=sorter)

    def reshape(self, *shape: Any, order: str = "C") -> Node:
        return SURFACE["reshape"](self, shape[0] if len(shape) == 1 else shape, order)

    def ravel(self, order: str = "C") -> Node:
        return SURFACE["ravel"](self, order)

    def flatten(self, order: str = "C") -> Node:
        return SURFACE["ravel"](self, order)

    def transpose(self, *axes: Any) -> Node:
        chosen = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return SURFACE["transpose"](self, chosen or None)

    def swapaxes(self, axis1: int, axis2: int) -> Node:
        return SURFACE["swapaxes"](self, axis1, axis2)

    def squeeze(self, axis: Any = None) -> Node:
        return SURFACE["squeeze"](self, axis)

    def repeat(self, repeats: Any, axis: int | None = None) -> Node:
        return SURFACE["repeat"](self, repeats, axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
        return SURFACE["diagonal"](self, offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Node:
        return SURFACE["trace"](self, offset, axis1, axis2, dtype)

    def choose(self, choices: Any, mode: str = "raise") -> Node:
        return SURFACE["choose"](self, choices, mode=mode)

    def compress(self, condition: Any, axis: int | None = None) -> Node:
        return SURFACE["compress"](condition, self, axis)

    def nonzero(self, *, size: Any = None, fill_value: Any = None) -> Any:
        return SURFACE["nonzero"](self, size=size, fill_value=fill_value)

    def astype(self, dtype: Any) -> Node:
        return SURFACE["cast"](self, dtype)

    def copy(self, order: str = "C") -> Any:
        """The node itself, which never changes."""
        return self

    def take(self, indices: Any, axis: int | None = None, mode: str = "raise") -> Node:
        return SURFACE["take"](self, indices, axis=axis, mode=mode)

    def dot(self, other: Any) -> Node:
        return SURFACE["dot"](self, other)

    def clip(self, min: Any = None, max: Any = None) -> Node:
        return SURFACE["clip"](self, min, max)

    def round(self, decimals: int = 0) -> Node:
        return SURFACE["round"](self, decimals)

    def conj(self) -> Node:
        return SURFACE["conjugate"](self)

    @property
    def real(self) -> Node:
        return SURFACE["real"](self)

    @property
    def imag(self) -> Node:
        return SURFACE["imag"](self)
