"""Does the kernel interpreter compute what the languages say, and stop at what they forbid?

First every kind of statement in kernels built by hand, against NumPy; then programs built by hand;
then graphs, lowered and compared with the evaluator. Graphs come last, because they test lowering
as much as the interpreter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.interpret import Failure, InterpreterError, run_kernel, run_program
from graphc.codegen.interpret import kernel as kernels
from graphc.codegen.interpret.context import polynomial
from graphc.codegen.loops import Buffer, Contract, Kernel, Region, product_bytes, verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.memory import plan
from graphc.codegen.program import Call, Launch, Loop, Operand, Procedure, Program, Storage
from graphc.codegen.scalar import Accumulate, Accumulator, Scope, Value
from graphc.dims import Dim, dim, dim_max, dim_min, evaluate
from graphc.evaluator import bind_extents
from graphc.graph import close
from graphc.node import Node
from graphc.tree import flatten

N, M = dim("n"), dim("m")
rng = np.random.default_rng(7)


def symbol(name: str) -> Dim:
    return Dim.symbol(name)


@pytest.fixture(params=[kernels.LOCKSTEP, 3], ids=["wide", "narrow"])
def lockstep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whatever is run in lockstep at a time, results are the same."""
    monkeypatch.setattr(kernels, "LOCKSTEP", request.param)
    return request.param


def run(kernel: Kernel, *arrays: Any, tasks: range | None = None, **extents: int) -> list[Failure]:
    verify(kernel)
    return run_kernel(kernel, arrays, extents, tasks=tasks)


# -- loops, loads and stores -----------------------------------------------------------------------


def flat_kernel(chunk: int = 4) -> Kernel:
    """y = x * x + 1 over n elements, in tasks of `chunk` lanes."""
    x, y = Buffer("x", "float32", (N,)), Buffer("y", "float32", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, (N + chunk - 1) // chunk, "p") as tasks:
        start = symbol(tasks.variable) * chunk
        with tasks.body.loop("vector", start, dim_min(N, start + chunk)) as lanes:
            k, i = lanes.body, symbol(lanes.variable)
            value = k.load(x, (i,))
            k.store(y, (i,), k.add(k.mul(value, value), 1))
    return Kernel([x, y], scope)


@pytest.mark.parametrize("n", [0, 1, 4, 5, 1000])
def test_lanes_of_tasks(n: int, lockstep: int) -> None:
    x = rng.normal(size=n).astype(np.float32)
    y = np.full(n, np.nan, np.float32)
    assert run(flat_kernel(), x, y, n=n) == []
    np.testing.assert_array_equal(y, x * x + np.float32(1))


def test_only_the_tasks_asked_for_run() -> None:
    x, y = np.ones(10, np.float32), np.zeros(10, np.float32)
    run(flat_kernel(), x, y, n=10, tasks=range(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(y), [4, 5, 6, 7])
    run(flat_kernel(), x, y, n=10, tasks=range(2, 2))
    assert np.count_nonzero(y) == 4


def test_strided_buffers_of_either_sign(lockstep: int) -> None:
    kernel = flat_kernel()
    kernel.buffers[0].layout = kernel.buffers[1].layout = "strided"
    x = rng.normal(size=(9, 3)).astype(np.float32)[::-1, 1]
    y = np.zeros((9, 2), np.float32)
    run(kernel, x, y[:, 0], n=9)
    np.testing.assert_array_equal(y[:, 0], x * x + np.float32(1))
    assert not y[:, 1].any()


def test_serial_iterations_see_what_earlier_ones_stored(lockstep: int) -> None:
    """y[:, i] = y[:, i - 1] + x[:, i], lanes along rows."""
    x, y = Buffer("x", "int64", (N, M)), Buffer("y", "int64", (N, M + 1))
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, N) as lanes:
        k, row = lanes.body, symbol(lanes.variable)
        k.store(y, (row, 0), k.const(0, "int64"))
        with k.loop("serial", 0, M) as steps:
            s, i = steps.body, symbol(steps.variable)
            s.store(y, (row, i + 1), s.add(s.load(y, (row, i)), s.load(x, (row, i))))
    given = rng.integers(-9, 9, (5, 8))
    made = np.zeros((5, 9), np.int64)
    run(Kernel([x, y], scope), given, made, n=5, m=8)
    np.testing.assert_array_equal(made[:, 1:], np.cumsum(given, axis=1))


def test_ragged_loops_run_for_those_that_have_the_iteration(lockstep: int) -> None:
    """Lanes of task p: p of them; steps of lane i: from i to p."""
    y = Buffer("y", "int64", (N, N))
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as tasks:
        p = symbol(tasks.variable)
        with tasks.body.loop("vector", 0, p) as lanes:
            i = symbol(lanes.variable)
            with lanes.body.loop("serial", i, p) as steps:
                total = steps.accumulate("add", steps.body.index(symbol(steps.variable)))
            lanes.body.store(y, (p, i), steps.result(total))
    made = np.full((6, 6), -1)
    run(Kernel([y], scope), made, n=6)
    expected = [[sum(range(i, p)) if i < p else -1 for i in range(6)] for p in range(6)]
    np.testing.assert_array_equal(made, expected)


def test_rank_zero_buffers() -> None:
    x, y = Buffer("x", "float64", ()), Buffer("y", "float64", ())
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once:
        once.body.store(y, (), once.body.neg(once.body.load(x, ())))
    made = np.zeros(())
    run(Kernel([x, y], scope), np.array(2.5), made)
    assert made == -2.5


def test_instructions_work_in_their_own_dtype(lockstep: int) -> None:
    x, y = Buffer("x", "float16", (N,)), Buffer("y", "int8", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, N) as lanes:
        k, i = lanes.body, symbol(lanes.variable)
        value = k.mul(k.load(x, (i,)), 3)
        bits = k.bitcast(value, "int16")
        k.store(y, (i,), k.quotient(k.convert(bits, "int8"), k.const(2, "int8")))
    given = rng.normal(size=50).astype(np.float16)
    made = np.zeros(50, np.int8)
    run(Kernel([x, y], scope), given, made, n=50)
    low = (given * np.float16(3)).view(np.int16).astype(np.int8)
    np.testing.assert_array_equal(made, np.trunc(low / 2).astype(np.int8))


# -- index expressions -----------------------------------------------------------------------------


def test_index_expressions_are_those_of_dims() -> None:
    i, p = symbol("i"), symbol("p")
    expressions = [
        3 * i + p * N - 7,
        (i - 5) // 3 + (p * i - 11) % 4,
        (i + p) // N,
        dim_min(i, p, N) + 2 * dim_max(i - p, 0),
        i**3 - p * i**2,
        dim_max(i % 5, dim_min(p, 3)) // 2,
        Dim.symbol("n") - 3,
    ]
    values = {"i": rng.integers(-9, 9, 40), "p": rng.integers(-9, 9, 40), "n": 4}
    for expression in expressions:
        found = polynomial(expression, values.__getitem__)
        wanted = [
            evaluate(expression, {"i": int(a), "p": int(b), "n": 4})
            for a, b in zip(values["i"], values["p"], strict=True)
        ]
        np.testing.assert_array_equal(np.broadcast_to(found, 40), wanted, err_msg=str(expression))


@pytest.mark.parametrize("operator", ["floordiv", "mod"])
def test_an_index_divided_by_an_extent_of_zero_counts_it_as_one(operator: str) -> None:
    """As the printers do: only positions that a mask leaves out are divided so."""
    i, n = symbol("i"), symbol("n")
    expression = i // n if operator == "floordiv" else i % n
    values = {"i": np.array([3, 4, 5]), "n": np.array([1, 0, 2])}
    found = polynomial(expression, values.__getitem__)
    np.testing.assert_array_equal(found, [3, 4, 2] if operator == "floordiv" else [0, 0, 1])
    nothing = polynomial(expression, {"i": np.arange(0), "n": np.arange(0)}.__getitem__)
    assert nothing.size == 0


# -- masks, data-dependent positions, checks -------------------------------------------------------


def gather_kernel() -> Kernel:
    """y[i] = x[at[i]], or -1 where that is out of range: a failed check."""
    x, y = Buffer("x", "float64", (N,)), Buffer("y", "float64", (M,))
    at = Buffer("at", "int64", (M,))
    scope = Scope()
    with scope.loop("parallel", 0, (M + 2) // 3, "p") as tasks:
        start = symbol(tasks.variable) * 3
        with tasks.body.loop("vector", start, dim_min(M, start + 3)) as lanes:
            k, i = lanes.body, symbol(lanes.variable)
            position = k.load(at, (i,))
            inside = k.and_(k.ge(position, 0), k.lt(position, k.index(N)))
            k.check(inside, 1, 5, position)
            value = k.load(x, (symbol("_arg0"),), (position,), inside, k.const(-1, "float64"))
            k.store(y, (i,), value)
    return Kernel([x, at, y], scope)


def test_masked_loads_touch_no_memory(lockstep: int) -> None:
    x, at = np.array([5.0, 6.0, 7.0]), np.array([2, 0, 1, 1])
    y = np.zeros(4)
    assert run(gather_kernel(), x, at, y, n=3, m=4) == []
    np.testing.assert_array_equal(y, [7, 5, 6, 6])
    at = np.array([2, -1, 3, 10**9, 0])
    y = np.zeros(5)
    run(gather_kernel(), x, at, y, n=3, m=5)
    np.testing.assert_array_equal(y, [7, -1, -1, -1, 5])


def test_the_first_failure_is_that_of_the_first_task(lockstep: int) -> None:
    at = np.array([0, 1, 0, 0, 77, -88, 99])
    assert run(gather_kernel(), np.zeros(2), at, np.zeros(7), n=2, m=7) == [Failure(1, 5, 77)]
    assert run(gather_kernel(), np.zeros(2), at, np.zeros(7), n=2, m=7, tasks=range(2, 3)) == [
        Failure(1, 5, 99)
    ]
    assert run(gather_kernel(), np.zeros(0), at[:0], np.zeros(0), n=0, m=0) == []


def test_failures_are_in_the_order_of_tasks_not_of_statements(lockstep: int) -> None:
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as tasks:
        k = tasks.body
        p = k.index(symbol(tasks.variable))
        k.check(k.lt(p, 4), 3, 0, p)
        with k.loop("serial", 0, 5) as steps:
            s = steps.body
            step = s.index(symbol(steps.variable))
            s.check(s.ne(s.add(p, step), 5), 3, 1, s.mul(p, 10))
    failures = run(Kernel([], scope), n=6)
    assert failures == [Failure(3, 1, 10), Failure(3, 0, 4)]


def test_masked_stores_write_nothing_else(lockstep: int) -> None:
    y = Buffer("y", "int64", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, 2 * N) as lanes:
        k, i = lanes.body, symbol(lanes.variable)
        number = k.index(i)
        even = k.eq(k.and_(number, 1), 0)
        small = k.lt(number, k.index(N))
        k.store(y, (i,), number, mask=k.and_(even, small))
    made = np.full(7, -1)
    run(Kernel([y], scope), made, n=7)
    np.testing.assert_array_equal(made, [0, -1, 2, -1, 4, -1, 6])


def test_a_mask_that_is_false_for_all() -> None:
    y = Buffer("y", "int64", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, 3, "p") as tasks:
        k = tasks.body
        never = k.const(False, "bool")
        value = k.load(y, (symbol(tasks.variable) + 1000,), mask=never)
        k.store(y, (symbol(tasks.variable) - 1000,), value, mask=never)
    made = np.array([1, 2])
    run(Kernel([y], scope), made, n=2)
    np.testing.assert_array_equal(made, [1, 2])


@pytest.mark.parametrize("position", [-1, 3])
def test_out_of_bounds_is_an_error_that_shows_the_kernel(position: int) -> None:
    for write in (False, True):
        x = Buffer("x", "float64", (N,))
        scope = Scope()
        with scope.loop("parallel", 0, 1, "p") as once:
            k = once.body
            at = (symbol(once.variable) + position,)
            if write:
                k.store(x, at, k.const(1, "float64"))
            else:
                k.load(x, at)
        with pytest.raises(
            InterpreterError, match=f"x is accessed at {position} of axis 0"
        ) as caught:
            run(Kernel([x], scope), np.zeros(3), n=3)
        assert "for p1 in 0..1 parallel:" in str(caught.value)


# -- accumulators ----------------------------------------------------------------------------------

COMBINERS: list[tuple[str, str, Any]] = [
    ("add", "float32", np.sum),
    ("add", "int64", np.sum),
    ("mul", "float64", np.prod),
    ("max", "float64", np.max),
    ("max", "int32", np.max),
    ("min", "float32", np.min),
    ("min", "uint8", np.min),
    ("and", "bool", np.all),
    ("or", "bool", np.any),
]


def reduction_kernel(combiner: str, dtype: str, masked: bool = False) -> Kernel:
    """Rows reduced along the last axis; with `masked` only the elements at even positions."""
    x, y = Buffer("x", dtype, (N, M)), Buffer("y", dtype, (N,))
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as rows:
        row = symbol(rows.variable)
        with rows.body.loop("vector", 0, M) as lanes:
            k, i = lanes.body, symbol(lanes.variable)
            mask = k.eq(k.index(i % 2), 0) if masked else None
            state = lanes.accumulate(combiner, k.load(x, (row, i)), mask)
        rows.body.store(y, (row,), lanes.result(state))
    return Kernel([x, y], scope)


def sample(shape: tuple[int, ...], dtype: str) -> Any:
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 50, shape).astype(dtype)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("combiner", "dtype", "numpy"), COMBINERS)
def test_reductions(combiner: str, dtype: str, numpy: Any, masked: bool, lockstep: int) -> None:
    x = sample((5, 7), dtype)
    y = np.zeros(5, dtype)
    run(reduction_kernel(combiner, dtype, masked), x, y, n=5, m=7)
    np.testing.assert_allclose(y, numpy(x[:, ::2] if masked else x, axis=1), rtol=1e-6)


