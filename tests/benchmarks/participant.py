"""How is one participant of one workload run? In a process of its own, told over a pipe when.

    python participant.py WORKLOAD PARTICIPANT

Each line that it reads is a request, each line that it writes the answer, both JSON. `{"build":
variant}` is answered with how long that took and how wrong the results are, `{"measure": seconds}`
with the times of calls of what was built last, `{"memory": variant}` with the memory that calls
need.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from workload import Skip, clock_for, error, in_double, threads  # noqa: E402

# A sample is a run of calls of at least this many seconds.
SAMPLE = 2e-3


def start_up(participant: str) -> None:
    """Import the library and compile a trifle, so that what is timed next is the workload's own."""
    library = participant.partition("_")[0]
    warmed = {"graphc": _warm_graphc, "jax": _warm_jax, "torch": _warm_torch}
    if library in warmed:
        warmed[library](participant)
    else:
        importlib.import_module(library)


def _warm_graphc(_: str, cache: bool = True) -> None:
    import graphc as gx

    x = gx.vector("x", 3)
    gx.compile([x], gx.sin(x), options=gx.Options(threads=threads(), cache=cache))(np.ones(3))


def _warm_jax(_: str) -> None:
    import jax

    jax.block_until_ready(jax.jit(jax.numpy.sin)(np.ones(3)))


def _warm_torch(participant: str) -> None:
    import torch

    f = torch.compile(torch.sin) if "compile" in participant else torch.sin
    f(torch.ones(3, requires_grad=True)).sum().backward()


def measured(run: Callable[[], Any], seconds: float, calls: int) -> list[float]:
    """Seconds of a call, for as many samples as fit."""
    samples: list[float] = []
    clock, begin = clock_for(threads()), time.perf_counter()
    while True:
        start = clock()
        for _ in itertools.repeat(None, calls):  # as timeit does: no numbers are made
            run()
        samples.append((clock() - start) / calls)
        if time.perf_counter() - begin > seconds:
            return samples


def hold_to_cpus(count: int | None) -> None:
    """Let this process run on so many CPUs, those that it makes threads for included.

    Some pools are as large as there are CPUs, when the library is first used. And the processor
    time of work that a pool does on another CPU is booked now and then with the next sample, so
    that the least of one sample was a quarter of what its calls took.
    """
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


def in_memory(field: str) -> int:
    """Bytes of this process that lie in memory: now, "VmRSS", or at the most, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory(workload: Any, participant: str, variant: str) -> dict:
    """The most bytes in memory during calls, beyond what was there before the variant was built.

    So the inputs do not count; what a compiler leaves behind does.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise Skip("memory is read from Linux's /proc")
    values = workload.inputs(variant)
    if participant == "graphc":  # what comes out of the cache has not met the compiler yet
        _warm_graphc(participant, cache=False)
    before = in_memory("VmRSS")
    run = workload.PARTICIPANTS[participant](values, variant)
    run()
    Path("/proc/self/clear_refs").write_text("5")  # the most is counted from here on
    for _ in range(3):
        run()
    return {"memory": in_memory("VmHWM") - before}


def build(workload: Any, participant: str, variant: str) -> tuple[Callable[[], Any], dict]:
    """A variant ready to be measured, and what it took."""
    values = workload.inputs(variant)
    begin = time.perf_counter()
    run = workload.PARTICIPANTS[participant](values, variant)
    results = run()
    seconds = time.perf_counter() - begin
    reference = workload.reference(in_double(values), variant)
    told = {"compile": seconds, "error": error(results, reference)}
    arrays = [v for v in values.values() if isinstance(v, np.ndarray)]
    itemsize = max((v.itemsize for v in arrays if v.dtype.kind == "f"), default=8)
    made = sum(np.size(r) for r in reference) * itemsize
    told["bytes"] = sum(v.nbytes for v in arrays) + made
    return run, told


def answered(build_it: Callable[[], Any]) -> tuple[Any, dict]:
    """What was built and what there is to say, which may be why it was not."""
    try:
        return build_it()
    except Skip as why:
        return None, {"skipped": str(why)}
    except ImportError as why:
        return None, {"skipped": f"not installed: {why.name or why}"}
    except Exception as why:
        traceback.print_exc()
        return None, {"failed": f"{type(why).__name__}: {why}"[:200]}


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    name, participant = sys.argv[1:3]
    hold_to_cpus(threads())
    workload = importlib.import_module(f"workloads.{name}")
    _, trouble = answered(lambda: (start_up(participant), {}))
    run, calls = None, 1
    for line in sys.stdin:
        request = json.loads(line)
        if "build" in request:
            variant, run = request["build"], None
            run, told = answered(lambda: build(workload, participant, variant))  # noqa: B023
            calls = 1
        elif "memory" in request:
            _, told = answered(lambda: (None, memory(workload, participant, request["memory"])))  # noqa: B023
        else:
            samples = measured(run, request["measure"], calls)
            calls = max(1, round(SAMPLE / statistics.median(samples)))
            told = {"samples": samples}
        channel.write(json.dumps(trouble or told) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
