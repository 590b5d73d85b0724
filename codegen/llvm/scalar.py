"""How is each scalar opcode written in LLVM IR, for one value or for a vector of lanes?

Most opcodes are one line of a table, by kind of dtype. The rest are short sequences, each with its
reason: LLVM leaves their edge cases undefined (division, conversion), traps on them, or has no such
instruction. No fast-math flag is printed and nothing is contracted, so that every result has the
bits that `OPCODES[name].numpy` gives, up to the sign and payload of a NaN and to which of two zeros
`min` and `max` return.

float16 computes in float32 and rounds after every instruction. bfloat16 does too and is an `i16` in
registers, because the hardware conversions to it flush subnormals.

`fma` is always the fused intrinsic: on a target without such an instruction LLVM calls the C
library for it, which is exact and slow.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from graphc.codegen.scalar import BITS, FLOATS, HALVES, INTEGERS, SIGNED

_ELEMENTS = (
    {"bool": "i1", "float16": "half", "bfloat16": "i16", "float32": "float", "float64": "double"}
    | {name: f"i{BITS[name]}" for name in INTEGERS}
)


def llvm_type(dtype: str, lanes: int = 1) -> str:
    """The type of a value in registers: `double`, `<8 x double>`; a bool is an `i1`."""
    return _vector(_ELEMENTS[dtype], lanes)


def memory_type(dtype: str, lanes: int = 1) -> str:
    """The type of a value in memory: as in registers, but a bool is a byte, 0 or 1."""
    return _vector("i8" if dtype == "bool" else _ELEMENTS[dtype], lanes)


def from_memory(
    operand: str, dtype: str, lanes: int, fresh: Callable[[], str]
) -> tuple[list[str], str]:
    """Lines that turn a value of `memory_type` into one of `llvm_type`, and its operand.

    Any byte but 0 is true.
    """
    if dtype != "bool":
        return [], operand
    name = fresh()
    zero = constant(0, "uint8", lanes)
    return [f"{name} = icmp ne {memory_type(dtype, lanes)} {operand}, {zero}"], name


def to_memory(
    operand: str, dtype: str, lanes: int, fresh: Callable[[], str]
) -> tuple[list[str], str]:
    """The reverse of `from_memory`."""
    if dtype != "bool":
        return [], operand
    name = fresh()
    types = llvm_type(dtype, lanes), memory_type(dtype, lanes)
    return [f"{name} = zext {types[0]} {operand} to {types[1]}"], name


def constant(value: Any, dtype: str, lanes: int = 1) -> str:
    """The operand text of a constant already rounded to `dtype`, in every lane."""
    text = _literal(value, dtype)
    return text if lanes == 1 else f"splat ({_ELEMENTS[dtype]} {text})"


def instruction(
    opcode: str,
    operands: Sequence[str],
    dtypes: Sequence[str],
    result_dtype: str,
    lanes: int,
    fresh: Callable[[], str],
    converts_halves: bool = True,
) -> tuple[list[str], str, Set[str]]:
    """The lines that execute `opcode`, the operand of its result, and the declarations needed.

    `operands` are LLVM operands without their types (names, or what `constant` returns), `dtypes`
    are theirs; `fresh` returns a new local name such as `%t7`. The result may be one of the
    operands: some conversions are no instruction. `converts_halves` tells whether the processor has
    instructions between float16 and float32; where it has none LLVM would call a library.
    """
    line = _line(opcode, dtypes[0], result_dtype, lanes)
    if line is not None:
        name = fresh()
        return [f"{name} = {line.template.format(*operands)}"], name, line.declarations
    block = _Block(lanes, fresh, converts_halves)
    result = block.emit(opcode, operands, dtypes, result_dtype)
    return block.lines, result, block.declarations


@dataclass(frozen=True)
class _Line:
    """An instruction that is one line: a template of its operands, and what it declares."""

    template: str
    declarations: frozenset[str]


@functools.cache
def _line(opcode: str, dtype: str, result: str, lanes: int) -> _Line | None:
    """The line of an opcode; None for one that is a sequence or depends on its operands."""
    if opcode in ("convert", "bitcast") or dtype in HALVES or result in HALVES:
        return None
    if (opcode, _kind(dtype)) in _SEQUENCES:
        return None
    block = _Block(lanes, lambda: "", True)
    block.emit(opcode, ("{0}", "{1}", "{2}"), (dtype,), result)
    (line,) = block.lines
    return _Line(line.removeprefix(" = "), frozenset(block.declarations))


def _vector(element: str, lanes: int) -> str:
    return element if lanes == 1 else f"<{lanes} x {element}>"


def _literal(value: Any, dtype: str) -> str:
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == "float16":
        return f"0xH{int.from_bytes(struct.pack('<e', value), 'little'):04X}"
    if dtype == "bfloat16":
        return str(int.from_bytes(struct.pack("<f", value), "little") >> 16)
    if dtype in FLOATS:  # a float is written as the double of the same value
        return f"0x{int.from_bytes(struct.pack('<d', value), 'little'):016X}"
    return str(int(value))


def _kind(dtype: str) -> str:
    if dtype in FLOATS:
        return "float"
    if dtype == "bool":
        return "bool"
    return "signed" if dtype in SIGNED else "unsigned"


# (opcode, kind of the operands) -> instruction. {t}: the operands' type, {r}: the result's; {s}:
# the operands' intrinsic suffix. The kind "integer" stands for signed, unsigned and bool.
_TEMPLATES = {
    ("add", "float"): "fadd {t} {0}, {1}",
    ("add", "integer"): "add {t} {0}, {1}",
    ("sub", "float"): "fsub {t} {0}, {1}",
    ("sub", "integer"): "sub {t} {0}, {1}",
    ("mul", "float"): "fmul {t} {0}, {1}",
    ("mul", "integer"): "mul {t} {0}, {1}",
    ("div", "float"): "fdiv {t} {0}, {1}",
    ("neg", "float"): "fneg {t} {0}",
    ("neg", "integer"): "sub {t} zeroinitializer, {0}",
    ("apart", "float"): "call {t} @llvm.arithmetic.fence.{s}({t} {0})",
    ("abs", "float"): "call {t} @llvm.fabs.{s}({t} {0})",
    ("abs", "signed"): "call {t} @llvm.abs.{s}({t} {0}, i1 false)",
    ("fma", "float"): "call {t} @llvm.fma.{s}({t} {0}, {t} {1}, {t} {2})",
    ("sqrt", "float"): "call {t} @llvm.sqrt.{s}({t} {0})",
    ("min", "signed"): "call {t} @llvm.smin.{s}({t} {0}, {t} {1})",
    ("min", "unsigned"): "call {t} @llvm.umin.{s}({t} {0}, {t} {1})",
    ("max", "signed"): "call {t} @llvm.smax.{s}({t} {0}, {t} {1})",
    ("max", "unsigned"): "call {t} @llvm.umax.{s}({t} {0}, {t} {1})",
    ("copysign", "float"): "call {t} @llvm.copysign.{s}({t} {0}, {t} {1})",
    ("floor", "float"): "call {t} @llvm.floor.{s}({t} {0})",
    ("ceil", "float"): "call {t} @llvm.ceil.{s}({t} {0})",
    ("trunc", "float"): "call {t} @llvm.trunc.{s}({t} {0})",
    ("rint", "float"): "call {t} @llvm.rint.{s}({t} {0})",
    ("and", "integer"): "and {t} {0}, {1}",
    ("or", "integer"): "or {t} {0}, {1}",
    ("xor", "integer"): "xor {t} {0}, {1}",
    ("shr", "signed"): "ashr {t} {0}, {1}",
    ("shr", "unsigned"): "lshr {t} {0}, {1}",
    ("shl", "integer"): "shl {t} {0}, {1}",
    ("eq", "float"): "fcmp oeq {t} {0}, {1}",
    ("ne", "float"): "fcmp une {t} {0}, {1}",
    ("eq", "integer"): "icmp eq {t} {0}, {1}",
    ("ne", "integer"): "icmp ne {t} {0}, {1}",
    ("quotient", "signed"): "sdiv {t} {0}, {1}",
    ("quotient", "unsigned"): "udiv {t} {0}, {1}",
} | {
    (name, kind): f"{compare} {prefix}{name} {{t}} {{0}}, {{1}}"
    for name in ("lt", "le", "gt", "ge")
    for kind, compare, prefix in (
        ("float", "fcmp", "o"),
        ("signed", "icmp", "s"),
        ("unsigned", "icmp", "u"),
    )
}

_CALL = re.compile(r"^call (?:nsz )?(.+?) (@[\w.]+)\((.*)\)$")
_ARGUMENT = re.compile(r"(<\d+ x \w+>|\w+) (?:splat \([^)]*\)|[^,\s]+)(?:, )?")


class _Block:
    """Lines under construction, for one number of lanes."""

    def __init__(self, lanes: int, fresh: Callable[[], str], converts_halves: bool) -> None:
        self.lanes = lanes
        self.converts_halves = converts_halves
        self.fresh = fresh
        self.lines: list[str] = []
        self.declarations: set[str] = set()

    def emit(
        self, opcode: str, operands: Sequence[str], dtypes: Sequence[str], result: str
    ) -> str:
        """The result of an instruction: by its sequence if it has one, else by its template."""
        if opcode == "select":
            condition, yes, no = operands
            type_ = self.type(result)
            choice = f"select {self.type('bool')} {condition}, {type_} {yes}, {type_} {no}"
            return self.let(choice)
        dtype = dtypes[0]
        if opcode == "convert":
            return self.convert(operands[0], dtype, result)
        if opcode == "bitcast":
            return self.bitcast(operands[0], dtype, result)
        if dtype in HALVES:
            wide = [self.convert(operand, dtype, "float32") for operand in operands]
            value = self.emit(opcode, wide, ["float32"] * len(wide), "float32")
            return value if result == "bool" else self.convert(value, "float32", result)
        sequence = _SEQUENCES.get((opcode, _kind(dtype)))
        if sequence is not None:
            return sequence(self, dtype, *operands)
        return self.plain(opcode, dtype, *operands)

    # -- building blocks -----------------------------------------------------------------------

    def plain(self, opcode: str, dtype: str, *operands: str) -> str:
        kind = _kind(dtype)
        template = _TEMPLATES.get((opcode, kind)) or _TEMPLATES[opcode, "integer"]
        return self.let(template.format(*operands, t=self.type(dtype), s=self.suffix(dtype)))

    def let(self, text: str) -> str:
        """A new name for the value of `text`; calls declare what they call."""
        name = self.fresh()
        self.lines.append(f"{name} = {text}")
        call = _CALL.match(text)
        if call is not None:
            result, function, arguments = call.groups()
            types = ", ".join(_ARGUMENT.findall(arguments))
            self.declarations.add(f"declare {result} {function}({types})")
        return name

    def type(self, dtype: str) -> str:
        return llvm_type(dtype, self.lanes)

    def suffix(self, dtype: str) -> str:
        """What the names of overloaded intrinsics end in, such as `v8f64`."""
        prefix = "" if self.lanes == 1 else f"v{self.lanes}"
        return f"{prefix}{'f' if dtype in FLOATS else 'i'}{BITS[dtype]}"

    def constant(self, value: Any, dtype: str) -> str:
        return constant(value, dtype, self.lanes)

    def select(self, condition: str, yes: str, no: str, dtype: str) -> str:
        return self.emit("select", (condition, yes, no), (), dtype)

    # -- conversions ---------------------------------------------------------------------------

    def bitcast(self, operand: str, source: str, target: str) -> str:
        types = self.type(source), self.type(target)
        if types[0] == types[1]:
            return operand
        return self.let(f"bitcast {types[0]} {operand} to {types[1]}")

    def convert(self, operand: str, source: str, target: str) -> str:
        if source == target:
            return operand
        if target == "bool":
            return self._to_bool(operand, source)
        if source in FLOATS and target in FLOATS:
            return self._resize_float(operand, source, target)
        if source in HALVES:
            return self.convert(self._widen_half(operand, source), "float32", target)
        if target in HALVES:
            return self._narrow(self.convert(operand, source, "float32"), target)
        if source in FLOATS:
            return self._to_integer(operand, source, target)
        if target in FLOATS:
            verb = "sitofp" if source in SIGNED else "uitofp"
            return self.let(f"{verb} {self.type(source)} {operand} to {self.type(target)}")
        return self._resize_integer(operand, source, target)

    def _to_bool(self, operand: str, source: str) -> str:
        if source in HALVES:
            operand, source = self._widen_half(operand, source), "float32"
        return self.plain("ne", source, operand, self.constant(0, source))

    def _to_integer(self, operand: str, source: str, target: str) -> str:
        """Truncation with saturation.

        llvm.fptosi.sat is taken apart lane by lane on x86: 4 to 8 times as many instructions.
        Where float holds both limits exactly it is clamped first; else values out of range become 0
        and are replaced afterwards. So no conversion is ever undefined.
        """
        bits, signed = BITS[target], target in SIGNED
        least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        type_, verb = self.type(source), "fptosi" if signed else "fptoui"
        low = self.constant(float(least), source)
        if bits < {"float32": 24, "float64": 53}[source]:
            high = self.constant(float(most), source)
            value = self.select(self.plain("gt", source, operand, high), high, operand, source)
            value = self.select(self.plain("lt", source, value, low), low, value, source)
            ordered = self.let(f"fcmp ord {type_} {operand}, {operand}")
            value = self.select(ordered, value, self.constant(0.0, source), source)
            return self._narrow_integer(f"{verb} {type_} {value}", target)
        beyond = self.constant(float(most + 1), source)
        inside = self.plain("lt", source, operand, beyond)
        inside = self.plain("and", "bool", inside, self.plain("ge", source, operand, low))
        value = self.select(inside, operand, self.constant(0.0, source), source)
        result = self.let(f"{verb} {type_} {value} to {self.type(target)}")
        above = self.plain("ge", source, operand, beyond)
        result = self.select(above, self.constant(most, target), result, target)
        if not signed:
            return result
        below = self.plain("lt", source, operand, low)
        return self.select(below, self.constant(least, target), result, target)

    def _narrow_integer(self, conversion: str, target: str) -> str:
        """Hardware converts to 32 bits at least."""
        if BITS[target] == 32:
            return self.let(f"{conversion} to {self.type(target)}")
        wide = self.let(f"{conversion.replace('fptoui', 'fptosi')} to {self.type('int32')}")
        return self._resize_integer(wide, "int32", target)

    def _resize_integer(self, operand: str, source: str, target: str) -> str:
        if BITS[source] == BITS[target]:
            return operand
        narrows = BITS[source] > BITS[target]
        verb = "trunc" if narrows else "sext" if source in SIGNED else "zext"
        return self.let(f"{verb} {self.type(source)} {operand} to {self.type(target)}")

    def _resize_float(self, operand: str, source: str, target: str) -> str:
        if source in HALVES:
            wide = self._widen_half(operand, source)
            return self.convert(wide, "float32", target)
        if target == "float64":
            return self._extended(operand, source, target)
        if source == "float32":
            return self._narrow(operand, target)
        if target == "float16":
            return self._narrow(self._float32_to_odd(operand), "float16")
        return self.convert(self._truncated(operand, source, "float32"), "float32", target)

    def _extended(self, operand: str, source: str, target: str) -> str:
        """A float in a wider dtype, apart from what it is made of.

        LLVM 20 moves a select in front of the conversion of what it gives, when the conversion is
        compared, too, as if the sign of a zero did not matter: `x > 0 ? 0 : x` of -0 would be 0.
        """
        wide = self.let(f"fpext {self.type(source)} {operand} to {self.type(target)}")
        return self.plain("apart", target, wide)

    def _truncated(self, operand: str, source: str, target: str) -> str:
        """A float in a narrower dtype, by the processor; apart, as an extended one is."""
        operand = self.plain("apart", source, operand)
        return self.let(f"fptrunc {self.type(source)} {operand} to {self.type(target)}")

    def _widen_half(self, operand: str, source: str) -> str:
        """float32 of a 16-bit float, exactly. A bfloat16 is the upper half of a float32."""
        if source == "float16" and self.converts_halves:
            return self._extended(operand, source, "float32")
        if source == "float16":
            return self._widen_by_bits(operand)
        bits = self._resize_integer(operand, "uint16", "uint32")
        bits = self.plain("shl", "uint32", bits, self.constant(16, "uint32"))
        return self.bitcast(bits, "uint32", "float32")

    def _narrow(self, operand: str, target: str) -> str:
        """A 16-bit float of a float32, to nearest even."""
        if target == "float16" and self.converts_halves:
            return self._truncated(operand, "float32", target)
        if target == "float16":
            return self._narrow_by_bits(operand)
        bits = self.bitcast(operand, "float32", "uint32")
        sixteen = self.constant(16, "uint32")
        last = self.plain("shr", "uint32", bits, sixteen)
        last = self.plain("and", "uint32", last, self.constant(1, "uint32"))
        bias = self.plain("add", "uint32", last, self.constant(0x7FFF, "uint32"))
        rounded = self.plain("add", "uint32", bits, bias)
        is_nan = self.let(f"fcmp uno {self.type('float32')} {operand}, {operand}")
        kept = self.select(is_nan, self.constant(0x7FC00000, "uint32"), rounded, "uint32")
        upper = self.plain("shr", "uint32", kept, sixteen)
        return self._resize_integer(upper, "uint32", "uint16")

    def word(self, opcode: str, a: str, b: int | str) -> str:
        """An operation on 32 bits; a number stands for itself in every lane."""
        other = self.constant(b, "uint32") if isinstance(b, int) else b
        return self.plain(opcode, "uint32", a, other)

    def _widen_by_bits(self, operand: str) -> str:
        """From float16 by integer arithmetic. 2**112 moves the exponent, exactly if subnormal too.
        """
        bits = self._resize_integer(self.bitcast(operand, "float16", "uint16"), "uint16", "uint32")
        magnitude = self.word("and", bits, 0x7FFF)
        sign = self.word("shl", self.word("and", bits, 0x8000), 16)
        shifted = self.word("shl", magnitude, 13)
        scale = self.constant(2.0**112, "float32")
        scaled = self.plain("mul", "float32", self.bitcast(shifted, "uint32", "float32"), scale)
        infinite = self.word("or", shifted, 0x7F800000)
        finite = self.word("lt", magnitude, 0x7C00)
        size = self.select(finite, self.bitcast(scaled, "float32", "uint32"), infinite, "uint32")
        return self.bitcast(self.word("or", size, sign), "uint32", "float32")

    def _narrow_by_bits(self, operand: str) -> str:
        """To float16 by integer arithmetic. Beside 0.5 the last bit is that of a subnormal one."""
        bits = self.bitcast(operand, "float32", "uint32")
        magnitude = self.word("and", bits, 0x7FFFFFFF)
        size = self.bitcast(magnitude, "uint32", "float32")
        beside = self.plain("add", "float32", size, self.constant(0.5, "float32"))
        tiny = self.word("sub", self.bitcast(beside, "float32", "uint32"), 0x3F000000)
        last = self.word("and", self.word("shr", magnitude, 13), 1)
        even = self.word("add", self.word("add", magnitude, 0xFFF - 0x38000000 + (1 << 32)), last)
        even = self.word("shr", even, 13)
        result = self.select(self.word("lt", magnitude, 0x38800000), tiny, even, "uint32")
        for limit, above in ((0x477FEFFF, 0x7C00), (0x7F800000, 0x7E00)):
            beyond = self.word("gt", magnitude, limit)
            result = self.select(beyond, self.constant(above, "uint32"), result, "uint32")
        result = self.word("or", result, self.word("and", self.word("shr", bits, 16), 0x8000))
        half = self._resize_integer(result, "uint32", "uint16")
        return self.bitcast(half, "uint16", "float16")

    def _float32_to_odd(self, operand: str) -> str:
        """A float64 rounded to odd in float32: rounding that to float16 is then the only one.

        LLVM has a library call for float64 to float16 and no instruction before AVX512-FP16.
        """
        single = self._truncated(operand, "float64", "float32")
        back = self.convert(single, "float32", "float64")
        inexact = self.let(f"fcmp one {self.type('float64')} {back}, {operand}")
        sizes = [self.plain("abs", "float64", each) for each in (back, operand)]
        beyond = self.plain("gt", "float64", *sizes)
        bits = self.bitcast(single, "float32", "uint32")
        bits = self.plain("sub", "uint32", bits, self.convert(beyond, "bool", "uint32"))
        bits = self.plain("or", "uint32", bits, self.convert(inexact, "bool", "uint32"))
        return self.bitcast(bits, "uint32", "float32")


def _ordered_choice(compare: str, name: str) -> Callable[[_Block, str, str, str], str]:
    """min or max.

    Compare and choose is one instruction, b if either is NaN: only a NaN in a needs care. Of two
    zeros the second is returned. LLVM takes the two choices for one under two conditions, and does
    not find the instruction any more: it has a name for what is meant, if zeros need not be ordered
    (which takes more instructions on x86). That may return either zero if one of the numbers is
    known, so a constant is compared with.
    """

    def sequence(block: _Block, dtype: str, a: str, b: str) -> str:
        type_ = block.type(dtype)
        if a.startswith("%") and b.startswith("%"):
            function = f"@llvm.{name}.{block.suffix(dtype)}"
            return block.let(f"call nsz {type_} {function}({type_} {a}, {type_} {b})")
        chosen = block.select(block.let(f"fcmp {compare} {type_} {a}, {b}"), a, b, dtype)
        return block.select(block.let(f"fcmp uno {type_} {a}, {a}"), a, chosen, dtype)

    return sequence


def _copysign(block: _Block, dtype: str, a: str, b: str) -> str:
    """Behind a fence, which costs no instruction: LLVM would round the result to a half before it
    has its sign, take the sign from the double that a half was rounded from, and round that double
    by a library function to have both in the same width.
    """
    signed = block.plain("copysign", dtype, a, b)
    if not block.converts_halves:
        return signed
    typed, suffix = block.type(dtype), block.suffix(dtype)
    return block.let(f"call {typed} @llvm.arithmetic.fence.{suffix}({typed} {signed})")


def _shift(opcode: str) -> Callable[[_Block, str, str, str], str]:
    """LLVM leaves shifts by the width or more undefined; amounts are taken modulo the width."""

    def sequence(block: _Block, dtype: str, a: str, b: str) -> str:
        amount = block.plain("and", dtype, b, block.constant(BITS[dtype] - 1, dtype))
        return block.plain(opcode, dtype, a, amount)

    return sequence


def _divide(block: _Block, dtype: str, a: str, b: str) -> tuple[str, str]:
    """Whether b is zero, and the quotient by b without the divisors that trap.

    The least integer divided by -1 wraps to itself, which is what dividing by 1 gives.
    """
    one, zero = block.constant(1, dtype), block.constant(0, dtype)
    is_zero = block.plain("eq", dtype, b, zero)
    traps = is_zero
    if dtype in SIGNED:
        least = block.plain("eq", dtype, a, block.constant(-(1 << BITS[dtype] - 1), dtype))
        minus_one = block.plain("eq", dtype, b, block.constant(-1, dtype))
        overflows = block.plain("and", "bool", least, minus_one)
        traps = block.plain("or", "bool", is_zero, overflows)
    safe = block.select(traps, one, b, dtype)
    if block.lanes == 1 or BITS[dtype] == 64 or not b.startswith("%"):
        return is_zero, block.plain("quotient", dtype, a, safe)
    # No processor divides integers by lanes. The quotient of two integers of n bits, rounded in a
    # float of 2 n bits or more, never reaches the next integer, so truncating it is exact.
    wide = "float64" if BITS[dtype] == 32 else "float32"
    operands = [block.convert(each, dtype, wide) for each in (a, safe)]
    ratio = block.plain("div", wide, *operands)
    verb = "fptosi" if dtype in SIGNED else "fptoui"
    return is_zero, block.let(f"{verb} {block.type(wide)} {ratio} to {block.type(dtype)}")


def _quotient(block: _Block, dtype: str, a: str, b: str) -> str:
    is_zero, quotient = _divide(block, dtype, a, b)
    return block.select(is_zero, block.constant(0, dtype), quotient, dtype)


def _remainder(block: _Block, dtype: str, a: str, b: str) -> str:
    # Times b, not times the divisor that was made safe: LLVM would make one remainder of these, and
    # its code generation does not end where vectors are divided and their remainders taken as well.
    is_zero, quotient = _divide(block, dtype, a, b)
    remainder = block.plain("sub", dtype, a, block.plain("mul", dtype, quotient, b))
    return block.select(is_zero, block.constant(0, dtype), remainder, dtype)


def _high_product(block: _Block, dtype: str, a: str, b: str) -> str:
    """The upper half of a double-width product.

    Vectors of 128-bit integers would be taken apart lane by lane, so 64 bits are multiplied as
    halves of 32, for which there is a vector instruction (Hacker's Delight, 8-2).
    """
    if BITS[dtype] == 64 and block.lanes > 1:
        return _high_product_of_halves(block, dtype, a, b)
    bits = BITS[dtype]
    narrow = block.type(dtype)
    wide = _vector(f"i{2 * bits}", block.lanes)
    extend = "sext" if dtype in SIGNED else "zext"
    operands = [block.let(f"{extend} {narrow} {each} to {wide}") for each in (a, b)]
    product = block.let(f"mul {wide} {operands[0]}, {operands[1]}")
    amount = str(bits) if block.lanes == 1 else f"splat (i{2 * bits} {bits})"
    upper = block.let(f"lshr {wide} {product}, {amount}")
    return block.let(f"trunc {wide} {upper} to {narrow}")


def _high_product_of_halves(block: _Block, dtype: str, a: str, b: str) -> str:
    def word(opcode: str, *operands: str) -> str:
        return block.plain(opcode, "uint64", *operands)

    mask, half = block.constant(0xFFFFFFFF, "uint64"), block.constant(32, "uint64")
    a_low, a_high = word("and", a, mask), word("shr", a, half)
    b_low, b_high = word("and", b, mask), word("shr", b, half)
    low = word("shr", word("mul", a_low, b_low), half)
    middle = word("add", word("mul", a_high, b_low), low)
    other = word("add", word("mul", a_low, b_high), word("and", middle, mask))
    upper = word("add", word("mul", a_high, b_high), word("shr", middle, half))
    upper = word("add", upper, word("shr", other, half))
    if dtype not in SIGNED:
        return upper
    sign = block.constant(63, "int64")
    for first, second in ((a, b), (b, a)):  # a negative factor was taken as itself plus 2**64
        negative = block.plain("shr", "int64", first, sign)
        upper = word("sub", upper, word("and", negative, second))
    return upper


def _complement(block: _Block, dtype: str, a: str) -> str:
    ones = block.constant(True if dtype == "bool" else -1, dtype)
    return block.plain("xor", dtype, a, ones)


def _unchanged(block: _Block, dtype: str, a: str) -> str:
    return a


_Sequence = Callable[..., str]
_SEQUENCES: dict[tuple[str, str], _Sequence] = {
    ("abs", "unsigned"): _unchanged,
    ("min", "float"): _ordered_choice("olt", "minimum"),
    ("max", "float"): _ordered_choice("ogt", "maximum"),
    ("copysign", "float"): _copysign,
    ("not", "bool"): _complement,
}
_INTEGER_SEQUENCES: dict[str, _Sequence] = {
    "not": _complement,
    "shl": _shift("shl"),
    "shr": _shift("shr"),
    "quotient": _quotient,
    "remainder": _remainder,
    "mulhi": _high_product,
}
_SEQUENCES |= {
    (opcode, kind): sequence
    for opcode, sequence in _INTEGER_SEQUENCES.items()
    for kind in ("signed", "unsigned")
}
