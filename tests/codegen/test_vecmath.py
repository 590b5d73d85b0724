"""How far are the mathematical procedures from exact, and where did their numbers come from?

The exact results are mpmath's, or for many float32 arguments the procedure's own in float64, which
is compared with mpmath; `test_every_pattern.py` takes all of them. LLVM, in lanes and alone, must
agree with the NumPy evaluation of the same instructions to the last bit, so errors are measured
once.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from scalar_harness import Compiled, build_scope, compile_functions, evaluate, same_bits
from vecmath_fits import DTYPES, PRECISION, in_parts, rounded, tables
from vecmath_reference import (
    BINARY,
    REFERENCES,
    arguments,
    errors_in_ulp,
    exact_pairs,
    exact_values,
    pairs,
    procedure_of,
    random_bits,
)

import graphc as gx
from graphc.codegen.machine import PRESETS, Machine
from graphc.codegen.rare import rarely_needed
from graphc.codegen.vecmath import parts as vecmath_parts
from graphc.codegen.vecmath import tables as vecmath_tables
from graphc.codegen.vecmath import trig as vecmath_trig
from graphc.codegen.vecmath.procedures import PROCEDURES

LANES = {"float64": 8, "float32": 16}
UNARY = list(REFERENCES)
EVERY = [*UNARY, *BINARY]
TABLED = ["erf", "log", "log2", "log10", "tanh"]  # others, in float32, where lookups are cheap


def procedure(name: str):
    return PROCEDURES[name] if name in BINARY else procedure_of(name)


def inputs_for(name: str, dtype: str, count: int, seed: int) -> tuple[np.ndarray, ...]:
    return (
        pairs(name, dtype, count, seed)
        if name in BINARY
        else (arguments(name, dtype, count, seed),)
    )


def errors_of(name: str, actual: np.ndarray, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    if name in BINARY:
        return errors_in_ulp(actual, exact_pairs(name, *inputs))
    return errors_in_ulp(actual, exact_values(name, *inputs), *inputs, name)


def assert_within(name: str, actual: np.ndarray, inputs: tuple[np.ndarray, ...]):
    errors = errors_of(name, actual, inputs)
    bound = 1.0 if name in BINARY else REFERENCES[name].bound_in(actual.dtype.name)
    worst = int(np.argmax(errors))
    where = [float(each[worst]).hex() for each in inputs]
    assert errors[worst] <= bound, f"{errors[worst]:.3f} ulp at {where}"


@functools.cache
def compiled(name: str, dtype: str, features: str | None = None) -> Compiled:
    count = 2 if name in BINARY else 1
    return compile_functions(
        [
            (f"{name}_{lanes}", procedure(name), [dtype] * count, lanes)
            for lanes in (1, LANES[dtype])
        ],
        features=features,
    )


def run(name: str, dtype: str, *inputs: np.ndarray) -> np.ndarray:
    """Native code, in lanes."""
    return compiled(name, dtype).call(f"{name}_{LANES[dtype]}", LANES[dtype], dtype, *inputs)


@pytest.fixture(autouse=True)
def _precision():
    with mpmath.workprec(160):
        yield


def test_every_procedure_has_a_reference():
    known = {reference.procedure or name for name, reference in REFERENCES.items()}
    assert known | set(BINARY) == set(PROCEDURES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY)
def test_error_in_ulp(name, dtype):
    count = 100 if name in BINARY or not REFERENCES[name].slow else 25
    inputs = inputs_for(name, dtype, count, seed=1)
    assert_within(name, evaluate(procedure(name), *inputs), inputs)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY)
def test_error_in_ulp_on_many_arguments(name, dtype):
    inputs = inputs_for(name, dtype, 5000, seed=4)
    assert_within(name, run(name, dtype, *inputs), inputs)


def float32_errors(name: str, x: np.ndarray) -> float:
    """The largest error of a procedure in float32, against itself in float64; NaN and infinities
    must be the same.
    """
    reference = REFERENCES[name]
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        exact = run(name, "float64", wide)
        rounded_once = exact.astype(np.float32)
        size = np.abs(rounded_once)
        size = np.where(x < reference.floor_below, np.maximum(size, reference.floor), size)
        last = np.spacing(np.minimum(size, np.finfo(np.float32).max).astype(np.float32))
        actual = run(name, "float32", x)
        inside = np.isfinite(rounded_once) & np.isfinite(exact)
        errors = np.abs(actual.astype(np.float64) - exact) / last
    assert same_bits(actual[~inside], rounded_once[~inside]).all()
    return float(errors[inside].max(initial=0.0))


@pytest.mark.parametrize("name", UNARY)
def test_float32_over_all_exponents(name):
    """2**16 patterns evenly spread over all of float32."""
    x = (np.arange(0, 2**32, 2**16, dtype=np.uint32) + np.uint32(0xAF1B)).view(np.float32)
    bound = REFERENCES[name].bound_in("float32") + 0.01  # the reference's own error
    assert float32_errors(name, x) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY)
def test_llvm_and_numpy_agree_to_the_last_bit(name, dtype):
    rng = np.random.default_rng(6)
    inputs = [
        np.concatenate([part, random_bits(dtype, 1000, rng)])
        for part in inputs_for(name, dtype, 150, seed=7)
    ]
    expected = evaluate(procedure(name), *inputs)
    for lanes in (1, LANES[dtype]):
        actual = compiled(name, dtype).call(f"{name}_{lanes}", lanes, dtype, *inputs)
        wrong = np.flatnonzero(~same_bits(actual, expected))
        assert not len(wrong), [each[wrong[:3]] for each in inputs]


def by_lookups(name: str):
    """A procedure as it is where lookups are cheap."""

    def build(k, *values):
        k.tables = True
        return procedure(name)(k, *values)

    return build


def instructions(scope):
    return [(value.opcode, repr(value.immediate)) for value in scope.statements]


def test_which_procedures_look_numbers_up():
    for name in EVERY:
        for dtype in DTYPES:
            dtypes = [dtype] * (2 if name in BINARY else 1)
            plain, tabled = (build_scope(b, dtypes)[0] for b in (procedure(name), by_lookups(name)))
            is_other = instructions(plain) != instructions(tabled)
            assert is_other == (name in TABLED and dtype == "float32"), name
            looks_up = any(s.opcode == "lookup" for s in plain.statements)
            assert looks_up == (name == "pow" and dtype == "float32"), name


@pytest.mark.parametrize("name", TABLED)
def test_what_looks_numbers_up_is_the_same_function(name):
    """Within its bound, with its special values, and the same bits in lanes of any number."""
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, 3e38], np.float32)
    rng = np.random.default_rng(3)
    x = arguments(name, "float32", 150, seed=8)
    got = evaluate(by_lookups(name), x)
    assert_within(name, got, (x,))
    every = np.concatenate([x, special, random_bits("float32", 1000, rng)])
    expected = evaluate(by_lookups(name), every)
    plain = evaluate(procedure(name), special)
    assert same_bits(expected[len(x) :][: len(special)], plain).all()
    for permuted in {0, Machine.host().permuted_bytes}:
        module = compile_functions(
            [(f"f{lanes}", by_lookups(name), ["float32"], lanes) for lanes in (1, 4, 32)],
            permuted_bytes=permuted,
        )
        for lanes in (1, 4, 32):
            assert same_bits(module.call(f"f{lanes}", lanes, "float32", every), expected).all()


def test_lookups_are_for_registers_of_sixteen_floats():
    """A register of AVX2 holds half a table: two permutations and a choice cost six additions."""
    assert [name for name, machine in PRESETS.items() if machine.has_tables] == ["avx512"]


@pytest.mark.parametrize("has_tables", [False, True])
def test_kernels_look_numbers_up_where_that_is_cheap(monkeypatch, has_tables):
    monkeypatch.setattr(Machine, "has_tables", has_tables)
    x = gx.vector("x", 100, "float32")
    y = gx.erf(x) + gx.log(x)
    options = gx.Options(cache=False, threads=1)
    text = gx.compile([x], y, options=options).llvm_ir
    assert ("permps" in text or "gather" in text or "permvar" in text) == has_tables
    given = np.linspace(0.1, 3, 100, dtype=np.float32)
    native, interpreted = (
        gx.compile([x], y, options=options, target=target)(given) for target in ("cpu", "interpret")
    )
    np.testing.assert_array_equal(native, interpreted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sigmoid", "sigmoid_tail", "silu"])
def test_sigmoids_where_they_are_hardly_normal_numbers(name, dtype):
    """Where 1 is nothing beside the exponential, results are made in another way, rounded once."""
    low, high = (700, 760) if dtype == "float64" else (80, 112)
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.uniform(low, high, 300), [87.0, 708.0, 709.0, 88.0]]).astype(dtype)
    x = np.concatenate([x, -x])
    expected = evaluate(procedure(name), x)
    assert_within(name, expected, (x,))
    lanes = LANES[dtype]
    for branch in (False, True):
        module = compile_functions([("f", procedure(name), [dtype], lanes)], branch=branch)
        assert same_bits(module.call("f", lanes, dtype, x), expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "sin", "sinh", "cbrt", "atanh", "atan2", "gamma", "pow"])
def test_the_bits_do_not_depend_on_the_instruction_set(name, dtype):
    """AVX2 has no conversions or comparisons of unsigned 64-bit integers; LLVM builds them."""
    available = llvm.get_host_cpu_features()
    if not all(available.get(each) for each in ("avx2", "fma", "f16c")):
        pytest.skip("needs a processor with AVX2 and FMA")
    lanes = LANES[dtype]
    inputs = inputs_for(name, dtype, 200, 10)
    expected = run(name, dtype, *inputs)
    smaller = compiled(name, dtype, "+avx2,+fma,+f16c")
    assert same_bits(smaller.call(f"{name}_{lanes}", lanes, dtype, *inputs), expected).all()


INFINITY, NAN = math.inf, math.nan
SPECIAL = {
    "exp": [(0.0, 1), (-0.0, 1), (INFINITY, INFINITY), (-INFINITY, 0)],
    "exp2": [(0.0, 1), (-0.0, 1), (INFINITY, INFINITY), (-INFINITY, 0), (10.0, 1024), (-1.0, 0.5)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -1), (1e-44, 1e-44)],
    "log": [(1.0, 0.0), (0.0, -INFINITY), (-0.0, -INFINITY), (-1.0, NAN), (INFINITY, INFINITY)],
    "log2": [
        (1.0, 0.0), (0.0, -INFINITY), (-0.0, -INFINITY), (-1.0, NAN),
        (INFINITY, INFINITY), (1024.0, 10),
    ],
    "log1p": [
        (0.0, 0.0), (-0.0, -0.0), (-1.0, -INFINITY), (-1.5, NAN),
        (INFINITY, INFINITY), (1e-44, 1e-44),
    ],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, 1), (-INFINITY, -1), (1e-44, 1e-44)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INFINITY, 1), (-INFINITY, 0)],
    "sigmoid_tail": [(0.0, 0.5), (-0.0, 0.5), (INFINITY, 0), (-INFINITY, 0)],
    "silu": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -0.0), (-800.0, -0.0)],
    "mish": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -0.0), (-800.0, -0.0)],
    "gelu": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -0.0), (-40.0, -0.0)],
    "ndtr": [(0.0, 0.5), (-0.0, 0.5), (INFINITY, 1), (-INFINITY, 0.0), (-40.0, 0.0)],
    "normal_density": [(INFINITY, 0.0), (-INFINITY, 0.0), (40.0, 0.0)],
    "softplus": [(INFINITY, INFINITY), (-INFINITY, 0), (1e30, 1e30)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, NAN), (-INFINITY, NAN), (1e-44, 1e-44)],
    "cos": [(0.0, 1), (-0.0, 1), (INFINITY, NAN), (-INFINITY, NAN)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, 1), (-INFINITY, -1)],
    "sinh": [
        (0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -INFINITY), (1e-44, 1e-44),
    ],
    "cosh": [(0.0, 1), (-0.0, 1), (INFINITY, INFINITY), (-INFINITY, INFINITY)],
    "log10": [
        (1.0, 0.0), (0.0, -INFINITY), (-0.0, -INFINITY), (-1.0, NAN),
        (INFINITY, INFINITY), (1000.0, 3),
    ],
    "logit": [
        (0.0, -INFINITY), (-0.0, -INFINITY), (1.0, INFINITY), (0.5, 0.0), (-1e-44, NAN),
        (1.5, NAN), (INFINITY, NAN), (-INFINITY, NAN),
    ],
    "asinh": [
        (0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -INFINITY), (1e-44, 1e-44),
    ],
    "acosh": [(1.0, 0.0), (0.5, NAN), (-3.0, NAN), (INFINITY, INFINITY), (-INFINITY, NAN)],
    "atanh": [
        (0.0, 0.0), (-0.0, -0.0), (1.0, INFINITY), (-1.0, -INFINITY), (1.5, NAN),
        (INFINITY, NAN), (1e-44, 1e-44),
    ],
    "cbrt": [
        (0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -INFINITY), (27.0, 3),
        (-0.125, -0.5),
    ],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, NAN), (-INFINITY, NAN), (1e-44, 1e-44)],
    "sinc": [(0.0, 1), (-0.0, 1), (1e-44, 1), (INFINITY, NAN), (-INFINITY, NAN), (1e38, 0.0)],
    "asin": [
        (0.0, 0.0), (-0.0, -0.0), (1.0, math.pi / 2), (-1.0, -math.pi / 2), (1.5, NAN),
        (INFINITY, NAN), (1e-44, 1e-44),
    ],
    "acos": [
        (1.0, 0.0), (0.0, math.pi / 2), (-1.0, math.pi), (1.5, NAN), (-INFINITY, NAN),
    ],
    "atan": [
        (0.0, 0.0), (-0.0, -0.0), (INFINITY, math.pi / 2), (-INFINITY, -math.pi / 2),
        (1e-44, 1e-44),
    ],
    "erfc": [(0.0, 1), (-0.0, 1), (INFINITY, 0.0), (-INFINITY, 2), (30.0, 0.0)],
    "erfinv": [
        (0.0, 0.0), (-0.0, -0.0), (1.0, INFINITY), (-1.0, -INFINITY), (1.5, NAN), (INFINITY, NAN),
    ],
    "erfcinv": [
        (1.0, 0.0), (0.0, INFINITY), (-0.0, INFINITY), (2.0, -INFINITY), (2.5, NAN), (-0.5, NAN),
        (INFINITY, NAN),
    ],
    "lgamma": [
        (1.0, 0.0), (2.0, 0.0), (0.0, INFINITY), (-0.0, INFINITY), (-3.0, INFINITY),
        (INFINITY, INFINITY), (-INFINITY, INFINITY),
    ],
    "gamma": [
        (1.0, 1), (5.0, 24), (0.0, INFINITY), (-0.0, -INFINITY), (-3.0, NAN),
        (INFINITY, INFINITY), (-INFINITY, NAN), (-200.5, -0.0), (-201.5, 0.0),
    ],
    "digamma": [
        (0.0, -INFINITY), (-0.0, INFINITY), (-2.0, NAN), (INFINITY, INFINITY), (-INFINITY, NAN),
    ],
    "trigamma": [(0.0, INFINITY), (-0.0, INFINITY), (-2.0, INFINITY), (INFINITY, 0.0)],
    "polygamma4": [(0.0, -INFINITY), (-0.0, -INFINITY), (-2.0, NAN), (INFINITY, -0.0)],
    "i0": [(0.0, 1), (-0.0, 1), (INFINITY, INFINITY), (-INFINITY, INFINITY)],
    "i1": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, INFINITY), (-INFINITY, -INFINITY)],
    "i0e": [(0.0, 1), (-0.0, 1), (INFINITY, 0.0), (-INFINITY, 0.0)],
    "i1e": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, 0.0), (-INFINITY, -0.0)],
    "j0": [(0.0, 1), (-0.0, 1), (INFINITY, 0.0), (-INFINITY, 0.0)],
    "j1": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, 0.0), (-INFINITY, -0.0)],
    **dict.fromkeys(
        ("y0", "y1"),
        [(0.0, -INFINITY), (-0.0, -INFINITY), (INFINITY, 0.0), (-1.0, NAN), (-INFINITY, NAN)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, dtype):
    table = [*SPECIAL[name], (NAN, NAN)]
    x, expected = (np.array(each, dtype) for each in zip(*table, strict=True))
    actual = evaluate(procedure(name), x)
    wrong = ~same_bits(actual, expected)
    assert not wrong.any(), (x[wrong], actual[wrong], expected[wrong])


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_atan2(dtype):
    """Against NumPy, whose atan2 is the C library's; the signs of zero included."""
    values = [0.0, 1e-44, 0.5, 1.0, 3.0, 1e30, INFINITY]
    y, x = np.array(np.meshgrid(*[np.array([*values, *(-v for v in values), NAN], dtype)] * 2))
    y, x = y.ravel(), x.ravel()
    expected, actual = np.arctan2(y, x), evaluate(PROCEDURES["atan2"], y, x)
    np.testing.assert_allclose(actual, expected, rtol=2 * np.finfo(dtype).eps)
    assert (np.signbit(actual) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_pow(dtype):
    """Against NumPy, whose pow is the C library's; the signs of zero and infinity included."""
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 2.0**24 + 2, 1e30, INFINITY]
    x, y = np.array(np.meshgrid(*[np.array([*values, *(-v for v in values), NAN], dtype)] * 2))
    x, y = x.ravel(), y.ravel()
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    actual = evaluate(PROCEDURES["pow"], x, y)
    edge = ~np.isfinite(expected) | np.isin(expected, (0, 1, -1))
    assert same_bits(actual[edge], expected[edge]).all()
    np.testing.assert_allclose(actual[~edge], expected[~edge], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [3, 4, 7, 10, 13, 16])
