"""How does a kernel call a routine of a library?  By a function of the module.

It takes sizes and addresses by value, and puts what Fortran takes by reference on its stack.
"""

from __future__ import annotations

from graphc.codegen.lapack import NOT_ASKED, ROUTINES, Foreign
from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.values import Values
from graphc.codegen.scalar import Library
from graphc.dims import product


class Libraries:
    """The routines of libraries that one kernel calls, and the functions that call them."""

    def __init__(self, values: Values, indices: Indices) -> None:
        self.values = values
        self.indices = indices
        self.texts: dict[str, str] = {}
        self._symbols: dict[str, None] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        """What the library has to provide."""
        return tuple(self._symbols)

    def call(self, level: Level, s: Library) -> None:
        """Call the routine if the condition holds; the outcome is a value of this level."""
        routine = ROUTINES[s.routine]
        name = f"{s.routine}_{s.dtype}"
        symbol = routine.symbol(s.dtype)
        self._symbols[symbol] = None
        self.texts[name] = _caller(routine, name, symbol)
        pointers = ", ".join("ptr" for _ in routine.words)
        self.values.declarations.add(f"declare void @{symbol}({pointers})")
        given = [f"ptr {self.indices.pointers[buffer]}" for buffer in s.buffers]
        given += [f"i64 {self.indices.dim(level, product(b.shape))}" for b in s.buffers]
        given += [f"i64 {self.indices.dim(level, size)}" for size in s.sizes]
        condition = self.values.operand(level, s.condition)
        tag, before = self.values.tag(), level.block
        found, outcome = self.values.fresh(), self.values.fresh()
        level.put(f"br i1 {condition}, label %ask{tag}, label %asked{tag}")
        level.label(f"ask{tag}")
        level.put(f"{found} = call i64 @{name}({', '.join(given)})")
        level.put(f"br label %asked{tag}")
        level.label(f"asked{tag}")
        level.put(f"{outcome} = phi i64 [{NOT_ASKED}, %{before}], [{found}, %ask{tag}]")
        level.names[id(s.outcome)] = outcome


def _caller(routine: Foreign, name: str, symbol: str) -> str:
    """The function that calls a routine: arrays, then their numbers of elements, then sizes."""
    parameters = [f"ptr %a_{array}" for array in routine.arrays]
    parameters += [f"i64 %e_{array}" for array in routine.arrays]
    parameters += [f"i64 %s_{size}" for size in routine.sizes]
    lines, arguments = [], []
    for position, word in enumerate(routine.words):
        at = f"%p{position}"
        kind, rest = word[0], word[1:]
        if kind == "&":
            arguments.append(f"ptr %a_{rest}")
            continue
        arguments.append(f"ptr {at}")
        if kind == "'":
            lines += [f"{at} = alloca i8", f"store i8 {ord(rest)}, ptr {at}"]
            continue
        lines.append(f"{at} = alloca i32")
        if word == "info":
            outcome = at
            lines.append(f"store i32 0, ptr {at}")
            continue
        value = f"%e_{rest}" if kind == "#" else f"%s_{word}"
        lines += [f"%n{position} = trunc i64 {value} to i32", f"store i32 %n{position}, ptr {at}"]
    lines += [
        f"call void @{symbol}({', '.join(arguments)})",
        f"%info = load i32, ptr {outcome}",
        "%result = sext i32 %info to i64",
        "ret i64 %result",
    ]
    head = f"define internal i64 @{name}({', '.join(parameters)}) noinline nounwind {{"
    return "\n".join([head, "entry:", *(f"  {line}" for line in lines), "}"])
