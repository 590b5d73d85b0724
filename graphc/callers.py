"""Which function did the user's line call?  Its name as written, from the bytecode of the call.

An expression that is asked for its value inside of C code, or deep inside of NumPy's own Python
code, sees no name of the function that the user called. The instruction that is being executed
knows where its text stands, and the instructions that loaded the function begin at the same place:
together they spell `np.random.normal`, whether the text is at hand or not.
"""

from __future__ import annotations

import builtins
import dis
import functools
import sys
from types import CodeType, FrameType
from typing import Any

from graphc import origin

_VARIABLES = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame that is neither graphc's nor NumPy's."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and not origin.is_user(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame


def called(frame: FrameType | None) -> str:
    """The function that a frame is calling, as it is written; empty if it calls none by name."""
    return "" if frame is None else _called(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=1024)
def _called(code: CodeType, position: int) -> str:
    # The last one that has begun: within a call of a Python function, its caches have been passed.
    instructions = [i for i in dis.get_instructions(code) if i.offset <= position]
    if not instructions or not instructions[-1].opname.startswith("CALL"):
        return ""
    where = instructions[-1].positions
    if where is None or where.lineno is None or where.col_offset is None:
        return ""
    start = (where.lineno, where.col_offset)
    names: list[str] = []
    for instruction in instructions[:-1]:
        place = instruction.positions
        if place is None or (place.lineno, place.col_offset) != start:
            continue
        if instruction.opname.startswith(_VARIABLES):
            names = [str(instruction.argval)]
        elif instruction.opname.startswith(_ATTRIBUTES) and names:
            names.append(str(instruction.argval))
        elif instruction.opname.startswith(("CALL", "BINARY")):
            names = []  # the function is the result of another call, or an item
    return ".".join(names)


def meant(name: str, frame: FrameType | None) -> Any:
    """What a dotted name stands for in a frame; None if nothing."""
    if frame is None or not name:
        return None
    first, *rest = name.split(".")
    for scope in (frame.f_locals, frame.f_globals, vars(builtins)):
        if first in scope:
            found = scope[first]
            break
    else:
        return None
    for part in rest:
        found = getattr(found, part, None)
    return found


def home(function: Any) -> str:
    """The module that a function is of, or the object whose method it is."""
    module = getattr(function, "__module__", None)
    if module is None:
        module = type(getattr(function, "__self__", None)).__module__
    return str(module)
