"""Do graphc's functions mean what NumPy's of the same name mean?

Each row of the table is one call, written once over `xp`: with NumPy it gives the expected value,
shape and dtype; with graphc it builds a graph, which is evaluated, and compiled with the default
options. Functions that NumPy lacks state their meaning beside the call. A function of the surface
without a row fails the test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import product_rows
import pytest
import scipy.special
import surface_rows

import graphc as gx
import graphc.ops  # noqa: F401
from graphc.node import Node
from graphc.tensor import SURFACE

Call = Callable[..., Any]

RANDOM = np.random.default_rng(2)
V = RANDOM.uniform(-2, 2, 5)
W = RANDOM.uniform(0.5, 2, 5)
M = RANDOM.uniform(-2, 2, (3, 4))
P = RANDOM.uniform(0.5, 2, (3, 4))
T = RANDOM.uniform(-2, 2, (2, 3, 4))
I = RANDOM.integers(-5, 6, (3, 4))  # noqa: E741
K = RANDOM.integers(-5, 6, 5)
B = RANDOM.integers(0, 2, (3, 4)).astype(bool)
C = RANDOM.integers(0, 2, 5).astype(bool)
F = V.astype("float32")
G = M.astype("float32")
WHERE = np.array([2, 0, -1, 1])
S = np.float64(0.75)
ODD = np.array([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan])


def _softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _elu(x: Any, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


def _clipped(low: float, high: float) -> Call:
    return lambda x: np.clip(x, low, high)
def _with_change(change: Call) -> Call:
    """A function that changes its first argument, as one that gives the changed copy."""

    def changed(x: Any, *args: Any, **options: Any) -> Any:
        copy = np.array(x)
        change(copy, *args, **options)
        return copy

    return changed


class _At:
    """x.at in NumPy's words: ufunc.at, assignment."""

    def __init__(self, x: Any, key: Any = None) -> None:
        self.x, self.key = np.array(x), key

    def __getitem__(self, key: Any) -> _At:
        return _At(self.x, key)

    def get(self) -> Any:
        return self.x[self.key]

    def set(self, values: Any) -> Any:
        self.x[self.key] = values
        return self.x

    def apply(self, function: Call) -> Any:
        return self.set(function(self.x[self.key]))

    def __getattr__(self, name: str) -> Call:
        ufunc = getattr(np, {"max": "maximum", "min": "minimum"}.get(name, name))

        def update(values: Any) -> Any:
            ufunc.at(self.x, self.key, values)
            return self.x

        return update


def _clamped(x: Any, starts: Any, sizes: Any) -> tuple[slice, ...]:
    places = zip(starts, x.shape, sizes, strict=True)
    begins = [min(max(int(s) + n * (s < 0), 0), n - w) for s, n, w in places]
    return tuple(slice(b, b + w) for b, w in zip(begins, sizes, strict=True))


def _found(x: Any, size: int, fill_value: Any = 0) -> Any:
    """The first positions that are not 0, and what follows them."""
    fills = fill_value if isinstance(fill_value, tuple) else (fill_value,) * x.ndim
    return [
        np.concatenate([p, np.full(size, f)])[:size]
        for p, f in zip(np.nonzero(x), fills, strict=True)
    ]


def _one_hot(x: Any, count: int, axis: int = -1, dtype: Any = "float64") -> Any:
    made = (x[..., None] == np.arange(count)).astype(dtype)
    return np.moveaxis(made, -1, axis)


# Functions that NumPy lacks or names otherwise, by what they mean.
MEANING: dict[str, Call] = {
    **{
        name: getattr(scipy.special, name)
        for name in (
            *("erfc", "erfinv", "erfcinv", "gamma", "gammaln", "digamma", "polygamma", "logit"),
            *("ndtr", "i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1", "xlogy", "xlog1py", "beta"),
            *("betaln", "betainc", "betaincc", "gammainc", "gammaincc"),
        )
    },
    "celu": lambda x, alpha=1.0: _elu(x, 1.0) if alpha == 1 else alpha * _elu(x / alpha),
    "normal_density": lambda x: np.exp(-x * (x / 2)) / np.sqrt(np.ones_like(x) * (2 * np.pi)),
    "elu": _elu,
    "gelu": lambda x, approximate="none": (
        x * scipy.special.ndtr(x)
        if approximate in ("none", False)
        else x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ).astype(x.dtype),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": _clipped(-1, 1),
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x).astype(x.dtype),
    "log_sigmoid": lambda x: np.log(1 / (1 + np.exp(-x))),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "relu6": _clipped(0, 6),
    "selu": lambda x: (1.0507009873554804934 * _elu(x, 1.6732632423543772848)).astype(x.dtype),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "argwhere": lambda x, size: np.stack(_found(x, size), 1),
    "at": _At,
    "cast": lambda x, dtype: np.asarray(x).astype(dtype),
    "dynamic_slice": lambda x, starts, sizes: x[_clamped(x, starts, sizes)],
    "dynamic_update_slice": lambda x, y, starts: _At(x)[_clamped(x, starts, y.shape)].set(y),
    "fill_diagonal": _with_change(np.fill_diagonal),
    "flatnonzero": lambda x, size, fill_value: _found(x.ravel(), size, fill_value)[0],
    "nonzero": _found,
    "one_hot": _one_hot,
    "put_along_axis": _with_change(np.put_along_axis),
    "check": lambda x, condition, message: x,
    "erf": lambda x: np.vectorize(math.erf)(x).astype(x.dtype),
    "full": lambda shape, value, dtype=None: np.full(shape, value, dtype),
    "getitem": lambda x, key: x[key],
    "iota": lambda shape, axis=0, dtype="int64": np.indices(shape)[axis].astype(dtype),
    "log_softmax": lambda x, axis=-1: np.log(_softmax(x, axis)),
    "relu": lambda x: np.maximum(x, np.zeros((), np.asarray(x).dtype)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": _softmax,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "stop_gradient": lambda x: x,
    "checkpoint": lambda function: function,
    "custom_derivative": lambda function, vjp: function,
    "strong_multiply": lambda x, y: np.where((x == 0) | (y == 0), 0 * x, x * y),
    **surface_rows.MEANING,
    **product_rows.MEANING,
}


class NumpyMeaning:
    """NumPy, with the meaning of graphc's own functions."""

    def __getattr__(self, name: str) -> Call:
        return MEANING.get(name) or getattr(np, name)


def unary(name: str, *arrays: Any) -> list[tuple[Call, tuple[Any, ...]]]:
    return [(lambda xp, x: getattr(xp, name)(x), (array,)) for array in arrays]


def binary(name: str, *pairs: tuple[Any, Any]) -> list[tuple[Call, tuple[Any, ...]]]:
    return [(lambda xp, x, y: getattr(xp, name)(x, y), pair) for pair in pairs]


PAIRS = (
    (V, W),
    (M, M[0]),
    (F, V),
    (I, K[:4]),
    (M, I),
    (S, M),
    (G, S.astype("float32")),
    (M[:, :1], V[:4]),
)
FLOAT_PAIRS = ((V, W), (M, P), (F, F), (M[:, :1], V[:4]))


def _first_is_negative(xp: Any, x: Any) -> Any:
    if xp is gx:
        return gx.cond(x[0] < 0, lambda v: (v * 2, v), lambda v: (v, v + 1), x)
    return (x * 2, x) if x[0] < 0 else (x, x + 1)


def _one_of_three(xp: Any, x: Any, k: Any) -> Any:
    branches = [lambda v: v, lambda v: v * v, lambda v: -v]
    return gx.switch(k, branches, x) if xp is gx else branches[min(max(int(k), 0), 2)](x)


def _halved(xp: Any, x: Any) -> Any:
    """Halved until it is small; infinities, which would never be, count as 0."""
    if xp is gx:
        x = gx.where(gx.isfinite(x), x, 0)
        return gx.while_loop(lambda v: gx.max(abs(v)) > 0.1, lambda v: v / 2, x)
    x = np.where(np.isfinite(x), x, 0)
    while np.max(abs(x)) > 0.1:
        x = x / 2
    return x


def _sum_of_powers(xp: Any, x: Any) -> Any:
    if xp is gx:
        return gx.fori_loop(1, 4, lambda i, total: total + x**i, gx.zeros(x.shape))
    return x + x**2 + x**3


