"""What becomes of a call among threads, signals, forks and interpreters that end?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.runtime.callspec import CallSpec, Input, Output
from tests.runtime.call_programs import (
    EXPECTED,
    F8,
    I8,
    KINDS,
    ROOT,
    RUNTIME,
    Subject,
    buffer,
    compile_program,
    concatenation,
    in_threads,
    make,
    needs_native,
    posix_only,
    run_python,
)

# -- threads --------------------------------------------------------------------------------------


def test_many_threads_call_one_function(kind: str) -> None:
    g = concatenation(kind)  # releases the GIL and uses a workspace

    def work(number: int) -> None:
        for step in range(25 if kind == "plain" else 100):
            n, m = 1 + (number * 37 + step) % 400, 3000 + step
            x, y, z = np.full(n, number + 0.5), np.full(m, step - 0.25), np.ones(n + m)
            result = g(x, y, z)
            assert (result[:n] == number + 1.5).all() and (result[n:] == step + 0.75).all()

    in_threads(8, work)


def waiting(kind: str, threshold: int) -> Any:
    """Waits until x[0] is not 0; fails with code 3 when that takes too long."""
    body = (
        buffer("x", 0)
        + buffer("out", 1)
        + "  br label %look\nlook:\n  %i = phi i64 [ 0, %start ], [ %next, %look ]\n"
        "  %next = add i64 %i, 1\n  %v = load atomic volatile i64, ptr %x monotonic, align 8\n"
        "  %still = icmp eq i64 %v, 0\n  %soon = icmp slt i64 %i, 20000000000\n"
        "  %again = and i1 %still, %soon\n  br i1 %again, label %look, label %done\ndone:\n"
        "  store i64 %v, ptr %out\n  %code = select i1 %soon, i64 0, i64 3\n  ret i64 %code"
    )
    program = compile_program(body)
    spec = CallSpec(
        (Input("x", I8, (1,)),),
        (Output(I8, ()),),
        program["program"],
        slots=(1000,),
        work_slot=0,
        release_threshold=threshold,
    )
    return make(Subject(spec, program), kind)


def test_work_above_the_threshold_releases_the_lock(kind: str) -> None:
    g, flag = waiting(kind, 999), np.zeros(1, np.int64)
    timer = threading.Timer(0.05, flag.fill, (42,))
    timer.start()
    assert g(flag) == 42
    timer.join()


# -- signals and processes ------------------------------------------------------------------------


def polling(kind: str, threshold: int) -> Any:
    """Polls until it is cancelled, 2 ** 40 times at most."""
    poll = {"poll": RUNTIME.poll_address}
    body = (
        "  %cancel_at = getelementptr i64, ptr %status, i64 4\n  br label %look\nlook:\n"
        "  %i = phi i64 [ 0, %start ], [ %next, %look ]\n  %next = add i64 %i, 1\n"
        "  call void @poll(ptr %status)\n"
        "  %cancel = load atomic i64, ptr %cancel_at monotonic, align 8\n"
        "  %going = icmp eq i64 %cancel, 0\n  %soon = icmp slt i64 %i, 1099511627776\n"
        "  %again = and i1 %going, %soon\n  br i1 %again, label %look, label %done\ndone:\n"
        "  %code = load i64, ptr %status\n  ret i64 %code"
    )
    program = compile_program(body, symbols=poll)
    spec = CallSpec(
        (),
        (Output(F8, ()),),
        program["program"],
        slots=(1000,),
        work_slot=0,
        release_threshold=threshold,
    )
    return make(Subject(spec, program), kind)


@posix_only
@pytest.mark.parametrize("threshold", [0, 10**6], ids=["released", "held"])
def test_an_interrupt_stops_a_long_call(kind: str, threshold: int) -> None:
    script = f"""
        import signal, sys
        from tests.runtime import call_programs
        import test_call_processes
        f = test_call_processes.polling({kind!r}, {threshold})
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            f()
        except KeyboardInterrupt:
            print("interrupted", f._impl.failures)
        assert call_programs.make(f._impl)  # the process goes on
        print(call_programs.rebuild_multiply_add("")(call_programs.X, call_programs.Y)[0])
    """
    lines = run_python(script).stdout.splitlines()
    assert lines == ["interrupted []", str(EXPECTED[0])]


@posix_only
def test_an_interrupt_from_outside() -> None:
    """As a user's Ctrl-C: another process sends the signal, nothing in this one expects it."""
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'runtime')!r}]\n"
        f"import test_call_processes\nf = test_call_processes.polling({KINDS[0]!r}, 0)\n"
        "print('ready', flush=True)\nf()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0


@posix_only
def test_handlers_that_return_let_the_call_go_on(kind: str) -> None:
    g, flag = waiting_politely(kind), np.zeros(1, np.int64)
    seen = []

    def handler(*_: Any) -> None:
        seen.append(len(seen))
        flag[0] = len(seen) >= 2

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert g(flag) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert seen == [0, 1]


def waiting_politely(kind: str) -> Any:
    """Waits until x[0] is not 0, polling; the handler of a signal sets it."""
    poll = {"poll": RUNTIME.poll_address}
    body = (
        buffer("x", 0)
        + buffer("out", 1)
        + "  br label %look\nlook:\n  call void @poll(ptr %status)\n"
        "  %v = load atomic volatile i64, ptr %x monotonic, align 8\n"
        "  %still = icmp eq i64 %v, 0\n  br i1 %still, label %look, label %done\ndone:\n"
        "  store i64 %v, ptr %out\n  ret i64 0"
    )
    program = compile_program(body, symbols=poll)
    spec = CallSpec(
        (Input("x", I8, (1,)),),
        (Output(I8, ()),),
        program["program"],
        slots=(1000,),
        work_slot=0,
        release_threshold=0,
    )
    return make(Subject(spec, program), kind)


def test_a_thread_in_a_call_when_the_interpreter_ends() -> None:
    """A daemon thread that wants the lock back from a dead interpreter must not bring it down."""
    script = f"""
        import threading, time
        import numpy as np
        import test_call_processes
        f, flag = test_call_processes.waiting({KINDS[0]!r}, 0), np.zeros(1, np.int64)
        threading.Thread(target=f, args=(flag,), daemon=True).start()
        time.sleep(0.1)
        class Late:
            def __del__(self):
                flag[0] = 1
                time.sleep(0.05)
        late = Late()
    """
    run_python(script)


def test_large_results_may_outlive_everything() -> None:
    script = f"""
        import builtins
        import numpy as np
        from tests.runtime import call_programs
        f = call_programs.make(call_programs.Subject(call_programs.MULTIPLY_ADD_SPEC), {KINDS[0]!r})
        x = np.ones(1 << 18)
        builtins.kept = f(x, x)
        builtins.function = f
    """
    run_python(script)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_calls_go_on_after_a_fork() -> None:
    script = f"""
        import os, signal, threading
        import test_call_processes
        f = test_call_processes.polling({KINDS[0]!r}, 0)
        def fork():
            child = os.fork()
            if child:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            signal.alarm(1)  # this thread is the child's main thread
            try:
                f()
            except KeyboardInterrupt:
                os._exit(7)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    """
    run_python(script, "-W", "ignore", expect=7)


@needs_native
def test_everything_again_in_development_mode() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error::ResourceWarning",
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-k",
            "native and not interrupt or leaks",
            *sorted(str(path) for path in Path(__file__).parent.glob("test_call*.py")),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
