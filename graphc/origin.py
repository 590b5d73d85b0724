"""Where did a node come from?  Events: a line of the user's code, a derivative taken, a rule fired.

A node keeps a small set of events. The first is recorded when it is built; more are added when the
same expression is written again elsewhere (interning makes it the same node) and when a rewrite
makes it out of others. Events never enter a digest, so they cannot change generated code. Frames
inside graphc and NumPy are recognised by their module's name and passed over.
"""

from __future__ import annotations

import contextvars
import functools
import opcode
import sys
from types import CodeType
from typing import Any

LIMIT = 8  # events kept for a node


class Event:
    """One reason why a node exists.

    `kind` is "frame" (file, line and function say where), "vjp", "jvp" (of `subject`, an op's name;
    `because` are the events of the node that was differentiated), or "rule" (named `subject`).
    """

    __slots__ = ("because", "file", "function", "kind", "line", "subject")

    def __init__(
        self,
        kind: str,
        subject: str = "",
        file: str = "",
        line: int = 0,
        function: str = "",
        because: tuple[Event, ...] = (),
    ) -> None:
        self.kind = kind
        self.subject = subject
        self.file = file
        self.line = line
        self.function = function
        self.because = because

    def __str__(self) -> str:
        if self.kind == "frame":
            return f"{self.file}:{self.line}"
        where = next(
            (f" built at {e.file}:{e.line}" for e in self.because if e.kind == "frame"), ""
        )
        return f"{self.kind} {self.subject}{where}" if self.kind == "rule" else (
            f"{self.kind} of {self.subject}{where}"
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    def __reduce__(self) -> Any:
        fields = (self.kind, self.subject, self.file, self.line, self.function, self.because)
        return (Event, fields)


Events = tuple[Event, ...]

_enabled: contextvars.ContextVar[bool] = contextvars.ContextVar("graphc_origins", default=True)
_context: contextvars.ContextVar[Events] = contextvars.ContextVar("graphc_event", default=())
# By where code lies and an instruction in it, for to hash code takes long: its event, and the code,
# which stays where it is.
_frames: dict[tuple[int, int], tuple[Events, CodeType]] = {}


class origins:
    """Switch the recording of origins on or off within a `with` block, in this thread of execution.
    """

    __slots__ = ("_enabled", "_token")

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self._token = _enabled.set(self._enabled)

    def __exit__(self, *_: object) -> None:
        _enabled.reset(self._token)


class because:
    """Within the block every node that is built carries these events ahead of the user's frame."""

    __slots__ = ("_events", "_token")

    def __init__(self, *events: Event) -> None:
        self._events = events

    def __enter__(self) -> None:
        self._token = _context.set(self._events)

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


def current(depth: int = 1) -> Events:
    """The events of a node that is being built now: the enclosing transformation's, else the user's
    frame.
    """
    if not _enabled.get():
        return ()
    return _context.get() or user_frame(depth + 1)


# Modules of the package that use graphc as anybody would: their lines are worth showing.
_USERS = frozenset(("graphc.bench", "graphc.demo"))


# How names begin of modules that are no user's: what they call, they call for somebody else.
_LIBRARIES = ("graphc", "numpy.")


@functools.lru_cache(maxsize=4096)
def is_user(name: str) -> bool:
    """Whether a module is neither graphc's nor of NumPy's own Python code."""
    if not name.startswith(_LIBRARIES) or name in _USERS:
        return True
    return name != "graphc" and not name.startswith(("graphc.", "numpy."))


def user_frame(depth: int = 1) -> Events:
    """The user's innermost frame, as a tuple of one event; empty if there is none."""
    frame = sys._getframe(depth)
    while frame is not None:
        if is_user(frame.f_globals.get("__name__", "")):
            code = frame.f_code
            key = (id(code), frame.f_lasti)
            found = _frames.get(key)
            if found is None:
                event = Event("frame", "", code.co_filename, frame.f_lineno, code.co_name)
                found = _frames[key] = ((event,), code)
            return found[0]
        frame = frame.f_back  # type: ignore[assignment]
    return ()


def user_instruction(depth: int = 1) -> str:
    """The name of the instruction that the user's innermost frame is at."""
    frame = sys._getframe(depth)
    while frame is not None:
        if is_user(frame.f_globals.get("__name__", "")):
            return opcode.opname[frame.f_code.co_code[frame.f_lasti]]
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def unite(first: Events, second: Events) -> Events:
    """Both sets of events, first come first kept, at most `LIMIT`."""
    if first is second or not second:
        return first
    if not first:
        return second
    if len(first) >= LIMIT:
        return first
    added = tuple([event for event in second if event not in first])
    return (first + added)[:LIMIT] if added else first


def location(events: Events) -> str:
    """ "file:line" of the user's code that events lead to, or an empty string."""
    stack = list(reversed(events))
    while stack:
        event = stack.pop()
        if event.kind == "frame":
            return f"{event.file}:{event.line}"
        stack.extend(reversed(event.because))
    return ""
