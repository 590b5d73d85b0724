"""Why does a compiled graph differ from what was written?  The firings of a rewriting, to print.

Each tells the rule and its law, the line of the user's code, and the expression before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphc.origin import location
from graphc.rewrite.pipeline import nodes_of, rewrite
from graphc.rewrite.rule import Firing

_OPERATIONS_SHOWN = 6
_FIRINGS_SHOWN = 200


@dataclass(frozen=True)
class Explanation:
    """The firings of one rewriting. `str` lists the first of them and counts all by rule."""

    math: str
    firings: list[Firing]
    complete: bool = True

    def __iter__(self) -> Iterator[Firing]:
        return iter(self.firings)

    def __len__(self) -> int:
        return len(self.firings)

    def counts(self) -> Counter[str]:
        """How often each rule fired, by name."""
        return Counter(firing.rule.name for firing in self.firings)

    def __str__(self) -> str:
        lines = [f'{len(self.firings)} firings of {len(self.counts())} rules, math="{self.math}"']
        for firing in self.firings[:_FIRINGS_SHOWN]:
            lines += _shown(firing)
        hidden = len(self.firings) - _FIRINGS_SHOWN
        if hidden > 0:
            lines.append(f"... and {hidden} more")
        if not self.complete:
            lines.append("the bound on the work was met: not all rules have been applied")
        return "\n".join(lines)

    __repr__ = __str__


def _shown(firing: Firing) -> list[str]:
    from graphc.display.text import to_expression

    where = location(firing.origin)
    head = f"{firing.rule.name} [{firing.rule.law}]" + (f" at {where}" if where else "")
    before, after = (
        to_expression(node, _OPERATIONS_SHOWN) for node in (firing.before, firing.after)
    )
    return [head, f"    {before}  ->  {after}"]


def explain(graph_or_nodes: Any, math: str = "ieee") -> Explanation:
    """What rewriting does to a node, a Graph or a container of nodes, and why: an object to print.

    >>> from graphc.ops.operands import symbol
    >>> x = symbol("x", 3)
    >>> print(str(explain(-(-x))).splitlines()[-1].strip())
    --x  ->  x
    """
    found = rewrite(nodes_of(graph_or_nodes), math)
    return Explanation(math, found.firings, found.complete)
