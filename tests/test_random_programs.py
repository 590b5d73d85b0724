"""Do random programs give the same on every backend, rewritten or not, and are their gradients
right?

Hypothesis draws programs over the whole registry (`programs`), with named dimensions, extents of
zero and one, strided arguments, scans, calls and several outputs, and shrinks what fails. The
examples are the same in every run unless a seed is given (`--hypothesis-seed=random`, which prints
it); `pytest -m slow` draws thousands.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from backends import RAISED, Case, Judge, backends, compiled, compiled_together, evaluator
from campaign import Recorded, campaign, check_raises, in_process
from hypothesis import (
    HealthCheck,
    Phase,
    currently_in_test_context,
    event,
    given,
    note,
    settings,
)
from hypothesis import strategies as st
from programs import Program, Seeded, program, sizes

import graphc as gx
from graphc.node import Node
from graphc.ops.gather import scatter_op

MANY = 3000
HUNDRED_THOUSAND = 100_000


class Drawn:
    """Choices of hypothesis: the smallest is the simplest, so programs shrink."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


@st.composite
def programs(
    draw: Any, smooth: bool = False, longest: int = 8
) -> tuple[Program, list[dict[str, int]]]:
    """A program, and two choices of sizes for it: one compiled Function serves both."""
    source = Drawn(draw)
    made = program(source, smooth, longest)
    return made, [sizes(source, made.names) for _ in range(2 if made.names else 1)]


def examples(count: int) -> settings:
    """Settings for tests of which each example is compiled."""
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=count, phases=phases, deadline=None, suppress_health_check=quiet)


def show(made: Program) -> None:
    """Have hypothesis print the program that it ends with."""
    if currently_in_test_context():
        note(str(made))


Functions = Sequence[Callable[..., list[Any]]]


def judged(
    made: Program, arrays: Sequence[Any], functions: Functions, rewritten: bool = False
) -> Judge | None:
    """Who knows what to expect; None where the evaluator refuses these values or sizes, and all
    functions do, too.
    """
    try:
        return Judge(made.inputs, made.outputs, arrays, rewritten=rewritten)
    except RAISED as error:
        for function in functions:
            check_raises(function, arrays, error)
        return None


# -- backends --------------------------------------------------------------------------------------


def check_backends(made: Program, choices: list[dict[str, int]]) -> None:
    """The evaluator, the kernel interpreter, and native code agree; one and two threads to the last
    bit.
    """
    show(made)
    case = Case(made.inputs, made.outputs)
    functions = {name: compiled(name, case) for name in ("interpreter", "llvm-1", "llvm-2")}
    for choice in choices:
        arrays = made.arrays(choice)
        kept = [array.tobytes() for array in arrays]
        judge = judged(made, arrays, list(functions.values()))
        if judge is None:
            continue
        found = {name: function(*arrays) for name, function in functions.items()}
        for name, got in found.items():
            judge.check(got, f"{name} at {choice}")
        one, two = ([array.tobytes() for array in found[name]] for name in ("llvm-1", "llvm-2"))
        assert one == two, f"one and two threads differ at {choice}"
        assert kept == [array.tobytes() for array in arrays], "an argument was written to"


@examples(100)
@given(programs())
def test_backends(drawn: Any) -> None:
    check_backends(*drawn)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@examples(MANY)
@given(programs(longest=12))
def test_backends_with_many_programs(drawn: Any) -> None:
    check_backends(*drawn)


Found = tuple[list[Node], list[Node], list[int]]


def found() -> dict[str, Found]:
    """What random programs have found, at its smallest: inputs, outputs, values of n."""
    x, y, z = gx.symbol("x", (4, "n")), gx.vector("y", 3), gx.symbol("z", (0, 3))
    total = gx.broadcast_to(gx.sum(y), (3,))
    row, one, square = (
        gx.symbol("row", (1, 1, 3)),
        gx.vector("one", 1),
        gx.symbol("square", ("n", "n")),
    )
    ends = gx.scan(lambda s, v: (s * 0.5 + v, gx.stack([s, v])), x[0], x)[1]
    calls = gx.call(lambda a, b: gx.call(lambda p, q: p * q, a, b) * b, y, y + 1)
    stretched = gx.call(lambda s: gx.broadcast_to(s, ("n",)), y[0])
    tall = gx.symbol("tall", (7, 6))
    fraction, rest = gx.modf(y)
    parts = (fraction, gx.modf(rest)[0], -gx.modf(rest)[1])
    windows = gx.symbol("windows", (4, 2, 3))
    where = [gx.constant(np.array(at)) for at in ([1, 0, 2], [0, 1, 1])]
    overlapping = scatter_op["set"](
        tall, windows, *where, axes=(0, 1), batch=(), at=2, windows=(4, 2)
    )
    return {
        "padding behind only": ([x], [gx.pad(x, [(0, 0), (0, 1)])], [5]),
        "a sum stretched, given out and used": ([y], [total * gx.sum(y), total], [0]),
        "a product of depth and width one": ([y, one], [gx.tensordot(y, one, axes=0)], [0]),
        "work on a finished product": (
            [x, square],
            [x @ square + x, gx.tanh(x @ square)],
            [1, 5, 8, 17],
        ),
        "a product turned round": (
            [x, square],
            [square.T @ x[0] * 2, x @ square.T + 1],
            [1, 5, 17],
        ),
        "softmax of a single row": ([row], [gx.softmax(row)], [0]),
        "a reshape of nothing": ([z], [gx.reshape(z, (5, 0, 2))], [0]),
        "a reshape of an input": ([row], [gx.reshape(row, (3,)), row], [0]),
        "a call in a call": ([y], [calls], [0]),
        "a call that names a dimension": ([x, y], [x + stretched], [6]),
        "parts of parts": ([y], list(parts), [0]),
        "windows that overlap": ([tall, windows], [overlapping], [0]),
        "nothing, rolled": ([x], [gx.roll(x, 1, 1), gx.roll(x, -5)], [0, 3]),
        "strided arguments of a scan": ([x], [ends, x.T], [7, 2]),
    }


