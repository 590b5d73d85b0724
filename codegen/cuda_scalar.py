"""How is each scalar opcode written in CUDA C++?

As one expression over names and literals, from a table by opcode and kind of dtype. Where C++
leaves a case undefined (signed overflow, division by zero or of the least integer, wide shifts,
conversions out of range) the expression calls one of a few small device functions, which the text
of a program holds once. Results have the bits that `OPCODES[name].numpy` gives, up to the payload
of a NaN and to which of two zeros `min` and `max` return, if the text is compiled with -fmad=false.

No header is needed: NVRTC has none by default. A bool is a byte in memory. float16 and bfloat16 are
16 bits in an unsigned short; they compute in float32 and round after every instruction.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.codegen.scalar import BITS, FLOATS, HALVES, INTEGERS, SIGNED

_TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float16": "unsigned short",
    "bfloat16": "unsigned short",
    "float32": "float",
    "float64": "double",
}
_SUFFIXES = {"int64": "LL", "uint32": "u", "uint64": "ULL"}
# Decimal literals are exact for multiples of 1/8 below this; others are written by their bits.
_LARGEST_DECIMAL = 1 << 24
# Unsigned numbers above this are patterns of bits, and written in hexadecimal.
_LARGEST_PLAIN = 1 << 16


@dataclass(frozen=True)
class Helper:
    """A device function of the text, and the helpers that it calls."""

    text: str
    needs: tuple[str, ...] = ()


def cuda_type(dtype: str) -> str:
    """The type of a value in registers."""
    return _TYPES[dtype]


def memory_type(dtype: str) -> str:
    """The type of a value in memory: as in registers, but a bool is a byte, 0 or 1."""
    return _TYPES["uint8" if dtype == "bool" else dtype]


def literal(value: float | int | bool, dtype: str) -> str:
    """A constant that has been rounded to `dtype`, as an operand."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype in HALVES:
        code, shift = ("<e", 0) if dtype == "float16" else ("<f", 16)
        return f"0x{int.from_bytes(struct.pack(code, value), 'little') >> shift:04x}"
    if dtype in FLOATS:
        return _float_literal(float(value), dtype)
    value = int(value)
    if value == -(1 << BITS[dtype] - 1):  # C++ has no negative literals, only a minus
        return f"({value + 1}{_SUFFIXES.get(dtype, '')} - 1)"
    digits = f"0x{value:x}" if dtype.startswith("u") and value > _LARGEST_PLAIN else f"{value}"
    return digits + _SUFFIXES.get(dtype, "")


def _float_literal(value: float, dtype: str) -> str:
    if abs(value) < _LARGEST_DECIMAL and value * 8 == math.floor(value * 8):
        return f"{value!r}f" if dtype == "float32" else f"{value!r}"
    return _bits_literal(value, dtype)


def _bits_literal(value: float, dtype: str) -> str:
    sign = "-" if math.copysign(1, value) < 0 else ""
    if dtype == "float32":
        bits = int.from_bytes(struct.pack("<f", abs(value)), "little")
        return f"{sign}__uint_as_float(0x{bits:08x}u)"
    bits = int.from_bytes(struct.pack("<d", abs(value)), "little")
    return f"{sign}__longlong_as_double(0x{bits:016x}LL)"


def from_memory(text: str, dtype: str) -> str:
    """The value of a loaded element. Any byte but 0 is true."""
    return f"{text} != 0" if dtype == "bool" else text


def instruction(
    opcode: str, operands: Sequence[str], dtypes: Sequence[str], result: str
) -> tuple[str, tuple[str, ...]]:
    """The expression of `opcode`, and the names of the helpers that it calls.

    `operands` are names or literals, of `dtypes`.
    """
    if opcode == "select":
        return "{} ? {} : {}".format(*operands), ()
    dtype = dtypes[0]
    if opcode == "convert":
        return _convert(operands[0], dtype, result)
    if opcode == "bitcast":
        return _bitcast(operands[0], dtype, result), ()
    if dtype in HALVES:
        return _in_float32(opcode, operands, dtypes, result)
    special = _SPECIAL.get((opcode, _kind(dtype)))
    if special is not None:
        return special(dtype, *operands)
    kind = _kind(dtype)
    template = _TEMPLATES.get((opcode, kind)) or _TEMPLATES[opcode, "integer"]
    text = template.format(*operands, f="f" if dtype == "float32" else "")
    narrow = dtype in INTEGERS and BITS[dtype] < 32 and result != "bool"
    return (f"({_TYPES[dtype]})({text})" if narrow else text), ()


