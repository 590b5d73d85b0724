"""What are example arguments of every op? One table, from which the contract test and the random
programs draw.

A `Sample` says the dtypes and shapes of some inputs, which values they take, and how to apply the
op to them. Element-wise ops get theirs from their arity alone; ops with attributes or several
results state them. An op of the registry without samples fails the contract test, unless it is a
leaf.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401, so that NumPy knows bfloat16 by its name
import numpy as np

import graphc as gx
import graphc.ops  # noqa: F401
from graphc import dtypes
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.op import REGISTRY, Op
from graphc.ops.special import project
from graphc.types import TensorType, TupleType

BOOL, INT, F32, F64 = "bool", "int64", "float32", "float64"
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64", INT)
HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, F32, F64)
NUMBERS = (*INTEGERS, *FLOATS)
ALL = (BOOL, *NUMBERS)
# What graphs are mostly made of; the battery tries the others together, see `batteries`.
USUAL = (BOOL, INT, F32, F64)

# Ops that have no value of their own.
LEAVES = ("symbol", "parameter", "placeholder")


@dataclass(frozen=True)
class Input:
    """An argument: `dtype` None stands for the dtype under test; `values` names how it is filled
    (see `fill`).
    """

    shape: tuple[int, ...]
    dtype: str | None = None
    values: str = "domain"
    interval: tuple[float, float] = (-3.0, 3.0)


@dataclass(frozen=True)
class Sample:
    """`apply(*nodes)` is a node of op `name`; its results are the outputs to look at."""

    name: str
    label: str
    inputs: tuple[Input, ...]
    apply: Callable[..., Node]
    dtypes: tuple[str, ...] = ALL
    smooth: bool = True

    @property
    def op(self) -> Op:
        return REGISTRY[self.name]

    def symbols(self, dtype: str, prefix: str = "x") -> list[Node]:
        """Symbols for the inputs."""
        return [
            gx.symbol(f"{prefix}{i}", given.shape, given.dtype or dtype)
            for i, given in enumerate(self.inputs)
        ]

    def node(self, symbols: Sequence[Node]) -> Node:
        """The node of the op; fails if the sample does not show the op it is filed under."""
        made = self.apply(*symbols)
        assert made.op is self.op, f"sample {self.label} of {self.name} makes {made.op.name}"
        return made

    def arrays(self, dtype: str, seed: int = 0) -> list[np.ndarray]:
        random = np.random.default_rng([seed, len(self.inputs), *map(ord, self.name + self.label)])
        return [fill(given, given.dtype or dtype, random) for given in self.inputs]


def results(node: Node) -> list[Node]:
    """The results of a node as tensors."""
    if isinstance(node.type, TupleType):
        return [project(node, i) for i in range(len(node.type.items))]
    return [node]


# -- values ----------------------------------------------------------------------------------------

SPECIAL_FLOATS = (
    *(
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        3.0,
        float("inf"),
        float("-inf"),
        float("nan"),
    ),
    *(
        1e-320,
        -1e-320,
        2.2250738585072014e-308,
        1.17549435e-38,
        1e-45,
        -1e-45,
        1.7e308,
        -1.7e308,
        3.4e38,
    ),
    *(
        709.78,
        710.0,
        -745.0,
        -746.0,
        88.7,
        89.0,
        -103.0,
        -104.0,
        1e-8,
        -1e-8,
        1e-17,
        0.9999999,
        1.0000001,
    ),
    *(
        2.0**31,
        -(2.0**31),
        2.0**53,
        2.0**62,
        2.0**63,
        -(2.0**63),
        1.9e19,
        2.0**24,
        8388607.5,
        1e5,
        1e22,
    ),
)
SPECIAL_INTS = (0, 1, -1, 2, -2, 7, 2**31, -(2**31), 2**53, 2**53 + 1, 2**62, 2**63 + 1025)


def special(dtype: str) -> np.ndarray:
    """The values of a dtype at which something may go wrong."""
    if dtype == BOOL:
        return np.array([False, True])
    if dtype in INTEGERS:
        least, most = dtypes.limits(np.dtype(dtype))
        held = [value for value in SPECIAL_INTS if least <= value <= most]
        return np.array([*held, least, most, most - 1], dtype)
    with np.errstate(over="ignore"):
        return np.array(SPECIAL_FLOATS).astype(dtype)


def bit_patterns(dtype: str, count: int, random: np.random.Generator) -> np.ndarray:
    """Every kind of value: random bits, so all exponents equally, NaN and subnormals included;
    special values first.
    """
    if dtype == BOOL:
        return random.integers(0, 2, count).astype(bool)
    size = np.dtype(dtype).itemsize
    raw = random.bytes(count * size)
    made = np.frombuffer(raw, dtype).copy()
    head = special(dtype)[:count]
    made[: len(head)] = head
    return made


def fill(given: Input, dtype: str, random: np.random.Generator) -> np.ndarray:
    """An array for an input.

    "domain": inside of its interval; "positions": below the extent in `interval[1]`, negative ones
    included; "rising": in order; "true": all true; "distinct": no two elements equal, so that
    extrema are smooth; "between": nor equal to any "distinct" one; "regular": matrices far from
    singular, with singular values far from each other; "definite": positive definite ones.
    `Sample.smooth` is false where even so the op is not.
    """
    size = int(np.prod(given.shape))
    low, high = given.interval
    if given.values == "positions":
        made = random.integers(int(low), int(high), size)
    elif given.values == "true":
        made = np.ones(size, bool)
    elif given.values in ("nonzero", "positive") and dtype in INTEGERS:
        made = random.integers(1, 6, size)
        if given.values == "nonzero":
            made = made * (1 if dtype.startswith("u") else random.choice([-1, 1], size))
    elif given.values in ("distinct", "between") and dtype in INTEGERS:
        made = random.permutation(size) - (0 if dtype.startswith("u") else size // 2)
    elif given.values in ("distinct", "between"):
        made = random.permutation(size) * 0.5 - size / 4 + 0.125
        made = made + 0.0625 if given.values == "between" else made
    elif given.values == "rising":
        low = -3 if np.dtype(dtype).kind in "if" else 0
        made = np.sort(random.integers(int(low), 2, size))
    elif given.values in ("regular", "definite"):
        made = random.uniform(-1, 1, given.shape)
        spread = np.diag(np.arange(1.0, 1.0 + max(given.shape)))
        made = made + spread[: made.shape[-2], : made.shape[-1]]
        made = made @ np.swapaxes(made, -1, -2) if given.values == "definite" else made
    elif dtype == BOOL:
        made = random.integers(0, 2, size).astype(bool)
    elif dtype in INTEGERS:
        made = random.integers(0 if dtype.startswith("u") else -5, 6, size)
    else:
        made = random.uniform(low, high, size)
    return np.asarray(made).astype(dtype).reshape(given.shape)


# -- element-wise ops ------------------------------------------------------------------------------

UNARY = (
    *(
        "negative",
        "absolute",
        "sign",
        "square",
        "sqrt",
        "relu",
        "modf",
        "logical_not",
        "isnan",
        "exp",
        "expm1",
    ),
    *("log", "log1p", "tanh", "sigmoid", "silu", "softplus", "sin", "cos", "erf"),
    *("mish", "gelu", "ndtr", "normal_density"),
    *("exp2", "log2", "log10", "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "logit", "cbrt"),
    *("tan", "arcsin", "arccos", "arctan", "sinc", "erfc", "erfinv", "erfcinv"),
    *("gammaln", "gamma", "digamma", "i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1"),
    *("floor", "ceil", "trunc", "rint", "invert", "bitwise_count", "signbit", "spacing", "frexp"),
)
BINARY = (
    *(
        "add",
        "subtract",
        "multiply",
        "strong_multiply",
        "strong_divide",
        "difference",
        "divide",
        "maximum",
        "minimum",
        "equal",
        "not_equal",
    ),
    *("less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "power"),
    *("arctan2", "logaddexp", "logaddexp2", "xlogy", "xlog1py"),
    *("floor_divide", "remainder", "fmod", "integer_power", "bitwise_and", "bitwise_or"),
    *("bitwise_xor", "left_shift", "right_shift", "copysign", "nextafter", "hypot"),
)
ARITY = {**dict.fromkeys(UNARY, 1), **dict.fromkeys(BINARY, 2)}
SHAPES: dict[str, tuple[int, ...]] = {
    "vector": (37,),
    "matrix": (3, 5),
    "scalar": (),
    "empty": (0, 4),
}
# Where smooth values lie, for ops whose record states no domain.
_DOMAINS: dict[str, tuple[tuple[float, float], ...]] = {
    "sqrt": ((0.1, 5.0),),
    **dict.fromkeys(("divide", "strong_divide"), ((-3.0, 3.0), (0.5, 3.0))),
    **dict.fromkeys(("floor", "ceil", "trunc"), ((2.1, 2.9),)),
    "rint": ((1.6, 2.4),),
    "spacing": ((1.1, 1.9),),
    "frexp": ((1.1, 1.9),),
    **dict.fromkeys(("floor_divide", "remainder", "fmod"), ((3.2, 3.8), (1.0, 1.05))),
    "copysign": ((0.1, 3.0), (0.1, 3.0)),
    "hypot": ((0.5, 3.0), (0.5, 3.0)),
}
# Values of the last argument, for ops that demand something of it; see `fill`.
_LAST_VALUES = {
    **dict.fromkeys(("floor_divide", "remainder", "fmod"), "nonzero"),
    "integer_power": "positive",
}
# The public functions of ops that have another name than theirs.
SPOKEN = {"integer_power": "power"}
# Ops that derivatives and compositions are made of, without a public function of their own.
UNSPOKEN = ("strong_divide", "difference")


def accepts(op: Op, arity: int, dtype: str) -> bool:
    """Whether the op's type rule takes `arity` arguments of that dtype."""
    try:
        op.infer(*[TensorType(dtype, (2,))] * arity)
    except gx.GraphError:
        return False
    return True


