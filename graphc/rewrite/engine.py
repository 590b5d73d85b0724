"""How are rules applied to a graph?  Bottom up, to a fixed point, within a bound.

Every node is rebuilt over arguments in normal form; then the first rule that matches replaces it,
and the replacement is brought to normal form in turn. A node's normal form depends on nothing but
what lies beneath it (and on which reciprocals many products of the graph take), so it is kept, and
equal expressions share it. Rules are indexed by the ops of
a node and of its arguments: a node that no rule is about costs one look-up. The walk keeps its own
stack, so depth costs nothing.

The number of firings is bounded by the size of the graph; when it is used up, what has been reached
is the answer. A rule that raises, or whose result has another type, is refused with a warning, and
the node stays as it was.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from types import MappingProxyType
from typing import Any

from graphc import dtypes, origin
from graphc.graph import Graph
from graphc.lowering import Region
from graphc.node import NO_ATTRIBUTES, Attributes, Node, add_origin, intern, topological
from graphc.op import Op
from graphc.ops.arithmetic import divide_op, multiply_op
from graphc.ops.operands import constant_op
from graphc.rewrite.facts import FactTable
from graphc.rewrite.pattern import (
    TRANSPARENT,
    AnyNumber,
    Apply,
    Family,
    Found,
    Literal,
    Number,
    Pattern,
    Variable,
    at_type,
    build,
    matches,
    number_of,
    same_number,
)
from graphc.rewrite.rule import ByName, Firing, Rule
from graphc.types import TensorType

FIRINGS_PER_NODE = 16
FIRINGS_AT_LEAST = 4096
NO_LEAVES: Mapping[Node, Node] = MappingProxyType({})
_OTHER = -1  # in place of the number of what no rule tells apart
_MANY_PRODUCTS = 3  # for which one quotient is taken
_INDEXED_ARGUMENTS = 3
_ANYTHING = Variable("anything")
_CONSTANT_LIKE = TRANSPARENT | {constant_op}

Candidate = tuple[Rule, Pattern]

_MOST_KEYS = 1 << 14  # kinds of nodes of an op whose patterns are remembered
_RULE_SETS = 8  # whose indexes are kept: levels of math with and without what users exclude


class _About:
    """The rules about nodes of one op, in their order, and which of them may match over what, as it
    is met. A set of them is a number with a bit for each.
    """

    __slots__ = ("_masks", "_of_op", "candidates", "rules", "telling")

    def __init__(self, rules: list[Candidate]) -> None:
        self.rules = rules
        # By place among the arguments: the ops of arguments there, and whether rules tell them
        # apart. To the others all arguments of such ops are the same.
        self.telling: tuple[dict[Op, bool], ...] = tuple({} for _ in range(_INDEXED_ARGUMENTS))
        # By how many arguments a node has, and what is known of the first of them.
        self.candidates: dict[tuple[int, ...], tuple[Candidate, ...]] = {}
        self._masks: dict[tuple[int, int], int] = {}  # by place and what is known of what is there
        self._of_op: dict[tuple[int, Op], tuple[int, list[tuple[int, Pattern]]]] = {}

    def tells(self, place: int, argument: Op) -> bool:
        """Whether the rules tell an argument of that op, at a place, from others."""
        for _, pattern in self.rules:
            if isinstance(pattern, Family):
                if pattern.over is not None and argument in pattern.over:
                    return True
            elif isinstance(pattern, Apply) and place < len(pattern.args):
                part = pattern.args[place]
                if not isinstance(part, Variable) and _may_stand(part, argument):
                    return True
        return False

    def matching(
        self, key: tuple[int, ...], args: Sequence[Node], may_be: Callable[..., bool]
    ) -> tuple[Candidate, ...]:
        """The rules that agree with a node of such a key, and such arguments, in what is known of
        them. `may_be(part, argument)` says so of a part of a pattern.
        """
        several = [
            not isinstance(pattern, Apply) or len(pattern.args) == len(args)
            for _, pattern in self.rules
        ]
        found = _mask(several)
        for place, tag in enumerate(key[1:]):
            mask = self._masks.get((place, tag))
            if mask is None:
                argument = args[place]
                mask, asking = self._over(place, argument.op)
                mask += sum([1 << i for i, part in asking if may_be(part, argument)])
                self._masks[place, tag] = mask
            found &= mask
        return tuple([rule for i, rule in enumerate(self.rules) if found >> i & 1])

    def _over(self, place: int, op: Op) -> tuple[int, list[tuple[int, Pattern]]]:
        """The rules that agree with any argument of an op at a place, and, by number, those that
        ask for more, with what they ask it of.
        """
        known = self._of_op.get((place, op))
        if known is None:
            agreeing, asking = 0, []
            for i, (_, pattern) in enumerate(self.rules):
                part = _part_at(pattern, place)
                if isinstance(part, Variable) or isinstance(part, Family) and part.test(op):
                    agreeing += 1 << i
                elif not isinstance(part, Family) and _may_stand(part, op):
                    asking.append((i, part))
            known = self._of_op[place, op] = agreeing, asking
        return known

    def forget(self) -> None:
        self.candidates.clear()
        self._masks.clear()


def _mask(flags: Iterable[bool]) -> int:
    return sum([1 << i for i, flag in enumerate(flags) if flag])


def _part_at(pattern: Pattern, place: int) -> Pattern:
    """What a pattern about nodes of its op says of the argument at a place."""
    if isinstance(pattern, Family):
        over = pattern.over
        return _ANYTHING if over is None else Family(pattern.title, over.__contains__)
    assert isinstance(pattern, Apply)
    return pattern.args[place] if place < len(pattern.args) else _ANYTHING


@dataclass(frozen=True)
class _Index:
    """What a set of rules comes to: patterns in every order, the numbers that they ask for, and,
    as they are met, what each op's are.
    """

    variants: tuple[Candidate, ...]
    literals: frozenset[str]
    by_op: dict[Op, _About] = field(default_factory=dict)
    numbers: dict[Any, int] = field(default_factory=dict)  # of what is known of arguments
    serial: Iterator[int] = field(default_factory=itertools.count)

    def number(self, tag: Any) -> int:
        """A number for what is known of an argument, which is quicker to look up."""
        found = self.numbers.get(tag)
        if found is None:
            found = self.numbers[tag] = next(self.serial)
        return found

    def forget(self) -> None:
        """Make room. Numbers that were given are not given again."""
        for about in self.by_op.values():
            about.forget()
        self.numbers.clear()

    def about(self, op: Op) -> _About:
        """The rules about nodes of an op, whatever their arguments."""
        found = self.by_op.get(op)
        if found is None:
            found = self.by_op[op] = _About(
                [(rule, pattern) for rule, pattern in self.variants if _may_stand(pattern, op)]
            )
        return found


@functools.lru_cache(_RULE_SETS)
def _index_of(rules: tuple[Rule, ...]) -> _Index:
    """The index of these rules, which graph after graph fills and uses."""
    variants = [
        (rule, pattern) for rule in rules if rule.result is not None for pattern in rule.orders
    ]
    literals = {repr(value) for _, pattern in variants for value in _literals(pattern)}
    return _Index(tuple(variants), frozenset(literals))


class Engine:
    """Brings nodes to normal form under a set of rules; keeps what it has found, across calls."""

    def __init__(
        self, rules: Iterable[Rule], body: Callable[[Graph], Graph] = lambda graph: graph
    ) -> None:
        """`body` rewrites the Graphs that nodes carry."""
        self._index = _index_of(tuple(rules))
        self._normal: dict[Node, Node] = {}
        self._replacing: set[Node] = set()
        self._met: set[str] = set()  # names of the ops in all that has a normal form
        self._tags: dict[Node, int] = {}
        self._numbers: dict[Node, Number | None] = {}
        self._known = FactTable()
        self._body = body
        self._fuel = 0
        self._records_origins = origin._enabled.get()
        self.has_regions = False
        self.firings: list[Firing] = []
        self.refused: list[tuple[Rule, Node, str]] = []

    @property
    def exhausted(self) -> bool:
        """Whether a rule was held back because the bound on the work was met."""
        return self._fuel <= 0

    def run(
        self,
        outputs: Sequence[Node],
        order: Sequence[Node] | None = None,
        leaves: Mapping[Node, Node] = NO_LEAVES,
    ) -> list[Node]:
        """The outputs in normal form. `order`, if it is known: all that they need, arguments first.
        Nodes are put in the place of some `leaves`, without what stands over these being made over
        those before it is simplified.
        """
        if order is None or self._normal:
            order = topological(outputs, known=self._normal)
        self._fuel += max(FIRINGS_AT_LEAST, FIRINGS_PER_NODE * len(order))
        normal = self._normal
        for leaf, given in leaves.items():
            normal[leaf] = normal[given] = given
            self._met.add(given.op.name)
        shared = _shared_reciprocals(order)
        with origin.origins(False):
            for node in order:
                if node not in normal:
                    self._enter(node)
                if shared and node in shared:
                    self._known.shared.add(normal[node])
        return [normal[node] for node in outputs]

    def _enter(self, node: Node) -> None:
        """Enter the normal form of a node whose arguments have theirs."""
        normal = self._normal
        rebuilt = self._rebuild(node)
        if rebuilt not in normal:
            replacement = self._replace(rebuilt)
            if replacement is not None:
                self._replacing.add(rebuilt)
                self._normalize([(node, rebuilt, replacement), replacement])
                return
            normal[rebuilt] = rebuilt
            self._met.add(rebuilt.op.name)
        normal[node] = normal[rebuilt]

    def _normalize(self, stack: list[Any]) -> None:
        """Enter the normal forms of all on a stack: nodes, and beneath each replacement what waits
        for its normal form.
        """
        normal = self._normal
        while stack:
            top = stack.pop()
            if type(top) is tuple:
                node, rebuilt, replacement = top
                self._replacing.discard(rebuilt)
                normal[node] = normal[rebuilt] = normal[replacement]
                continue
            if top in normal:
                continue
            waiting = [argument for argument in top.args if argument not in normal]
            if waiting:
                stack.append(top)
                stack += waiting
                continue
            rebuilt = self._rebuild(top)
            if rebuilt in normal:
                normal[top] = normal[rebuilt]
                continue
            replacement = None if rebuilt in self._replacing else self._replace(rebuilt)
            if replacement is None:
                normal[top] = normal[rebuilt] = rebuilt
                self._met.add(rebuilt.op.name)
                continue
            self._replacing.add(rebuilt)
            stack.append((top, rebuilt, replacement))
            stack.append(replacement)

    def _rebuild(self, node: Node) -> Node:
        """The node over the normal forms of its arguments, with its Graphs rewritten."""
        normal, args = self._normal, node.args
        attrs = node.attrs
        if attrs is not NO_ATTRIBUTES and isinstance(node.op.lowering, Region):
            self.has_regions = True
            attrs = self._with_bodies(attrs)
        settled = tuple([normal[argument] for argument in args])
        if attrs is not node.attrs:
            made = intern(node.op, settled, attrs)
            add_origin(made, node._origins)
            return made
        if all(map(is_, args, settled)):
            return node
        return intern(node.op, settled, attrs, like=node)

    def _with_bodies(self, attrs: Attributes) -> Attributes:
        changed = {
            name: self._with_body(value) for name, value in attrs.items()
        }
        same = all(changed[name] is value for name, value in attrs.items())
        return attrs if same else Attributes(changed)

    def _with_body(self, value: Any) -> Any:
        """An attribute with its Graphs rewritten; the same object if none changes."""
        if isinstance(value, Graph):
            return self._body(value)
        if type(value) is not tuple:
            return value
        changed = tuple(map(self._with_body, value))
        return value if all(a is b for a, b in zip(changed, value, strict=True)) else changed

    # -- rules -------------------------------------------------------------------------------------

    def _replace(self, node: Node) -> Node | None:
        """What the first rule that fires makes of a node; None if none does."""
        for rule, pattern in self._candidates(node):
            if rule.needs and self._met.isdisjoint(rule.needs):
                continue
            found: Found = {}
            if not matches(pattern, node, found, self._number):
                continue
            if rule.kinds and not _is_of_kind(node, rule.kinds):
                continue
            replacement = self._fire(rule, node, found)
            if replacement is not None:
                return replacement
        return None

    def _candidates(self, node: Node) -> tuple[Candidate, ...]:
        """The rules that may match a node, in their order."""
        args, index, tags = node.args, self._index, self._tags
        about = index.by_op.get(node.op) or index.about(node.op)
        if not about.rules:
            return ()
        key = [len(args)]
        for argument in args[:_INDEXED_ARGUMENTS]:
            told = about.telling[len(key) - 1]
            apart = told.get(argument.op)
            if apart is None:
                apart = told[argument.op] = about.tells(len(key) - 1, argument.op)
            if not apart:
                key.append(_OTHER)
                continue
            tag = tags.get(argument)
            if tag is None:
                tag = tags[argument] = index.number(self._tag(argument))
            key.append(tag)
        known = tuple(key)
        candidates = about.candidates.get(known)
        if candidates is None:
            if len(about.candidates) >= _MOST_KEYS:
                index.forget()
            candidates = about.matching(known, args, self._may_be)
            about.candidates[known] = candidates
        return candidates

    def _fire(self, rule: Rule, node: Node, found: Found) -> Node | None:
        if self._fuel <= 0:
            return None
        found["node"], found["known"] = node, self._known
        try:
            if rule.guard is not None and not rule.guard(found):
                return None
            made, events = self._built(rule, node, found)
        except Exception as error:  # a user's rule may raise anything; its graph is still good
            self._refuse(rule, node, f"{type(error).__name__}: {error}")
            return None
        if made is None or made is node:
            return None
        if made.type is not node.type:
            self._refuse(rule, node, f"its result is {made.type}, not {node.type}")
            return None
        if made.args and events:
            add_origin(made, events)
            add_origin(made, node._origins)
        self._fuel -= 1
        self.firings.append(Firing(rule, node, made, node._origins))
        return made

    def _built(self, rule: Rule, node: Node, found: Found) -> tuple[Node | None, origin.Events]:
        """The result, all of whose new nodes carry the event that the rule fired; that event."""
        if not self._records_origins:
            return _result(rule, node, found), ()
        label = origin.Event("rule", rule.name, because=node.origin)
        with origin.origins(True), origin.because(label):
            return _result(rule, node, found), origin.current()

    def _refuse(self, rule: Rule, node: Node, why: str) -> None:
        self.refused.append((rule, node, why))
        warnings.warn(
            f"rewrite rule {rule.name!r} was refused: {why}", RuntimeWarning, stacklevel=2
        )

    # -- the index ---------------------------------------------------------------------------------

    def _tag(self, argument: Node) -> Any:
        """What the index knows of an argument: its op, those beneath it, a number asked for."""
        op = argument.op
        if op not in _CONSTANT_LIKE:
            beneath = argument.args
            if not beneath:
                return op
            return (op, len(beneath), *[part.op for part in beneath[:_INDEXED_ARGUMENTS]])
        number = self._number(argument)
        if number is None:
            return (op, argument.args[0].op) if argument.args else op
        written = repr(number) if isinstance(number, bool) else repr(float(number))
        return (op, written if written in self._index.literals else "any")

    def _number(self, node: Node) -> Number | None:
        if node.op not in _CONSTANT_LIKE:
            return None
        numbers = self._numbers
        if node not in numbers:
            numbers[node] = number_of(node)
        return numbers[node]

    def _may_be(self, pattern: Pattern, argument: Node) -> bool:
        if isinstance(pattern, Apply):
            beneath = argument.args
            if pattern.op is not argument.op or len(pattern.args) != len(beneath):
                return False
            pairs = zip(pattern.args, beneath[:_INDEXED_ARGUMENTS], strict=False)
            if self._number(argument) is not None:
                return True  # such arguments are told apart by number only
            return all(_may_stand(part, node.op) for part, node in pairs)
        if isinstance(pattern, Family):
            return pattern.test(argument.op)
        if isinstance(pattern, Variable):
            return True
        number = self._number(argument)
        if number is None:
            return False
        return not isinstance(pattern, Literal) or same_number(number, pattern.value)


def _shared_reciprocals(order: Sequence[Node]) -> set[Node]:
    """The quotients of a number that many products take: each product for itself would divide."""
    products: Counter[Node] = Counter()
    for node in order:
        if node.op is multiply_op:
            products.update(a for a in node.args if a.op is divide_op)
    return {
        node
        for node, count in products.items()
        if count >= _MANY_PRODUCTS and node.args[0].op in _CONSTANT_LIKE
    }


def _may_stand(pattern: Pattern, op: Op) -> bool:
    """Whether a node of that op may match."""
    if isinstance(pattern, Apply):
        return pattern.op is op
    if isinstance(pattern, (Literal, AnyNumber)):
        return op in _CONSTANT_LIKE
    return not isinstance(pattern, Family) or pattern.test(op)


def _result(rule: Rule, node: Node, found: Found) -> Node | None:
    if not isinstance(rule.result, ByName):
        assert rule.result is not None
        return build(rule.result, found, node.type)
    made = rule.result(found)
    return made if made is None or isinstance(made, Node) else at_type(made, node.type)


def _is_of_kind(node: Node, kinds: str) -> bool:
    return isinstance(node.type, TensorType) and dtypes.kind(node.type.dtype) in kinds


def _literals(pattern: Pattern) -> list[Number]:
    """The numbers that stand as arguments of a pattern's root, floats but for truth values."""
    parts = pattern.args if isinstance(pattern, Apply) else ()
    values = [part.value for part in parts if isinstance(part, Literal)]
    return [value if isinstance(value, bool) else float(value) for value in values]
