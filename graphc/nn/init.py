"""From which values does training start? Initialisers that keep the variance of signals from layer
to layer.

Each draws from what it is given, as randomness is explicit: from a NumPy generator an array, from a
key of `gx.random` a node.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx


def he_normal(
    source: Any, inputs: int, outputs: int, dtype: Any = "float32"
) -> Any:
    """Weights [inputs, outputs] from a normal distribution of variance 2 / inputs: for relu.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015, equation 10.
    """
    scale = np.sqrt(2.0 / inputs)
    if not isinstance(source, np.random.Generator):
        return gx.random.normal(source, (inputs, outputs), dtype, scale=float(scale))
    return (source.standard_normal((inputs, outputs)) * scale).astype(dtype)


def glorot_uniform(
    source: Any, inputs: int, outputs: int, dtype: Any = "float32"
) -> Any:
    """Weights [inputs, outputs], uniform within sqrt(6 / (inputs + outputs)): for tanh and for
    logits.

    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010,
    equation 16.
    """
    limit = np.sqrt(6.0 / (inputs + outputs))
    if not isinstance(source, np.random.Generator):
        return gx.random.uniform(source, (inputs, outputs), dtype, -float(limit), float(limit))
    return source.uniform(-limit, limit, (inputs, outputs)).astype(dtype)
