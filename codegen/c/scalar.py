"""How does C99 spell scalar instructions?  As `clike_scalar` says, with functions of its own text.

Nothing calls a library of mathematics. Where the processor has an instruction for a fused
multiply-add or a square root, and the compiler says so by its macros, a built-in function becomes
that instruction. Anywhere else an exact procedure of the text computes the same bits, more slowly:
on x86 `-march=native` (or `-mfma`) is worth a lot. A built-in square root sets errno unless
-fno-math-errno says otherwise, so without that flag the instruction is spelled out, one root at a
time. Rounding to an integer is never left to a built-in function: in code that it takes for cold,
GCC calls the library for it. Signed numbers are shifted to the right as every compiler does it,
with their sign.
"""

from __future__ import annotations

from graphc.codegen.clike_scalar import Dialect, Expression, Helper
from graphc.codegen.scalar import BITS, INTEGERS, SIGNED

_TYPES = (
    {"bool": "_Bool", "float16": "uint16_t", "bfloat16": "uint16_t"}
    | {"float32": "float", "float64": "double"}
    | {name: f"{name}_t" for name in INTEGERS}
)

# What a text begins with, before any function.
FEATURES = """\
#if defined(__FAST_MATH__)
#error "-ffast-math changes the meaning of this file"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "floats must be computed in their own precision (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif
#if !defined(__GNUC__) || defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

/* Every array on the stack: where nothing is said, GCC 12 may load vectors from an address that is
   less aligned than it takes it to be. */
#if defined(__GNUC__)
#define ALIGNED __attribute__((aligned(64)))
#else
#define ALIGNED
#endif

/* What the processor can do: GRAPHC_PORTABLE uses none of it, with the same results. */
#if defined(__GNUC__) && !defined(GRAPHC_PORTABLE)
#if defined(__FMA__) || defined(__FP_FAST_FMA) || defined(__ARM_FEATURE_FMA)
#define HAS_FMA
#endif
/* With errno the built-in square root calls a library for negative numbers. */
#if defined(__NO_MATH_ERRNO__) && (defined(__SSE2__) || defined(__aarch64__))
#define HAS_SQRT
#elif defined(__AVX__)
#define SQRT(type) "vsqrts" type " %1, %1, %0" : "=x" (root) : "x" (x)
#elif defined(__SSE2__)
#define SQRT(type) "sqrts" type " %1, %0" : "=x" (root) : "x" (x)
#elif defined(__aarch64__)
#define SQRT(type) "fsqrt %" type "0, %" type "1" : "=w" (root) : "w" (x)
#endif
#endif"""


