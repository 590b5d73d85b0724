"""Where can a graph run, and when do two results count as equal?

`run` takes a graph to one of the backends: the kernel interpreter, native code on one thread and on
two, the CUDA C++ text on an emulator. The truth is `graphc.evaluate`. Kernels of test size would
never be split over threads, so a `Case` is compiled with the constants that decide on splitting
made small.

The rule of comparison: exact for integers, bool, movement and IEEE arithmetic; a stated number of
ULP for mathematical functions; `c * eps * sum |terms|` for sums. In a graph of many nodes these
errors are carried on and magnified. `Judge` finds out how far, by evaluating the graph several
times with the result of every inexact op disturbed by as much as the rule allows: what differs
between such runs may differ between backends, and nothing else may.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

import graphc as gx
import graphc.ops  # noqa: F401
from graphc.codegen import tactics
from graphc.dtypes import is_float
from graphc.graph import substitute_in
from graphc.lowering import View
from graphc.node import Node, topological
from graphc.op import Op

Arrays = Sequence[Any]

# -- the table of what may differ ------------------------------------------------------------------

# The most units in the last place by which native code may differ from the true value.
ULP: dict[str, float] = {
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh", "tanh", "sigmoid"), 1.0),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "logit", "cbrt", "power"), 1.0),
    **dict.fromkeys(("arcsinh", "arccosh", "arctanh", "sin", "cos", "tan", "sinc"), 1.0),
    **dict.fromkeys(("arcsin", "arccos", "arctan", "arctan2", "erf"), 1.0),
    **dict.fromkeys(("softplus", "xlogy", "xlog1py", "silu", "mish"), 1.0),
    "erfc": 1.25,
    **dict.fromkeys(("gelu", "ndtr"), 1.5),
    "normal_density": 1.0,
    **dict.fromkeys(("logaddexp", "logaddexp2"), 3.5),
    **dict.fromkeys(("erfinv", "erfcinv", "gammaln", "gamma", "digamma"), 4.0),
    **dict.fromkeys(("i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1"), 4.0),
    "polygamma": 9.0,
    "hypot": 1.0,
}
# Decompositions of matrices: the results are those of matrices that are off by so many eps of their
# largest element.
BACKWARD = ("cholesky", "lu", "triangular_solve", "solve", "qr", "eigh", "svd", "pinv", "expm")
BACKWARD_FACTOR = 8.0
# Below these arguments, where the function has zeros that no float is near, a unit in the last
# place is one of 1 at least; `logaddexp` and the Bessel functions have zeros everywhere.
ZEROS_BELOW = {
    "gammaln": -0.5,
    "digamma": 0.0,
    **dict.fromkeys(("logaddexp", "logaddexp2", "j0", "j1", "y0", "y1"), float("inf")),
}
# Sums of products and products: the result may be off by this many eps * sum |terms|, or eps *
# |product|.
SUM_FACTOR = 4.0
SUMS = ("sum", "contract", "convolve", "scatter_add", "scatter_mul")
PRODUCTS = ("prod", "all_but_one")
# Running combinations are made in order, so that they are exact, unless a step is a function.
RUNNING = ("cumulate",)
STEP_ULP = 4.0
# Exact under IEEE rules, but rounded: rewriting may round elsewhere.
ROUNDED = (
    *("add", "subtract", "difference", "multiply", "strong_multiply", "divide", "strong_divide"),
    *("square", "sqrt", "cast"),
)
# Either zero is right where NumPy itself does not say which one it gives: it depends on its SIMD
# loops.
EITHER_ZERO = frozenset(("maximum", "minimum", "relu", "max", "min", *SUMS, *PRODUCTS))
# The sign of a NaN is nobody's promise, but for those that set it.
KEEPS_SIGN = frozenset(("negative", "absolute", "copysign"))


def is_inexact(op: Op) -> bool:
    """Whether backends may round the results of an op differently."""
    return op.name in (*ULP, *SUMS, *PRODUCTS, *RUNNING, *BACKWARD)


# What a program may raise at run time, on the evaluator and natively.
RAISED = (ValueError, IndexError, ZeroDivisionError, OverflowError, TypeError)

# -- backends --------------------------------------------------------------------------------------


@functools.cache
def backends() -> tuple[str, ...]:
    """The names of the backends that can run here."""
    names = ["interpreter", "llvm-1", "llvm-2"]
    if shutil.which("gcc") is not None and sys.platform == "linux":
        names.append("c")
    if shutil.which("g++") is not None and sys.platform == "linux":
        names.append("cuda-emulator")
    return tuple(names)


# Their compilers take longer than everything else: they are given many cases at once.
BATCHED = ("c", "cuda-emulator")


def evaluator(inputs: Sequence[Node], outputs: Sequence[Node], arrays: Arrays) -> list[Any]:
    """The truth: each op's NumPy function over the graph as written."""
    values = dict(zip(inputs, arrays, strict=True))
    return [np.asarray(value) for value in gx.evaluate(list(outputs), values)]