def test_known_whole_powers(exponent, dtype):
    """Products in two parts: within 0.76 ulp, subnormal powers included, and nearly exact above.

    Held to the same power in more digits; what overflows, and signs of zeros, to NumPy's.
    """
    generator = np.random.default_rng(exponent)
    most = np.log10(float(np.finfo(dtype).max)) / exponent
    sizes = 10 ** generator.uniform(-1.3 * most, 1.1 * most, 3000)
    edges = [0.0, np.inf, np.nan, 1.0, 0.5, np.finfo(dtype).tiny, np.finfo(dtype).max]
    x = np.concatenate([sizes, edges, generator.normal(size=500)]).astype(dtype)
    x = np.concatenate([x, -x])
    node = gx.symbol("x", x.shape, dtype)
    options = gx.Options(cache=False, threads=1)
    got = gx.compile([node], node ** float(exponent), options=options)(x)
    with np.errstate(all="ignore"):
        near = np.power(x, x.dtype.type(exponent))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(near))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(near))
    known = ~np.isnan(near)  # the sign of a NaN means nothing
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(near[known]))
    worst = {False: 0.0, True: 0.0}
    for value, power, about in zip(x, got, near, strict=True):
        if np.isfinite(about):
            with mpmath.workprec(400):
                truth = mpmath.mpf(float(value)) ** exponent
                off = abs(truth - mpmath.mpf(float(power))) / float(np.spacing(abs(about)))
            small = bool(abs(about) < 2 * np.finfo(dtype).tiny)
            worst[small] = max(worst[small], float(off))
    assert worst[False] <= 0.51 and worst[True] <= 0.76


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_powers_of_two(dtype):
    info = np.finfo(dtype)
    n = np.arange(info.minexp - info.nmant, info.maxexp, dtype=dtype)
    powers = np.ldexp(np.ones_like(n), n.astype(int))
    assert np.array_equal(evaluate(PROCEDURES["exp2"], n), powers)
    assert np.array_equal(evaluate(PROCEDURES["log2"], powers), n)


