"""Does every opcode compute in LLVM, alone and in lanes, what its NumPy function says?"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import math

import numpy as np
import pytest
from scalar_harness import (
    Compiled,
    build_scope,
    compile_functions,
    evaluate,
    function_text,
    same_bits,
)

from graphc.codegen import softfloat
from graphc.codegen.llvm import scalar as llvm_scalar
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import BITS, DTYPES, FLOATS, INTEGERS, OPCODES, SIGNED, Value

LANES = (1, 8)
NUMPY_DTYPES = [dtype for dtype in DTYPES if dtype != "bfloat16"]
STATED = ("const", "index", "load", "result", "parameter", "call", "convert", "bitcast", "select")
STATED += ("lookup",)
METHODS = {name: name + "_" if name in ("and", "or", "not") else name for name in OPCODES}


def edges(dtype: str) -> np.ndarray:
    if dtype == "bool":
        return np.array([False, True])
    if dtype in FLOATS:
        info = np.finfo(dtype)
        positive = [0, info.smallest_subnormal, info.tiny, 0.49999, 0.5, 1, 1.5, 2.5, 127.5, 65504]
        positive += [65519, 2.0**31, 2.0**31 - 1, 2.0**32, 2.0**63, 2.0**64, info.max, np.inf]
        with np.errstate(over="ignore"):
            return np.array([*positive, *[-each for each in positive], np.nan], dtype)
    info = np.iinfo(dtype)
    values = [0, 1, 2, 3, 7, 8, 31, 63, 64, info.max, info.max - 1, info.max // 2, info.min]
    values += [info.min + 1, -1, -2] if info.min else []
    return np.array(values, dtype)


@functools.cache
def samples(dtype: str, arity: int) -> list[np.ndarray]:
    """All combinations of edge values, then random bits, then values of moderate size."""
    rng = np.random.default_rng(arity)
    grid = np.meshgrid(*[edges(dtype)] * arity)
    count = 512
    arrays = []
    for axis in grid:
        if dtype == "bool":
            more = [rng.integers(0, 2, count).astype(bool)]
        else:
            width = BITS[dtype] // 8
            bits = np.frombuffer(rng.bytes(count * width), dtype)
            small = rng.integers(-40 if dtype in (*FLOATS, *SIGNED) else 0, 41, count)
            more = [bits, (small * (0.25 if dtype in FLOATS else 1)).astype(dtype)]
        arrays.append(np.concatenate([axis.reshape(-1), *more]))
    return arrays


def opcodes_over(dtype: str) -> list[str]:
    return [name for name in OPCODES if name not in STATED and dtype in OPCODES[name].domain]


def build(name: str):
    return lambda k, *values: getattr(k, METHODS[name])(*values)


@functools.cache
def compiled(dtype: str) -> Compiled:
    return compile_functions(
        [
            (f"{name}_{lanes}", build(name), [dtype] * OPCODES[name].arity, lanes)
            for name in opcodes_over(dtype)
            for lanes in LANES
        ]
    )


def assert_same(actual: np.ndarray, expected: np.ndarray, *inputs: np.ndarray) -> None:
    wrong = np.flatnonzero(~same_bits(actual, expected))
    report = [
        (*(each[i] for each in inputs), "gave", actual[i], "not", expected[i]) for i in wrong[:5]
    ]
    assert not len(wrong), f"{len(wrong)} differ: {report}"


def one_zero(values: np.ndarray) -> np.ndarray:
    """Without the sign of zeros: which of two zeros `min` and `max` return is not specified."""
    return np.where(values == 0, np.zeros((), values.dtype), values)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_opcode_in_llvm_is_its_numpy_function(dtype):
    for name in opcodes_over(dtype):
        inputs = samples(dtype, OPCODES[name].arity)
        expected = np.asarray(evaluate(build(name), *inputs))
        for lanes in LANES:
            actual = compiled(dtype).call(f"{name}_{lanes}", lanes, expected.dtype.name, *inputs)
            if name in ("min", "max"):
                actual, expected = one_zero(actual), one_zero(expected)
            try:
                assert_same(actual, expected, *inputs)
            except AssertionError as error:
                raise AssertionError(f"{name} {dtype} x {lanes}: {error}") from None


@pytest.mark.parametrize("source", NUMPY_DTYPES)
def test_convert_in_llvm_is_its_numpy_function(source):
    (values,) = samples(source, 1)
    if source == "float64":  # halfway cases of float16, and their neighbours
        ties = np.arange(1, 4096, 2) * 2.0**-25 + 1
        values = np.concatenate([values, ties, np.nextafter(ties, 0), np.nextafter(ties, 2)])
    cases = [(target, lanes) for target in NUMPY_DTYPES for lanes in LANES]
    functions = [
        (f"{target}_{lanes}", lambda k, x, target=target: k.convert(x, target), [source], lanes)
        for target, lanes in cases
    ]
    module = compile_functions(functions)
    for target, lanes in cases:
        with np.errstate(all="ignore"):
            expected = np.asarray(softfloat.convert(values, target))
        assert_same(module.call(f"{target}_{lanes}", lanes, target, values), expected, values)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_select_and_bitcast_in_llvm(dtype):
    a, b = samples(dtype, 2)
    condition = np.resize([True, False, False], len(a))
    same_width = [
        each for each in NUMPY_DTYPES if BITS[each] == BITS[dtype] and each != "bool" != dtype
    ]
    functions = [
        (f"{name}_{lanes}", procedure, dtypes, lanes)
        for lanes in LANES
        for name, procedure, dtypes in (
            ("select", lambda k, c, x, y: k.select(c, x, y), ["bool", dtype, dtype]),
            *((to, lambda k, x, to=to: k.bitcast(x, to), [dtype]) for to in same_width),
        )
    ]
    module = compile_functions(functions)
    for lanes in LANES:
        chosen = module.call(f"select_{lanes}", lanes, dtype, condition, a, b)
        assert_same(chosen, np.where(condition, a, b), a, b)
        for to in same_width:
            assert_same(module.call(f"{to}_{lanes}", lanes, to, a), a.view(to), a)


def test_constants_are_printed_exactly():
    values = {
        "float64": [0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324],
        "float32": [softfloat.round_to(0.1, "float32"), -0.0, math.inf, math.nan, 2.0**-149],
        "float16": [softfloat.round_to(0.1, "float16"), -0.0, math.inf, math.nan, 2.0**-24],
        "int64": [-(2**63), 2**63 - 1, -1],
        "uint64": [2**64 - 1, 2**63],
        "uint8": [255, 0],
        "int8": [-128, 127],
        "bool": [True, False],
    }
    cases = [
        (dtype, number, value, lanes)
        for dtype, each in values.items()
        for number, value in enumerate(each)
        for lanes in LANES
    ]
    module = compile_functions(
        [
            (f"{d}_{number}_{lanes}", lambda k, x, d=d, v=value: k.const(v, d), ["int8"], lanes)
            for d, number, value, lanes in cases
        ]
    )
    for dtype, number, value, lanes in cases:
        got = module.call(f"{dtype}_{number}_{lanes}", lanes, dtype, np.zeros(3, "int8"))
        assert_same(got, np.full(3, value, dtype))


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """The bits of float32 values rounded to nearest even in bfloat16."""
    return np.array(
        [
            0x7FC0 if math.isnan(each) else
            np.float32(softfloat.round_to(each, "bfloat16")).view(np.uint32) >> 16
            for each in values
        ],
        np.uint16,
    )


@pytest.mark.parametrize("lanes", LANES)
def test_bfloat16_rounds_after_every_instruction(lanes):
    a, b = samples("float32", 2)
    a_bits, b_bits = bfloat16_bits(a), bfloat16_bits(b)

    def through(procedure):
        def in_bfloat16(k, *bits):
            return k.bitcast(procedure(k, *(k.bitcast(x, "bfloat16") for x in bits)), "uint16")

        return in_bfloat16

    def narrow(k, x):
        return k.bitcast(k.convert(x, "bfloat16"), "uint16")

    def widen(k, x):
        return k.convert(k.bitcast(x, "bfloat16"), "float32")

    module = compile_functions(
        [
            ("mul", through(lambda k, x, y: k.mul(x, y)), ["uint16"] * 2, lanes),
            ("max", through(lambda k, x, y: k.max(x, y)), ["uint16"] * 2, lanes),
            ("const", through(lambda k, x: k.add(x, 0.1)), ["uint16"], lanes),
            ("narrow", narrow, ["float32"], lanes),
            ("widen", widen, ["uint16"], lanes),
        ]
    )

    def widened(bits):
        return (bits.astype(np.uint32) << 16).view(np.float32)

    with np.errstate(all="ignore"):
        product = widened(a_bits) * widened(b_bits)
        larger = np.maximum(widened(a_bits), widened(b_bits))
        shifted = widened(a_bits) + np.float32(softfloat.round_to(0.1, "bfloat16"))
    for name, expected in (("mul", product), ("max", larger)):
        got = widened(module.call(name, lanes, "uint16", a_bits, b_bits))
        assert_same(one_zero(got), one_zero(widened(bfloat16_bits(expected))), a, b)
    assert_same(
        widened(module.call("const", lanes, "uint16", a_bits)), widened(bfloat16_bits(shifted)), a
    )
    assert_same(widened(module.call("narrow", lanes, "uint16", a)), widened(a_bits), a)
    assert_same(module.call("widen", lanes, "float32", a_bits), widened(a_bits), a)


def test_arrays_of_bfloat16_need_the_extra():
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="ml_dtypes"):
            softfloat.convert(np.zeros(2, np.float32), "bfloat16")
    else:
        assert softfloat.convert(np.float32(1.00390625), "bfloat16") == 1


def _signed_half(k, x, y):
    """copysign of halves, computed in another precision, whose sign was rounded from a double."""
    sign = k.convert(k.convert(k.convert(x, "float64"), "float32"), "float16")
    wide = [k.convert(value, x.dtype) for value in (y, sign)]
    result = k.copysign(k.mul(wide[0], wide[0]), wide[1])
    return k.convert(k.convert(result, "float32"), "float16")


@pytest.mark.parametrize("features", [None, ""], ids=["this processor", "SSE2"])
def test_no_library_symbol_is_called(features):
    """LLVM's own float64 to float16 would be: `__truncdfhf2`; without F16C `__extendhfsf2`."""
    functions = [
        (f"sign_{a}_{lanes}", lambda k, x, y: _signed_half(k, x, y), [a, "float16"], lanes)
        for a in ("float32", "float64")
        for lanes in LANES
    ]
    cases = [(source, target) for source in FLOATS for target in (*FLOATS, *INTEGERS)]
    cases += [(source, target) for source in INTEGERS for target in FLOATS]
    module = compile_functions(
        [
            (f"from_{a}_{b}_{lanes}", lambda k, x, b=b: k.convert(x, b), [a], lanes)
            for a, b in cases
            for lanes in LANES
        ]
        + functions,
        features=features,
    )
    assembly = module.machine.emit_assembly(module.module)
    assert "call" not in assembly.replace(".globl", "")


