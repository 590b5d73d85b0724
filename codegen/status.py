"""What does a program report when it returns?  The status record, words that every kernel sees.

The layout is part of what compiled code is called with: docs/decisions/0003-the-call.md.
"""

from __future__ import annotations

from enum import IntEnum

STATUS_WORDS = 8


class Status(IntEnum):
    """Words of the status record. The first five are public; the rest belong to the entry and to
    `poll`.
    """

    CODE = 0
    NODE = 1
    INDEX = 2
    EXTENT = 3
    CANCEL = 4
    STATE = 5
    """0: signals are not polled; 1: the caller holds the GIL; else the thread state it saved on
    releasing it.
    """
    DEADLINE = 6
    """Clock ticks at which `poll` next looks for signals; 0 before the first look."""
    POLL = 7
    """The address of `poll`, for loops inside kernels; 0 if nobody is to be asked."""


class Code(IntEnum):
    """Values of the status word CODE."""

    SUCCESS = 0
    INDEX_OUT_OF_RANGE = 1
    CONSTRAINT_VIOLATED = 2
    CHECK_FAILED = 3
    DIVISION_BY_ZERO = 4
    CANCELLED = 5
    OUT_OF_MEMORY = 6
    UNFIT_MATRIX = 7
