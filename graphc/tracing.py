"""What is known of the function that is being traced now?

`gx.jit` traces a function with symbolic extents, but it does so for the sake of one call, whose
sizes it knows. When the function asks a question about extents in Python (`if x.shape[0] > 8:`),
the sizes of that call answer it and the answer becomes a *guard* of the trace: a call for which the
answer differs is traced anew. Where a number itself is needed (`range(len(x))`) the dimension is
noted here, and the trace begins again with that extent as a number. Outside of a trace there is
nobody to ask, and extents refuse as they always did.
"""

from __future__ import annotations

import contextlib
import contextvars
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc import origin

if TYPE_CHECKING:
    from graphc.node import Node

RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Guard:
    """A question about extents that Python code asked while it was traced, and its answer."""

    left: Any
    relation: str
    right: Any
    answer: bool
    where: str

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the answer is the same at other sizes."""
        left, right = _size(self.left, sizes), _size(self.right, sizes)
        return RELATIONS[self.relation](left, right) is self.answer

    def __str__(self) -> str:
        return f"({self.left} {self.relation} {self.right}) is {self.answer}" + (
            f", asked at {self.where}" if self.where else ""
        )


class Trace:
    """One run of a function with placeholders for its arguments.

    `sizes` are the extents of the call that it is made for, by the names of dimensions; `labels`
    name placeholders after the arguments. `guards` are the questions asked so far; `wanted` are the
    dimensions whose number was asked for, with the place that did; `generated` are those of arrays
    that stand for NumPy's own (`graphc.substitutes`).
    """

    __slots__ = ("generated", "guards", "labels", "sizes", "title", "wanted")

    def __init__(self, title: str, sizes: Mapping[str, int]) -> None:
        self.title = title
        self.sizes = dict(sizes)
        self.labels: dict[Node, str] = {}
        self.guards: dict[Guard, None] = {}
        self.wanted: dict[str, str] = {}
        self.generated: dict[str, str] = {}


_current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar(
    "graphc_trace", default=None
)


def current() -> Trace | None:
    """The trace that this thread of execution is in, if any."""
    return _current.get()


@contextlib.contextmanager
def entered(trace: Trace | None) -> Iterator[Trace | None]:
    """Make `trace` (None: no trace) the current one within a `with` block."""
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)


def label(node: Node) -> str | None:
    """The argument that a placeholder stands for in the current trace."""
    trace = _current.get()
    return None if trace is None else trace.labels.get(node)


def decide(left: Any, relation: str, right: Any, users_only: bool = False) -> bool | None:
    """The answer to a comparison of extents in the current trace; None where nobody knows it.

    `users_only`: answer only if the comparison stands in code outside graphc. Equality has a
    meaning of its own inside, where it asks whether two extents are written alike.
    """
    trace = _current.get()
    if trace is None:
        return None
    if users_only and sys._getframe(2).f_globals.get("__name__", "").partition(".")[0] == "graphc":
        return None
    try:
        first, second = _size(left, trace.sizes), _size(right, trace.sizes)
    except KeyError:
        return None  # a dimension that is none of the arguments'
    answer = RELATIONS[relation](first, second)
    guard = Guard(left, relation, right, answer, origin.location(origin.user_frame(2)))
    trace.guards[guard] = None
    return answer


def want_number(extent: Any) -> None:
    """Note that Python needs the number behind an extent, for the trace to begin again with it."""
    trace = _current.get()
    if trace is not None and extent.symbols <= trace.sizes.keys():
        where = origin.location(origin.user_frame(2))
        for name in extent.symbols:
            trace.wanted.setdefault(name, where)


def note_generated(extents: Any) -> None:
    """Note that a function of NumPy that would need the numbers behind extents was given these."""
    trace = _current.get()
    if trace is None:
        return
    where = origin.location(origin.user_frame(2))
    for extent in extents:
        for name in extent.symbols & trace.sizes.keys():
            trace.generated.setdefault(name, where)


def _size(extent: Any, sizes: Mapping[str, int]) -> int:
    if isinstance(extent, int):
        return extent
    missing = extent.symbols - sizes.keys()
    if missing:
        raise KeyError(*missing)
    size: int = extent.evaluate(sizes)
    return size
