"""Which ops are there? One file a family; importing the package fills the registry and the surface.
"""

from graphc.ops import (
    arithmetic,
    branch,
    compare,
    contract,
    control,
    cumulative,
    indexing,
    iteration,
    movement,
    operands,
    reduce,
    special,
    transcend,
)

__all__ = [
    "arithmetic",
    "branch",
    "compare",
    "contract",
    "control",
    "cumulative",
    "indexing",
    "iteration",
    "movement",
    "operands",
    "reduce",
    "special",
    "transcend",
]
