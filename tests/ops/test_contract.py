"""Does every op of the registry keep its whole contract?

One record says everything about an op, so one battery can ask everything of it, and an op cannot be
half-declared. Each test below is a clause of the contract and runs once for every op it applies to.
What an op leaves out stands in `golden_left_out.txt`, which a reviewer can read.
"""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from backends import (
    BATCHED,
    EITHER_ZERO,
    ULP,
    Case,
    Judge,
    backends,
    check_exact,
    check_type,
    compiled,
    compiled_together,
    evaluator,
    is_inexact,
    run,
    spacing,
    unit,
)
from samples import (
    ALL,
    ARITY,
    F64,
    FLOATS,
    INTEGERS,
    LEAVES,
    SPOKEN,
    UNSPOKEN,
    USUAL,
    Sample,
    accepts,
    bit_patterns,
    legal,
    results,
    samples,
    special,
    table,
)

import graphc as gx
from graphc.dtypes import is_float
from graphc.lowering import Elementwise, Generate, Leaf, Reduce, Verify
from graphc.node import Node
from graphc.op import REGISTRY, Linear, NoDerivative, Op, Partials, Rules
from graphc.ops.operands import FACTS
from graphc.rewrite import facts_of
from graphc.runtime.cuda import support as cuda
from graphc.tensor import SURFACE
from graphc.types import TensorType
from tests.codegen.vecmath_reference import REFERENCES as EXACT

OPS = tuple(table())
ELEMENTWISE = tuple(ARITY)
LAWS = frozenset(
    ("commutative", "associative", "odd", "even", "increasing", "involution", "idempotent")
)
GOLDEN = Path(__file__).with_name("golden_left_out.txt")

each_op = pytest.mark.parametrize("name", OPS)
each_elementwise = pytest.mark.parametrize("name", ELEMENTWISE)


def is_real(node: Node) -> bool:
    return isinstance(node.type, TensorType) and is_float(node.dtype)


def differentiable() -> list[str]:
    """The ops with a derivative and at least one sample in which a float depends on a float."""
    found = []
    for name in OPS:
        if not isinstance(REGISTRY[name].derivative, NoDerivative) and smooth_samples(name):
            found.append(name)
    return found


@functools.cache
def smooth_samples(name: str) -> tuple[Sample, ...]:
    return tuple(s for s in samples(name) if s.smooth and F64 in s.dtypes and is_float_sample(s))


def is_float_sample(sample: Sample) -> bool:
    symbols = sample.symbols(F64)
    return any(map(is_real, symbols)) and any(map(is_real, results(sample.node(symbols))))


each_differentiable = pytest.mark.parametrize("name", differentiable())


# -- the record ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tuple(REGISTRY))
def test_record(name: str, count: Callable[..., None]) -> None:
    op = REGISTRY[name]
    assert op.name == name and name.isidentifier() and type(op.version) is int
    assert callable(op.infer) and callable(op.numpy)
    assert isinstance(op.derivative, (Partials, Linear, Rules, NoDerivative))
    if isinstance(op.derivative, NoDerivative):
        assert len(op.derivative.why) > 5
    assert len(set(op.attributes)) == len(op.attributes)
    assert op.laws <= LAWS, op.laws - LAWS
    if op.domain:
        assert len(op.domain) == ARITY[name] and all(i.low < i.high for i in op.domain)
    assert pickle.loads(pickle.dumps(op)) is op
    assert op.fingerprint == f"{name}:{op.version}"
    count("op contract", "records")


@each_op
def test_has_samples(name: str) -> None:
    """Every op but the leaves is shown at work, an element-wise one in every dtype it takes."""
    assert samples(name)
    if name in ELEMENTWISE:
        assert isinstance(REGISTRY[name].lowering, Elementwise)
        assert samples(name)[0].dtypes


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_has_no_value_of_its_own(name: str) -> None:
    op = REGISTRY[name]
    assert isinstance(op.lowering, Leaf)
    with pytest.raises(gx.GraphError):
        op.numpy(**dict.fromkeys(op.attributes))


@each_op
def test_printing(name: str, count: Callable[..., None]) -> None:
    """The text and LaTeX patterns take the op's arguments and attributes; a node of it prints."""
    op = REGISTRY[name]
    for sample in samples(name):
        symbols = sample.symbols(sample.dtypes[0])
        node = sample.node(symbols)
        names = [f"arg{i}" for i in range(len(node.args))]
        for pattern in filter(None, (op.text, op.latex)):
            assert all(n in pattern.format(*names, **node.attrs) for n in names if "{}" in pattern)
        for result in results(node):
            text = str(result)
            assert text and all(s.attrs["name"] in text for s in symbols)
            assert repr(result)
        assert tuple(node.attrs) == (op.attributes if node.attrs else ())
        count("op contract", "printed")


