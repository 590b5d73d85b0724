"""What is the left side of a rule?  A small expression, written with the ordinary operators.

`log(1 + x)` is a pattern if `x` is a variable of this file, and a node if `x` is a node: the
functions made by `functions` serve both, so a rule's pattern, result and example read alike. A
pattern is plain data: it prints, it is matched without recursion over the graph, and its operators
name the ops that an engine may index it by. Arguments of a commutative op match in either order. A
number matches a constant of that value seen through broadcasts, since element-wise nodes have equal
shapes; the sign of a zero counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product as combinations
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.node import Attributes, Node
from graphc.op import Op, find
from graphc.ops.movement import reshape_op, transpose_op
from graphc.ops.operands import broadcast_op, constant, constant_op, restate_op, to_shape
from graphc.ops.special import cast_op
from graphc.tensor import SURFACE
from graphc.types import TensorType, Type

Number = bool | int | float
Found = dict[Any, Any]  # bindings by name, and the attributes of ops

_DEEPEST_NUMBER = 16  # views and casts that a number is looked for behind
# Uniform constants stay uniform through these.
TRANSPARENT = frozenset((broadcast_op, reshape_op, restate_op, transpose_op))


class Pattern:
    """A pattern; the operators of Python build larger ones."""

    __slots__ = ()

    def __add__(self, other: Any) -> Pattern:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Pattern:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Pattern:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Pattern:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Pattern:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Pattern:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Pattern:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Pattern:
        return apply("divide", other, self)

    def __pow__(self, other: Any) -> Pattern:
        return apply("power", self, other)

    def __neg__(self) -> Pattern:
        return apply("negative", self)

    def __abs__(self) -> Pattern:
        return apply("absolute", self)

    def __invert__(self) -> Pattern:
        return apply("logical_not", self)

    def __and__(self, other: Any) -> Pattern:
        return apply("logical_and", self, other)

    def __or__(self, other: Any) -> Pattern:
        return apply("logical_or", self, other)

    def __lt__(self, other: Any) -> Pattern:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Pattern:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Pattern:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Pattern:
        return apply("greater_equal", self, other)

    def __str__(self) -> str:
        return text(self)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Variable(Pattern):
    """Matches any node; used twice, the same node both times."""

    name: str


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class AnyNumber(Pattern):
    """Matches a constant whose elements are all one number, and stands for that number."""

    name: str


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Literal(Pattern):
    """Matches a constant whose elements are all this number."""

    value: Number


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Apply(Pattern):
    """Matches a node of `op` whose arguments match, whatever its attributes; see `named`."""

    op: Op
    args: tuple[Pattern, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Family(Pattern):
    """Matches a node whose op passes `test`, and whose arguments are of the ops `over` (None: any).

    The rule's result function does the rest.
    """

    title: str
    test: Callable[[Op], bool]
    over: frozenset[Op] | None = None
    name: str = ""


def variables(names: str) -> list[Variable]:
    """Variables of the names in a string, divided by spaces."""
    return [Variable(name) for name in names.split()]


def numbers(names: str) -> list[AnyNumber]:
    """Stand-ins for numbers, of the names in a string."""
    return [AnyNumber(name) for name in names.split()]


def named(name: str, pattern: Any) -> Any:
    """The pattern, with the node that it matches available to guard and result as `name`."""
    return replace(pattern, name=name)


def _as_pattern(value: Any) -> Pattern:
    return value if isinstance(value, Pattern) else Literal(value)


def apply(name: str, *args: Any) -> Apply:
    """The pattern of the op of that name over patterns and numbers."""
    return Apply(find(name), tuple(map(_as_pattern, args)))


class Function:
    """A function of graphc that takes patterns as well as nodes."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        if any(isinstance(arg, Pattern) for arg in args):
            return apply(self.name, *args)
        function = SURFACE.get(self.name)
        return find(self.name)(*args, **options) if function is None else function(*args, **options)


def functions(names: str) -> list[Function]:
    """Functions of the names in a string; on nodes they are the public functions, else the ops."""
    return [Function(name) for name in names.split()]


# -- numbers ---------------------------------------------------------------------------------------


def number_of(node: Node) -> Number | None:
    """The number that every element of a constant is, seen through views and casts, or None."""
    casts: list[np.dtype[Any]] = []
    for _ in range(_DEEPEST_NUMBER):
        if node.op is cast_op:
            casts.append(node.dtype)
        elif node.op not in TRANSPARENT:
            break
        node = node.args[0]
    if node.op is not constant_op:
        return None
    array = node.attrs["value"].array
    if array.ndim and not _uniform(array):
        return None
    value = array.flat[0] if array.ndim else array[()]
    for dtype in reversed(casts):
        value = cast_op.numpy(np.asarray(value), dtype)[()]
    return value.item()


def _uniform(array: Any) -> bool:
    if array.size == 0:
        return False
    first = array.flat[0]
    if not np.all(array == first):
        return False
    if first != 0 or not dtypes.is_float(array.dtype):
        return True
    return len(set(np.signbit(array).flat)) == 1


def same_number(first: Number, second: Number) -> bool:
    """Equal, also in the sign of zero; NaN equals nothing, and truth values are not numbers."""
    if first != second or isinstance(first, bool) != isinstance(second, bool):
        return False
    return first != 0 or math.copysign(1, first) == math.copysign(1, second)


# -- matching --------------------------------------------------------------------------------------


def orders(pattern: Pattern) -> Iterator[Pattern]:
    """The pattern in every order of the arguments of its commutative ops."""
    once = {name for name, count in Counter(_names(pattern)).items() if count == 1}
    yield from _orders(pattern, once)