@pytest.mark.parametrize(("combiner", "dtype", "numpy"), COMBINERS)
def test_nothing_reduces_to_the_identity(combiner: str, dtype: str, numpy: Any) -> None:
    y = np.ones(3, dtype)
    run(reduction_kernel(combiner, dtype), np.zeros((3, 0), dtype), y, n=3, m=0)
    function = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    function |= {"and": np.bitwise_and, "or": np.bitwise_or}
    x = sample((20,), dtype)
    np.testing.assert_array_equal(function[combiner](x, y[0]), x)


@pytest.mark.parametrize("combiner", ["max", "min", "add"])
def test_nan_propagates(combiner: str, lockstep: int) -> None:
    x = np.ones((3, 9))
    x[1, 4] = np.nan
    y = np.zeros(3)
    run(reduction_kernel(combiner, "float64"), x, y, n=3, m=9)
    np.testing.assert_array_equal(np.isnan(y), [False, True, False])


def test_a_sum_of_many_floats_is_accurate() -> None:
    x = np.full((1, 1 << 18), 0.1, np.float32)
    y = np.zeros(1, np.float32)
    run(reduction_kernel("add", "float32"), x, y, n=1, m=1 << 18)
    np.testing.assert_allclose(y, (1 << 18) * np.float64(np.float32(0.1)), rtol=1e-6)