@each_op
def test_round_trips(name: str, count: Callable[..., None]) -> None:
    """Pickled and read back, a node is the same object, and so is one from a graph file."""
    from graphc.graphfile import pack, unpack_one

    for sample in samples(name):
        for result in results(sample.node(sample.symbols(sample.dtypes[0]))):
            assert pickle.loads(pickle.dumps(result)) is result
            assert unpack_one(pack([result])) is result
            assert len(result.digest) == 32
        count("op contract", "round trips")


# -- types and shapes ------------------------------------------------------------------------------


@each_op
def test_types(name: str, count: Callable[..., None]) -> None:
    """What the type rule says is what NumPy gives."""
    for sample in samples(name):
        for dtype in sample.dtypes:
            symbols = sample.symbols(dtype)
            outputs = results(sample.node(symbols))
            values = evaluator(symbols, outputs, sample.arrays(dtype))
            for output, value in zip(outputs, values, strict=True):
                what = f"{name} {sample.label} {dtype}"
                assert value.dtype == output.dtype, f"{what}: {value.dtype} for {output.type}"
                assert value.shape == output.shape, f"{what}: {value.shape} for {output.type}"
            count("op contract", "types")


@each_elementwise
def test_type_rule_refuses(name: str) -> None:
    """Mixed dtypes, mixed shapes, several results, and dtypes that the op does not take."""
    op, arity = REGISTRY[name], ARITY[name]
    taken = [dtype for dtype in ALL if accepts(op, arity, dtype)]
    for dtype in set(ALL) - set(taken):
        with pytest.raises(gx.GraphError, match=name):
            op(*[gx.symbol(f"x{i}", (2,), dtype) for i in range(arity)])
    pair = gx.modf(gx.vector("x", 2))[0].args[0]
    with pytest.raises(gx.GraphError):
        op(*[pair] * arity)
    if arity == 2:
        x = gx.symbol("x", (2,), taken[0])
        with pytest.raises(gx.GraphError, match=name):
            op(x, gx.symbol("y", (3,), taken[0]))
        with pytest.raises(gx.GraphError, match=name):
            op(x, gx.symbol("y", (2,), next(d for d in ALL if d != taken[0])))


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name not in UNSPOKEN])
def test_surface_broadcasts(name: str, count: Callable[..., None]) -> None:
    """Through the surface, shapes broadcast as in NumPy."""
    op, arity = REGISTRY[name], ARITY[name]
    random = np.random.default_rng(5)
    shapes = [((3, 1), (4,)), ((), (2, 3)), ((0, 1), (3,)), ((2, 1, 3), (5, 1))]
    for dtype, pair in itertools.product(samples(name)[0].dtypes, shapes):
        given = pair[:arity]
        symbols = [gx.symbol(f"x{i}", shape, dtype) for i, shape in enumerate(given)]
        arrays = [bit_patterns(dtype, int(np.prod(s)), random).reshape(s) for s in given]
        arrays[-1] = legal(op, [np.ones_like(arrays[-1])] * (arity - 1) + arrays[-1:])[-1]
        found = SURFACE[SPOKEN.get(name, name)](*symbols)
        outputs = list(found) if isinstance(found, tuple) else [found]
        with np.errstate(all="ignore"):
            want = op.numpy(*np.broadcast_arrays(*arrays))
        want = want if isinstance(want, tuple) else (want,)
        for got, expected in zip(evaluator(symbols, outputs, arrays), want, strict=True):
            check_exact(got, np.asarray(expected), f"{name} {dtype} {given}", either_zero=True)
        count("op contract", "broadcasts")


# -- backends --------------------------------------------------------------------------------------


class Battery:
    """Samples of one op, each in a dtype, as one function, and what its results should be."""

    def __init__(
        self, name: str, chosen: Sequence[tuple[Sample, str]], layout: str = "contiguous"
    ) -> None:
        symbols: list[Node] = []
        outputs: list[Node] = []
        self.arrays: list[Any] = []
        for i, (sample, dtype) in enumerate(chosen):
            own = sample.symbols(dtype, f"s{i}_x")
            symbols += own
            outputs += results(sample.node(own))
            self.arrays += [LAYOUTS[layout](array) for array in sample.arrays(dtype)]
        self.case = Case(symbols, outputs)
        self.judge = Judge(symbols, outputs, self.arrays)
        labels = "; ".join(f"{sample.label} {dtype}" for sample, dtype in chosen)
        self.label = f"{name}, {layout} ({labels})"

    def check(self, function: Callable[..., Any], backend: str) -> None:
        self.judge.check(function(*self.arrays), f"{self.label} on {backend}")

    def run(self, backend: str) -> None:
        self.check(compiled(backend, self.case), backend)