def test_powers_of_ten_and_cubes_are_exact():
    n = np.arange(0, 23.0)
    assert np.array_equal(evaluate(PROCEDURES["log10"], 10.0**n), n)
    n = np.arange(-2000, 2001.0)
    assert np.array_equal(evaluate(PROCEDURES["cbrt"], n**3), n)


@pytest.mark.parametrize("order", [1, 2, 3, 7, 20, 40])
def test_polygamma_of_any_order(order):
    x = np.concatenate([np.geomspace(0.01, 100, 40), [-0.3, -1.5, -2.7]])
    actual = evaluate(lambda k, v: PROCEDURES["polygamma"](k, v, order), x)
    exact = [mpmath.re(mpmath.psi(order, mpmath.mpf(each))) for each in x.tolist()]
    relative = [abs(a / e - 1) for a, e in zip(actual.tolist(), exact, strict=True)]
    assert max(relative[:40]) <= (4 + order) * 2.0**-52
    assert max(relative[40:]) <= (20 + 20 * order) * 2.0**-52  # reflected


def test_arguments_closest_to_multiples_of_a_quarter_turn():
    """The float64 nearest to one (Muller, "Elementary Functions", 2006), and neighbours."""
    closest = 6381956970095103.0 * 2.0**797
    x = np.array([closest, np.nextafter(closest, 0), np.nextafter(closest, np.inf), 2.0**30, 1e22])
    x = np.concatenate([x, -x, [np.finfo(np.float64).max, np.nextafter(2.0**30, 0)]])
    with mpmath.workprec(1400):
        for name in ("sin", "cos", "tan"):
            assert_within(name, evaluate(PROCEDURES[name], x), (x,))


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "pow"])
def test_float16_computes_in_float32(name):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    inputs = [every, every[::-1].copy()][: 2 if name == "pow" else 1]
    wide = evaluate(PROCEDURES[name], *(each.astype(np.float32) for each in inputs))
    with np.errstate(over="ignore"):
        expected = wide.astype(np.float16)
    module = compile_functions([("f", PROCEDURES[name], ["float16"] * len(inputs), 16)])
    assert same_bits(module.call("f", 16, "float16", *inputs), expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_branch_around_what_is_rarely_needed_changes_nothing(dtype):
    def both(k, x):
        return k.add(k.call("sin", x), k.call("cos", x))

    scope, result = build_scope(both, [dtype])
    (rare,) = rarely_needed(scope, [result])
    assert len(rare.selects) == 3
    assert len(rare.instructions) > 50
    x = arguments("sin", dtype, 300, seed=9)
    functions = [(f"f{lanes}", both, [dtype], lanes) for lanes in (1, LANES[dtype])]
    plain, branching = (compile_functions(functions, branch=branch) for branch in (False, True))
    for name, _, _, lanes in functions:
        expected = plain.call(name, lanes, dtype, x)
        assert same_bits(branching.call(name, lanes, dtype, x), expected).all()


def test_what_the_usual_path_shares_is_not_rare():
    def procedure(k, x):
        shared = k.mul(x, 3.0)
        slow = k.sqrt(k.add(shared, 1.0))
        chosen = k.emit("select", k.gt(x, 1.0), slow, shared, immediate="rarely")
        return k.add(chosen, k.neg(shared))

    scope, result = build_scope(procedure, ["float64"])
    (rare,) = rarely_needed(scope, [result])
    assert [value.opcode for value in rare.instructions] == ["add", "sqrt"]
    outside = rare.instructions[1]
    assert rarely_needed(scope, [result, outside]) == []


def test_what_is_rare_within_a_branch_has_none_of_its_own():
    """It is an ordinary select there; what it takes stays inside the branch too."""

    def procedure(k, x):
        outer, inner = k.gt(x, 1.0), k.gt(x, 2.0)
        root = k.sqrt(x)
        edge = k.emit("select", inner, k.div(1.0, x), root, immediate="rarely")
        return k.emit("select", outer, k.neg(edge), x, immediate="rarely")

    scope, result = build_scope(procedure, ["float64"])
    (rare,) = rarely_needed(scope, [result])
    assert [each.opcode for each in rare.instructions] == ["gt", "sqrt", "div", "select", "neg"]
    x = np.array([0.5, 1.5, 2.5, 4.0, -1.0, 9.0, 16.0, 0.0])
    module = compile_functions([("f", procedure, ["float64"], 8)], branch=True)
    assert same_bits(module.call("f", 8, "float64", x), evaluate(procedure, x)).all()


# -- where the numbers come from ---------------------------------------------------------------


def test_every_table_can_be_derived_again():
    with mpmath.workprec(PRECISION):
        for name, _, table in tables():
            assert getattr(vecmath_tables, name) == table, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_constant_can_be_derived_again(dtype):
    with mpmath.workprec(1500):
        ln2, quarter = mpmath.log(2), mpmath.pi / 2
        format_, circle = vecmath_parts.FORMATS[dtype], vecmath_trig.CIRCLE[dtype]
        exponent_bits = np.dtype(dtype).itemsize * 8 - format_.fraction - 1
        kept = format_.fraction + 1 - exponent_bits  # bits that any exponent may be multiplied by
        upper = mpmath.ldexp(mpmath.nint(mpmath.ldexp(ln2, kept)), -kept)
        assert format_.ln2 == (float(upper), *rounded([ln2 - upper], dtype))
        assert (format_.inverse_ln2,) == rounded([1 / ln2], dtype)
        assert (circle.inverse,) == rounded([1 / quarter], dtype)
        assert circle.quarter == in_parts(quarter, 3, dtype)
        bits = vecmath_trig.TWO_OVER_PI_BITS
        assert int(mpmath.floor(mpmath.ldexp(1 / quarter, bits))) == vecmath_trig.TWO_OVER_PI


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", [0.125, 1.25, 3.0, 4.0, 2.0**16])
def test_a_sum_with_a_short_constant_loses_nothing(dtype, constant):
    near = np.linspace(0, 8, 1001), np.array([0.0, constant, 2.0**16 - 2.0**-7])
    x = np.concatenate([*near, np.abs(arguments("exp", dtype, 2000, 3))]).astype(dtype)
    x = x[x < 2.0**16]
    total, rest = (
        evaluate(lambda k, v, part=part: vecmath_parts.sum_with_short(k, v, constant)[part], x)
        for part in (0, 1)
    )
    digits = [Fraction(float(each)) for each in x]
    lost = [Fraction(float(a)) + Fraction(float(b)) for a, b in zip(total, rest, strict=True)]
    assert lost == [each + Fraction(constant) for each in digits]


LIMITS = {
    "exp": 31, "exp2": 30, "expm1": 41, "sinh": 53, "cosh": 50, "tanh": 49, "sigmoid": 73,
    "sigmoid_tail": 70, "silu": 86, "mish": 101, "gelu": 124, "ndtr": 120, "normal_density": 46,
    "log": 45, "log2": 55, "log10": 57, "log1p": 45,
    "softplus": 89, "logit": 74, "asinh": 77, "acosh": 78, "atanh": 69, "cbrt": 66, "sin": 140,
    "cos": 139, "tan": 145, "sinc": 75, "asin": 41, "acos": 51, "atan": 60, "erf": 72,
    "erfc": 143, "erfinv": 93, "erfcinv": 123, "lgamma": 279, "gamma": 295, "digamma": 223,
    "trigamma": 149, "polygamma4": 195, "i0": 89, "i1": 91, "i0e": 86, "i1e": 88, "pow": 153,
    "j0": 247, "j1": 239, "y0": 340, "y1": 326,
    "atan2": 81, "xlogy": 66, "xlog1py": 64,
}  # fmt: skip


def test_instructions_per_element():
    """What the procedures cost, so that a change that makes one dearer is seen."""
    counted = {}
    for name in EVERY:
        scope, _ = build_scope(procedure(name), ["float64"] * (2 if name in BINARY else 1))
        counted[name] = sum(value.opcode != "const" for value in scope.statements)
    assert {name: count for name, count in counted.items() if count > LIMITS[name]} == {}