@pytest.mark.parametrize("name", found())
def test_found(name: str) -> None:
    inputs, outputs, values = found()[name]
    for layout in range(4):
        layouts = (layout,) * len(inputs)
        made = Program(tuple(inputs), tuple(outputs), 3, layouts, False)
        check_backends(made, [{"n": value} for value in values])


def check_together(backend: str, seeds: range, longest: int) -> None:
    """Programs compiled at once by a backend whose compiler takes long."""
    drawn = []
    for seed in seeds:
        source = Seeded(seed)
        made = program(source, longest=longest)
        drawn.append((made, sizes(source, made.names)))
    cases = [Case(made.inputs, made.outputs) for made, _ in drawn]
    functions = compiled_together(backend, cases)
    for seed, (made, choice), function in zip(seeds, drawn, functions, strict=True):
        arrays = made.arrays(choice)
        judge = judged(made, arrays, [])  # their harnesses do not look at what is refused
        if judge is None:
            continue
        judge.check(function(*arrays), f"seed {seed} at {choice}\n{made}\non {backend}")


needs_emulator = pytest.mark.skipif(
    "cuda-emulator" not in backends(), reason="the emulator needs g++ on Linux"
)


@pytest.mark.parametrize("backend", ["interpreter", "llvm-1"])
def test_a_masked_read_of_an_empty_array(backend: str) -> None:
    """The index of what is not read may divide by the extent 0."""
    x = gx.symbol("x", (3, "n"))
    line = gx.pad(gx.ravel(gx.cast(x, "float32")), (0, 15))[:15]
    below = gx.cast(gx.diagonal(gx.reshape(line, (5, 3)), -2), "int64")
    made = Program((x,), (gx.sum(x), gx.isnan(x), below), 3, (0,), False)
    function = compiled(backend, Case(made.inputs, made.outputs, math="ieee"))
    for choice in ({"n": 0}, {"n": 4}):
        arrays = made.arrays(choice)
        Judge(made.inputs, made.outputs, arrays).check(function(*arrays), f"{backend} at {choice}")


def test_a_batch_in_a_process_of_its_own() -> None:
    """A crash and a failure are told apart from what is well, each with its seed."""

    class Crashing:
        def integer(self, low: int, high: int) -> int:
            os.kill(os.getpid(), signal.SIGKILL)
            return low

    class Failing:
        def integer(self, low: int, high: int) -> int:
            raise ArithmeticError("drawn badly")

    well = Recorded(3)
    failed = in_process([(1, Failing()), (2, well), (3, Crashing()), (4, well)])
    assert [seed for seed, _ in failed] == [1, 3]
    assert "drawn badly" in failed[0][1] and "crashed" in failed[1][1]


@pytest.mark.slow
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("first", range(0, HUNDRED_THOUSAND, 5000))
def test_a_hundred_thousand_programs(first: int) -> None:
    """In processes of their own, see `campaign`."""
    outcome = campaign(first, 5000, print)
    assert not outcome.failures, "\n".join(text for _, text in outcome.failures)


@needs_emulator
def test_cuda() -> None:
    check_together("cuda-emulator", range(20), longest=6)


@needs_emulator
@pytest.mark.slow
@pytest.mark.parametrize("start", range(20, 1020, 20))
def test_cuda_with_many_programs(start: int) -> None:
    check_together("cuda-emulator", range(start, start + 20), longest=10)


needs_c = pytest.mark.skipif("c" not in backends(), reason="there is no C compiler")


@needs_c
def test_c() -> None:
    check_together("c", range(40), longest=6)


@needs_c
@pytest.mark.slow
@pytest.mark.parametrize("start", range(40, 1040, 50))
def test_c_with_many_programs(start: int) -> None:
    check_together("c", range(start, start + 50), longest=10)


# -- rewriting -------------------------------------------------------------------------------------


