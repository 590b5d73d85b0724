"""Stochastic gradient descent: each parameter moves against its gradient."""

from __future__ import annotations

from typing import Any

from graphc.tree import map_tree


def sgd(parameters: Any, gradients: Any, rate: Any) -> Any:
    """New parameters, `p - rate * g`; containers of equal structure, `rate` rank 0."""
    return map_tree(lambda p, g: p - rate * g, parameters, gradients)
