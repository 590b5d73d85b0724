"""Do launches that a table holds do what launches that are written out do?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm import tables

FRESH = gx.Options(cache=False)


def both_ways(
    monkeypatch: pytest.MonkeyPatch, compile_it: Callable[[], Any], *arrays: Any
) -> tuple[Any, list[Any]]:
    """The function with tables, and its results, which are those without."""
    made = compile_it()
    assert "graphc_launches" in made.texts
    results = made(*arrays)
    monkeypatch.setattr(tables, "FEWEST", 10**9)
    written_out = compile_it()
    assert "graphc_launches" not in written_out.texts
    for mine, other in zip(results, written_out(*arrays), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert len(made.texts["main"]) < len(written_out.texts["main"])
    return made, results


def chain(x: Any, rounds: int, held: np.ndarray) -> list[Any]:
    """Sums along rows, products and constants: kernels that do not fuse into one."""
    results = []
    for i in range(rounds):
        x = gx.tanh(x @ (held + i)) + x / (1.0 + gx.sum(x * x, axis=1, keepdims=True))
        results.append(gx.max(x, axis=0))
    return [x, *results]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [3, 700])
def test_a_long_program(monkeypatch: pytest.MonkeyPatch, threads: int, rows: int) -> None:
    generator = np.random.default_rng(1)
    held, given = generator.normal(size=(8, 8)), generator.normal(size=(rows, 8))
    x = gx.symbol("x", given.shape)
    outputs = chain(x, 8, held)

    def compile_it() -> Any:
        return gx.compile([x], outputs, options=FRESH.replace(threads=threads))

    _, results = both_ways(monkeypatch, compile_it, given)
    wanted = gx.evaluate(outputs, {x: given})
    for mine, other in zip(results, wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


def test_tasks_of_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches that are handed out in ranges, whose sums are joined in the same order."""
    given = np.random.default_rng(2).normal(size=(1200, 300))
    x = gx.symbol("x", given.shape)
    outputs, moved = [], x
    for i in range(10):
        moved = gx.sin(moved) + gx.mean(moved, axis=0)
        outputs.append(gx.sum(moved) * (i + 1.0))

    def compile_it() -> Any:
        return gx.compile([x], outputs, options=FRESH.replace(threads=2))

    both_ways(monkeypatch, compile_it, given)


def test_the_body_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    held, given = generator.normal(size=(4, 4)), generator.normal(size=(5, 4))
    x = gx.symbol("x", given.shape)

    def step(state: Any, _: Any) -> Any:
        made = chain(state, 7, held)
        return made[0], gx.stack(made[1:])

    outputs = list(gx.scan(step, x, np.arange(6.0)))

    def compile_it() -> Any:
        return gx.compile([x], outputs, options=FRESH)

    both_ways(monkeypatch, compile_it, given)


def test_a_failure_stops_the_table() -> None:
    x, index = gx.symbol("x", (6, 8)), gx.symbol("index", (), "int64")
    generator = np.random.default_rng(4)
    held, given = generator.normal(size=(8, 8)), generator.normal(size=(6, 8))
    moved = chain(x, 4, held)[0]
    row = gx.take(moved, index, axis=0)
    f = gx.compile([x, index], chain(moved + row, 4, held), options=FRESH)
    assert "graphc_launches" in f.texts
    f(given, 5)
    with pytest.raises(IndexError, match="index 6 is out of range"):
        f(given, 6)
    f(given, -1)


def test_few_launches_are_written_out() -> None:
    x = gx.symbol("x", (6, 8))
    f = gx.compile([x], chain(x, 1, np.eye(8)), options=FRESH)
    assert "graphc_launches" not in f.texts and "call void @kernel_" in f.texts["main"]


def test_sizes_that_calls_bring_are_written_out() -> None:
    x = gx.symbol("x", ("n", 8))
    f = gx.compile([x], chain(x, 8, np.eye(8)), options=FRESH)
    assert "graphc_launches" not in f.texts