def _elementwise(name: str) -> list[Sample]:
    op, arity = REGISTRY[name], ARITY[name]
    if op.domain:
        intervals = tuple((i.low, i.high) for i in op.domain)
    else:
        intervals = _DOMAINS.get(name, ((-3.0, 3.0),) * arity)
    taken = tuple(dtype for dtype in ALL if accepts(op, arity, dtype))
    values = ["domain"] * (arity - 1) + [_LAST_VALUES.get(name, "domain")]

    def inputs(shape: tuple[int, ...]) -> tuple[Input, ...]:
        return tuple(
            Input(shape, values=v, interval=i) for v, i in zip(values, intervals, strict=True)
        )

    return [Sample(name, label, inputs(shape), op, taken) for label, shape in SHAPES.items()]


def legal(op: Op, arrays: Sequence[Any]) -> list[Any]:
    """The arrays of an element-wise op, with 1 for the last where they break what it demands."""
    form = op.lowering
    if not isinstance(form, Elementwise) or form.demand is None:
        return list(arrays)
    *others, last = arrays
    holds = form.demand.numpy(*others, last)
    return [*others, np.where(holds, last, np.ones((), last.dtype))]


# -- everything else -------------------------------------------------------------------------------


def _apply(op: str, **attrs: Any) -> Callable[..., Node]:
    return lambda *nodes: REGISTRY[op](*nodes, **attrs)


