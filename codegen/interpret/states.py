"""What do accumulators hold?  Values combined into one state for each iteration outside."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.codegen.loops import identity
from graphc.codegen.softfloat import numpy_dtype

_COMBINERS: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def first_state(combiner: str, dtype: str) -> Any:
    """What combining no values gives, as a NumPy scalar of `dtype`."""
    return numpy_dtype(dtype).type(identity(combiner, dtype))


def combine(combiner: str, state: Any, value: Any, index: Any, size: int) -> Any:
    """`state` with values combined into it: each into the one of `size` states that `index` gives.

    `index` is sorted; None means that state and value go together one by one.
    """
    function = _COMBINERS[combiner]
    if index is None:
        return function(state, value)
    counts = np.bincount(index, minlength=size)
    if np.all(counts == counts[0]):
        return function(state, function.reduce(value.reshape(size, -1), axis=1, dtype=value.dtype))
    some = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[some]
    result = np.array(np.broadcast_to(state, size))
    result[some] = function(result[some], function.reduceat(value, starts, dtype=value.dtype))
    return result
