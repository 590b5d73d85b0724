"""What is a rewrite rule?  Data: pattern, result, guard, law, and an example on which it fires.

The law says how a rule may change values, and so when it is admitted:

- `ieee`: the same value, up to the sign and payload of NaN. A zero keeps its sign. The terms of a
  sum may be combined in another order if the rule says so (`reorders`): no order is part of what
  `sum` and `contract` mean.
- `stable`: at least as accurate, in every case; always admitted. Where the exact value is a zero,
  its sign may change.
- `real`: true over the real numbers; rounding, infinities and NaN may differ.
- `fast`: true over the real numbers, and may lose stated accuracy.

`math="ieee"` admits the first two, "real" the third as well, "fast" all. Origins and the record of
firings are the engine's business, never a rule's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphc import origin
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.operands import symbol
from graphc.rewrite.pattern import Pattern, orders, text

LAWS = ("ieee", "stable", "real", "fast")
ADMITTED = {
    "ieee": frozenset(("ieee", "stable")),
    "real": frozenset(("ieee", "stable", "real")),
    "fast": frozenset(LAWS),
}
Known = Callable[[Node], frozenset[str]]


def parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters."""
    code = getattr(function, "__code__", None)
    if code is None:
        return tuple(inspect.signature(function).parameters)
    return code.co_varnames[: code.co_argcount]  # importing the rules asks hundreds of times


class ByName:
    """Calls a function with those of the given values that its parameters name."""

    __slots__ = ("function", "parameters")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.parameters = parameters_of(function)

    def __call__(self, values: Mapping[Any, Any]) -> Any:
        return self.function(*[values[name] for name in self.parameters])


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule. `result` is a template, a number, or a function; `str(rule)` shows both sides.

    A result of None marks a transformation of the whole graph (`graphc.rewrite.scans`): it is
    named, explained and excluded like a rule, but not applied node by node. Of the ops that it
    `needs`, by name, one lies beneath every match: in a graph without them nobody looks.

    Functions (`guard`, `result`) name what they need: variables of the pattern (nodes; numbers for
    stand-ins of numbers), `node` for the whole match, `known` for a function from nodes to their
    facts.
    """

    name: str
    pattern: Pattern
    result: Pattern | bool | int | float | ByName | None
    law: str
    example: Callable[..., Any]
    guard: ByName | None = None
    kinds: str = ""
    reorders: bool = False
    doc: str = ""
    needs: frozenset[str] = frozenset()

    @cached_property
    def orders(self) -> tuple[Pattern, ...]:
        """The pattern in every order of the arguments of its commutative ops."""
        return tuple(orders(self.pattern))

    def __str__(self) -> str:
        shown = self.result is None or isinstance(self.result, ByName)
        after = self.doc if shown else text(self.result)
        return f"{text(self.pattern)}  ->  {after}"

    def example_nodes(self) -> list[Node]:
        """The graph of the example: outputs before rewriting."""
        made = self.example(*map(example_symbol, parameters_of(self.example)))
        return list(made) if isinstance(made, (list, tuple)) else [made]


RULES: dict[str, Rule] = {}

_EXAMPLES: dict[str, tuple[tuple[int, ...], str]] = {
    **dict.fromkeys("uv", ((4,), "float64")),
    **dict.fromkeys("xyz", ((3, 4), "float64")),
    **dict.fromkeys("abc", ((3, 4), "float32")),
    **dict.fromkeys("ijk", ((3, 4), "int64")),
    **dict.fromkeys("pqr", ((3, 4), "bool")),
    **dict.fromkeys("fg", ((2, 3, 4), "float64")),
    **dict.fromkeys("st", ((), "float64")),
}


def example_symbol(name: str) -> Node:
    """The symbol that a parameter of an example stands for, by its letter.

    u v: float64[4]; x y z: float64[3, 4]; a b c: float32[3, 4]; i j k: int64[3, 4]; p q r: bool[3,
    4]; f g: float64[2, 3, 4]; s t: float64.
    """
    shape, dtype = _EXAMPLES[name]
    return symbol(name, shape, dtype)


def rule(
    name: str,
    pattern: Pattern,
    result: Any,
    *,
    law: str,
    example: Callable[..., Any],
    guard: Callable[..., bool] | None = None,
    kinds: str = "",
    reorders: bool = False,
    doc: str = "",
    needs: tuple[str, ...] = (),
) -> Rule:
    """Declare a rule and enter it in `RULES`, where `rewrite` finds it.

    `kinds` restricts it to matches of a dtype kind ("b" bool, "i" integers, "f" floats); `guard` to
    matches for which it gives true. `example` builds a graph, out of symbols that its parameters
    name (`example_symbol`), in which the rule fires. Raises `GraphError` if the name is taken, the
    law unknown, or a result function comes without `doc`.

    >>> from graphc.rewrite.pattern import functions, variables
    >>> (x,), (log,) = variables("x"), functions("log")
    >>> made = rule("example", log(x * x), 2 * log(abs(x)), law="real", example=lambda x: log(x**2))
    >>> str(RULES.pop("example"))
    'log(x * x)  ->  2 * log(absolute(x))'
    """
    if name in RULES:
        raise GraphError(f"a rule named {name!r} is declared already")
    if law not in LAWS:
        raise GraphError(f"rule {name!r}: {law!r} is not a law; laws are {', '.join(LAWS)}")
    if (callable(result) or result is None) and not doc:
        raise GraphError(f"rule {name!r}: a result function needs a doc that says what it gives")
    made = Rule(
        name,
        pattern,
        ByName(result) if callable(result) else result,
        law,
        example,
        None if guard is None else ByName(guard),
        kinds,
        reorders,
        doc,
        frozenset(needs),
    )
    RULES[name] = made
    return made


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that fired on `before`, giving `after`; `origin` are the events of `before`."""

    rule: Rule
    before: Node
    after: Node
    origin: origin.Events