@pytest.mark.parametrize("lanes", LANES)
def test_float16_without_instructions_for_it(lanes):
    """Every float16, and float32 around every boundary between two of them."""
    half = "float16"
    halves = np.arange(1 << 16, dtype=np.uint16)
    finite = halves.view(np.float16)[np.isfinite(halves.view(np.float16))].astype(np.float64)
    points = np.unique(finite)
    middles = np.concatenate([(points[1:] + points[:-1]) / 2, [65519.9, 65520.0, 1e30, np.inf]])
    near = np.concatenate([middles, -middles, [np.nan]]).astype(np.float32)
    singles = np.concatenate([near, np.nextafter(near, np.float32(0)), near * np.float32(1.0001)])
    module = compile_functions(
        [
            ("widen", lambda k, x: k.convert(k.bitcast(x, half), "float32"), ["uint16"], lanes),
            ("narrow", lambda k, x: k.bitcast(k.convert(x, half), "uint16"), ["float32"], lanes),
        ],
        features="",
    )
    wide = module.call("widen", lanes, "float32", halves)
    assert_same(wide, halves.view(np.float16).astype(np.float32), halves)
    with np.errstate(over="ignore"):
        want = singles.astype(np.float16)
    got = module.call("narrow", lanes, "uint16", singles).view(np.float16)
    assert_same(got, want, singles)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fma_has_one_rounding(dtype):
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("no C mathematics library to compare with")
    library = ctypes.CDLL(name)
    kind = ctypes.c_double if dtype == "float64" else ctypes.c_float
    reference = getattr(library, "fma" if dtype == "float64" else "fmaf")
    reference.restype, reference.argtypes = kind, [kind] * 3
    rng = np.random.default_rng(5)
    a, b, c = samples(dtype, 3)
    near = rng.normal(size=(2, 20000)).astype(dtype)
    cancels = -(near[0] * near[1]) * (1 + rng.integers(-3, 4, 20000) * np.finfo(dtype).eps)
    tiny = np.sqrt(np.finfo(dtype).tiny).astype(dtype)
    least = rng.integers(0, 2**20, 20000) * np.finfo(dtype).smallest_subnormal
    a = np.concatenate([a, near[0], near[0] * tiny])
    b = np.concatenate([b, near[1], near[1] * tiny])
    c = np.concatenate([c, cancels.astype(dtype), least.astype(dtype)])
    expected = np.array(
        [reference(*each) for each in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)], dtype
    )
    assert_same(softfloat.fma(a, b, c), expected, a, b, c)


