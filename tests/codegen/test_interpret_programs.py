"""Does the kernel interpreter run programs as they are planned, and show a plan that is wrong?

Programs built by hand: launches, loops, calls, and where in an arena their storages lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.codegen.interpret import InterpreterError, run_program
from graphc.codegen.loops import Buffer, Kernel
from graphc.codegen.memory import plan, sums_alone
from graphc.codegen.program import Call, Launch, Loop, Operand, Procedure, Program, Storage
from graphc.codegen.scalar import Scope
from graphc.dims import Dim, dim

N, M = dim("n"), dim("m")
rng = np.random.default_rng(7)


def add_launch(first: Operand, second: Operand, target: Operand, size: Any = N) -> Launch:
    """target = 2 * first + second, over `size` elements."""
    names = [Buffer(name, "float64", (size,)) for name in ("x", "y", "z")]
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, size) as lanes:
        k, i = lanes.body, (Dim.symbol(lanes.variable),)
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
        k, i = lanes.body, (Dim.symbol(lanes.variable),)
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
    plan(program, 1, sums_alone)
    (made,), _ = run_program(program, [np.arange(9.0)], {})
    np.testing.assert_array_equal(made, 8 * np.arange(9.0))


@pytest.mark.parametrize("reverse", [False, True])
def test_loops_run_in_order(reverse: bool) -> None:
    """state = 2 * state + row, over the rows of x, in either direction."""
    x, start, out = storage("input", 0, (M, N)), storage("input", 1), storage("output", 2)
    zero = storage("constant", array=np.zeros(3), shape=(3,))
    row = Operand(x, Dim.symbol("t") * N)
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
