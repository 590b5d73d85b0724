"""Layers, initialisers, losses and metrics for neural networks, written with graphc's public names
only.
"""

from graphc.nn.attention import Attention, attention, multi_head_attention
from graphc.nn.convolutions import Conv, conv, conv_transpose, resize
from graphc.nn.init import glorot_uniform, he_normal
from graphc.nn.layers import Dense, Embedding, dense, dropout, embedding, flatten
from graphc.nn.losses import softmax_cross_entropy
from graphc.nn.metrics import accuracy
from graphc.nn.normalization import (
    Norm,
    Statistics,
    batch_norm,
    group_norm,
    layer_norm,
    rms_norm,
)
from graphc.nn.recurrent import (
    Recurrent,
    gru,
    gru_cell,
    lstm,
    lstm_cell,
    rnn,
    rnn_cell,
)

__all__ = [
    "Attention",
    "Conv",
    "Dense",
    "Embedding",
    "Norm",
    "Recurrent",
    "Statistics",
    "accuracy",
    "attention",
    "batch_norm",
    "conv",
    "conv_transpose",
    "dense",
    "dropout",
    "embedding",
    "flatten",
    "glorot_uniform",
    "group_norm",
    "gru",
    "gru_cell",
    "he_normal",
    "layer_norm",
    "lstm",
    "lstm_cell",
    "multi_head_attention",
    "resize",
    "rms_norm",
    "rnn",
    "rnn_cell",
    "softmax_cross_entropy",
]