@dataclass(frozen=True)
class Case:
    """A graph to be compiled. `math` None lowers it as it was written, so that a fault is one of
    lowering or printing.

    `split`: kernels are shared out among threads and split in parts although they are small.
    """

    inputs: Sequence[Node]
    outputs: Sequence[Node]
    math: str | None = None
    split: bool = True
    exclude: frozenset[str] = frozenset()

    def options(self, threads: int) -> gx.Options:
        from graphc.rewrite import RULES

        exclude = frozenset(RULES) if self.math is None else self.exclude
        return gx.Options(threads=threads, math=self.math or "ieee", exclude=exclude, cache=False)

    def compile(self, target: str, threads: int = 1) -> Any:
        with self.sizes_of_work():
            return gx.compile(
                list(self.inputs), list(self.outputs), target=target, options=self.options(threads)
            )

    @contextlib.contextmanager
    def sizes_of_work(self) -> Iterator[None]:
        """The constants that decide on splitting, small: a strided variant is lowered when it is
        first called. What reads them is imported first: it would keep what it found.
        """
        for name in ("codegen.lower", "codegen.lanes", "codegen.c", "codegen.cuda"):
            importlib.import_module(f"graphc.{name}")
        importlib.import_module("graphc.runtime.printing")
        changed = _constants_of_work(len(sys.modules)) if self.split else ()
        for module, name, _ in changed:
            setattr(module, name, SMALL_WORK[name])
        try:
            yield
        finally:
            for module, name, usual in changed:
                setattr(module, name, usual)


# Elements that make work worth handing out, elements in a part of a split reduction, elements that
# make one be split; columns that are long, strips of them, rows that are wide together; arrays that
# are read in tiles; vectors that a light loop takes at once, and sums that are under way in it, so
# that arrays of test size see the loop over whole vectors, too.
_SMALL_PARTS = {"part_elements": 5, "split_elements": 8}
_SMALL_TILES = {"turned_elements": 12, "turned_pieces": 12, "turned_rows": 3, "turned_bytes": 0}
_SMALL_STRIPS = {
    "long_column": 6,
    "parted_column": 3,
    "streamed_elements": 8,
    "strip_elements": 8,
    "strip_rows": 2,
    "strip_width": 3,
    "narrow_strip": 1,
    "wide_row": 8,
}
SMALL_WORK = {
    "GRAIN": 2,
    "CPU": dataclasses.replace(tactics.CPU, **_SMALL_PARTS, **_SMALL_TILES, **_SMALL_STRIPS),
    "NATIVE": dataclasses.replace(tactics.NATIVE, **_SMALL_PARTS, **_SMALL_TILES, **_SMALL_STRIPS),
    "GPU": dataclasses.replace(
        tactics.GPU, **_SMALL_PARTS, **_SMALL_TILES, split_rows=3, whole_elements=6
    ),
    "LEAST_CARRIED": 8,
    "LEAST_WIDE_ROWS": 2,
    "TURNED_SIDE": 3,
    "MOST_STEPPED": 1,
    "LONG_ROW": 3,
    "UNROLL": 1,
    "SUMS_UNDER_WAY": 1,
}


@functools.lru_cache(1)
def _constants_of_work(modules: int) -> tuple[tuple[Any, str, int], ...]:
    """Where the constants of `SMALL_WORK` are read, with their usual values, while so many modules
    are imported.
    """
    codegen = [m for key, m in sys.modules.items() if key.startswith("graphc.codegen.")]
    found = [
        (m, name, getattr(m, name)) for m in codegen for name in SMALL_WORK if hasattr(m, name)
    ]
    assert {name for _, name, _ in found} == SMALL_WORK.keys(), found
    return tuple(found)


def compiled(backend: str, case: Case) -> Callable[..., list[Any]]:
    """A callable that takes the arrays of `case.inputs` and gives those of `case.outputs`."""
    if backend in BATCHED:
        return compiled_together(backend, [case])[0]
    if backend in ("interpreter", "cuda"):
        function = case.compile({"interpreter": "interpret"}.get(backend, backend))
    else:
        function = case.compile("cpu", threads=int(backend[-1]))

    def call(*arrays: Any) -> list[Any]:
        with case.sizes_of_work():
            return [np.asarray(result) for result in function(*arrays)]

    return call


