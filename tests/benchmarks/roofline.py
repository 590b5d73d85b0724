"""How fast could this machine be?  Bytes a second and operations a second, by kernels of ours.

Bandwidth is the best of a sum (reads only) and of a scaled sum (reads and writes), for data that
fits in the second cache, in the last one, or in none. The peak is that of fused multiply-adds on
registers, two operations each.

    python tests/benchmarks/roofline.py
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from workload import clock_for  # noqa: E402

import graphc as gx  # noqa: E402

# Independent chains of multiply-adds: more than latency times units, and fewer than registers.
MOST_CHAINS = 16
STEPS = 1_000_000
REPEAT = 25


@dataclass(frozen=True)
class Roofline:
    """What `threads` threads reach: (largest number of bytes, bytes a second), operations a second.
    """

    bandwidth: tuple[tuple[float, float], ...]
    peak: dict[str, float]

    def seconds(self, moved: float, operations: float, dtype: str) -> float:
        """The least time for so much traffic and so many operations."""
        rate = next(rate for most, rate in self.bandwidth if moved <= most)
        return max(moved / rate, operations / self.peak[dtype])

    def __str__(self) -> str:
        rates = ", ".join(
            f"{rate / 1e9:.1f} GB/s" + (f" below {most / 2**20:g} MiB" if most < np.inf else "")
            for most, rate in self.bandwidth
        )
        peaks = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in self.peak.items())
        return f"{rates}; {peaks}"


def measure(threads: int | None) -> Roofline:
    """The roofline of this machine, in about a second."""
    from graphc.codegen.machine import Machine
    from graphc.runtime.threads import default_workers

    machine, workers = Machine.host(), threads or default_workers()
    sizes = (machine.l2 // 2, machine.l3 // 2, 6 * machine.l3)
    limits = (machine.l2 * 0.75, machine.l3 * 0.75, float("inf"))
    rates = [_bandwidth(size, threads) for size in sizes]
    peak = {name: _peak(machine, name) * workers for name in ("float32", "float64")}
    return Roofline(tuple(zip(limits, rates, strict=True)), peak)


def _best(run: Callable[[], Any], threads: int | None, calls: int = 1) -> float:
    clock = clock_for(threads)
    times = []
    for _ in range(REPEAT):
        start = clock()
        for _ in range(calls):
            run()
        times.append((clock() - start) / calls)
    return min(times)


def _bandwidth(size: int, threads: int | None) -> float:
    """Bytes a second over `size` bytes, the better of two kernels."""
    x, y = gx.vector("x", "n"), gx.vector("y", "n")
    options = gx.Options(threads=threads)
    total = gx.compile([x], gx.sum(x), options=options)
    triad = gx.compile([x, y], x + 3.0 * y, options=options)
    calls = max(1, (1 << 25) // size)
    whole, third, other, out = (_ones(size // parts) for parts in (8, 24, 24, 24))
    reading = size / _best(lambda: total(whole), threads, calls)
    return max(reading, size / _best(lambda: triad(third, other, out=out), threads, calls))


def _ones(count: int) -> np.ndarray:
    """Ones from the start of a line of memory on, so that whole lines can be written."""
    some = np.ones(count + 8)
    first = -some.ctypes.data // some.itemsize % 8
    return some[first : first + count]


def _peak(machine: Any, dtype: str) -> float:
    """Operations a second of one thread that does nothing but multiply and add."""
    from graphc.runtime.engine import engine

    chains = min(MOST_CHAINS, machine.vector_registers - 4)
    loaded = engine().load_ir(_chains(machine, dtype, chains), ["chains"], passes="none")
    run = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(loaded["chains"])
    lanes = machine.vector_bytes // np.dtype(dtype).itemsize
    return 2 * chains * lanes * STEPS / _best(lambda: run(STEPS), 1)


def _chains(machine: Any, dtype: str, count: int) -> str:
    """A module whose function runs the chains for so many steps and returns their sum."""
    element = {"float32": "float", "float64": "double"}[dtype]
    lanes = machine.vector_bytes // np.dtype(dtype).itemsize
    kind, suffix = f"<{lanes} x {element}>", f"v{lanes}f{np.dtype(dtype).itemsize * 8}"
    fused = f"llvm.fmuladd.{suffix}"
    chains = range(count)
    lines = [f"declare {kind} @{fused}({kind}, {kind}, {kind})"]
    lines += [f"declare {element} @llvm.vector.reduce.fadd.{suffix}({element}, {kind})"]
    lines += ["define double @chains(i64 %steps) nounwind {", "entry:", "  br label %body", "body:"]
    lines += ["  %i = phi i64 [0, %entry], [%next, %body]"]
    for k in chains:
        lines += [f"  %a{k} = phi {kind} [splat ({element} {float(k)}), %entry], [%b{k}, %body]"]
    lines += [
        f"  %b{k} = call {kind} @{fused}({kind} %a{k}, {kind} splat ({element} 0.5), {kind} "
        f"splat ({element} 1.0))"
        for k in chains
    ]
    lines += ["  %next = add i64 %i, 1", "  %more = icmp slt i64 %next, %steps"]
    lines += ["  br i1 %more, label %body, label %done", "done:"]
    held = "%b0"
    for k in chains[1:]:
        lines += [f"  %s{k} = fadd {kind} {held}, %b{k}"]
        held = f"%s{k}"
    start = f"{element} 0.0"
    lines += [
        f"  %sum = call reassoc {element} @llvm.vector.reduce.fadd.{suffix}({start}, {kind} {held})"
    ]
    wide = "%sum" if element == "double" else "%wide"
    lines += ["  %wide = fpext float %sum to double"] if element == "float" else []
    return "\n".join([*lines, f"  ret double {wide}", "}"])


if __name__ == "__main__":
    for count in (1, None):
        print(f"{count or 'all'} threads: {measure(count)}")
