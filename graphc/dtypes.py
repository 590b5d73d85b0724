"""Which dtypes are there, what is the dtype of a result, and what does a conversion give?

Dtypes are NumPy's own objects; bfloat16 is that of `ml_dtypes` (the extra `bfloat16`), imported
when it is first used. Promotion is NumPy 2's (NEP 50): Python scalars are weak, they take the other
operand's dtype unless their kind is higher. Three rules stand beside it:

- real functions take integers and bool to the smallest float dtype that NumPy has a loop for
  (`float_of`), while a quotient of integers is float64;
- sums and products of bool and signed integers are int64, of unsigned integers uint64
  (`sum_dtype`); those of 16-bit floats are taken in float32 and rounded once (`accumulator`);
- bfloat16 promotes as in NumPy's ufuncs of `ml_dtypes`, to the narrowest float to which both cast
  safely: it stays with bool and integers of 8 bits, is float32 with float16 and integers of 16 bits
  and float64 with wider ones. So it does in every function, where NumPy's `where` and `concatenate`
  refuse some pairs. Python floats are weak with it as with every float, where NumPy, which does not
  know that bfloat16 is one, gives float32.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc.errors import GraphError, missing_extra, shortened

BOOL = np.dtype("bool")
INT32 = np.dtype("int32")
INT64 = np.dtype("int64")
UINT64 = np.dtype("uint64")
FLOAT16 = np.dtype("float16")
FLOAT32 = np.dtype("float32")
FLOAT64 = np.dtype("float64")
NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
)
_BY_NAME = {name: np.dtype(name) for name in NAMES if name != "bfloat16"}
# Every spelling met so far; asking NumPy for a dtype's name costs more than building a node.
_SPELLINGS: dict[Any, np.dtype[Any]] = {dtype: dtype for dtype in _BY_NAME.values()} | _BY_NAME
# Python scalars: the kind they need, and the default dtype of that kind.
_WEAK = {bool: BOOL, int: INT64, float: FLOAT64}
_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}
_WEAK_KINDS: dict[type, int] = {bool: 0, int: 1, float: 2, complex: 3}
# The float dtype in which NumPy computes a real function of a dtype of that many bytes.
_FLOAT_OF: dict[int, np.dtype[Any]] = {1: FLOAT16, 2: FLOAT32, 4: FLOAT64, 8: FLOAT64}


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The supported dtype that `dtype` (a name, a NumPy dtype or type) means; `GraphError`
    otherwise, `MissingExtra` for bfloat16 without `ml_dtypes`.
    """
    known = _SPELLINGS.get(dtype) if isinstance(dtype, (np.dtype, str)) else None
    if known is not None:
        return known
    if isinstance(dtype, str) and dtype == "bfloat16":
        return _bfloat16()
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise GraphError(f"{shortened(repr(dtype))} is not a dtype") from None
    if found.name == "bfloat16":
        return _bfloat16()
    if found.name not in _BY_NAME:
        names = ", ".join(NAMES)
        raise GraphError(f"dtype {found.name} is not supported; supported are {names}")
    return _BY_NAME[found.name]


@functools.cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a dtype, which NumPy works out anew for everybody who asks."""
    return dtype.name


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise missing_extra("ml_dtypes", "bfloat16", "bfloat16") from None
    found = np.dtype(ml_dtypes.bfloat16)
    _SPELLINGS["bfloat16"] = _SPELLINGS[found] = found
    return found


def kind(dtype: np.dtype[Any]) -> str:
    """ "b" for bool, "i" for signed and "u" for unsigned integers, "f" for floats.

    As `dtype.kind`, but that is "V" for bfloat16, so ask this function and never NumPy.
    """
    return "f" if dtype.kind == "V" and dtype.type is not np.void else dtype.kind


def is_float(dtype: np.dtype[Any]) -> bool:
    return kind(dtype) == "f"


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Signed or unsigned; bool is none."""
    return dtype.kind in "iu"


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether this is a float of 16 bits: float16 or bfloat16."""
    return dtype.itemsize == 2 and is_float(dtype)


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the largest value of an integer dtype."""
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


def finfo(dtype: np.dtype[Any]) -> Any:
    """What NumPy's `finfo` says of a float dtype, for bfloat16 what that of `ml_dtypes` says."""
    if dtype.kind != "V":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)


def wrapped(value: int, dtype: np.dtype[Any]) -> int:
    """An integer of any size as an integer dtype has it: modulo two to the number of its bits."""
    least, most = limits(dtype)
    return (value - least) % (most - least + 1) + least


# -- results ---------------------------------------------------------------------------------------


