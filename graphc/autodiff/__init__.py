"""Derivatives of graphs, as graphs: reverse, forward, higher, series.

Who takes a gradient loads reverse mode, and not the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphc.autodiff.curves import taylor
    from graphc.autodiff.forward import jvp
    from graphc.autodiff.higher import hessian, hvp, jacobian
    from graphc.autodiff.reverse import grad, value_and_grad, vjp

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "taylor", "value_and_grad", "vjp"]

_HOMES = {
    "taylor": "curves",
    "jvp": "forward",
    **dict.fromkeys(("hessian", "hvp", "jacobian"), "higher"),
    **dict.fromkeys(("grad", "value_and_grad", "vjp"), "reverse"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
