"""What is a layer? A function from parameters and an input to an output; parameters are a plain
container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import graphc as gx


@dataclass
class Dense:
    """Parameters of a dense layer: `weight` [inputs, outputs] and `bias` [outputs]; symbols, nodes
    or arrays.
    """

    weight: Any
    bias: Any

    @staticmethod
    def symbols(name: str, inputs: Any, outputs: Any, dtype: Any = "float32") -> Dense:
        """Symbols `name.weight` and `name.bias`."""
        return Dense(
            gx.symbol(f"{name}.weight", (inputs, outputs), dtype),
            gx.symbol(f"{name}.bias", (outputs,), dtype),
        )


def dense(layer: Dense, x: Any) -> Any:
    """`x @ weight + bias` over the last axis of `x`: [..., inputs] to [..., outputs]."""
    return x @ layer.weight + layer.bias
