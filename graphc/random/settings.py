"""In which shape and dtype is drawn?  What the caller asks for, or what the parameters have.

Every distribution takes `shape` and `dtype` after the key. Without a shape it is that to which the
parameters broadcast; without a dtype it is theirs, or float64 if they are Python numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc as gx
from graphc import dtypes
from graphc.random.keys import as_key
from graphc.types import Shape, as_shape


@dataclass(frozen=True)
class Setting:
    """What a distribution draws with: a key, the shape and dtype of the result, and its parameters
    at that shape, in the dtype of computation (float32 for floats of 16 bits).
    """

    key: gx.Node
    shape: Shape
    dtype: np.dtype[Any]
    inner: np.dtype[Any]
    parameters: tuple[gx.Node, ...]


def setting(name: str, key: Any, shape: Any, dtype: Any, parameters: Sequence[Any] = ()) -> Setting:
    """The setting of a distribution over floats; `GraphError` for a dtype that is none."""
    node = as_key(key, name)
    wanted = float_dtype(name, dtype, parameters)
    inner = np.dtype("float32") if dtypes.is_half(wanted) else wanted
    nodes = [gx.cast(parameter, inner) for parameter in parameters]
    extents = shape_of(shape, nodes)
    return Setting(node, extents, wanted, inner, spread(nodes, extents))


def float_dtype(name: str, dtype: Any, parameters: Sequence[Any]) -> np.dtype[Any]:
    """The float dtype asked for, or that of the parameters."""
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
        if not dtypes.is_float(wanted):
            raise gx.GraphError(f"random.{name} gives floats, got dtype {wanted.name}")
        return wanted
    found = [p.dtype for p in parameters if isinstance(p, (gx.Node, np.ndarray, np.generic))]
    floats = [each for each in found if dtypes.is_float(dtypes.as_dtype(each))]
    if not floats or len(floats) < len(found):
        floats.append(np.dtype("float64"))
    wanted = floats[0]
    for each in floats[1:]:
        wanted = dtypes.promote(wanted, each)
    return wanted


def shape_of(shape: Any, parameters: Sequence[gx.Node]) -> Shape:
    """The shape asked for, or that to which the parameters broadcast."""
    if shape is not None:
        return as_shape(shape)
    if not parameters:
        return ()
    return gx.broadcast_arrays(*parameters)[0].shape


def spread(parameters: Sequence[gx.Node], shape: Shape) -> tuple[gx.Node, ...]:
    """The parameters at the shape of the result."""
    return tuple(gx.broadcast_to(parameter, shape) for parameter in parameters)