def batteries(name: str) -> list[Battery]:
    """Every sample in one dtype, and every dtype with one sample, those that are seldom used in one
    function; `test_every_backend` has the full product.
    """
    fitting = {dtype: [(s, dtype) for s in samples(name) if dtype in s.dtypes] for dtype in ALL}
    taken = [dtype for dtype in ALL if fitting[dtype]]
    usual = [dtype for dtype in USUAL if dtype in taken] or taken[:1]
    everything = usual[-1 - (len(name) % min(2, len(usual)))]
    made = [
        Battery(name, fitting[dtype] if dtype == everything else fitting[dtype][:1])
        for dtype in usual
    ]
    others = [pair for dtype in taken if dtype not in usual for pair in fitting[dtype][:1]]
    return [*made, Battery(name, others)] if others else made


def _strided(array: Any) -> Any:
    """The same values, two elements apart."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 1] = array
    return wide[..., 1]


def _reversed(array: Any) -> Any:
    """The same values, in memory from the last to the first."""
    turned = tuple(slice(None, None, -1) for _ in array.shape)
    return array[turned].copy()[turned]


def _fortran(array: Any) -> Any:
    return np.array(array, order="F")


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda array: array,
    "strided": _strided,
    "reversed": _reversed,
    "fortran": _fortran,
    "read-only": _read_only,
}


NATIVE = tuple(name for name in backends() if name not in BATCHED)


@each_op
@pytest.mark.parametrize("backend", NATIVE)
def test_backends_agree(name: str, backend: str, count: Callable[..., None]) -> None:
    for battery in batteries(name):
        battery.run(backend)
        count("op contract", f"on {backend}")


def families() -> dict[str, list[str]]:
    """The ops by what they are lowered to; mathematical functions apart."""
    found: dict[str, list[str]] = {}
    for name in OPS:
        family = "Function" if name in ULP else type(REGISTRY[name].lowering).__name__
        found.setdefault(family, []).append(name)
    return found


def check_family(family: str, backend: str, count: Callable[..., None], full: bool) -> None:
    if backend not in backends():
        pytest.skip(f"{backend} needs a compiler on Linux")
    made = [batteries(name) for name in families()[family]]
    chosen = [
        battery
        for turn, each in enumerate(made)
        for battery in (each if full else [each[turn % len(each)]])
    ]
    functions = compiled_together(backend, [battery.case for battery in chosen])
    for battery, function in zip(chosen, functions, strict=True):
        battery.check(function, backend)
        count("op contract", f"on {backend}")


@pytest.mark.parametrize("family", families())
def test_cuda_agrees(family: str, count: Callable[..., None]) -> None:
    """One translation unit a family: what is compiled for a GPU, executed by the emulator."""
    check_family(family, "cuda-emulator", count, full=True)


@pytest.mark.skipif(bool(cuda.missing()), reason="; ".join(cuda.missing()))
@pytest.mark.parametrize("family", families())
def test_a_gpu_agrees(family: str, count: Callable[..., None]) -> None:
    for name in families()[family]:
        for battery in batteries(name):
            battery.run("cuda")
            count("op contract", "on cuda")


@pytest.mark.slow
@pytest.mark.skipif("cuda-emulator" not in backends(), reason="the emulator needs g++ on Linux")
def test_what_runs_on_a_gpu_runs_on_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """An op of each family, by the very calls that `test_a_gpu_agrees` makes."""
    pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
    from tests.runtime import fake_cuda

    monkeypatch.setattr(fake_cuda, "MEMORY_BYTES", 1 << 30)
    gpu = fake_cuda.put_in_place(monkeypatch)
    for names in families().values():
        batteries(names[0])[0].run("cuda")
    assert gpu.launches


@pytest.mark.parametrize("family", families())
def test_c_agrees(family: str, count: Callable[..., None]) -> None:
    """One library a family, of each op one dtype in turn: the slow test has the others."""
    check_family(family, "c", count, full=False)


@pytest.mark.slow
@pytest.mark.parametrize("family", families())
def test_c_agrees_in_every_dtype(family: str, count: Callable[..., None]) -> None:
    check_family(family, "c", count, full=True)


@pytest.mark.parametrize("name", [name for name in OPS if any(s.inputs for s in samples(name)[:1])])
def test_non_contiguous(name: str, count: Callable[..., None]) -> None:
    """One layout for each op, in turn; `test_every_backend` has them all."""
    chosen = [s for s in samples(name) if s.inputs]
    layouts = [layout for layout in LAYOUTS if layout != "contiguous"]
    dtype = chosen[0].dtypes[-1]
    fitting = [(s, dtype) for s in chosen if dtype in s.dtypes][:3]
    Battery(name, fitting, layouts[OPS.index(name) % len(layouts)]).run("llvm-1")
    count("op contract", "layouts")


@pytest.mark.slow
@each_op
@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("dtype", ALL)
def test_every_backend(name: str, backend: str, dtype: str, count: Callable[..., None]) -> None:
    for sample in samples(name):
        if dtype in sample.dtypes:
            for layout in LAYOUTS if backend == "llvm-1" and sample.inputs else ["contiguous"]:
                Battery(name, [(sample, dtype)], layout).run(backend)
                count("op contract", f"on {backend}, full product")


@each_op
def test_threads_give_the_same_bits(name: str, count: Callable[..., None]) -> None:
    for sample in samples(name)[:1]:
        dtype = sample.dtypes[-1]
        symbols = sample.symbols(dtype)
        outputs, arrays = results(sample.node(symbols)), sample.arrays(dtype)
        one, two = (run(b, Case(symbols, outputs), arrays) for b in ("llvm-1", "llvm-2"))
        assert [a.tobytes() for a in one] == [a.tobytes() for a in two]
        count("op contract", "threads")


# -- values ----------------------------------------------------------------------------------------

POINTS = 1500
REFERENCES: dict[str, Callable[..., Any]] = {
    "power": mpmath.power,
    "arctan2": mpmath.atan2,
    "logaddexp": lambda x, y: max(x, y)
    + mpmath.log1p(mpmath.exp(-min(abs(x - y), mpmath.mpf(5000)))),
    "logaddexp2": lambda x, y: max(x, y)
    + mpmath.log1p(mpmath.mpf(2) ** -min(abs(x - y), mpmath.mpf(5000))) / mpmath.log(2),
    "xlogy": lambda x, y: x * mpmath.log(y) if x else x * 0,
    "xlog1py": lambda x, y: x * mpmath.log1p(y) if x else x * 0,
    **{name: EXACT[name].exact for name in ELEMENTWISE if name in EXACT},
    **{
        f"arc{name}": EXACT[f"a{name}"].exact
        for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")
    },
    "gammaln": EXACT["lgamma"].exact,
    "hypot": mpmath.hypot,
}


def value_points(op: Op, arity: int, dtype: str) -> list[np.ndarray]:
    """Bit patterns, then the op's domain, then pairs of all special values with each other."""
    random = np.random.default_rng([POINTS, *map(ord, op.name)])
    arrays = [bit_patterns(dtype, POINTS, random) for _ in range(arity)]
    if is_float(np.dtype(dtype)):
        intervals = op.domain or samples(op.name)[0].inputs
        bounds = [(i.low, i.high) if op.domain else i.interval for i in intervals]
        spread = [random.uniform(low, high, POINTS).astype(dtype) for low, high in bounds]
        arrays = [np.concatenate(pair) for pair in zip(arrays, spread, strict=True)]
    if arity == 2:
        pairs = np.array(list(itertools.product(range(len(special(dtype))), repeat=2))).T
        arrays = [
            np.concatenate([a, special(dtype)[p]]) for a, p in zip(arrays, pairs, strict=True)
        ]
    return legal(op, arrays)