def test_an_accumulator_of_an_outer_loop_takes_all_lanes(lockstep: int) -> None:
    """The sum over (serial, vector), where the number of lanes is different in every step."""
    x, y = Buffer("x", "int64", (N, N)), Buffer("y", "int64", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as tasks:
        p = symbol(tasks.variable)
        with tasks.body.loop("serial", 0, N) as steps:
            total = Accumulator("add", "int64")
            steps.loop.accumulators.append(total)
            with steps.body.loop("vector", symbol(steps.variable), p) as lanes:
                k = lanes.body
                value = k.load(x, (symbol(steps.variable), symbol(lanes.variable)))
                k.statements.append(Accumulate(total, value))
        tasks.body.store(y, (p,), steps.result(total))
    given, made = rng.integers(0, 9, (6, 6)), np.zeros(6, np.int64)
    run(Kernel([x, y], scope), given, made, n=6)
    upper = np.triu(given)
    np.testing.assert_array_equal(made, [upper[:, :p].sum() for p in range(6)])


def test_an_accumulator_starts_anew_in_every_iteration(lockstep: int) -> None:
    """The largest sum of a row: two accumulators, one of them read by the other."""
    x, y = Buffer("x", "float64", (N, M)), Buffer("y", "float64", ())
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once:
        with once.body.loop("serial", 0, N) as rows:
            row = symbol(rows.variable)
            with rows.body.loop("vector", 0, M) as lanes:
                total = lanes.accumulate("add", lanes.body.load(x, (row, symbol(lanes.variable))))
            largest = rows.accumulate("max", lanes.result(total))
        once.body.store(y, (), rows.result(largest))
    given, made = rng.normal(size=(4, 6)), np.zeros(())
    run(Kernel([x, y], scope), given, made, n=4, m=6)
    np.testing.assert_allclose(made, given.sum(axis=1).max())


# -- scratch ---------------------------------------------------------------------------------------


def scratch_kernel(write: bool = True) -> Kernel:
    """y = x reversed within each row, by way of scratch, lane by lane in serial loops."""
    x, y = Buffer("x", "float64", (N, M)), Buffer("y", "float64", (N, M))
    aside = Buffer("aside", "float64", (M,), space="worker")
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as rows:
        row = symbol(rows.variable)
        if write:
            with rows.body.loop("serial", 0, M) as save:
                i = symbol(save.variable)
                save.body.store(aside, (i,), save.body.load(x, (row, i)))
        with rows.body.loop("serial", 0, M) as copy:
            i = symbol(copy.variable)
            copy.body.store(y, (row, i), copy.body.load(aside, (M - 1 - i,)))
    return Kernel([x, aside, y], scope)


def test_every_task_has_scratch_of_its_own(lockstep: int) -> None:
    x, y = rng.normal(size=(5, 4)), np.zeros((5, 4))
    memory = np.zeros(2 * 4)
    verify(scratch_kernel())
    run_kernel(scratch_kernel(), [x, memory, y], {"n": 5, "m": 4}, workers=2)
    np.testing.assert_array_equal(y, x[:, ::-1])
    assert np.isnan(memory).all(), "what was in the memory of scratch is lost"


def test_scratch_that_nobody_wrote_is_not_read() -> None:
    with pytest.raises(InterpreterError, match="read before it is written"):
        run(scratch_kernel(False), np.zeros((1, 3)), np.zeros(3), np.zeros((1, 3)), n=1, m=3)


def test_scratch_must_be_large_enough_for_all_workers() -> None:
    with pytest.raises(InterpreterError, match="too small for 3 workers"):
        arrays = [np.zeros((1, 3)), np.zeros(8), np.zeros((1, 3))]
        run_kernel(scratch_kernel(), arrays, {"n": 1, "m": 3}, workers=3)


# -- iterations that see each other ----------------------------------------------------------------


def access_kernel(fill: Callable[[Scope, Any, Any, Buffer], None]) -> Kernel:
    """Two tasks of four lanes over one buffer of n elements."""
    x = Buffer("x", "float64", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, 2, "p") as tasks, tasks.body.loop("vector", 0, 4) as lanes:
        fill(lanes.body, symbol(tasks.variable), symbol(lanes.variable), x)
    return Kernel([x], scope)


def test_lanes_must_not_write_the_same_element(lockstep: int) -> None:
    def fill(k: Scope, p: Any, i: Any, x: Buffer) -> None:
        k.store(x, (4 * p + i // 2,), k.const(1, "float64"))

    with pytest.raises(InterpreterError, match="writ"):
        run(access_kernel(fill), np.zeros(8), n=8)


def test_tasks_must_not_write_the_same_element(lockstep: int) -> None:
    def fill(k: Scope, p: Any, i: Any, x: Buffer) -> None:
        k.store(x, (i,), k.const(1, "float64"))

    with pytest.raises(InterpreterError, match="writ"):
        run(access_kernel(fill), np.zeros(8), n=8)


def test_a_lane_must_not_read_what_another_writes(lockstep: int) -> None:
    def fill(k: Scope, p: Any, i: Any, x: Buffer) -> None:
        k.store(x, (4 * p + i,), k.load(x, (4 * p + (i + 1) % 4,)))

    with pytest.raises(InterpreterError, match="writes what another one reads|reads what another"):
        run(access_kernel(fill), np.zeros(8), n=8)


def test_a_task_must_not_read_what_another_wrote(lockstep: int) -> None:
    def fill(k: Scope, p: Any, i: Any, x: Buffer) -> None:
        k.store(x, (4 * p + i,), k.const(1, "float64"))
        k.load(x, (4 * (1 - p) + i,))

    with pytest.raises(InterpreterError, match="reads"):
        run(access_kernel(fill), np.zeros(8), n=8)


def handed_over(barriers: bool) -> Kernel:
    """Lanes of two tasks store, read what their neighbour stored, and store over it."""

    def hand(k: Scope, p: Any, i: Any, x: Buffer) -> None:
        k.store(x, (4 * p + i,), k.convert(k.index(4 * p + i), "float64"))

    x = Buffer("x", "float64", (symbol("n"),))
    scope = Scope()
    with scope.loop("parallel", 0, 2, "p") as tasks:
        p = symbol(tasks.variable)
        with tasks.body.loop("vector", 0, 4) as lanes:
            hand(lanes.body, p, symbol(lanes.variable), x)
        if barriers:
            tasks.body.barrier()
        first = tasks.body.load(x, (4 * p + 1,))
        if barriers:
            tasks.body.barrier()
        with tasks.body.loop("vector", 0, 2) as lanes:
            at = 4 * p + symbol(lanes.variable)
            value = lanes.body.add(lanes.body.load(x, (at + 2,)), first)
            lanes.body.store(x, (at,), value)
    return Kernel([x], scope)


def test_behind_a_barrier_lanes_read_and_replace_what_others_stored(lockstep: int) -> None:
    found = np.zeros(8)
    kernel = handed_over(barriers=True)
    verify(kernel)
    assert run(kernel, found, n=8) == []
    np.testing.assert_array_equal(found, [3, 4, 2, 3, 11, 12, 6, 7])
    with pytest.raises(InterpreterError, match="reads what another one wrote"):
        run(handed_over(barriers=False), np.zeros(8), n=8)


def test_a_barrier_is_one_of_its_task(lockstep: int) -> None:
    """What another task has stored stays out of reach."""
    x, scope = Buffer("x", "float64", (symbol("n"),)), Scope()
    with scope.loop("parallel", 0, 2, "p") as tasks:
        p = symbol(tasks.variable)
        tasks.body.store(x, (p,), tasks.body.const(1, "float64"))
        tasks.body.barrier()
        with tasks.body.loop("vector", 0, 1) as lanes:
            i = symbol(lanes.variable)
            lanes.body.store(x, (2 + p + i,), lanes.body.load(x, (1 - p + i,)))
    with pytest.raises(InterpreterError, match="another one"):
        run(Kernel([x], scope), np.zeros(4), n=4)


def halving(role: str) -> Kernel:
    """How often each of some numbers is halved until it is less than 1, counted up to 100."""
    x, y = Buffer("x", "float64", (symbol("n"),)), Buffer("y", "float64", (symbol("n"),))
    steps, scope = Buffer("steps", "int64", (symbol("n"),)), Scope()
    outer = ("parallel", 0, 1) if role == "vector" else ("parallel", 0, symbol("n"))
    with scope.loop(*outer, "p") as tasks:
        if role == "vector":
            with tasks.body.loop("vector", 0, symbol("n")) as lanes:
                _halve(lanes.body, symbol(lanes.variable), x, y, steps)
        else:
            _halve(tasks.body, symbol(tasks.variable), x, y, steps)
    return Kernel([x, y, steps], scope)


def _halve(k: Scope, i: Any, x: Buffer, y: Buffer, steps: Buffer) -> None:
    k.store(y, (i,), k.load(x, (i,)))
    k.store(steps, (i,), k.const(0, "int64"))
    with k.loop("serial", 0, 100) as every:
        b = every.body
        value, count = b.load(y, (i,)), b.load(steps, (i,))
        done = b.lt(value, 1.0)
        b.store(y, (i,), b.select(done, value, b.mul(value, 0.5)))
        b.store(steps, (i,), b.select(done, count, b.add(count, 1)))
        b.until(done)


@pytest.mark.parametrize("role", ["vector", "serial"])
def test_a_loop_ends_when_all_that_run_together_would(role: str, lockstep: int) -> None:
    values = np.array([0.5, 1.0, 1000.0, 3.0, 2.0**60])
    halved, steps = np.zeros(5), np.zeros(5, np.int64)
    kernel = halving(role)
    verify(kernel)
    assert run(kernel, values, halved, steps, n=5) == []
    np.testing.assert_array_equal(steps, [0, 1, 10, 2, 61])
    assert "until" in kernel.text()


def handing(of_another: bool) -> Kernel:
    """Each task reads what its last lane wrote, or that of the task before."""
    x, y = Buffer("x", "float64", (2, N)), Buffer("y", "float64", (2,))
    scope = Scope()
    with scope.loop("parallel", 0, 2, "p") as tasks:
        k, p = tasks.body, symbol(tasks.variable)
        with k.loop("vector", 0, N) as lanes:
            i = symbol(lanes.variable)
            lanes.body.store(x, (p, i), lanes.body.convert(lanes.body.index(i), "float64"))
        k.store(y, (p,), k.load(x, (1 - p if of_another else p, N - 1)))
    return Kernel([x, y], scope)


def test_lanes_hand_values_to_their_own_task(lockstep: int) -> None:
    """Once their loop has ended: on a GPU, where they are threads of a block, behind a barrier."""
    made = np.zeros(2)
    run(handing(of_another=False), np.zeros((2, 3)), made, n=3)
    np.testing.assert_array_equal(made, [2, 2])
    with pytest.raises(InterpreterError, match="another one"):
        run(handing(of_another=True), np.zeros((2, 3)), made, n=3)


def test_a_lane_may_read_what_it_wrote_and_what_its_task_wrote(lockstep: int) -> None:
    x, y = Buffer("x", "float64", (N,)), Buffer("y", "float64", (2, 4))
    scope = Scope()
    with scope.loop("parallel", 0, 2, "p") as tasks:
        k, p = tasks.body, symbol(tasks.variable)
        k.store(x, (p,), k.convert(k.index(p + 10), "float64"))
        with k.loop("vector", 0, 4) as lanes:
            i = symbol(lanes.variable)
            lanes.body.store(y, (p, i), lanes.body.load(x, (p,)))
        with k.loop("vector", 0, 4) as lanes:
            i = symbol(lanes.variable)
            lanes.body.store(y, (p, i), lanes.body.add(lanes.body.load(y, (p, i)), 0.5))
    made = np.zeros((2, 4))
    run(Kernel([x, y], scope), np.zeros(2), made, n=2)
    np.testing.assert_array_equal(made, [[10.5] * 4, [11.5] * 4])


def test_buffers_that_overlap_are_one_memory(lockstep: int) -> None:
    memory = np.arange(9, dtype=np.float32)
    run(flat_kernel(), memory[:8], memory[:8], n=8)  # each element in place
    np.testing.assert_array_equal(memory[:8], np.arange(8.0) ** 2 + 1)
    with pytest.raises(InterpreterError, match="another"):
        run(flat_kernel(), memory[:8], memory[1:], n=8)


def test_overlap_of_different_widths_is_seen() -> None:
    x, y = Buffer("x", "float64", (N,)), Buffer("y", "bool", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, N) as lanes:
        k, i = lanes.body, symbol(lanes.variable)
        k.store(y, (i,), k.gt(k.load(x, (i,)), 0))
    memory = np.zeros(64, np.uint8)
    kernel = Kernel([x, y], scope)
    run(kernel, memory[:48].view(np.float64), memory[48:54].view(bool), n=6)
    with pytest.raises(InterpreterError, match="another"):
        run(kernel, memory[:48].view(np.float64), memory[40:46].view(bool), n=6)


# -- what does not fit -----------------------------------------------------------------------------


def test_arrays_must_be_those_of_the_buffers() -> None:
    good = np.zeros(4, np.float32)
    refused: Iterable[tuple[str, Sequence[Any], dict[str, int]]] = [
        ("x is float32", [np.zeros(4), good], {"n": 4}),
        (r"x is float32\[5\]", [good, good.copy()], {"n": 5}),
        ("x is contiguous", [np.zeros(8, np.float32)[::2], good], {"n": 4}),
        ("1 arrays for 2 buffers", [good], {"n": 4}),
        (r"without a value: \['n'\]", [good, good.copy()], {}),
    ]
    for message, arrays, extents in refused:
        with pytest.raises(InterpreterError, match=message):
            run_kernel(flat_kernel(), arrays, extents)


def test_read_only_arrays_are_not_written() -> None:
    y = np.zeros(4, np.float32)
    y.flags.writeable = False
    with pytest.raises(InterpreterError, match="read-only"):
        run(flat_kernel(), np.zeros(4, np.float32), y, n=4)


def test_tasks_must_be_in_the_parallel_loop() -> None:
    with pytest.raises(InterpreterError, match="of a parallel loop over"):
        run(flat_kernel(), np.zeros(4, np.float32), np.zeros(4, np.float32), n=4, tasks=range(2))


def test_a_value_from_nowhere_is_an_error() -> None:
    x = Buffer("x", "float64", (1,))
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once:
        once.body.store(x, (0,), Value(scope, "const", (), "float64", 1.0))
    with pytest.raises(InterpreterError, match="used where it has no value"):
        run_kernel(Kernel([x], scope), [np.zeros(1)], {})


# -- contractions ----------------------------------------------------------------------------------


def contract_kernel(dtype: str = "float64") -> Kernel:
    """out[b, i, j] = relu(sum over k of 2 x[b, i, k] * y[k, j] + bias[j]), and where it is
    positive.
    """
    B, K = dim("b"), dim("k")
    x, y = Buffer("x", dtype, (B, N, K), layout="strided"), Buffer("y", dtype, (K, M))
    bias, out = Buffer("bias", dtype, (M,)), Buffer("out", dtype, (B, N, M))
    positive = Buffer("positive", "bool", (B, N, M))
    scope = Scope()
    left = Scope(scope, ("b1", "i1", "k1"))
    element = left.mul(left.load(x, (symbol("b1"), symbol("i1"), symbol("k1"))), 2)
    right = Scope(scope, ("b2", "k2", "j2"))
    other = right.load(y, (symbol("k2"), symbol("j2")))
    body = Scope(scope, ("b3", "i3", "j3"))
    statement = Contract(
        B,
        N,
        M,
        K,
        dtype,
        Region(("b1", "i1", "k1"), left, element),
        Region(("b2", "k2", "j2"), right, other),
        Region(("b3", "i3", "j3"), body),
    )
    statement.product = Value(body, "result", (), dtype, statement)
    index = (symbol("b3"), symbol("i3"), symbol("j3"))
    value = body.max(body.add(statement.product, body.load(bias, index[2:])), 0)
    body.store(out, index, value)
    body.store(positive, index, body.gt(value, 0))
    scope.statements.append(statement)
    return Kernel([x, y, bias, out, positive], scope)


@pytest.mark.parametrize(
    "sizes", [(2, 3, 4, 5), (1, 1, 1, 1), (2, 3, 4, 0), (2, 0, 4, 5), (0, 3, 4, 5)]
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_contraction_with_prologue_and_epilogue(
    sizes: tuple[int, ...], dtype: str, lockstep: int
) -> None:
    b, n, m, k = sizes
    x, y, bias = (sample(shape, dtype) for shape in ((k, b, n), (k, m), (m,)))
    x = np.moveaxis(x, 0, 2)
    out, positive = np.full((b, n, m), 99, dtype), np.zeros((b, n, m), bool)
    assert run(contract_kernel(dtype), x, y, bias, out, positive, b=b, n=n, m=m, k=k) == []
    wanted = np.maximum((2 * x) @ y + bias, 0)
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(positive, out > 0)


def test_some_elements_of_a_contraction(lockstep: int) -> None:
    x, y, bias = np.ones((1, 3, 2)), np.ones((2, 4)), np.zeros(4)
    out, positive = np.zeros((1, 3, 4)), np.zeros((1, 3, 4), bool)
    sizes = {"b": 1, "n": 3, "m": 4, "k": 2}
    run(contract_kernel(), x, y, bias, out, positive, tasks=range(3, 9), **sizes)
    np.testing.assert_array_equal(out.ravel(), [0] * 3 + [4] * 6 + [0] * 3)


def test_a_contraction_must_not_write_over_its_operands() -> None:
    x = np.ones((1, 2, 2))
    with pytest.raises(InterpreterError, match="writes what another one reads"):
        arrays = [x, np.ones((2, 2)), np.zeros(2), x, np.zeros((1, 2, 2), bool)]
        run(contract_kernel(), *arrays, b=1, n=2, m=2, k=2)


# -- programs built by hand ------------------------------------------------------------------------


def add_launch(first: Operand, second: Operand, target: Operand, size: Any = N) -> Launch:
    """target = 2 * first + second, over `size` elements."""
    names = [Buffer(name, "float64", (size,)) for name in ("x", "y", "z")]
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, size) as lanes:
        k, i = lanes.body, (symbol(lanes.variable),)
        k.store(names[2], i, k.add(k.mul(k.load(names[0], i), 2), k.load(names[1], i)))
    return Launch(Kernel(names, scope), [first, second, target], 1, 1)


FLOAT64 = np.dtype("float64")


def storage(kind: str, position: int = -1, shape: Any = (N,), **more: Any) -> Storage:
    return Storage(kind, FLOAT64, shape, position, **more)


def chain_program(second_offset: int, arena: Any) -> Program:
    """t = 2x + x; u = 2t + x; out = 2t + u, with t and u in the arena, u at `second_offset`."""
    x, out = storage("input", 0), storage("output", 1)
    t, u = storage("temporary"), storage("temporary")
    u.offset = second_offset
    body = [
        add_launch(Operand(x), Operand(x), Operand(t)),
        add_launch(Operand(t), Operand(x), Operand(u)),
        add_launch(Operand(t), Operand(u), Operand(out)),
    ]
    return Program(Procedure("main", [x], [out], ("n",), body, arena), [], [])


def test_temporaries_live_at_their_offsets() -> None:
    x = np.arange(4.0)
    seen: list[tuple[Any, float]] = []
    (out,), failures = run_program(
        chain_program(64, 128),
        [x],
        {"n": 4},
        trace=lambda launch, arrays: seen.append((launch, arrays[2][1])),
    )
    np.testing.assert_array_equal(out, 13 * x)
    assert failures == []
    assert [value for _, value in seen] == [3, 7, 13]
    assert all(isinstance(launch, Launch) for launch, _ in seen)


def test_a_wrong_plan_shows() -> None:
    with pytest.raises(InterpreterError, match="of an arena of 64"):
        run_program(chain_program(64, 64), [np.arange(4.0)], {"n": 4})
    with pytest.raises(InterpreterError, match="is planned at 8 "):
        run_program(chain_program(8, 128), [np.arange(4.0)], {"n": 4})
    (out,), _ = run_program(chain_program(0, 128), [np.arange(4.0)], {"n": 4})
    assert not np.array_equal(out, 13 * np.arange(4.0)), "u has overwritten t"


def test_a_storage_that_nobody_writes_holds_nan() -> None:
    program = chain_program(64, 128)
    del program.main.body[1]
    (out,), _ = run_program(program, [np.arange(4.0)], {"n": 4})
    assert np.isnan(out).all()


def test_a_result_does_not_overwrite_what_the_kernel_reads_after_it() -> None:
    """t = 3x; one kernel: z = x + x, stored, then y = t; out = 2y + z."""
    x, out = storage("input", 0, (9,)), storage("output", 1, (9,))
    t, z, y = (storage("temporary", shape=(9,)) for _ in range(3))
    names = [Buffer(name, "float64", (9,)) for name in ("x", "t", "z", "y")]
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, 9) as lanes:
        k, i = lanes.body, (symbol(lanes.variable),)
        value = k.load(names[0], i)
        k.store(names[2], i, k.add(value, value))
        k.store(names[3], i, k.load(names[1], i))
    both = Launch(Kernel(names, scope), [Operand(s) for s in (x, t, z, y)], 1, 1)
    body = [
        add_launch(Operand(x), Operand(x), Operand(t), 9),
        both,
        add_launch(Operand(y), Operand(z), Operand(out), 9),
    ]
    program = Program(Procedure("main", [x], [out], (), body), [], [])
    plan(program, 1, product_bytes)
    (made,), _ = run_program(program, [np.arange(9.0)], {})
    np.testing.assert_array_equal(made, 8 * np.arange(9.0))


@pytest.mark.parametrize("reverse", [False, True])
def test_loops_run_in_order(reverse: bool) -> None:
    """state = 2 * state + row, over the rows of x, in either direction."""
    x, start, out = storage("input", 0, (M, N)), storage("input", 1), storage("output", 2)
    zero = storage("constant", array=np.zeros(3), shape=(3,))
    row = Operand(x, symbol("t") * N)
    aside = Operand(storage("temporary"))
    body = [
        add_launch(Operand(zero), Operand(start), Operand(out)),
        Loop(
            "t",
            M,
            reverse,
            [
                add_launch(Operand(out), row, aside),
                add_launch(Operand(zero), aside, Operand(out)),
            ],
        ),
    ]
    program = Program(Procedure("main", [x, start], [out], ("m", "n"), body, 64), [], [])
    given, first = rng.normal(size=(5, 3)), rng.normal(size=3)
    (made,), _ = run_program(program, [given, first], {"m": 5, "n": 3})
    state = first
    for step in given[::-1] if reverse else given:
        state = 2 * state + step
    np.testing.assert_allclose(made, state)
    (made,), _ = run_program(program, [given[:0], first], {"m": 0, "n": 3})
    np.testing.assert_array_equal(made, first)


def call_program(scratch: bool) -> Program:
    """out = f(x, x), f(a, b) = 2a + (2b + a) by way of a temporary of the callee."""
    k = dim("k")
    a, b, c = storage("input", 0, (k,)), storage("input", 1, (k,)), storage("output", 2, (k,))
    t = storage("temporary", shape=(k,))
    callee = Procedure(
        "f",
        [a, b],
        [c],
        ("k",),
        [
            add_launch(Operand(b), Operand(a), Operand(t), k),
            add_launch(Operand(a), Operand(t), Operand(c), k),
        ],
        64,
    )
    x, out = storage("input", 0), storage("output", 1)
    call = Call(callee, [Operand(x), Operand(x), Operand(out)], {"k": N})
    if scratch:
        call.scratch = Storage("temporary", np.dtype("uint8"), (64,), offset=64)
    main = Procedure("main", [x], [out], ("n",), [call], 128)
    return Program(main, [callee], [])


def test_calls_have_an_arena_of_their_own() -> None:
    x = np.arange(5.0)
    (out,), _ = run_program(call_program(True), [x], {"n": 5})
    np.testing.assert_array_equal(out, 5 * x)
    with pytest.raises(InterpreterError, match="of an arena of 0"):
        run_program(call_program(False), [x], {"n": 5})


def test_inputs_and_constants_are_never_written() -> None:
    x, out = storage("input", 0), storage("output", 1)
    one = storage("constant", array=np.ones(4), shape=(4,))
    for target in (x, one):
        body = [add_launch(Operand(x), Operand(x), Operand(target))]
        program = Program(Procedure("main", [x], [out], ("n",), body, 0), [], [])
        with pytest.raises(InterpreterError, match="read-only"):
            run_program(program, [np.zeros(4)], {"n": 4})


def test_a_program_refuses_arrays_of_another_type() -> None:
    program = chain_program(64, 128)
    for given, message in (
        (np.zeros(3), r"input 0 of main is float64\[4\]"),
        (np.zeros(4, np.float32), "the array is float32"),
        (np.zeros(8)[::2], "not contiguous"),
    ):
        with pytest.raises(InterpreterError, match=message):
            run_program(program, [given], {"n": 4})


def test_a_launch_must_count_its_tasks() -> None:
    program = chain_program(64, 128)
    program.main.body[0].tasks = 2  # type: ignore[union-attr]
    with pytest.raises(InterpreterError, match="2 tasks in grains of 1"):
        run_program(program, [np.zeros(4)], {"n": 4})


# -- graphs ----------------------------------------------------------------------------------------

Pairs = list[tuple[Node, Any]]


def lowered(outputs: Any, pairs: Pairs, strided: bool = False) -> tuple[Program, list[Any]]:
    """The program of some outputs over symbols, every kernel verified, and its input arrays."""
    graph, captured = close([node for node, _ in pairs], flatten(outputs)[0])
    assert not captured
    program = lower(expand(graph), workers=2, strided=[strided] * len(pairs))
    for kernel in program.kernels():
        verify(kernel)
    return program, [array for _, array in pairs]


def sizes_of(pairs: Pairs) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for node, array in pairs:
        bind_extents(node.type, np.shape(array), sizes, node.attrs["name"])
    return sizes


def compare(outputs: Any, pairs: Pairs, strided: bool = False, loose: bool = False) -> Program:
    """Run the program of a graph, and compare: exact, or with floats a rounding error apart."""
    program, arrays = lowered(outputs, pairs, strided)
    made, failures = run_program(program, arrays, sizes_of(pairs), workers=2)
    assert failures == []
    for found, node in zip(made, flatten(outputs)[0], strict=True):
        wanted = gx.evaluate(node, dict(pairs))
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        if found.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted)
            continue
        close_to = 3e-5 if loose or found.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(found, wanted, rtol=close_to, atol=close_to)
    return program


def inputs(*types: Any) -> tuple[list[Node], Pairs]:
    """Symbols and arrays. A type is a shape, with a dtype after it if that is not float64."""
    nodes: list[Node] = []
    pairs: Pairs = []
    for number, type_ in enumerate(types):
        stated = type_ and isinstance(type_[-1], str)
        shape, dtype = type_ if stated else (type_, "float64")
        node = gx.symbol(f"x{number}", shape, dtype)
        nodes.append(node)
        pairs.append((node, sample(tuple(shape), dtype)))
    return nodes, pairs


def positions(pairs: Pairs, number: int, low: int, high: int) -> None:
    """Make an integer input one of positions from `low` to `high`, exclusive."""
    node, array = pairs[number]
    pairs[number] = (node, rng.integers(low, high, array.shape))


Case = Callable[[], tuple[Any, Pairs]]
CASES: dict[str, Case] = {}


def case(build: Case) -> Case:
    CASES[build.__name__] = build
    return build


@case
def elementwise() -> tuple[Any, Pairs]:
    (x, y), pairs = inputs((5, 7), (5, 7))
    return gx.exp(x) * y + x / y, pairs


@case
def broadcasts() -> tuple[Any, Pairs]:
    (x, y, z, s), pairs = inputs((4, 5, 7), (4, 1, 7), (7,), ())
    return [x * y + z, gx.sin(s) * z, y - s], pairs


@case
def rank_zero() -> tuple[Any, Pairs]:
    (x,), pairs = inputs(())
    return gx.tanh(x) * 2, pairs


@case
def softmax_of_rows() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((6, 300))
    return gx.softmax(x), pairs


@case
def softmax_of_columns() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((30, 6))
    return gx.softmax(x, axis=0), pairs


@case
def softmax_in_the_middle() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((3, 30, 6))
    return gx.softmax(x, axis=1), pairs


@case
def layer_norm() -> tuple[Any, Pairs]:
    (x, scale), pairs = inputs((6, 30), (30,))
    centred = x - gx.mean(x, axis=-1, keepdims=True)
    variance = gx.mean(centred * centred, axis=-1, keepdims=True)
    y = centred / gx.sqrt(variance + 1e-5) * scale
    return [y, *gx.grad(gx.sum(gx.sin(y)), [x, scale])], pairs


@case
def sums_over_each_axis() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 30, 8))
    return [gx.sum(x, axis=axes) for axes in (0, 1, 2, (0, 1), (0, 2), (1, 2), None)], pairs


