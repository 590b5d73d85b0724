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


def dropout(key: Any, x: Any, rate: Any) -> Any:
    """x with each element 0 with probability `rate`, the others divided by 1 - rate.

    `key` is one of `gx.random`; give each layer and step its own. The mask is never stored: it is
    drawn in the kernel that reads x, and again in that of the derivative. `rate` is a number in
    [0, 1) or a node.
    """
    if isinstance(rate, (int, float)) and not 0 <= rate < 1:
        raise gx.GraphError(f"dropout: the rate is at least 0 and below 1, got {rate}")
    kept = gx.cast(1 - rate, x.dtype)
    return gx.where(gx.random.bernoulli(key, kept, x.shape), x / kept, gx.zeros_like(x))


@dataclass
class Embedding:
    """Parameters of an embedding: `weight` [words, width]."""

    weight: Any

    @staticmethod
    def symbols(name: str, words: Any, width: Any, dtype: Any = "float32") -> Embedding:
        """The symbol `name.weight`."""
        return Embedding(gx.symbol(f"{name}.weight", (words, width), dtype))


def embedding(layer: Embedding, indices: Any) -> Any:
    """The rows of `weight` at `indices`, integers of any shape: [...] to [..., width].

    An index out of range is an error at run time.
    """
    return gx.take(layer.weight, indices, axis=0)


def flatten(x: Any, start: int = 1) -> Any:
    """x with its axes from `start` on as one: [batch, ...] to [batch, elements]."""
    return gx.reshape(x, (*x.shape[:start], -1))
