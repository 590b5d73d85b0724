"""Gradient descent with momentum: a decaying sum of gradients is what parameters move against.

Polyak: Some methods of speeding up the convergence of iteration methods, 1964; in the form of
Sutskever et al., 2013, without Nesterov's correction.
"""

from __future__ import annotations

from typing import Any

from graphc.tree import map_tree


def momentum(
    parameters: Any, gradients: Any, velocities: Any, rate: Any, decay: Any = 0.9
) -> tuple[Any, Any]:
    """New parameters and velocities: `v = decay * v + g`, `p = p - rate * v`. Containers of equal
    structure.
    """
    moved = map_tree(lambda v, g: decay * v + g, velocities, gradients)
    return map_tree(lambda p, v: p - rate * v, parameters, moved), moved
