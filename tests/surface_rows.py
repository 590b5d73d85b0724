"""Which calls of reductions, sorting and counting mean what NumPy's do?  Rows for `test_surface`.

Each is a call, written once over `xp`, with its arguments; `MEANING` says what functions mean that
NumPy lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[..., Any]
Rows = list[tuple[Call, tuple[Any, ...]]]

RANDOM = np.random.default_rng(7)
V = RANDOM.uniform(-2, 2, 7)
W = RANDOM.uniform(0.5, 2, 7)
M = RANDOM.uniform(-2, 2, (4, 5))
P = RANDOM.uniform(0.5, 2, (4, 5))
T = RANDOM.uniform(-2, 2, (2, 3, 4))
F = M.astype("float32")
K = RANDOM.integers(-5, 6, (4, 5))
N = np.array([3, 1, 1, 5, 3, 1, 0])
B = RANDOM.integers(0, 2, (4, 5)).astype(bool)
G = np.where(B, np.nan, M)  # with gaps
G[2] = np.nan
S = np.float64(0.75)
ONE = np.array([1.5])
EDGES = np.array([-1.0, 0.0, 0.5, 1.5])
ODD = np.array([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan])


def _logsumexp(x: Any, axis: Any = None, b: Any = None, keepdims: bool = False) -> Any:
    return np.log(np.sum(np.exp(x) * (1 if b is None else b), axis, keepdims=keepdims))


def _recurrence(a: Any, b: Any, axis: int = -1, reverse: bool = False) -> Any:
    a, b = np.broadcast_arrays(a, b)
    a, b = (np.moveaxis(v, axis, 0)[:: -1 if reverse else 1] for v in (a, b))
    made = np.zeros_like(b)
    for i in range(len(b)):
        made[i] = b[i] + (a[i] * made[i - 1] if i else 0)
    return np.moveaxis(made[:: -1 if reverse else 1], 0, axis)


def _cumulate(
    x: Any, combiner: str, axis: int = -1, reverse: bool = False, exclusive: bool = False
) -> Any:
    function = {
        "add": np.add,
        "mul": np.multiply,
        "max": np.maximum,
        "min": np.minimum,
        "logaddexp": np.logaddexp,
    }[combiner]
    x = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    made = function.accumulate(x, axis=0)
    if exclusive:
        none = {"add": 0, "mul": 1, "max": -np.inf, "min": np.inf, "logaddexp": -np.inf}[combiner]
        made = np.concatenate([np.full_like(made[:1], none), made[:-1]])
    return np.moveaxis(made[:: -1 if reverse else 1], 0, axis)


def _topk(x: Any, k: int, axis: int = -1) -> Any:
    x = np.moveaxis(x, axis, -1)
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    return tuple(np.moveaxis(part, -1, axis) for part in (np.take_along_axis(x, order, -1), order))


def _unique(x: Any, size: int, fill_value: Any = None, **asked: Any) -> Any:
    found = np.unique(x, **asked)
    found = list(found) if isinstance(found, tuple) else [found]
    fills = [found[0][0] if fill_value is None else fill_value]
    order = [name for name in ("return_index", "return_inverse", "return_counts") if name in asked]
    made = []
    for name, part in zip(["values", *order], found, strict=True):
        if name == "return_inverse":
            made.append(part)
            continue
        fill = fills[0] if name == "values" else 0
        part = part[:size]
        made.append(np.concatenate([part, np.full(size - len(part), fill, part.dtype)]))
    return tuple(made)


def _sized(function: Call) -> Call:
    def call(x: Any, y: Any, size: int, fill_value: Any = None) -> Any:
        found = function(x, y)
        fill = fill_value if fill_value is not None else found[0] if len(found) else 0
        return np.concatenate([found, np.full(max(size - len(found), 0), fill, found.dtype)])[:size]

    return call


def _along(x: Any, axis: Any) -> tuple[Any, int]:
    """NumPy's default axis: that of the flattened array."""
    return (np.ravel(x), 0) if axis is None else (x, axis)


# Values at the edges of bins and outside of them.
OUTSIDE = np.array([0.0, 1, 2, 3, 4, np.nan, -0.5, 5])

