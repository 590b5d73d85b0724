"""Which whole numbers come from the bits alone?  Evenly spread integers, signs, and coins."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc import dtypes
from graphc.errors import shortened
from graphc.random.floats import steps
from graphc.random.keys import as_key, inner, wide, words
from graphc.random.settings import setting, shape_of, spread

_LOW_WORD = 0xFFFFFFFF


def randint(
    key: Any, shape: Any = None, minval: Any = 0, maxval: Any = None, dtype: Any = "int64"
) -> gx.Node:
    """Integers from minval to maxval - 1, each as likely as the others.

    Made by multiplying a random fraction of 64 bits with the span, of 128 bits where the span may
    be more than 2**32: no probability is off by more than 2**-64. The bounds may be nodes; there,
    an empty range is a ValueError at run time, as NumPy has it. `GraphError` for numbers that the
    dtype does not have.
    """
    node, wanted = as_key(key, "randint"), dtypes.as_dtype(dtype)
    if wanted.kind not in "iu":
        raise gx.GraphError(f"random.randint gives integers, got dtype {wanted.name}")
    if maxval is None:
        raise gx.GraphError("random.randint needs maxval, the first integer not to be drawn")
    if all(isinstance(end, (int, np.integer)) for end in (minval, maxval)):
        return _between_numbers(node, shape_of(shape, ()), int(minval), int(maxval), wanted)
    low, high = (gx.cast(end, wanted) for end in (minval, maxval))
    low, high = gx.broadcast_arrays(low, high)
    extents = shape_of(shape, [low, high])
    checked = gx.check(high, high > low, "randint: maxval is not above minval")
    low, high = spread([low, checked], extents)
    span = gx.cast(high, "uint64") - gx.cast(low, "uint64")
    return low + gx.cast(_below(node, extents, span, wanted.itemsize > 4), wanted)


def _between_numbers(
    key: gx.Node, shape: Any, low: int, high: int, dtype: np.dtype[Any]
) -> gx.Node:
    least, most = dtypes.limits(dtype)
    if not least <= low < high <= most + 1:
        raise gx.GraphError(
            f"random.randint: no integers of {dtype.name} from {shortened(str(low))} to "
            f"{shortened(str(high - 1))}"
        )
    span = high - low
    if span == 1 << 64:
        return gx.cast(wide(*words(key, shape)), dtype)
    everywhere = gx.broadcast_to(gx.constant(span, "uint64"), shape)
    drawn = gx.cast(_below(key, shape, everywhere, span > 1 << 32), dtype)
    return drawn if low == 0 else drawn + gx.constant(low, dtype)


def _below(key: gx.Node, shape: Any, span: gx.Node, long: bool) -> gx.Node:
    """floor(x * span) for a fraction x of two words, or of four if `long`; uint64."""
    found = list(words(key, shape))
    if long:
        found = [*words(inner(key, 0), shape), *found]
    limbs = [gx.cast(word, "uint64") for word in found]
    if not long:  # the span is at most 2**32: nothing overflows
        return gx.right_shift(limbs[1] * span + gx.right_shift(limbs[0] * span, 32), 32)
    bottom, top = span & _LOW_WORD, gx.right_shift(span, 32)
    carried = gx.zeros(shape, "uint64")
    for limb in limbs:  # the product so far, without its lowest word
        part = limb * bottom
        rest = (part & _LOW_WORD) + (carried & _LOW_WORD)
        upper = gx.right_shift(part, 32) + gx.right_shift(carried, 32) + gx.right_shift(rest, 32)
        carried = limb * top + upper
    return carried


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> gx.Node:
    """True with probability p (to 2**-53, or 2**-24 for p of float32): bool."""
    s = setting("bernoulli", key, shape, None, [p])
    return steps(s.key, s.shape, s.inner) < s.parameters[0]


def rademacher(key: Any, shape: Any = None, dtype: Any = "int64") -> gx.Node:
    """-1 or 1, equally likely, in a signed or float dtype."""
    node, wanted = as_key(key, "rademacher"), dtypes.as_dtype(dtype)
    if dtypes.kind(wanted) not in "if":
        raise gx.GraphError(f"random.rademacher needs a dtype with -1, got {wanted.name}")
    extents = shape_of(shape, ())
    ones = gx.ones(extents, wanted)
    return gx.where((words(node, extents)[0] & 1) != 0, -ones, ones)
