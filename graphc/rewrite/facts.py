"""What is known about the values of a node?  Facts, derived from symbols, constants and ops.

Exact rules need them: `abs(x)` is `x` only if no element has its sign bit set. Facts are about
elements that are not NaN, except `finite`, which excludes NaN:

- `nonnegative`: at least 0; `positive`: above 0
- `unsigned`: nonnegative, and never -0.0; derived, not for symbols
- `finite`: neither NaN nor infinite; `integer`: without a fractional part, unless infinite
- `sorted`, `unique`: of symbols only

An op may state facts on its record. The table here is for ops that move elements and for those
about which more can be said.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc import dtypes
from graphc.node import Node
from graphc.types import Shape, TensorType

Facts = frozenset[str]
Known = Callable[[Node], Facts]

_NONE: Facts = frozenset()
_INTEGER: Facts = frozenset(("finite", "integer"))
_UNSIGNED: Facts = frozenset(("nonnegative", "unsigned"))
_ELEMENT = ("nonnegative", "positive", "unsigned", "finite", "integer")  # facts of single elements
_SINGLE = frozenset(_ELEMENT)


class FactTable:
    """Facts of nodes, each derived once. Calling it with a node gives a frozen set of names.

    `shared` are the reciprocals that many products of the graph take.
    """

    def __init__(self) -> None:
        self._facts: dict[Node, Facts] = {}
        self.shared: set[Node] = set()

    def __call__(self, node: Node) -> Facts:
        facts = self._facts
        if node in facts:
            return facts[node]
        stack = [node]
        while stack:
            top = stack[-1]
            if top in facts:
                stack.pop()
                continue
            waiting = [argument for argument in top.args if argument not in facts]
            if waiting:
                stack += waiting
                continue
            facts[top] = _derive(top, facts.__getitem__)
            stack.pop()
        return facts[node]


def facts_of(node: Node) -> Facts:
    """What is known about every element of a node.

    >>> from graphc.ops.operands import symbol
    >>> from graphc.ops.transcend import exp
    >>> sorted(facts_of(exp(symbol("x", 3)) + 1))
    ['nonnegative', 'positive', 'unsigned']
    """
    return FactTable()(node)


# What is never 0 over the real numbers, though floats underflow.
NEVER_ZERO = ("exp", "sigmoid")


def never_zero(node: Node, shape: Shape | None = None) -> bool:
    """Whether a node is visibly an exponential, a sigmoid, or a sum of such, perhaps broadcast.

    A sum over no elements is 0. So every extent that is summed over is a number above 0, or one of
    the `shape` that the node is looked at in (its own, if none is given): if that extent is 0 there
    is no element at which anything could be 0.
    """
    around = node.shape if shape is None else shape
    while node.op.name in ("broadcast", "sum"):
        inner = node.args[0]
        if node.op.name == "sum":
            summed = [inner.shape[axis] for axis in node.attrs["axes"]]
            if any(extent == 0 if isinstance(extent, int) else extent not in around
                   for extent in summed):
                return False
        node = inner
    return node.op.name in NEVER_ZERO


def _derive(node: Node, known: Known) -> Facts:
    type_ = node.type
    if not isinstance(type_, TensorType):
        return _NONE
    kind, name = dtypes.kind(type_.dtype), node.op.name
    if kind in "iu" and name in _WRAPPING:
        return _closed(_NONE, kind)
    rule = _DERIVED.get(name, node.op.facts)
    return _closed(rule(node, known) if rule is not None else _NONE, kind)


def _closed(found: Facts, kind: str) -> Facts:
    """With what the dtype gives, and what follows."""
    if kind in "bu":
        return found | _INTEGER | _UNSIGNED
    if kind == "i":
        return found | _INTEGER | (_UNSIGNED if "nonnegative" in found else _NONE)
    return found | _UNSIGNED if "positive" in found else found


def _of_constant(node: Node, known: Known) -> Facts:
    array = node.attrs["value"].array
    if dtypes.kind(array.dtype) == "b":
        return _INTEGER | _UNSIGNED
    real = array[~np.isnan(array)]
    holds = {
        "nonnegative": np.all(real >= 0),
        "unsigned": not np.any(np.signbit(real)),
        "positive": np.all(real > 0),
        "finite": np.all(np.isfinite(array)),
        "integer": np.all(np.trunc(real) == real),
    }
    return frozenset(fact for fact, held in holds.items() if held)


def _kept(*names: str, always: Facts = _NONE) -> Callable[[Node, Known], Facts]:
    """Of the first argument's facts those named, and `always` these."""
    chosen = frozenset(names)
    return lambda node, known: known(node.args[0]) & chosen | always


def _common(*names: str) -> Callable[[Node, Known], Facts]:
    """Of the facts that all arguments share those named."""
    chosen = frozenset(names)
    return lambda node, known: frozenset.intersection(chosen, *map(known, node.args))


def _of_either(*names: str) -> Callable[[Node, Known], Facts]:
    """Of the facts that the first two arguments share those named."""
    chosen = frozenset(names)
    return lambda node, known: chosen & known(node.args[0]) & known(node.args[1])


def _given(*names: str) -> Callable[[Node, Known], Facts]:
    facts = frozenset(names)
    return lambda node, known: facts


def _of_add(node: Node, known: Known) -> Facts:
    first, second = known(node.args[0]), known(node.args[1])
    found = first & second & {"nonnegative", "unsigned", "integer"}
    return found | (first | second) & {"positive", "unsigned"} if "nonnegative" in found else found


