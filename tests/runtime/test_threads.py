"""Does the pool run every range exactly once, whoever calls it and whatever happens meanwhile?"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from graphc.codegen.status import Status
from graphc.runtime import threads
from graphc.runtime.cache import Cache
from graphc.runtime.engine import Engine, HostMachine, Loaded
from graphc.runtime.objectfile import read_symbols
from graphc.runtime.threads import Platform, Pool, default_workers, host_platform, pool_text

ROOT = Path(__file__).resolve().parents[2]
CAPACITY = 4
WORD = ctypes.c_int64
POINTER = ctypes.c_void_p
POLL = ctypes.CFUNCTYPE(None, POINTER)
IS_LINUX = sys.platform == "linux"
KERNELS = """
declare void @graphc_parallel_for(ptr, ptr, i64, i64, i64, ptr)
declare i64 @pthread_self()

; counts[task] += 1 + (worker << 32)
define void @mark(ptr %counts, i64 %begin, i64 %end, i64 %worker) {
entry:
  %high = shl i64 %worker, 32
  %one = add i64 %high, 1
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %at = getelementptr i64, ptr %counts, i64 %i
  %old = atomicrmw add ptr %at, i64 %one monotonic
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

; context: counts, ends, workers, threads, inside (one cache line a worker), violations
define void @record(ptr %context, i64 %begin, i64 %end, i64 %worker) {
entry:
  %counts = load ptr, ptr %context
  %ends_at = getelementptr ptr, ptr %context, i64 1
  %ends = load ptr, ptr %ends_at
  %workers_at = getelementptr ptr, ptr %context, i64 2
  %workers = load ptr, ptr %workers_at
  %threads_at = getelementptr ptr, ptr %context, i64 3
  %threads = load ptr, ptr %threads_at
  %inside_at = getelementptr ptr, ptr %context, i64 4
  %inside = load ptr, ptr %inside_at
  %violations_at = getelementptr ptr, ptr %context, i64 5
  %violations = load ptr, ptr %violations_at
  %line = mul i64 %worker, 8
  %flag = getelementptr i64, ptr %inside, i64 %line
  %other = atomicrmw xchg ptr %flag, i64 1 seq_cst
  %ignored = atomicrmw add ptr %violations, i64 %other monotonic
  %end_at = getelementptr i64, ptr %ends, i64 %begin
  store i64 %end, ptr %end_at
  %worker_at = getelementptr i64, ptr %workers, i64 %begin
  store i64 %worker, ptr %worker_at
  %self = call i64 @pthread_self()
  %thread_at = getelementptr i64, ptr %threads, i64 %begin
  store i64 %self, ptr %thread_at
  call void @mark(ptr %counts, i64 %begin, i64 %end, i64 0)
  store atomic i64 0, ptr %flag seq_cst, align 8
  ret void
}

; context: here, wanted; every range waits until all are here, but not for ever
define void @meet(ptr %context, i64 %begin, i64 %end, i64 %worker) {
entry:
  %ignored = atomicrmw add ptr %context, i64 1 seq_cst
  %wanted_at = getelementptr i64, ptr %context, i64 1
  %wanted = load i64, ptr %wanted_at
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %again]
  %here = load atomic i64, ptr %context seq_cst, align 8
  %met = icmp sge i64 %here, %wanted
  br i1 %met, label %done, label %again
again:
  %next = add i64 %i, 1
  %patient = icmp slt i64 %next, 8000000000
  br i1 %patient, label %loop, label %lonely
lonely:
  store atomic i64 -1000000, ptr %context seq_cst, align 8
  ret void
done:
  ret void
}

; context: ranges run, task at which to stop, the word that stops
define void @stop(ptr %context, i64 %begin, i64 %end, i64 %worker) {
entry:
  %ignored = atomicrmw add ptr %context, i64 1 monotonic
  %limit_at = getelementptr i64, ptr %context, i64 1
  %limit = load i64, ptr %limit_at
  %word_at = getelementptr i64, ptr %context, i64 2
  %word = load ptr, ptr %word_at
  %reached = icmp sge i64 %begin, %limit
  br i1 %reached, label %raise, label %done
raise:
  store atomic i64 5, ptr %word monotonic, align 8
  br label %done
done:
  ret void
}

