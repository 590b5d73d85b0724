"""What do fma, convert and bitcast mean on NumPy arrays?  The arithmetic that NumPy lacks.

The kernel interpreter is the reference for every printer, so these functions are exact: one
rounding for `fma`, saturation for `convert`. They are fast where values are ordinary and fall back
to integers of any size where they are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes

# A fused multiply-add of float64 is done with error-free transformations when no part of it can
# over- or underflow.
_LARGE = 2.0**990
_SMALL_PRODUCT = 2.0**-900
# Below this ratio the smaller addend cannot move the larger one.
_NEGLIGIBLE = 2.0**-60
_SPLITTER = 2.0**27 + 1


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`; `MissingExtra` for bfloat16 without ml_dtypes."""
    return dtypes.as_dtype(name)


def round_to(value: Any, dtype: str) -> float:
    """`value` rounded to nearest in the float dtype `dtype`, as a Python float."""
    if dtype == "float64":
        return float(value)
    with np.errstate(over="ignore"):
        if dtype == "bfloat16":
            return _round_to_bfloat16(float(np.float32(value)))
        return float(np.dtype(dtype).type(value))


def _round_to_bfloat16(value: float) -> float:
    """Nearest-even on the upper half of the float32, without ml_dtypes."""
    if np.isnan(value):
        return value
    bits = int(np.float32(value).view(np.uint32))
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return float(np.uint32(rounded).view(np.float32))


def convert(value: Any, dtype: str) -> Any:
    """`value` as `dtype`, as `graphc.dtypes.convert` states it."""
    return dtypes.convert(value, dtypes.as_dtype(dtype))


def bitcast(value: Any, dtype: str) -> Any:
    """The bits of `value` read as `dtype` of the same width."""
    source = np.asarray(value)
    target = numpy_dtype(dtype)
    if source.dtype.itemsize != target.itemsize:
        raise TypeError(f"bitcast of {source.dtype} to {target}: widths differ")
    return source.view(target)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding, float32 or float64 arrays that broadcast."""
    a, b, c = np.broadcast_arrays(a, b, c)
    with np.errstate(all="ignore"):
        return _fma_float32(a, b, c) if a.dtype == np.float32 else _fma_float64(a, b, c)


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """a * b and its rounding error (Dekker)."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(a: Any) -> tuple[Any, Any]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def _sum_to_odd(a: Any, b: Any) -> Any:
    """a + b rounded to odd: the last bit of an inexact sum is 1; rounding it again is innocuous."""
    total, error = _two_sum(a, b)
    even = (total.view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    return np.where((error != 0) & even, np.nextafter(total, towards), total)


def _fma_float32(a: Any, b: Any, c: Any) -> Any:
    """The product is exact in float64; the sum is rounded to odd there, then to float32."""
    product = a.astype(np.float64) * b
    plain = product + c
    rounded = np.where(np.isfinite(plain), _sum_to_odd(product, c.astype(np.float64)), plain)
    return rounded.astype(np.float32)


def _fma_float64(a: Any, b: Any, c: Any) -> Any:
    """Boldo & Melquiond, "Emulation of a FMA and correctly rounded sums" (2008), where valid."""
    product = a * b
    plain = product + c
    easy = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b) | np.isnan(c)
    absorbed = np.isinf(c) | (np.isfinite(product) & (np.abs(product) < _NEGLIGIBLE * np.abs(c)))
    magnitude = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.maximum(np.abs(c), np.abs(product)))
    ordinary = (magnitude < _LARGE) & (np.abs(product) >= _SMALL_PRODUCT)

    high, low = _two_product(a, b)
    tail_high, tail_low = _two_sum(c, low)
    sum_high, sum_low = _two_sum(high, tail_high)
    fused = sum_high + _sum_to_odd(tail_low, sum_low)
    # An exact zero sum has the sign that a single addition would give it.
    fused = np.where(fused == 0, plain, fused)

    result = np.where(easy, plain, np.where(absorbed, c, fused))
    rest = np.asarray(~(easy | absorbed | ordinary))
    if rest.any():
        result = np.array(result)
        operands = zip(a[rest].tolist(), b[rest].tolist(), c[rest].tolist(), strict=True)
        result[rest] = [_fma_of_integers(*each) for each in operands]
    return result


def _fma_of_integers(a: float, b: float, c: float) -> float:
    """a * b + c of finite numbers by integers of any size: Python rounds their quotient once."""
    (a_top, a_bottom), (b_top, b_bottom) = a.as_integer_ratio(), b.as_integer_ratio()
    c_top, c_bottom = c.as_integer_ratio()
    top = a_top * b_top * c_bottom + c_top * a_bottom * b_bottom
    bottom = a_bottom * b_bottom * c_bottom
    if top == 0:
        return a * b + c
    try:
        return top / bottom
    except OverflowError:
        return float("inf") if top > 0 else float("-inf")
