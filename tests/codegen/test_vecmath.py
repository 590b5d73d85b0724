"""How far are the mathematical procedures from exact, and where did their numbers come from?

The exact results are mpmath's, or for many float32 arguments NumPy's in float64. LLVM, in lanes and
alone, must agree with the NumPy evaluation of the same instructions to the last bit, so errors are
measured once.
"""

from __future__ import annotations

import functools
import math

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from scalar_harness import Compiled, build_scope, compile_functions, evaluate, same_bits

from graphc.codegen import llvm_scalar, vecmath
from graphc.codegen.vecmath import PROCEDURES

DTYPES = ("float64", "float32")
LANES = {"float64": 8, "float32": 16}
UNARY = [name for name in PROCEDURES if name != "pow"]

EXACT = {
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x, 2),
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "erf": mpmath.erf,
}
BOUND_ULP = dict.fromkeys(PROCEDURES, 1.0) | {"softplus": 2.0, "erf": 2.0}

# Where something changes: reductions, thresholds, results near 0, 1 and the ends of the range.
INTERVALS = {
    "exp": [(-2, 2), (-40, 40), (-746, 710)],
    "exp2": [(-1, 1), (-20, 20), (-1080, 1025)],
    "expm1": [(-0.5, 0.5), (-1.2, -0.3), (0.3, 1.2), (-40, 40), (700, 710)],
    "log": [(0.7, 0.8), (0.9, 1.1), (1.4, 1.6), (0.3, 3)],
    "log2": [(0.7, 0.8), (0.9, 1.1), (1.4, 1.6), (0.3, 3)],
    "log1p": [(-0.7, -0.2), (-0.3, 0.6), (0.4, 2), (1, 100)],
    "tanh": [(-0.1, 0.1), (0, 3), (-20, 20), (18, 20)],
    "sigmoid": [(-1, 1), (-40, 40), (-110, -80), (-746, -700)],
    "softplus": [(-1, 1), (-5, 5), (-40, 40), (-746, -700)],
    "sin": [(-4, 4), (3.1, 3.2), (-100, 100), (1e9, 2e9)],
    "cos": [(-4, 4), (1.5, 1.6), (-100, 100), (30000, 40000)],
    "erf": [(-1, 1), (0.7, 0.8), (1, 3), (-6, 6)],
}


def random_bits(dtype: str, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.frombuffer(rng.bytes(count * np.dtype(dtype).itemsize), dtype)


def arguments(name: str, dtype: str, count: int, seed: int) -> np.ndarray:
    """Arguments in the function's domain: its intervals, all exponents, random bits."""
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(low, high, count) for low, high in INTERVALS[name]]
    info = np.finfo(dtype)
    powers = np.ldexp(1 + rng.random(count), rng.integers(info.minexp, info.maxexp, count))
    parts += [powers, -powers, random_bits(dtype, count, rng)]
    with np.errstate(over="ignore"):
        x = np.concatenate([part.astype(dtype) for part in parts])
    x = x[np.isfinite(x)]
    if name in ("log", "log2"):
        return np.abs(x)[x != 0]
    return x[x > -1] if name == "log1p" else x


