"""What is minimised?  Losses as graphs, rank 0."""

from __future__ import annotations

from typing import Any

import graphc as gx


def softmax_cross_entropy(logits: Any, labels: Any) -> Any:
    """The mean of -log(softmax(logits)) at the labels.

    `logits`: float [n, classes]; `labels`: int64 [n], each in [0, classes). A label outside counts
    as no class: its row adds 0. Written with a comparison instead of an index, so that loss and
    gradient stay in one row kernel.
    """
    classes = gx.iota(logits.shape, 1)
    hit = classes == gx.expand_dims(labels, 1)
    chosen = gx.where(hit, gx.log_softmax(logits, axis=1), 0.0)
    return -(gx.sum(chosen) / logits.shape[0])
