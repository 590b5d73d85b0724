"""Are arguments that are given by name put in order natively, and are mistakes told as ever?"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.runtime import fastpath
from graphc.runtime.leaf import make_function

NAMES = ("left", "middle", "right")
left, middle, right = (gx.vector(name, "n") for name in NAMES)
VALUES = {name: np.arange(4.0) + 10.0**k for k, name in enumerate(NAMES)}
EXPECTED = VALUES["left"] * 2 + VALUES["middle"] * 3 - VALUES["right"]


class Watched:
    """A Function, and how often it has taken the slow path."""

    def __init__(self, inputs: Any, outputs: Any) -> None:
        implementation = gx.compile(inputs, outputs)._impl
        original, self.slow_calls = implementation.slow, 0

        def slow(*arguments: Any, **named: Any) -> Any:
            self.slow_calls += 1
            return original(*arguments, **named)

        implementation.slow = slow
        implementation.descriptor.count_down(fastpath.NEVER)
        self.call = make_function(implementation)


@pytest.fixture(scope="module")
def watched() -> Watched:
    return Watched([left, middle, right], left * 2 + middle * 3 - right)


def ways() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Which arguments come by position, and the others' names in every order."""
    for count in range(len(NAMES)):
        for named in itertools.permutations((*NAMES[count:], "out")):
            yield NAMES[:count], named
            yield NAMES[:count], tuple(name for name in named if name != "out")


@pytest.mark.parametrize("hastened", [False, True])
def test_every_order_of_names_is_native(watched: Watched, hastened: bool) -> None:
    if hastened:
        watched.call._impl.hasten()
    for placed, named in ways():
        before = watched.slow_calls
        given = {name: VALUES[name] for name in named if name != "out"}
        arguments = [VALUES[name] for name in placed]
        np.testing.assert_array_equal(watched.call(*arguments, **given), EXPECTED)
        if "out" in named:
            out = np.empty(4)
            ordered = {name: out if name == "out" else VALUES[name] for name in named}
            assert watched.call(*arguments, **ordered) is out
            np.testing.assert_array_equal(out, EXPECTED)
            unset = {name: None if name == "out" else VALUES[name] for name in named}
            np.testing.assert_array_equal(watched.call(*arguments, **unset), EXPECTED)
        assert watched.slow_calls == before


MISTAKES: list[tuple[tuple[str, ...], dict[str, str]]] = [
    ((), {}),
    (("left",), {"left": "left", "middle": "middle", "right": "right"}),
    (("left",), {"middle": "middle"}),
    (("left",), {"middle": "middle", "wrong": "right"}),
    ((), {"left": "left", "middle": "middle", "right": "right", "wrong": "right"}),
    (NAMES, {"left": "left"}),
    (NAMES, {"wrong": "left", "out": "left"}),
    ((*NAMES, "left"), {"out": "left"}),
    ((*NAMES, "left"), {"right": "left"}),
]


@pytest.mark.parametrize(("placed", "named"), MISTAKES)
def test_mistakes_are_those_of_the_slow_path(
    watched: Watched, placed: tuple[str, ...], named: dict[str, str]
) -> None:
    arguments = [VALUES[name] for name in placed]
    given = {name: VALUES[value] for name, value in named.items()}
    plain = make_function(watched.call._impl, plain=True)
    with pytest.raises(TypeError) as expected:
        plain(*arguments, **given)
    with pytest.raises(TypeError) as caught:
        watched.call(*arguments, **given)
    assert str(caught.value) == str(expected.value)


def test_names_that_only_their_text_tells_are_found(watched: Watched) -> None:
    made = {"".join([name[:1], name[1:]]): value for name, value in VALUES.items()}
    np.testing.assert_array_equal(watched.call(**made), EXPECTED)


def test_scalars_and_other_layouts_by_name() -> None:
    s = gx.scalar("s")
    watched = Watched([left, s], left * s)
    value = np.arange(8.0)
    np.testing.assert_array_equal(watched.call(s=2.0, left=value), value * 2)
    assert watched.slow_calls == 0
    watched.call(value[::2], 2)  # compiles the program for any strides
    before = watched.slow_calls
    np.testing.assert_array_equal(watched.call(s=2, left=value[::2]), value[::2] * 2)
    assert watched.slow_calls == before


def test_an_input_named_out_is_given_by_position() -> None:
    out = gx.vector("out", "n")
    value, result = np.arange(3.0), np.empty(3)
    f = gx.compile([out, left], out * 2 + left)
    with pytest.raises(TypeError):
        f(out=result, left=value)
    np.testing.assert_array_equal(f(value, left=value, out=result), 3 * value)
    np.testing.assert_array_equal(f(value, left=value), 3 * value)


def test_containers_still_take_no_names() -> None:
    f = gx.compile([{"left": left}, right], left + right)
    with pytest.raises(TypeError, match="by position"):
        f(left={"left": VALUES["left"]}, right=VALUES["right"])


def test_references_are_balanced(watched: Watched) -> None:
    given, out = dict(VALUES), np.empty(4)

    def calls() -> None:
        for _ in range(300):
            watched.call(**given)
            watched.call(out=out, **given)
            watched.call(given["left"], right=given["right"], middle=given["middle"])
            with pytest.raises(ValueError, match="shape"):
                watched.call(out=np.empty(3), **given)

    calls()
    kept = [*given.values(), out, *NAMES]
    before = [*map(sys.getrefcount, kept)]
    calls()
    grown = [after - was for after, was in zip(map(sys.getrefcount, kept), before, strict=True)]
    assert all(abs(difference) < 50 for difference in grown), grown