def _float_literal(value: float, dtype: str) -> Expression:
    """A finite number in hexadecimal, which is exact; any other by its bits."""
    if value - value == 0:
        mantissa, exponent = value.hex().split("p")
        whole, _, fraction = mantissa.partition(".")
        digits = fraction.rstrip("0")
        text = f"{whole}{'.' if digits else ''}{digits}p{int(exponent)}"
        return (f"{text}f" if dtype == "float32" else text), ()
    sign = "" if value > 0 or value != value else "-"
    exponent, payload = ("0x7f8", "0x7fc") if dtype == "float32" else ("0x7ff", "0x7ff8")
    digits = payload if value != value else exponent
    bits = digits.ljust(BITS[dtype] // 4 + 2, "0") + ("u" if dtype == "float32" else "ULL")
    return f"{sign}{dtype}_of_bits({bits})", (f"{dtype}_of_bits",)


def _truncation(source: str, target: str) -> str:
    """A function: a float truncated, within the limits of an integer; 0 for NaN."""
    type_, bits, signed = _TYPES[target], BITS[target], target in SIGNED
    suffix = "f" if source == "float32" else ""
    most = f"{float(1 << bits - signed)!r}"
    if "e" in most:
        most = f"0x1p{bits - signed}"
    name = target.upper()
    wide = "" if bits >= 32 else "(int32_t)"
    inside = f"({type_}){wide}x"
    if signed:
        small = f"x >= -{most}{suffix} ? {inside} : x == x ? {name}_MIN : 0"
    else:
        small = f"x > 0 ? {inside} : 0"
    head = f"static inline {type_} {target}_of_{source}({_TYPES[source]} x)"
    return f"{head}\n{{\n    return x >= {most}{suffix} ? {name}_MAX : {small};\n}}"


def _punning(float_: str) -> dict[str, Helper]:
    type_, word = _TYPES[float_], _TYPES[f"uint{BITS[float_]}"]
    union = f"union {{ {type_} value; {word} bits; }}"
    return {
        f"bits_of_{float_}": Helper(
            f"static inline {word} bits_of_{float_}({type_} x)\n"
            f"{{\n    const {union} both = {{ .value = x }};\n    return both.bits;\n}}"
        ),
        f"{float_}_of_bits": Helper(
            f"static inline {type_} {float_}_of_bits({word} x)\n"
            f"{{\n    const {union} both = {{ .bits = x }};\n    return both.value;\n}}"
        ),
    }


def _float_helpers(dtype: str) -> dict[str, Helper]:
    """Signs and rounding to an integer."""
    type_, word, bits = _TYPES[dtype], _TYPES[f"uint{BITS[dtype]}"], BITS[dtype]
    f, big = ("f", "0x1p23f") if dtype == "float32" else ("", "0x1p52")
    size = "0x7fffffffu" if bits == 32 else "0x7fffffffffffffffULL"
    to_bits, of_bits = f"bits_of_{dtype}", f"{dtype}_of_bits"
    head = f"static inline {type_} {{}}_{dtype}({type_} x{{}})"
    found = {
        f"abs_{dtype}": Helper(
            f"{head.format('abs', '')}\n{{\n    return {of_bits}({to_bits}(x) & {size});\n}}",
            (to_bits, of_bits),
        ),
        f"copysign_{dtype}": Helper(
            f"{head.format('copysign', f', {type_} sign')}\n{{\n"
            f"    const {word} size = {to_bits}(x) & {size};\n"
            f"    return {of_bits}(size | ({to_bits}(sign) & ~{size}));\n}}",
            (to_bits, of_bits),
        ),
    }
    # An integer is where the last place counts: adding and subtracting 2**52 rounds to one.
    bodies = {
        "rint": (
            f"const {type_} size = abs_{dtype}(x);\n"
            f"    return size < {big} ? copysign_{dtype}((size + {big}) - {big}, x) : x;"
        ),
        "floor": (
            f"const {type_} near = rint_{dtype}(x);\n"
            f"    return near > x ? near - 1.0{f} : near;"
        ),
        "ceil": (
            f"const {type_} near = rint_{dtype}(x);\n"
            f"    return copysign_{dtype}(near < x ? near + 1.0{f} : near, x);"
        ),
        "trunc": f"return copysign_{dtype}(floor_{dtype}(abs_{dtype}(x)), x);",
    }
    needs = (f"abs_{dtype}", f"copysign_{dtype}")
    more = {"floor": ("rint",), "ceil": ("rint",), "trunc": ("floor",)}
    for name, body in bodies.items():
        found[f"{name}_{dtype}"] = Helper(
            f"{head.format(name, '')}\n{{\n    {body}\n}}",
            (*needs, *(f"{each}_{dtype}" for each in more.get(name, ()))),
        )
    return found


_MULHI = {
    "mulhi_int32": Helper("""\
static inline int32_t mulhi_int32(int32_t a, int32_t b)
{
    return (int32_t)((int64_t)a * b >> 32);
}"""),
    "mulhi_uint32": Helper("""\
static inline uint32_t mulhi_uint32(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}"""),
    "mulhi_uint64": Helper("""\
static inline uint64_t mulhi_uint64(uint64_t a, uint64_t b)
{
    const uint64_t a_low = a & 0xffffffffu, a_high = a >> 32;
    const uint64_t b_low = b & 0xffffffffu, b_high = b >> 32;
    const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
    const uint64_t other = a_low * b_high + (middle & 0xffffffffu);
    return a_high * b_high + (middle >> 32) + (other >> 32);
}"""),
    "mulhi_int64": Helper(
        """\
static inline int64_t mulhi_int64(int64_t a, int64_t b)
{
    /* A negative factor was taken as itself plus 2**64. */
    const uint64_t upper = mulhi_uint64((uint64_t)a, (uint64_t)b);
    return (int64_t)(upper - (a < 0 ? (uint64_t)b : 0) - (b < 0 ? (uint64_t)a : 0));
}""",
        ("mulhi_uint64",),
    ),
}

# Where the processor has no instruction, or the compiler does not say so.
_NO_SQRT, _NO_FMA = "!defined(HAS_SQRT) && !defined(SQRT)", "!defined(HAS_FMA)"

_SQRT = {
    "exact_sqrt": Helper(
        """\
/* The square root of a double, digit by digit: 54 bits, the last of which rounds. */
static double exact_sqrt(double x)
{
    uint64_t digits = bits_of_float64(x) & 0xfffffffffffffULL, root = 0, rest = 0;
    int64_t exponent = (int64_t)(bits_of_float64(x) >> 52) - 1075;
    if (x == 0 || x != x || x > 0x1.fffffffffffffp1023) return x;
    if (x < 0) return float64_of_bits(0x7ff8000000000000ULL);
    if (exponent == -1075) exponent = -1074;
    else digits |= 1ULL << 52;
    for (; digits >> 52 == 0; digits <<= 1) --exponent;
    if (exponent & 1) {
        digits <<= 1;
        --exponent;
    }
    for (int k = 52; k >= -54; k -= 2) {
        const uint64_t trial = root << 2 | 1;
        rest = rest << 2 | (k >= 0 ? digits >> k & 3 : 0);
        root <<= 1;
        if (rest >= trial) {
            rest -= trial;
            root |= 1;
        }
    }
    /* root * 2**((exponent - 54) / 2), and the upper bit of 53 adds 1 to the biased exponent */
    const uint64_t biased = (uint64_t)((exponent - 54) / 2 + 1 + 1074);
    return float64_of_bits((biased << 52) + (root >> 1) + (root & 1));
}""",
        ("bits_of_float64", "float64_of_bits"),
    ),
    "sqrt_float64": Helper(
        """\
static inline double sqrt_float64(double x)
{
#if defined(HAS_SQRT)
    return __builtin_sqrt(x);
#elif defined(SQRT)
    double root;
    __asm__(SQRT("d"));
    return root;
#else
    return exact_sqrt(x);
#endif
}""",
        ("exact_sqrt",),
        _NO_SQRT,
    ),
    "sqrt_float32": Helper(
        """\
static inline float sqrt_float32(float x)
{
#if defined(HAS_SQRT)
    return __builtin_sqrtf(x);
#elif defined(SQRT)
    float root;
    __asm__(SQRT("s"));
    return root;
#else
    return (float)exact_sqrt(x);
#endif
}""",
        ("exact_sqrt",),
        _NO_SQRT,
    ),
}

_FMA = {
    "fma_float32": Helper(
        """\
static inline float fma_float32(float x, float y, float z)
{
#ifdef HAS_FMA
    return __builtin_fmaf(x, y, z);
#else
    /* The product is exact in double. The sum is rounded to odd there (Boldo & Melquiond, 2008),
       so that only the last rounding counts. */
    const double product = (double)x * (double)y, sum = product + (double)z, part = sum - product;
    const double error = (product - (sum - part)) + ((double)z - part);
    const uint64_t bits = bits_of_float64(sum);
    const uint64_t inexact = (error < 0 || error > 0) && !(bits & 1);
    return (float)float64_of_bits((error > 0) == (sum > 0) ? bits + inexact : bits - inexact);
#endif
}""",
        ("bits_of_float64", "float64_of_bits"),
        _NO_FMA,
    ),
    "exact_fma": Helper(
        """\
/* A double as an odd or even integer of 53 bits times 2**exponent. */
static uint64_t integer_of_float64(double x, int64_t *exponent)
{
    uint64_t digits = bits_of_float64(x) & 0xfffffffffffffULL;
    const int64_t biased = (int64_t)(bits_of_float64(x) >> 52 & 0x7ff);
    *exponent = biased == 0 ? -1074 : biased - 1075;
    if (biased != 0) return digits | 1ULL << 52;
    for (; digits >> 52 == 0; digits <<= 1) --*exponent;
    return digits;
}

/* An integer of 128 bits divided by 2**count; its last bit is 1 if anything was lost. */
static void shift_right(uint64_t *high, uint64_t *low, int64_t count)
{
    uint64_t lost = 0;
    if (count > 127) count = 127;
    if (count >= 64) {
        lost = *low;
        *low = *high;
        *high = 0;
        count -= 64;
    }
    if (count > 0) {
        lost |= *low << (64 - count);
        *low = *low >> count | *high << (64 - count);
        *high >>= count;
    }
    *low |= lost != 0;
}

/* x * y + z, rounded once: both terms are integers of 128 bits with their highest bit near the top,
   the smaller one shifted to the other's place. */
static double exact_fma(double x, double y, double z)
{
    int64_t x_exponent, y_exponent, z_exponent;
    if (!(x - x == 0 && y - y == 0) || x == 0 || y == 0) return x * y + z;
    if (z - z != 0) return z;
    if (z == 0) return x * y;
    const uint64_t a = integer_of_float64(x, &x_exponent) << 10;
    const uint64_t b = integer_of_float64(y, &y_exponent) << 10;
    uint64_t high = mulhi_uint64(a, b), low = a * b;
    uint64_t other_high = integer_of_float64(z, &z_exponent) << 8, other_low = 0;
    int64_t exponent = x_exponent + y_exponent - 20;
    const int64_t apart = exponent - (z_exponent - 72);
    uint64_t sign = (bits_of_float64(x) ^ bits_of_float64(y)) >> 63;
    const uint64_t other_sign = bits_of_float64(z) >> 63;
    if (apart >= 0) {
        shift_right(&other_high, &other_low, apart);
    } else {
        shift_right(&high, &low, -apart);
        exponent -= apart;
    }
    if (sign == other_sign) {
        low += other_low;
        high += other_high + (low < other_low);
    } else {
        const uint64_t difference = low - other_low;
        high -= other_high + (low < other_low);
        low = difference;
        if (high >> 63) {
            low = 0 - low;
            high = ~high + (low == 0);
            sign = other_sign;
        }
    }
    if ((high | low) == 0) return 0;
    if (high == 0) {
        high = low;
        low = 0;
        exponent -= 64;
    }
    for (int step = 32; step > 0; step /= 2) {
        if (high >> (64 - step) == 0) {
            high = high << step | low >> (64 - step);
            low <<= step;
            exponent -= step;
        }
    }
    /* high * 2**(exponent + 64), of which 53 bits stay, or fewer of a subnormal number */
    int64_t biased = exponent + 75 + 1075;
    if (biased > 2046) return float64_of_bits(sign << 63 | 0x7ff0000000000000ULL);
    if (biased < 1) {
        shift_right(&high, &low, 1 - biased);
        biased = 1;
    }
    high |= low != 0;
    const uint64_t rest = high & 0x7ff, digits = high >> 11;
    const uint64_t rounded = digits + (rest > 0x400 || (rest == 0x400 && (digits & 1)));
    return float64_of_bits(sign << 63 | ((((uint64_t)biased - 1) << 52) + rounded));
}""",
        ("bits_of_float64", "float64_of_bits", "mulhi_uint64"),
    ),
    "fma_float64": Helper(
        """\
static inline double fma_float64(double x, double y, double z)
{
#ifdef HAS_FMA
    return __builtin_fma(x, y, z);
#else
    return exact_fma(x, y, z);
#endif
}""",
        ("exact_fma",),
        _NO_FMA,
    ),
}

_INDEX = {
    name: Helper(
        f"static inline int64_t {name}(int64_t a, int64_t b)\n"
        f"{{\n    return a {sign} b ? a : b;\n}}"
    )
    for name, sign in (("minimum", "<"), ("maximum", ">"))
}

_OPCODES = ("abs", "fma", "sqrt", "copysign", "floor", "ceil", "trunc", "rint")

C = Dialect(
    types=_TYPES,
    suffixes={"int64": "LL", "uint32": "u", "uint64": "ULL"},
    qualifier="static inline",
    array="static const",
    words=("0", "1"),
    functions={
        (opcode, dtype): f"{opcode}_{dtype}"
        for opcode in _OPCODES
        for dtype in ("float32", "float64")
    },
    high_products={name.removeprefix("mulhi_"): name for name in _MULHI},
    float_literal=_float_literal,
    truncation=_truncation,
    own={
        **_punning("float32"),
        **_punning("float64"),
        **_float_helpers("float32"),
        **_float_helpers("float64"),
        **_MULHI,
        **_SQRT,
        **_FMA,
        **_INDEX,
    },
)