def check_rewriting(made: Program, choices: list[dict[str, int]]) -> None:
    """Rules under the law `ieee` change no value; stability rules none beyond what rounding had
    spoilt.
    """
    from graphc.rewrite import RULES

    show(made)
    stable = frozenset(name for name, rule in RULES.items() if rule.law == "stable")
    strict = compiled("interpreter", Case(made.inputs, made.outputs, math="ieee", exclude=stable))
    default = compiled("interpreter", Case(made.inputs, made.outputs, math="ieee"))
    real = compiled("interpreter", Case(made.inputs, made.outputs, math="real"))
    for choice in choices:
        arrays = made.arrays(choice)
        judge = judged(made, arrays, [strict, default, real])
        if judge is None:
            continue
        judge.check(strict(*arrays), f"rewritten under the law ieee, at {choice}")
        judge = Judge(made.inputs, made.outputs, arrays, rewritten=True)
        judge.check(default(*arrays), f"rewritten with stability rules, at {choice}")
        judge.check(real(*arrays), f"rewritten under the laws of the reals, at {choice}")


@examples(100)
@given(programs())
def test_rewriting(drawn: Any) -> None:
    check_rewriting(*drawn)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@examples(MANY)
@given(programs(longest=12))
def test_rewriting_with_many_programs(drawn: Any) -> None:
    check_rewriting(*drawn)


# -- gradients -------------------------------------------------------------------------------------


class Slope:
    """A smooth program along a line through its arguments."""

    def __init__(self, made: Program, choice: dict[str, int]) -> None:
        self.made = made
        self.arrays = made.arrays(choice)
        random = np.random.default_rng(made.seed)
        self.direction = [random.uniform(-1, 1, a.shape) for a in self.arrays]
        self.outputs = [o for o in made.outputs if o.dtype == np.float64]
        values = self.values(0.0)
        self.weights = [random.uniform(-1, 1, np.shape(v)) for v in values]

    def values(self, step: float) -> list[Any]:
        moved = [a + step * d for a, d in zip(self.arrays, self.direction, strict=True)]
        return evaluator(self.made.inputs, self.outputs, moved)

    def weighted(self, step: float) -> float:
        return float(
            sum(np.sum(w * v) for w, v in zip(self.weights, self.values(step), strict=True))
        )

    def differences(self, step: float) -> float:
        """Central differences of three steps, extrapolated to order six."""
        d = [(self.weighted(h) - self.weighted(-h)) / (2 * h) for h in (step, step / 2, step / 4)]
        second = [(4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3]
        return (16 * second[1] - second[0]) / 15

    def size(self) -> float:
        """How large the terms are of which the slope is made."""
        values = self.values(0.0)
        return 1 + float(
            sum(np.sum(np.abs(w * v)) for w, v in zip(self.weights, values, strict=True))
        )


def check_gradients(made: Program, choices: list[dict[str, int]]) -> None:
    """Reverse and forward mode against differences; the gradient's own graph, compiled, against the
    evaluator.
    """
    show(made)
    inputs = list(made.inputs)
    outputs = [o for o in made.outputs if o.dtype == np.float64]
    if not outputs:
        return
    cotangents = [gx.symbol(f"c{i}", o.shape) for i, o in enumerate(outputs)]
    tangents = [gx.symbol(f"t{i}", s.shape) for i, s in enumerate(inputs)]
    pulled = gx.vjp(outputs, inputs, cotangents, unused="zero")
    pushed = gx.jvp(outputs, inputs, tangents, unused="zero")
    pull_inputs = (*inputs, *cotangents)
    function = compiled("llvm-1", Case(pull_inputs, pulled, math="ieee"))
    for choice in choices:
        slope = Slope(made, choice)
        arrays = [*slope.arrays, *slope.weights]
        with np.errstate(all="ignore"):
            coarse, fine = slope.differences(4e-3), slope.differences(1e-3)
        size = slope.size()
        reverse = evaluator(pull_inputs, pulled, arrays)
        forward = evaluator((*inputs, *tangents), pushed, [*slope.arrays, *slope.direction])
        got = float(sum(np.sum(r * d) for r, d in zip(reverse, slope.direction, strict=True)))
        other = float(sum(np.sum(f * w) for f, w in zip(forward, slope.weights, strict=True)))
        terms = sum(np.sum(np.abs(r * d)) for r, d in zip(reverse, slope.direction, strict=True))
        if np.isfinite(size) and np.isfinite(terms):
            assert abs(got - other) <= 1e-9 * (size + terms), f"reverse {got}, forward {other}"
        if np.isfinite(fine) and size < 1e5 and abs(coarse - fine) <= 1e-7 * (size + abs(fine)):
            if currently_in_test_context():
                event("smooth here")
            assert abs(got - fine) <= 1e-5 * (size + abs(fine)), (
                f"reverse {got}, differences {fine}"
            )
        judge = Judge(pull_inputs, pulled, arrays, rewritten=True)
        judge.check(function(*arrays), f"compiled gradient at {choice}")


@examples(100)
@given(programs(smooth=True, longest=5))
def test_gradients(drawn: Any) -> None:
    check_gradients(*drawn)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@examples(MANY)
@given(programs(smooth=True, longest=9))
def test_gradients_of_many_programs(drawn: Any) -> None:
    check_gradients(*drawn)
