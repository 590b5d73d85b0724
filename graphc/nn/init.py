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
    source: Any, inputs: int, outputs: int, dtype: Any = "float32", shape: Any = None
) -> Any:
    """Weights [inputs, outputs] from a normal distribution of variance 2 / inputs: for relu.

    `shape` is another shape, as of the kernels of a convolution, where an output sees `inputs`
    elements: channels times extents of the kernel.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015, equation 10.
    """
    scale = np.sqrt(2.0 / inputs)
    shape = (inputs, outputs) if shape is None else shape
    if not isinstance(source, np.random.Generator):
        return gx.random.normal(source, shape, dtype, scale=float(scale))
    return (source.standard_normal(shape) * scale).astype(dtype)


def glorot_uniform(
    source: Any, inputs: int, outputs: int, dtype: Any = "float32", shape: Any = None
) -> Any:
    """Weights [inputs, outputs], uniform within sqrt(6 / (inputs + outputs)): for tanh and for
    logits. `shape` is another shape, as in `he_normal`.

    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010,
    equation 16.
    """
    limit = np.sqrt(6.0 / (inputs + outputs))
    shape = (inputs, outputs) if shape is None else shape
    if not isinstance(source, np.random.Generator):
        return gx.random.uniform(source, shape, dtype, -float(limit), float(limit))
    return source.uniform(-limit, limit, shape).astype(dtype)