def compiled_together(backend: str, cases: Sequence[Case]) -> list[Callable[..., list[Any]]]:
    """The same for many cases on a backend of `BATCHED`."""
    return {"c": _compiled_for_c, "cuda-emulator": _compiled_for_cuda}[backend](cases)


def _compiled_for_c(cases: Sequence[Case]) -> list[Callable[..., list[Any]]]:
    """All cases in one shared library."""
    from tests.codegen import c_host

    sources = []
    for number, case in enumerate(cases):
        with case.sizes_of_work():
            inputs, outputs = list(case.inputs), list(case.outputs)
            options, name = case.options(1), f"case{number}"
            sources.append(gx.emit(inputs, outputs, "c", options=options, name=name))
    library = c_host.Library(sources, c_host.QUICK)

    def caller(name: str) -> Callable[..., list[Any]]:
        def call(*arrays: Any) -> list[Any]:
            outcome = library.run(name, arrays)
            assert outcome.status[0] == 0, f"a check failed: {outcome.message}"
            return outcome.outputs

        return call

    return [caller(source.name) for source in sources]


def _compiled_for_cuda(cases: Sequence[Case]) -> list[Callable[..., list[Any]]]:
    """All cases in one translation unit."""
    from tests.codegen import cuda_host

    programs = []
    for number, case in enumerate(cases):
        with case.sizes_of_work():
            inputs, outputs = list(case.inputs), list(case.outputs)
            options, name = case.options(1), f"case{number}"
            programs.append(gx.emit(inputs, outputs, "cuda", options=options, name=name))
    module = cuda_host.compile_programs(programs)

    def caller(program: Any) -> Callable[..., list[Any]]:
        def call(*arrays: Any) -> list[Any]:
            sizes = cuda_host.sizes_of(program, arrays)
            given = [np.array(array, order="C") for array in arrays]
            outcome = cuda_host.run(program, given, sizes, module=module)
            assert outcome.failure[0] == 0, f"a check failed: {outcome.failure}"
            return outcome.outputs

        return call

    return [caller(program) for program in programs]


def run(backend: str, case: Case, arrays: Arrays) -> list[Any]:
    """Compile and call once."""
    return compiled(backend, case)(*arrays)


# -- comparison ------------------------------------------------------------------------------------


def spacing(value: Any) -> Any:
    """One unit in the last place at each element: the distance to the next float away from zero."""
    value = np.abs(np.asarray(value))
    top = ml_dtypes.finfo(value.dtype).max / 2  # NumPy's spacing of the largest float is infinite
    with np.errstate(all="ignore"):
        return np.where(value <= top, np.spacing(value), 2 * np.spacing(top)).astype(value.dtype)


def unit(name: str, first: Any, value: Any) -> Any:
    """The unit in which the error of a mathematical function is measured, at each element."""
    if name not in ZEROS_BELOW:
        return spacing(value)
    size = np.abs(value)
    least = np.ones((), value.dtype)
    return spacing(np.where(first < ZEROS_BELOW[name], np.maximum(size, least), size))


def differences(got: Any, want: Any, either_zero: bool = False) -> Any:
    """Where two arrays of one dtype differ: NaN equals NaN, and -0.0 is not 0.0 unless
    `either_zero`.
    """
    got, want = np.asarray(got), np.asarray(want)
    if not is_float(want.dtype):
        return got != want
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    if not either_zero:
        same &= np.isnan(want) | (np.signbit(got) == np.signbit(want))
    return ~same


def check_type(got: Any, want: Any, what: str) -> None:
    """Assert equal dtype and shape."""
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"


def check_exact(got: Any, want: Any, what: str, either_zero: bool = False) -> None:
    """Assert equal bits, NaN payloads aside."""
    check_type(got, want, what)
    bad = differences(got, want, either_zero)
    assert not np.any(bad), f"{what}: {_worst(got, want, bad)}"


def check_within(got: Any, want: Any, tolerance: Any, what: str) -> None:
    """Assert |got - want| <= tolerance wherever both are finite, and equality elsewhere."""
    check_type(got, want, what)
    with np.errstate(all="ignore"):
        near = np.abs(got.astype(np.longdouble) - want.astype(np.longdouble)) <= tolerance
    bad = differences(got, want, either_zero=True) & ~(near & np.isfinite(want))
    assert not np.any(bad), f"{what}: {_worst(got, want, bad)}"


def _worst(got: Any, want: Any, bad: Any) -> str:
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    lines = [
        f"{int(np.sum(bad))} of {got.size} elements differ; at {list(where)} got {got[where]!r}"
    ]
    lines.append(f"expected {want[where]!r}")
    return ", ".join(lines)


