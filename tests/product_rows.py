"""Which calls of products, convolutions and pooling mean what NumPy's do?  Rows for `test_surface`.

Each is a call, written once over `xp`, with its arguments; `MEANING` says what functions mean that
NumPy lacks, in loops over what a window sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[..., Any]
Rows = list[tuple[Call, tuple[Any, ...]]]

RANDOM = np.random.default_rng(11)


def _array(*shape: int, dtype: str = "float64") -> np.ndarray:
    return RANDOM.uniform(-2, 2, shape).astype(dtype)


V, W, M, N, T = _array(4), _array(3), _array(3, 4), _array(4, 2), _array(2, 3, 4)
SQUARE, STACK = _array(3, 3), _array(2, 3, 3)
F = _array(3, 4, dtype="float32")
I = RANDOM.integers(-5, 6, (4, 3))  # noqa: E741
B = RANDOM.integers(0, 2, (3, 4)).astype(bool)
LINE, IMAGE, BODY = _array(2, 4, 9), _array(2, 4, 7, 6), _array(1, 2, 4, 5, 3)
ROUNDED = np.round(IMAGE)  # with ties


# -- what is meant ---------------------------------------------------------------------------------


def _each(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * rank


def pairs(padding: Any, sizes: Any, window: Any, strides: Any, dilations: Any) -> list[Any]:
    """The padding before and after each axis."""
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    if padding != "same":
        given = padding if isinstance(padding, tuple) else (padding,) * len(sizes)
        return [p if isinstance(p, tuple) else (p, p) for p in given]
    made = []
    for n, k, s, d in zip(sizes, window, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        made.append((total // 2, total - total // 2))
    return made


def _first(x: Any, layout: str) -> Any:
    """The array with its channels before the spatial axes."""
    return x if layout[1] == "C" else np.moveaxis(x, -1, 1)


def _back(x: Any, layout: str) -> Any:
    return x if layout[1] == "C" else np.moveaxis(x, 1, -1)


def reference_conv(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    input_dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    dtype: Any = None,
) -> Any:
    """A convolution, one output element after the other."""
    wanted = np.dtype(dtype) if dtype else np.result_type(x, w)
    x = _first(x.astype(wanted), layout)
    w = w if layout[1] == "C" else np.moveaxis(w, (-1, -2), (0, 1))
    w = w.astype(wanted)
    rank = x.ndim - 2
    steps, strides = _each(input_dilation, rank), _each(stride, rank)
    dilations = _each(dilation, rank)
    spread = np.zeros(
        (*x.shape[:2], *(max((n - 1) * s + 1, 0) for n, s in zip(x.shape[2:], steps, strict=True))),
        wanted,
    )
    spread[(..., *(slice(None, None, s) for s in steps))] = x
    widths = pairs(padding, spread.shape[2:], w.shape[2:], strides, dilations)
    spread = np.pad(spread, [(0, 0), (0, 0), *widths])
    parts = zip(spread.shape[2:], w.shape[2:], strides, dilations, strict=True)
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in parts]
    result = np.zeros((x.shape[0], w.shape[0], *counts), wanted)
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for place in np.ndindex(*counts):
        at = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(place, strides, w.shape[2:], dilations, strict=True)
        )
        for o in range(w.shape[0]):
            group = o // outputs
            seen = spread[(slice(None), slice(group * inputs, (group + 1) * inputs), *at)]
            result[(slice(None), o, *place)] = (seen * w[o]).sum(axis=tuple(range(1, seen.ndim)))
    return _back(result, layout)


def reference_conv_transpose(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    output_padding: Any = 0,
    groups: int = 1,
    layout: str = "NCHW",
) -> Any:
    """Every element of x adds the kernels to its window."""
    x = _first(x, layout)
    w = w if layout[1] == "C" else np.moveaxis(w, (-1, -2), (0, 1))
    rank = x.ndim - 2
    strides, dilations = _each(stride, rank), _each(dilation, rank)
    more = _each(output_padding, rank)
    covered = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[2:], strides, w.shape[2:], dilations, strict=True)
    ]
    if padding == "same":
        sizes = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        widths = pairs("same", sizes, w.shape[2:], strides, dilations)
        parts = zip(covered, sizes, widths, strict=True)
        whole = [max(n, size + lo + hi) for n, size, (lo, hi) in parts]
    else:
        widths = pairs(padding, x.shape[2:], w.shape[2:], strides, dilations)
        whole = [n + extra for n, extra in zip(covered, more, strict=True)]
        sizes = [n - lo - hi for n, (lo, hi) in zip(whole, widths, strict=True)]
    per_group = w.shape[1]
    result = np.zeros((x.shape[0], per_group * groups, *whole), x.dtype)
    for c, *place in np.ndindex(*x.shape[1:]):
        group = c // (x.shape[1] // groups)
        at = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(place, strides, w.shape[2:], dilations, strict=True)
        )
        mine = slice(group * per_group, (group + 1) * per_group)
        value = x[(slice(None), c, *place)].reshape(-1, *(1,) * (rank + 1))
        result[(slice(None), mine, *at)] += value * w[c]
    cut = tuple(slice(lo, lo + n) for (lo, _), n in zip(widths, sizes, strict=True))
    return _back(result[(..., *cut)], layout)


def reference_pool(
    x: Any,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    dilation: Any = 1,
    layout: str = "NCHW",
    ceil_mode: bool = False,
    kind: str = "max",
    count_include_pad: bool = True,
) -> Any:
    """A reduction of each window, one after the other."""
    x = _first(x, layout)
    rank, sizes = x.ndim - 2, x.shape[2:]
    windows = _each(window, rank)
    strides, dilations = _each(window if stride is None else stride, rank), _each(dilation, rank)
    widths = pairs(padding, sizes, windows, strides, dilations)
    places, seen = [], []
    parts = zip(sizes, windows, strides, dilations, widths, strict=True)
    for n, k, s, d, (lo, hi) in parts:
        free = n + lo + hi - (k - 1) * d - 1
        count = free // s + 1
        if ceil_mode:
            count = -(-free // s) + 1
            count -= (count - 1) * s >= n + lo
        places.append(range(count))
        seen.append([[p * s + o * d - lo for o in range(k)] for p in range(count)])
    result = np.zeros((*x.shape[:2], *map(len, places)), x.dtype)
    for place in itertools.product(*places):
        offsets = [seen[axis][p] for axis, p in enumerate(place)]
        inside = [
            [i for i in own if 0 <= i < n] for own, n in zip(offsets, sizes, strict=True)
        ]
        block = x[(slice(None), slice(None), *np.ix_(*inside))]
        axes = tuple(range(2, 2 + rank))
        value = block.max(axis=axes, initial=-np.inf) if kind == "max" else block.sum(axis=axes)
        if kind == "avg":
            counts = [
                len(own) if not count_include_pad else sum(i < n + hi for i in whole)
                for own, whole, n, (_, hi) in zip(inside, offsets, sizes, widths, strict=True)
            ]
            value = value / np.prod(counts)
        result[(..., *place)] = value
    return _back(result, layout)


def _pool_of(kind: str) -> Call:
    return lambda x, *args, **options: reference_pool(x, *args, kind=kind, **options)


def _adaptive(x: Any, output_size: Any, layout: str = "NCHW") -> Any:
    x = _first(x, layout)
    for axis, parts in enumerate(_each(output_size, x.ndim - 2), 2):
        n = x.shape[axis]
        bounds = [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
        x = np.stack([x.take(range(*b), axis).mean(axis=axis) for b in bounds], axis)
    return _back(x, layout)


def _spatial(x: Any, layout: str) -> tuple[int, ...]:
    return tuple(range(2, x.ndim)) if layout[1] == "C" else tuple(range(1, x.ndim - 1))


def _upsample(x: Any, scale: Any, layout: str = "NCHW") -> Any:
    axes = _spatial(x, layout)
    for axis, count in zip(axes, _each(scale, len(axes)), strict=True):
        x = np.repeat(x, count, axis)
    return x


def _conv_of(rank: int) -> Call:
    return lambda x, *args, **options: reference_conv(x, *args, **options)


def _dtype_of(function: Call) -> Call:
    """A function of NumPy that has no `dtype`, with one."""

    def call(x: Any, y: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
        wanted = np.dtype(dtype) if dtype else np.result_type(x, y)
        return function(np.asarray(x, wanted), np.asarray(y, wanted), *args, **options)

    return call


MEANING: dict[str, Call] = {
    "conv": reference_conv,
    **{f"conv{rank}d": _conv_of(rank) for rank in (1, 2, 3)},
    "conv_transpose": reference_conv_transpose,
    **{f"{kind}_pool": _pool_of(kind) for kind in ("max", "avg", "sum")},
    "global_max_pool": lambda x, layout="NCHW", keepdims=False: x.max(
        axis=_spatial(x, layout), keepdims=keepdims
    ),
    "global_avg_pool": lambda x, layout="NCHW", keepdims=False: x.mean(
        axis=_spatial(x, layout), keepdims=keepdims
    ),
    "adaptive_avg_pool": _adaptive,
    "upsample": _upsample,
    "sliding_window_view": np.lib.stride_tricks.sliding_window_view,
    "dot": _dtype_of(np.dot),
    "tensordot": _dtype_of(np.tensordot),
    "inner": _dtype_of(np.inner),
    "vdot": _dtype_of(np.vdot),
    "multi_dot": np.linalg.multi_dot,
    "matrix_power": np.linalg.matrix_power,
}

# -- the rows --------------------------------------------------------------------------------------


def einsum(text: str, *arrays: Any, **options: Any) -> tuple[Call, tuple[Any, ...]]:
    return (lambda xp, *given: xp.einsum(text, *given, **options)), arrays


def kernels(*shape: int, layout: str = "NCHW") -> np.ndarray:
    """Kernels [outputs, channels, *spatial], or with these two last."""
    made = _array(*shape)
    return made if layout[1] == "C" else np.ascontiguousarray(np.moveaxis(made, (0, 1), (-1, -2)))


def _pools(name: str, *images: Any, **options: Any) -> Rows:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((2,), {}),
        (((3, 2), 2), {"padding": "same"}),
        ((3, 2, 1), {"ceil_mode": True}),
        ((2, (1, 3), ((1, 0), (0, 1))), {"dilation": (2, 1)}),
        ((3, 2), {"layout": "NHWC", "padding": "same"}),
    ]
    return [
        (lambda xp, x, a=a, o=o: getattr(xp, name)(x, *a, **o, **options), (image,))
        for a, o in calls
        for image in images
    ]


ROWS: dict[str, Rows] = {
    "einsum": [
        *[einsum(text, M) for text in ("ij->ji", "ij->", "ij", "ji", "ij->i", "...j->...")],
        *[einsum(text, SQUARE) for text in ("ii", "ii->i")],
        einsum("ij,ij->", M, M),
        einsum("ij,jk", M, N),
        einsum("ij,jk->ki", M, N),
        einsum("bij,bkj->bik", T, T),
        einsum("i,j->ij", V, W),
        einsum("...ij,...jk->...ik", T, _array(5, 1, 4, 2)),
        einsum("...,...", T, V),
        einsum("i...,j...->...ij", T, _array(5, 1, 4)),
        einsum("ii,ij->j", SQUARE, M),
        einsum("ijj,kj->ik", STACK, M[:, :3]),
        einsum("ij,jk,kl,lm->im", M, N, _array(2, 5), _array(5, 3)),
        einsum("ij,ij,ij->j", M, M, M),
        einsum("a,ab,b->", W, M, V),
        einsum("a,b,c->cab", W, V, W),
        einsum("ij,k->i", M, V),
        einsum("ij,ij->i", B, B),
        einsum("ij->i", B),
        einsum("ij,jk->ik", F, I),
        einsum("ij,kj->ik", I, I.astype("int8")),
        einsum("ij,jk->ik", _array(2, 1), M),
        einsum(",i->i", V[0], V),
        einsum("ij,jk->ik", F, F.T, dtype="float64"),
        (lambda xp, x, y: xp.einsum(x, [0, 1], y, [1, 2], [2, 0]), (M, N)),
        (lambda xp, x, y: xp.einsum(x, [Ellipsis, 1], y, [1, 2]), (T, N)),
        einsum("ij,jk,kl->il", M, N, _array(2, 5), optimize="greedy"),
        einsum("ij,jk,kl->il", M, N, _array(2, 5), optimize=False),
        einsum("ij,jk,kl->il", M, N, _array(2, 5), optimize=["einsum_path", (1, 2), (0, 1)]),
        einsum("ij,jk,kl->il", M, N, _array(2, 5), optimize=["einsum_path", (0, 1, 2)]),
    ],
    "einsum_path": [
        (lambda xp, x, y: xp.full((), len(xp.einsum_path("ij,jk->ik", x, y)[0])), (M, N))
    ],
    "inner": [
        (lambda xp, x, y: xp.inner(x, y), given)
        for given in ((V, V), (M, M), (T, M), (M, V), (V[0], M), (I, I))
    ],
    "vdot": [(lambda xp, x, y: xp.vdot(x, y), (M, M)), (lambda xp, x, y: xp.vdot(x, y), (N, N))],
    "vecdot": [
        (lambda xp, x, y: xp.vecdot(x, y), given) for given in ((V, V), (T, M), (T, V), (I, I))
    ]
    + [(lambda xp, x, y: xp.vecdot(x, y, axis=0), (M, W[:, None]))],
    "matvec": [(lambda xp, x, y: xp.matvec(x, y), g) for g in ((M, V), (T, V), (M, T[:, 0]))],
    "vecmat": [(lambda xp, x, y: xp.vecmat(x, y), g) for g in ((W, M), (W, T), (T[..., 0], M))],
    "convolve": [
        *((lambda xp, x, y, m=m: xp.convolve(x, y, m), (V, W)) for m in ("full", "same", "valid")),
        *((lambda xp, x, y, m=m: xp.convolve(x, y, m), (W, V)) for m in ("full", "same", "valid")),
        (lambda xp, x, y: xp.convolve(x, y), (I[:, 0], V)),
    ],
    "correlate": [
        *((lambda xp, x, y, m=m: xp.correlate(x, y, m), (V, W)) for m in ("full", "same", "valid")),
        *((lambda xp, x, y, m=m: xp.correlate(x, y, m), (W, V)) for m in ("full", "same", "valid")),
        (lambda xp, x, y: xp.correlate(x, y, "same"), (V, V[:2])),
    ],
    "kron": [
        (lambda xp, x, y: xp.kron(x, y), g) for g in ((M, N), (V, M), (T, V), (I, B), (V[0], W))
    ],
    "cross": [
        (lambda xp, x, y: xp.cross(x, y), (I, W)),
        (lambda xp, x, y: xp.cross(x, y, axis=0), (M, M[::-1])),
        (lambda xp, x, y: xp.cross(x, y, axisa=1, axisb=0, axisc=0), (T, M)),
    ],
    "multi_dot": [
        (lambda xp, *given: xp.multi_dot(given), g)
        for g in ((M, N), (W, M, N, V[:2]), (M, N, N.T, M.T, SQUARE))
    ],
    "matrix_power": [
        (lambda xp, x, n=n: xp.matrix_power(x, n), (array,))
        for n in (0, 1, 2, 5)
        for array in (SQUARE, STACK, I[:3])
    ],
    "sliding_window_view": [
        (lambda xp, x: xp.sliding_window_view(x, 3), (V,)),
        (lambda xp, x: xp.sliding_window_view(x, (2, 2)), (M,)),
        (lambda xp, x: xp.sliding_window_view(x, (2, 3), (0, 0 - 1)), (T,)),
    ],
    "conv": [
        (lambda xp, x, w: xp.conv(x, w, 2, "same", dilation=2), (IMAGE, kernels(3, 4, 3, 3))),
        (lambda xp, x, w: xp.conv(x, w, (2, 1), ((1, 0), 2)), (IMAGE, kernels(3, 4, 3, 2))),
        (lambda xp, x, w: xp.conv(x, w, groups=2), (IMAGE, kernels(6, 2, 3, 2))),
        (lambda xp, x, w: xp.conv(x, w, padding=1, groups=4), (IMAGE, kernels(8, 1, 3, 3))),
        (lambda xp, x, w: xp.conv(x, w, stride=3), (IMAGE, kernels(5, 4, 1, 1))),
        (lambda xp, x, w: xp.conv(x, w, 1, 2, input_dilation=(2, 3)), (IMAGE, kernels(3, 4, 2, 3))),
        (lambda xp, x, w: xp.conv(x, w, dtype="float32"), (IMAGE, kernels(3, 4, 2, 2))),
        (
            lambda xp, x, w: xp.conv(x, w, 2, "same", layout="NHWC"),
            (_array(2, 7, 9, 3), kernels(4, 3, 3, 3, layout="NHWC")),
        ),
        (
            lambda xp, x, w: xp.conv(x, w, 1, 1, groups=2, layout="NHWC"),
            (_array(2, 5, 8, 6), kernels(4, 3, 3, 3, layout="NHWC")),
        ),
        (
            lambda xp, x, w: xp.conv(x, w, 1, 1, groups=6, layout="NHWC"),
            (_array(2, 5, 8, 6), kernels(6, 1, 3, 3, layout="NHWC")),
        ),
    ],
    "conv1d": [(lambda xp, x, w: xp.conv1d(x, w, 2, 1), (LINE, kernels(3, 4, 3)))],
    "conv2d": [(lambda xp, x, w: xp.conv2d(x, w, 1, "same"), (IMAGE, kernels(3, 4, 3, 3)))],
    "conv3d": [
        (
            lambda xp, x, w: xp.conv3d(x, w, 1, 1, layout="NCDHW"),
            (BODY, kernels(3, 2, 2, 3, 2)),
        )
    ],
    "conv_transpose": [
        (lambda xp, x, w: xp.conv_transpose(x, w), (IMAGE, kernels(4, 3, 3, 2))),
        (lambda xp, x, w: xp.conv_transpose(x, w, 2, 1, 1, 1), (IMAGE, kernels(4, 3, 3, 3))),
        (lambda xp, x, w: xp.conv_transpose(x, w, 2, "same"), (IMAGE, kernels(4, 3, 3, 3))),
        (lambda xp, x, w: xp.conv_transpose(x, w, 3, "same"), (IMAGE, kernels(4, 3, 2, 2))),
        (lambda xp, x, w: xp.conv_transpose(x, w, 2, groups=2), (IMAGE, kernels(4, 3, 3, 3))),
        (
            lambda xp, x, w: xp.conv_transpose(x, w, 2, 1, layout="NHWC"),
            (_array(2, 4, 5, 3), kernels(3, 2, 3, 3, layout="NHWC")),
        ),
    ],
    "max_pool": _pools("max_pool", IMAGE, ROUNDED)
    + [(lambda xp, x: xp.max_pool(x, 3, 2, layout="NCW"), (LINE,))],
    "sum_pool": _pools("sum_pool", IMAGE),
    "avg_pool": _pools("avg_pool", IMAGE) + _pools("avg_pool", IMAGE, count_include_pad=False),
    **{
        name: [
            (lambda xp, x, name=name: getattr(xp, name)(x), (IMAGE,)),
            (lambda xp, x, name=name: getattr(xp, name)(x, "NDHWC", True), (BODY,)),
        ]
        for name in ("global_max_pool", "global_avg_pool")
    },
    "adaptive_avg_pool": [
        (lambda xp, x: xp.adaptive_avg_pool(x, (3, 4)), (IMAGE,)),
        (lambda xp, x: xp.adaptive_avg_pool(x, (7, 3)), (IMAGE,)),
        (lambda xp, x: xp.adaptive_avg_pool(x, 2, "NHWC"), (IMAGE,)),
    ],
    "upsample": [
        (lambda xp, x: xp.upsample(x, (2, 3)), (IMAGE,)),
        (lambda xp, x: xp.upsample(x, 2, "NWC"), (LINE,)),
    ],
}
