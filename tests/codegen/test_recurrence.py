"""Is what the last iteration stored read from a register, and only then?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.recurrence import carried_loads
from graphc.codegen.scalar import For, walk

X = gx.symbol("x", ("n", "m"))


def carried(outputs: Any) -> int:
    """How many loads of a Function's kernels registers replace."""
    kernels = gx.compile([X], outputs)._impl.program.kernels()
    loops = [s for kernel in kernels for s in walk(kernel.body) if isinstance(s, For)]
    return sum(len(list(carried_loads(loop))) for loop in loops)


def test_running_combinations_and_recurrences() -> None:
    assert carried(gx.cumsum(X, axis=1)) == 1
    assert carried(gx.cumprod(X, axis=0)) == 1
    assert carried(gx.recurrence(X, X, axis=1, reverse=True)) == 1


def test_other_loops() -> None:
    assert carried(gx.sum(X, axis=0)) == 0
    assert carried(gx.max(X, axis=1)) == 0
    assert carried(gx.argmax(X, axis=1)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (3, 0), (0, 3), (3, 7), (33, 5), (2, 19, 3)])
def test_values(dtype: str, shape: tuple[int, ...]) -> None:
    """Lines of lanes, with and without a remainder, and none at all."""
    x = gx.symbol("x", tuple(f"n{axis}" for axis in range(len(shape))), dtype)
    array = (np.random.default_rng(8).normal(size=shape) * 3).astype(dtype)
    axes = range(len(shape))
    made = [gx.cumsum(x, axis=axis, dtype=dtype) for axis in axes]
    made += [gx.cummax(x, axis=axis) for axis in axes]
    want = [np.cumsum(array, axis=axis, dtype=dtype) for axis in axes]
    want += [np.maximum.accumulate(array, axis=axis) for axis in axes]
    for mine, theirs in zip(gx.compile([x], made)(array), want, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_dear_is_computed_in_lanes_before_a_line_is_run_alone() -> None:
    x, y = gx.symbol("x", (50, 30)), gx.symbol("y", (50, 30))
    options = gx.Options(cache=False, threads=1)
    values = np.random.default_rng(3).normal(size=(2, 50, 30))
    counts = {"dear": gx.tanh(x) * y, "cheap": x * y}
    wanted = {"dear": np.tanh(values[0]) * values[1], "cheap": values[0] * values[1]}
    for name, terms in counts.items():
        for axis, kernels in ((1, 1 + (name == "dear")), (0, 1)):
            compiled = gx.compile([x, y], gx.cumsum(terms, axis=axis), options=options)
            assert len(compiled.kernels) == kernels
            np.testing.assert_allclose(compiled(*values), wanted[name].cumsum(axis), 1e-12, 1e-12)
