"""How fast is graphc beside the libraries that people use instead?

    python tests/benchmarks/peers.py                      every workload, one thread
    python tests/benchmarks/peers.py -w products -v f32   those variants whose name holds "f32"
    python tests/benchmarks/peers.py --threads all --peers numpy,jax
    python tests/benchmarks/peers.py --python ~/other/bin/python   peers are looked for there too

Each participant runs in a process of its own, built one after the other; then, round by round, each
is measured in turn, so that what else the machine does meets all of them. Libraries that are not
installed are said to be missing. Results are compared with a float64 reference before anything is
timed. `build` is the time from a function or graph to its first result, the library itself warmed
up. With `--cold` every variant is built twice: `cold` with empty caches, `build` in a second
process with what the first one left. With `--memory` every variant is run once more in a process of
its own: `memory` is the most that lay in memory during calls, beyond library and inputs. On one
thread, times are the processor's, which other processes disturb less than those of the clock on the
wall.

The ratio is graphc's time over that of the fastest other participant whose results agree: by
minima, and the median over the rounds. The roofline fraction is the least time in which the machine
could move the inputs and outputs once, or do the operations, over the time measured.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib
import json
import os
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

# Held to one thread, libraries read these; kept from spoiling the measurements of others.
_POOLS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")
# A pool that spins after its last call is quiet again after this many seconds.
_SETTLE = 0.04


def main() -> None:
    arguments = _arguments()
    # The roofline is measured first, by itself.
    os.environ.update(_environment(arguments.threads, None))
    with_byte_code()
    from roofline import measure

    roofline = measure(arguments.threads)
    print(f"machine: {roofline}\n", flush=True)
    kept: dict[str, Any] = {}
    for name in _chosen_workloads(arguments.workloads):
        workload = importlib.import_module(f"workloads.{name}")
        print(f"## {name}: {workload.TITLE}\n", flush=True)
        variants = [v for v in workload.VARIANTS if arguments.variants in v]
        participants = _participants(name, workload, arguments)
        cold = _cold(participants, variants) if arguments.cold else {}
        needed = _memory(participants, variants) if arguments.memory else {}
        for variant in variants:
            bound = workload.tolerance(variant)
            rows = _compared(participants, variant, bound, arguments)
            for participant, seconds in cold.items():
                rows[participant]["cold"] = seconds.get(variant)
            for participant, held in needed.items():
                rows[participant]["memory"] = held.get(variant)
            _add_roofline(rows, roofline, workload.operations(variant), variant)
            print(_table(variant, rows), flush=True)
            kept[f"{name} {variant}"] = rows
        for participant in participants.values():
            participant.close()
    print(_summary(kept))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(kept, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="graphc beside other libraries")
    parser.add_argument("-w", "--workloads", default="", help="names or beginnings, with commas")
    parser.add_argument("-v", "--variants", default="", help="part of a variant's name")
    parser.add_argument("--peers", default="", help="participants to compare with, with commas")
    parser.add_argument("--threads", default="1", help="1 (the default), another number, or all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="of a participant in a round")
    parser.add_argument("--limit", type=float, default=120, help="seconds for building one")
    parser.add_argument("--python", action="append", default=[], help="one more interpreter")
    parser.add_argument("--cold", action="store_true", help="build twice, first with empty caches")
    parser.add_argument("--memory", action="store_true", help="the most memory of calls, too")
    parser.add_argument("--json", help="where to keep all figures")
    arguments = parser.parse_args()
    arguments.threads = None if arguments.threads == "all" else int(arguments.threads)
    arguments.peers = [name for name in arguments.peers.split(",") if name]
    return arguments


def _chosen_workloads(wanted: str) -> list[str]:
    found = sorted(path.stem for path in (HERE / "workloads").glob("[a-z]*.py"))
    chosen = [name for part in wanted.split(",") for name in found if name.startswith(part)]
    return list(dict.fromkeys(chosen))


# -- processes -------------------------------------------------------------------------------------


def _environment(threads: int | None, scratch: Path | None) -> dict[str, str]:
    """What every participant sees: its threads, and caches of its own that are empty at first."""
    held = {f"{pool}_NUM_THREADS": str(threads) for pool in _POOLS} if threads else {}
    held["BENCHMARK_THREADS"] = str(threads or "")
    if scratch is not None:
        held |= {
            "XDG_CACHE_HOME": str(scratch),
            "TMPDIR": str(scratch),
            "JAX_ENABLE_X64": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(scratch / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
            "NUMBA_CACHE_DIR": str(scratch / "numba"),
            "PYTENSOR_FLAGS": f"base_compiledir={scratch / 'pytensor'}",
        }
    return held


def with_byte_code() -> None:
    """See that graphc's own files are met as byte code, as those of an installed library are.

    A checkout has none under `PYTHONDONTWRITEBYTECODE`, and to parse the files again in every
    process takes longer than what is measured.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for folder in ("graphc", "codegen", "runtime"):
        compileall.compile_dir(HERE.parents[1] / folder, quiet=2)


