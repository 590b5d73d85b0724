"""Does the kernel interpreter compute what the languages say, and stop at what they forbid?

Every kind of statement in kernels built by hand, against NumPy. `test_interpret_programs` does so
for programs, `test_interpret_graphs` for graphs that are lowered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from graphc.codegen.interpret import Failure, InterpreterError, run_kernel
from graphc.codegen.interpret import kernel as kernels
from graphc.codegen.interpret.context import polynomial
from graphc.codegen.loops import Buffer, Contract, Kernel, Region, verify
from graphc.codegen.scalar import Accumulate, Accumulator, Scope, Value
from graphc.dims import Dim, dim, dim_max, dim_min, evaluate

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
