"""How is each scalar opcode written in C and in languages like it?

As one expression over names and literals, from a table by opcode and kind of dtype. Where C leaves
a case undefined (signed overflow, division by zero or of the least integer, wide shifts,
conversions out of range) the expression calls one of a few small functions, which a text holds
once. Results have the bits that `OPCODES[name].numpy` gives, up to the payload of a NaN and to
which of two zeros `min` and `max` return, if the compiler contracts nothing.

What differs between languages is a `Dialect`: the names of types, how a function begins, how bits
become a float, which functions of floats are built in. A bool is a byte in memory. float16 and
bfloat16 are 16 bits in an unsigned integer; they compute in float32 and round after every
instruction.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.codegen.scalar import BITS, FLOATS, HALVES, INTEGERS, SIGNED

# Decimal literals are exact for multiples of 1/8 below this; others are left to the dialect.
LARGEST_DECIMAL = 1 << 24
# Unsigned numbers above this are patterns of bits, and written in hexadecimal.
_LARGEST_PLAIN = 1 << 16

# An expression, and the names of the helpers that it calls.
Expression = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Helper:
    """A function of the text, and the helpers that it calls, if only under a `condition` of the
    preprocessor.
    """

    text: str
    needs: tuple[str, ...] = ()
    condition: str = ""


@dataclass(frozen=True, eq=False)
class Dialect:
    """How one language spells types, literals and what it has built in.

    `functions` gives for an opcode and a float dtype the function of that meaning, `high_products`
    for an integer dtype; names that are in `helpers` are functions of the text. `words` are the two
    values of a bool. `array` begins a constant array. `own` are helpers beside those that every
    dialect has; they hold functions `bits_of_float32`, `float32_of_bits` and the same for float64,
    unless those are built in.
    """

    types: Mapping[str, str]
    suffixes: Mapping[str, str]
    qualifier: str
    array: str
    words: tuple[str, str]
    functions: Mapping[tuple[str, str], str]
    high_products: Mapping[str, str]
    float_literal: Callable[[float, str], Expression]
    truncation: Callable[[str, str], str]
    own: Mapping[str, Helper] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "helpers", {**_shared_helpers(self), **self.own})

    helpers: Mapping[str, Helper] = field(init=False)

    def memory_type(self, dtype: str) -> str:
        """The type of a value in memory: as in registers, but a bool is a byte, 0 or 1."""
        return self.types["uint8" if dtype == "bool" else dtype]

    def literal(self, value: float | int | bool, dtype: str) -> Expression:
        """A constant that has been rounded to `dtype`, as an operand."""
        if dtype == "bool":
            return self.words[bool(value)], ()
        if dtype in HALVES:
            code, shift = ("<e", 0) if dtype == "float16" else ("<f", 16)
            return f"0x{int.from_bytes(struct.pack(code, value), 'little') >> shift:04x}", ()
        if dtype in FLOATS:
            value = float(value)
            if abs(value) < LARGEST_DECIMAL and value * 8 == math.floor(value * 8):
                return (f"{value!r}f" if dtype == "float32" else f"{value!r}"), ()
            return self.float_literal(value, dtype)
        return self._integer_literal(int(value), dtype), ()

    def _integer_literal(self, value: int, dtype: str) -> str:
        suffix = self.suffixes.get(dtype, "")
        if value == -(1 << BITS[dtype] - 1):  # there are no negative literals, only a minus
            return f"({value + 1}{suffix} - 1)"
        digits = f"0x{value:x}" if dtype.startswith("u") and value > _LARGEST_PLAIN else f"{value}"
        return digits + suffix

    def table(self, entries: Sequence[float], dtype: str) -> tuple[str, str]:
        """The name of a constant array, which tells what is in it, and its text.

        The shortest decimal of a float64 is read as it by every compiler, and so is one of a
        float32 written as the double that it is, whether or not it is read by way of a double.
        """
        suffix = "f" if dtype == "float32" else ""
        values = [f"{entry!r}{suffix}" for entry in entries]
        name = f"table_{hashlib.sha256(' '.join(values).encode()).hexdigest()[:16]}"
        lines = [f"    {', '.join(values[i : i + 4])}," for i in range(0, len(values), 4)]
        head = f"{self.array} {self.types[dtype]} {name}[{len(values)}] = {{"
        return name, "\n".join([head, *lines, "};"])

    def instruction(
        self, opcode: str, operands: Sequence[str], dtypes: Sequence[str], result: str
    ) -> Expression:
        """The expression of `opcode`. `operands` are names or literals, of `dtypes`."""
        if opcode == "select":
            return "{} ? {} : {}".format(*operands), ()
        dtype = dtypes[0]
        if opcode == "convert":
            return self._convert(operands[0], dtype, result)
        if opcode == "bitcast":
            return self._bitcast(operands[0], dtype, result)
        if dtype in HALVES:
            return self._in_float32(opcode, operands, dtypes, result)
        if (opcode, dtype) in self.functions:
            return self._called(self.functions[opcode, dtype], operands)
        if opcode == "mulhi":
            return self._called(self.high_products[dtype], operands)
        kind = _kind(dtype)
        if kind != "float" and opcode in _OF_ITSELF and operands[0] == operands[1]:
            return _OF_ITSELF[opcode].format(operands[0]), ()
        special = _SPECIAL.get((opcode, kind))
        if special is not None:
            return special(self, dtype, *operands)
        template = _TEMPLATES.get((opcode, kind)) or _TEMPLATES[opcode, "integer"]
        text = template.format(*operands)
        return (self.narrowed(text, dtype) if result != "bool" else text), ()

    def narrowed(self, text: str, dtype: str) -> str:
        """What was computed in int, in a smaller type."""
        small = dtype in INTEGERS and BITS[dtype] < 32
        return f"({self.types[dtype]})({text})" if small else text

    def _called(self, function: str, operands: Sequence[str]) -> Expression:
        needs = (function,) if function in self.helpers else ()
        return f"{function}({', '.join(operands)})", needs

    def _in_float32(
        self, opcode: str, operands: Sequence[str], dtypes: Sequence[str], result: str
    ) -> Expression:
        """A 16-bit float computes in float32 and rounds."""
        wide = [self._convert(operand, dtypes[0], "float32") for operand in operands]
        singles = ["float32"] * len(wide)
        text, helpers = self.instruction(opcode, [w for w, _ in wide], singles, "float32")
        helpers = (*wide[0][1], *helpers)
        if result == "bool":
            return text, helpers
        narrowed, more = self._convert(text, "float32", result)
        return narrowed, (*helpers, *more)

    # -- conversions -------------------------------------------------------------------------------

    def _convert(self, operand: str, source: str, target: str) -> Expression:
        if source == target:
            return operand, ()
        if source in HALVES:
            wide = f"from_{source}({operand})"
            text, helpers = self._convert(wide, "float32", target)
            return text, (f"from_{source}", *helpers)
        if target == "bool":
            return f"{operand} != {self.literal(0, source)[0]}", ()
        if target in HALVES:
            return self._to_half(operand, source, target)
        if source in FLOATS and target in INTEGERS:
            return self._called(f"{target}_of_{source}", [operand])
        return f"({self.types[target]}){enclosed(operand)}", ()

    def _to_half(self, operand: str, source: str, target: str) -> Expression:
        """By way of float32. A float64 is rounded to odd there: only the last rounding counts.

        bfloat16 is rounded twice, as in ml_dtypes.
        """
        if source == "float64" and target == "float16":
            return f"to_float16(to_odd_float32({operand}))", ("to_odd_float32", "to_float16")
        single, helpers = self._convert(operand, source, "float32")
        return f"to_{target}({single})", (*helpers, f"to_{target}")

    def _bitcast(self, operand: str, source: str, target: str) -> Expression:
        if self.types[source] == self.types[target]:
            return operand, ()
        if source in ("float32", "float64"):
            text, helpers = self._called(f"bits_of_{source}", [operand])
            same = target == f"uint{BITS[source]}"
            return (text if same else f"({self.types[target]}){text}"), helpers
        if target in ("float32", "float64"):
            unsigned = f"uint{BITS[target]}"
            same = source == unsigned
            bits = operand if same else f"({self.types[unsigned]}){enclosed(operand)}"
            return self._called(f"{target}_of_bits", [bits])
        return f"({self.types[target]}){enclosed(operand)}", ()


def enclosed(text: str) -> str:
    """An operand of a cast, or of whatever binds as tightly."""
    return text if text.replace("_", "").isalnum() else f"({text})"


def digits_of(literal: str) -> str:
    """An integer literal without its suffix; any other operand as it is."""
    return literal.rstrip("uUL")


def _kind(dtype: str) -> str:
    if dtype in FLOATS:
        return "float"
    if dtype == "bool":
        return "bool"
    return "signed" if dtype in SIGNED else "unsigned"


# (opcode, kind of the operands) -> expression. The kind "integer" stands for signed and unsigned.
_TEMPLATES = {
    ("add", "float"): "{0} + {1}",
    ("sub", "float"): "{0} - {1}",
    ("mul", "float"): "{0} * {1}",
    ("div", "float"): "{0} / {1}",
    ("abs", "unsigned"): "{0}",
    ("and", "bool"): "{0} && {1}",
    ("or", "bool"): "{0} || {1}",
    ("xor", "bool"): "{0} != {1}",
    ("not", "bool"): "!{0}",
    ("and", "integer"): "{0} & {1}",
    ("or", "integer"): "{0} | {1}",
    ("xor", "integer"): "{0} ^ {1}",
    ("not", "integer"): "~{0}",
    ("min", "integer"): "{0} < {1} ? {0} : {1}",
    ("max", "integer"): "{0} > {1} ? {0} : {1}",
} | {
    (name, kind): f"{{0}} {sign} {{1}}"
    for name, sign in (
        ("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="),
    )
    for kind in ("float", "integer", "bool")
}  # fmt: skip


# Comparisons of a value with itself: compilers warn of those, and of variables that nothing uses.
_OF_ITSELF = dict.fromkeys(("eq", "le", "ge"), "({0} ^ {0}) == 0") | dict.fromkeys(
    ("ne", "lt", "gt"), "({0} ^ {0}) != 0"
)


# -- opcodes that need care ------------------------------------------------------------------------


def _ordered_choice(sign: str) -> Callable[..., Expression]:
    """min or max of floats: a NaN in either operand is the result; of two zeros the second."""

    def expression(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
        number = a.lstrip("-")[0].isdigit()
        unordered = "" if number else f" || {a} != {a}"
        return f"{a} {sign} {b}{unordered} ? {a} : {b}", ()

    return expression


def _unsigned_order(opcode: str) -> Callable[..., Expression]:
    """Comparison of unsigned integers: compilers warn of those with 0 that are known."""
    sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}[opcode]
    known = {("lt", 1): False, ("ge", 1): True, ("gt", 0): False, ("le", 0): True}

    def expression(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
        zero, _ = dialect.literal(0, dtype)
        for position, operand in enumerate((a, b)):
            if operand == zero and (opcode, position) in known:
                return dialect.words[known[opcode, position]], ()
        return f"{a} {sign} {b}", ()

    return expression


def _unsigned_choice(opcode: str) -> Callable[..., Expression]:
    """min or max of unsigned integers: 0 is never the larger one, and the compiler knows."""
    sign = {"min": "<", "max": ">"}[opcode]

    def expression(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
        zero, _ = dialect.literal(0, dtype)
        if zero in (a, b):
            other = b if a == zero else a
            return (zero if opcode == "min" else other), ()
        return dialect.narrowed(f"{a} {sign} {b} ? {a} : {b}", dtype), ()

    return expression


def _divide_floats(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
    """Compilers warn of division by a literal zero, so that is written by its bits."""
    if b.rstrip("f") not in ("0.0", "-0.0"):
        return f"{a} / {b}", ()
    zero, helpers = dialect.float_literal(float(b.rstrip("f")), dtype)
    return f"{a} / {zero}", helpers


_SIGNS = {"add": "+", "sub": "-", "mul": "*"}
_WRAPPED = {"add": "wrapping_add", "sub": "wrapping_subtract", "mul": "wrapping_multiply"}


def _wrapping(opcode: str) -> Callable[..., Expression]:
    """Integer arithmetic modulo the width: as unsigned, for signed overflow is undefined."""
    sign = _SIGNS[opcode]

    def expression(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
        if BITS[dtype] < 32:  # computed in unsigned int, of which the low bits are kept
            wide = dialect.types["uint32"]
            return f"({dialect.types[dtype]})(({wide}){a} {sign} ({wide}){b})", ()
        if dtype not in SIGNED:
            return f"{a} {sign} {b}", ()
        return dialect._called(f"{_WRAPPED[opcode]}_{dtype}", [a, b])

    return expression


def _negate_float(dialect: Dialect, dtype: str, a: str) -> Expression:
    return (f"-({a})" if a.startswith("-") else f"-{a}"), ()


def _negate(dialect: Dialect, dtype: str, a: str) -> Expression:
    return _wrapping("sub")(dialect, dtype, dialect.literal(0, dtype)[0], a)


def _magnitude(dialect: Dialect, dtype: str, a: str) -> Expression:
    negative, helpers = _negate(dialect, dtype, a)
    return f"{a} < 0 ? {negative} : {a}", helpers


def _divide(opcode: str) -> Callable[..., Expression]:
    """Division by 0 gives 0; the least integer by -1 wraps to itself."""
    sign = {"quotient": "/", "remainder": "%"}[opcode]

    def expression(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
        if digits_of(b).isdigit() and digits_of(b) != "0":
            return dialect.narrowed(f"{a} {sign} {b}", dtype), ()
        wide = dtype if BITS[dtype] >= 32 else "int32"
        a, b = (each if wide == dtype else f"({dialect.types[wide]}){each}" for each in (a, b))
        text, helpers = dialect._called(f"{opcode}_{wide}", [a, b])
        return dialect.narrowed(text, dtype), helpers

    return expression


def _shift(opcode: str) -> Callable[..., Expression]:
    """Amounts are taken modulo the width; to the left bits are shifted as unsigned."""

    def expression(dialect: Dialect, dtype: str, a: str, b: str) -> Expression:
        bits = BITS[dtype]
        digits = digits_of(b)
        amount = f"{int(digits) % bits}" if digits.isdigit() else f"({b} & {bits - 1})"
        if opcode == "shr":
            return dialect.narrowed(f"{a} >> {amount}", dtype), ()
        if dtype not in SIGNED and bits >= 32:
            return f"{a} << {amount}", ()
        unsigned = dialect.types["uint64" if bits == 64 else "uint32"]
        return f"({dialect.types[dtype]})(({unsigned}){a} << {amount})", ()

    return expression


_SPECIAL: dict[tuple[str, str], Callable[..., Expression]] = {
    ("min", "float"): _ordered_choice("<"),
    ("max", "float"): _ordered_choice(">"),
    ("div", "float"): _divide_floats,
    ("neg", "float"): _negate_float,
    ("neg", "signed"): _negate,
    ("neg", "unsigned"): _negate,
    ("abs", "signed"): _magnitude,
    ("min", "unsigned"): _unsigned_choice("min"),
    ("max", "unsigned"): _unsigned_choice("max"),
    **{(name, "unsigned"): _unsigned_order(name) for name in ("lt", "le", "gt", "ge")},
}
for _kind_of_integer in ("signed", "unsigned"):
    _SPECIAL |= {(name, _kind_of_integer): _wrapping(name) for name in _SIGNS}
    _SPECIAL |= {(name, _kind_of_integer): _divide(name) for name in ("quotient", "remainder")}
    _SPECIAL |= {(name, _kind_of_integer): _shift(name) for name in ("shl", "shr")}


# -- helpers ---------------------------------------------------------------------------------------


def _shared_helpers(dialect: Dialect) -> dict[str, Helper]:
    """The functions that every dialect has, in its words."""
    found = {
        f"{target}_of_{source}": Helper(dialect.truncation(source, target))
        for source in ("float32", "float64")
        for target in INTEGERS
    }
    for dtype in ("int32", "uint32", "int64", "uint64"):
        found |= _integer_helpers(dialect, dtype)
    punning = tuple(name for name in ("bits_of_float32", "float32_of_bits") if name in dialect.own)
    for name, text in _HALF_HELPERS.items():
        found[name] = Helper(text.format(q=dialect.qualifier, **dialect.types), punning)
    return found


def _integer_helpers(dialect: Dialect, dtype: str) -> dict[str, Helper]:
    """Arithmetic on one of the four integer types that C computes in."""
    type_ = dialect.types[dtype]
    unsigned = dialect.types[dtype if dtype.startswith("u") else f"u{dtype}"]
    signed = dtype in SIGNED
    found = {}

    def define(name: str, body: str) -> None:
        head = f"{dialect.qualifier} {type_} {name}_{dtype}({type_} a, {type_} b)"
        found[f"{name}_{dtype}"] = Helper(f"{head}\n{{\n    return {body};\n}}")

    if signed:
        for opcode, name in _WRAPPED.items():
            define(name, f"({type_})(({unsigned})a {_SIGNS[opcode]} ({unsigned})b)")
    least = f" : b == -1 ? ({type_})(0 - ({unsigned})a)" if signed else ""
    define("quotient", f"b == 0 ? 0{least} : a / b")
    define("remainder", f"{'b == 0 || b == -1' if signed else 'b == 0'} ? 0 : a % b")
    return found


# Conversions of 16-bit floats.
_HALF_HELPERS = {
    "from_float16": """\
{q} {float32} from_float16({float16} x)
{{
    const {uint32} magnitude = x & 0x7fffu, sign = (x & 0x8000u) << 16;
    /* 2**112 moves the exponent; it is exact for subnormals too. */
    const {float32} scaled = float32_of_bits(magnitude << 13) * float32_of_bits(0x77800000u);
    const {uint32} infinite = magnitude << 13 | 0x7f800000u;
    return float32_of_bits(sign | (magnitude < 0x7c00u ? bits_of_float32(scaled) : infinite));
}}""",
    "to_float16": """\
{q} {float16} to_float16({float32} x)
{{
    const {uint32} sign = bits_of_float32(x) >> 16 & 0x8000u;
    const {uint32} magnitude = bits_of_float32(x) & 0x7fffffffu;
    /* Beside 0.5 the last bit of a float is that of a subnormal float16. */
    const {uint32} tiny = bits_of_float32(float32_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    const {uint32} even = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
    const {uint32} finite = magnitude < 0x38800000u ? tiny : even;
    const {uint32} beyond = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    return ({float16})(sign | (magnitude < 0x477ff000u ? finite : beyond));
}}""",
    "to_odd_float32": """\
{q} {float32} to_odd_float32({float64} x)
{{
    const {float32} nearest = ({float32})x;
    const {float64} back = ({float64})nearest;
    const {uint32} beyond = (back < 0 ? -back : back) > (x < 0 ? -x : x);
    const {uint32} inexact = back != x && x == x;
    return float32_of_bits((bits_of_float32(nearest) - beyond) | inexact);
}}""",
    "from_bfloat16": """\
{q} {float32} from_bfloat16({bfloat16} x)
{{
    return float32_of_bits(({uint32})x << 16);
}}""",
    "to_bfloat16": """\
{q} {bfloat16} to_bfloat16({float32} x)
{{
    const {uint32} bits = bits_of_float32(x);
    const {uint32} rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return ({bfloat16})(x != x ? 0x7fc0u : rounded);
}}""",
}  # fmt: skip
