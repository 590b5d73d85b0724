"""How does CUDA C++ spell scalar instructions?  As C does (`clike_scalar`), with its intrinsics.

Results have the bits that `OPCODES[name].numpy` gives, as stated there, if the text is compiled
with -fmad=false. No header is needed: NVRTC has none by default.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from graphc.codegen.clike_scalar import Dialect, Expression, Helper
from graphc.codegen.scalar import BITS, SIGNED

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
# The normal numbers.
_DECIMALS = {
    name: (float(np.finfo(name).tiny), float(np.finfo(name).max)) for name in ("float32", "float64")
}
_FUNCTIONS = {
    "abs": "fabs",
    "fma": "fma",
    "sqrt": "sqrt",
    "copysign": "copysign",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "rint": "rint",
}


def _float_literal(value: float, dtype: str) -> Expression:
    """The shortest decimal that is the float, else its bits."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    least, most = _DECIMALS[dtype]
    if least <= abs(value) <= most:
        kind = np.float32 if dtype == "float32" else np.float64
        text = np.format_float_scientific(kind(value), trim="-", exp_digits=1)
        if kind(float(text)) == value:  # as a compiler that goes by way of a double reads it
            return text + ("f" if dtype == "float32" else ""), ()
    if dtype == "float32":
        bits = int.from_bytes(struct.pack("<f", abs(value)), "little")
        return f"{sign}__uint_as_float(0x{bits:08x}u)", ()
    bits = int.from_bytes(struct.pack("<d", abs(value)), "little")
    return f"{sign}__longlong_as_double(0x{bits:016x}LL)", ()


def _truncation(source: str, target: str) -> str:
    """A function: a float truncated, within the limits of an integer; 0 for NaN.

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
    head = f"__device__ inline {_TYPES[target]} {target}_of_{source}({_TYPES[source]} x)"
    return f"{head}\n{{\n    return x != x ? 0 : {value};\n}}"


def _punning(name: str, result: str, argument: str, intrinsic: str) -> Helper:
    head = f"__device__ inline {_TYPES[result]} {name}({_TYPES[argument]} x)"
    return Helper(f"{head}\n{{\n    return {intrinsic};\n}}")


CUDA = Dialect(
    types=_TYPES,
    suffixes={"int64": "LL", "uint32": "u", "uint64": "ULL"},
    qualifier="__device__ inline",
    array="__device__ const",
    words=("false", "true"),
    functions={
        (opcode, dtype): name + suffix
        for opcode, name in _FUNCTIONS.items()
        for dtype, suffix in (("float32", "f"), ("float64", ""))
    },
    high_products={
        "int32": "__mulhi", "uint32": "__umulhi", "int64": "__mul64hi", "uint64": "__umul64hi",
    },
    float_literal=_float_literal,
    truncation=_truncation,
    own={
        name: _punning(name, result, argument, intrinsic)
        for name, result, argument, intrinsic in (
            ("bits_of_float32", "uint32", "float32", "__float_as_uint(x)"),
            ("float32_of_bits", "float32", "uint32", "__uint_as_float(x)"),
            (
                "bits_of_float64", "uint64", "float64",
                "(unsigned long long)__double_as_longlong(x)",
            ),
            ("float64_of_bits", "float64", "uint64", "__longlong_as_double((long long)x)"),
        )
    },
)  # fmt: skip