def _of_divide(node: Node, known: Known) -> Facts:
    """A divisor of -0.0 would turn the sign."""
    if "unsigned" not in known(node.args[1]):
        return _NONE
    return known(node.args[0]) & {"nonnegative", "unsigned"}


def _of_cast(node: Node, known: Known) -> Facts:
    """Narrowing overflows and underflows, or wraps around; truncation takes positive fractions to
    0.
    """
    source, target = node.args[0].dtype, node.dtype
    found = known(node.args[0])
    if dtypes.widens(source, target):
        return found & _SINGLE
    if dtypes.is_integer(source) and dtypes.is_integer(target):
        return _INTEGER
    return found & {"nonnegative", "unsigned", "integer"}


def _of_position(node: Node, known: Known) -> Facts:
    """An extent or a position; in a narrow dtype it may have wrapped around or overflowed."""
    return _INDEX if dtypes.widens(dtypes.INT64, node.dtype) else _NONE


def _of_sqrt(node: Node, known: Known) -> Facts:
    """NaN below 0; the root of -0.0 is -0.0."""
    found = known(node.args[0])
    kept = found & {"positive", "unsigned", "finite"}
    return kept | {"nonnegative"} if "nonnegative" in found else frozenset(("nonnegative",))


def _of_extremum(node: Node, known: Known) -> Facts:
    """Over no elements the result is an infinity, or the least integer."""
    shape = node.args[0].shape
    extents = [shape[axis] for axis in node.attrs["axes"]]
    some = all(isinstance(extent, int) and extent > 0 for extent in extents)
    return known(node.args[0]) & _SINGLE if some else _NONE


def _of_maximum(node: Node, known: Known) -> Facts:
    first, second = known(node.args[0]), known(node.args[1])
    return (first & second & _SINGLE) | ((first | second) & {"nonnegative", "positive"})


def _of_power(node: Node, known: Known) -> Facts:
    return _UNSIGNED if "unsigned" in known(node.args[0]) else _NONE


_MOVED = _kept(*_ELEMENT)
_PRODUCT = _common("nonnegative", "unsigned", "integer")  # products underflow: never positive
_SUM = _kept("nonnegative", "unsigned", "integer")  # sums overflow, and a sum over nothing is 0
_INDEX: Facts = frozenset(("nonnegative", "unsigned", "finite", "integer"))

# Integers wrap around: nothing is known of the sign of these.
_WRAPPING = frozenset(
    (
        "add",
        "subtract",
        "multiply",
        "negative",
        "absolute",
        "square",
        "sum",
        "prod",
        "contract",
        "scatter_add",
        "scatter_mul",
    )
)
_DERIVED: dict[str, Callable[[Node, Known], Facts]] = {
    "symbol": lambda node, known: frozenset(node.attrs["facts"]),
    "constant": _of_constant,
    **dict.fromkeys(("iota", "extent", "argmax"), _of_position),
    **dict.fromkeys(
        (
            "broadcast",
            "restate",
            "reshape",
            "transpose",
            "slice",
            "flip",
            "gather",
            "diagonal",
            "check",
            "stop_gradient",
        ),
        _MOVED,
    ),
    **dict.fromkeys(
        ("pad", "embed_diagonal"), _kept("nonnegative", "unsigned", "finite", "integer")
    ),
    **dict.fromkeys(("overlay", "scatter_set", "scatter_max", "scatter_min"), _of_either(*_SINGLE)),
    **dict.fromkeys(
        ("scatter_add", "scatter_mul"), _of_either("nonnegative", "unsigned", "integer")
    ),
    "around": lambda node, known: _INDEX,
    "concatenate": _common(*_ELEMENT),
    "where": lambda node, known: known(node.args[1]) & known(node.args[2]) & _SINGLE,
    "cast": _of_cast,
    "add": _of_add,
    "subtract": _common("integer"),
    **dict.fromkeys(("multiply", "strong_multiply", "contract"), _PRODUCT),
    "divide": _of_divide,
    "negative": _kept("finite", "integer"),
    "absolute": _kept("finite", "integer", "positive", always=_UNSIGNED),
    "sign": _kept("finite", "nonnegative", "positive", "unsigned", always=frozenset(("integer",))),
    **dict.fromkeys(("sum", "prod"), _SUM),
    **dict.fromkeys(("max", "min"), _of_extremum),
    "maximum": _of_maximum,
    "minimum": _common(*_ELEMENT),
    "square": _kept("integer", always=_UNSIGNED),
    "sqrt": _of_sqrt,
    "relu": _kept(*_ELEMENT, always=frozenset(("nonnegative",))),
    **dict.fromkeys(
        ("exp", "exp2", "softplus", "cosh", "arccosh", "arccos", "erfc", "i0", "i0e"),
        _given("nonnegative", "unsigned"),
    ),
    "sigmoid": _kept("finite", always=_UNSIGNED),
    **dict.fromkeys(("tanh", "erf", "arctan"), _kept("nonnegative", "unsigned", "finite")),
    **dict.fromkeys(
        ("log1p", "expm1", "sinh", "arcsinh", "cbrt", "i1"), _kept("nonnegative", "unsigned")
    ),
    **dict.fromkeys(("sin", "cos", "sinc"), _kept("finite")),
    "power": _of_power,
}
