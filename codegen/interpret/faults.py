"""What goes wrong?  A check fails in the words of a user, or a rule of a language is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class InterpreterError(Exception):
    """A kernel or a program did what its language forbids: a fault of graphc, never of its user."""


@dataclass(frozen=True)
class Failure:
    """A check that failed at run time, in the words of a status record."""

    code: int
    node: int
    index: int


def described(array: Any) -> str:
    return f"{array.dtype.name}{list(array.shape)}"
