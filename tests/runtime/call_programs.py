"""What do the tests of calls call?  Programs written by hand in LLVM IR against the documented C
signature (decision 3), so that these tests need no graph, and Functions of them.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from graphc.runtime.callable import Implementation
from graphc.runtime.callspec import CallSpec, Input, Output
from graphc.runtime.engine import Engine
from graphc.runtime.leaf import make_function
from graphc.runtime.shared import call_runtime

ROOT = Path(__file__).resolve().parents[2]
F8, F4, I8, I4 = (np.dtype(name) for name in ("f8", "f4", "i8", "i4"))
ENGINE = Engine()
RUNTIME = call_runtime(ENGINE)
# "own": with the entry that a Function gets when it has been called often.
KINDS = ["native", "own", "plain"] if RUNTIME.routines.entry else ["plain"]
SIGNATURE = "(ptr %buffers, ptr %extents, ptr %strides, ptr %workspace, ptr %status)"
LLVM_TYPES = {F8: "double", F4: "float", I8: "i64", I4: "i32", np.dtype(bool): "i8"}

needs_native = pytest.mark.skipif("native" not in KINDS, reason=RUNTIME.plain_because)
posix_only = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")

def compile_program(body: str, name: str = "program", symbols: Mapping[str, int] | None = None):
    """One function with the C signature of programs; `body` starts in the entry block."""
    text = f"{declarations(symbols or {})}\ndefine i64 @{name}{SIGNATURE} {{\nstart:\n{body}\n}}\n"
    return ENGINE.load_ir(text, [name], symbols)


def declarations(symbols: Mapping[str, int]) -> str:
    return "\n".join(f"declare void @{name}(ptr)" for name in symbols)


def buffer(name: str, index: int) -> str:
    return (
        f"  %{name}_at = getelementptr ptr, ptr %buffers, i64 {index}\n"
        f"  %{name} = load ptr, ptr %{name}_at\n"
    )


def extent(name: str, slot: int) -> str:
    return (
        f"  %{name}_at = getelementptr i64, ptr %extents, i64 {slot}\n"
        f"  %{name} = load i64, ptr %{name}_at\n"
    )


def loop(count: str, body: str, after: str = "  ret i64 0") -> str:
    """Run the body for %i from 0 to count."""
    return (
        "  br label %check\ncheck:\n  %i = phi i64 [ 0, %start ], [ %next, %body ]\n"
        f"  %more = icmp slt i64 %i, {count}\n  br i1 %more, label %body, label %done\nbody:\n"
        f"{body}  %next = add i64 %i, 1\n  br label %check\ndone:\n{after}"
    )


def at(result: str, base: str, strided: int | None = None) -> str:
    """The address of element %i; `strided`: the word of the stride, in bytes."""
    if strided is None:
        return f"  %{result} = getelementptr double, ptr %{base}, i64 %i\n"
    return (
        f"  %{result}_w = getelementptr i64, ptr %strides, i64 {strided}\n"
        f"  %{result}_s = load i64, ptr %{result}_w\n"
        f"  %{result}_o = mul i64 %i, %{result}_s\n"
        f"  %{result} = getelementptr i8, ptr %{base}, i64 %{result}_o\n"
    )


def multiply_add(count: str = "%n", strided: bool = False, before: str = "") -> str:
    """out = x * y + x over one axis."""
    words = (0, 1) if strided else (None, None)
    sizes = extent("n", 0) if count == "%n" else ""
    return (
        buffer("x", 0)
        + buffer("y", 1)
        + buffer("out", 2)
        + sizes
        + before
        + loop(
            count,
            at("xi", "x", words[0])
            + at("yi", "y", words[1])
            + at("oi", "out")
            + "  %xv = load double, ptr %xi\n  %yv = load double, ptr %yi\n"
            "  %m = fmul double %xv, %yv\n  %r = fadd double %m, %xv\n"
            "  store double %r, ptr %oi\n",
        )
    )


MULTIPLY_ADD = compile_program(multiply_add())
MULTIPLY_ADD_STRIDED = compile_program(multiply_add(strided=True))
VECTOR = (("free", 0),)
SAME = (("slot", 0),)
MULTIPLY_ADD_SPEC = CallSpec(
    inputs=(Input("x", F8, VECTOR, "model.py:3"), Input("y", F8, VECTOR, "model.py:4")),
    outputs=(Output(F8, SAME),),
    contiguous=MULTIPLY_ADD["program"],
    slots=(0,),
    slot_names={0: "n"},
)


class Subject(Implementation):
    """An implementation that keeps its code, records what it is asked, and pickles by name."""

    def __init__(self, spec: CallSpec, keep: object = (), strided: Any = None) -> None:
        super().__init__(spec, RUNTIME)
        self.keep = (keep, strided)
        self.strided = strided
        self.strided_requests = 0
        self.failures: list[tuple[int, ...]] = []

    def strided_program(self) -> int:
        self.strided_requests += 1
        return self.strided["program"] if self.strided else 0

    def raise_status(self, words: tuple[int, ...]) -> NoReturn:
        self.failures.append(words)
        super().raise_status(words)

    def reduce(self) -> tuple:
        return rebuild_multiply_add, (self.spec.name,)


def make(implementation: Implementation, kind: str = "native") -> Any:
    function = make_function(implementation, plain=kind == "plain")
    if kind == "own":
        implementation.hasten()
    return function


def rebuild_multiply_add(_: str) -> Any:
    return make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD))


def native_counter(implementation: Implementation, kind: str = "native") -> tuple[Any, list[int]]:
    """A native Function, and how often its slow path was taken."""
    count = [0]
    original = implementation.slow

    def slow(*args: Any, **named: Any) -> Any:
        count[0] += 1
        return original(*args, **named)

    implementation.slow = slow  # type: ignore[method-assign]
    return make(implementation, kind), count


X, Y = np.linspace(-2, 3, 10), np.linspace(1, 5, 10)
EXPECTED = X * Y + X


def with_changes(spec: CallSpec, **changes: Any) -> CallSpec:
    return dataclasses.replace(spec, **changes)


def assert_message(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert len(text.splitlines()) <= 8, text
    for part in parts:
        assert part in text


DERIVE = """
define i64 @derive(ptr %extents, ptr %status) {
  %m_at = getelementptr i64, ptr %extents, i64 1
  %sum_at = getelementptr i64, ptr %extents, i64 2
  %bytes_at = getelementptr i64, ptr %extents, i64 3
  %work_at = getelementptr i64, ptr %extents, i64 4
  %n = load i64, ptr %extents
  %m = load i64, ptr %m_at
  %sum = add i64 %n, %m
  store i64 %sum, ptr %sum_at
  %bytes = shl i64 %sum, 3
  store i64 %bytes, ptr %bytes_at
  %work = mul i64 %sum, 1000
  store i64 %work, ptr %work_at
  %long = icmp sgt i64 %n, 1000
  br i1 %long, label %refuse, label %accept
refuse:
  %index_at = getelementptr i64, ptr %status, i64 2
  %wanted_at = getelementptr i64, ptr %status, i64 3
  store i64 2, ptr %status
  store i64 %n, ptr %index_at
  store i64 1000, ptr %wanted_at
  ret i64 2
accept:
  ret i64 0
}
"""


Z = Input("z", F8, (("slot", 2),), "model.py:9")


def concatenation(kind: str) -> Any:
    """(n,), (m,), (n + m,) -> (n + m,): the first two joined, through the workspace, plus the last.

    Its status is 0 only if the workspace is aligned to 64 bytes.
    """
    check = "  %address = ptrtoint ptr %workspace to i64\n  %low = and i64 %address, 63\n"
    body = buffer("x", 0) + buffer("y", 1) + buffer("z", 2) + buffer("out", 3)
    body += extent("n", 0) + extent("sum", 2) + check
    body += loop(
        "%sum",
        "  %first = icmp slt i64 %i, %n\n  %j = sub i64 %i, %n\n"
        "  %k = select i1 %first, i64 %i, i64 %j\n"
        "  %base = select i1 %first, ptr %x, ptr %y\n"
        "  %from = getelementptr double, ptr %base, i64 %k\n"
        + at("zi", "z")
        + at("wi", "workspace")
        + at("oi", "out")
        + "  %v = load double, ptr %from\n  store double %v, ptr %wi\n"
        "  %u = load double, ptr %wi\n  %a = load double, ptr %zi\n"
        "  %r = fadd double %u, %a\n  store double %r, ptr %oi\n",
        "  ret i64 %low",
    )
    program = compile_program(body)
    library = ENGINE.load_ir(DERIVE, ["derive"])
    spec = CallSpec(
        inputs=(Input("x", F8, (("free", 0),)), Input("y", F8, (("free", 1),)), Z),
        outputs=(Output(F8, (("slot", 2),)),),
        contiguous=program["program"],
        extents=library["derive"],
        slots=(0,) * 5,
        workspace_slot=3,
        work_slot=4,
        slot_names={0: "n", 1: "m", 2: "n + m"},
    )
    return make(Subject(spec, (program, library)), kind)


def identity(dtype: np.dtype, kind: str) -> Any:
    """() -> (): the argument itself, as the program sees it."""
    llvm = LLVM_TYPES[dtype]
    program = compile_program(
        buffer("x", 0)
        + buffer("out", 1)
        + f"  %v = load {llvm}, ptr %x\n  store {llvm} %v, ptr %out\n  ret i64 0"
    )
    spec = CallSpec((Input("x", dtype, ()),), (Output(dtype, ()),), program["program"])
    return make(Subject(spec, program), kind)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype)
    view[...] = array
    assert not view.flags.aligned
    return view


def run_python(script: str, *options: str, expect: int | None = 0) -> subprocess.CompletedProcess:
    source = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'runtime')!r}]\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", source + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    if expect is not None:
        assert done.returncode == expect, done.stderr
    return done
