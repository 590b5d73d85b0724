"""What keeps signals at unit scale?  Normalisations, each with a learned scale and offset.

State is explicit: a batch normalisation is given the running statistics and returns the new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc as gx


@dataclass
class Norm:
    """Parameters of a normalisation: `scale` and `offset`, of the channels or of the axes that are
    normalised; symbols, nodes or arrays.
    """

    scale: Any
    offset: Any

    @staticmethod
    def symbols(name: str, shape: Any, dtype: Any = "float32") -> Norm:
        """Symbols `name.scale` and `name.offset`; `shape` is the number of channels, or a shape."""
        whole = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        pair = (gx.symbol(f"{name}.{part}", whole, dtype) for part in ("scale", "offset"))
        return Norm(*pair)

    @staticmethod
    def ones(shape: Any, dtype: Any = "float32") -> Norm:
        """The values with which training starts: scale 1, offset 0."""
        return Norm(np.ones(shape, dtype), np.zeros(shape, dtype))


@dataclass
class Statistics:
    """Running mean and variance of each channel."""

    mean: Any
    variance: Any

    @staticmethod
    def symbols(name: str, channels: Any, dtype: Any = "float32") -> Statistics:
        """Symbols `name.mean` and `name.variance`."""
        pair = (gx.symbol(f"{name}.{part}", (channels,), dtype) for part in ("mean", "variance"))
        return Statistics(*pair)

    @staticmethod
    def start(channels: int, dtype: Any = "float32") -> Statistics:
        """Before the first step: mean 0, variance 1."""
        return Statistics(np.zeros(channels, dtype), np.ones(channels, dtype))


def batch_norm(
    layer: Norm,
    running: Statistics,
    x: Any,
    training: bool = True,
    momentum: float = 0.1,
    axis: int = 1,
    epsilon: float = 1e-5,
) -> tuple[Any, Statistics]:
    """x with each channel (of `axis`) at mean 0 and variance 1, times scale plus offset; and the
    new running statistics.

    In training the mean and variance are those of the batch, over all other axes, and the running
    ones move towards them by `momentum`; the variance that they move to is the unbiased one.
    Otherwise the running ones are taken, and stay. Ioffe, Szegedy: Batch normalization, 2015.
    """
    axis %= x.ndim
    others = tuple(a for a in range(x.ndim) if a != axis)

    def along(parameter: Any) -> Any:
        return gx.reshape(parameter, (x.shape[axis],) + (1,) * (x.ndim - 1 - axis))

    if not training:
        inverse = layer.scale / gx.sqrt(running.variance + epsilon)
        return (x - along(running.mean)) * along(inverse) + along(layer.offset), running
    mean = gx.mean(x, axis=others)
    centred = x - along(mean)
    variance = gx.mean(centred * centred, axis=others)
    y = centred * along(layer.scale / gx.sqrt(variance + epsilon)) + along(layer.offset)
    count: Any = 1
    for a in others:
        count = count * x.shape[a]
    unbiased = variance * (count / (count - 1))
    moved = [
        old + momentum * (gx.stop_gradient(new) - old)
        for old, new in ((running.mean, mean), (running.variance, unbiased))
    ]
    return y, Statistics(*(gx.cast(new, x.dtype) for new in moved))


def layer_norm(layer: Norm, x: Any, epsilon: float = 1e-5) -> Any:
    """x normalised over its last axes, as many as `scale` has, times scale plus offset.

    Ba, Kiros, Hinton: Layer normalization, 2016.
    """
    axes = tuple(range(x.ndim - layer.scale.ndim, x.ndim))
    return _normalized(x, axes, epsilon) * layer.scale + layer.offset


def rms_norm(scale: Any, x: Any, epsilon: float = 1e-5) -> Any:
    """x divided by the root of the mean square over its last axis, times scale.

    Zhang, Sennrich: Root mean square layer normalization, 2019.
    """
    return x / gx.sqrt(gx.mean(x * x, axis=-1, keepdims=True) + epsilon) * scale


def group_norm(layer: Norm, x: Any, groups: int, axis: int = 1, epsilon: float = 1e-5) -> Any:
    """x [batch, ..., channels at `axis`, ...] normalised over all axes but the first, within each
    of `groups` groups of channels, times scale plus offset for each channel.

    With as many groups as channels it is the instance normalisation. Wu, He: Group normalization,
    2018.
    """
    axis %= x.ndim
    channels = x.shape[axis]
    if not isinstance(channels, int) or channels % groups:
        raise gx.GraphError(f"group_norm: {channels} channels are no {groups} equal groups")
    apart = gx.reshape(
        x, (*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :])
    )
    axes = tuple(a for a in range(1, apart.ndim) if a != axis)
    even = gx.reshape(_normalized(apart, axes, epsilon), x.shape)
    shape = (channels,) + (1,) * (x.ndim - 1 - axis)
    return even * gx.reshape(layer.scale, shape) + gx.reshape(layer.offset, shape)


def _normalized(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    centred = x - gx.mean(x, axis=axes, keepdims=True)
    variance = gx.mean(centred * centred, axis=axes, keepdims=True)
    return centred / gx.sqrt(variance + epsilon)