@case
def split_sum() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((300, 400))
    return [gx.sum(gx.exp(x)), x - gx.mean(x)], pairs


@case
def split_sum_with_a_view_of_another_rank() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((300, 400))
    return gx.pad(gx.sum(x), []) * 2, pairs


@case
def split_rows() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 40000))
    return gx.sum(x, axis=1) + 1, pairs


@case
def split_columns() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((30000, 5))
    return gx.max(x * 2, axis=0), pairs


@case
def split_middle() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((3, 200, 200))
    return gx.max(x, axis=(1, 2)), pairs


@case
def matmul_bias_relu() -> tuple[Any, Pairs]:
    (x, w, b), pairs = inputs(((6, 30), "float32"), ((30, 20), "float32"), ((20,), "float32"))
    return gx.relu(x @ w + b), pairs


@case
def products() -> tuple[Any, Pairs]:
    (x, y, v, a, b), pairs = inputs((3, 4, 5), (3, 5, 6), (5,), (5, 6), (4, 5, 2))
    return [(x @ y) * 2, x @ v, gx.exp(gx.dot(v, v)), x @ a, gx.tensordot(x, b)], pairs


@case
def product_of_integers() -> tuple[Any, Pairs]:
    (x, y), pairs = inputs(((3, 4), "int64"), ((4, 5), "int64"))
    return x @ y, pairs


