"""What are values called in the text of a function?  Fresh names, constants, splats, instructions.

A value is computed once, at one level, and is known by its name at the levels inside. One that was
computed outside of the lanes is spread over them at the level where it was computed. A comparison
is made again in the lanes, of operands that are spread, unless the machine has registers for masks:
from one block to another LLVM hands a vector of bits on as bytes, which each use takes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.lookup import lookup
from graphc.codegen.llvm.scalar import (
    constant,
    from_memory,
    instruction,
    llvm_type,
    memory_type,
    to_memory,
)
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import BITS, Value

# Opcodes that make a bool of two numbers; `and` and the like, of two of those.
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))


class Values:
    """The values of one function, and the declarations of what computes them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.declarations: set[str] = set()
        # The finished sum of a contraction, which only epilogues have.
        self.product: Callable[[Level, Value], str] | None = None
        self._factors: dict[str, tuple[str, str]] = {}  # masks of which both are true
        self._count = 0
        self._numbered = -1
        self._literals: dict[tuple[int, int], str] = {}  # of constants, by lanes

    def tag(self) -> int:
        """A number that names of blocks and of what is carried into them end in."""
        self._count += 1
        return self._count

    def fresh(self, prefix: str = "t") -> str:
        self._count += 1
        return f"%{prefix}{self._count}"

    def numbered(self) -> str:
        """The next value without a name. LLVM counts these of a function: the next line of its text
        that makes one must be that of this one.
        """
        self._numbered += 1
        return f"%{self._numbered}"

    def operand(self, level: Level, value: Value, lanes: int | None = None) -> str:
        """A value as an operand at this level: a literal, a name, or a splat of what was computed
        outside the lanes.
        """
        wanted = level.lane_count if lanes is None else lanes
        if value.opcode == "const":
            key = (id(value), wanted)
            if key not in self._literals:
                self._literals[key] = constant(value.immediate, value.dtype, wanted)
            return self._literals[key]
        each: Level | None = level
        while each is not None:
            name = each.names.get(id(value))
            if name is not None:
                if each.lane_count == wanted:
                    return name
                if self._is_compared_again(level, value):
                    return self._compared(level, value, wanted)
                return self.splat(each, name, value.dtype, wanted)
            each = each.parent
        if value.opcode == "result" and self.product is not None:
            return self.product(level, value)
        raise AssertionError(f"{value!r} is not available")

    def splat(self, home: Level, name: str, dtype: str, lanes: int) -> str:
        """A uniform value in every lane, made once at the level where it was computed."""
        key = f"{name}x{lanes}"
        found = home.splats.get(key)
        if found is None:
            found = home.splats[key] = self.broadcast(home, name, llvm_type(dtype), lanes)
        return found

    def _is_compared_again(self, level: Level, value: Value) -> bool:
        """Whether a uniform value is made anew in lanes. A segment may not know its operands."""
        if self.machine.has_masks or value.opcode not in _COMPARISONS:
            return False
        return all(
            each.opcode == "const" or any(id(each) in known.names for known in level.chain())
            for each in value.args
        )

    def _compared(self, level: Level, value: Value, lanes: int) -> str:
        """A uniform comparison in every lane, made at this level, once a block."""
        key = f"{id(value)}x{lanes} {level.block}"
        found = level.splats.get(key)
        if found is None:
            operands = [self.operand(level, each, lanes) for each in value.args]
            dtypes = [each.dtype for each in value.args]
            given = (value.opcode, operands, dtypes, value.dtype, lanes)
            found = level.splats[key] = self.compute(level, *given)
        return found

    def broadcast(self, level: Level, name: str, element: str, lanes: int) -> str:
        first, result = self.fresh(), self.fresh()
        vector = f"<{lanes} x {element}>"
        level.put(f"{first} = insertelement {vector} poison, {element} {name}, i64 0")
        level.put(
            f"{result} = shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> "
            "zeroinitializer"
        )
        return result

    def both(self, level: Level, mask: str | None, own: str) -> str:
        """The lanes of two masks, of which there may be only one."""
        if mask is None:
            return own
        found = self.fresh()
        level.put(f"{found} = and {llvm_type('bool', level.lane_count)} {mask}, {own}")
        self._factors[found] = mask, own
        return found

    def part_of_mask(self, level: Level, mask: str, lanes: int, part: range) -> str:
        """The mask of some neighbouring lanes: of every factor the part, so that one that is known
        to be off there is seen to be.
        """
        flags = f"<{len(part)} x i1>"
        if mask in self._factors:
            factors = self._factors[mask]
            first, second = (self.part_of_mask(level, each, lanes, part) for each in factors)
            found = self.fresh()
            level.put(f"{found} = and {flags} {first}, {second}")
            return found
        found, typed = self.fresh(), llvm_type("bool", lanes)
        order = ", ".join(f"i32 {k}" for k in part)
        level.put(
            f"{found} = shufflevector {typed} {mask}, {typed} poison, <{len(part)} x i32> <{order}>"
        )
        return found

    def compute(
        self,
        level: Level,
        opcode: str,
        operands: Sequence[str],
        dtypes: Sequence[str],
        dtype: str,
        lanes: int,
    ) -> str:
        """The result of a scalar opcode, in so many lanes."""
        lines, result, declarations = instruction(
            *(opcode, operands, dtypes, dtype, lanes, self.fresh), self.machine.converts_halves
        )
        for line in lines:
            level.put(line)
        if declarations:
            self.declarations |= declarations
        if opcode == "and" and dtype == "bool":
            self._factors[result] = operands[0], operands[1]
        return result

    def multiply_add(
        self,
        level: Level,
        factors: tuple[str, str],
        term: str,
        dtype: str,
        lanes: int,
        name: str = "",
    ) -> str:
        """A product and a sum, rounded together where there is an instruction."""
        name, typed = name or self.fresh(), llvm_type(dtype, lanes)
        kind = "fma" if self.machine.has_fma else "fmuladd"
        function = f"llvm.{kind}.{f'v{lanes}' if lanes > 1 else ''}f{BITS[dtype]}"
        self.declarations.add(f"declare {typed} @{function}({typed}, {typed}, {typed})")
        operands = ", ".join(f"{typed} {each}" for each in (*factors, term))
        level.put(f"{name} = call {typed} @{function}({operands})")
        return name

    def lookup(self, level: Level, value: Value, index: str) -> str:
        """The number in a table, in the lanes of this level."""
        lines, result, declarations = lookup(
            *(index, value.immediate, value.dtype, level.lane_count, self.fresh),
            self.machine.permuted_bytes,
        )
        for line in lines:
            level.put(line)
        self.declarations |= declarations
        return result

    def from_memory(self, level: Level, name: str, dtype: str, lanes: int) -> str:
        """The value in registers of one that was loaded."""
        lines, result = from_memory(name, dtype, lanes, self.fresh)
        for line in lines:
            level.put(line)
        return result

    def to_memory(self, level: Level, name: str, dtype: str, lanes: int) -> str:
        """The value to be stored of one in registers."""
        lines, result = to_memory(name, dtype, lanes, self.fresh)
        for line in lines:
            level.put(line)
        return result


def vector_suffix(dtype: str, lanes: int) -> str:
    """What the names of intrinsics on vectors in memory end in."""
    element = memory_type(dtype)
    return f"v{lanes}{_SUFFIXES.get(element, element)}"


# What stands for a type in the names of intrinsics; integers stand for themselves.
_SUFFIXES = {"half": "f16", "float": "f32", "double": "f64"}
