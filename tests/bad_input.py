"""Which nonsense is given to public functions and to compiled Functions, at random?

Arguments of wrong dtypes, ranks, extents, counts, kinds: for the surface, every name in
`tensor.SURFACE` with arguments drawn from a bag of nodes, arrays, numbers, strings, containers and
odd objects; for a Function, arrays that are nearly right. What may happen: a result, or one of
`ALLOWED` in at most eight lines. Nothing else may: no crash, no hang, no other error.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from programs import Program, Source

import graphc as gx
from graphc.evaluator import bind_extents, fitting
from graphc.node import Node
from graphc.tensor import SURFACE
from tests.ops.samples import ALL

ALLOWED = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError)  # GraphError is one
LINES = 8
SHAPES: tuple[Any, ...] = (
    *((), (3,), (0,), (2, 3), ("n",), ("n", 3), (2, 1, 4), (3, 3), (1,) * 7),
)


class Odd:
    """An object that is no array, and whose shape is a lie."""

    shape = (2, "three")
    dtype = "float99"

    def __len__(self) -> int:
        return 3


def _node(s: Source) -> Any:
    shape = SHAPES[s.integer(0, len(SHAPES) - 1)]
    return gx.symbol(f"x{s.integer(0, 1)}", shape, ALL[s.integer(0, len(ALL) - 1)])


def _array(s: Source) -> Any:
    shape = tuple(s.integer(0, 3) for _ in range(s.integer(0, 3)))
    return np.ones(shape, ALL[s.integer(0, len(ALL) - 1)])


BAG: tuple[Callable[[Source], Any], ...] = (
    _node,
    _node,
    _node,
    _array,
    lambda s: s.integer(-3, 3),
    lambda s: (0, 1, -1, 2, 3)[s.integer(0, 4)],
    lambda s: (2**31, -(2**63), 2**63, 2**64, 10**40)[s.integer(0, 4)],
    lambda s: (0.5, float("nan"), float("inf"), -0.0, 1e400)[s.integer(0, 4)],
    lambda s: ("axis", "", "float64", "int3", "add", "ij", "n", "\0")[s.integer(0, 7)],
    lambda s: (None, True, False, Ellipsis, NotImplemented, slice(None), object)[s.integer(0, 6)],
    lambda s: (b"x", 1j, {}, set(), Odd(), object(), range(3), len)[s.integer(0, 7)],
    lambda s: [BAG[s.integer(0, 7)](s) for _ in range(s.integer(0, 3))],
    lambda s: tuple(s.integer(-2, 4) for _ in range(s.integer(0, 4))),
    lambda s: {"a": _node(s)},
    lambda s: lambda *given: given[0],
    lambda s: np.array([["a", "b"]]),
    lambda s: np.array([object()]),
    lambda s: np.datetime64("2020-01-01"),
    lambda s: np.ma.masked_array([1, 2], [0, 1]),
    lambda s: gx.modf(gx.symbol("y", (2,)))[0].args[0],
)


def surface_call(s: Source) -> tuple[str, Callable[[], Any]]:
    """A public function and a call of it with something from the bag; the text says which."""
    names = sorted(SURFACE)
    name = names[s.integer(0, len(names) - 1)]
    first, others, named = _parameters(name)
    usual = s.integer(0, 9) > 0
    count = s.integer(max(first - 1, 0), first + len(others)) if usual else s.integer(0, 5)
    args = [_argument(s) for _ in range(count)]
    left = [*others[max(count - first, 0) :], *named, *(() if s.integer(0, 9) else ("axis", "no"))]
    keywords = {
        left[s.integer(0, len(left) - 1)]: _argument(s)
        for _ in range(s.integer(0, 4) // 2 if left else 0)
    }
    return f"{name}{_told(args)} {_told(keywords)}", lambda: SURFACE[name](*args, **keywords)


def _argument(s: Source) -> Any:
    return _node(s) if s.integer(0, 2) == 0 else BAG[s.integer(0, len(BAG) - 1)](s)


@functools.cache
def _parameters(name: str) -> tuple[int, list[str], list[str]]:
    """How many arguments a function needs, and the names of the others: by position or name, by
    name alone.
    """
    first, others, named = 0, [], []
    for parameter in inspect.signature(SURFACE[name]).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            named.append(parameter.name)
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            first += parameter.kind is parameter.VAR_POSITIONAL
        elif parameter.default is parameter.empty:
            first += 1
        else:
            others.append(parameter.name)
    return first, others, named


def _told(value: Any) -> str:
    if isinstance(value, Node):
        return f"<{value.type}>"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_told, value)) + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_told(v)}" for k, v in value.items()) + "}"
    return repr(value)[:60]


# -- arguments of Functions ------------------------------------------------------------------------


def spoilt(made: Program, arrays: Sequence[Any], s: Source) -> tuple[list[Any], dict[str, Any]]:
    """Arguments like `arrays`, some of them wrong: another dtype, rank, extent, byte order, kind,
    or too many, too few, or by a wrong name.
    """
    given = list(arrays)
    keywords: dict[str, Any] = {}
    for _ in range(s.integer(1, 2)):
        kind = s.integer(0, 13)
        at = s.integer(0, len(given) - 1) if given else 0
        if kind == 0 or not given:
            given.append(BAG[s.integer(0, len(BAG) - 1)](s))
        elif kind == 1:
            given.pop(at)
        elif kind == 2:
            keywords[("out", "x0", "nothing")[s.integer(0, 2)]] = BAG[s.integer(0, len(BAG) - 1)](s)
        else:
            given[at] = _spoilt(given[at], kind, s)
    return given, keywords


def _spoilt(array: Any, kind: int, s: Source) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufV":
        return array
    with np.errstate(all="ignore"):
        if kind == 3:
            return array.astype(ALL[s.integer(0, len(ALL) - 1)])
        if kind == 4:
            return array[..., None]
        if kind == 5:
            return array.reshape(-1)
        if kind == 6 and array.ndim:
            return array[:-1] if s.integer(0, 1) else np.concatenate([array, array])
        if kind == 7:
            return array.astype(array.dtype.newbyteorder())
        if kind == 8:
            return array.tolist()
        if kind == 9:
            return BAG[s.integer(0, len(BAG) - 1)](s)
        if kind == 10 and array.size:
            unaligned = np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1)
            return unaligned.reshape(array.shape)
        if kind == 11:
            return np.broadcast_to(array.reshape(-1)[0], array.shape) if array.size else array
        if kind == 12:
            array = array.copy()
            array.flags.writeable = False
            return array
    return array.astype(object) if s.integer(0, 1) else array.astype("complex128")


def taken(made: Program, given: Sequence[Any], keywords: dict[str, Any]) -> list[Any] | None:
    """The arrays that these arguments stand for; None if the evaluator's own checks refuse them."""
    if keywords or len(given) != len(made.inputs):
        return None
    sizes: dict[str, int] = {}
    found = []
    try:
        for symbol, value in zip(made.inputs, given, strict=True):
            array = fitting(value, symbol.type, symbol.attrs["name"])
            bind_extents(symbol.type, array.shape, sizes, symbol.attrs["name"])
            found.append(array)
    except ALLOWED:
        return None
    return found


def check_refusal(error: BaseException, what: str) -> None:
    """Assert that an error is one of those allowed, and not too long."""
    assert isinstance(error, ALLOWED), f"{what}: {type(error).__name__}: {error}"
    lines = str(error).splitlines()
    assert len(lines) <= LINES, f"{what}: {len(lines)} lines\n{error}"


__all__ = ["ALLOWED", "check_refusal", "spoilt", "surface_call", "taken"]