@case
def attention() -> tuple[Any, Pairs]:
    (q, k, v), pairs = inputs((2, 7, 8), (2, 9, 8), (2, 9, 8))
    out = gx.softmax(q @ gx.swapaxes(k, -1, -2)) @ v
    return [out, *gx.grad(gx.sum(gx.sin(out)), [q, k, v])], pairs


@case
def network_gradient() -> tuple[Any, Pairs]:
    (x, w, b, v), pairs = inputs((6, 30), (30, 20), (20,), (20, 5))
    loss = gx.sum(gx.log_softmax(gx.relu(x @ w + b) @ v)[:, 0])
    return [loss, *gx.grad(loss, [x, w, b, v])], pairs


@case
def takes() -> tuple[Any, Pairs]:
    (x, i, j), pairs = inputs((10, 6), ((4,), "int64"), ((2, 3), "int64"))
    positions(pairs, 1, -10, 10)
    positions(pairs, 2, -6, 6)
    return [gx.take(x, i, axis=0) * 2, gx.take(x, j, axis=1), gx.take(gx.exp(x), j), x[i, 2]], pairs


@case
def gradient_of_take() -> tuple[Any, Pairs]:
    (x, i, j), pairs = inputs((10, 6), ((4,), "int64"), ((2, 3), "int64"))
    positions(pairs, 1, -2, 3)
    positions(pairs, 2, -6, 6)
    cost = gx.sum(gx.sin(gx.take(x, i, axis=0))) + gx.sum(gx.take(x * x, j, axis=1))
    return gx.grad(cost, x), pairs