class Participant:
    """One library on one workload, in a process that lives as long as it answers.

    It runs under the first interpreter that has what it imports, with caches of its own.
    """

    def __init__(self, name: str, participant: str, arguments: Any) -> None:
        self.names = [name, participant]
        self.arguments = arguments
        ours = participant == "graphc"
        self.pythons = [sys.executable] if ours else [sys.executable, *arguments.python]
        self.scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.log = (self.scratch / "log").open("w+")
        self.process: subprocess.Popen[str] | None = None

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request; what it says if the process is slow or dies."""
        if self.process is None:
            self._start()
        assert self.process and self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._failed()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(self.arguments.limit):
                self.stop()
                return {"failed": f"not ready after {self.arguments.limit:g} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else self._failed()

    def build(self, variant: str, asked: str = "build") -> dict[str, Any]:
        """Build a variant, under the next interpreter if this one lacks the library."""
        told = self.ask(**{asked: variant})
        while "not installed" in told.get("skipped", "") and len(self.pythons) > 1:
            self.stop()
            self.pythons.pop(0)
            told = self.ask(**{asked: variant})
        return told

    def _start(self) -> None:
        script = str(HERE / "participant.py")
        self.process = subprocess.Popen(
            [self.pythons[0], script, *self.names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **_environment(self.arguments.threads, self.scratch)},
            cwd=self.scratch,
        )

    def _failed(self) -> dict[str, Any]:
        self.stop()
        self.log.seek(0)
        words = self.log.read().strip().splitlines() or ["no word"]
        return {"failed": f"died: {words[-1][:200]}"}

    def stop(self) -> None:
        """End the process; the next request starts another."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.stop()
        self.log.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


# -- one workload ----------------------------------------------------------------------------------


def _participants(name: str, workload: Any, arguments: Any) -> dict[str, Participant]:
    wanted = ["graphc", *arguments.peers] if arguments.peers else list(workload.PARTICIPANTS)
    return {
        participant: Participant(name, participant, arguments)
        for participant in workload.PARTICIPANTS
        if participant in wanted
    }


def _cold(participants: dict[str, Participant], variants: list[str]) -> dict[str, dict[str, float]]:
    """Seconds of the first build of every variant. Then the processes end; their caches stay."""
    seconds: dict[str, dict[str, float]] = {}
    for name, participant in participants.items():
        told = {variant: participant.build(variant) for variant in variants}
        seconds[name] = {v: t["compile"] for v, t in told.items() if "compile" in t}
        participant.stop()
    return seconds


def _memory(participants: dict[str, Participant], variants: list[str]) -> dict[str, dict[str, int]]:
    """Bytes that calls of every variant need, each in a process of its own."""
    needed: dict[str, dict[str, int]] = {name: {} for name in participants}
    for name, participant in participants.items():
        for variant in variants:
            told = participant.build(variant, asked="memory")
            needed[name] |= {variant: told["memory"]} if "memory" in told else {}
            participant.stop()
    return needed


def _compared(
    participants: dict[str, Participant], variant: str, tolerance: float, arguments: Any
) -> dict[str, dict]:
    """What is known of each participant: compile time, error, samples by round."""
    rows = {name: participant.build(variant) for name, participant in participants.items()}
    running = {name for name, told in rows.items() if "compile" in told}
    rounds: dict[str, list[list[float]]] = {name: [] for name in rows}
    for _ in range(arguments.rounds):
        for name in [name for name in rows if name in running]:
            time.sleep(_SETTLE)
            told = participants[name].ask(measure=arguments.seconds)
            if "samples" in told:
                rounds[name].append(told["samples"])
            else:
                rows[name] = told
                running.discard(name)
    for name in running:
        rows[name] |= _figures(rounds[name])
        rows[name]["agrees"] = rows[name]["error"] <= tolerance
    return rows


