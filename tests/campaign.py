"""How do a hundred thousand random programs run, when one of them may crash or hang?

Each seed is one program (`programs`, which draws from the whole registry), one choice of sizes, and
one way to compile it: target, threads, rewriting, effort, donation. Seeds run in forked processes,
which are given up when they crash or take too long, so that the seed of a crash is known. What
fails is made smaller by leaving out and lowering the choices that it was drawn with, each trial in
a process of its own, and printed.

What counts as a failure: a crash, a hang, an error that the evaluator does not raise, an argument
that was written to, other bits with another number of threads, and any value that differs from the
evaluator's by more than the judge allows. The judge (`backends.Judge`) evaluates the whole program
several times with every inexact result moved at random within its bound, which is more than native
code may be off. So it carries tolerances through the program, and finds the elements where a floor,
a comparison or an order hangs on the last digit: those prove nothing and are passed over. A run
moves a value over a step that lies within its error with a chance of a third at least, if the bound
is three units where native code may be off by one; when results disagree the judge therefore looks
again, with `Judge.DEEP` runs, before it says so.

    python tests/campaign.py --count 1000 --first 0      # seeds 0 to 999
    python tests/campaign.py --count 1 --first 123       # one of them again
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as conftest does for tests
    import types

    _TESTS = Path(__file__).resolve().parent
    sys.path[:0] = [str(_TESTS), str(_TESTS.parent)]
    sys.modules.setdefault("tests", types.ModuleType("tests")).__path__ = [str(_TESTS)]

import numpy as np
from backends import RAISED, Case, Judge
from programs import Program, Source, program, sizes

import graphc as gx
import graphc.codegen.interpret
import graphc.runtime.compile  # before processes are forked, so that each need not
from graphc.errors import ExtentError
from graphc.node import Node
from graphc.runtime.engine import Engine

BATCH = 400  # seeds in one process
SECONDS = 120.0  # for one program; everything beyond is a hang
TRIALS = 250  # to make a failure smaller
SHRINK_SECONDS = 90.0
MATH = (None, None, "ieee", "real")
# LLVM's effort changes nothing in what graphc prints, and the lowest one takes a third of the time.
EFFORTS = (2, *[0] * 11, 2, 2, 1, 3)
LONGEST = (4, 8, 12)  # moves of a program: short ones are as likely to disagree, for their time


class Recorded:
    """Choices of a seeded generator, or those of a list, then always the lowest; keeps them."""

    def __init__(self, seed: int = 0, given: Sequence[int] | None = None) -> None:
        self.random = np.random.default_rng([9, seed])
        self.given = given
        self.made: list[int] = []

    def integer(self, low: int, high: int) -> int:
        if self.given is None:
            offset = int(self.random.integers(0, high - low + 1))
        else:
            at = len(self.made)
            offset = min(self.given[at], high - low) if at < len(self.given) else 0
        self.made.append(offset)
        return low + offset


@dataclass(frozen=True)
class Way:
    """How a program is compiled and called."""

    native: bool
    threads: int
    math: str | None
    opt_level: int
    donate: bool
    other: bool  # the same again with another number of threads
    split: bool  # small kernels are split, too
    out: bool  # once more into arrays that are there

    @classmethod
    def drawn(cls, source: Source) -> Way:
        native = source.integer(0, 4) < 3
        threads, math = source.integer(1, 2), MATH[source.integer(0, len(MATH) - 1)]
        effort = EFFORTS[source.integer(0, len(EFFORTS) - 1)]
        other = source.integer(0, 7) == 7
        donate = source.integer(0, 3) == 3
        split, out = source.integer(0, 3) < 3, not donate and source.integer(0, 7) == 7
        return cls(native, threads, math, effort, donate, other, split, out)

    def compile(self, made: Program, threads: int) -> Any:
        case = Case(made.inputs, made.outputs, math=self.math, split=self.split)
        options = case.options(threads).replace(opt_level=self.opt_level)
        donated = self.donated(made)
        copied = [any(symbol is each for each in donated) for symbol in made.inputs]
        with case.sizes_of_work():
            function = gx.compile(
                list(made.inputs),
                list(made.outputs),
                target="cpu" if self.native else "interpret",
                options=options,
                donate=donated,
            )

        def call(*arrays: Any, **options: Any) -> list[Any]:
            given = [
                np.array(array, order="C") if copy else array
                for array, copy in zip(arrays, copied, strict=True)
            ]
            with case.sizes_of_work():
                return [np.asarray(result) for result in function(*given, **options)]

        return call

    def donated(self, made: Program) -> list[Node]:
        """The inputs that some output has the type of, each with another one."""
        types = [output.type for output in made.outputs]
        found = []
        for symbol in made.inputs if self.donate else ():
            if symbol.type in types:
                types.remove(symbol.type)
                found.append(symbol)
        return found


Drawn = tuple[Program, dict[str, int], Way]


def drawn(source: Source) -> Drawn:
    made = program(source, longest=LONGEST[source.integer(0, len(LONGEST) - 1)])
    return made, sizes(source, made.names), Way.drawn(source)


def check(made: Program, choice: dict[str, int], way: Way) -> None:
    """One program, one choice of sizes, one way."""
    arrays = made.arrays(choice)
    kept = [array.tobytes() for array in arrays]
    function = way.compile(made, way.threads)
    try:
        judge = Judge(made.inputs, made.outputs, arrays, rewritten=way.math is not None)
    except RAISED as error:
        check_raises(function, arrays, error)
        return
    try:
        got = function(*arrays)
    except ExtentError:
        return  # a promise about extents that these sizes do not keep
    except RAISED:
        if judge.may_raise:
            return
        raise
    judge.check(got, "compiled")
    assert kept == [array.tobytes() for array in arrays], "an argument was written to"
    if way.out:
        places = [np.full_like(each, 7) for each in got]
        given = function(*arrays, out=places)
        same = [a.tobytes() == b.tobytes() for a, b in zip(got, places, strict=True)]
        assert all(a is b for a, b in zip(given, places, strict=True)), "out= gave other arrays"
        assert all(same), f"other values with out=: {same}"
    if way.other:
        again = way.compile(made, 3 - way.threads)(*arrays)
        same = [a.tobytes() == b.tobytes() for a, b in zip(got, again, strict=True)]
        assert all(same), f"one and two threads differ: {same}"


def check_raises(function: Callable[..., Any], arrays: Sequence[Any], error: Exception) -> None:
    try:
        function(*arrays)
    except RAISED as found:
        assert len(str(found).splitlines()) <= 8, f"a long message: {found}"
        return
    raise AssertionError(f"the evaluator raises {error!r}, and the function does not")


def described(made: Program, choice: dict[str, int], way: Way) -> str:
    lines = [
        f"{symbol.attrs['name']}: {symbol.type}, layout {layout}"
        for symbol, layout in zip(made.inputs, made.layouts, strict=True)
    ]
    text = str(made)
    lines += [f"seed {made.seed}, wild {made.wild}, sizes {choice}", str(way)]
    return "\n".join([*lines, text if len(text) < 3000 else text[:3000] + " ..."])


# -- processes -------------------------------------------------------------------------------------


def trial(source: Source) -> str:
    """What is wrong with the program that `source` draws; nothing if all is well."""
    try:
        made = drawn(source)
    except Exception:
        return "a program cannot be built:\n" + traceback.format_exc(limit=-6)
    try:
        check(*made)
    except Exception:
        return described(*made) + "\n" + traceback.format_exc(limit=-4)
    return ""


def in_process(sources: Sequence[tuple[int, Any]]) -> list[tuple[int, str]]:
    """The failures among sources, run in order in one forked process; a crash ends the list."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(sources, writing)
    os.close(writing)
    found, at, buffer = [], 0, b""
    ended = ""
    while not ended:
        ready, _, _ = select.select([reading], [], [], SECONDS)
        data = os.read(reading, 65536) if ready else b""
        if not data:
            ended = "crashed" if ready else f"took longer than {SECONDS:.0f} s"
        buffer += data
        while b"\0" in buffer:
            message, buffer = buffer.split(b"\0", 1)
            if message:
                found.append((sources[at][0], message.decode()))
            at += 1
    os.close(reading)
    if "longer" in ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if at < len(sources):
        found.append((sources[at][0], f"the process {ended} (status {status})"))
    return found