def test_shift_amounts_wrap_and_division_never_traps():
    """The same facts, as plain numbers."""
    x = np.array([-128, -128, 5, -7, 7], np.int8)
    y = np.array([-1, 0, 0, 2, -2], np.int8)
    names = ("quotient", "remainder", "shl", "shr")
    expected = {
        "quotient": [-128, 0, 0, -3, -3],
        "remainder": [0, 0, 0, -1, 1],
        "shl": [0, -128, 5, -28, -64],
        "shr": [-1, -128, 5, -2, 0],
    }
    for name in names:
        for lanes in LANES:
            got = compiled("int8").call(f"{name}_{lanes}", lanes, "int8", x, y)
            assert got.tolist() == expected[name], name


def test_constant_operands_keep_the_edge_cases():
    """Shift amounts, zero divisors and NaN in the text, where LLVM folds them."""
    x = np.array([5.0, np.nan, -np.inf])
    i = np.array([1, -8, 7], np.int32)
    cases = {
        "min": (lambda k, a: k.min(math.nan, a), x, [math.nan] * 3),
        "max": (lambda k, a: k.max(a, math.nan), x, [math.nan] * 3),
        "relu": (lambda k, a: k.max(a, 0.0), x, [5.0, math.nan, 0.0]),
        "shl": (lambda k, a: k.shl(a, 34), i, [4, -32, 28]),
        "quotient": (lambda k, a: k.quotient(a, 0), i, [0, 0, 0]),
        "remainder": (lambda k, a: k.remainder(a, 3), i, [1, -2, 1]),
    }
    module = compile_functions(
        [
            (f"{name}_{lanes}", procedure, [array.dtype.name], lanes)
            for name, (procedure, array, _) in cases.items()
            for lanes in LANES
        ]
    )
    for name, (procedure, array, expected) in cases.items():
        assert_same(evaluate(procedure, array), np.array(expected, array.dtype))
        for lanes in LANES:
            got = module.call(f"{name}_{lanes}", lanes, array.dtype.name, array)
            assert_same(got, np.array(expected, array.dtype), array)


