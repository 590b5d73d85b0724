"""From which values does training start? Initialisers that keep the variance of signals from layer
to layer.

Each returns a NumPy array drawn from the generator that is given: randomness is explicit.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def he_normal(
    generator: np.random.Generator, inputs: int, outputs: int, dtype: Any = "float32"
) -> np.ndarray:
    """Weights [inputs, outputs] from a normal distribution of variance 2 / inputs: for relu.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015, equation 10.
    """
    scale = np.sqrt(2.0 / inputs)
    return (generator.standard_normal((inputs, outputs)) * scale).astype(dtype)


def glorot_uniform(
    generator: np.random.Generator, inputs: int, outputs: int, dtype: Any = "float32"
) -> np.ndarray:
    """Weights [inputs, outputs], uniform within sqrt(6 / (inputs + outputs)): for tanh and for
    logits.

    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010,
    equation 16.
    """
    limit = np.sqrt(6.0 / (inputs + outputs))
    return generator.uniform(-limit, limit, (inputs, outputs)).astype(dtype)
