"""Are updates at given positions written row by row, in order, and nowhere else?

A row of lanes is combined for each position, so that the position is looked at once; where lanes
have positions of their own, each walks along its updates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.scalar import For, walk

QUICK = gx.Options(cache=False, threads=1)
RANDOM = np.random.default_rng(11)
COMBINED = {"add": np.add, "max": np.maximum, "min": np.minimum, "multiply": np.multiply}


def _roles(function: Any) -> list[tuple[str, ...]]:
    """The loops around each other in kernels that have loops in order."""
    found = []
    for kernel in function.program.kernels():
        loops = tuple(s.role for s in walk(kernel.body) if isinstance(s, For))
        if "serial" in loops:
            found.append(loops)
    return found


@pytest.mark.parametrize("width", [None, 1, 3, 16, 300])
@pytest.mark.parametrize("how", ["add", "max", "min", "multiply", "set"])
def test_rows_are_combined_in_order(width: int | None, how: str) -> None:
    tail = () if width is None else (width,)
    x, u = (gx.symbol(n, (s, *tail), "float32") for n, s in (("x", 7), ("u", 50)))
    at = gx.symbol("at", (50,), "int64")
    compiled = gx.compile([x, at, u], getattr(gx.at(x)[at], how)(u), options=QUICK)
    base, values = (RANDOM.uniform(0.5, 2, node.shape).astype("f4") for node in (x, u))
    positions = RANDOM.integers(-7, 7, 50)
    want = base.copy()
    if how == "set":
        want[positions] = values
    else:
        COMBINED[how].at(want, positions, values)
    np.testing.assert_array_equal(compiled(base, positions, values), want)
    (loops,) = _roles(compiled)
    assert loops == ("parallel", "serial", "vector")[: 3 if (width or 1) > 1 else 2]


def test_lanes_with_positions_of_their_own_walk_along_them() -> None:
    x, at = gx.symbol("x", (9, 20)), gx.symbol("at", (4, 20), "int64")
    (gradient,) = gx.grad(gx.sum(gx.take_along_axis(x, at, axis=0) ** 2), [x])
    compiled = gx.compile([x, at], gradient, options=QUICK)
    value, positions = RANDOM.normal(size=(9, 20)), RANDOM.integers(0, 9, (4, 20))
    want = np.zeros((9, 20))
    for k in range(4):
        np.add.at(want, (positions[k], np.arange(20)), 2 * value[positions[k], np.arange(20)])
    np.testing.assert_allclose(compiled(value, positions), want)
    assert ("parallel", "vector", "serial") in _roles(compiled)


@pytest.mark.parametrize("extent", [5, "n"])
@pytest.mark.parametrize("wrong", [5, -6, 2**62, -(2**63)])
def test_a_position_outside_fails_and_touches_no_other_memory(extent: Any, wrong: int) -> None:
    x, u = gx.symbol("x", (extent, 20)), gx.symbol("u", (3, 20))
    at = gx.symbol("at", (3,), "int64")
    compiled = gx.compile([x, at, u], gx.at(x)[at].add(u), options=QUICK)
    around = np.ones((15, 20))
    with pytest.raises(IndexError):
        compiled(np.ones((5, 20)), np.array([0, wrong, 1]), np.ones((3, 20)), out=around[5:10])
    np.testing.assert_array_equal(around[:5], 1)
    np.testing.assert_array_equal(around[10:], 1)


def test_of_no_rows_none_is_updated() -> None:
    x, at = gx.symbol("x", ("n", 3)), gx.symbol("at", ("m",), "int64")
    compiled = gx.compile([x, at], gx.at(x)[at].add(1.0), options=QUICK)
    empty = np.ones((0, 3))
    assert compiled(empty, np.zeros(0, "i8")).shape == (0, 3)
    with pytest.raises(IndexError):
        compiled(empty, np.zeros(2, "i8"))