def _rows_scaled(xp: Any, x: Any) -> Any:
    if xp is gx:
        return gx.map(lambda row: row / gx.sum(row * row), x)
    return np.stack([row / np.sum(row * row) for row in x])


def _running_products(xp: Any, x: Any) -> Any:
    if xp is gx:
        return gx.associative_scan(lambda a, b: a * b, x, axis=1)
    return np.cumprod(x, axis=1)


def _running(xp: Any, x: Any) -> Any:
    """Running sums, reversed: (final state, states before each step)."""
    if xp is gx:
        return gx.scan(lambda s, row: (s + row, s), gx.zeros((4,)), x, reverse=True)
    states, state = [None] * len(x), np.zeros(4)
    for i in reversed(range(len(x))):
        states[i], state = state, state + x[i]
    return state, np.stack(states)


def _called(xp: Any, x: Any, y: Any) -> Any:
    def body(a: Any, b: Any) -> Any:
        return {"sum": a + b, "product": (a * b, b)}

    made = gx.call(body, x, y) if xp is gx else body(x, y)
    return made["sum"], *made["product"]


TABLE: dict[str, list[tuple[Call, tuple[Any, ...]]]] = {
    **{
        name: binary(name, *PAIRS, (I, I), (V, 2.5), (2, V), (F, 2))
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")
    },
    "strong_multiply": binary("strong_multiply", (V, W), (np.zeros(5), np.full(5, np.inf))),
    "power": [
        *binary("power", (W, V), (P, P[0]), (F.clip(0.5), F), (W, 2.5), (2.0, V)),
        (lambda xp, x: x**2, (I,)),
        (lambda xp, x: x**0, (V,)),
        (lambda xp, x: x**5, (I,)),
        (lambda xp, x, y: xp.power(x, y), (I, abs(K[:4]))),
        (lambda xp, x: 3**x, (abs(I),)),
        (lambda xp, x: 2.0**x, (V,)),
    ],
    **{
        name: unary(name, V, M, F, S)
        for name in ("exp", "expm1", "tanh", "sin", "cos", "sigmoid", "softplus", "erf")
    },
    **{name: unary(name, W, P, W.astype("float32")) for name in ("log", "log1p", "sqrt")},
    **{
        name: unary(name, V, M, F, S)
        for name in (
            *("exp2", "sinh", "cosh", "arcsinh", "cbrt", "tan", "arctan", "sinc", "erfc"),
            *("i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1", "silu", "log_sigmoid"),
            *("softsign", "selu", "mish"),
            *("hard_tanh", "hard_sigmoid", "hard_swish"),
        )
    },
    **{
        name: unary(name, W, P, W.astype("float32"), S)
        for name in ("log2", "log10", "gamma", "gammaln", "digamma")
    },
    **{
        name: unary(name, V / 3, M / 3, F / 3) for name in ("arcsin", "arccos", "arctanh", "erfinv")
    },
    "arccosh": unary("arccosh", W + 1, P + 1, W.astype("float32") + 1),
    **{name: unary(name, W / 3, F / 5 + 0.5) for name in ("logit", "erfcinv")},
    "polygamma": [
        (lambda xp, x, n=n: xp.polygamma(n, x), (array,)) for n in (0, 1, 2, 5) for array in (W, P)
    ],
    "arctan2": binary("arctan2", *FLOAT_PAIRS, (V, 2.5)),
    "logaddexp2": binary("logaddexp2", *FLOAT_PAIRS, (V, 2.5)),
    "xlogy": binary("xlogy", (V, W), (M, P), (np.zeros(5), np.zeros(5)), (W, 2.5)),
    "xlog1py": binary("xlog1py", (V, W), (M, P), (np.zeros(5), -np.ones(5)), (W, 2.5)),
    "ndtr": unary("ndtr", V, M, F, S, W * -5),
    "normal_density": unary("normal_density", V, M, F, S, W * -5),
    "relu6": unary("relu6", V * 5, G, I, S),
    "gelu": [
        *unary("gelu", V, M, F, S, W * -5),
        *[
            (lambda xp, x, a=a: xp.gelu(x, approximate=a), (array,))
            for a in ("none", "tanh", True, False)
            for array in (V, F)
        ],
    ],
    **{
        name: [
            *unary(name, V, M, F),
            (lambda xp, x, name=name: getattr(xp, name)(x, 0.3), (V,)),
        ]
        for name in ("elu", "celu", "leaky_relu")
    },
    **{
        name: unary(name, V, G, I, S) for name in ("negative", "absolute", "sign", "square", "relu")
    },
    "modf": unary("modf", V, G * 3),
    "divmod": binary("divmod", (V, W), (I, K[:4] * 2 + 1), (M, 0.5), (C, True)),
    **{
        name: binary(name, (V, W), (M, M[0]), (F, V), (I, K[:4] * 2 + 1), (7, W), (V, 0.5), (I, 3))
        for name in ("floor_divide", "remainder", "fmod")
    },
    "reciprocal": unary("reciprocal", V, G, 2 * I + 1, S),
    "float_power": binary("float_power", (W, V), (I, 2), (F, 3), (C, C)),
    **{name: unary(name, 3 * V, 2.5 * G, I, B, S) for name in ("floor", "ceil", "trunc", "rint")},
    "round": [
        *unary("round", 3 * V, G, I, S, B),
        *binary("round", (V, 1), (100 * M, -1), (G, 2), (37 * I, -1), (I, 2), (-I * 5, -1)),
        (lambda xp, x: x.round(1), (M,)),
        (lambda xp, x: x.round(), (M,)),
    ],
    **{
        name: binary(name, (V, W), (M, M[0]), (F, V), (I, K[:4]), (S, M), (V, -1.0))
        for name in ("copysign", "nextafter", "hypot", "logaddexp", "heaviside")
    },
    **{name: binary(name, *PAIRS, (I, I), (V, 2.5), (B, C[:4])) for name in ("fmax", "fmin")},
    "ldexp": binary("ldexp", (V, K), (G, I), (I, 3), (M, B), (S, I)),
    "frexp": unary("frexp", V, G, I),
    **{name: unary(name, V, G, I, S) for name in ("signbit", "spacing", "fabs", "positive")},
    **{name: unary(name, V, G, I, S) for name in ("deg2rad", "rad2deg")},
    **{name: unary(name, V, G, I) for name in ("conjugate", "real", "imag")},
    **{
        name: unary(name, ODD, ODD.astype("float32"), I, B)
        for name in ("isfinite", "isinf", "isposinf", "isneginf")
    },
    "nan_to_num": [
        *unary("nan_to_num", ODD, ODD.astype("float32"), I, B),
        (lambda xp, x: xp.nan_to_num(x, True, 1.0, 2.0, -3.0), (ODD,)),
        (lambda xp, x: xp.nan_to_num(x, posinf=7), (ODD.astype("float32"),)),
    ],
    "clip": [
        (lambda xp, x: xp.clip(x, -1, 1), (V,)),
        (lambda xp, x: xp.clip(x, None, 0.5), (G,)),
        (lambda xp, x: xp.clip(x, 0, None), (I,)),
        (lambda xp, x: xp.clip(x, 0.5, 2), (I,)),
        (lambda xp, x: xp.clip(x, min=0, max=3), (I,)),
        (lambda xp, x: xp.clip(x, 3, 0), (I,)),
        (lambda xp, x: xp.clip(x), (M,)),
        (lambda xp, x, low, high: xp.clip(x, low, high), (M, -P[0], P)),
        (lambda xp, x: x.clip(-1, 1), (M,)),
        (lambda xp, x: x.clip(max=0), (M,)),
    ],
    "isclose": [
        *binary("isclose", (V, V + 1e-9), (V, W), (ODD, ODD), (I, I + 1), (F, V), (I, 3)),
        (lambda xp, x, y: xp.isclose(x, y, rtol=0.1, atol=0.5), (V, W)),
        (lambda xp, x: xp.isclose(x, x, equal_nan=True), (ODD,)),
    ],
    "allclose": [
        *binary("allclose", (V, V + 1e-9), (V, W), (ODD, ODD), (I, I)),
        (lambda xp, x: xp.allclose(x, x, equal_nan=True), (ODD,)),
    ],
    "array_equal": [
        *binary("array_equal", (V, V), (V, W), (ODD, ODD), (I, I), (V, M), (I, I.astype(float))),
        (lambda xp, x: xp.array_equal(x, x, equal_nan=True), (ODD,)),
    ],
    "select": [
        (lambda xp, x: xp.select([x > 1, x < -1], [x, x * x]), (M,)),
        (lambda xp, x, i: xp.select([x > 1, x < -1], [i, x], 7), (M, I)),
        (lambda xp, c, i: xp.select([c], [i]), (B, I)),
    ],
    "piecewise": [
        (lambda xp, x: xp.piecewise(x, [x > 0], [lambda v: v * v, -1]), (M,)),
        (lambda xp, x: xp.piecewise(x, [x > 0, x > 1], [lambda v: v * v, 2.5]), (G,)),
        (lambda xp, i: xp.piecewise(i, [i > 0], [lambda v, s: v * s, 1.5], 3), (I,)),
    ],
    "left_shift": binary("left_shift", (I, abs(K[:4])), (I, 3), (I, 64), (I, -1), (1, abs(K))),
    "right_shift": binary("right_shift", (I, abs(K[:4])), (I, 1), (I, 64), (I, -1), (-99, abs(K))),
    "bitwise_count": unary("bitwise_count", I, I * 12345678901, B),
    **{
        name: binary(name, (I, K[:4]), (I, 6), (B, C[:4]), (B, I), (I, True))
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
    },
    "invert": unary("invert", I, B),
    **{name: binary(name, (I, K[:4]), (I * 6, 4), (I, I)) for name in ("gcd", "lcm")},
    "isnan": unary("isnan", np.array([1.0, np.nan]), F),
    "logical_not": unary("logical_not", B, I, ODD),
    **{
        name: binary(name, (B, C[:4]), (B, B[:, :1]), (I, K[:4]), (ODD, C[0]), (M, B))
        for name in ("logical_and", "logical_or", "logical_xor")
    },
    **{
        name: binary(name, *PAIRS, (I, I), (V, 0.5), (I, 2))
        for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
    },
    "softmax": [*unary("softmax", V, M, G), (lambda xp, x: xp.softmax(x, axis=0), (M,))],
    "log_softmax": [*unary("log_softmax", V, M), (lambda xp, x: xp.log_softmax(x, axis=0), (M,))],
    "matmul": binary(
        "matmul",
        (M, M.T),
        (M, V[:4]),
        (V[:3], M),
        (V, W),
        (T, M.T),
        (M, T.swapaxes(1, 2)),
        (G, G.T),
        (I, I.T),
        (T, T.swapaxes(1, 2)),
        (T[:1], T.swapaxes(1, 2)),
        (I, M.T),
    ),
    "dot": binary(
        "dot",
        (M, M.T),
        (M, V[:4]),
        (V, W),
        (T, M.T),
        (S, M),
        (V, 2.0),
        (I, I.T),
        (M, T.swapaxes(1, 2)),
    ),
    "tensordot": [
        (lambda xp, x, y: xp.tensordot(x, y), (T, T[0])),
        (lambda xp, x, y: xp.tensordot(x, y, axes=1), (T, M.T)),
        (lambda xp, x, y: xp.tensordot(x, y, axes=0), (V, W[:3])),
        (lambda xp, x, y: xp.tensordot(x, y, axes=([1, 2], [0, 1])), (T, M)),
        (lambda xp, x, y: xp.tensordot(x, y, axes=([-1], [1])), (T, M)),
        (lambda xp, x, y: xp.tensordot(x, y, axes=(1, 0)), (T, M)),
    ],
    "outer": binary("outer", (V, W), (M, V), (K, K), (S, V)),
    "where": [
        (lambda xp, c, x, y: xp.where(c, x, y), (B, M, P)),
        (lambda xp, c, x, y: xp.where(c, x, y), (B, M[0], I)),
        (lambda xp, c, x: xp.where(c, x, 0.5), (B, G)),
        (lambda xp, c, x: xp.where(c, 1, x), (C, V)),
        (lambda xp, c, x: xp.where(c, x, x), (K, V)),
    ],
    "cast": [
        (lambda xp, x, d=d: xp.cast(x, d), (a,))
        for a in (V * 3, I, B, G)
        for d in ("float32", "float64", "int64", "bool")
    ],
    "stop_gradient": unary("stop_gradient", V),
    "check": [(lambda xp, x, c: xp.check(x, c, "holds"), (V, np.ones(3, bool)))],
    "reshape": [
        *[
            (lambda xp, x, s=s: xp.reshape(x, s), (M,))
            for s in (-1, 12, (4, 3), (2, -1), (1, 12, 1), [6, 2])
        ],
        (lambda xp, x: x.reshape(2, -1), (M,)),
        (lambda xp, x: xp.reshape(x, ()), (V[:1],)),
        (lambda xp, x: xp.reshape(x, (4, -1), order="F"), (T,)),
        (lambda xp, x: x.reshape(4, 6, order="F"), (T,)),
    ],
    "transpose": [
        *unary("transpose", M, V, T),
        (lambda xp, x: xp.transpose(x, (1, -1, 0)), (T,)),
        (lambda xp, x: x.T, (T,)),
        (lambda xp, x: x.transpose(2, 0, 1), (T,)),
        (lambda xp, x: x.transpose((2, 0, 1)), (T,)),
    ],
    "swapaxes": [(lambda xp, x: xp.swapaxes(x, 0, -1), (T,))],
    "expand_dims": [
        (lambda xp, x, a=a: xp.expand_dims(x, a), (M,)) for a in (0, 1, -1, (0, 2), (0, -1))
    ],
    "squeeze": [
        (lambda xp, x: xp.squeeze(x), (T[:1, :, :1],)),
        (lambda xp, x: xp.squeeze(x, axis=0), (T[:1, :, :1],)),
        (lambda xp, x: xp.squeeze(x, axis=(0, -1)), (T[:1, :, :1],)),
    ],
    "broadcast_to": [
        (lambda xp, x, s=s: xp.broadcast_to(x, s), (V[:4],)) for s in ((3, 4), (4,), (2, 1, 4))
    ],
    "flip": [(lambda xp, x, a=a: xp.flip(x, a), (T,)) for a in (None, 1, -1, (0, 2))],
    "concatenate": [
        (lambda xp, x, y: xp.concatenate([x, y]), (M, P)),
        (lambda xp, x, y: xp.concatenate((x, y), axis=1), (M, I)),
        (lambda xp, x, y: xp.concatenate((x, y, x), axis=-1), (M, M[:, :0])),
        (lambda xp, x: xp.concatenate([x]), (V,)),
        (lambda xp, x, y: xp.concatenate([x, y], axis=None), (M, V)),
        (lambda xp, x, y: xp.concatenate([x, y], dtype="float32"), (M, I)),
        (lambda xp, x: xp.concatenate(x), (T,)),
    ],
    "stack": [(lambda xp, x, y, a=a: xp.stack([x, y], axis=a), (M, P)) for a in (0, 1, 2, -1)],
    "pad": [
        (lambda xp, x: xp.pad(x, [(1, 2), (0, 3)]), (M,)),
        (lambda xp, x: xp.pad(x, [(0, 0), (2, 0)]), (I,)),
        *[
            (lambda xp, x, w=w, o=o: xp.pad(x, w, **o), (x,))
            for x, w, o in (
                *((M, 1, {}), (M, (1, 2), {}), (V, 2, {"constant_values": 7})),
                *((M, ((1, 2), (0, 3)), {"constant_values": ((1, 2), (3, 4))}), (M, 0, {})),
                *((M, {1: (2, 1)}, {}), (I, 1, {"constant_values": 2.7}), (M, ((1,), (2,)), {})),
                *((V, (3, 4), {"mode": m}) for m in ("edge", "reflect", "symmetric", "wrap")),
                *((V, (13, 17), {"mode": m}) for m in ("reflect", "symmetric", "wrap")),
                *((T, (2, 3), {"mode": m}) for m in ("edge", "reflect", "symmetric", "wrap")),
                *(
                    (V, (7, 9), {"mode": m, "reflect_type": "odd"})
                    for m in ("reflect", "symmetric")
                ),
                *((V[:1], (2, 3), {"mode": m}) for m in ("reflect", "symmetric", "wrap")),
                *((M, (1, 2), {"mode": m}) for m in ("maximum", "minimum", "mean")),
                *((M, 2, {"mode": m, "stat_length": 2}) for m in ("maximum", "minimum", "mean")),
                *((I, 2, {"mode": m}) for m in ("maximum", "mean")),
                *((M, (3, 2), {"mode": "linear_ramp", "end_values": e}) for e in (0, (5, -4))),
                (I, 3, {"mode": "linear_ramp", "end_values": 9}),
                (M[:, :0], ((1, 1), (0, 2)), {}),
            )
        ],
    ],
    "take": [
        (lambda xp, x, i: xp.take(x, i), (M, WHERE)),
        (lambda xp, x, i: xp.take(x, i, axis=0), (M, WHERE)),
        (lambda xp, x, i: xp.take(x, i, axis=-1), (T, WHERE.reshape(2, 2))),
        (lambda xp, x: xp.take(x, -1, axis=1), (M,)),
        (lambda xp, x, i: x.take(i, axis=1), (I, WHERE)),
        *[
            (lambda xp, x, i, m=m: xp.take(x, i, axis=1, mode=m), (M, np.array([[-9, 2], [7, -1]])))
            for m in ("wrap", "clip")
        ],
        (lambda xp, x, i: xp.take(x, i, mode="wrap"), (M, np.array(-30))),
    ],
    "take_along_axis": [
        (lambda xp, x, i: xp.take_along_axis(x, i, axis=1), (M, RANDOM.integers(-4, 4, (3, 2)))),
        (lambda xp, x, i: xp.take_along_axis(x, i, axis=0), (M, RANDOM.integers(0, 3, (2, 4)))),
        (lambda xp, x, i: xp.take_along_axis(x, i, axis=0), (M, RANDOM.integers(0, 3, (2, 1)))),
        (lambda xp, x, i: xp.take_along_axis(x, i), (M[:1], RANDOM.integers(0, 3, (3, 2)))),
        (lambda xp, x, i: xp.take_along_axis(x, i, axis=None), (M, RANDOM.integers(0, 9, 4))),
    ],
    "iota": [(lambda xp: xp.iota((2, 3), 1), ()), (lambda xp: xp.iota((4,), dtype="float64"), ())],
    "full": [
        (lambda xp: xp.full((2, 3), 1.5), ()),
        (lambda xp: xp.full((2,), 3), ()),
        (lambda xp: xp.full(3, 2, "float32"), ()),
        (lambda xp, x: xp.full((2, 3), x), (V[:3],)),
    ],
    "zeros": [(lambda xp: xp.zeros((2, 3)), ()), (lambda xp: xp.zeros(4, "int64"), ())],
    "ones": [(lambda xp: xp.ones((2, 3)), ()), (lambda xp: xp.ones((), "bool"), ())],
    "getitem": [
        *[
            (lambda xp, x, k=k: x[k], (T,))
            for k in (
                *(
                    0,
                    -1,
                    (1, 2),
                    (0, 1, -2),
                    slice(1, None),
                    slice(None, None, -1),
                    (slice(None), slice(None, None, 2)),
                ),
                *(
                    (Ellipsis, 0),
                    (None, 0),
                    (0, None, slice(1, 3)),
                    (slice(None), None),
                    (..., None),
                    (slice(5, 9),),
                ),
                *(
                    (slice(-2, None), slice(2, 0, -1)),
                    (slice(None), slice(-1, None, -2), 3),
                    (slice(None), slice(1, 1)),
                ),
            )
        ],
        (lambda xp, x, i: x[i], (M, WHERE % 3)),
        (lambda xp, x, i: x[:, i], (M, WHERE)),
        (lambda xp, x, i: x[1:, :, i], (T, WHERE)),
        (lambda xp, x: x[[0, 2]], (M,)),
        (lambda xp, x, i: x[::-1, i], (M, WHERE)),
        (lambda xp, x, i, j: x[i, :, j], (T, WHERE % 2, WHERE)),
        (lambda xp, x, i, j: x[:, i, j], (T, WHERE % 3, WHERE[:, None])),
        (lambda xp, x, i: x[0, :, i], (T, WHERE)),
        (lambda xp, x, i: x[i], (M, np.array(-2))),
        (lambda xp, x, i: x[1:, i, ::-1], (T, np.array(1))),
        (lambda xp, x: x[B], (M,)),
        (lambda xp, x: x[1, [True, False, True]], (T,)),
        (lambda xp, x, i: x[i.astype("int64")], (M, np.array([2, 0]))),
        (lambda xp, x: x[np.array([2, 0], "uint8")], (M,)),
    ],
    "ravel": [
        *[(lambda xp, x, o=o: xp.ravel(x, o), (T,)) for o in ("C", "F")],
        (lambda xp, x: x.ravel(), (M,)),
        (lambda xp, x: x.flatten("F"), (M,)),
        (lambda xp, x: xp.ravel(x), (M[:0],)),
        (lambda xp, x: xp.ravel(x), (S,)),
    ],
    "matrix_transpose": [*unary("matrix_transpose", M, T), (lambda xp, x: x.mT, (T,))],
    "moveaxis": [
        (lambda xp, x, s=s, d=d: xp.moveaxis(x, s, d), (T,))
        for s, d in ((0, -1), (2, 0), ((0, 1), (-1, 0)), ([0, 2], [1, 0]))
    ],
    "rollaxis": [
        (lambda xp, x, a=a, s=s: xp.rollaxis(x, a, s), (T,))
        for a, s in ((2, 0), (0, 3), (1, 0), (0, 2), (-1, 1), (1, -1))
    ],
    "broadcast_arrays": [
        (lambda xp, x, y: xp.broadcast_arrays(x, y), (M, V[:4])),
        (lambda xp, x, y, z: xp.broadcast_arrays(x, y, z), (M[:, :1], V[:4], S)),
    ],
    "broadcast_shapes": [
        (lambda xp: xp.zeros(xp.broadcast_shapes((3, 1), (4,), (2, 1, 1))), ()),
        (lambda xp: xp.zeros(xp.broadcast_shapes(())), ()),
    ],
    **{
        f"atleast_{n}d": [
            *unary(f"atleast_{n}d", S, V, M, T),
            (lambda xp, x, y, n=n: getattr(xp, f"atleast_{n}d")(x, y), (S, M)),
        ]
        for n in (1, 2, 3)
    },
    "fliplr": unary("fliplr", M, T),
    "flipud": unary("flipud", V, M),
    "rot90": [
        *[(lambda xp, x, k=k: xp.rot90(x, k), (M,)) for k in (-1, 0, 1, 2, 3, 5)],
        (lambda xp, x: xp.rot90(x, axes=(2, 1)), (T,)),
    ],
    "roll": [
        *[(lambda xp, x, k=k: xp.roll(x, k), (M,)) for k in (0, 1, -5, 30)],
        *[(lambda xp, x, k=k: xp.roll(x, k, axis=1), (T,)) for k in (1, -1, 3)],
        (lambda xp, x: xp.roll(x, (1, 2), axis=(0, 2)), (T,)),
        (lambda xp, x: xp.roll(x, 1, axis=(0, 0)), (T,)),
        (lambda xp, x: xp.roll(x, 3, axis=0), (M[:0],)),
        (lambda xp, x, k: xp.roll(x, k, axis=1), (M, np.array(-7))),
        (lambda xp, x, k: xp.roll(x, k), (M, np.array(5))),
    ],
    "tile": [
        *[(lambda xp, x, r=r: xp.tile(x, r), (M,)) for r in (2, (2, 3), (2, 1, 2), (0, 1), 1)],
        (lambda xp, x: xp.tile(x, (2, 2)), (V,)),
    ],
    "repeat": [
        *[(lambda xp, x, r=r: xp.repeat(x, r), (M,)) for r in (1, 3, 0)],
        *[(lambda xp, x, a=a: xp.repeat(x, 2, axis=a), (T,)) for a in (0, 1, -1)],
        (lambda xp, x: xp.repeat(x, [1, 0, 3], axis=0), (M,)),
        (lambda xp, x: x.repeat(np.array([2]), axis=1), (M,)),
    ],
    "resize": [(lambda xp, x, s=s: xp.resize(x, s), (M,)) for s in ((2, 2), (5, 5), 30, (0, 2))],
    "hstack": [
        (lambda xp, x, y: xp.hstack([x, y]), (V, W)),
        (lambda xp, x, y: xp.hstack((x, y)), (M, P)),
        (lambda xp, x, y: xp.hstack((x, y)), (S, V)),
    ],
    "vstack": [
        (lambda xp, x, y: xp.vstack([x, y]), (V, W)),
        (lambda xp, x, y: xp.vstack((x, y)), (M, V[:4])),
    ],
    "dstack": [(lambda xp, x, y: xp.dstack([x, y]), pair) for pair in ((V, W), (M, P))],
    "column_stack": [
        (lambda xp, x, y: xp.column_stack([x, y]), pair) for pair in ((V, W), (M, V[:3]))
    ],
    "append": [
        (lambda xp, x, y: xp.append(x, y), (M, V)),
        (lambda xp, x, y: xp.append(x, y, axis=1), (M, P)),
    ],
    "block": [
        (lambda xp, x, y: xp.block([[x, y], [y, x]]), (M, P)),
        (lambda xp, x, y: xp.block([x, y, 1.0]), (V, W)),
        (lambda xp, x: xp.block(x), (M,)),
        (lambda xp, x: xp.block([[x], [x]]), (V,)),
    ],
    "split": [
        (lambda xp, x: xp.split(x, 2, axis=1), (M,)),
        (lambda xp, x: xp.split(x, 3), (M,)),
        (lambda xp, x: xp.split(x, [1, 2], axis=-1), (T,)),
        (lambda xp, x: xp.split(x, [2, 1, -1, 9]), (V,)),
    ],
    "array_split": [
        (lambda xp, x, k=k: xp.array_split(x, k), (V,)) for k in (1, 2, 3, 7, [0, 3])
    ],
    "hsplit": [(lambda xp, x: xp.hsplit(x, 2), (M,)), (lambda xp, x: xp.hsplit(x, [2]), (V,))],
    "vsplit": [(lambda xp, x: xp.vsplit(x, 3), (M,))],
    "dsplit": [(lambda xp, x: xp.dsplit(x, [1]), (T,))],
    "unstack": [(lambda xp, x, a=a: xp.unstack(x, axis=a), (T,)) for a in (0, 1, -1)],
    "put_along_axis": [
        (lambda xp, x, i, v, a=a: xp.put_along_axis(x, i, v, a), (M, index, values))
        for a, index, values in (
            (1, np.array([[0, -1], [2, 2], [3, 0]]), P[:, :2]),
            (0, np.array([[0, 2, 1, -1]]), P[0]),
            (None, np.array([3, 3, -1]), V[:3]),
            (1, np.array([[1]]), np.array(2.5)),
        )
    ],
    "compress": [
        (lambda xp, x: xp.compress([True, False, True], x, axis=0), (M,)),
        (lambda xp, x: xp.compress(np.array([0, 1, 1]), x), (M,)),
        (lambda xp, x: x.compress([True, False, True, False], axis=1), (M,)),
    ],
    "extract": [(lambda xp, x: xp.extract(B, x), (M,))],
    "choose": [
        (lambda xp, i, x, y: xp.choose(i, [x, y]), (B.astype(int), M, P)),
        (lambda xp, i, x, y: xp.choose(i, [x, y], mode="wrap"), (I, M, P)),
        (lambda xp, i, x, y: xp.choose(i, [x, y], mode="clip"), (I, M, V[:4])),
        (lambda xp, i, x: xp.choose(i, [x, 1.5]), (B.astype(int), V[:4])),
    ],
    "dynamic_slice": [
        (lambda xp, x, i: xp.dynamic_slice(x, (i, 1), (2, 2)), (M, np.array(k)))
        for k in (0, 1, 5, -1, -9)
    ]
    + [(lambda xp, x: xp.dynamic_slice(x, (1, 9), (2, 2)), (M,))],
    "dynamic_update_slice": [
        (lambda xp, x, y, i: xp.dynamic_update_slice(x, y, (i, 1)), (M, P[:2, :2], np.array(k)))
        for k in (0, 1, 5, -1)
    ]
    + [(lambda xp, x, y: xp.dynamic_update_slice(x, y, (1, 0)), (M, P[:2, :2]))],
    "nonzero": [
        (lambda xp, x: xp.nonzero(x, size=4), (B,)),
        (lambda xp, x: xp.nonzero(x, size=20, fill_value=-1), (I,)),
        (lambda xp, x: xp.nonzero(x, size=3, fill_value=(7, 8)), (I,)),
        (lambda xp, x: xp.nonzero(x, size=2), (M[:0],)),
    ],
    "flatnonzero": [(lambda xp, x: xp.flatnonzero(x, size=9, fill_value=-1), (B,))],
    "argwhere": [(lambda xp, x: xp.argwhere(x, size=9), (B,))],
    "one_hot": [
        (lambda xp, i: xp.one_hot(i, 4), (K,)),
        (lambda xp, i: xp.one_hot(i, 3, axis=0, dtype="float32"), (I,)),
    ],
    "at": [
        (lambda xp, x, y: xp.at(x)[1:, ::2].set(y), (M, P[1:, ::2])),
        (lambda xp, x, y: xp.at(x)[::-1, 1].set(y), (M, V[:3])),
        (lambda xp, x: xp.at(x)[0].add(1.5), (M,)),
        (lambda xp, x: xp.at(x)[:, -1].multiply(2), (M,)),
        (lambda xp, x, i: xp.at(x)[i].add(0.5), (M, WHERE % 3)),
        (lambda xp, x, i, y: xp.at(x)[:, i].set(y), (M, WHERE, P)),
        (lambda xp, x, i, y: xp.at(x)[i].max(y), (M, WHERE % 3, P[[0, 1, 2, 0]])),
        (lambda xp, x, i, y: xp.at(x)[i].min(y), (I, WHERE % 3, 1)),
        (lambda xp, x, i, y: xp.at(x)[i, 1:3].multiply(y), (M, WHERE % 3, P[[0, 1, 2, 0], :2])),
        (lambda xp, x, i: xp.at(x)[i].subtract(2), (I, WHERE % 3)),
        (lambda xp, x, i: xp.at(x)[i].divide(2), (M, WHERE % 3)),
        (lambda xp, x, i: xp.at(x)[i].power(2), (P, WHERE % 3)),
        (lambda xp, x, i: xp.at(x)[i].apply(xp.exp), (P, WHERE % 3)),
        (lambda xp, x, i: xp.at(x)[i].get(), (M, WHERE % 3)),
        (lambda xp, x: xp.at(x)[B].set(0.0), (M,)),
        (lambda xp, x: xp.at(x)[...].set(3), (I,)),
        (lambda xp, x: xp.at(x)[()].add(3), (S,)),
    ],
    "diagonal": [
        *[(lambda xp, x, k=k: xp.diagonal(x, k), (M,)) for k in (0, 1, -1, 3, 9, -9)],
        (lambda xp, x: xp.diagonal(x, 1, 2, 0), (T,)),
        (lambda xp, x: x.diagonal(axis1=-1, axis2=-2), (T,)),
    ],
    "trace": [
        *unary("trace", M, I, T, B),
        (lambda xp, x: xp.trace(x, 1, 1, 2), (T,)),
        (lambda xp, x: x.trace(-1), (M,)),
    ],
    "diag": [(lambda xp, x, k=k: xp.diag(x, k), (x,)) for k in (0, 2, -1) for x in (V, M)],
    "diagflat": [(lambda xp, x: xp.diagflat(x, 1), (M[:2, :2],))],
    "diag_indices": [(lambda xp: xp.diag_indices(3, 3), ())],
    "fill_diagonal": [
        (lambda xp, x: xp.fill_diagonal(x, 2.5), (M,)),
        (lambda xp, x: xp.fill_diagonal(x, [1, 2]), (I,)),
        (lambda xp, x, v: xp.fill_diagonal(x, v), (M.T, V[:2])),
        (lambda xp, x: xp.fill_diagonal(x, 9, wrap=True), (np.arange(21.0).reshape(7, 3),)),
        (lambda xp, x: xp.fill_diagonal(x, 9), (np.arange(27.0).reshape(3, 3, 3),)),
    ],
    "tri": [
        (lambda xp, a=a: xp.tri(*a), ()) for a in ((3,), (3, 5), (4, 2, 1), (3, 3, -1), (2, 4, 9))
    ]
    + [(lambda xp: xp.tri(3, dtype="int64"), ())],
    **{
        name: [
            *[(lambda xp, x, k=k, n=name: getattr(xp, n)(x, k), (M,)) for k in (0, 1, -2, 7)],
            *unary(name, T, I, V, B),
        ]
        for name in ("tril", "triu")
    },
    "eye": [
        (lambda xp, a=a: xp.eye(*a), ()) for a in ((3,), (3, 5), (4, 2, -1), (3, 3, 1), (0,))
    ]
    + [(lambda xp: xp.eye(3, dtype=bool), ())],
    "identity": [(lambda xp: xp.identity(3), ()), (lambda xp: xp.identity(2, "float32"), ())],
    **{
        name: [
            (lambda xp, n=name: getattr(xp, n)(4), ()),
            (lambda xp, n=name: getattr(xp, n)(4, 1, 3), ()),
        ]
        for name in ("tril_indices", "triu_indices")
    },
    **{
        name: [(lambda xp, x, n=name: getattr(xp, n)(x, -1), (M,))]
        for name in ("tril_indices_from", "triu_indices_from")
    },
    "arange": [
        (lambda xp, a=a: xp.arange(*a), ())
        for a in (
            *((5,), (0,), (2, 7), (7, 2), (1, 10, 3), (10, 1, -3), (3, 3), (2.5,)),
            *((0.5, 3.1, 0.25), (1.0, 0.0, -0.3), (-3, 3), (True,)),
        )
        if a != (True,)
    ]
    + [
        (lambda xp: xp.arange(3, dtype="float32"), ()),
        (lambda xp: xp.arange(0.5, 4, dtype="int64"), ()),
        (lambda xp: xp.arange(1, 2, 0.1, "float32"), ()),
    ],
    "linspace": [
        *[
            (lambda xp, a=a: xp.linspace(*a), ())
            for a in ((0, 1), (2.0, -3.0, 7), (1, 4, 1), (1, 4, 0), (0, 5, 6))
        ],
        (lambda xp: xp.linspace(0, 1, 5, endpoint=False), ()),
        (lambda xp: xp.linspace(0, 1, 5, retstep=True), ()),
        (lambda xp: xp.linspace(-2.5, 4, 7, dtype="int64"), ()),
        (lambda xp, x, y: xp.linspace(x, y, 4, axis=-1), (V, W)),
        (lambda xp, x: xp.linspace(x, 1.0, 4), (M,)),
    ],
    "logspace": [
        (lambda xp: xp.logspace(0, 2, 7), ()),
        (lambda xp: xp.logspace(1, 3, 4, base=2.0, endpoint=False), ()),
        (lambda xp, x: xp.logspace(x, 1.0, 4), (V,)),
    ],
    "geomspace": [
        (lambda xp: xp.geomspace(1, 1000, 4), ()),
        (lambda xp: xp.geomspace(-2.0, -500, 9), ()),
        (lambda xp: xp.geomspace(256, 1, 5, endpoint=False), ()),
        (lambda xp, x: xp.geomspace(x, 5.0, 4, axis=1), (W,)),
    ],
    **{
        name: [
            *unary(name, M, F, I, B),
            (lambda xp, x, n=name: getattr(xp, n)(x, dtype="float32"), (M,)),
            (lambda xp, x, n=name: getattr(xp, n)(x, shape=(2, 2)), (I,)),
        ]
        for name in ("zeros_like", "ones_like")
    },
    "empty_like": [(lambda xp, x: xp.empty_like(x) * 0, (I,))],
    "empty": [(lambda xp: xp.empty((2, 3), "int64") * 0, ())],
    "full_like": [
        (lambda xp, x: xp.full_like(x, 2.5), (M,)),
        (lambda xp, x: xp.full_like(x, 2.5, dtype="int64"), (M,)),
        (lambda xp, x, v: xp.full_like(x, v), (I, S)),
    ],
    "vander": [
        (lambda xp, x, k=k: xp.vander(x, *k), (x,))
        for k in ((), (3,), (0,), (4, True), (1,))
        for x in (V, K)
    ],
    "indices": [
        (lambda xp: xp.indices((2, 3)), ()),
        (lambda xp: xp.indices((3,), dtype="float64"), ()),
        (lambda xp: xp.indices((2, 3), sparse=True), ()),
    ],
    "meshgrid": [
        (lambda xp, x, y, o=o: xp.meshgrid(x, y, **o), (V, W[:3]))
        for o in ({}, {"indexing": "ij"}, {"sparse": True}, {"sparse": True, "indexing": "ij"})
    ]
    + [
        (lambda xp, x, y, z: xp.meshgrid(x, y, z), (V, W[:3], V[:2])),
        (lambda xp, x: xp.meshgrid(x), (V,)),
    ],
    "ix_": [
        (lambda xp, x, i: x[xp.ix_(i, [0, 2])], (M, WHERE % 3)),
        (lambda xp, x: x[xp.ix_([True, False, True], [1])], (M,)),
    ],
    "fromfunction": [(lambda xp: xp.fromfunction(lambda i, j: i * 2 + j, (2, 3)), ())],
    "scan": [(_running, (M,))],
    "call": [(_called, (V, W))],
    "custom_derivative": [
        (lambda xp, x: xp.custom_derivative(lambda v: v * v, vjp=lambda a, y, ct: (ct,))(x), (V,))
    ],
    "beta": binary("beta", (P, P[0]), (W, W)),
    **{
        name: binary(name, (P, P[0]), (W, W[::-1]), (W.astype("float32"), W.astype("float32")))
        for name in ("gammainc", "gammaincc")
    },
    **{
        name: [
            (lambda xp, a, b, x, name=name: getattr(xp, name)(a, b, x), (P, P[0], P / (P + 1)))
        ]
        for name in ("betainc", "betaincc")
    },
    "betaln": binary("betaln", (P, P[0]), (W, W[::-1]), (W.astype("float32"), W.astype("float32"))),
    "checkpoint": [(lambda xp, x, y: xp.checkpoint(lambda a, b: (a * b, a))(x, y), (V, W))],
    "cond": [(_first_is_negative, (V,)), (_first_is_negative, (W,))],
    "switch": [(_one_of_three, (V, np.int64(k))) for k in (-1, 1, 5)],
    "while_loop": [(_halved, (M,))],
    "fori_loop": [(_sum_of_powers, (V,))],
    "map": [(_rows_scaled, (M,))],
    "associative_scan": [(_running_products, (M,))],
    **surface_rows.ROWS,
    **product_rows.ROWS,
}
ALIASES = {
    "abs": "absolute",
    "amax": "max",
    "amin": "min",
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
    "expit": "sigmoid",
    "lgamma": "gammaln",
    "pow": "power",
    "swish": "silu",
    "around": "round",
    "bitwise_not": "invert",
    "conj": "conjugate",
    "degrees": "rad2deg",
    "fix": "trunc",
    "mod": "remainder",
    "radians": "deg2rad",
    "concat": "concatenate",
    "permute_dims": "transpose",
    "true_divide": "divide",
}