def _kind(dtype: str) -> str:
    if dtype in FLOATS:
        return "float"
    if dtype == "bool":
        return "bool"
    return "signed" if dtype in SIGNED else "unsigned"


# (opcode, kind of the operands) -> expression; {f} is the suffix of functions for float32. The kind
# "integer" stands for signed and unsigned.
_TEMPLATES = {
    ("add", "float"): "{0} + {1}",
    ("sub", "float"): "{0} - {1}",
    ("mul", "float"): "{0} * {1}",
    ("abs", "float"): "fabs{f}({0})",
    ("abs", "unsigned"): "{0}",
    ("fma", "float"): "fma{f}({0}, {1}, {2})",
    ("sqrt", "float"): "sqrt{f}({0})",
    ("copysign", "float"): "copysign{f}({0}, {1})",
    ("floor", "float"): "floor{f}({0})",
    ("ceil", "float"): "ceil{f}({0})",
    ("trunc", "float"): "trunc{f}({0})",
    ("rint", "float"): "rint{f}({0})",
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

Expression = tuple[str, tuple[str, ...]]


def _in_float32(
    opcode: str, operands: Sequence[str], dtypes: Sequence[str], result: str
) -> Expression:
    """A 16-bit float computes in float32 and rounds."""
    wide = [_convert(operand, dtypes[0], "float32") for operand in operands]
    text, helpers = instruction(opcode, [w for w, _ in wide], ["float32"] * len(wide), "float32")
    helpers = (*wide[0][1], *helpers)
    if result == "bool":
        return text, helpers
    narrowed, more = _convert(text, "float32", result)
    return narrowed, (*helpers, *more)


def _ordered_choice(sign: str) -> Callable[..., Expression]:
    """min or max of floats: a NaN in either operand is the result; of two zeros the second."""

    def expression(dtype: str, a: str, b: str) -> Expression:
        number = a.lstrip("-")[0].isdigit()
        unordered = "" if number else f" || {a} != {a}"
        return f"{a} {sign} {b}{unordered} ? {a} : {b}", ()

    return expression


def _unsigned_order(opcode: str) -> Callable[..., Expression]:
    """Comparison of unsigned integers: the compiler warns of those with 0 that are known."""
    sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}[opcode]
    known = {("lt", 1): "false", ("ge", 1): "true", ("gt", 0): "false", ("le", 0): "true"}

    def expression(dtype: str, a: str, b: str) -> Expression:
        zero = literal(0, dtype)
        for position, operand in enumerate((a, b)):
            if operand == zero and (opcode, position) in known:
                return known[opcode, position], ()
        return f"{a} {sign} {b}", ()

    return expression


def _unsigned_choice(opcode: str) -> Callable[..., Expression]:
    """min or max of unsigned integers: 0 is never the larger one, and the compiler knows."""
    sign = {"min": "<", "max": ">"}[opcode]

    def expression(dtype: str, a: str, b: str) -> Expression:
        zero = literal(0, dtype)
        if zero in (a, b):
            other = b if a == zero else a
            return (zero if opcode == "min" else other), ()
        return _narrowed(f"{a} {sign} {b} ? {a} : {b}", dtype), ()

    return expression


def _divide_floats(dtype: str, a: str, b: str) -> Expression:
    """The compiler warns of division by a literal zero, so that is written by its bits."""
    if b.rstrip("f") in ("0.0", "-0.0"):
        b = _bits_literal(float(b.rstrip("f")), dtype)
    return f"{a} / {b}", ()


_SIGNS = {"add": "+", "sub": "-", "mul": "*"}
_WRAPPED = {"add": "wrapping_add", "sub": "wrapping_subtract", "mul": "wrapping_multiply"}


def _wrapping(opcode: str) -> Callable[..., Expression]:
    """Integer arithmetic modulo the width: as unsigned, for signed overflow is undefined."""
    sign = _SIGNS[opcode]

    def expression(dtype: str, a: str, b: str) -> Expression:
        if BITS[dtype] < 32:  # computed in int, which holds sums; of products the low bits
            return f"({_TYPES[dtype]})((unsigned){a} {sign} (unsigned){b})", ()
        if dtype not in SIGNED:
            return f"{a} {sign} {b}", ()
        name = f"{_WRAPPED[opcode]} {dtype}"
        return f"{_WRAPPED[opcode]}({a}, {b})", (name,)

    return expression


