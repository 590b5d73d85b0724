"""How well does a small recurrent network predict the next character?  ADBench's LSTM.

Its weights act element by element: no layer mixes its inputs, so that a step is some dozens of
operations on a handful of numbers, a thousand times in a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PARAMETERS = ("main", "extra")
FILES = ("lstm_l2_c1024", "lstm_l4_c1024")


def read(path: Path) -> dict[str, Any]:
    """Parameters, first state and text of a file of ADBench's."""
    words = path.read_text().split()
    layers, _, bits = map(int, words[:3])
    numbers = np.array(words[3:], float)
    ends = np.cumsum([2 * layers * 4 * bits, 3 * bits, 2 * layers * bits])
    main, extra, state, sequence = np.split(numbers, ends)
    return {
        "main": main.reshape(2 * layers, 4 * bits),
        "extra": extra.reshape(3, bits),
        "state": state.reshape(2 * layers, bits),
        "sequence": sequence.reshape(-1, bits),
    }


def objective(lib: Any, sigmoid: Any, scan: Any, main: Any, extra: Any, state: Any, sequence: Any
              ) -> Any:  # fmt: skip
    """The mean loss, in what JAX and graphc have in common.

    The states of a layer are `state[2 * i]`, what it gives out, and `state[2 * i + 1]`, its memory.
    """
    layers, bits = main.shape[0] // 2, sequence.shape[1]
    gates = [lib.reshape(main[i], (4, bits)) for i in range(2 * layers)]

    def step(states: Any, x: Any) -> Any:
        new = []
        for i in range(layers):
            (hidden, cell), weight, bias = states[2 * i : 2 * i + 2], gates[2 * i], gates[2 * i + 1]
            forget = sigmoid(x * weight[0] + bias[0])
            ingate = sigmoid(hidden * weight[1] + bias[1])
            outgate = sigmoid(x * weight[2] + bias[2])
            change = lib.tanh(hidden * weight[3] + bias[3])
            cell = cell * forget + ingate * change
            x = outgate * lib.tanh(cell)
            new += [x, cell]
        return tuple(new), x

    first = tuple(state[i] for i in range(2 * layers))
    _, found = scan(step, first, sequence[:-1] * extra[0])
    y = found * extra[1] + extra[2]
    norms = lib.log(lib.sum(lib.exp(y), axis=1, keepdims=True) + 2)
    return -lib.sum(sequence[1:] * (y - norms)) / (bits * (sequence.shape[0] - 1))


def of_graphc(main: Any, extra: Any, state: Any, sequence: Any) -> Any:
    """The objective as a graph."""
    import graphc as gx

    return objective(gx, gx.sigmoid, gx.scan, main, extra, state, sequence)


def of_jax(main: Any, extra: Any, state: Any, sequence: Any) -> Any:
    """The objective in JAX."""
    import jax
    import jax.numpy as jnp

    return objective(jnp, jax.nn.sigmoid, jax.lax.scan, main, extra, state, sequence)


def by_hand(main: Any, extra: Any, state: Any, sequence: Any) -> Any:
    """The objective as a loop in NumPy."""
    layers, bits = len(main) // 2, sequence.shape[1]
    gates = main.reshape(2 * layers, 4, bits)
    states, total = state.copy(), 0.0
    for x, wanted in zip(sequence[:-1] * extra[0], sequence[1:], strict=True):
        for i in range(layers):
            (hidden, cell), weight, bias = states[2 * i : 2 * i + 2], gates[2 * i], gates[2 * i + 1]
            forget = 1 / (1 + np.exp(-(x * weight[0] + bias[0])))
            ingate = 1 / (1 + np.exp(-(hidden * weight[1] + bias[1])))
            outgate = 1 / (1 + np.exp(-(x * weight[2] + bias[2])))
            cell = cell * forget + ingate * np.tanh(hidden * weight[3] + bias[3])
            x = outgate * np.tanh(cell)
            states[2 * i], states[2 * i + 1] = x, cell
        y = x * extra[1] + extra[2]
        total += np.sum(wanted * (y - np.log(np.exp(y).sum() + 2)))
    return -total / (bits * (len(sequence) - 1))
