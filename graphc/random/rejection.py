"""How is drawn until accepted?  In rounds over the whole array, with a fresh key each.

A round proposes for every element and keeps the proposals that are accepted where none was before,
so the result depends on the key and the parameters alone, not on how work is cut up. Acceptance
is at least 0.7 everywhere it is used, so the bound is never met in practice (0.3**128 < 2**-222);
it is there so that a loop ends whatever the parameters are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphc as gx
from graphc.ops.random import drawn_op
from graphc.random.keys import inner

MOST_ROUNDS = 128

Proposal = Callable[[gx.Node], tuple[gx.Node, gx.Node]]


def first_accepted(key: gx.Node, initial: gx.Node, settled: gx.Node, propose: Proposal) -> gx.Node:
    """The first accepted value of each element; `initial` where it is `settled` from the start.

    `propose(key)` gives values and which of them are accepted.
    """

    def pending(state: Any) -> gx.Node:
        round_, _, done = state
        return gx.any(gx.logical_not(done)) & (round_ < MOST_ROUNDS)

    def attempt(state: Any) -> Any:
        round_, value, done = state
        proposed, accepted = propose(inner(key, round_))
        return round_ + 1, gx.where(done, value, proposed), done | accepted

    start = (gx.zeros((), "int64"), initial, settled)
    return gx.while_loop(pending, attempt, start)[1]


def opaque(value: gx.Node) -> gx.Node:
    """The value, with an error instead of a derivative: rejection jumps."""
    return drawn_op(value)
