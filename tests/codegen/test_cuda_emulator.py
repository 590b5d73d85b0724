"""Can the tools that the CUDA tests rest on be trusted?

Right kernels must pass in every order, under every sanitizer and through NVRTC; wrong ones, each a
right kernel with one thing broken, must be found by the checks that are named beside them.
"""

from __future__ import annotations

import pathlib
import re
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from tests.cuda_emulator import emulator, nvrtc

pytestmark = emulator.required

EXAMPLES = (pathlib.Path(emulator.__file__).parent / "examples.cu").read_text()
_PREAMBLE, *_REST = re.split(r'(?=extern "C" __global__)', EXAMPLES)
#: The text of each example kernel alone, so that a broken one compiles quickly.
TEXTS = {re.search(r"(\w+)\(const", text)[1]: _PREAMBLE + text for text in _REST}

#: How a check runs a kernel: mode, order, seed.
CHECKS = {
    "forward": ("fast", "forward", 0),
    "reverse": ("fast", "reverse", 0),
    "lifo": ("fast", "lifo", 0),
    "random": ("fast", "lifo", 1),
    "portable": ("portable", "lifo", 1),
    "asan": ("asan", "lifo", 0),
    "tsan": ("tsan", "forward", 0),
}


@dataclass(frozen=True)
class Case:
    """One launch of a kernel. The arguments in `expected`, by position, are its results."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple
    expected: dict[int, np.ndarray]
    tolerance: float = 0.0
    shared_bytes: int = 0

    def run(self, text: str, check: str, **changes: int) -> None:
        """Launch `text`; raises EmulationError, or AssertionError for a wrong result."""
        mode, order, seed = CHECKS[check]
        arguments = [a.copy() if i in self.expected else a for i, a in enumerate(self.arguments)]
        launch = {
            "grid": self.grid,
            "block": self.block,
            "arguments": arguments,
            "shared_bytes": self.shared_bytes,
            "order": order,
            "seed": seed,
        }
        emulator.compile(text, [self.kernel], mode).launch(self.kernel, **{**launch, **changes})
        for position, expected in self.expected.items():
            got = arguments[position]
            np.testing.assert_allclose(got, expected, rtol=self.tolerance, atol=self.tolerance)


def _cases() -> dict[str, Case]:
    random = np.random.default_rng(7)

    def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
        array = random.standard_normal(shape).astype(dtype)
        array.setflags(write=False)
        return array

    def unset(*shape: int, dtype: type = np.float32) -> np.ndarray:
        return np.full(shape, np.nan, dtype)

    x, y, wide = normal(1000), normal(1000), normal(500, dtype=np.float64)
    odd = normal(403)
    a, b = normal(20, 37), normal(37, 25)
    rows, many = normal(3, 100), normal(5, 70)
    bins = random.integers(0, 10, 300).astype(np.int32)
    bins.setflags(write=False)
    exponentials = np.exp(rows.astype(np.float64) - rows.max(1, keepdims=True))
    sums = np.array([wide[i : i + 170].sum() for i in (0, 170, 340)])
    cases = (
        Case(
            "add_scaled", (3, 1, 1), (64, 1, 1), (x, y, unset(1000), 1.7, 1000),
            {2: x * np.float32(1.7) + y},
        ),
        Case(
            "clamp_by_four", (2, 1, 1), (32, 1, 1), (odd, unset(403), -0.5, 0.25, 403),
            {1: odd.clip(-0.5, 0.25)},
        ),
        Case(
            "block_sums", (3, 1, 1), (64, 1, 1), (wide, unset(3, dtype=np.float64), 500, 170),
            {1: sums}, tolerance=1e-13,
        ),
        Case(
            "matmul_tiled", (2, 2, 1), (16, 16, 1), (a, b, unset(20, 25), 20, 25, 37),
            {2: a.astype(np.float64) @ b}, tolerance=1e-5,
        ),
        Case(
            "row_softmax", (3, 1, 1), (64, 1, 1), (rows, unset(3, 100), 100),
            {1: exponentials / exponentials.sum(1, keepdims=True)},
            tolerance=1e-6, shared_bytes=400,
        ),
        Case(
            "row_statistics", (3, 1, 1), (64, 1, 1),
            (many, unset(5), np.full(5, -1, np.int32), 5, 70),
            {1: many.sum(1, dtype=np.float64), 2: (many < 0).sum(1)}, tolerance=1e-5,
        ),
        Case(
            "histogram", (2, 1, 1), (64, 1, 1), (bins, np.zeros(10, np.int32), 300, 10),
            {1: np.bincount(bins, minlength=10)}, shared_bytes=40,
        ),
    )  # fmt: skip
    return {case.kernel: case for case in cases}


CASES = _cases()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kernel", CASES)
def test_right_kernels_pass_every_check(kernel: str, check: str) -> None:
    CASES[kernel].run(TEXTS[kernel], check)


@pytest.mark.parametrize("kernel", CASES)
def test_right_kernels_pass_in_random_orders(kernel: str) -> None:
    for seed in range(2, 30):
        CASES[kernel].run(TEXTS[kernel], "random", seed=seed)


# ---- Planted bugs --------------------------------------------------------------------------------

WRONG = "Not equal to tolerance"  # what NumPy says of a wrong result
BARRIER = "__syncthreads();"


@dataclass(frozen=True)
class Bug:
    """`old` in the text of a kernel becomes `new`; `found` says which checks notice, and how."""

    kernel: str
    old: str
    new: str
    found: dict[str, str]
    occurrence: int = 0
    launch: dict[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        parts = TEXTS[self.kernel].split(self.old)
        before, after = parts[: self.occurrence + 1], parts[self.occurrence + 1 :]
        assert after, "the text to be broken is not there"
        return self.old.join(before) + self.new + self.old.join(after)


RACE, OVERRUN = "data race", "heap-buffer-overflow"
BUGS = {
    "a sum tree starts before all have written": Bug(
        "block_sums", BARRIER, "", {"forward": WRONG, "tsan": RACE}
    ),
    "a round of the tree starts before the last one ends": Bug(
        "block_sums", BARRIER, "", {"forward": WRONG, "tsan": RACE}, occurrence=1
    ),
    "a tile is used before it is filled": Bug(
        "matmul_tiled", BARRIER, "", {"forward": WRONG, "reverse": WRONG, "tsan": RACE}
    ),
    "a tile is refilled before all have used it": Bug(
        "matmul_tiled", BARRIER, "", {"forward": WRONG, "lifo": WRONG, "tsan": RACE}, occurrence=1
    ),
    "scratch is reused before all have read it": Bug(
        "row_softmax", BARRIER, "", {"lifo": WRONG, "tsan": RACE}, occurrence=1
    ),
    "lockstep is taken for granted": Bug(
        "row_statistics",
        "sum += __shfl_down_sync(0xffffffffu, sum, delta);",
        """{
            __shared__ float sums_of[64];
            sums_of[threadIdx.x] = sum;
            sum += sums_of[threadIdx.x ^ delta];
        }""",
        {"forward": WRONG, "reverse": WRONG, "tsan": RACE},
    ),
    "one element too many is read": Bug(
        "add_scaled", "i < extent;", "i <= extent;",
        {"forward": "0 bytes after the end of argument", "asan": OVERRUN},
    ),
    "one element too many is written, in the slack before the guard page": Bug(
        "clamp_by_four", "i < extent;", "i <= extent;",
        {"forward": "written beyond argument 1", "asan": OVERRUN},
    ),
    "rows beyond the matrix are written": Bug(
        "matmul_tiled", "row < rows && column < columns) c", "column < columns) c",
        {"forward": "after the end of argument 2", "asan": OVERRUN},
    ),
    "a shared array is too short": Bug(
        "block_sums", "partial[64]", "partial[48]", {"asan": "index 63 out of bounds"}
    ),
    "dynamic shared memory is too short": Bug(
        "row_softmax", "row[i] = x[i]", "row[i] = x[i]", {"asan": "use-after-poison"},
        launch={"shared_bytes": 396},
    ),
    "a barrier stands in a branch": Bug(
        "row_softmax",
        f"of_warp[warp] = largest;\n    {BARRIER}", f"{{ of_warp[warp] = largest; {BARRIER} }}",
        {"forward": "wait at different barriers", "lifo": "wait at different barriers"},
    ),
    "some threads return before a barrier": Bug(
        "matmul_tiled", "    float sum", "    if (row >= rows) return;\n    float sum",
        {"forward": "a barrier that other threads never reach"},
    ),
    "a vector is not aligned": Bug(
        "clamp_by_four", "reinterpret_cast<const float4*>(x)[i]",
        "*reinterpret_cast<const float4*>(x + 4 * i + (i > 0))", {"asan": "misaligned address"},
    ),
    "shared memory is taken to be zero": Bug(
        "histogram", "of_block[bin] = 0;", ";", {"forward": WRONG}
    ),
    "threads add to one count without atomics": Bug(
        "histogram", "atomicAdd(&of_block[bins[i]], 1)", "of_block[bins[i]] += 1", {"tsan": RACE}
    ),
    "blocks add to one count without atomics": Bug(
        "histogram",
        "atomicAdd(&counts[bin], of_block[bin])", "counts[bin] += of_block[bin]", {"tsan": RACE},
    ),
    "two threads write one element": Bug(
        "add_scaled", "out[i]", "out[i / 2 * 2]", {"forward": WRONG, "tsan": RACE}
    ),
    "a block waits for the one before": Bug(
        "block_sums", "= partial[0]", "= partial[0] + (blockIdx.x ? sums[blockIdx.x - 1] * 0 : 0)",
        {"reverse": WRONG, "lifo": WRONG, "tsan": RACE},
    ),
    "a shuffle stands in a branch": Bug(
        "row_softmax", "    sum = warp_sum(sum);", "    if (lane < 16) sum = warp_sum(sum);",
        {"forward": "a warp collective that a lane of its mask never reaches"},
    ),
    "a shuffle reads a lane outside its mask": Bug(
        "row_statistics",
        "__shfl_down_sync(0xffffffffu", "__shfl_down_sync(lane < 16 ? 0xffffu : 0xffff0000u",
        {"forward": "a shuffle reads a lane that takes no part", "tsan": "takes no part"},
    ),
    "a lane is not in its own mask": Bug(
        "row_statistics", "__ballot_sync(0xffffffffu", "__ballot_sync(0x7fffffffu",
        {"lifo": "a lane that is not in its own mask"},
    ),
    "a shift is too wide": Bug(
        "row_statistics", "__popc(__ballot_sync(0xffffffffu, value < 0.0f))",
        "__popc(__ballot_sync(0xffffffffu, value < 0.0f) << (lane + first))",
        {"asan": "shift exponent"},
    ),
    "an integer is divided by zero": Bug(
        "add_scaled", "out[i]", "out[i + 1000 / (extent - 1000)]",
        {"forward": "integer division by zero", "asan": "division by zero"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bug", "check"), [(b, c) for b, bug in BUGS.items() for c in bug.found])
def test_planted_bugs_are_found(bug: str, check: str) -> None:
    broken = BUGS[bug]
    with pytest.raises((emulator.EmulationError, AssertionError), match=broken.found[check]):
        CASES[broken.kernel].run(broken.text, check, **broken.launch)


def test_an_endless_loop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "LAUNCH_SECONDS", 0.2)
    text = TEXTS["add_scaled"].replace("i += stride", "i += extent - 1000")
    with pytest.raises(emulator.EmulationError, match="time limit: block .0,0,0. thread .0,0,0."):
        CASES["add_scaled"].run(text, "forward")


def test_a_stack_overflow_is_a_message() -> None:
    text = TEXTS["add_scaled"].replace("    out[i]", "{ volatile float a[30000]; a[0] = 1; out[i]")
    text = text.replace("__ldg(y + i);", "__ldg(y + i); }")
    with pytest.raises(emulator.EmulationError, match="stack overflow"):
        CASES["add_scaled"].run(text, "forward")


def test_a_module_serves_on_after_a_failure() -> None:
    broken = BUGS["a shuffle stands in a branch"]
    text = broken.text + TEXTS["add_scaled"].removeprefix(_PREAMBLE)
    with pytest.raises(emulator.EmulationError):
        CASES["row_softmax"].run(text, "forward")
    module = emulator.compile(text, ["row_softmax", "add_scaled"])
    case = CASES["add_scaled"]
    arguments = [*case.arguments[:2], case.arguments[2].copy(), *case.arguments[3:]]
    for _ in range(2):
        with pytest.raises(emulator.EmulationError):
            module.launch(
                "row_softmax", grid=(1, 1, 1), block=(64, 1, 1), shared_bytes=400,
                arguments=[np.ones(100, np.float32), np.ones(100, np.float32), 100],
            )  # fmt: skip
        module.launch("add_scaled", grid=case.grid, block=case.block, arguments=arguments)
        np.testing.assert_array_equal(arguments[2], case.expected[2])


# ---- The launch ----------------------------------------------------------------------------------

TWO_STEPS = """
extern "C" __global__ void square(const float* x, float* out, int extent)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < extent; i += gridDim.x * blockDim.x)
        out[i] = x[i] * x[i];
}
extern "C" __global__ void sum(const float* x, float* out, int extent)
{
    if (threadIdx.x || blockIdx.x) return;
    float total = 0.0f;
    for (int i = 0; i < extent; ++i) total += x[i];
    *out = total;
}
"""


@pytest.mark.parametrize("mode", ["fast", "asan", "tsan"])
def test_a_program_of_two_kernels_shares_device_memory(mode: str) -> None:
    module = emulator.compile(TWO_STEPS, ["square", "sum"], mode)
    arena = emulator.Buffer.empty(64, np.float32)
    x = emulator.Buffer(np.arange(10, dtype=np.float32))
    result = emulator.Buffer.empty((), np.float32)
    assert np.isnan(arena.read()).all()
    module.launch("square", grid=(2, 1, 1), block=(32, 1, 1), arguments=[x, arena.at(64), 10])
    module.launch("sum", grid=(1, 1, 1), block=(32, 1, 1), arguments=[arena.at(64), result, 10])
    assert result.read() == 285.0
    assert np.isnan(arena.array[:16]).all()
    np.testing.assert_array_equal(arena.array[16:26], np.arange(10) ** 2)


@pytest.mark.parametrize("mode", ["fast", "asan"])
def test_an_array_given_twice_is_one_piece_of_memory(mode: str) -> None:
    x = np.arange(10, dtype=np.float32)
    module = emulator.compile(TWO_STEPS, ["square", "sum"], mode)
    module.launch("square", grid=(1, 1, 1), block=(32, 1, 1), arguments=[x, x, 10])
    np.testing.assert_array_equal(x, np.arange(10) ** 2)


def test_wrong_launches_are_refused() -> None:
    module = emulator.compile(TEXTS["clamp_by_four"], ["clamp_by_four"])
    x = np.zeros(8, np.float32)
    good = {"grid": (1, 1, 1), "block": (32, 1, 1), "arguments": [x, x, 0.0, 1.0, 8]}
    module.launch("clamp_by_four", **good)

    def refused(kind: type, match: str, **changes: object) -> None:
        with pytest.raises(kind, match=match):
            module.launch("clamp_by_four", **{**good, **changes})

    refused(TypeError, "takes 5 arguments, 4 were given", arguments=[x, x, 0.0, 1.0])
    refused(TypeError, "argument 0 .* is float64 ., the parameter is float32 .",
            arguments=[x.astype(np.float64), x, 0.0, 1.0, 8])  # fmt: skip
    refused(TypeError, "is float64, the parameter is float32",
            arguments=[x, x, np.float64(0.0), 1.0, 8])  # fmt: skip
    refused(TypeError, "argument 4", arguments=[x, x, 0.0, 1.0, x])
    refused(OverflowError, "out of bounds", arguments=[x, x, 0.0, 1.0, 2**31])
    refused(ValueError, "256 threads in a block, at most 128", block=(256, 1, 1))
    refused(ValueError, "grid", grid=(0, 1, 1))
    refused(ValueError, "grid", grid=(1, 65536, 1))
    refused(ValueError, "shared memory", shared_bytes=228 * 1024)
    with pytest.raises(ValueError, match="no kernel 'clamp' among clamp_by_four"):
        module.launch("clamp", **good)


def test_a_read_only_array_is_not_written() -> None:
    x = np.full(8, 2.0, np.float32)
    x.setflags(write=False)
    module = emulator.compile(TEXTS["clamp_by_four"], ["clamp_by_four"])
    with pytest.raises(emulator.EmulationError, match="wrote to a read-only array"):
        module.launch(
            "clamp_by_four", grid=(1, 1, 1), block=(32, 1, 1), arguments=[x, x, 0.0, 1.0, 8]
        )


def test_text_that_needs_a_header_is_refused() -> None:
    for word in ("INFINITY", "(float)(int64_t)1", "std::max(1.0f, 2.0f)"):
        text = f'extern "C" __global__ void k(float* x) {{ *x = {word}; }}'
        with pytest.raises(emulator.EmulationError, match="kernel.cu:1"):
            emulator.compile(text, ["k"])


# ---- The words of CUDA C++ -----------------------------------------------------------------------

F32, F64, I32, I64, U32, U64 = map(
    np.dtype, ("float32", "float64", "int32", "int64", "uint32", "uint64")
)
C_NAMES = {
    F32: "float", F64: "double", I32: "int", I64: "long long",
    U32: "unsigned", U64: "unsigned long long",
}  # fmt: skip
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3e9, -3e9, 1e19, -1e19, 1e30, np.inf, -np.inf]


def _inputs(dtype: np.dtype) -> np.ndarray:
    random = np.random.default_rng(3)
    if dtype.kind == "f":
        return np.concatenate([SPECIAL, [np.nan], random.normal(0, 100, 50)]).astype(dtype)
    bits = random.integers(0, 256, (50, dtype.itemsize), np.uint8).view(dtype).ravel()
    return np.concatenate([np.array([0, 1], dtype), bits])


def _saturated(dtype: np.dtype, nan: int):
    """PTX `cvt` from a float: clamps to the integer's range (PTX ISA, section on cvt)."""
    limits = np.iinfo(dtype)

    def convert(x: np.ndarray) -> np.ndarray:
        whole = [nan if np.isnan(v) else limits.max if v > limits.max else
                 limits.min if v < limits.min else int(v) for v in map(float, x)]  # fmt: skip
        return np.array(whole, dtype)

    return convert


