"""Which ops are there? One file a family, loaded when it is asked for (see `graphc.loading`)."""

from __future__ import annotations

import importlib
from typing import Any

MODULES = (
    "activations",
    "arithmetic",
    "arrangement",
    "beta",
    "bitwise",
    "branch",
    "checkpoints",
    "cholesky",
    "compare",
    "coloring",
    "composed",
    "contract",
    "control",
    "convolution",
    "convolve",
    "counting",
    "creation",
    "cumulative",
    "curves",
    "custom",
    "diagonal",
    "differences",
    "division",
    "editing",
    "eigh",
    "einsum",
    "exponential",
    "filters",
    "flat_positions",
    "floating",
    "gather",
    "indexing",
    "iteration",
    "jacobi",
    "joining",
    "lu",
    "matrices",
    "movement",
    "norms",
    "operands",
    "padding",
    "polynomials",
    "pooling",
    "products",
    "qr",
    "quantiles",
    "random",
    "reduce",
    "rounding",
    "sets",
    "sorting",
    "special",
    "special_functions",
    "spectra",
    "statistics",
    "subscript",
    "svd",
    "systems",
    "tapers",
    "transcend",
    "triangular",
    "trigonometry",
    "update",
    "windows",
)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'graphc.ops' has no attribute {name!r}")
    return importlib.import_module(f"graphc.ops.{name}")
