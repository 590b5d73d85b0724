"""Why has an expression no value here, and what can be written instead?

Python asks for values in few ways: `if` for a truth value, `float` and `math` for a number, `range`
and an index for an integer, `np.asarray` for an array. Each has an answer of its own, and the
message names the line that asked, which is the one to change.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from graphc import callers, tracing
from graphc.errors import GraphAttributeError, GraphTypeError
from graphc.origin import location, user_frame, user_instruction

_NUMBER = "Functions of math have equals here, gx.sin for math.sin."
_ADVICE = {
    "truth value": "Use gx.where(condition, a, b) for a choice by element, gx.cond between two "
    "computations.",
    "float value": _NUMBER,
    "int value": _NUMBER,
    "complex value": _NUMBER,
    "integer value": "range, shapes, axes and list indices need numbers; gx.fori_loop and gx.scan "
    "loop, gx.take reads at computed positions.",
    "array value": "Call functions of graphc or NumPy on the expression itself; gx.stack makes one "
    "of several.",
}
# What to do where an array of NumPy is asked for an item, by the instruction that asks.
_ITEM_ADVICE = {
    "STORE_SUBSCR": "An array of NumPy takes no expression: make the array an expression, "
    "out = gx.zeros(shape),\nand then out = out.at[key].set(value); or collect the parts in a list "
    "for np.stack.",
    "BINARY_SUBSCR": "An array of NumPy is read at computed positions by "
    "gx.take(array, positions, axis=0).",
}


def refuse(node: Any, what: str) -> NoReturn:
    """Raise the `GraphTypeError` for Python asking for the `what` of an expression."""
    _note_extents(node)
    built, asked = location(node.origin), location(user_frame(2))
    lines = [
        f"the {what} of an expression is not known while the graph is built",
        f"expression: {node.op.name}, {node.type!r}" + (f", built at {built}" if built else ""),
    ]
    frame = callers.user_frame(2)
    caller = callers.called(frame)
    if caller or (asked and asked != built):
        by = f" by {caller}" if caller else ""
        lines.append(f"asked for{by} at {asked}" if asked else f"asked for{by}")
    lines.append(
        _ITEM_ADVICE.get(user_instruction(2))
        or (what == "array value" and equal_of(caller, callers.meant(caller, frame)))
        or _ADVICE[what]
    )
    lines.append(_static_advice(node) or "Use gx.evaluate or gx.compile to get numbers.")
    raise GraphTypeError("\n".join(lines))


# What graphc has for functions of NumPy that take the values out of their arguments.
_CONVERSIONS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "bmat")


def equal_of(caller: str, function: Any) -> str:
    """The form that graphc has for what a function of NumPy does, as advice; empty if none."""
    import graphc
    from graphc.protocols import find

    name = caller.rpartition(".")[2]
    if isinstance(function, type) and issubclass(function, np.generic):
        return f"An expression of another dtype is x.astype({np.dtype(function).name!r})."
    owner = callers.home(function)
    if not owner.startswith("numpy"):
        return ""
    if owner.startswith("numpy.random"):
        near = name if name in vars(graphc.random) else "normal"
        return f"A graph draws with gx.random.{near}(key, ...), where key = gx.random.key(0)."
    if name in _CONVERSIONS:
        return "An expression is an array already; gx.stack makes one of several."
    ours = find(name)
    if ours is None:
        return ""
    return f"gx.{ours.__name__} takes expressions; gx.stack makes one of several."


def refuse_change() -> NoReturn:
    """Raise the `GraphTypeError` for `x[key] = value`, or a function that does it."""
    caller = callers.called(callers.user_frame(2))
    shown = f"{caller}(x)" if caller else "x[key] = value"
    raise GraphTypeError(
        f"an expression cannot be changed in place: {shown}\n"
        + _CHANGES.get(caller.rpartition(".")[2], _CHANGE)
    )


_CHANGE = "Make a new one: x = x.at[key].set(value), or gx.where(mask, value, x)."
_CHANGES = {"shuffle": "Make a new one: x = gx.random.permutation(key, x)."}

_NO_MEMORY = "An expression has no memory: evaluate first, with gx.evaluate or gx.compile."
# Attributes of an array of NumPy that say something about its memory or change it.
_ATTRIBUTES = {
    **dict.fromkeys(("__dlpack__", "__dlpack_device__", "ctypes", "data", "flags"), _NO_MEMORY),
    **dict.fromkeys(("base", "getfield", "strides", "tobytes", "tofile", "dump"), _NO_MEMORY),
    "byteswap": _NO_MEMORY,
    "dumps": "A graph is written into a file by gx.save.",
    "flat": "The elements in C order are x.ravel().",
    "partition": "Make a new one: x = np.partition(x, kth).",
    "resize": "Make a new one: x = np.resize(x, shape).",
    "setfield": _CHANGE,
    "setflags": _NO_MEMORY,
    "view": "The same values in another dtype are x.astype(dtype).",
}


def refuse_attribute(node: Any, name: str) -> NoReturn:
    """Raise the `AttributeError` for an attribute that an expression does not have."""
    advice = _ATTRIBUTES.get(name)
    if advice is None:
        kind = type(node).__name__
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=node)
    caller = callers.called(callers.user_frame(2))
    asked = f" (asked for by {caller})" if caller else ""
    raise GraphAttributeError(f"an expression has no attribute {name!r}{asked}\n{advice}")


def _note_extents(node: Any) -> None:
    """If the value follows from extents alone, their numbers are all that is missing."""
    from graphc.node import topological

    if tracing.current() is None:
        return
    behind = topological([getattr(node, "node", node)])
    leaves = [n for n in behind if not n.args]
    if all(n.op.name in ("extent", "constant") for n in leaves):
        for leaf in leaves:
            if leaf.op.name == "extent":
                tracing.want_number(leaf.attrs["extent"])


def _static_advice(node: Any) -> str:
    """For a function that is traced: on which of its arguments the expression depends."""
    from graphc.node import topological

    trace = tracing.current()
    if trace is None:
        return ""
    # A weak scalar stands for a node.
    behind = topological([getattr(node, "node", node)])
    traced = [n for n in behind if n in trace.labels]
    names = list(dict.fromkeys(trace.labels[n] for n in traced))
    if not names:
        return ""
    listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    depends = f"It depends on {listed}, traced by gx.jit of {trace.title}"
    if any(n.shape for n in traced):
        return f"{depends}."
    first = names[0].partition("[")[0].partition(".")[0]
    return (
        f"{depends}; for an argument that takes few values:\n"
        f"make it static, gx.jit(static_argnames={first!r})."
    )