def powers_of(dtype: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bases and exponents whose powers fill the range, and integer powers of negative bases."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    logarithm = rng.uniform(info.minexp - info.nmant - 2, info.maxexp + 1, count)
    spread = 2.0 ** -rng.integers(1, 40 if dtype == "float64" else 18, count)
    near_one = 1 + rng.uniform(-1, 1, count) * spread
    wide = 10.0 ** rng.uniform(-30, 30, count)
    base = np.concatenate([near_one, wide, rng.uniform(0, 9, count), -rng.uniform(0, 9, count)])
    base = base.astype(dtype)
    base[base == 0] = 0.5
    with np.errstate(divide="ignore"):
        exact = np.log2(np.abs(base[: 2 * count]).astype(np.float64))
        exponent = np.tile(logarithm, 2) / np.where(exact == 0, 1e-3, exact)
    exponent = np.concatenate([exponent, rng.uniform(-9, 9, count), rng.integers(-30, 31, count)])
    return base, exponent.astype(dtype)


def exact_power(x: float, y: float) -> mpmath.mpf:
    exponent = y * mpmath.log(abs(mpmath.mpf(x)))
    size = mpmath.exp(max(min(exponent, mpmath.mpf(2000)), mpmath.mpf(-2000)))
    return -size if x < 0 and y % 2 == 1 else size


def errors_in_ulp(actual: np.ndarray, exact: list[mpmath.mpf]) -> np.ndarray:
    """|actual - exact| in last places of the exact result; infinity where only one overflows."""
    info = np.finfo(actual.dtype)
    digits, least = info.nmant + 1, info.minexp - info.nmant
    overflow = mpmath.ldexp(1 - mpmath.ldexp(1, -digits - 1), info.maxexp)
    errors = []
    for number, reference in zip(actual.tolist(), exact, strict=True):
        if abs(reference) >= overflow:
            errors.append(0.0 if number == math.copysign(math.inf, reference) else math.inf)
        elif not math.isfinite(number):
            errors.append(math.inf)
        else:
            last = max(mpmath.frexp(reference)[1] - digits, least) if reference else least
            errors.append(float(abs(mpmath.ldexp(number - reference, -last))))
    return np.array(errors)


def assert_within(name: str, actual: np.ndarray, exact: list[mpmath.mpf], *inputs: np.ndarray):
    errors = errors_in_ulp(actual, exact)
    worst = int(np.argmax(errors))
    where = [float(each[worst]).hex() for each in inputs]
    assert errors[worst] <= BOUND_ULP[name], f"{errors[worst]:.3f} ulp at {where}"


@functools.cache
def compiled(dtype: str, features: str | None = None) -> Compiled:
    return compile_functions(
        [
            (f"{name}_{lanes}", procedure, [dtype] * (2 if name == "pow" else 1), lanes)
            for name, procedure in PROCEDURES.items()
            for lanes in (1, LANES[dtype])
        ],
        features=features,
    )


@pytest.fixture(autouse=True)
def _precision():
    with mpmath.workprec(160):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_error_in_ulp(name, dtype):
    x = arguments(name, dtype, 600, seed=1)
    exact = [EXACT[name](mpmath.mpf(each)) for each in x.tolist()]
    assert_within(name, evaluate(PROCEDURES[name], x), exact, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_error_of_pow_in_ulp(dtype):
    x, y = powers_of(dtype, 700, seed=2)
    exact = [exact_power(*each) for each in zip(x.tolist(), y.tolist(), strict=True)]
    assert_within("pow", evaluate(PROCEDURES["pow"], x, y), exact, x, y)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROCEDURES)
def test_error_in_ulp_on_many_arguments(name, dtype):
    if name == "pow":
        inputs = powers_of(dtype, 20000, seed=3)
        exact = [exact_power(*each) for each in zip(*(i.tolist() for i in inputs), strict=True)]
    else:
        inputs = (arguments(name, dtype, 20000, seed=4),)
        exact = [EXACT[name](mpmath.mpf(each)) for each in inputs[0].tolist()]
    actual = compiled(dtype).call(f"{name}_{LANES[dtype]}", LANES[dtype], dtype, *inputs)
    assert_within(name, actual, exact, *inputs)


def float64_reference(name: str, x: np.ndarray) -> np.ndarray:
    if name == "erf":
        return pytest.importorskip("scipy.special").erf(x)
    special = {
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "softplus": lambda v: np.logaddexp(0, v),
    }
    return special.get(name, getattr(np, name, None))(x)


@pytest.mark.parametrize("name", UNARY)
def test_float32_over_all_exponents(name):
    """2**18 patterns evenly spread over all of float32, against float64."""
    x = np.arange(0, 2**32, 2**14, dtype=np.uint32) + np.uint32(0x2F1B)
    x = x.view(np.float32)
    with np.errstate(all="ignore"):
        exact = float64_reference(name, x.astype(np.float64))
        rounded = exact.astype(np.float32)
        inside = np.isfinite(rounded) & np.isfinite(exact)
        last = np.spacing(np.minimum(np.abs(rounded), np.finfo(np.float32).max))
        actual = compiled("float32").call(f"{name}_16", 16, "float32", x)
        errors = np.abs(actual.astype(np.float64) - exact) / last
    assert same_bits(actual[~inside], rounded[~inside]).all()
    assert errors[inside].max() <= BOUND_ULP[name] + 0.01  # the reference's own rounding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROCEDURES)
def test_llvm_and_numpy_agree_to_the_last_bit(name, dtype):
    rng = np.random.default_rng(6)
    if name == "pow":
        inputs = powers_of(dtype, 400, seed=7)
        inputs = [np.concatenate([part, random_bits(dtype, 1000, rng)]) for part in inputs]
    else:
        inputs = [np.concatenate([arguments(name, dtype, 300, 8), random_bits(dtype, 1000, rng)])]
    expected = evaluate(PROCEDURES[name], *inputs)
    for lanes in (1, LANES[dtype]):
        actual = compiled(dtype).call(f"{name}_{lanes}", lanes, dtype, *inputs)
        wrong = np.flatnonzero(~same_bits(actual, expected))
        assert not len(wrong), [each[wrong[:3]] for each in inputs]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_do_not_depend_on_the_instruction_set(dtype):
    """AVX2 has no conversions or comparisons of unsigned 64-bit integers; LLVM builds them."""
    available = llvm.get_host_cpu_features()
    if not all(available.get(each) for each in ("avx2", "fma", "f16c")):
        pytest.skip("needs a processor with AVX2 and FMA")
    lanes = LANES[dtype]
    for name in PROCEDURES:
        inputs = powers_of(dtype, 200, 10) if name == "pow" else (arguments(name, dtype, 200, 11),)
        expected = compiled(dtype).call(f"{name}_{lanes}", lanes, dtype, *inputs)
        smaller = compiled(dtype, "+avx2,+fma,+f16c")
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
    "softplus": [(INFINITY, INFINITY), (-INFINITY, 0), (1e30, 1e30)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, NAN), (-INFINITY, NAN), (1e-44, 1e-44)],
    "cos": [(0.0, 1), (-0.0, 1), (INFINITY, NAN), (-INFINITY, NAN)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INFINITY, 1), (-INFINITY, -1)],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, dtype):
    pairs = [*SPECIAL[name], (NAN, NAN)]
    x, expected = (np.array(each, dtype) for each in zip(*pairs, strict=True))
    assert same_bits(evaluate(PROCEDURES[name], x), expected).all()


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_powers_of_two(dtype):
    info = np.finfo(dtype)
    n = np.arange(info.minexp - info.nmant, info.maxexp, dtype=dtype)
    powers = np.ldexp(np.ones_like(n), n.astype(int))
    assert np.array_equal(evaluate(PROCEDURES["exp2"], n), powers)
    assert np.array_equal(evaluate(PROCEDURES["log2"], powers), n)