def _orders(pattern: Pattern, once: set[str]) -> Iterator[Pattern]:
    if not isinstance(pattern, Apply):
        yield pattern
        return
    for args in combinations(*[list(_orders(arg, once)) for arg in pattern.args]):
        yield replace(pattern, args=args)
        if "commutative" in pattern.op.laws and not _alike(pattern.args, once):
            yield replace(pattern, args=(args[1], args[0]))


def _alike(args: tuple[Pattern, ...], once: set[str]) -> bool:
    """Whether exchanging two arguments changes nothing: fresh variables, or the same one twice."""
    first, second = args
    if not (isinstance(first, Variable) and isinstance(second, Variable)):
        return False
    return first.name == second.name or (first.name in once and second.name in once)


def _names(pattern: Pattern) -> Iterator[str]:
    if isinstance(pattern, Variable):
        yield pattern.name
    elif isinstance(pattern, Apply):
        for part in pattern.args:
            yield from _names(part)


def matches(
    pattern: Pattern, node: Node, found: Found, number: Callable[[Node], Number | None]
) -> bool:
    """Whether the node matches in this order of arguments; bindings are entered in `found`.

    Recurses over the pattern, which is small, never over the graph.
    """
    if isinstance(pattern, Variable):
        return found.setdefault(pattern.name, node) is node
    if isinstance(pattern, Apply):
        if node.op is not pattern.op or len(node.args) != len(pattern.args):
            return False
        args = node.args
        for place, part in enumerate(pattern.args):  # half the time of pairs
            if not matches(part, args[place], found, number):
                return False
        if node.attrs:
            found.setdefault(node.op, node.attrs)
        if pattern.name:
            found[pattern.name] = node
        return True
    if isinstance(pattern, Family):
        if not pattern.test(node.op):
            return False
        if pattern.name:
            found[pattern.name] = node
        return pattern.over is None or all(argument.op in pattern.over for argument in node.args)
    value = number(node)
    if value is None:
        return False
    if isinstance(pattern, Literal):
        return same_number(value, pattern.value)
    assert isinstance(pattern, AnyNumber)
    return same_number(found.setdefault(pattern.name, value), value) or value != value


# -- results ---------------------------------------------------------------------------------------


def build(template: Pattern | Number, found: Mapping[Any, Any], wanted: Type) -> Node:
    """The node that a template describes: variables as found, numbers typed by what is beside them.

    An op with attributes takes those that the op of that name had in the pattern.
    """
    made = _build(template, found, wanted)
    return made if isinstance(made, Node) else at_type(made, wanted)


def at_type(value: Number, type_: Type) -> Node:
    """`value` at every element of a type; integers wrap around, as they would when computed."""
    assert isinstance(type_, TensorType)
    if dtypes.is_integer(type_.dtype) and isinstance(value, int):
        value = dtypes.wrapped(value, type_.dtype)
    return to_shape(constant(value, type_.dtype), type_.shape)


def _build(template: Any, found: Mapping[Any, Any], wanted: Type) -> Node | Number:
    if isinstance(template, (Variable, AnyNumber)):
        return found[template.name]
    if isinstance(template, Literal):
        return template.value
    if not isinstance(template, Apply):
        return template
    args = [_build(part, found, wanted) for part in template.args]
    steering = (
        1 if template.op.name == "where" else 0
    )  # its condition says nothing about the others' type
    beside = [arg.type for arg in args[steering:] if isinstance(arg, Node)]
    model = beside[0] if beside else wanted
    nodes = [arg if isinstance(arg, Node) else at_type(arg, model) for arg in args]
    attrs = found.get(template.op, None) if template.op.attributes else None
    return template.op(*nodes, **(attrs if isinstance(attrs, Attributes) else {}))


# -- text ------------------------------------------------------------------------------------------

_INFIX = {
    "logical_or": ("|", 1),
    "logical_and": ("&", 2),
    "equal": ("==", 3),
    "not_equal": ("!=", 3),
    "less": ("<", 3),
    "less_equal": ("<=", 3),
    "greater": (">", 3),
    "greater_equal": (">=", 3),
    "add": ("+", 4),
    "subtract": ("-", 4),
    "multiply": ("*", 5),
    "divide": ("/", 5),
    "power": ("**", 7),
}
_PREFIX = {"negative": "-", "logical_not": "~"}
_PREFIX_LEVEL = 6


def text(pattern: Any, level: int = 0) -> str:
    """A pattern or template as it was written; `level` is the precedence of what surrounds it."""
    if isinstance(pattern, (Variable, AnyNumber)):
        return pattern.name
    if isinstance(pattern, Family):
        return f"{pattern.title}(...)"
    if not isinstance(pattern, Apply):
        value = pattern.value if isinstance(pattern, Literal) else pattern
        return (
            f"({value})"
            if level and not isinstance(value, bool) and math.copysign(1, value) < 0
            else str(value)
        )
    name = pattern.op.name
    if name in _PREFIX:
        written = _PREFIX[name] + text(pattern.args[0], _PREFIX_LEVEL)
        return f"({written})" if level > _PREFIX_LEVEL else written
    if name in _INFIX:
        sign, mine = _INFIX[name]
        first, second = text(pattern.args[0], mine), text(pattern.args[1], mine + 1)
        return f"({first} {sign} {second})" if level > mine else f"{first} {sign} {second}"
    return f"{name}({', '.join(text(argument) for argument in pattern.args)})"