@each_elementwise
def test_values(name: str, count: Callable[..., None]) -> None:
    """Native code over full bit patterns: exact, or within the stated ULP of the true value."""
    op, arity = REGISTRY[name], ARITY[name]
    for dtype in samples(name)[0].dtypes:
        arrays = value_points(op, arity, dtype)
        symbols = [gx.symbol(f"x{i}", array.shape, dtype) for i, array in enumerate(arrays)]
        outputs = results(op(*symbols))
        got = run("llvm-1", Case(symbols, outputs, split=False), arrays)
        want = evaluator(symbols, outputs, arrays)
        for have, expected in zip(got, want, strict=True):
            if name in ULP:
                check_ulp(name, arrays, have, expected)
            else:
                check_exact(have, expected, f"{name} {dtype}", either_zero=name in EITHER_ZERO)
        count("op contract", "values", arrays[0].size)


def check_ulp(name: str, arrays: list[np.ndarray], got: np.ndarray, numpy: np.ndarray) -> None:
    """Assert that `got` is near the true value; where that is not finite, that it is what NumPy
    gives.
    """
    check_type(got, numpy, name)
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(numpy) & np.all([np.isfinite(a) for a in arrays], axis=0)
    if name == "arctan2":  # whose value hangs on the signs of zeros, which mpmath does not have
        finite &= np.all([a != 0 for a in arrays], axis=0)
    check_exact(
        np.where(finite, 0, got),
        np.where(finite, 0, numpy),
        f"{name} {got.dtype} at special values",
    )
    true, rest = true_values(name, [a[finite] for a in arrays])
    with np.errstate(all="ignore"):
        apart = np.abs((got[finite].astype(np.longdouble) - true) - rest)
    ulp = unit(name, arrays[0][finite], true.astype(got.dtype)).astype(np.longdouble)
    error = np.where(apart == 0, 0, apart / ulp)
    worst = int(np.argmax(error)) if error.size else 0
    assert not error.size or error[worst] <= ULP[name], (
        f"{name} {got.dtype} at {[a[finite][worst] for a in arrays]}: "
        f"{float(error[worst]):.2f} ULP, stated are {ULP[name]}"
    )