; context: cancel word, another thread is in the second range, the second range was released. The
; first range ends when the second has begun; the second, when the job is cancelled.
define void @outstay(ptr %context, i64 %begin, i64 %end, i64 %worker) {
entry:
  %cancel = load ptr, ptr %context
  %began = getelementptr i64, ptr %context, i64 1
  %released = getelementptr i64, ptr %context, i64 2
  %is_first = icmp eq i64 %begin, 0
  br i1 %is_first, label %wait, label %second
second:
  store atomic i64 1, ptr %began seq_cst, align 8
  br label %wait
wait:
  %word = phi ptr [%began, %entry], [%cancel, %second]
  br label %loop
loop:
  %i = phi i64 [0, %wait], [%next, %again]
  %value = load atomic i64, ptr %word seq_cst, align 8
  %go = icmp ne i64 %value, 0
  br i1 %go, label %leave, label %again
again:
  %next = add i64 %i, 1
  %patient = icmp slt i64 %next, 8000000000
  br i1 %patient, label %loop, label %done
leave:
  br i1 %is_first, label %done, label %note
note:
  store atomic i64 1, ptr %released seq_cst, align 8
  br label %done
done:
  ret void
}

; context: counts, inner tasks; each task runs a job of its own
define void @nest(ptr %context, i64 %begin, i64 %end, i64 %worker) {
entry:
  %counts = load ptr, ptr %context
  %inner_at = getelementptr i64, ptr %context, i64 1
  %inner = load i64, ptr %inner_at
  %status_at = getelementptr i64, ptr %context, i64 2
  %status = load ptr, ptr %status_at
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %first = mul i64 %i, %inner
  %part = getelementptr i64, ptr %counts, i64 %first
  call void @graphc_parallel_for(ptr @mark, ptr %part, i64 %inner, i64 3, i64 4, ptr %status)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

; jobs of every small size: job j has j mod %sizes tasks, grain 1 + j mod 7 and
; 1 + j mod %teams workers
define void @sweep(i64 %jobs, ptr %counts, i64 %sizes, i64 %teams) {
entry:
  br label %loop
loop:
  %j = phi i64 [0, %entry], [%next, %loop]
  %tasks = urem i64 %j, %sizes
  %fine = urem i64 %j, 7
  %grain = add i64 %fine, 1
  %few = urem i64 %j, %teams
  %workers = add i64 %few, 1
  call void @graphc_parallel_for(ptr @mark, ptr %counts, i64 %tasks, i64 %grain, i64 %workers,
                                 ptr null)
  %next = add i64 %j, 1
  %more = icmp slt i64 %next, %jobs
  br i1 %more, label %loop, label %done
done:
  ret void
}

; context: the workers that ran a range, one bit each; how long a range takes, in turns of a loop
define void @dawdle(ptr %context, i64 %begin, i64 %end, i64 %worker) {
entry:
  %bit = shl i64 1, %worker
  %ignored = atomicrmw or ptr %context, i64 %bit seq_cst
  %turns_at = getelementptr i64, ptr %context, i64 1
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %turns = load atomic i64, ptr %turns_at seq_cst, align 8
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %loop, label %done
done:
  ret void
}

; halves float32 numbers
define void @halve(ptr %numbers, i64 %begin, i64 %end, i64 %worker) {
entry:
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %at = getelementptr float, ptr %numbers, i64 %i
  %old = load float, ptr %at
  %new = fmul float %old, 0.5
  store float %new, ptr %at
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""
EXPORTS = ("mark", "record", "meet", "stop", "outstay", "nest", "sweep", "dawdle", "halve")


@dataclass
class Runner:
    """A pool and kernels linked to it."""

    pool: Pool
    code: Loaded

    def run(self, kernel: str, context, tasks: int, grain: int, workers: int, status=None) -> None:
        call = ctypes.CFUNCTYPE(None, POINTER, POINTER, WORD, WORD, WORD, POINTER)
        data = context.ctypes.data if isinstance(context, np.ndarray) else context
        record = None if status is None else status.ctypes.data
        call(self.pool.address)(self.code[kernel], data, tasks, grain, workers, record)

    def sweep(self, jobs: int, counts: np.ndarray, sizes: int, teams: int) -> None:
        call = ctypes.CFUNCTYPE(None, WORD, POINTER, WORD, WORD)
        call(self.code["sweep"])(jobs, counts.ctypes.data, sizes, teams)


def make_runner(engine: Engine, pool: Pool) -> Runner:
    symbols = {"graphc_parallel_for": pool.address, **engine.process_symbols(["pthread_self"])}
    return Runner(pool, engine.load_ir(KERNELS, EXPORTS, symbols))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Cache(tmp_path_factory.mktemp("cache")))


def usable_platforms() -> list[str]:
    if IS_LINUX:
        return ["futex", "condition", "none"]
    return ["condition", "none"] if sys.platform == "darwin" else ["none"]


@pytest.fixture(scope="module", params=usable_platforms())
def runner(engine: Engine, request: pytest.FixtureRequest) -> Runner:
    host = host_platform(engine.host.triple)
    chosen = host
    if request.param != host.sleep:
        chosen = Platform(
            request.param,
            host.architecture,
            host.monotonic_clock,
            host.set_signal_mask,
            host.detached,
            host.fault_signals,
        )
    pool = Pool(engine, chosen, capacity=CAPACITY)
    assert pool.platform.sleep == request.param
    return make_runner(engine, pool)


@pytest.fixture
def parallel(runner: Runner) -> Runner:
    if runner.pool.platform.sleep == "none":
        pytest.skip("a serial pool")
    return runner


# --- every range once ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [-1, 0, 1, 2, 3, 4, 1000])
@pytest.mark.parametrize(
    ("tasks", "grain"),
    [(1, 1), (2, 1), (3, 2), (7, 7), (7, 8), (10, 3), (100, 1), (1000, 7), (1000, 2**62), (64, 0)],
)
def test_every_task_runs_once(runner: Runner, tasks: int, grain: int, workers: int) -> None:
    counts = zeros(tasks + 1)
    for repetition in range(1, 4):
        runner.run("mark", counts, tasks, grain, workers)
        assert (counts[:tasks] & 0xFFFFFFFF == repetition).all()
    assert counts[tasks] == 0


@pytest.mark.parametrize("tasks", [0, -1, -(2**63)])
def test_no_tasks(runner: Runner, tasks: int) -> None:
    counts = zeros(1)
    runner.run("mark", counts, tasks, 1, 4)
    assert counts[0] == 0


def run_recorded(runner: Runner, tasks: int, grain: int, workers: int) -> dict[str, np.ndarray]:
    arrays = {
        "counts": zeros(tasks),
        "ends": zeros(tasks),
        "workers": zeros(tasks) - 1,
        "threads": zeros(tasks),
        "inside": zeros(threads.MAX_WORKERS, 8),
        "violations": zeros(1),
    }
    context = np.array([array.ctypes.data for array in arrays.values()], np.int64)
    runner.run("record", context, tasks, grain, workers)
    return arrays


@pytest.mark.parametrize(("tasks", "grain"), [(1000, 10), (1001, 10), (9, 4), (500, 1)])
def test_the_partition_does_not_depend_on_workers(runner: Runner, tasks: int, grain: int) -> None:
    begins = np.arange(0, tasks, grain)
    expected = zeros(tasks)
    expected[begins] = np.minimum(begins + grain, tasks)
    for workers in (1, 2, 3, 4, 100):
        assert (run_recorded(runner, tasks, grain, workers)["ends"] == expected).all()


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 100])
def test_worker_numbers(runner: Runner, workers: int) -> None:
    for _ in range(50):
        result = run_recorded(runner, 300, 1, workers)
        assert (result["counts"] == 1).all()
        assert result["violations"][0] == 0  # no number was used twice at the same time
        assert result["workers"].min() >= 0
        assert result["workers"].max() < min(workers, CAPACITY)
        threads_of = {
            number: set(result["threads"][result["workers"] == number])
            for number in np.unique(result["workers"])
        }
        assert all(len(identities) == 1 for identities in threads_of.values())
        if IS_LINUX and 0 in threads_of:  # elsewhere Python's identity is its own
            assert threads_of[0] == {threading.get_ident()}
        assert len(set.union(*threads_of.values())) == len(threads_of)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_ranges_run_at_the_same_time(engine: Engine, parallel: Runner, workers: int) -> None:
    fresh = make_runner(engine, Pool(engine, parallel.pool.platform, capacity=workers))
    context = np.array([0, workers], np.int64)
    fresh.run("meet", context, workers, 1, workers)
    assert context[0] == workers
    assert fresh.pool.started == workers - 1