def _movement() -> list[Sample]:
    def one(op: str, label: str, given: tuple[int, ...], **attrs: Any) -> Sample:
        return Sample(op, label, (Input(given),), _apply(op, **attrs))

    def two(op: str, label: str, x: tuple[int, ...], y: tuple[int, ...], **attrs: Any) -> Sample:
        return Sample(op, label, (Input(x), Input(y)), _apply(op, **attrs))

    return [
        one("broadcast", "new axis", (3,), shape=(2, 3), axes=(1,)),
        one("broadcast", "stretched", (2, 1, 4), shape=(2, 3, 4), axes=(0, 1, 2)),
        one("broadcast", "scalar", (), shape=(2, 2), axes=()),
        one("broadcast", "to nothing", (1, 4), shape=(0, 4), axes=(0, 1)),
        one("restate", "same", (3, 2), shape=(3, 2)),
        one("reshape", "merge", (2, 3, 4), shape=(6, 4)),
        one("reshape", "split", (6, 4), shape=(2, 3, 2, 2)),
        one("reshape", "mixed", (4, 6), shape=(3, 8)),
        one("reshape", "ones", (1, 5, 1), shape=(5,)),
        one("reshape", "to scalar", (1, 1), shape=()),
        one("reshape", "empty", (0, 3), shape=(5, 0, 2)),
        one("transpose", "matrix", (3, 5), axes=(1, 0)),
        one("transpose", "rotated", (2, 3, 4), axes=(2, 0, 1)),
        one("transpose", "empty", (0, 3), axes=(1, 0)),
        one("slice", "inner", (7, 5), starts=(2, 0), extents=(3, 5), steps=(1, 1)),
        one("slice", "front", (4, 6), starts=(0, 0), extents=(3, 5), steps=(1, 1)),
        one("slice", "stepped", (9, 4), starts=(1, 3), extents=(3, 1), steps=(3, 2)),
        one("slice", "nothing", (4,), starts=(4,), extents=(0,), steps=(1,)),
        one("pad", "both sides", (3, 2), starts=(1, 2), shape=(6, 5), steps=(1, 1)),
        one("pad", "after", (4, 5), starts=(0, 0), shape=(4, 6), steps=(1, 1)),
        one("pad", "stepped", (3,), starts=(2,), shape=(11,), steps=(3,)),
        one("pad", "nothing", (0, 2), starts=(1, 0), shape=(3, 2), steps=(1, 1)),
        *_slides(),
        *_convolutions(),
        two("overlay", "inner", (6, 5), (3, 2), starts=(1, 2), steps=(1, 1)),
        two("overlay", "stepped", (11,), (3,), starts=(2,), steps=(3,)),
        two("overlay", "nothing", (3, 2), (0, 2), starts=(1, 0), steps=(1, 1)),
        two("overlay", "everything", (4,), (4,), starts=(0,), steps=(1,)),
        one("diagonal", "main", (3, 5), offset=0),
        one("diagonal", "above", (2, 4, 4), offset=1),
        one("diagonal", "below", (5, 3), offset=-2),
        one("diagonal", "outside", (2, 2), offset=5),
        one("embed_diagonal", "main", (3,), offset=0, rows=3, columns=5),
        one("embed_diagonal", "above", (2, 3), offset=1, rows=4, columns=4),
        one("embed_diagonal", "below", (3,), offset=-2, rows=5, columns=3),
        one("flip", "one axis", (5,), axes=(0,)),
        one("flip", "two axes", (2, 3, 4), axes=(0, 2)),
        one("flip", "empty", (0, 2), axes=(0,)),
        Sample("concatenate", "two", (Input((2, 3)), Input((4, 3))), _apply("concatenate", axis=0)),
        Sample(
            "concatenate",
            "three, last axis",
            (Input((2, 3)), Input((2, 0)), Input((2, 1))),
            _apply("concatenate", axis=1),
        ),
    ]


