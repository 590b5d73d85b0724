"""Which ops are there? One file a family; importing them fills the registry and the surface."""

from graphc.ops import (
    cholesky,
    convolve,
    custom,
    editing,
    lu,
    matrices,
    polynomials,
    sets,
    systems,
    tapers,
    triangular,
)

__all__ = [
    "cholesky",
    "convolve",
    "custom",
    "editing",
    "lu",
    "matrices",
    "polynomials",
    "sets",
    "systems",
    "tapers",
    "triangular",
]