def _work(sources: Sequence[tuple[int, Any]], writing: int) -> None:
    code = 1
    gc.freeze()  # what was imported
    Engine.compile_ir = _remembering(Engine.compile_ir)  # type: ignore[method-assign]
    try:
        for _, source in sources:
            message = trial(source)[:20000].replace("\0", " ").encode()
            os.write(writing, message + b"\0")
        code = 0
    finally:
        os._exit(code)


def _remembering(compile_ir: Callable[..., bytes]) -> Callable[..., bytes]:
    """Machine code of a text that another program had too is not made again: a tenth of them."""

    @functools.cache
    def made(engine: Engine, text: str, **options: Any) -> bytes:
        return compile_ir(engine, text, **options)

    return lambda engine, text, recorder=None, **options: made(engine, text, **options)


@dataclass
class Outcome:
    """What a campaign found."""

    programs: int = 0
    seconds: float = 0.0
    failures: list[tuple[int, str]] = field(default_factory=list)


def campaign(first: int, count: int, say: Callable[[str], None], shrink: bool = True) -> Outcome:
    """Run the programs of seeds `first` to `first + count - 1`."""
    outcome, started, seed = Outcome(), time.monotonic(), first
    while seed < first + count:
        seeds = range(seed, min(seed + BATCH, first + count))
        found = in_process([(s, Recorded(s)) for s in seeds])
        crashed = bool(found) and found[-1][1].startswith("the process")
        seed = found[-1][0] + 1 if crashed else seeds[-1] + 1
        for failed, text in found:
            smaller = shrunk(failed, kind_of(text)) if shrink else None
            outcome.failures.append((failed, text if smaller is None else smaller))
            say(f"=== seed {failed}\n{outcome.failures[-1][1]}")
        outcome.programs = seed - first
        outcome.seconds = time.monotonic() - started
        rate = outcome.programs / outcome.seconds
        bad = len(outcome.failures)
        say(f"{outcome.programs} programs, {rate:.1f} in a second, {bad} failures")
    return outcome