def _negate_float(dtype: str, a: str) -> Expression:
    return (f"-({a})" if a.startswith("-") else f"-{a}"), ()


def _negate(dtype: str, a: str) -> Expression:
    return _wrapping("sub")(dtype, literal(0, dtype), a)


def _magnitude(dtype: str, a: str) -> Expression:
    negative, helpers = _negate(dtype, a)
    return f"{a} < 0 ? {negative} : {a}", helpers


def _divide(opcode: str) -> Callable[..., Expression]:
    """Division by 0 gives 0; the least integer by -1 wraps to itself."""
    sign = {"quotient": "/", "remainder": "%"}[opcode]

    def expression(dtype: str, a: str, b: str) -> Expression:
        wide = dtype if BITS[dtype] >= 32 else "int32"
        if b.rstrip("uUL").isdigit() and b.rstrip("uUL") != "0":
            return _narrowed(f"{a} {sign} {b}", dtype), ()
        a, b = (each if wide == dtype else f"(int){each}" for each in (a, b))
        return _narrowed(f"{opcode}({a}, {b})", dtype), (f"{opcode} {wide}",)

    return expression


def _narrowed(text: str, dtype: str) -> str:
    return text if BITS[dtype] >= 32 else f"({_TYPES[dtype]})({text})"


def _shift(opcode: str) -> Callable[..., Expression]:
    """Amounts are taken modulo the width; to the left bits are shifted as unsigned."""

    def expression(dtype: str, a: str, b: str) -> Expression:
        bits = BITS[dtype]
        digits = b.rstrip("uUL")
        amount = f"{int(digits) % bits}" if digits.isdigit() else f"({b} & {bits - 1})"
        if opcode == "shr":
            return _narrowed(f"{a} >> {amount}", dtype), ()
        if dtype not in SIGNED and bits >= 32:
            return f"{a} << {amount}", ()
        unsigned = _TYPES["uint64" if bits == 64 else "uint32"]
        return f"({_TYPES[dtype]})(({unsigned}){a} << {amount})", ()

    return expression


_HIGH_PRODUCTS = {
    "int32": "__mulhi",
    "uint32": "__umulhi",
    "int64": "__mul64hi",
    "uint64": "__umul64hi",
}


def _high_product(dtype: str, a: str, b: str) -> Expression:
    return f"{_HIGH_PRODUCTS[dtype]}({a}, {b})", ()


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
    _SPECIAL["mulhi", _kind_of_integer] = _high_product


# -- conversions -----------------------------------------------------------------------------------


def _convert(operand: str, source: str, target: str) -> Expression:
    if source == target:
        return operand, ()
    if source in HALVES:
        wide = f"from_{source}({operand})"
        text, helpers = _convert(wide, "float32", target)
        return text, (f"from_{source}", *helpers)
    if target == "bool":
        return f"{operand} != {literal(0, source)}", ()
    if target in HALVES:
        return _to_half(operand, source, target)
    if source in FLOATS and target in INTEGERS:
        return f"to_{target}({operand})", (f"to_{target} {source}",)
    return f"({_TYPES[target]}){_enclosed(operand)}", ()


def _enclosed(text: str) -> str:
    return text if text.replace("_", "").isalnum() else f"({text})"


def _to_half(operand: str, source: str, target: str) -> Expression:
    """By way of float32. A float64 is rounded to odd there, so that only the last rounding counts.

    bfloat16 is rounded twice, as in ml_dtypes.
    """
    if source == "float64" and target == "float16":
        return f"to_float16(to_odd_float32({operand}))", ("to_odd_float32", "to_float16")
    single, helpers = _convert(operand, source, "float32")
    return f"to_{target}({single})", (*helpers, f"to_{target}")


def _bitcast(operand: str, source: str, target: str) -> str:
    if _TYPES[source] == _TYPES[target]:
        return operand
    if source == "float32":
        return f"__float_as_int({operand})" if target == "int32" else f"__float_as_uint({operand})"
    if target == "float32":
        return f"__int_as_float({operand})" if source == "int32" else f"__uint_as_float({operand})"
    if source == "float64":
        bits = f"__double_as_longlong({operand})"
        return bits if target == "int64" else f"({_TYPES[target]}){bits}"
    if target == "float64":
        bits = operand if source == "int64" else f"(long long){_enclosed(operand)}"
        return f"__longlong_as_double({bits})"
    return f"({_TYPES[target]}){_enclosed(operand)}"


# -- helpers ---------------------------------------------------------------------------------------