def _generated() -> list[Sample]:
    made = []
    for dtype in ALL:
        kind = np.dtype(dtype)
        value = np.arange(6).reshape(2, 3).astype(kind)
        made.append(
            Sample("constant", f"array {dtype}", (), lambda v=value: gx.constant(v), (dtype,))
        )
        made.append(
            Sample(
                "constant",
                f"number {dtype}",
                (),
                lambda v=value[0, 1:2]: gx.constant(v.reshape(())),
                (dtype,),
            )
        )
    for dtype in NUMBERS:
        kind = dtypes.as_dtype(dtype)
        made.append(
            Sample(
                "iota",
                f"line {dtype}",
                (),
                _apply("iota", shape=(5,), axis=0, dtype=kind),
                (dtype,),
            )
        )
        made.append(
            Sample(
                "iota",
                f"inner axis {dtype}",
                (),
                _apply("iota", shape=(2, 3, 2), axis=1, dtype=kind),
                (dtype,),
            )
        )
        made.append(
            Sample(
                "extent", f"number {dtype}", (), _apply("extent", extent=7, dtype=kind), (dtype,)
            )
        )
    return made


def _reductions() -> list[Sample]:
    made = []
    shapes = {
        "line": ((19,), (0,)),
        "rows": ((4, 9), (1,)),
        "columns": ((9, 4), (0,)),
        "middle": ((2, 5, 3), (1,)),
        "outer two": ((2, 5, 3), (0, 2)),
        "all": ((3, 4), (0, 1)),
        "nothing": ((0, 3), (0,)),
        "to nothing": ((3, 0), (0,)),
    }
    kinds = {
        "sum": NUMBERS,
        "prod": NUMBERS,
        "max": NUMBERS,
        "min": NUMBERS,
        "all": (BOOL,),
        "any": (BOOL,),
    }
    for name, taken in kinds.items():
        values = "distinct" if name in ("max", "min") else "domain"
        for label, (shape, axes) in shapes.items():
            given = Input(shape, values=values, interval=(0.5, 1.5) if name == "prod" else (-3, 3))
            # their identities are infinite
            smooth = label != "nothing" or name not in ("max", "min")
            made.append(Sample(name, label, (given,), _apply(name, axes=axes), taken, smooth))
    for label, (shape, axes) in shapes.items():
        given = Input(shape, interval=(0.5, 1.5))
        made.append(
            Sample("all_but_one", label, (given,), _apply("all_but_one", axes=axes), FLOATS)
        )
    for label, shape, axis in (
        ("line", (19,), 0),
        ("rows", (4, 9), 1),
        ("columns", (9, 4), 0),
        ("to nothing", (3, 0), 0),
    ):
        for name in ("argmax", "argmin"):
            given, apply = (Input(shape),), _apply(name, axis=axis)
            made.append(Sample(name, label, given, apply, NUMBERS))
    return made


LINES: dict[str, tuple[tuple[int, ...], int]] = {
    "line": ((19,), 0),
    "rows": ((4, 9), 1),
    "columns": ((9, 4), 0),
    "middle": ((2, 5, 3), 1),
    "one": ((3, 1), 1),
    "nothing": ((2, 0), 1),
    "no lines": ((0, 3), 1),
}


def _running() -> list[Sample]:
    """Running combinations: every way of combining, along every kind of axis, from both ends."""
    made = []
    for i, (label, (shape, axis)) in enumerate(LINES.items()):
        reverse = bool(i % 2)
        for combiner in ("add", "mul", "max", "min", "logaddexp"):
            values = "distinct" if combiner in ("max", "min") else "domain"
            given = Input(shape, values=values, interval=(-1.5, 1.5))
            taken = FLOATS if combiner == "logaddexp" else NUMBERS
            apply = _apply("cumulate", combiner=combiner, axis=axis, reverse=reverse)
            made.append(Sample("cumulate", f"{combiner}, {label}", (given,), apply, taken))
        apply = _apply("recurrence", axis=axis, reverse=reverse)
        given = Input(shape, interval=(-1.5, 1.5))
        made.append(Sample("recurrence", label, (given, given), apply, NUMBERS))
    return made


def _sorting() -> list[Sample]:
    """Lines that are sorted by counting, a longer one by radix, and many short ones in lanes."""
    made = []
    shapes = {
        "line": (19,),
        "rows": (4, 9),
        "planes": (2, 3, 5),
        "one": (3, 1),
        "nothing": (2, 0),
        "no lines": (0, 3),
        "long": (131,),
        "many": (17, 7),
        "many in planes": (2, 9, 18),
    }
    for i, (label, shape) in enumerate(shapes.items()):
        apply = _apply("sort", descending=bool(i % 2))
        made.append(Sample("sort", label, (Input(shape, values="distinct"),), apply, ALL))
    ties = _apply("sort", descending=False)
    made.append(Sample("sort", "ties", (Input((2, 40)),), ties, ALL, False))
    for label, count, shape in (
        ("few in a line", 19, (7,)),
        ("a matrix", 6, (3, 4)),
        ("one", 5, ()),
        ("in one", 1, (5,)),
        ("in nothing", 0, (4,)),
        ("nothing", 7, (0,)),
    ):
        for right in (False, True):
            given = (Input((count,), values="rising"), Input(shape))
            apply = _apply("searchsorted", right=right)
            made.append(Sample("searchsorted", f"{label}, {right}", given, apply, ALL))
    return made


# Matrices one by one, as lanes, and none.
MATRICES: dict[str, tuple[int, ...]] = {
    "one": (3, 3),
    "lanes": (5, 4, 4),
    "task": (2, 18, 18),
    "leading axes": (2, 2, 3, 3),
    "nothing": (0, 2, 2),
    "no rows": (2, 0, 0),
}

