"""Which layers slide over images?  Convolutions, their transposes, and resampling.

Pooling has no parameters: it is `gx.max_pool`, `gx.avg_pool` and their relatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc as gx


@dataclass
class Conv:
    """Parameters of a convolution over 1 to 3 spatial axes: `weight` as `gx.conv` takes it in the
    layout, and `bias` [outputs] or None; symbols, nodes or arrays.
    """

    weight: Any
    bias: Any

    @staticmethod
    def symbols(
        name: str,
        inputs: int,
        outputs: int,
        kernel: tuple[int, ...],
        *,
        groups: int = 1,
        layout: str = "NCHW",
        bias: bool = True,
        dtype: Any = "float32",
    ) -> Conv:
        """Symbols `name.weight` and `name.bias`; `kernel` has an extent for each spatial axis.

        For `conv_transpose`, which goes from outputs to inputs, exchange the two numbers.
        """
        first = layout in ("NCW", "NCHW", "NCDHW")
        own = inputs // groups
        shape = (outputs, own, *kernel) if first else (*kernel, own, outputs)
        made = gx.symbol(f"{name}.bias", (outputs,), dtype) if bias else None
        return Conv(gx.symbol(f"{name}.weight", shape, dtype), made)

    @staticmethod
    def transposed_symbols(
        name: str,
        inputs: int,
        outputs: int,
        kernel: tuple[int, ...],
        *,
        groups: int = 1,
        layout: str = "NCHW",
        bias: bool = True,
        dtype: Any = "float32",
    ) -> Conv:
        """The same for `conv_transpose` from `inputs` to `outputs` channels."""
        kinds: dict[str, Any] = {"groups": groups, "layout": layout, "dtype": dtype}
        weight = Conv.symbols(name, outputs, inputs, kernel, bias=False, **kinds).weight
        return Conv(weight, gx.symbol(f"{name}.bias", (outputs,), dtype) if bias else None)


def conv(layer: Conv, x: Any, layout: str = "NCHW", **moves: Any) -> Any:
    """`gx.conv(x, weight) + bias`; `moves` are stride, padding, dilation and groups."""
    return _biased(gx.conv(x, layer.weight, layout=layout, **moves), layer.bias, layout)


def conv_transpose(layer: Conv, x: Any, layout: str = "NCHW", **moves: Any) -> Any:
    """`gx.conv_transpose(x, weight) + bias`, with the same arguments."""
    return _biased(gx.conv_transpose(x, layer.weight, layout=layout, **moves), layer.bias, layout)


def _biased(y: Any, bias: Any, layout: str) -> Any:
    if bias is None:
        return y
    if layout in ("NCW", "NCHW", "NCDHW"):
        bias = gx.reshape(bias, (bias.shape[0],) + (1,) * (y.ndim - 2))
    return y + bias


def resize(
    x: Any, size: tuple[int, ...], method: str = "nearest", layout: str = "NCHW"
) -> Any:
    """x with its spatial axes, whose extents are known, resampled to `size`.

    "nearest" takes element floor(i n / m) of n for element i of m; "linear" (bilinear, trilinear)
    interpolates between the two neighbours of (i + 1/2) n / m - 1/2, the outermost beyond the ends.
    """
    if method not in ("nearest", "linear"):
        raise gx.GraphError(f"resize: method is 'nearest' or 'linear', got {method!r}")
    start = 2 if layout in ("NCW", "NCHW", "NCDHW") else 1
    if len(size) != x.ndim - 2 or any(m < 1 for m in size):
        raise gx.GraphError(f"resize: {x.ndim - 2} positive extents are needed, got {size}")
    for axis, wanted in enumerate(size, start):
        extent = x.shape[axis]
        if not isinstance(extent, int) or extent < 1:
            raise gx.GraphError(f"resize needs known spatial extents, got {extent}")
        x = _resampled(x, axis, extent, wanted, method)
    return x


def _resampled(x: Any, axis: int, extent: int, wanted: int, method: str) -> Any:
    if extent == wanted:
        return x
    places = np.arange(wanted)
    if method == "nearest":
        return gx.take(x, places * extent // wanted, axis=axis)
    at = np.clip((places + 0.5) * (extent / wanted) - 0.5, 0, extent - 1)
    low = np.minimum(at.astype(np.int64), max(extent - 2, 0))
    shape = (wanted,) + (1,) * (x.ndim - 1 - axis)
    share = (at - low).astype(x.dtype).reshape(shape)
    before = gx.take(x, low, axis=axis)
    after = gx.take(x, np.minimum(low + 1, extent - 1), axis=axis)
    return before + (after - before) * share
