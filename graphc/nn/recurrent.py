"""What reads a sequence step by step?  Recurrent cells, and the scan that runs one.

A cell is a function of parameters, what the input contributes, and a state. The products with the
inputs of all steps are one product before the scan; only those with the state are in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import graphc as gx

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass
class Recurrent:
    """Parameters of a cell with g gates: `weight` [inputs, g * hidden], `recurrent` [hidden, g *
    hidden], `bias` and `recurrent_bias` [g * hidden]; the gates in the order of the cell.
    """

    weight: Any
    recurrent: Any
    bias: Any
    recurrent_bias: Any

    @staticmethod
    def symbols(
        name: str, kind: str, inputs: Any, hidden: int, dtype: Any = "float32"
    ) -> Recurrent:
        """Symbols for an "rnn", "gru" or "lstm"."""
        if kind not in GATES:
            raise gx.GraphError(f"a cell is one of {', '.join(GATES)}, got {kind!r}")
        width = GATES[kind] * hidden
        shapes = {
            "weight": (inputs, width),
            "recurrent": (hidden, width),
            "bias": (width,),
            "recurrent_bias": (width,),
        }
        return Recurrent(*(gx.symbol(f"{name}.{n}", s, dtype) for n, s in shapes.items()))


def rnn_cell(layer: Recurrent, seen: Any, state: Any) -> Any:
    """tanh(seen + state @ recurrent + recurrent_bias)."""
    return gx.tanh(seen + _remembered(layer, state))


def gru_cell(layer: Recurrent, seen: Any, state: Any) -> Any:
    """The gated recurrent unit, gates reset, update, new: Cho et al., 2014, with the reset gate
    after the product: new = tanh(seen + reset * (state @ recurrent + recurrent_bias)).
    """
    x_reset, x_update, x_new = gx.split(seen, 3, axis=-1)
    h_reset, h_update, h_new = gx.split(_remembered(layer, state), 3, axis=-1)
    reset, update = gx.sigmoid(x_reset + h_reset), gx.sigmoid(x_update + h_update)
    new = gx.tanh(x_new + reset * h_new)
    return new + update * (state - new)


def lstm_cell(layer: Recurrent, seen: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Long short-term memory, gates input, forget, cell, output: the state is (hidden, cell).

    Hochreiter, Schmidhuber, 1997, with the forget gate of Gers et al., 2000.
    """
    hidden, cell = state
    gates = seen + _remembered(layer, hidden)
    enter, forget, new, leave = gx.split(gates, 4, axis=-1)
    cell = gx.sigmoid(forget) * cell + gx.sigmoid(enter) * gx.tanh(new)
    return gx.sigmoid(leave) * gx.tanh(cell), cell


def _remembered(layer: Recurrent, state: Any) -> Any:
    return state @ layer.recurrent + layer.recurrent_bias


def _run(cell: Callable[..., Any], layer: Recurrent, xs: Any, state: Any, reverse: bool) -> Any:
    """The final state, and the first part of the state after each step."""

    def step(held: Any, seen: Any) -> Any:
        new = cell(layer, seen, held)
        return new, new[0] if isinstance(new, tuple) else new

    return gx.scan(step, state, xs @ layer.weight + layer.bias, reverse=reverse)


def rnn(layer: Recurrent, xs: Any, state: Any, reverse: bool = False) -> tuple[Any, Any]:
    """`rnn_cell` over xs [steps, batch, inputs] from a state [batch, hidden]: the final state, and
    the state after each step [steps, batch, hidden]. `reverse` runs from the last step on.
    """
    return _run(rnn_cell, layer, xs, state, reverse)


def gru(layer: Recurrent, xs: Any, state: Any, reverse: bool = False) -> tuple[Any, Any]:
    """`gru_cell` over xs; arguments and results as those of `rnn`."""
    return _run(gru_cell, layer, xs, state, reverse)


def lstm(
    layer: Recurrent, xs: Any, state: tuple[Any, Any], reverse: bool = False
) -> tuple[tuple[Any, Any], Any]:
    """`lstm_cell` over xs from (hidden, cell): the final pair, and the hidden part of each step."""
    return _run(lstm_cell, layer, xs, state, reverse)
