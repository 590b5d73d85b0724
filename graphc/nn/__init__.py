"""Layers, initialisers, losses and metrics for neural networks, written with graphc's public names
only.
"""

from graphc.nn.init import glorot_uniform, he_normal
from graphc.nn.layers import Dense, dense, dropout
from graphc.nn.losses import softmax_cross_entropy
from graphc.nn.metrics import accuracy

__all__ = [
    "Dense",
    "accuracy",
    "dense",
    "dropout",
    "glorot_uniform",
    "he_normal",
    "softmax_cross_entropy",
]
