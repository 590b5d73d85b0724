"""How does a vector look numbers up in a small table? By permuting the register that holds it.

The processor takes the low bits of each lane's index, and upper bits do not matter: so indices need
no mask. A register of AVX-512 holds a table of floats, two hold one of doubles; of AVX2 two hold a
table of floats. Elsewhere the table is a constant in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from graphc.codegen.llvm.scalar import constant, llvm_type
from graphc.codegen.scalar import BITS, TABLE_ENTRIES

# Lines, the operand of the result, declarations: as `scalar.instruction` gives them.
Written = tuple[list[str], str, set[str]]


def lookup(
    index: str,
    table: Sequence[float],
    dtype: str,
    lanes: int,
    fresh: Callable[[], str],
    permuted_bytes: int,
) -> Written:
    """The lines that look up `index`; the processor permutes registers of so many bytes, or 0."""
    writer = _Writer(table, dtype, fresh)
    if lanes == 1 or not permuted_bytes or permuted_bytes == 32 and dtype == "float64":
        result = writer.from_memory(index, lanes)
    else:
        result = writer.by_registers(index, lanes, permuted_bytes)
    return writer.lines, result, writer.declarations


class _Writer:
    def __init__(self, table: Sequence[float], dtype: str, fresh: Callable[[], str]) -> None:
        self.table = table
        self.dtype = dtype
        self.word = f"uint{BITS[dtype]}"
        self.fresh = fresh
        self.lines: list[str] = []
        self.declarations: set[str] = set()

    def let(self, text: str) -> str:
        name = self.fresh()
        self.lines.append(f"{name} = {text}")
        return name

    def from_memory(self, index: str, lanes: int) -> str:
        """A load, or a gather."""
        element, words, made = (llvm_type(self.dtype), *self._types(lanes))
        entries = ", ".join(f"{element} {constant(each, self.dtype)}" for each in self.table)
        name = f"@table_{hashlib.sha256(entries.encode()).hexdigest()[:16]}"
        typed = f"[{TABLE_ENTRIES} x {element}]"
        self.declarations.add(f"{name} = private unnamed_addr constant {typed} [{entries}]")
        place = self.let(f"and {words} {index}, {constant(TABLE_ENTRIES - 1, self.word, lanes)}")
        address = self.let(f"getelementptr {element}, ptr {name}, {words} {place}")
        if lanes == 1:
            return self.let(f"load {element}, ptr {address}")
        flags, pointers = llvm_type("bool", lanes), f"<{lanes} x ptr>"
        function = f"@llvm.masked.gather.v{lanes}f{BITS[self.dtype]}.v{lanes}p0"
        self.declarations.add(f"declare {made} {function}({pointers}, i32, {flags}, {made})")
        size = BITS[self.dtype] // 8
        given = f"{pointers} {address}, i32 {size}, {flags} splat (i1 true), {made} poison"
        return self.let(f"call {made} {function}({given})")

    def by_registers(self, index: str, lanes: int, permuted_bytes: int) -> str:
        """A vector of any power of two of lanes, by registers that are full."""
        width = permuted_bytes * 8 // BITS[self.dtype]
        if lanes < width:
            wide = self._some(index, self.word, lanes, 0, width)
            return self._some(self._register(wide, width), self.dtype, width, 0, lanes)
        pieces = [self._some(index, self.word, lanes, i, width) for i in range(0, lanes, width)]
        parts = [self._register(piece, width) for piece in pieces]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self._joined(first, second, width) for first, second in pairs]
            width *= 2
        return parts[0]

    def _register(self, index: str, width: int) -> str:
        """One register of indices."""
        words, made = self._types(width)
        halves = [self._vector(self.table[i : i + width]) for i in range(0, TABLE_ENTRIES, width)]
        if len(halves) == 1:
            function = "@llvm.x86.avx512.permvar.sf.512"
            return self._call(function, (made, halves[0]), (words, index))
        if self.dtype == "float64":
            function = "@llvm.x86.avx512.vpermi2var.pd.512"
            return self._call(function, (made, halves[0]), (words, index), (made, halves[1]))
        function = "@llvm.x86.avx2.permps"
        low, high = (self._call(function, (made, half), (words, index)) for half in halves)
        bit = self.let(f"and {words} {index}, {constant(width, self.word, width)}")
        zero = constant(0, self.word, width)
        is_high = self.let(f"icmp ne {words} {bit}, {zero}")
        flags = llvm_type("bool", width)
        return self.let(f"select {flags} {is_high}, {made} {high}, {made} {low}")

    def _call(self, function: str, *operands: tuple[str, str]) -> str:
        made = operands[0][0]
        types = ", ".join(typed for typed, _ in operands)
        self.declarations.add(f"declare {made} {function}({types})")
        return self.let(f"call {made} {function}({', '.join(map(' '.join, operands))})")

    def _types(self, lanes: int) -> tuple[str, str]:
        return llvm_type(self.word, lanes), llvm_type(self.dtype, lanes)

    def _vector(self, entries: Sequence[float]) -> str:
        element = llvm_type(self.dtype)
        return f"<{', '.join(f'{element} {constant(each, self.dtype)}' for each in entries)}>"

    def _some(self, vector: str, dtype: str, lanes: int, first: int, count: int) -> str:
        """`count` lanes of a vector from the first on; those that it has not are undefined."""
        if (lanes, first) == (count, 0):
            return vector
        chosen = [f"i32 {i}" if i < lanes else "i32 poison" for i in range(first, first + count)]
        typed = llvm_type(dtype, lanes)
        mask = f"<{count} x i32> <{', '.join(chosen)}>"
        return self.let(f"shufflevector {typed} {vector}, {typed} poison, {mask}")

    def _joined(self, first: str, second: str, width: int) -> str:
        typed = llvm_type(self.dtype, width)
        mask = ", ".join(f"i32 {i}" for i in range(2 * width))
        joined = f"shufflevector {typed} {first}, {typed} {second}, <{2 * width} x i32> <{mask}>"
        return self.let(joined)
