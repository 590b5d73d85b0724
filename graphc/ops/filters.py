"""What are NumPy's `convolve` and `correlate` of two sequences?  Windows of one, times the other.

The windows are a view into the longer sequence, padded with zeros, so nothing is copied.
"""

from __future__ import annotations

from typing import Any

from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.operands import as_node, describe
from graphc.ops.windows import sliding_window_view
from graphc.tensor import SURFACE, surface

_MODES = ("full", "same", "valid")


@surface
def correlate(a: Any, v: Any, mode: str = "valid") -> Node:
    """c[k] = sum over n of a[n + k] v[n], for two sequences.

    `mode`: "full" for every k at which they meet, "same" for as many as the longer one has
    elements, "valid" for those at which the shorter one lies within the longer. `v` has a known
    length, and so has `a` unless the mode is "full".
    """
    return _filtered("correlate", as_node(a), as_node(v), mode)


@surface
def convolve(a: Any, v: Any, mode: str = "full") -> Node:
    """The products of two polynomials' coefficients: `correlate` with the second one reversed.

    Modes as for `correlate`.
    """
    second = as_node(v)
    if second.ndim != 1:
        raise GraphError("convolve takes two sequences\n" + describe([as_node(a), second]))
    return _filtered("convolve", as_node(a), second[::-1], mode)


def _filtered(name: str, a: Node, v: Node, mode: str) -> Node:
    if a.ndim != 1 or v.ndim != 1:
        raise GraphError(f"{name} takes two sequences\n" + describe([a, v]))
    if mode not in _MODES:
        raise GraphError(f"{name}: a mode is one of {', '.join(_MODES)}, got {mode!r}")
    long, short = a.shape[0], v.shape[0]
    known = isinstance(short, int) and (mode == "full" or isinstance(long, int))
    if not known or 0 in (long, short):
        raise GraphError(
            f"{name} in mode {mode!r} needs {'known' if not known else 'positive'} lengths\n"
            + describe([a, v])
        )
    assert isinstance(short, int)
    if isinstance(long, int) and short > long:  # the same sums in the other order
        return _filtered(name, v, a, mode)[::-1]
    # How many of the products that stick out at each end are wanted.
    left, right = {
        "full": (short - 1, short - 1),
        "same": (short // 2, short - short // 2 - 1),
        "valid": (0, 0),
    }[mode]
    padded = SURFACE["pad"](a, (left, right))
    return SURFACE["matmul"](sliding_window_view(padded, short), v)