# -- smaller failures ------------------------------------------------------------------------------


def kind_of(text: str) -> str:
    """What a smaller program must fail with, too."""
    if text.startswith("the process"):
        return "the process"
    return text.strip().splitlines()[-1].split(":")[0]


def shrunk(seed: int, kind: str) -> str | None:
    """The text of a smaller program that fails in the same way."""
    source = Recorded(seed)
    try:
        drawn(source)
    except Exception:
        return None
    best, text = source.made, None
    deadline, trials = time.monotonic() + SHRINK_SECONDS, 0
    improved = True
    while improved:
        improved = False
        for candidate in _candidates(best):
            trials += 1
            if trials > TRIALS or time.monotonic() > deadline:
                return text
            failures = in_process([(seed, Recorded(given=candidate))])
            if failures and kind_of(failures[0][1]) == kind:
                best, text, improved = candidate, failures[0][1], True
                if kind == "the process":
                    text += "\n" + described(*drawn(Recorded(given=candidate)))
                break
    return text


def _candidates(made: Sequence[int]) -> Any:
    """Fewer choices, then lower ones."""
    length = max(1, len(made) // 2)
    while length:
        for start in range(0, len(made), length):
            yield [*made[:start], *made[start + length :]]
        for start in range(0, len(made), length):
            part = made[start : start + length]
            if any(part):
                yield [*made[:start], *[0] * len(part), *made[start + length :]]
        length //= 2


def main() -> int:
    parser = argparse.ArgumentParser(description="random programs over the whole registry")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--no-shrink", action="store_true")
    given = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    outcome = campaign(given.first, given.count, say, not given.no_shrink)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