def true_values(name: str, arrays: list[np.ndarray]) -> tuple[Any, Any]:
    """The true values as two terms: the nearest float64, and what is left.

    For narrower floats, NumPy's float64 function is as good as the truth.
    """
    if arrays[0].dtype != np.float64:
        with np.errstate(all="ignore"):
            wide = REGISTRY[name].numpy(*[a.astype(F64) for a in arrays])
        return wide.astype(np.longdouble), np.zeros(len(wide), np.longdouble)
    first, second = [], []
    with mpmath.workprec(120):
        for point in zip(*[a.tolist() for a in arrays], strict=True):
            value = REFERENCES[name](*map(mpmath.mpf, point))
            nearest = float(value)
            first.append(nearest)
            second.append(float(value - mpmath.mpf(nearest)))
    return np.array(first, np.longdouble), np.array(second, np.longdouble)


# -- derivatives -----------------------------------------------------------------------------------


class Directional:
    """One sample as a smooth function of its float inputs, with a direction for them and weights
    for its results.
    """

    def __init__(self, sample: Sample, seed: int = 0) -> None:
        self.symbols = sample.symbols(F64)
        self.arrays = sample.arrays(F64, seed)
        self.outputs = [r for r in results(sample.node(self.symbols)) if is_real(r)]
        self.moving = [i for i, s in enumerate(self.symbols) if is_real(s)]
        self.inputs = [self.symbols[i] for i in self.moving]
        random = np.random.default_rng(seed + 1)
        self.tangents = [random.uniform(-1, 1, s.shape) for s in self.inputs]
        self.cotangents = [random.uniform(-1, 1, o.shape) for o in self.outputs]

    def value(self, nodes: list[Node], step: Any = 0.0) -> list[Any]:
        """The values of nodes at the point moved by `step` along the direction."""
        arrays = list(self.arrays)
        for i, tangent in zip(self.moving, self.tangents, strict=True):
            arrays[i] = arrays[i] + step * tangent
        return evaluator(self.symbols, nodes, arrays)

    def pushed(self) -> list[Any]:
        return gx.jvp(self.outputs, self.inputs, self.tangents)

    def pulled(self) -> list[Any]:
        return gx.vjp(self.outputs, self.inputs, self.cotangents)


def richardson(function: Callable[[float], list[Any]], step: float = 1e-2, levels: int = 4) -> Any:
    """The derivative at 0 by central differences with halved steps, extrapolated; and how far it is
    off.
    """
    rows: list[list[Any]] = []
    for level in range(levels):
        h = step / 2**level
        row = [[(b - a) / (2 * h) for a, b in zip(function(-h), function(h), strict=True)]]
        for order in range(level):
            factor = 4.0 ** (order + 1)
            finer, coarser = row[order], rows[level - 1][order]
            row.append(
                [(factor * f - c) / (factor - 1) for f, c in zip(finer, coarser, strict=True)]
            )
        rows.append(row)
    return rows[-1][-1]


def inner(first: list[Any], second: list[Any]) -> tuple[float, float]:
    """The inner product of two lists of arrays, and the sum of the absolute terms."""
    terms = [np.sum(a * b) for a, b in zip(first, second, strict=True)]
    sizes = [np.sum(np.abs(a * b)) for a, b in zip(first, second, strict=True)]
    return float(sum(terms)), float(sum(sizes))