def _integer_helpers(dtype: str) -> dict[str, Helper]:
    """Arithmetic on one of the four integer types that C++ computes in."""
    type_ = _TYPES[dtype]
    unsigned = _TYPES[dtype if dtype.startswith("u") else f"u{dtype}"]
    signed = dtype in SIGNED
    head = f"__device__ inline {type_} {{}}({type_} a, {type_} b)"
    found = {}
    if signed:
        for opcode, name in _WRAPPED.items():
            body = f"return ({type_})(({unsigned})a {_SIGNS[opcode]} ({unsigned})b);"
            found[f"{name} {dtype}"] = Helper(f"{head.format(name)} {{ {body} }}")
    least = f" : b == -1 ? ({type_})(0 - ({unsigned})a)" if signed else ""
    found[f"quotient {dtype}"] = Helper(
        f"{head.format('quotient')} {{ return b == 0 ? 0{least} : a / b; }}"
    )
    none = "b == 0 || b == -1" if signed else "b == 0"
    found[f"remainder {dtype}"] = Helper(
        f"{head.format('remainder')} {{ return {none} ? 0 : a % b; }}"
    )
    return found


def _truncation_helper(source: str, target: str) -> Helper:
    """A float truncated, within the limits of an integer; 0 for NaN.

    Hardware gives other values for NaN if either side has 64 bits (PTX ISA, cvt).
    """
    prefix = "float" if source == "float32" else "double"
    wide = target if BITS[target] >= 32 else "int32"
    letters = {"int32": "int", "uint32": "uint", "int64": "ll", "uint64": "ull"}[wide]
    value = f"__{prefix}2{letters}_rz(x)"
    if wide != target:
        signed = target in SIGNED
        least = -(1 << BITS[target] - 1) if signed else 0
        most = (1 << BITS[target] - signed) - 1
        value = f"({_TYPES[target]})min(max({value}, {least}), {most})"
    return Helper(
        f"__device__ inline {_TYPES[target]} to_{target}({_TYPES[source]} x) "
        f"{{ return x != x ? 0 : {value}; }}"
    )


_FROM_FLOAT16 = """\
__device__ inline float from_float16(unsigned short x)
{
    const unsigned magnitude = x & 0x7fffu, sign = (x & 0x8000u) << 16;
    // 2**112 moves the exponent; it is exact for subnormals too.
    const float scaled = __uint_as_float(magnitude << 13) * __uint_as_float(0x77800000u);
    const bool finite = magnitude < 0x7c00u;
    const unsigned bits = finite ? __float_as_uint(scaled) : magnitude << 13 | 0x7f800000u;
    return __uint_as_float(sign | bits);
}"""
_TO_FLOAT16 = """\
__device__ inline unsigned short to_float16(float x)
{
    const unsigned sign = __float_as_uint(x) >> 16 & 0x8000u;
    const unsigned magnitude = __float_as_uint(x) & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
    // Beside 0.5 the last bit of a float is that of a subnormal float16.
    const unsigned tiny = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    const unsigned even = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
    return sign | (magnitude < 0x38800000u ? tiny : even);
}"""
_TO_ODD_FLOAT32 = """\
__device__ inline float to_odd_float32(double x)
{
    const float nearest = (float)x;
    const bool beyond = fabs((double)nearest) > fabs(x), inexact = (double)nearest != x && x == x;
    return __uint_as_float(__float_as_uint(nearest) - (beyond ? 1u : 0u) | (inexact ? 1u : 0u));
}"""
_FROM_BFLOAT16 = """\
__device__ inline float from_bfloat16(unsigned short x)
{
    return __uint_as_float((unsigned)x << 16);
}"""
_TO_BFLOAT16 = """\
__device__ inline unsigned short to_bfloat16(float x)
{
    const unsigned bits = __float_as_uint(x);
    return x != x ? 0x7fc0 : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}"""

HELPERS: dict[str, Helper] = {
    "from_float16": Helper(_FROM_FLOAT16),
    "to_float16": Helper(_TO_FLOAT16),
    "to_odd_float32": Helper(_TO_ODD_FLOAT32),
    "from_bfloat16": Helper(_FROM_BFLOAT16),
    "to_bfloat16": Helper(_TO_BFLOAT16),
} | {
    f"to_{target} {source}": _truncation_helper(source, target)
    for source in ("float32", "float64")
    for target in INTEGERS
}
for _dtype in ("int32", "uint32", "int64", "uint64"):
    HELPERS |= _integer_helpers(_dtype)
