"""Is nonsense refused, in a few words, by public functions and by compiled Functions?

The bag of nonsense is in `bad_input`; seeds are fixed, so that a failure can be had again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from backends import Case, Judge
from bad_input import ALLOWED, check_refusal, spoilt, surface_call, taken
from campaign import Recorded
from programs import program, sizes

import graphc as gx
from graphc.node import Node


def check_surface(seeds: range) -> int:
    """How many of the calls gave a result."""
    given = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            what, call = surface_call(Recorded(seed))
            try:
                call()
                given += 1
            except Exception as error:
                check_refusal(error, f"seed {seed}: {what}")
    return given


def test_surface() -> None:
    assert check_surface(range(2000)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("start", range(2000, 102_000, 10_000))
def test_surface_with_many_calls(start: int) -> None:
    check_surface(range(start, start + 10_000))


def check_function(seed: int, calls: int, target: str) -> tuple[int, int]:
    """How many of the calls of a random program were taken, and how many refused."""
    source = Recorded(seed)
    made = program(source, longest=3)
    arrays = made.arrays(sizes(source, made.names))
    function = Case(made.inputs, made.outputs).compile(target)
    counts = [0, 0]
    for _ in range(calls):
        given, keywords = spoilt(made, arrays, source)
        what = f"seed {seed}, {[s.type for s in made.inputs]} called with {given} {keywords}"
        meant = taken(made, given, keywords)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = function(*given, **keywords)
        except Exception as error:
            check_refusal(error, what)
            counts[1] += 1
            if meant is not None:
                with pytest.raises(ALLOWED):
                    gx.evaluate(list(made.outputs), dict(zip(made.inputs, meant, strict=True)))
            continue
        counts[0] += 1
        assert meant is not None or keywords, f"{what} was taken"
        if meant is not None:
            Judge(made.inputs, made.outputs, meant).check(got, what)
    return counts[0], counts[1]


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_functions(target: str) -> None:
    counts = [check_function(seed, 30, target) for seed in range(12)]
    assert all(sum(column) > 20 for column in zip(*counts, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(12, 1012, 100))
def test_functions_with_many_calls(start: int) -> None:
    for seed in range(start, start + 100):
        check_function(seed, 50, "cpu")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gx.vander(x, -1),
        lambda x: gx.vander(x, 2**64),
        lambda x: gx.array_split(x, 10**40),
        lambda x: gx.diff(x, 2**62),
    ],
)
def test_numbers_of_parts(call: Callable[[Node], object]) -> None:
    """A graph of endlessly many nodes is refused, and so is a number below 0."""
    with pytest.raises(gx.GraphError, match="from 0 to"):
        call(gx.symbol("x", ("n",)))