SPECTRAL: dict[str, tuple[int, ...]] = {
    "square": (4, 4),
    "square lanes": (5, 3, 3),
    "no matrices": (0, 2, 2),
    "no elements": (2, 0, 0),
}


def _matrix(
    name: str,
    label: str,
    shapes: Sequence[tuple[int, ...]],
    values: str,
    smooth: bool = True,
    **attrs: Any,
) -> list[Sample]:
    """Samples in both dtypes, of matrices that no test replaces by arbitrary ones."""
    smooth = smooth and int(np.prod(shapes[0])) < 100
    made = []
    for dtype in (F64, F32):
        first, *others = shapes
        inputs = (Input(first, dtype, values), *(Input(shape, dtype) for shape in others))
        apply = _apply(name, **attrs)
        made.append(Sample(name, f"{label}, {dtype}", inputs, apply, (dtype,), smooth))
    return made


def _decompositions() -> list[Sample]:
    made: list[Sample] = []
    for i, (label, shape) in enumerate(MATRICES.items()):
        odd = bool(i % 2)
        made += _matrix("cholesky", label, [shape], "definite", upper=odd)
        made += _matrix("lu", label, [shape], "regular")
        for columns in (1, 3, 9):
            kind = {"lower": odd, "transposed": columns == 3, "unit": label == "lanes"}
            shapes = [shape, (*shape[:-1], columns)]
            what = f"{label}, {columns} columns"
            way = {"transposed": columns == 3}
            made += _matrix("solve", what, [shape, (*shape[:-1], columns)], "regular", **way)
            made += _matrix("triangular_solve", what, shapes, "regular", columns == 3, **kind)
    for label, shape in (("tall", (4, 2)), ("wide", (5, 2, 3)), ("no columns", (3, 0))):
        made += _matrix("lu", label, [shape], "regular")
        made += _matrix("qr", label, [shape], "regular", complete=False)
        made += _matrix("qr", f"{label}, all", [shape], "regular", shape[-1] > 2, complete=True)
        made += _matrix("svd", label, [shape], "regular")
    for label, shape in SPECTRAL.items():
        made += _matrix("eigh", label, [shape], "regular")
        made += _matrix("svd", f"{label} and vectors", [shape], "regular")
        made += _matrix("qr", label, [shape], "regular", complete=bool(len(shape) % 2))
    for label in ("square lanes", "no elements"):
        made += _matrix("expm", label, [SPECTRAL[label]], "regular")
    return made + [_pseudo_inverse(dtype) for dtype in (F64, F32)]


def _pseudo_inverse(dtype: str) -> Sample:
    """One with a cutoff that no singular value is near."""

    def apply(a: Node) -> Node:
        return REGISTRY["pinv"](a, gx.full(a.shape[:-2], 1e-5, a.dtype))

    return Sample("pinv", f"tall, {dtype}", (Input((4, 2), dtype, "regular"),), apply, (dtype,))


# How windows move: label, extents of the array and of its windows, and the attributes of `slide`.
SLIDES: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("plain", (7, 3), {"strides": (1,), "dilations": (1,), "extents": (5,)}),
    ("stepped", (9, 2), {"strides": (3,), "dilations": (2,), "extents": (2,)}),
    ("one", (4, 4), {"strides": (1,), "dilations": (1,), "extents": (1,)}),
    ("nothing", (2, 3), {"strides": (1,), "dilations": (1,), "extents": (0,)}),
    ("no offsets", (3, 0), {"strides": (2,), "dilations": (1,), "extents": (2,)}),
)


def _slides() -> list[Sample]:
    made = []
    for label, (size, window), attrs in SLIDES:
        (count,) = attrs["extents"]
        first: dict[str, Any] = {**attrs, "axes": (1,), "windows": (2,)}
        last: dict[str, Any] = {**attrs, "axes": (2,), "windows": (0,)}
        back = {"extents": (size,)}
        for where, whole, part, moves in (
            ("last", (2, size, window), (2, count, window), first),
            ("first", (window, 2, size), (window, 2, count), last),
        ):
            name = f"{label}, {where}"
            made.append(Sample("slide", name, (Input(whole),), _apply("slide", **moves)))
            apply = _apply("unslide", **{**moves, **back})
            made.append(Sample("unslide", name, (Input(part),), apply))
    two_axes = {"axes": (1, 2), "windows": (3, 4), "strides": (2, 1), "dilations": (1, 3)}
    apply = _apply("slide", **two_axes, extents=(3, 2))
    made.append(Sample("slide", "two axes", (Input((2, 7, 5, 2, 2)),), apply))
    apply = _apply("unslide", **two_axes, extents=(7, 5))
    made.append(Sample("unslide", "two axes", (Input((2, 3, 2, 2, 2)),), apply))
    return made