def leaves(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def test_every_function_has_a_row() -> None:
    assert set(SURFACE) == set(TABLE) | set(ALIASES)
    assert all(SURFACE[alias] is SURFACE[name] for alias, name in ALIASES.items())


@pytest.mark.parametrize("name", TABLE)
def test_against_numpy(name: str, count: Callable[..., None]) -> None:
    symbols: list[Node] = []
    outputs: list[Node] = []
    arrays: list[Any] = []
    wanted: list[Any] = []
    for i, (call, given) in enumerate(TABLE[name]):
        own: list[Any] = []
        for j, array in enumerate(given):
            weak = isinstance(array, (int, float)) and not isinstance(array, np.generic)
            own.append(
                array if weak else gx.symbol(f"x{i}_{j}", np.shape(array), np.asarray(array).dtype)
            )
        made = leaves(call(gx, *own))
        with np.errstate(all="ignore"):
            want = [np.asarray(leaf) for leaf in leaves(call(NumpyMeaning(), *given))]
        assert len(made) == len(want)
        for node, expected in zip(made, want, strict=True):
            assert node.shape == expected.shape, (
                f"{name}, row {i}: shape {node.shape}, NumPy {expected.shape}"
            )
            assert node.dtype == expected.dtype, (
                f"{name}, row {i}: dtype {node.dtype}, NumPy {expected.dtype}"
            )
        outputs += made
        wanted += want
        symbols += [s for s in own if isinstance(s, Node)]
        arrays += [a for a, s in zip(given, own, strict=True) if isinstance(s, Node)]
    function = gx.compile(symbols, outputs, options=gx.Options(cache=False, threads=1))
    for how, results in (
        ("evaluated", gx.evaluate(outputs, dict(zip(symbols, arrays, strict=True)))),
        ("compiled", function(*arrays)),
    ):
        for i, (got, want) in enumerate(zip(results, wanted, strict=True)):
            tolerance = 100 * np.finfo(want.dtype).eps if want.dtype.kind == "f" else 0
            label = f"{name}, result {i}, {how}"
            np.testing.assert_allclose(got, want, tolerance, tolerance, err_msg=label, strict=True)
    count("surface", "calls", len(TABLE[name]))


# -- operators, methods, protocols -----------------------------------------------------------------

x = gx.symbol("x", (3, 4))
v = gx.symbol("v", (4,))
b = gx.symbol("b", (3, 4), "bool")
k = gx.symbol("k", (4,), "int64")
SAME: dict[str, tuple[Any, Any]] = {
    "x + v": (x + v, gx.add(x, v)),
    "1 + v": (1 + v, gx.add(1, v)),
    "x - 1": (x - 1, gx.subtract(x, 1)),
    "1 - x": (1 - x, gx.subtract(1, x)),
    "2 * x": (2 * x, gx.multiply(2, x)),
    "x / v": (x / v, gx.divide(x, v)),
    "1 / x": (1 / x, gx.divide(1, x)),
    "x ** 2": (x**2, gx.power(x, 2)),
    "2.0 ** x": (2.0**x, gx.power(2.0, x)),
    "x @ x.T": (x @ x.T, gx.matmul(x, gx.transpose(x))),
    "array @ v": (np.ones((2, 4)) @ v, gx.matmul(np.ones((2, 4)), v)),
    "-x": (-x, gx.negative(x)),
    "abs(x)": (abs(x), gx.absolute(x)),
    "~b": (~b, gx.logical_not(b)),
    "~k": (~k, gx.invert(k)),
    "k & 3": (k & 3, gx.bitwise_and(k, 3)),
    "5 | k": (5 | k, gx.bitwise_or(5, k)),
    "k ^ k": (k ^ k, gx.bitwise_xor(k, k)),
    "True ^ b": (True ^ b, gx.logical_xor(True, b)),
    "k << 2": (k << 2, gx.left_shift(k, 2)),
    "1 << k": (1 << k, gx.left_shift(1, k)),
    "k >> k": (k >> k, gx.right_shift(k, k)),
    "9 >> k": (9 >> k, gx.right_shift(9, k)),
    "x // v": (x // v, gx.floor_divide(x, v)),
    "7 // k": (7 // k, gx.floor_divide(7, k)),
    "x % 2.0": (x % 2.0, gx.remainder(x, 2.0)),
    "7 % k": (7 % k, gx.remainder(7, k)),
    "divmod(k, 2)": (divmod(k, 2)[0], k // 2),
    "divmod(7, k)": (divmod(7, k)[1], 7 % k),
    "round(x, 2)": (round(x, 2), gx.round(x, 2)),
    "round(x)": (round(x), gx.rint(x)),
    "+x": (+x, x),
    "k ** k": (k**k, gx.power(k, k)),
    "x.clip": (x.clip(0, 1), gx.clip(x, 0, 1)),
    "x.round": (x.round(1), gx.round(x, 1)),
    "x.real": (x.real, x),
    "x.imag": (x.imag, gx.imag(x)),
    "x.conj": (x.conj(), x),
    "np.floor_divide": (np.floor_divide(x, 2), x // 2),
    "np.mod": (np.mod(x, v), x % v),
    "np.divmod": (np.divmod(7, k)[0], 7 // k),
    "np.bitwise_xor": (np.bitwise_xor(k, 3), k ^ 3),
    "np.invert": (np.invert(k), ~k),
    "np.left_shift": (np.left_shift(k, 3), k << 3),
    "np.clip": (np.clip(x, 0, None), gx.clip(x, 0)),
    "np.round": (np.round(x, 1), gx.round(x, 1)),
    "np.around": (np.around(x), gx.rint(x)),
    "np.nan_to_num": (np.nan_to_num(x), gx.nan_to_num(x)),
    "np.isclose": (np.isclose(x, v), gx.isclose(x, v)),
    "np.allclose": (np.allclose(x, x), gx.allclose(x, x)),
    "np.array_equal": (np.array_equal(x, x), gx.array_equal(x, x)),
    "np.isposinf": (np.isposinf(x), gx.isposinf(x)),
    "np.real": (np.real(x), x),
    "np.fix": (np.fix(x), gx.trunc(x)),
    "np.select": (np.select([b], [x], 1.0), gx.select([b], [x], 1.0)),
    "np.conj": (np.conj(x), x),
    "np.degrees": (np.degrees(x), gx.rad2deg(x)),
    "np.fmax": (np.fmax(x, 0), gx.fmax(x, 0)),
    "b & b": (b & b, gx.logical_and(b, b)),
    "True & b": (np.True_ & b, gx.logical_and(np.True_, b)),
    "b | b": (b | b, gx.logical_or(b, b)),
    "x < v": (x < v, gx.less(x, v)),
    "x <= v": (x <= v, gx.less_equal(x, v)),
    "x > 1": (x > 1, gx.greater(x, 1)),
    "x >= 1": (x >= 1, gx.greater_equal(x, 1)),
    "x == v": (x == v, gx.equal(x, v)),
    "x != v": (x != v, gx.not_equal(x, v)),
    "array + v": (np.ones(4) + v, gx.add(np.ones(4), v)),
    "array < v": (np.ones(4) < v, gx.less(np.ones(4), v)),
    "np.float32(2) * v": (np.float32(2) * v, gx.multiply(np.float32(2), v)),
    "np.exp": (np.exp(x), gx.exp(x)),
    "np.add": (np.add(x, 1.0), gx.add(x, 1.0)),
    "np.sum": (np.sum(x, axis=0), gx.sum(x, axis=0)),
    "np.where": (np.where(b, x, 0.0), gx.where(b, x, 0.0)),
    "np.concatenate": (np.concatenate([x, x], axis=1), gx.concatenate([x, x], axis=1)),
    "np.transpose": (np.transpose(x), gx.transpose(x)),
    "np.take": (np.take(v, k), gx.take(v, k)),
    "x.sum": (x.sum(axis=1, keepdims=True), gx.sum(x, axis=1, keepdims=True)),
    "x.prod": (x.prod(0), gx.prod(x, 0)),
    "x.mean": (x.mean(), gx.mean(x)),
    "x.max": (x.max(axis=-1), gx.max(x, axis=-1)),
    "x.min": (x.min(), gx.min(x)),
    "x.argmax": (x.argmax(axis=0), gx.argmax(x, axis=0)),
    "x.reshape": (x.reshape(4, 3), gx.reshape(x, (4, 3))),
    "x.reshape tuple": (x.reshape((-1,)), gx.reshape(x, -1)),
    "x.astype": (x.astype("float32"), gx.cast(x, "float32")),
    "x.take": (v.take(k), gx.take(v, k)),
    "x.dot": (x.dot(v), gx.dot(x, v)),
    "x.T": (x.T, gx.transpose(x)),
    "iteration": (next(iter(x)), x[0]),
    "array namespace": (x.__array_namespace__().tanh(x), gx.tanh(x)),
}


@pytest.mark.parametrize("text", SAME)
def test_spellings_are_the_same_node(text: str) -> None:
    first, second = SAME[text]
    assert isinstance(first, Node)
    assert first is second


def test_len_and_attributes() -> None:
    assert len(x) == 3 and x.ndim == 2 and x.size == 12 and x.shape == (3, 4)
    assert x.dtype == np.float64


# -- errors ----------------------------------------------------------------------------------------

n = gx.vector("n_vector", "n")
BAD: dict[str, Callable[[], Any]] = {
    "shapes": lambda: x + gx.vector("w", 5),
    "matmul of scalars": lambda: gx.matmul(x, 2.0),
    "matmul extents": lambda: x @ x,
    "dot extents": lambda: gx.dot(x, x),
    "batch extents": lambda: gx.zeros((2, 3, 4)) @ gx.zeros((3, 4, 5)),
    "tensordot axes": lambda: gx.tensordot(x, v, axes=2),
    "axis out of range": lambda: gx.sum(x, axis=2),
    "axis twice": lambda: gx.sum(x, axis=(0, 0)),
    "axis of another kind": lambda: gx.sum(x, axis=1.0),
    "reshape size": lambda: gx.reshape(x, (5, 2)),
    "reshape two unknown": lambda: gx.reshape(x, (-1, -1)),
    "reshape unknown of nothing": lambda: gx.reshape(gx.zeros((0, 3)), (0, -1)),
    "transpose twice": lambda: gx.transpose(x, (0, 0)),
    "transpose too few": lambda: gx.transpose(x, (0,)),
    "broadcast_to": lambda: gx.broadcast_to(x, (3, 5)),
    "squeeze": lambda: gx.squeeze(x, axis=0),
    "expand_dims": lambda: gx.expand_dims(x, 4),
    "concatenate shapes": lambda: gx.concatenate([x, v]),
    "concatenate nothing": lambda: gx.concatenate([]),
    "concatenate rank 0": lambda: gx.concatenate([gx.scalar("s"), gx.scalar("s")]),
    "stack shapes": lambda: gx.stack([x, v]),
    "pad": lambda: gx.pad(x, [(1, 1)] * 3),
    "pad mode": lambda: gx.pad(x, 1, mode="median"),
    "pad option": lambda: gx.pad(x, 1, mode="edge", constant_values=1),
    "mask of data": lambda: x[x > 0],
    "mask of another extent": lambda: x[[True, False]],
    "arrays that do not broadcast": lambda: x[[0, 1], [0, 1, 2]],
    "set of another shape": lambda: x.at[0].set([1.0, 2.0]),
    "add of floats to ints": lambda: k.at[0].add(1.5),
    "choose from nothing": lambda: gx.choose(k, []),
    "roll by a float": lambda: gx.roll(x, 1.5, 0),
    "repeat by data": lambda: gx.repeat(v, k),
    "split unequally": lambda: gx.split(v, 3),
    "unstack a named extent": lambda: gx.unstack(n),
    "moveaxis unequal": lambda: gx.moveaxis(x, (0, 1), 0),
    "diag of a cube": lambda: gx.diag(gx.zeros((2, 2, 2))),
    "diagonal of one axis": lambda: gx.diagonal(x, 0, 1, 1),
    "meshgrid indexing": lambda: gx.meshgrid(v, indexing="ab"),
    "arange of data": lambda: gx.arange(k[0]),
    "arange without a step": lambda: gx.arange(0, 5, 0),
    "nonzero without size": lambda: gx.nonzero(x),
    "take mode": lambda: gx.take(x, 0, mode="around"),
    "reshape order": lambda: gx.reshape(x, (4, 3), order="X"),
    "dynamic_slice too wide": lambda: gx.dynamic_slice(x, (0, 0), (4, 4)),
    "pad negative": lambda: gx.pad(v, [(-1, 0)]),
    "index out of range": lambda: x[3],
    "too many indices": lambda: x[0, 0, 0],
    "two ellipses": lambda: x[..., ...],
    "index by a string": lambda: x["a"],
    "step of zero": lambda: x[::0],
    "take by floats": lambda: gx.take(x, v),
    "max over nothing": lambda: gx.max(gx.zeros((0, 3)), axis=0),
    "argmax over nothing": lambda: gx.argmax(gx.zeros((0, 3)), axis=0),
    "bool minus": lambda: b - b,
    "negative bool": lambda: -b,
    "and of floats": lambda: x & x,
    "int to a negative power": lambda: k**-1,
    "positive bool": lambda: +b,
    "shift of floats": lambda: x << 1,
    "not of floats": lambda: ~x,
    "gcd of floats": lambda: gx.gcd(x, 2),
    "ldexp by floats": lambda: gx.ldexp(x, v),
    "round to half a decimal": lambda: gx.round(x, 0.5),
    "round to very many decimals": lambda: gx.round(x, 400),
    "clip by both names": lambda: gx.clip(x, 0, min=1),
    "select without conditions": lambda: gx.select([], []),
    "select with too few choices": lambda: gx.select([b, b], [x]),
    "select by numbers": lambda: gx.select([x], [x]),
    "piecewise with too many functions": lambda: gx.piecewise(x, [b], [1, 2, 3]),
    "weak int out of range": lambda: k + 2**70,
    "a complex number": lambda: x + 1j,
    "a string": lambda: x + "a",
    "an object": lambda: gx.exp(object()),
    "complex64": lambda: gx.symbol("h", (2,), "complex64"),
    "too large": lambda: gx.symbol("h", (2,), "uint8") + 300,
    "a truth value": lambda: bool(x > 0),
    "a float": lambda: float(gx.scalar("s")),
    "an array": lambda: np.asarray(x),
    "scan changes the state's dtype": lambda: gx.scan(lambda s, e: (s > e, s), gx.zeros(()), v),
    "scan without length": lambda: gx.scan(lambda s, e: (s, s), gx.zeros(())),
    "scan over a scalar": lambda: gx.scan(lambda s, e: (s, s), gx.zeros(()), gx.scalar("s")),
    "check by numbers": lambda: gx.check(x, v, "message"),
    "gradient of a vector": lambda: gx.grad(v, v),
    "gradient by integers": lambda: gx.grad(gx.sum(v), k),
    "a symbol without a name": lambda: gx.symbol(""),
    "an unknown fact": lambda: gx.symbol("s", facts=("blue",)),
    "an order that is a node": lambda: gx.polygamma(x, x),
    "a negative order": lambda: gx.polygamma(-1, x),
    "an approximation unheard of": lambda: gx.gelu(x, approximate="erf"),
    "a negative extent": lambda: gx.zeros((-1,)),
}


@pytest.mark.parametrize("what", BAD)
def test_errors(what: str) -> None:
    """A GraphError, which is a ValueError as in NumPy, of at most eight lines."""
    with pytest.raises(gx.GraphError) as caught:
        BAD[what]()
    text = str(caught.value)
    assert len(text) > 10 and len(text.splitlines()) <= 8, text


@pytest.mark.parametrize("call", [np.linalg.eig, np.fft.fft, np.packbits, np.hypot.reduce])
def test_numpy_functions_without_a_twin_are_refused(call: Any) -> None:
    with pytest.raises((TypeError, gx.GraphError)):
        call(x)


def test_slices_of_symbolic_extents_are_in_normal_form() -> None:
    """What is left whole keeps its extent, so that it still fits its neighbours."""
    m = gx.symbol("m", (4, "n"))
    assert m[0].shape == m[1:, :].shape[1:] == m[:, 0:].shape[1:] == (gx.dim("n"),)
    assert m[0] + m[1] is not None and m[:, ::-1].shape == m.shape
    assert gx.stack([m[0], m[2]]).shape == (2, gx.dim("n"))


def test_a_symbolic_extent_has_no_length() -> None:
    with pytest.raises(TypeError, match=r"node\.shape\[0\]"):
        len(n)


def test_numpy_options_that_graphc_lacks_are_refused() -> None:
    with pytest.raises(TypeError):
        np.exp(x, out=np.zeros((3, 4)))
    with pytest.raises(gx.GraphError, match="out"):
        np.sum(x, out=np.zeros(()))
    with pytest.raises(TypeError):
        np.subtract.reduce(x)
