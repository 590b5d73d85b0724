"""How good is a model?  Metrics as graphs, rank 0."""

from __future__ import annotations

from typing import Any

import graphc as gx


def accuracy(logits: Any, labels: Any) -> Any:
    """The share of rows of `logits` [n, classes] whose largest entry is at the label (int64 [n]);
    float64.
    """
    return gx.mean(gx.cast(gx.argmax(logits, axis=1) == labels, "float64"))
