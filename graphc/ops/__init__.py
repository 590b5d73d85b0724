"""Which ops are there? One file a family; importing the package fills the registry and the surface.
"""

from graphc.ops import (
    arithmetic,
    compare,
    contract,
    control,
    cumulative,
    indexing,
    movement,
    operands,
    reduce,
    special,
    transcend,
)

__all__ = [
    "arithmetic",
    "compare",
    "contract",
    "control",
    "cumulative",
    "indexing",
    "movement",
    "operands",
    "reduce",
    "special",
    "transcend",
]