def _high_word(x: np.ndarray, y: int) -> np.ndarray:
    return np.array([int(v) * y >> 8 * x.itemsize for v in x], x.dtype)


def _fma(a: np.ndarray, b: np.ndarray | np.floating, c: np.floating) -> np.ndarray:
    """a * b + c, rounded once: the nearest of the float near the exact value and its neighbours."""

    def one(x: np.floating, y: np.floating) -> np.floating:
        rounded = x * y + c
        if not np.isfinite(rounded):
            return rounded
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(c))
        near = [rounded, *(np.nextafter(rounded, s * rounded.dtype.type(np.inf)) for s in (1, -1))]
        return min(near, key=lambda value: abs(Fraction(float(value)) - exact))

    return np.array([one(x, y) for x, y in zip(a, np.broadcast_to(b, a.shape), strict=True)])


#: Expression in `v`, dtype of `v`, dtype of the result, the same in NumPy.
WORDS = [
    ("__int_as_float(v)", I32, F32, lambda v: v.view(F32)),
    ("__float_as_int(v)", F32, I32, lambda v: v.view(I32)),
    ("__uint_as_float(v)", U32, F32, lambda v: v.view(F32)),
    ("__float_as_uint(v)", F32, U32, lambda v: v.view(U32)),
    ("__longlong_as_double(v)", I64, F64, lambda v: v.view(F64)),
    ("__double_as_longlong(v)", F64, I64, lambda v: v.view(I64)),
    ("__mulhi(v, -1234567891)", I32, I32, lambda v: _high_word(v, -1234567891)),
    ("__umulhi(v, 0xD2511F53u)", U32, U32, lambda v: _high_word(v, 0xD2511F53)),
    ("__mul64hi(v, -(1ll << 61) - 9)", I64, I64, lambda v: _high_word(v, -(1 << 61) - 9)),
    ("__umul64hi(v, 0xD2B74407B1CE6E93ull)", U64, U64, lambda v: _high_word(v, 0xD2B74407B1CE6E93)),
    ("__clz(v)", I32, I32, lambda v: [32 - (int(x) & 0xFFFFFFFF).bit_length() for x in v]),
    ("__clzll(v)", I64, I32, lambda v: [64 - (int(x) % 2**64).bit_length() for x in v]),
    ("__popc(v)", U32, I32, lambda v: np.bitwise_count(v)),
    ("__popcll(v)", U64, I32, lambda v: np.bitwise_count(v)),
    ("__ffs(v)", I32, I32, lambda v: [(int(x) & -int(x)).bit_length() for x in v]),
    ("__float2int_rz(v)", F32, I32, _saturated(I32, 0)),
    ("__double2ll_rz(v)", F64, I64, _saturated(I64, -(2**63))),
    ("__double2uint_rz(v)", F64, U32, _saturated(U32, 0)),
    ("__float2ull_rz(v)", F32, U64, _saturated(U64, 2**63)),
    ("__double2int_rn(v)", F64, I32, lambda v: _saturated(I32, 0)(np.rint(v))),
    ("min(v, 7)", I32, I32, lambda v: np.minimum(v, 7)),
    ("max(v, 7u)", U32, U32, lambda v: np.maximum(v, 7)),
    ("max(v, 7ll)", I64, I64, lambda v: np.maximum(v, 7)),
    ("max(v, 2.0f)", F32, F32, lambda v: np.fmax(v, F32.type(2))),
    ("min(v, 2.0)", F64, F64, lambda v: np.fmin(v, 2)),
    ("fmaf(v, 3.0f, 0.1f)", F32, F32, lambda v: _fma(v, F32.type(3), F32.type(0.1))),
    ("v * 3.0f + 0.1f", F32, F32, lambda v: v * F32.type(3) + F32.type(0.1)),
    ("__fadd_rn(__fmul_rn(v, 3.0f), 0.1f)", F32, F32, lambda v: v * F32.type(3) + F32.type(0.1)),
    ("fma(v, v, 0.1)", F64, F64, lambda v: _fma(v, v, F64.type(0.1))),
    ("sqrtf(v)", F32, F32, np.sqrt),
    ("sqrt(v)", F64, F64, np.sqrt),
    ("rintf(v)", F32, F32, np.rint),
    ("rint(v)", F64, F64, np.rint),
    ("floor(v)", F64, F64, np.floor),
    ("ceilf(v)", F32, F32, np.ceil),
    ("trunc(v)", F32, F32, np.trunc),
    ("fabsf(v)", F32, F32, np.abs),
    ("copysignf(2.0f, v)", F32, F32, lambda v: np.copysign(F32.type(2), v)),
    ("fmod(v, 3.0)", F64, F64, lambda v: np.fmod(v, 3.0)),
    ("ldexpf(v, 3)", F32, F32, lambda v: v * 8),
    ("v / 3.0f", F32, F32, lambda v: v / F32.type(3)),
    ("isnan(v) ? 1 : isinf(v) ? 2 : signbit(v) ? 3 : 4", F32, I32,
     lambda v: np.select([np.isnan(v), np.isinf(v), np.signbit(v)], [1, 2, 3], 4)),
    ("make_float4(v, 1.0f, 2.0f, 3.0f).x + make_double2(1.0, 2.0).y", F32, F64,
     lambda v: v.astype(F64) + 2),
]  # fmt: skip
WORD_TEXT = "\n".join(
    f"""extern "C" __global__ void word_{i}(const {C_NAMES[of]}* x, {C_NAMES[to]}* out)
    {{ const {C_NAMES[of]} v = x[threadIdx.x]; out[threadIdx.x] = {expression}; }}"""
    for i, (expression, of, to, _) in enumerate(WORDS)
)