def test_arguments_closest_to_multiples_of_a_quarter_turn():
    """The float64 nearest to one (Muller, "Elementary Functions", 2006), and neighbours."""
    closest = 6381956970095103.0 * 2.0**797
    x = np.array([closest, np.nextafter(closest, 0), np.nextafter(closest, np.inf), 2.0**30, 1e22])
    x = np.concatenate([x, -x, [np.finfo(np.float64).max, np.nextafter(2.0**30, 0)]])
    with mpmath.workprec(1400):
        for name in ("sin", "cos"):
            exact = [EXACT[name](mpmath.mpf(each)) for each in x.tolist()]
            assert_within(name, evaluate(PROCEDURES[name], x), exact, x)


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
    (rare,) = llvm_scalar.rarely_needed(scope, [result])
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
    (rare,) = llvm_scalar.rarely_needed(scope, [result])
    assert [value.opcode for value in rare.instructions] == ["add", "sqrt"]
    outside = rare.instructions[1]
    assert llvm_scalar.rarely_needed(scope, [result, outside]) == []


# -- where the numbers come from ---------------------------------------------------------------


def interpolated(function, low, high, degree, zeros=0):
    """Coefficients, constant first, of the polynomial that meets `function` at Chebyshev nodes.

    `zeros` nodes nearest to 0 are left out: there the error has zeros anyway, because the
    polynomial is multiplied by that power of its argument.
    """
    low, high, count = mpmath.mpf(low), mpmath.mpf(high), degree + 1 + zeros
    nodes = [mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    nodes = [(low + high) / 2 + (high - low) / 2 * node for node in nodes]
    nodes = sorted(nodes, key=abs)[zeros:]
    differences = [function(node) for node in nodes]
    for order in range(1, degree + 1):
        for i in range(degree, order - 1, -1):
            rise = differences[i] - differences[i - 1]
            differences[i] = rise / (nodes[i] - nodes[i - order])
    result = [differences[-1]]
    for i in range(degree - 1, -1, -1):
        result = [mpmath.mpf(0), *result]
        for j in range(len(result) - 1):
            result[j] -= nodes[i] * result[j + 1]
        result[0] += differences[i]
    return result


def least_squares(function, weight, low, high, degree):
    """The polynomial with the least weighted squares of errors at many Chebyshev nodes."""
    low, high, count = mpmath.mpf(low), mpmath.mpf(high), 6 * (degree + 1)
    middle, half = (low + high) / 2, (high - low) / 2

    def basis(x):
        return [mpmath.chebyt(j, (x - middle) / half) for j in range(degree + 1)]

    nodes = [mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    nodes = [middle + half * node for node in nodes]
    rows = [[weight(x) * each for each in basis(x)] for x in nodes]
    right = [weight(x) * function(x) for x in nodes]
    solution = mpmath.qr_solve(mpmath.matrix(rows), mpmath.matrix(right))[0]
    return interpolated(lambda x: mpmath.fdot(solution, basis(x)), low, high, degree)


def rounded(values, dtype):
    """Each value as the nearest number of the dtype."""
    as_float = [float(each) for each in values]
    return tuple(as_float if dtype == "float64" else (float(np.float32(each)) for each in as_float))


def in_parts(value, count, dtype):
    parts = []
    for _ in range(count):
        parts += rounded([value - mpmath.fsum(parts)], dtype)
    return tuple(parts)


def odd_log(z):
    """log((1 + s)/(1 - s)) / s in z = s**2."""
    s = mpmath.sqrt(z)
    return mpmath.log((1 + s) / (1 - s)) / s


def exp_quotient(r):
    return (mpmath.exp(r) - 1 - r) / r**2


def erf_quotient(z):
    x = mpmath.sqrt(z)
    return (mpmath.erf(x) / x - 2 / mpmath.sqrt(mpmath.pi)) / z


def fits():
    """(name, dtype) -> the interpolation that made the table."""
    ln2 = mpmath.log(2)
    reach = ln2 / 2 * mpmath.mpf("1.001")
    half = mpmath.mpf("0.5005")
    z_log, z_sine, z_erf = (mpmath.mpf(each) for each in ("0.04", "0.63", "0.5625"))
    table = {
        "EXP": (exp_quotient, -reach, reach, 10, 5, 2),
        "EXP2": (lambda r: exp_quotient(r * ln2) * ln2**2, -half, half, 10, 5, 2),
        "LOG": (lambda z: (odd_log(z) - 2) / z, 0, z_log, 7, 2, 1),
        "LOG2_TAIL": (lambda z: (odd_log(z) - 2 - 2 * z / 3) / z**2 / ln2, 0, z_log, 8, 3, 2),
        "SIN": (lambda z: (mpmath.sinc(mpmath.sqrt(z)) - 1) / z, 0, z_sine, 5, 2, 1),
        "COS": (lambda z: (mpmath.cos(mpmath.sqrt(z)) - 1 + z / 2) / z**2, 0, z_sine, 5, 2, 2),
        "ERF_SMALL": (erf_quotient, 0, z_erf, 9, 4, 1),
    }
    for name, (function, low, high, *degrees, zeros) in table.items():
        for dtype, degree in zip(DTYPES, degrees, strict=True):
            yield name, dtype, (function, low, high, degree, zeros)


def test_every_interpolated_table_can_be_derived_again():
    with mpmath.workprec(300):
        for name, dtype, fit in fits():
            assert getattr(vecmath, name)[dtype] == rounded(interpolated(*fit), dtype), name


@pytest.mark.parametrize(("dtype", "degree", "top"), [("float64", 13, "5.95"), ("float32", 5, "4")])
def test_the_table_of_erf_can_be_derived_again(dtype, degree, top):
    with mpmath.workprec(300):
        shift, center = mpmath.mpf("4.5"), mpmath.mpf("0.140625")

        def at(u):
            return 1 / (u + center) - shift

        low, high = (1 / (mpmath.mpf(each) + shift) - center for each in (top, "0.75"))
        found = least_squares(
            lambda u: mpmath.log(mpmath.erfc(at(u))) + at(u) ** 2,
            lambda u: mpmath.erfc(at(u)) + mpmath.mpf(2) ** -56,
            low,
            high,
            degree,
        )
        assert vecmath.ERF_FAR[dtype] == rounded(found, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_constant_can_be_derived_again(dtype):
    with mpmath.workprec(1500):
        ln2, quarter = mpmath.log(2), mpmath.pi / 2
        format_, circle = vecmath.FORMATS[dtype], vecmath.CIRCLE[dtype]
        exponent_bits = np.dtype(dtype).itemsize * 8 - format_.fraction - 1
        kept = format_.fraction + 1 - exponent_bits  # bits that any exponent may be multiplied by
        upper = mpmath.ldexp(mpmath.nint(mpmath.ldexp(ln2, kept)), -kept)
        assert format_.ln2 == (float(upper), *rounded([ln2 - upper], dtype))
        assert (format_.inverse_ln2,) == rounded([1 / ln2], dtype)
        assert (circle.inverse,) == rounded([1 / quarter], dtype)
        assert circle.quarter == in_parts(quarter, 3, dtype)
        for name, value in {
            "LN2": ln2,
            "INVERSE_LN2": 1 / ln2,
            "TWO_OVER_ROOT_PI": 2 / mpmath.sqrt(mpmath.pi),
            "LOG2_LINEAR": 2 / ln2,
            "LOG2_CUBIC": 2 / ln2 / 3,
        }.items():
            assert getattr(vecmath, name)[dtype] == in_parts(value, 2, dtype), name
        bits = vecmath.TWO_OVER_PI_BITS
        assert int(mpmath.floor(mpmath.ldexp(1 / quarter, bits))) == vecmath.TWO_OVER_PI


def test_instructions_per_element():
    """What the procedures cost, so that a change that makes one dearer is seen."""
    counted = {}
    for name, procedure in PROCEDURES.items():
        scope, _ = build_scope(procedure, ["float64"] * (2 if name == "pow" else 1))
        counted[name] = sum(value.opcode != "const" for value in scope.statements)
    limits = {
        "exp": 31, "exp2": 30, "expm1": 41, "log": 39, "log2": 48, "log1p": 42, "tanh": 49,
        "sigmoid": 47, "softplus": 70, "sin": 140, "cos": 139, "erf": 64, "pow": 140,
    }  # fmt: skip
    assert {name: count for name, count in counted.items() if count > limits[name]} == {}
