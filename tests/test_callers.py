"""Which function did a line call? Every form of a call, from the bytecode alone."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest

from graphc import callers


class Asks:
    """An object that is asked for its length: which function did the asking frame call?"""

    def __init__(self) -> None:
        self.found = "not asked"

    def __len__(self) -> int:
        frame: FrameType | None = sys._getframe(1)
        self.found = callers.called(frame)
        return 0

    def look(self, *_: Any, **__: Any) -> Asks:
        len(self)
        self.found = callers.called(sys._getframe(1))
        return self


def outer(*values: Any, **_: Any) -> None:
    """A function of Python: the user's frame is one further out."""
    values[0].found = callers.called(sys._getframe(1))


SCOPE = {"np": np, "outer": outer, "table": [outer], "Asks": Asks, "sys": sys}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("len(x)", "len"),
        ("outer(x)", "outer"),
        ("outer(x, 1, key=2)", "outer"),
        ("outer(*[x])", "outer"),
        ("outer(*[x], **{'key': 1})", "outer"),
        ("outer(\n    x,\n    [1, 2],\n)", "outer"),
        ("x.look()", "x.look"),
        ("x.look(1, key=2)", "x.look"),
        ("np.size(np.zeros(0)) or x.look()", "x.look"),
        ("table[0](x)", ""),
        ("x.look().look()", ""),
        ("not x", ""),
        ("[outer(x) for _ in range(1)]", "outer"),
        ("(lambda: outer(x))()", "outer"),
    ],
)
def test_the_name_of_a_call(line: str, expected: str) -> None:
    x = Asks()
    exec(compile(line, "a line without a file", "exec"), {**SCOPE, "x": x})
    assert x.found == expected


def test_locals_and_closures_have_names() -> None:
    x, alias = Asks(), outer

    def inner() -> None:
        alias(x)

    inner()
    assert x.found == "alias"
    alias(x)
    assert x.found == "alias"


def test_what_a_name_means() -> None:
    frame = sys._getframe()
    assert callers.meant("np.random.normal", frame) == np.random.normal
    assert callers.meant("len", frame) is len
    assert callers.meant("np.nothing.at.all", frame) is None
    assert callers.meant("nobody", frame) is None
    assert callers.meant("", frame) is None
    assert callers.home(np.random.normal).startswith("numpy.random")
    assert callers.home(np.random.default_rng(0).normal).startswith("numpy.random")
    assert callers.home(np.sum).startswith("numpy")
