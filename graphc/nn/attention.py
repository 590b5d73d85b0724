"""What looks at a whole sequence at once?  Attention.

The scores are scaled, masked and turned into weights in one kernel between two products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import graphc as gx
from graphc.nn.layers import Dense, dense


def attention(
    query: Any, key: Any, value: Any, mask: Any = None, causal: bool = False
) -> Any:
    """softmax(query @ key.T / sqrt(d)) @ value: of [..., n, d], [..., m, d] and [..., m, e] the
    result is [..., n, e].

    `mask` (bool, of a shape that broadcasts to [..., n, m]) is true where a query may look;
    `causal` lets query i look at keys up to i only. A query that may look nowhere gives NaN.
    Vaswani et al.: Attention is all you need, 2017, equation 1.
    """
    scale = 1 / query.shape[-1] ** 0.5
    scores = (query @ gx.swapaxes(key, -1, -2)) * scale
    if causal:
        shape = scores.shape[-2:]
        early = gx.iota(shape, 1) <= gx.iota(shape, 0)
        mask = early if mask is None else mask & early
    if mask is not None:
        scores = gx.where(mask, scores, float("-inf"))
    return gx.softmax(scores, axis=-1) @ value


@dataclass
class Attention:
    """Parameters of multi-head attention: a `Dense` each for query, key, value and the result."""

    query: Dense
    key: Dense
    value: Dense
    result: Dense

    @staticmethod
    def symbols(name: str, width: int, dtype: Any = "float32") -> Attention:
        """Symbols `name.query.weight`, ...: all from `width` to `width`."""
        parts = ("query", "key", "value", "result")
        return Attention(*(Dense.symbols(f"{name}.{p}", width, width, dtype) for p in parts))


def multi_head_attention(
    layer: Attention,
    x: Any,
    heads: int,
    source: Any = None,
    mask: Any = None,
    causal: bool = False,
) -> Any:
    """Attention of x [..., n, width] to `source` [..., m, width] (None: x itself), in `heads` parts
    of the width; `mask` broadcasts to [..., heads, n, m].
    """
    source = x if source is None else source
    width = layer.result.weight.shape[0]
    if width % heads:
        raise gx.GraphError(f"multi_head_attention: a width of {width} is no {heads} equal heads")

    def apart(y: Any) -> Any:
        parted = gx.reshape(y, (*y.shape[:-1], heads, width // heads))
        return gx.swapaxes(parted, -2, -3)

    parts = (dense(layer.query, x), dense(layer.key, source), dense(layer.value, source))
    query, key, value = map(apart, parts)
    seen = attention(query, key, value, mask=mask, causal=causal)
    together = gx.swapaxes(seen, -2, -3)
    return dense(layer.result, gx.reshape(together, (*together.shape[:-2], width)))
