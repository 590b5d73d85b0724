"""Which functions of the standard act element by element? A table, and the few that say more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import dtypes
from graphc.array_api.array_object import Array, _fits
from graphc.array_api.evaluation import compute

# Name in the standard -> name on the surface, and the kinds of dtypes that it is defined for.
UNARY = {
    "abs": ("absolute", "iufc"),
    "acos": ("arccos", "fc"),
    "acosh": ("arccosh", "fc"),
    "asin": ("arcsin", "fc"),
    "asinh": ("arcsinh", "fc"),
    "atan": ("arctan", "fc"),
    "atanh": ("arctanh", "fc"),
    "bitwise_invert": ("invert", "biu"),
    "ceil": ("ceil", "iuf"),
    "conj": ("conjugate", "iufc"),
    "cos": ("cos", "fc"),
    "cosh": ("cosh", "fc"),
    "exp": ("exp", "fc"),
    "expm1": ("expm1", "fc"),
    "floor": ("floor", "iuf"),
    "imag": ("imag", "c"),
    "isfinite": ("isfinite", "iufc"),
    "isinf": ("isinf", "iufc"),
    "isnan": ("isnan", "iufc"),
    "log": ("log", "fc"),
    "log10": ("log10", "fc"),
    "log1p": ("log1p", "fc"),
    "log2": ("log2", "fc"),
    "logical_not": ("logical_not", "b"),
    "negative": ("negative", "iufc"),
    "positive": ("positive", "iufc"),
    "real": ("real", "iufc"),
    "reciprocal": ("reciprocal", "fc"),
    "round": ("round", "iufc"),
    "sign": ("sign", "iufc"),
    "signbit": ("signbit", "f"),
    "sin": ("sin", "fc"),
    "sinh": ("sinh", "fc"),
    "sqrt": ("sqrt", "fc"),
    "square": ("square", "iufc"),
    "tan": ("tan", "fc"),
    "tanh": ("tanh", "fc"),
    "trunc": ("trunc", "iuf"),
}
BINARY = {
    "add": ("add", "iufc"),
    "atan2": ("arctan2", "f"),
    "bitwise_and": ("bitwise_and", "biu"),
    "bitwise_left_shift": ("left_shift", "iu"),
    "bitwise_or": ("bitwise_or", "biu"),
    "bitwise_right_shift": ("right_shift", "iu"),
    "bitwise_xor": ("bitwise_xor", "biu"),
    "copysign": ("copysign", "f"),
    "divide": ("divide", "fc"),
    "equal": ("equal", "biufc"),
    "floor_divide": ("floor_divide", "iuf"),
    "greater": ("greater", "iuf"),
    "greater_equal": ("greater_equal", "iuf"),
    "hypot": ("hypot", "f"),
    "less": ("less", "iuf"),
    "less_equal": ("less_equal", "iuf"),
    "logaddexp": ("logaddexp", "f"),
    "logical_and": ("logical_and", "b"),
    "logical_or": ("logical_or", "b"),
    "logical_xor": ("logical_xor", "b"),
    "maximum": ("maximum", "iuf"),
    "minimum": ("minimum", "iuf"),
    "multiply": ("multiply", "iufc"),
    "nextafter": ("nextafter", "f"),
    "not_equal": ("not_equal", "biufc"),
    "pow": ("power", "iufc"),
    "remainder": ("remainder", "iuf"),
    "subtract": ("subtract", "iufc"),
}
_WHOLE_ALREADY = frozenset(("ceil", "floor", "round", "trunc"))


def require_kinds(name: str, kinds: str, *arrays: Any) -> None:
    """TypeError unless every argument is an array of one of these kinds, or a number beside one."""
    known = [array for array in arrays if isinstance(array, Array)]
    if not known:
        raise TypeError(f"{name} takes arrays, got {', '.join(type(a).__name__ for a in arrays)}")
    for array in arrays:
        if isinstance(array, Array):
            if dtypes.kind(array.dtype) not in kinds:
                raise TypeError(f"{name} is not defined for dtype {array.dtype.name}")
        elif not any(_fits(array, other.dtype) for other in known):
            raise TypeError(
                f"{name}: a {type(array).__name__} does not go with {known[0].dtype.name}"
            )


def _unary(name: str, surface: str, kinds: str) -> Callable[[Array], Array]:
    def function(x: Array, /) -> Array:
        require_kinds(name, kinds, x)
        if name in _WHOLE_ALREADY and dtypes.kind(x.dtype) in "iu":
            return Array._of(x._value)
        return compute(surface, x)

    return _named(function, name, f"The {surface} of every element.")


def _binary(name: str, surface: str, kinds: str) -> Callable[[Any, Any], Array]:
    def function(x1: Any, x2: Any, /) -> Array:
        require_kinds(name, kinds, x1, x2)
        return compute(surface, x1, x2)

    return _named(function, name, f"The {surface} of every pair of elements.")


def _named(function: Any, name: str, text: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function


FUNCTIONS: dict[str, Callable[..., Array]] = {
    **{name: _unary(name, *row) for name, row in UNARY.items()},
    **{name: _binary(name, *row) for name, row in BINARY.items()},
}


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Every element moved into [min, max]; None is no bound. The dtype is that of x."""
    require_kinds("clip", "iuf", x)
    result = x
    for name, bound in (("maximum", min), ("minimum", max)):
        if bound is not None:
            result = compute(name, result, _bound(bound, x))
    return Array._of(result._value.astype(x.dtype, copy=False))


def _bound(bound: Any, x: Array) -> Any:
    if isinstance(bound, Array):
        fits = dtypes.is_float(bound.dtype) == dtypes.is_float(x.dtype) and bound.dtype.kind != "b"
        got = bound.dtype.name
    else:
        fits, got = _fits(bound, x.dtype), f"a {type(bound).__name__}"
    if not fits:
        raise TypeError(f"clip: {got} does not bound {x.dtype.name}")
    return bound


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """x1 where the condition (bool) holds, else x2."""
    require_kinds("where", "b", condition)
    require_kinds("where", "biufc", x1, x2)
    return compute("where", condition, x1, x2)


__all__ = ["FUNCTIONS", "clip", "require_kinds", "where"]