def test_many_small_jobs(runner: Runner) -> None:
    jobs, sizes = 20_000, 97
    counts = zeros(sizes)
    runner.sweep(jobs, counts, sizes, CAPACITY + 1)
    expected = np.bincount(np.arange(jobs) % sizes, minlength=sizes)
    expected = expected.sum() - expected.cumsum()  # jobs that have more tasks than i
    assert (counts & 0xFFFFFFFF == expected).all()


def test_jobs_after_pauses(runner: Runner) -> None:
    """Workers are found spinning, falling asleep, and asleep."""
    counts = zeros(50)
    pauses = [0, 20e-6, 45e-6, 50e-6, 55e-6, 70e-6, 200e-6, 2e-3] * 12
    for pause in pauses:
        end = time.perf_counter() + pause
        while time.perf_counter() < end:
            pass
        runner.run("mark", counts, 50, 1, CAPACITY)
    assert (counts & 0xFFFFFFFF == len(pauses)).all()


def test_a_job_that_proves_long_wakes_the_workers(parallel: Runner) -> None:
    """Its function was quick the last time, so the caller expected to be done alone."""
    context = np.array([0, 1], np.int64)
    for _ in range(3):
        time.sleep(0.005)  # the workers are asleep
        parallel.run("dawdle", context, 100, 1, 2)
    context[:] = 0, 200_000
    time.sleep(0.005)
    parallel.run("dawdle", context, 400, 1, 2)
    assert context[0] == 0b11