def promote(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a result of two arrays, as NumPy 2 has it."""
    if first is second:
        return first
    if first.kind == "V" or second.kind == "V":
        return _beside_bfloat16(first if second.kind == "V" else second, _bfloat16())
    return as_dtype(np.promote_types(first, second))


def _beside_bfloat16(other: np.dtype[Any], bfloat16: np.dtype[Any]) -> np.dtype[Any]:
    """The narrowest float to which both cast safely."""
    fitting = (dtype for dtype in (bfloat16, FLOAT32, FLOAT64) if np.can_cast(other, dtype))
    return next(fitting)


def promote_weak(dtype: np.dtype[Any], scalar: bool | int | float) -> np.dtype[Any]:
    """The dtype of a result of an array and a weak Python scalar."""
    weak = _WEAK[type(scalar)]
    return dtype if _RANK[weak.kind] <= _RANK[kind(dtype)] else weak


def weak_kind(value: Any) -> int | None:
    """The highest kind among the Python numbers of a nested list: 0 for bool, 1 for int, 2 for
    float, 3 for complex; None if it holds anything else.
    """
    highest, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack.extend(item)
            continue
        rank = _WEAK_KINDS.get(type(item))
        if rank is None:
            return None
        highest = max(highest, rank)
    return highest


def takes_weak(dtype: np.dtype[Any], rank: int) -> bool:
    """Whether Python numbers of that kind, as `weak_kind` has it, stand for elements of a dtype."""
    return rank <= _RANK[kind(dtype)]


def weak_dtype(scalar: bool | int | float) -> np.dtype[Any]:
    """The dtype of a Python scalar on its own."""
    return _WEAK[type(scalar)]


def fits(scalar: bool | int | float, dtype: np.dtype[Any]) -> bool:
    """Whether a Python scalar may stand for an element of a dtype: its kind is not higher and, as
    an integer, it is in range.
    """
    if promote_weak(dtype, scalar) is not dtype:
        return False
    if not is_integer(dtype):
        return True
    least, most = limits(dtype)
    return least <= scalar <= most


def float_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a real function of this dtype is computed, as in NumPy: float16 for bool
    and 8-bit integers, float32 for 16-bit ones, float64 for wider ones.
    """
    return dtype if is_float(dtype) else _FLOAT_OF[dtype.itemsize]


def mean_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of means: float64 for bool and integers, else the dtype itself."""
    return dtype if is_float(dtype) else FLOAT64


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of sums and products: int64 for bool and signed integers, uint64 for unsigned ones,
    else the dtype itself.
    """
    return {"b": INT64, "i": INT64, "u": UINT64}.get(kind(dtype), dtype)


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a sum of that dtype is carried: float32 for 16-bit floats, else itself."""
    return FLOAT32 if is_half(dtype) else dtype


def widened(array: Any) -> Any:
    """An array in the dtype in which sums of it are carried: 16-bit floats as float32."""
    return array.astype(accumulator(array.dtype), copy=False)


# -- conversion ------------------------------------------------------------------------------------

# Floats by what they can hold: each has the range of those before it.
_FLOAT_RANGE = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}


def widens(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether the whole range of `source` fits `target`: no value overflows, underflows, wraps
    around or loses its sign, though it may be rounded.
    """
    from_kind, to_kind = kind(source), kind(target)
    if from_kind == "b" or source is target:
        return True
    if from_kind == "f":
        return to_kind == "f" and _FLOAT_RANGE[source.name] <= _FLOAT_RANGE[target.name]
    if to_kind == "f":
        return target is not FLOAT16 or limits(source)[1] <= float(np.finfo(FLOAT16).max)
    if to_kind == "b":
        return False
    (low, high), (least, most) = limits(source), limits(target)
    return least <= low and high <= most


def convert(value: Any, dtype: np.dtype[Any]) -> Any:
    """An array as another dtype; the meaning of `cast` everywhere.

    Integers wrap around among themselves and round to nearest even as floats. Floats truncate
    towards zero and saturate as integers, NaN becomes 0: NumPy leaves these cases to the processor.
    Anything but zero is true. float64 and integers reach bfloat16 by way of float32, as in
    `ml_dtypes`.
    """
    source = np.asarray(value)
    if dtype == BOOL:
        return source != 0
    if is_integer(dtype) and is_float(source.dtype):
        return _to_integer(source.astype(FLOAT64), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.kind == "V":
            source = source.astype(FLOAT32)
        return source.astype(dtype)


def _to_integer(value: Any, dtype: np.dtype[Any]) -> Any:
    least, most = limits(dtype)
    above, below = value >= most + 1.0, value < least
    inside = np.where(above | below | np.isnan(value), 0.0, value)
    result = np.where(below, dtype.type(least), inside.astype(dtype))
    return np.where(above, dtype.type(most), result)
