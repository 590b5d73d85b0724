"""How close to the memory's speed is what only moves and adds?  Compare the roofline fractions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "reductions over any axis, broadcasting, strides, transposes, gathers of some 64 MB"
SIDE = 4096
SHAPES: dict[str, tuple[int, ...]]
SHAPES = {
    "middle": (256, 256, 256),
    "outer": (4096, 1),
    "flat": (1 << 24,),
    "points": (1 << 22, 3),
    "images": (64, 64, 56, 56),
    "table": (50_000, 256),
    "lines": (1 << 16, 64),
}
COUNTS = 1 << 20
WORDS = (64, 512)
tolerance = workload.tolerance_of


def _moments(lib: Any, x: Any) -> Any:
    return [lib.sum(x), lib.sum(x * x), lib.max(x), lib.min(x)]


def _deviations(lib: Any, x: Any) -> Any:
    return [lib.mean(x, axis=0), lib.var(x, axis=0)]


def _pad(lib: Any, x: Any) -> Any:
    return lib.pad(x, ((3, 3), (3, 3)), mode="reflect")


# Written once, for every library that has NumPy's names; what they need of x, y and i.
CASES: dict[str, tuple[Callable[..., Any], str]] = {
    "sum of all": (lambda lib, x: lib.sum(x), "x"),
    "sum of rows": (lambda lib, x: lib.sum(x, axis=1), "x"),
    "sum of columns": (lambda lib, x: lib.sum(x, axis=0), "x"),
    "max of columns": (lambda lib, x: lib.max(x, axis=0), "x"),
    "sum over the middle": (lambda lib, x: lib.sum(x, axis=1), "middle"),
    "sum over the ends": (lambda lib, x: lib.sum(x, axis=(0, 2)), "middle"),
    "four moments": (_moments, "x"),
    "mean and variance of columns": (_deviations, "x"),
    "add a row": (lambda lib, x, row: x + row, "x row"),
    "outer sum": (lambda lib, outer, row: outer + row, "outer row"),
    "every third": (lambda lib, flat: flat[::3] * 2, "flat"),
    "reversed": (lambda lib, flat: flat[::-1] + 1, "flat"),
    "blocks of columns": (lambda lib, x: x[:, 64:3008] + x[:, 1088:4032], "x"),
    "transposed": (lambda lib, x: lib.transpose(x) * 2, "x"),
    "plus its transpose": (lambda lib, x: x + lib.transpose(x), "x"),
    "axes turned": (lambda lib, m: lib.transpose(m, (2, 0, 1)) * 2, "middle"),
    "rows gathered": (lambda lib, x, rows: lib.take(x, rows, axis=0), "x rows"),
    "mean of images": (lambda lib, images: lib.mean(images, axis=(2, 3)), "images"),
    "mean of channels": (lambda lib, images: lib.mean(images, axis=(0, 2, 3)), "images"),
    "sum of points": (lambda lib, points: lib.sum(points, axis=1), "points"),
    "centre of points": (lambda lib, points: lib.mean(points, axis=0), "points"),
    "points by coordinate": (lambda lib, points: lib.transpose(points) * 2, "points"),
    "matrices transposed": (lambda lib, m: lib.transpose(m, (0, 2, 1)) * 2, "middle"),
    "channels last": (lambda lib, images: lib.transpose(images, (0, 2, 3, 1)) * 2, "images"),
    "joined": (lambda lib, x: lib.concatenate([x, x], axis=1), "x"),
    "rolled": (lambda lib, x: lib.roll(x, 5, axis=1), "x"),
    "reflected at the edges": (_pad, "x"),
    "columns gathered": (lambda lib, x, rows: lib.take(x, rows, axis=1), "x rows"),
    "embedding": (lambda lib, table, words: lib.take(table, words, axis=0), "table words"),
    "short lines sorted": (lambda lib, lines: lib.sort(lines, axis=-1), "lines"),
    "elements gathered": (lambda lib, flat, places: lib.take(flat, places, axis=0), "flat places"),
}
VARIANTS = tuple(f"f32 {name}" for name in CASES)


def inputs(variant: str) -> Values:
    generator = np.random.default_rng(23)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "x": lambda: generator.random((SIDE, SIDE), "f4"),
        "row": lambda: generator.random(SIDE, "f4"),
        "rows": lambda: generator.integers(0, SIDE, SIDE),
        "places": lambda: generator.integers(0, 1 << 24, COUNTS),
        "words": lambda: generator.integers(0, SHAPES["table"][0], WORDS),
    }
    for name, shape in SHAPES.items():
        makers[name] = lambda shape=shape: generator.random(shape, "f4")  # type: ignore[misc]
    return {name: makers[name]() for name in CASES[variant[4:]][1].split()}


def operations(variant: str) -> float:
    return 0.0


def _results(lib: Any, variant: str, values: Any) -> Any:
    results = CASES[variant[4:]][0](lib, *values)
    return list(results) if isinstance(results, (list, tuple)) else [results]


def by_numpy(values: Values, variant: str) -> Any:
    return [np.asarray(r) for r in _results(np, variant, values.values())]


reference = by_numpy


def of_graphc(variant: str, **symbols: Any) -> Any:
    import graphc as gx

    return _results(gx, variant, symbols.values())


def of_jax(variant: str, **arrays: Any) -> Any:
    import jax.numpy as jnp

    return _results(jnp, variant, [arrays[k] for k in CASES[variant[4:]][1].split()])


class _Torch:
    """NumPy's names for PyTorch's functions."""

    def __getattr__(self, name: str) -> Any:
        import torch

        named = {"max": torch.amax, "min": torch.amin, "concatenate": torch.cat}
        return named.get(name) or getattr(torch, name)

    def sort(self, x: Any, axis: int) -> Any:
        import torch

        return torch.sort(x, axis).values

    def roll(self, x: Any, shift: int, axis: int) -> Any:
        import torch

        return torch.roll(x, shift, axis)

    def pad(self, x: Any, widths: Any, mode: str) -> Any:
        from torch.nn.functional import pad

        sides = [side for pair in reversed(widths) for side in pair]
        return pad(x[None], sides, mode=mode)[0]

    def var(self, x: Any, axis: int) -> Any:
        import torch

        return torch.var(x, axis, correction=0)

    def transpose(self, x: Any, axes: Any = None) -> Any:
        return x.permute(*axes) if axes else x.T

    def take(self, x: Any, places: Any, axis: int) -> Any:
        return x[places] if axis == 0 else x.index_select(axis, places)


def of_torch(variant: str, **tensors: Any) -> Any:
    if variant.endswith("reversed"):
        return [tensors["flat"].flip(0) + 1]
    return _results(_Torch(), variant, tensors.values())


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_numpy),
    "jax": workload.jax(of_jax),
    **workload.torch(of_torch),
}
