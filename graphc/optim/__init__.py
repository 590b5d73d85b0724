"""Update rules as graphs: parameters, gradients and state in, new parameters and state out."""

from graphc.optim.momentum import momentum
from graphc.optim.sgd import sgd

__all__ = ["momentum", "sgd"]