# Convolutions: label, extents of the array and of the kernel, and the attributes of `convolve`.
CONVOLUTIONS: tuple[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ("sequence", (2, 7), (3, 3), {"labels": "nw,ow->now", "extents": (7,), "before": (1,)}),
    (
        "channels last",
        (2, 5, 6, 3),
        (3, 2, 3, 4),
        {"labels": "nhwi,hwio->nhwo", "extents": (3, 3), "strides": (2, 2), "before": (1, 0)},
    ),
    (
        "channels first",
        (2, 3, 5, 20),
        (4, 3, 3, 2),
        {"labels": "nihw,oihw->nohw", "extents": (5, 19), "dilations": (2, 1), "before": (2, 0)},
    ),
    (
        "groups",
        (2, 2, 3, 6),
        (2, 4, 3, 3),
        {"labels": "ngiw,goiw->ngow", "extents": (5,), "before": (1,)},
    ),
    (
        "depthwise",
        (2, 6, 5),
        (3, 5),
        {"labels": "nwg,wg->nwg", "extents": (6,), "before": (1,)},
    ),
    (
        "phases",
        (2, 4, 3),
        (5, 3, 2),
        {"labels": "nwi,wio->nwo", "extents": (9,), "before": (2,), "steps": (2,)},
    ),
    ("cut", (2, 9), (2,), {"labels": "nw,w->nw", "extents": (3,), "before": (-3,)}),
    ("one", (1, 1, 5), (1, 1, 1), {"labels": "niw,oiw->now", "extents": (5,), "before": (0,)}),
    ("beyond", (1, 3), (2,), {"labels": "nw,w->nw", "extents": (2,), "before": (9,)}),
    ("nothing", (0, 5), (3,), {"labels": "nw,w->nw", "extents": (3,), "before": (0,)}),
    ("no positions", (2, 5), (3,), {"labels": "nw,w->nw", "extents": (0,), "before": (0,)}),
    (
        "over positions",
        (2, 5, 6, 3),
        (2, 5, 6, 4),
        {"labels": "nhwi,nhwo->hwio", "extents": (3, 3), "before": (1, 1)},
    ),
)


def _convolutions() -> list[Sample]:
    made = []
    for label, x, w, given in CONVOLUTIONS:
        spatial = "".join(c for c in "hw" if c in given["labels"])
        ones = (1,) * len(spatial)
        plain = {"spatial": spatial, "strides": ones, "dilations": ones, "steps": ones}
        apply = _apply("convolve", **{**plain, **given})
        made.append(Sample("convolve", label, (Input(x), Input(w)), apply, NUMBERS))
    return made


def _products() -> list[Sample]:
    def product(label: str, x: Any, y: Any, batch: Any, contracted: Any) -> Sample:
        apply = _apply("contract", batch=batch, contracted=contracted)
        return Sample("contract", label, (Input(x), Input(y)), apply, NUMBERS)

    none: tuple[Any, Any] = ((), ())
    return [
        product("matrix", (5, 7), (7, 3), none, ((1,), (0,))),
        product("transposed", (7, 5), (3, 7), none, ((0,), (1,))),
        product("dot", (11,), (11,), none, ((0,), (0,))),
        product("matrix vector", (5, 7), (7,), none, ((1,), (0,))),
        product("outer", (4,), (3,), none, none),
        product("batched", (2, 3, 4), (2, 4, 5), ((0,), (0,)), ((2,), (1,))),
        product("batch inside", (3, 2, 4), (4, 2), ((1,), (1,)), ((2,), (0,))),
        product("two axes", (2, 3, 4), (4, 3, 5), none, ((1, 2), (1, 0))),
        product("everything", (2, 3), (2, 3), none, ((0, 1), (0, 1))),
        product("one column", (5, 1), (1, 1), none, ((1,), (0,))),
        product("no terms", (3, 0), (0, 2), none, ((1,), (0,))),
        product("no rows", (0, 3), (3, 2), none, ((1,), (0,))),
        product("element-wise", (2, 3), (2, 3), ((0, 1), (0, 1)), none),
        product("several rows", (3, 2, 5, 4), (4, 3), none, ((3,), (0,))),
        product("lines of columns", (3, 4), (2, 3, 4, 9), none, ((1,), (2,))),
        product("rows in lines", (2, 4, 10, 3), (3, 4, 5), none, ((1, 3), (1, 0))),
    ]


# Where things are looked up: label, shape of the array, shape of the positions, and the attributes.
LOOKUPS: tuple[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ("line", (7,), (4,), {"axes": (0,)}),
    ("rows", (5, 3), (6,), {"axes": (0,)}),
    ("columns", (3, 5), (2, 2), {"axes": (1,), "at": 1}),
    ("one", (4, 2), (), {"axes": (0,)}),
    ("nothing", (4, 2), (0,), {"axes": (0,)}),
    ("pairs", (4, 2, 3), (5,), {"axes": (0, 2), "at": 1}),
    ("points", (4, 3), (2, 3), {"axes": (0, 1)}),
    ("batch", (3, 6), (3, 4), {"axes": (1,), "batch": (0,), "at": 1}),
    ("batch inside", (5, 3, 2), (3, 4), {"axes": (0,), "batch": (1,)}),
    ("batch behind", (5, 3), (3, 2), {"axes": (0,), "batch": (1,)}),
    ("window", (7, 3), (), {"axes": (0,), "windows": (4,)}),
    ("windows", (7, 6), (3,), {"axes": (0, 1), "at": 2, "windows": (4, 2)}),
    ("rows of windows", (5, 8), (2,), {"axes": (1,), "windows": (3,)}),
)
SCATTERS = {
    "scatter_set": ALL,
    "scatter_add": NUMBERS,
    "scatter_mul": NUMBERS,
    "scatter_max": NUMBERS,
    "scatter_min": NUMBERS,
}