@pytest.mark.parametrize("index", range(len(WORDS)), ids=[word[0] for word in WORDS])
def test_words_of_cuda(index: int) -> None:
    _, of, to, reference = WORDS[index]
    v = _inputs(of)
    out = np.zeros(len(v), to)
    module = emulator.compile(WORD_TEXT, [f"word_{i}" for i in range(len(WORDS))])
    module.launch(f"word_{index}", grid=(1, 1, 1), block=(len(v), 1, 1), arguments=[v, out])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out, np.asarray(reference(v), to))


VOTES = """
extern "C" __global__ void votes(const int* x, int* out)
{
    const int v = x[threadIdx.x], t = threadIdx.x;
    out[t] = __syncthreads_count(v > 0);
    out[64 + t] = __syncthreads_or(v > 8) + 2 * __syncthreads_and(v < 10);
    out[128 + t] = __any_sync(0xffffffffu, v > 4) + 2 * __all_sync(0xffffffffu, v > 4);
    out[192 + t] = __shfl_sync(0xffffffffu, v, 5, 8);
    out[256 + t] = __shfl_up_sync(0xffffffffu, v, 3, 16);
    out[320 + t] = __shfl_down_sync(0xffffffffu, v, 3, 16);
    out[384 + t] = __shfl_xor_sync(0xffffffffu, v, 5);
    out[448 + t] = t % 32 < 8 ? __shfl_sync(0xffu, v, 2) : __shfl_sync(0xffffff00u, v, 9);
    __shared__ int most;
    if (t == 0) most = 0;
    __syncthreads();
    atomicMax(&most, v);
    atomicCAS(&most, -1, 5);
    __syncwarp();
    __syncthreads();
    out[512 + t] = most;
}
"""


