"""How do words become floats?  In steps of the mantissa, or with the precision of small numbers.

`steps` are the multiples of eps/2 in [0, 1): each float64 uses 53 bits, each float32 24. Quantile
functions are steep at the ends of (0, 1), so distributions with tails are made of `parts` instead:
a number q that is dense near 0 (down to 2**-32 for float32, 2**-64 for float64), and a bit apart.
One word makes a float32, two words, which are one call of the cipher, a float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc import dtypes
from graphc.random.keys import words
from graphc.types import Shape


def steps(key: gx.Node, shape: Shape, dtype: np.dtype[Any]) -> gx.Node:
    """Uniform on [0, 1): whole multiples of 2**-53, 2**-24, 2**-11 or 2**-8, by dtype."""
    return steps_of(*words(key, shape), dtype)


def parts(key: gx.Node, shape: Shape, dtype: np.dtype[Any]) -> tuple[gx.Node, gx.Node]:
    """Uniform q on (0, 1), dense near 0, and a bool for the sign."""
    return parts_of(*words(key, shape), dtype)


def steps_of(low: gx.Node, high: gx.Node, dtype: np.dtype[Any]) -> gx.Node:
    """The upper bits of the words, as many as a mantissa has."""
    digits = _digits(dtype)
    if dtype == np.float64:
        return (gx.cast(high, dtype) * 2.0**21 + _number(low, 11, dtype)) * 2.0**-digits
    return _number(low, 32 - digits, dtype) * 2.0**-digits


def parts_of(low: gx.Node, high: gx.Node, dtype: np.dtype[Any]) -> tuple[gx.Node, gx.Node]:
    """The middle of one of 2**31 (or 2**63) intervals, rounded but never to 1, and a bit apart."""
    word = high if dtype == np.float64 else low
    return open_unit(low, high, dtype), (word & 1) != 0


def open_unit(low: gx.Node, high: gx.Node, dtype: np.dtype[Any]) -> gx.Node:
    """Uniform on (0, 1): all but the last bit of the words."""
    if dtype == np.float64:
        q = (_number(high, 1, dtype) * 2.0**32 + (gx.cast(low, dtype) + 0.5)) * 2.0**-63
    else:
        q = (_number(low, 1, dtype) + 0.5) * 2.0**-31
    return gx.minimum(q, gx.constant(1 - 2.0 ** -_digits(dtype), dtype))


def signed_unit(low: gx.Node, high: gx.Node) -> gx.Node:
    """Uniform on (-1, 1) in float64: the odd multiples of 2**-53, each of them exact."""
    dtype = np.dtype("float64")
    upper = gx.cast(gx.cast(high, "int32"), dtype)
    return upper * 2.0**-31 + (_number(low, 11, dtype) + 0.5) * 2.0**-52


def _number(word: gx.Node, drop: int, dtype: np.dtype[Any]) -> gx.Node:
    """The upper bits of a word as a number; by int32, which processors convert faster."""
    return gx.cast(gx.cast(gx.right_shift(word, drop), "int32"), dtype)


def _digits(dtype: np.dtype[Any]) -> int:
    """Bits of a mantissa, the hidden one included."""
    return {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtypes.as_dtype(dtype).name]