def test_quick_jobs_in_a_row_wake_the_workers(parallel: Runner) -> None:
    """Each is too quick to be worth it; all together are not."""
    context = np.array([0, 1], np.int64)
    parallel.run("dawdle", context, 100, 1, 2)
    time.sleep(0.005)
    parallel.run("dawdle", context, 100, 1, 2)  # known to be quick
    context[:] = 0, 1000
    for _ in range(2000):
        parallel.run("dawdle", context, 30, 1, 2)
        if context[0] == 0b11:
            break
    assert context[0] == 0b11


def test_a_million_small_jobs(runner: Runner) -> None:
    jobs, sizes = 1_000_000, 31
    counts = zeros(sizes)
    runner.sweep(jobs, counts, sizes, CAPACITY + 1)
    expected = np.bincount(np.arange(jobs) % sizes, minlength=sizes)
    assert (counts & 0xFFFFFFFF == expected.sum() - expected.cumsum()).all()


# --- nested, concurrent, cancelled ----------------------------------------------------------------


@pytest.mark.parametrize("with_status", [False, True])
def test_nested_jobs_run_serially(runner: Runner, with_status: bool) -> None:
    outer, inner = 40, 17
    counts = zeros(outer, inner)
    status = zeros(8)
    pointer = status.ctypes.data if with_status else 0
    context = np.array([counts.ctypes.data, inner, pointer], np.int64)
    for repetition in range(1, 20):
        runner.run("nest", context, outer, 3, CAPACITY, status if with_status else None)
        assert (counts == repetition).all()  # worker 0 everywhere: no high bits


def test_python_threads_share_the_pool(runner: Runner) -> None:
    results: list[bool] = []
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        counts = zeros(200 + seed)
        start.wait()
        for _ in range(300):
            runner.run("mark", counts, len(counts), 1 + seed, CAPACITY)
        results.append(bool((counts & 0xFFFFFFFF == 300).all()))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 4


@pytest.mark.parametrize("word", [Status.CODE, Status.CANCEL])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_stopped_job_starts_no_more_ranges(runner: Runner, word: int, workers: int) -> None:
    status = zeros(8)
    # Everybody stops at the first range it runs, so each participant runs one at most.
    context = np.array([0, 0, status.ctypes.data + 8 * word], np.int64)
    runner.run("stop", context, 10_000, 1, workers, status)
    assert status[word] == 5
    assert 1 <= context[0] <= workers
    if workers == 1:
        status[:], context[:2] = 0, (0, 30)
        runner.run("stop", context, 10_000, 1, workers, status)
        assert context[0] == 31