def close(got: Any, want: Any, tolerance: float, what: str) -> None:
    scale = 1.0 + np.abs(want)
    assert got.shape == want.shape, what
    assert np.all(np.abs(got - want) <= tolerance * scale), f"{what}: {got} against {want}"


@each_differentiable
def test_forward_and_reverse_agree(name: str, count: Callable[..., None]) -> None:
    """<cotangent, J tangent> = <J' cotangent, tangent>."""
    for sample in smooth_samples(name):
        point = Directional(sample)
        pushed, pulled = point.value(point.pushed()), point.value(point.pulled())
        left, left_size = inner(point.cotangents, pushed)
        right, right_size = inner(pulled, point.tangents)
        assert abs(left - right) <= 1e-12 * (left_size + right_size), (sample.label, left, right)
        count("op contract", "dot tests")


@each_differentiable
def test_derivative(name: str, count: Callable[..., None]) -> None:
    for sample in smooth_samples(name):
        point = Directional(sample)
        want = richardson(lambda h, p=point: p.value(p.outputs, h))
        for got, expected in zip(point.value(point.pushed()), want, strict=True):
            close(got, expected, 1e-8, f"jvp of {name}, {sample.label}")
        count("op contract", "derivatives")


ANALYTIC = (
    *("add", "subtract", "multiply", "divide", "negative", "square", "sqrt", "exp", "expm1", "log"),
    *("log1p", "tanh", "sin", "cos", "power", "exp2", "log2", "log10", "sinh", "cosh", "tan"),
    *("arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
)


@pytest.mark.parametrize("name", ANALYTIC)
def test_derivative_by_complex_step(name: str, count: Callable[..., None]) -> None:
    """Im f(x + i h v) / h has no cancellation: the partials hold to the last digits."""
    step = 1e-100
    for sample in smooth_samples(name):
        point = Directional(sample)
        moved = [a + 1j * step * t for a, t in zip(point.arrays, point.tangents, strict=True)]
        want = np.imag(REGISTRY[name].numpy(*moved)) / step
        (got,) = point.value(point.pushed())
        close(got, want, 1e-13, f"jvp of {name}, {sample.label}")
        count("op contract", "complex steps")


@each_differentiable
def test_second_derivative(name: str, count: Callable[..., None]) -> None:
    """The gradient is differentiated once more, by both modes, against differences of itself."""
    for sample in smooth_samples(name):
        point = Directional(sample, seed=3)
        gradient = point.pulled()
        want = richardson(lambda h, p=point, g=gradient: p.value(g, h))
        forward = point.value(gx.jvp(gradient, point.inputs, point.tangents))
        for got, expected in zip(forward, want, strict=True):
            close(got, expected, 1e-7, f"second derivative of {name}, {sample.label}")
        weights = [gx.constant(t) for t in point.tangents]
        reverse = point.value(gx.vjp(gradient, point.inputs, weights))
        left, left_size = inner(reverse, point.tangents)
        right, right_size = inner(point.tangents, forward)
        assert abs(left - right) <= 1e-11 * (left_size + right_size + 1e-300), sample.label
        count("op contract", "second derivatives")


def partial_ops() -> list[str]:
    return [n for n in ELEMENTWISE if isinstance(REGISTRY[n].derivative, Partials)]


@pytest.mark.parametrize("name", partial_ops())
def test_derivative_at_the_edges(name: str, count: Callable[..., None]) -> None:
    """Where arguments and value are finite a partial is finite, unless the op says that it may not
    be.
    """
    op, arity = REGISTRY[name], ARITY[name]
    derivative = op.derivative
    assert isinstance(derivative, Partials)
    arrays = value_points(op, arity, F64)
    symbols = [gx.symbol(f"x{i}", array.shape, F64) for i, array in enumerate(arrays)]
    outputs = results(op(*symbols))
    values = evaluator(symbols, outputs, arrays)
    tame = np.all([np.isfinite(v) & (np.abs(v) < 1e150) for v in (*values, *arrays)], axis=0)
    for i, symbol in enumerate(symbols):
        ones = gx.ones(symbol.shape)
        for partial in evaluator(symbols, gx.jvp(outputs, [symbol], [ones]), arrays):
            wild = tame & ~np.isfinite(partial)
            if i not in derivative.singular and np.any(wild):
                at = [float(a[wild][0]) for a in arrays]
                pytest.fail(
                    f"the partial of {name} by argument {i} is not finite at {at}: declare it "
                    "singular"
                )
        if i in derivative.singular:
            zeros = [gx.zeros(o.shape) for o in outputs]
            (pulled,) = evaluator(symbols, gx.vjp(outputs, [symbol], zeros), arrays)
            assert not np.any(pulled), (
                f"{name}: a cotangent of zero gives {pulled[pulled != 0][:3]}"
            )
        count("op contract", "edges")


# -- laws and facts --------------------------------------------------------------------------------


def ulps_apart(first: Any, second: Any) -> Any:
    """Distance in units in the last place; 0 where both are equal or NaN."""
    with np.errstate(all="ignore"):
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        apart = np.abs(first.astype(np.longdouble) - second.astype(np.longdouble)) / spacing(second)
    return np.where(same, 0, apart)


def holds(law: str, function: Callable[..., Any], arrays: list[Any]) -> bool:
    """Whether a law holds at points: exactly, or within rounding where it is a law of the reals."""
    x, *rest = arrays
    loose = 4 if is_float(x.dtype) else 0
    if x.dtype.kind == "u" and law in ("odd", "even"):
        return True  # laws of signs: -x wraps around
    if law == "odd" and loose == 0:
        x = x[x != np.iinfo(x.dtype).min]  # it has no opposite

    def equal(first: Any, second: Any, ulps: float = 0) -> bool:
        if not is_float(x.dtype) or not is_float(first.dtype):
            return bool(np.all(first == second))
        return bool(np.all(ulps_apart(first, second) <= ulps))

    if law == "commutative":
        return equal(function(x, rest[0]), function(rest[0], x))
    if law == "associative":
        y, z = rest[0], np.roll(x, 1)
        left, right = function(function(x, y), z), function(x, function(y, z))
        near = 0.0 if loose == 0 else 100 * float(ml_dtypes.finfo(x.dtype).eps)
        return equal(left, right) if loose == 0 else bool(np.allclose(left, right, near, near))
    if law == "odd":
        return equal(function(-x), -function(x), 1)
    if law == "even":
        return equal(function(-x), function(x), 1)
    if law == "involution":
        return equal(function(function(x)), x)
    if law == "idempotent":
        return equal(function(x, x), x) if rest else equal(function(function(x)), function(x))
    assert law == "increasing"
    ordered = np.sort(x[~np.isnan(x)])
    values = function(ordered)
    values = values[~np.isnan(values)]
    slack = loose * spacing(values) if is_float(values.dtype) else 0
    with np.errstate(all="ignore"):
        return bool(np.all(values[1:] >= (values - slack)[:-1]))


@pytest.mark.parametrize("name", [n for n in OPS if REGISTRY[n].laws])
def test_laws_are_true(name: str, count: Callable[..., None]) -> None:
    op, arity = REGISTRY[name], ARITY[name]
    for dtype in samples(name)[0].dtypes:
        arrays = value_points(op, arity, dtype)
        if "associative" in op.laws and is_float(np.dtype(dtype)):
            # the law is one of the reals: no infinities
            arrays = [a[POINTS : 2 * POINTS] for a in arrays]

        def function(*given: Any) -> Any:
            with np.errstate(all="ignore"):
                return op.numpy(*given)

        with np.errstate(all="ignore"):
            for law in op.laws:
                assert holds(law, function, arrays), f"{name} is not {law} in {dtype}"
                count("op contract", "laws")


# What each fact says of an element; all but "finite" leave NaN aside.
FACT_HOLDS: dict[str, Callable[[Any], Any]] = {
    "nonnegative": lambda x: ~(x < 0),
    "positive": lambda x: ~(x <= 0),
    "unsigned": lambda x: np.isnan(x) | ~np.signbit(x.astype(np.float64)),
    "finite": np.isfinite,
    "integer": lambda x: ~np.isfinite(x) | (x == np.round(x)),
}


def has(fact: str, values: Any) -> Any:
    """Whether each element has a fact."""
    with np.errstate(invalid="ignore"):
        return FACT_HOLDS[fact](values)


def assumptions() -> list[frozenset[str]]:
    """Every set of facts that an argument may come with."""
    names = sorted(FACT_HOLDS.keys() & FACTS)
    return [frozenset(s) for r in range(len(names) + 1) for s in itertools.combinations(names, r)]


def concluded(node: Node, known: frozenset[str]) -> list[frozenset[str]]:
    """What is said of a node whose arguments are known to have some facts: by its record, and by
    the rewriter.
    """
    record = node.op.facts
    said = [] if record is None else [record(node, lambda _: known)]
    return [*said, facts_of(node)]


@each_op
def test_facts_are_sound(name: str, count: Callable[..., None]) -> None:
    """Whatever is known of the arguments, what is concluded of the result holds, in every dtype."""
    random = np.random.default_rng(11)
    for sample in samples(name):
        for dtype, known in itertools.product(sample.dtypes, assumptions()):
            check_facts(sample, dtype, known, random)
        count("op contract", "facts", len(sample.dtypes) * len(assumptions()))


def check_facts(
    sample: Sample, dtype: str, known: frozenset[str], random: np.random.Generator
) -> None:
    plain = sample.symbols(dtype)
    changeable = [
        s.dtype.name == dtype and i.dtype is None for s, i in zip(plain, sample.inputs, strict=True)
    ]
    symbols = [
        gx.symbol(s.attrs["name"], s.shape, s.dtype, sorted(known)) if change else s
        for s, change in zip(plain, changeable, strict=True)
    ]
    arrays = [
        tame(array, known, random) if change else array
        for array, change in zip(sample.arrays(dtype), changeable, strict=True)
    ]
    node = sample.node(symbols)
    if not isinstance(node.type, TensorType):
        return
    arrays = legal(node.op, arrays)
    (value,) = evaluator(symbols, [node], arrays)
    for said in concluded(node, known):
        for fact in said & FACT_HOLDS.keys():
            bad = ~has(fact, value)
            assert not np.any(bad), (
                f"{sample.name} ({sample.label}) of {dtype} values that are "
                f"{sorted(known) or 'arbitrary'} is said "
                f"to be {fact}, but it gives {value[bad][0]!r} of "
                f"{[a[:9] if a.ndim else a for a in arrays]}"
            )


def tame(array: Any, known: frozenset[str], random: np.random.Generator) -> Any:
    """Any values at all that have some facts, in the shape of an array."""
    points = np.concatenate(
        [special(array.dtype.name), bit_patterns(array.dtype.name, 100, random)]
    )
    with np.errstate(invalid="ignore"):
        points = points[np.all([has(fact, points) for fact in known] or [points == points], axis=0)]
    return random.choice(points, array.shape)


# -- what is left out ------------------------------------------------------------------------------


# Forms that say themselves how an op is mapped over a further axis.
MAPPED = (Elementwise, Generate, Leaf, Reduce, Verify)


def left_out(op: Op) -> list[str]:
    """What a record does not say, or says only in part."""
    found = []
    if isinstance(op.derivative, NoDerivative):
        found.append(f"no derivative: {op.derivative.why}")
    if isinstance(op.derivative, Linear) and op.derivative.arguments is not None:
        found.append(f"derivative by arguments {list(op.derivative.arguments)} only")
    if isinstance(op.derivative, Partials) and op.derivative.singular:
        found.append(f"partials by {list(op.derivative.singular)} may be infinite")
    if op.facts is None:
        found.append("no facts")
    if not op.laws and isinstance(op.lowering, Elementwise):
        found.append("no laws")
    if op.batch is None and not isinstance(op.lowering, MAPPED):
        found.append("mapped by a loop")
    if not op.text:
        found.append("printed as a call")
    if not op.latex:
        found.append("no LaTeX")
    if not op.doc:
        found.append("no doc")
    if op.name not in LEAVES and is_inexact(op):
        found.append("not exact on every backend")
    taken = {d for d in ALL if any(d in s.dtypes for s in table().get(op.name, ()))}
    if op.name not in LEAVES and len(taken) < len(ALL):
        found.append(f"only {', '.join(_families_of(taken))}")
    return found


def _families_of(taken: set[str]) -> list[str]:
    """Dtypes by name, or by the name of a whole family."""
    named = []
    for family, members in (("integers", INTEGERS), ("floats", FLOATS)):
        if taken.issuperset(members):
            named.append(family)
            taken = taken - set(members)
    return [*sorted(taken), *named]


def test_golden_list_of_what_is_left_out(pytestconfig: pytest.Config) -> None:
    names = [*LEAVES, *sorted(OPS)]
    text = "".join(
        f"{name}: {'; '.join(left_out(REGISTRY[name])) or 'nothing'}\n" for name in names
    )
    if pytestconfig.getoption("--regenerate"):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text, "run pytest --regenerate and read the difference"


def test_compiled_is_reusable() -> None:
    """The harness itself: a compiled sample can be called again with other values."""
    x = gx.vector("x", 3)
    function = compiled("llvm-1", Case([x], [gx.exp(x)]))
    for value in (0.0, 1.0):
        (got,) = function(np.full(3, value))
        assert np.allclose(got, np.exp(value))