class Judge:
    """Knows the value of a graph, and how far each element may be off on a backend."""

    RUNS = 8
    DEEP = 200  # more runs, before results are said to disagree
    FACTOR = 4.0

    def __init__(
        self,
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        arrays: Arrays,
        *,
        rewritten: bool = False,
        seed: int = 0,
    ) -> None:
        """`rewritten`: by stability rules too, so that all rounding may differ, and what overflowed
        may not.
        """
        self.want = evaluator(inputs, outputs, arrays)
        self.tolerance: list[Any] = [np.zeros(w.shape, np.longdouble) for w in self.want]
        self.unstable = [
            ~np.isfinite(w) if rewritten and is_float(w.dtype) else np.zeros(w.shape, bool)
            for w in self.want
        ]
        self.may_raise = False
        self._given = (inputs, outputs, arrays, rewritten)
        self._random = np.random.default_rng(seed)
        self._look(self.RUNS)

    def _look(self, runs: int) -> None:
        """See in that many disturbed runs what may differ."""
        inputs, outputs, arrays, rewritten = self._given
        for _ in range(runs):
            with disturbed(self._random, rewritten) as touched:
                try:
                    others = evaluator(inputs, outputs, arrays)
                except RAISED:  # what is demanded hangs on the last digit, or on a NaN
                    self.may_raise = True
                    continue
            if not touched:
                break
            for i, (want, other) in enumerate(zip(self.want, others, strict=True)):
                self._learn(i, want, other)

    def _learn(self, i: int, want: Any, other: Any) -> None:
        if not is_float(want.dtype):
            self.unstable[i] |= want != other
            return
        with np.errstate(all="ignore"):
            apart = np.abs(want.astype(np.longdouble) - other.astype(np.longdouble))
        finite = np.isfinite(want) & np.isfinite(other)
        self.unstable[i] |= ~finite & differences(want, other)
        self.tolerance[i] = np.where(
            finite, np.maximum(self.tolerance[i], self.FACTOR * apart), self.tolerance[i]
        )

    def check(self, got: Arrays, what: str) -> None:
        """Assert that results agree with the evaluator; looks more closely before it says no."""
        try:
            self._check(got, what)
        except AssertionError:
            self._look(self.DEEP)
            self._check(got, what)

    def _check(self, got: Arrays, what: str) -> None:
        for i, (have, want) in enumerate(zip(got, self.want, strict=True)):
            label = f"{what}, output {i}"
            check_type(have, want, label)
            steady = np.where(self.unstable[i], want, have)
            if not is_float(want.dtype):
                check_exact(steady, want, label)
            else:
                check_within(steady, want, self.tolerance[i], label)


@contextlib.contextmanager
def disturbed(random: np.random.Generator, rounding: bool = False) -> Iterator[list[str]]:
    """Evaluate with every inexact result moved at random within its bound; yields the names of what
    was moved.

    `rounding`: arithmetic counts as inexact, too.
    """
    touched: list[str] = []

    def execute(
        outputs: Sequence[Node], values: Mapping[Node, Any], sizes: Mapping[str, int]
    ) -> list[Any]:
        held: dict[Node, Any] = dict(values)
        with np.errstate(all="ignore"):
            for node, attrs in _steps(tuple(outputs), tuple(values), tuple(sizes.items())):
                args = [held[argument] for argument in node.args]
                if node.op.name in BACKWARD:
                    touched.append(node.op.name)
                    args = [_nudged(argument, random) for argument in args]
                result = node.op.numpy(*args, **attrs)
                if node.op.name in BACKWARD:  # what is computed is rounded, too
                    parts = result if isinstance(result, tuple) else (result,)
                    moved = tuple(_nudged(part, random) for part in parts)
                    result = moved if isinstance(result, tuple) else moved[0]
                bound = _bound(node.op, args, attrs, result, rounding)
                if bound is not None:
                    touched.append(node.op.name)
                    result = _moved(result, bound, random, node.op.name in EITHER_ZERO)
                if not isinstance(node.op.lowering, View) and _is_odd(result, rounding):
                    touched.append(node.op.name)
                    result = _odd_moved(result, random, node.op.name in KEEPS_SIGN, rounding)
                held[node] = result
        return [held[node] for node in outputs]

    module = sys.modules[gx.evaluate.__module__]
    with mock.patch.object(module, "run", execute):
        yield touched


