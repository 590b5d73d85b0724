"""How does one native call use several cores? A pool of threads written in LLVM IR.

Between kernels there is no Python, so the pool is native as well: `graphc_parallel_for` cuts
`tasks` into ranges of `grain`, and the caller and the workers take them. What a range is depends on
`tasks` and `grain` only, never on the number of threads, so a kernel that stores one partial result
a range gives the same bits however many threads there are, one included.

Taking ranges. Each participant owns a contiguous block of ranges and takes them from its front, so
that it meets the same memory again in the next kernel; whoever has finished takes from the back of
the others' blocks. One atomic counter a block says how many ranges of it are claimed, so nobody
waits for anybody and a thread that is late or asleep costs nothing but its help. Against one shared
ticket counter, repeated passes over arrays took 0.6 to 0.8 of the time with two threads.

Waking. Workers spin for 50 microseconds after a job, then sleep in the kernel. Sleepers are woken
along a binary tree, each by a thread that is already awake, and not at all for a job that is
expected to be over before they could help. Linux likes to wake a thread on the CPU of the one that
wakes it, where it waits for milliseconds behind it; so the waker first forbids the sleeper its own
CPU, and the worker allows it again when the job is over.

One job at a time. A call made while the pool is busy, by a nested kernel or by another Python
thread, runs its ranges serially in the calling thread: no queue, no deadlock, no oversubscription.

The order that makes it correct. The caller fills the job, then publishes `@generation` with the
number of participants in it. A worker that sees it sets its `busy` flag, *then* reads the
generation again, and leaves if it has changed. The caller closes the generation, *then* waits
until no flag is set. All four are sequentially consistent, so either the worker sees the job
closed or the caller sees the worker busy, and no worker touches a job, or the caller's stack, after
the call has returned. Sleeping follows the same pattern with `asleep` and the generation.

Platforms. Linux on x86-64 and aarch64 sleeps on futexes. Linux on other processors and macOS use
a mutex and a condition variable, and leave the choice of CPU to the kernel. On Windows, on systems
not known here, and where the C library lacks a function, `graphc_parallel_for` runs serially.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from dataclasses import dataclass, replace

from graphc.codegen.status import Status
from graphc.runtime import ir
from graphc.runtime.engine import Engine, EngineError, Loaded

MAX_WORKERS = 256  # participants of one job, the caller included
SPIN_NANOSECONDS = 50_000  # a spinning worker answers in 0.2 us, a sleeping one in 10 to 40
_WORTH_WAKING_NANOSECONDS = 100_000  # of work by the caller alone, from where two threads win
_POLL_NANOSECONDS = 50_000_000  # how often a caller that sleeps for its workers looks for signals
_STACK_BYTES = 8 << 20  # of a worker; musl would give 128 KiB, macOS 512 KiB



@dataclass(frozen=True)
class _SystemCalls:
    """Linux numbers its system calls for each architecture anew."""

    futex: int
    set_affinity: int
    get_affinity: int
    get_cpu: int
    get_thread: int


_LINUX = {
    "x86_64": _SystemCalls(202, 203, 204, 309, 186),
    "aarch64": _SystemCalls(98, 122, 123, 168, 178),
}

# An instruction that tells the core it spins, for the processors that this house knows (they also
# have a float_mode_*.ll). On aarch64 `yield` does nothing; `isb` takes time.
_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.isb(i32)", "call void @llvm.aarch64.isb(i32 15)"),
}

_C_FUNCTIONS = {
    "none": (),
    "futex": ("syscall",),
    "condition": (
        "pthread_mutex_init",
        "pthread_mutex_lock",
        "pthread_mutex_unlock",
        "pthread_cond_init",
        "pthread_cond_wait",
        "pthread_cond_timedwait",
        "pthread_cond_broadcast",
    ),
}
_C_FUNCTIONS_OF_A_POOL = (
    "pthread_create",
    "pthread_attr_init",
    "pthread_attr_setstacksize",
    "pthread_attr_setdetachstate",
    "pthread_attr_destroy",
    "pthread_key_create",
    "pthread_getspecific",
    "pthread_setspecific",
    "pthread_sigmask",
    "sigfillset",
    "sigdelset",
    "clock_gettime",
)
_EXPORTS = (
    "graphc_parallel_for",
    "graphc_threads_configure",
    "graphc_threads_started",
    "graphc_threads_reset",
)


@dataclass(frozen=True)
class Platform:
    """How the pool sleeps on one kind of system, and the numbers its C headers give to names."""

    sleep: str  # "futex", "condition", or "none" for a serial pool
    architecture: str  # LLVM's name: "x86_64", "aarch64", ...
    monotonic_clock: int = 1  # CLOCK_MONOTONIC
    set_signal_mask: int = 2  # SIG_SETMASK
    detached: int = 1  # PTHREAD_CREATE_DETACHED
    fault_signals: tuple[int, ...] = (4, 7, 8, 11)  # SIGILL, SIGBUS, SIGFPE, SIGSEGV

    @property
    def c_functions(self) -> tuple[str, ...]:
        """The functions of the C library that the pool calls."""
        common = () if self.sleep == "none" else _C_FUNCTIONS_OF_A_POOL
        return common + _C_FUNCTIONS[self.sleep]


def host_platform(triple: str) -> Platform:
    """The platform of this process, whose LLVM triple is `triple`."""
    first = triple.partition("-")[0]
    architecture = {"arm64": "aarch64"}.get(first, first)
    if sys.platform == "linux":
        return Platform("futex" if architecture in _LINUX else "condition", architecture)
    if sys.platform == "darwin":
        return Platform(
            "condition",
            architecture,
            monotonic_clock=6,
            set_signal_mask=3,
            detached=2,
            fault_signals=(4, 10, 8, 11),
        )
    return Platform("none", architecture)


def pool_text(platform: Platform) -> str:
    """The pool as LLVM IR."""
    declare_pause, pause = _PAUSE.get(platform.architecture, ("", ""))
    calls = _LINUX.get(platform.architecture, _SystemCalls(0, 0, 0, 0, 0))
    values = {
        "MAX_WORKERS": MAX_WORKERS,
        "SPIN_NANOSECONDS": SPIN_NANOSECONDS,
        "POLL_NANOSECONDS": _POLL_NANOSECONDS,
        "STACK_BYTES": _STACK_BYTES,
        "WORTH_WAKING_NANOSECONDS": _WORTH_WAKING_NANOSECONDS,
        "UNKNOWN_TIME": "1.0e+18",
        "NEVER": 2**63 - 1,
        "STATUS_CODE_WORD": int(Status.CODE),
        "STATUS_CANCEL_WORD": int(Status.CANCEL),
        "PAUSE": pause,
        "CLOCK": platform.monotonic_clock,
        "SET_MASK": platform.set_signal_mask,
        "DETACHED": platform.detached,
        "KEEP_FAULTS": "\n".join(
            f"  %kept{number} = call i32 @sigdelset(ptr %set, i32 {number})"
            for number in platform.fault_signals
        ),
        "FUTEX": calls.futex,
        "SET_AFFINITY": calls.set_affinity,
        "GET_AFFINITY": calls.get_affinity,
        "GET_CPU": calls.get_cpu,
        "GET_THREAD": calls.get_thread,
    }
    if platform.sleep == "none":
        return ir.text(("pool_data", "pool_ranges", "pool_serial"), values)
    float_mode = f"float_mode_{platform.architecture}" if pause else "float_mode"
    files = ("pool_data", "pool_ranges", float_mode, f"pool_{platform.sleep}", "pool_parallel")
    return f"{declare_pause}\n{ir.text(files, values)}"


class Pool:
    """The thread pool of a process. Threads start at the first job that has work for them.

    `platform`: None for the host's. `capacity`: participants of a job at most, the caller included;
    None is `default_workers()`. A pool is never freed: its threads run in its code.
    """

    def __init__(
        self,
        engine: Engine,
        platform: Platform | None = None,
        capacity: int | None = None,
    ) -> None:
        self.platform = platform or host_platform(engine.host.triple)
        try:
            functions = engine.process_symbols(self.platform.c_functions)
        except EngineError:  # a C library without these threads
            self.platform = replace(self.platform, sleep="none")
            functions = {}
        # The number of pools makes each text, and so each pool's variables, its own.
        text = f"; pool {len(_pools)}\n" + pool_text(self.platform)
        self._code: Loaded = engine.load_ir(text, _EXPORTS, functions, passes="O2")
        self._configure = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(
            self._code["graphc_threads_configure"]
        )
        self._started = ctypes.CFUNCTYPE(ctypes.c_int64)(self._code["graphc_threads_started"])
        self._poll = 0
        self._capacity = 1
        self.configure(capacity=default_workers() if capacity is None else capacity)
        if hasattr(os, "register_at_fork"):
            reset = ctypes.CFUNCTYPE(None)(self._code["graphc_threads_reset"])
            os.register_at_fork(after_in_child=reset)
        _pools.append(self)

    @property
    def address(self) -> int:
        """Of `void graphc_parallel_for(function, context, tasks, grain, workers, status)`.

        Calls `void function(void *context, int64_t begin, int64_t end, int64_t worker)` once for
        each range [k * grain, min((k + 1) * grain, tasks)), in any order, on at most `workers`
        threads, and returns when all calls have returned. `worker` is below `workers`, differs
        between calls that run at the same time, and is 0 in the calling thread. What the calls
        wrote is visible to the caller afterwards. `status` may be null; otherwise no further range
        is started once its word 0 (code) or 4 (cancel) is not 0. Ranges must not wait for one
        another: all of them may run in one thread.
        """
        return self._code["graphc_parallel_for"]

    @property
    def capacity(self) -> int:
        """Participants of a job at most, the caller included."""
        return self._capacity

    @property
    def started(self) -> int:
        """Threads that this process has started for the pool."""
        return self._started()

    def configure(self, *, capacity: int | None = None, poll: int | None = None) -> None:
        """Sets the capacity, between 1 and `MAX_WORKERS`, and the address of the poll function.

        `void poll(int64_t *status)` is called by the calling thread of a job, never by a worker:
        after each of its ranges, and every 50 ms while it waits for others, if the job has a
        status. It limits its own rate. 0 is no function.
        """
        if capacity is not None:
            self._capacity = max(1, min(capacity, MAX_WORKERS))
        if poll is not None:
            self._poll = poll
        self._configure(self._capacity, self._poll)


_pools: list[Pool] = []
_pool: Pool | None = None
_lock = threading.Lock()


def default_workers() -> int:
    """CPUs that this process may use: its affinity where the system has one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def pool(engine: Engine) -> Pool:
    """The pool that all compiled code of this process shares, made at the first call."""
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = Pool(engine)
    return _pool


def symbols(engine: Engine) -> dict[str, int]:
    """What to link kernels' callers with: `{"graphc_parallel_for": address}`."""
    return {"graphc_parallel_for": pool(engine).address}