@pytest.mark.parametrize("permuted", [0, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_looked_up_in_a_table(dtype, permuted):
    """In vectors that are less than a register, one, and several."""
    if permuted > Machine.host().permuted_bytes:
        pytest.skip("the processor does not permute so many bytes")
    table = [0.0, -0.0, math.inf, math.nan, 1 / 3, -1e-40, 5e-324, 2.0**100]
    table += [float(each) for each in range(8)]
    word = f"uint{BITS[dtype]}"

    def build(k, index):
        return k.lookup(index, table, dtype)

    top = 1 << BITS[dtype] - 1
    index = np.array([*range(32), *range(top, top + 16), *range(2 * top - 16, 2 * top)], word)
    expected = np.array(table, dtype)[index % 16]
    assert_same(evaluate(build, index), expected)
    functions = [(f"f{lanes}", build, [word], lanes) for lanes in (1, 4, 8, 16, 64)]
    module = compile_functions(functions, permuted_bytes=permuted)
    for name, _, _, lanes in functions:
        assert_same(module.call(name, lanes, dtype, index), expected, index)


def test_tables_that_differ_in_the_sign_of_a_zero_are_two():
    scope, _ = build_scope(lambda k, x: x, ["uint32"])
    index = Value(scope, "load", (), "uint32", 0)
    first, second = (scope.lookup(index, [zero] * 16, "float32") for zero in (0.0, -0.0))
    assert first is not second
    assert scope.lookup(index, [0.0] * 16, "float32") is first
    for table, dtype in (([0.0] * 15, "float32"), ([0.0] * 16, "float64")):
        with pytest.raises(TypeError, match="lookup"):
            scope.lookup(index, table, dtype)


def test_a_vector_is_printed_as_one_instruction():
    text, declarations = function_text("f", lambda k, x: k.fma(x, x, 2.0), ["float32"], 16)
    assert "call <16 x float> @llvm.fma.v16f32(<16 x float> " in text
    assert declarations == {
        "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)"
    }
    assert llvm_scalar.constant(1.0, "float32", 16) == "splat (float 0x3FF0000000000000)"