MEANING: dict[str, Call] = {
    "cummax": lambda x, axis=None: np.maximum.accumulate(
        np.ravel(x) if axis is None else x, axis or 0
    ),
    "cummin": lambda x, axis=None: np.minimum.accumulate(
        np.ravel(x) if axis is None else x, axis or 0
    ),
    "cumulate": _cumulate,
    "logcumsumexp": lambda x, axis=None: np.logaddexp.accumulate(*_along(x, axis)),
    "logsumexp": _logsumexp,
    "norm": np.linalg.norm,
    "recurrence": _recurrence,
    "topk": _topk,
    "unique": _unique,
    **{
        name: _sized(getattr(np, name))
        for name in ("union1d", "intersect1d", "setdiff1d", "setxor1d")
    },
    "bincount": lambda x, weights=None, minlength=0, length=0: np.bincount(
        x, weights, max(minlength, length)
    ),
}


def along(name: str, *axes: Any, arrays: Any = (M, F), **options: Any) -> Rows:
    """A function along each axis of each array."""
    return [
        (lambda xp, x, a=a: getattr(xp, name)(x, axis=a, **options), (array,))
        for array in arrays
        for a in axes
    ]


def reducing(name: str, *arrays: Any, masked: bool = True) -> Rows:
    """A reduction with every argument that those of NumPy share."""
    rows: Rows = []
    for array in arrays:
        rows += along(name, None, 0, -1, (0, 1), (), arrays=(array,))
        rows += along(name, None, (-1, 0), arrays=(array,), keepdims=True)
    if masked:
        rows.append((lambda xp, x, w: getattr(xp, name)(x, axis=1, where=w), (arrays[0], ~B)))
        rows.append((lambda xp, x, w: getattr(xp, name)(x, where=w), (arrays[0], B[0])))
    return rows


def spread(name: str, *arrays: Any) -> Rows:
    return [
        *reducing(name, *arrays),
        (lambda xp, x: getattr(xp, name)(x, axis=0, ddof=1, keepdims=True), (arrays[0],)),
        (lambda xp, x: getattr(xp, name)(x, axis=1, correction=1.5), (arrays[0],)),
        (lambda xp, x: getattr(xp, name)(x, ddof=1), (ONE,)),
        (lambda xp, x: getattr(xp, name)(x, dtype="float32"), (arrays[0],)),
        (lambda xp, x: getattr(xp, name)(x, axis=1, dtype="float64"), (F,)),
    ]


def ordered(name: str) -> Rows:
    return [
        *reducing(name, M, K, F, masked=False),
        (lambda xp, x: getattr(xp, name)(x, axis=1, initial=0.25), (M,)),
        (lambda xp, x, w: getattr(xp, name)(x, axis=1, initial=0.25, where=w), (M, B)),
        (lambda xp, x: getattr(xp, name)(x, axis=0, initial=3), (K[:0],)),
    ]


