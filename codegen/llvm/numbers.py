"""Which constants of a vector loop lie in memory?  Those of loops with more than fit in registers.

LLVM writes a constant vector as a scalar in memory that an instruction of its own spreads over a
register. Where there are registers for all of them that is done once, before the loop. A
mathematical function has a dozen constants or two, and of AVX2's sixteen registers the values of
several vectors take most: so the constants are spread again and again, each time by an instruction
that takes its place among those that the processor looks ahead over. A whole vector in memory is an
operand like a register: the instruction that uses it loads it.

LLVM must be kept from seeing what such a vector holds, or it writes what it always writes. So it is
a variable, which nobody changes, and loads of it are marked as loads that give the same whenever
they run: LLVM moves them out of the loop where it has a register left. AVX-512 has instructions
that spread an operand themselves, and registers for all.
"""

from __future__ import annotations

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import constant, llvm_type
from graphc.codegen.llvm.values import Values
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import Scope, Value, item_bytes

# So many constants are kept in registers beside the values of a loop.
MOST_HELD = 8
# What LLVM knows better if it sees the number: a division by a power of two is a product.
_SEEN = frozenset(("div", "call"))
_IN_MEMORY = frozenset(("float32", "float64"))


class Numbers:
    """The constants that the loops of one function take from memory, by symbol: of all functions
    of the module.
    """

    def __init__(self, values: Values, symbols: dict[str, str]) -> None:
        self.values, self.symbols = values, symbols
        self.bytes = vector_in_memory(values.machine)
        self.scopes: dict[Scope, bool] = {}

    def operand(self, level: Level, user: Value, value: Value) -> str:
        """An argument of an instruction in the lanes of this level, loaded if it lies in memory."""
        lanes = level.lane_count
        width = self.bytes // item_bytes(value.dtype)
        wide = value.opcode == "const" and 1 < width <= lanes
        if not wide or user.opcode in _SEEN or not _is_number(value) or not self._many(level):
            return self.values.operand(level, value)
        typed = llvm_type(value.dtype, width)
        number = constant(value.immediate, value.dtype)
        symbol = f"@{value.dtype}x{width}_{number}"
        self.symbols[symbol] = f"{typed} splat ({llvm_type(value.dtype)} {number})"
        key = f"{symbol}x{lanes} {level.block}"
        if key not in level.splats:
            level.splats[key] = self._loaded(level, symbol, typed, width, lanes)
        return level.splats[key]

    def lines(self) -> list[str]:
        """What the text of the module needs before its functions."""
        return [
            f"{symbol} = private global {number}, align {self.bytes}"
            for symbol, number in sorted(self.symbols.items())
        ]

    def _many(self, level: Level) -> bool:
        """Whether the body of this level has more constants than registers keep."""
        scope = level.scope
        if scope is None:
            return False
        if scope not in self.scopes:
            values = [s for s in scope.statements if isinstance(s, Value)]
            given = [a for s in values for a in s.args if a.opcode == "const" and _is_number(a)]
            self.scopes[scope] = len({(a.dtype, a.immediate) for a in given}) > MOST_HELD
        return self.scopes[scope]

    def _loaded(self, level: Level, symbol: str, typed: str, width: int, lanes: int) -> str:
        """One vector of the machine in memory, as often as the lanes have it."""
        name = self.values.fresh()
        load = f"load {typed}, ptr {symbol}, align {self.bytes}, !invariant.load !0"
        level.put(f"{name} = {load}")
        if lanes == width:
            return name
        repeated = self.values.fresh()
        picks = ", ".join(f"i32 {lane % width}" for lane in range(lanes))
        vectors = f"{typed} {name}, {typed} poison"
        level.put(f"{repeated} = shufflevector {vectors}, <{lanes} x i32> <{picks}>")
        return repeated


def vector_in_memory(machine: Machine) -> int:
    """The bytes of a vector that an instruction may take from memory, where constants are better
    kept so, else 0: AVX2. SSE's are kept so by LLVM, AVX-512 and NEON have registers for all.
    """
    known = machine.triple.startswith("x86_64") and machine.vector_bytes == 32
    return machine.vector_bytes if known and machine.vector_registers <= 16 else 0


def _is_number(value: Value) -> bool:
    """Whether a constant is one that takes memory: zero takes none."""
    return value.dtype in _IN_MEMORY and value.immediate != 0