def _figures(rounds: list[list[float]]) -> dict[str, Any]:
    return {
        "median": statistics.median(s for samples in rounds for s in samples),
        "best": min(s for samples in rounds for s in samples),
        "by round": [min(samples) for samples in rounds],
    }


def _add_roofline(rows: dict[str, dict], roofline: Any, operations: float, variant: str) -> None:
    dtype = "float32" if variant.startswith("f32") else "float64"
    for row in rows.values():
        if "best" in row:
            row["roofline"] = roofline.seconds(row["bytes"], operations, dtype) / row["best"]


def versus_best(rows: dict[str, dict]) -> tuple[float, float, str] | None:
    """graphc over the best other one: of minima, the median over rounds, and which one it is."""
    others = {k: r for k, r in rows.items() if k != "graphc" and r.get("agrees")}
    ours = rows.get("graphc", {})
    if not others or "best" not in ours:
        return None
    name = min(others, key=lambda k: others[k]["best"])
    best = [min(times) for times in zip(*(r["by round"] for r in others.values()), strict=True)]
    by_round = [a / b for a, b in zip(ours["by round"], best, strict=True)]
    return ours["best"] / others[name]["best"], statistics.median(by_round), name


# -- what is printed -------------------------------------------------------------------------------


def _table(variant: str, rows: dict[str, dict]) -> str:
    best = min((r["best"] for r in rows.values() if r.get("agrees")), default=1.0)
    lines = [f"### {variant}", "", f"| {'participant':<16} | median | best | x best | roofline | "
             "cold | build | memory | error |", "|" + " --- |" * 9]
    for name, row in sorted(rows.items(), key=lambda item: item[1].get("best", 1e9)):
        if "best" not in row:
            what = f"skipped: {row['skipped']}" if "skipped" in row else f"failed: {row['failed']}"
            lines.append(f"| {name:<16} | {what} |" + " |" * 7)
            continue
        cold = seconds_text(row["cold"]) if row.get("cold") else ""
        wrong = "" if row["agrees"] else " **disagrees**"
        lines.append(
            f"| {name:<16} | {seconds_text(row['median'])} | {seconds_text(row['best'])} | "
            f"{row['best'] / best:.2f} | {row['roofline']:.2f} | {cold} | "
            f"{seconds_text(row['compile'])} | {_megabytes(row.get('memory'))} | "
            f"{row['error']:.1e}{wrong} |"
        )
    found = versus_best(rows)
    if found is not None:
        lines += ["", f"graphc / {found[2]}: {found[0]:.2f} by minima, {found[1]:.2f} by rounds"]
    return "\n".join([*lines, ""])


def _summary(kept: dict[str, dict[str, dict]]) -> str:
    """One line a variant: graphc's time, its ratio to the best other, its part of the roofline."""
    lines = ["## summary", "", "| workload | graphc | best other | ratio | by rounds | roofline | "
             "cold | build | memory, of others |", "|" + " --- |" * 9]
    for variant, rows in kept.items():
        ours = rows.get("graphc", {})
        if "best" not in ours:
            lines.append(f"| {variant} | {ours.get('failed') or ours.get('skipped')} |" + " |" * 7)
            continue
        found = versus_best(rows)
        ratio = f"{found[2]} | {found[0]:.2f} | {found[1]:.2f}" if found else " | | "
        cold = seconds_text(ours["cold"]) if ours.get("cold") else ""
        others = {row.get("memory") for name, row in rows.items() if name != "graphc"} - {None}
        memory = [_megabytes(each) for each in (ours.get("memory"), min(others, default=None))]
        lines.append(
            f"| {variant} | {seconds_text(ours['best'])} | {ratio} | {ours['roofline']:.2f} | "
            f"{cold} | {seconds_text(ours['compile'])} | {', '.join(filter(None, memory))} |"
        )
    return "\n".join(lines)


def _megabytes(held: int | None) -> str:
    return "" if held is None else f"{held / 1e6:.3g} MB"


def seconds_text(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


if __name__ == "__main__":
    main()