def test_a_job_that_is_cancelled_beforehand_does_nothing(runner: Runner) -> None:
    status = zeros(8)
    status[Status.CANCEL] = 1
    counts = zeros(100)
    for workers in (1, 4):
        runner.run("mark", counts, 100, 1, workers, status)
    assert not counts.any()
    runner.run("mark", counts, 100, 1, 4)  # the pool is none the worse for it
    assert (counts & 0xFFFFFFFF == 1).all()


# --- polling -------------------------------------------------------------------------------------


@pytest.fixture
def polled(runner: Runner):
    """Sets a Python function as the poll function for one test."""
    held = []

    def install(handler) -> None:
        held.append(POLL(handler))
        runner.pool.configure(poll=ctypes.cast(held[-1], POINTER).value)

    yield install
    runner.pool.configure(poll=0)


def test_a_serial_job_polls_after_each_range(runner: Runner, polled) -> None:
    records: list[int] = []
    polled(records.append)
    status = zeros(8)
    runner.run("mark", zeros(100), 100, 10, 1, status)
    assert records == [status.ctypes.data] * 10


def test_only_the_caller_polls(runner: Runner, polled) -> None:
    """Not even a job that is nested in a worker's range does."""
    callers = set()
    polled(lambda record: callers.add(threading.get_ident()))
    outer, inner = 500, 10
    counts, status = zeros(outer, inner), zeros(8)
    context = np.array([counts.ctypes.data, inner, status.ctypes.data], np.int64)
    for _ in range(3):
        runner.run("nest", context, outer, 1, CAPACITY, status)
    assert (counts == 3).all()
    assert callers <= {threading.get_ident()}  # none, if the workers were quicker


def test_without_a_status_nobody_polls(runner: Runner, polled) -> None:
    calls = []
    polled(calls.append)
    runner.run("mark", zeros(100), 100, 1, 4)
    runner.run("mark", zeros(100), 100, 1, 1)
    assert calls == []


def test_a_poll_cancels_a_job(runner: Runner, polled) -> None:
    status = zeros(8)
    polled(lambda record: status.__setitem__(Status.CANCEL, 1))
    context = np.array([0, 2**62, status.ctypes.data + 64], np.int64)
    runner.run("stop", context, 2**40, 1, 4, status)
    assert 1 <= context[0] < 2**40


def test_a_waiting_caller_polls(engine: Engine, parallel: Runner) -> None:
    """The caller has nothing left to do and sleeps; what it polls releases the worker."""
    fresh = make_runner(engine, Pool(engine, parallel.pool.platform, capacity=2))
    status = zeros(8)
    calls = []

    def poll(record: int) -> None:
        calls.append(record)
        if len(calls) == 4:
            status[Status.CANCEL] = 1

    handler = POLL(poll)
    fresh.pool.configure(poll=ctypes.cast(handler, POINTER).value)
    cancel = status.ctypes.data + 8 * Status.CANCEL
    context = np.array([cancel, 0, 0], np.int64)
    fresh.run("outstay", context, 2, 1, 2, status)
    fresh.pool.configure(poll=0)
    assert context[2] == 1
    assert len(calls) >= 4