ROWS: dict[str, Rows] = {
    **{
        name: [
            *reducing(name, M, K, F, B),
            (lambda xp, x, name=name: getattr(xp, name)(x, axis=1, initial=2.0), (M,)),
            (lambda xp, x, name=name: getattr(xp, name)(x, 0, "float64"), (F,)),
            (lambda xp, x, name=name: getattr(xp, name)(x, dtype="float32"), (K,)),
            (lambda xp, x, name=name: getattr(xp, name)(x), (S,)),
        ]
        for name in ("sum", "prod")
    },
    "max": ordered("max"),
    "min": ordered("min"),
    "mean": [
        *reducing("mean", M, K, F, B),
        (lambda xp, x: xp.mean(x, axis=0, dtype="float32"), (M,)),
        (lambda xp, x: xp.mean(x, axis=0), (M[:0],)),
    ],
    **{name: reducing(name, B, M.round()) for name in ("all", "any")},
    "count_nonzero": [
        *along("count_nonzero", None, 0, (0, 1), arrays=(M.round(), B, K)),
        *along("count_nonzero", 1, arrays=(K,), keepdims=True),
    ],
    **{
        name: [
            *along(name, None, 0, -1, arrays=(M, K, F, B)),
            *along(name, None, 1, arrays=(M,), keepdims=True),
            (
                lambda xp, x, name=name: getattr(xp, name)(x, axis=-1),
                (np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 1.0], [1.0, 2.0, 1.0]]),),
            ),
        ]
        for name in ("argmax", "argmin")
    },
    "ptp": [*along("ptp", None, 0, (0, 1), arrays=(M, K, F)), *along("ptp", 1, keepdims=True)],
    "var": spread("var", M, F, K, B),
    "std": spread("std", M, F, K),
    "average": [
        *along("average", None, 0, (0, 1), arrays=(M, K, F)),
        (lambda xp, x, w: xp.average(x, weights=w), (M, P)),
        (lambda xp, x, w: xp.average(x, axis=1, weights=w, keepdims=True), (M, W[:5])),
        (lambda xp, x, w: xp.average(x, axis=0, weights=w, returned=True), (F, W[:4])),
        (lambda xp, x, w: xp.average(x, axis=(2, 0), weights=w), (T, P[:4, :2])),
        (lambda xp, x: xp.average(x, axis=0, returned=True), (K,)),
    ],
    **{
        name: [*reducing(name, G, F, K), *along(name, 0, arrays=(np.float32(G),))]
        for name in ("nansum", "nanprod", "nanmean")
    },
    **{
        name: [
            *reducing(name, G, F, K, masked=False),
            (lambda xp, x, w, name=name: getattr(xp, name)(x, 1, initial=0.0, where=w), (G, B)),
        ]
        for name in ("nanmax", "nanmin")
    },
    "nanvar": [
        *along("nanvar", None, 0, -1, (0, 1), arrays=(G, K, F)),
        *along("nanvar", 0, arrays=(G,), ddof=2),
    ],
    "nanstd": [
        *along("nanstd", None, 0, -1, arrays=(G, F)),
        *along("nanstd", 0, arrays=(G,), ddof=1, keepdims=True),
    ],
    "cov": [
        (lambda xp, x: xp.cov(x), (M,)),
        (lambda xp, x: xp.cov(x), (V,)),
        (lambda xp, x, y: xp.cov(x, y), (V, W)),
        (lambda xp, x: xp.cov(x, rowvar=False, bias=True), (M,)),
        (lambda xp, x, f, a: xp.cov(x, fweights=f, aweights=a), (M, N[:5], W[:5])),
        (lambda xp, x, a: xp.cov(x, aweights=a, ddof=0), (F, W[:5])),
        (lambda xp, x: xp.cov(x, ddof=2), (K,)),
    ],
    "corrcoef": [
        (lambda xp, x: xp.corrcoef(x), (M,)),
        (lambda xp, x, y: xp.corrcoef(x, y), (V, W)),
        (lambda xp, x: xp.corrcoef(x), (V,)),
        (lambda xp, x: xp.corrcoef(x, rowvar=False), (F,)),
    ],
    "norm": [
        (lambda xp, x: xp.norm(x), (T,)),
        *[
            (lambda xp, x, p=p: xp.norm(x, p, axis=-1), (M,))
            for p in (None, 0, 1, 2, 3, -1, 2.5, np.inf, -np.inf)
        ],
        *[(lambda xp, x, p=p: xp.norm(x, p), (M,)) for p in (None, "fro", 1, -1, np.inf, -np.inf)],
        (lambda xp, x: xp.norm(x, np.inf, axis=(2, 0), keepdims=True), (T,)),
        (lambda xp, x: xp.norm(x, 1, axis=(0, 1)), (T,)),
        (lambda xp, x: xp.norm(x, 3), (V,)),
        (lambda xp, x: xp.norm(x), (K,)),
        (lambda xp, x: xp.norm(x, axis=0, keepdims=True), (F,)),
    ],
    "logsumexp": [
        *along("logsumexp", None, 0, (0, 1)),
        (lambda xp, x, b: xp.logsumexp(x, axis=1, b=b, keepdims=True), (M, P)),
        (lambda xp, x, b: xp.logsumexp(x, b=b), (M, P[0])),
        (lambda xp, x: xp.logsumexp(x, axis=0, b=2.0), (F,)),
    ],
    **{
        name: [
            *along(name, None, 0, -1, arrays=(M, K, F, B)),
            *along(name, 1, arrays=(T,), dtype="float32"),
        ]
        for name in ("cumsum", "cumprod")
    },
    **{name: along(name, None, 0, -1, arrays=(M, K, F, T)) for name in ("cummax", "cummin")},
    "logcumsumexp": along("logcumsumexp", None, 0, 1, arrays=(M, F)),
    "cumulate": [
        (lambda xp, x, c=c, k=k: xp.cumulate(x, c, **k), (M,))
        for c in ("add", "mul", "max", "min", "logaddexp")
        for k in (
            {},
            {"axis": 0, "reverse": True},
            {"exclusive": True},
            {"axis": 0, "reverse": True, "exclusive": True},
        )
    ],
    "recurrence": [
        (lambda xp, x, y: xp.recurrence(x, y), (M, P)),
        (lambda xp, x, y: xp.recurrence(x, y, axis=0, reverse=True), (M[0], P)),
        (lambda xp, x: xp.recurrence(0.5, x), (F,)),
        (lambda xp, x: xp.recurrence(2, x, axis=1), (K,)),
    ],
    "diff": [
        *along("diff", 0, -1, arrays=(M, K, F, B)),
        *[(lambda xp, x, n=n: xp.diff(x, n), (V,)) for n in (0, 2, 3, 9)],
        (lambda xp, x: xp.diff(x, prepend=0.5, append=x[:, :2]), (M,)),
        (lambda xp, x: xp.diff(x, axis=0, append=1), (K,)),
    ],
    "ediff1d": [
        (lambda xp, x: xp.ediff1d(x), (M,)),
        (lambda xp, x: xp.ediff1d(x, to_end=np.array([1.0, 2.0]), to_begin=3.0), (V,)),
    ],
    "gradient": [
        (lambda xp, x: xp.gradient(x), (V,)),
        (lambda xp, x: xp.gradient(x), (M,)),
        (lambda xp, x: xp.gradient(x, 0.5, axis=1, edge_order=2), (M,)),
        (lambda xp, x: xp.gradient(x, 0.5, 2.0, axis=(2, 0) if x.shape[0] > 2 else (2, 1)), (T,)),
        (lambda xp, x: xp.gradient(x, 2.0), (F,)),
    ],
    "trapezoid": [
        *along("trapezoid", 0, -1, arrays=(M, F)),
        (lambda xp, y, x: xp.trapezoid(y, x), (M, W[:5])),
        (lambda xp, y, x: xp.trapezoid(y, x, axis=0), (M, P)),
        (lambda xp, y: xp.trapezoid(y, dx=0.25), (K,)),
    ],
    "sort": [
        *along("sort", None, 0, 1, -1, arrays=(M, K, F, B, T, G)),
        (lambda xp, x: xp.sort(x, kind="stable"), (K,)),
        (lambda xp, x: xp.sort(x, axis=0), (M[:0],)),
    ],
    "argsort": [
        *along("argsort", None, 0, -1, arrays=(M, F, T)),
        *along("argsort", None, 0, -1, arrays=(K, B, G, G.round()), kind="stable"),
        (lambda xp, x: xp.argsort(x, stable=True), (np.array([0.0, -0.0, np.nan, -1.0, 0.0]),)),
    ],
    "topk": [
        *[(lambda xp, x, k=k: xp.topk(x, k), (M,)) for k in (0, 1, 3, 5)],
        (lambda xp, x: xp.topk(x, 2, axis=0), (K,)),
        (lambda xp, x: xp.topk(x, 2, axis=1), (T,)),
    ],
    "partition": [(lambda xp, x: xp.sort(xp.partition(x, 2), axis=-1), (M,))],
    "argpartition": [
        (lambda xp, x: xp.sort(xp.argpartition(x, 2, axis=0), axis=0), (M,)),
    ],
    "searchsorted": [
        *[
            (lambda xp, a, v, s=s: xp.searchsorted(a, v, side=s), pair)
            for s in ("left", "right")
            for pair in (
                (EDGES, M),
                (np.array([0, 1, 1, 3]), K),
                (EDGES, G),
                (np.array([0.0, np.nan, np.nan]), G),
                (EDGES, S),
                (EDGES[:0], V),
                (np.array([1, 2]), V),
                (np.float32(EDGES), F),
            )
        ],
        (lambda xp, a, v: xp.searchsorted(a, v, sorter=np.array([2, 1, 0])), (EDGES[2::-1], V)),
        (lambda xp, a: xp.searchsorted(a, 0.25), (EDGES,)),
    ],
    "digitize": [
        (lambda xp, x: xp.digitize(x, EDGES), (M,)),
        (lambda xp, x: xp.digitize(x, EDGES, right=True), (K,)),
        (lambda xp, x: xp.digitize(x, EDGES[::-1]), (M,)),
        (lambda xp, x: xp.digitize(x, np.array([2, 1, 1, -3]), right=True), (K,)),
        (lambda xp, x, e: xp.digitize(x, e), (F, EDGES)),
    ],
    "bincount": [
        (lambda xp, x: xp.bincount(x, minlength=6, **({} if xp is np else {"length": 6})), (N,)),
        (
            lambda xp, x, w: xp.bincount(x, w, **({} if xp is np else {"length": 8})),
            (np.append(N, 7), np.append(W, 1.0)),
        ),
        (lambda xp: xp.bincount(np.array([0, 3, 3])), ()),
    ],
    "interp": [
        (lambda xp, x, f: xp.interp(x, EDGES, f[: len(EDGES)]), (M, W)),
        (lambda xp, x, p: xp.interp(x, xp.sort(p), p, -1.0, 9.0), (F, V)),
        (lambda xp, x: xp.interp(x, [-1, 0, 1], [0, 2, 2], left=5), (K,)),
        (lambda xp, x, p: xp.interp(x, p, p * 2, period=1.5), (M, W)),
        (lambda xp, x: xp.interp(x, [0.0, 1.5, 2.0], [1.0, np.inf, np.inf]), (ODD,)),
        (lambda xp, x: xp.interp(x, x[:1], x[1:2]), (V,)),
    ],
    "isin": [
        (lambda xp, x: xp.isin(x, [1, -2, 7]), (K,)),
        (lambda xp, x, y: xp.isin(x, y, invert=True), (K, N)),
        (lambda xp, x: xp.isin(x, [0.0, np.nan, 1.5]), (ODD,)),
        (lambda xp, x: xp.isin(x, np.zeros(0)), (V,)),
    ],
    "poly": [
        (lambda xp, x: xp.poly(x), (W,)),
        (lambda xp, x: xp.poly(x[:3]), (N,)),
        (lambda xp, x: xp.poly(x[:4]), (W.astype("float32"),)),
    ],
    "polyadd": [
        (lambda xp, x, y: xp.polyadd(x, y[:3]), (V, W)),
        (lambda xp, x: xp.polyadd([1, 2], x), (N,)),
        (lambda xp, x: xp.polyadd(x, 2.5), (V,)),
    ],
    "polysub": [(lambda xp, x, y: xp.polysub(x[:2], y), (V, W))],
    "polymul": [
        (lambda xp, x, y: xp.polymul(x, y[:3]), (V, W)),
        (lambda xp, x: xp.polymul([2, 1], x), (N,)),
    ],
    "polyder": [
        (lambda xp, x: xp.polyder(x), (V,)),
        (lambda xp, x: xp.polyder(x, 3), (V,)),
        (lambda xp, x: xp.polyder(x, m=9), (V,)),
        (lambda xp, x: xp.polyder(x), (N,)),
    ],
    "polyint": [
        (lambda xp, x: xp.polyint(x), (V,)),
        (lambda xp, x: xp.polyint(x, 2, [3, 4]), (V,)),
        (lambda xp, x: xp.polyint(x, m=2, k=2), (N,)),
    ],
    "bartlett": [(lambda xp, m=m: xp.bartlett(m), ()) for m in (-1, 0, 1, 2, 7, 12)],
    "blackman": [(lambda xp, m=m: xp.blackman(m), ()) for m in (0, 1, 2, 7, 12)],
    "hamming": [(lambda xp, m=m: xp.hamming(m), ()) for m in (0, 1, 2, 7, 12)],
    "hanning": [(lambda xp, m=m: xp.hanning(m), ()) for m in (0, 1, 2, 7, 12)],
    "kaiser": [(lambda xp, m=m: xp.kaiser(m, 8.6), ()) for m in (0, 1, 2, 7, 12)],
    "nanargmax": [
        (lambda xp, x: xp.nanargmax(x), (G,)),
        (lambda xp, x: xp.nanargmax(x[:2], axis=1), (G,)),
        (lambda xp, x: xp.nanargmax(x, axis=0, keepdims=True), (K,)),
        (lambda xp, x: xp.nanargmax(x), (ODD,)),
    ],
    "nanargmin": [
        (lambda xp, x: xp.nanargmin(x), (G,)),
        (lambda xp, x: xp.nanargmin(x[:2], axis=-1, keepdims=True), (G,)),
        (lambda xp, x: xp.nanargmin(x), (ODD,)),
    ],
    "nancumsum": [
        (lambda xp, x: xp.nancumsum(x), (G,)),
        (lambda xp, x: xp.nancumsum(x, axis=0), (G,)),
        (lambda xp, x: xp.nancumsum(x, 1), (K,)),
    ],
    "nancumprod": [(lambda xp, x: xp.nancumprod(x, axis=1), (G,))],
    "lexsort": [
        (lambda xp, x, y: xp.lexsort((x, y)), (V, N)),
        (lambda xp, x: xp.lexsort(x), (K,)),
        (lambda xp, x, y: xp.lexsort((x, y), axis=0), (M, K)),
    ],
    "delete": [
        (lambda xp, x: xp.delete(x, 2), (V,)),
        (lambda xp, x: xp.delete(x, -1, axis=1), (M,)),
        (lambda xp, x: xp.delete(x, [0, 3, 3], axis=0), (M,)),
        (lambda xp, x: xp.delete(x, slice(None, None, 2), axis=1), (M,)),
        (lambda xp, x: xp.delete(x, np.array([True, False, False, True]), 0), (M,)),
        (lambda xp, x: xp.delete(x, []), (M,)),
    ],
    "insert": [
        (lambda xp, x: xp.insert(x, 1, 5), (V,)),
        (lambda xp, x: xp.insert(x, -2, [5, 6]), (V,)),
        (lambda xp, x: xp.insert(x, 4, x[0], axis=0), (M,)),
        (lambda xp, x: xp.insert(x, 1, x[:, 0], axis=1), (M,)),
        (lambda xp, x: xp.insert(x, [0, 2, 2], [7, 8, 9]), (V,)),
        (lambda xp, x: xp.insert(x, [1, 3], x[:, :2], axis=1), (M,)),
        (lambda xp, x: xp.insert(x, slice(0, 4, 2), -1, axis=0), (M,)),
    ],
    "union1d": [
        (lambda xp, x, y: xp.union1d(x, y, size=8), (N, K)),
        (lambda xp, x, y: xp.union1d(x, y, size=9, fill_value=-7), (V, G)),
    ],
    "intersect1d": [
        (lambda xp, x, y: xp.intersect1d(x, y, size=6), (N, K)),
        (lambda xp, x, y: xp.intersect1d(x, y + 100, size=3), (N, K)),
        (lambda xp, x, y: xp.intersect1d(x, y, size=6, fill_value=2.5), (EDGES, K)),
    ],
    "setdiff1d": [
        (lambda xp, x, y: xp.setdiff1d(x, y, size=5), (K, N)),
        (lambda xp, x, y: xp.setdiff1d(x, y, size=5, fill_value=9), (K, N)),
    ],
    "setxor1d": [(lambda xp, x, y: xp.setxor1d(x, y, size=12, fill_value=-9), (K, N))],
    "apply_along_axis": [
        (lambda xp, x: xp.apply_along_axis(lambda line: (line * line).sum(), 1, x), (M,)),
        (lambda xp, x: xp.apply_along_axis(lambda line: line[::-1], 0, x), (M,)),
        (lambda xp, x: xp.apply_along_axis(lambda v, k: k * v[:2], 1, x, 3.0), (T,)),
    ],
    "polyval": [
        (lambda xp, x: xp.polyval([2, -1, 3], x), (M,)),
        (lambda xp, p, x: xp.polyval(p, x), (V, F)),
        (lambda xp, x: xp.polyval([1, 2], x), (K,)),
    ],
    "ravel_multi_index": [
        (lambda xp, i: xp.ravel_multi_index((i, i + 1), (3, 5)), (N % 3,)),
        (lambda xp, i: xp.ravel_multi_index((i, i), (3, 2), mode=("wrap", "clip")), (K,)),
        (lambda xp, i: xp.ravel_multi_index((i, i), (4, 5), order="F"), (N % 3,)),
    ],
    "unravel_index": [
        (lambda xp, i: xp.unravel_index(i, (2, 3)), (abs(K),)),
        (lambda xp, i: xp.unravel_index(i, (2, 3, 1), order="F"), (abs(K),)),
        (lambda xp, i: xp.unravel_index(i, 6), (abs(K),)),
    ],
    "unwrap": [
        (lambda xp, x: xp.unwrap(x * 5), (V,)),
        (lambda xp, x: xp.unwrap(x * 5, axis=0), (M,)),
        (lambda xp, x: xp.unwrap(x * 5, 4.0, period=5.0), (M,)),
        (lambda xp, x: xp.unwrap(x * 3, period=4), (K,)),
        (lambda xp, x: xp.unwrap(x * 3, period=5), (K,)),
    ],
    "histogram": [
        (lambda xp, x: xp.histogram(x), (M,)),
        (lambda xp, x: xp.histogram(x, 4, (-1.0, 1.0)), (M,)),
        (lambda xp, x: xp.histogram(x, EDGES), (K,)),
        (lambda xp, x: xp.histogram(x, 5, density=True), (V,)),
        (lambda xp, x, w: xp.histogram(x, 3, weights=w), (V, W)),
        (lambda xp, x: xp.histogram(x, 4), (np.full(3, 2.0),)),
        (
            lambda xp, x: xp.histogram(x, 4, range=(0, 4)),
            (OUTSIDE,),
        ),
        (lambda xp, x: xp.histogram(x, 6), (K,)),
    ],
    "histogram_bin_edges": [
        (lambda xp, x: xp.histogram_bin_edges(x, 4), (V,)),
        (lambda xp, x: xp.histogram_bin_edges(x, 4, (0, 1)), (V,)),
    ],
    "unique": [
        (lambda xp, x: xp.unique(x, size=7, fill_value=-1), (N,)),
        (
            lambda xp, x: xp.unique(
                x, size=14, return_index=True, return_inverse=True, return_counts=True
            ),
            (K,),
        ),
        (lambda xp, x: xp.unique(x, size=2), (N,)),
        (lambda xp, x: xp.unique(x, size=8, return_counts=True), (G.round(),)),
    ],
    **{
        name: [
            *along(name, None, 0, (0, 1), arrays=(M, K, F, G)),
            *along(name, 1, arrays=(T, G), keepdims=True),
            (lambda xp, x, name=name: getattr(xp, name)(x), (V[:6],)),
            (lambda xp, x, name=name: getattr(xp, name)(x, axis=(2, 0)), (T,)),
        ]
        for name in ("median", "nanmedian")
    },
    **{
        name: [
            *[
                (lambda xp, x, q=q, name=name: getattr(xp, name)(x, q), (V,))
                for q in (0, 1, 0.3, 0.5)
            ],
            *[
                (
                    lambda xp, x, a=a, name=name: getattr(xp, name)(
                        x, np.array([[0.1, 0.5], [0.75, 1.0]]), axis=a, keepdims=True
                    ),
                    (array,),
                )
                for a in (None, 0, (0, 1))
                for array in (M, G, K)
            ],
            (lambda xp, x, name=name: getattr(xp, name)(x, 0.4, axis=1), (F,)),
            (lambda xp, x, name=name: getattr(xp, name)(x, [0.4, 0.6], axis=1), (T,)),
        ]
        for name in ("quantile", "nanquantile", "percentile", "nanpercentile")
    },
}
