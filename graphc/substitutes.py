"""What do `np.array` and `np.arange` do while a function is traced?

NumPy offers most of its functions to an expression among their arguments (`graphc.protocols`), but
not those that make arrays: `np.array([[c, -s], [s, c]])` asks each element for a number, and
`np.arange(x.size)` asks the extent for one. While `gx.jit` traces, these names of the module NumPy
stand for functions that build the graph if an expression or an extent is among the arguments of the
thread that traces, and that are NumPy's own for everybody else and for all other arguments.

A trace remembers which extents were used so. If it then fails, it begins again with their numbers,
and NumPy makes the array: one that is assigned to, say, which an expression cannot be.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np

from graphc import callers, dtypes, origin, tracing
from graphc.dims import Dim
from graphc.node import Node
from graphc.ops.operands import as_node, has_expression
from graphc.protocols import named_in_errors
from graphc.tensor import SURFACE

_CONVERSIONS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
_OF_RANK_1 = ("ascontiguousarray", "asfortranarray")  # they make a number an array of one element
# Those that make arrays, and one that does not look at all of its arguments.
_CREATIONS = (
    "arange",
    "empty",
    "eye",
    "full",
    "geomspace",
    "identity",
    "indices",
    "linspace",
    "logspace",
    "ones",
    "take",
    "tri",
    "zeros",
)
# Of a list these make an array themselves, before anything offers it to an expression.
_OF_LISTS = (
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "average",
    "cumprod",
    "cumsum",
    "diff",
    "dot",
    "linalg.norm",
    "max",
    "mean",
    "median",
    "min",
    "prod",
    "sort",
    "std",
    "sum",
    "var",
)
_active = contextvars.ContextVar("substitutes", default=False)
_lock = threading.Lock()
_originals: dict[str, Any] = {}
_users = 0


@contextlib.contextmanager
def substituted() -> Iterator[None]:
    """Within, the functions of NumPy that make arrays know expressions, in this context alone."""
    _install()
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)
        _restore()


def _install() -> None:
    global _users
    with _lock:
        _users += 1
        if _users > 1:
            return
        for name in _CONVERSIONS:
            convert = _converted_to_a_line if name in _OF_RANK_1 else _converted
            _replace(name, functools.partial(_constantly, convert))
        for name in _CREATIONS:
            _replace(name, lambda original: functools.partial(_created, original.__name__))
        for name in _OF_LISTS:
            _replace(name, lambda original: functools.partial(_of_list, original))


def _restore() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        for name, original in _originals.items():
            module, _, own = name.rpartition(".")
            setattr(_home(module), own, original)
        _originals.clear()


def _home(module: str) -> Any:
    return getattr(np, module) if module else np


def _replace(name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
    module, _, own = name.rpartition(".")
    home = _home(module)
    _originals[name] = original = getattr(home, own)
    setattr(home, own, _substitute(original, make(original)))


def _substitute(original: Callable[..., Any], build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def function(*args: Any, **named: Any) -> Any:
        frame = sys._getframe(1)
        # graphc's own code, and NumPy's, converts what it means to.
        if not _active.get() or not origin.is_user(frame.f_globals.get("__name__", "")):
            return original(*args, **named)
        given = (*args, *named.values())
        if not has_expression(given) or _draws(frame):
            return original(*args, **named)
        tracing.note_generated(_extents(given))
        with named_in_errors(f"np.{original.__name__}"):
            return build(*args, **named)

    return function


def _draws(frame: FrameType) -> bool:
    """Whether a frame calls a generator of random numbers, whose C code is asking: what it would
    draw once, while the function is traced, would be the same in every call.
    """
    function = callers.meant(callers.called(frame), frame)
    return callers.home(function).startswith("numpy.random")


def _extents(value: Any) -> list[Dim]:
    if isinstance(value, (list, tuple)):
        return [extent for item in value for extent in _extents(item)]
    return [value] if isinstance(value, Dim) else []


def _converted(
    object: Any,  # noqa: A002 -- NumPy's name
    dtype: Any = None,
    *,
    copy: bool | None = None,
    order: str | None = None,
    subok: bool = False,
    ndmin: int = 0,
    like: Any = None,
) -> Node:
    """An expression, or a nest of lists of them, as one expression: an expression has neither an
    order in memory nor a need of copies. Numbers count with the dtype that an array of them has.
    """
    node = as_node(object)
    if dtype is not None:
        node = SURFACE["cast"](node, dtypes.as_dtype(dtype))
    return SURFACE["reshape"](node, (1,) * (ndmin - node.ndim) + node.shape) if ndmin else node


_converted_to_a_line = functools.partial(_converted, ndmin=1)


def _constantly(value: Any, _: Any) -> Any:
    return value


def _of_list(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """The function of NumPy, which offers its argument to an expression, but not to a list's."""
    if args and isinstance(args[0], (list, tuple)):
        args = (as_node(args[0]), *args[1:])
    return original(*args, **named)


def _created(name: str, *args: Any, order: str = "C", device: Any = None, **named: Any) -> Any:
    """The function of the surface; the order in memory means nothing to a graph."""
    if device is not None:
        named["device"] = device
    return SURFACE[name](*args, **named)