@case
def cross_entropy() -> tuple[Any, Pairs]:
    (x, labels), pairs = inputs((6, 10), ((6,), "int64"))
    positions(pairs, 1, 0, 10)
    chosen = gx.take_along_axis(gx.log_softmax(x), gx.expand_dims(labels, 1), 1)
    return [-gx.mean(chosen), gx.grad(-gx.mean(chosen), x)], pairs


@case
def concatenations() -> tuple[Any, Pairs]:
    (x, y, z), pairs = inputs((3, 4), (3, 2), (2, 4))
    wide = gx.concatenate([x, y * 2, y], axis=1) + 1
    tall = gx.concatenate([gx.exp(x), z], axis=0)
    return [wide, tall, gx.stack([x, x * 2], axis=1), gx.grad(gx.sum(gx.sin(tall)), [x, z])], pairs


@case
def pads() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((3, 4))
    wide = gx.pad(gx.exp(x), [(1, 2), (0, 3)])
    return [wide, gx.sum(wide + 1, axis=1), gx.pad(x, [(0, 0), (0, 1)])], pairs


@case
def slices() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((10, 12))
    parts = [x[2:8:2, ::-1], x[-1], x[:, 3], x[None, 1:3], x[::-2, 5:1:-3], gx.exp(x)[:4, :2]]
    return [parts, gx.grad(gx.sum(gx.sin(x[1:9:3, ::-2])) + gx.sum(x[0] * x[1]), x)], pairs


@case
def reshapes() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 6))
    moved = gx.exp(x).reshape(3, 8)
    return [
        moved,
        gx.sum(moved, axis=1),
        x.reshape(24).reshape(2, 12).T + 1,
        (x * 2).reshape(8, 3)[1],
    ], pairs


