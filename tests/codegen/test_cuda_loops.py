"""Do loops that run on the device go their rounds right, and which loops do?

Scans, `while` and choices whose rounds are little work are one launch of one block. The emulator
runs it in every order of the threads and under the sanitizers; results are the evaluator's. None
of this is evidence that a GPU has run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cuda_host
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda.plan import KernelStep, LoopStep
from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

Graphs = tuple[Sequence[gx.Node], Sequence[gx.Node]]
SIZES = {"n": 5}
RANDOM = np.random.default_rng(29)


def symbol(name: str, *shape: Any, dtype: str = "float32") -> gx.Node:
    return gx.symbol(name, shape, dtype)


def recurrence() -> Graphs:
    """Products, states in rows, a gradient that goes back through them."""
    x, y, w = symbol("x", "n", 3, 8), symbol("y", 3, 8), symbol("w", 8, 8)
    last, rows = gx.scan(lambda s, v: (gx.tanh(s @ w + v), s.sum(axis=1)), y, x)
    return [x, y, w], [last, rows, *gx.grad((last * last).sum(), [y, w])]


def backwards() -> Graphs:
    x, y = symbol("x", 6, 300), symbol("y", 300)
    last, rows = gx.scan(lambda s, v: (s * 0.5 + v, s / (1 + s.max())), y, x, reverse=True)
    return [x, y], [last, rows]


def newton() -> Graphs:
    """A `while` whose end data decide, with a product in each round."""
    x, a = symbol("x", 4), symbol("a", 4, 4)

    def step(state: Any) -> Any:
        x, count = state
        return gx.tanh(a @ x) * 0.9, count + 1

    def goes_on(state: Any) -> Any:
        x, count = state
        return gx.logical_and((x * x).sum() > 1e-4, count < 20)

    found, count = gx.while_loop(goes_on, step, (x, gx.constant(0)))
    return [x, a], [found, count]


def nested() -> Graphs:
    """A loop in a loop, with a choice in it."""
    x = symbol("x", 4, 3, 10)

    def outer(state: Any, block: Any) -> Any:
        def inner(s: Any, row: Any) -> Any:
            return gx.cond(s.sum() > 0, lambda s: s - row, lambda s: s * 2 + row, s), s[:2]

        made, parts = gx.scan(inner, state, block)
        return made, parts

    last, rows = gx.scan(outer, gx.zeros((10,), "float32") + 1, x)
    return [x], [last, rows]


GRAPHS: dict[str, Callable[[], Graphs]] = {
    "recurrence": recurrence,
    "backwards": backwards,
    "newton": newton,
    "nested": nested,
}


def drawn(inputs: Sequence[gx.Node]) -> list[np.ndarray]:
    shapes = [tuple(SIZES.get(str(e), e) for e in x.shape) for x in inputs]
    return [RANDOM.standard_normal(shape).astype("float32") for shape in shapes]


def check(program: Any, name: str, arrays: list[np.ndarray], got: Sequence[np.ndarray]) -> None:
    inputs, outputs = GRAPHS[name]()
    wanted = gx.evaluate(list(outputs), dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_loop_of_little_work_is_one_launch(name: str) -> None:
    inputs, outputs = GRAPHS[name]()
    program = gx.emit(list(inputs), list(outputs), target="cuda")
    assert all(isinstance(step, KernelStep) for step in program.plan.steps)
    assert "loop_of" in program.text
    arrays = drawn(inputs)
    check(program, name, arrays, cuda_host.run_in_every_order(program, arrays).outputs)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asan", "tsan"])
@pytest.mark.parametrize("name", GRAPHS)
def test_sanitizers_find_nothing(name: str, mode: str) -> None:
    inputs, outputs = GRAPHS[name]()
    program = gx.emit(list(inputs), list(outputs), target="cuda")
    arrays = drawn(inputs)
    module = cuda_host.compile_programs([program], mode)
    sizes = cuda_host.sizes_of(program, arrays)
    outcome = cuda_host.run(program, arrays, sizes, module=module, apart=True)
    check(program, name, arrays, outcome.outputs)


@nvrtc.required
@pytest.mark.parametrize("name", GRAPHS)
def test_the_compiler_takes_it(name: str) -> None:
    inputs, outputs = GRAPHS[name]()
    text = gx.emit(list(inputs), list(outputs), target="cuda").text
    for kernel, usage in nvrtc.compile(text, "sm_90").usage.items():
        assert (usage.stack, usage.spill_stores, usage.spill_loads) == (0, 0, 0), (kernel, usage)


def test_a_check_that_fails_ends_the_loop() -> None:
    x = symbol("x", 3)

    def step(state: Any) -> Any:
        return gx.check(state * 2, state < 50.0, "small")

    last = gx.while_loop(lambda s: s.sum() < 1e30, step, x)
    program = gx.emit([x], [last], target="cuda")
    assert isinstance(program.plan.steps[-1], KernelStep)
    outcome = cuda_host.run(program, [np.ones(3, "float32")])
    assert outcome.failure[0] == 3 and outcome.failure[2] == 0


def test_a_loop_of_more_work_stays_launches() -> None:
    x, y, w = symbol("x", 9, 64, 128), symbol("y", 64, 128), symbol("w", 128, 128)
    last, _ = gx.scan(lambda s, v: (gx.tanh(s @ w + v), None), y, x)
    program = gx.emit([x, y, w], [last], target="cuda")
    assert any(isinstance(step, LoopStep) for step in program.plan.steps)