@functools.lru_cache(16)  # those of one program and its bodies, which is evaluated many times
def _steps(
    outputs: tuple[Node, ...], known: tuple[Node, ...], sizes: tuple[tuple[str, int], ...]
) -> list[tuple[Node, dict[str, Any]]]:
    """The nodes to be evaluated, in order, with the attributes that they have at these sizes."""
    return [
        (node, {name: substitute_in(value, dict(sizes)) for name, value in node.attrs.items()})
        for node in topological(outputs, known=known)
    ]


def _bound(op: Op, args: Arrays, attrs: Any, result: Any, rounding: bool) -> Any:
    """How far the result of an op may be off, for each element; None if it is exact."""
    if isinstance(result, tuple) or not is_float(np.asarray(result).dtype):
        return None
    eps = ml_dtypes.finfo(result.dtype).eps
    if op.name in ULP:
        return (ULP[op.name] + 2) * unit(op.name, args[0], result)
    if op.name in SUMS:
        terms = [np.abs(a) if is_float(a.dtype) else a for a in args]
        return SUM_FACTOR * eps * op.numpy(*terms, **attrs)
    if op.name in PRODUCTS:
        size = np.abs(np.where(np.isfinite(args[0]) & (args[0] != 0), args[0], 1))
        large, small = (op.numpy(part(size, 1), **attrs) for part in (np.maximum, np.minimum))
        ends = np.isinf(large) | (small < ml_dtypes.finfo(result.dtype).tiny)
        bound = SUM_FACTOR * eps * np.abs(result) + spacing(result)
        return np.where(ends, np.inf, bound)  # in another order
    if op.name in RUNNING and attrs["combiner"] == "logaddexp":
        steps = result.shape[attrs["axis"]]
        return STEP_ULP * steps * (spacing(result) + eps)
    if op.name in EITHER_ZERO:
        return np.zeros_like(result)
    if rounding and op.name in ROUNDED:
        return spacing(result)
    return None


def _nudged(array: Any, random: np.random.Generator) -> Any:
    """A matrix that a backward error turns an argument into; positions stay."""
    if not is_float(array.dtype):
        return array
    eps = np.finfo(array.dtype).eps
    size = BACKWARD_FACTOR * eps * np.abs(array[np.isfinite(array)]).max(initial=0)
    return (array + random.uniform(-1, 1, array.shape) * size).astype(array.dtype)


def _is_odd(result: Any, rewritten: bool) -> bool:
    """Whether there are NaNs, or with rewriting numbers that nearly overflow."""
    if isinstance(result, tuple) or not is_float(np.asarray(result).dtype):
        return False
    if not rewritten:
        return bool(np.isnan(result).any())
    return not bool((np.abs(result) < _huge(result.dtype)).all())


def _huge(dtype: Any) -> Any:
    return ml_dtypes.finfo(dtype).max / 1024


def _odd_moved(result: Any, random: np.random.Generator, keeps_sign: bool, rewritten: bool) -> Any:
    """NaNs of either sign. With rewriting, another formula may overflow where this one does not, or
    have a value where this one has none: so infinite and huge numbers and NaNs may be any.
    """
    result = np.asarray(result)
    chosen = random.integers(0, 2, result.shape) == 1
    if not keeps_sign:
        result = np.where(np.isnan(result) & chosen, -result, result)
    if not rewritten:
        return result
    chosen = random.integers(0, 4, result.shape)
    odd = ~(np.abs(result) < _huge(result.dtype))
    finite = random.uniform(-9, 9, result.shape).astype(result.dtype)
    result = np.where(odd & (chosen == 1), finite, result)
    return np.where(odd & (chosen == 2), np.copysign(np.inf, result).astype(result.dtype), result)


def _moved(result: Any, bound: Any, random: np.random.Generator, either_zero: bool) -> Any:
    step = random.uniform(-1, 1, np.shape(result)) * bound
    moved = np.where(np.isfinite(result) & np.isfinite(step), result + step, result)
    over = np.isfinite(result) & np.isinf(bound)  # in another order the terms may overflow, too
    if np.any(over):
        largest = ml_dtypes.finfo(np.asarray(result).dtype).max
        ends = [-np.inf, -largest, 0.0, largest, np.inf, np.nan]
        some = random.choice(ends, np.shape(result))
        moved = np.where(over, some, moved)
    if either_zero:
        flip = random.integers(0, 2, np.shape(result)) == 1
        moved = np.where((moved == 0) & flip, -moved, moved)
    return moved.astype(np.asarray(result).dtype)


__all__ = [
    "BATCHED",
    "EITHER_ZERO",
    "ULP",
    "Case",
    "Judge",
    "backends",
    "check_exact",
    "check_type",
    "check_within",
    "compiled",
    "compiled_together",
    "disturbed",
    "evaluator",
    "is_inexact",
    "run",
    "spacing",
    "unit",
]