@pytest.mark.parametrize(("order", "seed"), emulator.ORDERS)
def test_votes_and_shuffles(order: str, seed: int) -> None:
    x = np.random.default_rng(1).integers(-9, 10, 64).astype(np.int32)
    x[:32] += 20
    out = np.zeros((9, 64), np.int32)
    module = emulator.compile(VOTES, ["votes"])
    module.launch(
        "votes", grid=(1, 1, 1), block=(64, 1, 1), arguments=[x, out], order=order, seed=seed
    )
    t = np.arange(64)
    warps = x.reshape(2, 32)
    up = np.where(t % 16 >= 3, t - 3, t)
    down = np.where(t % 16 < 13, t + 3, t)
    expected = [
        np.full(64, (x > 0).sum()),
        np.full(64, (x > 8).any() + 2 * (x < 10).all()),
        np.repeat((warps > 4).any(1) + 2 * (warps > 4).all(1), 32),
        x[t // 8 * 8 + 5],
        x[up],
        x[down],
        x[t ^ 5],
        x[t // 32 * 32 + np.where(t % 32 < 8, 2, 9)],
        np.full(64, x.max()),
    ]
    np.testing.assert_array_equal(out, expected)


# ---- NVRTC ---------------------------------------------------------------------------------------


@nvrtc.required
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("text", [EXAMPLES, WORD_TEXT, VOTES], ids=["examples", "words", "votes"])
def test_nvrtc_accepts_what_the_emulator_runs(text: str, arch: str) -> None:
    compiled = nvrtc.compile(text, arch)
    assert set(compiled.usage) == set(re.findall(r"(\w+)\(const", text))
    assert all(0 < usage.registers < 256 for usage in compiled.usage.values())
    assert all(usage.spill_stores == usage.spill_loads == 0 for usage in compiled.usage.values())
    assert compiled.cubin.startswith(b"\x7fELF")
    assert f".target {arch}" in compiled.ptx


@nvrtc.required
def test_nvrtc_has_every_function_of_the_header() -> None:
    header = (pathlib.Path(emulator.__file__).parent / "emulator.h").read_text()
    lines = []
    for kind, operands in (("UNARY", "{0}[1]"), ("BINARY", "{0}[1], {0}[2]")):
        names = re.findall(rf"EMULATOR_{kind}\((?!name)(\w+)\)", header)
        assert len(names) > 5
        for name in names:
            lines += [f"x[0] += {name}f({operands.format('x')});"]
            lines += [f"{v}[0] += {name}({operands.format(v)});" for v in "xy"]
    for name in re.findall(r"^inline \w+ (__\w+_rn)\((?=float|double)", header, re.MULTILINE):
        operands = ", ".join(["x[1]"] * (header.split(f" {name}(")[1].split(")")[0].count(",") + 1))
        lines += [f"y[0] += {name}({operands});"]
    for source, suffix in re.findall(r"EMULATOR_TO_INTEGER\((\w+), (\w+), (?!To)", header):
        lines += [f"y[0] += __{source}2{suffix}_{mode}(x[1]);" for mode in ("rz", "rn")]
    text = 'extern "C" __global__ void all(float* x, double* y)\n{\n' + "\n".join(lines) + "\n}"
    assert nvrtc.compile(text, "sm_90").usage["all"].registers > 0
    emulator.compile(text, ["all"])


@nvrtc.required
def test_nvrtc_reports_what_a_kernel_takes() -> None:
    usage = nvrtc.compile(EXAMPLES, "sm_90").usage
    assert usage["matmul_tiled"].shared_bytes == 2 * 16 * 17 * 4
    assert usage["block_sums"].shared_bytes == 64 * 8
    text = """extern "C" __global__ void deep(float* x)
    {
        float v[64];
        for (int i = 0; i < 64; ++i) v[i] = x[64 * threadIdx.x + i];
        __syncthreads();
        for (int i = 0; i < 64; ++i) x[64 * threadIdx.x + i] = v[63 - i];
    }"""
    deep = nvrtc.compile(text, "sm_90", ["--maxrregcount=32"]).usage["deep"]
    assert deep.registers <= 32
    assert deep.spill_stores > 0
    assert deep.spill_loads > 0
    assert deep.stack > 0


@nvrtc.required
def test_nvrtc_contracts_only_what_the_text_contracts() -> None:
    text = 'extern "C" __global__ void k(float* x) {{ x[0] = {}; }}'
    assert "fma.rn" not in nvrtc.compile(text.format("x[1] * x[2] + x[3]"), "sm_90").ptx
    assert "fma.rn" in nvrtc.compile(text.format("fmaf(x[1], x[2], x[3])"), "sm_90").ptx


@nvrtc.required
def test_nvrtc_errors_and_warnings_are_raised() -> None:
    for body, message in (("*x = INFINITY;", "INFINITY"), ("int unused;", "never referenced")):
        text = f'extern "C" __global__ void k(float* x) {{ {body} }}'
        with pytest.raises(nvrtc.NvrtcError, match=message):
            nvrtc.compile(text, "sm_90")
