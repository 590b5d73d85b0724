"""Is what lies beneath outputs found once for several derivatives, and let go of with them?"""

from __future__ import annotations

import gc

import pytest

import graphc as gx
from graphc.autodiff import beneath as module
from graphc.autodiff.beneath import beneath
from graphc.errors import GraphError
from graphc.node import interned_count, topological


def test_it_is_found_once_for_the_same_outputs() -> None:
    x, y = gx.scalar("x"), gx.scalar("y")
    outputs = [gx.sin(x) * y, y, gx.sin(x)]
    below = beneath(outputs)
    assert beneath(list(outputs)) is below
    assert beneath(outputs[:2]) is not below
    assert below.order(outputs) == topological(outputs)
    assert below.members == {id(node) for node in topological(outputs)}
    z = gx.scalar("z")
    with_others = below.order_with([*outputs, x, gx.exp(z)])
    assert set(with_others) == {*topological(outputs), *topological([gx.exp(z)])}


def test_nothing_lives_on_for_it() -> None:
    gc.collect()
    before = interned_count()
    x = gx.scalar("lives")
    middle = gx.sin(x * 2.5)
    outputs = [middle, middle + x, x]
    gx.jvp(outputs, x, gx.ones_like(x))
    assert module._last is not None
    del outputs
    assert module._last is None  # with the outputs that no other needs
    del middle, x
    gc.collect()
    assert interned_count() <= before + 2  # literals that others may hold


def test_derivatives_by_one_input_after_the_other_are_those_taken_together() -> None:
    x, y = gx.scalar("x"), gx.scalar("y")
    inner = x * y
    outputs = [gx.sin(inner) / y, inner, gx.exp(x) - inner, x]
    ones = gx.ones_like(x)
    for wrt in (x, y, inner, [x, y], [inner, y]):
        seeds = [ones] * len(wrt) if isinstance(wrt, list) else ones
        found = gx.jvp(outputs, wrt, seeds, unused="zero")
        module._last = None
        again = gx.jvp(outputs, wrt, seeds, unused="zero")
        assert all(a is b for a, b in zip(found, again, strict=True))
    with pytest.raises(GraphError, match="not in it"):
        gx.jvp(outputs, gx.scalar("w"), ones)
    with pytest.raises(GraphError, match="unused is"):
        gx.jvp(outputs, x, ones, unused="ignore")


def test_an_input_beneath_another_is_differentiated_by_on_its_own() -> None:
    """What an input is made of moves only where it is read besides."""
    x = gx.scalar("x")
    inner = gx.sin(x)
    tangent = gx.jvp(inner * x, [inner, x], [gx.ones_like(x), gx.ones_like(x)])
    value = gx.compile([x], tangent)(0.5)
    assert value == pytest.approx(0.5 + gx.compile([x], inner)(0.5))