@case
def outputs_of_every_kind() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 6))
    y = gx.exp(x)
    made = [x, y, y, y.T, y.reshape(24), x.reshape(6, 4), x.T]
    return [*made, gx.full((3, 2), 1.5), gx.iota((3, 4), 1), gx.constant(np.arange(5))], pairs


@case
def positions_of_maxima() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 6))
    return [gx.argmax(x, axis=1), gx.argmax(x, axis=0), gx.argmax(x)], pairs


@case
def two_results() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 6))
    rest, whole = gx.modf(x * 3)
    cost = gx.sum(gx.sin(rest) * whole)
    return [rest, whole, rest + whole, gx.sum(rest, axis=1), gx.grad(cost, x)], pairs


@case
def two_results_of_kernels_alike() -> tuple[Any, Pairs]:
    """Groups of one signature share a kernel; their results are those of a node that has two."""
    (x, y, z), pairs = inputs((4, 6), (4, 6), (4, 6))
    return [part for each in (x, y, z) for part in gx.modf(gx.cumsum(each, axis=1))], pairs


@case
def two_results_of_one_element() -> tuple[Any, Pairs]:
    (x,), pairs = inputs(())
    rest, whole = gx.modf(x * 3)
    return [x + rest, whole, whole], pairs


@case
def truth_values_and_integers() -> tuple[Any, Pairs]:
    (x, y), pairs = inputs(((4, 6), "bool"), ((4, 6), "int64"))
    made = [x & (y > 0), gx.any(x, axis=1), gx.all(x), gx.sum(x), gx.where(x, y, -y)]
    return [*made, gx.max(y, axis=0), gx.prod(y, axis=1), gx.min(x), gx.cast(y, "bool")], pairs


@case
def casts() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4, 6))
    return [
        gx.cast(x * 3, "int64"),
        gx.cast(x, "float32"),
        gx.cast(gx.cast(x, "bool"), "float32"),
    ], pairs


@case
def scans() -> tuple[Any, Pairs]:
    (x, s), pairs = inputs((9, 4), (4,))
    step = lambda s, x: (gx.tanh(s * 0.5 + x), s * x)  # noqa: E731
    return [gx.scan(step, s, x), gx.scan(step, s, x, reverse=True)], pairs


@case
def scan_that_exchanges_states() -> tuple[Any, Pairs]:
    (s, u), pairs = inputs((4,), (4,))
    return gx.scan(lambda s, _: ((s[1], s[0]), s[0]), (s, u), None, length=3), pairs


@case
def scan_in_a_scan() -> tuple[Any, Pairs]:
    (x, s), pairs = inputs((5, 3), (3,))

    def outer(s: Node, row: Node) -> Any:
        total, _ = gx.scan(lambda a, b: (a * 0.5 + b, a), gx.sum(s), row)
        return s + total, total

    return gx.scan(outer, s, x), pairs


@case
def scan_gradient() -> tuple[Any, Pairs]:
    (x, s, w), pairs = inputs((9, 4), (4,), (4, 4))
    final, sums = gx.scan(lambda s, x: (gx.tanh(s @ w + x), gx.sum(s)), s, x)
    cost = gx.sum(final * final) + gx.sum(gx.sin(sums))
    return gx.grad(cost, [x, s, w]), pairs


@case
def jacobian_by_scan() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4,))
    return gx.jacobian(gx.sin(x) * gx.sum(x), x), pairs


@case
def hessian() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((4,))
    return gx.hessian(gx.sum(gx.sin(x) * x) * gx.sum(x), x), pairs


@case
def calls() -> tuple[Any, Pairs]:
    (x, w), pairs = inputs((50, 30), (30, 30))

    def layer(h: Node, w: Node) -> Node:
        centred = h - gx.mean(h, axis=0)
        return gx.softmax(centred @ h.T, axis=1) @ gx.tanh(h @ w)

    for _ in range(3):
        x = gx.call(layer, x, w)
    return [x * 2, *gx.grad(gx.sum(x), [w])], pairs


@case
def call_in_a_scan() -> tuple[Any, Pairs]:
    (x, s), pairs = inputs((5, 3), (3,))
    return gx.scan(lambda s, x: (gx.call(lambda a, b: gx.softmax(a * b), s, x), s), s, x), pairs


@case
def check_that_holds() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((5, 3))
    every = gx.check(x, x < 100, "all of them") * 2
    return [every, gx.check(x, gx.sum(x) < 1e9, "one of rank 0")], pairs


@case
def extrema_and_products_differentiated() -> tuple[Any, Pairs]:
    (x,), pairs = inputs((5, 8))
    cost = gx.sum(gx.max(x, axis=1) * 2) + gx.sum(gx.prod(x, axis=1)) + gx.min(x)
    return gx.grad(cost, x), pairs


@case
def convolution_by_slices() -> tuple[Any, Pairs]:
    (x, w), pairs = inputs((20,), (3,))
    return sum((x[i : i + 18] * w[i] for i in range(1, 3)), x[:18] * w[0]), pairs


@case
def stored_values_that_wait_for_each_other() -> tuple[Any, Pairs]:
    """The first and the last have one shape, and the second, of another, lies between them."""
    (x,), pairs = inputs((4, 5))
    first = gx.exp(x)
    second = first.T * 2
    return [first, second, gx.sin(second.T)], pairs


@case
def no_elements() -> tuple[Any, Pairs]:
    (x, y), pairs = inputs((7, 1), (2, 1))
    none = x[:, 1:]
    made = [
        none * 2,
        gx.sum(none, axis=1),
        gx.sum(none),
        none.reshape(0),
        none.reshape(0, 7),
        none.T,
    ]
    return [*made, y.T[1:].reshape(1, 0, 2), gx.concatenate([none, none], axis=0)], pairs


@pytest.mark.parametrize("name", CASES)
def test_lowered_graphs_match_the_evaluator(name: str) -> None:
    compare(*CASES[name]())


@pytest.mark.parametrize("m", [0, 1, 4])
@pytest.mark.parametrize("n", [0, 1, 5, 300])
def test_one_program_serves_every_size(n: int, m: int) -> None:
    x, y = gx.symbol("x", ("n", "m")), gx.symbol("y", ("m",))
    pairs: Pairs = [(x, sample((n, m), "float64")), (y, sample((m,), "float64"))]
    outputs = [x * y, gx.sum(x, axis=0), gx.sum(x, axis=1), gx.sum(x), x @ y, gx.exp(x).T]
    outputs += [
        gx.concatenate([x, x], axis=0),
        x.reshape(-1),
        gx.softmax(x),
        gx.sum(x) * x.shape[0],
    ]
    compare(outputs, pairs)


@pytest.mark.parametrize("length", [0, 1, 6])
def test_scans_of_any_length(length: int) -> None:
    x, s = gx.symbol("x", ("t", "n")), gx.symbol("s", ("n",))
    pairs: Pairs = [(x, sample((length, 7), "float64")), (s, sample((7,), "float64"))]
    compare(gx.scan(lambda s, x: (gx.tanh(s * 0.5 + gx.softmax(x)), gx.sum(s * x)), s, x), pairs)


def test_strided_inputs_are_read_in_place() -> None:
    x, y = gx.symbol("x", ("n", "m")), gx.symbol("y", ("n", "m"))
    wide, turned = rng.normal(size=(10, 14)), rng.normal(size=(7, 5))
    pairs: Pairs = [(x, wide[::2, ::-2]), (y, turned.T)]
    outputs = [gx.exp(x) * y, gx.sum(x, axis=0), x @ y.T, x.reshape(-1), x, gx.softmax(x)]
    compare(outputs, pairs, strided=True)
    final = gx.scan(lambda s, row: (gx.tanh(s + row), s), x[0], y)
    compare(final, pairs, strided=True)


def test_a_position_out_of_range_is_a_failure() -> None:
    x, i = gx.symbol("x", (10, 6)), gx.symbol("i", (4,), "int64")
    given: Pairs = [(x, np.zeros((10, 6))), (i, np.array([3, -1, 10, -11]))]
    program, arrays = lowered(gx.take(x, i, axis=0) * 2, given)
    _, failures = run_program(program, arrays, {}, workers=2)
    assert failures == [Failure(1, 0, 10)]
    assert program.checks[0].node.op.name == "gather"