# --- what a thread inherits ----------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads MXCSR")
def test_workers_take_the_float_mode_of_the_caller(engine: Engine, runner: Runner) -> None:
    text = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define void @read(ptr %at) {
  call void @llvm.x86.sse.stmxcsr(ptr %at)
  ret void
}
define void @write(ptr %at) {
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret void
}
"""
    mode = engine.load_ir(text, ["read", "write"])
    read = ctypes.CFUNCTYPE(None, POINTER)(mode["read"])
    write = ctypes.CFUNCTYPE(None, POINTER)(mode["write"])
    before = np.zeros(1, np.uint32)
    read(before.ctypes.data)
    flushing = before | 0x8040  # flush to zero, denormals are zero
    tasks = 20_000
    subnormal = np.full(tasks, 1e-39, np.float32)
    for repetition in range(10):
        numbers = subnormal.copy()
        flushes = repetition % 2 == 0
        write((flushing if flushes else before).ctypes.data)
        try:
            runner.run("halve", numbers, tasks, 10, CAPACITY)
        finally:
            write(before.ctypes.data)
        bits = np.unique(numbers.view(np.uint32))
        assert len(bits) == 1
        assert (bits[0] == 0) is np.bool_(flushes)


def worker_threads() -> list[Path]:
    own = str(threading.get_native_id())
    return [task for task in Path("/proc/self/task").iterdir() if task.name != own]


@pytest.mark.skipif(not IS_LINUX, reason="reads /proc")
def test_workers_leave_signals_and_cpus_alone(parallel: Runner) -> None:
    counts = zeros(64)
    for _ in range(20):
        time.sleep(0.001)  # so that workers are woken from sleep, where CPUs are forbidden
        parallel.run("mark", counts, 64, 1, CAPACITY)
    time.sleep(0.01)
    own = os.sched_getaffinity(0)
    blocked = 0
    for task in worker_threads():
        assert os.sched_getaffinity(int(task.name)) == own
        status = (task / "status").read_text()
        mask = int(status.partition("SigBlk:")[2].split()[0], 16)
        if mask >> (signal.SIGINT - 1) & 1:
            blocked += 1
            assert not mask >> (signal.SIGSEGV - 1) & 1
    assert blocked >= parallel.pool.started


# --- the life of a process -----------------------------------------------------------------------


@pytest.fixture
def folder(engine: Engine) -> Path:
    assert engine.cache.folder is not None
    return engine.cache.folder.parent


def run_python(code: str, folder: Path) -> str:
    setup = f"""
        import ctypes, os, sys, threading, time, warnings
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        warnings.simplefilter("ignore")
        import numpy as np
        from graphc.runtime.cache import Cache
        from graphc.runtime.engine import Engine
        from graphc.runtime.threads import Pool
        from test_threads import make_runner, zeros
        engine = Engine(Cache({str(folder)!r}))
        pool = Pool(engine, capacity=4)
        runner = make_runner(engine, pool)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(setup) + textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_exit_while_workers_spin(folder: Path) -> None:
    code = """
        counts = zeros(100)
        for _ in range(100):
            runner.run("mark", counts, 100, 1, 4)
        print((counts & 0xffffffff == 100).all())
    """
    for _ in range(3):
        assert run_python(code, folder) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_its_own_workers(folder: Path) -> None:
    code = """
        def check(pool_runner):
            counts = zeros(1000)
            for _ in range(200):
                pool_runner.run("mark", counts, 1000, 3, 4)
            return bool((counts & 0xffffffff == 200).all())

        assert check(runner)
        before = pool.started
        child = os.fork()
        if child == 0:
            had = pool.started
            good = check(runner)
            os._exit(0 if good and had == 0 and pool.started == before else 1)
        assert check(runner)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pool.started == before)
    """
    assert run_python(code, folder) == "0 True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_another_thread_is_in_a_job(folder: Path) -> None:
    code = """
        stop = threading.Event()

        def work():
            counts = zeros(5000)
            while not stop.is_set():
                runner.run("mark", counts, 5000, 1, 4)

        thread = threading.Thread(target=work)
        thread.start()
        children = []
        for attempt in range(10):
            time.sleep(0.003)
            child = os.fork()
            if child == 0:
                counts = zeros(1000)
                for _ in range(20):
                    runner.run("mark", counts, 1000, 1, 4)
                os._exit(0 if (counts & 0xffffffff == 20).all() and pool.started else 1)
            children.append(child)
        codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
        stop.set()
        thread.join()
        print(codes)
    """
    assert run_python(code, folder) == "{0}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_inside_a_job_cancels_it_in_the_child(folder: Path) -> None:
    """A signal handler that forks while a call polls: the child cannot finish what workers took."""
    code = """
        forked = []

        def poll(record):
            if not forked:
                forked.append(os.fork())

        handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(poll)
        counts, status = zeros(10000), zeros(8)
        runner.run("mark", counts, 10000, 1, 4)
        pool.configure(poll=ctypes.cast(handler, ctypes.c_void_p).value)
        runner.run("mark", counts, 10000, 1, 4, status)
        if forked == [0]:
            pool.configure(poll=0)
            cancelled = status[4] == 1
            counts = zeros(1000)
            runner.run("mark", counts, 1000, 1, 4)
            os._exit(0 if cancelled and (counts & 0xffffffff == 1).all() else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1])
        print(code, status[4], (counts & 0xffffffff == 2).all())
    """
    assert run_python(code, folder) == "0 0 True"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_the_default_respects_affinity(folder: Path) -> None:
    code = """
        from graphc.runtime.threads import default_workers
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(default_workers(), Pool(engine).capacity)
        counts = zeros(100)
        time.sleep(0.001)
        for _ in range(5):  # four threads on one CPU: slow, but right
            runner.run("mark", counts, 100, 1, 4)
        print((counts & 0xffffffff == 5).all())
    """
    assert run_python(code, folder) == "1 1\nTrue"
    assert default_workers() == len(os.sched_getaffinity(0))