def _looked_up(
    name: str, label: str, shape: tuple[int, ...], where: tuple[int, ...], attrs: dict[str, Any]
) -> Sample:
    attrs = {"batch": (), "at": 0, "windows": (), **attrs}
    windows = attrs["windows"] or (1,) * len(attrs["axes"])
    positions = [
        Input(where, INT, "positions", (window - 1 - shape[axis], shape[axis] - window + 1))
        for axis, window in zip(attrs["axes"], windows, strict=True)
    ]
    positions = [
        # a window must not begin so near the end that it leaves the array
        Input(where, INT, "positions", (0, p.interval[1])) if attrs["windows"] else p
        for p in positions
    ]
    if name == "gather":
        return Sample(name, label, (Input(shape), *positions), _apply(name, **attrs))
    symbols = [gx.symbol(f"p{i}", where, INT) for i in range(len(positions))]
    found = REGISTRY["gather"](gx.symbol("p", shape), *symbols, **attrs).shape
    ordered = name in ("scatter_max", "scatter_min")
    given = [
        Input(s, values=values if ordered else "domain")
        for s, values in ((shape, "distinct"), (found, "between"))
    ]
    return Sample(name, label, (*given, *positions), _apply(name, **attrs), SCATTERS[name])


def _around() -> list[Sample]:
    return [
        Sample(
            "around",
            label,
            (Input(shape, INT), Input(shape, INT)),
            _apply("around"),
            (INT,),
        )
        for label, shape in SHAPES.items()
    ]


def _indexing() -> list[Sample]:
    return [
        *(_looked_up("gather", *lookup) for lookup in LOOKUPS),
        *(_looked_up(name, *lookup) for name in SCATTERS for lookup in LOOKUPS),
        *_around(),
    ]


def _steering() -> list[Sample]:
    def choose(label: str, shape: tuple[int, ...]) -> Sample:
        return Sample(
            "where", label, (Input(shape, BOOL), Input(shape), Input(shape)), _apply("where")
        )

    made = [choose(label, shape) for label, shape in SHAPES.items()]
    for target in ALL:
        for label, shape in SHAPES.items():
            apply = _apply("cast", dtype=dtypes.as_dtype(target))
            made.append(
                Sample("cast", f"{label} to {target}", (Input(shape),), apply, smooth=target == F64)
            )
    made.append(
        Sample(
            "project",
            "second",
            (Input((5,)),),
            lambda x: project(REGISTRY["modf"](x), 1),
            FLOATS,
            smooth=False,
        )
    )
    for label, shape in SHAPES.items():
        inputs = (Input(shape), Input(shape, INT))
        made.append(Sample("ldexp", label, inputs, _apply("ldexp"), FLOATS))
    made.append(
        Sample("stop_gradient", "vector", (Input((5,)),), _apply("stop_gradient"), smooth=False)
    )
    condition = Input((3,), BOOL, "true")
    made.append(
        Sample("check", "passes", (Input((5,)), condition), _apply("check", message="holds"))
    )
    return made


def _node_of(value: Any) -> Node:
    """The node with several results that the first leaf of `value` is a result of."""
    while isinstance(value, (tuple, list)):
        value = next(item for item in value if isinstance(item, Node) or item)
    return value.args[0]


def _orders() -> list[Sample]:
    """Element-wise, with an order that is part of the graph."""
    return [
        Sample(
            "polygamma",
            f"order {n}, {label}",
            (Input(shape, interval=(0.5, 9.0)),),
            _apply("polygamma", n=n),
            FLOATS,
        )
        for n in (1, 2, 5)
        for label, shape in SHAPES.items()
    ]


def _chance() -> list[Sample]:
    """Ciphered counters, and draws that have no derivative."""
    made = []
    for label, shape in SHAPES.items():
        words = (Input(shape),) * 4
        made.append(Sample("threefry", label, words, _apply("threefry"), ("uint32",)))
        made.append(Sample("drawn", label, (Input(shape),), _apply("drawn"), smooth=False))
    return made


def _colorings() -> list[Sample]:
    """Columns of random matrices with what their rows have taken, and vertices of random graphs in
    the order of some numbers.
    """
    made = []
    random = np.random.default_rng(5)
    for label, (height, width), words in (
        ("square", (6, 6), 1),
        ("wide", (3, 9), 2),
        ("tall", (9, 4), 1),
        ("no columns", (3, 0), 1),
    ):
        there = random.random((height, width)) < 0.4
        columns, rows = np.nonzero(there.T)
        begins = np.searchsorted(columns, np.arange(width + 1))

        def fit(taken: Node, begins: Any = begins, rows: Any = rows) -> Node:
            return REGISTRY["first_fit"](gx.constant(begins), gx.constant(rows), taken)

        made.append(Sample("first_fit", label, (Input((height, words)),), fit, ("uint64",)))
    for label, size, words in (("few", 7, 1), ("one", 1, 1), ("two words", 12, 2)):
        there = random.random((size, size)) < 0.4
        vertices, neighbours = np.nonzero(there | there.T)
        begins = np.searchsorted(vertices, np.arange(size + 1))

        def star(
            x: Node, begins: Any = begins, neighbours: Any = neighbours, words: int = words
        ) -> Node:
            given = gx.constant(begins), gx.constant(neighbours), gx.argsort(x)
            return REGISTRY["star_fit"](*given, words=words)

        given = Input((size,), values="distinct")
        made.append(Sample("star_fit", label, (given,), star, (F64,)))
    return made