def test_a_check_that_does_not_hold_is_a_failure() -> None:
    x = gx.symbol("x", (5, 3))
    array = np.arange(15.0).reshape(5, 3)
    program, arrays = lowered(gx.check(x, x < 7.5, "small") * 2, [(x, array)])
    made, failures = run_program(program, arrays, {}, workers=2)
    assert [(failure.code, failure.node) for failure in failures] == [(3, 0)]
    np.testing.assert_array_equal(made[0], 2 * array)


@pytest.mark.parametrize("count", [1, 3])
def test_a_single_task_has_a_single_copy_of_its_scratch(count: int) -> None:
    """However many workers there are: only of several tasks does each worker need its own."""
    x = gx.symbol("x", (count, 6, 6))
    graph, _ = close([x], [gx.linalg.eigh(x)[0]])
    arenas = {w: lower(expand(graph), workers=w).main.arena for w in (1, 2, 64)}
    assert (arenas[64] == arenas[1]) == (count == 1)
    assert count == 1 or arenas[64] > 30 * arenas[2] // 2
    a = rng.normal(size=(count, 6, 6))
    a = a + np.swapaxes(a, -1, -2)
    program = lower(expand(graph), workers=64)
    (values,), failures = run_program(program, [a], {}, workers=64)
    assert not failures
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a), atol=1e-12)


# -- graphs at random ------------------------------------------------------------------------------


class Garden:
    """A graph grown at random: a pool of nodes of small shapes, and the moves that add to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.symbolic = seed % 3 == 2
        self.sizes = {
            "n": self.random.choice([0, 1, 2, 4, 30]),
            "m": self.random.choice([0, 1, 3, 4]),
        }
        rows, columns = self.extent(), self.extent()
        shapes = [(rows, columns), (columns,), (rows, 1), ()]
        self.inputs = [
            gx.symbol(f"x{i}", self.random.choice(shapes)) for i in range(self.random.randint(1, 3))
        ]
        self.positions = gx.symbol("k", (self.random.choice([2, 4]),), "int64")
        self.pool = list(self.inputs)
        count = self.random.randint(3, 16)
        for _ in range(200):
            if len(self.pool) > count:
                break
            self.grow()
        self.outputs = [self.pool[-1], *self.random.choices(self.pool, k=self.random.randint(0, 3))]
        if self.random.random() < 0.4:
            self.differentiate()

    def extent(self) -> Any:
        return self.random.choice([1, 2, 3, 5, 7] + ["n", "m"] * 2 * self.symbolic)

    def pick(self) -> Node:
        recent = self.random.random() < 0.6
        return self.random.choice(self.pool[-6:] if recent else self.pool)

    def grow(self) -> None:
        """Try to make one more value; much of what is tried has no meaning."""
        try:
            made = self.random.choice(MOVES)(self, self.pick())
        except (gx.GraphError, ValueError, TypeError, IndexError):
            return
        for node in flatten(made)[0]:
            sizes = [evaluate(extent, {"n": 4, "m": 4}) for extent in node.shape]
            if np.prod(sizes, dtype=int) < 5000:
                self.pool.append(node)

    def differentiate(self) -> None:
        costs = [gx.sum(gx.sin(node)) for node in self.outputs if node.dtype.kind == "f"]
        if costs:
            total = sum(costs[1:], costs[0])
            try:
                self.outputs += gx.grad(total, self.inputs)
            except gx.GraphError:
                return

    def pairs(self) -> Pairs:
        values: Pairs = []
        for node in self.inputs:
            shape = tuple(evaluate(extent, self.sizes) for extent in node.shape)
            values.append((node, rng.normal(size=shape)))
        return [*values, (self.positions, rng.integers(-9, 9, self.positions.shape))]

    # -- moves -------------------------------------------------------------------------------------

    def axis(self, x: Node) -> Any:
        several = [tuple(sorted(self.random.sample(range(x.ndim), 2)))] if x.ndim > 1 else []
        return self.random.choice([None, *range(x.ndim), *several])

    def reduce(self, x: Node) -> Any:
        function = self.random.choice([gx.sum, gx.sum, gx.mean, gx.max])
        return function(x, axis=self.axis(x), keepdims=self.random.random() < 0.4)

    def reshape(self, x: Node) -> Any:
        lead, last = x.shape[:1], x.shape[-1:]
        shapes = [(-1,), (1, -1), (-1, 1), (*lead, -1), (-1, *last), (1, *x.shape), x.shape[::-1]]
        return gx.reshape(x, self.random.choice(shapes))

    def transpose(self, x: Node) -> Any:
        return gx.transpose(x, self.random.sample(range(x.ndim), x.ndim))

    def slice(self, x: Node) -> Any:
        flips = [slice(None), slice(None, None, -1)]
        some = [slice(1, None), slice(None, None, 2), slice(0, 1), 0, -1, None]
        return x[tuple(self.random.choice([*flips, *some * isinstance(e, int)]) for e in x.shape)]

    def pad(self, x: Node) -> Any:
        return gx.pad(x, [(self.random.randint(0, 2), self.random.randint(0, 2)) for _ in x.shape])

    def concatenate(self, x: Node) -> Any:
        parts = [x, self.pick(), gx.exp(-(x * x))][: self.random.randint(2, 3)]
        return gx.concatenate(parts, axis=self.random.randrange(x.ndim))

    def take(self, x: Node) -> Any:
        axis = self.random.randrange(x.ndim)
        last = float(x.shape[axis]) - 1  # a TypeError if it is symbolic
        where = gx.cast(gx.minimum(gx.absolute(self.positions) * 1.0, last), "int64")
        return gx.take(x, where, axis=axis)

    def multiply(self, x: Node) -> Any:
        y = self.pick()
        return self.random.choice(
            [lambda: x @ y, lambda: x @ y.T, lambda: x.T @ y, lambda: x @ x.T]
        )()

    def scan(self, x: Node) -> Any:
        other = self.pick()

        def step(state: Node, row: Node) -> Any:
            made = gx.tanh(state * 0.5 + row) + gx.sum(other) * 0.1
            return made, made * row

        return gx.scan(step, gx.sum(x, axis=0) * 0.1, x, reverse=self.random.random() < 0.5)

    def call(self, x: Node) -> Any:
        return gx.call(lambda a, b: gx.tanh(a * 0.5) + gx.sum(b) * 0.01, x, self.pick())

    def choose(self, x: Node) -> Any:
        y = self.pick()
        return gx.where(x > y, x, y * 2)


MOVES: list[Callable[[Garden, Node], Any]] = [
    lambda g, x: x + g.pick(),
    lambda g, x: x * g.pick(),
    lambda g, x: x - g.pick(),
    lambda g, x: gx.tanh(x),
    lambda g, x: gx.exp(-(x * x)),
    lambda g, x: gx.relu(x),
    lambda g, x: gx.modf(x * 2),
    lambda g, x: gx.softmax(x),
    lambda g, x: gx.argmax(x) * 1.0,
    lambda g, x: gx.cast(gx.cast(x, "float32"), "float64"),
    Garden.reduce,
    Garden.reduce,
    Garden.reduce,
    Garden.reshape,
    Garden.transpose,
    Garden.slice,
    Garden.pad,
    Garden.concatenate,
    Garden.take,
    Garden.multiply,
    Garden.multiply,
    Garden.scan,
    Garden.call,
    Garden.choose,
]


def check_garden(seed: int) -> None:
    garden = Garden(seed)
    pairs = garden.pairs()
    try:
        gx.evaluate(garden.outputs, dict(pairs))
    except (ValueError, IndexError):
        return  # sizes that the graph does not admit
    if seed % 5 == 4:
        pairs = [
            (node, np.repeat(a[..., ::-1], 2, -1)[..., ::-2] if a.ndim else a) for node, a in pairs
        ]
        compare(garden.outputs, pairs, strided=True, loose=True)
    else:
        compare(garden.outputs, pairs, loose=True)


@pytest.mark.parametrize("block", range(8))
def test_random_graphs_match_the_evaluator(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        check_garden(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_random_graphs_match_the_evaluator(block: int) -> None:
    for seed in range(1000 + block * 100, 1100 + block * 100):
        check_garden(seed)