def test_no_threads_before_the_first_job(folder: Path) -> None:
    code = """
        counts = zeros(10)
        print(pool.started, end=" ")
        runner.run("mark", counts, 10, 10, 4)  # one range
        runner.run("mark", counts, 10, 1, 1)  # one worker
        print(pool.started, end=" ")
        runner.run("mark", counts, 10, 5, 4)
        print(pool.started, end=" ")
        runner.run("mark", counts, 10, 1, 4)
        print(pool.started)
    """
    expected = "0 0 0 0" if sys.platform == "win32" else "0 0 1 3"
    assert run_python(code, folder) == expected


@pytest.mark.skipif(not IS_LINUX, reason="needs a limit on threads")
def test_a_system_that_refuses_threads(folder: Path) -> None:
    code = """
        import mmap, resource
        counts = zeros(100)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        held = []
        try:
            while True:
                held.append(mmap.mmap(-1, 1 << 20))
        except OSError:
            del held[-9:]  # room for one stack of 8 MiB
        for _ in range(10):
            runner.run("mark", counts, 100, 1, 4)
        print((counts & 0xffffffff == 10).all(), pool.started)
    """
    assert run_python(code, folder) == "True 1"


# --- other platforms -----------------------------------------------------------------------------

OTHERS = {
    "linux x86-64": ("x86_64-unknown-linux-gnu", Platform("futex", "x86_64")),
    "linux aarch64": ("aarch64-unknown-linux-gnu", Platform("futex", "aarch64")),
    "linux riscv64": ("riscv64-unknown-linux-gnu", Platform("condition", "riscv64")),
    "macos": ("arm64-apple-macosx", Platform("condition", "aarch64", 6, 3, 2, (4, 10, 8, 11))),
    "windows": ("x86_64-pc-windows-msvc", Platform("none", "x86_64")),
}


@pytest.mark.parametrize(("triple", "chosen"), OTHERS.values(), ids=OTHERS)
def test_the_pool_compiles_for(engine: Engine, triple: str, chosen: Platform) -> None:
    features = "+m,+a,+d" if chosen.architecture == "riscv64" else ""
    machine = HostMachine(triple, "", features)
    if "windows" in triple:
        assert "graphc_parallel_for" in engine.assembly(pool_text(chosen), machine=machine)
        return
    table = read_symbols(engine.compile_ir(pool_text(chosen), passes="O2", machine=machine))
    assert "graphc_parallel_for" in table.defined
    assert table.undefined - set(chosen.c_functions) <= {"memset", "bzero", "__bzero"}


def test_the_host_gets_the_fastest_way_to_sleep(engine: Engine) -> None:
    chosen = host_platform(engine.host.triple)
    if IS_LINUX and chosen.architecture in ("x86_64", "aarch64"):
        assert chosen.sleep == "futex"
        assert Pool(engine).platform.sleep == "futex"  # every C function was found
    assert host_platform("arm64-apple-macosx").architecture == "aarch64"


def test_one_pool_for_a_process(engine: Engine) -> None:
    assert threads.symbols(engine) == threads.symbols(engine)
    assert threads.pool(engine).address == threads.symbols(engine)["graphc_parallel_for"]
    assert threads.pool(engine).capacity == default_workers()