def _regions() -> list[Sample]:
    def polynomial(x: Node, y: Node) -> Any:
        return x * y + x, y - x

    def call(x: Node, y: Node) -> Node:
        return _node_of(gx.call(polynomial, x, y, name="polynomial"))

    def by_vjp(x: Node, y: Node) -> Node:
        rule = gx.custom_derivative(
            polynomial,
            vjp=lambda args, y, ct: (ct[0] * (args[1] + 1) - ct[1], ct[0] * args[0] + ct[1]),
        )
        return _node_of(rule(x, y))

    def by_jvp(x: Node, y: Node) -> Node:
        rule = gx.custom_derivative(
            polynomial, jvp=lambda args, y, t: (t[0] * (args[1] + 1) + t[1] * args[0], t[1] - t[0])
        )
        return _node_of(rule(x, y))

    def nested(x: Node, y: Node) -> Node:
        return _node_of(gx.call(lambda a, b: gx.call(polynomial, a, b)[0] * b, x, y, name="outer"))

    def running(init: Node, xs: Node) -> Node:
        return _node_of(gx.scan(lambda s, x: (s + x, s * x), init, xs))

    def backwards(init: Node, xs: Node) -> Node:
        return _node_of(gx.scan(lambda s, x: (s - x, (s, x + x)), init, xs, reverse=True))

    def captured(init: Node, xs: Node, w: Node) -> Node:
        def step(state: Any, x: Any) -> Any:
            first, second = state
            return (first * w + x, second + first), first - second

        return _node_of(gx.scan(step, (init, init), xs))

    def counted(init: Node) -> Node:
        return _node_of(gx.scan(lambda s, _: (s + s, s), init, length=3))

    def choice(x: Node, y: Node) -> Node:
        return _node_of(gx.cond(x > y, polynomial, lambda a, b: (a - b, b * b), x, y))

    def one_of_three(i: Node, x: Node) -> Node:
        return _node_of(gx.switch(i, [lambda a: a, lambda a: a * a, lambda a: a + a], x))

    def doubling(x: Node, y: Node) -> Node:
        def round_(held: Any) -> Any:
            total, count = held
            return total * 2 + y, count + 1

        start = (x, gx.constant(0))
        return _node_of(gx.while_loop(lambda held: held[1] < 3, round_, start, bound=3))

    def bounded(x: Node, y: Node) -> Node:
        return _node_of(
            gx.while_loop(
                lambda held: held[1] < 3, lambda held: (held[0] * y, held[1] + 1), (x, 0), bound=4
            )
        )

    vector, rows = Input((3,)), Input((4, 3))
    return [
        Sample("switch", "cond", (Input(()), Input(())), choice, NUMBERS),
        Sample("switch", "of three", (Input((), "int64"), vector), one_of_three, NUMBERS),
        Sample("while_loop", "doubling", (vector, vector), doubling, NUMBERS),
        Sample("while_loop", "bounded", (vector, vector), bounded, NUMBERS),
        Sample("custom_derivative", "by a rule of reverse mode", (vector, vector), by_vjp, NUMBERS),
        Sample("custom_derivative", "by a rule of forward mode", (vector, vector), by_jvp, NUMBERS),
        Sample("call", "two results", (vector, vector), call, NUMBERS),
        Sample("call", "nested", (vector, vector), nested, NUMBERS),
        Sample("scan", "running", (vector, rows), running, NUMBERS),
        Sample("scan", "backwards", (vector, rows), backwards, NUMBERS),
        Sample("scan", "captured", (vector, rows, vector), captured, NUMBERS),
        Sample("scan", "no slices", (vector,), counted, NUMBERS),
        Sample("scan", "no steps", (vector, Input((0, 3))), running, NUMBERS),
        Sample("scan", "scalars", (Input(()), Input((5,))), running, NUMBERS),
    ]


@functools.cache
def table() -> dict[str, list[Sample]]:
    """The samples of every op, by its name."""
    filed: dict[str, list[Sample]] = {name: [] for name in REGISTRY if name not in LEAVES}
    made = [sample for name in ARITY for sample in _elementwise(name)]
    made += _movement() + _generated() + _reductions() + _running() + _sorting() + _products()
    made += _decompositions()
    made += _indexing() + _steering()
    made += _regions() + _orders() + _chance() + _colorings()
    for sample in made:
        filed[sample.name].append(sample)
    return filed


def samples(name: str) -> list[Sample]:
    """The samples of one op."""
    return table()[name]


__all__ = [
    "ALL",
    "ARITY",
    "FLOATS",
    "INTEGERS",
    "LEAVES",
    "USUAL",
    "SPOKEN",
    "UNSPOKEN",
    "Input",
    "Sample",
    "bit_patterns",
    "legal",
    "results",
    "samples",
    "special",
    "table",
]
